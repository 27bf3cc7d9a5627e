//! One line of a client to one command (RFC 1939 sections 5 to 7, RFC 2449 section 5, RFC 5034 section 4, RFC 6856). Called
//! by `dialog`.

use nom::{
    IResult, Parser,
    bytes::complete::{take_while_m_n, take_while1},
    character::complete::{digit1, space1},
    combinator::{all_consuming, map, opt},
    sequence::preceded,
};

/// A command for the maildrop, after login. Message numbers are as sent: 0 and numbers past the end occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `STAT`
    Stat,
    /// `LIST [msg]`
    List(Option<u32>),
    /// `UIDL [msg]`
    Uidl(Option<u32>),
    /// `RETR msg`
    Retr(u32),
    /// `TOP msg n`
    Top {
        /// Message number.
        number: u32,
        /// Lines of the body to send after the header.
        lines: u32,
    },
    /// `DELE msg`
    Dele(u32),
    /// `RSET`
    Rset,
    /// `QUIT`: the update state begins.
    Quit,
}

impl Command {
    /// The verb, as lists of live sessions show it; nothing of the arguments.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stat => "STAT",
            Self::List(_) => "LIST",
            Self::Uidl(_) => "UIDL",
            Self::Retr(_) => "RETR",
            Self::Top { .. } => "TOP",
            Self::Dele(_) => "DELE",
            Self::Rset => "RSET",
            Self::Quit => "QUIT",
        }
    }
}

/// Anything a client may say, in any state.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// `AUTH` alone asks for the list of mechanisms.
    Mechanisms,
    /// `AUTH mechanism [initial-response]`; `=` has become the empty response.
    Auth {
        mechanism: &'a str,
        response: Option<&'a str>,
    },
    /// A way to hand over a password: the verb, and the user it was for. The secret itself is not looked at.
    Password {
        verb: &'static str,
        user: Option<&'a [u8]>,
    },
    Capa,
    Noop,
    /// `UTF8` (RFC 6856 section 2)
    Utf8,
    /// `LANG [language]` (RFC 6856 section 3): the language range, `*` for the server's own.
    Lang(Option<&'a str>),
    /// There is nothing to start: TLS is on (RFC 2595 section 4).
    Stls,
    Command(Command),
}

/// Why a line is no command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Unknown,
    /// The verb is known, the rest does not fit; how it is written.
    Usage(&'static str),
}

/// Longest mechanism name (RFC 4422 section 3.1).
const MAX_MECHANISM: usize = 20;

/// Longest language range that is read, in bytes.
const MAX_LANGUAGE: usize = 100;

/// Longest verb we look at; the longest that exists has four letters.
const MAX_VERB: usize = 8;

/// Reads one line, without its CRLF. Verbs in any case; spaces at the end are forgiven.
pub(super) fn parse(line: &[u8]) -> Result<Request<'_>, Syntax> {
    let (rest, verb) = verb(line).map_err(|_| Syntax::Unknown)?;
    // First of all, and without a look at the rest: a correct password must not sound different from a wrong one.
    match verb.as_slice() {
        b"USER" => return Ok(Request::Password { verb: "USER", user: first_word(rest) }),
        b"PASS" => return Ok(Request::Password { verb: "PASS", user: None }),
        b"APOP" => return Ok(Request::Password { verb: "APOP", user: first_word(rest) }),
        _ => {}
    }
    let rest = rest.trim_ascii_end();
    let alone = |request| if rest.is_empty() { Ok(request) } else { Err(Syntax::Usage("no argument")) };
    match verb.as_slice() {
        b"AUTH" if rest.is_empty() => Ok(Request::Mechanisms),
        b"AUTH" => whole(rest, auth, "AUTH mechanism [initial-response]"),
        b"CAPA" => alone(Request::Capa),
        b"NOOP" => alone(Request::Noop),
        b"UTF8" => alone(Request::Utf8),
        b"LANG" => whole(rest, map(opt(preceded(space1, language)), Request::Lang), "LANG [language]"),
        b"STLS" => alone(Request::Stls),
        b"STAT" => alone(Request::Command(Command::Stat)),
        b"RSET" => alone(Request::Command(Command::Rset)),
        b"QUIT" => alone(Request::Command(Command::Quit)),
        b"LIST" => whole(rest, map(opt(argument), |n| Request::Command(Command::List(n))), "LIST [msg]"),
        b"UIDL" => whole(rest, map(opt(argument), |n| Request::Command(Command::Uidl(n))), "UIDL [msg]"),
        b"RETR" => whole(rest, map(argument, |n| Request::Command(Command::Retr(n))), "RETR msg"),
        b"DELE" => whole(rest, map(argument, |n| Request::Command(Command::Dele(n))), "DELE msg"),
        b"TOP" => whole(
            rest,
            map((argument, argument), |(number, lines)| Request::Command(Command::Top { number, lines })),
            "TOP msg n",
        ),
        _ => Err(Syntax::Unknown),
    }
}

/// The letters and digits a line starts with, in upper case, if a space or nothing follows them.
fn verb(line: &[u8]) -> IResult<&[u8], Vec<u8>> {
    let (rest, verb) = take_while_m_n(1, MAX_VERB, |b: u8| b.is_ascii_alphanumeric()).parse(line)?;
    if rest.first().is_some_and(|&b| b != b' ') {
        return Err(nom::Err::Error(nom::error::Error::new(rest, nom::error::ErrorKind::Space)));
    }
    Ok((rest, verb.to_ascii_uppercase()))
}

