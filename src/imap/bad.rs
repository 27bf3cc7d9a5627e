//! A command that is refused before the session sees it: why, and in which words the peer hears of it.
//! Made by `frame` and `command`, written by the session through [`Bad::write`].

use bytes::BytesMut;

use super::write::{self, Code, Status};

/// A refused command or line, ready to be answered.
///
/// `text` is always one of ours: nothing that the peer sent is repeated, because it may be a password that strayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// The command's tag, where one could be read; without it the answer is untagged.
    pub tag: Option<String>,
    /// `NO` or `BAD`.
    pub status: Status,
    /// The response code.
    pub code: Option<Code<'static>>,
    /// What is wrong.
    pub text: &'static str,
    /// The stream cannot be followed any further: after this answer the session says BYE and closes.
    pub fatal: bool,
    /// The command would have saved what it found: nothing is saved any more (RFC 5182 section 2.1).
    pub unsaves: bool,
}

impl Bad {
    /// Syntax that does not hold: `BAD`.
    pub fn syntax(text: &'static str) -> Self {
        Self { tag: None, status: Status::Bad, code: None, text, fatal: false, unsaves: false }
    }

    /// Well written, but not to be done: `NO [code]`.
    pub fn no(code: Code<'static>, text: &'static str) -> Self {
        Self { tag: None, status: Status::No, code: Some(code), text, fatal: false, unsaves: false }
    }

    /// The end of the dialog: an untagged `BYE`.
    pub fn fatal(code: Code<'static>, text: &'static str) -> Self {
        Self { tag: None, status: Status::Bye, code: Some(code), text, fatal: true, unsaves: false }
    }

    /// The same answer, to the command with this tag.
    pub fn to(mut self, tag: &str) -> Self {
        self.tag = Some(tag.to_owned());
        self
    }

    /// Writes the answer: tagged where the tag is known, and the `BYE` behind it where the dialog ends.
    pub fn write(&self, out: &mut BytesMut) {
        match (&self.tag, self.status) {
            (Some(tag), Status::No | Status::Bad | Status::Ok) => {
                write::tagged(out, tag, self.status, self.code.as_ref(), self.text);
            }
            // An untagged NO is a warning (RFC 3501 section 7.1.2) and would not be taken as a refusal.
            (None, Status::No) => write::untagged(out, Status::Bad, self.code.as_ref(), self.text),
            (_, status) => write::untagged(out, status, self.code.as_ref(), self.text),
        }
        if self.fatal && self.status != Status::Bye {
            write::untagged(out, Status::Bye, self.code.as_ref(), self.text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_tagged_where_it_can_be_and_says_bye_where_it_must() {
        let cases = [
            (Bad::syntax("No verb").to("a1"), "a1 BAD No verb\r\n"),
            (Bad::syntax("No tag"), "* BAD No tag\r\n"),
            (Bad::no(Code::TooBig, "Too big").to("a"), "a NO [TOOBIG] Too big\r\n"),
            (Bad::no(Code::TooBig, "Too big"), "* BAD [TOOBIG] Too big\r\n"),
            (
                Bad { fatal: true, ..Bad::no(Code::TooBig, "Too big").to("a") },
                "a NO [TOOBIG] Too big\r\n* BYE [TOOBIG] Too big\r\n",
            ),
            (Bad::fatal(Code::Limit, "Enough"), "* BYE [LIMIT] Enough\r\n"),
        ];
        for (bad, wire) in cases {
            let mut out = BytesMut::new();
            bad.write(&mut out);
            assert_eq!(out, wire.as_bytes(), "{bad:?}");
        }
    }
}
