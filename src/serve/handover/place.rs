//! Where a successor finds the process that serves: a lock and a socket in `data_dir` that bear the machine's name. Called by
//! `handover`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
            net as unix,
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tokio::{
    net::{UnixListener, UnixStream},
    time::{Instant, sleep},
};
use tracing::warn;

/// Pause between two looks at the lock.
const PAUSE: Duration = Duration::from_millis(50);

/// A `data_dir`, as far as this machine is concerned.
#[derive(Clone)]
pub(super) struct Place {
    data_dir: PathBuf,
    /// Of the socket, and of the lock but for its end. Read once: what was locked under one name is not looked for under
    /// another, whatever the machine is called meanwhile.
    name: String,
}

impl Place {
    pub(super) fn of(data_dir: &Path) -> Self {
        let machine = fs::read_to_string("/etc/machine-id").ok();
        let name = name(machine.as_deref(), crate::serve::host_name().as_deref());
        Self { data_dir: data_dir.to_owned(), name }
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.data_dir.join(&self.name)
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.data_dir.join(format!("{}.lock", self.name))
    }

    /// The file that is locked, made with its folder if need be.
    pub(super) fn make_lock(&self) -> anyhow::Result<File> {
        // Others keep things there too.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.data_dir)?;
        let file = self.lock_file();
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&file);
        lock.with_context(|| format!("{}: cannot be opened", file.display()))
    }

    /// Whether files can be locked there, as far as it can be told; nothing is made.
    pub(super) fn has_locks(&self) -> bool {
        let Ok(lock) = File::open(self.lock_file()) else { return true };
        // Nobody is kept out by it: a lock that could be had is given back with the file.
        !matches!(outcome(flock(&lock, FlockOperation::NonBlockingLockShared)), Ok(Locked::NoLocks))
    }

    /// Where a successor may ask from now on; none if that cannot be, which is no reason not to serve.
    pub(super) fn listen(&self) -> Option<UnixListener> {
        let path = self.socket();
        let bound = || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = self.briefly(unix::UnixListener::bind)?;
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        };
        bound().inspect_err(|error| warn!(%error, socket = %path.display(), "no other process can take over")).ok()
    }

    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        let stream = self.briefly(unix::UnixStream::connect)?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    }

    /// Runs `work` with a path of the socket that is never longer than such a path may be (107 bytes).
    fn briefly<T>(&self, work: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
        let folder = File::open(&self.data_dir)?;
        work(Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(&self.name))
    }
}

/// With the machine in it: several may have the folder from one file server, and a socket leads to nobody on another
/// machine. Its number (machine-id(5)) stays when it is called otherwise.
fn name(machine_id: Option<&str>, host: Option<&str>) -> String {
    let is_number = |id: &&str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let machine = machine_id.map(str::trim).filter(is_number).or(host).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("handover-{}", machine.chars().map(plain).collect::<String>())
}

/// What came of locking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Locked {
    ByUs,
    ByAnother,
    /// The file system has no such locks: there the ports alone keep two processes apart.
    NoLocks,
}

/// Locks, or says after this time that another process has the lock.
pub(super) async fn lock_within(limit: Duration, lock: &File) -> io::Result<Locked> {
    let deadline = Instant::now() + limit;
    loop {
        match outcome(flock(lock, FlockOperation::NonBlockingLockExclusive))? {
            Locked::ByAnother if Instant::now() < deadline => sleep(PAUSE).await,
            locked => return Ok(locked),
        }
    }
}

fn outcome(tried: Result<(), Errno>) -> io::Result<Locked> {
    match tried {
        Ok(()) => Ok(Locked::ByUs),
        Err(Errno::NOLCK | Errno::NOTSUP | Errno::INVAL | Errno::NOSYS) => Ok(Locked::NoLocks),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(Locked::ByAnother),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_machines_number_and_that_of_the_host_only_without_one() {
        let number = "0123456789abcdef0123456789abcdef";
        for (machine_id, host, expected) in [
            (Some("0123456789abcdef0123456789abcdef\n"), Some("mail"), format!("handover-{number}")),
            (Some("uninitialized\n"), Some("mail"), "handover-mail".to_owned()),
            (Some(""), Some("mail"), "handover-mail".to_owned()),
            (None, Some("mail1.example/../x"), "handover-mail1_example____x".to_owned()),
            (None, None, "handover-".to_owned()),
        ] {
            assert_eq!(name(machine_id, host), expected, "{machine_id:?} {host:?}");
        }
    }

    #[test]
    fn a_file_system_without_locks_is_told_from_a_lock_that_is_taken() {
        for (errno, expected) in [
            (Errno::NOLCK, Locked::NoLocks),
            (Errno::NOTSUP, Locked::NoLocks),
            (Errno::WOULDBLOCK, Locked::ByAnother),
        ] {
            assert_eq!(outcome(Err(errno)).ok(), Some(expected), "{errno}");
        }
        assert_eq!(outcome(Ok(())).ok(), Some(Locked::ByUs));
        assert!(outcome(Err(Errno::IO)).is_err());
    }
}
