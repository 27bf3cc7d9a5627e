//! What an IMAP server answers, as values (RFC 9051 section 9). Pure; `source` reads the bytes.

use chrono::DateTime;

/// Most levels of parentheses that are read.
const MAX_DEPTH: usize = 8;

/// One value of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// An atom or a number, `NIL` and `BODY[]` too.
    Atom(String),
    /// A quoted string or a literal.
    Text(Vec<u8>),
    List(Vec<Value>),
}

impl Value {
    pub(super) fn atom(&self) -> Option<&str> {
        if let Self::Atom(atom) = self { Some(atom) } else { None }
    }

    pub(super) fn number(&self) -> Option<u32> {
        self.atom()?.parse().ok()
    }

    /// The bytes of a string, quoted or not.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Atom(atom) => Some(atom.as_bytes()),
            Self::Text(text) => Some(text),
            Self::List(_) => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Value]> {
        if let Self::List(list) = self { Some(list) } else { None }
    }
}

/// The values of an answer, with its literals where they stood. Nothing if it is malformed.
pub(super) fn values(answer: &[u8]) -> Option<Vec<Value>> {
    let mut rest = answer;
    let values = list(&mut rest, MAX_DEPTH, false)?;
    rest.is_empty().then_some(values)
}

/// Values up to the end, or up to the parenthesis that closes.
fn list(rest: &mut &[u8], depth: usize, nested: bool) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    loop {
        match rest.split_first() {
            None => return (!nested).then_some(values),
            Some((b' ', after)) => *rest = after,
            Some((b')', after)) if nested => {
                *rest = after;
                return Some(values);
            }
            Some((b'(', after)) => {
                *rest = after;
                values.push(Value::List(list(rest, depth.checked_sub(1)?, true)?));
            }
            Some((b'"', after)) => {
                *rest = after;
                values.push(Value::Text(quoted(rest)?));
            }
            Some((b'{', _)) => values.push(Value::Text(literal(rest)?)),
            Some(_) => values.push(Value::Atom(atom(rest)?)),
        }
    }
}

fn quoted(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        match byte {
            b'"' => return Some(text),
            b'\\' => {
                let (byte, after) = rest.split_first()?;
                *rest = after;
                text.push(*byte);
            }
            byte => text.push(*byte),
        }
    }
}

fn literal(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let line = rest.iter().position(|byte| *byte == b'\n')?;
    let (head, after) = rest.split_at_checked(line + 1)?;
    let size = usize::try_from(literal_size(head.strip_suffix(b"\r\n")?)?).ok()?;
    let (text, after) = after.split_at_checked(size)?;
    *rest = after;
    Some(text.to_vec())
}

/// How many bytes follow a line that ends like this: `{123}`.
pub(super) fn literal_size(line: &[u8]) -> Option<u64> {
    let digits = line.strip_suffix(b"}")?;
    let start = digits.iter().rposition(|byte| *byte == b'{')?;
    str::from_utf8(digits.get(start + 1..)?).ok()?.parse().ok()
}

/// An atom. What stands in brackets belongs to it, with all the spaces there are: `BODY[HEADER.FIELDS (DATE)]`.
fn atom(rest: &mut &[u8]) -> Option<String> {
    let mut bracketed = false;
    let ends = |byte: u8| {
        match byte {
            b'[' => bracketed = true,
            b']' => bracketed = false,
            _ => {}
        }
        !bracketed && matches!(byte, b' ' | b'(' | b')' | b'"')
    };
    let mut ends = ends;
    let end = rest.iter().position(|byte| ends(*byte)).unwrap_or(rest.len());
    let (atom, after) = rest.split_at_checked(end)?;
    *rest = after;
    (!atom.is_empty()).then(|| String::from_utf8_lossy(atom).into_owned())
}

/// INTERNALDATE in seconds since 1970: `17-Jul-1996 02:44:25 -0700`, the day with a space before it where it has one digit.
pub(super) fn date(text: &[u8]) -> Option<i64> {
    let text = str::from_utf8(text).ok()?.trim();
    DateTime::parse_from_str(text, "%d-%b-%Y %H:%M:%S %z").ok().map(|date| date.timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_are_read_as_values() {
        let text = |text: &str| Value::Text(text.as_bytes().to_vec());
        let atom = |text: &str| Value::Atom(text.to_owned());
        for (answer, expected) in [
            ("LIST () \"/\" INBOX", vec![atom("LIST"), Value::List(vec![]), text("/"), atom("INBOX")]),
            (
                "LIST (\\HasNoChildren \\Sent) \".\" {3}\r\na b",
                vec![
                    atom("LIST"),
                    Value::List(vec![atom("\\HasNoChildren"), atom("\\Sent")]),
                    text("."),
                    text("a b"),
                ],
            ),
            (
                "1 FETCH (BODY[HEADER.FIELDS (DATE)] {0}\r\n UID 7)",
                vec![
                    atom("1"),
                    atom("FETCH"),
                    Value::List(vec![atom("BODY[HEADER.FIELDS (DATE)]"), text(""), atom("UID"), atom("7")]),
                ],
            ),
            ("\"a\\\"b\\\\\"", vec![text("a\"b\\")]),
        ] {
            assert_eq!(values(answer.as_bytes()), Some(expected), "{answer}");
        }
        for bad in ["(", ")", "(()", "\"a", "{5}\r\nab", "{x}\r\n", &"(".repeat(20), "\"a\\"] {
            assert_eq!(values(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn dates_are_read_in_both_spellings_of_a_day() {
        for (text, expected) in [
            ("17-Jul-1996 02:44:25 -0700", Some(837_596_665)),
            (" 1-Jan-1970 00:00:01 +0000", Some(1)),
            ("1-Jan-1970 00:00:01 +0000", Some(1)),
            ("31-Feb-2020 00:00:00 +0000", None),
            ("rubbish", None),
        ] {
            assert_eq!(date(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_is_too_odd_to_be_read_or_refused(answer in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(values(&answer));
            let _ = date(&answer);
        }

        #[test]
        fn odd_grammar_neither(answer in "[ ()\"\\\\{}\\[\\]0-9aA*\r\n]{0,60}") {
            drop(values(answer.as_bytes()));
        }
    }
}
