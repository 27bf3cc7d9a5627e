//! What FETCH is mostly asked of a message's inside, found once and kept: its ENVELOPE and BODYSTRUCTURE as they go over
//! the wire, and the header fields that mail programs list mailboxes by. Called by `fetch`.
//!
//! ```text
//! digest = 1:u8 length:u32{3} envelope structure fields        lengths little endian, ABSENT for what was not looked for
//! ```

use bytes::{Bytes, BytesMut};

use super::{source::header_end, structure};
use crate::imap::command::{FetchItem, Section, SectionText};
use crate::maildir::{Insight, MailError, MessageReader};
use crate::message::{self, Scanner};

/// The header fields that are kept, in lower case: those that mail programs ask for when they list a mailbox, and those
/// that SEARCH, SORT and THREAD look at.
const FIELDS: [&str; 36] = [
    "bcc",
    "cc",
    "content-description",
    "content-transfer-encoding",
    "content-type",
    "date",
    "delivered-to",
    "from",
    "importance",
    "in-reply-to",
    "lines",
    "list-help",
    "list-id",
    "list-post",
    "list-subscribe",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "mail-followup-to",
    "message-id",
    "newsgroups",
    "priority",
    "received-spf",
    "references",
    "reply-to",
    "sender",
    "subject",
    "thread-topic",
    "to",
    "x-label",
    "x-mailer",
    "x-original-to",
    "x-priority",
    "x-spam-flag",
    "x-spam-status",
    "x-uniform-type-identifier",
    "x-universally-unique-identifier",
];
/// Layout of a digest; another number is another time's, and looked up anew.
const LAYOUT: u8 = 1;
const HEAD: usize = 1 + 3 * 4;
const ABSENT: u32 = u32::MAX;
/// What is longer than this is not kept: it is looked up whenever it is asked for. In bytes.
const LONGEST: usize = 32 * 1024;

/// How much of a file is read where a header is all that is needed, in bytes: most are shorter.
const START: usize = 4 * 1024;

/// What a question needs of a digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    envelope: bool,
    structure: bool,
    fields: bool,
}

impl Needs {
    /// What an item needs; none if no digest can answer it.
    pub(super) fn of(item: &FetchItem) -> Option<Self> {
        let nothing = Self::default();
        match item {
            FetchItem::Uid
            | FetchItem::Flags
            | FetchItem::InternalDate
            | FetchItem::Size
            | FetchItem::Modseq
            | FetchItem::SaveDate
            | FetchItem::EmailId
            | FetchItem::ThreadId => Some(nothing),
            FetchItem::Envelope => Some(Self { envelope: true, ..nothing }),
            FetchItem::BodyStructure => Some(Self { structure: true, ..nothing }),
            FetchItem::Section { section, peek: true, .. } => {
                fields_of(section).is_some().then_some(Self { fields: true, ..nothing })
            }
            _ => None,
        }
    }

    /// The kept header fields.
    pub(super) fn fields() -> Self {
        Self { fields: true, ..Self::default() }
    }

    /// What all of the items need together; none if no digest can answer them all.
    pub(super) fn of_all(items: &[FetchItem]) -> Option<Self> {
        items.iter().try_fold(Self::default(), |all, item| {
            let one = Self::of(item)?;
            Some(Self {
                envelope: all.envelope || one.envelope,
                structure: all.structure || one.structure,
                fields: all.fields || one.fields,
            })
        })
    }

    /// Whether the messages need not be looked into at all.
    pub(super) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// The names of a HEADER.FIELDS section that a digest can answer.
pub(super) fn fields_of(section: &Section) -> Option<&[String]> {
    match &section.text {
        SectionText::HeaderFields(names) if section.part.is_empty() => keeps(names).then_some(names),
        _ => None,
    }
}

/// Whether all fields of these names are kept.
pub(super) fn keeps(names: &[String]) -> bool {
    names.iter().all(|name| FIELDS.binary_search(&name.to_ascii_lowercase().as_str()).is_ok())
}

/// One message's digest. A part is absent if nobody asked for it yet, or if it was too long to be kept.
#[derive(Clone, Debug)]
pub(super) struct Digest(Bytes);

impl Digest {
    /// Reads what was kept.
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(super) fn envelope(&self) -> Option<&[u8]> {
        part(&self.0, 0).filter(|bytes| !bytes.is_empty())
    }

