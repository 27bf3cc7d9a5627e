//! Reading an mbox, message by message: `From ` lines apart from text that looks like them, flags from the headers that
//! mail programs keep them in (`Status`, `X-Status`, `X-Keywords`, `X-UID`), which are not part of the message.
//! Source: RFC 4155 appendix A, and <https://www.loc.gov/preservation/digital/formats/fdd/fdd000383.shtml> for mboxrd and
//! mboxo; Dovecot's and UW-IMAP's use of the headers.

use std::io::{self, BufRead};

use chrono::NaiveDateTime;

use crate::maildir::flags::Flags;
use crate::model::UnixTime;

/// Longest header block that is read, in bytes (threats.md section 6).
const MAX_HEADER: usize = 10 * 1024 * 1024;
/// Longest piece of a line that is given out at once, in bytes.
const MAX_PIECE: u64 = 64 * 1024;

/// How lines of a message that begin with `From ` were written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoting {
    /// `From ` became `>From `, and `>From ` became `>>From `: undone exactly.
    Rd,
    /// Only `From ` became `>From `.
    O,
}

/// What stands before a message's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MboxMessage {
    /// Its header block with the empty line that ends it, without what is kept in `flags` and so on.
    pub header: Vec<u8>,
    /// The date of its `From ` line.
    pub date: Option<UnixTime>,
    /// System flags.
    pub flags: Flags,
    /// Keywords.
    pub keywords: Vec<String>,
    /// `X-UID`.
    pub uid: Option<u32>,
    /// UIDVALIDITY and the last UID given out, which the first message carries (`X-IMAPbase`).
    pub base: Option<(u32, u32)>,
    /// Not a message but what a program keeps for itself (`DON'T DELETE THIS MESSAGE`).
    pub internal: bool,
}

/// An mbox that is read from its start, or from where an earlier run came to.
pub struct Mbox<R> {
    reader: R,
    quoting: Quoting,
    /// Bytes read so far.
    at: u64,
    /// A `From ` line that was read already, and where it stood.
    next: Option<(u64, Option<UnixTime>)>,
    /// An empty line that may belong to the message, or to the end of it.
    held: Vec<u8>,
    /// What comes after a held line that was given out.
    ready: Option<Vec<u8>>,
    /// The piece before did not end its line.
    inside: bool,
    ended: bool,
}

impl<R: BufRead> Mbox<R> {
    /// Begins at byte `at` of the file, where `reader` stands: at a `From ` line, or the end.
    ///
    /// # Errors
    /// What reading says; `InvalidData` if no message begins there.
    pub fn new(reader: R, at: u64, quoting: Quoting) -> io::Result<Self> {
        let mut mbox =
            Self { reader, quoting, at, next: None, held: Vec::new(), ready: None, inside: false, ended: false };
        loop {
            let start = mbox.at;
            let line = mbox.piece()?;
            if line.is_empty() {
                mbox.ended = true;
                return Ok(mbox);
            }
            if let Some(date) = from_line(&line) {
                mbox.next = Some((start, date));
                return Ok(mbox);
            }
            if !is_blank(&line) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("no message begins at byte {start}"),
                ));
            }
        }
    }

    /// Where the next message begins, in bytes; the end of the file after the last one. To be asked between messages.
    pub fn at(&self) -> u64 {
        self.next.as_ref().map_or(self.at, |(at, _)| *at)
    }

    /// The next message's header; [`Mbox::line`] then gives its text. Nothing at the end.
    ///
    /// # Errors
    /// What reading says; `InvalidData` for a header of more than 10 MiB.
    pub fn message(&mut self) -> io::Result<Option<MboxMessage>> {
        while self.line()?.is_some() {}
        let Some((_, date)) = self.next.take() else { return Ok(None) };
        self.ended = false;
        let (mut message, mut fields) = (MboxMessage { date, ..MboxMessage::default() }, Vec::new());
        let mut size = 0;
        let mut field: Vec<u8> = Vec::new();
        loop {
            let line = self.line()?;
            let ends = line.as_ref().is_none_or(|line| is_blank(line));
            let folded = line.as_ref().is_some_and(|line| line.starts_with(b" ") || line.starts_with(b"\t"));
            if !folded && !field.is_empty() {
                fields.push(std::mem::take(&mut field));
            }
            let Some(line) = line else {
                // A message without text: its empty line was taken for the one that ends it.
                fields.push(b"\n".to_vec());
                break;
            };
            size += line.len();
            if size > MAX_HEADER {
                let problem = format!("the message before byte {} has a header of more than 10 MiB", self.at);
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            if ends {
                fields.push(line);
                break;
            }
            field.extend_from_slice(&line);
        }
        for field in fields {
            if !message.note(&field) {
                message.header.extend_from_slice(&field);
            }
        }
        Ok(Some(message))
    }

    /// The next piece of the message's text, a line at most; nothing at its end.
    ///
    /// # Errors
    /// What reading says.
    pub fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.ready.is_some() {
            return Ok(self.ready.take());
        }
        while self.next.is_none() && !self.ended {
            let (start, inside) = (self.at, self.inside);
            let mut piece = self.piece()?;
            self.inside = !piece.is_empty() && !piece.ends_with(b"\n");
            if piece.is_empty() {
                // The empty line before the end belongs to the mbox.
                self.held.clear();
                self.ended = true;
                break;
            }
            if !inside
                && !self.held.is_empty()
                && let Some(date) = from_line(&piece)
            {
                self.held.clear();
                self.next = Some((start, date));
                break;
            }
            let before = std::mem::take(&mut self.held);
            if !inside && is_blank(&piece) {
                self.held = piece;
                if before.is_empty() {
                    continue;
                }
                return Ok(Some(before));
            }
            if !inside && self.is_quoted(&piece) {
                piece.remove(0);
            }
            if before.is_empty() {
                return Ok(Some(piece));
            }
            self.ready = Some(piece);
            return Ok(Some(before));
        }
        Ok(None)
    }

    fn is_quoted(&self, line: &[u8]) -> bool {
        let quotes = line.iter().take_while(|byte| **byte == b'>').count();
        let from = line.get(quotes..).is_some_and(|rest| rest.starts_with(b"From "));
        from && match self.quoting {
            Quoting::Rd => quotes > 0,
            Quoting::O => quotes == 1,
        }
    }

    /// Up to the end of the line, or a part of a long one.
    fn piece(&mut self) -> io::Result<Vec<u8>> {
        let mut piece = Vec::new();
        io::Read::take(&mut self.reader, MAX_PIECE).read_until(b'\n', &mut piece)?;
        self.at += piece.len() as u64;
        Ok(piece)
    }
}

