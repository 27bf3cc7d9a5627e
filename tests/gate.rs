//! The gate without sockets: who is admitted, who falls, and that no order of events lets anybody slip through.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

#[path = "support/postgres.rs"]
#[allow(dead_code)]
mod postgres;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use aws_lc_rs::rand::SystemRandom;
use portcullis::gate::{self, Admission, Cause, Denial, Gate, Visitor};
use portcullis::issuer::{self, Issuers, KeySource};
use portcullis::model::{ClientId, Secret, Service, UnixTime, UserId};
use portcullis::policy::{self, GrantState};
use portcullis::sasl::Bearer;
use portcullis::store::{AuditFilter, Settings, Store};
use portcullis::token::{Mint, Rules, SigningKey, sign};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

// `PORTCULLIS_TEST_DATABASE=postgres` runs all of this on PostgreSQL.
const ISSUER: &str = "https://id.test";

const POLICY: &str = r#"
[unit."/"]
imap = "off"
pop  = "off"
[unit."/Staff"]
imap = ["mailer"]
pop  = "any"
[user."ann@example.com"]
unit = "/Staff"
[user."bob@example.com"]
unit = "/Staff"
[user."eve@example.com"]
unit = "/"
[mailbox."team@example.com"]
members = ["ann@example.com"]
"#;

struct House {
    dir: TempDir,
    key: SigningKey,
    store: Arc<Store>,
    issuers: Arc<Issuers>,
    gate: Arc<Gate>,
    stop: CancellationToken,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn now() -> UnixTime {
    SystemTime::now().into()
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

impl House {
    async fn build(limits: gate::Limits) -> Self {
        Self::with_keys(limits, |jwks| KeySource::File(jwks.to_owned())).await
    }

    /// `source` says where the issuer's keys are had from; they lie in the file it is given.
    async fn with_keys(limits: gate::Limits, source: impl FnOnce(&Path) -> KeySource) -> Self {
        let dir = TempDir::new().unwrap();
        let key = SigningKey::generate(&SystemRandom::new()).unwrap();
        let jwks = dir.path().join("jwks.json");
        fs::write(&jwks, key.jwks()).unwrap();
        let mut rules = Rules::new(ISSUER, ["portcullis"]);
        rules.scope_imap = vec!["mail".into()];
        rules.scope_pop = vec!["mail".into()];
        let issuers = Issuers::new(vec![issuer::Settings::new(rules, Some(source(&jwks)))]).unwrap();
        let mut settings = Settings::in_dir(dir.path());
        settings.url = postgres::wished().map_or(settings.url, Secret::new);
        let store = Store::open(&settings).await.unwrap();
        let gate = Gate::new(Arc::clone(&store), Arc::clone(&issuers), limits);
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&store).run(stop.clone()));
        tokio::spawn(Arc::clone(&issuers).run(stop.clone()));
        tokio::spawn(gate::watch(Arc::clone(&gate), stop.clone()));
        let house = Self { dir, key, store, issuers, gate, stop };
        house.apply(POLICY).await;
        house
    }

    async fn apply(&self, text: &str) {
        let document = policy::file::parse(text).unwrap_or_else(|error| panic!("{error}"));
        self.store.apply(&document, "policy.toml").await.unwrap();
    }

    fn mint(&self, user: &str, app: &str, scope: &str, lifetime: Duration) -> Secret {
        let mut id = [0u8; 16];
        aws_lc_rs::rand::fill(&mut id).unwrap();
        let mint = Mint {
            issuer: ISSUER.into(),
            audience: vec!["portcullis".into()],
            user_claim: "email".into(),
            user: user.into(),
            app: app.into(),
            scope: scope.into(),
            issued_at: now(),
            lifetime,
            id: format!("{id:?}"),
            extra: serde_json::Map::new(),
        };
        sign(&mint, &self.key).unwrap()
    }

    fn visitor(&self, service: Service) -> Visitor {
        Visitor {
            session: self.gate.next_session(),
            service,
            peer: "192.0.2.1:4000".parse().unwrap(),
            tls: "TLSv1.3",
            program: None,
        }
    }

    async fn knock(&self, user: &str, app: &str, owner: &str, service: Service) -> Result<Admission, Denial> {
        let token = self.mint(user, app, "mail", Duration::from_secs(600));
        self.gate.admit(&self.visitor(service), Bearer { user: Some(owner.into()), token }).await
    }

