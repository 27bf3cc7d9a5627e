//! The heads of APPEND and REPLACE: all of them but the messages (RFC 3501 section 6.3.11, RFC 3502, RFC 3516, RFC 6855
//! section 4, RFC 8508), which `frame` streams.

use std::num::NonZeroU32;

use chrono::NaiveDate;
use imap_codec::imap_types::flag::Flag;
use nom::{
    Parser,
    branch::alt,
    bytes::complete::{tag_no_case, take_while_m_n},
    character::complete::char,
    combinator::{all_consuming, map, map_opt, opt, value},
    sequence::{delimited, preceded, terminated},
};

use super::{
    Verb,
    grammar::{Fault, Parsed, flag_list, mailbox, nz_number, sp},
    search::month,
};
use crate::imap::{
    bad::Bad,
    mailbox::{MailboxName, Names},
};
use crate::model::UnixTime;

/// What APPEND or REPLACE says before its first message. The session answers with `Framer::accept` or
/// `Framer::reject`.
#[derive(Clone, Debug, PartialEq)]
pub struct AppendHead {
    /// The command's tag.
    pub tag: String,
    /// REPLACE and UID REPLACE: the message that the new one takes the place of.
    pub replaces: Option<Replaced>,
    /// Where the messages go.
    pub mailbox: MailboxName,
    /// The first message.
    pub message: MessageHead,
}

/// The message that REPLACE removes, in the mailbox that is open (RFC 8508 section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Its number; none is `*`, the last message.
    pub number: Option<NonZeroU32>,
    /// The number is a UID.
    pub uid: bool,
}

