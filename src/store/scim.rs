//! Users and groups as identity providers see them: under an id of ours that never changes and is never used again, with
//! what the provider said of them. Called by `admin`; `edit::provision` writes.
//!
//! Rows that others made are seen too: each gets its id the first time that it is shown.

use sqlx::{AnyConnection, AssertSqlSafe, Row, any::AnyRow};

use super::{
    Store, StoreError,
    edit::{below, fresh_id},
    feed::Write,
    rows::{self, Failed},
};
use crate::model::{GroupId, UnitPath, UnixTime, UserId};

/// Most rows on a page.
const MOST: u32 = 1_000;

/// The id of a user or group towards identity providers: opaque, the same for as long as the user or group is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScimId(String);

impl ScimId {
    /// Whatever a provider names; there may be none such.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A user, as providers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScimUser {
    /// The id.
    pub id: ScimId,
    /// The address.
    pub address: UserId,
    /// The unit the user is in.
    pub unit: UnitPath,
    /// Whether nothing is allowed any more.
    pub suspended: bool,
    /// The number of the row's last change, whoever made it.
    pub version: i64,
    /// What the provider said, as JSON.
    pub document: String,
    /// When providers first saw it.
    pub made_at: UnixTime,
    /// When it was last changed, as far as the change feed reaches back; else when a provider last changed it.
    pub changed_at: UnixTime,
}

/// A group, as providers see it; [`Store::scim_members`] tells its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScimGroup {
    /// The id.
    pub id: ScimId,
    /// The name.
    pub name: GroupId,
    /// The number of the last change of the row or its members.
    pub version: i64,
    /// What the provider said, as JSON.
    pub document: String,
    /// When providers first saw it.
    pub made_at: UnixTime,
    /// When it was last changed.
    pub changed_at: UnixTime,
}

