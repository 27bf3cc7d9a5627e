//! Finding out what is in `new` and `cur`: deliveries, and what other programs renamed or removed. Called by `folder`
//! and `view`, always as the folder's only writer.

use std::collections::{HashMap, HashSet};

use super::{
    disk::Dir,
    error::MailError,
    filename::{self, Place},
    files::Files,
    folder::{self, Exclusive, lock, now_s},
    measure::{self, Measured},
    record::{Record, Stamps},
    state::{Message, State},
};

/// Where each message's file is, by what identifies the message.
type Listing = HashMap<Box<[u8]>, (Place, Vec<u8>)>;

/// Compares the whole folder with what is known and commits the difference. With `settle`, messages in `new` are
/// moved to `cur`, as a program that shows them to a user must (only a read-write SELECT does).
pub(super) fn all(ex: &Exclusive, settle: bool) -> Result<(), MailError> {
    let before = ex.stamps()?;
    let files = Files::list(&ex.dir)?;
    let mut found = ex.read(|state| files.compare(state))?;
    // A file that another program renames while the directory is read may be listed under neither name. Only one
    // that is absent again, from a listing during which nothing moved, is believed to be gone.
    for _ in 0..5 {
        if found.missing.is_empty() {
            break;
        }
        let start = ex.stamps()?;
        let again = Files::list(&ex.dir)?;
        let quiet = start == ex.stamps()?;
        found.look_again(&again);
        if quiet {
            break;
        }
    }
    let whole = found.commit(ex, settle)?;
    looked(ex, before, whole);
    Ok(())
}

/// What the directories of a folder without an index hold, as a state whose index is still to be made.
pub(super) fn first(dir: &Dir, uid_validity: u32) -> Result<State, MailError> {
    let stamps = folder::stamps(dir)?;
    let files = Files::list(dir)?;
    let mut state = State::empty(uid_validity);
    state.messages.reserve_exact(files.len());
    let (new, cur) = (dir.sub(b"new")?, dir.sub(b"cur")?);
    let (saved, mut whole) = (now_s(), true);
    for (place, name) in files.iter() {
        let uid = state.marks.uid_next;
        if state.list(uid, place, name, saved) {
            continue;
        }
        let measured = measured(if place == Place::New { &new } else { &cur }, name);
        whole &= measured.is_ok();
        if let Ok(Some(Measured { size, bare, date })) = measured {
            let (modseq, name, keywords) = (state.marks.modseq, name.to_vec(), Vec::new());
            let record = Record::Message { uid, modseq, place, name, size, bare, date, saved, keywords };
            state.apply(record, modseq);
        }
    }
    state.pack();
    state.scanned = Some(stamps).filter(|stamps| whole && stamps.are_settled());
    Ok(state)
}

/// What a file tells. Nothing if it is gone or renamed meanwhile: the next look finds it. An error if it can not be read
/// now: perhaps then.
fn measured(dir: &Dir, name: &[u8]) -> Result<Option<Measured>, MailError> {
    match measure::file(dir, name) {
        Ok(measured) => Ok(Some(measured)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => {
            tracing::warn!(%error, "a message file can not be read");
            Err(error)
        }
    }
}

/// A file that came or went, as inotify told it.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub place: Place,
    pub name: Vec<u8>,
    /// It stands there since; else it does no longer.
    pub came: bool,
}

/// Looks only at the files that inotify named; falls back to [`all`] when that does not tell enough.
pub(super) fn named(ex: &Exclusive, events: &[Event]) -> Result<(), MailError> {
    let before = ex.stamps()?;
    let events = events.iter().filter(|event| filename::is_message(&event.name));
    let mut asked: HashMap<&[u8], Vec<&Event>> = HashMap::new();
    events.for_each(|event| asked.entry(filename::base(&event.name)).or_default().push(event));
    // What we did ourselves is known already: a file came that is known to stand there, or went from where it is known
    // to stand no longer. If it went from there too, that is an event of its own.
    ex.read(|state| {
        for message in &state.messages {
            let base = state.base(message);
            let Some(events) = asked.get_mut(base) else { continue };
            let stands = |event: &Event| event.place == message.place && event.name == state.name(message);
            events.retain(|event| event.came != stands(event));
            if events.is_empty() {
                asked.remove(base);
            }
        }
    })?;
    let mut listing = Listing::new();
    let (new, cur) = (ex.dir.sub(b"new")?, ex.dir.sub(b"cur")?);
    let dir = |place| if place == Place::New { &new } else { &cur };
    for event in asked.values().flatten() {
        if dir(event.place).is_file(&event.name)? {
            prefer(&mut listing, event.place, event.name.clone());
        }
    }
    let mut found = Found::default();
    if !asked.is_empty() {
        ex.read(|state| {
            let named = state.messages.iter().filter(|m| asked.contains_key(state.base(m)));
            named.for_each(|message| found.place(state, message, &mut listing));
        })?;
    }
    for (_, place, name) in std::mem::take(&mut found.missing) {
        // Events of our own renames name the old file; it is fine that nothing stands there now.
        if !dir(place).is_file(&name)? {
            return all(ex, false);
        }
    }
    found.fresh = listing.into_values().collect();
    found.fresh.sort_by(|(_, a), (_, b)| filename::order(a).cmp(&filename::order(b)));
    let whole = found.commit(ex, false)?;
    looked(ex, before, whole);
    Ok(())
}

/// Remembers what a look took in: all that was there, or something is left for the next one.
fn looked(ex: &Exclusive, before: Stamps, whole: bool) {
    ex.scanned(Some(before).filter(|_| whole));
    if !whole {
        lock(&ex.folder.events).look_again();
    }
}

