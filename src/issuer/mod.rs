//! The issuers whose tokens are believed: their keys (from a file, an address, or discovery), their answers about
//! opaque tokens, and the memory of tokens already believed. The only room that talks with issuers; `token` judges
//! what they say. Called by `gate` and built by `serve`. Imports `model` and `token`.

mod ask;
mod discovery;
mod endpoints;
mod events;
mod flight;
mod http;
mod memory;
mod refresh;
mod ring;
mod settings;
mod sign_in;

use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use self::{
    ask::Asker,
    endpoints::Finder,
    memory::{Believed, Memory},
    ring::{Keys, OnWithdrawal, Ring, Search},
    sign_in::Desk,
};
use crate::model::{Blame, Secret, Service, UnixTime};
use crate::token::{self, Diagnosis, Fingerprint, Identity, JsonError, KeySet, Rules, TokenError, peek_issuer};

pub use endpoints::Endpoints;
pub use http::FetchError;
pub use settings::{Introspection, IssuerError, KeySource, Limits, Settings, SignInClient};
pub use sign_in::{Question, Returned, SignInError};

/// Every configured issuer.
pub struct Issuers {
    list: Vec<Issuer>,
    memory: Arc<Memory>,
    /// Places for signatures being checked or waiting for it.
    queue: Arc<Semaphore>,
    /// Places for signatures being checked.
    workers: Arc<Semaphore>,
    max_token: usize,
    tasks: TaskTracker,
    withdrawn: OnWithdrawal,
}

struct Issuer {
    settings: Settings,
    openid_configuration: Option<String>,
    ring: Option<Arc<Ring>>,
    asker: Option<Arc<Asker>>,
    finder: Arc<Finder>,
    desk: Option<Desk>,
}

/// How one issuer stands: without usable keys its people cannot come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing<'a> {
    /// The issuer's address.
    pub issuer: &'a str,
    /// Keys that tokens can be checked with now; none for an issuer of opaque tokens.
    pub usable_keys: Option<usize>,
    /// How long ago its keys were read, usable or not; none while there are none.
    pub age: Option<Duration>,
}

/// Why a token yields no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// The token is not believed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Nobody can tell now; another time may be better.
    #[error("{outage} (issuer {issuer})")]
    Unavailable {
        /// The issuer's address.
        issuer: String,
        /// What is missing.
        outage: Outage,
    },
}

/// What is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Outage {
    /// No keys yet, or only ones that are too old, or a new key that cannot be fetched.
    #[error("the issuer's keys are out of reach")]
    Keys,
    /// The introspection endpoint does not answer, or not as it should.
    #[error("the issuer's introspection endpoint is out of reach")]
    Introspection,
    /// Too many tokens are being checked already.
    #[error("too many tokens are being checked")]
    Busy,
}

impl Unidentified {
    /// The word for the audit row and the metrics: `token_*` or `unavailable_*`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Token(error) => error.reason(),
            Self::Unavailable { outage: Outage::Keys, .. } => "unavailable_keys",
            Self::Unavailable { outage: Outage::Introspection, .. } => "unavailable_introspection",
            Self::Unavailable { outage: Outage::Busy, .. } => "unavailable_busy",
        }
    }

    /// The peer, the issuer, or ourselves for too much work.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Token(error) => error.blame(),
            Self::Unavailable { outage: Outage::Busy, .. } => Blame::Us,
            Self::Unavailable { .. } => Blame::Dependency,
        }
    }
}

impl Issuers {
    /// Reads key files and checks addresses; fetches nothing yet ([`Issuers::refresh`], [`Issuers::run`]).
    pub fn new(settings: Vec<Settings>) -> Result<Arc<Self>, IssuerError> {
        Self::with_limits(settings, Limits::default(), UnixTime::from(std::time::SystemTime::now()))
    }

