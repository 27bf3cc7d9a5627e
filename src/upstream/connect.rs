//! From a server's name to a stream: its addresses, TCP, PROXY header, TLS; all of it within one limit. Used by `upstreams`
//! for sessions and by `health`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{
    error::UpstreamError,
    proxy_header::{Ends, proxy_header},
    servers::{Known, Secured, Server},
    stream::Stream,
};

/// A server that is gone without a word is noticed by the system after about this long, as with the peers on our own
/// doorstep.
const KEEPALIVE: Duration = Duration::from_secs(120);
/// What we send and the server does not take for so long will not be taken any more.
const UNTAKEN: Duration = Duration::from_secs(300);

/// A name's addresses are taken from memory for so long: asking costs more than the rest of a connection on a near network.
/// They are forgotten at once when none of them answers.
const REMEMBERED: Duration = Duration::from_secs(10);

/// A connection to the server, on behalf of the peer at these ends; without them one of our own.
pub(super) async fn open(server: &Server, ends: Option<Ends>) -> Result<Stream, UpstreamError> {
    let attempt = Attempt { server, deadline: Instant::now() + server.connect_limit };
    let addresses = attempt.addresses().await?;
    let mut tcp = attempt.reach(&addresses).await.inspect_err(|_| drop(server.known().take()))?;
    if server.proxy_protocol {
        let header = proxy_header(ends);
        attempt.within("sending the PROXY header", tcp.write_all(&header)).await?.map_err(|e| attempt.broken(e))?;
    }
    match &server.secured {
        None => Ok(Stream::Plain(tcp)),
        Some(secured) => Box::pin(attempt.secure(secured, tcp)).await,
    }
}

struct Attempt<'a> {
    server: &'a Server,
    deadline: Instant,
}

impl Attempt<'_> {
    async fn within<T>(&self, step: &'static str, work: impl Future<Output = T>) -> Result<T, UpstreamError> {
        timeout_at(self.deadline, work).await.map_err(|_| self.timed_out(step))
    }

    /// All addresses of its host. Without TLS those of this machine alone, whatever a name's addresses are.
    async fn addresses(&self) -> Result<Arc<[SocketAddr]>, UpstreamError> {
        let address = &self.server.address;
        let (host, port) = (&**address.host(), address.port());
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok([SocketAddr::new(ip, port)].into());
        }
        let asked = Instant::now();
        if let Some(known) = &*self.server.known()
            && asked.saturating_duration_since(known.asked) < REMEMBERED
        {
            return Ok(Arc::clone(&known.addresses));
        }
        let found = self.within("looking its name up", lookup_host((host, port))).await?;
        let usable = |at: &SocketAddr| self.server.secured.is_some() || at.ip().is_loopback();
        let found = found.map(|found| found.filter(usable).collect::<Arc<[_]>>()).and_then(|found| match found {
            found if found.is_empty() => Err(io::ErrorKind::AddrNotAvailable.into()),
            found => Ok(found),
        });
        let addresses = found.map_err(|source| {
            let (upstream, server) = self.names();
            UpstreamError::Resolve { upstream, server, source }
        })?;
        *self.server.known() = Some(Known { asked, addresses: Arc::clone(&addresses) });
        Ok(addresses)
    }

    /// A connection to the first address that takes one. Each has its share of the time, so that one that is silent leaves
    /// some to the others.
    async fn reach(&self, addresses: &[SocketAddr]) -> Result<TcpStream, UpstreamError> {
        const STEP: &str = "connecting";
        let mut failed = None;
        for (at, address) in addresses.iter().enumerate() {
            let now = Instant::now();
            let left = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
            let share = self.deadline.saturating_duration_since(now) / left;
            failed = Some(match timeout_at(now + share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => match prepare(&tcp) {
                    Ok(()) => return Ok(tcp),
                    Err(error) => self.broken(error),
                },
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    let (upstream, server) = self.names();
                    UpstreamError::Refused { upstream, server }
                }
                Ok(Err(error)) => self.broken(error),
                Err(_) => self.timed_out(STEP),
            });
        }
        Err(failed.unwrap_or_else(|| self.timed_out(STEP)))
    }

    async fn secure(&self, secured: &Secured, tcp: TcpStream) -> Result<Stream, UpstreamError> {
        let connector = TlsConnector::from(secured.settings.load_full());
        let done = self.within("the TLS handshake", connector.connect(secured.name.clone(), tcp)).await?;
        done.map(|tls| Stream::Tls(Box::new(tls))).map_err(|source| {
            let (upstream, server) = self.names();
            match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(error @ rustls::Error::InvalidCertificate(_)) => {
                    UpstreamError::Certificate { upstream, server, source: error.clone() }
                }
                _ => UpstreamError::Tls { upstream, server, source },
            }
        })
    }

    fn names(&self) -> (String, String) {
        (self.server.upstream.to_string(), self.server.address.to_string())
    }

    fn timed_out(&self, step: &'static str) -> UpstreamError {
        let (upstream, server) = self.names();
        UpstreamError::TimedOut { upstream, server, step, limit: self.server.connect_limit }
    }

    fn broken(&self, source: io::Error) -> UpstreamError {
        let (upstream, server) = self.names();
        UpstreamError::Unreachable { upstream, server, source }
    }
}

fn prepare(tcp: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(tcp);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    socket.set_tcp_user_timeout(Some(UNTAKEN))
}
