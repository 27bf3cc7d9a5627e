//! New messages: streamed to `tmp`, synced, renamed into `cur`, recorded, and only then acknowledged (promise 1 of
//! the threat model). APPEND, COPY and MOVE all end in [`deliver`], which commits what waits in one go.

use std::{fs::File, sync::Arc};

use rustix::{
    fs::{Timespec, Timestamps, futimens},
    io::Errno,
};
use tokio::sync::oneshot;

use super::{
    check,
    disk::Dir,
    error::{MailError, io},
    filename::{self, Place},
    flags::Flags,
    folder::{Exclusive, Folder, lock, now_s},
    keywords,
    pool::Pool,
    quota::{Promise, Usage},
    record::Record,
    tree,
};
use crate::model::UnixTime;

/// How many bytes are gathered before a blocking thread writes them.
const BUFFER: usize = 256 * 1024;
/// What was written longer ago than this is on the disk, whether anybody asked for it or not, in seconds.
const WRITTEN_BACK: i64 = 60;

/// Where new messages of one delivery stand: the folder's UIDVALIDITY, and their UIDs in order.
pub type Delivered = (u32, Vec<u32>);

/// A message in `tmp`, whole and synced, that is not visible yet. Dropped before its delivery it leaves nothing.
pub(super) struct Ready {
    pub file: TmpFile,
    pub flags: Flags,
    pub keywords: Vec<Arc<str>>,
    pub size: u64,
    pub bare: u64,
    pub date: i64,
}

/// Messages that wait for a commit, and who waits for them.
pub(super) struct Waiting {
    messages: Vec<Ready>,
    reply: oneshot::Sender<Result<Delivered, MailError>>,
}

/// A file in `tmp`, removed when dropped.
pub(super) struct TmpFile {
    pub tmp: Dir,
    pub name: String,
    /// The name in `cur`, up to the `:`.
    pub base: String,
    kept: bool,
}

impl TmpFile {
    pub(super) fn new(tmp: Dir, name: String, base: String) -> Self {
        Self { tmp, name, base, kept: false }
    }

