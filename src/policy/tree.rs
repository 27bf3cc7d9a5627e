//! The unit tree in memory, with the nearest setting above each unit kept at hand. Private to `policy`.

use std::collections::HashMap;

use super::{
    Ceiling, LimitSettings, Quota, QuotaSettings, Unit,
    rule::{Per, Rule, Rules},
};
use crate::model::{MailHome, Service, UnitPath, UnixTime};

/// "No unit": the end of a walk upwards.
const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    numbers: HashMap<UnitPath, u32>,
    /// How many units limit the bytes of a day.
    with_byte_limit: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) path: UnitPath,
    /// Whether a row says that the unit exists; a unit that only stands above or around something does not.
    pub(super) listed: bool,
    parent: u32,
    children: Vec<u32>,
    rules: Rules,
    /// Number of the nearest unit, itself or above, with a rule of its own, run out or not.
    nearest: Per<u32>,
    /// What it says besides, where it says something: few do.
    terms: Option<Box<Terms>>,
}

/// What a unit says besides who comes in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) quota: QuotaSettings,
    pub(super) mail: Option<MailHome>,
    pub(super) read_only: Option<bool>,
    pub(super) limits: LimitSettings,
}

impl Terms {
    pub(super) fn of(unit: &Unit) -> Self {
        Self { quota: unit.quota, mail: unit.mail.clone(), read_only: unit.read_only, limits: unit.limits }
    }

    fn limit_bytes(&self) -> bool {
        matches!(self.limits.bytes_per_day, Some(Ceiling::At(_)))
    }
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node {
            path: UnitPath::root(),
            listed: true,
            parent: NONE,
            children: Vec::new(),
            rules: Rules::default(),
            nearest: Per { imap: NONE, pop: NONE },
            terms: None,
        };
        Self { nodes: vec![root], numbers: HashMap::from([(UnitPath::root(), ROOT)]), with_byte_limit: 0 }
    }
}

impl Tree {
    /// The rule in force for a unit: its own, else that of the nearest unit above whose rule has not run out.
    pub(super) fn effective(&self, unit: u32, service: Service, now: UnixTime) -> Option<(&Node, &Rule)> {
        let node = self.node(self.source(unit, service, now)?)?;
        Some((node, node.rules.of(service).as_ref()?))
    }

    /// The number of the unit whose rule that is.
    pub(super) fn source(&self, unit: u32, service: Service, now: UnixTime) -> Option<u32> {
        let mut node = self.node(unit)?;
        loop {
            let nearest = *node.nearest.of(service);
            node = self.node(nearest)?;
            if node.rules.of(service).as_ref().is_some_and(|rule| rule.holds(now)) {
                return Some(nearest);
            }
            node = self.node(node.parent)?;
        }
    }

