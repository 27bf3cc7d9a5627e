//! Builds every room, binds the sockets, accepts, reloads what changes on disk, and drains at the end. Called by
//! `cli`.

mod accept;
mod bootstrap;
mod check;
mod http;
pub mod proxy;
mod reload;
mod workers;

pub use bootstrap::BOOTSTRAP;
pub use check::check;
pub use reload::policy_document;

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{Signal, SignalKind, signal},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::admin::{self, Control};
use crate::config::{Config, Log, LogFormat, SignIn};
use crate::gate::{self, Gate, Lobby};
use crate::issuer::Issuers;
use crate::maildir::Mail;
use crate::model::{Secret, Service};
use crate::notify;
use crate::session::{self, House};
use crate::store::Store;
use crate::tls::{self, Acceptance, Resolver};
use crate::upstream::Upstreams;

/// Connections the system may hold for us before we accept them.
const BACKLOG: u32 = 1024;
/// How long HTTP requests under way may take once the sessions have ended.
const LAST_REQUESTS: Duration = Duration::from_secs(2);
/// How often the API forgets addresses that have not asked for a while.
const SWEEP: Duration = Duration::from_secs(60);

/// One bound socket.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// `imaps`, `pop3s` or `http`.
    pub name: &'static str,
    /// The address with the port that was really bound.
    pub address: SocketAddr,
}

/// A gateway whose sockets are bound and whose state is loaded.
pub struct Server {
    bound: Vec<Bound>,
    doors: Vec<(Arc<accept::Door>, Vec<TcpListener>)>,
    webs: Vec<http::Web>,
    control: Arc<Control>,
    gate: Arc<Gate>,
    store: Arc<Store>,
    issuers: Arc<Issuers>,
    reload: reload::Reload,
    channels: notify::Channels,
    mail: Arc<Mail>,
    upstreams: Arc<Upstreams>,
    sessions: TaskTracker,
    drain: CancellationToken,
    drain_limit: Duration,
    /// What other nodes, and people, call this one.
    node_name: String,
    /// The link for the first admin, while nobody administers.
    first_admin: Option<Secret>,
    terminate: Signal,
    interrupt: Signal,
    /// Last, so that what other tasks wait for is still there while they end.
    workers: workers::Workers,
}

impl Server {
    /// Reads and builds everything; binds last, so that a wrong file never takes a port.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        // From here on these signals are ours: one that comes during the start is answered as soon as it is over.
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        let seen = reload::look(config).await;
        let resolver = Resolver::new(reload::certificates(config)?);
        let issuers =
            Issuers::with_limits(config.issuer_settings()?, config.issuer_limits(), SystemTime::now().into())?;
        check::folders(config)?;
        let channels = notify::Channels::new(config.notify_settings()?)?;
        let upstreams = reload::upstreams(config)?;
        if let Some(file) = &config.policy_file {
            // Read before anything is made: a policy that is wrong changes nothing, not even an empty data_dir.
            reload::policy_document(file)?;
        }
        let settings = config.store_settings();
        if let Some(warning) = settings.warning() {
            warn!("{warning}");
        }
        let store = Store::open(&settings).await?;
        let gate = Gate::new(Arc::clone(&store), Arc::clone(&issuers), config.gate_limits());
        let upstreams = Upstreams::new(&upstreams, &config.mail_default, gate.metrics())?;
        let reload = reload::Reload {
            config: config.clone(),
            resolver: Arc::clone(&resolver),
            store: Arc::clone(&store),
            issuers: Arc::clone(&issuers),
            upstreams: Arc::clone(&upstreams),
            seen,
            hangup,
        };
        reload.apply_policy().await?;
        let mail = Mail::new(config.maildir_settings())?;
        let house = Arc::new(House {
            gate: Arc::clone(&gate),
            mail: Arc::clone(&mail),
            upstreams: Arc::clone(&upstreams),
            limits: config.session_limits(),
        });
        let lobby = Lobby::new(config.lobby_limits());
        let sessions = TaskTracker::new();
        let drain = CancellationToken::new();
        let courtesies = accept::courtesies();
        let workers = workers::Workers::start().context("cannot start the threads that sessions run on")?;

