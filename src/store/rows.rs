//! Rows of the directory's tables as the values of `policy`, and back. Called by `feed` (rows that changed, or all of
//! them) and `apply`.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, AssertSqlSafe, Row, any::AnyRow};

use super::{Location, StoreError, cutoffs, feed::Touched};
use crate::model::{BadName, ClientId, GroupId, MailHome, Service, UnitPath, UnixTime, UserId};
use crate::policy::{
    Access, App, Ceiling, Directory, Edit, Grant, GrantKey, GrantState, Group, LimitSettings, Mailbox,
    QuotaSettings, Rights, Setting, Settings, Trust, Unit, User, file::FileUser,
};

/// Rows read at a time when all are read.
const PAGE: i64 = 5_000;
/// Keys asked for in one statement when some are read.
const KEYS: usize = 50;

/// Why a row could not be read; [`Failed::at`] says where.
pub(super) enum Failed {
    Sql(sqlx::Error),
    /// A value that no version of ours writes.
    Bad(String),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<BadName> for Failed {
    fn from(bad: BadName) -> Self {
        Self::Bad(bad.to_string())
    }
}

impl Failed {
    pub(super) fn at(self, doing: &'static str, path: &Location) -> StoreError {
        match self {
            Self::Sql(source) => StoreError::sql(doing, path, source),
            Self::Bad(what) => StoreError::Damaged { path: path.clone(), what },
        }
    }
}

type Result<T> = std::result::Result<T, Failed>;

/// The whole directory. The caller's transaction makes it one moment's.
pub(super) async fn load(connection: &mut AnyConnection) -> Result<Directory> {
    let mut directory = Directory::new();
    let c = connection;
    for row in all(
        c,
        "SELECT path, imap, imap_until, pop, pop_until, storage_quota, message_quota, mail, read_only, sessions_per_user, bytes_per_day FROM units ORDER BY path",
    )
    .await?
    {
        directory.apply(unit(&row)?);
    }
    for row in all(c, "SELECT name, imap, imap_until, pop, pop_until, priority FROM user_groups").await? {
        directory.apply(group(&row)?);
    }
    for row in all(c, "SELECT id, name, trust, units, delegation, read_only FROM apps").await? {
        directory.apply(app(&row)?);
    }
    let mailboxes = all(c, "SELECT address, name, unit FROM mailboxes").await?;
    let members = all(c, "SELECT mailbox, address, rights FROM mailbox_members").await?;
    for edit in merge_mailboxes(&mailboxes, &members)? {
        directory.apply(edit);
    }

    let count: i64 = sqlx::query("SELECT count(*) FROM users").fetch_one(&mut *c).await?.try_get(0)?;
    directory.reserve_users(usize::try_from(count).unwrap_or(0));
    let mut after = String::new();
    loop {
        let users = sqlx::query(
            "SELECT address, imap, imap_until, pop, pop_until, unit, suspended, mail FROM users WHERE address > $1 \
             ORDER BY address LIMIT $2",
        )
        .bind(&after)
        .bind(PAGE)
        .fetch_all(&mut *c)
        .await?;
        let Some(last) = users.last() else { break };
        let last: String = last.try_get(0)?;
        let members = sqlx::query("SELECT address, name FROM group_members WHERE address > $1 AND address <= $2");
        let members = members.bind(&after).bind(&last).fetch_all(&mut *c).await?;
        let switches =
            sqlx::query("SELECT address, service FROM own_switches WHERE address > $1 AND address <= $2");
        let switches = switches.bind(&after).bind(&last).fetch_all(&mut *c).await?;
        for edit in merge_users(&users, &members, &switches)? {
            directory.apply(edit);
        }
        after = last;
    }

    let mut after = (String::new(), String::new(), String::new());
    loop {
        let grants = sqlx::query(
            "SELECT address, owner, app, state, removed_at FROM grants WHERE (address, owner, app) > ($1, $2, $3) \
             ORDER BY address, owner, app LIMIT $4",
        )
        .bind(&after.0)
        .bind(&after.1)
        .bind(&after.2)
        .bind(PAGE)
        .fetch_all(&mut *c)
        .await?;
        let Some(last) = grants.last() else { break };
        after = (last.try_get(0)?, last.try_get(1)?, last.try_get(2)?);
        for row in &grants {
            directory.apply(grant(row)?);
        }
    }
    for row in all(c, "SELECT issuer, kind, subject, issued_until, account FROM cutoffs").await? {
        let (key, cutoff) = cutoffs::fact(&row)?;
        directory.put_cutoff(&key, Some(cutoff));
    }
    directory.shrink();
    Ok(directory)
}

/// The rows that were touched, as they stand now; those that are gone as edits to `None`.
pub(super) async fn read(connection: &mut AnyConnection, touched: &Touched) -> Result<Vec<Edit>> {
    let mut edits: BTreeMap<(u8, String), Edit> = BTreeMap::new();
    let c = connection;
    let mut put = |order: u8, edit: Edit| {
        edits.insert((order, key_of(&edit)), edit);
    };
    touched.units.iter().for_each(|path| put(0, Edit::Unit(path.clone(), None)));
    touched.groups.iter().for_each(|name| put(1, Edit::Group(name.clone(), None)));
    touched.apps.iter().for_each(|id| put(2, Edit::App(id.clone(), None)));
    touched.mailboxes.iter().for_each(|id| put(3, Edit::Mailbox(id.clone(), None)));
    touched.users.iter().for_each(|id| put(4, Edit::User(id.clone(), None)));

    let sql = "SELECT path, imap, imap_until, pop, pop_until, storage_quota, message_quota, mail, read_only, sessions_per_user, bytes_per_day FROM units WHERE path IN ";
    for row in some(c, sql, touched.units.iter().map(UnitPath::as_str)).await? {
        put(0, unit(&row)?);
    }
    let sql = "SELECT name, imap, imap_until, pop, pop_until, priority FROM user_groups WHERE name IN ";
    for row in some(c, sql, touched.groups.iter().map(GroupId::as_str)).await? {
        put(1, group(&row)?);
    }
    let sql = "SELECT id, name, trust, units, delegation, read_only FROM apps WHERE id IN ";
    for row in some(c, sql, touched.apps.iter().map(ClientId::as_str)).await? {
        put(2, app(&row)?);
    }
    let keys = || touched.mailboxes.iter().map(UserId::as_str);
    let mailboxes = some(c, "SELECT address, name, unit FROM mailboxes WHERE address IN ", keys()).await?;
    let members = some(c, "SELECT mailbox, address, rights FROM mailbox_members WHERE mailbox IN ", keys()).await?;
    merge_mailboxes(&mailboxes, &members)?.into_iter().for_each(|edit| put(3, edit));

    let keys = || touched.users.iter().map(UserId::as_str);
    let sql =
        "SELECT address, imap, imap_until, pop, pop_until, unit, suspended, mail FROM users WHERE address IN ";
    let users = some(c, sql, keys()).await?;
    let members = some(c, "SELECT address, name FROM group_members WHERE address IN ", keys()).await?;
    let switches = some(c, "SELECT address, service FROM own_switches WHERE address IN ", keys()).await?;
    merge_users(&users, &members, &switches)?.into_iter().for_each(|edit| put(4, edit));

    let mut edits: Vec<Edit> = edits.into_values().collect();
    for (user, app) in &touched.grants {
        let query = sqlx::query(
            "SELECT address, owner, app, state, removed_at FROM grants WHERE address = $1 AND app = $2",
        );
        for row in query.bind(user.as_str()).bind(app.as_str()).fetch_all(&mut *c).await? {
            edits.push(grant(&row)?);
        }
    }
    for key in &touched.cutoffs {
        edits.push(Edit::Cutoff(key.clone(), cutoffs::find(c, key).await?.map(|row| row.cutoff)));
    }
    Ok(edits)
}

fn key_of(edit: &Edit) -> String {
    match edit {
        Edit::Unit(path, _) => path.to_string(),
        Edit::Group(name, _) => name.to_string(),
        Edit::User(id, _) | Edit::Mailbox(id, _) => id.to_string(),
        Edit::App(id, _) => id.to_string(),
        Edit::Cutoff(key, _) => cutoffs::subject(key),
        Edit::Grant(key, _) => format!("{} {} {}", key.user, key.owner, key.app),
    }
}

async fn all(connection: &mut AnyConnection, sql: &'static str) -> Result<Vec<AnyRow>> {
    Ok(sqlx::query(sql).fetch_all(connection).await?)
}

/// Rows whose key is one of `keys`. The SQL is `sql` and a list of placeholders, of two lengths only, so that two
/// prepared statements serve every number of keys: a short last list is filled up with its last key.
pub(super) async fn some<'k>(
    connection: &mut AnyConnection,
    sql: &str,
    keys: impl Iterator<Item = &'k str>,
) -> Result<Vec<AnyRow>> {
    let keys: Vec<&str> = keys.collect();
    let mut rows = Vec::new();
    for chunk in keys.chunks(KEYS) {
        let places = if chunk.len() == 1 { 1 } else { KEYS };
        let list: Vec<String> = (1..=places).map(|place| format!("${place}")).collect();
        let mut query = sqlx::query(AssertSqlSafe(format!("{sql}({})", list.join(", "))));
        for place in 0..places {
            query = query.bind(chunk.get(place).or(chunk.last()).copied().unwrap_or_default());
        }
        rows.extend(query.fetch_all(&mut *connection).await?);
    }
    Ok(rows)
}

