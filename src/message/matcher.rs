//! Does a text hold a given string, letter case aside? For SEARCH (RFC 3501 section 6.4.4), over texts that arrive in
//! pieces. Both are folded, and compared as the bytes of UTF-8, which no character shares with the middle of another.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// A string to look for.
#[derive(Clone, Debug)]
pub struct Needle {
    /// Of the folded string.
    finder: Finder<'static>,
}

impl Needle {
    /// An empty string is found in every text.
    pub fn new(text: &str) -> Needle {
        let mut folded = Vec::new();
        fold(text, &mut folded);
        Needle { finder: Finder::new(&folded).into_owned() }
    }

    /// Looks in a text that is ASCII.
    pub(super) fn is_in_ascii(&self, text: &[u8]) -> bool {
        // Most are short enough to be folded without a buffer of their own.
        let mut short = [0; 128];
        match short.get_mut(..text.len()) {
            Some(folded) => {
                folded.copy_from_slice(text);
                folded.make_ascii_lowercase();
                self.finder.find(folded).is_some()
            }
            None => self.finder.find(&text.to_ascii_lowercase()).is_some(),
        }
    }

    /// Looks in one text.
    pub fn is_in(&self, text: &str) -> bool {
        self.matcher().feed(text)
    }

    /// Starts looking in a text that arrives in pieces.
    pub fn matcher(&self) -> Matcher<'_> {
        Matcher { needle: self, folded: Vec::new(), found: false }
    }
}

/// Looks for a [`Needle`] in a text that arrives in pieces.
#[derive(Clone, Debug)]
pub struct Matcher<'a> {
    needle: &'a Needle,
    /// The end of what came so far, folded: one byte less than the needle.
    folded: Vec<u8>,
    found: bool,
}

impl Matcher<'_> {
    /// Takes the next piece; `true` from the piece on that completes the needle.
    pub fn feed(&mut self, text: &str) -> bool {
        if self.found {
            return true;
        }
        fold(text, &mut self.folded);
        let finder = &self.needle.finder;
        self.found = finder.find(&self.folded).is_some();
        let kept = finder.needle().len().saturating_sub(1).min(self.folded.len());
        self.folded.drain(..self.folded.len() - kept);
        self.found
    }

    /// Starts anew: a match does not span two texts.
    pub fn restart(&mut self) {
        self.folded.clear();
    }
}

/// Appends a text's folded form: case folding by way of upper case, so that final sigma, long s and the like meet their
/// sisters; `ß` folds to `ss`.
fn fold(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len());
    let mut rest = text;
    loop {
        let (ascii, others) = rest.split_at_checked(ascii_run(rest.as_bytes())).unwrap_or((rest, ""));
        let from = out.len();
        out.extend_from_slice(ascii.as_bytes());
        out.get_mut(from..).unwrap_or_default().make_ascii_lowercase();
        let Some(letter) = others.chars().next() else { return };
        match LETTERS.get(letter as usize) {
            Some((folded, length)) => out.extend_from_slice(folded.get(..*length).unwrap_or_default()),
            None => out.extend_from_slice(folded(letter).as_bytes()),
        }
        rest = others.get(letter.len_utf8()..).unwrap_or_default();
    }
}

fn folded(letter: char) -> String {
    letter.to_uppercase().flat_map(char::to_lowercase).collect()
}

/// The folded forms of the letters of Latin, Greek, Cyrillic and their neighbours, and how long each is.
static LETTERS: LazyLock<Vec<([u8; 6], usize)>> = LazyLock::new(|| {
    let forms = ('\0'..'\u{600}').map(|letter| {
        let form = folded(letter);
        let mut bytes = [0; 6];
        bytes.iter_mut().zip(form.bytes()).for_each(|(to, from)| *to = from);
        (bytes, form.len())
    });
    forms.collect()
});

/// How many bytes of ASCII come first.
fn ascii_run(bytes: &[u8]) -> usize {
    if bytes.is_ascii() {
        return bytes.len();
    }
    let whole: usize = bytes.chunks(16).take_while(|chunk| chunk.is_ascii()).map(<[u8]>::len).sum();
    let rest = bytes.get(whole..).unwrap_or_default();
    whole + rest.iter().take_while(|byte| byte.is_ascii()).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letter_case_makes_no_difference() {
        let table = [
            ("needle", "hay NEEDLE hay", true),
            ("ÉTÉ", "cet été-là", true),
            ("Straße", "STRASSE 5", true),
            ("ΟΔΟΣ", "οδος", true),
            ("привет", "ПРИВЕТ", true),
            ("ハロー", "あハロー", true),
            ("aab", "aaab", true),
            ("abab", "abaabab", true),
            ("abc", "ab c", false),
            ("", "", true),
            ("x", "", false),
        ];
        for (needle, text, expected) in table {
            assert_eq!(Needle::new(needle).is_in(text), expected, "{needle} in {text}");
        }
    }

    #[test]
    fn every_letter_is_folded_by_way_of_upper_case() {
        for letter in '\0'..=char::MAX {
            let mut form = Vec::new();
            fold(letter.encode_utf8(&mut [0; 4]), &mut form);
            assert_eq!(String::from_utf8_lossy(&form), folded(letter), "{letter:?}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_plain_search_wherever_the_text_is_cut(
            needle in "[ab]{0,6}", text in "[abAB]{0,40}", cut in any::<prop::sample::Index>(),
        ) {
            let (head, tail) = text.split_at(cut.index(text.len() + 1));
            let needle_ = Needle::new(&needle);
            let mut matcher = needle_.matcher();
            matcher.feed(head);
            prop_assert_eq!(matcher.feed(tail), text.to_lowercase().contains(&needle));
        }

        #[test]
        fn ascii_between_other_letters_is_folded_as_single_letters_are(
            needle in "[abÄß]{1,5}", runs in proptest::collection::vec("[ab]{0,60}|[aB]{0,3}[äß]|ss", 0..6), cut in any::<prop::sample::Index>(),
        ) {
            let text = runs.concat();
            let at = (cut.index(text.len() + 1)..).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            let (head, tail) = text.split_at(at);
            let plain = |text: &str| text.to_uppercase().to_lowercase();
            let needle_ = Needle::new(&needle);
            let mut matcher = needle_.matcher();
            matcher.feed(head);
            prop_assert_eq!(matcher.feed(tail), plain(&text).contains(&plain(&needle)));
        }
    }
}
