//! Shared mailboxes and their members.

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
        problem::ProblemKind,
    },
    Answered, How, Outcome, absent, expected, page, part,
    preview::PreviewWords,
    reach::top,
    versioned,
    words::{nullable, unit},
};
use crate::model::UserId;
use crate::policy::Rights;
use crate::store::{Action, Directive, MailboxPatch, MailboxValue, Stored};

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(list, make)).routes(routes!(one, change, remove))
}

/// Who may open a shared mailbox, and what they may do there.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    /// Who.
    user: String,
    /// `read`, or `write` where it is absent.
    #[serde(default = "write")]
    rights: String,
}

fn write() -> String {
    Rights::Write.word().to_owned()
}

impl Member {
    fn read(&self) -> Result<(UserId, Rights), Problem> {
        let rights = Rights::from_word(&self.rights).ok_or_else(|| {
            Problem::new(ProblemKind::BadRequest, format!("rights {:?}: write read or write", self.rights))
        });
        Ok((address(&self.user)?, rights?))
    }
}

/// A shared mailbox.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MailboxItem {
    /// Its address.
    address: String,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The unit it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// Who may open it.
    members: Vec<Member>,
    /// Also told as the `ETag`.
    version: i64,
    /// `file`: the policy file keeps it, and it cannot be changed here. Otherwise `admin`.
    managed_by: String,
}

impl MailboxItem {
    fn of(row: Stored<UserId, MailboxValue>) -> Self {
        let member =
            |(user, rights): &(UserId, Rights)| Member { user: user.to_string(), rights: rights.word().to_owned() };
        Self {
            address: row.id.to_string(),
            name: row.value.name,
            unit: row.value.unit.map(|unit| unit.to_string()),
            members: row.value.members.iter().map(member).collect(),
            version: row.version,
            managed_by: row.managed_by,
        }
    }
}

impl Control {
    async fn mailbox_answer(&self, status: StatusCode, id: &UserId) -> Result<Response, Problem> {
        let row = self.store.mailbox(id).await?.ok_or_else(|| absent("shared mailbox", id))?;
        Ok(versioned(status, row.version, MailboxItem::of(row)))
    }

    /// Whether this shared mailbox is within reach.
    async fn reaches_mailbox(&self, actor: &Actor, id: &UserId) -> Result<(), Problem> {
        if actor.sees_all() {
            return Ok(());
        }
        let unit = self.store.mailbox(id).await?.and_then(|mailbox| mailbox.value.unit);
        unit.filter(|unit| actor.sees_unit(unit)).map(drop).ok_or_else(|| absent("shared mailbox", id))
    }
}

/// Which shared mailboxes.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Of this unit, or of one below it.
    below: Option<String>,
    /// Items wanted, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// List shared mailboxes
#[utoipa::path(get, path = "/api/v1/mailboxes", tag = "directory", params(Which), responses(
    (status = 200, body = Page<MailboxItem>, description = "By address"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn list(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<MailboxItem>>, Problem> {
    actor.may_read(Area::Directory)?;
    let below = top(&actor, which.below.as_deref().map(unit).transpose()?)?;
    let (limit, after) = part(&PageQuery { limit: which.limit, cursor: which.cursor })?;
    Ok(Json(page(control.store.mailboxes(below.as_ref(), after.as_deref(), limit).await?, MailboxItem::of)))
}

/// What is said of a shared mailbox. Absent leaves a thing as it is, `null` takes it away.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MailboxWish {
    /// What people call it.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    /// The unit it belongs to.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    unit: Option<Option<String>>,
    /// Exactly these members.
    members: Option<Vec<Member>>,
    /// These members too, or with other rights.
    #[serde(default)]
    add: Vec<Member>,
    /// These members no more.
    #[serde(default)]
    remove: Vec<String>,
    /// For a new one at the address of a former user, whose mail is still there: open that mail to the members. Only for a
    /// super admin.
    #[serde(default)]
    take_over: bool,
}

impl MailboxWish {
    pub(super) fn patch(&self) -> Result<MailboxPatch, Problem> {
        let people = |list: &[Member]| list.iter().map(Member::read).collect::<Result<Vec<_>, _>>();
        let unit = self.unit.as_ref().map(|wish| wish.as_deref().map(unit).transpose()).transpose()?;
        Ok(MailboxPatch {
            name: self.name.clone(),
            unit,
            members: self.members.as_deref().map(people).transpose()?,
            add: people(&self.add)?,
            remove: self.remove.iter().map(|text| address(text)).collect::<Result<_, _>>()?,
            take_over: self.take_over,
        })
    }
}

/// A new shared mailbox.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMailbox {
    /// Its address
    address: String,
    /// What is said of it.
    #[serde(default)]
    set: MailboxWish,
}

/// Make a shared mailbox
///
/// Mail stays under an address whose user or shared mailbox is removed. Where a user was, a shared mailbox is made only with
/// `take_over` (409 otherwise); an admin of a subtree makes nothing at an address that was outside it (403).
#[utoipa::path(post, path = "/api/v1/mailboxes", tag = "directory", params(How), request_body = NewMailbox, responses(
    (status = 201, body = MailboxItem, description = "Made"),
    (status = 200, body = PreviewWords, description = "With `preview=true`: what it would come to"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn make(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(how): Asked<How>,
    Given(new): Given<NewMailbox>,
) -> Result<Response, Problem> {
    let id = address(&new.address)?;
    let directive = Directive::Mailbox(id.clone(), Action::Make(new.set.patch()?));
    match control.one(&actor, directive, None, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => control.mailbox_answer(StatusCode::CREATED, &id).await,
    }
}

/// Look at one shared mailbox
#[utoipa::path(get, path = "/api/v1/mailboxes/{address}", tag = "directory",
    params(("address" = String, Path, description = "Its address")), responses(
    (status = 200, body = MailboxItem, description = "The shared mailbox"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn one(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(name): Named<String>,
) -> Result<Response, Problem> {
    actor.may_read(Area::Directory)?;
    let id = address(&name)?;
    control.reaches_mailbox(&actor, &id).await?;
    control.mailbox_answer(StatusCode::OK, &id).await
}

/// Change a shared mailbox
#[utoipa::path(patch, path = "/api/v1/mailboxes/{address}", tag = "directory", request_body = MailboxWish, params(How,
    ("address" = String, Path, description = "Its address"),
    ("If-Match" = Option<String>, Header, description = "The version seen, or `*`")), responses(
    (status = 200, body = Answered<MailboxItem>, description = "As it stands now; with `preview=true` what the change would come to"),
    (status = 412, body = Problem, content_type = "application/problem+json", description = "It is not of the version in `If-Match`"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn change(
    State(control): State<Arc<Control>>,
    actor: Actor,
    headers: HeaderMap,
    Named(name): Named<String>,
    Asked(how): Asked<How>,
    Given(wish): Given<MailboxWish>,
) -> Result<Response, Problem> {
    let (id, expect) = (address(&name)?, expected(&headers)?);
    let directive = Directive::Mailbox(id.clone(), Action::Change(wish.patch()?));
    match control.one(&actor, directive, expect, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => control.mailbox_answer(StatusCode::OK, &id).await,
    }
}

/// Remove a shared mailbox
#[utoipa::path(delete, path = "/api/v1/mailboxes/{address}", tag = "directory", params(How,
    ("address" = String, Path, description = "Its address"),
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
    let directive = Directive::Mailbox(address(&name)?, Action::Remove);
    match control.one(&actor, directive, expected(&headers)?, &how).await? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}
