//! What the relay has to know of POP3: which question each answer belongs to (RFC 1939).

use bytes::BytesMut;

use super::{Taken, Talk};
use crate::pop3::{Passing, PassingStep as Step, upstream_login::told};
use crate::session::Ending;

/// A relayed POP3 session.
pub(in crate::session) struct Pop {
    passing: Passing,
    /// The peer has said QUIT.
    over: bool,
}

impl Pop {
    /// For a session that has just signed in at a server with these capabilities.
    pub(in crate::session) fn new(capabilities: &[String], only_reads: bool) -> Self {
        Self { passing: Passing::new(only_reads, told(capabilities)), over: false }
    }
}

impl Talk for Pop {
    fn take(&mut self, input: &mut BytesMut, on: &mut BytesMut) -> Taken {
        match self.passing.next(input, on) {
            Step::Read => Taken::Read,
            Step::Wait => Taken::Wait,
            Step::Began(word) => {
                self.over |= word == "QUIT";
                Taken::Began(word)
            }
            Step::Endless => Taken::Leave(Ending::TooManyErrors),
        }
    }

    fn takes_much(&self) -> bool {
        false
    }

    fn follow(&mut self, bytes: &[u8], _input: &BytesMut) -> Option<usize> {
        self.passing.follow_to_boundary(bytes)
    }

    fn at_boundary(&self) -> bool {
        self.passing.at_boundary()
    }

    fn swallows(&self, _response: &[u8]) -> bool {
        false
    }

    fn is_owed(&self) -> bool {
        self.passing.is_owed()
    }

    fn owes(&self) -> usize {
        usize::from(self.passing.owes())
    }

    fn answer(&mut self, out: &mut BytesMut) {
        self.passing.answer(out);
    }

    fn end(&self) -> Option<Ending> {
        (self.over && !self.passing.is_owed()).then_some(Ending::Logout)
    }
}