/// Columns 1 to 4 of a row: `imap, imap_until, pop, pop_until`.
pub(super) fn settings(row: &AnyRow) -> Result<Settings> {
    Ok(Settings { imap: setting(row, 1)?, pop: setting(row, 3)? })
}

fn setting(row: &AnyRow, column: usize) -> Result<Option<Setting>> {
    let Some(text) = row.try_get::<Option<String>, _>(column)? else { return Ok(None) };
    let until = row.try_get::<Option<i64>, _>(column + 1)?.map(UnixTime);
    let access = match text.as_str() {
        "off" => Access::Off,
        "any" => Access::Any,
        "only:" => Access::Only(Vec::new()),
        other => match other.strip_prefix("only:") {
            Some(list) => {
                Access::Only(list.split(',').map(ClientId::parse).collect::<std::result::Result<_, _>>()?)
            }
            None => return Err(Failed::Bad(format!("a setting says {other:?}"))),
        },
    };
    Ok(Some(Setting { access, until }))
}

/// A setting's two columns.
pub(super) fn setting_columns(setting: Option<&Setting>) -> (Option<String>, Option<i64>) {
    let Some(Setting { access, until }) = setting else { return (None, None) };
    let text = match access {
        Access::Off => "off".to_owned(),
        Access::Any => "any".to_owned(),
        Access::Only(list) => {
            let ids: Vec<&str> = list.iter().map(ClientId::as_str).collect();
            format!("only:{}", ids.join(","))
        }
    };
    (Some(text), until.map(|until| until.0))
}

