//! Reading resources: one with its version, or a page of many. Called by `admin` and `cli`. Effective settings are asked of
//! the snapshot: `Directory::effective_for_unit`, `effective_for_user`.

use sqlx::{AnyConnection, Row, any::AnyRow};

use super::find;
use crate::model::{ClientId, GroupId, UnitPath, UserId};
use crate::policy::{App, Edit, Group, Rights, Unit, User};
use crate::store::{
    Store, StoreError,
    rows::{self, Failed},
};

/// Most rows on a page.
const MOST: u32 = 1_000;

/// A row with its version and its keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<K, V> {
    /// Its name.
    pub id: K,
    /// What it says.
    pub value: V,
    /// The number of its last change: good as an ETag. Members belong to their group or mailbox, not to the user. 0 for rows older than versions, and for a root nobody touched.
    pub version: i64,
    /// Who keeps it: `file` (the policy file; it cannot be changed elsewhere) or `admin`.
    pub managed_by: String,
}

/// Some rows by name, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The name to ask on after; none on the last page.
    pub next: Option<String>,
}

/// Which users to list: each field that is set must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// In this unit, or below it.
    pub below: Option<UnitPath>,
    /// A member of this group.
    pub group: Option<GroupId>,
    /// The address begins so.
    pub prefix: Option<String>,
}

/// A shared mailbox with its members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxValue {
    /// What people call it.
    pub name: Option<String>,
    /// The unit it belongs to.
    pub unit: Option<UnitPath>,
    /// Who may open it, and what they may do there.
    pub members: Vec<(UserId, Rights)>,
}

type Read<T> = Result<T, StoreError>;

impl Store {
    /// One unit. The root is there even where nobody made a row of it.
    pub async fn unit(&self, path: &UnitPath) -> Read<Option<Stored<UnitPath, Unit>>> {
        let mut c = self.reader().await?;
        let found = find::unit(&mut c, path).await.map_err(|error| self.unread(error))?;
        let root = || Stored {
            id: path.clone(),
            value: Unit::default(),
            version: 0,
            managed_by: super::put::ADMIN.to_owned(),
        };
        Ok(found.or_else(|| path.parent().is_none().then(root)))
    }

    /// Units by path, after `after`, those below `below` (itself included) where it is given.
    pub async fn units(
        &self,
        below: Option<&UnitPath>,
        after: Option<&str>,
        limit: u32,
    ) -> Read<Page<Stored<UnitPath, Unit>>> {
        let sql = "SELECT path, imap, imap_until, pop, pop_until, storage_quota, message_quota, mail, read_only, sessions_per_user, bytes_per_day, managed_by, version FROM units \
                   WHERE path > $1 AND (path = $2 OR substr(path, 1, CAST($3 AS INTEGER)) = $4) ORDER BY path LIMIT $5";
        let root = UnitPath::root();
        let top = below.unwrap_or(&root);
        let (length, begin) = find::below(top);
        let limit = bounded(limit);
        let query = sqlx::query(sql).bind(after.unwrap_or("")).bind(top.as_str());
        let query = query.bind(length).bind(begin).bind(i64::from(limit) + 1);
        let mut c = self.reader().await?;
        let found = query.fetch_all(&mut *c).await.map_err(|error| self.unread(error.into()))?;
        self.page(&found, limit, |row| {
            let Edit::Unit(id, Some(value)) = rows::unit(row)? else { return Ok(None) };
            Ok(Some(Stored { id, value, managed_by: row.try_get(11)?, version: row.try_get(12)? }))
        })
    }

    /// One user, with groups and own switches.
    pub async fn user(&self, id: &UserId) -> Read<Option<Stored<UserId, User>>> {
        let mut c = self.reader().await?;
        let sql = "SELECT address, imap, imap_until, pop, pop_until, unit, suspended, mail, managed_by, version FROM users \
                   WHERE address = $1";
        let found = sqlx::query(sql).bind(id.as_str()).fetch_all(&mut *c).await;
        let found = found.map_err(|error| self.unread(error.into()))?;
        let users = whole_users(&mut c, &found).await.map_err(|error| self.unread(error))?;
        Ok(users.into_iter().next())
    }

