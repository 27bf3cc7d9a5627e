//! One process takes another one's place without a connection being refused. Whoever is in charge of a `data_dir` on a
//! machine holds a lock there and listens on a Unix socket beside it:
//!
//! ```text
//! new: take-over 1              old: entrance imaps [::]:993 2, with two sockets; ...; that is all
//! new: give up                  it could start: nothing was given up until now
//! old: yours                    accepts nothing, has no session of the embedded store, holds no lock
//! new: serves                   holds the lock; the old process has only relayed sessions to finish
//! ```
//!
//! While nobody accepts, connections wait in the system. The lock alone decides who serves: a new process that dies leaves
//! it to the old one, which takes up everything again; one that comes too late does not get it. Called by `Server`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    future::pending,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
            net as unix,
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::{
    cmsg_space,
    fs::{FlockOperation, flock},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg, sockopt::socket_peercred,
    },
    process::geteuid,
};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{UnixListener, UnixStream},
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use super::sockets::Entrance;

/// What a new process says first; the number changes with the rest of the words.
const ASK: &str = "take-over 1";
const END_OF_OFFER: &str = "that is all";
const GIVE_UP: &str = "give up";
const YOURS: &str = "yours";
const SERVES: &str = "serves";
/// Longest line, in bytes.
const MAX_LINE: usize = 200;
/// How long a new process may take to get ready; nothing is given up meanwhile. A policy of a million users takes minutes.
const READYING: Duration = Duration::from_secs(600);
/// How long it may take from being let in to serving.
const STARTING: Duration = Duration::from_secs(30);
/// How long the end of a process may take, which gives back its lock: what the end by SIGTERM may take (`limits.drain_s`).
const LAST_BREATH: Duration = Duration::from_secs(10);
/// Pause between two looks at the lock, and after the system refused to accept.
const PAUSE: Duration = Duration::from_millis(50);

/// This process is the one that serves what is in `data_dir`, as far as this machine is concerned.
pub(super) struct Charge {
    lock: File,
    held: bool,
    data_dir: PathBuf,
    /// Where a successor asks; none where the file system has no sockets, or somebody else is in charge.
    listener: Option<UnixListener>,
}

impl Charge {
    /// Takes charge. A process that has it may just be ending: it is waited for, but not for long. A socket that a killed
    /// one left is replaced.
    pub(super) async fn take(data_dir: &Path) -> anyhow::Result<Self> {
        // Others keep things there too.
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
        let lock_file = data_dir.join(format!("{}.lock", socket_name()));
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock_file);
        let lock = lock.with_context(|| format!("{}: cannot be opened", lock_file.display()))?;
        let locked = lock_within(LAST_BREATH, &lock).await;
        if !locked.with_context(|| format!("{}: cannot be locked", lock_file.display()))? {
            bail!(
                "{}: another process serves from there; stop it first, or take its place with --take-over",
                data_dir.display()
            );
        }
        Ok(Self { lock, held: true, data_dir: data_dir.to_owned(), listener: listen(data_dir) })
    }

    /// Waits for a process that has got these sockets and can serve. Cancel-safe: whoever asked hears that nobody is there.
    pub(super) async fn heir(&self, entrances: &[&Entrance]) -> Heir {
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
            match timeout(READYING, offer(talk, entrances)).await {
                Ok(Ok(talk)) => return Heir { talk },
                Ok(Err(error)) => info!(%error, "another process asked to take over, and does not; serving on"),
                Err(_) => warn!("another process asked to take over and never got ready; serving on"),
            }
        }
    }

    fn give_up(&mut self) {
        // It fails where there are no locks at all.
        let _ = flock(&self.lock, FlockOperation::Unlock);
        self.held = false;
    }

    async fn take_back(&mut self) -> bool {
        self.held = lock_within(LAST_BREATH, &self.lock).await.unwrap_or_default();
        if self.held {
            // The other process may have put its own in the place of ours.
            self.listener = listen(&self.data_dir);
        }
        self.held
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // Without the lock it is another process's.
        if self.held {
            let _ = fs::remove_file(self.data_dir.join(socket_name()));
        }
    }
}

/// Shows the sockets to whoever asked for them, and waits until it could serve.
async fn offer(mut talk: Talk, entrances: &[&Entrance]) -> io::Result<Talk> {
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
    /// Lets it serve. Nothing that it needs may be in use here any more. False: it does not serve, and this process is in
    /// charge again.
    pub(super) async fn succeeds(mut self, charge: &mut Charge) -> bool {
        charge.give_up();
        let answer = timeout(STARTING, async {
            self.talk.say(YOURS).await?;
            self.talk.hear().await
        });
        if matches!(answer.await, Ok(Ok(word)) if word == SERVES) {
            charge.listener = None;
            return true;
        }
        if charge.take_back().await {
            return false;
        }
        // Alive, and nobody else may serve while it has the lock.
        warn!("the process that takes over holds the lock and does not say that it serves");
        charge.listener = None;
        true
    }
}

/// Another process's place, being taken.
pub(super) struct Succession {
    talk: Talk,
}

