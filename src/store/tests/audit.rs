//! The audit log's chain: what was done to it shows, what retention does to it does not.

use super::{Ground, NOW, Store, on_both, open};
use crate::model::UnixTime;
use crate::store::{AuditEvent, AuditFilter, AuditLog, Fault, Settings, Verified, audit::AuditFull};
use std::{sync::Arc, time::Duration};

on_both! {
    a_log_that_nobody_touched_is_in_order;
    whatever_is_done_to_a_row_shows_and_names_it;
    retention_by_age_leaves_a_log_that_is_in_order;
    a_row_that_was_removed_before_retention_came_by_still_shows;
    rows_removed_without_retention_saying_so_show;
    a_log_written_anew_is_not_the_one_that_was_noted;
    an_older_log_goes_on_as_a_chain;
    the_whole_log_is_exported_in_order_page_by_page;
    two_writers_make_one_chain;
    a_batch_whose_commit_was_not_answered_is_written_once;
}

fn event(second: i64) -> AuditEvent {
    let mut event = AuditEvent::new(UnixTime::from_secs(second), "login", "yes");
    event.user = Some(format!("ann{second}@example.com"));
    event.session = Some(crate::model::SessionId(7));
    event.policy_version = Some(3);
    event
}

async fn write(store: &Store, seconds: std::ops::Range<i64>) -> Result<(), AuditFull> {
    for second in seconds {
        store.audit(event(second))?;
    }
    store.flush().await.unwrap();
    Ok(())
}

async fn verify(ground: &Ground) -> Verified {
    AuditLog::open(&ground.settings()).await.unwrap().verify(None).await.unwrap()
}

async fn sql(store: &Store, sql: &'static str) {
    let done = sqlx::query(sql).execute(&store.pool).await.unwrap();
    assert!(done.rows_affected() > 0, "{sql}");
}

async fn a_log_that_nobody_touched_is_in_order(ground: Ground) {
    let empty = {
        let store = open(&ground).await;
        let found = verify(&ground).await;
        store.close().await.unwrap();
        found
    };
    assert_eq!((empty.is_in_order(), empty.rows, empty.last), (true, 0, 0));
    let store = open(&ground).await;
    // All sizes of statements, and odd contents.
    write(&store, 0..256 + 64 + 16 + 4 + 1).await.unwrap();
    let mut odd = AuditEvent::new(NOW, "login\u{0}", "");
    odd.detail = Some("ä\r\n\u{1F512} 'quoted' \\".into());
    odd.claimed = Some(String::new());
    odd.session = Some(crate::model::SessionId(u64::MAX));
    store.audit(odd).unwrap();
    store.flush().await.unwrap();
    store.set_self_switch(&super::user("ann"), crate::model::Service::Imap, true, NOW).await.unwrap();
    let found = verify(&ground).await;
    assert_eq!((found.faults.as_slice(), found.rows, found.last, found.hash.len()), (&[][..], 343, 343, 64));
}

/// Each is done to a log of its own of ten rows.
async fn whatever_is_done_to_a_row_shows_and_names_it(ground: Ground) {
    let changed = |number| vec![Fault::Changed { number }];
    let missing = |first, last| vec![Fault::Missing { first, last }];
    let table: [(&'static str, &[&'static str], Vec<Fault>); 11] = [
        ("a text changed", &["UPDATE audit SET outcome = 'no' WHERE number = 4"], changed(4)),
        ("a number changed", &["UPDATE audit SET time = time + 1 WHERE number = 10"], changed(10)),
        ("a field emptied", &["UPDATE audit SET address = NULL WHERE number = 1"], changed(1)),
        ("a field filled", &["UPDATE audit SET detail = '' WHERE number = 5"], changed(5)),
        (
            "moved to another column",
            &["UPDATE audit SET owner = address, address = NULL WHERE number = 5"],
            changed(5),
        ),
        ("a hash taken away", &["UPDATE audit SET hash = NULL WHERE number = 10"], changed(10)),
        ("a row removed", &["DELETE FROM audit WHERE number = 6"], missing(6, 6)),
        ("the last rows removed", &["DELETE FROM audit WHERE number > 7"], missing(8, 10)),
        ("all rows removed", &["DELETE FROM audit"], missing(1, 10)),
        (
            "two rows swapped",
            &[
                "UPDATE audit SET number = 99 WHERE number = 3",
                "UPDATE audit SET number = 3 WHERE number = 4",
                "UPDATE audit SET number = 4 WHERE number = 99",
            ],
            vec![Fault::Changed { number: 3 }, Fault::Changed { number: 4 }, Fault::Changed { number: 5 }],
        ),
        (
            "a row put in at the end",
            &["INSERT INTO audit (number, time, event, outcome, hash) VALUES (11, 0, 'login', 'yes', 'x')"],
            vec![Fault::Stray { number: 11 }],
        ),
    ];
    let store = open(&ground).await;
    for (name, statements, expected) in table {
        sqlx::query("DELETE FROM audit").execute(&store.pool).await.unwrap();
        sqlx::query("UPDATE counters SET number = 0, hash = '' WHERE name = 'audit'")
            .execute(&store.pool)
            .await
            .unwrap();
        write(&store, 0..10).await.unwrap();
        assert!(verify(&ground).await.is_in_order());
        for statement in statements {
            sql(&store, statement).await;
        }
        let found = verify(&ground).await;
        assert_eq!((found.faults.clone(), found.is_in_order()), (expected, false), "{name}");
    }
}

