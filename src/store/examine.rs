//! A look at the database that changes nothing: no file made, no table, no row. Called by `serve::check` and before a start.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use rustix::fs::Access;
use sqlx::{AnyConnection, Connection, Row};

use super::{Settings, StoreError, open, schema};

/// What `database.url` leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Examined {
    /// Nothing yet; a start can make it.
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// Ours, and sound.
    Ready {
        /// Where.
        path: PathBuf,
        /// Whether a start will bring its tables up to date.
        older: bool,
    },
}

/// Looks at the database as a start would, reading only.
///
/// Errors are those of [`super::Store::open`].
pub async fn examine(settings: &Settings) -> Result<Examined, StoreError> {
    let path = open::path_of(settings)?;
    let above = path.parent().unwrap_or(Path::new("/"));
    let refused = |doing, path: &Path, source| StoreError::File { doing, path: path.to_owned(), source };
    match fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made_in = existing(above);
            writable(made_in).map_err(|source| refused("make the database in", made_in, source))?;
            return Ok(Examined::Missing { path });
        }
        Err(source) => return Err(refused("open", &path, source)),
        Ok(meta) if !meta.is_file() => return Err(StoreError::NotADatabase { path }),
        Ok(_) => {}
    }
    let access = rustix::fs::access(&path, Access::READ_OK | Access::WRITE_OK).map_err(io::Error::from);
    access.map_err(|source| refused("write", &path, source))?;
    // SQLite keeps its log beside the file.
    writable(above).map_err(|source| refused("write in", above, source))?;
    let older = read(&path).await?;
    Ok(Examined::Ready { path, older })
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

/// Whether the tables are older than ours.
async fn read(path: &Path) -> Result<bool, StoreError> {
    sqlx::any::install_default_drivers();
    // Without a log beside it nobody has the file open, and all of it is in the file itself: SQLite then need not make the
    // log to read it.
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let mode = if Path::new(&log).exists() { "ro" } else { "ro&immutable=1" };
    let url = open::url_of(path, mode)?;
    let failed = |error| StoreError::sql("opening it", path, error);
    let mut connection = AnyConnection::connect(&url).await.map_err(failed)?;
    open::check_owner(&mut connection, path).await?;
    let reading = |error| StoreError::sql("reading its tables", path, error);
    let checked = sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut connection).await.map_err(reading)?;
    let verdict: String = checked.try_get(0).map_err(reading)?;
    if verdict != "ok" {
        return Err(StoreError::Damaged { path: path.to_owned(), what: verdict });
    }
    // An empty file, or a first start that was cut off, has no such table.
    let rows =
        sqlx::query("SELECT version FROM _sqlx_migrations ORDER BY version").fetch_all(&mut connection).await;
    let versions: Vec<i64> = rows.unwrap_or_default().iter().filter_map(|row| row.try_get(0).ok()).collect();
    connection.close().await.map_err(failed)?;
    let ours: Vec<i64> = schema::migrations().iter().map(|migration| migration.version).collect();
    match versions.iter().find(|version| !ours.contains(version)) {
        Some(&version) => Err(StoreError::Newer { path: path.to_owned(), version }),
        None => Ok(versions.len() < ours.len()),
    }
}
