//! Walks the audit log's chain and says which rows are not as they were written. Called by `AuditLog::verify`.

use std::{fmt, sync::Arc};

use sqlx::{AnyConnection, AssertSqlSafe, Row, any::AnyRow};

use super::{
    AuditLog, StoreError, chain,
    event::{COLUMNS, Value, raw_values},
    trim,
};

/// Rows read at a time.
const PAGE: i64 = 2_000;
/// Faults that are told one by one.
const TOLD: usize = 100;

/// What is wrong with the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This row, or its hash, is not what was written.
    Changed {
        /// Its number.
        number: i64,
    },
    /// Rows that were written are not there.
    Missing {
        /// The first of them.
        first: i64,
        /// The last of them.
        last: i64,
    },
    /// A row with a number that no row has any more, or yet.
    Stray {
        /// Its number.
        number: i64,
    },
    /// The log begins after this row, and no row says that retention removed those before.
    BeginsLate {
        /// The number of the last row that is not there.
        last: i64,
    },
    /// This row is not the one whose hash was noted elsewhere.
    NotAsNoted {
        /// Its number.
        number: i64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { number } => write!(f, "row {number} is not what was written"),
            Self::Missing { first, last } if first == last => write!(f, "row {first} is missing"),
            Self::Missing { first, last } => write!(f, "rows {first} to {last} are missing"),
            Self::Stray { number } => write!(f, "row {number} does not belong to the log"),
            Self::BeginsLate { last } => {
                write!(f, "rows up to {last} are missing, and no row says that retention removed them")
            }
            Self::NotAsNoted { number } => write!(f, "row {number} is not the one that was noted"),
        }
    }
}

/// What a walk over the whole log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Rows whose hashes were checked.
    pub rows: u64,
    /// Rows written before the log was a chain: nobody can tell whether they are as they were.
    pub unchained: u64,
    /// The number of the last row that retention removed, or of the last unchained one; 0 if there is none.
    pub start: i64,
    /// The number of the last row written.
    pub last: i64,
    /// Its hash. Noted elsewhere together with `last`, it proves later that everything up to there is as it is now.
    pub hash: String,
    /// What is wrong, in order; at most 100 of them.
    pub faults: Vec<Fault>,
    /// How many things are wrong.
    pub fault_count: u64,
}

impl Verified {
    /// Whether every row is there and as it was written.
    pub fn is_in_order(&self) -> bool {
        self.fault_count == 0
    }

    fn wrong(&mut self, fault: Fault) {
        self.fault_count += 1;
        if self.faults.len() < TOLD {
            self.faults.push(fault);
        }
    }
}

impl AuditLog {
    /// Walks the whole log. `noted` is a number and hash that an earlier walk gave: that row has to be the same still.
    pub async fn verify(&self, noted: Option<(i64, &str)>) -> Result<Verified, StoreError> {
        let failed = |source| StoreError::sql("verifying the audit log", &self.path, source);
        // One moment's rows, while the gateway goes on writing.
        let mut tx = self.pool.begin_with(self.path.begin_reading()).await.map_err(failed)?;
        let verified = walk(&mut tx, noted).await.map_err(failed)?;
        tx.rollback().await.map_err(failed)?;
        Ok(verified)
    }
}

async fn counter(tx: &mut AnyConnection, name: &str) -> Result<(i64, String), sqlx::Error> {
    let row = sqlx::query("SELECT number, hash FROM counters WHERE name = $1").bind(name).fetch_one(tx).await?;
    Ok((row.try_get(0)?, row.try_get::<Option<String>, _>(1)?.unwrap_or_default()))
}

/// Where the walk stands.
struct Walk<'n> {
    found: Verified,
    /// The row before, and its hash.
    number: i64,
    hash: String,
    /// A row of the chain that tells of the removal that the chain begins after.
    wanted: String,
    told: bool,
    noted: Option<(i64, &'n str)>,
}

