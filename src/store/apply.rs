//! A policy file brought into the database: what differs is written, in one transaction, and nothing else.
//!
//! The file owns the rows it names (`managed_by = 'file'`) and takes over those it names that others made. Rows it
//! no longer names are removed; rows of others stay. Users' own switches and grants are not the file's.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{
    AuditEvent, Deed, Store, StoreError, audit,
    difference::{Difference, MailboxRow, Member, Righted, Words},
    edit::put::{self, Mark},
    feed::{self, News, Touched, Write},
    outbox::Telling,
    roles::{self, Put, Role},
    rows::{self, Failed},
};
use crate::model::{ClientId, GroupId, Place, UnitPath, UnixTime, UserId};
use crate::policy::{
    App, Directory, Edit, Group, LiveSeat, Preview, Rights, Trial, Unit,
    file::{Document, FileError, FileUser},
};

/// What an error says was being done.
const APPLYING: &str = "applying the policy file";
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
    /// People who are told that they lose access; 0 where nobody asked for notices.
    pub told: usize,
}

impl Applied {
    /// Whether the database said the same already.
    pub fn is_unchanged(&self) -> bool {
        self.added + self.changed + self.removed == 0
    }
}

/// What a policy file would change: the answer of [`Store::plan`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The version of the policy it was made against, for `apply` to expect.
    pub version: i64,
    /// How many rows; `number` means nothing here.
    pub counts: Applied,
    /// The first 200 changes.
    pub changes: Vec<Planned>,
    /// Who would lose and gain access, and which open sessions would fall.
    pub preview: Preview,
}

/// One row of a plan, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Which row.
    pub place: Place,
    /// As it is; none for a new row.
    pub before: Option<String>,
    /// As it would be; none for a row that goes.
    pub after: Option<String>,
}

impl Store {
    /// Makes the database say what the file says. When it returns, the snapshot has the change and
    /// [`Store::changes`] has told its number; on an error nothing is changed. `origin` is the file's name, for
    /// messages and the audit log.
    pub async fn apply(&self, document: &Document, origin: &str) -> Result<Applied, StoreError> {
        self.apply_expecting(document, origin, origin, None).await
    }

    /// The same, by a person, and only while the policy still has the version `expect`
    /// ([`Store::policy_version`]): else [`StoreError::Stale`].
    pub async fn apply_expecting(
        &self,
        document: &Document,
        origin: &str,
        by: &str,
        expect: Option<i64>,
    ) -> Result<Applied, StoreError> {
        self.bring_in(Write::begin(self, APPLYING).await?, document, (origin, by), expect, None).await
    }

    /// The same, and queues a notice in the same transaction for everybody who loses access to something by it. For more
    /// than 100,000 people it is an error, and nothing is changed.
    pub async fn apply_telling(
        &self,
        document: &Document,
        (origin, by): (&str, &str),
        expect: Option<i64>,
        reason: Option<&str>,
    ) -> Result<Applied, StoreError> {
        let write = self.begin_beside_snapshot(APPLYING).await?;
        let telling = Telling { deed: Deed::Changed, from: Some(SystemTime::now().into()), reason };
        self.bring_in(write, document, (origin, by), expect, Some(telling)).await
    }

    async fn bring_in(
        &self,
        mut write: Write<'_>,
        document: &Document,
        (origin, by): (&str, &str),
        expect: Option<i64>,
        telling: Option<Telling<'_>>,
    ) -> Result<Applied, StoreError> {
        let now = UnixTime::from(SystemTime::now());
        let Worked { mut done, told, roles, version, .. } = work(&mut write, document, origin, expect).await?;
        if done.is_unchanged() {
            drop(write);
            // Another process may have changed what this one has not seen yet.
            self.catch_up().await?;
            return Ok(Applied { number: self.number(), ..done });
        }
        let drafts = match telling {
            Some(telling) => self.loss_drafts(&mut write, telling, now).await?,
            None => Vec::new(),
        };
        let noted = note(&mut write, version, origin).await;
        noted.map_err(|error| write.failed(error))?;
        let mut events = events(&done, told, by, now);
        events.extend(roles.iter().map(|(user, before)| roles::told(user, (before, &Role::User), by, now)));
        let inserted = audit::insert(&mut write.tx, events).await;
        inserted.map_err(|error| write.failed(error))?;
        self.post(&mut write, &drafts, by, now).await?;
        done.number = write.commit(now).await?;
        done.told = drafts.len();
        self.posted();
        Ok(done)
    }

