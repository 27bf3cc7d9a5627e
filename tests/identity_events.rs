//! What an issuer says of its accounts and sign-ins ends the sessions it is about, within a second, and only those.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{
    ANN, APP, AUDIENCE, Gate, ISSUER, Setup,
    api::{Answer, Api},
    database, postgres,
    token::{self, now_s},
    wire::{Imap, xoauth2},
};

const LISA: &str = "lisa@example.com";
/// From the event sent to the last word on the wire.
const AT_MOST: Duration = Duration::from_secs(1);
const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";

fn gate() -> Gate {
    gate_with(Setup::default().database)
}

fn gate_with(database: String) -> Gate {
    let listen = "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n";
    let more = "[http]\nfailures_per_minute = 1000\n".to_owned();
    Gate::with(Setup { listen: listen.to_owned(), database, more, ..Setup::default() })
}

/// A token of this user, from this sign-in, as old as that.
fn token_of(gate: &Gate, user: &str, sid: Option<&str>, age_s: i64) -> String {
    let mut claims = token::claims(user, APP, 3600);
    claims["iat"] = json!(now_s() - age_s);
    if let Some(sid) = sid {
        claims["sid"] = json!(sid);
    }
    gate.key.sign(&claims)
}

/// A session in IDLE.
fn idle(gate: &Gate, user: &str, token: &str) -> (Imap, String) {
    let mut imap = Imap::connect(gate);
    imap.xoauth2(user, token);
    imap.ok("SELECT INBOX");
    let tag = imap.idle();
    (imap, tag)
}

/// Checks that a session in IDLE heard nothing and still works.
fn goes_on((imap, tag): &mut (Imap, String)) {
    assert!(imap.wire.is_silent_for(Duration::from_millis(50)), "a session that nobody named was disturbed");
    imap.wire.send("DONE");
    let reply = imap.finish(tag);
    assert!(reply.status.starts_with("OK"), "{}", reply.status);
    *tag = imap.idle();
}

/// Checks that the last word came in time.
fn out(session: (Imap, String), since: Instant, words: &str) {
    let (text, at) = { session }.0.bye();
    assert!(text.contains(words), "BYE {text}, expected {words}");
    assert!(at - since < AT_MOST, "the BYE took {:?}", at - since);
}

fn sign_in(gate: &Gate, user: &str, token: &str) -> String {
    Imap::connect(gate).command(&format!("AUTHENTICATE XOAUTH2 {}", xoauth2(user, token))).status
}

/// A security event token about one event.
fn event(gate: &Gate, id: &str, kind: &str, subject: &Value) -> String {
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "iat": now_s(), "jti": id, "sub_id": subject, "events": { kind: {} },
    });
    gate.key.sign_as("secevent+jwt", &claims)
}

fn push(gate: &Gate, token: &str) -> Answer {
    let host = reqwest::Url::parse(ISSUER).unwrap().host_str().unwrap().to_owned();
    let body = token.as_bytes().to_vec();
    Api::stranger(gate).raw(Method::POST, &format!("/events/{host}"), "application/secevent+jwt", body)
}

fn log_out(gate: &Gate, token: &str) -> Answer {
    let form = format!("logout_token={token}").into_bytes();
    Api::stranger(gate).raw(Method::POST, "/backchannel-logout", "application/x-www-form-urlencoded", form)
}

/// Audit rows about such events.
fn events(gate: &Gate, event: &str) -> Vec<Value> {
    gate.audit(&[]).into_iter().filter(|row| row["event"] == event).collect()
}

fn accepted(answer: &Answer) {
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::ACCEPTED, ""));
}

