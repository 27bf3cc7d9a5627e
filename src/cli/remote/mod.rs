//! The commands that go over the API of a running gateway: one file a resource, and here what they share.

pub(super) mod access;
pub(super) mod apps;
pub(super) mod apps_seen;
pub(super) mod changes;
pub(super) mod cutoffs;
mod directory;
pub(super) mod grants;
pub(super) mod groups;
pub(super) mod import;
pub(super) mod mailboxes;
pub(super) mod me;
pub(super) mod notices;
pub(super) mod reports;
pub(super) mod sessions;
pub(super) mod settings;
pub(super) mod show;
pub(super) mod units;
pub(super) mod users;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode, Url, header::IF_MATCH};
use serde_json::Value;
use show::{fields, table};

/// What the API refused, for the exit code.
const REFUSED: u8 = 1;
/// Time for one request.
const PATIENCE: Duration = Duration::from_secs(60);
/// The variable that holds the token where no file does.
const TOKEN: &str = "PORTCULLIS_TOKEN";

/// Where the API is, and whose token to ask with
#[derive(Debug, clap::Args)]
pub(super) struct Access {
    /// Address of the gateway's API
    #[arg(
        long,
        value_name = "URL",
        env = "PORTCULLIS_URL",
        default_value = "http://localhost:1980",
        global = true
    )]
    url: Url,
    /// File with the token; without it the token is taken from the variable PORTCULLIS_TOKEN
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_TOKEN_FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Certificate authority (PEM) to trust beside the system's
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CA", global = true)]
    ca: Option<PathBuf>,
    /// JSON for programs, as the API answers it
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// How a command went.
enum Outcome {
    Done(Value),
    /// The API's problem, in words.
    Refused(String),
}

/// One caller.
struct Remote<'a> {
    access: &'a Access,
    client: Client,
    token: Option<String>,
}

impl Access {
    /// Runs `work` against the API; a refusal of the API is exit code 1, everything else that goes wrong 2.
    fn run(
        &self,
        work: impl AsyncFnOnce(Remote<'_>) -> anyhow::Result<Outcome>,
        show: impl FnOnce(&Value) -> Vec<String>,
    ) -> anyhow::Result<ExitCode> {
        let outcome = super::block_on(async { work(self.remote(true)?).await })?;
        self.finish(outcome, show)
    }

    fn finish(&self, outcome: Outcome, show: impl FnOnce(&Value) -> Vec<String>) -> anyhow::Result<ExitCode> {
        match outcome {
            Outcome::Refused(problem) => {
                eprintln!("portcullis: {problem}");
                Ok(ExitCode::from(REFUSED))
            }
            Outcome::Done(value) => {
                let lines = if self.json { vec![value.to_string()] } else { show(&value) };
                for line in lines {
                    if !super::say(&line)? {
                        break;
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    fn remote(&self, with_token: bool) -> anyhow::Result<Remote<'_>> {
        let local = matches!(self.url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if self.url.scheme() != "https" && !(self.url.scheme() == "http" && local) {
            bail!(
                "--url {}: write https://..; http is for localhost only, the token would be read on the way",
                self.url
            );
        }
        let token = if with_token { Some(self.token()?) } else { None };
        let mut client = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
        if local {
            // A proxy of the environment would read the token on the way.
            client = client.no_proxy();
        }
        if let Some(file) = &self.ca {
            let pem = fs::read(file).with_context(|| format!("--ca {}", file.display()))?;
            for certificate in
                Certificate::from_pem_bundle(&pem).with_context(|| format!("--ca {}", file.display()))?
            {
                client = client.add_root_certificate(certificate);
            }
        }
        Ok(Remote { access: self, client: client.build()?, token })
    }

    fn token(&self) -> anyhow::Result<String> {
        let text = match &self.token_file {
            Some(file) => fs::read_to_string(file).with_context(|| format!("--token-file {}", file.display()))?,
            None => std::env::var(TOKEN).ok().with_context(|| {
                format!(
                    "no token: name a file with --token-file, or set {TOKEN}; `portcullis tokens make` makes one"
                )
            })?,
        };
        let token = text.trim();
        if token.is_empty() {
            bail!("the token is empty: look at --token-file or {TOKEN}");
        }
        Ok(token.to_owned())
    }
}

impl Remote<'_> {
    /// One request. `path` begins after `/api/v1/`; its parts are escaped here.
    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> anyhow::Result<Outcome> {
        self.send_if(None, method, path, query, body).await
    }

    /// The same, only while the thing has the version that `seen` names in the words of `If-Match`.
    async fn send_if(
        &self,
        seen: Option<&str>,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> anyhow::Result<Outcome> {
        let mut request = self.request(method, path, query);
        if let Some(seen) = seen {
            request = request.header(IF_MATCH, seen);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let (status, value) = self.answer(request).await?;
        self.outcome(status, value)
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.access.url.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query.iter().map(|(key, value)| (*key, value.as_str())));
        }
        let request = self.client.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Status and body; a body that is no JSON is null.
    async fn answer(&self, request: RequestBuilder) -> anyhow::Result<(StatusCode, Value)> {
        let unreachable =
            || format!("{} does not answer: is `portcullis serve` running, with listen.http?", self.access.url);
        let answer = request.send().await.with_context(unreachable)?;
        let status = answer.status();
        let text = answer.text().await.with_context(unreachable)?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    fn outcome(&self, status: StatusCode, value: Value) -> anyhow::Result<Outcome> {
        if status.is_success() {
            return Ok(Outcome::Done(value));
        }
        let words = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (title, detail) = (words("title"), words("detail"));
        if title.is_empty() {
            bail!("{} answers {status}, and is no Portcullis", self.access.url);
        }
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            bail!("{title}: {detail}");
        }
        Ok(Outcome::Refused(format!("{title}: {detail}")))
    }

    /// Every item of a list that comes in pages, up to `most`.
    async fn list(&self, path: &[&str], query: &[(&str, String)], most: usize) -> anyhow::Result<Outcome> {
        let mut items: Vec<Value> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            query.push(("limit", most.saturating_sub(items.len()).clamp(1, 1000).to_string()));
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let mut page = match self.send(Method::GET, path, &query, None).await? {
                Outcome::Done(page) => page,
                refused @ Outcome::Refused(_) => return Ok(refused),
            };
            if let Some(Value::Array(found)) = page.get_mut("items").map(Value::take) {
                items.extend(found);
            }
            cursor = page.get("next").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() || items.len() >= most {
                let more = cursor.is_some();
                items.truncate(most);
                return Ok(Outcome::Done(serde_json::json!({ "items": items, "more": more })));
            }
        }
    }
}
