//! What SEARCH, SORT and THREAD answer (RFC 3501 section 7.2.5, RFC 4731 section 3.1, RFC 5256 section 4), piece by
//! piece: there may be a hundred thousand numbers. Between two pieces of a line nothing else may be written.

use bytes::BytesMut;

use super::{put, string};

/// One `* SEARCH 2 5 ..` or `* SORT 5 2 ..` being written.
#[derive(Debug)]
#[must_use = "a response has to be ended"]
pub struct NumbersLine(());

impl NumbersLine {
    /// `* SEARCH`
    pub fn search(out: &mut BytesMut) -> Self {
        out.extend_from_slice(b"* SEARCH");
        Self(())
    }

    /// `* SORT`
    pub fn sort(out: &mut BytesMut) -> Self {
        out.extend_from_slice(b"* SORT");
        Self(())
    }

    /// More numbers, each with a space before it.
    pub fn numbers(&self, out: &mut BytesMut, numbers: &[u32]) {
        for number in numbers {
            put(out, format_args!(" {number}"));
        }
    }

    /// ` (MODSEQ n)`, behind at least one number: the highest mod-sequence of the messages told (RFC 7162 section 3.1.6).
    pub fn modseq(&self, out: &mut BytesMut, modseq: u64) {
        put(out, format_args!(" (MODSEQ {modseq})"));
    }

    /// CRLF.
    pub fn end(self, out: &mut BytesMut) {
        out.extend_from_slice(b"\r\n");
    }
}

/// One `* ESEARCH (TAG "a1") UID MIN 2 ..` being written.
#[derive(Debug)]
#[must_use = "a response has to be ended"]
pub struct EsearchLine {
    /// Ranges of ALL were written.
    ranges: bool,
}

impl EsearchLine {
    /// `* ESEARCH (TAG "a1")`, and ` UID` where the numbers are UIDs.
    pub fn start(out: &mut BytesMut, tag: &str, uid: bool) -> Self {
        out.extend_from_slice(b"* ESEARCH (TAG ");
        string(out, tag.as_bytes());
        out.extend_from_slice(if uid { b") UID" } else { b")" });
        Self { ranges: false }
    }

    /// ` MIN 2`, ` COUNT 7`, ..
    pub fn item(&self, out: &mut BytesMut, name: &str, value: u64) {
        put(out, format_args!(" {name} {value}"));
    }

    /// More of ` ALL 2,10:15,21`: each range is at least one number, in the order given. Nothing may follow but more.
    pub fn all(&mut self, out: &mut BytesMut, ranges: impl IntoIterator<Item = (u32, u32)>) {
        for (low, high) in ranges {
            let before = if std::mem::replace(&mut self.ranges, true) { "," } else { " ALL " };
            if low == high {
                put(out, format_args!("{before}{low}"));
            } else {
                put(out, format_args!("{before}{low}:{high}"));
            }
        }
    }

    /// CRLF.
    pub fn end(self, out: &mut BytesMut) {
        out.extend_from_slice(b"\r\n");
    }
}

/// One token of a THREAD response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadStep {
    /// `(`
    Open,
    /// A message.
    Message(u32),
    /// `)`
    Close,
}

/// One `* THREAD (2)(3 6 (4 23)(44 7 96))` being written.
#[derive(Debug)]
#[must_use = "a response has to be ended"]
pub struct ThreadLine {
    /// A space has to come before the next message or opening parenthesis.
    space: bool,
}

impl ThreadLine {
    /// `* THREAD`
    pub fn start(out: &mut BytesMut) -> Self {
        out.extend_from_slice(b"* THREAD");
        Self { space: true }
    }

    /// The next token.
    pub fn step(&mut self, out: &mut BytesMut, step: ThreadStep) {
        let space = std::mem::replace(&mut self.space, matches!(step, ThreadStep::Message(_)));
        match step {
            ThreadStep::Open if space => out.extend_from_slice(b" ("),
            ThreadStep::Open => out.extend_from_slice(b"("),
            ThreadStep::Message(number) if space => put(out, format_args!(" {number}")),
            ThreadStep::Message(number) => put(out, format_args!("{number}")),
            ThreadStep::Close => out.extend_from_slice(b")"),
        }
    }

    /// CRLF.
    pub fn end(self, out: &mut BytesMut) {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::write::read_back;

    fn written(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn numbers(line: NumbersLine, out: &mut BytesMut, numbers: &[u32]) {
        line.numbers(out, numbers);
        line.end(out);
    }

    #[test]
    fn numbers_stand_on_one_line_and_another_codec_reads_it() {
        for (line, expected) in [
            (written(|o| numbers(NumbersLine::search(o), o, &[2, 5])), "* SEARCH 2 5\r\n"),
            (written(|o| numbers(NumbersLine::search(o), o, &[])), "* SEARCH\r\n"),
            (written(|o| numbers(NumbersLine::sort(o), o, &[5, 2])), "* SORT 5 2\r\n"),
            (written(|o| numbers(NumbersLine::sort(o), o, &[])), "* SORT\r\n"),
        ] {
            assert_eq!(line, expected);
            assert!(read_back(line.as_bytes()).ends_with("rest 0"), "{line}");
        }
    }

    #[test]
    fn esearch_tells_what_was_asked_for() {
        let line = written(|o| {
            let mut line = EsearchLine::start(o, "A282", true);
            line.item(o, "MIN", 2);
            line.item(o, "COUNT", 9);
            line.all(o, [(2, 2), (10, 15)]);
            line.all(o, [(21, 22)]);
            line.end(o);
        });
        assert_eq!(line, "* ESEARCH (TAG \"A282\") UID MIN 2 COUNT 9 ALL 2,10:15,21:22\r\n");
        let none = written(|o| EsearchLine::start(o, "a", false).end(o));
        assert_eq!(none, "* ESEARCH (TAG \"a\")\r\n");
    }

    #[test]
    fn threads_are_nested_as_rfc_5256_shows() {
        use ThreadStep::{Close, Message, Open};
        let thread = |steps: &[ThreadStep]| {
            let line = written(|o| {
                let mut line = ThreadLine::start(o);
                steps.iter().for_each(|step| line.step(o, *step));
                line.end(o);
            });
            assert!(read_back(line.as_bytes()).ends_with("rest 0"), "{line}");
            line
        };
        let m = Message;
        assert_eq!(
            thread(&[
                Open,
                m(2),
                Close,
                Open,
                m(3),
                m(6),
                Open,
                m(4),
                m(23),
                Close,
                Open,
                m(44),
                m(7),
                m(96),
                Close,
                Close
            ]),
            "* THREAD (2)(3 6 (4 23)(44 7 96))\r\n"
        );
        assert_eq!(thread(&[Open, Open, m(3), Close, Open, m(5), Close, Close]), "* THREAD ((3)(5))\r\n");
        assert_eq!(thread(&[]), "* THREAD\r\n");
    }
}
