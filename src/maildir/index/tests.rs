#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]
use std::{collections::BTreeMap, fs, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::maildir::{
    filename::Place,
    flags::Flags,
    seam::{self, Call},
};

/// One thing that happens to a folder.
#[derive(Clone, Debug)]
enum Event {
    Add { flags: u8, keyword: Option<u8> },
    Rename { pick: usize, flags: u8 },
    Keyword { pick: usize, keyword: u8 },
    Expunge { pick: usize },
    Reopen,
    Compact,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..32u8, proptest::option::of(0..4u8)).prop_map(|(flags, keyword)| Event::Add { flags, keyword }),
        2 => (any::<usize>(), 0..32u8).prop_map(|(pick, flags)| Event::Rename { pick, flags }),
        2 => (any::<usize>(), 0..4u8).prop_map(|(pick, keyword)| Event::Keyword { pick, keyword }),
        2 => any::<usize>().prop_map(|pick| Event::Expunge { pick }),
        1 => Just(Event::Reopen),
        1 => Just(Event::Compact),
    ]
}

/// What the index has to remember: UID to flags and keyword names.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    messages: BTreeMap<u32, (Flags, Vec<String>)>,
    next: u32,
}

fn model_of(state: &State) -> Model {
    let names = |ids: &[u16]| ids.iter().map(|id| state.keywords[usize::from(*id)].to_string()).collect();
    let messages = state.messages.iter().map(|m| (m.uid, (m.flags, names(m.keywords())))).collect();
    Model { messages, next: state.marks.uid_next }
}

fn flags(bits: u8) -> Flags {
    let all = [Flags::DRAFT, Flags::FLAGGED, Flags::ANSWERED, Flags::SEEN, Flags::DELETED];
    (0..5).filter(|b| bits & (1 << b) != 0).map(|b| all[b]).fold(Flags::NONE, Flags::union)
}

fn name(uid: u32, flags: Flags) -> Vec<u8> {
    crate::maildir::filename::with_flags(format!("{uid}.x").as_bytes(), flags)
}

fn keyword(state: &State, number: u8, records: &mut Vec<Record>) -> u16 {
    let name = format!("k{number}");
    state.keyword(&name).unwrap_or_else(|| {
        records.push(Record::Keyword { name });
        state.keywords.len() as u16
    })
}

fn apply(state: &mut State, marks: Marks, records: Vec<Record>) {
    records.into_iter().for_each(|r| state.apply(r, marks.modseq));
    state.sweep();
    state.marks = Marks { uid_next: state.marks.uid_next.max(marks.uid_next), ..marks };
}

/// The records of one event, and the model after it.
fn step(event: &Event, state: &State, model: &mut Model) -> Vec<Record> {
    let mut records = Vec::new();
    let uids: Vec<u32> = model.messages.keys().copied().collect();
    let picked = |pick: usize| (!uids.is_empty()).then(|| uids[pick % uids.len()]);
    match event {
        Event::Add { flags: bits, keyword: number } => {
            let (uid, set) = (model.next, flags(*bits));
            let keywords = number.map(|n| keyword(state, n, &mut records)).into_iter().collect();
            let (modseq, place, name) = (state.marks.modseq + 1, Place::Cur, name(uid, set));
            let (size, bare, date, saved) = (10, 1, -5, 7);
            records.push(Record::Message { uid, modseq, place, name, size, bare, date, saved, keywords });
            model.messages.insert(uid, (set, number.map(|n| format!("k{n}")).into_iter().collect()));
            model.next += 1;
        }
        Event::Rename { pick, flags: bits } => {
            let Some(uid) = picked(*pick) else { return records };
            records.push(Record::Renamed { uid, place: Place::New, name: name(uid, flags(*bits)) });
            model.messages.get_mut(&uid).unwrap().0 = flags(*bits);
        }
        Event::Keyword { pick, keyword: number } => {
            let Some(uid) = picked(*pick) else { return records };
            let id = keyword(state, *number, &mut records);
            records.push(Record::Keywords { uid, keywords: vec![id] });
            model.messages.get_mut(&uid).unwrap().1 = vec![format!("k{number}")];
        }
        Event::Expunge { pick } => {
            let Some(uid) = picked(*pick) else { return records };
            records.push(Record::Expunged { uid });
            model.messages.remove(&uid);
        }
        Event::Reopen | Event::Compact => {}
    }
    records
}