    /// What [`Store::apply`] would change, and whom it would touch; `seats` are open sessions. Nothing is changed.
    pub async fn plan(&self, document: &Document, origin: &str, seats: &[LiveSeat]) -> Result<Plan, StoreError> {
        let now = UnixTime::from(SystemTime::now());
        self.catch_up().await?;
        let mut write = Write::begin(self, "planning the policy file").await?;
        let Worked { done, told, policy, .. } = work(&mut write, document, origin, None).await?;
        let preview = match done.is_unchanged() {
            true => Preview::default(),
            false => self.preview_of(write.into_news().await?, seats, now),
        };
        let changes =
            told.into_iter().map(|told| Planned { place: told.place, before: told.before, after: told.after });
        Ok(Plan { version: policy, counts: done, changes: changes.collect(), preview })
    }

    /// Queues a notice for everybody who would lose access to something by [`Store::apply`], ahead of it: from `on`, if that
    /// is known. The policy stays as it is. Returns how many are told; none where the file would change nothing.
    pub async fn warn(
        &self,
        document: &Document,
        (origin, by): (&str, &str),
        on: Option<UnixTime>,
        reason: Option<&str>,
    ) -> Result<usize, StoreError> {
        let now = UnixTime::from(SystemTime::now());
        let mut trial = self.begin_beside_snapshot("planning the policy file").await?;
        let Worked { done, .. } = work(&mut trial, document, origin, None).await?;
        if done.is_unchanged() {
            return Ok(0);
        }
        let telling = Telling { deed: Deed::Planned, from: on, reason };
        let drafts = self.loss_drafts(&mut trial, telling, now).await?;
        drop(trial);
        let mut write = Write::begin(self, "queueing notices").await?;
        self.post(&mut write, &drafts, by, now).await?;
        write.commit(now).await?;
        self.posted();
        Ok(drafts.len())
    }

    /// What rows would come to, judged beside the snapshot.
    pub(super) fn preview_of(&self, news: News, seats: &[LiveSeat], now: UnixTime) -> Preview {
        self.try_beside(news, |trial, before| trial.preview(before, seats, now))
    }

    /// The same, with up to `most` of those who lose by name.
    pub(super) fn preview_naming(&self, news: News, now: UnixTime, most: usize) -> Preview {
        self.try_beside(news, |trial, before| trial.preview_naming(before, &[], now, most))
    }

    fn try_beside<T>(&self, news: News, ask: impl FnOnce(&Trial, &Directory) -> T) -> T {
        self.read(|before| {
            let trial = match news {
                News::Edits(edits) => Trial::new(before, edits),
                News::Everything(after) => Trial::whole(*after),
            };
            ask(&trial, before)
        })
    }

    /// The version of the policy: the number of the last change of units, groups, users, mailboxes and apps, whoever made
    /// it. Grants and users' own switches leave it as it is.
    pub async fn policy_version(&self) -> Result<i64, StoreError> {
        let failed = |error: Failed| error.at("reading the version of the policy", &self.path);
        let mut connection = self.pool.acquire().await.map_err(|error| failed(error.into()))?;
        policy_version(&mut connection).await.map_err(failed)
    }
}

pub(super) async fn policy_version(connection: &mut AnyConnection) -> Result<i64, Failed> {
    let row = sqlx::query("SELECT number FROM counters WHERE name = 'policy'").fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}

