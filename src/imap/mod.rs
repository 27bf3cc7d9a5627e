//! IMAP without a socket: bytes in, steps out; values in, bytes out (RFC 3501 with the extensions that
//! [`write::capabilities`] names). No I/O, no clock, no tokens. Called by `session`. Imports `model` only.
//!
//! [`frame`] cuts the peer's bytes into commands under the limits of each state; [`command`] is what one command
//! says; [`set`] resolves message sets; [`mailbox`] and [`mutf7`] are about names; [`mod@write`] makes every answer;
//! [`compress`] is both directions' deflate.

pub mod bad;
pub mod boundary;
pub mod command;
pub mod compress;
pub mod frame;
pub mod mailbox;
pub mod mutf7;
pub mod passing;
pub mod set;
pub mod upstream_login;
pub mod write;
