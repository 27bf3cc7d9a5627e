//! Who knocks, before anybody has signed in. Made by `serve`; `session` adds what the program says of itself.

use std::net::SocketAddr;

use crate::model::{Service, SessionId};

/// What is known of a session before anybody has signed in.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Which session.
    pub session: SessionId,
    /// The protocol spoken.
    pub service: Service,
    /// Where it comes from: the address in the PROXY header where one is trusted.
    pub peer: SocketAddr,
    /// `TLSv1.2` or `TLSv1.3`.
    pub tls: &'static str,
    /// What the program calls itself (IMAP `ID`, RFC 2971), if it said so.
    pub program: Option<String>,
}
