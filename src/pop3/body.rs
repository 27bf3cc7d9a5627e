//! A message on its way out: dots stuffed, lines ended, cut where TOP says (RFC 1939 sections 3 and 7). Called by
//! `session`, chunk by chunk.

use bytes::{BufMut, BytesMut};

/// Whether more of the message is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Feed the next chunk, or finish.
    More,
    /// TOP has all its lines: finish.
    Enough,
}

/// The writer of one message. Chunks may be cut anywhere.
///
/// Every line leaves with CRLF, a bare LF too: programs that take a bare LF for a line's end (Python's `poplib` does)
/// would otherwise see a message's own `.` line as its end, and the rest as our replies. The size told before does not
/// count stuffed dots or mended line ends.
#[derive(Debug)]
pub struct Body {
    /// Bytes of the current line so far, its CR included.
    line: usize,
    /// The last byte was a CR.
    cr: bool,
    /// For TOP: what is left to send.
    top: Option<Top>,
}

#[derive(Debug)]
enum Top {
    Header { lines: u32 },
    Body { left: u32 },
}

impl Body {
    /// The whole message: RETR.
    pub fn whole() -> Self {
        Self { line: 0, cr: false, top: None }
    }

    /// The header, the empty line and `lines` lines: TOP.
    pub fn top(lines: u32) -> Self {
        Self { top: Some(Top::Header { lines }), ..Self::whole() }
    }

    /// Writes the next chunk; at most about three times its length when it is made of line feeds.
    pub fn feed(&mut self, chunk: &[u8], out: &mut BytesMut) -> Fill {
        if matches!(self.top, Some(Top::Body { left: 0 })) {
            return Fill::Enough;
        }
        let mut rest = chunk;
        while let Some(&first) = rest.first() {
            if self.line == 0 && first == b'.' {
                out.put_u8(b'.');
            }
            let Some((content, tail)) = memchr::memchr(b'\n', rest).and_then(|at| rest.split_at_checked(at)) else {
                out.put_slice(rest);
                self.line += rest.len();
                self.cr = rest.ends_with(b"\r");
                break;
            };
            out.put_slice(content);
            self.line += content.len();
            if !content.is_empty() {
                self.cr = content.ends_with(b"\r");
            }
            let empty = self.line == usize::from(self.cr);
            self.end_line(out);
            if self.count(empty) == Fill::Enough {
                return Fill::Enough;
            }
            rest = tail.get(1..).unwrap_or_default();
        }
        Fill::More
    }

    /// Ends the message: its last line if that is open, then the dot.
    pub fn finish(mut self, out: &mut BytesMut) {
        if self.line > 0 {
            self.end_line(out);
        }
        out.put_slice(b".\r\n");
    }

    fn end_line(&mut self, out: &mut BytesMut) {
        out.put_slice(if self.cr { b"\n" } else { b"\r\n" });
        (self.line, self.cr) = (0, false);
    }

