//! A running gateway and a second node on its database: the second lists and ends the first one's sessions, which are
//! real ones on real sockets; and `portcullis legacy` reads beside it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::{
    process::{Command, Output},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use portcullis::gate::{self, Gate, SessionFilter};
use portcullis::issuer::{self, Issuers, KeySource};
use portcullis::model::{Service, UserId};
use portcullis::store::{Settings, Store};
use portcullis::token::Rules;
use support::{
    ANN, APP, AUDIENCE, ISSUER,
    wire::{Imap, Pop},
};
use tokio_util::sync::CancellationToken;

/// A second gateway on the first one's database, without sockets.
async fn second(first: &support::Gate) -> Arc<Gate> {
    let store = Store::open(&Settings::in_dir(first.dir().join("data"))).await.unwrap();
    let keys = KeySource::File(first.dir().join("jwks.json"));
    let issuers = Issuers::new(vec![issuer::Settings::new(Rules::new(ISSUER, [AUDIENCE]), Some(keys))]).unwrap();
    let limits = gate::Limits {
        sessions_per_user: 15,
        failed_login_delay: Duration::ZERO,
        failed_login_delay_max: Duration::ZERO,
        sessions_end_with_token: false,
        audit_required: true,
        database_grace: Duration::from_secs(300),
        clock_skew: Duration::from_secs(60),
        public_url: None,
    };
    let gate = Gate::new(Arc::clone(&store), issuers, limits);
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&store).run(stop.clone()));
    tokio::spawn(gate::attend(Arc::clone(&gate), "second".into(), stop.clone()));
    let deadline = Instant::now() + Duration::from_secs(10);
    while gate.store().nodes().iter().filter(|node| node.alive).count() < 2 {
        assert!(Instant::now() < deadline, "the nodes do not find each other: {:?}", gate.store().nodes());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gate
}

#[test]
fn a_second_node_describes_and_ends_sessions_on_the_wire_of_the_first() {
    let first = support::Gate::start();
    let mut imap = first.imap(ANN, APP);
    imap.ok("ID (\"name\" \"Thunder\" \"version\" \"2\")");
    imap.ok("SELECT INBOX");
    imap.idle();
    let mut pop = first.pop(ANN, APP);
    pop.command("STAT");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let second = second(&first).await;
        let listing = second.sessions(&SessionFilter::default()).await.unwrap();
        assert_eq!((listing.sessions.len(), listing.missing.len()), (2, 0), "{listing:#?}");
        let of = |service: &str| listing.sessions.iter().find(|session| session.service == service).unwrap();
        let (one, other) = (of("imap"), of("pop"));
        assert_eq!((one.user.as_str(), one.app.as_str(), one.command.as_deref()), (ANN, APP, Some("IDLE")));
        assert_eq!((one.program.as_deref(), one.tls.as_str()), (Some("Thunder 2"), "TLSv1.3"));
        assert!(one.received > 60 && one.sent > 200, "{one:?}");
        assert!(one.peer.starts_with("127.0.0.1:") && one.since_ms <= one.command_ms, "{one:?}");
        assert_eq!((other.command.as_deref(), other.program.as_deref()), (Some("STAT"), None));

        let only_imap = SessionFilter {
            user: Some(UserId::parse(ANN).unwrap()),
            service: Some(Service::Imap),
            ..SessionFilter::default()
        };
        let since = Instant::now();
        second.end_sessions(&only_imap, "root@example.com", SystemTime::now().into()).await.unwrap();
        let (text, at) = imap.bye();
        assert!(text.starts_with("[ALERT] This session was ended by an administrator."), "{text}");
        assert!(at - since < Duration::from_secs(1), "the BYE took {:?}", at - since);
        assert!(pop.command("NOOP").starts_with("+OK"), "POP was not meant");
    });
    // Told and counted as any other end, and a new session may begin.
    let ended = first.audit_with(&["--cause", "ended_by_admin"], 1, |row| row["event"] == "session.ended");
    assert!(ended[0]["detail"].as_str().unwrap().contains("bytes received"), "{ended:?}");
    first.imap(ANN, APP).ok("NOOP");
}

fn legacy(gate: &support::Gate, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["legacy", "--config"]).arg(gate.config()).args(arguments).output().unwrap()
}

#[test]
fn portcullis_legacy_tells_beside_a_running_gateway_who_still_tries_passwords() {
    let gate = support::Gate::start();
    assert_eq!(legacy(&gate, &[]).status.code(), Some(1), "nobody yet");
    let mut old = Imap::connect(&gate);
    old.ok("ID (\"name\" \"Old Mail\" \"version\" \"1.0\")");
    for _ in 0..2 {
        assert!(old.command("LOGIN olaf@example.com secret").status.starts_with("NO"));
    }
    let mut pop = Pop::connect(&gate);
    assert!(pop.command("USER nobody@example.com").starts_with("-ERR"));
    let deadline = Instant::now() + Duration::from_secs(15);
    let rows: Vec<serde_json::Value> = loop {
        let run = legacy(&gate, &["--json"]);
        let text = String::from_utf8(run.stdout).unwrap();
        let rows: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if rows.len() == 2 {
            break rows;
        }
        assert!(Instant::now() < deadline, "never two rows, but {text}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let olaf = &rows[0];
    assert_eq!((&olaf["user"], &olaf["attempts"]), (&"olaf@example.com".into(), &2.into()), "{olaf}");
    assert_eq!((&olaf["program"], &olaf["unit"]), (&"Old Mail 1.0".into(), &"/Off".into()), "{olaf}");
    assert_eq!((&olaf["how"], &olaf["from"]), (&"LOGIN".into(), &"127.0.0.1".into()), "{olaf}");

    let table = legacy(&gate, &["--unit", "/Off"]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.starts_with("TRIES") && text.contains("olaf@example.com") && !text.contains("nobody"), "{text}");
    let wrong = legacy(&gate, &["--unit", "Off"]);
    assert_eq!(wrong.status.code(), Some(2));
    let error = String::from_utf8(wrong.stderr).unwrap();
    assert!(error.contains("--unit \"Off\""), "{error}");
}
