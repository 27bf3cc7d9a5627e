//! One owner's folders: listing, making, deleting and renaming them (RFC 3501 section 6.3).

use std::sync::Arc;

use rustix::io::Errno;

use super::{
    appending::Appending,
    copying::{Copying, copy_uids},
    disk::Dir,
    error::MailError,
    filename,
    flags::Flags,
    folder::{Exclusive, Folder as Open, Spot},
    hub::News,
    listing::{self, Folder, SpecialUse, directories, find, list},
    lock::PopLock,
    measure, path,
    pool::Pool,
    quota::{Account, Promise, Usage},
    renaming::Renaming,
    root::{self, Limits, Owner, Shared},
    state::State,
    subscriptions::Subscriptions,
    view::{Mode, View},
};

mod extras;

pub(super) use extras::room;

/// What STATUS tells (RFC 3501 section 6.3.10, RFC 8438, RFC 7162).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// MESSAGES
    pub messages: u32,
    /// RECENT
    pub recent: u32,
    /// UIDNEXT
    pub uid_next: u32,
    /// UIDVALIDITY
    pub uid_validity: u32,
    /// MAILBOXID (RFC 8474): no other folder of the owner has or had the same.
    pub mailbox_id: u32,
    /// UNSEEN: how many lack `\Seen`.
    pub unseen: u32,
    /// DELETED: how many have `\Deleted`.
    pub deleted: u32,
    /// SIZE: the sum of all sizes in wire form, in bytes; see [`Maildir::measured_status`].
    pub size: u64,
    /// DELETED-STORAGE: the same of those with `\Deleted`.
    pub deleted_size: u64,
    /// HIGHESTMODSEQ
    pub highest_modseq: u64,
}

/// One owner's mail. Cheap to clone.
#[derive(Clone)]
pub struct Maildir {
    shared: Arc<Shared>,
    pub(super) owner: Owner,
    /// What the owner may take up and does, known for as long as anybody has to do with it.
    account: Arc<Account>,
    /// Whose doing news are: those of one session do not come back to it.
    origin: u64,
}

impl Maildir {
    pub(super) fn new(shared: Arc<Shared>, owner: Owner, origin: u64) -> Self {
        let account = shared.accounts.of(&owner);
        Self { shared, owner, account, origin }
    }

    fn tell(&self, news: &News) {
        self.shared.hub.tell(&self.owner, self.origin, news);
    }

