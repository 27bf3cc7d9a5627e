//! Where issuers send identity events: security event tokens by push (RFC 8935) and logout tokens (OpenID Connect
//! Back-Channel Logout 1.0). Both prove themselves by their signature; no other token is asked for.

use std::sync::Arc;

use axum::{
    Form as FormBody, Json,
    body::Bytes,
    extract::{Extension, State, rejection::FormRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Control, Peer,
    actor::now,
    extract::Named,
    problem::{Problem, ProblemKind},
};
use crate::gate::{EventError, Heard};
use crate::model::Secret;
use crate::token::Form;

/// How long a sender waits who came when we could not take anything in, in seconds.
const COME_AGAIN_S: u64 = 30;
/// The media type of a pushed security event token. Source: RFC 8417 section 7.1.
const SECEVENT: &str = "application/secevent+jwt";

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(push)).routes(routes!(log_out))
}

/// Why a pushed event was not taken (RFC 8935 section 2.3).
#[derive(Debug, Serialize, ToSchema)]
struct PushError {
    /// `invalid_request`, `invalid_key`, `invalid_issuer`, `invalid_audience`, `authentication_failed`.
    err: &'static str,
    /// The same for people.
    description: String,
}

/// Why a logout token was not taken (OpenID Connect Back-Channel Logout 1.0 section 2.8).
#[derive(Debug, Serialize, ToSchema)]
struct LogoutError {
    /// `invalid_request`.
    error: &'static str,
    /// The same for people.
    error_description: String,
}

/// The form that a logout token comes in.
#[derive(Deserialize, ToSchema)]
struct LogoutForm {
    /// The logout token.
    logout_token: String,
}

/// Push an identity event
///
/// OpenID Shared Signals: CAEP `session-revoked` and `credential-change`; RISC `account-disabled`, `account-enabled`,
/// `account-purged` and `sessions-revoked`; the verification event. What they name is out when the answer comes; other
/// events are taken and nothing comes of them. The same event again is no error.
#[utoipa::path(post, path = "/events/{issuer}", tag = "events", security(()),
    params(("issuer" = String, Path, description = "The issuer that signed it: its host, or its address with every / as %2F")),
    request_body(content = String, content_type = "application/secevent+jwt", description = "A security event token (RFC 8417)"),
    responses(
        (status = 202, description = "It is taken, and done"),
        (status = 400, description = "It is not believed, or is not an event", body = PushError),
        (status = 404, description = "No such issuer is configured", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: send it again", body = Problem, content_type = "application/problem+json")))]
async fn push(
    State(control): State<Arc<Control>>,
    Extension(peer): Extension<Peer>,
    Named(issuer): Named<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let Some(from) = control.issuers.named(&issuer) else {
        let detail = "the path names no issuer of [[issuer]]: write its host, or its address with every / as %2F";
        return Err(Problem::new(ProblemKind::NotFound, detail));
    };
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let refused = |err, description: String| {
        let language = [(header::CONTENT_LANGUAGE, "en")];
        (StatusCode::BAD_REQUEST, language, Json(PushError { err, description })).into_response()
    };
    if !media_type.eq_ignore_ascii_case(SECEVENT) {
        return Ok(refused("invalid_request", format!("send it with `Content-Type: {SECEVENT}`")));
    }
    let Ok(token) = std::str::from_utf8(&body) else {
        return Ok(refused("invalid_request", "the body is no security event token: it is not text".into()));
    };
    match control.hear(peer, Form::SecurityEvent, Some(from), token.trim()).await? {
        Ok(_) => Ok(StatusCode::ACCEPTED.into_response()),
        Err(error) => Ok(refused(error.code(), error.told())),
    }
}

/// Log out by an issuer's word
///
/// OpenID Connect Back-Channel Logout: set this address as `backchannel_logout_uri` of the client whose users read mail, and
/// its client ID in `event_audience`. The sessions of the sign-in that `sid` names end, or, without it, all of `sub`.
#[utoipa::path(post, path = "/backchannel-logout", tag = "events", security(()),
    request_body(content = LogoutForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "It is taken, and done"),
        (status = 400, description = "It is not believed, or is not a logout token", body = LogoutError),
        (status = 503, description = "Not now: send it again", body = Problem, content_type = "application/problem+json")))]
async fn log_out(
    State(control): State<Arc<Control>>,
    Extension(peer): Extension<Peer>,
    form: Result<FormBody<LogoutForm>, FormRejection>,
) -> Result<Response, Problem> {
    let refused = |error_description: String| {
        let body = LogoutError { error: "invalid_request", error_description };
        (StatusCode::BAD_REQUEST, Json(body)).into_response()
    };
    let Ok(FormBody(LogoutForm { logout_token })) = form else {
        return Ok(refused("send a form with logout_token=.., and nothing of that name twice".into()));
    };
    match control.hear(peer, Form::Logout, None, &logout_token).await? {
        Ok(_) => Ok(StatusCode::OK.into_response()),
        Err(error) => Ok(refused(error.told())),
    }
}

impl Control {
    /// The inner error is the sender's to mend.
    async fn hear(
        &self,
        peer: Peer,
        form: Form,
        from: Option<&str>,
        token: &str,
    ) -> Result<Result<Heard, EventError>, Problem> {
        match self.gate.hear(form, from, &Secret::new(token), now()).await {
            Err(error) if error.is_temporary() => {
                // What exactly is amiss is in the log, and nobody else's business.
                let detail = "the event cannot be taken in now: send it again later";
                Err(Problem::new(ProblemKind::Unavailable, detail).retry_after(COME_AGAIN_S))
            }
            Err(error) => {
                self.rates.failure(peer.from.ip())?;
                Ok(Err(error))
            }
            heard => Ok(heard),
        }
    }
}
