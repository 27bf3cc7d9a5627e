//! What two processes of ours say on a socket, and the sockets that travel on it. Called by `handover`.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::fd::{BorrowedFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::{
    cmsg_space,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg, sockopt::socket_peercred,
    },
    process::geteuid,
};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::UnixStream,
};

use super::Offered;
use crate::serve::sockets::Entrance;

/// What a new process says first; the number changes with the rest of the words.
pub(super) const ASK: &str = "take-over 2";
pub(super) const END_OF_OFFER: &str = "that is all";
pub(super) const GIVE_UP: &str = "give up";
pub(super) const YOURS: &str = "yours";
/// The seconds that sessions relayed by the old process may go on follow.
pub(super) const SERVES: &str = "serves ";
/// Longest line, in bytes.
pub(super) const MAX_LINE: usize = 200;

/// Two processes of ours on a socket, in lines; a socket travels with a byte of its own.
pub(super) struct Talk {
    pub(super) stream: UnixStream,
}

impl Talk {
    /// Whoever runs as somebody else gets no sockets from us, and we take none from them.
    pub(super) fn check_peer(&self) -> io::Result<()> {
        let (peer, own) = (socket_peercred(&self.stream)?.uid, geteuid());
        if peer == own {
            return Ok(());
        }
        let problem = format!("the other process runs as user {}, this one as {}", peer.as_raw(), own.as_raw());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, problem))
    }

    pub(super) async fn say(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes()).await
    }

    pub(super) async fn hear(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            match self.byte().await?.0 {
                b'\n' => return String::from_utf8(line).map_err(io::Error::other),
                _ if line.len() >= MAX_LINE => return Err(io::Error::other("a line is too long")),
                byte => line.push(byte),
            }
        }
    }

    pub(super) async fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
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
    pub(super) async fn offered(&mut self) -> anyhow::Result<Offered> {
        let mut all = Offered::default();
        loop {
            let line = self.hear().await?;
            let wrong = || format!("it said {line:?}");
            match *line.split(' ').collect::<Vec<_>>().as_slice() {
                _ if line == END_OF_OFFER => return Ok(all),
                ["watchdog", us] => {
                    all.watchdog = Some(Duration::from_micros(us.parse().with_context(wrong)?));
                }
                ["entrance", name, asked, count] => {
                    let asked = match asked {
                        "-" => None,
                        address => Some(address.parse::<SocketAddr>().with_context(wrong)?),
                    };
                    let mut sockets = Vec::new();
                    for _ in 0..count.parse::<usize>().with_context(wrong)? {
                        sockets.push(TcpListener::from(self.receive().await?));
                    }
                    all.entrances.push(Entrance::of(name, asked, sockets)?);
                }
                _ => bail!(wrong()),
            }
        }
    }
}
