//! The head of APPEND: all of it but the message (RFC 3501 section 6.3.11), which `frame` streams.

use chrono::NaiveDate;
use imap_codec::imap_types::flag::Flag;
use nom::{
    Parser,
    branch::alt,
    bytes::complete::take_while_m_n,
    character::complete::char,
    combinator::{all_consuming, map, map_opt, opt, value},
    sequence::{delimited, preceded, terminated},
};

use super::{
    grammar::{Fault, Parsed, flag_list, mailbox, sp},
    search::month,
};
use crate::imap::{
    bad::Bad,
    mailbox::{MailboxName, Names},
};
use crate::model::UnixTime;

/// What APPEND says before its message. The session answers with `Framer::accept` or `Framer::reject`.
#[derive(Clone, Debug, PartialEq)]
pub struct AppendHead {
    /// The command's tag.
    pub tag: String,
    /// Where the message goes.
    pub mailbox: MailboxName,
    /// Its flags, each once; as in STORE, `\Recent` and unknown system flags are `Flag::Extension`.
    pub flags: Vec<Flag<'static>>,
    /// Its internal date; the zone it was written in is not kept.
    pub date: Option<UnixTime>,
    /// Octets of the message.
    pub size: u64,
    /// The peer waits for `+` before it sends the message.
    pub waits: bool,
}

/// Reads the arguments between the verb and the message's `{`, a space at each end:
/// ` INBOX (\Seen) "17-Jul-1996 02:44:25 -0700" `. The tag, size and wait are the caller's to fill in.
pub(in crate::imap) fn head(
    arguments: &[u8],
    names: Names,
) -> Result<(MailboxName, Vec<Flag<'static>>, Option<UnixTime>), Bad> {
    let rule = (preceded(sp, mailbox(names)), opt(preceded(sp, flag_list)), opt(preceded(sp, date_time)));
    let (_, (mailbox, flags, date)) =
        all_consuming(terminated(rule, sp)).parse(arguments).map_err(|error| match error {
            nom::Err::Error(fault) | nom::Err::Failure(fault) => fault.bad(),
            nom::Err::Incomplete(_) => Fault::syntax("The command is cut short").bad(),
        })?;
    Ok((mailbox, flags.unwrap_or_default(), date))
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
