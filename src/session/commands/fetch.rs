//! FETCH and UID FETCH (RFC 3501 section 6.4.5): answers are written item by item, message bodies are streamed from
//! the disk to the wire.

use std::{io, ops::Range};

use super::{Answer, Reply, flag_names, refuse, structure};
use crate::imap::{
    command::{FetchItem, Section, SectionText, SequenceSet},
    set::{self, Ranges},
    write::{self, FetchLine},
};
use crate::maildir::{FlagOp, Flags, MailError, MessageReader, Mode, View};
use crate::message::{self, Keep, Scanner, Structure};
use crate::session::{Ending, login::Dialog};

/// Longest header that is read to answer a question about it. In bytes. Source: threats.md section 6.
const MAX_HEADER: usize = 10 * 1024 * 1024;

/// How much of a message has to be looked at before an item can be answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    /// What the index knows, or the bytes as they stand.
    None,
    /// The header.
    Header,
    /// All parts.
    Parts,
}

pub(super) async fn fetch(
    dialog: &mut Dialog,
    view: &mut View,
    set: &SequenceSet,
    items: &[FetchItem],
    uid: bool,
) -> Answer {
    let Some(numbers) = numbers(view, set, uid) else { return Ok(Reply::bad("No such message number")) };
    let reads_body = items.iter().any(FetchItem::sets_seen) && view.mode() == Mode::ReadWrite;
    let mut missing = None;
    for number in numbers.numbers() {
        dialog.may_go_on()?;
        match one(dialog, view, number, items, uid, reads_body).await? {
            Ok(()) => {}
            Err(error) => missing = Some(error),
        }
        dialog.wire.push().await?;
    }
    Ok(match missing {
        None => Reply::ok("FETCH done"),
        Some(error) => refuse(dialog, &error),
    })
}

/// The messages a set means; none if it names a message number that does not exist.
pub(super) fn numbers(view: &View, set: &SequenceSet, uid: bool) -> Option<Ranges> {
    if uid {
        return Some(set::uids_to_numbers(set, view.len(), |number| view.uid(number).unwrap_or(0)));
    }
    set::numbers(set, view.len()).ok()
}

/// Answers for one message; an error of the store is told after the others.
async fn one(
    dialog: &mut Dialog,
    view: &mut View,
    number: u32,
    items: &[FetchItem],
    uid: bool,
    reads_body: bool,
) -> Result<Result<(), MailError>, Ending> {
    let look = items.iter().map(look).max().unwrap_or(Look::None);
    let streams = items.iter().any(needs_bytes);
    let mut source = None;
    if streams {
        source = match open(view, number, look, &dialog.house.limits.message).await {
            Ok(source) => Some(source),
            Err(error) => return Ok(Err(error)),
        };
    }
    let mut tell_flags = false;
    if reads_body && view.message(number).is_some_and(|meta| !meta.flags.contains(Flags::SEEN)) {
        match view.store_flags(&[number], FlagOp::Add, Flags::SEEN, &[]).await {
            Ok(_) => tell_flags = !items.contains(&FetchItem::Flags),
            Err(error) => return Ok(Err(error)),
        }
    }
    let Some(meta) = view.message(number) else { return Ok(Ok(())) };

    let out = &mut dialog.wire.out;
    let mut line = FetchLine::start(out, number);
    if uid && !items.contains(&FetchItem::Uid) {
        line.uid(out, meta.uid);
    }
    if tell_flags {
        line.flags(out, flag_names(&meta));
    }
    dialog.wire.begin_long();
    for item in items {
        let out = &mut dialog.wire.out;
        match (item, &mut source) {
            (FetchItem::Uid, _) => line.uid(out, meta.uid),
            (FetchItem::Flags, _) => line.flags(out, flag_names(&meta)),
            (FetchItem::InternalDate, _) => line.internal_date(out, meta.internal_date),
            (FetchItem::Size, _) => line.size(out, meta.size),
            (_, None) => {}
            (FetchItem::Envelope, Some(source)) => {
                line.item(out, "ENVELOPE");
                let root = source.structure.root();
                structure::envelope(out, root.envelope().unwrap_or(&message::Envelope::default()));
            }
            (FetchItem::Body, Some(source)) => {
                line.item(out, "BODY");
                structure::body(out, &source.structure, false);
            }
            (FetchItem::BodyStructure, Some(source)) => {
                line.item(out, "BODYSTRUCTURE");
                structure::body(out, &source.structure, true);
            }
            (FetchItem::Rfc822, Some(source)) => {
                line.item(out, "RFC822");
                let all = 0..source.reader.size();
                stream(dialog, &mut source.reader, all).await?;
            }
            (FetchItem::Rfc822Header, Some(source)) => {
                line.item(out, "RFC822.HEADER");
                let header = source.structure.root().header();
                stream(dialog, &mut source.reader, header).await?;
            }
            (FetchItem::Rfc822Text, Some(source)) => {
                line.item(out, "RFC822.TEXT");
                let text = source.text();
                stream(dialog, &mut source.reader, text).await?;
            }
            (FetchItem::Section { section, partial, .. }, Some(source)) => {
                line.section(out, section, partial.map(|(origin, _)| origin));
                body_section(dialog, source, section, *partial).await?;
            }
        }
    }
    line.end(&mut dialog.wire.out);
    dialog.wire.end_long();
    Ok(Ok(()))
}