/// Rows that are asked for by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScimKeys<'k> {
    /// By id.
    Ids(Vec<&'k str>),
    /// By address, or by name.
    Names(Vec<&'k str>),
    /// By the provider's own id.
    ExternalIds(Vec<&'k str>),
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScimPage<'p> {
    /// After this name in the order asked for; none: from the start.
    pub after: Option<&'p str>,
    /// So many more are passed over.
    pub skip: u64,
    /// So many, 1,000 at most.
    pub limit: u32,
    /// From the last name to the first.
    pub descending: bool,
}

/// One of the two kinds of rows: its table, what names it, and what is read of it.
#[derive(Clone, Copy)]
struct Kind {
    table: &'static str,
    name: &'static str,
    scim: &'static str,
    /// Columns after the common seven.
    more: &'static str,
}

const USERS: Kind = Kind { table: "users", name: "address", scim: "scim_users", more: ", t.unit, t.suspended" };
const GROUPS: Kind = Kind { table: "user_groups", name: "name", scim: "scim_groups", more: "" };

impl Kind {
    /// `SELECT` up to `WHERE`.
    fn select(self) -> String {
        let Self { table, name, scim, more } = self;
        format!(
            "SELECT t.{name}, t.version, s.id, s.document, s.made_at, s.changed_at, c.at{more} FROM {table} t \
             LEFT JOIN {scim} s ON s.{name} = t.{name} LEFT JOIN changes c ON c.number = t.version WHERE "
        )
    }
}

impl Store {
    /// The users of these keys that are in the unit `top` or below it.
    pub async fn scim_users_of(&self, top: &UnitPath, keys: &ScimKeys<'_>) -> Result<Vec<ScimUser>, StoreError> {
        let rows = self.scim_found(USERS, keys).await?;
        let users = self.scim_read(&rows, user)?;
        Ok(users.into_iter().filter(|user| user.unit.is_within(top)).collect())
    }

    /// A part of the users in the unit `top` or below it, by address.
    pub async fn scim_users(&self, top: &UnitPath, page: ScimPage<'_>) -> Result<Vec<ScimUser>, StoreError> {
        let rows = self.scim_page(USERS, Some(top), page).await?;
        self.scim_read(&rows, user)
    }

    /// How many users there are in the unit `top` and below it.
    pub async fn scim_users_count(&self, top: &UnitPath) -> Result<u64, StoreError> {
        self.scim_count(USERS, Some(top)).await
    }

    /// The groups of these keys.
    pub async fn scim_groups_of(&self, keys: &ScimKeys<'_>) -> Result<Vec<ScimGroup>, StoreError> {
        let rows = self.scim_found(GROUPS, keys).await?;
        self.scim_read(&rows, group)
    }

    /// A part of the groups, by name.
    pub async fn scim_groups(&self, page: ScimPage<'_>) -> Result<Vec<ScimGroup>, StoreError> {
        let rows = self.scim_page(GROUPS, None, page).await?;
        self.scim_read(&rows, group)
    }

    /// How many groups there are.
    pub async fn scim_groups_count(&self) -> Result<u64, StoreError> {
        self.scim_count(GROUPS, None).await
    }

    /// The members of a group with their ids, by address; at most `limit`.
    pub async fn scim_members(&self, group: &GroupId, limit: u32) -> Result<Vec<(ScimId, UserId)>, StoreError> {
        let sql = "SELECT m.address, s.id FROM group_members m JOIN users u ON u.address = m.address \
                   LEFT JOIN scim_users s ON s.address = m.address WHERE m.name = $1 ORDER BY m.address LIMIT $2";
        let mut is_second = false;
        loop {
            let mut c = self.scim_reader().await?;
            let query = sqlx::query(sql).bind(group.as_str()).bind(i64::from(limit));
            let rows = query.fetch_all(&mut *c).await.map_err(|error| self.scim_unread(error.into()))?;
            drop(c);
            let read = |row: &AnyRow| -> Result<_, Failed> {
                Ok((row.try_get::<Option<String>, _>(1)?, row.try_get::<String, _>(0)?))
            };
            let found = rows.iter().map(read).collect::<Result<Vec<_>, _>>();
            let found = found.map_err(|error| self.scim_unread(error))?;
            let bare: Vec<String> =
                found.iter().filter(|(id, _)| id.is_none()).map(|(_, address)| address.clone()).collect();
            if bare.is_empty() || is_second {
                let named = found.into_iter().filter_map(|(id, address)| Some((ScimId(id?), address)));
                let member = |(id, address): (_, String)| Ok((id, UserId::parse(&address)?));
                let members: Result<Vec<_>, Failed> = named.map(member).collect();
                return members.map_err(|error| self.scim_unread(error));
            }
            self.scim_name(USERS, &bare).await?;
            is_second = true;
        }
    }

    /// Those of these users, by their ids, who are in a group.
    pub async fn scim_members_among(
        &self,
        group: &GroupId,
        ids: &[&str],
    ) -> Result<Vec<(ScimId, UserId)>, StoreError> {
        let mut values = vec![group.to_string()];
        values.extend(possible(ids).map(str::to_owned));
        if values.len() == 1 {
            return Ok(Vec::new());
        }
        let places: Vec<String> = (2..=values.len()).map(|place| format!("${place}")).collect();
        let sql = format!(
            "SELECT s.id, s.address FROM scim_users s JOIN group_members m ON m.address = s.address \
             WHERE m.name = $1 AND s.id IN ({})",
            places.join(", ")
        );
        let mut c = self.scim_reader().await?;
        let rows = Fetch::All { sql, values }.rows(&mut c).await.map_err(|error| self.scim_unread(error))?;
        let read =
            |row: &AnyRow| -> Result<_, Failed> { Ok((ScimId(row.try_get(0)?), UserId::parse(row.try_get(1)?)?)) };
        self.scim_read(&rows, read)
    }

    /// The groups that have one of these users, by the users' ids.
    pub async fn scim_groups_with(&self, ids: &[&str]) -> Result<Vec<ScimGroup>, StoreError> {
        let sql = "SELECT DISTINCT m.name FROM group_members m JOIN scim_users s ON s.address = m.address \
                   WHERE s.id IN ";
        let mut c = self.scim_reader().await?;
        let found = rows::some(&mut c, sql, possible(ids)).await;
        drop(c);
        let names: Result<Vec<String>, sqlx::Error> =
            found.map_err(|error| self.scim_unread(error))?.iter().map(|row| row.try_get(0)).collect();
        let mut names = names.map_err(|error| self.scim_unread(error.into()))?;
        names.sort();
        names.dedup();
        self.scim_groups_of(&ScimKeys::Names(names.iter().map(String::as_str).collect())).await
    }

    /// The users with these ids; an id that is nobody's is left out.
    pub async fn scim_addresses(&self, ids: &[&str]) -> Result<Vec<(ScimId, UserId)>, StoreError> {
        let mut c = self.scim_reader().await?;
        let sql = "SELECT id, address FROM scim_users WHERE id IN ";
        let rows = rows::some(&mut c, sql, possible(ids)).await.map_err(|error| self.scim_unread(error))?;
        let read =
            |row: &AnyRow| -> Result<_, Failed> { Ok((ScimId(row.try_get(0)?), UserId::parse(row.try_get(1)?)?)) };
        self.scim_read(&rows, read)
    }

    async fn scim_found(&self, kind: Kind, keys: &ScimKeys<'_>) -> Result<Vec<AnyRow>, StoreError> {
        let (column, texts) = match keys {
            ScimKeys::Ids(texts) => ("s.id".to_owned(), texts),
            ScimKeys::Names(texts) => (format!("t.{}", kind.name), texts),
            ScimKeys::ExternalIds(texts) => ("s.external_id".to_owned(), texts),
        };
        let sql = format!("{}{column} IN ", kind.select());
        self.scim_named(kind, &Fetch::Some { sql, keys: texts }).await
    }

    async fn scim_page(
        &self,
        kind: Kind,
        top: Option<&UnitPath>,
        page: ScimPage<'_>,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let (order, compares) = if page.descending { (" DESC", "<") } else { ("", ">") };
        let mut sql = format!("{}t.{} {compares} $1", kind.select(), kind.name);
        let begin = self.scim_within(&mut sql, top);
        let limit = page.limit.clamp(1, MOST);
        sql.push_str(&format!(" ORDER BY t.{}{order} LIMIT {limit} OFFSET {}", kind.name, page.skip));
        // No name has a character above this one.
        let first = if page.descending { "\u{10ffff}" } else { "" };
        let mut values = vec![page.after.unwrap_or(first).to_owned()];
        values.extend(begin.into_iter().flat_map(|(top, begin)| [top, begin]));
        self.scim_named(kind, &Fetch::All { sql, values }).await
    }

    async fn scim_count(&self, kind: Kind, top: Option<&UnitPath>) -> Result<u64, StoreError> {
        let mut sql = format!("SELECT count(*) FROM {} t WHERE t.{} > $1", kind.table, kind.name);
        let begin = self.scim_within(&mut sql, top);
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind("");
        if let Some((top, begin)) = &begin {
            query = query.bind(top).bind(begin);
        }
        let mut c = self.scim_reader().await?;
        let row = query.fetch_one(&mut *c).await.map_err(|error| self.scim_unread(error.into()))?;
        let count: i64 = row.try_get(0).map_err(|error: sqlx::Error| self.scim_unread(error.into()))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Cuts a statement to a subtree; what is to be bound to its places 2 and 3.
    fn scim_within(&self, sql: &mut String, top: Option<&UnitPath>) -> Option<(String, String)> {
        let top = top.filter(|top| top.parent().is_some())?;
        let (length, begin) = below(top);
        sql.push_str(&format!(" AND (t.unit = $2 OR substr(t.unit, 1, CAST({length} AS INTEGER)) = $3)"));
        Some((top.to_string(), begin))
    }

    /// Rows of [`Kind::select`]; those without an id get one, and are read once more.
    async fn scim_named(&self, kind: Kind, fetch: &Fetch<'_>) -> Result<Vec<AnyRow>, StoreError> {
        let mut c = self.scim_reader().await?;
        let found = fetch.rows(&mut c).await.map_err(|error| self.scim_unread(error))?;
        drop(c);
        let bare = found.iter().filter(|row| !has_id(row)).map(|row| row.try_get::<String, _>(0));
        let bare = bare.collect::<Result<Vec<_>, _>>().map_err(|error| self.scim_unread(error.into()))?;
        if bare.is_empty() {
            return Ok(found);
        }
        self.scim_name(kind, &bare).await?;
        let mut c = self.scim_reader().await?;
        let mut found = fetch.rows(&mut c).await.map_err(|error| self.scim_unread(error))?;
        // Made in between: seen next time.
        found.retain(has_id);
        Ok(found)
    }

    /// Gives ids to rows that have none.
    async fn scim_name(&self, kind: Kind, names: &[String]) -> Result<(), StoreError> {
        let now = UnixTime::from(std::time::SystemTime::now());
        let mut write = Write::begin(self, "naming what identity providers see").await?;
        let outcome = name_all(&mut write.tx, kind, names, now).await;
        outcome.map_err(|error| write.failed(error))?;
        write.commit(now).await.map(drop)
    }

    fn scim_read<T>(
        &self,
        rows: &[AnyRow],
        read: impl Fn(&AnyRow) -> Result<T, Failed>,
    ) -> Result<Vec<T>, StoreError> {
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| self.scim_unread(error))
    }

    async fn scim_reader(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Any>, StoreError> {
        self.pool.acquire().await.map_err(|error| self.scim_unread(error.into()))
    }

    fn scim_unread(&self, error: Failed) -> StoreError {
        error.at("reading what identity providers see", &self.path)
    }
}

/// A statement with what is bound to its places.
enum Fetch<'k> {
    /// With these values.
    All { sql: String, values: Vec<String> },
    /// Ends in `IN `; for these keys.
    Some { sql: String, keys: &'k [&'k str] },
}

impl Fetch<'_> {
    async fn rows(&self, c: &mut AnyConnection) -> Result<Vec<AnyRow>, Failed> {
        match self {
            Self::Some { sql, keys } => rows::some(c, sql, possible(keys)).await,
            Self::All { sql, values } => {
                let mut query = sqlx::query(AssertSqlSafe(sql.clone()));
                for value in values {
                    query = query.bind(value);
                }
                Ok(query.fetch_all(c).await?)
            }
        }
    }
}

