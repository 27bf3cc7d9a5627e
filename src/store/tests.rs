#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]
use super::*;
use crate::policy::file;

#[tokio::test]
async fn an_applied_file_is_in_the_snapshot_and_applying_it_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Settings::in_dir(dir.path())).await.unwrap();
    let text = "[unit.\"/\"]\nimap = \"any\"\n[user.\"ann@example.com\"]\nunit = \"/\"\n";
    let document = file::parse(text).unwrap();
    let applied = store.apply(&document, "policy.toml").await.unwrap();
    assert_eq!((applied.added, applied.number), (2, 2));
    assert_eq!(store.read(|directory| (directory.counts().users, directory.version())), (1, 2));
    let again = store.apply(&document, "policy.toml").await.unwrap();
    assert!(again.is_unchanged());
    assert_eq!(again.number, 2);
}
