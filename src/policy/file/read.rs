//! Typed reading of TOML values: each function takes a value or notes why it cannot. Used by `sections`.

use std::{collections::HashSet, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
    value::{Datetime, Offset},
};

use super::{Problem, WrongHome, problem::Text};
use crate::model::{BadName, ClientId, MailHome, UnixTime};
use crate::policy::{Access, Ceiling, LimitSettings, QuotaSettings, Setting, Settings};

pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// The text being read and what was found wrong with it so far.
pub(super) struct Reader<'t> {
    pub(super) text: Text<'t>,
    pub(super) problems: Vec<Problem>,
    pub(super) wrong_home: WrongHome<'t>,
}

impl<'t> Reader<'t> {
    /// Notes a mistake; always `None`, so that callers can return it.
    pub(super) fn wrong<T>(
        &mut self,
        span: Range<usize>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Option<T> {
        if !self.has_enough() {
            self.problems.push(self.text.problem(span, what, remedy));
        }
        None
    }

    /// More mistakes than are told were found: no need to look for remedies any more.
    pub(super) fn has_enough(&self) -> bool {
        self.problems.len() >= super::FileError::MOST * 2
    }

    pub(super) fn bad_name<T>(&mut self, span: Range<usize>, bad: &BadName) -> Option<T> {
        self.wrong(span, format!("{} {:?}", bad.kind, bad.text), bad.problem)
    }

    fn wrong_type<T>(&mut self, value: &Value<'_>, key: &str, expected: &str) -> Option<T> {
        let found = value.get_ref().type_str();
        self.wrong(value.span(), format!("{key} is of type {found}"), format!("write {expected}"))
    }

    /// A table with no other keys than these.
    pub(super) fn table<'v>(
        &mut self,
        value: &'v Value<'t>,
        what: &str,
        known: &[&str],
    ) -> Option<&'v DeTable<'t>> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.wrong_type(value, what, "a table");
        };
        for key in table.keys().filter(|key| !known.contains(&&**key.get_ref())) {
            let known = known.join(", ");
            self.wrong::<()>(
                key.span(),
                format!("{what} has no key {:?}", key.get_ref()),
                format!("known: {known}"),
            );
        }
        Some(table)
    }

    pub(super) fn string<'v>(&mut self, value: &'v Value<'t>, key: &str) -> Option<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => self.wrong_type(value, key, "a string in quotes"),
        }
    }

    pub(super) fn boolean(&mut self, value: &Value<'t>, key: &str) -> Option<bool> {
        match value.get_ref() {
            DeValue::Boolean(yes) => Some(*yes),
            _ => self.wrong_type(value, key, "true or false"),
        }
    }

    pub(super) fn integer(&mut self, value: &Value<'t>, key: &str) -> Option<i64> {
        match value.get_ref() {
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Some(number),
                Err(_) => self.wrong(value.span(), format!("{key} is out of range"), "use a smaller whole number"),
            },
            _ => self.wrong_type(value, key, "a whole number"),
        }
    }

    /// A list of names, each with its place; duplicates are dropped.
    pub(super) fn names<T: PartialEq>(
        &mut self,
        value: &Value<'t>,
        key: &str,
        parse: fn(&str) -> Result<T, BadName>,
    ) -> Option<Vec<(T, Range<usize>)>> {
        let DeValue::Array(entries) = value.get_ref() else {
            return self.wrong_type(value, key, "a list: [\"..\", \"..\"]");
        };
        let mut names: Vec<(T, Range<usize>)> = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            let Some(text) = self.string(entry, key) else { continue };
            match parse(text) {
                Ok(name) => names.push((name, entry.span())),
                Err(bad) => self.bad_name(entry.span(), &bad).unwrap_or_default(),
            }
        }
        Some(names)
    }

    pub(super) fn settings(&mut self, table: &DeTable<'t>) -> Settings {
        let mut of = |key: &str| table.get(key).and_then(|value| self.setting(value, key));
        Settings { imap: of("imap"), pop: of("pop") }
    }

    /// `storage_quota = "5G"` and `message_quota = 100000`.
    pub(super) fn quota(&mut self, table: &DeTable<'t>) -> QuotaSettings {
        QuotaSettings {
            storage: self.ceiling(table, "storage_quota", Ceiling::parse_storage),
            messages: self.ceiling(table, "message_quota", Ceiling::parse_messages),
        }
    }

    /// `sessions_per_user = 5` and `bytes_per_day = "2G"`.
    pub(super) fn limits(&mut self, table: &DeTable<'t>) -> LimitSettings {
        LimitSettings {
            sessions_per_user: self.ceiling(table, "sessions_per_user", Ceiling::parse_sessions),
            bytes_per_day: self.ceiling(table, "bytes_per_day", Ceiling::parse_bytes_per_day),
        }
    }

    /// A limit: a number, or a text as people write it.
    fn ceiling(
        &mut self,
        table: &DeTable<'t>,
        key: &str,
        parse: fn(&str) -> Result<Ceiling, BadName>,
    ) -> Option<Ceiling> {
        let value = table.get(key)?;
        let text = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            DeValue::String(text) => text,
            _ => return self.wrong_type(value, key, "a whole number, or a text as \"5G\" or \"none\""),
        };
        parse(text).map_err(|bad| self.bad_name::<()>(value.span(), &bad)).ok()
    }

    /// `mail = "dovecot"`.
    pub(super) fn mail(&mut self, table: &DeTable<'t>) -> Option<MailHome> {
        let value = table.get("mail")?;
        let text = self.string(value, "mail")?;
        let home = MailHome::parse(text).map_err(|bad| self.bad_name::<()>(value.span(), &bad)).ok()?;
        match (self.wrong_home)(&home) {
            Some((what, remedy)) => self.wrong(value.span(), what, remedy),
            None => Some(home),
        }
    }

    /// `"off"`, `"any"`, a list of client IDs, or `{ apps = .., until = .. }`.
    fn setting(&mut self, value: &Value<'t>, key: &str) -> Option<Setting> {
        if !matches!(value.get_ref(), DeValue::Table(_)) {
            return self.access(value, key).map(Setting::from);
        }
        let table = self.table(value, key, &["apps", "until"])?;
        let access = match table.get("apps") {
            Some(apps) => self.access(apps, "apps"),
            None => {
                let remedy = "add apps = \"any\", \"off\" or a list of client IDs";
                self.wrong(value.span(), format!("{key} does not say which apps"), remedy)
            }
        };
        let until = match table.get("until") {
            Some(until) => Some(self.moment(until)?),
            None => None,
        };
        Some(Setting { access: access?, until })
    }

    fn access(&mut self, value: &Value<'t>, key: &str) -> Option<Access> {
        match value.get_ref() {
            DeValue::String(text) => match &**text {
                "off" => Some(Access::Off),
                "any" => Some(Access::Any),
                pasted if pasted.contains(',') => {
                    let mut list = Vec::new();
                    self.client_ids(pasted, value.span(), &mut list)?;
                    Some(Access::Only(list)) // each once already
                }
                other => self.wrong(
                    value.span(),
                    format!("{key} = {other:?}"),
                    format!("write \"off\", \"any\", or a list of client IDs: [{other:?}]"),
                ),
            },
            DeValue::Array(entries) => {
                let mut list = Vec::new();
                let mut good = true;
                for entry in entries.iter() {
                    good &= self
                        .string(entry, key)
                        .map(str::to_owned)
                        .and_then(|text| self.client_ids(&text, entry.span(), &mut list))
                        .is_some();
                }
                let mut seen = HashSet::new();
                list.retain(|id| seen.insert(id.clone()));
                good.then_some(Access::Only(list))
            }
            _ => self.wrong_type(value, key, "\"off\", \"any\" or a list of client IDs"),
        }
    }

    /// Adds the IDs to `list`, duplicates too.
    fn client_ids(&mut self, pasted: &str, span: Range<usize>, list: &mut Vec<ClientId>) -> Option<()> {
        let ids = match ClientId::parse_list(pasted) {
            Ok(ids) => ids,
            Err(bad) => return self.bad_name(span, &bad),
        };
        for id in ids {
            if matches!(id.as_str(), "any" | "off") {
                let remedy = "write it alone, outside the list; a list holds client IDs";
                return self.wrong(span, format!("{id:?} in a list of client IDs"), remedy);
            }
            list.push(id);
        }
        Some(())
    }

    fn moment(&mut self, value: &Value<'t>) -> Option<UnixTime> {
        const REMEDY: &str = "write date, time and offset, without quotes: 2026-12-18T18:00:00Z or ..+01:00";
        let DeValue::Datetime(moment) = value.get_ref() else {
            return self.wrong_type(value, "until", "a moment without quotes: 2026-12-18T18:00:00Z");
        };
        match unix_time(moment) {
            Some(time) => Some(time),
            None if moment.offset.is_none() => {
                self.wrong(value.span(), format!("until = {moment} has no offset from UTC"), REMEDY)
            }
            None => self.wrong(value.span(), format!("until = {moment} is no moment"), REMEDY),
        }
    }
}

fn unix_time(moment: &Datetime) -> Option<UnixTime> {
    let (date, time) = (moment.date?, moment.time?);
    let offset_min = match moment.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let date = chrono::NaiveDate::from_ymd_opt(date.year.into(), date.month.into(), date.day.into())?;
    // A leap second counts as the second before it.
    let second = time.second.unwrap_or(0).min(59);
    let nanosecond = time.nanosecond.unwrap_or(0);
    let local = date.and_hms_nano_opt(time.hour.into(), time.minute.into(), second.into(), nanosecond)?;
    Some(UnixTime(local.and_utc().timestamp_millis() - offset_min * 60_000))
}
