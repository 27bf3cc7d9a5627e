//! What is known of one folder, in memory: the sum of its index's records. Pure; `index` loads and saves it.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use super::{
    filename::{self, Place},
    flags::Flags,
    gone::Gone,
    measure::{Measured, Sizes},
    record::{Marks, Record, Stamps, Summary},
};

/// One message of a folder. There may be millions, so it is kept small: its name lies in [`State::names`].
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub uid: u32,
    name: Span,
    /// The file's directory, when last seen.
    pub place: Place,
    pub flags: Flags,
    dead: bool,
    /// Numbers in [`State::keywords`], sorted. Most messages have none.
    keywords: Option<Few>,
    /// Whether `size`, `bare`, `date` and `id` were found out by opening the file: see `measure`.
    pub measured: bool,
    /// Bytes in wire form, and how many of them are CRs that the file lacks.
    pub size: u64,
    pub bare: u64,
    /// Seconds since 1970: INTERNALDATE, and arrival in this folder.
    pub date: i64,
    pub saved: i64,
    /// The last change of flags or keywords.
    pub modseq: u64,
    /// What it is called wherever it goes (RFC 8474): a copy has the same.
    pub id: u64,
}

/// What a message that comes in is, measured or not.
struct New<'n> {
    uid: u32,
    place: Place,
    name: &'n [u8],
    saved: i64,
    modseq: u64,
}

#[allow(clippy::box_collection, reason = "one word in each message instead of three")]
type Few = Box<Vec<u16>>;

/// Where a name lies. File names have at most 255 bytes.
#[derive(Clone, Copy, Debug)]
struct Span {
    at: u32,
    length: u8,
}

impl Message {
    pub(super) fn keywords(&self) -> &[u16] {
        self.keywords.as_deref().map_or(&[], |few| few.as_slice())
    }

    /// What its file has to be read by.
    pub(super) fn sizes(&self) -> Sizes {
        Sizes { size: self.size, bare: self.bare, measured: self.measured }
    }
}

/// A list that is kept only if it is not empty.
fn kept(keywords: Vec<u16>) -> Option<Few> {
    (!keywords.is_empty()).then(|| Box::new(keywords))
}

/// One folder.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub uid_validity: u32,
    pub marks: Marks,
    /// In order of UID.
    pub messages: Vec<Message>,
    /// The keyword table; only ever grows while the index is not rebuilt.
    pub keywords: Vec<Arc<str>>,
    /// What POP3 calls messages that came from another server, by UID.
    pub uidls: BTreeMap<u32, Box<str>>,
    /// How far other mailboxes were taken over.
    pub imported: BTreeMap<u64, Imported>,
    /// What the folder is called for good, where that is not its UIDVALIDITY.
    identity: Option<u32>,
    /// The directories' time stamps when the state last showed them as they are.
    pub scanned: Option<Stamps>,
    /// What was removed, and when.
    pub gone: Gone,
    /// The files' names, one after another, and how many bytes of them no message refers to any more.
    names: Vec<u8>,
    unused: usize,
    /// How many messages are not measured.
    pub unmeasured: usize,
    asked: Asked,
}

/// What every session asks of a folder when it opens it, kept until it changes.
#[derive(Clone, Debug, Default)]
struct Asked {
    uids: OnceLock<Arc<[u32]>>,
    first_unseen: OnceLock<Option<u32>>,
    waiting: OnceLock<bool>,
}

/// How far another mailbox was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Imported {
    /// A place in it.
    pub upto: u64,
    /// UIDs below this one are for its messages alone; 0 where they do not keep theirs.
    pub reserved: u32,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        (self.uid_validity, self.marks) == (other.uid_validity, other.marks) && self.records().eq(other.records())
    }
}

impl State {
    /// A folder without messages.
    pub(super) fn empty(uid_validity: u32) -> Self {
        let marks = Marks { modseq: 1, uid_next: 1, recent: 1 };
        Self { uid_validity, marks, ..Self::default() }
    }

    /// The UID of the next message that is delivered: UIDNEXT, or above those reserved for messages that are being taken
    /// over.
    pub(super) fn next_uid(&self) -> u32 {
        let reserved = self.imported.values().map(|imported| imported.reserved).max();
        self.marks.uid_next.max(reserved.unwrap_or(0))
    }