async fn walk(tx: &mut AnyConnection, noted: Option<(i64, &str)>) -> Result<Verified, sqlx::Error> {
    let (start, start_hash) = counter(tx, "audit_start").await?;
    let (last, hash) = counter(tx, "audit").await?;
    let found = Verified { start, last, hash: hash.clone(), ..Verified::default() };
    let wanted = trim::told(start, &start_hash);
    let told = start_hash == chain::NOTHING;
    let mut walk = Walk { found, number: start, hash: start_hash, wanted, told, noted };
    walk.before(tx, start).await?;
    let sql = format!("SELECT number, hash, {COLUMNS} FROM audit WHERE number > $1 ORDER BY number LIMIT $2");
    let sql: Arc<str> = sql.into();
    loop {
        let query = sqlx::query(AssertSqlSafe(Arc::clone(&sql))).bind(walk.number).bind(PAGE);
        let rows = query.fetch_all(&mut *tx).await?;
        for row in &rows {
            walk.row(row)?;
        }
        if rows.is_empty() {
            break;
        }
    }
    Ok(walk.end(last, &hash))
}

impl Walk<'_> {
    /// Rows where there should be none, and those from before the chain.
    async fn before(&mut self, tx: &mut AnyConnection, start: i64) -> Result<(), sqlx::Error> {
        let query = sqlx::query("SELECT count(*) FROM audit WHERE number <= $1 AND hash IS NULL").bind(start);
        let count: i64 = query.fetch_one(&mut *tx).await?.try_get(0)?;
        self.found.unchained = u64::try_from(count).unwrap_or(0);
        let query = "SELECT number FROM audit WHERE number <= $1 AND hash IS NOT NULL ORDER BY number LIMIT 100";
        for row in sqlx::query(query).bind(start).fetch_all(tx).await? {
            self.found.wrong(Fault::Stray { number: row.try_get(0)? });
        }
        Ok(())
    }

    fn row(&mut self, row: &AnyRow) -> Result<(), sqlx::Error> {
        let number: i64 = row.try_get(0)?;
        let hash: String = row.try_get::<Option<String>, _>(1)?.unwrap_or_default();
        let values = raw_values(row, 2)?;
        self.found.rows += 1;
        if number > self.found.last {
            self.found.wrong(Fault::Stray { number });
        } else if number == self.number + 1 {
            if chain::link(&self.hash, number, &values) != hash {
                self.found.wrong(Fault::Changed { number });
            }
        } else {
            // What this row follows is not there: its own hash has to be believed.
            self.found.wrong(Fault::Missing { first: self.number + 1, last: number - 1 });
        }
        if self.noted.is_some_and(|(noted, expected)| noted == number && expected != hash) {
            self.found.wrong(Fault::NotAsNoted { number });
        }
        self.told |= tells(&values, &self.wanted);
        (self.number, self.hash) = (number, hash);
        Ok(())
    }

    fn end(mut self, last: i64, hash: &str) -> Verified {
        if self.number < last {
            self.found.wrong(Fault::Missing { first: self.number + 1, last });
        } else if self.number == last && self.hash != hash {
            let fault = Fault::Changed { number: last };
            if self.found.faults.last() != Some(&fault) {
                self.found.wrong(fault);
            }
        }
        if !self.told {
            self.found.wrong(Fault::BeginsLate { last: self.found.start });
        }
        if let Some((number, _)) = self.noted.filter(|(number, _)| *number > last) {
            self.found.wrong(Fault::Missing { first: last + 1, last: number });
        }
        self.found
    }
}

/// Whether this row tells of the removal in these words.
fn tells(values: &[Value], words: &str) -> bool {
    let text = |value: Option<&Value>| match value {
        Some(Value::Text(Some(text))) => text.to_string(),
        _ => String::new(),
    };
    text(values.get(1)) == trim::EVENT && text(values.last()).ends_with(words)
}
