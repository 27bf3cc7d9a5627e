//! SELECT and EXAMINE with their parameters (RFC 3501 sections 6.3.1 and 6.3.2, RFC 4466 section 2.1, RFC 7162 sections
//! 3.1.8 and 3.2.5).

use imap_codec::imap_types::sequence::{SeqOrUid, Sequence, SequenceSet};
use nom::{
    Parser,
    character::complete::char,
    combinator::opt,
    sequence::{delimited, preceded},
};

use super::{
    Command,
    grammar::{Fault, Parsed, list1, mailbox, nz_number, nz_number64, sequence_set, sp, whole, word},
};
use crate::imap::{mailbox::Names, set::Ranges};

/// What a program that was here before knows of the mailbox, to be told only what changed since (RFC 7162 section 3.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resync {
    /// The UIDVALIDITY it was told; with another one the rest means nothing.
    pub uid_validity: u32,
    /// The mod-sequence up to which it was told everything; at least 1, 63 bits.
    pub modseq: u64,
    /// The UIDs it wants to hear about; none: all.
    pub known: Option<Ranges>,
    /// Message numbers and the UIDs it knows them by, as many of each: the first number goes with the first UID, and
    /// so on.
    pub matches: Option<(Ranges, Ranges)>,
}

enum Parameter {
    Condstore,
    Qresync(Resync),
}

pub(super) fn select(arguments: &[u8], names: Names, read_only: bool) -> Result<Command, Fault> {
    let rule = (preceded(sp, mailbox(names)), opt(preceded(sp, list1(parameter))));
    let (mailbox, parameters) = whole(rule, arguments)?;
    let (mut condstore, mut resync) = (false, None);
    for parameter in parameters.unwrap_or_default() {
        let again = match parameter {
            Parameter::Condstore => std::mem::replace(&mut condstore, true),
            Parameter::Qresync(what) => resync.replace(what).is_some(),
        };
        if again {
            return Err(Fault::syntax("A parameter of SELECT stands twice"));
        }
    }
    Ok(Command::Select { mailbox, read_only, condstore, resync })
}

fn parameter(i: &[u8]) -> Parsed<'_, Parameter> {
    let (rest, name) = word(i)?;
    match name.as_str() {
        "CONDSTORE" => Ok((rest, Parameter::Condstore)),
        "QRESYNC" => {
            let (rest, what) = preceded(sp, delimited(char('('), resync, char(')'))).parse(rest)?;
            Ok((rest, Parameter::Qresync(what)))
        }
        _ => Err(nom::Err::Failure(Fault::syntax("Unknown parameter of SELECT; CONDSTORE and QRESYNC are known"))),
    }
}

/// `uidvalidity SP mod-sequence-value [SP known-uids] [SP seq-match-data]`
fn resync(i: &[u8]) -> Parsed<'_, Resync> {
    let pairs = delimited(char('('), (sequence_set, preceded(sp, sequence_set)), char(')'));
    let rule = (nz_number, preceded(sp, nz_number64), opt(preceded(sp, sequence_set)), opt(preceded(sp, pairs)));
    let (rest, (uid_validity, modseq, known, pairs)) = { rule }.parse(i)?;
    let known = known.map(|set| plain(&set)).transpose()?;
    let matches = pairs.map(|(numbers, uids)| matching(&numbers, &uids)).transpose()?;
    Ok((rest, Resync { uid_validity: uid_validity.get(), modseq, known, matches }))
}

fn wrong(text: &'static str) -> nom::Err<Fault> {
    nom::Err::Failure(Fault::syntax(text))
}

/// A set without `*`.
fn plain(set: &SequenceSet) -> Result<Ranges, nom::Err<Fault>> {
    ends(set).collect::<Option<Vec<_>>>().map(Ranges::new).ok_or(wrong("QRESYNC takes no * in its sets"))
}

fn ends(set: &SequenceSet) -> impl Iterator<Item = Option<(u32, u32)>> + '_ {
    let number = |end: &SeqOrUid| match end {
        SeqOrUid::Value(number) => Some(number.get()),
        SeqOrUid::Asterisk => None,
    };
    set.0.as_ref().iter().map(move |sequence| match sequence {
        Sequence::Single(one) => number(one).map(|n| (n, n)),
        Sequence::Range(from, to) => number(from).zip(number(to)),
    })
}

/// Message numbers and their UIDs: both ascending, as many of each.
fn matching(numbers: &SequenceSet, uids: &SequenceSet) -> Result<(Ranges, Ranges), nom::Err<Fault>> {
    let (numbers, uids) = (ascending(numbers)?, ascending(uids)?);
    if numbers.count() != uids.count() {
        return Err(wrong("QRESYNC needs as many UIDs as message numbers"));
    }
    Ok((numbers, uids))
}

fn ascending(set: &SequenceSet) -> Result<Ranges, nom::Err<Fault>> {
    let mut last = 0;
    for range in ends(set) {
        let Some((low, high)) = range.filter(|(low, high)| last < *low && low <= high) else {
            return Err(wrong("QRESYNC needs message numbers and UIDs in ascending order"));
        };
        last = high.max(low);
    }
    plain(set)
}

#[cfg(test)]
mod tests;
