//! Signing in at the console with a real OpenID provider (npm `oidc-provider`): the way there and back, what the cookie is good
//! for and what not, and the end of sessions. A small browser plays the person's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode, Url};
use serde_json::json;
use support::{
    ANN,
    api::Api,
    browser::{Browser, SIGN_IN, Shown, pair},
    program,
    provider::Provider,
    wire::{Imap, xoauth2},
};

#[test]
fn people_sign_in_with_the_organisations_issuer_and_the_cookie_takes_the_place_of_a_token() {
    if !program::have("node:oidc-provider") {
        return;
    }
    // The user is told by the userinfo endpoint; then by the ID token itself.
    let (mut provider, gate, mut browser) = pair("", "");
    for words in ["", " full"] {
        provider.ask(&format!("console {}{words}", browser.gateway), "console ");
        let page = browser.see("/");
        assert!(page.text.contains("You are not signed in") && page.text.contains("/signin"), "{}", page.text);
        assert_eq!(browser.me().status, StatusCode::UNAUTHORIZED);
        let shown = browser.sign_in(ANN, "/");
        assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
        assert!(shown.text.contains("http-equiv=\"refresh\" content=\"0; url=/\""), "{}", shown.text);
        let set: Vec<_> = shown.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap()).collect();
        assert!(set[0].starts_with("portcullis=pcs_") && set[0].contains("HttpOnly; SameSite=Strict"), "{set:?}");
        assert!(!browser.cookies.contains_key("portcullis-signin"), "what the sign-in needed is gone");
        let page = browser.see("/");
        assert!(page.text.contains(ANN) && page.text.contains("Role: user"), "{}", page.text);
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; form-action 'self'"), "{policy}");
        let me: serde_json::Value = serde_json::from_str(&browser.me().text).unwrap();
        assert_eq!((&me["name"], &me["role"], &me["user_unit"]), (&json!(ANN), &json!("user"), &json!("/")));
        assert_eq!(browser.api(Method::GET, "/api/v1/units", &[], &json!(null)).word(), "forbidden");
        let first = browser.cookies["portcullis"].0.clone();
        browser.sign_in(ANN, "/");
        let second = browser.cookies.insert("portcullis".into(), (first.clone(), true)).unwrap();
        assert_ne!(second.0, first, "each sign-in has a cookie of its own");
        assert_eq!(browser.me().status, StatusCode::UNAUTHORIZED, "the one before is over");
        browser.cookies.insert("portcullis".into(), second);

        let csrf = browser.csrf();
        let out = browser.submit("/signout", &[("csrf", &csrf)]);
        assert_eq!(out.status, StatusCode::OK, "{}", out.text);
        let onward = out.after("content=\"0; url=").unwrap();
        let onward = Url::parse(&onward).unwrap();
        let asked: BTreeMap<_, _> = onward.query_pairs().into_owned().collect();
        assert_eq!(onward.path(), "/session/end");
        assert_eq!(
            (&*asked["client_id"], asked["post_logout_redirect_uri"].clone()),
            ("console", format!("{}/", browser.gateway))
        );
        let confirm = browser.send(Method::GET, &onward, None, &[], false);
        let xsrf = confirm.after("name=\"xsrf\" value=\"").unwrap_or_else(|| panic!("{}", confirm.text));
        let form = [("xsrf", xsrf.as_str()), ("logout", "yes")];
        let done =
            browser.send(Method::POST, &onward.join("/session/end/confirm").unwrap(), Some(&form), &[], false);
        assert_eq!(done.location(), Some(format!("{}/", browser.gateway).as_str()), "{}", done.text);
        assert!(browser.see("/").text.contains("You are not signed in"));
    }
    let rows = gate.audit_with(&["--user", ANN], 4, |row| row["event"] == "sign_in" && row["outcome"] == "yes");
    assert!(rows.iter().any(|row| row["event"] == "sign_in.ended" && row["reason"] == "signed_out"), "{rows:?}");
    assert!(!gate.log().contains("pcs_"), "a cookie is in the log");
}

#[test]
fn whoever_signs_in_reads_the_exact_cause_of_their_own_refusal() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let (mut provider, gate, mut browser) = pair("", "");
    let olaf = "olaf@example.com";
    let blob = xoauth2(olaf, &provider.token(olaf));
    let status = Imap::connect(&gate).command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status;
    let reference = &status.split("(ref ").nth(1).unwrap_or_else(|| panic!("{status}"))[..6];
    let path = format!("/help/ref/{reference}");
    let page = browser.see(&path).text;
    assert!(
        page.contains(&format!("href=\"/signin?to={path}\"")) && !page.contains("policy_service_off"),
        "{page}"
    );
    assert_eq!(browser.sign_in(ANN, &path).status, StatusCode::OK);
    let page = browser.see(&path).text;
    assert!(page.contains("It is none of your own refusals") && !page.contains("policy_service_off"), "{page}");
    browser.cookies.clear();
    assert_eq!(browser.sign_in(olaf, &path).status, StatusCode::OK);
    let page = browser.see(&path).text;
    assert!(page.contains("policy_service_off") && page.contains("unit &#34;/Off&#34;"), "{page}");
}

