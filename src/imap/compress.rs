//! COMPRESS=DEFLATE (RFC 4978): raw deflate (RFC 1951) in both directions. Called by `session`. Pure.
//!
//! What comes in gives out at most what its reader has room for, however small it was; the rest waits in its compressed
//! form. What rests between two commands holds next to nothing: the compressor is dropped, since a fresh one may go on at
//! any byte, and of the decompressor only the window stays that the peer may refer to.

use bytes::{Buf, BytesMut};
use miniz_oxide::{
    DataFormat,
    deflate::core::{CompressionStrategy, CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output},
    inflate::{
        TINFLStatus,
        core::{BlockBoundaryState, DecompressorOxide, decompress_with_limit, inflate_flags},
    },
};

/// How far back a peer may refer (RFC 1951 section 2), in bytes.
const WINDOW: usize = 32 * 1024;
/// A window starts with this size, in bytes: most peers never send more.
const FIRST_WINDOW: usize = 1024;
/// Speed before size: what is saved beyond this level costs more time than the line does.
const LEVEL: u8 = 1;
/// Longest text that goes out as it is while there is no compressor, in bytes: one is dear to make.
const STORED: usize = 256;

/// The peer's bytes are no deflate stream, or it goes on behind its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what came is no deflate stream")]
pub struct Garbled;

/// The incoming side.
pub struct Inflater {
    /// Bytes that came and are not used yet.
    input: BytesMut,
    core: Option<Box<DecompressorOxide>>,
    /// Where to go on without `core`; known between two blocks only.
    boundary: Option<BlockBoundaryState>,
    /// The last of what was decompressed; a ring once it has its full size.
    window: Vec<u8>,
    at: usize,
    ring: bool,
    /// There is more than was asked for.
    more: bool,
    ended: bool,
}

impl Inflater {
    /// A stream that starts with `already`.
    pub fn new(already: &[u8]) -> Self {
        Self {
            input: BytesMut::from(already),
            core: None,
            boundary: None,
            window: Vec::new(),
            at: 0,
            ring: false,
            more: false,
            ended: false,
        }
    }

    /// Where the socket's bytes go.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Appends at most `most` bytes to `out`, how many; 0 if more input is needed.
    ///
    /// # Errors
    /// [`Garbled`]: the stream cannot be followed any further.
    pub fn inflate(&mut self, out: &mut BytesMut, most: usize) -> Result<usize, Garbled> {
        let mut made = 0;
        while made < most && (self.more || !self.input.is_empty()) {
            made += self.step(out, most - made)?;
        }
        Ok(made)
    }

    fn step(&mut self, out: &mut BytesMut, most: usize) -> Result<usize, Garbled> {
        if self.ended {
            return Err(Garbled);
        }
        self.make_room();
        let boundary = self.boundary.take();
        let core = self.core.get_or_insert_with(|| match boundary {
            Some(boundary) => Box::new(DecompressorOxide::from_block_boundary_state(&boundary)),
            None => Box::default(),
        });
        let mut flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT | inflate_flags::TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
        if !self.ring {
            // What lies before the start may not be referred to.
            flags |= inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        }
        let (status, used, made) = decompress_with_limit(core, &self.input, &mut self.window, self.at, most, flags);
        self.input.advance(used.min(self.input.len()));
        out.extend_from_slice(self.window.get(self.at..self.at + made).ok_or(Garbled)?);
        self.at += made;
        self.more = status == TINFLStatus::HasMoreOutput;
        match status {
            TINFLStatus::BlockBoundary => self.boundary = core.block_boundary_state(),
            TINFLStatus::Done => self.ended = true,
            TINFLStatus::NeedsMoreInput if self.input.is_empty() => {}
            TINFLStatus::HasMoreOutput if used + made > 0 => {}
            _ => return Err(Garbled),
        }
        Ok(made)
    }

    fn make_room(&mut self) {
        if self.at < self.window.len() {
            return;
        }
        if self.window.len() < WINDOW {
            self.window.resize((self.window.len() * 2).clamp(FIRST_WINDOW, WINDOW), 0);
        } else {
            (self.at, self.ring) = (0, true);
        }
    }

    /// Gives back what is not needed until more comes.
    pub fn rest(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.boundary.is_some() {
            self.core = None;
        }
    }

