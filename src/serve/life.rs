//! What a gateway does once it is built: it serves, until it has to stop or another process takes its place; then the
//! sessions end, those that it relays last.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    signal::unix::Signal,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Server, doors::Doors, systemd::Manager};
use crate::admin::{self, Control};
use crate::gate;
use crate::maildir::Mail;
use crate::notify;
use crate::session::Drain;

/// How long the rest may take once no session is left: audit rows and counts that are still to be written, above all.
const CLOSING: Duration = Duration::from_secs(8);
/// How often the API forgets addresses that have not asked for a while.
const SWEEP: Duration = Duration::from_secs(60);

const NOT_CLOSED: &str =
    "the database did not take in time what was still to be written; the last audit rows may be missing";

impl Server {
    /// Serves until SIGTERM or SIGINT, then tells every session and waits for them. Where another process takes over, only
    /// sessions that are relayed go on, until the last of them has ended, or `limits.relay_drain_s` is over.
    pub async fn run(mut self) -> anyhow::Result<()> {
        // What goes on as long as there are sessions, and what only the one that serves does.
        let (stop, stop_serving) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self.store).run(stop.clone()));
        tasks.spawn(Arc::clone(&self.issuers).run(stop.clone()));
        tasks.spawn(gate::watch(Arc::clone(&self.gate), stop.clone()));
        tasks.spawn(gate::attend(Arc::clone(&self.gate), self.node_name.clone(), stop.clone()));
        let mut serving = self.serving(&stop_serving);
        self.doors.open(self.workers.handles(), &self.drain)?;
        self.manager.ready();
        if let Some(succession) = self.succession.take() {
            succession.serves(self.relay_drain).await;
        }

        let handed_over = loop {
            let entrances = self.doors.entrances();
            let heir = tokio::select! {
                () = told_to_stop(&mut self.terminate, &mut self.interrupt) => break false,
                ended = lost(&mut tasks, &mut serving) => return self.fail(&ended).await,
                heir = self.charge.heir(&entrances, self.watchdog) => heir,
            };
            info!("another process takes over: telling every session that is not relayed");
            let handing_over = async {
                rest(&mut self.doors, &self.drain, self.drain_limit, &self.mail).await;
                heir.succeeds(&mut self.charge).await
            };
            let succeeded = tokio::select! {
                // Whoever is told to stop does not begin again.
                () = told_to_stop(&mut self.terminate, &mut self.interrupt) => break false,
                succeeded = handing_over => succeeded,
            };
            if let Some(relay_drain) = succeeded {
                // Whoever shortened it for the new process means what is relayed now.
                self.relay_drain = self.relay_drain.min(relay_drain);
                break true;
            }
            warn!("the process that was to take over is gone: serving again");
            self.drain = self.drain.renewed();
            self.doors.open(self.workers.handles(), &self.drain)?;
            self.manager.ready();
        };
        if handed_over {
            self.doors.leave();
            stop_serving.cancel();
            while serving.join_next().await.is_some() {}
            tokio::select! {
                () = relay_on(&self.drain, self.relay_drain) => {}
                () = told_to_stop(&mut self.terminate, &mut self.interrupt) => {}
                ended = lost(&mut tasks, &mut serving) => return self.fail(&ended).await,
            }
        } else {
            if self.charge.is_held() {
                // Otherwise another process may already be the service.
                self.manager.stopping();
            }
            self.doors.shut().await;
            self.doors.leave();
        }
        self.end_sessions().await;
        self.doors.last_requests().await;
        stop_serving.cancel();
        stop.cancel();
        let closing = async {
            while serving.join_next().await.is_some() {}
            while tasks.join_next().await.is_some() {}
            self.close().await
        };
        timeout(CLOSING, closing).await.unwrap_or_else(|_| Err(anyhow::anyhow!("{NOT_CLOSED}")))?;
        info!("stopped");
        Ok(())
    }

    /// Tells every session, and waits for them.
    async fn end_sessions(&self) {
        self.drain.end_all();
        let ended = async {
            self.drain.local_ended().await;
            self.drain.relayed_ended().await;
        };
        if timeout(self.drain_limit, ended).await.is_err() {
            warn!(left = self.drain.local() + self.drain.relayed(), "sessions did not end in time");
        }
    }

    async fn close(&self) -> anyhow::Result<()> {
        self.mail.close().await;
        // Closed in order, the database is one file again, without a log beside it.
        Ok(self.store.close().await?)
    }

    /// What the process that serves does beside its sessions; ended by `stop`.
    fn serving(&mut self, stop: &CancellationToken) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        if let Some(reload) = self.reload.take() {
            tasks.spawn(reload.run(stop.clone()));
        }
        if let Some(channels) = self.channels.take() {
            let metrics = Arc::clone(self.gate.metrics());
            tasks.spawn(notify::run(Arc::clone(&self.store), channels, metrics, stop.clone()));
        }
        tasks.spawn(Arc::clone(&self.store).clear_away(stop.clone()));
        tasks.spawn(Arc::clone(&self.upstreams).run(stop.clone()));
        tasks.spawn(admin::watch_sign_ins(Arc::clone(&self.control), stop.clone()));
        tasks.spawn(sweep(Arc::clone(&self.control), stop.clone()));
        if let Some(every) = self.watchdog {
            let threads = self.workers.handles().to_vec();
            tasks.spawn(watchdog(Arc::clone(&self.manager), threads, every, stop.clone()));
        }
        tasks
    }

    /// No task ends by itself; without one of them the gate would not keep its promises.
    async fn fail(mut self, ended: &str) -> anyhow::Result<()> {
        self.doors.shut().await;
        self.end_sessions().await;
        match timeout(CLOSING, self.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!("{error:#}"),
            Err(_) => error!("{NOT_CLOSED}"),
        }
        anyhow::bail!("a task of the gateway ended unexpectedly: {ended}")
    }
}

