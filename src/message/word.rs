//! RFC 2047 encoded words in header values, for SEARCH.

use super::{
    charset::{Charset, decode_guessed},
    field::{fields, trim, unfold},
    matcher::Needle,
    transfer::{Transfer, TransferDecoder, hex},
};

/// Longest charset name in an encoded word, language included.
const MAX_CHARSET: usize = 64;

/// The text of a header value as it stands in the message (folded, maybe encoded, maybe raw 8-bit). Never fails:
/// what is no encoded word stays as it is; raw bytes are guessed (UTF-8, then Latin-1).
pub fn decode_header(value: &[u8]) -> String {
    let value = unfold(value);
    let mut out = String::with_capacity(value.len());
    let mut run: Option<Run> = None;
    let mut rest = value.as_slice();
    let mut plain = 0; // length of the text before the place looked at
    let mut from = 0;
    while let Some(at) = rest.get(from..).and_then(|tail| memchr::memmem::find(tail, b"=?")).map(|at| from + at) {
        let Some((word, after)) = rest.get(at..).and_then(Word::parse) else {
            from = at + 2;
            continue;
        };
        let before = rest.get(plain..at).unwrap_or_default();
        // White space between two encoded words is not part of the text (RFC 2047 section 6.2).
        if run.is_none() || !before.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            end_run(&mut run, &mut out);
            out.push_str(&decode_guessed(before));
        }
        // Some programs cut a character in two between words, so words of one charset are decoded together.
        if run.as_ref().is_some_and(|run| !run.charset.eq_ignore_ascii_case(word.charset)) {
            end_run(&mut run, &mut out);
        }
        let run = run.get_or_insert_with(|| Run { charset: word.charset.to_vec(), bytes: Vec::new() });
        let joint = run.bytes.len();
        word.decode_into(&mut run.bytes);
        // ISO-2022-JP words each begin and end with an escape; two in a row would count as an error.
        if run.bytes.get(joint) == Some(&0x1b)
            && run.bytes.get(..joint).is_some_and(|text| text.ends_with(b"\x1b(B"))
        {
            run.bytes.drain(joint - 3..joint);
        }
        rest = after;
        (plain, from) = (0, 0);
    }
    end_run(&mut run, &mut out);
    out.push_str(&decode_guessed(rest));
    out
}

/// Whether a needle is in the text that [`decode_header`] gives.
pub fn header_holds(value: &[u8], needle: &Needle) -> bool {
    // Most values are on one line and say what they say.
    let is_plain = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~') && *byte != b'=');
    if is_plain { needle.is_in_ascii(trim(value)) } else { needle.is_in(&decode_header(value)) }
}

/// A whole header block as text, a line a field: `Name: value`.
pub fn decode_header_block(header: &[u8]) -> String {
    let mut out = String::with_capacity(header.len());
    for field in fields(header) {
        if !field.name.is_empty() {
            out.push_str(&decode_guessed(field.name));
            out.push_str(": ");
        }
        out.push_str(&decode_header(field.value));
        out.push('\n');
    }
    out
}

/// The bytes of neighbouring words of one charset.
struct Run {
    charset: Vec<u8>,
    bytes: Vec<u8>,
}

fn end_run(run: &mut Option<Run>, out: &mut String) {
    let Some(run) = run.take() else { return };
    out.push_str(&Charset::new(&run.charset).decode(&run.bytes));
}

struct Word<'a> {
    charset: &'a [u8],
    base64: bool,
    text: &'a [u8],
}

impl<'a> Word<'a> {
    /// `=?charset[*language]?B|Q?text?=` at the start of `bytes`, and what follows. Space in the text is tolerated.
    fn parse(bytes: &'a [u8]) -> Option<(Word<'a>, &'a [u8])> {
        let rest = bytes.strip_prefix(b"=?")?;
        let head = rest.get(..MAX_CHARSET.min(rest.len()))?;
        let name_end = memchr::memchr(b'?', head)?;
        let (name, rest) = (rest.get(..name_end)?, rest.get(name_end + 1..)?);
        let charset = name.split(|&byte| byte == b'*').next().filter(|name| !name.is_empty())?;
        if !charset.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let (base64, rest) = match rest {
            [b'b' | b'B', b'?', rest @ ..] => (true, rest),
            [b'q' | b'Q', b'?', rest @ ..] => (false, rest),
            _ => return None,
        };
        // Up to the first `?`: an encoded text has none, and looking no farther keeps the work linear.
        let text_end = memchr::memchr(b'?', rest)?;
        let after = rest.get(text_end..)?.strip_prefix(b"?=")?;
        Some((Word { charset, base64, text: rest.get(..text_end)? }, after))
    }

