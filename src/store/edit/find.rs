//! Rows of the directory as they stand in a transaction, with who keeps them and their version. Used by this folder.

use std::collections::{HashMap, HashSet};

use sqlx::{AnyConnection, Row, any::AnyRow};

use super::read::Stored;
use crate::model::{ClientId, GroupId, Place, UnitPath, UserId};
use crate::policy::{App, Edit, Group, Rights, Unit, file::FileUser};
use crate::store::{
    Role,
    rows::{self, Failed},
};

type Found<K, V> = Result<Option<Stored<K, V>>, Failed>;

pub(super) async fn unit(c: &mut AnyConnection, path: &UnitPath) -> Found<UnitPath, Unit> {
    let sql = "SELECT path, imap, imap_until, pop, pop_until, storage_quota, message_quota, mail, read_only, sessions_per_user, bytes_per_day, managed_by, version FROM units WHERE path = $1";
    let Some(row) = sqlx::query(sql).bind(path.as_str()).fetch_optional(c).await? else { return Ok(None) };
    let value = rows::unit_value(&row)?;
    Ok(Some(Stored { id: path.clone(), value, managed_by: row.try_get(11)?, version: row.try_get(12)? }))
}

pub(super) async fn group(c: &mut AnyConnection, name: &GroupId) -> Found<GroupId, Group> {
    let sql = "SELECT name, imap, imap_until, pop, pop_until, priority, managed_by, version FROM user_groups \
               WHERE name = $1";
    let Some(row) = sqlx::query(sql).bind(name.as_str()).fetch_optional(c).await? else { return Ok(None) };
    let value = Group { priority: row.try_get(5)?, settings: rows::settings(&row)? };
    Ok(Some(Stored { id: name.clone(), value, managed_by: row.try_get(6)?, version: row.try_get(7)? }))
}

/// A user without memberships and own switches.
pub(super) async fn user(c: &mut AnyConnection, id: &UserId) -> Found<UserId, FileUser> {
    Ok(users(c, &[id]).await?.remove(id))
}

/// Those of these users that are there.
pub(super) async fn users(
    c: &mut AnyConnection,
    ids: &[&UserId],
) -> Result<HashMap<UserId, Stored<UserId, FileUser>>, Failed> {
    let sql = "SELECT address, imap, imap_until, pop, pop_until, unit, suspended, mail, managed_by, version FROM users \
               WHERE address IN ";
    let found = rows::some(c, sql, ids.iter().map(|id| id.as_str())).await?;
    let read = |row: &AnyRow| {
        let (id, value) = rows::file_user(row)?;
        Ok((id.clone(), Stored { id, value, managed_by: row.try_get(8)?, version: row.try_get(9)? }))
    };
    found.iter().map(read).collect()
}

/// Those of these addresses that are shared mailboxes.
pub(super) async fn mailboxes_among(c: &mut AnyConnection, ids: &[&UserId]) -> Result<HashSet<UserId>, Failed> {
    let sql = "SELECT address FROM mailboxes WHERE address IN ";
    let found = rows::some(c, sql, ids.iter().map(|id| id.as_str())).await?;
    found.iter().map(|row| Ok(UserId::parse(row.try_get(0)?)?)).collect()
}

/// Those of these people who have a role.
pub(super) async fn admins_among(c: &mut AnyConnection, ids: &[&UserId]) -> Result<HashMap<UserId, Role>, Failed> {
    let sql = "SELECT address, role, unit FROM admins WHERE address IN ";
    let found = rows::some(c, sql, ids.iter().map(|id| id.as_str())).await?;
    found.iter().map(|row| Ok((UserId::parse(row.try_get(0)?)?, Role::from_columns(row, 1)?))).collect()
}

/// A shared mailbox without its members: name and unit.
pub(super) async fn mailbox(
    c: &mut AnyConnection,
    id: &UserId,
) -> Found<UserId, (Option<String>, Option<UnitPath>)> {
    let sql = "SELECT name, unit, managed_by, version FROM mailboxes WHERE address = $1";
    let Some(row) = sqlx::query(sql).bind(id.as_str()).fetch_optional(c).await? else { return Ok(None) };
    let unit = row.try_get::<Option<String>, _>(1)?.map(|unit| UnitPath::parse(&unit)).transpose()?;
    let value = (row.try_get(0)?, unit);
    Ok(Some(Stored { id: id.clone(), value, managed_by: row.try_get(2)?, version: row.try_get(3)? }))
}

