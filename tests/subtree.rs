//! What an admin of a subtree may not do, though it seems to be within the subtree; and that what is theirs is found however
//! much of it is other people's.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;

use reqwest::Method;
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

fn import(api: &Api, list: &str) -> Answer {
    api.raw(Method::POST, "/api/v1/directory-import", "text/csv", list.as_bytes().to_vec())
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
