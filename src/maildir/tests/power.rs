//! The power fails in the middle of everything: what was acknowledged by then is there, whatever of the rest is.

use super::{picture::Picture, rig::Rig, *};
use crate::maildir::{disk::Dir, seam::Seam};

const TEXTS: &str = "message";

/// A store on a rig, from its very beginning.
async fn begin() -> (tempfile::TempDir, Arc<Rig>, Arc<Mail>, Maildir) {
    let dir = quick_dir();
    let rig = Arc::new(Rig::over(dir.path()));
    let settings = Settings { root: dir.path().to_owned(), limits: Limits::default() };
    let store = Mail::with_seam(settings, Some(Arc::clone(&rig) as Arc<dyn Seam>)).unwrap();
    let mail = store.open_for(&UserId::parse("ann@example.com").unwrap()).await.unwrap();
    (dir, rig, store, mail)
}

/// How many runs: more by `PORTCULLIS_POWER_RUNS`.
fn runs() -> u64 {
    std::env::var("PORTCULLIS_POWER_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_at_any_moment_loses_nothing_acknowledged() {
    for seed in 1..=runs() {
        let mut random = Random::new(seed);
        let (_dir, rig, _store, mail) = begin().await;
        // Each change with the moments of its beginning and its acknowledgement, and the pictures before and after.
        let mut history = Vec::new();
        let mut before = Picture::of(&mail).await;
        for step in 0..40 {
            let start = rig.now();
            let what = change(&mail, &before, &mut random, step).await;
            let end = rig.now();
            let after = Picture::of(&mail).await;
            history.push((start, end, what, before, after.clone()));
            before = after;
        }
        for _ in 0..60 {
            let moment = random.below(rig.now() as u64 + 1) as usize;
            let Some((start, end, what, was, to_be)) = history.iter().rev().find(|(start, ..)| *start <= moment)
            else {
                continue;
            };
            let cut = quick_dir();
            rig.power_cut(moment, &mut random, cut.path());
            let found = Picture::on(cut.path()).await;
            let wrong = if moment >= *end { found.is(to_be) } else { found.between(was, to_be) };
            if let Err(wrong) = wrong {
                panic!("seed {seed}, moment {moment} of {start} to {end}, {what}: {wrong}");
            }
        }
    }
}

/// One change, acknowledged; what it was.
async fn change(mail: &Maildir, now: &Picture, random: &mut Random, step: u32) -> String {
    let names: Vec<&String> = now.folders.keys().collect();
    let folder = names[random.below(names.len() as u64) as usize].clone();
    let other = names[random.below(names.len() as u64) as usize].clone();
    let mut view = mail.view(&folder, Mode::ReadWrite).await.unwrap();
    let all: Vec<u32> = (1..=view.len()).collect();
    let some: Vec<u32> = all.iter().copied().filter(|_| random.below(2) == 0).collect();
    match random.below(14) {
        0..4 => {
            let mut appending = mail.append(&folder).await.unwrap();
            appending.write(format!("{TEXTS} {step}").as_bytes()).await.unwrap();
            let flags = if random.below(2) == 0 { Flags::NONE } else { Flags::SEEN };
            appending.finish(flags, &["k", &format!("k{step}")], None).await.unwrap();
            format!("APPEND {folder}")
        }
        4 | 5 => {
            view.store_flags(&some, FlagOp::Add, Flags::FLAGGED, &["kept"]).await.unwrap();
            format!("STORE {folder} {some:?}")
        }
        6 => {
            view.store_flags(&some, FlagOp::Replace, Flags::DELETED, &[]).await.unwrap();
            format!("STORE {folder} {some:?} deleted")
        }
        7 => {
            view.expunge(None).await.unwrap();
            format!("EXPUNGE {folder}")
        }
        8 => {
            view.copy(&some, &other).await.unwrap();
            format!("COPY {folder} {some:?} {other}")
        }
        9 if folder != other => {
            view.move_to(&some, &other).await.unwrap();
            format!("MOVE {folder} {some:?} {other}")
        }
        10 => {
            mail.create(&format!("{}/New {step}", other.replace("INBOX", "Box"))).await.unwrap();
            format!("CREATE below {other}")
        }
        11 if folder != "INBOX" => {
            mail.rename(&folder, &format!("Name {step}")).await.unwrap();
            format!("RENAME {folder}")
        }
        12 if folder != "INBOX" => {
            drop(view);
            mail.delete(&folder).await.unwrap();
            format!("DELETE {folder}")
        }
        13 => {
            mail.subscribe(&folder, !now.subscribed.contains(&folder)).await.unwrap();
            format!("SUBSCRIBE {folder}")
        }
        _ => {
            drop(view);
            let mut view = mail.exclusive().await.unwrap();
            let all: Vec<u32> = (1..=view.len()).filter(|_| random.below(3) == 0).collect();
            view.remove(&all).await.unwrap();
            format!("QUIT {all:?}")
        }
    }
}

/// Other programs deliver without a sync: what is acknowledged of their messages holds all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_what_another_program_left_unsynced_survives_a_power_cut() {
    for (moved, count) in [(false, 2), (true, 2), (false, 40)] {
        let (dir, rig, _store, mail) = begin().await;
        let home = Dir::root(&dir.path().join("example.com/ann"), Some(Arc::clone(&rig) as Arc<dyn Seam>)).unwrap();
        let (tmp, new) = (home.sub(b"tmp").unwrap(), home.sub(b"new").unwrap());
        // One name as MTAs make them, and one of ours out of a backup.
        for n in 0..count / 2 {
            for name in [format!("1700000000.{n}.mta"), format!("1700000000.M1P2Q{n}Ra.host")] {
                let file = tmp.create(name.as_bytes()).unwrap();
                tmp.write(&file, b"unsynced").unwrap();
                tmp.rename(name.as_bytes(), &new, name.as_bytes()).unwrap();
            }
        }
        let all: Vec<u32> = (1..=count).collect();
        let mut view = mail.view("INBOX", Mode::ReadWrite).await.unwrap();
        if moved {
            view.move_to(&all, "Archive").await.unwrap();
        } else {
            view.copy(&all, "Archive").await.unwrap();
        }
        let moment = rig.now();
        for seed in 1..=20 {
            let cut = quick_dir();
            rig.power_cut(moment, &mut Random::new(seed), cut.path());
            let found = Picture::on(cut.path()).await;
            let texts: Vec<&str> = found.folders["Archive"].messages.values().map(|m| m.text.as_str()).collect();
            assert_eq!(texts, vec!["unsynced"; all.len()], "moved: {moved}, seed {seed}");
        }
    }
}

