//! Identity events: what an issuer says of its accounts and sign-ins, signed like a token and never taken for one.
//!
//! - Security event tokens (RFC 8417), as OpenID Shared Signals 1.0 sends them: `typ` is `secevent+jwt`, always.
//! - Logout tokens (OpenID Connect Back-Channel Logout 1.0 section 2.4): `typ` is `logout+jwt`, or `JWT`, or absent; then
//!   the one event that makes it a logout token tells it from others.
//!
//! Neither is ever an access token: [`super::verify`] refuses both `typ`s, and `events` where `typ` says nothing. No access
//! token and no ID token is ever an event: `at+jwt` is refused here, and so is what has no `events` or has a `nonce`.

use serde_json::{Map, Value};

use super::{
    KeySet, Rules, TokenError,
    claims::{Claims, missing, wrong_type},
    error::short,
    identity::{begun, not_expired},
    jws::{Header, Parts, check_length, members},
    unproved::Unproved,
};
use crate::model::{UnixTime, UserId};

mod subject;

pub use subject::{Holder, Whom};

/// Most events in one token.
const MOST_EVENTS: usize = 16;
/// Longest `jti`, `sub`, `sid` or identifier, in bytes.
pub(super) const MOST_NAME: usize = 512;
/// The event that makes a logout token. Source: OpenID Connect Back-Channel Logout 1.0 section 2.4.
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// How an event arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A security event token, pushed (RFC 8935).
    SecurityEvent,
    /// A logout token, in a form (OpenID Connect Back-Channel Logout 1.0 section 2.5).
    Logout,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A sign-in has ended. CAEP 1.0 section 3.1.
    SessionRevoked,
    /// A credential was changed or taken away. CAEP 1.0 section 3.3.
    CredentialChange,
    /// Every sign-in of the account has ended. RISC Profile 1.0 (deprecated there, and still sent).
    SessionsRevoked,
    /// The account was disabled. RISC Profile 1.0 section 2.3.
    AccountDisabled,
    /// The account was enabled again. RISC Profile 1.0 section 2.4.
    AccountEnabled,
    /// The account was deleted for good. RISC Profile 1.0 section 2.2.
    AccountPurged,
    /// The user signed out. OpenID Connect Back-Channel Logout 1.0.
    Logout,
    /// The issuer tries whether events arrive. OpenID Shared Signals Framework 1.0, "Verification".
    Verification,
}

impl Happening {
    const TYPES: [(Self, &'static str); 7] = [
        (Self::SessionRevoked, "https://schemas.openid.net/secevent/caep/event-type/session-revoked"),
        (Self::CredentialChange, "https://schemas.openid.net/secevent/caep/event-type/credential-change"),
        (Self::SessionsRevoked, "https://schemas.openid.net/secevent/risc/event-type/sessions-revoked"),
        (Self::AccountDisabled, "https://schemas.openid.net/secevent/risc/event-type/account-disabled"),
        (Self::AccountEnabled, "https://schemas.openid.net/secevent/risc/event-type/account-enabled"),
        (Self::AccountPurged, "https://schemas.openid.net/secevent/risc/event-type/account-purged"),
        (Self::Verification, "https://schemas.openid.net/secevent/ssf/event-type/verification"),
    ];

    fn of_type(uri: &str) -> Option<Self> {
        Self::TYPES.iter().find(|(_, known)| *known == uri).map(|(happening, _)| *happening)
    }

    /// The last part of the event's type, for the audit row: `session-revoked`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::SessionRevoked => "session-revoked",
            Self::CredentialChange => "credential-change",
            Self::SessionsRevoked => "sessions-revoked",
            Self::AccountDisabled => "account-disabled",
            Self::AccountEnabled => "account-enabled",
            Self::AccountPurged => "account-purged",
            Self::Logout => "logout",
            Self::Verification => "verification",
        }
    }

    /// Whether it is about an account as a whole, so that a sign-in alone is no subject for it.
    const fn is_of_account(self) -> bool {
        matches!(self, Self::SessionsRevoked | Self::AccountDisabled | Self::AccountEnabled | Self::AccountPurged)
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub what: Happening,
    /// Whose tokens it is about; none for a verification.
    pub whom: Option<Whom>,
    /// When, by the issuer's clock: the event's own time, else the token's `toe`, else its `iat`.
    pub at: UnixTime,
}

