//! The commands that go over the API of a running gateway: one file a resource, and here what they share.

pub(super) mod access;
pub(super) mod apps;
pub(super) mod grants;
pub(super) mod me;
pub(super) mod notices;
pub(super) mod sessions;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use reqwest::{Certificate, Client, Method, StatusCode, Url};
use serde_json::Value;

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
    json: bool,
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
    /// One request. `path` begins after `/api/v1/`; its parts are escaped already.
    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> anyhow::Result<Outcome> {
        let mut url = self.access.url.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query.iter().map(|(key, value)| (*key, value.as_str())));
        }
        let mut request = self.client.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable =
            || format!("{} does not answer: is `portcullis serve` running, with listen.http?", self.access.url);
        let answer = request.send().await.with_context(unreachable)?;
        let status = answer.status();
        let text = answer.text().await.with_context(unreachable)?;
        let value = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::Null) };
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

/// The items of a list as a table: a heading, then a line each. `columns` are headings and keys.
fn table(list: &Value, columns: &[(&str, &str)]) -> Vec<String> {
    let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return vec!["nothing fits".to_owned()];
    }
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|(heading, _)| heading.to_uppercase()).collect()];
    rows.extend(items.iter().map(|item| columns.iter().map(|(_, key)| cell(item.get(*key))).collect()));
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect();
    if list.get("more") == Some(&Value::Bool(true)) {
        lines.push("(there are more: raise --limit)".to_owned());
    }
    lines
}

/// One thing, a line for each of its fields.
fn fields(value: &Value) -> Vec<String> {
    let Some(map) = value.as_object() else { return vec!["done".to_owned()] };
    map.iter().map(|(key, value)| format!("{:<14} {}", key.replace('_', " "), cell(Some(value)))).collect()
}

fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => list.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(","),
        Some(other) => other.to_string(),
    };
    // What a peer has named itself must not move the cursor of a terminal.
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_carries_no_control_characters() {
        let list = serde_json::json!({ "items": [
            { "id": 1, "app": "mail\u{1b}[2J", "scopes": ["a", "b"] },
            { "id": 20, "app": null },
        ], "more": true });
        let lines = table(&list, &[("id", "id"), ("app", "app"), ("scopes", "scopes")]);
        assert_eq!(
            lines,
            [
                "ID  APP       SCOPES",
                "1   mail\u{fffd}[2J  a,b",
                "20  -         -",
                "(there are more: raise --limit)"
            ]
        );
        assert_eq!(table(&serde_json::json!({ "items": [] }), &[("id", "id")]), ["nothing fits"]);
    }
}
