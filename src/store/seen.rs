//! Apps seen: every client ID whose token was good, let in or not, with its users, programs and counts. The gate calls
//! [`Store::saw_app`], which only notes; a second later everything noted is added to the tables in one transaction, so
//! that the nodes' counts add up. `admin` reads with [`Store::apps_seen`].
//!
//! Only proved tokens come here, and everything has a bound: what waits, the apps kept (whichever was not used for
//! longest goes first), the users and programs kept for each.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use sqlx::{Any, AssertSqlSafe, Row, Transaction, any::AnyRow};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Store, StoreError};
use crate::model::{ClientId, Service, UnitPath, UnixTime, UserId};
use crate::token::Identity;

/// How long knocks gather before they are added to the tables.
const GATHER: Duration = Duration::from_secs(1);
/// How long the database may take for one merge.
const ANSWER: Duration = Duration::from_secs(30);
/// Knocks noted before they are summed up in place.
const NOTED: usize = 2_048;
/// Apps whose sums wait for the database; what comes past them is not listed.
const WAITING_APPS: usize = 1_000;
/// Users of one app that wait for the database.
const WAITING_USERS: usize = 5_000;
/// Apps kept.
const APPS: i64 = 2_000;
/// Users counted for each app; beyond them "at least".
const USERS: i64 = 10_000;
/// Programs kept for each app.
const PROGRAMS: i64 = 20;
/// Longest name of a program that is kept, in characters.
const PROGRAM_CHARS: usize = 100;
/// A user's last use of an app is written at most this often.
const REFRESH: Duration = Duration::from_secs(3600);
/// Users and programs remembered as written.
const REMEMBERED: u64 = 100_000;
/// Users in one statement, largest first, so that few texts are ever prepared.
const ROWS: [usize; 3] = [64, 8, 1];

/// One sign-in whose token was good.
#[derive(Clone, Debug)]
pub struct Knock {
    /// Whom the token proved, through which app.
    pub who: Identity,
    /// The protocol.
    pub service: Service,
    /// What the program says it is (IMAP `ID`).
    pub program: Option<Box<str>>,
    /// Why it was refused: a cause word; none if it was let in.
    pub refused: Option<&'static str>,
    /// When.
    pub at: UnixTime,
}

/// Which apps to list. The default is all of them, 100 at a time, the last used first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenFilter {
    /// Only this client ID.
    pub app: Option<ClientId>,
    /// Only apps that were used by users of this unit or of units below it; users are then counted and named only there.
    pub unit: Option<UnitPath>,
    /// Only apps that were refused at least once.
    pub refused: bool,
    /// Only apps used since.
    pub since: Option<UnixTime>,
    /// Only what comes after this one: [`AppSeen::cursor`] of the last one shown.
    pub after: Option<SeenCursor>,
    /// At most so many; 0 means 100, and no more than 500 are given.
    pub limit: u32,
}

/// Where a list of apps seen goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenCursor {
    /// [`AppSeen::last`] of the last one shown.
    pub last: UnixTime,
    /// Its issuer.
    pub issuer: String,
    /// Its client ID.
    pub app: String,
}

/// Sign-ins of one app by one service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Let in.
    pub accepted: u64,
    /// Refused, although the token was good.
    pub refused: u64,
}

/// One app that has knocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSeen {
    /// Whose tokens it had.
    pub issuer: String,
    /// Its client ID.
    pub app: String,
    /// When it was first seen.
    pub first: UnixTime,
    /// When it was last seen.
    pub last: UnixTime,
    /// By IMAP, in the whole organisation.
    pub imap: Verdicts,
    /// By POP, in the whole organisation.
    pub pop: Verdicts,
    /// How many users it had tokens of; with a unit asked for, users of that unit.
    pub users: u64,
    /// There may be more users than that: counting has a bound.
    pub users_at_least: bool,
    /// Some of the users, the last seen first: at most five.
    pub some_users: Vec<String>,
    /// What programs with this client ID called themselves (IMAP `ID`), the last seen first.
    pub programs: Vec<String>,
    /// The cause word of its last refusal.
    pub last_refusal: Option<String>,
}

