#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]
use super::*;
use crate::model::UnixTime;
use crate::policy::{Access, Ceiling, LimitSettings, QuotaSettings, Setting, Trust};

const EXAMPLE: &str = include_str!("../../../config/policy.toml");

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn unit(path: &str) -> UnitPath {
    UnitPath::parse(path).unwrap()
}

fn apps(list: &[&str]) -> Setting {
    Access::Only(list.iter().map(|id| ClientId::parse(id).unwrap()).collect()).into()
}

#[test]
fn the_example_that_operators_copy_is_right_and_shows_every_key() {
    let document = parse(EXAMPLE).unwrap();
    assert_eq!(document.units.len(), 3);
    let leaver = &document.users[&user("leaver@example.com")];
    let end = leaver.settings.imap.as_ref().unwrap().until.unwrap();
    assert_eq!(end.to_string(), "2026-12-18T18:00:00Z");
    let keys = [
        "imap",
        "pop",
        "suspended",
        "unit",
        "priority",
        "members",
        "name",
        "trust",
        "units",
        "delegation",
        "storage_quota",
        "message_quota",
        "mail",
        "read_only",
        "sessions_per_user",
        "bytes_per_day",
    ];
    for key in keys.iter().chain(&["apps", "until"]) {
        assert!(EXAMPLE.contains(&format!("{key} ")), "{key}");
    }
}

#[test]
fn client_ids_may_be_pasted_as_one_string_or_as_a_list() {
    for (text, expected) in [
        ("\"b, a ,b\"", apps(&["b", "a"])),
        ("[\"b, a\", \"b\"]", apps(&["b", "a"])),
        ("[]", apps(&[])),
        ("[\"a\"]", apps(&["a"])),
        ("{ apps = \"a,b\" }", apps(&["a", "b"])),
        ("\"off\"", Access::Off.into()),
        ("{ apps = \"any\" }", Access::Any.into()),
    ] {
        let document = parse(&format!("[unit.\"/\"]\nimap = {text}\n")).unwrap();
        assert_eq!(document.units[&UnitPath::root()].settings.imap, Some(expected), "{text}");
    }
}

#[test]
fn an_end_is_the_same_moment_in_every_offset() {
    for text in ["2026-12-18T18:00:00Z", "2026-12-18T19:00:00+01:00", "2026-12-18 13:30:00.000-04:30"] {
        let document = parse(&format!("unit.\"/\".pop = {{ apps = \"off\", until = {text} }}")).unwrap();
        let setting = document.units[&UnitPath::root()].settings.pop.clone().unwrap();
        assert_eq!(setting.until, Some(UnixTime::from_secs(1_797_616_800)), "{text}");
    }
}

#[test]
fn quotas_are_read_as_numbers_and_as_people_write_them() {
    let quota = |lines: &str| {
        parse(&format!("[unit.\"/\"]\n{lines}\n")).map(|document| document.units[&UnitPath::root()].quota)
    };
    let both = |storage, messages| QuotaSettings { storage, messages };
    for (lines, expected) in [
        ("", both(None, None)),
        (
            "storage_quota = 5_000\nmessage_quota = \"none\"",
            both(Some(Ceiling::At(5000)), Some(Ceiling::Unlimited)),
        ),
        ("storage_quota = \"5G\"", both(Some(Ceiling::At(5 << 30)), None)),
        ("message_quota = 0", both(None, Some(Ceiling::At(0)))),
    ] {
        assert_eq!(quota(lines).unwrap(), expected, "{lines}");
    }
    for (lines, word) in [
        ("storage_quota = \"5 apples\"", "5 apples"),
        ("storage_quota = -1", "-1"),
        ("message_quota = \"5G\"", "5G"),
        ("message_quota = true", "boolean"),
    ] {
        let error = quota(lines).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains(":2:"), "{lines}: {error}");
    }
}

