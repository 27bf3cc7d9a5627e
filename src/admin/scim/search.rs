//! `/.search` (RFC 7644 section 3.4.3): a list asked for by POST, so that a filter with names in it is in no log of addresses.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Call,
    ask::Ask,
    error::{ScimError, ScimErrorWords},
};
use crate::admin::{Control, extract::Given};

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(users)).routes(routes!(groups))
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
