//! The first admin: the link that is made at start while nobody administers, opened and signed in with a real OpenID provider
//! (npm `oidc-provider`); once, for 15 minutes, and never in a log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{os::unix::fs::PermissionsExt, process::Command, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::json;
use support::{
    Gate, Setup,
    api::Api,
    browser::{Browser, SIGN_IN, pair},
    program,
    provider::Provider,
};

const ROOT: &str = "root@example.com";

fn link(gate: &Gate) -> String {
    let file = gate.dir().join("data/bootstrap-link");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

/// The link's place on this server, as a person opens it: the page that comes in the end.
fn open(browser: &mut Browser, link: &str) -> support::browser::Shown {
    let place =
        link.strip_prefix(&browser.gateway).unwrap_or_else(|| panic!("{link} is not of {}", browser.gateway));
    let shown = browser.see(place);
    assert_eq!((shown.status, shown.location()), (StatusCode::SEE_OTHER, Some("/bootstrap")), "{}", shown.text);
    assert_eq!(shown.headers["referrer-policy"], "no-referrer");
    assert_eq!(shown.headers["cache-control"], "no-store");
    let set = shown.headers["set-cookie"].to_str().unwrap();
    assert!(set.starts_with("portcullis-bootstrap=pcb_"), "{set}");
    assert!(set.ends_with("; HttpOnly; SameSite=Strict; Path=/; Max-Age=900"), "{set}");
    let page = browser.see("/bootstrap");
    assert_eq!(page.headers["cache-control"], "no-store");
    page
}

#[test]
fn the_link_makes_whoever_opens_it_and_signs_in_super_admin_once() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let (_provider, gate, mut browser) = pair("", " full");
    let link = link(&gate);
    let secret = link.split_once("secret=").unwrap().1.to_owned();
    let page = open(&mut browser, &link);
    assert!(page.text.contains("/signin?to=/bootstrap") && !page.text.contains("pcb_"), "{}", page.text);
    let shown = browser.sign_in(ROOT, "/bootstrap");
    assert!(shown.text.contains("url=/bootstrap"), "{}", shown.text);
    let page = browser.see("/bootstrap");
    let filled = page.after("required value=\"").unwrap_or_else(|| panic!("{}", page.text));
    assert_eq!(filled, secret);
    let csrf = page.after("name=\"csrf\" value=\"").unwrap();
    let good = browser.submit("/bootstrap", &[("csrf", &csrf), ("secret", &filled)]);
    assert_eq!(good.status, StatusCode::OK, "{}", good.text);
    assert!(!browser.cookies.contains_key("portcullis-bootstrap"), "the secret stays in the browser");
    let me: serde_json::Value = serde_json::from_str(&browser.me().text).unwrap();
    assert_eq!((&me["name"], &me["role"]), (&json!(ROOT), &json!("super")));

    // Opened again, by them or by somebody else.
    for browser in [&mut browser, &mut Browser::new(&gate)] {
        let page = open(browser, &link);
        assert!(page.text.contains("somebody administers already") && !page.text.contains("pcb_"), "{}", page.text);
        assert!(!browser.cookies.contains_key("portcullis-bootstrap"));
    }
    let again = browser.submit("/bootstrap", &[("csrf", &csrf), ("secret", &secret)]);
    assert_eq!(again.status, StatusCode::FORBIDDEN, "used is used: {}", again.text);
    assert!(!gate.log().contains(&secret), "the secret is in the log");
    let rows = gate.audit_with(&[], 1, |row| row["event"] == "bootstrap.refused");
    assert!(rows.iter().all(|row| !row.to_string().contains(&secret)), "the secret is in the audit log");
}

