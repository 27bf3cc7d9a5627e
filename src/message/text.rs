//! What SEARCH BODY and SEARCH TEXT look at: which octets of a message, and their text (RFC 3501 section 6.4.4).

use std::ops::Range;

use super::{
    charset::Charset,
    part::{Part, Shape, Step, Structure},
    transfer::{Transfer, TransferDecoder},
};

/// Something to search in.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece<'a> {
    /// A header block: read these octets, decode with [`super::decode_header_block`].
    Header(Range<u64>),
    /// A text part: read the octets of its body, decode with [`TextDecoder`].
    Text(&'a Part),
}

impl Structure {
    /// The pieces that SEARCH BODY looks at, in order: the text parts, and the headers of messages inside the message
    /// (they are part of its body). With `headers`, for SEARCH TEXT, also its own header and those of all parts.
    pub fn pieces(&self, headers: bool) -> impl Iterator<Item = Piece<'_>> {
        self.walk()
            .flat_map(move |step| {
                let Step::Enter(part) = step else { return [None, None] };
                let inner = part.envelope().is_some() && part.parent.is_some();
                let header = (headers || inner).then(|| Piece::Header(part.header()));
                [header, (part.shape() == Shape::Text).then_some(Piece::Text(part))]
            })
            .flatten()
    }
}

/// Turns the body of a text part into text, in pieces and up to a limit.
#[derive(Debug)]
pub struct TextDecoder {
    transfer: TransferDecoder,
    charset: Charset,
    bytes: Vec<u8>,
    /// Decoded bytes that are still wanted.
    left: u64,
}

impl TextDecoder {
    /// For the body of `part`; what comes after `most` decoded bytes is left off.
    pub fn new(part: &Part, most: u64) -> TextDecoder {
        TextDecoder {
            transfer: TransferDecoder::new(Transfer::of(part)),
            charset: Charset::new(&part.charset()),
            bytes: Vec::new(),
            left: most,
        }
    }

    /// Appends the text of the next bytes of the body to `out`. `false` when the limit is reached: no need to read on.
    pub fn feed(&mut self, body: &[u8], out: &mut String) -> bool {
        if self.left > 0 {
            self.bytes.clear();
            self.transfer.feed(body, &mut self.bytes);
            self.give(out);
        }
        self.left > 0
    }

    /// Ends the body.
    pub fn finish(&mut self, out: &mut String) {
        self.bytes.clear();
        self.transfer.finish(&mut self.bytes);
        self.give(out);
        self.charset.finish(out);
    }

    fn give(&mut self, out: &mut String) {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let bytes = self.bytes.get(..room).unwrap_or(&self.bytes);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.charset.feed(bytes, out);
    }
}