/// Many sessions append at once, sharing commits: each acknowledgement holds from the moment it was given.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_sessions_append_at_once_is_there_from_the_moment_of_its_acknowledgement() {
    for seed in 1..=runs() {
        let mut random = Random::new(seed);
        let (_dir, rig, _store, mail) = begin().await;
        let (mut tasks, mut acknowledged) = (Vec::new(), Vec::new());
        for session in 0..8 {
            let (mail, rig) = (mail.clone(), Arc::clone(&rig));
            tasks.push(tokio::spawn(async move {
                let mut told = Vec::new();
                for n in 0..12 {
                    let text = format!("{TEXTS} {session}.{n}");
                    let mut appending = mail.append("INBOX").await.unwrap();
                    appending.write(text.as_bytes()).await.unwrap();
                    let (_, uid) = appending.finish(Flags::NONE, &["k"], None).await.unwrap();
                    told.push((rig.now(), uid, text));
                }
                told
            }));
        }
        for task in tasks {
            acknowledged.extend(task.await.unwrap());
        }
        for _ in 0..30 {
            let moment = random.below(rig.now() as u64 + 1) as usize;
            let cut = quick_dir();
            rig.power_cut(moment, &mut random, cut.path());
            let found = Picture::on(cut.path()).await;
            let inbox = &found.folders["INBOX"].messages;
            for (at, uid, text) in &acknowledged {
                if *at <= moment {
                    let there = inbox.get(uid).map(|m| m.text.as_str());
                    assert_eq!(there, Some(text.as_str()), "seed {seed}, moment {moment}: uid {uid}");
                }
                let count = inbox.values().filter(|m| m.text == *text).count();
                assert!(count <= 1, "seed {seed}, moment {moment}: {text} is there {count} times");
            }
            for (uid, seen) in inbox {
                let known = acknowledged.iter().any(|(_, _, text)| *text == seen.text);
                assert!(known, "seed {seed}, moment {moment}: {uid} is {:?}", seen.text);
            }
        }
    }
}
