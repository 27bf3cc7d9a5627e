//! The bytes read and not yet used. Kept small while nothing is pending, and wiped when used: they may be a token.

use bytes::{Bytes, BytesMut};
use zeroize::Zeroize;

/// Capacity while nothing is pending, in bytes.
const IDLE: usize = 1024;
/// Least room offered to a read once something is pending.
const LEAST: usize = 256;
/// Most room added for one read of commands.
const MOST: usize = 16 * 1024;
/// Room for one read of a message.
const WIDE: usize = 32 * 1024;

#[derive(Default)]
pub(super) struct Input {
    bytes: BytesMut,
    /// Bytes at the front that are used up, and wiped.
    used: usize,
    /// Bytes behind `used` that are known to hold no line end.
    scanned: usize,
}

/// Says how much, never what.
impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Input({} bytes)", self.rest().len())
    }
}

impl Input {
    /// What is not used yet.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.used..).unwrap_or_default()
    }

    /// Where the first line from `from` on ends, CRLF included. Each byte is looked at once, however it arrives.
    pub(super) fn line_end(&mut self, from: usize) -> Option<usize> {
        let rest = self.bytes.get(self.used..).unwrap_or_default();
        let mut at = self.scanned.max(from);
        while let Some(found) = memchr::memchr(b'\n', rest.get(at..).unwrap_or_default()) {
            at += found + 1;
            // The CR must belong to this line too, not to a literal before it.
            if at >= from + 2 && rest.get(at - 2) == Some(&b'\r') {
                // This line end is looked at again if the line turns out to be asked for again.
                self.scanned = at - 1;
                return Some(at);
            }
        }
        self.scanned = rest.len();
        None
    }

    /// Wipes and drops the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        let end = self.used.saturating_add(count).min(self.bytes.len());
        if let Some(done) = self.bytes.get_mut(self.used..end) {
            done.zeroize();
        }
        self.scanned = self.scanned.saturating_sub(end - self.used);
        self.used = end;
        if self.used == self.bytes.len() {
            self.bytes.clear();
            self.used = 0;
        }
    }

    /// At most `most` bytes as a piece of a message, without a copy where the whole buffer is one.
    pub(super) fn take_chunk(&mut self, most: u64) -> Option<Bytes> {
        let there = self.rest().len();
        let take = usize::try_from(most).unwrap_or(usize::MAX).min(there);
        if take == 0 {
            return None;
        }
        if self.used == 0 && take == there && take * 2 >= self.bytes.capacity() {
            self.scanned = 0;
            return Some(std::mem::take(&mut self.bytes).freeze());
        }
        let chunk = Bytes::copy_from_slice(self.rest().get(..take).unwrap_or_default());
        self.consume(take);
        Some(chunk)
    }

    /// Room for the next read: `wide` for a message, else as much as is already pending, within bounds. What was
    /// announced has no say in it.
    pub(super) fn buffer(&mut self, wide: bool) -> &mut BytesMut {
        let pending = self.rest().len();
        let room = if wide { WIDE } else { pending.clamp(IDLE, MOST) };
        let spare = self.bytes.capacity() - pending;
        let too_small = spare < if wide { WIDE / 2 } else { LEAST };
        let too_large = !wide && pending == 0 && self.bytes.capacity() > IDLE;
        if too_small || too_large {
            let mut fresh = BytesMut::with_capacity(pending + room);
            fresh.extend_from_slice(self.rest());
            self.bytes.as_mut().zeroize();
            self.bytes = fresh;
        } else if self.used > 0 {
            self.bytes.copy_within(self.used.., 0);
            if let Some(old) = self.bytes.get_mut(pending..) {
                old.zeroize();
            }
            self.bytes.truncate(pending);
        }
        self.used = 0;
        &mut self.bytes
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.bytes.as_mut().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_wiped() {
        let mut input = Input::default();
        input.buffer(false).extend_from_slice(b"a LOGIN ann secret\r\nb");
        input.consume(20);
        assert_eq!(input.rest(), b"b");
        assert!(input.bytes.iter().take(20).all(|b| *b == 0), "{:?}", input.bytes);
    }

    #[test]
    fn a_line_ends_with_its_own_cr_and_lf() {
        let mut input = Input::default();
        input.buffer(false).extend_from_slice(b"{1}\r\n\r\na\nb\rc\r\n");
        assert_eq!(input.line_end(0), Some(5));
        assert_eq!(input.line_end(0), Some(5), "asked twice");
        assert_eq!(input.line_end(6), Some(14), "the CR is the literal's, the LF alone ends nothing");
        input.consume(14);
        assert_eq!(input.line_end(0), None);
    }
}
