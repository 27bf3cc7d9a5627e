//! Notices: who was told what, and how far it has come; and a person's own.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Actor, Area, Control,
    access::address,
    actor::now,
    extract::{Asked, Given, Named},
    me::person,
    page::{Page, PageQuery, Sift},
    problem::{Problem, ProblemKind},
    time::Time,
};
use crate::model::{UnixTime, UserId};
use crate::store::{Delivery, Lost, Notice, NoticeFilter, NoticeId, NoticeKind, NoticeState, Retried};

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(one))
        .routes(routes!(retry))
        .routes(routes!(my_notices))
        .routes(routes!(read))
}

/// Something a person is told.
#[derive(Debug, Serialize, ToSchema)]
struct NoticeItem {
    /// Its number.
    id: i64,
    /// `access_change`: apps of the recipient lose access. `team_grant_cut`: an app was cut off from a shared mailbox.
    kind: String,
    /// Who is told.
    recipient: String,
    /// `console` (for the console and the API alone), `queued`, `sending`, `sent`, `failed`.
    state: String,
    /// What was done: the policy is `changed`, or its change is `planned`; a grant is `disabled` or `removed`.
    deed: String,
    /// Who did it.
    by: String,
    /// The reason that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The recipient's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// From when on; absent where that is not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Time>,
    /// The first losses; at most 20.
    lost: Vec<LostItem>,
    /// How many there are. Whoever sees only a part of the organisation is shown what is theirs to see of both.
    lost_count: usize,
    /// When it was written.
    made_at: Time,
    /// When its recipient read it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_at: Option<Time>,
}

/// An app that may no longer read a mailbox.
#[derive(Debug, Serialize, ToSchema)]
struct LostItem {
    /// Who had let it in.
    user: String,
    /// Whose mailbox.
    mailbox: String,
    /// Its client ID.
    app: String,
    /// Its name, where somebody has given it one.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_name: Option<String>,
    /// `imap`, `pop`; empty: whatever it used.
    services: Vec<String>,
    /// The refusal that it meets from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl From<Lost> for LostItem {
    fn from(lost: Lost) -> Self {
        let Lost { user, mailbox, app, app_name, services, why } = lost;
        Self { user, mailbox, app, app_name, services, why }
    }
}

impl From<Notice> for NoticeItem {
    fn from(notice: Notice) -> Self {
        let body = notice.body;
        Self {
            id: notice.id.0,
            kind: notice.kind.word().to_owned(),
            recipient: notice.recipient.to_string(),
            state: notice.state.word().to_owned(),
            deed: body.deed.word().to_owned(),
            by: notice.by,
            reason: body.reason,
            unit: body.unit,
            from: body.from_ms.map(|ms| UnixTime(ms).into()),
            lost: body.lost.into_iter().map(Into::into).collect(),
            lost_count: body.lost_count,
            made_at: notice.at.into(),
            read_at: notice.read_at.map(Into::into),
        }
    }
}

/// A notice and how it is delivered.
#[derive(Debug, Serialize, ToSchema)]
struct NoticeWhole {
    #[serde(flatten)]
    notice: NoticeItem,
    /// One for each channel that was configured when it was written.
    deliveries: Vec<DeliveryItem>,
}

/// A notice on its way over one channel.
#[derive(Debug, Serialize, ToSchema)]
struct DeliveryItem {
    /// `email`, or `webhook:` with the host and what tells its URL from others.
    channel: String,
    /// `queued`, `sending`, `sent`, `failed`.
    state: String,
    /// How often it was tried.
    attempts: i64,
    /// When it is tried next, while it is queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<Time>,
    /// The last change of its state.
    changed_at: Time,
    /// What went wrong the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl From<Delivery> for DeliveryItem {
    fn from(delivery: Delivery) -> Self {
        let waits = delivery.state == NoticeState::Queued;
        Self {
            channel: delivery.channel,
            state: delivery.state.word().to_owned(),
            attempts: delivery.attempts,
            next_at: waits.then(|| delivery.next_at.into()),
            changed_at: delivery.changed_at.into(),
            problem: delivery.problem,
        }
    }
}

