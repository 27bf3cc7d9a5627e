//! What is kept of apps and of password attempts has bounds, and nothing is counted twice or lost.

use super::{Ground, NOW, Store, apply, on_both, open, rows};
use crate::model::{ClientId, Service, UnixTime};
use crate::store::{AppSeen, Knock, LegacyFilter, PasswordTry, SeenFilter};
use crate::token::{Fingerprint, Identity, Rules, from_introspection};
use std::time::Duration;

on_both! {
    only_so_many_apps_are_kept_and_whichever_was_not_used_for_longest_goes_first;
    a_flood_of_apps_between_two_merges_is_bounded_and_knocks_of_known_ones_still_count;
    what_could_not_be_written_waits_and_is_counted_once;
    past_the_bound_users_are_counted_as_at_least;
    an_app_keeps_the_names_of_so_many_programs;
    made_up_names_make_room_for_one_another_before_known_users_do;
}

fn who(user: &str, app: &str) -> Identity {
    let rules = Rules::new("https://id.test", ["portcullis"]);
    let answer = format!(
        r#"{{"active":true,"iss":"https://id.test","aud":"portcullis","email":"{user}@example.com","client_id":"{app}","exp":2000000}}"#
    );
    from_introspection(answer.as_bytes(), &rules, Fingerprint::of(user), NOW).unwrap()
}

pub(super) fn knock(user: &str, app: &str, second: i64) -> Knock {
    let at = UnixTime::from_secs(second);
    Knock { who: who(user, app), service: Service::Imap, program: None, refused: None, at }
}

async fn seen(store: &Store, app: &str) -> AppSeen {
    let filter = SeenFilter { app: Some(ClientId::parse(app).unwrap()), ..SeenFilter::default() };
    store.apps_seen(&filter).await.unwrap().pop().unwrap_or_else(|| panic!("{app} was not seen"))
}

async fn only_so_many_apps_are_kept_and_whichever_was_not_used_for_longest_goes_first(ground: Ground) {
    let store = open(&ground).await;
    for wave in 0..3 {
        for number in 0..700 {
            store.saw_app(knock("ann", &format!("app-{wave}-{number}"), wave * 1_000 + number));
        }
        store.merge_seen().await.unwrap();
    }
    assert_eq!(rows(&store, "SELECT count(*) FROM apps_seen").await, 2_000);
    assert_eq!(rows(&store, "SELECT count(*) FROM app_users_seen").await, 2_000);
    assert_eq!(rows(&store, "SELECT min(last_seen) FROM apps_seen").await, 100_000, "the first hundred are gone");
}

async fn a_flood_of_apps_between_two_merges_is_bounded_and_knocks_of_known_ones_still_count(ground: Ground) {
    let store = open(&ground).await;
    store.saw_app(knock("ann", "mailer", 1));
    for number in 0..3_000 {
        store.saw_app(knock("ann", &format!("flood-{number}"), 2));
    }
    for _ in 0..100 {
        store.saw_app(knock("ann", "mailer", 3));
    }
    assert_eq!(seen(&store, "mailer").await.imap.accepted, 101);
    assert_eq!(rows(&store, "SELECT count(*) FROM apps_seen").await, 1_000);
}

async fn what_could_not_be_written_waits_and_is_counted_once(ground: Ground) {
    let store = open(&ground).await;
    let sql = async |text: &'static str| {
        sqlx::query(text).execute(&store.pool).await.unwrap();
    };
    let attempt = PasswordTry {
        claimed: Some("ann@example.com"),
        program: None,
        from: [192, 0, 2, 1].into(),
        service: Service::Pop,
        how: "USER",
        at: NOW,
    };
    store.saw_app(knock("ann", "mailer", 5));
    store.saw_password(&attempt);
    sql("ALTER TABLE app_users_seen RENAME TO away").await;
    sql("ALTER TABLE legacy_sign_ins RENAME TO away_too").await;
    assert!(store.merge_seen().await.is_err());
    assert!(store.merge_legacy().await.is_err());
    store.saw_app(knock("bob", "mailer", 7));
    store.saw_password(&attempt);
    sql("ALTER TABLE away RENAME TO app_users_seen").await;
    sql("ALTER TABLE away_too RENAME TO legacy_sign_ins").await;
    for _ in 0..2 {
        let mailer = seen(&store, "mailer").await;
        assert_eq!((mailer.imap.accepted, mailer.users), (2, 2));
        assert_eq!((mailer.first.secs(), mailer.last.secs()), (5, 7));
        let report = store.legacy(&LegacyFilter::default()).await.unwrap();
        assert_eq!((report.len(), report[0].attempts), (1, 2));
    }
}

async fn past_the_bound_users_are_counted_as_at_least(ground: Ground) {
    let store = open(&ground).await;
    store.saw_app(knock("ann", "mailer", 1));
    assert!(!seen(&store, "mailer").await.users_at_least);
    sqlx::query("UPDATE apps_seen SET users = 10000").execute(&store.pool).await.unwrap();
    store.saw_app(knock("bob", "mailer", 2));
    let mailer = seen(&store, "mailer").await;
    assert_eq!((mailer.users, mailer.users_at_least, mailer.imap.accepted), (10_000, true, 2));
    assert_eq!(mailer.some_users, ["ann@example.com"]);
}

async fn an_app_keeps_the_names_of_so_many_programs(ground: Ground) {
    let store = open(&ground).await;
    for number in 0..50 {
        let program = Some(format!("Program {number}\r\n{}", "x".repeat(1_000)).into());
        store.saw_app(Knock { program, ..knock("ann", "mailer", number) });
        if number % 10 == 0 {
            store.merge_seen().await.unwrap();
        }
    }
    let programs = seen(&store, "mailer").await.programs;
    assert_eq!(programs.len(), 20);
    assert!(programs.iter().all(|name| name.len() <= 100 && !name.contains('\n')), "{programs:?}");
}

async fn made_up_names_make_room_for_one_another_before_known_users_do(ground: Ground) {
    let store = open(&ground).await;
    apply(&store, super::POLICY).await;
    let attempt = |claimed: &'static str, at| PasswordTry {
        claimed: Some(claimed),
        program: None,
        from: [192, 0, 2, 1].into(),
        service: Service::Imap,
        how: "LOGIN",
        at,
    };
    store.saw_password(&attempt("ann@example.com", NOW - Duration::from_secs(900)));
    store.merge_legacy().await.unwrap();
    sqlx::query(
        "INSERT INTO legacy_sign_ins (claimed, program, peer, service, how, attempts, first_seen, last_seen) \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10500) \
         SELECT 'made-up-' || i, '', '', 'imap', 'LOGIN', 1, 1000000000 + i, 1000000000 + i FROM n",
    )
    .execute(&store.pool)
    .await
    .unwrap();
    store.saw_password(&attempt("bob@example.com", NOW));
    let report = store.legacy(&LegacyFilter { limit: 50_000, ..LegacyFilter::default() }).await.unwrap();
    let named = |wanted: &str| report.iter().filter(|row| row.claimed.starts_with(wanted)).count();
    assert_eq!((named("made-up-"), named("ann@"), named("bob@")), (10_000, 1, 1));
    let oldest = report.iter().filter(|row| row.claimed.starts_with("made-up-")).map(|row| row.last.0).min();
    assert_eq!(oldest, Some(1_000_000_501), "the longest unused are gone");
}
