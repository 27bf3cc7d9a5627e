//! The current keys of one issuer: read from a file or fetched, kept while the issuer is down, replaced as a whole.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use moka::sync::Cache;
use reqwest::Url;
use serde::Deserialize;
use tokio_util::task::TaskTracker;

use crate::model::UnixTime;
use crate::token::{KeySet, SkippedKey};

use super::{
    FetchError, IssuerError, KeySource, Limits, Settings, discovery,
    flight::Flights,
    http::{Http, check_address},
};

/// How long an unknown key name is remembered as such. Short, because a new key's first tokens may be faster than
/// its publication; a fresh set that has the key counts at once, whatever is remembered.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// The keys of one issuer.
pub(super) struct Ring {
    issuer: String,
    source: Source,
    max_stale: Duration,
    forced_gap: Duration,
    reply_bytes: usize,
    current: ArcSwapOption<Keys>,
    attempt: Mutex<Attempt>,
    unknown: Cache<String, UnixTime>,
    flights: Arc<Flights<(), Result<Refreshed, FetchError>>>,
}

enum Source {
    File(std::path::PathBuf),
    Fetched { http: Http, start: Start },
}

enum Start {
    Keys(Url),
    Discovery { document: Url, issuer: Url },
}

/// One set of keys and when it was read.
pub(super) struct Keys {
    pub set: KeySet,
    read_at: UnixTime,
    file: Option<Stamp>,
}

/// What tells one state of a file from another.
type Stamp = (Option<SystemTime>, u64, u64, i64, i64);

/// The last refresh that an unknown key name has forced.
#[derive(Default)]
struct Attempt {
    at: Option<UnixTime>,
    failed: bool,
}

/// What a refresh did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refreshed {
    /// Thumbprints of keys that were there before and are not any more.
    pub withdrawn: Vec<String>,
}

/// What became of the search for an unknown key name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// There are newer keys to look at.
    NewKeys,
    /// The issuer does not know it either, or was asked only just now.
    NotThere,
    /// The issuer did not answer: nobody can tell.
    OutOfReach,
}

/// Hears which keys were withdrawn, as soon as they are.
pub(super) type OnWithdrawal = Arc<dyn Fn(&[String]) + Send + Sync>;

impl Ring {
    /// Reads a key file at once; fetched keys come with the first [`Ring::refresh`].
    pub(super) fn new(
        settings: &Settings,
        source: &KeySource,
        limits: &Limits,
        now: UnixTime,
    ) -> Result<Self, IssuerError> {
        let issuer = settings.rules.url.clone();
        let address = |text: &str| {
            check_address(text).map_err(|source| IssuerError::Address { issuer: issuer.clone(), source })
        };
        let http = |url: &Url| {
            let direct = super::http::is_loopback(url);
            Http::new(settings, direct)
        };
        let source = match source {
            KeySource::File(file) => Source::File(file.clone()),
            KeySource::Url(url) => {
                let url = address(url)?;
                Source::Fetched { http: http(&url)?, start: Start::Keys(url) }
            }
            KeySource::Discovery => {
                let (document, issuer) = (address(&settings.well_known())?, address(&settings.rules.url)?);
                Source::Fetched { http: http(&document)?, start: Start::Discovery { document, issuer } }
            }
        };
        let ring = Self {
            issuer: issuer.clone(),
            source,
            max_stale: settings.max_stale,
            forced_gap: settings.forced_gap,
            reply_bytes: settings.reply_bytes,
            current: ArcSwapOption::empty(),
            attempt: Mutex::new(Attempt::default()),
            unknown: Cache::new(limits.unknown_keys),
            flights: Flights::new(),
        };
        ring.reload_file(now)?;
        Ok(ring)
    }

    /// The keys, if there are any and they are not too old: a file's never are.
    pub(super) fn usable(&self, now: UnixTime) -> Option<Arc<Keys>> {
        let keys = self.current.load_full()?;
        let fresh = keys.file.is_some() || now <= keys.read_at + self.max_stale;
        fresh.then_some(keys)
    }

