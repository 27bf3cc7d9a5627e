//! A folder's only writer: in this process, and by a lock on the directory among others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{Folder, Loaded, Spot, lock, stamps};
use crate::maildir::{
    cache::Cache,
    disk::Dir,
    error::MailError,
    filename::{self, Place},
    index::Index,
    quota::Usage,
    record::{Marks, Record, Stamps},
    scan,
    state::State,
};

/// How long to wait for another process that holds the folder's lock.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The only writer of a folder, on a blocking thread. Unlocks when dropped.
pub(in crate::maildir) struct Exclusive<'a> {
    pub folder: &'a Arc<Folder>,
    pub dir: Dir,
}

impl<'a> Exclusive<'a> {
    pub(super) fn begin(folder: &'a Arc<Folder>) -> Result<Self, MailError> {
        if folder.is_gone() {
            return Err(MailError::FolderGone);
        }
        let dir = folder.dir()?;
        if !folder.is_in_place(&dir)? {
            folder.end();
            return Err(MailError::FolderGone);
        }
        lock_dir(&dir)?;
        let ex = Self { folder, dir };
        ex.catch_up(&folder.spot())?;
        Ok(ex)
    }

    /// Runs `work` as the only writer if nobody else is, here or in another process; else does nothing. Blocks on the disk.
    pub(in crate::maildir) fn if_free(
        folder: &'a Arc<Folder>,
        work: impl FnOnce(&Self) -> Result<(), MailError>,
    ) -> Result<(), MailError> {
        let Ok(_turn) = folder.writer.try_lock() else { return Ok(()) };
        if folder.is_gone() {
            return Ok(());
        }
        let dir = folder.dir()?;
        if flock(dir.fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        let ex = Self { folder, dir };
        ex.catch_up(&folder.spot())?;
        work(&ex)
    }

    /// Loads the index unless what is loaded is still what stands on disk; makes one where there is none.
    fn catch_up(&self, spot: &Spot) -> Result<(), MailError> {
        let known = { lock(&self.folder.core).loaded.as_ref().map(|l| l.index.clone()) };
        let doubtful = known.as_ref().is_some_and(Index::needs_rewrite);
        if let Some(index) = known
            && index.is_current(&self.dir)?
        {
            return Ok(());
        }
        for name in ["cur", "new", "tmp"] {
            if self.dir.stat(name.as_bytes())?.is_none() {
                self.dir.make(name.as_bytes())?;
                self.dir.sync()?;
            }
        }
        let shared = self.folder.shared.upgrade().ok_or(MailError::FolderGone)?;
        let (mut index, state) = match Index::load(&self.dir)? {
            Some(found) => found,
            None => {
                let state = scan::first(&self.dir, shared.next_uid_validity(&spot.owner)?)?;
                // One whose name might not survive a power cut must not be found and added to.
                let undo = |_: &MailError| drop(Index::remove(&self.dir));
                (Index::create(&self.dir, &state).inspect_err(undo)?, state)
            }
        };
        if doubtful {
            index.distrust();
        }
        let mut core = lock(&self.folder.core);
        // The index was lost under open views: what they know by UID is void.
        if core.uid_validity != 0 && core.uid_validity != state.uid_validity {
            core.gone = true;
            drop(core);
            self.folder.announce();
            return Err(MailError::FolderGone);
        }
        // Loaded again after a rest, nothing changed; otherwise it is new here or another process wrote, and what the index
        // says of the disk counts.
        let rested = core.loaded.is_none() && core.uid_validity != 0;
        core.scanned = core.scanned.filter(|_| rested).or(state.scanned);
        core.put(self.dir.clone(), index, state);
        drop(core);
        self.folder.announce();
        Ok(())
    }

    /// Asks the state, which is loaded while this lives.
    pub(in crate::maildir) fn read<T>(&self, question: impl FnOnce(&State) -> T) -> Result<T, MailError> {
        let core = lock(&self.folder.core);
        core.loaded.as_ref().map(|loaded| question(&loaded.state)).ok_or(MailError::FolderGone)
    }

    /// The mod-sequence that the next commit will have.
    pub(in crate::maildir) fn next_modseq(&self) -> Result<u64, MailError> {
        let core = lock(&self.folder.core);
        core.loaded.as_ref().map(|loaded| loaded.index.next_modseq(&loaded.state)).ok_or(MailError::FolderGone)
    }

    /// Writes the records to the index, durably, and only then lets anyone see them.
    pub(in crate::maildir) fn commit(&self, records: Vec<Record>) -> Result<(), MailError> {
        if records.is_empty() { Ok(()) } else { self.advance(records) }
    }

    /// The same, even without a record: something else about the folder changed, and its mod-sequence must tell.
    pub(in crate::maildir) fn advance(&self, records: Vec<Record>) -> Result<(), MailError> {
        let (mut index, marks, records) = {
            let mut core = lock(&self.folder.core);
            let mut all = core.take_unrecorded();
            all.extend(records);
            let loaded = core.loaded.as_ref().ok_or(MailError::FolderGone)?;
            (loaded.index.clone(), next_marks(loaded, &all), all)
        };
        let done = if index.needs_rewrite() { Ok(()) } else { index.commit(&self.dir, marks, &records) };
        if let Err(error) = done {
            if let Some(loaded) = &mut lock(&self.folder.core).loaded {
                loaded.index = index;
            }
            return Err(error);
        }
        if index.wants_rewrite() {
            // From a copy, so that readers are not held up by the disk.
            let mut next = self.read(State::clone)?;
            merge(&mut next, marks, records.clone());
            match self.rewrite(&index, &next) {
                Ok(made) => index = made,
                // The frame is in the old file already. Which of the two files the name stands for after a power cut
                // can not be told, so the next commit writes another.
                Err(error) if !index.needs_rewrite() => {
                    tracing::warn!(%error, "an index stays uncompacted");
                    index.distrust();
                }
                Err(error) => return Err(error),
            }
        }
        {
            let core = &mut *lock(&self.folder.core);
            if let Some(loaded) = &mut core.loaded {
                core.usage = usage_after(core.usage, &loaded.state, &records);
                merge(&mut loaded.state, marks, records);
                loaded.index = index;
            }
        }
        self.folder.announce();
        Ok(())
    }

    /// Writes the whole index anew. After a failed sync the directories' entries are in doubt too: what the new index says
    /// of them is made durable first.
    fn rewrite(&self, old: &Index, state: &State) -> Result<Index, MailError> {
        if old.needs_rewrite() {
            self.sync([Place::New, Place::Cur])?;
        }
        Ok(Index::create(&self.dir, state)?.after(old))
    }

    /// Syncs directories of messages. `cur` first: a message that was moved there must not be forgotten in `new` alone.
    pub(in crate::maildir) fn sync(&self, places: impl IntoIterator<Item = Place>) -> Result<(), MailError> {
        let mut places: Vec<Place> = places.into_iter().collect();
        if places.contains(&Place::New) {
            places.push(Place::Cur);
        }
        places.sort_unstable();
        places.dedup();
        places.iter().rev().try_for_each(|place| self.dir.sub(place.dir().as_bytes())?.sync())
    }

    /// Ends a change: makes durable what an earlier failure left in doubt, because nothing may be acknowledged that only
    /// seems to be done already. What failed now may have been done all the same, so it leaves a doubt for the next one.
    pub(in crate::maildir) fn settle(&self, failed: Option<MailError>) -> Result<(), MailError> {
        let index = {
            let mut core = lock(&self.folder.core);
            let loaded = core.loaded.as_mut().ok_or(MailError::FolderGone)?;
            if let Some(error) = failed {
                loaded.index.distrust();
                return Err(error);
            }
            loaded.index.clone()
        };
        if !index.needs_rewrite() {
            return Ok(());
        }
        let made = self.rewrite(&index, &self.read(State::clone)?)?;
        if let Some(loaded) = &mut lock(&self.folder.core).loaded {
            loaded.index = made;
        }
        Ok(())
    }

    /// Writes the index anew as short as it can be.
    pub(in crate::maildir) fn compact(&self) -> Result<(), MailError> {
        if let Some(loaded) = &mut lock(&self.folder.core).loaded {
            loaded.index.distrust();
        }
        self.settle(None)
    }

    /// Puts another index in place of the folder's, with a UIDVALIDITY of its own. For whoever has the folder open it is
    /// gone, and whoever opens it finds the new one.
    pub(in crate::maildir) fn start_anew(&self, state: &State) -> Result<(), MailError> {
        self.sync([Place::New, Place::Cur])?;
        Index::create(&self.dir, state)?;
        Cache::remove(&self.dir)?;
        self.folder.end();
        Ok(())
    }

    /// Takes over what the disk shows although it could not be recorded (a full disk must not stop reading). The index
    /// is written anew before the next commit.
    pub(in crate::maildir) fn adopt(&self, records: Vec<Record>) {
        {
            let core = &mut *lock(&self.folder.core);
            if let Some(loaded) = &mut core.loaded {
                let marks = next_marks(loaded, &records);
                core.usage = usage_after(core.usage, &loaded.state, &records);
                merge(&mut loaded.state, marks, records);
                loaded.index.distrust();
            }
        }
        self.folder.announce();
    }

    /// When `new` and `cur` changed last.
    pub(in crate::maildir) fn stamps(&self) -> Result<Stamps, MailError> {
        stamps(&self.dir)
    }

    /// Remembers that the state shows the directories as they were at `stamps`; nothing if that can not be told.
    pub(in crate::maildir) fn scanned(&self, stamps: Option<Stamps>) {
        lock(&self.folder.core).scanned = stamps.filter(|s| s.are_settled());
    }

    /// Records what all of it comes to, and that the state shows the directories as they are, if it does: after a restart
    /// the folder can be opened without being looked through or loaded. And what was found out about messages.
    pub(in crate::maildir) fn note(&self) -> Result<(), MailError> {
        let now = self.stamps()?;
        let quiet = now.are_settled() && self.folder.heard_all();
        let (mut index, marks, found, summary) = {
            let mut core = lock(&self.folder.core);
            let (bytes, recent) = (core.usage.bytes, core.recent);
            let core = &mut *core;
            let loaded = core.loaded.as_mut().ok_or(MailError::FolderGone)?;
            if loaded.index.needs_rewrite() {
                return Ok(());
            }
            if quiet {
                core.scanned = Some(now);
            }
            loaded.state.marks.recent = loaded.state.marks.recent.max(recent);
            let marks = loaded.state.marks;
            let found = core.take_unrecorded();
            let loaded = core.loaded.as_ref().ok_or(MailError::FolderGone)?;
            let noted = loaded.state.scanned == Some(now) && loaded.index.is_noted(marks) && found.is_empty();
            let stands = core.scanned == Some(now) && !noted;
            if !stands && found.is_empty() {
                return Ok(());
            }
            (loaded.index.clone(), marks, found, stands.then(|| loaded.state.summary(bytes)))
        };
        let noted = summary.is_some();
        let found = if found.is_empty() { Ok(()) } else { index.commit(&self.dir, marks, &found) };
        let done = found.and_then(|()| match summary {
            Some(summary) => index.note(&self.dir, marks, now, summary),
            None => Ok(()),
        });
        if let Some(loaded) = &mut lock(&self.folder.core).loaded {
            loaded.index = index;
            loaded.state.scanned = Some(now).filter(|_| noted && done.is_ok()).or(loaded.state.scanned);
        }
        done
    }

    /// Looks at the directories if they changed since the last look.
    pub(in crate::maildir) fn refresh(&self) -> Result<(), MailError> {
        self.refresh_settling(false)
    }

    /// The same, moving what it finds in `new` to `cur` if asked to.
    pub(in crate::maildir) fn refresh_settling(&self, settle: bool) -> Result<(), MailError> {
        let known = { lock(&self.folder.core).scanned };
        if known.is_some() && known == Some(stamps(&self.dir)?) {
            return Ok(());
        }
        scan::all(self, settle)
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        let _ = flock(self.dir.fd(), FlockOperation::Unlock);
    }
}

/// A directory that no other writer has, until this is dropped.
pub(in crate::maildir) struct Locked<'a>(&'a Dir);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let _ = flock(self.0.fd(), FlockOperation::Unlock);
    }
}

