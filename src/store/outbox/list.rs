//! Notices as lists, one with its deliveries, read by its recipient, and sent anew. Called by `admin`.

use sqlx::{AnyConnection, AssertSqlSafe, Row, any::AnyRow};

use super::{Delivery, Notice, NoticeId, NoticeKind, NoticeState};
use crate::model::{UnixTime, UserId};
use crate::store::{AuditEvent, Store, StoreError, audit, rows::Failed};

/// The columns of a notice, in the order [`notice`] reads them.
pub(super) const COLUMNS: &str = "number, kind, recipient, state, body, made_by, made_at, read_at";

/// Which notices: each field that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoticeFilter {
    /// To this person.
    pub recipient: Option<UserId>,
    /// About this.
    pub kind: Option<NoticeKind>,
    /// That have come so far.
    pub state: Option<NoticeState>,
    /// Not read yet.
    pub unread: bool,
}

/// What [`Store::retry_notice`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// So many deliveries that had failed are queued again.
    Queued(u64),
    /// None of its deliveries has failed.
    NothingFailed,
    /// What failed was over channels that are not configured any more, and there is no other that lacks it.
    NoChannel,
    /// There is no such notice.
    Absent,
}

impl Store {
    /// Notices, the newest first, before number `before`, at most `limit`.
    pub async fn notices(
        &self,
        filter: &NoticeFilter,
        before: Option<NoticeId>,
        limit: usize,
    ) -> Result<Vec<Notice>, StoreError> {
        let failed = |error: Failed| error.at("reading notices", &self.path);
        let wanted = [
            ("recipient", filter.recipient.as_ref().map(UserId::as_str)),
            ("kind", filter.kind.map(NoticeKind::word)),
            ("state", filter.state.map(NoticeState::word)),
        ];
        // Built from the words above alone; what is looked for is bound.
        let mut sql = format!("SELECT {COLUMNS} FROM notices WHERE number < $1");
        let mut texts = Vec::new();
        for (column, text) in wanted {
            if let Some(text) = text {
                texts.push(text.to_owned());
                sql.push_str(&format!(" AND {column} = ${}", texts.len() + 1));
            }
        }
        if filter.unread {
            sql.push_str(" AND read_at IS NULL");
        }
        sql.push_str(&format!(" ORDER BY number DESC LIMIT ${}", texts.len() + 2));
        let query = sqlx::query(AssertSqlSafe(sql)).bind(before.map_or(i64::MAX, |id| id.0));
        let query = texts.into_iter().fold(query, |query, text| query.bind(text));
        let rows = query.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(&self.pool).await;
        rows.map_err(|error| failed(error.into()))?.iter().map(notice).collect::<Result<_, _>>().map_err(failed)
    }

    /// One notice and its deliveries, by channel.
    pub async fn notice(&self, id: NoticeId) -> Result<Option<(Notice, Vec<Delivery>)>, StoreError> {
        let failed = |error: Failed| error.at("reading a notice", &self.path);
        let sql = format!("SELECT {COLUMNS} FROM notices WHERE number = $1");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(id.0).fetch_optional(&self.pool).await;
        let Some(row) = row.map_err(|error| failed(error.into()))? else { return Ok(None) };
        let query = sqlx::query(
            "SELECT channel, state, attempts, next_at, changed_at, problem FROM deliveries WHERE notice = $1 \
             ORDER BY channel",
        );
        let rows = query.bind(id.0).fetch_all(&self.pool).await.map_err(|error| failed(error.into()))?;
        let deliveries: Result<Vec<_>, Failed> = rows.iter().map(delivery).collect();
        Ok(Some((notice(&row).map_err(failed)?, deliveries.map_err(failed)?)))
    }

    /// Notes that a person has read a notice to them, with an audit row; says whether there is such a notice. Read once,
    /// it keeps its first time.
    pub async fn read_notice(&self, id: NoticeId, reader: &UserId, now: UnixTime) -> Result<bool, StoreError> {
        let failed = |error: sqlx::Error| StoreError::sql("noting that a notice was read", &self.path, error);
        let _turn = self.turn_to_log().await;
        let mut tx = self.begin_quietly().await.map_err(failed)?;
        let query =
            sqlx::query("UPDATE notices SET read_at = $1 WHERE number = $2 AND recipient = $3 AND read_at IS NULL");
        let done = query.bind(now.0).bind(id.0).bind(reader.as_str()).execute(&mut *tx).await.map_err(failed)?;
        if done.rows_affected() == 0 {
            let query = sqlx::query("SELECT 1 FROM notices WHERE number = $1 AND recipient = $2");
            let found = query.bind(id.0).bind(reader.as_str()).fetch_optional(&mut *tx).await.map_err(failed)?;
            tx.rollback().await.map_err(failed)?;
            return Ok(found.is_some());
        }
        let mut event = AuditEvent::new(now, "notice.read", "done");
        event.user = Some(reader.to_string());
        event.detail = Some(format!("by {reader}: notice {id}"));
        audit::insert(&mut tx, vec![event]).await.map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(true)
    }

