//! Who is measured, behind one face: start, stop, sign in, CPU time, memory. All stand before the same upstream with the
//! same certificate.

use std::{fs, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{CipherSuite, ClientConfig, ClientConnection};
use tempfile::TempDir;

use super::{
    peers::{Kind, Peer},
    rig::{
        family,
        gateway::{Place, Process},
        tls,
        wire::Wire,
    },
    upstream,
};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Side {
    /// The gateway; to the upstream it goes without TLS, as all others do.
    Portcullis,
    /// The gateway, with TLS to the upstream.
    PortcullisTls,
    /// nginx's mail proxy.
    Nginx,
    /// Dovecot as proxy, with login processes that serve many connections each.
    Dovecot,
    /// Dovecot as proxy, with a login process for each connection, as it is where nobody has said otherwise.
    DovecotEach,
    /// haproxy that ends TLS.
    Haproxy,
}

impl Side {
    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portcullis => "Portcullis",
            Self::PortcullisTls => "Portcullis, TLS upstream",
            Self::Nginx => "nginx",
            Self::Dovecot => "Dovecot",
            Self::DovecotEach => "Dovecot by default",
            Self::Haproxy => "haproxy",
        }
    }
}

/// What all of them share.
pub struct Stand {
    certificate: TempDir,
    /// Without TLS.
    upstream: Process,
    /// The same in TLS.
    over_tls: Option<Process>,
    /// The client's.
    pub tls: Arc<ClientConfig>,
}

impl Stand {
    /// Starts the upstream, also in TLS if one of `sides` needs that.
    pub fn new(sides: &[Side], post_quantum: bool) -> anyhow::Result<Self> {
        let certificate = tempfile::Builder::new().prefix("portcullis-bench-relay-").tempdir()?;
        tls::make_certificate(certificate.path())?;
        let over_tls = sides.contains(&Side::PortcullisTls);
        let over_tls = over_tls.then(|| upstream::start(Some(certificate.path()))).transpose()?;
        let tls = tls::alike(certificate.path(), post_quantum)?;
        Ok(Self { upstream: upstream::start(None)?, over_tls, tls, certificate })
    }

    /// Where the upstream listens for IMAP without TLS.
    pub fn upstream(&self) -> SocketAddr {
        self.upstream.address
    }
}

enum Host {
    Gateway(Place),
    Peer(Kind),
}

enum Running {
    Gateway(Process),
    Peer(Peer),
}

/// One of them.
pub struct Server {
    side: Side,
    stand: Rc<Stand>,
    host: Host,
    running: Option<Running>,
}

impl Server {
    /// Not started yet. It lets these users in.
    pub fn new(side: Side, stand: &Rc<Stand>, users: &[String]) -> anyhow::Result<Self> {
        let host = match side {
            Side::Portcullis => Host::Gateway(place(stand, stand.upstream.address, false, users)?),
            Side::PortcullisTls => {
                let upstream = stand.over_tls.as_ref().context("no upstream with TLS")?;
                Host::Gateway(place(stand, upstream.address, true, users)?)
            }
            Side::Nginx => Host::Peer(Kind::Nginx),
            Side::Dovecot => Host::Peer(Kind::Dovecot),
            Side::DovecotEach => Host::Peer(Kind::DovecotEach),
            Side::Haproxy => Host::Peer(Kind::Haproxy),
        };
        Ok(Self { side, stand: Rc::clone(stand), host, running: None })
    }

    /// Which of them.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Its version, and what its TLS comes to with the client of the bench. It must be AES-128.
    pub fn introduce(&mut self) -> anyhow::Result<()> {
        let version = match &self.host {
            Host::Gateway(_) => format!("portcullis {}", env!("CARGO_PKG_VERSION")),
            Host::Peer(kind) => kind.version()?,
        };
        self.start()?;
        let (suite, words) = agreed(self.address()?, &self.stand.tls)?;
        self.stop();
        println!("# {}: {version}; {words}", self.side.name());
        ensure!(suite == CipherSuite::TLS13_AES_128_GCM_SHA256, "another cipher than the others");
        Ok(())
    }

    /// Starts it anew.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.stop();
        self.running = Some(match &self.host {
            Host::Gateway(place) => Running::Gateway(place.serve()?),
            Host::Peer(kind) => {
                let upstream = &self.stand.upstream;
                let asks = upstream.http.context("no answers for auth_http")?;
                Running::Peer(kind.start(self.stand.certificate.path(), upstream.address, asks)?)
            }
        });
        eprintln!("{} runs as process {}", self.side.name(), self.id()?);
        Ok(())
    }

    /// Stops it.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// What it has logged of late, for an error.
    pub fn log(&self) -> String {
        match (&self.host, &self.running) {
            (Host::Gateway(place), _) => {
                let log = fs::read_to_string(place.path().join("log/gateway.log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
            }
            (_, Some(Running::Peer(peer))) => peer.log(),
            _ => String::new(),
        }
    }

    /// Where it listens for IMAPS.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        match self.running.as_ref().context("not running")? {
            Running::Gateway(process) => Ok(process.address),
            Running::Peer(peer) => Ok(peer.address),
        }
    }

    /// CPU time so far of all its processes, read when they have come to rest.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        family::cpu_at_rest(self.id()?)
    }

    /// Memory of all its processes in octets, and how many they are.
    pub fn memory(&self) -> anyhow::Result<(f64, usize)> {
        let (kib, processes) = family::memory(self.id()?)?;
        Ok((kib as f64 * 1024.0, processes))
    }

    /// The command by which this user signs in; it may be used again within the hour.
    pub fn sign_in(&self, user: &str) -> anyhow::Result<String> {
        let Host::Gateway(place) = &self.host else {
            return Ok(format!("LOGIN {user} bench"));
        };
        let token = place.token(user)?;
        let message = STANDARD.encode(format!("user={user}\x01auth=Bearer {}\x01\x01", token.reveal()));
        Ok(format!("AUTHENTICATE XOAUTH2 {message}"))
    }

    /// A session of this user.
    pub fn session(&self, user: &str) -> anyhow::Result<Wire> {
        let mut wire = Wire::connect(self.address()?, &self.stand.tls)?;
        wire.imap(&self.sign_in(user)?).context("signing in")?;
        Ok(wire)
    }

    /// What all share.
    pub fn stand(&self) -> &Stand {
        &self.stand
    }

    fn id(&self) -> anyhow::Result<u32> {
        match self.running.as_ref().context("not running")? {
            Running::Gateway(process) => Ok(process.id()),
            Running::Peer(peer) => Ok(peer.id()),
        }
    }
}

fn place(stand: &Stand, upstream: SocketAddr, tls: bool, users: &[String]) -> anyhow::Result<Place> {
    let place = Place::in_front_of(upstream, tls)?;
    for file in ["server.pem", "server.key"] {
        fs::copy(stand.certificate.path().join(file), place.path().join(file))?;
    }
    place.let_in(users.iter().map(String::as_str))?;
    Ok(place)
}

/// What a handshake with this server comes to.
fn agreed(at: SocketAddr, settings: &Arc<ClientConfig>) -> anyhow::Result<(CipherSuite, String)> {
    let mut stream = std::net::TcpStream::connect(at)?;
    let mut tls = ClientConnection::new(Arc::clone(settings), "localhost".try_into()?)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    let version = tls.protocol_version().context("no version")?;
    let suite = tls.negotiated_cipher_suite().context("no cipher")?.suite();
    let group = tls.negotiated_key_exchange_group().context("no key exchange")?.name();
    Ok((suite, format!("{version:?}, {suite:?}, {group:?}")))
}