#[test]
fn a_way_back_that_is_not_right_opens_nothing_and_says_why() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let (_provider, gate, mut browser) = pair("", " full");
    let first = Api::first(&gate);
    let over = |shown: &Shown, words: &str, status: StatusCode| {
        assert_eq!(shown.status, status, "{words}: {}", shown.text);
        assert!(shown.text.contains(words), "{words}: {}", shown.text);
        assert!(!shown.text.contains("<script") && shown.text.contains("/signin"), "{}", shown.text);
        assert!(
            shown.headers.get_all("set-cookie").iter().all(|v| !v.to_str().unwrap().contains("pcs_")),
            "{words}"
        );
    };
    let changed = |url: &Url, name: &str, value: Option<&str>| {
        let pairs: Vec<_> = url.query_pairs().into_owned().filter(|(key, _)| key != name).collect();
        let mut url = url.clone();
        url.query_pairs_mut().clear().extend_pairs(pairs).extend_pairs(value.map(|value| (name, value)));
        url
    };

    // Another browser, another state, none, twice.
    let back = browser.as_far_as_the_way_back(ANN, "/");
    let mut other = Browser::new(&gate);
    over(&other.come_back(&back), "not begun in this browser", StatusCode::BAD_REQUEST);
    over(&browser.come_back(&changed(&back, "state", Some("x"))), "not begun", StatusCode::BAD_REQUEST);
    over(&browser.come_back(&changed(&back, "state", None)), "not begun", StatusCode::BAD_REQUEST);
    let twice = format!("{back}&state=x");
    over(&browser.come_back(&Url::parse(&twice).unwrap()), "not begun", StatusCode::BAD_REQUEST);

    // Right in all, but for one thing. Each needs a sign-in of its own: a way back is good for one try.
    let back = browser.as_far_as_the_way_back(ANN, "/");
    let elsewhere = changed(&back, "iss", Some("https://evil.example.org"));
    over(&browser.come_back(&elsewhere), "another sign-in service", StatusCode::BAD_REQUEST);
    over(&browser.come_back(&back), "not begun in this browser", StatusCode::BAD_REQUEST);
    let back = browser.as_far_as_the_way_back(ANN, "/");
    over(
        &browser.come_back(&changed(&back, "code", Some("guessed"))),
        "used already, or is too old",
        StatusCode::FORBIDDEN,
    );
    let back = browser.as_far_as_the_way_back(ANN, "/");
    over(&browser.come_back(&changed(&back, "code", None)), "sent no code", StatusCode::BAD_REQUEST);
    let back = browser.as_far_as_the_way_back(ANN, "/");
    let denied = changed(&changed(&back, "code", None), "error", Some("access_denied<script>"));
    over(&browser.come_back(&denied), "does not let this gateway ask", StatusCode::FORBIDDEN);
    let back = browser.as_far_as_the_way_back(ANN, "/");
    let denied = changed(&changed(&back, "code", None), "error", Some("access_denied"));
    let shown = browser.come_back(&denied);
    over(&shown, "did not allow it", StatusCode::FORBIDDEN);
    let reference = shown.text.split_once("Reference: ").unwrap().1[..6].to_owned();
    let row = &gate.audit_with(&["--reference", &reference], 1, |_| true)[0];
    assert_eq!(
        (&row["event"], &row["reason"], &row["outcome"]),
        (&json!("sign_in"), &json!("signin_denied"), &json!("no"))
    );

    // The code of one person's sign-in in another's browser: the verifier is not the one.
    let anns = browser.as_far_as_the_way_back(ANN, "/");
    let code = anns.query_pairs().find(|(key, _)| key == "code").unwrap().1.into_owned();
    let lisas = other.as_far_as_the_way_back("lisa@example.com", "/");
    over(
        &other.come_back(&changed(&lisas, "code", Some(&code))),
        "used already, or is too old",
        StatusCode::FORBIDDEN,
    );

    // Whoever is nobody here, or may not come in.
    over(
        &Browser::new(&gate).sign_in("nobody@example.com", "/bootstrap"),
        "nobody@example.com",
        StatusCode::FORBIDDEN,
    );
    let bea = json!({ "address": "bea@example.com", "set": { "unit": "/", "suspended": true } });
    assert_eq!(first.post("/api/v1/users", &bea).status, StatusCode::CREATED);
    over(&Browser::new(&gate).sign_in("bea@example.com", "/"), "suspended", StatusCode::FORBIDDEN);
    // A foreign place to go on to is none.
    let shown = Browser::new(&gate).sign_in(ANN, "//evil.example.org");
    assert!(shown.text.contains("url=/\""), "{}", shown.text);
}

