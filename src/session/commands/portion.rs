//! Answers about many messages, a portion at a time: as many as the output has room for, so that a session whose peer
//! reads nothing holds no more, and the folder is not locked for longer. Used by `fetch`, `messages` and `modseq`.

use std::cell::Cell;

use bytes::BytesMut;

use crate::maildir::{Meta, View};

/// Most messages in one portion.
pub(super) const MOST: usize = 256;
/// A portion ends when so much was gone through for it. In bytes.
const WORK: usize = 128 * 1024;

/// What was done in one go.
pub(super) struct Portion {
    /// How many of the messages were asked for, at least one.
    pub(super) taken: usize,
    /// What was gone through for it, in bytes.
    pub(super) work: usize,
}

/// Calls `each` for the first of these messages (ascending; those that are gone are left out), which writes to `out` and
/// says how many bytes it went through to do so; until there are `plenty` in `out`. None if there is nothing to ask, or
/// the folder is gone.
pub(super) fn portion(
    view: &View,
    numbers: impl Iterator<Item = u32>,
    out: &mut BytesMut,
    plenty: usize,
    mut each: impl FnMut(&mut BytesMut, u32, Meta) -> usize,
) -> Option<Portion> {
    let (taken, enough) = (Cell::new(0), Cell::new(false));
    let mut work = 0;
    let numbers = numbers.take(MOST).take_while(|_| !enough.get()).inspect(|_| taken.set(taken.get() + 1));
    view.messages(numbers, |number, meta| {
        work += each(out, number, meta);
        enough.set(out.len() >= plenty || work >= WORK);
    });
    (taken.get() > 0).then_some(Portion { taken: taken.get(), work })
}
