//! The text of HTML, its tags left out, as it comes in pieces. For PREVIEW, not for browsers: a small tokenizer that
//! knows tags, attributes in quotes, comments, character references, and the elements whose content is no text.

/// Takes HTML in pieces, cut anywhere; holds a few bytes of it.
#[derive(Debug, Default)]
pub(super) struct HtmlText {
    state: State,
    /// The element's name or the character reference that is being read.
    word: String,
    /// The tag being read is `</..>`.
    closing: bool,
    /// Inside this element nothing but its end counts.
    raw: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// Behind `&`.
    Reference,
    /// Behind `<`.
    Open,
    /// In a tag's name.
    Name,
    /// In a tag behind its name; whether `=` came last.
    Tag { equals: bool },
    /// In an attribute's value.
    Quoted(char),
    /// Behind `<!`, and whether `-` followed.
    Bang { dash: bool },
    /// In `<!..>` or `<?..>`.
    Declaration,
    /// In `<!-- -->`, behind so many dashes.
    Comment { dashes: u8 },
}

/// Longest name or reference that is told from others, in bytes.
const MAX_WORD: usize = 32;

/// Elements whose content is not shown.
const RAW: [&str; 5] = ["script", "style", "title", "template", "noscript"];

/// Elements that stand in a line: what is on both sides of their tags may be one word.
const INLINE: [&str; 28] = [
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "del", "dfn", "em", "font", "i", "ins",
    "kbd", "mark", "o", "q", "s", "small", "span", "strike", "strong", "sub", "sup", "u", "wbr",
];

impl HtmlText {
    /// Appends the text of the next piece to `out`.
    pub(super) fn feed(&mut self, html: &str, out: &mut String) {
        for c in html.chars() {
            self.take(c, out);
        }
    }

    /// Ends the text.
    pub(super) fn finish(&mut self, out: &mut String) {
        match self.state {
            State::Reference => self.end_reference(false, out),
            State::Open => self.show("<", out),
            _ => {}
        }
        *self = Self::default();
    }

    fn take(&mut self, c: char, out: &mut String) {
        self.state = match (self.state, c) {
            (State::Text, '<') => State::Open,
            (State::Text, '&') => {
                self.word.clear();
                State::Reference
            }
            (State::Text, c) => {
                self.show(c.encode_utf8(&mut [0; 4]), out);
                State::Text
            }
            (State::Reference, ';') => {
                self.end_reference(true, out);
                State::Text
            }
            (State::Reference, c) if self.word.len() < MAX_WORD && (c.is_ascii_alphanumeric() || c == '#') => {
                self.word.push(c);
                State::Reference
            }
            (State::Reference, c) => {
                self.end_reference(false, out);
                self.state = State::Text;
                return self.take(c, out);
            }
            (State::Open, '/') => self.start_name(true, None),
            (State::Open, c) if c.is_ascii_alphabetic() => self.start_name(false, Some(c)),
            (State::Open, '!') if self.raw.is_none() => State::Bang { dash: false },
            (State::Open, '?') if self.raw.is_none() => State::Declaration,
            (State::Open, c) => {
                self.show("<", out);
                self.state = State::Text;
                return self.take(c, out);
            }
            (State::Name, c) if c.is_ascii_alphanumeric() || matches!(c, ':' | '-') => {
                if self.word.len() < MAX_WORD {
                    self.word.push(c.to_ascii_lowercase());
                }
                State::Name
            }
            (State::Name, c) => {
                if self.raw.is_some_and(|raw| !self.closing || raw != self.word) {
                    self.state = State::Text;
                    return self.take(c, out);
                }
                self.state = State::Tag { equals: false };
                return self.take(c, out);
            }
            (State::Tag { .. }, '>') => {
                self.end_tag(out);
                State::Text
            }
            (State::Tag { equals: true }, '"' | '\'') => State::Quoted(c),
            (State::Tag { equals }, c) => State::Tag { equals: c == '=' || (equals && c.is_whitespace()) },
            (State::Quoted(quote), c) if c == quote => State::Tag { equals: false },
            (State::Quoted(quote), _) => State::Quoted(quote),
            (State::Bang { dash: false }, '-') => State::Bang { dash: true },
            (State::Bang { dash: true }, '-') => State::Comment { dashes: 2 },
            (State::Bang { .. } | State::Declaration, '>') => State::Text,
            (State::Bang { .. } | State::Declaration, _) => State::Declaration,
            (State::Comment { dashes: 2 }, '>') => State::Text,
            (State::Comment { dashes }, '-') => State::Comment { dashes: (dashes + 1).min(2) },
            (State::Comment { .. }, _) => State::Comment { dashes: 0 },
        };
    }