    pub(super) fn structure(&self) -> Option<&[u8]> {
        part(&self.0, 1).filter(|bytes| !bytes.is_empty())
    }

    /// The kept fields as they stand in the message, and the empty line behind the header.
    pub(super) fn fields(&self) -> Option<&[u8]> {
        part(&self.0, 2).filter(|bytes| !bytes.is_empty())
    }

    /// The same, to be kept.
    pub(super) fn into_fields(self) -> Option<Bytes> {
        self.fields().map(|fields| self.0.slice_ref(fields))
    }
}

/// One of the three; none if it was not looked for, empty if it was too long.
fn part(bytes: &[u8], which: usize) -> Option<&[u8]> {
    let length = |at: usize| {
        let from = 1 + at * 4;
        bytes.get(from..from + 4).and_then(|b| b.try_into().ok()).map_or(ABSENT, u32::from_le_bytes)
    };
    if bytes.first() != Some(&LAYOUT) || length(which) == ABSENT {
        return None;
    }
    let before = (0..which).map(length).filter(|length| *length != ABSENT).map(|length| length as usize);
    let start = HEAD + before.sum::<usize>();
    bytes.get(start..start + length(which) as usize)
}

/// How a message is looked into for a digest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digester {
    pub(super) needs: Needs,
    pub(super) limits: message::Limits,
}

impl Insight for Digester {
    fn suffices(&self, kept: &[u8]) -> bool {
        let has = |needed: bool, which| !needed || part(kept, which).is_some();
        has(self.needs.envelope, 0) && has(self.needs.structure, 1) && has(self.needs.fields, 2)
    }

    fn start(&self) -> usize {
        if self.needs == Needs::fields() { START.min(self.limits.header_bytes) } else { 0 }
    }

    fn look_at_start(&self, start: &[u8]) -> Option<Vec<u8>> {
        let header = start.get(..header_end(start, 0)?)?;
        Some(written([None, None, Some(&kept_fields(header))]))
    }

    fn look(&self, message: &mut MessageReader) -> Result<Vec<u8>, MailError> {
        let mut scanner = Scanner::new(self.limits);
        let (mut header, mut end) = (Vec::new(), None);
        let size = message.size();
        message.select(0..size);
        let mut whole = true;
        while let Some(chunk) = message.next_now()? {
            scanner.feed(&chunk);
            if end.is_none() && header.len() < self.limits.header_bytes {
                let seen = header.len();
                header.extend_from_slice(&chunk);
                end = header_end(&header, seen);
            }
            // A message of one chunk is scanned whole: it has been read already.
            let more = header.len() as u64 != size;
            if more && !self.needs.structure && (end.is_some() || header.len() >= self.limits.header_bytes) {
                whole = false;
                break;
            }
        }
        header.truncate(end.unwrap_or(header.len()).min(self.limits.header_bytes));
        let structure = if whole {
            scanner.finish()
        } else {
            let mut scanner = Scanner::new(self.limits);
            scanner.feed(&header);
            scanner.finish()
        };

        let mut parts = [Some(BytesMut::new()), whole.then(BytesMut::new), Some(BytesMut::new())];
        if let [Some(envelope), walked, Some(fields)] = &mut parts {
            structure::envelope(envelope, structure.root().envelope().unwrap_or(&message::Envelope::default()));
            if let Some(walked) = walked {
                for step in structure.walk() {
                    if walked.len() <= LONGEST {
                        structure::step(walked, &structure, step, true);
                    }
                }
            }
            fields.extend_from_slice(&kept_fields(&header));
        }
        for part in parts.iter_mut().flatten().filter(|part| part.len() > LONGEST) {
            part.clear();
        }
        Ok(written(parts.each_ref().map(|part| part.as_deref())))
    }
}

