//! `/healthz`: the process answers. `/readyz`: it can let people in. Both without a token, for whoever balances load.
//! `/metrics`: figures for Prometheus, with a token.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Actor, Area, Control, problem::Problem};

/// The three routes.
pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics))
}

/// The process is up
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "It answers", body = str, content_type = "text/plain")))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// What keeps sign-ins from succeeding, if anything does.
#[derive(Debug, Serialize, ToSchema)]
struct Readiness {
    /// Whether people can sign in.
    ready: bool,
    /// Why not, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    because: Vec<String>,
}

/// People can sign in
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses(
    (status = 200, description = "They can", body = Readiness),
    (status = 503, description = "They cannot; the body says why", body = Readiness)))]
async fn readyz(State(control): State<Arc<Control>>) -> impl IntoResponse {
    let mut because = control.gate.obstacles();
    because.extend(control.upstreams.obstacles());
    let status = if because.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: because.is_empty(), because }))
}

/// Figures for Prometheus
///
/// Of the node that answers. By a role that reads everything, or an API token with the scope `metrics:read`.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, description = "OpenMetrics text", body = str,
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn metrics(State(control): State<Arc<Control>>, actor: Actor) -> Result<impl IntoResponse, Problem> {
    actor.may_read(Area::Metrics)?;
    actor.sees_everything()?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], control.gate.metrics_text(&control.lobby)))
}
