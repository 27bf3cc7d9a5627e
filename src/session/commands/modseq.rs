//! Mod-sequences as a session is told of them (RFC 7162): which commands switch them on, and what a program that was
//! here before missed meanwhile. Called by the commands.

use super::{
    news::{Selected, flag_names},
    portion::{Portion, portion},
    reply::Reply,
    turn::worked,
};
use crate::imap::{
    command::{Command, FetchItem, Resync, SearchKey},
    set::Ranges,
    write::{self, Code, FetchLine, Status},
};
use crate::maildir::{Meta, View};
use crate::session::{Ending, login::Dialog};

/// Messages looked at before others get their turn.
const WINDOW: usize = 4096;

/// Whether a command says that the program knows mod-sequences (RFC 7162 section 3.1, "CONDSTORE enabling commands").
/// ENABLE is one too, and sees to that itself.
pub(super) fn is_enabling(command: &Command) -> bool {
    let modseq = |key: &SearchKey| matches!(key, SearchKey::Modseq(_));
    match command {
        Command::Select { condstore, resync, .. } => *condstore || resync.is_some(),
        // CHANGEDSINCE puts MODSEQ among the items.
        Command::Fetch { items, .. } => items.contains(&FetchItem::Modseq),
        Command::Store { unchanged_since, .. } => unchanged_since.is_some(),
        Command::Search(search) => search.key.any(&modseq),
        Command::Sort(sort) => sort.search.key.any(&modseq),
        Command::Thread(thread) => thread.search.key.any(&modseq),
        _ => false,
    }
}

/// Switches mod-sequences on. The first time HIGHESTMODSEQ of the open mailbox is told, if one is open.
pub(super) fn enable(dialog: &mut Dialog, view: Option<&View>) {
    if std::mem::replace(&mut dialog.enabled.condstore, true) {
        return;
    }
    if let Some(view) = view {
        tell_highest(dialog, view);
    }
}

/// `* OK [HIGHESTMODSEQ n]`: what the program may remember.
pub(super) fn tell_highest(dialog: &mut Dialog, view: &View) {
    let code = Code::HighestModseq(view.told_modseq());
    write::untagged(&mut dialog.link.wire.out, Status::Ok, Some(&code), "Everything up to here was told");
}

/// Why a command has to wait for ENABLE QRESYNC (RFC 7162 section 3.2.3); none if it may go on.
pub(super) fn lacks_qresync(dialog: &Dialog, command: &Command) -> Option<Reply> {
    let needs = match command {
        Command::Select { resync, .. } => resync.is_some(),
        Command::Fetch { since, .. } => since.is_some_and(|since| since.vanished),
        _ => false,
    };
    (needs && !dialog.enabled.qresync).then(|| Reply::bad("Send ENABLE QRESYNC first"))
}

/// Tells what changed in the mailbox just opened since the program was last told (RFC 7162 section 3.2.5). With another
/// UIDVALIDITY than it knows, nothing: it sees that by itself.
pub(super) async fn catch_up(dialog: &mut Dialog, selected: &mut Selected, resync: &Resync) -> Result<(), Ending> {
    let view = &selected.view;
    if resync.uid_validity != view.uid_validity() {
        return Ok(());
    }
    // A mod-sequence that was never given out comes from a mailbox that was put back from a backup since: whatever the
    // program knows may be wrong.
    let since = if resync.modseq > view.told_modseq() { 0 } else { resync.modseq };
    let all = || Ranges::new(vec![(1, u32::MAX)]);
    let known = resync.known.clone().unwrap_or_else(all);
    let from = resync.matches.as_ref().map_or(0, |(numbers, uids)| matched(view, numbers, uids));
    let asked: Vec<(u32, u32)> =
        known.iter().filter(|(_, high)| *high > from).map(|(low, high)| (low.max(from + 1), high)).collect();
    let gone = view.vanished_since(since, &asked);
    write::vanished(&mut dialog.link.wire.out, true, &gone);
    let known_ones = (1..=view.len()).filter(|number| view.uid(*number).is_some_and(|uid| known.contains(uid)));
    let changed = changed_since(view, known_ones, since).await;
    let mut left = changed.as_slice();
    loop {
        dialog.link.may_go_on()?;
        let (plenty, out) = (dialog.link.wire.plenty(), &mut dialog.link.wire.out);
        let told = portion(&selected.view, left.iter().copied(), out, plenty, |out, number, meta| {
            full(out, number, &meta);
            0
        });
        let Some(Portion { taken, work }) = told else { break };
        left = left.get(taken..).unwrap_or_default();
        dialog.link.wire.push().await?;
        worked(work).await;
    }
    Ok(())
}

/// Which of the messages with these numbers changed after the mod-sequence `since`.
pub(super) async fn changed_since(view: &View, mut numbers: impl Iterator<Item = u32>, since: u64) -> Vec<u32> {
    let mut changed = Vec::new();
    loop {
        let window: Vec<u32> = numbers.by_ref().take(WINDOW).collect();
        if window.is_empty() {
            return changed;
        }
        changed.extend(view.changed_since(window.into_iter(), since));
        tokio::task::consume_budget().await;
    }
}

/// The highest UID that the program knows by its right number: of all below it, it knows which are gone.
fn matched(view: &View, numbers: &Ranges, uids: &Ranges) -> u32 {
    let pairs = numbers.numbers().take_while(|number| *number <= view.len()).zip(uids.numbers());
    pairs.filter(|(number, uid)| view.uid(*number) == Some(*uid)).last().map_or(0, |(_, uid)| uid)
}

/// `* n FETCH (UID u FLAGS (..) MODSEQ (m))`
fn full(out: &mut bytes::BytesMut, number: u32, meta: &Meta) {
    let mut line = FetchLine::start(out, number);
    line.uid(out, meta.uid);
    line.flags(out, flag_names(meta));
    line.modseq(out, meta.modseq);
    line.end(out);
}
