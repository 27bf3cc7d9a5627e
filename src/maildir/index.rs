//! The file `portcullis-index` of one folder: loading it, whatever state a crash left it in, adding to it, and
//! writing it anew. Called by `folder`, which holds the folder's lock meanwhile.

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    io::Read,
    os::unix::fs::FileExt,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::{fs::Stat, io::Errno};

use super::{
    disk::Dir,
    error::MailError,
    record::{self, HEAD, Head, MAGIC, Marks, Record, Stamps, Summary},
    state::State,
};

/// The index's name in the folder, beside `cur`, `new` and `tmp`.
const NAME: &[u8] = b"portcullis-index";
/// What is being written to take its place.
const NEXT: &[u8] = b"portcullis-index.new";
/// Largest index that is read, in bytes: some ten million messages.
const MAX: u64 = 1 << 30;
/// A file is written anew once it has outgrown its own compacted form by this factor and this many bytes.
const GROWTH: u64 = 3;
const SLACK: u64 = 256 * 1024;
/// Most records in one frame: a commit of more is several frames, so that none grows too large to be believed.
const FRAME: usize = 20_000;

/// A summary is looked for in the last bytes of the file, so many of them.
const TAIL: u64 = 1024;

/// Which bytes a file held: no other writer touched it while this is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    inode: u64,
    length: u64,
    /// When it was changed, in seconds and nanoseconds: another file may have the same inode and length.
    changed: (i64, i64),
}

impl Version {
    fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            length: u64::try_from(stat.st_size).unwrap_or(0),
            changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        }
    }

    fn of_file(file: &File) -> Result<Self, MailError> {
        rustix::fs::fstat(file).map(|stat| Self::of(&stat)).map_err(super::error::io("looking at an index"))
    }
}

/// What the end of an index says of the whole.
#[derive(Debug)]
pub(super) struct Tail {
    pub version: Version,
    pub uid_validity: u32,
    pub marks: Marks,
    pub scanned: Stamps,
    pub summary: Summary,
}

/// The file as this process last saw it.
#[derive(Clone, Debug)]
pub(super) struct Index {
    head: Head,
    version: Version,
    /// Length of the compacted form, at a guess.
    compact: u64,
    /// Something was wrong with the file: the next commit writes it anew instead of adding to it.
    rewrite: bool,
    /// The next commit's mod-sequence is this at least.
    least_modseq: u64,
    /// The last commit was a summary, of this mark for `\Recent`.
    noted: Option<u32>,
}

impl Index {
    /// Reads the folder's index. Nothing if there is none or not even its head can be read: the caller then
    /// makes one with a new UIDVALIDITY.
    pub(super) fn load(dir: &Dir) -> Result<Option<(Self, State)>, MailError> {
        let Some((file, version)) = open(dir)? else { return Ok(None) };
        let mut bytes = Vec::with_capacity(usize::try_from(version.length).unwrap_or(0));
        file.take(version.length).read_to_end(&mut bytes).map_err(reading)?;
        let Some(head) = Head::decode(MAGIC, &bytes) else { return Ok(None) };
        let Replayed { state, whole, noted } = replay(head, bytes.get(HEAD..).unwrap_or_default());
        let compact = (state.messages.len() as u64) * 128;
        // Before a crash, sessions may have been told of changes that could not be recorded (a full disk), and a file
        // may come from a backup: what was told then must not be told again of something else.
        let least_modseq = now_us();
        let version = Version { length: bytes.len() as u64, ..version };
        let index = Self { head, version, compact, rewrite: !whole, least_modseq, noted };
        Ok(Some((index, state)))
    }

    /// What the end of the file says of the whole, if it was written by [`Index::note`] and nothing after it.
    pub(super) fn tail(dir: &Dir) -> Result<Option<Tail>, MailError> {
        let Some((file, version)) = open(dir)? else { return Ok(None) };
        let mut head = [0; HEAD];
        let start = version.length.saturating_sub(TAIL).max(HEAD as u64);
        let mut end = vec![0; usize::try_from(version.length.saturating_sub(start)).unwrap_or(0)];
        let read = file.read_exact_at(&mut head, 0).and_then(|()| file.read_exact_at(&mut end, start));
        // Somebody is writing it anew.
        if read.is_err() {
            return Ok(None);
        }
        Ok(Head::decode(MAGIC, &head).and_then(|head| tail(head, version, &end)))
    }

