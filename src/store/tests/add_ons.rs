//! An add-on's version grows with each new content, and never otherwise.

use std::time::Duration;

use super::{Ground, on_both, open};
use crate::store::AuditLog;

on_both! {
    an_add_on_gets_a_new_version_when_its_content_is_new;
    nodes_that_ask_at_once_agree;
    a_version_that_is_known_is_told_while_others_write;
}

async fn an_add_on_gets_a_new_version_when_its_content_is_new(ground: Ground) {
    let store = open(&ground).await;
    for (id, digest, version) in
        [("a", "1", 1), ("a", "1", 1), ("a", "2", 2), ("b", "2", 1), ("a", "2", 2), ("a", "1", 3), ("b", "2", 1)]
    {
        assert_eq!(store.add_on_version(id, digest).await.unwrap(), version, "{id} {digest}");
    }
    let beside = AuditLog::open(&ground.settings()).await.unwrap();
    assert_eq!(beside.add_on_version("a", "1").await.unwrap(), 3);
    assert_eq!(beside.add_on_version("a", "3").await.unwrap(), 4);
    assert_eq!(store.add_on_version("a", "3").await.unwrap(), 4);
}

async fn nodes_that_ask_at_once_agree(ground: Ground) {
    let (one, two) = (open(&ground).await, AuditLog::open(&ground.settings()).await.unwrap());
    for digest in ["1", "2", "3"] {
        let (here, there) = tokio::join!(one.add_on_version("a", digest), two.add_on_version("a", digest));
        assert_eq!(here.unwrap(), there.unwrap(), "{digest}");
    }
    assert_eq!(one.add_on_version("a", "3").await.unwrap(), 3);
}

async fn a_version_that_is_known_is_told_while_others_write(ground: Ground) {
    let store = open(&ground).await;
    assert_eq!(store.add_on_version("a", "1").await.unwrap(), 1);
    // Whoever asks for a page must not wait for a large policy, nor hold one up.
    let _turn = store.turn.lock().await;
    let beside = AuditLog::open(&ground.settings()).await.unwrap();
    let _lock = beside.lock().await;
    let asked = tokio::time::timeout(Duration::from_secs(10), store.add_on_version("a", "1")).await;
    assert_eq!(asked.expect("it waits for its turn").unwrap(), 1);
}
