//! The Thunderbird add-on: one manifest key, `oauth_provider`, that tells Thunderbird (140 and later) where the people of an
//! issuer sign in. Source: Thunderbird's schema `oauth_provider.json` and `OAuth2Providers.sys.mjs`, versions 140 and 153.
//!
//! The file is the same, byte for byte, wherever and whenever it is made of the same settings; its version is the database's.

use std::{
    io::{Cursor, Write},
    sync::Arc,
};

use aws_lc_rs::digest;
use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{PartialSchema, ToSchema, openapi};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use super::settings::{AddOn, SetupSettings};
use crate::admin::{
    Control,
    actor::now,
    extract::Named,
    problem::{Problem, ProblemKind},
};
use crate::issuer::{Endpoints, FetchError, Issuers};

/// The first Thunderbird that knows the key.
const SINCE: &str = "140.0";
/// The media type at which Thunderbird offers to install what it gets.
const XPI: &str = "application/x-xpinstall";

/// Why there is no add-on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddOnError {
    /// The issuer does not say where its people sign in.
    #[error("{0}; or write authorization_endpoint and token_endpoint in [setup.thunderbird]")]
    Endpoints(#[from] FetchError),
    /// Thunderbird would take the sign-in page for the end of the sign-in.
    #[error(
        "setup.thunderbird.redirect = {redirect:?} is the beginning of the sign-in page {authorization}: choose another \
         one, and make it known to the issuer"
    )]
    Redirect {
        /// What is set.
        redirect: String,
        /// Where people sign in.
        authorization: String,
    },
    /// Neither protocol is on, so there is no server to sign in to.
    #[error("there is no mail server to sign in to: listen.imaps and listen.pop3s are off")]
    NoServer,
    /// The file cannot be put together.
    #[error("the add-on cannot be packed: {0}")]
    Packing(String),
}

/// An add-on whose content is decided and whose version is not.
#[derive(Clone, Debug)]
pub struct Unnumbered(Manifest);

/// `manifest.json`.
#[derive(Clone, Debug, Serialize)]
struct Manifest {
    manifest_version: u8,
    name: String,
    version: String,
    description: String,
    browser_specific_settings: Settings,
    oauth_provider: Provider,
}

#[derive(Clone, Debug, Serialize)]
struct Settings {
    gecko: Gecko,
}

#[derive(Clone, Debug, Serialize)]
struct Gecko {
    id: String,
    strict_min_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_url: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Provider {
    /// Not the issuer's name: Thunderbird takes each name once, its own providers' included, and two mail servers may share
    /// an issuer.
    issuer: String,
    client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    /// RFC 9207: an answer from elsewhere is not taken for this issuer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer_identifier: Option<String>,
    authorization_endpoint: String,
    token_endpoint: String,
    redirection_endpoint: String,
    #[serde(rename = "usePKCE")]
    use_pkce: bool,
    hostnames: Vec<String>,
    scopes: String,
}

/// An add-on, ready to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its id: the same for the same mail server and issuer.
    pub id: String,
    /// Its version, as Thunderbird reads it.
    pub version: String,
    /// The file.
    pub xpi: Vec<u8>,
}

/// Decides the content of the add-on that stands at `index`; asks the issuer for what the settings leave to it.
pub async fn prepare(setup: &SetupSettings, index: usize, issuers: &Issuers) -> Result<Unnumbered, AddOnError> {
    let add_on = setup.add_ons.get(index).ok_or(AddOnError::NoServer)?;
    Unnumbered::new(setup, index, add_on, &endpoints(add_on, issuers).await?)
}

/// As the config says, else as the issuer does.
async fn endpoints(add_on: &AddOn, issuers: &Issuers) -> Result<Endpoints, FetchError> {
    match (&add_on.authorization_endpoint, &add_on.token_endpoint) {
        (Some(authorization), Some(token)) => {
            let (authorization, token) = (authorization.clone(), token.clone());
            Ok(Endpoints { authorization, token, ..Endpoints::default() })
        }
        _ => issuers.endpoints(&add_on.issuer, now()).await,
    }
}

impl Unnumbered {
    fn new(setup: &SetupSettings, index: usize, add_on: &AddOn, endpoints: &Endpoints) -> Result<Self, AddOnError> {
        let hosts = setup.hosts();
        let host = *hosts.first().ok_or(AddOnError::NoServer)?;
        // Thunderbird looks at the beginning of each address that its window goes to.
        if endpoints.authorization.starts_with(&add_on.redirect) {
            let (redirect, authorization) = (add_on.redirect.clone(), endpoints.authorization.clone());
            return Err(AddOnError::Redirect { redirect, authorization });
        }
        let id = format!("portcullis-{}@{host}", short(&hash(add_on.issuer.as_bytes())));
        let provider = Provider {
            issuer: host.to_owned(),
            client_id: add_on.client_id.to_string(),
            client_secret: add_on.client_secret.clone(),
            issuer_identifier: endpoints.names_itself.then(|| add_on.issuer.clone()),
            authorization_endpoint: endpoints.authorization.clone(),
            token_endpoint: endpoints.token.clone(),
            redirection_endpoint: add_on.redirect.clone(),
            use_pkce: add_on.pkce,
            hostnames: hosts.iter().map(ToString::to_string).collect(),
            scopes: add_on.scopes.join(" "),
        };
        // Updates are looked for over https alone.
        let public_url = setup.public_url.as_ref().filter(|url| url.starts_with("https://"));
        let update_url = public_url.map(|url| format!("{url}/setup/thunderbird/{}.json", index + 1));
        Ok(Self(Manifest {
            manifest_version: 3,
            name: add_on.name.clone(),
            version: String::new(),
            description: format!("Lets Thunderbird sign in to mail at {host} through {}.", add_on.issuer),
            browser_specific_settings: Settings { gecko: Gecko { id, strict_min_version: SINCE, update_url } },
            oauth_provider: provider,
        }))
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.0.browser_specific_settings.gecko.id
    }

