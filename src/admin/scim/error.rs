//! Errors in SCIM's form (RFC 7644 section 3.12). Everything else of the API answers with problem details (RFC 9457);
//! [`in_scim_form`] turns those that leave by a SCIM path.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::super::problem::{Problem, ProblemKind};
use crate::store::{EditError, StoreError};

/// The media type of SCIM (RFC 7644 section 8.1).
pub(super) const MEDIA_TYPE: &str = "application/scim+json";

/// What kind of error it is: the words of RFC 7644 table 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScimType {
    /// The filter cannot be read, or compares what cannot be compared.
    InvalidFilter,
    /// The list would cost too much.
    TooMany,
    /// The name is taken.
    Uniqueness,
    /// It cannot be changed here.
    Mutability,
    /// The body is not built as it should be.
    InvalidSyntax,
    /// The path of an operation cannot be read, or there is none such.
    InvalidPath,
    /// An operation's path or filter meets nothing.
    NoTarget,
    /// A value is missing, or not of the right kind.
    InvalidValue,
}

impl ScimType {
    const fn parts(self) -> (&'static str, StatusCode) {
        match self {
            Self::InvalidFilter => ("invalidFilter", StatusCode::BAD_REQUEST),
            Self::TooMany => ("tooMany", StatusCode::BAD_REQUEST),
            Self::Uniqueness => ("uniqueness", StatusCode::CONFLICT),
            Self::Mutability => ("mutability", StatusCode::BAD_REQUEST),
            Self::InvalidSyntax => ("invalidSyntax", StatusCode::BAD_REQUEST),
            Self::InvalidPath => ("invalidPath", StatusCode::BAD_REQUEST),
            Self::NoTarget => ("noTarget", StatusCode::BAD_REQUEST),
            Self::InvalidValue => ("invalidValue", StatusCode::BAD_REQUEST),
        }
    }
}

/// Why a SCIM request is not answered as it wished.
#[derive(Clone, Debug)]
pub(super) enum ScimError {
    /// With a kind of SCIM's own.
    Own {
        /// Which.
        kind: ScimType,
        /// The HTTP status.
        status: StatusCode,
        /// What exactly, where, and what to do.
        detail: String,
    },
    /// As any other request of the API could be refused.
    Common(Problem),
}

impl ScimError {
    pub(super) fn new(kind: ScimType, detail: impl Into<String>) -> Self {
        Self::Own { kind, status: kind.parts().1, detail: detail.into() }
    }

    /// There is none, or none that the caller may see.
    pub(super) fn absent(kind: &str, id: &str) -> Self {
        let id: String = id.chars().take(100).collect();
        Self::Common(Problem::new(ProblemKind::NotFound, format!("there is no {kind} with the id {id:?}")))
    }

    #[cfg(test)]
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Own { kind, .. } => kind.parts().0,
            Self::Common(_) => "",
        }
    }
}

impl From<Problem> for ScimError {
    fn from(problem: Problem) -> Self {
        Self::Common(problem)
    }
}

impl From<StoreError> for ScimError {
    fn from(error: StoreError) -> Self {
        Self::Common(error.into())
    }
}

impl From<EditError> for ScimError {
    fn from(error: EditError) -> Self {
        let detail = error.to_string();
        match error {
            EditError::Exists { .. } => Self::new(ScimType::Uniqueness, detail),
            EditError::Managed { .. } => {
                Self::Own { kind: ScimType::Mutability, status: StatusCode::CONFLICT, detail }
            }
            EditError::Wrong { .. } | EditError::TooMany { .. } => Self::new(ScimType::InvalidValue, detail),
            EditError::Stale { .. }
            | EditError::Absent { .. }
            | EditError::InUse { .. }
            | EditError::LastSuper { .. }
            | EditError::OutOfReach { .. }
            | EditError::Left { .. }
            | EditError::Store(_) => Self::Common(error.into()),
        }
    }
}

impl IntoResponse for ScimError {
    fn into_response(self) -> Response {
        match self {
            // Turned on the way out, as those of `guard` and of the routes are.
            Self::Common(problem) => problem.into_response(),
            Self::Own { kind, status, detail } => answer(status, body(status, Some(kind.parts().0), &detail)),
        }
    }
}

/// An error, as `application/scim+json`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScimErrorWords {
    /// `urn:ietf:params:scim:api:messages:2.0:Error`.
    schemas: [&'static str; 1],
    /// The HTTP status again, as a text.
    status: String,
    /// A word of RFC 7644 table 9.
    #[serde(skip_serializing_if = "Option::is_none")]
    scim_type: Option<&'static str>,
    /// What exactly, where, and what to do.
    detail: String,
}

fn body(status: StatusCode, scim_type: Option<&'static str>, detail: &str) -> Value {
    let schemas = ["urn:ietf:params:scim:api:messages:2.0:Error"];
    json!(ScimErrorWords { schemas, status: status.as_u16().to_string(), scim_type, detail: detail.to_owned() })
}

/// JSON under SCIM's media type.
pub(super) fn answer(status: StatusCode, body: Value) -> Response {
    let mut response = (status, body.to_string()).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}

/// A problem that leaves by a SCIM path, as SCIM has it; everything else as it is.
pub(in crate::admin) fn in_scim_form(response: Response) -> Response {
    let Some(problem) = response.extensions().get::<Problem>().cloned() else { return response };
    let status = problem.status();
    let kind = (status == StatusCode::BAD_REQUEST).then_some("invalidSyntax");
    let mut turned = answer(status, body(status, kind, problem.detail()));
    for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
        if let Some(value) = response.headers().get(&name) {
            turned.headers_mut().insert(name, value.clone());
        }
    }
    turned
}
