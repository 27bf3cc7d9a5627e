//! The audit log: events queued without waiting, written in batches, read back by filter. Called by `gate`, `session`
//! and `cli`.

use std::{
    borrow::Cow,
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Row};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{AuditEvent, Settings, Store, StoreError, event::COLUMNS, open};
use crate::model::{Reference, Service, UnixTime};

/// Events in one transaction.
const BATCH: usize = 2_048;
/// Events in one statement, largest first. Each statement is two hand-overs between threads, which cost more than the
/// rows themselves; only these five texts are ever prepared.
const ROWS: [usize; 5] = [256, 64, 16, 4, 1];
/// How long events gather before they are written: a commit costs as much as dozens of rows, whatever is in it.
const GATHER: Duration = Duration::from_millis(500);
/// How long to wait after a failed write.
const RETRY: Duration = Duration::from_secs(1);
/// The queue is full and `audit.required` is set: nothing may happen that would go unrecorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many audit events wait for the database: nothing more is admitted until they are written")]
pub struct AuditFull;

#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<VecDeque<AuditEvent>>,
    arrived: Notify,
    required: bool,
    /// How many may wait.
    most: usize,
    dropped: AtomicU64,
    /// One batch at a time, so that events keep their order.
    writing: tokio::sync::Mutex<()>,
}

impl Queue {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            required: settings.audit_required,
            most: settings.audit_buffer,
            dropped: AtomicU64::new(0),
            writing: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<AuditEvent>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Queues an event; never waits. Events that cannot be written yet wait, up to a limit.
    pub fn audit(&self, event: AuditEvent) -> Result<(), AuditFull> {
        let event = event.clean();
        let mut waiting = self.audit.waiting();
        if waiting.len() >= self.audit.most {
            drop(waiting);
            if self.audit.required {
                return Err(AuditFull);
            }
            self.audit.dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        waiting.push_back(event);
        drop(waiting);
        self.audit.arrived.notify_one();
        Ok(())
    }

    /// Whether the next event would be refused: to be asked before a login that must be recorded.
    pub fn audit_is_full(&self) -> bool {
        self.audit.required && self.audit.waiting().len() >= self.audit.most
    }

    /// Events thrown away because the queue was full and `audit.required` is off.
    pub fn audit_dropped(&self) -> u64 {
        self.audit.dropped.load(Ordering::Relaxed)
    }

    /// Writes every event queued so far.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let _writing = self.audit.writing.lock().await;
        loop {
            let batch: Vec<AuditEvent> = self.audit.waiting().iter().take(BATCH).cloned().collect();
            if batch.is_empty() {
                return Ok(());
            }
            let count = batch.len();
            let failed = |source| StoreError::sql("writing the audit log", &self.path, source);
            let _turn = self.turn.lock().await;
            let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
            insert(&mut tx, batch).await.map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            // Only now: an event is in the queue until it is in the database.
            self.audit.waiting().drain(..count);
            self.note_contact();
        }
    }

    pub(super) async fn write_audit(&self, stop: &CancellationToken) {
        let mut wait = GATHER;
        let mut writable = true;
        while stop.run_until_cancelled(self.audit.arrived.notified()).await.is_some() {
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
            match self.flush().await {
                Ok(()) => {
                    wait = GATHER;
                    writable = true;
                }
                Err(error) => {
                    if writable {
                        tracing::error!(%error, "audit events wait for the database");
                    }
                    writable = false;
                    wait = RETRY;
                    self.audit.arrived.notify_one();
                }
            }
        }
        if let Err(error) = self.flush().await {
            tracing::error!(%error, lost = self.audit.waiting().len(), "audit events were not written");
        }
    }

    /// The latest events that match, newest first. What is still queued is written first.
    pub async fn audit_recent(&self, filter: &AuditFilter) -> Result<Vec<AuditEvent>, StoreError> {
        self.flush().await?;
        let found = recent(&self.pool, filter).await;
        found.map_err(|source| StoreError::sql("reading the audit log", &self.path, source))
    }
}

/// Which events to show: each field that is set must match exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// The user the token proved, or, where nothing was proved, the user that was claimed.
    pub user: Option<String>,
    /// The app's client ID.
    pub app: Option<String>,
    /// The cause word.
    pub reason: Option<String>,
    /// The reference of a refusal.
    pub reference: Option<Reference>,
    /// The kind of event.
    pub event: Option<String>,
    /// Not before.
    pub since: Option<UnixTime>,
    /// At most so many; 0 means 100.
    pub limit: u32,
}

