//! What a program that was here before has to be told (RFC 7162): whatever happened meanwhile, it ends up with the same
//! view as one that looks for the first time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// UID to flags and keywords.
type Picture = BTreeMap<u32, (Flags, Vec<Arc<str>>)>;

/// What a program kept when it left: what it saw, and the mod-sequence it was told with it.
#[derive(Clone, Debug)]
struct Memory {
    modseq: u64,
    picture: Picture,
}

#[derive(Clone, Debug)]
enum Event {
    Append,
    Deliver,
    Store {
        who: usize,
        pick: usize,
        bits: u8,
        keyword: bool,
    },
    Remove {
        who: usize,
        picks: Vec<usize>,
    },
    Move {
        who: usize,
        pick: usize,
    },
    /// Another program removes a file, or renames one.
    Outside {
        pick: usize,
        remove: bool,
    },
    /// A session is told, removals too or not, and a program leaves with what it knows.
    Leave {
        who: usize,
        removals: bool,
    },
    PutAway,
    Compact,
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let (who, pick) = (0..2_usize, any::<usize>());
    prop_oneof![
        4 => Just(Event::Append),
        1 => Just(Event::Deliver),
        4 => (who.clone(), pick, 0..4_u8, any::<bool>())
            .prop_map(|(who, pick, bits, keyword)| Event::Store { who, pick, bits, keyword }),
        3 => (who.clone(), prop::collection::vec(any::<usize>(), 1..5))
            .prop_map(|(who, picks)| Event::Remove { who, picks }),
        1 => (who.clone(), pick).prop_map(|(who, pick)| Event::Move { who, pick }),
        1 => (pick, any::<bool>()).prop_map(|(pick, remove)| Event::Outside { pick, remove }),
        3 => (who, any::<bool>()).prop_map(|(who, removals)| Event::Leave { who, removals }),
        1 => Just(Event::PutAway),
        1 => Just(Event::Compact),
        1 => Just(Event::Restart),
    ]
}

fn picture(view: &View) -> Picture {
    let mut all = Picture::new();
    view.messages(1..=view.len(), |_, meta| drop(all.insert(meta.uid, (meta.flags, meta.keywords))));
    all
}

/// What the program knows after it was told what it missed.
fn resynced(view: &View, memory: &Memory) -> Picture {
    let mut known = memory.picture.clone();
    for (first, last) in view.vanished_since(memory.modseq, &[(1, u32::MAX)]) {
        assert!(
            first <= last && !view.uids().iter().any(|uid| (first..=last).contains(uid)),
            "{first}:{last} is there"
        );
        known.retain(|uid, _| !(first..=last).contains(uid));
    }
    view.messages(view.changed_since(1..=view.len(), memory.modseq), |_, meta| {
        known.insert(meta.uid, (meta.flags, meta.keywords));
    });
    known
}

