//! Changes of the directory one resource at a time, and many in one transaction: units, users, groups, shared mailboxes,
//! apps. Called by `admin` and `cli`.
//!
//! A change is a [`Directive`] to make, change or remove one row, or to move a unit; a [`Wish`] is one with the version its
//! asker expects (an ETag). [`Store::change`] carries out a list of them, all or none; [`Store::preview`] tells what they
//! would come to, through the same code in a transaction that is dropped. Every change has an audit row with who, before
//! and after.
//!
//! Rows of the policy file are not changed here: the error names the file. Nor is what the actor does not reach
//! ([`Actor::within`]): whether a row is within reach is looked at in the same transaction that changes it.

mod allow;
mod error;
mod find;
pub(super) mod former;
mod import;
mod people;
mod provision;
pub(super) mod put;
mod reach;
mod read;
mod units;
mod work;

use std::time::SystemTime;

pub use allow::Allowed;
pub use error::EditError;
pub(super) use find::{below, is_used};
pub use import::Imported;
pub(super) use provision::fresh_id;
pub use provision::{Provision, ScimRecord};
pub use read::{MailboxValue, Page, Stored, UserFilter};

use super::{AuditEvent, Deed, Store, StoreError, apply, audit, feed::Write, outbox::Telling};
use crate::model::{ClientId, GroupId, MailHome, UnitPath, UnixTime, UserId};
use crate::policy::{Ceiling, LiveSeat, Preview, Rights, Setting, Trust};
use work::Work;

/// Most changes in one list.
pub const MOST_CHANGES: usize = 10_000;

/// What an error says was being done.
const DOING: &str = "changing the directory";

/// Who asks for a change, and why: for the audit log.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    /// Who: an admin's address, the name of an API token, a command.
    pub by: &'a str,
    /// Why, in the actor's words; at most 500 bytes.
    pub reason: Option<&'a str>,
    /// The subtree that the actor is an admin of: what is outside does not exist for them. None: all is theirs to change.
    pub within: Option<&'a UnitPath>,
}

impl<'a> Actor<'a> {
    /// Somebody who may change everything, and gives no reason.
    pub const fn all(by: &'a str) -> Self {
        Self { by, reason: None, within: None }
    }
}

/// One change, and the version the asker has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// What is to be done.
    pub directive: Directive,
    /// The version of the row that the asker has seen ([`Stored::version`]); another one is [`EditError::Stale`]. None: not
    /// looked at.
    pub expect: Option<i64>,
}

impl From<Directive> for Wish {
    fn from(directive: Directive) -> Self {
        Self { directive, expect: None }
    }
}

/// One change of one row, or the move of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directive {
    /// A unit. The root is always there: it is changed, never made or removed.
    Unit(UnitPath, Action<UnitPatch>),
    /// A unit with all below it, users, mailboxes and what apps say of them included, gets another path. The unit above the
    /// new path must exist, the new path must not.
    MoveUnit {
        /// The path it has.
        from: UnitPath,
        /// The path it gets.
        to: UnitPath,
    },
    /// A user. One who is made needs a unit.
    User(UserId, Action<UserPatch>),
    /// A group.
    Group(GroupId, Action<GroupPatch>),
    /// A shared mailbox.
    Mailbox(UserId, Action<MailboxPatch>),
    /// An app's entry in the catalogue; the ID may end in `*`.
    App(ClientId, Action<AppPatch>),
}

/// What is to be done with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<P> {
    /// It must not be there yet. What the patch leaves out has its default.
    Make(P),
    /// It must be there. What the patch leaves out stays.
    Change(P),
    /// It must be there.
    Remove,
}

/// A setting to change: `None` leaves it as it is, `Some(None)` makes the place inherit again.
pub type SettingPatch = Option<Option<Setting>>;

/// What to change of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitPatch {
    /// Its own setting for IMAP.
    pub imap: SettingPatch,
    /// Its own setting for POP3.
    pub pop: SettingPatch,
    /// What each mailbox may take up, in bytes: `None` leaves it as it is, `Some(None)` makes the unit inherit again.
    pub storage_quota: Option<Option<Ceiling>>,
    /// The same in messages.
    pub message_quota: Option<Option<Ceiling>>,
    /// Where its mail is. Only for actors who may change everything.
    pub mail: Option<Option<MailHome>>,
    /// Whether mail can only be read there.
    pub read_only: Option<Option<bool>>,
    /// Open sessions of each user and service.
    pub sessions_per_user: Option<Option<Ceiling>>,
    /// Bytes that each user receives and sends in a day.
    pub bytes_per_day: Option<Option<Ceiling>>,
}

/// What to change of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserPatch {
    /// The unit the user is in.
    pub unit: Option<UnitPath>,
    /// Whether the user is suspended.
    pub suspended: Option<bool>,
    /// The user's own setting for IMAP.
    pub imap: SettingPatch,
    /// The user's own setting for POP3.
    pub pop: SettingPatch,
    /// Where the user's mail is; `Some(None)`: where that of the unit is. Only for actors who may change everything.
    pub mail: Option<Option<MailHome>>,
}

/// What to change of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupPatch {
    /// The highest priority wins.
    pub priority: Option<i64>,
    /// Its setting for IMAP.
    pub imap: SettingPatch,
    /// Its setting for POP3.
    pub pop: SettingPatch,
    /// Exactly these members. The users must exist.
    pub members: Option<Vec<UserId>>,
    /// These members too.
    pub add: Vec<UserId>,
    /// These members no more; who is none is passed over.
    pub remove: Vec<UserId>,
}

