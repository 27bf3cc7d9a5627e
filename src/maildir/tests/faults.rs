use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::io::Errno;

use super::*;
use crate::maildir::seam::Call;

#[tokio::test(flavor = "multi_thread")]
async fn an_append_dropped_midway_leaves_nothing() {
    let world = World::new().await;
    let mut appending = world.mail.append("INBOX").await.unwrap();
    appending.write(&vec![b'x'; 600_000]).await.unwrap();
    drop(appending);
    for _ in 0..100 {
        if fs::read_dir(world.home().join("tmp")).unwrap().count() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(fs::read_dir(world.home().join("tmp")).unwrap().count(), 0);
    assert!(world.inbox().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_big_is_refused_as_soon_as_it_is() {
    let world = World::new().await;
    let mut appending = world.mail.append("INBOX").await.unwrap();
    let piece = vec![b'x'; 1024 * 1024];
    for _ in 0..50 {
        appending.write(&piece).await.unwrap();
    }
    assert!(matches!(appending.write(b"x").await, Err(MailError::TooBig { .. })));
    assert!(appending.finish(Flags::NONE, &[], None).await.is_err());
    assert!(world.files("").is_empty());
}

/// Each kind of call fails, the first time, the second and so on, in a row of changes. Whatever was acknowledged is
/// there after a restart, whatever was not is there whole or not at all, and no UID stands for two messages.
#[tokio::test(flavor = "multi_thread")]
async fn after_any_failed_call_what_was_acknowledged_is_there() {
    let calls = [Call::Create, Call::Write, Call::SyncFile, Call::SyncDir, Call::Rename, Call::Link, Call::Unlink];
    for call in calls {
        for nth in 0..12 {
            let world = World::new().await;
            world.append("INBOX", b"first", Flags::NONE, &[]).await;
            let count = Arc::new(AtomicU32::new(0));
            let counter = Arc::clone(&count);
            let faults: seam::Faults = Some(Arc::new(move |this, _| {
                let hit = this == call && counter.fetch_add(1, Ordering::Relaxed) == nth;
                hit.then_some(if nth % 2 == 0 { Errno::NOSPC } else { Errno::IO })
            }));
            let world = world.restart_with(faults).await;
            let mut acknowledged: Vec<(u32, &[u8])> = vec![(1, b"first")];
            let mut archived = Vec::new();
            let mut moved = false;
            if let Ok(mut view) = world.mail.view("INBOX", Mode::ReadWrite).await {
                for text in [b"second" as &[u8], b"third"] {
                    if let Ok(mut appending) = world.mail.append("INBOX").await {
                        let written = appending.write(text).await.is_ok();
                        if let Ok((_, uid)) = appending.finish(Flags::NONE, &["k"], None).await {
                            assert!(written);
                            acknowledged.push((uid, text));
                        }
                    }
                }
                view.sync(true);
                if let Ok(copied) = view.copy(&[1], "Archive").await {
                    archived.push(copied.uids[0].1);
                }
                moved = view.move_to(&[1], "Archive").await.is_ok();
                let flagged = view.store_flags(&[1], FlagOp::Add, Flags::FLAGGED, &[]).await.is_ok();
                view.sync(true);
                if flagged && moved {
                    assert!(view.message(1).is_none_or(|m| m.flags == Flags::NONE || m.flags == Flags::FLAGGED));
                }
            }
            let hit = count.load(Ordering::Relaxed) > nth;
            let world = world.restart().await;
            let view = world.inbox().await;
            let archive = world.mail.view("Archive", Mode::ReadOnly).await.unwrap();
            for (uid, text) in &acknowledged {
                let Some(seq) = view.seq(*uid) else {
                    assert!(*uid == 1, "{call:?} {nth}: uid {uid} is lost");
                    assert!(!archive.is_empty(), "{call:?} {nth}: a move lost mail");
                    continue;
                };
                assert!(!(moved && *uid == 1), "{call:?} {nth}: moved and still there");
                assert_eq!(bytes(&view, seq).await, *text, "{call:?} {nth}");
            }
            for uid in archived {
                assert!(archive.seq(uid).is_some(), "{call:?} {nth}: copy is lost");
            }
            for seq in 1..=view.len() {
                let text = bytes(&view, seq).await;
                assert!(
                    [b"first" as &[u8], b"second", b"third"].contains(&&*text),
                    "{call:?} {nth}: half a message"
                );
            }
            if !hit {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_does_not_stop_reading() {
    let world = World::new().await;
    world.append("INBOX", b"old", Flags::NONE, &[]).await;
    world.deliver("9999999999.mta", b"new");
    let full: seam::Faults =
        Some(Arc::new(|call, _| matches!(call, Call::Write | Call::Create).then_some(Errno::NOSPC)));
    let world = world.restart_with(full).await;
    let view = world.inbox().await;
    assert_eq!((view.len(), bytes(&view, 1).await), (1, b"old".to_vec()));
    let mut appending = world.mail.append("INBOX").await.unwrap();
    appending.write(b"more").await.unwrap();
    assert!(matches!(appending.finish(Flags::NONE, &[], None).await, Err(MailError::NoSpace { .. })));
    drop(view);
    let world = world.restart().await;
    let view = world.inbox().await;
    assert_eq!((view.len(), bytes(&view, 2).await), (2, b"new".to_vec()));
}

/// A fault that is met once after it was armed: by a call of this kind, with these bytes if there are any.
fn once(call: Call, bytes: &'static [u8], errno: Errno) -> (Arc<AtomicBool>, seam::Faults) {
    let armed = Arc::new(AtomicBool::new(false));
    let met = Arc::clone(&armed);
    let faults: seam::Faults = Some(Arc::new(move |this, with| {
        let fits = this == call && (bytes.is_empty() || with == bytes);
        (fits && met.swap(false, Ordering::Relaxed)).then_some(errno)
    }));
    (armed, faults)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_could_not_be_looked_at_is_looked_at_again() {
    for name in [b"1.mta" as &[u8], b"new"] {
        let (armed, faults) = once(Call::Open, name, Errno::MFILE);
        let world = World::new().await.restart_with(faults).await;
        let mut view = world.mail.view("INBOX", Mode::ReadOnly).await.unwrap();
        armed.store(true, Ordering::Relaxed);
        world.deliver("1.mta", b"x");
        while armed.load(Ordering::Relaxed) {
            drop(view.poll().await);
        }
        view.poll().await.unwrap();
        assert_eq!(view.sync(true).first(), Some(&Update::Exists(1)), "NOOP, {}", name.escape_ascii());
    }
    let (armed, faults) = once(Call::Open, b"1.mta", Errno::IO);
    let world = World::new().await;
    world.deliver("1.mta", b"x");
    let world = world.restart_with(faults).await;
    // Long enough for the time stamps to be believed.
    tokio::time::sleep(Duration::from_millis(100)).await;
    armed.store(true, Ordering::Relaxed);
    drop(world.mail.view("INBOX", Mode::ReadOnly).await.unwrap());
    assert!(!armed.load(Ordering::Relaxed));
    assert_eq!(world.mail.view("INBOX", Mode::ReadOnly).await.unwrap().len(), 1, "SELECT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_noted_as_looked_through_only_if_all_of_it_is_known() {
    let (armed, faults) = once(Call::SyncFile, b"", Errno::IO);
    let world = World::new().await.restart_with(faults).await;
    let view = world.mail.view("INBOX", Mode::ReadOnly).await.unwrap();
    armed.store(true, Ordering::Relaxed);
    world.deliver("1.mta", b"x");
    while armed.load(Ordering::Relaxed) {
        drop(view.poll().await);
    }
    // As when nobody has a large folder open any more, and long enough for the time stamps to be believed.
    tokio::time::sleep(Duration::from_millis(100)).await;
    view.folder.exclusively("testing", |ex| ex.note()).await.unwrap();
    assert_eq!(world.mail.view("INBOX", Mode::ReadOnly).await.unwrap().len(), 1);
    drop(view);
    let world = world.restart().await;
    assert_eq!(world.mail.view("INBOX", Mode::ReadOnly).await.unwrap().len(), 1, "after a restart");
}

/// Where time stamps are whole seconds, two deliveries of one second look like one.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_stamp_of_a_whole_second_is_believed_only_later() {
    let world = World::new().await;
    let mut view = world.mail.view("INBOX", Mode::ReadOnly).await.unwrap();
    view.unwatch();
    let second = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let stamp = std::time::UNIX_EPOCH + Duration::from_secs(second);
    let stamped = || {
        for place in ["new", "cur"] {
            fs::File::open(world.home().join(place)).unwrap().set_modified(stamp).unwrap();
        }
    };
    // Finer stamps would be believed by now.
    tokio::time::sleep(Duration::from_millis(100)).await;
    for count in 1..=2 {
        world.deliver(&format!("{count}.mta"), b"x");
        stamped();
        view.poll().await.unwrap();
        assert_eq!(view.sync(true).first(), Some(&Update::Exists(count)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_is_made_anew_with_another_uidvalidity() {
    let world = World::new().await;
    let (validity, _) = world.append("INBOX", b"a\nb", Flags::SEEN, &["k"]).await;
    let world = world.restart().await;
    fs::remove_file(world.home().join("portcullis-index")).unwrap();
    let view = world.inbox().await;
    assert!(view.uid_validity() > validity);
    let meta = view.message(1).unwrap();
    assert_eq!((meta.flags, meta.size, bytes(&view, 1).await), (Flags::SEEN, 3, b"a\nb".to_vec()));
}

/// Promise 1: data synced, then visible, then its directory synced, then recorded and synced, then acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn everything_is_synced_in_order_before_it_is_acknowledged() {
    let seen: Arc<std::sync::Mutex<Vec<Call>>> = Arc::default();
    let log = Arc::clone(&seen);
    let faults: seam::Faults = Some(Arc::new(move |call, _| {
        if !matches!(call, Call::Open | Call::Look | Call::List) {
            log.lock().unwrap().push(call);
        }
        None
    }));
    let world = World::new().await;
    world.append("Archive", b"x", Flags::NONE, &[]).await;
    let world = world.restart_with(faults).await;
    let mut view = world.inbox().await;
    let calls = || std::mem::take(&mut *seen.lock().unwrap());
    let recorded = [Call::Write, Call::SyncFile];
    calls();
    world.append("INBOX", b"x", Flags::NONE, &[]).await;
    let expected = [Call::Create, Call::Write, Call::SyncFile, Call::Rename, Call::SyncDir];
    assert_eq!(calls(), [&expected[..], &recorded].concat(), "APPEND");
    view.sync(true);
    view.store_flags(&[1], FlagOp::Add, Flags::DELETED, &[]).await.unwrap();
    assert_eq!(calls(), [&[Call::Rename, Call::SyncDir][..], &recorded].concat(), "STORE");
    view.store_flags(&[1], FlagOp::Add, Flags::NONE, &["k"]).await.unwrap();
    assert_eq!(calls(), recorded, "STORE of a keyword");
    view.copy(&[1], "Archive").await.unwrap();
    assert_eq!(calls(), [&[Call::Link, Call::SyncDir][..], &recorded].concat(), "COPY");
    view.expunge(None).await.unwrap();
    assert_eq!(calls(), [&[Call::Unlink, Call::SyncDir][..], &recorded].concat(), "EXPUNGE");
    world.mail.delete("Junk").await.unwrap();
    assert_eq!(calls()[..2], [Call::Rename, Call::SyncDir], "DELETE");
    world.mail.rename("Sent", "Gone").await.unwrap();
    assert_eq!(calls(), [Call::Rename, Call::SyncDir], "RENAME");
    world.mail.create("New").await.unwrap();
    assert_eq!(calls()[6..], [Call::SyncDir, Call::Rename, Call::SyncDir], "CREATE");
    world.mail.subscribe("New", false).await.unwrap();
    assert_eq!(calls()[2..], [Call::Write, Call::SyncFile, Call::Rename, Call::SyncDir], "UNSUBSCRIBE");
}