#[test]
fn a_link_that_is_old_or_wrong_opens_nothing_and_whoever_guesses_is_slowed_and_told_of() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let mut provider = Provider::start();
    let gate = provider.gate_with(&format!("failures_per_minute = 10\n{SIGN_IN}"));
    let mut browser = Browser::new(&gate);
    provider.ask(&format!("console {} full", browser.gateway), "console ");
    let link = link(&gate);
    let secret = link.split_once("secret=").unwrap().1.to_owned();
    for broken in
        ["", "pcb_", "pcb_%0d%0aSet-Cookie:%20x", "pct_abc", &format!("pcb_{}", "a".repeat(100)), "a&secret=b"]
    {
        let shown = browser.see(&format!("/bootstrap?secret={broken}"));
        assert_eq!(shown.status, StatusCode::BAD_REQUEST, "{broken}: {}", shown.text);
        assert!(shown.text.contains("This link is not whole"), "{}", shown.text);
        assert_eq!(shown.headers["referrer-policy"], "no-referrer");
        assert!(shown.headers.get("set-cookie").is_none(), "{broken}");
    }
    // One of the right shape tells nothing by itself.
    let guess = format!("pcb_{}", "a".repeat(43));
    let guessed = link.replace(&secret, &guess);
    assert!(open(&mut browser, &guessed).text.contains("Sign in first"));
    assert_eq!(browser.sign_in(ROOT, "/bootstrap").status, StatusCode::OK);
    let page = browser.see("/bootstrap");
    assert_eq!(page.after("required value=\""), Some(guess.clone()));
    let csrf = page.after("name=\"csrf\" value=\"").unwrap();
    let mut refused = 0;
    let slowed = loop {
        let shown = browser.submit("/bootstrap", &[("csrf", &csrf), ("secret", &guess)]);
        if shown.status != StatusCode::FORBIDDEN {
            break shown;
        }
        assert!(shown.text.contains("That secret is not good"), "{}", shown.text);
        assert!(!browser.cookies.contains_key("portcullis-bootstrap"), "what is wrong stays in the browser");
        refused += 1;
        assert!(refused <= 10, "nobody slows the guessing");
    };
    assert_eq!(slowed.status, StatusCode::TOO_MANY_REQUESTS, "{}", slowed.text);
    // So is the right one then: it is not even looked at.
    let right = browser.submit("/bootstrap", &[("csrf", &csrf), ("secret", &secret)]);
    assert_eq!(right.status, StatusCode::TOO_MANY_REQUESTS, "{}", right.text);
    let right = Api::stranger(&gate).post("/api/v1/bootstrap", &json!({ "secret": secret }));
    assert_eq!(right.status, StatusCode::TOO_MANY_REQUESTS, "{}", right.text);
    gate.audit_with(&["--cause", "bootstrap_secret", "--user", ROOT], refused, |row| {
        row["event"] == "bootstrap.refused" && row["outcome"] == "no"
    });
    assert!(!gate.log().contains(&guess) && !gate.log().contains(&secret), "a secret is in the log");
}

#[test]
fn a_link_is_good_for_fifteen_minutes_and_a_start_makes_a_fresh_one() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let (_provider, mut gate, mut browser) = pair("", " full");
    let old = link(&gate);
    let secret = old.split_once("secret=").unwrap().1.to_owned();
    assert_eq!(browser.sign_in(ROOT, "/bootstrap").status, StatusCode::OK);
    let csrf = browser.see("/bootstrap").after("name=\"csrf\" value=\"").unwrap();
    // Fifteen minutes pass.
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = gate.database();
    let aged = runtime.block_on(async {
        let pool = sqlx::AnyPool::connect(&database).await.unwrap();
        let sql = "UPDATE bootstrap_secrets SET expires_at = expires_at - 900000";
        sqlx::query(sql).execute(&pool).await.unwrap().rows_affected()
    });
    assert_eq!(aged, 1);
    let late = browser.submit("/bootstrap", &[("csrf", &csrf), ("secret", &secret)]);
    assert_eq!(late.status, StatusCode::FORBIDDEN, "{}", late.text);
    let page = open(&mut browser, &old);
    assert!(page.text.contains("older than 15 minutes") && !page.text.contains("<form"), "{}", page.text);

    gate.crash_and_restart();
    assert_ne!(link(&gate).split_once("secret=").unwrap().1, secret, "a start makes a fresh link");
    Api::first(&gate);
    gate.crash_and_restart();
    for file in ["bootstrap-link", "bootstrap-secret"] {
        assert!(!gate.dir().join("data").join(file).exists(), "{file} stays though somebody administers");
    }
}

