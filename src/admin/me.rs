//! A person's own page: who they are here, which apps they let in, which services they have turned off. Taken with their own
//! access token; everything on it is theirs alone.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Actor, Control,
    access::RoleWords,
    actor::now,
    extract::{Asked, Given, Named},
    grants::{GrantChange, GrantItem},
    page::{Page, PageQuery},
    problem::{Problem, ProblemKind},
};
use crate::model::{Service, UserId};
use crate::store::GrantFilter;

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(my_grants))
        .routes(routes!(change_my_grant))
        .routes(routes!(switch_service))
}

/// Whoever asks.
#[derive(Debug, Serialize, ToSchema)]
struct Me {
    /// An address, or an API token's number and name.
    name: String,
    #[serde(flatten)]
    role: RoleWords,
    /// The unit a person is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_unit: Option<String>,
    /// For whoever is signed in with a cookie: changes must carry it in the header `X-Portcullis-Csrf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf: Option<String>,
}

/// Who am I
#[utoipa::path(get, path = "/api/v1/me", tag = "me", responses(
    (status = 200, body = Me, description = "Whose token this is, and what it may"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn me(State(control): State<Arc<Control>>, actor: Actor) -> Json<Me> {
    let unit = actor.user().and_then(|user| control.store.read(|directory| directory.unit_of(user)));
    let user_unit = unit.map(|unit| unit.to_string());
    let csrf = actor.csrf().map(|token| token.reveal().to_owned());
    Json(Me { name: actor.name().to_owned(), role: RoleWords::of(actor.role()), user_unit, csrf })
}

pub(super) fn person(actor: &Actor) -> Result<&UserId, Problem> {
    actor.user().ok_or_else(|| {
        let detail = format!("{} is no person: this page takes a person's own access token", actor.name());
        Problem::new(ProblemKind::Forbidden, detail)
    })
}

/// List my grants
#[utoipa::path(get, path = "/api/v1/me/grants", tag = "me", params(PageQuery), responses(
    (status = 200, body = Page<GrantItem>, description = "The apps I let in, in the order in which I did"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn my_grants(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<Page<GrantItem>>, Problem> {
    let filter = GrantFilter { user: Some(person(&actor)?.clone()), ..GrantFilter::default() };
    control.grants(&filter, &page, (|_: &UserId| true, true)).await.map(Json)
}

/// Disable, enable or remove a grant of mine
///
/// What an admin disabled is the admin's to enable or remove (403).
#[utoipa::path(patch, path = "/api/v1/me/grants/{id}", tag = "me", request_body = GrantChange,
    params(("id" = i64, Path, description = "Its number")), responses(
    (status = 200, body = GrantItem, description = "The grant as it stands now"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn change_my_grant(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(id): Named<i64>,
    Given(change): Given<GrantChange>,
) -> Result<Json<GrantItem>, Problem> {
    let own = person(&actor)?;
    control.change_grant(&actor, id, &change, (|user: &UserId| user == own, true)).await.map(Json)
}

/// A service turned off by its user, or not.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OwnSwitch {
    /// Whether it is off. What an admin turned off stays off.
    off: bool,
}

/// Turn a service off for myself, or take that back
#[utoipa::path(put, path = "/api/v1/me/services/{service}", tag = "me", request_body = OwnSwitch,
    params(("service" = String, Path, description = "`imap` or `pop`")), responses(
    (status = 200, body = OwnSwitch, description = "As it stands now"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn switch_service(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(service): Named<String>,
    Given(switch): Given<OwnSwitch>,
) -> Result<Json<OwnSwitch>, Problem> {
    let user = person(&actor)?;
    let service = Service::from_word(&service)
        .ok_or_else(|| Problem::new(ProblemKind::NotFound, format!("{service:?} is no service: imap or pop")))?;
    control.store.set_self_switch(user, service, switch.off, now()).await?;
    Ok(Json(switch))
}
