//! The HTTP API of the real binary: who may ask, what is told, and that what is changed takes effect on open sessions.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::json;
use support::{ANN, APP, Gate, OTHER_APP, Setup, api::Api, token};

const OLAF: &str = "olaf@example.com";
const LISTEN: &str = "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n";

fn gate_with(http: &str) -> Gate {
    Gate::with(Setup {
        listen: LISTEN.to_owned(),
        more: format!("[http]\nscope = [\"portcullis\"]\n{http}"),
        ..Setup::default()
    })
}

fn gate() -> Gate {
    gate_with("")
}

/// An access token of this person that the API takes.
fn own_token(gate: &Gate, user: &str) -> String {
    let mut claims = token::claims(user, "console", 3600);
    claims["scope"] = json!("openid portcullis");
    gate.key.sign(&claims)
}

#[test]
fn health_and_the_document_need_no_token_and_all_else_does() {
    let gate = gate();
    let stranger = Api::stranger(&gate);
    assert_eq!(
        (stranger.get("/healthz").status, stranger.get("/healthz").text),
        (StatusCode::OK, "ok\n".to_owned())
    );
    assert_eq!(stranger.get("/readyz").json(), json!({ "ready": true }));
    let document = stranger.get("/api/v1/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let open = operation["security"] == json!([{}]);
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let path = path.replace("{id}", "1").replace("{user}", ANN).replace("{service}", "imap");
            let answer = stranger.raw(method.clone(), &path, "application/json", b"{}".to_vec());
            if !open {
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}: {}", answer.text);
                if path.starts_with("/scim/") {
                    assert_eq!(answer.json()["status"], "401", "{path} has errors in SCIM's form");
                } else {
                    assert_eq!(answer.problem(), "unauthenticated");
                }
                assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"portcullis\"");
                asked += 1;
            }
            assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        }
    }
    assert!(asked >= 12, "{asked}");
}

#[test]
fn the_bootstrap_secret_is_the_owners_alone_and_works_once() {
    let gate = gate();
    let file = gate.dir().join("data/bootstrap-secret");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = std::fs::read_to_string(&file).unwrap();
    assert!(!gate.log().contains(secret.trim()), "it is in the log");
    let stranger = Api::stranger(&gate);
    let wrong = stranger.post("/api/v1/bootstrap", &json!({ "secret": "pcb_wrong" }));
    assert_eq!((wrong.status, wrong.problem()), (StatusCode::UNAUTHORIZED, "unauthenticated".to_owned()));
    let first = Api::first(&gate);
    assert_eq!(first.get("/api/v1/me").json()["role"], "super");
    let again = stranger.post("/api/v1/bootstrap", &json!({ "secret": secret.trim() }));
    assert_eq!(again.status, StatusCode::UNAUTHORIZED, "{}", again.text);
}

#[test]
fn tokens_are_told_once_do_what_their_role_and_scopes_allow_and_end_at_once() {
    let gate = gate();
    let first = Api::first(&gate);
    let made =
        first.post("/api/v1/tokens", &json!({ "name": "report", "role": "auditor", "scopes": ["grants:read"] }));
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let secret = made.json()["token"].as_str().unwrap().to_owned();
    let report = Api::with(&gate, &secret);
    assert_eq!(report.get("/api/v1/grants").status, StatusCode::OK);
    for (answer, why) in [
        (report.get("/api/v1/tokens"), "scopes"),
        (report.post("/api/v1/grants/revoke", &json!({ "user": ANN })), "auditor"),
        (report.post("/api/v1/tokens", &json!({ "name": "x", "role": "super" })), "auditor"),
        (report.get("/api/v1/me/grants"), "no person"),
    ] {
        assert_eq!((answer.status, answer.problem()), (StatusCode::FORBIDDEN, "forbidden".to_owned()));
        assert!(answer.text.contains(why), "{}", answer.text);
    }
    let list = first.get("/api/v1/tokens");
    assert!(!list.text.contains(&secret[4..]), "the list tells the secret");
    let id = list.json()["items"].as_array().unwrap().iter().find(|t| t["name"] == "report").unwrap()["id"].clone();
    assert_eq!(first.delete(&format!("/api/v1/tokens/{id}")).status, StatusCode::NO_CONTENT);
    assert_eq!(report.get("/api/v1/grants").status, StatusCode::UNAUTHORIZED);
    assert_eq!(first.delete(&format!("/api/v1/tokens/{id}")).status, StatusCode::NOT_FOUND);
    for (body, word) in [
        (json!({ "name": "x", "role": "king" }), "role"),
        (json!({ "name": "x", "role": "admin" }), "unit"),
        (json!({ "name": "", "role": "super" }), "name"),
        (json!({ "name": "x", "role": "super", "scopes": ["everything"] }), "everything"),
        (json!({ "name": "x", "role": "super", "expires_at": "2001-01-01T00:00:00Z" }), "expires_at"),
        (json!({ "name": "x", "role": "super", "expires_at": "tomorrow" }), "2026-12-18T18:00:00Z"),
        (json!({ "name": "x", "rolle": "super" }), "rolle"),
    ] {
        let answer = first.post("/api/v1/tokens", &body);
        assert!(answer.status.is_client_error() && answer.text.contains(word), "{body}: {}", answer.text);
        answer.problem();
    }
}

