//! SCIM 2.0 and the import of a list, over the HTTP API of the real binary: requests as Entra ID and Okta send them, what they
//! do at the gate, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{
    ANN, APP, Gate, Setup,
    api::{Answer, Api},
};

const LISTEN: &str = "imaps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n";
const USERS: &str = "/scim/v2/Users";
const GROUPS: &str = "/scim/v2/Groups";
const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

fn gate_with(scim: &str) -> (Gate, Api) {
    let gate = Gate::with(Setup {
        listen: LISTEN.to_owned(),
        more: format!("[http]\nrequests_per_minute = 100000\n[scim]\n{scim}"),
        ..Setup::default()
    });
    let first = Api::first(&gate);
    (gate, first)
}

/// A provider with a token of the scope `scim` alone.
fn provider(gate: &Gate, first: &Api, role: Value) -> Scim {
    let mut wish = json!({ "name": "provider", "scopes": ["scim"] });
    wish.as_object_mut().unwrap().extend(role.as_object().unwrap().clone());
    let made = first.post("/api/v1/tokens", &wish);
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    Scim(Api::with(gate, made.json()["token"].as_str().unwrap()))
}

fn start() -> (Gate, Api, Scim) {
    let (gate, first) = gate_with("");
    let okta = provider(&gate, &first, json!({ "role": "super" }));
    (gate, first, okta)
}

/// A caller that speaks SCIM's media type.
struct Scim(Api);

impl Scim {
    fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        let answer =
            self.0.raw(method, path, "application/scim+json; charset=utf-8", body.to_string().into_bytes());
        if !answer.text.is_empty() {
            assert_eq!(answer.headers["content-type"], "application/scim+json", "{}", answer.text);
        }
        answer
    }

    fn get(&self, path: &str) -> Answer {
        self.0.get(path)
    }

    /// A list that a filter asks for.
    fn find(&self, path: &str, filter: &str) -> Vec<Value> {
        let found = ok(&self.send(Method::POST, &format!("{path}/.search"), &json!({ "filter": filter })));
        let resources = found["Resources"].as_array().unwrap().clone();
        assert_eq!(found["totalResults"], resources.len(), "{filter}");
        resources
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body)
    }

    fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, body)
    }

    fn patch(&self, path: &str, operations: Value) -> Answer {
        let schemas = ["urn:ietf:params:scim:api:messages:2.0:PatchOp"];
        self.send(Method::PATCH, path, &json!({ "schemas": schemas, "Operations": operations }))
    }

    fn delete(&self, path: &str) -> Answer {
        self.0.delete(path)
    }

    /// Makes a user of this name in example.com; the path.
    fn user(&self, name: &str) -> String {
        let made = ok(&self.post(USERS, &json!({ "schemas": [USER], "userName": format!("{name}@example.com") })));
        format!("{USERS}/{}", made["id"].as_str().unwrap())
    }
}

fn ok(answer: &Answer) -> Value {
    assert!(answer.status.is_success(), "{}: {}", answer.status, answer.text);
    if answer.text.is_empty() { Value::Null } else { answer.json() }
}

/// An error in SCIM's form: status and kind, with what is said.
fn refused(answer: &Answer, status: u16, kind: &str, said: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "application/scim+json");
    let error = answer.json();
    assert_eq!(error["schemas"], json!(["urn:ietf:params:scim:api:messages:2.0:Error"]));
    assert_eq!(error["status"], status.to_string());
    assert_eq!(error["scimType"].as_str().unwrap_or(""), kind, "{error}");
    assert!(error["detail"].as_str().unwrap().contains(said), "{said:?}: {error}");
}

fn id(resource: &Value) -> &str {
    resource["id"].as_str().unwrap()
}