    fn show(&self, text: &str, out: &mut String) {
        if self.raw.is_none() {
            out.push_str(text);
        }
    }

    fn start_name(&mut self, closing: bool, first: Option<char>) -> State {
        self.closing = closing;
        self.word.clear();
        self.word.extend(first.map(|c| c.to_ascii_lowercase()));
        State::Name
    }

    fn end_tag(&mut self, out: &mut String) {
        if self.raw.take().is_none() && !INLINE.contains(&self.word.as_str()) {
            out.push(' ');
        }
        if !self.closing {
            self.raw = RAW.iter().find(|raw| **raw == self.word).copied();
        }
    }

    /// What `&word;` means; as it stands where it means nothing.
    fn end_reference(&mut self, ended: bool, out: &mut String) {
        if self.raw.is_some() {
            return;
        }
        let whole = format!("&{}{}", self.word, if ended { ";" } else { "" });
        mail_parser::decoders::html::add_html_token(out, whole.as_bytes(), false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(pieces: &[&str]) -> String {
        let (mut html, mut out) = (HtmlText::default(), String::new());
        pieces.iter().for_each(|piece| html.feed(piece, &mut out));
        html.finish(&mut out);
        out
    }

    #[test]
    fn tags_go_and_text_stays() {
        let cases = [
            ("a<b>b</b>c", "abc"),
            ("a<br>b<p class=x>c</P >d", "a b c d"),
            ("<a title=\"a > b\" href='>'>x</a>", "x"),
            ("<p title = \">\">x", " x"),
            ("<p it's>x</p>", " x "),
            ("<!DOCTYPE html><?xml version='1'?>x", "x"),
            ("a<!-- <b> -- > -->b<!-->c<!--->d", "abcd"),
            ("<style>p > a { }</style>x<SCRIPT type=a>if (a<b && \"</p>\") '</script>y", "  x y"),
            ("<title>no</title ><script>1</script", " "),
            ("a &lt; b &amp;&amp; c &eacute;&#233;&#xE9; &nbsp;", "a < b && c \u{e9}\u{e9}\u{e9} \u{a0}"),
            ("&bogus; &; &amp &#x110000; R&D", "&bogus; &; &amp \u{fffd} R&D"),
            ("1 < 2 <3 <", "1 < 2 <3 <"),
            ("a</>b<>c", "a b<>c"),
            ("<o:p>x</o:p>", " x "),
        ];
        for (html, expected) in cases {
            let got = text(&[html]);
            assert_eq!(
                got.split_whitespace().collect::<Vec<_>>(),
                expected.split_whitespace().collect::<Vec<_>>(),
                "{html}: {got:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn html_cut_anywhere_reads_the_same_and_grows_no_more_than_it_is_long(
            html in "([<>/!&;'\"= a-c#é-]|<!--|-->|<script>|</script>|<br>|&amp;|&#x20;){0,60}",
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = text(&[&html]);
            prop_assert!(whole.len() <= html.len(), "{}", whole);
            let cut = html.char_indices().map(|(at, _)| at).chain([html.len()]).nth(cut.index(html.chars().count() + 1));
            let (head, tail) = html.split_at(cut.unwrap_or(0));
            prop_assert_eq!(text(&[head, tail]), whole);
        }
    }
}