    /// Runs `work` on the owner's directory, off the async threads.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Self, &Dir) -> Result<T, MailError> + Send + 'static,
    ) -> Result<T, MailError> {
        let this = self.clone();
        self.shared.pool.run(doing, move || work(&this, &this.shared.home(&this.owner)?)).await
    }

    /// Every folder, in order of name with INBOX first; names above others that are no folders themselves among them.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn list(&self) -> Result<Vec<Folder>, MailError> {
        self.run("listing folders", |_, home| list(home)).await
    }

    /// Every name the user is subscribed to, also those of folders that are no more (RFC 3501 section 6.3.9).
    ///
    /// # Errors
    /// What the disk says.
    pub async fn subscribed(&self) -> Result<Vec<String>, MailError> {
        self.run("listing subscriptions", |_, home| {
            let mut names = Subscriptions::load(home)?.wanted();
            names.extend(list(home)?.into_iter().filter(|f| f.subscribed && f.selectable).map(|f| f.name));
            Ok(names.into_iter().collect())
        })
        .await
    }

    /// SUBSCRIBE and UNSUBSCRIBE, durably. The name need not be a folder's.
    ///
    /// # Errors
    /// `InvalidName`, `Limit`, or what the disk says.
    pub async fn subscribe(&self, name: &str, wanted: bool) -> Result<(), MailError> {
        let name = path::checked(name)?;
        self.run("changing subscriptions", move |this, home| {
            let _turn = super::folder::lock(&this.shared.subscriptions);
            Subscriptions::load(home)?.set(name.clone(), wanted)?.save(home)?;
            this.tell(&News::Subscribed(name));
            Ok(())
        })
        .await
    }

    /// CREATE, durably. A `/` at the end is allowed and means nothing; folders above need not exist.
    ///
    /// # Errors
    /// `AlreadyExists`, `InvalidName`, or what the disk says.
    pub async fn create(&self, name: &str) -> Result<(), MailError> {
        self.create_for(name, &[]).await
    }

    /// CREATE with special uses (RFC 6154 section 3), which are kept as long as the folder is.
    ///
    /// # Errors
    /// As [`Maildir::create`]; `UseTaken` where another folder has one of the uses.
    pub async fn create_for(&self, name: &str, uses: &[SpecialUse]) -> Result<(), MailError> {
        let name = path::checked(name.strip_suffix('/').unwrap_or(name))?;
        self.shared.limits.allow_name(&name)?;
        let uses = uses.to_vec();
        let exists = MailError::AlreadyExists { name: name.clone() };
        let Some(dir) = path::folder(&name)? else { return Err(exists) };
        // Nobody puts anything into the folder before it is durable.
        let folder = self.shared.folder(&self.spot(Some(&dir)));
        let turn = folder.turn().await;
        self.run("making a folder", move |this, home| {
            let _turn = turn;
            // Of two sessions that ask for the same use one is first.
            let _first = (!uses.is_empty()).then(|| super::folder::lock(&this.shared.subscriptions));
            if !uses.is_empty() {
                let taken = listing::special_uses(home, &directories(home)?)?;
                if let Some(special) = uses.iter().find(|special| taken.contains_key(special)) {
                    return Err(MailError::UseTaken { attribute: special.attribute() });
                }
            }
            if find(home, &name)?.is_some() {
                return Err(exists);
            }
            let building = format!("portcullis-new-{}", filename::unique());
            let building = building.as_bytes();
            let built = home
                .make(building)
                .and_then(|_| home.sub(building))
                .and_then(|folder| make_inside(&folder).map(|()| folder))
                .and_then(|folder| folder.create(b"maildirfolder").map(|_| folder))
                .and_then(|folder| listing::note_uses(&folder, &uses).map(|()| folder))
                .and_then(|folder| folder.sync());
            let placed = built.and_then(|()| home.rename(building, home, &dir));
            let taken = placed.as_ref().is_err_and(is_taken);
            let Err(error) = placed.and_then(|()| home.sync()) else {
                this.tell(&News::Created(name));
                return Ok(());
            };
            if taken {
                root::remove_tree(home, building);
                return Err(exists);
            }
            // A call may have failed after it was done.
            drop(home.rename(&dir, home, building));
            this.shared.forget(&folder);
            root::remove_tree(home, building);
            Err(error)
        })
        .await
    }

    /// DELETE, durably: the folder and its messages. Folders below it stay, and with them its name (RFC 3501
    /// section 6.3.4). Views of it see it empty and gone.
    ///
    /// # Errors
    /// `NoSuchFolder`; `HasChildren` for a mere name above other folders; `InvalidName` for INBOX.
    pub async fn delete(&self, name: &str) -> Result<(), MailError> {
        let name = path::checked(name)?;
        if name == "INBOX" {
            return Err(MailError::invalid(&name, "can not be deleted"));
        }
        let folder = match self.open(&name).await {
            Err(MailError::NoSuchFolder { .. }) if self.list().await?.iter().any(|f| f.name == name) => {
                return Err(MailError::HasChildren { name });
            }
            other => other?,
        };
        let turn = folder.turn().await;
        self.run("deleting a folder", move |this, home| {
            let _turn = turn;
            let gone = MailError::NoSuchFolder { name: name.clone() };
            let dir = folder.spot().dir.filter(|dir| !folder.is_gone() && path::name(dir).as_ref() == Some(&name));
            let Some(dir) = dir else { return Err(gone) };
            let doomed = format!("portcullis-gone-{}", filename::unique());
            let doomed = doomed.as_bytes();
            let deleted = home.rename(&dir, home, doomed).and_then(|()| home.sync());
            if let Err(error) = deleted {
                // What was not acknowledged is undone: the mail must not be gone at the next start.
                drop(home.rename(doomed, home, &dir).and_then(|()| home.sync()));
                return Err(if error.is_missing() { gone } else { error });
            }
            this.account.forget(&folder.spot().dir);
            this.shared.forget(&folder);
            this.tell(&News::Deleted(name));
            root::remove_tree(home, doomed);
            Ok(())
        })
        .await
    }

    /// RENAME, durably, with all folders below (RFC 3501 section 6.3.5). INBOX keeps its name and folders, and gives
    /// its messages to a new folder. Open views stay with the folder. All of the folders are renamed or none.
    ///
    /// # Errors
    /// `NoSuchFolder`, `AlreadyExists`, `InvalidName`, or what the disk says.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), MailError> {
        let (from, to) = (path::checked(from)?, path::checked(to.strip_suffix('/').unwrap_or(to))?);
        if to == "INBOX" {
            return Err(MailError::AlreadyExists { name: to });
        }
        self.shared.limits.allow_name(&to)?;
        if from == "INBOX" {
            return self.rename_inbox(&to).await;
        }
        if to.strip_prefix(&from).is_some_and(|rest| rest.starts_with('/')) {
            return Err(MailError::invalid(&to, "lies below the folder to be renamed"));
        }
        let news = News::Renamed { from: from.clone(), to: to.clone() };
        let moves =
            self.run("renaming a folder", move |this, home| moves(home, &from, &to, &this.shared.limits)).await?;
        let mut turns = Vec::new();
        for (old, _) in &moves {
            let folder = self.shared.folder(&self.spot(Some(old)));
            let turn = folder.turn().await;
            turns.push((folder, turn));
        }
        self.run("renaming a folder", move |this, home| {
            this.shared.renames.rename_all(&this.owner, home, &moves, |at, dir| {
                if let Some((folder, _turn)) = turns.get(at) {
                    this.account.forget(&folder.spot().dir);
                    this.shared.rehome(folder, this.spot(Some(dir)));
                    this.account.report(&folder.spot().dir, folder.usage());
                }
            })?;
            this.tell(&news);
            Ok(())
        })
        .await
    }

    async fn rename_inbox(&self, to: &str) -> Result<(), MailError> {
        self.create(to).await?;
        let (inbox, target) = (self.open("INBOX").await?, self.open(to).await?);
        inbox.look("renaming INBOX").await?;
        let uids = inbox.exclusively("renaming INBOX", |ex| {
            ex.refresh()?;
            ex.read(|s| s.messages.iter().map(|m| m.uid).collect::<Vec<u32>>())
        });
        let copied = match copy_uids(&inbox, uids.await?, &target, Copying::Moving).await {
            Ok(copied) => copied,
            Err(error) => {
                // Nothing was copied; the folder for it is in nobody's way any more.
                self.delete(to).await?;
                return Err(error);
            }
        };
        self.copy_annotations(&inbox, &target).await?;
        let uids: Vec<u32> = copied.uids.iter().map(|(here, _)| *here).collect();
        inbox.exclusively("renaming INBOX", move |ex| super::change::expunge(ex, &uids)).await
    }

    /// STATUS of a folder, open or not. Its sizes are those that names of files claim, where no other are known yet.
    ///
    /// # Errors
    /// `NoSuchFolder`, or what the disk says.
    pub async fn status(&self, name: &str) -> Result<Status, MailError> {
        // One that was found before and has not changed since is counted without a visit to the disk.
        if let Ok(dir) = path::folder(&path::checked(name)?)
            && let Some(folder) = self.shared.known(&self.spot(dir.as_deref()))
            && let Some(status) = folder.ask_at_hand(count)
        {
            return Ok(status);
        }
        let folder = self.open(name).await?;
        folder.exclusively("counting messages", status_of).await
    }

    /// The same with its true sizes, for which files may have to be read.
    ///
    /// # Errors
    /// As [`Maildir::status`].
    pub async fn measured_status(&self, name: &str) -> Result<Status, MailError> {
        let folder = self.open(name).await?;
        let count = |ex: &Exclusive| {
            ex.refresh()?;
            measure::all(ex)?;
            status_of(ex)
        };
        folder.exclusively("counting messages", count).await
    }

    /// SELECT and EXAMINE: what the session sees of the folder from here on.
    ///
    /// # Errors
    /// `NoSuchFolder`, or what the disk says.
    pub async fn view(&self, name: &str, mode: Mode) -> Result<View, MailError> {
        let folder = self.open(name).await?;
        match View::open(self.clone(), folder, mode, None).await {
            // Its index was rebuilt by a command since we last looked: what is there now is another folder.
            Err(MailError::FolderGone) => View::open(self.clone(), self.open(name).await?, mode, None).await,
            other => other,
        }
    }

    /// INBOX for one POP3 session, which no other may have at the same time.
    ///
    /// # Errors
    /// `Locked` if another has it.
    pub async fn exclusive(&self) -> Result<View, MailError> {
        let lock = self.run("locking a mailbox", |_, home| PopLock::take(home)).await?;
        let folder = self.open("INBOX").await?;
        View::open(self.clone(), folder, Mode::Drop, Some(lock)).await
    }

    /// APPEND of a message whose size is not known yet: takes it in, piece by piece.
    ///
    /// # Errors
    /// `TryCreate`; `OverQuota` where there is no room for any message; or what the disk says.
    pub async fn append(&self, name: &str) -> Result<Appending, MailError> {
        let folder = self.target(name).await?;
        drop(room(&self.shared, &self.owner, Usage { bytes: 0, messages: 1 }).await?);
        self.begin(name, folder, None).await
    }

    /// The same for a message of `size` bytes, in the place of one of `old` bytes where it is to replace one. What room it
    /// takes up is its own until it is delivered or dropped, so that there is enough for it once it has come.
    ///
    /// # Errors
    /// `TryCreate`; `OverQuota` if it does not fit; or what the disk says.
    pub async fn append_sized(&self, name: &str, size: u64, old: Option<u64>) -> Result<Appending, MailError> {
        let folder = self.target(name).await?;
        let more = Usage::of([size]).minus(Usage::of(old));
        let room = match more == Usage::default() {
            // Not even where the mailbox is beyond its quota already.
            true => None,
            false => Some(room(&self.shared, &self.owner, more).await?),
        };
        self.begin(name, folder, room).await
    }

    async fn begin(&self, name: &str, at: Arc<Open>, room: Option<Promise>) -> Result<Appending, MailError> {
        let begin = |folder| Appending::begin(folder, self.shared.pool.clone(), self.shared.limits.message_bytes);
        let begun = match begin(at).await {
            // Another program put another folder in its place.
            Err(MailError::FolderGone) => begin(self.target(name).await?).await?,
            other => other?,
        };
        Ok(begun.within(room))
    }

    /// The folder messages are to be put into.
    pub(super) async fn target(&self, name: &str) -> Result<Arc<Open>, MailError> {
        self.open(name).await.map_err(|error| match error {
            MailError::NoSuchFolder { name } => MailError::TryCreate { name },
            other => other,
        })
    }

    async fn open(&self, name: &str) -> Result<Arc<Open>, MailError> {
        let name = path::checked(name)?;
        if name == "INBOX" {
            return Ok(self.shared.folder(&self.spot(None)));
        }
        let dir =
            self.run("opening a folder", move |_, home| find(home, &name)?.ok_or(MailError::NoSuchFolder { name }));
        Ok(self.shared.folder(&self.spot(Some(&dir.await?))))
    }

    /// The bound on file work.
    pub(super) fn pool(&self) -> Pool {
        self.shared.pool.clone()
    }

    /// The folder in that directory; INBOX if none is given.
    pub(super) fn at(&self, dir: Option<&[u8]>) -> Arc<Open> {
        self.shared.folder(&self.spot(dir))
    }

    fn spot(&self, dir: Option<&[u8]>) -> Spot {
        Spot { owner: self.owner.clone(), dir: dir.map(Arc::from) }
    }
}

