//! Staying in: after every committed change each open session goes through the same `decide` again, and those that
//! no longer may are told to leave. Called by `serve`, as one task of the process.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Gate, denial::Cause, live::Seat, now, traffic};
use crate::model::UnixTime;
use crate::policy::{Directory, decide_again};

/// Sessions decided under one hold of the directory, so that a writer never waits long.
const BATCH: usize = 512;
/// Longest sleep between two looks; also how late a token's end is noticed where sessions end with it.
const TICK: Duration = Duration::from_millis(500);

/// Runs until `stop`, with an eye on the bytes of the day too.
pub async fn watch(gate: Arc<Gate>, stop: CancellationToken) {
    tokio::join!(follow_changes(&gate, &stop), traffic::keep_count(&gate, &stop), traffic::learn(&gate, &stop));
}

async fn follow_changes(gate: &Gate, stop: &CancellationToken) {
    let mut changes = gate.store.changes();
    let mut withdrawals = gate.issuers.withdrawals();
    // Whatever was committed before this task first looked is looked at now.
    changes.mark_changed();
    let mut looked = now();
    loop {
        let next_end = gate.store.read(|directory| next_end(directory, looked, now()));
        let nap = match next_end {
            Some(end) => now().until(end).min(TICK),
            None => TICK,
        };
        let mut timed = false;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            changed = withdrawals.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(nap) => timed = true,
        }
        let ended = next_end.filter(|end| *end <= now());
        let lost = gate.without_database().is_some();
        if timed && ended.is_none() && !lost && !gate.limits.sessions_end_with_token {
            continue;
        }
        let began = Instant::now();
        looked = now();
        // What falls now falls by the oldest change that nobody has looked at, or by what ran out.
        let since = [gate.store.unlooked_commit(), ended].into_iter().flatten().min();
        look_again(gate, since.unwrap_or(looked).min(looked));
        // Many small changes in a row are looked at together: looking takes a fifth of one core at most.
        let took = began.elapsed();
        tokio::time::sleep((took * 4).min(TICK / 2)).await;
    }
}

/// The next moment at which a time-boxed setting runs out that no look has seen. One that ran out since the last look
/// began, while that went on or while its pause lasted, is still to come; so is one that a clock set back comes to again.
fn next_end(directory: &Directory, looked: UnixTime, at: UnixTime) -> Option<UnixTime> {
    directory.next_end(looked.min(at))
}

/// Decides every live session once more; `since` is when there was reason to.
fn look_again(gate: &Gate, since: UnixTime) {
    let seats = gate.live.seats();
    let mut fallen = 0usize;
    for batch in seats.chunks(BATCH) {
        let causes: Vec<(usize, Cause)> = gate.store.read(|directory| {
            let fresh = batch.iter().enumerate();
            fresh.filter_map(|(place, seat)| still_may(gate, seat, directory).err().map(|no| (place, no))).collect()
        });
        for (place, cause) in causes {
            if let Some(seat) = batch.get(place) {
                fallen += usize::from(gate.end_since(seat, cause, since));
            }
        }
    }
    if fallen > 0 {
        info!(fallen, of = seats.len(), "sessions ended by a change");
    }
}

fn still_may(gate: &Gate, seat: &Seat, directory: &Directory) -> Result<(), Cause> {
    let at = now();
    if seat.fall().is_some() {
        return Ok(());
    }
    // Fail closed: what nobody can look up any more is not allowed any more.
    if let Some(cause) = gate.without_database() {
        return Err(cause);
    }
    if !gate.issuers.holds(&seat.who) {
        return Err(Cause::KeyWithdrawn { issuer: seat.who.issuer().into(), key: seat.who.key().into() });
    }
    if gate.limits.sessions_end_with_token && seat.who.expires_at() <= at {
        return Err(Cause::TokenExpired);
    }
    let again = decide_again(&seat.who, &seat.owner, seat.service, &seat.given, directory, at);
    again.map(drop).map_err(Cause::Policy)
}

impl Gate {
    /// Tells one session to leave; false if it was told before. Its audit row is written when it has left.
    pub fn end(&self, seat: &Seat, cause: Cause) -> bool {
        self.end_since(seat, cause, now())
    }

    /// [`Gate::end`], for a reason that there has been since `since`: the metrics tell how long it took.
    pub(super) fn end_since(&self, seat: &Seat, cause: Cause, since: UnixTime) -> bool {
        let denial = self.denial(cause, seat.service, Some(&seat.who));
        info!(session = %seat.session, user = %seat.who.user(), app = %seat.who.app(), reference = %denial.reference,
            reason = denial.cause.reason(), "session has to leave");
        seat.fell(denial, since)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::file;

    #[test]
    fn an_end_is_due_until_a_look_that_began_after_it() {
        let text = "[unit.\"/\"]\nimap = { apps = \"any\", until = 1970-01-01T00:00:10Z }\n";
        let directory = file::parse(text).unwrap().to_directory();
        let end = UnixTime::from_secs(10);
        for (name, looked_ms, at_ms, expected) in [
            ("ahead", 9_000, 9_500, Some(end)),
            ("passed while the last look went on", 9_999, 10_200, Some(end)),
            ("seen by the last look", 10_000, 10_200, None),
            ("seen, and then the clock was set back", 10_000, 9_000, Some(end)),
        ] {
            assert_eq!(next_end(&directory, UnixTime(looked_ms), UnixTime(at_ms)), expected, "{name}");
        }
    }
}
