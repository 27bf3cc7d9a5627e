//! What every request goes through before a resource sees it: the host it names, how often its address asks, how large it
//! is, how long it takes; and after it, the headers of every answer.

use std::{
    any::Any,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Instant,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Extension, Request, State},
    http::{HeaderMap, HeaderValue, Uri, header, uri::Authority},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{debug, error};

use super::{
    Control, Peer,
    problem::{Problem, ProblemKind},
    scim::in_scim_form,
};

/// Requests, and tokens that were not good, of each address. An IPv6 address stands for its /64.
pub(super) struct Rates {
    requests: DefaultKeyedRateLimiter<IpAddr>,
    failures: DefaultKeyedRateLimiter<IpAddr>,
}

impl Rates {
    pub(super) fn new(requests: u32, failures: u32) -> Self {
        Self { requests: RateLimiter::dashmap(quota(requests)), failures: RateLimiter::dashmap(quota(failures)) }
    }

    /// Counts a request.
    fn request(&self, from: IpAddr) -> Result<(), Problem> {
        take(&self.requests, from, "this address asks too often")
    }

    /// Counts a token that was not good, or an answer that claims to come from an issuer. A token is counted after it was
    /// looked at: past the limit each that is not good is answered with a time to wait, and a good one of the same address is
    /// taken all the same. How many are looked at is bounded by [`Rates::request`]. An issuer's answer is counted before.
    pub(super) fn failure(&self, from: IpAddr) -> Result<(), Problem> {
        take(&self.failures, from, "too many sign-ins from this address, or tokens that were not good")
    }

    /// Forgets the addresses that may ask as often as a new one.
    pub(super) fn sweep(&self) {
        for limiter in [&self.requests, &self.failures] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

/// So many in a minute; a tenth of them, ten at least, may come at once.
fn quota(per_minute: u32) -> Quota {
    let at_once = per_minute.div_ceil(10).max(10);
    Quota::per_minute(NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN))
        .allow_burst(NonZeroU32::new(at_once).unwrap_or(NonZeroU32::MIN))
}

fn take(limiter: &DefaultKeyedRateLimiter<IpAddr>, from: IpAddr, what: &str) -> Result<(), Problem> {
    limiter.check_key(&network(from)).map_err(|until| {
        let wait_s = until.wait_time_from(limiter.clock().now()).as_secs() + 1;
        Problem::new(ProblemKind::TooMany, format!("{what}: wait {wait_s} s")).retry_after(wait_s)
    })
}

fn network(from: IpAddr) -> IpAddr {
    match from {
        IpAddr::V4(_) => from,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Puts all of it around the routes.
pub(super) fn around(routes: Router<Arc<Control>>, control: &Arc<Control>) -> Router<Arc<Control>> {
    routes
        .method_not_allowed_fallback(async || {
            Problem::new(ProblemKind::MethodNotAllowed, "/api/v1/openapi.json lists each path's methods")
        })
        .layer(DefaultBodyLimit::max(control.settings.body_bytes))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(control), pass))
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    // The panic itself is in the log already.
    Problem::new(ProblemKind::Fault, "the request met a fault of the gateway; its log tells more").into_response()
}

async fn pass(
    State(control): State<Arc<Control>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answer = match control.admits(&request, peer) {
        Err(problem) => problem.into_response(),
        Ok(()) => tokio::time::timeout(control.settings.request_limit, next.run(request)).await.unwrap_or_else(|_| {
            let limit_s = control.settings.request_limit.as_secs();
            let detail = format!("the request took more than http.request_s, {limit_s} s; what it wanted to change may be changed");
            Problem::new(ProblemKind::TimedOut, detail).into_response()
        }),
    };
    let answer = if path.starts_with("/scim/") { in_scim_form(answer) } else { answer };
    let (status, took_ms) = (answer.status(), began.elapsed().as_millis());
    if status.is_server_error() {
        error!(%method, path, %status, took_ms, from = %peer.from, "answered");
    } else {
        debug!(%method, path, %status, took_ms, from = %peer.from, "answered");
    }
    with_headers(answer)
}

/// The name and port by which a request asks: in its first line (HTTP/2), or in `Host`.
pub(in crate::admin) fn named(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    uri.authority().cloned().or_else(|| Authority::try_from(headers.get(header::HOST)?.as_bytes()).ok())
}

impl Control {
    fn admits(&self, request: &Request, peer: Peer) -> Result<(), Problem> {
        self.rates.request(peer.from.ip())?;
        let named = named(request.uri(), request.headers());
        let named = named.as_ref().map_or("", |authority| authority.host()).to_ascii_lowercase();
        if self.answers_to(&named, peer) {
            return Ok(());
        }
        // A web page can make a browser ask us by any name that leads here; only our own names are answered.
        let detail =
            format!("{named:?} is not in hostname or http.hosts: ask by one of those names, or add it there");
        Err(Problem::new(ProblemKind::WrongHost, detail))
    }

    fn answers_to(&self, host: &str, peer: Peer) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let ours = bare.parse::<IpAddr>().is_ok_and(|address| address == peer.at.ip());
        let local = peer.at.ip().is_loopback() && bare == "localhost";
        ours || local || self.settings.hosts.iter().any(|own| own == host)
    }
}

fn with_headers(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    answer
}
