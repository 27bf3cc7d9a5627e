//! Tokens that were believed, by their SHA-256: a reconnect costs no signature check and no question to the issuer.

use std::time::{Duration, Instant};

use moka::{Expiry, sync::Cache};
use tokio::sync::watch;

use crate::model::UnixTime;
use crate::token::{Fingerprint, Identity};

/// What is known of tokens over all issuers. Bounded; nothing here outlives the token's own `exp`.
pub(super) struct Memory {
    believed: Cache<Fingerprint, Believed>,
    /// Tokens that an issuer vouched for and later did not.
    revoked: Cache<Fingerprint, Duration>,
    withdrawals: watch::Sender<u64>,
}

/// A believed token.
#[derive(Clone)]
pub(super) struct Believed {
    pub identity: Identity,
    /// Until when an introspection answer counts; none for a signature, which does not age.
    pub fresh_until: Option<UnixTime>,
    /// Index of the issuer.
    pub issuer: usize,
    /// How long it is worth keeping.
    keep: Duration,
}

impl Memory {
    pub(super) fn new(size: u64) -> Self {
        let believed =
            Cache::builder().max_capacity(size).support_invalidation_closures().expire_after(ByKeep).build();
        let revoked = Cache::builder().max_capacity(size).expire_after(ByKeep).build();
        Self { believed, revoked, withdrawals: watch::Sender::new(0) }
    }

    pub(super) fn recall(&self, token: Fingerprint) -> Option<Believed> {
        self.believed.get(&token)
    }

    /// Keeps a token until its `exp` and leeway.
    pub(super) fn keep(&self, identity: &Identity, issuer: usize, fresh_until: Option<UnixTime>, now: UnixTime) {
        let token = identity.fingerprint();
        let keep = now.until(identity.expires_at()) + Duration::from_secs(60);
        if fresh_until.is_some() {
            self.revoked.invalidate(&token);
        }
        self.believed.insert(token, Believed { identity: identity.clone(), fresh_until, issuer, keep });
    }

    pub(super) fn forget(&self, token: Fingerprint) {
        self.believed.invalidate(&token);
    }

    /// The issuer does not vouch for a token any more for which it did.
    pub(super) fn revoke(&self, believed: &Believed) {
        let token = believed.identity.fingerprint();
        self.revoked.insert(token, believed.keep);
        self.believed.invalidate(&token);
        self.announce();
    }

    pub(super) fn is_revoked(&self, token: Fingerprint) -> bool {
        self.revoked.contains_key(&token)
    }

    /// Forgets what these keys signed, and tells whoever watches.
    pub(super) fn withdraw(&self, thumbprints: &[String]) {
        let gone = thumbprints.to_vec();
        let signed = move |_: &Fingerprint, believed: &Believed| {
            believed.identity.thumbprint().is_some_and(|key| gone.iter().any(|gone| gone == key))
        };
        if self.believed.invalidate_entries_if(signed).is_err() {
            self.believed.invalidate_all();
        }
        self.announce();
    }

    pub(super) fn withdrawals(&self) -> watch::Receiver<u64> {
        self.withdrawals.subscribe()
    }

    fn announce(&self) {
        self.withdrawals.send_modify(|count| *count += 1);
    }
}

/// Each entry says itself how long it is kept.
struct ByKeep;

impl Expiry<Fingerprint, Believed> for ByKeep {
    fn expire_after_create(&self, _: &Fingerprint, value: &Believed, _: Instant) -> Option<Duration> {
        Some(value.keep)
    }
    fn expire_after_update(
        &self,
        _: &Fingerprint,
        value: &Believed,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(value.keep)
    }
}

impl Expiry<Fingerprint, Duration> for ByKeep {
    fn expire_after_create(&self, _: &Fingerprint, keep: &Duration, _: Instant) -> Option<Duration> {
        Some(*keep)
    }
}
