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
