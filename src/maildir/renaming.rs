//! A RENAME of several folders, whole or not at all (RFC 3501 section 6.3.5). What is to be renamed is written down
//! first; whatever goes wrong on the way is undone, at once or, after a crash, when the mailbox is opened next. One such
//! RENAME of an owner at a time: what another is about is no crash's. Called by `tree` and `root`.

use std::{
    collections::HashSet,
    fs::File,
    sync::Mutex,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{disk::Dir, error::MailError, folder::lock, root::Owner};

/// The file in the owner's directory while folders are being renamed: a line for each, old and new directory name with
/// a tab between them. Names of folders hold no control characters.
const NAME: &str = "portcullis-renaming";
/// Largest file that is read, in bytes.
const MAX: u64 = 64 * 1024 * 1024;

/// The file that is locked meanwhile, against other processes.
const LOCK: &[u8] = b"portcullis-renaming-lock";
/// How long a RENAME waits for another of the same owner.
const WAIT: Duration = Duration::from_secs(10);

/// A directory, and what it is to be called.
pub(super) type Renaming = (Vec<u8>, Vec<u8>);

/// The owners whose folders this process is renaming.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashSet<Owner>>);

/// The right to rename several folders of an owner, until it is dropped.
struct Turn<'a> {
    turns: &'a Turns,
    owner: &'a Owner,
    file: Option<File>,
}

impl Turns {
    /// The owner's turn; nothing while another has it, here or in another process.
    fn take<'a>(&'a self, owner: &'a Owner, home: &Dir) -> Result<Option<Turn<'a>>, MailError> {
        if !lock(&self.0).insert(owner.clone()) {
            return Ok(None);
        }
        let mut turn = Turn { turns: self, owner, file: None };
        let file = match home.open(LOCK, true) {
            Err(error) if error.is_missing() => match home.create(LOCK) {
                Err(MailError::Io { source: Errno::EXIST, .. }) => home.open(LOCK, true)?.0,
                other => other?,
            },
            other => other?.0,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            // A file system without such locks goes without.
            Ok(()) | Err(Errno::NOLCK | Errno::NOTSUP | Errno::INVAL | Errno::NOSYS | Errno::BADF) => {}
            Err(errno) => return Err(MailError::io("locking a mailbox", errno)),
        }
        turn.file = Some(file);
        Ok(Some(turn))
    }

    fn wait<'a>(&'a self, owner: &'a Owner, home: &Dir) -> Result<Turn<'a>, MailError> {
        let start = Instant::now();
        loop {
            match self.take(owner, home)? {
                Some(turn) => return Ok(turn),
                None if start.elapsed() > WAIT => return Err(MailError::Locked),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Undoes what a crash, or a disk that failed twice, left half done; not what somebody is about.
    pub(super) fn recover(&self, owner: &Owner, home: &Dir) -> Result<(), MailError> {
        if home.stat(NAME.as_bytes())?.is_none() {
            return Ok(());
        }
        match self.take(owner, home)? {
            Some(_turn) => undo_unfinished(home),
            None => Ok(()),
        }
    }

    /// Renames all of them, durably, calling `each` for every directory that has its new name, or its old one again. After
    /// an error each has its old one, unless the disk refuses that too: then it gets it when the mailbox is opened next.
    ///
    /// # Errors
    /// `Locked` while others of the owner take too long, or what the disk says.
    pub(super) fn rename_all(
        &self,
        owner: &Owner,
        home: &Dir,
        moves: &[Renaming],
        each: impl FnMut(usize, &[u8]),
    ) -> Result<(), MailError> {
        // A single one is whole by itself.
        let _turn = if moves.len() > 1 { Some(self.wait(owner, home)?) } else { None };
        rename_all(home, moves, each)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // The file's lock goes first: whoever comes next here finds it free.
        self.file = None;
        lock(&self.turns.0).remove(self.owner);
    }
}

fn rename_all(home: &Dir, moves: &[Renaming], mut each: impl FnMut(usize, &[u8])) -> Result<(), MailError> {
    let journal = moves.len() > 1;
    if journal {
        undo_unfinished(home)?;
        home.put(NAME, &written(moves))?;
    }
    let mut done = 0;
    let renamed = forward(home, moves, &mut done, &mut each)
        .and_then(|()| if journal { home.unlink(NAME.as_bytes()).and_then(|_| home.sync()) } else { Ok(()) });
    let Err(error) = renamed else { return Ok(()) };
    // The last first: what a later one gave up, an earlier one may have taken. The call that failed may have done its
    // work all the same.
    let mut undone = Ok(());
    for (at, (old, new)) in moves.iter().enumerate().take(done + 1).rev() {
        match home.rename(new, home, old) {
            Ok(()) => each(at, old),
            Err(error) if error.is_missing() => {}
            Err(error) => undone = Err(error),
        }
    }
    if undone.and_then(|()| home.sync()).is_ok() {
        // Without it nothing is undone a second time; with it nothing either, for every old name is taken.
        let _ = home.unlink(NAME.as_bytes());
    } else {
        tracing::error!("folders were renamed in part; the rest is undone when the mailbox is opened next");
        // The list may be gone already.
        let _ = home.put(NAME, &written(moves));
    }
    Err(error)
}

fn forward(
    home: &Dir,
    moves: &[Renaming],
    done: &mut usize,
    each: &mut impl FnMut(usize, &[u8]),
) -> Result<(), MailError> {
    for (at, (old, new)) in moves.iter().enumerate() {
        home.rename(old, home, new)?;
        *done = at + 1;
        each(at, new);
    }
    home.sync()
}

fn written(moves: &[Renaming]) -> Vec<u8> {
    let lines = moves.iter().map(|(old, new)| [old, b"\t" as &[u8], new, b"\n"].concat());
    lines.collect::<Vec<_>>().concat()
}

/// Undoes what is written down. The caller has the owner's turn.
fn undo_unfinished(home: &Dir) -> Result<(), MailError> {
    let file = match home.open(NAME.as_bytes(), false) {
        Ok((file, _)) => file,
        Err(error) if error.is_missing() => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX), &mut bytes).map_err(|error| {
        let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
        MailError::io("reading what was being renamed", errno)
    })?;
    let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
    for line in lines.into_iter().rev() {
        let Some(tab) = line.iter().position(|b| *b == b'\t') else { continue };
        let (old, new) = (line.get(..tab).unwrap_or_default(), line.get(tab + 1..).unwrap_or_default());
        let plain = |name: &[u8]| name.len() > 1 && name.starts_with(b".") && !name.contains(&b'/');
        if !plain(old) || !plain(new) || new == b".." || old == b".." {
            continue;
        }
        if home.stat(old)?.is_none() && home.stat(new)?.is_some() {
            home.rename(new, home, old)?;
        }
    }
    home.sync()?;
    home.unlink(NAME.as_bytes())?;
    home.sync()
}
