//! Issuers on loopback that behave, rotate, lie, stall and vanish; time is an argument, so nothing here waits for
//! hours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod files;
mod https;
mod opaque;
mod remote;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::rand::SystemRandom;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::token::{Mint, SigningKey, sign};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn later(secs: u64) -> UnixTime {
    NOW + Duration::from_secs(secs)
}

fn key() -> SigningKey {
    SigningKey::generate(&SystemRandom::new()).unwrap()
}

fn token_at(issuer: &str, key: &SigningKey, issued_at: UnixTime) -> Secret {
    let mint = Mint {
        issuer: issuer.into(),
        audience: vec!["portcullis".into()],
        user_claim: "email".into(),
        user: "ann@example.com".into(),
        app: "thunderbird".into(),
        scope: "mail".into(),
        issued_at,
        lifetime: Duration::from_secs(100 * 3600),
        id: "1".into(),
        extra: Map::new(),
    };
    sign(&mint, key).unwrap()
}

fn token(issuer: &str, key: &SigningKey) -> Secret {
    token_at(issuer, key, NOW)
}

/// A JWK Set of several keys.
fn jwks(keys: &[&SigningKey]) -> String {
    let list: Vec<Value> =
        keys.iter().map(|key| serde_json::from_str::<Value>(&key.jwks()).unwrap()["keys"][0].clone()).collect();
    json!({ "keys": list }).to_string()
}

/// What the fake issuer does with a request for one path.
#[derive(Clone)]
enum Does {
    Answer(String),
    Status(u16, String),
    Redirect(String),
    /// Answers after a while.
    Late(Duration, String),
    /// A body without length that goes on after the limit.
    Endless,
    /// Takes the request and hangs up.
    HangUp,
    /// Picks the answer by the request's body.
    ByBody(Arc<dyn Fn(&str) -> String + Send + Sync>),
}

/// An HTTP issuer on a port of its own, told at any time what to do.
struct Fake {
    base: String,
    does: Arc<Mutex<HashMap<String, Does>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let does = Arc::new(Mutex::new(HashMap::new()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (plan, log) = (does.clone(), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, plan.clone(), log.clone()));
            }
        });
        Self { base, does, seen }
    }

    fn set(&self, path: &str, does: Does) {
        self.does.lock().unwrap().insert(path.into(), does);
    }

    fn publish(&self, keys: &[&SigningKey]) {
        self.set("/jwks", Does::Answer(jwks(keys)));
    }

    /// How often a path was asked for.
    fn asked(&self, path: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|request| request.split(' ').nth(1) == Some(path)).count()
    }

    /// The last request for a path, head and body.
    fn last(&self, path: &str) -> String {
        let seen = self.seen.lock().unwrap();
        seen.iter().rev().find(|request| request.split(' ').nth(1) == Some(path)).cloned().unwrap_or_default()
    }

    /// Issuers with this one, its keys at `/jwks`.
    fn issuers(&self, change: impl FnOnce(&mut Settings)) -> Arc<Issuers> {
        let mut settings = self.settings();
        change(&mut settings);
        Issuers::with_limits(vec![settings], Limits::default(), NOW).unwrap()
    }

    fn settings(&self) -> Settings {
        let rules = Rules::new(&self.base, ["portcullis"]);
        Settings::new(rules, Some(KeySource::Url(format!("{}/jwks", self.base))))
    }
}

async fn serve(mut stream: TcpStream, plan: Arc<Mutex<HashMap<String, Does>>>, log: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    let wanted = loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some(head) = text.find("\r\n\r\n") {
            let length = text.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length:").map(|n| n.trim().parse())
            });
            let whole = head + 4 + length.map_or(0, |length: Result<usize, _>| length.unwrap());
            if request.len() >= whole {
                break text;
            }
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend_from_slice(&chunk[..count]),
        }
    };
    let path = wanted.split(' ').nth(1).unwrap_or("").to_owned();
    log.lock().unwrap().push(wanted.clone());
    let does = plan.lock().unwrap().get(&path).cloned().unwrap_or(Does::Status(404, "no".into()));
    let answer = |status: u16, head: &str, body: &str| {
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{head}\r\n{body}", body.len())
    };
    let text = match does {
        Does::Answer(body) => answer(200, "", &body),
        Does::Status(status, body) => answer(status, "", &body),
        Does::Redirect(to) => answer(302, &format!("location: {to}\r\n"), ""),
        Does::Late(wait, body) => {
            tokio::time::sleep(wait).await;
            answer(200, "", &body)
        }
        Does::ByBody(make) => answer(200, "", &make(wanted.split("\r\n\r\n").nth(1).unwrap_or(""))),
        Does::HangUp => return,
        Does::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 X\r\nconnection: close\r\n\r\n").await;
            while stream.write_all(&[b' '; 4096]).await.is_ok() {}
            return;
        }
    };
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn reason<T>(answer: Result<T, Unidentified>) -> &'static str {
    answer.map_or_else(|error| error.reason(), |_| "ok")
}
