//! The audit log, read by filter.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Actor, Area, Control,
    extract::Asked,
    page::{Page, PageQuery, cursor},
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
/// How often a page reads that many rows for whoever sees a part only: what is theirs may be rare.
const READS: usize = 5;

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
    /// `next` of the page before.
    cursor: Option<String>,
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

/// Read the audit log
///
/// Newest first. An admin of a subtree sees the rows that name it or a unit below it, and of users who are in it those that
/// name no unit outside; a page of theirs looks at 5,000 rows at most, and may have few items or none while there is a `next`.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(Which), responses(
    (status = 200, body = Page<Row>, description = "The latest rows that match, newest first"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn recent(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<Row>>, Problem> {
    actor.may_read(Area::Audit)?;
    let bad = |detail: String| Problem::new(ProblemKind::BadRequest, detail);
    let reference = which.reference.as_deref().map(|text| {
        Reference::parse(text).ok_or_else(|| bad(format!("reference {text:?}: six letters and digits")))
    });
    let before = PageQuery { limit: None, cursor: which.cursor }.after()?.map(|number| {
        number.parse().map_err(|_| bad("the cursor is none of ours: take `next` of the page before".to_owned()))
    });
    let limit = which.limit.unwrap_or(USUAL).clamp(1, MOST);
    let filter = AuditFilter {
        user: which.user,
        app: which.app,
        reason: which.cause,
        reference: reference.transpose()?,
        event: which.event,
        since: which.since.map(Time::unix),
        // One more tells whether there is a next page. Whoever sees a part only is shown what of the rows is theirs.
        limit: if actor.sees_all() { limit + 1 } else { MOST },
    };
    Ok(Json(control.audit_page(&actor, &filter, before.transpose()?, limit as usize).await?))
}

impl Control {
    /// As many rows as are wanted, of those that the actor sees and that were written before number `before`.
    async fn audit_page(
        &self,
        actor: &Actor,
        filter: &AuditFilter,
        mut before: Option<i64>,
        wanted: usize,
    ) -> Result<Page<Row>, Problem> {
        let mut items = Vec::new();
        for _ in 0..READS {
            let found = self.store.audit_before(filter, before).await?;
            let is_last = found.len() < filter.limit as usize;
            let is_whole = self.store.read(|directory| {
                for row in found {
                    if items.len() == wanted {
                        return false;
                    }
                    before = Some(row.number);
                    if sees(actor, &row.event, directory) {
                        items.push(Row::from(row.event));
                    }
                }
                true
            });
            if is_whole && is_last {
                return Ok(Page { items, next: None });
            }
            if items.len() == wanted {
                break;
            }
        }
        Ok(Page { items, next: before.map(|number| cursor(&number.to_string())) })
    }
}

/// By the unit that the row names, and by where its user is now: both must be within reach, as far as they are known. So a user
/// who came from elsewhere, or whose address was somebody's elsewhere, does not bring that history along.
pub(super) fn sees(actor: &Actor, event: &AuditEvent, directory: &Directory) -> bool {
    if actor.sees_all() {
        return true;
    }
    let named = event.unit.as_deref().map(|unit| UnitPath::parse(unit).is_ok_and(|unit| actor.sees_unit(&unit)));
    let user = event.user.as_deref().and_then(|user| UserId::parse(user).ok());
    let now = user.and_then(|user| directory.unit_of(&user)).map(|unit| actor.sees_unit(&unit));
    match (named, now) {
        (None, None) => false,
        (named, now) => named.unwrap_or(true) && now.unwrap_or(true),
    }
}
