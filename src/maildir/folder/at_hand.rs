//! Questions about a folder that need no blocking thread: where the kernel has in memory what tells that the state is
//! current. Called by `tree`.

use super::{Folder, lock, now_s};
use crate::maildir::{disk::Dir, folder::Spot, record::Stamps, root::Shared, state::State};

impl Folder {
    /// Asks the state, if it is loaded and known to show the directories and the index as they are. Never waits for the
    /// disk.
    pub(in crate::maildir) fn ask_at_hand<T>(&self, question: impl FnOnce(&State) -> T) -> Option<T> {
        let shared = self.shared.upgrade()?;
        let (spot, scanned, dir, index) = {
            let core = lock(&self.core);
            let loaded = core.loaded.as_ref()?;
            (core.spot.clone(), core.scanned?, loaded.dir.clone(), loaded.index.clone())
        };
        let current = is_at(&shared, &spot, &dir)? && stamps(&dir)? == scanned && index.is_current_at_hand(&dir);
        if !current {
            return None;
        }
        self.used.store(now_s().cast_unsigned(), std::sync::atomic::Ordering::Relaxed);
        lock(&self.core).loaded.as_ref().map(|loaded| question(&loaded.state))
    }
}

/// Whether that directory stands where the folder is to be.
fn is_at(shared: &Shared, spot: &Spot, dir: &Dir) -> Option<bool> {
    let owner = [spot.owner.0.as_bytes(), b"/", spot.owner.1.as_bytes()].concat();
    let path = match &spot.dir {
        None => owner,
        Some(name) => [&owner, b"/" as &[u8], name].concat(),
    };
    let (there, ours) = (shared.root.peek(&path)?, dir.peek(b".")?);
    Some((there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino))
}

fn stamps(dir: &Dir) -> Option<Stamps> {
    let at = |name: &[u8]| {
        let stat = dir.peek(name)?;
        Some((stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)))
    };
    Some(Stamps([at(b"new")?, at(b"cur")?]))
}