async fn retention_by_age_leaves_a_log_that_is_in_order(ground: Ground) {
    let settings = Settings { audit_days: 30, ..ground.settings() };
    let store = Store::open(&settings).await.unwrap();
    let day = 24 * 3600;
    for number in 0..40 {
        store.audit(event(number * day)).unwrap();
    }
    store.flush().await.unwrap();
    let now = UnixTime::from_secs(40 * day);
    store.trim(now).await.unwrap();
    let found = verify(&ground).await;
    // Days 10 to 39, and the row that tells.
    assert_eq!((found.faults.as_slice(), found.start, found.rows), (&[][..], 10, 31));
    let newest = store.audit_recent(&AuditFilter { limit: 1, ..AuditFilter::default() }).await.unwrap();
    let detail = newest[0].detail.clone().unwrap();
    assert!(
        detail.starts_with("by retention: 10 rows up to number 10 removed; the last one's hash is "),
        "{detail}"
    );

    store.trim(now).await.unwrap();
    assert_eq!(verify(&ground).await.last, 41, "nothing to do, nothing told");
    // Everything is old: only the row that tells is left, and the chain goes on.
    store.trim(now + Duration::from_secs(100 * 24 * 3600)).await.unwrap();
    write(&store, 0..3).await.unwrap();
    let found = verify(&ground).await;
    assert_eq!((found.faults.as_slice(), found.start, found.rows), (&[][..], 41, 4));
}

async fn a_row_that_was_removed_before_retention_came_by_still_shows(ground: Ground) {
    let settings = Settings { audit_rows: 5, ..ground.settings() };
    let store = Store::open(&settings).await.unwrap();
    write(&store, 0..10).await.unwrap();
    // Of the rows that retention keeps, and the last of those it removes.
    sql(&store, "DELETE FROM audit WHERE number = 8 OR number = 6").await;
    store.trim(NOW).await.unwrap();
    let found = verify(&ground).await;
    assert_eq!(
        found.faults,
        [Fault::Missing { first: 6, last: 6 }, Fault::Missing { first: 8, last: 8 }],
        "start {}",
        found.start
    );
}

async fn rows_removed_without_retention_saying_so_show(ground: Ground) {
    let store = open(&ground).await;
    write(&store, 0..10).await.unwrap();
    sql(&store, "UPDATE counters SET number = 4, hash = (SELECT hash FROM audit WHERE number = 4) WHERE name = 'audit_start'")
        .await;
    assert_eq!(verify(&ground).await.faults[0], Fault::Stray { number: 1 });
    sql(&store, "DELETE FROM audit WHERE number <= 4").await;
    assert_eq!(verify(&ground).await.faults, [Fault::BeginsLate { last: 4 }]);
}

async fn a_log_written_anew_is_not_the_one_that_was_noted(ground: Ground) {
    let store = open(&ground).await;
    write(&store, 0..10).await.unwrap();
    let noted = verify(&ground).await;
    let log = AuditLog::open(&ground.settings()).await.unwrap();
    write(&store, 10..12).await.unwrap();
    assert!(log.verify(Some((noted.last, &noted.hash))).await.unwrap().is_in_order());
    sql(&store, "DELETE FROM audit").await;
    sql(&store, "UPDATE counters SET number = 0, hash = '' WHERE name = 'audit'").await;
    let short = log.verify(Some((noted.last, &noted.hash))).await.unwrap();
    assert_eq!(short.faults, [Fault::Missing { first: 1, last: 10 }]);
    write(&store, 1..13).await.unwrap();
    assert!(verify(&ground).await.is_in_order(), "by itself it is a chain");
    let found = log.verify(Some((noted.last, &noted.hash))).await.unwrap();
    assert_eq!(found.faults, [Fault::NotAsNoted { number: 10 }]);
}

