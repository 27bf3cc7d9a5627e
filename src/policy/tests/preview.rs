//! A preview tells what deciding before and after tells.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    NOW, app, directory, file,
    properties::{built, edit, edits, questions, settled, time},
    user,
};
use crate::model::{ClientId, Service, UnitPath, UnixTime, UserId};
use crate::policy::{
    Access, Account, Cutoff, CutoffKey, Directory, Edit, Grant, GrantKey, GrantState, LiveSeat, Preview, Question,
    Refusal, Rights, Settings, Side, Trial, Unit, Whose,
    decide::{Asked, judge_silently},
};

type Line = (UserId, UserId, ClientId, Service);

fn rights(question: &Question, directory: &Directory, now: UnixTime) -> Result<Rights, Refusal> {
    let asked = Asked {
        user: &question.user,
        owner: &question.owner,
        app: &question.app,
        service: question.service,
        issued_at: question.issued_at,
        service_account: question.service_account,
        token: None,
    };
    judge_silently(&asked, directory, now).map(|yes| yes.rights)
}

/// Who loses and who gains, the slow way: every active grant of the rows is asked about before and after.
fn by_hand(rows: &[Edit], before: &Directory, after: &Directory, now: UnixTime) -> [BTreeSet<Line>; 2] {
    let mut sides = [BTreeSet::new(), BTreeSet::new()];
    for row in rows {
        let Edit::Grant(key, Some(Grant { state: GrantState::Active, .. })) = row else { continue };
        for service in [Service::Imap, Service::Pop] {
            let question = Question {
                user: key.user.clone(),
                owner: key.owner.clone(),
                app: key.app.clone(),
                service,
                issued_at: Some(UnixTime(i64::MAX)),
                service_account: false,
            };
            let line = (key.user.clone(), key.owner.clone(), key.app.clone(), service);
            match (rights(&question, before, now).is_ok(), rights(&question, after, now).is_ok()) {
                (true, false) => drop(sides[0].insert(line)),
                (false, true) => drop(sides[1].insert(line)),
                _ => {}
            }
        }
    }
    sides
}

