//! Sets of messages: RFC 3501's `sequence-set` resolved against a mailbox, as ranges that are never written out.
//! Called by `session`. Imports nothing of the house.

use std::{fmt, num::NonZeroU32};

use imap_codec::imap_types::sequence::{SeqOrUid, Sequence, SequenceSet};

/// The messages a command names: a set as it is written, or `$`, what the last search saved (RFC 5182 section 2.1).
#[derive(Clone, Debug, PartialEq)]
pub enum MessageSet {
    /// Message numbers, or UIDs where the command says so.
    Named(SequenceSet),
    /// `$`
    Saved,
}

/// Numbers as inclusive ranges: sorted, apart from each other, none zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u32, u32)>);

/// A message number above the number of messages: the command gets BAD (RFC 3501 section 9, `seq-number`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message number beyond the last message")]
pub struct BeyondEnd;

impl Ranges {
    /// From ranges in any order, overlapping or not; each may be written backwards. Time: n log n.
    pub fn new(mut pairs: Vec<(u32, u32)>) -> Self {
        for (low, high) in &mut pairs {
            if low > high {
                std::mem::swap(low, high);
            }
        }
        pairs.retain(|(low, _)| *low > 0);
        pairs.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(pairs.len());
        for (low, high) in pairs {
            match merged.last_mut() {
                Some((_, end)) if low <= end.saturating_add(1) => *end = high.max(*end),
                _ => merged.push((low, high)),
            }
        }
        Self(merged)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers it names.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(low, high)| u64::from(high - low) + 1).sum()
    }

    /// Whether `number` is in it. Time: log n.
    pub fn contains(&self, number: u32) -> bool {
        let at = self.0.partition_point(|(_, high)| *high < number);
        self.0.get(at).is_some_and(|(low, _)| *low <= number)
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().copied()
    }

    /// Each number, ascending, made as it is asked for.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|(low, high)| *low..=*high)
    }

    /// The largest number.
    pub fn last(&self) -> Option<u32> {
        self.0.last().map(|(_, high)| *high)
    }
}

/// `1:3,7`, as COPYUID and SEARCH sets are written.
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (low, high)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if low == high {
                write!(f, "{comma}{low}")?;
            } else {
                write!(f, "{comma}{low}:{high}")?;
            }
        }
        Ok(())
    }
}

impl FromIterator<u32> for Ranges {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        Self::new(numbers.into_iter().map(|n| (n, n)).collect())
    }
}

/// Message numbers of FETCH, STORE, COPY and MOVE in a mailbox of `count` messages.
///
/// A number above `count` is an error; `*` is the last message. A range that ends in `*` starts at the last message
/// if its other end is above it, and `*` in an empty mailbox names nothing: programs ask `1:*` of an empty mailbox
/// and `n:*` for what is new, and an error there would only make them fail.
pub fn numbers(set: &SequenceSet, count: u32) -> Result<Ranges, BeyondEnd> {
    let mut pairs = Vec::with_capacity(set.0.as_ref().len());
    for sequence in set.0.as_ref() {
        let (a, b) = ends(sequence);
        let open = a == SeqOrUid::Asterisk || b == SeqOrUid::Asterisk;
        let (a, b) = (value(a, count), value(b, count));
        match (open, a.max(b) <= count) {
            (_, true) if count > 0 => pairs.push((a, b)),
            (true, _) if count > 0 => pairs.push((count, count)),
            (true, _) => {}
            (false, _) => return Err(BeyondEnd),
        }
    }
    Ok(Ranges::new(pairs))
}

/// Message numbers of a SEARCH key: those that do not exist match nothing, so the set is only clipped.
pub fn clipped(set: &SequenceSet, count: u32) -> Ranges {
    let pairs = set.0.as_ref().iter().filter_map(|sequence| {
        let (a, b) = ends(sequence);
        let (a, b) = (value(a, count), value(b, count));
        let (low, high) = (a.min(b), a.max(b).min(count));
        (low > 0 && low <= high).then_some((low, high))
    });
    Ranges::new(pairs.collect())
}

/// UIDs as ranges of UIDs, `*` being the highest UID in the mailbox (none: it is empty).
///
/// UIDs that do not exist are silently passed over (RFC 3501 section 6.4.8), so the ranges keep them; but `999:*`
/// always holds the last message, whatever its UID.
pub fn uids(set: &SequenceSet, highest: Option<u32>) -> Ranges {
    let pairs = set.0.as_ref().iter().filter_map(|sequence| {
        let (a, b) = ends(sequence);
        if highest.is_none() && (a == SeqOrUid::Asterisk || b == SeqOrUid::Asterisk) {
            return None;
        }
        Some((value(a, highest.unwrap_or(0)), value(b, highest.unwrap_or(0))))
    });
    Ranges::new(pairs.collect())
}