    /// How long ago the current set was read.
    pub(super) fn age(&self, now: UnixTime) -> Option<Duration> {
        self.current.load().as_ref().map(|keys| keys.read_at.until(now))
    }

    /// True if a key with this thumbprint is in the current set, however old that is.
    pub(super) fn contains(&self, thumbprint: &str) -> bool {
        self.current.load().as_ref().is_some_and(|keys| keys.set.contains(thumbprint))
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    /// Reads the key file again; does nothing for fetched keys. A file that cannot be used changes nothing.
    pub(super) fn reload_file(&self, now: UnixTime) -> Result<Refreshed, IssuerError> {
        let Source::File(file) = &self.source else { return Ok(Refreshed::default()) };
        let unreadable = |source| IssuerError::KeyFile { issuer: self.issuer.clone(), file: file.clone(), source };
        let (bytes, stamp) = read_file(file, self.reply_bytes).map_err(unreadable)?;
        let (set, skipped) = KeySet::parse(&bytes).map_err(|source| IssuerError::KeySet {
            issuer: self.issuer.clone(),
            file: file.clone(),
            source,
        })?;
        Ok(self.replace(Keys { set, read_at: now, file: Some(stamp) }, &skipped))
    }

    /// True if the key file is not what it was when it was read.
    pub(super) fn file_changed(&self) -> bool {
        let Source::File(file) = &self.source else { return false };
        let seen = self.current.load().as_ref().and_then(|keys| keys.file);
        std::fs::metadata(file).is_ok_and(|now| Some(stamp(&now)) != seen)
    }

    /// Asks the issuer for its keys, together with whoever else wants to know now. Calls `withdrawn` if keys are
    /// gone.
    pub(super) async fn refresh(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        now: UnixTime,
        withdrawn: &OnWithdrawal,
    ) -> Result<Refreshed, FetchError> {
        let question = || Some(self.clone().ask(now, withdrawn.clone()));
        self.flights.join((), tasks, question).await.unwrap_or_else(|| Err(self.died()))
    }

    /// Looks for a key name that the set `seen` does not have: asks the issuer, but not more often than once per
    /// `forced_gap`, whatever the mix of names; and not at all for a name that was only just found missing.
    pub(super) async fn search(
        self: &Arc<Self>,
        kid: Option<&str>,
        seen: Option<&Arc<Keys>>,
        tasks: &TaskTracker,
        now: UnixTime,
        withdrawn: &OnWithdrawal,
    ) -> Search {
        let newer = || match (self.current.load_full(), seen) {
            (Some(current), Some(seen)) => !Arc::ptr_eq(&current, seen),
            (_, None) => self.usable(now).is_some(),
            (None, Some(_)) => false,
        };
        if newer() {
            return Search::NewKeys;
        }
        if self.is_file() {
            return Search::NotThere;
        }
        let known_missing = |at: UnixTime| now < at + UNKNOWN_FOR && at <= now;
        if kid.and_then(|kid| self.unknown.get(kid)).is_some_and(known_missing) {
            return Search::NotThere;
        }
        let question = || self.may_force(now).then(|| self.clone().ask(now, withdrawn.clone()));
        let answer = self.flights.join((), tasks, question).await;
        if newer() && answer.as_ref().is_none_or(Result::is_ok) {
            if let Some(kid) = kid.filter(|kid| !self.current.load().as_ref().is_some_and(|k| k.set.names(kid))) {
                self.unknown.insert(kid.to_owned(), now);
            }
            return Search::NewKeys;
        }
        match answer {
            Some(Ok(_)) => Search::NotThere,
            Some(Err(_)) => Search::OutOfReach,
            None if self.attempt.lock().unwrap_or_else(PoisonError::into_inner).failed => Search::OutOfReach,
            None => Search::NotThere,
        }
    }

    /// True at most once per `forced_gap`; notes the attempt.
    fn may_force(&self, now: UnixTime) -> bool {
        let mut attempt = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        if attempt.at.is_some_and(|at| at <= now && now < at + self.forced_gap) {
            return false;
        }
        attempt.at = Some(now);
        true
    }

    async fn ask(self: Arc<Self>, now: UnixTime, withdrawn: OnWithdrawal) -> Result<Refreshed, FetchError> {
        let answer = self.fetch().await;
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner).failed = answer.is_err();
        match answer {
            Ok((set, skipped)) => {
                let refreshed = self.replace(Keys { set, read_at: now, file: None }, &skipped);
                if !refreshed.withdrawn.is_empty() {
                    withdrawn(&refreshed.withdrawn);
                }
                Ok(refreshed)
            }
            Err(error) => {
                tracing::warn!(issuer = %self.issuer, %error, "the issuer's keys could not be refreshed");
                Err(error)
            }
        }
    }