    /// What tells one content from another: its SHA-256.
    pub fn digest(&self) -> Result<String, AddOnError> {
        Ok(hash(&self.text()?))
    }

    /// The add-on with this number of its content.
    pub fn numbered(mut self, number: i64) -> Result<Package, AddOnError> {
        let (id, version) = (self.id().to_owned(), format!("1.{number}"));
        self.0.version.clone_from(&version);
        let xpi = pack("manifest.json", &self.text()?).map_err(|error| AddOnError::Packing(error.to_string()))?;
        Ok(Package { id, version, xpi })
    }

    fn text(&self) -> Result<Vec<u8>, AddOnError> {
        serde_json::to_vec_pretty(&self.0).map_err(|error| AddOnError::Packing(error.to_string()))
    }
}

/// A zip file with one file in it, without the time of day.
fn pack(name: &str, content: &[u8]) -> zip::result::ZipResult<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(name, options)?;
    zip.write_all(content)?;
    Ok(zip.finish()?.into_inner())
}

/// SHA-256, as hexadecimal digits.
fn hash(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

impl Control {
    pub(super) async fn endpoints(&self, add_on: &AddOn) -> Result<Endpoints, FetchError> {
        endpoints(add_on, &self.issuers).await
    }

    async fn package(&self, index: usize) -> Result<Package, Problem> {
        let setup = &self.settings.setup;
        if setup.add_ons.get(index).is_none() {
            return Err(Problem::new(
                ProblemKind::NotFound,
                "there is no such add-on; an operator sets one up with [setup.thunderbird] in the config file",
            ));
        }
        let unnumbered = prepare(setup, index, &self.issuers).await?;
        let number = self.store.add_on_version(unnumbered.id(), &unnumbered.digest()?).await?;
        Ok(unnumbered.numbered(number)?)
    }
}

impl From<AddOnError> for Problem {
    fn from(error: AddOnError) -> Self {
        tracing::warn!(%error, "there is no Thunderbird add-on");
        match error {
            // Strangers read this: not what our network is like.
            AddOnError::Endpoints(_) => {
                Self::new(ProblemKind::Unavailable, "the issuer does not say where to sign in; try again later")
                    .retry_after(30)
            }
            _ => Self::new(
                ProblemKind::Fault,
                "the add-on is not set up right; the gateway's log tells what is wrong",
            ),
        }
    }
}

/// The file, for the API's description.
pub(super) struct File;

impl PartialSchema for File {
    fn schema() -> openapi::RefOr<openapi::Schema> {
        let binary = openapi::SchemaFormat::KnownFormat(openapi::KnownFormat::Binary);
        openapi::ObjectBuilder::new().schema_type(openapi::schema::Type::String).format(Some(binary)).into()
    }
}

impl ToSchema for File {}

/// The Thunderbird add-on
#[utoipa::path(get, path = "/setup/thunderbird.xpi", tag = "set-up help", security(()), responses(
    (status = 200, description = "A file that Thunderbird installs", body = inline(File), content_type = XPI),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
pub(super) async fn first(State(control): State<Arc<Control>>) -> Result<Response, Problem> {
    control.package(0).await.map(xpi)
}

/// A Thunderbird add-on by its number, or what Thunderbird asks about updates of it
///
/// `1.xpi` is the first add-on of the config file, `1.json` tells its version.
#[utoipa::path(get, path = "/setup/thunderbird/{file}", tag = "set-up help", security(()),
    params(("file" = String, Path, description = "`1.xpi`, `1.json`, `2.xpi`, ...")), responses(
    (status = 200, description = "A file that Thunderbird installs, or what it asks about updates",
        content((inline(File) = "application/x-xpinstall"), (Value = "application/json"))),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
pub(super) async fn numbered(
    State(control): State<Arc<Control>>,
    Named(file): Named<String>,
) -> Result<Response, Problem> {
    let nothing = || Problem::new(ProblemKind::NotFound, "ask for /setup/thunderbird/1.xpi");
    let (number, kind) = file.split_once('.').ok_or_else(nothing)?;
    let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1)).ok_or_else(nothing)?;
    match kind {
        "xpi" => control.package(index).await.map(xpi),
        "json" => {
            let package = control.package(index).await?;
            Ok(Json(updates(&package, control.settings.setup.public_url.as_deref(), index)).into_response())
        }
        _ => Err(nothing()),
    }
}