/// What to change of a shared mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxPatch {
    /// What people call it; `Some(None)` takes the name away.
    pub name: Option<Option<String>>,
    /// The unit it belongs to; `Some(None)`: none.
    pub unit: Option<Option<UnitPath>>,
    /// Exactly these members, each with what they may do. The users must exist.
    pub members: Option<Vec<(UserId, Rights)>>,
    /// These members too, or with other rights.
    pub add: Vec<(UserId, Rights)>,
    /// These members no more; who is none is passed over.
    pub remove: Vec<UserId>,
    /// Made at the address of a former user, it opens the mail that is still there. Only for actors who may change
    /// everything.
    pub take_over: bool,
}

/// What to change of an app's entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppPatch {
    /// What people call it; `Some(None)` takes the name away.
    pub name: Option<Option<String>>,
    /// How far it is trusted. The units it is limited to must exist.
    pub trust: Option<Trust>,
    /// The units in which it may act as a service account.
    pub delegation: Option<Vec<UnitPath>>,
    /// Whether it may only read.
    pub read_only: Option<bool>,
}

/// What [`Store::change`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The number of the last change that is in the snapshot now.
    pub number: i64,
    /// The version that every row of the list has now.
    pub version: i64,
    /// So many people are told that they lose access; 0 where nobody asked for notices.
    pub told: usize,
}

impl Store {
    /// Carries out all wishes in their order, in one transaction, or none of them. When it returns the snapshot has the
    /// change and every gate hears of it.
    pub async fn change(&self, wishes: &[Wish], actor: Actor<'_>) -> Result<Changed, EditError> {
        self.make(Write::begin(self, DOING).await?, wishes, actor, false).await
    }

    /// The same, and queues a notice in the same transaction for everybody who loses access to something by it. For more
    /// than 100,000 people it is an error, and nothing is changed.
    pub async fn change_telling(&self, wishes: &[Wish], actor: Actor<'_>) -> Result<Changed, EditError> {
        self.make(self.begin_beside_snapshot(DOING).await?, wishes, actor, true).await
    }

    async fn make(
        &self,
        mut write: Write<'_>,
        wishes: &[Wish],
        actor: Actor<'_>,
        tell: bool,
    ) -> Result<Changed, EditError> {
        let now = UnixTime::from(SystemTime::now());
        let (events, version) = Work::run(&mut write, wishes, actor, now).await?;
        if events.is_empty() {
            return Ok(Changed { number: self.number(), version, told: 0 });
        }
        let drafts = if tell {
            let telling = Telling { deed: Deed::Changed, from: Some(now), reason: actor.reason };
            self.loss_drafts(&mut write, telling, now).await.map_err(|error| match error {
                StoreError::TooManyToTell { most, .. } => {
                    EditError::TooMany { what: "people to tell at once", most }
                }
                other => other.into(),
            })?
        } else {
            Vec::new()
        };
        record(&mut write, events, version).await?;
        self.post(&mut write, &drafts, actor.by, now).await?;
        let number = write.commit(now).await?;
        self.posted();
        Ok(Changed { number, version, told: drafts.len() })
    }

    /// What the wishes would come to: who would lose and gain access, and which of the open sessions `seats` would fall. The
    /// errors are those of [`Store::change`]; nothing is changed.
    pub async fn preview(
        &self,
        wishes: &[Wish],
        actor: Actor<'_>,
        seats: &[LiveSeat],
    ) -> Result<Preview, EditError> {
        let now = UnixTime::from(SystemTime::now());
        // What other processes committed is no part of the difference.
        self.catch_up().await?;
        let mut write = Write::begin(self, "previewing a change").await?;
        Work::run(&mut write, wishes, actor, now).await?;
        Ok(self.preview_of(write.into_news().await?, seats, now))
    }
}

/// Makes a user of the root within another write, unless there is that user already. Says whether it did.
pub(super) async fn make_user(
    write: &mut Write<'_>,
    user: &UserId,
    by: &str,
    now: UnixTime,
) -> Result<bool, EditError> {
    let patch = UserPatch { unit: Some(UnitPath::root()), ..UserPatch::default() };
    let wish = Wish::from(Directive::User(user.clone(), Action::Make(patch)));
    let (events, version) = match Work::run(write, &[wish], Actor::all(by), now).await {
        Err(EditError::Exists { .. }) => return Ok(false),
        made => made?,
    };
    record(write, events, version).await?;
    Ok(true)
}

/// The end of every change: it is recorded and committed.
async fn finish(
    mut write: Write<'_>,
    events: Vec<AuditEvent>,
    version: i64,
    now: UnixTime,
) -> Result<i64, EditError> {
    record(&mut write, events, version).await?;
    Ok(write.commit(now).await?)
}

/// The policy has a new version, and the audit log has the rows.
async fn record(write: &mut Write<'_>, events: Vec<AuditEvent>, version: i64) -> Result<(), EditError> {
    let noted = apply::note_policy_version(&mut write.tx, version).await;
    noted.map_err(|error| write.failed(error))?;
    let inserted = audit::insert(&mut write.tx, events).await;
    inserted.map_err(|error| write.failed(error))?;
    Ok(())
}

#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod tests;