impl AppSeen {
    /// Where the list goes on after this one.
    pub fn cursor(&self) -> SeenCursor {
        SeenCursor { last: self.last, issuer: self.issuer.clone(), app: self.app.clone() }
    }
}

/// What waits to be added to the tables.
#[derive(Debug)]
pub(super) struct Seen {
    waiting: Mutex<Waiting>,
    /// One merge at a time.
    merging: tokio::sync::Mutex<()>,
    /// Hashes of apps with a user or a program that were written lately.
    written: Cache<u64, ()>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Waiting {
    knocks: Vec<Knock>,
    sums: HashMap<(Arc<str>, ClientId), Sum>,
}

/// What has to be added for one app.
#[derive(Debug, Default)]
struct Sum {
    first: UnixTime,
    last: UnixTime,
    imap: Verdicts,
    pop: Verdicts,
    refusal: Option<&'static str>,
    users: HashMap<UserId, UnixTime>,
    programs: BTreeSet<Box<str>>,
}

impl Waiting {
    fn sum_up(&mut self) {
        for knock in std::mem::take(&mut self.knocks) {
            let key = (Arc::from(knock.who.issuer()), knock.who.app().clone());
            if self.sums.len() >= WAITING_APPS && !self.sums.contains_key(&key) {
                continue;
            }
            self.sums.entry(key).or_insert_with(|| Sum { first: knock.at, ..Sum::default() }).add(knock);
        }
    }
}

impl Sum {
    fn add(&mut self, knock: Knock) {
        self.first = self.first.min(knock.at);
        self.last = self.last.max(knock.at);
        let verdicts = match knock.service {
            Service::Imap => &mut self.imap,
            Service::Pop => &mut self.pop,
        };
        match knock.refused {
            Some(cause) => {
                verdicts.refused += 1;
                self.refusal = Some(cause);
            }
            None => verdicts.accepted += 1,
        }
        if self.users.len() < WAITING_USERS || self.users.contains_key(knock.who.user()) {
            let last = self.users.entry(knock.who.user().clone()).or_insert(knock.at);
            *last = knock.at.max(*last);
        }
        if let Some(program) = knock.program
            && self.programs.len() < PROGRAMS as usize
        {
            self.programs.insert(program.chars().filter(|c| !c.is_control()).take(PROGRAM_CHARS).collect());
        }
    }

    /// Takes in what could not be written before.
    fn join(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        for (mine, more) in [(&mut self.imap, other.imap), (&mut self.pop, other.pop)] {
            mine.accepted += more.accepted;
            mine.refused += more.refused;
        }
        self.refusal = self.refusal.or(other.refusal);
        for (user, at) in other.users {
            if self.users.len() < WAITING_USERS || self.users.contains_key(&user) {
                let last = self.users.entry(user).or_insert(at);
                *last = at.max(*last);
            }
        }
        self.programs.extend(other.programs);
        while self.programs.len() > PROGRAMS as usize {
            self.programs.pop_last();
        }
    }
}

impl Seen {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            merging: tokio::sync::Mutex::default(),
            written: Cache::builder().max_capacity(REMEMBERED).time_to_live(REFRESH).build(),
            hasher: RandomState::new(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, issuer: &str, app: &ClientId, kind: char, name: &str) -> u64 {
        self.hasher.hash_one((issuer, app, kind, name))
    }
}

impl Store {
    /// Notes a sign-in whose token was good. Never waits, never writes: it is added to the tables a second later.
    pub fn saw_app(&self, knock: Knock) {
        let mut waiting = self.seen.waiting();
        waiting.knocks.push(knock);
        if waiting.knocks.len() >= NOTED {
            waiting.sum_up();
        }
    }

    /// Adds to the tables, until `stop`, what the gate notes; then what is left.
    pub(super) async fn keep_books(&self, stop: &CancellationToken) {
        let mut writable = true;
        while stop.run_until_cancelled(tokio::time::sleep(GATHER)).await.is_some() {
            let done = self.merge_seen().await.and(self.merge_legacy().await);
            if let (Err(error), true) = (&done, writable) {
                tracing::error!(%error, "what was seen of apps and passwords waits for the database");
            }
            writable = done.is_ok();
        }
        if let Err(error) = self.merge_seen().await.and(self.merge_legacy().await) {
            tracing::error!(%error, "what was seen of apps and passwords was not written");
        }
    }