/// The policy has a new version, and perhaps another file.
async fn note(write: &mut Write<'_>, version: i64, origin: &str) -> Result<(), Failed> {
    note_policy_version(&mut write.tx, version).await?;
    let query = sqlx::query(
        "INSERT INTO portcullis (name, value) VALUES ('policy_file', $1) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    );
    query.bind(origin).execute(&mut *write.tx).await?;
    Ok(())
}

pub(super) async fn note_policy_version(connection: &mut AnyConnection, version: i64) -> Result<(), Failed> {
    let query = sqlx::query("UPDATE counters SET number = $1 WHERE name = 'policy'").bind(version);
    query.execute(connection).await?;
    Ok(())
}

/// What was done to the rows, in a transaction that is still open.
struct Worked {
    done: Applied,
    told: Vec<Told>,
    roles: Vec<(UserId, Role)>,
    /// The number that the change will have.
    version: i64,
    /// The version of the policy before it.
    policy: i64,
}

async fn work(
    write: &mut Write<'_>,
    document: &Document,
    origin: &str,
    expect: Option<i64>,
) -> Result<Worked, StoreError> {
    let numbers = numbers(&mut write.tx).await;
    let (version, policy) = numbers.map_err(|error| write.failed(error))?;
    if let Some(expected) = expect.filter(|expected| *expected != policy) {
        return Err(StoreError::Stale { expected, found: policy });
    }
    let strangers = strangers(&mut write.tx, document).await.map_err(|error| write.failed(error))?;
    if !strangers.is_empty() {
        return Err(FileError::from_problems(strangers).in_file(origin).into());
    }
    let mark = Mark { managed_by: put::FILE, version };
    let (tx, touched) = (&mut *write.tx, &mut write.touched);
    let mut work = Work { tx, touched, mark, done: Applied::default(), told: Vec::new(), roles: Vec::new() };
    let outcome = work.all(document).await;
    let Work { done, told, roles, .. } = work;
    outcome.map_err(|error| write.failed(error))?;
    Ok(Worked { done, told, roles, version, policy })
}

/// The number of the change being made, and the version of the policy before it.
pub(super) async fn numbers(connection: &mut AnyConnection) -> Result<(i64, i64), Failed> {
    Ok((feed::last_number(connection).await? + 1, policy_version(connection).await?))
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
        let words = |text: Option<String>| text.unwrap_or_else(|| "absent".to_owned());
        event.detail = Some(format!("by {origin}: {} -> {}", words(told.before), words(told.after)));
        event
    }));
    events
}

/// A change in words, for the audit log.
struct Told {
    place: Place,
    before: Option<String>,
    after: Option<String>,
}

struct Work<'w> {
    tx: &'w mut AnyConnection,
    touched: &'w mut Touched,
    mark: Mark,
    done: Applied,
    told: Vec<Told>,
    /// Roles that went with who had them.
    roles: Vec<(UserId, Role)>,
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
        let sql = "SELECT path, imap, imap_until, pop, pop_until, storage_quota, message_quota FROM units WHERE managed_by = 'file'";
        let mut difference = Difference::new(wanted);
        for row in sqlx::query(sql).fetch_all(&mut *self.tx).await? {
            if let Edit::Unit(path, Some(unit)) = rows::unit(&row)? {
                difference.stored(path, unit);
            }
        }
        let sql = "SELECT path, imap, imap_until, pop, pop_until, storage_quota, message_quota FROM units WHERE managed_by <> 'file'";
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
                let (id, user) = file_user(row)?;
                difference.stored(id, user);
            }
        }
        // Users of others that the file names: asked for by name, because there may be very many of others.
        if self.is_any("SELECT 1 FROM users WHERE managed_by <> 'file' LIMIT 1").await? {
            let sql = "SELECT address, imap, imap_until, pop, pop_until, unit, suspended FROM users \
                       WHERE managed_by <> 'file' AND address IN ";
            let keys: Vec<UserId> = difference.added().map(|(id, _)| id.clone()).collect();
            for row in rows::some(self.tx, sql, keys.iter().map(UserId::as_str)).await? {
                let (id, user) = file_user(&row)?;
                difference.taken_over(&id, user);
            }
        }
        for (id, user) in difference.puts() {
            put::user(self.tx, id, (&user.unit, user.suspended, &user.settings), self.mark).await?;
            self.touched.users.insert(id.clone());
        }
        for (id, _) in &difference.gone {
            // The last super admin stays one, whom only a super admin can make a user again: a file that is applied at start
            // must not keep the gate shut.
            if let Put::Done { before } = roles::end(self.tx, id).await? {
                self.roles.push((id.clone(), before));
            }
            put::remove_user(self.tx, id).await?;
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
        for (id, _) in &difference.gone {
            put::remove(self.tx, "DELETE FROM mailboxes WHERE address = $1", &[id.as_str()]).await?;
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
        let sql = "SELECT id, name, trust, units, delegation, managed_by FROM apps";
        for row in sqlx::query(sql).fetch_all(&mut *self.tx).await? {
            let is_ours = row.try_get::<String, _>(5)? == put::FILE;
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

/// Columns `address, imap, imap_until, pop, pop_until, unit, suspended`.
fn file_user(row: &AnyRow) -> Result<(UserId, FileUser), Failed> {
    let (unit, suspended) = (UnitPath::parse(row.try_get(5)?)?, row.try_get::<i64, _>(6)? != 0);
    Ok((UserId::parse(row.try_get(0)?)?, FileUser { unit, suspended, settings: rows::settings(row)? }))
}
