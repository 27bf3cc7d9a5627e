//! What a yes allows, and what a session was given when it began: reading alone, and where the mailbox is.

use super::{NOW, directory, question, user};
use crate::model::{MailHome, Place, Service, UserId};
use crate::policy::{Directory, Given, Refusal, Rights, decide, decide_again, explain};
use crate::token::{Fingerprint, Identity, Rules, from_introspection};
use Service::Imap;

const ARCHIVE: &str = "\
    [unit.\"/\"]\nimap = \"any\"\n\
    [unit.\"/Archive\"]\nread_only = true\n[unit.\"/Archive/2025\"]\n[unit.\"/Archive/Open\"]\nread_only = false\n\
    [user.\"ann@example.com\"]\nunit = \"/\"\n[user.\"old@example.com\"]\nunit = \"/Archive/2025\"\n\
    [user.\"new@example.com\"]\nunit = \"/Archive/Open\"\n\
    [mailbox.\"team@example.com\"]\nmembers = [\"ann@example.com\", \"old@example.com\"]\nreaders = [\"new@example.com\"]\n\
    [mailbox.\"past@example.com\"]\nunit = \"/Archive\"\nmembers = [\"ann@example.com\"]\n\
    [app.\"viewer.example.*\"]\nname = \"Viewer\"\nread_only = true\n[app.\"viewer.example.pro\"]\n";

fn identity(name: &str, id: &str) -> Identity {
    let json = format!(
        "{{\"active\":true,\"aud\":\"gate\",\"exp\":2000000,\"iat\":1000000,\"email\":\"{name}@example.com\",\"client_id\":\"{id}\"}}"
    );
    let rules = Rules::new("https://id.example.com", ["gate"]);
    from_introspection(json.as_bytes(), &rules, Fingerprint::of("token"), NOW).unwrap()
}

/// What somebody may do in a mailbox with an app, and what allows no more.
fn may(directory: &Directory, name: &str, owner: &UserId, id: &str) -> (Rights, Option<Place>) {
    let permit = decide(&identity(name, id), owner, Imap, directory, NOW).unwrap();
    (permit.rights(), permit.read_only_at().cloned())
}

#[test]
fn an_app_a_unit_and_a_member_list_may_allow_reading_alone_and_the_explanation_names_the_place() {
    let directory = directory(ARCHIVE);
    for (name, owner, id, at) in [
        ("ann", "ann", "x", None),
        ("ann", "team", "x", None),
        ("old", "old", "x", Some("unit \"/Archive\"")),
        ("old", "team", "x", Some("unit \"/Archive\"")),
        ("new", "new", "x", None),
        ("new", "team", "x", Some("mailbox \"team@example.com\"")),
        ("ann", "past", "x", Some("unit \"/Archive\"")),
        ("ann", "ann", "viewer.example.lite", Some("app \"viewer.example.*\"")),
        ("ann", "ann", "viewer.example.pro", None),
        ("old", "old", "viewer.example.lite", Some("app \"viewer.example.*\"")),
    ] {
        let (rights, place) = may(&directory, name, &user(owner), id);
        let case = format!("{name} in {owner} with {id}");
        assert_eq!(place.as_ref().map(ToString::to_string).as_deref(), at, "{case}");
        assert_eq!(rights, if at.is_some() { Rights::Read } else { Rights::Write }, "{case}");
        let asked = crate::policy::Question { owner: user(owner), ..question(name, id, Imap) };
        let told = explain(&asked, &directory, NOW);
        assert_eq!(told.verdict, Ok(()), "{case}");
        let step = told.steps.iter().find(|step| step.check == "rights");
        let of_list = at.is_some_and(|at| at.starts_with("mailbox"));
        assert_eq!(step.and_then(|step| step.place.clone()), place.filter(|_| !of_list), "{case}: {told}");
    }
    let told = explain(&question("old", "x", Imap), &directory, NOW).to_string();
    let said = "unit /Archive is read-only, from which unit /Archive/2025 inherits: old@example.com is in it";
    assert!(told.contains(said), "{told}");
    let told = explain(&question("ann", "viewer.example.lite", Imap), &directory, NOW).to_string();
    assert!(told.contains("app \"Viewer\" (viewer.example.lite) may only read"), "{told}");
}

