//! What signing in at the console holds against: floods of answers, answers of another issuer, pages of another site, and an
//! issuer that the operator has left. With a real OpenID provider (npm `oidc-provider`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use support::{
    ANN, Gate, ISSUER,
    api::Api,
    browser::{Browser, SIGN_IN, pair},
    program,
    provider::Provider,
};

#[test]
fn too_many_answers_are_turned_away_before_the_issuer_is_asked() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let mut provider = Provider::start();
    let gate = provider.gate_with(&format!("failures_per_minute = 10\n{SIGN_IN}"));
    let mut browser = Browser::new(&gate);
    provider.ask(&format!("console {} full", browser.gateway), "console ");
    let back = browser.as_far_as_the_way_back(ANN, "/");
    let stranger = Api::with(&gate, "pct_wrong");
    let spent = (0..20).any(|_| stranger.get("/api/v1/me").status == StatusCode::TOO_MANY_REQUESTS);
    assert!(spent, "this address may fail as often as it likes");
    let early = browser.come_back(&back);
    assert_eq!(early.status, StatusCode::TOO_MANY_REQUESTS, "{}", early.text);
    // One in six seconds is let through. The code, which is good for one question, has not been asked about yet.
    std::thread::sleep(Duration::from_millis(6_500));
    let shown = browser.come_back(&back);
    assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
    assert_eq!(browser.me().status, StatusCode::OK);
}

#[test]
fn an_answer_that_names_no_issuer_is_refused_where_the_issuer_says_that_it_names_itself() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let (_provider, gate, mut browser) = pair("", " full");
    let back = browser.as_far_as_the_way_back(ANN, "/");
    let pairs: Vec<_> = back.query_pairs().into_owned().filter(|(name, _)| name != "iss").collect();
    let mut nameless = back.clone();
    nameless.query_pairs_mut().clear().extend_pairs(pairs);
    assert_ne!(nameless, back, "the provider names itself (RFC 9207)");
    let shown = browser.come_back(&nameless);
    assert_eq!(shown.status, StatusCode::BAD_REQUEST, "{}", shown.text);
    assert!(shown.text.contains("another sign-in service"), "{}", shown.text);
    assert_eq!(browser.me().status, StatusCode::UNAUTHORIZED);
    gate.audit_with(&["--cause", "signin_issuer"], 1, |row| row["event"] == "sign_in" && row["outcome"] == "no");
}

#[test]
fn a_page_of_another_site_signs_nobody_out_by_asking_for_a_sign_in() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let (_provider, _gate, mut browser) = pair("", " full");
    assert_eq!(browser.sign_in(ANN, "/").status, StatusCode::OK);
    let url = browser.url("/signin");
    for (site, mode, stays) in [
        ("cross-site", "navigate", true),
        // A page of a sibling name: its requests carry even the strict cookie.
        ("same-site", "navigate", true),
        ("same-site", "no-cors", true),
        // A picture, in a page of ours.
        ("same-origin", "no-cors", true),
        ("none", "navigate", false),
        ("same-origin", "navigate", false),
    ] {
        let headers = [("sec-fetch-site", site), ("sec-fetch-mode", mode)];
        let begun = browser.send(Method::GET, &url, None, &headers, false);
        assert_eq!(begun.status, StatusCode::SEE_OTHER, "{site} {mode}: {}", begun.text);
        assert_eq!(browser.me().status == StatusCode::OK, stays, "{site} {mode}");
        if !stays {
            assert_eq!(browser.sign_in(ANN, "/").status, StatusCode::OK);
        }
    }
}

#[test]
fn sessions_of_an_issuer_that_was_left_are_over() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let (_provider, mut gate, mut browser) = pair("", " full");
    assert_eq!(browser.sign_in(ANN, "/").status, StatusCode::OK);
    let before = std::fs::read_to_string(gate.config()).unwrap();
    let restart = |gate: &mut Gate, browser: &mut Browser, config: &str| {
        std::fs::write(gate.config(), config).unwrap();
        gate.crash_and_restart();
        let port = gate.listening.iter().find(|(name, _)| name == "http").unwrap().1.port();
        let mut url = Url::parse(&browser.gateway).unwrap();
        url.set_port(Some(port)).unwrap();
        browser.gateway = url.as_str().trim_end_matches('/').to_owned();
    };
    restart(&mut gate, &mut browser, &before);
    assert_eq!(browser.me().status, StatusCode::OK, "a restart ends no session");

    let elsewhere = before.replace("[http.signin]\n", &format!("[http.signin]\nissuer = \"{ISSUER}\"\n"));
    let keys = gate.dir().join("jwks.json");
    let issuer = format!(
        "[[issuer]]\nurl = \"{ISSUER}\"\naudience = [\"portcullis\"]\njwks_file = \"{}\"\n",
        keys.display()
    );
    restart(&mut gate, &mut browser, &format!("{elsewhere}\n{issuer}"));
    assert_eq!(browser.me().status, StatusCode::UNAUTHORIZED);
    assert!(browser.see("/").text.contains("You are not signed in"));
    let ended = |row: &serde_json::Value| row["event"] == "sign_in.ended" && row["reason"] == "signin_issuer";
    gate.audit_with(&["--user", ANN], 1, ended);
    restart(&mut gate, &mut browser, &before);
    assert_eq!(browser.me().status, StatusCode::UNAUTHORIZED, "what was ended does not come back");
}
