//! Carrying out a list of wishes in an open transaction: the checks that all kinds of rows share. Called by `Store::change`
//! and `Store::preview`.

use std::collections::{BTreeSet, HashMap};

use sqlx::AnyConnection;

use super::{
    Action, Actor, Directive, EditError, MOST_CHANGES, SettingPatch, Wish, find, put, put::Mark, read::Stored,
};
use crate::model::{ClientId, MailHome, Place, Service, UnitPath, UnixTime, UserId};
use crate::policy::{Access, Setting, Settings};
use crate::store::{
    AuditEvent, Role, apply,
    feed::{Touched, Write},
    roles::{self, Put},
    rows::Failed,
};

/// Most client IDs in a list.
const MOST_APPS: usize = 1_000;
/// Latest end of a setting: the end of the year 9999, in milliseconds since 1970.
const LAST_END_MS: i64 = 253_402_300_799_999;
/// Longest name and reason, in bytes.
const MOST_TEXT: usize = 500;

/// A change that cannot be, or a database that does not answer.
pub(super) enum Stop {
    Edit(EditError),
    Failed(Failed),
}

impl From<EditError> for Stop {
    fn from(error: EditError) -> Self {
        Self::Edit(error)
    }
}

impl<E: Into<Failed>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) type Done<T = ()> = Result<T, Stop>;

pub(super) struct Work<'w> {
    pub(super) tx: &'w mut AnyConnection,
    pub(super) touched: &'w mut Touched,
    pub(super) mark: Mark,
    actor: Actor<'w>,
    now: UnixTime,
    events: Vec<AuditEvent>,
    /// Units that are known to be there; asked for once, because a list may name one very often.
    units: BTreeSet<UnitPath>,
    /// Where the mail of units is, asked for once too.
    pub(super) homes: HashMap<UnitPath, Option<MailHome>>,
}

impl<'w> Work<'w> {
    /// The work, and the version that every row it writes will have.
    pub(super) async fn begin(
        write: &'w mut Write<'_>,
        actor: Actor<'w>,
        now: UnixTime,
    ) -> Result<(Self, i64), EditError> {
        if actor.reason.is_some_and(|reason| reason.len() > MOST_TEXT) {
            return Err(EditError::TooMany { what: "bytes in a reason", most: MOST_TEXT });
        }
        let numbers = apply::numbers(&mut write.tx).await;
        let (version, _) = numbers.map_err(|error| write.failed(error))?;
        let mark = Mark { managed_by: put::ADMIN, version };
        let (tx, touched) = (&mut *write.tx, &mut write.touched);
        let (units, homes) = (BTreeSet::new(), HashMap::new());
        Ok((Self { tx, touched, mark, actor, now, events: Vec::new(), units, homes }, version))
    }

    /// The audit rows of what was done.
    pub(super) fn into_events(self) -> Vec<AuditEvent> {
        self.events
    }

    /// The audit rows of what was done, and the version that the rows have now.
    pub(super) async fn run(
        write: &'w mut Write<'_>,
        wishes: &[Wish],
        actor: Actor<'w>,
        now: UnixTime,
    ) -> Result<(Vec<AuditEvent>, i64), EditError> {
        if wishes.len() > MOST_CHANGES {
            return Err(EditError::TooMany { what: "changes in one list", most: MOST_CHANGES });
        }
        let (mut work, version) = Work::begin(write, actor, now).await?;
        let mut outcome = Ok(());
        for wish in wishes {
            outcome = work.one(wish).await;
            if outcome.is_err() {
                break;
            }
        }
        let events = work.events;
        match outcome {
            Ok(()) => Ok((events, version)),
            Err(Stop::Edit(error)) => Err(error),
            Err(Stop::Failed(failed)) => Err(write.failed(failed).into()),
        }
    }