    /// The state as it was when the file had this length, if the file is still the same.
    pub(super) fn state_at(dir: &Dir, then: Version) -> Result<Option<State>, MailError> {
        let Some((file, now)) = open(dir)? else { return Ok(None) };
        if now.inode != then.inode || now.length < then.length {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(then.length).read_to_end(&mut bytes).map_err(reading)?;
        let Some(head) = Head::decode(MAGIC, &bytes) else { return Ok(None) };
        Ok(Some(replay(head, bytes.get(HEAD..).unwrap_or_default()).state))
    }

    /// Notes at the end of the file what all of it comes to, durably.
    pub(super) fn note(
        &mut self,
        dir: &Dir,
        marks: Marks,
        scanned: Stamps,
        summary: Summary,
    ) -> Result<(), MailError> {
        self.commit(dir, marks, &[Record::Scanned(scanned), Record::Summary(summary)])?;
        self.noted = Some(marks.recent);
        Ok(())
    }

    /// Whether the file ends with what [`Index::note`] would write.
    pub(super) fn is_noted(&self, marks: Marks) -> bool {
        self.noted == Some(marks.recent)
    }

    /// Which bytes the file holds, as far as this process knows.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// Makes the folder's index from `state`, in place of what there was, durably.
    pub(super) fn create(dir: &Dir, state: &State) -> Result<Self, MailError> {
        let head = Head { uid_validity: state.uid_validity, seed: RandomState::new().hash_one(NAME) as u32 };
        let mut bytes = head.encode(MAGIC);
        let mut batch = Vec::new();
        let mut records = state.records().peekable();
        // Frames of some hundred messages: damage then costs the UIDs of a few, not of all. The first frame
        // stands even when there is no record, for its marks.
        loop {
            batch.extend(records.by_ref().take(500));
            record::encode(&mut bytes, head.seed, state.marks, &batch);
            batch.clear();
            if records.peek().is_none() {
                break;
            }
        }
        dir.unlink(NEXT)?;
        let file = dir.create(NEXT)?;
        dir.write(&file, &bytes)?;
        dir.sync_file(&file)?;
        dir.replace(NEXT, NAME)?;
        dir.sync()?;
        let version = Version::of_file(&file)?;
        Ok(Self { head, version, compact: version.length, rewrite: false, least_modseq: 0, noted: None })
    }

    /// This index in place of `old`: what was promised of mod-sequences holds.
    pub(super) fn after(self, old: &Self) -> Self {
        Self { least_modseq: old.least_modseq, ..self }
    }

    /// Removes the folder's index: the next look at the folder makes one with another UIDVALIDITY. The caller syncs.
    pub(super) fn remove(dir: &Dir) -> Result<bool, MailError> {
        dir.unlink(NAME)
    }

    /// Whether the file is still the one this process knows, to the byte: no other process added to it.
    pub(super) fn is_current(&self, dir: &Dir) -> Result<bool, MailError> {
        Ok(dir.stat(NAME)?.is_some_and(|stat| Version::of(&stat) == self.version))
    }

    /// The same where that can be told without waiting for the disk; else false.
    pub(super) fn is_current_at_hand(&self, dir: &Dir) -> bool {
        dir.peek(NAME).is_some_and(|stat| Version::of(&stat) == self.version)
    }

    /// Adds one commit, durably. After a failure the commit does not count, now or after a restart, and the next one
    /// writes the whole file anew: what a failed sync left in the page cache is not to be trusted.
    pub(super) fn commit(&mut self, dir: &Dir, marks: Marks, records: &[Record]) -> Result<(), MailError> {
        let mut frame = Vec::new();
        for batch in records.chunks(FRAME) {
            record::encode(&mut frame, self.head.seed, marks, batch);
        }
        let (file, _) = dir.open(NAME, true)?;
        let done = dir
            .seek(&file, self.version.length)
            .and_then(|()| dir.write(&file, &frame))
            .and_then(|()| dir.sync_file(&file))
            .and_then(|()| Version::of_file(&file));
        self.noted = None;
        match done {
            Ok(version) => self.version = version,
            Err(error) => {
                self.rewrite = true;
                // Best effort: a tail that stays is whole or torn, and in both cases a commit nobody was told of.
                drop(dir.cut(&file, self.version.length));
                let changed = Version::of_file(&file).map_or(self.version.changed, |now| now.changed);
                self.version.changed = changed;
                return Err(error);
            }
        }
        Ok(())
    }

    /// The mod-sequence of the next commit to `state`: above every one that any session was ever told.
    pub(super) fn next_modseq(&self, state: &State) -> u64 {
        state.marks.modseq.saturating_add(1).max(self.least_modseq)
    }

    /// Whether the file should be written anew by [`Index::create`].
    pub(super) fn wants_rewrite(&self) -> bool {
        self.rewrite || self.version.length > self.compact * GROWTH + SLACK
    }

    /// Memory knows more than the file.
    pub(super) fn distrust(&mut self) {
        self.rewrite = true;
    }

    /// Whether it must be, before anything is added.
    pub(super) fn needs_rewrite(&self) -> bool {
        self.rewrite
    }
}

/// Microseconds since 1970: finer than any commit follows another, so that no restart is too quick for it.
fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(0)
}

