//! A few words of a message for a list of messages (RFC 8970): which part they come from, and how its text becomes one
//! short line.

use super::{
    html::HtmlText,
    part::{Part, Shape, Step, Structure},
    text::TextDecoder,
};

/// Most characters of a preview (RFC 8970 section 3.1).
const MAX_CHARS: usize = 200;
/// Most decoded bytes of a part that are looked at: what stands before the text of an HTML mail can be long.
const MAX_BYTES: u64 = 256 * 1024;
/// Most parts that are tried.
const MAX_PARTS: usize = 5;

impl Structure {
    /// The parts whose text may be shown, the best first: `text/plain` and `text/html` that are no attachments, in the
    /// order of the message. A few at most: the next is for when one shows nothing.
    pub fn previews(&self) -> impl Iterator<Item = &Part> {
        let parts = self.walk().filter_map(|step| if let Step::Enter(part) = step { Some(part) } else { None });
        parts
            .filter(|part| part.shape() == Shape::Text)
            .filter(|part| part.media().is("text", "plain") || part.media().is("text", "html"))
            .filter(|part| part.disposition().is_none_or(|it| !it.kind.eq_ignore_ascii_case(b"attachment")))
            .take(MAX_PARTS)
    }
}

/// Makes the preview of one part from its body, which comes in pieces.
#[derive(Debug)]
pub struct Preview {
    decoder: TextDecoder,
    html: Option<HtmlText>,
    decoded: String,
    shown: String,
    line: Line,
}

impl Preview {
    /// For the body of `part`.
    pub fn new(part: &Part) -> Self {
        Self {
            decoder: TextDecoder::new(part, MAX_BYTES),
            html: part.media().is("text", "html").then(HtmlText::default),
            decoded: String::new(),
            shown: String::new(),
            line: Line::default(),
        }
    }

    /// Takes the next bytes of the body. `false` when there is no need to read on.
    pub fn feed(&mut self, body: &[u8]) -> bool {
        self.decoded.clear();
        let more = self.decoder.feed(body, &mut self.decoded);
        self.give(false);
        more && !self.line.is_full()
    }

    /// The preview: at most 200 characters, without line ends. Empty where the part shows no text.
    pub fn finish(mut self) -> String {
        self.decoded.clear();
        self.decoder.finish(&mut self.decoded);
        self.give(true);
        self.line.text
    }

    fn give(&mut self, last: bool) {
        let Some(html) = &mut self.html else { return self.line.add(&self.decoded) };
        self.shown.clear();
        html.feed(&self.decoded, &mut self.shown);
        if last {
            html.finish(&mut self.shown);
        }
        self.line.add(&self.shown);
    }
}

/// Text on one line, white space made one space, cut where it is long enough.
#[derive(Debug, Default)]
struct Line {
    text: String,
    chars: usize,
    /// White space came since the last character.
    gap: bool,
}

impl Line {
    fn is_full(&self) -> bool {
        self.chars >= MAX_CHARS
    }

