//! An admin of a gateway under measurement, over its HTTP API.

use std::fs;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};

use super::gateway::{Place, Process};

/// The super admin.
pub struct Admin {
    base: String,
    token: String,
    asks: reqwest::Client,
}

impl Admin {
    /// Whom the bootstrap secret of this node makes.
    pub async fn first(place: &Place, gateway: &Process) -> anyhow::Result<Self> {
        let asks = reqwest::Client::new();
        let mut admin = Self { base: String::new(), token: String::new(), asks };
        admin.base = format!("http://{}", gateway.http.context("no HTTP listener")?);
        let secret =
            fs::read_to_string(place.path().join("data/bootstrap-secret")).context("the bootstrap secret")?;
        let made = admin.ask(Method::POST, "/api/v1/bootstrap", json!({ "secret": secret.trim() })).await?;
        admin.token = made.get("token").and_then(Value::as_str).context("no token")?.to_owned();
        Ok(admin)
    }

    /// The same admin, asking another node.
    pub fn at(&self, gateway: &Process) -> anyhow::Result<Self> {
        let base = format!("http://{}", gateway.http.context("no HTTP listener")?);
        Ok(Self { base, token: self.token.clone(), asks: self.asks.clone() })
    }

    /// Sends a request whose answer must be a success.
    pub async fn ask(&self, method: Method, path: &str, body: Value) -> anyhow::Result<Value> {
        let request = self.asks.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        let answer = request.header("if-match", "*").json(&body).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("{path}: {status}: {text}");
        }
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }

    /// Makes units with an IMAP setting each, and users in them.
    pub async fn make<'a>(
        &self,
        units: &[(&str, &str)],
        users: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> anyhow::Result<()> {
        let units = units.iter().map(|(unit, imap)| {
            json!({ "kind": "unit", "name": unit, "action": "make", "set": { "imap": imap, "pop": "off" } })
        });
        let users = users
            .map(|(user, unit)| json!({ "kind": "user", "name": user, "action": "make", "set": { "unit": unit } }));
        let changes: Vec<Value> = units.chain(users).collect();
        for part in changes.chunks(5_000) {
            self.ask(Method::POST, "/api/v1/changes", json!({ "changes": part })).await?;
        }
        Ok(())
    }

    /// Sets a unit's IMAP setting.
    pub async fn set_imap(&self, unit: &str, imap: &str) -> anyhow::Result<()> {
        let path = format!("/api/v1/units/{}", unit.replace('/', "%2F"));
        self.ask(Method::PATCH, &path, json!({ "set": { "imap": imap } })).await.map(drop)
    }
}
