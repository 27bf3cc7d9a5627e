//! Opening the database: the file or the server, the session's settings, whose it is, its schema. Called by `Store::open`
//! and `AuditLog::open`.

use std::{
    fs::{self, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use sqlx::{
    AnyConnection, AnyPool, Connection, Row,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::{MigrateError, Migrator},
};
use tokio::time::timeout;

use super::{Location, Settings, StoreError, schema};

/// Connections to a file: one writes at a time, the others read.
const CONNECTIONS: u32 = 4;
/// Connections to a server: there, the audit log is written beside the others.
const SERVER_CONNECTIONS: u32 = 8;
/// How long whoever needs a connection to a file waits for one.
const WAIT: Duration = Duration::from_secs(10);
/// The same for a server, the way there included. Two of these fit into the ten seconds that an end may take.
pub(super) const SERVER_WAIT: Duration = Duration::from_secs(4);
/// The first connection to a server may take a name server that does not answer.
const FIRST_WAIT: Duration = Duration::from_secs(10);

/// WAL keeps readers going beside the writer; FULL, because a revocation that was acknowledged must survive a power
/// cut (with NORMAL a committed transaction may be rolled back by one). Each connection may keep 512 KiB of pages: what it
/// reads again stands in the system's cache too, and decisions read the snapshot.
const PRAGMAS: [&str; 4] = [
    "PRAGMA busy_timeout = 5000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -512",
];

/// What a session on a server is set to. A lock that another node holds is waited for as long as SQLite's; a node that is
/// cut off in the middle of a write gives its lock back. Notices are about tables that are there already.
const SERVER_SESSION: [&str; 3] = [
    "SET lock_timeout = '5s'",
    "SET idle_in_transaction_session_timeout = '60s'",
    "SET client_min_messages = warning",
];

/// Opens, or makes, the database and brings its schema up to date.
pub(super) async fn open(settings: &Settings) -> Result<(AnyPool, Location), StoreError> {
    sqlx::any::install_default_drivers();
    let location = Location::of(settings)?;
    // Others keep things there too, also when the database is a server.
    make_dir(&settings.data_dir)?;
    if let Location::File(path) = &location {
        make(path)?;
    }
    let options = options(settings, &location, "rw")?;

    // A connection of its own first: the pool would try a hopeless place again and again.
    let failed = |error| StoreError::sql("opening it", &location, error);
    let mut first = connect(&options, &location).await?;
    // Whose it is comes first: the pragmas leave a mark in the file.
    check_owner(&mut first, &location).await?;
    prepare(&mut first).await.map_err(failed)?;
    migrate(&mut first, &location).await?;
    first.close().await.map_err(failed)?;

    let server = location.is_server();
    let pool = AnyPoolOptions::new()
        .max_connections(if server { SERVER_CONNECTIONS } else { CONNECTIONS })
        .acquire_timeout(if server { SERVER_WAIT } else { WAIT })
        // What is in this process cannot have gone away meanwhile; a server can.
        .test_before_acquire(server)
        .after_connect(|connection, _| Box::pin(prepare(connection)))
        .connect_with(options)
        .await
        .map_err(failed)?;
    Ok((pool, location))
}

/// One connection, or why there is none.
pub(super) async fn connect(options: &AnyConnectOptions, location: &Location) -> Result<AnyConnection, StoreError> {
    match timeout(FIRST_WAIT, AnyConnection::connect_with(options)).await {
        Ok(connected) => connected.map_err(|error| StoreError::sql("opening it", location, error)),
        Err(_) => Err(StoreError::sql("opening it", location, sqlx::Error::PoolTimedOut)),
    }
}

/// `mode` is what SQLite may do to the file.
pub(super) fn options(
    settings: &Settings,
    location: &Location,
    mode: &str,
) -> Result<AnyConnectOptions, StoreError> {
    let unreadable = |_| StoreError::Url { problem: "cannot be read" };
    let path = match location {
        Location::File(path) => path,
        Location::Server(_) => {
            let mut options: AnyConnectOptions = settings.url.reveal().parse().map_err(unreadable)?;
            if !options.database_url.query_pairs().any(|(key, _)| key == "application_name") {
                options.database_url.query_pairs_mut().append_pair("application_name", "portcullis");
            }
            return Ok(options);
        }
    };
    url_of(path, mode)?.parse().map_err(unreadable)
}

fn is_server(connection: &AnyConnection) -> bool {
    connection.backend_name() != "SQLite"
}

async fn prepare(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let statements = if is_server(connection) { &SERVER_SESSION[..] } else { &PRAGMAS[..] };
    for statement in statements {
        sqlx::query(*statement).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Makes a directory for its owner alone, if there is none.
fn make_dir(path: &Path) -> Result<(), StoreError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| StoreError::File { doing: "create", path: path.to_owned(), source })
}

/// Makes the directory and the file for their owner alone. An existing file is not touched: to open and close it here
/// would drop the locks SQLite holds on it elsewhere in this process (POSIX `fcntl` locks).
fn make(path: &Path) -> Result<(), StoreError> {
    if let Some(above) = path.parent() {
        make_dir(above)?;
    }
    if path.is_dir() {
        return Err(StoreError::NotADatabase { path: Location::File(path.to_owned()) });
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(StoreError::File { doing: "create", path: path.to_owned(), source }),
    }
}

/// `mode` is `rw` or `ro`: a file that vanished while we run is an error, not a fresh and empty database.
fn url_of(path: &Path, mode: &str) -> Result<String, StoreError> {
    let path = path.to_str().ok_or(StoreError::Url { problem: "names a file that is not UTF-8" })?;
    let mut url = String::from("sqlite://");
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url.push_str("?mode=");
    url.push_str(mode);
    Ok(url)
}

/// Refuses a database with tables of another program.
pub(super) async fn check_owner(connection: &mut AnyConnection, location: &Location) -> Result<(), StoreError> {
    let names = tables(connection).await.map_err(|error| StoreError::sql("reading its tables", location, error))?;
    let ours = names.iter().any(|name| name == "portcullis");
    // The migrations' own table may stand alone: a first start that was cut off.
    let others = names.iter().any(|name| name != "_sqlx_migrations" && !name.starts_with("sqlite_"));
    if others && !ours {
        return Err(StoreError::Foreign { path: location.clone() });
    }
    Ok(())
}

/// The names of the tables there are; on a server, of the schema that new tables would go to.
pub(super) async fn tables(connection: &mut AnyConnection) -> Result<Vec<String>, sqlx::Error> {
    let sql = if is_server(connection) {
        "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = current_schema()"
    } else {
        "SELECT name FROM sqlite_master WHERE type = 'table'"
    };
    let rows = sqlx::query(sql).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Two processes may start on a new database at once: whoever comes second finds the work done at the next try.
async fn migrate(connection: &mut AnyConnection, location: &Location) -> Result<(), StoreError> {
    let migrator = Migrator::with_migrations(schema::migrations(location));
    let mut tries_left = 5;
    loop {
        let error = match migrator.run(&mut *connection).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        tries_left -= 1;
        match error {
            MigrateError::VersionMissing(version) => {
                return Err(StoreError::Newer { path: location.clone(), version });
            }
            MigrateError::VersionMismatch(_) | MigrateError::Dirty(_) => {
                return Err(StoreError::Damaged { path: location.clone(), what: error.to_string() });
            }
            MigrateError::Execute(_) | MigrateError::ExecuteMigration(..) if tries_left > 0 => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
                return Err(StoreError::sql("making its tables", location, source));
            }
            other => {
                let source = sqlx::Error::Migrate(Box::new(other));
                return Err(StoreError::sql("making its tables", location, source));
            }
        }
    }
}
