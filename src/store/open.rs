//! Opening the database: the file, its pragmas, whose it is, its schema. Called by `Store::open` and `AuditLog::open`.

use std::{
    fs::{self, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    AnyConnection, AnyPool, Connection, Row,
    any::AnyPoolOptions,
    migrate::{MigrateError, Migrator},
};

use super::{Settings, StoreError, schema};

/// Connections in the pool: one writes at a time, the others read.
const CONNECTIONS: u32 = 4;

/// WAL keeps readers going beside the writer; FULL, because a revocation that was acknowledged must survive a power
/// cut (with NORMAL a committed transaction may be rolled back by one).
const PRAGMAS: [&str; 3] = ["PRAGMA busy_timeout = 5000", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"];

/// Opens, or makes, the database and brings its schema up to date.
pub(super) async fn open(settings: &Settings) -> Result<(AnyPool, PathBuf), StoreError> {
    sqlx::any::install_default_drivers();
    let path = path_of(settings)?;
    make(&path)?;
    let url = url_of(&path, "rw")?;

    // A connection of its own first: the pool would try a hopeless file again and again.
    let failed = |error| StoreError::sql("opening it", &path, error);
    let mut first = AnyConnection::connect(&url).await.map_err(failed)?;
    // Whose it is comes first: the pragmas leave a mark in the file.
    check_owner(&mut first, &path).await?;
    prepare(&mut first).await.map_err(failed)?;
    migrate(&mut first, &path).await?;
    first.close().await.map_err(failed)?;

    let pool = AnyPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(Duration::from_secs(10))
        // What is in this process cannot have gone away meanwhile.
        .test_before_acquire(false)
        .after_connect(|connection, _| Box::pin(prepare(connection)))
        .connect(&url)
        .await
        .map_err(failed)?;
    Ok((pool, path))
}

async fn prepare(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    for pragma in PRAGMAS {
        sqlx::query(pragma).execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) fn path_of(settings: &Settings) -> Result<PathBuf, StoreError> {
    let Some(file) = settings.url.strip_prefix("sqlite:") else {
        return Err(StoreError::Url { problem: "is of a kind this version does not know" });
    };
    let file = file.strip_prefix("//").unwrap_or(file);
    if file.is_empty() || file.contains('?') {
        return Err(StoreError::Url { problem: "names no plain file" });
    }
    if file.contains(":memory:") {
        return Err(StoreError::Url { problem: "keeps nothing: a database in memory" });
    }
    Ok(settings.data_dir.join(file))
}

/// Makes the directory and the file for their owner alone. An existing file is not touched: to open and close it here
/// would drop the locks SQLite holds on it elsewhere in this process (POSIX `fcntl` locks).
fn make(path: &Path) -> Result<(), StoreError> {
    if let Some(above) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(above).map_err(|source| StoreError::File {
            doing: "create",
            path: above.to_owned(),
            source,
        })?;
    }
    if path.is_dir() {
        return Err(StoreError::NotADatabase { path: path.to_owned() });
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(StoreError::File { doing: "create", path: path.to_owned(), source }),
    }
}

/// `mode` is `rw` or `ro`: a file that vanished while we run is an error, not a fresh and empty database.
pub(super) fn url_of(path: &Path, mode: &str) -> Result<String, StoreError> {
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

pub(super) async fn check_owner(connection: &mut AnyConnection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::sql("reading its tables", path, error);
    let rows = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table'").fetch_all(connection).await;
    let mut names = Vec::new();
    for row in rows.map_err(failed)? {
        names.push(row.try_get::<String, _>(0).map_err(failed)?);
    }
    let ours = names.iter().any(|name| name == "portcullis");
    // The migrations' own table may stand alone: a first start that was cut off.
    let others = names.iter().any(|name| name != "_sqlx_migrations" && !name.starts_with("sqlite_"));
    if others && !ours {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    Ok(())
}

/// Two processes may start on a new file at once: whoever comes second finds the work done at the next try.
async fn migrate(connection: &mut AnyConnection, path: &Path) -> Result<(), StoreError> {
    let migrator = Migrator::with_migrations(schema::migrations());
    let mut tries_left = 5;
    loop {
        let error = match migrator.run(&mut *connection).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        tries_left -= 1;
        match error {
            MigrateError::VersionMissing(version) => {
                return Err(StoreError::Newer { path: path.to_owned(), version });
            }
            MigrateError::VersionMismatch(_) | MigrateError::Dirty(_) => {
                return Err(StoreError::Damaged { path: path.to_owned(), what: error.to_string() });
            }
            MigrateError::Execute(_) | MigrateError::ExecuteMigration(..) if tries_left > 0 => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
                return Err(StoreError::sql("making its tables", path, source));
            }
            other => return Err(StoreError::sql("making its tables", path, sqlx::Error::Migrate(Box::new(other)))),
        }
    }
}
