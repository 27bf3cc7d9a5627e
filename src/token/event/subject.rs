//! Whom an event is about. Source: RFC 9493 (formats), OpenID Shared Signals Framework 1.0 section 3 (complex subjects).

use serde_json::{Map, Value};

use super::{
    super::{
        Rules, TokenError,
        claims::{Claims, missing, wrong_type},
        error::short,
    },
    UserId, name,
};

/// Who holds tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// By the issuer's own name, `sub`.
    Subject(String),
    /// By address, read as the issuer's rules read the user claim.
    Address(UserId),
}

/// Whose tokens an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// All of an account's.
    Account(Holder),
    /// Those of one sign-in, `sid`, and whose it is if that was said.
    Session {
        /// The sign-in's name.
        id: String,
        /// Whose.
        of: Option<Holder>,
    },
    /// By a name that may be an account's or a sign-in's: CAEP lets an issuer use either.
    Opaque(String),
}

impl Whom {
    /// As an account, where the event is about one; `None` if it names none.
    pub(super) fn fit(self, account: bool) -> Option<Self> {
        match self {
            Self::Opaque(id) if account => Some(Self::Account(Holder::Subject(id))),
            Self::Session { of, .. } if account => of.map(Self::Account),
            other => Some(other),
        }
    }
}

/// A subject that is understood, or why nothing comes of it.
type Read<T> = Result<Result<T, String>, TokenError>;

/// The subject: `sub_id` (RFC 9493 section 4.1), else the event's own `subject` as drafts had it, else `sub`.
pub(super) fn read(claims: &Claims, event: &Claims, rules: &Rules) -> Read<Whom> {
    let whole = |claim: &'static str, value: &Value| match value {
        Value::Object(members) => whom(claim, members, rules),
        _ => Err(wrong_type(claim, "an object")),
    };
    if let Some(value) = claims.value("sub_id") {
        return whole("sub_id", value);
    }
    if let Some(value) = event.value("subject") {
        return whole("subject", value);
    }
    match claims.text("sub")? {
        Some(sub) => Ok(Ok(Whom::Account(Holder::Subject(name("sub", sub)?.to_owned())))),
        None => Err(missing("sub_id")),
    }
}

fn whom(claim: &'static str, members: &Map<String, Value>, rules: &Rules) -> Read<Whom> {
    let subject = Claims::new(members.clone());
    match subject.needed_text("format")? {
        "complex" => complex(&subject, rules),
        "opaque" => Ok(Ok(Whom::Opaque(name("id", subject.needed_text("id")?)?.to_owned()))),
        _ => Ok(holder(claim, members, rules)?.map(Whom::Account)),
    }
}

/// A user, a sign-in, or both. What else stands there (`device`, `application`, ...) narrows a subject down further than
/// tokens can tell; more than was meant falls then, not less.
fn complex(subject: &Claims, rules: &Rules) -> Read<Whom> {
    let member = |claim: &'static str| match subject.value(claim) {
        None => Ok(None),
        Some(Value::Object(members)) => Ok(Some((claim, members))),
        Some(_) => Err(wrong_type(claim, "an object")),
    };
    let user = match member("user")? {
        None => None,
        Some((claim, members)) => match holder(claim, members, rules)? {
            Ok(holder) => Some(holder),
            Err(why) => return Ok(Err(why)),
        },
    };
    let session = match member("session")? {
        None => None,
        Some((_, members)) => {
            let session = Claims::new(members.clone());
            match session.needed_text("format")? {
                "opaque" => Some(name("id", session.needed_text("id")?)?.to_owned()),
                _ => None,
            }
        }
    };
    Ok(match (session, user) {
        (Some(id), of) => Ok(Whom::Session { id, of }),
        (None, Some(holder)) => Ok(Whom::Account(holder)),
        (None, None) => Err("its complex subject names no user and no session that tokens tell of".into()),
    })
}

fn holder(claim: &'static str, members: &Map<String, Value>, rules: &Rules) -> Read<Holder> {
    let subject = Claims::new(members.clone());
    match subject.needed_text("format")? {
        "iss_sub" => {
            let issuer = subject.needed_text("iss")?;
            if issuer != rules.url {
                return Ok(Err(format!("its {claim} is an account of {}", short(issuer))));
            }
            Ok(Ok(Holder::Subject(name("sub", subject.needed_text("sub")?)?.to_owned())))
        }
        "email" => {
            let user = rules.user(subject.needed_text("email")?);
            let user = user.map_err(|error| TokenError::User { problem: error.to_string() })?;
            Ok(Ok(Holder::Address(user)))
        }
        "opaque" => Ok(Ok(Holder::Subject(name("id", subject.needed_text("id")?)?.to_owned()))),
        other => Ok(Err(format!("its {claim} has the format {:?}, which tokens do not tell of", short(other)))),
    }
}
