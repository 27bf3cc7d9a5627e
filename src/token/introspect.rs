//! Opaque tokens: the issuer's own answer about one (RFC 7662 section 2.2), read as strictly as claims.

use serde_json::Value;

use super::{
    Fingerprint, Identity, Rules, TokenError,
    claims::{Claims, missing},
    error::short,
    identity::{Facts, begun, not_expired},
    json,
    trace::Silent,
    verify::Party,
};
use crate::model::UnixTime;

/// [`Identity::key`] of a token that the issuer itself vouched for.
const KEY: &str = "introspection";

/// Reads an introspection answer about the token with this `fingerprint`.
///
/// `active` must be `true`. `exp`, the app and the user claim are needed, as in a JWT; `aud` too, unless the rules
/// say that this issuer leaves it out. `iss` may be absent, because we chose whom to ask, and must be the issuer's
/// if it stands there. `token_type`, if it stands there, must be `Bearer`.
pub fn from_introspection(
    json: &[u8],
    rules: &Rules,
    fingerprint: Fingerprint,
    now: UnixTime,
) -> Result<Identity, TokenError> {
    let members = json::object(json, rules.json_depth)
        .map_err(|source| TokenError::Json { part: "introspection answer", source })?;
    let claims = Claims::new(members);
    match claims.truth("active")? {
        Some(true) => {}
        Some(false) => return Err(TokenError::Inactive { issuer: rules.url.clone() }),
        None => return Err(missing("active")),
    }
    if let Some(issuer) = claims.text("iss")?.filter(|issuer| *issuer != rules.url) {
        return Err(TokenError::Issuer { found: short(issuer) });
    }
    if let Some(kind) = claims.text("token_type")?.filter(|kind| !kind.eq_ignore_ascii_case("Bearer")) {
        return Err(TokenError::Type { mark: format!("its token_type is {:?}", short(kind)) });
    }
    if let Some(kind) = claims.value("token_use").and_then(Value::as_str).filter(|kind| !kind.starts_with("access"))
    {
        return Err(TokenError::Type { mark: format!("its token_use is {:?}", short(kind)) });
    }
    claims.audience(rules, rules.introspection_needs_audience)?;
    let expires_at = claims.date("exp")?.ok_or_else(|| missing("exp"))?;
    not_expired(expires_at, rules.leeway_s, now)?;
    let (not_before, issued_at) = (claims.date("nbf")?, claims.date("iat")?);
    begun("nbf", not_before, rules.skew_s, now)?;
    begun("iat", issued_at, rules.skew_s, now)?;
    let party = Party::read(&claims, rules, &mut Silent)?;
    Ok(Identity::new(Facts {
        user: party.user,
        app: party.app,
        issuer: rules.url.as_str().into(),
        subject: party.subject,
        session: party.session,
        key: KEY.into(),
        thumbprint: None,
        fingerprint,
        issued_at,
        not_before,
        expires_at,
        leeway_s: rules.leeway_s,
        skew_s: rules.skew_s,
        service_account: party.service_account,
        scopes: party.scopes,
    }))
}
