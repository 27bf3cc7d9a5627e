//! What one session sees of a folder: sequence numbers that change only when the session is told (RFC 3501 section
//! 7.4.1), over state that all sessions share.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, atomic::Ordering},
};

use tokio::sync::watch;

use super::{
    deliver,
    error::MailError,
    flags::Flags,
    folder::{Brief, Exclusive, Folder, lock},
    lock::PopLock,
    path, scan,
    state::{Message, State},
    tree::Maildir,
    wire::MessageReader,
};
use crate::model::UnixTime;

mod edit;
mod inside;
mod ranges;
mod survey;

pub use edit::Stored;
pub use inside::Insight;
pub use survey::{Files, Glance};

/// How a folder is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// SELECT: may change messages, and takes their `\Recent`.
    ReadWrite,
    /// EXAMINE: changes nothing.
    ReadOnly,
    /// POP3: may remove messages, leaves `\Recent` and `new` alone.
    Drop,
}

/// One message, as a session sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The UID.
    pub uid: u32,
    /// System flags.
    pub flags: Flags,
    /// Keywords, in no particular order.
    pub keywords: Vec<Arc<str>>,
    /// Whether this view is the first to see it: `\Recent`.
    pub recent: bool,
    /// Bytes in wire form: what [`View::read`] yields.
    pub size: u64,
    /// INTERNALDATE, to the second.
    pub internal_date: UnixTime,
    /// When it came into this folder (RFC 8514 SAVEDATE), to the second.
    pub saved: UnixTime,
    /// The last change of its flags or keywords (RFC 7162).
    pub modseq: u64,
    /// Its EMAILID (RFC 8474): a copy, in this folder or another, has the same.
    pub id: u64,
    /// Whether `size`, `internal_date` and `id` are known: else they must not be told. See [`View::measure`].
    pub measured: bool,
}

/// What a session has to be told, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// The message with this sequence number is gone, and those above it count one less from here on.
    Expunged(u32),
    /// There are this many messages.
    Exists(u32),
    /// This many are `\Recent`. Told with `Exists` only, as RFC 3501 section 7.3.2 asks.
    Recent(u32),
    /// Another session or program changed this message's flags or keywords.
    Flags(u32),
}

/// A folder as one session sees it.
pub struct View {
    maildir: Maildir,
    pub(super) folder: Arc<Folder>,
    mode: Mode,
    uid_validity: u32,
    /// What the folder held when this view was opened without loading it.
    brief: Option<Arc<Brief>>,
    /// The message with sequence number n is at n - 1. Not known until it is asked for, where there is a brief.
    uids: OnceLock<Arc<[u32]>>,
    /// Everything up to this mod-sequence was told, but for removals that were held back.
    seen: u64,
    /// Everything up to this one, and removals too.
    told_all: u64,
    /// Above every UID there was then.
    uid_next: u32,
    /// UIDs that the last `sync` told to be gone, ascending.
    removed: Vec<u32>,
    /// Changes of this session's own, which it need not be told: UID and mod-sequence.
    own: Vec<(u32, u64)>,
    /// UIDs that are `\Recent` here: ranges in ascending order, the end not included.
    recent: Vec<(u32, u32)>,
    /// The session knows no `\Recent`.
    recent_hidden: bool,
    /// Removals that could not be told yet.
    held_back: bool,
    /// Changes of flags are not to be told.
    quiet: bool,
    /// Some were therefore not told.
    flags_held_back: bool,
    changes: watch::Receiver<u64>,
    /// The folder's version at the last `sync`.
    told: u64,
    _lock: Option<PopLock>,
}

