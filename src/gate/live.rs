//! Who is in: every admitted session, so that a change can end it. Filled by `admit`, asked by `watch`.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use dashmap::DashMap;
use tokio_util::sync::CancellationToken;

use super::{denial::Denial, visitor::Visitor};
use crate::model::{Service, SessionId, UnixTime, UserId};
use crate::policy::Given;
use crate::token::Identity;

/// One admitted session, shared by its own task and by `watch`.
#[derive(Debug)]
pub struct Seat {
    /// Which session.
    pub session: SessionId,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The protocol it speaks.
    pub service: Service,
    /// Whose token it came in with.
    pub who: Identity,
    /// Whose mailbox it reads.
    pub owner: UserId,
    /// What it was given: what it may do there, and where that is.
    pub given: Given,
    /// When it was admitted.
    pub since: UnixTime,
    /// `TLSv1.2` or `TLSv1.3`.
    pub tls: &'static str,
    fall: OnceLock<Fall>,
    fallen: CancellationToken,
    received: Count,
    sent: Count,
    /// Where the mailbox is, if it is not in the embedded store: `mail1.internal:993 of upstream dovecot`.
    server: OnceLock<Box<str>>,
    /// One more than the bytes, received and sent, that count against the user's day already; 0: its bytes do not count.
    metered: AtomicU64,
    course: Mutex<Course>,
}

/// Why a session has to end, and when the change behind it was committed.
#[derive(Debug)]
struct Fall {
    denial: Denial,
    since: UnixTime,
}

/// Bytes of one direction: all of them, and those that the metrics have.
#[derive(Debug, Default)]
struct Count {
    all: AtomicU64,
    told: AtomicU64,
}

impl Count {
    /// What came since the last call. Two callers at once share it out between them.
    fn news(&self) -> u64 {
        let all = self.all.load(Ordering::Relaxed);
        all.saturating_sub(self.told.fetch_max(all, Ordering::Relaxed))
    }
}

/// What a session said last.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    /// What the program calls itself (IMAP `ID`).
    pub(super) program: Option<Arc<str>>,
    /// The last command without its arguments; empty before the first.
    pub(super) command: &'static str,
    /// When that came.
    pub(super) at: UnixTime,
}

impl Seat {
    /// Ends the session for this reason, given at `since`; false if another reason came first.
    pub(super) fn fell(&self, denial: Denial, since: UnixTime) -> bool {
        let first = self.fall.set(Fall { denial, since }).is_ok();
        self.fallen.cancel();
        first
    }

    /// Why the session has to end, if it has to.
    pub fn fall(&self) -> Option<&Denial> {
        self.fall.get().map(|fall| &fall.denial)
    }

