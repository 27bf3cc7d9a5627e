//! The HTTP API under `/api/v1`, and beside it health, readiness and metrics. One file a resource; `signin` and `setup` have
//! the pages for a browser. Called by `serve`, which binds the sockets and gives each request the address it came from
//! ([`Peer`]).
//!
//! A request goes: [`guard`] (host, rate, size, time) -> [`actor`] (whose token, which role) -> a resource, which asks the
//! snapshot or writes through `store`. Nothing here touches a session: what a write changes, the change feed carries.

mod access;
mod actor;
mod audit;
mod cutoffs;
mod directory;
mod events;
mod extract;
mod grants;
mod guard;
mod health;
mod me;
mod notices;
mod openapi;
mod page;
mod problem;
mod scim;
mod seen;
mod sessions;
mod setup;
mod signin;
mod time;
mod why;

use std::{net::SocketAddr, sync::Arc};

pub use actor::{Actor, Area};
pub use problem::{Problem, ProblemKind};
pub use scim::{Settings as ScimSettings, UnitAttribute};
pub use setup::{
    AddOn, AddOnError, Guide, MailServer, Package, Program, Record, SetupSettings, SignIn, Smtp, SmtpSignIn,
    Unnumbered, prepare,
};
pub use signin::watch_sign_ins;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;

use crate::gate::{Gate, Lobby};
use crate::issuer::Issuers;
use crate::store::{Lifetime, Store};
use crate::upstream::{Homes, Upstreams};

/// What the operator says about the HTTP listeners: `[http]`, `hostname` and the limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names a request's `Host` may have; this machine's own are added on loopback.
    pub hosts: Vec<String>,
    /// Where mail may be.
    pub homes: Homes,
    /// Scopes of which an access token needs one; none: access tokens are not taken.
    pub scope: Vec<String>,
    /// Largest body, in bytes.
    pub body_bytes: usize,
    /// Longest time for one request.
    pub request_limit: std::time::Duration,
    /// Requests of one address in a minute.
    pub requests_per_minute: u32,
    /// Requests with a token that is not good, of one address in a minute.
    pub failures_per_minute: u32,
    /// What identity providers may say.
    pub scim: ScimSettings,
    /// What people are told about setting up their mail programs.
    pub setup: SetupSettings,
    /// How long somebody who signed in at the console stays so.
    pub sign_in: Lifetime,
}

/// What every resource has at hand.
pub struct Control {
    store: Arc<Store>,
    gate: Arc<Gate>,
    issuers: Arc<Issuers>,
    lobby: Arc<Lobby>,
    upstreams: Arc<Upstreams>,
    settings: Settings,
    rates: guard::Rates,
}

/// Where a request came from and which of our addresses it reached; put into each request by `serve`.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The other side.
    pub from: SocketAddr,
    /// Ours.
    pub at: SocketAddr,
    /// Whether the connection is TLS, to us.
    pub tls: bool,
}

impl Control {
    /// The API over this state.
    pub fn new(
        gate: Arc<Gate>,
        issuers: Arc<Issuers>,
        lobby: Arc<Lobby>,
        upstreams: Arc<Upstreams>,
        settings: Settings,
    ) -> Arc<Self> {
        let rates = guard::Rates::new(settings.requests_per_minute, settings.failures_per_minute);
        Arc::new(Self { store: Arc::clone(gate.store()), gate, issuers, lobby, upstreams, settings, rates })
    }

    /// Forgets the addresses that have not asked for a while. To be called every minute or so.
    pub fn sweep(&self) {
        self.rates.sweep();
    }
}

/// Every resource, each with its part of the OpenAPI document.
fn resources() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::with_openapi(openapi::frame())
        .merge(health::routes())
        .merge(access::routes())
        .merge(grants::routes())
        .merge(me::routes())
        .merge(notices::routes())
        .merge(audit::routes())
        .merge(why::routes())
        .merge(directory::routes())
        .merge(sessions::routes())
        .merge(seen::routes())
        .merge(cutoffs::routes())
        .merge(events::routes())
        .merge(scim::routes())
        .merge(setup::routes())
        .merge(signin::routes())
}

/// All paths of the listener.
pub fn router(control: &Arc<Control>) -> Router {
    let (routes, document) = resources().split_for_parts();
    let routes = routes.merge(openapi::route(document)).fallback(problem::nothing_here);
    guard::around(routes, control).with_state(Arc::clone(control))
}