    /// What the folder is called for good: no other of the owner has or had the same.
    pub(super) fn id(&self) -> u32 {
        self.identity.unwrap_or(self.uid_validity)
    }

    /// The name of a message's file, when last seen.
    pub(super) fn name(&self, message: &Message) -> &[u8] {
        let Span { at, length } = message.name;
        self.names.get(at as usize..at as usize + usize::from(length)).unwrap_or_default()
    }

    /// What of its name identifies a message.
    pub(super) fn base(&self, message: &Message) -> &[u8] {
        filename::base(self.name(message))
    }

    /// The record that brings a message back, under the UID that it has or another.
    pub(super) fn record(&self, message: &Message, uid: u32) -> Record {
        if !message.measured {
            return Record::Listed {
                uid,
                modseq: message.modseq,
                place: message.place,
                name: self.name(message).to_vec(),
                saved: message.saved,
                keywords: message.keywords().to_vec(),
            };
        }
        Record::Message {
            uid,
            modseq: message.modseq,
            place: message.place,
            name: self.name(message).to_vec(),
            size: message.size,
            bare: message.bare,
            date: message.date,
            saved: message.saved,
            keywords: message.keywords().to_vec(),
        }
    }

    /// Keeps a name. Nothing if no file can have it.
    fn keep(&mut self, name: &[u8]) -> Option<Span> {
        if self.unused > self.names.len() / 2 {
            self.pack();
        }
        let (at, length) = (u32::try_from(self.names.len()).ok()?, u8::try_from(name.len()).ok()?);
        self.names.extend_from_slice(name);
        Some(Span { at, length })
    }

    /// Drops the names that no message has any more, and whatever else is held in reserve.
    pub(super) fn pack(&mut self) {
        let mut names = Vec::with_capacity(self.names.len().saturating_sub(self.unused));
        for message in &mut self.messages {
            let Span { at, length } = message.name;
            let name = self.names.get(at as usize..at as usize + usize::from(length)).unwrap_or_default();
            // Never more than there were.
            message.name.at = u32::try_from(names.len()).unwrap_or(u32::MAX);
            names.extend_from_slice(name);
        }
        (self.names, self.unused) = (names, 0);
        self.messages.shrink_to_fit();
        self.gone.pack();
    }

    /// The UIDs in ascending order, shared by whoever asks.
    pub(super) fn uids(&self) -> Arc<[u32]> {
        Arc::clone(self.asked.uids.get_or_init(|| self.messages.iter().map(|m| m.uid).collect()))
    }

    /// The UID of the first message without `\Seen`.
    pub(super) fn first_unseen(&self) -> Option<u32> {
        let first = || self.messages.iter().find(|m| !m.flags.contains(Flags::SEEN)).map(|m| m.uid);
        *self.asked.first_unseen.get_or_init(first)
    }

    /// Whether there are messages in `new`.
    pub(super) fn has_waiting(&self) -> bool {
        *self.asked.waiting.get_or_init(|| self.messages.iter().any(|m| m.place == Place::New))
    }

    /// What it comes to.
    pub(super) fn summary(&self, bytes: u64) -> Summary {
        let number = |uid| self.messages.binary_search_by_key(&uid, |m| m.uid).map_or(0, |at| at + 1);
        Summary {
            messages: self.messages.len() as u64,
            bytes,
            unseen: self.first_unseen().and_then(|uid| u32::try_from(number(uid)).ok()).unwrap_or(0),
            id: self.id(),
            waiting: self.has_waiting(),
            keywords: self.keywords.iter().map(ToString::to_string).collect(),
        }
    }

    pub(super) fn find(&self, uid: u32) -> Option<&Message> {
        let at = self.messages.binary_search_by_key(&uid, |m| m.uid).ok()?;
        self.messages.get(at).filter(|m| !m.dead)
    }

    /// The same for UIDs that ascend: `at` is where the last one was found, 0 at first.
    pub(super) fn find_from(&self, at: &mut usize, uid: u32) -> Option<&Message> {
        let ahead = self.messages.get(*at..)?;
        // The next one, most of the time.
        *at += match ahead.iter().take(4).position(|m| m.uid >= uid) {
            Some(near) => near,
            None => ahead.partition_point(|m| m.uid < uid),
        };
        self.messages.get(*at).filter(|m| m.uid == uid && !m.dead)
    }

