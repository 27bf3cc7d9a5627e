#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::admin::scim::{
    document,
    schema::{ENTERPRISE, USER, USER_ATTRIBUTES},
};

fn patched(before: Value, operations: Value) -> Result<Value, ScimError> {
    let Value::Object(mut said) = before else { unreachable!() };
    let mut budget = Budget::default();
    for operation in read(&json!({ "Operations": operations }))? {
        apply(&mut said, operation, USER_ATTRIBUTES, &mut budget)?;
    }
    Ok(document::read(said.into(), USER, USER_ATTRIBUTES)?.into())
}

fn ann() -> Value {
    json!({
        "userName": "ann@example.com", "name": { "givenName": "Ann", "familyName": "Lee" }, "active": true,
        "emails": [{ "type": "work", "value": "ann@example.com", "primary": true }],
    })
}

/// `ann` with some attributes other than they were; null takes one away.
fn ann_with(other: Value) -> Value {
    let (Value::Object(mut ann), Value::Object(other)) = (ann(), other) else { unreachable!() };
    for (key, value) in other {
        ann.insert(key, value);
    }
    ann.retain(|_, value| !value.is_null());
    ann.into()
}

#[test]
fn what_providers_send_does_what_they_mean() {
    let manager = format!("{ENTERPRISE}:manager");
    let department = format!("{ENTERPRISE}:department");
    for (who, operation, after) in [
        (
            "Entra disables",
            json!({ "op": "Replace", "path": "active", "value": "False" }),
            json!({ "active": false }),
        ),
        ("Okta disables", json!({ "op": "replace", "value": { "active": false } }), json!({ "active": false })),
        (
            "Entra, an e-mail address that is there",
            json!({ "op": "Replace", "path": "emails[type eq \"work\"].value", "value": "lee@example.com" }),
            json!({ "emails": [{ "type": "work", "value": "lee@example.com", "primary": true }] }),
        ),
        (
            "Entra, one that is not",
            json!({ "op": "Add", "path": "phoneNumbers[type eq \"mobile\"].value", "value": "+1 555" }),
            json!({ "phoneNumbers": [{ "type": "mobile", "value": "+1 555" }] }),
        ),
        (
            "Entra, a role",
            json!({ "op": "Add", "path": "roles[primary eq \"True\"].value", "value": "reader" }),
            json!({ "roles": [{ "primary": true, "value": "reader" }] }),
        ),
        (
            "Entra, parts of a name",
            json!({ "op": "Replace", "value": { "name.givenName": "Anna", "displayName": "Anna Lee" } }),
            json!({ "name": { "givenName": "Anna", "familyName": "Lee" }, "displayName": "Anna Lee" }),
        ),
        (
            "Entra, an extension by its whole name",
            json!({ "op": "Add", "path": department, "value": "Sales" }),
            json!({ ENTERPRISE: { "department": "Sales" } }),
        ),
        (
            "Entra, a manager by the bare id",
            json!({ "op": "Add", "path": manager, "value": "42" }),
            json!({ ENTERPRISE: { "manager": { "value": "42" } } }),
        ),
        (
            "an extension as a whole",
            json!({ "op": "replace", "path": ENTERPRISE, "value": { "department": "Sales" } }),
            json!({ ENTERPRISE: { "department": "Sales" } }),
        ),
        (
            "the schema of users, written out",
            json!({ "op": "replace", "path": "urn:ietf:params:scim:schemas:core:2.0:User:title", "value": "Chief" }),
            json!({ "title": "Chief" }),
        ),
        (
            "RFC 7644, add to a list",
            json!({ "op": "add", "path": "emails", "value": [{ "type": "home", "value": "a@home.example" }] }),
            json!({ "emails": [
                { "type": "work", "value": "ann@example.com", "primary": true },
                { "type": "home", "value": "a@home.example" },
            ] }),
        ),
        (
            "the new primary one takes it from the old",
            json!({ "op": "add", "path": "emails", "value": { "value": "b", "primary": true } }),
            json!({ "emails": [
                { "type": "work", "value": "ann@example.com", "primary": false }, { "value": "b", "primary": true },
            ] }),
        ),
        (
            "what is there already is not added",
            json!({ "op": "add", "path": "emails", "value": [{ "type": "work", "value": "ann@example.com", "primary": true }] }),
            json!({}),
        ),
        (
            "RFC 7644, replace a list",
            json!({ "op": "replace", "path": "emails", "value": [{ "value": "c" }] }),
            json!({ "emails": [{ "value": "c" }] }),
        ),
        (
            "replace an element",
            json!({ "op": "replace", "path": "emails[type eq \"work\"]", "value": { "value": "d" } }),
            json!({ "emails": [{ "value": "d" }] }),
        ),
        (
            "remove an element",
            json!({ "op": "remove", "path": "emails[value ew \"example.com\"]" }),
            json!({ "emails": null }),
        ),
        (
            "remove a part of one",
            json!({ "op": "remove", "path": "emails[type eq \"work\"].primary" }),
            json!({ "emails": [{ "type": "work", "value": "ann@example.com" }] }),
        ),
        (
            "remove by value",
            json!({ "op": "Remove", "path": "emails", "value": [{ "value": "ann@example.com" }] }),
            json!({ "emails": null }),
        ),
        (
            "remove a part",
            json!({ "op": "remove", "path": "name.givenName" }),
            json!({ "name": { "familyName": "Lee" } }),
        ),
        ("remove what is not there", json!({ "op": "remove", "path": "ims[type eq \"x\"]" }), json!({})),
        ("null takes away", json!({ "op": "replace", "path": "name", "value": null }), json!({ "name": null })),
        (
            "ours in an object is passed over",
            json!({ "op": "replace", "value": { "id": "x", "schemas": [] } }),
            json!({}),
        ),
        (
            "an attribute nobody here knows",
            json!({ "op": "add", "path": "urn:example:own:1.0:User:badge", "value": 7 }),
            json!({ "urn:example:own:1.0:User": { "badge": 7 } }),
        ),
        (
            "an extension nobody here knows, as a whole",
            json!({ "op": "add", "value": { "urn:example:own:2.0:User": { "badge": 7 } } }),
            json!({ "urn:example:own:2.0:User": { "badge": 7 } }),
        ),
        (
            "a part of an extension, with parts of its own",
            json!({ "op": "add", "value": { &manager: { "value": "42" } } }),
            json!({ ENTERPRISE: { "manager": { "value": "42" } } }),
        ),
    ] {
        assert_eq!(patched(ann(), json!([operation])).unwrap(), ann_with(after), "{who}: {operation}");
    }
}

