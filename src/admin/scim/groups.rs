//! `/Groups`: who is in which group. What a group's members may do is set in Portcullis; a new group sets nothing.
//!
//! The group's name is `displayName` with a `-` for each white space, because names of groups have none; `displayName` itself
//! is kept as it was sent. Groups are the whole organisation's, so an admin of a subtree neither sees nor touches them.

use std::sync::Arc;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Call, MOST_SCANNED, TRIES,
    ask::{Ask, Shape, Wanted, Window, list},
    budget::Budget,
    document,
    error::{ScimError, ScimErrorWords, ScimType, answer},
    filter::Filter,
    matches::{fits, member},
    members::Members,
    meta, patch,
    path::AttributePath,
    resource,
    schema::{GROUP, GROUP_ATTRIBUTES},
    users::changed,
};
use crate::admin::{
    Area, Control,
    extract::{Asked, Given, Named},
};
use crate::model::{GroupId, UserId};
use crate::store::{
    Action, Directive, EditError, Provision, ScimGroup, ScimId, ScimKeys, ScimPage, ScimRecord, Wish,
};

/// Most members told in one answer.
const MOST_MEMBERS: u32 = 100_000;

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(all, make)).routes(routes!(one, put, change, remove))
}

type Answer = Result<Response, ScimError>;

