//! What issuers said of their tokens and accounts: written from identity events, read into the snapshot. Called by `gate`
//! (events) and `admin` (list, forget).
//!
//! A word against tokens is kept for `cutoff_days`. What is cleared away then, or earlier because there are too many,
//! leaves its moment behind as a word against everybody of that issuer: a token as old as that stays refused whatever
//! becomes of the row. Words about closed accounts stay until the account is open again.

use std::time::Duration;

use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{AuditEvent, Settings, Store, StoreError, audit, feed::Write, roles::count, rows::Failed};
use crate::model::{UnixTime, UserId};
use crate::policy::{Account, Cutoff, CutoffKey, Whose};

/// Rows cleared away in one write.
const SWEEP: i64 = 1_000;
/// Events remembered; past it the oldest are forgotten. An event that comes again says nothing new anyhow: its time
/// counts, not its arrival.
const EVENTS: i64 = 100_000;

/// The bounds of what is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    keep: Duration,
    most: i64,
}

impl Limits {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            keep: Duration::from_secs(settings.cutoff_days.saturating_mul(24 * 3600)),
            most: i64::try_from(settings.cutoffs).unwrap_or(i64::MAX),
        }
    }
}

/// What an issuer wants done about tokens or an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Tokens issued until then are not good any more.
    Revoke,
    /// That, and the account is disabled.
    Disable,
    /// The account is usable again; tokens that were revoked stay so.
    Enable,
    /// The account is deleted for good.
    Purge,
}

/// One order of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub what: What,
    /// About which of its tokens.
    pub whose: Whose,
    /// When that came about, by the issuer's clock.
    pub at: UnixTime,
    /// The event's short name, for the audit row.
    pub event: &'static str,
}

/// The event that orders come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderedBy {
    /// The issuer's address.
    pub issuer: String,
    /// The event's own name, `jti`; heard once.
    pub id: String,
    /// The key that signed it.
    pub key: String,
    /// Until when it has to be remembered.
    pub remember_until: UnixTime,
    /// What else it said, of which nothing comes: for the audit log.
    pub notes: Vec<String>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It was heard before; nothing was done.
    Repeated,
    /// So many rows say something new.
    Changed(usize),
    /// There is no room for another closed account: nothing was done.
    Full,
}

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutoffRow {
    /// Whose word about which tokens.
    pub key: CutoffKey,
    /// What it says.
    pub cutoff: Cutoff,
    /// Since when the account stands as it does.
    pub account_at: Option<UnixTime>,
    /// The short name of the last event about it.
    pub event: String,
    /// When that arrived.
    pub changed_at: UnixTime,
    /// When it is cleared away.
    pub expires_at: Option<UnixTime>,
}

impl Store {
    /// Does what an event orders, in one transaction with an audit row for each order; the sessions that fall are told by
    /// the change feed. An event that was heard before, on any node, changes nothing.
    pub async fn obey(&self, by: &OrderedBy, orders: &[Order], now: UnixTime) -> Result<Noted, StoreError> {
        let mut write = Write::begin(self, "noting an identity event").await?;
        if !first_time(&mut write.tx, by, now).await.map_err(|error| write.failed(error))? {
            return Ok(Noted::Repeated);
        }
        let mut rows: Vec<AuditEvent> =
            by.notes.iter().map(|note| event(by, "ignored", note.clone(), now)).collect();
        let mut changed = 0;
        for order in orders {
            let key = CutoffKey { issuer: by.issuer.clone(), whose: order.whose.clone() };
            let limits = self.cutoff_limits;
            let done = put(&mut write.tx, &key, order, limits, now).await.map_err(|error| write.failed(error))?;
            rows.push(order_event(by, order, done, now));
            if done {
                changed += 1;
                write.touched.cutoffs.insert(key);
            }
        }
        let swept = sweep(&mut write.tx, self.cutoff_limits, now).await;
        let Some(swept) = swept.map_err(|error| write.failed(error))? else { return Ok(Noted::Full) };
        write.touched.cutoffs.extend(swept);
        let inserted = audit::insert(&mut write.tx, rows).await;
        inserted.map_err(|error| write.failed(error))?;
        write.commit(now).await?;
        Ok(Noted::Changed(changed))
    }

