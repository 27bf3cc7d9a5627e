//! Many messages at once, for SEARCH, SORT and THREAD: what is known of them, in one walk under one lock; and their
//! files, read on one blocking thread.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    View,
    inside::{self, Insight},
};
use crate::maildir::{
    disk::Dir,
    error::MailError,
    filename::Place,
    flags::Flags,
    folder::Folder,
    pool::Pool,
    scan,
    state::{Message, State},
    wire::MessageReader,
};

/// Most messages are shorter, in bytes.
const ROOM: usize = 64 * 1024;

/// What is known of a message without opening it, as [`View::survey`] shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance<'s> {
    /// The UID.
    pub uid: u32,
    /// System flags.
    pub flags: Flags,
    /// Keywords, by the numbers that [`View::keyword`] gives.
    pub keywords: &'s [u16],
    /// Whether this view is the first to see it: `\Recent`.
    pub recent: bool,
    /// Bytes in wire form.
    pub size: u64,
    /// INTERNALDATE, in seconds since 1970.
    pub date: i64,
    /// When it came into this folder, in seconds since 1970.
    pub saved: i64,
    /// The last change of its flags or keywords (RFC 7162).
    pub modseq: u64,
    /// What it is called wherever it goes (RFC 8474).
    pub id: u64,
    /// Whether `size`, `date` and `id` are known: see [`View::measure`].
    pub measured: bool,
}

impl View {
    /// Calls `each` for the messages with these sequence numbers, which ascend; those that another session expunged are
    /// passed over. Keep `each` short and the numbers few: the folder is locked meanwhile.
    pub fn survey(&self, seqs: impl IntoIterator<Item = u32>, mut each: impl FnMut(u32, Glance<'_>)) {
        self.folder.read(|state| {
            let mut at = 0;
            for seq in seqs {
                let Some(message) = self.uid(seq).and_then(|uid| state.find_from(&mut at, uid)) else { continue };
                each(seq, self.glance(message));
            }
        });
    }

    fn glance<'s>(&self, message: &'s Message) -> Glance<'s> {
        Glance {
            uid: message.uid,
            flags: message.flags,
            keywords: message.keywords(),
            recent: self.is_recent(message.uid),
            size: message.size,
            date: message.date,
            saved: message.saved,
            modseq: message.modseq,
            id: message.id,
            measured: message.measured,
        }
    }

    /// The number of a keyword in this folder, any letter case; none if no message ever had it.
    pub fn keyword(&self, name: &str) -> Option<u16> {
        self.folder.read(|state| state.keyword(name)).flatten()
    }

    /// Runs `work` on a blocking thread, with the files of this folder's messages at hand. Keep it short: how many such
    /// threads there are is bounded. It runs to its end even when the caller goes away.
    ///
    /// # Errors
    /// `FolderGone`, what the disk says, or what `work` gives back.
    pub async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, MailError> + Send + 'static,
    ) -> Result<T, MailError> {
        let shared = self.folder.shared.upgrade().ok_or(MailError::FolderGone)?;
        let (folder, pool) = (Arc::clone(&self.folder), shared.pool.clone());
        let run = move || {
            let dir = folder.dir()?;
            let (cur, new) = (dir.sub(Place::Cur.dir().as_bytes())?, dir.sub(Place::New.dir().as_bytes())?);
            work(&Files { folder, pool, cur, new })
        };
        shared.pool.run("reading messages", run).await
    }

    /// Looks where other programs have moved messages that [`Files::read`] called gone: those that are still there can be
    /// read after it.
    ///
    /// # Errors
    /// `FolderGone`, or what the disk says.
    pub async fn look_again(&self) -> Result<(), MailError> {
        self.folder.exclusively("looking for messages", |ex| scan::all(ex, false)).await
    }
}

/// The files of a folder's messages, on a blocking thread.
pub struct Files {
    folder: Arc<Folder>,
    pool: Pool,
    cur: Dir,
    new: Dir,
}

impl Files {
    /// As [`View::inside`], on the blocking thread: what is inside the first of these messages, by UID.
    ///
    /// # Errors
    /// As [`View::inside`].
    pub fn inside(&self, uids: &[u32], insight: &impl Insight) -> Result<Vec<(u32, Option<Bytes>)>, MailError> {
        let wanted: Vec<(u32, u32)> = uids.iter().take(inside::MOST).map(|uid| (*uid, *uid)).collect();
        let work =
            inside::Work { folder: Arc::clone(&self.folder), pool: self.pool.clone(), insight: insight.clone() };
        work.carry_out(&wanted)
    }

    /// Reads a message's file as it stands, whichever way its lines end, to the start of `room`, which grows as is needed;
    /// how long it is. None if it is longer than `most` bytes.
    ///
    /// # Errors
    /// As [`Files::read`].
    pub fn stored(&self, uid: u32, room: &mut Vec<u8>, most: usize) -> Result<Option<usize>, MailError> {
        let known = self.folder.read(|s: &State| s.find(uid).map(|m| (m.place, s.name(m).to_vec())));
        let (place, name) = known.flatten().ok_or(MailError::Gone { uid })?;
        let dir = if place == Place::Cur { &self.cur } else { &self.new };
        // One byte more tells that it is longer.
        let most = most.saturating_add(1);
        room.resize(room.len().max(ROOM.min(most)), 0);
        loop {
            let read = dir.read_start(&name, room, true);
            let read = read.map_err(|error| if error.is_missing() { MailError::Gone { uid } } else { error })?;
            if read < room.len() {
                return Ok(Some(read).filter(|read| *read < most));
            }
            if read >= most {
                return Ok(None);
            }
            room.resize(most, 0);
        }
    }

    /// Opens a message. Read it with [`MessageReader::next_now`].
    ///
    /// # Errors
    /// `Gone` if it is not where it was; see [`View::look_again`]. `Io`.
    pub fn read(&self, uid: u32) -> Result<MessageReader, MailError> {
        let known = self.folder.read(|s: &State| s.find(uid).map(|m| (m.place, s.name(m).to_vec(), m.sizes())));
        let (place, name, sizes) = known.flatten().ok_or(MailError::Gone { uid })?;
        let dir = if place == Place::Cur { &self.cur } else { &self.new };
        MessageReader::open(dir, &name, &self.pool, uid, sizes)
            .inspect(|opened| self.folder.opened(opened))
            .map_err(|error| if error.is_missing() { MailError::Gone { uid } } else { error })
    }
}
