//! One listening socket: accept, PROXY header, TLS handshake, then a session. Nothing here knows a protocol's words
//! beyond the one line for a connection too many.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use rustls::server::Acceptor;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::proxy::{self, Addresses, Header, Parsed};
use crate::gate::{Lobby, LobbyFull, Visitor};
use crate::model::Service;
use crate::session::{self, Drain, House, Presence};
use crate::tls::Acceptance;

/// Handshakes made only to say "too many" at a time; beyond them a connection is dropped before its handshake.
const COURTESIES: usize = 32;
/// Pause after the system refused to accept (too many open files), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a handshake may go on when everybody has to leave.
const LAST_HANDSHAKES: Duration = Duration::from_secs(1);

/// What the sockets of one address need to turn connections into sessions.
pub(super) struct Door {
    pub(super) service: Service,
    /// What every session begins with.
    pub(super) greeting: Vec<u8>,
    pub(super) acceptance: Acceptance,
    pub(super) lobby: Arc<Lobby>,
    pub(super) house: Arc<House>,
    pub(super) proxy_from: Vec<IpNet>,
    /// Networks whose addresses are not counted.
    pub(super) trusted: Vec<IpNet>,
    pub(super) handshake_limit: Duration,
    pub(super) courtesies: Arc<Semaphore>,
}

/// The bound on courtesy handshakes, shared by all doors.
pub(super) fn courtesies() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(COURTESIES))
}

impl Door {
    /// Accepts until `closed`, and runs each session on the thread that accepted it; `drain` tells them to leave.
    pub(super) async fn stand_open(
        self: Arc<Self>,
        listener: TcpListener,
        closed: CancellationToken,
        drain: Arc<Drain>,
    ) {
        loop {
            let accepted = tokio::select! {
                () = closed.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    tokio::spawn(Arc::clone(&self).visit(stream, from, drain.enter()));
                }
                Err(error) => {
                    warn!(service = %self.service, %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// One connection from first to last byte.
    async fn visit(self: Arc<Self>, mut stream: TcpStream, from: SocketAddr, presence: Arc<Presence>) {
        let arrived = Instant::now();
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let trusted = self.proxy_from.iter().any(|network| network.contains(&from.ip()));
        // One limit for the PROXY header and the handshake together.
        let deadline = arrived + self.handshake_limit;
        let arrival = Box::pin(timeout_at(deadline, async {
            if !trusted {
                return Ok(from);
            }
            io::Result::Ok(proxy_header(&mut stream).await?.unwrap_or(from))
        }));
        let arrival = tokio::select! {
            () = presence.told_to_leave() => return,
            arrival = arrival => arrival,
        };
        let peer = match arrival {
            Ok(Ok(peer)) => peer,
            Ok(Err(error)) => return debug!(%from, %error, "connection ended before TLS"),
            Err(_) => return debug!(%from, "no PROXY header in time"),
        };
        // A trusted proxy's own address carries everybody; the address it names is counted instead.
        let counted = (!trusted || peer != from) && !self.trusted.iter().any(|net| net.contains(&peer.ip()));
        let spot = match self.lobby.enter(peer.ip(), counted) {
            Ok(spot) => spot,
            Err(full) => return Box::pin(self.send_away(stream, peer, full, &presence)).await,
        };
        let handshake = Box::pin(timeout_at(deadline, self.handshake(stream, &self.greeting)));
        let too_late = async {
            presence.told_to_leave().await;
            // Whoever gets through until then hears why they have to leave.
            tokio::time::sleep(LAST_HANDSHAKES).await;
        };
        let tls = tokio::select! {
            () = spot.evicted() => return debug!(%peer, "sent away during the handshake: the lobby is full"),
            () = too_late => return debug!(%peer, "everybody has to leave, and the handshake is not done"),
            done = handshake => match done {
                Ok(Ok(tls)) => tls,
                Ok(Err(error)) => return debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => return debug!(%peer, "TLS handshake took too long"),
            },
        };
        let visitor = self.visitor(&tls, peer);
        session::run(tls, visitor, spot, Arc::clone(&self.house), presence, arrived).await;
    }

    fn visitor(&self, tls: &TlsStream<TcpStream>, peer: SocketAddr) -> Visitor {
        let version = match tls.get_ref().1.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        };
        let session = self.house.gate.next_session();
        Visitor { session, service: self.service, peer, tls: version, program: None }
    }

    /// The TLS handshake. `first_words` wait inside TLS until the peer has finished its part, and then leave together
    /// with the last of ours: one packet less, and one less to wake up for on either side.
    async fn handshake(&self, stream: TcpStream, first_words: &[u8]) -> io::Result<Box<TlsStream<TcpStream>>> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let config = self.acceptance.answer(&start.client_hello());
        let done = start.into_stream_with(config, |tls| {
            // Into memory, and far below what TLS holds back.
            let _ = tls.writer().write_all(first_words);
        });
        // More than a kilobyte: each future that it passes through by value would keep room for it.
        Ok(Box::new(done.await?))
    }

    /// One connection too many: told so after its handshake, as long as not too many are being told.
    async fn send_away(&self, stream: TcpStream, peer: SocketAddr, full: LobbyFull, presence: &Presence) {
        debug!(%peer, ?full, "too many connections");
        let Ok(_courtesy) = self.courtesies.try_acquire() else { return };
        let told = timeout(self.handshake_limit, async {
            self.handshake(stream, session::too_many_connections(self.service)).await?.shutdown().await
        });
        tokio::select! {
            () = presence.told_to_leave() => {}
            _ = told => {}
        }
    }
}

/// Reads exactly the PROXY header and leaves the first byte of TLS in the socket; none for a `LOCAL` connection.
async fn proxy_header(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut seen = vec![0u8; proxy::MAX_HEADER];
    loop {
        let count = stream.peek(&mut seen).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match proxy::parse(seen.get(..count).unwrap_or(&[])) {
            Header::Incomplete if count == seen.len() => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "PROXY header too long"));
            }
            Header::Incomplete => {
                // A peek returns at once while the same bytes wait; give the rest of the header time to arrive.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Header::Parsed(Parsed { addresses, consumed }) => {
                let mut header = vec![0u8; consumed];
                stream.read_exact(&mut header).await?;
                return Ok(addresses
                    .map(|Addresses { source, .. }| SocketAddr::new(source.ip().to_canonical(), source.port())));
            }
            Header::Invalid(problem) => return Err(io::Error::new(io::ErrorKind::InvalidData, problem)),
        }
    }
}
