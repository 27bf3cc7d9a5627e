//! What the room promises, with keys made when the tests run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod checks;
mod events;
mod id_tokens;
mod introspection;
mod key_sets;

use std::{sync::LazyLock, time::Duration};

use aws_lc_rs::rand::SystemRandom;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::*;
use crate::model::UnixTime;

const ISSUER: &str = "https://id.example.com";
const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(&SystemRandom::new()).unwrap());
static KEYS: LazyLock<KeySet> = LazyLock::new(|| KeySet::parse(KEY.jwks().as_bytes()).unwrap().0);

fn rules() -> Rules {
    Rules::new(ISSUER, ["portcullis"])
}

fn mint() -> Mint {
    Mint {
        issuer: ISSUER.into(),
        audience: vec!["portcullis".into()],
        user_claim: "email".into(),
        user: "ann@example.com".into(),
        app: "thunderbird".into(),
        scope: "mail openid".into(),
        issued_at: NOW,
        lifetime: Duration::from_secs(3600),
        id: "1".into(),
        extra: Map::new(),
    }
}

fn token() -> String {
    sign(&mint(), &KEY).unwrap().reveal().to_owned()
}

/// A part of a token as JSON: 0 the header, 1 the claims.
fn part(token: &str, index: usize) -> Map<String, Value> {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&bytes).unwrap().as_object().unwrap().clone()
}

/// Signs any header and claims, well-formed or not.
fn raw(header: &str, claims: &str) -> String {
    KEY.compact(header, claims).unwrap().reveal().to_owned()
}

/// The good token with some members set to other values; `"-"` takes one away.
fn changed(header: Value, claims: Value) -> String {
    let change = |mut members: Map<String, Value>, changes: &Value| {
        for (name, value) in changes.as_object().unwrap() {
            members.insert(name.clone(), value.clone());
            if value == "-" {
                members.remove(name);
            }
        }
        Value::Object(members).to_string()
    };
    let token = token();
    raw(&change(part(&token, 0), &header), &change(part(&token, 1), &claims))
}

/// `ok`, or the reason of the refusal.
fn reason(token: &str, rules: &Rules) -> &'static str {
    verify(token, rules, &KEYS, NOW).map_or_else(|error| error.reason(), |_| "ok")
}
