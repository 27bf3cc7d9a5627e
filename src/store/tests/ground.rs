//! What a test of the store stands on: a file of SQLite, or a database of a private PostgreSQL server.

#[path = "../../../tests/support/postgres.rs"]
#[allow(dead_code)]
pub(in crate::store) mod postgres;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex},
};

use crate::model::Secret;
use crate::store::Settings;

/// What `Settings::in_dir` has for this room's tests: SQLite, or, where `PORTCULLIS_TEST_DATABASE=postgres` asks for it, one
/// database of PostgreSQL for each directory.
pub(in crate::store) fn url_in(dir: &Path) -> Secret {
    static MADE: LazyLock<Mutex<HashMap<PathBuf, String>>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap();
    if let Some(url) = made.get(dir) {
        return Secret::new(url);
    }
    let Some(url) = postgres::wished() else { return Secret::new(SQLITE) };
    made.insert(dir.to_owned(), url.clone());
    Secret::new(url)
}

const SQLITE: &str = "sqlite:portcullis.db";

/// A database that is empty and the test's own.
pub(in crate::store) struct Ground {
    pub(in crate::store) dir: tempfile::TempDir,
    url: String,
}

impl Ground {
    pub(in crate::store) fn sqlite() -> Option<Self> {
        Some(Self { dir: tempfile::tempdir().unwrap(), url: SQLITE.to_owned() })
    }

    /// `None` where PostgreSQL is not installed.
    pub(in crate::store) fn postgres() -> Option<Self> {
        Some(Self { url: postgres::shared()?.database(), ..Self::sqlite()? })
    }

    /// For opening it.
    pub(in crate::store) fn settings(&self) -> Settings {
        Settings { url: Secret::new(&self.url), ..Settings::in_dir(self.dir.path()) }
    }
}

/// Makes two tests of each function that takes a [`Ground`]: one on SQLite, one on PostgreSQL.
macro_rules! on_both {
    ($($(#[$attribute:meta])* $name:ident;)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            $(#[$attribute])*
            async fn $name() {
                super::$name(super::Ground::sqlite().unwrap()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            $(#[$attribute])*
            async fn $name() {
                if let Some(ground) = super::Ground::postgres() {
                    super::$name(ground).await;
                }
            })*
        }
    };
}
pub(in crate::store) use on_both;
