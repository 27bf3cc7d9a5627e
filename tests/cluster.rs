//! Two nodes on one database: what either sees adds up, what is asked of one is done by both. Without sockets: two
//! gates in one process, each with its own store, as two processes would have. Each test runs on SQLite and, where it
//! is installed, on a private PostgreSQL.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

#[path = "support/postgres.rs"]
#[allow(dead_code)]
mod postgres;

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use aws_lc_rs::rand::SystemRandom;
use portcullis::gate::{
    self, Admission, EndError, Gate, Lobby, LobbyLimits, SeatGuard, SessionFilter, SessionKey, Visitor,
};
use portcullis::issuer::{self, Issuers, KeySource};
use portcullis::model::{ClientId, Secret, Service, UnitPath, UnixTime, UserId};
use portcullis::policy;
use portcullis::sasl::Bearer;
use portcullis::store::{AuditFilter, LegacyFilter, SeenFilter, Settings, Store};
use portcullis::token::{Mint, Rules, SigningKey, sign};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const ISSUER: &str = "https://id.test";
const ANN: &str = "ann@example.com";
const BOB: &str = "bob@example.com";

const POLICY: &str = r#"
[unit."/"]
imap = "any"
pop  = "any"
[unit."/Sales"]
[unit."/Sales/Field"]
[unit."/Sales2"]
imap = ["mailer"]
[user."ann@example.com"]
unit = "/Sales/Field"
[user."bob@example.com"]
unit = "/Sales2"
[app.mailer]
name = "The Mailer"
"#;

/// One node; what it runs ends with it.
struct Node {
    store: Arc<Store>,
    gate: Arc<Gate>,
    stop: CancellationToken,
    attending: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Cluster {
    key: SigningKey,
    dir: TempDir,
    url: String,
}

/// Makes two tests of each function that takes a [`Cluster`].
macro_rules! on_both {
    ($($name:ident;)*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Cluster::new("sqlite:portcullis.db".into())).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(server) = super::postgres::shared() {
                    super::$name(super::Cluster::new(server.database())).await;
                }
            })*
        }
    };
}

on_both! {
    every_app_whose_token_was_good_is_listed_with_the_counts_of_all_nodes;
    what_was_seen_is_written_by_itself_and_at_the_end;
    password_attempts_add_up_by_user_program_address_and_way;
    made_up_names_cannot_grow_the_legacy_report_and_none_is_left_uncounted;
    sessions_of_all_nodes_are_listed_filtered_paged_and_described;
    asking_for_sessions_is_no_change_and_leaves_nothing_behind;
    ending_a_users_sessions_ends_them_on_every_node_within_a_second_and_no_others;
    sessions_are_ended_by_app_unit_address_and_one_by_one;
    a_node_that_hears_late_ends_what_was_meant_and_not_what_came_after;
    a_node_that_does_not_answer_is_named_and_one_that_left_is_not_waited_for;
    the_bytes_of_a_day_count_on_all_nodes_together;
    the_metrics_show_verdicts_sessions_traffic_and_how_soon_a_change_ends_sessions;
}

