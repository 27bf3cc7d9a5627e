//! Writing and removing one row of the directory, whoever keeps it. Used by the resource files of this folder and by
//! `apply`; both note what they touched themselves.

use sqlx::AnyConnection;

use crate::model::{ClientId, GroupId, MailHome, UnitPath, UserId};
use crate::policy::{App, Ceiling, Group, Rights, Unit, file::FileUser};
use crate::store::rows;

/// Who keeps the row from now on, and the number of the change that writes it.
#[derive(Clone, Copy)]
pub(in crate::store) struct Mark {
    pub(in crate::store) managed_by: &'static str,
    pub(in crate::store) version: i64,
}

/// Rows of a policy file.
pub(in crate::store) const FILE: &str = "file";
/// Rows that admins keep.
pub(in crate::store) const ADMIN: &str = "admin";

type Done = Result<(), sqlx::Error>;

pub(in crate::store) async fn unit(c: &mut AnyConnection, path: &UnitPath, unit: &Unit, mark: Mark) -> Done {
    let (imap, imap_until) = rows::setting_columns(unit.settings.imap.as_ref());
    let (pop, pop_until) = rows::setting_columns(unit.settings.pop.as_ref());
    let query = sqlx::query(
        "INSERT INTO units (path, imap, imap_until, pop, pop_until, storage_quota, message_quota, mail, read_only, \
         sessions_per_user, bytes_per_day, managed_by, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (path) DO UPDATE SET \
         imap = excluded.imap, imap_until = excluded.imap_until, pop = excluded.pop, pop_until = excluded.pop_until, \
         storage_quota = excluded.storage_quota, message_quota = excluded.message_quota, mail = excluded.mail, \
         read_only = excluded.read_only, sessions_per_user = excluded.sessions_per_user, \
         bytes_per_day = excluded.bytes_per_day, managed_by = excluded.managed_by, version = excluded.version",
    );
    let query = query.bind(path.as_str()).bind(imap).bind(imap_until).bind(pop).bind(pop_until);
    let query = query.bind(unit.quota.storage.map(Ceiling::number)).bind(unit.quota.messages.map(Ceiling::number));
    let query = query.bind(unit.mail.as_ref().map(MailHome::to_string)).bind(unit.read_only.map(i64::from));
    let query = query.bind(unit.limits.sessions_per_user.map(Ceiling::number));
    let query = query.bind(unit.limits.bytes_per_day.map(Ceiling::number));
    query.bind(mark.managed_by).bind(mark.version).execute(c).await.map(drop)
}

pub(in crate::store) async fn group(c: &mut AnyConnection, name: &GroupId, group: &Group, mark: Mark) -> Done {
    let (imap, imap_until) = rows::setting_columns(group.settings.imap.as_ref());
    let (pop, pop_until) = rows::setting_columns(group.settings.pop.as_ref());
    let query = sqlx::query(
        "INSERT INTO user_groups (name, priority, imap, imap_until, pop, pop_until, managed_by, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO UPDATE SET priority = excluded.priority, \
         imap = excluded.imap, imap_until = excluded.imap_until, pop = excluded.pop, \
         pop_until = excluded.pop_until, managed_by = excluded.managed_by, version = excluded.version",
    );
    let query =
        query.bind(name.as_str()).bind(group.priority).bind(imap).bind(imap_until).bind(pop).bind(pop_until);
    query.bind(mark.managed_by).bind(mark.version).execute(c).await.map(drop)
}

/// A user without memberships and own switches.
pub(in crate::store) async fn user(c: &mut AnyConnection, id: &UserId, user: &FileUser, mark: Mark) -> Done {
    let (imap, imap_until) = rows::setting_columns(user.settings.imap.as_ref());
    let (pop, pop_until) = rows::setting_columns(user.settings.pop.as_ref());
    let query = sqlx::query(
        "INSERT INTO users (address, unit, suspended, imap, imap_until, pop, pop_until, mail, managed_by, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (address) DO UPDATE SET unit = excluded.unit, \
         suspended = excluded.suspended, imap = excluded.imap, imap_until = excluded.imap_until, \
         pop = excluded.pop, pop_until = excluded.pop_until, mail = excluded.mail, \
         managed_by = excluded.managed_by, version = excluded.version",
    );
    let query = query.bind(id.as_str()).bind(user.unit.as_str()).bind(i64::from(user.suspended));
    let query = query.bind(imap).bind(imap_until).bind(pop).bind(pop_until);
    let query = query.bind(user.mail.as_ref().map(MailHome::to_string));
    query.bind(mark.managed_by).bind(mark.version).execute(c).await.map(drop)
}

