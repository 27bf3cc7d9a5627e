//! Lists in pages: `?limit=` and `?cursor=`. A cursor is the key of the last item shown, so a page costs the same wherever it
//! is, and rows that come or go meanwhile shift nothing.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::{Problem, ProblemKind};

/// Items of a page where the request does not say.
const USUAL: usize = 100;
/// Most items of a page.
const MOST: usize = 1_000;
/// Rows looked at for one page of somebody who sees only a part.
const LOOKED_AT: usize = 10_000;
/// Rows read at a time for them, at least.
const AT_ONCE: usize = 1_000;
/// Longest cursor that is looked at, in bytes.
const LONGEST: usize = 4_096;

/// What part of a list is asked for.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Items wanted, at most 1,000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(super) limit: Option<usize>,
    /// `next` of the page before.
    pub(super) cursor: Option<String>,
}

/// The cursor of the page after this key.
pub(super) fn cursor(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the order of their keys.
    pub items: Vec<T>,
    /// The cursor of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl PageQuery {
    /// How many items are wanted.
    pub fn limit(&self) -> Result<usize, Problem> {
        match self.limit.unwrap_or(USUAL) {
            0 => Err(Problem::new(ProblemKind::BadRequest, "limit = 0: ask for 1 to 1,000 items")),
            limit => Ok(limit.min(MOST)),
        }
    }

    /// The key after which the page begins.
    pub fn after(&self) -> Result<Option<String>, Problem> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let bytes = Some(cursor).filter(|cursor| cursor.len() <= LONGEST);
        let bytes = bytes.and_then(|cursor| URL_SAFE_NO_PAD.decode(cursor).ok());
        let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        key.map(Some).ok_or_else(|| {
            Problem::new(ProblemKind::BadRequest, "the cursor is none of ours: take `next` of the page before")
        })
    }
}

impl<T> Page<T> {
    /// A page of `limit` items out of a list that has one more if there is a next page; `key` tells an item's key.
    pub fn cut(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| cursor(&key(last)));
        Self { items, next }
    }
}

/// A page of a numbered list of which the asker sees all, or a part only: then many rows may have to be looked at to find few,
/// so many are read at a time.
pub(super) struct Sift<T> {
    limit: usize,
    batch: usize,
    looked: usize,
    /// The number of the last row looked at.
    last: Option<i64>,
    found: Vec<(i64, T)>,
    is_whole: bool,
}

impl<T> Sift<T> {
    /// A page of `limit` items after the row with this number.
    pub(super) fn new(limit: usize, sees_all: bool, after: Option<i64>) -> Self {
        let batch = if sees_all { limit + 1 } else { AT_ONCE.max(limit + 1) };
        Self { limit, batch, looked: 0, last: after, found: Vec::new(), is_whole: false }
    }

    /// What to read next: so many rows, after this one.
    pub(super) fn next(&self) -> (Option<i64>, usize) {
        (self.last, self.batch)
    }

    /// Takes in the rows that were read, each with its number and what the asker sees of it. Says whether that is enough.
    pub(super) fn take(&mut self, rows: impl ExactSizeIterator<Item = (i64, Option<T>)>) -> bool {
        let count = rows.len();
        self.looked += count;
        self.is_whole = count < self.batch;
        for (number, seen) in rows {
            self.last = Some(number);
            self.found.extend(seen.map(|seen| (number, seen)));
        }
        self.is_whole || self.found.len() > self.limit || self.looked >= LOOKED_AT
    }

    /// The page. Whoever has looked at enough rows goes on after the last of them, however few items there were.
    pub(super) fn page(self) -> Page<T> {
        let Self { limit, last, found, is_whole, .. } = self;
        let is_cut = found.len() > limit;
        let page = Page::cut(found, limit, |(number, _)| number.to_string());
        let on = last.filter(|_| !is_whole && !is_cut).map(|number| cursor(&number.to_string()));
        Page { items: page.items.into_iter().map(|(_, item)| item).collect(), next: page.next.or(on) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn query(limit: Option<usize>, cursor: Option<&str>) -> PageQuery {
        PageQuery { limit, cursor: cursor.map(str::to_owned) }
    }

    #[test]
    fn the_pages_of_a_list_are_the_list() {
        let all: Vec<u32> = (0..25).collect();
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let query = query(Some(10), cursor.as_deref());
            let (limit, after) = (query.limit().unwrap(), query.after().unwrap());
            let after: Option<u32> = after.map(|key| key.parse().unwrap());
            let found = all.iter().copied().filter(|n| after.is_none_or(|after| *n > after));
            let page = Page::cut(found.take(limit + 1).collect(), limit, u32::to_string);
            seen.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    /// A list of numbers up to `rows`, of which every `part`th is seen, in pages; and how often it was read.
    fn sifted(rows: i64, part: i64, limit: usize) -> (Vec<Vec<i64>>, usize) {
        let (mut pages, mut reads, mut after) = (Vec::new(), 0, None);
        loop {
            let mut sift = Sift::new(limit, part == 1, after);
            loop {
                let (after, batch) = sift.next();
                let first = after.unwrap_or(0) + 1;
                let read: Vec<i64> = (first..=rows).take(batch).collect();
                reads += 1;
                if sift.take(read.into_iter().map(|number| (number, (number % part == 0).then_some(number)))) {
                    break;
                }
            }
            let page = sift.page();
            pages.push(page.items);
            let Some(next) = page.next else { return (pages, reads) };
            after = query(None, Some(&next)).after().unwrap().map(|key| key.parse().unwrap());
        }
    }

    #[test]
    fn a_list_of_which_one_sees_a_part_is_read_in_large_pieces_and_shown_whole() {
        for (rows, part, limit) in [
            (0, 1, 5),
            (5, 1, 5),
            (6, 1, 5),
            (25, 1, 10),
            (25, 3, 2),
            (2_500, 2_400, 1),
            (1_001, 1, 1_000),
            (30_000, 7, 999),
        ] {
            let (pages, _) = sifted(rows, part, limit);
            let all: Vec<i64> = (1..=rows).filter(|number| number % part == 0).collect();
            assert_eq!(pages.concat(), all, "{rows} rows, every {part}th, {limit} a page");
            assert!(pages.iter().all(|page| page.len() <= limit));
        }
        // Nothing is theirs: ten thousand rows a page, a thousand a read.
        let (pages, reads) = sifted(9_999, 10_000, 1);
        assert_eq!((pages.len(), reads), (1, 10));
        let (pages, reads) = sifted(25_000, 30_000, 1);
        assert_eq!((pages.len(), reads), (3, 26));
        // Who sees all reads no more than is shown.
        assert_eq!(Sift::<i64>::new(7, true, None).next(), (None, 8));
    }

    #[test]
    fn what_is_no_page_is_an_error_that_says_so() {
        assert_eq!(query(None, None).limit().unwrap(), 100);
        assert_eq!(query(Some(1_000_000), None).limit().unwrap(), 1_000);
        assert!(query(Some(0), None).limit().is_err());
        for cursor in ["*", "_w", &"A".repeat(LONGEST + 1)] {
            assert!(query(None, Some(cursor)).after().is_err(), "{cursor}");
        }
    }
}
