//! What an admin of a subtree may change, looked at in the change's own turn; addresses that were somebody's; and roles that
//! stay with their unit.

use super::*;
use crate::model::Secret;
use crate::store::{ApiTokenId, NewApiToken, feed};

on_both! {
    reach_is_looked_at_when_the_turn_comes;
    nothing_outside_is_touched_and_nothing_is_moved_out_or_in;
    a_unit_with_somebody_whose_role_reaches_beyond_is_not_moved_by_a_subtrees_admin;
    a_former_users_mail_is_opened_by_nobody_but_a_super_admin_who_says_so;
    what_was_somebodys_outside_is_not_for_a_subtree_to_take;
    a_former_address_goes_where_its_unit_goes;
    the_policy_file_leaves_former_addresses_too;
    addresses_that_were_left_before_they_were_kept_are_found_in_grants_and_audit_log;
    roles_and_tokens_move_with_their_unit_and_keep_it_from_being_removed;
    a_unit_that_the_policy_file_drops_takes_its_roles_along;
    an_app_is_let_in_on_the_list_that_is_in_force;
    rows_of_the_audit_log_name_the_unit_that_they_are_about;
}

const SALES: &str = "/Sales";

fn board() -> Directive {
    make_unit("/Board", "any")
}

fn remove(name: &str) -> Directive {
    Directive::User(user(name), Action::Remove)
}

fn shared(name: &str, path: &str, members: &[&str]) -> Directive {
    shared_by(name, path, members, false)
}

fn shared_by(name: &str, path: &str, members: &[&str], take_over: bool) -> Directive {
    let members = members.iter().map(|member| (user(member), Rights::Write)).collect();
    let patch =
        MailboxPatch { unit: Some(Some(unit(path))), members: Some(members), take_over, ..Default::default() };
    Directive::Mailbox(user(name), Action::Make(patch))
}

/// The same changes by the admin of `/Sales`.
async fn by_sales(store: &Store, directives: impl IntoIterator<Item = Directive>) -> Result<Changed, EditError> {
    let wishes: Vec<Wish> = directives.into_iter().map(Wish::from).collect();
    let top = unit(SALES);
    store.change(&wishes, Actor { by: "sales@example.com", reason: None, within: Some(&top) }).await
}

fn is_out(outcome: Result<Changed, EditError>, words: &str) {
    let error = outcome.unwrap_err();
    assert!(matches!(&error, EditError::OutOfReach { .. }) && error.to_string().contains(words), "{error}");
}

fn is_absent(outcome: Result<Changed, EditError>) {
    let error = outcome.unwrap_err();
    assert!(matches!(&error, EditError::Absent { .. }), "{error}");
}

async fn former(store: &Store, name: &str) -> Option<(String, Option<String>)> {
    use sqlx::Row;
    let query = sqlx::query("SELECT kind, unit FROM former_addresses WHERE address = $1");
    let row = query.bind(user(name).to_string()).fetch_optional(&store.pool).await.unwrap();
    row.map(|row| (row.get(0), row.get(1)))
}

fn was(kind: &str, path: &str) -> Option<(String, Option<String>)> {
    Some((kind.to_owned(), Some(path.to_owned())))
}

async fn token(store: &Store, path: &str) -> (ApiTokenId, Secret) {
    let now = UnixTime::from(SystemTime::now());
    let expires_at = now + std::time::Duration::from_secs(3600);
    let new = NewApiToken { name: "t".to_owned(), role: Role::Admin(unit(path)), scopes: Vec::new(), expires_at };
    store.make_api_token(&new, "root", now).await.unwrap()
}

async fn role_of_token(store: &Store, secret: &Secret) -> Option<Role> {
    let found = store.find_api_token(secret, UnixTime::from(SystemTime::now())).await.unwrap();
    found.map(|token| token.role)
}

