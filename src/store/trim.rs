//! What is kept no longer. Of the audit log the oldest rows go, and the log itself says so. What is left can still be verified:
//! the chain then begins after the last row removed, whose hash is kept (`audit_start` of the counters) and told in a row of
//! the chain. Run by `serve`, apart from everything that must not wait for it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use sqlx::{AnyConnection, Row};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{AuditEvent, Settings, Store, StoreError, audit, feed, nodes, seen::patiently};
use crate::model::UnixTime;

/// How often it is looked for.
const EVERY: Duration = Duration::from_secs(3600);

/// Rows removed in one transaction, which others who write the log wait for.
const SLICE: i64 = 50_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The event of the row that tells of a removal.
pub(super) const EVENT: &str = "audit.trimmed";

/// How that row's detail ends: the chain goes on after this row with this hash.
pub(super) fn told(last: i64, hash: &str) -> String {
    format!("up to number {last} removed; the last one's hash is {hash}")
}

impl Store {
    /// Clears away from time to time what is kept no longer, until `stop`; whatever is under way then is undone.
    pub async fn clear_away(self: Arc<Self>, stop: CancellationToken) {
        let clearing = async {
            if let Err(error) = self.give_up_strange_deliveries(SystemTime::now().into()).await {
                tracing::warn!(%error, "notices of channels that are not configured any more wait for another hour");
            }
            loop {
                sleep(EVERY).await;
                if let Err(error) = self.trim(SystemTime::now().into()).await {
                    tracing::warn!(%error, "what is kept no longer stays for another hour");
                }
            }
        };
        stop.run_until_cancelled(clearing).await;
    }

    /// Clears away feed entries that every process has long read, and rows that are kept no longer.
    pub(super) async fn trim(&self, now: UnixTime) -> Result<(), StoreError> {
        {
            let _turn = self.turn.lock().await;
            let feed = sqlx::query("DELETE FROM changes WHERE number <= $1").bind(self.number() - feed::KEPT);
            let requests = sqlx::query("DELETE FROM session_requests WHERE at < $1").bind((now - nodes::KEPT).0);
            let answers = "DELETE FROM session_answers WHERE request NOT IN (SELECT number FROM session_requests)";
            for query in [feed, requests, sqlx::query(answers)] {
                let done = patiently(query.execute(&self.pool)).await;
                done.map_err(|source| StoreError::sql("clearing away old rows", &self.path, source))?;
            }
        }
        self.give_up_strange_deliveries(now).await?;
        self.trim_notices(now).await?;
        self.trim_traffic(now).await?;
        self.trim_audit(now).await
    }

    /// Removes the audit rows that are too many or too old.
    pub(super) async fn trim_audit(&self, now: UnixTime) -> Result<(), StoreError> {
        let failed = |source| StoreError::sql("clearing away old audit rows", &self.path, source);
        loop {
            let _turn = self.turn_to_log().await;
            let mut tx = self.pool.begin_with(self.path.begin_writing()).await.map_err(failed)?;
            if self.path.is_server() {
                feed::lock(&mut tx, "audit").await.map_err(failed)?;
            }
            let removed = remove(&mut tx, &self.settings, now).await.map_err(failed)?;
            if removed == 0 {
                return tx.rollback().await.map_err(failed);
            }
            tx.commit().await.map_err(failed)?;
        }
    }
}

/// Removes a slice, and returns how many rows it had.
async fn remove(tx: &mut AnyConnection, settings: &Settings, now: UnixTime) -> Result<u64, sqlx::Error> {
    let Some(last) = last_to_go(tx, settings, now).await? else { return Ok(0) };
    // Where a row is missing already, the chain goes on after the one before it, so that the gap still shows.
    let query = sqlx::query("SELECT number, hash FROM audit WHERE number <= $1 ORDER BY number DESC LIMIT 1");
    let row = query.bind(last).fetch_one(&mut *tx).await?;
    let (last, hash): (i64, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    let query = sqlx::query("DELETE FROM audit WHERE number <= $1").bind(last);
    let removed = query.execute(&mut *tx).await?.rows_affected();
    if let Some(hash) = &hash {
        let query = sqlx::query("UPDATE counters SET number = $1, hash = $2 WHERE name = 'audit_start'");
        query.bind(last).bind(hash).execute(&mut *tx).await?;
    }
    let mut event = AuditEvent::new(now, EVENT, "done");
    event.detail = Some(format!("by retention: {removed} rows {}", told(last, hash.as_deref().unwrap_or("none"))));
    audit::insert(tx, vec![event]).await?;
    Ok(removed)
}

/// The number of the last row to go now.
async fn last_to_go(
    tx: &mut AnyConnection,
    settings: &Settings,
    now: UnixTime,
) -> Result<Option<i64>, sqlx::Error> {
    let row = sqlx::query("SELECT number FROM audit ORDER BY number LIMIT 1").fetch_optional(&mut *tx).await?;
    let Some(row) = row else { return Ok(None) };
    let first: i64 = row.try_get(0)?;
    let query = sqlx::query("SELECT number FROM counters WHERE name = 'audit'");
    let end: i64 = query.fetch_one(&mut *tx).await?.try_get(0)?;

    let most = i64::try_from(settings.audit_rows).unwrap_or(i64::MAX);
    let mut last = first - 1;
    if end - first >= most {
        // The row that tells of it is one of those that are kept.
        last = end + 1 - most;
    }
    if settings.audit_days > 0 {
        let days = u32::try_from(settings.audit_days).unwrap_or(u32::MAX);
        let oldest = now - DAY.saturating_mul(days);
        // Rows of different nodes are not quite in the order of their times: what stands behind a young row stays.
        let query = sqlx::query("SELECT number FROM audit WHERE time >= $1 ORDER BY number LIMIT 1");
        let young: Option<i64> =
            query.bind(oldest.0).fetch_optional(tx).await?.map(|row| row.try_get(0)).transpose()?;
        last = last.max(young.map_or(end, |young| young - 1));
    }
    Ok((last >= first).then_some(last.min(first + SLICE - 1)))
}