#[test]
fn a_grant_is_disabled_enabled_and_removed_and_its_sessions_end_within_a_second() {
    let gate = gate();
    let first = Api::first(&gate);
    let mut session = gate.imap(ANN, APP);
    let mut other = gate.imap(ANN, OTHER_APP);
    let grants = first.get(&format!("/api/v1/grants?user={ANN}&app={APP}")).json();
    let grant = &grants["items"][0];
    assert_eq!((&grant["state"], &grant["open_sessions"]), (&json!("active"), &json!(1)), "{grants}");
    assert_eq!(grant["app_name"], "Test Mail");
    let path = format!("/api/v1/grants/{}", grant["id"]);

    let early = first.patch(&path, &json!({ "state": "removed" }));
    assert_eq!((early.status, early.problem()), (StatusCode::CONFLICT, "conflict".to_owned()));
    let began = Instant::now();
    let done = first.patch(&path, &json!({ "state": "disabled", "reason": "lost phone" }));
    assert_eq!(done.json()["state"], "disabled");
    let (text, _) = session.bye();
    assert!(began.elapsed() < Duration::from_secs(1), "told after {:?}", began.elapsed());
    assert!(text.contains("(ref "), "{text}");
    other.ok("NOOP");
    let rows = gate.audit_with(&["--user", ANN], 1, |row| row["event"] == "grant.disabled");
    let row = rows.iter().find(|row| row["event"] == "grant.disabled").unwrap();
    assert!(row["detail"].as_str().unwrap().ends_with("active -> disabled (lost phone)"), "{row}");
    assert!(row["detail"].as_str().unwrap().starts_with("by token 1 (bootstrap)"), "{row}");

    assert_eq!(first.patch(&path, &json!({ "state": "active" })).json()["state"], "active");
    gate.imap(ANN, APP).ok("LOGOUT");
    assert_eq!(first.patch(&path, &json!({ "state": "removed", "yes": true })).json()["state"], "removed");
    let back = first.patch(&path, &json!({ "state": "active" }));
    assert_eq!(back.problem(), "conflict", "only the user brings it back");

    let gone = first.post("/api/v1/grants/revoke", &json!({ "user": ANN, "reason": "left" }));
    assert_eq!(gone.json(), json!({ "changed": 1, "more": false }));
    other.bye();
    assert_eq!(first.get("/api/v1/grants?state=removed").json()["items"].as_array().unwrap().len(), 2);
    assert_eq!(first.post("/api/v1/grants/revoke", &json!({})).problem(), "bad-request");
    assert_eq!(first.get("/api/v1/grants/999").problem(), "not-found");
    for query in ["limit=0", "cursor=*", "state=odd", "user=nobody", "colour=red", "limit=x"] {
        assert_eq!(first.get(&format!("/api/v1/grants?{query}")).problem(), "bad-request", "{query}");
    }
}

