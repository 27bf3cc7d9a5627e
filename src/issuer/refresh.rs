//! The background: keys read again from time to time, key files when they change.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::model::UnixTime;

use super::{
    IssuerError, Issuers,
    ring::{Refreshed, Ring},
};

/// How often a key file is looked at: a `stat`, nothing more.
const LOOK_AT_FILES: Duration = Duration::from_millis(500);

/// First pause after a failed refresh; doubled up to the refresh period or [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long the end waits for questions under way.
const LAST_WAIT: Duration = Duration::from_secs(1);

impl Issuers {
    /// Keeps keys fresh until `stop`, then waits a second at most for questions still under way.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut loops = JoinSet::new();
        for index in 0..self.list.len() {
            loops.spawn(self.clone().keep_fresh(index, stop.clone()));
        }
        while loops.join_next().await.is_some() {}
        stop.cancelled().await;
        self.tasks.close();
        // What is still under way has its own time limit, and nobody waits for the answer any more.
        let _ = tokio::time::timeout(LAST_WAIT, self.tasks.wait()).await;
    }

    /// Fetches every issuer's keys now, for a start that wants to know. An issuer that does not answer is logged
    /// and asked again by [`Issuers::run`]; the number of those comes back.
    pub async fn refresh(&self, now: UnixTime) -> usize {
        let mut failed = 0;
        for ring in self.list.iter().filter_map(|issuer| issuer.ring.as_ref()).filter(|ring| !ring.is_file()) {
            failed += usize::from(ring.refresh(&self.tasks, now, &self.withdrawn).await.is_err());
        }
        failed
    }

    /// Reads every key file again, now. A file that cannot be used changes nothing, the others count all the same;
    /// the errors come back.
    pub fn reload(&self, now: UnixTime) -> Vec<IssuerError> {
        let files = self.list.iter().filter_map(|issuer| issuer.ring.as_ref());
        files.filter_map(|ring| self.reload_one(ring, now).err()).collect()
    }

    fn reload_one(&self, ring: &Ring, now: UnixTime) -> Result<(), IssuerError> {
        let refreshed = ring.reload_file(now)?;
        self.announce(&refreshed);
        Ok(())
    }

    fn announce(&self, refreshed: &Refreshed) {
        if !refreshed.withdrawn.is_empty() {
            (self.withdrawn)(&refreshed.withdrawn);
        }
    }

    async fn keep_fresh(self: Arc<Self>, index: usize, stop: CancellationToken) {
        let Some(issuer) = self.list.get(index) else { return };
        let Some(ring) = &issuer.ring else { return };
        if ring.is_file() {
            return self.watch_file(ring, &stop).await;
        }
        let mut pause = FIRST_PAUSE;
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                asked = ring.refresh(&self.tasks, now(), &self.withdrawn) => asked,
            };
            let wait = match asked {
                Ok(_) => {
                    pause = FIRST_PAUSE;
                    issuer.settings.refresh
                }
                Err(_) => {
                    let wait = pause.min(issuer.settings.refresh);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    wait
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(with_jitter(wait)) => {}
            }
        }
    }

    async fn watch_file(&self, ring: &Arc<Ring>, stop: &CancellationToken) {
        let mut complained = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK_AT_FILES) => {}
            }
            let ring = ring.clone();
            let look = move || ring.file_changed().then(|| ring.reload_file(now()));
            let Ok(Some(reloaded)) = tokio::task::spawn_blocking(look).await else { continue };
            match reloaded {
                Ok(refreshed) => {
                    complained = false;
                    self.announce(&refreshed);
                }
                Err(error) if !complained => {
                    complained = true;
                    tracing::error!(%error, "the key file has changed and cannot be used; the keys read before stay");
                }
                Err(_) => {}
            }
        }
    }
}

fn now() -> UnixTime {
    UnixTime::from(SystemTime::now())
}

/// A tenth more or less, so that many gateways do not ask at the same moment.
fn with_jitter(period: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness there is no jitter, and that is all.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    let [byte] = byte;
    period.mul_f64(0.9 + f64::from(byte) / 255.0 * 0.2)
}