/// A digest of these parts.
fn written(parts: [Option<&[u8]>; 3]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + parts.iter().flatten().map(|part| part.len()).sum::<usize>());
    bytes.push(LAYOUT);
    for part in &parts {
        let length = part.map_or(ABSENT, |part| u32::try_from(part.len()).unwrap_or(0));
        bytes.extend_from_slice(&length.to_le_bytes());
    }
    parts.iter().flatten().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// Those fields of a header that are kept, and the empty line behind it, all lines ending in CRLF.
fn kept_fields(header: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(1024);
    let mut end = 0;
    for field in message::fields(header) {
        end += field.raw.len();
        if is_kept(field.name) {
            as_on_the_wire(&mut kept, field.raw);
        }
    }
    as_on_the_wire(&mut kept, header.get(end..).unwrap_or_default());
    kept
}

fn is_kept(name: &[u8]) -> bool {
    FIELDS.iter().any(|kept| kept.len() == name.len() && name.eq_ignore_ascii_case(kept.as_bytes()))
}

/// Appends lines, each ending in CRLF.
fn as_on_the_wire(out: &mut Vec<u8>, lines: &[u8]) {
    let mut done = 0;
    for at in memchr::memchr_iter(b'\n', lines) {
        let line = lines.get(done..at).unwrap_or_default();
        out.extend_from_slice(line);
        out.extend_from_slice(if line.ends_with(b"\r") { b"\n" } else { b"\r\n" });
        done = at + 1;
    }
    out.extend_from_slice(lines.get(done..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_kept_as_they_go_over_the_wire_however_lines_end_in_the_file() {
        let cases: [(&str, &str); 7] = [
            ("From: a\nX-No: b\n c\nTO : d\n\te\n\n", "From: a\r\nTO : d\r\n\te\r\n\r\n"),
            ("From: a\r\nno colon\r\nTo: d\r\n\r\n", "From: a\r\nTo: d\r\n\r\n"),
            ("From: a\r\nTo: d\n\r\n", "From: a\r\nTo: d\r\n\r\n"),
            ("From: a\r\nTo: cut", "From: a\r\nTo: cut"),
            ("X: a\n\n", "\r\n"),
            ("\n", "\r\n"),
            ("", ""),
        ];
        for (header, expected) in cases {
            assert_eq!(String::from_utf8_lossy(&kept_fields(header.as_bytes())), expected, "{header:?}");
            let wire = header.replace("\r\n", "\n").replace('\n', "\r\n");
            let filtered = message::header_fields(wire.as_bytes(), &FIELDS, message::Keep::Named);
            assert_eq!(String::from_utf8_lossy(&filtered), expected, "{header:?} as FETCH filters it");
        }
    }

    #[test]
    fn the_start_of_a_file_is_enough_where_the_header_ends_in_it() {
        let digester = Digester { needs: Needs::fields(), limits: message::Limits::default() };
        assert_eq!(digester.look_at_start(b"From: a\nTo: b\n"), None);
        let made = digester.look_at_start(b"From: a\nTo: b\n\nFrom: c\n").map(Bytes::from).map(Digest::new);
        let made = made.as_ref().map(|digest| (digest.envelope(), digest.structure(), digest.fields()));
        assert_eq!(made, Some((None, None, Some(&b"From: a\r\nTo: b\r\n\r\n"[..]))));
        let more = Needs { envelope: true, ..Needs::fields() };
        assert_eq!(Digester { needs: more, ..digester }.start(), 0, "an envelope takes a scan");
    }

    #[test]
    fn the_names_are_in_order_for_the_search() {
        assert!(FIELDS.is_sorted(), "{FIELDS:?}");
    }
}
