//! SEARCH's keys and result options (RFC 3501 section 6.4.4, RFC 4731, 5032, 5182, 7162, 8474, 8514), the keys read into a
//! tree of bounded depth and size.

use std::{borrow::Cow, num::NonZeroU32};

use chrono::NaiveDate;
use encoding_rs::Encoding;
use imap_codec::imap_types::{IntoStatic, flag::Flag, sequence::SequenceSet};
use nom::{
    Parser,
    branch::alt,
    bytes::complete::{tag_no_case, take_while_m_n, take_while1},
    character::complete::char,
    combinator::{cut, map, map_opt, opt, value, verify},
    sequence::{delimited, preceded, terminated},
};

use super::{
    Command,
    fetch::field_name,
    grammar::{
        Fault, Parsed, astring, atom, list0, message_set, number64, nz_number, quoted, sequence_set, sp, whole,
        word,
    },
};
use crate::imap::{set::MessageSet, write::Code};

/// A SEARCH command.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// What a message must be; several keys are one [`SearchKey::And`].
    pub key: SearchKey,
    /// The answer holds UIDs.
    pub uid: bool,
    /// CHARSET was given, which ENABLE UTF8=ACCEPT forbids (RFC 6855 section 3).
    pub charset: bool,
    /// What is to be told (RFC 4731); none: a plain answer.
    pub returns: Option<Returns>,
}

/// The result options of a search: RETURN (..) (RFC 4731 section 3.1, RFC 5182).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returns {
    /// MIN: the first message found.
    pub min: bool,
    /// MAX: the last one.
    pub max: bool,
    /// COUNT: how many there are.
    pub count: bool,
    /// ALL: which they are.
    pub all: bool,
    /// SAVE: keep them for `$`.
    pub save: bool,
}

/// One search key. Opposites (`UNSEEN`) are [`SearchKey::Not`]; header fields with a key of their own (`SUBJECT`) are
/// [`SearchKey::Header`]. Texts are in UTF-8 and match anywhere, in any case; dates ignore time and zone.
#[derive(Clone, Debug, PartialEq)]
pub enum SearchKey {
    /// Every message.
    All,
    /// All of these.
    And(Vec<SearchKey>),
    /// Either.
    Or(Box<SearchKey>, Box<SearchKey>),
    /// Not this.
    Not(Box<SearchKey>),
    /// Message numbers.
    Numbers(SequenceSet),
    /// UIDs.
    Uids(SequenceSet),
    /// `$`: what the last search saved (RFC 5182), as message numbers or after UID.
    Saved,
    /// A system flag or a keyword is set.
    Flag(Flag<'static>),
    /// `\Recent` is set.
    Recent,
    /// The header has a field of this name with this text in it; an empty text asks for the field alone.
    Header {
        /// The field's name, any case.
        name: String,
        /// The text.
        text: String,
    },
    /// The body has this text.
    Body(String),
    /// Header or body has this text.
    Text(String),
    /// More octets than this.
    Larger(u64),
    /// Fewer octets than this.
    Smaller(u64),
    /// The internal date is before this day.
    Before(NaiveDate),
    /// The internal date is this day.
    On(NaiveDate),
    /// The internal date is this day or later.
    Since(NaiveDate),
    /// The `Date` field is before this day.
    SentBefore(NaiveDate),
    /// The `Date` field is this day.
    SentOn(NaiveDate),
    /// The `Date` field is this day or later.
    SentSince(NaiveDate),
    /// The mod-sequence is this one or above (RFC 7162 section 3.1.5); 63 bits.
    Modseq(u64),
    /// The internal date lies so many seconds back, or more (RFC 5032).
    Older(NonZeroU32),
    /// The internal date lies so many seconds back, or less (RFC 5032).
    Younger(NonZeroU32),
    /// It came into the mailbox before this day (RFC 8514).
    SavedBefore(NaiveDate),
    /// It came into the mailbox on this day.
    SavedOn(NaiveDate),
    /// It came into the mailbox on this day or later.
    SavedSince(NaiveDate),
    /// The mailbox keeps the dates of [`SearchKey::SavedOn`].
    SaveDateSupported,
    /// The message has this EMAILID (RFC 8474).
    EmailId(String),
    /// The message has this THREADID (RFC 8474).
    ThreadId(String),
}

/// How large a SEARCH may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchLimits {
    /// Deepest nesting of OR, NOT and parentheses: reading and judging call themselves that often.
    pub depth: usize,
    /// Most keys, nested ones counted.
    pub keys: usize,
}

