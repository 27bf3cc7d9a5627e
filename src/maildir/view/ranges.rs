//! Ranges of UIDs, ends included: what two lists of them have in common, and what is left without some UIDs. Pure.

/// What lies in a range of both lists. Both ascend by the start of their ranges; those of `one` may overlap, those of
/// `other` may not. The result ascends and does not overlap.
pub(super) fn common(one: &[(u32, u32)], other: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut found: Vec<(u32, u32)> = Vec::new();
    let mut from = 0;
    for (low, high) in one {
        // Only what comes after this range's start can matter to the ranges that follow.
        from += other.iter().skip(from).take_while(|(_, end)| end < low).count();
        for (start, end) in other.iter().skip(from).take_while(|(start, _)| start <= high) {
            let next = found.last().map_or(0, |(_, end)| end.saturating_add(1));
            let (start, end) = ((*start).max(*low).max(next), (*end).min(*high));
            if start <= end {
                found.push((start, end));
            }
        }
    }
    found
}

/// What is left of `ranges` (ascending, not overlapping) without these UIDs (ascending).
pub(super) fn without(ranges: &[(u32, u32)], uids: &[u32]) -> Vec<(u32, u32)> {
    let mut left = Vec::new();
    for (low, high) in ranges {
        let first = uids.partition_point(|uid| uid < low);
        let mut next = Some(*low);
        for uid in uids.iter().skip(first).take_while(|uid| *uid <= high) {
            left.extend(next.filter(|next| next < uid).map(|next| (next, uid - 1)));
            next = uid.checked_add(1);
        }
        left.extend(next.filter(|next| next <= high).map(|next| (next, *high)));
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn holds(ranges: &[(u32, u32)], uid: u32) -> bool {
        ranges.iter().any(|(low, high)| (*low..=*high).contains(&uid))
    }

    fn sorted(pairs: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
        let mut all: Vec<_> = pairs.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
        all.sort_unstable();
        all
    }

    proptest! {
        #[test]
        fn ranges_are_cut_to_exactly_what_is_wanted(
            one in vec((1..60_u32, 1..60_u32), 0..8), other in vec((1..60_u32, 1..60_u32), 0..8), uids in vec(1..60_u32, 0..20),
        ) {
            let (one, mut other) = (sorted(one), sorted(other));
            let mut end = 0;
            other.retain(|(low, high)| *low > end && { end = *high; true });
            let both = common(&one, &other);
            prop_assert!(both.windows(2).all(|pair| matches!(pair, [(_, a), (b, _)] if a < b)), "{:?}", both);
            let mut uids = uids;
            uids.sort_unstable();
            let left = without(&both, &uids);
            for uid in 0..70 {
                prop_assert_eq!(holds(&both, uid), holds(&one, uid) && holds(&other, uid), "{}", uid);
                prop_assert_eq!(holds(&left, uid), holds(&both, uid) && !uids.contains(&uid), "{}", uid);
            }
        }
    }

    #[test]
    fn the_highest_uid_is_no_exception() {
        let all = [(1, u32::MAX)];
        assert_eq!(common(&all, &all), all);
        assert_eq!(without(&all, &[1, 7, u32::MAX]), [(2, 6), (8, u32::MAX - 1)]);
    }
}