fn now() -> UnixTime {
    SystemTime::now().into()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn filter() -> SessionFilter {
    SessionFilter::default()
}

fn of(name: &str) -> SessionFilter {
    SessionFilter { user: Some(user(name)), ..filter() }
}

impl Cluster {
    fn new(url: String) -> Self {
        let key = SigningKey::generate(&SystemRandom::new()).unwrap();
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("jwks.json"), key.jwks()).unwrap();
        Self { key, dir, url }
    }

    fn settings(&self) -> Settings {
        Settings { url: Secret::new(&self.url), ..Settings::in_dir(self.dir.path()) }
    }

    async fn node(&self, name: &str) -> Node {
        let store = Store::open(&self.settings()).await.unwrap();
        let gate = Gate::new(Arc::clone(&store), issuers(&self.dir.path().join("jwks.json")), limits());
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&store).run(stop.clone()));
        tokio::spawn(gate::watch(Arc::clone(&gate), stop.clone()));
        let attending = tokio::spawn(gate::attend(Arc::clone(&gate), name.to_owned(), stop.clone()));
        let node = Node { store, gate, stop, attending };
        until("the node is on the roll", async || node.store.nodes().iter().any(|node| node.this)).await;
        node
    }

    /// Two nodes that know the policy and each other.
    async fn two(&self) -> (Node, Node) {
        let (one, two) = (self.node("one").await, self.node("two").await);
        one.store.apply(&policy::file::parse(POLICY).unwrap(), "policy.toml").await.unwrap();
        two.store.catch_up().await.unwrap();
        one.store.look_for_nodes(now()).await.unwrap();
        (one, two)
    }

    fn token(&self, user: &str, app: &str) -> Secret {
        let mut id = [0u8; 16];
        aws_lc_rs::rand::fill(&mut id).unwrap();
        let mint = Mint {
            issuer: ISSUER.into(),
            audience: vec!["portcullis".into()],
            user_claim: "email".into(),
            user: user.into(),
            app: app.into(),
            scope: "mail".into(),
            issued_at: now(),
            lifetime: Duration::from_secs(600),
            id: format!("{id:?}"),
            extra: serde_json::Map::new(),
        };
        sign(&mint, &self.key).unwrap()
    }

    /// Knocks at `node`; the seat of whoever is let in.
    async fn knock(&self, node: &Node, user: &str, app: &str, service: Service) -> Option<SeatGuard> {
        let visitor = visitor(node, service, Some("Thunder 1.0"));
        let bearer = Bearer { user: Some(user.into()), token: self.token(user, app) };
        node.gate.admit(&visitor, bearer).await.ok().map(|Admission { seat, .. }| seat)
    }

    async fn sit(&self, node: &Node, user: &str, app: &str, service: Service) -> SeatGuard {
        self.knock(node, user, app, service).await.unwrap_or_else(|| panic!("{user} with {app} is refused"))
    }
}

fn visitor(node: &Node, service: Service, program: Option<&str>) -> Visitor {
    Visitor {
        session: node.gate.next_session(),
        service,
        peer: "192.0.2.1:4000".parse().unwrap(),
        tls: "TLSv1.3",
        program: program.map(str::to_owned),
    }
}

fn issuers(jwks: &Path) -> Arc<Issuers> {
    let rules = Rules::new(ISSUER, ["portcullis"]);
    Issuers::new(vec![issuer::Settings::new(rules, Some(KeySource::File(jwks.to_owned())))]).unwrap()
}

fn limits() -> gate::Limits {
    gate::Limits {
        sessions_per_user: 15,
        failed_login_delay: Duration::ZERO,
        failed_login_delay_max: Duration::ZERO,
        sessions_end_with_token: false,
        audit_required: true,
        database_grace: Duration::from_secs(300),
        clock_skew: Duration::from_secs(60),
        public_url: None,
    }
}

/// Waits until it is so, at most ten seconds.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !so().await {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for a seat's fall; how long it took, and the cause word.
async fn fall(seat: &SeatGuard, since: Instant) -> (Duration, &'static str) {
    let fell = tokio::time::timeout(Duration::from_secs(10), seat.fallen()).await;
    assert!(fell.is_ok(), "the session was not told to leave");
    (since.elapsed(), seat.fall().unwrap().cause.reason())
}