/// Keeps every writer out, of this process and of others.
pub(in crate::maildir) fn locked(dir: &Dir) -> Result<Locked<'_>, MailError> {
    lock_dir(dir).map(|()| Locked(dir))
}

/// Waits for the lock that keeps other processes of ours out. A file system without such locks goes without.
fn lock_dir(dir: &Dir) -> Result<(), MailError> {
    let start = Instant::now();
    loop {
        match flock(dir.fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) | Err(Errno::NOLCK | Errno::NOTSUP | Errno::INVAL | Errno::NOSYS | Errno::BADF) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < LOCK_WAIT => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(Errno::WOULDBLOCK) => return Err(MailError::Locked),
            Err(errno) => return Err(MailError::io("locking a folder", errno)),
        }
    }
}

fn next_marks(Loaded { index, state, .. }: &Loaded, records: &[Record]) -> Marks {
    let taken = |record: &Record| match record {
        Record::Message { uid, .. } | Record::Listed { uid, .. } => Some(uid.saturating_add(1)),
        Record::Imported { next, .. } => Some(*next),
        _ => None,
    };
    let uid_next = records.iter().filter_map(taken).max().unwrap_or(0).max(state.marks.uid_next);
    Marks { modseq: index.next_modseq(state), uid_next, recent: state.marks.recent }
}

/// What messages take up once the records are applied.
fn usage_after(before: Usage, state: &State, records: &[Record]) -> Usage {
    let size = |record: &Record| match record {
        Record::Message { size, .. } => Some(*size),
        Record::Listed { name, .. } => filename::claims(name).map(|(size, _)| size),
        _ => None,
    };
    let gone = |record: &Record| match record {
        Record::Expunged { uid } => state.find(*uid).map(|message| message.size),
        _ => None,
    };
    let added = Usage::of(records.iter().filter_map(size));
    before.plus(added).minus(Usage::of(records.iter().filter_map(gone)))
}

/// After a commit of more records than this the state gives back what it holds in reserve: a folder that was only just
/// looked through will not grow like that again.
const MANY: usize = 32;

fn merge(state: &mut State, marks: Marks, records: Vec<Record>) {
    let sweep = records.iter().any(|r| matches!(r, Record::Expunged { .. }));
    let many = records.len() > MANY;
    for record in records {
        state.apply(record, marks.modseq);
    }
    if sweep {
        state.sweep();
    }
    if many {
        state.pack();
    }
    let recent = state.marks.recent.max(marks.recent);
    state.marks = Marks { recent, ..marks };
}
