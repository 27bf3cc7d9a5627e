//! Groups: settings that beat the unit's, by priority. They are the whole organisation's.

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
        access::address,
        extract::{Asked, Given, Named},
        page::{Page, PageQuery},
        problem::Problem,
    },
    Answered, How, Outcome, absent, expected, page, part,
    preview::PreviewWords,
    versioned,
    words::{Own, SettingWish, group, nullable, patch},
};
use crate::model::{GroupId, UserId};
use crate::policy::Group;
use crate::store::{Action, Directive, GroupPatch, Stored};

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(list, make)).routes(routes!(one, change, remove))
}

/// A group. `GET /api/v1/users?group=` lists its members.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupItem {
    /// Its name.
    name: String,
    /// The highest priority wins.
    priority: i64,
    #[serde(flatten)]
    own: Own,
    /// Also told as the `ETag`.
    version: i64,
    /// `file`: the policy file keeps it, and it cannot be changed here. Otherwise `admin`.
    managed_by: String,
}

impl From<Stored<GroupId, Group>> for GroupItem {
    fn from(row: Stored<GroupId, Group>) -> Self {
        Self {
            name: row.id.to_string(),
            priority: row.value.priority,
            own: (&row.value.settings).into(),
            version: row.version,
            managed_by: row.managed_by,
        }
    }
}

impl Control {
    async fn group_answer(&self, status: StatusCode, id: &GroupId) -> Result<Response, Problem> {
        let row = self.store.group(id).await?.ok_or_else(|| absent("group", id))?;
        Ok(versioned(status, row.version, GroupItem::from(row)))
    }
}

/// Which groups.
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

/// List groups
#[utoipa::path(get, path = "/api/v1/groups", tag = "directory", params(Which), responses(
    (status = 200, body = Page<GroupItem>, description = "By name"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn list(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<GroupItem>>, Problem> {
    actor.may_read(Area::Directory)?;
    actor.sees_everything()?;
    let (limit, after) = part(&PageQuery { limit: which.limit, cursor: which.cursor })?;
    Ok(Json(page(control.store.groups(after.as_deref(), limit).await?, Into::into)))
}

/// What is said of a group. Absent leaves a thing as it is, `null` takes a setting away.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupWish {
    /// The highest priority wins.
    priority: Option<i64>,
    /// IMAP.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<SettingWish>)]
    imap: Option<Option<SettingWish>>,
    /// POP3.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<SettingWish>)]
    pop: Option<Option<SettingWish>>,
    /// Exactly these members.
    members: Option<Vec<String>>,
    /// These members too.
    #[serde(default)]
    add: Vec<String>,
    /// These members no more.
    #[serde(default)]
    remove: Vec<String>,
}

impl GroupWish {
    pub(super) fn patch(&self) -> Result<GroupPatch, Problem> {
        let people = |list: &[String]| list.iter().map(|text| address(text)).collect::<Result<Vec<UserId>, _>>();
        Ok(GroupPatch {
            priority: self.priority,
            imap: patch(self.imap.as_ref())?,
            pop: patch(self.pop.as_ref())?,
            members: self.members.as_deref().map(people).transpose()?,
            add: people(&self.add)?,
            remove: people(&self.remove)?,
        })
    }
}

/// A new group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewGroup {
    /// Its name
    name: String,
    /// What is said of it.
    #[serde(default)]
    set: GroupWish,
}

/// Make a group
#[utoipa::path(post, path = "/api/v1/groups", tag = "directory", params(How), request_body = NewGroup, responses(
    (status = 201, body = GroupItem, description = "Made"),
    (status = 200, body = PreviewWords, description = "With `preview=true`: what it would come to"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn make(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(how): Asked<How>,
    Given(new): Given<NewGroup>,
) -> Result<Response, Problem> {
    let id = group(&new.name)?;
    let directive = Directive::Group(id.clone(), Action::Make(new.set.patch()?));
    match control.one(&actor, directive, None, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => control.group_answer(StatusCode::CREATED, &id).await,
    }
}

/// Look at one group
#[utoipa::path(get, path = "/api/v1/groups/{name}", tag = "directory",
    params(("name" = String, Path, description = "Its name")), responses(
    (status = 200, body = GroupItem, description = "The group"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn one(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(name): Named<String>,
) -> Result<Response, Problem> {
    actor.may_read(Area::Directory)?;
    let id = group(&name)?;
    actor.sees_everything()?;
    control.group_answer(StatusCode::OK, &id).await
}

/// Change a group
#[utoipa::path(patch, path = "/api/v1/groups/{name}", tag = "directory", request_body = GroupWish, params(How,
    ("name" = String, Path, description = "Its name"),
    ("If-Match" = Option<String>, Header, description = "The version seen, or `*`")), responses(
    (status = 200, body = Answered<GroupItem>, description = "As it stands now; with `preview=true` what the change would come to"),
    (status = 412, body = Problem, content_type = "application/problem+json", description = "It is not of the version in `If-Match`"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn change(
    State(control): State<Arc<Control>>,
    actor: Actor,
    headers: HeaderMap,
    Named(name): Named<String>,
    Asked(how): Asked<How>,
    Given(wish): Given<GroupWish>,
) -> Result<Response, Problem> {
    let (id, expect) = (group(&name)?, expected(&headers)?);
    let directive = Directive::Group(id.clone(), Action::Change(wish.patch()?));
    match control.one(&actor, directive, expect, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => control.group_answer(StatusCode::OK, &id).await,
    }
}

/// Remove a group
#[utoipa::path(delete, path = "/api/v1/groups/{name}", tag = "directory", params(How,
    ("name" = String, Path, description = "Its name"),
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
    let directive = Directive::Group(group(&name)?, Action::Remove);
    match control.one(&actor, directive, expected(&headers)?, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}
