//! What an identity provider wants of a user or a group: the row and what the provider says beside it, in one transaction.
//! Called by `admin`.
//!
//! A user's address and a group's name are what everything else goes by, so a new one is a new row. What an admin gave the
//! old one goes over: unit, suspension, settings, memberships, and the services the user turned off. Grants, and the mail of
//! an embedded mailbox, are the old address's and stay with it.

use std::time::SystemTime;

use aws_lc_rs::rand;
use sqlx::Row;

use super::{
    Action, Actor, Changed, Directive, EditError, GroupPatch, MailboxPatch, UserPatch, find, finish, put,
    work::{Done, Stop, Work},
};
use crate::model::{GroupId, Place, UnitPath, UnixTime, UserId};
use crate::policy::Rights;
use crate::store::{
    Role, Store,
    feed::Write,
    roles,
    rows::{self, Failed},
    scim::ScimId,
};

/// What a provider says of one of its resources, to be kept beside the row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScimRecord {
    /// The provider's own id, to be found by.
    pub external_id: Option<String>,
    /// All that it says, as JSON; that it is not too long is the caller's to check.
    pub document: String,
}

/// A wish of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provision {
    /// A user who must not be there yet.
    MakeUser(UserId, UserPatch),
    /// A user who must be there.
    ChangeUser {
        /// The id, which stays.
        id: ScimId,
        /// The address the user has.
        from: UserId,
        /// The address the user is to have.
        to: UserId,
        /// What is to be changed.
        patch: UserPatch,
        /// The version that the asker has seen.
        expect: i64,
    },
    /// A group that must not be there yet.
    MakeGroup(GroupId, GroupPatch),
    /// A group that must be there.
    ChangeGroup {
        /// The id, which stays.
        id: ScimId,
        /// The name the group has.
        from: GroupId,
        /// The name the group is to have.
        to: GroupId,
        /// What is to be changed.
        patch: GroupPatch,
        /// The version that the asker has seen.
        expect: i64,
    },
}

impl Provision {
    /// The same as a change of the row: what it may reach is the same. A new address is looked at where it is given.
    fn directive(&self) -> Directive {
        match self {
            Self::MakeUser(user, patch) => Directive::User(user.clone(), Action::Make(patch.clone())),
            Self::ChangeUser { from, patch, .. } => Directive::User(from.clone(), Action::Change(patch.clone())),
            Self::MakeGroup(group, _) => Directive::Group(group.clone(), Action::Remove),
            Self::ChangeGroup { from, .. } => Directive::Group(from.clone(), Action::Remove),
        }
    }
}

impl Store {
    /// Carries a provider's wish out and keeps what it says, all or nothing. When it returns the snapshot has the change
    /// and every gate hears of it. Errors are those of [`Store::change`].
    pub async fn provision(
        &self,
        wish: &Provision,
        record: &ScimRecord,
        actor: Actor<'_>,
    ) -> Result<(ScimId, Changed), EditError> {
        let now = UnixTime::from(SystemTime::now());
        let mut write = Write::begin(self, "provisioning").await?;
        let (mut work, version) = Work::begin(&mut write, actor, now).await?;
        let outcome = work.provision(wish, record, now).await;
        let events = work.into_events();
        let id = match outcome {
            Ok(id) => id,
            Err(Stop::Edit(error)) => return Err(error),
            Err(Stop::Failed(failed)) => return Err(write.failed(failed).into()),
        };
        let number = finish(write, events, version, now).await?;
        Ok((id, Changed { number, version, told: 0 }))
    }
}

/// A new id: a random UUID (RFC 9562 section 5.4).
pub(in crate::store) fn fresh_id() -> Result<ScimId, Failed> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| Failed::Bad("the system gives no random bytes".to_owned()))?;
    let bits = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Ok(ScimId::new(format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))))
}

