//! A policy file brought into the database: what differs is written, in one transaction, and nothing else.
//!
//! The file owns the rows it names (`managed_by = 'file'`) and takes over those it names that others made. Rows it
//! no longer names are removed; rows of others stay. Users' own switches and grants are not the file's.

use std::{collections::BTreeMap, time::SystemTime};

use sqlx::{AnyConnection, Row};

use super::{
    AuditEvent, Store, StoreError, audit,
    difference::{Difference, MailboxRow, Member, Words},
    feed::{Touched, Write},
    rows::{self, Failed},
};
use crate::model::{ClientId, GroupId, Place, UnitPath, UnixTime, UserId};
use crate::policy::{
    App, Edit, Group, Unit,
    file::{Document, FileError, FileUser},
};

/// Users and memberships read at a time.
const PAGE: i64 = 5_000;
/// Changed rows with an audit event of their own; beyond, the summary alone tells.
const TOLD: usize = 200;

/// What an applied file changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The number of the last change in the snapshot.
    pub number: i64,
    /// Rows added.
    pub added: usize,
    /// Rows changed.
    pub changed: usize,
    /// Rows removed.
    pub removed: usize,
}

impl Applied {
    /// Whether the database said the same already.
    pub fn is_unchanged(&self) -> bool {
        self.added + self.changed + self.removed == 0
    }
}

impl Store {
    /// Makes the database say what the file says. When it returns, the snapshot has the change and
    /// [`Store::changes`] has told its number; on an error nothing is changed. `origin` is the file's name, for
    /// messages and the audit log.
    pub async fn apply(&self, document: &Document, origin: &str) -> Result<Applied, StoreError> {
        let now = UnixTime::from(SystemTime::now());
        let mut write = Write::begin(self, "applying the policy file").await?;
        let strangers = strangers(&mut write.tx, document).await.map_err(|error| write.failed(error))?;
        if !strangers.is_empty() {
            return Err(FileError::from_problems(strangers).in_file(origin).into());
        }
        let mut work =
            Work { tx: &mut write.tx, touched: &mut write.touched, done: Applied::default(), told: Vec::new() };
        let outcome = work.all(document).await;
        let Work { mut done, told, .. } = work;
        outcome.map_err(|error| write.failed(error))?;
        if done.is_unchanged() {
            drop(write);
            // Another process may have changed what this one has not seen yet.
            self.catch_up().await?;
            return Ok(Applied { number: self.number(), ..done });
        }
        let events = events(&done, told, origin, now);
        let inserted = audit::insert(&mut write.tx, events).await;
        inserted.map_err(|error| write.failed(error))?;
        done.number = write.commit(now).await?;
        Ok(done)
    }
}

/// Members that neither the file nor anybody else knows.
async fn strangers(
    connection: &mut AnyConnection,
    document: &Document,
) -> Result<Vec<crate::policy::file::Problem>, sqlx::Error> {
    let mut strangers = Vec::new();
    for (member, problem) in &document.elsewhere {
        let query = sqlx::query("SELECT 1 FROM users WHERE address = $1 AND managed_by <> 'file'");
        if query.bind(member.as_str()).fetch_optional(&mut *connection).await?.is_none() {
            strangers.push(problem.clone());
        }
    }
    Ok(strangers)
}

fn events(done: &Applied, told: Vec<Told>, origin: &str, now: UnixTime) -> Vec<AuditEvent> {
    let mut summary = AuditEvent::new(now, "policy.applied", "done");
    let Applied { added, changed, removed, .. } = done;
    summary.detail = Some(format!("by {origin}: {added} added, {changed} changed, {removed} removed"));
    let mut events = vec![summary];
    events.extend(told.into_iter().map(|told| {
        let mut event = AuditEvent::new(now, "policy.changed", "done");
        event.place = Some(told.place.to_string());
        event.detail = Some(format!("by {origin}: {} -> {}", told.before, told.after));
        event
    }));
    events
}

/// A change in words, for the audit log.
struct Told {
    place: Place,
    before: String,
    after: String,
}

struct Work<'w> {
    tx: &'w mut AnyConnection,
    touched: &'w mut Touched,
    done: Applied,
    told: Vec<Told>,
}

