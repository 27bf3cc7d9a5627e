//! Mailbox names: checked once when they come in, and matched against LIST's patterns. Called by the command grammar
//! and by `session`. Imports nothing of the house.

use std::fmt;

use super::mutf7;

/// What separates the levels of a name.
pub const SEPARATOR: char = '/';

/// How mailbox names are written on the wire of one connection, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Modified UTF-7 (RFC 3501 section 5.1.3).
    #[default]
    Mutf7,
    /// UTF-8 (RFC 9051 section 5.1, RFC 6855 section 3): from ENABLE of IMAP4rev2 or UTF8=ACCEPT on.
    Utf8,
}

impl Names {
    /// A name or a pattern as it came, as UTF-8. Fails on what the spelling does not allow.
    pub(super) fn read(self, wire: &[u8]) -> Result<String, BadMailbox> {
        match self {
            Self::Mutf7 => mutf7::decode(wire).map_err(|_| BadMailbox::Encoding),
            Self::Utf8 => str::from_utf8(wire).map(str::to_owned).map_err(|_| BadMailbox::Encoding),
        }
    }
}

/// A mailbox name as people read it: `INBOX`, `Archive/2026`, `Entwürfe`.
///
/// Shape: UTF-8, 1 to 1000 bytes; 1 to 100 levels separated by `/` (fewer may be made: `maildir::Limits`), none of them empty, `.` or `..`; no control
/// characters. A first level that spells INBOX in any case is `INBOX`; otherwise case matters. Source: RFC 3501
/// sections 5.1 and 5.1.3.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxName(String);

/// Why a mailbox name is refused. The peer reads one text for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMailbox {
    /// Not modified UTF-7 (RFC 3501 section 5.1.3), or not UTF-8 where that is spoken.
    #[error("not modified UTF-7, or not UTF-8")]
    Encoding,
    /// No characters at all, or a level without any: `a//b`, `/a`, `a/`.
    #[error("empty, or an empty level")]
    Empty,
    /// A level called `.` or `..`.
    #[error("a level that is . or ..")]
    Dots,
    /// A control character, or the separator of lines or paragraphs (RFC 6855 section 3).
    #[error("a control character")]
    Control,
    /// More than [`MailboxName::MAX_BYTES`] or [`MailboxName::MAX_DEPTH`].
    #[error("longer than 1000 bytes or deeper than 100 levels")]
    TooLong,
}

impl MailboxName {
    /// Longest name, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 1000;
    /// Most levels.
    pub const MAX_DEPTH: usize = 100;

    /// The one mailbox that always exists.
    pub fn inbox() -> Self {
        Self("INBOX".to_owned())
    }

    /// From modified UTF-7, then the checks of [`MailboxName::parse`].
    pub fn decode(wire: &[u8]) -> Result<Self, BadMailbox> {
        Self::read(wire, Names::Mutf7)
    }

    /// From the bytes on the wire, then the checks of [`MailboxName::parse`].
    pub fn read(wire: &[u8], names: Names) -> Result<Self, BadMailbox> {
        // A name cannot shrink by more than the shift's own bytes, so the bound holds before the work is done.
        if wire.len() > Self::MAX_BYTES * 4 {
            return Err(BadMailbox::TooLong);
        }
        Self::parse(&names.read(wire)?)
    }

