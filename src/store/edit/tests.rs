//! Changes of single resources, on SQLite and on PostgreSQL.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod subtree;
mod terms;

use std::sync::Arc;

use super::*;
use crate::model::{Place, Service};
use crate::policy::{Access, Question, explain, file};
use crate::store::{
    AuditFilter, Role, StoreError,
    tests::ground::{Ground, on_both},
};

on_both! {
    what_is_made_is_in_force_at_once_and_reads_back_with_its_version;
    a_stale_version_is_refused_and_a_fresh_one_is_taken;
    a_list_is_carried_out_whole_or_not_at_all;
    what_cannot_be_is_told_with_place_and_remedy_and_changes_nothing;
    a_unit_moves_with_everything_in_it_and_leaves_when_it_is_empty;
    rows_of_the_policy_file_refuse_and_name_the_file;
    every_change_is_in_the_audit_log_with_actor_reason_before_and_after;
    lists_come_in_pages_and_by_what_is_asked;
    a_preview_tells_who_would_lose_and_changes_nothing;
    effective_settings_name_their_place;
    a_change_of_one_process_reaches_the_other;
    a_plan_is_bound_to_the_version_it_was_made_against;
    a_list_of_users_is_imported_whole_or_reported_line_by_line;
    every_user_of_a_long_list_is_in_the_audit_log;
    a_role_goes_with_whoever_has_it_and_the_last_super_admin_stays;
}

const NOW: UnixTime = UnixTime::from_secs(1_000_000);
const ADMIN: Actor<'static> = Actor { by: "root@example.com", reason: Some("as asked in ticket 7"), within: None };

fn unit(path: &str) -> UnitPath {
    UnitPath::parse(path).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::parse(&format!("{name}@example.com")).unwrap()
}

fn group(name: &str) -> GroupId {
    GroupId::parse(name).unwrap()
}

fn app(id: &str) -> ClientId {
    ClientId::parse(id).unwrap()
}

async fn open(ground: &Ground) -> Arc<Store> {
    Store::open(&ground.settings()).await.unwrap()
}

fn set(access: &str) -> SettingPatch {
    Some(Some(Access::parse(access).unwrap().into()))
}

fn imap(access: &str) -> UnitPatch {
    UnitPatch { imap: set(access), ..UnitPatch::default() }
}

fn in_unit(path: &str) -> UserPatch {
    UserPatch { unit: Some(unit(path)), ..UserPatch::default() }
}

fn make_unit(path: &str, access: &str) -> Directive {
    Directive::Unit(unit(path), Action::Make(imap(access)))
}

fn make_user(name: &str, path: &str) -> Directive {
    Directive::User(user(name), Action::Make(in_unit(path)))
}

async fn change(store: &Store, directives: impl IntoIterator<Item = Directive>) -> Result<Changed, EditError> {
    let wishes: Vec<Wish> = directives.into_iter().map(Wish::from).collect();
    store.change(&wishes, ADMIN).await
}

fn ask_of(store: &Store, name: &str, owner: &str, id: &str) -> &'static str {
    let question = Question {
        user: user(name),
        owner: user(owner),
        app: app(id),
        service: Service::Imap,
        issued_at: Some(NOW),
        service_account: false,
    };
    match store.read(|directory| explain(&question, directory, NOW)).verdict {
        Ok(()) => "yes",
        Err(refusal) => refusal.reason(),
    }
}

fn ask(store: &Store, name: &str, id: &str) -> &'static str {
    ask_of(store, name, name, id)
}

