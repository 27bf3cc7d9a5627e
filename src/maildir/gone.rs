//! What a folder remembers of messages that are gone: which UIDs, and the mod-sequence of the commit that removed them
//! (RFC 7162 section 5.3). Bounded: of the oldest only the mod-sequence is kept. Pure; part of `state`.

use std::collections::VecDeque;

/// Most ranges of UIDs that are remembered; 16 bytes each.
const MOST: usize = 2_000;

/// UIDs that one commit removed, and others that were gone before, lying between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub first: u32,
    pub last: u32,
    pub modseq: u64,
}

/// The removals of a folder, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    /// Of removals up to this mod-sequence not all are remembered.
    floor: u64,
    ranges: VecDeque<Range>,
}

impl Gone {
    /// What a compacted index says; ranges that break the order are a damaged index's and are left out.
    pub(super) fn new(floor: u64, ranges: Vec<Range>) -> Self {
        let mut gone = Self { floor, ranges: VecDeque::with_capacity(ranges.len().min(MOST)) };
        for range in ranges {
            let newest = gone.ranges.back().map_or(0, |last| last.modseq);
            if range.first <= range.last && newest <= range.modseq {
                gone.push(range);
            }
        }
        gone
    }

    /// Remembers that the commit `modseq` removed `uid`. `empty_from` says whether no message is left between a UID and
    /// this one: two removed messages then make one range.
    pub(super) fn add(&mut self, uid: u32, modseq: u64, empty_from: impl FnOnce(u32) -> bool) {
        if let Some(last) = self.ranges.back_mut()
            && last.modseq == modseq
            && last.last < uid
            && empty_from(last.last)
        {
            last.last = uid;
            return;
        }
        self.push(Range { first: uid, last: uid, modseq });
    }

    fn push(&mut self, range: Range) {
        if self.ranges.len() >= MOST
            && let Some(oldest) = self.ranges.pop_front()
        {
            self.floor = self.floor.max(oldest.modseq);
        }
        self.ranges.push_back(range);
    }

    /// Forgets everything up to `modseq`: what happened until then can not be told one by one any more.
    pub(super) fn forget(&mut self, modseq: u64) {
        self.floor = self.floor.max(modseq);
        let floor = self.floor;
        self.ranges.retain(|range| range.modseq > floor);
    }

    /// The UIDs removed after `modseq`, in no particular order; nothing if that is not remembered any more.
    pub(super) fn since(&self, modseq: u64) -> Option<impl Iterator<Item = (u32, u32)>> {
        let newer = self.ranges.iter().rev().take_while(move |range| range.modseq > modseq);
        (modseq >= self.floor).then(|| newer.map(|range| (range.first, range.last)))
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Oldest first.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range> {
        self.ranges.iter().copied()
    }

    /// Gives back what is held in reserve.
    pub(super) fn pack(&mut self) {
        self.ranges.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(gone: &Gone, modseq: u64) -> Option<Vec<(u32, u32)>> {
        gone.since(modseq).map(|ranges| {
            let mut all: Vec<_> = ranges.collect();
            all.sort_unstable();
            all
        })
    }

    #[test]
    fn removals_of_one_commit_make_ranges_across_what_was_gone_before() {
        let mut gone = Gone::default();
        gone.add(6, 5, |_| false);
        for uid in [5, 7, 8, 10] {
            // 9 is still there.
            gone.add(uid, 9, |from| !(from..uid).contains(&9));
        }
        assert_eq!(since(&gone, 5), Some(vec![(5, 8), (10, 10)]));
        assert_eq!(since(&gone, 4), Some(vec![(5, 8), (6, 6), (10, 10)]));
        assert_eq!(since(&gone, 9), Some(vec![]));
        gone.add(11, 10, |_| true);
        assert_eq!(since(&gone, 9), Some(vec![(11, 11)]), "another commit is another range");
    }

    #[test]
    fn the_oldest_removals_are_forgotten_and_what_is_older_cannot_be_told() {
        let mut gone = Gone::default();
        for n in 1..=2_500_u32 {
            gone.add(n * 2, u64::from(n) + 1, |_| false);
        }
        assert_eq!((gone.ranges().count(), gone.floor()), (2_000, 501));
        assert_eq!(since(&gone, 500), None);
        assert_eq!(
            since(&gone, 501).map(|all| (all.len(), all.first().copied())),
            Some((2_000, Some((1002, 1002))))
        );
        gone.forget(2_400);
        assert_eq!(since(&gone, 2_399), None);
        assert_eq!(since(&gone, 2_400).map(|all| all.len()), Some(101));
    }

    #[test]
    fn ranges_of_a_damaged_index_do_not_count() {
        let range = |first, last, modseq| Range { first, last, modseq };
        let gone = Gone::new(3, vec![range(5, 6, 9), range(9, 8, 9), range(1, 2, 4), range(7, 7, 10)]);
        assert_eq!(since(&gone, 3), Some(vec![(5, 6), (7, 7)]));
    }
}
