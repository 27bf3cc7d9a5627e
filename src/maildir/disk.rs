//! The system calls the mail store makes, all relative to directory handles and none through a symbolic link.
//! Each can be made to fail by a test's [`Faults`].

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use rustix::{
    fd::OwnedFd,
    fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags, Stat},
    io::Errno,
};

use super::error::{MailError, io};

/// The kinds of call that a fault can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Create,
    Write,
    SyncFile,
    SyncDir,
    Rename,
    Link,
    Unlink,
}

/// What a test makes of a call: `Some` is the error it gets. The bytes are the file's name, or what is written.
pub(super) type Faults = Option<Arc<dyn Fn(Call, &[u8]) -> Option<Errno> + Send + Sync>>;

/// An open directory.
#[derive(Clone)]
pub(super) struct Dir {
    fd: Arc<OwnedFd>,
    faults: Faults,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens the store's root, the one directory that may be reached through links.
    pub(super) fn root(path: &Path, faults: Faults) -> Result<Self, MailError> {
        let fd = fs::open(path, DIRECTORY, Mode::empty()).map_err(io("opening the mail directory"))?;
        Ok(Self { fd: Arc::new(fd), faults })
    }

    fn check(&self, call: Call, bytes: &[u8]) -> Result<(), Errno> {
        self.faults.as_ref().and_then(|faults| faults(call, bytes)).map_or(Ok(()), Err)
    }

    /// Opens a directory in this one; a symbolic link is an error.
    pub(super) fn sub(&self, name: &[u8]) -> Result<Self, MailError> {
        let fd = fs::openat(&*self.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            .map_err(io("opening a mail directory"))?;
        Ok(Self { fd: Arc::new(fd), faults: self.faults.clone() })
    }

    /// Makes a directory in this one; whether it was not there before. The caller syncs.
    pub(super) fn make(&self, name: &[u8]) -> Result<bool, MailError> {
        self.check(Call::Create, name).map_err(io("making a mail directory"))?;
        match fs::mkdirat(&*self.fd, name, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(MailError::io("making a mail directory", errno)),
        }
    }

    /// Makes a file that must not exist yet.
    pub(super) fn create(&self, name: &[u8]) -> Result<File, MailError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.check(Call::Create, name).map_err(io("making a file"))?;
        fs::openat(&*self.fd, name, flags, Mode::RUSR | Mode::WUSR).map(File::from).map_err(io("making a file"))
    }

    /// Opens a regular file without ever blocking; anything else at that name counts as missing.
    pub(super) fn open(&self, name: &[u8], write: bool) -> Result<(File, Stat), MailError> {
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match fs::openat(&*self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => {
                return Err(MailError::io("opening a file", Errno::NOENT));
            }
            Err(errno) => return Err(MailError::io("opening a file", errno)),
        };
        let stat = fs::fstat(&file).map_err(io("opening a file"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(MailError::io("opening a file", Errno::NOENT));
        }
        Ok((file, stat))
    }

    /// What stands at that name, links not followed; nothing if there is none.
    pub(super) fn stat(&self, name: &[u8]) -> Result<Option<Stat>, MailError> {
        match fs::statat(&*self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(MailError::io("looking at a file", errno)),
        }
    }

    /// The names in this directory that may be of that type, in no order, without `.` and `..`.
    pub(super) fn names(&self, wanted: FileType) -> Result<Vec<Vec<u8>>, MailError> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&*self.fd).map_err(io("listing a mail directory"))? {
            let entry = entry.map_err(io("listing a mail directory"))?;
            let name = entry.file_name().to_bytes();
            let fits = entry.file_type() == wanted || entry.file_type() == FileType::Unknown;
            if fits && name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        Ok(names)
    }

    /// Renames; an existing file of the new name is never replaced.
    pub(super) fn rename(&self, name: &[u8], to: &Self, new: &[u8]) -> Result<(), MailError> {
        self.check(Call::Rename, new).map_err(io("renaming a file"))?;
        let renamed = match fs::renameat_with(&*self.fd, name, &*to.fd, new, RenameFlags::NOREPLACE) {
            // A file system that does not know the flag. The names of messages are unique without its help.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::renameat(&*self.fd, name, &*to.fd, new),
            other => other,
        };
        renamed.map_err(io("renaming a file"))
    }

    /// Renames over whatever stands at the new name.
    pub(super) fn replace(&self, name: &[u8], new: &[u8]) -> Result<(), MailError> {
        self.check(Call::Rename, new).map_err(io("replacing a file"))?;
        fs::renameat(&*self.fd, name, &*self.fd, new).map_err(io("replacing a file"))
    }

    /// Gives a file a second name in another directory.
    pub(super) fn link(&self, name: &[u8], to: &Self, new: &[u8]) -> Result<(), MailError> {
        self.check(Call::Link, new).map_err(io("linking a file"))?;
        fs::linkat(&*self.fd, name, &*to.fd, new, AtFlags::empty()).map_err(io("linking a file"))
    }

    /// Removes a file; whether there was one.
    pub(super) fn unlink(&self, name: &[u8]) -> Result<bool, MailError> {
        self.check(Call::Unlink, name).map_err(io("removing a file"))?;
        match fs::unlinkat(&*self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(MailError::io("removing a file", errno)),
        }
    }

    /// Makes this directory's entries survive a power cut.
    pub(super) fn sync(&self) -> Result<(), MailError> {
        self.check(Call::SyncDir, b"").map_err(io("syncing a directory"))?;
        fs::fsync(&*self.fd).map_err(io("syncing a directory"))
    }

    /// Writes at the file's position.
    pub(super) fn write(&self, mut file: &File, bytes: &[u8]) -> Result<(), MailError> {
        self.check(Call::Write, bytes).map_err(io("writing a file"))?;
        file.write_all(bytes)
            .map_err(|error| MailError::io("writing a file", Errno::from_io_error(&error).unwrap_or(Errno::IO)))
    }

    /// Writes at that place of a file, and cuts it off behind.
    pub(super) fn write_at(&self, mut file: &File, at: u64, bytes: &[u8]) -> Result<(), MailError> {
        let place = |error: std::io::Error| {
            MailError::io("writing a file", Errno::from_io_error(&error).unwrap_or(Errno::IO))
        };
        file.set_len(at).map_err(place)?;
        file.seek(SeekFrom::Start(at)).map_err(place)?;
        self.write(file, bytes)
    }

    /// Makes a file's bytes survive a power cut.
    pub(super) fn sync_file(&self, file: &File) -> Result<(), MailError> {
        self.check(Call::SyncFile, b"").map_err(io("syncing a file"))?;
        fs::fdatasync(file).map_err(io("syncing a file"))
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
