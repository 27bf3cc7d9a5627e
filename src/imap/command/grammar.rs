//! The words that our verbs are made of (RFC 3501 section 9), with nom 8 on complete input. Used by the other files of
//! this folder only.

use std::{borrow::Cow, num::NonZeroU32};

use imap_codec::imap_types::{
    IntoStatic,
    core::{Atom, Vec1},
    flag::Flag,
    sequence::{SeqOrUid, Sequence, SequenceSet},
    utils::indicators::{is_astring_char, is_atom_char},
};
use nom::{
    IResult, Parser,
    branch::alt,
    bytes::complete::{tag, take, take_while1},
    character::complete::{char, digit1},
    combinator::{map, map_opt, opt, value, verify},
    error::{ErrorKind, ParseError},
    multi::{separated_list0, separated_list1},
    sequence::{delimited, preceded, separated_pair, terminated},
};

use crate::imap::{
    bad::Bad,
    mailbox::{BadMailbox, MailboxName, Names},
    set::MessageSet,
    write::{Code, Status},
};

/// What is wrong with a command; the tag comes later.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    code: Option<Code<'static>>,
    text: &'static str,
    unsaves: bool,
}

/// What a grammar rule returns. `Err::Failure` is an answer already; `Err::Error` lets the next alternative try.
pub(super) type Parsed<'a, T> = IResult<&'a [u8], T, Fault>;

impl Fault {
    /// BAD: not the grammar.
    pub(super) const fn syntax(text: &'static str) -> Self {
        Self { code: None, text, unsaves: false }
    }

    /// NO: the grammar, but not to be done.
    pub(super) const fn no(code: Code<'static>, text: &'static str) -> Self {
        Self { code: Some(code), text, unsaves: false }
    }

    /// The same, of a SEARCH that would have saved what it found: a NO leaves nothing saved (RFC 5182 section 2.1).
    pub(super) fn unsaving(self) -> Self {
        Self { unsaves: self.code.is_some(), ..self }
    }

    /// As the answer that the session writes.
    pub(super) fn bad(self) -> Bad {
        let status = if self.code.is_some() { Status::No } else { Status::Bad };
        Bad { tag: None, status, code: self.code, text: self.text, fatal: false, unsaves: self.unsaves }
    }
}

impl ParseError<&[u8]> for Fault {
    fn from_error_kind(_: &[u8], _: ErrorKind) -> Self {
        Self::syntax("Arguments are not as this command needs them")
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

impl From<BadMailbox> for Fault {
    fn from(_: BadMailbox) -> Self {
        Self::no(Code::Cannot, "That is not a mailbox name this server can have")
    }
}

/// Runs a rule that must take everything up to the CRLF.
pub(super) fn whole<'a, T>(
    mut rule: impl Parser<&'a [u8], Output = T, Error = Fault>,
    input: &'a [u8],
) -> Result<T, Fault> {
    match rule.parse(input) {
        Ok((b"\r\n", found)) => Ok(found),
        Ok(_) => Err(Fault::syntax("Something follows the command's arguments")),
        Err(nom::Err::Error(fault) | nom::Err::Failure(fault)) => Err(fault),
        Err(nom::Err::Incomplete(_)) => Err(Fault::syntax("The command is cut short")),
    }
}

/// One space, exactly.
pub(super) fn sp(i: &[u8]) -> Parsed<'_, char> {
    char(' ').parse(i)
}

/// `( item SP item .. )`, possibly empty.
pub(super) fn list0<'a, T>(
    item: impl Parser<&'a [u8], Output = T, Error = Fault>,
) -> impl Parser<&'a [u8], Output = Vec<T>, Error = Fault> {
    delimited(char('('), separated_list0(sp, item), char(')'))
}

/// `( item SP item .. )`, at least one.
pub(super) fn list1<'a, T>(
    item: impl Parser<&'a [u8], Output = T, Error = Fault>,
) -> impl Parser<&'a [u8], Output = Vec<T>, Error = Fault> {
    delimited(char('('), separated_list1(sp, item), char(')'))
}

/// A word of letters, digits, `.` and `-`, in upper case: the names of items and keys.
pub(super) fn word(i: &[u8]) -> Parsed<'_, String> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    map_opt(take_while1(is_word), |word: &[u8]| {
        (word.len() <= 32).then(|| String::from_utf8_lossy(word).to_ascii_uppercase())
    })
    .parse(i)
}

/// `number`, 32 bits.
pub(super) fn number(i: &[u8]) -> Parsed<'_, u32> {
    map_opt(digit1, |digits: &[u8]| str::from_utf8(digits).ok()?.parse().ok()).parse(i)
}

/// `number64` of RFC 9051: 63 bits.
pub(super) fn number64(i: &[u8]) -> Parsed<'_, u64> {
    map_opt(digit1, |digits: &[u8]| str::from_utf8(digits).ok()?.parse().ok().filter(|n| i64::try_from(*n).is_ok()))
        .parse(i)
}

/// `mod-sequence-value` of RFC 7162: 63 bits, not zero.
pub(super) fn nz_number64(i: &[u8]) -> Parsed<'_, u64> {
    verify(number64, |number| *number > 0).parse(i)
}

/// `nz-number`.
pub(super) fn nz_number(i: &[u8]) -> Parsed<'_, NonZeroU32> {
    map_opt(number, NonZeroU32::new).parse(i)
}