/// A shared mailbox without its members.
pub(in crate::store) async fn mailbox(
    c: &mut AnyConnection,
    id: &UserId,
    (name, unit): (Option<&str>, Option<&UnitPath>),
    mark: Mark,
) -> Done {
    let query = sqlx::query(
        "INSERT INTO mailboxes (address, name, unit, managed_by, version) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (address) DO UPDATE SET name = excluded.name, unit = excluded.unit, \
         managed_by = excluded.managed_by, version = excluded.version",
    );
    let query = query.bind(id.as_str()).bind(name).bind(unit.map(UnitPath::as_str));
    query.bind(mark.managed_by).bind(mark.version).execute(c).await.map(drop)
}

pub(in crate::store) async fn app(c: &mut AnyConnection, id: &ClientId, app: &App, mark: Mark) -> Done {
    let (trust, units, delegation) = rows::app_columns(app);
    let query = sqlx::query(
        "INSERT INTO apps (id, name, trust, units, delegation, read_only, managed_by, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
         trust = excluded.trust, units = excluded.units, delegation = excluded.delegation, \
         read_only = excluded.read_only, managed_by = excluded.managed_by, version = excluded.version",
    );
    let query = query.bind(id.as_str()).bind(&app.name).bind(trust).bind(units).bind(delegation);
    let query = query.bind(i64::from(app.read_only));
    query.bind(mark.managed_by).bind(mark.version).execute(c).await.map(drop)
}

pub(in crate::store) async fn group_member(
    c: &mut AnyConnection,
    name: &GroupId,
    user: &UserId,
    managed_by: &str,
) -> Done {
    let query = sqlx::query(
        "INSERT INTO group_members (address, name, managed_by) VALUES ($1, $2, $3) \
         ON CONFLICT (address, name) DO UPDATE SET managed_by = excluded.managed_by",
    );
    query.bind(user.as_str()).bind(name.as_str()).bind(managed_by).execute(c).await.map(drop)
}

pub(in crate::store) async fn mailbox_member(
    c: &mut AnyConnection,
    mailbox: &UserId,
    (user, rights): (&UserId, Rights),
    managed_by: &str,
) -> Done {
    let query = sqlx::query(
        "INSERT INTO mailbox_members (mailbox, address, rights, managed_by) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (mailbox, address) DO UPDATE SET rights = excluded.rights, managed_by = excluded.managed_by",
    );
    let query = query.bind(mailbox.as_str()).bind(user.as_str()).bind(rights.word());
    query.bind(managed_by).execute(c).await.map(drop)
}

/// A user, with what identity providers said of them. Memberships are the caller's.
pub(in crate::store) async fn remove_user(c: &mut AnyConnection, id: &UserId) -> Done {
    remove(c, "DELETE FROM scim_users WHERE address = $1", &[id.as_str()]).await?;
    remove(c, "DELETE FROM users WHERE address = $1", &[id.as_str()]).await
}

/// A group, with what identity providers said of it. Members are the caller's.
pub(in crate::store) async fn remove_group(c: &mut AnyConnection, name: &GroupId) -> Done {
    remove(c, "DELETE FROM scim_groups WHERE name = $1", &[name.as_str()]).await?;
    remove(c, "DELETE FROM user_groups WHERE name = $1", &[name.as_str()]).await
}

/// Runs one of the statements that remove rows by one or two keys.
pub(in crate::store) async fn remove(c: &mut AnyConnection, sql: &'static str, keys: &[&str]) -> Done {
    let mut query = sqlx::query(sql);
    for key in keys {
        query = query.bind(*key);
    }
    query.execute(c).await.map(drop)
}
