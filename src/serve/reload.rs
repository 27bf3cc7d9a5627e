//! What is read again when it changes on disk or on SIGHUP: certificates and keys, JWKS files, the policy file, and the
//! files of upstreams. A file that is wrong changes nothing and is reported; the sessions that are open never notice a
//! reload as such.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use aws_lc_rs::digest;
use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{signal::unix::Signal, sync::mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::{check::no_such_homes, in_one_line, systemd::Manager};
use crate::config::Config;
use crate::issuer::Issuers;
use crate::model::{Blame, MailHome};
use crate::policy;
use crate::store::{self, Store, StoreError};
use crate::tls::{Certificates, Resolver};
use crate::upstream::{self, Homes, Upstreams};

/// An editor writes a file in several steps; what comes within this time is one change.
const SETTLE: Duration = Duration::from_millis(50);
/// So many times, then the file is read as it is: a change has to be in effect within a second.
const SETTLE_AT_MOST: usize = 6;
/// Where the system cannot tell about changes, files are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Reads again what changed.
pub(super) struct Reload {
    pub(super) config: Config,
    pub(super) resolver: Arc<Resolver>,
    pub(super) store: Arc<Store>,
    pub(super) issuers: Arc<Issuers>,
    pub(super) upstreams: Arc<Upstreams>,
    /// What the files held before anything was read from them at start.
    pub(super) seen: Seen,
    pub(super) hangup: Signal,
    /// Who hears of it.
    pub(super) manager: Arc<Manager>,
}

impl Reload {
    /// Applies the policy file, if there is one, as one transaction.
    pub(super) async fn apply_policy(&self) -> anyhow::Result<()> {
        let Some(file) = self.config.policy_file.clone() else { return Ok(()) };
        let name = file.display().to_string();
        // A file of a million users takes seconds: not on a thread that sessions wait for.
        let homes = self.config.homes();
        let document = tokio::task::spawn_blocking(move || policy_document(&file, &homes)).await??;
        let applied = self.store.apply(&document, &name).await?;
        let store::Applied { number, added, changed, removed, .. } = applied;
        info!(file = name, number, added, changed, removed, "policy applied");
        Ok(())
    }

    /// Logs the homes of mail that the database names and the config does not have, as where an upstream was taken out of it.
    pub(super) async fn tell_unknown_homes(&self) -> anyhow::Result<()> {
        for warning in no_such_homes(&self.store.named_homes().await?, &self.config.homes()) {
            warn!("{warning}");
        }
        Ok(())
    }

    /// Waits for changes and SIGHUP until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (tell, mut told) = mpsc::channel::<()>(1);
        let _ = tell.try_send(()); // what changed between the start and this watch is looked for at once
        // `tell` stays here too: without a watcher nobody would hold it, and `told` would end at once, for ever.
        let _watcher = match self.watcher(tell.clone()) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                warn!(%error, "cannot watch config files; looking every {} s instead", LOOK_EVERY.as_secs());
                None
            }
        };
        // A policy that was read and that the database could not take just then: tried again, or it would stay unknown
        // until somebody saves the file once more.
        let mut owed = false;
        loop {
            let mut asked = false;
            tokio::select! {
                () = stop.cancelled() => return,
                _ = self.hangup.recv() => asked = true,
                _ = told.recv() => settle(&mut told).await,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if asked {
                self.manager.reloading();
            }
            let now = look(&self.config).await;
            if asked || now.differs(&self.seen, Kind::Certificates) {
                self.reload_certificates();
            }
            if asked || now.differs(&self.seen, Kind::Keys) {
                self.reload_keys();
            }
            if asked || now.differs(&self.seen, Kind::Upstreams) {
                self.reload_upstreams();
            }
            if asked || owed || now.differs(&self.seen, Kind::Policy) {
                let Some(applied) = stop.run_until_cancelled(self.apply_policy()).await else { return };
                owed = applied.as_ref().is_err_and(waits_for_database);
                if let Err(error) = applied {
                    error!("policy not applied, nothing changed: {}", in_one_line(&error));
                }
            }
            self.seen = now;
            if asked {
                self.manager.reloaded();
            }
        }
    }

    fn reload_certificates(&self) {
        match certificates(&self.config) {
            Ok(certificates) => {
                self.resolver.replace(certificates);
                info!("certificates read again");
            }
            Err(error) => error!("certificates not read again, the old ones stay: {}", in_one_line(&error)),
        }
    }

    fn reload_keys(&self) {
        for error in self.issuers.reload(SystemTime::now().into()) {
            error!("issuer keys not read again, the old ones stay: {error}");
        }
        info!("issuer keys read again");
    }

    fn reload_upstreams(&self) {
        let read = upstreams(&self.config).and_then(|settings| Ok(self.upstreams.renew(&settings)?));
        match read {
            Ok(()) if self.config.upstreams.is_empty() => {}
            Ok(()) => info!("upstreams' certificates and secrets read again"),
            Err(error) => {
                error!("upstreams' files not read again, the old ones stay: {}", in_one_line(&error));
            }
        }
    }

    /// The folders are watched, not the files: a file that is replaced by a rename is a new file.
    fn watcher(&self, tell: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
        let files: HashSet<PathBuf> = files(&self.config).into_iter().flat_map(|(_, files)| files).collect();
        let folders: HashSet<PathBuf> = files.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect();
        let names: HashSet<_> = files.iter().filter_map(|file| file.file_name()).map(ToOwned::to_owned).collect();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let ours = match event {
                // Reading a file is an event too; only what can change it counts.
                Ok(event) => {
                    let changes = matches!(
                        event.kind,
                        EventKind::Create(_)
                            | EventKind::Modify(_)
                            | EventKind::Remove(_)
                            | EventKind::Access(AccessKind::Close(AccessMode::Write))
                    );
                    changes
                        && event.paths.iter().filter_map(|path| path.file_name()).any(|name| names.contains(name))
                }
                Err(_) => true,
            };
            if ours {
                let _ = tell.try_send(());
            }
        })?;
        for folder in folders {
            let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
            watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    }
}