impl Work<'_> {
    async fn provision(&mut self, wish: &Provision, record: &ScimRecord, now: UnixTime) -> Done<ScimId> {
        self.reaches(&wish.directive()).await?;
        match wish {
            Provision::MakeUser(user, patch) => {
                self.user(user, &Action::Make(patch.clone()), None).await?;
                let id = fresh_id()?;
                self.keep(USERS, &id, user.as_str(), record, (now, now)).await?;
                Ok(id)
            }
            Provision::ChangeUser { id, from, to, patch, expect } => {
                let place = Place::User(from.clone());
                let made = self.known_as(USERS, id, from.as_str(), place).await?;
                if from == to {
                    self.user(from, &Action::Change(patch.clone()), Some(*expect)).await?;
                } else {
                    self.rename_user((from, to), patch, *expect).await?;
                }
                self.keep(USERS, id, to.as_str(), record, (made, now)).await?;
                Ok(id.clone())
            }
            Provision::MakeGroup(group, patch) => {
                self.group(group, &Action::Make(patch.clone()), None).await?;
                let id = fresh_id()?;
                self.keep(GROUPS, &id, group.as_str(), record, (now, now)).await?;
                Ok(id)
            }
            Provision::ChangeGroup { id, from, to, patch, expect } => {
                let place = Place::Group(from.clone());
                let made = self.known_as(GROUPS, id, from.as_str(), place).await?;
                if from == to {
                    self.group(from, &Action::Change(patch.clone()), Some(*expect)).await?;
                } else {
                    self.rename_group(from, to, patch, *expect).await?;
                }
                self.keep(GROUPS, id, to.as_str(), record, (made, now)).await?;
                Ok(id.clone())
            }
        }
    }

    /// When this id was made, if it is still that row's.
    async fn known_as(&mut self, table: Table, id: &ScimId, name: &str, place: Place) -> Done<UnixTime> {
        let row = sqlx::query(table.find).bind(id.as_str()).bind(name).fetch_optional(&mut *self.tx).await?;
        let Some(row) = row else { return Err(EditError::Absent { place }.into()) };
        Ok(UnixTime(row.try_get(0)?))
    }

    async fn keep(
        &mut self,
        table: Table,
        id: &ScimId,
        name: &str,
        record: &ScimRecord,
        (made, now): (UnixTime, UnixTime),
    ) -> Done {
        let query = sqlx::query(table.keep).bind(id.as_str()).bind(name).bind(record.external_id.as_deref());
        query.bind(&record.document).bind(made.0).bind(now.0).execute(&mut *self.tx).await?;
        Ok(())
    }

    async fn rename_user(&mut self, (from, to): (&UserId, &UserId), patch: &UserPatch, expect: i64) -> Done {
        let place = Place::User(from.clone());
        let Some(before) = find::user(self.tx, from).await? else { return Err(EditError::Absent { place }.into()) };
        let mut groups = Vec::new();
        let sql = "SELECT name FROM group_members WHERE address = $1 ORDER BY name";
        for row in sqlx::query(sql).bind(from.as_str()).fetch_all(&mut *self.tx).await? {
            groups.push(GroupId::parse(row.try_get(0)?)?);
        }
        let mut mailboxes = Vec::new();
        let sql = "SELECT mailbox, rights FROM mailbox_members WHERE address = $1 ORDER BY mailbox";
        for row in sqlx::query(sql).bind(from.as_str()).fetch_all(&mut *self.tx).await? {
            mailboxes.push((UserId::parse(row.try_get(0)?)?, rows::rights(row.try_get(1)?)?));
        }
        if let Some(top) = self.within() {
            self.may_rename((from, to), groups.first(), &mailboxes, top).await?;
        }
        self.user(from, &Action::Remove, Some(expect)).await?;
        let before = before.value;
        let whole = UserPatch {
            unit: patch.unit.clone().or(Some(before.unit)),
            suspended: patch.suspended.or(Some(before.suspended)),
            imap: patch.imap.clone().or(Some(before.settings.imap)),
            pop: patch.pop.clone().or(Some(before.settings.pop)),
            mail: patch.mail.clone().or(Some(before.mail)),
        };
        self.user(to, &Action::Make(whole), None).await?;
        for group in groups {
            let patch = GroupPatch { add: vec![to.clone()], ..GroupPatch::default() };
            self.group(&group, &Action::Change(patch), None).await?;
        }
        for (mailbox, rights) in mailboxes {
            let patch = MailboxPatch { add: vec![(to.clone(), rights)], ..MailboxPatch::default() };
            self.mailbox(&mailbox, &Action::Change(patch), None).await?;
        }
        put::remove(self.tx, "DELETE FROM own_switches WHERE address = $1", &[to.as_str()]).await?;
        let query = sqlx::query("UPDATE own_switches SET address = $1 WHERE address = $2");
        query.bind(to.as_str()).bind(from.as_str()).execute(&mut *self.tx).await?;
        Ok(())
    }

    /// Whether an admin of a subtree may give a user another address, which takes groups and shared mailboxes over: nothing
    /// that is not theirs to give goes over.
    async fn may_rename(
        &mut self,
        (from, to): (&UserId, &UserId),
        group: Option<&GroupId>,
        mailboxes: &[(UserId, Rights)],
        top: &UnitPath,
    ) -> Done {
        let refused = |what: String| {
            Err(EditError::OutOfReach { place: Place::User(from.clone()), what, top: top.clone() }.into())
        };
        if let Some(group) = group {
            return refused(format!("is in the group \"{group}\", which a new address would take over"));
        }
        for (mailbox, _) in mailboxes {
            let unit = find::mailbox(self.tx, mailbox).await?.and_then(|found| found.value.1);
            if !unit.is_some_and(|unit| unit.is_within(top)) {
                return refused("is in a shared mailbox outside, which a new address would take over".to_owned());
            }
        }
        for user in [from, to] {
            if roles::of(self.tx, user).await? != Role::User {
                return refused(format!("cannot get another address: \"{user}\" has a role"));
            }
        }
        Ok(())
    }

    async fn rename_group(&mut self, from: &GroupId, to: &GroupId, patch: &GroupPatch, expect: i64) -> Done {
        let place = Place::Group(from.clone());
        let Some(before) = find::group(self.tx, from).await? else {
            return Err(EditError::Absent { place }.into());
        };
        if find::group(self.tx, to).await?.is_some() {
            return Err(EditError::Exists { place: Place::Group(to.clone()) }.into());
        }
        let members = find::group_members(self.tx, from).await?;
        self.touched.users.extend(members);
        // They are the new group's before it is made: the old one is removed without any, the new one finds them.
        let query = sqlx::query("UPDATE group_members SET name = $1 WHERE name = $2");
        query.bind(to.as_str()).bind(from.as_str()).execute(&mut *self.tx).await?;
        self.group(from, &Action::Remove, Some(expect)).await?;
        let before = before.value;
        let whole = GroupPatch {
            priority: patch.priority.or(Some(before.priority)),
            imap: patch.imap.clone().or(Some(before.settings.imap)),
            pop: patch.pop.clone().or(Some(before.settings.pop)),
            members: patch.members.clone(),
            add: patch.add.clone(),
            remove: patch.remove.clone(),
        };
        self.group(to, &Action::Make(whole), None).await
    }
}

/// The statements for one of the two tables.
#[derive(Clone, Copy)]
struct Table {
    find: &'static str,
    keep: &'static str,
}

const USERS: Table = Table {
    find: "SELECT made_at FROM scim_users WHERE id = $1 AND address = $2",
    keep: "INSERT INTO scim_users (id, address, external_id, document, made_at, changed_at) \
           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET address = excluded.address, \
           external_id = excluded.external_id, document = excluded.document, changed_at = excluded.changed_at",
};

const GROUPS: Table = Table {
    find: "SELECT made_at FROM scim_groups WHERE id = $1 AND name = $2",
    keep: "INSERT INTO scim_groups (id, name, external_id, document, made_at, changed_at) \
           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
           external_id = excluded.external_id, document = excluded.document, changed_at = excluded.changed_at",
};
