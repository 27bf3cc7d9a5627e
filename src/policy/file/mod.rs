//! `config/policy.toml` as values. Pure: text in, [`Document`] or every mistake at once out, and back. Called by `store`
//! (which applies it) and `cli` (which checks and writes it).
//!
//! What is right and wrong here, beyond TOML itself:
//! - a unit exists once it is named, or stands above one that is; a user, mailbox or app may only name such units;
//! - client IDs may be pasted comma-separated, in one string or inside a list; order is kept, duplicates are dropped;
//! - an end (`until`) needs its offset from UTC: a local time means another moment on every machine;
//! - a name is given once, also when only the letter case of its domain differs; nobody is user and mailbox at once;
//! - a member who is no user of this file must be in the database from elsewhere: [`Document::elsewhere`] lists them
//!   for `store` to look up.

mod problem;
mod read;
mod sections;
mod write;

use std::collections::BTreeMap;

pub use problem::{FileError, Problem, Text};

use super::{App, Directory, Group, Mailbox, Settings, Unit, User};
use crate::model::{ClientId, GroupId, MailHome, UnitPath, UserId};

/// A whole policy file, consistent in itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Units named in the file; units above them are not listed but exist.
    pub units: BTreeMap<UnitPath, Unit>,
    /// Groups.
    pub groups: BTreeMap<GroupId, FileGroup>,
    /// Users.
    pub users: BTreeMap<UserId, FileUser>,
    /// Shared mailboxes.
    pub mailboxes: BTreeMap<UserId, Mailbox>,
    /// The app catalogue.
    pub apps: BTreeMap<ClientId, App>,
    /// Members that are no users of this file, each with the problem it is if the database does not know them either.
    pub elsewhere: Vec<(UserId, Problem)>,
}

impl Document {
    /// The directory this file alone would make: for `check`, `explain` and tests without a database.
    pub fn to_directory(&self) -> Directory {
        let mut directory = Directory::new();
        let mut groups: BTreeMap<&UserId, Vec<GroupId>> = BTreeMap::new();
        for (name, group) in &self.groups {
            let row = Group { priority: group.priority, settings: group.settings.clone() };
            directory.put_group(name, Some(&row));
            for member in &group.members {
                groups.entry(member).or_default().push(name.clone());
            }
        }
        for (path, unit) in &self.units {
            directory.put_unit(path, Some(unit));
        }
        for (id, user) in &self.users {
            let FileUser { unit, suspended, settings, mail } = user.clone();
            let groups = groups.remove(id).unwrap_or_default();
            directory.put_user(id, &User { suspended, settings, groups, mail, ..User::in_unit(unit) });
        }
        for (id, mailbox) in &self.mailboxes {
            directory.put_mailbox(id, Some(mailbox));
        }
        for (id, app) in &self.apps {
            directory.put_app(id, Some(app.clone()));
        }
        directory
    }
}

/// A document as the text of a policy file, in order of names. [`parse`] reads the same document back.
pub fn write(document: &Document) -> String {
    write::text(document)
}

/// A group of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileGroup {
    /// Of several groups that set a service the highest wins. 0 if the file says nothing.
    pub priority: i64,
    /// Its settings.
    pub settings: Settings,
    /// Its members, each once.
    pub members: Vec<UserId>,
}

/// A user of the file. The user's own switches are not in it: they belong to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileUser {
    /// The user's unit.
    pub unit: UnitPath,
    /// Whether the user is suspended.
    pub suspended: bool,
    /// Exceptions for this user.
    pub settings: Settings,
    /// Where the user's mail is, whatever the unit says.
    pub mail: Option<MailHome>,
}

/// Reads a policy file's text. The error holds every mistake found, up to [`FileError::MOST`].
///
/// Whether there is such an upstream as it names is not looked at: [`parse_for`] does.
pub fn parse(text: &str) -> Result<Document, FileError> {
    sections::read(text, &|_| None)
}

/// The same where it is known which homes of mail there are: `wrong_home` says what is wrong with one, and the remedy.
pub fn parse_for(text: &str, wrong_home: WrongHome<'_>) -> Result<Document, FileError> {
    sections::read(text, wrong_home)
}

/// What is wrong with a home of mail, and the remedy; none for one that there is.
pub type WrongHome<'w> = &'w dyn Fn(&MailHome) -> Option<(String, String)>;

#[cfg(test)]
mod tests;
