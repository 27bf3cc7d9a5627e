//! The checks of a JWT, in one order, walked by [`verify`] and [`diagnose`] alike. Cheap ones first; the signature
//! last.
//!
//! An ID token is not an access token (RFC 9068 section 4, RFC 8725 sections 3.11 and 3.12), and the rule that
//! tells them apart is this:
//! - `typ: at+jwt` says access token; it is taken at its word.
//! - `typ: JWT` and no `typ` are what many issuers put on both kinds. Such a token is refused if it bears the mark
//!   of another kind: a claim `nonce`, `at_hash`, `c_hash`, `s_hash` (ID token), `events` (logout token, security
//!   event), a `token_use` other than `access`, a claim `typ` of `ID`, `Refresh`, `Offline`, `Logout`. An issuer
//!   whose tokens are all `at+jwt` can be held to that (`Rules::only_at_jwt`).
//! - Any other `typ` is refused.
//!
//! What remains, an ID token without any mark, fails on `aud`: that names the app it was made for, not us.

use super::{
    Algorithm, Check, Diagnosis, Fingerprint, Identity, KeySet, Rules, TokenError,
    claims::{Claims, missing},
    error::short,
    identity::{Facts, begun, not_expired},
    jws::{Header, Parts, check_length, members},
    trace::{Record, Silent, Trace},
    unproved::Unproved,
};
use crate::model::{ClientId, UnixTime, UserId};

/// Believes a JWT or says why not. The signature is checked on the calling thread; [`examine`] and
/// [`Examined::prove`] are the two halves, for callers that move the second elsewhere.
pub fn verify(token: &str, rules: &Rules, keys: &KeySet, now: UnixTime) -> Result<Identity, TokenError> {
    examine(token, rules, keys, now)?.prove()
}

/// Every check but the signature: what costs little, and needs no thread of its own.
pub fn examine(token: &str, rules: &Rules, keys: &KeySet, now: UnixTime) -> Result<Examined, TokenError> {
    walk(token, rules, keys, now, &mut Silent)
}

/// The checks of one token in order, each with its outcome: the same walk as [`verify`], with a listener.
pub fn diagnose(token: &str, rules: &Rules, keys: &KeySet, now: UnixTime) -> Diagnosis {
    let mut record = Record::default();
    let verdict = walk(token, rules, keys, now, &mut record).and_then(|examined| {
        record.begin(Check::Signature);
        let identity = examined.prove()?;
        record.passed(|| format!("made by key {:?}", identity.key()));
        Ok(identity)
    });
    record.finish(verdict)
}

/// A token that passed everything but the signature: not yet an identity.
pub struct Examined(Unproved<Facts>);

impl Examined {
    /// Checks the signature. 30 microseconds to a millisecond of pure computation.
    pub fn prove(self) -> Result<Identity, TokenError> {
        self.0.prove().map(Identity::new)
    }
}

fn walk(
    token: &str,
    rules: &Rules,
    keys: &KeySet,
    now: UnixTime,
    trace: &mut impl Trace,
) -> Result<Examined, TokenError> {
    trace.begin(Check::Size);
    check_length(token, rules.max_token)?;
    trace.passed(|| format!("{} bytes (limit {})", token.len(), rules.max_token));

    trace.begin(Check::Shape);
    let parts = Parts::split(token)?;
    trace.passed(|| "three parts of base64url".into());

    let (header, algorithm, says_access_token) = read_header(parts, rules, trace)?;

    trace.begin(Check::Claims);
    let claims = Claims::new(members("claims", parts.claims, rules.json_depth)?);
    claims.text("sub")?;
    claims.text("jti")?;
    trace.passed(|| "one JSON object, each member once".into());

    let facts = read_claims(token, &claims, says_access_token, rules, now, trace)?;

    trace.begin(Check::Key);
    let key = keys.find(header.kid.as_deref(), algorithm, &rules.url)?.clone();
    trace.passed(|| format!("{:?} is known and for {algorithm}", key.name()));

    let (name, thumbprint) = key.shared_names();
    let facts = Facts { key: name, thumbprint: Some(thumbprint), ..facts };
    Ok(Examined(Unproved::new(token, algorithm, key, facts)))
}