/// Two units, two users, a group and a shared mailbox.
async fn furnished(ground: &Ground) -> Arc<Store> {
    let store = open(ground).await;
    let members = GroupPatch { priority: Some(3), add: vec![user("ann")], ..GroupPatch::default() };
    let shared = MailboxPatch {
        name: Some(Some("Team".to_owned())),
        members: Some(vec![(user("ann"), Rights::Write), (user("bob"), Rights::Read)]),
        ..MailboxPatch::default()
    };
    let directives = [
        Directive::Unit(unit("/"), Action::Change(imap("any"))),
        make_unit("/Sales", "one, two"),
        make_unit("/Sales/Field", "two"),
        make_user("ann", "/Sales"),
        make_user("bob", "/Sales/Field"),
        Directive::Group(group("pilot"), Action::Make(members)),
        Directive::Mailbox(user("team"), Action::Make(shared)),
        Directive::App(
            app("vendor12*"),
            Action::Make(AppPatch { trust: Some(Trust::Blocked), ..AppPatch::default() }),
        ),
    ];
    change(&store, directives).await.unwrap();
    store
}

async fn what_is_made_is_in_force_at_once_and_reads_back_with_its_version(ground: Ground) {
    let store = furnished(&ground).await;
    assert_eq!(ask(&store, "ann", "one"), "yes");
    assert_eq!(ask(&store, "bob", "one"), "policy_app");
    assert_eq!(ask_of(&store, "bob", "team", "two"), "yes");

    let version = store.policy_version().await.unwrap();
    let sales = store.unit(&unit("/Sales")).await.unwrap().unwrap();
    assert_eq!((sales.version, sales.managed_by.as_str()), (version, "admin"));
    assert_eq!(sales.value.settings.imap, Some(Access::Only(vec![app("one"), app("two")]).into()));
    let ann = store.user(&user("ann")).await.unwrap().unwrap();
    assert_eq!((ann.value.unit, ann.value.groups), (unit("/Sales"), vec![group("pilot")]));
    let team = store.mailbox(&user("team")).await.unwrap().unwrap();
    assert_eq!(team.value.members, [(user("ann"), Rights::Write), (user("bob"), Rights::Read)]);
    assert_eq!(store.group(&group("pilot")).await.unwrap().unwrap().value.priority, 3);
    assert_eq!(store.app(&app("vendor12*")).await.unwrap().unwrap().value.trust, Trust::Blocked);
    assert_eq!(store.user(&user("nobody")).await.unwrap(), None);
    assert!(store.unit(&UnitPath::root()).await.unwrap().is_some());

    // The same after a restart.
    store.close().await.unwrap();
    let again = open(&ground).await;
    assert_eq!(ask(&again, "ann", "one"), "yes");
    assert_eq!(ask(&again, "bob", "one"), "policy_app");
}

async fn a_stale_version_is_refused_and_a_fresh_one_is_taken(ground: Ground) {
    let store = furnished(&ground).await;
    let seen = store.unit(&unit("/Sales")).await.unwrap().unwrap().version;
    let wish = |access: &str, expect| Wish {
        directive: Directive::Unit(unit("/Sales"), Action::Change(imap(access))),
        expect,
    };
    let changed = store.change(&[wish("off", Some(seen))], ADMIN).await.unwrap();
    assert_eq!(ask(&store, "ann", "one"), "policy_service_off");
    let error = store.change(&[wish("any", Some(seen))], ADMIN).await.unwrap_err();
    let EditError::Stale { expected, found, .. } = error else { panic!("{error}") };
    assert_eq!((expected, found), (seen, changed.version));
    assert_eq!(ask(&store, "ann", "one"), "policy_service_off");
    assert!(store.change(&[wish("any", Some(changed.version))], ADMIN).await.is_ok());
    assert_eq!(ask(&store, "ann", "one"), "yes");
    // A user's own switch is part of what the user's version stands for.
    let seen = store.user(&user("ann")).await.unwrap().unwrap().version;
    store.set_self_switch(&user("ann"), Service::Pop, true, NOW).await.unwrap();
    let ann = store.user(&user("ann")).await.unwrap().unwrap();
    assert!(ann.value.own_off.pop && ann.version > seen, "{ann:?}");
    // Members belong to the version of their group.
    let before = store.group(&group("pilot")).await.unwrap().unwrap().version;
    change(&store, [Directive::User(user("ann"), Action::Remove)]).await.unwrap();
    assert!(store.group(&group("pilot")).await.unwrap().unwrap().version > before);
    assert_eq!(store.mailbox(&user("team")).await.unwrap().unwrap().value.members, [(user("bob"), Rights::Read)]);
}

