//! The audit log: events queued without waiting, written in batches, read back by filter. Called by `gate`, `session`
//! and `cli`.

use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Row};
use tokio::sync::{MutexGuard, Notify};
use tokio_util::sync::CancellationToken;

use super::{
    AuditEvent, Location, Settings, Store, StoreError, chain,
    event::{COLUMNS, Value, WIDTH},
    feed, open,
};
use crate::model::{Reference, UnixTime};

/// Events in one transaction.
const BATCH: usize = 2_048;
/// Events in one statement, largest first. Each statement is two hand-overs between threads, which cost more than the
/// rows themselves; only these four texts are ever prepared. A prepared statement of 256 rows takes half a megabyte on
/// each connection.
const ROWS: [usize; 4] = [64, 16, 4, 1];
/// How long events gather before they are written: a commit costs as much as dozens of rows, whatever is in it.
const GATHER: Duration = Duration::from_millis(500);
/// How long to wait after a failed write.
const RETRY: Duration = Duration::from_secs(1);
/// Rows of one page of an export.
const PAGE: i64 = 1_000;

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
    /// One batch at a time, so that events keep their order; and what became of the last one, if nobody knows.
    writing: tokio::sync::Mutex<Option<Unsure>>,
}

/// A batch whose commit was not answered: a server that goes away in that moment may have kept it.
#[derive(Clone, Debug)]
struct Unsure {
    /// How many of the events that wait.
    count: usize,
    /// The number and hash of its last row: only if it was kept is there such a row.
    number: i64,
    hash: String,
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

    /// Writes every event queued so far, each once: a batch of which nobody knows whether it was kept is looked for first.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let mut unsure = self.audit.writing.lock().await;
        loop {
            let batch: Vec<AuditEvent> = self.audit.waiting().iter().take(BATCH).cloned().collect();
            if batch.is_empty() {
                return Ok(());
            }
            let count = batch.len();
            let failed = |source| StoreError::sql("writing the audit log", &self.path, source);
            let _turn = self.turn_to_log().await;
            let mut tx = self.pool.begin_with(self.path.begin_writing()).await.map_err(failed)?;
            if let Some(before) = unsure.clone() {
                if self.path.is_server() {
                    // A commit that is still under way there holds this lock.
                    feed::lock(&mut tx, "audit").await.map_err(failed)?;
                }
                let was_kept = stands(&mut tx, &before).await.map_err(failed)?;
                *unsure = None;
                if was_kept {
                    self.audit.waiting().drain(..before.count);
                    continue;
                }
            }
            let (number, hash) = append(&mut tx, batch).await.map_err(failed)?;
            *unsure = Some(Unsure { count, number, hash });
            tx.commit().await.map_err(failed)?;
            // Only now: an event is in the queue until it is in the database.
            *unsure = None;
            self.audit.waiting().drain(..count);
        }
    }

    /// The turn of whoever writes the audit log alone. SQLite has one writer; on a server the lock on the log's counter is
    /// enough, and the log need not wait for a large policy.
    pub(super) async fn turn_to_log(&self) -> Option<MutexGuard<'_, ()>> {
        if self.path.is_server() { None } else { Some(self.turn.lock().await) }
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
        let rows = self.audit_before(filter, None).await?;
        Ok(rows.into_iter().map(|row| row.event).collect())
    }

    /// The same, of those that were written before number `before`, with their numbers.
    pub async fn audit_before(
        &self,
        filter: &AuditFilter,
        before: Option<i64>,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        self.flush().await?;
        let found = latest(&self.pool, filter, before).await;
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

/// A row of the audit log with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedEvent {
    /// Its number; rows are numbered in the order in which they were written, without holes.
    pub number: i64,
    /// Its hash, 64 hexadecimal digits; none for a row from before the log was a chain.
    pub hash: Option<String>,
    /// What happened.
    pub event: AuditEvent,
}

