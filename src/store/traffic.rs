//! What users whose bytes are limited have received and sent today, by the day in UTC. The gate notes it with
//! [`Store::note_traffic`], which only adds in memory; every few seconds the sums are added to the table in one transaction, so
//! that all nodes' counts add up and a restart forgets nothing but the last seconds. While the database does not answer,
//! counting goes on in memory and is added later. Nobody asks for a day that is over: its rows are removed.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{AssertSqlSafe, Row};
use tokio::time::timeout;

use super::{Store, StoreError, rows, seen::patiently};
use crate::model::{UnixTime, UserId};

/// Users whose day is remembered. Past it nobody is forgotten who is in, or whose bytes wait for the database.
const USERS: usize = 100_000;
/// How long a sign-in may wait for the database's word on what the user has exchanged today.
const ANSWER: Duration = Duration::from_secs(2);
/// Users in one statement, largest first, so that few texts are ever prepared.
const ROWS: [usize; 3] = [64, 8, 1];
/// Days whose rows are kept: yesterday's for nodes whose clocks are behind.
const KEPT_DAYS: i64 = 1;

/// A day in UTC, counted from 1970-01-01.
type Day = i64;

fn day_of(at: UnixTime) -> Day {
    at.secs().div_euclid(24 * 3600)
}

/// The moment at which the next day begins.
pub fn next_day(at: UnixTime) -> UnixTime {
    UnixTime::from_secs((day_of(at) + 1) * 24 * 3600)
}

/// One user's day.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    day: Day,
    /// Whether `stored` is what the database said of this day.
    known: bool,
    /// What the database had when it was last asked or written.
    stored: u64,
    /// What is being written.
    writing: u64,
    /// What waits for that.
    unsaved: u64,
}

impl Spent {
    /// The bytes of a day that is over are of no more use.
    fn turn_to(&mut self, day: Day) {
        if self.day != day {
            *self = Self { day, ..Self::default() };
        }
    }

    fn sum(self) -> u64 {
        self.stored.saturating_add(self.writing).saturating_add(self.unsaved)
    }

    fn is_saved(self) -> bool {
        self.writing == 0 && self.unsaved == 0
    }
}

/// What is known in this process.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    users: Mutex<HashMap<UserId, Spent>>,
    /// One merge at a time.
    merging: tokio::sync::Mutex<()>,
    /// Other nodes should hear of it soon.
    urgent: AtomicBool,
    /// It was logged that there is no room for more users.
    told_full: AtomicBool,
}

impl Traffic {
    fn users(&self) -> MutexGuard<'_, HashMap<UserId, Spent>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Adds to what a user has exchanged today, and gives the sum as far as it is known. Never waits, never writes: it is
    /// added to the table a few seconds later.
    pub fn note_traffic(&self, user: &UserId, bytes: u64, now: UnixTime) -> u64 {
        let mut users = self.traffic.users();
        let room = users.len() < USERS;
        let spent = match users.entry(user.clone()) {
            Entry::Occupied(spent) => spent.into_mut(),
            Entry::Vacant(free) if room => free.insert(Spent::default()),
            Entry::Vacant(_) => {
                drop(users);
                self.tell_full();
                return bytes;
            }
        };
        spent.turn_to(day_of(now));
        spent.unsaved = spent.unsaved.saturating_add(bytes);
        spent.sum()
    }