/// What is said of one message before its octets (`append-message` of RFC 3502).
#[derive(Clone, Debug, PartialEq)]
pub struct MessageHead {
    /// Its flags, each once; as in STORE, `\Recent` and unknown system flags are `Flag::Extension`.
    pub flags: Vec<Flag<'static>>,
    /// Its internal date; the zone it was written in is not kept.
    pub date: Option<UnixTime>,
    /// How it is sent.
    pub form: Form,
    /// Octets of the message.
    pub size: u64,
    /// The peer waits for `+` before it sends the message.
    pub waits: bool,
}

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{n}`: no NUL in it.
    Literal,
    /// `~{n}` (RFC 3516 section 4.4): any octets.
    Binary,
    /// `UTF8 (~{n}` and, behind the octets, `)` (RFC 6855 section 4): the header may be UTF-8.
    Utf8,
}

/// What stands before a message's `{` or `~{`.
#[derive(Debug, PartialEq)]
pub(in crate::imap) struct Options {
    pub(in crate::imap) flags: Vec<Flag<'static>>,
    pub(in crate::imap) date: Option<UnixTime>,
    pub(in crate::imap) form: Form,
}

impl Options {
    /// With the octets that were announced.
    pub(in crate::imap) fn of(self, size: u64, waits: bool) -> MessageHead {
        let Self { flags, date, form } = self;
        MessageHead { flags, date, form, size, waits }
    }
}

/// What stands before the first message of a command.
pub(in crate::imap) type Start = (Option<Replaced>, MailboxName, Options);

/// Reads the arguments between the verb and a literal, a space at each end:
/// ` INBOX (\Seen) "17-Jul-1996 02:44:25 -0700" `. Nothing if that literal is no message but an argument that
/// `frame` gathers, as of every verb but APPEND and REPLACE; `binary` says that it is written `~{n}`.
pub(in crate::imap) fn start(
    verb: &Verb,
    arguments: &[u8],
    binary: bool,
    names: Names,
) -> Option<Result<Start, Bad>> {
    let uid = verb.upper() == "UID";
    let rest = match verb.upper() {
        "APPEND" | "REPLACE" => arguments,
        "UID" => match Verb::read(arguments.strip_prefix(b" ")?)? {
            (verb, rest) if verb.upper() == "REPLACE" => rest,
            _ => return None,
        },
        _ => return None,
    };
    let replace = uid || verb.upper() == "REPLACE";
    // The mailbox's name itself is the literal.
    let named =
        if replace { all_consuming(terminated(replaced(uid), sp)).parse(rest).is_err() } else { rest != b" " };
    if !named {
        return None;
    }
    let old = |i| if replace { map(replaced(uid), Some).parse(i) } else { Ok((i, None)) };
    let all = (old, preceded(sp, mailbox(names)), options(binary));
    Some(read(all, rest))
}

/// Reads what stands between two messages of APPEND: ` (\Seen) `.
pub(in crate::imap) fn next(arguments: &[u8], binary: bool) -> Result<Options, Bad> {
    read(options(binary), arguments)
}

fn read<'a, T>(rule: impl Parser<&'a [u8], Output = T, Error = Fault>, arguments: &'a [u8]) -> Result<T, Bad> {
    match all_consuming(rule).parse(arguments) {
        Ok((_, found)) => Ok(found),
        Err(nom::Err::Error(fault) | nom::Err::Failure(fault)) => Err(fault.bad()),
        Err(nom::Err::Incomplete(_)) => Err(Fault::syntax("The command is cut short").bad()),
    }
}

/// ` 4`: `seq-number`.
fn replaced<'a>(uid: bool) -> impl Parser<&'a [u8], Output = Replaced, Error = Fault> {
    let number = alt((map(nz_number, Some), value(None, char('*'))));
    map(preceded(sp, number), move |number| Replaced { number, uid })
}

/// `append-opts`, and the `UTF8 (` of a message in that form, up to its `~`.
fn options<'a>(binary: bool) -> impl Parser<&'a [u8], Output = Options, Error = Fault> {
    let utf8 = map_opt(opt(tag_no_case("UTF8 (")), move |utf8| match (utf8.is_some(), binary) {
        (true, true) => Some(Form::Utf8),
        (true, false) => None,
        (false, true) => Some(Form::Binary),
        (false, false) => Some(Form::Literal),
    });
    let all = (opt(preceded(sp, flag_list)), opt(preceded(sp, date_time)), preceded(sp, utf8));
    map(all, |(flags, date, form)| Options { flags: flags.unwrap_or_default(), date, form })
}

/// `date-time`: `"17-Jul-1996 02:44:25 -0700"`, the day with a leading space or zero.
fn date_time(i: &[u8]) -> Parsed<'_, UnixTime> {
    let two = |i| map_opt(take_while_m_n(2, 2, |b: u8| b.is_ascii_digit()), decimal).parse(i);
    let day = alt((preceded(sp, map_opt(take_while_m_n(1, 1, |b: u8| b.is_ascii_digit()), decimal)), two));
    let year = map_opt(take_while_m_n(4, 4, |b: u8| b.is_ascii_digit()), decimal);
    let date = map_opt((terminated(day, char('-')), terminated(month, char('-')), year), |(day, month, year)| {
        NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)
    });
    let time = (terminated(two, char(':')), terminated(two, char(':')), two);
    let sign = alt((value(1, char('+')), value(-1, char('-'))));
    let zone = map((sign, two, two), |(sign, hours, minutes): (i64, u32, u32)| {
        sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60)
    });
    let parts = (terminated(date, sp), terminated(time, sp), zone);
    let (rest, (date, (hour, minute, second), offset)) = delimited(char('"'), parts, char('"')).parse(i)?;
    let local = date.and_hms_opt(hour, minute, second).filter(|_| offset.abs() < 86_400);
    let local = local.ok_or(nom::Err::Failure(Fault::syntax("There is no such date and time")))?;
    Ok((rest, UnixTime::from_secs(local.and_utc().timestamp() - offset)))
}

fn decimal(digits: &[u8]) -> Option<u32> {
    str::from_utf8(digits).ok()?.parse().ok()
}
