//! The OpenAPI 3.1 document, put together from the handlers themselves.

use std::sync::Arc;

use axum::{Json, Router, routing::get};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::{Control, problem::Problem};

/// The document without its paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Portcullis",
        description = "Who may read their mail with which program: directory, settings, grants, live sessions and the audit \
                       log. Every change takes effect within a second, open sessions included.\n\nEach request bears an API \
                       token (`Authorization: Bearer pct_...`) or an access token of a configured issuer. An error is \
                       `application/problem+json` (RFC 9457). Lists come in pages: `next` of one page is `cursor` of the \
                       following.",
    ),
    components(schemas(Problem)),
    modifiers(&Security),
    security(("bearer" = []))
)]
struct Frame;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        document.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

pub(super) fn frame() -> utoipa::openapi::OpenApi {
    Frame::openapi()
}

/// Serves the finished document.
pub(super) fn route(document: utoipa::openapi::OpenApi) -> Router<Arc<Control>> {
    let document = Arc::new(document);
    Router::new().route(
        "/api/v1/openapi.json",
        get(move || {
            let document = Arc::clone(&document);
            async move { Json(document.as_ref().clone()) }
        }),
    )
}
