//! Changing messages that are there: flags, keywords, removal. Called by `view`, as the folder's only writer.

use std::{collections::HashSet, sync::Arc};

use super::{
    disk::Dir,
    error::MailError,
    filename::{self, Place},
    flags::{FlagOp, Flags},
    folder::Exclusive,
    keywords::Table,
    record::Record,
    scan,
    state::Message,
    watch::Deeds,
};

/// What STORE asks for.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub op: FlagOp,
    pub flags: Flags,
    pub keywords: Vec<Arc<str>>,
    /// Only messages that did not change after this mod-sequence (RFC 7162 UNCHANGEDSINCE).
    pub unchanged_since: Option<u64>,
}

/// What became of a STORE.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// UIDs of messages that changed, each with the mod-sequence of its last change before this one.
    pub changed: Vec<(u32, u64)>,
    /// UIDs of messages left alone because of `unchanged_since`.
    pub refused: Vec<u32>,
}

/// Sets flags and keywords of those messages that are still there.
///
/// When the disk fails midway, what was done until then is kept and told to every view.
pub(super) fn store(ex: &Exclusive, uids: &[u32], store: &Store) -> Result<Outcome, MailError> {
    let mut records = Vec::new();
    let mut table = ex.read(Table::of)?;
    // Removing a keyword nobody has must not make it.
    let wanted: Vec<Arc<str>> = match store.op {
        FlagOp::Remove => {
            ex.read(|s| store.keywords.iter().filter(|k| s.keyword(k).is_some()).cloned().collect::<Vec<_>>())?
        }
        _ => store.keywords.clone(),
    };
    let given = table.numbers(&wanted, &ex.folder.limits, &mut records)?;
    let (new, cur) = (ex.dir.sub(b"new")?, ex.dir.sub(b"cur")?);
    let (mut outcome, mut renamed_in, mut failed) = (Outcome::default(), HashSet::new(), None);
    let mut deeds = Deeds::begin(ex.folder);
    for uid in uids {
        // As it stands now: a look at the disk for an earlier one may have found this one's new name too.
        let found = ex.read(|s| s.find(*uid).map(|m| (m.clone(), s.name(m).to_vec())))?;
        let Some((message, name)) = found else { continue };
        if store.unchanged_since.is_some_and(|since| has_changed(&message, since, store, &given)) {
            outcome.refused.push(message.uid);
            continue;
        }
        let flags = message.flags.changed(store.op, store.flags);
        let keywords = combine(message.keywords(), store.op, &given);
        if flags != message.flags {
            match rename(ex, &mut deeds, (&message, name), store, [&new, &cur]) {
                Ok(Some((from, name))) => {
                    renamed_in.extend([from, Place::Cur]);
                    records.push(Record::Renamed { uid: message.uid, place: Place::Cur, name });
                }
                Ok(None) => continue,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if keywords != message.keywords() {
            records.push(Record::Keywords { uid: message.uid, keywords });
        } else if flags == message.flags {
            continue;
        }
        outcome.changed.push((message.uid, message.modseq));
    }
    if outcome.changed.is_empty() {
        // A keyword that no message got is none yet.
        records.clear();
    }
    let committed = ex.sync(renamed_in).and_then(|()| ex.commit(records.clone()));
    if let Err(error) = committed {
        // The files have their new names: views must know them to find the messages.
        records.retain(|record| matches!(record, Record::Renamed { .. }));
        ex.adopt(records);
        return Err(error);
    }
    ex.settle(failed).map(|()| outcome)
}

/// Whether a message changed after `since`. Zero asks whether what is to be stored exists there at all: a system flag
/// always does, a keyword if it is set (RFC 7162 section 3.1.3).
fn has_changed(message: &Message, since: u64, store: &Store, given: &[u16]) -> bool {
    let only_keywords = store.op != FlagOp::Replace && store.flags.is_empty();
    if since == 0 && only_keywords {
        return given.iter().any(|keyword| message.keywords().contains(keyword));
    }
    message.modseq > since
}

/// Renames one message's file for its new flags: those its name has by now, changed. Nothing if the message is gone.
fn rename(
    ex: &Exclusive,
    deeds: &mut Deeds,
    (message, name): (&Message, Vec<u8>),
    store: &Store,
    [new, cur]: [&Dir; 2],
) -> Result<Option<(Place, Vec<u8>)>, MailError> {
    let mut known = (message.place, name);
    for _ in 0..3 {
        let flags = filename::flags(filename::info(&known.1)).changed(store.op, store.flags);
        let name = filename::with_flags(&known.1, flags);
        let from = if known.0 == Place::New { new } else { cur };
        if known.0 == Place::Cur && name == known.1 {
            return Ok(Some((Place::Cur, name)));
        }
        let moves = [(known.0, known.1.as_slice(), false), (Place::Cur, name.as_slice(), true)];
        match deeds.make(&moves, || from.rename(&known.1, cur, &name).map(|()| true)) {
            Ok(_) => return Ok(Some((known.0, name))),
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
        // Another program renamed or removed it.
        match locate(ex, message.uid)? {
            Some(found) => known = found,
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// Where a message's file is now, after a look at the disk.
pub(super) fn locate(ex: &Exclusive, uid: u32) -> Result<Option<(Place, Vec<u8>)>, MailError> {
    scan::all(ex, false)?;
    ex.read(|s| s.find(uid).map(|m| (m.place, s.name(m).to_vec())))
}

/// Removes messages for good. Those that are gone already do not matter.
pub(super) fn expunge(ex: &Exclusive, uids: &[u32]) -> Result<(), MailError> {
    let (new, cur) = (ex.dir.sub(b"new")?, ex.dir.sub(b"cur")?);
    let (mut records, mut touched, mut failed) = (Vec::new(), HashSet::new(), None);
    let mut deeds = Deeds::begin(ex.folder);
    let file = |uid: u32| ex.read(|s| s.find(uid).map(|m| (m.place, s.name(m).to_vec())));
    for uid in uids {
        let Some((place, name)) = file(*uid)? else { continue };
        let dir = |place| if place == Place::New { &new } else { &cur };
        let mut removed =
            deeds.make(&[(place, &name, false)], || dir(place).unlink(&name)).map(|there| there.then_some(place));
        if matches!(removed, Ok(None))
            && let Some((place, name)) = locate(ex, *uid)?
        {
            removed = dir(place).unlink(&name).map(|_| Some(place));
        }
        match removed {
            Ok(found) => {
                // One that is gone already may have been removed by a call that failed to make it durable.
                touched.insert(found.unwrap_or(place));
                records.push(Record::Expunged { uid: *uid });
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    if let Err(error) = ex.sync(touched).and_then(|()| ex.commit(records.clone())) {
        ex.adopt(records);
        return Err(error);
    }
    ex.settle(failed)
}

fn combine(old: &[u16], op: FlagOp, given: &[u16]) -> Vec<u16> {
    let mut all: Vec<u16> = match op {
        FlagOp::Add => old.iter().chain(given).copied().collect(),
        FlagOp::Remove => old.iter().filter(|k| !given.contains(k)).copied().collect(),
        FlagOp::Replace => given.to_vec(),
    };
    all.sort_unstable();
    all.dedup();
    all
}
