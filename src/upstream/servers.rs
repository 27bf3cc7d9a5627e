//! One server, its state and its connections. A [`Lease`] is the right to one of them: it counts against the server's
//! bound, keeps its owner's sessions together, and takes the word of whoever uses it on how the server does.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};
use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    Stream,
    breaker::{Breaker, Stage, Turn, Way, Whose},
    choice::Sticky,
    error::UpstreamError,
    settings::{Address, Settings, Trust},
};
use crate::metrics::{Metrics, OfServer, UpstreamFailure};
use crate::model::{Service, UserId};
use crate::tls::SetupError;

/// One server of an upstream, for one protocol.
pub struct Server {
    pub(super) upstream: Arc<str>,
    pub(super) service: Service,
    pub(super) address: Address,
    pub(super) secured: Option<Secured>,
    pub(super) proxy_protocol: bool,
    /// For name, TCP, PROXY header and TLS together.
    pub(super) connect_limit: Duration,
    /// For the greeting, when nobody signs in.
    pub(super) greeting_limit: Duration,
    /// Most connections.
    bound: usize,
    open: AtomicUsize,
    state: Mutex<State>,
    known: Mutex<Option<Known>>,
    pub(super) figures: OfServer,
}

/// How its certificate is checked.
pub(super) struct Secured {
    pub(super) settings: ArcSwap<ClientConfig>,
    /// The name that the certificate has to bear.
    pub(super) name: ServerName<'static>,
}

/// The addresses of its name, and when they were asked for.
pub(super) struct Known {
    pub(super) asked: Instant,
    pub(super) addresses: Arc<[SocketAddr]>,
}

struct State {
    breaker: Breaker,
    /// What it failed with last; none since it did well.
    cause: Option<Arc<str>>,
}

/// How a server stands, for metrics and readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its upstream.
    pub upstream: String,
    /// What it is for.
    pub service: Service,
    /// Its address as configured.
    pub server: String,
    /// Whether it is used; if not, it has failed and is tried from time to time.
    pub up: bool,
    /// Relayed connections open there.
    pub open: usize,
    /// What it failed with last, if it has not done well since.
    pub cause: Option<String>,
}

impl Server {
    pub(super) fn new(
        settings: &Settings,
        service: Service,
        address: Address,
        metrics: &Metrics,
    ) -> Result<Self, SetupError> {
        let secured = settings.tls.as_ref().map(|trust| Secured::new(trust, &address)).transpose()?;
        let figures = metrics.server(&settings.name, service, &address.to_string());
        figures.up.set(1);
        Ok(Self {
            upstream: settings.name.as_str().into(),
            service,
            address,
            secured,
            proxy_protocol: settings.proxy_protocol,
            connect_limit: settings.connect,
            greeting_limit: settings.login_limit,
            bound: settings.connections,
            open: AtomicUsize::new(0),
            state: Mutex::new(State { breaker: Breaker::new(), cause: None }),
            known: Mutex::new(None),
            figures,
        })
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What it is for.
    pub fn service(&self) -> Service {
        self.service
    }

    /// Its upstream's name.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let state = self.state();
        Standing {
            upstream: self.upstream.to_string(),
            service: self.service,
            server: self.address.to_string(),
            up: !state.breaker.is_open(),
            open: self.open.load(Ordering::Relaxed),
            cause: state.cause.as_deref().map(str::to_owned),
        }
    }

    /// Whether somebody might go there now.
    pub(super) fn way(&self) -> Way {
        self.state().breaker.way(Instant::now())
    }

    /// Whether it fails before it greets, which a look at it finds, and finds to be over.
    pub(super) fn is_mute(&self) -> bool {
        matches!(self.state().breaker, Breaker::Open { stage: Stage::Greeting, .. })
    }

    /// What it failed with last.
    pub(super) fn cause(&self) -> String {
        self.state().cause.as_deref().unwrap_or("nothing is known of it").to_owned()
    }

