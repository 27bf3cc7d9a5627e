//! The one database: directory, settings, grants, audit, and the change feed that keeps every process's snapshot
//! fresh. SQLite today, written so that PostgreSQL can carry it. Called by `gate`, `admin` and `cli`.
//!
//! A decision reads the snapshot ([`Store::read`]); nothing on the path of a known login touches SQL. Every write goes:
//! transaction, feed entry, commit, snapshot, [`Store::changes`]; only then does the writing call return.
//!
//! Who may use the API and the console is not in the snapshot; each request asks the database:
//! - [`Store::find_api_token`] (the bearer's [`ApiToken`]), [`Store::make_api_token`] from a [`NewApiToken`],
//!   [`Store::api_tokens`], [`Store::revoke_api_token`];
//! - [`Store::role_of`] a person (a [`Role`]), [`Store::set_role`], [`Store::admins`];
//! - [`Store::make_bootstrap`] at start, [`Store::exchange_bootstrap`] once.

mod apply;
mod audit;
mod bootstrap;
mod difference;
mod edit;
mod error;
mod event;
mod examine;
mod export;
mod feed;
mod grant_list;
mod grants;
mod open;
mod roles;
mod rows;
mod schema;
mod tokens;

use std::{
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::AnyPool;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

pub use apply::{Applied, Plan, Planned};
pub use audit::{AuditFilter, AuditFull, AuditLog};
pub use edit::{
    Action, Actor, AppPatch, Changed, Directive, EditError, GroupPatch, MOST_CHANGES, MailboxPatch, MailboxValue,
    Page, SettingPatch, Stored, UnitPatch, UserFilter, UserPatch, Wish,
};
pub use error::StoreError;
pub use event::AuditEvent;
pub use examine::{Examined, examine};
pub use grant_list::{GrantFilter, GrantRow, GrantsChanged};
pub use roles::{AccessError, Admin, Role};
pub use tokens::{ApiToken, ApiTokenId, NewApiToken};

use crate::model::UnixTime;
use crate::policy::Directory;

/// How often other processes' changes are looked for.
const POLL: Duration = Duration::from_millis(500);
/// How often old feed entries and audit rows are cleared away.
const TRIM: Duration = Duration::from_secs(3600);

/// What the operator says about the database: `[database]` and `data_dir`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `sqlite:FILE`; a relative file is in `data_dir`.
    pub url: String,
    /// Made if it is not there.
    pub data_dir: PathBuf,
    /// Whether a full audit queue is an error (so that no login goes unrecorded), or drops events and counts them.
    pub audit_required: bool,
    /// Events that may wait for the database.
    pub audit_buffer: usize,
    /// Audit rows kept; the oldest go first.
    pub audit_rows: u64,
}

impl Settings {
    /// Whether there is a database already, without making one.
    pub fn is_made(&self) -> Result<bool, StoreError> {
        Ok(open::path_of(self)?.exists())
    }

    /// The defaults, in this directory.
    pub fn in_dir(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            url: "sqlite:portcullis.db".to_owned(),
            data_dir: data_dir.into(),
            audit_required: true,
            audit_buffer: 10_000,
            audit_rows: 1_000_000,
        }
    }
}

/// The database and its snapshot in memory.
#[derive(Debug)]
pub struct Store {
    pool: AnyPool,
    path: PathBuf,
    directory: RwLock<Directory>,
    /// Number of the last change in `directory`; set after it, under `turn`.
    number: watch::Sender<i64>,
    /// One write, or one catching up, at a time in this process.
    turn: Mutex<()>,
    audit: audit::Queue,
    started: Instant,
    /// Milliseconds after `started` at which the database last answered.
    contact_ms: AtomicU64,
    /// When the last change was committed.
    committed_ms: AtomicI64,
    audit_rows: i64,
}

impl Store {
    /// Opens the database, making it if need be, and reads the directory into memory.
    ///
    /// Errors say which file, what is wrong and how to mend it; nothing is changed in a file that is not ours.
    pub async fn open(settings: &Settings) -> Result<Arc<Self>, StoreError> {
        let (pool, path) = open::open(settings).await?;
        let (directory, number, committed) =
            Self::load(&pool).await.map_err(|error| error.at("reading the directory", &path))?;
        Ok(Arc::new(Self {
            pool,
            path,
            directory: RwLock::new(directory),
            number: watch::Sender::new(number),
            turn: Mutex::new(()),
            audit: audit::Queue::new(settings),
            started: Instant::now(),
            contact_ms: AtomicU64::new(0),
            committed_ms: AtomicI64::new(committed.0),
            audit_rows: i64::try_from(settings.audit_rows).unwrap_or(i64::MAX),
        }))
    }

    async fn load(pool: &AnyPool) -> Result<(Directory, i64, UnixTime), rows::Failed> {
        let mut tx = pool.begin().await?;
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

    fn number(&self) -> i64 {
        *self.number.borrow()
    }

    /// How long ago the database last answered: past `database.grace_s` the snapshot is no ground for a yes.
    pub fn silence(&self) -> Duration {
        let contact = Duration::from_millis(self.contact_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(contact)
    }

    fn note_contact(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.contact_ms.fetch_max(now, Ordering::Relaxed);
    }

    /// Follows the feed and writes the audit queue until `stop`; then writes what is left.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::join!(self.follow_feed(&stop), self.write_audit(&stop));
    }

    async fn follow_feed(&self, stop: &CancellationToken) {
        let mut reachable = true;
        let mut trimmed = Instant::now();
        while stop.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
            let mut outcome = self.catch_up().await;
            if outcome.is_ok() && trimmed.elapsed() > TRIM {
                trimmed = Instant::now();
                outcome = self.trim().await;
            }
            match &outcome {
                Ok(()) if !reachable => tracing::info!("the database answers again"),
                Err(error) if reachable => {
                    tracing::error!(%error, "the database does not answer; deciding by the last snapshot");
                }
                _ => {}
            }
            reachable = outcome.is_ok();
        }
    }

    /// Closes the database after everything queued is written. For tests and an orderly end.
    pub async fn close(&self) -> Result<(), StoreError> {
        let flushed = self.flush().await;
        self.pool.close().await;
        flushed
    }
}

#[cfg(test)]
mod tests;