#[test]
fn a_revoked_session_is_out_in_idle_within_a_second_and_its_token_with_it() {
    let gate = gate();
    let old = token_of(&gate, ANN, None, 5);
    let falls = idle(&gate, ANN, &old);
    let mut stays = idle(&gate, LISA, &token_of(&gate, LISA, None, 5));

    let subject = json!({ "format": "iss_sub", "iss": ISSUER, "sub": format!("id-of-{ANN}") });
    let revoked = event(&gate, "e1", &format!("{CAEP}session-revoked"), &subject);
    let sent = Instant::now();
    accepted(&push(&gate, &revoked));
    out(falls, sent, "Your sign-in was withdrawn.");
    goes_on(&mut stays);
    let status = sign_in(&gate, ANN, &old);
    assert!(status.starts_with("NO [AUTHENTICATIONFAILED] Your sign-in was withdrawn."), "{status}");
    // A token from before that the gate has not seen yet is no better.
    let status = sign_in(&gate, ANN, &token_of(&gate, ANN, None, 2));
    assert!(status.starts_with("NO [AUTHENTICATIONFAILED]"), "{status}");
    let status = sign_in(&gate, ANN, &token_of(&gate, ANN, None, -1));
    assert!(status.starts_with("OK"), "{status}");

    // The same event again changes nothing: whoever signed in since stays.
    let mut newer = idle(&gate, ANN, &token_of(&gate, ANN, None, -2));
    accepted(&push(&gate, &revoked));
    goes_on(&mut newer);
    let rows = events(&gate, "identity.event");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((&rows[0]["reason"], &rows[0]["issuer"]), (&json!("session-revoked"), &json!(ISSUER)));
    gate.audit_with(&["--user", ANN], 1, |row| row["event"] == "session.ended" && row["reason"] == "token_revoked");
}

#[test]
fn an_event_that_one_node_hears_ends_the_sessions_on_the_other_within_a_second() {
    let Some(server) = postgres::shared() else { return };
    let url = server.database();
    let (one, two) = (gate_with(database(&url)), gate_with(database(&url)));
    two.set_keys(&[&one.key]);
    let old = token_of(&one, ANN, None, 5);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !sign_in(&two, ANN, &old).starts_with("OK") {
        assert!(Instant::now() < deadline, "the second node never took the first one's key");
        std::thread::sleep(Duration::from_millis(50));
    }
    let near = idle(&one, ANN, &old);
    let far = idle(&two, ANN, &old);
    let mut stays = idle(&two, LISA, &token_of(&one, LISA, None, 5));
    let subject = json!({ "format": "email", "email": ANN });
    let revoked = event(&one, "n1", &format!("{CAEP}session-revoked"), &subject);
    let sent = Instant::now();
    accepted(&push(&one, &revoked));
    out(near, sent, "Your sign-in was withdrawn.");
    out(far, sent, "Your sign-in was withdrawn.");
    goes_on(&mut stays);
    assert!(sign_in(&two, ANN, &old).starts_with("NO [AUTHENTICATIONFAILED]"));

    // Sent again, to the other node: nothing new.
    accepted(&push(&two, &revoked));
    assert_eq!(events(&two, "identity.event").len(), 1);
}

#[test]
fn the_end_of_one_sign_in_leaves_the_users_others_alone() {
    let gate = gate();
    let falls = idle(&gate, ANN, &token_of(&gate, ANN, Some("s1"), 5));
    let unnamed = idle(&gate, ANN, &token_of(&gate, ANN, None, 5));
    let mut stays = idle(&gate, ANN, &token_of(&gate, ANN, Some("s2"), 5));
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "iat": now_s(), "exp": now_s() + 120, "jti": "l1",
        "sub": format!("id-of-{ANN}"), "sid": "s1",
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
    });
    let sent = Instant::now();
    let answer = log_out(&gate, &gate.key.sign_as("logout+jwt", &claims));
    assert_eq!((answer.status, &answer.headers["cache-control"]), (StatusCode::OK, &"no-store".parse().unwrap()));
    out(falls, sent, "Your sign-in was withdrawn.");
    out(unnamed, sent, "Your sign-in was withdrawn.");
    goes_on(&mut stays);
}