impl MboxMessage {
    /// Takes in a header field that is not the message's own; whether it was one.
    fn note(&mut self, field: &[u8]) -> bool {
        let text = String::from_utf8_lossy(field);
        let Some((name, value)) = text.split_once(':') else { return false };
        let value = value.trim();
        let mut letters = |known: &[(char, Flags)]| {
            let flags = known.iter().filter(|(letter, _)| value.contains(*letter)).map(|(_, flag)| *flag);
            self.flags = flags.fold(self.flags, Flags::union);
        };
        match name.to_ascii_lowercase().as_str() {
            "status" => letters(&[('R', Flags::SEEN)]),
            "x-status" => letters(&[
                ('A', Flags::ANSWERED),
                ('F', Flags::FLAGGED),
                ('T', Flags::DRAFT),
                ('D', Flags::DELETED),
            ]),
            "x-keywords" => self.keywords.extend(value.split_whitespace().map(str::to_owned)),
            "x-uid" => self.uid = value.parse().ok().filter(|uid| *uid > 0),
            "x-imapbase" | "x-imap" => {
                let mut words = value.split_whitespace().map_while(|word| word.parse::<u32>().ok());
                self.base = words.next().zip(words.next()).filter(|(validity, _)| *validity > 0);
                self.internal |= name.eq_ignore_ascii_case("x-imap");
            }
            "content-length" => {}
            _ => return false,
        }
        true
    }
}

fn is_blank(line: &[u8]) -> bool {
    line == b"\n" || line == b"\r\n"
}

