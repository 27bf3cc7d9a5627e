//! The rows of a policy file: what differs from the database is written, kind by kind.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AnyConnection, Row};

use super::Applied;
use crate::model::{ClientId, GroupId, Place, UnitPath, UnixTime, UserId};
use crate::policy::{
    App, Edit, Group, Rights, Unit,
    file::{Document, FileUser},
};
use crate::store::{
    difference::{Difference, MailboxRow, Member, Righted, Words},
    edit::{
        self,
        former::{self, Kind},
        put::{self, Mark},
    },
    feed::Touched,
    holders::{self, Holder},
    roles::{self, Put},
    rows::{self, Failed},
};

/// Users and memberships read at a time.
const PAGE: i64 = 5_000;
/// Changed rows with an audit event of their own; beyond, the summary alone tells.
const TOLD: usize = 200;

/// A change in words, for the audit log.
pub(super) struct Told {
    pub(super) place: Place,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
}

/// The work on the rows, within a transaction of the caller's.
pub(super) struct Work<'w> {
    pub(super) tx: &'w mut AnyConnection,
    pub(super) touched: &'w mut Touched,
    pub(super) mark: Mark,
    pub(super) done: Applied,
    pub(super) told: Vec<Told>,
    /// Roles that went with who had them, or with their unit.
    pub(super) roles: Vec<Holder>,
    pub(super) now: UnixTime,
    /// Units that the file names no more.
    pub(super) gone: Vec<UnitPath>,
}

