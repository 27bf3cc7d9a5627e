//! Units: the tree, and what each sets for IMAP and POP3, for the size of mailboxes, where mail is, and what users may do and
//! use up there.

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
        actor::now,
        extract::{Asked, Given, Named},
        page::{Page, PageQuery},
        problem::Problem,
    },
    Answered, How, Outcome, absent, expected, page, part,
    preview::PreviewWords,
    reach::top,
    versioned,
    words::{Effect, LimitWish, LimitWords, Own, QuotaWords, SettingWish, home, limit, nullable, patch, unit},
};
use crate::model::UnitPath;
use crate::policy::{Ceiling, Unit};
use crate::store::{Action, Directive, Stored, UnitPatch};

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(list, make)).routes(routes!(one, change, remove))
}

/// A unit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UnitItem {
    /// Its path; the root is `/`.
    path: String,
    #[serde(flatten)]
    own: Own,
    /// Its own limit of storage for each mailbox, in bytes, or `none`; absent: it inherits.
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_quota: Option<LimitWords>,
    /// Its own limit of messages for each mailbox, or `none`; absent: it inherits.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_quota: Option<LimitWords>,
    /// Where its own mail is: `maildir`, the name of an upstream, or `NAME/HOST`; absent: it inherits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "dovecot")]
    mail: Option<String>,
    /// Whether it says itself that mail can only be read there; absent: it inherits.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_only: Option<bool>,
    /// Its own limit of open sessions for each user and service, or `none`; absent: it inherits.
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions_per_user: Option<LimitWords>,
    /// Its own limit of the bytes that each user receives and sends in a day (UTC), or `none`; absent: it inherits.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_day: Option<LimitWords>,
    /// What is in force there, and from where.
    effective: Effect,
    /// The limits in force there.
    effective_quota: QuotaWords,
    /// Where mail is there; absent: where the configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_mail: Option<String>,
    /// Whether mail can only be read there.
    effective_read_only: bool,
    /// The limit of open sessions in force there; absent: that of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_sessions_per_user: Option<LimitWords>,
    /// The limit of the bytes of a day in force there; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_bytes_per_day: Option<u64>,
    /// Also told as the `ETag`.
    version: i64,
    /// `file`: the policy file keeps it, and it cannot be changed here. Otherwise `admin`.
    managed_by: String,
}

impl Control {
    fn unit_item(&self, row: Stored<UnitPath, Unit>) -> UnitItem {
        let (effective, quota, mail, read_only, limits) = self.store.read(|directory| {
            let effect = Effect::of(|service| directory.effective_for_unit(&row.id, service, now()));
            let (quota, mail) = (directory.quota_for_unit(&row.id), directory.home_for_unit(&row.id));
            (effect, quota, mail, directory.read_only_for_unit(&row.id), directory.limits_for_unit(&row.id))
        });
        UnitItem {
            path: row.id.to_string(),
            own: (&row.value.settings).into(),
            storage_quota: LimitWords::of(row.value.quota.storage),
            message_quota: LimitWords::of(row.value.quota.messages),
            mail: row.value.mail.as_ref().map(ToString::to_string),
            read_only: row.value.read_only,
            sessions_per_user: LimitWords::of(row.value.limits.sessions_per_user),
            bytes_per_day: LimitWords::of(row.value.limits.bytes_per_day),
            effective,
            effective_quota: quota.into(),
            effective_mail: mail.as_ref().map(ToString::to_string),
            effective_read_only: read_only,
            effective_sessions_per_user: LimitWords::of(limits.sessions_per_user),
            effective_bytes_per_day: limits.bytes_per_day.and_then(Ceiling::most),
            version: row.version,
            managed_by: row.managed_by,
        }
    }

    async fn unit_answer(&self, status: StatusCode, path: &UnitPath) -> Result<Response, Problem> {
        let row = self.store.unit(path).await?.ok_or_else(|| absent("unit", path))?;
        Ok(versioned(status, row.version, self.unit_item(row)))
    }
}

/// Which units.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// This unit and what is below it.
    below: Option<String>,
    /// Items wanted, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// List units
