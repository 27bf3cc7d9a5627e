//! RFC 2047 encoded words in header values, for SEARCH.

use super::{
    charset::{Charset, decode_guessed},
    field::{fields, unfold},
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
        word.decode_into(
            &mut run.get_or_insert_with(|| Run { charset: word.charset.to_vec(), bytes: Vec::new() }).bytes,
        );
        rest = after;
        (plain, from) = (0, 0);
    }
    end_run(&mut run, &mut out);
    out.push_str(&decode_guessed(rest));
    out
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
