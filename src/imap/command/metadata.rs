//! GETMETADATA and SETMETADATA (RFC 5464 section 5).

use std::borrow::Cow;

use nom::{
    Parser,
    branch::alt,
    bytes::complete::{tag, tag_no_case, take},
    character::complete::char,
    combinator::{map, opt, peek, value},
    multi::separated_list1,
    sequence::{delimited, preceded, terminated},
};

use super::{
    Command,
    grammar::{Fault, Parsed, astring, list1, number, sp, string, whole},
};
use crate::imap::{
    mailbox::{MailboxName, Names},
    write::Code,
};

/// What GETMETADATA asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetMetadata {
    /// The mailbox; none: the mail as a whole.
    pub mailbox: Option<MailboxName>,
    /// The entries, in lower case, at least one.
    pub entries: Vec<String>,
    /// How far below them.
    pub depth: Depth,
    /// Values over so many octets are left out.
    pub max_size: Option<u32>,
}

/// Which entries below the one that is named are told too (RFC 5464 section 4.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// None.
    #[default]
    Zero,
    /// Those one level below.
    One,
    /// All.
    Infinity,
}

impl Depth {
    /// Whether a question about `asked` is one about `entry` too.
    pub fn reaches(self, asked: &str, entry: &str) -> bool {
        match entry.strip_prefix(asked) {
            Some("") => true,
            Some(below) => match (self, below.strip_prefix('/')) {
                (Self::One, Some(rest)) => !rest.contains('/'),
                (Self::Infinity, Some(_)) => true,
                _ => false,
            },
            None => false,
        }
    }
}

/// An entry's name in lower case, and its value; nothing removes it.
pub type MetadataValue = (String, Option<Vec<u8>>);

/// Most entries in one command.
const MAX_ENTRIES: usize = 100;
/// Longest name of an entry, in bytes.
const MAX_ENTRY: usize = 256;

pub(super) fn get(arguments: &[u8], names: Names) -> Result<Command, Fault> {
    // The grammar has the options before the mailbox, the RFC's examples have them behind it.
    let rule = (
        opt(preceded(sp, options)),
        preceded(sp, place(names)),
        opt(preceded(sp, options)),
        preceded(sp, alt((list1(entry), separated_list1(sp, entry)))),
    );
    let (before, mailbox, behind, entries) = whole(rule, arguments)?;
    if before.is_some() && behind.is_some() {
        return Err(Fault::syntax("GETMETADATA takes its options once"));
    }
    let (depth, max_size) = before.or(behind).unwrap_or_default();
    if entries.len() > MAX_ENTRIES {
        return Err(Fault::no(Code::Limit, "At most 100 entries in one command"));
    }
    for entry in &entries {
        // What lies below these two may be asked for as a whole.
        if !matches!(entry.as_str(), "/private" | "/shared") {
            checked(entry)?;
        }
    }
    Ok(Command::GetMetadata(GetMetadata { mailbox, entries, depth, max_size }))
}

pub(super) fn set(arguments: &[u8], names: Names) -> Result<Command, Fault> {
    let pair = (entry, preceded(sp, entry_value));
    let (mailbox, values) = whole((preceded(sp, place(names)), preceded(sp, list1(pair))), arguments)?;
    if values.len() > MAX_ENTRIES {
        return Err(Fault::no(Code::Limit, "At most 100 entries in one command"));
    }
    for (entry, _) in &values {
        checked(entry)?;
    }
    Ok(Command::SetMetadata { mailbox, values })
}

/// A mailbox, or the empty string for the mail as a whole.
fn place<'a>(names: Names) -> impl Parser<&'a [u8], Output = Option<MailboxName>, Error = Fault> {
    move |i: &'a [u8]| {
        let (rest, wire) = astring(i)?;
        if wire.is_empty() {
            return Ok((rest, None));
        }
        let name = MailboxName::read(&wire, names).map_err(|problem| nom::Err::Failure(problem.into()))?;
        Ok((rest, Some(name)))
    }
}

enum Choice {
    Depth(Depth),
    MaxSize(u32),
}

/// `"(" getmetadata-option *(SP getmetadata-option) ")"`; an entry begins with `/`, so it is none of these.
fn options(i: &[u8]) -> Parsed<'_, (Depth, Option<u32>)> {
    let depth = alt((
        value(Depth::Zero, char('0')),
        value(Depth::One, char('1')),
        value(Depth::Infinity, tag_no_case("INFINITY")),
    ));
    let option = alt((
        map(preceded((tag_no_case("DEPTH"), sp), depth), Choice::Depth),
        map(preceded((tag_no_case("MAXSIZE"), sp), number), Choice::MaxSize),
    ));
    let (_, _) = peek((char('('), alt((tag_no_case("DEPTH"), tag_no_case("MAXSIZE"))))).parse(i)?;
    let (rest, choices) = list1(option).parse(i)?;
    let (mut depth, mut max_size) = (Depth::Zero, None);
    for choice in choices {
        match choice {
            Choice::Depth(chosen) => depth = chosen,
            Choice::MaxSize(most) => max_size = Some(most),
        }
    }
    Ok((rest, (depth, max_size)))
}

/// An entry's name in lower case: they have no case (RFC 5464 section 3.2).
fn entry(i: &[u8]) -> Parsed<'_, String> {
    let (rest, name) = astring(i)?;
    match str::from_utf8(&name) {
        Ok(name) if name.starts_with('/') => Ok((rest, name.to_ascii_lowercase())),
        _ => Err(nom::Err::Error(Fault::syntax("An entry's name begins with /"))),
    }
}