#[test]
fn operations_are_carried_out_in_their_order() {
    let operations = json!([
        { "op": "add", "path": "emails", "value": [{ "type": "home", "value": "h" }] },
        { "op": "replace", "path": "emails[type eq \"home\"].value", "value": "i" },
        { "op": "remove", "path": "emails[type eq \"work\"]" },
    ]);
    let after = patched(ann(), operations).unwrap();
    assert_eq!(after.get("emails"), Some(&json!([{ "type": "home", "value": "i" }])));
}

#[test]
fn what_cannot_be_patched_is_refused_in_the_words_of_the_rfc() {
    let many = vec![json!({ "op": "remove", "path": "title" }); 1_001];
    let keys: Value = (0..1_001).map(|n| (format!("a{n}"), json!(n))).collect();
    for (operations, word) in [
        (json!([]), "invalidSyntax"),
        (json!(many), "invalidSyntax"),
        (json!([{ "op": "move", "path": "title" }]), "invalidSyntax"),
        (json!([{ "path": "title", "value": 1 }]), "invalidSyntax"),
        (json!(["x"]), "invalidSyntax"),
        (json!([{ "op": "remove" }]), "noTarget"),
        (json!([{ "op": "add", "value": "x" }]), "invalidValue"),
        (json!([{ "op": "add", "path": "title" }]), "invalidValue"),
        (json!([{ "op": "add", "path": 7, "value": 1 }]), "invalidPath"),
        (json!([{ "op": "add", "path": "a b", "value": 1 }]), "invalidPath"),
        (json!([{ "op": "add", "path": "emails[type eq]", "value": 1 }]), "invalidPath"),
        (json!([{ "op": "add", "path": "emails[type eq \"x\"]value", "value": 1 }]), "invalidPath"),
        (json!([{ "op": "add", "path": "emails[type eq \"x\"].a.b", "value": 1 }]), "invalidPath"),
        (json!([{ "op": "replace", "path": "userName[a pr]", "value": 1 }]), "invalidPath"),
        (json!([{ "op": "replace", "path": "emails[type eq \"home\"].value", "value": "x" }]), "noTarget"),
        (json!([{ "op": "replace", "path": "id", "value": "x" }]), "mutability"),
        (json!([{ "op": "replace", "path": "meta.created", "value": "x" }]), "mutability"),
        (json!([{ "op": "replace", "path": "active", "value": "perhaps" }]), "invalidValue"),
        (json!([{ "op": "add", "path": "emails", "value": ["x", 7] }]), "invalidValue"),
        // Much work for few bytes.
        (json!([{ "op": "add", "path": "ims", "value": vec!["x"; 401] }]), "invalidValue"),
        (json!([{ "op": "add", "value": keys }]), "invalidSyntax"),
        (json!([{ "op": "add", "path": "title", "value": "x".repeat(300_000) }]), "invalidValue"),
        (
            json!([
                { "op": "replace", "path": "ims", "value": vec![json!({ "value": "x" }); 100] },
                { "op": "replace", "path": "ims.display", "value": "x".repeat(3_000) },
            ]),
            "invalidValue",
        ),
        (
            json!([
                { "op": "replace", "path": "ims", "value": vec![json!({ "value": "x" }); 100] },
                { "op": "replace", "path": "ims[value pr].display", "value": "x".repeat(3_000) },
            ]),
            "invalidValue",
        ),
    ] {
        assert_eq!(patched(ann(), operations.clone()).unwrap_err().word(), word, "{operations}");
    }
    assert_eq!(read(&json!({})).unwrap_err().word(), "invalidSyntax");
    assert_eq!(read(&json!([1])).unwrap_err().word(), "invalidSyntax");
}

