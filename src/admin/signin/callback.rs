//! The way back from the issuer: the code becomes a session, or a page says why not.

use std::sync::Arc;

use axum::{
    extract::{Extension, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use serde::Deserialize;
use subtle::ConstantTimeEq;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Attempt, CALLBACK,
    browser::{Jar, Site},
    html::Page,
    session::is_unknown,
};
use crate::admin::{Control, Peer, actor::now, problem::Problem};
use crate::gate::fresh_reference;
use crate::issuer::{Returned, SignInError};
use crate::model::Secret;
use crate::policy::recognise_sign_in;
use crate::store::AuditEvent;
use crate::token::SignIn;

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(callback))
}

/// What the issuer sends with the browser (RFC 6749 section 4.1.2, RFC 9207).
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Answer {
    /// What the browser was sent with.
    state: Option<String>,
    /// The code.
    code: Option<String>,
    /// Why there is no code.
    error: Option<String>,
    /// The issuer's address.
    iss: Option<String>,
}

/// Why nobody is signed in, for the page and the audit row.
struct Trouble {
    status: StatusCode,
    reason: &'static str,
    /// What the person is told.
    told: String,
    /// What else the audit row tells.
    detail: String,
    who: Option<SignIn>,
}

impl Trouble {
    fn new(status: StatusCode, reason: &'static str, told: &str, detail: impl Into<String>) -> Self {
        Self { status, reason, told: told.to_owned(), detail: detail.into(), who: None }
    }
}

impl From<SignInError> for Trouble {
    fn from(error: SignInError) -> Self {
        let told = match &error {
            SignInError::NotSetUp => "Sign-in is not set up here.",
            SignInError::Code { .. } => "The code was used already, or is too old. Sign in again.",
            SignInError::Token(_) => {
                "What the sign-in service says is not believed here. An admin finds out why by the reference."
            }
            SignInError::Fetch(_) | SignInError::Unavailable(_) => {
                "The organisation's sign-in service does not answer. Try again later."
            }
        };
        let status = match &error {
            _ if error.is_temporary() => StatusCode::SERVICE_UNAVAILABLE,
            SignInError::NotSetUp => StatusCode::NOT_FOUND,
            _ => StatusCode::FORBIDDEN,
        };
        Self::new(status, error.reason(), told, error.to_string())
    }
}

/// Come back from the issuer
///
/// For a browser. A good code opens a session, whose cookie takes the place of a token under `/api/v1`.
#[utoipa::path(get, path = "/signin/callback", tag = "signin", security(()), params(Answer), responses(
    (status = 200, body = str, content_type = "text/html", description = "Signed in; the page goes on by itself"),
    (status = "default", body = str, content_type = "text/html", description = "A page that says what is wrong")))]
async fn callback(
    State(control): State<Arc<Control>>,
    Extension(peer): Extension<Peer>,
    site: Site,
    headers: HeaderMap,
    answer: Result<Query<Answer>, QueryRejection>,
) -> Result<Response, Problem> {
    let attempt = site.read(Jar::SignIn, &headers).as_ref().and_then(Attempt::read);
    let answer = answer.ok().map(|Query(answer)| answer);
    let begun = attempt.zip(answer).filter(|(attempt, answer)| {
        let given = answer.state.as_deref().unwrap_or_default();
        bool::from(given.as_bytes().ct_eq(attempt.state().reveal().as_bytes()))
    });
    let Some((attempt, answer)) = begun else {
        // Anybody can have a browser come here: no audit row, and what it came with is left alone.
        let page = Page::new("This sign-in is over").line(
            "It was not begun in this browser, took more than ten minutes, or another one was begun after it.",
        );
        return Ok(page.link("/signin", "Sign in again").answer(StatusCode::BAD_REQUEST));
    };
    let mut response = match control.sign_in(&site, &attempt, answer).await {
        Ok(who) => {
            let peer = peer.from.to_string();
            let opened = control.store.open_web_session(&who, &peer, control.settings.sign_in, now()).await?;
            let page = Page::new("You are signed in").line(who.user.to_string()).hop(attempt.to.clone());
            let mut response = page.answer(StatusCode::OK);
            response
                .headers_mut()
                .extend(site.set(Jar::Session, Some(&opened)).map(|cookie| (header::SET_COOKIE, cookie)));
            response
        }
        Err(trouble) => {
            if trouble.status != StatusCode::SERVICE_UNAVAILABLE {
                control.rates.failure(peer.from.ip())?;
            }
            control.refuse_sign_in(trouble, peer)
        }
    };
    if let Some(gone) = site.set(Jar::SignIn, None) {
        response.headers_mut().append(header::SET_COOKIE, gone);
    }
    Ok(response)
}

