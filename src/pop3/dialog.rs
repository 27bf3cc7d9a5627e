//! One connection's conversation: what a line means in the state it meets (RFC 1939 section 3; RFC 5034 section 4 for
//! the SASL exchange). Called by `session`.

use bytes::BytesMut;
use zeroize::Zeroizing;

use super::{
    command::{self, Command, Request, Syntax},
    line::{Line, Lines},
    reply,
};
use crate::model::Secret;

/// The first line, CRLF included. No timestamp in angle brackets: that would offer APOP (RFC 1939 section 7).
pub const GREETING: &str = "+OK Portcullis ready\r\n";

/// Longest user name kept of a refused `USER` or `APOP`, in bytes.
const MAX_NAME: usize = 256;

/// Bounds of one conversation. Source of the defaults: threats.md section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest line before login, CRLF included, in bytes. RFC 2449 section 4 says 255; a token does not fit in that.
    pub line_before_login: usize,
    /// Longest line after login, CRLF included, in bytes.
    pub line_after_login: usize,
    /// Lines that are no command and get an answer before login; the next one ends the connection.
    pub bad_before_login: u32,
    /// The same after login.
    pub bad_after_login: u32,
    /// Refused logins that get an answer; the next attempt ends the connection unheard.
    pub failed_logins: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_before_login: 32 * 1024,
            line_after_login: 64 * 1024,
            bad_before_login: 10,
            bad_after_login: 50,
            failed_logins: 5,
        }
    }
}

/// What the session does next. Replies are in the output buffer already, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send what is written, read more bytes, ask again.
    Read,
    /// A line was answered; ask again. (Send first if the output has grown large.)
    Replied,
    /// A SASL response to judge: answer with [`Dialog::admit`] or [`Dialog::refuse`].
    SignIn {
        /// The mechanism's name, as given to [`Dialog::new`].
        mechanism: &'static str,
        /// Base64 as on the wire, not decoded; empty for `=`.
        response: Secret,
    },
    /// Someone tries a password: record it, answer with [`Dialog::refuse`]. The secret is gone already.
    Password {
        /// `USER`, `PASS` or `APOP`.
        verb: &'static str,
        /// For whom, where the command says it. At most 256 bytes, as sent.
        user: Option<String>,
    },
    /// A mechanism that is not offered, in upper case (many of them carry passwords): answer with [`Dialog::refuse`].
    /// Its response, if one came, is gone.
    Unoffered(String),
    /// A command for the maildrop, after login.
    Command(Command),
    /// Send what is written, then close.
    Leave,
}

/// The conversation. Lives as long as the connection; holds its unread input.
pub struct Dialog {
    lines: Lines,
    stage: Stage,
    mechanisms: &'static [&'static str],
    limits: Limits,
    bad: u32,
    failures: u32,
}

enum Stage {
    /// Before login: the AUTHORIZATION state.
    Start,
    /// `AUTH mechanism` came without a response; it is the next line.
    Response(&'static str),
    /// The error challenge is out. The next line, whatever it is, is its answer; then this text goes out.
    Failed(String),
    /// As `Start`, but the answer to the error challenge may still be under way.
    Late,
    /// After login: the TRANSACTION state.
    Transaction,
    /// Over.
    Left,
}

impl Dialog {
    /// A new conversation that offers these mechanisms (upper case).
    pub fn new(mechanisms: &'static [&'static str], limits: Limits) -> Self {
        Self { lines: Lines::default(), stage: Stage::Start, mechanisms, limits, bad: 0, failures: 0 }
    }

