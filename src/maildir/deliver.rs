//! New messages: synced in `tmp`, renamed into `cur`, recorded, and only then acknowledged (promise 1 of the threat
//! model). What several sessions deliver at the same time is committed in one go. Called by `appending`, `copying` and
//! `replace`.

use std::sync::Arc;

use rustix::io::Errno;
use tokio::sync::oneshot;

use super::{
    check,
    disk::Dir,
    error::MailError,
    filename::{self, Place},
    flags::Flags,
    folder::{Exclusive, Folder, lock, now_s},
    keywords,
    quota::Usage,
    record::Record,
    tree,
    watch::Deeds,
};
/// Where new messages of one delivery stand: the folder's UIDVALIDITY, and their UIDs in order.
pub type Delivered = (u32, Vec<u32>);

/// A message in `tmp`, whole and synced, that is not visible yet. Dropped before its delivery it leaves nothing.
pub(super) struct Ready {
    pub file: TmpFile,
    pub facts: Facts,
}

/// What is known of a new message beside its file.
pub(super) struct Facts {
    pub flags: Flags,
    pub keywords: Vec<Arc<str>>,
    /// Bytes in wire form, and how many of them are CRs that the file lacks.
    pub size: u64,
    pub bare: u64,
    /// INTERNALDATE, in seconds since 1970.
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
    pub kept: bool,
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

/// Makes messages visible, all or none, where the owner's quota has room for them. What several sessions deliver at the
/// same time is committed together.
pub(super) async fn deliver(folder: &Arc<Folder>, messages: Vec<Ready>) -> Result<Delivered, MailError> {
    let shared = folder.shared.upgrade().ok_or(MailError::FolderGone)?;
    let more = Usage::of(messages.iter().map(|message| message.facts.size));
    let _room = tree::room(&shared, &folder.spot().owner, more).await?;
    bring(folder, messages).await
}

/// The same for messages that are the owner's already: a MOVE takes up nothing.
pub(super) async fn bring(folder: &Arc<Folder>, messages: Vec<Ready>) -> Result<Delivered, MailError> {
    let answer = enqueue(folder, messages);
    commit_later(Arc::clone(folder));
    answered(answer).await
}

/// What becomes of messages that wait.
pub(super) type Answer = oneshot::Receiver<Result<Delivered, MailError>>;

/// The same on a blocking thread: at once, where nobody else writes.
pub(super) fn bring_now(folder: &Arc<Folder>, messages: Vec<Ready>) -> Answer {
    let answer = enqueue(folder, messages);
    match folder.at_once(commit_waiting) {
        Some(done) => refuse_waiting(folder, done),
        None => commit_later(Arc::clone(folder)),
    }
    answer
}

/// Waits for what becomes of them.
pub(super) async fn answered(answer: Answer) -> Result<Delivered, MailError> {
    answer.await.map_err(|_| MailError::Fault { doing: "delivering messages" })?
}

fn enqueue(folder: &Folder, messages: Vec<Ready>) -> Answer {
    let (reply, answer) = oneshot::channel();
    lock(&folder.waiting).push(Waiting { messages, reply });
    answer
}

/// A task of its own: it finishes, or undoes, what it began although the session that waits goes away.
fn commit_later(folder: Arc<Folder>) {
    tokio::spawn(async move {
        let turn = folder.turn().await;
        // Whoever had the turn before may have committed them along with others.
        if !lock(&folder.waiting).is_empty() {
            let done = folder.exclusively_in(turn, "delivering messages", commit_waiting).await;
            refuse_waiting(&folder, done);
        }
    });
}

/// Nothing could be begun: everyone who waits hears why.
fn refuse_waiting(folder: &Folder, done: Result<(), MailError>) {
    let Err(error) = done else { return };
    for waiting in std::mem::take(&mut *lock(&folder.waiting)) {
        drop(waiting.reply.send(Err(error.clone())));
    }
}

fn commit_waiting(ex: &Exclusive) -> Result<(), MailError> {
    let mut all = std::mem::take(&mut *lock(&ex.folder.waiting));
    all.retain(|waiting| !waiting.reply.is_closed());
    if all.is_empty() {
        return Ok(());
    }
    let mut placed: Vec<(Waiting, Vec<u32>)> = Vec::new();
    let mut records = Vec::new();
    let mut batch = match Batch::begin(ex) {
        Ok(batch) => batch,
        Err(error) => {
            all.into_iter().for_each(|w| drop(w.reply.send(Err(error.clone()))));
            return Ok(());
        }
    };
    for mut waiting in all {
        match batch.place(&mut waiting.messages) {
            Ok(mut added) => {
                let uids = uids_of(&added);
                records.append(&mut added);
                placed.push((waiting, uids));
            }
            Err(error) => drop(waiting.reply.send(Err(error))),
        }
    }
    let done = batch.commit(records);
    for (waiting, uids) in placed {
        drop(waiting.reply.send(done.clone().map(|()| (batch.uid_validity, uids))));
    }
    Ok(())
}

/// UIDs of the messages that records add.
pub(super) fn uids_of(records: &[Record]) -> Vec<u32> {
    let uid = |r: &Record| if let Record::Message { uid, .. } = r { Some(*uid) } else { None };
    records.iter().filter_map(uid).collect()
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
    deeds: Deeds<'a>,
}

impl<'a> Batch<'a> {
    pub(super) fn begin(ex: &'a Exclusive<'a>) -> Result<Self, MailError> {
        let cur = ex.dir.sub(b"cur")?;
        let (uid_validity, next) = ex.read(|s| (s.uid_validity, s.next_uid()))?;
        let keywords = ex.read(keywords::Table::of)?;
        let (modseq, names) = (ex.next_modseq()?, Vec::new());
        Ok(Self { ex, cur, uid_validity, next, modseq, keywords, names, deeds: Deeds::begin(ex.folder) })
    }

