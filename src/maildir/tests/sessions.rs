use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn sequence_numbers_hold_until_the_session_is_told() {
    let world = World::new().await;
    for n in 0..4 {
        world.append("INBOX", format!("m{n}").as_bytes(), Flags::NONE, &[]).await;
    }
    let (mut one, mut two) = (world.inbox().await, world.inbox().await);
    one.store_flags(&[2, 3], FlagOp::Add, Flags::DELETED, &[]).await.unwrap();
    assert_eq!(two.sync(false), [Update::Flags(2), Update::Flags(3)]);
    assert_eq!(one.expunge(None).await.unwrap(), 2);
    world.append("INBOX", b"m4", Flags::NONE, &[]).await;
    assert_eq!(two.sync(false), [Update::Exists(5), Update::Recent(1)], "no removal while FETCH runs");
    assert_eq!((two.message(2), bytes(&two, 4).await), (None, b"m3".to_vec()));
    assert!(matches!(two.read(2).await, Err(MailError::Gone { uid: 2 })));
    assert_eq!(two.sync(true), [Update::Expunged(3), Update::Expunged(2)]);
    assert_eq!((two.uids(), bytes(&two, 2).await), (&[1, 4, 5][..], b"m3".to_vec()));
    assert_eq!(two.sync(true), []);
    let told = one.sync(true);
    assert_eq!(told, [Update::Expunged(3), Update::Expunged(2), Update::Exists(3), Update::Recent(2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_being_read_can_be_read_to_its_end_although_it_is_expunged() {
    let world = World::new().await;
    let text = vec![b'x'; 300_000];
    world.append("INBOX", &text, Flags::DELETED, &[]).await;
    let (mut one, two) = (world.inbox().await, world.inbox().await);
    let mut reader = two.read(1).await.unwrap();
    let mut read = reader.next().await.unwrap().unwrap().to_vec();
    one.expunge(None).await.unwrap();
    while let Some(chunk) = reader.next().await.unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert!(read == text);
}

#[tokio::test(flavor = "multi_thread")]
async fn recent_belongs_to_the_first_session_that_may_write() {
    let world = World::new().await;
    world.deliver("1.mta", b"x");
    let look = world.mail.view("INBOX", Mode::ReadOnly).await.unwrap();
    assert_eq!((look.recent(), world.files("")), (1, vec!["1.mta".to_owned()]), "EXAMINE moves nothing");
    let mut first = world.inbox().await;
    assert_eq!((first.recent(), world.files("")), (1, vec!["1.mta:2,".to_owned()]));
    let mut second = world.inbox().await;
    assert_eq!(second.recent(), 0);
    world.append("INBOX", b"y", Flags::NONE, &[]).await;
    assert_eq!(second.sync(true), [Update::Exists(2), Update::Recent(1)]);
    assert_eq!(first.sync(true), [Update::Exists(2), Update::Recent(1)]);
    assert!(first.message(1).unwrap().recent && !first.message(2).unwrap().recent);
    assert_eq!(world.mail.status("INBOX").await.unwrap().recent, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_and_move_keep_flags_keywords_dates_and_bytes() {
    let world = World::new().await;
    let mut appending = world.mail.append("INBOX").await.unwrap();
    appending.write(b"appended\r\n").await.unwrap();
    let date = UnixTime::from_secs(1_234_567_890);
    appending.finish(Flags::ANSWERED, &["work", "Later"], Some(date)).await.unwrap();
    world.deliver("2.lf", b"delivered\n");
    let mut inbox = world.inbox().await;
    let ids = [1, 2].map(|seq| inbox.message(seq).unwrap().id);
    let copied = inbox.copy(&[1, 2], "Archive").await.unwrap();
    assert_eq!(copied.uids, [(1, 1), (2, 2)]);
    let moved = inbox.move_to(&[2], "Archive").await.unwrap();
    assert_eq!(moved.uids, [(2, 3)]);
    assert_eq!(inbox.sync(true), [Update::Expunged(2)]);
    let world = world.restart().await;
    let archive = world.mail.view("Archive", Mode::ReadOnly).await.unwrap();
    assert_eq!((archive.uid_validity(), archive.len()), (copied.uid_validity, 3));
    let meta = archive.message(1).unwrap();
    assert_eq!((meta.flags, meta.internal_date), (Flags::ANSWERED, date));
    assert_eq!(meta.keywords, ["work".into(), "Later".into()]);
    assert_eq!(bytes(&archive, 1).await, b"appended\r\n");
    assert_eq!([1, 2, 3].map(|seq| archive.message(seq).unwrap().id), [ids[0], ids[1], ids[1]]);
    for seq in 2..=3 {
        assert_eq!(archive.message(seq).unwrap().size, 11);
        assert_eq!(bytes(&archive, seq).await, b"delivered\r\n");
    }
    assert!(world.files("").len() == 1 && world.files(".Archive").len() == 3);
    let missing = inbox.copy(&[1], "Nowhere").await;
    assert_eq!(missing, Err(MailError::TryCreate { name: "Nowhere".into() }));
}

#[tokio::test(flavor = "multi_thread")]
async fn examine_changes_nothing() {
    let world = World::new().await;
    world.append("INBOX", b"x", Flags::DELETED, &[]).await;
    let mut view = world.mail.view("INBOX", Mode::ReadOnly).await.unwrap();
    assert_eq!(view.store_flags(&[1], FlagOp::Replace, Flags::NONE, &[]).await, Err(MailError::ReadOnly));
    assert_eq!(view.expunge(None).await, Err(MailError::ReadOnly));
    assert_eq!(view.move_to(&[1], "Trash").await, Err(MailError::ReadOnly));
    assert_eq!(world.mail.status("Trash").await.unwrap().messages, 0);
    assert_eq!(view.message(1).unwrap().flags, Flags::DELETED);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pop_session_at_a_time_and_it_deletes_only_when_told_to() {
    let world = World::new().await;
    world.deliver("1.mta", b"x\n");
    let mut pop = world.mail.exclusive().await.unwrap();
    assert!(matches!(world.mail.exclusive().await, Err(MailError::Locked)));
    assert_eq!((pop.len(), world.files("")), (1, vec!["1.mta".to_owned()]));
    assert_eq!(pop.remove(&[1]).await.unwrap(), 1);
    drop(pop);
    let pop = world.mail.exclusive().await.unwrap();
    assert!(pop.is_empty() && world.files("").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn uid_expunge_takes_only_the_uids_named_and_only_the_deleted() {
    let world = World::new().await;
    for flags in [Flags::DELETED, Flags::NONE, Flags::DELETED] {
        world.append("INBOX", b"x", flags, &[]).await;
    }
    let mut view = world.inbox().await;
    assert_eq!(view.expunge(Some(&[2, 3, 9])).await.unwrap(), 1);
    assert_eq!(view.sync(true), [Update::Expunged(3)]);
    assert_eq!(world.append("INBOX", b"x", Flags::NONE, &[]).await.1, 4, "UIDs are not reused");
}

#[tokio::test(flavor = "multi_thread")]
async fn keywords_have_a_limit_and_no_letter_case() {
    let world = World::new().await;
    world.append("INBOX", b"x", Flags::NONE, &["Work"]).await;
    let mut view = world.inbox().await;
    assert_eq!(view.store_flags(&[1], FlagOp::Add, Flags::NONE, &["wORK"]).await.unwrap(), Vec::<u32>::new());
    let names: Vec<String> = (0..499).map(|n| format!("k{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    view.store_flags(&[1], FlagOp::Add, Flags::NONE, &names).await.unwrap();
    assert_eq!(view.message(1).unwrap().keywords.len(), 500);
    let more = view.store_flags(&[1], FlagOp::Add, Flags::NONE, &["onemore"]).await;
    assert!(matches!(more, Err(MailError::Limit { most: 500, .. })));
    view.store_flags(&[1], FlagOp::Remove, Flags::NONE, &["unknown", "work"]).await.unwrap();
    assert_eq!(view.message(1).unwrap().keywords.len(), 499);
    for bad in ["", "a b", "\\Seen", "a(", &"x".repeat(101)] {
        assert!(view.store_flags(&[1], FlagOp::Add, Flags::NONE, &[bad]).await.is_err(), "{bad:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_another_program_has_just_set_is_not_undone_by_a_store() {
    let world = World::new().await;
    for n in 1..=3 {
        world.deliver(&format!("{n}.mta"), b"x");
    }
    let mut inbox = world.inbox().await;
    inbox.unwatch();
    for n in 1..=3 {
        let name = |flags| world.home().join(format!("cur/{n}.mta:2,{flags}"));
        std::fs::rename(name(""), name("F")).unwrap();
    }
    assert_eq!(inbox.store_flags(&[1, 2, 3], FlagOp::Add, Flags::SEEN, &[]).await.unwrap(), [1, 2, 3]);
    assert_eq!(world.files(""), ["1.mta:2,FS", "2.mta:2,FS", "3.mta:2,FS"]);
    let both = Flags::SEEN.union(Flags::FLAGGED);
    assert!((1..=3).all(|seq| inbox.message(seq).unwrap().flags == both));
}
