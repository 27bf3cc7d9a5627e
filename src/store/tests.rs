//! The store on real SQLite files and on a real PostgreSQL server.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

mod add_ons;
mod audit;
pub(super) mod ground;
mod seen;
mod server;

use std::{fs, path::Path};

use ground::{Ground, on_both};

use super::*;
use crate::model::{Blame, ClientId, Reference, Service, UnitPath, UnixTime, UserId};
use crate::policy::{Grant, GrantKey, GrantState, Question, explain, file};

on_both! {
    an_applied_file_is_in_the_snapshot_and_applying_it_again_changes_nothing;
    only_what_differs_is_written_and_told;
    everything_is_still_there_after_a_restart;
    a_second_process_sees_every_kind_of_change_within_a_second;
    a_process_far_behind_the_feed_reads_everything_again;
    whoever_hears_a_number_finds_it_in_the_snapshot;
    a_file_with_unknown_members_changes_nothing_unless_the_database_knows_them;
    a_first_login_makes_the_grant_and_a_later_token_renews_a_removed_one;
    audit_rows_are_found_by_user_app_cause_and_reference;
    an_audit_field_is_cut_and_holds_no_control_characters;
    a_full_audit_queue_refuses_only_where_the_audit_is_required;
    events_wait_for_a_locked_database_and_are_written_in_order_when_stopping;
    a_damaged_row_stops_the_start_and_says_which;
    a_long_write_of_our_own_is_no_silence_of_the_database;
    a_snapshot_that_cannot_follow_grows_old_whatever_else_the_database_answers;
    a_locked_database_is_an_error_that_says_so;
    two_processes_may_start_on_a_new_database_at_once;
    many_changes_at_once_are_one_entry_of_the_feed_and_pages_lose_nobody;
    #[ignore = "takes a minute in a debug build"]
    a_million_users_are_loaded_in_under_twenty_seconds;
    the_audit_log_keeps_so_many_rows_and_the_oldest_go_first;
}

const NOW: UnixTime = UnixTime::from_secs(1_000_000);

