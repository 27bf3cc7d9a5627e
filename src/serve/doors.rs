//! All listening sockets with what is behind each of them: opened, shut, and opened again if a process that wanted to take
//! over did not. Called by `Server`.

use std::{io, mem, sync::Arc, time::Duration};

use tokio::{net::TcpListener, runtime::Handle, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    accept::Door,
    http::Web,
    sockets::{Entrance, spread},
};
use crate::session::Drain;

/// How long HTTP requests under way may take once the sessions have ended.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// What becomes of the connections of an entrance.
pub(super) enum Behind {
    /// Sessions.
    Mail(Arc<Door>),
    /// Requests.
    Web(Arc<Web>),
}

/// Every entrance of this process.
pub(super) struct Doors {
    all: Vec<(Entrance, Behind)>,
    closed: CancellationToken,
    accepting: JoinSet<()>,
    webs: JoinSet<()>,
}

impl Doors {
    /// Shut; connections wait in the system.
    pub(super) fn new(all: Vec<(Entrance, Behind)>) -> Self {
        Self { all, closed: CancellationToken::new(), accepting: JoinSet::new(), webs: JoinSet::new() }
    }

    /// The sockets.
    pub(super) fn entrances(&self) -> Vec<&Entrance> {
        self.all.iter().map(|(entrance, _)| entrance).collect()
    }

    /// Accepts from now on: sessions on these threads, where `drain` tells them to leave.
    pub(super) fn open(&mut self, threads: &[Handle], drain: &Arc<Drain>) -> io::Result<()> {
        // The sockets themselves stay here, for whoever opens again or takes over.
        for (Entrance { sockets, .. }, behind) in &self.all {
            match behind {
                Behind::Mail(door) => {
                    for (thread, socket) in spread(threads, sockets) {
                        let _on = thread.enter();
                        let listener = TcpListener::from_std(socket.try_clone()?)?;
                        let accept = Arc::clone(door).stand_open(listener, self.closed.clone(), Arc::clone(drain));
                        self.accepting.spawn_on(accept, thread);
                    }
                }
                Behind::Web(web) => {
                    for socket in sockets {
                        let listener = TcpListener::from_std(socket.try_clone()?)?;
                        self.webs.spawn(Arc::clone(web).serve(listener, self.closed.clone()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Accepts nothing more: connections wait in the system. HTTP requests under way go on.
    pub(super) async fn shut(&mut self) {
        mem::take(&mut self.closed).cancel();
        while self.accepting.join_next().await.is_some() {}
    }

    /// Waits for HTTP requests under way, but not for long.
    pub(super) async fn last_requests(&mut self) {
        if timeout(LAST_REQUESTS, async { while self.webs.join_next().await.is_some() {} }).await.is_err() {
            warn!("HTTP requests did not end in time");
        }
    }

    /// Closes the sockets: unless another process has them too, connections are refused.
    pub(super) fn leave(&mut self) {
        self.all.clear();
    }
}