#[test]
fn who_may_only_read_by_now_or_whose_mailbox_has_moved_has_to_come_in_again() {
    let given = |rights, home: &str| Given { rights, home: MailHome::parse(home).unwrap() };
    let with = |more: &str| {
        directory(&format!("[unit.\"/\"]\nimap = \"any\"\n{more}\n[user.\"ann@example.com\"]\nunit = \"/\"\n"))
    };
    let who = identity("ann", "x");
    let again = |given: &Given, directory: &Directory| {
        let verdict = decide_again(&who, &user("ann"), Imap, given, directory, NOW);
        verdict.map(drop).map_err(|refusal| format!("{} {}", refusal.reason(), refusal.place().unwrap()))
    };
    let (write, read) = (given(Rights::Write, "maildir"), given(Rights::Read, "maildir"));
    let lowered = with("read_only = true");
    assert_eq!(again(&write, &lowered), Err("rights_lowered unit \"/\"".to_owned()));
    assert_eq!(
        (again(&read, &lowered), again(&read, &with(""))),
        (Ok(()), Ok(())),
        "more than was given harms nobody"
    );

    let moved = with("mail = \"dovecot\"");
    assert_eq!(again(&write, &moved), Err("home_moved unit \"/\"".to_owned()));
    assert_eq!(again(&given(Rights::Write, "dovecot"), &moved), Ok(()));
    assert_eq!(again(&given(Rights::Write, "dovecot/mail1"), &moved), Err("home_moved unit \"/\"".to_owned()));
    assert_eq!(again(&given(Rights::Write, "dovecot"), &with("")), Err("home_moved built-in default".to_owned()));
    assert_eq!(again(&write, &with("mail = \"maildir\"")), Ok(()), "said or by default, it is the same place");
    let mut elsewhere = with("");
    elsewhere.set_default_home(MailHome::parse("dovecot").unwrap());
    assert_eq!(again(&given(Rights::Write, "dovecot"), &elsewhere), Ok(()));
    let refusal = decide_again(&who, &user("ann"), Imap, &write, &moved, NOW).unwrap_err();
    assert!(matches!(&refusal, Refusal::HomeMoved { mailbox, .. } if *mailbox == user("ann")));
    assert_eq!(
        refusal.to_string(),
        "the mailbox ann@example.com has moved from maildir to dovecot (set at unit \"/\")"
    );
}

#[test]
fn an_explanation_tells_where_the_mail_is_unless_it_is_where_all_mail_is() {
    let text = "[unit.\"/\"]\nimap = \"any\"\n[unit.\"/Sales\"]\nmail = \"dovecot\"\n[user.\"ann@example.com\"]\nunit = \"/\"\n\
        [user.\"sal@example.com\"]\nunit = \"/Sales\"\n[user.\"pin@example.com\"]\nunit = \"/Sales\"\nmail = \"dovecot/mail2\"\n\
        [user.\"own@example.com\"]\nunit = \"/Sales\"\nmail = \"maildir\"\n";
    let mut directory = directory(text);
    let mail = |directory: &Directory, name: &str| {
        let told = explain(&question(name, "x", Imap), directory, NOW);
        let step = told.steps.into_iter().find(|step| step.check == "mail")?;
        Some(format!("{} @ {}", step.finding, step.place.map(|place| place.to_string()).unwrap_or_default()))
    };
    for (name, said) in [
        ("ann", None),
        ("sal", Some("the mail of sal@example.com is behind upstream dovecot @ unit \"/Sales\"")),
        (
            "pin",
            Some("the mail of pin@example.com is behind upstream dovecot, on mail2 @ user \"pin@example.com\""),
        ),
        ("own", Some("the mail of own@example.com is in the embedded store @ user \"own@example.com\"")),
    ] {
        assert_eq!(mail(&directory, name).as_deref(), said, "{name}");
    }
    directory.set_default_home(MailHome::parse("cyrus").unwrap());
    assert_eq!(mail(&directory, "ann").as_deref(), Some("the mail of ann@example.com is behind upstream cyrus @ "));
}