fn read_header(
    parts: Parts<'_>,
    rules: &Rules,
    trace: &mut impl Trace,
) -> Result<(Header, Algorithm, bool), TokenError> {
    trace.begin(Check::Header);
    let header = Header::read(parts.header, rules.json_depth)?;
    trace.passed(|| "one JSON object, each member once".into());

    trace.begin(Check::Critical);
    if header.critical {
        return Err(TokenError::Critical);
    }
    trace.passed(|| "none".into());

    trace.begin(Check::Type);
    let says_access_token = header.says_access_token()?;
    if rules.only_at_jwt && !says_access_token {
        return Err(TokenError::Type { mark: "typ is not at+jwt, and this issuer's tokens have to say so".into() });
    }
    trace.passed(|| header.typ.as_deref().map_or_else(|| "absent".into(), short));

    trace.begin(Check::Algorithm);
    let algorithm = header.algorithm(rules)?;
    trace.passed(|| algorithm.to_string());
    Ok((header, algorithm, says_access_token))
}

/// The claims' checks. The key's fields are filled in by the caller, once it is found.
fn read_claims(
    token: &str,
    claims: &Claims,
    says_access_token: bool,
    rules: &Rules,
    now: UnixTime,
    trace: &mut impl Trace,
) -> Result<Facts, TokenError> {
    trace.begin(Check::Issuer);
    let issuer = claims.needed_text("iss")?;
    if issuer != rules.url {
        return Err(TokenError::Issuer { found: short(issuer) });
    }
    trace.passed(|| short(issuer));

    trace.begin(Check::NotIdToken);
    if !says_access_token {
        claims.no_other_kind()?;
    }
    trace.passed(|| "no mark of another kind of token".into());

    trace.begin(Check::Audience);
    let audience = claims.audience(rules, true)?;
    trace.passed(|| audience);

    trace.begin(Check::Expiry);
    let expires_at = claims.date("exp")?.ok_or_else(|| missing("exp"))?;
    not_expired(expires_at, rules.leeway_s, now)?;
    trace.passed(|| expires_at.to_string());

    trace.begin(Check::NotBefore);
    let (not_before, issued_at) = (claims.date("nbf")?, claims.date("iat")?);
    begun("nbf", not_before, rules.skew_s, now)?;
    begun("iat", issued_at, rules.skew_s, now)?;
    trace.passed(|| issued_at.map_or_else(|| "no iat".into(), |at| format!("issued {at}")));

    let party = Party::read(claims, rules, trace)?;
    Ok(Facts {
        user: party.user,
        app: party.app,
        issuer: rules.url.as_str().into(),
        subject: party.subject,
        session: party.session,
        key: "".into(),
        thumbprint: None,
        fingerprint: Fingerprint::of(token),
        issued_at,
        not_before,
        expires_at,
        leeway_s: rules.leeway_s,
        skew_s: rules.skew_s,
        service_account: party.service_account,
        scopes: party.scopes,
    })
}

/// Whom a token speaks for and what it may do: read alike from claims and from an introspection answer.
pub(super) struct Party {
    pub user: UserId,
    /// `sub`.
    pub subject: Option<Box<str>>,
    /// `sid`.
    pub session: Option<Box<str>>,
    pub app: ClientId,
    pub scopes: Vec<String>,
    pub service_account: bool,
}

impl Party {
    pub(super) fn read(claims: &Claims, rules: &Rules, trace: &mut impl Trace) -> Result<Self, TokenError> {
        trace.begin(Check::App);
        let (app, claim) = claims.app(rules)?;
        trace.passed(|| format!("{app} (claim {claim:?})"));

        trace.begin(Check::User);
        let user = claims.user(rules)?;
        let (subject, session) = (claims.text("sub")?.map(Box::from), claims.text("sid")?.map(Box::from));
        trace.passed(|| format!("{user} (claim {:?})", rules.user_claim));

        trace.begin(Check::Binding);
        claims.unbound()?;
        trace.passed(|| "none: a bearer token".into());

        trace.begin(Check::Scope);
        let scopes = claims.scopes()?;
        trace.passed(|| {
            if scopes.is_empty() { "none".into() } else { short(&scopes.join(" ")).escape_debug().to_string() }
        });

        let rule = rules.service_account.as_ref();
        let service_account = rule.is_some_and(|rule| rule.matches(claims.value(&rule.claim)));
        Ok(Self { user, subject, session, app, scopes, service_account })
    }
}