        let mut bound = Vec::new();
        let mut doors = Vec::new();
        let services =
            [("imaps", Service::Imap, &config.listen.imaps), ("pop3s", Service::Pop, &config.listen.pop3s)];
        for (name, service, addresses) in services {
            for address in addresses {
                let listeners = listen(*address, &workers).with_context(|| cannot_listen(name, *address))?;
                if let Some(listener) = listeners.first() {
                    bound.push(Bound { name, address: listener.local_addr()? });
                }
                let door = Arc::new(accept::Door {
                    service,
                    greeting: session::greeting(service, &config.hostname),
                    acceptance: Acceptance::new(service, &resolver)?,
                    lobby: Arc::clone(&lobby),
                    house: Arc::clone(&house),
                    proxy_from: config.listen.proxy_protocol_from.clone(),
                    trusted: config.trusted_networks.clone(),
                    handshake_limit: Duration::from_secs(config.limits.tls_handshake_s),
                    sessions: sessions.clone(),
                    drain: drain.clone(),
                    courtesies: Arc::clone(&courtesies),
                });
                doors.push((door, listeners));
            }
        }
        let mut settings = config.admin_settings();
        let port = |name| bound.iter().find(|bound| bound.name == name).map(|bound| bound.address.port());
        settings.setup.bound(port("imaps"), port("pop3s"));
        let control = Control::new(
            Arc::clone(&gate),
            Arc::clone(&issuers),
            Arc::clone(&lobby),
            Arc::clone(&upstreams),
            settings,
        );
        let webs = webs(config, &resolver, &control, &mut bound)?;
        // The link names the port that was really bound.
        let web = bound.iter().find(|bound| bound.name == "http").map(|bound| bound.address);
        let first_admin = match web {
            Some(web) => bootstrap::prepare(&store, &config.data_dir, console(config, web).as_deref()).await?,
            None => None,
        };
        let drain_limit = Duration::from_secs(config.limits.drain_s);
        log_limits(config);
        Ok(Self {
            bound,
            doors,
            webs,
            control,
            gate,
            store,
            issuers,
            reload,
            channels,
            mail,
            upstreams,
            sessions,
            drain,
            drain_limit,
            node_name: host_name().unwrap_or_else(|| config.hostname.clone()),
            first_admin,
            terminate,
            interrupt,
            workers,
        })
    }

    /// The bound sockets.
    pub fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// The link that makes whoever opens it first and signs in the first super admin, while nobody administers yet. It holds
    /// a secret: for the terminal of whoever starts the gateway, never for a log.
    pub fn first_admin_link(&self) -> Option<&Secret> {
        self.first_admin.as_ref()
    }

    /// Serves until SIGTERM or SIGINT, then tells every session and waits for them.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let closed = CancellationToken::new();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self.store).run(stop.clone()));
        tasks.spawn(Arc::clone(&self.issuers).run(stop.clone()));
        tasks.spawn(gate::watch(Arc::clone(&self.gate), stop.clone()));
        tasks.spawn(gate::attend(Arc::clone(&self.gate), self.node_name, stop.clone()));
        tasks.spawn(self.reload.run(stop.clone()));
        tasks.spawn(Arc::clone(&self.upstreams).run(stop.clone()));
        let metrics = Arc::clone(self.gate.metrics());
        tasks.spawn(notify::run(Arc::clone(&self.store), self.channels, metrics, stop.clone()));
        let mut doors = JoinSet::new();
        for (door, listeners) in self.doors {
            for (listener, worker) in listeners.into_iter().zip(self.workers.handles()) {
                doors.spawn_on(Arc::clone(&door).stand_open(listener, closed.clone()), worker);
            }
        }
        let mut webs = JoinSet::new();
        for web in self.webs {
            webs.spawn(web.serve(closed.clone()));
        }
        tasks.spawn(admin::watch_sign_ins(Arc::clone(&self.control), stop.clone()));
        tasks.spawn(sweep(self.control, stop.clone()));
        tokio::select! {
            _ = self.terminate.recv() => info!("SIGTERM: telling every session"),
            _ = self.interrupt.recv() => info!("SIGINT: telling every session"),
            Some(ended) = tasks.join_next() => {
                // None of them ends by itself; without one of them the gate would not keep its promises.
                closed.cancel();
                self.drain.cancel();
                anyhow::bail!("a task of the gateway ended unexpectedly: {ended:?}");
            }
        }
        closed.cancel();
        while doors.join_next().await.is_some() {}
        self.drain.cancel();
        self.sessions.close();
        if tokio::time::timeout(self.drain_limit, self.sessions.wait()).await.is_err() {
            warn!(left = self.sessions.len(), "sessions did not end in time");
        }
        if tokio::time::timeout(LAST_REQUESTS, async { while webs.join_next().await.is_some() {} }).await.is_err() {
            warn!("HTTP requests did not end in time");
        }
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        self.mail.close().await;
        // Closed in order, the database is one file again, without a log beside it.
        self.store.close().await?;
        info!("stopped");
        Ok(())
    }
}

