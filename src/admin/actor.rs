//! Who asks: the bearer of an API token, a person with an access token of a configured issuer, or one who signed in at the
//! console. Every resource takes an
//! [`Actor`] and asks it what it may; what it may not see does not exist for it.

use std::{sync::Arc, time::SystemTime};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use tracing::info;

use super::{
    Control, Peer,
    problem::{Problem, ProblemKind},
};
use crate::issuer::Unidentified;
use crate::model::{Secret, UnitPath, UnixTime, UserId};
use crate::policy::{Directory, recognise};
use crate::store::{self, Role, StoreError};

/// What API tokens begin with; everything else is an issuer's.
const API_TOKEN: &str = "pct_";

/// One text for every access token that is not believed, whatever is wrong with it.
const NOT_GOOD: &str = "this access token is not good: get a new one from your organisation's issuer; the gateway's log says what is wrong";
/// The same where nobody can tell.
const OUT_OF_REACH: &str = "whether this access token is good cannot be told now: try again later";

/// The parts that an API token's scopes name: `grants` for all of it, `grants:read` to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Units, users, groups, shared mailboxes, apps and their settings.
    Directory,
    /// Grants.
    Grants,
    /// Live sessions.
    Sessions,
    /// The audit log and what is told from it.
    Audit,
    /// API tokens and roles.
    Access,
    /// Metrics.
    Metrics,
    /// Users and groups, as identity providers see them.
    Scim,
    /// Notices.
    Notices,
}

impl Area {
    /// Every word a scope may be, without `:read`.
    pub const ALL: [Self; 8] = [
        Self::Directory,
        Self::Grants,
        Self::Sessions,
        Self::Audit,
        Self::Access,
        Self::Metrics,
        Self::Scim,
        Self::Notices,
    ];

    /// What an account-access admin looks after.
    const fn is_account_access(self) -> bool {
        matches!(self, Self::Grants | Self::Notices)
    }

    /// Its word in a scope.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Grants => "grants",
            Self::Sessions => "sessions",
            Self::Audit => "audit",
            Self::Access => "access",
            Self::Metrics => "metrics",
            Self::Scim => "scim",
            Self::Notices => "notices",
        }
    }
}

/// Whoever made the request.
#[derive(Clone, Debug)]
pub struct Actor {
    name: String,
    role: Role,
    /// Absent: all that the role may.
    scopes: Vec<String>,
    user: Option<UserId>,
    /// What a change with this person's cookie must carry.
    csrf: Option<Secret>,
}

impl Actor {
    /// Somebody who signed in at the console.
    pub(super) fn signed_in(user: UserId, role: Role, csrf: Secret) -> Self {
        Self { name: user.to_string(), role, scopes: Vec::new(), user: Some(user), csrf: Some(csrf) }
    }

    /// What a change with this person's cookie must carry; none where there is no cookie.
    pub(super) fn csrf(&self) -> Option<&Secret> {
        self.csrf.as_ref()
    }

    /// For the audit log: an address, or `token NUMBER (NAME)`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same for the store, with the reason given: what it may change, as it stands when it is changed.
    pub(super) fn in_store<'a>(&'a self, reason: Option<&'a str>) -> store::Actor<'a> {
        store::Actor { by: &self.name, reason, within: self.role.unit() }
    }

    /// The role.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The person, where it is one and no API token.
    pub fn user(&self) -> Option<&UserId> {
        self.user.as_ref()
    }

    /// May read this area, at least where its unit reaches.
    pub fn may_read(&self, area: Area) -> Result<(), Problem> {
        let role = match self.role {
            Role::User => false,
            Role::AccountAccess(_) => area.is_account_access(),
            Role::Super | Role::Admin(_) | Role::Auditor => true,
        };
        self.allowed(role, area, &[area.word(), &format!("{}:read", area.word())], "read")
    }

    /// May change this area, at least where its unit reaches.
    pub fn may_write(&self, area: Area) -> Result<(), Problem> {
        let role = match self.role {
            Role::Super | Role::Admin(_) => true,
            Role::AccountAccess(_) => area.is_account_access(),
            Role::Auditor | Role::User => false,
        };
        self.allowed(role, area, &[area.word()], "change")
    }

