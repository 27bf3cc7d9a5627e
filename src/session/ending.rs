//! Why a session ends. Each dialogue says it in its own words.

use std::{io, time::Duration};

use tracing::{debug, error, info};

use crate::maildir::MailError;
use crate::model::SessionId;

/// Why a session ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// The peer said goodbye and was answered.
    Logout,
    /// The peer closed, or its connection broke.
    Gone(io::Error),
    /// The mail server behind it closed, or its connection broke.
    Lost(io::Error),
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
    /// The last line is written already: what it sent, what became of its mailbox, or a goodbye of the server behind it leaves
    /// nothing to go on with.
    Told(&'static str),
    /// A message that was half sent could not be read to its end.
    Broken(MailError),
    /// What it sent is no deflate stream (RFC 4978).
    Garbled,
    /// A fault of ours.
    Panicked,
}

impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// How long the last line may take where the session has to be over now.
const AT_ONCE: Duration = Duration::from_millis(300);
/// The same where nothing hurries: a slow peer gets the end of what it asked for.
const AT_LEISURE: Duration = Duration::from_secs(10);
/// How long the peer may take to close its side after we closed ours.
pub(super) const LINGER: Duration = Duration::from_millis(500);
/// The same where nothing hurries and it is still sending.
const LINGER_AT_LEISURE: Duration = Duration::from_secs(3);

impl Ending {
    /// The word in the log and the audit row.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Gone(_) => "peer gone",
            Self::Lost(_) => "upstream gone",
            Self::Fallen => "ended by a change",
            Self::Drain => "shutdown",
            Self::Evicted => "did not sign in",
            Self::Idle => "idle",
            Self::TooManyErrors => "too many errors",
            Self::Told(why) => why,
            Self::Broken(_) => "a message could not be read",
            Self::Garbled => "compressed stream damaged",
            Self::Panicked => "session.panic",
        }
    }

    /// How long what is written may still take to reach the peer.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Logout | Self::Idle | Self::TooManyErrors | Self::Told(_) | Self::Garbled | Self::Lost(_) => {
                AT_LEISURE
            }
            Self::Gone(_) | Self::Broken(_) => Duration::ZERO,
            Self::Fallen | Self::Drain | Self::Evicted | Self::Panicked => AT_ONCE,
        }
    }

    /// How long the peer may go on sending afterwards, so that it reads the last line behind a message it is in the middle of.
    pub(super) fn linger(&self) -> Duration {
        match self {
            // Whoever said goodbye should send nothing more that could cross with our answer.
            Self::Logout => Duration::ZERO,
            _ if self.patience() == AT_LEISURE => LINGER_AT_LEISURE,
            _ => LINGER,
        }
    }

    /// Writes it to the log.
    pub(super) fn log(&self, session: SessionId) {
        match self {
            Self::Panicked => error!(%session, "a fault ended the session"),
            Self::Broken(error) => {
                error!(%session, %error, cause = ?error, "a message could not be read to its end")
            }
            Self::Fallen => info!(%session, "ended by a change"),
            Self::Gone(error) => debug!(%session, %error, "peer gone"),
            Self::Lost(error) => info!(%session, %error, "the mail server behind it is gone"),
            other => debug!(%session, why = other.word(), "session over"),
        }
    }
}
