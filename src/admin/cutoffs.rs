//! What issuers have said of their tokens and accounts, and still holds. Only for those who see the whole organisation: an
//! issuer's own names for people tell nobody which unit they are in.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Actor, Area, Control,
    actor::now,
    extract::{Asked, Given},
    page::{Page, PageQuery},
    problem::{Problem, ProblemKind},
    time::Time,
};
use crate::policy::{CutoffKey, Whose};
use crate::store::CutoffRow;

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(forget))
}

/// Which tokens an issuer's word is about.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Key {
    /// The issuer's address.
    #[schema(example = "https://id.example.com")]
    issuer: String,
    /// `subject` (`sub`), `session` (`sid`) or `address`; with `_without_session`, only tokens without `sid`; or `everybody`.
    #[schema(example = "address")]
    kind: String,
    /// The `sub`, the `sid` or the address; empty for everybody.
    #[schema(example = "ann@example.com")]
    subject: String,
}

impl Key {
    fn of(key: &CutoffKey) -> Self {
        let (kind, subject) = (key.whose.word().to_owned(), key.whose.text().to_owned());
        Self { issuer: key.issuer.clone(), kind, subject }
    }

    fn read(self) -> Option<CutoffKey> {
        Some(CutoffKey { whose: Whose::read(&self.kind, &self.subject)?, issuer: self.issuer })
    }
}

/// An issuer's word.
#[derive(Debug, Serialize, ToSchema)]
struct CutoffItem {
    /// The issuer's address.
    issuer: String,
    /// `subject`, `session`, `address`, ...: as to be named to have it forgotten.
    kind: String,
    /// The `sub`, the `sid` or the address; empty for everybody.
    subject: String,
    /// Tokens issued until then are not good any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_until: Option<Time>,
    /// `open`, `disabled` or `purged`.
    account: &'static str,
    /// The event it was said in last.
    event: String,
    /// When that arrived.
    changed_at: Time,
    /// When it is cleared away; absent where it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Time>,
}

impl From<&CutoffRow> for CutoffItem {
    fn from(row: &CutoffRow) -> Self {
        let Key { issuer, kind, subject } = Key::of(&row.key);
        Self {
            issuer,
            kind,
            subject,
            issued_until: row.cutoff.issued_until.map(Into::into),
            account: row.cutoff.account.word(),
            event: row.event.clone(),
            changed_at: row.changed_at.into(),
            expires_at: row.expires_at.map(Into::into),
        }
    }
}

/// List what issuers said against tokens and accounts
#[utoipa::path(get, path = "/api/v1/cutoffs", tag = "events", params(PageQuery), responses(
    (status = 200, body = Page<CutoffItem>, description = "A page, by issuer, kind and subject"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn list(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<Page<CutoffItem>>, Problem> {
    actor.may_read(Area::Sessions)?;
    actor.sees_everything()?;
    let limit = page.limit()?;
    let after = page.after()?.map(|key| {
        let key = serde_json::from_str(&key).ok().and_then(Key::read);
        key.ok_or_else(|| {
            Problem::new(ProblemKind::BadRequest, "the cursor is none of ours: take `next` of the page before")
        })
    });
    let rows = control.store.cutoffs(after.transpose()?.as_ref(), limit + 1).await?;
    let page = Page::cut(rows, limit, |row| serde_json::to_string(&Key::of(&row.key)).unwrap_or_default());
    Ok(Json(Page { items: page.items.iter().map(Into::into).collect(), next: page.next }))
}

/// Forget what an issuer said
///
/// For an issuer that erred, or that never says that an account is enabled again. Tokens that were refused are good again.
#[utoipa::path(post, path = "/api/v1/cutoffs/forget", tag = "events", request_body = Key, responses(
    (status = 204, description = "Forgotten"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn forget(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Given(key): Given<Key>,
) -> Result<StatusCode, Problem> {
    actor.may_write_all(Area::Sessions)?;
    let nothing =
        || Problem::new(ProblemKind::NotFound, "no issuer has said that: /api/v1/cutoffs lists what they said");
    let key = key.read().ok_or_else(nothing)?;
    if control.store.forget_cutoff(&key, actor.name(), now()).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(nothing())
    }
}
