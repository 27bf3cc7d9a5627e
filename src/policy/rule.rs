//! Settings in the compact form the directory keeps: apps as numbers, so that a list is compared without touching
//! its texts. Private to `policy`.

use std::collections::{BTreeMap, HashMap};
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
    /// App numbers in the admin's order.
    Only(Box<[u32]>),
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
#[derive(Debug, Default)]
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
#[derive(Debug, Default)]
pub(super) struct Apps {
    rows: Vec<AppRow>,
    numbers: HashMap<ClientId, u32>,
}

#[derive(Debug)]
pub(super) struct AppRow {
    pub(super) name: Option<Arc<str>>,
    /// `None` for nearly all: trusted, no delegation.
    pub(super) entry: Option<Box<App>>,
}

impl Apps {
    pub(super) fn number(&self, app: &ClientId) -> Option<u32> {
        self.numbers.get(app).copied()
    }

    pub(super) fn row(&self, number: u32) -> Option<&AppRow> {
        self.rows.get(number as usize)
    }

    pub(super) fn find(&self, app: &ClientId) -> Option<&AppRow> {
        self.row(self.number(app)?)
    }

    /// The number of an app, given out at first sight.
    pub(super) fn intern(&mut self, app: &ClientId) -> u32 {
        if let Some(number) = self.number(app) {
            return number;
        }
        let number = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        self.rows.push(AppRow { name: shipped_name(app).map(Arc::from), entry: None });
        self.numbers.insert(app.clone(), number);
        number
    }

    /// Sets or forgets the catalogue entry; the shipped name stands where the entry gives none.
    pub(super) fn put(&mut self, id: &ClientId, app: Option<App>) {
        let number = self.intern(id);
        let Some(row) = self.rows.get_mut(number as usize) else { return };
        let given = app.as_ref().and_then(|app| app.name.as_deref());
        row.name = given.or_else(|| shipped_name(id)).map(Arc::from);
        row.entry = app.filter(|app| app.trust != Trust::Trusted || !app.delegation.is_empty()).map(Box::new);
    }

    fn rule(&mut self, setting: &Setting) -> Rule {
        let access = match &setting.access {
            Access::Off => Allowed::Off,
            Access::Any => Allowed::Any,
            Access::Only(list) => Allowed::Only(list.iter().map(|app| self.intern(app)).collect()),
        };
        Rule { access, until: setting.until }
    }
}