    /// Adds to the tables what was noted so far; without SQL if nothing was.
    pub(super) async fn merge_seen(&self) -> Result<(), StoreError> {
        let _merging = self.seen.merging.lock().await;
        let sums = {
            let mut waiting = self.seen.waiting();
            waiting.sum_up();
            std::mem::take(&mut waiting.sums)
        };
        if sums.is_empty() {
            return Ok(());
        }
        match patiently(self.write_seen(&sums)).await {
            Ok(marks) => {
                marks.into_iter().for_each(|mark| self.seen.written.insert(mark, ()));
                Ok(())
            }
            Err(source) => {
                // It waits for the next try. Where only the answer to a commit was lost it is counted twice, which does no
                // harm; what is not counted would.
                let mut waiting = self.seen.waiting();
                for (key, sum) in sums {
                    let room = waiting.sums.len() < WAITING_APPS;
                    match waiting.sums.entry(key) {
                        Entry::Occupied(mut newer) => newer.get_mut().join(sum),
                        Entry::Vacant(free) if room => {
                            free.insert(sum);
                        }
                        Entry::Vacant(_) => {}
                    }
                }
                Err(StoreError::sql("adding up the apps seen", &self.path, source))
            }
        }
    }

    /// A write that no decision depends on: no change, no feed entry. [`Store::turn_to_log`] has to be held while it lasts.
    pub(super) async fn begin_quietly(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        self.pool.begin_with(self.path.begin_writing()).await
    }

    async fn write_seen(&self, sums: &HashMap<(Arc<str>, ClientId), Sum>) -> Result<Vec<u64>, sqlx::Error> {
        let _turn = self.turn_to_log().await;
        let mut tx = self.begin_quietly().await?;
        let mut marks = Vec::new();
        // In one order on every node: two that added the same rows in different orders would wait for each other.
        let mut sorted: Vec<_> = sums.iter().collect();
        sorted.sort_by_key(|(key, _)| *key);
        for ((issuer, app), sum) in sorted {
            let users = add_app(&mut tx, issuer, app, sum).await?;
            let mut fresh: Vec<(&UserId, UnixTime, u64)> = sum
                .users
                .iter()
                .map(|(user, at)| (user, *at, self.seen.mark(issuer, app, 'u', user.as_str())))
                .filter(|(_, _, mark)| !self.seen.written.contains_key(mark))
                .collect();
            fresh.sort();
            if !fresh.is_empty() {
                add_users(&mut tx, issuer, app, users, &fresh).await?;
                marks.extend(fresh.iter().map(|(_, _, mark)| *mark));
            }
            for program in &sum.programs {
                let mark = self.seen.mark(issuer, app, 'p', program);
                if !self.seen.written.contains_key(&mark) {
                    add_program(&mut tx, issuer, app, program, sum.last).await?;
                    marks.push(mark);
                }
            }
        }
        forget_apps(&mut tx).await?;
        tx.commit().await?;
        self.note_contact();
        Ok(marks)
    }

    /// The apps that have knocked, the last used first. What was only just noted is in it.
    pub async fn apps_seen(&self, filter: &SeenFilter) -> Result<Vec<AppSeen>, StoreError> {
        self.merge_seen().await?;
        let found = self.read_seen(filter).await;
        found.map_err(|source| StoreError::sql("reading the apps seen", &self.path, source))
    }

