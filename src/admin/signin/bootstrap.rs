//! The page where the first admin enters the one-time secret, after signing in.

use std::sync::Arc;

use axum::{
    Form,
    extract::{Extension, State, rejection::FormRejection},
    http::{HeaderMap, Method, StatusCode},
    response::Response,
};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    browser::Site,
    html::{Form as HtmlForm, Page},
    session::SignedIn,
};
use crate::admin::{Control, Peer, actor::now, problem::Problem};
use crate::model::Secret;
use crate::store::AccessError;

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(show, enter))
}

fn form(signed_in: &SignedIn) -> HtmlForm {
    HtmlForm {
        action: "/bootstrap",
        csrf: signed_in.csrf.clone(),
        field: Some(("secret", "Secret, from the file bootstrap-secret in data_dir:")),
        button: "Become super admin",
    }
}

/// Enter the bootstrap secret
///
/// For a browser. While nobody administers yet, whoever signed in and has the secret becomes super admin.
#[utoipa::path(get, path = "/bootstrap", tag = "signin", security(()), responses(
    (status = 200, body = str, content_type = "text/html", description = "The page")))]
async fn show(State(control): State<Arc<Control>>, site: Site, headers: HeaderMap) -> Result<Response, Problem> {
    let page = Page::new("The first admin");
    if !control.store.bootstrap_waits(now()).await? {
        let page = page
            .line("No secret is waiting: somebody administers already, or the secret is older than 15 minutes.")
            .line("While nobody administers, each start of Portcullis writes a fresh secret.")
            .link("/", "To the start");
        return Ok(page.answer(StatusCode::OK));
    }
    let page = match control.signed_in(&site, &headers).await? {
        Some(signed_in) => page
            .line(format!("You are signed in as {}.", signed_in.session.who.user))
            .line("Nobody administers yet. Whoever enters the secret becomes super admin.")
            .form(form(&signed_in)),
        None if control.issuers.sign_in_issuer().is_none() => page
            .line("Sign-in is not set up: the config has no [http.signin].")
            .line("`portcullis bootstrap --secret-file FILE` exchanges the secret for an API token."),
        None => page
            .line("Nobody administers yet. Sign in first, then enter the secret.")
            .link("/signin?to=/bootstrap", "Sign in"),
    };
    Ok(page.answer(StatusCode::OK))
}

/// What the form sends.
#[derive(Deserialize, ToSchema)]
struct Entered {
    /// The token of the session.
    csrf: String,
    /// The secret.
    secret: String,
}

/// Become super admin
#[utoipa::path(post, path = "/bootstrap", tag = "signin", security(()),
    request_body(content = Entered, content_type = "application/x-www-form-urlencoded"), responses(
    (status = 200, body = str, content_type = "text/html", description = "You are super admin"),
    (status = "default", body = str, content_type = "text/html", description = "A page that says what is wrong")))]
async fn enter(
    State(control): State<Arc<Control>>,
    Extension(peer): Extension<Peer>,
    site: Site,
    headers: HeaderMap,
    entered: Result<Form<Entered>, FormRejection>,
) -> Result<Response, Problem> {
    let Some(signed_in) = control.signed_in(&site, &headers).await? else {
        let page = Page::new("You are not signed in").link("/signin?to=/bootstrap", "Sign in");
        return Ok(page.answer(StatusCode::UNAUTHORIZED));
    };
    let Ok(Form(Entered { csrf, secret })) = entered else {
        let page = Page::new("The form did not arrive whole").link("/bootstrap", "Back");
        return Ok(page.answer(StatusCode::BAD_REQUEST));
    };
    site.refuse_foreign(&Method::POST, &headers, &signed_in.csrf, Some(&csrf))?;
    let user = &signed_in.session.who.user;
    match control.store.bootstrap_admin(&Secret::new(secret.trim()), user, now()).await {
        Ok(()) => {
            let page = Page::new("You are super admin").line(format!("{user} administers from now on."));
            Ok(page.link("/", "To the start").answer(StatusCode::OK))
        }
        Err(AccessError::Bootstrap) => {
            control.rates.failure(peer.from.ip())?;
            let page = Page::new("That secret is not good").line(AccessError::Bootstrap.to_string());
            Ok(page.form(form(&signed_in)).answer(StatusCode::FORBIDDEN))
        }
        Err(other) => Err(other.into()),
    }
}
