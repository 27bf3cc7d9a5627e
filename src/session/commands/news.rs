//! The open mailbox as this session was told of it, and what it is told of others' changes (RFC 3501 section 7).

use bytes::BytesMut;

use super::{fetch, modseq};
use crate::imap::{
    command::{Flag, NotifySelected, SequenceSet},
    set::{self, MessageSet, Ranges},
    write::{self, Code, FetchLine, Status},
};
use crate::maildir::{Flags, Meta, Mode, Update, View};
use crate::session::{Ending, login::Dialog};

/// Which news of the open mailbox the peer wants.
#[derive(Clone, Copy)]
pub(super) enum Wish<'a> {
    /// All, as without NOTIFY.
    AsEver,
    /// None.
    Nothing,
    /// What NOTIFY asked for.
    Asked(&'a NotifySelected),
}

impl<'a> Wish<'a> {
    /// By what NOTIFY said of the open mailbox; outer none: nothing yet.
    pub(super) fn of(asked: Option<Option<&'a NotifySelected>>) -> Self {
        match asked {
            None => Self::AsEver,
            Some(Some(selected)) if selected.messages => Self::Asked(selected),
            Some(_) => Self::Nothing,
        }
    }
}

/// The open mailbox.
pub(super) struct Selected {
    pub(super) view: View,
    /// UIDs that `$` means: what the last search with SAVE found (RFC 5182).
    pub(super) saved: Ranges,
    /// How many keywords FLAGS has named.
    keywords: usize,
    /// HIGHESTMODSEQ was told lower than the mod-sequences of messages, because removals had to wait, or changes of
    /// flags that NOTIFY did not ask for.
    behind: bool,
}

impl Selected {
    /// Nothing has been told yet.
    pub(super) fn new(view: View) -> Self {
        Self { view, saved: Ranges::default(), keywords: usize::MAX, behind: false }
    }

    /// The messages a set means, by number; none if it names a message number that does not exist.
    pub(super) fn numbers(&self, set: &MessageSet, uid: bool) -> Option<Ranges> {
        let (count, uid_of) = (self.view.len(), |number| self.view.uid(number).unwrap_or(0));
        match set {
            MessageSet::Saved => Some(set::known_uids_to_numbers(&self.saved, count, uid_of)),
            MessageSet::Named(set) if uid => Some(set::uids_to_numbers(set, count, uid_of)),
            MessageSet::Named(set) => set::numbers(set, count).ok(),
        }
    }

    /// FLAGS and PERMANENTFLAGS (RFC 3501 sections 7.2.6 and 7.1), if keywords came since they were told.
    pub(super) fn tell_flags(&mut self, out: &mut BytesMut) {
        let keywords = self.view.keywords();
        if self.keywords == keywords.len() {
            return;
        }
        self.keywords = keywords.len();
        let system = Flags::EVERY.names().map(|name| -> &str { name });
        let names: Vec<&str> = system.chain(keywords.iter().map(|keyword| &**keyword)).collect();
        let read_only = self.view.mode() == Mode::ReadOnly;
        write::flags(out, names.iter().copied());
        let kept: &[&str] = if read_only { &[] } else { &names };
        let kept = Code::PermanentFlags { flags: kept, new_keywords: !read_only };
        write::untagged(out, Status::Ok, Some(&kept), "Flags that are kept");
    }

    /// Writes what changed in the mailbox since the peer was last told. `own`: UIDs of messages that the peer put here
    /// itself, of which NOTIFY tells no more than that they came. Whether there was anything to tell.
    pub(super) async fn tell_news(
        &mut self,
        dialog: &mut Dialog,
        may_expunge: bool,
        wish: Wish<'_>,
        own: &[u32],
    ) -> Result<bool, Ending> {
        if matches!(wish, Wish::Nothing) {
            return Ok(false);
        }
        let before = self.view.uids().last().copied().unwrap_or(0);
        let rev2 = dialog.enabled.rev2;
        if rev2 {
            self.view.hide_recent();
        }
        self.view.tell_flags(!matches!(wish, Wish::Asked(asked) if !asked.flags));
        let updates = self.view.sync(may_expunge);
        if updates.is_empty() {
            return Ok(false);
        }
        self.tell_flags(&mut dialog.link.wire.out);
        let enabled = dialog.enabled;
        let removed: Ranges = self.view.take_removed().into_iter().collect();
        if enabled.qresync {
            write::vanished(&mut dialog.link.wire.out, false, &removed.iter().collect::<Vec<_>>());
        }
        for update in updates {
            let out = &mut dialog.link.wire.out;
            match update {
                Update::Exists(count) => write::exists(out, count),
                Update::Recent(_) if rev2 => {}
                Update::Recent(count) => write::recent(out, count),
                Update::Expunged(_) if enabled.qresync => {}
                Update::Expunged(number) => write::expunge(out, number),
                Update::Flags(number) => {
                    if let Some(meta) = self.view.message(number) {
                        let mut line = FetchLine::start(out, number);
                        // RFC 7162 section 3.2.4, RFC 9051 section 7.5.2, RFC 5465 section 5.1. Else without the UID: mbsync
                        // takes an unasked FETCH with one for a message it asked for.
                        if enabled.condstore || rev2 || matches!(wish, Wish::Asked(_)) {
                            line.uid(out, meta.uid);
                        }
                        line.flags(out, flag_names(&meta));
                        if enabled.condstore {
                            line.modseq(out, meta.modseq);
                        }
                        line.end(out);
                    }
                }
            }
            dialog.link.wire.push().await?;
        }
        if let Wish::Asked(asked) = wish
            && !asked.items.is_empty()
        {
            self.tell_messages(dialog, before, asked, own).await?;
        }
        Ok(true)
    }