    async fn ann(&self) -> Admission {
        self.knock("ann@example.com", "mailer", "ann@example.com", Service::Imap)
            .await
            .unwrap_or_else(|denial| panic!("ann is refused: {}", denial.cause))
    }
}

fn reason<T>(outcome: Result<T, Denial>) -> &'static str {
    match outcome {
        Ok(_) => "admitted",
        Err(denial) => denial.cause.reason(),
    }
}

/// How long until the session has to leave, and why.
async fn falls(admission: &Admission) -> (Duration, &'static str) {
    let start = Instant::now();
    let fallen = tokio::time::timeout(Duration::from_secs(5), admission.seat.fallen()).await;
    assert!(fallen.is_ok(), "the session was not told to leave");
    (start.elapsed(), admission.seat.fall().map(|denial| denial.cause.reason()).unwrap_or("?"))
}

#[tokio::test]
async fn every_no_has_its_own_cause() {
    let house = House::build(limits()).await;
    let imap = Service::Imap;
    let cases = [
        ("ann@example.com", "mailer", "ann@example.com", imap, "admitted"),
        ("ann@example.com", "mailer", "team@example.com", imap, "admitted"),
        ("ann@example.com", "mailer", "bob@example.com", imap, "not_member"),
        ("ann@example.com", "mailer", "not an address", imap, "not_member"),
        ("bob@example.com", "mailer", "team@example.com", imap, "not_member"),
        ("ann@example.com", "other", "ann@example.com", imap, "policy_app"),
        ("ann@example.com", "other", "ann@example.com", Service::Pop, "admitted"),
        ("eve@example.com", "mailer", "eve@example.com", imap, "policy_service_off"),
        ("zoe@example.com", "mailer", "zoe@example.com", imap, "user_unknown"),
    ];
    for (user, app, owner, service, expected) in cases {
        let outcome = house.knock(user, app, owner, service).await;
        assert_eq!(reason(outcome), expected, "{user} with {app} to {owner} by {service}");
    }
    let token = house.mint("ann@example.com", "mailer", "calendar", Duration::from_secs(60));
    let outcome = house.gate.admit(&house.visitor(imap), Bearer { user: None, token }).await;
    assert_eq!(reason(outcome), "token_scope");
    let token = Secret::new("eyJhbGciOiJub25lIn0.e30.");
    let outcome = house.gate.admit(&house.visitor(imap), Bearer { user: None, token }).await;
    assert!(reason(outcome).starts_with("token_"));
}

#[tokio::test]
async fn each_yes_in_the_audit_log_has_its_end_there_also_when_no_session_came_of_it() {
    let house = House::build(limits()).await;
    let ann = "ann@example.com";
    for began in [true, false] {
        let admission = house.knock(ann, "mailer", ann, Service::Pop).await.ok().unwrap();
        let session = admission.seat.session;
        if began {
            admission.seat.left("logout", 1, 2);
        } else {
            // As where another POP3 session holds the mailbox.
            drop(admission);
        }
        let rows = house.store.audit_recent(&AuditFilter::default()).await.unwrap();
        let of: Vec<_> = rows.iter().rev().filter(|row| row.session == Some(session)).collect();
        let told: Vec<_> = of.iter().map(|row| (&*row.event, row.reason.as_deref())).collect();
        let why = if began { "logout" } else { "not begun" };
        assert_eq!(told, [("login", None), ("session.ended", Some(why))]);
    }
    assert_eq!(reason(house.knock("eve@example.com", "mailer", ann, Service::Pop).await), "not_member");
    let rows = house.store.audit_recent(&AuditFilter::default()).await.unwrap();
    assert_eq!(&*rows.first().unwrap().event, "login", "no end without a beginning");
}

#[tokio::test]
async fn a_name_as_long_as_a_line_makes_no_long_row_and_no_long_log_line() {
    let house = House::build(limits()).await;
    let (how, claimed) = (format!("AUTHENTICATE SCRAM-{}", "ö".repeat(30_000)), "ü".repeat(30_000));
    let denial = house.gate.refuse_password(&house.visitor(Service::Imap), &how, Some(&claimed));
    assert!(denial.cause.to_string().len() < 300);
    let filter = AuditFilter { reference: Some(denial.reference), ..AuditFilter::default() };
    let rows = house.store.audit_recent(&filter).await.unwrap();
    assert!(rows.first().unwrap().claimed.as_ref().is_some_and(|claimed| (250..=256).contains(&claimed.len())));
}