#[test]
fn a_disabled_account_stays_out_with_any_token_until_it_is_enabled() {
    let gate = gate();
    let falls = idle(&gate, ANN, &token_of(&gate, ANN, None, 5));
    let mut pop = gate.pop(ANN, APP);
    let subject = json!({ "format": "email", "email": ANN });
    let sent = Instant::now();
    accepted(&push(&gate, &event(&gate, "d1", &format!("{RISC}account-disabled"), &subject)));
    out(falls, sent, "[CONTACTADMIN] This account is closed");
    let last = pop.wire.line();
    assert!(last.starts_with("-ERR [SYS/PERM] This account is closed"), "{last}");
    let fresh = token_of(&gate, ANN, None, -1);
    let status = sign_in(&gate, ANN, &fresh);
    assert!(status.starts_with("NO [CONTACTADMIN] This account is closed"), "{status}");

    accepted(&push(&gate, &event(&gate, "d2", &format!("{RISC}account-enabled"), &subject)));
    std::thread::sleep(Duration::from_millis(1100));
    let status = sign_in(&gate, ANN, &token_of(&gate, ANN, None, 0));
    assert!(status.starts_with("OK"), "{status}");

    accepted(&push(&gate, &event(&gate, "d3", &format!("{RISC}account-purged"), &subject)));
    accepted(&push(&gate, &event(&gate, "d4", &format!("{RISC}account-enabled"), &subject)));
    let status = sign_in(&gate, ANN, &token_of(&gate, ANN, None, -1));
    assert!(status.starts_with("NO [CONTACTADMIN]"), "{status}");
}

#[test]
fn what_an_issuer_said_holds_after_a_crash() {
    let mut gate = gate();
    let old = token_of(&gate, ANN, None, 5);
    let subject = json!({ "format": "email", "email": ANN });
    accepted(&push(&gate, &event(&gate, "c1", &format!("{CAEP}credential-change"), &subject)));
    gate.crash_and_restart();
    let status = sign_in(&gate, ANN, &old);
    assert!(status.starts_with("NO [AUTHENTICATIONFAILED] Your sign-in was withdrawn."), "{status}");
    let status = sign_in(&gate, ANN, &token_of(&gate, ANN, None, -1));
    assert!(status.starts_with("OK"), "{status}");
}

#[test]
fn what_is_no_event_of_this_issuer_is_refused_by_name_and_ends_nothing() {
    let gate = gate();
    let access = token_of(&gate, ANN, None, 5);
    let mut stays = idle(&gate, ANN, &access);
    let kind = format!("{CAEP}session-revoked");
    let subject = json!({ "format": "email", "email": ANN });
    let good = event(&gate, "x1", &kind, &subject);
    let stranger = token::SigningKey::new(&gate.key.kid);
    let claims = |changes: &Value| {
        let mut claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "iat": now_s(), "jti": "x2", "sub_id": subject, "events": { kind.as_str(): {} },
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims
    };
    let signed = |changes: Value| gate.key.sign_as("secevent+jwt", &claims(&changes));
    for (name, token, expected) in [
        ("an access token", access.clone(), "invalid_request"),
        ("a logout token", gate.key.sign_as("logout+jwt", &claims(&json!({}))), "invalid_request"),
        ("nothing", String::new(), "invalid_request"),
        ("rubbish", "%%%\0".to_owned(), "invalid_request"),
        ("another issuer", signed(json!({"iss": "https://evil.example"})), "invalid_issuer"),
        ("another audience", signed(json!({"aud": "other"})), "invalid_audience"),
        ("too old", signed(json!({"iat": now_s() - 86_460})), "invalid_request"),
        (
            "another's key by the same name",
            stranger.sign_as("secevent+jwt", &claims(&json!({}))),
            "authentication_failed",
        ),
        ("an unknown key", token::SigningKey::new("k").sign_as("secevent+jwt", &claims(&json!({}))), "invalid_key"),
    ] {
        let answer = push(&gate, &token);
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}: {}", answer.text);
        assert_eq!(answer.json()["err"], expected, "{name}: {}", answer.text);
        assert!(!answer.json()["description"].as_str().unwrap().is_empty(), "{name}");
        let answer = log_out(&gate, &token);
        assert_eq!(answer.json()["error"], "invalid_request", "{name}: {}", answer.text);
    }
    let api = Api::stranger(&gate);
    let answer = api.raw(Method::POST, "/events/nobody.example", "application/secevent+jwt", good.clone().into());
    assert_eq!(answer.problem(), "not-found");
    let host = reqwest::Url::parse(ISSUER).unwrap().host_str().unwrap().to_owned();
    let answer = api.raw(Method::POST, &format!("/events/{host}"), "application/jwt", good.clone().into());
    assert_eq!(answer.json()["err"], "invalid_request");
    let answer = api.raw(Method::POST, "/backchannel-logout", "application/x-www-form-urlencoded", b"a=b".to_vec());
    assert_eq!(answer.json()["error"], "invalid_request");
    goes_on(&mut stays);
    // An event is no access token either.
    let status = sign_in(&gate, ANN, &good);
    assert!(status.starts_with("NO [AUTHENTICATIONFAILED]"), "{status}");
    assert!(events(&gate, "identity.event").is_empty());
    assert!(!gate.log().contains(&good), "the log has the event token");

    let whole = format!("/events/{}", ISSUER.replace('/', "%2F"));
    accepted(&api.raw(Method::POST, &whole, "application/secevent+jwt", good.into()));
}

