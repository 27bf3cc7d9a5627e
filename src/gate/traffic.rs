//! The bytes of the day: what users for whom there is a limit receive and send, by all their sessions, counted once a second
//! from what their seats count anyway. Who has used up the day's bytes has to leave, and comes in again the next day, or when
//! the limit is raised. `store` keeps the sums of all nodes. Run by `watch`; asked by `admit`.

use std::{collections::HashSet, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{Gate, denial::Cause, live::Seat, now};
use crate::model::{Place, UnixTime, UserId};
use crate::policy::{Bound, Directory};
use crate::store::next_day;

/// How often the seats are looked at: so late it is noticed that a day's bytes are used up.
const LOOK: Duration = Duration::from_secs(1);
/// After so many looks what nobody needs any more is forgotten.
const TIDY: u32 = 60;
/// Seats looked at under one hold of the directory, so that a writer never waits long.
const BATCH: usize = 512;

/// Counts, and ends the sessions of those who have no more bytes today, until `stop`.
pub(super) async fn keep_count(gate: &Gate, stop: &CancellationToken) {
    let mut counted = false;
    let mut looks = 0u32;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        let limited = gate.store.read(Directory::limits_bytes);
        // Once more after the last limit is gone: nothing that comes now shall count when there is another.
        if limited || counted {
            gate.count();
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(TIDY) || !limited {
                gate.store.tidy_traffic(now(), |user| gate.live.is_in(user));
            }
        }
        counted = limited;
    }
}

/// Asks the database for what is not known here, until `stop`: what was before a start, and what other nodes add.
pub(super) async fn learn(gate: &Gate, stop: &CancellationToken) {
    let mut answered = true;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        if !gate.store.read(Directory::limits_bytes) {
            continue;
        }
        let alone = !gate.store.nodes().iter().any(|node| node.alive && !node.this);
        let asked: Vec<UserId> =
            gate.limited_users().into_iter().filter(|user| !alone || gate.is_unknown(user)).collect();
        if asked.is_empty() {
            continue;
        }
        let done = gate.store.learn_traffic(&asked, now()).await;
        match &done {
            Ok(()) => gate.count(),
            Err(error) if answered => info!(%error, "bytes of the day are counted without the other nodes"),
            Err(error) => debug!(%error, "bytes of the day"),
        }
        answered = done.is_ok();
    }
}

impl Gate {
    /// Adds up what came since the last time, and ends the sessions of those whose day is used up.
    fn count(&self) {
        let at = now();
        let seats = self.live.seats();
        let mut fallen = 0usize;
        for batch in seats.chunks(BATCH) {
            let causes: Vec<(usize, Cause)> = self.store.read(|directory| {
                let fresh = batch.iter().enumerate();
                fresh.filter_map(|(place, seat)| Some((place, self.count_seat(seat, directory, at)?))).collect()
            });
            for (place, cause) in causes {
                if let Some(seat) = batch.get(place) {
                    fallen += usize::from(seat.fall().is_none() && self.end(seat, cause));
                }
            }
        }
        if fallen > 0 {
            self.store.hurry_traffic();
            info!(fallen, "sessions ended: the bytes of the day are used up");
        }
    }

    fn count_seat(&self, seat: &Seat, directory: &Directory, at: UnixTime) -> Option<Cause> {
        let Some(bound) = directory.byte_limit(seat.who.user()) else {
            seat.unmeter();
            return None;
        };
        let spent = self.store.note_traffic(seat.who.user(), seat.meter(), at);
        used_up(seat.who.user(), bound, spent, at)
    }

    /// A session is over: what it exchanged since the last look counts too.
    pub(super) fn settle(&self, seat: &Seat) {
        if seat.is_metered() {
            self.store.note_traffic(seat.who.user(), seat.meter(), now());
        }
    }

    /// Asks the database what a user has exchanged today, where there is a limit and nobody knows. Where there is no answer,
    /// what is counted from now on has to do.
    pub(super) async fn know_traffic(&self, user: &UserId) {
        let limited = self.store.read(|directory| directory.byte_limit(user).is_some());
        if limited
            && self.is_unknown(user)
            && let Err(error) = self.store.learn_traffic(std::slice::from_ref(user), now()).await
        {
            debug!(%user, %error, "what was exchanged today is not known");
        }
    }

    fn is_unknown(&self, user: &UserId) -> bool {
        self.store.traffic(user, now()).is_none()
    }

    /// Whether a user's bytes are limited; the refusal if those of today are used up.
    pub(super) fn day_goes_on(&self, user: &UserId, directory: &Directory) -> Result<bool, Cause> {
        let Some(bound) = directory.byte_limit(user) else { return Ok(false) };
        let at = now();
        let spent = self.store.note_traffic(user, 0, at);
        used_up(user, bound, spent, at).map_or(Ok(true), Err)
    }

    /// The users here whose bytes are limited.
    fn limited_users(&self) -> HashSet<UserId> {
        let mut users = HashSet::new();
        for batch in self.live.seats().chunks(BATCH) {
            self.store.read(|directory| {
                let limited = |seat: &&std::sync::Arc<Seat>| directory.byte_limit(seat.who.user()).is_some();
                users.extend(batch.iter().filter(limited).map(|seat| seat.who.user().clone()));
            });
        }
        users
    }
}

fn used_up(user: &UserId, bound: Bound<'_>, spent: u64, at: UnixTime) -> Option<Cause> {
    (spent >= bound.most).then(|| Cause::DayUsedUp {
        user: user.to_string(),
        spent,
        most: bound.most,
        anew: next_day(at),
        at: Place::Unit(bound.unit.clone()),
    })
}