    /// What NOTIFY wants to know of each message that came (RFC 5465 section 5.2).
    async fn tell_messages(
        &mut self,
        dialog: &mut Dialog,
        before: u32,
        asked: &NotifySelected,
        own: &[u32],
    ) -> Result<(), Ending> {
        let first = self.view.uids().partition_point(|uid| *uid <= before);
        let set = others(self.view.uids().get(first..).unwrap_or_default(), own);
        let set = set.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let Ok(set) = set.parse::<SequenceSet>() else { return Ok(()) };
        // By UID, so each of them shows it (RFC 9051 section 7.5.2). One that is gone already is told to be, next.
        Box::pin(fetch::fetch(dialog, self, &MessageSet::Named(set), &asked.items, None, true)).await?;
        Ok(())
    }

    /// While removals or changes of flags have to wait, a program must not remember mod-sequences above theirs, or it
    /// would never hear of them should the connection break; once they are told, it may (RFC 7162 sections 3.2 and 6).
    /// To be called whenever mod-sequences may have been told.
    pub(super) fn tell_behind(&mut self, dialog: &mut Dialog) {
        let behind = self.view.holds_back();
        if dialog.enabled.condstore && (behind || self.behind) {
            modseq::tell_highest(dialog, &self.view);
        }
        self.behind = behind;
    }
}

/// The UIDs that are not among those that the peer put here itself. A COPY makes as many of both as the mailbox holds.
fn others(new: &[u32], own: &[u32]) -> Vec<u32> {
    let own: Ranges = own.iter().copied().collect();
    new.iter().copied().filter(|uid| !own.contains(*uid)).collect()
}

/// The open mailbox was deleted, or cannot be read any more: nothing could be answered truly from now on.
pub(super) fn mailbox_gone(dialog: &mut Dialog) -> Ending {
    let text = "The open mailbox is gone; connect again";
    write::untagged(&mut dialog.link.wire.out, Status::Bye, Some(&Code::NonExistent), text);
    Ending::Told("open mailbox is gone")
}

/// `\Seen`, `$Junk`, ..., `\Recent`.
pub(super) fn flag_names(meta: &Meta) -> impl Iterator<Item = &str> {
    let recent = meta.recent.then_some("\\Recent");
    let system = meta.flags.names().map(|name| -> &str { name });
    system.chain(meta.keywords.iter().map(|keyword| &**keyword)).chain(recent)
}

/// Splits what STORE or APPEND asks for into system flags and keywords; `\Recent` and flags nobody knows are dropped.
pub(super) fn split_flags(wanted: &[Flag<'static>]) -> (Flags, Vec<String>) {
    let mut flags = Flags::NONE;
    let mut keywords = Vec::new();
    for flag in wanted {
        let name = flag.to_string();
        match Flags::from_name(&name) {
            Some(flag) => flags = flags.union(flag),
            None if name.starts_with('\\') => {}
            None => keywords.push(name),
        }
    }
    (flags, keywords)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn messages_that_the_peer_put_here_itself_are_left_out_however_many() {
        assert_eq!(others(&[4, 5, 6, 9], &[9, 5]), [4, 6]);
        assert_eq!(others(&[4], &[]), [4]);
        let new: Vec<u32> = (1..=400_000).collect();
        let own: Vec<u32> = (1..=400_000).filter(|uid| uid % 2 == 0).collect();
        // Each held against each this takes minutes.
        let start = Instant::now();
        assert_eq!(others(&new, &own).len(), 200_000);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}
