//! A folder that is opened without being loaded: what SELECT tells of it stands at the end of its index. Its messages are
//! loaded when somebody asks for one.

use std::{
    sync::{Arc, OnceLock, Weak, atomic::Ordering},
    time::Duration,
};

use super::{Folder, Loaded, lock, stamps};
use crate::maildir::{
    deliver,
    disk::Dir,
    error::MailError,
    index::{Index, Tail, Version},
    quota::Usage,
    record::Marks,
};

/// A folder of fewer messages is loaded as fast as it is noted how it stands.
const MANY: usize = 500;
/// Time for the last changes to be told from any later one by the directories' time stamps.
pub(in crate::maildir) const REST: Duration = Duration::from_millis(200);

/// What a folder held when it was opened.
#[derive(Debug)]
pub(in crate::maildir) struct Brief {
    pub uid_validity: u32,
    pub marks: Marks,
    pub messages: u32,
    /// The number of the first message without `\\Seen`.
    pub unseen: Option<u32>,
    pub keywords: Vec<Arc<str>>,
    /// What the folder is called for good.
    pub id: u32,
    version: Version,
    /// The UIDs there were, once the folder is loaded.
    uids: OnceLock<Arc<[u32]>>,
}

impl Brief {
    fn new(tail: Tail) -> Option<Self> {
        Some(Self {
            uid_validity: tail.uid_validity,
            marks: tail.marks,
            messages: u32::try_from(tail.summary.messages).ok()?,
            unseen: Some(tail.summary.unseen).filter(|number| *number > 0),
            keywords: tail.summary.keywords.into_iter().map(Arc::from).collect(),
            id: tail.summary.id,
            version: tail.version,
            uids: OnceLock::new(),
        })
    }

    /// The UIDs, in order of sequence number. None while the folder was not loaded.
    pub(in crate::maildir) fn uids(&self) -> Option<Arc<[u32]>> {
        self.uids.get().cloned()
    }
}

impl Folder {
    /// As [`Folder::glance`], off the async threads.
    pub(in crate::maildir) async fn brief(self: &Arc<Self>) -> Result<Option<Arc<Brief>>, MailError> {
        if self.is_loaded() {
            return Ok(None);
        }
        let shared = self.shared.upgrade().ok_or(MailError::FolderGone)?;
        let folder = Arc::clone(self);
        shared.pool.run("opening a folder", move || folder.glance()).await
    }

    /// What the folder holds, without loading it. Nothing if it is loaded, or was changed since it was last noted, by
    /// whomever: then it has to be loaded. Blocks on the disk.
    fn glance(self: &Arc<Self>) -> Result<Option<Arc<Brief>>, MailError> {
        if self.is_gone() || self.is_loaded() {
            return Ok(None);
        }
        let dir = self.dir()?;
        // Watched first: what happens after the look at the time stamps is heard of.
        self.watch(&dir);
        if !lock(&self.events).is_empty() {
            return Ok(None);
        }
        let Some(tail) = Index::tail(&dir)? else { return Ok(None) };
        let told = tail.marks.recent >= tail.marks.uid_next && !tail.summary.waiting;
        if !told || tail.scanned != stamps(&dir)? {
            return Ok(None);
        }
        deliver::clean(&dir.sub(b"tmp")?)?;
        let brief = self.keep(tail);
        if let (Some(_), Some(shared)) = (&brief, self.shared.upgrade()) {
            shared.accounts.report(&self.spot(), self.usage());
        }
        Ok(brief)
    }

    fn keep(&self, tail: Tail) -> Option<Arc<Brief>> {
        let core = &mut *lock(&self.core);
        let known = core.uid_validity == 0 || core.uid_validity == tail.uid_validity;
        if core.loaded.is_some() || core.gone || !known {
            return None;
        }
        core.uid_validity = tail.uid_validity;
        core.recent = core.recent.max(tail.marks.recent);
        core.usage = Usage { bytes: tail.summary.bytes, messages: tail.summary.messages };
        core.scanned = Some(tail.scanned);
        core.briefs.retain(|brief| brief.strong_count() > 0);
        let same = core.briefs.iter().filter_map(Weak::upgrade).find(|b| b.version == tail.version);
        if same.is_some() {
            return same;
        }
        let brief = Arc::new(Brief::new(tail)?);
        core.briefs.push(Arc::downgrade(&brief));
        Some(brief)
    }

    /// Watches the folder, if that can be done; else it is polled.
    pub(in crate::maildir) fn watch(self: &Arc<Self>, dir: &Dir) {
        let shared = self.shared.upgrade();
        if let Some(watcher) = shared.as_ref().and_then(|shared| shared.watcher.as_ref())
            && let Err(error) = watcher.watch(self, dir)
        {
            tracing::warn!(%error, "a folder is polled, not watched");
        }
    }

    /// The last view of the folder was closed: a moment later it is noted how the folder stands, if it has many messages.
    pub(in crate::maildir) fn leave(self: &Arc<Self>, runtime: &tokio::runtime::Handle) {
        if self.is_worth_noting() && !self.leaving.swap(true, Ordering::AcqRel) {
            let folder = Arc::clone(self);
            runtime.spawn(async move {
                tokio::time::sleep(REST).await;
                folder.leaving.store(false, Ordering::Release);
                if folder.views.load(Ordering::Acquire) == 0 {
                    folder.note().await;
                }
            });
        }
    }

    /// Whether the state is in memory and so large that to load it or look through the folder takes longer than a note.
    pub(in crate::maildir) fn is_worth_noting(&self) -> bool {
        let core = lock(&self.core);
        core.loaded.as_ref().is_some_and(|loaded| loaded.state.messages.len() >= MANY)
    }

    /// Notes how the folder stands: whoever opens it after a restart need neither load it nor look through it.
    pub(in crate::maildir) async fn note(self: &Arc<Self>) {
        if self.look("leaving a folder").await.is_ok()
            && let Err(error) = self.exclusively("leaving a folder", |ex| ex.note()).await
        {
            tracing::debug!(%error, "a folder will be looked through again");
        }
    }

    pub(in crate::maildir) fn is_loaded(&self) -> bool {
        lock(&self.core).loaded.is_some()
    }

    /// Loads the state for a question of a view that has the folder open already. Blocks on the disk.
    pub(in crate::maildir) fn load(&self) {
        self.read(|_| ());
    }
}

/// The folder is loaded: views that were told of it without that get its UIDs, as many as they were told of.
pub(super) fn settle(briefs: Vec<Weak<Brief>>, dir: &Dir, loaded: &Loaded) {
    for brief in briefs.into_iter().filter_map(|brief| brief.upgrade()) {
        let then = if loaded.index.version() == brief.version {
            None
        } else {
            // Another process added to it meanwhile.
            Index::state_at(dir, brief.version).ok().flatten().map(|state| state.uids())
        };
        let uids = then.unwrap_or_else(|| loaded.state.uids());
        let count = brief.messages as usize;
        let uids = if uids.len() == count {
            uids
        } else {
            // What was noted is lost, or was put in order by another process. No UID was told yet: one that there is not
            // stands for each message too few, and is told to be gone.
            let missing = brief.marks.uid_next.max(loaded.state.marks.uid_next)..;
            uids.iter().copied().chain(missing).take(count).collect()
        };
        drop(brief.uids.set(uids));
    }
}
