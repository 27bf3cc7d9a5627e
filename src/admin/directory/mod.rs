//! The directory: units, users, groups, shared mailboxes, apps, each with its own settings; and many changes at once.
//!
//! Each row has a version: `ETag` tells it, a change names it in `If-Match` (`*`: whatever it is). Every change can be tried
//! first with `?preview=true`: the answer then tells who would lose or gain access, and nothing is changed.

mod apps;
mod bulk;
mod groups;
mod import;
mod mailboxes;
mod preview;
mod reach;
mod units;
mod users;
mod words;

use std::sync::Arc;

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use preview::PreviewWords;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::{
    Actor, Area, Control,
    grants::reason,
    page::{Page, PageQuery, cursor},
    problem::{Problem, ProblemKind},
};
use crate::model::{Place, UserId};
use crate::store::{self, Action, Directive, EditError, UnitPatch, UserPatch, Wish};

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new()
        .merge(units::routes())
        .merge(users::routes())
        .merge(groups::routes())
        .merge(mailboxes::routes())
        .merge(apps::routes())
        .merge(bulk::routes())
        .merge(import::routes())
}

/// How a change is to be made.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct How {
    /// Change nothing; tell what the change would come to.
    #[serde(default)]
    preview: bool,
    /// Queue a notice for everybody who loses access to something by the change. A preview queues none; it tells how many
    /// there would be. For more than 100,000 people it is refused.
    #[serde(default)]
    notify: bool,
    /// Why, for the audit log and the notices; at most 500 characters.
    reason: Option<String>,
}

/// The version that `If-Match` names; none for `*`.
fn expected(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        let detail =
            "name in If-Match the version you have seen (the ETag of your last read), or * for whatever it is";
        return Err(Problem::new(ProblemKind::VersionMissing, detail));
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| {
        let detail = format!("If-Match: {text}: write the ETag of your last read, as \"17\", or *");
        Problem::new(ProblemKind::BadRequest, detail)
    })
}

/// A row with its version as the `ETag`.
fn versioned<T: Serialize>(status: StatusCode, version: i64, body: T) -> Response {
    let mut response = (status, Json(body)).into_response();
    if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn absent(what: &str, name: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is no {what} {name}"))
}

impl From<EditError> for Problem {
    fn from(error: EditError) -> Self {
        let kind = match error {
            EditError::Store(error) => return error.into(),
            EditError::Stale { .. } => ProblemKind::VersionChanged,
            EditError::Absent { .. } => ProblemKind::NotFound,
            EditError::Exists { .. }
            | EditError::Managed { .. }
            | EditError::InUse { .. }
            | EditError::Left { .. }
            | EditError::LastSuper { .. } => ProblemKind::Conflict,
            EditError::OutOfReach { .. } => ProblemKind::Forbidden,
            EditError::Wrong { .. } | EditError::TooMany { .. } => ProblemKind::BadRequest,
        };
        Self::new(kind, error.to_string())
    }
}

/// What a change is answered with, for the description: the row as it stands now, or what it would come to.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the answers are made by `versioned` and `preview::words`")]
enum Answered<T> {
    /// With `preview=true`.
    Tried(Box<PreviewWords>),
    /// It is made.
    Made(T),
}

/// What came of a change.
enum Outcome {
    /// It is made.
    Made,
    /// It was only tried.
    Tried(Box<Response>),
}

impl Control {
    /// Makes or tries changes, all or none; the store looks whether each is within the actor's reach.
    async fn carry_out(&self, actor: &Actor, wishes: Vec<Wish>, how: &How) -> Result<Outcome, Problem> {
        actor.may_write(Area::Directory)?;
        // Who may say nothing of where mail is hears that first, from the store.
        if actor.sees_all() {
            wishes.iter().try_for_each(|wish| self.has_home(&wish.directive))?;
        }
        let why = reason(how.reason.as_deref())?;
        let who = actor.in_store(why);
        if how.preview {
            let live = self.live_sessions().await?;
            let found = self.store.preview(&wishes, who, &live.seats).await?;
            let words = self
                .store
                .read(|directory| preview::words(&found, &live, &|user: &UserId| actor.sees_user(user, directory)));
            return Ok(Outcome::Tried(Box::new(Json(words).into_response())));
        }
        if how.notify {
            self.store.change_telling(&wishes, who).await?;
        } else {
            self.store.change(&wishes, who).await?;
        }
        Ok(Outcome::Made)
    }

    /// Whether there is the home of mail that a change names, if it names one.
    fn has_home(&self, directive: &Directive) -> Result<(), Problem> {
        let (place, home) = match directive {
            Directive::Unit(
                path,
                Action::Make(UnitPatch { mail: Some(Some(home)), .. })
                | Action::Change(UnitPatch { mail: Some(Some(home)), .. }),
            ) => (Place::Unit(path.clone()), home),
            Directive::User(
                user,
                Action::Make(UserPatch { mail: Some(Some(home)), .. })
                | Action::Change(UserPatch { mail: Some(Some(home)), .. }),
            ) => (Place::User(user.clone()), home),
            _ => return Ok(()),
        };
        let checked = self.settings.homes.check(home);
        checked.map_err(|error| Problem::new(ProblemKind::BadRequest, format!("{place}: {error}")))
    }

    async fn one(
        &self,
        actor: &Actor,
        directive: Directive,
        expect: Option<i64>,
        how: &How,
    ) -> Result<Outcome, Problem> {
        self.carry_out(actor, vec![Wish { directive, expect }], how).await
    }
}

/// A page of the store's as one of the API's.
fn page<T, U>(found: store::Page<T>, item: impl Fn(T) -> U) -> Page<U> {
    Page { items: found.rows.into_iter().map(item).collect(), next: found.next.as_deref().map(cursor) }
}

/// Limit and key of a page, as the store takes them.
fn part(query: &PageQuery) -> Result<(u32, Option<String>), Problem> {
    Ok((u32::try_from(query.limit()?).unwrap_or(u32::MAX), query.after()?))
}
