//! The base subject (RFC 5256 section 2.1): what is left of a Subject when `Re:`, `[list]`, `(fwd)` and the like are
//! taken off. Linear in the length of the subject, whatever it holds.

use super::word::decode_header;

/// A base subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseSubject {
    /// The text, letter case as it stands; compare it by [`super::collation_key`].
    pub text: String,
    /// Something taken off says that the message is a reply or a forward (RFC 5256 section 3, REFERENCES).
    pub is_reply: bool,
}

/// The base subject of a Subject field's value as it stands in the message.
pub fn base_subject(value: &[u8]) -> BaseSubject {
    let text = single_spaced(&decode_header(value));
    let (base, is_reply) = strip(&text);
    BaseSubject { text: base.to_owned(), is_reply }
}

/// Step 1: tabs become spaces, several spaces one.
fn single_spaced(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        let letter = if matches!(letter, '\t' | '\r' | '\n') { ' ' } else { letter };
        if letter != ' ' || !out.ends_with(' ') {
            out.push(letter);
        }
    }
    out
}

/// Steps 2 to 6.
fn strip(text: &str) -> (&str, bool) {
    let (mut rest, mut is_reply) = (text, false);
    loop {
        rest = without_trailers(rest, &mut is_reply);
        rest = without_leaders(rest, &mut is_reply);
        match strip_prefix(rest, "[fwd:").and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => {
                is_reply = true;
                rest = inner;
            }
            None => return (rest, is_reply),
        }
    }
}

/// Step 2: `subj-trailer = "(fwd)" / WSP`.
fn without_trailers<'a>(mut rest: &'a str, is_reply: &mut bool) -> &'a str {
    loop {
        rest = rest.trim_end_matches(' ');
        let head = rest.len().checked_sub("(fwd)".len()).and_then(|at| rest.split_at_checked(at));
        match head {
            Some((head, tail)) if tail.eq_ignore_ascii_case("(fwd)") => {
                *is_reply = true;
                rest = head;
            }
            _ => return rest,
        }
    }
}

/// Steps 3 to 5: `subj-leader`, and then `subj-blob` where it leaves something, again and again.
fn without_leaders<'a>(mut rest: &'a str, is_reply: &mut bool) -> &'a str {
    loop {
        rest = rest.trim_start_matches(' ');
        // All blobs in a row at once: looking behind them anew after each would make the work quadratic.
        let (mut after, mut last) = (rest, rest);
        while let Some(next) = without_blob(after) {
            last = after;
            after = next;
        }
        match without_refwd(after) {
            Some(next) => {
                *is_reply = true;
                rest = next;
            }
            // The last blob stays where nothing else would be left.
            None if after.is_empty() => return last,
            None => return after,
        }
    }
}

/// `subj-blob = "[" *BLOBCHAR "]" *WSP`
fn without_blob(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('[')?;
    let end = inside.find(['[', ']'])?;
    Some(inside.get(end..)?.strip_prefix(']')?.trim_start_matches(' '))
}

/// `subj-refwd = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":"`
fn without_refwd(text: &str) -> Option<&str> {
    let rest = ["re", "fwd", "fw"].iter().find_map(|word| strip_prefix(text, word))?;
    let rest = rest.trim_start_matches(' ');
    without_blob(rest).unwrap_or(rest).strip_prefix(':')
}

/// Without a prefix in any letter case.
fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_replies_lists_and_forwards_add_is_taken_off() {
        let table: [(&str, &str, bool); 34] = [
            ("hello", "hello", false),
            ("  hello \t world ", "hello world", false),
            ("Re: hello", "hello", true),
            ("RE : hello", "hello", true),
            ("re:re: Re:hello", "hello", true),
            ("Fw: hello", "hello", true),
            ("FWD: hello", "hello", true),
            ("fwdd: hello", "fwdd: hello", false),
            ("rehearsal: now", "rehearsal: now", false),
            ("Re[2]: hello", "hello", true),
            ("Re [2] : hello", "hello", true),
            ("Re[2[]: hello", "Re[2[]: hello", false),
            ("[list] hello", "hello", false),
            ("[list] Re: [list] hello", "hello", true),
            ("Re: [list] [other] hello", "hello", true),
            ("[list]", "[list]", false),
            ("[a] [b]", "[b]", false),
            ("[a][b]Re:", "", true),
            ("[a] (fwd)", "[a]", true),
            ("hello (fwd)", "hello", true),
            ("hello (FWD)  (fwd) ", "hello", true),
            ("hello(fwd)", "hello", true),
            ("hello (forward)", "hello (forward)", false),
            ("[fwd: hello]", "hello", true),
            ("[FWD: [list] Re: hello (fwd)]", "hello", true),
            ("Fwd: [fwd: [fwd: hello]]", "hello", true),
            ("[fwd: hello", "[fwd: hello", false),
            ("[fwd:]", "", true),
            ("Re:", "", true),
            ("Re: ", "", true),
            ("", "", false),
            ("[unclosed hello", "[unclosed hello", false),
            ("=?utf-8?q?Re:_caf=C3=A9?=", "café", true),
            ("AW: hello", "AW: hello", false),
        ];
        for (subject, base, is_reply) in table {
            let got = base_subject(subject.as_bytes());
            assert_eq!((got.text.as_str(), got.is_reply), (base, is_reply), "{subject}");
        }
        assert_eq!(base_subject(b"Re:\r\n hello\r\n\tworld").text, "hello world");
    }

    /// RFC 5256 section 2.1 step by step, as its words stand.
    fn by_the_book(subject: &str) -> (String, bool) {
        let (mut text, mut is_reply) = (single_spaced(subject), false);
        loop {
            loop {
                if let Some(shorter) = text.strip_suffix(' ') {
                    text = shorter.to_owned();
                } else if text.to_ascii_lowercase().ends_with("(fwd)") {
                    is_reply = true;
                    text.truncate(text.len() - 5);
                } else {
                    break;
                }
            }
            loop {
                let mut after = text.as_str();
                while let Some(next) = without_blob(after) {
                    after = next;
                }
                if let Some(shorter) = text.strip_prefix(' ') {
                    text = shorter.to_owned();
                } else if let Some(next) = without_refwd(after) {
                    is_reply = true;
                    text = next.to_owned();
                } else if let Some(next) = without_blob(&text).filter(|next| !next.is_empty()) {
                    text = next.to_owned();
                } else {
                    break;
                }
            }
            if text.to_ascii_lowercase().starts_with("[fwd:") && text.ends_with(']') {
                is_reply = true;
                text = text[5..text.len() - 1].to_owned();
            } else {
                return (text, is_reply);
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_rfc_says_step_by_step(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec!["re", "Fw", "d", ":", " ", "[", "]", "[a]", "[fwd:", "(fwd)", "x", "é", "\t"]),
                0..14,
            ),
        ) {
            let subject = pieces.concat();
            let (base, is_reply) = strip_owned(&subject);
            prop_assert_eq!((base, is_reply), by_the_book(&subject));
        }
    }

    fn strip_owned(subject: &str) -> (String, bool) {
        let text = single_spaced(subject);
        let (base, is_reply) = strip(&text);
        (base.to_owned(), is_reply)
    }
}
