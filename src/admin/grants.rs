//! Grants: which apps people have let read which mailboxes. Disabling and removing end open sessions within a second.

use std::{collections::HashMap, sync::Arc};

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Actor, Area, Control,
    access::address,
    actor::now,
    extract::{Asked, Given, Named},
    page::{Page, PageQuery, Sift},
    problem::{Problem, ProblemKind},
    time::Time,
};
use crate::model::{ClientId, GrantId, UserId};
use crate::policy::{GrantKey, GrantState};
use crate::store::{GrantFilter, GrantRow};

/// Longest reason, in characters.
const REASON_CHARS: usize = 500;

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(one, change)).routes(routes!(revoke))
}

/// A grant: this user lets this app read this mailbox.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GrantItem {
    /// Its number.
    id: i64,
    /// Who let the app in.
    user: String,
    /// Whose mailbox: the user's own, or a shared one.
    owner: String,
    /// The app's client ID.
    app: String,
    /// The app's name, where somebody has given it one.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_name: Option<String>,
    /// `active`, `disabled` or `removed`.
    state: String,
    /// The first accepted sign-in.
    made_at: Time,
    /// The last change of its state.
    changed_at: Time,
    /// Who changed it last.
    changed_by: String,
    /// When it was last removed: tokens issued until then stay refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed_at: Option<Time>,
    /// Sessions under it that are open on the node that answers.
    open_sessions: usize,
}

/// Which grants.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Of this user.
    user: Option<String>,
    /// To this mailbox.
    owner: Option<String>,
    /// Of this app.
    app: Option<String>,
    /// `active`, `disabled` or `removed`.
    state: Option<String>,
    /// Items wanted, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// List grants