async fn a_list_is_carried_out_whole_or_not_at_all(ground: Ground) {
    let store = furnished(&ground).await;
    let number = *store.changes().borrow();
    let error = change(
        &store,
        [
            Directive::Unit(unit("/Sales"), Action::Change(imap("off"))),
            Directive::Unit(unit("/Nowhere"), Action::Change(imap("off"))),
        ],
    )
    .await
    .unwrap_err();
    assert!(
        matches!(&error, EditError::Absent { place: Place::Unit(path) } if path.as_str() == "/Nowhere"),
        "{error}"
    );
    assert_eq!(ask(&store, "ann", "one"), "yes");
    assert_eq!(*store.changes().borrow(), number);

    // One setting for many units, in one change.
    let all = ["/", "/Sales", "/Sales/Field"].map(|path| Directive::Unit(unit(path), Action::Change(imap("off"))));
    let changed = change(&store, all).await.unwrap();
    for path in ["/", "/Sales", "/Sales/Field"] {
        assert_eq!(store.unit(&unit(path)).await.unwrap().unwrap().version, changed.version, "{path}");
    }
    assert_eq!(
        (ask(&store, "ann", "one"), ask(&store, "bob", "two")),
        ("policy_service_off", "policy_service_off")
    );
}

async fn what_cannot_be_is_told_with_place_and_remedy_and_changes_nothing(ground: Ground) {
    let store = furnished(&ground).await;
    let mailbox = |patch| Directive::Mailbox(user("team"), Action::Change(patch));
    let many = (0..=MOST_CHANGES).map(|_| make_unit("/x", "off")).collect::<Vec<_>>();
    let cases = [
        (make_unit("/Sales", "off"), "unit \"/Sales\" is there already"),
        (make_unit("/Slaes/Field", "off"), "there is no unit \"/Slaes\""),
        (make_user("ann", "/"), "user \"ann@example.com\" is there already"),
        (make_user("cid", "/Slaes"), "there is no unit \"/Slaes\""),
        (make_user("team", "/"), "it is a shared mailbox"),
        (Directive::User(user("cid"), Action::Make(UserPatch::default())), "the user is in no unit"),
        (Directive::User(user("cid"), Action::Remove), "there is no user \"cid@example.com\""),
        (
            Directive::Group(
                group("pilot"),
                Action::Change(GroupPatch { add: vec![user("cid")], ..GroupPatch::default() }),
            ),
            "there is no user \"cid@example.com\"",
        ),
        (Directive::Mailbox(user("ann"), Action::Make(MailboxPatch::default())), "it is a user's own address"),
        (mailbox(MailboxPatch { unit: Some(Some(unit("/Slaes"))), ..MailboxPatch::default() }), "there is no unit"),
        (
            mailbox(MailboxPatch { name: Some(Some("a\nb".to_owned())), ..MailboxPatch::default() }),
            "not plain text",
        ),
        (Directive::App(app("x*"), Action::Make(AppPatch::default())), "needs at least 8 characters before its *"),
        (
            Directive::App(
                app("y"),
                Action::Make(AppPatch { trust: Some(Trust::Limited(vec![unit("/Slaes")])), ..AppPatch::default() }),
            ),
            "there is no unit \"/Slaes\"",
        ),
        (
            Directive::Unit(
                unit("/Sales"),
                Action::Change(UnitPatch {
                    imap: Some(Some(Access::Only(vec![app("a*b")]).into())),
                    ..UnitPatch::default()
                }),
            ),
            "has a * before its end",
        ),
        (Directive::Unit(unit("/"), Action::Remove), "the root cannot be removed"),
        (Directive::Unit(unit("/Sales"), Action::Remove), "not empty (users: 2)"),
        (Directive::MoveUnit { from: unit("/"), to: unit("/x") }, "the root cannot be moved"),
        (Directive::MoveUnit { from: unit("/Sales"), to: unit("/Sales/x") }, "lies in it"),
        (Directive::MoveUnit { from: unit("/Sales/Field"), to: unit("/Sales") }, "is there already"),
        (Directive::MoveUnit { from: unit("/Slaes"), to: unit("/x") }, "there is no unit \"/Slaes\""),
    ];
    let number = *store.changes().borrow();
    for (directive, said) in cases {
        let told = format!("{directive:?}");
        let error = change(&store, [directive]).await.unwrap_err().to_string();
        assert!(error.contains(said), "{told}: {error}");
    }
    assert!(matches!(change(&store, many).await, Err(EditError::TooMany { .. })));
    assert_eq!(*store.changes().borrow(), number);
}

