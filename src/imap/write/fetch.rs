//! FETCH responses, item by item (RFC 3501 section 7.4.2), so that a body can be streamed between two items.

use bytes::BytesMut;
use chrono::{DateTime, Datelike, Timelike};

use super::{data::put_list, literal_head, octets, put, string};
use crate::imap::command::{Section, SectionText};
use crate::model::UnixTime;

/// One `* n FETCH (..)` being written. Between two calls nothing but this response may be written.
///
/// [`FetchLine::item`] starts any item: the caller then writes its value with the functions of this module, or streams a
/// literal after [`literal_head`].
#[derive(Debug)]
#[must_use = "a FETCH response has to be ended"]
pub struct FetchLine {
    first: bool,
}

impl FetchLine {
    /// `* number FETCH (`
    pub fn start(out: &mut BytesMut, number: u32) -> Self {
        put(out, format_args!("* {number} FETCH ("));
        Self { first: true }
    }

    /// Starts an item called `name` (`ENVELOPE`, `BODYSTRUCTURE`, `RFC822.HEADER`, ..), a space behind it.
    pub fn item(&mut self, out: &mut BytesMut, name: &str) {
        if !self.first {
            out.extend_from_slice(b" ");
        }
        self.first = false;
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b" ");
    }

    /// `UID n`
    pub fn uid(&mut self, out: &mut BytesMut, uid: u32) {
        self.item(out, "UID");
        put(out, format_args!("{uid}"));
    }

    /// `FLAGS (..)`
    pub fn flags<'a>(&mut self, out: &mut BytesMut, flags: impl IntoIterator<Item = &'a str>) {
        self.item(out, "FLAGS");
        put_list(out, flags);
    }

    /// `RFC822.SIZE n`, in octets.
    pub fn size(&mut self, out: &mut BytesMut, octets: u64) {
        self.item(out, "RFC822.SIZE");
        put(out, format_args!("{octets}"));
    }

    /// `INTERNALDATE ".."`, in UTC.
    pub fn internal_date(&mut self, out: &mut BytesMut, time: UnixTime) {
        self.item(out, "INTERNALDATE");
        date_time(out, time);
    }

    /// `MODSEQ (n)` (RFC 7162 section 3.1.4.2).
    pub fn modseq(&mut self, out: &mut BytesMut, modseq: u64) {
        self.item(out, "MODSEQ");
        put(out, format_args!("({modseq})"));
    }

    /// `SAVEDATE ".."`, in UTC (RFC 8514).
    pub fn save_date(&mut self, out: &mut BytesMut, time: UnixTime) {
        self.item(out, "SAVEDATE");
        date_time(out, time);
    }

    /// `EMAILID (M..)` (RFC 8474).
    pub fn email_id(&mut self, out: &mut BytesMut, id: u64) {
        self.item(out, "EMAILID");
        put(out, format_args!("({})", email_id(id)));
    }

    /// `THREADID NIL`: messages are not put together here (RFC 8474 section 5.2).
    pub fn no_thread_id(&mut self, out: &mut BytesMut) {
        self.item(out, "THREADID");
        out.extend_from_slice(b"NIL");
    }

    /// `BODY[section]<origin> `: the name of the item as it was asked for; its value follows. `origin` is given where
    /// the peer asked for a part of it.
    pub fn section(&mut self, out: &mut BytesMut, section: &Section, origin: Option<u32>) {
        if !self.first {
            out.extend_from_slice(b" ");
        }
        self.first = false;
        out.extend_from_slice(b"BODY[");
        put_section(out, section);
        out.extend_from_slice(b"]");
        if let Some(origin) = origin {
            put(out, format_args!("<{origin}>"));
        }
        out.extend_from_slice(b" ");
    }

    /// `BINARY[part]<origin> ` or, with `size`, `BINARY.SIZE[part] ` (RFC 3516 section 4.3): its value follows.
    pub fn binary(&mut self, out: &mut BytesMut, part: &[u32], origin: Option<u32>, size: bool) {
        if !self.first {
            out.extend_from_slice(b" ");
        }
        self.first = false;
        out.extend_from_slice(if size { b"BINARY.SIZE[" } else { b"BINARY[" });
        put_part(out, part);
        out.extend_from_slice(b"]");
        if let Some(origin) = origin {
            put(out, format_args!("<{origin}>"));
        }
        out.extend_from_slice(b" ");
    }

    /// A whole small section, as a literal.
    pub fn section_bytes(&mut self, out: &mut BytesMut, section: &Section, origin: Option<u32>, bytes: &[u8]) {
        self.section(out, section, origin);
        literal_head(out, bytes.len() as u64);
        octets(out, bytes);
    }

    /// `)` and CRLF.
    pub fn end(self, out: &mut BytesMut) {
        out.extend_from_slice(b")\r\n");
    }
}

/// A message's EMAILID as it is written: `M` and 16 hexadecimal digits.
pub fn email_id(id: u64) -> String {
    format!("M{id:016x}")
}