impl NumberedEvent {
    /// [`AuditEvent::to_json`] with `number` and `hash`.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = self.event.to_json();
        if let Some(object) = json.as_object_mut() {
            object.insert("number".to_owned(), self.number.into());
            if let Some(hash) = &self.hash {
                object.insert("hash".to_owned(), hash.as_str().into());
            }
        }
        json
    }
}

async fn latest(
    pool: &AnyPool,
    filter: &AuditFilter,
    before: Option<i64>,
) -> Result<Vec<NumberedEvent>, sqlx::Error> {
    let limit = if filter.limit == 0 { 100 } else { i64::from(filter.limit) };
    select(pool, filter, Order::NewestFirst, before, limit).await
}

#[derive(Clone, Copy)]
enum Order {
    NewestFirst,
    OldestFirst,
}

/// Rows that match and come after the number `from` in this order, if one is given.
async fn select(
    pool: &AnyPool,
    filter: &AuditFilter,
    order: Order,
    from: Option<i64>,
    limit: i64,
) -> Result<Vec<NumberedEvent>, sqlx::Error> {
    let reference = filter.reference.map(|reference| reference.to_string());
    let wanted = [
        ("address", &filter.user),
        ("app", &filter.app),
        ("reason", &filter.reason),
        ("reference", &reference),
        ("event", &filter.event),
    ];
    // Built from the words above alone; what is looked for is bound.
    let mut sql = format!("SELECT {COLUMNS}, number, hash FROM audit WHERE time >= $1");
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
    let mut place = texts.len() + 2;
    let (beyond, direction) = match order {
        Order::NewestFirst => ("<", "DESC"),
        Order::OldestFirst => (">", "ASC"),
    };
    if from.is_some() {
        sql.push_str(&format!(" AND number {beyond} ${place}"));
        place += 1;
    }
    sql.push_str(&format!(" ORDER BY number {direction} LIMIT ${place}"));
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(filter.since.map_or(i64::MIN, |since| since.0));
    for text in texts {
        query = query.bind(text);
    }
    if let Some(number) = from {
        query = query.bind(number);
    }
    let rows = query.bind(limit).fetch_all(pool).await?;
    let numbered = |row| {
        let event = AuditEvent::from_row(row)?;
        Ok(NumberedEvent { number: row.try_get(WIDTH)?, hash: row.try_get(WIDTH + 1)?, event })
    };
    rows.iter().map(numbered).collect()
}

/// Whether this batch's last row is in the log.
async fn stands(connection: &mut AnyConnection, batch: &Unsure) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("SELECT number FROM audit WHERE number = $1 AND hash = $2");
    Ok(query.bind(batch.number).bind(&batch.hash).fetch_optional(connection).await?.is_some())
}

/// Writes events in order, within the caller's transaction.
pub(super) async fn insert(connection: &mut AnyConnection, events: Vec<AuditEvent>) -> Result<(), sqlx::Error> {
    append(connection, events).await.map(drop)
}

/// The same; returns the number and hash of the last row. The chain costs one statement for all of them: their hashes are
/// computed here, while the transaction holds the log's counter.
async fn append(connection: &mut AnyConnection, events: Vec<AuditEvent>) -> Result<(i64, String), sqlx::Error> {
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let sql = "UPDATE counters SET number = number + $1 WHERE name = 'audit' RETURNING number, hash";
    let row = sqlx::query(sql).bind(count).fetch_one(&mut *connection).await?;
    let (end, mut hash): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    let statements = if connection.backend_name() == "SQLite" { &STATEMENTS.0 } else { &STATEMENTS.1 };
    let mut left = events.len();
    let mut rows = (end - count + 1..).zip(events);
    for (size, statement) in ROWS.into_iter().zip(statements) {
        while left >= size {
            left -= size;
            let mut query = sqlx::query(AssertSqlSafe(Arc::clone(statement)));
            for (number, event) in rows.by_ref().take(size) {
                let values = event.clean().into_values();
                hash = chain::link(&hash, number, &values);
                query = query.bind(number);
                for value in values {
                    query = match value {
                        Value::Number(number) => query.bind(number),
                        Value::Text(text) => query.bind(text.map(Cow::into_owned)),
                    };
                }
                query = query.bind(hash.clone());
            }
            query.execute(&mut *connection).await?;
        }
    }
    let query = sqlx::query("UPDATE counters SET hash = $1 WHERE name = 'audit'").bind(&hash);
    query.execute(connection).await?;
    Ok((end, hash))
}

