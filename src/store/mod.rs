//! The one database: directory, settings, grants, audit, and the change feed that keeps every process's snapshot
//! fresh. SQLite in a file for one process, PostgreSQL for many nodes; the same code and the same SQL for both. Called by
//! `gate`, `admin` and `cli`.
//!
//! A decision reads the snapshot ([`Store::read`]); nothing on the path of a known login touches SQL. Every write goes:
//! transaction, feed entry, commit, snapshot, [`Store::changes`]; only then does the writing call return.
//!
//! Who may use the API and the console is not in the snapshot; each request asks the database:
//! - [`Store::find_api_token`] (the bearer's [`ApiToken`]), [`Store::make_api_token`] from a [`NewApiToken`],
//!   [`Store::api_tokens`], [`Store::revoke_api_token`];
//! - [`Store::role_of`] a person (a [`Role`]), [`Store::set_role`], [`Store::admins`];
//! - [`Store::make_bootstrap`] at start, [`Store::exchange_bootstrap`] or [`Store::bootstrap_admin`] once;
//! - [`Store::web_session`] (a [`WebSession`] of somebody who signed in at the console), [`Store::open_web_session`],
//!   [`Store::end_web_sessions`].

mod add_ons;
mod apply;
mod audit;
mod bootstrap;
mod chain;
mod cutoffs;
mod difference;
mod edit;
mod error;
mod event;
mod examine;
mod export;
mod feed;
mod grant_list;
mod grants;
mod holders;
mod legacy;
mod listen;
mod location;
mod named_homes;
mod nodes;
mod open;
mod outbox;
mod roles;
mod rows;
mod schema;
mod scim;
mod seen;
mod statement;
mod tokens;
mod traffic;
mod trim;
mod verify;
mod web_sessions;

