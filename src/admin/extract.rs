//! Bodies, paths and queries as values, or a problem that says what is wrong with them.

use axum::{
    extract::{
        FromRequest, FromRequestParts, Request,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use super::problem::{Problem, ProblemKind};

/// A JSON body.
pub struct Given<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Given<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match axum::Json::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(body_problem(&rejection)),
        }
    }
}

fn body_problem(rejection: &JsonRejection) -> Problem {
    match rejection {
        JsonRejection::MissingJsonContentType(_) => {
            Problem::new(ProblemKind::MediaType, "send JSON, with `Content-Type: application/json`")
        }
        JsonRejection::BytesRejection(_) => {
            Problem::new(ProblemKind::TooLarge, "the body did not arrive whole, or is larger than http.body_bytes")
        }
        // Says line, column and what was expected there.
        other => Problem::new(ProblemKind::BadRequest, other.body_text()),
    }
}

/// The parts of the path.
pub struct Named<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => {
                Err(Problem::new(ProblemKind::BadRequest, format!("the path: {}", error.body_text())))
            }
            Err(other) => Err(Problem::new(ProblemKind::Fault, other.body_text())),
        }
    }
}

/// The query.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        let wrong = |error: QueryRejection| {
            Problem::new(ProblemKind::BadRequest, format!("the query: {}", error.body_text()))
        };
        query.map(|axum::extract::Query(value)| Self(value)).map_err(wrong)
    }
}