async fn recent(pool: &AnyPool, filter: &AuditFilter) -> Result<Vec<AuditEvent>, sqlx::Error> {
    let reference = filter.reference.map(|reference| reference.to_string());
    let wanted = [
        ("address", &filter.user),
        ("app", &filter.app),
        ("reason", &filter.reason),
        ("reference", &reference),
        ("event", &filter.event),
    ];
    // Built from the words above alone; what is looked for is bound.
    let mut sql = format!("SELECT {COLUMNS} FROM audit WHERE time >= $1");
    let mut texts = Vec::new();
    for (column, text) in wanted {
        let Some(text) = text else { continue };
        texts.push(text);
        let place = texts.len() + 1;
        match column {
            "address" => {
                sql.push_str(&format!(" AND (address = ${place} OR (address IS NULL AND claimed = ${place}))"))
            }
            _ => sql.push_str(&format!(" AND {column} = ${place}")),
        }
    }
    sql.push_str(&format!(" ORDER BY number DESC LIMIT ${}", texts.len() + 2));
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(filter.since.map_or(i64::MIN, |since| since.0));
    for text in texts {
        query = query.bind(text);
    }
    let limit = if filter.limit == 0 { 100 } else { i64::from(filter.limit) };
    let rows = query.bind(limit).fetch_all(pool).await?;
    rows.iter().map(AuditEvent::from_row).collect()
}

/// Writes events in order, within the caller's transaction.
pub(super) async fn insert(connection: &mut AnyConnection, events: Vec<AuditEvent>) -> Result<(), sqlx::Error> {
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let query = sqlx::query("UPDATE counters SET number = number + $1 WHERE name = 'audit' RETURNING number");
    let end: i64 = query.bind(count).fetch_one(&mut *connection).await?.try_get(0)?;
    let mut left = events.len();
    let mut rows = (end - count + 1..).zip(events);
    for size in ROWS {
        while left >= size {
            left -= size;
            let query = sqlx::query(AssertSqlSafe(statement(size)));
            let query =
                rows.by_ref().take(size).fold(query, |query, (number, event)| bind(query, number, event.clean()));
            query.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Inserts so many rows. The places have no numbers, although PostgreSQL will want some: SQLite keeps numbered ones by
/// name in a list and searches it for each, which took as long as the rest of the statement.
fn statement(rows: usize) -> String {
    let places = format!("({})", ["?"; WIDTH].join(", "));
    format!("INSERT INTO audit (number, {COLUMNS}) VALUES {}", vec![places; rows].join(", "))
}

/// Columns of a row, `number` among them.
const WIDTH: usize = 22;

type Insert = sqlx::query::Query<'static, sqlx::Any, sqlx::any::AnyArguments>;

fn bind(query: Insert, number: i64, event: AuditEvent) -> Insert {
    let query = query
        .bind(number)
        .bind(event.time.0)
        .bind(event.event.into_owned())
        .bind(event.outcome.into_owned())
        .bind(event.reason.map(Cow::into_owned))
        .bind(event.reference.map(|reference| reference.to_string()))
        .bind(event.service.map(Service::word))
        .bind(event.session.map(|session| i64::try_from(session.0).unwrap_or(i64::MAX)))
        .bind(event.peer)
        .bind(event.tls)
        .bind(event.issuer)
        .bind(event.kid)
        .bind(event.claimed)
        .bind(event.user)
        .bind(event.owner)
        .bind(event.app)
        .bind(event.unit)
        .bind(event.place);
    query.bind(event.policy_version).bind(event.fingerprint).bind(event.program).bind(event.detail)
}

/// The audit log alone, without the directory: for `portcullis audit` beside a running gateway.
#[derive(Debug)]
pub struct AuditLog {
    pub(super) pool: AnyPool,
    pub(super) path: PathBuf,
}

impl AuditLog {
    /// Opens the database; errors as for [`Store::open`].
    pub async fn open(settings: &Settings) -> Result<Self, StoreError> {
        let (pool, path) = open::open(settings).await?;
        Ok(Self { pool, path })
    }

    /// The latest events that match, newest first.
    pub async fn recent(&self, filter: &AuditFilter) -> Result<Vec<AuditEvent>, StoreError> {
        let found = recent(&self.pool, filter).await;
        found.map_err(|source| StoreError::sql("reading the audit log", &self.path, source))
    }
}

#[cfg(test)]
impl AuditLog {
    /// Holds the database's write lock, as another process would.
    pub(super) async fn lock(&self) -> sqlx::Transaction<'static, sqlx::Any> {
        #[allow(clippy::unwrap_used)]
        self.pool.begin_with("BEGIN IMMEDIATE").await.unwrap()
    }

    /// A pool on a file that need not be ours.
    pub(super) async fn raw(path: &std::path::Path) -> AnyPool {
        sqlx::any::install_default_drivers();
        #[allow(clippy::unwrap_used)]
        AnyPool::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap()
    }
}
