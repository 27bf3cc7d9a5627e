//! The store as a whole: its root, the folders that are open, the threads and watches they share.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;
use tokio::task::AbortHandle;

use super::{
    disk::Dir,
    error::{MailError, io},
    filename,
    folder::{Folder, REST, Spot, lock, now_s},
    hub::Hub,
    listing, path,
    pool::Pool,
    quota::Accounts,
    renaming::Turns,
    seam::Seamed,
    tree::{self, Maildir},
    validity::Reserved,
    watch::{self, Watcher},
};
use crate::model::UserId;
use crate::policy::{Permit, Quota};

/// How often folders without a watch are looked at, and old watches dropped.
const TICK: Duration = Duration::from_secs(1);
/// How many ticks a folder with a watch goes without a look at its time stamps (a network file system has no news).
const SLOW: u64 = 60;
/// How many folders are kept in mind although nobody has them open.
const KEPT: usize = 1000;
/// A folder nobody asked about for this long is forgotten until somebody does.
const IDLE: Duration = Duration::from_secs(20);

/// Where mail lies, and how much of it at once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `DATA_DIR/mail`; made at first use.
    pub root: PathBuf,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of the store.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest message APPEND takes, in bytes.
    pub message_bytes: u64,
    /// Most threads that do file work at the same time.
    pub threads: usize,
    /// Most keywords in a folder.
    pub keywords: usize,
    /// Longest keyword, in bytes.
    pub keyword_bytes: usize,
    /// Longest name a folder may be given, in bytes of UTF-8. Names of other programs' folders may be longer.
    pub name_bytes: usize,
    /// Most levels of a name a folder may be given.
    pub name_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 50 * 1024 * 1024,
            threads: 64,
            keywords: 500,
            keyword_bytes: 100,
            name_bytes: 1000,
            name_depth: 32,
        }
    }
}

impl Limits {
    /// Whether a folder may be given this name.
    pub(super) fn allow_name(&self, name: &str) -> Result<(), MailError> {
        if name.len() > self.name_bytes {
            return Err(MailError::Limit { what: "bytes in a mailbox name", most: self.name_bytes as u64 });
        }
        if name.split('/').count() > self.name_depth {
            return Err(MailError::Limit { what: "levels in a mailbox name", most: self.name_depth as u64 });
        }
        Ok(())
    }
}

/// The two directories of an owner: domain and local part, escaped.
pub(super) type Owner = (Arc<str>, Arc<str>);

/// The embedded mail store. One for the process; sessions share what it knows of folders.
pub struct Mail {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

/// What all folders share.
pub(super) struct Shared {
    pub root: Dir,
    pub root_path: PathBuf,
    pub pool: Pool,
    pub limits: Limits,
    pub watcher: Option<Watcher>,
    folders: Mutex<HashMap<Spot, Weak<Folder>>>,
    /// Folders used last, kept although nobody has them open: the next STATUS or SELECT finds them known.
    kept: Mutex<VecDeque<Arc<Folder>>>,
    /// Held while a UIDVALIDITY is being given out: those set aside last.
    pub validity: Mutex<Option<Reserved>>,
    /// Held while subscriptions change.
    pub subscriptions: Mutex<()>,
    /// RENAMEs of several folders.
    pub renames: Turns,
    /// Held while an owner's directory is made: nobody finds one that is not durable yet.
    making: Mutex<()>,
    /// Mailboxes that were there a moment ago, so that a sign-in alone does not touch the disk.
    homes: Cache<Owner, ()>,
    /// Who wants to hear of what happens.
    pub hub: Hub,
    /// What owners may take up and do.
    pub accounts: Accounts,
    /// Tells sessions apart, so that nobody hears of their own deeds.
    origins: AtomicU64,
}

/// Mailboxes remembered as being there, and for how long.
const HOMES: u64 = 10_000;
const HOMES_FOR: Duration = Duration::from_secs(60);

impl Mail {
    /// Opens the store. Call it within the runtime that sessions run on.
    ///
    /// # Errors
    /// `Io` when the root can not be made or opened.
    pub fn new(settings: Settings) -> Result<Arc<Self>, MailError> {
        Self::with_seam(settings, None)
    }

    #[cfg(test)]
    pub(super) fn with_faults(settings: Settings, faults: super::seam::Faults) -> Result<Arc<Self>, MailError> {
        Self::with_seam(settings, super::seam::seam(faults))
    }