pub(super) fn unit(row: &AnyRow) -> Result<Edit> {
    Ok(Edit::Unit(UnitPath::parse(row.try_get(0)?)?, Some(unit_value(row)?)))
}

/// Columns 1 to 10 of a unit's row: its settings, `storage_quota, message_quota, mail, read_only, sessions_per_user,
/// bytes_per_day`.
pub(super) fn unit_value(row: &AnyRow) -> Result<Unit> {
    let ceiling = |column: usize| -> Result<Option<Ceiling>> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(Ceiling::from_number))
    };
    Ok(Unit {
        settings: settings(row)?,
        quota: QuotaSettings { storage: ceiling(5)?, messages: ceiling(6)? },
        mail: home(row, 7)?,
        read_only: row.try_get::<Option<i64>, _>(8)?.map(|flag| flag != 0),
        limits: LimitSettings { sessions_per_user: ceiling(9)?, bytes_per_day: ceiling(10)? },
    })
}

/// Where mail is, as [`MailHome`] is written.
fn home(row: &AnyRow, column: usize) -> Result<Option<MailHome>> {
    let text: Option<String> = row.try_get(column)?;
    Ok(text.as_deref().map(MailHome::parse).transpose()?)
}

/// Columns 0 to 7 of a user's row: the address, the settings, `unit, suspended, mail`.
pub(super) fn file_user(row: &AnyRow) -> Result<(UserId, FileUser)> {
    let user = FileUser {
        unit: UnitPath::parse(row.try_get(5)?)?,
        suspended: row.try_get::<i64, _>(6)? != 0,
        settings: settings(row)?,
        mail: home(row, 7)?,
    };
    Ok((UserId::parse(row.try_get(0)?)?, user))
}

pub(super) fn group(row: &AnyRow) -> Result<Edit> {
    let group = Group { priority: row.try_get(5)?, settings: settings(row)? };
    Ok(Edit::Group(GroupId::parse(row.try_get(0)?)?, Some(group)))
}

