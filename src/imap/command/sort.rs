//! SORT and THREAD (RFC 5256 section 5, RFC 5267 section 3, RFC 5957 section 5).

use nom::{
    Parser,
    bytes::complete::tag_no_case,
    combinator::{cut, map_opt, opt},
    sequence::{preceded, terminated},
};

use super::{
    Command,
    grammar::{Fault, Parsed, atom, list1, sp, word},
    search::{Search, SearchLimits, criteria, read, returns, saving},
};

/// A SORT command.
#[derive(Clone, Debug, PartialEq)]
pub struct Sort {
    /// Which messages.
    pub search: Search,
    /// In which order: the first criterion counts most. Each key at most once, at least one.
    pub by: Vec<SortBy>,
}

/// One criterion of SORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortBy {
    /// What is compared.
    pub key: SortKey,
    /// Largest first.
    pub reverse: bool,
}

/// What SORT compares (RFC 5256 section 3, RFC 5957 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// The internal date.
    Arrival,
    /// The mailbox of the first Cc address.
    Cc,
    /// The sent date, else the internal date.
    Date,
    /// The name of the first From address, else the address.
    DisplayFrom,
    /// The name of the first To address, else the address.
    DisplayTo,
    /// The mailbox of the first From address.
    From,
    /// RFC822.SIZE.
    Size,
    /// The base subject.
    Subject,
    /// The mailbox of the first To address.
    To,
}

/// A THREAD command.
#[derive(Clone, Debug, PartialEq)]
pub struct Thread {
    /// Which messages.
    pub search: Search,
    /// How they are gathered.
    pub by: ThreadBy,
}

/// The threading algorithms (RFC 5256 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadBy {
    /// ORDEREDSUBJECT
    OrderedSubject,
    /// REFERENCES
    References,
}

pub(super) fn sort(arguments: &[u8], uid: bool, limits: SearchLimits) -> Result<Command, Fault> {
    let (rest, returns) = read(opt(returns), arguments)?;
    let (rest, wished) = read(preceded(sp, list1(sort_by)), rest)?;
    let key = criteria(rest, limits).map_err(|fault| saving(returns, fault))?;
    let mut by: Vec<SortBy> = Vec::new();
    for one in wished {
        // What a key leaves equal, the same key cannot tell apart.
        if by.iter().all(|earlier| earlier.key != one.key) {
            by.push(one);
        }
    }
    Ok(Command::Sort(Sort { search: Search { key, uid, charset: false, returns }, by }))
}

pub(super) fn thread(arguments: &[u8], uid: bool, limits: SearchLimits) -> Result<Command, Fault> {
    let (rest, name) = read(preceded(sp, atom), arguments)?;
    let by = match name.inner().to_ascii_uppercase().as_str() {
        "ORDEREDSUBJECT" => ThreadBy::OrderedSubject,
        "REFERENCES" => ThreadBy::References,
        _ => return Err(Fault::syntax("Unknown threading algorithm; ORDEREDSUBJECT and REFERENCES are known")),
    };
    let key = criteria(rest, limits)?;
    Ok(Command::Thread(Thread { search: Search { key, uid, charset: false, returns: None }, by }))
}

/// `["REVERSE" SP] sort-key`
fn sort_by(i: &[u8]) -> Parsed<'_, SortBy> {
    let (rest, reverse) = opt(terminated(tag_no_case("REVERSE"), sp)).parse(i)?;
    let (rest, key) = cut(map_opt(word, |word| {
        Some(match word.as_str() {
            "ARRIVAL" => SortKey::Arrival,
            "CC" => SortKey::Cc,
            "DATE" => SortKey::Date,
            "DISPLAYFROM" => SortKey::DisplayFrom,
            "DISPLAYTO" => SortKey::DisplayTo,
            "FROM" => SortKey::From,
            "SIZE" => SortKey::Size,
            "SUBJECT" => SortKey::Subject,
            "TO" => SortKey::To,
            _ => return None,
        })
    }))
    .parse(rest)?;
    Ok((rest, SortBy { key, reverse: reverse.is_some() }))
}