async fn a_unit_moves_with_everything_in_it_and_leaves_when_it_is_empty(ground: Ground) {
    let store = furnished(&ground).await;
    let limited = AppPatch {
        trust: Some(Trust::Limited(vec![unit("/Sales/Field")])),
        delegation: Some(vec![unit("/Sales")]),
        ..AppPatch::default()
    };
    change(
        &store,
        [
            make_unit("/Sal%", "off"),
            make_unit("/Salesmen", "off"),
            make_user("cid", "/Salesmen"),
            Directive::App(app("two"), Action::Make(limited)),
            Directive::Mailbox(
                user("team"),
                Action::Change(MailboxPatch { unit: Some(Some(unit("/Sales"))), ..MailboxPatch::default() }),
            ),
            make_unit("/Europe", "off"),
        ],
    )
    .await
    .unwrap();
    change(&store, [Directive::MoveUnit { from: unit("/Sales"), to: unit("/Europe/Sales") }]).await.unwrap();
    let unit_of = |name: &str| store.read(|directory| directory.unit_of(&user(name)));
    assert_eq!(unit_of("ann"), Some(unit("/Europe/Sales")));
    assert_eq!(unit_of("bob"), Some(unit("/Europe/Sales/Field")));
    assert_eq!(unit_of("cid"), Some(unit("/Salesmen")), "a namesake stays");
    assert_eq!((ask(&store, "ann", "one"), ask(&store, "bob", "two")), ("yes", "yes"));
    assert_eq!(store.mailbox(&user("team")).await.unwrap().unwrap().value.unit, Some(unit("/Europe/Sales")));
    let two = store.app(&app("two")).await.unwrap().unwrap().value;
    assert_eq!(two.trust, Trust::Limited(vec![unit("/Europe/Sales/Field")]));
    assert_eq!(two.delegation, [unit("/Europe/Sales")]);
    assert!(store.unit(&unit("/Sales")).await.unwrap().is_none());

    let error = change(&store, [Directive::Unit(unit("/Europe"), Action::Remove)]).await.unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
    change(
        &store,
        [
            Directive::User(user("cid"), Action::Change(in_unit("/"))),
            Directive::Unit(unit("/Salesmen"), Action::Remove),
        ],
    )
    .await
    .unwrap();
    assert!(!store.read(|directory| directory.has_unit(&unit("/Salesmen"))));
    assert_eq!(ask(&store, "cid", "one"), "yes");
}

async fn rows_of_the_policy_file_refuse_and_name_the_file(ground: Ground) {
    let store = open(&ground).await;
    let text = "[unit.\"/Sales\"]\n[user.\"ann@example.com\"]\nunit = \"/Sales\"\n[group.pilot]\nmembers = [\"ann@example.com\"]\n\
                [mailbox.\"team@example.com\"]\n[app.x]\n";
    store.apply(&file::parse(text).unwrap(), "/etc/portcullis/policy.toml").await.unwrap();
    for directive in [
        Directive::Unit(unit("/Sales"), Action::Change(imap("any"))),
        Directive::MoveUnit { from: unit("/Sales"), to: unit("/Other") },
        Directive::User(user("ann"), Action::Change(in_unit("/"))),
        Directive::User(user("ann"), Action::Remove),
        Directive::Group(group("pilot"), Action::Remove),
        Directive::Mailbox(user("team"), Action::Remove),
        Directive::App(app("x"), Action::Change(AppPatch::default())),
    ] {
        let told = format!("{directive:?}");
        let error = change(&store, [directive]).await.unwrap_err();
        let EditError::Managed { file, .. } = &error else { panic!("{told}: {error}") };
        assert_eq!(file, "/etc/portcullis/policy.toml", "{told}");
    }
    // What an admin adds beside the file stays when the file is applied again.
    change(&store, [make_user("bob", "/Sales")]).await.unwrap();
    let error =
        change(&store, [Directive::MoveUnit { from: unit("/Sales"), to: unit("/Other") }]).await.unwrap_err();
    assert!(matches!(error, EditError::Managed { .. }), "{error}");
    assert!(store.apply(&file::parse(text).unwrap(), "policy.toml").await.unwrap().is_unchanged());
    assert!(store.read(|directory| directory.knows(&user("bob"))));
}

