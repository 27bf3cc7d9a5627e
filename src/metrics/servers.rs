//! The figures of the mail servers behind the gate. Upstreams and their servers are configured, so that these are bounded
//! labels. `upstream` keeps the handles.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::Metrics;
use crate::model::Service;

type ByServer = [(&'static str, String); 3];
type ByFailure = [(&'static str, String); 4];

/// Why a server could not be used: a word of the label `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// Its name has no address.
    Resolve,
    /// It took no connection.
    Refused,
    /// The network did not lead there, or broke off.
    Unreachable,
    /// It did not answer in time.
    Timeout,
    /// Its certificate is not believed.
    Certificate,
    /// TLS failed for another reason.
    Tls,
    /// It did not greet as such a server does.
    Greeting,
    /// It broke off, or made no sense, during the sign-in; a sign-in that it refuses is no failure.
    Login,
}

impl UpstreamFailure {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Resolve, "resolve"),
        (Self::Refused, "refused"),
        (Self::Unreachable, "unreachable"),
        (Self::Timeout, "timeout"),
        (Self::Certificate, "certificate"),
        (Self::Tls, "tls"),
        (Self::Greeting, "greeting"),
        (Self::Login, "login"),
    ];
}

/// The families that all servers share.
#[derive(Debug, Default)]
pub(super) struct Servers {
    open: Family<ByServer, Gauge>,
    up: Family<ByServer, Gauge>,
    connects: Family<ByServer, Counter>,
    failures: Family<ByFailure, Counter>,
}

/// The figures of one server.
#[derive(Debug)]
pub struct OfServer {
    /// Relayed connections open there.
    pub open: Gauge,
    /// 1 while it is used, 0 while it is passed over because of its failures.
    pub up: Gauge,
    /// Connections that were made, TLS included.
    pub connects: Counter,
    failures: [(UpstreamFailure, Counter); 8],
}

impl Servers {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("upstream_connections", "Relayed connections open at a server", self.open.clone());
        registry.register("upstream_up", "1 while a server is used, 0 while it is passed over", self.up.clone());
        registry.register("upstream_connects", "Connections made to a server", self.connects.clone());
        let help = "Failures of a server, by kind; a refused sign-in is none";
        registry.register("upstream_failures", help, self.failures.clone());
    }
}

impl Metrics {
    /// The figures of one server of an upstream; `server` is its address as configured.
    pub fn server(&self, upstream: &str, service: Service, server: &str) -> OfServer {
        let label =
            || [("upstream", upstream.into()), ("service", service.word().into()), ("server", server.into())];
        let families = &self.servers;
        let failures = UpstreamFailure::ALL.map(|(failure, word)| {
            let [upstream, service, server] = label();
            let counter = families.failures.get_or_create(&[upstream, service, server, ("kind", word.into())]);
            (failure, Counter::clone(&counter))
        });
        let open = Gauge::clone(&families.open.get_or_create(&label()));
        let up = Gauge::clone(&families.up.get_or_create(&label()));
        let connects = Counter::clone(&families.connects.get_or_create(&label()));
        OfServer { open, up, connects, failures }
    }
}

impl OfServer {
    /// Counts a failure.
    pub fn failed(&self, failure: UpstreamFailure) {
        if let Some((_, counter)) = self.failures.iter().find(|(known, _)| *known == failure) {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_each_server_with_its_failures_by_kind() {
        let metrics = Metrics::new();
        let figures = metrics.server("dovecot", Service::Imap, "mail1.internal:993");
        figures.open.inc();
        figures.up.set(1);
        figures.connects.inc();
        for (failure, _) in UpstreamFailure::ALL {
            figures.failed(failure);
        }
        figures.failed(UpstreamFailure::Timeout);
        let text = metrics.render();
        let label = "upstream=\"dovecot\",service=\"imap\",server=\"mail1.internal:993\"";
        for line in [
            format!("portcullis_upstream_connections{{{label}}} 1"),
            format!("portcullis_upstream_up{{{label}}} 1"),
            format!("portcullis_upstream_connects_total{{{label}}} 1"),
            format!("portcullis_upstream_failures_total{{{label},kind=\"timeout\"}} 2"),
            format!("portcullis_upstream_failures_total{{{label},kind=\"login\"}} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
    }
}