impl SearchKey {
    /// Whether any key in it is one of those that `is` picks.
    pub fn any(&self, is: &impl Fn(&Self) -> bool) -> bool {
        is(self)
            || match self {
                Self::And(keys) => keys.iter().any(|key| key.any(is)),
                Self::Or(one, other) => one.any(is) || other.any(is),
                Self::Not(inner) => inner.any(is),
                _ => false,
            }
    }
}

impl Default for SearchLimits {
    fn default() -> Self {
        Self { depth: 32, keys: 1000 }
    }
}

pub(super) fn search(arguments: &[u8], uid: bool, limits: SearchLimits) -> Result<Command, Fault> {
    let (rest, returns) = read(opt(returns), arguments)?;
    let charset = preceded((sp, tag_no_case("CHARSET"), sp), charset);
    let (key, charset) = read(opt(charset), rest)
        .and_then(|(rest, charset)| {
            let key = keys(rest, charset.unwrap_or(encoding_rs::UTF_8), limits)?;
            Ok((key, charset.is_some()))
        })
        .map_err(|fault| saving(returns, fault))?;
    Ok(Command::Search(Search { key, uid, charset, returns }))
}

/// ` charset 1*(SP search-key)` of SORT and THREAD (RFC 5256 section 5).
pub(super) fn criteria(i: &[u8], limits: SearchLimits) -> Result<SearchKey, Fault> {
    let (rest, charset) = read(preceded(sp, charset), i)?;
    keys(rest, charset, limits)
}

/// A search that would have saved what it found leaves nothing saved when it is refused.
pub(super) fn saving(returns: Option<Returns>, fault: Fault) -> Fault {
    if returns.is_some_and(|returns| returns.save) { fault.unsaving() } else { fault }
}

/// ` RETURN (..)`; without an option it means ALL (RFC 4731 section 3.1).
pub(super) fn returns(i: &[u8]) -> Parsed<'_, Returns> {
    let (rest, words) = preceded((sp, tag_no_case("RETURN"), sp), cut(list0(word))).parse(i)?;
    let mut returns = Returns { all: words.is_empty(), ..Returns::default() };
    for word in words {
        let option = match word.as_str() {
            "MIN" => &mut returns.min,
            "MAX" => &mut returns.max,
            "ALL" => &mut returns.all,
            "COUNT" => &mut returns.count,
            "SAVE" => &mut returns.save,
            _ => {
                return Err(nom::Err::Failure(Fault::syntax(
                    "Unknown result option; MIN, MAX, ALL, COUNT and SAVE are known",
                )));
            }
        };
        *option = true;
    }
    Ok((rest, returns))
}

/// What stands at the start of `i`, and what follows it.
pub(super) fn read<'a, T>(
    mut rule: impl Parser<&'a [u8], Output = T, Error = Fault>,
    i: &'a [u8],
) -> Result<(&'a [u8], T), Fault> {
    rule.parse(i).map_err(|error| match error {
        nom::Err::Error(fault) | nom::Err::Failure(fault) => fault,
        nom::Err::Incomplete(_) => Fault::syntax("The command is cut short"),
    })
}

fn keys(i: &[u8], charset: &'static Encoding, limits: SearchLimits) -> Result<SearchKey, Fault> {
    let mut reader = Reader { charset, keys_left: limits.keys };
    whole(preceded(sp, |i| reader.keys(i, limits.depth + 1)), i)
}

/// A charset's name: one we can decode, or NO [BADCHARSET].
fn charset(i: &[u8]) -> Parsed<'_, &'static Encoding> {
    let (rest, label) =
        alt((map(atom, |a| a.inner().as_bytes().to_vec()), map(quoted, |q| q.into_owned()))).parse(i)?;
    match Encoding::for_label_no_replacement(&label) {
        Some(encoding) => Ok((rest, encoding)),
        None => Err(nom::Err::Failure(Fault::no(Code::BadCharset, "That charset is not known here"))),
    }
}

/// Reads keys, counting them.
struct Reader {
    charset: &'static Encoding,
    keys_left: usize,
}

