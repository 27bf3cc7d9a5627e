//! What an operator says about issuers, and what may be wrong with it.

use std::{path::PathBuf, time::Duration};

use crate::model::Secret;
use crate::token::{KeySetError, Rules};

use super::FetchError;

/// One `[[issuer]]`: whose tokens to believe, by which rules, checked with which keys. Filled by `config`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What a token has to fulfil.
    pub rules: Rules,
    /// Where the public keys come from; none for an issuer of opaque tokens.
    pub keys: Option<KeySource>,
    /// How to ask the issuer about tokens that only it can read.
    pub introspection: Option<Introspection>,
    /// Our own app there, if people sign in at the console with it.
    pub sign_in: Option<SignInClient>,
    /// Address of the configuration document that the OAUTHBEARER error challenge names. None: with
    /// [`KeySource::Discovery`] the well-known one, else nothing is named.
    pub openid_configuration: Option<String>,
    /// Certificates (PEM) to trust for this issuer besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How often keys are read again in the background; a tenth more or less, by chance.
    pub refresh: Duration,
    /// How long keys stay good without a fresh answer. Source: threats.md section 3 (`jwks.max_stale`).
    pub max_stale: Duration,
    /// Least time between two refreshes that unknown key names have forced. Source: threats.md section 3.
    pub forced_gap: Duration,
    /// Most time for one answer. Source: threats.md section 3.
    pub timeout: Duration,
    /// Largest answer or key file, in bytes; at most 1 MiB. Source: threats.md section 3.
    pub reply_bytes: usize,
}

impl Settings {
    /// Defaults: refresh every 5 min, stale for 24 h, 30 s between forced refreshes, 5 s and 256 KiB for an answer.
    pub fn new(rules: Rules, keys: Option<KeySource>) -> Self {
        Self {
            rules,
            keys,
            introspection: None,
            sign_in: None,
            openid_configuration: None,
            ca_file: None,
            refresh: Duration::from_secs(300),
            max_stale: Duration::from_secs(24 * 3600),
            forced_gap: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            reply_bytes: 256 * 1024,
        }
    }

    /// The address of the issuer's configuration document (OpenID Connect Discovery 1.0 section 4).
    pub(super) fn well_known(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.rules.url.trim_end_matches('/'))
    }
}

/// Where public keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A JWK Set file; looked at again when it changes.
    File(PathBuf),
    /// A JWK Set at an address: `https`, or `http` on loopback.
    Url(String),
    /// The `jwks_uri` of the issuer's own configuration document, which must lie at the issuer's origin.
    Discovery,
}

/// RFC 7662 introspection: the issuer is asked about each token that is not remembered.
#[derive(Clone, Debug)]
pub struct Introspection {
    /// The endpoint: `https`, or `http` on loopback.
    pub endpoint: String,
    /// Our name at the issuer.
    pub client_id: String,
    /// Our secret there, sent by HTTP Basic (RFC 6749 section 2.3.1).
    pub client_secret: Secret,
    /// How long a yes is remembered, at most until the token's `exp`.
    pub remember: Duration,
    /// How long a no is remembered.
    pub remember_refusal: Duration,
}

impl Introspection {
    /// Defaults: a yes for 60 s, a no for 10 s.
    pub fn new(endpoint: impl Into<String>, client_id: impl Into<String>, client_secret: Secret) -> Self {
        Self {
            endpoint: endpoint.into(),
            client_id: client_id.into(),
            client_secret,
            remember: Duration::from_secs(60),
            remember_refusal: Duration::from_secs(10),
        }
    }
}

/// What the console is at an issuer: an app whose users sign in with authorization code and PKCE.
#[derive(Clone, Debug)]
pub struct SignInClient {
    /// Our client ID.
    pub client_id: String,
    /// Our secret; none for a public client.
    pub client_secret: Option<Secret>,
    /// The scopes asked for, separated by spaces; `openid` is among them.
    pub scope: String,
    /// The token endpoint, where it is at another origin than the issuer; else discovery tells it.
    pub token_endpoint: Option<String>,
}

/// Bounds over all issuers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Validated tokens remembered.
    pub remembered: u64,
    /// Refused opaque tokens remembered.
    pub refused: u64,
    /// Unknown key names remembered per issuer.
    pub unknown_keys: u64,
    /// Signatures being checked at once; 0: one per processor.
    pub workers: usize,
    /// Signatures being checked or waiting for it; beyond it a sign-in is told to come back later.
    pub queue: usize,
    /// Introspection requests open at once, per issuer.
    pub questions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { remembered: 50_000, refused: 10_000, unknown_keys: 1000, workers: 0, queue: 1000, questions: 64 }
    }
}

/// What is wrong with the settings or a key file: nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// A key file cannot be read.
    #[error(
        "issuer {issuer}: cannot read its keys: {}: {source}; put its JWK Set there, or set jwks_url",
        file.display()
    )]
    KeyFile {
        /// The issuer's address.
        issuer: String,
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A key file has no usable key set in it.
    #[error(
        "issuer {issuer}: {}: {source}; it has to be a JWK Set (RFC 7517) with a public signature key",
        file.display()
    )]
    KeySet {
        /// The issuer's address.
        issuer: String,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: KeySetError,
    },
    /// An address cannot be used.
    #[error("issuer {issuer}: {source}")]
    Address {
        /// The issuer's address.
        issuer: String,
        /// Which address, and why.
        source: FetchError,
    },
    /// The file of certificates cannot be used.
    #[error("issuer {issuer}: {}: {problem}; ca_file has to hold certificates in PEM", file.display())]
    CaFile {
        /// The issuer's address.
        issuer: String,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The HTTP client cannot be set up, for want of the system's certificates for example.
    #[error("issuer {issuer}: cannot set up HTTPS: {problem}")]
    Https {
        /// The issuer's address.
        issuer: String,
        /// What it says.
        problem: String,
    },
    /// The settings contradict themselves.
    #[error("issuer {issuer}: {problem}")]
    Settings {
        /// The issuer's address.
        issuer: String,
        /// What is wrong and how to mend it.
        problem: &'static str,
    },
}
