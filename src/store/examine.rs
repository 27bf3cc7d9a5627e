//! A look at the database that changes nothing: no file made, no table, no row. Called by `serve::check` and before a start.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use rustix::fs::Access;
use sqlx::{AnyConnection, Connection, Row};

use super::{Location, NamedHome, Settings, StoreError, named_homes, open, schema};

/// What `database.url` leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Examined {
    /// Nothing yet; a start can make it.
    Missing {
        /// Where.
        path: Location,
    },
    /// Ours, and sound.
    Ready {
        /// Where.
        path: Location,
        /// Whether a start will bring its tables up to date.
        older: bool,
        /// The homes of mail that it names; none where its tables are older.
        homes: Vec<NamedHome>,
    },
}

/// Looks at the database as a start would, reading only.
///
/// Errors are those of [`super::Store::open`].
pub async fn examine(settings: &Settings) -> Result<Examined, StoreError> {
    let location = Location::of(settings)?;
    match location.clone() {
        Location::File(path) => file(settings, location, &path).await,
        Location::Server(_) => server(settings, location).await,
    }
}

async fn file(settings: &Settings, location: Location, path: &Path) -> Result<Examined, StoreError> {
    let above = path.parent().unwrap_or(Path::new("/"));
    let refused = |doing, path: &Path, source| StoreError::File { doing, path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made_in = existing(above);
            writable(made_in).map_err(|source| refused("make the database in", made_in, source))?;
            return Ok(Examined::Missing { path: location });
        }
        Err(source) => return Err(refused("open", path, source)),
        Ok(meta) if !meta.is_file() => return Err(StoreError::NotADatabase { path: location }),
        Ok(_) => {}
    }
    let access = rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK).map_err(io::Error::from);
    access.map_err(|source| refused("write", path, source))?;
    // SQLite keeps its log beside the file.
    writable(above).map_err(|source| refused("write in", above, source))?;

    // Without a log beside it nobody has the file open, and all of it is in the file itself: SQLite then need not make the
    // log to read it.
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let mode = if Path::new(&log).exists() { "ro" } else { "ro&immutable=1" };
    let mut connection = connect(settings, &location, mode).await?;
    open::check_owner(&mut connection, &location).await?;
    let reading = |error| StoreError::sql("reading its tables", &location, error);
    let checked = sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut connection).await.map_err(reading)?;
    let verdict: String = checked.try_get(0).map_err(reading)?;
    if verdict != "ok" {
        return Err(StoreError::Damaged { path: location, what: verdict });
    }
    let older = older(&mut connection, &location).await?;
    let homes = homes(&mut connection, &location, older).await?;
    let closed = connection.close().await;
    closed.map_err(|error| StoreError::sql("opening it", &location, error))?;
    Ok(Examined::Ready { path: location, older, homes })
}

async fn server(settings: &Settings, location: Location) -> Result<Examined, StoreError> {
    let mut connection = connect(settings, &location, "").await?;
    open::check_owner(&mut connection, &location).await?;
    let reading = |error| StoreError::sql("reading its tables", &location, error);
    let tables = open::tables(&mut connection).await.map_err(reading)?;
    // A standby takes no writes; nor does a schema that belongs to another user.
    let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN 'it is a standby' \
               WHEN current_schema() IS NULL THEN 'it has no schema for new tables' \
               WHEN NOT has_schema_privilege(current_schema(), 'CREATE') THEN 'its schema takes no tables of this user' \
               ELSE '' END";
    let row = sqlx::query(sql).fetch_one(&mut connection).await.map_err(reading)?;
    let what: String = row.try_get(0).map_err(reading)?;
    let is_ours = tables.iter().any(|name| name == "portcullis");
    let older = is_ours && older(&mut connection, &location).await?;
    let homes = homes(&mut connection, &location, !is_ours || older).await?;
    let closed = connection.close().await;
    closed.map_err(|error| StoreError::sql("opening it", &location, error))?;
    // Only a start that makes tables needs the right to make them.
    if what.contains("standby") || (!what.is_empty() && (!is_ours || older)) {
        return Err(StoreError::NotWritable { doing: "looking at it", path: location, what });
    }
    Ok(if is_ours {
        Examined::Ready { path: location, older, homes }
    } else {
        Examined::Missing { path: location }
    })
}

/// Whether there is a database, without making one. One that is somebody else's counts as one: opening it tells.
pub(super) async fn is_made(settings: &Settings) -> Result<bool, StoreError> {
    let location = Location::of(settings)?;
    match &location {
        Location::File(path) => Ok(path.exists()),
        Location::Server(_) => {
            let mut connection = connect(settings, &location, "").await?;
            let tables = open::tables(&mut connection).await;
            let tables = tables.map_err(|error| StoreError::sql("reading its tables", &location, error))?;
            // The migrations' own table alone: a first start that was cut off.
            Ok(tables.iter().any(|name| name != "_sqlx_migrations"))
        }
    }
}

async fn connect(settings: &Settings, location: &Location, mode: &str) -> Result<AnyConnection, StoreError> {
    sqlx::any::install_default_drivers();
    open::connect(&open::options(settings, location, mode)?, location).await
}

/// The nearest folder at or above `path` that is there.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("/"))
}

fn writable(folder: &Path) -> io::Result<()> {
    if !fs::metadata(folder)?.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    Ok(rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// The homes of mail that it names; tables that are older may not have the column.
async fn homes(
    connection: &mut AnyConnection,
    location: &Location,
    older: bool,
) -> Result<Vec<NamedHome>, StoreError> {
    if older {
        return Ok(Vec::new());
    }
    let named = named_homes::named(connection).await;
    named.map_err(|error| error.at("reading where mail is", location))
}

/// Whether the tables are older than ours.
async fn older(connection: &mut AnyConnection, location: &Location) -> Result<bool, StoreError> {
    // An empty file, or a first start that was cut off, has no such table.
    let rows = sqlx::query("SELECT version FROM _sqlx_migrations ORDER BY version").fetch_all(connection).await;
    let versions: Vec<i64> = rows.unwrap_or_default().iter().filter_map(|row| row.try_get(0).ok()).collect();
    let ours: Vec<i64> = schema::migrations(location).iter().map(|migration| migration.version).collect();
    match versions.iter().find(|version| !ours.contains(version)) {
        Some(&version) => Err(StoreError::Newer { path: location.clone(), version }),
        None => Ok(versions.len() < ours.len()),
    }
}
