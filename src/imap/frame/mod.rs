//! Where one command ends and the next begins: lines, literals, and the limits of each state (RFC 3501 section 4.3,
//! RFC 7888). Called by `session`, which reads the socket into [`Framer::buffer`] and asks [`Framer::next`] what there
//! is. Imports `model` only.
//!
//! A line ends with CRLF; a bare CR or LF ends nothing. A literal that was announced is data, also when its command is
//! refused: it is dropped unread, or the dialog ends. All state lives here, so a read that is cancelled loses nothing.

mod announce;
mod input;
mod step;

pub use step::{Limits, Line, Step};

use bytes::BytesMut;

use self::{announce::Announced, input::Input};
use super::{
    bad::Bad,
    command::{self, AppendHead, Command, Head, Tagged, login},
    write::Code,
};
use crate::model::Secret;

/// Largest literal that may come without being asked for (RFC 7888 section 5, LITERAL-).
const MAX_NON_SYNC: u64 = 4096;

/// The input side of one connection.
#[derive(Debug)]
pub struct Framer {
    input: Input,
    limits: Limits,
    signed_in: bool,
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
    Asked { tag: String, size: u64, waits: bool },
    /// Handing out the message; `ask` for it first.
    Message { tag: String, left: u64, ask: bool },
    /// The message is through, its CRLF is not.
    MessageEnd { tag: String },
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

    /// Where the socket's bytes go, with room for some. Holds about 1 KiB while nothing is pending, and never more than
    /// the limit of a command and one read.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.input.buffer(matches!(self.state, State::Message { .. } | State::DropLiteral { .. }))
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
                asked @ State::Asked { .. } => {
                    self.state = asked;
                    self.reject();
                    None
                }
                State::Message { tag, left, ask } => self.message(tag, left, ask),
                State::MessageEnd { tag } => self.message_end(tag),
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

    /// Takes the message of the APPEND just announced: it comes as [`Step::Chunk`]s, then [`Step::AppendEnd`] or
    /// [`Step::Bad`].
    pub fn accept(&mut self) {
        if let State::Asked { tag, size, waits } = std::mem::replace(&mut self.state, State::Command) {
            self.state = State::Message { tag, left: size, ask: waits };
        }
    }

    /// Does not take the message, or not the rest of it. The session answers the command itself; what of the message
    /// comes all the same is dropped.
    pub fn reject(&mut self) {
        match std::mem::replace(&mut self.state, State::Command) {
            State::Asked { waits: true, .. } | State::Message { ask: true, .. } => self.after_unasked(),
            State::Asked { size: left, .. } | State::Message { left, .. } => {
                self.state = State::DropLiteral { left };
            }
            State::MessageEnd { .. } => self.state = State::DropLine,
            other => self.state = other,
        }
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
        if let Some(announced) = Announced::at_end_of(bytes.get(self.gathered..).unwrap_or_default()) {
            return self.announced(&announced, end);
        }
        let step = match command::parse(bytes, self.limits.search) {
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
        if let Some(bad) = self.unwanted(head.verb.upper(), head.verb.is_known(), literal) {
            let password = head.verb.upper() == "AUTHENTICATE" && literal.waits;
            let step = self.refuse(bad.to(&tag), literal, end);
            self.stray_password |= password;
            return step;
        }
        let before = head.arguments.get(..head.arguments.len().saturating_sub(literal.length)).unwrap_or_default();
        if head.verb.upper() == "APPEND" && before != b" " {
            return match command::append_head(before) {
                Err(bad) => self.refuse(bad.to(&tag), literal, end),
                Ok(_) if literal.size > self.limits.append => {
                    self.refuse(Bad::no(Code::TooBig, "The message is too large").to(&tag), literal, end)
                }
                Ok((mailbox, flags, date)) => {
                    self.forget(end);
                    let (size, waits) = (literal.size, literal.waits);
                    self.state = State::Asked { tag: tag.clone(), size, waits };
                    Some(Step::Append(AppendHead { tag, mailbox, flags, date, size, waits }))
                }
            };
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
    fn unwanted(&self, verb: &str, known: bool, literal: &Announced) -> Option<Bad> {
        if !known {
            return Some(Bad::syntax("Unknown command"));
        }
        if literal.binary {
            return Some(Bad::syntax("Binary literals are not offered"));
        }
        if !literal.waits && literal.size > MAX_NON_SYNC {
            return Some(Bad {
                code: Some(Code::TooBig),
                ..Bad::syntax("Literals over 4096 bytes must wait for +")
            });
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

    fn message(&mut self, tag: String, left: u64, ask: bool) -> Option<Step> {
        if ask {
            self.state = State::Message { tag, left, ask: false };
            return Some(Step::Continue);
        }
        if left == 0 {
            self.state = State::MessageEnd { tag };
            return None;
        }
        let Some(chunk) = self.input.take_chunk(left) else {
            self.state = State::Message { tag, left, ask: false };
            return Some(Step::Read);
        };
        let left = left.saturating_sub(chunk.len() as u64);
        // Only BINARY's literals may hold NUL (RFC 3501 section 9, `CHAR8`; RFC 3516).
        if memchr::memchr(0, &chunk).is_some() {
            self.state = State::DropLiteral { left };
            return Some(Step::Bad(Bad::no(Code::Cannot, "A message with NUL in it is not taken").to(&tag)));
        }
        self.state = State::Message { tag, left, ask: false };
        Some(Step::Chunk(chunk))
    }

    /// Exactly CRLF may follow the message.
    fn message_end(&mut self, tag: String) -> Option<Step> {
        match self.input.rest() {
            [b'\r', b'\n', ..] => {
                self.forget(2);
                Some(Step::AppendEnd)
            }
            [] | [b'\r'] => {
                self.state = State::MessageEnd { tag };
                Some(Step::Read)
            }
            _ => {
                self.state = State::DropLine;
                Some(Step::Bad(Bad::syntax("APPEND takes one message and nothing after it").to(&tag)))
            }
        }
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

#[cfg(test)]
mod tests;