impl Succession {
    /// Asks the process that is in charge for its sockets. It goes on serving.
    pub(super) async fn ask(data_dir: &Path) -> anyhow::Result<(Self, Vec<Entrance>)> {
        let path = data_dir.join(socket_name());
        let stream = match connect(data_dir) {
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
        let answered = async {
            talk.check_peer()?;
            talk.say(ASK).await?;
            talk.entrances().await
        };
        let entrances = answered
            .await
            .with_context(|| format!("{}: the process there does not hand over its sockets", path.display()))?;
        Ok((Self { talk }, entrances))
    }

    /// Has the old process end its sessions of the embedded store, and takes charge.
    pub(super) async fn take_charge(&mut self, data_dir: &Path) -> anyhow::Result<Charge> {
        self.talk.say(GIVE_UP).await?;
        let answer = self.talk.hear().await.context("the process that serves did not hand over")?;
        if answer != YOURS {
            bail!("the process that serves did not hand over, and said {answer:?}");
        }
        Charge::take(data_dir).await
    }

    /// Tells the old process that it is not needed any more.
    pub(super) async fn serves(mut self) {
        if let Err(error) = self.talk.say(SERVES).await {
            warn!(%error, "the process that served before is gone already");
        }
    }
}

/// Two processes of ours on a socket, in lines; a socket travels with a byte of its own.
struct Talk {
    stream: UnixStream,
}

impl Talk {
    /// Whoever runs as somebody else gets no sockets from us, and we take none from them.
    fn check_peer(&self) -> io::Result<()> {
        let (peer, own) = (socket_peercred(&self.stream)?.uid, geteuid());
        if peer == own {
            return Ok(());
        }
        let problem = format!("the other process runs as user {}, this one as {}", peer.as_raw(), own.as_raw());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, problem))
    }

    async fn say(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes()).await
    }

    async fn hear(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            match self.byte().await?.0 {
                b'\n' => return String::from_utf8(line).map_err(io::Error::other),
                _ if line.len() >= MAX_LINE => return Err(io::Error::other("a line is too long")),
                byte => line.push(byte),
            }
        }
    }

    async fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let send = || {
            let sockets = [socket];
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&sockets));
            Ok(sendmsg(&self.stream, &[IoSlice::new(b".")], &mut control, SendFlags::NOSIGNAL).map(drop)?)
        };
        self.stream.async_io(Interest::WRITABLE, send).await
    }

    async fn receive(&self) -> io::Result<OwnedFd> {
        self.byte().await?.1.ok_or_else(|| io::Error::other("a socket is missing"))
    }

    /// One byte, with the socket that came with it: read by itself, so that each socket stays with its own.
    async fn byte(&self) -> io::Result<(u8, Option<OwnedFd>)> {
        let read = || {
            let mut bytes = [0];
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let into = &mut [IoSliceMut::new(&mut bytes)];
            if recvmsg(&self.stream, into, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other process is gone"));
            }
            let rights = |message| match message {
                RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
                _ => None,
            };
            let socket = control.drain().filter_map(rights).flatten().next();
            let [byte] = bytes;
            Ok((byte, socket))
        };
        self.stream.async_io(Interest::READABLE, read).await
    }

    /// What is offered.
    async fn entrances(&mut self) -> anyhow::Result<Vec<Entrance>> {
        let mut all = Vec::new();
        loop {
            let line = self.hear().await?;
            if line == END_OF_OFFER {
                return Ok(all);
            }
            let words: Vec<&str> = line.split(' ').collect();
            let ["entrance", name, asked, count] = *words.as_slice() else { bail!("it said {line:?}") };
            let asked = match asked {
                "-" => None,
                address => Some(address.parse::<SocketAddr>().with_context(|| format!("it said {line:?}"))?),
            };
            let mut sockets = Vec::new();
            for _ in 0..count.parse::<usize>().with_context(|| format!("it said {line:?}"))? {
                sockets.push(TcpListener::from(self.receive().await?));
            }
            all.push(Entrance::of(name, asked, sockets)?);
        }
    }
}

/// Locks, or says after this time that another process has the lock. A file system without such locks goes without: there
/// the ports alone keep two processes apart.
async fn lock_within(limit: Duration, lock: &File) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) | Err(Errno::NOLCK | Errno::NOTSUP | Errno::INVAL | Errno::NOSYS) => return Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => sleep(PAUSE).await,
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The socket's name in `data_dir`. With the machine's name in it: several may have the folder from one file server, and a
/// socket leads to nobody on another machine.
fn socket_name() -> String {
    let host = super::host_name().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("handover-{}", host.chars().map(plain).collect::<String>())
}

/// Where a successor may ask from now on; none if that cannot be, which is no reason not to serve.
fn listen(data_dir: &Path) -> Option<UnixListener> {
    let path = data_dir.join(socket_name());
    let bound = || {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = briefly(data_dir, unix::UnixListener::bind)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    bound().inspect_err(|error| warn!(%error, socket = %path.display(), "no other process can take over")).ok()
}

fn connect(data_dir: &Path) -> io::Result<UnixStream> {
    let stream = briefly(data_dir, unix::UnixStream::connect)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Runs `work` with a path of the socket that is never longer than such a path may be (107 bytes).
fn briefly<T>(data_dir: &Path, work: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let folder = File::open(data_dir)?;
    work(Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(socket_name()))
}

#[cfg(test)]
mod tests;