const POLICY: &str = "
[unit.\"/\"]
imap = \"any\"
[unit.\"/Sales\"]
imap = [\"x\", \"y\"]
pop = { apps = \"any\", until = 2026-12-18T18:00:00Z }
[user.\"ann@example.com\"]
unit = \"/Sales\"
[user.\"bob@example.com\"]
unit = \"/\"
imap = \"off\"
suspended = true
[group.pilot]
priority = 3
members = [\"ann@example.com\"]
pop = \"off\"
[mailbox.\"team@example.com\"]
name = \"Team\"
unit = \"/Sales\"
members = [\"ann@example.com\"]
[app.x]
name = \"X\"
trust = \"limited\"
units = [\"/Sales\", \"/\"]
delegation = [\"/\"]
";

fn user(name: &str) -> UserId {
    UserId::parse(&format!("{name}@example.com")).unwrap()
}

fn app(id: &str) -> ClientId {
    ClientId::parse(id).unwrap()
}

async fn open(ground: &Ground) -> Arc<Store> {
    Store::open(&ground.settings()).await.unwrap()
}

async fn apply(store: &Store, text: &str) -> Applied {
    store.apply(&file::parse(text).unwrap(), "policy.toml").await.unwrap()
}

/// `yes`, or the cause word.
fn ask(store: &Store, name: &str, id: &str, service: Service, issued_at: UnixTime) -> &'static str {
    let (user, app) = (user(name), app(id));
    let owner = user.clone();
    let question = Question { user, owner, app, service, issued_at: Some(issued_at), service_account: false };
    match store.read(|directory| explain(&question, directory, NOW)).verdict {
        Ok(()) => "yes",
        Err(refusal) => refusal.reason(),
    }
}

async fn rows(store: &Store, sql: &'static str) -> i64 {
    use sqlx::Row;
    sqlx::query(sql).fetch_one(&store.pool).await.unwrap().try_get(0).unwrap()
}

async fn an_applied_file_is_in_the_snapshot_and_applying_it_again_changes_nothing(ground: Ground) {
    let store = open(&ground).await;
    let mut changes = store.changes();
    let applied = apply(&store, POLICY).await;
    // Two units, two users, a group with a member, a mailbox with a member, an app.
    assert_eq!((applied.added, applied.changed, applied.removed), (9, 0, 0));
    assert_eq!(*changes.borrow_and_update(), applied.number);
    assert_eq!(store.read(|directory| directory.version()), applied.number);
    assert_eq!(ask(&store, "ann", "x", Service::Imap, NOW), "yes");
    assert_eq!(ask(&store, "ann", "z", Service::Imap, NOW), "policy_app");
    assert_eq!(ask(&store, "ann", "x", Service::Pop, NOW), "policy_service_off");
    assert_eq!(ask(&store, "bob", "x", Service::Imap, NOW), "user_suspended");

    let audited = rows(&store, "SELECT count(*) FROM audit").await;
    let again = apply(&store, POLICY).await;
    assert!(again.is_unchanged());
    assert_eq!(again.number, applied.number);
    assert!(!changes.has_changed().unwrap());
    assert_eq!(rows(&store, "SELECT count(*) FROM audit").await, audited);
}

async fn only_what_differs_is_written_and_told(ground: Ground) {
    let store = open(&ground).await;
    let first = apply(&store, POLICY).await;
    let applied = apply(&store, &POLICY.replace("imap = [\"x\", \"y\"]", "imap = \"off\"")).await;
    assert_eq!((applied.added, applied.changed, applied.removed, applied.number), (0, 1, 0, first.number + 1));
    assert_eq!(ask(&store, "ann", "x", Service::Imap, NOW), "policy_service_off");
    let told = store.audit_recent(&AuditFilter::default()).await.unwrap();
    assert_eq!((&*told[0].event, told[0].place.as_deref()), ("policy.changed", Some("unit \"/Sales\"")));
    let detail = told[0].detail.as_deref().unwrap();
    assert!(detail.contains("imap only:x,y, pop any until 2026-12-18T18:00:00Z -> imap off, pop any"), "{detail}");

    // A row the file no longer names is gone, with all that hung on it.
    let without =
        POLICY.replace("[group.pilot]\npriority = 3\nmembers = [\"ann@example.com\"]\npop = \"off\"\n", "");
    let applied = apply(&store, &without).await;
    assert_eq!((applied.changed, applied.removed), (1, 2));
    assert_eq!(ask(&store, "ann", "x", Service::Pop, NOW), "yes");
}

async fn everything_is_still_there_after_a_restart(ground: Ground) {
    let store = open(&ground).await;
    apply(&store, POLICY).await;
    let ann = user("ann");
    store.set_grant(&ann, &ann, &app("x"), GrantState::Removed, ("admin", None), NOW).await.unwrap();
    store.set_grant(&ann, &user("team"), &app("y"), GrantState::Disabled, ("admin", None), NOW).await.unwrap();
    store.set_self_switch(&ann, Service::Pop, true, NOW).await.unwrap();
    let before = store.read(|directory| format!("{:?}", directory.counts()));
    let number = store.number();
    store.close().await.unwrap();

    let store = open(&ground).await;
    assert_eq!(store.read(|directory| format!("{:?}", directory.counts())), before);
    assert_eq!((store.number(), store.read(Directory::version)), (number, number));
    assert_eq!(ask(&store, "ann", "x", Service::Imap, NOW), "grant_removed");
    assert_eq!(ask(&store, "ann", "y", Service::Imap, NOW), "yes");
    let team = store.read(|directory| directory.grant(&ann, &user("team"), &app("y")));
    assert_eq!(team, Some(Grant { state: GrantState::Disabled, removed_at: None }));
    assert_eq!(store.read(|directory| directory.app_name(&app("x"))).as_deref(), Some("X"));
}

async fn a_second_process_sees_every_kind_of_change_within_a_second(ground: Ground) {
    let (one, two) = (open(&ground).await, open(&ground).await);
    let stop = CancellationToken::new();
    let running = tokio::spawn(two.clone().run(stop.clone()));
    let mut changes = two.changes();
    let mut seen = async |number: i64| {
        let waiting = changes.wait_for(|seen| *seen >= number);
        tokio::time::timeout(Duration::from_secs(1), waiting).await.expect("within a second").unwrap();
    };
    seen(apply(&one, POLICY).await.number).await;
    assert_eq!(ask(&two, "ann", "x", Service::Imap, NOW), "yes");
    let ann = user("ann");
    one.set_grant(&ann, &ann, &app("x"), GrantState::Disabled, ("admin", None), NOW).await.unwrap();
    seen(one.number()).await;
    assert_eq!(ask(&two, "ann", "x", Service::Imap, NOW), "grant_disabled");
    one.set_self_switch(&ann, Service::Imap, true, NOW).await.unwrap();
    seen(one.number()).await;
    assert_eq!(ask(&two, "ann", "x", Service::Imap, NOW), "policy_service_off_by_user");
    seen(apply(&one, "[unit.\"/\"]\n").await.number).await;
    assert_eq!(ask(&two, "ann", "x", Service::Imap, NOW), "user_unknown");

    // A write of the second brings the first's unseen change in with it.
    apply(&two, POLICY).await;
    one.set_self_switch(&ann, Service::Imap, false, NOW).await.unwrap();
    assert_eq!(one.read(Directory::version), one.number());
    assert_eq!(ask(&one, "ann", "y", Service::Imap, NOW), "yes");
    stop.cancel();
    running.await.unwrap();
}

async fn a_process_far_behind_the_feed_reads_everything_again(ground: Ground) {
    let (one, two) = (open(&ground).await, open(&ground).await);
    apply(&one, POLICY).await;
    sqlx::query("DELETE FROM changes WHERE number < 5").execute(&one.pool).await.unwrap();
    two.catch_up().await.unwrap();
    assert_eq!(two.read(|directory| directory.counts().users), 2);
    assert_eq!(two.number(), one.number());
}

async fn whoever_hears_a_number_finds_it_in_the_snapshot(ground: Ground) {
    let store = open(&ground).await;
    apply(&store, POLICY).await;
    let (watching, mut changes) = (store.clone(), store.changes());
    let last = store.number() + 40;
    let watcher = tokio::spawn(async move {
        let mut heard = 0;
        while heard < last {
            changes.changed().await.unwrap();
            heard = *changes.borrow_and_update();
            let in_snapshot = watching.read(Directory::version);
            assert!(in_snapshot >= heard, "heard {heard}, found {in_snapshot}");
        }
    });
    let mut writers = Vec::new();
    for service in [Service::Imap, Service::Pop] {
        let store = store.clone();
        writers.push(tokio::spawn(async move {
            for turn in 0..20 {
                store.set_self_switch(&user("ann"), service, turn % 2 == 0, NOW).await.unwrap();
                let off = store.read(|directory| directory.version());
                assert!(off > 0);
                let word = ask(&store, "ann", "x", service, NOW);
                assert_eq!(
                    word == "policy_service_off_by_user",
                    turn % 2 == 0 && service == Service::Imap,
                    "{word}"
                );
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    watcher.await.unwrap();
    assert_eq!(store.number(), last);
}

async fn a_file_with_unknown_members_changes_nothing_unless_the_database_knows_them(ground: Ground) {
    let store = open(&ground).await;
    let number = apply(&store, POLICY).await.number;
    let text = "[unit.\"/\"]\nimap = \"off\"\n[group.g]\nmembers = [\"ann@example.com\", \"eve@example.com\"]\n";
    let error = store.apply(&file::parse(text).unwrap(), "config/policy.toml").await.unwrap_err();
    // Ann is the old file's, so she would be gone as well.
    let message = error.to_string();
    assert!(
        message.contains("config/policy.toml:4:12: group \"g\" has the member \"ann@example.com\""),
        "{message}"
    );
    assert!(
        message.contains("config/policy.toml:4:31: group \"g\" has the member \"eve@example.com\""),
        "{message}"
    );
    assert_eq!(error.blame(), Blame::Us);
    assert_eq!((store.number(), ask(&store, "ann", "x", Service::Imap, NOW)), (number, "yes"));

    let sql = "INSERT INTO users (address, unit, suspended, managed_by) VALUES ($1, '/', 0, 'scim')";
    for name in ["eve@example.com", "joe@example.com"] {
        sqlx::query(sql).bind(name).execute(&store.pool).await.unwrap();
    }
    let text = text.replace("\"ann@example.com\", ", "");
    apply(&store, &text).await;
    assert_eq!(ask(&store, "eve", "x", Service::Imap, NOW), "policy_service_off");
    // Rows of others stay when the file goes empty.
    apply(&store, "").await;
    assert_eq!(rows(&store, "SELECT count(*) FROM users").await, 2);
}

async fn a_first_login_makes_the_grant_and_a_later_token_renews_a_removed_one(ground: Ground) {
    let store = open(&ground).await;
    apply(&store, POLICY).await;
    let ann = user("ann");
    let key = GrantKey { user: ann.clone(), owner: ann.clone(), app: app("x") };
    let state = || store.read(|directory| directory.grant(&key.user, &key.owner, &key.app));
    store.note(&key, Some(NOW), NOW).await.unwrap();
    assert_eq!(state().unwrap().state, GrantState::Active);
    let noted = store.number();
    store.note(&key, Some(NOW), NOW).await.unwrap();
    assert_eq!(store.number(), noted, "a known grant changes nothing");

    let set = async |state| store.set_grant(&ann, &ann, &app("x"), state, ("admin", None), NOW).await.unwrap();
    let number = set(GrantState::Removed).await;
    let later = NOW + Duration::from_secs(1);
    assert_eq!(ask(&store, "ann", "x", Service::Imap, NOW), "grant_removed");
    assert_eq!(ask(&store, "ann", "x", Service::Imap, later), "yes");
    store.note(&key, Some(NOW), NOW).await.unwrap();
    assert_eq!(state().unwrap().state, GrantState::Removed, "an old token renews nothing");
    store.note(&key, Some(later), NOW).await.unwrap();
    assert_eq!(state(), Some(Grant { state: GrantState::Active, removed_at: Some(NOW) }));
    assert_eq!(ask(&store, "ann", "x", Service::Imap, NOW), "grant_removed", "old tokens stay dead");
    assert_eq!(ask(&store, "ann", "x", Service::Imap, later), "yes");

    assert_eq!(set(GrantState::Disabled).await, number, "the grant keeps its identity");
    store.note(&key, Some(later), NOW).await.unwrap();
    assert_eq!(state().unwrap().state, GrantState::Disabled, "a login does not enable it");
    let told = store.audit_recent(&AuditFilter { app: Some("x".into()), ..AuditFilter::default() }).await.unwrap();
    let told: Vec<_> = told.iter().map(|event| (&*event.event, event.detail.as_deref().unwrap())).collect();
    assert_eq!(
        told,
        [("grant.disabled", "by admin: active -> disabled"), ("grant.removed", "by admin: active -> removed")]
    );
}

async fn audit_rows_are_found_by_user_app_cause_and_reference(ground: Ground) {
    let store = open(&ground).await;
    let mut refused = AuditEvent::new(NOW, "login", "no");
    refused.reason = Some("policy_app".into());
    refused.reference = Reference::parse("7F3K2Q");
    refused.service = Some(Service::Imap);
    refused.session = Some(crate::model::SessionId(7));
    refused.user = Some("ann@example.com".into());
    refused.app = Some("x".into());
    refused.policy_version = Some(3);
    let mut admitted = AuditEvent::new(UnixTime(NOW.0 + 1), "login", "yes");
    admitted.user = Some("bob@example.com".into());
    admitted.app = Some("x".into());
    let mut password = AuditEvent::new(UnixTime(NOW.0 + 2), "legacy_password", "no");
    password.reason = Some("legacy_password".into());
    password.claimed = Some("ann@example.com".into());
    let all = [refused.clone(), admitted.clone(), password.clone()];
    for event in &all {
        store.audit(event.clone()).unwrap();
    }
    let some = |text: &str| Some(text.to_owned());
    let filter = AuditFilter::default;
    let table = [
        (filter(), vec![2, 1, 0]),
        (AuditFilter { limit: 2, ..filter() }, vec![2, 1]),
        (AuditFilter { user: some("ann@example.com"), ..filter() }, vec![2, 0]),
        (AuditFilter { app: some("x"), ..filter() }, vec![1, 0]),
        (AuditFilter { reason: some("policy_app"), ..filter() }, vec![0]),
        (AuditFilter { reference: Reference::parse("7f3k2q"), ..filter() }, vec![0]),
        (AuditFilter { event: some("login"), since: Some(UnixTime(NOW.0 + 1)), ..filter() }, vec![1]),
        (AuditFilter { user: some("' OR 1=1 --"), ..filter() }, vec![]),
    ];
    let log = AuditLog::open(&ground.settings()).await.unwrap();
    for (filter, expected) in table {
        let expected: Vec<_> = expected.into_iter().map(|at: usize| all[at].clone()).collect();
        assert_eq!(store.audit_recent(&filter).await.unwrap(), expected, "{filter:?}");
        assert_eq!(log.recent(&filter).await.unwrap(), expected, "{filter:?}");
    }
    let json = refused.to_json().to_string();
    assert!(json.contains("\"reference\":\"7F3K2Q\"") && json.contains("\"user\":\"ann@example.com\""), "{json}");
}

async fn an_audit_field_is_cut_and_holds_no_control_characters(ground: Ground) {
    let store = open(&ground).await;
    let mut event = AuditEvent::new(NOW, "login", "no");
    event.claimed = Some(format!("ann\r\n\u{1b}[2J{}", "ä".repeat(300)));
    event.detail = Some("plain".into());
    store.audit(event).unwrap();
    let event = store.audit_recent(&AuditFilter::default()).await.unwrap().remove(0);
    let claimed = event.claimed.unwrap();
    assert!(claimed.starts_with("ann\\r\\n\\u{1b}[2Jä") && claimed.len() <= 256, "{claimed}");
    assert_eq!(event.detail.as_deref(), Some("plain"));
}

async fn a_full_audit_queue_refuses_only_where_the_audit_is_required(ground: Ground) {
    let event = || AuditEvent::new(NOW, "login", "yes");
    let store = open(&ground).await;
    for _ in 0..10_000 {
        store.audit(event()).unwrap();
    }
    assert!(store.audit_is_full());
    assert_eq!(store.audit(event()), Err(AuditFull));
    store.flush().await.unwrap();
    assert!(!store.audit_is_full());
    store.audit(event()).unwrap();
    store.flush().await.unwrap();
    assert_eq!(rows(&store, "SELECT count(*) FROM audit").await, 10_001);

    let relaxed = Settings { audit_required: false, ..ground.settings() };
    let store = Store::open(&relaxed).await.unwrap();
    for _ in 0..10_003 {
        store.audit(event()).unwrap();
    }
    assert_eq!(store.audit_dropped(), 3);
}

async fn events_wait_for_a_locked_database_and_are_written_in_order_when_stopping(ground: Ground) {
    let store = open(&ground).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(store.clone().run(stop.clone()));
    let other = AuditLog::open(&ground.settings()).await.unwrap();
    let holding = other.lock().await;
    for number in 0..5 {
        store.audit(AuditEvent::new(UnixTime(number), "login", "yes")).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    holding.rollback().await.unwrap();
    running.await.unwrap();
    let times: Vec<i64> =
        other.recent(&AuditFilter::default()).await.unwrap().iter().map(|event| event.time.0).collect();
    assert_eq!(times, [4, 3, 2, 1, 0]);
}

#[tokio::test]
async fn a_wrong_database_is_told_with_file_cause_and_remedy_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("portcullis.db");
    let open = async || Store::open(&Settings::in_dir(dir.path())).await.unwrap_err();

    fs::write(
        &file,
        "This is a text file that somebody put here, longer than a header of one hundred bytes is. ".repeat(9),
    )
    .unwrap();
    let before = fs::read(&file).unwrap();
    let error = open().await;
    assert!(matches!(error, StoreError::NotADatabase { .. }), "{error}");
    assert!(error.to_string().contains("portcullis.db is not a database: move it away"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), before);

    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(matches!(open().await, StoreError::NotADatabase { .. }));
    fs::remove_dir(&file).unwrap();

    let foreign = AnyPool::connect(&format!("sqlite://{}?mode=rwc", file.display())).await.unwrap();
    sqlx::query("CREATE TABLE messages (id BIGINT)").execute(&foreign).await.unwrap();
    foreign.close().await;
    let error = open().await;
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    fs::remove_file(&file).unwrap();

    let store = Store::open(&Settings::in_dir(dir.path())).await.unwrap();
    let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
               VALUES (99, 'later', TRUE, x'00', 0)";
    sqlx::query(sql).execute(&store.pool).await.unwrap();
    store.close().await.unwrap();
    let error = open().await;
    assert!(matches!(error, StoreError::Newer { version: 99, .. }), "{error}");
    assert_eq!(error.blame(), Blame::Dependency);

    for url in
        ["mysql://gate:secret@db/x", "sqlite:", "sqlite::memory:", "sqlite:a?mode=ro", "postgres://gate:secret@:x/"]
    {
        let settings = Settings { url: Secret::new(url), ..Settings::in_dir(dir.path()) };
        let error = Store::open(&settings).await.unwrap_err();
        assert!(matches!(error, StoreError::Url { .. }), "{url}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let settings = Settings::in_dir("/proc/nowhere");
    let error = Store::open(&settings).await.unwrap_err();
    assert!(matches!(error, StoreError::File { doing: "create", .. }), "{error}");
}

async fn a_damaged_row_stops_the_start_and_says_which(ground: Ground) {
    let store = open(&ground).await;
    apply(&store, POLICY).await;
    sqlx::query("UPDATE units SET imap = 'perhaps'").execute(&store.pool).await.unwrap();
    store.close().await.unwrap();
    let error = Store::open(&ground.settings()).await.unwrap_err();
    assert!(error.to_string().contains("is damaged: a setting says \"perhaps\""), "{error}");
}

async fn a_long_write_of_our_own_is_no_silence_of_the_database(ground: Ground) {
    let store = open(&ground).await;
    let stop = CancellationToken::new();
    let run = tokio::spawn(Arc::clone(&store).run(stop.clone()));
    let write = feed::Write::begin(&store, "testing").await.unwrap();
    tokio::time::sleep(POLL * 5).await;
    assert!(store.silence() < POLL * 3, "{:?}", store.silence());
    drop(write);
    stop.cancel();
    run.await.unwrap();
}

async fn a_snapshot_that_cannot_follow_grows_old_whatever_else_the_database_answers(ground: Ground) {
    let store = open(&ground).await;
    apply(&store, POLICY).await;
    store.beat("here", NOW, 0, NOW).await.unwrap();
    let stop = CancellationToken::new();
    let run = tokio::spawn(Arc::clone(&store).run(stop.clone()));
    // Another process commits what this one cannot read.
    for sql in [
        "UPDATE units SET imap = 'perhaps' WHERE path = '/Sales'",
        "UPDATE counters SET number = number + 1 WHERE name = 'change'",
        "INSERT INTO changes (number, kind, subject, at) SELECT number, 'unit', '/Sales', 0 FROM counters \
         WHERE name = 'change'",
    ] {
        sqlx::query(sql).execute(&store.pool).await.unwrap();
    }
    let since = Instant::now();
    while since.elapsed() < POLL * 5 {
        store.beat("here", NOW, 0, NOW).await.unwrap();
        let from = std::net::Ipv4Addr::LOCALHOST.into();
        let service = Service::Imap;
        store.saw_password(&PasswordTry { claimed: None, program: None, from, service, how: "LOGIN", at: NOW });
        store.merge_legacy().await.unwrap();
        store.saw_app(seen::knock("ann", "mailer", 1));
        store.merge_seen().await.unwrap();
        tokio::time::sleep(POLL / 10).await;
    }
    assert!(store.silence() > POLL * 4, "{:?}", store.silence());
    assert!(!store.is_reachable());
    // Mended, it goes on.
    sqlx::query("UPDATE units SET imap = 'any' WHERE path = '/Sales'").execute(&store.pool).await.unwrap();
    tokio::time::sleep(POLL * 3).await;
    assert!(store.silence() < POLL * 3, "{:?}", store.silence());
    stop.cancel();
    run.await.unwrap();
}

async fn a_locked_database_is_an_error_that_says_so(ground: Ground) {
    let store = open(&ground).await;
    let other = AuditLog::open(&ground.settings()).await.unwrap();
    let _holding = other.lock().await;
    let error = store.set_self_switch(&user("ann"), Service::Imap, true, NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(
        error.to_string().contains("is locked by another process while changing a user's own switch"),
        "{error}"
    );
}

#[tokio::test]
async fn the_database_is_its_owners_alone_and_its_path_may_hold_any_letters() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("daten & ünfug 100% #1");
    let settings = Settings { url: Secret::new("sqlite:state [1].db"), ..Settings::in_dir(&data) };
    let store = Store::open(&settings).await.unwrap();
    apply(&store, POLICY).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join("state [1].db"))), (0o700, 0o600));
}

async fn two_processes_may_start_on_a_new_database_at_once(ground: Ground) {
    let settings = ground.settings();
    let (one, two, three) = tokio::join!(Store::open(&settings), Store::open(&settings), Store::open(&settings));
    for store in [one, two, three] {
        assert_eq!(store.unwrap().number(), 0);
    }
}

async fn many_changes_at_once_are_one_entry_of_the_feed_and_pages_lose_nobody(ground: Ground) {
    let (one, two) = (open(&ground).await, open(&ground).await);
    let mut text = String::from("[unit.\"/\"]\nimap = \"any\"\n");
    let mut members = Vec::new();
    for number in 0..21_000 {
        text.push_str(&format!("[user.\"u{number}@example.com\"]\nunit = \"/\"\n"));
        members.push(format!("\"u{number}@example.com\""));
    }
    text.push_str(&format!("[group.all]\nimap = []\nmembers = [{}]\n", members.join(",")));
    let applied = apply(&one, &text).await;
    assert_eq!((applied.added, applied.number), (42_002, 1));
    two.catch_up().await.unwrap();
    for store in [&one, &two] {
        assert_eq!(store.read(|directory| directory.counts().users), 21_000);
        for number in [0, 4_999, 5_000, 20_999] {
            assert_eq!(ask(store, &format!("u{number}"), "x", Service::Imap, NOW), "policy_app");
        }
    }
    assert!(apply(&two, &text).await.is_unchanged());
    // A few hundred: told row by row, read in lists of keys.
    let fewer = text.replace("[group.all]\nimap = []\n", "[group.all]\nimap = \"any\"\n").replacen(
        "unit = \"/\"\n",
        "unit = \"/\"\nsuspended = true\n",
        333,
    );
    let applied = apply(&one, &fewer).await;
    assert_eq!((applied.changed, applied.number), (334, 335));
    two.catch_up().await.unwrap();
    for store in [&one, &two] {
        assert_eq!(ask(store, "u332", "x", Service::Imap, NOW), "user_suspended");
        assert_eq!(ask(store, "u333", "x", Service::Imap, NOW), "yes");
    }
    assert_eq!(two.read(|directory| directory.unit_of(&user("u20999"))), Some(UnitPath::root()));
}

/// Slow in a debug build, so run by name: `cargo test --release -- --ignored a_million_users`.
async fn a_million_users_are_loaded_in_under_twenty_seconds(ground: Ground) {
    let store = open(&ground).await;
    let count = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)";
    for insert in [
        "INSERT INTO users (address, unit, suspended, managed_by) \
         SELECT 'person' || i || '@example.com', '/u' || (i % 10000), 0, 'scim' FROM n",
        "INSERT INTO group_members (address, name, managed_by) \
         SELECT 'person' || i || '@example.com', 'g' || (i % 1000), 'scim' FROM n",
        "INSERT INTO grants (address, owner, app, number, state, made_at, changed_at, changed_by) \
         SELECT 'person' || i || '@example.com', 'person' || i || '@example.com', 'x', i, 'active', 0, 0, '' FROM n",
    ] {
        let (columns, rows) = insert.split_once("SELECT").unwrap();
        let sql = format!("{columns} {count} SELECT{rows}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&store.pool).await.unwrap();
    }
    store.close().await.unwrap();
    let start = Instant::now();
    let store = open(&ground).await;
    let took = start.elapsed();
    println!("loaded in {took:?}");
    let counts = store.read(Directory::counts);
    assert_eq!((counts.users, counts.grants), (1_000_000, 1_000_000));
    assert!(took < Duration::from_secs(20), "{took:?}");
}

async fn the_audit_log_keeps_so_many_rows_and_the_oldest_go_first(ground: Ground) {
    let settings = Settings { audit_rows: 3, ..ground.settings() };
    let store = Store::open(&settings).await.unwrap();
    for second in 0..10 {
        store.audit(AuditEvent::new(UnixTime::from_secs(second), "login", "no")).unwrap();
    }
    store.flush().await.unwrap();
    store.trim(NOW).await.unwrap();
    let kept = store.audit_recent(&AuditFilter::default()).await.unwrap();
    let kept: Vec<_> = kept.iter().map(|event| (&*event.event, event.time.secs())).collect();
    assert_eq!(kept, [("audit.trimmed", 1_000_000), ("login", 9), ("login", 8)]);
    store.trim(NOW).await.unwrap();
    assert_eq!(store.audit_recent(&AuditFilter::default()).await.unwrap().len(), 3, "what fits stays");
}