impl View {
    pub(super) async fn open(
        maildir: Maildir,
        folder: Arc<Folder>,
        mode: Mode,
        held: Option<PopLock>,
    ) -> Result<Self, MailError> {
        folder.views.fetch_add(1, Ordering::AcqRel);
        let changes = folder.subscribe();
        let mut view = Self {
            maildir,
            folder,
            mode,
            uid_validity: 0,
            brief: None,
            uids: OnceLock::new(),
            seen: 0,
            told_all: 0,
            uid_next: 0,
            removed: Vec::new(),
            own: Vec::new(),
            recent: Vec::new(),
            recent_hidden: false,
            held_back: false,
            quiet: false,
            flags_held_back: false,
            changes,
            told: 0,
            _lock: held,
        };
        view.told = *view.changes.borrow();
        if let Some(brief) = view.folder.brief().await? {
            (view.uid_validity, view.seen, view.uid_next) =
                (brief.uid_validity, brief.marks.modseq, brief.marks.uid_next);
            view.told_all = view.seen;
            view.brief = Some(brief);
            return Ok(view);
        }
        let settle = mode == Mode::ReadWrite;
        view.folder.exclusively("opening a folder", move |ex| begin(ex, settle)).await?;
        view.told = *view.changes.borrow();
        let recent = view.claim();
        let load = |s: &State| (s.uids(), s.uid_validity, s.marks.modseq, s.marks.uid_next);
        let (uids, next);
        (uids, view.uid_validity, view.seen, next) = view.folder.read(load).ok_or(MailError::FolderGone)?;
        view.uids = OnceLock::from(uids);
        (view.told_all, view.uid_next) = (view.seen, next);
        view.recent.extend(recent.map(|first| (first, next.max(first))));
        Ok(view)
    }

    fn list(&self) -> &Arc<[u32]> {
        self.uids.get_or_init(|| {
            let brief = self.brief.as_deref();
            // Known as soon as the folder is loaded, so that nobody waits here for a lock that they hold.
            let known = brief.and_then(|brief| {
                brief.uids().or_else(|| {
                    self.folder.load();
                    brief.uids()
                })
            });
            known.unwrap_or_default()
        })
    }

    /// The lowest UID that is `\Recent` from now on, where this mode cares.
    fn claim(&self) -> Option<u32> {
        match self.mode {
            Mode::ReadWrite => Some(self.folder.claim_recent()),
            Mode::ReadOnly => self.folder.read(|s| s.marks.recent),
            Mode::Drop => None,
        }
    }

    /// How many messages this session sees.
    pub fn len(&self) -> u32 {
        match (self.uids.get(), &self.brief) {
            (None, Some(brief)) => brief.messages,
            _ => u32::try_from(self.list().len()).unwrap_or(u32::MAX),
        }
    }

    /// Whether it sees none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the folder is called by now; none if it is gone.
    pub fn name(&self) -> Option<String> {
        if self.folder.is_gone() {
            return None;
        }
        self.folder.spot().dir.map_or(Some("INBOX".to_owned()), |dir| path::name(&dir))
    }

    /// How the folder was opened.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// UIDVALIDITY.
    pub fn uid_validity(&self) -> u32 {
        self.uid_validity
    }

    /// MAILBOXID (RFC 8474): no other folder of the owner has or had the same.
    pub fn mailbox_id(&self) -> u32 {
        let brief = self.unread().map(|brief| brief.id);
        brief.or_else(|| self.folder.read(State::id)).unwrap_or(self.uid_validity)
    }

    /// UIDNEXT: above every UID there is or was.
    pub fn uid_next(&self) -> u32 {
        let brief = self.unread().map(|brief| brief.marks.uid_next);
        brief.or_else(|| self.folder.read(|s| s.marks.uid_next)).unwrap_or(u32::MAX)
    }

    /// The brief, as long as nothing else is known of the folder.
    fn unread(&self) -> Option<&Brief> {
        self.brief.as_deref().filter(|brief| brief.uids().is_none() && !self.folder.is_loaded())
    }

    /// HIGHESTMODSEQ (RFC 7162) for this session: it was told every change up to this mod-sequence, so that it misses
    /// nothing when it asks, even in another session, for what came later. The folder's own may be higher.
    pub fn told_modseq(&self) -> u64 {
        self.told_all
    }

    /// Whether there are changes that [`View::sync`] was not allowed to tell.
    pub fn holds_back(&self) -> bool {
        self.held_back || self.flags_held_back
    }

    /// From now on [`View::sync`] tells changes of flags, or leaves them for when it may tell them again.
    pub fn tell_flags(&mut self, told: bool) {
        self.quiet = !told;
    }

