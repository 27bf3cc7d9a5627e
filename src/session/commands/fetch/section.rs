//! The octets of a message or of a section of it, from the disk to the wire.

use std::ops::Range;

use crate::imap::{
    command::{Section, SectionText},
    write,
};
use crate::maildir::{MailError, MessageReader};
use crate::message::{HeaderFilter, Keep};
use crate::session::{
    Ending,
    commands::{source::Source, turn::worked},
    login::Dialog,
};

/// What is in memory as a whole is put into the output in pieces of this size. In bytes.
const PIECE: usize = 16 * 1024;

pub(super) async fn body_section(
    dialog: &mut Dialog,
    source: &mut Source,
    section: &Section,
    partial: Option<(u32, u32)>,
) -> Result<(), Ending> {
    let Some(range) = source.range(section) else {
        write::nstring(&mut dialog.link.wire.out, None);
        return Ok(());
    };
    let (names, keep) = match &section.text {
        SectionText::HeaderFields(names) => (names, Keep::Named),
        SectionText::HeaderFieldsNot(names) => (names, Keep::Others),
        _ => return stream(dialog, &mut source.reader, clip(range, partial)).await,
    };
    let fields = fields(source, range, HeaderFilter::new(names, keep)).await.map_err(Ending::Broken)?;
    let wanted = clip(0..fields.len() as u64, partial);
    let bytes = fields.get(within(wanted)).unwrap_or_default();
    write::literal_head(&mut dialog.link.wire.out, bytes.len() as u64);
    for piece in bytes.chunks(PIECE) {
        write::octets(&mut dialog.link.wire.out, piece);
        dialog.link.wire.push().await?;
    }
    Ok(())
}

/// What a filter lets through of a header, of a very long one of its beginning.
async fn fields(source: &mut Source, range: Range<u64>, mut filter: HeaderFilter) -> Result<Vec<u8>, MailError> {
    let mut fields = Vec::new();
    source.select_header(range);
    while let Some(chunk) = source.reader.next().await? {
        filter.feed(&chunk, &mut fields);
        worked(chunk.len()).await;
    }
    filter.finish(&mut fields);
    Ok(fields)
}

/// `<origin.count>` of a range of octets; beyond the end there are none.
pub(super) fn clip(range: Range<u64>, partial: Option<(u32, u32)>) -> Range<u64> {
    let Some((origin, count)) = partial else { return range };
    let start = range.start.saturating_add(u64::from(origin)).min(range.end);
    start..start.saturating_add(u64::from(count)).min(range.end)
}

/// A range of what is in memory.
pub(super) fn within(range: Range<u64>) -> Range<usize> {
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    place(range.start)..place(range.end)
}

/// Writes a literal from the disk to the wire, a chunk at a time. The octets were announced: with fewer of them nothing
/// that follows could be understood, so a message that cannot be read to its end ends the session.
pub(super) async fn stream(
    dialog: &mut Dialog,
    reader: &mut MessageReader,
    range: Range<u64>,
) -> Result<(), Ending> {
    let mut left = range.end.saturating_sub(range.start);
    write::literal_head(&mut dialog.link.wire.out, left);
    reader.select(range);
    while let Some(chunk) = reader.next().await.map_err(Ending::Broken)? {
        left = left.saturating_sub(chunk.len() as u64);
        write::octets(&mut dialog.link.wire.out, &chunk);
        dialog.link.wire.push().await?;
        tokio::task::consume_budget().await;
    }
    if left == 0 {
        return Ok(());
    }
    Err(Ending::Broken(MailError::Damaged { what: "a message became shorter while it was read" }))
}