/// The index's file; nothing if there is none.
fn open(dir: &Dir) -> Result<Option<(File, Version)>, MailError> {
    let (file, stat) = match dir.open(NAME, false) {
        Ok(found) => found,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error),
    };
    let version = Version::of(&stat);
    if version.length > MAX {
        return Err(MailError::Damaged { what: "portcullis-index is larger than 1 GiB" });
    }
    Ok(Some((file, version)))
}

fn reading(error: std::io::Error) -> MailError {
    MailError::io("reading an index", Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// The frame with which `end`, the last bytes of a file, ends, if it is a summary's.
fn tail(head: Head, version: Version, end: &[u8]) -> Option<Tail> {
    let whole = |at: usize| {
        let rest = end.get(at..)?;
        let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
        let (payload, length) =
            (length.checked_add(8)? == rest.len()).then(|| record::frame(rest, head.seed))??;
        (length == rest.len()).then_some(payload)
    };
    let payload = (0..end.len()).rev().find_map(whole)?;
    let (mut scanned, mut summary) = (None, None);
    let marks = record::decode(payload, |record| match record {
        Record::Scanned(stamps) => scanned = Some(stamps),
        Record::Summary(found) => summary = Some(found),
        _ => {}
    })?;
    Some(Tail { version, uid_validity: head.uid_validity, marks, scanned: scanned?, summary: summary? })
}

/// What [`replay`] finds: the sum of all frames, whether every byte was accounted for, and what [`Index::note`] has
/// written at the end.
struct Replayed {
    state: State,
    whole: bool,
    noted: Option<u32>,
}

/// The sum of all frames.
///
/// A damaged frame is stepped over by looking for the next one that is whole. If none follows, the tail may have held
/// commits that were announced (a torn write was not, a bad disk block may have been): UIDNEXT and the mod-sequence
/// then skip more than the lost bytes can have used, so that no UID is ever given out twice. What is remembered of removed
/// messages may lack some then, and counts for nothing.
fn replay(head: Head, bytes: &[u8]) -> Replayed {
    let mut state = State::empty(head.uid_validity);
    let (mut at, mut whole, mut first, mut noted) = (0, true, true, None);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some((payload, length)) = record::frame(rest, head.seed) {
            let summary = add(&mut state, payload, std::mem::take(&mut first));
            noted = summary.then_some(state.marks.recent);
            at += length;
            continue;
        }
        whole = false;
        if let Some(skip) = resync(rest, head.seed) {
            at += skip;
            continue;
        }
        let lost = rest.len() as u64;
        state.marks.uid_next = state.marks.uid_next.saturating_add(u32::try_from(lost / 8 + 1).unwrap_or(u32::MAX));
        state.marks.modseq = state.marks.modseq.saturating_add(lost / 8 + 1);
        break;
    }
    if !whole {
        state.gone.forget(state.marks.modseq);
    }
    state.sweep();
    state.pack();
    Replayed { state, whole, noted: noted.filter(|_| whole) }
}

/// Adds a frame; whether it ends with a summary.
fn add(state: &mut State, payload: &[u8], first: bool) -> bool {
    let mut records = Vec::new();
    let Some(marks) = record::decode(payload, |record| records.push(record)) else { return false };
    if first && !records.iter().any(|record| matches!(record, Record::Gone { .. })) {
        // Written by a version that forgot removals when it compacted the file.
        state.gone.forget(marks.modseq);
    }
    let noted = matches!(records.last(), Some(Record::Summary(_)));
    for record in records {
        state.apply(record, marks.modseq);
    }
    let before = state.marks;
    state.marks = Marks {
        modseq: marks.modseq.max(before.modseq),
        uid_next: marks.uid_next.max(before.uid_next),
        recent: marks.recent.max(before.recent),
    };
    noted
}

/// How far it is to the next whole frame. Looks at no more than 64 times the bytes there are.
fn resync(rest: &[u8], seed: u32) -> Option<usize> {
    let mut budget = rest.len().saturating_mul(64);
    for skip in 1..rest.len() {
        let here = rest.get(skip..)?;
        let length = here.first_chunk().map_or(usize::MAX, |b| u32::from_le_bytes(*b) as usize);
        if length == 0 || length > here.len() {
            continue;
        }
        if record::frame(here, seed).is_some() {
            return Some(skip);
        }
        budget = budget.checked_sub(length)?;
    }
    None
}

#[cfg(test)]
mod tests;