#[utoipa::path(get, path = "/api/v1/grants", tag = "grants", params(Which), responses(
    (status = 200, body = Page<GrantItem>, description = "In the order in which they were made"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn list(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<GrantItem>>, Problem> {
    actor.may_read(Area::Grants)?;
    let filter = GrantFilter {
        user: which.user.as_deref().map(address).transpose()?,
        owner: which.owner.as_deref().map(address).transpose()?,
        app: which.app.as_deref().map(app).transpose()?,
        state: which.state.as_deref().map(state).transpose()?,
    };
    let page = PageQuery { limit: which.limit, cursor: which.cursor };
    let reaches = |user: &UserId| control.store.read(|directory| actor.sees_user(user, directory));
    Ok(Json(control.grants(&filter, &page, (reaches, actor.sees_all())).await?))
}

impl Control {
    /// A page of the grants that match and whose user passes `reaches`.
    pub(super) async fn grants(
        &self,
        filter: &GrantFilter,
        page: &PageQuery,
        (reaches, sees_all): (impl Fn(&UserId) -> bool, bool),
    ) -> Result<Page<GrantItem>, Problem> {
        let after = page.after()?.map(|key| key.parse()).transpose();
        let after = after.map_err(|_| Problem::new(ProblemKind::BadRequest, "the cursor is of another list"))?;
        let mut sift = Sift::new(page.limit()?, sees_all, after);
        loop {
            let (after, count) = sift.next();
            let rows = self.store.grants(filter, after.map(GrantId), count).await?;
            if sift.take(rows.into_iter().map(|row| (row.id.0, Some(row).filter(|row| reaches(&row.user))))) {
                break;
            }
        }
        let page = sift.page();
        Ok(Page { items: self.items(page.items), next: page.next })
    }

    /// The rows with what the snapshot and the live sessions add to them.
    fn items(&self, rows: Vec<GrantRow>) -> Vec<GrantItem> {
        let mut open: HashMap<GrantKey, usize> = HashMap::new();
        for seat in self.gate.live().seats() {
            let (user, owner, app) = (seat.who.user().clone(), seat.owner.clone(), seat.who.app().clone());
            *open.entry(GrantKey { user, owner, app }).or_default() += 1;
        }
        rows.into_iter().map(|row| self.item(row, &open)).collect()
    }

    fn item(&self, row: GrantRow, open: &HashMap<GrantKey, usize>) -> GrantItem {
        let name = self.store.read(|directory| directory.app_name(&row.app));
        let key = GrantKey { user: row.user.clone(), owner: row.owner.clone(), app: row.app.clone() };
        let open_sessions = open.get(&key).copied().unwrap_or(0);
        GrantItem {
            id: row.id.0,
            user: row.user.to_string(),
            owner: row.owner.to_string(),
            app: row.app.to_string(),
            app_name: name.map(|name| name.to_string()),
            state: row.state.word().to_owned(),
            made_at: row.made_at.into(),
            changed_at: row.changed_at.into(),
            changed_by: row.changed_by,
            removed_at: row.removed_at.map(Into::into),
            open_sessions,
        }
    }

    /// A grant as it stands now.
    async fn shown(&self, id: i64, reaches: impl Fn(&UserId) -> bool) -> Result<GrantItem, Problem> {
        let rows = vec![self.grant_of(id, reaches).await?];
        self.items(rows).pop().ok_or_else(|| Problem::new(ProblemKind::Fault, "a grant was lost on the way"))
    }

    /// A grant that exists for whoever asks.
    async fn grant_of(&self, id: i64, reaches: impl Fn(&UserId) -> bool) -> Result<GrantRow, Problem> {
        let found = self.store.grant(GrantId(id)).await?.filter(|row| reaches(&row.user));
        found.ok_or_else(|| no_grant(id))
    }

    /// Changes a grant's state. Whoever changes it as `their_own` does not undo what somebody else did: a grant that another
    /// disabled stays so.
    pub(super) async fn change_grant(
        &self,
        actor: &Actor,
        id: i64,
        change: &GrantChange,
        (reaches, their_own): (impl Fn(&UserId) -> bool, bool),
    ) -> Result<GrantItem, Problem> {
        let wanted = state(&change.state)?;
        let why = reason(change.reason.as_deref())?;
        let by = (actor.name(), why);
        let may = |row: Option<&GrantRow>| {
            let row = row.filter(|row| reaches(&row.user)).ok_or_else(|| no_grant(id))?;
            may_become(row, wanted, change.yes, their_own)
        };
        self.store.change_grant(GrantId(id), wanted, by, now(), may).await?;
        self.shown(id, |_| true).await
    }
}

/// Whether there is anything to change; a problem where the grant cannot become what is wanted.
fn may_become(row: &GrantRow, wanted: GrantState, yes: bool, their_own: bool) -> Result<bool, Problem> {
    let (id, by_user) = (row.id.0, row.changed_by == row.user.as_str());
    if wanted == row.state {
        // What its user had disabled is from now on disabled by an admin, and the user's to enable no more.
        return Ok(wanted == GrantState::Disabled && by_user && !their_own);
    }
    if their_own && row.state == GrantState::Disabled && !by_user {
        let detail = format!("grant {id} was disabled by an admin: ask them to enable it");
        return Err(Problem::new(ProblemKind::Forbidden, detail));
    }
    if wanted == GrantState::Removed && row.state == GrantState::Active && !yes {
        let detail = format!("grant {id} is active: disable it first, or say \"yes\": true to remove it at once");
        return Err(Problem::new(ProblemKind::Conflict, detail));
    }
    if row.state == GrantState::Removed {
        let detail = format!("grant {id} is removed: it comes back when {} signs in anew with this app", row.user);
        return Err(Problem::new(ProblemKind::Conflict, detail));
    }
    Ok(true)
}

fn no_grant(id: i64) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is no grant {id}"))
}

/// Look at one grant
#[utoipa::path(get, path = "/api/v1/grants/{id}", tag = "grants", params(("id" = i64, Path, description = "Its number")), responses(
    (status = 200, body = GrantItem, description = "The grant"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn one(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(id): Named<i64>,
) -> Result<Json<GrantItem>, Problem> {
    actor.may_read(Area::Grants)?;
    control.shown(id, |user| control.store.read(|directory| actor.sees_user(user, directory))).await.map(Json)
}

/// A new state for a grant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantChange {
    /// `disabled`, `active` again, or `removed`.
    #[schema(example = "disabled")]
    state: String,
    /// Why, for the audit log.
    #[schema(max_length = 500)]
    #[serde(default)]
    reason: Option<String>,
    /// Remove it although it is active.
    #[serde(default)]
    yes: bool,
}

/// Disable, enable or remove a grant
///
/// Sessions under it end within a second. After a removal only a token issued later lets the app in again.
#[utoipa::path(patch, path = "/api/v1/grants/{id}", tag = "grants", request_body = GrantChange,
    params(("id" = i64, Path, description = "Its number")), responses(
    (status = 200, body = GrantItem, description = "The grant as it stands now"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn change(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(id): Named<i64>,
    Given(change): Given<GrantChange>,
) -> Result<Json<GrantItem>, Problem> {
    actor.may_write(Area::Grants)?;
    let reaches = |user: &UserId| control.store.read(|directory| actor.sees_user(user, directory));
    control.change_grant(&actor, id, &change, (reaches, false)).await.map(Json)
}

/// Whose grants to remove: of a user, of an app, or of a user's app.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Revocation {
    /// Of this user.
    #[serde(default)]
    user: Option<String>,
    /// Of this app.
    #[serde(default)]
    app: Option<String>,
    /// Why, for the audit log.
    #[schema(max_length = 500)]
    #[serde(default)]
    reason: Option<String>,
}

/// What was removed.
#[derive(Debug, Serialize, ToSchema)]
struct Revoked {
    /// So many grants.
    changed: usize,
    /// There are more: call again.
    more: bool,
}

/// Remove every grant of a user or of an app
///
/// Their sessions end within a second. At most 10,000 grants in one call.
#[utoipa::path(post, path = "/api/v1/grants/revoke", tag = "grants", request_body = Revocation, responses(
    (status = 200, body = Revoked, description = "Removed"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn revoke(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Given(wish): Given<Revocation>,
) -> Result<Json<Revoked>, Problem> {
    actor.may_write(Area::Grants)?;
    if wish.user.is_none() && wish.app.is_none() {
        return Err(Problem::new(
            ProblemKind::BadRequest,
            "name a user or an app: this would remove every grant there is",
        ));
    }
    let filter = GrantFilter {
        user: wish.user.as_deref().map(address).transpose()?,
        app: wish.app.as_deref().map(app).transpose()?,
        ..GrantFilter::default()
    };
    let why = reason(wish.reason.as_deref())?;
    let reaches = |user: &UserId| control.store.read(|directory| actor.sees_user(user, directory));
    let done = control.store.remove_grants(&filter, reaches, actor.name(), why, now()).await?;
    Ok(Json(Revoked { changed: done.changed, more: done.more }))
}

fn app(text: &str) -> Result<ClientId, Problem> {
    ClientId::parse(text).map_err(|error| Problem::new(ProblemKind::BadRequest, error.to_string()))
}

fn state(word: &str) -> Result<GrantState, Problem> {
    GrantState::from_word(word).ok_or_else(|| {
        Problem::new(ProblemKind::BadRequest, format!("state {word:?}: write active, disabled or removed"))
    })
}

/// A reason that fits into an audit row.
pub(super) fn reason(text: Option<&str>) -> Result<Option<&str>, Problem> {
    match text.map(str::trim).filter(|text| !text.is_empty()) {
        Some(text) if text.chars().count() > REASON_CHARS => {
            Err(Problem::new(ProblemKind::BadRequest, "reason: write at most 500 characters"))
        }
        other => Ok(other),
    }
}
