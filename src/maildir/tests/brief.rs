//! Folders that are opened without being loaded, and folders that change under who has them open.

use super::*;

/// As the store leaves a large folder when nobody has it open any more.
async fn noted(world: &World) {
    tokio::time::sleep(Duration::from_millis(70)).await;
    world.mail.at(None).note().await;
}

/// Five messages, the second gone, the third with a keyword, the first two seen.
async fn world() -> World {
    let world = World::new().await;
    for text in ["one", "two", "three", "four", "five"] {
        world.append("INBOX", text.as_bytes(), Flags::NONE, &[]).await;
    }
    let mut view = world.inbox().await;
    view.store_flags(&[1, 2], FlagOp::Add, Flags::SEEN, &["$Old"]).await.unwrap();
    view.store_flags(&[3], FlagOp::Add, Flags::NONE, &["$Third"]).await.unwrap();
    view.remove(&[2]).await.unwrap();
    noted(&world).await;
    drop(view);
    world
}

/// What SELECT tells.
fn told(view: &View) -> (u32, u32, Option<u32>, u32, u32, u64, Vec<Arc<str>>) {
    let numbers = (view.len(), view.recent(), view.first_unseen(), view.uid_validity());
    (numbers.0, numbers.1, numbers.2, numbers.3, view.uid_next(), view.told_modseq(), view.keywords())
}

