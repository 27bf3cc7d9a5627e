//! Other sessions' turn: many share a thread, and one that goes through much memory without waiting for anything has to
//! let them have it. Used by `fetch`, `source`, `binary` and `list`.

use std::cell::Cell;

/// Least that counts for a call, in bytes.
const STEP: usize = 1024;
/// Bytes gone through until others have their turn.
const TURN: usize = 128 * 1024;

thread_local! {
    /// Bytes gone through on this thread since others had their turn.
    static WORKED: Cell<usize> = const { Cell::new(0) };
}

/// To be called after this many bytes were gone through, or as many steps done: others have their turn once that is
/// enough. Not by the runtime's own budget: a session that has used that up is not told either that it has to end.
pub(super) async fn worked(bytes: usize) {
    let since = WORKED.get().saturating_add(bytes).saturating_add(STEP);
    let enough = since >= TURN;
    WORKED.set(if enough { 0 } else { since });
    if enough {
        tokio::task::yield_now().await;
    }
}

/// How often another task has its turn while `work` goes on.
#[cfg(test)]
pub(super) async fn turns_of_others(work: impl Future<Output = ()>) -> u32 {
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local, yield_now};

    let turns = Rc::new(Cell::new(0));
    let count = Rc::clone(&turns);
    let both = async move {
        spawn_local(async move {
            loop {
                count.set(count.get() + 1);
                yield_now().await;
            }
        });
        work.await;
    };
    LocalSet::new().run_until(both).await;
    turns.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn whoever_goes_through_much_lets_others_have_their_turn() {
        for (piece, pieces, most, least) in [(64 * 1024, 160, 90, 70), (1, 100, 1, 0), (1, 12_800, 110, 90)] {
            let work = async {
                for _ in 0..pieces {
                    worked(piece).await;
                }
            };
            let turns = turns_of_others(work).await;
            assert!((least..=most).contains(&turns), "{pieces} times {piece}: {turns} turns");
        }
    }
}
