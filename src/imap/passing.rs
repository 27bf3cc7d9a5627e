//! What a signed-in peer says to another server, followed as it is passed on: each command's verb, and where the command
//! ends. A command that would leave the sign-in (UNAUTHENTICATE) or change mail that may only be read never gets there;
//! a few are answered here. Called by `session::relay`. No I/O.
//!
//! The bytes must mean the same to us and to that server, or a command could be hidden from us. So a lone CR or LF and a line
//! that ends in half a literal are not passed on; IDLE has no arguments; a tag is not used twice at once; and every literal
//! waits for that server's word, also one that the peer sends at once: servers skip the rest of a line that they make nothing
//! of, and whether they skip a literal with it differs (Dovecot does not).

mod verbs;

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};

use verbs::{Kind, plain_verb, uid_verb};

use super::{
    bad::Bad,
    boundary::Said,
    command::{self, Command, Head, Tagged, Verb},
    frame::{Announced, Limits},
    mailbox::Names,
    write::Code,
};

/// Longest command that is answered here, literals and all, in bytes.
const MAX_OWN: usize = 8 * 1024;
/// Longest tag, `UID` and verb, in bytes: so far a line is looked at before it goes on.
const MAX_HEAD: usize = command::MAX_TAG + 64;
/// Largest literal, in bytes (RFC 9051 section 9: a `number64`).
const MAX_SIZE: u64 = i64::MAX as u64;
/// So much of a line's end is held back until it is known whether it announces a literal, in bytes.
const HELD: usize = Announced::LONGEST + 8;
/// Most commands that wait for their answers.
const MAX_WAITING: usize = 256;

/// What there is.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Nothing more: read, or send what is to go on, then ask again.
    Read,
    /// The server has to answer before anything else is taken.
    Wait,
    /// A command begins, and goes on: its verb, for those who look at live sessions.
    Began(&'static str),
    /// A command to be answered here: CAPABILITY, ID or COMPRESS.
    Own(Tagged),
    /// Say `+` to the peer: it waits to send a literal.
    Continue,
    /// The command is refused and never gets there; after a fatal one close.
    Refused(Bad),
}

/// One direction of a relayed IMAP session: from the peer to the server.
#[derive(Debug)]
pub struct Commands {
    only_reads: bool,
    limits: Limits,
    state: State,
    /// The tag of the command that is under way.
    tag: String,
    /// Tags that went on and are not answered yet.
    waiting: VecDeque<Box<str>>,
    /// The last bytes of the line under way, held back until it is known whether they announce a literal.
    tail: BytesMut,
    /// Bytes of that line so far.
    line: usize,
    /// Bytes of the refused command dropped so far.
    dropped: u64,
    /// Size of the literal that the server did not want, though the peer was right to send it.
    unwanted: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A command begins.
    Start,
    /// The rest of a line goes on.
    Line,
    /// A literal goes on.
    Literal {
        left: u64,
    },
    /// The server is asked whether it wants the literal; with `sent` the peer does not wait for its word.
    Asked {
        size: u64,
        sent: bool,
    },
    /// The server is asked whether it lets the peer idle.
    AskedToIdle,
    /// The next line ends IDLE; with `over` the server has ended it already.
    Idling {
        over: bool,
    },
    /// A command that is answered here, so many of its bytes in whole lines and literals; `asked` if the peer was told to
    /// send the literal behind them.
    Own {
        gathered: usize,
        asked: bool,
    },
    DropLine,
    DropLiteral {
        left: u64,
    },
    /// What follows cannot be told from commands.
    Closed,
}

impl Commands {
    /// For a session that has just signed in; who `only_reads` has every command refused that could change something.
    pub fn new(only_reads: bool, limits: Limits) -> Self {
        Self {
            only_reads,
            limits,
            state: State::Start,
            tag: String::new(),
            waiting: VecDeque::new(),
            tail: BytesMut::new(),
            line: 0,
            dropped: 0,
            unwanted: 0,
        }
    }