    /// Like [`Issuers::new`], with other limits and the time of the first reading.
    pub fn with_limits(settings: Vec<Settings>, limits: Limits, now: UnixTime) -> Result<Arc<Self>, IssuerError> {
        let max_token = settings.iter().map(|one| one.rules.max_token).max().unwrap_or(0);
        let mut list: Vec<Issuer> = Vec::new();
        for one in settings {
            let wrong = |problem| IssuerError::Settings { issuer: one.rules.url.clone(), problem };
            if list.iter().any(|other| other.settings.rules.url == one.rules.url) {
                return Err(wrong("it stands twice; give each issuer one [[issuer]] block"));
            }
            if one.keys.is_none() && one.introspection.is_none() {
                return Err(wrong("it has neither keys nor introspection, so its tokens cannot be checked"));
            }
            if one.rules.audience.is_empty() {
                return Err(wrong("audience is empty, so no token would pass; name what its tokens carry in aud"));
            }
            if one.introspection.is_some() && list.iter().any(|other| other.asker.is_some()) {
                return Err(wrong(
                    "a second issuer has introspection, and an opaque token would be shown to both; keep one",
                ));
            }
            list.push(Issuer::new(one, &limits, now)?);
        }
        let memory = Arc::new(Memory::new(limits.remembered));
        let workers = match limits.workers {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            count => count,
        };
        let withdrawn: OnWithdrawal = {
            let memory = memory.clone();
            Arc::new(move |keys| memory.withdraw(keys))
        };
        Ok(Arc::new(Self {
            list,
            memory,
            queue: Arc::new(Semaphore::new(limits.queue)),
            workers: Arc::new(Semaphore::new(workers)),
            max_token,
            tasks: TaskTracker::new(),
            withdrawn,
        }))
    }

    /// Who the token speaks for.
    ///
    /// A remembered token costs one hash and one look-up: no lock, no signature, no question; its times and its key
    /// (or the age of the issuer's answer) are looked at again each time. Safe to drop at any point.
    pub async fn identify(&self, token: &Secret, now: UnixTime) -> Result<Identity, Unidentified> {
        let token = token.reveal();
        if token.len() > self.max_token {
            return Err(TokenError::TooLong { length: token.len(), limit: self.max_token }.into());
        }
        let fingerprint = Fingerprint::of(token);
        let known = self.memory.recall(fingerprint);
        if let Some(answer) = known.as_ref().and_then(|known| self.recall(known, now)) {
            return answer;
        }
        match self.road(token)? {
            Road::Keys { issuer, ring, index, kid } => self.verify(token, index, issuer, ring, kid, now).await,
            Road::Question { asker, index } => self.ask(token, fingerprint, index, asker, known, now).await,
        }
    }

    /// False once the key that signed the identity's token is withdrawn, or its issuer has said that the token is
    /// not active any more, or the issuer is not configured.
    pub fn holds(&self, who: &Identity) -> bool {
        let Some(issuer) = self.issuer(who.issuer()) else { return false };
        match (who.thumbprint(), &issuer.ring) {
            (Some(key), Some(ring)) => ring.contains(key),
            (Some(_), None) => false,
            (None, _) => !self.memory.is_revoked(who.fingerprint()),
        }
    }

    /// The rules of the identity's issuer: whether its scope suffices, how addresses compare. None only if the
    /// issuer is not one of these.
    pub fn rules_of(&self, who: &Identity) -> Option<&Rules> {
        self.rules_at(who.issuer())
    }

    /// The rules of the issuer at this address.
    pub fn rules_at(&self, url: &str) -> Option<&Rules> {
        self.issuer(url).map(|issuer| &issuer.settings.rules)
    }

    /// True if the identity has one of the scopes that its issuer wants for `service`.
    pub fn scope_suffices(&self, who: &Identity, service: Service) -> bool {
        self.rules_of(who).is_some_and(|rules| rules.scope_suffices(who, service))
    }

    /// The scope and the configuration document for the error challenge: of the identity's issuer, or of the first
    /// one where there is no identity.
    pub fn hint(&self, who: Option<&Identity>, service: Service) -> (String, Option<&str>) {
        let issuer = who.and_then(|who| self.issuer(who.issuer())).or(self.list.first());
        let scope = issuer.map(|issuer| issuer.settings.rules.scope_text(service)).unwrap_or_default();
        (scope, issuer.and_then(|issuer| issuer.openid_configuration.as_deref()))
    }

    /// Counts up each time that keys or tokens were withdrawn: time to ask [`Issuers::holds`] of every session
    /// again.
    pub fn withdrawals(&self) -> watch::Receiver<u64> {
        self.memory.withdrawals()
    }