/// A believed event token. Only this room makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventToken {
    issuer: String,
    id: String,
    key: String,
    issued_at: UnixTime,
    events: Vec<Event>,
    ignored: Vec<String>,
}

impl EventToken {
    /// The issuer's address, `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Its own name, `jti`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name of the key that signed it.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// `iat`.
    pub fn issued_at(&self) -> UnixTime {
        self.issued_at
    }

    /// What happened, as far as it is of use here.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What else it says, each with the reason why nothing comes of it.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }
}

/// Every check but the signature. Source: RFC 8417 section 2.2, OpenID Shared Signals Framework 1.0 section 4, OpenID
/// Connect Back-Channel Logout 1.0 section 2.6.
///
/// `iss`, `aud`, `iat`, `jti` and `events` are needed; `exp` counts if it stands there. `iat` may be as old as the rules
/// say, and no further ahead than other tokens'.
pub fn examine_event(
    token: &str,
    form: Form,
    rules: &Rules,
    keys: &KeySet,
    now: UnixTime,
) -> Result<Unproved<EventToken>, TokenError> {
    check_length(token, rules.max_token)?;
    let parts = Parts::split(token)?;
    let header = Header::read(parts.header, rules.json_depth)?;
    if header.critical {
        return Err(TokenError::Critical);
    }
    check_type(&header, form)?;
    let algorithm = header.algorithm(rules)?;

    let claims = Claims::new(members("claims", parts.claims, rules.json_depth)?);
    let issuer = claims.needed_text("iss")?;
    if issuer != rules.url {
        return Err(TokenError::Issuer { found: short(issuer) });
    }
    if let Some(mark) = ["nonce", "at_hash", "c_hash", "s_hash"].iter().find(|name| claims.value(name).is_some()) {
        return Err(TokenError::NotEvent { mark: format!("it has the claim {mark:?}, which no event has") });
    }
    claims.audience_of(&rules.event_audience)?;
    let issued_at = claims.date("iat")?.ok_or_else(|| missing("iat"))?;
    begun("iat", Some(issued_at), rules.skew_s, now)?;
    fresh(issued_at, rules.event_age_s, now)?;
    begun("nbf", claims.date("nbf")?, rules.skew_s, now)?;
    if let Some(expires_at) = claims.date("exp")? {
        not_expired(expires_at, rules.leeway_s, now)?;
    }
    let id = name("jti", claims.needed_text("jti")?)?.to_owned();
    let happened_at = claims.date("toe")?.unwrap_or(issued_at);
    let (events, ignored) = match form {
        Form::SecurityEvent => security_events(&claims, rules, happened_at)?,
        Form::Logout => (vec![logout(&claims, issued_at)?], Vec::new()),
    };
    for event in &events {
        begun("event_timestamp", Some(event.at), rules.skew_s, now)?;
    }

    let key = keys.find(header.kid.as_deref(), algorithm, &rules.url)?.clone();
    let issuer = rules.url.clone();
    let event = EventToken { issuer, id, key: key.name().to_owned(), issued_at, events, ignored };
    Ok(Unproved::new(token, algorithm, key, event))
}

fn check_type(header: &Header, form: Form) -> Result<(), TokenError> {
    let word = header.typ.as_deref().map(str::to_ascii_lowercase);
    let word = word.as_deref().map(|word| word.strip_prefix("application/").unwrap_or(word));
    match (form, word) {
        (Form::SecurityEvent, Some("secevent+jwt")) | (Form::Logout, None | Some("logout+jwt" | "jwt")) => Ok(()),
        (_, typ) => Err(TokenError::NotEvent { mark: format!("typ {:?}", typ.map(short).unwrap_or_default()) }),
    }
}

