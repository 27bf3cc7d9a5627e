//! Does a text hold a given string, letter case aside? For SEARCH (RFC 3501 section 6.4.4), over texts that arrive in
//! pieces; each character is looked at a bounded number of times (Knuth, Morris, Pratt). Long runs of ASCII, most of
//! mail, are searched as bytes.

use memchr::memmem::Finder;

/// A string to look for.
#[derive(Clone, Debug)]
pub struct Needle {
    folded: Vec<char>,
    /// For each length of a match so far: the length to fall back to when the next character differs.
    fallback: Vec<usize>,
    /// Finds the string in ASCII in lower case; none if it cannot be there.
    finder: Option<Finder<'static>>,
}

/// A run of ASCII that is longer than the needle by this much is searched as bytes.
const LONG_RUN: usize = 32;

impl Needle {
    /// An empty string is found in every text.
    pub fn new(text: &str) -> Needle {
        let folded: Vec<char> = text.chars().flat_map(fold).collect();
        let mut fallback = vec![0];
        let mut length = 0;
        for &next in folded.iter().skip(1) {
            length = step(&folded, &fallback, length, next);
            fallback.push(length);
        }
        let ascii: Option<Vec<u8>> =
            folded.iter().map(|letter| u8::try_from(*letter).ok().filter(u8::is_ascii)).collect();
        let finder = ascii.map(|ascii| Finder::new(&ascii).into_owned());
        Needle { folded, fallback, finder }
    }

    /// Looks in one text.
    pub fn is_in(&self, text: &str) -> bool {
        self.matcher().feed(text)
    }

    /// Starts looking in a text that arrives in pieces.
    pub fn matcher(&self) -> Matcher<'_> {
        Matcher { needle: self, length: 0 }
    }
}

/// Looks for a [`Needle`] in a text that arrives in pieces.
#[derive(Clone, Debug)]
pub struct Matcher<'a> {
    needle: &'a Needle,
    length: usize,
}

impl Matcher<'_> {
    /// Takes the next piece; `true` from the piece on that completes the needle.
    pub fn feed(&mut self, text: &str) -> bool {
        let mut rest = text;
        while !self.found() && !rest.is_empty() {
            let run = rest.bytes().position(|byte| !byte.is_ascii()).unwrap_or(rest.len());
            let (run, after) = rest.split_at_checked(run).unwrap_or((rest, ""));
            self.feed_ascii(run);
            let others = after.find(|letter: char| letter.is_ascii()).unwrap_or(after.len());
            let (others, after) = after.split_at_checked(others).unwrap_or((after, ""));
            self.feed_letters(others);
            rest = after;
        }
        self.found()
    }

    /// A run of ASCII: what is neither at its beginning nor at its end is a match of its own or none at all.
    fn feed_ascii(&mut self, run: &str) {
        let length = self.needle.folded.len();
        let last = run.len().checked_sub(length.saturating_sub(1)).and_then(|at| run.get(at..));
        let (Some(first), Some(last)) = (run.get(..length), last.filter(|_| run.len() >= 2 * length + LONG_RUN))
        else {
            return self.feed_letters(run);
        };
        self.feed_letters(first);
        if self.found() {
            return;
        }
        let inside =
            self.needle.finder.as_ref().and_then(|finder| finder.find(&run.as_bytes().to_ascii_lowercase()));
        if inside.is_some() {
            self.length = length;
            return;
        }
        self.length = 0;
        self.feed_letters(last);
    }

    /// Letter by letter.
    fn feed_letters(&mut self, text: &str) {
        for next in text.chars().flat_map(fold) {
            if self.found() {
                return;
            }
            self.length = step(&self.needle.folded, &self.needle.fallback, self.length, next);
        }
    }

    /// Whether the needle was found.
    pub fn found(&self) -> bool {
        self.length == self.needle.folded.len()
    }

    /// Starts anew: a match does not span two texts.
    pub fn restart(&mut self) {
        if !self.found() {
            self.length = 0;
        }
    }
}

/// The length of the match after `next`, when `length` characters matched before it.
fn step(folded: &[char], fallback: &[usize], mut length: usize, next: char) -> usize {
    loop {
        if folded.get(length) == Some(&next) {
            return length + 1;
        }
        let Some(shorter) = length.checked_sub(1).and_then(|last| fallback.get(last)) else { return 0 };
        length = *shorter;
    }
}

/// Case folding by way of upper case, so that final sigma, long s and the like meet their sisters; `ß` folds to `ss`.
fn fold(letter: char) -> impl Iterator<Item = char> {
    let ascii = letter.is_ascii().then(|| letter.to_ascii_lowercase());
    let other = (!letter.is_ascii()).then(|| letter.to_uppercase().flat_map(char::to_lowercase));
    ascii.into_iter().chain(other.into_iter().flatten())
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
        fn long_runs_of_ascii_are_searched_as_single_letters_are(
            needle in "[abÄß]{1,5}", runs in proptest::collection::vec("[ab]{0,60}|[aB]{0,3}[äß]|ss", 0..6), cut in any::<prop::sample::Index>(),
        ) {
            let text = runs.concat();
            let at = (cut.index(text.len() + 1)..).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            let (head, tail) = text.split_at(at);
            let needle = Needle::new(&needle);
            let (mut quick, mut slow) = (needle.matcher(), needle.matcher());
            slow.feed_letters(&text);
            quick.feed(head);
            prop_assert_eq!(quick.feed(tail), slow.found());
            if !slow.found() {
                prop_assert_eq!(quick.length, slow.length);
            }
        }
    }
}
