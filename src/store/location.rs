//! Which database: what `database.url` names, as a value that can be printed. Used by the whole room.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, sync::Arc};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{Settings, StoreError};

/// Where the database is. Never holds a password, so that every message may name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// An SQLite file.
    File(PathBuf),
    /// A database of a PostgreSQL server: its URL, with the user, host and port (or the folder of the server's socket) and
    /// database that are really meant, and nothing else.
    Server(Arc<str>),
}

impl Location {
    /// Reads `database.url`; nothing is opened.
    pub(super) fn of(settings: &Settings) -> Result<Self, StoreError> {
        let url = settings.url.reveal();
        if ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Self::server(&server_options(settings)?);
        }
        let Some(file) = url.strip_prefix("sqlite:") else {
            return Err(StoreError::Url { problem: "is of a kind this version does not know" });
        };
        let file = file.strip_prefix("//").unwrap_or(file);
        if file.is_empty() || file.contains('?') {
            return Err(StoreError::Url { problem: "names no plain file" });
        }
        if file.contains(":memory:") {
            return Err(StoreError::Url { problem: "keeps nothing: a database in memory" });
        }
        Ok(Self::File(settings.data_dir.join(file)))
    }

    fn server(options: &PgConnectOptions) -> Result<Self, StoreError> {
        let user = options.get_username().to_owned();
        // As PostgreSQL's own programs do: without a name, the user's.
        let database = options.get_database().unwrap_or(&user).to_owned();
        if database.is_empty() {
            return Err(StoreError::Url { problem: "names no database on that server" });
        }
        let host = match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None if options.get_host().starts_with('/') => options.get_host().to_owned(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        Ok(Self::Server(format!("postgres://{user}@{host}/{database}").into()))
    }

    /// Whether it is PostgreSQL, which several processes on several machines write at once.
    pub fn is_server(&self) -> bool {
        matches!(self, Self::Server(_))
    }

    /// What a transaction begins with that will write. SQLite takes its one write lock at once: a transaction that reads
    /// first and writes later could find the database changed in between.
    pub(super) fn begin_writing(&self) -> &'static str {
        if self.is_server() { "BEGIN ISOLATION LEVEL READ COMMITTED" } else { "BEGIN IMMEDIATE" }
    }

    /// What a transaction begins with that reads several rows of one moment.
    pub(super) fn begin_reading(&self) -> &'static str {
        if self.is_server() { "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY" } else { "BEGIN" }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Server(url) => f.write_str(url),
        }
    }
}

/// The server's address with all that belongs to signing in there. A password that the URL does not have comes from
/// `PGPASSWORD` or the file that `PGPASSFILE` names, as for PostgreSQL's own programs.
pub(super) fn server_options(settings: &Settings) -> Result<PgConnectOptions, StoreError> {
    PgConnectOptions::from_str(settings.url.reveal())
        .map(|options| options.application_name("portcullis"))
        .map_err(|_| StoreError::Url { problem: "is no address of a PostgreSQL database" })
}

/// What `check` and a start should warn of: a server on another machine whose identity nothing proves. Between the two
/// somebody could read the password's proof and write the policy.
pub(super) fn warning(settings: &Settings) -> Option<String> {
    let location = Location::of(settings).ok().filter(Location::is_server)?;
    let options = server_options(settings).ok()?;
    let host = options.get_host().trim_matches(['[', ']']);
    let is_here = options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let is_proven = matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    (!is_here && !is_proven).then(|| {
        format!(
            "{location}: nothing proves that this server is the right one: add sslmode=verify-full, and sslrootcert=FILE for \
             an authority of your own, to database.url"
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Secret;

    #[test]
    fn a_location_is_told_without_the_password() {
        for (url, told) in [
            ("sqlite:portcullis.db", "/data/portcullis.db"),
            ("sqlite:///srv/gate.db", "/srv/gate.db"),
            ("postgres://gate:hunter2@db.example.com/mail", "postgres://gate@db.example.com:5432/mail"),
            ("postgresql://gate:hunter2@[::1]:6000/mail?sslmode=disable", "postgres://gate@[::1]:6000/mail"),
            ("postgres://gate:hunter2@db/", "postgres://gate@db:5432/gate"),
            ("postgres:///mail?host=/run/postgresql&user=gate", "postgres://gate@/run/postgresql/mail"),
        ] {
            let settings = Settings { url: Secret::new(url), ..Settings::in_dir("/data") };
            assert_eq!(Location::of(&settings).unwrap().to_string(), told, "{url}");
            assert!(!format!("{settings:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_server_elsewhere_whose_certificate_is_not_checked_is_warned_of() {
        for (url, warned) in [
            ("sqlite:portcullis.db", false),
            ("postgres://gate@localhost/mail", false),
            ("postgres://gate@127.0.0.1/mail?sslmode=disable", false),
            ("postgres://gate@[::1]/mail", false),
            ("postgres:///mail?host=/run/postgresql&user=gate", false),
            ("postgres://gate@db.example.com/mail?sslmode=verify-full", false),
            ("postgres://gate@db.example.com/mail?sslmode=verify-ca", false),
            ("postgres://gate:hunter2@db.example.com/mail", true),
            ("postgres://gate@192.0.2.1/mail?sslmode=require", true),
        ] {
            let settings = Settings { url: Secret::new(url), ..Settings::in_dir("/data") };
            let told = warning(&settings);
            assert_eq!(told.is_some(), warned, "{url}: {told:?}");
            assert!(!told.unwrap_or_default().contains("hunter2"));
        }
    }
}