impl Control {
    async fn sign_in(&self, site: &Site, attempt: &Attempt, answer: Answer) -> Result<SignIn, Trouble> {
        let issuer = self.issuers.sign_in_issuer().unwrap_or_default();
        if answer.iss.as_deref().is_some_and(|iss| iss != issuer) {
            let told = "The answer is from another sign-in service than the one that was asked.";
            return Err(Trouble::new(StatusCode::BAD_REQUEST, "signin_issuer", told, "iss is another issuer's"));
        }
        if let Some(error) = answer.error {
            // A word of the issuer's, on its way into a page and the audit log.
            let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            let error: String = error.chars().filter(plain).take(60).collect();
            let told = match error.as_str() {
                "access_denied" => "You, or the sign-in service, did not allow it.",
                "temporarily_unavailable" | "server_error" => "The sign-in service has a fault. Try again later.",
                _ => "The sign-in service does not let this gateway ask. An admin finds out why by the reference.",
            };
            return Err(Trouble::new(StatusCode::FORBIDDEN, "signin_denied", told, error));
        }
        let Some(code) = answer.code else {
            let told = "The sign-in service sent no code.";
            return Err(Trouble::new(StatusCode::BAD_REQUEST, "signin_code", told, "no code, no error"));
        };
        let (code, verifier, nonce) = (Secret::new(code), attempt.verifier(), attempt.nonce());
        let redirect_uri = format!("{}{CALLBACK}", site.origin());
        let returned =
            Returned { code: &code, redirect_uri: &redirect_uri, verifier: &verifier, nonce: nonce.reveal() };
        let who = self.issuers.redeem(returned, now()).await?;
        let Some(refusal) = self.store.read(|directory| recognise_sign_in(&who, directory).err()) else {
            return Ok(who);
        };
        let waits = self.store.bootstrap_waits(now()).await.unwrap_or(false);
        if is_unknown(&refusal) && waits && attempt.to == "/bootstrap" {
            return Ok(who);
        }
        let told = refusal.to_string();
        Err(Trouble { who: Some(who), ..Trouble::new(StatusCode::FORBIDDEN, refusal.reason(), &told, "") })
    }

    fn refuse_sign_in(&self, trouble: Trouble, peer: Peer) -> Response {
        let reference = fresh_reference();
        let Trouble { status, reason, told, detail, who } = trouble;
        tracing::info!(reason, detail, %reference, from = %peer.from, "a sign-in at the console was refused");
        let mut event = AuditEvent::new(now(), "sign_in", "no");
        event.reason = Some(reason.into());
        event.reference = Some(reference);
        event.peer = Some(peer.from.to_string());
        event.issuer = who.as_ref().map(|who| who.issuer.clone());
        event.user = who.map(|who| who.user.to_string());
        event.detail = Some(detail).filter(|detail| !detail.is_empty());
        // Refused it is, told or not.
        let _ = self.store.audit(event);
        let page = Page::new("You are not signed in").line(told).reference(reference);
        page.link("/signin", "Sign in again").answer(status)
    }
}