    /// From UTF-8: checks the shape and spells INBOX its one way; changes nothing else.
    pub fn parse(name: &str) -> Result<Self, BadMailbox> {
        if name.len() > Self::MAX_BYTES || name.split(SEPARATOR).count() > Self::MAX_DEPTH {
            return Err(BadMailbox::TooLong);
        }
        for level in name.split(SEPARATOR) {
            if level.is_empty() {
                return Err(BadMailbox::Empty);
            }
            if level == "." || level == ".." {
                return Err(BadMailbox::Dots);
            }
            if level.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
                return Err(BadMailbox::Control);
            }
        }
        Ok(Self(spell_inbox(name)))
    }

    /// For CREATE, where `Archive/` says "I shall make mailboxes below" (RFC 3501 section 6.3.3): drops one `/` at
    /// the end.
    pub fn read_new(wire: &[u8], names: Names) -> Result<Self, BadMailbox> {
        Self::read(wire.strip_suffix(b"/").unwrap_or(wire), names)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is INBOX itself.
    pub fn is_inbox(&self) -> bool {
        self.0 == "INBOX"
    }

    /// The names above, nearest first: for `a/b/c`, `a/b` and `a`.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0.rmatch_indices(SEPARATOR).filter_map(|(at, _)| self.0.get(..at))
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for MailboxName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// INBOX in its one spelling where the first level says so in any case.
fn spell_inbox(name: &str) -> String {
    let first = name.split(SEPARATOR).next().unwrap_or_default();
    match (first.eq_ignore_ascii_case("INBOX"), name.get(first.len()..)) {
        (true, Some(rest)) => format!("INBOX{rest}"),
        _ => name.to_owned(),
    }
}

/// LIST's and LSUB's name with wildcards: `*` is anything, `%` anything within one level (RFC 3501 section 6.3.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The reference and the pattern together, both already UTF-8. Runs of wildcards shrink to one.
    pub fn new(reference: &str, pattern: &str) -> Self {
        let mut text = String::with_capacity(reference.len() + pattern.len());
        for c in reference.chars().chain(pattern.chars()) {
            match (text.chars().next_back(), c) {
                // `*%` and `%*` mean `*`; `%%` means `%`.
                (Some('*'), '*' | '%') | (Some('%'), '%') => {}
                (Some('%'), '*') => {
                    text.pop();
                    text.push('*');
                }
                _ => text.push(c),
            }
        }
        Self(spell_inbox(&text))
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` fits. Time: name times pattern at worst, no recursion; a name that does not begin as the pattern
    /// does is no work.
    pub fn matches(&self, name: &str) -> bool {
        let matches = glob(self.0.as_bytes(), name.as_bytes());
        // `inb*` finds INBOX: its first level has no case.
        matches
            || (name.split(SEPARATOR).next() == Some("INBOX") && {
                let folded = format!("inbox{}", name.get(5..).unwrap_or_default());
                let split = self.0.find(SEPARATOR).unwrap_or(self.0.len());
                let (first, rest) = self.0.split_at_checked(split).unwrap_or((&self.0, ""));
                glob(format!("{}{rest}", first.to_ascii_lowercase()).as_bytes(), folded.as_bytes())
            })
    }
}

/// The positions of the pattern that can be reached, byte by byte of the name: linear memory, no backtracking.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut reached, mut next) = (Vec::new(), Vec::new());
    reach(&mut reached, pattern, 0);
    for byte in name {
        next.clear();
        for at in reached.drain(..) {
            match pattern.get(at) {
                Some(b'*') => reach(&mut next, pattern, at),
                Some(b'%') if *byte != b'/' => reach(&mut next, pattern, at),
                Some(wanted) if wanted == byte && *wanted != b'%' => reach(&mut next, pattern, at + 1),
                _ => {}
            }
        }
        if next.is_empty() {
            return false;
        }
        std::mem::swap(&mut reached, &mut next);
    }
    reached.last() == Some(&pattern.len())
}

/// Notes a position that can be reached, and those behind it where a wildcard stands for nothing. They come in ascending
/// order, so one that is there already is among the last.
fn reach(reached: &mut Vec<usize>, pattern: &[u8], mut at: usize) {
    loop {
        if reached.last().is_none_or(|last| *last < at) {
            reached.push(at);
        }
        if !matches!(pattern.get(at), Some(b'*' | b'%')) {
            return;
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn inbox_has_no_case_and_every_other_name_has() {
        let cases = [
            ("inbox", "INBOX"),
            ("InBoX/Sub", "INBOX/Sub"),
            ("Inboxes", "Inboxes"),
            ("Archive/inbox", "Archive/inbox"),
            ("Entw&APw-rfe", "Entwürfe"),
            ("a.b", "a.b"),
        ];
        for (wire, name) in cases {
            assert_eq!(MailboxName::decode(wire.as_bytes()).map(|n| n.to_string()), Ok(name.to_owned()), "{wire}");
        }
    }

    #[test]
    fn a_name_that_could_lead_astray_is_refused_in_every_spelling() {
        let deep = vec!["a"; MailboxName::MAX_DEPTH + 1].join("/");
        let long = "a".repeat(1001);
        let cases: [(&str, BadMailbox); 14] = [
            ("", BadMailbox::Empty),
            ("/", BadMailbox::Empty),
            ("/etc/passwd", BadMailbox::Empty),
            ("a//b", BadMailbox::Empty),
            ("a/", BadMailbox::Empty),
            ("..", BadMailbox::Dots),
            ("../../ann", BadMailbox::Dots),
            ("a/../b", BadMailbox::Dots),
            ("a/.", BadMailbox::Dots),
            ("a&AAA-b", BadMailbox::Control),
            ("a&AAo-b", BadMailbox::Control),
            ("&AC4-.", BadMailbox::Encoding),
            (&deep, BadMailbox::TooLong),
            (&long, BadMailbox::TooLong),
        ];
        for (wire, problem) in cases {
            assert_eq!(MailboxName::decode(wire.as_bytes()), Err(problem), "{wire:?}");
        }
        assert!(MailboxName::parse(&"a".repeat(1000)).is_ok());
        assert!(MailboxName::parse(&vec!["a"; MailboxName::MAX_DEPTH].join("/")).is_ok());
    }

    #[test]
    fn create_takes_a_separator_at_the_end_and_nothing_more() {
        let new = |wire: &[u8]| MailboxName::read_new(wire, Names::Mutf7).map(|n| n.to_string());
        assert_eq!(new(b"Archive/"), Ok("Archive".to_owned()));
        assert_eq!(new(b"Archive//"), Err(BadMailbox::Empty));
    }

    #[test]
    fn a_connection_that_speaks_utf_8_reads_names_as_they_are() {
        let read = |wire: &[u8]| MailboxName::read(wire, Names::Utf8).map(|n| n.to_string());
        for name in ["Entwürfe", "R&D", "&AOk-", "台北/日本語", "a b"] {
            assert_eq!(read(name.as_bytes()), Ok(name.to_owned()), "{name}");
        }
        assert_eq!(read("inBOX/é".as_bytes()), Ok("INBOX/é".to_owned()));
        for wrong in [b"\xe9" as &[u8], b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf"] {
            assert_eq!(read(wrong), Err(BadMailbox::Encoding), "{wrong:?}");
        }
        for wrong in ["a\u{80}", "a\u{2028}b", "\u{2029}", "\u{7f}"] {
            assert_eq!(read(wrong.as_bytes()), Err(BadMailbox::Control), "{wrong:?}");
        }
    }

    #[test]
    fn ancestors_come_nearest_first() {
        let name = MailboxName::parse("a/b/c");
        assert_eq!(
            name.map(|n| n.ancestors().map(str::to_owned).collect::<Vec<_>>()),
            Ok(vec!["a/b".to_owned(), "a".to_owned()])
        );
    }

    #[test]
    fn percent_stays_within_a_level_and_star_does_not() {
        let cases = [
            ("", "*", "a/b", true),
            ("", "%", "a", true),
            ("", "%", "a/b", false),
            ("", "a/%", "a/b", true),
            ("", "a/%", "a/b/c", false),
            ("", "%/%", "a/b", true),
            ("a/", "%", "a/b", true),
            ("", "*b", "aab", true),
            ("", "*b*", "b", true),
            ("", "a%c", "abbc", true),
            ("", "INBOX", "INBOX", true),
            ("", "inbox", "INBOX", true),
            ("", "inb*", "INBOX", true),
            ("", "inBOX/%", "INBOX/Sub", true),
            ("", "archive", "Archive", false),
            ("", "", "", true),
            ("", "*%%**", "x/y", true),
            ("", "Ü*", "Übung", true),
        ];
        for (reference, pattern, name, fits) in cases {
            assert_eq!(Pattern::new(reference, pattern).matches(name), fits, "{reference} {pattern} {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_costs_little() {
        let pattern = Pattern::new("", &"*a".repeat(5_000));
        assert!(!pattern.matches(&"a".repeat(1_000)));
    }

    /// The plain meaning of the wildcards, without a thought for time.
    fn fits(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((wild @ (b'*' | b'%'), rest)) => {
                let passes = |byte: &u8| *wild == b'*' || *byte != b'/';
                fits(rest, name)
                    || name.split_first().is_some_and(|(byte, after)| passes(byte) && fits(pattern, after))
            }
            Some((wanted, rest)) => {
                name.split_first().is_some_and(|(byte, after)| byte == wanted && fits(rest, after))
            }
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_its_wildcards_mean(pattern in "[ab/*%]{0,10}", name in "[ab/]{0,10}") {
            prop_assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), fits(pattern.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn a_pattern_without_wildcards_matches_itself_alone(
            name in "[a-zA-Z/é]{1,12}", other in "[a-zA-Z/é]{1,12}",
        ) {
            let pattern = Pattern::new("", &name);
            prop_assert!(pattern.matches(&spell_inbox(&name)));
            prop_assert_eq!(pattern.matches(&other), spell_inbox(&name) == other);
        }
    }
}