/// What differs between the files and what is known.
#[derive(Default)]
pub(super) struct Found {
    /// A file could not be looked at.
    partial: bool,
    /// UID, and where the file is now.
    pub renamed: Vec<(u32, Place, Vec<u8>)>,
    /// UID and last known name.
    pub missing: Vec<(u32, Place, Vec<u8>)>,
    /// Files of unknown messages, in order of delivery.
    pub fresh: Vec<(Place, Vec<u8>)>,
}

impl Found {
    fn place(&mut self, state: &State, message: &Message, listing: &mut Listing) {
        let known = state.name(message);
        match listing.remove(filename::base(known)) {
            Some((place, name)) if place == message.place && name == known => {}
            Some((place, name)) => self.renamed.push((message.uid, place, name)),
            None => self.missing.push((message.uid, message.place, known.to_vec())),
        }
    }

    fn look_again(&mut self, files: &Files) {
        let renamed = &mut self.renamed;
        self.missing.retain(|(uid, old_place, old)| match files.find(old) {
            Some((place, name)) if place == *old_place && name == *old => false,
            Some((place, name)) => {
                renamed.push((*uid, place, name.to_vec()));
                false
            }
            None => true,
        });
    }

    /// Whether all of it is known now: a full disk must not stop reading, but keeps new messages out.
    fn commit(mut self, ex: &Exclusive, settle: bool) -> Result<bool, MailError> {
        let mut known = Vec::new();
        for (uid, place, name) in std::mem::take(&mut self.renamed) {
            // Two files of one message (a restored backup, a crash between link and unlink): the known one stays.
            let old = ex.read(|state| state.find(uid).map(|m| (m.place, state.name(m).to_vec())))?;
            if let Some((old_place, old)) = old
                && ex.dir.sub(old_place.dir().as_bytes())?.is_file(&old)?
            {
                continue;
            }
            known.push(Record::Renamed { uid, place, name });
        }
        known.extend(self.missing.iter().map(|(uid, ..)| Record::Expunged { uid: *uid }));
        let mut fresh = self.measure(ex)?;
        if settle {
            self::settle(ex, &mut known, &mut fresh)?;
        }
        let all = if known.is_empty() { fresh } else { known.iter().cloned().chain(fresh).collect() };
        if let Err(error) = ex.commit(all) {
            // New messages get no UID that might be forgotten; the rest is on disk whether recorded or not.
            tracing::warn!(%error, "could not record what changed in a folder");
            if !known.is_empty() {
                ex.adopt(known);
            }
            return Ok(false);
        }
        Ok(!self.partial)
    }

    /// The new messages as records, in order of delivery.
    fn measure(&mut self, ex: &Exclusive) -> Result<Vec<Record>, MailError> {
        let mut uid = ex.read(State::next_uid)?;
        let modseq = ex.next_modseq()?;
        let mut records = Vec::new();
        let (new, cur) = (ex.dir.sub(b"new")?, ex.dir.sub(b"cur")?);
        for (place, name) in std::mem::take(&mut self.fresh) {
            let (saved, keywords) = (now_s(), Vec::new());
            let next = uid.checked_add(1).ok_or(MailError::Limit { what: "UIDs", most: u64::from(u32::MAX) })?;
            if filename::claims(&name).is_some() {
                records.push(Record::Listed { uid, modseq, place, name, saved, keywords });
                uid = next;
                continue;
            }
            let dir = if place == Place::New { &new } else { &cur };
            let measured = measured(dir, &name);
            self.partial |= measured.is_err();
            let Ok(Some(Measured { size, bare, date })) = measured else { continue };
            records.push(Record::Message { uid, modseq, place, name, size, bare, date, saved, keywords });
            uid = next;
        }
        Ok(records)
    }
}

/// Moves messages from `new` to `cur`: those known before, and those found just now.
fn settle(ex: &Exclusive, known: &mut Vec<Record>, fresh: &mut [Record]) -> Result<(), MailError> {
    let gone: HashSet<u32> = known
        .iter()
        .filter_map(|r| match r {
            Record::Renamed { uid, .. } | Record::Expunged { uid } => Some(*uid),
            _ => None,
        })
        .collect();
    let waiting = ex.read(|state| {
        let new = state.messages.iter().filter(|m| m.place == Place::New && !gone.contains(&m.uid));
        new.map(|m| (m.uid, state.name(m).to_vec())).collect::<Vec<_>>()
    })?;
    if waiting.is_empty() && fresh.is_empty() {
        return Ok(());
    }
    let (new, cur) = (ex.dir.sub(b"new")?, ex.dir.sub(b"cur")?);
    let shift = |name: &[u8]| {
        let next = filename::with_flags(name, filename::flags(filename::info(name)));
        new.rename(name, &cur, &next).map(|()| next).ok()
    };
    for (uid, name) in waiting {
        if let Some(name) = shift(&name) {
            known.push(Record::Renamed { uid, place: Place::Cur, name });
        }
    }
    for record in fresh {
        if let Record::Message { place: place @ Place::New, name, .. }
        | Record::Listed { place: place @ Place::New, name, .. } = record
            && let Some(next) = shift(name)
        {
            (*place, *name) = (Place::Cur, next);
        }
    }
    Ok(())
}

/// Of two files of one message, the one in `cur` counts, then the one with more flags.
fn prefer(listing: &mut Listing, place: Place, name: Vec<u8>) {
    let entry = listing.entry(filename::base(&name).into()).or_insert_with(|| (place, name.clone()));
    if (place, name.len()) > (entry.0, entry.1.len()) {
        *entry = (place, name);
    }
}
