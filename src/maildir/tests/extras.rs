//! Special uses, quotas, annotations, and who hears of what.

use rustix::io::Errno;

use super::*;
use crate::maildir::seam::{Call, Faults};
use crate::policy::Quota;

fn set(entry: &str, value: &str) -> (String, Option<Vec<u8>>) {
    (entry.to_owned(), Some(value.as_bytes().to_vec()))
}

async fn uses(world: &World) -> Vec<(String, Vec<&'static str>)> {
    let list = world.mail.list().await.unwrap().into_iter();
    let used = list.filter(|folder| !folder.special_uses.is_empty());
    used.map(|folder| (folder.name, folder.special_uses.iter().map(|u| u.attribute()).collect())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_special_use_stays_with_its_folder_and_no_two_folders_have_the_same() {
    let world = World::new().await;
    let taken = world.mail.create_for("Entwürfe", &[SpecialUse::Drafts]).await;
    assert_eq!(taken, Err(MailError::UseTaken { attribute: "\\Drafts" }));
    world.mail.delete("Drafts").await.unwrap();
    world.mail.delete("Sent").await.unwrap();
    world.mail.create_for("Post/Entwürfe", &[SpecialUse::Drafts, SpecialUse::Sent]).await.unwrap();
    world.mail.create("Drafts").await.unwrap();
    world.mail.rename("Post", "Mail").await.unwrap();
    let world = world.restart().await;
    let used = uses(&world).await;
    assert!(used.contains(&("Mail/Entwürfe".into(), vec!["\\Drafts", "\\Sent"])), "{used:?}");
    assert!(
        !used.iter().any(|(name, _)| name == "Drafts"),
        "a name says what it is for only where nothing else does"
    );
    world.mail.delete("Mail/Entwürfe").await.unwrap();
    assert!(uses(&world).await.contains(&("Drafts".into(), vec!["\\Drafts"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_for_all_folders_together_and_what_is_removed_makes_room() {
    let world = World::new().await;
    let ann = UserId::parse("ann@example.com").unwrap();
    world.append("Archive", &[b'x'; 400], Flags::NONE, &[]).await;
    world.deliver("1.mta", &[b'x'; 400]);
    world.store.as_ref().unwrap().limit(&ann, Quota { bytes: Some(1000), messages: Some(3) });
    let refused = async |size: usize| {
        let mut appending = world.mail.append("Sent").await?;
        appending.write(&vec![b'x'; size]).await?;
        appending.finish(Flags::NONE, &[], None).await.map(drop)
    };
    assert_eq!(refused(201).await, Err(MailError::OverQuota));
    assert_eq!(world.files(".Sent"), [""; 0]);
    assert_eq!(refused(200).await, Ok(()), "up to the last byte");
    let full = Usage { bytes: 1000, messages: 3 };
    assert_eq!(world.mail.usage().await.unwrap().1, full);
    assert_eq!(refused(0).await, Err(MailError::OverQuota), "no more messages");
    // A copy takes room, a move does not.
    let mut archive = world.mail.view("Archive", Mode::ReadWrite).await.unwrap();
    assert_eq!(archive.copy(&[1], "Trash").await, Err(MailError::OverQuota));
    archive.move_to(&[1], "Trash").await.unwrap();
    assert_eq!(world.mail.usage().await.unwrap().1, full);
    world.mail.rename("Trash", "Bin").await.unwrap();
    assert_eq!(world.mail.usage().await.unwrap().1, full);
    world.mail.delete("Bin").await.unwrap();
    assert_eq!(refused(400).await, Ok(()));
    // What comes from outside is never kept out, nor from being read.
    world.deliver("2.mta", &[b'x'; 900]);
    assert_eq!(world.inbox().await.len(), 2);
    assert_eq!(world.mail.usage().await.unwrap().1, Usage { bytes: 1900, messages: 4 });
    assert_eq!(refused(1).await, Err(MailError::OverQuota));
    world.store.as_ref().unwrap().limit(&ann, Quota::default());
    assert_eq!(refused(10_000).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_for_as_long_as_the_session_does() {
    let world = World::new().await;
    let (store, ann) = (world.store.as_ref().unwrap(), UserId::parse("ann@example.com").unwrap());
    store.limit(&ann, Quota { bytes: Some(10), messages: None });
    let mut appending = world.mail.append("INBOX").await.unwrap();
    appending.write(&[b'x'; 11]).await.unwrap();
    // Ten minutes later, or ten thousand others.
    store.evict_accounts();
    assert_eq!(appending.finish(Flags::NONE, &[], None).await, Err(MailError::OverQuota));
    assert!(world.files("").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_counts_what_another_process_took_in_while_the_store_was_closed() {
    let world = World::new().await;
    let store = world.store.as_ref().unwrap();
    store.limit(&UserId::parse("ann@example.com").unwrap(), Quota { bytes: Some(1000), messages: None });
    world.append("Sent", &[b'x'; 400], Flags::NONE, &[]).await;
    store.close().await;
    {
        let (other, mail) = open(world.dir.path(), None).await;
        let mut appending = mail.append("Archive").await.unwrap();
        appending.write(&[b'x'; 500]).await.unwrap();
        appending.finish(Flags::NONE, &[], None).await.unwrap();
        other.close().await;
    }
    let mut appending = world.mail.append("Sent").await.unwrap();
    appending.write(&[b'x'; 200]).await.unwrap();
    assert_eq!(appending.finish(Flags::NONE, &[], None).await, Err(MailError::OverQuota));
    assert_eq!(world.mail.usage().await.unwrap().1, Usage { bytes: 900, messages: 2 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_known_size_has_its_room_from_its_beginning_to_its_delivery() {
    let world = World::new().await;
    let ann = UserId::parse("ann@example.com").unwrap();
    world.store.as_ref().unwrap().limit(&ann, Quota { bytes: Some(1000), messages: Some(3) });
    let begin = async |size: usize, old: Option<u64>| world.mail.append_sized("Sent", size as u64, old).await;
    let written = async |mut appending: Appending, size: usize| {
        appending.write(&vec![b'x'; size]).await.unwrap();
        appending
    };
    let sealed = async |appending: Appending, size: usize| {
        written(appending, size).await.seal(Flags::NONE, &[], None).await.unwrap()
    };
    assert_eq!(begin(1001, None).await.err(), Some(MailError::OverQuota));
    let first = sealed(begin(600, None).await.unwrap(), 600).await;
    assert_eq!(begin(401, None).await.err(), Some(MailError::OverQuota), "what waits counts");
    drop(begin(400, None).await.unwrap());
    let second = written(begin(400, None).await.unwrap(), 400).await;
    assert_eq!(begin(1, None).await.err(), Some(MailError::OverQuota));
    // Its room is not asked for again, nor kept by anybody afterwards.
    assert_eq!(second.finish_after(vec![first], Flags::NONE, &[], None).await.unwrap().1, [1, 2]);
    assert_eq!(world.mail.usage().await.unwrap().1, Usage { bytes: 1000, messages: 2 });
    assert_eq!(begin(1, None).await.err(), Some(MailError::OverQuota));
    // In the place of another only what it is larger by.
    assert_eq!(begin(601, Some(600)).await.err(), Some(MailError::OverQuota));
    let same = sealed(begin(600, Some(600)).await.unwrap(), 600).await;
    let mut sent = world.mail.view("Sent", Mode::ReadWrite).await.unwrap();
    assert_eq!(sent.replace(1, same).await.unwrap().1, 3);
    sent.sync(true);
    sent.remove(&[1, 2]).await.unwrap();
    assert_eq!(world.mail.usage().await.unwrap().1, Usage::default());
    let large = written(begin(1000, None).await.unwrap(), 1000).await;
    assert!(large.finish(Flags::NONE, &[], None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_program_removes_makes_room_too() {
    let world = World::new().await;
    let ann = UserId::parse("ann@example.com").unwrap();
    world.deliver("1.mta", b"x");
    world.store.as_ref().unwrap().limit(&ann, Quota { bytes: None, messages: Some(2) });
    world.append("Sent", b"x", Flags::NONE, &[]).await;
    assert_eq!(world.mail.append("Sent").await.err(), Some(MailError::OverQuota));
    fs::remove_file(world.home().join("new/1.mta")).unwrap();
    assert_eq!(world.mail.usage().await.unwrap().1.messages, 1);
    world.append("Sent", b"x", Flags::NONE, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn annotations_are_kept_follow_their_folder_and_go_with_it() {
    let world = World::new().await;
    let comment = |text: &str| vec![("/shared/comment".to_owned(), text.as_bytes().to_vec())];
    world.mail.annotate(Some("Sent"), "ann@x", vec![set("/shared/comment", "a\r\nb\0")]).await.unwrap();
    world.mail.annotate(Some("INBOX"), "ann@x", vec![set("/shared/comment", "in")]).await.unwrap();
    world.mail.annotate(None, "ann@x", vec![set("/private/comment", "mine")]).await.unwrap();
    let world = world.restart().await;
    assert_eq!(world.mail.annotations(Some("Sent"), "bob@x").await.unwrap(), comment("a\r\nb\0"));
    assert_eq!(world.mail.annotations(None, "bob@x").await.unwrap(), []);
    assert_eq!(world.mail.annotations(None, "ann@x").await.unwrap()[0].1, b"mine");
    world.mail.rename("Sent", "Old").await.unwrap();
    assert_eq!(world.mail.annotations(Some("Old"), "ann@x").await.unwrap(), comment("a\r\nb\0"));
    world.mail.delete("Old").await.unwrap();
    world.mail.create("Old").await.unwrap();
    assert_eq!(world.mail.annotations(Some("Old"), "ann@x").await.unwrap(), []);
    // INBOX keeps what it gives to the new folder.
    world.mail.rename("INBOX", "Taken").await.unwrap();
    for name in ["INBOX", "Taken"] {
        assert_eq!(world.mail.annotations(Some(name), "ann@x").await.unwrap(), comment("in"), "{name}");
    }
    let gone = world.mail.annotate(Some("Nothing"), "ann@x", vec![]).await;
    assert!(matches!(gone, Err(MailError::NoSuchFolder { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_hears_of_names_of_annotations_and_of_folders_it_has_not_open() {
    let world = World::new().await;
    let other = world.store.as_ref().unwrap().open_for(&UserId::parse("ann@example.com").unwrap()).await.unwrap();
    let listener = world.mail.listen();
    let covered = world.mail.cover(&listener, &["INBOX".into(), "Sent".into(), "Nothing".into()]).await.unwrap();
    assert_eq!(covered.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["INBOX", "Sent"]);
    listener.take();
    world.mail.create("Mine").await.unwrap();
    assert!(listener.take().is_empty(), "nobody hears of their own deeds");
    other.create("A/B").await.unwrap();
    other.rename("A", "C").await.unwrap();
    other.subscribe("C/B", false).await.unwrap();
    other.annotate(Some("C/B"), "ann@x", vec![set("/shared/a", "1"), set("/private/b", "2")]).await.unwrap();
    other.delete("C/B").await.unwrap();
    let annotated = |private_to: Option<&str>, entry: &str| News::Annotated {
        folder: Some("C/B".into()),
        private_to: private_to.map(str::to_owned),
        entries: vec![entry.to_owned()],
    };
    let expected = [
        News::Created("A/B".into()),
        News::Renamed { from: "A".into(), to: "C".into() },
        News::Subscribed("C/B".into()),
        annotated(Some("ann@x"), "/private/b"),
        annotated(None, "/shared/a"),
        News::Deleted("C/B".into()),
    ];
    assert_eq!(listener.take().news, expected);
    // A delivery by another program, into a folder nobody has open.
    for (folder, name) in [("", "INBOX"), (".Sent", "Sent")] {
        fs::write(world.home().join(folder).join("new/1.mta"), "x").unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(5), async {
            loop {
                listener.told().await;
                let touched = world.mail.touched(&listener.take());
                if touched.iter().any(|touched| touched == name) {
                    return;
                }
            }
        });
        heard.await.expect(name);
        assert_eq!(world.mail.status(name).await.unwrap().messages, 1);
        listener.take();
    }
}

/// Each kind of call fails, the first time, the second and so on, while a folder with others below is renamed. All of
/// them have the new name, or none: at once where the disk fails only once, at the next start where it goes on failing.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_of_many_folders_is_whole_or_not_at_all() {
    let names = ["A", "A/B", "A/B/C", "A/D"];
    for call in [Call::Create, Call::Write, Call::SyncFile, Call::SyncDir, Call::Rename, Call::Unlink] {
        for (nth, lasts) in (0..16).flat_map(|nth| [(nth, false), (nth, true)]) {
            let world = World::new().await;
            for name in names {
                world.mail.create(name).await.unwrap();
                world.append(name, name.as_bytes(), Flags::NONE, &[]).await;
            }
            let armed = Arc::new(std::sync::atomic::AtomicU32::new(u32::MAX));
            let count = Arc::clone(&armed);
            let faults: Faults = Some(Arc::new(move |this, _| {
                let left = count.load(std::sync::atomic::Ordering::Relaxed);
                if this != call || left == u32::MAX {
                    return None;
                }
                count.store(left.saturating_sub(1), std::sync::atomic::Ordering::Relaxed);
                if left == 0 {
                    if !lasts {
                        count.store(u32::MAX, std::sync::atomic::Ordering::Relaxed);
                    }
                    return Some(Errno::IO);
                }
                None
            }));
            let world = world.restart_with(faults).await;
            armed.store(nth, std::sync::atomic::Ordering::Relaxed);
            let renamed = world.mail.rename("A", "Z").await.is_ok();
            let hit = armed.load(std::sync::atomic::Ordering::Relaxed) == if lasts { 0 } else { u32::MAX };
            armed.store(u32::MAX, std::sync::atomic::Ordering::Relaxed);
            let top = if renamed { "Z" } else { "A" };
            let all = |list: Vec<Folder>| -> Vec<String> {
                let named = |folder: &Folder| folder.name.starts_with('A') || folder.name.starts_with('Z');
                list.into_iter().filter(|f| named(f) && f.name != "Archive").map(|folder| folder.name).collect()
            };
            let expected: Vec<String> = names.iter().map(|name| format!("{top}{}", &name[1..])).collect();
            if !lasts {
                assert_eq!(all(world.mail.list().await.unwrap()), expected, "{call:?} {nth}: at once");
                for name in &expected {
                    assert_eq!(world.mail.status(name).await.unwrap().messages, 1, "{call:?} {nth} {name}");
                }
            }
            let world = world.restart().await;
            assert_eq!(all(world.mail.list().await.unwrap()), expected, "{call:?} {nth} {lasts}: after a restart");
            for name in &expected {
                let view = world.mail.view(name, Mode::ReadOnly).await.unwrap();
                assert_eq!(bytes(&view, 1).await, format!("A{}", &name[1..]).into_bytes(), "{call:?} {nth}");
            }
            assert!(!world.home().join("portcullis-renaming").exists(), "{call:?} {nth} {lasts}");
            if !hit {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_a_crash_cut_in_half_is_undone_at_the_next_start() {
    let world = World::new().await;
    for name in ["A", "A/B", "A/C"] {
        world.mail.create(name).await.unwrap();
    }
    let journal = ".A\t.Z\n.A.B\t.Z.B\n.A.C\t.Z.C\n.A.B\t../../x\nnonsense\n";
    fs::write(world.home().join("portcullis-renaming"), journal).unwrap();
    fs::rename(world.home().join(".A"), world.home().join(".Z")).unwrap();
    fs::rename(world.home().join(".A.B"), world.home().join(".Z.B")).unwrap();
    let world = world.restart().await;
    let names: Vec<_> = world.mail.list().await.unwrap().into_iter().map(|folder| folder.name).collect();
    assert_eq!(names[1..4], ["A", "A/B", "A/C"], "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with('Z')));
    assert!(!world.home().join("portcullis-renaming").exists());
}
