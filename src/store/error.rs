//! What can go wrong with the database, told with what was being done, where, and how to mend it. No URL is ever
//! printed as it was written: it may hold a password.

use std::path::PathBuf;

use super::Location;
use crate::model::Blame;
use crate::policy::file::FileError;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// `database.url` is of no use.
    #[error(
        "database.url {problem}: write \"sqlite:portcullis.db\" (a file in data_dir), \"sqlite:/path/to/file\" or \
         \"postgres://USER:PASSWORD@HOST/DATABASE\""
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
    /// The server is not there, not ready, or did not answer in time.
    #[error(
        "{path} cannot be reached while {doing} ({source}): start the server, or correct host, port and TLS in database.url"
    )]
    Unreachable {
        /// What was being done.
        doing: &'static str,
        /// Which database.
        path: Location,
        /// What the driver said.
        #[source]
        source: sqlx::Error,
    },
    /// The server does not let us in.
    #[error(
        "{path} refuses this user or password ({what}): correct them in database.url (or PGPASSWORD, or the file \
         PGPASSFILE names), or the server's pg_hba.conf"
    )]
    Denied {
        /// Which database.
        path: Location,
        /// What the server said.
        what: String,
    },
    /// The server has no such database.
    #[error("{path}: the server has no such database: make it (`createdb`), or correct database.url")]
    NoDatabase {
        /// Which database.
        path: Location,
    },
    /// The file is no SQLite database.
    #[error("{path} is not a database: move it away, or point database.url elsewhere")]
    NotADatabase {
        /// The file.
        path: Location,
    },
    /// A database, but of another program.
    #[error(
        "{path} is a database of another program (it has no table \"portcullis\"): point database.url elsewhere"
    )]
    Foreign {
        /// Which database.
        path: Location,
    },
    /// Written by a later version.
    #[error(
        "{path} was written by a newer Portcullis (schema {version}): install that version or restore a backup"
    )]
    Newer {
        /// Which database.
        path: Location,
        /// Its schema number.
        version: i64,
    },
    /// Another process holds the database.
    #[error("{path} is locked by another process while {doing}: end that process, or try again")]
    Locked {
        /// What was being done.
        doing: &'static str,
        /// Which database.
        path: Location,
    },
    /// Others changed the policy faster than it could be read.
    #[error("{path}: others change the policy without a pause while {doing}: try again")]
    Overtaken {
        /// What was being done.
        doing: &'static str,
        /// Which database.
        path: Location,
    },
    /// No room or no right to write.
    #[error(
        "{path} cannot be written while {doing} ({what}): free space, or give the gateway's user the right to write"
    )]
    NotWritable {
        /// What was being done.
        doing: &'static str,
        /// Which database.
        path: Location,
        /// What the database said.
        what: String,
    },
    /// The database holds something that cannot be.
    #[error("{path} is damaged: {what}: restore a backup")]
    Damaged {
        /// Which database.
        path: Location,
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
    /// More people would be told of a change than may be at once.
    #[error(
        "{found} people would be told of this change, in more combinations of app and mailbox than may be told at once \
         ({most} people): change fewer units at a time, or do not ask for notices"
    )]
    TooManyToTell {
        /// Who loses access.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// The policy file names members nobody knows.
    #[error(transparent)]
    Policy(#[from] FileError),
    /// Any other failure.
    #[error("database {path}: {doing} failed: {source}")]
    Sql {
        /// What was being done.
        doing: &'static str,
        /// Which database.
        path: Location,
        /// What the driver said.
        #[source]
        source: sqlx::Error,
    },
}

impl StoreError {
    /// Who has to mend it: the settings, or the database we depend on.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Url { .. } | Self::Policy(_) | Self::Stale { .. } | Self::TooManyToTell { .. } => Blame::Us,
            _ => Blame::Dependency,
        }
    }

    /// Sorts a driver's error by what the database said.
    pub(super) fn sql(doing: &'static str, path: &Location, source: sqlx::Error) -> Self {
        if path.is_server() { Self::server(doing, path, source) } else { Self::file(doing, path, source) }
    }

    /// By SQLite's primary result code (sqlite.org/rescode.html).
    fn file(doing: &'static str, path: &Location, source: sqlx::Error) -> Self {
        let path = path.clone();
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

    /// By SQLSTATE (PostgreSQL's manual, appendix A), or by how the connection broke.
    fn server(doing: &'static str, path: &Location, source: sqlx::Error) -> Self {
        let path = path.clone();
        let code = match &source {
            sqlx::Error::Database(error) => error.code().unwrap_or_default().into_owned(),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => return Self::Unreachable { doing, path, source },
            _ => String::new(),
        };
        match code.as_str() {
            // What the server says of these holds the user's name and no password.
            "28P01" | "28000" => Self::Denied { path, what: source.to_string() },
            "3D000" => Self::NoDatabase { path },
            // Lock not available, deadlock, serialization failure.
            "55P03" | "40P01" | "40001" => Self::Locked { doing, path },
            // Insufficient privilege, no schema to make tables in, read-only (a standby), disk full.
            "42501" | "3F000" | "25006" | "53100" => Self::NotWritable { doing, path, what: source.to_string() },
            // Shutting down, crashed, starting up, too many connections, broken connections.
            "57P01" | "57P02" | "57P03" | "53300" => Self::Unreachable { doing, path, source },
            code if code.starts_with("08") => Self::Unreachable { doing, path, source },
            "XX001" | "XX002" => Self::Damaged { path, what: source.to_string() },
            _ => Self::Sql { doing, path, source },
        }
    }
}
