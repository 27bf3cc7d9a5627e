//! The change feed: which rows a commit touched, in order, and how the snapshot follows. Called by every writer (its
//! own changes) and by the poll (other processes' changes).
//!
//! Numbers come from one counter row, which a writer holds until its commit: so they are in the order of the commits, and
//! without holes. On SQLite the database's one write lock does it, on PostgreSQL the lock on that row. The snapshot
//! is changed under one lock, in the order of the numbers, and its number is told only afterwards: whoever hears of
//! a change through `Store::changes` finds it in the snapshot.

use std::{
    collections::BTreeSet,
    pin::pin,
    time::{Duration, Instant},
};

use sqlx::{Any, AnyConnection, Row, Transaction};
use tokio::{sync::MutexGuard, time::timeout};

use super::{
    POLL, Store, StoreError, cutoffs, listen,
    rows::{self, Failed},
};
use crate::model::{ChangeKind, ClientId, GroupId, UnitPath, UnixTime, UserId};
use crate::policy::{CutoffKey, Directory, Edit};

/// More touched rows than this are one `directory` entry in the feed, and are read again with all others.
const MANY: usize = 20_000;
/// Feed entries kept; a process that is further behind reads everything again.
pub(super) const KEPT: i64 = 200_000;

/// How long a server may take to answer a question of one row.
const ANSWER: Duration = Duration::from_secs(10);
/// How long reading the whole directory may take.
const READ: Duration = Duration::from_secs(120);
/// How long a write of our own may take before the snapshot, which waits for it, counts as out of date.
const WRITE: Duration = Duration::from_secs(600);

/// Rows that changed, by kind.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// More than can be named.
    pub(super) all: bool,
    pub(super) units: BTreeSet<UnitPath>,
    pub(super) groups: BTreeSet<GroupId>,
    pub(super) users: BTreeSet<UserId>,
    pub(super) mailboxes: BTreeSet<UserId>,
    pub(super) apps: BTreeSet<ClientId>,
    pub(super) grants: BTreeSet<(UserId, ClientId)>,
    /// Requests to end sessions, by number: nothing in the directory, only a reason to look (`nodes`).
    pub(super) sessions: BTreeSet<i64>,
    pub(super) cutoffs: BTreeSet<CutoffKey>,
}

impl Touched {
    fn len(&self) -> usize {
        self.units.len()
            + self.groups.len()
            + self.users.len()
            + self.mailboxes.len()
            + self.apps.len()
            + self.grants.len()
            + self.sessions.len()
            + self.cutoffs.len()
    }

    /// One feed entry each; what is too much to name is one entry for all.
    fn entries(&self) -> Vec<(ChangeKind, String)> {
        if self.all || self.len() > MANY {
            return vec![(ChangeKind::Directory, String::new())];
        }
        let mut entries = Vec::with_capacity(self.len());
        entries.extend(self.units.iter().map(|name| (ChangeKind::Unit, name.to_string())));
        entries.extend(self.groups.iter().map(|name| (ChangeKind::Group, name.to_string())));
        entries.extend(self.apps.iter().map(|name| (ChangeKind::App, name.to_string())));
        entries.extend(self.mailboxes.iter().map(|name| (ChangeKind::Mailbox, name.to_string())));
        entries.extend(self.users.iter().map(|name| (ChangeKind::User, name.to_string())));
        entries.extend(self.grants.iter().map(|(user, app)| (ChangeKind::Grant, format!("{user} {app}"))));
        entries.extend(self.sessions.iter().map(|number| (ChangeKind::Sessions, number.to_string())));
        entries.extend(self.cutoffs.iter().map(|key| (ChangeKind::Cutoff, cutoffs::subject(key))));
        entries
    }

    /// Takes in a feed entry; one we cannot read is a newer version's: then everything may have changed.
    fn add(&mut self, kind: ChangeKind, subject: &str) {
        let known = match kind {
            ChangeKind::Directory => None,
            ChangeKind::Unit => UnitPath::parse(subject).ok().map(|name| self.units.insert(name)),
            ChangeKind::Group => GroupId::parse(subject).ok().map(|name| self.groups.insert(name)),
            ChangeKind::User => UserId::parse(subject).ok().map(|name| self.users.insert(name)),
            ChangeKind::Mailbox => UserId::parse(subject).ok().map(|name| self.mailboxes.insert(name)),
            ChangeKind::App => ClientId::parse(subject).ok().map(|name| self.apps.insert(name)),
            ChangeKind::Grant => subject.split_once(' ').and_then(|(user, app)| {
                Some(self.grants.insert((UserId::parse(user).ok()?, ClientId::parse(app).ok()?)))
            }),
            ChangeKind::Sessions => subject.parse().ok().map(|number| self.sessions.insert(number)),
            ChangeKind::Cutoff => cutoffs::from_subject(subject).map(|key| self.cutoffs.insert(key)),
        };
        self.all |= known.is_none() || self.len() > MANY;
    }
}

