//! What is cleared away once an hour: old notices, and deliveries over channels that nobody serves any more. Called by
//! `Store::trim`.

use std::time::Duration;

use sqlx::{AnyConnection, Row};

use super::{
    NoticeId,
    list::{hold, settle},
};
use crate::model::UnixTime;
use crate::store::{AuditEvent, Store, StoreError, audit};

/// Notices removed in one transaction.
const SLICE: i64 = 10_000;
/// Deliveries given up in one transaction.
const GIVEN_UP: i64 = 200;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// For so long a channel that is not in this node's config may be another's, which was started before it was changed.
const STRANGE: Duration = Duration::from_secs(3600);
/// Why a delivery is given up that no node serves.
const PROBLEM: &str = "the channel is not configured any more";

impl Store {
    /// Removes notices that are older than they are kept, or too many. What is still to be sent stays.
    pub(in crate::store) async fn trim_notices(&self, now: UnixTime) -> Result<(), StoreError> {
        let failed = |error: sqlx::Error| StoreError::sql("clearing away old notices", &self.path, error);
        let days = u32::try_from(self.settings.notice_days).unwrap_or(u32::MAX);
        let oldest = now - DAY.saturating_mul(days);
        let most = i64::try_from(self.settings.notices).unwrap_or(i64::MAX);
        loop {
            let _turn = self.turn_to_log().await;
            let mut tx = self.begin_quietly().await.map_err(failed)?;
            let removed = remove(&mut tx, oldest, most).await.map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            if !removed {
                return Ok(());
            }
        }
    }

    /// Gives up what waits for channels that are not configured any more, with audit rows: where no node has touched the
    /// channel for an hour, what has been due for as long.
    pub(in crate::store) async fn give_up_strange_deliveries(&self, now: UnixTime) -> Result<(), StoreError> {
        let failed = |error: sqlx::Error| StoreError::sql("giving up notices", &self.path, error);
        let sql = "SELECT DISTINCT channel FROM deliveries WHERE state IN ('queued', 'sending')";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await.map_err(failed)?;
        let before = now - STRANGE;
        for row in rows {
            let channel: String = row.try_get(0).map_err(failed)?;
            if self.settings.channels.contains(&channel) {
                continue;
            }
            let query =
                sqlx::query("SELECT max(changed_at) FROM deliveries WHERE channel = $1").bind(channel.clone());
            let touched: Option<i64> =
                query.fetch_one(&self.pool).await.and_then(|row| row.try_get(0)).map_err(failed)?;
            if touched.is_some_and(|at| at >= before.0) {
                continue;
            }
            loop {
                let _turn = self.turn_to_log().await;
                let mut tx = self.begin_quietly().await.map_err(failed)?;
                let more = give_up(&mut tx, &channel, before, now).await.map_err(failed)?;
                tx.commit().await.map_err(failed)?;
                if !more {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Removes a slice, the oldest first; says whether there may be more.
async fn remove(tx: &mut AnyConnection, oldest: UnixTime, most: i64) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("SELECT number FROM counters WHERE name = 'notice'");
    let end: i64 = query.fetch_one(&mut *tx).await?.try_get(0)?;
    // Clocks of different nodes differ, and one may be far back: what stands behind a young notice stays.
    let query = sqlx::query("SELECT number FROM notices WHERE made_at >= $1 ORDER BY number LIMIT 1");
    let young: Option<i64> =
        query.bind(oldest.0).fetch_optional(&mut *tx).await?.map(|row| row.try_get(0)).transpose()?;
    let last = end.saturating_sub(most).max(young.map_or(end, |young| young - 1));
    let query = sqlx::query(
        "SELECT number FROM notices WHERE number <= $1 AND state NOT IN ('queued', 'sending') ORDER BY number LIMIT $2",
    );
    let rows = query.bind(last).bind(SLICE).fetch_all(&mut *tx).await?;
    let Some(row) = rows.last() else { return Ok(false) };
    let last: i64 = row.try_get(0)?;
    for sql in [
        "DELETE FROM notices WHERE number <= $1 AND state NOT IN ('queued', 'sending')",
        "DELETE FROM deliveries WHERE notice <= $1 AND notice NOT IN (SELECT number FROM notices WHERE number <= $1)",
    ] {
        sqlx::query(sql).bind(last).execute(&mut *tx).await?;
    }
    Ok(rows.len() == SLICE as usize)
}

/// Gives up a slice of a channel's deliveries that were due before this time; says whether there may be more.
async fn give_up(
    tx: &mut AnyConnection,
    channel: &str,
    before: UnixTime,
    now: UnixTime,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(
        "SELECT notice FROM deliveries WHERE channel = $1 AND ((state = 'queued' AND next_at < $2) \
         OR (state = 'sending' AND lease_until < $2)) ORDER BY notice LIMIT $3",
    );
    let rows = query.bind(channel.to_owned()).bind(before.0).bind(GIVEN_UP).fetch_all(&mut *tx).await?;
    let mut given_up = Vec::new();
    for row in &rows {
        let id = NoticeId(row.try_get(0)?);
        hold(tx, id).await?;
        let query = sqlx::query(
            "UPDATE deliveries SET state = 'failed', problem = $1, changed_at = $2, lease = '', lease_until = 0 \
             WHERE notice = $3 AND channel = $4 AND ((state = 'queued' AND next_at < $5) \
             OR (state = 'sending' AND lease_until < $5))",
        );
        let query = query.bind(PROBLEM).bind(now.0).bind(id.0).bind(channel.to_owned()).bind(before.0);
        if query.execute(&mut *tx).await?.rows_affected() > 0 {
            settle(tx, id).await?;
            given_up.push(id);
        }
    }
    if let (Some(first), Some(last)) = (given_up.first(), given_up.last()) {
        let mut event = AuditEvent::new(now, "notice.failed", "no");
        let count = given_up.len();
        let which =
            if count == 1 { format!("notice {first}") } else { format!("{count} notices, {first} to {last}") };
        event.detail = Some(format!("{which}, by {channel}: {PROBLEM}"));
        audit::insert(tx, vec![event]).await?;
    }
    Ok(rows.len() == GIVEN_UP as usize)
}
