//! Mozilla autoconfig: the settings of a mail account as a file that many mail programs look for, by the domain of the
//! address. Source: draft-ietf-mailmaint-autoconfig; what Thunderbird 153 reads of it is in its `readFromXML`.
//!
//! The answer is one for all addresses of a domain, so that it tells nobody which of them exist.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    page::rendered,
    settings::{MailServer, SetupSettings, Smtp, SmtpSignIn},
};
use crate::admin::{
    Control,
    extract::Asked,
    problem::{Problem, ProblemKind},
};
use crate::issuer::Endpoints;

/// Longest domain name (RFC 1035 section 2.3.4).
const LONGEST: usize = 253;

/// Whose settings.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// The address; only its domain matters.
    emailaddress: Option<String>,
}

/// The file.
#[derive(Template)]
#[template(path = "autoconfig.xml", config = "src/admin/setup/templates/askama.toml")]
struct File<'a> {
    id: &'a str,
    name: String,
    domains: Vec<String>,
    incoming: Vec<Incoming<'a>>,
    smtp: Option<&'a Smtp>,
    documentation: Option<String>,
    oauth: Vec<OAuth<'a>>,
}

struct Incoming<'a> {
    kind: &'static str,
    at: &'a MailServer,
}

struct OAuth<'a> {
    issuer: &'a str,
    scope: String,
    authorization: String,
    token: String,
}

impl Smtp {
    fn socket_type(&self) -> &'static str {
        if self.server.port == 465 { "SSL" } else { "STARTTLS" }
    }

    fn authentication(&self) -> &'static str {
        match self.sign_in {
            SmtpSignIn::OAuth => "OAuth2",
            SmtpSignIn::Password => "password-cleartext",
            SmtpSignIn::Nothing => "none",
        }
    }
}

/// The settings of a mail account (autoconfig)
#[utoipa::path(get, path = "/mail/config-v1.1.xml", tag = "set-up help", security(()), params(Whose), responses(
    (status = 200, description = "For every address of the domain alike", body = str, content_type = "text/xml"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
pub(super) async fn at_autoconfig_host(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    Asked(whose): Asked<Whose>,
) -> Result<Response, Problem> {
    control.autoconfig(&headers, &whose).await
}

/// The same, where a domain's own web server sends those who ask it
#[utoipa::path(get, path = "/.well-known/autoconfig/mail/config-v1.1.xml", tag = "set-up help", security(()),
    params(Whose), responses(
    (status = 200, description = "For every address of the domain alike", body = str, content_type = "text/xml"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
pub(super) async fn at_well_known(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    Asked(whose): Asked<Whose>,
) -> Result<Response, Problem> {
    control.autoconfig(&headers, &whose).await
}

/// The same, at the address of the newest drafts of autoconfig
#[utoipa::path(get, path = "/.well-known/mail-v1.xml", tag = "set-up help", security(()), params(Whose), responses(
    (status = 200, description = "For every address of the domain alike", body = str, content_type = "text/xml"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
pub(super) async fn at_newest_address(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    Asked(whose): Asked<Whose>,
) -> Result<Response, Problem> {
    control.autoconfig(&headers, &whose).await
}

impl Control {
    async fn autoconfig(&self, headers: &HeaderMap, whose: &Whose) -> Result<Response, Problem> {
        let setup = &self.settings.setup;
        let domains = self.domains(headers, whose)?;
        let id = self.settings.hosts.first().map_or("", String::as_str);
        let incoming = [("imap", &setup.imaps), ("pop3", &setup.pop3s)];
        let incoming = incoming.into_iter().filter_map(|(kind, at)| Some(Incoming { kind, at: at.as_ref()? }));
        let file = File {
            id,
            name: format!("Mail at {id}"),
            domains,
            incoming: incoming.collect(),
            smtp: setup.smtp.as_ref(),
            documentation: setup.public_url.as_ref().map(|url| format!("{url}/setup")),
            oauth: self.sign_ins(setup).await,
        };
        Ok(([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], rendered(&file)?).into_response())
    }

    /// The domain that is asked for, if we serve it; without one, that of the host asked, or all that the config names.
    fn domains(&self, headers: &HeaderMap, whose: &Whose) -> Result<Vec<String>, Problem> {
        if let Some(address) = &whose.emailaddress {
            let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain).trim().to_ascii_lowercase();
            if domain.len() <= LONGEST && self.serves(&domain) {
                return Ok(vec![domain]);
            }
            return Err(no_such_domain());
        }
        let named = &self.settings.setup.domains;
        if !named.is_empty() {
            return Ok(named.clone());
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let domain = host.strip_prefix("autoconfig.").unwrap_or(&host);
        if self.serves(domain) { Ok(vec![domain.to_owned()]) } else { Err(no_such_domain()) }
    }

    fn serves(&self, domain: &str) -> bool {
        let named = &self.settings.setup.domains;
        if named.is_empty() {
            return self.store.read(|directory| directory.has_domain(domain));
        }
        named.iter().any(|own| own == domain)
    }

    /// Where people sign in, of the issuers of which that is known. One that does not answer is left out: the rest of the
    /// file is good without it.
    async fn sign_ins<'a>(&self, setup: &'a SetupSettings) -> Vec<OAuth<'a>> {
        let mut known = Vec::new();
        for add_on in &setup.add_ons {
            if let Ok(Endpoints { authorization, token, .. }) = self.endpoints(add_on).await {
                known.push(OAuth { issuer: &add_on.issuer, scope: add_on.scopes.join(" "), authorization, token });
            }
        }
        known
    }
}

fn no_such_domain() -> Problem {
    Problem::new(ProblemKind::NotFound, "ask with ?emailaddress=; mail of that domain is not served here")
}
