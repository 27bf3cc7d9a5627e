//! POP3 without a socket: bytes in, steps out (RFC 1939, 2449, 3206, 5034, 6856). No I/O, no clock, no tokens.
//!
//! Called by `session`. Imports `model` only. A session reads bytes into [`Dialog::buffer`], asks [`Dialog::next`] for
//! the next [`Step`], and sends what was written to its output buffer; after login it hands each [`Command`] to its
//! [`Maildrop`] and streams messages through a [`Body`].

mod body;
mod command;
mod dialog;
mod line;
mod maildrop;
mod passing;
pub mod reply;
#[cfg(test)]
mod tests;
pub mod upstream_login;

pub use body::{Body, Fill};
pub use command::Command;
pub use dialog::{Dialog, GREETING, Limits, Step};
pub use maildrop::{Listing, Maildrop, Next};
pub use passing::{Passing, Step as PassingStep};
