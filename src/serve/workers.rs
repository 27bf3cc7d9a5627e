//! The threads that sessions run on. Each has a runtime of its own and accepts its own share of the connections, so
//! that no session moves between threads and none is woken for the sake of another: under a runtime that shares its
//! tasks out, a third of what a sign-in costs beyond its handshake was threads waking one another.

use std::{io, thread, time::Duration};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// A thread wakes up this often although nothing happens. A timer that is set for a moment before the next planned one
/// makes a thread wake itself; this one comes before the first limit of any connection, so that none of those does.
const HEARTBEAT: Duration = Duration::from_secs(4);

/// The threads; they end when this is dropped, with whatever still runs on them.
pub(super) struct Workers {
    handles: Vec<Handle>,
    threads: Vec<thread::JoinHandle<()>>,
    stop: CancellationToken,
}

impl Workers {
    /// One thread for each core that this process may use.
    pub(super) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let mut workers = Self { handles: Vec::new(), threads: Vec::new(), stop: CancellationToken::new() };
        for _ in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, stop) = (runtime.handle().clone(), workers.stop.clone());
            let run = move || {
                runtime.block_on(async {
                    while stop.run_until_cancelled(tokio::time::sleep(HEARTBEAT)).await.is_some() {}
                });
            };
            let thread = thread::Builder::new().name("sessions".into()).spawn(run)?;
            workers.handles.push(handle);
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    pub(super) fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            // A panic there was logged there.
            let _ = thread.join();
        }
    }
}
