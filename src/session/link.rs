//! What one connection has in either protocol: its wire, who is there, and whether it has to leave. Called by `login`,
//! `pop` and `commands`.

use std::{future::pending, io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::time::sleep;
use tracing::{debug, error, warn};

use super::{Ending, House, Presence, wire::Wire};
use crate::gate::{Denial, Seat, Visitor};
use crate::maildir::MailError;
use crate::model::Blame;

/// One connection, without the state of its conversation.
pub(super) struct Link {
    pub(super) wire: Wire,
    pub(super) visitor: Visitor,
    pub(super) house: Arc<House>,
    /// Its place among the live sessions, once it has signed in.
    pub(super) seat: Option<Arc<Seat>>,
    presence: Arc<Presence>,
}

impl Link {
    /// A connection whose handshake is complete and that has not signed in; `presence` tells when it has to leave.
    pub(super) fn new(wire: Wire, visitor: Visitor, house: Arc<House>, presence: Arc<Presence>) -> Self {
        Self { wire, visitor, house, seat: None, presence }
    }

    /// From now on the session relays to another server: it may go on when another process takes over. Whoever calls this
    /// has nothing of the embedded store open and opens nothing there any more.
    pub(super) fn begins_to_relay(&self) {
        self.presence.relay();
    }

    /// Sends what is written, then waits for more input, at most `limit`, or for the word to leave. Cancel-safe.
    pub(super) async fn hear(&mut self, buffer: &mut BytesMut, limit: Duration) -> Result<(), Ending> {
        self.wire.flush().await?;
        let mut left = limit;
        loop {
            let wait = self.wire.rests_after().map_or(left, |rest| rest.min(left));
            tokio::select! {
                biased;
                ending = called_away(self.seat.as_deref(), &self.presence) => return Err(ending),
                read = self.wire.read(buffer) => return match read? {
                    0 => Err(Ending::Gone(io::ErrorKind::UnexpectedEof.into())),
                    _ => Ok(()),
                },
                () = sleep(wait) => {}
            }
            if wait == left {
                return Err(Ending::Idle);
            }
            left -= wait;
            self.wire.rest();
        }
    }

    /// Resolves when the peer is gone or the session has to leave, and when something was read into `buffer`, if there is
    /// one. Cancel-safe.
    pub(super) async fn overhear(&mut self, buffer: Option<&mut BytesMut>) -> Result<(), Ending> {
        let read = async {
            match buffer {
                Some(buffer) => self.wire.read(buffer).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            ending = called_away(self.seat.as_deref(), &self.presence) => Err(ending),
            read = read => match read? {
                0 => Err(Ending::Gone(io::ErrorKind::UnexpectedEof.into())),
                _ => Ok(()),
            },
        }
    }

    /// Resolves when the session has to leave; needs nothing of the link meanwhile.
    pub(super) fn called(&self) -> impl Future<Output = Ending> + Send + use<> {
        let (seat, presence) = (self.seat.clone(), Arc::clone(&self.presence));
        async move { called_away(seat.as_deref(), &presence).await }
    }

    /// Between two responses: whether the session has to leave.
    pub(super) fn may_go_on(&self) -> Result<(), Ending> {
        if self.seat.as_ref().is_some_and(|seat| seat.fall().is_some()) {
            return Err(Ending::Fallen);
        }
        if self.presence.has_to_leave() { Err(Ending::Drain) } else { Ok(()) }
    }

    /// Somebody has signed in: from now on what is said and how much is noted with the seat.
    pub(super) fn sit(&mut self, seat: Arc<Seat>) {
        self.wire.seat = Some(Arc::clone(&seat));
        self.seat = Some(seat);
    }

    /// Notes which command came, for those who look at live sessions.
    pub(super) fn note_command(&self, word: &'static str) {
        if let Some(seat) = &self.seat {
            seat.note_command(word);
        }
    }

    /// Notes what the program calls itself.
    pub(super) fn note_program(&mut self, program: Option<String>) {
        if let Some(seat) = &self.seat {
            seat.note_program(program.as_deref());
        }
        self.visitor.program = program;
    }

    /// Holds a refusal back for as long as the gate says, but no longer than the session may stay.
    pub(super) async fn hold_back(&self, denial: &Denial, claimed: Option<&str>) -> Result<(), Ending> {
        let wait = self.house.gate.hold_back(&self.visitor, denial, claimed);
        if wait.is_zero() {
            return Ok(());
        }
        tokio::select! {
            biased;
            ending = called_away(self.seat.as_deref(), &self.presence) => Err(ending),
            () = sleep(wait) => Ok(()),
        }
    }

    /// Resolves some time after the session was told to leave: `grace` for a change, longer for the end of the process.
    pub(super) fn overdue(&self, grace: Duration) -> impl Future<Output = Ending> + Send + use<> {
        let (seat, presence) = (self.seat.clone(), Arc::clone(&self.presence));
        // The rest of the process's time is for the goodbye itself.
        let drained = self.house.limits.drain.saturating_sub(grace);
        async move {
            let ending = called_away(seat.as_deref(), &presence).await;
            sleep(if matches!(ending, Ending::Drain) { drained } else { grace }).await;
            ending
        }
    }

    /// Notes what the mail store refused, where more than the peer is to blame.
    pub(super) fn note(&self, error: &MailError) {
        let session = self.visitor.session;
        match error.blame() {
            Blame::Peer => debug!(%session, %error, "mail store"),
            Blame::Dependency => warn!(%session, %error, cause = ?error, "mail store"),
            Blame::Us => error!(%session, %error, "mail store"),
        }
    }
}

/// Resolves when the session has to leave. Cancel-safe.
async fn called_away(seat: Option<&Seat>, presence: &Presence) -> Ending {
    let fallen = async {
        match seat {
            Some(seat) => seat.fallen().await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        () = fallen => Ending::Fallen,
        () = presence.told_to_leave() => Ending::Drain,
    }
}
