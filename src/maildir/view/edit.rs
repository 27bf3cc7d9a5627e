//! What a session changes through its view: flags, keywords, removal, copies. Each call returns when it is durable.

use std::collections::HashSet;

use super::View;
use crate::maildir::{
    change::{self, Store},
    copying::{CopyUid, Copying, copy_uids},
    error::MailError,
    flags::{FlagOp, Flags},
    keywords,
    view::{Meta, Mode},
};

/// What became of a conditional STORE: sequence numbers, ascending as they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Messages that were changed by it.
    pub changed: Vec<u32>,
    /// Messages that another change had reached before: they were left alone (RFC 7162 MODIFIED).
    pub refused: Vec<u32>,
}

impl View {
    pub(in crate::maildir) fn writable(&self) -> Result<(), MailError> {
        if self.mode == Mode::ReadOnly { Err(MailError::ReadOnly) } else { Ok(()) }
    }

    fn uids_of(&self, seqs: &[u32]) -> Vec<u32> {
        seqs.iter().filter_map(|seq| self.uid(*seq)).collect()
    }

    /// STORE: changes flags and keywords, durably; the sequence numbers of messages that were changed by it. Messages
    /// that are gone are left out. This view is not told of its own changes by [`View::sync`].
    ///
    /// # Errors
    /// `ReadOnly`, `Limit` (keywords), `InvalidName` (a keyword), or what the disk says: then some of the messages may
    /// have changed, and `sync` tells which.
    pub async fn store_flags(
        &mut self,
        seqs: &[u32],
        op: FlagOp,
        flags: Flags,
        keywords: &[&str],
    ) -> Result<Vec<u32>, MailError> {
        self.store_unchanged(seqs, op, flags, keywords, None).await.map(|stored| stored.changed)
    }

    /// The same, only for messages whose mod-sequence is not above `since` (RFC 7162 section 3.1.3), if that is given;
    /// looked at together with the change, so that no other session's change comes between.
    ///
    /// # Errors
    /// As [`View::store_flags`].
    pub async fn store_unchanged(
        &mut self,
        seqs: &[u32],
        op: FlagOp,
        flags: Flags,
        keywords: &[&str],
        since: Option<u64>,
    ) -> Result<Stored, MailError> {
        self.writable()?;
        let keywords = keywords::checked(keywords, &self.folder.limits)?;
        let store = Store { op, flags, keywords, unchanged_since: since };
        let uids = self.uids_of(seqs);
        let (outcome, now) = self
            .folder
            .exclusively("storing flags", move |ex| {
                let outcome = change::store(ex, &uids, &store)?;
                let now = ex.read(|s| s.marks.modseq)?;
                Ok((outcome, now))
            })
            .await?;
        let seqs = |uids: &mut dyn Iterator<Item = u32>| uids.filter_map(|uid| self.seq(uid)).collect();
        let changed = seqs(&mut outcome.changed.iter().map(|(uid, _)| *uid));
        let refused = seqs(&mut outcome.refused.iter().copied());
        // A message that another session changed too, untold until now, is told in spite of its being changed here.
        self.own.sort_unstable();
        let known = |change: &&(u32, u64)| change.1 <= self.seen || self.own.binary_search(*change).is_ok();
        let own: Vec<_> = outcome.changed.iter().filter(known).map(|(uid, _)| (*uid, now)).collect();
        self.own.extend(own);
        Ok(Stored { changed, refused })
    }

    /// The session was told everything about this message just now: [`View::sync`] need not repeat it.
    pub fn told(&mut self, message: &Meta) {
        self.own.push((message.uid, message.modseq));
    }

    /// Lets [`View::sync`] tell this session its own changes since the last `sync` too: a FETCH that sets a flag tells of
    /// the flag, but not of the new mod-sequence.
    pub fn tell_own(&mut self) {
        self.own.clear();
    }

    /// EXPUNGE, or UID EXPUNGE with a list of UIDs: removes the messages that have `\Deleted`, durably.
    /// `sync(true)` then tells of them. How many were removed.
    ///
    /// # Errors
    /// `ReadOnly`, or what the disk says: then some may be gone, and `sync` tells which.
    pub async fn expunge(&mut self, among: Option<&[u32]>) -> Result<usize, MailError> {
        let among: Option<HashSet<u32>> = among.map(|list| list.iter().copied().collect());
        let chosen = |uid: u32| self.seq(uid).is_some() && among.as_ref().is_none_or(|list| list.contains(&uid));
        let deleted = self.folder.read(|s| {
            let deleted = s.messages.iter().filter(|m| m.flags.contains(Flags::DELETED)).map(|m| m.uid);
            deleted.filter(|uid| chosen(*uid)).collect::<Vec<_>>()
        });
        self.remove_uids(deleted.ok_or(MailError::FolderGone)?).await
    }

    /// Removes these messages, `\Deleted` or not, durably: what POP3 does at QUIT. How many.
    ///
    /// # Errors
    /// As [`View::expunge`].
    pub async fn remove(&mut self, seqs: &[u32]) -> Result<usize, MailError> {
        self.remove_uids(self.uids_of(seqs)).await
    }

    async fn remove_uids(&mut self, uids: Vec<u32>) -> Result<usize, MailError> {
        self.writable()?;
        let count = uids.len();
        // Messages may seem to be gone because an earlier call failed to make it durable.
        if count > 0 || self.folder.is_doubtful() {
            self.folder.exclusively("removing messages", move |ex| change::expunge(ex, &uids)).await?;
        }
        Ok(count)
    }

    /// COPY: all of the messages or none, durably.
    ///
    /// # Errors
    /// `TryCreate`, `Gone` if another session expunged one of them, `Limit`, or what the disk says.
    pub async fn copy(&self, seqs: &[u32], to: &str) -> Result<CopyUid, MailError> {
        let target = self.maildir.target(to).await?;
        let uids = self.uids_of(seqs);
        copy_uids(&self.folder, uids, &target, Copying::More).await
    }

    /// MOVE (RFC 6851): copies, durably, then removes. Cut in half it leaves messages in both folders, never in
    /// neither. `sync(true)` tells of those that left.
    ///
    /// # Errors
    /// As [`View::copy`], and `ReadOnly`.
    pub async fn move_to(&mut self, seqs: &[u32], to: &str) -> Result<CopyUid, MailError> {
        self.writable()?;
        let target = self.maildir.target(to).await?;
        let copied = copy_uids(&self.folder, self.uids_of(seqs), &target, Copying::Moving).await?;
        self.remove_uids(copied.uids.iter().map(|(here, _)| *here).collect()).await?;
        Ok(copied)
    }
}
