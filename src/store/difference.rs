//! What a policy file wants beside what is stored, and rows in few words for the audit log. Used by `apply`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::rows;
use crate::model::{UnitPath, UnixTime, UserId};
use crate::policy::{App, Group, Rights, Settings, Unit, file::FileUser};

/// What is stored beside what is wanted.
pub(super) struct Difference<'w, K, V> {
    wanted: &'w BTreeMap<K, V>,
    same: BTreeSet<&'w K>,
    pub(super) changed: Vec<(&'w K, &'w V, V)>,
    pub(super) gone: Vec<(K, V)>,
    /// Rows of others that the file names too, whether it says the same of them or not.
    pub(super) taken: Vec<(&'w K, &'w V, V)>,
}

impl<'w, K: Ord, V: PartialEq> Difference<'w, K, V> {
    pub(super) fn new(wanted: &'w BTreeMap<K, V>) -> Self {
        Self { wanted, same: BTreeSet::new(), changed: Vec::new(), gone: Vec::new(), taken: Vec::new() }
    }

    pub(super) fn stored(&mut self, key: K, value: V) {
        match self.wanted.get_key_value(&key) {
            Some((key, wanted)) if *wanted == value => {
                self.same.insert(key);
            }
            Some((key, wanted)) => {
                self.same.insert(key);
                self.changed.push((key, wanted, value));
            }
            None => self.gone.push((key, value)),
        }
    }

    /// A stored row that somebody else keeps: if the file names it, it is the file's from now on.
    pub(super) fn taken_over(&mut self, key: &K, value: V) {
        if let Some((key, wanted)) = self.wanted.get_key_value(key) {
            self.same.insert(key);
            self.taken.push((key, wanted, value));
        }
    }

    pub(super) fn added(&self) -> impl Iterator<Item = (&'w K, &'w V)> {
        self.wanted.iter().filter(|(key, _)| !self.same.contains(key))
    }

    /// The rows to write: new ones and changed ones.
    pub(super) fn puts(&self) -> impl Iterator<Item = (&'w K, &'w V)> {
        self.added().chain(self.changed.iter().chain(&self.taken).map(|(key, value, _)| (*key, *value)))
    }
}

/// A membership has no more to say.
#[derive(PartialEq)]
pub(super) struct Member(pub(super) UserId);

/// A membership in a shared mailbox, with what it allows.
#[derive(PartialEq)]
pub(super) struct Righted(pub(super) UserId, pub(super) Rights);

/// A shared mailbox without its members.
#[derive(PartialEq)]
pub(super) struct MailboxRow {
    pub(super) name: Option<String>,
    pub(super) unit: Option<UnitPath>,
}

/// A row in few words, for the audit log.
pub(super) trait Words {
    fn words(&self) -> String;
}

impl Words for Member {
    fn words(&self) -> String {
        format!("member {}", self.0)
    }
}

impl Words for Righted {
    fn words(&self) -> String {
        format!("member {}, may {}", self.0, self.1.word())
    }
}

impl Words for MailboxRow {
    fn words(&self) -> String {
        format!("name {:?}, unit {:?}", self.name, self.unit)
    }
}

impl Words for Unit {
    fn words(&self) -> String {
        let mut words = SettingsWords(&self.settings).to_string();
        if !self.quota.is_empty() {
            words.push_str(&format!(", {}", self.quota));
        }
        if let Some(mail) = &self.mail {
            words.push_str(&format!(", mail {mail}"));
        }
        if let Some(read_only) = self.read_only {
            words.push_str(&format!(", read-only {read_only}"));
        }
        if !self.limits.is_empty() {
            words.push_str(&format!(", {}", self.limits));
        }
        words
    }
}

impl Words for Group {
    fn words(&self) -> String {
        format!("priority {}, {}", self.priority, SettingsWords(&self.settings))
    }
}

impl Words for FileUser {
    fn words(&self) -> String {
        let suspended = if self.suspended { ", suspended" } else { "" };
        let mail = self.mail.as_ref().map(|mail| format!(", mail {mail}")).unwrap_or_default();
        format!("unit {}, {}{suspended}{mail}", self.unit, SettingsWords(&self.settings))
    }
}

impl Words for App {
    fn words(&self) -> String {
        let (trust, units, delegation) = rows::app_columns(self);
        let mut words = format!("name {:?}, {trust}", self.name);
        if self.read_only {
            words.push_str(", read-only");
        }
        for (what, paths) in [("in", units), ("delegation in", delegation)] {
            if !paths.is_empty() {
                words.push_str(&format!(" {what} {}", paths.replace('\n', " ")));
            }
        }
        words
    }
}

pub(super) struct SettingsWords<'s>(pub(super) &'s Settings);

impl fmt::Display for SettingsWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, setting, comma) in [("imap", &self.0.imap, ""), ("pop", &self.0.pop, ", ")] {
            let (text, until) = rows::setting_columns(setting.as_ref());
            write!(f, "{comma}{name} {}", text.as_deref().unwrap_or("inherits"))?;
            if let Some(until) = until {
                write!(f, " until {}", UnixTime(until))?;
            }
        }
        Ok(())
    }
}
