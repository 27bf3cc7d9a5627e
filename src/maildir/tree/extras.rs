//! What an owner's mail takes up, annotations of folders, and who listens to what happens in them (RFC 9208, 5464,
//! 5465). Called by `session` through [`Maildir`].

use std::sync::Arc;

use super::{Maildir, Open, Shared, SpecialUse, Status, directories, list, listing, status_of};
use crate::maildir::{
    annotations::{Annotations, Change, Of, is_private},
    error::MailError,
    folder::{Spot, lock},
    hub::{Heard, Listener, News},
    path,
    quota::{FULL, Promise, Usage},
    root::Owner,
};
use crate::policy::Quota;

/// Most folders that one session has watched besides the one it has open.
const MOST_COVERED: usize = 500;

impl Maildir {
    /// MAILBOXID of a folder (RFC 8474), which no other of the owner has or had: its UIDVALIDITY, unless that was taken over.
    ///
    /// # Errors
    /// `NoSuchFolder`, or what the disk says.
    pub async fn mailbox_id(&self, name: &str) -> Result<u32, MailError> {
        let folder = self.open(name).await?;
        folder.exclusively("identifying a folder", |ex| ex.read(|s| s.id())).await
    }

    /// What the owner's mail may take up, and does: counted anew.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn usage(&self) -> Result<(Quota, Usage), MailError> {
        let usage = count(&self.shared, &self.owner).await?;
        Ok((self.account.quota(), usage))
    }

    /// Annotations that `user` may see (RFC 5464), in order of entry: a folder's, or those of the mail as a whole.
    ///
    /// # Errors
    /// `NoSuchFolder`, or what the disk says.
    pub async fn annotations(&self, folder: Option<&str>, user: &str) -> Result<Vec<(String, Vec<u8>)>, MailError> {
        let user = user.to_owned();
        let Some(folder) = folder else {
            return self
                .run("reading annotations", move |_, home| Ok(Annotations::load(home, Of::Server)?.of(&user)))
                .await;
        };
        let folder = self.open(folder).await?;
        folder
            .exclusively("reading annotations", move |ex| Ok(Annotations::load(&ex.dir, Of::Folder)?.of(&user)))
            .await
    }

    /// Sets and removes annotations of `user`, durably, all or none. Entries' names are in lower case.
    ///
    /// # Errors
    /// `NoSuchFolder`, `AnnotationTooBig`, `TooManyAnnotations`, or what the disk says.
    pub async fn annotate(&self, folder: Option<&str>, user: &str, changes: Vec<Change>) -> Result<(), MailError> {
        let (name, who) = (folder.map(str::to_owned), user.to_owned());
        let changed = match folder {
            None => {
                let user = user.to_owned();
                self.run("changing annotations", move |this, home| {
                    let _turn = lock(&this.shared.subscriptions);
                    let mut annotations = Annotations::load(home, Of::Server)?;
                    let changed = annotations.change(&user, changes)?;
                    annotations.save(home, Of::Server)?;
                    Ok(changed)
                })
                .await?
            }
            Some(folder) => {
                let (folder, user) = (self.open(folder).await?, user.to_owned());
                folder
                    .exclusively("changing annotations", move |ex| {
                        let mut annotations = Annotations::load(&ex.dir, Of::Folder)?;
                        let changed = annotations.change(&user, changes)?;
                        annotations.save(&ex.dir, Of::Folder)?;
                        if !changed.is_empty() {
                            // RFC 7162 section 3.2: HIGHESTMODSEQ tells of this change too.
                            ex.advance(Vec::new())?;
                        }
                        Ok(changed)
                    })
                    .await?
            }
        };
        let (private, shared): (Vec<String>, Vec<String>) =
            changed.into_iter().partition(|entry| is_private(entry));
        for (entries, private_to) in [(private, Some(who)), (shared, None)] {
            if !entries.is_empty() {
                self.tell(&News::Annotated { folder: name.clone(), private_to, entries });
            }
        }
        Ok(())
    }

    /// Says what a folder is for, in the place of what CREATE or an earlier call said; nothing leaves it to its name.
    ///
    /// # Errors
    /// `NoSuchFolder`, also for INBOX; `UseTaken` where another folder has one of the uses; or what the disk says.
    pub async fn use_for(&self, name: &str, uses: Vec<SpecialUse>) -> Result<(), MailError> {
        let name = path::checked(name)?;
        self.run("saying what a folder is for", move |this, home| {
            let _turn = lock(&this.shared.subscriptions);
            let dirs = directories(home)?;
            let Some(dir) = dirs.get(&name) else { return Err(MailError::NoSuchFolder { name }) };
            let taken = listing::special_uses(home, &dirs)?;
            let others = |special: &&SpecialUse| taken.get(special).is_some_and(|user| *user != name);
            if let Some(special) = uses.iter().find(others) {
                return Err(MailError::UseTaken { attribute: special.attribute() });
            }
            listing::change_uses(&home.sub(dir)?, &uses)
        })
        .await
    }

    /// What a RENAME of INBOX leaves there is in the new folder too (RFC 5464 section 4.1).
    pub(super) async fn copy_annotations(&self, from: &Arc<Open>, to: &Arc<Open>) -> Result<(), MailError> {
        let all = from.exclusively("copying annotations", |ex| Annotations::load(&ex.dir, Of::Folder)).await?;
        if all == Annotations::default() {
            return Ok(());
        }
        to.exclusively("copying annotations", move |ex| all.save(&ex.dir, Of::Folder)).await
    }

    /// Begins to listen to what others do with the owner's folders.
    pub fn listen(&self) -> Arc<Listener> {
        let listener = Listener::new(self.origin);
        self.shared.hub.join(&self.owner, &listener);
        listener
    }

    /// Watches these folders for the listener, and no others: what each of them holds. Those that are none are left
    /// out.
    ///
    /// # Errors
    /// `Limit` for more than can be watched, or what the disk says.
    pub async fn cover(&self, listener: &Listener, names: &[String]) -> Result<Vec<(String, Status)>, MailError> {
        let mut covered = Vec::new();
        let mut statuses = Vec::new();
        for name in names {
            if covered.len() >= MOST_COVERED {
                return Err(MailError::Limit { what: "watched mailboxes", most: MOST_COVERED as u64 });
            }
            let folder = match self.open(name).await {
                Ok(folder) => folder,
                Err(MailError::NoSuchFolder { .. }) => continue,
                Err(error) => return Err(error),
            };
            let held = listener.hold(&folder);
            match folder
                .exclusively("watching a folder", |ex| {
                    ex.folder.watch(&ex.dir);
                    status_of(ex)
                })
                .await
            {
                Ok(status) => statuses.push((name.clone(), status)),
                Err(MailError::FolderGone) => continue,
                Err(error) => return Err(error),
            }
            covered.push(held);
        }
        listener.cover(covered);
        Ok(statuses)
    }

    /// The names of folders in which something happened.
    pub fn touched(&self, heard: &Heard) -> Vec<String> {
        let name = |dir: &Option<Arc<[u8]>>| dir.as_ref().map_or(Some("INBOX".to_owned()), |dir| path::name(dir));
        heard.touched.iter().filter_map(name).collect()
    }

    /// One folder as LIST shows it, with those above it that exist or not.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn shown(&self, name: &str) -> Result<Option<super::Folder>, MailError> {
        let name = name.to_owned();
        self.run("listing folders", move |_, home| Ok(list(home)?.into_iter().find(|folder| folder.name == name)))
            .await
    }
}

