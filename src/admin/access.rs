//! API tokens, people with a role, and the one-time bootstrap secret. Only a super admin gives and takes these.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Actor, Area, Control, Peer,
    actor::now,
    extract::{Given, Named},
    problem::{Problem, ProblemKind},
    time::Time,
};
use crate::model::{Secret, UnitPath, UserId};
use crate::store::{AccessError, Admin, ApiToken, ApiTokenId, NewApiToken, Role};

/// An API token lives so long where the request does not say.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// The token that a bootstrap secret is exchanged for lives this long: time enough to give somebody the role.
const FIRST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new()
        .routes(routes!(list_tokens, make_token))
        .routes(routes!(revoke_token))
        .routes(routes!(list_admins))
        .routes(routes!(set_admin, remove_admin))
        .routes(routes!(bootstrap))
}

/// A role, and the unit of an `admin`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct RoleWords {
    /// `super`, `admin` or `account_access` of a unit and all below it, or `auditor`.
    #[schema(example = "admin")]
    role: String,
    /// The unit of an `admin` or `account_access`.
    #[schema(example = "/Sales")]
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
}

impl RoleWords {
    pub(super) fn of(role: &Role) -> Self {
        Self { role: role.word().to_owned(), unit: role.unit().map(ToString::to_string) }
    }
}

/// The same, as it is asked for.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RoleWish {
    /// `super`, `admin` of a unit and all below it, or `auditor`.
    #[schema(example = "admin")]
    role: String,
    /// The unit of an `admin`.
    #[schema(example = "/Sales")]
    #[serde(default)]
    unit: Option<String>,
}

impl RoleWish {
    fn read(&self) -> Result<Role, Problem> {
        let unit = self.unit.as_deref().map(UnitPath::parse).transpose();
        let unit = unit.map_err(|error| Problem::new(ProblemKind::BadRequest, format!("unit: {error}")))?;
        let role = Role::from_word(&self.role, unit).filter(|role| *role != Role::User);
        role.ok_or_else(|| {
            let detail =
                "role: write super, auditor, or admin or account_access with a unit; no role is what everybody has";
            Problem::new(ProblemKind::BadRequest, detail)
        })
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        let error = match error {
            AccessError::Store(error) => return error.into(),
            other => other,
        };
        let kind = match &error {
            AccessError::Bad { .. } => ProblemKind::BadRequest,
            AccessError::LastSuper { .. } | AccessError::Full { .. } => ProblemKind::Conflict,
            AccessError::Bootstrap => ProblemKind::Unauthenticated,
            AccessError::Random | AccessError::Store(_) => ProblemKind::Fault,
        };
        Self::new(kind, error.to_string())
    }
}

/// An API token without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct TokenItem {
    /// Its number.
    id: i64,
    /// What people call it.
    name: String,
    #[serde(flatten)]
    role: RoleWords,
    /// What it may do of what its role may; empty: all of it.
    scopes: Vec<String>,
    /// Who made it.
    made_by: String,
    /// When.
    made_at: Time,
    /// When it ends.
    expires_at: Time,
    /// When it was last used, to about five minutes.
    last_used_at: Option<Time>,
}

impl From<ApiToken> for TokenItem {
    fn from(token: ApiToken) -> Self {
        Self {
            id: token.id.0,
            name: token.name,
            role: RoleWords::of(&token.role),
            scopes: token.scopes,
            made_by: token.made_by,
            made_at: token.made_at.into(),
            expires_at: token.expires_at.into(),
            last_used_at: token.last_used_at.map(Into::into),
        }
    }
}

/// All API tokens; there are at most 1,000.
#[derive(Debug, Serialize, ToSchema)]
struct Tokens {
    /// Oldest first.
    items: Vec<TokenItem>,
}

/// List the API tokens
#[utoipa::path(get, path = "/api/v1/tokens", tag = "access", responses(
    (status = 200, body = Tokens, description = "All of them, without their secrets"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn list_tokens(State(control): State<Arc<Control>>, actor: Actor) -> Result<Json<Tokens>, Problem> {
    actor.may_read(Area::Access)?;
    actor.sees_everything()?;
    let items = control.store.api_tokens().await?.into_iter().map(Into::into).collect();
    Ok(Json(Tokens { items }))
}

/// What an API token is made from.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TokenWish {
    /// What people call it.
    #[schema(min_length = 1, max_length = 100, example = "nightly report")]
    name: String,
    /// `super`, `admin`, `account_access` or `auditor`.
    #[schema(example = "auditor")]
    role: String,
    /// The unit of an `admin`.
    #[serde(default)]
    unit: Option<String>,
    /// `directory`, `grants`, `sessions`, `audit`, `access`, `metrics`, `notices`, each alone or with `:read`; empty: all that the role may.
    #[serde(default)]
    #[schema(example = json!(["audit:read"]))]
    scopes: Vec<String>,
    /// When it ends: within 366 days. In 90 days where this is absent.
    #[serde(default)]
    expires_at: Option<Time>,
}

/// A new API token.
#[derive(Debug, Serialize, ToSchema)]
struct NewToken {
    /// Its number.
    id: i64,
    /// The token itself, told this once and kept nowhere.
    token: String,
    /// When it ends.
    expires_at: Time,
}

