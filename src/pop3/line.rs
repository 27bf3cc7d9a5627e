//! Cuts the input into lines, with a bound. Called by `dialog`.
//!
//! A line ends with CRLF; a bare CR or LF ends nothing (two programs that disagree on that can be made to disagree on
//! where a command starts). Consumed bytes are overwritten: a line may be a token, or a password nobody asked for.

use bytes::{Buf, BytesMut};
use zeroize::{Zeroize, Zeroizing};

/// A line may be longer than its limit by this factor before we stop waiting for its end.
const PATIENCE: usize = 16;

/// The unread input of one connection.
#[derive(Default)]
pub(super) struct Lines {
    input: BytesMut,
    /// Bytes of `input` known to hold no CRLF.
    scanned: usize,
    /// Bytes already thrown away of a line that is too long.
    skipped: usize,
}

/// The next line, if it is there.
pub(super) enum Line {
    /// Not whole yet.
    More,
    /// A line, without its CRLF.
    Whole(Zeroizing<Vec<u8>>),
    /// A line that passed the limit has ended; its bytes are gone.
    TooLong,
    /// A line that is past all patience.
    Endless,
}

impl Lines {
    /// Where the session puts what it reads.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Takes the next line of at most `limit` bytes, CRLF included.
    pub(super) fn next(&mut self, limit: usize) -> Line {
        let most = limit.saturating_mul(PATIENCE);
        let unseen = self.input.get(self.scanned..).unwrap_or_default();
        let Some(at) = memchr::memmem::find(unseen, b"\r\n").map(|at| self.scanned + at) else {
            // A CR at the end may be half of a CRLF.
            self.scanned = self.input.len() - usize::from(self.input.ends_with(b"\r"));
            if self.skipped + self.scanned > most {
                return Line::Endless;
            }
            if self.skipped > 0 || self.scanned >= limit {
                self.skipped += self.scanned;
                self.discard(self.scanned);
            }
            return Line::More;
        };
        let length = self.skipped + at + 2;
        let kept = std::mem::take(&mut self.skipped) == 0 && length <= limit;
        let line = if kept { self.input.get(..at).unwrap_or_default().to_vec() } else { Vec::new() };
        self.discard(at + 2);
        match kept {
            true => Line::Whole(Zeroizing::new(line)),
            false if length > most => Line::Endless,
            false => Line::TooLong,
        }
    }

    fn discard(&mut self, count: usize) {
        self.input.iter_mut().take(count).for_each(Zeroize::zeroize);
        self.input.advance(count.min(self.input.len()));
        self.scanned = 0;
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.input.as_mut().zeroize();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What `next` says for each line of `chunks`: its length, or why there is none.
    fn read(chunks: &[&[u8]], limit: usize) -> Vec<Result<usize, &'static str>> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.buffer().extend_from_slice(chunk);
            loop {
                match lines.next(limit) {
                    Line::More => break,
                    Line::Whole(line) => found.push(Ok(line.len())),
                    Line::TooLong => found.push(Err("too long")),
                    Line::Endless => {
                        found.push(Err("endless"));
                        return found;
                    }
                }
            }
            assert!(lines.input.len() <= limit.max(1), "kept {} bytes of a limit of {limit}", lines.input.len());
        }
        found
    }

    #[test]
    fn a_line_at_the_limit_passes_and_one_byte_more_does_not() {
        assert_eq!(read(&[b"123456\r\n12\r\n"], 8), [Ok(6), Ok(2)]);
        assert_eq!(read(&[b"1234567\r\n12\r\n"], 8), [Err("too long"), Ok(2)]);
    }

    #[test]
    fn a_line_without_end_is_given_up_on() {
        let endless = [b'x'; 8 * PATIENCE + 1];
        assert_eq!(read(&[&endless], 8), [Err("endless")]);
        let mut late = endless.to_vec();
        late.extend_from_slice(b"\r\n");
        assert_eq!(read(&[&late], 8), [Err("endless")]);
        let mut just = vec![b'x'; 8 * PATIENCE - 2];
        just.extend_from_slice(b"\r\n");
        assert_eq!(read(&[&just], 8), [Err("too long")]);
    }

    #[test]
    fn only_crlf_ends_a_line() {
        assert_eq!(read(&[b"a\nb\rc\r\r\n\n\r\n"], 80), [Ok(6), Ok(1)]);
    }

    #[test]
    fn lines_are_the_same_wherever_tcp_cuts_them() {
        let bytes = b"NOOP\r\nfar too long a line\r\r\n\r\nlast\r\n";
        let whole = read(&[bytes], 8);
        assert_eq!(whole, [Ok(4), Err("too long"), Ok(0), Ok(4)]);
        for cut in 0..bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(read(&[head, tail], 8), whole, "cut at byte {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single, 8), whole, "byte by byte");
    }
}
