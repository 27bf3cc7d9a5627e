//! A "no" and how each protocol says it: the table of product.md section 5, in one place.

use std::{borrow::Cow, sync::Arc};

use crate::imap::write::Code;
use crate::issuer::Unidentified;
use crate::model::{Blame, Place, Reference, Service, UnixTime};
use crate::policy::{Ceiling, Refusal};
use crate::sasl::{Failure, SaslError};
use crate::token::TokenError;

impl From<Unidentified> for Cause {
    fn from(error: Unidentified) -> Self {
        let (reason, blame) = (error.reason(), error.blame());
        match error {
            Unidentified::Token(error) => Self::Token(error),
            unavailable => Self::Unavailable { detail: unavailable.to_string(), reason, blame },
        }
    }
}

/// A no, ready to be told: why, and the reference that finds its audit row.
#[derive(Clone, Debug)]
pub struct Denial {
    /// Why.
    pub cause: Cause,
    /// What the peer is told so that an admin finds the audit row.
    pub reference: Reference,
    /// The service it was refused for.
    pub service: Service,
    /// What a program may show or fetch after an OAuth failure (RFC 7628 section 3.2.2).
    pub hint: Hint,
}

/// What an issuer's clients need to know to do better.
#[derive(Clone, Debug, Default)]
pub struct Hint {
    /// Scopes that would suffice, separated by spaces.
    pub scope: String,
    /// Where the issuer describes itself (OpenID discovery).
    pub discovery: Option<String>,
    /// Where this gateway's own pages are: `https://mail.example.com`.
    pub help: Option<Arc<str>>,
}

/// Longest text that an address is added to, in bytes: a POP3 reply ends at 512, with its code in front (RFC 2449
/// section 4), and what is cut off an address leads nowhere.
const MOST_WITH_HELP: usize = 480;

/// The cause word of a session that somebody ended by name, in the row of its end (`session.ended`). No login has it.
const ENDED_BY_ADMIN: &str = "ended_by_admin";

/// Why the answer is no.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Cause {
    /// The SASL message could not be read.
    #[error("SASL message: {0}")]
    Sasl(SaslError),
    /// The token is not believed.
    #[error("token: {0}")]
    Token(TokenError),
    /// The token is good but carries none of the scopes asked for.
    #[error("token has none of the scopes {wanted:?}")]
    Scope {
        /// Scopes of which one would have sufficed.
        wanted: String,
    },
    /// Policy says no.
    #[error("{0}")]
    Policy(Refusal),
    /// The key the token was signed with was withdrawn while the session was open.
    #[error("the signing key {key} of {issuer} was withdrawn")]
    KeyWithdrawn {
        /// The issuer.
        issuer: String,
        /// Its key's id.
        key: String,
    },
    /// The token ran out and sessions are configured to end with it.
    #[error("the session's token expired")]
    TokenExpired,
    /// An admin, or the user from elsewhere, ended this session; a new one may begin.
    #[error("ended by {by}")]
    EndedByAdmin {
        /// Who, as the audit log names them.
        by: String,
        /// They are the session's own user.
        own: bool,
    },
    /// The user has as many sessions as one may have.
    #[error("{user} has {limit} sessions open already")]
    TooManySessions {
        /// Whose.
        user: String,
        /// How many are allowed.
        limit: usize,
    },
    /// The user has received and sent as many bytes today as one may.
    #[error("{user} has exchanged {spent} bytes today, of {most} (set at {at})")]
    DayUsedUp {
        /// Who.
        user: String,
        /// How many there were.
        spent: u64,
        /// How many are allowed.
        most: u64,
        /// When the next day begins.
        anew: UnixTime,
        /// The unit that sets the limit.
        at: Place,
    },
    /// Something the verdict needs is out of reach; never a yes.
    #[error("out of reach: {detail}")]
    Unavailable {
        /// For the log only.
        detail: String,
        /// The audit row's reason.
        reason: &'static str,
        /// Whose fault it is.
        blame: Blame,
    },
    /// The mail server that has the mailbox did not let its owner in.
    #[error("{detail}")]
    Upstream {
        /// For the log only.
        detail: String,
        /// It may do so when other sessions there have ended.
        busy: bool,
    },
    /// A password way in was tried: `LOGIN`, `USER`, `AUTHENTICATE PLAIN`, ...
    #[error("password sign-in by {how}")]
    Password {
        /// The command or mechanism.
        how: String,
    },
}