    /// Every unit's number, listed or not.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn node(&self, unit: u32) -> Option<&Node> {
        self.nodes.get(unit as usize)
    }

    pub(super) fn number(&self, path: &UnitPath) -> Option<u32> {
        self.numbers.get(path).copied()
    }

    pub(super) fn find(&self, path: &UnitPath) -> Option<&Node> {
        self.node(*self.numbers.get(path)?)
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.iter().filter(|node| node.listed).count()
    }

    /// The number of a unit. One that is not there yet comes into being unlisted, with every unit above it.
    pub(super) fn intern(&mut self, path: &UnitPath) -> u32 {
        if let Some(number) = self.numbers.get(path) {
            return *number;
        }
        // Not deeper than UnitPath::MAX_DEPTH.
        let parent = path.parent().map_or(ROOT, |above| self.intern(&above));
        let number = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        let nearest = self.node(parent).map_or(Per { imap: NONE, pop: NONE }, |above| above.nearest.clone());
        let path = path.clone();
        self.numbers.insert(path.clone(), number);
        self.nodes.push(Node {
            path,
            listed: false,
            parent,
            children: Vec::new(),
            rules: Rules::default(),
            nearest,
            terms: None,
        });
        if let Some(above) = self.nodes.get_mut(parent as usize) {
            above.children.push(number);
        }
        number
    }

    /// Puts a unit's rules and returns the old ones. Numbers stay: a unit that went and came back is the same one.
    pub(super) fn put(&mut self, path: &UnitPath, listed: bool, rules: Rules) -> Rules {
        let number = self.intern(path);
        let Some(node) = self.nodes.get_mut(number as usize) else { return Rules::default() };
        node.listed = listed || number == ROOT;
        let old = std::mem::replace(&mut node.rules, rules);
        for service in [Service::Imap, Service::Pop] {
            self.renew(number, service);
        }
        old
    }

    /// Puts what a unit says besides who comes in.
    pub(super) fn put_terms(&mut self, path: &UnitPath, terms: Terms) {
        let number = self.intern(path);
        let Some(node) = self.nodes.get_mut(number as usize) else { return };
        let limits_bytes = terms.limit_bytes();
        let new = (terms != Terms::default()).then(|| Box::new(terms));
        let old = std::mem::replace(&mut node.terms, new);
        self.with_byte_limit += usize::from(limits_bytes);
        self.with_byte_limit -= usize::from(old.is_some_and(|old| old.limit_bytes()));
    }

    /// Whether any unit limits the bytes of a day.
    pub(super) fn limits_bytes(&self) -> bool {
        self.with_byte_limit > 0
    }

    /// What the nearest unit upwards says of one thing, and which unit that is. A walk not longer than
    /// `UnitPath::MAX_DEPTH`.
    pub(super) fn nearest<'t, T>(
        &'t self,
        unit: u32,
        of: impl Fn(&'t Terms) -> Option<T>,
    ) -> Option<(T, &'t UnitPath)> {
        let mut next = self.node(unit);
        while let Some(node) = next {
            if let Some(found) = node.terms.as_deref().and_then(&of) {
                return Some((found, &node.path));
            }
            next = self.node(node.parent);
        }
        None
    }

    /// The quota in force for a unit.
    pub(super) fn quota(&self, unit: u32) -> Quota {
        let in_force = |of: fn(&QuotaSettings) -> Option<Ceiling>| {
            self.nearest(unit, |terms| of(&terms.quota)).and_then(|(ceiling, _)| ceiling.most())
        };
        Quota { bytes: in_force(|quota| quota.storage), messages: in_force(|quota| quota.messages) }
    }

    /// The number of a unit, or of the nearest unit above it that has one: what nobody made inherits like any other.
    pub(super) fn number_or_above(&self, unit: &UnitPath) -> u32 {
        let mut path = Some(unit.clone());
        while let Some(unit) = path {
            match self.number(&unit) {
                Some(number) => return number,
                None => path = unit.parent(),
            }
        }
        ROOT
    }

    /// Finds `nearest` again for a unit and for exactly those below that inherit from or through it.
    fn renew(&mut self, unit: u32, service: Service) {
        let mut waiting = vec![unit];
        while let Some(number) = waiting.pop() {
            let Some(node) = self.node(number) else { continue };
            let own = node.rules.of(service).is_some();
            let above = self.node(node.parent).map_or(NONE, |above| *above.nearest.of(service));
            let nearest = if own { number } else { above };
            let Some(node) = self.nodes.get_mut(number as usize) else { continue };
            if *node.nearest.of(service) != nearest {
                *node.nearest.of_mut(service) = nearest;
                waiting.extend(&node.children);
            }
        }
    }
}

/// Whether `unit` is `above` or lies below it.
pub(super) fn covers(above: &UnitPath, unit: &UnitPath) -> bool {
    let (above, unit) = (above.as_str(), unit.as_str());
    above == "/" || unit.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_unit_covers_itself_and_what_lies_below_but_no_namesake() {
        let table = [
            ("/", "/", true),
            ("/", "/Sales/Field", true),
            ("/Sales", "/Sales", true),
            ("/Sales", "/Sales/Field", true),
            ("/Sales", "/Salesmen", false),
            ("/Sales/Field", "/Sales", false),
        ];
        for (above, unit, expected) in table {
            let (above, unit) = (UnitPath::parse(above).unwrap(), UnitPath::parse(unit).unwrap());
            assert_eq!(covers(&above, &unit), expected, "{above} over {unit}");
        }
    }
}