    /// Renames it into `cur`.
    pub(super) fn place(&mut self, cur: &Dir, name: &[u8]) -> Result<(), MailError> {
        self.tmp.rename(self.name.as_bytes(), cur, name)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for TmpFile {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (tmp, name) = (self.tmp.clone(), std::mem::take(&mut self.name));
        let remove = move || drop(tmp.unlink(name.as_bytes()));
        match tokio::runtime::Handle::try_current() {
            Ok(handle) => drop(handle.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// A message that is whole and synced, and not delivered yet. Dropped it leaves nothing behind.
pub struct Sealed {
    pub(super) folder: Arc<Folder>,
    pub(super) ready: Ready,
    /// What was promised to it before it came.
    pub(super) room: Option<Promise>,
}

impl Sealed {
    /// Makes the messages durable and visible, all or none: UIDVALIDITY and UIDs, in order.
    ///
    /// # Errors
    /// As [`Appending::finish`]; `FolderGone` if they are not all for one folder. None of them is there then.
    pub async fn deliver(messages: Vec<Self>) -> Result<Delivered, MailError> {
        let folder =
            Arc::clone(&messages.first().ok_or(MailError::Fault { doing: "delivering no message" })?.folder);
        if !messages.iter().all(|message| Arc::ptr_eq(&message.folder, &folder)) {
            return Err(MailError::FolderGone);
        }
        let fits =
            |message: &Self| message.room.as_ref().is_some_and(|room| room.covers(Usage::of([message.ready.size])));
        let (promised, ready) = (messages.iter().all(fits), messages.into_iter().map(|it| (it.room, it.ready)));
        let (rooms, ready): (Vec<Option<Promise>>, Vec<Ready>) = ready.unzip();
        if !promised {
            drop(rooms);
            return deliver(&folder, ready).await;
        }
        let delivered = bring(&folder, ready).await;
        drop(rooms);
        delivered
    }
}

/// A message on its way in. Dropped before [`Appending::finish`] it leaves nothing behind.
pub struct Appending {
    folder: Arc<Folder>,
    pool: Pool,
    /// Absent while a blocking thread has it, and after a failed or dropped write.
    open: Option<Open>,
    buffer: Vec<u8>,
    size: u64,
    most: u64,
    room: Option<Promise>,
}

struct Open {
    file: File,
    tmp: TmpFile,
}

impl Appending {
    /// Opens a file in the folder's `tmp`. Messages may be at most `most` bytes long; `room` is what was promised to this
    /// one.
    pub(super) async fn begin(folder: Arc<Folder>, pool: Pool, most: u64) -> Result<Self, MailError> {
        let open = folder
            .exclusively("beginning a message", |ex| {
                let (tmp, name) = (ex.dir.sub(b"tmp")?, filename::unique());
                let file = tmp.create(name.as_bytes())?;
                Ok(Open { file, tmp: TmpFile::new(tmp, name.clone(), name) })
            })
            .await?;
        Ok(Self { folder, pool, open: Some(open), buffer: Vec::new(), size: 0, most, room: None })
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
            self.open = None;
            return Err(MailError::TooBig { most: self.most });
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), MailError> {
        let open = self.open.take().ok_or(MailError::Fault { doing: "writing a message" })?;
        let mut bytes = std::mem::take(&mut self.buffer);
        let write = move || {
            open.tmp.tmp.write(&open.file, &bytes)?;
            bytes.clear();
            Ok((open, bytes))
        };
        let (open, buffer) = self.pool.run("writing a message", write).await?;
        (self.open, self.buffer) = (Some(open), buffer);
        Ok(())
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
        let (uid_validity, uids) = Sealed::deliver(vec![self.seal(flags, keywords, date).await?]).await?;
        let uid = uids.first().copied().ok_or(MailError::Fault { doing: "saving a message" })?;
        Ok((uid_validity, uid))
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
        let keywords = keywords::checked(keywords, &self.folder.limits)?;
        let Open { file, mut tmp } = self.open.take().ok_or(MailError::Fault { doing: "writing a message" })?;
        let (bytes, size) = (std::mem::take(&mut self.buffer), self.size);
        let date = date.map_or_else(now_s, UnixTime::secs);
        let save = move || {
            tmp.tmp.write(&file, &bytes)?;
            let stamp = Timespec { tv_sec: date, tv_nsec: 0 };
            // The date is in the index too; a file system that can not keep it costs only a rebuilt index its dates.
            let _ = futimens(&file, &Timestamps { last_access: stamp, last_modification: stamp });
            tmp.tmp.sync_file(&file)?;
            // Equal sizes say: stored in wire form, to be sent as it is.
            tmp.base = format!("{},S={size},W={size}", tmp.base);
            Ok(Ready { file: tmp, flags, keywords, size, bare: 0, date })
        };
        let ready = self.pool.run("saving a message", save).await?;
        Ok(Sealed { folder: self.folder, ready, room: self.room })
    }
}

/// Makes messages visible, all or none, where the owner's quota has room for them. What several sessions deliver at the
/// same time is committed together.
pub(super) async fn deliver(folder: &Arc<Folder>, messages: Vec<Ready>) -> Result<Delivered, MailError> {
    let shared = folder.shared.upgrade().ok_or(MailError::FolderGone)?;
    let more = Usage::of(messages.iter().map(|message| message.size));
    let _room = tree::room(&shared, &folder.spot().owner, more).await?;
    bring(folder, messages).await
}

/// The same for messages that are the owner's already: a MOVE takes up nothing.
pub(super) async fn bring(folder: &Arc<Folder>, messages: Vec<Ready>) -> Result<Delivered, MailError> {
    let fault = MailError::Fault { doing: "delivering messages" };
    let (reply, answer) = oneshot::channel();
    lock(&folder.waiting).push(Waiting { messages, reply });
    let commits = Arc::clone(folder);
    // A task of its own: it finishes, or undoes, what it began although the session that waits goes away.
    tokio::spawn(async move {
        let commit = |ex: &Exclusive| {
            commit_waiting(ex);
            Ok(())
        };
        let done = commits.exclusively("delivering messages", commit).await;
        if let Err(error) = done {
            for waiting in std::mem::take(&mut *lock(&commits.waiting)) {
                drop(waiting.reply.send(Err(error.clone())));
            }
        }
    });
    answer.await.map_err(|_| fault)?
}

fn commit_waiting(ex: &Exclusive) {
    let mut all = std::mem::take(&mut *lock(&ex.folder.waiting));
    all.retain(|waiting| !waiting.reply.is_closed());
    if all.is_empty() {
        return;
    }
    let mut placed: Vec<(Waiting, Vec<u32>)> = Vec::new();
    let mut records = Vec::new();
    let mut batch = match Batch::begin(ex) {
        Ok(batch) => batch,
        Err(error) => return all.into_iter().for_each(|w| drop(w.reply.send(Err(error.clone())))),
    };
    for mut waiting in all {
        match batch.place(&mut waiting.messages) {
            Ok(mut added) => {
                let uid = |r: &Record| if let Record::Message { uid, .. } = r { Some(*uid) } else { None };
                let uids = added.iter().filter_map(uid).collect();
                records.append(&mut added);
                placed.push((waiting, uids));
            }
            Err(error) => drop(waiting.reply.send(Err(error))),
        }
    }
    let done = batch.cur.sync().and_then(|()| ex.commit(records));
    if done.is_err() {
        batch.undo(0);
    }
    for (waiting, uids) in placed {
        drop(waiting.reply.send(done.clone().map(|()| (batch.uid_validity, uids))));
    }
}

/// The files of one commit.
pub(super) struct Batch<'a> {
    ex: &'a Exclusive<'a>,
    pub cur: Dir,
    pub uid_validity: u32,
    next: u32,
    modseq: u64,
    keywords: keywords::Table,
    names: Vec<Vec<u8>>,
}

impl<'a> Batch<'a> {
    pub(super) fn begin(ex: &'a Exclusive<'a>) -> Result<Self, MailError> {
        let cur = ex.dir.sub(b"cur")?;
        let (uid_validity, next) = ex.read(|s| (s.uid_validity, s.next_uid()))?;
        let keywords = ex.read(keywords::Table::of)?;
        let (modseq, names) = (ex.next_modseq()?, Vec::new());
        Ok(Self { ex, cur, uid_validity, next, modseq, keywords, names })
    }

    /// Renames the messages of one session into `cur`; all or none.
    pub(super) fn place(&mut self, messages: &mut [Ready]) -> Result<Vec<Record>, MailError> {
        let (first, known) = (self.names.len(), self.keywords.clone());
        let placed = self.place_each(messages);
        if placed.is_err() {
            self.undo(first);
            self.keywords = known;
        }
        placed
    }

    fn place_each(&mut self, messages: &mut [Ready]) -> Result<Vec<Record>, MailError> {
        let mut records = Vec::new();
        let mut next = self.next;
        for message in messages {
            let keywords = self.keywords.numbers(&message.keywords, &self.ex.folder.limits, &mut records)?;
            let name = filename::with_flags(message.file.base.as_bytes(), message.flags);
            message.file.place(&self.cur, &name)?;
            self.names.push(name.clone());
            let (uid, modseq, place, saved) = (next, self.modseq, Place::Cur, now_s());
            let (size, bare, date) = (message.size, message.bare, message.date);
            records.push(Record::Message { uid, modseq, place, name, size, bare, date, saved, keywords });
            next = next.checked_add(1).ok_or(MailError::Limit { what: "UIDs", most: u64::from(u32::MAX) })?;
        }
        self.next = next;
        Ok(records)
    }

    /// Takes the files out of `cur` again, from the `first` on.
    pub(super) fn undo(&mut self, first: usize) {
        for name in self.names.drain(first..) {
            if let Err(error) = self.cur.unlink(&name) {
                tracing::error!(%error, "a message that was not acknowledged stays in the folder");
            }
        }
        self.ex.scanned(None);
    }
}

/// Removes what crashed sessions left in `tmp`: files untouched for 36 hours, as the Maildir page advises.
pub(super) fn clean(tmp: &Dir) -> Result<(), MailError> {
    check::stale(tmp)?.iter().try_for_each(|name| tmp.unlink(name).map(drop))
}

/// What a failed read of a message is.
pub(super) fn reading(error: &std::io::Error) -> MailError {
    MailError::io("reading a message", Errno::from_io_error(error).unwrap_or(Errno::IO))
}

/// Puts a message's file, under a second name that tells its `id`, into another folder's `tmp`: by a hard link, else by
/// a copy. It came into its folder when `saved` says.
pub(super) fn duplicate(from: &Dir, name: &[u8], id: u64, saved: i64, tmp: &Dir) -> Result<TmpFile, MailError> {
    make_safe(from, name, saved)?;
    let fresh = filename::unique();
    match from.link(name, tmp, fresh.as_bytes()) {
        Ok(()) => {}
        Err(MailError::Io {
            source: Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::NOTSUP | Errno::NOSYS,
            ..
        }) => {
            copy(from, name, tmp, &fresh)?;
        }
        Err(error) => return Err(error),
    }
    let mut base = fresh.clone();
    if let (Some(stored), Some(wire)) = filename::size_hints(name) {
        base = format!("{base},S={stored},W={wire}");
    }
    Ok(TmpFile::new(tmp.clone(), fresh, filename::with_id(&base, id)))
}

/// Syncs a message that came only just now, unless we made it, and so synced it: other programs deliver without. One of
/// ours that came long after it had its name was put there by another program, from a backup for example.
fn make_safe(dir: &Dir, name: &[u8], saved: i64) -> Result<(), MailError> {
    let is_young = |at: i64| at > now_s() - WRITTEN_BACK;
    let is_ours = filename::made_at(name).is_some_and(|made| saved.abs_diff(made) <= WRITTEN_BACK.unsigned_abs());
    if is_ours || !is_young(saved) {
        return Ok(());
    }
    let (file, stat) = dir.open(name, false)?;
    if is_young(stat.st_ctime) { dir.sync_file(&file) } else { Ok(()) }
}

fn copy(from: &Dir, name: &[u8], tmp: &Dir, fresh: &str) -> Result<(), MailError> {
    let (mut source, stat) = from.open(name, false)?;
    let file = tmp.create(fresh.as_bytes())?;
    let guard = TmpFile::new(tmp.clone(), fresh.to_owned(), String::new());
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = std::io::Read::read(&mut source, &mut buffer)
            .map_err(|e| MailError::io("copying a message", Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
        let Some(bytes) = buffer.get(..count).filter(|b| !b.is_empty()) else { break };
        tmp.write(&file, bytes)?;
    }
    let stamp = Timespec { tv_sec: stat.st_mtime, tv_nsec: 0 };
    futimens(&file, &Timestamps { last_access: stamp, last_modification: stamp })
        .map_err(io("copying a message"))?;
    tmp.sync_file(&file)?;
    let mut guard = guard;
    guard.kept = true;
    Ok(())
}
