//! The directory over the HTTP API of the real binary: what is changed takes effect at the gate, what is stale, kept by the
//! file or out of reach is refused, and a preview changes nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{ANN, APP, DOVECOT, Gate, OTHER_APP, Setup, api::Api, token};

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

fn ok(answer: &support::api::Answer) -> Value {
    assert!(answer.status.is_success(), "{}: {}", answer.status, answer.text);
    if answer.text.is_empty() { Value::Null } else { answer.json() }
}

/// A unit `/Sales` that admits the test's app by IMAP, and `bea` in it.
fn sales(first: &Api) {
    ok(&first.post("/api/v1/units", &json!({ "path": "/Sales", "set": { "imap": [APP], "pop": "off" } })));
    ok(&first.post("/api/v1/users", &json!({ "address": BEA, "set": { "unit": "/Sales" } })));
}

#[test]
fn a_unit_s_quota_is_set_inherited_and_dropped_and_mail_programs_are_told() {
    let (gate, first) = gate();
    sales(&first);
    let path = "/api/v1/units/%2FSales";
    let change = |set: Value| first.if_match("*").patch(path, &json!({ "set": set }));
    let unit = ok(&change(json!({ "storage_quota": "5G", "message_quota": 1000 })));
    assert_eq!((&unit["storage_quota"], &unit["message_quota"]), (&json!(5_u64 << 30), &json!(1000)));
    let below =
        ok(&first.post("/api/v1/units", &json!({ "path": "/Sales/Field", "set": { "message_quota": "none" } })));
    assert_eq!(below["message_quota"], "none");
    assert_eq!(below["effective_quota"], json!({ "storage": 5_u64 << 30 }));
    let mut bea = gate.imap(BEA, APP);
    let told = |imap: &mut support::wire::Imap| imap.ok("GETQUOTAROOT INBOX").lines();
    assert_eq!(told(&mut bea)[1], "* QUOTA \"\" (STORAGE 0 5242880 MESSAGE 0 1000)");
    for (set, word) in [
        (json!({ "storage_quota": "lots" }), "lots"),
        (json!({ "message_quota": "5G" }), "5G"),
        (json!({ "storage_quota": "9223372036854775808" }), "9223372036854775808"),
    ] {
        let refused = change(set);
        assert_eq!(refused.problem(), "bad-request");
        assert!(refused.text.contains(word), "{}", refused.text);
    }
    let unit = ok(&change(json!({ "storage_quota": null })));
    assert_eq!((&unit["storage_quota"], &unit["effective_quota"]), (&Value::Null, &json!({ "messages": 1000 })));
    assert_eq!(told(&mut bea)[1], "* QUOTA \"\" (MESSAGE 0 1000)", "at once, in an open session");
    ok(&change(json!({ "message_quota": null })));
    assert_eq!(told(&mut bea), ["* QUOTAROOT INBOX"]);
}

