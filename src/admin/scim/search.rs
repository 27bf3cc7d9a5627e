//! `/.search` (RFC 7644 section 3.4.3): a list asked for by POST, so that a filter with names in it is in no log of addresses.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Call,
    ask::{Ask, Wanted, list},
    error::{ScimError, ScimErrorWords, answer},
};
use crate::admin::{Area, Control, extract::Given};

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(everything)).routes(routes!(users)).routes(routes!(groups))
}

/// Search users and groups
///
/// Users come first. An admin of a subtree, who does not see groups, finds users alone.
#[utoipa::path(post, path = "/scim/v2/.search", tag = "scim",
    request_body(content = Value, content_type = "application/scim+json"), responses(
    (status = 200, body = Value, content_type = "application/scim+json", description = "Users by address, groups by name"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn everything(
    State(control): State<Arc<Control>>,
    call: Call,
    Given(body): Given<Value>,
) -> Result<Response, ScimError> {
    call.actor.may_read(Area::Scim)?;
    let wanted = Ask::from_body(&body).wanted("id")?;
    let (users, mut found) = control.users_told(&call, &wanted).await?;
    let mut total = users;
    if call.actor.sees_all() {
        let rest = Wanted {
            skip: wanted.skip.saturating_sub(users),
            count: wanted.count.saturating_sub(found.len()),
            ..wanted.clone()
        };
        let (groups, more) = control.groups_told(&call, &rest).await?;
        total += groups;
        found.extend(more);
    }
    Ok(answer(StatusCode::OK, list(total, &wanted, found)))
}

/// Search users
#[utoipa::path(post, path = "/scim/v2/Users/.search", tag = "scim",
    request_body(content = Value, content_type = "application/scim+json"), responses(
    (status = 200, body = Value, content_type = "application/scim+json", description = "By address"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn users(
    State(control): State<Arc<Control>>,
    call: Call,
    Given(body): Given<Value>,
) -> Result<Response, ScimError> {
    control.scim_users(&call, &Ask::from_body(&body)).await
}

/// Search groups
#[utoipa::path(post, path = "/scim/v2/Groups/.search", tag = "scim",
    request_body(content = Value, content_type = "application/scim+json"), responses(
    (status = 200, body = Value, content_type = "application/scim+json", description = "By name"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn groups(
    State(control): State<Arc<Control>>,
    call: Call,
    Given(body): Given<Value>,
) -> Result<Response, ScimError> {
    control.scim_groups(&call, &Ask::from_body(&body)).await
}