impl Reader {
    /// `search-key *(SP search-key)`
    fn keys<'a>(&mut self, i: &'a [u8], depth: usize) -> Parsed<'a, SearchKey> {
        let (mut rest, first) = self.key(i, depth)?;
        let mut all = vec![first];
        while let Some(more) = rest.strip_prefix(b" ") {
            let (after, key) = self.key(more, depth)?;
            all.push(key);
            rest = after;
        }
        match (all.len(), all.pop()) {
            (1, Some(only)) => Ok((rest, only)),
            (_, last) => {
                all.extend(last);
                Ok((rest, SearchKey::And(all)))
            }
        }
    }

    /// `search-key`. Calls itself at most [`SearchLimits::depth`] times deep, whatever the peer writes.
    fn key<'a>(&mut self, i: &'a [u8], depth: usize) -> Parsed<'a, SearchKey> {
        if depth == 0 {
            return Err(nom::Err::Failure(Fault::no(Code::Limit, "Search keys are nested too deep")));
        }
        self.keys_left = self
            .keys_left
            .checked_sub(1)
            .ok_or(nom::Err::Failure(Fault::no(Code::Limit, "Too many search keys in one SEARCH")))?;
        if let Some(inner) = i.strip_prefix(b"(") {
            let (rest, key) = self.keys(inner, depth - 1)?;
            let (rest, _) = char(')').parse(rest)?;
            return Ok((rest, key));
        }
        match i {
            [b'0'..=b'9' | b'*', ..] => return map(sequence_set, SearchKey::Numbers).parse(i),
            [b'$', rest @ ..] => return Ok((rest, SearchKey::Saved)),
            _ => {}
        }
        let (rest, name) = word(i)?;
        self.named(&name, rest, depth)
    }

    fn named<'a>(&mut self, name: &str, rest: &'a [u8], depth: usize) -> Parsed<'a, SearchKey> {
        let flag = |flag| Ok((rest, SearchKey::Flag(flag)));
        let lacks = |flag| Ok((rest, not(SearchKey::Flag(flag))));
        match name {
            "ALL" => Ok((rest, SearchKey::All)),
            "ANSWERED" => flag(Flag::Answered),
            "DELETED" => flag(Flag::Deleted),
            "DRAFT" => flag(Flag::Draft),
            "FLAGGED" => flag(Flag::Flagged),
            "SEEN" => flag(Flag::Seen),
            "UNANSWERED" => lacks(Flag::Answered),
            "UNDELETED" => lacks(Flag::Deleted),
            "UNDRAFT" => lacks(Flag::Draft),
            "UNFLAGGED" => lacks(Flag::Flagged),
            "UNSEEN" => lacks(Flag::Seen),
            "RECENT" => Ok((rest, SearchKey::Recent)),
            "OLD" => Ok((rest, not(SearchKey::Recent))),
            "NEW" => Ok((rest, SearchKey::And(vec![SearchKey::Recent, not(SearchKey::Flag(Flag::Seen))]))),
            "KEYWORD" => map(keyword, SearchKey::Flag).parse(rest),
            "UNKEYWORD" => map(keyword, |flag| not(SearchKey::Flag(flag))).parse(rest),
            "UID" => map(preceded(sp, message_set), |set| match set {
                MessageSet::Named(set) => SearchKey::Uids(set),
                MessageSet::Saved => SearchKey::Saved,
            })
            .parse(rest),
            "LARGER" => map(preceded(sp, number64), SearchKey::Larger).parse(rest),
            "SMALLER" => map(preceded(sp, number64), SearchKey::Smaller).parse(rest),
            "BEFORE" => map(date, SearchKey::Before).parse(rest),
            "ON" => map(date, SearchKey::On).parse(rest),
            "SINCE" => map(date, SearchKey::Since).parse(rest),
            "SENTBEFORE" => map(date, SearchKey::SentBefore).parse(rest),
            "SENTON" => map(date, SearchKey::SentOn).parse(rest),
            "SENTSINCE" => map(date, SearchKey::SentSince).parse(rest),
            "MODSEQ" => map(preceded(opt(entry), preceded(sp, number64)), SearchKey::Modseq).parse(rest),
            "OLDER" => map(preceded(sp, nz_number), SearchKey::Older).parse(rest),
            "YOUNGER" => map(preceded(sp, nz_number), SearchKey::Younger).parse(rest),
            "SAVEDBEFORE" => map(date, SearchKey::SavedBefore).parse(rest),
            "SAVEDON" => map(date, SearchKey::SavedOn).parse(rest),
            "SAVEDSINCE" => map(date, SearchKey::SavedSince).parse(rest),
            "SAVEDATESUPPORTED" => Ok((rest, SearchKey::SaveDateSupported)),
            "EMAILID" => map(object_id, SearchKey::EmailId).parse(rest),
            "THREADID" => map(object_id, SearchKey::ThreadId).parse(rest),
            "BCC" | "CC" | "FROM" | "SUBJECT" | "TO" => {
                let (rest, text) = self.text(rest)?;
                Ok((rest, SearchKey::Header { name: name.to_owned(), text }))
            }
            "HEADER" => {
                let (rest, name) = preceded(sp, field_name).parse(rest)?;
                let (rest, text) = self.text(rest)?;
                Ok((rest, SearchKey::Header { name, text }))
            }
            "BODY" => self.text(rest).map(|(rest, text)| (rest, SearchKey::Body(text))),
            "TEXT" => self.text(rest).map(|(rest, text)| (rest, SearchKey::Text(text))),
            "NOT" => {
                let (rest, key) = self.key(space(rest)?, depth - 1)?;
                Ok((rest, not(key)))
            }
            "OR" => {
                let (rest, one) = self.key(space(rest)?, depth - 1)?;
                let (rest, other) = self.key(space(rest)?, depth - 1)?;
                Ok((rest, SearchKey::Or(Box::new(one), Box::new(other))))
            }
            _ => Err(nom::Err::Failure(Fault::syntax("Unknown search key"))),
        }
    }

    /// ` astring` in the command's charset. Without CHARSET 8-bit text is taken for UTF-8, as most programs mean it.
    fn text<'a>(&self, i: &'a [u8]) -> Parsed<'a, String> {
        let (rest, bytes) = preceded(sp, astring).parse(i)?;
        match self.charset.decode_without_bom_handling_and_without_replacement(&bytes) {
            Some(text) => Ok((rest, text.into_owned())),
            None => Err(nom::Err::Failure(Fault::syntax("A text is not in the charset of the search"))),
        }
    }
}