#[test]
fn where_mail_is_and_what_may_be_done_and_used_up_is_set_inherited_and_dropped() {
    let (gate, first) = gate();
    sales(&first);
    let change = |set: Value| first.if_match("*").patch("/api/v1/units/%2FSales", &json!({ "set": set }));
    let unit = ok(&change(json!({
        "mail": "dovecot/Mail1.internal", "read_only": true, "sessions_per_user": 3, "bytes_per_day": "2G"
    })));
    assert_eq!((&unit["mail"], &unit["read_only"]), (&json!("dovecot/mail1.internal"), &json!(true)));
    assert_eq!((&unit["sessions_per_user"], &unit["bytes_per_day"]), (&json!(3), &json!(2_u64 << 30)));
    let set = json!({ "read_only": false, "sessions_per_user": "none", "bytes_per_day": "none" });
    let below = ok(&first.post("/api/v1/units", &json!({ "path": "/Sales/Field", "set": set })));
    for (key, value) in [
        ("mail", Value::Null),
        ("effective_mail", json!("dovecot/mail1.internal")),
        ("read_only", json!(false)),
        ("effective_read_only", json!(false)),
        ("effective_sessions_per_user", json!("none")),
        ("bytes_per_day", json!("none")),
        ("effective_bytes_per_day", Value::Null),
    ] {
        assert_eq!(below[key], value, "{key}");
    }
    for (set, word) in [
        (json!({ "mail": "Maildir" }), "the embedded store"),
        (json!({ "mail": "a b" }), "letters, digits"),
        (
            json!({ "mail": "dovcot" }),
            "is none of [[upstream]] in the config: write \\\"maildir\\\" or \\\"dovecot\\\"",
        ),
        (json!({ "mail": "dovecot/mail9.internal" }), "the upstream dovecot has no server mail9.internal"),
        (json!({ "sessions_per_user": 0 }), "from 1 on"),
        (json!({ "bytes_per_day": "much" }), "much"),
        (json!({ "bytes_per_day": 0 }), "from 1 on"),
    ] {
        let refused = change(set);
        assert_eq!(refused.problem(), "bad-request");
        assert!(refused.text.contains(word), "{}", refused.text);
    }
    let bea = format!("/api/v1/users/{BEA}");
    let bulk = json!({ "kind": "user", "name": BEA, "action": "change", "set": { "mail": "dovcot" } });
    for refused in [
        first.if_match("*").patch(&bea, &json!({ "mail": "dovcot" })),
        first.if_match("*").patch(&format!("{bea}?preview=true"), &json!({ "mail": "dovcot" })),
        first.post("/api/v1/changes", &json!({ "changes": [bulk] })),
    ] {
        assert_eq!(refused.problem(), "bad-request");
        assert!(refused.text.contains("bea@example.com") && refused.text.contains("dovcot"), "{}", refused.text);
    }
    assert_eq!(ok(&first.get(&bea))["effective_mail"], "dovecot/mail1.internal");
    let user = ok(&first.if_match("*").patch(&bea, &json!({ "mail": "maildir" })));
    assert_eq!((&user["mail"], &user["effective_mail"]), (&json!("maildir"), &json!("maildir")));
    let user = ok(&first.if_match("*").patch(&bea, &json!({ "mail": null })));
    assert_eq!((&user["mail"], &user["effective_mail"]), (&Value::Null, &json!("dovecot/mail1.internal")));

    // A change is tried before: the session that is open would have to leave.
    ok(&change(json!({ "mail": null, "read_only": null, "sessions_per_user": null, "bytes_per_day": null })));
    let mut open = gate.imap(BEA, APP);
    let path = "/api/v1/units/%2FSales?preview=true";
    let tried = ok(&first.if_match("*").patch(path, &json!({ "set": { "mail": "dovecot" } })));
    assert_eq!(tried["sessions"]["count"], 1, "{tried}");
    assert!(
        tried["sessions"]["first"][0]["refusal"].as_str().unwrap().contains("has moved from maildir to dovecot")
    );
    open.ok("NOOP");
    assert_eq!(ok(&first.get(&format!("/api/v1/apps/{APP}")))["read_only"], false);
    ok(&first.post("/api/v1/apps", &json!({ "id": "viewer", "set": { "read_only": true } })));
    ok(&first.if_match("*").patch("/api/v1/apps/viewer", &json!({ "name": "Viewer" })));
    assert_eq!(ok(&first.get("/api/v1/apps/viewer"))["read_only"], true);
}

