//! What an admin of a subtree may not do, though it seems to be within the subtree; and that what is theirs is found however
//! much of it is other people's.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{
    Gate, Setup,
    api::{Answer, Api},
};

fn gate() -> (Gate, Api) {
    let gate = Gate::with(Setup {
        listen: "imaps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n".to_owned(),
        more: "[http]\nrequests_per_minute = 100000\n".to_owned(),
        ..Setup::default()
    });
    let first = Api::first(&gate);
    for unit in ["/Sales", "/Sales/Field"] {
        ok(&first.post("/api/v1/units", &json!({ "path": unit })));
    }
    (gate, first)
}

fn ok(answer: &Answer) -> Value {
    assert!(answer.status.is_success(), "{}: {}", answer.status, answer.text);
    if answer.text.is_empty() { Value::Null } else { answer.json() }
}

/// A token that may do in `/Sales` all that an admin of it may.
fn sales(gate: &Gate, first: &Api) -> Api {
    let made = ok(&first.post("/api/v1/tokens", &json!({ "name": "s", "role": "admin", "unit": "/Sales" })));
    Api::with(gate, made["token"].as_str().unwrap())
}

fn scim(api: &Api, method: Method, path: &str, body: Value) -> Answer {
    api.raw(method, path, "application/scim+json", body.to_string().into_bytes())
}

fn import(api: &Api, list: &str) -> Answer {
    api.raw(Method::POST, "/api/v1/directory-import", "text/csv", list.as_bytes().to_vec())
}

/// Every way in which the admin of `/Sales` suspends this user: whether it is let through, and what was said.
fn suspensions(sales: &Api, user: &str, id: &str) -> Vec<(&'static str, bool, String)> {
    let mut tried = Vec::new();
    let mut tell = |way, answer: Answer| {
        assert!(
            answer.status.is_success() || matches!(answer.status.as_u16(), 403 | 422),
            "{way}: {}",
            answer.text
        );
        tried.push((way, answer.status.is_success(), answer.text));
    };
    let one = format!("/api/v1/users/{user}");
    tell("preview", sales.if_match("*").patch(&format!("{one}?preview=true"), &json!({ "suspended": true })));
    tell("api", sales.if_match("*").patch(&one, &json!({ "suspended": true })));
    tell("api, back", sales.if_match("*").patch(&one, &json!({ "suspended": false })));
    let change = json!({ "kind": "user", "name": user, "action": "change", "set": { "suspended": true } });
    tell("changes", sales.post("/api/v1/changes", &json!({ "changes": [change] })));
    let replace = |active: bool| {
        let schemas = ["urn:ietf:params:scim:api:messages:2.0:PatchOp"];
        json!({ "schemas": schemas, "Operations": [{ "op": "replace", "path": "active", "value": active }] })
    };
    tell("import, back", import(sales, &format!("address,suspended\n{user},no\n")));
    tell("scim", scim(sales, Method::PATCH, &format!("/scim/v2/Users/{id}"), replace(false)));
    tell("scim, back", scim(sales, Method::PATCH, &format!("/scim/v2/Users/{id}"), replace(true)));
    tell("import", import(sales, &format!("address,suspended\n{user},yes\n")));
    let command = |arguments: &[&str]| {
        let run = sales.command(arguments);
        let text = String::from_utf8([run.stdout, run.stderr].concat()).unwrap();
        (run.status.code().unwrap(), text)
    };
    let (code, text) = command(&["users", "set", user, "--suspended", "false"]);
    assert!(matches!(code, 0 | 1), "{text}");
    tried.push(("command", code == 0, text));
    tried
}