/// What the snapshot has to take in.
pub(super) enum News {
    Edits(Vec<Edit>),
    Everything(Box<Directory>),
}

async fn news(connection: &mut AnyConnection, touched: &Touched) -> Result<News, Failed> {
    if touched.all || touched.len() > MANY {
        return Ok(News::Everything(Box::new(rows::load(connection).await?)));
    }
    Ok(News::Edits(rows::read(connection, touched).await?))
}

/// A write: this process's turn, a transaction, and what it touched. Dropped before [`Write::commit`], it changes
/// nothing.
pub(super) struct Write<'s> {
    store: &'s Store,
    doing: &'static str,
    pub(super) tx: Transaction<'static, Any>,
    pub(super) touched: Touched,
    /// Last: the turn ends after the transaction.
    _turn: MutexGuard<'s, ()>,
}

impl<'s> Write<'s> {
    /// Waits for this process's turn and for the database's write lock.
    pub(super) async fn begin(store: &'s Store, doing: &'static str) -> Result<Self, StoreError> {
        let turn = store.turn.lock().await;
        let failed = |source| StoreError::sql(doing, &store.path, source);
        let mut tx = store.pool.begin_with(store.path.begin_writing()).await.map_err(failed)?;
        if store.path.is_server() {
            // Before anything is read: what was committed by whoever had the lock before is seen by each statement from
            // here on.
            lock(&mut tx, "change").await.map_err(failed)?;
        }
        Ok(Self { store, doing, tx, touched: Touched::default(), _turn: turn })
    }

    /// Turns a driver's error into ours.
    pub(super) fn failed(&self, error: impl Into<Failed>) -> StoreError {
        error.into().at(self.doing, &self.store.path)
    }

    /// The rows that were touched, as the write would leave them; the write itself is dropped and changes nothing.
    pub(super) async fn into_news(mut self) -> Result<News, StoreError> {
        let (doing, path) = (self.doing, &self.store.path);
        let news = news(&mut self.tx, &self.touched).await.map_err(|error| error.at(doing, path))?;
        self.tx.rollback().await.map_err(|source| StoreError::sql(doing, path, source))?;
        Ok(news)
    }

    /// The same, and the write goes on.
    pub(super) async fn news(&mut self) -> Result<News, StoreError> {
        let (doing, path) = (self.doing, &self.store.path);
        news(&mut self.tx, &self.touched).await.map_err(|error| error.at(doing, path))
    }

    /// Whether the snapshot has everything that was committed before this write.
    pub(super) async fn is_beside_snapshot(&mut self) -> Result<bool, StoreError> {
        let last = last_number(&mut self.tx).await.map_err(|error| self.failed(error))?;
        Ok(last == self.store.number())
    }

    /// Writes the feed, commits, and brings the snapshot up to the commit before it returns the commit's number.
    pub(super) async fn commit(mut self, now: UnixTime) -> Result<i64, StoreError> {
        let (store, doing) = (self.store, self.doing);
        let done = self.write_feed(now).await.map_err(|error| error.at(doing, &store.path))?;
        let (news, number) = done;
        self.tx.commit().await.map_err(|source| StoreError::sql(doing, &store.path, source))?;
        // No await from here on: the future may be dropped before, and then the poll brings the change in.
        if number != store.number() {
            store.note_unlooked(now);
        }
        store.note_commit(now);
        store.take_in(news, number);
        store.note_contact();
        if !self.touched.sessions.is_empty() {
            store.roll.asked.notify_one();
        }
        Ok(number)
    }

    async fn write_feed(&mut self, now: UnixTime) -> Result<(News, i64), Failed> {
        // What other processes committed since the last poll comes in with our own change.
        let (mut touched, last) = behind(&mut self.tx, self.store.number()).await?;
        let entries = self.touched.entries();
        let count = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        if count == 0 {
            let news = news(&mut self.tx, &touched).await?;
            self.touched.sessions = touched.sessions;
            return Ok((news, last));
        }
        if self.store.tells {
            listen::tell(&mut self.tx).await?;
        }
        let row = sqlx::query("UPDATE counters SET number = number + $1 WHERE name = 'change' RETURNING number");
        let end: i64 = row.bind(count).fetch_one(&mut *self.tx).await?.try_get(0)?;
        for (number, (kind, subject)) in (end - count + 1..).zip(&entries) {
            touched.add(*kind, subject);
            sqlx::query("INSERT INTO changes (number, kind, subject, at) VALUES ($1, $2, $3, $4)")
                .bind(number)
                .bind(kind.word())
                .bind(subject)
                .bind(now.0)
                .execute(&mut *self.tx)
                .await?;
        }
        let news = news(&mut self.tx, &touched).await?;
        self.touched.sessions = touched.sessions;
        Ok((news, end))
    }
}

