//! SEARCH and UID SEARCH (RFC 3501 section 6.4.4, RFC 4731, RFC 5182, RFC 9051 section 6.4.4): which messages fit, told
//! or saved. Keys are judged on what the index knows first; where that does not decide, messages are read, a batch at a
//! time. The keys stand in `plan`, the reading in `seek`; SORT and THREAD search by the same way.

mod plan;
mod seek;

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use super::{
    batch,
    header::Headers,
    long::Long,
    news::Selected,
    reply::{Answer, Reply, refuse},
};
use crate::imap::{
    command::{Returns, Search, SearchKey},
    set::Ranges,
    write::{EsearchLine, NumbersLine},
};
use crate::maildir::{Glance, MailError, View};
use crate::model::UnixTime;
use crate::session::{Ending, login::Dialog};
use plan::{Facts, Plan};
use seek::{Candidate, Queue, Room, Seek};

/// Messages looked at before others get their turn.
const WINDOW: usize = 2048;
/// The same where one message is enough.
const SMALL_WINDOW: usize = 64;
/// Numbers, or ranges of them, that are written before they are pushed out.
const BATCH: usize = 1000;

/// Which of the messages that fit are needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// All of them.
    All,
    /// The first; others may be given beside it.
    First,
    /// The last; others may be given beside it.
    Last,
}

impl Need {
    fn of(returns: Option<Returns>) -> Self {
        match returns {
            Some(Returns { count: false, all: false, min: true, max: false, .. }) => Self::First,
            Some(Returns { count: false, all: false, min: false, max: true, .. }) => Self::Last,
            _ => Self::All,
        }
    }
}

pub(super) async fn search(dialog: &mut Dialog, selected: &mut Selected, search: &Search, tag: &str) -> Answer {
    if search.charset && dialog.enabled.utf8 {
        return Ok(Reply::bad("No CHARSET after ENABLE UTF8=ACCEPT: texts are in UTF-8 then"));
    }
    let mut long = Long::new(dialog, tag, Some(u64::from(selected.view.len())));
    let found = match find(dialog, selected, search, Need::of(search.returns), &mut long).await? {
        Ok(found) => found,
        Err(error) => return Ok(failed(dialog, selected, search, &error)),
    };
    let everything = Returns { all: true, ..Returns::default() };
    match search.returns.or(dialog.enabled.rev2.then_some(everything)) {
        Some(returns) => {
            tell_extended(dialog, &selected.view, search, tag, returns, &found).await?;
            save(selected, returns, &found);
        }
        None => {
            tell_numbers(dialog, &selected.view, search, NumbersLine::search, &found).await?;
        }
    }
    Ok(Reply::ok("SEARCH done"))
}

/// The answer to a search that the mail store did not carry out; nothing stays saved (RFC 5182 section 2.1).
pub(super) fn failed(dialog: &Dialog, selected: &mut Selected, search: &Search, error: &MailError) -> Reply {
    if search.returns.is_some_and(|returns| returns.save) {
        selected.saved = Ranges::default();
    }
    refuse(dialog, error)
}

/// The numbers of the messages that fit, ascending.
pub(super) async fn find(
    dialog: &mut Dialog,
    selected: &Selected,
    search: &Search,
    need: Need,
    long: &mut Long<'_>,
) -> Result<Result<Vec<u32>, MailError>, Ending> {
    let view = &selected.view;
    let now = UnixTime::from(SystemTime::now()).secs();
    let plan = Arc::new(Plan::new(&search.key, view, &selected.saved, now));
    let numbers: Vec<u32> = plan.within(view.len()).numbers().collect();
    let mut found = Vec::new();
    let size = if need == Need::All { WINDOW } else { SMALL_WINDOW };
    let windows = numbers.len().div_ceil(size);
    for at in 0..windows {
        long.pause(dialog).await?;
        let window = match need {
            Need::Last => numbers.rchunks(size).nth(at),
            Need::All | Need::First => numbers.chunks(size).nth(at),
        };
        let window = window.unwrap_or_default();
        if plan.measures
            && let Err(error) = long.run(dialog, view.measure(window)).await?
        {
            return Ok(Err(error));
        }
        let sure = found.len();
        let mut queue = survey(view, &plan, window, &mut found);
        match (need, found.get(sure..).and_then(|found| Some((*found.first()?, *found.last()?)))) {
            // What comes behind one that fits need not be read.
            (Need::First, Some((first, _))) => queue.retain(|candidate| candidate.number < first),
            (Need::Last, Some((_, last))) => queue.retain(|candidate| candidate.number > last),
            _ => {}
        }
        if need == Need::Last {
            queue = queue.into_iter().rev().collect();
        }
        let read = queue.len();
        if read > 0 {
            let limits = dialog.link.house.limits.message;
            let headers = Headers::new(plan.fields.clone(), limits);
            let (plan, first_only) = (Arc::clone(&plan), need != Need::All);
            let seek = Seek { plan, headers, limits, first_only, found: Vec::new(), room: Room::default() };
            match batch::read(dialog, view, long, seek, queue).await? {
                Ok(seek) => found.extend(seek.found),
                Err(error) => return Ok(Err(error)),
            }
        }
        long.advance(window.len().saturating_sub(read) as u64);
        if need != Need::All && !found.is_empty() {
            break;
        }
    }
    found.sort_unstable();
    Ok(Ok(found))
}