#[test]
fn people_see_and_cut_their_own_grants_alone_and_switch_services_off_for_themselves() {
    let gate = gate();
    let first = Api::first(&gate);
    gate.imap(ANN, APP).ok("LOGOUT");
    gate.imap("lisa@example.com", APP).ok("LOGOUT");
    let ann = Api::with(&gate, &own_token(&gate, ANN));
    let own = ann.get("/api/v1/me/grants").json();
    assert_eq!(own["items"].as_array().unwrap().len(), 1, "{own}");
    let all = first.get("/api/v1/grants").json();
    let lisas =
        all["items"].as_array().unwrap().iter().find(|g| g["user"] == "lisa@example.com").unwrap()["id"].clone();
    let stolen = ann.patch(&format!("/api/v1/me/grants/{lisas}"), &json!({ "state": "disabled" }));
    assert_eq!(stolen.problem(), "not-found");
    for answer in [ann.get("/api/v1/grants"), ann.get("/api/v1/tokens"), ann.get("/api/v1/admins")] {
        assert_eq!(answer.problem(), "forbidden");
    }
    let mut session = gate.imap(ANN, APP);
    let off = ann.put("/api/v1/me/services/imap", &json!({ "off": true }));
    assert_eq!(off.status, StatusCode::OK, "{}", off.text);
    session.bye();
    assert_eq!(ann.put("/api/v1/me/services/imap", &json!({ "off": false })).status, StatusCode::OK);
    gate.imap(ANN, APP).ok("LOGOUT");
    let id = own["items"][0]["id"].clone();
    assert_eq!(
        ann.patch(&format!("/api/v1/me/grants/{id}"), &json!({ "state": "disabled" })).json()["state"],
        "disabled"
    );

    // Who is suspended has no page and no role either, and neither has a service account.
    first.put(&format!("/api/v1/admins/{ANN}"), &json!({ "role": "super" }));
    assert_eq!(ann.get("/api/v1/grants").status, StatusCode::OK);
    gate.set_policy(
        &support::POLICY.replace(&format!("[user.\"{ANN}\"]"), &format!("[user.\"{ANN}\"]\nsuspended = true")),
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    while ann.get("/api/v1/grants").status == StatusCode::OK {
        assert!(Instant::now() < deadline, "a suspended super admin goes on");
    }
    assert_eq!(ann.get("/api/v1/me").problem(), "forbidden");
    gate.set_policy(support::POLICY);

    // The token that a mail program has opens none of this, whoever's it is.
    let mail = Api::with(&gate, &gate.token(ANN, APP));
    assert_eq!(mail.get("/api/v1/me").problem(), "forbidden");
    let stranger = Api::with(&gate, &own_token(&gate, "nobody@example.com"));
    assert_eq!(stranger.get("/api/v1/me").problem(), "forbidden");
}

#[test]
fn what_an_admin_disabled_its_user_neither_enables_nor_removes() {
    let gate = gate();
    let first = Api::first(&gate);
    gate.imap(ANN, APP).ok("LOGOUT");
    let ann = Api::with(&gate, &own_token(&gate, ANN));
    let id = ann.get("/api/v1/me/grants").json()["items"][0]["id"].clone();
    let (own, theirs) = (format!("/api/v1/me/grants/{id}"), format!("/api/v1/grants/{id}"));
    // What she disabled herself she enables again.
    for state in ["disabled", "active"] {
        assert_eq!(ann.patch(&own, &json!({ "state": state })).json()["state"], state);
    }
    assert_eq!(ann.patch(&own, &json!({ "state": "disabled" })).status, StatusCode::OK);
    // An admin who disables what is disabled has disabled it.
    assert_eq!(first.patch(&theirs, &json!({ "state": "disabled" })).status, StatusCode::OK);
    for state in ["active", "removed"] {
        let undone = ann.patch(&own, &json!({ "state": state, "yes": true }));
        assert_eq!(undone.problem(), "forbidden", "{state}");
        assert!(undone.text.contains("disabled by an admin"), "{}", undone.text);
    }
    std::thread::sleep(Duration::from_secs(2));
    assert!(!gate.admits(ANN, APP), "a newer token changes nothing");
    assert_eq!(first.get(&theirs).json()["state"], "disabled");
    assert_eq!(first.patch(&theirs, &json!({ "state": "active" })).json()["state"], "active");
    assert!(gate.admits(ANN, APP));
}

#[test]
fn a_token_that_is_not_good_is_told_nothing_of_what_is_wrong() {
    let gate = gate();
    let with = |claims: serde_json::Value| Api::with(&gate, &gate.key.sign(&claims)).get("/api/v1/me");
    let mut elsewhere = token::claims(ANN, "console", 3600);
    elsewhere["aud"] = json!("another");
    let mut strange = token::claims(ANN, "console", 3600);
    strange["iss"] = json!("https://elsewhere.example.com");
    let other_key = token::SigningKey::new("test-key-1").sign(&token::claims(ANN, "console", 3600));
    let unknown_key = token::SigningKey::new("test-key-2").sign(&token::claims(ANN, "console", 3600));
    let answers = [
        with(token::claims(ANN, "console", -3600)),
        with(elsewhere),
        with(strange),
        Api::with(&gate, &other_key).get("/api/v1/me"),
        Api::with(&gate, &unknown_key).get("/api/v1/me"),
        Api::with(&gate, "x.y.z").get("/api/v1/me"),
    ];
    for answer in &answers {
        assert_eq!((answer.status, &answer.text), (StatusCode::UNAUTHORIZED, &answers[0].text));
    }
    gate.wait_for_log("expired");
}

#[test]
fn a_snapshot_that_cannot_follow_lets_nobody_in_after_the_grace() {
    let gate = Gate::with(Setup {
        listen: LISTEN.to_owned(),
        database: format!("{}grace_s = 5\n", Setup::default().database),
        ..Setup::default()
    });
    assert!(gate.admits(ANN, APP));
    let url = gate.database();
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Another process commits what this one cannot read.
    runtime.block_on(async {
        let pool = sqlx::AnyPool::connect(&url).await.unwrap();
        for sql in [
            "UPDATE units SET imap = 'x' WHERE path = '/Listed'",
            "UPDATE counters SET number = number + 1 WHERE name = 'change'",
            "INSERT INTO changes (number, kind, subject, at) SELECT number, 'unit', '/Listed', 0 FROM counters \
             WHERE name = 'change'",
        ] {
            sqlx::query(sql).execute(&pool).await.unwrap();
        }
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    let refused = loop {
        let mut imap = support::wire::Imap::connect(&gate);
        let blob = support::wire::xoauth2(ANN, &gate.token(ANN, APP));
        let status = imap.command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status;
        if !status.starts_with("OK") {
            break status;
        }
        assert!(Instant::now() < deadline, "who is known still comes in by a snapshot that nothing renews");
        std::thread::sleep(Duration::from_millis(250));
    };
    assert!(refused.starts_with("NO [UNAVAILABLE]"), "{refused}");
    assert_eq!(Api::stranger(&gate).get("/readyz").status, StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn a_role_is_given_and_taken_and_an_admin_of_a_subtree_sees_that_alone() {
    let gate = gate();
    let first = Api::first(&gate);
    gate.imap(ANN, APP).ok("LOGOUT");
    gate.imap("lisa@example.com", APP).ok("LOGOUT");
    let olaf = Api::with(&gate, &own_token(&gate, OLAF));
    assert_eq!(olaf.get("/api/v1/grants").problem(), "forbidden");
    let given = first.put(&format!("/api/v1/admins/{OLAF}"), &json!({ "role": "admin", "unit": "/Listed" }));
    assert_eq!(given.status, StatusCode::NO_CONTENT, "{}", given.text);
    let seen = olaf.get("/api/v1/grants").json();
    let users: Vec<_> = seen["items"].as_array().unwrap().iter().map(|g| g["user"].clone()).collect();
    assert_eq!(users, ["lisa@example.com"]);
    let anns = first.get(&format!("/api/v1/grants?user={ANN}")).json()["items"][0]["id"].clone();
    assert_eq!(olaf.get(&format!("/api/v1/grants/{anns}")).problem(), "not-found");
    assert_eq!(
        olaf.patch(&format!("/api/v1/grants/{anns}"), &json!({ "state": "disabled" })).problem(),
        "not-found"
    );
    assert_eq!(olaf.post("/api/v1/grants/revoke", &json!({ "app": APP })).json()["changed"], 1);
    assert_eq!(first.get(&format!("/api/v1/grants/{anns}")).json()["state"], "active");
    assert_eq!(olaf.get("/api/v1/admins").problem(), "forbidden");
    assert_eq!(first.delete(&format!("/api/v1/admins/{OLAF}")).status, StatusCode::NO_CONTENT);
    assert_eq!(olaf.get("/api/v1/grants").problem(), "forbidden");
    assert_eq!(first.put("/api/v1/admins/nobody@example.com", &json!({ "role": "super" })).problem(), "not-found");
}

#[test]
fn pages_of_grants_are_all_grants_each_once() {
    let gate = gate();
    let first = Api::first(&gate);
    for app in ["a", "b", "c", "d", "e"] {
        gate.imap(ANN, app).ok("LOGOUT");
    }
    let (mut apps, mut next) = (Vec::new(), String::new());
    for _ in 0..10 {
        let page = first.get(&format!("/api/v1/grants?limit=2{next}")).json();
        apps.extend(page["items"].as_array().unwrap().iter().map(|g| g["app"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    assert_eq!(apps, ["a", "b", "c", "d", "e"]);
}

#[test]
fn only_our_own_names_are_answered() {
    let gate = gate_with("hosts = [\"mail-admin.example.com\"]\n");
    let port = gate.listening.iter().find(|(name, _)| name == "http").unwrap().1.port();
    for (host, answered) in [
        ("localhost", true),
        ("mail-admin.example.com", true),
        ("Mail-Admin.Example.com", true),
        ("evil.example.org", false),
        ("192.0.2.7", false),
        ("mail-admin.example.com.evil.example.org", false),
    ] {
        let answer = Api::stranger(&gate).by_name(&format!("{host}:{port}")).get("/healthz");
        assert_eq!(answer.status == StatusCode::OK, answered, "{host}: {}", answer.text);
        if !answered {
            assert_eq!(answer.problem(), "wrong-host");
        }
    }
}

#[test]
fn whoever_guesses_or_asks_too_much_has_to_wait_and_others_do_not_notice() {
    let gate = gate_with("failures_per_minute = 1\nbody_bytes = 2000\n");
    let first = Api::first(&gate);
    let guess = Api::with(&gate, "pct_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let answers: Vec<_> = (0..12).map(|_| guess.get("/api/v1/me")).collect();
    assert_eq!(answers[0].problem(), "unauthenticated");
    let last = answers.last().unwrap();
    assert_eq!(last.problem(), "too-many");
    assert!(last.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(first.get("/api/v1/me").status, StatusCode::OK, "a good token is taken all the same");
    let large = first.post("/api/v1/tokens", &json!({ "name": "x".repeat(3000), "role": "super" }));
    assert_eq!((large.status, large.problem()), (StatusCode::PAYLOAD_TOO_LARGE, "too-large".to_owned()));
    let typed = first.raw(Method::POST, "/api/v1/tokens", "text/plain", b"{}".to_vec());
    assert_eq!(typed.problem(), "media-type");
    let broken = first.raw(Method::POST, "/api/v1/tokens", "application/json", b"{\"name\": ".to_vec());
    assert_eq!(broken.problem(), "bad-request");
    assert!(broken.text.contains("line 1"), "{}", broken.text);
    assert_eq!(first.delete("/api/v1/me").problem(), "method-not-allowed");
    assert_eq!(first.get("/api/v1/nothing").problem(), "not-found");
}

#[test]
fn beyond_loopback_there_is_tls_and_a_connection_that_says_nothing_is_closed() {
    let mut gate = Gate::with(Setup {
        listen: "imaps = [\"127.0.0.1:0\"]\nhttp = [\"0.0.0.0:0\", \"127.0.0.1:0\"]\n".to_owned(),
        more: "[http]\nidle_s = 1\n".to_owned(),
        ..Setup::default()
    });
    let ports: Vec<u16> =
        gate.listening.iter().filter(|(name, _)| name == "http").map(|(_, at)| at.port()).collect();
    let ask = |port: u16| {
        let mut tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        tcp.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer);
        answer
    };
    assert!(!ask(ports[0]).starts_with(b"HTTP/1.1 200"), "plain HTTP beyond loopback");
    assert!(ask(ports[1]).starts_with(b"HTTP/1.1 200"));
    let mut silent = TcpStream::connect(("127.0.0.1", ports[1])).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(silent.read_to_end(&mut Vec::new()).unwrap(), 0, "closed after http.idle_s");
    gate.signal("TERM");
    assert_eq!(gate.wait(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn the_audit_log_and_the_reasons_are_told_to_those_who_may_see_them() {
    let gate = gate();
    let first = Api::first(&gate);
    gate.imap(ANN, APP).ok("LOGOUT");
    gate.imap("lisa@example.com", APP).ok("LOGOUT");
    first.put(&format!("/api/v1/admins/{OLAF}"), &json!({ "role": "admin", "unit": "/Listed" }));
    let olaf = Api::with(&gate, &own_token(&gate, OLAF));
    let users = |api: &Api| {
        let rows = api.get("/api/v1/audit?event=login").json();
        let mut users: Vec<String> =
            rows["items"].as_array().unwrap().iter().map(|row| row["user"].as_str().unwrap().to_owned()).collect();
        users.sort();
        users
    };
    assert_eq!(users(&first), [ANN, "lisa@example.com"]);
    assert_eq!(users(&olaf), ["lisa@example.com"]);
    let role = first.get("/api/v1/audit?event=role.set").json();
    assert!(role["items"].as_array().is_some(), "{role}");
    assert_eq!(first.get("/api/v1/audit?reference=hello").problem(), "bad-request");

    let ask =
        |api: &Api, user: &str, app: &str| api.get(&format!("/api/v1/why?user={user}&app={app}&service=imap"));
    let yes = ask(&first, ANN, APP).json();
    assert_eq!(yes["allowed"], true, "{yes}");
    let no = ask(&first, "lisa@example.com", OTHER_APP).json();
    assert_eq!(
        (&no["allowed"], &no["steps"].as_array().unwrap().last().unwrap()["check"]),
        (&json!(false), &json!("app"))
    );
    assert_eq!(ask(&olaf, "lisa@example.com", APP).json()["allowed"], true);
    assert_eq!(ask(&olaf, ANN, APP).problem(), "not-found");
    assert_eq!(first.get("/api/v1/why?user=a@b.test&app=x&service=smtp").problem(), "bad-request");
}

/// Runs `portcullis` against this gate's API: its exit code, and what it printed.
fn command(gate: &Gate, token: &str, arguments: &[&str]) -> (i32, String, String) {
    let address = gate.listening.iter().find(|(name, _)| name == "http").unwrap().1;
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(arguments)
        .env("PORTCULLIS_URL", format!("http://{address}"))
        .env("PORTCULLIS_TOKEN", token)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_does_all_of_it_for_people_and_for_programs() {
    let gate = gate();
    let file = gate.dir().join("data/bootstrap-secret");
    let (code, token, error) = command(&gate, "", &["bootstrap", "--secret-file", file.to_str().unwrap()]);
    assert_eq!((code, error.as_str()), (0, ""));
    let token = token.trim();
    assert!(token.starts_with("pct_"), "{token}");
    let mut session = gate.imap(ANN, APP);
    let (code, table, _) = command(&gate, token, &["grants", "list", "--user", ANN]);
    assert_eq!(code, 0);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("ID") && lines[1].contains("active") && lines[1].ends_with(APP), "{table}");
    let (_, json, _) = command(&gate, token, &["grants", "list", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let id = json["items"][0]["id"].to_string();
    let (code, out, error) = command(&gate, token, &["grants", "remove", &id]);
    assert_eq!((code, out.as_str()), (1, ""), "refused: {error}");
    assert!(error.contains("disable it first"), "{error}");
    let (code, table, _) = command(&gate, token, &["sessions", "list", "--user", ANN]);
    let line = table.lines().nth(1).unwrap_or_default().to_owned();
    assert!(code == 0 && line.contains(ANN) && line.ends_with(APP), "{table}");
    let name = line.split_whitespace().next().unwrap().to_owned();
    assert!(command(&gate, token, &["sessions", "show", &name]).1.contains("TLSv1.3"));
    assert_eq!(command(&gate, token, &["sessions", "end"]).0, 2, "nobody is named");
    let mut other = gate.imap("lisa@example.com", APP);
    assert_eq!(command(&gate, token, &["sessions", "end", "--user", "lisa@example.com"]).0, 0);
    other.bye();
    assert!(command(&gate, token, &["apps-seen", "list"]).1.contains("2 in, 0 refused"));
    assert_eq!(command(&gate, token, &["apps-seen", "allow", "x", "--unit", "/Off", "--service", "imap"]).0, 1);
    assert_eq!(command(&gate, token, &["grants", "disable", &id, "--reason", "lost"]).0, 0);
    session.bye();
    assert_eq!(command(&gate, token, &["grants", "remove", &id]).0, 0);
    assert_eq!(command(&gate, token, &["grants", "revoke", "--user", ANN]).0, 2, "--yes is missing");
    assert_eq!(command(&gate, token, &["grants", "revoke", "--user", ANN, "--yes"]).0, 0);

    assert_eq!(command(&gate, token, &["admins", "set", ANN, "--role", "super"]).0, 0);
    assert!(command(&gate, token, &["admins", "list"]).1.contains(ANN));
    assert_eq!(command(&gate, token, &["admins", "set", ANN, "--role", "admin"]).0, 2, "--unit is missing");
    let made =
        command(&gate, token, &["tokens", "make", "--name", "x", "--role", "auditor", "--scope", "audit:read"]);
    assert_eq!(made.0, 0, "{made:?}");
    assert!(command(&gate, made.1.trim(), &["me"]).1.contains("auditor"));
    assert_eq!(command(&gate, made.1.trim(), &["grants", "list"]).0, 1);
    assert_eq!(command(&gate, token, &["tokens", "revoke", "2"]).0, 0);
    assert_eq!(command(&gate, made.1.trim(), &["me"]).0, 1);

    let own = own_token(&gate, ANN);
    assert_eq!(command(&gate, &own, &["me", "switch", "imap", "off"]).0, 0);
    assert_eq!(command(&gate, &own, &["grants", "list", "--mine"]).0, 0);
    assert_eq!(command(&gate, token, &["me", "switch", "imap", "off"]).0, 1, "a token is no person");
    let (code, _, error) = command(&gate, token, &["me", "--url", "http://192.0.2.1:1980"]);
    assert!(code == 2 && error.contains("write https://"), "{error}");
    let (code, _, error) = command(&gate, "", &["me"]);
    assert!(code == 2 && error.contains("PORTCULLIS_TOKEN"), "{error}");
}

#[test]
fn live_sessions_are_listed_described_and_ended() {
    let gate = gate();
    let first = Api::first(&gate);
    let mut ann = gate.imap(ANN, APP);
    ann.ok("NOOP");
    let mut lisa = gate.imap("lisa@example.com", APP);
    let mut pop = gate.pop("lisa@example.com", APP);
    first.put(&format!("/api/v1/admins/{OLAF}"), &json!({ "role": "admin", "unit": "/Listed" }));
    let olaf = Api::with(&gate, &own_token(&gate, OLAF));
    let list = |api: &Api, query: &str| {
        let found = api.get(&format!("/api/v1/sessions{query}")).json();
        found["items"].as_array().unwrap_or_else(|| panic!("{found}")).clone()
    };
    assert_eq!(list(&first, "").len(), 3);
    assert_eq!(list(&olaf, "").len(), 2);
    assert_eq!(list(&first, "?service=pop").len(), 1);
    assert_eq!(list(&first, "?address=192.0.2.0/24").len(), 0);
    let anns = &list(&first, &format!("?user={ANN}"))[0];
    assert_eq!(
        (&anns["command"], &anns["app_name"], &anns["tls"]),
        (&json!("NOOP"), &json!("Test Mail"), &json!("TLSv1.3"))
    );
    assert!(anns["received"].as_u64().unwrap() > 0 && anns["sent"].as_u64().unwrap() > 0);
    let path = format!("/api/v1/sessions/{}", anns["id"].as_str().unwrap());
    assert_eq!(first.get(&path).json()["user"], ANN);
    assert_eq!(olaf.get(&path).problem(), "not-found");
    assert_eq!(olaf.delete(&path).problem(), "not-found");
    let (mut seen, mut next) = (0, String::new());
    for _ in 0..5 {
        let page = first.get(&format!("/api/v1/sessions?limit=1{next}")).json();
        seen += page["items"].as_array().unwrap().len();
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    assert_eq!(seen, 3);

    let began = Instant::now();
    assert_eq!(olaf.post("/api/v1/sessions/end", &json!({})).status, StatusCode::ACCEPTED, "all of the subtree");
    lisa.bye();
    assert!(pop.wire.line().starts_with("-ERR "));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    ann.ok("NOOP");
    assert_eq!(first.post("/api/v1/sessions/end", &json!({})).problem(), "bad-request", "everybody's");
    assert_eq!(first.delete(&path).status, StatusCode::NO_CONTENT);
    ann.bye();
    assert_eq!(first.get(&path).problem(), "not-found");
    for query in ["user=nobody", "service=smtp", "address=here", "cursor=*", "colour=red"] {
        assert_eq!(first.get(&format!("/api/v1/sessions?{query}")).problem(), "bad-request", "{query}");
    }
}

#[test]
fn apps_seen_are_let_in_with_one_call_and_passwords_tried_are_reported() {
    let gate = gate();
    let first = Api::first(&gate);
    assert_eq!(
        first.post("/api/v1/units", &json!({ "path": "/Sales", "set": { "imap": [APP] } })).status,
        StatusCode::CREATED
    );
    assert!(
        first
            .post("/api/v1/users", &json!({ "address": "bea@example.com", "set": { "unit": "/Sales" } }))
            .status
            .is_success()
    );
    assert!(!gate.admits("bea@example.com", "new-app"));
    gate.imap(ANN, APP).ok("LOGOUT");
    let seen = first.get("/api/v1/apps-seen").json();
    let of = |app: &str| seen["items"].as_array().unwrap().iter().find(|i| i["app"] == app).unwrap().clone();
    assert_eq!(of("new-app")["imap"], json!({ "accepted": 0, "refused": 1 }), "{seen}");
    assert_eq!(
        (&of(APP)["imap"]["accepted"], &of(APP)["name"], &of(APP)["users"]),
        (&json!(1), &json!("Test Mail"), &json!(1))
    );
    assert_eq!(first.get("/api/v1/apps-seen?refused=true").json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        first.get("/api/v1/apps-seen?unit=%2FSales").json()["items"][0]["some_users"],
        json!(["bea@example.com"])
    );
    let allow = |app: &str, unit: &str| {
        first.post("/api/v1/apps-seen/allow", &json!({ "app": app, "unit": unit, "service": "imap" }))
    };
    assert_eq!(allow("new-app", "/Sales").json(), json!({ "changed": true }));
    assert!(gate.admits("bea@example.com", "new-app"));
    assert!(gate.admits("bea@example.com", APP), "who was on the list stays there");
    assert_eq!(allow("new-app", "/Sales").json(), json!({ "changed": false }));
    assert_eq!(allow("new-app", "/").json(), json!({ "changed": false }), "any app comes in there");
    assert_eq!(allow("new-app", "/Off").problem(), "conflict");
    assert_eq!(allow("new-app", "/Nowhere").problem(), "not-found");

    let mut imap = support::wire::Imap::connect(&gate);
    imap.command("LOGIN lisa@example.com secret");
    let report = first.get("/api/v1/legacy").json();
    let row = &report["items"][0];
    assert_eq!(
        (&row["user"], &row["attempts"], &row["unit"]),
        (&json!("lisa@example.com"), &json!(1), &json!("/Listed")),
        "{report}"
    );
    assert!(!report.to_string().contains("secret"));
    assert_eq!(first.get("/api/v1/legacy?unit=%2FSales").json()["items"].as_array().unwrap().len(), 0);

    let metrics = first.get("/metrics");
    assert_eq!(metrics.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(metrics.text.ends_with("# EOF\n"), "{}", metrics.text);
    assert!(metrics.text.contains("portcullis_logins_total") && !metrics.text.contains('@'), "{}", metrics.text);
}