/// Keys that can be in the database: PostgreSQL refuses to be asked for a text with a NUL.
fn possible<'k>(keys: &'k [&'k str]) -> impl Iterator<Item = &'k str> {
    keys.iter().copied().filter(|key| !key.contains('\0'))
}

fn has_id(row: &AnyRow) -> bool {
    matches!(row.try_get::<Option<String>, _>(2), Ok(Some(_)))
}

/// In the transaction that holds the write lock: only rows that are there and have no id get one.
async fn name_all(c: &mut AnyConnection, kind: Kind, names: &[String], now: UnixTime) -> Result<(), Failed> {
    let Kind { table, name, scim, .. } = kind;
    let sql = format!(
        "SELECT t.{name} FROM {table} t LEFT JOIN {scim} s ON s.{name} = t.{name} WHERE s.id IS NULL AND t.{name} IN "
    );
    let found = rows::some(c, &sql, names.iter().map(String::as_str)).await?;
    let mut bare = std::collections::BTreeSet::new();
    for row in &found {
        bare.insert(row.try_get::<String, _>(0)?);
    }
    let sql =
        format!("INSERT INTO {scim} (id, {name}, document, made_at, changed_at) VALUES ($1, $2, '{{}}', $3, $3)");
    for name in bare {
        let query = sqlx::query(AssertSqlSafe(sql.clone())).bind(fresh_id()?.0).bind(name).bind(now.0);
        query.execute(&mut *c).await?;
    }
    Ok(())
}

/// Id, document, times: columns 2 to 6 of [`Kind::select`].
fn common(row: &AnyRow) -> Result<(ScimId, String, UnixTime, UnixTime), Failed> {
    let changed: i64 = row.try_get(5)?;
    let fed: Option<i64> = row.try_get(6)?;
    let changed = UnixTime(fed.map_or(changed, |at| at.max(changed)));
    Ok((ScimId(row.try_get(2)?), row.try_get(3)?, UnixTime(row.try_get(4)?), changed))
}

fn user(row: &AnyRow) -> Result<ScimUser, Failed> {
    let (id, document, made_at, changed_at) = common(row)?;
    Ok(ScimUser {
        id,
        address: UserId::parse(row.try_get(0)?)?,
        unit: UnitPath::parse(row.try_get(7)?)?,
        suspended: row.try_get::<i64, _>(8)? != 0,
        version: row.try_get(1)?,
        document,
        made_at,
        changed_at,
    })
}

fn group(row: &AnyRow) -> Result<ScimGroup, Failed> {
    let (id, document, made_at, changed_at) = common(row)?;
    let (name, version) = (GroupId::parse(row.try_get(0)?)?, row.try_get(1)?);
    Ok(ScimGroup { id, name, version, document, made_at, changed_at })
}

#[cfg(test)]
#[path = "scim_tests.rs"]
mod tests;