/// A text for each of [`ROWS`].
type Texts = [Arc<str>; ROWS.len()];

/// The insertions of so many rows as [`ROWS`] says, for SQLite and for PostgreSQL. Only the latter's places have numbers:
/// SQLite keeps numbered ones by name in a list and searches it for each, which took as long as the rest of the statement.
/// `OR FAIL`, because a failure undoes the whole transaction here anyway: without it SQLite writes a copy of every page that
/// a statement touches to a file, so that it could undo that statement alone.
static STATEMENTS: LazyLock<(Texts, Texts)> = LazyLock::new(|| {
    let statement = |insert: &str, rows: usize, place: &dyn Fn(usize) -> String| {
        // Beside the columns, `number` and `hash`.
        let width = WIDTH + 2;
        let row = |row| (1..=width).map(|column| place(row * width + column)).collect::<Vec<_>>().join(", ");
        let places = (0..rows).map(|number| format!("({})", row(number))).collect::<Vec<_>>().join(", ");
        Arc::from(format!("{insert} INTO audit (number, {COLUMNS}, hash) VALUES {places}"))
    };
    (
        ROWS.map(|rows| statement("INSERT OR FAIL", rows, &|_| "?".to_owned())),
        ROWS.map(|rows| statement("INSERT", rows, &|place| format!("${place}"))),
    )
});

/// The audit log alone, without the directory: for `portcullis audit` beside a running gateway.
#[derive(Debug)]
pub struct AuditLog {
    pub(super) pool: AnyPool,
    pub(super) path: Location,
}

impl AuditLog {
    /// Opens the database; errors as for [`Store::open`].
    pub async fn open(settings: &Settings) -> Result<Self, StoreError> {
        let (pool, path) = open::open(settings).await?;
        Ok(Self { pool, path })
    }

    /// The latest events that match, newest first.
    pub async fn recent(&self, filter: &AuditFilter) -> Result<Vec<AuditEvent>, StoreError> {
        let found = latest(&self.pool, filter, None).await;
        let rows = found.map_err(|source| StoreError::sql("reading the audit log", &self.path, source))?;
        Ok(rows.into_iter().map(|row| row.event).collect())
    }

    /// The next page of events that match, oldest first, from the one after number `after` on; empty at the end. Its size
    /// is fixed, whatever `filter.limit` says.
    pub async fn page(&self, filter: &AuditFilter, after: i64) -> Result<Vec<NumberedEvent>, StoreError> {
        let found = select(&self.pool, filter, Order::OldestFirst, Some(after), PAGE).await;
        found.map_err(|source| StoreError::sql("reading the audit log", &self.path, source))
    }
}

#[cfg(test)]
impl AuditLog {
    /// Holds the database's write lock, as another process would.
    pub(super) async fn lock(&self) -> sqlx::Transaction<'static, sqlx::Any> {
        #[allow(clippy::unwrap_used)]
        let mut tx = self.pool.begin_with(self.path.begin_writing()).await.unwrap();
        if self.path.is_server() {
            #[allow(clippy::unwrap_used)]
            feed::lock(&mut tx, "change").await.unwrap();
            #[allow(clippy::unwrap_used)]
            feed::lock(&mut tx, "audit").await.unwrap();
        }
        tx
    }
}

#[cfg(test)]
impl Store {
    /// Whether events are queued.
    pub(super) fn audit_is_waiting(&self) -> bool {
        !self.audit.waiting().is_empty()
    }

    /// As after a commit that was not answered.
    pub(super) async fn doubt_last_batch(&self, count: usize, number: i64, hash: &str) {
        *self.audit.writing.lock().await = Some(Unsure { count, number, hash: hash.to_owned() });
    }
}