/// A message open for reading, and what is known of its inside.
struct Source {
    reader: MessageReader,
    /// Whole after [`Look::Parts`]; after [`Look::Header`] only its root's header and envelope mean anything.
    structure: Structure,
    looked: Look,
}

impl Source {
    /// The body of the message.
    fn text(&self) -> Range<u64> {
        self.structure.root().header().end..self.reader.size()
    }

    /// The octets of a section, none if the message has no such section.
    fn range(&self, section: &Section) -> Option<Range<u64>> {
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
}

async fn open(view: &View, number: u32, look: Look, limits: &message::Limits) -> Result<Source, MailError> {
    let mut reader = view.read(number).await?;
    let mut scanner = Scanner::new(*limits);
    match look {
        Look::None => {}
        Look::Header => {
            let header = header(&mut reader).await?;
            scanner.feed(&header);
        }
        Look::Parts => {
            while let Some(chunk) = reader.next().await? {
                scanner.feed(&chunk);
            }
        }
    }
    Ok(Source { reader, structure: scanner.finish(), looked: look })
}

/// The bytes up to and with the first empty line.
pub(super) async fn header(reader: &mut MessageReader) -> Result<Vec<u8>, MailError> {
    let mut header: Vec<u8> = Vec::new();
    while let Some(chunk) = reader.next().await? {
        let seen = header.len();
        header.extend_from_slice(&chunk);
        if let Some(end) = header_end(&header, seen) {
            header.truncate(end);
            break;
        }
        if header.len() > MAX_HEADER {
            header.truncate(MAX_HEADER);
            break;
        }
    }
    Ok(header)
}

/// Where the header ends, blank line included; `seen` bytes were looked at before.
fn header_end(bytes: &[u8], seen: usize) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    let from = seen.saturating_sub(3);
    memchr::memmem::find(bytes.get(from..)?, b"\r\n\r\n").map(|at| from + at + 4)
}

fn look(item: &FetchItem) -> Look {
    match item {
        FetchItem::Uid | FetchItem::Flags | FetchItem::InternalDate | FetchItem::Size | FetchItem::Rfc822 => {
            Look::None
        }
        FetchItem::Envelope | FetchItem::Rfc822Header | FetchItem::Rfc822Text => Look::Header,
        FetchItem::Body | FetchItem::BodyStructure => Look::Parts,
        FetchItem::Section { section, .. } if !section.part.is_empty() => Look::Parts,
        FetchItem::Section { section, .. } if section.text == SectionText::All => Look::None,
        FetchItem::Section { .. } => Look::Header,
    }
}

fn needs_bytes(item: &FetchItem) -> bool {
    !matches!(item, FetchItem::Uid | FetchItem::Flags | FetchItem::InternalDate | FetchItem::Size)
}

async fn body_section(
    dialog: &mut Dialog,
    source: &mut Source,
    section: &Section,
    partial: Option<(u32, u32)>,
) -> Result<(), Ending> {
    let Some(range) = source.range(section) else {
        write::nstring(&mut dialog.wire.out, None);
        return Ok(());
    };
    let (names, keep) = match &section.text {
        SectionText::HeaderFields(names) => (names, Keep::Named),
        SectionText::HeaderFieldsNot(names) => (names, Keep::Others),
        _ => return stream(dialog, &mut source.reader, clip(range, partial)).await,
    };
    source.reader.select(range);
    let header = source.reader.all(MAX_HEADER).await.map_err(broken)?;
    let fields = message::header_fields(&header, names, keep);
    let wanted = clip(0..fields.len() as u64, partial);
    let start = usize::try_from(wanted.start).unwrap_or(usize::MAX);
    let end = usize::try_from(wanted.end).unwrap_or(usize::MAX);
    let bytes = fields.get(start..end).unwrap_or_default();
    write::literal_head(&mut dialog.wire.out, bytes.len() as u64);
    dialog.wire.out.extend_from_slice(bytes);
    Ok(())
}

/// `<origin.count>` of a range of octets.
fn clip(range: Range<u64>, partial: Option<(u32, u32)>) -> Range<u64> {
    let Some((origin, count)) = partial else { return range };
    let start = range.start.saturating_add(u64::from(origin)).min(range.end);
    start..start.saturating_add(u64::from(count)).min(range.end)
}

/// Writes a literal from the disk to the wire, a chunk at a time.
async fn stream(dialog: &mut Dialog, reader: &mut MessageReader, range: Range<u64>) -> Result<(), Ending> {
    write::literal_head(&mut dialog.wire.out, range.end - range.start);
    let mut left = range.end - range.start;
    reader.select(range);
    while let Some(chunk) = reader.next().await.map_err(broken)? {
        left = left.saturating_sub(chunk.len() as u64);
        dialog.wire.out.extend_from_slice(&chunk);
        dialog.wire.push().await?;
    }
    // The octets were announced: with fewer of them nothing that follows could be understood.
    if left > 0 {
        Err(broken(MailError::Damaged { what: "a message became shorter while it was read" }))
    } else {
        Ok(())
    }
}

/// A literal that cannot be finished ends the connection.
fn broken(error: MailError) -> Ending {
    Ending::Gone(io::Error::other(error))
}