fn agrees(side: &Side, lines: &BTreeSet<Line>) -> Result<(), TestCaseError> {
    let of = |service| lines.iter().filter(|line| line.3 == service).count();
    prop_assert_eq!(side.pair_count, lines.len());
    prop_assert_eq!((side.imap_count, side.pop_count), (of(Service::Imap), of(Service::Pop)));
    let users: BTreeSet<_> = lines.iter().map(|line| &line.0).collect();
    prop_assert_eq!(side.user_count, users.len());
    let mut apps: Vec<(ClientId, usize)> = Vec::new();
    for id in lines.iter().map(|line| &line.2).collect::<BTreeSet<_>>() {
        let users: BTreeSet<_> = lines.iter().filter(|line| line.2 == *id).map(|line| &line.0).collect();
        apps.push((id.clone(), users.len()));
    }
    apps.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let told: Vec<_> = side.apps.iter().map(|count| (count.app.clone(), count.user_count)).collect();
    prop_assert_eq!(told, apps);
    let told: Vec<Line> = side
        .pairs
        .iter()
        .map(|pair| (pair.user.clone(), pair.owner.clone(), pair.app.clone(), pair.service))
        .collect();
    let expected: Vec<Line> = lines.iter().take(100).cloned().collect();
    prop_assert_eq!(told, expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_preview_agrees_with_deciding_before_and_after(
        rows in edits(),
        change in prop::collection::vec(edit(), 1..6),
        now in time(),
        issued in prop::option::of(time()),
    ) {
        let change: Vec<Edit> = change.into_iter().filter(|edit| !matches!(edit, Edit::Grant(..))).collect();
        let before = built(&rows);
        let after = built(&[rows.clone(), change.clone()].concat());
        let [loses, gains] = by_hand(&settled(&rows), &before, &after, now);
        let questions = questions(issued);
        let seats: Vec<LiveSeat> = questions.iter().cloned().map(|q| LiveSeat {
            user: q.user, owner: q.owner, app: q.app, service: q.service, issued_at: q.issued_at, service_account: q.service_account,
        }).collect();
        let fall: Vec<usize> = questions.iter().enumerate().filter(|(_, question)| {
            match (rights(question, &before, now), rights(question, &after, now)) {
                (Ok(was), Ok(is)) => is < was || before.home(&question.owner) != after.home(&question.owner),
                (was, is) => was.is_ok() && is.is_err(),
            }
        }).map(|(seat, _)| seat).collect();
        for trial in [Trial::new(&before, change), Trial::whole(after)] {
            let preview = trial.preview(&before, &seats, now);
            agrees(&preview.loses, &loses)?;
            agrees(&preview.gains, &gains)?;
            prop_assert_eq!(preview.falls.iter().map(|fall| fall.seat).collect::<Vec<_>>(), fall.clone());
            prop_assert_eq!(preview.fall_count, fall.len());
        }
    }
}

const BEFORE: &str = r#"
[unit."/"]
imap = "any"
[unit."/Sales"]
[user."ann@example.com"]
unit = "/Sales"
[user."bob@example.com"]
unit = "/"
[mailbox."team@example.com"]
members = ["ann@example.com"]
[app.phone]
name = "Phone Mail"
"#;

fn with_grants() -> Directory {
    let mut directory = directory(BEFORE);
    for (name, owner, id) in [("ann", "ann", "phone"), ("ann", "team", "phone"), ("bob", "bob", "phone")] {
        let key = GrantKey { user: user(name), owner: user(owner), app: app(id) };
        directory.put_grant(&key, Some(Grant { state: GrantState::Active, removed_at: None }));
    }
    directory
}

fn preview(text: &str) -> Preview {
    let (before, after) = (with_grants(), file::parse(text).unwrap().to_directory());
    let mut trial = after;
    for (name, owner) in [("ann", "ann"), ("ann", "team"), ("bob", "bob")] {
        let key = GrantKey { user: user(name), owner: user(owner), app: app("phone") };
        trial.put_grant(&key, Some(Grant { state: GrantState::Active, removed_at: None }));
    }
    Trial::whole(trial).preview(&before, &[], NOW)
}

#[test]
fn a_preview_counts_people_by_app_name_and_says_why() {
    let preview = preview(&BEFORE.replace("[unit.\"/Sales\"]", "[unit.\"/Sales\"]\nimap = \"off\""));
    let side = &preview.loses;
    assert_eq!((side.user_count, side.pair_count, side.imap_count, side.pop_count), (1, 2, 2, 0));
    assert_eq!(side.apps[0].name.as_deref(), Some("Phone Mail"));
    assert_eq!((side.app_count, side.apps[0].user_count), (1, 1));
    assert_eq!(side.pairs[0].refusal.reason(), "policy_service_off");
    assert_eq!(preview.gains, Side::default());
    assert!(!preview.is_empty());
}

#[test]
fn a_user_who_is_taken_away_twice_is_gone_once() {
    let before = with_grants();
    let gone = Edit::User(user("bob"), None);
    let preview = Trial::new(&before, vec![gone.clone(), gone]).preview(&before, &[], NOW);
    assert_eq!((preview.loses.user_count, preview.gains.user_count), (1, 0));
}

#[test]
fn nothing_changed_means_nobody_notices() {
    assert!(preview(BEFORE).is_empty());
}

#[test]
fn lists_are_cut_and_counts_are_not() {
    let mut before = Directory::new();
    let unit = |text: &str| crate::model::UnitPath::parse(text).unwrap();
    before.apply(Edit::Unit(
        unit("/"),
        Some(crate::policy::Unit {
            settings: crate::policy::Settings { imap: Some(crate::policy::Access::Any.into()), pop: None },
            ..crate::policy::Unit::default()
        }),
    ));
    for number in 0..500 {
        let (id, app) = (user(&format!("u{number:03}")), app(&format!("app-{}", number % 150)));
        before.put_user(&id, &crate::policy::User::in_unit(unit("/")));
        let key = GrantKey { owner: id.clone(), user: id, app };
        before.put_grant(&key, Some(Grant { state: GrantState::Active, removed_at: None }));
    }
    let seats: Vec<LiveSeat> = (0..2_000)
        .map(|number| LiveSeat {
            user: user(&format!("u{:03}", number % 500)),
            owner: user(&format!("u{:03}", number % 500)),
            app: app("app-1"),
            service: Service::Imap,
            issued_at: Some(NOW),
            service_account: false,
        })
        .collect();
    let off = Edit::Unit(unit("/"), Some(crate::policy::Unit::default()));
    let preview = Trial::new(&before, vec![off]).preview(&before, &seats, NOW);
    assert_eq!((preview.loses.user_count, preview.loses.pairs.len()), (500, 100));
    assert_eq!((preview.loses.app_count, preview.loses.apps.len()), (150, 100));
    assert_eq!((preview.fall_count, preview.falls.len()), (2_000, 1_000));
    assert_eq!(preview.loses.pairs[99].user, user("u099"));
}

#[test]
fn an_account_that_its_issuer_closed_gains_nothing_by_a_change_of_ours() {
    let mut before = with_grants();
    let issuer = "https://id.example.com".to_owned();
    let closed = Cutoff { issued_until: None, account: Account::Purged };
    before.put_cutoff(&CutoffKey { issuer, whose: Whose::Address(user("ann")) }, Some(closed));
    // The policy file knows nothing of issuers' words.
    for trial in [Trial::whole(with_grants()), Trial::new(&before, Vec::new())] {
        let preview = trial.preview(&before, &[], NOW);
        assert_eq!((preview.gains.user_count, preview.loses.user_count), (0, 0));
    }
    let off = Unit { settings: Settings { imap: Some(Access::Off.into()), pop: None }, ..Unit::default() };
    let preview = Trial::new(&before, vec![Edit::Unit(UnitPath::root(), Some(off))]).preview(&before, &[], NOW);
    let losers: Vec<_> = preview.loses.pairs.iter().map(|pair| pair.user.as_str()).collect();
    assert_eq!(losers, ["bob@example.com"]);
}
