//! The promises of the mail store, against real files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::*;
use crate::model::{UnixTime, UserId};

mod basics;
mod brief;
mod crowd;
mod deeds;
mod extras;
mod faults;
mod folders;
mod measure;
mod mend;
mod picture;
mod power;
mod replace;
mod resync;
mod rig;
mod sessions;
mod sweep;

/// A store in a directory of its own, with Ann's mail open.
struct World {
    dir: tempfile::TempDir,
    store: Option<Arc<Mail>>,
    mail: Maildir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, mail) = open(dir.path(), None).await;
        Self { dir, store: Some(store), mail }
    }

    /// Where Ann's INBOX lies.
    fn home(&self) -> PathBuf {
        self.dir.path().join("example.com/ann")
    }

    /// Everything is dropped without a word of farewell, and opened anew.
    async fn restart(self) -> Self {
        self.restart_with(None).await
    }

    async fn restart_with(mut self, faults: seam::Faults) -> Self {
        drop(self.store.take());
        let (store, mail) = open(self.dir.path(), faults).await;
        Self { dir: self.dir, store: Some(store), mail }
    }

    async fn inbox(&self) -> View {
        self.mail.view("INBOX", Mode::ReadWrite).await.unwrap()
    }

    /// Delivers as an MTA does: into `tmp`, then renamed to `new`.
    fn deliver(&self, name: &str, bytes: &[u8]) {
        let (tmp, new) = (self.home().join("tmp").join(name), self.home().join("new").join(name));
        fs::write(&tmp, bytes).unwrap();
        fs::rename(tmp, new).unwrap();
    }

    async fn append(&self, folder: &str, bytes: &[u8], flags: Flags, keywords: &[&str]) -> (u32, u32) {
        let mut appending = self.mail.append(folder).await.unwrap();
        appending.write(bytes).await.unwrap();
        appending.finish(flags, keywords, None).await.unwrap()
    }

    fn files(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = ["new", "cur"]
            .iter()
            .flat_map(|sub| fs::read_dir(self.home().join(folder).join(sub)).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Numbers that a seed decides (xorshift).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

/// A directory in memory where there is one: calls are counted there, not waited for.
fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

async fn open(root: &Path, faults: seam::Faults) -> (Arc<Mail>, Maildir) {
    let settings = Settings { root: root.to_owned(), limits: Limits::default() };
    let store = Mail::with_faults(settings, faults).unwrap();
    let mail = store.open_for(&UserId::parse("ann@example.com").unwrap()).await.unwrap();
    (store, mail)
}

async fn bytes(view: &View, seq: u32) -> Vec<u8> {
    view.read(seq).await.unwrap().all(usize::MAX).await.unwrap()
}

/// Waits for the view to be told of something.
async fn news(view: &mut View) -> Vec<Update> {
    tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            let updates = view.sync(true);
            if !updates.is_empty() {
                return updates;
            }
            view.changed().await;
        }
    })
    .await
    .expect("news within five seconds")
}