/// Waits until a writer that works in steps has been quiet for a moment, so that no half-written file is taken for a
/// whole one; not for ever, because somebody may write without end.
async fn settle(told: &mut mpsc::Receiver<()>) {
    for _ in 0..SETTLE_AT_MOST {
        tokio::time::sleep(SETTLE).await;
        if told.try_recv().is_err() {
            return;
        }
    }
}

/// The files that are read again, by what they are.
fn files(config: &Config) -> [(Kind, Vec<PathBuf>); 4] {
    let of = |keys: &[&str]| {
        let named = config.paths().into_iter().filter(|(key, _)| keys.contains(key));
        named.map(|(_, path)| path.to_owned()).collect()
    };
    [
        (Kind::Certificates, of(&["tls.certificate", "tls.private_key"])),
        (Kind::Keys, of(&["issuer.jwks_file"])),
        (Kind::Policy, of(&["policy.file"])),
        (
            Kind::Upstreams,
            of(&[
                "upstream.ca_file",
                "upstream.login.certificate",
                "upstream.login.private_key",
                "upstream.login.secret_file",
            ]),
        ),
    ]
}

/// What all files hold now.
pub(super) async fn look(config: &Config) -> Seen {
    let files = files(config);
    let look = move || {
        let each = files.into_iter().flat_map(|(kind, files)| files.into_iter().map(move |file| (kind, file)));
        Seen(each.map(|(kind, file)| (kind, contents(&file))).collect())
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// A digest of the file, so that neither a private key nor a large policy stays in memory; none if it cannot be read.
fn contents(file: &Path) -> Option<digest::Digest> {
    Some(digest::digest(&digest::SHA256, &Zeroizing::new(std::fs::read(file).ok()?)))
}

/// Whether the same policy may well be taken later.
fn waits_for_database(error: &anyhow::Error) -> bool {
    error.downcast_ref::<StoreError>().is_some_and(|error| error.blame() == Blame::Dependency)
}

/// Reads the certificates; warnings go to the log.
pub(super) fn certificates(config: &Config) -> anyhow::Result<Certificates> {
    match config.certificates(SystemTime::now().into()) {
        Ok((certificates, warnings)) => {
            for warning in warnings {
                warn!("{warning}");
            }
            Ok(certificates)
        }
        Err(errors) => Err(anyhow::anyhow!(lines(&errors))),
    }
}

/// Reads what the upstreams' servers are checked by and what the gateway signs in with.
pub(super) fn upstreams(config: &Config) -> anyhow::Result<Vec<upstream::Settings>> {
    config.upstream_settings().map_err(|errors| anyhow::anyhow!(lines(&errors)))
}

/// Reads and parses the policy file, which may name these homes of mail.
pub fn policy_document(file: &Path, homes: &Homes) -> anyhow::Result<policy::file::Document> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{name}: cannot read the policy file; correct policy.file in the config"))?;
    if text.trim().is_empty() {
        // As a file is between being opened for writing and being written; taken at its word it would shut everybody out.
        bail!(
            "{name}: the policy file is empty: write at least [unit.\"/\"], or take policy.file out of the config"
        );
    }
    let wrong_home = |home: &MailHome| homes.check(home).err().map(|error| (error.what, error.remedy));
    policy::file::parse_for(&text, &wrong_home).map_err(|error| anyhow::anyhow!(error.in_file(name)))
}

/// Several errors as one text, a line each.
pub(super) fn lines<E: std::fmt::Display>(errors: &[E]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What a watched file is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Certificates,
    Keys,
    Policy,
    Upstreams,
}

/// What the files hold, to tell a real change from a touch.
#[derive(Default)]
pub(super) struct Seen(Vec<(Kind, Option<digest::Digest>)>);

impl Seen {
    /// Whether a file of this kind has other contents than in `before`.
    fn differs(&self, before: &Seen, kind: Kind) -> bool {
        let bytes = |seen: &Option<digest::Digest>| seen.as_ref().map(|digest| digest.as_ref().to_vec());
        let mut pairs = self.0.iter().zip(&before.0);
        self.0.len() != before.0.len() || pairs.any(|(now, then)| now.0 == kind && bytes(&now.1) != bytes(&then.1))
    }
}
