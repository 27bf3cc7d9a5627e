//! Promises of the outbox, on SQLite and PostgreSQL.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::*;
use crate::model::{ClientId, UnitPath};
use crate::policy::{GrantKey, GrantState, Setting, file};
use crate::store::{
    Action, Actor, AuditFilter, Directive, EditError, GrantFilter, Role, Settings, UnitPatch, UserPatch, Wish,
    tests::ground::{Ground, on_both},
};

mod clear;

on_both! {
    a_team_grant_that_is_cut_is_told_to_super_admins_admins_of_its_unit_and_who_connected_it;
    what_somebody_does_to_their_own_mailbox_they_are_not_told;
    a_member_who_cuts_their_team_grant_again_and_again_fills_nobodys_mailbox;
    a_revocation_of_many_grants_is_one_notice_for_each_person;
    a_change_that_is_refused_leaves_no_notice_and_one_that_is_made_tells_whoever_loses;
    a_warning_changes_nothing_but_the_outbox;
    no_two_nodes_ever_take_one_delivery;
    a_delivery_whose_sender_vanished_comes_again_after_its_lease_and_the_late_one_is_not_believed;
    a_notice_is_sent_when_all_channels_have_it_and_failed_if_one_gave_up;
    without_channels_notices_are_for_the_console_and_old_ones_go;
    a_notice_is_read_by_its_recipient_alone;
    more_people_than_may_be_told_at_once_is_an_error_and_nothing_is_changed;
    a_hundred_thousand_people_are_told_in_one_transaction_well_within_the_time_of_a_request;
}

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const LEASE: Duration = Duration::from_secs(60);

