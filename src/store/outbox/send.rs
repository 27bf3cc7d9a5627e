//! Deliveries as `notify` works on them: taken by one node at a time, for the time of a lease, and settled by what came of
//! it.

use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::{
    Notice, NoticeId,
    list::{COLUMNS, hold, notice, settle},
};
use crate::model::UnixTime;
use crate::store::{AuditEvent, Store, StoreError, audit, rows::Failed};

/// Tries of a notice that cannot be read. A newer version that runs beside this one may be able to.
const UNREADABLE: i64 = 10;
/// From one of those tries to the next.
const UNREADABLE_WAIT: Duration = Duration::from_secs(600);

/// The right to send one delivery, until it runs out or is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    notice: NoticeId,
    channel: String,
    holder: String,
}

/// A delivery that is this node's to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The right to it.
    pub lease: Lease,
    /// What is to be sent.
    pub notice: Notice,
    /// Which try this is, the first is 1.
    pub attempt: i64,
    /// It was being sent before and nobody knows what came of it: the receiver may have it already.
    pub again: bool,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The other side has it.
    Sent,
    /// To be tried again at this time.
    Later {
        /// When.
        at: UnixTime,
        /// What went wrong.
        problem: String,
    },
    /// Not to be tried any more.
    Failed {
        /// What went wrong.
        problem: String,
    },
    /// It was not tried at all: it goes back as it was.
    Untouched,
}

impl Store {
    /// Takes up to `most` deliveries of this channel whose time has come, each for as long as `lease` says. No other node
    /// gets them meanwhile. Those whose lease ran out while somebody was sending them come again.
    pub async fn take_deliveries(
        &self,
        channel: &str,
        most: u32,
        lease: Duration,
        now: UnixTime,
    ) -> Result<Vec<Taken>, StoreError> {
        let failed = |error: Failed| error.at("taking notices to send", &self.path);
        let due = self.due(channel, most, now).await.map_err(|error| failed(error.into()))?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let _turn = self.turn_to_log().await;
        let mut tx = self.begin_quietly().await.map_err(|error| failed(error.into()))?;
        let mut taken = Vec::new();
        for id in due {
            let holder = (self.node().as_str(), now + lease);
            if let Some(found) = take(&mut tx, (id, channel), holder, now).await.map_err(failed)? {
                taken.push(found);
            }
        }
        tx.commit().await.map_err(|error| failed(error.into()))?;
        Ok(taken)
    }

    /// Looked at without a lock: when there is nothing, this is all that is done.
    async fn due(&self, channel: &str, most: u32, now: UnixTime) -> Result<Vec<NoticeId>, sqlx::Error> {
        let mut due = Vec::new();
        for sql in [
            "SELECT notice FROM deliveries WHERE channel = $1 AND state = 'sending' AND lease_until < $2 \
             ORDER BY notice LIMIT $3",
            "SELECT notice FROM deliveries WHERE channel = $1 AND state = 'queued' AND next_at <= $2 \
             ORDER BY next_at, notice LIMIT $3",
        ] {
            let query = sqlx::query(sql).bind(channel.to_owned()).bind(now.0).bind(i64::from(most));
            for row in query.fetch_all(&self.pool).await? {
                due.push(NoticeId(row.try_get(0)?));
            }
        }
        // In one order on every node: two that took the same rows in different orders would wait for each other.
        due.truncate(most as usize);
        due.sort_unstable();
        Ok(due)
    }

    /// Notes what came of a try; a delivery that is over gets an audit row. False where the lease had run out and somebody
    /// else has taken it since: then nothing is noted.
    pub async fn settle_delivery(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let failed = |error: sqlx::Error| StoreError::sql("noting what came of a notice", &self.path, error);
        let _turn = self.turn_to_log().await;
        let mut tx = self.begin_quietly().await.map_err(failed)?;
        let ours = note(&mut tx, lease, attempt, now).await.map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(ours)
    }

    /// How many deliveries of this channel wait or are under way.
    pub async fn deliveries_waiting(&self, channel: &str) -> Result<i64, StoreError> {
        let failed = |error: sqlx::Error| StoreError::sql("counting notices", &self.path, error);
        let sql = "SELECT count(*) FROM deliveries WHERE channel = $1 AND state IN ('queued', 'sending')";
        let row = sqlx::query(sql).bind(channel.to_owned()).fetch_one(&self.pool).await.map_err(failed)?;
        row.try_get(0).map_err(failed)
    }

