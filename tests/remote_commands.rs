//! The `portcullis` commands that go over the API of a running gateway: each resource, tables and JSON, previews, versions,
//! and what is said when the API refuses.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{fs, process::Output};

use serde_json::{Value, json};
use support::{ANN, APP, DOVECOT, Gate, OTHER_APP, Setup, api::Api, token, wire::Imap};

const LISTEN: &str = "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n";
const BEA: &str = "bea@example.com";

fn gate() -> (Gate, Api) {
    let gate = Gate::with(Setup {
        listen: LISTEN.to_owned(),
        more: format!("[http]\nscope = [\"portcullis\"]\n{DOVECOT}"),
        ..Setup::default()
    });
    let first = Api::first(&gate);
    (gate, first)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it prints; it must end well.
fn says(api: &Api, arguments: &[&str]) -> String {
    let output = api.command(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The same as JSON.
fn json(api: &Api, arguments: &[&str]) -> Value {
    serde_json::from_str(&says(api, &[arguments, &["--json"]].concat())).unwrap()
}

fn fails(api: &Api, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = api.command(arguments);
    assert!(stdout.is_empty(), "{arguments:?}: {}", text(&stdout));
    (status.code(), text(&stderr))
}

/// The first word of each line of a table, without its heading.
fn names(table: &str) -> Vec<&str> {
    table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect()
}

#[test]
fn units_are_made_changed_moved_and_removed() {
    let (gate, first) = gate();
    says(&first, &["units", "add", "/Sales", "--imap", " a , test-mail,a ", "--pop", "off"]);
    says(&first, &["units", "add", "/Sales/Field"]);
    let list = says(&first, &["units", "list", "--below", "/Sales"]);
    assert_eq!(names(&list), ["/Sales", "/Sales/Field"], "{list}");
    assert!(list.starts_with("PATH ") && list.contains("a,test-mail (from unit \"/Sales\")"), "{list}");

    let version = json(&first, &["units", "show", "/Sales"])["version"].to_string();
    says(&first, &["units", "set", "/Sales", "--imap", "any", "--if-match", &version]);
    let (code, said) = fails(&first, &["units", "set", "/Sales", "--imap", "off", "--if-match", &version]);
    assert_eq!(code, Some(1));
    assert!(said.contains("was changed meanwhile; read it again and repeat the change"), "{said}");
    let (code, said) = fails(&first, &["units", "set", "/Sales", "--imap", "off", "--if-match", "last"]);
    assert!(code == Some(2) && said.contains("write the version that `show` tells"), "{said}");

    let until = ["--pop", "any", "--until", "2100-01-01T00:00:00Z"];
    let (code, said) = fails(&first, &[&["units", "set", "/Sales", "--imap", "inherit"][..], &until].concat());
    assert!(code == Some(2) && said.contains("to inherit has no end"), "{said}");
    says(&first, &[&["units", "set", "/Sales"][..], &until].concat());
    let shown = json(&first, &["units", "show", "/Sales"]);
    assert_eq!(shown["pop"], json!({ "apps": "any", "until": "2100-01-01T00:00:00Z" }));
    says(&first, &["units", "set", "/Sales", "--imap", "inherit"]);
    assert_eq!(json(&first, &["units", "show", "/Sales"])["imap"], Value::Null);

    says(&first, &["units", "set", "/Sales", "--storage-quota", "5G", "--message-quota", "none"]);
    let shown = json(&first, &["units", "show", "/Sales"]);
    assert_eq!((&shown["storage_quota"], &shown["message_quota"]), (&json!(5_u64 << 30), &json!("none")));
    says(&first, &["units", "set", "/Sales", "--storage-quota", "inherit"]);
    assert_eq!(json(&first, &["units", "show", "/Sales"])["storage_quota"], Value::Null);
    let terms = ["--mail", "dovecot", "--read-only", "true", "--sessions-per-user", "3", "--bytes-per-day", "2G"];
    says(&first, &[&["units", "set", "/Sales"][..], &terms].concat());
    let shown = json(&first, &["units", "show", "/Sales"]);
    assert_eq!((&shown["mail"], &shown["read_only"]), (&json!("dovecot"), &json!(true)));
    assert_eq!((&shown["sessions_per_user"], &shown["bytes_per_day"]), (&json!(3), &json!(2_u64 << 30)));
    says(&first, &["users", "add", "sal@example.com", "--unit", "/Sales", "--mail", "dovecot/mail2.internal"]);
    assert_eq!(json(&first, &["users", "show", "sal@example.com"])["mail"], "dovecot/mail2.internal");
    let (code, said) = fails(&first, &["users", "set", "sal@example.com", "--mail", "dovecot/mail3.internal"]);
    let known = "write \"dovecot\", \"dovecot/mail1.internal\" or \"dovecot/mail2.internal\"";
    assert!(code == Some(1) && said.contains(known), "{said}");
    says(&first, &["users", "set", "sal@example.com", "--mail", "inherit"]);
    assert_eq!(json(&first, &["users", "show", "sal@example.com"])["effective_mail"], "dovecot");
    let terms = ["--mail", "inherit", "--read-only", "inherit", "--sessions-per-user", "inherit"];
    says(&first, &[&["units", "set", "/Sales", "--bytes-per-day", "inherit"][..], &terms].concat());
    let shown = json(&first, &["units", "show", "/Sales"]);
    for key in ["mail", "read_only", "sessions_per_user", "bytes_per_day"] {
        assert_eq!(shown[key], Value::Null, "{key}");
    }
    says(&first, &["apps", "add", "viewer", "--read-only", "true"]);
    assert_eq!(json(&first, &["apps", "show", "viewer"])["read_only"], true);
    let (code, said) = fails(&first, &["units", "set", "/Sales", "--storage-quota", "much"]);
    assert!(code == Some(1) && said.contains("write bytes, as 500M or 5G, or none"), "{said}");

    let (code, said) = fails(&first, &["units", "remove", "/Sales", "--yes"]);
    assert!(code == Some(1) && said.contains("it is not empty"), "{said}");
    assert!(says(&first, &["units", "move", "/Sales/Field", "/Field"]).contains("/Field"));
    let (code, said) = fails(&first, &["units", "remove", "/Field"]);
    assert!(code == Some(2) && said.contains("say --yes, or --preview"), "{said}");
    assert_eq!(says(&first, &["units", "remove", "/Field", "--yes", "--reason", "closed"]), "done\n");
    assert_eq!(fails(&first, &["units", "show", "/Field"]).0, Some(1));
    gate.audit_with(&[], 1, |row| row["detail"].as_str().is_some_and(|detail| detail.contains("closed")));
}

#[test]
fn a_preview_shows_who_is_touched_and_changes_nothing() {
    let (gate, first) = gate();
    let mut session = gate.imap(ANN, APP);
    says(&first, &["groups", "add", "pilot@example.com", "--add", ANN, "--priority", "10"]);
    let off = ["groups", "set", "pilot@example.com", "--imap", "off"];
    let shown = says(&first, &[&off[..], &["--preview"]].concat());
    for line in [
        "1 person would lose access: 1 ways in by IMAP, 0 by POP3\n    1 person uses Test Mail\n  USER ",
        "\n  ann@example.com  ann@example.com  imap ",
        "\nnobody would gain access\n1 open session would end\n  SESSION ",
        "\nthis was a preview: nothing was changed\n",
    ] {
        assert!(shown.contains(line), "{line:?}: {shown}");
    }
    session.ok("NOOP");
    assert_eq!(json(&first, &[&off[..], &["--preview"]].concat())["loses"]["users"], 1);
    assert_eq!(json(&first, &["notices", "list"])["items"].as_array().map(Vec::len), Some(0));
    says(&first, &[&off[..], &["--notify"]].concat());
    session.bye();
    assert_eq!(json(&first, &["notices", "list"])["items"][0]["recipient"], ANN);
}

#[test]
fn users_groups_mailboxes_and_apps_are_managed_alike() {
    let (gate, first) = gate();
    says(&first, &["units", "add", "/Sales", "--imap", APP]);
    let (code, said) = fails(&first, &["users", "add", BEA]);
    assert!(code == Some(1) && said.contains("unit"), "a new user needs a unit: {said}");
    says(&first, &["users", "add", BEA, "--unit", "/Sales"]);
    let (code, said) = fails(&first, &["users", "add", BEA, "--unit", "/Sales"]);
    assert!(code == Some(1) && said.contains("is there already: change it instead"), "{said}");
    assert_eq!(names(&says(&first, &["users", "list", "--below", "/Sales"])), [BEA]);
    assert_eq!(names(&says(&first, &["users", "list", "--prefix", "an"])), [ANN]);
    assert!(!gate.admits(BEA, OTHER_APP));
    says(&first, &["users", "set", BEA, "--imap", "any", "--until", "2100-01-01T00:00:00Z"]);
    assert!(gate.admits(BEA, OTHER_APP));
    says(&first, &["users", "set", BEA, "--suspended", "true", "--imap", "inherit"]);
    assert!(!gate.admits(BEA, APP));
    says(&first, &["users", "set", BEA, "--suspended", "false"]);
    let (code, said) = fails(&first, &["users", "set", BEA]);
    assert!(code == Some(2) && said.contains("say what is to change"), "{said}");
    let (code, said) = fails(&first, &["users", "set", BEA, "--until", "2100-01-01T00:00:00Z"]);
    assert!(code == Some(2) && said.contains("--imap or --pop"), "{said}");

    says(&first, &["groups", "add", "pilot@example.com", "--priority", "-5", "--imap", "any", "--member", BEA]);
    assert!(gate.admits(BEA, OTHER_APP));
    assert_eq!(names(&says(&first, &["users", "list", "--group", "pilot@example.com"])), [BEA]);
    says(&first, &["groups", "set", "pilot@example.com", "--add", ANN, "--drop", BEA]);
    assert_eq!(names(&says(&first, &["users", "list", "--group", "pilot@example.com"])), [ANN]);
    assert_eq!(json(&first, &["groups", "show", "pilot@example.com"])["priority"], -5);
    says(&first, &["groups", "remove", "pilot@example.com", "--yes"]);
    assert_eq!(says(&first, &["groups", "list"]), "nothing fits\n");

    let team = "team@example.com";
    let member = format!("{BEA}=read");
    says(&first, &["mailboxes", "add", team, "--name", "Team", "--unit", "/Sales", "--member", &member]);
    let list = says(&first, &["mailboxes", "list", "--below", "/Sales"]);
    assert!(list.contains(&member) && list.contains("Team"), "{list}");
    says(&first, &["mailboxes", "set", team, "--add", ANN, "--drop", BEA, "--name", ""]);
    let shown = json(&first, &["mailboxes", "show", team]);
    assert_eq!((&shown["members"], &shown["name"]), (&json!([{ "user": ANN, "rights": "write" }]), &Value::Null));
    says(&first, &["mailboxes", "remove", team, "--yes"]);

    says(&first, &["apps", "add", "odd-app", "--trust", "limited", "--unit", "/Sales"]);
    assert_eq!(json(&first, &["apps", "show", "odd-app"])["units"], json!(["/Sales"]));
    assert!(!gate.admits(ANN, "odd-app"));
    let (code, said) = fails(&first, &["apps", "set", "odd-app", "--trust", "limited"]);
    assert!(code == Some(1) && said.contains("name its units"), "{said}");
    says(&first, &["apps", "set", "odd-app", "--trust", "trusted", "--name", "Odd"]);
    assert!(gate.admits(ANN, "odd-app"));
    let list = says(&first, &["apps", "list"]);
    assert!(list.contains("odd-app ") && list.contains("Odd ") && list.contains(" file"), "{list}");
    let (code, said) = fails(&first, &["apps", "set", APP, "--trust", "blocked"]);
    assert!(code == Some(1) && said.contains("kept by the policy file"), "{said}");
    says(&first, &["apps", "remove", "odd-app", "--yes"]);
    says(&first, &["users", "remove", BEA, "--yes"]);
}

#[test]
fn settings_are_shown_with_where_they_come_from_set_and_inherited_again() {
    let (gate, first) = gate();
    says(&first, &["units", "add", "/Sales"]);
    says(&first, &["users", "add", BEA, "--unit", "/Sales"]);
    let lines = |arguments: &[&str]| {
        let shown = says(&first, arguments);
        shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let shown = lines(&["settings", "show", "--unit", "/Sales"]);
    assert_eq!(shown[..2], ["SERVICE ITS OWN IN FORCE", "imap inherit any (from unit \"/\")"], "{shown:?}");
    let set = lines(&["settings", "set", "--unit", "/Sales", "imap", "x, test-mail"]);
    assert_eq!(set[1], "imap x,test-mail x,test-mail (from unit \"/Sales\")");
    let shown = lines(&["settings", "show", "--user", BEA]);
    assert_eq!(shown[1], "imap inherit x,test-mail (from unit \"/Sales\")");
    says(&first, &["settings", "set", "--user", BEA, "imap", "any", "--until", "2100-01-01T00:00:00Z"]);
    assert!(gate.admits(BEA, OTHER_APP));
    says(&first, &["settings", "inherit", "--user", BEA, "imap"]);
    assert!(!gate.admits(BEA, OTHER_APP));
    let set = lines(&["settings", "inherit", "--unit", "/Sales", "imap"]);
    assert_eq!(set[1], "imap inherit any (from unit \"/\")");

    for (arguments, code, said) in [
        (&["settings", "set", "--unit", "/Sales", "imap", "a,,b"][..], 1, "is empty"),
        (&["settings", "set", "--unit", "/Nowhere", "imap", "off"], 1, "/Nowhere"),
        (&["settings", "set", "--unit", "/Off", "imap", "any"], 1, "kept by the policy file"),
        (&["settings", "set", "--unit", "/Sales", "imap", "inherit"], 2, "settings inherit"),
        (&["settings", "set", "imap", "any"], 2, "--unit <PATH>"),
        (&["settings", "set", "--unit", "/Sales", "--user", BEA, "imap", "any"], 2, "cannot be used with"),
        (&["settings", "set", "--unit", "/Sales", "smtp", "any"], 2, "imap, pop"),
    ] {
        let (got, told) = fails(&first, arguments);
        assert!(got == Some(code) && told.contains(said), "{arguments:?}: {got:?} {told}");
    }
}

#[test]
fn a_file_of_changes_is_made_as_a_whole_or_not_at_all() {
    let (gate, first) = gate();
    says(&first, &["units", "add", "/Sales"]);
    let file = gate.dir().join("changes.json");
    let path = file.to_str().unwrap();
    let off = |name: &str| json!({ "kind": "unit", "name": name, "action": "change", "set": { "imap": "off" } });
    let write = |changes: Value| fs::write(&file, changes.to_string()).unwrap();

    write(json!([off("/Sales"), off("/Nowhere")]));
    let (code, said) = fails(&first, &["changes", path]);
    assert!(code == Some(1) && said.contains("/Nowhere"), "{said}");
    let good =
        json!([off("/Sales"), { "kind": "user", "name": BEA, "action": "make", "set": { "unit": "/Sales" } }]);
    write(good.clone());
    assert!(says(&first, &["changes", path, "--preview"]).ends_with("this was a preview: nothing was changed\n"));
    assert_eq!(json(&first, &["units", "show", "/Sales"])["imap"], Value::Null);
    assert_eq!(json(&first, &["changes", path, "--reason", "all off"]), json!({ "changes": 2 }));
    assert_eq!(json(&first, &["units", "show", "/Sales"])["imap"]["apps"], "off");
    assert!(!gate.admits(BEA, APP));

    // A version that is in the list is no If-Match: 409, and the way to go on is the same.
    let mut stale = off("/Sales");
    stale["version"] = json!(0);
    let answer = first.post("/api/v1/changes", &json!({ "changes": [stale] }));
    assert_eq!((answer.status.as_u16(), answer.problem()), (409, "version-changed".to_owned()));
    write(json!({ "changes": [stale] }));
    let (code, said) = fails(&first, &["changes", path]);
    assert!(code == Some(1) && said.contains("read it again and repeat the change"), "{said}");
    for (content, said) in [("{", "this is no JSON"), ("7", "write a list of changes")] {
        fs::write(&file, content).unwrap();
        let (code, told) = fails(&first, &["changes", path]);
        assert!(code == Some(2) && told.contains(said) && told.contains(path), "{told}");
    }
    assert_eq!(fails(&first, &["changes", "/nowhere/changes.json"]).0, Some(2));
}

#[test]
fn audit_legacy_explain_and_cutoffs_are_asked_of_the_gateway() {
    let (gate, first) = gate();
    let mut imap = Imap::connect(&gate);
    let blob = support::wire::xoauth2("olaf@example.com", &gate.token("olaf@example.com", APP));
    let refused = imap.command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status;
    let reference = refused.rsplit_once("(ref ").unwrap().1.trim_end_matches(')').to_owned();
    imap.command("LOGIN ann@example.com secret");
    gate.audit_with(&[], 1, |row| row["reason"] == "legacy_password");

    let line = says(&first, &["audit", "--reference", &reference]);
    assert!(line.contains("policy_service_off") && line.contains(&format!("ref {reference}")), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert_eq!(json(&first, &["audit", "--reference", &reference])["items"][0]["user"], "olaf@example.com");
    let (code, said) = fails(&first, &["audit", "--user", "nobody@example.com"]);
    assert!(code == Some(1) && said.contains("no row of the audit log fits"), "{said}");

    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(15);
    while first.get("/api/v1/legacy").json()["items"].as_array().unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "the legacy report never names her");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let report = says(&first, &["legacy"]);
    assert!(report.starts_with("TRIES ") && report.contains(ANN) && !report.contains("secret"), "{report}");
    assert_eq!(fails(&first, &["legacy", "--unit", "/Listed"]).0, Some(1));

    let yes = says(&first, &["explain", "--user", ANN, "--app", APP, "--service", "imap"]);
    assert!(yes.starts_with("ok  ") && yes.ends_with("\nyes\n"), "{yes}");
    let no = first.command(&["explain", "--user", "olaf@example.com", "--app", APP, "--service", "imap"]);
    assert_eq!(no.status.code(), Some(1));
    assert!(text(&no.stdout).contains("\nno: "), "{}", text(&no.stdout));
    let (code, said) = fails(&first, &["explain", "--user", "no address", "--app", APP, "--service", "imap"]);
    assert!(code == Some(2) && said.contains("no address"), "{said}");

    assert_eq!(says(&first, &["cutoffs", "list"]), "nothing fits\n");
    let forget = ["cutoffs", "forget", support::ISSUER, "address", ANN];
    assert_eq!(fails(&first, &forget).0, Some(2));
    let (code, said) = fails(&first, &[&forget[..], &["--yes"]].concat());
    assert!(code == Some(1) && said.contains("no issuer has said that"), "{said}");
}

#[test]
fn what_the_api_refuses_is_told_with_what_to_do() {
    let (gate, first) = gate();
    let auditor = json(&first, &["tokens", "make", "--name", "a", "--role", "auditor"]);
    let auditor = Api::with(&gate, auditor["token"].as_str().unwrap());
    assert!(says(&auditor, &["units", "list"]).contains("/Listed"));
    let (code, said) = fails(&auditor, &["units", "add", "/New"]);
    assert!(code == Some(1) && said.contains("auditor, which may not change directory"), "{said}");
    let mut claims = token::claims(ANN, "console", 3600);
    claims["scope"] = json!("portcullis");
    let ann = Api::with(&gate, &gate.key.sign(&claims));
    let (code, said) = fails(&ann, &["users", "list"]);
    assert!(code == Some(1) && said.contains("may not read directory"), "{said}");
    says(&ann, &["me", "switch", "pop", "off"]);
    assert!(says(&first, &["users", "show", ANN]).contains("own off        pop"));
    says(&ann, &["me", "switch", "pop", "on"]);
    let (code, said) = fails(&first, &["users", "show", "nobody@example.com"]);
    assert!(code == Some(1) && said.contains("nobody@example.com"), "{said}");
    let (code, said) = fails(&Api::with(&gate, "pct_wrong"), &["units", "list"]);
    assert!(code == Some(1) && said.contains("make a new one"), "{said}");
    let (code, said) = fails(&Api::with(&gate, " "), &["units", "list"]);
    assert!(code == Some(2) && said.contains("the token is empty"), "{said}");
    let (code, said) = fails(&first, &["units", "list", "--url", "http://mail.example.com"]);
    assert!(code == Some(2) && said.contains("http is for localhost only"), "{said}");
    let (code, said) = fails(&first, &["units", "list", "--url", "http://localhost:9"]);
    assert!(code == Some(2) && said.contains("is `portcullis serve` running"), "{said}");
}

#[test]
fn the_help_of_each_command_over_the_api_teaches() {
    let (_, first) = gate();
    for command in ["units", "users", "groups", "mailboxes", "apps", "settings", "changes", "cutoffs"] {
        let help = says(&first, &[command, "--help"]);
        assert!(help.contains("Exit codes: 0 done; 1 the API refuses"), "{command}: {help}");
        assert!(help.contains(&format!("    portcullis {command} ")), "{command} shows no example: {help}");
        assert!(help.contains("--token-file"), "{command} does not tell how to sign in: {help}");
    }
    let help = says(&first, &["audit", "verify", "--help"]);
    assert!(!help.contains("--url"), "it reads the database alone: {help}");
}
