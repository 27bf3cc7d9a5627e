//! Keywords: the flags people and programs make up (RFC 3501 section 2.3.2). A folder keeps a table of them; messages
//! hold numbers.

use std::sync::Arc;

use super::{error::MailError, record::Record, root::Limits, state::State};

/// Checks keywords as a peer wrote them: an atom, no longer than the limit, no duplicates.
pub(super) fn checked(keywords: &[&str], limits: &Limits) -> Result<Vec<Arc<str>>, MailError> {
    let mut list: Vec<Arc<str>> = Vec::new();
    for keyword in keywords {
        let odd =
            |b: u8| !b.is_ascii_graphic() || matches!(b, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']');
        if keyword.is_empty() || keyword.bytes().any(odd) {
            return Err(MailError::invalid(keyword, "is no keyword: printable ASCII without (){%*\"\\] only"));
        }
        if keyword.len() > limits.keyword_bytes {
            return Err(MailError::Limit { what: "bytes in a keyword", most: limits.keyword_bytes as u64 });
        }
        if !list.iter().any(|k| k.eq_ignore_ascii_case(keyword)) {
            list.push((*keyword).into());
        }
        if list.len() > limits.keywords {
            return Err(MailError::Limit { what: "keywords in a folder", most: limits.keywords as u64 });
        }
    }
    Ok(list)
}

/// A folder's keyword table while a commit is being made.
#[derive(Clone)]
pub(super) struct Table(Vec<Arc<str>>);

impl Table {
    pub(super) fn of(state: &State) -> Self {
        Self(state.keywords.clone())
    }

    /// The keywords' numbers, sorted; those that are new get a record each.
    pub(super) fn numbers(
        &mut self,
        names: &[Arc<str>],
        limits: &Limits,
        records: &mut Vec<Record>,
    ) -> Result<Vec<u16>, MailError> {
        let mut numbers = Vec::with_capacity(names.len());
        for name in names {
            let known = self.0.iter().position(|k| k.eq_ignore_ascii_case(name));
            let at = match known {
                Some(at) => at,
                None if self.0.len() >= limits.keywords => {
                    return Err(MailError::Limit { what: "keywords in a folder", most: limits.keywords as u64 });
                }
                None => {
                    self.0.push(Arc::clone(name));
                    records.push(Record::Keyword { name: name.to_string() });
                    self.0.len() - 1
                }
            };
            numbers.push(u16::try_from(at).unwrap_or(u16::MAX));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}