/// Counts the messages of a folder, as it is now.
fn status_of(ex: &Exclusive) -> Result<Status, MailError> {
    ex.refresh()?;
    ex.read(count)
}

fn count(state: &State) -> Status {
    let mut status = Status {
        messages: u32::try_from(state.messages.len()).unwrap_or(u32::MAX),
        uid_next: state.marks.uid_next,
        uid_validity: state.uid_validity,
        mailbox_id: state.id(),
        highest_modseq: state.marks.modseq,
        ..Status::default()
    };
    for message in &state.messages {
        let deleted = message.flags.contains(Flags::DELETED);
        status.recent += u32::from(message.uid >= state.marks.recent);
        status.unseen += u32::from(!message.flags.contains(Flags::SEEN));
        status.deleted += u32::from(deleted);
        status.size += message.size;
        status.deleted_size += if deleted { message.size } else { 0 };
    }
    status
}

/// Makes what each folder has, in a directory nobody else knows yet.
pub(super) fn make_inside(dir: &Dir) -> Result<(), MailError> {
    for name in ["cur", "new", "tmp"] {
        dir.make(name.as_bytes())?;
    }
    dir.sync()
}

fn is_taken(error: &MailError) -> bool {
    matches!(error, MailError::Io { source: Errno::EXIST | Errno::NOTEMPTY, .. })
}

/// Which directories a RENAME renames, to what.
fn moves(home: &Dir, from: &str, to: &str, limits: &Limits) -> Result<Vec<Renaming>, MailError> {
    let dirs = directories(home)?;
    let taken = |name: &str| dirs.contains_key(name) || dirs.keys().any(|k| below(k, name).is_some());
    if taken(to) {
        return Err(MailError::AlreadyExists { name: to.to_owned() });
    }
    let mut moves = Vec::new();
    for (name, dir) in &dirs {
        let rest = if name == from { Some("") } else { below(name, from) };
        let Some(rest) = rest else { continue };
        let next = path::checked(&format!("{to}{rest}"))?;
        limits.allow_name(&next)?;
        moves.extend(path::folder(&next)?.map(|next| (dir.clone(), next)));
    }
    if moves.is_empty() {
        return Err(MailError::NoSuchFolder { name: from.to_owned() });
    }
    Ok(moves)
}

/// What follows `above` in the name of a folder below it, `/` included.
fn below<'a>(name: &'a str, above: &str) -> Option<&'a str> {
    name.strip_prefix(above).filter(|rest| rest.starts_with('/'))
}
