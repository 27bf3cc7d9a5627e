//! File work runs on tokio's blocking threads, and only so much of it at once.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::error::MailError;

/// A bound on how many threads do file work for the mail store.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Semaphore>);

impl Pool {
    pub(super) fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once.max(1))))
    }

    /// Runs `work` off the async threads. Work that has begun runs to its end, even when the caller goes away.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce() -> Result<T, MailError> + Send + 'static,
    ) -> Result<T, MailError> {
        let turn = Arc::clone(&self.0).acquire_owned().await.map_err(|_| MailError::Fault { doing })?;
        let work = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| MailError::Fault { doing })?
    }
}
