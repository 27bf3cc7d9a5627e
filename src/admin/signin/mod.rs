//! Signing in at the console with the organisation's own issuer, signing out, and the page that says who is signed in. The
//! resources under `/api/v1` then take the session's cookie in place of a token.

mod bootstrap;
mod browser;
mod callback;
mod html;
mod session;

use std::sync::Arc;

use axum::{
    Form,
    extract::{
        Query, State,
        rejection::{FormRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use session::watch_sign_ins;

use self::{
    browser::{Jar, Site, derived},
    html::{Form as HtmlForm, Page},
};
use super::{
    Control,
    actor::now,
    problem::{Problem, ProblemKind},
};
use crate::gate::fresh_reference;
use crate::issuer::{Question, SignInError};
use crate::model::Secret;

/// Where the issuer sends people back to.
const CALLBACK: &str = "/signin/callback";
/// Longest place to go on to after a sign-in, in bytes.
const LONGEST_PLACE: usize = 512;

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new()
        .routes(routes!(home))
        .routes(routes!(begin))
        .merge(callback::routes())
        .routes(routes!(sign_out))
        .merge(bootstrap::routes())
}

/// Who is signed in
///
/// For a browser.
#[utoipa::path(get, path = "/", tag = "signin", security(()), responses(
    (status = 200, body = str, content_type = "text/html", description = "The page")))]
async fn home(State(control): State<Arc<Control>>, site: Site, headers: HeaderMap) -> Result<Response, Problem> {
    let page = match control.signed_in(&site, &headers).await? {
        Some(signed_in) => {
            let user = &signed_in.session.who.user;
            let page = Page::new("You are signed in").line(user.to_string());
            let page = match &signed_in.refusal {
                Some(refusal) => page.line(refusal.to_string()),
                None => page.line(format!("Role: {}", control.store.role_of(user).await?)),
            };
            page.form(HtmlForm {
                action: "/signout",
                csrf: signed_in.csrf,
                field: None,
                filled: None,
                button: "Sign out",
            })
        }
        None => match control.issuers.sign_in_issuer() {
            Some(issuer) => Page::new("You are not signed in")
                .line(format!("People of this organisation sign in with {issuer}."))
                .link("/signin", "Sign in"),
            None => Page::new("Portcullis").line("Sign-in is not set up: the config has no [http.signin]."),
        },
    };
    let page = page.link("/setup", "Set up a mail program").link("/help", "Why was I refused?");
    Ok(page.link("/api/v1/openapi.json", "What the API can do").answer(StatusCode::OK))
}

/// Where to go on to.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Onward {
    /// A path of this server to go on to afterwards.
    to: Option<String>,
}

/// A path of ours and no other site's address in disguise.
fn is_ours(to: &str) -> bool {
    let rest = to.strip_prefix('/');
    to.len() <= LONGEST_PLACE
        && rest.is_some_and(|rest| !rest.starts_with(['/', '\\']))
        && to.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'<' && b != b'>')
}

/// Sign in
///
/// For a browser: sends it to the organisation's issuer, by authorization code with PKCE.
#[utoipa::path(get, path = "/signin", tag = "signin", security(()), params(Onward), responses(
    (status = 303, description = "To the issuer"),
    (status = "default", body = str, content_type = "text/html", description = "A page that says what is wrong")))]