fn xpi(package: Package) -> Response {
    ([(header::CONTENT_TYPE, XPI)], package.xpi).into_response()
}

/// The update manifest: the version there is, and where. Source: Firefox's extension workshop, "Updating your extension".
fn updates(package: &Package, public_url: Option<&str>, index: usize) -> Value {
    let link = format!("{}/setup/thunderbird/{}.xpi", public_url.unwrap_or_default(), index + 1);
    let update = json!({
        "version": package.version,
        "update_link": link,
        "update_hash": format!("sha256:{}", hash(&package.xpi)),
        "applications": { "gecko": { "strict_min_version": SINCE } },
    });
    json!({ "addons": { package.id.as_str(): { "updates": [update] } } })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::admin::setup::settings::{MailServer, Smtp, SmtpSignIn};
    use crate::model::ClientId;

    fn setup(redirect: &str, secret: Option<&str>) -> SetupSettings {
        let server = |host: &str, port| MailServer { host: host.to_owned(), port };
        let add_on = AddOn {
            issuer: "https://id.example.com".into(),
            name: "Mail".into(),
            client_id: ClientId::parse("tb").unwrap(),
            client_secret: secret.map(str::to_owned),
            scopes: vec!["mail".into()],
            redirect: redirect.into(),
            pkce: false,
            authorization_endpoint: None,
            token_endpoint: None,
        };
        let smtp = Smtp { server: server("smtp.example.com", 465), sign_in: SmtpSignIn::OAuth };
        SetupSettings {
            imaps: Some(server("mail.example.com", 993)),
            pop3s: Some(server("mail.example.com", 995)),
            smtp: Some(smtp),
            add_ons: vec![add_on],
            ..SetupSettings::default()
        }
    }

    fn made(setup: &SetupSettings, authorization: &str) -> Result<Unnumbered, AddOnError> {
        let (authorization, token) = (authorization.to_owned(), "https://id.example.com/token".to_owned());
        let endpoints = Endpoints {
            authorization,
            token,
            names_itself: false,
            userinfo: None,
            end_session: None,
            secret_in_form: false,
        };
        Unnumbered::new(setup, 0, setup.add_ons.first().unwrap(), &endpoints)
    }

    #[test]
    fn the_servers_that_take_the_issuers_tokens_are_those_that_the_add_on_is_for() {
        let mut setup = setup("http://127.0.0.1/", Some("shared"));
        let provider = |setup: &SetupSettings| made(setup, "https://id.example.com/auth").unwrap().0.oauth_provider;
        let first = provider(&setup);
        assert_eq!(first.hostnames, ["mail.example.com", "smtp.example.com"]);
        assert_eq!((first.client_secret.as_deref(), first.use_pkce), (Some("shared"), false));
        setup.smtp.as_mut().unwrap().sign_in = SmtpSignIn::Password;
        assert_eq!(provider(&setup).hostnames, ["mail.example.com"]);
    }

    #[test]
    fn a_redirect_that_would_end_the_sign_in_before_it_begins_is_refused() {
        for (redirect, authorization, good) in [
            ("http://127.0.0.1/", "https://id.example.com/auth", true),
            ("http://localhost/", "http://localhost:8080/auth", true),
            ("http://localhost", "http://localhost:8080/auth", false),
            ("https://id.example.com/", "https://id.example.com/auth", false),
        ] {
            let outcome = made(&setup(redirect, None), authorization);
            assert_eq!(outcome.is_ok(), good, "{redirect} {authorization}");
            if let Err(error) = outcome {
                assert!(error.to_string().contains("is the beginning of the sign-in page"), "{error}");
            }
        }
    }

    #[test]
    fn without_a_mail_server_there_is_no_add_on() {
        let mut setup = setup("http://127.0.0.1/", None);
        (setup.imaps, setup.pop3s, setup.smtp) = (None, None, None);
        assert_eq!(made(&setup, "https://id.example.com/auth").err(), Some(AddOnError::NoServer));
    }

    #[test]
    fn two_contents_differ_in_their_digest_and_numbers_in_the_version_alone() {
        let add_on = || made(&setup("http://127.0.0.1/", None), "https://id.example.com/auth").unwrap();
        let other = made(&setup("http://127.0.0.1/", None), "https://id.example.com/other").unwrap();
        assert_eq!(add_on().digest(), add_on().digest());
        assert_ne!(add_on().digest(), other.digest());
        let (one, two) = (add_on().numbered(1).unwrap(), add_on().numbered(12).unwrap());
        assert_eq!((one.id.as_str(), one.version.as_str(), two.version.as_str()), (two.id.as_str(), "1.1", "1.12"));
        assert_ne!(one.xpi, two.xpi);
        assert_eq!(one, add_on().numbered(1).unwrap());
    }
}
