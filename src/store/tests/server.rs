//! What only a database server can do: be elsewhere, refuse, go away, come back, and say that there is news.

use std::time::{Duration, Instant};

use super::ground::postgres::{self, Server, name_of};
use super::{Ground, NOW, POLICY, apply, open, user};
use crate::model::{Secret, Service, UnixTime};
use crate::store::{AuditEvent, AuditFilter, AuditLog, Examined, Settings, Store, StoreError, examine};
use tokio_util::sync::CancellationToken;

fn settings(url: &str) -> Settings {
    Settings { url: Secret::new(url), ..Settings::in_dir("/nowhere") }
}

/// What a start and a look say; they must say the same, and never the password.
async fn both_say(url: &str) -> StoreError {
    let settings = settings(url);
    let started = Store::open(&settings).await.unwrap_err();
    let looked = examine(&settings).await.unwrap_err();
    let kind = std::mem::discriminant::<StoreError>;
    assert_eq!(kind(&started), kind(&looked), "{started} | {looked}");
    for error in [&started, &looked] {
        let told = format!("{error} {error:?}");
        assert!(!told.contains(postgres::PASSWORD), "{told}");
    }
    started
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_told_with_its_name_the_cause_and_the_remedy() {
    let Some(server) = postgres::shared() else { return };
    let url = server.database();
    let name = name_of(&url).to_owned();
    let address = url.split(['@', '?']).nth(1).unwrap();
    let mut table = Vec::new();

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let wrong = format!("postgres://gate:hunter2@{nobody}/mail");
    table.push((wrong, "cannot be reached while opening it", "start the server, or correct host"));
    let wrong = url.replace(":hunter2@", ":hunter3@");
    table.push((wrong, "refuses this user or password", "correct them in database.url"));
    let wrong = url.replace("gate:hunter2@", "eve:hunter2@");
    table.push((wrong, "refuses this user or password", "correct them in database.url"));
    let wrong = url.replace(&name, "no_such");
    table.push((wrong, "the server has no such database", "make it (`createdb`)"));
    let wrong = url.replace("sslmode=disable", "sslmode=require");
    table.push((wrong, "cannot be reached while opening it", "TLS in database.url"));

    let foreign = server.database();
    server.sql(name_of(&foreign), "CREATE TABLE messages (id BIGINT)");
    table.push((foreign, "is a database of another program", "point database.url elsewhere"));

    let newer = server.database();
    Store::open(&settings(&newer)).await.unwrap().close().await.unwrap();
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (99, 'later', TRUE, '', 0)";
    server.sql(name_of(&newer), later);
    table.push((newer, "was written by a newer Portcullis (schema 99)", "install that version"));

    let closed = server.database();
    server.sql("postgres", "CREATE ROLE reader LOGIN PASSWORD 'hunter2'");
    let closed = closed.replace("gate:", "reader:");
    table.push((closed, "cannot be written while", "the right to write"));

    for (url, cause, remedy) in table {
        let error = both_say(&url).await.to_string();
        assert!(error.contains(cause) && error.contains(remedy), "{error}");
        assert!(error.starts_with("postgres://"), "{error}");
    }
    let refused = both_say(&url.replace(":hunter2@", ":hunter3@")).await.to_string();
    assert!(refused.starts_with(&format!("postgres://gate@{address} refuses")), "{refused}");
}

#[tokio::test]
async fn a_look_tells_an_empty_database_from_ours_and_changes_nothing() {
    let Some(server) = postgres::shared() else { return };
    let url = server.database();
    let tables = || server.sql(name_of(&url), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'");
    let is_made = async || settings(&url).is_made().await.unwrap();
    assert!(matches!(examine(&settings(&url)).await.unwrap(), Examined::Missing { .. }));
    assert!(!is_made().await);
    assert_eq!(tables(), "0");
    Store::open(&settings(&url)).await.unwrap().close().await.unwrap();
    assert!(matches!(examine(&settings(&url)).await.unwrap(), Examined::Ready { older: false, .. }));
    assert!(is_made().await);
    server.sql(name_of(&url), "DELETE FROM _sqlx_migrations WHERE version > 1");
    assert!(matches!(examine(&settings(&url)).await.unwrap(), Examined::Ready { older: true, .. }));
}

/// Texts compare by their bytes, whatever language the server sorts by.
#[tokio::test]
async fn every_text_is_compared_by_its_bytes() {
    let Some(ground) = Ground::postgres() else { return };
    let store = open(&ground).await;
    let sql = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public' \
               AND table_name <> '_sqlx_migrations' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'";
    assert_eq!(super::rows(&store, sql).await, 0);
    let sql =
        "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public' AND collation_name = 'C'";
    assert!(super::rows(&store, sql).await > 50);
}

/// Heard after the change was committed elsewhere.
async fn heard_after(one: &Store, two: &Store, off: bool) -> Duration {
    let mut changes = two.changes();
    one.set_self_switch(&user("ann"), Service::Imap, off, NOW).await.unwrap();
    let (number, since) = (one.number(), Instant::now());
    let waiting = changes.wait_for(|seen| *seen >= number);
    tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("within five seconds").unwrap();
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_nodes_hear_of_a_change_at_once_and_by_looking_when_a_word_is_lost() {
    let Some(ground) = Ground::postgres() else { return };
    let (one, two) = (open(&ground).await, open(&ground).await);
    apply(&one, POLICY).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(two.clone().run(stop.clone()));
    let mut took = Vec::new();
    for turn in 0..9 {
        took.push(heard_after(&one, &two, turn % 2 == 0).await);
        // So that the next one falls anywhere between two looks.
        tokio::time::sleep(Duration::from_millis(70 * turn)).await;
    }
    took.sort();
    assert!(took[4] < Duration::from_millis(100), "half of them at once: {took:?}");

    // The listening connection cut off again and again: looking each half second suffices.
    let server = postgres::shared().unwrap();
    let database = one.path.to_string();
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' \
               AND datname = current_database()";
    let mut cuts = 0;
    for turn in 0..4 {
        cuts += server.sql(name_of(&database), cut).parse::<i64>().unwrap();
        let took = heard_after(&one, &two, turn % 2 == 0).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    assert!(cuts > 0, "nobody listened");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_and_comes_back_loses_nothing() {
    let Some(server) = Server::start() else { return };
    let settings = settings(&server.database());
    let store = Store::open(&settings).await.unwrap();
    apply(&store, POLICY).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(store.clone().run(stop.clone()));
    let before = AuditLog::open(&settings).await.unwrap().page(&AuditFilter::default(), 0).await.unwrap().len();

    let mut second = 0;
    let mut note = |count| {
        for _ in 0..count {
            store.audit(AuditEvent::new(UnixTime::from_secs(second), "login", "yes")).unwrap();
            second += 1;
        }
        second
    };
    note(300);
    // In the middle of writing, as it may come.
    tokio::time::sleep(Duration::from_millis(505)).await;
    tokio::task::block_in_place(|| server.stop());
    note(300);
    let gone = Instant::now();
    while store.is_reachable() {
        assert!(gone.elapsed() < Duration::from_secs(10), "nobody noticed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.silence() > Duration::from_secs(1), "{:?}", store.silence());
    assert_eq!(super::ask(&store, "ann", "x", Service::Imap, NOW), "yes", "the snapshot is still there");
    let error = store.set_self_switch(&user("ann"), Service::Imap, true, NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    let all = note(300);

    tokio::task::block_in_place(|| server.start_again());
    let back = Instant::now();
    while !store.is_reachable() || store.audit_is_waiting() {
        assert!(back.elapsed() < Duration::from_secs(15), "it did not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.set_self_switch(&user("ann"), Service::Imap, true, NOW).await.unwrap();
    stop.cancel();
    running.await.unwrap();
    let log = AuditLog::open(&settings).await.unwrap();
    let mut seconds = Vec::new();
    let mut after = i64::try_from(before).unwrap();
    loop {
        let page =
            log.page(&AuditFilter { event: Some("login".into()), ..AuditFilter::default() }, after).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.number;
        seconds.extend(page.iter().map(|row| row.event.time.secs()));
    }
    assert_eq!(seconds, (0..all).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(log.verify(None).await.unwrap().faults, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_believed_by_its_certificate_where_the_url_asks_for_one() {
    let Some(server) = Server::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    for (name, certificate) in [("own.pem", &own), ("other.pem", &other)] {
        std::fs::write(dir.path().join(name), certificate.cert.pem()).unwrap();
    }
    tokio::task::block_in_place(|| server.speak_tls(&own.cert.pem(), &own.signing_key.serialize_pem()));
    let url = |root: &str| {
        let root = dir.path().join(root);
        let mode = format!("sslmode=verify-full&sslrootcert={}", root.display());
        server.url("postgres").replace("sslmode=disable", &mode)
    };
    let store = Store::open(&settings(&url("own.pem"))).await.unwrap();
    // All connections, the one that listens too.
    let stop = CancellationToken::new();
    let running = tokio::spawn(store.clone().run(stop.clone()));
    let sql = "SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) \
               WHERE application_name = 'portcullis' AND query LIKE 'LISTEN%' AND ssl";
    let since = Instant::now();
    while server.sql("postgres", sql) != "1" {
        assert!(since.elapsed() < Duration::from_secs(10), "nobody listens by TLS");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    running.await.unwrap();
    let error = both_say(&url("other.pem")).await;
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
}
