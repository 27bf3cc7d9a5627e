//! A record of the checks, for `portcullis explain --token -`: kept by the very code that verifies.

use std::fmt;

use super::{Identity, TokenError};

/// The checks, in the order in which a token goes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The token is within the size limit.
    Size,
    /// Three parts of base64url.
    Shape,
    /// The header is one JSON object with one meaning.
    Header,
    /// No critical extensions.
    Critical,
    /// `typ` is an access token's.
    Type,
    /// `alg` is allowed.
    Algorithm,
    /// The claims are one JSON object with one meaning.
    Claims,
    /// `iss` is the issuer's address.
    Issuer,
    /// No mark of an ID token, logout token or refresh token.
    NotIdToken,
    /// `aud` names us.
    Audience,
    /// `exp` lies ahead.
    Expiry,
    /// `nbf` and `iat` lie behind.
    NotBefore,
    /// The app is named, without contradiction.
    App,
    /// The user is named, as an address.
    User,
    /// The token is not bound to a key or certificate.
    Binding,
    /// `scope` or `scp` can be read. Whether it suffices depends on the service.
    Scope,
    /// The key is known and for this algorithm.
    Key,
    /// The signature is that key's.
    Signature,
}

impl Check {
    /// All of them, in order.
    pub const ALL: [Self; 18] = [
        Self::Size,
        Self::Shape,
        Self::Header,
        Self::Critical,
        Self::Type,
        Self::Algorithm,
        Self::Claims,
        Self::Issuer,
        Self::NotIdToken,
        Self::Audience,
        Self::Expiry,
        Self::NotBefore,
        Self::App,
        Self::User,
        Self::Binding,
        Self::Scope,
        Self::Key,
        Self::Signature,
    ];

    /// A few words for a list that people read.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Shape => "shape",
            Self::Header => "header",
            Self::Critical => "critical extensions",
            Self::Type => "type",
            Self::Algorithm => "algorithm",
            Self::Claims => "claims",
            Self::Issuer => "issuer",
            Self::NotIdToken => "not an ID token",
            Self::Audience => "audience",
            Self::Expiry => "expiry",
            Self::NotBefore => "not before",
            Self::App => "app",
            Self::User => "user",
            Self::Binding => "binding",
            Self::Scope => "scope",
            Self::Key => "key",
            Self::Signature => "signature",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed; what was seen.
    Passed(String),
    /// It failed; why.
    Failed(String),
    /// An earlier check failed.
    NotReached,
}

/// One line of a [`Diagnosis`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The check.
    pub check: Check,
    /// What it found.
    pub outcome: Outcome,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = self.check.title();
        match &self.outcome {
            Outcome::Passed(seen) => write!(f, "ok    {title}: {seen}"),
            Outcome::Failed(why) => write!(f, "FAIL  {title}: {why}"),
            Outcome::NotReached => write!(f, "-     {title}: not reached"),
        }
    }
}

/// Every check of one token, and the verdict. Made by [`super::diagnose`].
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// All of [`Check::ALL`], in order.
    pub steps: Vec<Step>,
    /// What [`super::verify`] says.
    pub verdict: Result<Identity, TokenError>,
}

/// Hears of each check as it happens.
pub(super) trait Trace {
    /// A check begins.
    fn begin(&mut self, check: Check);
    /// The check that began last has passed; `seen` is only called by a listener that keeps it.
    fn passed(&mut self, seen: impl FnOnce() -> String);
}

/// Hears nothing and costs nothing: what verification uses.
pub(super) struct Silent;

impl Trace for Silent {
    fn begin(&mut self, _: Check) {}
    fn passed(&mut self, _: impl FnOnce() -> String) {}
}

/// Keeps everything.
#[derive(Default)]
pub(super) struct Record {
    passed: Vec<(Check, String)>,
    current: Option<Check>,
}

impl Trace for Record {
    fn begin(&mut self, check: Check) {
        self.current = Some(check);
    }

    fn passed(&mut self, seen: impl FnOnce() -> String) {
        if let Some(check) = self.current.take() {
            self.passed.push((check, seen()));
        }
    }
}

impl Record {
    /// The list of all checks, given the verdict that ended them.
    pub(super) fn finish(self, verdict: Result<Identity, TokenError>) -> Diagnosis {
        let outcome = |check| {
            if let Some((_, seen)) = self.passed.iter().find(|(done, _)| *done == check) {
                return Outcome::Passed(seen.clone());
            }
            match &verdict {
                Err(error) if self.current == Some(check) => Outcome::Failed(error.to_string()),
                _ => Outcome::NotReached,
            }
        };
        let steps = Check::ALL.into_iter().map(|check| Step { check, outcome: outcome(check) }).collect();
        Diagnosis { steps, verdict }
    }
}