    /// How each issuer stands, for readiness and metrics.
    pub fn standing(&self, now: UnixTime) -> Vec<Standing<'_>> {
        let keys = |ring: &Arc<Ring>| ring.usable(now).map_or(0, |keys| keys.set.keys().len());
        let list = self.list.iter();
        list.map(|issuer| Standing {
            issuer: &issuer.settings.rules.url,
            usable_keys: issuer.ring.as_ref().map(keys),
            age: issuer.ring.as_ref().and_then(|ring| ring.age(now)),
        })
        .collect()
    }

    fn issuer(&self, url: &str) -> Option<&Issuer> {
        self.list.iter().find(|issuer| issuer.settings.rules.url == url)
    }

    /// Whom to ask, by the token's own unverified word, or the one issuer that takes opaque tokens.
    fn road(&self, token: &str) -> Result<Road<'_>, TokenError> {
        let (index, kid) = match peek_issuer(token, self.max_token) {
            Ok(peek) => {
                let found = self.list.iter().position(|issuer| issuer.settings.rules.url == peek.issuer);
                let unknown = || TokenError::Issuer { found: peek.issuer.chars().take(100).collect() };
                (found.ok_or_else(unknown)?, Some(peek.kid))
            }
            Err(error) if is_no_jwt(&error) => {
                (self.list.iter().position(|issuer| issuer.asker.is_some()).ok_or(error)?, None)
            }
            Err(error) => return Err(error),
        };
        let issuer = self.list.get(index).ok_or(TokenError::Opaque)?;
        match (kid, &issuer.ring, &issuer.asker) {
            (Some(kid), Some(ring), _) => Ok(Road::Keys { issuer, ring, index, kid }),
            (_, _, Some(asker)) => Ok(Road::Question { asker, index }),
            _ => Err(TokenError::Opaque),
        }
    }

    /// The answer for a remembered token, if it still counts.
    fn recall(&self, known: &Believed, now: UnixTime) -> Option<Result<Identity, Unidentified>> {
        if let Err(error) = known.identity.check_time(now) {
            self.memory.forget(known.identity.fingerprint());
            return Some(Err(error.into()));
        }
        if let Some(fresh_until) = known.fresh_until {
            return (now < fresh_until).then(|| Ok(known.identity.clone()));
        }
        // Without usable keys there is nothing to recall: the way of a first-seen token asks for them or says that
        // they are out of reach.
        let keys = self.list.get(known.issuer)?.ring.as_ref()?.usable(now)?;
        let current = known.identity.thumbprint().is_some_and(|key| keys.set.contains(key));
        current.then(|| Ok(known.identity.clone()))
    }

    async fn verify(
        &self,
        token: &str,
        index: usize,
        issuer: &Issuer,
        ring: &Arc<Ring>,
        kid: Option<String>,
        now: UnixTime,
    ) -> Result<Identity, Unidentified> {
        let rules = &issuer.settings.rules;
        let look = |keys: &KeySet| token::examine(token, rules, keys, now);
        let (_, examined) = self.examine(kid.as_deref(), issuer, ring, look, now).await?;
        let examined = examined?;
        let identity = self.off_io(issuer, move || examined.prove()).await?;
        if !self.holds(&identity) {
            // Withdrawn while the signature was being checked.
            return Err(TokenError::UnknownKey { kid: identity.key().into(), issuer: rules.url.clone() }.into());
        }
        self.memory.keep(&identity, index, None, now);
        Ok(identity)
    }

    /// Checks a signature off the I/O threads, where there is room for it.
    async fn off_io<T: Send + 'static>(
        &self,
        issuer: &Issuer,
        prove: impl FnOnce() -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, Unidentified> {
        let busy = || Unidentified::Unavailable { issuer: issuer.settings.rules.url.clone(), outage: Outage::Busy };
        let place = self.queue.clone().try_acquire_owned().map_err(|_| busy())?;
        let worker = self.workers.clone().acquire_owned().await.map_err(|_| busy())?;
        let proof = tokio::task::spawn_blocking(move || {
            let proof = prove();
            drop((worker, place));
            proof
        });
        Ok(proof.await.map_err(|_| busy())??)
    }

    /// The checks that cost little, `look`, with the keys they were made with: fetched if there are none, and once more
    /// if the token names one that is not there.
    async fn examine<T>(
        &self,
        kid: Option<&str>,
        issuer: &Issuer,
        ring: &Arc<Ring>,
        look: impl Fn(&KeySet) -> Result<T, TokenError>,
        now: UnixTime,
    ) -> Result<(Arc<Keys>, Result<T, TokenError>), Unidentified> {
        let with_newest = || {
            let keys = ring.usable(now).ok_or_else(|| issuer.no_keys())?;
            let examined = look(&keys.set);
            Ok((keys, examined))
        };
        if ring.usable(now).is_none() {
            ring.search(None, None, &self.tasks, now, &self.withdrawn).await;
            return with_newest();
        }
        let (keys, examined) = with_newest()?;
        // Only a token that is good in every other way is worth a question.
        if !matches!(examined, Err(TokenError::UnknownKey { .. })) {
            return Ok((keys, examined));
        }
        match ring.search(kid, Some(&keys), &self.tasks, now, &self.withdrawn).await {
            Search::NewKeys => with_newest(),
            Search::NotThere => Ok((keys, examined)),
            Search::OutOfReach => Err(issuer.no_keys()),
        }
    }

    async fn ask(
        &self,
        token: &str,
        fingerprint: Fingerprint,
        index: usize,
        asker: &Arc<Asker>,
        known: Option<Believed>,
        now: UnixTime,
    ) -> Result<Identity, Unidentified> {
        let answer = asker.ask(token, fingerprint, &self.tasks, now).await;
        match &answer {
            Ok(identity) => self.memory.keep(identity, index, Some(now + asker.remember), now),
            Err(Unidentified::Token(_)) => {
                if let Some(known) = known {
                    self.memory.revoke(&known);
                }
            }
            Err(Unidentified::Unavailable { .. }) => {}
        }
        answer
    }

    /// The checks of a pasted token, one by one, for `portcullis explain --token -`: the code of
    /// [`Issuers::identify`] with the same keys. `Unavailable` if they cannot be had. For an opaque token only the
    /// verdict is known.
    pub async fn diagnose(&self, token: &Secret, now: UnixTime) -> Result<Diagnosis, Unidentified> {
        let text = token.reveal();
        match self.road(text) {
            Ok(Road::Keys { issuer, ring, kid, .. }) => {
                let rules = &issuer.settings.rules;
                let look = |keys: &KeySet| token::examine(text, rules, keys, now);
                let (keys, _) = self.examine(kid.as_deref(), issuer, ring, look, now).await?;
                Ok(token::diagnose(text, rules, &keys.set, now))
            }
            Ok(Road::Question { .. }) => match self.identify(token, now).await {
                Ok(identity) => Ok(Diagnosis { steps: Vec::new(), verdict: Ok(identity) }),
                Err(Unidentified::Token(error)) => Ok(Diagnosis { steps: Vec::new(), verdict: Err(error) }),
                Err(unavailable) => Err(unavailable),
            },
            // Nobody's token: it fails where anybody's rules would fail it, at the latest on the issuer.
            Err(_) => Ok(token::diagnose(text, &Rules::new("", [""]), &KeySet::default(), now)),
        }
    }
}