/// Waits for the lock on one of the counters, until the end of the transaction. For PostgreSQL.
pub(super) async fn lock(connection: &mut AnyConnection, counter: &'static str) -> Result<(), sqlx::Error> {
    let query = sqlx::query("SELECT number FROM counters WHERE name = $1 FOR UPDATE").bind(counter);
    query.fetch_one(connection).await.map(drop)
}

/// What was committed after number `last`, and the number of the last of it.
async fn behind(connection: &mut AnyConnection, last: i64) -> Result<(Touched, i64), Failed> {
    let mut touched = Touched::default();
    let mut number = last;
    let sql = "SELECT number, kind, subject FROM changes WHERE number > $1 ORDER BY number LIMIT $2";
    let limit = i64::try_from(MANY + 1).unwrap_or(i64::MAX);
    let rows = sqlx::query(sql).bind(last).bind(limit).fetch_all(&mut *connection).await?;
    for row in &rows {
        let next: i64 = row.try_get(0)?;
        // Numbers have no holes, unless old entries were cleared away before we read them.
        touched.all |= next != number + 1;
        number = next;
        touched.add(ChangeKind::from_word(row.try_get(1)?), row.try_get(2)?);
    }
    if rows.len() > MANY {
        touched.all = true;
        number = last_number(connection).await?;
    }
    Ok((touched, number))
}

pub(super) async fn last_number(connection: &mut AnyConnection) -> Result<i64, Failed> {
    let row = sqlx::query("SELECT number FROM counters WHERE name = 'change'").fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}

/// When the last change was committed; the beginning of time if there was none. The last by number, not by time: after a
/// commit under a clock that ran ahead, the next change heals it.
pub(super) async fn last_time(connection: &mut AnyConnection) -> Result<UnixTime, Failed> {
    let query = sqlx::query("SELECT at FROM changes ORDER BY number DESC LIMIT 1");
    let row = query.fetch_optional(connection).await?;
    Ok(UnixTime(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0)))
}

/// A server that vanished from the network says nothing at all: then the wait ends here.
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    timeout(limit, work).await.unwrap_or(Err(Failed::Sql(sqlx::Error::PoolTimedOut)))
}

impl Store {
    /// Brings in what other processes committed. Cheap when there is nothing: one look at the end of the feed.
    ///
    /// While this process itself writes, which takes a minute for a large policy, it waits for its turn; that the database
    /// answers meanwhile is noted all the same, for as long as a write can take.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let failed = |error: Failed| error.at("reading the change feed", &self.path);
        let waiting = Instant::now();
        let mut turn = pin!(self.turn.lock());
        let _turn = loop {
            match timeout(POLL, &mut turn).await {
                Ok(turn) => break turn,
                Err(_) => {
                    within(ANSWER, self.probe()).await.map_err(failed)?;
                    if waiting.elapsed() < WRITE {
                        self.note_contact();
                    }
                }
            }
        };
        let told = within(ANSWER, self.has_news()).await.map_err(failed)?;
        if told {
            within(READ, self.follow()).await.map_err(failed)?;
        }
        self.note_contact();
        Ok(())
    }

    async fn probe(&self) -> Result<(), Failed> {
        last_number(&mut *self.pool.acquire().await?).await.map(drop)
    }

    async fn has_news(&self) -> Result<bool, Failed> {
        let mut connection = self.pool.acquire().await?;
        let query = sqlx::query("SELECT number FROM changes WHERE number > $1 LIMIT 1").bind(self.number());
        Ok(query.fetch_optional(&mut *connection).await?.is_some())
    }

    async fn follow(&self) -> Result<(), Failed> {
        // One transaction, so that the rows are those of one moment.
        let mut tx = self.pool.begin_with(self.path.begin_reading()).await?;
        let (touched, number) = behind(&mut tx, self.number()).await?;
        let news = news(&mut tx, &touched).await?;
        let committed = last_time(&mut tx).await?;
        let first = sqlx::query("SELECT at FROM changes WHERE number > $1 ORDER BY number LIMIT 1");
        let first = first.bind(self.number()).fetch_optional(&mut *tx).await?;
        tx.rollback().await?;
        if let Some(first) = first {
            self.note_unlooked(UnixTime(first.try_get(0)?));
        }
        self.note_commit(committed);
        self.take_in(news, number);
        if !touched.sessions.is_empty() {
            self.roll.asked.notify_one();
        }
        Ok(())
    }

    /// Changes the snapshot, then tells its new number. Called only by whoever has the turn.
    fn take_in(&self, news: News, number: i64) {
        if number == self.number() {
            return;
        }
        // The old directory, if replaced, is dropped after the lock is given back.
        let _old = {
            let mut directory = self.directory.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            let old = match news {
                News::Edits(edits) => {
                    edits.into_iter().for_each(|edit| directory.apply(edit));
                    None
                }
                News::Everything(mut fresh) => {
                    fresh.set_default_home(self.settings.default_home.clone());
                    Some(std::mem::replace(&mut *directory, *fresh))
                }
            };
            directory.set_version(number);
            old
        };
        self.number.send_replace(number);
    }
}
