//! The outside of a token: three parts and a header (RFC 7515 section 3.1 and 4), read strictly and believed not at
//! all.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{Algorithm, Rules, TokenError, error::short, json};

/// Longest `kid`, in bytes: those of known issuers have 16 to 64.
pub(super) const MAX_KID: usize = 512;

/// What a token says of itself before anything is checked: only good for choosing whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peek {
    /// `iss`, unverified.
    pub issuer: String,
    /// `kid` of the header, unverified.
    pub kid: Option<String>,
}

/// The unverified `iss` and `kid` of a JWT of at most `max_token` bytes.
///
/// Errors: [`TokenError::TooLong`]; [`TokenError::Shape`] for what is no JWT at all, which may be an opaque token;
/// the others for a JWT that is malformed.
pub fn peek_issuer(token: &str, max_token: usize) -> Result<Peek, TokenError> {
    check_length(token, max_token)?;
    let parts = Parts::split(token)?;
    let header = Header::read(parts.header, json::MAX_DEPTH)?;
    let claims = members("claims", parts.claims, json::MAX_DEPTH)?;
    match claims.get("iss") {
        Some(Value::String(issuer)) => Ok(Peek { issuer: issuer.clone(), kid: header.kid }),
        Some(_) => Err(TokenError::ClaimType { claim: "iss".into(), expected: "a string" }),
        None => Err(TokenError::ClaimMissing { claim: "iss".into() }),
    }
}

pub(super) fn check_length(token: &str, limit: usize) -> Result<(), TokenError> {
    if token.len() > limit {
        return Err(TokenError::TooLong { length: token.len(), limit });
    }
    Ok(())
}

/// The compact serialization of RFC 7515 section 3.1, cut at its dots.
#[derive(Clone, Copy)]
pub(super) struct Parts<'t> {
    pub header: &'t str,
    pub claims: &'t str,
    /// Header, dot and claims: what is signed.
    pub signed: &'t str,
    pub signature: &'t str,
}

impl<'t> Parts<'t> {
    /// Exactly three parts, none empty, of the base64url alphabet and nothing else.
    pub(super) fn split(token: &'t str) -> Result<Self, TokenError> {
        let bad = |problem| Err(TokenError::Shape { problem });
        match token.bytes().filter(|byte| *byte == b'.').count() {
            2 => {}
            4 => return bad("it has five parts: an encrypted token is for its recipient alone"),
            _ => return bad("it does not have three parts"),
        }
        let split = token.rsplit_once('.').and_then(|(signed, signature)| {
            signed.split_once('.').map(|(header, claims)| Self { header, claims, signed, signature })
        });
        let Some(parts) = split else { return bad("it does not have three parts") };
        if [parts.header, parts.claims, parts.signature].iter().any(|part| part.is_empty()) {
            return bad("a part of it is empty");
        }
        if !token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            return bad("it has characters outside base64url, padding or white space");
        }
        Ok(parts)
    }
}

/// Decodes one part into a JSON object of at most `depth` levels.
pub(super) fn members(part: &'static str, text: &str, depth: usize) -> Result<Map<String, Value>, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| TokenError::Shape { problem: "a part of it is not base64url of whole bytes" })?;
    json::object(&bytes, depth).map_err(|source| TokenError::Json { part, source })
}

/// The members of the JOSE header that matter (RFC 7515 section 4.1). `jku`, `jwk`, `x5u` and `x5c` are not looked
/// at: keys come from the configured issuer alone.
pub(super) struct Header {
    pub alg: String,
    pub kid: Option<String>,
    pub typ: Option<String>,
    /// Whether a `crit` member stands there, of whatever value.
    pub critical: bool,
}

impl Header {
    pub(super) fn read(part: &str, depth: usize) -> Result<Self, TokenError> {
        let members = members("header", part, depth)?;
        let text = |name: &str| match members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(TokenError::ClaimType { claim: name.into(), expected: "a string" }),
        };
        let kid = text("kid")?;
        if kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID) {
            return Err(TokenError::ClaimType { claim: "kid".into(), expected: "a string of at most 512 bytes" });
        }
        let alg = text("alg")?.ok_or_else(|| TokenError::ClaimMissing { claim: "alg".into() })?;
        Ok(Self { alg, kid, typ: text("typ")?, critical: members.contains_key("crit") })
    }

    /// The algorithm it names, if this issuer's tokens may be signed with it.
    pub(super) fn algorithm(&self, rules: &Rules) -> Result<Algorithm, TokenError> {
        let known = Algorithm::from_name(&self.alg).filter(|algorithm| rules.algorithms.contains(algorithm));
        known.ok_or_else(|| TokenError::Algorithm { alg: short(&self.alg), issuer: rules.url.clone() })
    }

    /// Whether `typ` says access token (`at+jwt`, RFC 9068 section 2.1: true) or nothing in particular (`JWT` or
    /// absent: false). Letter case and the prefix `application/` do not matter (RFC 7515 section 4.1.9).
    pub(super) fn says_access_token(&self) -> Result<bool, TokenError> {
        let Some(typ) = &self.typ else { return Ok(false) };
        let word = typ.to_ascii_lowercase();
        match word.strip_prefix("application/").unwrap_or(&word) {
            "at+jwt" => Ok(true),
            "jwt" => Ok(false),
            _ => Err(TokenError::Type { mark: format!("typ {:?}", short(typ)) }),
        }
    }
}