async fn every_change_is_in_the_audit_log_with_actor_reason_before_and_after(ground: Ground) {
    let store = furnished(&ground).await;
    change(&store, [Directive::Unit(unit("/Sales"), Action::Change(imap("off")))]).await.unwrap();
    change(
        &store,
        [Directive::Group(
            group("pilot"),
            Action::Change(GroupPatch {
                add: vec![user("bob")],
                remove: vec![user("ann")],
                ..GroupPatch::default()
            }),
        )],
    )
    .await
    .unwrap();
    let rows = store.audit_recent(&AuditFilter { limit: 2, ..AuditFilter::default() }).await.unwrap();
    let told: Vec<_> =
        rows.iter().map(|row| (row.event.as_ref(), row.detail.as_deref().unwrap_or_default())).collect();
    assert_eq!(
        told,
        [
            (
                "group.changed",
                "by root@example.com (as asked in ticket 7): priority 3, imap inherits, pop inherits -> priority 3, imap \
             inherits, pop inherits, members +bob@example.com -ann@example.com",
            ),
            (
                "unit.changed",
                "by root@example.com (as asked in ticket 7): imap only:one,two, pop inherits -> imap off, pop inherits",
            ),
        ]
    );
    assert_eq!(rows[1].place.as_deref(), Some("unit \"/Sales\""));
}