/// RFC 5464 section 3.2: which names an entry can have.
fn checked(entry: &str) -> Result<(), Fault> {
    const WRONG: Fault = Fault::syntax("That is not the name of an entry");
    if entry.len() > MAX_ENTRY {
        return Err(Fault::no(Code::Limit, "The entry's name is too long"));
    }
    let levels: Vec<&str> = entry.split('/').skip(1).collect();
    let plain = |c: char| matches!(c, ' '..='~') && c != '*' && c != '%';
    if levels.iter().any(|level| level.is_empty()) || !entry.chars().all(plain) {
        return Err(WRONG);
    }
    match levels.as_slice() {
        ["private" | "shared", "vendor", rest @ ..] if rest.len() < 2 => Err(WRONG),
        ["private" | "shared", _, ..] => Ok(()),
        _ => Err(WRONG),
    }
}

/// `nstring / literal8`
fn entry_value(i: &[u8]) -> Parsed<'_, Option<Vec<u8>>> {
    let text = map(string, |text: Cow<'_, [u8]>| Some(text.into_owned()));
    alt((value(None, tag_no_case("NIL")), map(literal8, |bytes: &[u8]| Some(bytes.to_vec())), text)).parse(i)
}

/// `~{n}` and any octets.
fn literal8(i: &[u8]) -> Parsed<'_, &[u8]> {
    let head = delimited(tag("~{"), terminated(number, opt(char('+'))), tag("}\r\n"));
    let (rest, length) = head.map(|n| n as usize).parse(i)?;
    take(length).parse(rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn read(arguments: &str) -> Option<GetMetadata> {
        match get(format!("{arguments}\r\n").as_bytes(), Names::Mutf7) {
            Ok(Command::GetMetadata(get)) => Some(get),
            _ => None,
        }
    }

    #[test]
    fn options_stand_before_the_mailbox_or_behind_it() {
        let asked = GetMetadata {
            mailbox: Some(MailboxName::inbox()),
            entries: vec!["/shared/comment".into(), "/private/comment".into()],
            depth: Depth::One,
            max_size: Some(1024),
        };
        for line in [
            " (DEPTH 1 MAXSIZE 1024) inbox (/shared/comment /PRIVATE/comment)",
            " INBOX (maxsize 1024 depth 1) (/shared/comment /private/comment)",
            " \"INBOX\" (MAXSIZE 1024 DEPTH 1) /shared/comment \"/private/comment\"",
        ] {
            assert_eq!(read(line).as_ref(), Some(&asked), "{line}");
        }
        assert_eq!(read(" \"\" /shared/admin").unwrap().mailbox, None);
        assert_eq!(read(" (DEPTH infinity) \"\" (/private)").unwrap().depth, Depth::Infinity);
        for wrong in [
            " INBOX",
            " INBOX ()",
            " (DEPTH 2) INBOX /shared/a",
            " (DEPTH 1) INBOX (DEPTH 1) /shared/a",
            " INBOX /other/a",
            " INBOX /shared/a/",
            " INBOX /shared//a",
            " INBOX /shared/*",
            " INBOX \"/shared/a%\"",
            " INBOX /shared/vendor/x",
            " INBOX shared/a",
            " (MAXSIZE -1) INBOX /shared/a",
            " INBOX \"/shared/\u{e9}\"",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_value_is_a_string_or_nothing_or_any_octets() {
        let line =
            b" \"\" (/shared/a NIL /private/B \"x\" /shared/vendor/x/y ~{3}\r\n\0\r\n /shared/c {2+}\r\nhi)\r\n";
        let expected = Command::SetMetadata {
            mailbox: None,
            values: vec![
                ("/shared/a".into(), None),
                ("/private/b".into(), Some(b"x".to_vec())),
                ("/shared/vendor/x/y".into(), Some(b"\0\r\n".to_vec())),
                ("/shared/c".into(), Some(b"hi".to_vec())),
            ],
        };
        assert_eq!(set(line, Names::Mutf7).unwrap(), expected);
        for wrong in [" INBOX ()", " INBOX (/shared/a)", " INBOX (/shared NIL)", " INBOX /shared/a NIL"] {
            assert!(set(format!("{wrong}\r\n").as_bytes(), Names::Mutf7).is_err(), "{wrong}");
        }
    }

    #[test]
    fn depth_says_how_far_below() {
        use Depth::{Infinity, One, Zero};
        for (depth, entry, reached) in [
            (Zero, "/a", true),
            (Zero, "/a/b", false),
            (One, "/a/b", true),
            (One, "/a/b/c", false),
            (Infinity, "/a/b/c", true),
            (Infinity, "/ab", false),
            (Infinity, "/b", false),
        ] {
            assert_eq!(depth.reaches("/a", entry), reached, "{depth:?} {entry}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = get(&bytes, Names::Utf8);
            let _ = set(&bytes, Names::Mutf7);
        }

        #[test]
        fn nor_do_pieces_of_it(words in proptest::collection::vec("[ ()]|INBOX|/shared/a|\\(DEPTH 1\\)|NIL|\"x\"|~\\{1\\}\r\n", 0..12)) {
            let line = words.concat() + "\r\n";
            let _ = get(line.as_bytes(), Names::Utf8);
            let _ = set(line.as_bytes(), Names::Utf8);
        }
    }
}
