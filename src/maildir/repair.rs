//! Mending a mailbox: what can be mended without renumbering, indexes made anew, caches dropped. Each folder is locked
//! while it is worked on, so all of this may be done while a gateway is running: its sessions see the outcome as they
//! see what another program does.

use std::{collections::HashMap, io::Read, sync::Arc};

use super::{
    cache::Cache,
    check::{self, Files},
    deliver,
    disk::Dir,
    error::MailError,
    filename::{self, Place},
    folder::{Exclusive, Folder, lock},
    record::Record,
    root::{self, Mail},
    scan,
    state::State,
    tree::Maildir,
};
use crate::model::UserId;

/// A folder whose index was made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// The folder's name.
    pub folder: String,
    /// UIDVALIDITY before, where there was an index.
    pub before: Option<u32>,
    /// UIDVALIDITY from now on.
    pub after: u32,
    /// Messages it has.
    pub messages: usize,
}

impl Mail {
    /// Mends what can be mended without renumbering: records what other programs did, writes damaged indexes anew, gives
    /// a message that is there twice, or whose file was changed, a name of its own where its content differs (and so a
    /// new UID), removes what calls that were cut short left behind. What it did, a sentence each, by folder.
    ///
    /// # Errors
    /// As [`Mail::check`].
    pub async fn repair(&self, owner: &UserId, folder: Option<&str>) -> Result<Vec<(String, String)>, MailError> {
        let maildir = self.existing(owner).await?;
        let mut done = Vec::new();
        for (name, folder) in folders(&maildir, folder).await? {
            let said = folder.exclusively("repairing a folder", mend).await?;
            done.extend(said.into_iter().map(|what| (name.clone(), what)));
        }
        if folder.is_none() {
            let removed = maildir.run("repairing a mailbox", |_, home| {
                let mut removed = Vec::new();
                for (name, _) in home.entries()? {
                    if name.starts_with(b"portcullis-new-") || name.starts_with(b"portcullis-gone-") {
                        root::remove_tree(home, &name);
                        removed.push((String::new(), format!("removed the directory {}", check::shown(&name))));
                    }
                }
                Ok(removed)
            });
            done.extend(removed.await?);
        }
        Ok(done)
    }

    /// Makes indexes anew from the files. UIDs begin at 1 again under a new UIDVALIDITY, in the order of the old ones, so
    /// that IMAP programs fetch everything again; flags are kept, and as far as the old index can be read, keywords, dates
    /// and what POP3 calls the messages.
    ///
    /// # Errors
    /// As [`Mail::check`].
    pub async fn rebuild(&self, owner: &UserId, folder: Option<&str>) -> Result<Vec<Rebuilt>, MailError> {
        let maildir = self.existing(owner).await?;
        let mut all = Vec::new();
        for (name, folder) in folders(&maildir, folder).await? {
            let (before, after, messages) = folder.exclusively("rebuilding an index", rebuild).await?;
            all.push(Rebuilt { folder: name, before, after, messages });
        }
        Ok(all)
    }

    /// Drops what is only kept to be quick: the cache of envelopes and structures, which is filled again as mail programs
    /// ask, and what an index holds beyond the present state. The names of the folders.
    ///
    /// # Errors
    /// As [`Mail::check`].
    pub async fn reindex(&self, owner: &UserId, folder: Option<&str>) -> Result<Vec<String>, MailError> {
        let maildir = self.existing(owner).await?;
        let mut all = Vec::new();
        for (name, folder) in folders(&maildir, folder).await? {
            let forget = |ex: &Exclusive| {
                Cache::remove(&ex.dir)?;
                *lock(&ex.folder.cache) = None;
                ex.refresh()?;
                ex.compact()
            };
            folder.exclusively("dropping a cache", forget).await?;
            all.push(name);
        }
        Ok(all)
    }
}

async fn folders(maildir: &Maildir, folder: Option<&str>) -> Result<Vec<(String, Arc<Folder>)>, MailError> {
    let wanted = folder.map(super::path::checked).transpose()?;
    let chosen = maildir.run("listing folders", move |_, home| check::chosen(home, wanted.as_deref())).await?;
    Ok(chosen.into_iter().map(|(name, dir)| (name, maildir.at(dir.as_deref()))).collect())
}

fn mend(ex: &Exclusive) -> Result<Vec<String>, MailError> {
    let mut done = Vec::new();
    if ex.folder.is_doubtful() {
        done.push("wrote the damaged index anew".to_owned());
    }
    let tmp = ex.dir.sub(b"tmp")?;
    for name in check::stale(&tmp)? {
        tmp.unlink(&name)?;
        done.push(format!("removed tmp/{}", check::shown(&name)));
    }
    // Before anything is given another name: what is known by its name keeps its UID.
    let before = counts(ex)?;
    scan::all(ex, false)?;
    let after = counts(ex)?;
    for (count, what) in [(before.0.saturating_sub(after.0), "gone"), (after.1.saturating_sub(before.1), "found")] {
        if count > 0 {
            done.push(match what {
                "gone" => format!("{count} messages whose files are gone are out of the index"),
                _ => format!("{count} files are in the index now"),
            });
        }
    }
    let renamed = part_doubles(ex)? + part_changed(ex, &mut done)?;
    if renamed > 0 {
        ex.sync([Place::New, Place::Cur])?;
        scan::all(ex, false)?;
        done.push(format!("{renamed} files have names of their own, and so new UIDs"));
    }
    ex.settle(None)?;
    Ok(done)
}

