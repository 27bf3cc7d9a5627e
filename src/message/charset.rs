//! From bytes in some charset to text, in pieces (RFC 2046 section 4.1.2). For SEARCH and PREVIEW: never fails.

use encoding_rs::{Encoding, ISO_2022_JP, REPLACEMENT, UTF_8};

/// A charset decoder that takes text in pieces, cut anywhere.
pub struct Charset {
    inner: Inner,
}

enum Inner {
    /// No usable label: UTF-8 as long as it is valid, Windows-1252 (a superset of Latin-1) from there on.
    Guess {
        tail: Vec<u8>,
        latin: bool,
    },
    /// UTF-8 by name: what is not valid becomes U+FFFD.
    Utf8 {
        tail: Vec<u8>,
    },
    Labelled(encoding_rs::Decoder),
    /// Charsets that only decode whole texts; bytes past [`MAX_WHOLE`] are left off.
    Whole(fn(&[u8]) -> String, Vec<u8>),
}

/// Most bytes of a text in a charset that does not stream.
const MAX_WHOLE: usize = 1024 * 1024;

/// Names that programs use and encoding_rs (the WHATWG table) does not know.
const ALIASES: [(&str, &str); 6] = [
    ("cp932", "shift_jis"),
    ("cp936", "gbk"),
    ("cp949", "euc-kr"),
    ("cp950", "big5"),
    ("euc-cn", "gbk"),
    ("iso-8859-8-e", "iso-8859-8"),
];

impl Charset {
    /// The decoder for a MIME charset name; case does not matter. US-ASCII and unknown names are guessed.
    pub fn new(name: &[u8]) -> Charset {
        let name = name.trim_ascii().to_ascii_lowercase();
        let ascii = [&b""[..], b"us-ascii", b"ascii", b"ansi_x3.4-1968", b"unknown-8bit", b"x-unknown"];
        if ascii.contains(&name.as_slice()) {
            return Charset::guessed();
        }
        let alias = ALIASES.iter().find(|(alias, _)| alias.as_bytes() == name).map(|(_, label)| label.as_bytes());
        let known = if name.starts_with(b"iso-2022-jp") {
            Some(ISO_2022_JP)
        } else {
            Encoding::for_label(alias.unwrap_or(&name))
        };
        let inner = match known {
            // A handful of charsets that no one decodes any more; they are mostly ASCII.
            Some(known) if known == REPLACEMENT => return Charset::guessed(),
            Some(known) if known == UTF_8 => Inner::Utf8 { tail: Vec::new() },
            Some(known) => Inner::Labelled(known.new_decoder()),
            None => match mail_parser::decoders::charsets::map::charset_decoder(&name) {
                Some(whole) => Inner::Whole(whole, Vec::new()),
                None => return Charset::guessed(),
            },
        };
        Charset { inner }
    }

    /// The decoder for text of which the charset is not known.
    pub fn guessed() -> Charset {
        Charset { inner: Inner::Guess { tail: Vec::new(), latin: false } }
    }

    /// Whether SEARCH CHARSET may name it (RFC 3501 section 6.4.4: an unknown one is refused with BADCHARSET).
    pub fn is_known(name: &[u8]) -> bool {
        let name = name.trim_ascii().to_ascii_lowercase();
        name == b"us-ascii" || !matches!(Charset::new(&name).inner, Inner::Guess { .. })
    }

    /// Whether bytes that are valid UTF-8 are their text.
    pub(super) fn keeps_utf8(&self) -> bool {
        matches!(self.inner, Inner::Guess { latin: false, .. } | Inner::Utf8 { .. })
    }

    /// Appends the text of the next bytes to `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut String) {
        match &mut self.inner {
            Inner::Labelled(decoder) => run(decoder, bytes, out, false),
            Inner::Whole(_, held) => {
                let room = MAX_WHOLE.saturating_sub(held.len());
                held.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            }
            Inner::Guess { latin: true, .. } => latin1(bytes, out),
            Inner::Guess { tail, latin } => *latin = with_tail(tail, bytes, |bytes, tail| guess(bytes, tail, out)),
            Inner::Utf8 { tail } => with_tail(tail, bytes, |bytes, tail| utf8(bytes, tail, out)),
        }
    }

    /// Ends the text.
    pub fn finish(&mut self, out: &mut String) {
        match &mut self.inner {
            Inner::Labelled(decoder) => run(decoder, b"", out, true),
            Inner::Whole(decode, held) => out.push_str(&decode(&std::mem::take(held))),
            Inner::Guess { tail, .. } => latin1(&std::mem::take(tail), out),
            Inner::Utf8 { tail } if tail.is_empty() => {}
            Inner::Utf8 { .. } => out.push(char::REPLACEMENT_CHARACTER),
        }
    }

    /// A whole text at once.
    pub fn decode(mut self, bytes: &[u8]) -> String {
        let mut out = String::with_capacity(bytes.len());
        self.feed(bytes, &mut out);
        self.finish(&mut out);
        out
    }
}

/// Text of unknown charset: ISO-2022-JP if it has its escape sequences, UTF-8 if it is valid, else Windows-1252.
pub fn decode_guessed(bytes: &[u8]) -> String {
    if bytes.is_ascii() && memchr::memmem::find(bytes, b"\x1b$").is_some() {
        return Charset::new(b"iso-2022-jp").decode(bytes);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let mut out = String::with_capacity(bytes.len() * 2);
            latin1(bytes, &mut out);
            out
        }
    }
}