fn not(key: SearchKey) -> SearchKey {
    SearchKey::Not(Box::new(key))
}

fn space(i: &[u8]) -> Result<&[u8], nom::Err<Fault>> {
    sp(i).map(|(rest, _)| rest)
}

fn keyword(i: &[u8]) -> Parsed<'_, Flag<'static>> {
    map(preceded(sp, atom), |atom| Flag::keyword(atom).into_static()).parse(i)
}

/// ` entry-name SP entry-type-req`: a message has one mod-sequence for all its flags, so that they mean nothing here
/// (RFC 7162 section 3.1.5).
fn entry(i: &[u8]) -> Parsed<'_, ()> {
    let kind = alt((tag_no_case("priv"), tag_no_case("shared"), tag_no_case("all")));
    let name = verify(quoted, |name: &Cow<'_, [u8]>| name.starts_with(b"/flags/"));
    value((), (sp, name, sp, kind)).parse(i)
}

/// ` objectid` (RFC 8474 section 7).
fn object_id(i: &[u8]) -> Parsed<'_, String> {
    let is_id = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    map(preceded(sp, take_while_m_n(1, 255, is_id)), |id: &[u8]| String::from_utf8_lossy(id).into_owned()).parse(i)
}

/// ` date`, quoted or not: `1-Feb-1994`.
fn date(i: &[u8]) -> Parsed<'_, NaiveDate> {
    preceded(sp, alt((date_text, delimited(char('"'), date_text, char('"'))))).parse(i)
}

fn date_text(i: &[u8]) -> Parsed<'_, NaiveDate> {
    let digits = |least, most| {
        map_opt(take_while_m_n(least, most, |b: u8| b.is_ascii_digit()), |d: &[u8]| {
            str::from_utf8(d).ok()?.parse::<u32>().ok()
        })
    };
    let parts = (terminated(digits(1, 2), char('-')), terminated(month, char('-')), digits(4, 4));
    map_opt(parts, |(day, month, year)| NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)).parse(i)
}

/// `Jan` to `Dec`, any case, as 1 to 12.
pub(super) fn month(i: &[u8]) -> Parsed<'_, u32> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    map_opt(take_while1(|b: u8| b.is_ascii_alphabetic()), |word: &[u8]| {
        (1..=12).zip(MONTHS).find(|(_, name)| name.eq_ignore_ascii_case(word)).map(|(number, _)| number)
    })
    .parse(i)
}
