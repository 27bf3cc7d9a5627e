//! What can go wrong with mail on disk, and who has to mend it.

use rustix::io::Errno;

use crate::model::Blame;

/// Why the mail store did not do what was asked. Nothing was changed unless the doc of the call says otherwise.
///
/// `Clone`, because one failed sync answers every session whose change was in the same batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// No folder of that name (RFC 5530 `NONEXISTENT`).
    #[error("no folder {name:?}")]
    NoSuchFolder {
        /// The name as asked for.
        name: String,
    },
    /// The target of APPEND, COPY or MOVE does not exist, and CREATE could make it (RFC 3501 section 6.3.11).
    #[error("no folder {name:?} to put messages into")]
    TryCreate {
        /// The name as asked for.
        name: String,
    },
    /// The name is taken (RFC 5530 `ALREADYEXISTS`).
    #[error("folder {name:?} exists")]
    AlreadyExists {
        /// The name as asked for.
        name: String,
    },
    /// A name without messages of its own that only stands because folders lie below it (RFC 3501 section 6.3.4).
    #[error("folder {name:?} holds other folders and no messages")]
    HasChildren {
        /// The name as asked for.
        name: String,
    },
    /// A name that can not be a folder's (RFC 5530 `CANNOT`).
    #[error("folder name {name:?} {problem}")]
    InvalidName {
        /// The name, cut at 100 characters.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A bound of `threats.md` section 6 was reached (RFC 5530 `LIMIT`).
    #[error("more than {most} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The most that is accepted.
        most: u64,
    },
    /// The message is larger than one may be (RFC 7889 `TOOBIG`).
    #[error("message is larger than {most} bytes")]
    TooBig {
        /// The most that is accepted, in bytes.
        most: u64,
    },
    /// The owner's quota is used up: the one set here (RFC 9208), or the disk's (EDQUOT).
    #[error("quota is used up")]
    OverQuota,
    /// The disk is full (ENOSPC).
    #[error("no space left for {doing}")]
    NoSpace {
        /// What was being done.
        doing: &'static str,
    },
    /// Another folder has the special use that CREATE asks for (RFC 6154 `USEATTR`).
    #[error("another folder is used as {attribute}")]
    UseTaken {
        /// The attribute: `\Drafts`.
        attribute: &'static str,
    },
    /// The annotation is larger than one may be (RFC 5464 `METADATA MAXSIZE`).
    #[error("annotation is larger than {most} bytes")]
    AnnotationTooBig {
        /// The most that is accepted, in bytes.
        most: u64,
    },
    /// No more annotations in this place (RFC 5464 `METADATA TOOMANY`).
    #[error("more than {most} annotations")]
    TooManyAnnotations {
        /// The most that are kept.
        most: u64,
    },
    /// Another POP3 session, or another process, holds the mailbox (RFC 2449 `IN-USE`).
    #[error("mailbox is in use")]
    Locked,
    /// The folder was opened with EXAMINE.
    #[error("folder was opened read-only")]
    ReadOnly,
    /// Another session or program removed the message (RFC 5530 `EXPUNGEISSUED`).
    #[error("message {uid} is gone")]
    Gone {
        /// Its UID.
        uid: u32,
    },
    /// The folder was deleted, or its index was lost, while it was open: nothing more can be done in this view.
    #[error("folder is gone")]
    FolderGone,
    /// The disk refused.
    #[error("{doing} failed")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        #[source]
        source: Errno,
    },
    /// A file is not what it must be: a link or a pipe where a directory should be, an oversized index.
    #[error("mail directory is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// A task was cancelled or panicked.
    #[error("{doing} was cut short")]
    Fault {
        /// What was being done.
        doing: &'static str,
    },
}

impl MailError {
    /// Sorts a system error: a full disk and a used-up quota have answers of their own.
    pub(super) fn io(doing: &'static str, source: Errno) -> Self {
        match source {
            Errno::NOSPC => Self::NoSpace { doing },
            Errno::DQUOT => Self::OverQuota,
            _ => Self::Io { doing, source },
        }
    }

    pub(super) fn invalid(name: &str, problem: &'static str) -> Self {
        Self::InvalidName { name: name.chars().take(100).collect(), problem }
    }

    /// Whether the cause is a missing file.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source: Errno::NOENT, .. })
    }

    /// Who has to mend it: picks the reply code and the log level.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NoSpace { .. } | Self::Io { .. } | Self::Damaged { .. } => Blame::Dependency,
            Self::Fault { .. } => Blame::Us,
            _ => Blame::Peer,
        }
    }
}

/// `map_err` for system calls: what was being done.
pub(super) fn io(doing: &'static str) -> impl Fn(Errno) -> MailError {
    move |errno| MailError::io(doing, errno)
}
