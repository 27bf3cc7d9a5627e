//! The one-time secret that makes the first super admin: written where only the gateway's own user can read it, never to
//! a log.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use tracing::info;

use crate::store::Store;

/// The file's name in `data_dir`.
pub const BOOTSTRAP: &str = "bootstrap-secret";
/// How long the secret is good; a restart makes a fresh one.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// While nobody administers yet, makes a fresh secret and writes it down; otherwise removes what was written before.
pub(super) async fn prepare(store: &Store, data_dir: &Path) -> anyhow::Result<()> {
    let file = data_dir.join(BOOTSTRAP);
    let old = fs::remove_file(&file);
    if let Err(error) = old
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("{}: cannot be removed", file.display()));
    }
    let Some(secret) = store.make_bootstrap(LIFETIME, SystemTime::now().into()).await? else { return Ok(()) };
    let mut out = OpenOptions::new();
    out.write(true).create_new(true).mode(0o600);
    let written = out.open(&file).and_then(|mut out| writeln!(out, "{}", secret.reveal()));
    written.with_context(|| format!("{}: cannot be written", file.display()))?;
    info!(file = %file.display(), "nobody administers yet: sign in at /bootstrap and enter this file's secret, or exchange it by `portcullis bootstrap`, within 15 minutes; a start makes a fresh one");
    Ok(())
}
