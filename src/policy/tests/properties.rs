//! Properties over random directories: what may never depend on how a directory came to be as it is.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{app, question, user};
use crate::model::{ClientId, GroupId, MailHome, Place, Service, UnitPath, UnixTime, UserId};
use crate::policy::{
    Access, App, Directory, Edit, Grant, GrantKey, GrantState, Group, Mailbox, OwnOff, Question, Refusal, Setting,
    Settings, Trust, Unit, User,
    decide::{Asked, judge_silently},
    explain,
};

const APPS: [&str; 4] = ["a", "b", "c", "d"];
const USERS: usize = 6;
const GROUPS: usize = 4;

/// Few times, so that ends and nows meet.
pub(super) fn time() -> impl Strategy<Value = UnixTime> {
    (0..5_i64).prop_map(|ticks| UnixTime(ticks * 10))
}

fn access() -> impl Strategy<Value = Access> {
    let list = prop::collection::vec(0..APPS.len(), 0..3);
    prop_oneof![
        Just(Access::Off),
        Just(Access::Any),
        list.prop_map(|list| Access::Only(list.into_iter().map(|at| app(APPS[at])).collect())),
    ]
}

fn setting() -> impl Strategy<Value = Option<Setting>> {
    let until = prop::option::weighted(0.3, time());
    prop::option::weighted(0.4, (access(), until).prop_map(|(access, until)| Setting { access, until }))
}

pub(super) fn settings() -> impl Strategy<Value = Settings> {
    (setting(), setting()).prop_map(|(imap, pop)| Settings { imap, pop })
}

/// Paths of up to four levels over two names: a small dense tree.
fn path() -> impl Strategy<Value = UnitPath> {
    prop::collection::vec(prop_oneof![Just("x"), Just("y")], 0..4)
        .prop_map(|names| UnitPath::parse(&format!("/{}", names.join("/"))).unwrap())
}

fn person() -> impl Strategy<Value = UserId> {
    (0..USERS).prop_map(|number| user(&format!("u{number}")))
}

fn group_name() -> impl Strategy<Value = GroupId> {
    (0..GROUPS).prop_map(|number| GroupId::parse(&format!("g{number}")).unwrap())
}

fn client() -> impl Strategy<Value = ClientId> {
    (0..APPS.len()).prop_map(|number| app(APPS[number]))
}

fn a_user() -> impl Strategy<Value = User> {
    let own_off =
        (prop::bool::weighted(0.1), prop::bool::weighted(0.1)).prop_map(|(imap, pop)| OwnOff { imap, pop });
    let exception = prop_oneof![3 => Just(Settings::default()), 1 => settings()];
    (path(), prop::bool::weighted(0.1), exception, own_off, prop::collection::vec(group_name(), 0..3), home())
        .prop_map(|(unit, suspended, settings, own_off, groups, mail)| User {
            unit,
            suspended,
            settings,
            own_off,
            groups,
            mail,
        })
}

fn an_app() -> impl Strategy<Value = App> {
    let trust = prop_oneof![
        2 => Just(Trust::Trusted),
        1 => Just(Trust::Blocked),
        2 => prop::collection::vec(path(), 0..2).prop_map(Trust::Limited),
    ];
    (trust, prop::collection::vec(path(), 0..2), prop::bool::weighted(0.2))
        .prop_map(|(trust, delegation, read_only)| App { name: None, trust, delegation, read_only })
}

fn a_grant() -> impl Strategy<Value = Grant> {
    let state = prop_oneof![
        4 => Just(GrantState::Active),
        1 => Just(GrantState::Disabled),
        1 => Just(GrantState::Removed),
    ];
    (state, prop::option::of(time())).prop_map(|(state, removed_at)| Grant { state, removed_at })
}

fn home() -> impl Strategy<Value = Option<MailHome>> {
    prop::option::weighted(0.2, prop::sample::select(vec!["maildir", "dovecot", "dovecot/mail1"]))
        .prop_map(|text| text.map(|text| MailHome::parse(text).unwrap()))
}

