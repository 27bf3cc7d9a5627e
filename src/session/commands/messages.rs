//! STORE, COPY, MOVE and EXPUNGE with their UID forms (RFC 3501 section 6.4, RFC 4315, RFC 6851, RFC 7162).

use super::{
    long::Long,
    news::{Selected, Wish, flag_names, split_flags},
    portion::{Portion, portion},
    reply::{Answer, Copied, Reply, refuse},
    turn::worked,
};
use crate::imap::{
    command::{Flag, StoreType},
    mailbox::MailboxName,
    set::MessageSet,
    write::{self, Code, FetchLine, Status},
};
use crate::maildir::{FlagOp, MailError, Mode, Stored};
use crate::session::login::Dialog;

/// What STORE is to do.
pub(super) struct Change<'a> {
    pub(super) kind: StoreType,
    pub(super) silent: bool,
    pub(super) unchanged_since: Option<u64>,
    pub(super) flags: &'a [Flag<'static>],
}

pub(super) async fn store(
    dialog: &mut Dialog,
    selected: &mut Selected,
    set: &MessageSet,
    change: &Change<'_>,
    uid: bool,
) -> Answer {
    let Some(chosen) = selected.numbers(set, uid) else { return Ok(Reply::bad("No such message number")) };
    let op = match change.kind {
        StoreType::Replace => FlagOp::Replace,
        StoreType::Add => FlagOp::Add,
        StoreType::Remove => FlagOp::Remove,
    };
    let (flags, keywords) = split_flags(change.flags);
    let keywords: Vec<&str> = keywords.iter().map(String::as_str).collect();
    let chosen: Vec<u32> = chosen.numbers().collect();
    let stored = selected.view.store_unchanged(&chosen, op, flags, &keywords, change.unchanged_since).await;
    let Stored { changed, refused } = match stored {
        Ok(stored) => stored,
        Err(error) => return Ok(refuse(dialog, &error)),
    };
    selected.tell_flags(&mut dialog.link.wire.out);
    let condstore = dialog.enabled.condstore;
    let (mut told, mut known) = (Vec::new(), 0);
    let mut left = chosen.as_slice();
    loop {
        let (plenty, out) = (dialog.link.wire.plenty(), &mut dialog.link.wire.out);
        let done = portion(&selected.view, left.iter().copied(), out, plenty, |out, number, meta| {
            known += 1;
            let left_alone = refused.binary_search(&number).is_ok();
            // What silence must not keep back is the new mod-sequence (RFC 7162 section 3.1.3).
            let modseq = condstore && (change.unchanged_since.is_some() || changed.binary_search(&number).is_ok());
            if change.silent && !left_alone && !modseq {
                return 0;
            }
            let mut line = FetchLine::start(out, number);
            if uid || condstore {
                line.uid(out, meta.uid);
            }
            // Why a message was left alone is seen by its flags.
            if !change.silent || left_alone {
                line.flags(out, flag_names(&meta));
                told.push(meta.clone());
            }
            if condstore {
                line.modseq(out, meta.modseq);
            }
            line.end(out);
            0
        });
        let Some(Portion { taken, work }) = done else { break };
        left = left.get(taken..).unwrap_or_default();
        told.drain(..).for_each(|meta| selected.view.told(&meta));
        dialog.link.wire.push().await?;
        worked(work).await;
    }
    let missing = known < chosen.len();
    // By UID, messages that are gone are passed over (RFC 3501 section 6.4.8); by number that cannot be silent.
    let reply = if missing && !uid { gone(dialog) } else { Reply::ok("STORE done") };
    if refused.is_empty() {
        return Ok(reply);
    }
    let named = refused.iter().filter_map(|number| if uid { selected.view.uid(*number) } else { Some(*number) });
    Ok(reply.with(Code::Modified(named.collect())))
}

/// EXPUNGE, or UID EXPUNGE with its set; the news name the messages.
pub(super) async fn expunge(dialog: &mut Dialog, selected: &mut Selected, set: Option<&MessageSet>) -> Answer {
    if selected.view.mode() == Mode::ReadOnly {
        return Ok(refuse(dialog, &MailError::ReadOnly));
    }
    let only: Option<Vec<u32>> = set.map(|set| {
        let numbers = selected.numbers(set, true).unwrap_or_default();
        numbers.numbers().filter_map(|number| selected.view.uid(number)).collect()
    });
    match selected.view.expunge(only.as_deref()).await {
        Ok(count) => removed(dialog, selected, count, Reply::ok("EXPUNGE done")).await,
        Err(error) => Ok(refuse(dialog, &error)),
    }
}

/// The answer of a command that removed messages: they are told first, so that the mod-sequence of their removal may be
/// told with it (RFC 7162 section 3.2.7, RFC 6851 section 4.4, RFC 8508 section 4.5).
pub(super) async fn removed(dialog: &mut Dialog, selected: &mut Selected, count: usize, reply: Reply) -> Answer {
    if count == 0 || !dialog.enabled.condstore {
        return Ok(reply);
    }
    selected.tell_news(dialog, true, Wish::AsEver, &[]).await?;
    Ok(reply.with(Code::HighestModseq(selected.view.told_modseq())))
}

pub(super) async fn copy(
    dialog: &mut Dialog,
    selected: &mut Selected,
    set: &MessageSet,
    mailbox: &MailboxName,
    uid: bool,
    tag: &str,
) -> Answer {
    let Some(chosen) = selected.numbers(set, uid) else { return Ok(Reply::bad("No such message number")) };
    let chosen: Vec<u32> = chosen.numbers().collect();
    let copied = selected.view.copy(&chosen, mailbox.as_str());
    match Long::new(dialog, tag, None).finish(dialog, copied).await? {
        Ok(copied) => Ok(Reply { copied: Copied::new(copied), ..Reply::ok("COPY done") }),
        Err(error) => Ok(refuse(dialog, &error)),
    }
}

/// MOVE tells where the messages went before the news tell that they left (RFC 6851 section 4.3).
pub(super) async fn r#move(
    dialog: &mut Dialog,
    selected: &mut Selected,
    set: &MessageSet,
    mailbox: &MailboxName,
    uid: bool,
    tag: &str,
) -> Answer {
    let Some(chosen) = selected.numbers(set, uid) else { return Ok(Reply::bad("No such message number")) };
    let chosen: Vec<u32> = chosen.numbers().collect();
    let moved = selected.view.move_to(&chosen, mailbox.as_str());
    match Long::new(dialog, tag, None).finish(dialog, moved).await? {
        Ok(copied) => {
            let count = copied.uids.len();
            if let Some(copied) = Copied::new(copied) {
                write::untagged(&mut dialog.link.wire.out, Status::Ok, Some(&copied.code()), "Moved");
            }
            removed(dialog, selected, count, Reply::ok("MOVE done")).await
        }
        Err(error) => Ok(refuse(dialog, &error)),
    }
}

/// Some of the messages asked for by number were removed by another session (RFC 2180 section 4.1, RFC 5530).
pub(super) fn gone(dialog: &Dialog) -> Reply {
    refuse(dialog, &MailError::Gone { uid: 0 })
}