fn put_part(out: &mut BytesMut, part: &[u32]) {
    for (at, number) in part.iter().enumerate() {
        put(out, format_args!("{}{number}", if at == 0 { "" } else { "." }));
    }
}

fn put_section(out: &mut BytesMut, section: &Section) {
    put_part(out, &section.part);
    let (word, names): (&str, &[String]) = match &section.text {
        SectionText::All => return,
        SectionText::Header => ("HEADER", &[]),
        SectionText::HeaderFields(names) => ("HEADER.FIELDS", names),
        SectionText::HeaderFieldsNot(names) => ("HEADER.FIELDS.NOT", names),
        SectionText::Text => ("TEXT", &[]),
        SectionText::Mime => ("MIME", &[]),
    };
    put(out, format_args!("{}{word}", if section.part.is_empty() { "" } else { "." }));
    for (at, name) in names.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b" (" } else { b" " });
        if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            out.extend_from_slice(name.as_bytes());
        } else {
            string(out, name.as_bytes());
        }
    }
    if !names.is_empty() {
        out.extend_from_slice(b")");
    }
}

/// `"17-Jul-1996 02:44:25 +0000"`, quotes included: RFC 3501's `date-time`, in UTC. Years outside 0 to 9999 are shown
/// as 1970.
pub fn date_time(out: &mut BytesMut, time: UnixTime) {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let date = DateTime::from_timestamp(time.secs(), 0).unwrap_or_default();
    let date = if (0..=9999).contains(&date.year()) { date } else { DateTime::UNIX_EPOCH };
    let month = MONTHS.get(date.month0() as usize).copied().unwrap_or("Jan");
    put(
        out,
        format_args!(
            "\"{:02}-{month}-{:04} {:02}:{:02}:{:02} +0000\"",
            date.day(),
            date.year(),
            date.hour(),
            date.minute(),
            date.second()
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::write::{binary_head, nstring, number, read_back};

    #[test]
    fn a_fetch_response_is_read_by_another_codec() {
        let mut out = BytesMut::new();
        let fields = Section {
            part: vec![1, 2],
            text: SectionText::HeaderFields(vec!["Date".into(), "X Odd".into(), "From".into()]),
        };
        let mut line = FetchLine::start(&mut out, 3);
        line.uid(&mut out, 77);
        line.flags(&mut out, ["\\Seen", "$Junk", "\\Recent"]);
        line.size(&mut out, 45);
        line.internal_date(&mut out, UnixTime::from_secs(837_571_465));
        line.section_bytes(&mut out, &fields, None, b"Date: x\r\n\r\n");
        line.section_bytes(&mut out, &Section::default(), Some(5), b"");
        line.section(&mut out, &Section { part: vec![2], text: SectionText::Mime }, None);
        nstring(&mut out, None);
        line.item(&mut out, "RFC822.TEXT");
        nstring(&mut out, Some(b"hi"));
        line.end(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "* 3 FETCH (UID 77 FLAGS (\\Seen $Junk \\Recent) RFC822.SIZE 45 INTERNALDATE \"17-Jul-1996 02:44:25 \
             +0000\" BODY[1.2.HEADER.FIELDS (Date \"X Odd\" From)] {11}\r\nDate: x\r\n\r\n BODY[]<5> {0}\r\n \
             BODY[2.MIME] NIL RFC822.TEXT \"hi\")\r\n"
        );
        assert!(read_back(&out).ends_with("rest 0"), "{}", read_back(&out));
    }

    #[test]
    fn a_binary_part_says_which_it_is_and_what_it_holds() {
        let mut out = BytesMut::new();
        let mut line = FetchLine::start(&mut out, 7);
        line.binary(&mut out, &[1, 2], None, true);
        number(&mut out, 5_000_000_000);
        line.binary(&mut out, &[], Some(3), false);
        binary_head(&mut out, 3);
        out.extend_from_slice(b"a\0b");
        line.binary(&mut out, &[4], None, false);
        nstring(&mut out, None);
        line.end(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "* 7 FETCH (BINARY.SIZE[1.2] 5000000000 BINARY[]<3> ~{3}\r\na\0b BINARY[4] NIL)\r\n"
        );
    }

    #[test]
    fn a_date_has_two_digits_for_the_day_and_four_for_the_year() {
        let cases = [
            (0, "\"01-Jan-1970 00:00:00 +0000\""),
            (951_782_400, "\"29-Feb-2000 00:00:00 +0000\""),
            (-1, "\"31-Dec-1969 23:59:59 +0000\""),
            (i64::MAX / 1000, "\"01-Jan-1970 00:00:00 +0000\""),
        ];
        for (secs, expected) in cases {
            let mut out = BytesMut::new();
            date_time(&mut out, UnixTime::from_secs(secs));
            assert_eq!(out, expected.as_bytes(), "{secs}");
        }
    }
}