impl Work<'_> {
    async fn all(&mut self, document: &Document) -> Result<(), Failed> {
        self.units(&document.units).await?;
        self.groups(document).await?;
        self.users(&document.users).await?;
        self.group_members(document).await?;
        self.mailboxes(document).await?;
        self.mailbox_members(document).await?;
        self.apps(&document.apps).await
    }

    /// Counts a difference and notes it for the audit log.
    fn tell<K, V: PartialEq + Words>(&mut self, difference: &Difference<'_, K, V>, place: impl Fn(&K) -> Place)
    where
        K: Ord,
    {
        let mut note = |key: &K, before: Option<&V>, after: Option<&V>| {
            if self.told.len() < TOLD {
                let words = |value: Option<&V>| value.map_or_else(|| "absent".to_owned(), Words::words);
                self.told.push(Told { place: place(key), before: words(before), after: words(after) });
            }
        };
        for (key, value) in difference.added() {
            self.done.added += 1;
            note(key, None, Some(value));
        }
        for (key, after, before) in &difference.changed {
            self.done.changed += 1;
            note(key, Some(before), Some(after));
        }
        for (key, before) in &difference.gone {
            self.done.removed += 1;
            note(key, Some(before), None);
        }
    }

    async fn units(&mut self, wanted: &BTreeMap<UnitPath, Unit>) -> Result<(), Failed> {
        let sql = "SELECT path, imap, imap_until, pop, pop_until FROM units WHERE managed_by = 'file'";
        let mut difference = Difference::new(wanted);
        for row in sqlx::query(sql).fetch_all(&mut *self.tx).await? {
            if let Edit::Unit(path, Some(unit)) = rows::unit(&row)? {
                difference.stored(path, unit);
            }
        }
        for (path, unit) in difference.puts() {
            let (imap, imap_until) = rows::setting_columns(unit.settings.imap.as_ref());
            let (pop, pop_until) = rows::setting_columns(unit.settings.pop.as_ref());
            sqlx::query(
                "INSERT INTO units (path, imap, imap_until, pop, pop_until, managed_by) \
                 VALUES ($1, $2, $3, $4, $5, 'file') ON CONFLICT (path) DO UPDATE SET imap = excluded.imap, \
                 imap_until = excluded.imap_until, pop = excluded.pop, pop_until = excluded.pop_until, \
                 managed_by = excluded.managed_by",
            )
            .bind(path.as_str())
            .bind(imap)
            .bind(imap_until)
            .bind(pop)
            .bind(pop_until)
            .execute(&mut *self.tx)
            .await?;
            self.touched.units.insert(path.clone());
        }
        for (path, _) in &difference.gone {
            let query = sqlx::query("DELETE FROM units WHERE path = $1").bind(path.as_str());
            query.execute(&mut *self.tx).await?;
            self.touched.units.insert(path.clone());
        }
        self.tell(&difference, |path| Place::Unit(path.clone()));
        Ok(())
    }

    async fn groups(&mut self, document: &Document) -> Result<(), Failed> {
        let wanted: BTreeMap<GroupId, Group> = document
            .groups
            .iter()
            .map(|(name, group)| {
                (name.clone(), Group { priority: group.priority, settings: group.settings.clone() })
            })
            .collect();
        let sql =
            "SELECT name, imap, imap_until, pop, pop_until, priority FROM user_groups WHERE managed_by = 'file'";
        let mut difference = Difference::new(&wanted);
        for row in sqlx::query(sql).fetch_all(&mut *self.tx).await? {
            if let Edit::Group(name, Some(group)) = rows::group(&row)? {
                difference.stored(name, group);
            }
        }
        for (name, group) in difference.puts() {
            let (imap, imap_until) = rows::setting_columns(group.settings.imap.as_ref());
            let (pop, pop_until) = rows::setting_columns(group.settings.pop.as_ref());
            sqlx::query(
                "INSERT INTO user_groups (name, priority, imap, imap_until, pop, pop_until, managed_by) \
                 VALUES ($1, $2, $3, $4, $5, $6, 'file') ON CONFLICT (name) DO UPDATE SET \
                 priority = excluded.priority, imap = excluded.imap, imap_until = excluded.imap_until, \
                 pop = excluded.pop, pop_until = excluded.pop_until, managed_by = excluded.managed_by",
            )
            .bind(name.as_str())
            .bind(group.priority)
            .bind(imap)
            .bind(imap_until)
            .bind(pop)
            .bind(pop_until)
            .execute(&mut *self.tx)
            .await?;
            self.touched.groups.insert(name.clone());
        }
        for (name, _) in &difference.gone {
            let query = sqlx::query("DELETE FROM user_groups WHERE name = $1").bind(name.as_str());
            query.execute(&mut *self.tx).await?;
            self.touched.groups.insert(name.clone());
        }
        self.tell(&difference, |name| Place::Group(name.clone()));
        Ok(())
    }

    async fn users(&mut self, wanted: &BTreeMap<UserId, FileUser>) -> Result<(), Failed> {
        let mut difference = Difference::new(wanted);
        let mut after = String::new();
        loop {
            let page = sqlx::query(
                "SELECT address, imap, imap_until, pop, pop_until, unit, suspended FROM users \
                 WHERE managed_by = 'file' AND address > $1 ORDER BY address LIMIT $2",
            )
            .bind(&after)
            .bind(PAGE)
            .fetch_all(&mut *self.tx)
            .await?;
            let Some(last) = page.last() else { break };
            after = last.try_get(0)?;
            for row in &page {
                let (unit, suspended) = (UnitPath::parse(row.try_get(5)?)?, row.try_get::<i64, _>(6)? != 0);
                let user = FileUser { unit, suspended, settings: rows::settings(row)? };
                difference.stored(UserId::parse(row.try_get(0)?)?, user);
            }
        }
        for (id, user) in difference.puts() {
            let (imap, imap_until) = rows::setting_columns(user.settings.imap.as_ref());
            let (pop, pop_until) = rows::setting_columns(user.settings.pop.as_ref());
            sqlx::query(
                "INSERT INTO users (address, unit, suspended, imap, imap_until, pop, pop_until, managed_by) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, 'file') ON CONFLICT (address) DO UPDATE SET \
                 unit = excluded.unit, suspended = excluded.suspended, imap = excluded.imap, \
                 imap_until = excluded.imap_until, pop = excluded.pop, pop_until = excluded.pop_until, \
                 managed_by = excluded.managed_by",
            )
            .bind(id.as_str())
            .bind(user.unit.as_str())
            .bind(i64::from(user.suspended))
            .bind(imap)
            .bind(imap_until)
            .bind(pop)
            .bind(pop_until)
            .execute(&mut *self.tx)
            .await?;
            self.touched.users.insert(id.clone());
        }
        for (id, _) in &difference.gone {
            let query = sqlx::query("DELETE FROM users WHERE address = $1").bind(id.as_str());
            query.execute(&mut *self.tx).await?;
            self.touched.users.insert(id.clone());
        }
        self.tell(&difference, |id| Place::User(id.clone()));
        Ok(())
    }

    async fn group_members(&mut self, document: &Document) -> Result<(), Failed> {
        let wanted: BTreeMap<(UserId, GroupId), Member> = document
            .groups
            .iter()
            .flat_map(|(name, group)| {
                group.members.iter().map(|user| ((user.clone(), name.clone()), Member(user.clone())))
            })
            .collect();
        let mut difference = Difference::new(&wanted);
        let mut after = (String::new(), String::new());
        loop {
            let page = sqlx::query(
                "SELECT address, name FROM group_members WHERE managed_by = 'file' AND (address, name) > ($1, $2) \
                 ORDER BY address, name LIMIT $3",
            )
            .bind(&after.0)
            .bind(&after.1)
            .bind(PAGE)
            .fetch_all(&mut *self.tx)
            .await?;
            let Some(last) = page.last() else { break };
            after = (last.try_get(0)?, last.try_get(1)?);
            for row in &page {
                let key = (UserId::parse(row.try_get(0)?)?, GroupId::parse(row.try_get(1)?)?);
                let member = Member(key.0.clone());
                difference.stored(key, member);
            }
        }
        for ((user, name), _) in difference.puts() {
            let query = sqlx::query(
                "INSERT INTO group_members (address, name, managed_by) VALUES ($1, $2, 'file') \
                 ON CONFLICT (address, name) DO UPDATE SET managed_by = excluded.managed_by",
            );
            query.bind(user.as_str()).bind(name.as_str()).execute(&mut *self.tx).await?;
            self.touched.users.insert(user.clone());
        }
        for ((user, name), _) in &difference.gone {
            let query = sqlx::query("DELETE FROM group_members WHERE address = $1 AND name = $2");
            query.bind(user.as_str()).bind(name.as_str()).execute(&mut *self.tx).await?;
            self.touched.users.insert(user.clone());
        }
        self.tell(&difference, |(_, name)| Place::Group(name.clone()));
        Ok(())
    }

    async fn mailboxes(&mut self, document: &Document) -> Result<(), Failed> {
        let wanted: BTreeMap<UserId, MailboxRow> = document
            .mailboxes
            .iter()
            .map(|(id, mailbox)| {
                (id.clone(), MailboxRow { name: mailbox.name.clone(), unit: mailbox.unit.clone() })
            })
            .collect();
        let mut difference = Difference::new(&wanted);
        let sql = "SELECT address, name, unit FROM mailboxes WHERE managed_by = 'file'";
        for row in sqlx::query(sql).fetch_all(&mut *self.tx).await? {
            let unit = row.try_get::<Option<String>, _>(2)?.map(|unit| UnitPath::parse(&unit)).transpose()?;
            difference.stored(UserId::parse(row.try_get(0)?)?, MailboxRow { name: row.try_get(1)?, unit });
        }
        for (id, mailbox) in difference.puts() {
            let query = sqlx::query(
                "INSERT INTO mailboxes (address, name, unit, managed_by) VALUES ($1, $2, $3, 'file') \
                 ON CONFLICT (address) DO UPDATE SET name = excluded.name, unit = excluded.unit, \
                 managed_by = excluded.managed_by",
            );
            let query =
                query.bind(id.as_str()).bind(&mailbox.name).bind(mailbox.unit.as_ref().map(UnitPath::as_str));
            query.execute(&mut *self.tx).await?;
            self.touched.mailboxes.insert(id.clone());
        }
        for (id, _) in &difference.gone {
            let query = sqlx::query("DELETE FROM mailboxes WHERE address = $1").bind(id.as_str());
            query.execute(&mut *self.tx).await?;
            self.touched.mailboxes.insert(id.clone());
        }
        self.tell(&difference, |id| Place::Mailbox(id.clone()));
        Ok(())
    }

    async fn mailbox_members(&mut self, document: &Document) -> Result<(), Failed> {
        let wanted: BTreeMap<(UserId, UserId), Member> = document
            .mailboxes
            .iter()
            .flat_map(|(id, mailbox)| {
                mailbox.members.iter().map(|user| ((id.clone(), user.clone()), Member(user.clone())))
            })
            .collect();
        let mut difference = Difference::new(&wanted);
        let sql = "SELECT mailbox, address FROM mailbox_members WHERE managed_by = 'file'";
        for row in sqlx::query(sql).fetch_all(&mut *self.tx).await? {
            let key = (UserId::parse(row.try_get(0)?)?, UserId::parse(row.try_get(1)?)?);
            let member = Member(key.1.clone());
            difference.stored(key, member);
        }
        for ((id, user), _) in difference.puts() {
            let query = sqlx::query(
                "INSERT INTO mailbox_members (mailbox, address, managed_by) VALUES ($1, $2, 'file') \
                 ON CONFLICT (mailbox, address) DO UPDATE SET managed_by = excluded.managed_by",
            );
            query.bind(id.as_str()).bind(user.as_str()).execute(&mut *self.tx).await?;
            self.touched.mailboxes.insert(id.clone());
        }
        for ((id, user), _) in &difference.gone {
            let query = sqlx::query("DELETE FROM mailbox_members WHERE mailbox = $1 AND address = $2");
            query.bind(id.as_str()).bind(user.as_str()).execute(&mut *self.tx).await?;
            self.touched.mailboxes.insert(id.clone());
        }
        self.tell(&difference, |(id, _)| Place::Mailbox(id.clone()));
        Ok(())
    }

    async fn apps(&mut self, wanted: &BTreeMap<ClientId, App>) -> Result<(), Failed> {
        let mut difference = Difference::new(wanted);
        let sql = "SELECT id, name, trust, units, delegation FROM apps WHERE managed_by = 'file'";
        for row in sqlx::query(sql).fetch_all(&mut *self.tx).await? {
            if let Edit::App(id, Some(app)) = rows::app(&row)? {
                difference.stored(id, app);
            }
        }
        for (id, app) in difference.puts() {
            let (trust, units, delegation) = rows::app_columns(app);
            let query = sqlx::query(
                "INSERT INTO apps (id, name, trust, units, delegation, managed_by) VALUES ($1, $2, $3, $4, $5, 'file') \
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name, trust = excluded.trust, \
                 units = excluded.units, delegation = excluded.delegation, managed_by = excluded.managed_by",
            );
            let query = query.bind(id.as_str()).bind(&app.name).bind(trust).bind(units).bind(delegation);
            query.execute(&mut *self.tx).await?;
            self.touched.apps.insert(id.clone());
        }
        for (id, _) in &difference.gone {
            let query = sqlx::query("DELETE FROM apps WHERE id = $1").bind(id.as_str());
            query.execute(&mut *self.tx).await?;
            self.touched.apps.insert(id.clone());
        }
        self.tell(&difference, |id| Place::App(id.clone()));
        Ok(())
    }
}