#[test]
fn a_unit_is_made_changed_inherits_again_and_goes_and_its_sessions_follow() {
    let (gate, first) = gate();
    let made = first.post("/api/v1/units", &json!({ "path": "/Sales", "set": { "imap": " a , test-mail,a " } }));
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(
        made.json()["imap"],
        json!({ "apps": ["a", "test-mail"] }),
        "as pasted: trimmed, each once, in order"
    );
    assert_eq!(made.json()["effective"]["pop"], json!({ "apps": "any", "from": "unit \"/\"" }));
    assert_eq!(first.post("/api/v1/units", &json!({ "path": "/Sales" })).problem(), "conflict");
    ok(&first.post("/api/v1/users", &json!({ "address": BEA, "set": { "unit": "/Sales" } })));
    let mut session = gate.imap(BEA, APP);

    let path = "/api/v1/units/%2FSales";
    let tag = first.get(path).headers["etag"].to_str().unwrap().to_owned();
    let off = json!({ "set": { "imap": "off" } });
    assert_eq!(first.patch(path, &off).problem(), "version-missing");
    let began = Instant::now();
    let changed = first.if_match(&tag).patch(path, &off);
    assert_eq!(ok(&changed)["imap"], json!({ "apps": "off" }));
    session.bye();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(first.if_match(&tag).patch(path, &off).problem(), "version-changed");
    let ending = json!({ "set": { "imap": { "apps": ["x"], "until": "2100-01-01T00:00:00Z" } } });
    let ending = ok(&first.if_match("*").patch(path, &ending));
    assert_eq!(ending["imap"], json!({ "apps": ["x"], "until": "2100-01-01T00:00:00Z" }));
    let inherited = ok(&first.if_match("*").patch(path, &json!({ "set": { "imap": null } })));
    assert_eq!((&inherited["imap"], &inherited["effective"]["imap"]["from"]), (&Value::Null, &json!("unit \"/\"")));
    gate.imap(BEA, OTHER_APP).ok("LOGOUT");

    assert_eq!(first.if_match("*").delete(path).problem(), "conflict", "not empty");
    ok(&first.post("/api/v1/units", &json!({ "path": "/Staff" })));
    let moved = ok(&first.if_match("*").patch(path, &json!({ "path": "/Staff/Sales" })));
    assert_eq!(moved["path"], "/Staff/Sales");
    assert_eq!(ok(&first.get(&format!("/api/v1/users/{BEA}")))["unit"], "/Staff/Sales");
    ok(&first.if_match("*").delete(&format!("/api/v1/users/{BEA}")));
    ok(&first.if_match("*").delete("/api/v1/units/%2FStaff%2FSales"));
    assert_eq!(first.get("/api/v1/units/%2FStaff%2FSales").problem(), "not-found");

    for (body, word) in [
        (json!({ "path": "Sales" }), "Sales"),
        (json!({ "path": "/A/B" }), "/A"),
        (json!({ "path": "/New", "set": { "imap": "a,,b" } }), "is empty"),
        (json!({ "path": "/New", "set": { "imap": ["any", "x"] } }), "any"),
        (json!({ "path": "/New", "set": { "smtp": "off" } }), "smtp"),
        (json!({ "path": "/New", "set": { "imap": 7 } }), "imap"),
    ] {
        let answer = first.post("/api/v1/units", &body);
        assert!(answer.status.is_client_error() && answer.text.contains(word), "{body}: {}", answer.text);
        answer.problem();
    }
}

#[test]
fn what_the_policy_file_keeps_is_not_changed_here() {
    let (gate, first) = gate();
    for (path, body) in [
        ("/api/v1/units/%2FOff".to_owned(), json!({ "set": { "imap": "any" } })),
        (format!("/api/v1/users/{ANN}"), json!({ "suspended": true })),
        (format!("/api/v1/apps/{APP}"), json!({ "trust": "blocked" })),
    ] {
        assert_eq!(ok(&first.get(&path))["managed_by"], "file");
        let answer = first.if_match("*").patch(&path, &body);
        assert_eq!(answer.problem(), "conflict", "{path}");
        assert!(answer.text.contains("policy.toml"), "{}", answer.text);
    }
    gate.imap(ANN, APP).ok("LOGOUT");
}

#[test]
fn a_preview_tells_who_would_lose_what_and_changes_nothing() {
    let (gate, first) = gate();
    sales(&first);
    let mut session = gate.imap(BEA, APP);
    let off = json!({ "set": { "imap": "off" } });
    let found = ok(&first.if_match("*").patch("/api/v1/units/%2FSales?preview=true", &off));
    assert_eq!(found["loses"]["users"], 1, "{found}");
    assert_eq!(found["loses"]["apps"][0]["sentence"], "1 person uses Test Mail");
    assert_eq!(found["sessions"]["count"], 1);
    assert_eq!(found["sessions"]["first"][0]["user"], BEA);
    assert_eq!(found["gains"]["users"], 0);
    session.ok("NOOP");
    assert_eq!(ok(&first.get("/api/v1/units/%2FSales"))["imap"]["apps"], json!([APP]));
}

