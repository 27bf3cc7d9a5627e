//! What the metrics show of the rooms that keep their own figures: read before each scrape. Called by `admin`.

use std::sync::atomic::Ordering;

use super::{Gate, Lobby, now};
use crate::metrics::{count, seconds};
use crate::policy::Directory;

impl Gate {
    /// All figures of this process in OpenMetrics text; `lobby` has those of connections.
    pub fn metrics_text(&self, lobby: &Lobby) -> String {
        let metrics = &self.metrics;
        let (open, waiting) = lobby.count();
        metrics.connections.set(count(open));
        metrics.lobby.set(count(waiting));
        let away = lobby.turned_away();
        metrics.refused_address.inner().store(away.address, Ordering::Relaxed);
        metrics.refused_process.inner().store(away.process, Ordering::Relaxed);
        metrics.evicted.inner().store(away.evicted, Ordering::Relaxed);

        let store = &self.store;
        metrics.audit_waiting.set(count(store.audit_waiting()));
        metrics.audit_dropped.inner().store(store.audit_dropped(), Ordering::Relaxed);
        metrics.audit_full.set(i64::from(store.audit_is_full()));
        metrics.store_silence_s.set(seconds(store.silence()));
        let (counts, version) = store.read(|directory| (Directory::counts(directory), directory.version()));
        metrics.users.set(count(counts.users));
        metrics.units.set(count(counts.units));
        metrics.grants.set(count(counts.grants));
        metrics.change.set(version);
        metrics.nodes.set(count(store.nodes().iter().filter(|node| node.alive).count()));

        for standing in self.issuers.standing(now()) {
            metrics.issuer(standing.issuer, standing.usable_keys, standing.age);
        }
        for seat in self.live.seats() {
            self.count_traffic(&seat);
        }
        metrics.render()
    }
}