    /// Queues a notice of which a delivery failed again, over each channel of today that has not taken it, as if it had
    /// never been tried, with an audit row. What was sent stays so; failures of channels that are not configured any more
    /// are forgotten.
    pub async fn retry_notice(&self, id: NoticeId, by: &str, now: UnixTime) -> Result<Retried, StoreError> {
        let failed = |error: sqlx::Error| StoreError::sql("queueing a notice again", &self.path, error);
        let outcome = {
            let _turn = self.turn_to_log().await;
            let mut tx = self.begin_quietly().await.map_err(failed)?;
            let outcome = retry(&mut tx, id, &self.settings.channels, by, now).await.map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            outcome
        };
        self.posted();
        Ok(outcome)
    }
}

async fn retry(
    tx: &mut AnyConnection,
    id: NoticeId,
    channels: &[String],
    by: &str,
    now: UnixTime,
) -> Result<Retried, sqlx::Error> {
    hold(tx, id).await?;
    let query = sqlx::query("SELECT recipient FROM notices WHERE number = $1").bind(id.0);
    let Some(row) = query.fetch_optional(&mut *tx).await? else { return Ok(Retried::Absent) };
    let query = sqlx::query("SELECT channel FROM deliveries WHERE notice = $1 AND state = 'failed'").bind(id.0);
    let failed = query.fetch_all(&mut *tx).await?;
    let failed = failed.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    if failed.is_empty() {
        return Ok(Retried::NothingFailed);
    }
    let mut count = 0;
    for channel in channels {
        let query = sqlx::query(
            "INSERT INTO deliveries (notice, channel, state, attempts, next_at, lease, lease_until, changed_at) \
             VALUES ($1, $2, 'queued', 0, $3, '', 0, $3) ON CONFLICT (notice, channel) DO UPDATE \
             SET state = 'queued', attempts = 0, next_at = $3, changed_at = $3 WHERE deliveries.state = 'failed'",
        );
        count += query.bind(id.0).bind(channel.clone()).bind(now.0).execute(&mut *tx).await?.rows_affected();
    }
    if count == 0 {
        return Ok(Retried::NoChannel);
    }
    for gone in failed.into_iter().filter(|channel| !channels.contains(channel)) {
        let query = sqlx::query("DELETE FROM deliveries WHERE notice = $1 AND channel = $2 AND state = 'failed'");
        query.bind(id.0).bind(gone).execute(&mut *tx).await?;
    }
    settle(tx, id).await?;
    let mut event = AuditEvent::new(now, "notice.retried", "done");
    event.user = row.try_get(0)?;
    event.detail = Some(format!("by {by}: notice {id}, {count} deliveries"));
    audit::insert(tx, vec![event]).await?;
    Ok(Retried::Queued(count))
}

/// Waits for whoever else changes this notice or its deliveries: what is read from here on is what they left.
pub(super) async fn hold(tx: &mut AnyConnection, id: NoticeId) -> Result<(), sqlx::Error> {
    let query = sqlx::query("UPDATE notices SET state = state WHERE number = $1").bind(id.0);
    query.execute(tx).await.map(drop)
}

/// Brings a notice's state up to its deliveries. [`hold`] comes before the first of them is changed.
pub(super) async fn settle(tx: &mut AnyConnection, id: NoticeId) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "UPDATE notices SET state = CASE \
         WHEN EXISTS (SELECT 1 FROM deliveries WHERE notice = $1 AND state = 'sending') THEN 'sending' \
         WHEN EXISTS (SELECT 1 FROM deliveries WHERE notice = $1 AND state = 'queued') THEN 'queued' \
         WHEN EXISTS (SELECT 1 FROM deliveries WHERE notice = $1 AND state = 'failed') THEN 'failed' \
         WHEN EXISTS (SELECT 1 FROM deliveries WHERE notice = $1) THEN 'sent' ELSE 'console' END WHERE number = $1",
    );
    query.bind(id.0).execute(tx).await.map(drop)
}

/// The columns of [`COLUMNS`].
pub(super) fn notice(row: &AnyRow) -> Result<Notice, Failed> {
    let bad = |what: &str| Failed::Bad(format!("a notice has the {what} of no version of ours"));
    Ok(Notice {
        id: NoticeId(row.try_get(0)?),
        kind: NoticeKind::from_word(row.try_get(1)?).ok_or_else(|| bad("kind"))?,
        recipient: UserId::parse(row.try_get(2)?)?,
        state: NoticeState::from_word(row.try_get(3)?).ok_or_else(|| bad("state"))?,
        body: serde_json::from_str(row.try_get(4)?).map_err(|_| bad("body"))?,
        by: row.try_get(5)?,
        at: UnixTime(row.try_get(6)?),
        read_at: row.try_get::<Option<i64>, _>(7)?.map(UnixTime),
    })
}

/// Columns `channel, state, attempts, next_at, changed_at, problem`.
fn delivery(row: &AnyRow) -> Result<Delivery, Failed> {
    let bad = || Failed::Bad("a delivery has the state of no version of ours".to_owned());
    Ok(Delivery {
        channel: row.try_get(0)?,
        state: NoticeState::from_word(row.try_get(1)?).ok_or_else(bad)?,
        attempts: row.try_get(2)?,
        next_at: UnixTime(row.try_get(3)?),
        changed_at: UnixTime(row.try_get(4)?),
        problem: row.try_get(5)?,
    })
}
