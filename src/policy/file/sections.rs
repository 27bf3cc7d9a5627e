//! The sections of a policy file: which keys there are, and how they must fit together.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use toml::de::{DeTable, DeValue};

use super::{
    Document, FileError, FileGroup, FileUser, WrongHome,
    problem::Text,
    read::{Reader, Value},
};
use crate::model::{BadName, ClientId, GroupId, UnitPath, UserId};
use crate::policy::{App, Mailbox, Trust, Unit};

const SECTIONS: [&str; 5] = ["unit", "group", "user", "mailbox", "app"];

pub(super) fn read(text: &str, wrong_home: WrongHome<'_>) -> Result<Document, FileError> {
    let table = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let remedy = "mend the TOML; names with @, / or . are quoted: [user.\"ann@example.com\"]";
        FileError::new(vec![Text::new(text).problem(span, error.message(), remedy)])
    })?;
    let mut sections = Sections::new(text, wrong_home);
    sections.read(table.get_ref());
    if sections.reader.problems.is_empty() {
        return Ok(sections.document);
    }
    Err(FileError::new(sections.reader.problems))
}

struct Sections<'t> {
    reader: Reader<'t>,
    document: Document,
    /// Units that exist: named ones and those above.
    units: BTreeSet<UnitPath>,
}

impl<'t> Sections<'t> {
    fn new(text: &'t str, wrong_home: WrongHome<'t>) -> Self {
        let units = BTreeSet::from([UnitPath::root()]);
        Self {
            reader: Reader { text: Text::new(text), problems: Vec::new(), wrong_home },
            document: Document::default(),
            units,
        }
    }

    fn read(&mut self, table: &DeTable<'t>) {
        for key in table.keys().filter(|key| !SECTIONS.contains(&&**key.get_ref())) {
            let what = format!("there is no section {:?}", key.get_ref());
            self.reader.wrong::<()>(key.span(), what, format!("known: {}", SECTIONS.join(", ")));
        }
        // In this order, because later sections refer to earlier ones.
        for (path, _, value) in self.entries(table, "unit", UnitPath::parse) {
            self.unit(path, value);
        }
        let mut users = BTreeMap::new();
        for (user, span, value) in self.entries(table, "user", UserId::parse) {
            users.insert(user.clone(), span.clone());
            self.user(user, span, value);
        }
        for (group, _, value) in self.entries(table, "group", GroupId::parse) {
            self.group(group, value, &users);
        }
        for (mailbox, span, value) in self.entries(table, "mailbox", UserId::parse) {
            self.mailbox(mailbox, span, value, &users);
        }
        for (app, span, value) in self.entries(table, "app", ClientId::parse_entry) {
            self.app(app, span, value);
        }
    }