fn run(decoder: &mut encoding_rs::Decoder, mut bytes: &[u8], out: &mut String, last: bool) {
    loop {
        out.reserve(decoder.max_utf8_buffer_length(bytes.len()).unwrap_or(bytes.len()).max(16));
        let (result, read, _) = decoder.decode_to_string(bytes, out, last);
        bytes = bytes.get(read..).unwrap_or_default();
        if result == encoding_rs::CoderResult::InputEmpty {
            return;
        }
    }
}

/// Runs `take` on `bytes` with the character before them that was not complete.
fn with_tail<T>(tail: &mut Vec<u8>, bytes: &[u8], take: impl FnOnce(&[u8], &mut Vec<u8>) -> T) -> T {
    if tail.is_empty() {
        return take(bytes, tail);
    }
    let joined = [std::mem::take(tail).as_slice(), bytes].concat();
    take(&joined, tail)
}

/// Takes `bytes` as UTF-8 with U+FFFD for what is not, and leaves a character that is not complete in `tail`.
fn utf8(bytes: &[u8], tail: &mut Vec<u8>, out: &mut String) {
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        out.push_str(chunk.valid());
        let incomplete = || std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
        if chunks.peek().is_none() && incomplete() {
            tail.extend_from_slice(chunk.invalid());
        } else if !chunk.invalid().is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Takes `bytes` as UTF-8 and leaves a character that is not complete in `tail`; `true` when they are not UTF-8.
fn guess(bytes: &[u8], tail: &mut Vec<u8>, out: &mut String) -> bool {
    let (valid, rest, incomplete) = match std::str::from_utf8(bytes) {
        Ok(_) => (bytes.len(), &[][..], true),
        Err(error) => {
            (error.valid_up_to(), bytes.get(error.valid_up_to()..).unwrap_or_default(), error.error_len().is_none())
        }
    };
    out.push_str(bytes.get(..valid).and_then(|valid| std::str::from_utf8(valid).ok()).unwrap_or_default());
    if incomplete {
        tail.extend_from_slice(rest);
    } else {
        latin1(rest, out);
    }
    !incomplete
}

fn latin1(bytes: &[u8], out: &mut String) {
    out.push_str(&encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0);
}

impl std::fmt::Debug for Charset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.inner {
            Inner::Guess { .. } => "Charset(guessed)",
            Inner::Utf8 { .. } => "UTF-8",
            Inner::Labelled(decoder) => decoder.encoding().name(),
            Inner::Whole(..) => "Charset(whole)",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn charsets_are_decoded_by_name_or_guessed() {
        let table: [(&str, &[u8], &str); 14] = [
            ("utf-8", "é".as_bytes(), "é"),
            ("UTF-8", b"a\xffb", "a\u{fffd}b"),
            ("iso-8859-1", b"\xe9", "é"),
            ("us-ascii", "é".as_bytes(), "é"),
            ("us-ascii", b"ab\xe9c", "abéc"),
            ("x-no-such-thing", b"\xe9t\xe9", "été"),
            ("ISO-2022-JP", b"\x1b$B%O%m!<\x1b(B", "ハロー"),
            ("iso-2022-jp-ms", b"\x1b$B%O%m!<\x1b(B", "ハロー"),
            ("cp932", b"\x83n\x83\x8D", "ハロ"),
            ("utf-7", b"+ZYeB9FH6ckh5Pg-, 1980.", "文致出版社, 1980."),
            ("ibm850", b"\x9b", "ø"),
            ("koi8-r", b"\xf0\xd2", "Пр"),
            ("utf-16", b"\xfe\xff\x00a\x00b", "ab"),
            ("hz-gb-2312", b"abc", "abc"),
        ];
        for (name, bytes, expected) in table {
            assert_eq!(Charset::new(name.as_bytes()).decode(bytes), expected, "{name}");
        }
        assert!(Charset::is_known(b"UTF-8") && Charset::is_known(b"us-ascii") && !Charset::is_known(b"klingon"));
    }

    #[test]
    fn raw_bytes_are_guessed() {
        assert_eq!(decode_guessed("naïve".as_bytes()), "naïve");
        assert_eq!(decode_guessed(b"na\xefve"), "naïve");
        assert_eq!(decode_guessed(b"\x1b$B%O%m!<\x1b(B!"), "ハロー!");
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_charset_cut_anywhere_give_the_same_text(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'+'), Just(0x1b), Just(b'$'), Just(0xc3), Just(0xa9)], 0..60),
            cut in any::<prop::sample::Index>(),
        ) {
            let names = ["us-ascii", "utf-8", "utf-7", "utf-16", "iso-2022-jp", "gb18030", "big5", "euc-kr", "ibm850", "iso-8859-15", "x-user-defined"];
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            for name in names {
                let whole = Charset::new(name.as_bytes()).decode(&bytes);
                let mut charset = Charset::new(name.as_bytes());
                let mut out = String::new();
                charset.feed(head, &mut out);
                charset.feed(tail, &mut out);
                charset.finish(&mut out);
                prop_assert_eq!(out, whole, "{}", name);
            }
        }
    }
}