    /// Whether [`Inflater::rest`] would give anything back.
    pub fn holds(&self) -> bool {
        (self.core.is_some() && self.boundary.is_some()) || (self.input.is_empty() && self.input.capacity() > 0)
    }
}

/// The outgoing side.
#[derive(Default)]
pub struct Deflater {
    core: Option<Box<CompressorOxide>>,
    /// The compressor has taken text that it has not given out.
    behind: bool,
}

impl Deflater {
    /// Compresses `plain` and appends what comes of it to `out`; with `flush` all of it, so that the peer can read it.
    ///
    /// # Errors
    /// [`Garbled`], which the compressor never gives.
    pub fn deflate(&mut self, plain: &[u8], flush: bool, out: &mut BytesMut) -> Result<(), Garbled> {
        if plain.is_empty() && !(flush && self.behind) {
            return Ok(());
        }
        if self.core.is_none() && flush && plain.len() <= STORED {
            store(plain, out);
            return Ok(());
        }
        let core = self.core.get_or_insert_with(|| {
            let strategy = CompressionStrategy::Default;
            Box::new(CompressorOxide::with_params(DataFormat::Raw, LEVEL, strategy, 15))
        });
        let how = if flush { TDEFLFlush::Sync } else { TDEFLFlush::None };
        let done = compress_to_output(core, plain, how, |bytes| {
            out.extend_from_slice(bytes);
            true
        });
        self.behind = !flush;
        if done == (TDEFLStatus::Okay, plain.len()) { Ok(()) } else { Err(Garbled) }
    }

    /// Gives back what is not needed until there is more to send.
    pub fn rest(&mut self) {
        if !self.behind {
            self.core = None;
        }
    }

    /// Whether [`Deflater::rest`] would give anything back.
    pub fn holds(&self) -> bool {
        self.core.is_some() && !self.behind
    }
}