/// Messages, and UIDNEXT.
fn counts(ex: &Exclusive) -> Result<(usize, usize), MailError> {
    ex.read(|s| (s.messages.len(), s.marks.uid_next as usize))
}

fn files(dir: &Dir) -> Result<Files, MailError> {
    let mut files = Files::new();
    for place in [Place::New, Place::Cur] {
        for name in dir.sub(place.dir().as_bytes())?.names(rustix::fs::FileType::RegularFile)? {
            if filename::is_message(&name) {
                files.entry(filename::base(&name).to_vec()).or_default().push((place, name));
            }
        }
    }
    Ok(files)
}

/// Of two files of one message the known one stays; another of the same content goes, one of other content gets a name
/// of its own.
fn part_doubles(ex: &Exclusive) -> Result<usize, MailError> {
    let mut renamed = 0;
    for (base, mut names) in files(&ex.dir)? {
        if names.len() < 2 {
            continue;
        }
        let known = ex.read(|s| {
            let message = s.messages.iter().find(|m| s.base(m) == base);
            message.map(|m| (m.place, s.name(m).to_vec()))
        })?;
        names.sort();
        let kept = known.filter(|known| names.contains(known)).or_else(|| names.last().cloned());
        let Some(kept) = kept else { continue };
        for other in names.into_iter().filter(|name| *name != kept) {
            if same(&ex.dir, &kept, &other)? {
                ex.dir.sub(other.0.dir().as_bytes())?.unlink(&other.1)?;
            } else {
                rename_apart(ex, &other)?;
                renamed += 1;
            }
        }
    }
    Ok(renamed)
}

/// A message's content never changes under its UID (RFC 3501 section 2.3.1.1): a file that was changed becomes another.
fn part_changed(ex: &Exclusive, done: &mut Vec<String>) -> Result<usize, MailError> {
    let known = ex.read(|s| {
        let measured = s.messages.iter().filter(|m| m.measured);
        let each = measured.map(|m| (m.uid, m.place, s.name(m).to_vec(), m.size.saturating_sub(m.bare)));
        each.collect::<Vec<_>>()
    })?;
    let mut renamed = 0;
    for (uid, place, name, expected) in known {
        let stat = ex.dir.sub(place.dir().as_bytes())?.stat(&name)?;
        if stat.is_some_and(|s| u64::try_from(s.st_size) != Ok(expected)) {
            rename_apart(ex, &(place, name))?;
            done.push(format!("UID {uid} was changed on disk: what is there now is a new message"));
            renamed += 1;
        }
    }
    Ok(renamed)
}

fn rename_apart(ex: &Exclusive, (place, name): &(Place, Vec<u8>)) -> Result<(), MailError> {
    let dir = ex.dir.sub(place.dir().as_bytes())?;
    let fresh = filename::with_info_of(&filename::unique(), name);
    // What has a name of ours is safe.
    dir.sync_file(&dir.open(name, false)?.0)?;
    dir.rename(name, &dir, &fresh)
}

fn same(dir: &Dir, a: &(Place, Vec<u8>), b: &(Place, Vec<u8>)) -> Result<bool, MailError> {
    let open = |(place, name): &(Place, Vec<u8>)| dir.sub(place.dir().as_bytes())?.open(name, false);
    let ((mut a, a_stat), (mut b, b_stat)) = (open(a)?, open(b)?);
    if (a_stat.st_dev, a_stat.st_ino) == (b_stat.st_dev, b_stat.st_ino) {
        return Ok(true);
    }
    if a_stat.st_size != b_stat.st_size {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let count = a.read(&mut left).map_err(|e| deliver::reading(&e))?;
        if count == 0 {
            return Ok(true);
        }
        let Some(part) = right.get_mut(..count) else { return Ok(false) };
        b.read_exact(part).map_err(|e| deliver::reading(&e))?;
        if left.get(..count) != Some(&*part) {
            return Ok(false);
        }
    }
}

/// Gives every message another UID, under a new UIDVALIDITY: that before, that from now on, and how many there are.
pub(super) fn rebuild(ex: &Exclusive) -> Result<(Option<u32>, u32, usize), MailError> {
    ex.refresh()?;
    let old = ex.read(State::clone)?;
    let shared = ex.folder.shared.upgrade().ok_or(MailError::FolderGone)?;
    let uid_validity = shared.next_uid_validity(&ex.folder.spot().owner)?;
    let mut state = State::empty(uid_validity);
    for keyword in &old.keywords {
        state.apply(Record::Keyword { name: keyword.to_string() }, 1);
    }
    let mut uids = HashMap::new();
    for (uid, message) in (1_u32..).zip(&old.messages) {
        uids.insert(message.uid, uid);
        let mut message = message.clone();
        message.modseq = 1;
        state.apply(old.record(&message, uid), 1);
    }
    for message in &old.messages {
        let Some(uid) = uids.get(&message.uid) else { continue };
        let text = old.uidls.get(&message.uid).map(ToString::to_string);
        let text = text.unwrap_or_else(|| format!("{}.{}", old.uid_validity, message.uid));
        state.apply(Record::Uidl { uid: *uid, text }, 1);
    }
    // What was taken over is here still: the next import goes on from there.
    for (source, imported) in &old.imported {
        state.apply(Record::Imported { source: *source, upto: imported.upto, next: 0, reserved: 0 }, 1);
    }
    let messages = state.messages.len();
    ex.start_anew(&state)?;
    Ok((Some(old.uid_validity).filter(|_| messages > 0 || old.marks.uid_next > 1), uid_validity, messages))
}