    fn find_mut(&mut self, uid: u32) -> Option<&mut Message> {
        let at = self.messages.binary_search_by_key(&uid, |m| m.uid).ok()?;
        self.messages.get_mut(at).filter(|m| !m.dead)
    }

    /// The number of a keyword; IMAP does not tell their letter case apart.
    pub(super) fn keyword(&self, name: &str) -> Option<u16> {
        let at = self.keywords.iter().position(|k| k.eq_ignore_ascii_case(name))?;
        u16::try_from(at).ok()
    }

    /// Applies what one commit recorded. A record about a message that is not there changes nothing.
    /// Messages expunged stay, dead, until [`State::sweep`].
    pub(super) fn apply(&mut self, record: Record, modseq: u64) {
        match record {
            Record::Message { uid, modseq: own, place, name, size, bare, date, saved, keywords } => {
                let id = filename::id(&name, size, date);
                let measured = Measured { size, bare, date };
                self.add(New { uid, place, name: &name, saved, modseq: own }, Some((measured, id)), keywords);
            }
            Record::Listed { uid, modseq: own, place, name, saved, keywords } => {
                self.add(New { uid, place, name: &name, saved, modseq: own }, None, keywords);
            }
            Record::Measured { uid, size, bare, date } => drop(self.measured(uid, Measured { size, bare, date })),
            Record::Renamed { uid, place, name } => {
                let flags = filename::flags(filename::info(&name));
                if self.find(uid).is_none() {
                    return;
                }
                let Some(name) = self.keep(&name) else { return };
                (self.asked.first_unseen, self.asked.waiting) = Default::default();
                let Some(message) = self.find_mut(uid) else { return };
                if flags != message.flags {
                    message.modseq = modseq;
                }
                let before = std::mem::replace(&mut message.name, name);
                (message.flags, message.place) = (flags, place);
                self.unused += usize::from(before.length);
            }
            Record::Keywords { uid, keywords } => {
                let Some(message) = self.find_mut(uid) else { return };
                (message.keywords, message.modseq) = (kept(keywords), modseq);
            }
            Record::Expunged { uid } => {
                let Ok(at) = self.messages.binary_search_by_key(&uid, |m| m.uid) else { return };
                let (below, from) = self.messages.split_at_mut(at);
                let Some(message) = from.first_mut().filter(|m| !m.dead) else { return };
                message.dead = true;
                let empty_from = |last| below.iter().rev().take_while(|m| m.uid > last).all(|m| m.dead);
                self.gone.add(uid, modseq, empty_from);
            }
            Record::Keyword { name } => self.keywords.push(name.into()),
            Record::Uidl { uid, text } => {
                if self.find(uid).is_some() {
                    self.uidls.insert(uid, text.into());
                }
            }
            Record::Imported { source, upto, next, reserved } => {
                self.imported.insert(source, Imported { upto, reserved });
                self.marks.uid_next = self.marks.uid_next.max(next);
            }
            Record::Identity { id } => self.identity = Some(id),
            Record::Scanned(stamps) => self.scanned = Some(stamps),
            Record::Gone { floor, ranges } => self.gone = Gone::new(floor, ranges),
            // It tells nothing new.
            Record::Summary(_) => {}
        }
    }

    /// Adds a message above all others, if its name tells its sizes; whether it does.
    pub(super) fn list(&mut self, uid: u32, place: Place, name: &[u8], saved: i64) -> bool {
        self.add(New { uid, place, name, saved, modseq: self.marks.modseq }, None, Vec::new()).is_some()
    }

    /// Adds a message above all others: one that was measured, or one whose name tells its sizes.
    fn add(&mut self, new: New<'_>, measured: Option<(Measured, u64)>, keywords: Vec<u16>) -> Option<()> {
        let New { uid, place, name, saved, modseq } = new;
        // UIDs ascend; a record that would break the order is a damaged index's and is left out.
        if self.messages.last().is_some_and(|last| last.uid >= uid) {
            return None;
        }
        let is_measured = measured.is_some();
        let claimed = || filename::claims(name).map(|(size, bare)| (Measured { size, bare, date: 0 }, 0));
        let (Measured { size, bare, date }, id) = measured.or_else(claimed)?;
        let flags = filename::flags(filename::info(name));
        let name = self.keep(name)?;
        self.asked = Asked::default();
        self.messages.push(Message {
            uid,
            name,
            place,
            flags,
            dead: false,
            keywords: kept(keywords),
            measured: is_measured,
            size,
            bare,
            date,
            saved,
            modseq,
            id,
        });
        self.unmeasured += usize::from(!is_measured);
        self.marks.uid_next = self.marks.uid_next.max(uid.saturating_add(1));
        Some(())
    }

