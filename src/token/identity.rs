//! Who a believed token speaks for.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest;

use super::TokenError;
use crate::model::{ClientId, UnixTime, UserId};

/// Who came in, through which app, and until when: the outcome of a believed token. Only this room makes one. A
/// clone shares the contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(Arc<Facts>);

/// What an [`Identity`] knows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub user: UserId,
    pub app: ClientId,
    pub issuer: Arc<str>,
    pub subject: Option<Box<str>>,
    pub session: Option<Box<str>>,
    pub key: Arc<str>,
    pub thumbprint: Option<Arc<str>>,
    pub fingerprint: Fingerprint,
    pub issued_at: Option<UnixTime>,
    pub not_before: Option<UnixTime>,
    pub expires_at: UnixTime,
    pub leeway_s: u64,
    pub skew_s: u64,
    pub service_account: bool,
    pub scopes: Vec<String>,
}

impl Identity {
    pub(super) fn new(facts: Facts) -> Self {
        Self(Arc::new(facts))
    }

    /// The user named by the configured claim.
    pub fn user(&self) -> &UserId {
        &self.0.user
    }

    /// The app: `azp`, else `client_id`.
    pub fn app(&self) -> &ClientId {
        &self.0.app
    }

    /// The issuer's address, `iss`.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The issuer's own name for the user, `sub`, where the token has one (RFC 7519 section 4.1.2).
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The issuer's name for the sign-in that the token comes from, `sid`, where the token has one. Source: OpenID
    /// Connect Back-Channel Logout 1.0 section 2.1.
    pub fn session(&self) -> Option<&str> {
        self.0.session.as_deref()
    }

    /// The name of the key that signed the token: its `kid`, or its RFC 7638 thumbprint if it has none;
    /// `introspection` for a token that the issuer itself vouched for.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// The RFC 7638 thumbprint of the key itself, whatever its name; none for introspection.
    pub fn thumbprint(&self) -> Option<&str> {
        self.0.thumbprint.as_deref()
    }

    /// The token's fingerprint, for the audit row and the memory of tokens.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// `iat`, where the token has one. A removed grant is only renewed by a token issued later.
    pub fn issued_at(&self) -> Option<UnixTime> {
        self.0.issued_at
    }

    /// `exp`, without the leeway.
    pub fn expires_at(&self) -> UnixTime {
        self.0.expires_at
    }

    /// True if the issuer's claim rule says that an app acts here for a user by delegation.
    pub fn service_account(&self) -> bool {
        self.0.service_account
    }

    /// The scopes, as the token has them.
    pub fn scopes(&self) -> &[String] {
        &self.0.scopes
    }

    /// Whether the token's times admit it at `now`: asked again at each use of a remembered token.
    pub fn check_time(&self, now: UnixTime) -> Result<(), TokenError> {
        let facts = &*self.0;
        not_expired(facts.expires_at, facts.leeway_s, now)?;
        begun("nbf", facts.not_before, facts.skew_s, now)?;
        begun("iat", facts.issued_at, facts.skew_s, now)
    }
}

/// `exp`: the token is good before it, and `leeway_s` longer (RFC 7519 section 4.1.4).
pub(super) fn not_expired(exp: UnixTime, leeway_s: u64, now: UnixTime) -> Result<(), TokenError> {
    let late_ms = u64::try_from(now.0.saturating_sub(exp.0));
    match late_ms {
        Ok(late_ms) if late_ms >= leeway_s.saturating_mul(1000) => {
            Err(TokenError::Expired { at: exp, late_s: late_ms / 1000, leeway_s })
        }
        _ => Ok(()),
    }
}

/// `nbf` and `iat`: not later than now, `skew_s` forgiven (RFC 7519 section 4.1.5).
pub(super) fn begun(
    claim: &'static str,
    from: Option<UnixTime>,
    skew_s: u64,
    now: UnixTime,
) -> Result<(), TokenError> {
    let ahead_ms = from.and_then(|from| u64::try_from(from.0.saturating_sub(now.0)).ok()).unwrap_or(0);
    if ahead_ms > skew_s.saturating_mul(1000) {
        return Err(TokenError::NotYet { claim, ahead_s: ahead_ms / 1000, leeway_s: skew_s });
    }
    Ok(())
}

/// SHA-256 of a token: what is kept of it. Shown as its first 16 hexadecimal digits (threats.md section 8).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a token, exactly as it was sent.
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(digest::digest(&digest::SHA256, token.as_bytes()).as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_shows_sixteen_digits_of_sha_256() {
        assert_eq!(Fingerprint::of("abc").to_string(), "ba7816bf8f01cfea");
    }

    #[test]
    fn times_are_exact_at_their_limits() {
        let at = UnixTime::from_secs;
        assert!(not_expired(at(100), 30, UnixTime(129_999)).is_ok());
        assert_eq!(
            not_expired(at(100), 30, at(130)),
            Err(TokenError::Expired { at: at(100), late_s: 30, leeway_s: 30 })
        );
        assert!(begun("nbf", Some(at(160)), 60, at(100)).is_ok());
        assert!(begun("nbf", Some(UnixTime(160_001)), 60, at(100)).is_err());
        assert!(begun("iat", None, 60, at(100)).is_ok());
    }
}