    /// Where the session puts the bytes it reads. Nothing is lost when its reading is cancelled.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.lines.buffer()
    }

    /// Works on the input until there is something to do. Cheap to call again.
    pub fn next(&mut self, out: &mut BytesMut) -> Step {
        let limit = match self.stage {
            Stage::Left => return Step::Leave,
            Stage::Transaction => self.limits.line_after_login,
            _ => self.limits.line_before_login,
        };
        match self.lines.next(limit) {
            Line::More => Step::Read,
            Line::Whole(line) => self.heard(line, out),
            Line::TooLong => self.too_long(out),
            Line::Endless => self.leave("line too long, closing", out),
        }
    }

    /// Whether the client owes an answer to the error challenge. Many programs never give one: after two seconds of
    /// silence call [`Dialog::late`].
    pub fn awaits_answer(&self) -> bool {
        matches!(self.stage, Stage::Failed(_))
    }

    /// Whether the client owes its SASL response: the session's limit for the exchange runs.
    pub fn awaits_response(&self) -> bool {
        matches!(self.stage, Stage::Response(_))
    }

    /// Says the refusal without waiting any longer for the answer to the error challenge.
    pub fn late(&mut self, out: &mut BytesMut) {
        if let Stage::Failed(text) = std::mem::replace(&mut self.stage, Stage::Start) {
            reply::err(out, &text);
            self.stage = Stage::Late;
        }
    }

    /// Yes to the last sign-in: `+OK text`, and the transaction state.
    pub fn admit(&mut self, text: &str, out: &mut BytesMut) {
        reply::ok(out, text);
        self.stage = Stage::Transaction;
        self.bad = 0;
    }

    /// No to the last sign-in or password: `-ERR text`, after the error challenge (base64) and its answer where the
    /// mechanism has one (RFC 7628 section 3.2.3).
    pub fn refuse(&mut self, challenge: Option<&str>, text: &str, out: &mut BytesMut) {
        self.failures = self.failures.saturating_add(1);
        match challenge {
            Some(challenge) => {
                reply::continuation(out, challenge);
                self.stage = Stage::Failed(text.to_owned());
            }
            None => {
                reply::err(out, text);
                self.stage = Stage::Start;
            }
        }
    }

    /// Ends the conversation from our side: `-ERR text`, then nothing more is heard.
    pub fn leave(&mut self, text: &str, out: &mut BytesMut) -> Step {
        reply::err(out, text);
        self.stage = Stage::Left;
        Step::Leave
    }

    fn heard(&mut self, line: Zeroizing<Vec<u8>>, out: &mut BytesMut) -> Step {
        match std::mem::replace(&mut self.stage, Stage::Start) {
            Stage::Start => self.before_login(&line, out),
            Stage::Response(mechanism) => self.response(mechanism, &line, out),
            Stage::Failed(text) => {
                // Seen: an empty line, `AQ==`, `*`, the token again, `QUIT`, rubbish. All are the one answer.
                reply::err(out, &text);
                Step::Replied
            }
            // It would be wrong to answer a late answer: each reply after it would be taken for the one before.
            Stage::Late if command::parse(&line) == Err(Syntax::Unknown) => Step::Replied,
            Stage::Late => self.before_login(&line, out),
            Stage::Transaction => {
                self.stage = Stage::Transaction;
                self.after_login(&line, out)
            }
            Stage::Left => Step::Leave,
        }
    }

    fn before_login(&mut self, line: &[u8], out: &mut BytesMut) -> Step {
        match command::parse(line) {
            Ok(Request::Capa) => reply::capabilities(out, self.mechanisms),
            Ok(Request::Mechanisms) => reply::mechanisms(out, self.mechanisms),
            // Messages are sent as they stand in any case: a program that can read UTF-8 in headers finds it there.
            Ok(Request::Utf8) => reply::ok(out, "UTF-8 it is"),
            Ok(Request::Lang(wanted)) => return self.language(wanted, out),
            Ok(Request::Auth { .. } | Request::Password { .. }) if self.failures >= self.limits.failed_logins => {
                return self.leave("[SYS/TEMP] too many failed sign-ins, closing", out);
            }
            Ok(Request::Auth { mechanism, response }) => return self.auth(mechanism, response, out),
            Ok(Request::Password { verb, user }) => return Step::Password { verb, user: user.map(name) },
            Ok(Request::Command(Command::Quit)) => {
                reply::ok(out, "goodbye");
                self.stage = Stage::Left;
                return Step::Leave;
            }
            Ok(Request::Stls) => return self.bad("TLS is on already", out),
            Ok(Request::Noop | Request::Command(_)) => return self.bad("sign in first: AUTH", out),
            Err(syntax) => return self.syntax(&syntax, out),
        }
        Step::Replied
    }

    fn auth(&mut self, mechanism: &str, response: Option<&str>, out: &mut BytesMut) -> Step {
        let offered = self.mechanisms.iter().copied().find(|ours| ours.eq_ignore_ascii_case(mechanism));
        match (offered, response) {
            (Some(mechanism), Some(response)) => Step::SignIn { mechanism, response: Secret::new(response) },
            (Some(mechanism), None) => {
                reply::continuation(out, "");
                self.stage = Stage::Response(mechanism);
                Step::Replied
            }
            (None, _) => Step::Unoffered(mechanism.to_ascii_uppercase()),
        }
    }

    fn response(&mut self, mechanism: &'static str, line: &[u8], out: &mut BytesMut) -> Step {
        if line == b"*" {
            return self.bad("sign-in cancelled", out);
        }
        match str::from_utf8(line) {
            Ok(text) => Step::SignIn { mechanism, response: Secret::new(text) },
            Err(_) => self.bad("that is not base64", out),
        }
    }

    fn after_login(&mut self, line: &[u8], out: &mut BytesMut) -> Step {
        match command::parse(line) {
            Ok(Request::Command(command)) => return Step::Command(command),
            Ok(Request::Capa) => reply::capabilities(out, self.mechanisms),
            Ok(Request::Noop) => reply::ok(out, "nothing done"),
            Ok(Request::Lang(wanted)) => return self.language(wanted, out),
            Ok(Request::Utf8) => return self.bad("UTF8 is for the time before AUTH", out),
            Ok(Request::Mechanisms | Request::Auth { .. } | Request::Password { .. }) => {
                return self.bad("you are signed in already", out);
            }
            Ok(Request::Stls) => return self.bad("TLS is on already", out),
            Err(syntax) => return self.syntax(&syntax, out),
        }
        Step::Replied
    }

    /// LANG (RFC 6856 section 3): we speak one language.
    fn language(&mut self, wanted: Option<&str>, out: &mut BytesMut) -> Step {
        let Some(wanted) = wanted else {
            reply::languages(out);
            return Step::Replied;
        };
        // By RFC 4647 section 3.4: `en-GB` is content with `en`.
        let first = wanted.split('-').next().unwrap_or_default();
        let chosen = if wanted.eq_ignore_ascii_case("i-default") || wanted == "*" {
            "i-default"
        } else if first.eq_ignore_ascii_case("en") {
            "en"
        } else {
            return self.bad("that language is not spoken here", out);
        };
        reply::ok(out, &format!("{chosen} English it is"));
        Step::Replied
    }

    fn too_long(&mut self, out: &mut BytesMut) -> Step {
        match std::mem::replace(&mut self.stage, Stage::Start) {
            Stage::Failed(text) => {
                reply::err(out, &text);
                Step::Replied
            }
            Stage::Late => Step::Replied,
            stage => {
                self.stage = if matches!(stage, Stage::Transaction) { stage } else { Stage::Start };
                self.bad("line too long", out)
            }
        }
    }

    fn syntax(&mut self, syntax: &Syntax, out: &mut BytesMut) -> Step {
        match syntax {
            Syntax::Unknown => self.bad("unknown command", out),
            Syntax::Usage(usage) => self.bad(&format!("expected: {usage}"), out),
        }
    }

    /// Answers a line that leads nowhere, and counts it.
    fn bad(&mut self, text: &str, out: &mut BytesMut) -> Step {
        self.bad = self.bad.saturating_add(1);
        let most = match self.stage {
            Stage::Transaction => self.limits.bad_after_login,
            _ => self.limits.bad_before_login,
        };
        if self.bad > most {
            return self.leave("[SYS/TEMP] too many bad commands, closing", out);
        }
        reply::err(out, text);
        Step::Replied
    }
}

/// A user's name for the record, cut at [`MAX_NAME`].
fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..MAX_NAME).unwrap_or(bytes)).into_owned()
}
