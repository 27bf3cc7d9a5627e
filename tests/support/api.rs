//! The HTTP API of a [`Gate`](super::Gate), asked as a program would ask it.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::Gate;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The word at the end of a problem's type.
    pub fn problem(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        let json = self.json();
        assert_eq!(json["status"], self.status.as_u16());
        json["type"].as_str().unwrap().strip_prefix("urn:portcullis:problem:").unwrap().to_owned()
    }
}

/// One caller with one token.
pub struct Api {
    base: String,
    token: Option<String>,
    host: Option<String>,
    version: Option<String>,
    client: reqwest::Client,
    /// One for all callers made from this one: its connections live there.
    runtime: Arc<tokio::runtime::Runtime>,
}

impl Api {
    /// Without a token.
    pub fn stranger(gate: &Gate) -> Self {
        let address = gate.listening.iter().find(|(name, _)| name == "http").unwrap().1;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self {
            base: format!("http://{address}"),
            token: None,
            host: None,
            version: None,
            client,
            runtime: Arc::new(runtime),
        }
    }

    /// With this token.
    pub fn with(gate: &Gate, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..Self::stranger(gate) }
    }

    /// The super admin whom the bootstrap secret makes.
    pub fn first(gate: &Gate) -> Self {
        let secret = std::fs::read_to_string(gate.dir().join("data/bootstrap-secret")).unwrap();
        let made = Self::stranger(gate).post("/api/v1/bootstrap", &serde_json::json!({ "secret": secret.trim() }));
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        Self::with(gate, made.json()["token"].as_str().unwrap())
    }

    /// A `portcullis` command with these arguments and this caller's token.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"));
        for variable in ["CONFIG", "TOKEN_FILE", "CA"] {
            command.env_remove(format!("PORTCULLIS_{variable}"));
        }
        command.args(arguments).env("PORTCULLIS_URL", &self.base);
        // Nobody listens there: a command that went through the environment's proxy would give it the token, and fail.
        command.env("http_proxy", "http://127.0.0.1:9").env("ALL_PROXY", "http://127.0.0.1:9");
        command.env("PORTCULLIS_TOKEN", self.token.as_deref().unwrap_or_default()).output().unwrap()
    }

    /// Asks by another name from now on.
    pub fn by_name(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// The same caller, with this `If-Match`.
    pub fn if_match(&self, version: &str) -> Self {
        Self {
            base: self.base.clone(),
            token: self.token.clone(),
            host: self.host.clone(),
            version: Some(version.to_owned()),
            client: self.client.clone(),
            runtime: Arc::clone(&self.runtime),
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body))
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, Some(body))
    }

    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, Some(body))
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None)
    }

    fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(host) = &self.host {
            request = request.header("host", host);
        }
        if let Some(version) = &self.version {
            request = request.header("if-match", version);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.finish(request)
    }

    /// A body as it is, of this type.
    pub fn raw(&self, method: Method, path: &str, kind: &str, body: Vec<u8>) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).body(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(version) = &self.version {
            request = request.header("if-match", version);
        }
        self.finish(request.header("content-type", kind))
    }

    /// A body that is no text, of an answer that is good, and its headers.
    pub fn bytes(&self, path: &str) -> (Vec<u8>, reqwest::header::HeaderMap) {
        let request = self.client.get(format!("{}{path}", self.base));
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let (status, headers) = (answer.status(), answer.headers().clone());
            let body = answer.bytes().await.unwrap().to_vec();
            assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&body));
            (body, headers)
        })
    }

    fn finish(&self, request: reqwest::RequestBuilder) -> Answer {
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let (status, headers) = (answer.status(), answer.headers().clone());
            Answer { status, headers, text: answer.text().await.unwrap() }
        })
    }
}