#[tokio::test]
async fn a_reference_finds_the_audit_row() {
    let house = House::build(limits()).await;
    let denial = house.knock("eve@example.com", "mailer", "eve@example.com", Service::Imap).await.err().unwrap();
    let filter = AuditFilter { reference: Some(denial.reference), ..AuditFilter::default() };
    let rows = house.store.audit_recent(&filter).await.unwrap();
    let [row] = rows.as_slice() else { panic!("{} rows", rows.len()) };
    assert_eq!(row.reason.as_deref(), Some("policy_service_off"));
    assert_eq!(row.place.as_deref(), Some("unit \"/\""));
    assert_eq!(row.user.as_deref(), Some("eve@example.com"));
    assert_eq!(row.app.as_deref(), Some("mailer"));
}

#[tokio::test]
async fn a_change_ends_the_sessions_it_touches_and_no_others() {
    let changes = [
        ("a unit switched off", POLICY.replace("imap = [\"mailer\"]", "imap = \"off\""), "policy_service_off"),
        ("an app taken off the list", POLICY.replace("[\"mailer\"]", "[\"another\"]"), "policy_app"),
        (
            "a user suspended",
            POLICY.replace("[user.\"ann@example.com\"]", "[user.\"ann@example.com\"]\nsuspended = true"),
            "user_suspended",
        ),
        (
            "a mailbox moved",
            POLICY.replace("[user.\"ann@example.com\"]", "[user.\"ann@example.com\"]\nmail = \"dovecot\""),
            "home_moved",
        ),
        ("an app made read-only", format!("{POLICY}\n[app.\"mailer\"]\nread_only = true\n"), "rights_lowered"),
        ("an app blocked", format!("{POLICY}\n[app.\"mailer\"]\ntrust = \"blocked\"\n"), "policy_app_blocked"),
        (
            "a user removed",
            POLICY
                .replace("[user.\"ann@example.com\"]\nunit = \"/Staff\"\n", "")
                .replace("members = [\"ann@example.com\"]", "members = []"),
            "user_unknown",
        ),
    ];
    for (what, policy, expected) in changes {
        let house = House::build(limits()).await;
        let falling = house.ann().await;
        let staying = house.knock("bob@example.com", "other", "bob@example.com", Service::Pop).await.ok().unwrap();
        house.apply(&policy).await;
        let (after, why) = falls(&falling).await;
        assert_eq!(why, expected, "{what}");
        assert!(after < Duration::from_secs(1), "{what}: told after {after:?}");
        assert!(staying.seat.fall().is_none(), "{what}: another session was told to leave");
    }
}

#[tokio::test]
async fn leaving_a_shared_mailbox_ends_the_sessions_in_it_alone() {
    let house = House::build(limits()).await;
    let own = house.ann().await;
    let shared = house.knock("ann@example.com", "mailer", "team@example.com", Service::Imap).await.ok().unwrap();
    house.apply(&POLICY.replace("members = [\"ann@example.com\"]", "members = []")).await;
    assert_eq!(falls(&shared).await.1, "not_member");
    assert!(own.seat.fall().is_none());
}

#[tokio::test]
async fn a_disabled_grant_ends_its_sessions_and_a_removed_one_lets_only_later_tokens_in() {
    let house = House::build(limits()).await;
    let (user, app) = (UserId::parse("ann@example.com").unwrap(), ClientId::parse("mailer").unwrap());
    let open = house.ann().await;
    let early = house.mint("ann@example.com", "mailer", "mail", Duration::from_secs(600));
    house.store.set_grant(&user, &user, &app, GrantState::Disabled, ("test", None), now()).await.unwrap();
    let (after, why) = falls(&open).await;
    assert_eq!(why, "grant_disabled");
    assert!(after < Duration::from_secs(1), "told after {after:?}");
    assert_eq!(reason(house.knock(user.as_str(), "mailer", user.as_str(), Service::Imap).await), "grant_disabled");

    // `iat` has whole seconds: a token of the second of the removal counts as issued before it.
    house.store.set_grant(&user, &user, &app, GrantState::Removed, ("test", None), now()).await.unwrap();
    let bearer = Bearer { user: None, token: early.clone() };
    assert_eq!(reason(house.gate.admit(&house.visitor(Service::Imap), bearer).await), "grant_removed");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let again = house.ann().await;
    let bearer = Bearer { user: None, token: early };
    assert_eq!(reason(house.gate.admit(&house.visitor(Service::Imap), bearer).await), "grant_removed");
    assert!(again.seat.fall().is_none());
}