/// Accepts nothing, ends all sessions that are not relayed, and lets go of the mail store. Cancel-safe.
async fn rest(doors: &mut Doors, drain: &Drain, limit: Duration, mail: &Mail) {
    doors.shut().await;
    drain.end_local();
    if timeout(limit, drain.local_ended()).await.is_err() {
        // Each of them locks what it writes against other processes.
        warn!(left = drain.local(), "sessions did not end in time");
    }
    doors.last_requests().await;
    mail.close().await;
}

/// Resolves when this process has to end. Cancel-safe.
async fn told_to_stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: telling every session"),
        _ = interrupt.recv() => info!("SIGINT: telling every session"),
    }
}

/// Another process serves: waits for the end of what is relayed here, at most for `limit`.
async fn relay_on(drain: &Drain, limit: Duration) {
    info!(sessions = drain.relayed(), "another process serves now; what is relayed here goes on");
    match timeout(limit, drain.relayed_ended()).await {
        Ok(()) => info!("no session is relayed here any more"),
        Err(_) => warn!(left = drain.relayed(), "limits.relay_drain_s is over: telling every session"),
    }
}

/// Resolves when a task ends that should not.
async fn lost(tasks: &mut JoinSet<()>, serving: &mut JoinSet<()>) -> String {
    let ended = tokio::select! {
        Some(ended) = tasks.join_next() => ended,
        Some(ended) = serving.join_next() => ended,
        else => return std::future::pending().await,
    };
    format!("{ended:?}")
}

/// Keeps what the API remembers of each address small.
async fn sweep(control: Arc<Control>, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(SWEEP)).await.is_some() {
        control.sweep();
    }
}

/// Tells the service manager that all is well, each time that every thread has had its turn. At once for the first time: the
/// process before this one may have done so a while ago.
async fn watchdog(manager: Arc<Manager>, threads: Vec<Handle>, every: Duration, stop: CancellationToken) {
    loop {
        for thread in &threads {
            let turn = thread.spawn(async {});
            if !matches!(stop.run_until_cancelled(turn).await, Some(Ok(()))) {
                return;
            }
        }
        manager.is_well();
        if stop.run_until_cancelled(sleep(every)).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(86_400);

    /// Two sessions that relay, and those that do not have gone.
    fn relaying() -> (Arc<Drain>, [Arc<crate::session::Presence>; 2]) {
        let drain = Drain::new();
        let both = [drain.enter(), drain.enter()];
        both.iter().for_each(|presence| presence.relay());
        drain.end_local();
        (drain, both)
    }

    #[tokio::test(start_paused = true)]
    async fn the_old_process_stays_as_long_as_something_is_relayed() {
        let (drain, [one, other]) = relaying();
        let began = Instant::now();
        tokio::join!(relay_on(&drain, LIMIT), async {
            sleep(Duration::from_secs(60)).await;
            drop(one);
            sleep(Duration::from_secs(3_600)).await;
            assert!(!other.has_to_leave());
            drop(other);
        });
        assert_eq!(began.elapsed().as_secs(), 3_660);
    }

    #[tokio::test(start_paused = true)]
    async fn but_not_longer_than_its_limit() {
        let (drain, sessions) = relaying();
        let began = Instant::now();
        relay_on(&drain, LIMIT).await;
        assert_eq!((began.elapsed(), drain.relayed()), (LIMIT, 2));
        drain.end_all();
        assert!(sessions.iter().all(|presence| presence.has_to_leave()));
    }
}
