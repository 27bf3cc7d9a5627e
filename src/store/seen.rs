//! Apps seen: every client ID whose token was good, let in or not, with its users, programs and counts. The gate calls
//! [`Store::saw_app`], which only notes; a second later everything noted is added to the tables in one transaction, so
//! that the nodes' counts add up. `admin` reads with [`Store::apps_seen`].
//!
//! Only proved tokens come here, and everything has a bound: what waits, the apps kept (whichever was not used for
//! longest goes first), the users and programs kept for each.

mod add;
mod list;

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use sqlx::{Any, Transaction};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use add::{add_app, add_program, add_users, forget_apps};

use super::{Store, StoreError};
use crate::model::{ClientId, Service, UnitPath, UnixTime, UserId};
use crate::token::Identity;

/// How long knocks gather before they are added to the tables.
const GATHER: Duration = Duration::from_secs(1);
/// After so many of those the bytes of the day are added too: there may be as many rows of them as sessions.
const TRAFFIC_TURNS: u32 = 3;
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
        let mut turn = 0;
        while stop.run_until_cancelled(tokio::time::sleep(GATHER)).await.is_some() {
            let mut done = self.merge_seen().await.and(self.merge_legacy().await);
            turn = (turn + 1) % TRAFFIC_TURNS;
            if self.traffic_hurries() || turn == 0 {
                done = done.and(self.merge_traffic().await);
            }
            if let (Err(error), true) = (&done, writable) {
                tracing::error!(%error, "what was seen of apps, passwords and bytes waits for the database");
            }
            writable = done.is_ok();
        }
        if let Err(error) = self.merge_seen().await.and(self.merge_legacy().await).and(self.merge_traffic().await) {
            tracing::error!(%error, "what was seen of apps, passwords and bytes was not written");
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
        Ok(marks)
    }
}

/// A server that vanished from the network says nothing at all: then the wait ends here, and what was to be written waits.
pub(super) async fn patiently<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(ANSWER, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