#[test]
fn users_groups_and_shared_mailboxes_open_and_close_mailboxes() {
    let (gate, first) = gate();
    sales(&first);
    let user = format!("/api/v1/users/{BEA}");
    // A group beats the unit.
    assert!(!gate.admits(BEA, OTHER_APP));
    let pilot = json!({ "name": "pilot@example.com", "set": { "priority": 10, "imap": "any", "members": [BEA] } });
    assert_eq!(ok(&first.post("/api/v1/groups", &pilot))["priority"], 10);
    assert!(gate.admits(BEA, OTHER_APP));
    assert_eq!(ok(&first.get(&user))["effective"]["imap"]["from"], "group \"pilot@example.com\"");
    assert_eq!(ok(&first.get("/api/v1/users?group=pilot@example.com"))["items"][0]["address"], BEA);
    ok(&first.if_match("*").patch("/api/v1/groups/pilot@example.com", &json!({ "remove": [BEA] })));
    assert!(!gate.admits(BEA, OTHER_APP));
    ok(&first.if_match("*").delete("/api/v1/groups/pilot@example.com"));
    // Suspension ends what is open.
    let mut session = gate.imap(BEA, APP);
    assert_eq!(ok(&first.if_match("*").patch(&user, &json!({ "suspended": true })))["suspended"], true);
    session.bye();
    ok(&first.if_match("*").patch(&user, &json!({ "suspended": false, "imap": { "apps": "any" } })));
    assert!(gate.admits(BEA, OTHER_APP));
    // A shared mailbox, read only.
    let team = json!({ "address": "team@example.com",
        "set": { "name": "Team", "unit": "/Sales", "members": [{ "user": BEA, "rights": "read" }] } });
    assert_eq!(ok(&first.post("/api/v1/mailboxes", &team))["members"][0]["rights"], "read");
    assert_eq!(
        first
            .post(
                "/api/v1/mailboxes",
                &json!({ "address": "b@example.com", "set": { "members": [{ "user": "nobody@example.com" }] } })
            )
            .problem(),
        "bad-request"
    );
    ok(&first.if_match("*").delete("/api/v1/mailboxes/team@example.com"));
}

#[test]
fn apps_are_trusted_limited_and_blocked() {
    let (gate, first) = gate();
    sales(&first);
    ok(&first.if_match("*").patch(&format!("/api/v1/users/{BEA}"), &json!({ "imap": "any" })));
    ok(&first.post("/api/v1/apps", &json!({ "id": "odd-app", "set": { "name": "Odd", "trust": "blocked" } })));
    assert!(!gate.admits(BEA, "odd-app"));
    let path = "/api/v1/apps/odd-app";
    ok(&first.if_match("*").patch(path, &json!({ "trust": "limited", "units": ["/Sales"] })));
    assert!(gate.admits(BEA, "odd-app"));
    assert!(!gate.admits(ANN, "odd-app"));
    for wrong in [json!({ "trust": "limited" }), json!({ "trust": "odd" }), json!({ "units": ["/Sales"] })] {
        assert_eq!(first.if_match("*").patch(path, &wrong).problem(), "bad-request", "{wrong}");
    }
    ok(&first.if_match("*").delete(path));
    assert!(gate.admits(BEA, "odd-app"));
}

#[test]
fn many_changes_are_made_together_or_not_at_all() {
    let (gate, first) = gate();
    sales(&first);
    ok(&first.post("/api/v1/units", &json!({ "path": "/Staff" })));
    let off = |name: &str| json!({ "kind": "unit", "name": name, "action": "change", "set": { "imap": "off" } });
    let broken = json!({ "changes": [off("/Sales"), off("/Nowhere")] });
    assert_eq!(first.post("/api/v1/changes", &broken).problem(), "not-found");
    assert!(gate.admits(BEA, APP), "nothing of it was made");
    let good = json!({ "changes": [off("/Sales"), off("/Staff"),
        { "kind": "user", "name": "new@example.com", "action": "make", "set": { "unit": "/Staff" } },
        { "kind": "unit", "name": "/Staff", "action": "move", "to": "/Sales/Staff" }] });
    let tried = ok(&first.post("/api/v1/changes?preview=true", &good));
    assert_eq!(tried["loses"]["users"], 1, "{tried}");
    assert_eq!(ok(&first.post("/api/v1/changes", &good)), json!({ "changes": 4 }));
    assert!(!gate.admits(BEA, APP));
    assert_eq!(ok(&first.get("/api/v1/users/new@example.com"))["unit"], "/Sales/Staff");
    for (item, word) in [
        (json!({ "kind": "unit", "name": "/Sales", "action": "remove", "set": {} }), "changes[0]"),
        (json!({ "kind": "user", "name": BEA, "action": "move", "to": "/Staff" }), "only a unit"),
        (json!({ "kind": "user", "name": BEA, "action": "change", "set": { "unitt": "/Staff" } }), "unitt"),
        (json!({ "kind": "planet", "name": BEA, "action": "change" }), "planet"),
    ] {
        let answer = first.post("/api/v1/changes", &json!({ "changes": [item] }));
        assert!(answer.status.is_client_error() && answer.text.contains(word), "{}", answer.text);
    }
    assert_eq!(first.post("/api/v1/changes", &json!({ "changes": [] })).problem(), "bad-request");
}