/// Room in the owner's quota for what is to be delivered, held until it is dropped.
///
/// # Errors
/// `OverQuota`, or what the disk says.
pub(in crate::maildir) async fn room(
    shared: &Arc<Shared>,
    owner: &Owner,
    more: Usage,
) -> Result<Promise, MailError> {
    let account = shared.accounts.of(owner);
    if let Some(promise) = account.promise(more) {
        return Ok(promise);
    }
    // Other programs may have removed messages from folders that nobody looks at.
    if account.may_count() {
        count(shared, owner).await?;
    }
    account.promise(more).ok_or(FULL)
}

/// Asks every folder what it holds.
async fn count(shared: &Arc<Shared>, owner: &Owner) -> Result<Usage, MailError> {
    let (this, whose) = (Arc::clone(shared), owner.clone());
    let list = move || Ok(directories(&this.home(&whose)?)?.into_values().collect::<Vec<_>>());
    let dirs = shared.pool.run("counting messages", list).await?;
    let account = shared.accounts.of(owner);
    account.begin_count();
    let mut counted = Vec::new();
    for dir in std::iter::once(None).chain(dirs.iter().map(Some)) {
        let spot = Spot { owner: owner.clone(), dir: dir.map(|dir| Arc::from(dir.as_slice())) };
        let folder = shared.folder(&spot);
        match folder.exclusively("counting messages", |ex| ex.refresh()).await {
            Ok(()) => {}
            // It went meanwhile.
            Err(MailError::FolderGone) => continue,
            Err(error) if error.is_missing() => continue,
            Err(error) => return Err(error),
        }
        account.report(&spot.dir, folder.usage());
        counted.push(spot.dir);
    }
    Ok(account.end_count(&counted))
}
