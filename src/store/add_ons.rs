//! Versions of the Thunderbird add-ons: an add-on whose content differs from that of the last one gets the next number, the
//! same on every node. Called by `admin` and `cli`.

use sqlx::{AnyPool, Row};

use super::{AuditLog, Location, Store, StoreError};

const DOING: &str = "numbering a Thunderbird add-on";

impl Store {
    /// The version of the add-on by this id whose content has this digest: the one it had before, or the next.
    pub async fn add_on_version(&self, id: &str, digest: &str) -> Result<i64, StoreError> {
        // Anybody may ask: what is known already takes no turn from those who write.
        if let Some(version) = known(&self.pool, &self.path, id, digest).await? {
            return Ok(version);
        }
        let _turn = self.turn_to_log().await;
        number(&self.pool, &self.path, id, digest).await
    }
}

impl AuditLog {
    /// As [`Store::add_on_version`], beside a running gateway.
    pub async fn add_on_version(&self, id: &str, digest: &str) -> Result<i64, StoreError> {
        number(&self.pool, &self.path, id, digest).await
    }
}

async fn known(pool: &AnyPool, path: &Location, id: &str, digest: &str) -> Result<Option<i64>, StoreError> {
    let query = sqlx::query("SELECT version FROM thunderbird_add_ons WHERE id = $1 AND digest = $2");
    let row = query.bind(id).bind(digest).fetch_optional(pool).await;
    let version = row.and_then(|row| row.map(|row| row.try_get(0)).transpose());
    version.map_err(|source| StoreError::sql(DOING, path, source))
}

async fn number(pool: &AnyPool, path: &Location, id: &str, digest: &str) -> Result<i64, StoreError> {
    if let Some(version) = known(pool, path, id, digest).await? {
        return Ok(version);
    }
    let failed = |source| StoreError::sql(DOING, path, source);
    let mut tx = pool.begin_with(path.begin_writing()).await.map_err(failed)?;
    // Where two nodes get here at once, the second finds its digest there and changes nothing.
    let put = sqlx::query(
        "INSERT INTO thunderbird_add_ons (id, digest, version) VALUES ($1, $2, 1) ON CONFLICT (id) DO UPDATE SET \
         version = thunderbird_add_ons.version + CASE WHEN thunderbird_add_ons.digest = $2 THEN 0 ELSE 1 END, \
         digest = $2 RETURNING version",
    );
    let row = put.bind(id).bind(digest).fetch_one(&mut *tx).await.map_err(failed)?;
    let version = row.try_get(0).map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(version)
}
