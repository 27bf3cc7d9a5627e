//! What issuers say, kept.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]

use std::sync::Arc;

use super::*;
use crate::store::AuditFilter;
use crate::store::tests::ground::{Ground, on_both};

on_both! {
    an_event_is_obeyed_once_on_all_nodes_and_in_the_audit_log;
    events_come_to_the_same_end_in_whatever_order_they_arrive;
    a_disabled_account_opens_again_and_a_purged_one_never;
    what_expires_or_is_too_much_leaves_its_moment_behind_for_everybody;
}

const NOW: UnixTime = UnixTime::from_secs(10_000_000);
const ISSUER: &str = "https://id.example.com";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn at(secs: i64) -> UnixTime {
    UnixTime::from_secs(NOW.secs() + secs)
}

fn order(what: What, whose: Whose, secs: i64) -> Order {
    Order { what, whose, at: at(secs), event: "session-revoked" }
}

fn ann() -> Whose {
    Whose::Subject("ann".into())
}

async fn open(ground: &Ground) -> Arc<Store> {
    Store::open(&Settings { cutoffs: 3, ..ground.settings() }).await.unwrap()
}

async fn obey(store: &Store, id: &str, orders: &[Order], now: UnixTime) -> Noted {
    let by = OrderedBy {
        issuer: ISSUER.into(),
        id: id.into(),
        key: "k1".into(),
        remember_until: now + Duration::from_secs(3600),
        notes: Vec::new(),
    };
    store.obey(&by, orders, now).await.unwrap()
}

/// `kind subject until account`, in order.
async fn rows(store: &Store) -> Vec<String> {
    let rows = store.cutoffs(None, 100).await.unwrap();
    let until = |row: &CutoffRow| row.cutoff.issued_until.map(|until| (until.0 - NOW.0) / 1000);
    let told = rows.iter().map(|row| {
        let whose = &row.key.whose;
        let until = until(row).map_or("-".into(), |until| until.to_string());
        format!("{} {} {until} {}", whose.word(), whose.text(), row.cutoff.account.word())
    });
    told.collect()
}

async fn an_event_is_obeyed_once_on_all_nodes_and_in_the_audit_log(ground: Ground) {
    let (one, two) = (open(&ground).await, open(&ground).await);
    let address = Whose::Address(UserId::parse("ann@example.com").unwrap());
    let orders = [order(What::Revoke, ann(), 0), order(What::Revoke, address, 0)];
    let number = one.number();
    assert_eq!(obey(&one, "e1", &orders, NOW).await, Noted::Changed(2));
    assert_eq!(obey(&two, "e1", &orders, NOW).await, Noted::Repeated);
    assert_eq!(obey(&one, "e2", &orders, NOW).await, Noted::Changed(0), "nothing new");
    assert_eq!(one.number(), number + 2);
    two.catch_up().await.unwrap();
    assert_eq!(one.read(|directory| directory.cutoff_count()), 2);
    assert_eq!(two.read(|directory| directory.cutoff_count()), 2);

    let filter = AuditFilter { user: Some("ann@example.com".into()), ..AuditFilter::default() };
    let told = one.audit_recent(&filter).await.unwrap();
    assert_eq!((told.len(), &*told[1].event, &*told[1].outcome), (2, "identity.event", "done"));
    assert_eq!((told[1].reason.as_deref(), told[1].kid.as_deref()), (Some("session-revoked"), Some("k1")));
    let detail = "address \"ann@example.com\" at 1970-04-26T17:46:40Z; event \"e1\"";
    assert_eq!(told[1].detail.as_deref(), Some(detail));
    one.close().await.unwrap();
    let again = open(&ground).await;
    assert_eq!(again.read(|directory| directory.cutoff_count()), 2, "after a restart");
    assert_eq!(obey(&again, "e1", &orders, NOW).await, Noted::Repeated);
}

async fn events_come_to_the_same_end_in_whatever_order_they_arrive(ground: Ground) {
    let store = open(&ground).await;
    let (disable, enable, revoke) = ((What::Disable, 10), (What::Enable, 20), (What::Revoke, 5));
    let orders = [[disable, enable, revoke], [enable, disable, revoke], [revoke, enable, disable]];
    for (row, orders) in orders.into_iter().enumerate() {
        for (column, (what, secs)) in orders.into_iter().enumerate() {
            let order = order(what, Whose::Subject(row.to_string()), secs);
            obey(&store, &format!("{row} {column}"), &[order], NOW).await;
        }
    }
    assert_eq!(rows(&store).await, ["subject 0 10 open", "subject 1 10 open", "subject 2 10 open"]);
}

