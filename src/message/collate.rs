//! The order of texts: the collation `i;unicode-casemap` (RFC 5051), which SORT and THREAD compare by (RFC 5256
//! section 7).

use unicode_normalization::char::decompose_compatible;

/// The bytes that stand for a text when it is compared: each character in title case, then decomposed, in UTF-8. Texts
/// are equal, or one comes before another, as their keys are and do byte by byte. What comes after `most` bytes of a key
/// is left off.
pub fn collation_key(text: &str, most: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(text.len().min(most));
    for letter in text.chars() {
        if key.len() >= most {
            break;
        }
        if letter.is_ascii() {
            key.push(letter.to_ascii_uppercase() as u8);
        } else {
            decompose_compatible(title_case(letter), |part| {
                key.extend_from_slice(part.encode_utf8(&mut [0; 4]).as_bytes());
            });
        }
    }
    key.truncate(most);
    key
}

/// The simple title case of a character: one for one, as `UnicodeData.txt` has it. It is the upper case but for a few.
fn title_case(letter: char) -> char {
    match letter {
        // Digraphs have a title case of their own: `Dž`, `Lj`, `Nj`, `Dz`.
        '\u{1c4}'..='\u{1c6}' => '\u{1c5}',
        '\u{1c7}'..='\u{1c9}' => '\u{1c8}',
        '\u{1ca}'..='\u{1cc}' => '\u{1cb}',
        '\u{1f1}'..='\u{1f3}' => '\u{1f2}',
        // Georgian has capitals, but no title case.
        '\u{10d0}'..='\u{10fa}' | '\u{10fd}'..='\u{10ff}' => letter,
        _ => {
            let mut upper = letter.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(one), None) => one,
                _ => with_iota_adscript(letter),
            }
        }
    }
}

/// Characters whose upper case is longer than one have no simple one, but for Greek vowels with an iota below.
fn with_iota_adscript(letter: char) -> char {
    let capital = match u32::from(letter) {
        code @ (0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7) => code + 8,
        code @ (0x1fb3 | 0x1fc3 | 0x1ff3) => code + 9,
        _ => return letter,
    };
    char::from_u32(capital).unwrap_or(letter)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> String {
        String::from_utf8(collation_key(text, usize::MAX)).unwrap()
    }

    #[test]
    fn letters_are_in_title_case_and_taken_apart() {
        for (text, expected) in [
            ("Hello", "HELLO"),
            ("ü ³", "U\u{308} 3"),
            ("Ü", "U\u{308}"),
            ("ǆ Ǆ ǅ", "Dz\u{30c} Dz\u{30c} Dz\u{30c}"),
            ("straße", "STRAßE"),
            ("ﬁ", "fi"),
            ("ა", "ა"),
            ("ᾳ", "Α\u{345}"),
            ("ς σ Σ", "Σ Σ Σ"),
            ("각", "\u{1100}\u{1161}\u{11a8}"),
            ("привет", "ПРИВЕТ"),
            ("", ""),
        ] {
            assert_eq!(key(text), expected, "{text}");
        }
        assert_eq!(collation_key("éa", 2), "E\u{301}".as_bytes()[..2]);
    }

    proptest! {
        #[test]
        fn any_text_has_a_key_and_a_key_is_its_own(text in any::<String>()) {
            let key = key(&text);
            let shorter = collation_key(&text, 7);
            prop_assert!(key.as_bytes().starts_with(&shorter) && shorter.len() <= 7);
        }
    }
}
