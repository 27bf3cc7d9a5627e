use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_appended_is_read_back_byte_for_byte() {
    let world = World::new().await;
    let text = b"Subject: hello\r\n\r\nbody\nwith a bare LF\r\n";
    let date = UnixTime::from_secs(1_000_000_000);
    let mut appending = world.mail.append("inbox").await.unwrap();
    for piece in text.chunks(5) {
        appending.write(piece).await.unwrap();
    }
    let (validity, uid) = appending.finish(Flags::SEEN, &["$Label1"], Some(date)).await.unwrap();
    let view = world.inbox().await;
    let meta = view.message(1).unwrap();
    assert_eq!((view.uid_validity(), view.len(), meta.uid, uid), (validity, 1, 1, 1));
    assert_eq!((meta.flags, meta.size, meta.internal_date), (Flags::SEEN, text.len() as u64, date));
    assert_eq!(meta.keywords, ["$Label1".into()]);
    assert_eq!(bytes(&view, 1).await, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_with_bare_line_feeds_goes_out_with_crlf_and_its_size_says_so() {
    let world = World::new().await;
    let cases: [(&[u8], &[u8]); 5] = [
        (b"a: b\n\nbody\n", b"a: b\r\n\r\nbody\r\n"),
        (b"a: b\r\n\nmixed\r\n", b"a: b\r\n\r\nmixed\r\n"),
        (b"\n", b"\r\n"),
        (b"", b""),
        (b"no end\r", b"no end\r"),
    ];
    for (at, (stored, _)) in cases.iter().enumerate() {
        world.deliver(&format!("{at}.x"), stored);
    }
    let view = world.inbox().await;
    assert_eq!(view.len(), 5);
    for (seq, (_, wire)) in (1..).zip(cases) {
        assert_eq!(view.message(seq).unwrap().size, wire.len() as u64, "message {seq}");
        assert_eq!(bytes(&view, seq).await, wire, "message {seq}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_as_it_stands_up_to_a_bound() {
    let world = World::new().await;
    let long = [b"a: b\n\n".to_vec(), b"line\n".repeat(20_000)].concat();
    world.deliver("1.short", b"a: b\n\nbody\n");
    world.deliver("2.long", &long);
    world.deliver("3.gone", b"a: b\n\n");
    let view = world.inbox().await;
    assert_eq!(view.len(), 3);
    let cur = world.home().join("cur");
    let gone = fs::read_dir(&cur).unwrap().map(|entry| entry.unwrap().path());
    let gone = gone.into_iter().find(|path| path.to_str().unwrap().contains("3.gone")).unwrap();
    fs::remove_file(&gone).unwrap();
    fs::create_dir(&gone).unwrap();
    let read = view.with_files(move |files| {
        let mut room = Vec::new();
        let mut told = Vec::new();
        for (uid, most) in
            [(2, 200_000), (1, 200_000), (1, 11), (1, 10), (2, 100), (2, long.len()), (2, long.len() - 1)]
        {
            let length = files.stored(uid, &mut room, most)?;
            let expected = if uid == 1 { b"a: b\n\nbody\n" } else { long.as_slice() };
            assert_eq!(
                length.map(|length| &room[..length]),
                length.map(|_| expected),
                "message {uid}, {most} bytes"
            );
            told.push(length.is_some());
        }
        assert!(
            matches!(files.stored(3, &mut room, 9), Err(MailError::Gone { uid: 3 })),
            "a directory in its place"
        );
        Ok(told)
    });
    assert_eq!(read.await, Ok(vec![true, true, true, false, false, true, false]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_read_is_a_slice_of_the_whole() {
    let world = World::new().await;
    let lines: String =
        (0..40_000).map(|n| format!("line {n}{}", if n % 7 == 0 { "\r\n" } else { "\n" })).collect();
    let wire = lines.replace("\r\n", "\n").replace('\n', "\r\n").into_bytes();
    world.deliver("1.lf", lines.as_bytes());
    world.append("INBOX", &wire, Flags::NONE, &[]).await;
    let view = world.inbox().await;
    let length = wire.len() as u64;
    for seq in 1..=2 {
        let mut reader = view.read(seq).await.unwrap();
        assert_eq!(reader.size(), length);
        let ranges =
            [0..length, 5..6, 65_535..65_537, 100..200_000, 0..0, length - 1..length + 9, 300_000..300_001];
        for range in ranges {
            reader.select(range.clone());
            let (start, end) = (range.start.min(length) as usize, range.end.min(length) as usize);
            let expected = wire.get(start..end).unwrap_or_default();
            assert!(reader.all(usize::MAX).await.unwrap() == expected, "message {seq}, {range:?}");
        }
        reader.select(0..u64::MAX);
        while let Some(chunk) = reader.next().await.unwrap() {
            assert!(chunk.len() <= CHUNK && !chunk.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uids_flags_and_keywords_survive_a_restart() {
    let world = World::new().await;
    world.deliver("1.mta", b"a\n");
    world.append("INBOX", b"b\r\n", Flags::FLAGGED, &["work"]).await;
    let mut view = world.inbox().await;
    let changed = view.store_flags(&[1, 2], FlagOp::Add, Flags::SEEN, &["Seen-by-me"]).await.unwrap();
    assert_eq!(changed, [1, 2]);
    assert_eq!(view.sync(true), [], "own changes are not told");
    let before: Vec<Meta> = (1..=2).map(|seq| view.message(seq).unwrap()).collect();
    let (validity, next) = (view.uid_validity(), view.uid_next());
    drop(view);
    let world = world.restart().await;
    let view = world.inbox().await;
    let after: Vec<Meta> = (1..=2).map(|seq| view.message(seq).unwrap()).collect();
    assert_eq!((view.uid_validity(), view.uid_next()), (validity, next));
    let plain = |all: Vec<Meta>| all.into_iter().map(|m| Meta { recent: false, ..m }).collect::<Vec<_>>();
    assert_eq!(plain(after), plain(before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_by_an_mta_wakes_a_waiting_session() {
    let world = World::new().await;
    let mut view = world.inbox().await;
    let mut slowest = Duration::ZERO;
    for n in 1..=20 {
        let start = std::time::Instant::now();
        world.deliver(&format!("{n}.mta"), b"x\n");
        assert_eq!(news(&mut view).await, [Update::Exists(n), Update::Recent(n)]);
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_programs_renames_are_flag_changes_not_new_messages() {
    let world = World::new().await;
    let mut view = world.inbox().await;
    world.deliver("1.mta", b"x\n");
    news(&mut view).await;
    let cur = world.home().join("cur");
    fs::rename(world.home().join("new/1.mta"), cur.join("1.mta:2,F")).unwrap();
    assert_eq!(news(&mut view).await, [Update::Flags(1)]);
    assert_eq!(view.message(1).unwrap().flags, Flags::FLAGGED);
    fs::rename(cur.join("1.mta:2,F"), cur.join("1.mta:2,FSa")).unwrap();
    // Not told yet, but found all the same.
    assert_eq!(bytes(&view, 1).await, b"x\r\n");
    view.store_flags(&[1], FlagOp::Remove, Flags::FLAGGED, &[]).await.unwrap();
    assert_eq!(world.files(""), ["1.mta:2,Sa"]);
    assert_eq!(view.message(1).unwrap().uid, 1);
    assert_eq!(news(&mut view).await, [Update::Flags(1)], "what the other program did has still to be told");
    fs::remove_file(cur.join("1.mta:2,Sa")).unwrap();
    assert_eq!(news(&mut view).await, [Update::Expunged(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_regular_files_are_messages() {
    let world = World::new().await;
    let cur = world.home().join("cur");
    fs::write(world.home().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret", cur.join("1.link:2,")).unwrap();
    fs::create_dir(cur.join("2.dir:2,")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(cur.join("3.fifo:2,")).status().unwrap();
    assert!(fifo.success());
    fs::write(cur.join(".hidden"), "x").unwrap();
    fs::write(world.home().join("tmp/4.tmp"), "x").unwrap();
    fs::write(cur.join("5.real:2,"), "x").unwrap();
    let view = world.inbox().await;
    assert_eq!(view.len(), 1);
    assert_eq!(bytes(&view, 1).await, b"x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_folder_is_listed_again_after_a_restart_only_if_it_changed() {
    let world = World::new().await;
    (0..600).for_each(|at| world.deliver(&format!("{at}.x"), b"a: b\n\nbody\n"));
    let mut view = world.inbox().await;
    view.store_flags(&[5], FlagOp::Add, Flags::SEEN, &[]).await.unwrap();
    drop(view);
    let home = disk::Dir::root(&world.home(), None).unwrap();
    let noted = async {
        while index::Index::load(&home).unwrap().unwrap().1.scanned.is_none_or(|noted| {
            let stat = |name: &[u8]| home.stat(name).unwrap().unwrap();
            let [new, cur] = [stat(b"new"), stat(b"cur")].map(|s| (s.st_mtime, s.st_mtime_nsec as i64));
            noted != record::Stamps([new, cur])
        }) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), noted).await.expect("noted within ten seconds");
    // Without the folder's time stamps telling of it, a file that comes now is not looked for; with them it is.
    let world = world.restart().await;
    let stamp = fs::metadata(world.home().join("new")).unwrap().modified().unwrap();
    world.deliver("600.x", b"a: b\n\nlate\n");
    fs::File::open(world.home().join("new")).unwrap().set_modified(stamp).unwrap();
    assert_eq!(world.inbox().await.len(), 600);
    let world = world.restart().await;
    world.deliver("601.x", b"a: b\n\nlater\n");
    let view = world.inbox().await;
    assert_eq!((view.len(), view.message(5).unwrap().flags), (602, Flags::SEEN));
}

async fn append(mail: &Maildir, text: &[u8]) -> u32 {
    let mut appending = mail.append("INBOX").await.unwrap();
    appending.write(text).await.unwrap();
    appending.finish(Flags::default(), &[], None).await.unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_closed_has_nothing_in_mind_and_can_be_opened_again_after_others_wrote() {
    let world = World::new().await;
    let store = Arc::clone(world.store.as_ref().unwrap());
    assert_eq!(append(&world.mail, b"a: 1\r\n\r\n").await, 1);
    drop(world.inbox().await);
    assert!(store.folders_known() > 0);
    store.close().await;
    assert_eq!(store.folders_known(), 0);
    {
        let (other, mail) = open(world.dir.path(), None).await;
        assert_eq!(append(&mail, b"a: 2\r\n\r\n").await, 2);
        other.close().await;
    }
    assert_eq!(append(&world.mail, b"a: 3\r\n\r\n").await, 3);
    assert_eq!(world.inbox().await.len(), 3);
}
