//! Several messages in one delivery, and one message in the place of another.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

use super::*;
use crate::maildir::seam::{Call, Faults};

async fn begun(world: &World, folder: &str, text: &[u8]) -> Result<Appending, MailError> {
    let mut appending = world.mail.append(folder).await?;
    appending.write(text).await?;
    Ok(appending)
}

async fn sealed(world: &World, folder: &str, text: &[u8]) -> Result<Sealed, MailError> {
    begun(world, folder, text).await?.seal(Flags::NONE, &["k"], None).await
}

async fn texts(world: &World, folder: &str) -> Vec<String> {
    let view = world.mail.view(folder, Mode::ReadOnly).await.unwrap();
    let mut texts = Vec::new();
    for seq in 1..=view.len() {
        texts.push(String::from_utf8(bytes(&view, seq).await).unwrap());
    }
    texts.sort();
    texts
}

/// The nth call of a kind fails.
fn failing(call: Call, nth: u32) -> Faults {
    let count = AtomicU32::new(0);
    Some(Arc::new(move |this, _| {
        let hit = this == call && count.fetch_add(1, Ordering::Relaxed) == nth;
        hit.then_some(if nth.is_multiple_of(2) { Errno::NOSPC } else { Errno::IO })
    }))
}

const CALLS: [Call; 6] = [Call::Create, Call::Write, Call::SyncFile, Call::SyncDir, Call::Rename, Call::Unlink];

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_delivery_come_together_with_uids_in_their_order() {
    let world = World::new().await;
    let mut other = world.inbox().await;
    let mut messages = Vec::new();
    for text in [b"one", b"two"] {
        messages.push(sealed(&world, "INBOX", text).await.unwrap());
    }
    let last = begun(&world, "INBOX", b"thr").await.unwrap();
    assert!(world.files("").is_empty(), "nothing is seen before all are there");
    let (_, uids) = last.finish_after(messages, Flags::NONE, &[], None).await.unwrap();
    assert_eq!(uids, [1, 2, 3]);
    assert_eq!(news(&mut other).await, [Update::Exists(3), Update::Recent(3)]);
    assert_eq!(bytes(&other, 2).await, b"two");
    // Two folders have no one commit.
    world.mail.create("x").await.unwrap();
    let other = vec![sealed(&world, "x", b"y").await.unwrap()];
    let last = begun(&world, "INBOX", b"y").await.unwrap();
    let mixed = last.finish_after(other, Flags::NONE, &[], None).await;
    assert_eq!(mixed.unwrap_err(), MailError::FolderGone);
    assert_eq!(world.files("").len(), 3);
}

async fn all_three(world: &World) -> Result<Delivered, MailError> {
    let mut messages = Vec::new();
    for text in [b"one", b"two"] {
        messages.push(sealed(world, "INBOX", text).await?);
    }
    begun(world, "INBOX", b"thr").await?.finish_after(messages, Flags::NONE, &[], None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_of_several_that_fails_leaves_none_of_them() {
    for call in CALLS {
        for nth in 0..8 {
            let world = World::new().await;
            world.append("INBOX", b"first", Flags::NONE, &[]).await;
            let world = world.restart_with(failing(call, nth)).await;
            let done = all_three(&world).await;
            let world = world.restart().await;
            let expected: &[&str] = if done.is_ok() { &["first", "one", "thr", "two"] } else { &["first"] };
            assert_eq!(texts(&world, "INBOX").await, expected, "{call:?} {nth}: {done:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_see_a_replacement_as_one_change() {
    let world = World::new().await;
    for text in [b"one", b"two", b"thr"] {
        world.append("INBOX", text, Flags::NONE, &[]).await;
    }
    let (mut view, mut other) = (world.inbox().await, world.inbox().await);
    let new = sealed(&world, "INBOX", b"new").await.unwrap();
    let (_, uid) = view.replace(2, new).await.unwrap();
    assert_eq!(uid, 4);
    assert_eq!(view.sync(true), [Update::Expunged(2), Update::Exists(3), Update::Recent(3)]);
    assert_eq!(other.sync(false), [Update::Exists(4), Update::Recent(0)]);
    assert_eq!(other.sync(true), [Update::Expunged(2)]);
    assert_eq!((bytes(&view, 3).await, bytes(&other, 3).await), (b"new".to_vec(), b"new".to_vec()));
    assert_eq!(world.files("").len(), 3);
    assert_eq!(fs::read_dir(world.home().join("tmp")).unwrap().count(), 0);

    // One that another session or program removed.
    other.remove(&[1]).await.unwrap();
    let new = sealed(&world, "INBOX", b"new").await.unwrap();
    assert!(matches!(view.replace(1, new).await, Err(MailError::Gone { uid: 1 })));
    let name = world
        .files("")
        .into_iter()
        .find(|name| fs::read(world.home().join("cur").join(name)).is_ok_and(|text| text == b"thr"));
    fs::remove_file(world.home().join("cur").join(name.unwrap())).unwrap();
    let new = sealed(&world, "INBOX", b"new").await.unwrap();
    assert!(matches!(view.replace(2, new).await, Err(MailError::Gone { uid: 3 })));
    assert_eq!(texts(&world, "INBOX").await, ["new"]);

    let new = sealed(&world, "INBOX", b"new").await.unwrap();
    let mut examined = world.mail.view("INBOX", Mode::ReadOnly).await.unwrap();
    assert_eq!(examined.replace(1, new).await, Err(MailError::ReadOnly));

    // Renamed by another program, as when it changes flags.
    let name = world.files("").pop().unwrap();
    let renamed = format!("{}:2,F", name.split(':').next().unwrap());
    fs::rename(world.home().join("cur").join(name), world.home().join("cur").join(renamed)).unwrap();
    let new = sealed(&world, "INBOX", b"newer").await.unwrap();
    examined = world.inbox().await;
    examined.replace(1, new).await.unwrap();
    assert_eq!(texts(&world, "INBOX").await, ["newer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_fails_leaves_the_old_message_and_not_the_new() {
    for to in ["INBOX", "Sent"] {
        for call in CALLS {
            for nth in 0..8 {
                let world = World::new().await;
                world.append("INBOX", b"old", Flags::NONE, &[]).await;
                let world = world.restart_with(failing(call, nth)).await;
                let mut done = Err(MailError::FolderGone);
                if let Ok(mut view) = world.mail.view("INBOX", Mode::ReadWrite).await {
                    done = match sealed(&world, to, b"new").await {
                        Ok(new) => view.replace(1, new).await,
                        Err(error) => Err(error),
                    };
                }
                let world = world.restart().await;
                let kept = format!("{:?} {:?}", texts(&world, "INBOX").await, texts(&world, "Sent").await);
                let expected = match (&done, to) {
                    (Ok(_), "INBOX") => r#"["new"] []"#,
                    (Ok(_), _) => r#"[] ["new"]"#,
                    (Err(_), _) => r#"["old"] []"#,
                };
                assert_eq!(kept, expected, "to {to}, {call:?} {nth}: {done:?}");
            }
        }
    }
}
