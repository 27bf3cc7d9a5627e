//! The rows policy is made of, as values: what a unit, group, user, mailbox, app or grant says. Made by
//! `policy::file` and `store`, put into a [`super::Directory`] by [`Edit`].

use super::{Cutoff, CutoffKey, LimitSettings, QuotaSettings};
use crate::model::{BadName, ClientId, GroupId, MailHome, Service, UnitPath, UnixTime, UserId};

/// What a setting allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nobody comes in.
    Off,
    /// Any app comes in.
    Any,
    /// Only these apps; the order is the admin's. An empty list admits nobody. Compared exactly, but for an entry with a
    /// last `*` ([`ClientId::prefix`]): that one admits every client ID with its beginning.
    Only(Vec<ClientId>),
}

impl Access {
    /// Reads what an admin typed or pasted: `off`, `any`, or client IDs between commas as [`ClientId::parse_list`] takes
    /// them.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        match text.trim() {
            "off" => Ok(Self::Off),
            "any" => Ok(Self::Any),
            pasted => {
                let list = ClientId::parse_list(pasted)?;
                match list.iter().find(|id| matches!(id.as_str(), "any" | "off")) {
                    None => Ok(Self::Only(list)),
                    Some(word) => Err(BadName {
                        kind: "client ID",
                        text: word.to_string(),
                        problem: "stands in a list of client IDs: write it alone",
                    }),
                }
            }
        }
    }
}

/// A setting of one service in one place; absent means inherit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What it allows.
    pub access: Access,
    /// When it ends by itself: from that moment on it counts as absent.
    pub until: Option<UnixTime>,
}

impl From<Access> for Setting {
    fn from(access: Access) -> Self {
        Self { access, until: None }
    }
}

/// The two settings of a place, independent of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// IMAP.
    pub imap: Option<Setting>,
    /// POP3.
    pub pop: Option<Setting>,
}

impl Settings {
    /// The setting of one service.
    pub fn of(&self, service: Service) -> Option<&Setting> {
        match service {
            Service::Imap => self.imap.as_ref(),
            Service::Pop => self.pop.as_ref(),
        }
    }
}

/// An organisational unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its own settings; absent ones are inherited.
    pub settings: Settings,
    /// What each mailbox may take up; what it does not say is inherited.
    pub quota: QuotaSettings,
    /// Where its mail is; absent: inherited, in the end from the configuration (`mail.default`).
    pub mail: Option<MailHome>,
    /// Whether mail can only be read there; absent: inherited, in the end `false`.
    pub read_only: Option<bool>,
    /// What each user may use up; what it does not say is inherited.
    pub limits: LimitSettings,
}

/// A group; who belongs to it stands with the users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The highest priority among the user's groups that set the service wins; of equals, the group whose name comes
    /// first in byte order.
    pub priority: i64,
    /// Its settings; they beat the unit's.
    pub settings: Settings,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The one unit the user is in.
    pub unit: UnitPath,
    /// Suspended users get nowhere.
    pub suspended: bool,
    /// Exceptions for this user alone; they beat groups and unit.
    pub settings: Settings,
    /// Services the user turned off for themselves. They can only take away.
    pub own_off: OwnOff,
    /// The groups the user is a member of.
    pub groups: Vec<GroupId>,
    /// Where the user's mail is, whatever the unit says; absent: where that of the unit is.
    pub mail: Option<MailHome>,
}

impl User {
    /// A user of `unit` about whom nothing else is known.
    pub fn in_unit(unit: UnitPath) -> Self {
        Self {
            unit,
            suspended: false,
            settings: Settings::default(),
            own_off: OwnOff::default(),
            groups: Vec::new(),
            mail: None,
        }
    }
}

/// The switches users have for themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnOff {
    /// IMAP is off.
    pub imap: bool,
    /// POP3 is off.
    pub pop: bool,
}

impl OwnOff {
    /// Whether the user turned this service off.
    pub fn of(self, service: Service) -> bool {
        match service {
            Service::Imap => self.imap,
            Service::Pop => self.pop,
        }
    }
}

/// What a person may do in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rights {
    /// Read it, and change nothing in it.
    Read,
    /// Read and change it.
    Write,
}

impl Rights {
    /// The word kept in the database and shown to people: `read`, `write`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// Reads the word that [`Rights::word`] writes.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Read, Self::Write].into_iter().find(|rights| rights.word() == word)
    }
}

/// A shared mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mailbox {
    /// What people call it.
    pub name: Option<String>,
    /// The unit it belongs to, if any: its settings are a second gate behind the member's own.
    pub unit: Option<UnitPath>,
    /// Who may read and change it.
    pub members: Vec<UserId>,
    /// Who may only read it. Who stands in both lists may change it.
    pub readers: Vec<UserId>,
}

/// How far an app is trusted, whatever the lists say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Wherever the settings let it in. Apps the catalogue does not know count as this.
    #[default]
    Trusted,
    /// Only in these units and below; an empty list is nowhere.
    Limited(Vec<UnitPath>),
    /// Nowhere.
    Blocked,
}

/// An app's entry in the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct App {
    /// What people call it.
    pub name: Option<String>,
    /// The second gate behind the settings.
    pub trust: Trust,
    /// The delegation list: units in which, and below which, this app may act as a service account where the setting
    /// is a list of apps. For the service account it stands in for that list.
    pub delegation: Vec<UnitPath>,
    /// Whether it may only read, wherever it is let in.
    pub read_only: bool,
}

/// Whether a user lets an app read a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantState {
    /// Yes.
    Active,
    /// No, until it is enabled again.
    Disabled,
    /// No; a token issued later connects again.
    Removed,
}

impl GrantState {
    /// The word kept in the database and shown to people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Removed => "removed",
        }
    }

    /// Reads the word that [`GrantState::word`] writes.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Active, Self::Disabled, Self::Removed].into_iter().find(|state| state.word() == word)
    }
}

/// A grant's facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Where it stands.
    pub state: GrantState,
    /// When it was last removed. Tokens issued at or before that moment stay refused, also after a later token made
    /// the grant active again.
    pub removed_at: Option<UnixTime>,
}

/// Which grant: this user lets this app read this mailbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantKey {
    /// The person.
    pub user: UserId,
    /// The mailbox: the person's own address, or a shared mailbox.
    pub owner: UserId,
    /// The app.
    pub app: ClientId,
}

/// One row as it stands after a change; `None`: the row is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A unit.
    Unit(UnitPath, Option<Unit>),
    /// A group.
    Group(GroupId, Option<Group>),
    /// A user, with the groups the user is in.
    User(UserId, Option<User>),
    /// A shared mailbox.
    Mailbox(UserId, Option<Mailbox>),
    /// An app.
    App(ClientId, Option<App>),
    /// A grant.
    Grant(GrantKey, Option<Grant>),
    /// What an issuer said of its tokens.
    Cutoff(CutoffKey, Option<Cutoff>),
}
