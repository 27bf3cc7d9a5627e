//! BINARY and BINARY.SIZE (RFC 3516, RFC 9051 section 6.4.5): the octets of a part, its transfer encoding undone. They are
//! decoded twice, once for the size that goes before them, and never held. Called by `fetch`.

use std::ops::Range;

use super::{source::Source, turn::worked};
use crate::imap::{command::FetchItem, write};
use crate::maildir::{MailError, MessageReader};
use crate::message::{Shape, Transfer, TransferDecoder};
use crate::session::{Ending, login::Dialog};

/// Whether a part that `item` asks for is encoded in a way nobody can undo: the command is refused with UNKNOWN-CTE.
pub(super) fn is_unknown(source: &Source, item: &FetchItem) -> bool {
    match item {
        FetchItem::Binary { part, .. } | FetchItem::BinarySize { part } => {
            matches!(body(source, part), Some((_, None)))
        }
        _ => false,
    }
}

/// Writes the value of `BINARY[part]<partial>`.
pub(super) async fn octets(
    dialog: &mut Dialog,
    source: &mut Source,
    part: &[u32],
    partial: Option<(u32, u32)>,
) -> Result<(), Ending> {
    let Some((range, transfer)) = body(source, part) else {
        write::nstring(&mut dialog.link.wire.out, None);
        return Ok(());
    };
    let transfer = transfer.unwrap_or(Transfer::Identity);
    let (mut size, mut nul) = (0, false);
    let mut first = Decoded::new(&mut source.reader, range.clone(), transfer, partial);
    while let Some(bytes) = first.next().await.map_err(Ending::Broken)? {
        size += bytes.len() as u64;
        nul |= memchr::memchr(0, bytes).is_some();
    }
    // Another form of literal says that there is NUL in it (RFC 3516 section 4.3).
    let out = &mut dialog.link.wire.out;
    if nul {
        write::binary_head(out, size)
    } else {
        write::literal_head(out, size)
    }
    let mut again = Decoded::new(&mut source.reader, range, transfer, partial);
    while let Some(bytes) = again.next().await.map_err(Ending::Broken)? {
        size = size.checked_sub(bytes.len() as u64).ok_or(CHANGED)?;
        dialog.link.wire.out.extend_from_slice(bytes);
        dialog.link.wire.push().await?;
    }
    if size == 0 { Ok(()) } else { Err(CHANGED) }
}

/// What was announced cannot be sent any more.
const CHANGED: Ending = Ending::Broken(MailError::Damaged { what: "a message changed while it was read" });

/// The value of `BINARY.SIZE[part]`; a part that there is not has no octets.
pub(super) async fn size(source: &mut Source, part: &[u32]) -> Result<u64, Ending> {
    let Some((range, transfer)) = body(source, part) else { return Ok(0) };
    let transfer = transfer.unwrap_or(Transfer::Identity);
    if transfer == Transfer::Identity {
        return Ok(range.end.saturating_sub(range.start));
    }
    let mut size = 0;
    let mut decoded = Decoded::new(&mut source.reader, range, transfer, None);
    while let Some(bytes) = decoded.next().await.map_err(Ending::Broken)? {
        size += bytes.len() as u64;
    }
    Ok(size)
}

/// Where a part's body is and how it is encoded, if that is known. Without numbers it is the message, which like
/// whatever holds other parts is in no encoding.
fn body(source: &Source, part: &[u32]) -> Option<(Range<u64>, Option<Transfer>)> {
    if part.is_empty() {
        return Some((0..source.reader.size(), Some(Transfer::Identity)));
    }
    let part = source.structure.part(part)?;
    let transfer = match part.shape() {
        Shape::Multipart | Shape::Message => Some(Transfer::Identity),
        Shape::Text | Shape::Basic => Transfer::known(part.encoding()),
    };
    Some((part.body(), transfer))
}

/// Decodes a body piece by piece, and lets through what of it is wanted.
struct Decoded<'s> {
    reader: &'s mut MessageReader,
    decoder: TransferDecoder,
    bytes: Vec<u8>,
    /// Decoded octets that come before what is wanted, and how many are.
    skip: u64,
    left: u64,
    ended: bool,
}

impl<'s> Decoded<'s> {
    fn new(
        reader: &'s mut MessageReader,
        body: Range<u64>,
        transfer: Transfer,
        partial: Option<(u32, u32)>,
    ) -> Self {
        reader.select(body);
        let (skip, left) = partial.map_or((0, u64::MAX), |(origin, count)| (u64::from(origin), u64::from(count)));
        Self { reader, decoder: TransferDecoder::new(transfer), bytes: Vec::new(), skip, left, ended: false }
    }

    /// The next octets, maybe none of them; nothing at the end.
    async fn next(&mut self) -> Result<Option<&[u8]>, MailError> {
        if self.ended || self.left == 0 {
            return Ok(None);
        }
        self.bytes.clear();
        match self.reader.next().await? {
            Some(chunk) => {
                self.decoder.feed(&chunk, &mut self.bytes);
                worked(chunk.len()).await;
            }
            None => {
                self.decoder.finish(&mut self.bytes);
                self.ended = true;
            }
        }
        let there = self.bytes.len() as u64;
        let start = self.skip.min(there);
        let end = start.saturating_add(self.left).min(there);
        self.skip -= start;
        self.left = self.left.saturating_sub(end - start);
        let cut = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        Ok(Some(self.bytes.get(cut(start)..cut(end)).unwrap_or_default()))
    }
}
