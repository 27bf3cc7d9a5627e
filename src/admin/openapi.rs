//! The OpenAPI 3.1 document, put together from the handlers themselves.

use std::sync::Arc;

use axum::{Json, Router, routing::get};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::{Control, problem::Problem};

/// The document without its paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Portcullis",
        description = "Who may read their mail with which program: directory, settings, grants, live sessions and the audit \
                       log. Every change takes effect within a second, open sessions included.\n\nEach request bears an API \
                       token (`Authorization: Bearer pct_...`) or an access token of a configured issuer; or the cookie of \
                       somebody who signed in at `/signin`, and then every change bears `csrf` of `/api/v1/me` in the header \
                       `X-Portcullis-Csrf`. A change names the version it is meant for: in `If-Match`, and another version \
                       is answered 412 (RFC 9110); many changes at once name it in the body, and are answered 409. An error is \
                       `application/problem+json` (RFC 9457). Lists come in pages: `next` of one page is `cursor` of the \
                       following.",
    ),
    components(schemas(Problem)),
    modifiers(&Security),
    security(("bearer" = []), ("cookie" = []))
)]
struct Frame;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let cookie = ApiKey::Cookie(ApiKeyValue::new("__Host-portcullis"));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
        components.add_security_scheme("cookie", SecurityScheme::ApiKey(cookie));
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