/// Make an API token
#[utoipa::path(post, path = "/api/v1/tokens", tag = "access", request_body = TokenWish, responses(
    (status = 201, body = NewToken, description = "Made; its secret is told this once"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn make_token(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Given(wish): Given<TokenWish>,
) -> Result<(StatusCode, Json<NewToken>), Problem> {
    actor.may_write_all(Area::Access)?;
    let known =
        |scope: &str| Area::ALL.iter().any(|area| scope.strip_suffix(":read").unwrap_or(scope) == area.word());
    if let Some(odd) = wish.scopes.iter().find(|scope| !known(scope)) {
        let words: Vec<&str> = Area::ALL.iter().map(|area| area.word()).collect();
        let detail = format!("scopes: {odd:?} is none; write {}, each alone or with :read", words.join(", "));
        return Err(Problem::new(ProblemKind::BadRequest, detail));
    }
    let at = now();
    let expires_at = wish.expires_at.map_or(at + LIFETIME, Time::unix);
    let role = RoleWish { role: wish.role, unit: wish.unit }.read()?;
    let new = NewApiToken { name: wish.name, role, scopes: wish.scopes, expires_at };
    let (id, secret) = control.store.make_api_token(&new, actor.name(), at).await?;
    let made = NewToken { id: id.0, token: secret.reveal().to_owned(), expires_at: expires_at.into() };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Revoke an API token
///
/// It is not good any more from this moment on.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "access", params(("id" = i64, Path, description = "Its number")), responses(
    (status = 204, description = "Revoked"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn revoke_token(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(id): Named<i64>,
) -> Result<StatusCode, Problem> {
    actor.may_write_all(Area::Access)?;
    let gone = control.store.revoke_api_token(ApiTokenId(id), actor.name(), now()).await?;
    gone.map(|_| StatusCode::NO_CONTENT)
        .ok_or_else(|| Problem::new(ProblemKind::NotFound, format!("there is no API token {id}")))
}

/// A person with a role.
#[derive(Debug, Serialize, ToSchema)]
struct AdminItem {
    /// Who.
    user: String,
    #[serde(flatten)]
    role: RoleWords,
    /// Who gave it.
    changed_by: String,
    /// When.
    changed_at: Time,
}

impl From<Admin> for AdminItem {
    fn from(admin: Admin) -> Self {
        Self {
            user: admin.user.to_string(),
            role: RoleWords::of(&admin.role),
            changed_by: admin.changed_by,
            changed_at: admin.changed_at.into(),
        }
    }
}

/// Everybody with a role.
#[derive(Debug, Serialize, ToSchema)]
struct Admins {
    /// By address.
    items: Vec<AdminItem>,
}

/// List the people with a role
#[utoipa::path(get, path = "/api/v1/admins", tag = "access", responses(
    (status = 200, body = Admins, description = "All of them"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn list_admins(State(control): State<Arc<Control>>, actor: Actor) -> Result<Json<Admins>, Problem> {
    actor.may_read(Area::Access)?;
    actor.sees_everything()?;
    let items = control.store.admins().await?.into_iter().map(Into::into).collect();
    Ok(Json(Admins { items }))
}

/// Give a person a role
#[utoipa::path(put, path = "/api/v1/admins/{user}", tag = "access", request_body = RoleWish,
    params(("user" = String, Path, description = "Their address")), responses(
    (status = 204, description = "They have it"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn set_admin(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(user): Named<String>,
    Given(words): Given<RoleWish>,
) -> Result<StatusCode, Problem> {
    actor.may_write_all(Area::Access)?;
    let user = address(&user)?;
    if !control.store.read(|directory| directory.knows(&user)) {
        return Err(Problem::new(ProblemKind::NotFound, format!("{user} is no user: make them one first")));
    }
    control.store.set_role(&user, &words.read()?, actor.name(), now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take a person's role away
#[utoipa::path(delete, path = "/api/v1/admins/{user}", tag = "access",
    params(("user" = String, Path, description = "Their address")), responses(
    (status = 204, description = "They have none"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn remove_admin(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(user): Named<String>,
) -> Result<StatusCode, Problem> {
    actor.may_write_all(Area::Access)?;
    let user = address(&user)?;
    let had = control.store.set_role(&user, &Role::User, actor.name(), now()).await?;
    if had {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::new(ProblemKind::NotFound, format!("{user} has no role")))
    }
}

/// A secret from the start of the first node.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BootstrapWish {
    /// What `serve` wrote to `DATA_DIR/bootstrap-secret`, beginning with `pcb_`.
    secret: String,
}

/// Exchange the bootstrap secret for a super admin's API token
///
/// Works once, and only while nobody administers yet. The token lives for a day: make a lasting one, or give a person the role.
#[utoipa::path(post, path = "/api/v1/bootstrap", tag = "access", security(()), request_body = BootstrapWish, responses(
    (status = 201, body = NewToken, description = "The token, told this once"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn bootstrap(
    State(control): State<Arc<Control>>,
    peer: axum::extract::Extension<Peer>,
    Given(wish): Given<BootstrapWish>,
) -> Result<(StatusCode, Json<NewToken>), Problem> {
    let at = now();
    let expires_at = at + FIRST_LIFETIME;
    // Before the secret is looked at, so that whoever guesses too often learns nothing by it.
    control.rates.failure(peer.from.ip())?;
    match control.store.exchange_bootstrap(&Secret::new(wish.secret), expires_at, at).await {
        Ok((id, secret)) => {
            let made = NewToken { id: id.0, token: secret.reveal().to_owned(), expires_at: expires_at.into() };
            Ok((StatusCode::CREATED, Json(made)))
        }
        Err(error) => Err(error.into()),
    }
}

/// A user's address from a path or body.
pub(super) fn address(text: &str) -> Result<UserId, Problem> {
    UserId::parse(text).map_err(|error| Problem::new(ProblemKind::BadRequest, error.to_string()))
}
