//! An exported policy, applied again, changes nothing: over random histories of changes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::model::Service;
use crate::policy::{Access, Question, explain, file};
use crate::store::Settings;

const NOW: UnixTime = UnixTime::from_secs(1_000_000);

fn unit(number: usize) -> UnitPath {
    UnitPath::parse(["/", "/a", "/a/b", "/c", "/a/b/d"][number % 5]).unwrap()
}

fn user(number: usize) -> UserId {
    UserId::parse(&format!("u{}@example.com", number % 4)).unwrap()
}

fn mailbox(number: usize) -> UserId {
    UserId::parse(&format!("m{}@example.com", number % 2)).unwrap()
}

fn app(number: usize) -> ClientId {
    ClientId::parse(["x", "vendor.mail.*", "y"][number % 3]).unwrap()
}

fn setting() -> impl Strategy<Value = SettingPatch> {
    let list = prop::collection::btree_set(0..3_usize, 0..3)
        .prop_map(|list| Access::Only(list.into_iter().map(app).collect()));
    let access = prop_oneof![Just(Access::Off), Just(Access::Any), list];
    let until = prop::option::weighted(0.3, (0..4_000_000_000_000_i64).prop_map(UnixTime));
    prop::option::of(prop::option::of((access, until).prop_map(|(access, until)| Setting { access, until })))
}

fn action<P: Clone + std::fmt::Debug>(patch: impl Strategy<Value = P>) -> impl Strategy<Value = Action<P>> {
    (0..5_u8, patch).prop_map(|(kind, patch)| match kind {
        0..=2 => Action::Make(patch),
        3 => Action::Change(patch),
        _ => Action::Remove,
    })
}

fn directive() -> impl Strategy<Value = Directive> {
    let number = || 0..20_usize;
    let people = || prop::collection::vec(number().prop_map(user), 0..3);
    let limit = || {
        let limit =
            prop_oneof![Just(None), Just(Some(Ceiling::Unlimited)), (0..9_u64).prop_map(|n| Some(Ceiling::At(n)))];
        prop::option::of(limit)
    };
    let home = || {
        let home = prop::sample::select(vec!["maildir", "dovecot", "dovecot/mail1.internal"]);
        prop::option::of(prop::option::of(home.prop_map(|text| MailHome::parse(text).unwrap())))
    };
    let from_one = || {
        let limit =
            prop_oneof![Just(None), Just(Some(Ceiling::Unlimited)), (1..9_u64).prop_map(|n| Some(Ceiling::At(n)))];
        prop::option::of(limit)
    };
    let read_only = || any::<Option<Option<bool>>>();
    let quotas = (limit(), limit());
    let units = (setting(), setting(), quotas, home(), read_only(), (from_one(), from_one())).prop_map(
        |(imap, pop, (storage_quota, message_quota), mail, read_only, (sessions_per_user, bytes_per_day))| {
            UnitPatch { imap, pop, storage_quota, message_quota, mail, read_only, sessions_per_user, bytes_per_day }
        },
    );
    let in_unit = || prop::option::of(number().prop_map(unit));
    let users = (in_unit(), prop::option::of(any::<bool>()), setting(), setting(), home())
        .prop_map(|(unit, suspended, imap, pop, mail)| UserPatch { unit, suspended, imap, pop, mail });
    let groups =
        (prop::option::of(-3..3_i64), setting(), people(), people()).prop_map(|(priority, imap, add, remove)| {
            GroupPatch { priority, imap, add, remove, ..GroupPatch::default() }
        });
    let righted = (people(), any::<bool>()).prop_map(|(people, may)| {
        let rights = if may { Rights::Write } else { Rights::Read };
        people.into_iter().map(|user| (user, rights)).collect::<Vec<_>>()
    });
    let mailboxes = (prop::option::of(prop::option::of(number().prop_map(unit))), righted)
        .prop_map(|(unit, add)| MailboxPatch { unit, add, ..MailboxPatch::default() });
    let trust = prop_oneof![
        Just(Trust::Trusted),
        Just(Trust::Blocked),
        prop::collection::vec(number().prop_map(unit), 0..2).prop_map(Trust::Limited),
    ];
    let apps =
        (prop::option::of(trust), prop::collection::vec(number().prop_map(unit), 0..2), any::<Option<bool>>())
            .prop_map(|(trust, delegation, read_only)| AppPatch {
                name: Some(Some("An \"app\"".to_owned())),
                trust,
                delegation: Some(delegation),
                read_only,
            });
    prop_oneof![
        4 => (number(), action(units)).prop_map(|(at, action)| Directive::Unit(unit(at), action)),
        1 => (number(), number()).prop_map(|(from, to)| Directive::MoveUnit { from: unit(from), to: unit(to) }),
        5 => (number(), action(users)).prop_map(|(at, action)| Directive::User(user(at), action)),
        2 => (0..2_usize, action(groups)).prop_map(|(at, action)| Directive::Group(GroupId::parse(["g", "h"][at]).unwrap(), action)),
        2 => (number(), action(mailboxes)).prop_map(|(at, action)| Directive::Mailbox(mailbox(at), action)),
        2 => (number(), action(apps)).prop_map(|(at, action)| Directive::App(app(at), action)),
    ]
}