    /// TOP's book-keeping after each line.
    fn count(&mut self, empty: bool) -> Fill {
        match &mut self.top {
            None => return Fill::More,
            Some(Top::Header { lines }) if empty => self.top = Some(Top::Body { left: *lines }),
            Some(Top::Header { .. }) => {}
            Some(Top::Body { left }) => *left = left.saturating_sub(1),
        }
        if matches!(self.top, Some(Top::Body { left: 0 })) { Fill::Enough } else { Fill::More }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn sent(mut body: Body, chunks: &[&[u8]]) -> Vec<u8> {
        let mut out = BytesMut::new();
        for chunk in chunks {
            if body.feed(chunk, &mut out) == Fill::Enough {
                break;
            }
        }
        body.finish(&mut out);
        out.to_vec()
    }

    fn text(body: Body, message: &str) -> String {
        String::from_utf8(sent(body, &[message.as_bytes()])).unwrap()
    }

    #[test]
    fn dots_at_the_start_of_a_line_are_doubled_and_the_end_is_a_line() {
        for (name, message, expected) in [
            ("empty", "", ".\r\n"),
            ("no dots", "a\r\nb\r\n", "a\r\nb\r\n.\r\n"),
            ("no last CRLF", "a\r\nb", "a\r\nb\r\n.\r\n"),
            ("half a last CRLF", "a\r\nb\r", "a\r\nb\r\n.\r\n"),
            ("a dot alone", ".\r\n", "..\r\n.\r\n"),
            ("a dot alone and no CRLF", ".", "..\r\n.\r\n"),
            ("dots in front", ".a\r\n..b\r\n", "..a\r\n...b\r\n.\r\n"),
            ("a dot within", "a.b\r\n", "a.b\r\n.\r\n"),
            ("bare LF before a dot", "a\n.\nb\n", "a\r\n..\r\nb\r\n.\r\n"),
            ("bare CR before a dot", "a\r.b\r\n", "a\r.b\r\n.\r\n"),
            ("CR CR LF", "a\r\r\n.", "a\r\r\n..\r\n.\r\n"),
            ("NUL", "\0.\r\n", "\0.\r\n.\r\n"),
        ] {
            assert_eq!(text(Body::whole(), message), expected, "{name}");
        }
    }

    #[test]
    fn top_sends_the_header_the_empty_line_and_so_many_lines() {
        let message = "A: b\r\n c\r\n\r\n1\r\n.2\r\n\r\n4";
        for (lines, expected) in [
            (0, "A: b\r\n c\r\n\r\n.\r\n"),
            (1, "A: b\r\n c\r\n\r\n1\r\n.\r\n"),
            (3, "A: b\r\n c\r\n\r\n1\r\n..2\r\n\r\n.\r\n"),
            (4, "A: b\r\n c\r\n\r\n1\r\n..2\r\n\r\n4\r\n.\r\n"),
            (u32::MAX, "A: b\r\n c\r\n\r\n1\r\n..2\r\n\r\n4\r\n.\r\n"),
        ] {
            assert_eq!(text(Body::top(lines), message), expected, "TOP n {lines}");
        }
        assert_eq!(text(Body::top(5), "A: no body"), "A: no body\r\n.\r\n");
        assert_eq!(text(Body::top(0), "\r\nbody"), "\r\n.\r\n", "no header at all");
    }

    /// What a client does with the stream: to the line that is a dot, one dot off each other line that has one.
    fn received(wire: &[u8]) -> Option<Vec<u8>> {
        let mut message = Vec::new();
        let mut rest = wire;
        loop {
            let at = memchr::memmem::find(rest, b"\r\n")?;
            let (line, tail) = rest.split_at(at + 2);
            if line == b".\r\n" {
                return tail.is_empty().then_some(message);
            }
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            rest = tail;
        }
    }

    fn mail_like() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(proptest::sample::select(b"\r\n..ab\0".to_vec()), 0..60)
    }

    proptest! {
        #[test]
        fn a_message_arrives_the_same_wherever_its_chunks_are_cut(message in mail_like(), lines in 0u32..4) {
            let mends = String::from_utf8(message.clone()).unwrap();
            let mut expected = mends.replace("\r\n", "\n").replace('\n', "\r\n");
            if expected.ends_with('\r') {
                expected.push('\n');
            } else if !expected.is_empty() && !expected.ends_with("\r\n") {
                expected.push_str("\r\n");
            }
            prop_assert_eq!(received(&sent(Body::whole(), &[&message])), Some(expected.into_bytes()));
            let (whole, top) = (sent(Body::whole(), &[&message]), sent(Body::top(lines), &[&message]));
            prop_assert!(received(&whole).unwrap().starts_with(&received(&top).unwrap()));
            for cut in 0..=message.len() {
                let (head, tail) = message.split_at(cut);
                prop_assert_eq!(&sent(Body::whole(), &[head, tail]), &whole);
                prop_assert_eq!(&sent(Body::top(lines), &[head, tail]), &top);
            }
        }
    }
}