    /// Waits until this process has written notices. Others' are only found by looking. Cancel-safe.
    pub async fn notices_posted(&self) {
        self.outbox.notified().await;
    }
}

/// Whoever holds the notice's row decides, so two nodes never both get one.
async fn take(
    tx: &mut AnyConnection,
    (id, channel): (NoticeId, &str),
    (node, until): (&str, UnixTime),
    now: UnixTime,
) -> Result<Option<Taken>, Failed> {
    hold(tx, id).await?;
    let query = sqlx::query("SELECT state, attempts FROM deliveries WHERE notice = $1 AND channel = $2");
    let Some(row) = query.bind(id.0).bind(channel.to_owned()).fetch_optional(&mut *tx).await? else {
        return Ok(None);
    };
    let (state, attempts): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
    let holder = format!("{node}.{}", attempts + 1);
    let query = sqlx::query(
        "UPDATE deliveries SET state = 'sending', attempts = attempts + 1, lease = $1, lease_until = $2, \
         changed_at = $3 WHERE notice = $4 AND channel = $5 AND state = $6 AND attempts = $7 \
         AND ((state = 'queued' AND next_at <= $3) OR (state = 'sending' AND lease_until < $3))",
    );
    let query = query.bind(holder.clone()).bind(until.0).bind(now.0).bind(id.0).bind(channel.to_owned());
    if query.bind(state.clone()).bind(attempts).execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(None);
    }
    settle(tx, id).await?;
    let sql = format!("SELECT {COLUMNS} FROM notices WHERE number = $1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id.0).fetch_one(&mut *tx).await?;
    let (lease, attempt) = (Lease { notice: id, channel: channel.to_owned(), holder }, attempts + 1);
    let problem = match notice(&row) {
        Ok(notice) => return Ok(Some(Taken { lease, notice, attempt, again: state == "sending" })),
        Err(Failed::Bad(problem)) => problem,
        Err(error) => return Err(error),
    };
    // One bad row must not hold up those behind it.
    let at = now + UNREADABLE_WAIT;
    let outcome = if attempt < UNREADABLE { Attempt::Later { at, problem } } else { Attempt::Failed { problem } };
    note(tx, &lease, &outcome, now).await?;
    Ok(None)
}

async fn note(
    tx: &mut AnyConnection,
    lease: &Lease,
    attempt: &Attempt,
    now: UnixTime,
) -> Result<bool, sqlx::Error> {
    let (state, next, problem, tried) = match attempt {
        Attempt::Sent => ("sent", now, None, 0),
        Attempt::Later { at, problem } => ("queued", *at, Some(problem), 0),
        Attempt::Failed { problem } => ("failed", now, Some(problem), 0),
        Attempt::Untouched => ("queued", now, None, 1),
    };
    hold(tx, lease.notice).await?;
    let query = sqlx::query(
        "UPDATE deliveries SET state = $1, next_at = $2, problem = $3, attempts = attempts - $4, changed_at = $5, \
         lease = '', lease_until = 0 WHERE notice = $6 AND channel = $7 AND lease = $8 AND state = 'sending'",
    );
    let query = query.bind(state).bind(next.0).bind(problem.map(|text| super::short(text))).bind(i64::from(tried));
    let query = query.bind(now.0).bind(lease.notice.0).bind(lease.channel.clone()).bind(lease.holder.clone());
    if query.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(false);
    }
    settle(tx, lease.notice).await?;
    let (event, outcome) = match attempt {
        Attempt::Sent => ("notice.sent", "done"),
        Attempt::Failed { .. } => ("notice.failed", "no"),
        Attempt::Later { .. } | Attempt::Untouched => return Ok(true),
    };
    let query = sqlx::query("SELECT recipient FROM notices WHERE number = $1").bind(lease.notice.0);
    let recipient: String = query.fetch_one(&mut *tx).await?.try_get(0)?;
    let mut event = AuditEvent::new(now, event, outcome);
    event.user = Some(recipient);
    let why = problem.map(|problem| format!(": {problem}")).unwrap_or_default();
    event.detail = Some(format!("notice {} by {}{why}", lease.notice, lease.channel));
    audit::insert(tx, vec![event]).await?;
    Ok(true)
}