    fn add(&mut self, text: &str) {
        for c in text.chars() {
            if c.is_whitespace() || c.is_control() {
                self.gap = true;
                continue;
            }
            // What joins and parts letters counts only between them: senders pad previews with it.
            let joins = matches!(c, '\u{ad}' | '\u{34f}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}');
            // Directions would reach beyond the preview.
            let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if turns || (joins && (self.gap || self.chars == 0)) {
                continue;
            }
            let gap = self.gap && self.chars > 0;
            if self.chars + usize::from(gap) >= MAX_CHARS {
                self.chars = MAX_CHARS;
                return;
            }
            if gap {
                self.text.push(' ');
                self.chars += 1;
            }
            self.gap = false;
            self.text.push(c);
            self.chars += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Limits, Scanner};

    /// The preview of a message, its body fed in pieces of `size`.
    fn preview(mail: &[u8], size: usize) -> String {
        let mut scanner = Scanner::new(Limits::default());
        scanner.feed(mail);
        let structure = scanner.finish();
        for part in structure.previews() {
            let mut preview = Preview::new(part);
            let body = mail.get(part.body().start as usize..part.body().end as usize).unwrap_or_default();
            for piece in body.chunks(size) {
                if !preview.feed(piece) {
                    break;
                }
            }
            let text = preview.finish();
            if !text.is_empty() {
                return text;
            }
        }
        String::new()
    }

    fn shown(mail: &str) -> String {
        preview(mail.replace('\n', "\r\n").as_bytes(), 7)
    }

    #[test]
    fn the_first_text_that_shows_something_is_the_preview() {
        let multipart = |parts: &str| {
            format!("Content-Type: multipart/mixed; boundary=b\n\n--b\n{}\n--b--\n", parts.replace('|', "\n--b\n"))
        };
        let cases = [
            ("Subject: x\n\n  Hello,\n\n\tworld. \n".to_owned(), "Hello, world."),
            ("Subject: x\n\n".to_owned(), ""),
            ("Content-Type: image/png\n\nHello".to_owned(), ""),
            ("Content-Type: text/calendar\n\nBEGIN".to_owned(), ""),
            ("Content-Type: text/html\n\n<p>Hel<b>lo</b></p>w<br>d &amp; e".to_owned(), "Hello w d & e"),
            (
                "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nGr=C3=BC=\n=C3=9Fe"
                    .to_owned(),
                "Grüße",
            ),
            (
                "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: base64\n\nR3L831MK".to_owned(),
                "GrüßS",
            ),
            (multipart("\n \n|Content-Type: text/html\n\n<i>two</i>"), "two"),
            (multipart("Content-Disposition: attachment\n\none|Content-Type: text/plain\n\ntwo"), "two"),
            (multipart("Content-Type: application/pdf\n\none|Content-Type: message/rfc822\n\nA: b\n\nin"), "in"),
            ("A: b\n\n\u{200c}\u{a0}\u{200c} a\u{200d}b \u{200c}\u{a0}\u{202e}c\u{1}d".to_owned(), "a\u{200d}b c d"),
        ];
        for (mail, expected) in cases {
            assert_eq!(shown(&mail), expected, "{mail}");
        }
    }

    #[test]
    fn a_preview_has_two_hundred_characters_at_most() {
        assert_eq!(shown(&format!("A: b\n\n{}", "é".repeat(200))), "é".repeat(200));
        assert_eq!(shown(&format!("A: b\n\n{}", "é".repeat(201))), "é".repeat(200));
        assert_eq!(shown(&format!("A: b\n\n{} x", "a".repeat(199))), "a".repeat(199), "no space at the end");
        assert_eq!(shown(&format!("A: b\n\n{} x", "a".repeat(198))), format!("{} x", "a".repeat(198)));
        let far = format!("Content-Type: text/html\n\n<style>{}</style>far", "x".repeat(250 * 1024));
        assert_eq!(shown(&far), "far");
        let too_far = format!("Content-Type: text/html\n\n<style>{}</style>far", "x".repeat(260 * 1024));
        assert_eq!(shown(&too_far), "");
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_short_line_however_they_are_cut(
            body in proptest::collection::vec(prop_oneof![Just(b'<'), Just(b'='), Just(b' '), any::<u8>()], 0..400),
            size in 1usize..50,
            head in prop::sample::select(vec!["A: b", "Content-Type: text/html", "Content-Transfer-Encoding: base64"]),
        ) {
            let mail = [head.as_bytes(), b"\r\n\r\n", &body].concat();
            let whole = preview(&mail, usize::MAX);
            prop_assert!(whole.chars().count() <= 200 && !whole.contains(char::is_control));
            prop_assert!(!whole.starts_with(' ') && !whole.ends_with(' ') && !whole.contains("  "));
            prop_assert_eq!(preview(&mail, size), whole);
        }
    }
}