async fn reach_is_looked_at_when_the_turn_comes(ground: Ground) {
    let store = furnished(&ground).await;
    change(&store, [board()]).await.unwrap();
    // Somebody else has the turn and moves ann away, while the subtree's admin waits.
    let mut write = feed::Write::begin(&store, "testing").await.unwrap();
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { by_sales(&store, [Directive::User(user("ann"), Action::Change(in_unit("/Sales/Field")))]).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let query = sqlx::query("UPDATE users SET unit = '/Board' WHERE address = 'ann@example.com'");
    query.execute(&mut *write.tx).await.unwrap();
    write.touched.users.insert(user("ann"));
    write.commit(NOW).await.unwrap();
    is_absent(waiting.await.unwrap());
    assert_eq!(store.user(&user("ann")).await.unwrap().unwrap().value.unit, unit("/Board"));

    // A role that is given meanwhile counts as well.
    let mut write = feed::Write::begin(&store, "testing").await.unwrap();
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { by_sales(&store, [remove("bob")]).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let given = crate::store::roles::put(&mut write.tx, &user("bob"), &Role::Auditor, "root", NOW).await;
    assert!(given.is_ok());
    write.commit(NOW).await.unwrap();
    is_out(waiting.await.unwrap(), "auditor");
    assert!(store.user(&user("bob")).await.unwrap().is_some());
}

async fn nothing_outside_is_touched_and_nothing_is_moved_out_or_in(ground: Ground) {
    let store = furnished(&ground).await;
    change(&store, [board(), make_user("eve", "/Board"), shared("club", "/Board", &["eve"])]).await.unwrap();
    let member = |name: &str| MailboxPatch { add: vec![(user(name), Rights::Read)], ..Default::default() };
    for directive in [
        make_unit("/Mine", "any"),
        Directive::Unit(unit("/Board"), Action::Change(imap("off"))),
        Directive::MoveUnit { from: unit("/Sales/Field"), to: unit("/Board/Field") },
        Directive::MoveUnit { from: unit("/Board"), to: unit("/Sales/Board") },
        Directive::User(user("eve"), Action::Change(UserPatch { suspended: Some(true), ..Default::default() })),
        Directive::User(user("ann"), Action::Change(in_unit("/Board"))),
        make_user("fay", "/Board"),
        remove("eve"),
        Directive::Mailbox(user("club"), Action::Change(member("ann"))),
        shared("own", SALES, &["ann", "eve"]),
        // Of no unit, so nobody's but the organisation's.
        Directive::Mailbox(user("team"), Action::Remove),
    ] {
        is_absent(by_sales(&store, [directive]).await);
    }
    for (directive, words) in [
        (Directive::Unit(unit(SALES), Action::Remove), "own admin"),
        (Directive::MoveUnit { from: unit(SALES), to: unit("/Sales/Below") }, "own admin"),
        (Directive::Mailbox(user("free"), Action::Make(MailboxPatch::default())), "no unit"),
        (Directive::Group(group("pilot"), Action::Remove), "whole organisation"),
        (Directive::App(app("one"), Action::Make(AppPatch::default())), "whole organisation"),
    ] {
        is_out(by_sales(&store, [directive]).await, words);
    }
    // In the subtree all of that goes.
    let list = [
        make_user("fay", "/Sales/Field"),
        shared("own", SALES, &["ann", "fay"]),
        Directive::User(user("ann"), Action::Change(in_unit("/Sales/Field"))),
        Directive::MoveUnit { from: unit("/Sales/Field"), to: unit("/Sales/Road") },
        remove("fay"),
    ];
    by_sales(&store, list).await.unwrap();
}

async fn a_unit_with_somebody_whose_role_reaches_beyond_is_not_moved_by_a_subtrees_admin(ground: Ground) {
    let store = furnished(&ground).await;
    let move_it = || Directive::MoveUnit { from: unit("/Sales/Field"), to: unit("/Sales/Road") };
    store.set_role(&user("bob"), &Role::Admin(unit("/Board")), "root", NOW).await.unwrap();
    is_out(by_sales(&store, [move_it()]).await, "reaches beyond /Sales");
    store.set_role(&user("bob"), &Role::Admin(unit("/Sales/Field")), "root", NOW).await.unwrap();
    by_sales(&store, [move_it()]).await.unwrap();
    assert_eq!(store.role_of(&user("bob")).await.unwrap(), Role::Admin(unit("/Sales/Road")));
}

async fn a_former_users_mail_is_opened_by_nobody_but_a_super_admin_who_says_so(ground: Ground) {
    let store = furnished(&ground).await;
    let left = |outcome: Result<Changed, EditError>| {
        let error = outcome.unwrap_err();
        assert!(matches!(&error, EditError::Left { .. }), "{error}");
        assert!(
            error.to_string().contains("bob@example.com") && error.to_string().contains("take_over"),
            "{error}"
        );
    };
    // In one list too.
    left(change(&store, [remove("bob"), shared("bob", SALES, &["ann"])]).await);
    assert!(store.user(&user("bob")).await.unwrap().is_some(), "all or nothing");
    change(&store, [remove("bob")]).await.unwrap();
    assert_eq!(former(&store, "bob").await, was("user", "/Sales/Field"));
    left(change(&store, [shared("bob", SALES, &["ann"])]).await);
    left(by_sales(&store, [shared("bob", SALES, &["ann"])]).await);
    is_out(by_sales(&store, [shared_by("bob", SALES, &["ann"], true)]).await, "mail of a former user");
    // The same person again is another matter.
    by_sales(&store, [make_user("bob", SALES)]).await.unwrap();
    assert_eq!(former(&store, "bob").await, None);
    by_sales(&store, [remove("bob")]).await.unwrap();
    change(&store, [shared_by("bob", SALES, &["ann"], true)]).await.unwrap();
    assert_eq!(ask_of(&store, "ann", "bob", "one"), "yes");
    // From then on it was a shared mailbox.
    change(&store, [Directive::Mailbox(user("bob"), Action::Remove)]).await.unwrap();
    assert_eq!(former(&store, "bob").await, was("mailbox", SALES));
    by_sales(&store, [shared("bob", SALES, &["ann"])]).await.unwrap();
}

async fn what_was_somebodys_outside_is_not_for_a_subtree_to_take(ground: Ground) {
    let store = furnished(&ground).await;
    change(&store, [board(), make_user("ceo", "/Board"), shared("club", "/Board", &["ceo"])]).await.unwrap();
    change(&store, [remove("ceo"), Directive::Mailbox(user("club"), Action::Remove)]).await.unwrap();
    for name in ["ceo", "club"] {
        for directive in [make_user(name, SALES), shared(name, SALES, &["ann"]), shared_by(name, SALES, &[], true)]
        {
            is_out(by_sales(&store, [directive]).await, "was not in this unit");
        }
    }
    // A shared mailbox of no unit was nobody's in a subtree either.
    change(&store, [Directive::Mailbox(user("team"), Action::Remove)]).await.unwrap();
    is_out(by_sales(&store, [shared("team", SALES, &["ann"])]).await, "was not in this unit");
    // A list of users says so line by line, and a super admin's makes them.
    let list = crate::policy::import::read_users("address,unit\nceo@example.com,/Sales\n").unwrap();
    let top = unit(SALES);
    let report = store.import(&list, Actor { within: Some(&top), ..ADMIN }, false).await.unwrap();
    assert!(report.wrong[0].1.contains("was not in this unit"), "{report:?}");
    assert_eq!(store.import(&list, ADMIN, false).await.unwrap().made, 1);
    assert_eq!(former(&store, "ceo").await, None);
}

async fn a_former_address_goes_where_its_unit_goes(ground: Ground) {
    let store = furnished(&ground).await;
    change(&store, [board(), remove("bob")]).await.unwrap();
    change(&store, [Directive::MoveUnit { from: unit(SALES), to: unit("/Board/Sales") }]).await.unwrap();
    assert_eq!(former(&store, "bob").await, was("user", "/Board/Sales/Field"));
    // Another unit of that path has no part in it.
    change(&store, [make_unit(SALES, "any"), make_unit("/Sales/Field", "any")]).await.unwrap();
    is_out(by_sales(&store, [make_user("bob", SALES)]).await, "was not in this unit");
    change(&store, [Directive::Unit(unit("/Board/Sales/Field"), Action::Remove)]).await.unwrap();
    assert_eq!(former(&store, "bob").await, was("user", "/Board/Sales"));
}

async fn the_policy_file_leaves_former_addresses_too(ground: Ground) {
    let store = open(&ground).await;
    let apply = async |text: &str| store.apply(&file::parse(text).unwrap(), "policy.toml").await.unwrap();
    let units = "[unit.\"/\"]\nimap = \"any\"\n[unit.\"/Sales\"]\n[unit.\"/Board\"]\n";
    let people =
        "[user.\"ceo@example.com\"]\nunit = \"/Board\"\n[mailbox.\"club@example.com\"]\nunit = \"/Board\"\n";
    apply(&format!("{units}{people}")).await;
    assert_eq!(former(&store, "ceo").await, None);
    apply(units).await;
    assert_eq!(
        (former(&store, "ceo").await, former(&store, "club").await),
        (was("user", "/Board"), was("mailbox", "/Board"))
    );
    is_out(by_sales(&store, [shared("ceo", SALES, &[])]).await, "was not in this unit");
    // A shared mailbox that becomes a user in one go is in use all the while.
    apply(&format!("{units}{people}")).await;
    assert_eq!((former(&store, "ceo").await, former(&store, "club").await), (None, None));
    apply(&format!("{units}[user.\"club@example.com\"]\nunit = \"/Sales\"\n")).await;
    assert_eq!((former(&store, "ceo").await, former(&store, "club").await), (was("user", "/Board"), None));
}

async fn addresses_that_were_left_before_they_were_kept_are_found_in_grants_and_audit_log(ground: Ground) {
    let store = furnished(&ground).await;
    for (name, owner) in [("ann", "ann"), ("ann", "team"), ("old", "old"), ("ann", "gone")] {
        let state = crate::policy::GrantState::Active;
        store.set_grant(&user(name), &user(owner), &app("one"), state, ("test", None), NOW).await.unwrap();
    }
    change(&store, [remove("bob"), shared("desk", SALES, &[]), Directive::Mailbox(user("desk"), Action::Remove)])
        .await
        .unwrap();
    // As an older version left it.
    for sql in ["DROP TABLE former_addresses", "DELETE FROM _sqlx_migrations WHERE version = 71"] {
        sqlx::query(sql).execute(&store.pool).await.unwrap();
    }
    store.close().await.unwrap();
    let store = open(&ground).await;
    let kind = |name: &'static str| {
        let store = Arc::clone(&store);
        async move { former(&store, name).await.map(|(kind, unit)| (kind, unit.is_none())) }
    };
    for (name, expected) in [
        ("bob", Some("user")),
        ("old", Some("user")),
        ("gone", Some("mailbox")),
        ("desk", Some("mailbox")),
        ("ann", None),
        ("team", None),
    ] {
        assert_eq!(kind(name).await, expected.map(|kind| (kind.to_owned(), true)), "{name}");
    }
    // Where it was nobody knows, so it is the whole organisation's.
    is_out(by_sales(&store, [make_user("bob", SALES)]).await, "was not in this unit");
}

async fn roles_and_tokens_move_with_their_unit_and_keep_it_from_being_removed(ground: Ground) {
    let store = furnished(&ground).await;
    let (field, sales, other) = ("/Sales/Field", SALES, "/Salesmen");
    for (name, path) in [("ann", sales), ("bob", field), ("cid", other)] {
        store.set_role(&user(name), &Role::AccountAccess(unit(path)), "root", NOW).await.unwrap();
    }
    let (id, secret) = token(&store, field).await;
    let swap = [
        make_unit("/Sales/Road", "any"),
        Directive::MoveUnit { from: unit(field), to: unit("/Sales/X") },
        Directive::MoveUnit { from: unit("/Sales/Road"), to: unit(field) },
    ];
    by_sales(&store, swap).await.unwrap();
    let role = async |name: &str| store.role_of(&user(name)).await.unwrap();
    assert_eq!(role("bob").await, Role::AccountAccess(unit("/Sales/X")));
    assert_eq!(role_of_token(&store, &secret).await, Some(Role::Admin(unit("/Sales/X"))));
    assert_eq!(
        (role("ann").await, role("cid").await),
        (Role::AccountAccess(unit(sales)), Role::AccountAccess(unit(other)))
    );
    let told = async |event: &str| {
        let filter = AuditFilter { event: Some(event.to_owned()), ..AuditFilter::default() };
        store.audit_recent(&filter).await.unwrap()[0].detail.clone().unwrap()
    };
    let change_of_bob = "account-access admin of /Sales/Field -> account-access admin of /Sales/X";
    assert_eq!(told("role.changed").await, format!("by sales@example.com: {change_of_bob}"));
    assert!(told("api_token.moved").await.ends_with("admin of /Sales/X"));

    // Whoever has a role there is named, and so are tokens that are good.
    let gone = || Directive::Unit(unit("/Sales/X"), Action::Remove);
    change(&store, [Directive::User(user("bob"), Action::Change(in_unit("/")))]).await.unwrap();
    for named in ["bob@example.com is account-access admin of /Sales/X", "API token"] {
        let error = change(&store, [gone()]).await.unwrap_err();
        assert!(matches!(&error, EditError::InUse { .. }) && error.to_string().contains(named), "{error}");
        store.set_role(&user("bob"), &Role::User, "root", NOW).await.unwrap();
    }
    store.revoke_api_token(id, "root", NOW).await.unwrap();
    change(&store, [gone()]).await.unwrap();
}

async fn a_unit_that_the_policy_file_drops_takes_its_roles_along(ground: Ground) {
    let store = open(&ground).await;
    let apply = async |text: &str| store.apply(&file::parse(text).unwrap(), "policy.toml").await.unwrap();
    apply("[unit.\"/Sales\"]\n[unit.\"/Board\"]\n[unit.\"/Board/Club\"]\n[unit.\"/Staff\"]\n").await;
    change(&store, [make_user("fay", "/Staff")]).await.unwrap();
    for (name, path) in [("ann", SALES), ("bob", "/Board"), ("cid", "/Board/Club"), ("eve", "/Staff")] {
        store.set_role(&user(name), &Role::Admin(unit(path)), "root", NOW).await.unwrap();
    }
    let (_, secret) = token(&store, SALES).await;
    apply("[unit.\"/Board/Club\"]\n").await;
    let role = async |name: &str| store.role_of(&user(name)).await.unwrap();
    assert_eq!((role("ann").await, role_of_token(&store, &secret).await), (Role::User, None));
    // Of these something is left: a unit below, and somebody who is in it.
    assert_eq!(role("bob").await, Role::Admin(unit("/Board")));
    assert_eq!(role("eve").await, Role::Admin(unit("/Staff")));
    let filter = AuditFilter { event: Some("role.changed".to_owned()), ..AuditFilter::default() };
    let told = store.audit_recent(&filter).await.unwrap();
    assert_eq!(told[0].detail.as_deref(), Some("by policy.toml: admin of /Sales -> user"));
}

async fn an_app_is_let_in_on_the_list_that_is_in_force(ground: Ground) {
    let store = furnished(&ground).await;
    let allow = async |store: &Store, id: &str, path: &str| {
        store.allow_app(&app(id), &unit(path), Service::Imap, ADMIN).await.unwrap()
    };
    let limited = |ids: &[&str], until: UnixTime| {
        let access = Access::Only(ids.iter().map(|id| app(id)).collect());
        UnitPatch { imap: Some(Some(Setting { access, until: Some(until) })), ..UnitPatch::default() }
    };
    let own = async |store: &Store, path: &str| store.unit(&unit(path)).await.unwrap().unwrap().value.settings.imap;
    // Its own list has run out, so that of the unit above is in force.
    let past = Directive::Unit(unit("/Sales/Field"), Action::Change(limited(&["one"], NOW)));
    change(&store, [past]).await.unwrap();
    assert_eq!(allow(&store, "new", "/Sales/Field").await, Allowed::Added);
    let list = |ids: &[&str]| Access::Only(ids.iter().map(|id| app(id)).collect());
    assert_eq!(own(&store, "/Sales/Field").await, Some(list(&["one", "two", "new"]).into()));
    assert_eq!(ask(&store, "bob", "new"), "yes");
    assert_eq!(allow(&store, "new", "/Sales/Field").await, Allowed::Already);
    assert_eq!(allow(&store, "new", "/").await, Allowed::Already);
    let off = UnitPatch { pop: set("off"), ..UnitPatch::default() };
    change(&store, [Directive::Unit(unit("/"), Action::Change(off))]).await.unwrap();
    let told = store.allow_app(&app("new"), &unit(SALES), Service::Pop, ADMIN).await.unwrap();
    assert_eq!(told, Allowed::Off(Place::Unit(unit("/"))));

    // A list with an end, the unit's own or inherited, keeps it.
    let friday = UnixTime::from(SystemTime::now()) + std::time::Duration::from_secs(3600);
    let until =
        [Directive::Unit(unit(SALES), Action::Change(limited(&["one"], friday))), make_unit("/Sales/Road", "any")];
    change(&store, until).await.unwrap();
    let inherits = UnitPatch { imap: Some(None), ..UnitPatch::default() };
    change(&store, [Directive::Unit(unit("/Sales/Road"), Action::Change(inherits))]).await.unwrap();
    for path in ["/Sales/Road", SALES] {
        assert_eq!(allow(&store, "new", path).await, Allowed::Added, "{path}");
        let expected = Setting { access: list(&["one", "new"]), until: Some(friday) };
        assert_eq!(own(&store, path).await, Some(expected), "{path}");
    }

    // Another process took one off, and this one has not heard of it.
    let other = open(&ground).await;
    change(&other, [Directive::Unit(unit("/Sales/Field"), Action::Change(imap("two")))]).await.unwrap();
    allow(&store, "late", "/Sales/Field").await;
    assert_eq!(own(&store, "/Sales/Field").await, Some(list(&["two", "late"]).into()));
}

async fn rows_of_the_audit_log_name_the_unit_that_they_are_about(ground: Ground) {
    let store = furnished(&ground).await;
    change(&store, [shared("desk", "/Sales/Field", &["ann"])]).await.unwrap();
    change(&store, [Directive::Mailbox(user("desk"), Action::Remove), remove("ann")]).await.unwrap();
    for (event, path) in [
        ("mailbox.made", Some("/Sales/Field")),
        ("mailbox.removed", Some("/Sales/Field")),
        ("user.made", Some("/Sales/Field")),
        ("user.removed", Some(SALES)),
        ("unit.made", Some("/Sales/Field")),
        ("group.made", None),
    ] {
        let filter = AuditFilter { event: Some(event.to_owned()), ..AuditFilter::default() };
        assert_eq!(store.audit_recent(&filter).await.unwrap()[0].unit.as_deref(), path, "{event}");
    }
}
