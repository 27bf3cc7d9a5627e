//! The app catalogue: names, and how far each app is trusted. It is the whole organisation's.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    super::{
        Actor, Area, Control,
        extract::{Asked, Given, Named},
        page::{Page, PageQuery},
        problem::Problem,
        problem::ProblemKind,
    },
    Answered, How, Outcome, absent, expected, page, part,
    preview::PreviewWords,
    versioned,
    words::{nullable, unit},
};
use crate::model::{ClientId, UnitPath};
use crate::policy::{App, Trust};
use crate::store::{Action, AppPatch, Directive, Stored};

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(list, make)).routes(routes!(one, change, remove))
}

/// An app's entry in the catalogue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppItem {
    /// The client ID; one that ends in `*` is every ID with that beginning.
    id: String,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// `trusted`, `limited` to `units`, or `blocked`.
    trust: String,
    /// The units to which a limited app is limited, those of them that the asker sees.
    units: Vec<String>,
    /// The units in which it may act as a service account, those of them that the asker sees.
    delegation: Vec<String>,
    /// Whether it may only read, wherever it is let in.
    read_only: bool,
    /// Also told as the `ETag`.
    version: i64,
    /// `file`: the policy file keeps it, and it cannot be changed here. Otherwise `admin`.
    managed_by: String,
}

/// A client ID as the catalogue takes it.
fn entry(text: &str) -> Result<ClientId, Problem> {
    ClientId::parse(text).map_err(|error| Problem::new(ProblemKind::BadRequest, error.to_string()))
}

impl AppItem {
    fn of(row: Stored<ClientId, App>, actor: &Actor) -> Self {
        let seen = |list: &[UnitPath]| {
            list.iter().filter(|unit| actor.sees_unit(unit)).map(UnitPath::to_string).collect::<Vec<_>>()
        };
        let (trust, units) = match &row.value.trust {
            Trust::Trusted => ("trusted", Vec::new()),
            Trust::Limited(units) => ("limited", seen(units)),
            Trust::Blocked => ("blocked", Vec::new()),
        };
        Self {
            id: row.id.to_string(),
            name: row.value.name,
            trust: trust.to_owned(),
            units,
            delegation: seen(&row.value.delegation),
            read_only: row.value.read_only,
            version: row.version,
            managed_by: row.managed_by,
        }
    }
}

impl Control {
    async fn app_answer(&self, status: StatusCode, id: &ClientId, actor: &Actor) -> Result<Response, Problem> {
        let row = self.store.app(id).await?.ok_or_else(|| absent("app", id))?;
        Ok(versioned(status, row.version, AppItem::of(row, actor)))
    }
}

/// Which apps.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Items wanted, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// List the app catalogue
#[utoipa::path(get, path = "/api/v1/apps", tag = "directory", params(Which), responses(
    (status = 200, body = Page<AppItem>, description = "By client ID"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn list(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<AppItem>>, Problem> {
    actor.may_read(Area::Directory)?;
    let (limit, after) = part(&PageQuery { limit: which.limit, cursor: which.cursor })?;
    Ok(Json(page(control.store.apps(after.as_deref(), limit).await?, |row| AppItem::of(row, &actor))))
}

/// What is said of an app. Absent leaves a thing as it is, `null` takes the name away.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AppWish {
    /// What people call it.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    /// `trusted`, `limited` to `units`, or `blocked`.
    trust: Option<String>,
    /// The units to which a `limited` app is limited.
    units: Option<Vec<String>>,
    /// The units in which it may act as a service account.
    delegation: Option<Vec<String>>,
    /// Whether it may only read, wherever it is let in.
    read_only: Option<bool>,
}

impl AppWish {
    pub(super) fn patch(&self) -> Result<AppPatch, Problem> {
        let paths = |list: &[String]| list.iter().map(|text| unit(text)).collect::<Result<Vec<UnitPath>, _>>();
        let bad = |detail: String| Problem::new(ProblemKind::BadRequest, detail);
        let trust = match (self.trust.as_deref(), &self.units) {
            (None, None) => None,
            (Some("trusted"), None) => Some(Trust::Trusted),
            (Some("blocked"), None) => Some(Trust::Blocked),
            (Some("limited"), Some(units)) => Some(Trust::Limited(paths(units)?)),
            (Some("limited"), None) => return Err(bad("trust = limited: name its units".into())),
            (Some("trusted" | "blocked") | None, Some(_)) => {
                return Err(bad("units are for trust = limited".into()));
            }
            (Some(odd), _) => return Err(bad(format!("trust {odd:?}: write trusted, limited or blocked"))),
        };
        let delegation = self.delegation.as_deref().map(paths).transpose()?;
        Ok(AppPatch { name: self.name.clone(), trust, delegation, read_only: self.read_only })
    }
}

/// A new app.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewApp {
    /// The client ID
    id: String,
    /// What is said of it.
    #[serde(default)]
    set: AppWish,
}

