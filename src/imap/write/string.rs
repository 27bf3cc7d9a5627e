//! Strings on the wire: quoted where they can be, literals where they must (RFC 3501 section 4.3).

use std::borrow::Cow;

use bytes::BytesMut;

use super::put;
use crate::imap::{mailbox::Names, mutf7};

/// Longest string that is quoted, in bytes; longer ones go as literals, which need no scan for quotes.
const MAX_QUOTED: usize = 1024;

/// A string or NIL. NUL, which neither form may hold, goes out as `?`.
pub fn nstring(out: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        Some(value) => string(out, value),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// A string: quoted if it is short printable ASCII, else a literal. NUL goes out as `?`.
pub fn string(out: &mut BytesMut, value: &[u8]) {
    if value.len() <= MAX_QUOTED && value.iter().all(|b| matches!(b, b' '..=b'~' | b'\t')) {
        return quoted(out, value);
    }
    literal_head(out, value.len() as u64);
    octets(out, value);
}

/// Octets of a literal. NUL, which only BINARY's may hold (RFC 3501 section 9, `CHAR8`), goes out as `?`.
pub fn octets(out: &mut BytesMut, octets: &[u8]) {
    let mut rest = octets;
    while let Some((before, after)) =
        memchr::memchr(0, rest).and_then(|at| Some((rest.get(..at)?, rest.get(at + 1..)?)))
    {
        out.extend_from_slice(before);
        out.extend_from_slice(b"?");
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// A number.
pub fn number(out: &mut BytesMut, number: u64) {
    put(out, format_args!("{number}"));
}

/// `{n}` and CRLF: the caller sends exactly `octets` bytes next.
pub fn literal_head(out: &mut BytesMut, octets: u64) {
    put(out, format_args!("{{{octets}}}\r\n"));
}

/// `~{n}` and CRLF (RFC 3516 section 4.3): as [`literal_head`], and the bytes may be any.
pub fn binary_head(out: &mut BytesMut, octets: u64) {
    put(out, format_args!("~{{{octets}}}\r\n"));
}

/// A mailbox name, given in UTF-8: bare where that is plainly safe, else quoted.
pub fn mailbox(out: &mut BytesMut, name: &str, names: Names) {
    let wire = match names {
        Names::Mutf7 => Cow::Owned(mutf7::encode(name)),
        Names::Utf8 => Cow::Borrowed(name),
    };
    let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-' | b'&' | b'+' | b',');
    if !wire.is_empty() && wire.bytes().all(bare) && !wire.eq_ignore_ascii_case("NIL") {
        out.extend_from_slice(wire.as_bytes());
    } else if wire.chars().any(char::is_control) {
        string(out, wire.as_bytes());
    } else {
        quoted(out, wire.as_bytes());
    }
}

fn quoted(out: &mut BytesMut, value: &[u8]) {
    out.extend_from_slice(b"\"");
    for piece in value.split_inclusive(|b| matches!(b, b'"' | b'\\')) {
        match piece.split_last() {
            Some((special @ (b'"' | b'\\'), before)) => {
                out.extend_from_slice(before);
                out.extend_from_slice(&[b'\\', *special]);
            }
            _ => out.extend_from_slice(piece),
        }
    }
    out.extend_from_slice(b"\"");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_quoted_where_it_can_be() {
        let long = vec![b'a'; 1025];
        let long_wire = [b"{1025}\r\n".as_slice(), &long].concat();
        let cases: [(Option<&[u8]>, &[u8]); 9] = [
            (None, b"NIL"),
            (Some(b""), b"\"\""),
            (Some(b"NIL"), b"\"NIL\""),
            (Some(b"a \"b\" \\c"), b"\"a \\\"b\\\" \\\\c\""),
            (Some(b"\\"), b"\"\\\\\""),
            (Some(b"a\r\nb"), b"{4}\r\na\r\nb"),
            (Some("é".as_bytes()), b"{2}\r\n\xc3\xa9"),
            (Some(b"a\0b\0"), b"{4}\r\na?b?"),
            (Some(&long), &long_wire),
        ];
        for (value, wire) in cases {
            let mut out = BytesMut::new();
            nstring(&mut out, value);
            assert_eq!(out, wire, "{value:?}");
        }
    }

    #[test]
    fn a_mailbox_name_is_seven_bit_and_never_nil() {
        let cases = [
            ("INBOX", "INBOX"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("a b", "\"a b\""),
            ("nil", "\"nil\""),
            ("", "\"\""),
            ("100%", "\"100%\""),
            ("say \"hi\"", "\"say \\\"hi\\\"\""),
        ];
        for (name, wire) in cases {
            let mut out = BytesMut::new();
            mailbox(&mut out, name, Names::Mutf7);
            assert_eq!(out, wire.as_bytes(), "{name}");
        }
        for (name, wire) in [("R&D", "R&D"), ("Entwürfe", "\"Entwürfe\""), ("\"ö\\", "\"\\\"ö\\\\\"")] {
            let mut out = BytesMut::new();
            mailbox(&mut out, name, Names::Utf8);
            assert_eq!(out, wire.as_bytes(), "{name}");
        }
    }
}
