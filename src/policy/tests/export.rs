//! What is written as a policy file is read back as it was.

use proptest::prelude::*;

use super::{file, properties::settings};
use crate::model::{ClientId, GroupId, MailHome, UnitPath, UserId};
use crate::policy::{
    App, Ceiling, LimitSettings, Mailbox, QuotaSettings, Trust, Unit,
    file::{Document, FileGroup, FileUser},
};

fn path() -> impl Strategy<Value = UnitPath> {
    prop::sample::select(vec!["/", "/Sales", "/Sales/Field \"North\"", "/a\\b", "/Über/uns", "/#=[]'"])
        .prop_map(|path| UnitPath::parse(path).unwrap())
}

fn person() -> impl Strategy<Value = UserId> {
    prop::sample::select(vec!["ann@example.com", "O'Neil\"x@example.com", "ü@example.org", "bob@example.com"])
        .prop_map(|user| UserId::parse(user).unwrap())
}

fn client() -> impl Strategy<Value = ClientId> {
    prop::sample::select(vec!["a", "x\"y\\z", "vendor.mail.*", "any"]).prop_map(|id| ClientId::parse(id).unwrap())
}

fn name() -> impl Strategy<Value = Option<String>> {
    prop::option::of(any::<String>())
}

fn quotas() -> impl Strategy<Value = QuotaSettings> {
    let ceiling = || {
        let limit = prop_oneof![Just(Ceiling::Unlimited), (0..=i64::MAX as u64).prop_map(Ceiling::At)];
        prop::option::of(limit)
    };
    (ceiling(), ceiling()).prop_map(|(storage, messages)| QuotaSettings { storage, messages })
}

fn limits() -> impl Strategy<Value = LimitSettings> {
    let ceiling = || {
        let limit = prop_oneof![Just(Ceiling::Unlimited), (1..=i64::MAX as u64).prop_map(Ceiling::At)];
        prop::option::of(limit)
    };
    (ceiling(), ceiling())
        .prop_map(|(sessions_per_user, bytes_per_day)| LimitSettings { sessions_per_user, bytes_per_day })
}

fn home() -> impl Strategy<Value = MailHome> {
    prop::sample::select(vec!["maildir", "dovecot", "old.mail/mail1.internal", "x/[::1]"])
        .prop_map(|text| MailHome::parse(text).unwrap())
}

fn document() -> impl Strategy<Value = Document> {
    let paths = || prop::collection::vec(path(), 0..3);
    let user = (path(), any::<bool>(), settings(), prop::option::of(home()))
        .prop_map(|(unit, suspended, settings, mail)| FileUser { unit, suspended, settings, mail });
    let group = (any::<i64>(), settings(), prop::collection::btree_set(person(), 0..4)).prop_map(
        |(priority, settings, members)| FileGroup { priority, settings, members: members.into_iter().collect() },
    );
    let trust = prop_oneof![Just(Trust::Trusted), Just(Trust::Blocked), paths().prop_map(Trust::Limited)];
    let app = (name(), trust, paths(), any::<bool>()).prop_map(|(name, trust, delegation, read_only)| App {
        name,
        trust,
        delegation,
        read_only,
    });
    let mailbox = (name(), prop::option::of(path()), prop::collection::btree_map(person(), any::<bool>(), 0..4))
        .prop_map(|(name, unit, people)| {
            let of = |wanted: bool| {
                people.iter().filter(|(_, may)| **may == wanted).map(|(user, _)| user.clone()).collect()
            };
            Mailbox { name, unit, members: of(true), readers: of(false) }
        });
    (
        prop::collection::btree_map(
            path(),
            (settings(), quotas(), prop::option::of(home()), any::<Option<bool>>(), limits()).prop_map(
                |(settings, quota, mail, read_only, limits)| Unit { settings, quota, mail, read_only, limits },
            ),
            0..6,
        ),
        prop::collection::btree_map(person(), user, 0..4),
        prop::collection::btree_map("[a-z\"#.]{1,9}".prop_map(|name| GroupId::parse(&name).unwrap()), group, 0..3),
        prop::collection::btree_map(
            "[a-z]{1,3}@team\\.example".prop_map(|id| UserId::parse(&id).unwrap()),
            mailbox,
            0..3,
        ),
        prop::collection::btree_map(client(), app, 0..4),
    )
        .prop_map(|(mut units, users, mut groups, mut mailboxes, apps)| {
            // Whatever is named exists.
            for path in ["/", "/Sales", "/Sales/Field \"North\"", "/a\\b", "/Über/uns", "/#=[]'"] {
                units.entry(UnitPath::parse(path).unwrap()).or_default();
            }
            groups.values_mut().for_each(|group| group.members.retain(|user| users.contains_key(user)));
            for mailbox in mailboxes.values_mut() {
                mailbox.members.retain(|user| users.contains_key(user));
                mailbox.readers.retain(|user| users.contains_key(user));
            }
            Document { units, users, groups, mailboxes, apps, elsewhere: Vec::new() }
        })
}

proptest! {
    #[test]
    fn a_written_policy_is_read_back_as_it_was(document in document()) {
        let text = file::write(&document);
        match file::parse(&text) {
            Ok(read) => prop_assert_eq!(unrepeated(read), unrepeated(document), "{}", text),
            Err(error) => prop_assert!(false, "{}\n{}", error, text),
        }
    }
}

/// Reading drops an ID that a list names twice.
fn unrepeated(mut document: Document) -> Document {
    let users = document.users.values_mut().map(|user| &mut user.settings);
    let groups = document.groups.values_mut().map(|group| &mut group.settings);
    let units = document.units.values_mut().map(|unit| &mut unit.settings);
    for settings in users.chain(groups).chain(units) {
        for setting in [&mut settings.imap, &mut settings.pop].into_iter().flatten() {
            if let crate::policy::Access::Only(list) = &mut setting.access {
                let mut seen = std::collections::HashSet::new();
                list.retain(|id| seen.insert(id.clone()));
            }
        }
    }
    document
}
