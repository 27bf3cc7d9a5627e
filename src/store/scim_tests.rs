#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use std::sync::Arc;

use super::*;
use crate::model::{ClientId, MailHome, Service};
use crate::policy::{Access, Rights, Setting};
use crate::store::{
    Action, Actor, AuditFilter, Directive, EditError, GroupPatch, MailboxPatch, Provision, ScimRecord, UserPatch,
    Wish,
    tests::ground::{Ground, on_both},
};

on_both! {
    a_user_is_made_renamed_and_removed_under_one_id_that_is_never_used_again;
    a_group_is_renamed_with_its_settings_and_members;
    rows_of_others_get_an_id_when_they_are_first_seen_and_keep_it;
    a_list_is_cut_to_a_subtree_and_goes_by_pages_both_ways;
    what_is_stale_or_gone_changes_nothing;
    within_a_subtree_a_new_address_takes_nothing_over_that_is_out_of_reach;
}

const OKTA: Actor<'_> = Actor { by: "token 3 (okta)", reason: Some("SCIM"), within: None };

fn user(name: &str) -> UserId {
    UserId::parse(&format!("{name}@example.com")).unwrap()
}

fn unit(path: &str) -> UnitPath {
    UnitPath::parse(path).unwrap()
}

fn group_id(name: &str) -> GroupId {
    GroupId::parse(name).unwrap()
}

fn in_unit(path: &str) -> UserPatch {
    UserPatch { unit: Some(unit(path)), ..UserPatch::default() }
}

fn record(document: &str) -> ScimRecord {
    ScimRecord { external_id: Some("X7".to_owned()), document: document.to_owned() }
}

async fn store(ground: &Ground) -> Arc<Store> {
    let store = Store::open(&ground.settings()).await.unwrap();
    let wishes = [
        Directive::Unit(unit("/Sales"), Action::Make(Default::default())),
        Directive::Unit(unit("/Sales/Field"), Action::Make(Default::default())),
        Directive::User(user("bob"), Action::Make(in_unit("/Sales"))),
        Directive::User(user("cid"), Action::Make(in_unit("/Sales/Field"))),
        Directive::User(user("root"), Action::Make(in_unit("/"))),
    ];
    store.change(&wishes.map(Wish::from), OKTA).await.unwrap();
    store
}

async fn by_id(store: &Store, id: &ScimId) -> Option<ScimUser> {
    let found = store.scim_users_of(&UnitPath::root(), &ScimKeys::Ids(vec![id.as_str()])).await.unwrap();
    found.into_iter().next()
}

async fn make(store: &Store, name: &str, document: &str) -> ScimUser {
    let made = Provision::MakeUser(user(name), in_unit("/Sales"));
    let (id, _) = store.provision(&made, &record(document), OKTA).await.unwrap();
    by_id(store, &id).await.unwrap()
}

async fn a_user_is_made_renamed_and_removed_under_one_id_that_is_never_used_again(ground: Ground) {
    let store = store(&ground).await;
    let ann = make(&store, "ann", "{\"title\":\"Chief\"}").await;
    assert_eq!((ann.id.as_str().len(), &*ann.document, ann.suspended), (36, "{\"title\":\"Chief\"}", false));
    assert!(store.read(|directory| directory.knows(&user("ann"))));
    let external = store.scim_users_of(&UnitPath::root(), &ScimKeys::ExternalIds(vec!["X7"])).await.unwrap();
    assert_eq!(external, std::slice::from_ref(&ann));

    // What an admin and the user themselves gave goes over to the new address.
    let app = ClientId::parse("test-mail").unwrap();
    let only = Setting { access: Access::Only(vec![app]), until: None };
    let wishes = [
        Directive::Group(
            group_id("pilot"),
            Action::Make(GroupPatch { add: vec![user("ann")], ..Default::default() }),
        ),
        Directive::User(
            user("ann"),
            Action::Change(UserPatch {
                imap: Some(Some(only.clone())),
                mail: Some(Some(MailHome::Maildir)),
                ..Default::default()
            }),
        ),
        Directive::Mailbox(
            user("team"),
            Action::Make(MailboxPatch { add: vec![(user("ann"), Rights::Read)], ..Default::default() }),
        ),
    ];
    store.change(&wishes.map(Wish::from), OKTA).await.unwrap();
    let now = UnixTime::from(std::time::SystemTime::now());
    store.set_self_switch(&user("ann"), Service::Pop, true, now).await.unwrap();
    let before = by_id(&store, &ann.id).await.unwrap();
    assert!(before.version > ann.version && before.changed_at >= ann.changed_at);
    let rename = Provision::ChangeUser {
        id: ann.id.clone(),
        from: user("ann"),
        to: user("ann.lee"),
        patch: UserPatch { suspended: Some(true), ..UserPatch::default() },
        expect: before.version,
    };
    let (id, _) = store.provision(&rename, &record("{}"), OKTA).await.unwrap();
    let renamed = by_id(&store, &id).await.unwrap();
    assert_eq!((&renamed.id, &renamed.address, renamed.suspended), (&ann.id, &user("ann.lee"), true));
    assert_eq!(renamed.made_at, ann.made_at);
    let row = store.user(&user("ann.lee")).await.unwrap().unwrap().value;
    assert_eq!((row.unit, row.settings.imap, row.groups), (unit("/Sales"), Some(only), vec![group_id("pilot")]));
    assert_eq!((row.own_off.pop, row.own_off.imap, row.mail), (true, false, Some(MailHome::Maildir)));
    let team = store.mailbox(&user("team")).await.unwrap().unwrap().value;
    assert_eq!(team.members, [(user("ann.lee"), Rights::Read)]);
    assert!(store.user(&user("ann")).await.unwrap().is_none());
    assert!(!store.read(|directory| directory.knows(&user("ann"))));

    let gone = Directive::User(user("ann.lee"), Action::Remove);
    store.change(&[gone.into()], OKTA).await.unwrap();
    assert_eq!(by_id(&store, &ann.id).await, None);
    let again = make(&store, "ann.lee", "{}").await;
    assert_ne!(again.id, ann.id);
    let told =
        store.audit_recent(&AuditFilter { user: Some("ann@example.com".into()), ..Default::default() }).await;
    let told: Vec<_> =
        told.unwrap().iter().map(|row| (row.event.to_string(), row.detail.clone().unwrap())).collect();
    assert!(told.iter().any(|(event, _)| event == "user.removed"), "{told:?}");
    assert!(told.iter().any(|(event, detail)| event == "user.made" && detail.contains("by token 3 (okta) (SCIM)")));
}

