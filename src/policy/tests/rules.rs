//! Product.md section 2, rule by rule.

use super::{NOW, app, directory, question, user};
use crate::model::{GroupId, Place, Service, UnitPath, UnixTime};
use crate::policy::{
    Access, Account, Cutoff, CutoffKey, Directory, Edit, Grant, GrantKey, GrantState, Question, Setting, Settings,
    Unit, User, Whose, decide, explain, explain_token,
};
use crate::token::{Fingerprint, Identity, Rules, from_introspection};
use Service::{Imap, Pop};

/// `yes`, or the cause word and the place.
fn answer(question: &Question, directory: &Directory, now: UnixTime) -> String {
    match explain(question, directory, now).verdict {
        Ok(()) => "yes".to_owned(),
        Err(refusal) => format!("{} {}", refusal.reason(), refusal.place().unwrap()),
    }
}

fn ask(directory: &Directory, name: &str, id: &str, service: Service) -> String {
    answer(&question(name, id, service), directory, NOW)
}

#[test]
fn nobody_comes_in_until_a_setting_says_so() {
    let directory = directory("[user.\"ann@example.com\"]\nunit = \"/\"");
    assert_eq!(ask(&directory, "ann", "x", Imap), "policy_service_off built-in default");
    assert_eq!(ask(&directory, "bob", "x", Imap), "user_unknown user \"bob@example.com\"");
    assert_eq!(ask(&Directory::new(), "ann", "x", Pop), "user_unknown user \"ann@example.com\"");
}

