//! The messages of APPEND and REPLACE on their way through the framer: asked for, handed out in pieces, and the line
//! behind each, which ends the command or announces the next one (RFC 3501 section 6.3.11, RFC 3502, RFC 3516, RFC 6855,
//! RFC 8508).

use super::{Framer, State, announce::Announced, hasty, step::Step};
use crate::imap::{
    bad::Bad,
    command::{self, AppendHead, Form, Start},
    write::Code,
};

/// Where the messages of one command stand.
#[derive(Debug)]
pub(super) struct Upload {
    tag: String,
    /// Octets of the current message that are still to come.
    left: u64,
    /// The peer has to be told to send it.
    ask: bool,
    form: Form,
    /// Messages so far, the current one counted.
    count: usize,
    /// REPLACE takes one only.
    lone: bool,
}

impl Upload {
    /// For the first message of a command.
    pub(super) fn new(tag: String, lone: bool) -> Self {
        Self { tag, left: 0, ask: false, form: Form::Literal, count: 1, lone }
    }
}

impl Framer {
    /// Takes the message just announced: it comes as [`Step::Chunk`]s, then [`Step::AppendEnd`], [`Step::NextMessage`] or
    /// [`Step::Bad`].
    pub fn accept(&mut self) {
        match std::mem::replace(&mut self.state, State::Command) {
            State::Asked(upload) => self.state = State::Message(upload),
            other => self.state = other,
        }
    }

    /// Does not take the message, or not the rest of it, nor any that follow. The session answers the command itself;
    /// what of it comes all the same is dropped.
    pub fn reject(&mut self) {
        match std::mem::replace(&mut self.state, State::Command) {
            State::Asked(Upload { ask: true, .. }) | State::Message(Upload { ask: true, .. }) => {
                self.after_unasked()
            }
            State::Asked(Upload { left, .. }) | State::Message(Upload { left, .. }) => {
                self.state = State::DropLiteral { left };
            }
            State::MessageEnd(_) => self.state = State::DropLine,
            other => self.state = other,
        }
    }

    /// The command's line up to `end` announces its first message.
    pub(super) fn first_message(
        &mut self,
        mut upload: Upload,
        start: Result<Start, Bad>,
        literal: &Announced,
        end: usize,
    ) -> Option<Step> {
        let (replaces, mailbox, options) = match start {
            Ok(start) => start,
            Err(bad) => return self.refuse(bad.to(&upload.tag), literal, end),
        };
        if let Some(bad) = self.too_much(&upload, literal) {
            return self.refuse(bad.to(&upload.tag), literal, end);
        }
        self.forget(end);
        let message = options.of(literal.size, literal.waits);
        (upload.left, upload.ask, upload.form) = (literal.size, literal.waits, message.form);
        let head = AppendHead { tag: upload.tag.clone(), replaces, mailbox, message };
        self.state = State::Asked(upload);
        Some(Step::Append(head))
    }

    fn too_much(&self, upload: &Upload, literal: &Announced) -> Option<Bad> {
        if literal.size > self.limits.append {
            return Some(Bad::no(Code::TooBig, "The message is too large"));
        }
        let many = upload.count > self.limits.literals;
        many.then(|| Bad::no(Code::Limit, "Too many messages in one command"))
    }

    /// The octets of a message.
    pub(super) fn message(&mut self, mut upload: Upload) -> Option<Step> {
        if upload.ask {
            upload.ask = false;
            self.state = State::Message(upload);
            return Some(Step::Continue);
        }
        if upload.left == 0 {
            self.state = State::MessageEnd(upload);
            return None;
        }
        let Some(chunk) = self.input.take_chunk(upload.left) else {
            self.state = State::Message(upload);
            return Some(Step::Read);
        };
        upload.left = upload.left.saturating_sub(chunk.len() as u64);
        // Only BINARY's literals may hold NUL (RFC 3501 section 9, `CHAR8`; RFC 3516).
        if upload.form == Form::Literal && memchr::memchr(0, &chunk).is_some() {
            self.state = State::DropLiteral { left: upload.left };
            let text = "A message with NUL in it is taken as a binary literal only";
            return Some(Step::Bad(Bad::no(Code::Cannot, text).to(&upload.tag)));
        }
        self.state = State::Message(upload);
        Some(Step::Chunk(chunk))
    }

    /// The line behind a message: CRLF, or what announces the next one.
    pub(super) fn message_end(&mut self, upload: Upload) -> Option<Step> {
        let end = self.input.line_end(0);
        if end.unwrap_or(self.input.rest().len()) > self.max_line() {
            self.state = State::DropLine;
            return Some(Step::Bad(Bad::no(Code::TooBig, "Command too long").to(&upload.tag)));
        }
        let Some(end) = end else {
            self.state = State::MessageEnd(upload);
            return Some(Step::Read);
        };
        let line = self.input.rest().get(..end).unwrap_or_default();
        let behind = if upload.form == Form::Utf8 { line.strip_prefix(b")") } else { Some(line) };
        let Some(behind) = behind else {
            return self.after_message(Bad::syntax("The message after UTF8 ( ends with )").to(&upload.tag), end);
        };
        if behind == b"\r\n" {
            self.forget(end);
            return Some(Step::AppendEnd);
        }
        match Announced::at_end_of(behind) {
            Some(literal) if !upload.lone => {
                let before = behind.get(..behind.len().saturating_sub(literal.length)).unwrap_or_default();
                let options = command::next_message(before, literal.binary);
                self.next_message(upload, options, &literal, end)
            }
            _ => self.after_message(Bad::syntax("Something follows the message").to(&upload.tag), end),
        }
    }

    fn next_message(
        &mut self,
        mut upload: Upload,
        options: Result<command::MessageOptions, Bad>,
        literal: &Announced,
        end: usize,
    ) -> Option<Step> {
        upload.count += 1;
        let options = match options {
            Ok(options) => options,
            Err(bad) => return self.refuse(bad.to(&upload.tag), literal, end),
        };
        if let Some(bad) = hasty(literal).or_else(|| self.too_much(&upload, literal)) {
            return self.refuse(bad.to(&upload.tag), literal, end);
        }
        self.forget(end);
        let message = options.of(literal.size, literal.waits);
        (upload.left, upload.ask, upload.form) = (literal.size, literal.waits, message.form);
        self.state = State::Asked(upload);
        Some(Step::NextMessage(message))
    }

    /// The line up to `end` does not belong behind a message; a literal that it announces is dropped.
    fn after_message(&mut self, bad: Bad, end: usize) -> Option<Step> {
        let announced = Announced::at_end_of(self.input.rest().get(..end).unwrap_or_default());
        if let Some(literal) = announced {
            return self.refuse(bad, &literal, end);
        }
        self.forget(end);
        Some(Step::Bad(bad))
    }
}
