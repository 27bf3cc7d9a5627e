//! One folder, shared by every session that has it open: what is known of it, who may write, and who hears of
//! changes. Called by everything in this room; the work itself is in `scan`, `deliver`, `change`.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::io::Errno;
use tokio::sync::watch;

use super::{
    cache::Cache,
    deliver::Waiting,
    disk::Dir,
    error::MailError,
    index::Index,
    measure::Measured,
    quota::Usage,
    record::{Record, Stamps},
    root::{Limits, Owner, Shared},
    state::State,
    watch::Events,
};

mod at_hand;
mod brief;
mod exclusive;

pub(super) use brief::{Brief, REST};
pub(super) use exclusive::{Exclusive, locked};

/// A directory changed less than this ago may change again without its time stamp showing it.
const SETTLED: Duration = Duration::from_millis(50);
/// The same where the time stamp is a whole second, as on file systems that keep no part of one, or only every other.
const SETTLED_COARSE: Duration = Duration::from_secs(2);

/// How long a directory is taken for the one that stands under its name.
const TRUSTED: Duration = Duration::from_secs(1);

/// Where a folder lies below the store's root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spot {
    /// The owner's directories: domain, local part, escaped.
    pub owner: Owner,
    /// `.A.B`, or nothing for INBOX.
    pub dir: Option<Arc<[u8]>>,
}

/// One folder.
pub(super) struct Folder {
    pub shared: Weak<Shared>,
    pub limits: Limits,
    core: Mutex<Core>,
    /// Whoever holds it may write; taken before the blocking thread is.
    writer: Arc<tokio::sync::Mutex<()>>,
    /// Counts what sessions may want to see.
    version: watch::Sender<u64>,
    /// Seconds since the epoch when the state was last read.
    used: AtomicU64,
    /// How many views there are.
    pub views: AtomicUsize,
    /// Messages that wait for their commit.
    pub waiting: Mutex<Vec<Waiting>>,
    /// Somebody is about to note how it stands.
    pub leaving: AtomicBool,
    /// Messages that came before this second, since 1970, are on disk, whoever brought them.
    pub safe_until: AtomicI64,
    /// What inotify said since the last look.
    pub events: Mutex<Events>,
    /// What was found inside messages, once somebody asked.
    pub cache: Mutex<Option<Cache>>,
}

struct Core {
    spot: Spot,
    gone: bool,
    /// The highest `\Recent` mark claimed; kept here because it is not worth a commit of its own.
    recent: u32,
    uid_validity: u32,
    /// What its messages take up, once the state was loaded.
    usage: Usage,
    /// The directories as the state, loaded or put away, shows them.
    scanned: Option<Stamps>,
    loaded: Option<Loaded>,
    /// UIDs of messages that were measured, which the index does not say yet.
    unrecorded: Vec<u32>,
    /// What views were told that were opened without loading it.
    briefs: Vec<Weak<Brief>>,
    /// When its directory was last found to be the one that is looked for under its name.
    in_place: Option<Instant>,
}

struct Loaded {
    dir: Dir,
    index: Index,
    state: State,
}

/// Locks even if a panic has poisoned it: every value behind these locks is whole between statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970.
pub(super) fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

impl Folder {
    pub(super) fn new(shared: &Arc<Shared>, spot: Spot) -> Self {
        Self {
            shared: Arc::downgrade(shared),
            limits: shared.limits,
            core: Mutex::new(Core {
                spot,
                gone: false,
                recent: 0,
                uid_validity: 0,
                usage: Usage::default(),
                scanned: None,
                loaded: None,
                unrecorded: Vec::new(),
                briefs: Vec::new(),
                in_place: None,
            }),
            writer: Arc::default(),
            version: watch::Sender::new(0),
            used: AtomicU64::new(now_s().cast_unsigned()),
            views: AtomicUsize::new(0),
            waiting: Mutex::default(),
            leaving: AtomicBool::new(false),
            safe_until: AtomicI64::new(0),
            events: Mutex::default(),
            cache: Mutex::default(),
        }
    }

    /// Asks the state a question. Loads it if it was put away: [`Folder::wake`] before keeps that off async threads.
    pub(super) fn read<T>(&self, question: impl FnOnce(&State) -> T) -> Option<T> {
        self.used.store(now_s().cast_unsigned(), Ordering::Relaxed);
        let mut core = lock(&self.core);
        if core.loaded.is_none() && !core.gone {
            let dir = self.open_dir(&core.spot).ok()?;
            let (index, state) = Index::load(&dir).ok()??;
            // Its index was made anew meanwhile: UIDs mean other messages.
            if core.uid_validity != 0 && core.uid_validity != state.uid_validity {
                core.gone = true;
                return None;
            }
            core.put(dir, index, state);
        }
        if core.gone {
            return None;
        }
        core.loaded.as_ref().map(|loaded| question(&loaded.state))
    }

