//! The API asked by a program that no one here wrote (schemathesis), which reads the OpenAPI document and makes up requests
//! that fit it and requests that do not: no answer may be a fault of the gateway, or other than the document says.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{
    ANN, APP, Gate, OTHER_APP, Setup,
    api::Api,
    program::{self, Home},
    token,
};

/// What every answer is held to.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,unsupported_method,ignored_auth";

/// Names of what is there, so that most requests get beyond "there is no such thing".
const NAMES: &str = r#"
[parameters]
"header.If-Match" = "*"
"path.path" = "%2FSales"
"path.address" = "bea@example.com"
"path.name" = "pilot@example.com"
"path.user" = "bea@example.com"
"path.service" = "imap"
"path.id" = "1"
"query.user" = "ann@example.com"
"query.app" = "test-mail"
"query.service" = "imap"
"query.unit" = "/Sales"
"query.below" = "/Sales"

[[operations]]
include-path = "/api/v1/mailboxes/{address}"
parameters = { "path.address" = "team@example.com" }

[[operations]]
include-path = "/api/v1/apps/{id}"
parameters = { "path.id" = "odd-app" }
"#;

/// A gate with something of every kind in it.
fn gate() -> (Gate, Api) {
    let gate = Gate::with(Setup {
        listen: "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n".to_owned(),
        // Thousands of requests of one address, many of them without a good token.
        more: "[http]\nscope = [\"portcullis\"]\nrequests_per_minute = 10000000\nfailures_per_minute = 1000000\n"
            .to_owned(),
        ..Setup::default()
    });
    let first = Api::first(&gate);
    for (path, body) in [
        (
            "units",
            json!({ "path": "/Sales", "set": { "imap": [APP], "pop": { "apps": "any", "until": "2100-01-01T00:00:00Z" } } }),
        ),
        ("users", json!({ "address": "bea@example.com", "set": { "unit": "/Sales", "imap": "any" } })),
        (
            "groups",
            json!({ "name": "pilot@example.com", "set": { "priority": 1, "imap": "any", "members": [ANN] } }),
        ),
        (
            "mailboxes",
            json!({ "address": "team@example.com", "set": { "name": "Team", "unit": "/Sales", "members": [{ "user": ANN, "rights": "read" }] } }),
        ),
        ("apps", json!({ "id": "odd-app", "set": { "trust": "limited", "units": ["/Sales"] } })),
    ] {
        let made = first.post(&format!("/api/v1/{path}"), &body);
        assert_eq!(made.status.as_u16(), 201, "{path}: {}", made.text);
    }
    gate.imap(ANN, APP).ok("LOGOUT");
    assert!(!gate.admits("lisa@example.com", OTHER_APP));
    support::wire::Imap::connect(&gate).command("LOGIN ann@example.com secret");
    (gate, first)
}

#[test]
fn no_request_that_the_document_allows_and_none_that_it_does_not_meets_a_fault() {
    if !program::have("tool:st") {
        return;
    }
    let (gate, first) = gate();
    // Open while it is asked, so that lists of sessions have something to show.
    let _session = gate.imap(ANN, APP);
    let made = first.post("/api/v1/tokens", &json!({ "name": "asker", "role": "super" })).json();
    // It would revoke the very token that it asks with.
    let without = ["--exclude-operation-id", "delete_tokens_id"];
    asked(&gate, made["token"].as_str().unwrap(), &without);
    // A person's own page takes a person's own token.
    let mut claims = token::claims(ANN, "console", 3600);
    claims["scope"] = json!("portcullis");
    asked(&gate, &gate.key.sign(&claims), &["--include-tag", "me"]);
    assert_eq!(first.get("/api/v1/me").json()["role"], "super", "the gate and its admin are as before");
    // Whoever may come in after all that was asked, does.
    let new = json!({ "address": "new@example.com", "set": { "unit": "/Sales" } });
    assert_eq!(first.post("/api/v1/users", &new).status.as_u16(), 201);
    assert!(!gate.log().contains(" ERROR ") && !gate.log().contains("panicked"), "the gate met a fault");
}

/// Has all of it asked with this token.
fn asked(gate: &Gate, token: &str, more: &[&str]) {
    let http = gate.listening.iter().find(|(name, _)| name == "http").unwrap().1;
    let home = Home::new();
    std::fs::write(home.path().join("schemathesis.toml"), NAMES).unwrap();
    let mut command = home.command(program::tool("st"));
    command.arg("run").arg(format!("http://{http}/api/v1/openapi.json"));
    command.args(["--header", &format!("Authorization: Bearer {token}")]);
    command.args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--continue-on-failure"]);
    command.args(["--seed", "1", "--max-examples", "5", "--no-shrink", "--generation-database", "none"]);
    // A pushed event is a signed token and nothing else: there is no other body to make up. tests/identity_events.rs asks it.
    command.args(["--exclude-path", "/events/{issuer}"]).args(more);
    let began = Instant::now();
    let outcome = program::run_for(&mut command, Duration::from_secs(180));
    eprintln!("{}\ntook {:?}", outcome.text, began.elapsed());
    assert!(outcome.good, "schemathesis found something; its words are above, and st explain CODE tells more");
}