/// Make an app
#[utoipa::path(post, path = "/api/v1/apps", tag = "directory", params(How), request_body = NewApp, responses(
    (status = 201, body = AppItem, description = "Made"),
    (status = 200, body = PreviewWords, description = "With `preview=true`: what it would come to"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn make(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(how): Asked<How>,
    Given(new): Given<NewApp>,
) -> Result<Response, Problem> {
    let id = entry(&new.id)?;
    let directive = Directive::App(id.clone(), Action::Make(new.set.patch()?));
    match control.one(&actor, directive, None, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => control.app_answer(StatusCode::CREATED, &id, &actor).await,
    }
}

/// Look at one app
#[utoipa::path(get, path = "/api/v1/apps/{id}", tag = "directory",
    params(("id" = String, Path, description = "The client ID")), responses(
    (status = 200, body = AppItem, description = "The app"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn one(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(name): Named<String>,
) -> Result<Response, Problem> {
    actor.may_read(Area::Directory)?;
    let id = entry(&name)?;
    control.app_answer(StatusCode::OK, &id, &actor).await
}

/// Change an app
#[utoipa::path(patch, path = "/api/v1/apps/{id}", tag = "directory", request_body = AppWish, params(How,
    ("id" = String, Path, description = "The client ID"),
    ("If-Match" = Option<String>, Header, description = "The version seen, or `*`")), responses(
    (status = 200, body = Answered<AppItem>, description = "As it stands now; with `preview=true` what the change would come to"),
    (status = 412, body = Problem, content_type = "application/problem+json", description = "It is not of the version in `If-Match`"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn change(
    State(control): State<Arc<Control>>,
    actor: Actor,
    headers: HeaderMap,
    Named(name): Named<String>,
    Asked(how): Asked<How>,
    Given(wish): Given<AppWish>,
) -> Result<Response, Problem> {
    let (id, expect) = (entry(&name)?, expected(&headers)?);
    let directive = Directive::App(id.clone(), Action::Change(wish.patch()?));
    match control.one(&actor, directive, expect, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => control.app_answer(StatusCode::OK, &id, &actor).await,
    }
}

/// Remove an app
#[utoipa::path(delete, path = "/api/v1/apps/{id}", tag = "directory", params(How,
    ("id" = String, Path, description = "The client ID"),
    ("If-Match" = Option<String>, Header, description = "The version seen, or `*`")), responses(
    (status = 204, description = "Removed"),
    (status = 200, body = PreviewWords, description = "With `preview=true`: what it would come to"),
    (status = 412, body = Problem, content_type = "application/problem+json", description = "It is not of the version in `If-Match`"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn remove(
    State(control): State<Arc<Control>>,
    actor: Actor,
    headers: HeaderMap,
    Named(name): Named<String>,
    Asked(how): Asked<How>,
) -> Result<Response, Problem> {
    let directive = Directive::App(entry(&name)?, Action::Remove);
    match control.one(&actor, directive, expected(&headers)?, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}