    fn decode_into(&self, out: &mut Vec<u8>) {
        if self.base64 {
            let mut decoder = TransferDecoder::new(Transfer::Base64);
            decoder.feed(self.text, out);
            return decoder.finish(out);
        }
        let mut rest = self.text;
        loop {
            rest = match rest {
                [b'_', rest @ ..] => {
                    out.push(b' ');
                    rest
                }
                [b'=', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    out.push(hex(*high) * 16 + hex(*low));
                    rest
                }
                [byte, rest @ ..] => {
                    out.push(*byte);
                    rest
                }
                [] => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encoded_words_are_decoded_and_the_rest_is_left_alone() {
        let table: [(&str, &str); 24] = [
            ("plain", "plain"),
            (" =?utf-8?q?caf=C3=A9?= ", "café"),
            ("=?UTF-8?B?Y2Fmw6k=?=", "café"),
            ("=?iso-8859-1?Q?caf=E9_noir?=", "café noir"),
            ("=?iso-8859-1*fr?Q?caf=E9?=", "café"),
            ("a =?utf-8?q?b?= c", "a b c"),
            ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
            ("=?utf-8?q?a?=\r\n\t=?iso-8859-1?q?=E9?=", "aé"),
            ("=?utf-8?q?a_?= =?utf-8?q?b?=", "a b"),
            ("=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b"),
            ("=?utf-8?q?caf=C3?= =?utf-8?q?=A9?=", "café"),
            ("=?utf-8?b?Y2Fmw?= =?utf-8?b?6k=?=", "caf\u{fffd}"),
            ("=?ISO-2022-JP?B?GyRCJUYbKEI=?= =?ISO-2022-JP?B?GyRCJTklSBsoQg==?=", "テスト"),
            ("=?ISO-2022-JP?B?GyRCJUY=?= ok", "テ ok"),
            ("=?no-such?q?caf=C3=A9?=", "café"),
            ("=?utf-8?q?a b?=", "a b"),
            ("=?utf-8?q?50%=?=", "50%="),
            ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
            ("=?utf-8?q?never ends", "=?utf-8?q?never ends"),
            ("=??q?a?=", "=??q?a?="),
            ("=?=?utf-8?q?a?=", "=?a"),
            ("\"=?utf-8?q?quoted?=\" <a@b>", "\"quoted\" <a@b>"),
            ("x=?utf-8?q?glued?=y", "xgluedy"),
            ("", ""),
        ];
        for (value, expected) in table {
            assert_eq!(decode_header(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(decode_header(b"caf\xe9 =?utf-8?q?=C3=A9?="), "café é");
    }

    #[test]
    fn a_header_block_is_a_line_a_field() {
        let header = b"Subject: =?utf-8?q?a?=\r\n b\r\nno colon\r\nTo:x\r\n\r\nbody";
        assert_eq!(decode_header_block(header), "Subject: a b\nno colon\nTo: x\n");
    }

    proptest! {
        #[test]
        fn a_needle_is_found_where_the_decoded_value_has_it(
            value in " {0,2}[aA\t\r\n=?é ]{0,6}|[abAB=]{0,200}|=\\?utf-8\\?q\\?[ab]{0,4}\\?=", needle in "[aAé ]{0,3}|[abAB]{0,140}",
        ) {
            let needle = Needle::new(&needle);
            let found = needle.is_in(&decode_header(value.as_bytes()));
            prop_assert_eq!(header_holds(value.as_bytes(), &needle), found);
        }

        #[test]
        fn any_value_is_survived(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec!["=?", "?=", "utf-8", "?q?", "?b?", "iso-2022-jp", "=1B$B", " ", "aa", "="]),
                0..30,
            ),
            bytes in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let _ = decode_header(&[pieces.concat().as_bytes(), &bytes].concat());
        }
    }
}