#[test]
fn a_session_ends_within_a_second_of_what_takes_its_ground_away_and_does_not_come_back() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let (mut provider, gate, mut browser) = pair("idle_s = 3\n", " full");
    let first = Api::first(&gate);
    let user = "bea@example.com";
    let path = format!("/api/v1/users/{user}");
    let made = first.post("/api/v1/users", &json!({ "address": user, "set": { "unit": "/" } }));
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let gone = |browser: &mut Browser, what: &str| {
        let began = Instant::now();
        while browser.me().status == StatusCode::OK {
            assert!(began.elapsed() < Duration::from_secs(1), "{what}: still in");
        }
    };
    let ended = |reason: &str| {
        gate.audit_with(&["--user", user], 1, |row| row["event"] == "sign_in.ended" && row["reason"] == reason);
    };

    assert_eq!(browser.sign_in(user, "/").status, StatusCode::OK);
    assert_eq!(first.if_match("*").patch(&path, &json!({ "suspended": true })).status, StatusCode::OK);
    gone(&mut browser, "suspended");
    ended("user_suspended");
    assert_eq!(first.if_match("*").patch(&path, &json!({ "suspended": false })).status, StatusCode::OK);
    assert_eq!(browser.me().status, StatusCode::UNAUTHORIZED, "who may come in again signs in again");

    // The issuer's own sign-out.
    provider.ask(&format!("tell {}/backchannel-logout", browser.gateway), "told ");
    provider.ask(&format!("console {} full", browser.gateway), "console ");
    let mut fresh = Browser::new(&gate);
    assert_eq!(fresh.sign_in(user, "/").status, StatusCode::OK);
    std::thread::sleep(Duration::from_millis(1100)); // tokens say the second in which they were issued
    let end = Url::parse(&provider.issuer).unwrap().join("/session/end").unwrap();
    let page = fresh.send(Method::GET, &end, None, &[], false);
    let xsrf = page.after("name=\"xsrf\" value=\"").unwrap_or_else(|| panic!("{}", page.text));
    let form = [("xsrf", xsrf.as_str()), ("logout", "yes")];
    fresh.send(Method::POST, &end.join("/session/end/confirm").unwrap(), Some(&form), &[], false);
    gone(&mut fresh, "signed out at the issuer");
    ended("token_revoked");

    // Nobody used it for idle_s; and each use counts.
    std::thread::sleep(Duration::from_millis(1100));
    let mut idle = Browser::new(&gate);
    assert_eq!(idle.sign_in(user, "/").status, StatusCode::OK);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(1200));
        assert_eq!(idle.me().status, StatusCode::OK, "a session in use went idle");
    }
    std::thread::sleep(Duration::from_millis(4100));
    assert_eq!(idle.me().status, StatusCode::UNAUTHORIZED);

    // The user is gone.
    let mut last = Browser::new(&gate);
    assert_eq!(last.sign_in(user, "/").status, StatusCode::OK);
    assert_eq!(first.if_match("*").delete(&path).status, StatusCode::NO_CONTENT);
    gone(&mut last, "removed");
}

#[test]
fn where_sign_in_is_not_set_up_or_its_issuer_is_away_the_pages_say_so() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let mut provider = Provider::start();
    let gate = provider.gate();
    let mut browser = Browser::new(&gate);
    assert!(browser.see("/").text.contains("the config has no [http.signin]"));
    assert_eq!(browser.see("/signin").status, StatusCode::NOT_FOUND);
    let page = browser.see("/bootstrap");
    assert!(page.text.contains("portcullis bootstrap --secret-file"), "{}", page.text);
    assert!(!gate.dir().join("data/bootstrap-link").exists(), "a link that leads nowhere");

    let gate = provider.gate_with(SIGN_IN);
    let mut browser = Browser::new(&gate);
    provider.ask("down", "down");
    let shown = browser.see("/signin");
    assert_eq!(shown.status, StatusCode::SERVICE_UNAVAILABLE, "{}", shown.text);
    assert!(shown.text.contains("Reference: ") && shown.text.contains("Try again"), "{}", shown.text);
    provider.ask("up", "up");
    std::thread::sleep(Duration::from_millis(1100)); // the gap that the gate keeps between two questions
    assert_eq!(browser.see("/signin").status, StatusCode::SEE_OTHER);
}

#[test]
fn over_tls_the_cookie_is_for_this_host_alone_and_never_sent_in_the_clear() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let mut provider = Provider::start();
    let gate = provider.gate_with(&format!("tls = true\n{SIGN_IN}"));
    let mut browser = Browser::by(&gate, "https");
    provider.ask(&format!("console {} full", browser.gateway), "console ");
    let shown = browser.sign_in(ANN, "/");
    assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
    let set: Vec<_> = shown.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap()).collect();
    assert!(set[0].starts_with("__Host-portcullis=pcs_"), "{set:?}");
    assert!(set[0].ends_with("; HttpOnly; SameSite=Strict; Secure; Path=/"), "{set:?}");
    assert!(set[1].starts_with("__Host-portcullis-signin=; ") && set[1].ends_with("; Max-Age=0"), "{set:?}");
    assert_eq!(browser.me().status, StatusCode::OK);
    // The name that is for plain http opens nothing here.
    let (value, strict) = browser.cookies.remove("__Host-portcullis").unwrap();
    browser.cookies.insert("portcullis".into(), (value, strict));
    assert_eq!(browser.me().status, StatusCode::UNAUTHORIZED);
}
