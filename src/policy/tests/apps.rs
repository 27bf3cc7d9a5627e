//! Apps by prefix: an entry with a last `*` admits what begins so, and nothing else.

use proptest::prelude::*;

use super::{NOW, app, directory, question, user};
use crate::model::{ClientId, Place, Service};
use crate::policy::{Question, Refusal, explain};

const TEXT: &str = r#"
[unit."/"]
imap = ["vendor.mail.*", "exact-app"]
pop  = "any"
[unit."/Sales"]
[user."ann@example.com"]
unit = "/"
[user."sam@example.com"]
unit = "/Sales"
[app."vendor.mail.*"]
name  = "Vendor Mail"
trust = "limited"
units = ["/Sales"]
[app."vendor.mail.beta.*"]
name  = "Vendor Beta"
trust = "blocked"
[app."vendor.mail.beta.7"]
name  = "Beta 7"
"#;

fn ask(name: &str, id: &str) -> Result<(), Refusal> {
    explain(&question(name, id, Service::Imap), &directory(TEXT), NOW).verdict
}

#[test]
fn an_entry_with_a_star_admits_what_begins_so_and_the_catalogue_speaks_by_the_longest_entry() {
    for (name, id, expected) in [
        ("sam", "vendor.mail.1234", "yes"),
        ("sam", "vendor.mail.", "yes"),
        ("sam", "vendor.mail", "policy_app"),
        ("sam", "Vendor.mail.1234", "policy_app"),
        ("sam", "evil.vendor.mail.1234", "policy_app"),
        ("ann", "vendor.mail.1234", "policy_app_limited"),
        ("sam", "vendor.mail.beta.1", "policy_app_blocked"),
        // An entry of its own speaks before any with a star.
        ("ann", "vendor.mail.beta.7", "yes"),
        ("ann", "exact-app", "yes"),
        ("ann", "exact-app2", "policy_app"),
    ] {
        let verdict = ask(name, id);
        let word = verdict.as_ref().err().map_or("yes", Refusal::reason);
        assert_eq!(word, expected, "{name} {id}: {verdict:?}");
    }
}

#[test]
fn an_explanation_names_the_entry_that_matched() {
    let told = explain(&question("sam", "vendor.mail.1234", Service::Imap), &directory(TEXT), NOW).to_string();
    assert!(
        told.contains("app \"Vendor Mail\" (vendor.mail.1234) is on the list by its entry vendor.mail.*"),
        "{told}"
    );
    let told = explain(&question("ann", "exact-app", Service::Imap), &directory(TEXT), NOW).to_string();
    assert!(told.contains("app exact-app is on the list\n"), "{told}");
    let Err(refusal) = ask("sam", "vendor.mail.beta.1") else { panic!("let in") };
    assert_eq!(refusal.place(), Some(&Place::App(app("vendor.mail.beta.*"))));
}

#[test]
fn a_service_account_is_delegated_by_an_entry_with_a_star_too() {
    let text = TEXT.replace("units = [\"/Sales\"]", "units = [\"/Sales\"]\ndelegation = [\"/Sales\"]");
    for (name, expected) in [("sam", true), ("ann", false)] {
        let question = Question { service_account: true, ..question(name, "vendor.mail.1", Service::Imap) };
        assert_eq!(explain(&question, &directory(&text), NOW).verdict.is_ok(), expected, "{name}");
    }
}

#[test]
fn an_entry_of_the_catalogue_that_goes_speaks_no_more() {
    let mut directory = directory(TEXT);
    directory.put_app(&app("vendor.mail.beta.*"), None);
    let verdict = explain(&question("sam", "vendor.mail.beta.1", Service::Imap), &directory, NOW).verdict;
    assert_eq!(verdict, Ok(()));
    assert_eq!(directory.app_name(&app("vendor.mail.beta.1")).as_deref(), Some("Vendor Mail"));
    assert!(directory.knows(&user("sam")));
}

#[test]
fn a_star_in_the_wrong_place_is_told_with_its_line() {
    for (wrong, said) in [
        ("imap = [\"vend*\"]", "needs at least 8 characters before its *"),
        ("imap = \"vendor.mail.*x, other\"", "has a * before its end"),
    ] {
        let text = format!("[unit.\"/\"]\n{wrong}\n");
        let error = crate::policy::file::parse(&text).unwrap_err().to_string();
        assert!(error.contains("policy.toml:2:") && error.contains(said), "{error}");
    }
    let error = crate::policy::file::parse("[app.\"*\"]\n").unwrap_err().to_string();
    assert!(error.contains("policy.toml:1:6") && error.contains("8 characters"), "{error}");
}

proptest! {
    #[test]
    fn a_star_never_matches_more_than_its_beginning(
        prefix in "[a-c.]{8,12}",
        id in "[a-c.*]{1,16}",
        longer in "[a-c.*]{0,6}",
    ) {
        let text = format!("[unit.\"/\"]\nimap = [\"{prefix}*\"]\n[user.\"ann@example.com\"]\nunit = \"/\"\n");
        let directory = directory(&text);
        for id in [id, format!("{prefix}{longer}")] {
            let Ok(client) = ClientId::parse(&id) else { continue };
            let asked = Question { app: client, ..question("ann", "x", Service::Imap) };
            prop_assert_eq!(explain(&asked, &directory, NOW).verdict.is_ok(), id.starts_with(&prefix), "{} {}*", id, prefix);
        }
    }

    #[test]
    fn an_entry_without_a_star_matches_itself_alone(entry in "[a-c.]{8,10}", id in "[a-c.]{8,12}") {
        let text = format!("[unit.\"/\"]\nimap = [\"{entry}\"]\n[user.\"ann@example.com\"]\nunit = \"/\"\n");
        let asked = question("ann", &id, Service::Imap);
        prop_assert_eq!(explain(&asked, &directory(&text), NOW).verdict.is_ok(), id == entry);
    }
}
