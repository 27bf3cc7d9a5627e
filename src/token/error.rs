//! Why a token was not believed.

use crate::model::{Blame, UnixTime};

use super::JsonError;

/// Why a token was not believed. The peer hears one text for all of these; the exact cause goes to the audit row as
/// [`TokenError::reason`]. Values from the token are cut at 100 characters; the token itself is never in here.
///
/// Source: RFC 7515 section 5.2, RFC 7519 section 7.2, RFC 8725 section 3, RFC 9068 section 4, RFC 7662 section
/// 2.2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than the issuer's limit.
    #[error("the token has {length} bytes (limit {limit})")]
    TooLong {
        /// Bytes of the token.
        length: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Not three parts of base64url without padding. Five parts are an encrypted token, which nobody but its
    /// recipient can check.
    #[error("the token is no signed JWT: {problem}")]
    Shape {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The header or the claims are not a JSON object that has one meaning.
    #[error("the {part} {source}")]
    Json {
        /// `header`, `claims`, `introspection answer` or `userinfo answer`.
        part: &'static str,
        /// What is wrong with it.
        source: JsonError,
    },
    /// The header lists extensions that must be understood; none are.
    #[error("the header has a crit member, and no extension is supported")]
    Critical,
    /// The header's `typ`, or another mark, says that this is no access token.
    #[error("the token is not an access token: {mark}")]
    Type {
        /// The member that says so, and its value.
        mark: String,
    },
    /// The header's `typ`, or another mark, says that this is no identity event of the form asked for.
    #[error("the token is no such event: {mark}")]
    NotEvent {
        /// The member that says so, and its value.
        mark: String,
    },
    /// The header's `typ`, or a claim, says that this is no ID token for the sign-in it came in answer to.
    #[error("the token is no ID token for this sign-in: {mark}")]
    NotIdToken {
        /// What says so.
        mark: String,
    },
    /// The header's `alg` is none that can be checked, or not in the issuer's list.
    #[error("algorithm {alg:?} is not allowed for {issuer}")]
    Algorithm {
        /// The algorithm in the header.
        alg: String,
        /// The issuer's address.
        issuer: String,
    },
    /// A claim (or header member) of the wrong JSON type or outside its range. It does not count as absent.
    #[error("{claim:?} is not {expected}")]
    ClaimType {
        /// The claim's name.
        claim: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// A claim that is needed is absent.
    #[error("{claim:?} is missing")]
    ClaimMissing {
        /// The claim's name.
        claim: String,
    },
    /// `iss` is no configured issuer, or not the one whose rules were asked.
    #[error("issuer {found:?} is not configured")]
    Issuer {
        /// The token's `iss`.
        found: String,
    },
    /// `aud` holds none of our names.
    #[error("audience {found:?} has none of {wanted:?}")]
    Audience {
        /// The token's audiences, at most ten.
        found: Vec<String>,
        /// Ours.
        wanted: Vec<String>,
    },
    /// `exp` has passed.
    #[error("expired {late_s} s ago, at {at} (leeway {leeway_s} s)")]
    Expired {
        /// When.
        at: UnixTime,
        /// Seconds since then.
        late_s: u64,
        /// Seconds that would have been forgiven.
        leeway_s: u64,
    },
    /// An event's `iat` lies too far back.
    #[error("issued {age_s} s ago, at {at} (limit {limit_s} s)")]
    Stale {
        /// When.
        at: UnixTime,
        /// Seconds since then.
        age_s: u64,
        /// The most that is taken.
        limit_s: u64,
    },
    /// `nbf` or `iat` lies in the future.
    #[error("{claim} is {ahead_s} s ahead of our clock (leeway {leeway_s} s)")]
    NotYet {
        /// `nbf` or `iat`.
        claim: &'static str,
        /// Seconds from now.
        ahead_s: u64,
        /// Seconds that would have been forgiven.
        leeway_s: u64,
    },
    /// `azp` and `client_id` name different apps.
    #[error("azp {azp:?} and client_id {client_id:?} differ")]
    AppsDiffer {
        /// The token's `azp`.
        azp: String,
        /// The token's `client_id`.
        client_id: String,
    },
    /// The app's ID is not of the form that `ClientId` wants.
    #[error("app: {problem}")]
    App {
        /// What is wrong with it.
        problem: String,
    },
    /// The user claim is no address, or an e-mail address that the issuer says is not verified.
    #[error("user: {problem}")]
    User {
        /// What is wrong with it.
        problem: String,
    },
    /// The token is bound to a key or certificate (`cnf`), so it is no bearer token. Source: RFC 8705 section 3,
    /// RFC 9449.
    #[error("the token is bound to a key or certificate ({method:?}) that this connection did not prove")]
    Bound {
        /// The member of `cnf`: `x5t#S256`, `jkt`, ...
        method: String,
    },
    /// No usable key has the token's `kid`.
    #[error("no key {kid:?} at {issuer}")]
    UnknownKey {
        /// The token's `kid`.
        kid: String,
        /// The issuer's address.
        issuer: String,
    },
    /// The token has no `kid`, and not exactly one key could have signed it.
    #[error("the token names no key, and {candidates} keys of {issuer} could have signed it")]
    KeyNotNamed {
        /// How many keys fit its algorithm.
        candidates: usize,
        /// The issuer's address.
        issuer: String,
    },
    /// The key named by `kid` is not for the token's algorithm.
    #[error("key {key:?} is not for algorithm {alg}")]
    KeyAlgorithm {
        /// The key's name.
        key: String,
        /// The algorithm in the header.
        alg: &'static str,
    },
    /// The signature is not the key's.
    #[error("the signature is not that of key {key:?}")]
    Signature {
        /// The key's name.
        key: String,
    },
    /// The issuer says that the token is not active (RFC 7662 section 2.2).
    #[error("{issuer} says the token is not active")]
    Inactive {
        /// The issuer's address.
        issuer: String,
    },
    /// Not a JWT, and no issuer is configured to be asked about such tokens.
    #[error("the token is opaque, and no issuer is configured with introspection")]
    Opaque,
}

impl TokenError {
    /// The word for the audit row and the metrics: one for each cause, `token_expired`, `token_audience`, ...
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "token_too_long",
            Self::Shape { .. } => "token_malformed",
            Self::Json { source: JsonError::Duplicate { .. }, .. } => "token_duplicate",
            Self::Json { .. } => "token_malformed",
            Self::Critical => "token_critical",
            Self::Type { .. } | Self::NotEvent { .. } | Self::NotIdToken { .. } => "token_type",
            Self::Algorithm { .. } | Self::KeyAlgorithm { .. } => "token_algorithm",
            Self::ClaimType { .. } => "token_claim_type",
            Self::ClaimMissing { .. } => "token_claim_missing",
            Self::Issuer { .. } => "token_issuer",
            Self::Audience { .. } => "token_audience",
            Self::Expired { .. } => "token_expired",
            Self::Stale { .. } => "token_stale",
            Self::NotYet { .. } => "token_not_yet",
            Self::AppsDiffer { .. } | Self::App { .. } => "token_app",
            Self::User { .. } => "token_user",
            Self::Bound { .. } => "token_bound",
            Self::UnknownKey { .. } | Self::KeyNotNamed { .. } => "token_unknown_key",
            Self::Signature { .. } => "token_signature",
            Self::Inactive { .. } => "token_inactive",
            Self::Opaque => "token_opaque",
        }
    }

    /// Always the peer: what is not the peer's fault is told apart before it becomes a `TokenError`.
    pub fn blame(&self) -> Blame {
        Blame::Peer
    }
}

/// Text out of a token, cut so that an error stays small.
pub(super) fn short(text: &str) -> String {
    text.chars().take(100).collect()
}