async fn begin(
    State(control): State<Arc<Control>>,
    site: Site,
    headers: HeaderMap,
    onward: Result<Query<Onward>, QueryRejection>,
) -> Result<Response, Problem> {
    let to = onward.ok().and_then(|Query(onward)| onward.to).filter(|to| is_ours(to)).unwrap_or_else(|| "/".into());
    let attempt = Attempt::fresh(&to)?;
    let redirect_uri = format!("{}{CALLBACK}", site.origin());
    let (state, nonce, challenge) = (attempt.state(), attempt.nonce(), attempt.challenge());
    let question = Question {
        redirect_uri: &redirect_uri,
        state: state.reveal(),
        nonce: nonce.reveal(),
        challenge: &challenge,
    };
    let url = match control.issuers.sign_in_address(question, now()).await {
        Ok(url) => url,
        Err(error) => return Ok(not_begun(&error)),
    };
    // The cookie of the session that is to come takes the place of this one's. Not where another site's page asks.
    let says = |name: &str, words: &[&str]| {
        headers.get(name).is_none_or(|value| value.to_str().is_ok_and(|value| words.contains(&value)))
    };
    if says("sec-fetch-site", &["same-origin", "none"])
        && says("sec-fetch-mode", &["navigate"])
        && let Some(before) = control.signed_in(&site, &headers).await?
    {
        control.store.end_web_sessions(&[(before.session, "signed_in_again")], now()).await?;
    }
    let place = HeaderValue::try_from(String::from(url));
    let place = place.map_err(|_| Problem::new(ProblemKind::Fault, "the issuer's address cannot be sent"))?;
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response();
    if let Some(cookie) = site.set(Jar::SignIn, Some(&attempt.cookie())) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

fn not_begun(error: &SignInError) -> Response {
    if matches!(error, SignInError::NotSetUp) {
        let page = Page::new("Sign-in is not set up").line("The config has no [http.signin].");
        return page.link("/", "To the start").answer(StatusCode::NOT_FOUND);
    }
    let reference = fresh_reference();
    tracing::warn!(%error, %reference, "nobody can sign in at the console");
    let page = Page::new("Nobody can sign in now")
        .line("The organisation's sign-in service does not answer as it should.");
    page.reference(reference).link("/signin", "Try again").answer(StatusCode::SERVICE_UNAVAILABLE)
}

/// One sign-in under way: a secret that the browser keeps, of which everything else is made.
struct Attempt {
    secret: Secret,
    to: String,
}

impl Attempt {
    fn fresh(to: &str) -> Result<Self, Problem> {
        let mut bytes = [0; 32];
        let random = aws_lc_rs::rand::fill(&mut bytes);
        random.map_err(|_| Problem::new(ProblemKind::Fault, "no random bytes from the system"))?;
        Ok(Self { secret: Secret::new(URL_SAFE_NO_PAD.encode(bytes)), to: to.to_owned() })
    }

    /// From the browser's cookie.
    fn read(cookie: &Secret) -> Option<Self> {
        let (secret, to) = cookie.reveal().split_once('.')?;
        let to = String::from_utf8(URL_SAFE_NO_PAD.decode(to).ok()?).ok()?;
        (secret.len() == 43 && is_ours(&to)).then(|| Self { secret: Secret::new(secret), to })
    }

    fn cookie(&self) -> Secret {
        Secret::new(format!("{}.{}", self.secret.reveal(), URL_SAFE_NO_PAD.encode(&self.to)))
    }

    fn state(&self) -> Secret {
        derived(&self.secret, "state")
    }

    fn nonce(&self) -> Secret {
        derived(&self.secret, "nonce")
    }

    /// RFC 7636 section 4.1: 43 characters of base64url.
    fn verifier(&self) -> Secret {
        derived(&self.secret, "verifier")
    }

    fn challenge(&self) -> String {
        challenge(&self.verifier())
    }
}

/// RFC 7636 section 4.2, `S256`.
fn challenge(verifier: &Secret) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.reveal().as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

/// What the form sends.
#[derive(Deserialize, ToSchema)]
struct Leaving {
    /// The token of the session.
    csrf: String,
}

/// Sign out
///
/// For a browser: ends the session here, then goes on to the issuer's own sign-out where it has one.
#[utoipa::path(post, path = "/signout", tag = "signin", security(()),
    request_body(content = Leaving, content_type = "application/x-www-form-urlencoded"), responses(
    (status = 200, body = str, content_type = "text/html", description = "Signed out"),
    (status = "default", body = str, content_type = "text/html", description = "A page that says what is wrong")))]
async fn sign_out(
    State(control): State<Arc<Control>>,
    site: Site,
    headers: HeaderMap,
    form: Result<Form<Leaving>, FormRejection>,
) -> Result<Response, Problem> {
    let page = Page::new("You are signed out");
    let Some(signed_in) = control.signed_in(&site, &headers).await? else {
        return Ok(page.link("/", "To the start").answer(StatusCode::OK));
    };
    let given = form.ok().map(|Form(leaving)| leaving.csrf);
    site.refuse_foreign(&Method::POST, &headers, &signed_in.csrf, given.as_deref())?;
    control.store.end_web_sessions(&[(signed_in.session, "signed_out")], now()).await?;
    let back = format!("{}/", site.origin());
    // By a page, not by a redirect: browsers hold a form's redirects to `form-action` too.
    let onward = control.issuers.sign_out_address(&back, now()).await.map_or_else(|| "/".to_owned(), String::from);
    let mut response = page.hop(onward).answer(StatusCode::OK);
    if let Some(cookie) = site.set(Jar::Session, None) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_sign_in_goes_on_to_paths_of_ours_alone() {
        for (to, ours) in [
            ("/", true),
            ("/bootstrap", true),
            ("/console/units?path=%2FSales", true),
            ("//evil.example.org", false),
            ("/\\evil.example.org", false),
            ("https://evil.example.org/", false),
            ("javascript:alert(1)", false),
            ("/a b", false),
            ("/a\r\nSet-Cookie: x", false),
            ("", false),
        ] {
            assert_eq!(is_ours(to), ours, "{to:?}");
        }
        assert!(!is_ours(&format!("/{}", "a".repeat(LONGEST_PLACE))));
    }

    #[test]
    fn an_attempt_comes_back_out_of_its_cookie_and_nothing_else_does() {
        let attempt = Attempt::fresh("/bootstrap").unwrap();
        let back = Attempt::read(&attempt.cookie()).unwrap();
        assert_eq!(
            (back.to.as_str(), back.state(), back.challenge()),
            ("/bootstrap", attempt.state(), attempt.challenge())
        );
        let onward = URL_SAFE_NO_PAD.encode("//evil.example.org");
        for wrong in ["", ".", "abc", &format!("{}.{onward}", attempt.secret.reveal()), &format!("short.{onward}")]
        {
            assert!(Attempt::read(&Secret::new(wrong)).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_challenge_is_the_hash_of_the_verifier() {
        // RFC 7636 appendix B.
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(challenge(&verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
