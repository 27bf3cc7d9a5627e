use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::maildir::seam::Call;

async fn names(world: &World) -> Vec<String> {
    world.mail.list().await.unwrap().into_iter().map(|f| f.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_mailbox_has_the_folders_mail_programs_look_for() {
    let world = World::new().await;
    let list = world.mail.list().await.unwrap();
    let shown: Vec<_> =
        list.iter().map(|f| (f.name.as_str(), f.special_uses.first().map(|u| u.attribute()))).collect();
    let expected = [
        ("INBOX", None),
        ("Archive", Some("\\Archive")),
        ("Drafts", Some("\\Drafts")),
        ("Junk", Some("\\Junk")),
        ("Sent", Some("\\Sent")),
        ("Trash", Some("\\Trash")),
    ];
    assert_eq!(shown, expected);
    assert!(list.iter().all(|f| f.subscribed && f.selectable && !f.has_children));
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_other_programs_are_shown_and_opened() {
    let world = World::new().await;
    for dir in [".Entw&APw-rfe", ".Straße", ".Deleted Items", ".A.B", ".no-folder", ".bad..name"] {
        let sub = if dir == ".no-folder" { "x" } else { "cur" };
        fs::create_dir_all(world.home().join(dir).join(sub)).unwrap();
    }
    std::os::unix::fs::symlink("/etc", world.home().join(".Link")).unwrap();
    let list = names(&world).await;
    for name in ["Entwürfe", "Straße", "Deleted Items", "A", "A/B"] {
        assert!(list.iter().any(|n| n == name), "{name}: {list:?}");
    }
    assert_eq!(list.len(), 11, "{list:?}");
    fs::write(world.home().join(".Straße/cur/1.x:2,S"), "x").unwrap();
    assert_eq!(world.mail.status("Straße").await.unwrap().messages, 1);
    assert!(matches!(world.mail.view("Link", Mode::ReadOnly).await, Err(MailError::NoSuchFolder { .. })));
    assert!(matches!(world.mail.view("A", Mode::ReadOnly).await, Err(MailError::NoSuchFolder { .. })));
    let uses = world.mail.list().await.unwrap();
    let trash: Vec<_> = uses.iter().filter(|f| f.special_uses == [SpecialUse::Trash]).map(|f| &f.name).collect();
    assert_eq!(trash, ["Trash"], "one folder a use");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_made_again_has_another_uidvalidity() {
    let world = World::new().await;
    world.mail.create("v1.2/ä/").await.unwrap();
    assert_eq!(world.mail.create("v1.2/ä").await, Err(MailError::AlreadyExists { name: "v1.2/ä".into() }));
    assert!(matches!(world.mail.create("inbox").await, Err(MailError::AlreadyExists { .. })));
    let first = world.append("v1.2/ä", b"x", Flags::NONE, &[]).await.0;
    let mut view = world.mail.view("v1.2/ä", Mode::ReadWrite).await.unwrap();
    world.mail.delete("v1.2/ä").await.unwrap();
    assert_eq!((news(&mut view).await, view.is_gone()), (vec![Update::Expunged(1)], true));
    assert_eq!(view.poll().await, Err(MailError::FolderGone));
    assert!(matches!(world.mail.delete("v1.2/ä").await, Err(MailError::NoSuchFolder { .. })));
    world.mail.create("v1.2/ä").await.unwrap();
    assert!(world.append("v1.2/ä", b"x", Flags::NONE, &[]).await.0 > first);
    assert!(matches!(world.mail.delete("INBOX").await, Err(MailError::InvalidName { .. })));
    let left = fs::read_dir(world.home()).unwrap();
    let odd = left.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("portcullis-gone"));
    assert_eq!(odd.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_folder_keeps_those_below_and_its_name() {
    let world = World::new().await;
    world.mail.create("A").await.unwrap();
    world.mail.create("A/B").await.unwrap();
    world.mail.delete("A").await.unwrap();
    let list = world.mail.list().await.unwrap();
    let a = list.iter().find(|f| f.name == "A").unwrap();
    assert!(!a.selectable && a.has_children);
    assert_eq!(world.mail.delete("A").await, Err(MailError::HasChildren { name: "A".into() }));
    world.mail.create("A").await.unwrap();
    assert!(world.mail.list().await.unwrap().iter().any(|f| f.name == "A" && f.selectable));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_takes_the_folders_below_and_open_views_along() {
    let world = World::new().await;
    for name in ["A", "A/B", "A/B/C", "AB"] {
        world.mail.create(name).await.unwrap();
    }
    let (validity, _) = world.append("A/B", b"x", Flags::NONE, &[]).await;
    let mut view = world.mail.view("A/B", Mode::ReadWrite).await.unwrap();
    world.mail.rename("A", "X/Y").await.unwrap();
    let list = names(&world).await;
    for name in ["AB", "X/Y", "X/Y/B", "X/Y/B/C"] {
        assert!(list.iter().any(|n| n == name), "{name}: {list:?}");
    }
    assert!(!list.iter().any(|n| n == "A" || n == "A/B"));
    assert_eq!(world.append("X/Y/B", b"y", Flags::NONE, &[]).await, (validity, 2));
    assert!(news(&mut view).await.contains(&Update::Exists(2)));
    assert_eq!(bytes(&view, 2).await, b"y");
    for (from, to) in [("X/Y", "AB"), ("X/Y", "Sent"), ("AB", "X")] {
        assert!(matches!(world.mail.rename(from, to).await, Err(MailError::AlreadyExists { .. })), "{from} {to}");
    }
    assert!(matches!(world.mail.rename("AB", "AB/C").await, Err(MailError::InvalidName { .. })));
    assert!(matches!(world.mail.rename("none", "other").await, Err(MailError::NoSuchFolder { .. })));
}

/// A RENAME is cut by nobody: whoever signs in meanwhile, or renames too, leaves it alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_under_way_is_not_taken_for_one_that_a_crash_left() {
    let world = World::new().await;
    for name in ["Box", "Box/Inner", "Case", "Case/Inner"] {
        world.mail.create(name).await.unwrap();
    }
    world.append("Box/Inner", b"x", Flags::NONE, &[]).await;
    // It stands still at its last sync.
    let stage = Arc::new(AtomicU32::new(0));
    let at = Arc::clone(&stage);
    let faults: seam::Faults = Some(Arc::new(move |call, name| {
        if call == Call::Rename && name == b".Crate.Inner" {
            at.store(1, Ordering::Relaxed);
        } else if call == Call::SyncDir && at.compare_exchange(1, 2, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            while at.load(Ordering::Relaxed) < 3 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        None
    }));
    let world = world.restart_with(faults).await;
    let rename = |from: &'static str, to: &'static str| {
        let mail = world.mail.clone();
        tokio::spawn(async move { mail.rename(from, to).await })
    };
    let first = rename("Box", "Crate");
    while stage.load(Ordering::Relaxed) < 2 {
        assert!(!first.is_finished());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Another process of ours, as it opens the mailbox.
    let (_store, mail) = open(world.dir.path(), None).await;
    let elsewhere = tokio::spawn(async move { mail.rename("Sent", "Gone").await });
    let second = rename("Case", "Shelf");
    assert_eq!(elsewhere.await.unwrap(), Ok(()), "a single folder waits for nobody");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!second.is_finished(), "two at a time");
    stage.store(3, Ordering::Relaxed);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok(()), Ok(())));
    let world = world.restart().await;
    let list = names(&world).await;
    for (name, there) in [("Box", false), ("Case", false), ("Crate", true), ("Shelf", true), ("Gone", true)] {
        assert_eq!(list.iter().any(|n| n == name), there, "{name}: {list:?}");
    }
    assert_eq!(world.mail.status("Crate/Inner").await.unwrap().messages, 1);
    assert!(list.iter().any(|n| n == "Shelf/Inner"), "{list:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn renaming_inbox_moves_its_messages_and_leaves_it_empty() {
    let world = World::new().await;
    world.deliver("1.mta", b"x\n");
    let mut view = world.inbox().await;
    world.append("INBOX", b"y", Flags::SEEN, &["k"]).await;
    view.sync(true);
    world.mail.rename("Inbox", "Old").await.unwrap();
    assert_eq!(view.sync(true), [Update::Expunged(2), Update::Expunged(1)]);
    let old = world.mail.view("Old", Mode::ReadOnly).await.unwrap();
    assert_eq!((old.len(), old.message(2).unwrap().flags), (2, Flags::SEEN));
    assert_eq!(world.mail.status("INBOX").await.unwrap().uid_next, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_subscribed_until_the_user_says_otherwise() {
    let world = World::new().await;
    world.mail.subscribe("Junk", false).await.unwrap();
    world.mail.subscribe("Elsewhere", true).await.unwrap();
    let world = world.restart().await;
    world.mail.create("New").await.unwrap();
    let list = world.mail.list().await.unwrap();
    let hidden: Vec<_> = list.iter().filter(|f| !f.subscribed).map(|f| f.name.as_str()).collect();
    assert_eq!(hidden, ["Junk"]);
    let wanted = world.mail.subscribed().await.unwrap();
    assert_eq!(wanted, ["Archive", "Drafts", "Elsewhere", "INBOX", "New", "Sent", "Trash"]);
    assert!(world.mail.subscribe("../x", true).await.is_err());
}