async fn lists_come_in_pages_and_by_what_is_asked(ground: Ground) {
    let store = furnished(&ground).await;
    change(&store, (0..25).map(|number| make_user(&format!("u{number:02}"), "/Sales"))).await.unwrap();
    let mut names = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.users(&UserFilter::default(), after.as_deref(), 10).await.unwrap();
        assert!(page.rows.len() <= 10);
        names.extend(page.rows.into_iter().map(|user| user.id.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names.len(), 27);
    assert!(names.is_sorted());
    let count = async |filter: UserFilter| store.users(&filter, None, 1_000).await.unwrap().rows.len();
    assert_eq!(count(UserFilter { below: Some(unit("/Sales/Field")), ..UserFilter::default() }).await, 1);
    assert_eq!(count(UserFilter { below: Some(unit("/Sales")), ..UserFilter::default() }).await, 27);
    assert_eq!(count(UserFilter { group: Some(group("pilot")), ..UserFilter::default() }).await, 1);
    let both = UserFilter { prefix: Some("u1".to_owned()), below: Some(unit("/Sales")), ..UserFilter::default() };
    assert_eq!(count(both).await, 10);
    let paths = async |below: Option<&UnitPath>| {
        let page = store.units(below, None, 100).await.unwrap();
        page.rows.into_iter().map(|unit| unit.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(paths(None).await, ["/", "/Sales", "/Sales/Field"]);
    assert_eq!(paths(Some(&unit("/Sales"))).await, ["/Sales", "/Sales/Field"]);
    assert_eq!(store.groups(None, 10).await.unwrap().rows.len(), 1);
    assert_eq!(store.mailboxes(None, None, 10).await.unwrap().rows.len(), 1);
    assert_eq!(store.mailboxes(Some(&unit("/Sales")), None, 10).await.unwrap().rows.len(), 0);
    assert_eq!(store.apps(None, 10).await.unwrap().rows.len(), 1);
}

async fn a_preview_tells_who_would_lose_and_changes_nothing(ground: Ground) {
    let store = furnished(&ground).await;
    let (ann, phone) = (user("ann"), app("one"));
    store.set_grant(&ann, &ann, &phone, crate::policy::GrantState::Active, ("test", None), NOW).await.unwrap();
    let seat = LiveSeat {
        user: ann.clone(),
        owner: ann.clone(),
        app: phone.clone(),
        service: Service::Imap,
        issued_at: Some(NOW),
        service_account: false,
    };
    let wish = Wish::from(Directive::Unit(unit("/Sales"), Action::Change(imap("two"))));
    let before = (*store.changes().borrow(), store.policy_version().await.unwrap());
    let preview = store.preview(std::slice::from_ref(&wish), ADMIN, std::slice::from_ref(&seat)).await.unwrap();
    assert_eq!((preview.loses.user_count, preview.loses.apps[0].app.clone()), (1, phone));
    assert_eq!((preview.fall_count, preview.falls[0].seat), (1, 0));
    assert_eq!(preview.falls[0].refusal.reason(), "policy_app");
    assert_eq!((*store.changes().borrow(), store.policy_version().await.unwrap()), before);
    assert_eq!(ask(&store, "ann", "one"), "yes");
    // A wish that cannot be is refused as it would be without a preview.
    let wrong = Wish { expect: Some(1_000_000), ..wish };
    assert!(matches!(store.preview(&[wrong], ADMIN, &[]).await, Err(EditError::Stale { .. })));
    // Of a member who may only read from now on the session falls.
    let team = LiveSeat { owner: user("team"), ..seat };
    let lower = MailboxPatch { add: vec![(ann, Rights::Read)], ..MailboxPatch::default() };
    let wish = Wish::from(Directive::Mailbox(user("team"), Action::Change(lower)));
    let preview = store.preview(&[wish], ADMIN, &[team]).await.unwrap();
    assert_eq!(preview.falls[0].refusal.reason(), "rights_lowered");
    assert_eq!(preview.loses.pair_count, 0);
}

async fn effective_settings_name_their_place(ground: Ground) {
    let store = furnished(&ground).await;
    change(
        &store,
        [
            make_unit("/Sales/Field/North", "off"),
            Directive::Unit(
                unit("/Sales/Field/North"),
                Action::Change(UnitPatch { imap: Some(None), ..UnitPatch::default() }),
            ),
            Directive::Group(
                group("pilot"),
                Action::Change(GroupPatch { pop: set("any"), ..GroupPatch::default() }),
            ),
        ],
    )
    .await
    .unwrap();
    store.read(|directory| {
        let of = |path: &str, service| directory.effective_for_unit(&unit(path), service, NOW);
        let north = of("/Sales/Field/North", Service::Imap);
        assert_eq!(north.place, Place::Unit(unit("/Sales/Field")));
        assert_eq!(north.access, Access::Only(vec![app("two")]));
        assert_eq!(of("/Sales/Field/North", Service::Pop).place, Place::Default);
        assert_eq!(of("/Unheard/Of", Service::Imap).place, Place::Unit(unit("/")));
        let ann = directory.effective_for_user(&user("ann"), Service::Pop, NOW).unwrap();
        assert_eq!((ann.access, ann.place), (Access::Any, Place::Group(group("pilot"))));
        assert_eq!(directory.effective_for_user(&user("nobody"), Service::Pop, NOW), None);
    });
}

async fn a_change_of_one_process_reaches_the_other(ground: Ground) {
    let (one, other) = (furnished(&ground).await, open(&ground).await);
    change(&one, [Directive::MoveUnit { from: unit("/Sales"), to: unit("/Trade") }]).await.unwrap();
    other.catch_up().await.unwrap();
    assert_eq!(other.read(|directory| directory.unit_of(&user("bob"))), Some(unit("/Trade/Field")));
    assert_eq!(ask(&other, "ann", "one"), "yes");
}

async fn a_plan_is_bound_to_the_version_it_was_made_against(ground: Ground) {
    let store = furnished(&ground).await;
    let document = file::parse("[unit.\"/\"]\nimap = \"off\"\n[unit.\"/New\"]\n").unwrap();
    let plan = store.plan(&document, "policy.toml", &[]).await.unwrap();
    assert_eq!((plan.counts.added, plan.counts.changed, plan.counts.removed), (1, 1, 0));
    assert_eq!(plan.version, store.policy_version().await.unwrap());
    let words: Vec<_> = plan
        .changes
        .iter()
        .map(|change| (change.place.to_string(), change.before.as_deref(), change.after.as_deref()))
        .collect();
    assert_eq!(
        words,
        [
            ("unit \"/New\"".to_owned(), None, Some("imap inherits, pop inherits")),
            ("unit \"/\"".to_owned(), Some("imap any, pop inherits"), Some("imap off, pop inherits")),
        ]
    );
    assert!(store.unit(&unit("/New")).await.unwrap().is_none(), "a plan changes nothing");
    // A grant is no change of the policy; somebody else's change is.
    store
        .set_grant(&user("ann"), &user("ann"), &app("one"), crate::policy::GrantState::Active, ("t", None), NOW)
        .await
        .unwrap();
    assert_eq!(plan.version, store.policy_version().await.unwrap());
    change(&store, [make_user("cid", "/")]).await.unwrap();
    let stale = store.apply_expecting(&document, "policy.toml", "me", Some(plan.version)).await;
    assert!(matches!(stale, Err(StoreError::Stale { .. })), "{stale:?}");
    let version = store.policy_version().await.unwrap();
    assert!(store.apply_expecting(&document, "policy.toml", "me", Some(version)).await.is_ok());
    assert_eq!(store.unit(&unit("/")).await.unwrap().unwrap().managed_by, "file");
}

async fn a_list_of_users_is_imported_whole_or_reported_line_by_line(ground: Ground) {
    let store = furnished(&ground).await;
    let read = |text: &str| crate::policy::import::read_users(text).unwrap();
    let number = *store.changes().borrow();

    let wrong = read(
        "address,unit,groups\ncid@example.com,/Slaes,\nbob@example.com,/Sales,nobody\nteam@example.com,/,\nx,/,\n",
    );
    let report = store.import(&wrong, ADMIN, false).await.unwrap();
    assert_eq!((report.wrong_count, report.is_done), (4, false));
    for ((line, wrong), (at, said)) in report.wrong.iter().zip([
        (2, "there is no unit \"/Slaes\""),
        (3, "there is no group \"nobody\""),
        (4, "it is a shared mailbox"),
        (5, "is not an address"),
    ]) {
        assert!(*line == at && wrong.contains(said), "{line}: {wrong}");
    }
    assert_eq!(*store.changes().borrow(), number);

    let list = read(
        "address,unit,suspended,groups\ncid@example.com,/Sales,,pilot\nann@example.com,,,pilot\n\
         bob@example.com,/Sales/Field,yes,pilot\n",
    );
    let dry = store.import(&list, ADMIN, true).await.unwrap();
    assert_eq!((dry.made, dry.changed, dry.same, dry.is_done), (1, 1, 1, false));
    assert_eq!(*store.changes().borrow(), number);
    assert_eq!(store.user(&user("cid")).await.unwrap(), None);

    let done = store.import(&list, ADMIN, false).await.unwrap();
    assert_eq!(Imported { is_done: true, ..dry }, done);
    assert_eq!(ask(&store, "cid", "one"), "yes");
    assert_eq!(ask(&store, "bob", "two"), "user_suspended");
    let members = store.users(&UserFilter { group: Some(group("pilot")), ..UserFilter::default() }, None, 10).await;
    assert_eq!(members.unwrap().rows.len(), 3);
    let rows = store.audit_recent(&AuditFilter::default()).await.unwrap();
    let summary = rows.iter().find(|row| row.event == "directory.imported").unwrap();
    assert_eq!(
        summary.detail.as_deref(),
        Some("by root@example.com (as asked in ticket 7): 1 users made, 1 changed, 1 as before")
    );

    let again = store.import(&list, ADMIN, false).await.unwrap();
    assert_eq!((again.made, again.changed, again.same, again.is_done), (0, 0, 3, false));
    // Within a subtree, nobody from outside it, and no groups.
    let mixed = read(
        "address,unit,groups\ncid@example.com,,\nbob@example.com,/Sales/Field,\n\
         eva@example.com,/Sales/Field,pilot\nfay@example.com,/Sales,\n",
    );
    let field = unit("/Sales/Field");
    let report = store.import(&mixed, Actor { within: Some(&field), ..ADMIN }, false).await.unwrap();
    assert_eq!(report.wrong.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 4, 5], "{report:?}");
    // A user without a unit, who is not there yet, is a mistake of the list.
    let report = store.import(&read("address\ndora@example.com\n"), ADMIN, false).await.unwrap();
    assert!(report.wrong[0].1.contains("the user is in no unit"), "{report:?}");
}

async fn every_user_of_a_long_list_is_in_the_audit_log(ground: Ground) {
    let store = open(&ground).await;
    let list: String = (0..300).map(|n| format!("u{n}@example.com,/\n")).collect();
    let list = crate::policy::import::read_users(&format!("address,unit\n{list}")).unwrap();
    assert_eq!(store.import(&list, ADMIN, false).await.unwrap().made, 300);
    let filter = AuditFilter { event: Some("user.made".to_owned()), limit: 1_000, ..AuditFilter::default() };
    assert_eq!(store.audit_recent(&filter).await.unwrap().len(), 300);
}

async fn a_role_goes_with_whoever_has_it_and_the_last_super_admin_stays(ground: Ground) {
    let store = open(&ground).await;
    change(&store, ["ann", "bob"].map(|name| make_user(name, "/"))).await.unwrap();
    let give = async |name: &str, role: Role| store.set_role(&user(name), &role, "root", NOW).await.map(drop);
    let remove = async |name: &str| change(&store, [Directive::User(user(name), Action::Remove)]).await.map(drop);
    let role = async |name: &str| store.role_of(&user(name)).await.unwrap();
    give("ann", Role::Super).await.unwrap();
    let last = remove("ann").await;
    assert!(matches!(&last, Err(EditError::LastSuper { user: who }) if *who == user("ann")), "{last:?}");
    give("bob", Role::Super).await.unwrap();
    remove("ann").await.unwrap();
    assert_eq!(role("ann").await, Role::User);
    let filter = AuditFilter { event: Some("role.changed".to_owned()), ..AuditFilter::default() };
    let told = store.audit_recent(&filter).await.unwrap();
    assert_eq!(told[0].user.as_deref(), Some("ann@example.com"));
    let detail = told[0].detail.as_deref().unwrap();
    assert!(detail.starts_with("by root@example.com") && detail.ends_with("super -> user"), "{detail}");

    // A policy file too; but the last super admin stays one, and is no subtree's to make again.
    let apply = async |text: &str| store.apply(&file::parse(text).unwrap(), "policy.toml").await.unwrap();
    apply("[user.\"eva@example.com\"]\nunit = \"/\"\n[user.\"zed@example.com\"]\nunit = \"/\"\n").await;
    give("eva", Role::Auditor).await.unwrap();
    give("zed", Role::Super).await.unwrap();
    give("bob", Role::User).await.unwrap();
    apply("").await;
    assert_eq!((role("eva").await, role("zed").await), (Role::User, Role::Super));
    let told = store.audit_recent(&filter).await.unwrap();
    assert_eq!(told[0].detail.as_deref(), Some("by policy.toml: auditor -> user"));
    let list = crate::policy::import::read_users("address,unit\nzed@example.com,/\n").unwrap();
    let report = store.import(&list, Actor { within: Some(&unit("/")), ..ADMIN }, false).await.unwrap();
    assert!(report.wrong[0].1.contains("has a role from before"), "{report:?}");
}