    pub(super) fn with_seam(settings: Settings, seam: Seamed) -> Result<Arc<Self>, MailError> {
        make_root(&settings.root).map_err(|error| {
            let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
            io("making the mail directory")(errno)
        })?;
        let watcher =
            Watcher::new().inspect_err(|error| tracing::warn!(%error, "mail is polled, not watched")).ok();
        let shared = Arc::new(Shared {
            root: Dir::root(&settings.root, seam)?,
            root_path: settings.root,
            pool: Pool::new(settings.limits.threads),
            limits: settings.limits,
            watcher,
            folders: Mutex::default(),
            kept: Mutex::default(),
            validity: Mutex::default(),
            subscriptions: Mutex::default(),
            renames: Turns::default(),
            making: Mutex::default(),
            homes: Cache::builder().max_capacity(HOMES).time_to_live(HOMES_FOR).build(),
            hub: Hub::default(),
            accounts: Accounts::new(),
            origins: AtomicU64::new(0),
        });
        let tasks = vec![
            tokio::spawn(watch::run(Arc::downgrade(&shared))).abort_handle(),
            tokio::spawn(housekeeping(Arc::downgrade(&shared))).abort_handle(),
        ];
        Ok(Arc::new(Self { shared, tasks }))
    }

    /// The mailbox a permit is for, made if it is not there yet.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn open(&self, permit: &Permit) -> Result<Maildir, MailError> {
        self.open_for(permit.owner()).await
    }

    /// Sets what an owner's mail may take up, for every session from now on.
    pub fn limit(&self, owner: &UserId, quota: Quota) {
        let (domain, local) = path::owner(owner);
        self.shared.accounts.of(&(domain.into(), local.into())).limit(quota);
    }

    /// Makes a user's mailbox, with the folders mail programs look for, unless it is there; where it lies. Shows no mail:
    /// for set-up, and for whoever delivers.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn provision(&self, owner: &UserId) -> Result<PathBuf, MailError> {
        let maildir = self.open_for(owner).await?;
        Ok(self.shared.root_path.join(&*maildir.owner.0).join(&*maildir.owner.1))
    }

    /// The owner's mailbox, whether there is one or not.
    pub(super) fn maildir(&self, owner: &UserId) -> Maildir {
        let (domain, local) = path::owner(owner);
        let origin = self.shared.origins.fetch_add(1, Ordering::Relaxed);
        Maildir::new(Arc::clone(&self.shared), (domain.into(), local.into()), origin)
    }

    pub(super) async fn open_for(&self, owner: &UserId) -> Result<Maildir, MailError> {
        let maildir = self.maildir(owner);
        if self.shared.homes.contains_key(&maildir.owner) {
            return Ok(maildir);
        }
        let (shared, owner) = (Arc::clone(&self.shared), maildir.owner.clone());
        self.shared.pool.run("opening a mailbox", move || shared.make_home(&owner)).await?;
        self.shared.homes.insert(maildir.owner.clone(), ());
        Ok(maildir)
    }
}

/// How long the store takes at the end, at most, to note how folders stand.
const LAST_NOTES: Duration = Duration::from_secs(2);

impl Mail {
    /// Notes how folders stand that are in memory, so that they need not be looked through after a restart, and forgets
    /// all it knows of them. Nothing is lost without it. For when nobody has a mailbox open: until somebody opens one again,
    /// nothing here touches the disk.
    pub async fn close(&self) {
        self.note_folders().await;
        lock(&self.shared.kept).clear();
        *lock(&self.shared.validity) = None;
        self.shared.homes.invalidate_all();
        self.shared.accounts.forget();
    }

    async fn note_folders(&self) {
        let open: Vec<Arc<Folder>> = lock(&self.shared.folders).values().filter_map(Weak::upgrade).collect();
        let noted: Vec<_> = open.into_iter().filter(|folder| folder.is_worth_noting()).collect();
        if noted.is_empty() {
            return;
        }
        tokio::time::sleep(REST).await;
        let all = async {
            for folder in noted {
                folder.note().await;
            }
        };
        if tokio::time::timeout(LAST_NOTES, all).await.is_err() {
            tracing::debug!("some folders will be looked through again");
        }
    }
}

#[cfg(test)]
impl Mail {
    pub(super) fn evict_accounts(&self) {
        self.shared.accounts.evict();
    }

