//! Where one command ends and the next begins: lines, literals, and the limits of each state (RFC 3501 section 4.3,
//! RFC 7888). Called by `session`, which reads the socket into [`Framer::buffer`] and asks [`Framer::next`] what there
//! is. Imports `model` only.
//!
//! A line ends with CRLF; a bare CR or LF ends nothing. A literal that was announced is data, also when its command is
//! refused: it is dropped unread, or the dialog ends. All state lives here, so a read that is cancelled loses nothing.

mod announce;
mod input;
mod message;
mod step;

pub use step::{Limits, Line, Step};

use bytes::BytesMut;

pub(super) use announce::Announced;

use self::{input::Input, message::Upload};
use super::{
    bad::Bad,
    command::{self, Command, Head, Tagged, login},
    mailbox::Names,
    write::{Code, Status},
};
use crate::model::Secret;

/// Largest literal that may come without being asked for (RFC 7888 section 5, LITERAL-).
const MAX_NON_SYNC: u64 = 4096;
/// The answer to 8-bit bytes that are no UTF-8, in a session that speaks it (RFC 6855 section 3).
const NOT_UTF8: Bad = Bad {
    tag: None,
    status: Status::Bad,
    code: None,
    text: "The line is not in UTF-8",
    fatal: false,
    unsaves: false,
};

/// The input side of one connection.
#[derive(Debug)]
pub struct Framer {
    input: Input,
    limits: Limits,
    signed_in: bool,
    /// How mailbox names are written.
    names: Names,
    state: State,
    /// Bytes of the current command that are complete lines and literals.
    gathered: usize,
    /// Literals of the current command so far.
    literals: usize,
    /// Bytes of the current refused command dropped so far.
    dropped: u64,
    /// A password's literal was not asked for. Should it come all the same, its first word is not to be repeated as a
    /// tag, so until a command is understood answers bear none.
    stray_password: bool,
}

#[derive(Debug)]
enum State {
    /// Gathering a command.
    Command,
    /// Waiting for a literal that ends so many bytes into the command.
    Literal { end: usize },
    /// The session has to say whether it wants the message.
    Asked(Upload),
    /// Handing out the message.
    Message(Upload),
    /// The message is through, the line behind it is not.
    MessageEnd(Upload),
    /// Dropping a literal of a refused command.
    DropLiteral { left: u64 },
    /// Dropping a line of a refused command.
    DropLine,
    /// The peer sent a literal without waiting for the word: what follows cannot be told from commands.
    Impatient,
    /// Nothing more is read.
    Closed,
}

impl Framer {
    /// For a new connection, before login.
    pub fn new(limits: Limits) -> Self {
        Self {
            input: Input::default(),
            limits,
            signed_in: false,
            names: Names::Mutf7,
            state: State::Command,
            gathered: 0,
            literals: 0,
            dropped: 0,
            stray_password: false,
        }
    }

    /// From now on the limits of a signed-in session hold.
    pub fn signed_in(&mut self) {
        self.signed_in = true;
    }

    /// From now on mailbox names come in UTF-8, and so does every line.
    pub fn speaks_utf8(&mut self) {
        self.names = Names::Utf8;
    }

