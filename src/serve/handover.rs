//! One process takes another one's place without a connection being refused. Whoever is in charge of a `data_dir` on a
//! machine holds a lock there and listens on a Unix socket beside it:
//!
//! ```text
//! new: take-over 2              old: entrance imaps [::]:993 2, with two sockets; ...; watchdog 30000000; that is all
//! new: give up                  it could start: nothing was given up until now
//! old: yours                    accepts nothing, has no session of the embedded store, holds no lock
//! new: serves 86400             holds the lock; the old process has only relayed sessions to finish, in so many seconds
//! ```
//!
//! While nobody accepts, connections wait in the system. The lock alone decides who serves: a new process that dies leaves
//! it to the old one, which takes up everything again; one that comes too late does not get it. Called by `Server`.

mod place;
mod talk;

use std::{
    fs::{self, File},
    future::pending,
    io,
    os::fd::AsFd,
    path::Path,
    pin::pin,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use tokio::{
    net::UnixListener,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use self::{
    place::{Locked, Place, lock_within},
    talk::{ASK, END_OF_OFFER, GIVE_UP, SERVES, Talk, YOURS},
};
use super::sockets::Entrance;

/// How long the process that serves may take to show its sockets. While another one gets ready it does not.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a new process may take to get ready; nothing is given up meanwhile. A policy of a million users takes minutes.
const READYING: Duration = Duration::from_secs(600);
/// How long the process that serves may take to end its sessions: more than any `limits.drain_s` that makes sense.
const ENDING: Duration = Duration::from_secs(600);
/// Whoever waits longer than this says so, and again after as long.
const PROGRESS: Duration = Duration::from_secs(10);
/// How long it may take from being let in to serving, before that is told.
const STARTING: Duration = Duration::from_secs(30);
/// How long the end of a process may take, which gives back its lock: what the end by SIGTERM may take (`limits.drain_s`).
const LAST_BREATH: Duration = Duration::from_secs(10);
/// Pause after the system refused to accept.
const PAUSE: Duration = Duration::from_millis(50);

/// This process is the one that serves what is in `data_dir`, as far as this machine is concerned.
pub(super) struct Charge {
    lock: File,
    held: bool,
    place: Place,
    /// Where a successor asks; none where the file system has no sockets or no locks, or somebody else is in charge.
    listener: Option<UnixListener>,
}

impl Charge {
    /// Takes charge. A process that has it may just be ending: it is waited for, but not for long. A socket that a killed
    /// one left is replaced.
    pub(super) async fn take(data_dir: &Path) -> anyhow::Result<Self> {
        Self::at(Place::of(data_dir)).await
    }

    async fn at(place: Place) -> anyhow::Result<Self> {
        let lock = place.make_lock()?;
        let locked = lock_within(LAST_BREATH, &lock).await;
        match locked.with_context(|| format!("{}: cannot be locked", place.lock_file().display()))? {
            Locked::ByUs => {
                let listener = place.listen();
                Ok(Self { lock, held: true, place, listener })
            }
            Locked::NoLocks => {
                // Nothing would keep two processes from serving one after the other's word got lost.
                warn!(data_dir = %place.data_dir().display(), "files cannot be locked there: no other process can take over");
                Ok(Self { lock, held: true, place, listener: None })
            }
            Locked::ByAnother => bail!(
                "{}: another process serves from there; stop it first, or take its place with --take-over",
                place.data_dir().display()
            ),
        }
    }

    /// Whether this process has it: not from when another one was let in until that one is known to be gone.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Waits for a process that has got these sockets and can serve; it hears how often the service manager is to be told
    /// that all is well. Cancel-safe: whoever asked hears that nobody is there.
    pub(super) async fn heir(&self, entrances: &[&Entrance], watchdog: Option<Duration>) -> Heir {
        let Some(listener) = &self.listener else { return pending().await };
        loop {
            let talk = match listener.accept().await {
                Ok((stream, _)) => Talk { stream },
                Err(error) => {
                    warn!(%error, "cannot hear a process that may want to take over");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            match timeout(READYING, offer(talk, entrances, watchdog)).await {
                Ok(Ok(talk)) => return Heir { talk },
                Ok(Err(error)) => info!(%error, "another process asked to take over, and does not; serving on"),
                Err(_) => warn!("another process asked to take over and never got ready; serving on"),
            }
        }
    }

    fn give_up(&mut self) {
        // What cannot be given back was not had.
        let _ = flock(&self.lock, FlockOperation::Unlock);
        self.held = false;
    }

    /// Waits until nobody else has it.
    async fn take_back(&mut self) {
        loop {
            match lock_within(LAST_BREATH, &self.lock).await {
                Ok(Locked::ByUs | Locked::NoLocks) => break,
                Ok(Locked::ByAnother) => {
                    warn!("another process holds the lock, and nobody serves here; waiting for it")
                }
                Err(error) => {
                    warn!(%error, "the lock cannot be taken back, and nobody serves here; trying again");
                    sleep(LAST_BREATH).await;
                }
            }
        }
        self.held = true;
        // The other process may have put its own in the place of ours.
        self.listener = self.place.listen();
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // Without the lock it is another process's.
        if self.held {
            let _ = fs::remove_file(self.place.socket());
        }
    }
}

/// Shows the sockets to whoever asked for them, and waits until it could serve.
async fn offer(mut talk: Talk, entrances: &[&Entrance], watchdog: Option<Duration>) -> io::Result<Talk> {
    talk.check_peer()?;
    match talk.hear().await?.as_str() {
        ASK => {}
        other => {
            talk.say("no: this process hands over in another way").await?;
            return Err(io::Error::other(format!("it said {other:?}")));
        }
    }
    for Entrance { name, asked, sockets, .. } in entrances {
        let asked = asked.map_or_else(|| "-".to_owned(), |address| address.to_string());
        talk.say(&format!("entrance {name} {asked} {}", sockets.len())).await?;
        for socket in sockets {
            talk.send(socket.as_fd()).await?;
        }
    }
    if let Some(every) = watchdog {
        talk.say(&format!("watchdog {}", every.as_micros())).await?;
    }
    talk.say(END_OF_OFFER).await?;
    match talk.hear().await?.as_str() {
        GIVE_UP => Ok(talk),
        other => Err(io::Error::other(format!("it said {other:?}"))),
    }
}

/// A process that can serve and waits to be let.
pub(super) struct Heir {
    talk: Talk,
}

impl Heir {
    /// Lets it serve. Nothing that it needs may be in use here any more. How long relayed sessions may go on here, as it has
    /// it; none: it is gone, and this process is in charge again. Whoever stops waiting before may not serve any more.
    pub(super) async fn succeeds(mut self, charge: &mut Charge) -> Option<Duration> {
        charge.give_up();
        let said = {
            let mut said = pin!(async {
                self.talk.say(YOURS).await?;
                self.talk.hear().await
            });
            match timeout(STARTING, &mut said).await {
                Ok(said) => said,
                Err(_) => {
                    // Alive, and nobody else may serve while it has the lock.
                    warn!(
                        "the process that takes over does not say that it serves; waiting for that, or for its end"
                    );
                    said.await
                }
            }
        };
        let seconds = said.ok().and_then(|said| said.strip_prefix(SERVES)?.parse().ok());
        if let Some(seconds) = seconds {
            charge.listener = None;
            return Some(Duration::from_secs(seconds));
        }
        // It knows by this that it is not waited for, if it is there at all.
        drop(self);
        charge.take_back().await;
        None
    }
}

/// Another process's place, being taken.
pub(super) struct Succession {
    talk: Talk,
    place: Place,
}

/// What the process that serves gives to the one that takes its place.
#[derive(Debug, Default)]
pub(super) struct Offered {
    pub(super) entrances: Vec<Entrance>,
    /// How often the service manager wants to hear that all is well: it told the old process alone.
    pub(super) watchdog: Option<Duration>,
}

impl Succession {
    /// Asks the process that is in charge for its sockets. It goes on serving.
    pub(super) async fn ask(data_dir: &Path) -> anyhow::Result<(Self, Offered)> {
        let place = Place::of(data_dir);
        if !place.has_locks() {
            bail!(
                "{}: files cannot be locked there, so that two processes might serve at once: stop the one that serves and \
                 start without --take-over, or move data_dir to a file system that has locks",
                data_dir.display()
            );
        }
        let path = place.socket();
        let stream = match place.connect() {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                bail!(
                    "{}: no process serves from there, so there is none to take over from: start without --take-over",
                    data_dir.display()
                )
            }
            Err(error) => {
                return Err(error).with_context(|| format!("{}: cannot ask the process there", path.display()));
            }
        };
        let mut talk = Talk { stream };
        let answered = timeout(ANSWER, async {
            talk.check_peer()?;
            talk.say(ASK).await?;
            talk.offered().await
        });
        let Ok(answered) = answered.await else {
            bail!(
                "{}: the process there did not answer within {} s; it may be starting, or handing over to another one: look \
                 into its log and try again, or stop it and start without --take-over",
                path.display(),
                ANSWER.as_secs()
            );
        };
        let offered = answered.with_context(|| {
            format!(
                "{}: the process there does not hand over its sockets: look into its log, or stop it and start without \
                 --take-over",
                path.display()
            )
        })?;
        Ok((Self { talk, place }, offered))
    }

    /// Has the old process end its sessions of the embedded store, and takes charge.
    pub(super) async fn take_charge(&mut self) -> anyhow::Result<Charge> {
        let path = self.place.socket();
        let failed = || {
            format!(
                "{}: the process that serves did not hand over: look into its log; if it serves, try again, and if it is \
                 gone, start without --take-over",
                path.display()
            )
        };
        let mut answer = pin!(async {
            self.talk.say(GIVE_UP).await?;
            self.talk.hear().await
        });
        let since = Instant::now();
        let answer = loop {
            match timeout(PROGRESS, &mut answer).await {
                Ok(answer) => break answer.with_context(failed)?,
                Err(_) if since.elapsed() < ENDING => {
                    info!(
                        since_s = since.elapsed().as_secs(),
                        "the process that serves is still ending its sessions"
                    );
                }
                Err(_) => bail!("{} (within {} s)", failed(), ENDING.as_secs()),
            }
        };
        if answer != YOURS {
            bail!("{} (it said {answer:?})", failed());
        }
        Charge::at(self.place.clone()).await
    }

    /// Tells the old process that it is not needed any more, but for what it relays, and how long that may go on.
    pub(super) async fn serves(mut self, relay_drain: Duration) {
        if let Err(error) = self.talk.say(&format!("{SERVES}{}", relay_drain.as_secs())).await {
            warn!(%error, "the process that served before is gone already");
        }
    }
}

#[cfg(test)]
mod tests;