/// UIDs as ranges of message numbers, in a mailbox of `count` messages whose UIDs ascend; `uid_of` gives the UID of
/// message number 1 to `count`. Time: log `count` for each range of the set.
pub fn uids_to_numbers(set: &SequenceSet, count: u32, uid_of: impl Fn(u32) -> u32) -> Ranges {
    let highest = (count > 0).then(|| uid_of(count));
    known_uids_to_numbers(&uids(set, highest), count, uid_of)
}

/// The same for UIDs that are ranges already.
pub fn known_uids_to_numbers(uids: &Ranges, count: u32, uid_of: impl Fn(u32) -> u32) -> Ranges {
    let pairs = uids.iter().filter_map(|(low, high)| {
        let first = lowest_where(count, |number| uid_of(number) >= low);
        let after = lowest_where(count, |number| uid_of(number) > high);
        (first < after).then_some((first, after - 1))
    });
    Ranges::new(pairs.collect())
}

/// The lowest number of `1..=count` for which `is` holds (it holds for all above it too), or `count + 1`.
fn lowest_where(count: u32, is: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (1, count.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        if is(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

fn ends(sequence: &Sequence) -> (SeqOrUid, SeqOrUid) {
    match sequence {
        Sequence::Single(one) => (*one, *one),
        Sequence::Range(a, b) => (*a, *b),
    }
}

fn value(end: SeqOrUid, star: u32) -> u32 {
    match end {
        SeqOrUid::Value(number) => NonZeroU32::get(number),
        SeqOrUid::Asterisk => star,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    fn set(text: &str) -> SequenceSet {
        text.parse().unwrap()
    }

    #[test]
    fn message_numbers_follow_the_rules_of_rfc_3501() {
        let cases = [
            ("1", 3, Ok("1")),
            ("1:3", 3, Ok("1:3")),
            ("3:1", 3, Ok("1:3")),
            ("*", 3, Ok("3")),
            ("*:2", 3, Ok("2:3")),
            ("1,3,2", 3, Ok("1:3")),
            ("1:2,2:3", 3, Ok("1:3")),
            ("4", 3, Err(BeyondEnd)),
            ("2:4", 3, Err(BeyondEnd)),
            ("4:*", 3, Ok("3")),
            ("1:*", 0, Ok("")),
            ("*", 0, Ok("")),
            ("1", 0, Err(BeyondEnd)),
            ("4294967295", 3, Err(BeyondEnd)),
        ];
        for (text, count, expected) in cases {
            let got = numbers(&set(text), count).map(|r| r.to_string());
            assert_eq!(got, expected.map(str::to_owned), "{text} of {count}");
        }
    }

    #[test]
    fn the_last_message_answers_an_open_uid_range_whatever_its_uid() {
        let mailbox = [3, 5, 9, 20];
        let uid_of = |n: u32| mailbox[n as usize - 1];
        let cases = [
            ("999:*", "4"),
            ("*", "4"),
            ("*:9", "3:4"),
            ("1:*", "1:4"),
            ("4:8", "2"),
            ("6:8", ""),
            ("21", ""),
            ("1:4294967295", "1:4"),
            ("3,20,5", "1:2,4"),
        ];
        for (text, expected) in cases {
            assert_eq!(uids_to_numbers(&set(text), 4, uid_of).to_string(), expected, "{text}");
        }
        assert_eq!(uids_to_numbers(&set("1:*"), 0, |_| 0).to_string(), "");
    }

    #[test]
    fn a_search_key_passes_over_numbers_that_do_not_exist() {
        for (text, expected) in [("1:10", "1:3"), ("5", ""), ("5:*", "3"), ("*", "3"), ("2:2", "2")] {
            assert_eq!(clipped(&set(text), 3).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn the_whole_of_all_numbers_is_one_range() {
        let all = Ranges::new(vec![(1, u32::MAX)]);
        assert_eq!(all.count(), u64::from(u32::MAX));
        assert!(all.contains(1) && all.contains(u32::MAX) && !all.contains(0));
    }

    proptest! {
        #[test]
        fn ranges_name_exactly_the_numbers_they_were_made_of(pairs in proptest::collection::vec((1u32..60, 1u32..60), 0..12)) {
            let ranges = Ranges::new(pairs.clone());
            for n in 0..70 {
                let inside = pairs.iter().any(|(a, b)| (*a.min(b)..=*a.max(b)).contains(&n));
                prop_assert_eq!(ranges.contains(n), inside, "{}", n);
            }
            prop_assert_eq!(ranges.numbers().count() as u64, ranges.count());
            let apart = ranges.iter().zip(ranges.iter().skip(1)).all(|((_, a), (b, _))| a + 1 < b);
            prop_assert!(apart);
        }
    }
}
