//! What has knocked: apps whose tokens were good, let in or not, and passwords that were tried.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Actor, Area, Control,
    extract::{Asked, Given},
    page::{Page, PageQuery, cursor},
    problem::{Problem, ProblemKind},
    time::Time,
};
use crate::model::{ClientId, Service, UnitPath, UnixTime};
use crate::store::{self, AppSeen, LegacyFilter, LegacySignIn, SeenCursor, SeenFilter};

/// Most apps on a page.
const MOST: usize = 500;

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(apps)).routes(routes!(allow)).routes(routes!(legacy))
}

/// Sign-ins by one service, in the whole organisation.
#[derive(Debug, Serialize, ToSchema)]
struct Verdicts {
    /// Let in.
    accepted: u64,
    /// Refused, although the token was good.
    refused: u64,
}

impl From<store::Verdicts> for Verdicts {
    fn from(verdicts: store::Verdicts) -> Self {
        Self { accepted: verdicts.accepted, refused: verdicts.refused }
    }
}

/// An app that has knocked.
#[derive(Debug, Serialize, ToSchema)]
struct SeenItem {
    /// Its client ID.
    app: String,
    /// Its name in the catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Whose tokens it had.
    issuer: String,
    /// When it was first seen.
    first: Time,
    /// When it was last seen.
    last: Time,
    /// By IMAP.
    imap: Verdicts,
    /// By POP3.
    pop: Verdicts,
    /// How many users it had tokens of; for a unit asked for, users of that unit.
    users: u64,
    /// There may be more users than that: counting has a bound.
    users_at_least: bool,
    /// Some of them, the last seen first.
    some_users: Vec<String>,
    /// What programs with this client ID called themselves.
    programs: Vec<String>,
    /// The cause word of its last refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_refusal: Option<String>,
}

impl Control {
    fn seen_item(&self, seen: AppSeen) -> SeenItem {
        let name =
            ClientId::parse(&seen.app).ok().and_then(|id| self.store.read(|directory| directory.app_name(&id)));
        SeenItem {
            name: name.map(|name| name.to_string()),
            app: seen.app,
            issuer: seen.issuer,
            first: seen.first.into(),
            last: seen.last.into(),
            imap: seen.imap.into(),
            pop: seen.pop.into(),
            users: seen.users,
            users_at_least: seen.users_at_least,
            some_users: seen.some_users,
            programs: seen.programs,
            last_refusal: seen.last_refusal,
        }
    }
}

/// Which apps.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Used by users of this unit or below it.
    unit: Option<String>,
    /// Refused at least once.
    #[serde(default)]
    refused: bool,
    /// Used since.
    since: Option<Time>,
    /// Items wanted, at most 500.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// The unit asked for, or the one that the actor has.
fn reach(actor: &Actor, asked: Option<&str>) -> Result<Option<UnitPath>, Problem> {
    let asked = asked.map(UnitPath::parse).transpose();
    let asked = asked.map_err(|error| Problem::new(ProblemKind::BadRequest, error.to_string()))?;
    match (asked, actor.role()) {
        (Some(unit), _) if !actor.sees_unit(&unit) => {
            Err(Problem::new(ProblemKind::NotFound, format!("there is no unit {unit}")))
        }
        (None, role) => Ok(role.unit().cloned()),
        (asked, _) => Ok(asked),
    }
}