    /// Rows in the order of their keys, after `after`; at most `limit`.
    pub async fn cutoffs(&self, after: Option<&CutoffKey>, limit: usize) -> Result<Vec<CutoffRow>, StoreError> {
        let failed = |error: Failed| error.at("reading what issuers said", &self.path);
        let sql = "SELECT issuer, kind, subject, issued_until, account, account_at, event, changed_at, expires_at \
                   FROM cutoffs WHERE (issuer, kind, subject) > ($1, $2, $3) ORDER BY issuer, kind, subject LIMIT $4";
        let (issuer, kind, subject) =
            after.map_or(("", "", ""), |key| (key.issuer.as_str(), key.whose.word(), key.whose.text()));
        let query = sqlx::query(sql).bind(issuer).bind(kind).bind(subject);
        let query = query.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = query.fetch_all(&self.pool).await.map_err(|error| failed(error.into()))?;
        rows.iter().map(row).collect::<Result<_, _>>().map_err(failed)
    }

    /// Forgets one row, with an audit row: what it refused may come in again. For an issuer that erred, or that no longer
    /// says when an account is open again. False if there is no such row.
    pub async fn forget_cutoff(&self, key: &CutoffKey, by: &str, now: UnixTime) -> Result<bool, StoreError> {
        let mut write = Write::begin(self, "forgetting what an issuer said").await?;
        let query = sqlx::query("DELETE FROM cutoffs WHERE issuer = $1 AND kind = $2 AND subject = $3");
        let query = query.bind(&key.issuer).bind(key.whose.word()).bind(key.whose.text());
        let done = query.execute(&mut *write.tx).await.map_err(|error| write.failed(error))?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let mut event = AuditEvent::new(now, "cutoff.forgotten", "done");
        event.issuer = Some(key.issuer.clone());
        event.user = address(&key.whose).map(ToString::to_string);
        event.detail = Some(format!("by {by}: {} {:?}", key.whose.word(), key.whose.text()));
        let inserted = audit::insert(&mut write.tx, vec![event]).await;
        inserted.map_err(|error| write.failed(error))?;
        write.touched.cutoffs.insert(key.clone());
        write.commit(now).await?;
        Ok(true)
    }
}

/// Remembers the event; false if it was remembered already.
async fn first_time(connection: &mut AnyConnection, by: &OrderedBy, now: UnixTime) -> Result<bool, sqlx::Error> {
    let c = connection;
    sqlx::query("DELETE FROM events_seen WHERE expires_at <= $1").bind(now.0).execute(&mut *c).await?;
    let query = sqlx::query(
        "INSERT INTO events_seen (issuer, id, expires_at) VALUES ($1, $2, $3) ON CONFLICT (issuer, id) DO NOTHING",
    );
    let query = query.bind(&by.issuer).bind(&by.id).bind(by.remember_until.0);
    if query.execute(&mut *c).await?.rows_affected() == 0 {
        return Ok(false);
    }
    let over = count(c, "SELECT count(*) FROM events_seen").await? - EVENTS;
    if over > 0 {
        let sql = "DELETE FROM events_seen WHERE (issuer, id) IN \
                   (SELECT issuer, id FROM events_seen ORDER BY expires_at, issuer, id LIMIT $1)";
        sqlx::query(sql).bind(over).execute(&mut *c).await?;
    }
    Ok(true)
}