    /// Moves what may go on from `input` to the end of `on`, until something has to be done.
    pub fn next(&mut self, input: &mut BytesMut, on: &mut BytesMut) -> Step {
        loop {
            let step = match self.state {
                State::Start => self.start(input, on),
                State::Line => self.line(input, on),
                State::Literal { left } => self.literal(input, on, left),
                State::Asked { .. } | State::AskedToIdle => Some(Step::Wait),
                State::Idling { over } => self.idling(input, on, over),
                State::Own { gathered, asked } => self.own(input, gathered, asked),
                State::DropLine => self.drop_line(input),
                State::DropLiteral { left } => self.drop_literal(input, left),
                State::Closed => Some(self.close("The dialog has ended")),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// The tag of the command that is under way.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Whether the next bytes are a piece of a message, and a larger read is worth its room.
    pub fn in_literal(&self) -> bool {
        matches!(self.state, State::Literal { .. } | State::DropLiteral { .. })
    }

    /// Whether the server's `+` answers us alone: the peer has not waited for it.
    pub fn awaits_go_on(&self) -> bool {
        matches!(self.state, State::Asked { sent: true, .. })
    }

    /// Whether the server owes an answer: not to a command that the peer has not ended, as IDLE before DONE.
    pub fn is_owed(&self) -> bool {
        let under_way = matches!(self.state, State::Line | State::Literal { .. } | State::Idling { over: false });
        let under_way = under_way && self.waiting.iter().any(|tag| **tag == *self.tag);
        self.waiting.len() > usize::from(under_way)
    }

    /// The server has said this; whoever waits for it may go on.
    pub fn heard(&mut self, said: Said<'_>, input: &BytesMut) {
        if let Said::Done(tag) = said
            && let Some(at) = self.waiting.iter().position(|known| known.as_bytes() == tag)
        {
            self.waiting.remove(at);
        }
        let own = |tag: &[u8]| tag == self.tag.as_bytes();
        match (self.state, said) {
            (State::Asked { size, .. }, Said::GoOn) => self.state = State::Literal { left: size },
            (State::AskedToIdle, Said::GoOn) => self.state = State::Idling { over: false },
            // It wants nothing of what comes anyway.
            (State::Asked { size, sent: true }, Said::Done(tag)) if own(tag) => {
                (self.dropped, self.unwanted) = (0, size);
                self.state = State::DropLiteral { left: size };
            }
            // A peer that did not wait has sent bytes that cannot be told from its literal.
            (State::Asked { sent: false, .. }, Said::Done(tag)) if own(tag) => {
                self.state = if input.is_empty() { State::Start } else { State::Closed };
            }
            (State::AskedToIdle, Said::Done(tag)) if own(tag) => self.state = State::Start,
            (State::Idling { .. }, Said::Done(tag)) if own(tag) => self.state = State::Idling { over: true },
            _ => {}
        }
    }

    fn start(&mut self, input: &mut BytesMut, on: &mut BytesMut) -> Option<Step> {
        let line = memchr::memchr2(b'\r', b'\n', input);
        let known = input.get(..line.unwrap_or(input.len()).min(MAX_HEAD)).unwrap_or_default();
        if line.is_none() && input.len() < MAX_HEAD && !verb_is_whole(known) {
            return Some(Step::Read);
        }
        // `]` may stand in our tags, but not in those of every server.
        let Some(head) = Head::read(known).filter(|head| !head.tag.contains(']')) else {
            self.state = State::DropLine;
            return Some(Step::Refused(Bad::syntax("A command is a tag, a space and a verb")));
        };
        head.tag.clone_into(&mut self.tag);
        let (word, kind) = match head.verb.upper() {
            "UID" => Verb::read(head.arguments.get(1..).unwrap_or_default())
                .map_or(("UID", Kind::Writes), |(verb, _)| uid_verb(verb.upper())),
            verb => plain_verb(verb),
        };
        let before = known.len() - head.arguments.len();
        match kind {
            Kind::SignsIn => return Some(self.refuse(Bad::syntax("Already signed in, and for good"))),
            Kind::Writes if self.only_reads => {
                return Some(self.refuse(Bad::no(Code::NoPerm, "You may only read this mailbox")));
            }
            Kind::Own => {
                self.state = State::Own { gathered: 0, asked: false };
                return None;
            }
            Kind::Idle => match input.get(before..before + 2) {
                Some(b"\r\n") => {}
                None => return Some(Step::Read),
                // A server that takes no notice of arguments would say `+`, and not to a literal.
                Some(_) => return Some(self.refuse(Bad::syntax("IDLE has no arguments"))),
            },
            Kind::Reads | Kind::Writes | Kind::Select => {}
        }
        if self.waiting.iter().any(|tag| **tag == *self.tag) {
            return Some(self.refuse(Bad::syntax("A command with this tag is under way")));
        }
        if self.waiting.len() >= MAX_WAITING {
            return Some(Step::Wait);
        }
        self.waiting.push_back(self.tag.as_str().into());
        self.line = 0;
        match kind {
            Kind::Idle => {
                on.extend_from_slice(&input.split_to(before + 2));
                self.state = State::AskedToIdle;
                return Some(Step::Began(word));
            }
            // FETCH marks messages as seen in a mailbox that SELECT opened.
            Kind::Select if self.only_reads => {
                on.extend_from_slice(self.tag.as_bytes());
                on.extend_from_slice(b" EXAMINE");
                input.advance(before);
            }
            _ => {}
        }
        self.state = State::Line;
        Some(Step::Began(word))
    }

    /// Passes on the rest of a line, but for its last bytes until its end is here.
    fn line(&mut self, input: &mut BytesMut, on: &mut BytesMut) -> Option<Step> {
        let at = memchr::memchr2(b'\r', b'\n', input);
        match at.map(|at| (input.get(at), input.get(at + 1))) {
            Some((Some(b'\r'), Some(b'\n'))) => {}
            // Its LF may be under way.
            None | Some((Some(b'\r'), None)) => {
                let before = input.split_to(at.unwrap_or(input.len()));
                if self.is_too_long(before.len()) {
                    return Some(self.close("Line too long"));
                }
                self.tail.extend_from_slice(&before);
                let sure = self.tail.len().saturating_sub(HELD);
                on.extend_from_slice(&self.tail.split_to(sure));
                return Some(Step::Read);
            }
            _ => return Some(self.close("A line ends with CRLF, and holds neither of them alone")),
        }
        let end = input.split_to(at.unwrap_or_default() + 2);
        if self.is_too_long(end.len()) {
            return Some(self.close("Line too long"));
        }
        let mut tail = std::mem::take(&mut self.tail);
        tail.extend_from_slice(&end);
        let announced = Announced::at_end_of(&tail);
        self.state = match announced {
            None if is_odd(&tail) => return Some(self.close("The literal at the end of the line cannot be read")),
            None => State::Start,
            Some(literal) if literal.size > MAX_SIZE => return Some(self.close("The literal is too large")),
            Some(literal) if literal.waits => State::Asked { size: literal.size, sent: false },
            Some(literal) => {
                tail.truncate(tail.len().saturating_sub(b"+}\r\n".len()));
                tail.extend_from_slice(b"}\r\n");
                State::Asked { size: literal.size, sent: true }
            }
        };
        on.extend_from_slice(&tail);
        None
    }

    fn is_too_long(&mut self, more: usize) -> bool {
        self.line = self.line.saturating_add(more);
        self.line > self.limits.line
    }

    fn literal(&mut self, input: &mut BytesMut, on: &mut BytesMut, left: u64) -> Option<Step> {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let mut piece = input.split_to(here);
        on.unsplit_or_extend(&mut piece);
        let left = left - here as u64;
        self.line = 0;
        self.state = if left > 0 { State::Literal { left } } else { State::Line };
        (left > 0).then_some(Step::Read)
    }

    /// Any line ends IDLE; one that is not DONE is a command of its own, after it.
    fn idling(&mut self, input: &mut BytesMut, on: &mut BytesMut, over: bool) -> Option<Step> {
        const DONE: &[u8] = b"DONE\r\n";
        let could_be = input.get(..input.len().min(DONE.len())).unwrap_or_default();
        if could_be.is_empty() {
            return Some(Step::Read);
        }
        let is_done = DONE.iter().zip(could_be).all(|(one, other)| one.eq_ignore_ascii_case(other));
        if is_done && could_be.len() < DONE.len() {
            return Some(Step::Read);
        }
        if is_done {
            input.advance(DONE.len());
        }
        if !over {
            on.extend_from_slice(DONE);
        }
        self.state = State::Start;
        None
    }

    /// Gathers a command that is answered here.
    fn own(&mut self, input: &mut BytesMut, gathered: usize, asked: bool) -> Option<Step> {
        let rest = input.get(gathered..).unwrap_or_default();
        let Some(end) = memchr::memmem::find(rest, b"\r\n").map(|at| gathered + at + 2) else {
            if input.len() > MAX_OWN {
                input.advance(gathered);
                return Some(self.refuse(Bad::no(Code::TooBig, "Command too long")));
            }
            return Some(Step::Read);
        };
        let line = input.get(gathered..end).unwrap_or_default();
        let Some(literal) = Announced::at_end_of(line) else {
            let command = input.split_to(end);
            self.state = State::Start;
            return Some(match command::parse(&command, self.limits.search, Names::Mutf7) {
                Ok(tagged @ Tagged { command: Command::Capability | Command::Id(_) | Command::Compress, .. }) => {
                    Step::Own(tagged)
                }
                Ok(_) => Step::Refused(Bad::syntax("Unknown command").to(&self.tag)),
                Err(bad) => Step::Refused(bad),
            });
        };
        let size = usize::try_from(literal.size).unwrap_or(usize::MAX);
        if end.saturating_add(size) > MAX_OWN {
            input.advance(gathered);
            return Some(self.refuse(Bad::no(Code::TooBig, "Command too long")));
        }
        if literal.waits && !asked {
            self.state = State::Own { gathered, asked: true };
            return Some(Step::Continue);
        }
        if input.len() < end + size {
            return Some(Step::Read);
        }
        self.state = State::Own { gathered: end + size, asked: false };
        None
    }

    fn refuse(&mut self, bad: Bad) -> Step {
        self.state = State::DropLine;
        (self.dropped, self.unwanted) = (0, 0);
        Step::Refused(bad.to(&self.tag))
    }

    fn drop_line(&mut self, input: &mut BytesMut) -> Option<Step> {
        let Some(end) = memchr::memmem::find(input, b"\r\n").map(|at| at + 2) else {
            // Keeps what may turn out to announce a literal.
            let surplus = input.len().saturating_sub(Announced::LONGEST);
            input.advance(surplus);
            return Some(self.drop_more(surplus as u64).unwrap_or(Step::Read));
        };
        let announced = Announced::at_end_of(input.get(..end).unwrap_or_default());
        input.advance(end);
        self.state = match announced {
            Some(literal) if !literal.waits => State::DropLiteral { left: literal.size },
            // The peer was not asked for it: what is here already did not wait.
            Some(_) if !input.is_empty() => {
                return Some(self.close("A literal was sent before it was asked for"));
            }
            _ => State::Start,
        };
        if self.state == State::Start {
            self.dropped = 0;
        }
        None
    }

    fn drop_literal(&mut self, input: &mut BytesMut, left: u64) -> Option<Step> {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        input.advance(here);
        let left = left - here as u64;
        self.state = if left > 0 { State::DropLiteral { left } } else { State::DropLine };
        self.drop_more(here as u64).or((left > 0).then_some(Step::Read))
    }

    fn drop_more(&mut self, bytes: u64) -> Option<Step> {
        self.dropped = self.dropped.saturating_add(bytes);
        (self.dropped > self.limits.dropped.max(self.limits.append).max(self.unwanted))
            .then(|| self.close("The refused command does not end"))
    }

    fn close(&mut self, why: &'static str) -> Step {
        self.state = State::Closed;
        Step::Refused(Bad::fatal(Code::ClientBug, why))
    }
}

/// Whether a lenient server might read an announcement of a literal at the end of this line, where we read none: blanks
/// aside a brace closes there, and one opens before, or may stand further back than so many blanks and digits.
fn is_odd(tail: &[u8]) -> bool {
    let ends = tail.get(tail.len().saturating_sub(HELD)..).unwrap_or_default();
    let is_full = ends.len() == HELD;
    let Some(last) = ends.iter().rposition(u8::is_ascii_graphic) else { return is_full };
    let (inner, closes) = (ends.get(..last).unwrap_or_default(), ends.get(last) == Some(&b'}'));
    let blank = |byte: &u8| byte.is_ascii_digit() || *byte == b'+' || !byte.is_ascii_graphic();
    closes && (inner.contains(&b'{') || (is_full && inner.iter().all(blank)))
}

/// Moving without a copy where that can be had.
trait Move {
    /// Takes all of `from`.
    fn unsplit_or_extend(&mut self, from: &mut BytesMut);
}

impl Move for BytesMut {
    fn unsplit_or_extend(&mut self, from: &mut BytesMut) {
        if self.is_empty() {
            // Swapped, not taken: each keeps a buffer.
            std::mem::swap(self, from);
            from.clear();
        } else {
            self.extend_from_slice(from);
            from.clear();
        }
    }
}

/// Whether the verb, and with UID the one behind it, has come to its end.
fn verb_is_whole(known: &[u8]) -> bool {
    let mut words = known.split(|byte| *byte == b' ');
    let (_tag, verb) = (words.next(), words.next());
    let uid = verb.is_some_and(|verb| verb.eq_ignore_ascii_case(b"UID"));
    // The word is whole where another one follows.
    if uid { words.nth(1).is_some() } else { words.next().is_some() }
}

#[cfg(test)]
mod tests;