/// Judges the messages of a window by what is known of them: those that fit go to `found`, those that have to be read
/// are given back.
fn survey(view: &View, plan: &Plan, window: &[u32], found: &mut Vec<u32>) -> Queue {
    let mut queue = VecDeque::new();
    view.survey(window.iter().copied(), |number, glance| {
        // Its file is gone, or can not be read: nothing can be said of it.
        if plan.measures && !glance.measured {
            return;
        }
        match plan.judge(&Facts { number, glance, header: None, texts: None }) {
            Some(true) => found.push(number),
            Some(false) => {}
            None => queue.push_back(Candidate::new(number, glance)),
        }
    });
    queue
}

/// The highest mod-sequence of these messages, if the search asked for one (RFC 7162 section 3.1.5).
fn highest(view: &View, search: &Search, numbers: &[u32]) -> Option<u64> {
    if !search.key.any(&|key| matches!(key, SearchKey::Modseq(_))) {
        return None;
    }
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    let mut highest = None;
    survey_all(view, &numbers, |_, glance| highest = highest.max(Some(glance.modseq)));
    highest
}

/// Measures these messages: their sizes and dates are wanted.
pub(super) async fn measure(
    dialog: &mut Dialog,
    view: &View,
    long: &mut Long<'_>,
    found: &[u32],
) -> Result<Result<(), MailError>, Ending> {
    long.run(dialog, view.measure(found)).await
}

/// Calls `each` for these messages, whose numbers ascend, with what is known of them.
pub(super) fn survey_all(view: &View, found: &[u32], mut each: impl FnMut(u32, Glance<'_>)) {
    for window in found.chunks(WINDOW) {
        view.survey(window.iter().copied(), &mut each);
    }
}

/// Message numbers as the peer asked for them.
pub(super) fn told(view: &View, found: &[u32], uid: bool) -> Vec<u32> {
    if uid { found.iter().filter_map(|number| view.uid(*number)).collect() } else { found.to_vec() }
}

/// `* SEARCH ..` or `* SORT ..`
pub(super) async fn tell_numbers(
    dialog: &mut Dialog,
    view: &View,
    search: &Search,
    start: fn(&mut bytes::BytesMut) -> NumbersLine,
    found: &[u32],
) -> Result<(), Ending> {
    let (numbers, highest) = (told(view, found, search.uid), highest(view, search, found));
    let wire = &mut dialog.link.wire;
    wire.begin_long();
    let line = start(&mut wire.out);
    for batch in numbers.chunks(BATCH) {
        line.numbers(&mut wire.out, batch);
        wire.push().await?;
    }
    if let Some(modseq) = highest {
        line.modseq(&mut wire.out, modseq);
    }
    line.end(&mut wire.out);
    wire.end_long();
    Ok(())
}

/// `* ESEARCH ..`, unless there is nothing to be told but that it is saved. `found` is in the order of the answer: MIN is
/// its first, MAX its last (RFC 5267 section 3.1).
pub(super) async fn tell_extended(
    dialog: &mut Dialog,
    view: &View,
    search: &Search,
    tag: &str,
    returns: Returns,
    found: &[u32],
) -> Result<(), Ending> {
    let Returns { min, max, count, all, .. } = returns;
    if !(min || max || count || all) {
        return Ok(());
    }
    let told = told(view, found, search.uid);
    // Of the messages that are told, or counted (RFC 7162 section 3.1.10).
    let highest = if all || count {
        highest(view, search, found)
    } else {
        let ends = [found.first().filter(|_| min), found.last().filter(|_| max)];
        highest(view, search, &ends.into_iter().flatten().copied().collect::<Vec<_>>())
    };
    let wire = &mut dialog.link.wire;
    wire.begin_long();
    let mut line = EsearchLine::start(&mut wire.out, tag, search.uid);
    for (wanted, name, number) in [(min, "MIN", told.first()), (max, "MAX", told.last())] {
        if let (true, Some(number)) = (wanted, number) {
            line.item(&mut wire.out, name, u64::from(*number));
        }
    }
    if count {
        line.item(&mut wire.out, "COUNT", told.len() as u64);
    }
    if let Some(modseq) = highest {
        line.item(&mut wire.out, "MODSEQ", modseq);
    }
    if all {
        // Only ascending numbers make a range: RFC 5267 section 3.2.
        let mut runs = told.chunk_by(|a, b| a.checked_add(1) == Some(*b)).peekable();
        while runs.peek().is_some() {
            let batch = runs.by_ref().take(BATCH).filter_map(|run| Some((*run.first()?, *run.last()?)));
            line.all(&mut wire.out, batch);
            wire.push().await?;
        }
    }
    line.end(&mut wire.out);
    wire.end_long();
    Ok(())
}

/// Keeps what was found for `$`, with SAVE: only MIN and MAX if nothing else was asked for (RFC 5182 section 2.4).
pub(super) fn save(selected: &mut Selected, returns: Returns, found: &[u32]) {
    let Returns { min, max, count, all, save } = returns;
    if !save {
        return;
    }
    let ends = (min || max) && !count && !all;
    let chosen: Vec<u32> = if ends {
        let (first, last) = (found.first().filter(|_| min), found.last().filter(|_| max));
        first.into_iter().chain(last).copied().collect()
    } else {
        found.to_vec()
    };
    selected.saved = chosen.iter().filter_map(|number| selected.view.uid(*number)).collect();
}