#[test]
fn a_unit_inherits_or_overrides_each_service_by_itself() {
    let directory = directory(
        "[unit.\"/\"]\nimap = \"any\"\n[unit.\"/a\"]\npop = \"any\"\n[unit.\"/a/b\"]\nimap = \"off\"\n[unit.\"/a/b/c\"]
        [user.\"root@example.com\"]\nunit = \"/\"\n[user.\"a@example.com\"]\nunit = \"/a\"
        [user.\"c@example.com\"]\nunit = \"/a/b/c\"",
    );
    let table = [
        ("root", Imap, "yes"),
        ("root", Pop, "policy_service_off built-in default"),
        ("a", Imap, "yes"),
        ("a", Pop, "yes"),
        ("c", Imap, "policy_service_off unit \"/a/b\""),
        ("c", Pop, "yes"),
    ];
    for (name, service, expected) in table {
        assert_eq!(ask(&directory, name, "x", service), expected, "{name} {service}");
    }
}

#[test]
fn a_dropped_override_inherits_the_current_value_again() {
    let mut directory = directory(
        "[unit.\"/\"]\nimap = \"any\"\n[unit.\"/a\"]\nimap = \"off\"\n[user.\"ann@example.com\"]\nunit = \"/a\"",
    );
    let path = |text| UnitPath::parse(text).unwrap();
    assert_eq!(ask(&directory, "ann", "x", Imap), "policy_service_off unit \"/a\"");
    directory.apply(Edit::Unit(path("/a"), Some(Unit::default())));
    assert_eq!(ask(&directory, "ann", "x", Imap), "yes");
    let off = Settings { imap: Some(Access::Off.into()), pop: None };
    directory.apply(Edit::Unit(path("/"), Some(Unit { settings: off, ..Unit::default() })));
    assert_eq!(ask(&directory, "ann", "x", Imap), "policy_service_off unit \"/\"");
    directory.apply(Edit::Unit(path("/"), None));
    assert_eq!(ask(&directory, "ann", "x", Imap), "policy_service_off built-in default");
}

#[test]
fn the_highest_group_that_sets_the_service_beats_the_unit_and_equals_go_by_name() {
    let directory = directory(
        "[unit.\"/\"]\nimap = \"any\"\npop = \"any\"
        [user.\"ann@example.com\"]\nunit = \"/\"\n[user.\"bob@example.com\"]\nunit = \"/\"
        [group.low]\npriority = 1\nmembers = [\"ann@example.com\"]\nimap = \"any\"\npop = \"off\"
        [group.high]\npriority = 9\nmembers = [\"ann@example.com\"]\nimap = \"off\"
        [group.b]\nmembers = [\"bob@example.com\"]\nimap = \"off\"
        [group.a]\nmembers = [\"bob@example.com\"]\nimap = []",
    );
    let table = [
        ("ann", Imap, "policy_service_off group \"high\""),
        ("ann", Pop, "policy_service_off group \"low\""),
        ("bob", Imap, "policy_app group \"a\""),
        ("bob", Pop, "yes"),
    ];
    for (name, service, expected) in table {
        assert_eq!(ask(&directory, name, "x", service), expected, "{name} {service}");
    }
}

#[test]
fn an_exception_beats_groups_and_ends_by_itself() {
    let directory = directory(
        "[unit.\"/\"]\n[group.g]\nmembers = [\"ann@example.com\"]\nimap = \"off\"
        [user.\"ann@example.com\"]\nunit = \"/\"
        imap = { apps = \"any\", until = 1970-01-12T13:46:41Z }",
    );
    let asked = question("ann", "x", Imap);
    let end = NOW + std::time::Duration::from_secs(1);
    assert_eq!(directory.next_end(NOW), Some(end));
    assert_eq!(answer(&asked, &directory, UnixTime(end.0 - 1)), "yes");
    assert_eq!(answer(&asked, &directory, end), "policy_service_off group \"g\"");
    assert_eq!(directory.next_end(end), None);
}

#[test]
fn time_boxed_settings_of_units_and_groups_fall_through_to_what_is_behind_them() {
    let until = "until = 1970-01-12T13:46:41Z";
    let directory = directory(&format!(
        "[unit.\"/\"]\nimap = \"any\"\n[unit.\"/a\"]\nimap = {{ apps = \"off\", {until} }}
        [user.\"ann@example.com\"]\nunit = \"/a\"\n[user.\"bob@example.com\"]\nunit = \"/\"
        [group.g]\npriority = 2\nmembers = [\"bob@example.com\"]\nimap = {{ apps = \"off\", {until} }}
        [group.h]\nmembers = [\"bob@example.com\"]\nimap = []"
    ));
    let later = NOW + std::time::Duration::from_secs(1);
    let table = [
        ("ann", NOW, "policy_service_off unit \"/a\""),
        ("ann", later, "yes"),
        ("bob", NOW, "policy_service_off group \"g\""),
        ("bob", later, "policy_app group \"h\""),
    ];
    for (name, now, expected) in table {
        assert_eq!(answer(&question(name, "x", Imap), &directory, now), expected, "{name} at {now}");
    }
}

#[test]
fn a_list_admits_exactly_its_apps_and_an_empty_one_nobody() {
    let directory =
        directory("[unit.\"/\"]\nimap = [\"App\", \"other\"]\npop = []\n[user.\"ann@example.com\"]\nunit = \"/\"");
    for (id, expected) in
        [("App", "yes"), ("other", "yes"), ("app", "policy_app unit \"/\""), ("Ap", "policy_app unit \"/\"")]
    {
        assert_eq!(ask(&directory, "ann", id, Imap), expected, "{id}");
    }
    assert_eq!(ask(&directory, "ann", "App", Pop), "policy_app unit \"/\"");
}

#[test]
fn a_suspended_user_gets_nowhere_and_an_own_switch_only_takes_away() {
    let mut directory = directory(
        "[unit.\"/\"]\nimap = \"any\"\n[user.\"ann@example.com\"]\nunit = \"/\"\nsuspended = true
        [user.\"bob@example.com\"]\nunit = \"/\"",
    );
    assert_eq!(ask(&directory, "ann", "x", Imap), "user_suspended user \"ann@example.com\"");
    let mut bob = User::in_unit(UnitPath::root());
    bob.own_off.imap = true;
    directory.put_user(&user("bob"), &bob);
    assert_eq!(ask(&directory, "bob", "x", Imap), "policy_service_off_by_user user \"bob@example.com\"");
    // What the admin turned off is named first: the user could not turn it on.
    bob.own_off.pop = true;
    directory.put_user(&user("bob"), &bob);
    assert_eq!(ask(&directory, "bob", "x", Pop), "policy_service_off built-in default");
}

#[test]
fn trust_is_a_second_gate_behind_the_settings() {
    let directory = directory(
        "[unit.\"/\"]\nimap = \"any\"\n[unit.\"/a\"]\n[unit.\"/a/b\"]\nimap = [\"only\", \"bad\"]\n[unit.\"/ab\"]
        [user.\"root@example.com\"]\nunit = \"/\"\n[user.\"b@example.com\"]\nunit = \"/a/b\"
        [user.\"ab@example.com\"]\nunit = \"/ab\"
        [app.bad]\ntrust = \"blocked\"\n[app.only]\nname = \"Only\"\ntrust = \"limited\"\nunits = [\"/a\"]
        [app.no]\ntrust = \"limited\"\nunits = []",
    );
    let table = [
        ("root", "bad", "policy_app_blocked app \"bad\""),
        ("b", "bad", "policy_app_blocked app \"bad\""),
        ("b", "other", "policy_app unit \"/a/b\""),
        ("b", "only", "yes"),
        ("root", "only", "policy_app_limited app \"only\""),
        ("ab", "only", "policy_app_limited app \"only\""),
        ("root", "no", "policy_app_limited app \"no\""),
        ("root", "unheard-of", "yes"),
    ];
    for (name, id, expected) in table {
        assert_eq!(ask(&directory, name, id, Imap), expected, "{name} {id}");
    }
    let refusal = explain(&question("root", "only", Imap), &directory, NOW).verdict.unwrap_err();
    assert_eq!(refusal.app(), Some((&app("only"), Some("Only"))));
}

#[test]
fn a_service_account_needs_delegation_wherever_the_setting_is_a_list() {
    let directory = directory(
        "[unit.\"/\"]\nimap = [\"robot\"]\npop = \"any\"\n[unit.\"/a\"]
        [user.\"root@example.com\"]\nunit = \"/\"\n[user.\"a@example.com\"]\nunit = \"/a\"
        [app.robot]\ndelegation = [\"/a\"]\n[app.other]\ndelegation = [\"/\"]",
    );
    let table = [
        ("root", "robot", Imap, "policy_service_account unit \"/\""),
        ("a", "robot", Imap, "yes"),
        ("root", "other", Imap, "yes"),
        ("root", "third", Imap, "policy_service_account unit \"/\""),
        ("root", "third", Pop, "yes"),
    ];
    for (name, id, service, expected) in table {
        let asked = Question { service_account: true, ..question(name, id, service) };
        assert_eq!(answer(&asked, &directory, NOW), expected, "{name} {id}");
    }
    // Delegation is for service accounts: a person's app still has to be on the list.
    assert_eq!(ask(&directory, "root", "other", Imap), "policy_app unit \"/\"");
}

#[test]
fn a_shared_mailbox_opens_for_members_whom_both_units_let_in() {
    let directory = directory(
        "[unit.\"/\"]\nimap = \"any\"\npop = \"any\"\n[unit.\"/closed\"]\nimap = \"off\"\npop = [\"x\"]
        [user.\"ann@example.com\"]\nunit = \"/\"\n[user.\"bob@example.com\"]\nunit = \"/\"
        [user.\"eve@example.com\"]\nunit = \"/closed\"
        [mailbox.\"team@example.com\"]\nmembers = [\"ann@example.com\", \"eve@example.com\"]
        [mailbox.\"shut@example.com\"]\nunit = \"/closed\"\nmembers = [\"ann@example.com\"]
        [app.near]\ntrust = \"limited\"\nunits = [\"/closed\"]",
    );
    let table = [
        ("ann", "team", "x", Imap, "yes"),
        ("bob", "team", "x", Imap, "not_member mailbox \"team@example.com\""),
        ("eve", "team", "x", Imap, "policy_service_off unit \"/closed\""),
        ("ann", "shut", "x", Imap, "policy_service_off unit \"/closed\""),
        ("ann", "shut", "x", Pop, "yes"),
        ("ann", "shut", "y", Pop, "policy_app unit \"/closed\""),
        ("ann", "bob", "x", Imap, "not_member mailbox \"bob@example.com\""),
        ("ann", "nobody", "x", Imap, "not_member mailbox \"nobody@example.com\""),
        ("team", "team", "x", Imap, "user_unknown user \"team@example.com\""),
        ("eve", "team", "near", Pop, "policy_app unit \"/closed\""),
    ];
    for (name, owner, id, service, expected) in table {
        let asked = Question { owner: user(owner), ..question(name, id, service) };
        assert_eq!(answer(&asked, &directory, NOW), expected, "{name} opens {owner} with {id}");
    }
}

#[test]
fn a_disabled_grant_refuses_and_a_removed_one_lets_only_later_tokens_in() {
    let mut directory = directory("[unit.\"/\"]\nimap = \"any\"\n[user.\"ann@example.com\"]\nunit = \"/\"");
    let key = GrantKey { user: user("ann"), owner: user("ann"), app: app("x") };
    let place = "grant of \"ann@example.com\" to app \"x\"";
    let (before, after) = (UnixTime(NOW.0 - 1), UnixTime(NOW.0 + 1));
    let (yes, disabled, removed) =
        ("yes".to_owned(), format!("grant_disabled {place}"), format!("grant_removed {place}"));
    let table = [
        (GrantState::Active, None, None, &yes),
        (GrantState::Disabled, None, Some(after), &disabled),
        (GrantState::Removed, Some(NOW), None, &removed),
        (GrantState::Removed, Some(NOW), Some(before), &removed),
        (GrantState::Removed, Some(NOW), Some(NOW), &removed),
        (GrantState::Removed, Some(NOW), Some(after), &yes),
        (GrantState::Removed, None, Some(after), &removed),
        // Active again by a later token: the old ones stay dead.
        (GrantState::Active, Some(NOW), Some(NOW), &removed),
        (GrantState::Active, Some(NOW), Some(after), &yes),
        (GrantState::Disabled, Some(NOW), Some(after), &disabled),
    ];
    for (state, removed_at, issued_at, expected) in table {
        directory.put_grant(&key, Some(Grant { state, removed_at }));
        let asked = Question { issued_at, ..question("ann", "x", Imap) };
        assert_eq!(&answer(&asked, &directory, NOW), expected, "{state:?} {removed_at:?} {issued_at:?}");
        // Other apps of the same user do not mind.
        assert_eq!(ask(&directory, "ann", "y", Imap), "yes");
    }
}

#[test]
fn a_user_who_left_and_came_back_finds_removed_grants_removed() {
    let mut directory = directory("[unit.\"/\"]\nimap = \"any\"\n[user.\"ann@example.com\"]\nunit = \"/\"");
    let key = GrantKey { user: user("ann"), owner: user("ann"), app: app("x") };
    let removed = Grant { state: GrantState::Removed, removed_at: Some(NOW) };
    directory.put_grant(&key, Some(removed));
    directory.remove_user(&user("ann"));
    assert_eq!(ask(&directory, "ann", "x", Imap), "user_unknown user \"ann@example.com\"");
    assert_eq!(directory.counts().users, 0);
    directory.put_user(&user("ann"), &User::in_unit(UnitPath::root()));
    assert!(ask(&directory, "ann", "x", Imap).starts_with("grant_removed"));
    assert_eq!(directory.counts().users, 1);
}

fn identity(claims: &str) -> Identity {
    let json = format!(
        "{{\"active\":true,\"aud\":\"gate\",\"exp\":2000000,\"email\":\"ann@example.com\",\"client_id\":\"x\"{claims}}}"
    );
    let rules = Rules::new("https://id.example.com", ["gate"]);
    from_introspection(json.as_bytes(), &rules, Fingerprint::of("token"), NOW).unwrap()
}

#[test]
fn a_permit_says_whom_it_lets_in_and_by_which_setting() {
    let mut directory = directory(
        "[unit.\"/a\"]\nimap = [\"x\"]\n[user.\"ann@example.com\"]\nunit = \"/a\"
        [mailbox.\"team@example.com\"]\nmembers = [\"ann@example.com\"]",
    );
    directory.set_version(7);
    let who = identity(",\"iat\":1000000");
    let permit = decide(&who, &user("team"), Imap, &directory, NOW).unwrap();
    assert_eq!((permit.user(), permit.owner(), permit.app()), (&user("ann"), &user("team"), &app("x")));
    assert_eq!(permit.place(), &Place::Unit(UnitPath::parse("/a").unwrap()));
    assert_eq!((permit.unit().as_str(), permit.policy_version(), permit.grant_is_new()), ("/a", 7, true));
    directory.put_grant(&permit.grant(), Some(Grant { state: GrantState::Active, removed_at: None }));
    assert!(!decide(&who, &user("team"), Imap, &directory, NOW).unwrap().grant_is_new());
    assert!(decide(&who, &user("ann"), Imap, &directory, NOW).unwrap().grant_is_new());
    let refusal = decide(&who, &user("ann"), Pop, &directory, NOW).unwrap_err();
    assert_eq!(refusal.reason(), "policy_service_off");
}

#[test]
fn an_explanation_reads_from_the_user_to_the_grant() {
    let mut directory = directory(
        "[unit.\"/\"]\nimap = \"off\"\n[unit.\"/Sales\"]\nimap = [\"x\"]\n[unit.\"/Sales/Field\"]
        [user.\"ann@example.com\"]\nunit = \"/Sales/Field\"\nimap = { apps = \"any\", until = 1970-01-02T00:00:00Z }
        [group.pilot]\npriority = 3\nmembers = [\"ann@example.com\"]\npop = \"any\"
        [app.x]\nname = \"Mail\"",
    );
    let yes = explain(&question("ann", "x", Imap), &directory, NOW).to_string();
    let expected = "\
ok  user        ann@example.com is in unit /Sales/Field
ok  suspension  ann@example.com is not suspended
ok  setting     the user's exception sets IMAP to any app, but that ran out at 1970-01-02T00:00:00Z
ok  setting     group pilot (priority 3) does not set IMAP
ok  setting     unit /Sales/Field inherits from unit /Sales, which sets IMAP to 1 listed app
ok  own switch  ann@example.com has not turned IMAP off
ok  app         app \"Mail\" (x) is on the list
ok  trust       app \"Mail\" (x) is not blocked or limited here
ok  grant       none yet: the first login makes it
";
    assert_eq!(yes, expected);
    let group = GroupId::parse("pilot").unwrap();
    let off = Setting { access: Access::Off, until: None };
    let settings = Settings { imap: Some(off), pop: None };
    directory.put_group(&group, Some(&crate::policy::Group { priority: 3, settings }));
    let no = explain(&question("ann", "x", Imap), &directory, NOW).to_string();
    assert!(no.ends_with("NO  setting     IMAP is off (set at group \"pilot\")\n"), "{no}");
}

/// A token of ann's, with these claims besides.
fn token_of(issuer: &str, claims: &str) -> Identity {
    let json = format!(
        "{{\"active\":true,\"aud\":\"gate\",\"exp\":2000000,\"email\":\"ann@example.com\",\"client_id\":\"x\"{claims}}}"
    );
    from_introspection(json.as_bytes(), &Rules::new(issuer, ["gate"]), Fingerprint::of("token"), NOW).unwrap()
}

#[test]
fn an_issuers_word_refuses_its_own_tokens_up_to_a_moment_and_no_others() {
    const ISSUER: &str = "https://id.example.com";
    let text = "[unit.\"/\"]\nimap = \"any\"\n[user.\"ann@example.com\"]\nunit = \"/\"";
    let (ann, bob) = (user("ann"), user("bob"));
    let sub = |text: &str| Whose::Subject(text.into());
    let sid = |text: &str| Whose::Session(text.into());
    let old = ",\"iat\":1000000,\"sub\":\"1\",\"sid\":\"s\"";
    let sessionless = ",\"iat\":1000000,\"sub\":\"1\"";
    let new = ",\"iat\":1000001,\"sub\":\"1\",\"sid\":\"s\"";
    let table = [
        ("the subject", sub("1"), ISSUER, old, "token_revoked"),
        ("the subject, a later token", sub("1"), ISSUER, new, "yes"),
        ("the subject, a token without iat", sub("1"), ISSUER, ",\"sub\":\"1\"", "token_revoked"),
        ("another subject", sub("2"), ISSUER, old, "yes"),
        ("the subject of another issuer", sub("1"), "https://other.example.com", old, "yes"),
        ("a token without sub", sub("1"), ISSUER, ",\"iat\":1000000", "yes"),
        ("the sign-in", sid("s"), ISSUER, old, "token_revoked"),
        ("the sign-in, a later token", sid("s"), ISSUER, new, "yes"),
        ("another sign-in", sid("t"), ISSUER, old, "yes"),
        ("a subject is no sign-in", sid("1"), ISSUER, sessionless, "yes"),
        ("without sid", Whose::SubjectWithoutSession("1".into()), ISSUER, sessionless, "token_revoked"),
        ("with another sid", Whose::SubjectWithoutSession("1".into()), ISSUER, old, "yes"),
        ("the address", Whose::Address(ann.clone()), ISSUER, old, "token_revoked"),
        ("another's address", Whose::Address(bob), ISSUER, old, "yes"),
        (
            "the address without sid",
            Whose::AddressWithoutSession(ann.clone()),
            ISSUER,
            sessionless,
            "token_revoked",
        ),
        ("the address with sid", Whose::AddressWithoutSession(ann.clone()), ISSUER, old, "yes"),
        ("everybody", Whose::Everybody, ISSUER, old, "token_revoked"),
        ("everybody, a later token", Whose::Everybody, ISSUER, new, "yes"),
        ("everybody, without iat", Whose::Everybody, ISSUER, ",\"sub\":\"1\"", "yes"),
    ];
    for (name, whose, issuer, claims, expected) in table {
        let mut directory = directory(text);
        let key = CutoffKey { issuer: ISSUER.into(), whose };
        let cutoff = Cutoff { issued_until: Some(NOW), account: Account::Open };
        directory.apply(Edit::Cutoff(key.clone(), Some(cutoff)));
        let who = token_of(issuer, claims);
        let answer = |directory: &Directory| match decide(&who, &ann, Imap, directory, NOW) {
            Ok(_) => "yes",
            Err(refusal) => refusal.reason(),
        };
        assert_eq!(answer(&directory), expected, "{name}");
        let explained = explain_token(&who, &ann, Imap, &directory, NOW);
        assert_eq!(explained.verdict.map_or_else(|refusal| refusal.reason(), |()| "yes"), expected, "{name}");
        assert_eq!((explained.steps[0].check, explained.steps[0].passed), ("token", expected == "yes"), "{name}");
        directory.apply(Edit::Cutoff(key, None));
        assert_eq!((answer(&directory), directory.cutoff_count()), ("yes", 0), "{name}, forgotten");
    }
}

#[test]
fn a_closed_accounts_tokens_are_refused_whenever_they_were_issued_also_where_no_token_is_at_hand() {
    let mut directory = directory("[unit.\"/\"]\nimap = \"any\"\n[user.\"ann@example.com\"]\nunit = \"/\"");
    let key = CutoffKey { issuer: "https://id.example.com".into(), whose: Whose::Address(user("ann")) };
    let later = token_of("https://id.example.com", ",\"iat\":1000050");
    for (account, expected) in [(Account::Disabled, "account_disabled"), (Account::Purged, "account_purged")] {
        directory.put_cutoff(&key, Some(Cutoff { issued_until: Some(NOW), account }));
        let refusal = decide(&later, &user("ann"), Imap, &directory, NOW).unwrap_err();
        assert_eq!((refusal.reason(), refusal.place()), (expected, None));
        let explained = explain(&question("ann", "x", Imap), &directory, NOW);
        assert_eq!(explained.verdict.unwrap_err().reason(), expected);
        assert!(explained.steps[0].to_string().starts_with("NO  token       https://id.example.com d"));
    }
    directory.put_cutoff(&key, Some(Cutoff { issued_until: None, account: Account::Open }));
    assert_eq!(directory.cutoff_count(), 0);
    assert!(decide(&later, &user("ann"), Imap, &directory, NOW).is_ok());
}

#[test]
fn a_mail_domain_is_there_as_long_as_somebody_is_in_it() {
    let mut directory =
        directory("[user.\"ann@example.com\"]\nunit = \"/\"\n[user.\"bob@example.com\"]\nunit = \"/\"\n");
    let (ann, bob) = (user("ann"), user("bob"));
    assert!(directory.has_domain("example.com") && !directory.has_domain("example.org"));
    directory.remove_user(&ann);
    assert!(directory.has_domain("example.com"));
    directory.remove_user(&bob);
    directory.remove_user(&bob);
    assert!(!directory.has_domain("example.com"));
}
