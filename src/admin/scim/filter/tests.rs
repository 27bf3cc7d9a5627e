#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::admin::scim::matches::fits;

/// A filter in brackets, so that its tree shows.
fn told(filter: &Filter) -> String {
    match filter {
        Filter::And(one, other) => format!("({} and {})", told(one), told(other)),
        Filter::Or(one, other) => format!("({} or {})", told(one), told(other)),
        Filter::Not(inner) => format!("not ({})", told(inner)),
        Filter::Present(path) => format!("{} pr", path.steps().join(".")),
        Filter::Is(path, operator, value) => format!("{} {operator:?} {value}", path.steps().join(".")),
        Filter::Has(path, inner) => format!("{}[{}]", path.steps().join("."), told(inner)),
    }
}

#[test]
fn filters_are_read_as_the_rfc_binds_them() {
    for (text, tree) in [
        ("userName eq \"bjensen\"", "userName Equal \"bjensen\""),
        ("USERNAME Eq \"a b\"", "USERNAME Equal \"a b\""),
        ("title pr and userType eq \"Employee\"", "(title pr and userType Equal \"Employee\")"),
        ("a pr or b pr and c pr", "(a pr or (b pr and c pr))"),
        ("(a pr or b pr) and c pr", "((a pr or b pr) and c pr)"),
        ("not (a pr) and b pr", "(not (a pr) and b pr)"),
        ("a pr and not(b eq null)", "(a pr and not (b Equal null))"),
        (
            "userType eq \"Employee\" and (emails co \"example.com\" or emails.value co \"example.org\")",
            "(userType Equal \"Employee\" and (emails Contains \"example.com\" or emails.value Contains \"example.org\"))",
        ),
        ("meta.lastModified gt \"2011-05-13T04:42:34Z\"", "meta.lastModified Greater \"2011-05-13T04:42:34Z\""),
        (
            "emails[type eq \"work\" and value co \"@example.com\"] or ims[type eq \"xmpp\"]",
            "(emails[(type Equal \"work\" and value Contains \"@example.com\")] or ims[type Equal \"xmpp\"])",
        ),
        (
            "emails[type eq \"work\"].value eq \"ann@example.com\"",
            "emails[(type Equal \"work\" and value Equal \"ann@example.com\")]",
        ),
        ("active eq True", "active Equal true"),
        ("x ge -1.5e3", "x GreaterOrEqual -1500.0"),
        ("displayName eq \"say \\\"hi\\\" \\\\\"", "displayName Equal \"say \\\"hi\\\" \\\\\""),
        ("urn:ietf:params:scim:schemas:core:2.0:User:userName sw \"J\"", "userName StartsWith \"J\""),
        ("  notes   eq   \"x\"  ", "notes Equal \"x\""),
    ] {
        assert_eq!(told(&Filter::parse(text).unwrap()), tree, "{text}");
    }
}

#[test]
fn what_is_no_filter_is_told_with_its_place() {
    let deep = format!("{}a pr{}", "(".repeat(17), ")".repeat(17));
    let long = vec!["a pr"; 201].join(" or ");
    for (text, said) in [
        ("", "byte 1: the name of an attribute"),
        ("userName", "byte 9: one of eq"),
        ("userName is \"x\"", "byte 10: one of eq"),
        ("userName eq", "byte 12: a value"),
        ("userName eq x", "byte 13: a value"),
        ("userName eq \"x", "byte 13: a value"),
        ("userName eq [1]", "byte 13: a value"),
        ("userName eq \"x\" \"y\"", "byte 17: \"and\""),
        ("userName eq \"x\" and", "byte 20: the name"),
        ("(userName pr", "byte 13: \")\""),
        ("userName pr)", "byte 12: \"and\""),
        ("emails[type eq \"work\"", "byte 22: \"]\""),
        ("emails[a[b pr]]", "without further [ ]"),
        ("active gt true", "byte 11: a text"),
        ("active co 5", "byte 11: a text"),
        (&deep, "deeper than 16"),
        (&long, "more than 200 terms"),
        (&"a".repeat(9000), "more than 8192 bytes"),
    ] {
        let error = Filter::parse(text).unwrap_err();
        assert_eq!(error.word(), "invalidFilter", "{text}");
        assert!(format!("{error:?}").replace("\\\"", "\"").contains(said), "{text}: {error:?}");
    }
    let deepest = format!("{}a pr{}", "(".repeat(16), ")".repeat(16));
    assert!(Filter::parse(&deepest).is_ok());
}

#[test]
fn the_values_that_a_filter_needs_are_found_only_where_it_does_need_one() {
    let wanted = |text: &str| {
        let filter = Filter::parse(text).unwrap();
        let found = filter.wants(&|path| path.is(&["userName"]));
        found.map(|values| values.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let list = |values: &[&str]| Some(values.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(wanted("userName eq \"a\""), list(&["a"]));
    assert_eq!(wanted("active eq true and username eq \"a\""), list(&["a"]));
    assert_eq!(wanted("userName eq \"a\" or userName eq \"b\""), list(&["a", "b"]));
    for text in
        ["userName eq \"a\" or active eq true", "not (userName eq \"a\")", "userName ne \"a\"", "userName pr"]
    {
        assert_eq!(wanted(text), None, "{text}");
    }
}

fn tree() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["userName", "emails.value", "name.familyName", "active", "meta.created"]);
    let term = (name, prop::sample::select(vec!["eq", "ne", "co", "sw", "ew", "gt", "le"]), "[ -~é]{0,8}")
        .prop_map(|(name, operator, text)| format!("{name} {operator} {}", json!(text)));
    let leaf = prop_oneof![term, Just("title pr".to_owned()), Just("emails[type eq \"work\"]".to_owned())];
    leaf.prop_recursive(6, 40, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one}) and ({other})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one}) or ({other})")),
            inner.prop_map(|one| format!("not ({one})")),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-c\\[\\]()\" .:eqprnotd1é\\\\]{0,60}") {
        let _ = Filter::parse(&text);
    }

    #[test]
    fn well_formed_filters_are_read_and_mean_what_they_say(text in tree()) {
        let filter = Filter::parse(&text).unwrap();
        let ann = json!({
            "userName": "ann@example.com", "active": true, "name": { "familyName": "Lee" },
            "emails": [{ "type": "work", "value": "ann@example.com" }], "meta": { "created": "2026-01-01T00:00:00Z" },
        });
        // De Morgan, by another text of the same filter.
        let twice = Filter::parse(&format!("not (not ({text}))"));
        if let Ok(twice) = twice {
            prop_assert_eq!(fits(&filter, &ann), fits(&twice, &ann));
        }
        let either = Filter::Or(Box::new(filter.clone()), Box::new(Filter::Not(Box::new(filter))));
        prop_assert!(fits(&either, &ann));
    }
}

#[test]
fn members_that_a_filter_names_by_id_alone_need_no_others() {
    for (text, ids) in [
        ("id eq \"g\" and members eq \"a\"", Some(&["a"][..])),
        ("members eq \"a\" or not (MEMBERS.value ne \"b\")", Some(&["a", "b"])),
        ("displayName pr", Some(&[])),
        ("id eq \"g\" and members pr", None),
        ("members.display eq \"a\"", None),
        ("members eq \"a\" and members co \"b\"", None),
        ("members[value eq \"a\"]", None),
    ] {
        assert_eq!(Filter::parse(text).unwrap().compared("members").as_deref(), ids, "{text}");
    }
}
