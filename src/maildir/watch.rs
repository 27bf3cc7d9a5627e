//! News from the kernel: which message files other programs (and we) made, renamed or removed. One inotify descriptor
//! for the process; only folders that a session has open are watched, and those without a watch are polled.
//!
//! Straight on inotify rather than through the `notify` crate: that one also asks for every open of every file, an event
//! for each message read, and names directories by path, which a renamed folder outlives. Here a watch is set through
//! the open directory itself.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, Weak, atomic::Ordering},
    time::Duration,
};

use rustix::{
    fd::{AsRawFd, OwnedFd},
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};
use tokio::io::unix::AsyncFd;

use super::{
    disk::Dir,
    error::{MailError, io},
    filename::Place,
    folder::{Folder, lock},
    root::Shared,
    scan,
};

/// How long news are gathered before anybody looks.
const GATHER: Duration = Duration::from_millis(10);
/// Names beyond this many are not kept one by one: the folder is listed instead.
const MAX_NAMES: usize = 4096;

/// News of our own doing that the kernel is left to keep: it keeps some 16,000 for all folders together.
const MOST_UNHEARD: usize = 2048;

/// What is known to have happened in a folder since the last look.
#[derive(Debug, Default)]
pub(super) struct Events {
    names: Vec<scan::Event>,
    /// Names were lost: look at everything.
    all: bool,
    /// What a command of ours does to files, in order: it comes back as news that tell nothing new.
    own: VecDeque<scan::Event>,
    /// The folder has a watch.
    pub watched: bool,
}

impl Events {
    /// Takes in what happened, unless we did it ourselves; whether it was news.
    fn push(&mut self, place: Place, name: &[u8], came: bool) -> bool {
        let ours = |own: &scan::Event| own.came == came && own.place == place && own.name == name;
        if self.own.front().is_some_and(ours) {
            self.own.pop_front();
            return false;
        }
        if self.names.len() >= MAX_NAMES {
            self.names = Vec::new();
            self.all = true;
        }
        if !self.all {
            self.names.push(scan::Event { place, name: name.to_vec(), came });
        }
        true
    }

    /// Something happened, but what is not known.
    pub(super) fn lose(&mut self) -> bool {
        self.all = true;
        self.own.clear();
        true
    }

    /// What was said is not taken in, or not all of it: the next look is at everything.
    pub(super) fn look_again(&mut self) {
        self.all = true;
    }

    /// Whether nothing happened.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.all
    }
}

/// The process's one inotify descriptor.
pub(super) struct Watcher {
    fd: OwnedFd,
    watches: Mutex<HashMap<i32, (Weak<Folder>, Place)>>,
}

impl Watcher {
    /// Fails where the system has no inotify, or no more of it.
    pub(super) fn new() -> Result<Self, MailError> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(io("watching mail"))?;
        Ok(Self { fd, watches: Mutex::default() })
    }

    /// Watches a folder, if it is not watched yet.
    pub(super) fn watch(&self, folder: &Arc<Folder>, dir: &Dir) -> Result<(), MailError> {
        let mut watches = lock(&self.watches);
        if lock(&folder.events).watched {
            return Ok(());
        }
        for place in [Place::New, Place::Cur] {
            let sub = dir.sub(place.dir().as_bytes())?;
            let path = format!("/proc/self/fd/{}", sub.fd().as_raw_fd());
            let wanted = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
            let watch = inotify::add_watch(&self.fd, path, wanted | WatchFlags::ONLYDIR);
            watches.insert(watch.map_err(io("watching mail"))?, (Arc::downgrade(folder), place));
        }
        lock(&folder.events).watched = true;
        Ok(())
    }

    /// Ends the watches of folders nobody has open.
    pub(super) fn prune(&self) {
        // What was said before a watch ends must not be lost: time stamps alone might not show it.
        self.drain().into_iter().for_each(look_later);
        lock(&self.watches).retain(|watch, (folder, _)| {
            let folder = folder.upgrade();
            let open = folder.as_ref().is_some_and(|f| f.views.load(Ordering::Acquire) > 0);
            if !open {
                let _ = inotify::remove_watch(&self.fd, *watch);
                if let Some(folder) = folder {
                    lock(&folder.events).watched = false;
                }
            }
            open
        });
    }

    /// Hands what the kernel has to say to the folders it is about, and returns those for which it is news.
    pub(super) fn drain(&self) -> Vec<Arc<Folder>> {
        // By address: an overflow tells every folder that is open.
        let mut told: HashMap<*const Folder, Arc<Folder>> = HashMap::new();
        let mut tell = |folder: &Weak<Folder>, take_in: &dyn Fn(&mut Events) -> bool| {
            let Some(folder) = folder.upgrade() else { return };
            if take_in(&mut lock(&folder.events)) {
                told.insert(Arc::as_ptr(&folder), folder);
            }
        };
        let mut buffer = [std::mem::MaybeUninit::uninit(); 16 * 1024];
        let mut watches = lock(&self.watches);
        let mut reader = Reader::new(&self.fd, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(_) => break,
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                watches.values().for_each(|(folder, _)| tell(folder, &Events::lose));
            } else if flags.contains(ReadFlags::IGNORED) {
                if let Some((folder, _)) = watches.remove(&event.wd()) {
                    tell(&folder, &|events| {
                        events.watched = false;
                        events.lose()
                    });
                }
            } else if let Some((folder, place)) = watches.get(&event.wd())
                && let Some(name) = event.file_name()
            {
                let came = flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
                tell(folder, &|events| events.push(*place, name.to_bytes(), came));
            }
        }
        told.into_values().collect()
    }
}