use std::{
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::AnyPool;
use tokio::{
    runtime::Handle,
    sync::{Mutex, Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

pub use apply::{Applied, Plan, Planned};
pub use audit::{AuditFilter, AuditFull, AuditLog, NumberedEvent};
pub use cutoffs::{CutoffRow, Noted, Order, OrderedBy, What};
pub use edit::{
    Action, Actor, Allowed, AppPatch, Changed, Directive, EditError, GroupPatch, Imported, MOST_CHANGES,
    MailboxPatch, MailboxValue, Page, Provision, ScimRecord, SettingPatch, Stored, UnitPatch, UserFilter,
    UserPatch, Wish,
};
pub use error::StoreError;
pub use event::AuditEvent;
pub use examine::{Examined, examine};
pub use grant_list::{GrantFilter, GrantRow, GrantsChanged};
pub use legacy::{LegacyFilter, LegacySignIn, PasswordTry};
pub use location::Location;
pub use named_homes::NamedHome;
pub use nodes::{Answer, Node, NodeId, Request, RequestKind};
pub use outbox::{
    Attempt, Deed, Delivery, Lease, Lost, MOST_NOTICES, Notice, NoticeBody, NoticeFilter, NoticeId, NoticeKind,
    NoticeState, Retried, Taken,
};
pub use roles::{AccessError, Admin, Role};
pub use scim::{ScimGroup, ScimId, ScimKeys, ScimPage, ScimUser};
pub use seen::{AppSeen, Knock, SeenCursor, SeenFilter, Verdicts};
pub use tokens::{ApiToken, ApiTokenId, NewApiToken};
pub use traffic::next_day;
pub use verify::{Fault, Verified};
pub use web_sessions::{Lifetime, WebSession};

use crate::model::{MailHome, Secret, UnixTime};
use crate::policy::Directory;

/// How often other processes' changes are looked for.
const POLL: Duration = Duration::from_millis(500);

/// What the operator says about the database: `[database]` and `data_dir`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `sqlite:FILE`, where a relative file is in `data_dir`; or `postgres://USER:PASSWORD@HOST/DATABASE`.
    pub url: Secret,
    /// Made if it is not there.
    pub data_dir: PathBuf,
    /// Whether a full audit queue is an error (so that no login goes unrecorded), or drops events and counts them.
    pub audit_required: bool,
    /// Events that may wait for the database.
    pub audit_buffer: usize,
    /// Audit rows kept; the oldest go first.
    pub audit_rows: u64,
    /// For so many days an issuer's word against a token is kept; no issuer's tokens may live longer.
    pub cutoff_days: u64,
    /// So many words of issuers are kept.
    pub cutoffs: u64,
    /// Days for which audit rows are kept; 0: however old.
    pub audit_days: u64,
    /// The channels over which each notice goes; none: notices are for the console and the API alone.
    pub channels: Vec<String>,
    /// Days for which notices are kept.
    pub notice_days: u64,
    /// Notices kept; the oldest go first.
    pub notices: u64,
    /// Where mail is of which the policy says nothing: `mail.default`.
    pub default_home: MailHome,
}

impl Settings {
    /// Whether there is a database already, without making one.
    pub async fn is_made(&self) -> Result<bool, StoreError> {
        examine::is_made(self).await
    }

    /// What the operator should be warned of, although it works.
    pub fn warning(&self) -> Option<String> {
        location::warning(self)
    }

    /// The defaults, in this directory.
    pub fn in_dir(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            url: Secret::new("sqlite:portcullis.db"),
            data_dir: data_dir.into(),
            audit_required: true,
            audit_buffer: 10_000,
            audit_rows: 1_000_000,
            cutoff_days: 30,
            cutoffs: 100_000,
            audit_days: 0,
            channels: Vec::new(),
            notice_days: 90,
            notices: 1_000_000,
            default_home: MailHome::Maildir,
        }
    }
}

/// The database and its snapshot in memory.
#[derive(Debug)]
pub struct Store {
    settings: Settings,
    pool: AnyPool,
    /// Which database, to be named in messages.
    path: Location,
    /// Whether commits say on the server that they were.
    tells: bool,
    /// What such a word wakes.
    heard: Notify,
    /// The runtime whose tasks keep this store; connections belong to it.
    home: Handle,
    directory: RwLock<Directory>,
    /// Number of the last change in `directory`; set after it, under `turn`.
    number: watch::Sender<i64>,
    /// One write, or one catching up, at a time in this process.
    turn: Mutex<()>,
    audit: audit::Queue,
    seen: seen::Seen,
    legacy: legacy::Legacy,
    traffic: traffic::Traffic,
    /// There are new notices.
    outbox: Notify,
    roll: nodes::Roll,
    started: Instant,
    /// Milliseconds after `started` at which the database last answered.
    contact_ms: AtomicU64,
    /// When the last change was committed.
    committed_ms: AtomicI64,
    /// When the first of the changes was committed that the gate has not looked at; the end of time if there is none.
    unlooked_ms: AtomicI64,
    cutoff_limits: cutoffs::Limits,
    /// Whether the last look at the feed was answered.
    reachable: AtomicBool,
}

impl Store {
    /// Opens the database, making it if need be, and reads the directory into memory.
    ///
    /// Errors say which database, what is wrong and how to mend it; nothing is changed in one that is not ours.
    pub async fn open(settings: &Settings) -> Result<Arc<Self>, StoreError> {
        let (pool, path) = open::open(settings).await?;
        let (mut directory, number, committed) =
            Self::load(&pool, &path).await.map_err(|error| error.at("reading the directory", &path))?;
        directory.set_default_home(settings.default_home.clone());
        let tells = path.is_server() && listen::is_known(&pool).await;
        Ok(Arc::new(Self {
            settings: settings.clone(),
            pool,
            path,
            tells,
            heard: Notify::new(),
            home: Handle::current(),
            directory: RwLock::new(directory),
            number: watch::Sender::new(number),
            turn: Mutex::new(()),
            audit: audit::Queue::new(settings),
            seen: seen::Seen::new(),
            roll: nodes::Roll::new(),
            legacy: legacy::Legacy::default(),
            traffic: traffic::Traffic::default(),
            outbox: Notify::new(),
            started: Instant::now(),
            contact_ms: AtomicU64::new(0),
            committed_ms: AtomicI64::new(committed.0),
            unlooked_ms: AtomicI64::new(i64::MAX),
            cutoff_limits: cutoffs::Limits::new(settings),
            reachable: AtomicBool::new(true),
        }))
    }

    async fn load(pool: &AnyPool, path: &Location) -> Result<(Directory, i64, UnixTime), rows::Failed> {
        let mut tx = pool.begin_with(path.begin_reading()).await?;
        let number = feed::last_number(&mut tx).await?;
        let committed = feed::last_time(&mut tx).await?;
        let mut directory = rows::load(&mut tx).await?;
        directory.set_version(number);
        tx.rollback().await?;
        Ok((directory, number, committed))
    }

    /// Asks the snapshot. It stands still while `f` runs, and changes wait: `f` should be short, and can register a
    /// session in the certainty that the next change will find it.
    pub fn read<T>(&self, f: impl FnOnce(&Directory) -> T) -> T {
        f(&self.directory.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of the last change that is in the snapshot. It is told after the snapshot has the change.
    pub fn changes(&self) -> watch::Receiver<i64> {
        self.number.subscribe()
    }

    /// When the last change was committed, by the clock of whoever did. A clock that shows less than this is wrong, and
    /// then nobody can tell what has expired.
    pub fn last_commit(&self) -> UnixTime {
        UnixTime(self.committed_ms.load(Ordering::Relaxed))
    }

    fn note_commit(&self, at: UnixTime) {
        self.committed_ms.store(at.0, Ordering::Relaxed);
    }

    fn note_unlooked(&self, at: UnixTime) {
        self.unlooked_ms.fetch_min(at.0, Ordering::Relaxed);
    }

    /// When the first change was committed that came into the snapshot since the last call; for the one gate that looks
    /// again after each, so that it can tell how late it is.
    pub fn unlooked_commit(&self) -> Option<UnixTime> {
        Some(self.unlooked_ms.swap(i64::MAX, Ordering::Relaxed)).filter(|at| *at != i64::MAX).map(UnixTime)
    }

    /// How many audit events wait for the database.
    pub fn audit_waiting(&self) -> usize {
        self.audit.len()
    }

    fn number(&self) -> i64 {
        *self.number.borrow()
    }

    /// How long ago the snapshot was last known to be what the database says: past `database.grace_s` it is no ground for a
    /// yes. That the database answers something else counts for nothing: a change that cannot be read may be in it.
    pub fn silence(&self) -> Duration {
        let contact = Duration::from_millis(self.contact_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(contact)
    }

    fn note_contact(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.contact_ms.fetch_max(now, Ordering::Relaxed);
    }

    /// Whether the database answered when it was last asked. While it does not, whatever needs it should fail at once and
    /// not wait in line.
    pub fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Follows the feed, writes the audit queue, and adds up what was seen, until `stop`; then writes what is left.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::join!(self.follow_feed(&stop), self.write_audit(&stop), self.keep_books(&stop), self.listen(&stop));
    }

    async fn listen(&self, stop: &CancellationToken) {
        if self.tells
            && let Some(Err(error)) = stop.run_until_cancelled(listen::listen(&self.settings, &self.heard)).await
        {
            tracing::error!(%error, "changes of other nodes are found by looking each half second only");
        }
    }

    async fn follow_feed(&self, stop: &CancellationToken) {
        // Looked each half second, or as soon as another node says that there is something.
        while stop.run_until_cancelled(timeout(POLL, self.heard.notified())).await.is_some() {
            let outcome = self.catch_up().await;
            let was_reachable = self.reachable.swap(outcome.is_ok(), Ordering::Relaxed);
            match &outcome {
                Ok(()) if !was_reachable => tracing::info!("the database answers again"),
                Err(error) if was_reachable => {
                    tracing::error!(%error, "the database does not answer; deciding by the last snapshot");
                }
                _ => {}
            }
        }
    }

    /// Closes the database after everything queued is written. For tests and an orderly end.
    pub async fn close(&self) -> Result<(), StoreError> {
        let flushed = self.flush().await.and(self.merge_seen().await).and(self.merge_legacy().await);
        let flushed = flushed.and(self.merge_traffic().await);
        self.pool.close().await;
        flushed
    }
}

#[cfg(test)]
mod tests;
