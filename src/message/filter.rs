//! HEADER.FIELDS and HEADER.FIELDS.NOT (RFC 3501 section 6.4.5): a header block with some fields left out.

use std::collections::HashSet;

use super::field::{name_of, starts_folded};

/// Which fields stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// HEADER.FIELDS: the named ones.
    Named,
    /// HEADER.FIELDS.NOT: all but the named ones. Lines that are no field at all stay too.
    Others,
}

/// Longest start of a line that is looked at for a field name, in bytes.
const MAX_NAME: usize = 1024;

/// Filters a header block that arrives in pieces, so that a header of any size needs no memory.
#[derive(Clone, Debug)]
pub struct HeaderFilter {
    /// In lower case. A set, because a peer may ask for as many names as a command holds, of a header with as many lines.
    names: HashSet<Vec<u8>>,
    keep: Keep,
    state: State,
    /// Bytes of a line that is not decided yet; at most [`MAX_NAME`].
    held: Vec<u8>,
    /// Whether the field that a folded line belongs to passes.
    passing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    LineStart,
    Name,
    RestOfLine,
    Done,
}

impl HeaderFilter {
    /// Field names compare without case.
    pub fn new(names: impl IntoIterator<Item = impl AsRef<[u8]>>, keep: Keep) -> HeaderFilter {
        let names = names.into_iter().map(|name| name.as_ref().to_ascii_lowercase()).collect();
        HeaderFilter { names, keep, state: State::LineStart, held: Vec::new(), passing: keep == Keep::Others }
    }

    /// Takes the next bytes of the header, cut anywhere, and appends what passes to `out`. The blank line at the end
    /// of the header passes (RFC 3501: "Subsetting does not exclude the delimiting blank line"); what follows does not.
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let [first, ..] = bytes {
            match self.state {
                State::Done => return,
                State::LineStart if starts_folded(bytes) => self.state = State::RestOfLine,
                State::LineStart => self.state = State::Name,
                State::Name => {
                    self.held.push(*first);
                    bytes = bytes.get(1..).unwrap_or_default();
                    if matches!(first, b':' | b'\n') || self.held.len() >= MAX_NAME {
                        self.decide(out);
                    }
                }
                State::RestOfLine => {
                    let line_end = memchr::memchr(b'\n', bytes);
                    let (now, later) = bytes.split_at(line_end.map_or(bytes.len(), |at| at + 1));
                    if self.passing {
                        out.extend_from_slice(now);
                    }
                    if line_end.is_some() {
                        self.state = State::LineStart;
                    }
                    bytes = later;
                }
            }
        }
    }

    /// Ends the header, which may stop in the middle of a line.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.state == State::Name {
            self.decide(out);
        }
        self.state = State::Done;
    }

    /// The start of a line is known: pass it or drop it.
    fn decide(&mut self, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        if held == b"\r\n" || held == b"\n" {
            out.extend_from_slice(&held);
            self.state = State::Done;
            return;
        }
        let named = name_of(&held).is_some_and(|(name, _)| self.names.contains(&name.to_ascii_lowercase()));
        self.passing = named == (self.keep == Keep::Named);
        if self.passing {
            out.extend_from_slice(&held);
        }
        self.state = if held.ends_with(b"\n") { State::LineStart } else { State::RestOfLine };
        self.held = held;
        self.held.clear();
    }
}

/// [`HeaderFilter`] for a header block that is in memory.
pub fn header_fields(header: &[u8], names: &[impl AsRef<[u8]>], keep: Keep) -> Vec<u8> {
    let mut filter = HeaderFilter::new(names, keep);
    let mut out = Vec::new();
    filter.feed(header, &mut out);
    filter.finish(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &[u8] =
        b"From: a\r\nSubject: one\r\n two\r\nno colon here\r\n more\r\nX-From: b\r\nTo \t: c\r\n\r\nFrom: z";

    #[test]
    fn named_fields_come_with_their_folded_lines_and_the_blank_line() {
        let names = ["subject", "TO"];
        assert_eq!(header_fields(HEADER, &names, Keep::Named), b"Subject: one\r\n two\r\nTo \t: c\r\n\r\n");
        let others = b"From: a\r\nno colon here\r\n more\r\nX-From: b\r\n\r\n";
        assert_eq!(header_fields(HEADER, &names, Keep::Others), others);
    }

    #[test]
    fn no_blank_line_is_made_up() {
        let table: [(&str, &[u8], &[u8]); 5] = [
            ("no blank line", b"A: 1\r\nB: 2\r\n", b"A: 1\r\n"),
            ("cut in a value", b"B: 2\r\nA: 1", b"A: 1"),
            ("cut in a name", b"A: 1\r\nA", b"A: 1\r\n"),
            ("nothing", b"", b""),
            ("bare LF", b"A: 1\n x\nB: 2\n\nA: 3\n", b"A: 1\n x\n\n"),
        ];
        for (name, header, expected) in table {
            assert_eq!(header_fields(header, &["a"], Keep::Named), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_header_cut_anywhere_passes_the_same(
            header in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b'a'), Just(b' '), any::<u8>()], 0..200),
            cut in any::<prop::sample::Index>(),
            named in any::<bool>(),
        ) {
            let keep = if named { Keep::Named } else { Keep::Others };
            let whole = header_fields(&header, &["a", "aa"], keep);
            let (head, tail) = header.split_at(cut.index(header.len() + 1));
            let mut filter = HeaderFilter::new(["a", "aa"], keep);
            let mut out = Vec::new();
            filter.feed(head, &mut out);
            filter.feed(tail, &mut out);
            filter.finish(&mut out);
            prop_assert_eq!(out, whole);
        }
    }
}
