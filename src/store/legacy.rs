//! The legacy report: who still tries passwords, with which program, from where, how often. The gate calls
//! [`Store::saw_password`], which only notes; a second later everything noted is added to the table in one
//! transaction, so that the nodes' counts add up. Read by `admin`, and by `portcullis legacy` beside a running gateway.
//!
//! Nothing here is proved: a name is what somebody claimed. So names are cut, and past a bound attempts are still
//! counted, but under no name. The password itself never comes near.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sqlx::{Any, AnyPool, Row, Transaction, any::AnyRow};

use super::{
    AuditLog, Store, StoreError,
    seen::patiently,
    statement::{Sql, Subtree, Value},
};
use crate::model::{Service, UnitPath, UnixTime, UserId};

/// Kinds of attempts that wait for the database; what is past them is counted without name and address.
const WAITING: usize = 2_000;
/// Rows kept of users that the directory does not know.
const STRANGERS: i64 = 10_000;
/// Rows kept in all.
const KEPT: i64 = 50_000;
/// Longest text that is kept, in characters.
const LONGEST: usize = 100;

/// One password way in that was refused.
#[derive(Clone, Debug)]
pub struct PasswordTry<'a> {
    /// The user it was for, as sent; nothing proves it.
    pub claimed: Option<&'a str>,
    /// What the program says it is (IMAP `ID`).
    pub program: Option<&'a str>,
    /// Where it comes from.
    pub from: IpAddr,
    /// The protocol.
    pub service: Service,
    /// The command or mechanism: `LOGIN`, `USER`, `AUTHENTICATE PLAIN`, ...
    pub how: &'a str,
    /// When.
    pub at: UnixTime,
}

/// Which attempts to report. The default is all of them, at most 1,000, the most frequent first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegacyFilter {
    /// Only users of this unit or of units below it; the root stands for everybody, unknown names included.
    pub unit: Option<UnitPath>,
    /// Only this user, as claimed.
    pub user: Option<String>,
    /// Only attempts since.
    pub since: Option<UnixTime>,
    /// At most so many rows; 0 means 1,000, and no more than 50,000 are given.
    pub limit: u32,
}

/// Attempts of one kind: same user, program, address, way and service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacySignIn {
    /// The user as claimed; empty where none was named, or past the bounds of this report.
    pub claimed: String,
    /// The unit of that user, if the directory knows one of that name.
    pub unit: Option<String>,
    /// What the program says it is; empty if it did not say.
    pub program: String,
    /// Where the attempts came from; empty past the bounds of this report.
    pub from: String,
    /// The protocol.
    pub service: Service,
    /// The command or mechanism.
    pub how: String,
    /// How often.
    pub attempts: u64,
    /// When first.
    pub first: UnixTime,
    /// When last.
    pub last: UnixTime,
}

impl LegacySignIn {
    /// The row as one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "user": self.claimed,
            "unit": self.unit,
            "program": self.program,
            "from": self.from,
            "service": self.service.word(),
            "how": self.how,
            "attempts": self.attempts,
            "first": self.first.to_string(),
            "last": self.last.to_string(),
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Kind {
    claimed: String,
    program: String,
    from: String,
    service: &'static str,
    how: String,
}

#[derive(Clone, Copy, Debug)]
struct Sum {
    attempts: i64,
    first: UnixTime,
    last: UnixTime,
}

/// What waits to be added to the table.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    waiting: Mutex<HashMap<Kind, Sum>>,
    /// One merge at a time.
    merging: tokio::sync::Mutex<()>,
}

impl Legacy {
    fn waiting(&self) -> MutexGuard<'_, HashMap<Kind, Sum>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(waiting: &mut HashMap<Kind, Sum>, kind: Kind, more: Sum) {
        let kind = if waiting.len() < WAITING || waiting.contains_key(&kind) {
            kind
        } else {
            Kind { service: kind.service, ..Kind::default() }
        };
        let sum = waiting.entry(kind).or_insert(Sum { attempts: 0, ..more });
        sum.attempts = sum.attempts.saturating_add(more.attempts);
        sum.first = sum.first.min(more.first);
        sum.last = sum.last.max(more.last);
    }
}

impl Store {
    /// Notes a password way in that was refused. Never waits, never writes: it is added to the table a second later.
    pub fn saw_password(&self, attempt: &PasswordTry<'_>) {
        let kind = Kind {
            claimed: name(attempt.claimed.unwrap_or_default()),
            program: text(attempt.program.unwrap_or_default()),
            from: attempt.from.to_canonical().to_string(),
            service: attempt.service.word(),
            how: text(attempt.how),
        };
        let sum = Sum { attempts: 1, first: attempt.at, last: attempt.at };
        Legacy::add(&mut self.legacy.waiting(), kind, sum);
    }

    /// Adds to the table what was noted so far; without SQL if nothing was.
    pub(super) async fn merge_legacy(&self) -> Result<(), StoreError> {
        let _merging = self.legacy.merging.lock().await;
        let sums = std::mem::take(&mut *self.legacy.waiting());
        if sums.is_empty() {
            return Ok(());
        }
        let done = patiently(self.write_legacy(&sums)).await;
        if done.is_err() {
            // Nothing of it was committed: it waits for the next try.
            let mut waiting = self.legacy.waiting();
            sums.into_iter().for_each(|(kind, sum)| Legacy::add(&mut waiting, kind, sum));
        }
        done.map_err(|source| StoreError::sql("adding up the legacy report", &self.path, source))
    }