    /// The right to one connection.
    pub(super) fn lease(self: &Arc<Self>) -> Result<Lease, UpstreamError> {
        let names = || (self.upstream.to_string(), self.address.to_string());
        // First the place, then the trial: a server that is full is not tried.
        let place = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < self.bound).then_some(open + 1));
        if place.is_err() {
            let (upstream, server) = names();
            return Err(UpstreamError::Full { upstream, server, limit: self.bound });
        }
        self.figures.open.inc();
        let mut lease = Lease { server: Arc::clone(self), kept: None, trial: false };
        match self.enter(Stage::SignIn) {
            Way::Shut => {
                let (upstream, server) = names();
                return Err(UpstreamError::Resting { upstream, server, cause: self.cause() });
            }
            way => lease.trial = matches!(way, Way::Trial(_)),
        }
        Ok(lease)
    }

    /// Takes the trial, where there is one to take for somebody who comes as far as this.
    pub(super) fn enter(&self, stage: Stage) -> Way {
        self.state().breaker.enter(stage, Instant::now())
    }

    /// The trial ended without a word.
    pub(super) fn abandoned(&self) {
        self.state().breaker.abandoned();
    }

    /// It did well up to this stage.
    pub(super) fn succeeded(&self, upto: Stage) {
        let mut state = self.state();
        let turn = state.breaker.succeeded(upto);
        if state.breaker == Breaker::new() {
            state.cause = None;
        }
        if turn == Turn::Closed {
            self.figures.up.set(1);
            drop(state);
            info!(upstream = %self.upstream, service = %self.service, server = %self.address, "server is used again");
        }
    }

    /// It failed somebody at this stage; `tried` if that was its trial.
    pub(super) fn failed(
        &self,
        at: Stage,
        whose: Whose,
        tried: bool,
        failure: UpstreamFailure,
        cause: &dyn fmt::Display,
    ) {
        self.figures.failed(failure);
        let cause: Arc<str> = cause.to_string().into();
        let mut state = self.state();
        state.cause = Some(Arc::clone(&cause));
        if state.breaker.failed(at, whose, tried, Instant::now()) == Turn::Opened {
            self.figures.up.set(0);
            drop(state);
            let (upstream, service, server) = (&self.upstream, self.service, &self.address);
            warn!(%upstream, %service, %server, %cause, "server is passed over until it does well again");
        }
    }

    /// What is remembered of its name.
    pub(super) fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Secured {
    fn new(trust: &Trust, address: &Address) -> Result<Self, SetupError> {
        let name = match &trust.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(address.host().to_string())
                .map_err(|error| rustls::Error::General(format!("{}: {error}", address.host())))?,
        };
        Ok(Self { settings: ArcSwap::new(trust.settings()?), name })
    }
}

/// The right to one connection to a server, for as long as it is kept.
pub struct Lease {
    server: Arc<Server>,
    /// Whose session it is, and where that is noted.
    kept: Option<Box<(Arc<Sticky>, UserId)>>,
    /// The server had failed, and this connection shows whether it is well again.
    trial: bool,
}

impl Lease {
    /// Whose connection it is.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// The server greeted and answered a sign-in, be it with yes or no: it does what it is for.
    pub fn succeeded(&mut self) {
        self.trial = false;
        self.server.succeeded(Stage::SignIn);
    }

    /// The server failed: the connection broke, it was silent for too long, or it made no sense. A sign-in that it refuses is
    /// no failure. `cause` is for the log and holds no secret.
    pub(super) fn failed(&mut self, at: Stage, failure: UpstreamFailure, cause: &dyn fmt::Display) {
        let tried = std::mem::take(&mut self.trial);
        let whose = self.kept.as_ref().map(|kept| {
            let mut hasher = DefaultHasher::new();
            kept.1.hash(&mut hasher);
            hasher.finish()
        });
        self.server.failed(at, whose, tried, failure, cause);
    }

    /// From now on the owner's sessions come here.
    pub(super) fn keep(&mut self, sticky: &Arc<Sticky>, owner: &UserId) {
        sticky.add(owner, self.server.address.host());
        self.kept = Some(Box::new((Arc::clone(sticky), owner.clone())));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.server.open.fetch_sub(1, Ordering::Relaxed);
        self.server.figures.open.dec();
        if let Some(kept) = self.kept.take() {
            let (sticky, owner) = *kept;
            sticky.remove(&owner, self.server.address.host());
        }
        if self.trial {
            self.server.abandoned();
        }
    }
}

/// A connection to a server that has not greeted yet.
pub struct Connected {
    /// Its bytes.
    pub stream: Stream,
    /// The right to it, to be kept for as long as the stream.
    pub lease: Lease,
}
