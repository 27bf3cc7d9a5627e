//! The service manager, where there is one: the sockets that it passes (sd_listen_fds(3)) and what it is told in return
//! (sd_notify(3), sd_watchdog_enabled(3)). Both are a few variables and datagrams. Called by `Server`.

use std::{
    env,
    ffi::OsStr,
    io,
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::{
    process::{Pid, PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
    time::{ClockId, clock_gettime},
};
use tracing::warn;

use super::sockets::Entrance;

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;
/// How long the manager may take to hear something.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the environment of this process says.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    listen_pid: Option<String>,
    listen_fds: Option<String>,
    listen_names: Option<String>,
    watchdog_us: Option<String>,
    watchdog_pid: Option<String>,
}

impl Environment {
    /// As it is.
    pub(super) fn read() -> Self {
        let read = |name| env::var(name).ok();
        Self {
            listen_pid: read("LISTEN_PID"),
            listen_fds: read("LISTEN_FDS"),
            listen_names: read("LISTEN_FDNAMES"),
            watchdog_us: read("WATCHDOG_USEC"),
            watchdog_pid: read("WATCHDOG_PID"),
        }
    }

    /// The names of the sockets that were passed to this process, in the order of their descriptors. Variables that were
    /// meant for the process that started this one count for nothing.
    fn names(&self, own: Pid) -> anyhow::Result<Vec<String>> {
        let Some(count) = &self.listen_fds else { return Ok(Vec::new()) };
        let is_ours = self.listen_pid.as_ref().and_then(|pid| pid.parse().ok()) == Some(own.as_raw_pid());
        if !is_ours {
            return Ok(Vec::new());
        }
        let count: usize = count.parse().with_context(|| format!("LISTEN_FDS is {count:?}, which is no number"))?;
        let names: Vec<String> = match self.listen_names.as_deref() {
            None | Some("") => Vec::new(),
            Some(names) => names.split(':').map(str::to_owned).collect(),
        };
        if names.len() != count {
            bail!(
                "{count} sockets were passed with {} names: give each socket unit its FileDescriptorName=",
                names.len()
            );
        }
        Ok(names)
    }

    /// How often the manager wants to hear from this process that all is well; none if it does not ask. Of one that takes
    /// another one's place it never asks: that one hands its duty over.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        let us = self.watchdog_us.as_ref()?.parse().ok().filter(|us| *us > 0)?;
        let of_other = self.watchdog_pid.as_ref().is_some_and(|pid| *pid != process::id().to_string());
        // In half the time, as the manual says.
        (!of_other).then(|| Duration::from_micros(us) / 2)
    }

    /// The sockets that were passed, one entrance for each.
    pub(super) fn sockets(&self) -> anyhow::Result<Vec<Entrance>> {
        let names = self.names(getpid())?;
        let each = (FIRST..).zip(&names).map(|(number, name)| {
            let socket = inherited(number).context("it cannot be had; is the system call pidfd_getfd allowed?");
            socket
                .and_then(|socket| Entrance::of(name, None, vec![socket]))
                .with_context(|| format!("the service manager passed {name:?} as descriptor {number}"))
        });
        each.collect()
    }
}

/// A descriptor that came with the start of the process. It cannot be named as something owned without a promise that the
/// compiler does not check, but a duplicate of it can be had; the descriptor itself stays open until the end.
fn inherited(number: i32) -> io::Result<TcpListener> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(TcpListener::from(pidfd_getfd(own, number, PidfdGetfdFlags::empty())?))
}

/// Who is told how this process is.
#[derive(Debug, Default)]
pub(super) struct Manager {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl Manager {
    /// The one that `NOTIFY_SOCKET` names; without it nobody is told.
    pub(super) fn find() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        Self::at(&name).unwrap_or_else(|error| {
            warn!(%error, socket = %name.display(), "the service manager cannot be told anything");
            Self::default()
        })
    }

    fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not listen must not hold up whoever tells it.
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { to: Some((socket, address)) })
    }

    /// Sends these assignments, a line each.
    fn tell(&self, lines: &str) {
        let Some((socket, to)) = &self.to else { return };
        if let Err(error) = socket.send_to_addr(lines.as_bytes(), to) {
            warn!(%error, lines, "the service manager was not told");
        }
    }

    /// This process serves, and is the service's main one: also if it took another one's place.
    pub(super) fn ready(&self) {
        self.tell(&format!("READY=1\nMAINPID={}", process::id()));
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Files were read again. Not who is the main process: another one may have become it meanwhile.
    pub(super) fn reloaded(&self) {
        self.tell("READY=1");
    }

    /// Files are being read again; [`Manager::reloaded`] ends it.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1_000));
    }

    /// All is well.
    pub(super) fn is_well(&self) {
        self.tell("WATCHDOG=1");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn passed(pid: &str, count: &str, names: Option<&str>) -> Environment {
        Environment {
            listen_pid: Some(pid.to_owned()),
            listen_fds: Some(count.to_owned()),
            listen_names: names.map(str::to_owned),
            ..Environment::default()
        }
    }

    #[test]
    fn each_passed_socket_has_its_name() {
        let own = getpid();
        let pid = own.as_raw_pid().to_string();
        assert_eq!(passed(&pid, "3", Some("imaps:imaps:http")).names(own).unwrap(), ["imaps", "imaps", "http"]);
        assert_eq!(passed(&pid, "0", None).names(own).unwrap(), [""; 0]);
        assert_eq!(Environment::default().names(own).unwrap(), [""; 0]);
        // For the process that started this one.
        assert_eq!(passed("1", "2", Some("imaps:http")).names(own).unwrap(), [""; 0]);
        for (count, names, said) in [
            ("2", None, "2 sockets were passed with 0 names"),
            ("2", Some("imaps"), "2 sockets were passed with 1 names"),
            ("1", Some("imaps:http"), "FileDescriptorName="),
            ("many", Some("imaps"), "LISTEN_FDS is \"many\""),
        ] {
            let error = passed(&pid, count, names).names(own).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn the_watchdog_is_fed_in_half_its_time_by_whom_it_watches() {
        let asked = |us: &str, pid: Option<String>| Environment {
            watchdog_us: Some(us.to_owned()),
            watchdog_pid: pid,
            ..Environment::default()
        };
        let own = Some(process::id().to_string());
        for (environment, expected) in [
            (asked("3000000", own), Some(1_500)),
            (asked("3000000", None), Some(1_500)),
            (asked("3000000", Some("1".to_owned())), None),
            (asked("0", None), None),
            (asked("soon", None), None),
            (Environment::default(), None),
        ] {
            assert_eq!(environment.watchdog(), expected.map(Duration::from_millis), "{environment:?}");
        }
    }

    #[test]
    fn what_is_told_arrives_by_a_path_and_by_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("portcullis-test-{}", process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (hears, to) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}").into()),
        ] {
            let manager = Manager::at(&to).unwrap();
            manager.ready();
            manager.reloading();
            let mut said = Vec::new();
            for _ in 0..2 {
                let mut bytes = [0; 256];
                let count = hears.recv(&mut bytes).unwrap();
                said.push(String::from_utf8_lossy(bytes.get(..count).unwrap()).into_owned());
            }
            assert_eq!(said.first().unwrap(), &format!("READY=1\nMAINPID={}", process::id()));
            let at = said.last().unwrap().strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(at.parse::<u64>().unwrap() > 0);
        }
        assert!(Manager::at(OsStr::new("vsock:2:1")).is_err());
    }

    #[test]
    fn a_descriptor_of_this_process_is_had_without_a_promise() {
        use std::os::fd::AsRawFd;
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let again = inherited(socket.as_raw_fd()).unwrap();
        assert_eq!(again.local_addr().unwrap(), socket.local_addr().unwrap());
        assert!(inherited(i32::MAX).is_err());
    }
}
