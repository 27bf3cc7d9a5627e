//! What an admin of a subtree may not do, though it seems to be within the subtree; and that what is theirs is found however
//! much of it is other people's.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{
    APP, DOVECOT, Gate, Setup,
    api::{Answer, Api},
    wire::{Imap, xoauth2},
};

fn gate() -> (Gate, Api) {
    let gate = Gate::with(Setup {
        listen: "imaps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n".to_owned(),
        more: format!("[http]\nrequests_per_minute = 100000\n{DOVECOT}"),
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
fn where_mail_is_is_the_whole_organisations_to_say_and_a_subtrees_admin_hears_so() {
    let (gate, first) = gate();
    let sales = sales(&gate, &first);
    bea_and_cy(&gate, &sales);
    let unit = json!({ "set": { "mail": "dovecot" } });
    let bulk =
        json!({ "changes": [{ "kind": "user", "name": BEA, "action": "change", "set": { "mail": "dovecot" } }] });
    for refused in [
        sales.if_match("*").patch("/api/v1/units/%2FSales", &unit),
        sales.if_match("*").patch("/api/v1/units/%2FSales?preview=true", &unit),
        sales.if_match("*").patch(&format!("/api/v1/users/{BEA}"), &json!({ "mail": null })),
        sales.post("/api/v1/units", &json!({ "path": "/Sales/New", "set": { "mail": "maildir" } })),
        sales.post(
            "/api/v1/users",
            &json!({ "address": "n@example.com", "set": { "unit": "/Sales", "mail": "dovecot" } }),
        ),
        sales.post("/api/v1/changes", &bulk),
    ] {
        assert_eq!((refused.status, refused.problem()), (StatusCode::FORBIDDEN, "forbidden".to_owned()));
        assert!(
            refused.text.contains("would have its mail elsewhere (mail): an admin of /Sales may not do this"),
            "{}",
            refused.text
        );
    }
    ok(&first.if_match("*").patch(&format!("/api/v1/users/{BEA}"), &json!({ "mail": "dovecot" })));
    let seen = ok(&sales.if_match("*").patch(&format!("/api/v1/users/{BEA}"), &json!({ "suspended": true })));
    assert_eq!(seen["mail"], "dovecot", "what they change besides leaves it as it is");
}

/// It would move somebody's mail, and is not made.
fn moves_mail(way: &str, answer: &Answer) {
    assert_eq!((answer.status, answer.problem()), (StatusCode::FORBIDDEN, "forbidden".to_owned()), "{way}");
    assert!(answer.text.contains("would have its mail elsewhere (mail)"), "{way}: {}", answer.text);
}

#[test]
fn no_move_and_no_making_anew_brings_mail_elsewhere_where_that_is_not_the_admins_to_say() {
    let (gate, first) = gate();
    let sales = sales(&gate, &first);
    bea_and_cy(&gate, &sales);
    for (unit, mail) in [("/Sales/There", "dovecot"), ("/Sales/Else", "maildir"), ("/Sales/There/Else", "maildir")]
    {
        ok(&first.post("/api/v1/units", &json!({ "path": unit, "set": { "mail": mail } })));
    }
    ok(&sales.post("/api/v1/units", &json!({ "path": "/Sales/There/Below" })));
    ok(&sales.post("/api/v1/mailboxes", &json!({ "address": "desk@example.com", "set": { "unit": "/Sales" } })));
    let scim_user =
        json!({ "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "dee@example.com" });
    let dee = ok(&scim(&sales, Method::POST, "/scim/v2/Users", scim_user));
    let dee = format!("/scim/v2/Users/{}", dee["id"].as_str().unwrap());
    let patch = |api: &Api, path: &str, body: Value| api.if_match("*").patch(path, &body);
    let bea = format!("/api/v1/users/{BEA}");

    // Another unit, and mail is elsewhere there.
    let to = |unit: &str| json!({ "unit": unit });
    let preview = format!("{bea}?preview=true");
    moves_mail("user", &patch(&sales, &bea, to("/Sales/There")));
    moves_mail("preview", &patch(&sales, &preview, to("/Sales/There/Below")));
    moves_mail("user, to where it is said again", &patch(&sales, &bea, to("/Sales/Else")));
    moves_mail("mailbox", &patch(&sales, "/api/v1/mailboxes/desk@example.com", to("/Sales/There")));
    let path = |path: &str| json!({ "path": path });
    moves_mail("unit", &patch(&sales, "/api/v1/units/%2FSales%2FField", path("/Sales/There/Field")));
    moves_mail("unit, out", &patch(&sales, "/api/v1/units/%2FSales%2FThere%2FBelow", path("/Sales/Below")));
    let listed = import(&sales, &format!("address,unit\n{BEA},/Sales/There\n"));
    assert_eq!(listed.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", listed.text);
    assert!(listed.text.contains("would have its mail elsewhere (mail)"), "{}", listed.text);
    // Where it stays where it is nothing is in the way.
    ok(&patch(&sales, &bea, to("/Sales/Field")));
    ok(&patch(&sales, "/api/v1/mailboxes/desk@example.com", to("/Sales/Field")));
    ok(&patch(&sales, "/api/v1/units/%2FSales%2FThere%2FElse", path("/Sales/Own")));
    ok(&sales.post("/api/v1/users", &json!({ "address": "new@example.com", "set": { "unit": "/Sales/There" } })));
    ok(&patch(&sales, "/api/v1/users/new@example.com", to("/Sales/There/Below")));

    // What is gone and made again.
    for address in [format!("users/{BEA}"), "mailboxes/desk@example.com".to_owned()] {
        ok(&sales.if_match("*").delete(&format!("/api/v1/{address}")));
        let (kind, address) = address.split_once('/').unwrap();
        let anew = |unit: &str| {
            sales.post(&format!("/api/v1/{kind}"), &json!({ "address": address, "set": { "unit": unit } }))
        };
        moves_mail(kind, &anew("/Sales/There"));
        ok(&anew("/Sales"));
    }
    moves_mail("a unit that says it", &sales.if_match("*").delete("/api/v1/units/%2FSales%2FOwn"));
    ok(&patch(&first, &bea, json!({ "mail": "dovecot/mail2.internal" })));
    moves_mail("who is kept at one server", &sales.if_match("*").delete(&bea));
    ok(&patch(&first, "/api/v1/users/dee@example.com", json!({ "mail": "dovecot" })));
    moves_mail_in_scim(&scim(&sales, Method::DELETE, &dee, Value::Null));
    let rename = json!({ "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{ "op": "replace", "path": "userName", "value": "dot@example.com" }] });
    moves_mail_in_scim(&scim(&sales, Method::PATCH, &dee, rename));
    // Whose mail is said of themselves has it there in every unit; and who reaches all may do all of this.
    ok(&patch(&sales, &bea, to("/Sales/There")));
    ok(&patch(&first, "/api/v1/units/%2FSales%2FField", path("/Sales/There/Field")));
    ok(&first.if_match("*").delete(&bea));
    ok(&first.if_match("*").delete("/api/v1/units/%2FSales%2FOwn"));
}

fn moves_mail_in_scim(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text);
    assert!(answer.text.contains("would have its mail elsewhere (mail)"), "{}", answer.text);
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

const BEA: &str = "bea@example.com";
const CY: &str = "cy@example.com";

/// Two people of `/Sales`, and a message in the mailbox of the first.
fn bea_and_cy(gate: &Gate, sales: &Api) {
    for user in [BEA, CY] {
        ok(&sales.post("/api/v1/users", &json!({ "address": user, "set": { "unit": "/Sales" } })));
    }
    gate.deliver(BEA, b"Subject: private\r\n\r\nprivate\r\n");
    assert_eq!(gate.imap(BEA, APP).read_all("INBOX").len(), 1);
}

fn shared_with_cy(address: &str) -> Value {
    json!({ "address": address, "set": { "unit": "/Sales", "members": [{ "user": CY }] } })
}

#[test]
fn a_shared_mailbox_at_a_former_users_address_does_not_open_that_users_mail() {
    let (gate, first) = gate();
    let sales = sales(&gate, &first);
    bea_and_cy(&gate, &sales);
    let both = json!({ "changes": [
        { "kind": "user", "name": BEA, "action": "remove" },
        { "kind": "mailbox", "name": BEA, "action": "make", "set": shared_with_cy(BEA)["set"] },
    ] });
    assert_eq!(sales.post("/api/v1/changes", &both).problem(), "conflict");
    ok(&sales.if_match("*").delete(&format!("/api/v1/users/{BEA}")));
    let made = sales.post("/api/v1/mailboxes", &shared_with_cy(BEA));
    assert_eq!(made.problem(), "conflict");
    assert!(made.text.contains("take_over"), "{}", made.text);
    let mut insists = shared_with_cy(BEA);
    insists["set"]["take_over"] = json!(true);
    assert_eq!(sales.post("/api/v1/mailboxes", &insists).problem(), "forbidden");
    assert_eq!(first.post("/api/v1/mailboxes", &shared_with_cy(BEA)).problem(), "conflict");
    let enter = || {
        let mut imap = Imap::connect(&gate);
        let blob = xoauth2(BEA, &gate.token(CY, APP));
        imap.command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status.starts_with("OK").then_some(imap)
    };
    assert!(enter().is_none(), "bea's mail is nobody's to open");
    // The super admin's explicit way, by the command.
    let run = first.command(&["mailboxes", "add", BEA, "--unit", "/Sales", "--member", CY, "--take-over"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(enter().unwrap().read_all("INBOX").len(), 1);
}

#[test]
fn an_address_that_was_outside_a_subtree_is_not_its_admins_to_make() {
    let (gate, first) = gate();
    let sales = sales(&gate, &first);
    ok(&first.post("/api/v1/units", &json!({ "path": "/Board" })));
    let body = json!({ "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "ceo@example.com" });
    let ceo = ok(&scim(&first, Method::POST, "/scim/v2/Users", body));
    ok(&first.if_match("*").patch("/api/v1/users/ceo@example.com", &json!({ "unit": "/Board" })));
    let rename = |to: &str| {
        json!({ "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{ "op": "replace", "path": "userName", "value": to }] })
    };
    let place = |id: &Value| format!("/scim/v2/Users/{}", id.as_str().unwrap());
    ok(&scim(&first, Method::PATCH, &place(&ceo["id"]), rename("chief@example.com")));
    for (way, answer) in [
        (
            "mailbox",
            sales.post("/api/v1/mailboxes", &json!({ "address": "ceo@example.com", "set": { "unit": "/Sales" } })),
        ),
        (
            "user",
            sales.post("/api/v1/users", &json!({ "address": "ceo@example.com", "set": { "unit": "/Sales" } })),
        ),
    ] {
        assert_eq!(answer.problem(), "forbidden", "{way}");
        assert!(answer.text.contains("ask an admin of the whole organisation"), "{}", answer.text);
    }
    let body = json!({ "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": BEA });
    let bea = ok(&scim(&sales, Method::POST, "/scim/v2/Users", body));
    let taken = scim(&sales, Method::PATCH, &place(&bea["id"]), rename("ceo@example.com"));
    assert_eq!(taken.status, StatusCode::FORBIDDEN, "{}", taken.text);
    let listed = import(&sales, "address,unit\nceo@example.com,/Sales\n");
    assert_eq!(listed.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", listed.text);
    assert_eq!(first.get("/api/v1/users/ceo@example.com").problem(), "not-found");
    // Who reaches all may.
    ok(&first.post("/api/v1/users", &json!({ "address": "ceo@example.com", "set": { "unit": "/Sales" } })));
}

#[test]
fn units_swapped_under_their_admins_leave_everybody_with_the_same_people() {
    let (gate, first) = gate();
    let sales = sales(&gate, &first);
    ok(&sales.post("/api/v1/units", &json!({ "path": "/Sales/Inner" })));
    for (user, unit) in [(BEA, "/Sales/Field"), (CY, "/Sales/Inner")] {
        ok(&sales.post("/api/v1/users", &json!({ "address": user, "set": { "unit": unit } })));
    }
    let made = ok(&first.post("/api/v1/tokens", &json!({ "name": "f", "role": "admin", "unit": "/Sales/Field" })));
    let field = Api::with(&gate, made["token"].as_str().unwrap());
    let seen = || {
        let list = ok(&field.get("/api/v1/users"));
        list["items"].as_array().unwrap().iter().map(|user| user["address"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(seen(), [BEA]);
    let swap =
        [("/Sales/Field", "/Sales/Other"), ("/Sales/Inner", "/Sales/Field"), ("/Sales/Other", "/Sales/Inner")];
    let swap = swap.map(|(from, to)| json!({ "kind": "unit", "name": from, "action": "move", "to": to }));
    ok(&sales.post("/api/v1/changes", &json!({ "changes": swap })));
    assert_eq!(seen(), [BEA]);
    ok(&sales.if_match("*").delete(&format!("/api/v1/users/{BEA}")));
    let kept = sales.if_match("*").delete("/api/v1/units/%2FSales%2FInner");
    assert_eq!(kept.problem(), "conflict");
    assert!(kept.text.contains("API token"), "{}", kept.text);
}

#[test]
fn the_audit_log_of_a_subtree_has_its_own_rows_and_nobodys_history_from_elsewhere() {
    let (gate, first) = gate();
    let sales = sales(&gate, &first);
    // Lisa signs in where she is, and comes over afterwards.
    gate.imap("lisa@example.com", APP).ok("LOGOUT");
    gate.audit_with(&["--user", "lisa@example.com"], 1, |row| row["event"] == "login");
    gate.set_policy(&support::POLICY.replace("[user.\"lisa@example.com\"]\nunit = \"/Listed\"\n", ""));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while first.get("/api/v1/users/lisa@example.com").status == StatusCode::OK {
        assert!(std::time::Instant::now() < deadline, "the file is not applied");
    }
    ok(&first.post("/api/v1/users", &json!({ "address": "lisa@example.com", "set": { "unit": "/Sales" } })));
    bea_and_cy(&gate, &sales);
    ok(&first.post("/api/v1/mailboxes", &shared_with_cy("desk@example.com")));
    ok(&first.if_match("*").delete("/api/v1/mailboxes/desk@example.com"));
    ok(&first.if_match("*").delete(&format!("/api/v1/users/{BEA}")));
    let events = |api: &Api, query: &str| {
        let list = ok(&api.get(&format!("/api/v1/audit?limit=1000{query}")));
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["event"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let own = events(&sales, "");
    for event in ["mailbox.made", "mailbox.removed", "user.removed", "user.made"] {
        assert!(own.contains(&event.to_owned()), "{event} in {own:?}");
    }
    assert_eq!(events(&sales, "&user=lisa@example.com"), ["user.made"]);
    assert!(events(&first, "&user=lisa@example.com").contains(&"login".to_owned()));
}

#[test]
fn a_preview_names_nobody_who_is_out_of_reach() {
    let (gate, first) = gate();
    let sales = sales(&gate, &first);
    bea_and_cy(&gate, &sales);
    let team = "team@example.com";
    let members = json!([{ "user": "lisa@example.com" }, { "user": CY }]);
    ok(&first
        .post("/api/v1/mailboxes", &json!({ "address": team, "set": { "unit": "/Sales", "members": members } })));
    let mut open = Vec::new();
    for user in ["lisa@example.com", CY] {
        let mut imap = Imap::connect(&gate);
        imap.xoauth2(team, &gate.token(user, APP));
        open.push(imap);
    }
    let preview = |api: &Api| ok(&api.if_match("*").delete(&format!("/api/v1/mailboxes/{team}?preview=true")));
    let names = |list: &Value| {
        let mut names: Vec<_> =
            list.as_array().unwrap().iter().map(|one| one["user"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names.dedup();
        names
    };
    for (api, expected) in [(&first, vec![CY, "lisa@example.com"]), (&sales, vec![CY])] {
        let told = preview(api);
        assert_eq!((&told["loses"]["users"], &told["sessions"]["count"]), (&json!(2), &json!(2)), "{told}");
        assert_eq!(names(&told["loses"]["first"]), expected, "{told}");
        assert_eq!(names(&told["sessions"]["first"]), expected, "{told}");
    }
}
