//! Settings in JSON, read and written.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::super::{
    problem::{Problem, ProblemKind},
    time::Time,
};
use crate::model::{BadName, ClientId, GroupId, MailHome, Service, UnitPath, UnixTime};
use crate::policy::{Access, Ceiling, Effective, Quota, Setting, Settings};
use crate::store::SettingPatch;

/// A setting as it is written: `"off"`, `"any"`, client IDs, or an object with an end.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum SettingWish {
    /// Without an end.
    Plain(AppsWish),
    /// With an end, from which on it counts as absent.
    Ending(Ending),
}

/// A setting that ends by itself.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ending {
    /// What it allows.
    apps: AppsWish,
    /// When it ends.
    #[serde(default)]
    until: Option<Time>,
}

/// Which apps: a word, or client IDs as a list or as pasted.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum AppsWish {
    /// `off`, `any`, or client IDs between commas.
    Text(String),
    /// Client IDs; an empty list admits nobody.
    List(Vec<String>),
}

impl AppsWish {
    fn read(&self) -> Result<Access, Problem> {
        let access = match self {
            Self::Text(text) => Access::parse(text),
            Self::List(list) if list.is_empty() => Ok(Access::Only(Vec::new())),
            Self::List(list) => Access::parse(&list.join(",")),
        };
        access.map_err(|error| Problem::new(ProblemKind::BadRequest, error.to_string()))
    }
}

impl SettingWish {
    fn read(&self) -> Result<Setting, Problem> {
        match self {
            Self::Plain(apps) => Ok(Setting { access: apps.read()?, until: None }),
            Self::Ending(Ending { apps, until }) => {
                Ok(Setting { access: apps.read()?, until: until.map(Time::unix) })
            }
        }
    }
}

/// Reads `null` and absence apart: absent leaves a thing as it is, `null` takes it away.
pub(super) fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What a change says of a setting.
pub(super) fn patch(wish: Option<&Option<SettingWish>>) -> Result<SettingPatch, Problem> {
    wish.map(|wish| wish.as_ref().map(SettingWish::read).transpose()).transpose()
}

/// Which apps a setting admits: `"off"`, `"any"`, or a list of client IDs.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum AppsWords {
    /// `off` or `any`.
    Word(String),
    /// These alone.
    Only(Vec<String>),
}

impl From<&Access> for AppsWords {
    fn from(access: &Access) -> Self {
        match access {
            Access::Off => Self::Word("off".into()),
            Access::Any => Self::Word("any".into()),
            Access::Only(list) => Self::Only(list.iter().map(ClientId::to_string).collect()),
        }
    }
}

/// A setting of its own.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct SettingWords {
    apps: AppsWords,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Time>,
}

impl SettingWords {
    fn of(setting: Option<&Setting>) -> Option<Self> {
        let setting = setting?;
        Some(Self { apps: (&setting.access).into(), until: setting.until.map(Into::into) })
    }
}

/// The settings of a place; absent means inherit.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Own {
    /// Its own setting for IMAP.
    #[serde(skip_serializing_if = "Option::is_none")]
    imap: Option<SettingWords>,
    /// Its own setting for POP3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pop: Option<SettingWords>,
}

impl From<&Settings> for Own {
    fn from(settings: &Settings) -> Self {
        Self { imap: SettingWords::of(settings.imap.as_ref()), pop: SettingWords::of(settings.pop.as_ref()) }
    }
}

/// A setting in force.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct InForce {
    apps: AppsWords,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Time>,
    /// Whose setting it is.
    #[schema(example = "unit \"/\"")]
    from: String,
}

/// What is in force, inherited or not.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Effect {
    /// By IMAP.
    imap: InForce,
    /// By POP3.
    pop: InForce,
}

impl Effect {
    pub(super) fn of(effective: impl Fn(Service) -> Effective) -> Self {
        let one = |service| {
            let found = effective(service);
            InForce {
                apps: (&found.access).into(),
                until: found.until.map(|at: UnixTime| at.into()),
                from: found.place.to_string(),
            }
        };
        Self { imap: one(Service::Imap), pop: one(Service::Pop) }
    }
}

/// A limit as it is written: a number, or a text as `5G` or `none`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum LimitWish {
    /// So many bytes, messages or sessions.
    Number(u64),
    /// As people write it.
    Text(String),
}

/// What a change says of a limit.
pub(super) fn limit(
    wish: Option<&Option<LimitWish>>,
    parse: fn(&str) -> Result<Ceiling, BadName>,
) -> Result<Option<Option<Ceiling>>, Problem> {
    let read = |wish: &LimitWish| match wish {
        LimitWish::Number(number) => parse(&number.to_string()),
        LimitWish::Text(text) => parse(text),
    };
    let read = wish.map(|wish| wish.as_ref().map(read).transpose()).transpose();
    read.map_err(|error| Problem::new(ProblemKind::BadRequest, error.to_string()))
}

/// A limit: a number, or `none`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum LimitWords {
    /// So many bytes, messages or sessions.
    At(u64),
    /// `none`
    None(String),
}

impl From<Ceiling> for LimitWords {
    fn from(ceiling: Ceiling) -> Self {
        ceiling.most().map_or_else(|| Self::None("none".into()), Self::At)
    }
}

/// Limits in force; absent: none.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct QuotaWords {
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<u64>,
    /// Messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
}

impl From<Quota> for QuotaWords {
    fn from(quota: Quota) -> Self {
        Self { storage: quota.bytes, messages: quota.messages }
    }
}

impl LimitWords {
    /// A limit where there is one to tell.
    pub(super) fn of(ceiling: Option<Ceiling>) -> Option<Self> {
        ceiling.map(Self::from)
    }
}

/// What a change says of where mail is.
pub(super) fn home(wish: Option<&Option<String>>) -> Result<Option<Option<MailHome>>, Problem> {
    let read = wish.map(|wish| wish.as_deref().map(MailHome::parse).transpose()).transpose();
    read.map_err(|error| Problem::new(ProblemKind::BadRequest, error.to_string()))
}

/// A unit's path from a path or body.
pub(super) fn unit(text: &str) -> Result<UnitPath, Problem> {
    UnitPath::parse(text).map_err(|error| Problem::new(ProblemKind::BadRequest, error.to_string()))
}

/// A group's name from a path or body.
pub(super) fn group(text: &str) -> Result<GroupId, Problem> {
    GroupId::parse(text).map_err(|error| Problem::new(ProblemKind::BadRequest, error.to_string()))
}
