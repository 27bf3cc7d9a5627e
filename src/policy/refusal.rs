//! Why the answer is no. Made by `decide` alone; read by the gate (wire text, audit row) and by people.

use std::sync::Arc;

use crate::model::{ClientId, MailHome, Place, Service, UnixTime, UserId};

/// Why the answer is no: the fact that decided, and the place where an admin can change it.
///
/// `Display` is for the log, the audit row and `explain`; what the peer reads is the session's business.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The issuer said that tokens as old as this one are not good any more.
    #[error(
        "{issuer} ended the sign-in of {user}: tokens issued at or before {until} are not good any more, and this one \
         {}",
        IssuedAt(.issued_at)
    )]
    TokenRevoked {
        /// Who the token names.
        user: UserId,
        /// Who said so.
        issuer: Arc<str>,
        /// The last moment of issue that is not good.
        until: UnixTime,
        /// When the token was issued, as far as it says.
        issued_at: Option<UnixTime>,
    },
    /// The issuer said that it closed the account.
    #[error("{issuer} {} the account of {user}", if *.purged { "deleted" } else { "disabled" })]
    AccountClosed {
        /// Who the token names.
        user: UserId,
        /// Who said so.
        issuer: Arc<str>,
        /// Closed for good.
        purged: bool,
    },
    /// No such user in the directory.
    #[error("user {user} is not in the directory")]
    UserUnknown {
        /// Who the token names.
        user: UserId,
        /// Where the row would be.
        at: Place,
    },
    /// The mailbox is another person's, or a shared one without this member, or does not exist.
    #[error("{user} is not a member of a shared mailbox {mailbox}")]
    NotMember {
        /// Who the token names.
        user: UserId,
        /// The mailbox that was asked for.
        mailbox: UserId,
        /// The member list.
        at: Place,
    },
    /// The user could change the mailbox when the session began, and now may only read it.
    #[error("{user} may only read the mailbox {mailbox} now (set at {at})")]
    RightsLowered {
        /// The user.
        user: UserId,
        /// The mailbox.
        mailbox: UserId,
        /// The member list, app or unit that says so.
        at: Place,
    },
    /// The mailbox was somewhere else when the session began.
    #[error("the mailbox {mailbox} has moved from {from} to {to} (set at {at})")]
    HomeMoved {
        /// The mailbox.
        mailbox: UserId,
        /// Where it was, as a [`MailHome`] is written.
        from: Arc<str>,
        /// Where it is.
        to: Arc<str>,
        /// Where that is said.
        at: Place,
    },
    /// The user is suspended.
    #[error("user {user} is suspended")]
    UserSuspended {
        /// The user.
        user: UserId,
        /// The user's row.
        at: Place,
    },
    /// The service is off.
    #[error("{service} is off (set at {at})")]
    ServiceOff {
        /// The service.
        service: Service,
        /// The setting that decided.
        at: Place,
    },
    /// The user turned the service off for themselves.
    #[error("{service} was turned off by {user} themselves")]
    ServiceOffByUser {
        /// The service.
        service: Service,
        /// The user.
        user: UserId,
        /// The user's row.
        at: Place,
    },
    /// The app is not on the list.
    #[error("app {} is not on the list for {service} (set at {at})", AppName(.app, .name))]
    AppNotListed {
        /// The app.
        app: ClientId,
        /// Its name, where the catalogue has one.
        name: Option<Arc<str>>,
        /// The service.
        service: Service,
        /// The setting whose list it is.
        at: Place,
    },
    /// A service account where the setting is a list of apps, without delegation.
    #[error(
        "app {} acts as a service account, which the list for {service} does not admit (set at {at}) and no \
         delegation names",
        AppName(.app, .name)
    )]
    ServiceAccount {
        /// The app.
        app: ClientId,
        /// Its name, where the catalogue has one.
        name: Option<Arc<str>>,
        /// The service.
        service: Service,
        /// The setting whose list it is.
        at: Place,
    },
    /// The app is blocked for the whole organisation.
    #[error("app {} is blocked for the whole organisation", AppName(.app, .name))]
    AppBlocked {
        /// The app.
        app: ClientId,
        /// Its name, where the catalogue has one.
        name: Option<Arc<str>>,
        /// The app's entry.
        at: Place,
    },
    /// The app is limited to other units.
    #[error("app {} is limited to units that {whose} is not in", AppName(.app, .name))]
    AppLimited {
        /// The app.
        app: ClientId,
        /// Its name, where the catalogue has one.
        name: Option<Arc<str>>,
        /// The user, or the shared mailbox, whose unit is outside.
        whose: UserId,
        /// The app's entry.
        at: Place,
    },
    /// The user's grant to the app is disabled.
    #[error("the grant of {user} to app {} is disabled", AppName(.app, .name))]
    GrantDisabled {
        /// The user.
        user: UserId,
        /// The app.
        app: ClientId,
        /// Its name, where the catalogue has one.
        name: Option<Arc<str>>,
        /// The grant.
        at: Place,
    },
    /// The user's grant to the app was removed, and the token is not newer than that.
    #[error("the grant of {user} to app {} was removed at {removed_at}, and the token is not newer", AppName(.app, .name))]
    GrantRemoved {
        /// The user.
        user: UserId,
        /// The app.
        app: ClientId,
        /// Its name, where the catalogue has one.
        name: Option<Arc<str>>,
        /// When it was removed.
        removed_at: UnixTime,
        /// The grant.
        at: Place,
    },
}