#[test]
fn whoever_has_a_role_beyond_a_subtree_is_not_for_its_admins_to_suspend_or_move() {
    let (gate, first) = gate();
    let sales = sales(&gate, &first);
    for (name, role, theirs) in [
        ("boss", json!({ "role": "super" }), false),
        ("reader", json!({ "role": "auditor" }), false),
        ("other", json!({ "role": "admin", "unit": "/Listed" }), false),
        ("above", json!({ "role": "admin", "unit": "/" }), false),
        ("keeper", json!({ "role": "account_access", "unit": "/Listed" }), false),
        ("peer", json!({ "role": "admin", "unit": "/Sales" }), true),
        ("below", json!({ "role": "account_access", "unit": "/Sales/Field" }), true),
        ("plain", json!(null), true),
    ] {
        let user = format!("{name}@example.com");
        let body = json!({ "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": user });
        let made = ok(&scim(&sales, Method::POST, "/scim/v2/Users", body));
        let id = made["id"].as_str().unwrap();
        if !role.is_null() {
            ok(&first.put(&format!("/api/v1/admins/{user}"), &role));
        }
        for (way, let_through, text) in suspensions(&sales, &user, id) {
            // Nothing is wrong with saying what is so already.
            let is_said_already = matches!(way, "import, back" | "scim, back");
            assert_eq!(let_through, theirs || is_said_already, "{name}: {way}: {text}");
            if !let_through {
                assert!(
                    text.contains(&user) && text.contains("may not suspend or move") || text.contains("beyond"),
                    "{text}"
                );
            }
        }
        let one = format!("/api/v1/users/{user}");
        let moved = sales.if_match("*").patch(&one, &json!({ "unit": "/Sales/Field" }));
        assert_eq!(moved.status.is_success(), theirs, "{name}: {}", moved.text);
        if !theirs {
            assert_eq!((moved.status, moved.problem()), (StatusCode::FORBIDDEN, "forbidden".to_owned()));
        }
        let listed = import(&sales, &format!("address,unit\n{user},/Sales/Field\n"));
        assert_eq!(listed.status.is_success(), theirs, "{name}: {}", listed.text);
        let now = ok(&first.get(&one));
        let unit = if theirs { "/Sales/Field" } else { "/Sales" };
        assert_eq!((&now["unit"], &now["suspended"]), (&json!(unit), &json!(false)), "{name}");
        // What else is said of them is not in the way: they read mail here like everybody.
        ok(&sales.if_match("*").patch(&one, &json!({ "imap": { "apps": "off" } })));
        let title = json!({ "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{ "op": "replace", "path": "title", "value": "Dr" }] });
        ok(&scim(&sales, Method::PATCH, &format!("/scim/v2/Users/{id}"), title));
    }
    // Who sees all may.
    ok(&first.if_match("*").patch("/api/v1/users/reader@example.com", &json!({ "suspended": true })));
}

#[test]
fn the_audit_log_of_a_subtree_goes_on_over_all_rows_page_by_page() {
    let (gate, first) = gate();
    let sales = sales(&gate, &first);
    let mut own = BTreeSet::new();
    for number in 0..7 {
        let user = format!("own{number}@example.com");
        ok(&sales.post("/api/v1/users", &json!({ "address": user, "set": { "unit": "/Sales" } })));
        own.insert(user);
        // Eleven thousand rows of other people's, so that a page that looks at five thousand finds nothing at all.
        if number == 3 {
            let list: String = (0..11_000).map(|n| format!("u{n}@example.com,/\n")).collect();
            ok(&import(&first, &format!("address,unit\n{list}")));
        }
    }
    let pages = |api: &Api, query: &str| {
        let (mut pages, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = ok(&api.get(&format!("/api/v1/audit?{query}{cursor}")));
            let items: Vec<String> = page["items"].as_array().unwrap().iter().map(ToString::to_string).collect();
            pages.push(items);
            let Some(next) = page["next"].as_str() else { return pages };
            cursor = format!("&cursor={next}");
            assert!(pages.len() < 100, "the pages never end");
        }
    };
    let made = pages(&sales, "event=user.made&limit=2");
    assert!(made.iter().all(|page| page.len() <= 2), "{made:?}");
    assert!(made.iter().any(Vec::is_empty), "a page looks at so many rows and no more: {made:?}");
    let rows: Vec<String> = made.concat();
    assert_eq!(rows.len(), own.len(), "each once: {rows:?}");
    for user in &own {
        assert_eq!(rows.iter().filter(|row| row.contains(user.as_str())).count(), 1, "{user}");
    }
    assert!(rows[0].contains("own6@") && rows[6].contains("own0@"), "newest first: {rows:?}");

    // Who sees all gets whole pages, each row once.
    let all = pages(&first, "event=user.made&limit=1000");
    let (last, whole) = all.split_last().unwrap();
    assert!(whole.iter().all(|page| page.len() == 1000) && !last.is_empty() && last.len() <= 1000);
    assert_eq!(all.concat().iter().collect::<BTreeSet<_>>().len(), 11_007);
    assert_eq!(all.concat().len(), 11_007);
    // A page that ends with the last row has none after it.
    let exact = pages(&first, "event=user.made&user=own1@example.com&limit=1");
    assert_eq!((exact.len(), exact[0].len()), (1, 1));
    for cursor in ["x", "-", "YQ"] {
        assert_eq!(sales.get(&format!("/api/v1/audit?cursor={cursor}")).problem(), "bad-request", "{cursor}");
    }
}
