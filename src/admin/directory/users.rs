//! Users: the unit each is in, suspension, exceptions of their own, where their mail is.

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
        actor::now,
        extract::{Asked, Given, Named},
        page::{Page, PageQuery},
        problem::Problem,
    },
    Answered, How, Outcome, absent, expected, page, part,
    preview::PreviewWords,
    reach::top,
    versioned,
    words::{Effect, Own, SettingWish, group, home, nullable, patch, unit},
};
use crate::model::UserId;
use crate::policy::User;
use crate::store::{Action, Directive, Stored, UserFilter, UserPatch};

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(list, make)).routes(routes!(one, change, remove))
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserItem {
    /// The address.
    address: String,
    /// The unit.
    unit: String,
    /// Whether nothing is allowed any more.
    suspended: bool,
    #[serde(flatten)]
    own: Own,
    /// What is in force, and from where.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective: Option<Effect>,
    /// Services that the user turned off for themselves.
    own_off: Vec<String>,
    /// The groups the user is in.
    groups: Vec<String>,
    /// Where the user's mail is, if that is said of them: `maildir`, the name of an upstream, or `NAME/HOST`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "dovecot/mail2.internal")]
    mail: Option<String>,
    /// Where the user's mail is; absent: where the configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_mail: Option<String>,
    /// Also told as the `ETag`.
    version: i64,
    /// `file`: the policy file keeps it, and it cannot be changed here. Otherwise `admin`.
    managed_by: String,
}

impl Control {
    fn user_item(&self, row: Stored<UserId, User>) -> UserItem {
        let (effective, home) = self.store.read(|directory| {
            let effective = directory.knows(&row.id).then(|| {
                Effect::of(|service| {
                    let own = directory.effective_for_user(&row.id, service, now());
                    own.unwrap_or_else(|| directory.effective_for_unit(&row.value.unit, service, now()))
                })
            });
            (effective, directory.home_of(&row.id))
        });
        let off = row.value.own_off;
        let own_off = [("imap", off.imap), ("pop", off.pop)];
        UserItem {
            address: row.id.to_string(),
            unit: row.value.unit.to_string(),
            suspended: row.value.suspended,
            own: (&row.value.settings).into(),
            effective,
            own_off: own_off.iter().filter(|(_, off)| *off).map(|(word, _)| (*word).to_owned()).collect(),
            groups: row.value.groups.iter().map(ToString::to_string).collect(),
            mail: row.value.mail.as_ref().map(ToString::to_string),
            effective_mail: home.as_ref().map(ToString::to_string),
            version: row.version,
            managed_by: row.managed_by,
        }
    }

    async fn user_answer(&self, status: StatusCode, id: &UserId) -> Result<Response, Problem> {
        let row = self.store.user(id).await?.ok_or_else(|| absent("user", id))?;
        Ok(versioned(status, row.version, self.user_item(row)))
    }
}

/// Which users.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// In this unit, or below it.
    below: Option<String>,
    /// Members of this group.
    group: Option<String>,
    /// Whose address begins so.
    prefix: Option<String>,
    /// Items wanted, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// List users
#[utoipa::path(get, path = "/api/v1/users", tag = "directory", params(Which), responses(
    (status = 200, body = Page<UserItem>, description = "By address"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn list(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<UserItem>>, Problem> {
    actor.may_read(Area::Directory)?;
    if which.group.is_some() {
        actor.sees_everything()?;
    }
    let filter = UserFilter {
        below: top(&actor, which.below.as_deref().map(unit).transpose()?)?,
        group: which.group.as_deref().map(group).transpose()?,
        prefix: which.prefix,
    };
    let (limit, after) = part(&PageQuery { limit: which.limit, cursor: which.cursor })?;
    let found = control.store.users(&filter, after.as_deref(), limit).await?;
    Ok(Json(page(found, |row| control.user_item(row))))
}

/// What is said of a user. Absent leaves a thing as it is, `null` makes a setting inherit again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserWish {
    /// The unit; a new user needs one.
    unit: Option<String>,
    /// Whether nothing is allowed any more.
    suspended: Option<bool>,
    /// An exception for IMAP.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<SettingWish>)]
    imap: Option<Option<SettingWish>>,
    /// An exception for POP3.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<SettingWish>)]
    pop: Option<Option<SettingWish>>,
    /// Where the user's mail is, whatever the unit says: `maildir`, the name of an upstream, or `NAME/HOST` for one of its
    /// servers. Only for admins of the whole organisation.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    mail: Option<Option<String>>,
}

impl UserWish {
    pub(super) fn patch(&self) -> Result<UserPatch, Problem> {
        Ok(UserPatch {
            unit: self.unit.as_deref().map(unit).transpose()?,
            suspended: self.suspended,
            imap: patch(self.imap.as_ref())?,
            pop: patch(self.pop.as_ref())?,
            mail: home(self.mail.as_ref())?,
        })
    }
}

/// A new user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewUser {
    /// The address
    address: String,
    /// What is said of it.
    #[serde(default)]
    set: UserWish,
}

/// Make a user
#[utoipa::path(post, path = "/api/v1/users", tag = "directory", params(How), request_body = NewUser, responses(
    (status = 201, body = UserItem, description = "Made"),
    (status = 200, body = PreviewWords, description = "With `preview=true`: what it would come to"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn make(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(how): Asked<How>,
    Given(new): Given<NewUser>,
) -> Result<Response, Problem> {
    let id = address(&new.address)?;
    let directive = Directive::User(id.clone(), Action::Make(new.set.patch()?));
    match control.one(&actor, directive, None, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => control.user_answer(StatusCode::CREATED, &id).await,
    }
}

/// Look at one user
#[utoipa::path(get, path = "/api/v1/users/{address}", tag = "directory",
    params(("address" = String, Path, description = "The address")), responses(
    (status = 200, body = UserItem, description = "The user"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn one(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(name): Named<String>,
) -> Result<Response, Problem> {
    actor.may_read(Area::Directory)?;
    let id = address(&name)?;
    control.reaches(&actor, &id)?;
    control.user_answer(StatusCode::OK, &id).await
}

/// Change a user
#[utoipa::path(patch, path = "/api/v1/users/{address}", tag = "directory", request_body = UserWish, params(How,
    ("address" = String, Path, description = "The address"),
    ("If-Match" = Option<String>, Header, description = "The version seen, or `*`")), responses(
    (status = 200, body = Answered<UserItem>, description = "As it stands now; with `preview=true` what the change would come to"),
    (status = 412, body = Problem, content_type = "application/problem+json", description = "It is not of the version in `If-Match`"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn change(
    State(control): State<Arc<Control>>,
    actor: Actor,
    headers: HeaderMap,
    Named(name): Named<String>,
    Asked(how): Asked<How>,
    Given(wish): Given<UserWish>,
) -> Result<Response, Problem> {
    let (id, expect) = (address(&name)?, expected(&headers)?);
    let directive = Directive::User(id.clone(), Action::Change(wish.patch()?));
    match control.one(&actor, directive, expect, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => control.user_answer(StatusCode::OK, &id).await,
    }
}

/// Remove a user
#[utoipa::path(delete, path = "/api/v1/users/{address}", tag = "directory", params(How,
    ("address" = String, Path, description = "The address"),
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
    let directive = Directive::User(address(&name)?, Action::Remove);
    match control.one(&actor, directive, expected(&headers)?, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}