    /// Renames the messages of one session into `cur`; all or none.
    pub(super) fn place(&mut self, messages: &mut [Ready]) -> Result<Vec<Record>, MailError> {
        self.together(|batch, records| {
            messages.iter_mut().try_for_each(|Ready { file, facts }| {
                let base = std::mem::take(&mut file.base);
                batch.add(&base, facts, records, |cur, name| file.place(cur, name))
            })
        })
    }

    /// Adds messages, all or none.
    pub(super) fn together(
        &mut self,
        add: impl FnOnce(&mut Self, &mut Vec<Record>) -> Result<(), MailError>,
    ) -> Result<Vec<Record>, MailError> {
        let (first, next, known) = (self.names.len(), self.next, self.keywords.clone());
        let mut records = Vec::new();
        if let Err(error) = add(self, &mut records) {
            self.undo(first);
            (self.next, self.keywords) = (next, known);
            return Err(error);
        }
        Ok(records)
    }

    /// Adds one message, whose file `put` makes in `cur`.
    pub(super) fn add(
        &mut self,
        base: &str,
        facts: &Facts,
        records: &mut Vec<Record>,
        put: impl FnOnce(&Dir, &[u8]) -> Result<(), MailError>,
    ) -> Result<(), MailError> {
        let keywords = self.keywords.numbers(&facts.keywords, &self.ex.folder.limits, records)?;
        let name = filename::with_flags(base.as_bytes(), facts.flags);
        let cur = &self.cur;
        self.deeds.make(&[(Place::Cur, &name, true)], || put(cur, &name).map(|()| true))?;
        self.names.push(name.clone());
        let (uid, modseq, place, saved) = (self.next, self.modseq, Place::Cur, now_s());
        let &Facts { size, bare, date, .. } = facts;
        records.push(Record::Message { uid, modseq, place, name, size, bare, date, saved, keywords });
        self.next = uid.checked_add(1).ok_or(MailError::Limit { what: "UIDs", most: u64::from(u32::MAX) })?;
        Ok(())
    }

    /// Makes what was placed durable and visible; after a failure none of it is there.
    pub(super) fn commit(&mut self, records: Vec<Record>) -> Result<(), MailError> {
        let done = self.cur.sync().and_then(|()| self.ex.commit(records));
        if done.is_err() {
            self.undo(0);
        }
        done
    }

    /// Takes the files out of `cur` again, from the `first` on.
    pub(super) fn undo(&mut self, first: usize) {
        for name in self.names.drain(first..) {
            if let Err(error) = self.cur.unlink(&name) {
                tracing::error!(%error, "a message that was not acknowledged stays in the folder");
                lock(&self.ex.folder.events).lose();
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
