//! Other sessions' turn: many share a thread, and one that goes through much memory without waiting for anything has to
//! let them have it. Used by `fetch`, `source`, `binary` and `list`.

/// Bytes gone through that count as one step: a task may do 128 of them before others have their turn.
const STEP: usize = 1024;

/// To be called after this many bytes were gone through, or as many steps done: others have their turn once that is
/// enough.
pub(super) async fn worked(bytes: usize) {
    for _ in 0..=bytes / STEP {
        tokio::task::consume_budget().await;
    }
}

/// How often another task has its turn while `work` goes on.
#[cfg(test)]
pub(super) async fn turns_of_others(work: impl Future<Output = ()>) -> u32 {
    use std::{cell::Cell, rc::Rc};

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