    /// Users by address, after `after`.
    pub async fn users(
        &self,
        filter: &UserFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Read<Page<Stored<UserId, User>>> {
        let mut sql =
            "SELECT address, imap, imap_until, pop, pop_until, unit, suspended, mail, managed_by, version \
                       FROM users WHERE address > $1"
                .to_owned();
        let mut texts: Vec<String> = vec![after.unwrap_or("").to_owned()];
        if let Some(unit) = filter.below.as_ref().filter(|unit| unit.parent().is_some()) {
            let (length, begin) = find::below(unit);
            let place = texts.len() + 1;
            sql.push_str(&format!(
                " AND (unit = ${place} OR substr(unit, 1, CAST({length} AS INTEGER)) = ${})",
                place + 1
            ));
            texts.extend([unit.to_string(), begin]);
        }
        if let Some(group) = &filter.group {
            let place = texts.len() + 1;
            sql.push_str(&format!(" AND address IN (SELECT address FROM group_members WHERE name = ${place})"));
            texts.push(group.to_string());
        }
        if let Some(prefix) = &filter.prefix {
            let (place, length) = (texts.len() + 1, prefix.chars().count());
            sql.push_str(&format!(" AND substr(address, 1, CAST({length} AS INTEGER)) = ${place}"));
            texts.push(prefix.clone());
        }
        let limit = bounded(limit);
        // Numbers alone are written into the text; what is looked for is bound.
        sql.push_str(&format!(" ORDER BY address LIMIT {}", limit + 1));
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for text in &texts {
            query = query.bind(text);
        }
        let mut c = self.reader().await?;
        let mut found = query.fetch_all(&mut *c).await.map_err(|error| self.unread(error.into()))?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let rows = whole_users(&mut c, &found).await.map_err(|error| self.unread(error))?;
        let next = rows.last().filter(|_| more).map(|user| user.id.to_string());
        Ok(Page { rows, next })
    }

    /// One group, without its members: [`Store::users`] lists them by group.
    pub async fn group(&self, name: &GroupId) -> Read<Option<Stored<GroupId, Group>>> {
        let mut c = self.reader().await?;
        find::group(&mut c, name).await.map_err(|error| self.unread(error))
    }

    /// Groups by name, after `after`.
    pub async fn groups(&self, after: Option<&str>, limit: u32) -> Read<Page<Stored<GroupId, Group>>> {
        let sql = "SELECT name, imap, imap_until, pop, pop_until, priority, managed_by, version FROM user_groups \
                   WHERE name > $1 ORDER BY name LIMIT $2";
        let limit = bounded(limit);
        let found = self.some_after(sql, after, limit).await?;
        self.page(&found, limit, |row| {
            let Edit::Group(id, Some(value)) = rows::group(row)? else { return Ok(None) };
            Ok(Some(Stored { id, value, managed_by: row.try_get(6)?, version: row.try_get(7)? }))
        })
    }

    /// One shared mailbox with its members.
    pub async fn mailbox(&self, id: &UserId) -> Read<Option<Stored<UserId, MailboxValue>>> {
        let mut c = self.reader().await?;
        let read = async {
            let Some(found) = find::mailbox(&mut c, id).await? else { return Ok(None) };
            let members = find::mailbox_members(&mut c, id).await?;
            let (name, unit) = found.value;
            let value = MailboxValue { name, unit, members };
            Ok(Some(Stored { id: found.id, value, version: found.version, managed_by: found.managed_by }))
        };
        read.await.map_err(|error| self.unread(error))
    }

    /// Shared mailboxes by address, after `after`, those of units below `below` (itself included) where it is given.
    pub async fn mailboxes(
        &self,
        below: Option<&UnitPath>,
        after: Option<&str>,
        limit: u32,
    ) -> Read<Page<Stored<UserId, MailboxValue>>> {
        let limit = bounded(limit);
        let below = below.filter(|unit| unit.parent().is_some());
        let sql = match below {
            None => "SELECT address FROM mailboxes WHERE address > $1 ORDER BY address LIMIT $2",
            Some(_) => {
                "SELECT address FROM mailboxes WHERE address > $1 AND (unit = $3 OR substr(unit, 1, CAST($4 AS INTEGER)) = $5) \
                 ORDER BY address LIMIT $2"
            }
        };
        let mut query = sqlx::query(sql).bind(after.unwrap_or("")).bind(i64::from(limit) + 1);
        if let Some(unit) = below {
            let (length, begin) = find::below(unit);
            query = query.bind(unit.as_str()).bind(length).bind(begin);
        }
        let mut c = self.reader().await?;
        let found = query.fetch_all(&mut *c).await.map_err(|error| self.unread(error.into()))?;
        drop(c);
        let ids: Page<Stored<UserId, ()>> = self.page(&found, limit, |row| {
            let id = UserId::parse(row.try_get(0)?)?;
            Ok(Some(Stored { id, value: (), version: 0, managed_by: String::new() }))
        })?;
        let mut rows = Vec::with_capacity(ids.rows.len());
        for Stored { id, .. } in ids.rows {
            rows.extend(self.mailbox(&id).await?);
        }
        Ok(Page { rows, next: ids.next })
    }

    /// One app's entry in the catalogue.
    pub async fn app(&self, id: &ClientId) -> Read<Option<Stored<ClientId, App>>> {
        let mut c = self.reader().await?;
        find::app(&mut c, id).await.map_err(|error| self.unread(error))
    }

    /// The catalogue's entries by client ID, after `after`. Shipped apps without an entry are in `policy::apps_shipped`.
    pub async fn apps(&self, after: Option<&str>, limit: u32) -> Read<Page<Stored<ClientId, App>>> {
        let sql = "SELECT id, name, trust, units, delegation, read_only, managed_by, version FROM apps WHERE id > $1 \
                   ORDER BY id LIMIT $2";
        let limit = bounded(limit);
        let found = self.some_after(sql, after, limit).await?;
        self.page(&found, limit, |row| {
            let Edit::App(id, Some(value)) = rows::app(row)? else { return Ok(None) };
            Ok(Some(Stored { id, value, managed_by: row.try_get(6)?, version: row.try_get(7)? }))
        })
    }

    async fn reader(&self) -> Read<sqlx::pool::PoolConnection<sqlx::Any>> {
        self.pool.acquire().await.map_err(|error| self.unread(error.into()))
    }

    fn unread(&self, error: Failed) -> StoreError {
        error.at("reading the directory", &self.path)
    }

    async fn some_after(&self, sql: &'static str, after: Option<&str>, limit: u32) -> Read<Vec<AnyRow>> {
        let query = sqlx::query(sql).bind(after.unwrap_or("")).bind(i64::from(limit) + 1);
        let mut c = self.reader().await?;
        query.fetch_all(&mut *c).await.map_err(|error| self.unread(error.into()))
    }

    /// One more row than a page holds was asked for, to know whether there are more.
    fn page<K: ToString, V>(
        &self,
        found: &[AnyRow],
        limit: u32,
        read: impl Fn(&AnyRow) -> Result<Option<Stored<K, V>>, Failed>,
    ) -> Read<Page<Stored<K, V>>> {
        let mut rows = Vec::with_capacity(found.len());
        for row in found.iter().take(limit as usize) {
            rows.extend(read(row).map_err(|error| self.unread(error))?);
        }
        let next = rows.last().filter(|_| found.len() > limit as usize).map(|row| row.id.to_string());
        Ok(Page { rows, next })
    }
}

fn bounded(limit: u32) -> u32 {
    limit.clamp(1, MOST)
}

/// Rows of `users` with version and keeper, completed by memberships and own switches.
async fn whole_users(c: &mut AnyConnection, found: &[AnyRow]) -> Result<Vec<Stored<UserId, User>>, Failed> {
    let mut addresses = Vec::with_capacity(found.len());
    for row in found {
        addresses.push(row.try_get::<String, _>(0)?);
    }
    let keys = || addresses.iter().map(String::as_str);
    let members = rows::some(c, "SELECT address, name FROM group_members WHERE address IN ", keys()).await?;
    let switches = rows::some(c, "SELECT address, service FROM own_switches WHERE address IN ", keys()).await?;
    let mut users = Vec::with_capacity(found.len());
    for (row, edit) in found.iter().zip(rows::merge_users(found, &members, &switches)?) {
        if let Edit::User(id, Some(mut value)) = edit {
            value.groups.sort();
            value.groups.dedup();
            users.push(Stored { id, value, managed_by: row.try_get(8)?, version: row.try_get(9)? });
        }
    }
    Ok(users)
}