pub(super) async fn app(c: &mut AnyConnection, id: &ClientId) -> Found<ClientId, App> {
    let sql = "SELECT id, name, trust, units, delegation, read_only, managed_by, version FROM apps WHERE id = $1";
    let Some(row) = sqlx::query(sql).bind(id.as_str()).fetch_optional(c).await? else { return Ok(None) };
    let Edit::App(id, Some(value)) = rows::app(&row)? else { return Ok(None) };
    Ok(Some(Stored { id, value, managed_by: row.try_get(6)?, version: row.try_get(7)? }))
}

/// Whether a unit exists: it has a row, or stands above one that has, or is the root.
pub(super) async fn unit_exists(c: &mut AnyConnection, path: &UnitPath) -> Result<bool, Failed> {
    if path.parent().is_none() {
        return Ok(true);
    }
    let sql = "SELECT 1 FROM units WHERE path = $1 OR substr(path, 1, CAST($2 AS INTEGER)) = $3 LIMIT 1";
    let (length, below) = below(path);
    let query = sqlx::query(sql).bind(path.as_str()).bind(length).bind(below);
    Ok(query.fetch_optional(c).await?.is_some())
}

/// Whether there is anything of a unit: itself, one below it, or somebody or a shared mailbox in them.
pub(in crate::store) async fn is_used(c: &mut AnyConnection, path: &UnitPath) -> Result<bool, Failed> {
    let (length, begin) = below(path);
    let sql = "SELECT 1 WHERE EXISTS (SELECT 1 FROM units WHERE path = $1 OR substr(path, 1, CAST($2 AS INTEGER)) = $3) \
               OR EXISTS (SELECT 1 FROM users WHERE unit = $1 OR substr(unit, 1, CAST($2 AS INTEGER)) = $3) \
               OR EXISTS (SELECT 1 FROM mailboxes WHERE unit = $1 OR substr(unit, 1, CAST($2 AS INTEGER)) = $3)";
    let query = sqlx::query(sql).bind(path.as_str()).bind(length).bind(begin);
    Ok(path.parent().is_none() || query.fetch_optional(c).await?.is_some())
}

/// What paths below this one begin with, and its length in characters. Compared by `substr`, because an order of texts is
/// not the same everywhere.
pub(in crate::store) fn below(path: &UnitPath) -> (i64, String) {
    let begin = if path.parent().is_none() { "/".to_owned() } else { format!("{path}/") };
    (i64::try_from(begin.chars().count()).unwrap_or(i64::MAX), begin)
}

pub(super) async fn group_members(c: &mut AnyConnection, name: &GroupId) -> Result<Vec<UserId>, Failed> {
    let sql = "SELECT address FROM group_members WHERE name = $1 ORDER BY address";
    let rows = sqlx::query(sql).bind(name.as_str()).fetch_all(c).await?;
    rows.iter().map(|row| Ok(UserId::parse(row.try_get(0)?)?)).collect()
}

pub(super) async fn mailbox_members(
    c: &mut AnyConnection,
    mailbox: &UserId,
) -> Result<Vec<(UserId, Rights)>, Failed> {
    let sql = "SELECT address, rights FROM mailbox_members WHERE mailbox = $1 ORDER BY address";
    let rows = sqlx::query(sql).bind(mailbox.as_str()).fetch_all(c).await?;
    let member = |row: &sqlx::any::AnyRow| Ok((UserId::parse(row.try_get(0)?)?, rows::rights(row.try_get(1)?)?));
    rows.iter().map(member).collect()
}

/// One of these users that is not in the directory.
pub(super) async fn missing_user(c: &mut AnyConnection, users: &[&UserId]) -> Result<Option<UserId>, Failed> {
    let sql = "SELECT address FROM users WHERE address IN ";
    let found = rows::some(c, sql, users.iter().map(|user| user.as_str())).await?;
    let mut known = HashSet::new();
    for row in &found {
        known.insert(row.try_get::<String, _>(0)?);
    }
    Ok(users.iter().find(|user| !known.contains(user.as_str())).map(|user| (*user).clone()))
}

/// The first row of a kind that the policy file keeps, by a statement with the two places of [`below`] and the path.
pub(super) async fn of_file(
    c: &mut AnyConnection,
    sql: &'static str,
    path: &UnitPath,
    place: fn(&str) -> Option<Place>,
) -> Result<Option<Place>, Failed> {
    let (length, begin) = below(path);
    let row = sqlx::query(sql).bind(path.as_str()).bind(length).bind(begin).fetch_optional(c).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(place(row.try_get(0)?))
}

/// What the policy file is called.
pub(super) async fn file_name(c: &mut AnyConnection) -> Result<String, Failed> {
    let row = sqlx::query("SELECT value FROM portcullis WHERE name = 'policy_file'").fetch_optional(c).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or_else(|| "policy.toml".to_owned()))
}
