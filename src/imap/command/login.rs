//! LOGIN (RFC 3501 section 6.2.3), which is always refused: who it was for, never the password.

use super::grammar::{astring, sp};

/// Longest name kept, in bytes: what a row of the audit log holds.
const MAX_NAME: usize = 256;

/// The first of two arguments, if it is no literal. What follows it is not looked at, and an argument that stands alone
/// is not taken for a name: it may be a password that lost its user.
pub(in crate::imap) fn user(arguments: &[u8]) -> Option<String> {
    let (rest, _) = sp(arguments).ok()?;
    if rest.starts_with(b"{") {
        return None;
    }
    let (rest, name) = astring(rest).ok()?;
    let (rest, _) = sp(rest).ok()?;
    if rest.is_empty() || rest == b"\r\n" {
        return None;
    }
    let name = name.get(..MAX_NAME).unwrap_or(&name);
    Some(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_told_and_the_password_is_not() {
        let long = "n".repeat(MAX_NAME + 1);
        let cases = [
            (" ann@example.com secret\r\n", Some("ann@example.com")),
            (" \"ann\\\"x\" \"top secret\"\r\n", Some("ann\"x")),
            (" \"an\u{e9}\" {6}\r\n", Some("an\u{e9}")),
            (" ann ", None),
            (" secret\r\n", None),
            (" secret \r\n", None),
            ("  secret\r\n", None),
            (" {3}\r\n", None),
            (" {3+}\r\nann secret\r\n", None),
            (" \"ann secret\r\n", None),
            ("\r\n", None),
            (&format!(" {long} x\r\n"), long.get(..MAX_NAME)),
        ];
        for (arguments, expected) in cases {
            assert_eq!(user(arguments.as_bytes()).as_deref(), expected, "{arguments:?}");
        }
    }
}
