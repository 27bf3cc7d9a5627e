//! `/Users`: who may have mail, and whether they are active.
//!
//! `userName` is the address. `active: false` suspends: sessions end, nobody comes in. `active: true` lets a user in again
//! only where the provider itself said otherwise before: by repeating itself it does not undo an admin's suspension. An
//! address that is changed is a new user row under the same id (see `store`, provision).

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
    ask::{Ask, Wanted, Window, list},
    budget::Budget,
    document,
    error::{ScimError, ScimErrorWords, ScimType, answer},
    matches::fits,
    meta, patch,
    path::AttributePath,
    resource,
    schema::{ENTERPRISE, USER, USER_ATTRIBUTES},
};
use crate::admin::{
    Area, Control,
    extract::{Asked, Given, Named},
};
use crate::model::{Place, UnitPath, UserId};
use crate::store::{
    Action, Directive, EditError, Provision, ScimKeys, ScimPage, ScimRecord, ScimUser, UserPatch, Wish,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(all, make)).routes(routes!(one, put, change, remove))
}

type Answer = Result<Response, ScimError>;

/// List users
#[utoipa::path(get, path = "/scim/v2/Users", tag = "scim", params(Ask), responses(
    (status = 200, body = Value, content_type = "application/scim+json", description = "By address"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn all(State(control): State<Arc<Control>>, call: Call, Asked(ask): Asked<Ask>) -> Answer {
    control.scim_users(&call, &ask).await
}

/// Make a user
#[utoipa::path(post, path = "/scim/v2/Users", tag = "scim", params(Ask),
    request_body(content = Value, content_type = "application/scim+json",
        example = json!({ "userName": "ann@example.com", "active": true, "externalId": "00u1" })), responses(
    (status = 201, body = Value, content_type = "application/scim+json", description = "Made"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn make(
    State(control): State<Arc<Control>>,
    call: Call,
    Asked(ask): Asked<Ask>,
    Given(body): Given<Value>,
) -> Answer {
    call.actor.may_write(Area::Scim)?;
    let shape = ask.shape()?;
    let said = document::read(body, USER, USER_ATTRIBUTES)?;
    let user = user_name(&said)?;
    let unit = match control.scim_unit(&call, &said)? {
        Some(unit) => unit,
        None if call.top().parent().is_some() => call.top(),
        None => control.settings.scim.unit.clone(),
    };
    let suspended = (said.get("active") == Some(&Value::Bool(false))).then_some(true);
    let patch = UserPatch { unit: Some(unit), suspended, ..UserPatch::default() };
    let by = call.actor.in_store(Some("SCIM"));
    let (id, _) = control.store.provision(&Provision::MakeUser(user, patch), &record(said), by).await?;
    let made = control.scim_user(&call, id.as_str()).await?;
    Ok(resource(StatusCode::CREATED, made.version, shape.cut(words(&made, &call.at))))
}

/// Look at one user
#[utoipa::path(get, path = "/scim/v2/Users/{id}", tag = "scim",
    params(Ask, ("id" = String, Path, description = "The id")), responses(
    (status = 200, body = Value, content_type = "application/scim+json", description = "The user"),
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
    let user = control.scim_user(&call, &id).await?;
    if call.has(user.version) {
        let mut unchanged = StatusCode::NOT_MODIFIED.into_response();
        super::head(unchanged.headers_mut(), user.version, None);
        return Ok(unchanged);
    }
    Ok(resource(StatusCode::OK, user.version, shape.cut(words(&user, &call.at))))
}

/// Replace what is said of a user
///
/// What is not said any more is forgotten, but for `active`, which then stays as it is.
#[utoipa::path(put, path = "/scim/v2/Users/{id}", tag = "scim",
    params(Ask, ("id" = String, Path, description = "The id"),
    ("If-Match" = Option<String>, Header, description = "The version seen")),
    request_body(content = Value, content_type = "application/scim+json",
        example = json!({ "userName": "ann@example.com", "active": true })), responses(
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
    let said = document::read(body, USER, USER_ATTRIBUTES)?;
    let user = control
        .rewrite_user(&call, &id, said.contains_key("active"), |before| {
            let mut said = said.clone();
            if let (false, Some(active)) = (said.contains_key("active"), before.get("active")) {
                said.insert("active".to_owned(), active.clone());
            }
            Ok(said)
        })
        .await?;
    Ok(resource(StatusCode::OK, user.version, shape.cut(words(&user, &call.at))))
}

/// Change a user
#[utoipa::path(patch, path = "/scim/v2/Users/{id}", tag = "scim",
    params(Ask, ("id" = String, Path, description = "The id"),
    ("If-Match" = Option<String>, Header, description = "The version seen")),
    request_body(content = Value, content_type = "application/scim+json",
        example = json!({ "Operations": [{ "op": "replace", "path": "active", "value": false }] })), responses(
    (status = 200, body = Value, content_type = "application/scim+json", description = "As it stands now"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn change(
    State(control): State<Arc<Control>>,
    call: Call,
    Named(id): Named<String>,
    Asked(ask): Asked<Ask>,
    Given(body): Given<Value>,
) -> Answer {
    let shape = ask.shape()?;
    let operations = patch::read(&body)?;
    let names_active = operations.iter().any(|operation| operation.target.path.is(&["active"]));
    let user = control
        .rewrite_user(&call, &id, names_active, |mut said| {
            let mut budget = Budget::default();
            for operation in operations.clone() {
                patch::apply(&mut said, operation, USER_ATTRIBUTES, &mut budget)?;
            }
            document::read(said.into(), USER, USER_ATTRIBUTES)
        })
        .await?;
    Ok(resource(StatusCode::OK, user.version, shape.cut(words(&user, &call.at))))
}

/// Remove a user
#[utoipa::path(delete, path = "/scim/v2/Users/{id}", tag = "scim",
    params(("id" = String, Path, description = "The id"),
    ("If-Match" = Option<String>, Header, description = "The version seen")), responses(
    (status = 204, description = "Removed"),
    (status = "default", body = ScimErrorWords, content_type = "application/scim+json", description = "An error")))]
async fn remove(State(control): State<Arc<Control>>, call: Call, Named(id): Named<String>) -> Answer {
    call.actor.may_write(Area::Scim)?;
    for _ in 0..TRIES {
        let user = control.scim_user(&call, &id).await?;
        call.expects(user.version)?;
        let directive = Directive::User(user.address, Action::Remove);
        let wish = Wish { directive, expect: Some(user.version) };
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
    /// The user with this id, if it is within reach.
    async fn scim_user(&self, call: &Call, id: &str) -> Result<ScimUser, ScimError> {
        let found = self.store.scim_users_of(&call.top(), &ScimKeys::Ids(vec![id])).await?;
        found.into_iter().next().ok_or_else(|| ScimError::absent("user", id))
    }

    /// A page of the users that are asked for.
    pub(super) async fn scim_users(&self, call: &Call, ask: &Ask) -> Answer {
        call.actor.may_read(Area::Scim)?;
        let wanted = ask.wanted("userName")?;
        let (total, users) = self.users_told(call, &wanted).await?;
        Ok(answer(StatusCode::OK, list(total, &wanted, users)))
    }

    /// How many users there are of those asked for, and the wanted ones as resources.
    pub(super) async fn users_told(&self, call: &Call, wanted: &Wanted) -> Result<(usize, Vec<Value>), ScimError> {
        let (total, users) = self.some_users(call, wanted).await?;
        Ok((total, users.iter().map(|user| words(user, &call.at)).collect()))
    }

    async fn some_users(&self, call: &Call, wanted: &Wanted) -> Result<(usize, Vec<ScimUser>), ScimError> {
        let top = call.top();
        let Some(filter) = &wanted.filter else {
            let total = self.store.scim_users_count(&top).await?;
            let (skip, limit) = (wanted.skip as u64, u32::try_from(wanted.count).unwrap_or(u32::MAX));
            let page = ScimPage { after: None, skip, limit, descending: wanted.descending };
            let users =
                if limit == 0 || skip >= total { Vec::new() } else { self.store.scim_users(&top, page).await? };
            return Ok((usize::try_from(total).unwrap_or(usize::MAX), users));
        };
        let mut window = Window::new(wanted);
        let named = |name: &'static str| filter.wants(&|path: &AttributePath| path.is(&[name]));
        let spelled: Vec<String>;
        let keys = if let Some(ids) = named("id") {
            Some(ScimKeys::Ids(ids))
        } else if let Some(names) = named("userName") {
            let name = |name: &&str| UserId::parse(name).map_or_else(|_| (*name).to_owned(), |id| id.to_string());
            spelled = names.iter().map(name).collect();
            Some(ScimKeys::Names(spelled.iter().map(String::as_str).collect()))
        } else {
            named("externalId").map(ScimKeys::ExternalIds)
        };
        if let Some(keys) = keys {
            let mut found = self.store.scim_users_of(&top, &keys).await?;
            found.sort_by(|one, other| one.address.cmp(&other.address));
            found.dedup_by(|one, other| one.id == other.id);
            if wanted.descending {
                found.reverse();
            }
            found
                .into_iter()
                .filter(|user| fits(filter, &words(user, &call.at)))
                .for_each(|user| window.take(user));
            return Ok((window.total, window.rows));
        }
        let all = self.store.scim_users_count(&top).await?;
        if all > MOST_SCANNED {
            let detail =
                format!("each of {all} users would have to be looked at: filter by userName, externalId or id");
            return Err(ScimError::new(ScimType::TooMany, detail));
        }
        let mut after: Option<String> = None;
        loop {
            let page = ScimPage { after: after.as_deref(), skip: 0, limit: 1_000, descending: wanted.descending };
            let users = self.store.scim_users(&top, page).await?;
            let Some(last) = users.last() else { return Ok((window.total, window.rows)) };
            after = Some(last.address.to_string());
            users
                .into_iter()
                .filter(|user| fits(filter, &words(user, &call.at)))
                .for_each(|user| window.take(user));
        }
    }

    /// Reads a user, has it rewritten, and writes it; again if somebody else was first. `names_active`: whether the request
    /// itself says something of `active`. What the provider said of it before is no reason to undo what an admin did.
    async fn rewrite_user(
        &self,
        call: &Call,
        id: &str,
        names_active: bool,
        rewrite: impl Fn(Map<String, Value>) -> Result<Map<String, Value>, ScimError>,
    ) -> Result<ScimUser, ScimError> {
        call.actor.may_write(Area::Scim)?;
        for _ in 0..TRIES {
            let user = self.scim_user(call, id).await?;
            call.expects(user.version)?;
            let before = said(&user);
            let after = rewrite(before.clone())?;
            let to = user_name(&after)?;
            let suspended = match after.get("active").and_then(Value::as_bool) {
                Some(false) if !user.suspended && names_active => Some(true),
                Some(true) if user.suspended && before.get("active") == Some(&Value::Bool(false)) => Some(false),
                _ => None,
            };
            let unit = self.scim_unit(call, &after)?.filter(|unit| *unit != user.unit);
            if after == before && suspended.is_none() && unit.is_none() {
                return Ok(user);
            }
            let patch = UserPatch { unit, suspended, ..UserPatch::default() };
            let reason = changed(&before, &after, suspended.map(|_| "active"));
            let (from, expect) = (user.address, user.version);
            let wish = Provision::ChangeUser { id: user.id, from, to, patch, expect };
            let by = call.actor.in_store(Some(&reason));
            match self.store.provision(&wish, &record(after), by).await {
                Err(EditError::Stale { .. } | EditError::Absent { place: Place::User(_) }) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return self.scim_user(call, id).await,
            }
        }
        Err(Call::overtaken().into())
    }

    /// The unit that a provider puts a user in, if the operator lets it say so.
    fn scim_unit(&self, call: &Call, said: &Map<String, Value>) -> Result<Option<UnitPath>, ScimError> {
        let Some(attribute) = self.settings.scim.unit_attribute else { return Ok(None) };
        let name = attribute.name();
        let text = said.get(ENTERPRISE).and_then(|extension| extension.get(name)).and_then(Value::as_str);
        let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
        let top = if call.top().parent().is_some() { call.top() } else { self.settings.scim.unit.clone() };
        let whole = match (text.starts_with('/'), top.parent()) {
            (true, _) => text.to_owned(),
            (false, None) => format!("/{text}"),
            (false, Some(_)) => format!("{top}/{text}"),
        };
        let unit = UnitPath::parse(&whole);
        unit.map(Some).map_err(|bad| ScimError::new(ScimType::InvalidValue, format!("{name}: {bad}")))
    }
}

/// The address in a resource.
fn user_name(said: &Map<String, Value>) -> Result<UserId, ScimError> {
    let Some(name) = said.get("userName").and_then(Value::as_str) else {
        let detail = "userName is missing: send the user's address";
        return Err(ScimError::new(ScimType::InvalidValue, detail));
    };
    UserId::parse(name).map_err(|bad| ScimError::new(ScimType::InvalidValue, format!("userName: {bad}")))
}

/// What is kept beside the row: all but the address, which is the row's.
fn record(mut said: Map<String, Value>) -> ScimRecord {
    said.remove("userName");
    let external_id = said.get("externalId").and_then(Value::as_str).map(str::to_owned);
    ScimRecord { external_id, document: Value::from(said).to_string() }
}

/// What the provider said of a user, with the address as it is now.
fn said(user: &ScimUser) -> Map<String, Value> {
    let mut said: Map<String, Value> = serde_json::from_str(&user.document).unwrap_or_default();
    said.insert("userName".to_owned(), user.address.as_str().into());
    said
}

/// A user as a resource.
fn words(user: &ScimUser, at: &str) -> Value {
    let mut words = said(user);
    let extensions = words.keys().filter(|key| key.get(..4).is_some_and(|urn| urn.eq_ignore_ascii_case("urn:")));
    let schemas: Vec<String> = std::iter::once(USER.to_owned()).chain(extensions.cloned()).collect();
    let id = user.id.as_str();
    words.insert("schemas".to_owned(), json!(schemas));
    words.insert("id".to_owned(), id.into());
    words.insert("active".to_owned(), (!user.suspended).into());
    let times = (user.made_at, user.changed_at);
    words.insert("meta".to_owned(), meta(at, ("User", "Users"), id, times, user.version));
    words.into()
}

/// The names of the attributes that differ, for the audit log; never their values. `besides`: one that took effect, whether
/// or not it differs from what was said before.
pub(super) fn changed(before: &Map<String, Value>, after: &Map<String, Value>, besides: Option<&str>) -> String {
    let mut names: Vec<&str> = before.keys().chain(after.keys()).map(String::as_str).collect();
    names.retain(|name| before.get(*name) != after.get(*name));
    names.extend(besides);
    names.sort_unstable();
    names.dedup();
    let text = format!("SCIM: {}", names.join(", "));
    if text.len() <= 200 { text } else { format!("SCIM: {} attributes", names.len()) }
}