async fn happen(
    world: World,
    views: &mut Vec<View>,
    event: &Event,
    at: usize,
    memories: &mut Vec<Memory>,
) -> World {
    let flags = |bits: u8| if bits & 1 == 0 { Flags::SEEN } else { Flags::FLAGGED };
    let seq =
        |view: &View, pick: usize| (!view.is_empty()).then(|| u32::try_from(pick % view.uids().len()).unwrap() + 1);
    match event {
        Event::Append => drop(world.append("INBOX", b"x", Flags::NONE, &[]).await),
        Event::Deliver => world.deliver(&format!("{at}.mta"), b"y\n"),
        Event::Store { who, pick, bits, keyword } => {
            let view = &mut views[*who];
            let Some(seq) = seq(view, *pick) else { return world };
            let op = if bits & 2 == 0 { FlagOp::Add } else { FlagOp::Remove };
            let keywords: &[&str] = if *keyword { &["k"] } else { &[] };
            view.store_flags(&[seq], op, flags(*bits), keywords).await.unwrap();
        }
        Event::Remove { who, picks } => {
            let view = &mut views[*who];
            let seqs: Vec<u32> = picks.iter().filter_map(|pick| seq(view, *pick)).collect();
            view.remove(&seqs).await.unwrap();
        }
        Event::Move { who, pick } => {
            let view = &mut views[*who];
            let Some(seq) = seq(view, *pick) else { return world };
            // Another session may have removed it.
            drop(view.move_to(&[seq], "Archive").await);
        }
        Event::Outside { pick, remove } => {
            let files = world.files("");
            let cur: Vec<_> = files.iter().filter(|name| world.home().join("cur").join(name).exists()).collect();
            let Some(name) = (!cur.is_empty()).then(|| cur[pick % cur.len()]) else { return world };
            let path = world.home().join("cur").join(name);
            if *remove {
                fs::remove_file(path).unwrap();
            } else {
                let base = name.split(':').next().unwrap();
                fs::rename(path, world.home().join(format!("cur/{base}:2,FRS"))).unwrap();
            }
            views[0].folder_scan().await;
        }
        Event::Leave { who, removals } => {
            let view = &mut views[*who];
            view.poll().await.unwrap();
            let held: Vec<u32> = view.uids().to_vec();
            view.sync(*removals);
            let mut picture = picture(view);
            // What was not told to be gone is still there for the program.
            for uid in held.iter().filter(|uid| view.seq(**uid).is_some()) {
                picture.entry(*uid).or_insert((Flags::NONE, Vec::new()));
            }
            memories.push(Memory { modseq: view.told_modseq(), picture });
        }
        Event::PutAway => views[0].put_away(),
        Event::Compact => views[0].compact().await,
        Event::Restart => {
            views.clear();
            let world = world.restart().await;
            for _ in 0..2 {
                views.push(world.inbox().await);
            }
            return world;
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn who_comes_back_ends_with_the_view_of_one_who_is_new(events in prop::collection::vec(event(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            let mut views = vec![world.inbox().await, world.inbox().await];
            let mut memories = vec![Memory { modseq: 1, picture: Picture::new() }];
            let mut highest = 0;
            for (at, event) in events.iter().enumerate() {
                world = happen(world, &mut views, event, at, &mut memories).await;
                let fresh = world.inbox().await;
                assert!(fresh.told_modseq() >= highest, "HIGHESTMODSEQ went back after {event:?}");
                highest = fresh.told_modseq();
                let expected = picture(&fresh);
                for memory in &memories {
                    assert_eq!(resynced(&fresh, memory), expected, "after event {at}, since {}", memory.modseq);
                }
            }
        });
    }
}

/// What removals cost: their UIDs once, as ranges; and what is forgotten is told without its time.
#[tokio::test(flavor = "multi_thread")]
async fn removals_are_told_precisely_until_there_are_too_many_and_then_all_at_once() {
    let world = World::new().await;
    let count = 5_000_u32;
    for n in 0..count {
        fs::write(world.home().join(format!("cur/{n:06}.M1P1.host,S=1,W=1:2,S")), "x").unwrap();
    }
    let mut view = world.inbox().await;
    view.unwatch();
    let start = view.told_modseq();
    let odd = |from: u32, to: u32| (from..to).filter(|uid| uid % 2 == 1).collect::<Vec<u32>>();
    let remove = async |view: &mut View, uids: &[u32]| {
        let seqs: Vec<u32> = uids.iter().map(|uid| view.seq(*uid).unwrap()).collect();
        view.remove(&seqs).await.unwrap();
        view.sync(true);
        view.told_modseq()
    };
    let all = [(1, u32::MAX)];
    let first = remove(&mut view, &odd(1, 1_001)).await;
    let second = remove(&mut view, &odd(1_001, 2_001)).await;
    assert_eq!(view.vanished_since(first, &all).len(), 500);
    assert_eq!(view.vanished_since(start, &all).len(), 1_000);
    assert_eq!(view.vanished_since(second, &all), []);
    assert_eq!(
        view.vanished_since(first, &[(1_000, 1_004), (1_990, 1_992)]),
        [(1_001, 1_001), (1_003, 1_003), (1_991, 1_991)]
    );
    let third = remove(&mut view, &odd(2_001, 5_001)).await;
    // 2,500 ranges are 500 too many: what came before is told of all that is missing.
    assert_eq!(view.vanished_since(third, &all), []);
    assert_eq!(view.vanished_since(second, &all).len(), 1_500);
    assert_eq!(view.vanished_since(first, &all).len(), 2_000);
    assert_eq!(view.vanished_since(start, &all).len(), 2_500);
    // Neighbours of what is gone already make one range with it.
    let last = remove(&mut view, &(2..=5_000).filter(|uid| uid % 2 == 0).collect::<Vec<_>>()).await;
    assert_eq!(view.vanished_since(third, &all), [(2, 5_000)]);
    drop(view);
    let world = world.restart().await;
    let view = world.inbox().await;
    assert_eq!(view.vanished_since(third, &all), [(2, 5_000)], "kept over a restart");
    assert_eq!(view.vanished_since(last, &all), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_forgets_removals_and_never_gives_a_mod_sequence_twice() {
    let world = World::new().await;
    for _ in 0..4 {
        world.append("INBOX", b"x", Flags::NONE, &[]).await;
    }
    let mut view = world.inbox().await;
    view.remove(&[2]).await.unwrap();
    view.sync(true);
    let known = view.told_modseq();
    view.remove(&[3]).await.unwrap();
    view.sync(true);
    let told = view.told_modseq();
    assert_eq!(view.vanished_since(known, &[(1, 9)]), [(4, 4)]);
    drop(view);
    let path = world.home().join("portcullis-index");
    let bytes = fs::read(&path).unwrap();
    // In one step: whoever still looks must not find it empty.
    let torn = world.dir.path().join("torn");
    fs::write(&torn, &bytes[..bytes.len() - 3]).unwrap();
    fs::rename(torn, path).unwrap();
    let world = world.restart().await;
    let view = world.inbox().await;
    assert!(view.told_modseq() > told, "{} after {told}", view.told_modseq());
    assert_eq!(view.vanished_since(known, &[(1, 4)]), [(2, 2), (4, 4)]);
}

/// A full disk: changes are told that no index could keep. After a crash their mod-sequences are not given to others.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_while_the_disk_was_full_is_not_told_again_of_something_else() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let full = Arc::new(AtomicBool::new(false));
    let is_full = Arc::clone(&full);
    let faults: seam::Faults = Some(Arc::new(move |call, _: &[u8]| {
        let writes = matches!(call, seam::Call::Write | seam::Call::Create);
        (writes && is_full.load(Ordering::SeqCst)).then_some(rustix::io::Errno::NOSPC)
    }));
    let mut world = World::new().await.restart_with(faults.clone()).await;
    for name in ["1.a", "2.b"] {
        world.deliver(name, b"x");
    }
    let mut told = 0;
    for round in 0..3 {
        let mut view = world.inbox().await;
        view.unwatch();
        assert!(view.told_modseq() > told || round == 0, "{} after {told}", view.told_modseq());
        full.store(true, Ordering::SeqCst);
        let name = |flags: &str| world.home().join(format!("cur/1.a:2,{flags}"));
        let (from, to) = if round % 2 == 0 { ("", "F") } else { ("F", "") };
        fs::rename(name(from), name(to)).unwrap();
        view.folder_scan().await;
        view.sync(true);
        told = view.told_modseq();
        full.store(false, Ordering::SeqCst);
        drop(view);
        // Another program changes the other message while nobody runs here.
        let name = |flags: &str| world.home().join(format!("cur/2.b:2,{flags}"));
        fs::rename(name(from), name(to)).unwrap();
        world = world.restart_with(faults.clone()).await;
        let view = world.inbox().await;
        assert!(view.changed_since(1..=2, told).contains(&2), "round {round}");
        drop(view);
    }
}
