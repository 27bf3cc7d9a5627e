//! What the relay has to know of IMAP: both directions are followed by the cores, and CAPABILITY, ID and COMPRESS are
//! answered here (RFC 9051, RFC 2971, RFC 4978).
//!
//! Compression ends at the gateway, as TLS does: only what can be read can be ended between two responses, and kept from
//! whoever may only read. The server is spared the work.

use bytes::BytesMut;

use super::{Taken, Talk};
use crate::imap::{
    boundary::{Responses, Said},
    command::{Command, Tagged},
    frame,
    passing::{Commands, Step},
    upstream_login::told,
    write::{self, Code, Status},
};
use crate::session::{Ending, login};

/// A relayed IMAP session.
pub(in crate::session) struct Imap {
    commands: Commands,
    responses: Responses,
    /// Answers of ours that wait for the end of a response.
    answers: BytesMut,
    /// What CAPABILITY is answered with.
    capabilities: String,
    compressed: bool,
    /// The server said goodbye.
    over: bool,
    /// The tag of a LOGOUT that is not answered.
    logout: Option<Box<str>>,
    /// The goodbye was asked for.
    logged_out: bool,
    bad: u32,
    most_bad: u32,
}

impl Imap {
    /// For a session that has just signed in at a server with these capabilities. After `most_bad` commands that are none it
    /// ends.
    pub(in crate::session) fn new(
        capabilities: &str,
        only_reads: bool,
        limits: frame::Limits,
        most_bad: u32,
    ) -> Self {
        Self {
            commands: Commands::new(only_reads, limits),
            responses: Responses::default(),
            answers: BytesMut::new(),
            capabilities: told(capabilities),
            compressed: false,
            over: false,
            logout: None,
            logged_out: false,
            bad: 0,
            most_bad,
        }
    }

    /// What the peer is told that it can do.
    pub(in crate::session) fn capabilities(&self) -> &str {
        &self.capabilities
    }

    fn own(&mut self, Tagged { tag, command }: Tagged) -> Taken {
        let out = &mut self.answers;
        match command {
            Command::Capability => {
                write::capability_list(out, &self.capabilities);
                write::tagged(out, &tag, Status::Ok, None, "CAPABILITY done");
            }
            Command::Id(fields) => {
                write::id(out, &[("name", Some("Portcullis"))]);
                write::tagged(out, &tag, Status::Ok, None, "ID done");
                return Taken::Program(login::program(&fields));
            }
            Command::Compress if self.compressed => {
                let code = Code::CompressionActive;
                write::tagged(out, &tag, Status::No, Some(&code), "Compression is active already");
            }
            Command::Compress if self.capabilities.split(' ').any(|one| one == "COMPRESS=DEFLATE") => {
                write::tagged(out, &tag, Status::Ok, None, "DEFLATE active");
                self.compressed = true;
                return Taken::Compress;
            }
            _ => write::tagged(out, &tag, Status::Bad, None, "Unknown command"),
        }
        Taken::Answered
    }
}

impl Talk for Imap {
    fn take(&mut self, input: &mut BytesMut, on: &mut BytesMut) -> Taken {
        match self.commands.next(input, on) {
            Step::Read => Taken::Read,
            Step::Wait => Taken::Wait,
            Step::Began(word) => {
                if word == "LOGOUT" {
                    self.logout = Some(self.commands.tag().into());
                }
                Taken::Began(word)
            }
            Step::Own(tagged) => self.own(tagged),
            Step::Continue => {
                write::continuation(&mut self.answers, "Ready");
                Taken::Answered
            }
            Step::Refused(bad) => {
                bad.write(&mut self.answers);
                self.bad += u32::from(bad.status == Status::Bad);
                match bad.fatal {
                    true => Taken::Leave(Ending::Told(bad.text)),
                    false if self.bad >= self.most_bad => Taken::Leave(Ending::TooManyErrors),
                    false => Taken::Answered,
                }
            }
        }
    }

    fn takes_much(&self) -> bool {
        self.commands.in_literal()
    }

    fn follow(&mut self, bytes: &[u8], input: &BytesMut) -> Option<usize> {
        let Self { responses, commands, over, logout, logged_out, .. } = self;
        responses.follow_to_boundary(bytes, |said| {
            if said == Said::Bye {
                *over = true;
                *logged_out |= logout.is_some();
            }
            if let Said::Done(tag) = said {
                // Without a goodbye before, it was refused.
                logout.take_if(|logout| logout.as_bytes() == tag);
            }
            commands.heard(said, input);
        })
    }

    fn at_boundary(&self) -> bool {
        self.responses.at_boundary()
    }

    fn swallows(&self, response: &[u8]) -> bool {
        response.first() == Some(&b'+') && self.commands.awaits_go_on()
    }

    fn is_owed(&self) -> bool {
        self.commands.is_owed()
    }

    fn owes(&self) -> usize {
        self.answers.len()
    }

    fn answer(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&std::mem::take(&mut self.answers));
    }

    fn end(&self) -> Option<Ending> {
        match self.logged_out || self.logout.is_some() {
            true => Some(Ending::Logout),
            false => self.over.then_some(Ending::Told("upstream goodbye")),
        }
    }
}
