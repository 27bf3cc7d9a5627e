//! A list of users as CSV, brought in as a whole or not at all, with a word on each line that is wrong.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::super::{
    Actor, Area, Control,
    extract::Asked,
    grants::reason,
    problem::{Problem, ProblemKind},
};
use crate::policy::import::read_users;
use crate::store::Imported;

/// Largest list, in bytes.
const MOST_BYTES: usize = 16 * 1024 * 1024;

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    // A list is larger than other bodies; only whoever has shown a token gets to send one.
    OpenApiRouter::new().routes(routes!(import)).layer(DefaultBodyLimit::max(MOST_BYTES))
}

/// How the list is to be brought in.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct How {
    /// Change nothing; tell what would be done.
    #[serde(default)]
    dry_run: bool,
    /// Why, for the audit log; at most 500 characters.
    reason: Option<String>,
}

/// What became of a list.
#[derive(Debug, Serialize, ToSchema)]
struct ImportReport {
    /// Whether the directory was changed: not in a dry run, not where a line is wrong, and not where nothing is new.
    done: bool,
    /// Users who were not there.
    made: usize,
    /// Users who are in another unit, suspended or not, or in more groups than before.
    changed: usize,
    /// Users about whom the list says what is so already.
    same: usize,
    /// Lines that are wrong.
    wrong_count: usize,
    /// The first of them, at most 1,000.
    wrong: Vec<WrongLine>,
}

/// A line that is wrong.
#[derive(Debug, Serialize, ToSchema)]
struct WrongLine {
    /// Its number; the header is line 1.
    line: usize,
    /// What is wrong, and what to do.
    what: String,
}

impl From<Imported> for ImportReport {
    fn from(imported: Imported) -> Self {
        let Imported { made, changed, same, wrong_count, wrong, is_done } = imported;
        let wrong = wrong.into_iter().map(|(line, what)| WrongLine { line, what }).collect();
        Self { done: is_done, made, changed, same, wrong_count, wrong }
    }
}

/// Import a list of users
///
/// The first line names the columns: `address`, and `unit`, `suspended`, `groups` (names between `;`) if they are wanted. An
/// empty field says nothing; users who are not on the list stay. All in one transaction, or nothing where a line is wrong.
#[utoipa::path(post, path = "/api/v1/directory-import", tag = "directory", params(How),
    request_body(content = String, content_type = "text/csv", description = "The list, at most 16 MiB and 100,000 lines"), responses(
    (status = 200, body = ImportReport, description = "Imported; with `dry_run=true` what would be done, wrong lines included"),
    (status = 422, body = ImportReport, description = "Lines are wrong; nothing was changed"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn import(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(how): Asked<How>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    actor.may_write(Area::Directory)?;
    let why = reason(how.reason.as_deref())?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/csv") {
        return Err(Problem::new(ProblemKind::MediaType, "send the list with `Content-Type: text/csv`"));
    }
    let body = body.map_err(|_| {
        let detail =
            format!("the list did not arrive whole, or has more than {MOST_BYTES} bytes: import it in parts");
        Problem::new(ProblemKind::TooLarge, detail)
    })?;
    let text = std::str::from_utf8(&body).map_err(|error| {
        let before = body.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Problem::new(ProblemKind::BadRequest, format!("line {line} is not UTF-8: save the list as UTF-8"))
    })?;
    let lines = read_users(text).map_err(|error| Problem::new(ProblemKind::BadRequest, error.to_string()))?;
    let imported = control.store.import(&lines, actor.in_store(why), how.dry_run).await?;
    let status =
        if how.dry_run || imported.wrong_count == 0 { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    Ok((status, Json(ImportReport::from(imported))).into_response())
}
