//! From names to directories and back. Pure. Whatever the name, the result is one path component that is not `.` or
//! `..`, and no two names share one.
//!
//! **Users** lie in `domain/local/`. Letters, digits and `-_+=@.` stand for themselves, a dot not at the start; every
//! other byte is `%` and two hex digits. What would be longer than a file name may be is `%~` and its SHA-256.
//!
//! **Folders** are Maildir++: `A/B` is the directory `.A.B`, each level in modified UTF-7 (RFC 3501 section 5.1.3).
//! A dot inside a level, legal in IMAP, is written `&AC4-`: modified UTF-7 for a dot, which no name has otherwise,
//! and what Courier writes. Directories that other programs named differently (plain UTF-8) are shown as they are.

use std::fmt::Write;

use super::error::MailError;
use crate::imap::mutf7;
use crate::model::UserId;

/// Longest folder name that is ever read, in bytes. What may be made has its own limits: `Limits`.
pub const MAX_NAME: usize = 1000;
/// Most levels of a folder name that is ever read.
pub const MAX_DEPTH: usize = 100;
/// Longest file name Linux has, in bytes.
const MAX_FILE_NAME: usize = 255;
/// A dot within one level of a folder name.
const DOT: &str = "&AC4-";

/// The two directories of an owner: domain and local part.
pub(super) fn owner(user: &UserId) -> (String, String) {
    (component(user.domain()), component(user.local()))
}

fn component(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"-_+=@".contains(&byte) || (byte == b'.' && at > 0);
        if plain {
            out.push(char::from(byte));
        } else {
            // Writing to a String can not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    if out.len() <= MAX_FILE_NAME && !out.is_empty() {
        return out;
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().fold("%~".to_owned(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Checks a folder's name and gives it its one spelling: INBOX in capitals (RFC 3501 section 5.1).
pub(super) fn checked(name: &str) -> Result<String, MailError> {
    let bad = |problem| Err(MailError::invalid(name, problem));
    if name.eq_ignore_ascii_case("INBOX") {
        return Ok("INBOX".to_owned());
    }
    if name.len() > MAX_NAME || name.split('/').count() > MAX_DEPTH {
        return bad("is too long: at most 1000 bytes and 100 levels");
    }
    for level in name.split('/') {
        if level.is_empty() {
            return bad("has an empty level");
        }
        if level == "." || level == ".." {
            return bad("has a level that is . or ..");
        }
        if level.chars().any(char::is_control) {
            return bad("has a control character");
        }
    }
    Ok(name.to_owned())
}

/// The directory of a folder with a checked name; nothing for INBOX, which is the owner's directory itself.
pub(super) fn folder(name: &str) -> Result<Option<Vec<u8>>, MailError> {
    if name == "INBOX" {
        return Ok(None);
    }
    let mut dir = String::new();
    for level in name.split('/') {
        dir.push('.');
        let parts: Vec<String> = level.split('.').map(mutf7::encode).collect();
        dir.push_str(&parts.join(DOT));
    }
    if dir.len() > MAX_FILE_NAME {
        return Err(MailError::invalid(name, "is too long for a directory name: 255 bytes in modified UTF-7"));
    }
    Ok(Some(dir.into_bytes()))
}

/// The name of the folder in that directory; nothing if it can not be a folder's.
pub(super) fn name(dir: &[u8]) -> Option<String> {
    let levels = str::from_utf8(dir).ok()?.strip_prefix('.')?;
    let read = |level: &str| -> String {
        let parts: Result<Vec<String>, _> = level.split(DOT).map(|p| mutf7::decode(p.as_bytes())).collect();
        // Not modified UTF-7, or not its one spelling: shown as it stands, and found again by `Tree::find`.
        parts.map_or_else(|_| level.to_owned(), |parts| parts.join("."))
    };
    let name = levels.split('.').map(read).collect::<Vec<_>>().join("/");
    (checked(&name).as_deref() == Ok(&name) && name != "INBOX").then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_user_name_never_leaves_the_root() {
        let cases = [
            ("ann@example.com", "example.com", "ann"),
            ("Ann+x@example.com", "example.com", "Ann+x"),
            ("..@..", "%2E.", "%2E."),
            ("a/../b@x/y", "x%2Fy", "a%2F..%2Fb"),
            ("jö%@example.com", "example.com", "j%C3%B6%25"),
        ];
        for (user, domain, local) in cases {
            let user = UserId::parse(user).map_err(|e| e.to_string());
            assert_eq!(user.map(|u| owner(&u)), Ok((domain.to_owned(), local.to_owned())));
        }
        let long = UserId::parse(&format!("a@{}", "ö".repeat(120))).map(|u| owner(&u).0);
        assert!(long.is_ok_and(|name| name.len() == 66 && name.starts_with("%~")));
    }

    #[test]
    fn folder_names_become_maildir_directories() {
        let cases = [
            ("Sent", ".Sent"),
            ("A/B", ".A.B"),
            ("v1.2/x", ".v1&AC4-2.x"),
            ("Entwürfe", ".Entw&APw-rfe"),
            ("ö.ö", ".&APY-&AC4-&APY-"),
            ("a&b", ".a&-b"),
            ("&AC4-", ".&-AC4-"),
            (" ", ". "),
        ];
        for (text, dir) in cases {
            assert_eq!(folder(text), Ok(Some(dir.as_bytes().to_vec())), "{text}");
            assert_eq!(name(dir.as_bytes()).as_deref(), Some(text), "{dir}");
        }
        assert_eq!(checked("inbox").and_then(|n| folder(&n)), Ok(None));
    }

    #[test]
    fn directories_of_other_programs_are_shown() {
        let cases = [(".Entwürfe", Some("Entwürfe")), (".a&b", Some("a&b")), (".x..y", None), (".", None)];
        for (dir, expected) in cases {
            assert_eq!(name(dir.as_bytes()).as_deref(), expected, "{dir}");
        }
        assert_eq!(name(b".\xff"), None);
    }

    #[test]
    fn names_that_are_paths_are_refused() {
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", ".", "a\0b", "a\r\nb", "\u{85}", &"x/".repeat(101)] {
            assert!(checked(bad).is_err(), "{bad:?}");
        }
        assert!(checked(&"x".repeat(1001)).is_err());
        assert!(folder(&"x".repeat(255)).is_err());
    }

    proptest! {
        #[test]
        fn every_name_comes_back_from_its_directory(text in "[a-z&.~% öあ💧/,-]{1,40}") {
            if let Ok(text) = checked(&text) && let Ok(Some(dir)) = folder(&text) {
                prop_assert!(!dir.contains(&b'/') && dir != b"." && dir != b"..");
                prop_assert_eq!(name(&dir), Some(text));
            }
        }

        #[test]
        fn two_users_never_share_a_directory(a in "[a-c.%~2F/]{1,6}@[ab.%]{1,4}", b in "[a-c.%~2F/]{1,6}@[ab.%]{1,4}") {
            if let (Ok(a), Ok(b)) = (UserId::parse(&a), UserId::parse(&b)) {
                prop_assert_eq!(owner(&a) == owner(&b), a == b);
            }
        }
    }
}
