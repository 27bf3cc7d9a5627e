//! The loop of each channel: take, send, settle. Run by `serve` on every node.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::rand;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Channels, EMAIL, Handed, Settings, mail::Mailer, webhook::Hook};
use crate::metrics::{Metrics, NoticeOutcome};
use crate::model::UnixTime;
use crate::store::{Attempt, Store, Taken};

/// How often notices of other processes are looked for, and those whose time has come.
const POLL: Duration = Duration::from_secs(1);
/// Wait after an error of the database.
const PAUSE: Duration = Duration::from_secs(3);
/// How often the waiting ones are counted.
const COUNT: Duration = Duration::from_secs(15);
/// How long sending that is under way may go on after `stop`.
const LAST: Duration = Duration::from_secs(5);

/// One channel.
#[derive(Clone)]
enum Channel {
    Mail(Arc<Mailer>),
    Hook(Arc<Hook>),
}

impl Channel {
    fn name(&self) -> &str {
        match self {
            Self::Mail(_) => EMAIL,
            Self::Hook(hook) => hook.channel(),
        }
    }

    /// The longest that one try takes.
    fn longest(&self, settings: &Settings) -> Duration {
        match self {
            Self::Mail(_) => settings.answer + settings.accept,
            Self::Hook(_) => settings.answer,
        }
    }

    /// For so long the others are kept from what is being sent. A mail server may take long to take a message, and until it
    /// has said so the message is nobody else's.
    fn lease(&self, settings: &Settings) -> Duration {
        match self {
            Self::Mail(_) => settings.lease + settings.accept,
            Self::Hook(_) => settings.lease,
        }
    }

    /// Its word in the metrics.
    fn kind(&self) -> &'static str {
        match self {
            Self::Mail(_) => EMAIL,
            Self::Hook(_) => "webhook",
        }
    }
}

/// Sends what is queued, until `stop`.
pub async fn run(store: Arc<Store>, channels: Channels, metrics: Arc<Metrics>, stop: CancellationToken) {
    let channels = Arc::new(channels);
    let mail = channels.mail.iter().cloned().map(Channel::Mail);
    let all: Vec<Channel> = mail.chain(channels.webhooks.iter().cloned().map(Channel::Hook)).collect();
    let mut loops = JoinSet::new();
    for channel in all {
        let post = Post {
            store: Arc::clone(&store),
            channels: Arc::clone(&channels),
            metrics: Arc::clone(&metrics),
            channel,
        };
        loops.spawn(post.run(stop.clone()));
    }
    // Without channels there is nothing to do, and still this must not end: `serve` takes an end for a fault.
    stop.cancelled().await;
    while loops.join_next().await.is_some() {}
}

#[derive(Clone)]
struct Post {
    store: Arc<Store>,
    channels: Arc<Channels>,
    metrics: Arc<Metrics>,
    channel: Channel,
}