/// Each operation does little; together, or list within list, they would take hundreds of megabytes, or minutes.
#[test]
fn little_text_that_asks_for_much_work_is_refused_soon() {
    let inner = vec![json!({ "c": 1 }); 290];
    let lists = json!([
        { "op": "add", "path": "urn:x:User", "value": vec![json!({ "b": inner }); 290] },
        { "op": "add", "path": "urn:x:User:b.c", "value": "x".repeat(900) },
    ]);
    let list = vec![json!({ "value": "x".repeat(1_000), "type": "work" }); 400];
    let mut filters = vec![json!({ "op": "add", "path": "ims", "value": list })];
    let filter = vec!["value co \"y\""; 199].join(" or ");
    filters.extend(vec![json!({ "op": "remove", "path": format!("ims[{filter}].display") }); 200]);
    let object: Value = (0..20_000).map(|n| (format!("a{n}"), json!(n))).collect();
    let merges = vec![json!({ "op": "add", "path": "own", "value": object }); 4];
    let adds = vec![json!({ "op": "replace", "path": "own", "value": vec![json!({ "a": 1 }); 100] }); 900];
    for (what, operations) in
        [("lists", lists), ("filters", json!(filters)), ("merges", json!(merges)), ("values", json!(adds))]
    {
        let began = std::time::Instant::now();
        let error = patched(ann(), operations).unwrap_err();
        assert!(format!("{error:?}").contains("too much work together"), "{what}: {error:?}");
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{what}: {:?}", began.elapsed());
    }
}

proptest! {
    #[test]
    fn any_operation_is_carried_out_or_refused(
        op in prop::sample::select(vec!["add", "Remove", "replace", "x"]),
        path in "[a-c.:\\[\\]\" ]{0,12}|emails(\\[type eq \"(work|home)\"\\])?(\\.value|\\.primary)?|name(\\.givenName)?",
        value in prop::sample::select(vec![
            json!(null), json!("x"), json!(true), json!([]), json!([{ "value": "x" }, "y"]), json!({ "value": { "a": [1] } }),
        ]),
    ) {
        let operation = json!({ "op": op, "path": path, "value": value });
        if let Ok(after) = patched(ann(), json!([operation])) {
            prop_assert!(after.get("userName").is_some());
        }
    }
}