/// The name of the machine, which tells nodes apart where `hostname` is that of all of them.
fn host_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Where a browser finds the pages; none where nobody can sign in there.
fn console(config: &Config, web: SocketAddr) -> Option<String> {
    config.http.signin.as_ref()?;
    let local = web.ip().is_loopback();
    Some(match &config.http.public_url {
        Some(url) => url.clone(),
        None if local && !config.http.tls => format!("http://localhost:{}", web.port()),
        None => format!("https://{}:{}", config.hostname, web.port()),
    })
}

/// Binds what `listen.http` says.
fn webs(
    config: &Config,
    resolver: &Arc<Resolver>,
    control: &Arc<Control>,
    bound: &mut Vec<Bound>,
) -> anyhow::Result<Vec<http::Web>> {
    let router = admin::router(control);
    let limits = &config.http.limits;
    let connections = Arc::new(Semaphore::new(usize::try_from(limits.connections).unwrap_or(usize::MAX)));
    let mut webs = Vec::new();
    for address in &config.listen.http {
        // Beyond this machine a token would be read by whoever is on the way.
        let tls = (config.http.tls || !address.ip().is_loopback()).then(|| tls::web(resolver)).transpose()?;
        let listener = bind(*address, false).and_then(|socket| socket.listen(BACKLOG));
        let listener = listener.with_context(|| cannot_listen("http", *address))?;
        bound.push(Bound { name: "http", address: listener.local_addr()? });
        webs.push(http::Web {
            listener,
            tls,
            router: router.clone(),
            connections: Arc::clone(&connections),
            handshake_limit: Duration::from_secs(config.limits.tls_handshake_s),
            idle_limit: Duration::from_secs(limits.idle_s),
        });
    }
    Ok(webs)
}

fn cannot_listen(name: &str, address: SocketAddr) -> String {
    format!("listen.{name}: cannot listen on {address}; is the port taken, or below 1024 without the right to it?")
}

/// Keeps what the API remembers of each address small.
async fn sweep(control: Arc<Control>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
        control.sweep();
    }
}

/// An error and its causes in one line; a cause that an error's own text tells already is not told again.
pub fn in_one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

/// Every limit in force, a line for each section of the config.
fn log_limits(config: &Config) {
    let list = |values: &mut dyn Iterator<Item = (&'static str, u64)>| {
        values.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    };
    info!(
        "[limits] {} sessions_end_with_token={} trusted_networks={:?}",
        list(&mut config.limits.values()),
        config.sessions_end_with_token,
        config.trusted_networks
    );
    let http = &config.http;
    info!(
        "[http] {} tls={} hosts={:?} scope={:?}",
        list(&mut http.limits.values()),
        http.tls,
        http.hosts,
        http.scope
    );
    if let Some(signin) = &http.signin {
        let SignIn { issuer, client_id, scope, idle_s, most_s, .. } = signin;
        info!(
            "[http.signin] issuer={issuer:?} client_id={client_id:?} scope={scope:?} idle_s={idle_s} most_s={most_s}"
        );
    }
    info!("[scim] unit={} unit_attribute={:?}", config.scim.unit, config.scim.unit_attribute);
    info!("[jwks] {}", list(&mut config.jwks.values()));
    info!("[database] grace_s={}", config.database.grace_s);
    let channels = config.notify.channels();
    info!("[notify] {} channels={channels:?}", list(&mut config.notify.limits.values()));
    info!("[audit] required={} {}", config.audit.required, list(&mut config.audit.limits.values()));
}

/// A socket for each worker, all on one address: the system spreads connections over them.
fn listen(address: SocketAddr, workers: &workers::Workers) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        // Any process of this user may join sockets that share a port. A gateway started twice by mistake has to hear
        // that the port is taken, so first the port is asked for alone.
        bind(address, false)?;
    }
    let mut address = address;
    let mut listeners = Vec::new();
    for worker in workers.handles() {
        let socket = bind(address, true)?;
        let _on = worker.enter();
        let listener = socket.listen(BACKLOG)?;
        accept::prepare(&listener)?;
        // Where the system chose the port, the others take the same.
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(shared)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, as on most systems; any other address is what it says.
        socket2::SockRef::from(&socket).set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(address)?;
    Ok(socket)
}

/// Sends logs to standard error as the config says; `RUST_LOG` wins where it is set.
pub fn start_log(log: &Log) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(&log.level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let done = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if let Err(error) = done {
        eprintln!("portcullis: logging was set up before: {error}");
    }
}