const POLICY: &str = "
[unit.\"/\"]
imap = \"any\"
[unit.\"/Sales\"]
[unit.\"/Staff\"]
[user.\"ann@example.com\"]
unit = \"/Sales\"
[user.\"bea@example.com\"]
unit = \"/Staff\"
[user.\"root@example.com\"]
unit = \"/\"
[mailbox.\"team@example.com\"]
unit = \"/Sales\"
members = [\"ann@example.com\", \"bea@example.com\"]
[app.\"old-mail\"]
name = \"Old Mail\"
";

fn user(name: &str) -> UserId {
    UserId::parse(&format!("{name}@example.com")).unwrap()
}

fn app(id: &str) -> ClientId {
    ClientId::parse(id).unwrap()
}

fn with(ground: &Ground, channels: &[&str]) -> Settings {
    Settings { channels: channels.iter().map(ToString::to_string).collect(), ..ground.settings() }
}

async fn store(ground: &Ground, channels: &[&str]) -> Arc<Store> {
    let store = Store::open(&with(ground, channels)).await.unwrap();
    store.apply(&file::parse(POLICY).unwrap(), "policy.toml").await.unwrap();
    store
}

/// A grant that `user` has for a mailbox.
async fn grant(store: &Store, who: &str, owner: &str, id: &str) {
    let key = GrantKey { user: user(who), owner: user(owner), app: app(id) };
    store.note(&key, None, NOW).await.unwrap();
}

async fn cut(store: &Store, who: &str, owner: &str, state: GrantState, by: &str) {
    let (who, owner, app) = (user(who), user(owner), app("old-mail"));
    store.set_grant(&who, &owner, &app, state, (by, Some("lost phone")), NOW).await.unwrap();
}

/// Recipient and kind of each notice, the oldest first.
async fn told(store: &Store) -> Vec<(String, &'static str)> {
    let mut found = store.notices(&NoticeFilter::default(), None, 1_000).await.unwrap();
    found.reverse();
    found.iter().map(|notice| (notice.recipient.local().to_owned(), notice.kind.word())).collect()
}

fn texts(list: &[(String, &'static str)]) -> BTreeSet<String> {
    list.iter().map(|(who, kind)| format!("{who} {kind}")).collect()
}

fn sales() -> UnitPath {
    UnitPath::parse("/Sales").unwrap()
}

async fn a_team_grant_that_is_cut_is_told_to_super_admins_admins_of_its_unit_and_who_connected_it(ground: Ground) {
    let store = store(&ground, &["email"]).await;
    let staff = UnitPath::parse("/Staff").unwrap();
    let made = |(who, suspended): (&str, bool)| {
        let patch = UserPatch { unit: Some(UnitPath::root()), suspended: Some(suspended), ..UserPatch::default() };
        Wish::from(Directive::User(user(who), Action::Make(patch)))
    };
    let users = [("sue", false), ("ada", false), ("stu", false), ("sam", false), ("aud", false), ("off", true)];
    store.change(&users.map(made), Actor::all("test")).await.unwrap();
    // Who is suspended is told nothing, and who is no user neither.
    for (who, role) in [
        ("off", Role::Super),
        ("gone", Role::Super),
        ("root", Role::Super),
        ("sue", Role::Admin(sales())),
        ("ada", Role::AccountAccess(UnitPath::root())),
        ("stu", Role::AccountAccess(staff.clone())),
        ("sam", Role::Admin(staff)),
        ("aud", Role::Auditor),
    ] {
        store.set_role(&user(who), &role, "test", NOW).await.unwrap();
    }
    grant(&store, "bea", "team", "old-mail").await;
    cut(&store, "bea", "team", GrantState::Disabled, "root@example.com").await;
    let found = told(&store).await;
    let all = ["ada", "bea", "root", "sue"].map(|who| format!("{who} team_grant_cut"));
    assert_eq!(texts(&found), BTreeSet::from(all));
    assert_eq!(found.len(), 4, "each once: {found:?}");

    let notice = store.notices(&NoticeFilter::default(), None, 1).await.unwrap().remove(0);
    assert_eq!(
        (notice.by.as_str(), notice.body.deed, notice.state),
        ("root@example.com", Deed::Disabled, NoticeState::Queued)
    );
    assert_eq!(notice.body.reason.as_deref(), Some("lost phone"));
    let lost = &notice.body.lost[0];
    assert_eq!(
        (lost.user.as_str(), lost.mailbox.as_str(), lost.app_name.as_deref()),
        ("bea@example.com", "team@example.com", Some("Old Mail"))
    );
    // Disabled again, or enabled, is nothing new to anybody; removed is.
    cut(&store, "bea", "team", GrantState::Disabled, "root@example.com").await;
    cut(&store, "bea", "team", GrantState::Active, "root@example.com").await;
    assert_eq!(told(&store).await.len(), 4);
    cut(&store, "bea", "team", GrantState::Removed, "root@example.com").await;
    assert_eq!(told(&store).await.len(), 8);
    let rows = store.audit_recent(&AuditFilter::default()).await.unwrap();
    let queued: Vec<_> = rows.iter().filter(|row| row.event == "notice.queued").collect();
    assert_eq!(queued.len(), 2, "one row for each change");
    assert_eq!(queued[1].detail.as_deref(), Some("by root@example.com: 4 notices, 1 to 4"));
}

async fn what_somebody_does_to_their_own_mailbox_they_are_not_told(ground: Ground) {
    let store = store(&ground, &["email"]).await;
    grant(&store, "ann", "ann", "old-mail").await;
    cut(&store, "ann", "ann", GrantState::Disabled, "ann@example.com").await;
    assert_eq!(told(&store).await, []);
    cut(&store, "ann", "ann", GrantState::Active, "ann@example.com").await;
    cut(&store, "ann", "ann", GrantState::Removed, "token 3 (night)").await;
    assert_eq!(told(&store).await, [("ann".to_owned(), "access_change")]);
    // A grant that nobody ever made took nothing from anybody.
    cut(&store, "bea", "bea", GrantState::Disabled, "root@example.com").await;
    assert_eq!(told(&store).await.len(), 1);
}

async fn a_member_who_cuts_their_team_grant_again_and_again_fills_nobodys_mailbox(ground: Ground) {
    let store = store(&ground, &["email"]).await;
    store.set_role(&user("root"), &Role::Super, "test", NOW).await.unwrap();
    grant(&store, "ann", "team", "old-mail").await;
    for _ in 0..25 {
        cut(&store, "ann", "team", GrantState::Disabled, "ann@example.com").await;
        cut(&store, "ann", "team", GrantState::Active, "ann@example.com").await;
    }
    let to = |found: &[(String, &str)], who: &str| found.iter().filter(|(to, _)| to == who).count();
    let found = told(&store).await;
    assert_eq!((to(&found, "root"), to(&found, "ann"), found.len()), (20, 20, 40));
    // Somebody else's doing is told all the same, and an hour later hers is again.
    cut(&store, "ann", "team", GrantState::Disabled, "root@example.com").await;
    assert_eq!(to(&told(&store).await, "root"), 21);
    let (ann, team, app) = (user("ann"), user("team"), app("old-mail"));
    let later = NOW + Duration::from_secs(3601);
    let by = (ann.as_str(), None);
    store.set_grant(&ann, &team, &app, GrantState::Removed, by, later).await.unwrap();
    assert_eq!(to(&told(&store).await, "root"), 22);
}

async fn a_revocation_of_many_grants_is_one_notice_for_each_person(ground: Ground) {
    let store = store(&ground, &["email"]).await;
    store.set_role(&user("root"), &Role::Super, "test", NOW).await.unwrap();
    store.set_role(&user("bea"), &Role::Admin(sales()), "test", NOW).await.unwrap();
    for number in 0..30 {
        grant(&store, "ann", "team", &format!("old-{number}")).await;
    }
    for owner in ["ann", "team"] {
        grant(&store, "ann", owner, "old-mail").await;
    }
    grant(&store, "bea", "team", "old-mail").await;
    let filter = GrantFilter { user: Some(user("ann")), ..GrantFilter::default() };
    let done = store.remove_grants(&filter, |_| true, "root@example.com", None, NOW).await.unwrap();
    assert_eq!(done.changed, 32);
    let mut found = store.notices(&NoticeFilter::default(), None, 100).await.unwrap();
    found.sort_by_key(|notice| (notice.recipient.clone(), notice.kind.word()));
    let found: Vec<_> =
        found.iter().map(|n| (n.recipient.local(), n.kind.word(), n.body.lost_count, n.body.lost.len())).collect();
    assert_eq!(
        found,
        [
            ("ann", "access_change", 1, 1),
            ("ann", "team_grant_cut", 31, 20),
            ("bea", "team_grant_cut", 31, 20),
            ("root", "team_grant_cut", 31, 20)
        ]
    );
    let again = store.remove_grants(&filter, |_| true, "root@example.com", None, NOW).await.unwrap();
    assert_eq!(again.changed, 0);
    assert_eq!(told(&store).await.len(), 4, "what is removed already is told to nobody");
}

fn off(path: &str) -> Wish {
    let access = crate::policy::Access::Off;
    let patch = UnitPatch { imap: Some(Some(Setting { access, until: None })), ..UnitPatch::default() };
    Directive::Unit(UnitPath::parse(path).unwrap(), Action::Change(patch)).into()
}

const WHO: Actor<'_> = Actor { by: "root@example.com", reason: Some("old apps go"), within: None };

/// A unit that no file keeps, with a user in it.
async fn free(store: &Store) {
    let make = |directive| Wish { directive, expect: None };
    let unit = UnitPath::parse("/Free").unwrap();
    let patch = crate::store::UserPatch { unit: Some(unit.clone()), ..Default::default() };
    let wishes = [
        make(Directive::Unit(unit, Action::Make(UnitPatch::default()))),
        make(Directive::User(user("fay"), Action::Make(patch))),
    ];
    store.change(&wishes, WHO).await.unwrap();
}

async fn a_change_that_is_refused_leaves_no_notice_and_one_that_is_made_tells_whoever_loses(ground: Ground) {
    let store = store(&ground, &["email", "webhook:x"]).await;
    free(&store).await;
    for id in ["old-mail", "new-mail"] {
        grant(&store, "fay", "fay", id).await;
    }
    grant(&store, "ann", "ann", "old-mail").await;
    let refused = store.change_telling(&[off("/Free"), off("/Nowhere")], WHO).await;
    assert!(matches!(refused, Err(EditError::Absent { .. })), "{refused:?}");
    assert_eq!(told(&store).await, []);

    assert_eq!(store.change(&[off("/Free")], WHO).await.unwrap().told, 0, "nobody asked for notices");
    let on = UnitPatch { imap: Some(None), ..UnitPatch::default() };
    let on: Wish = Directive::Unit(UnitPath::parse("/Free").unwrap(), Action::Change(on)).into();
    assert_eq!(store.change_telling(&[on], WHO).await.unwrap().told, 0, "who gains is not told");
    assert_eq!(store.change_telling(&[off("/Free")], WHO).await.unwrap().told, 1);
    let notice = store.notices(&NoticeFilter::default(), None, 10).await.unwrap().remove(0);
    assert_eq!((notice.recipient.local(), notice.body.deed, notice.body.lost_count), ("fay", Deed::Changed, 2));
    assert_eq!(notice.body.unit.as_deref(), Some("/Free"));
    assert_eq!(notice.body.reason.as_deref(), Some("old apps go"));
    let lost: Vec<_> =
        notice.body.lost.iter().map(|l| (l.app.as_str(), l.app_name.as_deref(), &*l.services)).collect();
    assert_eq!(
        lost,
        [("new-mail", None, &["imap".to_owned()][..]), ("old-mail", Some("Old Mail"), &["imap".to_owned()])]
    );
    assert!(notice.body.lost[0].why.as_deref().unwrap().contains("/Free"), "{:?}", notice.body.lost);
    let (_, deliveries) = store.notice(notice.id).await.unwrap().unwrap();
    let channels: Vec<_> = deliveries.iter().map(|d| (d.channel.as_str(), d.state)).collect();
    assert_eq!(channels, [("email", NoticeState::Queued), ("webhook:x", NoticeState::Queued)]);

    // Applying a file tells in the same way.
    let less = POLICY.replace("imap = \"any\"", "imap = \"off\"");
    let document = file::parse(&less).unwrap();
    let applied = store.apply_telling(&document, ("policy.toml", "me"), None, None).await.unwrap();
    assert_eq!(applied.told, 1, "only ann still had something to lose");
    let again = store.apply_telling(&document, ("policy.toml", "me"), None, None).await.unwrap();
    assert_eq!((again.told, told(&store).await.len()), (0, 2));
}

async fn a_warning_changes_nothing_but_the_outbox(ground: Ground) {
    let store = store(&ground, &["email"]).await;
    grant(&store, "ann", "ann", "old-mail").await;
    let before = (store.policy_version().await.unwrap(), *store.changes().borrow());
    let document = file::parse(&POLICY.replace("imap = \"any\"", "imap = \"off\"")).unwrap();
    let on = Some(NOW + Duration::from_secs(86_400));
    assert_eq!(store.warn(&document, ("policy.toml", "me"), on, None).await.unwrap(), 1);
    assert_eq!(before, (store.policy_version().await.unwrap(), *store.changes().borrow()));
    let notice = store.notices(&NoticeFilter::default(), None, 10).await.unwrap().remove(0);
    assert_eq!((notice.body.deed, notice.body.from_ms), (Deed::Planned, on.map(|at| at.0)));
    let same = file::parse(POLICY).unwrap();
    assert_eq!(store.warn(&same, ("policy.toml", "me"), None, None).await.unwrap(), 0);
}

/// So many notices to ann.
async fn post(store: &Store, count: usize) {
    let lost = Lost {
        user: "ann@example.com".into(),
        mailbox: "ann@example.com".into(),
        app: "old-mail".into(),
        app_name: None,
        services: Vec::new(),
        why: None,
    };
    let body = NoticeBody {
        deed: Deed::Removed,
        unit: None,
        from_ms: None,
        reason: None,
        lost: vec![lost],
        lost_count: 1,
    };
    let draft = || Draft { kind: NoticeKind::AccessChange, recipient: user("ann"), body: body.clone() };
    let drafts: Vec<Draft> = (0..count).map(|_| draft()).collect();
    let mut write = Write::begin(store, "testing").await.unwrap();
    store.post(&mut write, &drafts, "test", NOW).await.unwrap();
    write.commit(NOW).await.unwrap();
}

async fn no_two_nodes_ever_take_one_delivery(ground: Ground) {
    let first = store(&ground, &["email"]).await;
    post(&first, 450).await;
    let mut nodes = vec![first];
    for _ in 0..3 {
        nodes.push(Store::open(&with(&ground, &["email"])).await.unwrap());
    }
    let mut tasks = tokio::task::JoinSet::new();
    for node in nodes {
        tasks.spawn(async move {
            let mut mine = Vec::new();
            let mut idle = 0;
            while idle < 5 {
                match node.take_deliveries("email", 16, LEASE, NOW).await {
                    Ok(taken) if taken.is_empty() => idle += 1,
                    Ok(taken) => {
                        for one in taken {
                            mine.push(one.notice.id);
                            assert!(node.settle_delivery(&one.lease, &Attempt::Sent, NOW).await.unwrap());
                        }
                    }
                    // SQLite is for one process; four in a line can wait longer than they may.
                    Err(StoreError::Locked { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            mine
        });
    }
    let mut all = Vec::new();
    while let Some(mine) = tasks.join_next().await {
        all.extend(mine.unwrap());
    }
    assert_eq!(all.len(), 450, "each is taken, and none twice");
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 450);
}

async fn a_delivery_whose_sender_vanished_comes_again_after_its_lease_and_the_late_one_is_not_believed(
    ground: Ground,
) {
    let one = store(&ground, &["email"]).await;
    let two = Store::open(&with(&ground, &["email"])).await.unwrap();
    post(&one, 1).await;
    let first = one.take_deliveries("email", 8, LEASE, NOW).await.unwrap().remove(0);
    assert_eq!((first.attempt, first.again), (1, false));
    for early in [NOW, NOW + LEASE] {
        assert_eq!(two.take_deliveries("email", 8, LEASE, early).await.unwrap(), []);
    }
    let late = NOW + LEASE + Duration::from_millis(1);
    let second = two.take_deliveries("email", 8, LEASE, late).await.unwrap().remove(0);
    assert_eq!((second.attempt, second.again), (2, true));
    assert_eq!(first.notice.unique_id(), second.notice.unique_id(), "a receiver can tell that it is the same");
    let given_up = Attempt::Failed { problem: "no".into() };
    assert!(!one.settle_delivery(&first.lease, &given_up, late).await.unwrap(), "the lease had run out");
    assert!(two.settle_delivery(&second.lease, &Attempt::Sent, late).await.unwrap());
    assert!(!two.settle_delivery(&second.lease, &given_up, late).await.unwrap(), "once");
    let (notice, _) = one.notice(second.notice.id).await.unwrap().unwrap();
    assert_eq!(notice.state, NoticeState::Sent);
    assert_eq!(one.take_deliveries("email", 8, LEASE, late + LEASE + LEASE).await.unwrap(), []);
}

async fn a_notice_is_sent_when_all_channels_have_it_and_failed_if_one_gave_up(ground: Ground) {
    let store = store(&ground, &["email", "webhook:x"]).await;
    post(&store, 1).await;
    let state = async || store.notice(NoticeId(1)).await.unwrap().unwrap().0.state;
    assert_eq!(state().await, NoticeState::Queued);
    let mail = store.take_deliveries("email", 8, LEASE, NOW).await.unwrap().remove(0);
    assert_eq!(state().await, NoticeState::Sending);
    store.settle_delivery(&mail.lease, &Attempt::Sent, NOW).await.unwrap();
    assert_eq!(state().await, NoticeState::Queued, "the webhook has not got it");

    let hook = store.take_deliveries("webhook:x", 8, LEASE, NOW).await.unwrap().remove(0);
    let later = NOW + Duration::from_secs(30);
    let attempt = Attempt::Later { at: later, problem: "answered 503".into() };
    store.settle_delivery(&hook.lease, &attempt, NOW).await.unwrap();
    assert_eq!(store.take_deliveries("webhook:x", 8, LEASE, NOW).await.unwrap(), [], "not before its time");
    assert_eq!(store.retry_notice(NoticeId(1), "root", NOW).await.unwrap(), Retried::NothingFailed);
    let hook = store.take_deliveries("webhook:x", 8, LEASE, later).await.unwrap().remove(0);
    assert_eq!(hook.attempt, 2);
    store.settle_delivery(&hook.lease, &Attempt::Untouched, later).await.unwrap();
    let hook = store.take_deliveries("webhook:x", 8, LEASE, later).await.unwrap().remove(0);
    assert_eq!(hook.attempt, 2, "what was not tried does not count");
    let attempt = Attempt::Failed { problem: "answered 410 Gone".into() };
    store.settle_delivery(&hook.lease, &attempt, later).await.unwrap();
    assert_eq!(state().await, NoticeState::Failed);
    let (_, deliveries) = store.notice(NoticeId(1)).await.unwrap().unwrap();
    let problem = deliveries[1].problem.as_deref();
    assert_eq!((deliveries[0].state, problem), (NoticeState::Sent, Some("answered 410 Gone")));

    assert_eq!(store.retry_notice(NoticeId(1), "root", later).await.unwrap(), Retried::Queued(1));
    assert_eq!(store.take_deliveries("email", 8, LEASE, later).await.unwrap(), [], "sent is sent");
    let hook = store.take_deliveries("webhook:x", 8, LEASE, later).await.unwrap().remove(0);
    assert_eq!(hook.attempt, 1);
    store.settle_delivery(&hook.lease, &Attempt::Sent, later).await.unwrap();
    assert_eq!(state().await, NoticeState::Sent);
    assert_eq!(store.retry_notice(NoticeId(2), "root", later).await.unwrap(), Retried::Absent);
    let rows = store.audit_recent(&AuditFilter::default()).await.unwrap();
    let events: Vec<_> = rows.iter().rev().filter(|row| row.event.starts_with("notice.")).collect();
    let events: Vec<_> = events.iter().map(|row| (&*row.event, row.detail.as_deref().unwrap())).collect();
    assert_eq!(
        events,
        [
            ("notice.queued", "by test: access_change 1"),
            ("notice.sent", "notice 1 by email"),
            ("notice.failed", "notice 1 by webhook:x: answered 410 Gone"),
            ("notice.retried", "by root: notice 1, 1 deliveries"),
            ("notice.sent", "notice 1 by webhook:x"),
        ]
    );
}

async fn without_channels_notices_are_for_the_console_and_old_ones_go(ground: Ground) {
    let settings = Settings { notice_days: 10, notices: 5, ..with(&ground, &[]) };
    let store = Store::open(&settings).await.unwrap();
    post(&store, 3).await;
    let state = store.notice(NoticeId(1)).await.unwrap().unwrap().0.state;
    assert_eq!(state, NoticeState::Console);
    assert_eq!(store.take_deliveries("email", 8, LEASE, NOW).await.unwrap(), []);
    store.trim_notices(NOW + Duration::from_secs(10 * 86_400)).await.unwrap();
    assert_eq!(told(&store).await.len(), 3, "ten days are not over");
    post(&store, 4).await;
    store.trim_notices(NOW).await.unwrap();
    let left = store.notices(&NoticeFilter::default(), None, 100).await.unwrap();
    assert_eq!(left.iter().map(|notice| notice.id.0).collect::<Vec<_>>(), [7, 6, 5, 4, 3], "the newest five");
    store.trim_notices(NOW + Duration::from_secs(10 * 86_400 + 1)).await.unwrap();
    assert_eq!(told(&store).await, []);
}

async fn a_notice_is_read_by_its_recipient_alone(ground: Ground) {
    let store = store(&ground, &[]).await;
    post(&store, 2).await;
    assert!(!store.read_notice(NoticeId(1), &user("bea"), NOW).await.unwrap());
    assert!(store.read_notice(NoticeId(1), &user("ann"), NOW).await.unwrap());
    assert!(store.read_notice(NoticeId(1), &user("ann"), NOW + LEASE).await.unwrap());
    assert_eq!(store.notice(NoticeId(1)).await.unwrap().unwrap().0.read_at, Some(NOW), "the first time counts");
    let filter = NoticeFilter { recipient: Some(user("ann")), unread: true, ..NoticeFilter::default() };
    let unread = store.notices(&filter, None, 10).await.unwrap();
    assert_eq!(unread.iter().map(|notice| notice.id.0).collect::<Vec<_>>(), [2]);
}

async fn more_people_than_may_be_told_at_once_is_an_error_and_nothing_is_changed(ground: Ground) {
    let store = store(&ground, &["email"]).await;
    let side = crate::policy::Side { user_count: MOST_NOTICES + 1, ..Default::default() };
    let telling = Telling { deed: Deed::Changed, from: None, reason: None };
    let error = store.drafts_to(&side, telling).unwrap_err().to_string();
    assert!(error.starts_with("100001 people would be told"), "{error}");
    // A side that does not name everybody must not leave some of them untold.
    let side = crate::policy::Side { user_count: 1, pair_count: 2, ..Default::default() };
    assert!(store.drafts_to(&side, telling).is_err());
}

async fn a_hundred_thousand_people_are_told_in_one_transaction_well_within_the_time_of_a_request(ground: Ground) {
    let store = store(&ground, &["email", "webhook:x"]).await;
    let began = std::time::Instant::now();
    post(&store, MOST_NOTICES).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(store.deliveries_waiting("webhook:x").await.unwrap(), 100_000);
    let began = std::time::Instant::now();
    assert_eq!(store.take_deliveries("email", 8, LEASE, NOW).await.unwrap().len(), 8);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}