/// Whether a line is `From address date`, and the date, in UTC as such lines say no more. Text that only begins with
/// `From ` has no date at its end.
fn from_line(line: &[u8]) -> Option<Option<UnixTime>> {
    let text = str::from_utf8(line.strip_prefix(b"From ")?).ok()?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let time = words.iter().rposition(|word| {
        let mut parts = word.split(':');
        (2..=3).contains(&word.split(':').count())
            && parts.all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()))
    })?;
    let (month, day) = (words.get(time.checked_sub(2)?)?, words.get(time.checked_sub(1)?)?);
    // The year comes after the time, and after a zone where there is one.
    let year = words.iter().skip(time + 1).take(2).find(|word| word.len() == 4 && word.parse::<u32>().is_ok())?;
    day.parse::<u32>().ok()?;
    let clock = words.get(time)?;
    let clock = if clock.len() == 5 { format!("{clock}:00") } else { (*clock).to_owned() };
    let date = format!("{day} {month} {year} {clock}");
    let date = NaiveDateTime::parse_from_str(&date, "%d %b %Y %H:%M:%S").ok()?;
    Some(Some(UnixTime::from_secs(date.and_utc().timestamp())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str, quoting: Quoting) -> Vec<(MboxMessage, String)> {
        let mut mbox = Mbox::new(text.as_bytes(), 0, quoting).unwrap();
        let mut found = Vec::new();
        while let Some(message) = mbox.message().unwrap() {
            let mut body = Vec::new();
            while let Some(line) = mbox.line().unwrap() {
                body.extend(line);
            }
            found.push((message, String::from_utf8(body).unwrap()));
        }
        assert_eq!(mbox.at(), text.len() as u64);
        found
    }

    const TWO: &str = "From a@b Wed Nov  4 10:11:12 2026\nSubject: one\nStatus: RO\nX-Status: AF\nX-UID: 5\n\
                       X-IMAPbase: 17 9 junk\nX-Keywords: $Label1 later\n\n>From here\n>>From there\nFrom nobody\n\n\n\
                       From - Thu Nov 05 01:02:03 2026\nSubject: two\nX-Folded: a\n b\n\nend\n\n";

    #[test]
    fn messages_are_told_apart_and_their_flags_are_read() {
        let found = all(TWO, Quoting::Rd);
        let [(one, body), (two, other)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(one.header, b"Subject: one\n\n");
        assert_eq!(body, "From here\n>From there\nFrom nobody\n\n");
        assert_eq!(
            (one.flags, one.uid, one.base),
            (Flags::SEEN.union(Flags::ANSWERED).union(Flags::FLAGGED), Some(5), Some((17, 9)))
        );
        assert_eq!(one.keywords, ["$Label1", "later"]);
        assert_eq!(one.date.map(|date| date.to_string()).as_deref(), Some("2026-11-04T10:11:12Z"));
        assert_eq!((two.header.as_slice(), other.as_str()), (&b"Subject: two\nX-Folded: a\n b\n\n"[..], "end\n"));
        let found = all(TWO, Quoting::O);
        assert!(found.first().is_some_and(|(_, body)| body == "From here\n>>From there\nFrom nobody\n\n"));
    }

    #[test]
    fn reading_goes_on_where_it_was_left() {
        let mut mbox = Mbox::new(TWO.as_bytes(), 0, Quoting::Rd).unwrap();
        mbox.message().unwrap();
        while mbox.line().unwrap().is_some() {}
        let at = mbox.at();
        let rest = TWO.get(usize::try_from(at).unwrap()..).unwrap();
        let mut mbox = Mbox::new(rest.as_bytes(), at, Quoting::Rd).unwrap();
        assert_eq!(mbox.message().unwrap().unwrap().header, b"Subject: two\nX-Folded: a\n b\n\n");
        assert!(mbox.message().unwrap().is_none());
        assert_eq!(mbox.at(), TWO.len() as u64);
        assert!(Mbox::new(&b"Subject: x\n"[..], 7, Quoting::Rd).is_err());
        assert!(Mbox::new(&b""[..], 7, Quoting::Rd).unwrap().message().unwrap().is_none());
    }

    #[test]
    fn only_a_line_with_a_date_begins_a_message() {
        for (line, begins) in [
            ("From MAILER-DAEMON Fri Jul  8 12:08:34 2011\n", true),
            ("From a b c Fri Jul 08 12:08 2011\n", true),
            ("From x@y Fri Jul  8 12:08:34 +0200 2011\r\n", true),
            ("From x@y Fri Jul  8 12:08:34 2011 +0200\n", true),
            ("From here to 12:00 there\n", false),
            ("From Fri Jul 99 12:08:34 2011\n", false),
            (">From x Fri Jul  8 12:08:34 2011\n", false),
            ("From \n", false),
        ] {
            assert_eq!(from_line(line.as_bytes()).is_some(), begins, "{line}");
        }
    }

    #[test]
    fn a_message_of_one_endless_line_comes_in_pieces() {
        let text = format!("From a Wed Nov  4 10:11:12 2026\n\n{}From x", "y".repeat(200_000));
        let mut mbox = Mbox::new(text.as_bytes(), 0, Quoting::Rd).unwrap();
        mbox.message().unwrap();
        let mut body = Vec::new();
        while let Some(piece) = mbox.line().unwrap() {
            assert!(piece.len() as u64 <= MAX_PIECE);
            body.extend(piece);
        }
        assert_eq!(body.len(), 200_006);
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(lines in proptest::collection::vec(">{0,3}(From )?[a-z]{0,5}", 0..8)) {
            let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let quote = |line: &String| {
                let from = line.trim_start_matches('>').starts_with("From ");
                format!("{}{line}\n", if from { ">" } else { "" })
            };
            let quoted: String = lines.iter().map(quote).collect();
            let text = format!("From a Wed Nov  4 10:11:12 2026\nA: b\n\n{quoted}\n").repeat(2);
            let found = all(&text, Quoting::Rd);
            prop_assert_eq!(found.len(), 2);
            prop_assert!(found.iter().all(|(_, found)| *found == body), "{:?} of {:?}", found, body);
        }

        #[test]
        fn no_file_is_too_odd_to_be_read_or_refused(text in "(From a Wed Nov  4 10:11:12 2026\n)?[>From :\r\nXUID0-9-]{0,80}") {
            if let Ok(mut mbox) = Mbox::new(text.as_bytes(), 0, Quoting::O) {
                while let Ok(Some(_)) = mbox.message() {
                    while let Ok(Some(_)) = mbox.line() {}
                }
            }
        }
    }
}
