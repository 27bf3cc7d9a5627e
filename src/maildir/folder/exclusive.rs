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
    disk::Dir,
    error::MailError,
    index::Index,
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
        if let Some(index) = known
            && (index.needs_rewrite() || index.is_current(&self.dir)?)
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
        let (index, state) = match Index::load(&self.dir)? {
            Some(found) => found,
            None => {
                let state = State::empty(shared.next_uid_validity(&spot.owner)?);
                (Index::create(&self.dir, &state)?, state)
            }
        };
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
        let (mut index, marks) = {
            let core = lock(&self.folder.core);
            let loaded = core.loaded.as_ref().ok_or(MailError::FolderGone)?;
            (loaded.index.clone(), next_marks(loaded, &records))
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
            match Index::create(&self.dir, &next) {
                Ok(made) => index = made,
                // The frame is in the old file already: it just stays long.
                Err(error) if !index.needs_rewrite() => tracing::warn!(%error, "an index stays uncompacted"),
                Err(error) => return Err(error),
            }
        }
        if let Some(loaded) = &mut lock(&self.folder.core).loaded {
            merge(&mut loaded.state, marks, records);
            loaded.index = index;
        }
        self.folder.announce();
        Ok(())
    }

    /// Takes over what the disk shows although it could not be recorded (a full disk must not stop reading). The index
    /// is written anew before the next commit.
    pub(in crate::maildir) fn adopt(&self, records: Vec<Record>) {
        if let Some(loaded) = &mut lock(&self.folder.core).loaded {
            let marks = next_marks(loaded, &records);
            merge(&mut loaded.state, marks, records);
            loaded.index.distrust();
        }
        self.folder.announce();
    }

    /// Writes the index anew, to its compacted form.
    #[cfg(test)]
    pub(in crate::maildir) fn rewrite(&self) -> Result<(), MailError> {
        let index = Index::create(&self.dir, &self.read(State::clone)?)?;
        if let Some(loaded) = &mut lock(&self.folder.core).loaded {
            loaded.index = index;
        }
        Ok(())
    }

    /// When `new` and `cur` changed last.
    pub(in crate::maildir) fn stamps(&self) -> Result<Stamps, MailError> {
        stamps(&self.dir)
    }

    /// Remembers that the state shows the directories as they were at `stamps`; nothing if that can not be told.
    pub(in crate::maildir) fn scanned(&self, stamps: Option<Stamps>) {
        lock(&self.folder.core).scanned = stamps.filter(|s| s.are_settled());
    }

    /// Records that the state shows the directories as they are, if it does: after a restart they need no look then.
    pub(in crate::maildir) fn note_scanned(&self) -> Result<(), MailError> {
        let now = self.stamps()?;
        let quiet = now.are_settled() && self.folder.heard_all();
        let (mut index, marks) = {
            let mut core = lock(&self.folder.core);
            if quiet {
                core.scanned = Some(now);
            }
            let loaded = core.loaded.as_ref().ok_or(MailError::FolderGone)?;
            if core.scanned != Some(now) || loaded.state.scanned == Some(now) || loaded.index.needs_rewrite() {
                return Ok(());
            }
            (loaded.index.clone(), loaded.state.marks)
        };
        let done = index.commit(&self.dir, marks, &[Record::Scanned(now)]);
        if let Some(loaded) = &mut lock(&self.folder.core).loaded {
            loaded.index = index;
            loaded.state.scanned = Some(now).filter(|_| done.is_ok()).or(loaded.state.scanned);
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
    let top =
        records.iter().filter_map(|r| if let Record::Message { uid, .. } = r { Some(*uid) } else { None }).max();
    let uid_next = top.map_or(0, |uid| uid.saturating_add(1)).max(state.marks.uid_next);
    Marks { modseq: index.next_modseq(state), uid_next, recent: state.marks.recent }
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