/// Another process's store in the same place.
async fn another(world: &World) -> (Arc<Mail>, Maildir) {
    open(world.dir.path(), None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_noted_folder_is_opened_without_being_loaded_and_is_what_it_was() {
    let world = world().await;
    let before = world.inbox().await;
    let (expected, uids) = (told(&before), before.uids().to_vec());
    assert_eq!((expected.0, expected.2, uids.as_slice()), (4, Some(2), &[1, 3, 4, 5][..]));
    drop(before);
    for mode in [Mode::ReadWrite, Mode::ReadOnly] {
        let other = another_world(&world).await;
        let mut view = other.mail.view("INBOX", mode).await.unwrap();
        assert_eq!(told(&view), expected);
        view.poll().await.unwrap();
        view.wake_for_news().await.unwrap();
        assert_eq!(view.sync(true), []);
        assert!(!view.folder.is_loaded(), "{mode:?}");
        assert_eq!((view.uid(4), view.seq(3), view.uids()), (Some(5), Some(2), uids.as_slice()));
        assert!(view.folder.is_loaded());
        assert_eq!(told(&view), expected, "the same once it is loaded");
        assert_eq!(bytes(&view, 2).await, b"three");
    }
}

/// The same directory seen by another process.
async fn another_world(world: &World) -> World {
    let (store, mail) = another(world).await;
    // The first world keeps the directory.
    World { dir: quick_dir(), store: Some(store), mail }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_after_it_was_opened_is_told_and_what_happened_before_is_seen() {
    let world = world().await.restart().await;
    let mut view = world.inbox().await;
    assert!(!view.folder.is_loaded());
    world.deliver("9.mta", b"six");
    assert_eq!(news(&mut view).await, [Update::Exists(5), Update::Recent(1)]);
    assert_eq!(view.uids(), [1, 3, 4, 5, 6]);
    drop(view);
    let world = world.restart().await;
    let view = world.inbox().await;
    assert!(view.folder.is_loaded(), "nobody noted the delivery");
    noted(&world).await;
    drop(view);
    world.deliver("9.mtb", b"seven");
    let world = world.restart().await;
    assert_eq!(world.inbox().await.len(), 6, "the directory says that it changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_flags_and_keywords_make_a_note_worthless() {
    let world = world().await;
    let mut view = world.inbox().await;
    for keyword in ["$A", "$B"] {
        view.store_flags(&[4], FlagOp::Add, Flags::NONE, &[keyword]).await.unwrap();
        let world = another_world(&world).await;
        let other = world.inbox().await;
        assert_eq!((other.folder.is_loaded(), other.keywords()), (true, view.keywords()));
        assert_eq!(other.message(4).unwrap().keywords.len(), view.message(4).unwrap().keywords.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_did_between_opening_and_loading_is_told() {
    let world = world().await.restart().await;
    let mut view = world.inbox().await;
    view.unwatch();
    let other = another_world(&world).await;
    let mut theirs = other.inbox().await;
    theirs.store_flags(&[2], FlagOp::Add, Flags::FLAGGED, &[]).await.unwrap();
    theirs.remove(&[3]).await.unwrap();
    other.append("INBOX", b"six", Flags::NONE, &[]).await;
    assert!(!view.folder.is_loaded());
    assert_eq!(view.len(), 4);
    view.wake().await.unwrap();
    assert_eq!(view.uids(), [1, 3, 4, 5], "as it was told");
    let told = view.sync(true);
    assert_eq!(told, [Update::Expunged(3), Update::Exists(4), Update::Recent(1), Update::Flags(2)]);
    assert_eq!(view.take_removed(), [4]);

    // An index made anew tells no more how it was before.
    noted(&world).await;
    drop(view);
    let world = world.restart().await;
    let mut view = world.inbox().await;
    assert!(!view.folder.is_loaded());
    view.unwatch();
    let mut theirs = other.inbox().await;
    theirs.remove(&[4]).await.unwrap();
    theirs.compact().await;
    view.wake().await.unwrap();
    assert_eq!((view.uids()[..3].to_vec(), view.len()), (vec![1, 3, 5], 4));
    assert_eq!((view.sync(true), view.uids()), (vec![Update::Expunged(4)], &[1, 3, 5][..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_says_what_is_not_so_is_mended_by_what_is_told_next() {
    for (wrong, mends) in [(5, vec![Update::Expunged(5)]), (3, vec![Update::Exists(4), Update::Recent(0)])] {
        let world = world().await;
        let view = world.inbox().await;
        let noted = view.folder.exclusively("testing", move |ex| {
            let (mut index, state) = index::Index::load(&ex.dir)?.unwrap();
            let summary = record::Summary { messages: wrong, ..state.summary(1) };
            index.note(&ex.dir, state.marks, ex.stamps()?, summary)
        });
        noted.await.unwrap();
        drop(view);
        let world = world.restart().await;
        let mut view = world.inbox().await;
        assert_eq!((u64::from(view.len()), view.folder.is_loaded()), (wrong, false));
        view.wake().await.unwrap();
        assert_eq!(u64::from(view.len()), wrong);
        assert_eq!((view.sync(true), view.uids()), (mends, &[1, 3, 4, 5][..]));
        assert!(!view.is_gone());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_made_anew_ends_whoever_asks_without_a_look_at_the_disk() {
    let world = World::new().await;
    for text in ["one", "two", "three"] {
        world.append("INBOX", text.as_bytes(), Flags::NONE, &[]).await;
    }
    let mut first = world.inbox().await;
    first.remove(&[1]).await.unwrap();
    drop(first);
    let mut drop_box = world.mail.exclusive().await.unwrap();
    assert_eq!(drop_box.uids(), [2, 3]);
    drop_box.put_away();
    let (other, _mail) = another(&world).await;
    other.rebuild(&UserId::parse("ann@example.com").unwrap(), Some("INBOX")).await.unwrap();
    assert!(drop_box.read(1).await.is_err());
    assert!(drop_box.remove(&[1]).await.is_err());
    assert!(drop_box.is_gone());
    let view = world.inbox().await;
    assert_eq!((bytes(&view, 1).await, bytes(&view, 2).await), (b"two".to_vec(), b"three".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_index_of_the_same_length_in_the_same_file_is_noticed() {
    let world = World::new().await;
    world.append("INBOX", b"one", Flags::NONE, &["$K"]).await;
    let mut view = world.inbox().await;
    view.compact().await;
    let path = world.home().join("portcullis-index");
    let kept = world.home().join("kept");
    fs::hard_link(&path, &kept).unwrap();
    let other = another_world(&world).await;
    other.inbox().await.compact().await;
    let theirs = fs::read(&path).unwrap();
    assert_eq!(theirs.len(), fs::read(&kept).unwrap().len());
    fs::rename(&kept, &path).unwrap();
    fs::write(&path, theirs).unwrap();
    view.store_flags(&[1], FlagOp::Remove, Flags::NONE, &["$K"]).await.unwrap();
    drop(view);
    let world = world.restart().await;
    assert_eq!(world.inbox().await.message(1).unwrap().keywords.len(), 0, "what was acknowledged is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_put_in_the_place_of_another_is_the_folder() {
    let world = World::new().await;
    world.append("Sent", b"old", Flags::NONE, &[]).await;
    let view = world.mail.view("Sent", Mode::ReadWrite).await.unwrap();
    fs::rename(world.home().join(".Sent"), world.home().join(".Old")).unwrap();
    for name in ["", "cur", "new", "tmp"] {
        fs::create_dir(world.home().join(".Sent").join(name)).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    world.append("Sent", b"new", Flags::NONE, &[]).await;
    assert!(view.is_gone());
    let view = world.mail.view("Sent", Mode::ReadWrite).await.unwrap();
    assert_eq!((view.len(), bytes(&view, 1).await), (1, b"new".to_vec()));
    let old = world.mail.view("Old", Mode::ReadWrite).await.unwrap();
    assert_eq!((old.len(), bytes(&old, 1).await), (1, b"old".to_vec()));
}

#[derive(Clone)]
struct Length;

impl Insight for Length {
    fn suffices(&self, _: &[u8]) -> bool {
        true
    }

    fn start(&self) -> usize {
        0
    }

    fn look_at_start(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn look(&self, message: &mut MessageReader) -> Result<Vec<u8>, MailError> {
        Ok(message.size().to_le_bytes().to_vec())
    }
}

#[tokio::test]
async fn a_folder_that_was_just_loaded_is_not_put_away_though_nobody_asked_it_yet() {
    let world = World::new().await;
    let view = world.inbox().await;
    let shared = view.folder.shared.upgrade().unwrap();
    let fresh = Arc::new(folder::Folder::new(&shared, view.folder.spot()));
    fresh.exclusively("testing", |_| Ok(())).await.unwrap();
    fresh.put_away(Duration::from_secs(20));
    assert!(fresh.is_loaded());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_put_away_while_messages_are_looked_into() {
    let world = World::new().await;
    world.append("INBOX", b"one", Flags::NONE, &[]).await;
    let view = world.inbox().await;
    let folder = Arc::clone(&view.folder);
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let putting = std::thread::spawn(move || {
        while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            folder.put_away(Duration::ZERO);
        }
    });
    let looking = async {
        for _ in 0..2_000 {
            assert_eq!(view.inside(&[1], &Length).await.unwrap().len(), 1);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looking).await.expect("neither waits for the other");
    end.send(()).unwrap();
    putting.join().unwrap();
}