/// A block that is not compressed (RFC 1951 section 3.2.4). Only between two flushes, where a byte begins.
fn store(plain: &[u8], out: &mut BytesMut) {
    let length = u16::try_from(plain.len()).unwrap_or(0);
    out.extend_from_slice(&[0]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(plain);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    /// What a stream gives, its bytes coming in pieces, with so much room each time.
    fn inflated(pieces: &[&[u8]], room: usize, rests: bool) -> Result<Vec<u8>, Garbled> {
        let mut inflater = Inflater::new(b"");
        let mut out = BytesMut::new();
        for piece in pieces {
            inflater.input().extend_from_slice(piece);
            while inflater.inflate(&mut out, room)? > 0 {}
            if rests {
                inflater.rest();
            }
            assert!(inflater.window.len() <= WINDOW);
        }
        Ok(out.to_vec())
    }

    fn deflated(texts: &[&[u8]], rests: bool) -> Vec<u8> {
        let (mut deflater, mut out) = (Deflater::default(), BytesMut::new());
        for text in texts {
            deflater.deflate(text, true, &mut out).unwrap();
            if rests {
                deflater.rest();
            }
        }
        out.to_vec()
    }

    /// Text that repeats itself at all distances.
    fn long_text(length: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(length + 40);
        let mut at = 7_u64;
        while text.len() < length {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.extend_from_slice(format!("* {} FETCH (UID {})\r\n", at >> 50, at >> 44).as_bytes());
        }
        text.truncate(length);
        text
    }

    #[test]
    fn each_flush_can_be_read_at_once_and_texts_of_any_length_come_through() {
        for length in [0, 1, 256, 257, 1023, 1024, 32_767, 32_768, 32_769, 400_000] {
            let text = long_text(length);
            for rests in [false, true] {
                let packed = deflated(&[&text, b"a1 OK done\r\n", &text], rests);
                let whole = [&text, b"a1 OK done\r\n".as_slice(), &text].concat();
                assert_eq!(inflated(&[&packed], 4096, rests).unwrap(), whole, "{length}");
                let halves = packed.split_at(packed.len() / 2);
                assert_eq!(inflated(&[halves.0, halves.1], 100, true).unwrap(), whole, "{length}");
            }
        }
        let text = long_text(400_000);
        assert!(deflated(&[&text], false).len() < text.len() / 2);
    }

    #[test]
    fn a_text_sent_without_a_flush_follows_with_the_next() {
        let (mut deflater, mut out) = (Deflater::default(), BytesMut::new());
        let text = long_text(100_000);
        for piece in text.chunks(30_000) {
            deflater.deflate(piece, false, &mut out).unwrap();
        }
        deflater.rest();
        deflater.deflate(b"", true, &mut out).unwrap();
        let there = out.len();
        deflater.deflate(b"", true, &mut out).unwrap();
        assert_eq!(out.len(), there, "nothing to say twice");
        assert_eq!(inflated(&[&out], 1 << 20, false).unwrap(), text);
    }

    #[test]
    fn a_bomb_gives_no_more_than_was_asked_for_and_waits_in_its_small_form() {
        let packed = miniz_oxide::deflate::compress_to_vec(&vec![b'x'; 50_000_000], 9);
        assert!(packed.len() < 60_000, "{}", packed.len());
        let mut inflater = Inflater::new(&packed);
        let (mut out, mut total) = (BytesMut::new(), 0);
        loop {
            let count = inflater.inflate(&mut out, 16 * 1024).unwrap();
            assert!(count <= 16 * 1024 && inflater.window.len() <= WINDOW);
            assert!(inflater.input.capacity() <= 2 * packed.len());
            if count == 0 {
                break;
            }
            total += count;
            out.clear();
        }
        assert_eq!(total, 50_000_000);
    }

    #[test]
    fn what_is_no_deflate_stream_is_told_as_such() {
        let reaches_back = [0x4b, 0x04, 0x62, 0x00]; // "a", then a copy from before the start
        let cases: [&[u8]; 6] = [
            b"\x07",                      // block type 3
            b"\x00\x05\x00\x00\x00abcde", // lengths that do not fit
            b"\x04\xff\xff\xff\xff\xff",  // too many codes
            b"a1 NOOP\r\n",
            &reaches_back,
            b"\x03\x00x", // bytes behind the end
        ];
        for bytes in cases {
            assert_eq!(inflated(&[bytes], 100, false), Err(Garbled), "{bytes:x?}");
        }
        // One that is cut short only waits.
        let packed = deflated(&[&long_text(1000)], false);
        assert!(inflated(&[&packed[..packed.len() / 2]], 100, true).is_ok());
    }

    #[test]
    fn what_rests_holds_little() {
        let (mut deflater, mut out) = (Deflater::default(), BytesMut::new());
        deflater.deflate(&long_text(1000), true, &mut out).unwrap();
        assert!(deflater.holds());
        deflater.rest();
        assert!(!deflater.holds() && deflater.core.is_none());
        out.clear();
        deflater.deflate(b"* 5 EXISTS\r\n", true, &mut out).unwrap();
        assert!(deflater.core.is_none() && out.len() < 20, "a line of news needs no compressor");

        let mut inflater = Inflater::new(&deflated(&[b"a NOOP\r\n"], false));
        inflater.inflate(&mut out, 100).unwrap();
        assert!(inflater.holds());
        inflater.rest();
        assert!(!inflater.holds() && inflater.core.is_none() && inflater.window.capacity() <= 1024);
    }

    proptest! {
        // A compressor is dear to make.
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_stream_cut_anywhere_reads_the_same(
            texts in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'\n'), any::<u8>()], 0..2000), 1..6),
            cuts in proptest::collection::vec(1usize..300, 1..20),
            room in 1usize..5000,
            rests: bool,
        ) {
            let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            let packed = deflated(&texts, rests);
            let (mut pieces, mut left) = (Vec::new(), packed.as_slice());
            for cut in cuts.iter().cycle() {
                if left.is_empty() { break }
                let (head, tail) = left.split_at((*cut).min(left.len()));
                pieces.push(head);
                left = tail;
            }
            prop_assert_eq!(inflated(&pieces, room, rests).unwrap(), texts.concat());
        }

        #[test]
        fn no_bytes_upset_the_inflater(bytes in proptest::collection::vec(any::<u8>(), 0..3000), room in 1usize..5000) {
            let pieces: Vec<&[u8]> = bytes.chunks(700).collect();
            let calm = inflated(&pieces, room, false);
            prop_assert_eq!(inflated(&pieces, room, true), calm);
        }
    }
}
