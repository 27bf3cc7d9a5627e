//! How sessions are told that they have to leave, and how many are there. Those of the embedded store leave when another
//! process takes over; those that relay to another server touch nothing of ours that it needs, and may go on until the
//! end of this process. Made by `serve`; each connection holds a [`Presence`], and [`Link`](super::link::Link) asks it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// The word to leave, for each of the two kinds of connections, and who is there of each.
#[derive(Debug, Default)]
pub struct Drain {
    local: Part,
    relayed: Part,
}

#[derive(Clone, Debug, Default)]
struct Part {
    leave: CancellationToken,
    there: TaskTracker,
}

impl Drain {
    /// A drain that nobody has been told of.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A connection has come: it counts as local, also before its sign-in, until it relays.
    pub fn enter(self: &Arc<Self>) -> Arc<Presence> {
        let local = Mutex::new(Some(self.local.there.token()));
        Arc::new(Presence { drain: Arc::clone(self), local, relayed: OnceLock::new() })
    }

    /// Tells all but those that relay.
    pub fn end_local(&self) {
        self.local.leave.cancel();
    }

    /// Tells everybody.
    pub fn end_all(&self) {
        self.relayed.leave.cancel();
        self.end_local();
    }

    /// Connections that do not relay.
    pub fn local(&self) -> usize {
        self.local.there.len()
    }

    /// Sessions that relay.
    pub fn relayed(&self) -> usize {
        self.relayed.there.len()
    }

    /// Resolves when no connection is left that does not relay. Only for when no new one comes. Cancel-safe.
    pub async fn local_ended(&self) {
        self.local.there.close();
        self.local.there.wait().await;
    }

    /// Resolves when no session relays any more. Only for when no new one comes. Cancel-safe.
    pub async fn relayed_ended(&self) {
        self.relayed.there.close();
        self.relayed.there.wait().await;
    }

    /// A drain for connections that come from now on: nobody of them has been told, and those that relay are counted and
    /// told together with the earlier ones.
    pub fn renewed(&self) -> Arc<Self> {
        Arc::new(Self { local: Part::default(), relayed: self.relayed.clone() })
    }
}

/// One connection among those of a [`Drain`], for as long as it lives.
#[derive(Debug)]
pub struct Presence {
    drain: Arc<Drain>,
    local: Mutex<Option<TaskTrackerToken>>,
    /// Set when the session begins to relay.
    relayed: OnceLock<TaskTrackerToken>,
}

impl Presence {
    /// From now on the word for those that relay counts. Whoever was told to leave before, leaves all the same.
    pub fn relay(&self) {
        if self.drain.local.leave.is_cancelled() {
            return;
        }
        // Counted there before it is not counted here any more: nobody finds it nowhere.
        if self.relayed.set(self.drain.relayed.there.token()).is_ok() {
            self.local.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    /// Whether the connection has to leave.
    pub fn has_to_leave(&self) -> bool {
        let Drain { local, relayed } = &*self.drain;
        local.leave.is_cancelled() && (self.relayed.get().is_none() || relayed.leave.is_cancelled())
    }

    /// Resolves when the connection has to leave. Cancel-safe.
    pub async fn told_to_leave(&self) {
        // Those that relay are never told without the others. So nobody has to be woken when it begins to relay.
        self.drain.local.leave.cancelled().await;
        if self.relayed.get().is_some() {
            self.drain.relayed.leave.cancelled().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    /// Polls once.
    async fn is_told(presence: &Presence) -> bool {
        let told = tokio::select! {
            biased;
            () = presence.told_to_leave() => true,
            () = std::future::ready(()) => false,
        };
        assert_eq!(told, presence.has_to_leave());
        told
    }

    #[tokio::test]
    async fn a_session_that_relays_goes_on_when_the_local_ones_are_told() {
        let drain = Drain::new();
        let (stays, relays) = (drain.enter(), drain.enter());
        relays.relay();
        assert_eq!((drain.local(), drain.relayed()), (1, 1));
        drain.end_local();
        assert!(is_told(&stays).await);
        assert!(!is_told(&relays).await);
        drop(stays);
        drain.local_ended().await;
        drain.end_all();
        assert!(is_told(&relays).await);
        drop(relays);
        drain.relayed_ended().await;
    }

    #[tokio::test]
    async fn whoever_waits_already_hears_the_other_word_from_the_moment_it_relays() {
        let drain = Drain::new();
        let presence = drain.enter();
        let waits = Arc::clone(&presence);
        let waiting = tokio::spawn(async move { waits.told_to_leave().await });
        tokio::task::yield_now().await;
        presence.relay();
        tokio::task::yield_now().await;
        drain.end_local();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drain.end_all();
        waiting.await.expect("it ends");
    }

    #[tokio::test]
    async fn whoever_was_told_before_it_relays_leaves_and_is_counted_until_then() {
        let drain = Drain::new();
        let late = drain.enter();
        drain.end_local();
        late.relay();
        assert_eq!((drain.local(), drain.relayed()), (1, 0));
        assert!(is_told(&late).await);
    }

    #[tokio::test]
    async fn the_wait_for_those_that_relay_ends_with_the_last_of_them() {
        let drain = Drain::new();
        let (one, other) = (drain.enter(), drain.enter());
        one.relay();
        other.relay();
        other.relay(); // counted once
        drain.local_ended().await;
        assert_eq!(drain.relayed(), 2);
        let counted = Arc::clone(&drain);
        let ended = tokio::spawn(async move { counted.relayed_ended().await });
        drop(one);
        tokio::task::yield_now().await;
        assert!(!ended.is_finished());
        drop(other);
        ended.await.expect("it ends");
    }

    #[tokio::test]
    async fn a_renewed_drain_tells_new_connections_apart_and_those_that_relay_together() {
        let first = Drain::new();
        let (old, old_relay) = (first.enter(), first.enter());
        old_relay.relay();
        first.end_local();
        let second = first.renewed();
        let (new, new_relay) = (second.enter(), second.enter());
        new_relay.relay();
        assert!(is_told(&old).await);
        for presence in [&new, &old_relay, &new_relay] {
            assert!(!is_told(presence).await);
        }
        assert_eq!((second.local(), second.relayed()), (1, 2));
        second.end_all();
        assert!(is_told(&old_relay).await && is_told(&new_relay).await && is_told(&new).await);
    }
}