/// What a row says after an order; `None` if that is what it said before. The order's own time decides, so that events
/// that arrive late, twice or out of order come to the same end.
fn after(before: Option<&CutoffRow>, order: &Order) -> Option<(Cutoff, Option<UnixTime>)> {
    let cutoff = before.map_or(Cutoff { issued_until: None, account: Account::Open }, |row| row.cutoff);
    let account_at = before.and_then(|row| row.account_at);
    let issued_until = cutoff.issued_until.max(Some(order.at));
    let newer = account_at.is_none_or(|at| order.at >= at) && cutoff.account != Account::Purged;
    let (cutoff, at) = match order.what {
        What::Revoke => (Cutoff { issued_until, ..cutoff }, account_at),
        What::Disable if newer => (Cutoff { issued_until, account: Account::Disabled }, Some(order.at)),
        What::Disable => (Cutoff { issued_until, ..cutoff }, account_at),
        What::Enable if newer => (Cutoff { account: Account::Open, ..cutoff }, Some(order.at)),
        What::Enable => (cutoff, account_at),
        What::Purge => (Cutoff { issued_until, account: Account::Purged }, account_at.max(Some(order.at))),
    };
    let same = before.is_some_and(|row| row.cutoff == cutoff && row.account_at == at);
    (!same).then_some((cutoff, at))
}

async fn put(
    connection: &mut AnyConnection,
    key: &CutoffKey,
    order: &Order,
    limits: Limits,
    now: UnixTime,
) -> Result<bool, Failed> {
    let before = find(connection, key).await?;
    let Some((cutoff, account_at)) = after(before.as_ref(), order) else { return Ok(false) };
    let expires_at = match cutoff.account {
        Account::Open => Some(cutoff.issued_until.max(account_at).unwrap_or(now).max(now) + limits.keep),
        Account::Disabled | Account::Purged => None,
    };
    let row = CutoffRow {
        key: key.clone(),
        cutoff,
        account_at,
        event: order.event.to_owned(),
        changed_at: now,
        expires_at,
    };
    write(connection, &row).await?;
    Ok(true)
}

async fn write(connection: &mut AnyConnection, row: &CutoffRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO cutoffs (issuer, kind, subject, issued_until, account, account_at, event, changed_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (issuer, kind, subject) DO UPDATE \
         SET issued_until = excluded.issued_until, account = excluded.account, account_at = excluded.account_at, \
         event = excluded.event, changed_at = excluded.changed_at, expires_at = excluded.expires_at",
    )
    .bind(&row.key.issuer)
    .bind(row.key.whose.word())
    .bind(row.key.whose.text())
    .bind(row.cutoff.issued_until.map(|at| at.0))
    .bind(row.cutoff.account.word())
    .bind(row.account_at.map(|at| at.0))
    .bind(&row.event)
    .bind(row.changed_at.0)
    .bind(row.expires_at.map(|at| at.0))
    .execute(connection)
    .await
    .map(drop)
}

/// Clears away what has expired and what is too much; returns the keys of rows that changed by it, or `None` if there are
/// too many closed accounts.
async fn sweep(
    connection: &mut AnyConnection,
    limits: Limits,
    now: UnixTime,
) -> Result<Option<Vec<CutoffKey>>, Failed> {
    let c = connection;
    let over = count(c, "SELECT count(*) FROM cutoffs").await? - limits.most;
    let mut gone = Vec::new();
    for (until, most) in [(now.0, SWEEP), (i64::MAX, over.clamp(0, SWEEP))] {
        let sql = "SELECT issuer, kind, subject, issued_until, account, account_at, event, changed_at, expires_at \
                   FROM cutoffs WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2";
        let rows = sqlx::query(sql).bind(until).bind(most).fetch_all(&mut *c).await?;
        for row in &rows {
            let row = self::row(row)?;
            let query = sqlx::query("DELETE FROM cutoffs WHERE issuer = $1 AND kind = $2 AND subject = $3");
            let query = query.bind(&row.key.issuer).bind(row.key.whose.word()).bind(row.key.whose.text());
            query.execute(&mut *c).await?;
            gone.extend(leave_behind(c, &row, now).await?);
            gone.push(row.key);
        }
    }
    if over > 0 && count(c, "SELECT count(*) FROM cutoffs").await? > limits.most {
        return Ok(None);
    }
    Ok(Some(gone))
}