    /// Claims the messages no read-write session has seen, `\Recent` ones: their lowest UID.
    pub(super) fn claim_recent(&self) -> u32 {
        let mut core = lock(&self.core);
        let next = core.loaded.as_ref().map_or(core.recent, |l| l.state.marks.uid_next);
        let first = core.recent;
        core.recent = core.recent.max(next);
        if let Some(loaded) = &mut core.loaded {
            loaded.state.marks.recent = next;
        }
        first
    }

    /// Whether nothing has to be found out about its messages, as far as is known.
    pub(super) fn is_measured(&self) -> bool {
        lock(&self.core).loaded.as_ref().is_some_and(|loaded| loaded.state.unmeasured == 0)
    }

    /// Takes in what was found out about messages; it is recorded with the next commit.
    pub(super) fn found_out(&self, found: &[(u32, Measured)]) {
        let (mut added, mut taken) = (0, 0);
        {
            let core = &mut *lock(&self.core);
            let Some(loaded) = &mut core.loaded else { return };
            for (uid, measured) in found {
                if let Some(claimed) = loaded.state.measured(*uid, *measured) {
                    core.unrecorded.push(*uid);
                    (added, taken) = (added + measured.size, taken + claimed);
                }
            }
            core.usage.bytes = core.usage.bytes.saturating_add(added).saturating_sub(taken);
        }
        if added != taken
            && let Some(shared) = self.shared.upgrade()
        {
            shared.accounts.report(&self.spot(), self.usage());
        }
    }

    /// Whether something was found out that the index does not say yet.
    pub(super) fn has_unrecorded(&self) -> bool {
        !lock(&self.core).unrecorded.is_empty()
    }

    /// Loads the state off the async threads if it was put away.
    pub(super) async fn wake(self: &Arc<Self>) -> Result<(), MailError> {
        self.used.store(now_s().cast_unsigned(), Ordering::Relaxed);
        let loaded = { lock(&self.core).loaded.is_some() };
        if loaded { Ok(()) } else { self.exclusively("opening a folder", |_| Ok(())).await }
    }

    /// Makes sure that the folder can take messages in: it is loaded, and stands where it is looked for.
    pub(super) async fn settle_in(self: &Arc<Self>) -> Result<(), MailError> {
        let settled = {
            let core = lock(&self.core);
            let in_place = core.in_place.is_some_and(|then| then.elapsed() < TRUSTED);
            !core.gone && core.loaded.is_some() && in_place
        };
        if settled { Ok(()) } else { self.exclusively("opening a folder", |_| Ok(())).await }
    }

    /// Forgets the state if nobody used it for `idle`; the next question loads it again.
    pub(super) fn put_away(&self, idle: Duration) {
        let used = Duration::from_secs(self.used.load(Ordering::Relaxed));
        let now = Duration::from_secs(now_s().cast_unsigned());
        let Ok(_writer) = self.writer.try_lock() else { return };
        let put_away = {
            let mut core = lock(&self.core);
            let saved = core.loaded.as_ref().is_some_and(|l| !l.index.needs_rewrite());
            core.loaded.take_if(|_| saved && now.saturating_sub(used) >= idle).is_some()
        };
        // Whoever has the cache asks for the state meanwhile, so never both locks at once.
        if put_away {
            *lock(&self.cache) = None;
        }
    }

    /// A receiver that wakes when there is something new to see.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Tells every view to look again, and whoever counts or listens.
    pub(super) fn announce(&self) {
        self.version.send_modify(|version| *version += 1);
        let Some(shared) = self.shared.upgrade() else { return };
        let (spot, usage) = {
            let core = lock(&self.core);
            (core.spot.clone(), core.usage)
        };
        shared.accounts.report(&spot, usage);
        shared.hub.touch(&spot);
    }

    /// What its messages take up, as far as is known.
    pub(super) fn usage(&self) -> Usage {
        lock(&self.core).usage
    }

    pub(super) fn spot(&self) -> Spot {
        lock(&self.core).spot.clone()
    }

    /// The folder's directory was renamed.
    pub(super) fn moved_to(&self, spot: Spot) {
        let mut core = lock(&self.core);
        (core.spot, core.in_place) = (spot, None);
    }

    pub(super) fn is_gone(&self) -> bool {
        lock(&self.core).gone
    }

    /// Whether more is known here than is known to be durable: a call failed.
    pub(super) fn is_doubtful(&self) -> bool {
        lock(&self.core).loaded.as_ref().is_some_and(|loaded| loaded.index.needs_rewrite())
    }

    /// The folder was deleted: nothing works here any more, and every view hears of it.
    pub(super) fn end(&self) {
        {
            let mut core = lock(&self.core);
            core.gone = true;
            core.loaded = None;
            core.usage = Usage::default();
        }
        self.announce();
    }