    /// Counts bytes received from the peer.
    pub fn count_received(&self, bytes: usize) {
        self.received.all.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes sent to the peer.
    pub fn count_sent(&self, bytes: usize) {
        self.sent.all.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes received and sent since the sign-in.
    pub fn traffic(&self) -> (u64, u64) {
        (self.received.all.load(Ordering::Relaxed), self.sent.all.load(Ordering::Relaxed))
    }

    /// What came since the last call, received and sent, that counts against the user's day; nothing of what came before the
    /// first call. Two callers at once share it out between them.
    pub(super) fn meter(&self) -> u64 {
        let (received, sent) = self.traffic();
        let mark = received.saturating_add(sent).saturating_add(1);
        match self.metered.fetch_max(mark, Ordering::Relaxed) {
            0 => 0,
            before => mark.saturating_sub(before),
        }
    }

    /// Its bytes do not count any more; after another [`Seat::meter`] those that come then do.
    pub(super) fn unmeter(&self) {
        self.metered.store(0, Ordering::Relaxed);
    }

    /// Whether its bytes count.
    pub(super) fn is_metered(&self) -> bool {
        self.metered.load(Ordering::Relaxed) > 0
    }

    /// Notes that a command came: its word, never its arguments.
    pub fn note_command(&self, word: &'static str) {
        let at = super::now();
        let mut course = self.course();
        (course.command, course.at) = (word, at);
    }

    /// Notes which server has the mailbox, for the audit row of the session's end.
    pub fn note_server(&self, server: &str) {
        let _ = self.server.set(server.into());
    }

    /// Notes what the program calls itself.
    pub fn note_program(&self, program: Option<&str>) {
        self.course().program = program.map(Arc::from);
    }

    pub(super) fn said(&self) -> Course {
        self.course().clone()
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the session has to end, and says why. Cancel-safe.
    pub async fn fell_for(&self) -> Denial {
        self.fallen.cancelled().await;
        match self.fall.get() {
            Some(fall) => fall.denial.clone(),
            // It is set before the word is given.
            None => std::future::pending().await,
        }
    }

    /// Waits until the session has to end. Cancel-safe.
    pub async fn fallen(&self) {
        self.fallen.cancelled().await;
    }
}

/// The registry of live sessions.
#[derive(Default)]
pub struct Live {
    seats: DashMap<SessionId, Arc<Seat>>,
    /// Sessions of each mailbox user, by service. No entry stands at zero.
    counts: DashMap<(UserId, Service), usize>,
}

impl Live {
    /// Takes a seat, unless the user has `limit` already. Called with the directory held, so that a change committed
    /// later finds the seat.
    pub(super) fn sit(
        &self,
        visitor: &Visitor,
        who: &Identity,
        (owner, given): (&UserId, Given),
        limit: usize,
        since: UnixTime,
    ) -> Option<Arc<Seat>> {
        let mut count = self.counts.entry((who.user().clone(), visitor.service)).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        drop(count);
        let seat = Arc::new(Seat {
            session: visitor.session,
            peer: visitor.peer,
            service: visitor.service,
            who: who.clone(),
            owner: owner.clone(),
            given,
            since,
            tls: visitor.tls,
            fall: OnceLock::new(),
            fallen: CancellationToken::new(),
            received: Count::default(),
            sent: Count::default(),
            server: OnceLock::new(),
            metered: AtomicU64::new(0),
            course: Mutex::new(Course {
                program: visitor.program.as_deref().map(Arc::from),
                command: "",
                at: since,
            }),
        });
        self.seats.insert(seat.session, Arc::clone(&seat));
        Some(seat)
    }

    fn leave(&self, seat: &Seat) {
        if self.seats.remove(&seat.session).is_none() {
            return;
        }
        let key = (seat.who.user().clone(), seat.service);
        if let Some(mut count) = self.counts.get_mut(&key) {
            *count = count.saturating_sub(1);
        }
        self.counts.remove_if(&key, |_, count| *count == 0);
    }

    /// Everybody who is in now.
    pub fn seats(&self) -> Vec<Arc<Seat>> {
        self.seats.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    /// Somebody who is in now, by the number of their session.
    pub(super) fn seat(&self, session: SessionId) -> Option<Arc<Seat>> {
        self.seats.get(&session).map(|entry| Arc::clone(entry.value()))
    }

    /// Whether a user has a session here.
    pub(super) fn is_in(&self, user: &UserId) -> bool {
        [Service::Imap, Service::Pop].into_iter().any(|service| self.counts.contains_key(&(user.clone(), service)))
    }

    /// How many are in now.
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether nobody is in.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }
}

/// Holds a session's seat; dropping it frees the seat, however the session's task ended.
pub struct SeatGuard {
    gate: Arc<super::Gate>,
    seat: Arc<Seat>,
    /// The audit log has the session's beginning and not its end.
    open: bool,
}

impl SeatGuard {
    pub(super) fn new(gate: Arc<super::Gate>, seat: Arc<Seat>) -> Self {
        gate.metrics.of(seat.service).sessions.inc();
        Self { gate, seat, open: false }
    }

    /// The yes is in the audit log: from now on an end belongs there too.
    pub(super) fn recorded(&mut self) {
        self.open = true;
    }
}

impl super::Gate {
    /// Tells the metrics what a session has exchanged since the last time.
    pub(super) fn count_traffic(&self, seat: &Seat) {
        let of = self.metrics.of(seat.service);
        of.received.inc_by(seat.received.news());
        of.sent.inc_by(seat.sent.news());
    }
}

impl std::ops::Deref for SeatGuard {
    type Target = Seat;
    fn deref(&self) -> &Seat {
        &self.seat
    }
}

impl SeatGuard {
    /// The seat, for the session's own task to watch.
    pub fn shared(&self) -> Arc<Seat> {
        Arc::clone(&self.seat)
    }

    /// The session is over: frees the seat and records why it ended and how much was sent.
    pub fn left(mut self, why: &'static str, received: u64, sent: u64) {
        self.record(why, received, sent);
    }

    fn record(&mut self, why: &'static str, received: u64, sent: u64) {
        self.open = false;
        let mut row = self.gate.ended_event(&self.seat, self.seat.fall());
        row.reason.get_or_insert(why.into());
        let lasted_s = super::now().secs().saturating_sub(self.seat.since.secs());
        let at = self.seat.server.get().map(|server| format!("; on {server}")).unwrap_or_default();
        row.detail = Some(format!("{why}; {lasted_s} s, {received} bytes received, {sent} bytes sent{at}"));
        if self.gate.store.audit(row).is_err() {
            tracing::warn!(session = %self.seat.session, "audit queue full: the end of a session is not recorded");
        }
    }
}

impl Drop for SeatGuard {
    fn drop(&mut self) {
        if self.open {
            // Admitted, and then its mailbox could not be opened, or a fault was in the way.
            self.record("not begun", 0, 0);
        }
        self.gate.live.leave(&self.seat);
        self.gate.settle(&self.seat);
        let metrics = &self.gate.metrics;
        metrics.of(self.seat.service).sessions.dec();
        self.gate.count_traffic(&self.seat);
        if let Some(fall) = self.seat.fall.get() {
            metrics.session_ended_by_change(self.seat.service, fall.since.until(super::now()));
        }
    }
}