/// Tokens that a cleared row refused stay refused, with whatever else is as old.
async fn leave_behind(
    connection: &mut AnyConnection,
    gone: &CutoffRow,
    now: UnixTime,
) -> Result<Option<CutoffKey>, Failed> {
    let Some(until) = gone.cutoff.issued_until else { return Ok(None) };
    let key = CutoffKey { issuer: gone.key.issuer.clone(), whose: Whose::Everybody };
    let before = find(connection, &key).await?.and_then(|row| row.cutoff.issued_until);
    if before >= Some(until) {
        return Ok(None);
    }
    let cutoff = Cutoff { issued_until: Some(until), account: Account::Open };
    let row = CutoffRow {
        key: key.clone(),
        cutoff,
        account_at: None,
        event: "cleared-away".to_owned(),
        changed_at: now,
        expires_at: None,
    };
    write(connection, &row).await?;
    Ok(Some(key))
}

fn event(by: &OrderedBy, outcome: &'static str, detail: String, now: UnixTime) -> AuditEvent {
    let mut event = AuditEvent::new(now, "identity.event", outcome);
    event.issuer = Some(by.issuer.clone());
    event.kid = Some(by.key.clone());
    event.detail = Some(format!("{detail}; event {:?}", by.id));
    event
}

fn order_event(by: &OrderedBy, order: &Order, done: bool, now: UnixTime) -> AuditEvent {
    let (word, text) = (order.whose.word(), order.whose.text());
    let detail = format!("{word} {text:?} at {}", order.at);
    let mut event = event(by, if done { "done" } else { "unchanged" }, detail, now);
    event.reason = Some(order.event.into());
    event.user = address(&order.whose).map(ToString::to_string);
    event
}

fn address(whose: &Whose) -> Option<&UserId> {
    match whose {
        Whose::Address(user) | Whose::AddressWithoutSession(user) => Some(user),
        _ => None,
    }
}

/// One row, if it is there.
pub(super) async fn find(connection: &mut AnyConnection, key: &CutoffKey) -> Result<Option<CutoffRow>, Failed> {
    let sql = "SELECT issuer, kind, subject, issued_until, account, account_at, event, changed_at, expires_at \
               FROM cutoffs WHERE issuer = $1 AND kind = $2 AND subject = $3";
    let query = sqlx::query(sql).bind(&key.issuer).bind(key.whose.word()).bind(key.whose.text());
    query.fetch_optional(connection).await?.map(|found| row(&found)).transpose()
}

/// Columns `issuer, kind, subject, issued_until, account`.
pub(super) fn fact(row: &AnyRow) -> Result<(CutoffKey, Cutoff), Failed> {
    let (kind, subject): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let Some(whose) = Whose::read(&kind, &subject) else {
        return Err(Failed::Bad(format!("a cutoff is about {kind:?} {subject:?}")));
    };
    let word: String = row.try_get(4)?;
    let Some(account) = Account::from_word(&word) else {
        return Err(Failed::Bad(format!("an account is {word:?}")));
    };
    let issued_until = row.try_get::<Option<i64>, _>(3)?.map(UnixTime);
    Ok((CutoffKey { issuer: row.try_get(0)?, whose }, Cutoff { issued_until, account }))
}

fn row(row: &AnyRow) -> Result<CutoffRow, Failed> {
    let (key, cutoff) = fact(row)?;
    Ok(CutoffRow {
        key,
        cutoff,
        account_at: row.try_get::<Option<i64>, _>(5)?.map(UnixTime),
        event: row.try_get(6)?,
        changed_at: UnixTime(row.try_get(7)?),
        expires_at: row.try_get::<Option<i64>, _>(8)?.map(UnixTime),
    })
}

/// The subject of a feed entry. JSON, because a `sub` may hold anything.
pub(super) fn subject(key: &CutoffKey) -> String {
    serde_json::json!([key.issuer, key.whose.word(), key.whose.text()]).to_string()
}

/// Reads what [`subject`] writes.
pub(super) fn from_subject(text: &str) -> Option<CutoffKey> {
    let (issuer, kind, subject): (String, String, String) = serde_json::from_str(text).ok()?;
    Some(CutoffKey { issuer, whose: Whose::read(&kind, &subject)? })
}

#[cfg(test)]
mod tests;
