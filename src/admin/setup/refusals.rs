//! A refusal told to whom it is about: the exact cause, from the audit log, to the person who was refused, and to those who may
//! read the log anyway. To everybody else a reference that exists is one that does not.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::advice::Advice;
use crate::admin::{
    Actor, Area, Control,
    audit::sees,
    extract::Named,
    problem::{Problem, ProblemKind},
    time::Time,
};
use crate::model::{Reference, UserId};
use crate::store::{AuditEvent, AuditFilter};

/// Rows that may have one reference: of 2^30 there are, two refusals may have drawn the same.
const MOST: u32 = 16;

/// Why somebody was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MyRefusal {
    /// What the reply named.
    pub(super) reference: String,
    /// When.
    time: Time,
    /// `imap` or `pop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<String>,
    /// The cause word.
    pub(super) cause: String,
    /// The exact cause, as the gateway found it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    /// What that means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) means: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
    /// The app's client ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) app: Option<String>,
    /// The mail program, as it called itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) program: Option<String>,
    /// Address and port it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peer: Option<String>,
}

impl MyRefusal {
    /// What an audit row tells the person it is about; none for a row that is no refusal.
    fn of(row: AuditEvent) -> Option<Self> {
        let (reference, cause) = (row.reference?.to_string(), row.reason?.into_owned());
        let advice = Advice::by_cause(&cause);
        Some(Self {
            reference,
            time: row.time.into(),
            service: row.service.map(|service| service.word().to_owned()),
            detail: row.detail,
            means: advice.map(|advice| advice.means.to_owned()),
            remedy: advice.map(|advice| advice.remedy.to_owned()),
            app: row.app,
            program: row.program,
            peer: row.peer,
            cause,
        })
    }

    /// When, for a page.
    pub(super) fn at(&self) -> String {
        self.time.unix().to_string()
    }
}

/// Whether a row is about this person: their own token was refused, or, where no token proved anything, a sign-in in their
/// name.
fn is_about(row: &AuditEvent, person: &UserId) -> bool {
    let named = match &row.user {
        Some(user) => Some(user),
        None => row.claimed.as_ref(),
    };
    named.and_then(|name| UserId::parse(name).ok()).is_some_and(|name| name == *person)
}

impl Control {
    /// The refusal by this reference, as far as whoever asks may know it.
    pub(super) async fn refusal(&self, actor: &Actor, reference: Reference) -> Result<Option<MyRefusal>, Problem> {
        let filter = AuditFilter { reference: Some(reference), limit: MOST, ..AuditFilter::default() };
        let rows = self.store.audit_recent(&filter).await?;
        let auditor = actor.may_read(Area::Audit).is_ok();
        let found = self.store.read(|directory| {
            rows.into_iter().find(|row| {
                actor.user().is_some_and(|user| is_about(row, user)) || (auditor && sees(actor, row, directory))
            })
        });
        Ok(found.and_then(MyRefusal::of))
    }
}

/// Why was I refused
///
/// By the reference in the reply. A refusal of somebody else is as unknown as one that never was.
#[utoipa::path(get, path = "/api/v1/me/refusals/{reference}", tag = "me",
    params(("reference" = String, Path, description = "Six letters and digits: `7F3K2Q`")), responses(
    (status = 200, body = MyRefusal, description = "The cause and what to do"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
pub(super) async fn my_refusal(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(text): Named<String>,
) -> Result<Json<MyRefusal>, Problem> {
    let reference = Reference::parse(&text).ok_or_else(|| {
        Problem::new(ProblemKind::BadRequest, format!("reference {text:?}: six letters and digits"))
    })?;
    let found = control.refusal(&actor, reference).await?;
    let nothing = || Problem::new(ProblemKind::NotFound, format!("there is no refusal {reference} of yours"));
    found.map(Json).ok_or_else(nothing)
}