pub(super) fn edit() -> impl Strategy<Value = Edit> {
    let kept = 0.8;
    let mailbox_name = (0..2).prop_map(|number| user(&format!("m{number}")));
    let people = || prop::collection::vec(person(), 0..4);
    let mailbox = (prop::option::of(path()), people(), people()).prop_map(|(unit, members, readers)| Mailbox {
        name: None,
        unit,
        members,
        readers,
    });
    let key = (person(), prop::option::weighted(0.2, 0..2), client()).prop_map(|(user_id, shared, app)| GrantKey {
        owner: shared.map_or_else(|| user_id.clone(), |number| user(&format!("m{number}"))),
        user: user_id,
        app,
    });
    let group = (-1..3_i64, settings()).prop_map(|(priority, settings)| Group { priority, settings });
    let read_only = prop::option::weighted(0.3, any::<bool>());
    let unit = (settings(), read_only, home()).prop_map(|(settings, read_only, mail)| Unit {
        settings,
        read_only,
        mail,
        ..Unit::default()
    });
    prop_oneof![
        4 => (path(), prop::option::weighted(kept, unit)).prop_map(|(path, unit)| Edit::Unit(path, unit)),
        3 => (person(), prop::option::weighted(kept, a_user())).prop_map(|(id, user)| Edit::User(id, user)),
        2 => (group_name(), prop::option::weighted(kept, group)).prop_map(|(id, group)| Edit::Group(id, group)),
        1 => (mailbox_name, prop::option::weighted(kept, mailbox)).prop_map(|(id, row)| Edit::Mailbox(id, row)),
        1 => (client(), prop::option::weighted(kept, an_app())).prop_map(|(id, app)| Edit::App(id, app)),
        1 => (key, prop::option::weighted(kept, a_grant())).prop_map(|(key, grant)| Edit::Grant(key, grant)),
    ]
}

pub(super) fn edits() -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec(edit(), 0..60)
}

pub(super) fn built(edits: &[Edit]) -> Directory {
    let mut directory = Directory::new();
    edits.iter().cloned().for_each(|edit| directory.apply(edit));
    directory
}

/// The last word on each row.
pub(super) fn settled(edits: &[Edit]) -> Vec<Edit> {
    let mut last: BTreeMap<String, Edit> = BTreeMap::new();
    for edit in edits {
        let key = match edit {
            Edit::Unit(id, _) => format!("unit {id}"),
            Edit::Group(id, _) => format!("group {id}"),
            Edit::User(id, _) => format!("user {id}"),
            Edit::Mailbox(id, _) => format!("mailbox {id}"),
            Edit::App(id, _) => format!("app {id}"),
            Edit::Grant(key, _) => format!("grant {} {} {}", key.user, key.owner, key.app),
            Edit::Cutoff(key, _) => format!("cutoff {key:?}"),
        };
        last.insert(key, edit.clone());
    }
    last.into_values().collect()
}

/// Every question there is about such a directory, at one time.
pub(super) fn questions(issued_at: Option<UnixTime>) -> Vec<Question> {
    let mut questions = Vec::new();
    for number in 0..USERS {
        for owner in [format!("u{number}"), "m0".to_owned(), "m1".to_owned()] {
            for id in APPS.into_iter().chain(["unheard-of"]) {
                for service in [Service::Imap, Service::Pop] {
                    for service_account in [false, true] {
                        let asked = question(&format!("u{number}"), id, service);
                        questions.push(Question { owner: user(&owner), issued_at, service_account, ..asked });
                    }
                }
            }
        }
    }
    questions
}

fn verdict(question: &Question, directory: &Directory, now: UnixTime) -> Result<Place, Refusal> {
    let asked = Asked {
        user: &question.user,
        owner: &question.owner,
        app: &question.app,
        service: question.service,
        issued_at: question.issued_at,
        service_account: question.service_account,
        token: None,
    };
    judge_silently(&asked, directory, now).map(|yes| yes.set_at)
}

fn verdicts(directory: &Directory, issued_at: Option<UnixTime>, now: UnixTime) -> Vec<Result<Place, Refusal>> {
    questions(issued_at).iter().map(|question| verdict(question, directory, now)).collect()
}

