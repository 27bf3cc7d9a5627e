//! The page where the first admin enters the one-time secret, after signing in. The link that `serve` makes fills it in: its
//! secret goes into a cookie at once, so that no address, and no `Referer`, holds it from then on.

use std::sync::Arc;

use axum::{
    Form,
    extract::{
        Extension, Query, State,
        rejection::{FormRejection, QueryRejection},
    },
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    browser::{Jar, Site},
    html::{Form as HtmlForm, Page},
    session::{SignedIn, is_unknown},
};
use crate::admin::{
    Control, Peer,
    actor::now,
    problem::{Problem, ProblemKind},
};
use crate::model::Secret;
use crate::store::AccessError;

/// Longest secret that a link is taken to carry, in bytes; ours have 47.
const LONGEST: usize = 64;

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(show, enter))
}

fn form(signed_in: &SignedIn, filled: Option<Secret>) -> HtmlForm {
    HtmlForm {
        action: "/bootstrap",
        csrf: signed_in.csrf.clone(),
        field: Some(("secret", "Secret, from the link or from the file bootstrap-secret in data_dir:")),
        filled,
        button: "Become super admin",
    }
}

/// What the link carries.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Link {
    /// The secret. The answer keeps it in a cookie and goes on to the same page without it.
    secret: Option<String>,
}

/// Whether this can be a secret of ours: what else comes in a link is not put into a cookie.
fn is_whole(secret: &str) -> bool {
    let rest = secret.strip_prefix("pcb_").unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !rest.is_empty() && secret.len() <= LONGEST && rest.bytes().all(plain)
}

/// Enter the bootstrap secret
///
/// For a browser. While nobody administers yet, whoever signed in and has the secret becomes super admin.
#[utoipa::path(get, path = "/bootstrap", tag = "signin", security(()), params(Link), responses(
    (status = 200, body = str, content_type = "text/html", description = "The page"),
    (status = 303, description = "With a secret: to the page, which has it then"),
    (status = "default", body = str, content_type = "text/html", description = "A page that says what is wrong")))]
async fn show(
    State(control): State<Arc<Control>>,
    site: Site,
    headers: HeaderMap,
    link: Result<Query<Link>, QueryRejection>,
) -> Result<Response, Problem> {
    match link.map(|Query(link)| link.secret.map(Secret::new)) {
        Ok(None) => {}
        Ok(Some(secret)) if is_whole(secret.reveal()) => return Ok(keep(&site, &secret)),
        Ok(Some(_)) | Err(_) => {
            let page = Page::new("This link is not whole")
                .line("Open it as it was printed when Portcullis started, or as it stands in the file bootstrap-link in data_dir.");
            return Ok(page
                .link("/bootstrap", "Enter the secret by hand")
                .without_referrer(StatusCode::BAD_REQUEST));
        }
    }
    let page = Page::new("The first admin");
    if !control.store.bootstrap_waits(now()).await? {
        let page = page
            .line("No secret is waiting: somebody administers already, or the secret is older than 15 minutes.")
            .line("While nobody administers, each start of Portcullis makes a fresh link and secret.")
            .link("/", "To the start");
        return Ok(forget(&site, page.answer(StatusCode::OK)));
    }
    let page = match control.signed_in(&site, &headers).await? {
        Some(signed_in) => page
            .line(format!("You are signed in as {}.", signed_in.session.who.user))
            .line("Nobody administers yet. Whoever enters the secret becomes super admin.")
            .form(form(&signed_in, site.read(Jar::Bootstrap, &headers))),
        None if control.issuers.sign_in_issuer().is_none() => page
            .line("Sign-in is not set up: the config has no [http.signin].")
            .line("`portcullis bootstrap --secret-file FILE` exchanges the secret for an API token; FILE is bootstrap-secret in data_dir."),
        None => page
            .line("Nobody administers yet. Sign in first, then enter the secret.")
            .link("/signin?to=/bootstrap", "Sign in"),
    };
    Ok(page.answer(StatusCode::OK))
}

/// Takes the secret out of the address. It is not looked at yet, so a link tells nobody whether it is good.
fn keep(site: &Site, secret: &Secret) -> Response {
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, "/bootstrap")]).into_response();
    response
        .headers_mut()
        .extend(site.set(Jar::Bootstrap, Some(secret)).map(|cookie| (header::SET_COOKIE, cookie)));
    response
}

/// Takes the link's secret away from the browser.
fn forget(site: &Site, mut response: Response) -> Response {
    response.headers_mut().extend(site.set(Jar::Bootstrap, None).map(|cookie| (header::SET_COOKIE, cookie)));
    response
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
    if let Some(refusal) = signed_in.refusal.as_ref().filter(|refusal| !is_unknown(refusal)) {
        return Err(Problem::new(ProblemKind::Forbidden, refusal.to_string()));
    }
    // Before the secret is looked at, so that whoever guesses too often learns nothing by it.
    control.rates.failure(peer.from.ip())?;
    match control.store.bootstrap_admin(&Secret::new(secret.trim()), user, now()).await {
        Ok(()) => {
            let page = Page::new("You are super admin").line(format!("{user} administers from now on."));
            Ok(forget(&site, page.link("/", "To the start").answer(StatusCode::OK)))
        }
        Err(AccessError::Bootstrap) => {
            let page = Page::new("That secret is not good").line(AccessError::Bootstrap.to_string());
            Ok(forget(&site, page.form(form(&signed_in, None)).answer(StatusCode::FORBIDDEN)))
        }
        Err(other) => Err(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_carries_a_secret_of_our_shape_and_nothing_else() {
        let good = format!("pcb_{}", "aZ0-_".repeat(8));
        for (secret, whole) in [
            (good.as_str(), true),
            ("pcb_", false),
            ("", false),
            ("pct_abc", false),
            ("pcb_a b", false),
            ("pcb_a;Path=/", false),
            ("pcb_a\r\nSet-Cookie: x", false),
            ("pcb_\u{e9}", false),
            (&format!("pcb_{}", "a".repeat(LONGEST)), false),
        ] {
            assert_eq!(is_whole(secret), whole, "{secret:?}");
        }
    }
}