#[utoipa::path(get, path = "/api/v1/units", tag = "directory", params(Which), responses(
    (status = 200, body = Page<UnitItem>, description = "By path"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn list(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<UnitItem>>, Problem> {
    actor.may_read(Area::Directory)?;
    let below = top(&actor, which.below.as_deref().map(unit).transpose()?)?;
    let (limit, after) = part(&PageQuery { limit: which.limit, cursor: which.cursor })?;
    let found = control.store.units(below.as_ref(), after.as_deref(), limit).await?;
    Ok(Json(page(found, |row| control.unit_item(row))))
}

/// What a unit sets. Absent leaves a setting as it is, `null` makes it inherit again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UnitWish {
    /// IMAP.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<SettingWish>)]
    imap: Option<Option<SettingWish>>,
    /// POP3.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<SettingWish>)]
    pop: Option<Option<SettingWish>>,
    /// The limit of storage for each mailbox: bytes, `5G`, or `none`.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<LimitWish>)]
    storage_quota: Option<Option<LimitWish>>,
    /// The limit of messages for each mailbox: a number, or `none`.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<LimitWish>)]
    message_quota: Option<Option<LimitWish>>,
    /// Where mail is: `maildir`, the name of an upstream, or `NAME/HOST` for one of its servers. Only for admins of the whole
    /// organisation.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    mail: Option<Option<String>>,
    /// Whether mail can only be read there.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<bool>)]
    read_only: Option<Option<bool>>,
    /// The limit of open sessions for each user and service: a number, or `none`.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<LimitWish>)]
    sessions_per_user: Option<Option<LimitWish>>,
    /// The limit of the bytes that each user receives and sends in a day (UTC): bytes, `5G`, or `none`.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<LimitWish>)]
    bytes_per_day: Option<Option<LimitWish>>,
}

impl UnitWish {
    pub(super) fn patch(&self) -> Result<UnitPatch, Problem> {
        Ok(UnitPatch {
            imap: patch(self.imap.as_ref())?,
            pop: patch(self.pop.as_ref())?,
            storage_quota: limit(self.storage_quota.as_ref(), Ceiling::parse_storage)?,
            message_quota: limit(self.message_quota.as_ref(), Ceiling::parse_messages)?,
            mail: home(self.mail.as_ref())?,
            read_only: self.read_only,
            sessions_per_user: limit(self.sessions_per_user.as_ref(), Ceiling::parse_sessions)?,
            bytes_per_day: limit(self.bytes_per_day.as_ref(), Ceiling::parse_bytes_per_day)?,
        })
    }
}

/// A new unit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewUnit {
    /// Its path; the unit above must exist.
    #[schema(example = "/Sales/Field")]
    path: String,
    /// What it sets; absent: it inherits.
    #[serde(default)]
    set: UnitWish,
}

/// Make a unit
#[utoipa::path(post, path = "/api/v1/units", tag = "directory", params(How), request_body = NewUnit, responses(
    (status = 201, body = UnitItem, description = "Made"),
    (status = 200, body = PreviewWords, description = "With `preview=true`: what it would come to"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn make(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(how): Asked<How>,
    Given(new): Given<NewUnit>,
) -> Result<Response, Problem> {
    let path = unit(&new.path)?;
    let directive = Directive::Unit(path.clone(), Action::Make(new.set.patch()?));
    match control.one(&actor, directive, None, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => control.unit_answer(StatusCode::CREATED, &path).await,
    }
}

/// Look at one unit
#[utoipa::path(get, path = "/api/v1/units/{path}", tag = "directory",
    params(("path" = String, Path, description = "Its path, percent-encoded: `%2FSales%2FField`")), responses(
    (status = 200, body = UnitItem, description = "The unit"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn one(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(path): Named<String>,
) -> Result<Response, Problem> {
    actor.may_read(Area::Directory)?;
    let path = unit(&path)?;
    if !actor.sees_unit(&path) {
        return Err(absent("unit", path));
    }
    control.unit_answer(StatusCode::OK, &path).await
}

/// A changed unit.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UnitChange {
    /// What it sets.
    #[serde(default)]
    set: UnitWish,
    /// A new path: the unit moves there with all below it. Not together with `set`.
    path: Option<String>,
}

/// Change or move a unit
#[utoipa::path(patch, path = "/api/v1/units/{path}", tag = "directory", request_body = UnitChange, params(How,
    ("path" = String, Path, description = "Its path, percent-encoded"),
    ("If-Match" = Option<String>, Header, description = "The version seen, or `*`")), responses(
    (status = 200, body = Answered<UnitItem>, description = "As it stands now; with `preview=true` what the change would come to"),
    (status = 412, body = Problem, content_type = "application/problem+json", description = "It is not of the version in `If-Match`"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn change(
    State(control): State<Arc<Control>>,
    actor: Actor,
    headers: HeaderMap,
    Named(path): Named<String>,
    Asked(how): Asked<How>,
    Given(change): Given<UnitChange>,
) -> Result<Response, Problem> {
    let (path, expect) = (unit(&path)?, expected(&headers)?);
    let (directive, now_at) = match &change.path {
        None => (Directive::Unit(path.clone(), Action::Change(change.set.patch()?)), path),
        Some(to) => {
            let to = unit(to)?;
            if change.set.patch()? != UnitPatch::default() {
                let detail = "path and set together: move the unit first, then change its settings";
                return Err(Problem::new(super::super::problem::ProblemKind::BadRequest, detail));
            }
            (Directive::MoveUnit { from: path, to: to.clone() }, to)
        }
    };
    match control.one(&actor, directive, expect, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => control.unit_answer(StatusCode::OK, &now_at).await,
    }
}

/// Remove a unit
///
/// It must be empty.
#[utoipa::path(delete, path = "/api/v1/units/{path}", tag = "directory", params(How,
    ("path" = String, Path, description = "Its path, percent-encoded"),
    ("If-Match" = Option<String>, Header, description = "The version seen, or `*`")), responses(
    (status = 204, description = "Removed"),
    (status = 200, body = PreviewWords, description = "With `preview=true`: what it would come to"),
    (status = 412, body = Problem, content_type = "application/problem+json", description = "It is not of the version in `If-Match`"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn remove(
    State(control): State<Arc<Control>>,
    actor: Actor,
    headers: HeaderMap,
    Named(path): Named<String>,
    Asked(how): Asked<How>,
) -> Result<Response, Problem> {
    let directive = Directive::Unit(unit(&path)?, Action::Remove);
    match control.one(&actor, directive, expected(&headers)?, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}
