//! One connection after its TLS handshake, from sign-in to goodbye. Called by `serve`; asks `gate` for the permit
//! and hands it to `maildir`. `course` is what every session goes through; `login` holds the IMAP dialogue up to the
//! sign-in, `commands` what follows it, `pop` the POP3 dialogue.

mod caught;
mod commands;
mod course;
mod drain;
mod ending;
mod link;
mod login;
mod pop;
mod relay;
mod wire;

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::server::TlsStream;

use crate::gate::{Gate, Spot, Visitor};
use crate::imap::write;
use crate::maildir::Mail;
use crate::model::Service;
use crate::pop3::GREETING;
use crate::upstream::Upstreams;

pub use drain::{Drain, Presence};
use ending::Ending;
use link::Link;
use wire::Wire;

/// What all sessions of a process share.
pub struct House {
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// The mailboxes that are kept here.
    pub mail: Arc<Mail>,
    /// The mail servers that have the others.
    pub upstreams: Arc<Upstreams>,
    /// Bounds of time and patience.
    pub limits: Limits,
}

/// The bounds of one session; defaults are those of `config/portcullis.toml`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the accept to the sign-in.
    pub login: Duration,
    /// Silence within a SASL exchange.
    pub sasl: Duration,
    /// Silence after the error challenge: some programs wait for the server to speak again (isync, imapfilter, S-nail).
    pub sasl_answer: Duration,
    /// Silence of a signed-in IMAP session (RFC 3501 section 5.4 asks for at least 30 minutes).
    pub imap_idle: Duration,
    /// Silence of a signed-in POP3 session (RFC 1939 section 3 asks for at least 10 minutes).
    pub pop_idle: Duration,
    /// How long a peer may take no output.
    pub no_output: Duration,
    /// How often the peer is told that a long command is still under way.
    pub progress: Duration,
    /// Output held for a session, in bytes.
    pub output: usize,
    /// Work under way when the process shuts down may go on this long.
    pub drain: Duration,
    /// Malformed commands before the sign-in; the last of them ends the session.
    pub bad_before_login: u32,
    /// The same after it.
    pub bad_after_login: u32,
    /// Failed sign-ins of one connection; the last of them ends it.
    pub failed_logins: u32,
    /// Sizes of what an IMAP peer may send, messages included.
    pub frame: crate::imap::frame::Limits,
    /// The same for POP3.
    pub pop: crate::pop3::Limits,
    /// How far a message is looked into.
    pub message: crate::message::Limits,
}

/// Runs one session to its end; `presence` tells when it has to leave, `arrived` is when the connection was accepted. No
/// `async fn`: the future would keep the room of its arguments for as long as it lives.
pub fn run(
    stream: Box<TlsStream<TcpStream>>,
    visitor: Visitor,
    spot: Spot,
    house: Arc<House>,
    presence: Arc<Presence>,
    arrived: Instant,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let service = visitor.service;
    let deadline = arrived + house.limits.login;
    let link = Link::new(Wire::new(stream, &house.limits), visitor, house, presence);
    match service {
        Service::Imap => {
            let mut dialog = login::Dialog::new(link);
            Box::pin(async move { course::run(&mut dialog, spot, deadline).await })
        }
        Service::Pop => {
            let mut dialog = pop::Dialog::new(link);
            Box::pin(async move { course::run(&mut dialog, spot, deadline).await })
        }
    }
}

/// The first line of every session of a service: it leaves with the end of the handshake.
pub fn greeting(service: Service, hostname: &str) -> Vec<u8> {
    let mut line = BytesMut::new();
    match service {
        Service::Imap => write::greeting(&mut line, &format!("{hostname} Portcullis ready")),
        Service::Pop => line.extend_from_slice(GREETING.as_bytes()),
    }
    line.to_vec()
}

/// The one line for a connection that is not let in.
pub fn too_many_connections(service: Service) -> &'static [u8] {
    match service {
        Service::Imap => b"* BYE [LIMIT] Too many connections: close some and try again.\r\n",
        Service::Pop => b"-ERR [SYS/TEMP] Too many connections: close some and try again.\r\n",
    }
}
