//! `portcullis policy export|plan|apply` beside a running gateway: the real binary, exit codes, what is printed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    process::{Command, Output},
    time::{Duration, Instant},
};

use support::{ANN, APP, Gate, POLICY, Setup};

/// A gate whose policy is in the database alone: the file is applied by hand.
fn gate() -> Gate {
    let gate = Gate::start();
    let config = fs::read_to_string(gate.config()).unwrap();
    assert!(config.contains("policy.toml"), "{config}");
    gate
}

fn policy(gate: &Gate, arguments: &[&str]) -> Output {
    let (command, rest) = arguments.split_first().unwrap();
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["policy", command, "--config"])
        .arg(gate.config())
        .args(rest)
        .current_dir(gate.dir())
        .env("USER", "carla")
        .env_remove("SUDO_USER")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn an_exported_policy_changes_nothing_when_it_is_applied_again() {
    let gate = gate();
    let exported = policy(&gate, &["export"]);
    assert_eq!(code(&exported), 0, "{}", err(&exported));
    assert!(out(&exported).contains("[user.\"ann@example.com\"]\nunit = \"/\"\n"), "{}", out(&exported));
    fs::write(gate.dir().join("exported.toml"), out(&exported)).unwrap();
    let plan = policy(&gate, &["plan", "exported.toml"]);
    assert_eq!(code(&plan), 0, "{}", out(&plan));
    assert!(out(&plan).contains("nothing would change"), "{}", out(&plan));
    let applied = policy(&gate, &["apply", "exported.toml"]);
    assert_eq!(code(&applied), 0, "{}", err(&applied));
    assert!(err(&applied).contains("warning: policy.file in the config is"), "{}", err(&applied));
}

#[test]
fn a_plan_tells_what_would_change_and_who_would_lose_access_and_applying_it_ends_their_sessions() {
    let gate = gate();
    let mut imap = gate.imap(ANN, APP);
    imap.ok("SELECT INBOX");
    let tag = imap.idle();
    fs::write(gate.dir().join("new.toml"), POLICY.replacen("imap = \"any\"", "imap = \"off\"", 1)).unwrap();

    let plan = policy(&gate, &["plan", "new.toml"]);
    assert_eq!(code(&plan), 1, "{}", err(&plan));
    for said in [
        "new.toml: 0 added, 1 changed, 0 removed",
        "~ unit \"/\": imap any, pop any -> imap off, pop any",
        "1 person would lose access (IMAP 1, POP 0):",
        "1 person with Test Mail (test-mail)",
        "ann@example.com by IMAP: IMAP is off (set at unit \"/\")",
        "nobody with an app in use would gain access",
    ] {
        assert!(out(&plan).contains(said), "{said:?} is not in {}", out(&plan));
    }
    let json = policy(&gate, &["plan", "new.toml", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((json["changed"].as_i64(), json["loses"]["users"].as_i64()), (Some(1), Some(1)));
    assert_eq!(json["loses"]["first"][0]["reason"], "policy_service_off");
    let version = json["version"].as_i64().unwrap();

    // Nobody said yes; then another version was expected: nothing has changed.
    let unasked = policy(&gate, &["apply", "new.toml"]);
    assert_eq!(code(&unasked), 1, "{}", err(&unasked));
    assert!(err(&unasked).contains("say --yes"), "{}", err(&unasked));
    let stale = policy(&gate, &["apply", "new.toml", "--yes", "--expect", &(version - 1).to_string()]);
    assert_eq!(code(&stale), 2, "{}", out(&stale));
    assert!(err(&stale).contains("it was changed meanwhile"), "{}", err(&stale));
    assert!(imap.wire.is_silent_for(Duration::from_millis(700)), "a plan was taken for a change");

    let since = Instant::now();
    let applied = policy(&gate, &["apply", "new.toml", "--yes", "--expect", &version.to_string()]);
    assert_eq!(code(&applied), 0, "{}", err(&applied));
    assert!(out(&applied).contains("applied; the policy has version "), "{}", out(&applied));
    let (text, at) = imap.bye();
    assert!(text.contains("IMAP access is disabled for your domain."), "{tag}: {text}");
    // The command's own start and its plan are in this time.
    assert!(at - since < Duration::from_secs(5), "{:?}", at - since);
    let rows = gate.audit_with(&[], 1, |row| {
        row["event"] == "policy.changed"
            && row["detail"].as_str().is_some_and(|text| text.starts_with("by carla with new.toml"))
    });
    assert!(rows.iter().any(|row| row["place"] == "unit \"/\""));
}

#[test]
fn a_wrong_file_is_told_with_its_line_and_changes_nothing() {
    let gate = gate();
    fs::write(gate.dir().join("wrong.toml"), "[unit.\"/\"]\nimap = \"on\"\n").unwrap();
    for command in ["plan", "apply"] {
        let output = policy(&gate, &[command, "wrong.toml"]);
        assert_eq!(code(&output), 2, "{command}");
        assert!(err(&output).contains("wrong.toml:2:8: imap = \"on\""), "{command}: {}", err(&output));
    }
    let missing = policy(&gate, &["plan", "nowhere.toml"]);
    assert_eq!(code(&missing), 2);
    assert!(err(&missing).contains("nowhere.toml: cannot read the policy file"), "{}", err(&missing));
    gate.imap(ANN, APP).ok("NOOP");
}

#[test]
fn a_list_with_a_star_admits_apps_by_their_beginning() {
    let text = POLICY.replacen("imap = \"any\"", "imap = [\"test-mail-install-*\"]", 1);
    let gate = Gate::with(Setup { policy: text, ..Setup::default() });
    gate.imap(ANN, "test-mail-install-7f3a").ok("NOOP");
    let mut other = support::wire::Imap::connect(&gate);
    let refused =
        other.command(&format!("AUTHENTICATE XOAUTH2 {}", support::wire::xoauth2(ANN, &gate.token(ANN, APP))));
    assert!(refused.status.starts_with("NO [CONTACTADMIN]"), "{}", refused.status);
}
