//! The audit log, read by filter.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Actor, Area, Control,
    extract::Asked,
    problem::{Problem, ProblemKind},
    time::Time,
};
use crate::model::{Reference, UnitPath, UserId};
use crate::policy::Directory;
use crate::store::{AuditEvent, AuditFilter};

/// Rows shown where the request does not say.
const USUAL: u32 = 100;
/// Most rows shown.
const MOST: u32 = 1_000;

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(recent))
}

/// Which rows: each that is given must match.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// The user, proved or claimed.
    user: Option<String>,
    /// The app's client ID.
    app: Option<String>,
    /// The cause word.
    cause: Option<String>,
    /// The reference of a refusal.
    reference: Option<String>,
    /// The kind of event.
    event: Option<String>,
    /// Not before this moment.
    since: Option<Time>,
    /// Rows wanted, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// One row of the audit log. What is not known of an event is absent.
#[derive(Debug, Serialize, ToSchema)]
struct Row {
    /// When.
    time: Time,
    /// What: `login`, `legacy_password`, `session.ended`, `grant.disabled`, ...
    event: String,
    /// `yes`, `no`, `done`, ...
    outcome: String,
    /// The cause word.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// What a refusal told its user.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// `imap` or `pop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// The session's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<u64>,
    /// Address and port of the other side.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    /// The TLS version.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<String>,
    /// The token's issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// The user that was claimed and not proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed: Option<String>,
    /// The user that the token proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// Whose mailbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// The app's client ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    /// The user's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// Where the setting that decided stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// The mail program, as it called itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    /// More, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<AuditEvent> for Row {
    fn from(event: AuditEvent) -> Self {
        Self {
            time: event.time.into(),
            event: event.event.into_owned(),
            outcome: event.outcome.into_owned(),
            cause: event.reason.map(Into::into),
            reference: event.reference.map(|reference| reference.to_string()),
            service: event.service.map(|service| service.word().to_owned()),
            session: event.session.map(|session| session.0),
            peer: event.peer,
            tls: event.tls,
            issuer: event.issuer,
            claimed: event.claimed,
            user: event.user,
            owner: event.owner,
            app: event.app,
            unit: event.unit,
            place: event.place,
            program: event.program,
            detail: event.detail,
        }
    }
}

/// The latest rows.
#[derive(Debug, Serialize, ToSchema)]
struct Rows {
    /// Newest first.
    items: Vec<Row>,
}

/// Read the audit log
///
/// An admin of a subtree sees the rows of users who are in it.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(Which), responses(
    (status = 200, body = Rows, description = "The latest rows that match, newest first"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn recent(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(which): Asked<Which>,
) -> Result<Json<Rows>, Problem> {
    actor.may_read(Area::Audit)?;
    let reference = which.reference.as_deref().map(|text| {
        Reference::parse(text).ok_or_else(|| {
            Problem::new(ProblemKind::BadRequest, format!("reference {text:?}: six letters and digits"))
        })
    });
    let limit = which.limit.unwrap_or(USUAL).clamp(1, MOST);
    let filter = AuditFilter {
        user: which.user,
        app: which.app,
        reason: which.cause,
        reference: reference.transpose()?,
        event: which.event,
        since: which.since.map(Time::unix),
        // Whoever sees a part only is shown what of the latest rows is theirs.
        limit: if actor.sees_all() { limit } else { MOST },
    };
    let found = control.store.audit_recent(&filter).await?;
    let items = control.store.read(|directory| {
        let seen = found.into_iter().filter(|event| sees(&actor, event, directory));
        seen.take(limit as usize).map(Row::from).collect()
    });
    Ok(Json(Rows { items }))
}

/// By where the user is now; a row without a user that anybody knows goes by the unit it names.
pub(super) fn sees(actor: &Actor, event: &AuditEvent, directory: &Directory) -> bool {
    if actor.sees_all() {
        return true;
    }
    let user = event.user.as_deref().and_then(|user| UserId::parse(user).ok());
    match user.and_then(|user| directory.unit_of(&user)) {
        Some(unit) => actor.sees_unit(&unit),
        None => event
            .unit
            .as_deref()
            .and_then(|unit| UnitPath::parse(unit).ok())
            .is_some_and(|unit| actor.sees_unit(&unit)),
    }
}