/// List the apps that have knocked
///
/// The last used first, those that were let in and those that were not.
#[utoipa::path(get, path = "/api/v1/apps-seen", tag = "directory", params(Which), responses(
    (status = 200, body = Page<SeenItem>, description = "The last used first"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn apps(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<SeenItem>>, Problem> {
    actor.may_read(Area::Directory)?;
    let query = PageQuery { limit: which.limit, cursor: which.cursor };
    let limit = query.limit()?.min(MOST);
    let after = query.after()?.map(|key| {
        place(&key).ok_or_else(|| Problem::new(ProblemKind::BadRequest, "the cursor is of another list"))
    });
    let filter = SeenFilter {
        unit: reach(&actor, which.unit.as_deref())?,
        refused: which.refused,
        since: which.since.map(Time::unix),
        after: after.transpose()?,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        ..SeenFilter::default()
    };
    let found = control.store.apps_seen(&filter).await?;
    let last = found.last().filter(|_| found.len() == limit).map(AppSeen::cursor);
    let next = last.map(|at| cursor(&format!("{} {} {}", at.last.0, at.app, at.issuer)));
    Ok(Json(Page { items: found.into_iter().map(|seen| control.seen_item(seen)).collect(), next }))
}

fn place(key: &str) -> Option<SeenCursor> {
    let (last, rest) = key.split_once(' ')?;
    let (app, issuer) = rest.split_once(' ')?;
    Some(SeenCursor { last: UnixTime(last.parse().ok()?), issuer: issuer.to_owned(), app: app.to_owned() })
}

/// An app that is to be let in somewhere.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Permission {
    /// Its client ID.
    app: String,
    /// In this unit and what inherits from it.
    #[schema(example = "/Sales")]
    unit: String,
    /// `imap` or `pop`.
    service: String,
}

/// What was changed.
#[derive(Debug, Serialize, ToSchema)]
struct Allowed {
    /// Whether the list was changed; the app was on it already otherwise.
    changed: bool,
}

/// Let an app in here
///
/// Puts it on the unit's list of apps. A unit that inherits a list gets its own, with this app added, which ends when the
/// inherited one does. Where the service is off nothing is changed: turning it on is a decision of its own.
#[utoipa::path(post, path = "/api/v1/apps-seen/allow", tag = "directory", request_body = Permission, responses(
    (status = 200, body = Allowed, description = "The app is let in there"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn allow(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Given(wish): Given<Permission>,
) -> Result<Json<Allowed>, Problem> {
    actor.may_write(Area::Directory)?;
    let bad = |detail: String| Problem::new(ProblemKind::BadRequest, detail);
    let app = ClientId::parse(&wish.app).map_err(|error| bad(error.to_string()))?;
    let service = Service::from_word(&wish.service)
        .ok_or_else(|| bad(format!("service {:?}: write imap or pop", wish.service)))?;
    let absent = || Problem::new(ProblemKind::NotFound, format!("there is no unit {}", wish.unit));
    let unit = reach(&actor, Some(&wish.unit))?.ok_or_else(absent)?;
    control.store.unit(&unit).await?.ok_or_else(absent)?;
    let by = actor.in_store(Some("an app seen is let in"));
    match control.store.allow_app(&app, &unit, service, by).await? {
        store::Allowed::Added => Ok(Json(Allowed { changed: true })),
        store::Allowed::Already => Ok(Json(Allowed { changed: false })),
        store::Allowed::Off(place) => {
            let detail = format!("{} is off in {unit} (set at {place}): turn it on there first", service.title());
            Err(Problem::new(ProblemKind::Conflict, detail))
        }
    }
}

/// Which attempts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Tries {
    /// Of users in this unit or below it.
    unit: Option<String>,
    /// Of this user, as claimed.
    user: Option<String>,
    /// Since this moment.
    since: Option<Time>,
    /// Items wanted, at most 50,000.
    #[param(minimum = 1, maximum = 50000)]
    limit: Option<u32>,
}

/// Attempts with a password of one kind. No password is kept.
#[derive(Debug, Serialize, ToSchema)]
struct LegacyItem {
    /// The user as claimed; nothing proves it.
    user: String,
    /// The unit of that user, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// What the program says it is.
    program: String,
    /// Where they came from.
    from: String,
    /// `imap` or `pop`.
    service: String,
    /// The command or mechanism.
    how: String,
    /// How often.
    attempts: u64,
    /// When first.
    first: Time,
    /// When last.
    last: Time,
}

impl From<LegacySignIn> for LegacyItem {
    fn from(row: LegacySignIn) -> Self {
        Self {
            user: row.claimed,
            unit: row.unit,
            program: row.program,
            from: row.from,
            service: row.service.word().to_owned(),
            how: row.how,
            attempts: row.attempts,
            first: row.first.into(),
            last: row.last.into(),
        }
    }
}

/// The legacy report.
#[derive(Debug, Serialize, ToSchema)]
struct Legacy {
    /// The most frequent first.
    items: Vec<LegacyItem>,
}

/// Who still tries passwords
#[utoipa::path(get, path = "/api/v1/legacy", tag = "audit", params(Tries), responses(
    (status = 200, body = Legacy, description = "The most frequent first"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn legacy(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(tries): Asked<Tries>,
) -> Result<Json<Legacy>, Problem> {
    actor.may_read(Area::Audit)?;
    let filter = LegacyFilter {
        unit: reach(&actor, tries.unit.as_deref())?,
        user: tries.user,
        since: tries.since.map(Time::unix),
        limit: tries.limit.unwrap_or(0),
    };
    let found = control.store.legacy(&filter).await?;
    Ok(Json(Legacy { items: found.into_iter().map(Into::into).collect() }))
}