    /// Takes in what was found out about a message; the size its name claimed, unless it is gone or was measured before.
    pub(super) fn measured(&mut self, uid: u32, found: Measured) -> Option<u64> {
        let message = self.find(uid).filter(|message| !message.measured)?;
        let id = filename::id(self.name(message), found.size, found.date);
        let message = self.find_mut(uid)?;
        let claimed = message.size;
        (message.measured, message.id) = (true, id);
        (message.size, message.bare, message.date) = (found.size, found.bare, found.date);
        self.unmeasured -= 1;
        Some(claimed)
    }

    /// Drops the messages that were expunged.
    pub(super) fn sweep(&mut self) {
        self.asked = Asked::default();
        let (unused, uidls, unmeasured) = (&mut self.unused, &mut self.uidls, &mut self.unmeasured);
        self.messages.retain(|m| {
            *unused += if m.dead { usize::from(m.name.length) } else { 0 };
            if m.dead {
                uidls.remove(&m.uid);
                *unmeasured -= usize::from(!m.measured);
            }
            !m.dead
        });
    }

    /// Everything as records, for a compacted index.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let gone = Record::Gone { floor: self.gone.floor(), ranges: self.gone.ranges().collect() };
        let keywords = self.keywords.iter().map(|k| Record::Keyword { name: k.to_string() });
        let scanned = self.scanned.map(Record::Scanned);
        let uidls = self.uidls.iter().map(|(uid, text)| Record::Uidl { uid: *uid, text: text.to_string() });
        let next = self.marks.uid_next;
        let imported = self.imported.iter().map(move |(&source, &Imported { upto, reserved })| Record::Imported {
            source,
            upto,
            next,
            reserved,
        });
        let identity = self.identity.map(|id| Record::Identity { id });
        let messages = self.messages.iter().map(|m| self.record(m, m.uid));
        std::iter::once(gone)
            .chain(identity)
            .chain(keywords)
            .chain(messages)
            .chain(uidls)
            .chain(imported)
            .chain(scanned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(uid: u32, name: &str) -> Record {
        let (place, name, keywords) = (Place::Cur, name.as_bytes().to_vec(), Vec::new());
        Record::Message { uid, modseq: 1, place, name, size: 1, bare: 0, date: 0, saved: 0, keywords }
    }

    #[test]
    fn names_are_right_and_take_no_more_room_than_twice_their_own_however_often_they_change() {
        let mut state = State::empty(1);
        for uid in 1..=100 {
            state.apply(message(uid, &format!("{uid}.base:2,")), 1);
        }
        for round in 0..50_u64 {
            for uid in 1..=100 {
                let name = format!("{uid}.base:2,{}", if round % 2 == 0 { "S" } else { "FS" }).into_bytes();
                state.apply(Record::Renamed { uid, place: Place::Cur, name }, round + 2);
            }
            if round == 20 {
                (1..=50).for_each(|uid| state.apply(Record::Expunged { uid }, 30));
                state.sweep();
            }
        }
        let names: Vec<_> =
            state.messages.iter().map(|m| String::from_utf8_lossy(state.name(m)).into_owned()).collect();
        assert_eq!(names, (51..=100).map(|uid| format!("{uid}.base:2,FS")).collect::<Vec<_>>());
        let own: usize = names.iter().map(String::len).sum();
        assert!(state.names.len() <= own * 2 + 255, "{} bytes for {own}", state.names.len());
        state.pack();
        assert_eq!((state.names.len(), state.unused), (own, 0));
    }

    #[test]
    fn a_name_that_no_file_can_have_is_a_damaged_index_s() {
        let mut state = State::empty(1);
        state.apply(message(1, &"x".repeat(256)), 1);
        state.apply(message(2, &"y".repeat(255)), 1);
        assert_eq!(state.messages.iter().map(|m| m.uid).collect::<Vec<_>>(), [2]);
        state.apply(Record::Renamed { uid: 2, place: Place::New, name: vec![b'z'; 256] }, 2);
        let names: Vec<_> = state.messages.iter().map(|m| state.name(m).len()).collect();
        assert_eq!((names, state.unused), (vec![255], 0));
    }
}