    async fn read_seen(&self, filter: &SeenFilter) -> Result<Vec<AppSeen>, sqlx::Error> {
        let mut sql = Sql::new(
            "SELECT issuer, app, first_seen, last_seen, imap_accepted, imap_refused, pop_accepted, pop_refused, \
             users, last_cause FROM apps_seen WHERE 1 = 1",
        );
        if let Some(app) = &filter.app {
            sql.and("app = $", [Value::Text(app.as_str().to_owned())]);
        }
        if let Some(since) = filter.since {
            sql.and("last_seen >= $", [Value::Number(since.0)]);
        }
        if filter.refused {
            sql.and("imap_refused + pop_refused > 0", []);
        }
        let subtree = filter.unit.as_ref().and_then(Subtree::of);
        if let Some(subtree) = &subtree {
            sql.and(
                "EXISTS (SELECT 1 FROM app_users_seen s JOIN users u ON u.address = s.address WHERE \
                 s.issuer = apps_seen.issuer AND s.app = apps_seen.app AND (u.unit = $ OR substr(u.unit, 1, CAST($ AS INTEGER)) = $))",
                subtree.values(),
            );
        }
        if let Some(after) = &filter.after {
            let (last, issuer, app) = (Value::Number(after.last.0), &after.issuer, &after.app);
            sql.and(
                "(last_seen < $ OR (last_seen = $ AND (issuer > $ OR (issuer = $ AND app > $))))",
                [
                    last.clone(),
                    last,
                    Value::Text(issuer.clone()),
                    Value::Text(issuer.clone()),
                    Value::Text(app.clone()),
                ],
            );
        }
        let limit = if filter.limit == 0 { 100 } else { filter.limit.min(500) };
        sql.push(" ORDER BY last_seen DESC, issuer, app LIMIT $", [Value::Number(i64::from(limit))]);
        let rows = sql.fetch(&self.pool).await?;
        let mut apps = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut app = from_row(row)?;
            self.put_names(&mut app, subtree.as_ref()).await?;
            apps.push(app);
        }
        Ok(apps)
    }

    async fn put_names(&self, app: &mut AppSeen, subtree: Option<&Subtree>) -> Result<(), sqlx::Error> {
        let key = [Value::Text(app.issuer.clone()), Value::Text(app.app.clone())];
        let (tables, inside) = match subtree {
            Some(_) => (
                "app_users_seen s JOIN users u ON u.address = s.address",
                " AND (u.unit = $ OR substr(u.unit, 1, CAST($ AS INTEGER)) = $)",
            ),
            None => ("app_users_seen s", ""),
        };
        let inside_values = || subtree.map(|subtree| subtree.values().to_vec()).unwrap_or_default();
        if subtree.is_some() {
            let mut sql = Sql::new(&format!("SELECT count(*) FROM {tables} WHERE 1 = 1"));
            sql.and("s.issuer = $ AND s.app = $", key.clone());
            sql.push(inside, inside_values());
            app.users = sql.fetch(&self.pool).await?.first().map_or(Ok(0), |row| unsigned(row, 0))?;
        }
        let mut sql = Sql::new(&format!("SELECT s.address FROM {tables} WHERE 1 = 1"));
        sql.and("s.issuer = $ AND s.app = $", key.clone());
        sql.push(inside, inside_values());
        sql.push(" ORDER BY s.last_seen DESC, s.address LIMIT 5", []);
        app.some_users = texts(&sql.fetch(&self.pool).await?)?;
        let mut sql = Sql::new("SELECT program FROM app_programs_seen WHERE 1 = 1");
        sql.and("issuer = $ AND app = $", key);
        sql.push(" ORDER BY last_seen DESC, program LIMIT 20", []);
        app.programs = texts(&sql.fetch(&self.pool).await?)?;
        Ok(())
    }
}

fn texts(rows: &[AnyRow]) -> Result<Vec<String>, sqlx::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn unsigned(row: &AnyRow, column: usize) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}

fn from_row(row: &AnyRow) -> Result<AppSeen, sqlx::Error> {
    let users = unsigned(row, 8)?;
    let last_cause: String = row.try_get(9)?;
    Ok(AppSeen {
        issuer: row.try_get(0)?,
        app: row.try_get(1)?,
        first: UnixTime(row.try_get(2)?),
        last: UnixTime(row.try_get(3)?),
        imap: Verdicts { accepted: unsigned(row, 4)?, refused: unsigned(row, 5)? },
        pop: Verdicts { accepted: unsigned(row, 6)?, refused: unsigned(row, 7)? },
        users,
        users_at_least: i64::try_from(users).is_ok_and(|users| users >= USERS),
        some_users: Vec::new(),
        programs: Vec::new(),
        last_refusal: Some(last_cause).filter(|cause| !cause.is_empty()),
    })
}