async fn a_disabled_account_opens_again_and_a_purged_one_never(ground: Ground) {
    let store = open(&ground).await;
    let mut number = 0;
    for (what, secs, expected) in [
        (What::Enable, 0, "subject ann - open"),
        (What::Disable, 10, "subject ann 10 disabled"),
        (What::Enable, 9, "subject ann 10 disabled"),
        (What::Revoke, 11, "subject ann 11 disabled"),
        (What::Enable, 12, "subject ann 11 open"),
        (What::Disable, 11, "subject ann 11 open"),
        (What::Purge, 20, "subject ann 20 purged"),
        (What::Enable, 30, "subject ann 20 purged"),
        (What::Disable, 30, "subject ann 30 purged"),
    ] {
        number += 1;
        obey(&store, &number.to_string(), &[order(what, ann(), secs)], NOW).await;
        assert_eq!(rows(&store).await, [expected], "{what:?} at {secs}");
        let refuses = !expected.ends_with("- open");
        assert_eq!(store.read(|directory| directory.cutoff_count()), usize::from(refuses), "{what:?} at {secs}");
    }
    let row = store.cutoffs(None, 1).await.unwrap().remove(0);
    assert_eq!(row.expires_at, None);
    assert!(store.forget_cutoff(&row.key, "root@example.com", NOW).await.unwrap());
    assert!(!store.forget_cutoff(&row.key, "root@example.com", NOW).await.unwrap());
    assert_eq!(store.read(|directory| directory.cutoff_count()), 0);
    let told = store.audit_recent(&AuditFilter::default()).await.unwrap();
    assert_eq!(told[0].detail.as_deref(), Some("by root@example.com: subject \"ann\""));
}

async fn what_expires_or_is_too_much_leaves_its_moment_behind_for_everybody(ground: Ground) {
    let store = open(&ground).await;
    let session = |name: &str| Whose::Session(name.into());
    obey(&store, "1", &[order(What::Revoke, session("a"), -5)], NOW).await;
    assert_eq!(store.cutoffs(None, 9).await.unwrap()[0].expires_at, Some(NOW + 30 * DAY));
    let later = NOW + 30 * DAY;
    let soon = later - Duration::from_millis(1);
    obey(&store, "2", &[order(What::Revoke, session("b"), 7)], soon).await;
    assert_eq!(rows(&store).await, ["session a -5 open", "session b 7 open"]);
    obey(&store, "3", &[order(What::Revoke, session("c"), 6)], later).await;
    assert_eq!(rows(&store).await, ["everybody  -5 open", "session b 7 open", "session c 6 open"]);
    assert_eq!(store.read(|directory| directory.cutoff_count()), 3);

    // Three fit; the one that would expire first goes.
    obey(&store, "4", &[order(What::Revoke, session("d"), 8)], later).await;
    assert_eq!(rows(&store).await, ["everybody  7 open", "session c 6 open", "session d 8 open"]);
    assert_eq!(store.read(|directory| directory.cutoff_count()), 3);

    // Closed accounts are never cleared away: past the limit the issuer is told to come again.
    let disable = |name: &str| order(What::Disable, Whose::Subject(name.into()), 0);
    assert_eq!(obey(&store, "5", &[disable("e"), disable("f")], later).await, Noted::Changed(2));
    let full = ["everybody  8 open", "subject e 0 disabled", "subject f 0 disabled"];
    assert_eq!(rows(&store).await, full);
    assert_eq!(obey(&store, "6", &[disable("g")], later).await, Noted::Full);
    assert_eq!(rows(&store).await, full);
    assert_eq!(store.read(|directory| directory.cutoff_count()), 3);
    let reopened = open(&ground).await;
    assert_eq!(reopened.read(|directory| directory.cutoff_count()), 3);
}

#[test]
fn a_feed_entry_names_any_subject_there_may_be() {
    for text in ["a b", "[\"x\"]", "\"", "ä\n", ""] {
        for whose in [Whose::Subject(text.into()), Whose::Session(text.into()), Whose::Everybody] {
            let key = CutoffKey { issuer: "https://id.example.com/a b".into(), whose };
            assert_eq!(from_subject(&subject(&key)), Some(key));
        }
    }
    for wrong in ["", "{}", "[\"a\",\"subject\"]", "[\"a\",\"nobody\",\"b\"]", "[\"a\",\"address\",\"b\"]"] {
        assert_eq!(from_subject(wrong), None, "{wrong}");
    }
}