impl Work<'_> {
    pub(super) async fn all(&mut self, document: &Document) -> Result<(), Failed> {
        self.units(&document.units).await?;
        self.groups(document).await?;
        self.users(&document.users).await?;
        self.group_members(document).await?;
        self.mailboxes(document).await?;
        self.mailbox_members(document).await?;
        self.apps(&document.apps).await?;
        self.leave_units().await?;
        Ok(former::forget_used(self.tx).await?)
    }

    /// What was for a unit of which nothing is left ends with it: a role would wait for the next unit of its path.
    async fn leave_units(&mut self) -> Result<(), Failed> {
        for path in std::mem::take(&mut self.gone) {
            if edit::is_used(self.tx, &path).await? {
                continue;
            }
            former::leave_unit(self.tx, &path).await?;
            for holder in holders::of_unit(self.tx, &path, self.now).await? {
                holders::end(self.tx, &holder).await?;
                self.roles.push(holder);
            }
        }
        Ok(())
    }

    /// Counts a difference and notes it for the audit log.
    fn tell<K, V: PartialEq + Words>(&mut self, difference: &Difference<'_, K, V>, place: impl Fn(&K) -> Place)
    where
        K: Ord,
    {
        let mut note = |key: &K, before: Option<&V>, after: Option<&V>| {
            if self.told.len() < TOLD {
                let words = |value: Option<&V>| value.map(Words::words);
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
        for (key, after, before) in &difference.taken {
            self.done.changed += 1;
            note(key, Some(before), Some(after));
        }
        for (key, before) in &difference.gone {
            self.done.removed += 1;
            note(key, Some(before), None);
        }
    }

    async fn units(&mut self, wanted: &BTreeMap<UnitPath, Unit>) -> Result<(), Failed> {
        let sql = "SELECT path, imap, imap_until, pop, pop_until, storage_quota, message_quota, mail, read_only, sessions_per_user, bytes_per_day FROM units WHERE managed_by = 'file'";
        let mut difference = Difference::new(wanted);
        for row in sqlx::query(sql).fetch_all(&mut *self.tx).await? {
            if let Edit::Unit(path, Some(unit)) = rows::unit(&row)? {
                difference.stored(path, unit);
            }
        }
        let sql = "SELECT path, imap, imap_until, pop, pop_until, storage_quota, message_quota, mail, read_only, sessions_per_user, bytes_per_day FROM units WHERE managed_by <> 'file'";
        for row in sqlx::query(sql).fetch_all(&mut *self.tx).await? {
            if let Edit::Unit(path, Some(unit)) = rows::unit(&row)? {
                difference.taken_over(&path, unit);
            }
        }
        for (path, unit) in difference.puts() {
            put::unit(self.tx, path, unit, self.mark).await?;
            self.touched.units.insert(path.clone());
        }
        for (path, _) in &difference.gone {
            put::remove(self.tx, "DELETE FROM units WHERE path = $1", &[path.as_str()]).await?;
            self.touched.units.insert(path.clone());
            self.gone.push(path.clone());
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
        let sql = "SELECT name, imap, imap_until, pop, pop_until, priority, managed_by FROM user_groups";
        let mut difference = Difference::new(&wanted);
        for row in sqlx::query(sql).fetch_all(&mut *self.tx).await? {
            let is_ours = row.try_get::<String, _>(6)? == put::FILE;
            match rows::group(&row)? {
                Edit::Group(name, Some(group)) if is_ours => difference.stored(name, group),
                Edit::Group(name, Some(group)) => difference.taken_over(&name, group),
                _ => {}
            }
        }
        for (name, group) in difference.puts() {
            put::group(self.tx, name, group, self.mark).await?;
            self.touched.groups.insert(name.clone());
        }
        for (name, _) in &difference.gone {
            put::remove_group(self.tx, name).await?;
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
                "SELECT address, imap, imap_until, pop, pop_until, unit, suspended, mail FROM users \
                 WHERE managed_by = 'file' AND address > $1 ORDER BY address LIMIT $2",
            )
            .bind(&after)
            .bind(PAGE)
            .fetch_all(&mut *self.tx)
            .await?;
            let Some(last) = page.last() else { break };
            after = last.try_get(0)?;
            for row in &page {
                let (id, user) = rows::file_user(row)?;
                difference.stored(id, user);
            }
        }
        // Users of others that the file names: asked for by name, because there may be very many of others.
        if self.is_any("SELECT 1 FROM users WHERE managed_by <> 'file' LIMIT 1").await? {
            let sql = "SELECT address, imap, imap_until, pop, pop_until, unit, suspended, mail FROM users \
                       WHERE managed_by <> 'file' AND address IN ";
            let keys: Vec<UserId> = difference.added().map(|(id, _)| id.clone()).collect();
            for row in rows::some(self.tx, sql, keys.iter().map(UserId::as_str)).await? {
                let (id, user) = rows::file_user(&row)?;
                difference.taken_over(&id, user);
            }
        }
        for (id, user) in difference.puts() {
            put::user(self.tx, id, user, self.mark).await?;
            self.touched.users.insert(id.clone());
        }
        for (id, user) in &difference.gone {
            // The last super admin stays one, whom only a super admin can make a user again: a file that is applied at start
            // must not keep the gate shut.
            if let Put::Done { before } = roles::end(self.tx, id).await? {
                self.roles.push(Holder::Person { user: id.clone(), role: before });
            }
            put::remove_user(self.tx, id).await?;
            former::note(self.tx, id, (Kind::User, Some(&user.unit))).await?;
            self.touched.users.insert(id.clone());
        }
        self.tell(&difference, |id| Place::User(id.clone()));
        Ok(())
    }

    async fn is_any(&mut self, sql: &'static str) -> Result<bool, Failed> {
        Ok(sqlx::query(sql).fetch_optional(&mut *self.tx).await?.is_some())
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
                "SELECT address, name, managed_by FROM group_members WHERE (address, name) > ($1, $2) \
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
                match row.try_get::<String, _>(2)?.as_str() {
                    put::FILE => difference.stored(key, member),
                    _ => difference.taken_over(&key, member),
                }
            }
        }
        let mut groups = BTreeSet::new();
        for ((user, name), _) in difference.puts() {
            put::group_member(self.tx, name, user, put::FILE).await?;
            self.touched.users.insert(user.clone());
            groups.insert(name);
        }
        for ((user, name), _) in &difference.gone {
            let sql = "DELETE FROM group_members WHERE address = $1 AND name = $2";
            put::remove(self.tx, sql, &[user.as_str(), name.as_str()]).await?;
            self.touched.users.insert(user.clone());
            groups.insert(name);
        }
        for name in groups {
            self.renew("UPDATE user_groups SET version = $1 WHERE name = $2", name.as_str()).await?;
        }
        self.tell(&difference, |(_, name)| Place::Group(name.clone()));
        Ok(())
    }

    /// A row's members changed, so its version does.
    async fn renew(&mut self, sql: &'static str, key: &str) -> Result<(), Failed> {
        sqlx::query(sql).bind(self.mark.version).bind(key).execute(&mut *self.tx).await?;
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
        for row in
            sqlx::query("SELECT address, name, unit, managed_by FROM mailboxes").fetch_all(&mut *self.tx).await?
        {
            let unit = row.try_get::<Option<String>, _>(2)?.map(|unit| UnitPath::parse(&unit)).transpose()?;
            let (id, mailbox) = (UserId::parse(row.try_get(0)?)?, MailboxRow { name: row.try_get(1)?, unit });
            match row.try_get::<String, _>(3)?.as_str() {
                put::FILE => difference.stored(id, mailbox),
                _ => difference.taken_over(&id, mailbox),
            }
        }
        for (id, mailbox) in difference.puts() {
            put::mailbox(self.tx, id, (mailbox.name.as_deref(), mailbox.unit.as_ref()), self.mark).await?;
            self.touched.mailboxes.insert(id.clone());
        }
        for (id, mailbox) in &difference.gone {
            put::remove(self.tx, "DELETE FROM mailboxes WHERE address = $1", &[id.as_str()]).await?;
            former::note(self.tx, id, (Kind::Mailbox, mailbox.unit.as_ref())).await?;
            self.touched.mailboxes.insert(id.clone());
        }
        self.tell(&difference, |id| Place::Mailbox(id.clone()));
        Ok(())
    }

    async fn mailbox_members(&mut self, document: &Document) -> Result<(), Failed> {
        let mut wanted: BTreeMap<(UserId, UserId), Righted> = BTreeMap::new();
        for (id, mailbox) in &document.mailboxes {
            let readers = mailbox.readers.iter().map(|user| (user, Rights::Read));
            for (user, rights) in readers.chain(mailbox.members.iter().map(|user| (user, Rights::Write))) {
                wanted.insert((id.clone(), user.clone()), Righted(user.clone(), rights));
            }
        }
        let mut difference = Difference::new(&wanted);
        let sql = "SELECT mailbox, address, rights, managed_by FROM mailbox_members";
        for row in sqlx::query(sql).fetch_all(&mut *self.tx).await? {
            let key = (UserId::parse(row.try_get(0)?)?, UserId::parse(row.try_get(1)?)?);
            let member = Righted(key.1.clone(), rows::rights(row.try_get(2)?)?);
            match row.try_get::<String, _>(3)?.as_str() {
                put::FILE => difference.stored(key, member),
                _ => difference.taken_over(&key, member),
            }
        }
        let mut mailboxes = BTreeSet::new();
        for ((id, user), member) in difference.puts() {
            put::mailbox_member(self.tx, id, (user, member.1), put::FILE).await?;
            mailboxes.insert(id);
        }
        for ((id, user), _) in &difference.gone {
            let sql = "DELETE FROM mailbox_members WHERE mailbox = $1 AND address = $2";
            put::remove(self.tx, sql, &[id.as_str(), user.as_str()]).await?;
            mailboxes.insert(id);
        }
        for id in mailboxes {
            self.renew("UPDATE mailboxes SET version = $1 WHERE address = $2", id.as_str()).await?;
            self.touched.mailboxes.insert(id.clone());
        }
        self.tell(&difference, |(id, _)| Place::Mailbox(id.clone()));
        Ok(())
    }

    async fn apps(&mut self, wanted: &BTreeMap<ClientId, App>) -> Result<(), Failed> {
        let mut difference = Difference::new(wanted);
        let sql = "SELECT id, name, trust, units, delegation, read_only, managed_by FROM apps";
        for row in sqlx::query(sql).fetch_all(&mut *self.tx).await? {
            let is_ours = row.try_get::<String, _>(6)? == put::FILE;
            match rows::app(&row)? {
                Edit::App(id, Some(app)) if is_ours => difference.stored(id, app),
                Edit::App(id, Some(app)) => difference.taken_over(&id, app),
                _ => {}
            }
        }
        for (id, app) in difference.puts() {
            put::app(self.tx, id, app, self.mark).await?;
            self.touched.apps.insert(id.clone());
        }
        for (id, _) in &difference.gone {
            put::remove(self.tx, "DELETE FROM apps WHERE id = $1", &[id.as_str()]).await?;
            self.touched.apps.insert(id.clone());
        }
        self.tell(&difference, |id| Place::App(id.clone()));
        Ok(())
    }
}
