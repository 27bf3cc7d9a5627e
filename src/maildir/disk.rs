//! The system calls the mail store makes, all relative to directory handles and none through a symbolic link.
//! Each can be made to fail by a test's [`super::seam::Seam`].

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, Stat},
    io::Errno,
};

use super::{
    error::{MailError, io},
    seam::{Call, Done, Fault, Seamed},
};

/// Most levels of directories that [`Dir::remove_tree`] goes down.
const MAX_DEPTH: usize = 100;
/// Entries of a directory are asked for in pieces of this size, in bytes.
const LISTING: usize = 32 * 1024;

/// An open directory.
#[derive(Clone)]
pub(super) struct Dir {
    fd: Arc<OwnedFd>,
    seam: Seamed,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens the store's root, the one directory that may be reached through links.
    pub(super) fn root(path: &Path, seam: Seamed) -> Result<Self, MailError> {
        let fd = fs::open(path, DIRECTORY, Mode::empty()).map_err(io("opening the mail directory"))?;
        Ok(Self { fd: Arc::new(fd), seam })
    }

    /// Makes a call unless a test wants it to fail, and tells the test of it.
    fn call<'a, T>(
        &self,
        call: Call,
        bytes: &[u8],
        make: impl FnOnce() -> Result<T, Errno>,
        done: impl FnOnce(&T) -> Option<Done<'a>>,
    ) -> Result<T, Errno> {
        let Some(seam) = &self.seam else { return make() };
        let fault = seam.before(call, bytes);
        if let Some(Fault::Refused(errno) | Fault::Short(errno)) = fault {
            return Err(errno);
        }
        let made = make()?;
        if let Some(done) = done(&made) {
            seam.after(done);
        }
        if let Some(Fault::Late(errno)) = fault { Err(errno) } else { Ok(made) }
    }

    /// A call that changes nothing.
    fn ask<T>(&self, call: Call, name: &[u8], ask: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        self.call(call, name, ask, |_| None)
    }

    /// The inode of an entry, for a test's eyes.
    fn inode_at(&self, name: &[u8]) -> u64 {
        fs::statat(&*self.fd, name, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| stat.st_ino)
    }

    /// Opens a directory in this one; a symbolic link is an error.
    pub(super) fn sub(&self, name: &[u8]) -> Result<Self, MailError> {
        let open = || fs::openat(&*self.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        let fd = self.ask(Call::Open, name, open).map_err(io("opening a mail directory"))?;
        Ok(Self { fd: Arc::new(fd), seam: self.seam.clone() })
    }

    /// Whether both are the same directory.
    pub(super) fn is_same(&self, other: &Self) -> Result<bool, MailError> {
        let of = |dir: &Self| fs::fstat(&*dir.fd).map(|stat| (stat.st_dev, stat.st_ino));
        let pair = of(self).and_then(|one| Ok((one, of(other)?)));
        pair.map(|(one, other)| one == other).map_err(io("looking at a mail directory"))
    }

    /// Makes a directory in this one; whether it was not there before. The caller syncs.
    pub(super) fn make(&self, name: &[u8]) -> Result<bool, MailError> {
        let make = || match fs::mkdirat(&*self.fd, name, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno),
        };
        let done =
            |made: &bool| made.then(|| Done::MadeDir { dir: inode(&self.fd), name, inode: self.inode_at(name) });
        self.call(Call::Create, name, make, done).map_err(io("making a mail directory"))
    }

    /// Makes a file that must not exist yet.
    pub(super) fn create(&self, name: &[u8]) -> Result<File, MailError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || fs::openat(&*self.fd, name, flags, Mode::RUSR | Mode::WUSR).map(File::from);
        let done = |file: &File| Some(Done::MadeFile { dir: inode(&self.fd), name, inode: inode(file) });
        self.call(Call::Create, name, make, done).map_err(io("making a file"))
    }

    /// Opens a regular file without ever blocking; anything else at that name counts as missing.
    pub(super) fn open(&self, name: &[u8], write: bool) -> Result<(File, Stat), MailError> {
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let open = || match fs::openat(&*self.fd, name, flags, Mode::empty()) {
            Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => Err(Errno::NOENT),
            other => other.map(File::from),
        };
        let file = self.ask(Call::Open, name, open).map_err(io("opening a file"))?;
        let stat = fs::fstat(&file).map_err(io("opening a file"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(MailError::io("opening a file", Errno::NOENT));
        }
        Ok((file, stat))
    }

    /// Reads a regular file from its beginning, as far as there is room, and if that is no matter, what comes at once; how
    /// much that is. Anything else at that name counts as missing.
    pub(super) fn read_start(&self, name: &[u8], room: &mut [u8], fill: bool) -> Result<usize, MailError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mut read = || {
            let file = fs::openat(&*self.fd, name, flags, Mode::empty())?;
            let mut done = 0;
            while let Some(left) = room.get_mut(done..).filter(|left| !left.is_empty()) {
                match rustix::io::pread(&file, left, done as u64) {
                    Ok(0) => break,
                    Ok(count) => done += count,
                    Err(Errno::INTR) => continue,
                    Err(errno) => return Err(errno),
                }
                if !fill {
                    break;
                }
            }
            Ok(done)
        };
        // Only a file can be read at a place of one's choice.
        let read = || match read() {
            Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR | Errno::SPIPE) => Err(Errno::NOENT),
            other => other,
        };
        self.ask(Call::Open, name, read).map_err(io("reading a message"))
    }

    /// What stands at that name, links not followed; nothing if there is none.
    pub(super) fn stat(&self, name: &[u8]) -> Result<Option<Stat>, MailError> {
        let look = || match fs::statat(&*self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        };
        self.ask(Call::Look, name, look).map_err(io("looking at a file"))
    }

    /// What stands at that path below this directory, where the kernel has it in memory: never waits for the disk. Links
    /// are not followed.
    pub(super) fn peek(&self, path: &[u8]) -> Option<Stat> {
        let resolve = ResolveFlags::CACHED | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let look = || fs::openat2(&*self.fd, path, flags, Mode::empty(), resolve).and_then(fs::fstat);
        self.ask(Call::Look, path, look).ok()
    }

    /// The names in this directory that may be of that type, in no order, without `.` and `..`.
    pub(super) fn names(&self, wanted: FileType) -> Result<Vec<Vec<u8>>, MailError> {
        let fits = |kind| kind == wanted || kind == FileType::Unknown;
        Ok(self.entries()?.into_iter().filter(|(_, kind)| fits(*kind)).map(|(name, _)| name).collect())
    }

    /// Every entry but `.` and `..`, and what it may be.
    pub(super) fn entries(&self) -> Result<Vec<(Vec<u8>, FileType)>, MailError> {
        let mut entries = Vec::new();
        self.each_in(b".", |name, kind| entries.push((name.to_vec(), kind)))?;
        Ok(entries)
    }

    /// Calls `each` for every entry of a directory in this one, but for `.` and `..`, with what it may be.
    pub(super) fn each_in(&self, dir: &[u8], mut each: impl FnMut(&[u8], FileType)) -> Result<(), MailError> {
        let list = || {
            let fd = fs::openat(&*self.fd, dir, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
            let mut room: Vec<u8> = Vec::with_capacity(LISTING);
            let mut entries = RawDir::new(fd, room.spare_capacity_mut());
            while let Some(entry) = entries.next() {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    each(name, entry.file_type());
                }
            }
            Ok(())
        };
        self.ask(Call::List, b"", list).map_err(io("listing a mail directory"))
    }

    /// Whether a file stands at that name, and nothing else.
    pub(super) fn is_file(&self, name: &[u8]) -> Result<bool, MailError> {
        let stat = self.stat(name)?;
        Ok(stat.is_some_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile))
    }

    /// Renames; an existing file of the new name is never replaced.
    pub(super) fn rename(&self, name: &[u8], to: &Self, new: &[u8]) -> Result<(), MailError> {
        let rename = || match fs::renameat_with(&*self.fd, name, &*to.fd, new, RenameFlags::NOREPLACE) {
            // A file system that does not know the flag. The names of messages are unique without its help.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::renameat(&*self.fd, name, &*to.fd, new),
            other => other,
        };
        self.renamed(name, to, new, rename).map_err(io("renaming a file"))
    }

    /// Renames over whatever stands at the new name.
    pub(super) fn replace(&self, name: &[u8], new: &[u8]) -> Result<(), MailError> {
        let rename = || fs::renameat(&*self.fd, name, &*self.fd, new);
        self.renamed(name, self, new, rename).map_err(io("replacing a file"))
    }

    fn renamed(
        &self,
        name: &[u8],
        to: &Self,
        new: &[u8],
        rename: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let done = |(): &()| {
            let inode_there = to.inode_at(new);
            Some(Done::Renamed { dir: inode(&self.fd), name, to: inode(&to.fd), new, inode: inode_there })
        };
        self.call(Call::Rename, new, rename, done)
    }

    /// Gives a file a second name in another directory.
    pub(super) fn link(&self, name: &[u8], to: &Self, new: &[u8]) -> Result<(), MailError> {
        let link = || fs::linkat(&*self.fd, name, &*to.fd, new, AtFlags::empty());
        let done = |(): &()| Some(Done::Linked { to: inode(&to.fd), new, inode: to.inode_at(new) });
        self.call(Call::Link, new, link, done).map_err(io("linking a file"))
    }

    /// Gives a file outside of the store a second name in this directory.
    pub(super) fn link_from(&self, path: &Path, new: &[u8]) -> Result<(), MailError> {
        let link = || fs::linkat(fs::CWD, path, &*self.fd, new, AtFlags::empty());
        let done = |(): &()| Some(Done::Linked { to: inode(&self.fd), new, inode: self.inode_at(new) });
        self.call(Call::Link, new, link, done).map_err(io("linking a file"))
    }

    /// Removes a file; whether there was one.
    pub(super) fn unlink(&self, name: &[u8]) -> Result<bool, MailError> {
        self.remove(name, AtFlags::empty())
    }

    fn remove(&self, name: &[u8], flags: AtFlags) -> Result<bool, MailError> {
        let remove = || match fs::unlinkat(&*self.fd, name, flags) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        };
        let done = |there: &bool| there.then(|| Done::Unlinked { dir: inode(&self.fd), name });
        self.call(Call::Unlink, name, remove, done).map_err(io("removing a file"))
    }

    /// Removes a directory with all that is in it. Links are removed, not followed.
    pub(super) fn remove_tree(&self, name: &[u8]) -> Result<(), MailError> {
        self.remove_tree_at(name, MAX_DEPTH)
    }

    fn remove_tree_at(&self, name: &[u8], depth: usize) -> Result<(), MailError> {
        let depth = depth.checked_sub(1).ok_or(MailError::Damaged { what: "directories lie too deep" })?;
        let inside = match self.sub(name) {
            Ok(inside) => inside,
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) => return Err(error),
        };
        for (entry, kind) in inside.entries()? {
            let is_dir = match kind {
                FileType::Unknown => {
                    let stat = inside.stat(&entry)?;
                    stat.is_some_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
                }
                kind => kind == FileType::Directory,
            };
            if is_dir {
                inside.remove_tree_at(&entry, depth)?;
            } else {
                inside.unlink(&entry)?;
            }
        }
        self.remove(name, AtFlags::REMOVEDIR).map(drop)
    }

    /// Makes this directory's entries survive a power cut.
    pub(super) fn sync(&self) -> Result<(), MailError> {
        let done = |(): &()| Some(Done::SyncedDir { dir: inode(&self.fd) });
        self.call(Call::SyncDir, b"", || fs::fsync(&*self.fd), done).map_err(io("syncing a directory"))
    }

    /// Writes at the file's position.
    pub(super) fn write(&self, file: &File, bytes: &[u8]) -> Result<(), MailError> {
        self.write_all(file, bytes).map_err(io("writing a file"))
    }

    fn write_all(&self, mut file: &File, bytes: &[u8]) -> Result<(), Errno> {
        let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let Some(seam) = &self.seam else { return file.write_all(bytes).map_err(errno) };
        let fault = seam.before(Call::Write, bytes);
        let written = match fault {
            None | Some(Fault::Late(_)) => bytes,
            Some(Fault::Short(_)) => bytes.get(..bytes.len() / 2).unwrap_or_default(),
            Some(Fault::Refused(errno)) => return Err(errno),
        };
        let at = file.stream_position().map_err(errno)?;
        file.write_all(written).map_err(errno)?;
        seam.after(Done::Wrote { inode: inode(file), at, bytes: written });
        match fault {
            Some(Fault::Short(errno) | Fault::Late(errno)) => Err(errno),
            _ => Ok(()),
        }
    }

    /// Sets where the file is written next.
    pub(super) fn seek(&self, mut file: &File, to: u64) -> Result<(), MailError> {
        let done = file.seek(SeekFrom::Start(to));
        done.map(drop)
            .map_err(|error| MailError::io("writing a file", Errno::from_io_error(&error).unwrap_or(Errno::IO)))
    }

    /// Cuts a file to a length.
    pub(super) fn cut(&self, file: &File, length: u64) -> Result<(), MailError> {
        let done = |(): &()| Some(Done::Cut { inode: inode(file), length });
        self.call(Call::Cut, b"", || fs::ftruncate(file, length), done).map_err(io("cutting a file"))
    }

    /// Writes at that place of a file, and cuts it off behind.
    pub(super) fn write_at(&self, file: &File, at: u64, bytes: &[u8]) -> Result<(), MailError> {
        self.cut(file, at)?;
        self.seek(file, at)?;
        self.write(file, bytes)
    }

    /// Makes a file's bytes survive a power cut.
    pub(super) fn sync_file(&self, file: &File) -> Result<(), MailError> {
        let done = |(): &()| Some(Done::SyncedFile { inode: inode(file) });
        self.call(Call::SyncFile, b"", || fs::fdatasync(file), done).map_err(io("syncing a file"))
    }

    /// Makes the bytes of every file on this file system survive a power cut: one call for many files.
    pub(super) fn sync_all(&self) -> Result<(), MailError> {
        let done = |(): &()| Some(Done::SyncedAll);
        self.call(Call::SyncAll, b"", || fs::syncfs(&*self.fd), done).map_err(io("syncing the file system"))
    }

    /// Replaces a small file of this directory in one durable step.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<(), MailError> {
        let next = format!("{name}.new");
        self.unlink(next.as_bytes())?;
        let file = self.create(next.as_bytes())?;
        self.write(&file, bytes)?;
        self.sync_file(&file)?;
        self.replace(next.as_bytes(), name.as_bytes())?;
        self.sync()
    }

    /// The handle, for locks.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

/// The inode number, for a test's eyes.
fn inode(of: impl AsFd) -> u64 {
    fs::fstat(of).map_or(0, |stat| stat.st_ino)
}
