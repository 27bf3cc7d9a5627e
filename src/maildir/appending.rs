//! APPEND: a message goes to a file in `tmp` as it comes; `deliver` puts it into the folder. Called by `tree` and
//! `session`.

use std::{fs::File, sync::Arc};

use rustix::fs::{Timespec, Timestamps, futimens};

use super::{
    deliver::{self, Delivered, Facts, Ready, TmpFile},
    error::MailError,
    filename,
    flags::Flags,
    folder::{Folder, now_s},
    keywords,
    pool::Pool,
    quota::{Promise, Usage},
    tree,
};
use crate::model::UnixTime;

/// How many bytes are gathered before a blocking thread writes them.
pub(super) const BUFFER: usize = 256 * 1024;

/// A message that is whole and synced, and not delivered yet. Dropped it leaves nothing behind.
pub struct Sealed {
    pub(super) folder: Arc<Folder>,
    pub(super) ready: Ready,
    /// What was promised to it before it came.
    pub(super) room: Option<Promise>,
}

/// A message on its way in. Dropped before [`Appending::finish`] it leaves nothing behind.
pub struct Appending {
    folder: Arc<Folder>,
    pool: Pool,
    /// None while everything is in `buffer`, and while a blocking thread has it.
    open: Option<Open>,
    buffer: Vec<u8>,
    size: u64,
    most: u64,
    /// A write failed, or was dropped midway.
    failed: bool,
    room: Option<Promise>,
}

struct Open {
    file: File,
    tmp: TmpFile,
}

impl Open {
    fn make(folder: &Folder) -> Result<Self, MailError> {
        if folder.is_gone() {
            return Err(MailError::FolderGone);
        }
        let (tmp, name) = (folder.dir()?.sub(b"tmp")?, filename::unique());
        let file = tmp.create(name.as_bytes())?;
        Ok(Self { file, tmp: TmpFile::new(tmp, name.clone(), name) })
    }
}

impl Appending {
    /// Messages may be at most `most` bytes long.
    pub(super) async fn begin(folder: Arc<Folder>, pool: Pool, most: u64) -> Result<Self, MailError> {
        folder.settle_in().await?;
        Ok(Self { folder, pool, open: None, buffer: Vec::new(), size: 0, most, failed: false, room: None })
    }

    /// The same, holding the room it takes up.
    pub(super) fn within(self, room: Option<Promise>) -> Self {
        Self { room, ..self }
    }

    /// Bytes taken in so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next bytes of the message, as they are.
    ///
    /// # Errors
    /// `TooBig`, or what the disk says; every later call then fails too. A call dropped midway counts as failed.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), MailError> {
        self.size += bytes.len() as u64;
        if self.size > self.most {
            (self.failed, self.open) = (true, None);
            return Err(MailError::TooBig { most: self.most });
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), MailError> {
        self.may_go_on()?;
        self.failed = true;
        let (folder, open) = (Arc::clone(&self.folder), self.open.take());
        let mut bytes = std::mem::take(&mut self.buffer);
        let write = move || {
            let open = open.map_or_else(|| Open::make(&folder), Ok)?;
            open.tmp.tmp.write(&open.file, &bytes)?;
            bytes.clear();
            Ok((open, bytes))
        };
        let (open, buffer) = self.pool.run("writing a message", write).await?;
        (self.open, self.buffer, self.failed) = (Some(open), buffer, false);
        Ok(())
    }

    fn may_go_on(&self) -> Result<(), MailError> {
        if self.failed { Err(MailError::Fault { doing: "writing a message" }) } else { Ok(()) }
    }

    /// Makes the message durable and visible: UIDVALIDITY and UID, as in `APPENDUID` (RFC 4315 section 3). `date` is
    /// the INTERNALDATE, now if absent.
    ///
    /// # Errors
    /// `Limit` for too many keywords; `NoSpace`, `OverQuota`, `Io` from the disk. The message is then not there.
    pub async fn finish(
        self,
        flags: Flags,
        keywords: &[&str],
        date: Option<UnixTime>,
    ) -> Result<(u32, u32), MailError> {
        let (uid_validity, uids) = self.finish_after(Vec::new(), flags, keywords, date).await?;
        let uid = uids.first().copied().ok_or(MailError::Fault { doing: "saving a message" })?;
        Ok((uid_validity, uid))
    }