#[tokio::test]
async fn a_withdrawn_key_ends_the_sessions_that_came_in_with_it() {
    let house = House::build(limits()).await;
    let open = house.ann().await;
    let other = SigningKey::generate(&SystemRandom::new()).unwrap();
    fs::write(house.dir.path().join("jwks.json"), other.jwks()).unwrap();
    assert!(house.issuers.reload(now()).is_empty());
    let (after, why) = falls(&open).await;
    assert_eq!(why, "token_key_withdrawn");
    assert!(after < Duration::from_secs(1), "told after {after:?}");
    assert_eq!(
        reason(house.knock("ann@example.com", "mailer", "ann@example.com", Service::Imap).await),
        "token_unknown_key"
    );
}

#[tokio::test]
async fn an_exception_ends_its_sessions_when_it_runs_out_by_itself() {
    let house = House::build(limits()).await;
    let until = now() + Duration::from_millis(1500);
    let exception = format!("imap = {{ apps = \"any\", until = {until} }}\n");
    let policy =
        POLICY.replace("[user.\"eve@example.com\"]\n", &format!("[user.\"eve@example.com\"]\n{exception}"));
    house.apply(&policy).await;
    let ends = UnixTime::from_secs(until.secs());
    let open = house.knock("eve@example.com", "any-app", "eve@example.com", Service::Imap).await;
    let open = open.unwrap_or_else(|denial| panic!("refused at {}: {}", now(), denial.cause));
    assert_eq!(falls(&open).await.1, "policy_service_off");
    let late = ends.until(now());
    assert!(late < Duration::from_secs(1), "told {late:?} after the end");
}

/// An issuer that takes its time for every answer; where it hands out the keys in this file.
fn slow_issuer(jwks: &Path, pause: Duration) -> KeySource {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    let keys = fs::read_to_string(jwks).unwrap();
    std::thread::spawn(move || {
        for mut peer in listener.incoming().map_while(Result::ok) {
            let _ = peer.read(&mut [0; 4096]);
            std::thread::sleep(pause);
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", keys.len());
            let _ = peer.write_all(format!("{head}{keys}").as_bytes());
        }
    });
    KeySource::Url(url)
}

#[tokio::test]
async fn an_exception_that_runs_out_while_the_issuer_is_asked_lets_nobody_in() {
    let house = House::with_keys(limits(), |jwks| slow_issuer(jwks, Duration::from_millis(2500))).await;
    let until = UnixTime::from_secs((now() + Duration::from_millis(1500)).secs());
    let exception = format!("[user.\"eve@example.com\"]\nimap = {{ apps = \"any\", until = {until} }}\n");
    house.apply(&POLICY.replace("[user.\"eve@example.com\"]\n", &exception)).await;
    let outcome = house.knock("eve@example.com", "any-app", "eve@example.com", Service::Imap).await;
    assert!(now() >= until, "the issuer answered too early for this test");
    assert_eq!(reason(outcome), "policy_service_off");
}

#[tokio::test]
async fn nobody_comes_in_while_the_clock_is_before_the_last_change() {
    let house = House::build(limits()).await;
    let (ann, app) = (UserId::parse("ann@example.com").unwrap(), ClientId::parse("other").unwrap());
    let ahead = now() + Duration::from_secs(3600);
    house.store.set_grant(&ann, &ann, &app, GrantState::Disabled, ("test", None), ahead).await.unwrap();
    let outcome = house.knock(ann.as_str(), "mailer", ann.as_str(), Service::Imap).await;
    assert_eq!(reason(outcome), "unavailable_clock");
}

#[tokio::test]
async fn a_session_may_end_with_its_token() {
    let house = House::build(gate::Limits { sessions_end_with_token: true, ..limits() }).await;
    let token = house.mint("ann@example.com", "mailer", "mail", Duration::from_secs(2));
    let open = house.gate.admit(&house.visitor(Service::Imap), Bearer { user: None, token }).await.ok().unwrap();
    let (after, why) = falls(&open).await;
    assert_eq!(why, "token_expired");
    assert!(after < Duration::from_secs(3), "told after {after:?}");
}

