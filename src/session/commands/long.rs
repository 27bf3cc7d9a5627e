//! Commands that may take their time: meanwhile the peer is told so (RFC 9585), whether it is still there is noticed,
//! and so is the word to leave. Used by `search`, `sort`, `thread` and `messages`.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::imap::write::{self, Code, Status};
use crate::session::{Ending, login::Dialog};

/// A command that ends within this time does not look whether its peer is still there. It may have closed its side
/// already, and still wait for the answer.
const LISTEN_AFTER: Duration = Duration::from_millis(300);

/// One command under way.
pub(super) struct Long<'t> {
    tag: &'t str,
    listen_from: Instant,
    /// When the peer is told next.
    tell_at: Instant,
    every: Duration,
    done: u64,
    all: u64,
}

impl<'t> Long<'t> {
    /// A command that has `all` steps to do; none if that is not known.
    pub(super) fn new(dialog: &Dialog, tag: &'t str, all: Option<u64>) -> Self {
        let (now, every) = (Instant::now(), dialog.link.house.limits.progress);
        Self { tag, listen_from: now + LISTEN_AFTER, tell_at: now + every, every, done: 0, all: all.unwrap_or(0) }
    }

    /// So many more steps are done.
    pub(super) fn advance(&mut self, steps: u64) {
        self.done = self.done.saturating_add(steps);
    }

    /// Between two pieces of work on this thread: lets others have it, and ends if the session has to.
    pub(super) async fn pause(&mut self, dialog: &mut Dialog) -> Result<(), Ending> {
        self.run(dialog, tokio::task::yield_now()).await
    }

    /// Waits for a piece of work, which is dropped when the peer is gone or the session has to leave.
    pub(super) async fn run<T>(&mut self, dialog: &mut Dialog, work: impl Future<Output = T>) -> Result<T, Ending> {
        let mut work = pin!(work);
        loop {
            dialog.link.may_go_on()?;
            self.tell(dialog).await?;
            let listens = Instant::now() >= self.listen_from;
            let wake_at = if listens { self.tell_at } else { self.tell_at.min(self.listen_from) };
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                heard = dialog.overhear(listens) => heard?,
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// Waits for a piece of work that has to be seen through, whether the peer is still there or not.
    pub(super) async fn finish<T>(
        &mut self,
        dialog: &mut Dialog,
        work: impl Future<Output = T>,
    ) -> Result<T, Ending> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = sleep_until(self.tell_at) => {}
            }
            let told = tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                told = self.tell(dialog) => told,
            };
            if let Err(ending) = told {
                work.await;
                return Err(ending);
            }
        }
    }

    /// `* OK [INPROGRESS ("tag" done all)]`, when it is time for it.
    async fn tell(&mut self, dialog: &mut Dialog) -> Result<(), Ending> {
        if Instant::now() < self.tell_at {
            return Ok(());
        }
        let done = (self.all > 0).then_some((self.done, self.all));
        let code = Code::InProgress { tag: self.tag, done };
        write::untagged(&mut dialog.link.wire.out, Status::Ok, Some(&code), "Still at it");
        dialog.link.wire.flush().await?;
        self.tell_at = Instant::now() + self.every;
        Ok(())
    }
}