    fn tell_full(&self) {
        if !self.traffic.told_full.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                users = USERS,
                "the bytes of the day are counted for no more users on this node: bytes_per_day does not hold for those \
                 who come in now; spread users over more nodes, or limit fewer of them"
            );
        }
    }

    /// What a user has exchanged today, as far as it is known; none where the database was not asked yet.
    pub fn traffic(&self, user: &UserId, now: UnixTime) -> Option<u64> {
        let spent = self.traffic.users().get(user).copied()?;
        (spent.known && spent.day == day_of(now)).then(|| spent.sum())
    }

    /// Asks the database what these users have exchanged today: after a start, and for what other nodes have added. While it
    /// does not answer, what is known stays as it is.
    pub async fn learn_traffic(&self, users: &[UserId], now: UnixTime) -> Result<(), StoreError> {
        if users.is_empty() || !self.is_reachable() {
            return Ok(());
        }
        let read = async {
            // What is being added now would be in the answer, and counted as being written too.
            let _merging = self.traffic.merging.lock().await;
            self.read_traffic(users, now).await
        };
        // A merge may wait for much longer, where the database says nothing at all.
        let read = timeout(ANSWER, read).await.unwrap_or(Err(rows::Failed::Sql(sqlx::Error::PoolTimedOut)));
        read.map_err(|error| error.at("reading the bytes of the day", &self.path))
    }

    async fn read_traffic(&self, users: &[UserId], now: UnixTime) -> Result<(), rows::Failed> {
        let day = day_of(now);
        let mut c = self.pool.acquire().await?;
        // A number of ours, written into the text.
        let sql = format!("SELECT address, bytes FROM traffic WHERE day = {day} AND address IN ");
        let found = rows::some(&mut c, &sql, users.iter().map(UserId::as_str)).await?;
        let mut stored: HashMap<String, u64> = HashMap::with_capacity(found.len());
        for row in &found {
            stored.insert(row.try_get(0)?, u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or(0));
        }
        let mut known = self.traffic.users();
        for user in users {
            if known.len() >= USERS && !known.contains_key(user) {
                continue;
            }
            let spent = known.entry(user.clone()).or_default();
            spent.turn_to(day);
            (spent.known, spent.stored) = (true, stored.get(user.as_str()).copied().unwrap_or(0));
        }
        Ok(())
    }

    /// Somebody's day is used up: the other nodes should not hear of it seconds later.
    pub fn hurry_traffic(&self) {
        self.traffic.urgent.store(true, Ordering::Relaxed);
    }

    /// Whether [`Store::hurry_traffic`] was called since the last time.
    pub(super) fn traffic_hurries(&self) -> bool {
        self.traffic.urgent.swap(false, Ordering::Relaxed)
    }

    /// Forgets days that are over and, where there are too many, users who are not in; the database still knows them.
    pub fn tidy_traffic(&self, now: UnixTime, is_in: impl Fn(&UserId) -> bool) {
        let day = day_of(now);
        let mut users = self.traffic.users();
        let many = users.len() > USERS / 2;
        users.retain(|user, spent| is_in(user) || (spent.day == day && !(many && spent.is_saved())));
        if users.len() <= USERS / 2 {
            self.traffic.told_full.store(false, Ordering::Relaxed);
        }
    }

    /// Adds to the table what was noted so far; without SQL if nothing was.
    pub(super) async fn merge_traffic(&self) -> Result<(), StoreError> {
        let _merging = self.traffic.merging.lock().await;
        let mut sums: Vec<(UserId, Day, u64)> = Vec::new();
        for (user, spent) in self.traffic.users().iter_mut().filter(|(_, spent)| spent.unsaved > 0) {
            spent.writing = std::mem::take(&mut spent.unsaved);
            sums.push((user.clone(), spent.day, spent.writing));
        }
        if sums.is_empty() {
            return Ok(());
        }
        // In one order on every node: two that added the same rows in different orders would wait for each other.
        sums.sort();
        let done = patiently(self.write_traffic(&sums)).await;
        let mut users = self.traffic.users();
        for (user, day, bytes) in &sums {
            let Some(spent) = users.get_mut(user).filter(|spent| spent.day == *day) else { continue };
            spent.writing = 0;
            match &done {
                Ok(stored) => {
                    let sum = stored.get(user).copied().unwrap_or_else(|| spent.stored.saturating_add(*bytes));
                    (spent.known, spent.stored) = (true, sum);
                }
                // It waits for the next try. Where only the answer to a commit was lost it is counted twice.
                Err(_) => spent.unsaved = spent.unsaved.saturating_add(*bytes),
            }
        }
        done.map(drop).map_err(|source| StoreError::sql("adding up the bytes of the day", &self.path, source))
    }

    /// Gives the sums of all nodes.
    async fn write_traffic(&self, sums: &[(UserId, Day, u64)]) -> Result<HashMap<UserId, u64>, sqlx::Error> {
        let _turn = self.turn_to_log().await;
        let mut tx = self.begin_quietly().await?;
        let mut stored = HashMap::with_capacity(sums.len());
        let mut rest = sums;
        for size in ROWS {
            while let Some((chunk, left)) = rest.split_at_checked(size) {
                rest = left;
                let place = |row: usize| format!("(${}, ${}, ${})", row * 3 + 1, row * 3 + 2, row * 3 + 3);
                let places: Vec<String> = (0..size).map(place).collect();
                let text = format!(
                    "INSERT INTO traffic (address, day, bytes) VALUES {} ON CONFLICT (address, day) \
                     DO UPDATE SET bytes = traffic.bytes + excluded.bytes RETURNING address, bytes",
                    places.join(", ")
                );
                let query = chunk.iter().fold(sqlx::query(AssertSqlSafe(text)), |query, (user, day, bytes)| {
                    query.bind(user.as_str()).bind(*day).bind(i64::try_from(*bytes).unwrap_or(i64::MAX))
                });
                for row in query.fetch_all(&mut *tx).await? {
                    let bytes = u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or(0);
                    if let Ok(user) = UserId::parse(row.try_get(0)?) {
                        stored.insert(user, bytes);
                    }
                }
            }
        }
        tx.commit().await?;
        Ok(stored)
    }

    /// Removes the rows of days that are over.
    pub(super) async fn trim_traffic(&self, now: UnixTime) -> Result<(), StoreError> {
        let _turn = self.turn_to_log().await;
        let query = sqlx::query("DELETE FROM traffic WHERE day < $1").bind(day_of(now) - KEPT_DAYS);
        let done = query.execute(&self.pool).await;
        done.map(drop).map_err(|source| StoreError::sql("clearing away old rows", &self.path, source))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::Settings;

    const NOON: UnixTime = UnixTime::from_secs(20_000 * 86_400 + 43_200);

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    #[tokio::test]
    async fn the_bytes_of_all_nodes_add_up_and_a_restart_knows_them() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::in_dir(dir.path());
        let (one, two) = (Store::open(&settings).await.unwrap(), Store::open(&settings).await.unwrap());
        let (ann, bob) = (user("ann@x"), user("bob@x"));
        assert_eq!(one.traffic(&ann, NOON), None, "not asked yet");
        assert_eq!((one.note_traffic(&ann, 100, NOON), one.note_traffic(&ann, 50, NOON)), (100, 150));
        assert_eq!(two.note_traffic(&ann, 7, NOON), 7);
        for store in [&one, &two, &one] {
            store.merge_traffic().await.unwrap();
        }
        assert_eq!((one.traffic(&ann, NOON), two.traffic(&ann, NOON)), (Some(150), Some(157)));
        one.note_traffic(&ann, 1, NOON);
        one.learn_traffic(&[ann.clone(), bob.clone()], NOON).await.unwrap();
        assert_eq!(one.traffic(&ann, NOON), Some(158), "what is not written yet counts too");
        assert_eq!(one.traffic(&bob, NOON), Some(0));
        one.close().await.unwrap();
        let three = Store::open(&settings).await.unwrap();
        three.learn_traffic(std::slice::from_ref(&ann), NOON).await.unwrap();
        assert_eq!(three.traffic(&ann, NOON), Some(158), "closing writes what waits");
    }

    #[tokio::test]
    async fn a_new_day_begins_at_nothing_and_the_rows_of_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Settings::in_dir(dir.path())).await.unwrap();
        let ann = user("ann@x");
        let midnight = next_day(NOON);
        assert_eq!(midnight.to_string(), "2024-10-05T00:00:00Z");
        store.note_traffic(&ann, 100, midnight - Duration::from_millis(1));
        store.merge_traffic().await.unwrap();
        assert_eq!(store.traffic(&ann, midnight - Duration::from_millis(1)), Some(100));
        assert_eq!(store.traffic(&ann, midnight), None);
        assert_eq!(store.note_traffic(&ann, 5, midnight), 5);
        store.merge_traffic().await.unwrap();
        let rows = async || {
            let row = sqlx::query("SELECT count(*) FROM traffic").fetch_one(&store.pool).await.unwrap();
            row.try_get::<i64, _>(0).unwrap()
        };
        assert_eq!(rows().await, 2);
        store.trim_traffic(midnight + Duration::from_secs(24 * 3600)).await.unwrap();
        assert_eq!(rows().await, 1);
        store.tidy_traffic(NOON, |_| false);
        assert!(store.traffic.users().is_empty(), "the memory of another day goes too");
    }

    #[tokio::test]
    async fn while_the_database_is_down_counting_goes_on_and_is_added_later() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Settings::in_dir(dir.path())).await.unwrap();
        let ann = user("ann@x");
        store.note_traffic(&ann, 100, NOON);
        let sql = |text: &'static str| sqlx::query(text).execute(&store.pool);
        sql("ALTER TABLE traffic RENAME TO away").await.unwrap();
        store.merge_traffic().await.unwrap_err();
        assert_eq!(store.note_traffic(&ann, 10, NOON), 110);
        sql("ALTER TABLE away RENAME TO traffic").await.unwrap();
        store.merge_traffic().await.unwrap();
        assert_eq!(store.traffic(&ann, NOON), Some(110));
        assert!(store.traffic.users().values().all(|spent| spent.is_saved() && spent.stored == 110));
    }

    #[tokio::test]
    async fn however_many_users_there_are_so_many_days_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Settings::in_dir(dir.path())).await.unwrap();
        let told = || store.traffic.told_full.load(Ordering::Relaxed);
        for number in 0..USERS + 10 {
            assert_eq!(told(), number > USERS, "logged with the first for whom there is no room");
            store.note_traffic(&user(&format!("u{number}@x")), 0, NOON);
        }
        assert_eq!(store.traffic.users().len(), USERS);
        store.note_traffic(&user("u0@x"), 1, NOON);
        store.tidy_traffic(NOON, |user| user.as_str() == "u1@x");
        assert_eq!(store.traffic.users().len(), 2, "who is in, and whose bytes wait");
        assert!(!told(), "and again, should it fill up again");
    }
}