    /// The entries of a section by name, each name once.
    fn entries<'v, T: Ord + Clone + std::fmt::Display>(
        &mut self,
        table: &'v DeTable<'t>,
        section: &str,
        parse: fn(&str) -> Result<T, BadName>,
    ) -> Vec<(T, Range<usize>, &'v Value<'t>)> {
        let Some(value) = table.get(section) else { return Vec::new() };
        let DeValue::Table(entries) = value.get_ref() else {
            let remedy = format!("write a table for each: [{section}.\"name\"]");
            self.reader.wrong::<()>(
                value.span(),
                format!("{section} is of type {}", value.get_ref().type_str()),
                remedy,
            );
            return Vec::new();
        };
        let mut seen = BTreeMap::new();
        let mut found = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match parse(key.get_ref()) {
                Err(bad) => self.reader.bad_name(key.span(), &bad).unwrap_or_default(),
                Ok(name) => {
                    if let Some(first) = seen.insert(name.clone(), key.get_ref()) {
                        let what = format!("{section} \"{name}\" is here twice, as {first:?} too");
                        self.reader.wrong::<()>(key.span(), what, "domains compare without case: keep one of them");
                    }
                    found.push((name, key.span(), value));
                }
            }
        }
        found
    }

    fn unit(&mut self, path: UnitPath, value: &Value<'t>) {
        let known = [
            "imap",
            "pop",
            "storage_quota",
            "message_quota",
            "mail",
            "read_only",
            "sessions_per_user",
            "bytes_per_day",
        ];
        let Some(table) = self.reader.table(value, "a unit", &known) else { return };
        let settings = self.reader.settings(table);
        let quota = self.reader.quota(table);
        let mail = self.reader.mail(table);
        let read_only = table.get("read_only").and_then(|value| self.reader.boolean(value, "read_only"));
        let limits = self.reader.limits(table);
        let mut above = Some(path.clone());
        while let Some(unit) = above {
            above = unit.parent();
            self.units.insert(unit);
        }
        self.document.units.insert(path, Unit { settings, quota, mail, read_only, limits });
    }

    fn user(&mut self, user: UserId, span: Range<usize>, value: &Value<'t>) {
        let known = ["unit", "suspended", "imap", "pop", "mail"];
        let Some(table) = self.reader.table(value, "a user", &known) else { return };
        let settings = self.reader.settings(table);
        let mail = self.reader.mail(table);
        let suspended = table.get("suspended").and_then(|value| self.reader.boolean(value, "suspended"));
        let unit = match table.get("unit") {
            Some(unit) => self.known_unit(unit, "unit"),
            None => {
                let remedy = "add unit = \"/..\", the one unit the user is in";
                self.reader.wrong(span, format!("user \"{user}\" is in no unit"), remedy)
            }
        };
        let Some(unit) = unit else { return };
        let suspended = suspended.unwrap_or(false);
        self.document.users.insert(user, FileUser { unit, suspended, settings, mail });
    }

    fn group(&mut self, group: GroupId, value: &Value<'t>, users: &BTreeMap<UserId, Range<usize>>) {
        let Some(table) = self.reader.table(value, "a group", &["priority", "members", "imap", "pop"]) else {
            return;
        };
        let settings = self.reader.settings(table);
        let priority = table.get("priority").and_then(|value| self.reader.integer(value, "priority")).unwrap_or(0);
        let members = self.members(table, "members", users, &format!("group \"{group}\""));
        self.document.groups.insert(group, FileGroup { priority, settings, members });
    }

    fn mailbox(
        &mut self,
        mailbox: UserId,
        span: Range<usize>,
        value: &Value<'t>,
        users: &BTreeMap<UserId, Range<usize>>,
    ) {
        if users.contains_key(&mailbox) {
            let remedy = "a shared mailbox is nobody's own: remove the [user] or the [mailbox] entry";
            self.reader.wrong::<()>(span.clone(), format!("\"{mailbox}\" is a user and a shared mailbox"), remedy);
        }
        let Some(table) = self.reader.table(value, "a mailbox", &["name", "unit", "members", "readers"]) else {
            return;
        };
        let name = table.get("name").and_then(|value| self.reader.string(value, "name")).map(str::to_owned);
        let unit = table.get("unit").and_then(|value| self.known_unit(value, "unit"));
        let of = format!("mailbox \"{mailbox}\"");
        let members = self.members(table, "members", users, &of);
        let readers = self.members(table, "readers", users, &of);
        if let Some(both) = readers.iter().find(|reader| members.contains(reader)) {
            let remedy = "readers may only read, members may change the mailbox too: name each person once";
            self.reader.wrong::<()>(span, format!("{of} has \"{both}\" as member and as reader"), remedy);
        }
        self.document.mailboxes.insert(mailbox, Mailbox { name, unit, members, readers });
    }

    fn app(&mut self, app: ClientId, span: Range<usize>, value: &Value<'t>) {
        let known = ["name", "trust", "units", "delegation", "read_only"];
        let Some(table) = self.reader.table(value, "an app", &known) else { return };
        let name = table.get("name").and_then(|value| self.reader.string(value, "name")).map(str::to_owned);
        let delegation =
            table.get("delegation").map(|value| self.known_units(value, "delegation")).unwrap_or_default();
        let units = table.get("units").map(|value| (self.known_units(value, "units"), value.span()));
        let word = match table.get("trust") {
            Some(value) => self.reader.string(value, "trust").map(|word| (word, value.span())),
            None => Some(("trusted", span.clone())),
        };
        let Some((word, word_span)) = word else { return };
        let trust = match (word, units) {
            ("limited", Some((units, _))) => Some(Trust::Limited(units)),
            ("limited", None) => {
                let remedy = "add units = [\"/..\"], the units where it may be used";
                self.reader.wrong(word_span, format!("app \"{app}\" is limited, but to no units"), remedy)
            }
            ("trusted" | "blocked", Some((_, span))) => {
                let remedy = "units go with trust = \"limited\": remove them or change trust";
                self.reader.wrong(span, format!("app \"{app}\" has units, but its trust is \"{word}\""), remedy)
            }
            ("trusted", None) => Some(Trust::Trusted),
            ("blocked", None) => Some(Trust::Blocked),
            (other, _) => {
                let remedy = "write \"trusted\", \"limited\" or \"blocked\"";
                self.reader.wrong(word_span, format!("trust = {other:?}"), remedy)
            }
        };
        let read_only = table.get("read_only").and_then(|value| self.reader.boolean(value, "read_only"));
        let Some(trust) = trust else { return };
        self.document.apps.insert(app, App { name, trust, delegation, read_only: read_only.unwrap_or(false) });
    }

    /// The list of members, each once; those who are no users here are noted in [`Document::elsewhere`].
    fn members(
        &mut self,
        table: &DeTable<'t>,
        key: &str,
        users: &BTreeMap<UserId, Range<usize>>,
        of: &str,
    ) -> Vec<UserId> {
        let listed = table.get(key).and_then(|value| self.reader.names(value, key, UserId::parse));
        let mut seen = BTreeSet::new();
        let mut members = Vec::new();
        for (member, span) in listed.unwrap_or_default() {
            if !seen.insert(member.clone()) {
                continue;
            }
            if !users.contains_key(&member) {
                let what =
                    format!("{of} has the member \"{member}\", who is no user of this file or of the database");
                let remedy = format!("add [user.\"{member}\"] with a unit, or remove the member");
                let problem = self.reader.text.problem(span, what, remedy);
                self.document.elsewhere.push((member.clone(), problem));
            }
            members.push(member);
        }
        members
    }

    fn known_unit(&mut self, value: &Value<'t>, key: &str) -> Option<UnitPath> {
        let text = self.reader.string(value, key)?.to_owned();
        self.check_unit(UnitPath::parse(&text), value.span())
    }

    fn known_units(&mut self, value: &Value<'t>, key: &str) -> Vec<UnitPath> {
        let listed = self.reader.names(value, key, UnitPath::parse).unwrap_or_default();
        listed.into_iter().filter_map(|(unit, span)| self.check_unit(Ok(unit), span)).collect()
    }

    fn check_unit(&mut self, unit: Result<UnitPath, BadName>, span: Range<usize>) -> Option<UnitPath> {
        let unit = match unit {
            Ok(unit) => unit,
            Err(bad) => return self.reader.bad_name(span, &bad),
        };
        if self.units.contains(&unit) {
            return Some(unit);
        }
        if self.reader.has_enough() {
            return None; // a namesake takes a look at every unit
        }
        let namesake = self.units.iter().find(|known| known.as_str().eq_ignore_ascii_case(unit.as_str()));
        let remedy = match namesake {
            Some(known) => format!("did you mean \"{known}\"? Letter case matters"),
            None => format!("add [unit.\"{unit}\"] (it may be empty: then it inherits), or correct the path"),
        };
        self.reader.wrong(span, format!("unit \"{unit}\" is not in this file"), remedy)
    }
}
