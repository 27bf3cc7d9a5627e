//! What this service can do: `/ServiceProviderConfig`, `/ResourceTypes`, `/Schemas` (RFC 7644 section 4).

use std::sync::Arc;

use axum::{http::StatusCode, response::Response};
use serde_json::{Value, json};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Call,
    ask::{Ask, MOST},
    error::{ScimError, ScimErrorWords, answer},
    schema,
};
use crate::admin::{
    Area, Control,
    extract::{Asked, Named},
    problem::{Problem, ProblemKind},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new()
        .routes(routes!(provider))
        .routes(routes!(types))
        .routes(routes!(one_type))
        .routes(routes!(schemas))
        .routes(routes!(one_schema))
}

/// What this SCIM service can do
#[utoipa::path(get, path = "/scim/v2/ServiceProviderConfig", tag = "scim", responses(
    (status = 200, body = Value, content_type = "application/scim+json", description = "The configuration"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn provider(call: Call) -> Result<Response, ScimError> {
    call.actor.may_read(Area::Scim)?;
    Ok(answer(StatusCode::OK, schema::provider(&call.at, MOST)))
}

/// The kinds of resources
#[utoipa::path(get, path = "/scim/v2/ResourceTypes", tag = "scim", responses(
    (status = 200, body = Value, content_type = "application/scim+json", description = "All of them"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn types(call: Call, Asked(ask): Asked<Ask>) -> Result<Response, ScimError> {
    all(&call, &ask, schema::resource_types(&call.at))
}

/// One kind of resources
#[utoipa::path(get, path = "/scim/v2/ResourceTypes/{id}", tag = "scim",
    params(("id" = String, Path, description = "`User` or `Group`")), responses(
    (status = 200, body = Value, content_type = "application/scim+json", description = "The kind"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn one_type(call: Call, Named(id): Named<String>) -> Result<Response, ScimError> {
    one(&call, "resource type", &id, schema::resource_types(&call.at))
}

/// The schemas
#[utoipa::path(get, path = "/scim/v2/Schemas", tag = "scim", responses(
    (status = 200, body = Value, content_type = "application/scim+json", description = "All of them"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn schemas(call: Call, Asked(ask): Asked<Ask>) -> Result<Response, ScimError> {
    all(&call, &ask, schema::schemas(&call.at))
}

/// One schema
#[utoipa::path(get, path = "/scim/v2/Schemas/{id}", tag = "scim",
    params(("id" = String, Path, description = "Its URN")), responses(
    (status = 200, body = Value, content_type = "application/scim+json", description = "The schema"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn one_schema(call: Call, Named(id): Named<String>) -> Result<Response, ScimError> {
    one(&call, "schema", &id, schema::schemas(&call.at))
}

fn all(call: &Call, ask: &Ask, list: Vec<Value>) -> Result<Response, ScimError> {
    call.actor.may_read(Area::Scim)?;
    if ask.filter.is_some() {
        // RFC 7644 section 4: whoever filters might take what is left out for what is not there.
        return Err(Problem::new(ProblemKind::Forbidden, "this list is not filtered: ask without a filter").into());
    }
    let body = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": list.len(), "startIndex": 1, "itemsPerPage": list.len(), "Resources": list,
    });
    Ok(answer(StatusCode::OK, body))
}

fn one(call: &Call, kind: &str, id: &str, list: Vec<Value>) -> Result<Response, ScimError> {
    call.actor.may_read(Area::Scim)?;
    let found = list.into_iter().find(|item| item.get("id").and_then(Value::as_str) == Some(id));
    found.map(|item| answer(StatusCode::OK, item)).ok_or_else(|| ScimError::absent(kind, id))
}