#[test]
fn an_admin_of_a_subtree_neither_sees_nor_touches_what_is_outside() {
    let (gate, first) = gate();
    sales(&first);
    ok(&first.post("/api/v1/units", &json!({ "path": "/Sales/Field" })));
    ok(&first.put(&format!("/api/v1/admins/{BEA}"), &json!({ "role": "admin", "unit": "/Sales" })));
    let mut claims = token::claims(BEA, "console", 3600);
    claims["scope"] = json!("portcullis");
    let bea = Api::with(&gate, &gate.key.sign(&claims)).if_match("*");
    let names = |path: &str, key: &str| {
        let list = ok(&bea.get(path));
        list["items"].as_array().unwrap().iter().map(|i| i[key].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("/api/v1/units", "path"), ["/Sales", "/Sales/Field"]);
    assert_eq!(names("/api/v1/users", "address"), [BEA]);
    ok(&bea.patch("/api/v1/units/%2FSales%2FField", &json!({ "set": { "imap": "any" } })));
    ok(&bea.post("/api/v1/users", &json!({ "address": "cy@example.com", "set": { "unit": "/Sales/Field" } })));
    let outside = [
        bea.get("/api/v1/units/%2FListed"),
        bea.get("/api/v1/units?below=%2FListed"),
        bea.get(&format!("/api/v1/users/{ANN}")),
        bea.patch("/api/v1/units/%2FListed", &json!({ "set": { "imap": "off" } })),
        bea.patch(&format!("/api/v1/users/{ANN}"), &json!({ "suspended": true })),
        bea.post("/api/v1/units", &json!({ "path": "/Mine" })),
        bea.post("/api/v1/users", &json!({ "address": "x@example.com", "set": { "unit": "/" } })),
        bea.patch("/api/v1/users/cy@example.com", &json!({ "unit": "/Listed" })),
        bea.patch("/api/v1/units/%2FSales%2FField", &json!({ "path": "/Field" })),
        bea.post(
            "/api/v1/mailboxes",
            &json!({ "address": "m@example.com", "set": { "unit": "/Sales", "members": [{ "user": ANN }] } }),
        ),
        bea.post(
            "/api/v1/changes",
            &json!({ "changes": [{ "kind": "unit", "name": "/Listed", "action": "remove" }] }),
        ),
    ];
    for answer in outside {
        assert_eq!(answer.problem(), "not-found", "{}", answer.text);
    }
    let theirs = [
        bea.get("/api/v1/groups"),
        bea.get("/api/v1/users?group=pilot@example.com"),
        bea.post("/api/v1/groups", &json!({ "name": "g@example.com" })),
        bea.patch(&format!("/api/v1/apps/{APP}"), &json!({ "trust": "blocked" })),
        bea.delete("/api/v1/units/%2FSales"),
        bea.post("/api/v1/mailboxes", &json!({ "address": "m@example.com" })),
        bea.post("/api/v1/tokens", &json!({ "name": "x", "role": "super" })),
    ];
    for answer in theirs {
        assert_eq!(answer.problem(), "forbidden", "{}", answer.text);
    }
    let auditor = first.post("/api/v1/tokens", &json!({ "name": "a", "role": "auditor" })).json();
    let auditor = Api::with(&gate, auditor["token"].as_str().unwrap()).if_match("*");
    ok(&auditor.get("/api/v1/units"));
    assert_eq!(
        auditor.patch("/api/v1/units/%2FSales", &json!({ "set": { "imap": "off" } })).problem(),
        "forbidden"
    );
    assert_eq!(
        auditor.raw(Method::DELETE, "/api/v1/units/%2FSales%2FField", "text/plain", Vec::new()).problem(),
        "forbidden"
    );
}