async fn a_group_is_renamed_with_its_settings_and_members(ground: Ground) {
    let store = store(&ground).await;
    let patch = GroupPatch {
        pop: Some(Some(Setting { access: Access::Any, until: None })),
        priority: Some(7),
        members: Some(vec![user("bob"), user("cid")]),
        ..GroupPatch::default()
    };
    let made = Provision::MakeGroup(group_id("field"), patch);
    let (id, _) = store.provision(&made, &record("{}"), OKTA).await.unwrap();
    let found = store.scim_groups_of(&ScimKeys::Ids(vec![id.as_str()])).await.unwrap();
    let rename = Provision::ChangeGroup {
        id: id.clone(),
        from: group_id("field"),
        to: group_id("road"),
        patch: GroupPatch { remove: vec![user("cid")], ..GroupPatch::default() },
        expect: found[0].version,
    };
    store.provision(&rename, &record("{}"), OKTA).await.unwrap();
    let group = store.group(&group_id("road")).await.unwrap().unwrap().value;
    assert_eq!((group.priority, group.settings.pop.map(|setting| setting.access)), (7, Some(Access::Any)));
    let members = store.scim_members(&group_id("road"), 10).await.unwrap();
    assert_eq!(members.iter().map(|(_, user)| user.clone()).collect::<Vec<_>>(), [user("bob")]);
    let with = store.scim_groups_with(&[members[0].0.as_str(), "nobody"]).await.unwrap();
    assert_eq!(with.iter().map(|group| (&group.id, &group.name)).collect::<Vec<_>>(), [(&id, &group_id("road"))]);
    assert!(store.group(&group_id("field")).await.unwrap().is_none());
    store.change(&[Directive::Group(group_id("road"), Action::Remove).into()], OKTA).await.unwrap();
    assert_eq!(store.scim_groups_of(&ScimKeys::Ids(vec![id.as_str()])).await.unwrap(), []);
}

async fn rows_of_others_get_an_id_when_they_are_first_seen_and_keep_it(ground: Ground) {
    let store = store(&ground).await;
    let other = Store::open(&ground.settings()).await.unwrap();
    let names = &ScimKeys::Names(vec!["bob@example.com", "nobody@example.com"]);
    let top = UnitPath::root();
    let (one, two) = tokio::join!(store.scim_users_of(&top, names), other.scim_users_of(&top, names));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.len(), &one, &*one[0].document), (1, &two, "{}"));
    assert_eq!(store.scim_users_of(&top, names).await.unwrap(), one);
    let known = store.scim_addresses(&[one[0].id.as_str(), "nobody"]).await.unwrap();
    assert_eq!(known, [(one[0].id.clone(), user("bob"))]);
    // The policy file's rows too, and their ids go with them.
    let document = crate::policy::file::parse("[user.\"eva@example.com\"]\nunit = \"/\"\n").unwrap();
    store.apply(&document, "policy.toml").await.unwrap();
    let eva = store.scim_users_of(&top, &ScimKeys::Names(vec!["eva@example.com"])).await.unwrap();
    assert_eq!(eva.len(), 1);
    store.apply(&crate::policy::file::parse("").unwrap(), "policy.toml").await.unwrap();
    assert_eq!(by_id(&store, &eva[0].id).await, None);
    assert_eq!(store.scim_addresses(&[eva[0].id.as_str()]).await.unwrap(), []);
}