    /// Folders in memory.
    pub(super) fn folders_known(&self) -> usize {
        lock(&self.shared.folders).values().filter(|folder| folder.strong_count() > 0).count()
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Shared {
    /// The owner's directory, which is INBOX.
    pub(super) fn home(&self, owner: &Owner) -> Result<Dir, MailError> {
        self.root.sub(owner.0.as_bytes())?.sub(owner.1.as_bytes())
    }

    /// Makes the owner's directory, with the folders mail programs look for, unless it is there. It appears whole.
    fn make_home(&self, owner: &Owner) -> Result<(), MailError> {
        let turn = lock(&self.making);
        if self.root.stat(owner.0.as_bytes())?.is_none() {
            self.root.make(owner.0.as_bytes())?;
        }
        let domain = self.root.sub(owner.0.as_bytes())?;
        if domain.stat(owner.1.as_bytes())?.is_some() {
            drop(turn);
            let home = domain.sub(owner.1.as_bytes())?;
            self.renames.recover(owner, &home)?;
            return self.clean_home(&home);
        }
        // The domain's directory may have been made by a call that failed to make it durable.
        self.root.sync()?;
        // `%n` is the start of no escaped name.
        let building = format!("%new-{}", filename::unique());
        let placed = build_home(&domain, building.as_bytes())
            .and_then(|()| domain.rename(building.as_bytes(), &domain, owner.1.as_bytes()));
        match placed {
            Ok(()) => domain.sync().inspect_err(|_| {
                // Else it would be found, and mail put into it.
                drop(domain.rename(owner.1.as_bytes(), &domain, building.as_bytes()));
                remove_tree(&domain, building.as_bytes());
            }),
            // Another process was first. What we built is empty.
            Err(MailError::Io { source: rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY, .. }) => {
                remove_tree(&domain, building.as_bytes());
                domain.sync()
            }
            Err(error) => {
                remove_tree(&domain, building.as_bytes());
                Err(error)
            }
        }
    }

    /// Removes what a crash in the middle of CREATE or DELETE left.
    fn clean_home(&self, home: &Dir) -> Result<(), MailError> {
        for name in home.names(rustix::fs::FileType::Directory)? {
            let unfinished = name.starts_with(b"portcullis-new-")
                && home.stat(&name)?.is_some_and(|s| s.st_ctime < now_s() - 3600);
            if unfinished || name.starts_with(b"portcullis-gone-") {
                remove_tree(home, &name);
            }
        }
        Ok(())
    }

    /// The one [`Folder`] of that place.
    pub(super) fn folder(self: &Arc<Self>, spot: &Spot) -> Arc<Folder> {
        let mut folders = lock(&self.folders);
        // One that is gone has lost its index: what stands there now is another.
        if let Some(folder) = folders.get(spot).and_then(Weak::upgrade).filter(|folder| !folder.is_gone()) {
            return folder;
        }
        let folder = Arc::new(Folder::new(self, spot.clone()));
        folders.insert(spot.clone(), Arc::downgrade(&folder));
        let mut kept = lock(&self.kept);
        kept.push_back(Arc::clone(&folder));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        folder
    }

    /// The same if it is known already.
    pub(super) fn known(&self, spot: &Spot) -> Option<Arc<Folder>> {
        lock(&self.folders).get(spot).and_then(Weak::upgrade).filter(|folder| !folder.is_gone())
    }

    /// The folder was deleted: whoever asks for that place gets another.
    pub(super) fn forget(&self, folder: &Folder) {
        lock(&self.folders).remove(&folder.spot());
        folder.end();
    }

    /// The folder's directory has a new name.
    pub(super) fn rehome(&self, folder: &Arc<Folder>, spot: Spot) {
        let mut folders = lock(&self.folders);
        folders.remove(&folder.spot());
        folders.insert(spot.clone(), Arc::downgrade(folder));
        folder.moved_to(spot);
    }
}

/// Makes the store's root, so that it is there after a power cut.
fn make_root(path: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    std::fs::create_dir_all(path)?;
    for parent in missing.iter().filter_map(|dir| dir.parent()) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        std::fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Makes what a new owner has, in a directory nobody else knows yet.
fn build_home(domain: &Dir, building: &[u8]) -> Result<(), MailError> {
    domain.make(building)?;
    let home = domain.sub(building)?;
    tree::make_inside(&home)?;
    for (name, _) in listing::FIRST_FOLDERS {
        let dir = format!(".{name}");
        home.make(dir.as_bytes())?;
        let folder = home.sub(dir.as_bytes())?;
        tree::make_inside(&folder)?;
        folder.create(b"maildirfolder")?;
        folder.sync()?;
    }
    home.sync()
}

/// Removes a directory that nothing names any more, as well as possible.
pub(super) fn remove_tree(dir: &Dir, name: &[u8]) {
    if let Err(error) = dir.remove_tree(name) {
        tracing::warn!(%error, name = %name.escape_ascii(), "could not remove a directory");
    }
}

/// Polls what is not watched, puts idle folders away, drops watches nobody needs.
async fn housekeeping(shared: Weak<Shared>) {
    for tick in 0_u64.. {
        tokio::time::sleep(TICK).await;
        let Some(shared) = shared.upgrade() else { return };
        let open: Vec<Arc<Folder>> = {
            let mut folders = lock(&shared.folders);
            folders.retain(|_, folder| folder.strong_count() > 0);
            folders.values().filter_map(Weak::upgrade).collect()
        };
        for folder in open {
            if folder.has_unrecorded() {
                drop(folder.exclusively("recording sizes", |ex| ex.note()).await);
            }
            folder.put_away(IDLE);
            if folder.views.load(Ordering::Acquire) == 0 {
                continue;
            }
            let watched = { lock(&folder.events).watched };
            if !watched || tick % SLOW == SLOW - 1 {
                let peek = Arc::clone(&folder);
                let same = shared.pool.run("polling a folder", move || peek.is_as_scanned()).await;
                if same != Ok(true) {
                    drop(folder.exclusively("polling a folder", |ex| ex.refresh()).await);
                }
            }
        }
        shared.watcher.iter().for_each(Watcher::prune);
        shared.hub.prune();
        shared.accounts.prune();
    }
}