fn folder(path: &std::path::Path) -> Dir {
    Dir::root(path, None).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happens to a folder, the index remembers it; and cut off at any byte, it remembers the state after
    /// one of the commits, with a UIDNEXT that none of them passed.
    #[test]
    fn the_index_remembers_and_a_torn_one_remembers_a_prefix(events in prop::collection::vec(event(), 1..40)) {
        let home = tempfile::tempdir().unwrap();
        let dir = folder(home.path());
        let mut state = State::empty(77);
        let mut index = Index::create(&dir, &state).unwrap();
        let mut model = model_of(&state);
        let mut history = vec![model.clone()];
        for event in &events {
            let records = step(event, &state, &mut model);
            match event {
                Event::Reopen => (index, state) = Index::load(&dir).unwrap().unwrap(),
                Event::Compact => {
                    index = Index::create(&dir, &state).unwrap();
                    // The file's past is gone with the old file.
                    history.clear();
                }
                _ if records.is_empty() => {}
                _ => {
                    let marks = Marks { modseq: state.marks.modseq + 1, uid_next: model.next, recent: 1 };
                    index.commit(&dir, marks, &records).unwrap();
                    apply(&mut state, marks, records);
                }
            }
            prop_assert_eq!(model_of(&state), model.clone());
            history.push(model.clone());
        }
        let (found, loaded) = Index::load(&dir).unwrap().unwrap();
        prop_assert!(!found.needs_rewrite());
        prop_assert_eq!(&loaded, &state);
        let bytes = fs::read(home.path().join("portcullis-index")).unwrap();
        let other = tempfile::tempdir().unwrap();
        for cut in 0..bytes.len() {
            fs::write(other.path().join("portcullis-index"), &bytes[..cut]).unwrap();
            match Index::load(&folder(other.path())).unwrap() {
                None => prop_assert!(cut < HEAD),
                Some((_, torn)) if torn.messages.is_empty() => {}
                Some((_, torn)) => {
                    let torn = model_of(&torn);
                    let prefix = history.iter().any(|m| m.messages == torn.messages && m.next <= torn.next);
                    prop_assert!(prefix, "cut at {cut}");
                }
            }
        }
    }

    /// A damaged byte costs the commit it lies in, not those after it, and never a UID that was given out.
    #[test]
    fn damage_never_makes_a_uid_come_back(count in 2..40u32, at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let home = tempfile::tempdir().unwrap();
        let dir = folder(home.path());
        let mut state = State::empty(77);
        let mut index = Index::create(&dir, &state).unwrap();
        let mut model = model_of(&state);
        for _ in 0..count {
            let records = step(&Event::Add { flags: 0, keyword: None }, &state, &mut model);
            let marks = Marks { modseq: state.marks.modseq + 1, uid_next: model.next, recent: 1 };
            index.commit(&dir, marks, &records).unwrap();
            apply(&mut state, marks, records);
        }
        let path = home.path().join("portcullis-index");
        let mut bytes = fs::read(&path).unwrap();
        let at = HEAD + at.index(bytes.len() - HEAD);
        bytes[at] ^= flip;
        fs::write(&path, &bytes).unwrap();
        let (found, damaged) = Index::load(&dir).unwrap().unwrap();
        prop_assert!(found.needs_rewrite());
        prop_assert!(damaged.marks.uid_next >= state.marks.uid_next);
        prop_assert!(damaged.marks.modseq >= state.marks.modseq);
        prop_assert!(damaged.messages.len() + 1 >= state.messages.len());
    }
}

#[test]
fn a_commit_that_fails_does_not_count_and_the_next_one_writes_the_file_anew() {
    for failing in [Call::Write, Call::SyncFile] {
        let home = tempfile::tempdir().unwrap();
        let mut state = State::empty(9);
        let mut index = Index::create(&folder(home.path()), &state).unwrap();
        let broken = Dir::root(
            home.path(),
            seam::seam(Some(Arc::new(move |call, _: &[u8]| (call == failing).then_some(Errno::NOSPC)))),
        );
        let records = step(&Event::Add { flags: 0, keyword: None }, &state, &mut model_of(&state));
        let marks = Marks { modseq: 2, uid_next: 2, recent: 1 };
        let error = index.commit(&broken.unwrap(), marks, &records).unwrap_err();
        assert!(matches!(error, MailError::NoSpace { .. }), "{failing:?}: {error:?}");
        assert!(index.needs_rewrite());
        let dir = folder(home.path());
        assert_eq!(Index::load(&dir).unwrap().unwrap().1, state, "{failing:?}");
        apply(&mut state, marks, records);
        Index::create(&dir, &state).unwrap();
        assert_eq!(Index::load(&dir).unwrap().unwrap().1, state);
    }
}

#[test]
fn rubbish_is_not_an_index_and_does_not_take_long() {
    let home = tempfile::tempdir().unwrap();
    let dir = folder(home.path());
    Index::create(&dir, &State::empty(5)).unwrap();
    let path = home.path().join("portcullis-index");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend((0..300_000u32).flat_map(|n| (n % 70_000).to_le_bytes()));
    fs::write(&path, &bytes).unwrap();
    let start = std::time::Instant::now();
    let (_, state) = Index::load(&dir).unwrap().unwrap();
    assert!(state.marks.uid_next > 100_000 && start.elapsed().as_secs() < 20);
    fs::write(&path, "not an index at all, but long enough").unwrap();
    assert!(Index::load(&dir).unwrap().is_none());
}
