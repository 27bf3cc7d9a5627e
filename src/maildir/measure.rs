//! What is found out about a message by opening its file: its size in wire form, how many CRs the file lacks, its date,
//! and by these its EMAILID. Called by `view`, `scan` and whoever answers with one of them.
//!
//! A folder is listed without a look at any file. Where the name claims the size on disk (`S=`) and in wire form (`W=`),
//! the message is known by these claims at first, and not [`Message::measured`]. They are good enough to count it against
//! a quota, and for nothing that is told: before an answer names a size, a date or an id, [`View::measure`] finds out
//! the truth for all messages of the answer, on a blocking thread; before a message is read, [`MessageReader::open`] does.
//! So the size that is announced is the size that is sent, whatever a name claims, and FETCH, SEARCH, STATUS and POP3
//! say the same. Where nothing is left to be found out, this costs a look at one number.
//!
//! What was found stands in memory at once ([`Folder::found_out`]) and is recorded in the index with the next commit, or
//! about a second later: lost in a crash it is found out again.
//!
//! [`Message::measured`]: super::state::Message::measured
//! [`MessageReader::open`]: super::wire::MessageReader::open

use std::{fs::File, sync::Arc};

use bytes::Bytes;
use rustix::fs::Stat;

use super::{
    disk::Dir,
    error::MailError,
    filename::{self, Place},
    folder::{Exclusive, Folder},
    scan,
    view::View,
    wire::{CHUNK, MessageReader, bare_line_feeds, read_now, wire_form},
};

/// Most messages measured in one piece of work.
pub(super) const MOST: usize = 512;

/// What a file told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    /// Bytes in wire form.
    pub size: u64,
    /// How many of them are CRs that the file lacks.
    pub bare: u64,
    /// The file's time stamp, in seconds since 1970: the message's INTERNALDATE.
    pub date: i64,
}

/// Sizes as far as they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Bytes in wire form.
    pub size: u64,
    /// How many of them are CRs that the file lacks.
    pub bare: u64,
    /// Whether the file told them, not only its name.
    pub measured: bool,
}

impl Sizes {
    /// As a file told them.
    pub(super) fn of(measured: Measured) -> Self {
        Self { size: measured.size, bare: measured.bare, measured: true }
    }
}

/// Measures a file. Reads it unless its name tells, and the file confirms, that it is in wire form already.
pub(super) fn file(dir: &Dir, name: &[u8]) -> Result<Measured, MailError> {
    let (file, stat) = dir.open(name, false)?;
    let (stored, date) = (u64::try_from(stat.st_size).unwrap_or(0), stat.st_mtime);
    if is_wire_form(name, stored) {
        Ok(Measured { size: stored, bare: 0, date })
    } else {
        count(&file, stored, date)
    }
}

/// The same of an open file; and all of the message in wire form, if it had to be read and is not long.
pub(super) fn opened(file: &File, stat: &Stat, name: &[u8]) -> Result<(Measured, Option<Bytes>), MailError> {
    let (stored, date) = (u64::try_from(stat.st_size).unwrap_or(0), stat.st_mtime);
    if is_wire_form(name, stored) {
        return Ok((Measured { size: stored, bare: 0, date }, None));
    }
    if stored > CHUNK as u64 {
        return Ok((count(file, stored, date)?, None));
    }
    let bytes = read_now(file, 0, usize::try_from(stored).unwrap_or(CHUNK))?;
    let whole = wire_form(&bytes, 0).freeze();
    let size = whole.len() as u64;
    Ok((Measured { size, bare: size.saturating_sub(bytes.len() as u64), date }, Some(whole)))
}

/// Reads a file to its end.
fn count(file: &File, stored: u64, date: i64) -> Result<Measured, MailError> {
    let (mut bare, mut read, mut last) = (0, 0_u64, 0);
    while read < stored {
        let bytes = read_now(file, read, CHUNK.min(usize::try_from(stored - read).unwrap_or(CHUNK)))?;
        if bytes.is_empty() {
            break;
        }
        bare += bare_line_feeds(&bytes, last);
        last = bytes.last().copied().unwrap_or(last);
        read += bytes.len() as u64;
    }
    Ok(Measured { size: read + bare, bare, date })
}