#[test]
fn where_mail_is_and_what_is_allowed_there_is_read_and_what_is_no_such_thing_is_told() {
    let text = "[unit.\"/\"]\nmail = \"dovecot\"\nread_only = true\nsessions_per_user = 3\nbytes_per_day = \"2G\"\n\
                [unit.\"/a\"]\nread_only = false\nsessions_per_user = \"none\"\nbytes_per_day = \"none\"\n\
                [user.\"ann@example.com\"]\nunit = \"/a\"\nmail = \"dovecot/mail2.internal\"\n[app.x]\nread_only = true\n";
    let document = parse(text).unwrap();
    let root = &document.units[&UnitPath::root()];
    assert_eq!((root.mail.as_ref().unwrap().to_string(), root.read_only), ("dovecot".to_owned(), Some(true)));
    let limits =
        LimitSettings { sessions_per_user: Some(Ceiling::At(3)), bytes_per_day: Some(Ceiling::At(2 << 30)) };
    assert_eq!(root.limits, limits);
    let below = &document.units[&unit("/a")];
    assert_eq!((below.mail.as_ref(), below.read_only), (None, Some(false)));
    assert_eq!(below.limits.to_string(), "sessions per user none, bytes per day none");
    let ann = &document.users[&user("ann@example.com")];
    assert_eq!(ann.mail.as_ref().unwrap().to_string(), "dovecot/mail2.internal");
    assert!(document.apps.values().all(|app| app.read_only));
    for (lines, said) in [
        ("mail = \"Maildir\"", "2:8: upstream \"Maildir\": is the name of the embedded store: choose another"),
        ("mail = \"dovecot/\"", "2:8: mail \"dovecot/\": needs a server of 1 to 255 characters after the /"),
        ("mail = 1", "2:8: mail is of type integer: write a string in quotes"),
        ("read_only = \"yes\"", "2:13: read_only is of type string: write true or false"),
        (
            "sessions_per_user = 0",
            "2:21: session limit \"0\": is no limit: write a number of sessions from 1 on, or none",
        ),
        (
            "bytes_per_day = \"2 GB\"",
            "2:17: limit of bytes per day \"2 GB\": is no limit: write bytes from 1 on, as 500M or 5G, or none",
        ),
        ("bytes_per_day = \"0K\"", "2:17: limit of bytes per day \"0K\": is no limit: write bytes from 1 on"),
        ("bytes_per_day = 0", "2:17: limit of bytes per day \"0\": is no limit: write bytes from 1 on"),
    ] {
        let error = parse(&format!("[unit.\"/\"]\n{lines}\n")).unwrap_err().to_string();
        assert!(error.contains(said), "{error}\nexpected {said}");
    }
}

#[test]
fn units_above_a_named_one_exist() {
    let text = "[unit.\"/a/b/c\"]\n[user.\"ann@example.com\"]\nunit = \"/a\"\n";
    assert_eq!(parse(text).unwrap().users[&user("ann@example.com")].unit, unit("/a"));
}

#[test]
fn a_member_who_is_no_user_of_the_file_is_left_for_the_database_to_know() {
    let text = "[group.g]\nmembers = [\"ann@example.com\", \"ann@EXAMPLE.com\"]\n";
    let document = parse(text).unwrap();
    assert_eq!(document.groups.values().next().unwrap().members, [user("ann@example.com")]);
    let (who, problem) = &document.elsewhere[0];
    assert_eq!((who, problem.line, problem.column), (&user("ann@example.com"), 2, 12));
}

#[test]
fn trust_and_delegation_are_read() {
    let text = "[unit.\"/a\"]\n[app.x]\ntrust = \"limited\"\nunits = [\"/a\"]\ndelegation = [\"/\"]\n";
    let app = parse(text).unwrap().apps.into_values().next().unwrap();
    assert_eq!((app.trust, app.delegation), (Trust::Limited(vec![unit("/a")]), vec![UnitPath::root()]));
}