/// List groups
#[utoipa::path(get, path = "/scim/v2/Groups", tag = "scim", params(Ask), responses(
    (status = 200, body = Value, content_type = "application/scim+json", description = "By name"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn all(State(control): State<Arc<Control>>, call: Call, Asked(ask): Asked<Ask>) -> Answer {
    control.scim_groups(&call, &ask).await
}

/// Make a group
#[utoipa::path(post, path = "/scim/v2/Groups", tag = "scim", params(Ask),
    request_body(content = Value, content_type = "application/scim+json",
        example = json!({ "displayName": "Field Staff", "members": [] })), responses(
    (status = 201, body = Value, content_type = "application/scim+json", description = "Made"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn make(
    State(control): State<Arc<Control>>,
    call: Call,
    Asked(ask): Asked<Ask>,
    Given(body): Given<Value>,
) -> Answer {
    call.actor.may_write(Area::Scim)?;
    // Before any id is looked up: whether one is somebody's is no subtree admin's to know.
    call.actor.sees_everything()?;
    let shape = ask.shape()?;
    let (said, members) = read(body)?;
    let group = name(&said)?;
    let patch = control.scim_members(&members).await?;
    let by = call.actor.in_store(Some("SCIM"));
    let (id, _) = control.store.provision(&Provision::MakeGroup(group, patch), &record(&said), by).await?;
    let made = control.scim_group(&call, id.as_str()).await?;
    let body = control.group_words(&made, &call, &shape).await?;
    Ok(resource(StatusCode::CREATED, made.version, shape.cut(body)))
}

/// Look at one group
#[utoipa::path(get, path = "/scim/v2/Groups/{id}", tag = "scim",
    params(Ask, ("id" = String, Path, description = "The id")), responses(
    (status = 200, body = Value, content_type = "application/scim+json", description = "The group"),
    (status = 304, description = "It has the version that `If-None-Match` names"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn one(
    State(control): State<Arc<Control>>,
    call: Call,
    Named(id): Named<String>,
    Asked(ask): Asked<Ask>,
) -> Answer {
    call.actor.may_read(Area::Scim)?;
    let shape = ask.shape()?;
    let group = control.scim_group(&call, &id).await?;
    if call.has(group.version) {
        let mut unchanged = StatusCode::NOT_MODIFIED.into_response();
        super::head(unchanged.headers_mut(), group.version, None);
        return Ok(unchanged);
    }
    let body = control.group_words(&group, &call, &shape).await?;
    Ok(resource(StatusCode::OK, group.version, shape.cut(body)))
}

/// Replace what is said of a group
///
/// Without `members` the members stay as they are.
#[utoipa::path(put, path = "/scim/v2/Groups/{id}", tag = "scim",
    params(Ask, ("id" = String, Path, description = "The id"),
    ("If-Match" = Option<String>, Header, description = "The version seen")),
    request_body(content = Value, content_type = "application/scim+json",
        example = json!({ "displayName": "Field Staff" })), responses(
    (status = 200, body = Value, content_type = "application/scim+json", description = "As it stands now"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn put(
    State(control): State<Arc<Control>>,
    call: Call,
    Named(id): Named<String>,
    Asked(ask): Asked<Ask>,
    Given(body): Given<Value>,
) -> Answer {
    let shape = ask.shape()?;
    let (said, members) = read(body)?;
    let group = control.rewrite_group(&call, &id, &members, |_| Ok(said.clone())).await?;
    let body = control.group_words(&group, &call, &shape).await?;
    Ok(resource(StatusCode::OK, group.version, shape.cut(body)))
}

/// Change a group
///
/// The answer is empty where no attributes are asked for: a group may have very many members.
#[utoipa::path(patch, path = "/scim/v2/Groups/{id}", tag = "scim",
    params(Ask, ("id" = String, Path, description = "The id"),
    ("If-Match" = Option<String>, Header, description = "The version seen")),
    request_body(content = Value, content_type = "application/scim+json",
        example = json!({ "Operations": [{ "op": "add", "path": "members", "value": [{ "value": "ID" }] }] })), responses(
    (status = 204, description = "Changed"),
    (status = 200, body = Value, content_type = "application/scim+json", description = "With `attributes`: as it stands now"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn change(
    State(control): State<Arc<Control>>,
    call: Call,
    Named(id): Named<String>,
    Asked(ask): Asked<Ask>,
    Given(body): Given<Value>,
) -> Answer {
    let shape = ask.shape()?;
    let mut members = Members::default();
    let mut others = Vec::new();
    for operation in patch::read(&body)? {
        if operation.target.path.first().eq_ignore_ascii_case("members") {
            members.change(operation)?;
        } else {
            others.push(operation);
        }
    }
    let group = control
        .rewrite_group(&call, &id, &members, |mut said| {
            let mut budget = Budget::default();
            for operation in others.clone() {
                patch::apply(&mut said, operation, GROUP_ATTRIBUTES, &mut budget)?;
            }
            document::read(said.into(), GROUP, GROUP_ATTRIBUTES)
        })
        .await?;
    if shape.is_chosen() {
        let body = control.group_words(&group, &call, &shape).await?;
        return Ok(resource(StatusCode::OK, group.version, shape.cut(body)));
    }
    let mut done = StatusCode::NO_CONTENT.into_response();
    super::head(done.headers_mut(), group.version, None);
    Ok(done)
}

/// Remove a group
#[utoipa::path(delete, path = "/scim/v2/Groups/{id}", tag = "scim",
    params(("id" = String, Path, description = "The id"),
    ("If-Match" = Option<String>, Header, description = "The version seen")), responses(
    (status = 204, description = "Removed"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn remove(State(control): State<Arc<Control>>, call: Call, Named(id): Named<String>) -> Answer {
    call.actor.may_write(Area::Scim)?;
    for _ in 0..TRIES {
        let group = control.scim_group(&call, &id).await?;
        call.expects(group.version)?;
        let directive = Directive::Group(group.name, Action::Remove);
        let wish = Wish { directive, expect: Some(group.version) };
        let by = call.actor.in_store(Some("SCIM"));
        match control.store.change(&[wish], by).await {
            Err(EditError::Stale { .. } | EditError::Absent { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(StatusCode::NO_CONTENT.into_response()),
        }
    }
    Err(Call::overtaken().into())
}

impl Control {
    async fn scim_group(&self, call: &Call, id: &str) -> Result<ScimGroup, ScimError> {
        call.actor.sees_everything()?;
        let found = self.store.scim_groups_of(&ScimKeys::Ids(vec![id])).await?;
        found.into_iter().next().ok_or_else(|| ScimError::absent("group", id))
    }

    /// A page of the groups that are asked for.
    pub(super) async fn scim_groups(&self, call: &Call, ask: &Ask) -> Answer {
        call.actor.may_read(Area::Scim)?;
        call.actor.sees_everything()?;
        let wanted = ask.wanted("displayName")?;
        let (total, groups) = self.groups_told(call, &wanted).await?;
        Ok(answer(StatusCode::OK, list(total, &wanted, groups)))
    }

    /// How many groups there are of those asked for, and the wanted ones as resources.
    pub(super) async fn groups_told(&self, call: &Call, wanted: &Wanted) -> Result<(usize, Vec<Value>), ScimError> {
        let (total, groups) = self.some_groups(call, wanted).await?;
        let mut left = MOST_MEMBERS;
        let mut told = Vec::with_capacity(groups.len());
        for group in &groups {
            let members = self.members_told(group, call, &wanted.shape, left).await?;
            left = left.saturating_sub(u32::try_from(members.as_ref().map_or(0, Vec::len)).unwrap_or(u32::MAX));
            told.push(words(group, &call.at, members));
        }
        Ok((total, told))
    }

    async fn some_groups(&self, call: &Call, wanted: &Wanted) -> Result<(usize, Vec<ScimGroup>), ScimError> {
        let mut window = Window::new(wanted);
        let named = |filter: &Filter, steps: &[&[&str]]| {
            let ids = filter.wants(&|path: &AttributePath| steps.iter().any(|steps| path.is(steps)));
            ids.map(|ids| ids.into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        let Some(filter) = &wanted.filter else {
            let total = self.store.scim_groups_count().await?;
            let (skip, limit) = (wanted.skip as u64, u32::try_from(wanted.count).unwrap_or(u32::MAX));
            let page = ScimPage { after: None, skip, limit, descending: wanted.descending };
            let groups =
                if limit == 0 || skip >= total { Vec::new() } else { self.store.scim_groups(page).await? };
            return Ok((usize::try_from(total).unwrap_or(usize::MAX), groups));
        };
        let with_members = filter.names("members");
        let found = if let Some(ids) = named(filter, &[&["id"]]) {
            Some(self.store.scim_groups_of(&ScimKeys::Ids(ids.iter().map(String::as_str).collect())).await?)
        } else if let Some(ids) = named(filter, &[&["members"], &["members", "value"]]) {
            Some(self.store.scim_groups_with(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await?)
        } else if let Some(ids) = named(filter, &[&["externalId"]]) {
            Some(self.store.scim_groups_of(&ScimKeys::ExternalIds(ids.iter().map(String::as_str).collect())).await?)
        } else {
            None
        };
        if let Some(mut found) = found {
            found.sort_by(|one, other| one.name.cmp(&other.name));
            found.dedup_by(|one, other| one.id == other.id);
            if wanted.descending {
                found.reverse();
            }
            let compared = filter.compared("members");
            for group in found {
                let members = match &compared {
                    _ if !with_members => None,
                    // A group may have very many: only those who are asked for count.
                    Some(ids) => {
                        let found = self.store.scim_members_among(&group.name, ids).await?;
                        Some(found.into_iter().map(|member| member_words(&member, &call.at)).collect())
                    }
                    None => self.members_told(&group, call, &Shape::default(), MOST_MEMBERS).await?,
                };
                if fits(filter, &words(&group, &call.at, members)) {
                    window.take(group);
                }
            }
            return Ok((window.total, window.rows));
        }
        if with_members {
            let detail = "members can be asked for by id only: members eq \"ID\"";
            return Err(ScimError::new(ScimType::InvalidFilter, detail));
        }
        let count = self.store.scim_groups_count().await?;
        if count > MOST_SCANNED {
            let detail = format!("each of {count} groups would have to be looked at: filter by id or externalId");
            return Err(ScimError::new(ScimType::TooMany, detail));
        }
        let mut after: Option<String> = None;
        loop {
            let page = ScimPage { after: after.as_deref(), skip: 0, limit: 1_000, descending: wanted.descending };
            let groups = self.store.scim_groups(page).await?;
            let Some(last) = groups.last() else { return Ok((window.total, window.rows)) };
            after = Some(last.name.to_string());
            let fit = groups.into_iter().filter(|group| fits(filter, &words(group, &call.at, None)));
            fit.for_each(|group| window.take(group));
        }
    }

    /// The members of a group, if they are to be told.
    async fn members_told(
        &self,
        group: &ScimGroup,
        call: &Call,
        shape: &Shape,
        most: u32,
    ) -> Result<Option<Vec<Value>>, ScimError> {
        if !shape.tells("members") {
            return Ok(None);
        }
        let found = self.store.scim_members(&group.name, most.saturating_add(1)).await?;
        if found.len() > most as usize {
            let detail = format!("more than {MOST_MEMBERS} members to tell: ask with excludedAttributes=members");
            return Err(ScimError::new(ScimType::TooMany, detail));
        }
        Ok(Some(found.iter().map(|member| member_words(member, &call.at)).collect()))
    }

    async fn group_words(&self, group: &ScimGroup, call: &Call, shape: &Shape) -> Result<Value, ScimError> {
        let members = self.members_told(group, call, shape, MOST_MEMBERS).await?;
        Ok(words(group, &call.at, members))
    }

    /// Reads a group, has it rewritten, and writes it; again if somebody else was first.
    async fn rewrite_group(
        &self,
        call: &Call,
        id: &str,
        members: &Members,
        rewrite: impl Fn(Map<String, Value>) -> Result<Map<String, Value>, ScimError>,
    ) -> Result<ScimGroup, ScimError> {
        call.actor.may_write(Area::Scim)?;
        for _ in 0..TRIES {
            let group = self.scim_group(call, id).await?;
            call.expects(group.version)?;
            let before = said(&group);
            let after = rewrite(before.clone())?;
            let to = name(&after)?;
            if after == before && members.is_silent() {
                return Ok(group);
            }
            let patch = self.scim_members(members).await?;
            let reason = changed(&before, &after, None);
            let record = record(&after);
            let wish = Provision::ChangeGroup { id: group.id, from: group.name, to, patch, expect: group.version };
            let by = call.actor.in_store(Some(&reason));
            match self.store.provision(&wish, &record, by).await {
                Err(EditError::Stale { .. } | EditError::Absent { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return self.scim_group(call, id).await,
            }
        }
        Err(Call::overtaken().into())
    }
}

/// A checked body, and what it says of members: nothing, or exactly these.
fn read(body: Value) -> Result<(Map<String, Value>, Members), ScimError> {
    let list = body.as_object().and_then(|map| member(map, "members")).filter(|list| !list.is_null()).cloned();
    let mut said = document::read(body, GROUP, GROUP_ATTRIBUTES)?;
    said.remove("members");
    Ok((said, list.map(Members::exactly).transpose()?.unwrap_or_default()))
}

/// The name of the group.
fn name(said: &Map<String, Value>) -> Result<GroupId, ScimError> {
    let display = said.get("displayName").and_then(Value::as_str).unwrap_or_default();
    let words: Vec<&str> = display.split_whitespace().collect();
    if words.is_empty() {
        return Err(ScimError::new(ScimType::InvalidValue, "displayName is missing: send the group's name"));
    }
    let name = GroupId::parse(&words.join("-"));
    name.map_err(|bad| ScimError::new(ScimType::InvalidValue, format!("displayName: {bad}")))
}

fn record(said: &Map<String, Value>) -> ScimRecord {
    let external_id = said.get("externalId").and_then(Value::as_str).map(str::to_owned);
    ScimRecord { external_id, document: Value::from(said.clone()).to_string() }
}

/// What the provider said of a group; one that it never spoke of is called by its name.
fn said(group: &ScimGroup) -> Map<String, Value> {
    let mut said: Map<String, Value> = serde_json::from_str(&group.document).unwrap_or_default();
    said.entry("displayName").or_insert_with(|| group.name.as_str().into());
    said
}

/// A member as a part of one.
fn member_words((id, address): &(ScimId, UserId), at: &str) -> Value {
    let id = id.as_str();
    json!({ "value": id, "display": address.as_str(), "type": "User", "$ref": format!("{at}/Users/{id}") })
}

/// A group as a resource.
fn words(group: &ScimGroup, at: &str, members: Option<Vec<Value>>) -> Value {
    let mut words = said(group);
    let id = group.id.as_str();
    words.insert("schemas".to_owned(), json!([GROUP]));
    words.insert("id".to_owned(), id.into());
    if let Some(members) = members {
        words.insert("members".to_owned(), members.into());
    }
    let times = (group.made_at, group.changed_at);
    words.insert("meta".to_owned(), meta(at, ("Group", "Groups"), id, times, group.version));
    words.into()
}