#[tokio::test]
async fn a_user_has_only_so_many_sessions_and_gets_them_back() {
    let house = House::build(gate::Limits { sessions_per_user: 2, ..limits() }).await;
    let one = house.ann().await;
    let _two = house.ann().await;
    let third = house.knock("ann@example.com", "mailer", "ann@example.com", Service::Imap).await;
    assert_eq!(reason(third), "limit_sessions");
    let pop = house.knock("ann@example.com", "mailer", "ann@example.com", Service::Pop).await;
    assert_eq!(reason(pop), "admitted", "the services are counted apart");
    drop(one);
    house.ann().await;
}

#[tokio::test]
async fn the_bytes_of_a_day_are_counted_from_the_first_on_and_by_all_sessions_together() {
    let house = House::build(limits()).await;
    let limited =
        POLICY.replace("[unit.\"/Staff\"]", "[unit.\"/Staff\"]\nbytes_per_day = 1000\nsessions_per_user = 2");
    house.apply(&limited).await;
    let (imap, bob) =
        (house.ann().await, house.knock("bob@example.com", "mailer", "bob@example.com", Service::Imap).await);
    let pop = house.knock("ann@example.com", "mailer", "ann@example.com", Service::Pop).await.ok().unwrap();
    pop.seat.count_received(500);
    pop.seat.left("logout", 500, 0);
    let start = Instant::now();
    imap.seat.count_sent(499);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(imap.seat.fall().is_none(), "one byte is left");
    imap.seat.count_sent(1);
    let (_, why) = falls(&imap).await;
    assert_eq!(why, "limit_bytes");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(
        reason(house.knock("ann@example.com", "mailer", "ann@example.com", Service::Imap).await),
        "limit_bytes"
    );
    let denial = house.knock("ann@example.com", "mailer", "ann@example.com", Service::Pop).await.err().unwrap();
    assert_eq!(denial.cause.place().unwrap().to_string(), "unit \"/Staff\"");
    assert_eq!(
        denial.cause.to_string(),
        "ann@example.com has exchanged 1000 bytes today, of 1000 (set at unit \"/Staff\")"
    );
    assert!(bob.ok().unwrap().seat.fall().is_none(), "each has a day of their own");
    house.apply(&limited.replace("= 1000", "= 1001")).await;
    house.ann().await;
}

/// Logins race with changes for a while. Whoever is in after a change was acknowledged is there by the new rule, or
/// falls within a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_login_that_races_a_change_loses() {
    let house = Arc::new(House::build(gate::Limits { sessions_per_user: 100_000, ..limits() }).await);
    let off = POLICY.replace("imap = [\"mailer\"]", "imap = \"off\"");
    let token = house.mint("ann@example.com", "mailer", "mail", Duration::from_secs(600));
    for round in 0..20 {
        house.apply(POLICY).await;
        let going = Arc::new(AtomicBool::new(true));
        let (first, mut racing) = tokio::sync::watch::channel(false);
        let knockers: Vec<_> = (0..4)
            .map(|_| {
                let (house, going, token) = (Arc::clone(&house), Arc::clone(&going), token.clone());
                let first = first.clone();
                tokio::spawn(async move {
                    let mut admitted = Vec::new();
                    while going.load(Ordering::Relaxed) {
                        let bearer = Bearer { user: None, token: token.clone() };
                        admitted.extend(house.gate.admit(&house.visitor(Service::Imap), bearer).await);
                        first.send_if_modified(|raced| !std::mem::replace(raced, !admitted.is_empty()));
                        tokio::task::yield_now().await;
                    }
                    admitted
                })
            })
            .collect();
        let raced = tokio::time::timeout(Duration::from_secs(20), racing.wait_for(|raced| *raced));
        raced.await.expect("nobody was admitted before the change").unwrap();
        house.apply(&off).await;
        let bearer = Bearer { user: None, token: token.clone() };
        let after = house.gate.admit(&house.visitor(Service::Imap), bearer).await;
        assert!(
            matches!(after, Err(Denial { cause: Cause::Policy(_), .. })),
            "round {round}: admitted after the change"
        );
        going.store(false, Ordering::Relaxed);
        let mut admitted = Vec::new();
        for knocker in knockers {
            admitted.extend(knocker.await.unwrap());
        }
        for admission in &admitted {
            let (late, _) = falls(admission).await;
            assert!(late < Duration::from_secs(1), "round {round}: told after {late:?}");
        }
    }
}
