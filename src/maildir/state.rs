//! What is known of one folder, in memory: the sum of its index's records. Pure; `index` loads and saves it.

use std::sync::Arc;

use super::{
    filename::{self, Place},
    flags::Flags,
    record::{Marks, Record},
};

/// One message of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub uid: u32,
    /// The file's directory and name, when last seen.
    pub place: Place,
    pub flags: Flags,
    dead: bool,
    pub name: Box<[u8]>,
    /// Numbers in [`State::keywords`], sorted.
    pub keywords: Box<[u16]>,
    /// Bytes in wire form, and how many of them are CRs that the file lacks.
    pub size: u64,
    pub bare: u64,
    /// Seconds since 1970: INTERNALDATE, and arrival in this folder.
    pub date: i64,
    pub saved: i64,
    /// The last change of flags or keywords.
    pub modseq: u64,
}

impl Message {
    pub(super) fn base(&self) -> &[u8] {
        filename::base(&self.name)
    }

    /// The record that brings this message back.
    pub(super) fn record(&self) -> Record {
        Record::Message {
            uid: self.uid,
            modseq: self.modseq,
            place: self.place,
            name: self.name.to_vec(),
            size: self.size,
            bare: self.bare,
            date: self.date,
            saved: self.saved,
            keywords: self.keywords.to_vec(),
        }
    }
}

/// One folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub uid_validity: u32,
    pub marks: Marks,
    /// In order of UID.
    pub messages: Vec<Message>,
    /// The keyword table; only ever grows while the index is not rebuilt.
    pub keywords: Vec<Arc<str>>,
}

impl State {
    /// A folder without messages.
    pub(super) fn empty(uid_validity: u32) -> Self {
        let marks = Marks { modseq: 1, uid_next: 1, recent: 1 };
        Self { uid_validity, marks, ..Self::default() }
    }

    pub(super) fn find(&self, uid: u32) -> Option<&Message> {
        let at = self.messages.binary_search_by_key(&uid, |m| m.uid).ok()?;
        self.messages.get(at).filter(|m| !m.dead)
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
                // UIDs ascend; a record that would break the order is a damaged index's and is left out.
                if self.messages.last().is_some_and(|last| last.uid >= uid) {
                    return;
                }
                let flags = filename::flags(filename::info(&name));
                let (name, keywords) = (name.into_boxed_slice(), keywords.into_boxed_slice());
                let modseq = own;
                let dead = false;
                self.messages.push(Message {
                    uid,
                    place,
                    flags,
                    dead,
                    name,
                    keywords,
                    size,
                    bare,
                    date,
                    saved,
                    modseq,
                });
                self.marks.uid_next = self.marks.uid_next.max(uid.saturating_add(1));
            }
            Record::Renamed { uid, place, name } => {
                let Some(message) = self.find_mut(uid) else { return };
                let flags = filename::flags(filename::info(&name));
                if flags != message.flags {
                    message.modseq = modseq;
                }
                (message.flags, message.place, message.name) = (flags, place, name.into_boxed_slice());
            }
            Record::Keywords { uid, keywords } => {
                let Some(message) = self.find_mut(uid) else { return };
                (message.keywords, message.modseq) = (keywords.into_boxed_slice(), modseq);
            }
            Record::Expunged { uid } => {
                if let Some(message) = self.find_mut(uid) {
                    message.dead = true;
                }
            }
            Record::Keyword { name } => self.keywords.push(name.into()),
        }
    }

    /// Drops the messages that were expunged.
    pub(super) fn sweep(&mut self) {
        self.messages.retain(|m| !m.dead);
    }

    /// Everything as records, for a compacted index.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let keywords = self.keywords.iter().map(|k| Record::Keyword { name: k.to_string() });
        keywords.chain(self.messages.iter().map(Message::record))
    }
}