async fn a_list_is_cut_to_a_subtree_and_goes_by_pages_both_ways(ground: Ground) {
    let store = store(&ground).await;
    let list = async |top: &str, after: Option<&str>, skip, limit, descending| {
        let page = ScimPage { after, skip, limit, descending };
        let users = store.scim_users(&unit(top), page).await.unwrap();
        users.iter().map(|user| user.address.local().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list("/", None, 0, 10, false).await, ["bob", "cid", "root"]);
    assert_eq!(list("/", None, 1, 1, false).await, ["cid"]);
    assert_eq!(list("/", None, 0, 2, true).await, ["root", "cid"]);
    assert_eq!(list("/", Some("cid@example.com"), 0, 10, true).await, ["bob"]);
    assert_eq!(list("/Sales", None, 0, 10, false).await, ["bob", "cid"]);
    assert_eq!(list("/Sales/Field", None, 0, 10, true).await, ["cid"]);
    for (top, count) in [("/", 3), ("/Sales", 2), ("/Sales/Field", 1), ("/Staff", 0)] {
        assert_eq!(store.scim_users_count(&unit(top)).await.unwrap(), count, "{top}");
    }
    let names = ScimKeys::Names(vec!["root@example.com", "cid@example.com"]);
    assert_eq!(store.scim_users_of(&unit("/Sales"), &names).await.unwrap().len(), 1);
    assert_eq!(store.scim_groups_count().await.unwrap(), 0);
}

async fn what_is_stale_or_gone_changes_nothing(ground: Ground) {
    let store = store(&ground).await;
    let ann = make(&store, "ann", "{}").await;
    let change = |id: &str, from: &str, expect| Provision::ChangeUser {
        id: ScimId::new(id),
        from: user(from),
        to: user("zoe"),
        patch: UserPatch::default(),
        expect,
    };
    let number = store.number();
    let stale = store.provision(&change(ann.id.as_str(), "ann", ann.version - 1), &record("{}"), OKTA).await;
    assert!(matches!(stale, Err(EditError::Stale { .. })), "{stale:?}");
    for (id, from) in [("nobody", "ann"), (ann.id.as_str(), "bob")] {
        let absent = store.provision(&change(id, from, ann.version), &record("{}"), OKTA).await;
        assert!(matches!(absent, Err(EditError::Absent { .. })), "{absent:?}");
    }
    let taken = Provision::MakeUser(user("bob"), in_unit("/"));
    assert!(matches!(store.provision(&taken, &record("{}"), OKTA).await, Err(EditError::Exists { .. })));
    let nowhere = Provision::MakeUser(user("eva"), in_unit("/Nowhere"));
    assert!(matches!(store.provision(&nowhere, &record("{}"), OKTA).await, Err(EditError::Wrong { .. })));
    assert_eq!((store.number(), by_id(&store, &ann.id).await), (number, Some(ann)));
}

async fn within_a_subtree_a_new_address_takes_nothing_over_that_is_out_of_reach(ground: Ground) {
    let store = store(&ground).await;
    let rename = async |from: &str, to: &str| {
        let found = store.scim_users_of(&UnitPath::root(), &ScimKeys::Names(vec![user(from).as_str()])).await;
        let found = found.unwrap().remove(0);
        let wish = Provision::ChangeUser {
            id: found.id,
            from: user(from),
            to: user(to),
            patch: UserPatch::default(),
            expect: found.version,
        };
        let sales = unit("/Sales");
        store.provision(&wish, &record("{}"), Actor { within: Some(&sales), ..OKTA }).await.map(drop)
    };
    let member = |name: &str, at: Option<UnitPath>, who: &str| {
        let add = vec![(user(who), Rights::Read)];
        let patch = MailboxPatch { unit: Some(at), add, ..MailboxPatch::default() };
        Wish::from(Directive::Mailbox(user(name), Action::Make(patch)))
    };
    let join = GroupPatch { add: vec![user("bob")], ..GroupPatch::default() };
    let wishes = [
        Directive::Group(group_id("pilot"), Action::Make(join)).into(),
        Directive::User(user("dan"), Action::Make(in_unit("/Sales"))).into(),
        member("own", Some(unit("/Sales/Field")), "cid"),
        member("all", None, "dan"),
    ];
    store.change(&wishes, OKTA).await.unwrap();
    store.set_role(&user("gone"), &crate::store::Role::Auditor, "root", UnixTime(1)).await.unwrap();
    for (from, to, said) in [
        ("bob", "new", "is in the group \"pilot\""),
        ("dan", "new", "is in a shared mailbox outside"),
        ("cid", "gone", "\"gone@example.com\" has a role"),
    ] {
        let error = rename(from, to).await.unwrap_err();
        assert!(matches!(error, EditError::OutOfReach { .. }), "{from}: {error}");
        assert!(error.to_string().contains(said), "{error}");
        assert!(store.user(&user(from)).await.unwrap().is_some());
    }
    rename("cid", "new").await.unwrap();
    let own = store.mailbox(&user("own")).await.unwrap().unwrap().value;
    assert_eq!(own.members, [(user("new"), Rights::Read)]);
}