impl Cause {
    /// The audit row's `reason` (one word, stable).
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Sasl(_) => "sasl_malformed",
            Self::Token(error) => error.reason(),
            Self::Scope { .. } => "token_scope",
            Self::Policy(refusal) => refusal.reason(),
            Self::KeyWithdrawn { .. } => "token_key_withdrawn",
            Self::TokenExpired => "token_expired",
            Self::EndedByAdmin { .. } => ENDED_BY_ADMIN,
            Self::TooManySessions { .. } => "limit_sessions",
            Self::DayUsedUp { .. } => "limit_bytes",
            Self::Unavailable { reason, .. } => reason,
            Self::Upstream { .. } => "upstream_refused",
            Self::Password { .. } => "legacy_password",
        }
    }

    /// Who has to mend it.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Token(error) => error.blame(),
            Self::Unavailable { blame, .. } => *blame,
            Self::Upstream { .. } => Blame::Dependency,
            _ => Blame::Peer,
        }
    }

    /// Whether whoever knocked has shown nothing that we believe: such knocks are slowed down.
    pub fn is_stranger(&self) -> bool {
        matches!(self, Self::Sasl(_) | Self::Token(_) | Self::Password { .. })
    }

    /// Where an admin can change the answer, when policy decided.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Policy(refusal) => refusal.place(),
            Self::DayUsedUp { at, .. } => Some(at),
            _ => None,
        }
    }
}

impl Denial {
    /// What the failed SASL exchange says before the final reply, if it says anything (RFC 7628 section 3.2.3).
    pub fn failure(&self) -> Option<Failure> {
        match &self.cause {
            Cause::Token(_)
            | Cause::KeyWithdrawn { .. }
            | Cause::TokenExpired
            | Cause::Policy(Refusal::TokenRevoked { .. }) => Some(Failure::InvalidToken),
            Cause::Scope { .. } | Cause::Policy(_) => Some(Failure::InsufficientScope),
            Cause::Sasl(_)
            | Cause::TooManySessions { .. }
            | Cause::DayUsedUp { .. }
            | Cause::Unavailable { .. }
            | Cause::Upstream { .. }
            | Cause::Password { .. }
            | Cause::EndedByAdmin { .. } => None,
        }
    }

    /// Code and text of the tagged `NO`, or of the `BYE` to a session that fell.
    pub fn imap(&self) -> (Code<'static>, String) {
        let code = match &self.cause {
            Cause::Sasl(_) | Cause::Token(_) | Cause::KeyWithdrawn { .. } => Code::AuthenticationFailed,
            Cause::TokenExpired => Code::Expired,
            Cause::Scope { .. } => Code::AuthorizationFailed,
            Cause::Policy(refusal) => match refusal {
                Refusal::TokenRevoked { .. } => Code::AuthenticationFailed,
                Refusal::UserUnknown { .. }
                | Refusal::NotMember { .. }
                | Refusal::GrantDisabled { .. }
                | Refusal::GrantRemoved { .. } => Code::AuthorizationFailed,
                Refusal::RightsLowered { .. } => Code::NoPerm,
                Refusal::HomeMoved { .. } => Code::Unavailable,
                Refusal::ServiceOffByUser { .. } => Code::Alert,
                _ => Code::ContactAdmin,
            },
            Cause::TooManySessions { .. } | Cause::DayUsedUp { .. } => Code::Limit,
            Cause::Unavailable { .. } => Code::Unavailable,
            Cause::Upstream { busy: true, .. } => Code::InUse,
            Cause::Upstream { busy: false, .. } => Code::ContactAdmin,
            Cause::Password { .. } | Cause::EndedByAdmin { .. } => Code::Alert,
        };
        (code, self.text())
    }

