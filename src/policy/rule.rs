//! Settings in the compact form the directory keeps: apps as numbers, so that a list is compared without touching
//! its texts. Private to `policy`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{Access, App, Setting, Settings, Trust, shipped_name};
use crate::model::{ClientId, Service, UnixTime};

/// One value for each service.
#[derive(Clone, Debug, Default)]
pub(super) struct Per<T> {
    pub(super) imap: T,
    pub(super) pop: T,
}

impl<T> Per<T> {
    pub(super) fn of(&self, service: Service) -> &T {
        match service {
            Service::Imap => &self.imap,
            Service::Pop => &self.pop,
        }
    }

    pub(super) fn of_mut(&mut self, service: Service) -> &mut T {
        match service {
            Service::Imap => &mut self.imap,
            Service::Pop => &mut self.pop,
        }
    }
}

/// A [`Setting`] with numbered apps.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) access: Allowed,
    pub(super) until: Option<UnixTime>,
}

#[derive(Clone, Debug)]
pub(super) enum Allowed {
    Off,
    Any,
    Only(List),
}

/// The entries of a list.
#[derive(Clone, Debug)]
pub(super) struct List {
    /// App numbers in the admin's order.
    entries: Box<[u32]>,
    /// Some entry ends in `*`.
    has_prefix: bool,
}

impl List {
    /// The entry that admits an app: the app's own, else the first whose beginning it has. `number` is the app's, if it
    /// has one.
    pub(super) fn admits<'a>(&self, app: &ClientId, number: Option<u32>, apps: &'a Apps) -> Option<&'a ClientId> {
        if let Some(number) = number.filter(|number| self.entries.contains(number)) {
            return apps.row(number).map(|row| &row.id);
        }
        if !self.has_prefix {
            return None;
        }
        let mut entries = self.entries.iter().filter_map(|entry| apps.row(*entry)).map(|row| &row.id);
        entries.find(|entry| entry.prefix().is_some_and(|prefix| app.as_str().starts_with(prefix)))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries as the admin wrote them.
    pub(super) fn ids<'a>(&'a self, apps: &'a Apps) -> impl Iterator<Item = &'a ClientId> {
        self.entries.iter().filter_map(|entry| apps.row(*entry)).map(|row| &row.id)
    }
}

