//! What a framer is told and what it tells: limits in, steps out.

use bytes::Bytes;

#[cfg(doc)]
use super::Framer;
use crate::imap::{
    bad::Bad,
    command::{AppendHead, MessageHead, SearchLimits, Tagged},
};
use crate::model::Secret;

/// What there is.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing yet: read more into [`Framer::buffer`].
    Read,
    /// Send a continuation (`+ OK`), then ask again: the peer waits to send a literal.
    Continue,
    /// A whole command.
    Command(Tagged),
    /// An APPEND or REPLACE whose message follows: answer with [`Framer::accept`] or [`Framer::reject`].
    Append(AppendHead),
    /// A piece of the accepted message, never empty.
    Chunk(Bytes),
    /// The accepted message is complete and another one follows (RFC 3502): answer as to the first.
    NextMessage(MessageHead),
    /// The accepted messages are complete and their command well ended: only now may they be kept.
    AppendEnd,
    /// A refused command: write it with [`Bad::write`]; after a fatal one close. Also ends a command whose messages were
    /// accepted: then none of them may be kept.
    Bad(Bad),
}

/// One raw line, for the answers that are no commands: SASL responses and IDLE's DONE.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// Nothing yet: read more into [`Framer::buffer`].
    Read,
    /// The line without its CRLF; bytes that are no UTF-8 are replaced, so they never pass for base64.
    Text(Secret),
    /// Too long, or out of step: always fatal.
    Bad(Bad),
}

/// What the peer may send. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest line before login, CRLF included, and largest command: a token fits.
    pub line_before_login: usize,
    /// Longest line after login, CRLF included.
    pub line: usize,
    /// Largest literal that is part of a command.
    pub literal: usize,
    /// Largest literal before login, where only ID may have any.
    pub literal_before_login: usize,
    /// Most literals in a command.
    pub literals: usize,
    /// How large a SEARCH may be.
    pub search: SearchLimits,
    /// Largest command after login, lines and literals together, an APPEND's message not counted.
    pub command: usize,
    /// Largest message of an APPEND; at most `literals` of them in one.
    pub append: u64,
    /// Most bytes of a refused command that are read and dropped; one that announces more ends the dialog.
    pub dropped: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_before_login: 32 * 1024,
            line: 64 * 1024,
            literal: 64 * 1024,
            literal_before_login: 1024,
            literals: 1000,
            search: SearchLimits::default(),
            command: 1024 * 1024,
            append: 50 * 1024 * 1024,
            dropped: 1024 * 1024,
        }
    }
}