    /// The writer's turn, for work on the directory as a whole (delete, rename).
    pub(super) async fn turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.writer).lock_owned().await
    }

    /// Runs `work` on a blocking thread as the only writer, in this process and among others, with the state loaded
    /// and current. Work that has begun runs to its end even when the caller goes away.
    pub(super) async fn exclusively<T: Send + 'static>(
        self: &Arc<Self>,
        doing: &'static str,
        work: impl FnOnce(&Exclusive) -> Result<T, MailError> + Send + 'static,
    ) -> Result<T, MailError> {
        let turn = self.turn().await;
        self.exclusively_in(turn, doing, work).await
    }

    /// The same for whoever has the turn.
    pub(super) async fn exclusively_in<T: Send + 'static>(
        self: &Arc<Self>,
        turn: tokio::sync::OwnedMutexGuard<()>,
        doing: &'static str,
        work: impl FnOnce(&Exclusive) -> Result<T, MailError> + Send + 'static,
    ) -> Result<T, MailError> {
        let shared = self.shared.upgrade().ok_or(MailError::FolderGone)?;
        let folder = Arc::clone(self);
        let run = move || {
            let _turn = turn;
            work(&Exclusive::begin(&folder)?)
        };
        shared.pool.run(doing, run).await
    }

    /// The same on the blocking thread that calls; none if somebody else has the turn.
    pub(super) fn at_once<T>(
        self: &Arc<Self>,
        work: impl FnOnce(&Exclusive) -> Result<T, MailError>,
    ) -> Option<Result<T, MailError>> {
        let _turn = self.writer.try_lock().ok()?;
        Some(Exclusive::begin(self).and_then(|ex| work(&ex)))
    }

    /// Whether the directory that is worked in still stands where the folder is looked for, as far as that was not asked
    /// within the last second: another program may have put another in its place.
    fn is_in_place(&self, dir: &Dir) -> Result<bool, MailError> {
        let now = Instant::now();
        let spot = {
            let mut core = lock(&self.core);
            if core.in_place.is_some_and(|then| now.duration_since(then) < TRUSTED) {
                return Ok(true);
            }
            core.in_place = Some(now);
            core.spot.clone()
        };
        match self.open_dir(&spot) {
            Ok(found) => Ok(found.is_same(dir)?),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The folder's directory.
    pub(super) fn dir(&self) -> Result<Dir, MailError> {
        let (spot, dir) = {
            let core = lock(&self.core);
            (core.spot.clone(), core.loaded.as_ref().map(|l| l.dir.clone()))
        };
        dir.map_or_else(|| self.open_dir(&spot), Ok)
    }

    /// Whether the directories' time stamps are those of the last look. Does not load the state.
    pub(super) fn is_as_scanned(&self) -> Result<bool, MailError> {
        let (spot, scanned) = {
            let core = lock(&self.core);
            (core.spot.clone(), core.scanned)
        };
        Ok(scanned.is_some() && scanned == Some(stamps(&self.open_dir(&spot)?)?))
    }

    fn open_dir(&self, spot: &Spot) -> Result<Dir, MailError> {
        let shared = self.shared.upgrade().ok_or(MailError::FolderGone)?;
        let home = shared.home(&spot.owner)?;
        match &spot.dir {
            None => Ok(home),
            Some(dir) => home.sub(dir),
        }
    }
}

impl Core {
    /// Records of what was found out since they were asked for last.
    fn take_unrecorded(&mut self) -> Vec<Record> {
        let Some(loaded) = &self.loaded else { return Vec::new() };
        let known = std::mem::take(&mut self.unrecorded);
        let known = known.iter().filter_map(|uid| loaded.state.find(*uid)).filter(|m| m.measured);
        known.map(|m| Record::Measured { uid: m.uid, size: m.size, bare: m.bare, date: m.date }).collect()
    }

    fn put(&mut self, dir: Dir, index: Index, mut state: State) {
        self.recent = self.recent.max(state.marks.recent);
        state.marks.recent = self.recent;
        self.uid_validity = state.uid_validity;
        self.usage = Usage::of(state.messages.iter().map(|m| m.size));
        // What is not recorded is found out again.
        self.unrecorded = Vec::new();
        let loaded = self.loaded.insert(Loaded { dir: dir.clone(), index, state });
        if !self.briefs.is_empty() {
            brief::settle(std::mem::take(&mut self.briefs), &dir, loaded);
        }
    }
}

impl Stamps {
    pub(super) fn are_settled(self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.0.iter().all(|(secs, nanos)| {
            let secs = u64::try_from(*secs).unwrap_or(0);
            let enough = if *nanos == 0 { SETTLED_COARSE } else { SETTLED };
            now.checked_sub(Duration::new(secs, u32::try_from(*nanos).unwrap_or(0))).is_some_and(|age| age > enough)
        })
    }
}

/// When `new` and `cur` changed last.
pub(super) fn stamps(dir: &Dir) -> Result<Stamps, MailError> {
    let at = |name: &[u8]| -> Result<(i64, i64), MailError> {
        let missing = MailError::Io { doing: "looking at a folder", source: Errno::NOENT };
        let stat = dir.stat(name)?.ok_or(missing)?;
        Ok((stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)))
    };
    Ok(Stamps([at(b"new")?, at(b"cur")?]))
}