/// Which notices.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// To this person.
    user: Option<String>,
    /// `access_change` or `team_grant_cut`.
    kind: Option<String>,
    /// `console`, `queued`, `sending`, `sent` or `failed`.
    state: Option<String>,
    /// Items wanted, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// List notices
#[utoipa::path(get, path = "/api/v1/notices", tag = "notices", params(Which), responses(
    (status = 200, body = Page<NoticeItem>, description = "The newest first"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn list(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<NoticeItem>>, Problem> {
    actor.may_read(Area::Notices)?;
    let bad = |detail: String| Problem::new(ProblemKind::BadRequest, detail);
    let kind = |word: &str| {
        NoticeKind::from_word(word)
            .ok_or_else(|| bad(format!("kind {word:?}: write access_change or team_grant_cut")))
    };
    let state = |word: &str| {
        NoticeState::from_word(word)
            .ok_or_else(|| bad(format!("state {word:?}: write console, queued, sending, sent or failed")))
    };
    let filter = NoticeFilter {
        recipient: which.user.as_deref().map(address).transpose()?,
        kind: which.kind.as_deref().map(kind).transpose()?,
        state: which.state.as_deref().map(state).transpose()?,
        unread: false,
    };
    let page = PageQuery { limit: which.limit, cursor: which.cursor };
    control.notices(&filter, &page, (|notice| control.in_reach(&actor, notice), actor.sees_all())).await.map(Json)
}

impl Control {
    /// As much of a notice as `actor` may see: its recipient, and each mailbox and user it names, must be within reach. It
    /// is not there for whom nothing is left of it.
    fn in_reach(&self, actor: &Actor, mut notice: Notice) -> Option<Notice> {
        if actor.sees_all() {
            return Some(notice);
        }
        let lost = &mut notice.body.lost;
        let named = lost.len();
        let may_be_read = self.store.read(|directory| {
            lost.retain(|one| {
                UserId::parse(&one.user).is_ok_and(|user| actor.sees_user(&user, directory))
                    && UserId::parse(&one.mailbox).is_ok_and(|mailbox| actor.sees_mailbox(&mailbox, directory))
            });
            actor.sees_user(&notice.recipient, directory)
        });
        // Of a team grant's cut, those that are counted and not named may be anybody's.
        if lost.len() < named || notice.kind == NoticeKind::TeamGrantCut {
            notice.body.lost_count = lost.len();
        }
        (may_be_read && !lost.is_empty()).then_some(notice)
    }

    /// A page of the notices that match, as `view` lets them be seen.
    async fn notices(
        &self,
        filter: &NoticeFilter,
        page: &PageQuery,
        (view, sees_all): (impl Fn(Notice) -> Option<Notice>, bool),
    ) -> Result<Page<NoticeItem>, Problem> {
        let before = page.after()?.map(|key| key.parse()).transpose();
        let before = before.map_err(|_| Problem::new(ProblemKind::BadRequest, "the cursor is of another list"))?;
        let mut sift = Sift::new(page.limit()?, sees_all, before);
        loop {
            let (before, count) = sift.next();
            let rows = self.store.notices(filter, before.map(NoticeId), count).await?;
            if sift.take(rows.into_iter().map(|row| (row.id.0, view(row)))) {
                break;
            }
        }
        let page = sift.page();
        Ok(Page { items: page.items.into_iter().map(Into::into).collect(), next: page.next })
    }

    /// A notice that exists for whoever asks.
    async fn notice(&self, id: i64, view: impl FnOnce(Notice) -> Option<Notice>) -> Result<NoticeWhole, Problem> {
        let (notice, deliveries) = self.store.notice(NoticeId(id)).await?.ok_or_else(|| absent(id))?;
        let notice = view(notice).ok_or_else(|| absent(id))?;
        Ok(NoticeWhole { notice: notice.into(), deliveries: deliveries.into_iter().map(Into::into).collect() })
    }
}

fn absent(id: i64) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is no notice {id}"))
}

/// Look at one notice
#[utoipa::path(get, path = "/api/v1/notices/{id}", tag = "notices",
    params(("id" = i64, Path, description = "Its number")), responses(
    (status = 200, body = NoticeWhole, description = "The notice, and how it is delivered"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn one(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(id): Named<i64>,
) -> Result<Json<NoticeWhole>, Problem> {
    actor.may_read(Area::Notices)?;
    control.notice(id, |notice| control.in_reach(&actor, notice)).await.map(Json)
}

/// Send a notice that failed again
///
/// Over the channels of today that did not take it, as if they had never been tried. What was sent is not sent again.
#[utoipa::path(post, path = "/api/v1/notices/{id}/retry", tag = "notices",
    params(("id" = i64, Path, description = "Its number")), responses(
    (status = 200, body = NoticeWhole, description = "It is queued again"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn retry(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(id): Named<i64>,
) -> Result<Json<NoticeWhole>, Problem> {
    actor.may_write(Area::Notices)?;
    let found = control.notice(id, |notice| control.in_reach(&actor, notice)).await?;
    match control.store.retry_notice(NoticeId(id), actor.name(), now()).await? {
        Retried::Queued(_) => control.notice(id, |notice| control.in_reach(&actor, notice)).await.map(Json),
        Retried::NoChannel => {
            let detail = format!(
                "the channels that did not take notice {id} are not configured any more, and there is no other that \
                 lacks it: see [notify] in the config"
            );
            Err(Problem::new(ProblemKind::Conflict, detail))
        }
        Retried::NothingFailed => {
            let detail = format!("notice {id} is {}: only what has failed is sent again", found.notice.state);
            Err(Problem::new(ProblemKind::Conflict, detail))
        }
        Retried::Absent => Err(absent(id)),
    }
}

/// Which of my notices.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct WhichOwn {
    /// Only those that I have not read.
    #[serde(default)]
    unread: bool,
    /// Items wanted, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// List my notices
#[utoipa::path(get, path = "/api/v1/me/notices", tag = "me", params(WhichOwn), responses(
    (status = 200, body = Page<NoticeItem>, description = "The newest first"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn my_notices(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(which): Asked<WhichOwn>,
) -> Result<Json<Page<NoticeItem>>, Problem> {
    let recipient = Some(person(&actor)?.clone());
    let filter = NoticeFilter { recipient, unread: which.unread, ..NoticeFilter::default() };
    let page = PageQuery { limit: which.limit, cursor: which.cursor };
    control.notices(&filter, &page, (Some, true)).await.map(Json)
}

/// That a notice was read.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReadMark {
    /// `true`: what was read stays read.
    read: bool,
}

/// Mark a notice to me as read
#[utoipa::path(patch, path = "/api/v1/me/notices/{id}", tag = "me", request_body = ReadMark,
    params(("id" = i64, Path, description = "Its number")), responses(
    (status = 200, body = NoticeItem, description = "The notice as it stands now"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn read(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(id): Named<i64>,
    Given(mark): Given<ReadMark>,
) -> Result<Json<NoticeItem>, Problem> {
    let own = person(&actor)?;
    if !mark.read {
        let detail = "read: write true; what was read stays read";
        return Err(Problem::new(ProblemKind::BadRequest, detail));
    }
    if !control.store.read_notice(NoticeId(id), own, now()).await? {
        return Err(absent(id));
    }
    // How it is delivered is the operator's business.
    let own = |notice: Notice| (notice.recipient == *own).then_some(notice);
    control.notice(id, own).await.map(|whole| Json(whole.notice))
}
