//! A policy file brought into the database: what differs is written, in one transaction, and nothing else.
//!
//! The file owns the rows it names (`managed_by = 'file'`) and takes over those it names that others made. Rows it
//! no longer names are removed; rows of others stay. Users' own switches and grants are not the file's.

mod work;

use std::time::SystemTime;

use sqlx::{AnyConnection, Row};
use work::{Told, Work};

use super::{
    AuditEvent, Deed, Store, StoreError, audit,
    edit::put::{self, Mark},
    feed::{self, News, Write},
    holders::Holder,
    outbox::Telling,
    rows::Failed,
};
use crate::model::{Place, UnixTime};
use crate::policy::{
    Directory, LiveSeat, Preview, Trial,
    file::{Document, FileError},
};

/// What an error says was being done.
const APPLYING: &str = "applying the policy file";

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
        let Worked { mut done, told, roles, version, .. } = work(&mut write, document, origin, expect, now).await?;
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
        events.extend(roles.iter().map(|holder| holder.ended(by, now)));
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
        let Worked { done, told, policy, .. } = work(&mut write, document, origin, None, now).await?;
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
        let Worked { done, .. } = work(&mut trial, document, origin, None, now).await?;
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
    roles: Vec<Holder>,
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
    now: UnixTime,
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
    let mut work = Work {
        tx,
        touched,
        mark,
        done: Applied::default(),
        told: Vec::new(),
        roles: Vec::new(),
        now,
        gone: Vec::new(),
    };
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