impl Post {
    async fn run(self, stop: CancellationToken) {
        let settings = &self.channels.settings;
        let mut counted: Option<Instant> = None;
        let mut reachable = true;
        while !stop.is_cancelled() {
            // The lease begins here, however long the taking takes.
            let (began, lease) = (Instant::now(), self.channel.lease(settings));
            let taken = self.store.take_deliveries(self.channel.name(), settings.at_once, lease, now()).await;
            let wait = match taken {
                Ok(taken) if taken.is_empty() => POLL,
                Ok(taken) => {
                    self.send_all(taken, began, &stop).await;
                    Duration::ZERO
                }
                Err(error) => {
                    if reachable {
                        warn!(%error, channel = self.channel.name(), "notices wait");
                    }
                    reachable = false;
                    PAUSE
                }
            };
            reachable |= wait < PAUSE;
            if counted.is_none_or(|at| at.elapsed() > COUNT) {
                counted = Some(Instant::now());
                if let Ok(waiting) = self.store.deliveries_waiting(self.channel.name()).await {
                    self.metrics.notices_waiting(self.channel.kind(), waiting);
                }
            }
            if wait.is_zero() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.store.notices_posted() => {}
                () = sleep(wait) => {}
            }
        }
    }

    async fn send_all(&self, taken: Vec<Taken>, began: Instant, stop: &CancellationToken) {
        let mut sending = JoinSet::new();
        for one in taken {
            sending.spawn(self.clone().send(one, began));
        }
        let all = async { while sending.join_next().await.is_some() {} };
        tokio::select! {
            () = all => {}
            // What is cut off here is in doubt: its lease runs out, and it is sent again.
            () = async { stop.cancelled().await; sleep(LAST).await } => {}
        }
    }

    async fn send(self, taken: Taken, began: Instant) {
        let settings = &self.channels.settings;
        let (id, channel) = (taken.notice.id.0, self.channel.name());
        if taken.again {
            warn!(notice = id, channel, "whoever was sending this never said what came of it: sending it again");
        }
        let attempt = if began.elapsed() + self.channel.longest(settings) >= self.channel.lease(settings) {
            // This process stood still: by now the notice may be another node's.
            Attempt::Untouched
        } else {
            let handed = match &self.channel {
                Channel::Mail(mailer) => mailer.send(&taken.notice).await,
                Channel::Hook(hook) => hook.send(&taken.notice, &settings.hostname, now()).await,
            };
            self.attempt(handed, taken.attempt)
        };
        let outcome = match &attempt {
            Attempt::Sent => Some(NoticeOutcome::Sent),
            Attempt::Later { problem, .. } => {
                info!(notice = id, channel, attempt = taken.attempt, problem, "a notice is tried again later");
                Some(NoticeOutcome::Later)
            }
            Attempt::Failed { problem } => {
                error!(notice = id, channel, attempt = taken.attempt, problem, "a notice is given up");
                Some(NoticeOutcome::Failed)
            }
            Attempt::Untouched => None,
        };
        if let Some(outcome) = outcome {
            self.metrics.notice(self.channel.kind(), outcome);
        }
        self.settle(&taken, &attempt, began).await;
    }

    /// What is known has to be written down, or it would be sent twice: tried for as long as the lease lasts.
    async fn settle(&self, taken: &Taken, attempt: &Attempt, began: Instant) {
        loop {
            match self.store.settle_delivery(&taken.lease, attempt, now()).await {
                Ok(true) => return,
                Ok(false) => {
                    return warn!(
                        notice = taken.notice.id.0,
                        "the lease of a notice ran out while it was being sent; another node has it now"
                    );
                }
                Err(error) if began.elapsed() > self.channel.lease(&self.channels.settings) => {
                    return error!(%error, notice = taken.notice.id.0, "what came of a notice could not be written");
                }
                Err(_) => sleep(POLL).await,
            }
        }
    }

    fn attempt(&self, handed: Handed, attempt: i64) -> Attempt {
        let settings = &self.channels.settings;
        match handed {
            Handed::Taken => Attempt::Sent,
            Handed::Never(problem) => Attempt::Failed { problem },
            Handed::NotNow(problem) if attempt >= i64::from(settings.attempts) => {
                Attempt::Failed { problem: format!("{problem}; given up after {attempt} tries") }
            }
            Handed::NotNow(problem) => {
                let wait = back_off(settings.retry, settings.retry_most, attempt, random());
                Attempt::Later { at: now() + wait, problem }
            }
        }
    }
}

/// Doubled with each try up to the longest, and between three quarters and five quarters of that, so that what failed
/// together does not come back together.
fn back_off(first: Duration, most: Duration, attempt: i64, random: u16) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1).clamp(0, 20)).unwrap_or(0);
    let wait = first.saturating_mul(1 << doublings).min(most);
    wait.mul_f64(0.75 + f64::from(random) / f64::from(u16::MAX) / 2.0)
}

fn random() -> u16 {
    let mut bytes = [0x80, 0];
    // Without randomness all wait the middle of it.
    let _ = rand::fill(&mut bytes);
    u16::from_be_bytes(bytes)
}

fn now() -> UnixTime {
    SystemTime::now().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_differ_by_a_quarter() {
        let (first, most) = (Duration::from_secs(30), Duration::from_secs(3600));
        for (attempt, middle_s) in [(1, 30), (2, 60), (3, 120), (7, 1920), (8, 3600), (30, 3600), (i64::MAX, 3600)]
        {
            let middle = Duration::from_secs(middle_s);
            assert_eq!(back_off(first, most, attempt, 0), middle.mul_f64(0.75), "{attempt}");
            assert_eq!(back_off(first, most, attempt, u16::MAX), middle.mul_f64(1.25), "{attempt}");
        }
    }
}
