//! Does a text hold a given string, letter case aside? For SEARCH (RFC 3501 section 6.4.4), over texts that arrive in
//! pieces; each character is looked at a bounded number of times (Knuth, Morris, Pratt).

/// A string to look for.
#[derive(Clone, Debug)]
pub struct Needle {
    folded: Vec<char>,
    /// For each length of a match so far: the length to fall back to when the next character differs.
    fallback: Vec<usize>,
}

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
        Needle { folded, fallback }
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
        for next in text.chars().flat_map(fold) {
            if self.found() {
                return true;
            }
            self.length = step(&self.needle.folded, &self.needle.fallback, self.length, next);
        }
        self.found()
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
    }
}