async fn an_older_log_goes_on_as_a_chain(ground: Ground) {
    let store = open(&ground).await;
    write(&store, 0..5).await.unwrap();
    // As the migration leaves a log that was written before it.
    sql(&store, "UPDATE audit SET hash = NULL").await;
    sql(&store, "UPDATE counters SET number = 5, hash = '' WHERE name = 'audit_start'").await;
    sql(&store, "UPDATE counters SET hash = '' WHERE name = 'audit'").await;
    write(&store, 5..8).await.unwrap();
    let found = verify(&ground).await;
    assert_eq!((found.faults.as_slice(), found.unchained, found.rows), (&[][..], 5, 3));
    let settings = Settings { audit_rows: 6, ..ground.settings() };
    let trimming = Store::open(&settings).await.unwrap();
    trimming.trim(NOW).await.unwrap();
    let found = verify(&ground).await;
    assert_eq!((found.faults.as_slice(), found.unchained, found.rows), (&[][..], 2, 4));
}

async fn the_whole_log_is_exported_in_order_page_by_page(ground: Ground) {
    let store = open(&ground).await;
    write(&store, 0..2_345).await.unwrap();
    let log = AuditLog::open(&ground.settings()).await.unwrap();
    let (mut numbers, mut hashes) = (Vec::new(), std::collections::BTreeSet::new());
    loop {
        let page = log.page(&AuditFilter::default(), numbers.last().copied().unwrap_or(0)).await.unwrap();
        assert!(page.len() <= 1_000);
        if page.is_empty() {
            break;
        }
        for row in page {
            assert_eq!(row.event, event(row.number - 1));
            assert_eq!(row.to_json()["number"], row.number);
            numbers.push(row.number);
            hashes.insert(row.hash.unwrap());
        }
    }
    assert_eq!((numbers, hashes.len()), ((1..=2_345).collect(), 2_345));
    let filter = AuditFilter { user: Some("ann2000@example.com".into()), ..AuditFilter::default() };
    let found = log.page(&filter, 0).await.unwrap();
    assert_eq!((found.len(), found[0].number), (1, 2_001));
    assert!(log.page(&filter, 2_001).await.unwrap().is_empty());
}

async fn two_writers_make_one_chain(ground: Ground) {
    let (one, two) = (open(&ground).await, open(&ground).await);
    let write_some = |store: Arc<Store>, from: i64| async move {
        for start in from..from + 20 {
            write(&store, start * 3..start * 3 + 3).await.unwrap();
            let on = start % 2 == 0;
            store.set_self_switch(&super::user("ann"), crate::model::Service::Imap, on, NOW).await.unwrap();
        }
    };
    let (first, second) = (tokio::spawn(write_some(one.clone(), 0)), tokio::spawn(write_some(two.clone(), 1_000)));
    first.await.unwrap();
    second.await.unwrap();
    let found = verify(&ground).await;
    assert_eq!(found.faults, []);
    assert!(found.rows >= 120, "{}", found.rows);
    // Numbers of changes are without holes, whoever made them.
    let sql = "SELECT count(*) - max(number) FROM changes";
    assert_eq!(super::rows(&one, sql).await, 0);
    one.catch_up().await.unwrap();
    two.catch_up().await.unwrap();
    assert_eq!(one.number(), two.number());
}

async fn a_batch_whose_commit_was_not_answered_is_written_once(ground: Ground) {
    let store = open(&ground).await;
    write(&store, 0..3).await.unwrap();
    let kept = verify(&ground).await;
    // The batch was kept, and its answer lost: the events wait still.
    for second in 0..3 {
        store.audit(event(second)).unwrap();
    }
    store.audit(event(3)).unwrap();
    store.doubt_last_batch(3, kept.last, &kept.hash).await;
    store.flush().await.unwrap();
    assert_eq!(verify(&ground).await.last, 4);
    // The batch was lost.
    store.audit(event(4)).unwrap();
    store.doubt_last_batch(1, 5, &kept.hash).await;
    store.flush().await.unwrap();
    let found = verify(&ground).await;
    assert_eq!((found.last, found.faults), (5, vec![]));
    let seconds = store.audit_recent(&AuditFilter::default()).await.unwrap();
    assert_eq!(seconds.iter().map(|event| event.time.secs()).collect::<Vec<_>>(), [4, 3, 2, 1, 0]);
}