/// Adds an app's counts; gives the number of its users so far.
async fn add_app(
    tx: &mut Transaction<'static, Any>,
    issuer: &str,
    app: &ClientId,
    sum: &Sum,
) -> Result<i64, sqlx::Error> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let row = sqlx::query(
        "INSERT INTO apps_seen (issuer, app, first_seen, last_seen, imap_accepted, imap_refused, pop_accepted, \
         pop_refused, users, last_cause) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9) \
         ON CONFLICT (issuer, app) DO UPDATE SET \
         first_seen = CASE WHEN excluded.first_seen < apps_seen.first_seen \
         THEN excluded.first_seen ELSE apps_seen.first_seen END, \
         last_seen = CASE WHEN excluded.last_seen > apps_seen.last_seen \
         THEN excluded.last_seen ELSE apps_seen.last_seen END, \
         imap_accepted = apps_seen.imap_accepted + excluded.imap_accepted, \
         imap_refused = apps_seen.imap_refused + excluded.imap_refused, \
         pop_accepted = apps_seen.pop_accepted + excluded.pop_accepted, \
         pop_refused = apps_seen.pop_refused + excluded.pop_refused, \
         last_cause = CASE WHEN excluded.last_cause <> '' THEN excluded.last_cause ELSE apps_seen.last_cause END \
         RETURNING users",
    )
    .bind(issuer)
    .bind(app.as_str())
    .bind(sum.first.0)
    .bind(sum.last.0)
    .bind(number(sum.imap.accepted))
    .bind(number(sum.imap.refused))
    .bind(number(sum.pop.accepted))
    .bind(number(sum.pop.refused))
    .bind(sum.refusal.unwrap_or_default())
    .fetch_one(&mut **tx)
    .await?;
    row.try_get(0)
}

/// Adds the users who are new to this app and notes the last use of the others.
async fn add_users(
    tx: &mut Transaction<'static, Any>,
    issuer: &str,
    app: &ClientId,
    known: i64,
    users: &[(&UserId, UnixTime, u64)],
) -> Result<(), sqlx::Error> {
    let mut rest = users;
    let mut added = 0i64;
    for size in ROWS {
        while let Some((chunk, left)) = rest.split_at_checked(size) {
            rest = left;
            let last = chunk.iter().map(|(_, at, _)| *at).max().unwrap_or_default();
            let mut new = 0;
            if known + added < USERS {
                let places: Vec<String> = (0..size).map(|row| format!("($1, $2, ${}, $3, $3)", row + 4)).collect();
                let text = format!(
                    "INSERT INTO app_users_seen (issuer, app, address, first_seen, last_seen) VALUES {} \
                     ON CONFLICT (issuer, app, address) DO NOTHING",
                    places.join(", ")
                );
                let query = sqlx::query(AssertSqlSafe(text)).bind(issuer).bind(app.as_str()).bind(last.0);
                let query = chunk.iter().fold(query, |query, (user, _, _)| query.bind(user.as_str()));
                new = query.execute(&mut **tx).await?.rows_affected();
                added += i64::try_from(new).unwrap_or(0);
            }
            if usize::try_from(new).is_ok_and(|new| new < size) {
                let places: Vec<String> = (0..size).map(|row| format!("${}", row + 4)).collect();
                let text = format!(
                    "UPDATE app_users_seen SET last_seen = $3 WHERE issuer = $1 AND app = $2 AND last_seen < $3 \
                     AND address IN ({})",
                    places.join(", ")
                );
                let query = sqlx::query(AssertSqlSafe(text)).bind(issuer).bind(app.as_str()).bind(last.0);
                let query = chunk.iter().fold(query, |query, (user, _, _)| query.bind(user.as_str()));
                query.execute(&mut **tx).await?;
            }
        }
    }
    if added > 0 {
        let query = sqlx::query("UPDATE apps_seen SET users = users + $3 WHERE issuer = $1 AND app = $2");
        query.bind(issuer).bind(app.as_str()).bind(added).execute(&mut **tx).await?;
    }
    Ok(())
}

