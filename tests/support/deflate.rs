//! A client that compresses (RFC 4978), over [`Wire`].

use miniz_oxide::{
    DataFormat, MZFlush, MZStatus,
    deflate::{core::CompressorOxide, stream::deflate},
    inflate::stream::{InflateState, inflate},
};

use super::wire::Wire;

/// A connection on which both directions are compressed.
pub struct Deflated {
    /// The compressed bytes.
    pub wire: Wire,
    compressor: Box<CompressorOxide>,
    inflater: Box<InflateState>,
    pending: Vec<u8>,
}

impl Deflated {
    /// Takes over a connection after the answer to COMPRESS.
    pub fn over(wire: Wire) -> Self {
        let mut compressor = Box::<CompressorOxide>::default();
        compressor.set_format_and_level(DataFormat::Raw, 6);
        Self { wire, compressor, inflater: InflateState::new_boxed(DataFormat::Raw), pending: Vec::new() }
    }

    /// What `bytes` are on the wire.
    pub fn packed(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let mut room = vec![0; bytes.len() + 1024];
            let done = deflate(&mut self.compressor, bytes, &mut room, MZFlush::Sync);
            bytes = &bytes[done.bytes_consumed..];
            out.extend_from_slice(&room[..done.bytes_written]);
            if bytes.is_empty() && done.bytes_written < room.len() {
                return out;
            }
        }
    }

    /// Sends bytes, compressed.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let packed = self.packed(bytes);
        self.wire.send_bytes(&packed);
    }

    /// Sends a line, compressed.
    pub fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\r\n").as_bytes());
    }

    /// Reads more; false at the end.
    fn fill(&mut self) -> bool {
        let packed = self.wire.some();
        let mut left = packed.as_slice();
        let mut room = vec![0; 64 * 1024];
        loop {
            let done = inflate(&mut self.inflater, left, &mut room, MZFlush::None);
            left = &left[done.bytes_consumed..];
            self.pending.extend_from_slice(&room[..done.bytes_written]);
            match done.status {
                Ok(MZStatus::Ok) if done.bytes_written > 0 || !left.is_empty() => {}
                Ok(MZStatus::Ok) | Err(miniz_oxide::MZError::Buf) => return !packed.is_empty(),
                other => panic!("the gate sent no deflate stream: {other:?}"),
            }
        }
    }

    /// The next line without its CRLF; nothing at the end.
    pub fn line_or_end(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.pending.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.pending[..end]).into_owned();
                self.pending.drain(..end + 2);
                return Some(line);
            }
            if !self.fill() {
                assert!(self.pending.is_empty(), "closed in the middle of a line: {:?}", self.pending);
                return None;
            }
        }
    }

    /// The next line.
    pub fn line(&mut self) -> String {
        self.line_or_end().expect("the gate closed the connection where a line was due")
    }

    /// Exactly `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        while self.pending.len() < n {
            assert!(self.fill(), "closed after {} of {n} bytes", self.pending.len());
        }
        self.pending.drain(..n).collect()
    }

    /// The lines up to and with the one that starts with `tag`.
    pub fn until(&mut self, tag: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            let last = line.starts_with(tag) && line[tag.len()..].starts_with(' ');
            lines.push(line);
            if last {
                return lines;
            }
        }
    }

    /// Everything up to the end.
    pub fn rest(&mut self) -> String {
        while self.fill() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}
