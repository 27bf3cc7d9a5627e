//! The one-time secret that makes the first super admin, and the link that carries it: written where only the gateway's own
//! user can read them, said to whoever starts the gateway at a terminal, never to a log.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use tokio::time::timeout;
use tracing::info;

use crate::model::Secret;
use crate::store::Store;

/// The secret's file in `data_dir`.
pub const BOOTSTRAP: &str = "bootstrap-secret";
/// The link's file in `data_dir`.
const LINK: &str = "bootstrap-link";
/// How long the secret is good; a restart makes a fresh one.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How long the database may take, which has just answered: a process whose place is taken serves nobody meanwhile.
const ANSWER: Duration = Duration::from_secs(10);

/// While nobody administers yet, makes a fresh secret and writes it down; otherwise removes what was written before.
///
/// `console` is the address of the pages (`https://mail.example.com`), where people can sign in there. The link that is
/// returned holds the secret.
pub(super) async fn prepare(
    store: &Store,
    data_dir: &Path,
    console: Option<&str>,
) -> anyhow::Result<Option<Secret>> {
    let (file, link_file) = (data_dir.join(BOOTSTRAP), data_dir.join(LINK));
    for old in [&file, &link_file] {
        if let Err(error) = fs::remove_file(old)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("{}: cannot be removed", old.display()));
        }
    }
    let made = timeout(ANSWER, store.make_bootstrap(LIFETIME, SystemTime::now().into())).await;
    let made = made.with_context(|| format!("the database did not answer within {} s", ANSWER.as_secs()))?;
    let Some(secret) = made? else { return Ok(None) };
    write(&file, &secret)?;
    let Some(console) = console else {
        info!(file = %file.display(), "nobody administers yet: exchange this file's secret by `portcullis bootstrap` within 15 minutes; a start makes a fresh one");
        return Ok(None);
    };
    let link = Secret::new(format!("{console}/bootstrap?secret={}", secret.reveal()));
    write(&link_file, &link)?;
    info!(link_file = %link_file.display(), file = %file.display(), "nobody administers yet: open the link in link_file and sign in, or exchange the secret in file by `portcullis bootstrap`, within 15 minutes; a start makes fresh ones");
    Ok(Some(link))
}

/// A new file for its owner alone.
fn write(file: &Path, secret: &Secret) -> anyhow::Result<()> {
    let mut out = OpenOptions::new();
    out.write(true).create_new(true).mode(0o600);
    let written = out.open(file).and_then(|mut out| writeln!(out, "{}", secret.reveal()));
    written.with_context(|| format!("{}: cannot be written", file.display()))
}
