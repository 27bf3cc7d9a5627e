//! Which homes of mail the database names, and where: whoever knows the config tells what of it is not there. Called by
//! `serve`.

use sqlx::{AnyConnection, Row};

use super::{Store, StoreError, edit::put, rows::Failed};
use crate::model::{MailHome, Place, UnitPath, UserId};

/// A home of mail that units or users say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedHome {
    /// Where mail is.
    pub home: MailHome,
    /// The first who says so.
    pub place: Place,
    /// How many more do.
    pub others: u64,
    /// Whether these rows are the policy file's.
    pub of_file: bool,
}

impl Store {
    /// Every home that the database names; units and users apart, and those of the policy file.
    pub async fn named_homes(&self) -> Result<Vec<NamedHome>, StoreError> {
        let read = async { named(&mut *self.pool.acquire().await?).await };
        read.await.map_err(|error: Failed| error.at("reading where mail is", &self.path))
    }
}

/// The same over one connection.
pub(super) async fn named(c: &mut AnyConnection) -> Result<Vec<NamedHome>, Failed> {
    type Kind = (&'static str, fn(&str) -> Result<Place, crate::model::BadName>);
    let kinds: [Kind; 2] = [
        (
            "SELECT mail, managed_by, min(path), count(*) FROM units WHERE mail IS NOT NULL GROUP BY mail, managed_by \
             ORDER BY mail, managed_by",
            |path| UnitPath::parse(path).map(Place::Unit),
        ),
        (
            "SELECT mail, managed_by, min(address), count(*) FROM users WHERE mail IS NOT NULL \
             GROUP BY mail, managed_by ORDER BY mail, managed_by",
            |address| UserId::parse(address).map(Place::User),
        ),
    ];
    let mut homes = Vec::new();
    for (sql, place) in kinds {
        for row in sqlx::query(sql).fetch_all(&mut *c).await? {
            homes.push(NamedHome {
                home: MailHome::parse(row.try_get(0)?)?,
                place: place(row.try_get(2)?)?,
                others: u64::try_from(row.try_get::<i64, _>(3)? - 1).unwrap_or(0),
                of_file: row.try_get::<String, _>(1)? == put::FILE,
            });
        }
    }
    Ok(homes)
}