    /// Code and text of the `-ERR`.
    /// Codes are those of RFC 2449 and RFC 3206.
    pub fn pop(&self) -> (&'static str, String) {
        let code = match &self.cause {
            Cause::Policy(
                Refusal::TokenRevoked { .. } | Refusal::UserUnknown { .. } | Refusal::NotMember { .. },
            ) => "AUTH",
            Cause::Policy(Refusal::RightsLowered { .. } | Refusal::HomeMoved { .. }) => "SYS/TEMP",
            Cause::Policy(_) => "SYS/PERM",
            Cause::TooManySessions { .. } | Cause::Upstream { busy: true, .. } => "IN-USE",
            Cause::Upstream { busy: false, .. } => "SYS/PERM",
            Cause::DayUsedUp { .. } | Cause::Unavailable { .. } | Cause::EndedByAdmin { .. } => "SYS/TEMP",
            Cause::Sasl(_)
            | Cause::Token(_)
            | Cause::Scope { .. }
            | Cause::KeyWithdrawn { .. }
            | Cause::TokenExpired
            | Cause::Password { .. } => "AUTH",
        };
        (code, self.text())
    }

    /// Mail programs look for some of these beginnings; none of them names a file, a key or a query.
    fn text(&self) -> String {
        let service = self.service.title();
        let text: Cow<'static, str> = match &self.cause {
            // One text for every token that is not believed: a guesser learns nothing.
            Cause::Sasl(_) | Cause::Token(_) => {
                "Sign-in failed: the token was not accepted. Sign in again with OAuth.".into()
            }
            Cause::KeyWithdrawn { .. } => "Your sign-in was withdrawn. Sign in again with OAuth.".into(),
            Cause::TokenExpired => "Your sign-in has expired. Sign in again with OAuth.".into(),
            Cause::EndedByAdmin { own: true, .. } => {
                "You ended this session from elsewhere. Sign in again to go on.".into()
            }
            Cause::EndedByAdmin { own: false, .. } => {
                "This session was ended by an administrator. Sign in again to go on.".into()
            }
            Cause::Scope { wanted } => {
                format!("The token does not cover {service} mail: it needs one of the scopes {wanted}.").into()
            }
            Cause::Policy(refusal) => self.policy_text(refusal, service).into(),
            Cause::TooManySessions { limit, .. } => {
                format!("Too many {service} sessions: close one of your {limit} first.").into()
            }
            Cause::DayUsedUp { most, anew, .. } => {
                let most = Ceiling::At(*most).storage_text();
                format!("Your limit of {most} bytes a day is used up. It begins anew at {anew}.").into()
            }
            Cause::Unavailable { .. } => "Temporarily unavailable: try again in a minute.".into(),
            Cause::Upstream { busy: true, .. } => {
                "Your mailbox is in use, or has too many sessions: close one and try again.".into()
            }
            Cause::Upstream { busy: false, .. } => {
                "The mail server that has your mailbox does not let you in. Ask your administrator.".into()
            }
            Cause::Password { .. } => {
                "Passwords are not accepted; sign in with OAuth (XOAUTH2 or OAUTHBEARER).".into()
            }
        };
        let text = format!("{text} (ref {})", self.reference);
        let Some(help) = &self.hint.help else { return text };
        let whole = format!("{text} See {help}/help/ref/{}", self.reference);
        if whole.len() <= MOST_WITH_HELP { whole } else { text }
    }

    fn policy_text(&self, refusal: &Refusal, service: &str) -> String {
        let app = || match refusal.app() {
            Some((id, Some(name))) => format!("{name} ({id})"),
            Some((id, None)) => id.to_string(),
            None => "This app".to_owned(),
        };
        match refusal {
            Refusal::TokenRevoked { .. } => "Your sign-in was withdrawn. Sign in again with OAuth.".to_owned(),
            Refusal::AccountClosed { .. } => {
                "This account is closed at your organisation's sign-in service. Ask your administrator.".to_owned()
            }
            Refusal::UserUnknown { .. } | Refusal::NotMember { .. } => {
                "This account may not open that mailbox.".to_owned()
            }
            Refusal::RightsLowered { .. } => {
                "You may only read this mailbox from now on. Connect again to go on reading.".to_owned()
            }
            Refusal::HomeMoved { .. } => {
                "This mailbox has moved to another server. Connect again to go on there.".to_owned()
            }
            Refusal::UserSuspended { .. } => {
                format!("{service} access is suspended for this account. Ask your administrator.")
            }
            Refusal::ServiceOff { .. } => {
                format!(
                    "{service} access is disabled for your domain. Ask your administrator to turn it on for you."
                )
            }
            Refusal::ServiceOffByUser { service: Service::Imap, .. } => {
                "Your account is not enabled for IMAP use. Turn IMAP on in your account's settings.".to_owned()
            }
            Refusal::ServiceOffByUser { service: Service::Pop, .. } => {
                "Your account is not enabled for POP access. Turn POP on in your account's settings.".to_owned()
            }
            Refusal::AppNotListed { .. } => {
                format!("{} is not allowed to use {service} here. Ask your administrator to allow this app.", app())
            }
            Refusal::AppBlocked { .. } => {
                format!("{} is blocked in your organisation. Ask your administrator.", app())
            }
            Refusal::AppLimited { .. } => {
                format!("{} is not allowed for your part of the organisation. Ask your administrator.", app())
            }
            Refusal::ServiceAccount { .. } => format!(
                "{} acts as a service account, which is not allowed to use {service} here. Ask your administrator \
                 to delegate it.",
                app()
            ),
            Refusal::GrantDisabled { .. } => format!(
                "Access of {} to this mailbox is disabled. Ask your administrator to enable it again.",
                app()
            ),
            Refusal::GrantRemoved { .. } => format!(
                "Access of {} to this mailbox was removed. To reconnect, sign in again in your mail program.",
                app()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::ClientId;
    use crate::pop3::reply::MAX_REPLY;

    fn denial(app: &str, help: Option<&str>) -> Denial {
        let refusal = Refusal::AppNotListed {
            app: ClientId::parse(app).unwrap(),
            name: Some("Some Mail".into()),
            service: Service::Pop,
            at: Place::Unit(crate::model::UnitPath::root()),
        };
        let hint = Hint { help: help.map(Into::into), ..Hint::default() };
        let reference = Reference::parse("7F3K2Q").unwrap();
        Denial { cause: Cause::Policy(refusal), reference, service: Service::Pop, hint }
    }

    #[test]
    fn a_refusal_ends_with_the_page_that_explains_it_where_there_is_room() {
        let help = "https://mail.example.com";
        let (_, bare) = denial("app", None).imap();
        assert!(bare.starts_with("Some Mail (app) is not allowed to use POP here."), "{bare}");
        assert!(bare.ends_with("(ref 7F3K2Q)"), "{bare}");
        let (_, told) = denial("app", Some(help)).imap();
        assert_eq!(told, format!("{bare} See https://mail.example.com/help/ref/7F3K2Q"));

        for length in 1..=255 {
            let (code, text) = denial(&"a".repeat(length), Some(help)).pop();
            let whole = format!("-ERR [{code}] {text}\r\n");
            assert!(whole.len() <= MAX_REPLY, "{length}: {} bytes", whole.len());
            assert!(text.ends_with("(ref 7F3K2Q)") || text.ends_with("/help/ref/7F3K2Q"), "{length}: {text}");
        }
        let far = format!("https://{}example.com", "long.".repeat(30));
        let (_, text) = denial(&"a".repeat(255), Some(&far)).pop();
        assert!(text.ends_with("(ref 7F3K2Q)"), "{text}");
    }
}
