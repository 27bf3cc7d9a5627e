//! The few pages of signing in and out: a heading, sentences, links and forms, without a script. Whatever comes from elsewhere
//! is text.

use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};

use crate::admin::problem::{Problem, ProblemKind};
use crate::model::{Reference, Secret};

/// One page.
#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{% if let Some(to) = hop %}<meta http-equiv="refresh" content="0; url={{ to }}">
{% endif %}<title>{{ title }} - Portcullis</title>
</head>
<body>
<h1>{{ title }}</h1>
{% for line in lines %}<p>{{ line }}</p>
{% endfor %}{% if let Some(reference) = reference %}<p>Reference: {{ reference }}</p>
{% endif %}{% for form in forms %}<form method="post" action="{{ form.action }}">
<input type="hidden" name="csrf" value="{{ form.csrf.reveal() }}">
{% if let Some((name, label)) = form.field %}<p><label>{{ label }} <input type="password" name="{{ name }}" autocomplete="off" required{% if let Some(value) = form.filled %} value="{{ value.reveal() }}"{% endif %}></label></p>
{% endif %}<p><button>{{ form.button }}</button></p>
</form>
{% endfor %}{% for (to, words) in links %}<p><a href="{{ to }}">{{ words }}</a></p>
{% endfor %}</body>
</html>
"#
)]
#[derive(Default)]
pub(super) struct Page {
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    /// What an admin finds the audit row by.
    pub(super) reference: Option<Reference>,
    pub(super) forms: Vec<Form>,
    pub(super) links: Vec<(String, &'static str)>,
    /// Where the browser goes on to by itself.
    pub(super) hop: Option<String>,
}

/// One form with a button.
pub(super) struct Form {
    pub(super) action: &'static str,
    pub(super) csrf: Secret,
    /// A field for a secret: its name and label.
    pub(super) field: Option<(&'static str, &'static str)>,
    /// What stands in the field already.
    pub(super) filled: Option<Secret>,
    pub(super) button: &'static str,
}

impl Page {
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    #[must_use]
    pub(super) fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    #[must_use]
    pub(super) fn link(mut self, to: impl Into<String>, words: &'static str) -> Self {
        self.links.push((to.into(), words));
        self
    }

    #[must_use]
    pub(super) fn form(mut self, form: Form) -> Self {
        self.forms.push(form);
        self
    }

    /// Goes on to another place by itself. A browser then takes the way there as our own page's doing, so that the session's
    /// cookie goes with it, as it would not with a redirect from another site.
    #[must_use]
    pub(super) fn hop(mut self, to: impl Into<String>) -> Self {
        let to = to.into();
        self.links.push((to.clone(), "Go on"));
        self.hop = Some(to);
        self
    }

    #[must_use]
    pub(super) fn reference(mut self, reference: Reference) -> Self {
        self.reference = Some(reference);
        self
    }

    /// The same, for an address that the next page must not hear of. It has no form that could be sent.
    pub(super) fn without_referrer(self, status: StatusCode) -> Response {
        let mut response = self.answer(status);
        response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }

    pub(super) fn answer(self, status: StatusCode) -> Response {
        let Ok(text) = self.render() else {
            return Problem::new(ProblemKind::Fault, "the page could not be written").into_response();
        };
        let mut response = (status, Html(text)).into_response();
        let headers = response.headers_mut();
        let policy = "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        // With no-referrer browsers send `Origin: null` with forms, which is no origin of ours.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        response
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_is_text() {
        let page = Page::new("<script>").line("a & b <img src=x>").hop("https://id.example.com/?a=1&b=\"");
        let text = page.render().unwrap();
        assert!(!text.contains("<script") && !text.contains("<img"), "{text}");
        assert!(text.contains("content=\"0; url=https://id.example.com/?a=1&#38;b=&#34;\""), "{text}");
    }
}
