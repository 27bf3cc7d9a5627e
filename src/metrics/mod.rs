//! What operators count: counters, gauges and histograms with bounded labels, and their text (OpenMetrics 1.0, as
//! Prometheus reads it). Values only: no clock, no socket. Made once in `serve`; `gate` counts logins and sessions,
//! reads the other rooms before each scrape, and keeps the handles, so that nothing is looked up by name in a login.
//!
//! No label is ever a user, an app, a peer's address or a token: service, cause word, direction, and what is configured:
//! issuers, and upstreams with their servers.

mod cause;
mod servers;

use std::time::Duration;

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

pub use cause::{CAUSES, is_known};
pub use servers::{OfServer, UpstreamFailure};

use crate::model::Service;

/// Upper ends of a login's duration, in seconds: from a remembered token to an issuer that is asked.
const LOGIN_S: [f64; 11] = [0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
/// Upper ends of the time from a change to a session's end, in seconds; the promise is one second.
const END_S: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0];

type Labels<const N: usize> = [(&'static str, &'static str); N];
type ByIssuer = [(&'static str, String); 1];

/// Every figure of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    imap: OfService,
    pop: OfService,
    /// Connections refused at accept because their address has too many.
    pub refused_address: Counter,
    /// Connections refused at accept because the process has too many.
    pub refused_process: Counter,
    /// Connections sent away before the sign-in to make room for others.
    pub evicted: Counter,
    /// Connections open, signed in or not.
    pub connections: Gauge,
    /// Connections that have not signed in.
    pub lobby: Gauge,
    /// From a change's commit to the end of each session that fell by it.
    change_to_end: Histogram,
    /// Identity events that were obeyed.
    pub events_done: Counter,
    /// Identity events that were heard before.
    pub events_repeated: Counter,
    /// Identity events that were not believed.
    pub events_refused: Counter,
    /// Identity events that could not be taken in.
    pub events_failed: Counter,
    notices: Family<Labels<2>, Counter>,
    notices_waiting: Family<Labels<1>, Gauge>,
    /// Audit events that wait for the database.
    pub audit_waiting: Gauge,
    /// Audit events thrown away because the queue was full.
    pub audit_dropped: Counter,
    /// 1 while the audit queue is full and nothing may happen that would go unrecorded.
    pub audit_full: Gauge,
    /// Seconds since the database last answered.
    pub store_silence_s: Gauge,
    /// Users in the snapshot.
    pub users: Gauge,
    /// Units in the snapshot.
    pub units: Gauge,
    /// Grants in the snapshot.
    pub grants: Gauge,
    /// Number of the last change in the snapshot.
    pub change: Gauge,
    /// Nodes that are alive, this one included.
    pub nodes: Gauge,
    issuer_keys: Family<ByIssuer, Gauge>,
    issuer_age_s: Family<ByIssuer, Gauge>,
    servers: servers::Servers,
}

/// The figures of one service.
#[derive(Debug)]
pub struct OfService {
    accepted: Counter,
    /// In the order of [`CAUSES`].
    refused: Vec<Counter>,
    login: Histogram,
    /// Sessions that are in.
    pub sessions: Gauge,
    /// Sessions that were told to leave.
    pub fallen: Counter,
    /// Bytes received from signed-in peers.
    pub received: Counter,
    /// Bytes sent to signed-in peers.
    pub sent: Counter,
}

impl Metrics {
    /// All figures at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("portcullis");
        let logins = Family::<Labels<3>, Counter>::default();
        let durations = Family::<Labels<1>, Histogram, _>::new_with_constructor(|| Histogram::new(LOGIN_S));
        let sessions = Family::<Labels<1>, Gauge>::default();
        let fallen = Family::<Labels<1>, Counter>::default();
        let bytes = Family::<Labels<2>, Counter>::default();
        let turned_away = Family::<Labels<1>, Counter>::default();
        // Each handle is taken in a statement of its own: a family is locked for as long as the reference it gives lives.
        let login = |service, outcome, cause| {
            let labels = [("service", service), ("outcome", outcome), ("cause", cause)];
            let counter = logins.get_or_create(&labels);
            Counter::clone(&counter)
        };
        let traffic = |service, direction| {
            let counter = bytes.get_or_create(&[("service", service), ("direction", direction)]);
            Counter::clone(&counter)
        };
        let of = |service: Service| {
            let service = service.word();
            let accepted = login(service, "yes", "none");
            let refused = CAUSES.map(|cause| login(service, "no", cause)).into();
            let label = [("service", service)];
            let login = Histogram::clone(&durations.get_or_create(&label));
            let sessions = Gauge::clone(&sessions.get_or_create(&label));
            let fallen = Counter::clone(&fallen.get_or_create(&label));
            let (received, sent) = (traffic(service, "received"), traffic(service, "sent"));
            OfService { accepted, refused, login, sessions, fallen, received, sent }
        };
        let made = |why| {
            let counter = turned_away.get_or_create(&[("why", why)]);
            Counter::clone(&counter)
        };
        let events = Family::<Labels<1>, Counter>::default();
        let event = |outcome| {
            let counter = events.get_or_create(&[("outcome", outcome)]);
            Counter::clone(&counter)
        };
        let metrics = Self {
            imap: of(Service::Imap),
            pop: of(Service::Pop),
            refused_address: made("address"),
            refused_process: made("process"),
            evicted: made("evicted"),
            connections: Gauge::default(),
            lobby: Gauge::default(),
            change_to_end: Histogram::new(END_S),
            events_done: event("done"),
            events_repeated: event("repeated"),
            events_refused: event("refused"),
            events_failed: event("failed"),
            notices: Family::default(),
            notices_waiting: Family::default(),
            audit_waiting: Gauge::default(),
            audit_dropped: Counter::default(),
            audit_full: Gauge::default(),
            store_silence_s: Gauge::default(),
            users: Gauge::default(),
            units: Gauge::default(),
            grants: Gauge::default(),
            change: Gauge::default(),
            nodes: Gauge::default(),
            issuer_keys: Family::default(),
            issuer_age_s: Family::default(),
            servers: servers::Servers::default(),
            registry: Registry::default(),
        };
        registry.register("logins", "Sign-ins by verdict and cause", logins);
        registry.register("login_seconds", "From a bearer token to its verdict", durations);
        registry.register("sessions", "Sessions that are in", sessions);
        registry.register("sessions_fallen", "Sessions told to leave by a change or an admin", fallen);
        registry.register("bytes", "Bytes exchanged with signed-in peers, TLS not counted", bytes);
        registry.register(
            "connections_turned_away",
            "Connections refused or sent away before a sign-in",
            turned_away,
        );
        registry.register("identity_events", "Events of issuers about accounts and sign-ins", events);
        let gauges = [
            ("connections", "Connections open, signed in or not", &metrics.connections),
            ("lobby_connections", "Connections that have not signed in", &metrics.lobby),
            ("audit_waiting", "Audit events that wait for the database", &metrics.audit_waiting),
            ("audit_full", "1 while nothing more is admitted because the audit queue is full", &metrics.audit_full),
            ("store_silence_seconds", "Time since the database last answered", &metrics.store_silence_s),
            ("snapshot_users", "Users in the snapshot that decides", &metrics.users),
            ("snapshot_units", "Units in the snapshot", &metrics.units),
            ("snapshot_grants", "Grants in the snapshot", &metrics.grants),
            ("snapshot_change", "Number of the last change in the snapshot", &metrics.change),
            ("nodes", "Nodes that are alive, this one included", &metrics.nodes),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        registry.register("notices", "Tries to send a notice, by channel and outcome", metrics.notices.clone());
        registry.register("notices_waiting", "Notices that wait to be sent", metrics.notices_waiting.clone());
        registry.register("audit_dropped", "Audit events lost to a full queue", metrics.audit_dropped.clone());
        let help = "From a change's commit to the end of each session that fell by it";
        registry.register("change_to_end_seconds", help, metrics.change_to_end.clone());
        registry.register(
            "issuer_keys",
            "Keys of an issuer that tokens can be checked with",
            metrics.issuer_keys.clone(),
        );
        let help = "Age of an issuer's keys as we last read them";
        registry.register("issuer_keys_age_seconds", help, metrics.issuer_age_s.clone());
        metrics.servers.register(&mut registry);
        Self { registry, ..metrics }
    }

    /// The figures of one service.
    pub fn of(&self, service: Service) -> &OfService {
        match service {
            Service::Imap => &self.imap,
            Service::Pop => &self.pop,
        }
    }

    /// Counts a session that fell, and how long after the change it was over.
    pub fn session_ended_by_change(&self, service: Service, late: Duration) {
        self.of(service).fallen.inc();
        self.change_to_end.observe(late.as_secs_f64());
    }

    /// How an issuer stands: keys that can be used, and how long ago they were read. Issuers are configured, so this is
    /// a bounded label.
    pub fn issuer(&self, url: &str, usable_keys: Option<usize>, age: Option<Duration>) {
        let label: ByIssuer = [("issuer", url.to_owned())];
        if let Some(keys) = usable_keys {
            self.issuer_keys.get_or_create(&label).set(count(keys));
        }
        if let Some(age) = age {
            self.issuer_age_s.get_or_create(&label).set(seconds(age));
        }
    }

    /// Counts a try to send a notice over a channel of this kind: `email` or `webhook`.
    pub fn notice(&self, channel: &'static str, outcome: NoticeOutcome) {
        self.notices.get_or_create(&[("channel", channel), ("outcome", outcome.word())]).inc();
    }

    /// How many notices wait for a channel of this kind; of several webhooks the one that was counted last.
    pub fn notices_waiting(&self, channel: &'static str, waiting: i64) {
        self.notices_waiting.get_or_create(&[("channel", channel)]).set(waiting);
    }

    /// All figures in the OpenMetrics text format, `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    ///
    /// Gauges of other rooms show what they were last set to: `Gate::metrics_text` sets them first.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing into a string fails only if a value's own text fails, and ours are numbers.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

/// What came of a try to send a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeOutcome {
    /// It was taken.
    Sent,
    /// It is tried again.
    Later,
    /// It is given up.
    Failed,
}

impl NoticeOutcome {
    const fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Later => "later",
            Self::Failed => "failed",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl OfService {
    /// Counts a login that was let in.
    pub fn accepted(&self, took: Duration) {
        self.accepted.inc();
        self.login.observe(took.as_secs_f64());
    }

    /// Counts a refusal by its cause word; `took` where a token was looked at.
    pub fn refused(&self, cause: &str, took: Option<Duration>) {
        if let Some(counter) = self.refused.get(cause::place(cause)) {
            counter.inc();
        }
        if let Some(took) = took {
            self.login.observe(took.as_secs_f64());
        }
    }
}

/// A count as a gauge takes it.
pub fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Whole seconds as a gauge takes them.
pub fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_what_was_counted_by_service_and_cause() {
        let metrics = Metrics::new();
        metrics.of(Service::Imap).accepted(Duration::from_micros(200));
        metrics.of(Service::Imap).refused("policy_app", Some(Duration::from_millis(2)));
        metrics.of(Service::Pop).refused("made_up", None);
        metrics.of(Service::Pop).sessions.inc();
        metrics.session_ended_by_change(Service::Imap, Duration::from_millis(60));
        metrics.issuer("https://id.test", Some(3), Some(Duration::from_secs(75)));
        metrics.audit_waiting.set(7);
        metrics.events_refused.inc();
        metrics.notice("email", NoticeOutcome::Sent);
        metrics.notices_waiting("webhook", 4);
        let text = metrics.render();
        for line in [
            "portcullis_logins_total{service=\"imap\",outcome=\"yes\",cause=\"none\"} 1",
            "portcullis_logins_total{service=\"imap\",outcome=\"no\",cause=\"policy_app\"} 1",
            "portcullis_logins_total{service=\"pop\",outcome=\"no\",cause=\"other\"} 1",
            "portcullis_logins_total{service=\"pop\",outcome=\"no\",cause=\"token_expired\"} 0",
            "portcullis_login_seconds_count{service=\"imap\"} 2",
            "portcullis_sessions{service=\"pop\"} 1",
            "portcullis_sessions_fallen_total{service=\"imap\"} 1",
            "portcullis_change_to_end_seconds_bucket{le=\"0.05\"} 0",
            "portcullis_change_to_end_seconds_bucket{le=\"0.1\"} 1",
            "portcullis_issuer_keys{issuer=\"https://id.test\"} 3",
            "portcullis_issuer_keys_age_seconds{issuer=\"https://id.test\"} 75",
            "portcullis_identity_events_total{outcome=\"done\"} 0",
            "portcullis_identity_events_total{outcome=\"refused\"} 1",
            "portcullis_notices_total{channel=\"email\",outcome=\"sent\"} 1",
            "portcullis_notices_waiting{channel=\"webhook\"} 4",
            "portcullis_audit_waiting 7",
            "portcullis_audit_dropped_total 0",
            "portcullis_connections_turned_away_total{why=\"evicted\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "OpenMetrics ends with its mark");
    }

    #[test]
    fn the_number_of_series_does_not_grow_with_what_peers_send() {
        let metrics = Metrics::new();
        let lines = |metrics: &Metrics| metrics.render().lines().count();
        let before = lines(&metrics);
        for number in 0..1_000 {
            metrics.of(Service::Imap).refused(&format!("token_{number}"), None);
        }
        assert_eq!(lines(&metrics), before);
    }
}
