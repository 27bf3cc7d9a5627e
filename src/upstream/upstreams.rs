//! The upstreams of a process, and for each the order in which its servers are tried. Made once in `serve`; `session` asks
//! for candidates and connects; `serve` runs the looks at the servers, and has files read again that changed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    breaker::{Stage, Way},
    choice::{Sticky, rank},
    connect,
    error::UpstreamError,
    health,
    proxy_header::Ends,
    servers::{Connected, Server, Standing},
    settings::{ClientAddress, LoginBy, Settings},
};
use crate::metrics::Metrics;
use crate::model::{Service, UserId};
use crate::tls::SetupError;

/// What policy and config call the embedded store, which is no upstream.
pub const EMBEDDED: &str = "maildir";

/// Every upstream of the config.
pub struct Upstreams {
    all: BTreeMap<String, Arc<Upstream>>,
    /// Where mail is of which policy says nothing; none: in the embedded store.
    default: Option<String>,
}

/// One upstream: servers with the same mailboxes, of which each mailbox has one that is its own.
pub struct Upstream {
    name: String,
    imap: Vec<Arc<Server>>,
    pop: Vec<Arc<Server>>,
    pub(super) sticky: Arc<Sticky>,
    login: ArcSwap<LoginBy>,
    login_limit: Duration,
    client_address: ClientAddress,
    health: Option<Duration>,
}

impl Upstreams {
    /// Upstreams whose names differ; `default` is one of them, or [`EMBEDDED`].
    ///
    /// # Errors
    /// TLS cannot be set up, as where the system has no authorities.
    pub fn new(settings: &[Settings], default: &str, metrics: &Metrics) -> Result<Arc<Self>, SetupError> {
        let made = |own: &Settings| Ok((own.name.clone(), Arc::new(Upstream::new(own, metrics)?)));
        let all = settings.iter().map(made).collect::<Result<_, SetupError>>()?;
        let default = (default != EMBEDDED).then(|| default.to_owned());
        Ok(Arc::new(Self { all, default }))
    }

    /// The upstream where mail is of which policy says this, the config's default where it says nothing; none for the
    /// embedded store.
    ///
    /// # Errors
    /// `Unknown`: never another place than the one that policy names.
    pub fn find(&self, mail: Option<&str>) -> Result<Option<&Arc<Upstream>>, UpstreamError> {
        let Some(name) = mail.or(self.default.as_deref()).filter(|name| *name != EMBEDDED) else {
            return Ok(None);
        };
        let found = self.all.get(name);
        found.map(Some).ok_or_else(|| UpstreamError::Unknown { upstream: name.to_owned() })
    }

    /// The names that policy may use beside [`EMBEDDED`], in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }

    /// How every server stands.
    pub fn report(&self) -> Vec<Standing> {
        self.all.values().flat_map(|upstream| upstream.servers()).map(|server| server.standing()).collect()
    }

    /// Why mail of which policy says nothing is out of reach, in words; nothing while it is not. For readiness checks, which
    /// anybody may ask: no names. Only what a look at the servers finds, and finds to be over: a node to which nobody is sent
    /// would wait for ever for the sign-in that shows that a server is well again.
    pub fn obstacles(&self) -> Vec<String> {
        let Ok(Some(upstream)) = self.find(None) else { return Vec::new() };
        if upstream.health.is_none() {
            return Vec::new();
        }
        let down = |servers: &Vec<Arc<Server>>| servers.iter().all(|server| server.is_mute());
        let of = [(Service::Imap, &upstream.imap), (Service::Pop, &upstream.pop)];
        let of = of.into_iter().filter(|(_, servers)| !servers.is_empty() && down(servers));
        of.map(|(service, _)| format!("no server that mail is on answers for {service}")).collect()
    }

    /// Takes over what the files hold by now: authorities, certificates, secrets. New connections use it; open ones go on.
    ///
    /// # Errors
    /// TLS cannot be set up; nothing is changed then.
    pub fn renew(&self, settings: &[Settings]) -> Result<(), SetupError> {
        let mut fresh = Vec::new();
        for own in settings {
            let Some(upstream) = self.all.get(&own.name) else { continue };
            for server in upstream.servers() {
                if let (Some(secured), Some(trust)) = (&server.secured, &own.tls) {
                    fresh.push((secured, trust.settings()?));
                }
            }
        }
        for (secured, settings) in fresh {
            secured.settings.store(settings);
        }
        for own in settings {
            if let Some(upstream) = self.all.get(&own.name) {
                upstream.login.store(Arc::new(own.login.clone()));
            }
        }
        Ok(())
    }

