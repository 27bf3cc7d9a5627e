//! The end of a line that announces a literal: `{5}`, `{5+}`, `~{5}` (RFC 3501 section 4.3, RFC 7888, RFC 3516).

/// A literal to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Its bytes; `u64::MAX` for a number that is longer than any.
    pub size: u64,
    /// The peer waits for `+` before it sends them.
    pub waits: bool,
    /// Written `~{n}`: may hold NUL.
    pub binary: bool,
    /// Bytes of the announcement itself, CRLF included.
    pub length: usize,
}

impl Announced {
    /// Longest announcement that is told from its end, in bytes: what has to be kept of a line that is being dropped.
    pub const LONGEST: usize = Self::MAX_DIGITS + 6;
    const MAX_DIGITS: usize = 20;

    /// Looks at the end of a line, CRLF included. No valid command ends this way without meaning a literal: `{` is in no
    /// atom, and a quoted string ends with its quote.
    pub fn at_end_of(line: &[u8]) -> Option<Self> {
        let inner = line.strip_suffix(b"}\r\n")?;
        let (inner, waits) = match inner.strip_suffix(b"+") {
            Some(inner) => (inner, false),
            None => (inner, true),
        };
        let digits = inner.iter().rev().take(Self::MAX_DIGITS + 1).take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let (before, number) = inner.split_at_checked(inner.len() - digits)?;
        if digits > Self::MAX_DIGITS {
            return Some(Self { size: u64::MAX, waits, binary: false, length: line.len() - before.len() });
        }
        let before = before.strip_suffix(b"{")?;
        let size = str::from_utf8(number).ok()?.parse().unwrap_or(u64::MAX);
        let (before, binary) = match before.strip_suffix(b"~") {
            // `~` may also end an atom, as in `RENAME a b~{3}`: but no space is there either, so that is no command.
            Some(before) => (before, true),
            None => (before, false),
        };
        Some(Self { size, waits, binary, length: line.len() - before.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_told_from_everything_else() {
        let found = |size, waits, binary, length| Some(Announced { size, waits, binary, length });
        let cases: [(&str, Option<Announced>); 14] = [
            ("a SELECT {5}\r\n", found(5, true, false, 5)),
            ("a SELECT {5+}\r\n", found(5, false, false, 6)),
            ("a APPEND x ~{5}\r\n", found(5, true, true, 6)),
            ("a APPEND x ~{05+}\r\n", found(5, false, true, 8)),
            ("{0}\r\n", found(0, true, false, 5)),
            ("{18446744073709551615}\r\n", found(u64::MAX, true, false, 24)),
            ("{99999999999999999999}\r\n", found(u64::MAX, true, false, 24)),
            ("{000000000000000000000005+}\r\n", found(u64::MAX, false, false, 25)),
            ("a {5\r\n", None),
            ("a {}\r\n", None),
            ("a {+}\r\n", None),
            ("a {-5}\r\n", None),
            ("a {5}", None),
            ("a {5} \r\n", None),
        ];
        for (line, expected) in cases {
            assert_eq!(Announced::at_end_of(line.as_bytes()), expected, "{line}");
        }
    }
}