/// Not so old that its like may have been forgotten.
fn fresh(issued_at: UnixTime, limit_s: u64, now: UnixTime) -> Result<(), TokenError> {
    let age_s = issued_at.until(now).as_secs();
    if age_s > limit_s {
        return Err(TokenError::Stale { at: issued_at, age_s, limit_s });
    }
    Ok(())
}

/// A name that a database can keep and a person can read.
pub(super) fn name<'t>(claim: &str, text: &'t str) -> Result<&'t str, TokenError> {
    if text.is_empty() || text.len() > MOST_NAME || text.chars().any(char::is_control) {
        return Err(wrong_type(claim, "a text of 1 to 512 bytes without control characters"));
    }
    Ok(text)
}

/// An event's type and what it says.
type Typed<'c> = (&'c str, &'c Map<String, Value>);

/// `events`: one object for each type (RFC 8417 section 2.2).
fn events(claims: &Claims) -> Result<Vec<Typed<'_>>, TokenError> {
    const EXPECTED: &str = "an object of 1 to 16 objects";
    let Some(value) = claims.value("events") else { return Err(missing("events")) };
    let events = value.as_object().filter(|events| (1..=MOST_EVENTS).contains(&events.len()));
    let events = events.ok_or_else(|| wrong_type("events", EXPECTED))?;
    let each = events.iter().map(|(uri, event)| Some((uri.as_str(), event.as_object()?)));
    each.collect::<Option<_>>().ok_or_else(|| wrong_type("events", EXPECTED))
}

fn logout(claims: &Claims, at: UnixTime) -> Result<Event, TokenError> {
    if !events(claims)?.iter().any(|(uri, _)| *uri == LOGOUT) {
        return Err(TokenError::NotEvent { mark: "its events have no backchannel-logout".into() });
    }
    let sub = claims.text("sub")?.map(|sub| name("sub", sub)).transpose()?;
    let sid = claims.text("sid")?.map(|sid| name("sid", sid)).transpose()?;
    let holder = sub.map(|sub| Holder::Subject(sub.to_owned()));
    let whom = match (sid, holder) {
        (Some(sid), holder) => Whom::Session { id: sid.to_owned(), of: holder },
        (None, Some(holder)) => Whom::Account(holder),
        (None, None) => return Err(missing("sub or sid")),
    };
    Ok(Event { what: Happening::Logout, whom: Some(whom), at })
}

fn security_events(
    claims: &Claims,
    rules: &Rules,
    happened_at: UnixTime,
) -> Result<(Vec<Event>, Vec<String>), TokenError> {
    let (mut known, mut ignored) = (Vec::new(), Vec::new());
    for (uri, members) in events(claims)? {
        let Some(what) = Happening::of_type(uri) else {
            ignored.push(format!("{}: not an event that ends sessions", short(uri)));
            continue;
        };
        let event = Claims::new(members.clone());
        let at = event.date("event_timestamp")?.unwrap_or(happened_at);
        if what == Happening::Verification {
            known.push(Event { what, whom: None, at });
            continue;
        }
        if what == Happening::CredentialChange && event.text("change_type")? == Some("create") {
            ignored.push("credential-change: a credential was added, none was taken away".into());
            continue;
        }
        match subject::read(claims, &event, rules)? {
            Ok(whom) => match whom.fit(what.is_of_account()) {
                Some(whom) => known.push(Event { what, whom: Some(whom), at }),
                None => ignored.push(format!("{}: its subject is no account", what.word())),
            },
            Err(why) => ignored.push(format!("{}: {why}", what.word())),
        }
    }
    Ok((known, ignored))
}