/// Reads the descriptor for as long as the store lives, and has each folder look at what changed.
pub(super) async fn run(shared: Weak<Shared>) {
    let Some(fd) = shared.upgrade().and_then(|s| descriptor(s.watcher.as_ref()?)) else { return };
    loop {
        if news(&fd).await.is_err() {
            return;
        }
        // What happens in quick succession, by a STORE of ours above all, is looked at in one go.
        tokio::time::sleep(GATHER).await;
        let Some(shared) = shared.upgrade() else { return };
        for folder in shared.watcher.iter().flat_map(Watcher::drain) {
            look_later(folder);
        }
    }
}

/// Waits until there are news. The runtime listens only meanwhile: it would be woken by each one that is gathered.
async fn news(fd: &Arc<OwnedFd>) -> std::io::Result<()> {
    let listening = listen(fd)?;
    listening.readable().await.map(|mut ready| ready.clear_ready())
}

#[allow(
    deprecated,
    reason = "its successor is unsafe; what that asks for, the shared OwnedFd keeps: the same open file for life"
)]
fn listen(fd: &Arc<OwnedFd>) -> std::io::Result<AsyncFd<Arc<OwnedFd>>> {
    AsyncFd::with_interest(Arc::clone(fd), tokio::io::Interest::READABLE)
}

fn descriptor(watcher: &Watcher) -> Option<Arc<OwnedFd>> {
    rustix::io::fcntl_dupfd_cloexec(&watcher.fd, 0).ok().map(Arc::new)
}

fn look_later(folder: Arc<Folder>) {
    tokio::spawn(async move { folder.look("looking at deliveries").await });
}

/// What a command of ours does to the files of a watched folder: noted before it is done, so that the news of it, when
/// they come back, need no look at the disk. Dropped once it is committed.
pub(super) struct Deeds<'a> {
    folder: &'a Arc<Folder>,
    /// Whether the folder is watched at all.
    watched: bool,
    /// How many were noted since the kernel was last asked for its news.
    noted: usize,
}

impl<'a> Deeds<'a> {
    pub(super) fn begin(folder: &'a Arc<Folder>) -> Self {
        Self { folder, watched: lock(&folder.events).watched, noted: 0 }
    }

    /// Does something that moves, makes or removes files; whether it was done. What failed may have been done all the
    /// same: then it is news.
    pub(super) fn make(
        &mut self,
        deeds: &[(Place, &[u8], bool)],
        deed: impl FnOnce() -> Result<bool, MailError>,
    ) -> Result<bool, MailError> {
        if !self.watched {
            return deed();
        }
        let own = |&(place, name, came): &(Place, &[u8], bool)| scan::Event { place, name: name.to_vec(), came };
        lock(&self.folder.events).own.extend(deeds.iter().map(own));
        let done = deed();
        if done != Ok(true) {
            let own = &mut lock(&self.folder.events).own;
            own.truncate(own.len().saturating_sub(deeds.len()));
        }
        self.noted += deeds.len();
        if self.noted > MOST_UNHEARD {
            self.hear();
        }
        done
    }

    /// Has the kernel tell what it knows by now.
    fn hear(&mut self) {
        if std::mem::take(&mut self.noted) == 0 {
            return;
        }
        let Some(shared) = self.folder.shared.upgrade() else { return };
        shared.watcher.iter().flat_map(Watcher::drain).for_each(look_later);
    }
}

impl Drop for Deeds<'_> {
    fn drop(&mut self) {
        if self.watched {
            self.hear();
            // A file system that is late with its news: they are looked at like any others.
            lock(&self.folder.events).own = VecDeque::new();
        }
    }
}

impl Folder {
    /// Whether the folder is watched and everything that happened in it until now was taken in.
    pub(super) fn heard_all(self: &Arc<Self>) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        let told = shared.watcher.iter().flat_map(Watcher::drain);
        told.filter(|folder| !Arc::ptr_eq(folder, self)).for_each(look_later);
        let events = lock(&self.events);
        events.watched && events.is_empty()
    }

    /// Takes in what other programs changed, if anything did. Cheap where the folder is watched and nothing happened.
    pub(super) async fn look(self: &Arc<Self>, doing: &'static str) -> Result<(), MailError> {
        let watched = { lock(&self.events).watched };
        if watched {
            let shared = self.shared.upgrade().ok_or(MailError::FolderGone)?;
            for folder in shared.watcher.iter().flat_map(Watcher::drain) {
                if !Arc::ptr_eq(&folder, self) {
                    look_later(folder);
                }
            }
            if lock(&self.events).is_empty() {
                // Or somebody has taken them and is looking right now: what is asked for is what they find.
                drop(self.turn().await);
                if lock(&self.events).is_empty() {
                    return Ok(());
                }
            }
        }
        let done = self.exclusively(doing, move |ex| {
            let (names, all) = {
                let mut events = lock(&ex.folder.events);
                (std::mem::take(&mut events.names), std::mem::take(&mut events.all))
            };
            let done = if all {
                scan::all(ex, false)
            } else if names.is_empty() {
                if watched { Ok(()) } else { ex.refresh() }
            } else {
                scan::named(ex, &names)
            };
            done.inspect_err(|_| lock(&ex.folder.events).look_again())
        });
        done.await.inspect_err(|error| tracing::warn!(%error, "could not look at a folder"))
    }
}

#[cfg(test)]
impl Watcher {
    pub(super) fn forget(&self, folder: &Folder) {
        lock(&self.watches).clear();
        lock(&folder.events).watched = false;
    }
}