/// Entra ID's tutorial "Develop and plan provisioning for a SCIM endpoint", in its order.
#[test]
fn entra_provisions_changes_disables_and_deletes_a_user() {
    let (gate, _, entra) = start();
    let test = ok(&entra.get(&format!("{USERS}?filter=userName+eq+%22non-existent%40example.com%22")));
    assert_eq!((&test["totalResults"], &test["Resources"]), (&json!(0), &json!([])));
    assert_eq!(test["schemas"], json!(["urn:ietf:params:scim:api:messages:2.0:ListResponse"]));
    let made = entra.post(
        USERS,
        &json!({
            "schemas": [USER, ENTERPRISE], "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef",
            "userName": "Bea.Test@example.com", "active": true, "roles": [],
            "emails": [{ "primary": true, "type": "work", "value": "Bea.Test@example.com" }],
            "meta": { "resourceType": "User" },
            "name": { "formatted": "Bea Test", "familyName": "Test", "givenName": "Bea" },
        }),
    );
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let bea = made.json();
    let path = format!("{USERS}/{}", id(&bea));
    assert!(bea["meta"]["location"].as_str().unwrap().ends_with(&path), "{bea}");
    assert_eq!(made.headers["location"].to_str().unwrap(), bea["meta"]["location"]);
    assert_eq!(made.headers["etag"].to_str().unwrap(), bea["meta"]["version"]);
    assert_eq!(bea["schemas"], json!([USER]));
    assert_eq!(bea["name"]["givenName"], "Bea");
    assert!(!id(&bea).contains('@'));

    let by_address = "userName eq \"Bea.Test@example.com\"";
    let by_work = "emails[type eq \"work\"].value eq \"bea.test@example.com\"";
    let by_external = "externalId eq \"0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef\"";
    for filter in [by_address, by_work, by_external] {
        assert_eq!(entra.find(USERS, filter), std::slice::from_ref(&bea), "{filter}");
    }

    let mut session = gate.imap("Bea.Test@example.com", APP);
    let changed = ok(&entra.patch(
        &path,
        json!([
            { "op": "Replace", "path": "emails[type eq \"work\"].value", "value": "updated@example.com" },
            { "op": "Replace", "path": "name.familyName", "value": "Updated" },
            { "op": "Add", "path": format!("{ENTERPRISE}:department"), "value": "Sales" },
        ]),
    ));
    assert_eq!(changed["emails"][0]["value"], "updated@example.com");
    assert_eq!(changed["name"], json!({ "formatted": "Bea Test", "familyName": "Updated", "givenName": "Bea" }));
    assert_eq!((&changed["schemas"], id(&changed)), (&json!([USER, ENTERPRISE]), id(&bea)));
    assert_ne!(changed["meta"]["version"], bea["meta"]["version"]);
    session.ok("NOOP");

    let began = Instant::now();
    let disabled = ok(&entra.patch(&path, json!([{ "op": "Replace", "path": "active", "value": "False" }])));
    assert_eq!(disabled["active"], false);
    session.bye();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(!gate.admits("Bea.Test@example.com", APP));
    ok(&entra.patch(&path, json!([{ "op": "Replace", "path": "active", "value": true }])));
    gate.imap("Bea.Test@example.com", APP).ok("LOGOUT");

    assert_eq!(entra.delete(&path).status, StatusCode::NO_CONTENT);
    refused(&entra.get(&path), 404, "", id(&bea));
    refused(&entra.delete(&path), 404, "", id(&bea));
    assert!(!gate.admits("Bea.Test@example.com", APP));
    let told = gate.audit_with(&["--user", "Bea.Test@example.com"], 1, |row| row["event"] == "user.removed");
    let made = told.iter().find(|row| row["event"] == "user.made").unwrap();
    let detail = made["detail"].as_str().unwrap();
    assert!(detail.starts_with("by token ") && detail.contains("(provider) (SCIM)"), "{detail}");
}

