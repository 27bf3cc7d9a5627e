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

/// Gives each operation a name of its own: `get_units_path` for `GET /api/v1/units/{path}`, `get_site_healthz` for what is no
/// part of the API. By the functions' names several
/// would be `list`, and programs made from the document need them apart (OpenAPI 3.1 section 4.8.10).
fn name_operations(document: &mut utoipa::openapi::OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let (place, rest) = path.strip_prefix("/api/v1").map_or(("_site", path.as_str()), |rest| ("", rest));
        let words = rest.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let words: String = words.map(|word| format!("_{word}")).collect();
        let operations = [
            ("get", &mut item.get),
            ("put", &mut item.put),
            ("post", &mut item.post),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                operation.operation_id = Some(format!("{method}{place}{words}"));
            }
        }
    }
}

/// Serves the finished document.
pub(super) fn route(mut document: utoipa::openapi::OpenApi) -> Router<Arc<Control>> {
    name_operations(&mut document);
    let document = Arc::new(document);
    Router::new().route(
        "/api/v1/openapi.json",
        get(move || {
            let document = Arc::clone(&document);
            async move { Json(document.as_ref().clone()) }
        }),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::collections::HashSet;

    #[test]
    fn each_operation_has_a_name_of_its_own() {
        let mut document = crate::admin::resources().split_for_parts().1;
        super::name_operations(&mut document);
        let document = serde_json::to_value(document).unwrap();
        let mut names = HashSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap().to_owned();
                assert!(name.starts_with(method), "{method} {path}: {name}");
                assert!(names.insert(name), "{method} {path} has the name of another");
            }
        }
        assert!(names.contains("get_units_path") && names.contains("get_site_healthz"), "{names:?}");
    }
}
