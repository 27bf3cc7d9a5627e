//! What all pages for people share: they are whole without script and cookies, and everything that comes from elsewhere is
//! text.

use askama::Template;
use axum::{
    http::{HeaderValue, header},
    response::{Html, IntoResponse, Response},
};

use crate::admin::problem::{Problem, ProblemKind};

/// Nothing but our own style sheet and forms that come back here.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A template as text.
pub(super) fn rendered(template: &impl Template) -> Result<String, Problem> {
    template.render().map_err(|error| {
        tracing::error!(%error, "a page cannot be written");
        Problem::new(ProblemKind::Fault, "the page cannot be written; the gateway's log tells more")
    })
}

/// A template as a page.
pub(super) fn page(template: &impl Template) -> Result<Response, Problem> {
    let mut response = Html(rendered(template)?).into_response();
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Ok(response)
}

/// The pages' style sheet
#[utoipa::path(get, path = "/setup/style.css", tag = "set-up help", security(()),
    responses((status = 200, description = "The style sheet", body = str, content_type = "text/css")))]
pub(super) async fn style() -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=3600")];
    (headers, include_str!("templates/style.css"))
}
