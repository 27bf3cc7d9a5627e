//! Multipart delimiter lines (RFC 2046 section 5.1.1).

/// Longest boundary that is kept, in bytes. RFC 2046 allows 70; what is longer is cut, and the cut is compared.
pub(super) const MAX_BOUNDARY: usize = 200;

/// How much of a line the search looks at: the dashes, a boundary, closing dashes, some padding.
pub(super) const MAX_LINE_HEAD: usize = MAX_BOUNDARY + 64;

/// The boundary of an open multipart.
#[derive(Clone, Debug)]
pub(super) struct Boundary {
    text: Vec<u8>,
    /// Place of its multipart in the list of parts.
    pub(super) part: usize,
}

/// Which boundary a line carries: its place in the stack, and whether it is the last of its multipart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) index: usize,
    pub(super) close: bool,
}

impl Boundary {
    /// `None` for an empty boundary: any line with two dashes would match it.
    pub(super) fn new(value: &[u8], part: usize) -> Option<Boundary> {
        // RFC 2046: a boundary never ends with white space, as gateways may remove it.
        let text = super::field::trim_end(value.get(..MAX_BOUNDARY).unwrap_or(value)).to_vec();
        (!text.is_empty()).then_some(Boundary { text, part })
    }

    /// Whether both have the same text.
    pub(super) fn is_like(&self, other: &Boundary) -> bool {
        self.text == other.text
    }
}

/// Finds the boundary that a line (without its line end) carries; `open` goes from the outermost multipart to the
/// innermost.
///
/// A line that is exactly a delimiter wins over one that only starts like it, and the innermost over the outer
/// ones. RFC 2046 lets a line match by its beginning alone ("an exact match of the entire candidate line is not
/// required"); among those the longest boundary wins, as boundaries may be prefixes of one another.
pub(super) fn find(open: &[Boundary], line: &[u8]) -> Option<Hit> {
    let line = super::field::trim_end(line.strip_prefix(b"--")?);
    let mut best: Option<(usize, Hit)> = None;
    for (index, boundary) in open.iter().enumerate().rev() {
        let Some(rest) = line.strip_prefix(boundary.text.as_slice()) else { continue };
        let hit = Hit { index, close: rest.starts_with(b"--") };
        if rest.is_empty() || rest == b"--" {
            return Some(hit);
        }
        if best.is_none_or(|(length, _)| length < boundary.text.len()) {
            best = Some((boundary.text.len(), hit));
        }
    }
    best.map(|(_, hit)| hit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_lines_win_then_the_longest_boundary() {
        let stack = |texts: &[&str]| -> Vec<Boundary> {
            texts.iter().enumerate().filter_map(|(part, text)| Boundary::new(text.as_bytes(), part)).collect()
        };
        let (open, close) = (|index| Some(Hit { index, close: false }), |index| Some(Hit { index, close: true }));
        let table: [(&str, &[&str], &str, Option<Hit>); 13] = [
            ("plain", &["b"], "--b", open(0)),
            ("last", &["b"], "--b--", close(0)),
            ("padding", &["b"], "--b-- \t ", close(0)),
            ("trailing text", &["b"], "--b and more", open(0)),
            ("not at the start of the line", &["b"], "x --b", None),
            ("one dash", &["b"], "-b", None),
            ("innermost first", &["b", "b"], "--b", open(1)),
            ("outer is a prefix of inner: inner line", &["ab", "abc"], "--abc", open(1)),
            ("outer is a prefix of inner: outer line", &["ab", "abc"], "--ab", open(0)),
            ("inner is a prefix of outer: outer line", &["abc", "ab"], "--abc--", close(0)),
            ("inner is a prefix of outer: inner line", &["abc", "ab"], "--ab--", close(1)),
            ("longest of the inexact", &["abc", "ab"], "--abcd", open(0)),
            ("a boundary that ends in dashes", &["b", "b--"], "--b----", close(1)),
        ];
        for (name, boundaries, line, expected) in table {
            assert_eq!(find(&stack(boundaries), line.as_bytes()), expected, "{name}");
        }
        assert!(Boundary::new(b"", 0).is_none());
        assert!(Boundary::new(b"  ", 0).is_none());
    }
}
