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

/// Memory for [`body_text`], of use for many bodies.
#[derive(Debug, Default)]
pub struct TextRoom {
    bytes: Vec<u8>,
    text: String,
}

/// The text of a part's whole body; what comes after `most` decoded bytes is left off. A body that is text as it stands is
/// not copied.
pub fn body_text<'t>(part: &Part, body: &'t [u8], most: u64, room: &'t mut TextRoom) -> &'t str {
    let TextRoom { bytes, text } = room;
    bytes.clear();
    text.clear();
    let decoded = match Transfer::of(part) {
        Transfer::Identity => body,
        encoded => {
            let mut decoder = TransferDecoder::new(encoded);
            decoder.feed(body, bytes);
            decoder.finish(bytes);
            bytes
        }
    };
    let decoded = decoded.get(..usize::try_from(most).unwrap_or(usize::MAX)).unwrap_or(decoded);
    let mut charset = Charset::new(&part.charset());
    if charset.keeps_utf8()
        && let Ok(text) = std::str::from_utf8(decoded)
    {
        return text;
    }
    charset.feed(decoded, text);
    charset.finish(text);
    text
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Scanner;

    proptest! {
        #[test]
        fn a_body_gives_the_same_text_whole_and_in_pieces(
            encoding in proptest::sample::select(vec!["7bit", "8bit", "base64", "quoted-printable"]),
            charset in proptest::sample::select(vec!["us-ascii", "utf-8", "iso-8859-1", "utf-7", "klingon"]),
            body in proptest::collection::vec(prop_oneof![Just(b'='), Just(b'\n'), Just(b' '), Just(b'4'), Just(0xc3), Just(0xa9), any::<u8>()], 0..60),
            cut in any::<prop::sample::Index>(),
            most in 0_u64..80,
        ) {
            let mut scanner = Scanner::default();
            scanner.feed(format!("Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: {encoding}\n\n").as_bytes());
            let structure = scanner.finish();
            let (head, tail) = body.split_at(cut.index(body.len() + 1));
            let (mut decoder, mut pieces) = (TextDecoder::new(structure.root(), most), String::new());
            decoder.feed(head, &mut pieces);
            decoder.feed(tail, &mut pieces);
            decoder.finish(&mut pieces);
            let mut room = TextRoom { bytes: b"used".to_vec(), text: "before".to_owned() };
            prop_assert_eq!(body_text(structure.root(), &body, most, &mut room), pieces);
        }
    }
}