/// The setting in force, found the slow and obvious way from the rows alone.
fn in_force(rows: &[Edit], user: &User, id: &UserId, service: Service, now: UnixTime) -> (Option<Access>, Place) {
    let holds = |setting: &&Setting| setting.until.is_none_or(|until| until > now);
    if let Some(setting) = user.settings.of(service).filter(holds) {
        return (Some(setting.access.clone()), Place::User(id.clone()));
    }
    let mut groups: Vec<(&GroupId, &Group)> = rows
        .iter()
        .filter_map(|row| match row {
            Edit::Group(name, Some(group)) if user.groups.contains(name) => Some((name, group)),
            _ => None,
        })
        .collect();
    groups.sort_by(|(a, x), (b, y)| y.priority.cmp(&x.priority).then(a.cmp(b)));
    for (name, group) in groups {
        if let Some(setting) = group.settings.of(service).filter(holds) {
            return (Some(setting.access.clone()), Place::Group(name.clone()));
        }
    }
    let mut path = Some(user.unit.clone());
    while let Some(unit) = path {
        for row in rows {
            if let Edit::Unit(at, Some(row)) = row
                && *at == unit
                && let Some(setting) = row.settings.of(service).filter(holds)
            {
                return (Some(setting.access.clone()), Place::Unit(unit));
            }
        }
        path = unit.parent();
    }
    (None, Place::Default)
}

