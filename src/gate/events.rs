//! Identity events: from a signed event token to orders that every node obeys. Called by `admin`; the change feed then ends
//! the sessions that fall.

use std::time::Duration;

use tracing::{info, warn};

use super::Gate;
use crate::issuer::Unidentified;
use crate::model::{Secret, UnixTime};
use crate::policy::Whose;
use crate::store::{Noted, Order, OrderedBy, StoreError, What};
use crate::token::{Event, Form, Happening, Holder, TokenError, Whom};

/// What came of an event token that was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// It was heard before, and nothing was done this time.
    pub repeated: bool,
    /// So many words against tokens or accounts are new.
    pub changed: usize,
    /// What else it said, each with the reason why nothing comes of it.
    pub ignored: Vec<String>,
}

/// Why an event came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// It is not believed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Nobody can tell now; the issuer should send it again.
    #[error("{0}")]
    Unavailable(Unidentified),
    /// It could not be written; the issuer should send it again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no room for another closed account.
    #[error("limits.cutoffs is full of closed accounts: forget some, or raise it")]
    Full,
}

impl From<Unidentified> for EventError {
    fn from(error: Unidentified) -> Self {
        match error {
            Unidentified::Token(error) => Self::Token(error),
            other => Self::Unavailable(other),
        }
    }
}

impl EventError {
    /// Whether sending the same event again later may help.
    pub fn is_temporary(&self) -> bool {
        !matches!(self, Self::Token(_))
    }

    /// The error code for the sender. Source: RFC 8935 section 2.4.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Token(TokenError::Issuer { .. }) => "invalid_issuer",
            Self::Token(TokenError::Audience { .. }) => "invalid_audience",
            Self::Token(
                TokenError::UnknownKey { .. }
                | TokenError::KeyNotNamed { .. }
                | TokenError::KeyAlgorithm { .. }
                | TokenError::Algorithm { .. },
            ) => "invalid_key",
            Self::Token(TokenError::Signature { .. }) => "authentication_failed",
            _ => "invalid_request",
        }
    }

    /// What the sender is told. Whoever has not signed anything yet does not learn what else would be taken.
    pub fn told(&self) -> String {
        match self {
            Self::Token(TokenError::Audience { found, .. }) => {
                format!("aud {found:?} has nothing of this issuer's event_audience here")
            }
            other => other.to_string(),
        }
    }
}

impl Gate {
    /// Takes an event token in: believes it or not, and has its orders written, once for all nodes. When this returns, no
    /// token that the event is about opens a session any more, and the sessions it opened are ending.
    ///
    /// `from` is the address of the issuer it has to be from, where the way it came names one. The same event again is
    /// no error: its sender has not heard that it arrived. Source: RFC 8935 section 2.
    pub async fn hear(
        &self,
        form: Form,
        from: Option<&str>,
        token: &Secret,
        now: UnixTime,
    ) -> Result<Heard, EventError> {
        let heard = self.hear_in_full(form, from, token, now).await;
        let counted = match &heard {
            Ok(Heard { repeated: false, .. }) => &self.metrics.events_done,
            Ok(_) => &self.metrics.events_repeated,
            Err(error) if error.is_temporary() => &self.metrics.events_failed,
            Err(_) => &self.metrics.events_refused,
        };
        counted.inc();
        match &heard {
            Ok(Heard { repeated, changed, ignored }) => info!(repeated, changed, ?ignored, "identity event"),
            // No audit row: anybody can send anything, and the audit log must not be flooded.
            Err(error) if !error.is_temporary() => info!(%error, "an identity event was refused"),
            Err(error) => warn!(%error, "an identity event could not be taken in"),
        }
        heard
    }

    async fn hear_in_full(
        &self,
        form: Form,
        from: Option<&str>,
        token: &Secret,
        now: UnixTime,
    ) -> Result<Heard, EventError> {
        let token = self.issuers.event(form, from, token, now).await?;
        let rules = self.issuers.rules_at(token.issuer());
        let age = rules.map_or(0, |rules| rules.event_age_s.saturating_add(rules.skew_s));
        let by = OrderedBy {
            issuer: token.issuer().to_owned(),
            id: token.id().to_owned(),
            key: token.key().to_owned(),
            // One second more, because the age is cut to whole seconds.
            remember_until: token.issued_at() + Duration::from_secs(age.saturating_add(1)),
            notes: Vec::new(),
        };
        let verification = token.events().iter().filter(|event| event.what == Happening::Verification);
        let verification = verification.map(|event| event.what.word().to_owned());
        let by = OrderedBy { notes: verification.chain(token.ignored().iter().cloned()).collect(), ..by };
        let orders: Vec<Order> = token.events().iter().flat_map(orders).collect();
        let heard = |repeated, changed| Heard { repeated, changed, ignored: token.ignored().to_vec() };
        match self.store.obey(&by, &orders, now).await? {
            Noted::Repeated => Ok(heard(true, 0)),
            Noted::Changed(changed) => Ok(heard(false, changed)),
            Noted::Full => Err(EventError::Full),
        }
    }
}

/// What an event asks for, in the store's words.
fn orders(event: &Event) -> Vec<Order> {
    let what = match event.what {
        Happening::SessionRevoked
        | Happening::SessionsRevoked
        | Happening::CredentialChange
        | Happening::Logout => What::Revoke,
        Happening::AccountDisabled => What::Disable,
        Happening::AccountEnabled => What::Enable,
        Happening::AccountPurged => What::Purge,
        Happening::Verification => return Vec::new(),
    };
    let whose = event.whom.iter().flat_map(tokens_of);
    whose.map(|whose| Order { what, whose, at: event.at, event: event.what.word() }).collect()
}

/// Whose tokens an event about them is about. A token that does not say from which sign-in it comes may be from any: the
/// end of one sign-in is the end of it, and of no token that names another.
fn tokens_of(whom: &Whom) -> Vec<Whose> {
    match whom {
        Whom::Account(Holder::Subject(sub)) => vec![Whose::Subject(sub.clone())],
        Whom::Account(Holder::Address(user)) => vec![Whose::Address(user.clone())],
        Whom::Opaque(id) => vec![Whose::Subject(id.clone()), Whose::Session(id.clone())],
        Whom::Session { id, of } => {
            let mut whose = vec![Whose::Session(id.clone())];
            whose.extend(of.as_ref().map(|holder| match holder {
                Holder::Subject(sub) => Whose::SubjectWithoutSession(sub.clone()),
                Holder::Address(user) => Whose::AddressWithoutSession(user.clone()),
            }));
            whose
        }
    }
}
