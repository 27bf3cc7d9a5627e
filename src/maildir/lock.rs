//! The lock a POP3 session holds on its mailbox (RFC 1939 section 3): one such session at a time, in this process and
//! among others. It is gone with the process that held it, however that ended.

use std::fs::File;

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{disk::Dir, error::MailError};

const NAME: &[u8] = b"portcullis-pop-lock";

/// Held until dropped.
pub(super) struct PopLock {
    _file: File,
}

impl PopLock {
    /// Takes the lock in the owner's directory, or says that it is taken.
    pub(super) fn take(home: &Dir) -> Result<Self, MailError> {
        let file = match home.open(NAME, true) {
            Ok((file, _)) => file,
            Err(error) if error.is_missing() => match home.create(NAME) {
                Ok(file) => file,
                Err(MailError::Io { source: Errno::EXIST, .. }) => home.open(NAME, true)?.0,
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(MailError::Locked),
            Err(errno) => Err(MailError::io("locking a mailbox", errno)),
        }
    }
}