/// `sequence-set`, kept as it is written.
pub(super) fn sequence_set(i: &[u8]) -> Parsed<'_, SequenceSet> {
    let number = |i| alt((map(nz_number, SeqOrUid::Value), value(SeqOrUid::Asterisk, char('*')))).parse(i);
    let range = map((number, opt(preceded(char(':'), number))), |(from, to)| match to {
        Some(to) => Sequence::Range(from, to),
        None => Sequence::Single(from),
    });
    map_opt(separated_list1(char(','), range), |list| Vec1::try_from(list).ok().map(SequenceSet)).parse(i)
}

/// `sequence-set` of a command: numbers, or `$` for what was saved (RFC 5182 section 3).
pub(super) fn message_set(i: &[u8]) -> Parsed<'_, MessageSet> {
    alt((value(MessageSet::Saved, char('$')), map(sequence_set, MessageSet::Named))).parse(i)
}

/// `atom`.
pub(super) fn atom(i: &[u8]) -> Parsed<'_, Atom<'_>> {
    map_opt(take_while1(is_atom_char), |word: &[u8]| Atom::try_from(word).ok()).parse(i)
}

/// `astring`: a bare word, a quoted string or a literal.
pub(super) fn astring(i: &[u8]) -> Parsed<'_, Cow<'_, [u8]>> {
    alt((map(take_while1(is_astring_char), Cow::Borrowed), string)).parse(i)
}

/// `string`: quoted or literal. 8-bit bytes may stand in a quoted string too, where the use of the string allows them.
pub(super) fn string(i: &[u8]) -> Parsed<'_, Cow<'_, [u8]>> {
    alt((quoted, map(literal, Cow::Borrowed))).parse(i)
}

/// A quoted string without its quotes and backslashes.
pub(super) fn quoted(i: &[u8]) -> Parsed<'_, Cow<'_, [u8]>> {
    let wrong = || nom::Err::Error(Fault::from_error_kind(i, ErrorKind::Escaped));
    let (body, _) = char('"').parse(i)?;
    let end = body.iter().position(|b| matches!(b, b'"' | b'\\' | b'\r' | b'\n' | 0)).ok_or_else(wrong)?;
    if let (Some(plain), Some((b'"', rest))) = (body.get(..end), body.get(end..).and_then(<[u8]>::split_first)) {
        return Ok((rest, Cow::Borrowed(plain)));
    }
    let mut text = Vec::with_capacity(body.len().min(256));
    let mut bytes = body.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Ok((body.get(at + 1..).unwrap_or_default(), Cow::Owned(text))),
            b'\\' => match bytes.next() {
                Some((_, special @ (b'"' | b'\\'))) => text.push(*special),
                _ => return Err(wrong()),
            },
            b'\r' | b'\n' | 0 => return Err(wrong()),
            byte => text.push(*byte),
        }
    }
    Err(wrong())
}

/// A literal that is already there in full; never with NUL (RFC 3501 section 9, `CHAR8`).
fn literal(i: &[u8]) -> Parsed<'_, &[u8]> {
    let head = delimited(char('{'), terminated(number, opt(char('+'))), tag("}\r\n"));
    let (rest, length) = head.map(|n| n as usize).parse(i)?;
    let (rest, bytes) = take(length).parse(rest)?;
    if bytes.contains(&0) {
        return Err(nom::Err::Failure(Fault::syntax("A string may not hold NUL")));
    }
    Ok((rest, bytes))
}

/// `mailbox`.
pub(super) fn mailbox<'a>(names: Names) -> impl Parser<&'a [u8], Output = MailboxName, Error = Fault> {
    move |i: &'a [u8]| {
        let (rest, wire) = astring(i)?;
        Ok((rest, MailboxName::read(&wire, names).map_err(|problem| nom::Err::Failure(problem.into()))?))
    }
}

/// Longest keyword that is ever read, in bytes. What is kept is the mail store's to say.
const MAX_KEYWORD: usize = 250;

/// `flag`.
pub(super) fn flag(i: &[u8]) -> Parsed<'_, Flag<'static>> {
    let (rest, (system, name)) = (opt(char('\\')), atom).parse(i)?;
    if name.inner().len() > MAX_KEYWORD {
        return Err(nom::Err::Failure(Fault::no(Code::Limit, "The keyword is too long")));
    }
    let flag = if system.is_some() { Flag::system(name) } else { Flag::keyword(name) };
    Ok((rest, flag.into_static()))
}

/// `flag-list`: each flag once, the first spelling of a keyword kept.
pub(super) fn flag_list(i: &[u8]) -> Parsed<'_, Vec<Flag<'static>>> {
    map(list0(flag), each_once).parse(i)
}

/// `flag *(SP flag)`, as STORE also takes them.
pub(super) fn bare_flags(i: &[u8]) -> Parsed<'_, Vec<Flag<'static>>> {
    map(separated_list1(sp, flag), each_once).parse(i)
}

/// Keywords are the same in any case (RFC 3501 section 2.3.2 leaves it open; programs mix `$Junk` and `$junk`).
fn each_once(flags: Vec<Flag<'static>>) -> Vec<Flag<'static>> {
    let mut seen = std::collections::HashSet::with_capacity(flags.len());
    flags.into_iter().filter(|flag| seen.insert(flag.to_string().to_ascii_lowercase())).collect()
}

/// `"<" number "." nz-number ">"`.
pub(super) fn partial(i: &[u8]) -> Parsed<'_, (u32, NonZeroU32)> {
    delimited(char('<'), separated_pair(number, char('.'), nz_number), char('>')).parse(i)
}