fn below(above: &UnitPath, unit: &UnitPath) -> bool {
    let mut at = Some(unit.clone());
    while let Some(path) = at {
        if path == *above {
            return true;
        }
        at = path.parent();
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_directory_answers_by_its_rows_not_by_its_history(edits in edits(), now in time(), issued in prop::option::of(time())) {
        let (lived, fresh) = (built(&edits), built(&settled(&edits)));
        prop_assert_eq!(verdicts(&lived, issued, now), verdicts(&fresh, issued, now));
        prop_assert_eq!(lived.next_end(now), fresh.next_end(now));
        prop_assert_eq!(lived.counts().users, fresh.counts().users);
    }

    #[test]
    fn an_explanation_never_disagrees_with_the_decision(edits in edits(), now in time(), issued in prop::option::of(time())) {
        let directory = built(&edits);
        for question in questions(issued) {
            let explanation = explain(&question, &directory, now);
            prop_assert_eq!(&explanation.verdict, &verdict(&question, &directory, now).map(drop));
            prop_assert_eq!(explanation.steps.iter().all(|step| step.passed), explanation.verdict.is_ok());
            let last = explanation.steps.last().unwrap();
            if let Err(refusal) = &explanation.verdict {
                prop_assert_eq!(&last.finding, &refusal.to_string());
            }
        }
    }

    #[test]
    fn the_setting_in_force_is_the_one_a_slow_walk_finds(edits in edits(), now in time()) {
        let rows = settled(&edits);
        let directory = built(&edits);
        for row in &rows {
            let Edit::User(id, Some(user)) = row else { continue };
            for service in [Service::Imap, Service::Pop] {
                let (access, place) = in_force(&rows, user, id, service, now);
                let asked = Question { user: id.clone(), owner: id.clone(), issued_at: None, ..question("u0", "a", service) };
                match verdict(&asked, &directory, now) {
                    Ok(at) => {
                        prop_assert_eq!(at, place);
                        prop_assert!(access == Some(Access::Any) || matches!(access, Some(Access::Only(list)) if list.contains(&app("a"))));
                    }
                    Err(Refusal::ServiceOff { at, .. }) => {
                        prop_assert_eq!(at, place);
                        prop_assert!(matches!(access, None | Some(Access::Off)));
                    }
                    Err(Refusal::AppNotListed { at, .. }) => {
                        prop_assert_eq!(at, place);
                        prop_assert!(matches!(access, Some(Access::Only(list)) if !list.contains(&app("a"))));
                    }
                    Err(_) => {}
                }
            }
        }
    }

    #[test]
    fn a_parents_change_moves_exactly_the_units_that_inherit_from_it(
        units in prop::collection::btree_map(path(), setting(), 1..20),
        changed in path(),
        new in setting(),
        now in time(),
    ) {
        let settings = |setting: &Option<Setting>| Settings { imap: setting.clone(), pop: Some(Access::Any.into()) };
        let mut directory = Directory::new();
        let mut paths: BTreeSet<UnitPath> = units.keys().cloned().collect();
        paths.insert(changed.clone());
        for (path, setting) in &units {
            directory.put_unit(path, Some(&Unit { settings: settings(setting), ..Unit::default() }));
        }
        // One user in each unit.
        let people: Vec<(UserId, UnitPath)> =
            paths.iter().enumerate().map(|(number, path)| (user(&format!("p{number}")), path.clone())).collect();
        for (id, path) in &people {
            directory.put_user(id, &User::in_unit(path.clone()));
        }
        let ask = |directory: &Directory, id: &UserId, service| {
            APPS.map(|name| {
                let asked = Question { user: id.clone(), owner: id.clone(), ..question("u0", name, service) };
                verdict(&asked, directory, now)
            })
        };
        let before: Vec<_> = people.iter().map(|(id, _)| (ask(&directory, id, Service::Imap), ask(&directory, id, Service::Pop))).collect();
        let pop = units.get(&changed).map(|_| Access::Any.into());
        directory.put_unit(&changed, Some(&Unit { settings: Settings { imap: new.clone(), pop }, ..Unit::default() }));
        let there = people.iter().find(|(_, path)| *path == changed).unwrap();
        let now_there = ask(&directory, &there.0, Service::Imap);
        for ((id, path), (imap, pop)) in people.iter().zip(before) {
            let holds = |setting: &Option<Setting>| setting.as_ref().is_some_and(|s| s.until.is_none_or(|until| until > now));
            // Inherits from `changed`: below it, with no setting in force of its own or in between.
            let inherits = below(&changed, path)
                && !units.iter().any(|(at, setting)| *at != changed && below(&changed, at) && below(at, path) && holds(setting));
            let after = ask(&directory, id, Service::Imap);
            if inherits {
                prop_assert_eq!(&after, &now_there, "{} inherits from {}", path, changed);
            } else {
                prop_assert_eq!(&after, &imap, "{} does not inherit from {}", path, changed);
            }
            prop_assert_eq!(ask(&directory, id, Service::Pop), pop, "the other service of {}", path);
        }
    }

    #[test]
    fn a_longer_list_never_shuts_anybody_out(edits in edits(), added in client(), now in time()) {
        let longer: Vec<Edit> = edits.iter().cloned().map(|mut edit| {
            let settings = match &mut edit {
                Edit::Unit(_, Some(unit)) => Some(&mut unit.settings),
                Edit::Group(_, Some(group)) => Some(&mut group.settings),
                Edit::User(_, Some(user)) => Some(&mut user.settings),
                _ => None,
            };
            if let Some(settings) = settings {
                for setting in [&mut settings.imap, &mut settings.pop].into_iter().flatten() {
                    if let Access::Only(list) = &mut setting.access {
                        list.push(added.clone());
                    }
                }
            }
            edit
        }).collect();
        let (before, after) = (verdicts(&built(&edits), None, now), verdicts(&built(&longer), None, now));
        for ((question, before), after) in questions(None).iter().zip(before).zip(after) {
            if before.is_ok() || question.app != added {
                prop_assert_eq!(before, after, "{:?}", question);
            }
        }
    }

    #[test]
    fn an_own_switch_never_lets_anybody_in(edits in edits(), now in time()) {
        let switched: Vec<Edit> = edits.iter().cloned().map(|edit| match edit {
            Edit::User(id, Some(user)) => Edit::User(id, Some(User { own_off: OwnOff { imap: true, pop: true }, ..user })),
            other => other,
        }).collect();
        prop_assert!(verdicts(&built(&switched), None, now).iter().all(Result::is_err));
    }

    #[test]
    fn nothing_changes_between_two_ends(edits in edits(), now in time()) {
        let directory = built(&edits);
        let last = directory.next_end(now).map_or(UnixTime(1_000), |end| UnixTime(end.0 - 1));
        prop_assert_eq!(verdicts(&directory, None, now), verdicts(&directory, None, last));
    }
}