    /// The UIDs that the last [`View::sync`] told to be gone, ascending; handed out once.
    pub fn take_removed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.removed)
    }

    /// Which of the sequence numbers belong to messages that changed after the mod-sequence `since`.
    pub fn changed_since(&self, seqs: impl Iterator<Item = u32>, since: u64) -> Vec<u32> {
        let is_newer = |s: &State, seq: &u32| {
            let uid = self.uid(*seq);
            uid.and_then(|uid| s.find(uid)).is_some_and(|message| message.modseq > since)
        };
        self.folder.read(|s| seqs.filter(|seq| is_newer(s, seq)).collect()).unwrap_or_default()
    }

    /// UIDs among `known` (ranges, ascending and apart) that were removed after the mod-sequence `since` (RFC 7162 section
    /// 3.2.6), and others that are missing, where it is no longer known when each was removed. Ascending; never one
    /// of a message that this session still counts, nor of one that it has not heard of.
    pub fn vanished_since(&self, since: u64, known: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let ask = |s: &State| {
            let all = s.gone.since(since).map(Iterator::collect::<Vec<_>>);
            all.unwrap_or_else(|| vec![(1, self.uid_next.saturating_sub(1))])
        };
        let mut gone = self.folder.read(ask).unwrap_or_default();
        gone.sort_unstable();
        ranges::without(&ranges::common(&gone, known), self.uids())
    }

    /// The keywords in use or once in use here, for FLAGS and PERMANENTFLAGS.
    pub fn keywords(&self) -> Vec<Arc<str>> {
        let brief = self.unread().map(|brief| brief.keywords.clone());
        brief.or_else(|| self.folder.read(|s| s.keywords.clone())).unwrap_or_default()
    }

    /// What POP3 calls those messages that came from another server under a name of its own, by UID.
    pub fn uidls(&self) -> BTreeMap<u32, Box<str>> {
        self.folder.read(|s| s.uidls.clone()).unwrap_or_default()
    }

    /// How many messages are `\Recent`.
    pub fn recent(&self) -> u32 {
        let below = |end: u32| self.uids().partition_point(|uid| *uid < end);
        let count: usize = self.recent.iter().map(|(first, end)| below(*end) - below(*first)).sum();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The sequence number of the first message without `\Seen`.
    pub fn first_unseen(&self) -> Option<u32> {
        match self.unread() {
            Some(brief) => brief.unseen,
            // One that came after the last `sync` has no number yet, and neither has any after it.
            None => self.seq(self.folder.read(State::first_unseen)??),
        }
    }

    /// The UIDs in order of sequence number, the first being number 1.
    pub fn uids(&self) -> &[u32] {
        self.list()
    }

    /// The UID of a sequence number.
    pub fn uid(&self, seq: u32) -> Option<u32> {
        self.uids().get((seq as usize).checked_sub(1)?).copied()
    }

    /// The sequence number of a UID.
    pub fn seq(&self, uid: u32) -> Option<u32> {
        self.uids().binary_search(&uid).ok().and_then(|at| u32::try_from(at + 1).ok())
    }

    /// One message. Nothing if there is no such number, or another session expunged it: [`View::sync`] will tell.
    pub fn message(&self, seq: u32) -> Option<Meta> {
        let uid = self.uid(seq)?;
        self.folder.read(|s| s.find(uid).map(|m| self.meta(s, m)))?
    }

    /// Calls `each` for many messages, in ascending order, with less ado than [`View::message`] for each. Keep `each`
    /// short: the folder is locked meanwhile.
    pub fn messages(&self, seqs: impl IntoIterator<Item = u32>, mut each: impl FnMut(u32, Meta)) {
        self.folder.read(|s| {
            for seq in seqs {
                if let Some(message) = self.uid(seq).and_then(|uid| s.find(uid)) {
                    each(seq, self.meta(s, message));
                }
            }
        });
    }

    fn meta(&self, state: &State, m: &Message) -> Meta {
        Meta {
            uid: m.uid,
            flags: m.flags,
            keywords: m.keywords().iter().filter_map(|k| state.keywords.get(usize::from(*k)).cloned()).collect(),
            recent: self.is_recent(m.uid),
            size: m.size,
            internal_date: UnixTime::from_secs(m.date),
            saved: UnixTime::from_secs(m.saved),
            modseq: m.modseq,
            id: m.id,
            measured: m.measured,
        }
    }

    /// From now on no message is `\Recent` here, as IMAP4rev2 has it (RFC 9051 appendix E.12).
    pub fn hide_recent(&mut self) {
        self.recent_hidden = true;
        self.recent = Vec::new();
    }

    fn is_recent(&self, uid: u32) -> bool {
        let at = self.recent.partition_point(|(_, end)| *end <= uid);
        self.recent.get(at).is_some_and(|(first, _)| *first <= uid)
    }

    /// Whether the folder was deleted, or its index lost: the session has to leave it.
    pub fn is_gone(&self) -> bool {
        self.folder.is_gone()
    }

    /// Brings the folder's state back into memory after a rest, off the async threads. Call it before a command;
    /// questions answered without it may read the disk.
    ///
    /// # Errors
    /// `FolderGone`, or what the disk says.
    pub async fn wake(&self) -> Result<(), MailError> {
        self.folder.wake().await
    }

    /// The same, if there may be anything to tell: an idle session needs nothing in memory.
    ///
    /// # Errors
    /// As [`View::wake`].
    pub async fn wake_for_news(&self) -> Result<(), MailError> {
        let news = self.told != *self.changes.borrow() || self.holds_back();
        if news { self.wake().await } else { Ok(()) }
    }

    /// Looks for deliveries and for what other programs changed; [`View::sync`] then tells. For NOOP, CHECK and IDLE:
    /// they are seen without it too, a moment later.
    ///
    /// # Errors
    /// `FolderGone`, or what the disk says.
    pub async fn poll(&self) -> Result<(), MailError> {
        self.folder.look("looking for deliveries").await
    }

    /// Waits until [`View::sync`] has something to tell, probably. Cancel-safe.
    pub async fn changed(&mut self) {
        let told = self.told;
        if self.changes.wait_for(|version| *version != told).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What the session has to be told now, which then holds. Removals only with `allow_expunge`: not while FETCH,
    /// STORE or SEARCH runs (RFC 3501 section 7.4.1); they are kept for the next time.
    ///
    /// Changes of flags neither while [`View::tell_flags`] keeps them.
    ///
    /// Needs no disk, and next to no time if nothing changed.
    pub fn sync(&mut self, allow_expunge: bool) -> Vec<Update> {
        let version = *self.changes.borrow();
        let waiting = (self.held_back && allow_expunge) || (self.flags_held_back && !self.quiet);
        if version == self.told && !waiting {
            return Vec::new();
        }
        self.told = version;
        self.removed = Vec::new();
        let mut updates = Vec::new();
        let folder = Arc::clone(&self.folder);
        let before = Arc::clone(self.list());
        if folder.is_gone() {
            self.held_back = !allow_expunge;
            if allow_expunge {
                updates.extend((1..=self.len()).rev().map(Update::Expunged));
                self.removed = before.to_vec();
                self.uids = OnceLock::from(Arc::default());
            }
            return updates;
        }
        let claimed = self.claim();
        folder.read(|state| self.compare(state, &before, allow_expunge, claimed, &mut updates));
        updates
    }

    fn compare(
        &mut self,
        state: &State,
        before: &[u32],
        allow_expunge: bool,
        claimed: Option<u32>,
        updates: &mut Vec<Update>,
    ) {
        self.own.sort_unstable();
        let now = state.uids();
        let mut there = now.iter().peekable();
        let mut gone = Vec::new();
        for (at, uid) in before.iter().enumerate() {
            while there.next_if(|other| *other < uid).is_some() {}
            if there.next_if_eq(&uid).is_none() {
                gone.push((at, *uid));
            }
        }
        self.held_back = !allow_expunge && !gone.is_empty();
        let kept = if self.held_back { before.len() } else { before.len() - gone.len() };
        if allow_expunge {
            self.removed.extend(gone.iter().map(|(_, uid)| *uid));
            let numbers = gone.iter().rev().filter_map(|(at, _)| u32::try_from(at + 1).ok());
            updates.extend(numbers.map(Update::Expunged));
        }
        let last = before.last().copied().unwrap_or(0);
        let new = now.get(now.partition_point(|uid| *uid <= last)..).unwrap_or_default();
        let uids: Arc<[u32]> =
            if self.held_back { before.iter().chain(new).copied().collect() } else { Arc::clone(&now) };
        let came = !new.is_empty();
        self.uids = OnceLock::from(Arc::clone(&uids));
        if let Some(first) = claimed
            && first < state.marks.uid_next
            && !self.recent_hidden
        {
            self.add_recent(first, state.marks.uid_next);
        }
        if came {
            updates.extend([Update::Exists(self.len()), Update::Recent(self.recent())]);
        }
        let mut changed = state.messages.iter().filter(|m| m.modseq > self.seen).filter_map(|message| {
            let own = self.own.binary_search(&(message.uid, message.modseq)).is_ok();
            let known = uids.binary_search(&message.uid).ok().filter(|at| *at < kept && !own);
            known.and_then(|at| u32::try_from(at + 1).ok()).map(Update::Flags)
        });
        self.flags_held_back = self.quiet && changed.next().is_some();
        if !self.flags_held_back {
            updates.extend(changed);
            self.seen = state.marks.modseq;
        }
        if !self.held_back {
            self.uid_next = state.marks.uid_next;
            self.told_all = self.seen;
        }
        // Not kept for the next time: most sessions are idle.
        self.own = Vec::new();
    }

    fn add_recent(&mut self, first: u32, end: u32) {
        match self.recent.last_mut() {
            Some(last) if last.1 >= first => last.1 = last.1.max(end),
            _ => self.recent.push((first, end)),
        }
    }

    /// Opens a message for reading.
    ///
    /// # Errors
    /// `Gone` if there is no such number or another session or program removed the message; `Io`.
    pub async fn read(&self, seq: u32) -> Result<MessageReader, MailError> {
        let uid = self.uid(seq).ok_or(MailError::Gone { uid: 0 })?;
        let shared = self.folder.shared.upgrade().ok_or(MailError::FolderGone)?;
        let (folder, pool) = (Arc::clone(&self.folder), shared.pool.clone());
        let open = move || {
            let known = folder.read(|s| s.find(uid).map(|m| (m.place, s.name(m).to_vec(), m.sizes())));
            let (place, name, sizes) = known.flatten().ok_or(MailError::Gone { uid })?;
            let dir = folder.dir()?.sub(place.dir().as_bytes())?;
            MessageReader::open(&dir, &name, &pool, uid, sizes).inspect(|opened| folder.opened(opened))
        };
        match shared.pool.run("opening a message", open.clone()).await {
            Err(error) if error.is_missing() => {
                // Another program renamed or removed it.
                self.folder.exclusively("looking for a message", |ex| scan::all(ex, false)).await?;
                let again = shared.pool.run("opening a message", open).await;
                again.map_err(|error| if error.is_missing() { MailError::Gone { uid } } else { error })
            }
            other => other,
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let last = self.folder.views.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.folder.leave(&runtime);
        }
    }
}

fn begin(ex: &Exclusive, settle: bool) -> Result<(), MailError> {
    ex.folder.watch(&ex.dir);
    deliver::clean(&ex.dir.sub(b"tmp")?)?;
    let waiting = ex.read(State::has_waiting)?;
    let news = !lock(&ex.folder.events).is_empty();
    if news || (settle && waiting) { scan::all(ex, settle) } else { ex.refresh_settling(settle) }
}

#[cfg(test)]
impl View {
    /// A look at the whole folder, whatever inotify says.
    pub(super) async fn folder_scan(&self) {
        let scanned = self.folder.exclusively("testing", |ex| scan::all(ex, false)).await;
        assert_eq!(scanned, Ok(()));
    }

    /// The next commit writes the index anew.
    pub(super) async fn compact(&self) {
        let done = self.folder.exclusively("testing", |ex| ex.compact());
        assert_eq!(done.await, Ok(()));
    }

    pub(super) fn put_away(&self) {
        self.folder.put_away(std::time::Duration::ZERO);
    }

    /// As on a system without inotify.
    pub(super) fn unwatch(&self) {
        if let Some(watcher) = self.folder.shared.upgrade().as_ref().and_then(|s| s.watcher.as_ref()) {
            watcher.forget(&self.folder);
        }
    }
}