    /// The same for several messages, of which this is the last, all or none: UIDVALIDITY and UIDs, in order.
    ///
    /// # Errors
    /// As [`Appending::finish`]; `FolderGone` if they are not all for one folder. None of them is there then.
    pub async fn finish_after(
        mut self,
        before: Vec<Sealed>,
        flags: Flags,
        keywords: &[&str],
        date: Option<UnixTime>,
    ) -> Result<Delivered, MailError> {
        if !before.iter().all(|message| Arc::ptr_eq(&message.folder, &self.folder)) {
            return Err(MailError::FolderGone);
        }
        let shared = self.folder.shared.upgrade().ok_or(MailError::FolderGone)?;
        let (rooms, before): (Vec<Option<Promise>>, Vec<Ready>) =
            before.into_iter().map(|it| (it.room, it.ready)).unzip();
        let mut rooms: Vec<Option<Promise>> = rooms.into_iter().chain([self.room.take()]).collect();
        let sizes: Vec<u64> = before.iter().map(|ready| ready.facts.size).chain([self.size]).collect();
        let fits = |(room, size): (&Option<Promise>, &u64)| {
            room.as_ref().is_some_and(|room| room.covers(Usage::of([*size])))
        };
        if !rooms.iter().zip(&sizes).all(fits) {
            rooms.clear();
            rooms.push(Some(tree::room(&shared, &self.folder.spot().owner, Usage::of(sizes)).await?));
        }
        let last = self.ended(flags, keywords, date)?;
        // Saved and delivered in one visit to a blocking thread.
        let deliver = move || {
            let folder = Arc::clone(&last.folder);
            let last = last.save()?;
            let messages = before.into_iter().chain([last]).collect();
            Ok(deliver::bring_now(&folder, messages))
        };
        let delivered = deliver::answered(shared.pool.run("saving a message", deliver).await?).await;
        drop(rooms);
        delivered
    }

    /// Ends the message and syncs it, to be delivered together with others or in another's place.
    ///
    /// # Errors
    /// As [`Appending::finish`].
    pub async fn seal(
        mut self,
        flags: Flags,
        keywords: &[&str],
        date: Option<UnixTime>,
    ) -> Result<Sealed, MailError> {
        let (pool, folder, room) = (self.pool.clone(), Arc::clone(&self.folder), self.room.take());
        let ended = self.ended(flags, keywords, date)?;
        Ok(Sealed { folder, ready: pool.run("saving a message", move || ended.save()).await?, room })
    }

    fn ended(self, flags: Flags, keywords: &[&str], date: Option<UnixTime>) -> Result<Ended, MailError> {
        let keywords = keywords::checked(keywords, &self.folder.limits)?;
        self.may_go_on()?;
        let Self { folder, open, buffer, size, .. } = self;
        let date = date.map_or_else(now_s, UnixTime::secs);
        Ok(Ended { folder, open, rest: buffer, facts: Facts { flags, keywords, size, bare: 0, date } })
    }
}

/// A message that came to its end, and is not all written.
struct Ended {
    folder: Arc<Folder>,
    open: Option<Open>,
    rest: Vec<u8>,
    facts: Facts,
}

impl Ended {
    /// Writes what is left and syncs it. Blocks.
    fn save(self) -> Result<Ready, MailError> {
        let Self { folder, open, rest, facts } = self;
        let Open { file, mut tmp } = open.map_or_else(|| Open::make(&folder), Ok)?;
        tmp.tmp.write(&file, &rest)?;
        let stamp = Timespec { tv_sec: facts.date, tv_nsec: 0 };
        // The date is in the index too; a file system that can not keep it costs only a rebuilt index its dates.
        let _ = futimens(&file, &Timestamps { last_access: stamp, last_modification: stamp });
        tmp.tmp.sync_file(&file)?;
        // Equal sizes say: stored in wire form, to be sent as it is.
        tmp.base = format!("{},S={size},W={size}", tmp.base, size = facts.size);
        Ok(Ready { file: tmp, facts })
    }
}
