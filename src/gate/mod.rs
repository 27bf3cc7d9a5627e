//! Who may come in, who is in, who must leave. `session` asks `admit`; `serve` runs `watch`. No other room turns a
//! token into a permit.

mod admit;
mod denial;
mod events;
mod live;
mod lobby;
mod measure;
mod nodes;
mod record;
mod sessions;
mod slow;
mod traffic;
mod visitor;
mod watch;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

pub use admit::{Admission, fresh_reference};
pub use denial::{Cause, Denial, Hint};
pub use events::{EventError, Heard};
pub use live::{Live, Seat, SeatGuard};
pub use lobby::{Lobby, LobbyFull, LobbyLimits, Spot, TurnedAway};
pub use nodes::{EndError, Listing, attend, sessions_elsewhere};
pub use sessions::{SessionFilter, SessionInfo, SessionKey};
pub use slow::network;
pub use visitor::Visitor;
pub use watch::watch;

use crate::issuer::Issuers;
use crate::metrics::Metrics;
use crate::model::{SessionId, UnixTime};
use crate::store::Store;

/// The bounds the gate keeps; defaults are those of `config/portcullis.toml`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open sessions per mailbox user and service, where no unit says otherwise.
    pub sessions_per_user: usize,
    /// Wait before the answer to a first failed sign-in; doubled with each further one. Zero: no wait.
    pub failed_login_delay: Duration,
    /// Longest such wait.
    pub failed_login_delay_max: Duration,
    /// Whether an open session ends when the token it came in with expires.
    pub sessions_end_with_token: bool,
    /// Whether a verdict that cannot be recorded becomes a temporary refusal.
    pub audit_required: bool,
    /// How long the snapshot is ground for a yes while the database does not answer.
    pub database_grace: Duration,
    /// How far our clock may be behind the time of the last committed change.
    pub clock_skew: Duration,
    /// Where a refusal's reader finds help: `https://mail.example.com`; none: its text names no address.
    pub public_url: Option<Arc<str>>,
}

/// The gate of one process.
pub struct Gate {
    store: Arc<Store>,
    issuers: Arc<Issuers>,
    live: Live,
    slow: slow::Slow,
    limits: Limits,
    next_session: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Gate {
    /// A gate over this state and these issuers, with nobody in yet.
    pub fn new(store: Arc<Store>, issuers: Arc<Issuers>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            store,
            issuers,
            live: Live::default(),
            slow: slow::Slow::new(limits.failed_login_delay, limits.failed_login_delay_max),
            limits,
            next_session: AtomicU64::new(1),
            metrics: Arc::new(Metrics::new()),
        })
    }

    /// The figures of this process. Those that other rooms keep are brought in by [`Gate::metrics_text`].
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The number of the next session.
    pub fn next_session(&self) -> SessionId {
        SessionId(self.next_session.fetch_add(1, Ordering::Relaxed))
    }

    /// The state it decides by.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Who is in.
    pub fn live(&self) -> &Live {
        &self.live
    }
}

/// The clock, read in one place of this room.
fn now() -> UnixTime {
    SystemTime::now().into()
}