#[test]
fn the_link_is_said_at_a_terminal_and_nowhere_else() {
    if !program::have("script") {
        return;
    }
    let listen = "imaps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n".to_owned();
    let more = format!("[http]\n{SIGN_IN}");
    let mut gate = Gate::with(Setup { listen, more, ..Setup::default() });
    let secret = link(&gate).split_once("secret=").unwrap().1.to_owned();
    gate.wait_for_log("bootstrap-link");
    gate.signal("TERM");
    gate.wait(Duration::from_secs(10));
    assert!(!gate.log().contains(&secret), "{}", gate.log());

    let (typed, number) = (gate.dir().join("terminal"), gate.dir().join("number"));
    let (program, config) = (env!("CARGO_BIN_EXE_portcullis"), gate.config());
    let serve = format!("echo $$ >{}; exec {program} serve --config {}", number.display(), config.display());
    let mut child = Command::new("script")
        .args(["--quiet", "--flush", "--command", &serve])
        .arg(&typed)
        .env("SHELL", "/bin/sh")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let said = loop {
        let said = std::fs::read_to_string(&typed).unwrap_or_default();
        if said.contains("/bootstrap?secret=pcb_") && said.ends_with("\n") {
            break said;
        }
        assert!(std::time::Instant::now() < deadline, "the terminal shows {said}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let link = link(&gate);
    let number = std::fs::read_to_string(number).unwrap();
    assert!(Command::new("kill").args(["-s", "TERM", number.trim()]).status().unwrap().success());
    child.wait().unwrap();
    assert_eq!(said.matches("pcb_").count(), 1, "said once: {said}");
    assert!(said.lines().any(|line| line.trim() == link), "{link} is not a line of its own in {said}");
}

#[test]
fn the_first_admin_signs_in_and_enters_the_secret_once() {
    if !program::have("node:oidc-provider") {
        return;
    }
    let (_provider, gate, mut browser) = pair("", " full");
    let secret = std::fs::read_to_string(gate.dir().join("data/bootstrap-secret")).unwrap();
    assert!(browser.see("/bootstrap").text.contains("/signin?to=/bootstrap"));
    assert_eq!(
        browser.submit("/bootstrap", &[("csrf", "x"), ("secret", secret.trim())]).status,
        StatusCode::UNAUTHORIZED
    );
    // Nobody's address, and not on the way to the bootstrap page.
    let shown = browser.sign_in(ROOT, "/");
    assert_eq!(shown.status, StatusCode::FORBIDDEN, "{}", shown.text);
    assert!(shown.text.contains(ROOT) && shown.text.contains("Reference: "), "{}", shown.text);

    let shown = browser.sign_in(ROOT, "/bootstrap");
    assert!(shown.text.contains("url=/bootstrap"), "{}", shown.text);
    assert_eq!(browser.me().word(), "forbidden", "still nobody");
    let page = browser.see("/bootstrap");
    let csrf = page.after("name=\"csrf\" value=\"").unwrap();
    assert_eq!(browser.submit("/bootstrap", &[("csrf", "x"), ("secret", secret.trim())]).word(), "foreign");
    let wrong = browser.submit("/bootstrap", &[("csrf", &csrf), ("secret", "pcb_wrong")]);
    assert_eq!(wrong.status, StatusCode::FORBIDDEN, "{}", wrong.text);
    assert!(wrong.text.contains("That secret is not good"), "{}", wrong.text);
    let good = browser.submit("/bootstrap", &[("csrf", &csrf), ("secret", secret.trim())]);
    assert_eq!(good.status, StatusCode::OK, "{}", good.text);
    assert!(good.text.contains("You are super admin"), "{}", good.text);
    let me: serde_json::Value = serde_json::from_str(&browser.me().text).unwrap();
    assert_eq!((&me["name"], &me["role"], &me["user_unit"]), (&json!(ROOT), &json!("super"), &json!("/")));
    assert!(browser.see("/bootstrap").text.contains("somebody administers already"));
    let again = browser.submit("/bootstrap", &[("csrf", &csrf), ("secret", secret.trim())]);
    assert_eq!(again.status, StatusCode::FORBIDDEN, "used is used: {}", again.text);
    gate.audit_with(&["--cause", "bootstrap_secret"], 2, |row| row["event"] == "bootstrap.refused");

    // A change by cookie needs the session's token and must come from our own pages.
    let csrf = browser.csrf();
    let gateway = browser.gateway.clone();
    let (own, elsewhere) = (("origin", gateway.as_str()), ("origin", "https://evil.example.org"));
    let token = ("x-portcullis-csrf", csrf.as_str());
    let unit = |name: &str| json!({ "path": name });
    for (headers, path, good) in [
        (vec![own, token, ("sec-fetch-site", "same-origin")], "/One", true),
        (vec![token], "/Two", true),
        (vec![own], "/Three", false),
        (vec![own, ("x-portcullis-csrf", "wrong")], "/Three", false),
        (vec![elsewhere, token], "/Three", false),
        (vec![("origin", "null"), token], "/Three", false),
        (vec![own, token, ("sec-fetch-site", "cross-site")], "/Three", false),
        (vec![own, token, ("sec-fetch-site", "same-site")], "/Three", false),
    ] {
        let shown = browser.api(Method::POST, "/api/v1/units", &headers, &unit(path));
        assert_eq!(shown.status == StatusCode::CREATED, good, "{headers:?}: {}", shown.text);
        if !good {
            assert_eq!(shown.word(), "foreign");
        }
    }
    let units = browser.api(Method::GET, "/api/v1/units", &[], &json!(null)).text;
    assert!(units.contains("/Two") && !units.contains("/Three"), "{units}");
    let rows = gate.audit_with(&[], 1, |row| row["unit"] == "/Two");
    let row = rows.iter().find(|row| row["unit"] == "/Two").unwrap();
    assert!(row["detail"].as_str().unwrap().starts_with(&format!("by {ROOT}: ")), "{row}");
    assert!(!gate.log().contains(secret.trim()) && !gate.log().contains("pcs_"), "a secret is in the log");
}