    /// Where the socket's bytes go, with room for some. Holds about 1 KiB while nothing is pending, and never more than
    /// the limit of a command and one read.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.input.buffer(matches!(self.state, State::Message(_) | State::DropLiteral { .. }))
    }

    /// Bytes that were read and not used yet.
    pub fn pending(&self) -> usize {
        self.input.rest().len()
    }

    /// What there is in the bytes read so far. Never blocks; call again until it says [`Step::Read`].
    #[expect(clippy::should_implement_trait, reason = "it never ends, and is no iterator")]
    pub fn next(&mut self) -> Step {
        loop {
            let step = match std::mem::replace(&mut self.state, State::Command) {
                State::Command => self.gather(),
                State::Literal { end } => self.literal(end),
                // The session passed over its question: that is a no.
                asked @ State::Asked(_) => {
                    self.state = asked;
                    self.reject();
                    None
                }
                State::Message(upload) => self.message(upload),
                State::MessageEnd(upload) => self.message_end(upload),
                State::DropLiteral { left } => self.drop_literal(left),
                State::DropLine => self.drop_line(),
                State::Impatient => {
                    Some(self.close(Bad::fatal(Code::ClientBug, "A literal was sent before it was asked for")))
                }
                State::Closed => Some(self.close(Bad::fatal(Code::ClientBug, "The dialog has ended"))),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// One raw line. Only between commands: after AUTHENTICATE, in its dialog, and in IDLE.
    pub fn next_line(&mut self) -> Line {
        if !matches!(self.state, State::Command) || self.gathered > 0 {
            self.state = State::Closed;
            return Line::Bad(Bad::fatal(Code::ClientBug, "A line was expected here"));
        }
        let end = self.input.line_end(0);
        if end.unwrap_or(self.input.rest().len()) > self.max_line() {
            self.state = State::Closed;
            return Line::Bad(Bad::fatal(Code::TooBig, "Line too long"));
        }
        let Some(end) = end else {
            return Line::Read;
        };
        let text = self.input.rest().get(..end.saturating_sub(2)).unwrap_or_default();
        let line = Line::Text(Secret::new(String::from_utf8_lossy(text)));
        self.input.consume(end);
        line
    }

    /// Takes what was read behind the command just given: it is no text but compressed (RFC 4978).
    pub fn take_rest(&mut self) -> BytesMut {
        let rest = BytesMut::from(self.input.rest());
        self.input.consume(rest.len());
        rest
    }

    fn max_line(&self) -> usize {
        if self.signed_in { self.limits.line } else { self.limits.line_before_login }
    }

    /// Before login a command, literals and all, has to fit where a line does.
    fn max_command(&self) -> usize {
        if self.signed_in { self.limits.command } else { self.limits.line_before_login }
    }

    /// The next line of a command.
    fn gather(&mut self) -> Option<Step> {
        let end = self.input.line_end(self.gathered);
        let line = end.unwrap_or(self.input.rest().len()) - self.gathered;
        if line > self.max_line() || self.gathered + line > self.max_command() {
            let bad = self.tagged(Bad::no(Code::TooBig, "Command too long"));
            self.forget(self.gathered);
            self.state = State::DropLine;
            return Some(Step::Bad(bad));
        }
        let Some(end) = end else {
            return Some(Step::Read);
        };
        let bytes = self.input.rest().get(..end).unwrap_or_default();
        let last = bytes.get(self.gathered..).unwrap_or_default();
        let readable = self.names == Names::Mutf7 || str::from_utf8(last).is_ok();
        if let Some(announced) = Announced::at_end_of(last) {
            if !readable {
                return self.refuse(self.tagged(NOT_UTF8), &announced, end);
            }
            return self.announced(&announced, end);
        }
        if !readable {
            let bad = self.tagged(NOT_UTF8);
            self.forget(end);
            return Some(Step::Bad(bad));
        }
        let step = match command::parse(bytes, self.limits.search, self.names) {
            Ok(tagged) => {
                self.stray_password = false;
                Step::Command(tagged)
            }
            Err(bad) => Step::Bad(self.without_stray(bad)),
        };
        self.forget(end);
        Some(step)
    }

    /// The command's line up to `end` announces a literal: is it wanted?
    fn announced(&mut self, literal: &Announced, end: usize) -> Option<Step> {
        let bytes = self.input.rest().get(..end).unwrap_or_default();
        let Some(head) = Head::read(bytes) else {
            return self.refuse(Bad::syntax("A command is a tag, a space and a verb"), literal, end);
        };
        let tag = head.tag.to_owned();
        if head.verb.upper() == "LOGIN" {
            // Refused before the password is read: the literal is dropped, or never asked for.
            let user = login::user(head.arguments);
            let login = Step::Command(Tagged { tag, command: Command::Login { user } });
            self.stray_password = literal.waits;
            return Some(self.drop_with(login, literal, end));
        }
        let before = head.arguments.get(..head.arguments.len().saturating_sub(literal.length)).unwrap_or_default();
        let message = command::first_message(&head.verb, before, literal.binary, self.names);
        let replaces = head.verb.upper() != "APPEND";
        if let Some(bad) = self.unwanted(head.verb.upper(), head.verb.is_known(), literal, message.is_some()) {
            let password = head.verb.upper() == "AUTHENTICATE" && literal.waits;
            let step = self.refuse(bad.to(&tag), literal, end);
            self.stray_password |= password;
            return step;
        }
        if let Some(message) = message {
            return self.first_message(Upload::new(tag, replaces), message, literal, end);
        }
        let largest = if self.signed_in { self.limits.literal } else { self.limits.literal_before_login };
        let size = usize::try_from(literal.size).unwrap_or(usize::MAX);
        if size > largest || end.saturating_add(size) > self.max_command() {
            return self.refuse(Bad::no(Code::TooBig, "The literal is too large").to(&tag), literal, end);
        }
        if self.literals >= self.limits.literals {
            return self.refuse(Bad::no(Code::Limit, "Too many literals in one command").to(&tag), literal, end);
        }
        self.literals += 1;
        self.gathered = end;
        self.state = State::Literal { end: end + size };
        literal.waits.then_some(Step::Continue)
    }

    /// Why this command may not have such a literal, whatever its size.
    fn unwanted(&self, verb: &str, known: bool, literal: &Announced, message: bool) -> Option<Bad> {
        if !known {
            return Some(Bad::syntax("Unknown command"));
        }
        if literal.binary && !message && verb != "SETMETADATA" {
            return Some(Bad::syntax("Only a message may be a binary literal"));
        }
        if let Some(bad) = hasty(literal) {
            return Some(bad);
        }
        if verb == "AUTHENTICATE" || (!self.signed_in && verb != "ID") {
            return Some(Bad::syntax("No literal is taken here"));
        }
        None
    }

    /// A literal is there or still to come.
    fn literal(&mut self, end: usize) -> Option<Step> {
        if self.input.rest().len() < end {
            self.state = State::Literal { end };
            return Some(Step::Read);
        }
        self.gathered = end;
        None
    }

    fn refuse(&mut self, bad: Bad, literal: &Announced, end: usize) -> Option<Step> {
        let bad = self.without_stray(bad);
        Some(self.drop_with(Step::Bad(bad), literal, end))
    }

    /// Answers with `step` and sees to it that the literal announced at `end` is never read as commands.
    fn drop_with(&mut self, step: Step, literal: &Announced, end: usize) -> Step {
        self.forget(end);
        match (self.after_refused(literal), step) {
            (true, step) => step,
            (false, Step::Bad(bad)) => self.close(Bad { fatal: true, ..bad }),
            // LOGIN: the answer first, then the end.
            (false, step) => {
                self.state = State::Closed;
                step
            }
        }
    }

    /// Where to go on after a literal of a refused command; false: nowhere.
    fn after_refused(&mut self, literal: &Announced) -> bool {
        if literal.waits {
            self.after_unasked();
            return true;
        }
        self.dropped = self.dropped.saturating_add(literal.size);
        self.state = State::DropLiteral { left: literal.size };
        self.dropped <= self.limits.dropped
    }

    /// A literal was announced and not asked for: the peer sends nothing of it and the next byte is a new command. If
    /// there are bytes already, it did not wait.
    fn after_unasked(&mut self) {
        self.dropped = 0;
        self.state = if self.input.rest().is_empty() { State::Command } else { State::Impatient };
    }

    fn drop_literal(&mut self, left: u64) -> Option<Step> {
        let there = self.input.rest().len() as u64;
        self.input.consume(usize::try_from(left.min(there)).unwrap_or(usize::MAX));
        if there < left {
            self.state = State::DropLiteral { left: left - there };
            return Some(Step::Read);
        }
        self.state = State::DropLine;
        None
    }

    fn drop_line(&mut self) -> Option<Step> {
        let Some(end) = self.input.line_end(0) else {
            // Keeps what may turn out to announce a literal.
            let drop = self.input.rest().len().saturating_sub(Announced::LONGEST);
            self.input.consume(drop);
            self.dropped = self.dropped.saturating_add(drop as u64);
            if self.dropped > self.limits.dropped {
                return Some(self.close(Bad::fatal(Code::TooBig, "The refused command does not end")));
            }
            self.state = State::DropLine;
            return Some(Step::Read);
        };
        let announced = Announced::at_end_of(self.input.rest().get(..end).unwrap_or_default());
        self.input.consume(end);
        match announced {
            Some(literal) if !self.after_refused(&literal) => {
                Some(self.close(Bad::fatal(Code::TooBig, "The refused command does not end")))
            }
            Some(_) => None,
            None => {
                self.dropped = 0;
                None
            }
        }
    }

    fn close(&mut self, bad: Bad) -> Step {
        self.state = State::Closed;
        Step::Bad(bad)
    }

    /// The answer, to the current command's tag where it has one.
    fn tagged(&self, bad: Bad) -> Bad {
        match Head::read(self.input.rest()) {
            Some(head) => self.without_stray(bad.to(head.tag)),
            None => bad,
        }
    }

    /// The answer without its tag, where that could be the first word of a password.
    fn without_stray(&self, bad: Bad) -> Bad {
        if self.stray_password { Bad { tag: None, ..bad } } else { bad }
    }

    /// The first `bytes` bytes are done with, and so is the command.
    fn forget(&mut self, bytes: usize) {
        self.input.consume(bytes);
        self.gathered = 0;
        self.literals = 0;
    }
}

/// Large literals have to wait, messages too (RFC 7888 section 5).
fn hasty(literal: &Announced) -> Option<Bad> {
    let bad = Bad::syntax("Literals over 4096 bytes must wait for +");
    (!literal.waits && literal.size > MAX_NON_SYNC).then_some(Bad { code: Some(Code::TooBig), ..bad })
}

#[cfg(test)]
mod tests;