    /// May change this area everywhere: only a super admin.
    pub fn may_write_all(&self, area: Area) -> Result<(), Problem> {
        self.allowed(matches!(self.role, Role::Super), area, &[area.word()], "change all of")
    }

    fn allowed(&self, role: bool, area: Area, scopes: &[&str], verb: &str) -> Result<(), Problem> {
        if !role {
            let detail = format!("{} is {}, which may not {verb} {}", self.name, self.role, area.word());
            return Err(Problem::new(ProblemKind::Forbidden, detail));
        }
        if self.scopes.is_empty() || self.scopes.iter().any(|own| scopes.contains(&own.as_str())) {
            return Ok(());
        }
        let detail = format!("{} has the scopes {:?}; one of {scopes:?} is needed", self.name, self.scopes);
        Err(Problem::new(ProblemKind::Forbidden, detail))
    }

    /// Whether this unit is within reach.
    pub fn sees_unit(&self, unit: &UnitPath) -> bool {
        match &self.role {
            Role::Super | Role::Auditor => true,
            Role::Admin(own) | Role::AccountAccess(own) => unit.is_within(own),
            Role::User => false,
        }
    }

    /// Whether everything is within reach.
    pub fn sees_all(&self) -> bool {
        matches!(self.role, Role::Super | Role::Auditor)
    }

    /// What is the organisation's as a whole is told to those who see all of it.
    pub fn sees_everything(&self) -> Result<(), Problem> {
        if self.sees_all() {
            return Ok(());
        }
        let detail = format!("{} is {}, which does not see the whole organisation", self.name, self.role);
        Err(Problem::new(ProblemKind::Forbidden, detail))
    }

    /// Whether this user is within reach. Users that nobody knows, of old grants for example, are in no unit.
    pub fn sees_user(&self, user: &UserId, directory: &Directory) -> bool {
        self.sees_all() || directory.unit_of(user).is_some_and(|unit| self.sees_unit(&unit))
    }

    /// Whether this mailbox, a user's own or a shared one, is within reach.
    pub fn sees_mailbox(&self, mailbox: &UserId, directory: &Directory) -> bool {
        self.sees_user(mailbox, directory)
            || directory.unit_of_mailbox(mailbox).is_some_and(|unit| self.sees_unit(&unit))
    }
}

impl FromRequestParts<Arc<Control>> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Arc<Control>) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Peer>().copied();
        let actor = match bearer(parts) {
            Some(token) if token.reveal().starts_with(API_TOKEN) => control.api_token(&token).await,
            Some(token) => control.person(&token).await,
            None => match control.person_by_cookie(parts).await {
                Ok(None) => {
                    let detail = "send `Authorization: Bearer` with an API token or an access token of a configured issuer, \
                                  or sign in at /signin";
                    return Err(Problem::new(ProblemKind::Unauthenticated, detail));
                }
                Ok(Some(actor)) => Ok(actor),
                Err(problem) => Err(problem),
            },
        };
        actor.map_err(|problem| {
            if problem.status() != axum::http::StatusCode::UNAUTHORIZED {
                return problem;
            }
            let Some(peer) = peer else { return problem };
            info!(from = %peer.from, problem = %problem.detail(), "API request refused");
            control.rates.failure(peer.from.ip()).err().unwrap_or(problem)
        })
    }
}

fn bearer(parts: &Parts) -> Option<Secret> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(token.trim()))
}

impl Control {
    async fn api_token(&self, secret: &Secret) -> Result<Actor, Problem> {
        let found = self.store.find_api_token(secret, now()).await.map_err(Problem::from)?;
        let token = found.ok_or_else(|| {
            let detail = "this API token is not good: it was revoked, has expired, or is not whole; make a new one";
            Problem::new(ProblemKind::Unauthenticated, detail)
        })?;
        let name = format!("token {} ({})", token.id.0, token.name);
        Ok(Actor { name, role: token.role, scopes: token.scopes, user: None, csrf: None })
    }