/// How a token is checked.
enum Road<'a> {
    /// By its signature.
    Keys { issuer: &'a Issuer, ring: &'a Arc<Ring>, index: usize, kid: Option<String> },
    /// By asking its issuer.
    Question { asker: &'a Arc<Asker>, index: usize },
}

impl Issuer {
    fn new(settings: Settings, limits: &Limits, now: UnixTime) -> Result<Self, IssuerError> {
        let ring = settings.keys.as_ref().map(|source| Ring::new(&settings, source, limits, now)).transpose()?;
        let asker = settings.introspection.as_ref().map(|how| Asker::new(&settings, how, limits)).transpose()?;
        let desk = settings.sign_in.as_ref().map(|client| Desk::new(&settings, client)).transpose()?;
        let discovered = (settings.keys == Some(KeySource::Discovery)).then(|| settings.well_known());
        Ok(Self {
            openid_configuration: settings.openid_configuration.clone().or(discovered),
            ring: ring.map(Arc::new),
            asker: asker.map(Arc::new),
            finder: Finder::new(&settings),
            desk,
            settings,
        })
    }

    fn no_keys(&self) -> Unidentified {
        Unidentified::Unavailable { issuer: self.settings.rules.url.clone(), outage: Outage::Keys }
    }
}

/// True for what is not even the outside of a JWT, so that it may be an opaque token.
fn is_no_jwt(error: &TokenError) -> bool {
    matches!(
        error,
        TokenError::Shape { .. }
            | TokenError::Json { part: "header", source: JsonError::Syntax | JsonError::NotObject }
    )
}

#[cfg(test)]
mod tests;