    /// The subtree that the actor may change; none: everything.
    pub(super) fn within(&self) -> Option<&'w UnitPath> {
        self.actor.within
    }

    pub(super) fn by(&self) -> &'w str {
        self.actor.by
    }

    pub(super) fn now(&self) -> UnixTime {
        self.now
    }

    /// An audit row of something that goes along with the change.
    pub(super) fn note(&mut self, event: AuditEvent) {
        self.events.push(event);
    }

    async fn one(&mut self, wish: &Wish) -> Done {
        self.reaches(&wish.directive).await?;
        if matches!(wish.directive, Directive::Unit(..) | Directive::MoveUnit { .. }) {
            self.units.clear();
            self.homes.clear();
        }
        match &wish.directive {
            Directive::Unit(path, action) => self.unit(path, action, wish.expect).await,
            Directive::MoveUnit { from, to } => self.move_unit(from, to, wish.expect).await,
            Directive::User(id, action) => self.user(id, action, wish.expect).await,
            Directive::Group(name, action) => self.group(name, action, wish.expect).await,
            Directive::Mailbox(id, action) => self.mailbox(id, action, wish.expect).await,
            Directive::App(id, action) => self.app(id, action, wish.expect).await,
        }
    }

    /// Whether the row may be made, changed or removed by this wish.
    pub(super) async fn admit<K, V, P>(
        &mut self,
        place: &Place,
        found: Option<&Stored<K, V>>,
        action: &Action<P>,
        expect: Option<i64>,
    ) -> Done {
        match (found, action) {
            (Some(_), Action::Make(_)) => Err(EditError::Exists { place: place.clone() }.into()),
            (None, Action::Change(_) | Action::Remove) => Err(EditError::Absent { place: place.clone() }.into()),
            (None, Action::Make(_)) => Ok(()),
            (Some(row), _) => self.may_change(place, (&row.managed_by, row.version), expect).await,
        }
    }

    pub(super) async fn may_change(
        &mut self,
        place: &Place,
        (managed_by, found): (&str, i64),
        expect: Option<i64>,
    ) -> Done {
        if managed_by == put::FILE {
            return Err(self.managed(place.clone()).await?.into());
        }
        if let Some(expected) = expect.filter(|expected| *expected != found) {
            return Err(EditError::Stale { place: place.clone(), expected, found }.into());
        }
        Ok(())
    }

    pub(super) async fn managed(&mut self, place: Place) -> Done<EditError> {
        Ok(EditError::Managed { place, file: find::file_name(self.tx).await? })
    }

    /// Notes a change for the audit log.
    /// `unit` is where the row is now, or was: whose admins may read of it.
    pub(super) fn tell(
        &mut self,
        event: &'static str,
        (place, unit): (Place, Option<&UnitPath>),
        before: Option<String>,
        after: Option<String>,
    ) {
        let mut row = AuditEvent::new(self.now, event, "done");
        match &place {
            Place::User(user) => row.user = Some(user.to_string()),
            Place::Mailbox(mailbox) => row.owner = Some(mailbox.to_string()),
            Place::App(app) => row.app = Some(app.to_string()),
            Place::Unit(_) | Place::Default | Place::Group(_) | Place::Grant(..) => {}
        }
        row.unit = unit.map(ToString::to_string);
        row.place = Some(place.to_string());
        let words = |text: Option<String>| text.unwrap_or_else(|| "absent".to_owned());
        let reason = self.actor.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        row.detail = Some(format!("by {}{reason}: {} -> {}", self.actor.by, words(before), words(after)));
        self.events.push(row);
    }

    /// The role of somebody who is being removed goes with them.
    pub(super) async fn end_role(&mut self, user: &UserId) -> Done {
        match roles::end(self.tx, user).await? {
            Put::LastSuper => return Err(EditError::LastSuper { user: user.clone() }.into()),
            Put::Done { before } => {
                self.events.push(roles::told(user, (&before, &Role::User), self.actor.by, self.now));
            }
            Put::Same | Put::Full => {}
        }
        Ok(())
    }

    /// A unit that something is put into, or that an app is limited to.
    pub(super) async fn known_unit(&mut self, place: &Place, unit: &UnitPath) -> Done {
        if self.units.contains(unit) {
            return Ok(());
        }
        if find::unit_exists(self.tx, unit).await? {
            self.units.insert(unit.clone());
            return Ok(());
        }
        let remedy = "correct the path, or make the unit first; letter case matters";
        Err(EditError::wrong(place.clone(), format!("there is no unit \"{unit}\""), remedy).into())
    }

    pub(super) async fn known_users(&mut self, place: &Place, users: &[&UserId]) -> Done {
        let Some(missing) = find::missing_user(self.tx, users).await? else { return Ok(()) };
        let remedy = "correct the address, or make the user first";
        Err(EditError::wrong(place.clone(), format!("there is no user \"{missing}\""), remedy).into())
    }
}

/// Settings with a patch in them.
pub(super) fn patched(
    place: &Place,
    settings: &Settings,
    imap: &SettingPatch,
    pop: &SettingPatch,
) -> Result<Settings, EditError> {
    let mut settings = settings.clone();
    for (service, patch) in [(Service::Imap, imap), (Service::Pop, pop)] {
        let Some(setting) = patch else { continue };
        if let Some(setting) = setting {
            check(place, setting)?;
        }
        match service {
            Service::Imap => settings.imap.clone_from(setting),
            Service::Pop => settings.pop.clone_from(setting),
        }
    }
    Ok(settings)
}

fn check(place: &Place, setting: &Setting) -> Result<(), EditError> {
    if setting.until.is_some_and(|until| !(0..=LAST_END_MS).contains(&until.0)) {
        let remedy = "write a moment between 1970 and 9999";
        return Err(EditError::wrong(place.clone(), "the end of the setting is out of range", remedy));
    }
    let Access::Only(list) = &setting.access else { return Ok(()) };
    if list.len() > MOST_APPS {
        return Err(EditError::TooMany { what: "client IDs in a list", most: MOST_APPS });
    }
    for id in list {
        ClientId::parse_entry(id.as_str()).map_err(|bad| EditError::name(place.clone(), &bad))?;
        if matches!(id.as_str(), "any" | "off") {
            let what = format!("{:?} in a list of client IDs", id.as_str());
            return Err(EditError::wrong(place.clone(), what, "write it alone; a list holds client IDs"));
        }
    }
    Ok(())
}

pub(super) fn check_name(place: &Place, name: Option<&str>) -> Result<(), EditError> {
    let Some(name) = name else { return Ok(()) };
    if name.len() > MOST_TEXT || name.chars().any(char::is_control) {
        let remedy = "write at most 500 bytes without control characters";
        return Err(EditError::wrong(place.clone(), "its name is too long or not plain text", remedy));
    }
    Ok(())
}