/// Okta's "SCIM protocol" reference, version 2.0.
#[test]
fn okta_links_replaces_and_deactivates_users() {
    let (gate, first, okta) = start();
    ok(&first.post("/api/v1/users", &json!({ "address": "isaac@example.com", "set": { "unit": "/Listed" } })));
    // A user whom an admin made is found, linked and replaced; the unit stays the admin's.
    let query = format!("{USERS}?filter=userName%20eq%20%22isaac@example.com%22&startIndex=1&count=100");
    let found = ok(&okta.get(&query));
    assert_eq!(
        (&found["totalResults"], &found["itemsPerPage"], &found["startIndex"]),
        (&json!(1), &json!(1), &json!(1))
    );
    let path = format!("{USERS}/{}", id(&found["Resources"][0]));
    let whole = json!({
        "schemas": [USER], "id": id(&found["Resources"][0]), "externalId": "00ujl29u0le5T6Aj10h7",
        "userName": "isaac@example.com", "name": { "givenName": "Isaac", "middleName": "", "familyName": "Brock" },
        "emails": [{ "primary": true, "value": "isaac@example.com", "type": "work", "display": "isaac@example.com" }],
        "displayName": "Isaac Brock", "locale": "en-US", "groups": [], "password": "1mz050nq", "active": true,
        "meta": { "resourceType": "User" },
    });
    let put = ok(&okta.put(&path, &whole));
    for name in ["id", "externalId", "userName", "name", "emails", "displayName", "locale", "active"] {
        assert_eq!(put[name], whole[name], "{name}");
    }
    assert_eq!((&put["password"], &put["groups"]), (&Value::Null, &Value::Null));
    assert_eq!(ok(&okta.get(&path)), put);
    assert_eq!(ok(&okta.put(&path, &whole)), put, "said once more, nothing is changed");
    assert_eq!(ok(&first.get("/api/v1/users/isaac@example.com"))["unit"], "/Listed");

    let mut session = gate.imap("isaac@example.com", APP);
    let off = ok(&okta.patch(&path, json!([{ "op": "replace", "value": { "active": false } }])));
    assert_eq!((&off["active"], &off["displayName"]), (&json!(false), &json!("Isaac Brock")));
    session.bye();
    let on = ok(&okta.put(&path, &whole));
    assert_eq!(on["active"], true);
    gate.imap("isaac@example.com", APP).ok("LOGOUT");
    // What is left out of a PUT is forgotten, `active` is not.
    ok(&okta.patch(&path, json!([{ "op": "replace", "value": { "active": false } }])));
    let bare = ok(&okta.put(&path, &json!({ "schemas": [USER], "userName": "isaac@example.com" })));
    assert_eq!(
        (&bare["active"], &bare["displayName"], &bare["externalId"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
    assert!(!gate.log().contains("1mz050nq"), "the password is in the log");
}

#[test]
fn a_suspension_by_an_admin_outlasts_a_provider_that_repeats_itself() {
    let (gate, first, okta) = start();
    let whole = json!({ "schemas": [USER], "userName": "bea@example.com", "active": true });
    let path = format!("{USERS}/{}", id(&ok(&okta.post(USERS, &whole))));
    ok(&first.if_match("*").patch("/api/v1/users/bea@example.com", &json!({ "suspended": true })));
    let again = json!({ "schemas": [USER], "userName": "bea@example.com", "active": true, "title": "Chief" });
    assert_eq!(ok(&okta.put(&path, &again))["active"], false);
    assert!(!gate.admits("bea@example.com", APP));
    // A yes where nothing was said before undoes nothing either.
    let silent = okta.user("cid");
    ok(&first.if_match("*").patch("/api/v1/users/cid@example.com", &json!({ "suspended": true })));
    let yes = json!([{ "op": "replace", "path": "active", "value": true }]);
    assert_eq!(ok(&okta.patch(&silent, yes))["active"], false);
    // The provider's own no and yes count.
    for active in [false, true] {
        let answer = okta.patch(&path, json!([{ "op": "replace", "path": "active", "value": active }]));
        assert_eq!(ok(&answer)["active"], active);
        assert_eq!(gate.admits("bea@example.com", APP), active);
    }
    // A no holds even where the provider said it before.
    ok(&okta.patch(&path, json!([{ "op": "replace", "path": "active", "value": false }])));
    ok(&first.if_match("*").patch("/api/v1/users/bea@example.com", &json!({ "suspended": false })));
    let no = json!({ "schemas": [USER], "userName": "bea@example.com", "active": false });
    assert_eq!(ok(&okta.put(&path, &no))["active"], false);
    // What took effect is in the audit log, though the provider had said the same before.
    let is_told = |row: &Value| row["detail"].as_str().is_some_and(|text| text.contains("(SCIM: active, title)"));
    gate.audit_with(&["--user", "bea@example.com"], 1, is_told);
    // But whom an admin let in stays so while the provider speaks of other things.
    ok(&first.if_match("*").patch("/api/v1/users/bea@example.com", &json!({ "suspended": false })));
    let title = json!([{ "op": "replace", "path": "title", "value": "Head" }]);
    assert_eq!(ok(&okta.patch(&path, title))["active"], true);
    let bare = json!({ "schemas": [USER], "userName": "bea@example.com" });
    assert_eq!(ok(&okta.put(&path, &bare))["active"], true);
    assert!(gate.admits("bea@example.com", APP));
}

#[test]
fn a_role_goes_with_the_user_and_no_subtrees_token_brings_it_back() {
    let (gate, first, okta) = start();
    ok(&first.post("/api/v1/units", &json!({ "path": "/Sales" })));
    let sales = provider(&gate, &first, json!({ "role": "admin", "unit": "/Sales" }));
    let path = okta.user("bea");
    let role = |name: &str, role: Value| ok(&first.put(&format!("/api/v1/admins/{name}@example.com"), &role));
    let is_admin = |name: &str| ok(&first.get("/api/v1/admins")).to_string().contains(&format!("{name}@"));
    role("bea", json!({ "role": "super" }));
    refused(&okta.delete(&path), 409, "", "bea@example.com is the last super admin");
    role("ann", json!({ "role": "super" }));
    assert_eq!(okta.delete(&path).status, StatusCode::NO_CONTENT);
    assert!(!is_admin("bea"));
    // A subtree's token removes nobody who has a role.
    let own = sales.user("cid");
    role("cid", json!({ "role": "auditor" }));
    refused(&sales.delete(&own), 403, "", "has a role");
    let rename = json!([{ "op": "replace", "path": "userName", "value": "dan@example.com" }]);
    refused(&sales.patch(&own, rename.clone()), 403, "", "has a role");
    assert!(is_admin("cid"));
    ok(&okta.patch(&own, rename));
    assert!(!is_admin("cid") && !is_admin("dan"));
    // The groups of somebody are no subtree's to give to another address.
    let group = json!({ "name": "pilot", "set": { "members": ["dan@example.com"] } });
    ok(&first.post("/api/v1/groups", &group));
    let rename = json!([{ "op": "replace", "path": "userName", "value": "eva@example.com" }]);
    refused(&sales.patch(&own, rename), 403, "", "is in the group \"pilot\"");
}

#[test]
fn a_new_address_is_the_same_user_under_the_same_id() {
    let (gate, first, okta) = start();
    let path = okta.user("bea");
    let mut session = gate.imap("bea@example.com", APP);
    let renamed =
        ok(&okta.patch(&path, json!([{ "op": "replace", "path": "userName", "value": "bea.lee@example.com" }])));
    assert_eq!(
        (&*format!("{USERS}/{}", id(&renamed)), &renamed["userName"]),
        (&*path, &json!("bea.lee@example.com"))
    );
    session.bye();
    gate.imap("bea.lee@example.com", APP).ok("LOGOUT");
    assert!(!gate.admits("bea@example.com", APP));
    assert_eq!(first.get("/api/v1/users/bea@example.com").problem(), "not-found");
    okta.user("cid");
    let taken = okta.patch(&path, json!([{ "op": "replace", "path": "userName", "value": "cid@example.com" }]));
    refused(&taken, 409, "uniqueness", "cid@example.com");
}

#[test]
fn groups_come_with_members_and_settings_stay_the_admins() {
    let (gate, first, okta) = start();
    let (bea, cid) = (okta.user("bea"), okta.user("cid"));
    let ids: Vec<&str> = [&bea, &cid].iter().map(|path| path.rsplit('/').next().unwrap()).collect();
    // Entra: members come in a PATCH of their own.
    let made = ok(&okta.post(
        GROUPS,
        &json!({ "schemas": [GROUP, "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group"],
            "externalId": "8aa1a0c0-c4c3-4bc0-b4a5-2ef676900159", "displayName": "Field  Staff",
            "meta": { "resourceType": "Group" } }),
    ));
    assert_eq!((&made["displayName"], &made["members"]), (&json!("Field  Staff"), &json!([])));
    let path = format!("{GROUPS}/{}", id(&made));
    assert_eq!(ok(&first.get("/api/v1/groups/Field-Staff"))["priority"], 0);
    let off = json!({ "pop": "off", "imap": "off", "priority": 5 });
    ok(&first.if_match("*").patch("/api/v1/groups/Field-Staff", &off));
    let mut session = gate.imap("bea@example.com", APP);
    let add = json!([{ "op": "Add", "path": "members", "value": [{ "$ref": null, "value": ids[0] }, { "value": ids[1] }] }]);
    let added = okta.patch(&path, add);
    assert_eq!((added.status, &*added.text), (StatusCode::NO_CONTENT, ""));
    session.bye();
    assert!(!gate.admits("cid@example.com", APP));
    let without = ok(&okta.get(&format!("{path}?excludedAttributes=members")));
    assert_eq!((&without["members"], &without["externalId"]), (&Value::Null, &made["externalId"]));
    let members = |answer: Value| {
        let members = answer["members"].as_array().unwrap().clone();
        members.iter().map(|member| member["display"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(members(ok(&okta.get(&path))), ["bea@example.com", "cid@example.com"]);
    for (filter, count) in [
        ("displayName eq \"field  staff\"".to_owned(), 1),
        ("displayName eq \"other\"".to_owned(), 0),
        (format!("id eq \"{}\" and members eq \"{}\"", id(&made), ids[0]), 1),
        (format!("id eq \"{}\" and members eq \"nobody\"", id(&made)), 0),
        (format!("id eq \"{}\" and members.value ne \"{}\"", id(&made), ids[1]), 0),
        (format!("id eq \"{}\" and members ne \"nobody\"", id(&made)), 1),
        (format!("id eq \"{}\" and members.display sw \"bea\"", id(&made)), 1),
        (format!("members.value eq \"{}\"", ids[1]), 1),
    ] {
        assert_eq!(okta.find(GROUPS, &filter).len(), count, "{filter}");
    }
    let answer = okta.post(&format!("{GROUPS}/.search"), &json!({ "filter": "members pr" }));
    refused(&answer, 400, "invalidFilter", "members eq");
    ok(&okta.patch(&path, json!([{ "op": "Remove", "path": "members", "value": [{ "value": ids[0] }] }])));
    gate.imap("bea@example.com", APP).ok("LOGOUT");
    // Okta: by filter, and as a whole.
    ok(&okta.patch(&path, json!([{ "op": "remove", "path": format!("members[value eq \"{}\"]", ids[1]) }])));
    let replace = json!([{ "op": "replace", "path": "members", "value": [{ "value": ids[0], "display": "Bea" }] }]);
    ok(&okta.patch(&path, replace));
    assert_eq!(members(ok(&okta.get(&path))), ["bea@example.com"]);
    let rename = json!([{ "op": "replace", "value": { "id": id(&made), "displayName": "Road" } }]);
    let renamed = ok(&okta.patch(&format!("{path}?attributes=displayName"), rename));
    assert_eq!(renamed, json!({ "schemas": [GROUP], "id": id(&made), "displayName": "Road" }));
    let row = ok(&first.get("/api/v1/groups/Road"));
    assert_eq!((&row["priority"], &row["imap"]["apps"]), (&json!(5), &json!("off")));
    assert!(!gate.admits("bea@example.com", APP));
    let put = json!({ "schemas": [GROUP], "displayName": "Road" });
    assert_eq!(members(ok(&okta.put(&path, &put))), ["bea@example.com"], "nothing was said of members");
    let put = json!({ "schemas": [GROUP], "displayName": "Road", "members": [] });
    assert_eq!(members(ok(&okta.put(&path, &put))), [""; 0]);
    gate.imap("bea@example.com", APP).ok("LOGOUT");
    assert_eq!(okta.delete(&path).status, StatusCode::NO_CONTENT);
    refused(&okta.get(&path), 404, "", id(&made));
}

#[test]
fn lists_are_filtered_paged_and_cut() {
    let (_gate, _, okta) = start();
    for name in ["b1", "b2", "b3"] {
        okta.user(name);
    }
    let names = |query: &str| {
        let list = ok(&okta.get(&format!("{USERS}?{query}")));
        let names = list["Resources"].as_array().unwrap().iter();
        (
            list["totalResults"].as_u64().unwrap(),
            names.map(|u| u["userName"].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>(),
        )
    };
    let full = |names: &[&str]| names.iter().map(|name| format!("{name}@example.com")).collect::<Vec<_>>();
    for (query, total, expected) in [
        ("", 6, full(&["ann", "b1", "b2", "b3", "lisa", "olaf"])),
        ("startIndex=2&count=2", 6, full(&["b1", "b2"])),
        ("startIndex=0&count=1&sortBy=userName&sortOrder=descending", 6, full(&["olaf"])),
        ("count=0", 6, vec![]),
        ("startIndex=100", 6, vec![]),
        ("filter=userName%20sw%20%22b%22&startIndex=2&count=1", 3, full(&["b2"])),
        ("filter=userName%20sw%20%22b%22&sortOrder=descending&count=2", 3, full(&["b3", "b2"])),
        ("filter=userName+eq+%22b1@example.com%22+or+userName+eq+%22b3@EXAMPLE.com%22", 2, full(&["b1", "b3"])),
        ("filter=userName+eq+%22b1@example.com%22+and+active+eq+false", 0, vec![]),
        (
            "filter=meta.created+gt+%222020-01-01T00:00:00Z%22+and+not+(userName+co+%22b%22)",
            3,
            full(&["ann", "lisa", "olaf"]),
        ),
        ("attributes=active&count=1", 6, vec!["-".to_owned()]),
    ] {
        assert_eq!(names(query), (total, expected), "{query}");
    }
    // Both kinds at once: users first.
    for name in ["g1", "g2"] {
        ok(&okta.post(GROUPS, &json!({ "displayName": name })));
    }
    let search = |body: Value| {
        let found = ok(&okta.post("/scim/v2/.search", &body));
        let names = found["Resources"].as_array().unwrap().iter();
        let name = |item: &Value| item["userName"].as_str().or(item["displayName"].as_str()).unwrap().to_owned();
        (found["totalResults"].as_u64().unwrap(), names.map(name).collect::<Vec<_>>())
    };
    let all = ["lisa@example.com", "olaf@example.com", "g1"].map(str::to_owned).to_vec();
    assert_eq!(search(json!({ "startIndex": 5, "count": 3 })), (8, all));
    assert_eq!(search(json!({ "startIndex": 8 })), (8, vec!["g2".to_owned()]));
    let only = json!({ "filter": "displayName sw \"g\" or userName eq \"b2@example.com\"", "count": 2 });
    assert_eq!(search(only), (3, vec!["b2@example.com".to_owned(), "g1".to_owned()]));

    for (query, kind, said) in [
        ("filter=userName", "invalidFilter", "byte 9"),
        ("filter=userName+xx+1", "invalidFilter", "one of eq"),
        ("filter=((((((((((((((((((a+pr", "invalidFilter", "deeper than"),
        ("startIndex=one", "invalidValue", "startIndex"),
        ("count=%00", "invalidValue", "count"),
        ("sortBy=title", "invalidValue", "sortBy"),
        ("attributes=%22", "invalidPath", "no attribute"),
    ] {
        refused(&okta.get(&format!("{USERS}?{query}")), 400, kind, said);
        refused(&okta.get(&format!("{GROUPS}?{query}")), 400, kind, said);
    }
}

#[test]
fn what_cannot_be_is_refused_in_scims_words() {
    let (_gate, _, okta) = start();
    let path = okta.user("bea");
    let user = |more: Value| {
        let mut body = json!({ "schemas": [USER], "userName": "new@example.com" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (answer, status, kind, said) in [
        (okta.post(USERS, &user(json!({ "userName": "bea@example.com" }))), 409, "uniqueness", "is there already"),
        (okta.post(USERS, &user(json!({ "userName": ANN }))), 409, "uniqueness", "is there already"),
        (okta.post(USERS, &user(json!({ "userName": "bea" }))), 400, "invalidValue", "is not an address"),
        (okta.post(USERS, &user(json!({ "userName": "" }))), 400, "invalidValue", "userName"),
        (okta.post(USERS, &user(json!({ "userName": null }))), 400, "invalidValue", "userName is missing"),
        (
            okta.post(USERS, &user(json!({ "userName": "b\u{0}@example.com" }))),
            400,
            "invalidValue",
            "control character",
        ),
        (okta.post(USERS, &user(json!({ "active": "perhaps" }))), 400, "invalidValue", "active"),
        (okta.post(USERS, &user(json!({ "schemas": [GROUP] }))), 400, "invalidSyntax", "schemas"),
        (okta.post(USERS, &user(json!({ "title": "x".repeat(70_000) }))), 400, "invalidValue", "65536"),
        (okta.post(USERS, &json!([])), 400, "invalidSyntax", "no JSON object"),
        (okta.put(&path, &json!({ "schemas": [USER] })), 400, "invalidValue", "userName is missing"),
        (okta.patch(&path, json!([{ "op": "remove", "path": "userName" }])), 400, "invalidValue", "userName"),
        (okta.patch(&path, json!([{ "op": "replace", "path": "id", "value": "x" }])), 400, "mutability", "id"),
        (okta.patch(&path, json!([{ "op": "remove" }])), 400, "noTarget", "path"),
        (okta.patch(&path, json!([])), 400, "invalidSyntax", "operations"),
        (okta.patch(&format!("{USERS}/nobody"), json!([{ "op": "remove", "path": "title" }])), 404, "", "nobody"),
        (okta.post(GROUPS, &json!({ "schemas": [GROUP] })), 400, "invalidValue", "displayName"),
        (okta.post(GROUPS, &json!({ "displayName": "\u{7}" })), 400, "invalidValue", "displayName"),
        (
            okta.post(GROUPS, &json!({ "displayName": "g", "members": [{ "value": "x" }] })),
            400,
            "invalidValue",
            "members",
        ),
        (okta.put(&format!("{GROUPS}/nobody"), &json!({ "displayName": "g" })), 404, "", "nobody"),
    ] {
        refused(&answer, status, kind, said);
    }
    let text = okta.0.raw(Method::POST, USERS, "text/plain", b"{}".to_vec());
    refused(&text, 415, "", "application/json");
    let broken = okta.0.raw(Method::POST, USERS, "application/json", b"{".to_vec());
    refused(&broken, 400, "invalidSyntax", "line 1");
    refused(&okta.get("/scim/v2/Me"), 404, "", "/scim/v2/Me");
    refused(&okta.delete(USERS), 405, "", "");
    refused(&okta.get(&format!("{USERS}/{}", "%00")), 404, "", "there is no user");
}

#[test]
fn a_version_that_is_not_the_last_is_refused() {
    let (_gate, _, okta) = start();
    let path = okta.user("bea");
    let tag = ok(&okta.get(&path))["meta"]["version"].as_str().unwrap().to_owned();
    let with = |tag: &str| Scim(okta.0.if_match(tag));
    let titled = |title: &str| json!([{ "op": "replace", "path": "title", "value": title }]);
    let first = with(&tag).patch(&path, titled("a"));
    assert_ne!(ok(&first)["meta"]["version"], tag);
    refused(&with(&tag).patch(&path, titled("b")), 412, "", "read it again");
    refused(&with(&tag).delete(&path), 412, "", "read it again");
    ok(&with("*").patch(&path, titled("c")));
    assert_eq!(ok(&okta.get(&path))["title"], "c");
    let body = json!({ "schemas": [USER], "userName": "bea@example.com" });
    refused(&with("W/\"1\"").put(&path, &body), 412, "", "read it again");
}

#[test]
fn what_the_caller_has_already_is_not_told_again() {
    let (gate, first, okta) = start();
    let paths =
        [okta.user("bea"), format!("{GROUPS}/{}", id(&ok(&okta.post(GROUPS, &json!({ "displayName": "g" })))))];
    let made =
        first.post("/api/v1/tokens", &json!({ "name": "t", "role": "auditor", "scopes": ["scim:read"] })).json();
    let token = made["token"].as_str().unwrap();
    let http = gate.listening.iter().find(|(name, _)| name == "http").unwrap().1;
    for path in paths {
        let tag = ok(&okta.get(&path))["meta"]["version"].as_str().unwrap().to_owned();
        for (tags, status) in [(tag.as_str(), "304"), ("W/\"1\"", "200")] {
            let mut stream = std::net::TcpStream::connect(http).unwrap();
            let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n");
            write!(stream, "{head}If-None-Match: {tags}\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{tags}: {answer}");
            assert!(answer.contains(&format!("etag: {tag}")), "{answer}");
        }
    }
}

#[test]
fn what_the_policy_file_keeps_is_seen_and_not_changed() {
    let (gate, _, okta) = start();
    let ann = okta.find(USERS, &format!("userName eq \"{ANN}\"")).remove(0);
    let path = format!("{USERS}/{}", id(&ann));
    refused(
        &okta.patch(&path, json!([{ "op": "replace", "path": "active", "value": false }])),
        409,
        "mutability",
        "policy.toml",
    );
    refused(&okta.delete(&path), 409, "mutability", "policy.toml");
    gate.imap(ANN, APP).ok("LOGOUT");
}

#[test]
fn a_token_reaches_as_far_as_its_role_scope_and_subtree() {
    let (gate, first) = gate_with("unit = \"/Listed\"\n");
    ok(&first.post("/api/v1/units", &json!({ "path": "/Sales" })));
    let whole = provider(&gate, &first, json!({ "role": "super" }));
    let sales = provider(&gate, &first, json!({ "role": "admin", "unit": "/Sales" }));
    let reader = provider(&gate, &first, json!({ "role": "auditor" }));
    let path = whole.user("bea");
    assert_eq!(ok(&first.get("/api/v1/users/bea@example.com"))["unit"], "/Listed", "scim.unit");
    let own = sales.user("cid");
    assert_eq!(ok(&first.get("/api/v1/users/cid@example.com"))["unit"], "/Sales", "the subtree's top");
    assert_eq!(ok(&sales.get(USERS))["totalResults"], 1);
    assert_eq!(sales.find(USERS, "userName sw \"b\"").len(), 0);
    assert_eq!(sales.find(USERS, "userName eq \"bea@example.com\"").len(), 0);
    let off = || json!([{ "op": "replace", "path": "active", "value": false }]);
    for answer in [sales.get(&path), sales.patch(&path, off()), sales.delete(&path)] {
        refused(&answer, 404, "", "there is no user");
    }
    ok(&sales.patch(&own, off()));
    assert_eq!(ok(&sales.post("/scim/v2/.search", &json!({})))["totalResults"], 1);
    for answer in [
        sales.get(GROUPS),
        sales.post(GROUPS, &json!({ "displayName": "g", "members": [{ "value": "x" }] })),
        sales.get(&format!("{GROUPS}/x")),
    ] {
        refused(&answer, 403, "", "whole organisation");
    }
    ok(&reader.get(&path));
    for answer in
        [reader.patch(&path, off()), reader.delete(&path), reader.post(USERS, &json!({ "userName": "x@y.z" }))]
    {
        refused(&answer, 403, "", "auditor");
    }
    assert_eq!(whole.get("/api/v1/users").problem(), "forbidden", "the scope is for SCIM alone");
    let made =
        first.post("/api/v1/tokens", &json!({ "name": "d", "role": "super", "scopes": ["directory"] })).json();
    let directory = Scim(Api::with(&gate, made["token"].as_str().unwrap()));
    refused(&directory.get(USERS), 403, "", "scim");
    refused(&Scim(Api::stranger(&gate)).get(USERS), 401, "", "Bearer");
    assert_eq!(Api::stranger(&gate).get(USERS).headers["www-authenticate"], "Bearer realm=\"portcullis\"");
}

#[test]
fn a_unit_is_named_by_the_provider_only_where_the_operator_lets_it() {
    let (gate, first) = gate_with("unit_attribute = \"department\"\n");
    ok(&first.post("/api/v1/units", &json!({ "path": "/Sales" })));
    ok(&first.post("/api/v1/units", &json!({ "path": "/Sales/Field" })));
    let entra = provider(&gate, &first, json!({ "role": "super" }));
    let sales = provider(&gate, &first, json!({ "role": "admin", "unit": "/Sales" }));
    let user = |name: &str, department: &str| json!({ "userName": format!("{name}@example.com"), ENTERPRISE: { "department": department } });
    let unit = |name: &str| ok(&first.get(&format!("/api/v1/users/{name}@example.com")))["unit"].clone();
    let bea = ok(&entra.post(USERS, &user("bea", "Sales")));
    assert_eq!((unit("bea"), &bea[ENTERPRISE]["department"]), (json!("/Sales"), &json!("Sales")));
    ok(&sales.post(USERS, &user("cid", "Field")));
    assert_eq!(unit("cid"), "/Sales/Field");
    ok(&entra.patch(
        &format!("{USERS}/{}", id(&bea)),
        json!([{ "op": "Replace", "path": format!("{ENTERPRISE}:department"), "value": "/Listed" }]),
    ));
    assert_eq!(unit("bea"), "/Listed");
    refused(&entra.post(USERS, &user("dan", "Nowhere")), 400, "invalidValue", "there is no unit \"/Nowhere\"");
    refused(&entra.post(USERS, &user("dan", "a//b")), 400, "invalidValue", "department");
    refused(&sales.post(USERS, &user("dan", "/Listed")), 404, "", "/Listed");
}

#[test]
fn the_service_tells_what_it_can_do() {
    let (gate, _, okta) = start();
    let config = ok(&okta.get("/scim/v2/ServiceProviderConfig"));
    assert_eq!((&config["patch"]["supported"], &config["bulk"]["supported"]), (&json!(true), &json!(false)));
    let types = ok(&okta.get("/scim/v2/ResourceTypes"));
    assert_eq!(types["totalResults"], 2);
    assert_eq!(ok(&okta.get("/scim/v2/ResourceTypes/User")), types["Resources"][0]);
    let schemas = ok(&okta.get("/scim/v2/Schemas"));
    for schema in schemas["Resources"].as_array().unwrap() {
        assert_eq!(ok(&okta.get(&format!("/scim/v2/Schemas/{}", id(schema)))), *schema);
    }
    assert!(schemas["Resources"][0]["attributes"].as_array().unwrap().iter().any(|a| a["name"] == "userName"));
    refused(&okta.get("/scim/v2/Schemas/urn:x"), 404, "", "urn:x");
    refused(&okta.get("/scim/v2/Schemas?filter=id+pr"), 403, "", "filter");
    let document = Api::stranger(&gate).get("/api/v1/openapi.json").json();
    assert!(document["paths"]["/scim/v2/Users/{id}"]["patch"].is_object());
}

const IMPORT: &str = "/api/v1/directory-import";

fn import(api: &Api, query: &str, list: &str) -> Answer {
    api.raw(Method::POST, &format!("{IMPORT}{query}"), "text/csv; charset=utf-8", list.as_bytes().to_vec())
}

#[test]
fn a_list_is_tried_refused_line_by_line_and_imported() {
    let (gate, first) = gate_with("");
    ok(&first.post("/api/v1/groups", &json!({ "name": "pilot" })));
    let wrong = "address,unit,groups\nbea@example.com,/Listed,pilot\ncid,/\ndan@example.com,/Nowhere\n\
                 ann@example.com,/Off\neva@example.com,/,nobodys\n";
    let dry = import(&first, "?dry_run=true", wrong);
    assert_eq!(
        (dry.status, dry.json()["done"].clone(), dry.json()["wrong_count"].clone()),
        (StatusCode::OK, json!(false), json!(4))
    );
    let refused = import(&first, "", wrong);
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.text);
    let report = refused.json();
    for (at, line, said) in [
        (0, 3, "is not an address"),
        (1, 4, "there is no unit \"/Nowhere\""),
        (2, 5, "policy.toml"),
        (3, 6, "there is no group \"nobodys\""),
    ] {
        assert_eq!(report["wrong"][at]["line"], line, "{report}");
        assert!(report["wrong"][at]["what"].as_str().unwrap().contains(said), "{report}");
    }
    assert!(!gate.admits("bea@example.com", APP), "nothing of it was imported");
    let good = "address,unit,groups\nbea@example.com,/Listed,pilot\ncid@example.com,/,\n";
    let done = ok(&import(&first, "?reason=new%20hires", good));
    assert_eq!(done, json!({ "done": true, "made": 2, "changed": 0, "same": 0, "wrong_count": 0, "wrong": [] }));
    gate.imap("bea@example.com", APP).ok("LOGOUT");
    let again = ok(&import(&first, "", good));
    assert_eq!((&again["done"], &again["same"]), (&json!(false), &json!(2)));
    // A suspension on the list ends what is open.
    let mut session = gate.imap("cid@example.com", APP);
    let began = Instant::now();
    ok(&import(&first, "", "address,suspended\ncid@example.com,yes\n"));
    session.bye();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let told = first.get("/api/v1/audit?event=directory.imported");
    assert!(told.text.contains("(new hires): 2 users made, 0 changed, 0 as before"), "{}", told.text);

    for (answer, word, said) in [
        (import(&first, "", ""), "bad-request", "line 1"),
        (import(&first, "", "name\nx\n"), "bad-request", "there is no column"),
        (import(&first, "?dryrun=true", good), "bad-request", "dryrun"),
        (
            first.raw(Method::POST, IMPORT, "text/csv", b"address\nb\xffb@c.d\n".to_vec()),
            "bad-request",
            "line 2 is not UTF-8",
        ),
        (first.raw(Method::POST, IMPORT, "application/json", b"{}".to_vec()), "media-type", "text/csv"),
        (first.raw(Method::POST, IMPORT, "text/csv", vec![b'a'; 16 * 1024 * 1024 + 1]), "too-large", "in parts"),
    ] {
        assert_eq!(answer.problem(), word, "{}", answer.text);
        assert!(answer.text.contains(said), "{}", answer.text);
    }
    // Larger than other bodies may be.
    let domain = format!("{}.example.com", "long".repeat(50));
    let long: String = (0..5_000).map(|n| format!("user{n}@{domain},/\n")).collect();
    assert!(long.len() > 1024 * 1024);
    let long = ok(&import(&first, "?dry_run=true", &format!("address,unit\n{long}")));
    assert_eq!(long["made"], 5_000);
}

#[test]
fn an_admin_of_a_subtree_imports_into_it_alone() {
    let (gate, first) = gate_with("");
    for path in ["/Sales", "/Sales/Field", "/Salesforce"] {
        ok(&first.post("/api/v1/units", &json!({ "path": path })));
    }
    ok(&first.post("/api/v1/groups", &json!({ "name": "pilot" })));
    ok(&first.post("/api/v1/users", &json!({ "address": "out@example.com", "set": { "unit": "/Salesforce" } })));
    let token = |role: Value| {
        let made = first.post("/api/v1/tokens", &role).json();
        Api::with(&gate, made["token"].as_str().unwrap())
    };
    let sales = token(json!({ "name": "s", "role": "admin", "unit": "/Sales" }));
    let list = "address,unit,suspended,groups\na@example.com,/Sales/Field,,\nb@example.com,/Salesforce,,\n\
                out@example.com,/Sales,,\nout@example.com,,yes,\nc@example.com,/Sales,,pilot\nd@example.com,/,,\n";
    let list = list.replacen("out@example.com,,yes", "OUT@example.com,,yes", 1);
    let report = import(&sales, "", &list);
    assert_eq!(report.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", report.text);
    let lines: Vec<_> =
        report.json()["wrong"].as_array().unwrap().iter().map(|wrong| wrong["line"].clone()).collect();
    assert_eq!(lines, [3, 4, 5, 6, 7], "{}", report.text);
    assert!(report.json()["wrong"][1]["what"].as_str().unwrap().contains("is not in /Sales"), "{}", report.text);
    assert_eq!(ok(&import(&sales, "", "address,unit\na@example.com,/Sales/Field\n"))["made"], 1);
    let auditor = token(json!({ "name": "a", "role": "auditor" }));
    assert_eq!(import(&auditor, "?dry_run=true", "address\n").problem(), "forbidden");
    let narrow = token(json!({ "name": "n", "role": "super", "scopes": ["scim"] }));
    assert_eq!(import(&narrow, "", "address\n").problem(), "forbidden");
}

#[test]
fn the_command_imports_over_the_api_too() {
    let (gate, first) = gate_with("");
    let made = first.post("/api/v1/tokens", &json!({ "name": "import", "role": "super", "scopes": ["directory"] }));
    std::fs::write(gate.dir().join("token"), made.json()["token"].as_str().unwrap()).unwrap();
    let http = gate.listening.iter().find(|(name, _)| name == "http").unwrap().1;
    let run = |list: &str, more: &[&str]| {
        std::fs::write(gate.dir().join("users.csv"), list).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.current_dir(gate.dir()).args(["directory", "import", "users.csv", "--token-file", "token"]);
        command.args(["--url", &format!("http://{http}")]).args(more).env_remove("PORTCULLIS_CONFIG");
        let run = command.output().unwrap();
        let said = [run.stdout, run.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (run.status.code().unwrap(), said)
    };
    let list = "address,unit\nbea@example.com,/\n";
    assert_eq!(
        run(list, &["--dry-run"]),
        (0, "1 users would be made, 0 would be changed, 0 as before\n".to_owned())
    );
    assert!(!gate.admits("bea@example.com", APP));
    assert_eq!(run(list, &[]), (0, "1 users made, 0 changed, 0 as before\n".to_owned()));
    gate.imap("bea@example.com", APP).ok("LOGOUT");
    let (code, said) = run("address,unit\ncid@example.com,/Nowhere\n", &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("users.csv:2: user \"cid@example.com\": there is no unit \"/Nowhere\""), "{said}");
    assert!(said.contains("1 lines of users.csv are wrong; nothing was changed"), "{said}");
    let (code, said) = run("name\n", &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("there is no column"), "{said}");
    std::fs::write(gate.dir().join("token"), "pct_wrong").unwrap();
    let (code, said) = run(list, &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("this API token is not good"), "{said}");
}

#[test]
fn changes_made_at_the_same_time_all_count() {
    let (_gate, _, okta) = start();
    let users: Vec<String> = (0..8).map(|n| okta.user(&format!("u{n}"))).collect();
    let group = format!("{GROUPS}/{}", id(&ok(&okta.post(GROUPS, &json!({ "displayName": "all" })))));
    std::thread::scope(|scope| {
        for (n, user) in users.iter().enumerate() {
            let (okta, group, first) = (&okta, &group, &users[0]);
            scope.spawn(move || {
                let value = json!([{ "value": user.rsplit('/').next().unwrap() }]);
                ok(&okta.patch(group, json!([{ "op": "add", "path": "members", "value": value }])));
                let email = json!([{ "type": format!("t{n}"), "value": "x@example.com" }]);
                ok(&okta.patch(first, json!([{ "op": "add", "path": "emails", "value": email }])));
            });
        }
    });
    assert_eq!(ok(&okta.get(&group))["members"].as_array().unwrap().len(), 8);
    assert_eq!(ok(&okta.get(&users[0]))["emails"].as_array().unwrap().len(), 8);
}
