use std::collections::BTreeSet;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_renamed_while_the_folder_is_read_are_neither_lost_nor_doubled() {
    let world = World::new().await;
    let cur = world.home().join("cur");
    for n in 0..500 {
        fs::write(cur.join(format!("{n:04}.x:2,")), "x").unwrap();
    }
    let mut view = world.inbox().await;
    assert_eq!(view.len(), 500);
    let renamer = std::thread::spawn(move || {
        for round in 0..20 {
            let (old, new) = if round % 2 == 0 { ("", "S") } else { ("S", "") };
            for n in 0..500 {
                fs::rename(cur.join(format!("{n:04}.x:2,{old}")), cur.join(format!("{n:04}.x:2,{new}"))).unwrap();
            }
        }
    });
    while !renamer.is_finished() {
        view.folder_scan().await;
        let updates = view.sync(true);
        assert!(updates.iter().all(|u| matches!(u, Update::Flags(_))), "{updates:?}");
    }
    renamer.join().unwrap();
    view.folder_scan().await;
    view.sync(true);
    assert_eq!(view.uids(), (1..=500).collect::<Vec<u32>>());
    assert!((1..=500).all(|seq| view.message(seq).unwrap().flags == Flags::NONE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sessions_appending_at_once_each_get_a_uid_of_their_own() {
    let world = World::new().await;
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let mail = world.mail.clone();
            tokio::spawn(async move {
                let mut appending = mail.append("INBOX").await.unwrap();
                appending.write(format!("message {n}").as_bytes()).await.unwrap();
                let (_, uid) = appending.finish(Flags::NONE, &[], None).await.unwrap();
                (uid, n)
            })
        })
        .collect();
    let view = world.inbox().await;
    let mut uids = BTreeSet::new();
    for task in tasks {
        let (uid, n) = task.await.unwrap();
        assert!(uids.insert(uid));
        let view = world.mail.view("INBOX", Mode::ReadOnly).await.unwrap();
        assert_eq!(bytes(&view, view.seq(uid).unwrap()).await, format!("message {n}").as_bytes());
    }
    assert_eq!((uids.len(), uids.last()), (100, Some(&100)));
    drop(view);
}

/// Three sessions and an MTA do random things; each session's picture, built from what it is told, stays right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sessions_are_told_adds_up_to_what_is_there() {
    for seed in 1..=8_u64 {
        let world = World::new().await;
        let mut views = [world.inbox().await, world.inbox().await, world.inbox().await];
        let mut pictures: [Vec<u32>; 3] = Default::default();
        let mut random = seed;
        let mut next = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for step in 0..150 {
            let who = next(3) as usize;
            let len = views[who].len();
            let pick = |n: u64| 1 + (n as u32) % len.max(1);
            match next(9) {
                0 => world.deliver(&format!("{step}.mta"), b"mta\n"),
                1 | 2 => drop(world.append("INBOX", b"x", Flags::NONE, &[]).await),
                3 if len > 0 => {
                    let seqs = [pick(next(1000))];
                    views[who].store_flags(&seqs, FlagOp::Add, Flags::DELETED, &["k"]).await.unwrap();
                }
                4 if len > 0 => {
                    let seqs = [pick(next(1000))];
                    views[who].store_flags(&seqs, FlagOp::Replace, Flags::SEEN, &[]).await.unwrap();
                }
                5 if len > 0 => {
                    let seqs = [pick(next(1000))];
                    let copied = views[who].copy(&seqs, "INBOX").await;
                    assert!(matches!(copied, Ok(_) | Err(MailError::Gone { .. })), "{copied:?}");
                }
                6 => drop(views[who].expunge(None).await.unwrap()),
                7 => views[who].poll().await.unwrap(),
                _ => {}
            }
            let allow = next(3) > 0;
            let told = views[who].sync(allow);
            let picture = &mut pictures[who];
            for update in told {
                match update {
                    Update::Expunged(seq) => drop(picture.remove(seq as usize - 1)),
                    Update::Exists(count) => picture.extend(&views[who].uids()[picture.len()..count as usize]),
                    _ => {}
                }
            }
            assert_eq!(picture.as_slice(), views[who].uids(), "seed {seed} step {step}");
            assert!(picture.is_sorted());
        }
        for view in &mut views {
            view.folder_scan().await;
            view.sync(true);
        }
        assert_eq!(views[0].uids(), views[1].uids());
        assert_eq!(views[0].len() as usize, world.files("").len(), "seed {seed}");
        for seq in 1..=views[0].len() {
            assert_eq!(views[0].message(seq).map(|m| m.flags), views[2].message(seq).map(|m| m.flags));
        }
        let (uids, validity) = (views[0].uids().to_vec(), views[0].uid_validity());
        drop(views);
        let world = world.restart().await;
        let view = world.inbox().await;
        assert_eq!((view.uids(), view.uid_validity()), (&uids[..], validity), "seed {seed} after a restart");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_rests_is_put_away_and_comes_back() {
    let world = World::new().await;
    world.append("INBOX", b"x", Flags::NONE, &["k"]).await;
    let mut view = world.inbox().await;
    let before = view.message(1);
    view.put_away();
    assert_eq!(view.message(1), before);
    view.put_away();
    world.deliver("2.mta", b"y");
    assert_eq!(news(&mut view).await, [Update::Exists(2), Update::Recent(2)]);
    view.put_away();
    view.wake().await.unwrap();
    assert_eq!(view.store_flags(&[1, 2], FlagOp::Add, Flags::SEEN, &[]).await.unwrap(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_inotify_a_delivery_is_seen_by_polling() {
    let world = World::new().await;
    let mut view = world.inbox().await;
    view.unwatch();
    world.deliver("1.mta", b"x");
    assert_eq!(news(&mut view).await, [Update::Exists(1), Update::Recent(1)]);
    world.deliver("2.mta", b"x");
    view.poll().await.unwrap();
    assert_eq!(view.sync(true), [Update::Exists(2), Update::Recent(2)]);
}

/// Two processes on one Maildir: here two stores that know nothing of each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_mailbox_agree_on_uids() {
    let world = World::new().await;
    let (_other, theirs) = open(world.dir.path(), None).await;
    let append = |mail: Maildir, text: String| async move {
        let mut appending = mail.append("INBOX").await.unwrap();
        appending.write(text.as_bytes()).await.unwrap();
        appending.finish(Flags::NONE, &[], None).await.unwrap()
    };
    let mut tasks = Vec::new();
    for n in 0..40 {
        let mail = if n % 2 == 0 { world.mail.clone() } else { theirs.clone() };
        let text = format!("message {n}");
        tasks.push((text.clone(), tokio::spawn(append(mail, text))));
    }
    let mut uids = BTreeSet::new();
    for (text, task) in tasks {
        let (_, uid) = task.await.unwrap();
        assert!(uids.insert(uid), "{text} has a UID twice given");
        for mail in [&world.mail, &theirs] {
            let view = mail.view("INBOX", Mode::ReadOnly).await.unwrap();
            assert_eq!(bytes(&view, view.seq(uid).unwrap()).await, text.as_bytes());
        }
    }
    assert_eq!(world.files("").len(), 40);
}

/// Not a promise but figures: `cargo test --release --lib maildir::tests::crowd::figures -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn figures() {
    let world = World::new().await;
    let cur = world.home().join("cur");
    for n in 0..100_000 {
        fs::write(cur.join(format!("{n:06}.M1P1.host,S=5,W=5:2,S")), "hello").unwrap();
    }
    let timed = |what: &str, start: std::time::Instant| println!("{what}: {:?}", start.elapsed());
    let start = std::time::Instant::now();
    let mut view = world.inbox().await;
    timed("first SELECT of 100,000", start);
    tokio::time::sleep(Duration::from_millis(100)).await;
    view.folder_scan().await;
    let start = std::time::Instant::now();
    let two = world.inbox().await;
    timed("second SELECT", start);
    let start = std::time::Instant::now();
    let mut flags = 0;
    two.messages(1..=two.len(), |_, meta| flags += usize::from(meta.flags == Flags::SEEN));
    timed(&format!("flags of all {flags}"), start);
    let start = std::time::Instant::now();
    world.append("INBOX", b"x", Flags::NONE, &[]).await;
    timed("APPEND", start);
    let start = std::time::Instant::now();
    world.deliver("9.mta", b"x");
    news(&mut view).await;
    news(&mut view).await;
    timed("delivery seen", start);
    let start = std::time::Instant::now();
    let all: Vec<u32> = (1..=100_000).collect();
    view.store_flags(&all, FlagOp::Add, Flags::FLAGGED, &[]).await.unwrap();
    timed("STORE 1:*", start);
    let start = std::time::Instant::now();
    view.poll().await.unwrap();
    view.sync(true);
    timed("NOOP after it", start);
    drop((view, two));
    let world = world.restart().await;
    let start = std::time::Instant::now();
    let view = world.inbox().await;
    timed("SELECT after a restart", start);
    let start = std::time::Instant::now();
    for seq in 1..=1000 {
        bytes(&view, seq).await;
    }
    timed("1,000 small messages read", start);
    let big = vec![b'x'; 45 * 1024 * 1024];
    world.append("Sent", &big, Flags::NONE, &[]).await;
    let sent = world.mail.view("Sent", Mode::ReadOnly).await.unwrap();
    let start = std::time::Instant::now();
    let mut reader = sent.read(1).await.unwrap();
    while reader.next().await.unwrap().is_some() {}
    timed("45 MB read", start);
    world.append("Sent", b"x", Flags::NONE, &[]).await;
    let memory =
        || fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4;
    drop((view, sent));
    let mut views = Vec::new();
    let store = world.store.as_ref().unwrap();
    let mut before = 0;
    for user in 0..=200 {
        if user == 1 {
            before = memory();
        }
        let user = UserId::parse(&format!("u{user}@example.com")).unwrap();
        let home = store.provision(&user).await.unwrap();
        for n in 0..1000 {
            fs::write(home.join(format!("cur/{n:06}.M1P1.host,S=5,W=5:2,S")), "hello").unwrap();
        }
        let view = store.open_for(&user).await.unwrap().view("INBOX", Mode::ReadWrite).await.unwrap();
        view.put_away();
        views.push(view);
    }
    println!("resting view of 1,000 messages: {} KB", (memory().saturating_sub(before)) / 200);
}