#[test]
fn every_mistake_is_told_with_its_place_and_a_remedy() {
    let table = [
        ("[unit.\"/\"]\nimap = \"of\"", "2:8: imap = \"of\": write \"off\", \"any\", or a list"),
        ("[unit.\"/\"]\nimap = [\"a b\"]", "2:9: client ID \"a b\": may hold printable ASCII only"),
        ("[unit.\"/\"]\nimap = \"a,,b\"", "2:8: client ID \"\": is empty"),
        ("[unit.\"/\"]\nimap = [\"any\"]", "2:9: \"any\" in a list of client IDs: write it alone"),
        ("[unit.\"/\"]\nimap = true", "2:8: imap is of type boolean: write \"off\""),
        ("[unit.\"/\"]\nsmtp = \"any\"", "2:1: a unit has no key \"smtp\": known: imap, pop"),
        ("[unit.\"Sales\"]", "1:7: unit path \"Sales\": must start with /"),
        ("[units.\"/\"]", "1:2: there is no section \"units\": known: unit, group"),
        ("unit = 3", "1:8: unit is of type integer: write a table"),
        ("[user.\"ann@example.com\"]\nunit = \"/Slaes\"", "2:8: unit \"/Slaes\" is not in this file: add [unit."),
        (
            "[unit.\"/Sales\"]\n[user.\"a@b\"]\nunit = \"/sales\"",
            "3:8: unit \"/sales\" is not in this file: did you mean \"/Sales\"?",
        ),
        ("[user.\"ann@example.com\"]\nsuspended = true", "1:7: user \"ann@example.com\" is in no unit: add unit ="),
        (
            "[user.\"a@b\"]\nunit = \"/\"\nsuspended = \"no\"",
            "3:13: suspended is of type string: write true or false",
        ),
        ("[user.\"ann\"]\nunit = \"/\"", "1:7: user \"ann\": is not an address"),
        ("[user.\"a@b.org\"]\nunit = \"/\"\n[user.\"a@B.org\"]\nunit = \"/\"", "user \"a@b.org\" is here twice"),
        (
            "[user.\"a@b\"]\nunit = \"/\"\n[mailbox.\"a@b\"]",
            "3:10: \"a@b\" is a user and a shared mailbox: a shared mailbox is nobody's own",
        ),
        ("[user.\"a@b\"]\nunit = \"/\"\n[user.\"a@b\"]\nunit = \"/\"", "3:7: duplicate key: mend the TOML"),
        (
            "[unit.\"/\"]\nimap = { apps = \"any\", until = 2026-12-18T18:00:00 }",
            "2:32: until = 2026-12-18T18:00:00 has no offset from UTC: write date, time and offset",
        ),
        (
            "[unit.\"/\"]\nimap = { apps = \"any\", until = \"Friday\" }",
            "2:32: until is of type string: write a moment",
        ),
        ("[unit.\"/\"]\nimap = { until = 2026-12-18T18:00:00Z }", "2:8: imap does not say which apps: add apps"),
        ("[group.g]\npriority = \"high\"", "2:12: priority is of type string: write a whole number"),
        ("[group.g]\nmembers = \"a@b\"", "2:11: members is of type string: write a list"),
        ("[group.g]\nmembers = [\"ann\"]", "2:12: user \"ann\": is not an address"),
        ("[mailbox.\"a@b\"]\nunit = \"/x\"", "2:8: unit \"/x\" is not in this file"),
        ("[app.x]\ntrust = \"limited\"", "2:9: app \"x\" is limited, but to no units: add units"),
        ("[app.x]\nunits = [\"/\"]", "2:9: app \"x\" has units, but its trust is \"trusted\""),
        ("[app.x]\ntrust = \"some\"", "2:9: trust = \"some\": write \"trusted\""),
        ("[app.x]\ndelegation = [\"/x\"]", "2:15: unit \"/x\" is not in this file"),
        ("[user.ann@example.com]\nunit = \"/\"", "mend the TOML; names with @"),
        ("imap = ", "1:"),
    ];
    for (text, expected) in table {
        let error = parse(text).expect_err(text).in_file("config/policy.toml").to_string();
        assert!(error.starts_with("config/policy.toml:"), "{error}");
        assert!(error.contains(expected), "{text}\n{error}\nexpected {expected}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_each_under_its_line() {
    let text = "[unit.\"/\"]\nimap = \"of\"\npop  = 7\n\n[user.\"ann@example.com\"]\nunit = \"/x\"\n";
    let error = parse(text).unwrap_err().in_file("config/policy.toml");
    let expected = "\
config/policy.toml:2:8: imap = \"of\": write \"off\", \"any\", or a list of client IDs: [\"of\"]
  |
2 | imap = \"of\"
  |        ^^^^
config/policy.toml:3:8: pop is of type integer: write \"off\", \"any\" or a list of client IDs
  |
3 | pop  = 7
  |        ^
config/policy.toml:6:8: unit \"/x\" is not in this file: add [unit.\"/x\"] (it may be empty: then it inherits), or \
                    correct the path
  |
6 | unit = \"/x\"
  |        ^^^^";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn the_caret_stays_under_the_mistake_in_long_lines_and_among_wide_letters() {
    let long = format!("[app.x]\nname = \"ä\"\ntrust = \"{}\"", "x".repeat(500));
    let error = parse(&long).unwrap_err().to_string();
    assert!(error.lines().skip(1).all(|line| line.chars().count() < 130), "{error}");
    let far = format!("[unit.\"/\"]\nimap = [{}\"a b\"]", "\"abcdefgh\", ".repeat(40));
    let error = parse(&far).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    let at = lines[3].find('^').unwrap();
    assert!(lines[2][at..].starts_with("\"a b\""), "{error}");
}

#[test]
fn no_text_however_broken_brings_the_reader_down() {
    for cut in 0..EXAMPLE.len() {
        if let Some(text) = EXAMPLE.get(..cut) {
            let _ = parse(text).map_err(|error| error.to_string());
        }
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        bytes[cut] = bytes[cut].wrapping_add(1) & 0x7f;
        let _ = parse(std::str::from_utf8(&bytes).unwrap_or("")).map_err(|error| error.to_string());
    }
    for deep in ["[", "{a=", "a.", "[["] {
        let _ = parse(&format!("unit = {}", deep.repeat(5_000))).map_err(|error| error.to_string());
        let _ = parse(&deep.repeat(5_000)).map_err(|error| error.to_string());
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_document_or_an_error_with_a_place(text in "[\\[\\]{}\"=,.@/a-z0-9 \n\t\u{e9}\\\\']{0,200}") {
        if let Err(error) = parse(&text) {
            proptest::prop_assert!(!error.problems.is_empty());
            proptest::prop_assert!(error.problems.iter().all(|problem| problem.line >= 1 && problem.column >= 1));
        }
    }
}