#[test]
fn an_admin_of_everything_sees_what_issuers_said_and_can_have_it_forgotten() {
    let gate = gate();
    let admin = Api::first(&gate);
    for (id, kind, user) in [("a1", "account-purged", ANN), ("a2", "account-disabled", LISA)] {
        let subject = json!({ "format": "email", "email": user });
        accepted(&push(&gate, &event(&gate, id, &format!("{RISC}{kind}"), &subject)));
    }
    let first = admin.get("/api/v1/cutoffs?limit=1").json();
    let item = &first["items"][0];
    assert_eq!(
        (&item["issuer"], &item["kind"], &item["subject"]),
        (&json!(ISSUER), &json!("address"), &json!(ANN))
    );
    assert_eq!((&item["account"], &item["event"]), (&json!("purged"), &json!("account-purged")));
    let second = admin.get(&format!("/api/v1/cutoffs?cursor={}", first["next"].as_str().unwrap())).json();
    assert_eq!((&second["items"][0]["subject"], &second["next"]), (&json!(LISA), &Value::Null));
    assert_eq!(second["items"].as_array().unwrap().len(), 1);

    let fresh = token_of(&gate, ANN, None, -1);
    assert!(sign_in(&gate, ANN, &fresh).starts_with("NO [CONTACTADMIN]"));
    let key = json!({ "issuer": ISSUER, "kind": "address", "subject": ANN });
    assert_eq!(admin.post("/api/v1/cutoffs/forget", &key).status, StatusCode::NO_CONTENT);
    assert!(sign_in(&gate, ANN, &fresh).starts_with("OK"));
    assert_eq!(admin.post("/api/v1/cutoffs/forget", &key).problem(), "not-found");
    let wrong = json!({ "issuer": ISSUER, "kind": "nobody", "subject": ANN });
    assert_eq!(admin.post("/api/v1/cutoffs/forget", &wrong).problem(), "not-found");
    assert_eq!(admin.get("/api/v1/cutoffs?cursor=AAAA").problem(), "bad-request");

    let unit = json!({ "name": "unit", "role": "admin", "unit": "/Listed" });
    let auditor = json!({ "name": "auditor", "role": "auditor" });
    for (role, sees) in [(unit, false), (auditor, true)] {
        let made = admin.post("/api/v1/tokens", &role).json();
        let api = Api::with(&gate, made["token"].as_str().unwrap());
        assert_eq!(api.get("/api/v1/cutoffs").status == StatusCode::OK, sees, "{role}");
        assert_eq!(api.post("/api/v1/cutoffs/forget", &key).problem(), "forbidden", "{role}");
    }
}