fn verdicts(store: &Store) -> Vec<Result<(), crate::policy::Refusal>> {
    let mut verdicts = Vec::new();
    for (who, owner) in (0..4).flat_map(|who| [user(who), mailbox(0), mailbox(1)].map(|owner| (user(who), owner))) {
        for id in ["x", "y", "vendor.mail.7"] {
            for service in [Service::Imap, Service::Pop] {
                let (user, owner, app) = (who.clone(), owner.clone(), ClientId::parse(id).unwrap());
                let asked = Question { user, owner, app, service, issued_at: Some(NOW), service_account: false };
                verdicts.push(store.read(|directory| explain(&asked, directory, NOW)).verdict);
            }
        }
    }
    verdicts
}

async fn open(dir: &Path) -> std::sync::Arc<Store> {
    Store::open(&Settings::in_dir(dir)).await.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn an_exported_policy_applied_again_changes_nothing(directives in prop::collection::vec(directive(), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let store = open(dir.path()).await;
            let mut done = 0;
            for directive in directives {
                // Many of them cannot be; what can be makes the history.
                let actor = Actor::all("test");
                done += usize::from(store.change(&[directive.into()], actor).await.is_ok());
            }
            let before = verdicts(&store);
            let text = file::write(&store.export().await.unwrap().0);
            let document = file::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            let plan = store.plan(&document, "policy.toml", &[]).await.unwrap();
            prop_assert!(plan.preview.is_empty());
            prop_assert_eq!((plan.counts.added, plan.counts.removed), (0, 0), "{:?}\n{}", plan.changes, text);
            for change in &plan.changes {
                prop_assert_eq!(&change.before, &change.after, "only who keeps the row changes: {}", text);
            }
            store.apply(&document, "policy.toml").await.unwrap();
            prop_assert_eq!(&verdicts(&store), &before);
            prop_assert!(store.apply(&document, "policy.toml").await.unwrap().is_unchanged());
            prop_assert_eq!(&file::write(&store.export().await.unwrap().0), &text);

            let other = open(other_dir.path()).await;
            other.apply(&document, "policy.toml").await.unwrap();
            prop_assert_eq!(&file::write(&other.export().await.unwrap().0), &text);
            prop_assert_eq!(&verdicts(&other), &before);
            // A reload tells the same as the snapshot that followed each change.
            store.close().await.unwrap();
            prop_assert_eq!(&verdicts(&*open(dir.path()).await), &before);
            prop_assert!(done > 0 || before.iter().all(Result::is_err));
            Ok(())
        })?;
    }
}
