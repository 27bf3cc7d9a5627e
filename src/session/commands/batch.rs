//! Many messages read one after another, off the async threads: a blocking thread is taken for a moment at a time, so
//! that whoever reads a whole mailbox does not keep others waiting. Used by `search`, `sort` and `thread`.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{header::Headers, long::Long};
use crate::maildir::{Files, MailError, View};
use crate::session::{Ending, login::Dialog};

/// How long a blocking thread is kept, but for the end of the message that is being read.
const SLICE: Duration = Duration::from_millis(50);

/// Messages whose headers are asked for together: with as many as one answer of the cache holds nothing is read twice.
const AHEAD: usize = 63;

/// What is done with each message.
pub(super) trait Work: Send + 'static {
    /// One message to be read.
    type Job: Send + 'static;

    /// A job's message, by UID.
    fn uid(job: &Self::Job) -> u32;

    /// The headers that are needed of all messages.
    fn headers(&mut self) -> &mut Headers;

    /// Reads one. `false`: that is enough, the others need not be read. An error `Gone` passes over this one.
    fn one(&mut self, files: &Files, job: &Self::Job, stop: &Stop) -> Result<bool, MailError>;
}

/// Whether nobody waits for the outcome any more. Asked from time to time by whoever reads a large message.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Says so when it is dropped.
struct Waiting(Stop);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Work under way, as it goes to a thread and comes back.
struct Batch<W: Work> {
    work: W,
    left: VecDeque<W::Job>,
    missing: VecDeque<W::Job>,
    done: u64,
}

/// Does the work for all jobs in order. A message that is not where it was is looked for once, then passed over.
pub(super) async fn read<W: Work>(
    dialog: &mut Dialog,
    view: &View,
    long: &mut Long<'_>,
    work: W,
    jobs: VecDeque<W::Job>,
) -> Result<Result<W, MailError>, Ending> {
    let waiting = Waiting(Stop::default());
    let mut batch = Batch { work, left: jobs, missing: VecDeque::new(), done: 0 };
    let mut looked_again = false;
    loop {
        while !batch.left.is_empty() {
            let stop = waiting.0.clone();
            let slice = view.with_files(move |files| batch.slice(files, &stop));
            batch = match long.run(dialog, slice).await? {
                Ok(batch) => batch,
                Err(error) => return Ok(Err(error)),
            };
            long.advance(std::mem::take(&mut batch.done));
        }
        if batch.missing.is_empty() || std::mem::replace(&mut looked_again, true) {
            return Ok(Ok(batch.work));
        }
        if let Err(error) = long.run(dialog, view.look_again()).await? {
            return Ok(Err(error));
        }
        batch.left = std::mem::take(&mut batch.missing);
    }
}

impl<W: Work> Batch<W> {
    fn slice(mut self, files: &Files, stop: &Stop) -> Result<Self, MailError> {
        let begun = Instant::now();
        while !stop.is_set()
            && let Some(job) = self.left.pop_front()
        {
            if self.work.headers().wants(W::uid(&job)) {
                let uids = std::iter::once(&job).chain(self.left.iter().take(AHEAD)).map(W::uid);
                let uids: Vec<u32> = uids.collect();
                self.work.headers().look_ahead(files, &uids)?;
            }
            match self.work.one(files, &job, stop) {
                Ok(true) => self.done += 1,
                Ok(false) => {
                    self.left.clear();
                    self.missing.clear();
                }
                Err(MailError::Gone { .. }) => self.missing.push_back(job),
                Err(error) => return Err(error),
            }
            if begun.elapsed() >= SLICE {
                break;
            }
        }
        Ok(self)
    }
}