impl Rule {
    /// Whether the rule has not run out: it counts until just before `until`.
    pub(super) fn holds(&self, now: UnixTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// The rules of one place, imap and pop.
pub(super) type Rules = Per<Option<Rule>>;

impl Rules {
    pub(super) fn new(settings: &Settings, apps: &mut Apps) -> Self {
        Self {
            imap: settings.imap.as_ref().map(|setting| apps.rule(setting)),
            pop: settings.pop.as_ref().map(|setting| apps.rule(setting)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.imap.is_none() && self.pop.is_none()
    }

    fn ends(&self) -> impl Iterator<Item = UnixTime> {
        [&self.imap, &self.pop].into_iter().flatten().filter_map(|rule| rule.until)
    }
}

/// Every end of a time-boxed rule, with how many rules end there.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends(BTreeMap<UnixTime, usize>);

impl Ends {
    /// Keeps the count right while `old` gives way to `new`.
    pub(super) fn swap(&mut self, old: &Rules, new: &Rules) {
        for end in new.ends() {
            *self.0.entry(end).or_default() += 1;
        }
        for end in old.ends() {
            if let Some(count) = self.0.get_mut(&end) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(&end);
                }
            }
        }
    }

    pub(super) fn next(&self, now: UnixTime) -> Option<UnixTime> {
        let after = (std::ops::Bound::Excluded(now), std::ops::Bound::Unbounded);
        self.0.range(after).next().map(|(end, _)| *end)
    }
}

/// Every app that a list, the catalogue or a grant names, numbered. Numbers are never taken back: what names an app
/// is either the admin or an accepted login.
#[derive(Clone, Debug, Default)]
pub(super) struct Apps {
    rows: Vec<AppRow>,
    numbers: HashMap<ClientId, u32>,
    /// Catalogue entries that end in `*`, by what stands before it.
    prefixes: HashMap<Box<str>, u32>,
    /// How many of them there are of each length.
    lengths: BTreeMap<usize, usize>,
}

#[derive(Clone, Debug)]
pub(super) struct AppRow {
    pub(super) id: ClientId,
    /// Whether the catalogue has an entry of exactly this ID.
    listed: bool,
    pub(super) name: Option<Arc<str>>,
    /// `None` for nearly all: trusted, no delegation, not read-only.
    pub(super) entry: Option<Box<App>>,
}

impl Apps {
    pub(super) fn number(&self, app: &ClientId) -> Option<u32> {
        self.numbers.get(app).copied()
    }

    pub(super) fn row(&self, number: u32) -> Option<&AppRow> {
        self.rows.get(number as usize)
    }

    /// The row that speaks for an app: its own, if the catalogue lists it, else the one with the longest beginning that the
    /// app has. An app's own row without an entry is given where there is nothing better: it may have a shipped name.
    pub(super) fn catalogue(&self, app: &ClientId, number: Option<u32>) -> Option<&AppRow> {
        let own = number.and_then(|number| self.row(number));
        if self.prefixes.is_empty() || own.is_some_and(|row| row.listed) {
            return own;
        }
        let longest = self.lengths.keys().rev().find_map(|length| self.prefixes.get(app.as_str().get(..*length)?));
        longest.and_then(|number| self.row(*number)).or(own)
    }

    /// The apps that one of these entries of the catalogue may speak for.
    pub(super) fn spoken_for(&self, entries: &HashSet<ClientId>) -> HashSet<u32> {
        let prefixes: Vec<&str> = entries.iter().filter_map(ClientId::prefix).collect();
        let concerned = |row: &AppRow| {
            entries.contains(&row.id) || prefixes.iter().any(|prefix| row.id.as_str().starts_with(prefix))
        };
        (0..).zip(&self.rows).filter(|(_, row)| concerned(row)).map(|(number, _)| number).collect()
    }

    pub(super) fn find(&self, app: &ClientId) -> Option<&AppRow> {
        self.catalogue(app, self.number(app))
    }

    /// The number of an app, given out at first sight.
    pub(super) fn intern(&mut self, app: &ClientId) -> u32 {
        if let Some(number) = self.number(app) {
            return number;
        }
        let number = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        let name = shipped_name(app).map(Arc::from);
        self.rows.push(AppRow { id: app.clone(), listed: false, name, entry: None });
        self.numbers.insert(app.clone(), number);
        number
    }

    /// Sets or forgets the catalogue entry; the shipped name stands where the entry gives none.
    pub(super) fn put(&mut self, id: &ClientId, app: Option<App>) {
        let number = self.intern(id);
        let Some(row) = self.rows.get_mut(number as usize) else { return };
        let was_listed = std::mem::replace(&mut row.listed, app.is_some());
        let given = app.as_ref().and_then(|app| app.name.as_deref());
        row.name = given.or_else(|| shipped_name(id)).map(Arc::from);
        let is_listed = row.listed;
        let says = |app: &App| app.trust != Trust::Trusted || !app.delegation.is_empty() || app.read_only;
        row.entry = app.filter(says).map(Box::new);
        let Some(prefix) = id.prefix().filter(|_| was_listed != is_listed) else { return };
        let count = self.lengths.entry(prefix.len()).or_default();
        if is_listed {
            self.prefixes.insert(prefix.into(), number);
            *count += 1;
        } else {
            self.prefixes.remove(prefix);
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    fn rule(&mut self, setting: &Setting) -> Rule {
        let access = match &setting.access {
            Access::Off => Allowed::Off,
            Access::Any => Allowed::Any,
            Access::Only(list) => Allowed::Only(List {
                entries: list.iter().map(|app| self.intern(app)).collect(),
                has_prefix: list.iter().any(|app| app.prefix().is_some()),
            }),
        };
        Rule { access, until: setting.until }
    }
}