async fn add_program(
    tx: &mut Transaction<'static, Any>,
    issuer: &str,
    app: &ClientId,
    program: &str,
    at: UnixTime,
) -> Result<(), sqlx::Error> {
    let query =
        sqlx::query("UPDATE app_programs_seen SET last_seen = $4 WHERE issuer = $1 AND app = $2 AND program = $3");
    let done = query.bind(issuer).bind(app.as_str()).bind(program).bind(at.0).execute(&mut **tx).await?;
    if done.rows_affected() > 0 {
        return Ok(());
    }
    let query = sqlx::query("SELECT count(*) FROM app_programs_seen WHERE issuer = $1 AND app = $2");
    let kept: i64 = query.bind(issuer).bind(app.as_str()).fetch_one(&mut **tx).await?.try_get(0)?;
    if kept >= PROGRAMS {
        return Ok(());
    }
    let query = sqlx::query(
        "INSERT INTO app_programs_seen (issuer, app, program, last_seen) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (issuer, app, program) DO NOTHING",
    );
    query.bind(issuer).bind(app.as_str()).bind(program).bind(at.0).execute(&mut **tx).await?;
    Ok(())
}

/// Forgets the apps past the bound, those not used for longest first.
async fn forget_apps(tx: &mut Transaction<'static, Any>) -> Result<(), sqlx::Error> {
    let query =
        sqlx::query("SELECT issuer, app FROM apps_seen ORDER BY last_seen DESC, issuer, app LIMIT $1 OFFSET $2");
    let most = i64::try_from(WAITING_APPS).unwrap_or(i64::MAX);
    let rows = query.bind(most).bind(APPS).fetch_all(&mut **tx).await?;
    let mut forgotten = BTreeSet::new();
    for row in &rows {
        forgotten.insert((row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?));
    }
    for (issuer, app) in forgotten {
        for sql in [
            "DELETE FROM app_users_seen WHERE issuer = $1 AND app = $2",
            "DELETE FROM app_programs_seen WHERE issuer = $1 AND app = $2",
            "DELETE FROM apps_seen WHERE issuer = $1 AND app = $2",
        ] {
            sqlx::query(sql).bind(&*issuer).bind(&*app).execute(&mut **tx).await?;
        }
    }
    Ok(())
}

/// A server that vanished from the network says nothing at all: then the wait ends here, and what was to be written waits.
pub(super) async fn patiently<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(ANSWER, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// A unit and everything below it, as a condition on its path.
#[derive(Clone, Debug)]
pub(super) struct Subtree {
    path: String,
    below: String,
}

impl Subtree {
    /// None for the root: everything is below it.
    pub(super) fn of(unit: &UnitPath) -> Option<Self> {
        let path = unit.as_str().to_owned();
        (path != "/").then(|| Self { below: format!("{path}/"), path })
    }

    /// For `(unit = $ OR substr(unit, 1, $) = $)`.
    pub(super) fn values(&self) -> [Value; 3] {
        let length = i64::try_from(self.below.chars().count()).unwrap_or(i64::MAX);
        [Value::Text(self.path.clone()), Value::Number(length), Value::Text(self.below.clone())]
    }
}

/// What a place of a statement takes.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Number(i64),
}

/// A statement put together from fixed words; each `$` in them becomes the next numbered place.
pub(super) struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    pub(super) fn and(&mut self, words: &str, values: impl IntoIterator<Item = Value>) {
        self.text.push_str(" AND ");
        self.push(words, values);
    }

    pub(super) fn push(&mut self, words: &str, values: impl IntoIterator<Item = Value>) {
        let mut number = self.values.len();
        for (index, piece) in words.split('$').enumerate() {
            if index > 0 {
                number += 1;
                self.text.push_str(&format!("${number}"));
            }
            self.text.push_str(piece);
        }
        self.values.extend(values);
    }

    pub(super) async fn fetch(self, pool: &sqlx::AnyPool) -> Result<Vec<AnyRow>, sqlx::Error> {
        self.query().fetch_all(pool).await
    }

    pub(super) async fn fetch_in(self, tx: &mut Transaction<'static, Any>) -> Result<Vec<AnyRow>, sqlx::Error> {
        self.query().fetch_all(&mut **tx).await
    }

    fn query(self) -> sqlx::query::Query<'static, Any, sqlx::any::AnyArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text));
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
        })
    }
}
