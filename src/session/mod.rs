//! One connection after its TLS handshake, from greeting to goodbye. Called by `serve`; asks `gate` for the permit
//! and hands it to `maildir`. `imap` and `pop` hold the two dialogues, `commands` the IMAP commands.

mod caught;
mod commands;
mod login;
mod pop;
mod wire;

use std::{future::pending, io, sync::Arc, time::Duration};

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::gate::{Gate, Seat, Spot, Visitor};
use crate::maildir::Mail;
use crate::model::Service;

use wire::Wire;

/// What all sessions of a process share.
pub struct House {
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// The mailboxes.
    pub mail: Arc<Mail>,
    /// The name in greetings.
    pub hostname: String,
    /// Bounds of time and patience.
    pub limits: Limits,
}

/// The bounds of one session; defaults are those of `config/portcullis.toml`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the handshake to the sign-in.
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
    /// Work under way when the process shuts down may go on this long.
    pub drain: Duration,
    /// Malformed commands before the sign-in.
    pub bad_before_login: u32,
    /// Malformed commands after it.
    pub bad_after_login: u32,
    /// Failed sign-ins of one connection.
    pub failed_logins: u32,
    /// Sizes of what an IMAP peer may send, messages included.
    pub frame: crate::imap::frame::Limits,
    /// The same for POP3.
    pub pop: crate::pop3::Limits,
    /// How far a message is looked into.
    pub message: crate::message::Limits,
}

/// How long a session that has to leave may go on to the end of the response it is writing.
const FAREWELL_GRACE: Duration = Duration::from_millis(600);
/// How long the last line may take to reach the peer.
const FAREWELL_SEND: Duration = Duration::from_millis(300);

/// Runs one session to its end.
pub async fn run(
    stream: TlsStream<TcpStream>,
    visitor: Visitor,
    spot: Spot,
    house: Arc<House>,
    drain: CancellationToken,
) {
    let wire = Wire::new(stream, house.limits.no_output);
    match visitor.service {
        Service::Imap => login::run(wire, visitor, spot, house, drain).await,
        Service::Pop => pop::run(wire, visitor, spot, house, drain).await,
    }
}

/// The one line for a connection that is not let in.
pub fn too_many_connections(service: Service) -> &'static [u8] {
    match service {
        Service::Imap => b"* BYE [LIMIT] Too many connections: close some and try again.\r\n",
        Service::Pop => b"-ERR [SYS/TEMP] Too many connections: close some and try again.\r\n",
    }
}

/// Why a session ends. The dialogue says it in its own words.
#[derive(Debug)]
enum Ending {
    /// The peer said goodbye and was answered.
    Logout,
    /// The peer closed, or its connection broke.
    Gone(io::Error),
    /// A change ended its right to be here: the reason is with the seat.
    Fallen,
    /// The process is shutting down.
    Drain,
    /// It waited too long without signing in, or others needed the place.
    Evicted,
    /// It was silent for too long.
    Idle,
    /// It sent too much that is no command, or failed to sign in too often.
    TooManyErrors,
    /// It sent something after which its bytes cannot be told apart any more.
    Unreadable(&'static str),
    /// A fault of ours.
    Panicked,
}

impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl Ending {
    /// The word in the log.
    fn word(&self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Gone(_) => "peer gone",
            Self::Fallen => "ended by a change",
            Self::Drain => "shutdown",
            Self::Evicted => "did not sign in",
            Self::Idle => "idle",
            Self::TooManyErrors => "too many errors",
            Self::Unreadable(_) => "unreadable input",
            Self::Panicked => "fault",
        }
    }
}

/// Resolves when the session has to leave.
async fn called_away(seat: Option<&Seat>, drain: &CancellationToken) -> Ending {
    let fallen = async {
        match seat {
            Some(seat) => seat.fallen().await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        () = fallen => Ending::Fallen,
        () = drain.cancelled() => Ending::Drain,
    }
}

/// Resolves when a session that has to leave has had its time to finish the response it is writing.
async fn overdue(seat: Option<Arc<Seat>>, drain: CancellationToken, drain_limit: Duration) -> Ending {
    let ending = called_away(seat.as_deref(), &drain).await;
    let grace = match ending {
        // The rest of the limit is for the goodbye itself.
        Ending::Drain => drain_limit.saturating_sub(FAREWELL_GRACE),
        _ => FAREWELL_GRACE,
    };
    tokio::time::sleep(grace).await;
    ending
}
