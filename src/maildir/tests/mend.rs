//! Checking, repairing and rebuilding mailboxes, and taking messages over.

use super::{picture::Picture, *};

fn ann() -> UserId {
    UserId::parse("ann@example.com").unwrap()
}

impl World {
    fn mail_store(&self) -> &Arc<Mail> {
        self.store.as_ref().unwrap()
    }

    /// What is wrong, notes aside, in a word each.
    async fn wrong(&self) -> Vec<&'static str> {
        let checked = self.mail_store().check(&ann(), None).await.unwrap();
        let mut kinds: Vec<_> =
            checked.findings.iter().filter(|f| f.weight != Weight::Note).map(|f| f.kind).collect();
        kinds.sort_unstable();
        kinds
    }

    async fn repaired(&self) -> Vec<String> {
        let done = self.mail_store().repair(&ann(), None).await.unwrap();
        done.into_iter().map(|(folder, what)| format!("{folder}: {what}")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_in_order_has_nothing_to_mend_and_checking_changes_nothing() {
    let world = World::new().await;
    world.append("INBOX", b"one", Flags::SEEN, &["k"]).await;
    world.append("Archive", b"two", Flags::NONE, &[]).await;
    world.deliver("9.mta", b"three\n");
    let stamp = |name: &str| fs::metadata(world.home().join(name)).unwrap().modified().unwrap();
    let before = (stamp("cur"), stamp("new"), stamp("portcullis-index"), stamp("."));
    assert!(world.wrong().await.is_empty());
    let checked = world.mail_store().check(&ann(), Some("INBOX")).await.unwrap();
    assert_eq!((checked.folders, checked.messages), (1, 1));
    let kinds: Vec<_> = checked.findings.iter().map(|f| (f.kind, f.weight)).collect();
    assert_eq!(kinds, [("file_not_in_index", Weight::Note)]);
    assert_eq!(before, (stamp("cur"), stamp("new"), stamp("portcullis-index"), stamp(".")));
    assert_eq!(world.repaired().await, ["INBOX: 1 files are in the index now"]);
    assert!(world.repaired().await.is_empty());
    let nobody = UserId::parse("nobody@example.com").unwrap();
    let missing = world.mail_store().check(&nobody, None).await;
    assert_eq!(missing, Err(MailError::NoSuchFolder { name: nobody.to_string() }));
    assert!(!world.dir.path().join("example.com/nobody").exists());
    let missing = world.mail_store().check(&ann(), Some("Nowhere")).await;
    assert_eq!(missing, Err(MailError::NoSuchFolder { name: "Nowhere".to_owned() }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_found_and_mended_without_renumbering() {
    let world = World::new().await;
    for text in ["one", "two", "three", "four"] {
        world.append("INBOX", text.as_bytes(), Flags::SEEN, &["k"]).await;
    }
    let before = Picture::of(&world.mail).await;
    let cur = world.home().join("cur");
    let mut names = world.files("");
    names.sort_by_key(|name| fs::read_to_string(cur.join(name)).unwrap());
    let [four, one, three, two] = names.as_slice() else { panic!("{names:?}") };
    let world = world.restart().await;
    // Removed behind our back; changed; there twice, with the same content and with other.
    fs::remove_file(cur.join(four)).unwrap();
    fs::write(cur.join(one), "one and more").unwrap();
    fs::copy(cur.join(two), cur.join(format!("{two}F"))).unwrap();
    fs::write(world.home().join("new").join(three.split(':').next().unwrap()), "another").unwrap();
    fs::create_dir(world.home().join("portcullis-gone-x")).unwrap();
    fs::write(world.home().join("tmp/fresh"), "on its way").unwrap();
    assert_eq!(world.wrong().await, ["leftover_directory", "no_file", "size", "size", "two_files", "two_files"]);
    let done = world.repaired().await;
    assert!(done.iter().any(|what| what.contains("UID 1 was changed on disk")), "{done:?}");
    assert!(world.wrong().await.is_empty(), "{done:?}");
    let after = Picture::of(&world.mail).await;
    let (before, after) = (&before.folders["INBOX"], &after.folders["INBOX"]);
    assert_eq!(before.uid_validity, after.uid_validity);
    let texts: Vec<(u32, &str)> = after.messages.iter().map(|(uid, m)| (*uid, m.text.as_str())).collect();
    let [(2, "two"), (3, "three"), rest @ ..] = texts.as_slice() else { panic!("{texts:?}") };
    let mut rest: Vec<&str> =
        rest.iter().filter(|(uid, _)| *uid >= before.uid_next).map(|(_, text)| *text).collect();
    rest.sort_unstable();
    assert_eq!(rest, ["another", "one and more"]);
    assert!(!world.home().join("portcullis-gone-x").exists());
    assert!(world.home().join("tmp/fresh").exists(), "a delivery under way is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_is_told_of_and_written_anew() {
    let world = World::new().await;
    for n in 0..3 {
        world.append("INBOX", format!("text {n}").as_bytes(), Flags::NONE, &["k"]).await;
    }
    let before = Picture::of(&world.mail).await;
    let world = world.restart().await;
    let index = world.home().join("portcullis-index");
    let mut bytes = fs::read(&index).unwrap();
    let length = bytes.len();
    bytes[length - 3] ^= 0x55;
    fs::write(&index, &bytes).unwrap();
    assert_eq!(world.wrong().await, ["damaged_index"]);
    let done = world.repaired().await;
    assert!(done.contains(&"INBOX: wrote the damaged index anew".to_owned()), "{done:?}");
    assert!(world.wrong().await.is_empty());
    let after = Picture::of(&world.mail).await;
    let (before, after) = (&before.folders["INBOX"], &after.folders["INBOX"]);
    assert_eq!(before.uid_validity, after.uid_validity);
    assert_eq!(after.messages.len(), 3);
    for (uid, message) in &after.messages {
        let known = before.messages.get(uid).is_some_and(|m| m.text == message.text);
        assert!(known || *uid >= before.uid_next, "UID {uid} stands for another message");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_folder_has_a_new_uidvalidity_and_all_else_as_before() {
    let world = World::new().await;
    for text in ["one", "two", "three"] {
        world.append("INBOX", text.as_bytes(), Flags::FLAGGED, &["k"]).await;
    }
    let mut view = world.inbox().await;
    view.store_flags(&[1], FlagOp::Add, Flags::DELETED, &[]).await.unwrap();
    view.expunge(None).await.unwrap();
    view.sync(true);
    let dates: Vec<_> = (1..=2).map(|seq| view.message(seq).unwrap().internal_date).collect();
    let old = view.uid_validity();
    let rebuilt = world.mail_store().rebuild(&ann(), Some("INBOX")).await.unwrap();
    let [Rebuilt { folder, before: Some(before), after, messages: 2 }] = rebuilt.as_slice() else {
        panic!("{rebuilt:?}")
    };
    assert_eq!((folder.as_str(), *before), ("INBOX", old));
    assert!(*after > old);
    // Whoever had it open has it no more; whoever opens it now has the new one.
    assert!(view.is_gone());
    assert_eq!(view.sync(true), [Update::Expunged(2), Update::Expunged(1)]);
    let view = world.inbox().await;
    assert_eq!((view.uid_validity(), view.uids()), (*after, &[1, 2][..]));
    for seq in 1..=2 {
        let meta = view.message(seq).unwrap();
        assert_eq!(
            (meta.flags, meta.keywords.len(), meta.internal_date),
            (Flags::FLAGGED, 1, dates[seq as usize - 1])
        );
    }
    let ids: Vec<String> = view.uidls().values().map(ToString::to_string).collect();
    assert_eq!(ids, [format!("{old}.2"), format!("{old}.3")], "POP3 calls them as before");
    drop(view);
    let world = world.restart().await;
    assert_eq!(world.inbox().await.uid_validity(), *after);
    assert!(world.wrong().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_goes_on_after_a_rebuild_where_it_was() {
    let world = World::new().await;
    let importer = world.mail_store().importer(&ann()).await.unwrap();
    let mut into = importer.folder("INBOX", None, "there").await.unwrap();
    let one = vec![(stage(&into, "one").await, Incoming::default())];
    into.take(one, 9).await.unwrap();
    world.mail_store().rebuild(&ann(), Some("INBOX")).await.unwrap();
    assert_eq!(importer.folder("INBOX", None, "there").await.unwrap().upto(), 9);
    let world = world.restart().await;
    let importer = world.mail_store().importer(&ann()).await.unwrap();
    assert_eq!(importer.folder("INBOX", None, "there").await.unwrap().upto(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_has_shown_and_not_recorded_is_taken_once() {
    let world = World::new().await;
    let importer = world.mail_store().importer(&ann()).await.unwrap();
    drop(importer.folder("Old", numbered(77, 30), "there").await.unwrap());
    drop(importer);
    let home = world.home().join(".Old");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"there");
    let source = u64::from_le_bytes(*digest.as_ref().first_chunk().unwrap());
    let note = |upto: u64, names: &str| {
        fs::write(home.join(format!("tmp/import-{source:016x}")), format!("{upto}\n{names}")).unwrap();
    };
    note(9, "1.left\n2.left\n3.left\n");
    for name in ["1.left:2,S", "2.left:2,"] {
        fs::write(home.join("cur").join(name), "text\n").unwrap();
    }
    let world = world.restart().await;
    let importer = world.mail_store().importer(&ann()).await.unwrap();
    let mut into = importer.folder("Old", numbered(77, 30), "there").await.unwrap();
    assert_eq!((into.keeps_uids(), into.upto()), (true, 0));
    let said = |uid| Incoming { uid: Some(uid), ..Incoming::default() };
    let both = vec![(stage(&into, "one").await, said(5)), (stage(&into, "two").await, said(9))];
    into.take(both, 9).await.unwrap();
    let uids = async |world: &World| world.mail.view("Old", Mode::ReadOnly).await.unwrap().uids().to_vec();
    assert_eq!(uids(&world).await, [5, 9]);
    assert_eq!(home.join("tmp").read_dir().unwrap().count(), 0);

    // A note that a crash brought back, of messages that are recorded.
    let names = home.join("cur").read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = names.map(|name| name.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(names.len(), 2);
    note(9, &names.join("\n"));
    assert_eq!(importer.folder("Old", numbered(77, 30), "there").await.unwrap().upto(), 9);
    assert_eq!(uids(&world).await, [5, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_caches_changes_nothing_that_is_seen() {
    let world = World::new().await;
    world.append("INBOX", b"one", Flags::SEEN, &["k"]).await;
    let before = Picture::of(&world.mail).await;
    fs::write(world.home().join("portcullis-cache"), "rubbish").unwrap();
    let folders = world.mail_store().reindex(&ann(), None).await.unwrap();
    assert_eq!(folders.first().map(String::as_str), Some("INBOX"));
    assert!(!world.home().join("portcullis-cache").exists());
    assert_eq!(Picture::of(&world.mail).await, before);
    assert_eq!(Picture::on(world.dir.path()).await, before);
}

/// How a source numbers its messages.
fn numbered(uid_validity: u32, uid_next: u32) -> Option<Numbering> {
    Some(Numbering { uid_validity, uid_next })
}

async fn stage(into: &Into, text: &str) -> Staged {
    let mut staging = into.stage().await.unwrap();
    staging.write(text.as_bytes()).await.unwrap();
    staging.finish().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_taken_over_keep_uids_dates_and_ids_and_a_run_goes_on_where_it_was() {
    let world = World::new().await;
    let importer = world.mail_store().importer(&ann()).await.unwrap();
    let mut into = importer.folder("Old/Deep", numbered(77, 30), "there").await.unwrap();
    assert!(into.keeps_uids());
    let said = |uid, id: &str| Incoming {
        uid: Some(uid),
        flags: Flags::SEEN,
        keywords: vec!["Later".to_owned(), "not an atom".to_owned()],
        date: UnixTime::from_secs(837_596_665),
        saved: Some(UnixTime::from_secs(900_000_000)),
        uidl: Some(id.to_owned()),
    };
    let batch = vec![(stage(&into, "a\nb").await, said(5, "id-5")), (stage(&into, "c").await, said(9, "no id"))];
    let taken = into.take(batch, 9).await.unwrap();
    assert_eq!(taken, Taken { messages: 2, keywords_left_out: 2, renumbered: 0 });
    into.reserve(30).await.unwrap();
    drop((into, importer));

    let world = world.restart().await;
    let view = world.mail.view("Old/Deep", Mode::ReadWrite).await.unwrap();
    assert_eq!((view.uid_validity(), view.uids(), view.uid_next()), (77, &[5, 9][..], 30));
    let meta = view.message(1).unwrap();
    assert_eq!((meta.internal_date.secs(), meta.saved.secs(), meta.size), (837_596_665, 900_000_000, 4));
    assert_eq!((bytes(&view, 1).await, meta.keywords.len()), (b"a\r\nb".to_vec(), 1));
    let ids: Vec<(u32, String)> = view.uidls().iter().map(|(uid, id)| (*uid, id.to_string())).collect();
    assert_eq!(ids, [(5, "id-5".to_owned())], "an id that POP3 does not allow is left out");

    // The second run knows how far the first one came; another source does not, and gets no UIDs of its own.
    let importer = world.mail_store().importer(&ann()).await.unwrap();
    assert_eq!(importer.would("Old/Deep", numbered(77, 32), "there").await, Ok((false, true, 9)));
    let mut into = importer.folder("Old/Deep", numbered(77, 32), "there").await.unwrap();
    assert_eq!((into.keeps_uids(), into.upto()), (true, 9));
    let late = vec![(stage(&into, "late").await, said(31, "id-31"))];
    into.take(late, 31).await.unwrap();
    let wrong = vec![(stage(&into, "wrong").await, said(7, "x"))];
    assert!(into.take(wrong, 7).await.is_err(), "a UID that was used");
    let mut other = importer.folder("Old/Deep", numbered(77, 9), "elsewhere").await.unwrap();
    assert_eq!((other.keeps_uids(), other.upto()), (false, 0));
    let one = vec![(stage(&other, "other").await, said(2, "y"))];
    other.take(one, 2).await.unwrap();
    let there = Picture::of(&world.mail).await;
    let uids: Vec<u32> = there.folders["Old/Deep"].messages.keys().copied().collect();
    assert_eq!(uids, [5, 9, 31, 32]);
    assert_eq!(world.home().join(".Old.Deep/tmp").read_dir().unwrap().count(), 0, "nothing stays in tmp");
    assert_eq!(Picture::on(world.dir.path()).await, there);
    assert!(world.wrong().await.is_empty());
    // Later folders never get a UIDVALIDITY that was taken over.
    world.mail.create("Next").await.unwrap();
    let far = importer.folder("Far", numbered(u32::MAX - 0xFFFF, 1), "far").await.unwrap();
    assert!(far.keeps_uids());
    let next = world.mail.view("Next", Mode::ReadOnly).await.unwrap();
    assert!(next.uid_validity() > u32::MAX - 0xFFFF);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_one_source_may_share_a_uidvalidity_but_no_identity() {
    let world = World::new().await;
    let importer = world.mail_store().importer(&ann()).await.unwrap();
    let highest = u32::MAX;
    for (name, uid_validity, kept) in
        [("A", 14, true), ("B", 14, true), ("C", highest, false), ("D", highest, false)]
    {
        let into = importer.folder(name, numbered(uid_validity, 1), name).await.unwrap();
        assert_eq!(into.keeps_uids(), kept, "{name}");
    }
    let seen = async |world: &World| {
        let (mut validities, mut ids) = (Vec::new(), Vec::new());
        for name in ["A", "B", "C", "D", "Sent"] {
            let status = world.mail.status(name).await.unwrap();
            let view = world.mail.view(name, Mode::ReadOnly).await.unwrap();
            assert_eq!(
                (view.mailbox_id(), view.uid_validity()),
                (status.mailbox_id, status.uid_validity),
                "{name}"
            );
            validities.push(status.uid_validity);
            ids.push(status.mailbox_id);
        }
        (validities, ids)
    };
    let (validities, ids) = seen(&world).await;
    let apart = |numbers: &[u32]| numbers.iter().collect::<std::collections::HashSet<_>>().len();
    assert_eq!(
        (&validities[..2], apart(&validities), apart(&ids)),
        (&[14, 14][..], 4, 5),
        "{validities:?} {ids:?}"
    );
    assert!(world.wrong().await.is_empty());
    world.mail.rename("A", "E").await.unwrap();
    world.mail.rename("E", "A").await.unwrap();
    assert_eq!(seen(&world.restart().await).await, (validities, ids));
}

/// What a run does that goes on after mail was delivered here, and perhaps there too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_between_two_runs_never_gets_a_uid_of_the_source() {
    let world = World::new().await;
    let importer = world.mail_store().importer(&ann()).await.unwrap();
    let said = |uid| Incoming { uid: Some(uid), ..Incoming::default() };
    let mut into = importer.folder("Old", numbered(77, 10), "there").await.unwrap();
    let first = vec![(stage(&into, "1").await, said(1)), (stage(&into, "5").await, said(5))];
    into.take(first, 5).await.unwrap();
    // Nobody is told of UIDs that are still to come.
    assert_eq!(world.mail.status("Old").await.unwrap().uid_next, 6);
    drop(into);
    let world = world.restart().await;
    assert_eq!(world.append("Old", b"here", Flags::NONE, &[]).await, (77, 10));

    // Cut short, it goes on: what comes late has a UID that nothing else had, here or there.
    let importer = world.mail_store().importer(&ann()).await.unwrap();
    assert_eq!(importer.would("Old", numbered(77, 10), "there").await, Ok((false, true, 5)));
    let mut into = importer.folder("Old", numbered(77, 10), "there").await.unwrap();
    assert_eq!((into.keeps_uids(), into.is_renumbered(), into.upto()), (true, false, 5));
    let late = vec![(stage(&into, "6").await, said(6)), (stage(&into, "9").await, said(9))];
    assert_eq!(into.take(late, 9).await.unwrap().renumbered, 2);
    into.reserve(10).await.unwrap();
    let texts = async |world: &World| {
        let there = Picture::of(&world.mail).await.folders["Old"].clone();
        let each = there.messages.iter().map(|(uid, m)| (*uid, m.text.clone())).collect::<Vec<_>>();
        (there.uid_validity, each)
    };
    let all =
        |uids: [u32; 5]| uids.into_iter().zip(["1", "5", "here", "6", "9"].map(str::to_owned)).collect::<Vec<_>>();
    assert_eq!(texts(&world).await, (77, all([1, 5, 10, 11, 12])));

    // The source went on too, and gave out UID 10 to other mail: whoever knows it must not take ours for it.
    assert_eq!(importer.would("Old", numbered(77, 11), "there").await, Ok((false, false, 9)));
    let mut into = importer.folder("Old", numbered(77, 11), "there").await.unwrap();
    assert_eq!((into.keeps_uids(), into.is_renumbered(), into.upto()), (false, true, 9));
    let (validity, before) = texts(&world).await;
    assert!(validity > 77);
    assert_eq!(before, all([1, 2, 3, 4, 5]));
    let last = vec![(stage(&into, "10").await, said(10))];
    assert_eq!(into.take(last, 10).await.unwrap().renumbered, 0);
    let into = importer.folder("Old", numbered(77, 11), "there").await.unwrap();
    assert_eq!((into.keeps_uids(), into.is_renumbered(), into.upto()), (false, false, 10));
    let world = world.restart().await;
    let (again, after) = texts(&world).await;
    assert_eq!((again, after.last()), (validity, Some(&(6, "10".to_owned()))));
    assert!(world.wrong().await.is_empty());
}