/// Whether a name says of a file of that size that it is sent as it is.
fn is_wire_form(name: &[u8], stored: u64) -> bool {
    filename::size_hints(name) == (Some(stored), Some(stored))
}

impl View {
    /// Finds out what the store does not know yet of these messages without opening them: sizes, dates, EMAILIDs. Call it
    /// before an answer that names one of them; [`View::message`] and its like say what is known. Those that are gone are
    /// left out, and what is known of them is not told: see [`super::Meta::measured`].
    ///
    /// # Errors
    /// `FolderGone`, or what the disk says.
    pub async fn measure(&self, numbers: &[u32]) -> Result<(), MailError> {
        if self.folder.is_measured() {
            return Ok(());
        }
        let mut looked_again = false;
        for some in numbers.chunks(MOST) {
            let uids = self.folder.read(|s| {
                let uids = some.iter().filter_map(|number| self.uid(*number));
                uids.filter(|uid| s.find(*uid).is_some_and(|m| !m.measured)).collect::<Vec<u32>>()
            });
            let Some(uids) = uids.filter(|uids| !uids.is_empty()) else { continue };
            let mut missing = self.folder.measure(uids).await?;
            // Other programs have moved them, or removed them.
            if !missing.is_empty() && !std::mem::replace(&mut looked_again, true) {
                self.look_again().await?;
                missing = self.folder.measure(missing).await?;
            }
            tracing::debug!(missing = missing.len(), "messages measured");
        }
        Ok(())
    }
}

impl Folder {
    /// Takes in what opening a message found out.
    pub(super) fn opened(&self, message: &MessageReader) {
        if let Some(found) = message.found() {
            self.found_out(&[found]);
        }
    }

    /// Measures those that are not, on a blocking thread; gives back those that are not where they were.
    pub(super) async fn measure(self: &Arc<Self>, uids: Vec<u32>) -> Result<Vec<u32>, MailError> {
        let shared = self.shared.upgrade().ok_or(MailError::FolderGone)?;
        let folder = Arc::clone(self);
        shared.pool.run("measuring messages", move || measure(&folder, &folder.dir()?, &uids)).await
    }
}

/// The same for all messages, by the folder's only writer.
pub(super) fn all(ex: &Exclusive) -> Result<(), MailError> {
    if ex.folder.is_measured() {
        return Ok(());
    }
    let uids = ex.read(|s| s.messages.iter().map(|m| m.uid).collect::<Vec<u32>>())?;
    let missing = measure(ex.folder, &ex.dir, &uids)?;
    if !missing.is_empty() {
        scan::all(ex, false)?;
        measure(ex.folder, &ex.dir, &missing)?;
    }
    Ok(())
}

/// Measures on a blocking thread those that are not; gives back those that are not where they were.
fn measure(folder: &Folder, dir: &Dir, uids: &[u32]) -> Result<Vec<u32>, MailError> {
    let wanted = folder.read(|s| {
        let known = uids.iter().filter_map(|uid| s.find(*uid)).filter(|m| !m.measured);
        known.map(|m| (m.uid, m.place, s.name(m).to_vec())).collect::<Vec<_>>()
    });
    let wanted = wanted.ok_or(MailError::FolderGone)?;
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (new, cur) = (dir.sub(b"new")?, dir.sub(b"cur")?);
    let (mut found, mut missing) = (Vec::with_capacity(wanted.len()), Vec::new());
    for (uid, place, name) in wanted {
        match file(if place == Place::New { &new } else { &cur }, &name) {
            Ok(measured) => found.push((uid, measured)),
            Err(error) if error.is_missing() => missing.push(uid),
            // Whoever asks for this one alone is told why.
            Err(error) => tracing::warn!(%error, "a message file can not be read"),
        }
    }
    folder.found_out(&found);
    Ok(missing)
}
