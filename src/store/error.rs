//! What can go wrong with the database, told with what was being done, where, and how to mend it. No URL is ever
//! printed: it may hold a password.

use std::path::PathBuf;

use crate::model::Blame;
use crate::policy::file::FileError;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// `database.url` is of no use.
    #[error(
        "database.url {problem}: write \"sqlite:portcullis.db\" (a file in data_dir) or \"sqlite:/path/to/file\""
    )]
    Url {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The directory or file cannot be made or opened.
    #[error("cannot {doing} {}: {source}: make it writable for the user Portcullis runs as, or change data_dir", path.display())]
    File {
        /// `create`, `open`.
        doing: &'static str,
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is no SQLite database.
    #[error("{} is not a database: move it away, or point database.url elsewhere", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// A database, but of another program.
    #[error("{} is a database of another program (it has no table \"portcullis\"): point database.url elsewhere", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Written by a later version.
    #[error("{} was written by a newer Portcullis (schema {version}): install that version or restore a backup", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema number.
        version: i64,
    },
    /// Another process holds the database.
    #[error("{} is locked by another process while {doing}: end that process, or try again", path.display())]
    Locked {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// No room or no right to write.
    #[error("{} cannot be written while {doing} ({what}): free space or mend the file's rights", path.display())]
    NotWritable {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the database said.
        what: String,
    },
    /// The database holds something that cannot be.
    #[error("{} is damaged: {what}: restore a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which row, or what the database said.
        what: String,
    },
    /// The policy was changed since the caller looked.
    #[error(
        "the policy has version {found}, not {expected}: it was changed meanwhile; look at a new plan and apply that"
    )]
    Stale {
        /// What the caller expected.
        expected: i64,
        /// What it is.
        found: i64,
    },
    /// The policy file names members nobody knows.
    #[error(transparent)]
    Policy(#[from] FileError),
    /// Any other failure.
    #[error("database {}: {doing} failed: {source}", path.display())]
    Sql {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the driver said.
        #[source]
        source: sqlx::Error,
    },
}

impl StoreError {
    /// Who has to mend it: the settings, or the database we depend on.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Url { .. } | Self::Policy(_) | Self::Stale { .. } => Blame::Us,
            _ => Blame::Dependency,
        }
    }

    /// Sorts a driver's error by SQLite's primary result code (sqlite.org/rescode.html).
    pub(super) fn sql(doing: &'static str, path: &std::path::Path, source: sqlx::Error) -> Self {
        let path = path.to_owned();
        let code = match &source {
            sqlx::Error::Database(error) => error.code().and_then(|code| code.parse::<i32>().ok()),
            _ => None,
        };
        match code.map(|code| code & 0xff) {
            Some(5 | 6) => Self::Locked { doing, path },
            Some(8 | 13 | 14) => Self::NotWritable { doing, path, what: source.to_string() },
            Some(11) => Self::Damaged { path, what: source.to_string() },
            Some(26) => Self::NotADatabase { path },
            _ => Self::Sql { doing, path, source },
        }
    }
}