    async fn fetch(&self) -> Result<(KeySet, Vec<SkippedKey>), FetchError> {
        let Source::Fetched { http, start } = &self.source else { return Err(self.died()) };
        let url = match start {
            Start::Keys(url) => url.clone(),
            Start::Discovery { document, issuer } => {
                let body = http.get(document).await?;
                keys_address(&body, document, issuer, &self.issuer)?
            }
        };
        let body = http.get(&url).await?;
        KeySet::parse(&body).map_err(|source| FetchError::KeySet { url: url.to_string(), source })
    }

    fn replace(&self, keys: Keys, skipped: &[SkippedKey]) -> Refreshed {
        let keys = Arc::new(keys);
        // Swapped, not loaded and stored: each set's predecessor is compared exactly once, whoever else replaces it
        // now.
        let before = self.current.swap(Some(keys.clone()));
        let old = before.as_ref().map(|keys| keys.set.keys()).unwrap_or_default();
        let names: Vec<&str> = keys.set.keys().iter().map(|key| key.name()).collect();
        let gone = old.iter().map(|key| key.thumbprint()).filter(|key| !keys.set.contains(key));
        let withdrawn: Vec<String> = gone.map(str::to_owned).collect();
        if old.len() != names.len() || !withdrawn.is_empty() {
            let gone = withdrawn.len();
            tracing::info!(issuer = %self.issuer, keys = ?names, withdrawn = gone, "the issuer's keys changed");
            for key in skipped {
                tracing::warn!(issuer = %self.issuer, %key, "a key of the issuer cannot be used");
            }
        }
        Refreshed { withdrawn }
    }

    fn died(&self) -> FetchError {
        FetchError::NoAnswer { url: self.issuer.clone(), problem: "the question was given up".into() }
    }
}

fn stamp(file: &Metadata) -> Stamp {
    (file.modified().ok(), file.len(), file.ino(), file.ctime(), file.ctime_nsec())
}

/// The file and its stamp from before it was read, so that a write in between is seen as a change.
fn read_file(file: &Path, limit: usize) -> std::io::Result<(Vec<u8>, Stamp)> {
    let before = std::fs::metadata(file)?;
    if before.len() > limit as u64 {
        return Err(std::io::Error::other(format!("it is larger than {limit} bytes (jwks.reply_bytes)")));
    }
    Ok((std::fs::read(file)?, stamp(&before)))
}

/// The member of a configuration document that matters here.
#[derive(Deserialize)]
struct Document {
    jwks_uri: String,
}

/// The address of the keys out of a configuration document: they have to lie at the issuer's origin, so that a document
/// cannot send us to an address inside our own network.
fn keys_address(body: &[u8], document: &Url, issuer: &Url, name: &str) -> Result<Url, FetchError> {
    let read: Document = discovery::read(body, document, name, "\"issuer\" and \"jwks_uri\"")?;
    let url = check_address(&read.jwks_uri)?;
    if url.origin() != issuer.origin() {
        let problem = format!(
            "its jwks_uri {url} is at another origin than the issuer; if that is right, set jwks_url to it"
        );
        return Err(FetchError::Content { url: document.to_string(), problem });
    }
    Ok(url)
}
