//! A message open for reading, and what is known of its inside: looked into no further than the question needs. Called
//! by `fetch` and `search`.

use std::ops::Range;

use super::turn::worked;
use crate::imap::command::{Section, SectionText};
use crate::maildir::{CHUNK, MailError, MessageReader, View};
use crate::message::{self, Scanner, Structure};

/// How much of a message has to be looked at before a question can be answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// The bytes as they stand.
    Nowhere,
    /// The header.
    Header,
    /// All parts.
    Parts,
}

pub(super) struct Source {
    pub(super) reader: MessageReader,
    /// Whole after [`Look::Parts`]; after [`Look::Header`] only its root's header and envelope mean anything.
    pub(super) structure: Structure,
    looked: Look,
    /// Most of a header that is read, in bytes.
    most_header: usize,
}

impl Source {
    pub(super) async fn open(
        view: &View,
        number: u32,
        look: Look,
        limits: &message::Limits,
    ) -> Result<Self, MailError> {
        let mut reader = view.read(number).await?;
        let structure = match look {
            Look::Nowhere => Scanner::new(*limits).finish(),
            Look::Header => {
                let mut scanner = Scanner::new(*limits);
                for piece in header(&mut reader, limits.header_bytes).await?.chunks(CHUNK) {
                    scanner.feed(piece);
                    worked(piece.len()).await;
                }
                scanner.finish()
            }
            Look::Parts => structure(&mut reader, limits).await?,
        };
        Ok(Self { reader, structure, looked: look, most_header: limits.header_bytes })
    }

    /// Whether all parts are known.
    pub(super) fn has_parts(&self) -> bool {
        self.looked == Look::Parts
    }

    /// The body of the message.
    pub(super) fn text(&self) -> Range<u64> {
        self.structure.root().header().end..self.reader.size()
    }

    /// The octets of a section, none if the message has no such section.
    pub(super) fn range(&self, section: &Section) -> Option<Range<u64>> {
        let text = match &section.text {
            SectionText::All => message::SectionText::Whole,
            SectionText::Header | SectionText::HeaderFields(_) | SectionText::HeaderFieldsNot(_) => {
                message::SectionText::Header
            }
            SectionText::Text => message::SectionText::Text,
            SectionText::Mime => message::SectionText::Mime,
        };
        match (section.part.is_empty(), text) {
            (true, message::SectionText::Whole) => Some(0..self.reader.size()),
            (true, message::SectionText::Text) if self.looked == Look::Header => Some(self.text()),
            _ => self.structure.section(&section.part, text),
        }
    }

    /// Sets what the reader reads next: a header, of a very long one its beginning.
    pub(super) fn select_header(&mut self, range: Range<u64>) {
        let end = range.end.min(range.start.saturating_add(self.most_header as u64));
        self.reader.select(range.start..end);
    }
}

/// The parts of a message, by reading all of it.
pub(super) async fn structure(
    reader: &mut MessageReader,
    limits: &message::Limits,
) -> Result<Structure, MailError> {
    let mut scanner = Scanner::new(*limits);
    reader.select(0..reader.size());
    while let Some(chunk) = reader.next().await? {
        scanner.feed(&chunk);
        worked(chunk.len()).await;
    }
    Ok(scanner.finish())
}

/// The bytes up to and with the first empty line, `most` of them at most.
pub(super) async fn header(reader: &mut MessageReader, most: usize) -> Result<Vec<u8>, MailError> {
    let mut header: Vec<u8> = Vec::new();
    reader.select(0..most as u64);
    while let Some(chunk) = reader.next().await? {
        let seen = header.len();
        header.extend_from_slice(&chunk);
        if let Some(end) = header_end(&header, seen) {
            header.truncate(end);
            break;
        }
        worked(chunk.len()).await;
    }
    Ok(header)
}

/// Where the first empty line ends, by CRLF or by LF alone as `message` sees it; `seen` bytes were looked at before.
pub(super) fn header_end(bytes: &[u8], seen: usize) -> Option<usize> {
    match bytes {
        [b'\n', ..] => return Some(1),
        [b'\r', b'\n', ..] => return Some(2),
        _ => {}
    }
    // An empty line may have begun in what was looked at.
    let from = seen.saturating_sub(2);
    let rest = bytes.get(from..)?;
    let bare = memchr::memmem::find(rest, b"\n\n").map(|at| at + 2);
    let rest = rest.get(..bare.unwrap_or(rest.len()))?;
    memchr::memmem::find(rest, b"\n\r\n").map(|at| at + 3).or(bare).map(|end| from + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_ends_with_the_first_empty_line_however_lines_end_and_wherever_it_is_cut() {
        let cases: [(&str, Option<usize>); 9] = [
            ("A: b\r\n\r\nbody\r\n\r\n", Some(8)),
            ("A: b\n\nbody", Some(6)),
            ("A: b\n\r\nbody", Some(7)),
            ("\r\nbody", Some(2)),
            ("\nbody", Some(1)),
            ("A: b\r\nB: c\r\n", None),
            ("A: b\r\r\n\r\nx", Some(9)),
            ("A: b\r\n \r\n\r\n", Some(11)),
            ("", None),
        ];
        for (text, expected) in cases {
            let bytes = text.as_bytes();
            assert_eq!(header_end(bytes, 0), expected, "{text:?}");
            for cut in 0..bytes.len() {
                let first = header_end(bytes.get(..cut).unwrap_or_default(), 0);
                assert_eq!(first.or_else(|| header_end(bytes, cut)), expected, "{text:?} cut at {cut}");
            }
        }
    }
}
