//! What a command of ours does to files is no news, what another program does meanwhile is.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::io::Errno;

use super::*;
use crate::maildir::seam::Call;

/// A store that counts how often a directory is listed or a name looked up in one.
async fn counting() -> (World, Arc<AtomicU32>) {
    let looks = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&looks);
    let faults: seam::Faults = Some(Arc::new(move |call, name: &[u8]| {
        if call == Call::List || (call == Call::Look && name.contains(&b':')) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        None
    }));
    (World::new().await.restart_with(faults).await, looks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_looks_at_the_disk_because_of_what_we_did_ourselves() {
    let (world, looks) = counting().await;
    let mut view = world.inbox().await;
    let target = world.mail.view("Archive", Mode::ReadWrite).await.unwrap();
    looks.store(0, Ordering::Relaxed);
    for _ in 0..40 {
        world.append("INBOX", b"x", Flags::NONE, &[]).await;
    }
    view.sync(true);
    let all: Vec<u32> = (1..=40).collect();
    view.store_flags(&all, FlagOp::Add, Flags::SEEN, &[]).await.unwrap();
    view.copy(&all, "Archive").await.unwrap();
    view.store_flags(&all[..20], FlagOp::Add, Flags::DELETED, &[]).await.unwrap();
    assert_eq!(view.expunge(None).await, Ok(20));
    // Longer than news are gathered.
    tokio::time::sleep(Duration::from_millis(100)).await;
    view.poll().await.unwrap();
    target.poll().await.unwrap();
    assert_eq!(looks.load(Ordering::Relaxed), 0);
    // A change of another program is looked at, this once.
    let name = world.files("").remove(0);
    fs::rename(world.home().join("cur").join(&name), world.home().join("cur").join(format!("{name}F"))).unwrap();
    view.poll().await.unwrap();
    view.sync(true);
    assert!(looks.load(Ordering::Relaxed) > 0);
    assert_eq!((1..=20).filter(|seq| view.message(*seq).unwrap().flags.contains(Flags::FLAGGED)).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_other_programs_do_while_a_command_of_ours_runs_is_seen() {
    let world = World::new().await;
    for _ in 0..200 {
        world.append("INBOX", b"x", Flags::NONE, &[]).await;
    }
    let (mut view, mut other) = (world.inbox().await, world.inbox().await);
    let all: Vec<u32> = (1..=200).collect();
    let (done, home) = (Arc::new(AtomicBool::new(false)), world.home());
    let ended = Arc::clone(&done);
    let program = std::thread::spawn(move || {
        let mut count = 0;
        while !ended.load(Ordering::Relaxed) {
            let tmp = home.join("tmp").join(format!("{count}.mta"));
            fs::write(&tmp, "mta").unwrap();
            fs::rename(tmp, home.join("new").join(format!("{count}.mta"))).unwrap();
            // And it takes back the flag of whatever it finds first.
            let mut found = fs::read_dir(home.join("cur")).unwrap().flatten().map(|entry| entry.path());
            if let Some(path) = found.find(|path| path.to_string_lossy().ends_with(":2,F")) {
                let plain = path.to_string_lossy().trim_end_matches('F').to_owned();
                drop(fs::rename(&path, plain));
            }
            count += 1;
        }
        count
    });
    for round in 0..6 {
        let op = if round % 2 == 0 { FlagOp::Add } else { FlagOp::Remove };
        view.store_flags(&all, op, Flags::FLAGGED, &[]).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let delivered = program.join().unwrap();
    for view in [&mut view, &mut other] {
        view.poll().await.unwrap();
        view.sync(true);
        assert_eq!(view.len(), 200 + delivered);
        for seq in 1..=200 {
            let (flags, text) = (view.message(seq).unwrap().flags, bytes(view, seq).await);
            assert_eq!((flags, text), (Flags::NONE, b"x".to_vec()), "message {seq}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_copied_although_another_program_renamed_it_just_now() {
    let world = World::new().await;
    for text in ["one", "two", "three"] {
        world.append("INBOX", text.as_bytes(), Flags::NONE, &["k"]).await;
    }
    let view = world.inbox().await;
    view.unwatch();
    let name = world.files("").remove(1);
    fs::rename(world.home().join("cur").join(&name), world.home().join("cur").join(format!("{name}S"))).unwrap();
    let copied = view.copy(&[1, 2, 3], "Archive").await.unwrap();
    assert_eq!(copied.uids.len(), 3);
    let target = world.mail.view("Archive", Mode::ReadOnly).await.unwrap();
    assert_eq!(target.len(), 3);
    for (seq, text) in [(1, "one"), (2, "two"), (3, "three")] {
        assert_eq!(bytes(&target, seq).await, text.as_bytes());
        assert_eq!(target.message(seq).unwrap().keywords.len(), 1);
    }
    // One that is gone: none is copied.
    fs::remove_file(world.home().join("cur").join(world.files("").remove(0))).unwrap();
    assert!(matches!(view.copy(&[1, 2, 3], "Archive").await, Err(MailError::Gone { .. })));
    assert_eq!(world.files(".Archive").len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_file_can_have_two_names_a_copy_is_made() {
    let world = World::new().await;
    world.append("INBOX", b"one", Flags::SEEN, &[]).await;
    let no_links: seam::Faults = Some(Arc::new(|call, _| (call == Call::Link).then_some(Errno::XDEV)));
    let world = world.restart_with(no_links).await;
    let view = world.inbox().await;
    view.copy(&[1], "Archive").await.unwrap();
    let target = world.mail.view("Archive", Mode::ReadOnly).await.unwrap();
    assert_eq!((target.len(), bytes(&target, 1).await), (1, b"one".to_vec()));
    assert_eq!(target.message(1).unwrap().flags, Flags::SEEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_asks_no_folder_that_another_program_took_away() {
    let world = World::new().await;
    world.append("Archive", b"x", Flags::NONE, &[]).await;
    assert_eq!(world.mail.status("Archive").await.unwrap().messages, 1);
    assert_eq!(world.mail.status("Archive").await.unwrap().messages, 1);
    fs::rename(world.home().join(".Archive"), world.home().join(".Elsewhere")).unwrap();
    assert!(matches!(world.mail.status("Archive").await, Err(MailError::NoSuchFolder { .. })));
    assert_eq!(world.mail.status("Elsewhere").await.unwrap().messages, 1);
    fs::remove_dir_all(world.home().join(".Elsewhere")).unwrap();
    assert!(matches!(world.mail.status("Elsewhere").await, Err(MailError::NoSuchFolder { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn status_of_a_folder_in_which_nothing_happened_opens_nothing_and_tells_every_change() {
    let opened = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&opened);
    let faults: seam::Faults = Some(Arc::new(move |call, _| {
        if matches!(call, Call::Open | Call::List) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        None
    }));
    let world = World::new().await.restart_with(faults).await;
    let count = async |name: &str| world.mail.status(name).await.unwrap().messages;
    // Changes of two directories within one tick of their clock cannot be told apart.
    let settle = || tokio::time::sleep(Duration::from_millis(60));
    for (folder, dir) in [("Archive", ".Archive"), ("INBOX", "")] {
        world.append(folder, b"x", Flags::NONE, &[]).await;
        settle().await;
        assert_eq!(count(folder).await, 1);
        opened.store(0, Ordering::Relaxed);
        assert_eq!(count(folder).await, 1);
        assert_eq!(opened.load(Ordering::Relaxed), 0, "{folder}");
        fs::write(world.home().join(dir).join("new/1.mta"), "x").unwrap();
        assert_eq!(count(folder).await, 2, "{folder}, after another program's delivery");
        settle().await;
        assert_eq!(count(folder).await, 2);
        fs::remove_file(world.home().join(dir).join("new/1.mta")).unwrap();
        assert_eq!(count(folder).await, 1, "{folder}, after its removal");
        settle().await;
        assert_eq!(count(folder).await, 1);
        // Another process of ours.
        let (_other, mail) = open(world.dir.path(), None).await;
        let mut view = mail.view(folder, Mode::ReadWrite).await.unwrap();
        view.store_flags(&[1], FlagOp::Add, Flags::NONE, &["k"]).await.unwrap();
        let (told, known) = (mail.status(folder).await.unwrap(), world.mail.status(folder).await.unwrap());
        assert_eq!(known.highest_modseq, told.highest_modseq, "{folder}, after another process's change");
    }
}
