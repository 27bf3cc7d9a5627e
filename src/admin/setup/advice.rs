//! What the replies of the gate mean and what to do then. The same for everybody: by the text that a person read, or, for
//! whoever may know it, by the cause in the audit row.

/// What to know of one kind of refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// Its anchor on the page.
    pub(super) id: &'static str,
    /// A part of the reply that no other has, as it is sent.
    pub(super) says: &'static str,
    /// The cause words of the audit log; one that ends in `_` stands for all that begin so.
    causes: &'static [&'static str],
    /// What it means.
    pub(super) means: &'static str,
    /// What to do.
    pub(super) remedy: &'static str,
}

impl Advice {
    /// Every kind there is.
    pub(super) const ALL: &'static [Self] = &[
        Self {
            id: "token",
            says: "the token was not accepted",
            causes: &["token_", "sasl_malformed"],
            means: "Your mail program signed in with a token that is not good: it has expired, was made for another service, \
                    comes from another issuer, or arrived damaged.",
            remedy: "Sign in again in your mail program: remove its saved sign-in for this account and let it open your \
                     organisation's sign-in page. If that does not help, check the program's settings against the page on \
                     set-up.",
        },
        Self {
            id: "withdrawn",
            says: "Your sign-in was withdrawn",
            causes: &["token_revoked", "token_key_withdrawn"],
            means: "Your organisation's sign-in service ended the sign-in that your mail program used: you signed out, your \
                    password was changed, or its signing key was replaced.",
            remedy: "Sign in again in your mail program.",
        },
        Self {
            id: "expired",
            says: "Your sign-in has expired",
            causes: &["token_expired"],
            means: "The token that your mail program used has run out.",
            remedy: "Most programs fetch a new one by themselves. If yours does not, sign in again.",
        },
        Self {
            id: "password",
            says: "Passwords are not accepted",
            causes: &["legacy_password"],
            means: "Your mail program tried to sign in with a password. It was refused before the password was read.",
            remedy: "Set the account's authentication method to OAuth2, as the page on set-up says for your program. A \
                     program that cannot do that cannot be used here.",
        },
        Self {
            id: "scope",
            says: "The token does not cover",
            causes: &["token_scope"],
            means: "Your mail program's sign-in is good, but it was not asked for, or not given, the right to read mail.",
            remedy: "Sign in again and allow access to mail. Set-up by hand: ask for the scope that the page on set-up names.",
        },
        Self {
            id: "closed",
            says: "This account is closed",
            causes: &["account_disabled", "account_purged"],
            means: "Your organisation's sign-in service says that your account was closed.",
            remedy: "Ask your administrator.",
        },
        Self {
            id: "mailbox",
            says: "may not open that mailbox",
            causes: &["user_unknown", "not_member"],
            means: "You signed in as somebody who does not have the mailbox that your mail program asked for.",
            remedy: "Check that the user name in your mail program is your own whole mail address. For a shared mailbox, ask \
                     your administrator to make you a member.",
        },
        Self {
            id: "read-only",
            says: "You may only read this mailbox",
            causes: &["rights_lowered"],
            means: "The mailbox can only be read: by you, by everybody in your part of the organisation, or with this mail \
                    program. If it was open, that was changed meanwhile.",
            remedy: "Open it again to go on reading. Ask your administrator if you need more.",
        },
        Self {
            id: "suspended",
            says: "access is suspended for this account",
            causes: &["user_suspended"],
            means: "Your account is suspended.",
            remedy: "Ask your administrator.",
        },
        Self {
            id: "service-off",
            says: "access is disabled for your domain",
            causes: &["policy_service_off"],
            means: "Your organisation does not allow this way of reading mail (IMAP or POP) for you.",
            remedy: "Ask your administrator to turn it on for you, or try the other way if that one is on.",
        },
        Self {
            id: "own-switch",
            says: "Your account is not enabled for",
            causes: &["policy_service_off_by_user"],
            means: "You turned this way of reading mail off for your own account.",
            remedy: "Turn it on again in your account's settings.",
        },
        Self {
            id: "app",
            says: "Ask your administrator to allow this app",
            causes: &["policy_app"],
            means: "Your organisation allows certain mail programs only, and this one is not among them.",
            remedy: "Use a program that is allowed, or ask your administrator to allow this one: the message names it and its \
                     ID.",
        },
        Self {
            id: "blocked",
            says: "is blocked in your organisation",
            causes: &["policy_app_blocked"],
            means: "Your organisation blocks this mail program.",
            remedy: "Use another one, or ask your administrator.",
        },
        Self {
            id: "limited",
            says: "is not allowed for your part of the organisation",
            causes: &["policy_app_limited"],
            means: "This mail program is allowed in other parts of your organisation only.",
            remedy: "Use another one, or ask your administrator.",
        },
        Self {
            id: "service-account",
            says: "acts as a service account",
            causes: &["policy_service_account"],
            means: "A program that acts for people by itself, without their signing in, was refused.",
            remedy: "Ask your administrator to delegate it.",
        },
        Self {
            id: "grant-disabled",
            says: "to this mailbox is disabled",
            causes: &["grant_disabled"],
            means: "The access that you once gave this mail program is disabled.",
            remedy: "Ask your administrator to enable it again, or enable it yourself if you disabled it.",
        },
        Self {
            id: "grant-removed",
            says: "to this mailbox was removed",
            causes: &["grant_removed"],
            means: "The access that you once gave this mail program was removed. Its old sign-in is not good any more.",
            remedy: "To connect it again, sign in again in your mail program: remove the saved sign-in, so that it asks for a \
                     new one.",
        },
        Self {
            id: "sessions",
            says: "sessions: close one of your",
            causes: &["limit_sessions"],
            means: "You have as many connections open as one person may.",
            remedy: "Close a mail program that you do not need, on every device, or let yours use fewer connections.",
        },
        Self {
            id: "upstream",
            says: "does not let you in",
            causes: &["upstream_refused"],
            means: "The gateway let you in, but the mail server behind it, which has your mailbox, did not.",
            remedy: "Ask your administrator: the reference finds what that server said.",
        },
        Self {
            id: "upstream-busy",
            says: "Your mailbox is in use",
            causes: &[],
            means: "The mail server that has your mailbox lets no other session in now.",
            remedy: "Close a mail program that you do not need, or wait until the other one is done.",
        },
        Self {
            id: "bytes",
            says: "bytes a day is used up",
            causes: &["limit_bytes"],
            means: "You have received and sent as many bytes today as your organisation allows, with all your mail programs \
                    together.",
            remedy: "Wait until the time that the message names, or ask your administrator to raise the limit. A mail program \
                     that fetches only what you look at needs less.",
        },
        Self {
            id: "moved",
            says: "has moved to another server",
            causes: &["home_moved"],
            means: "Your administrator moved the mailbox to another mail server while it was open.",
            remedy: "Connect again: nothing has to be changed in your mail program.",
        },
        Self {
            id: "ended",
            says: "This session was ended by an administrator",
            causes: &["ended_by_admin"],
            means: "An administrator, or you from elsewhere, ended this connection.",
            remedy: "Connect again. Ask your administrator if it happens again.",
        },
        Self {
            id: "ended-by-you",
            says: "You ended this session from elsewhere",
            causes: &[],
            means: "You ended this connection from another place.",
            remedy: "Connect again. If it was not you, tell your administrator at once.",
        },
        Self {
            id: "unavailable",
            says: "Temporarily unavailable",
            causes: &["unavailable_"],
            means: "Something that the gateway needs is out of reach. It has nothing to do with you.",
            remedy: "Try again in a minute. If it lasts, tell your administrator.",
        },
    ];

    /// By the text of a reply, whatever stands around it.
    pub(super) fn by_text(text: &str) -> Option<&'static Self> {
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        let text = plain(text);
        Self::ALL.iter().find(|advice| text.contains(&plain(advice.says)))
    }

    /// By the cause word of an audit row.
    pub(super) fn by_cause(cause: &str) -> Option<&'static Self> {
        let exactly = Self::ALL.iter().find(|advice| advice.causes.contains(&cause));
        exactly.or_else(|| {
            let begins = |known: &&str| known.ends_with('_') && cause.starts_with(*known);
            Self::ALL.iter().find(|advice| advice.causes.iter().any(begins))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gate::{Cause, Denial, Hint};
    use crate::model::{Blame, ClientId, Place, Reference, Service, UnitPath, UnixTime, UserId};
    use crate::policy::Refusal;
    use crate::sasl::SaslError;
    use crate::token::TokenError;

    /// One of each kind of refusal there is, with the advice that belongs to it.
    fn refusals() -> Vec<(&'static str, Cause)> {
        let user = || UserId::parse("ann@example.com").unwrap();
        let app = || ClientId::parse("some-app").unwrap();
        let at = || Place::Unit(UnitPath::root());
        let (service, name) = (Service::Imap, Some("Some Mail".into()));
        let policy = Cause::Policy;
        let now = UnixTime::from_secs(1);
        vec![
            ("token", Cause::Token(TokenError::Opaque)),
            ("token", Cause::Sasl(SaslError::Base64)),
            ("withdrawn", Cause::KeyWithdrawn { issuer: "i".into(), key: "k".into() }),
            ("expired", Cause::TokenExpired),
            ("scope", Cause::Scope { wanted: "mail".into() }),
            ("sessions", Cause::TooManySessions { user: "ann@example.com".into(), limit: 15 }),
            ("bytes", Cause::DayUsedUp { user: "ann@example.com".into(), spent: 2, most: 1, anew: now, at: at() }),
            (
                "moved",
                policy(Refusal::HomeMoved {
                    mailbox: user(),
                    from: "maildir".into(),
                    to: "dovecot".into(),
                    at: at(),
                }),
            ),
            (
                "unavailable",
                Cause::Unavailable { detail: "d".into(), reason: "unavailable_keys", blame: Blame::Us },
            ),
            ("password", Cause::Password { how: "LOGIN".into() }),
            ("ended", Cause::EndedByAdmin { by: "root@example.com".into(), own: false }),
            (
                "withdrawn",
                policy(Refusal::TokenRevoked { user: user(), issuer: "i".into(), until: now, issued_at: None }),
            ),
            ("closed", policy(Refusal::AccountClosed { user: user(), issuer: "i".into(), purged: true })),
            ("closed", policy(Refusal::AccountClosed { user: user(), issuer: "i".into(), purged: false })),
            ("mailbox", policy(Refusal::UserUnknown { user: user(), at: at() })),
            ("mailbox", policy(Refusal::NotMember { user: user(), mailbox: user(), at: at() })),
            ("read-only", policy(Refusal::RightsLowered { user: user(), mailbox: user(), at: at() })),
            ("suspended", policy(Refusal::UserSuspended { user: user(), at: at() })),
            ("service-off", policy(Refusal::ServiceOff { service, at: at() })),
            ("own-switch", policy(Refusal::ServiceOffByUser { service, user: user(), at: at() })),
            ("app", policy(Refusal::AppNotListed { app: app(), name: name.clone(), service, at: at() })),
            (
                "service-account",
                policy(Refusal::ServiceAccount { app: app(), name: name.clone(), service, at: at() }),
            ),
            ("blocked", policy(Refusal::AppBlocked { app: app(), name: name.clone(), at: at() })),
            ("limited", policy(Refusal::AppLimited { app: app(), name: name.clone(), whose: user(), at: at() })),
            (
                "grant-disabled",
                policy(Refusal::GrantDisabled { user: user(), app: app(), name: name.clone(), at: at() }),
            ),
            (
                "grant-removed",
                policy(Refusal::GrantRemoved { user: user(), app: app(), name, removed_at: now, at: at() }),
            ),
        ]
    }

    #[test]
    fn every_refusal_finds_its_advice_by_its_text_and_by_its_cause() {
        for (id, cause) in refusals() {
            let reason = cause.reason();
            for service in [Service::Imap, Service::Pop] {
                let reference = Reference::parse("7F3K2Q").unwrap();
                let denial = Denial { cause: cause.clone(), reference, service, hint: Hint::default() };
                for text in [denial.imap().1, denial.pop().1] {
                    assert_eq!(Advice::by_text(&text).map(|advice| advice.id), Some(id), "{text}");
                }
            }
            assert_eq!(Advice::by_cause(reason).map(|advice| advice.id), Some(id), "{reason}");
        }
        let by_you = Cause::EndedByAdmin { by: "ann@example.com".into(), own: true };
        let reference = Reference::parse("7F3K2Q").unwrap();
        let denial = Denial { cause: by_you, reference, service: Service::Imap, hint: Hint::default() };
        assert_eq!(Advice::by_text(&denial.imap().1).map(|advice| advice.id), Some("ended-by-you"));
    }

    #[test]
    fn a_text_is_found_however_a_program_shows_it_and_no_two_kinds_share_one() {
        let shown = "Error: a1 NO [CONTACTADMIN]   imap ACCESS is\n disabled for your domain. Ask";
        assert_eq!(Advice::by_text(shown).map(|advice| advice.id), Some("service-off"));
        for text in ["", "hello", "disabled"] {
            assert_eq!(Advice::by_text(text), None, "{text:?}");
        }
        for advice in Advice::ALL {
            assert_eq!(Advice::by_text(advice.says), Some(advice), "{} is hidden by another", advice.id);
        }
    }
}
