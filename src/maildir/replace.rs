//! REPLACE (RFC 8508): a new message in the place of an old one. In one folder both sides are one commit, so that nobody
//! sees both or neither; a file is set aside, not removed, until the commit stands. Called by `view`.

use std::sync::Arc;

use super::{
    appending::Sealed,
    change,
    deliver::{self, Batch, Ready},
    disk::Dir,
    error::MailError,
    filename::{self, Place},
    folder::Exclusive,
    quota::Usage,
    record::Record,
    tree,
    view::View,
};

impl View {
    /// Delivers a message and removes the one with sequence number `old`, durably: UIDVALIDITY and UID of the new one.
    /// `sync(true)` then tells of both. Where the new one belongs into another folder, it is delivered first.
    ///
    /// # Errors
    /// `ReadOnly`; `Gone` if the old message is no more; as [`super::Appending::finish`], `OverQuota` by what the new
    /// message is larger. The old message is then where it was, and the new one is not there.
    pub async fn replace(&mut self, old: u32, new: Sealed) -> Result<(u32, u32), MailError> {
        self.writable()?;
        let uid = self.uid(old).ok_or(MailError::Gone { uid: 0 })?;
        let size = self.message(old).ok_or(MailError::Gone { uid })?.size;
        let Sealed { folder: target, ready, room } = new;
        // Only what the new message is larger by takes up room.
        let more = Usage::of([ready.facts.size]).minus(Usage::of([size]));
        let shared = self.folder.shared.upgrade().ok_or(MailError::FolderGone)?;
        let _room = match room.filter(|room| room.covers(more)) {
            None if more != Usage::default() => Some(tree::room(&shared, &self.folder.spot().owner, more).await?),
            room => room,
        };
        if Arc::ptr_eq(&target, &self.folder) {
            return self.folder.exclusively("replacing a message", move |ex| replace(ex, uid, ready)).await;
        }
        let (uid_validity, uids) = deliver::bring(&target, vec![ready]).await?;
        let fresh = uids.first().copied().ok_or(MailError::Fault { doing: "replacing a message" })?;
        if let Err(error) = self.folder.exclusively("replacing a message", move |ex| remove(ex, uid)).await {
            let undo = target.exclusively("undoing a replacement", move |ex| change::expunge(ex, &[fresh])).await;
            if let Err(error) = undo {
                tracing::error!(%error, "a message stays beside the one that it was to replace");
            }
            return Err(error);
        }
        Ok((uid_validity, fresh))
    }
}

fn replace(ex: &Exclusive, old: u32, mut new: Ready) -> Result<(u32, u32), MailError> {
    // Looked for before the new file is there: a look at the disk would take that for a delivery.
    let file = find(ex, old)?;
    let mut batch = Batch::begin(ex)?;
    let mut records = batch.place(std::slice::from_mut(&mut new))?;
    let uid = records.iter().find_map(|r| if let Record::Message { uid, .. } = r { Some(*uid) } else { None });
    records.push(Record::Expunged { uid: old });
    // The new file is safe before the old one is touched.
    let aside = batch.cur.sync().and_then(|()| SetAside::take(ex, old, file));
    let done = aside.and_then(|aside| aside.keep_out(ex, records));
    if let Err(error) = done {
        batch.undo(0);
        return Err(ex.settle(Some(error.clone())).err().unwrap_or(error));
    }
    Ok((batch.uid_validity, uid.ok_or(MailError::Fault { doing: "replacing a message" })?))
}

/// Removes a message, or leaves it where it was: other removals may fail with the file gone already.
fn remove(ex: &Exclusive, uid: u32) -> Result<(), MailError> {
    let aside = SetAside::take(ex, uid, find(ex, uid)?);
    match aside.and_then(|aside| aside.keep_out(ex, vec![Record::Expunged { uid }])) {
        Ok(()) => Ok(()),
        // What failed may have been done all the same.
        Err(error) => ex.settle(Some(error)),
    }
}

/// Where a message's file is.
fn find(ex: &Exclusive, uid: u32) -> Result<(Place, Vec<u8>), MailError> {
    let gone = || MailError::Gone { uid };
    let known = ex.read(|s| s.find(uid).map(|m| (m.place, s.name(m).to_vec())))?;
    let (place, name) = known.ok_or_else(gone)?;
    if ex.dir.sub(place.dir().as_bytes())?.stat(&name)?.is_some() {
        return Ok((place, name));
    }
    change::locate(ex, uid)?.ok_or_else(gone)
}

/// The old message's file while it is out of sight, in `tmp`.
struct SetAside {
    from: Dir,
    name: Vec<u8>,
    tmp: Dir,
    aside: String,
}

impl SetAside {
    fn take(ex: &Exclusive, uid: u32, (place, name): (Place, Vec<u8>)) -> Result<Self, MailError> {
        let (from, tmp, aside) = (ex.dir.sub(place.dir().as_bytes())?, ex.dir.sub(b"tmp")?, filename::unique());
        match from.rename(&name, &tmp, aside.as_bytes()) {
            Ok(()) => Ok(Self { from, name, tmp, aside }),
            // Another program renamed or removed it only just now.
            Err(error) if error.is_missing() => Err(MailError::Gone { uid }),
            Err(error) => {
                // A call that was reported as failed may have been made.
                let _ = tmp.rename(aside.as_bytes(), &from, &name);
                Err(error)
            }
        }
    }

    /// Commits, and then the file is removed; or it is put back.
    fn keep_out(self, ex: &Exclusive, records: Vec<Record>) -> Result<(), MailError> {
        match self.from.sync().and_then(|()| ex.commit(records)) {
            Ok(()) => {
                self.remove();
                Ok(())
            }
            Err(error) => {
                self.put_back();
                Err(error)
            }
        }
    }

    /// What stays of it after a fault is removed with other old files of `tmp`.
    fn remove(self) {
        if let Err(error) = self.tmp.unlink(self.aside.as_bytes()) {
            tracing::warn!(%error, "a replaced message's file stays in tmp for now");
        }
    }

    fn put_back(self) {
        let back = self.tmp.rename(self.aside.as_bytes(), &self.from, &self.name).and_then(|()| self.from.sync());
        if let Err(error) = back {
            tracing::error!(%error, file = self.aside, "a message that was not replaced stays in tmp");
        }
    }
}