    /// Looks at every server from time to time, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = JoinSet::new();
        for upstream in self.all.values() {
            for (server, every) in upstream.servers().filter_map(|server| Some((server, upstream.health?))) {
                looks.spawn(health::watch(Arc::clone(server), every, stop.clone()));
            }
        }
        tokio::select! {
            () = stop.cancelled() => while looks.join_next().await.is_some() {},
            // None of them ends by itself: without it a server would never be found well again.
            Some(_) = looks.join_next() => {}
        }
    }
}

impl Upstream {
    fn new(own: &Settings, metrics: &Metrics) -> Result<Self, SetupError> {
        let servers = |service, addresses: &[super::Address]| -> Result<Vec<_>, SetupError> {
            let made = |address: &super::Address| Server::new(own, service, address.clone(), metrics).map(Arc::new);
            addresses.iter().map(made).collect()
        };
        Ok(Self {
            name: own.name.clone(),
            imap: servers(Service::Imap, &own.imap)?,
            pop: servers(Service::Pop, &own.pop)?,
            sticky: Arc::default(),
            login: ArcSwap::from_pointee(own.login.clone()),
            login_limit: own.login_limit,
            client_address: own.client_address,
            health: own.health,
        })
    }

    /// What policy calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How to sign in there, as the files have it now.
    pub fn login(&self) -> Arc<LoginBy> {
        self.login.load_full()
    }

    /// For greeting and sign-in together.
    pub fn login_limit(&self) -> Duration {
        self.login_limit
    }

    /// How the peer's address is told there, inside the protocol.
    pub fn client_address(&self) -> ClientAddress {
        self.client_address
    }

    /// The servers for this owner's mailbox in the order of trial: the host where the owner has sessions, the one that is
    /// the owner's by hash, the others. Servers that failed are left out until it is time to try them again. With `pin`
    /// there is that host alone.
    ///
    /// A caller goes on to the next one for as long as nothing was sent that a server could have acted on.
    ///
    /// # Errors
    /// `NoServer`, `NoHost` and `AllDown`; what is returned has at least one server.
    pub fn candidates(
        &self,
        service: Service,
        owner: &UserId,
        pin: Option<&str>,
    ) -> Result<Vec<Arc<Server>>, UpstreamError> {
        let upstream = || self.name.clone();
        let servers = self.servers_for(service);
        if servers.is_empty() {
            return Err(UpstreamError::NoServer { upstream: upstream(), service });
        }
        let pinned = |server: &&Arc<Server>| pin.is_none_or(|host| server.address().is_at(host));
        let mut order: Vec<_> = servers.iter().filter(pinned).collect();
        if order.len() > 1 {
            order.sort_by_cached_key(|server| rank(server.address(), owner));
            let stuck = self.sticky.hosts(owner);
            let place = |server: &&Arc<Server>| stuck.iter().position(|host| host == server.address().host());
            order.sort_by_key(|server| place(server).unwrap_or(stuck.len()));
        }
        let Some(first) = order.first().copied() else {
            let host = pin.unwrap_or_default().to_owned();
            return Err(UpstreamError::NoHost { upstream: upstream(), service, host });
        };
        let (mut candidates, mut due) = (Vec::with_capacity(order.len()), Vec::new());
        for server in order {
            match server.way() {
                Way::Shut => {}
                // Where somebody looks at the servers anyway, people are not sent to one that is likely down.
                Way::Trial(Stage::Greeting) if self.health.is_some() => due.push(Arc::clone(server)),
                Way::Trial(_) | Way::Free => candidates.push(Arc::clone(server)),
            }
        }
        candidates.append(&mut due);
        if candidates.is_empty() {
            return Err(UpstreamError::AllDown { upstream: upstream(), service, cause: first.cause() });
        }
        Ok(candidates)
    }

    /// A connection to one of the [`Upstream::candidates`], for a session of this owner whose peer is at these ends. The
    /// server has not greeted yet: how it does from here on the caller tells the lease.
    ///
    /// # Errors
    /// `Full` and `Resting`, and everything that can go wrong on the way; the server's state is seen to here.
    pub async fn connect(
        &self,
        server: &Arc<Server>,
        owner: &UserId,
        ends: Ends,
    ) -> Result<Connected, UpstreamError> {
        let mut lease = server.lease()?;
        match connect::open(server, Some(ends)).await {
            Ok(stream) => {
                server.figures.connects.inc();
                lease.keep(&self.sticky, owner);
                Ok(Connected { stream, lease })
            }
            Err(error) => {
                if let Some(failure) = error.failure() {
                    lease.failed(Stage::Greeting, failure, &error);
                }
                Err(error)
            }
        }
    }

    pub(super) fn servers_for(&self, service: Service) -> &[Arc<Server>] {
        match service {
            Service::Imap => &self.imap,
            Service::Pop => &self.pop,
        }
    }

    fn servers(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.imap.iter().chain(&self.pop)
    }
}