async fn every_app_whose_token_was_good_is_listed_with_the_counts_of_all_nodes(cluster: Cluster) {
    let (one, two) = cluster.two().await;
    for _ in 0..3 {
        drop(cluster.sit(&one, ANN, "mailer", Service::Imap).await);
    }
    drop(cluster.sit(&two, BOB, "mailer", Service::Pop).await);
    // Bob's unit does not list it.
    assert!(cluster.knock(&two, BOB, "stranger", Service::Imap).await.is_none());
    // A token that nobody signed names an app that stays unknown.
    let stranger = Cluster::new(String::new());
    let forged = Bearer { user: Some(ANN.into()), token: stranger.token(ANN, "forged") };
    assert!(one.gate.admit(&visitor(&one, Service::Imap, None), forged).await.is_err());

    let _ = one.store.apps_seen(&SeenFilter::default()).await.unwrap();
    let seen = two.store.apps_seen(&SeenFilter::default()).await.unwrap();
    let names: Vec<&str> = seen.iter().map(|app| app.app.as_str()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let mailer = seen.iter().find(|app| app.app == "mailer").unwrap();
    assert_eq!((mailer.imap.accepted, mailer.imap.refused), (3, 0));
    assert_eq!((mailer.pop.accepted, mailer.pop.refused), (1, 0));
    assert_eq!((mailer.users, mailer.users_at_least), (2, false));
    let mut users = mailer.some_users.clone();
    users.sort();
    assert_eq!(users, [ANN, BOB]);
    assert_eq!((mailer.issuer.as_str(), mailer.programs.as_slice()), (ISSUER, &["Thunder 1.0".to_owned()][..]));
    assert!(mailer.first <= mailer.last && mailer.last <= now());
    let refused = seen.iter().find(|app| app.app == "stranger").unwrap();
    assert_eq!((refused.imap.refused, refused.last_refusal.as_deref()), (1, Some("policy_app")));

    // Filters and pages.
    let ask = async |filter: SeenFilter| {
        let seen = two.store.apps_seen(&filter).await.unwrap();
        seen.iter().map(|app| (app.app.clone(), app.users)).collect::<Vec<_>>()
    };
    let only = ask(SeenFilter { refused: true, ..SeenFilter::default() }).await;
    assert_eq!(only, [("stranger".to_owned(), 1)]);
    let sales = UnitPath::parse("/Sales").unwrap();
    let only = ask(SeenFilter { unit: Some(sales), ..SeenFilter::default() }).await;
    assert_eq!(only, [("mailer".to_owned(), 1)], "/Sales2 is not below /Sales");
    let first = two.store.apps_seen(&SeenFilter { limit: 1, ..SeenFilter::default() }).await.unwrap();
    let rest = SeenFilter { after: Some(first[0].cursor()), ..SeenFilter::default() };
    let rest = ask(rest).await;
    assert_eq!(rest.len(), 1);
    assert_ne!(rest[0].0, first[0].app);

    // The same user again is the same user, and a later look adds only what is new.
    drop(cluster.sit(&two, ANN, "mailer", Service::Imap).await);
    let again = two.store.apps_seen(&SeenFilter::default()).await.unwrap();
    let mailer = again.iter().find(|app| app.app == "mailer").unwrap();
    assert_eq!((mailer.imap.accepted, mailer.users), (4, 2));
}

async fn what_was_seen_is_written_by_itself_and_at_the_end(cluster: Cluster) {
    let (one, two) = cluster.two().await;
    drop(cluster.sit(&one, ANN, "mailer", Service::Imap).await);
    one.gate.refuse_password(&visitor(&one, Service::Pop, None), "USER", Some(BOB));
    until("the other node sees both", async || {
        !two.store.apps_seen(&SeenFilter::default()).await.unwrap().is_empty()
            && !two.store.legacy(&LegacyFilter::default()).await.unwrap().is_empty()
    })
    .await;
    drop(cluster.sit(&one, ANN, "late", Service::Imap).await);
    one.stop.cancel();
    until("what was seen last is written at the stop", async || {
        two.store.apps_seen(&SeenFilter::default()).await.unwrap().len() == 2
    })
    .await;
}

async fn password_attempts_add_up_by_user_program_address_and_way(cluster: Cluster) {
    let (one, two) = cluster.two().await;
    for node in [&one, &two] {
        let old = visitor(node, Service::Imap, Some("Old Mail 1.0"));
        node.gate.refuse_password(&old, "LOGIN", Some("ann@EXAMPLE.com"));
        node.gate.refuse_password(&old, "LOGIN", Some(ANN));
    }
    one.gate.refuse_password(&visitor(&one, Service::Pop, None), "USER", Some(BOB));
    one.gate.refuse_password(&visitor(&one, Service::Imap, None), "AUTHENTICATE PLAIN", None);
    one.gate.refuse_password(&visitor(&one, Service::Imap, None), "LOGIN", Some(&"x\r\n".repeat(5_000)));
    one.store.legacy(&LegacyFilter::default()).await.unwrap();
    let report = two.store.legacy(&LegacyFilter::default()).await.unwrap();
    assert_eq!(report.len(), 4, "{report:#?}");
    let ann = &report[0];
    assert_eq!((ann.claimed.as_str(), ann.attempts, ann.how.as_str()), (ANN, 4, "LOGIN"));
    assert_eq!((ann.unit.as_deref(), ann.from.as_str()), (Some("/Sales/Field"), "192.0.2.1"));
    assert_eq!(ann.program, "Old Mail 1.0");
    assert!(report.iter().all(|row| row.claimed.len() <= 100 && !row.claimed.contains('\n')), "{report:#?}");
    let nameless = report.iter().find(|row| row.how == "AUTHENTICATE PLAIN").unwrap();
    assert_eq!((nameless.claimed.as_str(), nameless.unit.as_deref()), ("", None));

    for (unit, expected) in [("/Sales", vec![ANN]), ("/Sales2", vec![BOB]), ("/Elsewhere", vec![])] {
        let filter = LegacyFilter { unit: Some(UnitPath::parse(unit).unwrap()), ..LegacyFilter::default() };
        let report = two.store.legacy(&filter).await.unwrap();
        let claimed: Vec<&str> = report.iter().map(|row| row.claimed.as_str()).collect();
        assert_eq!(claimed, expected, "{unit}");
    }
}

async fn made_up_names_cannot_grow_the_legacy_report_and_none_is_left_uncounted(cluster: Cluster) {
    let node = cluster.node("one").await;
    let visitor = visitor(&node, Service::Imap, None);
    for number in 0..5_000 {
        node.gate.refuse_password(&visitor, "LOGIN", Some(&format!("made-up-{number}@example.com")));
    }
    let filter = LegacyFilter { limit: 50_000, ..LegacyFilter::default() };
    let report = node.store.legacy(&filter).await.unwrap();
    assert!(report.len() < 5_000, "{} rows", report.len());
    assert_eq!(report.iter().map(|row| row.attempts).sum::<u64>(), 5_000);
}

async fn sessions_of_all_nodes_are_listed_filtered_paged_and_described(cluster: Cluster) {
    let (one, two) = cluster.two().await;
    let ann = cluster.sit(&one, ANN, "mailer", Service::Imap).await;
    let _ann_pop = cluster.sit(&two, ANN, "other", Service::Pop).await;
    let _bob = cluster.sit(&two, BOB, "mailer", Service::Imap).await;
    ann.count_received(120);
    ann.count_sent(3_000);
    ann.note_command("UID FETCH");

    let began = Instant::now();
    let all = one.gate.sessions(&filter()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "a list took {:?}", began.elapsed());
    assert_eq!((all.sessions.len(), all.missing.len(), all.next.is_none()), (3, 0, true), "{all:#?}");

    let unit = |path: &str| SessionFilter { unit: Some(UnitPath::parse(path).unwrap()), ..filter() };
    let app = |id: &str| SessionFilter { app: Some(ClientId::parse(id).unwrap()), ..filter() };
    let address = |text: &str| SessionFilter { address: Some(text.parse().unwrap()), ..filter() };
    let pop = SessionFilter { service: Some(Service::Pop), ..filter() };
    let owner = SessionFilter { owner: Some(user(BOB)), ..filter() };
    let there = SessionFilter { node: Some(two.store.node().clone()), ..filter() };
    for (name, filter, expected) in [
        ("user", of(ANN), 2),
        ("mailbox", owner, 1),
        ("app", app("mailer"), 2),
        ("service", pop, 1),
        ("unit and below", unit("/Sales"), 2),
        ("root", unit("/"), 3),
        ("network", address("192.0.2.0/24"), 3),
        ("another network", address("198.51.100.7/32"), 0),
        ("node", there, 2),
    ] {
        let found = one.gate.sessions(&filter).await.unwrap().sessions.len();
        assert_eq!(found, expected, "by {name}");
    }

    let described = two.gate.session(&one.gate.key_of(ann.session)).await.unwrap().unwrap();
    assert_eq!((described.user.as_str(), described.app.as_str()), (ANN, "mailer"));
    assert_eq!((described.node_name.as_str(), described.app_name.as_deref()), ("one", Some("The Mailer")));
    assert_eq!((described.received, described.sent, described.command.as_deref()), (120, 3_000, Some("UID FETCH")));
    assert_eq!((described.unit.as_deref(), described.tls.as_str()), (Some("/Sales/Field"), "TLSv1.3"));
    assert_eq!((described.peer.as_str(), described.program.as_deref()), ("192.0.2.1:4000", Some("Thunder 1.0")));
    let gone = one.gate.key_of(portcullis::model::SessionId(9_999));
    assert_eq!(two.gate.session(&gone).await.unwrap(), None);

    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = two.gate.sessions(&SessionFilter { limit: 1, after, ..filter() }).await.unwrap();
        assert!(page.sessions.len() <= 1);
        pages.extend(page.sessions.into_iter().map(|session| session.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, all.sessions.iter().map(|session| session.id.clone()).collect::<Vec<_>>());
}

async fn asking_for_sessions_is_no_change_and_leaves_nothing_behind(cluster: Cluster) {
    let (one, two) = cluster.two().await;
    let before = *two.store.changes().borrow();
    for _ in 0..3 {
        assert!(one.gate.sessions(&filter()).await.unwrap().missing.is_empty());
    }
    two.store.catch_up().await.unwrap();
    assert_eq!(*two.store.changes().borrow(), before);
    // The next request is not answered out of what was asked before: whoever joins later hears of nothing.
    let three = cluster.node("three").await;
    assert_eq!(three.store.requests().await.unwrap(), []);
}

async fn ending_a_users_sessions_ends_them_on_every_node_within_a_second_and_no_others(cluster: Cluster) {
    let (one, two) = cluster.two().await;
    let here = cluster.sit(&one, ANN, "mailer", Service::Imap).await;
    let there = cluster.sit(&two, ANN, "mailer", Service::Pop).await;
    let bob = cluster.sit(&two, BOB, "mailer", Service::Imap).await;

    let since = Instant::now();
    one.gate.end_sessions(&of(ANN), "root@example.com", now()).await.unwrap();
    for seat in [&here, &there] {
        let (took, cause) = fall(seat, since).await;
        assert_eq!(cause, "ended_by_admin");
        assert!(took < Duration::from_secs(1), "took {took:?}");
    }
    assert!(bob.fall().is_none(), "bob was not meant");
    let (_, text) = here.fall().unwrap().imap();
    assert!(text.starts_with("This session was ended by an administrator."), "{text}");
    assert_eq!(there.fall().unwrap().pop().0, "SYS/TEMP");

    // Whoever ends a session of their own is not told of an administrator.
    let mine = SessionFilter { key: Some(two.gate.key_of(bob.session)), ..filter() };
    one.gate.end_sessions(&mine, BOB, now()).await.unwrap();
    fall(&bob, Instant::now()).await;
    let (_, text) = bob.fall().unwrap().imap();
    assert!(text.starts_with("You ended this session from elsewhere."), "{text}");
    drop(bob);

    // Ann may come in again at once: nothing was changed that keeps her out, and the request is not carried out twice.
    drop((here, there));
    let again = cluster.sit(&two, ANN, "mailer", Service::Imap).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(again.fall().is_none(), "a request was carried out twice");

    let asked = AuditFilter { event: Some("sessions.ended".into()), ..AuditFilter::default() };
    let asked = two.store.audit_recent(&asked).await.unwrap();
    assert_eq!(asked.len(), 2);
    let detail = asked[1].detail.as_deref().unwrap();
    assert_eq!(detail, "by root@example.com: user ann@example.com");
    one.store.flush().await.unwrap();
    let ended = AuditFilter { reason: Some("ended_by_admin".into()), ..AuditFilter::default() };
    let ended = two.store.audit_recent(&ended).await.unwrap();
    assert_eq!(ended.len(), 3);
    assert!(ended.iter().all(|row| row.event == "session.ended" && row.reference.is_some()));
}

async fn the_bytes_of_a_day_count_on_all_nodes_together(cluster: Cluster) {
    let (one, two) = cluster.two().await;
    let limited =
        |most: &str| POLICY.replace("[unit.\"/Sales/Field\"]", &format!("[unit.\"/Sales/Field\"]\n{most}"));
    let apply = async |text: &str| {
        one.store.apply(&policy::file::parse(text).unwrap(), "policy.toml").await.unwrap();
        two.store.catch_up().await.unwrap();
    };
    // What came before there was a limit does not count against it.
    let before = cluster.sit(&two, ANN, "mailer", Service::Pop).await;
    before.count_sent(1_000_000);
    apply(&limited("bytes_per_day = 1000")).await;
    let here = cluster.sit(&one, ANN, "mailer", Service::Imap).await;
    let bob = cluster.sit(&one, BOB, "mailer", Service::Imap).await;
    bob.count_sent(1_000_000);
    here.count_received(300);
    here.count_sent(300);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(here.fall().is_none() && before.fall().is_none());
    // What a session exchanged in its last second counts too.
    let short = cluster.sit(&one, ANN, "mailer", Service::Imap).await;
    short.count_sent(300);
    drop(short);
    let since = Instant::now();
    before.count_sent(100);
    let (late, cause) = fall(&before, since).await;
    assert_eq!(cause, "limit_bytes");
    assert!(late < Duration::from_secs(8), "the other node heard after {late:?}");
    let (late, cause) = fall(&here, since).await;
    assert_eq!(cause, "limit_bytes");
    assert!(late < Duration::from_secs(10), "the node heard after {late:?}");
    assert!(bob.fall().is_none(), "nobody limits bob");
    for node in [&one, &two] {
        assert!(cluster.knock(node, ANN, "mailer", Service::Imap).await.is_none());
    }
    // A node that starts now knows it from the first sign-in on.
    let three = cluster.node("three").await;
    assert!(cluster.knock(&three, ANN, "mailer", Service::Imap).await.is_none());
    apply(&limited("bytes_per_day = \"1G\"")).await;
    cluster.sit(&two, ANN, "mailer", Service::Imap).await;
}

async fn sessions_are_ended_by_app_unit_address_and_one_by_one(cluster: Cluster) {
    let (one, two) = cluster.two().await;
    let name =
        |node: &Node, seat: &SeatGuard| SessionFilter { key: Some(node.gate.key_of(seat.session)), ..filter() };
    let keep = cluster.sit(&two, BOB, "mailer", Service::Pop).await;
    let first = cluster.sit(&two, ANN, "mailer", Service::Imap).await;
    let second = cluster.sit(&two, ANN, "other", Service::Imap).await;
    let third = cluster.sit(&two, ANN, "mailer", Service::Imap).await;
    let app = SessionFilter { app: Some(ClientId::parse("other").unwrap()), ..filter() };
    let unit = SessionFilter { unit: Some(UnitPath::parse("/Sales").unwrap()), ..filter() };
    for (seat, filter) in [(&first, name(&two, &first)), (&second, app), (&third, unit)] {
        assert!(seat.fall().is_none());
        one.gate.end_sessions(&filter, "root", now()).await.unwrap();
        let (_, cause) = fall(seat, Instant::now()).await;
        assert_eq!(cause, "ended_by_admin");
    }
    assert!(keep.fall().is_none());

    for everyone in [filter(), SessionFilter { unit: Some(UnitPath::root()), ..filter() }] {
        let refused = one.gate.end_sessions(&everyone, "root", now()).await;
        assert!(matches!(refused, Err(EndError::Everyone)));
    }
    assert!(keep.fall().is_none());
}

async fn a_node_that_hears_late_ends_what_was_meant_and_not_what_came_after(cluster: Cluster) {
    let (one, two) = cluster.two().await;
    // The node is on the roll and does not listen for a while, as if the database were out of its reach.
    two.attending.abort();
    until("it stops listening", async || two.attending.is_finished()).await;
    let seat = cluster.sit(&two, ANN, "mailer", Service::Imap).await;
    // Asked two minutes before this session began.
    one.gate.end_sessions(&of(ANN), "root", now() - Duration::from_secs(120)).await.unwrap();
    let listening = tokio::spawn(gate::attend(Arc::clone(&two.gate), "two".into(), two.stop.clone()));
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(seat.fall().is_none(), "the session began after the request");
    listening.abort();
    until("it stops listening", async || listening.is_finished()).await;
    one.gate.end_sessions(&of(ANN), "root", now()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(seat.fall().is_none());
    tokio::spawn(gate::attend(Arc::clone(&two.gate), "two".into(), two.stop.clone()));
    let (_, cause) = fall(&seat, Instant::now()).await;
    assert_eq!(cause, "ended_by_admin");
}

async fn a_node_that_does_not_answer_is_named_and_one_that_left_is_not_waited_for(cluster: Cluster) {
    let (one, two) = cluster.two().await;
    two.attending.abort();
    until("it stops listening", async || two.attending.is_finished()).await;
    let _seat = cluster.sit(&two, ANN, "mailer", Service::Imap).await;
    let _mine = cluster.sit(&one, ANN, "mailer", Service::Imap).await;
    let began = Instant::now();
    let listing = one.gate.sessions(&filter()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    let missing: Vec<&str> = listing.missing.iter().map(|node| node.name.as_str()).collect();
    assert_eq!((listing.sessions.len(), missing), (1, vec!["two"]));

    two.store.leave().await.unwrap();
    let listing = one.gate.sessions(&filter()).await.unwrap();
    assert_eq!((listing.sessions.len(), listing.missing.len()), (1, 0));
    assert_eq!(one.store.nodes().len(), 1);
    // Whose key names it has no session left that anybody knows of.
    let key = SessionKey { node: two.store.node().clone(), session: portcullis::model::SessionId(1) };
    assert_eq!(one.gate.session(&key).await.unwrap(), None);
}

async fn the_metrics_show_verdicts_sessions_traffic_and_how_soon_a_change_ends_sessions(cluster: Cluster) {
    let (one, two) = cluster.two().await;
    let lobby = Lobby::new(LobbyLimits { connections: 10, waiting: 10, per_address: 1 });
    let _spot = lobby.enter([192, 0, 2, 1].into(), true).unwrap();
    assert!(lobby.enter([192, 0, 2, 1].into(), true).is_err());
    let seat = cluster.sit(&one, BOB, "mailer", Service::Imap).await;
    assert!(cluster.knock(&one, BOB, "stranger", Service::Imap).await.is_none());
    one.gate.refuse_password(&visitor(&one, Service::Pop, None), "USER", Some(BOB));
    seat.count_sent(3_000);
    let has = |line: &str| {
        let text = one.gate.metrics_text(&lobby);
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    };
    has("portcullis_logins_total{service=\"imap\",outcome=\"yes\",cause=\"none\"} 1");
    has("portcullis_logins_total{service=\"imap\",outcome=\"no\",cause=\"policy_app\"} 1");
    has("portcullis_logins_total{service=\"pop\",outcome=\"no\",cause=\"legacy_password\"} 1");
    has("portcullis_login_seconds_count{service=\"imap\"} 2");
    has("portcullis_sessions{service=\"imap\"} 1");
    has("portcullis_bytes_total{service=\"imap\",direction=\"sent\"} 3000");
    has("portcullis_connections 1");
    has("portcullis_lobby_connections 1");
    has("portcullis_connections_turned_away_total{why=\"address\"} 1");
    has("portcullis_snapshot_users 2");
    has("portcullis_issuer_keys{issuer=\"https://id.test\"} 1");
    has("portcullis_audit_dropped_total 0");
    has("portcullis_nodes 2");
    seat.count_sent(7);
    has("portcullis_bytes_total{service=\"imap\",direction=\"sent\"} 3007");

    // The other node commits; the session falls here, and its end is counted with the time since that commit.
    let off = POLICY.replace("imap = [\"mailer\"]", "imap = \"off\"");
    two.store.apply(&policy::file::parse(&off).unwrap(), "policy.toml").await.unwrap();
    let (_, cause) = fall(&seat, Instant::now()).await;
    assert_eq!(cause, "policy_service_off");
    drop(seat);
    has("portcullis_sessions{service=\"imap\"} 0");
    has("portcullis_sessions_fallen_total{service=\"imap\"} 1");
    has("portcullis_change_to_end_seconds_count 1");
    let text = one.gate.metrics_text(&lobby);
    let sum = text.lines().find_map(|line| line.strip_prefix("portcullis_change_to_end_seconds_sum ")).unwrap();
    let late_s: f64 = sum.parse().unwrap();
    assert!((0.0..5.0).contains(&late_s), "{late_s} s");
    // Wherever a user or an app is known, no label tells.
    assert!(!text.contains("example.com") && !text.contains("mailer"), "{text}");
}