    async fn write_legacy(&self, sums: &HashMap<Kind, Sum>) -> Result<(), sqlx::Error> {
        let _turn = self.turn_to_log().await;
        let mut tx = self.begin_quietly().await?;
        // In one order on every node: two that added the same rows in different orders would wait for each other.
        let mut sorted: Vec<_> = sums.iter().collect();
        sorted.sort_by_key(|(kind, _)| *kind);
        for (kind, sum) in sorted {
            let query = sqlx::query(
                "INSERT INTO legacy_sign_ins (claimed, program, peer, service, how, attempts, first_seen, last_seen) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (claimed, program, peer, service, how) \
                 DO UPDATE SET attempts = legacy_sign_ins.attempts + excluded.attempts, \
                 first_seen = CASE WHEN excluded.first_seen < legacy_sign_ins.first_seen \
                 THEN excluded.first_seen ELSE legacy_sign_ins.first_seen END, \
                 last_seen = CASE WHEN excluded.last_seen > legacy_sign_ins.last_seen \
                 THEN excluded.last_seen ELSE legacy_sign_ins.last_seen END",
            );
            query
                .bind(&*kind.claimed)
                .bind(&*kind.program)
                .bind(&*kind.from)
                .bind(kind.service)
                .bind(&*kind.how)
                .bind(sum.attempts)
                .bind(sum.first.0)
                .bind(sum.last.0)
                .execute(&mut *tx)
                .await?;
        }
        trim(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The legacy report, the most frequent attempts first. What was only just noted is in it.
    pub async fn legacy(&self, filter: &LegacyFilter) -> Result<Vec<LegacySignIn>, StoreError> {
        self.merge_legacy().await?;
        let found = report(&self.pool, filter).await;
        found.map_err(|source| StoreError::sql("reading the legacy report", &self.path, source))
    }
}

impl AuditLog {
    /// The legacy report, as [`Store::legacy`] gives it, without what a running gateway noted in the last second.
    pub async fn legacy(&self, filter: &LegacyFilter) -> Result<Vec<LegacySignIn>, StoreError> {
        let found = report(&self.pool, filter).await;
        found.map_err(|source| StoreError::sql("reading the legacy report", &self.path, source))
    }
}

/// The name as the directory would spell it, if it can be a user's.
fn name(claimed: &str) -> String {
    match UserId::parse(claimed) {
        Ok(user) if user.as_str().chars().count() <= LONGEST => user.to_string(),
        _ => text(claimed),
    }
}

fn text(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

/// Removes what is past the bounds, the longest unused first: names that nobody has made up room for one another
/// before those of the directory do.
async fn trim(tx: &mut Transaction<'static, Any>) -> Result<(), sqlx::Error> {
    let stranger = "NOT EXISTS (SELECT 1 FROM users WHERE users.address = legacy_sign_ins.claimed)";
    for (condition, most) in [(stranger, STRANGERS), ("1 = 1", KEPT)] {
        let mut sql = Sql::new("SELECT last_seen FROM legacy_sign_ins WHERE ");
        sql.push(condition, []);
        sql.push(" ORDER BY last_seen DESC LIMIT 1 OFFSET $", [Value::Number(most)]);
        let rows = sql.fetch_in(tx).await?;
        let Some(row) = rows.first() else { continue };
        let last: i64 = row.try_get(0)?;
        let mut sql = Sql::new("DELETE FROM legacy_sign_ins WHERE ");
        sql.push(condition, []);
        sql.and("last_seen <= $", [Value::Number(last)]);
        sql.fetch_in(tx).await?;
    }
    Ok(())
}

async fn report(pool: &AnyPool, filter: &LegacyFilter) -> Result<Vec<LegacySignIn>, sqlx::Error> {
    let mut sql = Sql::new(
        "SELECT l.claimed, u.unit, l.program, l.peer, l.service, l.how, l.attempts, l.first_seen, l.last_seen \
         FROM legacy_sign_ins l LEFT JOIN users u ON u.address = l.claimed WHERE 1 = 1",
    );
    if let Some(subtree) = filter.unit.as_ref().and_then(Subtree::of) {
        sql.and("(u.unit = $ OR substr(u.unit, 1, CAST($ AS INTEGER)) = $)", subtree.values());
    }
    if let Some(user) = &filter.user {
        sql.and("l.claimed = $", [Value::Text(name(user))]);
    }
    if let Some(since) = filter.since {
        sql.and("l.last_seen >= $", [Value::Number(since.0)]);
    }
    let limit = if filter.limit == 0 { 1_000 } else { i64::from(filter.limit).min(KEPT) };
    sql.push(
        " ORDER BY l.attempts DESC, l.last_seen DESC, l.claimed, l.program, l.peer LIMIT $",
        [Value::Number(limit)],
    );
    sql.fetch(pool).await?.iter().map(from_row).collect()
}

fn from_row(row: &AnyRow) -> Result<LegacySignIn, sqlx::Error> {
    let service: String = row.try_get(4)?;
    Ok(LegacySignIn {
        claimed: row.try_get(0)?,
        unit: row.try_get(1)?,
        program: row.try_get(2)?,
        from: row.try_get(3)?,
        service: Service::from_word(&service).unwrap_or(Service::Imap),
        how: row.try_get(5)?,
        attempts: u64::try_from(row.try_get::<i64, _>(6)?).unwrap_or(0),
        first: UnixTime(row.try_get(7)?),
        last: UnixTime(row.try_get(8)?),
    })
}
