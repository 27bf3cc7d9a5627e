//! Builds every room, binds the sockets or is given them, accepts, reloads what changes on disk, hands over, and drains at
//! the end. Called by `cli`.

mod accept;
mod bootstrap;
mod check;
mod doors;
mod handover;
mod http;
mod life;
pub mod proxy;
mod reload;
mod sockets;
mod systemd;
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
    signal::unix::{Signal, SignalKind, signal},
    sync::Semaphore,
};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::admin::{self, Control};
use crate::config::{Config, HttpLimits, Log, LogFormat, SignIn};
use crate::gate::{Gate, Lobby};
use crate::issuer::Issuers;
use crate::maildir::Mail;
use crate::model::{Secret, Service};
use crate::notify;
use crate::session::{self, Drain, House};
use crate::store::Store;
use crate::tls::{self, Acceptance, Resolver};
use crate::upstream::Upstreams;

/// How a gateway begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With sockets of its own, or those that the service manager passed.
    Alone,
    /// With those of the process that serves `data_dir` now, which ends its sessions of the embedded store and goes on with
    /// those that it relays.
    TakingOver,
}

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
    doors: doors::Doors,
    charge: handover::Charge,
    /// The process whose place this one takes, until it serves.
    succession: Option<handover::Succession>,
    manager: Arc<systemd::Manager>,
    /// How often the service manager wants to hear that all is well.
    watchdog: Option<Duration>,
    control: Arc<Control>,
    gate: Arc<Gate>,
    store: Arc<Store>,
    issuers: Arc<Issuers>,
    /// Until it runs.
    reload: Option<reload::Reload>,
    /// The same.
    channels: Option<notify::Channels>,
    mail: Arc<Mail>,
    upstreams: Arc<Upstreams>,
    drain: Arc<Drain>,
    drain_limit: Duration,
    /// How long relayed sessions may go on once another process has taken over.
    relay_drain: Duration,
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
    /// Reads and builds everything. Whoever starts alone is in charge, and has its ports, before it touches the database; a
    /// wrong file takes no port. The process whose place is taken gives up nothing before everything else is done.
    pub async fn start(config: &Config, start: Start) -> anyhow::Result<Self> {
        // From here on these signals are ours: one that comes during the start is answered as soon as it is over.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        let environment = systemd::Environment::read();
        let manager = Arc::new(systemd::Manager::find());
        let mut given = environment.sockets()?;
        let mut watchdog = environment.watchdog();
        let mut succession = None;
        if start == Start::TakingOver {
            let (asked, offered) = handover::Succession::ask(&config.data_dir).await?;
            succession = Some(asked);
            let is_new = |one: &sockets::Entrance| given.iter().all(|own| own.name != one.name);
            let handed: Vec<_> = offered.entrances.into_iter().filter(is_new).collect();
            given.extend(handed);
            watchdog = watchdog.or(offered.watchdog);
        }
        let seen = reload::look(config).await;
        let resolver = Resolver::new(reload::certificates(config)?);
        let issuers =
            Issuers::with_limits(config.issuer_settings()?, config.issuer_limits(), SystemTime::now().into())?;
        check::folders(config)?;
        let channels = notify::Channels::new(config.notify_settings()?)?;
        let upstreams = reload::upstreams(config)?;
        if let Some(file) = &config.policy_file {
            // Read before anything is made: a policy that is wrong changes nothing, not even an empty data_dir.
            reload::policy_document(file, &config.homes())?;
        }
        let settings = config.store_settings();
        if let Some(warning) = settings.warning() {
            warn!("{warning}");
        }
        let charge = match start {
            // A second process must not touch the database of the first.
            Start::Alone => Some(handover::Charge::take(&config.data_dir).await?),
            Start::TakingOver => None,
        };
        let workers = workers::Workers::start().context("cannot start the threads that sessions run on")?;
        let entrances = sockets::entrances(&config.listen, given, workers.handles().len())?;
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
            manager: Arc::clone(&manager),
        };
        let mail = Mail::new(config.maildir_settings())?;
        let house = Arc::new(House {
            gate: Arc::clone(&gate),
            mail: Arc::clone(&mail),
            upstreams: Arc::clone(&upstreams),
            limits: config.session_limits(),
        });
        let lobby = Lobby::new(config.lobby_limits());
        let courtesies = accept::courtesies();
        let bound: Vec<Bound> =
            entrances.iter().map(|entrance| Bound { name: entrance.name, address: entrance.address }).collect();
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
        let web = web(config, &control);
        let mut doors = Vec::new();
        for entrance in entrances {
            let service = match entrance.name {
                "imaps" => Service::Imap,
                "pop3s" => Service::Pop,
                _ => {
                    let web = web(entrance.address, &resolver)?;
                    doors.push((entrance, doors::Behind::Web(web)));
                    continue;
                }
            };
            let door = accept::Door {
                service,
                greeting: session::greeting(service, &config.hostname),
                acceptance: Acceptance::new(service, &resolver)?,
                lobby: Arc::clone(&lobby),
                house: Arc::clone(&house),
                proxy_from: config.listen.proxy_protocol_from.clone(),
                trusted: config.trusted_networks.clone(),
                handshake_limit: Duration::from_secs(config.limits.tls_handshake_s),
                courtesies: Arc::clone(&courtesies),
            };
            doors.push((entrance, doors::Behind::Mail(Arc::new(door))));
        }
        // The last thing that others notice and that can fail for a reason of ours: the process that serves is under it too.
        reload.apply_policy().await?;
        reload.tell_unknown_homes().await?;
        let charge = match (charge, &mut succession) {
            (Some(charge), _) => charge,
            (None, None) => handover::Charge::take(&config.data_dir).await?,
            (None, Some(succession)) => {
                info!("everything is ready; waiting for the process that serves to end its sessions");
                tokio::select! {
                    taken = succession.take_charge() => taken?,
                    _ = terminate.recv() => anyhow::bail!("SIGTERM before the other process had handed over; it serves on"),
                    _ = interrupt.recv() => anyhow::bail!("SIGINT before the other process had handed over; it serves on"),
                }
            }
        };
        // What was changed while this process waited has to be in force before anybody comes in.
        store.catch_up().await?;
        // The link names the port that was really bound.
        let web = bound.iter().find(|bound| bound.name == "http").map(|bound| bound.address);
        let first_admin = match web {
            Some(web) => bootstrap::prepare(&store, &config.data_dir, console(config, web).as_deref()).await?,
            None => None,
        };
        log_limits(config);
        Ok(Self {
            bound,
            doors: doors::Doors::new(doors),
            charge,
            watchdog,
            succession,
            manager,
            control,
            gate,
            store,
            issuers,
            reload: Some(reload),
            channels: Some(channels),
            mail,
            upstreams,
            drain: Drain::new(),
            drain_limit: Duration::from_secs(config.limits.drain_s),
            relay_drain: Duration::from_secs(config.limits.relay_drain_s),
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

/// What is behind an address of `listen.http`.
fn web(
    config: &Config,
    control: &Arc<Control>,
) -> impl Fn(SocketAddr, &Arc<Resolver>) -> anyhow::Result<Arc<http::Web>> + use<> {
    let router = admin::router(control);
    let HttpLimits { connections, idle_s, .. } = config.http.limits;
    let connections = Arc::new(Semaphore::new(usize::try_from(connections).unwrap_or(usize::MAX)));
    let (always, handshake_limit) = (config.http.tls, Duration::from_secs(config.limits.tls_handshake_s));
    move |address, resolver| {
        // Beyond this machine a token would be read by whoever is on the way.
        let tls = (always || !address.ip().is_loopback()).then(|| tls::web(resolver)).transpose()?;
        Ok(Arc::new(http::Web {
            tls,
            router: router.clone(),
            connections: Arc::clone(&connections),
            handshake_limit,
            idle_limit: Duration::from_secs(idle_s),
        }))
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