    async fn person(&self, token: &Secret) -> Result<Actor, Problem> {
        let who = self.issuers.identify(token, now()).await.map_err(|error| {
            // What exactly is wrong is for the log: whoever has no good token learns nothing.
            info!(%error, "an access token was not believed by the API");
            match error {
                Unidentified::Unavailable { .. } => Problem::new(ProblemKind::Unavailable, OUT_OF_REACH),
                Unidentified::Token(_) => Problem::new(ProblemKind::Unauthenticated, NOT_GOOD),
            }
        })?;
        // A mail program's token is not to open this: it would let each program that an admin uses be that admin.
        if !who.scopes().iter().any(|scope| self.settings.scope.contains(scope)) {
            let detail = match self.settings.scope.as_slice() {
                [] => {
                    "access tokens are not taken here while http.scope names no scope; use an API token".to_owned()
                }
                scopes => format!("the access token has none of the scopes of http.scope: {scopes:?}"),
            };
            return Err(Problem::new(ProblemKind::Forbidden, detail));
        }
        let user = who.user().clone();
        // Suspended here, or taken back by the issuer: then there is no page and no role either.
        let known = self.store.read(|directory| recognise(&who, directory, now()));
        known.map_err(|refusal| Problem::new(ProblemKind::Forbidden, refusal.to_string()))?;
        if who.service_account() {
            let detail = "a service account acts for a mailbox, not for a person: use an API token";
            return Err(Problem::new(ProblemKind::Forbidden, detail));
        }
        let role = self.store.role_of(&user).await.map_err(Problem::from)?;
        Ok(Actor { name: user.to_string(), role, scopes: Vec::new(), user: Some(user), csrf: None })
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Overtaken { .. }) {
            let detail = "others change the policy without a pause, so nothing was changed: try again";
            return Self::new(ProblemKind::Unavailable, detail).retry_after(1);
        }
        tracing::error!(%error, "the API cannot reach the database");
        Self::new(ProblemKind::Unavailable, "the database does not answer; nothing was changed").retry_after(5)
    }
}

/// The clock, read in one place of this room.
pub(super) fn now() -> UnixTime {
    SystemTime::now().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn actor(role: Role, scopes: &[&str]) -> Actor {
        let scopes = scopes.iter().map(ToString::to_string).collect();
        Actor { name: "somebody".into(), role, scopes, user: None, csrf: None }
    }

    fn unit(path: &str) -> UnitPath {
        UnitPath::parse(path).unwrap()
    }

    #[test]
    fn an_admin_of_a_subtree_sees_that_subtree_alone() {
        let sales = actor(Role::Admin(unit("/Sales")), &[]);
        for (path, seen) in
            [("/Sales", true), ("/Sales/Field", true), ("/", false), ("/Salesforce", false), ("/Staff", false)]
        {
            assert_eq!(sales.sees_unit(&unit(path)), seen, "{path}");
            assert!(actor(Role::Super, &[]).sees_unit(&unit(path)));
            assert!(!actor(Role::User, &[]).sees_unit(&unit(path)));
        }
        assert!(actor(Role::Admin(UnitPath::root()), &[]).sees_unit(&unit("/Sales")));
    }

    #[test]
    fn a_role_and_a_scope_must_both_allow() {
        for (role, scopes, read, write) in [
            (Role::Super, &[][..], true, true),
            (Role::Super, &["grants:read"], true, false),
            (Role::Super, &["grants"], true, true),
            (Role::Super, &["directory"], false, false),
            (Role::Auditor, &[], true, false),
            (Role::Auditor, &["grants"], true, false),
            (Role::User, &[], false, false),
            (Role::Admin(unit("/Sales")), &[], true, true),
        ] {
            let actor = actor(role.clone(), scopes);
            assert_eq!(actor.may_read(Area::Grants).is_ok(), read, "{role} {scopes:?}");
            assert_eq!(actor.may_write(Area::Grants).is_ok(), write, "{role} {scopes:?}");
        }
        assert!(actor(Role::Admin(unit("/Sales")), &[]).may_write_all(Area::Access).is_err());
        let keeper = actor(Role::AccountAccess(unit("/Sales")), &[]);
        for area in Area::ALL {
            let its_own = matches!(area, Area::Grants | Area::Notices);
            assert_eq!(keeper.may_read(area).is_ok(), its_own, "{}", area.word());
            assert_eq!(keeper.may_write(area).is_ok(), its_own, "{}", area.word());
        }
        assert!(keeper.sees_unit(&unit("/Sales/Field")) && !keeper.sees_unit(&unit("/Staff")));
    }
}
