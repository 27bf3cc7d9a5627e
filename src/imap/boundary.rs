//! Where the responses of another server end, told from its bytes as they are passed on: a last line of ours belongs
//! between two responses, never inside a literal (RFC 9051 sections 2.2.2 and 4.3). Nothing is parsed beyond that, and
//! nothing is kept but the ends of a line that came in two pieces. Called by `session::relay`.

use super::frame::Announced;

/// Bytes kept from the beginning of a line: the tag, and the first word behind it.
const HEAD: usize = 272;
/// Untagged responses whose end is free text: a `{5}` there is no literal.
const STATUS_WORDS: [&[u8]; 5] = [b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"];

/// What a line says to whoever waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// `+`: go on.
    GoOn,
    /// The end of the command with this tag. One of more than 256 bytes is cut.
    Done(&'a [u8]),
    /// `* BYE`: the server is about to close.
    Bye,
}

/// One direction of a relayed IMAP session: from the server to the peer.
#[derive(Debug, Default)]
pub struct Responses {
    /// Bytes of a literal that are still to come.
    literal: u64,
    line: Line,
}

/// The line that is under way.
#[derive(Debug, Default)]
struct Line {
    /// Whether anything of it has come.
    begun: bool,
    /// It goes on behind a literal: its beginning was seen long ago.
    goes_on: bool,
    /// Its first bytes, kept only where it came in pieces.
    head: Vec<u8>,
    /// Its last bytes, kept only where it came in pieces.
    tail: Vec<u8>,
}

impl Responses {
    /// Whether everything so far is whole responses.
    pub fn at_boundary(&self) -> bool {
        self.literal == 0 && !self.line.begun && !self.line.goes_on
    }

    /// Follows these bytes; `hears` is told what their lines say.
    pub fn follow(&mut self, bytes: &[u8], mut hears: impl FnMut(Said<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.step(rest, &mut hears);
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    /// Follows these bytes up to the first place where a response has ended: how many that are; none if all of them
    /// were followed and the last response is not whole.
    pub fn follow_to_boundary(&mut self, bytes: &[u8], mut hears: impl FnMut(Said<'_>)) -> Option<usize> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            done += self.step(rest, &mut hears);
            if self.at_boundary() {
                return Some(done);
            }
        }
        None
    }

    /// Follows the rest of a literal or of a line: how many bytes that were, at least one.
    fn step(&mut self, bytes: &[u8], hears: &mut impl FnMut(Said<'_>)) -> usize {
        if self.literal > 0 {
            let here = usize::try_from(self.literal).unwrap_or(usize::MAX).min(bytes.len());
            self.literal -= here as u64;
            return here;
        }
        match memchr::memchr(b'\n', bytes) {
            None => {
                self.line.keep(bytes);
                bytes.len()
            }
            Some(end) => {
                self.end_of_line(bytes.get(..=end).unwrap_or_default(), hears);
                end + 1
            }
        }
    }

    /// The line ends with these bytes, which may be all of it.
    fn end_of_line(&mut self, bytes: &[u8], hears: &mut impl FnMut(Said<'_>)) {
        let mut line = std::mem::take(&mut self.line);
        let (head, tail) = if line.begun {
            line.keep(bytes);
            (line.head.as_slice(), line.tail.as_slice())
        } else {
            (bytes, bytes)
        };
        // Only a line that can hold one is asked for a literal, and few lines end with a brace.
        let literal = match tail {
            [.., b'}', b'\r', b'\n'] if line.goes_on || may_hold_literal(head) => Announced::at_end_of(tail),
            _ => None,
        };
        if !line.goes_on {
            say(head, hears);
        }
        if let Some(announced) = literal {
            self.literal = announced.size;
            self.line.goes_on = true;
        }
    }
}

impl Line {
    /// Keeps the ends of what came of a line.
    fn keep(&mut self, bytes: &[u8]) {
        self.begun = true;
        if !self.goes_on {
            let room = HEAD.saturating_sub(self.head.len()).min(bytes.len());
            self.head.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
        self.tail
            .extend_from_slice(bytes.get(bytes.len().saturating_sub(Announced::LONGEST)..).unwrap_or_default());
        let surplus = self.tail.len().saturating_sub(Announced::LONGEST);
        self.tail.drain(..surplus);
    }
}

/// The word behind `* `.
fn untagged_word(head: &[u8]) -> Option<&[u8]> {
    let rest = head.strip_prefix(b"* ")?;
    let end = rest.iter().position(|byte| matches!(byte, b' ' | b'\r' | b'\n')).unwrap_or(rest.len());
    rest.get(..end)
}

fn may_hold_literal(head: &[u8]) -> bool {
    untagged_word(head).is_some_and(|word| !STATUS_WORDS.iter().any(|status| word.eq_ignore_ascii_case(status)))
}

fn say(head: &[u8], hears: &mut impl FnMut(Said<'_>)) {
    match head.first() {
        Some(b'*') => {
            if untagged_word(head).is_some_and(|word| word.eq_ignore_ascii_case(b"BYE")) {
                hears(Said::Bye);
            }
        }
        Some(b'+') => hears(Said::GoOn),
        Some(b'\r' | b'\n') | None => {}
        Some(_) => {
            let end = head.iter().position(|byte| *byte == b' ').unwrap_or(head.len());
            hears(Said::Done(head.get(..end.min(256)).unwrap_or_default()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIALOG: &[u8] = b"* OK still here {5}\r\n* 1 FETCH (BODY[] {12}\r\n* BYE no\r\n{9 UID 3)\r\n\
        a1 OK done {3}\r\n+ idling {7}\r\n* LIST () \"/\" {3}\r\n{9}\r\n* 2 FETCH (BINARY[1] ~{2}\r\n\0} \"x\" {0}\r\n)\r\n\
        * bye see you\r\nlong.tag NO [X] y\r\n";

    /// The places where responses end, and what their lines say, when the bytes come cut like this.
    fn followed(chunks: &[&[u8]]) -> (Vec<usize>, Vec<String>) {
        let (mut responses, mut ends, mut said, mut at) = (Responses::default(), vec![], vec![], 0);
        for chunk in chunks {
            let mut rest = *chunk;
            let mut hears = |word: Said<'_>| {
                said.push(match word {
                    Said::GoOn => "+".to_owned(),
                    Said::Bye => "bye".to_owned(),
                    Said::Done(tag) => String::from_utf8_lossy(tag).into_owned(),
                });
            };
            while let Some(taken) = responses.follow_to_boundary(rest, &mut hears) {
                at += taken;
                ends.push(at);
                rest = rest.get(taken..).unwrap_or_default();
            }
            at += rest.len();
        }
        (ends, said)
    }

    #[test]
    fn a_response_ends_where_its_last_literal_and_line_do() {
        let (ends, said) = followed(&[DIALOG]);
        let mut from = 0;
        let texts: Vec<_> = ends
            .iter()
            .map(|end| {
                let text = String::from_utf8_lossy(DIALOG.get(from..*end).unwrap_or_default()).into_owned();
                from = *end;
                text
            })
            .collect();
        assert_eq!(
            texts,
            [
                "* OK still here {5}\r\n",
                "* 1 FETCH (BODY[] {12}\r\n* BYE no\r\n{9 UID 3)\r\n",
                "a1 OK done {3}\r\n",
                "+ idling {7}\r\n",
                "* LIST () \"/\" {3}\r\n{9}\r\n",
                "* 2 FETCH (BINARY[1] ~{2}\r\n\0} \"x\" {0}\r\n)\r\n",
                "* bye see you\r\n",
                "long.tag NO [X] y\r\n",
            ]
        );
        assert_eq!(said, ["a1", "+", "bye", "long.tag"]);
    }

    #[test]
    fn a_dialog_means_the_same_wherever_tcp_cuts_it() {
        let whole = followed(&[DIALOG]);
        for cut in 0..DIALOG.len() {
            let (head, tail) = DIALOG.split_at(cut);
            assert_eq!(followed(&[head, tail]), whole, "cut at byte {cut}");
        }
        let single: Vec<&[u8]> = DIALOG.chunks(1).collect();
        assert_eq!(followed(&single), whole, "byte by byte");
    }

    #[test]
    fn a_line_without_end_keeps_only_its_ends() {
        let mut responses = Responses::default();
        for _ in 0..1000 {
            responses.follow(&[b'x'; 1000], |_| {});
        }
        assert!(responses.line.head.capacity() + responses.line.tail.capacity() < 4096);
        assert!(!responses.at_boundary());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_followed_to_its_end(chunks in proptest::collection::vec("[*+a1 {}~\r\nBYE0-9]{0,30}", 0..8)) {
            let mut responses = Responses::default();
            let all: String = chunks.concat();
            for chunk in &chunks {
                responses.follow(chunk.as_bytes(), |_| {});
            }
            let mut at_once = Responses::default();
            at_once.follow(all.as_bytes(), |_| {});
            prop_assert_eq!(responses.at_boundary(), at_once.at_boundary());
            prop_assert_eq!(responses.literal, at_once.literal);
        }
    }
}
