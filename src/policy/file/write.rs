//! A document as text. Used by `policy export`.

use std::fmt::Write as _;

use super::Document;
use crate::model::{ClientId, MailHome, UnitPath, UnixTime, UserId};
use crate::policy::{Access, Ceiling, Setting, Settings, Trust};

pub(super) fn text(document: &Document) -> String {
    let mut out = Out(String::new());
    for (path, unit) in &document.units {
        out.section("unit", path.as_str());
        out.settings(&unit.settings);
        out.optional("storage_quota", unit.quota.storage.map(Ceiling::storage_text).as_deref());
        out.count("message_quota", unit.quota.messages);
        out.optional("mail", unit.mail.as_ref().map(MailHome::to_string).as_deref());
        if let Some(read_only) = unit.read_only {
            out.line("read_only", if read_only { "true" } else { "false" });
        }
        out.count("sessions_per_user", unit.limits.sessions_per_user);
        out.optional("bytes_per_day", unit.limits.bytes_per_day.map(Ceiling::storage_text).as_deref());
    }
    for (id, user) in &document.users {
        out.section("user", id.as_str());
        out.line("unit", &quoted(user.unit.as_str()));
        if user.suspended {
            out.line("suspended", "true");
        }
        out.settings(&user.settings);
        out.optional("mail", user.mail.as_ref().map(MailHome::to_string).as_deref());
    }
    for (name, group) in &document.groups {
        out.section("group", name.as_str());
        out.line("priority", &group.priority.to_string());
        out.list("members", group.members.iter().map(UserId::as_str));
        out.settings(&group.settings);
    }
    for (id, mailbox) in &document.mailboxes {
        out.section("mailbox", id.as_str());
        out.optional("name", mailbox.name.as_deref());
        out.optional("unit", mailbox.unit.as_ref().map(UnitPath::as_str));
        out.list("members", mailbox.members.iter().map(UserId::as_str));
        out.list("readers", mailbox.readers.iter().map(UserId::as_str));
    }
    for (id, app) in &document.apps {
        out.section("app", id.as_str());
        out.optional("name", app.name.as_deref());
        match &app.trust {
            Trust::Trusted => {}
            Trust::Blocked => out.line("trust", "\"blocked\""),
            Trust::Limited(units) => {
                out.line("trust", "\"limited\"");
                out.line("units", &listed(units.iter().map(UnitPath::as_str)));
            }
        }
        out.list("delegation", app.delegation.iter().map(UnitPath::as_str));
        if app.read_only {
            out.line("read_only", "true");
        }
    }
    out.0
}

struct Out(String);

impl Out {
    fn section(&mut self, kind: &str, name: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        let _ = writeln!(self.0, "[{kind}.{}]", quoted(name));
    }

    fn line(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.line(key, &quoted(value));
        }
    }

    /// A limit that is a number, or `"none"`.
    fn count(&mut self, key: &str, limit: Option<Ceiling>) {
        match limit {
            None => {}
            Some(Ceiling::Unlimited) => self.line(key, "\"none\""),
            Some(Ceiling::At(most)) => self.line(key, &most.to_string()),
        }
    }

    /// Nothing for an empty list.
    fn list<'t>(&mut self, key: &str, texts: impl ExactSizeIterator<Item = &'t str>) {
        if texts.len() > 0 {
            self.line(key, &listed(texts));
        }
    }

    fn settings(&mut self, settings: &Settings) {
        for (key, setting) in [("imap", &settings.imap), ("pop", &settings.pop)] {
            let Some(Setting { access, until }) = setting else { continue };
            let apps = match access {
                Access::Off => "\"off\"".to_owned(),
                Access::Any => "\"any\"".to_owned(),
                Access::Only(list) => listed(list.iter().map(ClientId::as_str)),
            };
            match until {
                None => self.line(key, &apps),
                Some(until) => self.line(key, &format!("{{ apps = {apps}, until = {} }}", moment(*until))),
            }
        }
    }
}

/// With milliseconds where there are some, so that the very moment is read back.
fn moment(until: UnixTime) -> String {
    if until.0.rem_euclid(1000) == 0 {
        return until.to_string();
    }
    let time = chrono::DateTime::from_timestamp_millis(until.0).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// One a line where there are several: such lists are compared line by line.
fn listed<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let texts: Vec<String> = texts.map(quoted).collect();
    match &texts[..] {
        [] => "[]".to_owned(),
        [only] => format!("[{only}]"),
        _ => format!("[\n    {},\n]", texts.join(",\n    ")),
    }
}

/// A basic string (TOML 1.0, "String").
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => drop(write!(quoted, "\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