fn whole<'a, P>(rest: &'a [u8], grammar: P, usage: &'static str) -> Result<Request<'a>, Syntax>
where
    P: Parser<&'a [u8], Output = Request<'a>, Error = nom::error::Error<&'a [u8]>>,
{
    all_consuming(grammar).parse(rest).map(|(_, request)| request).map_err(|_| Syntax::Usage(usage))
}

/// ` mechanism [response]`. The response is base64 or `=`, checked by whoever decodes it.
fn auth(input: &[u8]) -> IResult<&[u8], Request<'_>> {
    let name = take_while_m_n(1, MAX_MECHANISM, |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let word = take_while1(|b: u8| b.is_ascii_graphic());
    let (rest, (mechanism, response)) = (preceded(space1, name), opt(preceded(space1, word))).parse(input)?;
    let text = |bytes| str::from_utf8(bytes).unwrap_or_default();
    let response = response.map(text).map(|word| if word == "=" { "" } else { word });
    Ok((rest, Request::Auth { mechanism: text(mechanism), response }))
}

/// A language range (RFC 4647 section 2.1), or `*`.
fn language(input: &[u8]) -> IResult<&[u8], &str> {
    let range = take_while_m_n(1, MAX_LANGUAGE, |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'*');
    map(range, |bytes| str::from_utf8(bytes).unwrap_or_default()).parse(input)
}

/// ` number`. A number too large for 32 bits stands for the largest: no maildrop has that many messages either.
fn argument(input: &[u8]) -> IResult<&[u8], u32> {
    let value = |digits: &[u8]| {
        digits
            .iter()
            .fold(0u32, |sum, &digit| sum.saturating_mul(10).saturating_add(u32::from(digit.saturating_sub(b'0'))))
    };
    preceded(space1, map(digit1, value)).parse(input)
}

/// The user's name after `USER` or `APOP`.
fn first_word(rest: &[u8]) -> Option<&[u8]> {
    rest.split(|&b| b == b' ').find(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_command_is_read_in_any_case_and_with_spaces_at_its_end() {
        use Command::{Dele, List, Quit, Retr, Rset, Stat, Top, Uidl};
        let command = Request::Command;
        let cases: [(&str, Request<'_>); 26] = [
            ("utf8", Request::Utf8),
            ("LANG", Request::Lang(None)),
            ("lang *", Request::Lang(Some("*"))),
            ("LANG de-AT ", Request::Lang(Some("de-AT"))),
            ("STAT", command(Stat)),
            ("stat  ", command(Stat)),
            ("LIST", command(List(None))),
            ("List 7", command(List(Some(7)))),
            ("LIST ", command(List(None))),
            ("UIDL 4294967295", command(Uidl(Some(u32::MAX)))),
            ("UIDL 4294967296", command(Uidl(Some(u32::MAX)))),
            ("RETR 0", command(Retr(0))),
            ("RETR  1", command(Retr(1))),
            ("DELE 3 ", command(Dele(3))),
            ("TOP 1 0", command(Top { number: 1, lines: 0 })),
            ("top 12 99999999999999999999", command(Top { number: 12, lines: u32::MAX })),
            ("RSET", command(Rset)),
            ("QUIT", command(Quit)),
            ("CAPA", Request::Capa),
            ("NOOP", Request::Noop),
            ("STLS", Request::Stls),
            ("AUTH", Request::Mechanisms),
            ("auth xoauth2", Request::Auth { mechanism: "xoauth2", response: None }),
            ("AUTH OAUTHBEARER =", Request::Auth { mechanism: "OAUTHBEARER", response: Some("") }),
            ("AUTH XOAUTH2 dXNlcj1h", Request::Auth { mechanism: "XOAUTH2", response: Some("dXNlcj1h") }),
            ("AUTH SCRAM-SHA-256-PLUS", Request::Auth { mechanism: "SCRAM-SHA-256-PLUS", response: None }),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line.as_bytes()), Ok(expected), "{line:?}");
        }
    }

    #[test]
    fn a_password_is_never_looked_at() {
        let password = |verb, user| Ok(Request::Password { verb, user });
        assert_eq!(parse(b"USER ann"), password("USER", Some(&b"ann"[..])));
        assert_eq!(parse(b"user"), password("USER", None));
        assert_eq!(parse(b"PASS top secret \xff\0"), password("PASS", None));
        assert_eq!(parse(b"APOP ann c4c9334bac560ecc979e58001b3e22fb"), password("APOP", Some(&b"ann"[..])));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for line in
            ["", " STAT", "STATS", "XTND", "STAT\0", "RETR1", "\u{e9}", "VERYLONGVERB 1", "\rSTAT", "STAT\n"]
        {
            assert_eq!(parse(line.as_bytes()), Err(Syntax::Unknown), "{line:?}");
        }
        for line in [
            "STAT 1",
            "UTF8 USER",
            "LANG d\u{e9}",
            "LANG en de",
            "RETR",
            "RETR x",
            "RETR 1 2",
            "RETR -1",
            "RETR +1",
            "LIST 1x",
            "TOP 1",
            "TOP 1 2 3",
            "QUIT now",
            "AUTH X OAUTH2 x",
            "AUTH A!",
            "RETR 1\0",
            "AUTH 123456789012345678901",
            "AUTH PLAIN a\tb",
        ] {
            assert!(matches!(parse(line.as_bytes()), Err(Syntax::Usage(_))), "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn any_line_gives_an_answer(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&line);
        }
    }
}