impl Refusal {
    /// `at` is what lets the user do no more than read.
    pub(super) fn rights_lowered(user: &UserId, mailbox: &UserId, at: Option<&Place>) -> Self {
        let at = at.cloned().unwrap_or_else(|| Place::Mailbox(mailbox.clone()));
        Self::RightsLowered { user: user.clone(), mailbox: mailbox.clone(), at }
    }

    /// `at` is where it is said where the mailbox is now.
    pub(super) fn home_moved(mailbox: &UserId, from: &MailHome, to: &MailHome, at: Option<Place>) -> Self {
        let (from, to) = (from.to_string().into(), to.to_string().into());
        Self::HomeMoved { mailbox: mailbox.clone(), from, to, at: at.unwrap_or(Place::Default) }
    }

    /// The cause word of the audit log. Source: threats.md section 7.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TokenRevoked { .. } => "token_revoked",
            Self::AccountClosed { purged: false, .. } => "account_disabled",
            Self::AccountClosed { purged: true, .. } => "account_purged",
            Self::UserUnknown { .. } => "user_unknown",
            Self::NotMember { .. } => "not_member",
            Self::RightsLowered { .. } => "rights_lowered",
            Self::HomeMoved { .. } => "home_moved",
            Self::UserSuspended { .. } => "user_suspended",
            Self::ServiceOff { .. } => "policy_service_off",
            Self::ServiceOffByUser { .. } => "policy_service_off_by_user",
            Self::AppNotListed { .. } => "policy_app",
            Self::ServiceAccount { .. } => "policy_service_account",
            Self::AppBlocked { .. } => "policy_app_blocked",
            Self::AppLimited { .. } => "policy_app_limited",
            Self::GrantDisabled { .. } => "grant_disabled",
            Self::GrantRemoved { .. } => "grant_removed",
        }
    }

    /// Where an admin can turn this no into a yes; none where only the issuer can.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::TokenRevoked { .. } | Self::AccountClosed { .. } => None,
            Self::UserUnknown { at, .. }
            | Self::NotMember { at, .. }
            | Self::RightsLowered { at, .. }
            | Self::HomeMoved { at, .. }
            | Self::UserSuspended { at, .. }
            | Self::ServiceOff { at, .. }
            | Self::ServiceOffByUser { at, .. }
            | Self::AppNotListed { at, .. }
            | Self::ServiceAccount { at, .. }
            | Self::AppBlocked { at, .. }
            | Self::AppLimited { at, .. }
            | Self::GrantDisabled { at, .. }
            | Self::GrantRemoved { at, .. } => Some(at),
        }
    }

    /// The app that was refused, with its name where the catalogue has one; none when the refusal is not about it.
    pub fn app(&self) -> Option<(&ClientId, Option<&str>)> {
        match self {
            Self::AppNotListed { app, name, .. }
            | Self::ServiceAccount { app, name, .. }
            | Self::AppBlocked { app, name, .. }
            | Self::AppLimited { app, name, .. }
            | Self::GrantDisabled { app, name, .. }
            | Self::GrantRemoved { app, name, .. } => Some((app, name.as_deref())),
            Self::TokenRevoked { .. }
            | Self::AccountClosed { .. }
            | Self::UserUnknown { .. }
            | Self::NotMember { .. }
            | Self::RightsLowered { .. }
            | Self::HomeMoved { .. }
            | Self::UserSuspended { .. }
            | Self::ServiceOff { .. }
            | Self::ServiceOffByUser { .. } => None,
        }
    }
}

/// `was issued at ...`.
struct IssuedAt<'a>(&'a Option<UnixTime>);

impl std::fmt::Display for IssuedAt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(at) => write!(f, "was issued at {at}"),
            None => f.write_str("does not say when it was issued"),
        }
    }
}

/// `"Apple Mac Mail" (9460...)`, or the ID alone.
struct AppName<'a>(&'a ClientId, &'a Option<Arc<str>>);

impl std::fmt::Display for AppName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1 {
            Some(name) => write!(f, "{name:?} ({})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}
