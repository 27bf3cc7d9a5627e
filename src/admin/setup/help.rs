//! The page that a refusal's reference leads to. A stranger reads what each reply means, whatever the reference: whether it
//! exists shows nowhere. Whoever is signed in reads the exact cause of their own refusal.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{FromRequestParts, State},
    http::request::Parts,
    response::Response,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{advice::Advice, page::page, refusals::MyRefusal};
use crate::admin::{
    Actor, Control,
    extract::{Asked, Named},
    problem::Problem,
};
use crate::model::Reference;

/// Longest text that is looked at, in bytes: no reply is longer.
const LONGEST: usize = 2_048;

/// What somebody read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Said {
    /// The message, or a part of it.
    said: Option<String>,
}

/// What the page shows.
#[derive(Template)]
#[template(path = "help.html", config = "src/admin/setup/templates/askama.toml")]
struct HelpPage {
    /// What the form holds.
    said: String,
    reference: Option<Reference>,
    /// A reference stands in the path and is none.
    misspelt: bool,
    exact: Option<MyRefusal>,
    signed_in: bool,
    /// People can sign in here.
    can_sign_in: bool,
    found: Option<&'static Advice>,
    all: &'static [Advice],
}

/// Whoever asks, if they are somebody: by the same credentials as in the API.
pub(super) struct Viewer(Option<Actor>);

impl FromRequestParts<Arc<Control>> for Viewer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, control: &Arc<Control>) -> Result<Self, Self::Rejection> {
        Ok(Self(Actor::from_request_parts(parts, control).await.ok()))
    }
}

/// What a refusal means
#[utoipa::path(get, path = "/help", tag = "set-up help", security(()), params(Said), responses(
    (status = 200, description = "A page for people", body = str, content_type = "text/html"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
pub(super) async fn help(
    State(control): State<Arc<Control>>,
    viewer: Viewer,
    Asked(Said { said }): Asked<Said>,
) -> Result<Response, Problem> {
    let mut said = said.unwrap_or_default();
    said.truncate(said.floor_char_boundary(LONGEST));
    let reference = reference_in(&said);
    control.help(viewer, reference, said, false).await
}

/// What the refusal by this reference means
///
/// The same page for every reference, unless whoever asks is signed in and the refusal is theirs.
#[utoipa::path(get, path = "/help/ref/{reference}", tag = "set-up help", security(()),
    params(("reference" = String, Path, description = "Six letters and digits: `7F3K2Q`")), responses(
    (status = 200, description = "A page for people", body = str, content_type = "text/html"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
pub(super) async fn reference(
    State(control): State<Arc<Control>>,
    viewer: Viewer,
    Named(text): Named<String>,
) -> Result<Response, Problem> {
    let reference = Reference::parse(&text);
    control.help(viewer, reference, String::new(), reference.is_none()).await
}

impl Control {
    async fn help(
        &self,
        Viewer(viewer): Viewer,
        reference: Option<Reference>,
        said: String,
        misspelt: bool,
    ) -> Result<Response, Problem> {
        let exact = match (&viewer, reference) {
            (Some(actor), Some(reference)) => self.refusal(actor, reference).await?,
            _ => None,
        };
        let found = Advice::by_text(&said);
        let (signed_in, can_sign_in) = (viewer.is_some(), self.issuers.sign_in_issuer().is_some());
        page(&HelpPage { said, reference, misspelt, exact, signed_in, can_sign_in, found, all: Advice::ALL })
    }
}

/// The word after `ref`, as replies write it: `(ref 7F3K2Q)`.
fn reference_in(text: &str) -> Option<Reference> {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let after = words.windows(2).find_map(|pair| match pair {
        [before, word] if before.eq_ignore_ascii_case("ref") => Reference::parse(word),
        _ => None,
    });
    // Or nothing but the reference.
    after.or_else(|| match words.as_slice() {
        [only] => Reference::parse(only),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_found_in_what_people_paste() {
        for (text, found) in [
            ("7F3K2Q", Some("7F3K2Q")),
            (" 7f3k2q ", Some("7F3K2Q")),
            ("ref 7F3K2Q", Some("7F3K2Q")),
            (
                "NO [CONTACTADMIN] IMAP access is disabled. (ref 7F3K2Q) See https://x/help/ref/7F3K2Q",
                Some("7F3K2Q"),
            ),
            ("https://mail.example.com/help/ref/7F3K2Q", Some("7F3K2Q")),
            ("ref: 7F3K2Q", Some("7F3K2Q")),
            ("ref 7F3K2", None),
            ("access denied here", None),
            ("", None),
        ] {
            assert_eq!(reference_in(text).map(|reference| reference.to_string()).as_deref(), found, "{text:?}");
        }
    }
}
