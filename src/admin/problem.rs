//! Errors of the API: problem details (RFC 9457). Every answer that is not a success has this shape.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

/// What went wrong, as `application/problem+json`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:portcullis:problem:` and a word that does not change: programs go by this one.
    #[serde(rename = "type")]
    kind: String,
    /// The same in a few words, for people.
    title: &'static str,
    /// The HTTP status again.
    status: u16,
    /// What exactly, where, and what to do.
    detail: String,
    /// Seconds to wait before another try, where waiting helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u64>,
}

/// The kinds there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The request cannot be understood, or a value in it is not allowed.
    BadRequest,
    /// No token, or one that is not good.
    Unauthenticated,
    /// The token is good, and its holder may not do this.
    Forbidden,
    /// A cookie came with a request that is not from our own pages.
    Foreign,
    /// No such resource, or none that the caller may see.
    NotFound,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// It stands in the way of something else: a name taken, a unit that is not empty, a row that the policy file manages.
    Conflict,
    /// `If-Match` names another version than the one there is.
    VersionChanged,
    /// The same, where the version is in the body: RFC 9110 keeps 412 for conditions in header fields.
    VersionStale,
    /// A change without `If-Match`.
    VersionMissing,
    /// A body larger than `http.body_bytes`.
    TooLarge,
    /// A body of another media type than the one asked for.
    MediaType,
    /// Asked for by a name that is not ours.
    WrongHost,
    /// Too many requests.
    TooMany,
    /// The database, or an issuer, does not answer.
    Unavailable,
    /// Our own fault.
    Fault,
    /// It took longer than `http.request_s`.
    TimedOut,
}

impl ProblemKind {
    const fn parts(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::BadRequest => ("bad-request", "The request is not right", StatusCode::BAD_REQUEST),
            Self::Unauthenticated => ("unauthenticated", "A good token is needed", StatusCode::UNAUTHORIZED),
            Self::Forbidden => ("forbidden", "Your role does not allow this", StatusCode::FORBIDDEN),
            Self::Foreign => ("foreign", "The request comes from elsewhere", StatusCode::FORBIDDEN),
            Self::NotFound => ("not-found", "There is no such resource", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => {
                ("method-not-allowed", "This method is not for this path", StatusCode::METHOD_NOT_ALLOWED)
            }
            Self::Conflict => ("conflict", "Something stands in the way", StatusCode::CONFLICT),
            Self::VersionChanged => {
                ("version-changed", "It was changed in the meantime", StatusCode::PRECONDITION_FAILED)
            }
            Self::VersionStale => ("version-changed", "It was changed in the meantime", StatusCode::CONFLICT),
            Self::VersionMissing => ("version-missing", "If-Match is needed", StatusCode::PRECONDITION_REQUIRED),
            Self::TooLarge => ("too-large", "The body is too large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::MediaType => ("media-type", "The body is of another type", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::WrongHost => ("wrong-host", "This is not the host asked for", StatusCode::MISDIRECTED_REQUEST),
            Self::TooMany => ("too-many", "Too many requests", StatusCode::TOO_MANY_REQUESTS),
            Self::Unavailable => ("unavailable", "Out of reach for the moment", StatusCode::SERVICE_UNAVAILABLE),
            Self::Fault => ("fault", "A fault of the gateway", StatusCode::INTERNAL_SERVER_ERROR),
            Self::TimedOut => ("timed-out", "It took too long", StatusCode::GATEWAY_TIMEOUT),
        }
    }
}

impl Problem {
    /// A problem of this kind; `detail` says what exactly, where, and what to do.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let (word, title, status) = kind.parts();
        Self {
            kind: format!("urn:portcullis:problem:{word}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            retry_after_s: None,
        }
    }

    /// With the time after which another try may succeed.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Of a version in the body, where it is of one in `If-Match`.
    #[must_use]
    pub fn of_the_body(self) -> Self {
        if self.status() == StatusCode::PRECONDITION_FAILED {
            return Self::new(ProblemKind::VersionStale, self.detail);
        }
        self
    }

    /// What exactly, where, and what to do.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry) = (self.status(), self.retry_after_s);
        let mut response = (status, Json(&self)).into_response();
        // For those who have it in another form on the way out.
        response.extensions_mut().insert(self);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"portcullis\""));
        }
        response
    }
}

/// For every path without a resource.
pub(super) async fn nothing_here(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(
        ProblemKind::NotFound,
        format!("{path:?} is no path of this server: /api/v1/openapi.json lists them"),
    )
}
