//! Where tests reach into the mail store's system calls: each call can be made to fail, in several ways, and what was
//! done is told, so that a test can say what a power cut would have left. Nothing but tests puts a [`Seam`] in.
#![cfg_attr(not(test), allow(dead_code, reason = "tests alone make faults and read what was done"))]

use std::sync::Arc;

use rustix::io::Errno;

/// The kinds of call that a fault can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Call {
    /// A file or a directory is made.
    Create,
    Write,
    /// A file is cut to a length.
    Cut,
    SyncFile,
    SyncDir,
    /// All files of the file system are synced.
    SyncAll,
    Rename,
    Link,
    Unlink,
    /// A file or directory that is there is opened.
    Open,
    /// A name is looked up.
    Look,
    /// A directory is read.
    List,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing is done.
    Refused(Errno),
    /// Half of the bytes are written; another call than a write is refused.
    Short(Errno),
    /// It is done, and reported as failed all the same.
    Late(Errno),
}

/// A call that was made, in terms of inode numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Done<'a> {
    MadeDir {
        dir: u64,
        name: &'a [u8],
        inode: u64,
    },
    MadeFile {
        dir: u64,
        name: &'a [u8],
        inode: u64,
    },
    Wrote {
        inode: u64,
        at: u64,
        bytes: &'a [u8],
    },
    Cut {
        inode: u64,
        length: u64,
    },
    SyncedFile {
        inode: u64,
    },
    SyncedDir {
        dir: u64,
    },
    /// All files.
    SyncedAll,
    /// With `inode`, that of the file or directory at the new name.
    Renamed {
        dir: u64,
        name: &'a [u8],
        to: u64,
        new: &'a [u8],
        inode: u64,
    },
    Linked {
        to: u64,
        new: &'a [u8],
        inode: u64,
    },
    /// A file or an empty directory was removed.
    Unlinked {
        dir: u64,
        name: &'a [u8],
    },
}

/// What a test makes of the calls.
pub(super) trait Seam: Send + Sync {
    /// What becomes of a call that is about to be made. The bytes are the file's name, or what is written.
    fn before(&self, call: Call, bytes: &[u8]) -> Option<Fault>;
    /// A call was made.
    fn after(&self, _done: Done) {}
}

/// A seam, in tests.
pub(super) type Seamed = Option<Arc<dyn Seam>>;

/// The short form of a seam: `Some` is the error that a call gets, without being made.
pub(super) type Faults = Option<Arc<dyn Fn(Call, &[u8]) -> Option<Errno> + Send + Sync>>;

/// A seam made of the short form.
pub(super) fn seam(faults: Faults) -> Seamed {
    struct Refusing<F>(F);
    impl<F: Fn(Call, &[u8]) -> Option<Errno> + Send + Sync> Seam for Refusing<F> {
        fn before(&self, call: Call, bytes: &[u8]) -> Option<Fault> {
            (self.0)(call, bytes).map(Fault::Refused)
        }
    }
    faults.map(|faults| Arc::new(Refusing(move |call, bytes: &[u8]| faults(call, bytes))) as Arc<dyn Seam>)
}
