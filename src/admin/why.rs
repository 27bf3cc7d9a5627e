//! Why: a decision step by step, by the very code that decides at the gate.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Actor, Area, Control,
    access::address,
    actor::now,
    extract::Asked,
    problem::{Problem, ProblemKind},
};
use crate::model::{ClientId, Service};
use crate::policy::{Question, explain};

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(why))
}

/// Who wants in, and how.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Asking {
    /// The person.
    user: String,
    /// The app's client ID.
    app: String,
    /// `imap` or `pop`.
    service: String,
    /// Whose mailbox, if it is not the person's own.
    mailbox: Option<String>,
    /// As a service account, by domain-wide delegation.
    #[serde(default)]
    service_account: bool,
}

/// A verdict and how it came about.
#[derive(Debug, Serialize, ToSchema)]
struct Why {
    /// Whether they would come in now.
    allowed: bool,
    /// The refusal in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    /// What was looked at, in order; after a no, the last one is the refusal.
    steps: Vec<WhyStep>,
}

/// One fact on the way to the verdict.
#[derive(Debug, Serialize, ToSchema)]
struct WhyStep {
    /// `user`, `mailbox`, `suspension`, `setting`, `own switch`, `app`, `trust`, `grant`, ...
    check: String,
    /// What was found.
    finding: String,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// Whether the way went on from here.
    passed: bool,
}

/// Explain a decision
#[utoipa::path(get, path = "/api/v1/why", tag = "audit", params(Asking), responses(
    (status = 200, body = Why, description = "The verdict, step by step"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn why(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(asking): Asked<Asking>,
) -> Result<Json<Why>, Problem> {
    actor.may_read(Area::Directory)?;
    let bad = |detail: String| Problem::new(ProblemKind::BadRequest, detail);
    let user = address(&asking.user)?;
    let question = Question {
        owner: asking.mailbox.as_deref().map(address).transpose()?.unwrap_or_else(|| user.clone()),
        app: ClientId::parse(&asking.app).map_err(|error| bad(error.to_string()))?,
        service: Service::from_word(&asking.service)
            .ok_or_else(|| bad(format!("service {:?}: write imap or pop", asking.service)))?,
        issued_at: Some(now()),
        service_account: asking.service_account,
        user,
    };
    let explanation = control
        .store
        .read(|directory| actor.sees_user(&question.user, directory).then(|| explain(&question, directory, now())));
    let explanation = explanation
        .ok_or_else(|| Problem::new(ProblemKind::NotFound, format!("there is no user {}", question.user)))?;
    let steps = explanation.steps.into_iter().map(|step| WhyStep {
        check: step.check.to_owned(),
        finding: step.finding,
        place: step.place.map(|place| place.to_string()),
        passed: step.passed,
    });
    let refusal = explanation.verdict.err().map(|refusal| refusal.to_string());
    Ok(Json(Why { allowed: refusal.is_none(), refusal, steps: steps.collect() }))
}