pub(super) fn app(row: &AnyRow) -> Result<Edit> {
    let trust = match row.try_get::<String, _>(2)?.as_str() {
        "trusted" => Trust::Trusted,
        "limited" => Trust::Limited(paths(row.try_get(3)?)?),
        "blocked" => Trust::Blocked,
        other => return Err(Failed::Bad(format!("an app's trust is {other:?}"))),
    };
    let read_only = row.try_get::<i64, _>(5)? != 0;
    let app = App { name: row.try_get(1)?, trust, delegation: paths(row.try_get(4)?)?, read_only };
    Ok(Edit::App(ClientId::parse(row.try_get(0)?)?, Some(app)))
}

/// Unit paths, one a line: no path contains a control character.
fn paths(text: &str) -> Result<Vec<UnitPath>> {
    text.lines().map(|path| Ok(UnitPath::parse(path)?)).collect()
}

/// An app's columns `trust, units, delegation`.
pub(super) fn app_columns(app: &App) -> (&'static str, String, String) {
    let lines = |paths: &[UnitPath]| paths.iter().map(UnitPath::as_str).collect::<Vec<_>>().join("\n");
    let (trust, units) = match &app.trust {
        Trust::Trusted => ("trusted", String::new()),
        Trust::Limited(units) => ("limited", lines(units)),
        Trust::Blocked => ("blocked", String::new()),
    };
    (trust, units, lines(&app.delegation))
}

fn grant(row: &AnyRow) -> Result<Edit> {
    let key = GrantKey {
        user: UserId::parse(row.try_get(0)?)?,
        owner: UserId::parse(row.try_get(1)?)?,
        app: ClientId::parse(row.try_get(2)?)?,
    };
    Ok(Edit::Grant(key, Some(grant_facts(row)?)))
}

/// Columns 3 and 4 of a row: `state, removed_at`.
pub(super) fn grant_facts(row: &AnyRow) -> Result<Grant> {
    let word: String = row.try_get(3)?;
    let Some(state) = GrantState::from_word(&word) else {
        return Err(Failed::Bad(format!("a grant's state is {word:?}")));
    };
    Ok(Grant { state, removed_at: row.try_get::<Option<i64>, _>(4)?.map(UnixTime) })
}

pub(super) fn merge_users(users: &[AnyRow], members: &[AnyRow], switches: &[AnyRow]) -> Result<Vec<Edit>> {
    let mut groups: BTreeMap<String, Vec<GroupId>> = BTreeMap::new();
    for row in members {
        groups.entry(row.try_get(0)?).or_default().push(GroupId::parse(row.try_get(1)?)?);
    }
    let mut off: BTreeMap<String, crate::policy::OwnOff> = BTreeMap::new();
    for row in switches {
        let off = off.entry(row.try_get(0)?).or_default();
        match Service::from_word(row.try_get(1)?) {
            Some(Service::Imap) => off.imap = true,
            Some(Service::Pop) => off.pop = true,
            None => {}
        }
    }
    users
        .iter()
        .map(|row| {
            let (id, FileUser { unit, suspended, settings, mail }) = file_user(row)?;
            let user = User {
                unit,
                suspended,
                settings,
                mail,
                own_off: off.remove(id.as_str()).unwrap_or_default(),
                groups: groups.remove(id.as_str()).unwrap_or_default(),
            };
            Ok(Edit::User(id, Some(user)))
        })
        .collect()
}

/// What a member may do, by the word in the database.
pub(super) fn rights(word: &str) -> Result<Rights> {
    Rights::from_word(word).ok_or_else(|| Failed::Bad(format!("a member's rights are {word:?}")))
}

pub(super) fn merge_mailboxes(mailboxes: &[AnyRow], members: &[AnyRow]) -> Result<Vec<Edit>> {
    let mut by_mailbox: BTreeMap<String, (Vec<UserId>, Vec<UserId>)> = BTreeMap::new();
    for row in members {
        let (members, readers) = by_mailbox.entry(row.try_get(0)?).or_default();
        let who = UserId::parse(row.try_get(1)?)?;
        match rights(row.try_get(2)?)? {
            Rights::Write => members.push(who),
            Rights::Read => readers.push(who),
        }
    }
    mailboxes
        .iter()
        .map(|row| {
            let id = UserId::parse(row.try_get(0)?)?;
            let unit = row.try_get::<Option<String>, _>(2)?.map(|unit| UnitPath::parse(&unit)).transpose()?;
            let (members, readers) = by_mailbox.remove(id.as_str()).unwrap_or_default();
            Ok(Edit::Mailbox(id, Some(Mailbox { name: row.try_get(1)?, unit, members, readers })))
        })
        .collect()
}
