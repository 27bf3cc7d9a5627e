//! ID tokens: what an issuer says to us when a person has signed in with it (OpenID Connect Core 1.0 section 2). Not access
//! tokens: made for this gateway as an app of its own, in answer to one sign-in, and good for nothing but opening a session
//! of the console. No code path makes an [`Identity`](super::Identity) of one. Called by `issuer`.

use super::{
    KeySet, Rules, TokenError,
    claims::{Claims, missing},
    error::short,
    event::name,
    identity::{begun, not_expired},
    json,
    jws::{Header, Parts, check_length, members},
    unproved::Unproved,
};
use crate::model::{UnixTime, UserId};

/// Who signed in where: an issuer's word, and the names by which that issuer can take it back. Kept with the session that it
/// opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// The user named by the configured claim.
    pub user: UserId,
    /// The issuer's address.
    pub issuer: String,
    /// The issuer's own name for the user, `sub`.
    pub subject: String,
    /// The issuer's name for the sign-in, `sid`, where it gives one.
    pub session: Option<String>,
    /// `iat`.
    pub issued_at: UnixTime,
}

/// What an ID token has to answer to.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Our client ID at the issuer.
    pub client_id: &'a str,
    /// The nonce that was sent with the person.
    pub nonce: &'a str,
}

/// A believed ID token. The user may be told elsewhere: at the userinfo endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    user: Option<UserId>,
    issuer: String,
    subject: String,
    session: Option<String>,
    issued_at: UnixTime,
}

impl Vouched {
    /// The sign-in, where the token itself names the user.
    pub fn sign_in(self) -> Result<SignIn, Self> {
        match self.user.clone() {
            Some(user) => Ok(self.of(user)),
            None => Err(self),
        }
    }

    /// The sign-in, with the user that the issuer names in answer to a userinfo request. It has to be about the same `sub`.
    /// Source: OpenID Connect Core 1.0 section 5.3.2.
    pub fn with_userinfo(self, body: &[u8], rules: &Rules) -> Result<SignIn, TokenError> {
        let members = json::object(body, rules.json_depth)
            .map_err(|source| TokenError::Json { part: "userinfo answer", source })?;
        let claims = Claims::new(members);
        if claims.needed_text("sub")? != self.subject {
            return Err(TokenError::NotIdToken { mark: "the userinfo answer is about another sub".into() });
        }
        let user = claims.user(rules)?;
        Ok(self.of(user))
    }

    fn of(self, user: UserId) -> SignIn {
        let Self { issuer, subject, session, issued_at, .. } = self;
        SignIn { user, issuer, subject, session, issued_at }
    }
}

/// Every check but the signature. Source: OpenID Connect Core 1.0 section 3.1.3.7, RFC 8725 section 3.11.
///
/// `iss`, `sub`, `aud`, `exp`, `iat` and `nonce` are needed. `aud` has to hold our client ID; where it holds more, `azp` has to
/// say that the token is ours.
pub fn examine_id_token(
    token: &str,
    asked: Asked<'_>,
    rules: &Rules,
    keys: &KeySet,
    now: UnixTime,
) -> Result<Unproved<Vouched>, TokenError> {
    check_length(token, rules.max_token)?;
    let parts = Parts::split(token)?;
    let header = Header::read(parts.header, rules.json_depth)?;
    if header.critical {
        return Err(TokenError::Critical);
    }
    check_type(&header)?;
    let algorithm = header.algorithm(rules)?;

    let claims = Claims::new(members("claims", parts.claims, rules.json_depth)?);
    let issuer = claims.needed_text("iss")?;
    if issuer != rules.url {
        return Err(TokenError::Issuer { found: short(issuer) });
    }
    if claims.value("events").is_some() {
        return Err(TokenError::NotIdToken { mark: "it has the claim \"events\"".into() });
    }
    made_for(&claims, asked.client_id)?;
    if claims.needed_text("nonce")? != asked.nonce {
        return Err(TokenError::NotIdToken { mark: "its nonce is that of another sign-in".into() });
    }
    let expires_at = claims.date("exp")?.ok_or_else(|| missing("exp"))?;
    not_expired(expires_at, rules.leeway_s, now)?;
    let issued_at = claims.date("iat")?.ok_or_else(|| missing("iat"))?;
    begun("iat", Some(issued_at), rules.skew_s, now)?;
    begun("nbf", claims.date("nbf")?, rules.skew_s, now)?;

    let subject = name("sub", claims.needed_text("sub")?)?.to_owned();
    let session = claims.text("sid")?.map(|sid| name("sid", sid).map(str::to_owned)).transpose()?;
    let user = match claims.value(&rules.user_claim) {
        Some(_) => Some(claims.user(rules)?),
        None => None,
    };
    let key = keys.find(header.kid.as_deref(), algorithm, &rules.url)?.clone();
    let vouched = Vouched { user, issuer: rules.url.clone(), subject, session, issued_at };
    Ok(Unproved::new(token, algorithm, key, vouched))
}

/// `typ` says nothing in particular. Access tokens, logout tokens and events say what they are.
fn check_type(header: &Header) -> Result<(), TokenError> {
    match header.typ.as_deref() {
        None => Ok(()),
        Some(typ) if typ.eq_ignore_ascii_case("jwt") => Ok(()),
        Some(typ) => Err(TokenError::NotIdToken { mark: format!("typ {:?}", short(typ)) }),
    }
}

fn made_for(claims: &Claims, client_id: &str) -> Result<(), TokenError> {
    let found = claims.one_or_many("aud")?.ok_or_else(|| missing("aud"))?;
    let ours = [client_id.to_owned()];
    claims.audience_of(&ours)?;
    match claims.text("azp")? {
        Some(azp) if azp != client_id => {
            Err(TokenError::NotIdToken { mark: format!("its azp is {:?}, another app", short(azp)) })
        }
        None if found.len() > 1 => {
            Err(TokenError::NotIdToken { mark: "it is for several apps, and has no azp to say whose it is".into() })
        }
        _ => Ok(()),
    }
}
