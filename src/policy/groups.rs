//! Groups in memory. Users in the same groups share one set, so that a membership costs a user four bytes. Private to
//! `policy`.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Group,
    rule::{Apps, Rule, Rules},
};
use crate::model::{GroupId, Service, UnixTime};

/// The set of no groups.
pub(super) const NO_GROUPS: u32 = 0;

#[derive(Clone, Debug)]
pub(super) struct Groups {
    rows: Vec<GroupRow>,
    numbers: HashMap<GroupId, u32>,
    sets: Vec<Set>,
    set_numbers: HashMap<Arc<[u32]>, u32>,
    unused_sets: Vec<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct GroupRow {
    pub(super) id: GroupId,
    pub(super) listed: bool,
    pub(super) priority: i64,
    rules: Rules,
}

impl GroupRow {
    pub(super) fn rule(&self, service: Service) -> Option<&Rule> {
        self.rules.of(service).as_ref()
    }
}

/// The groups of some users, by number, in order of priority at no time: priorities change.
#[derive(Clone, Debug)]
struct Set {
    groups: Arc<[u32]>,
    users: u32,
}

impl Default for Groups {
    fn default() -> Self {
        let none: Arc<[u32]> = Arc::from([]);
        Self {
            rows: Vec::new(),
            numbers: HashMap::new(),
            sets: vec![Set { groups: none.clone(), users: 0 }],
            set_numbers: HashMap::from([(none, NO_GROUPS)]),
            unused_sets: Vec::new(),
        }
    }
}

impl Groups {
    /// The rule in force among the groups of a set: highest priority first, of equals the first name in byte order.
    pub(super) fn effective(&self, set: u32, service: Service, now: UnixTime) -> Option<(&GroupRow, &Rule)> {
        let mut best: Option<(&GroupRow, &Rule)> = None;
        for group in self.of_set(set) {
            let Some(rule) = group.rule(service).filter(|rule| rule.holds(now)) else { continue };
            let better = best.is_none_or(|(other, _)| {
                group.priority > other.priority || (group.priority == other.priority && group.id < other.id)
            });
            if better {
                best = Some((group, rule));
            }
        }
        best
    }

    /// The groups of a set that a row lists.
    pub(super) fn of_set(&self, set: u32) -> impl Iterator<Item = &GroupRow> {
        let groups = self.sets.get(set as usize).map_or(&[][..], |set| &set.groups);
        groups.iter().filter_map(|number| self.rows.get(*number as usize)).filter(|group| group.listed)
    }

    /// The sets that one of these groups is in.
    pub(super) fn sets_with(&self, groups: &HashSet<GroupId>) -> HashSet<u32> {
        let numbers: HashSet<u32> = groups.iter().filter_map(|id| self.numbers.get(id).copied()).collect();
        let sets = (0..).zip(&self.sets);
        sets.filter(|(_, set)| set.groups.iter().any(|group| numbers.contains(group))).map(|(set, _)| set).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.iter().filter(|group| group.listed).count()
    }

    /// Puts or takes out a group; returns its old rules and its new ones.
    pub(super) fn put(&mut self, id: &GroupId, group: Option<&Group>, apps: &mut Apps) -> (Rules, Rules) {
        let number = self.intern(id);
        let rules = group.map(|group| Rules::new(&group.settings, apps)).unwrap_or_default();
        let Some(row) = self.rows.get_mut(number as usize) else { return Default::default() };
        row.listed = group.is_some();
        row.priority = group.map_or(0, |group| group.priority);
        (std::mem::replace(&mut row.rules, rules.clone()), rules)
    }

    /// The number of the set of exactly these groups, counted as used by one user more.
    pub(super) fn take_set(&mut self, groups: &[GroupId]) -> u32 {
        if groups.is_empty() {
            return NO_GROUPS;
        }
        let mut numbers: Vec<u32> = groups.iter().map(|id| self.intern(id)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let numbers: Arc<[u32]> = numbers.into();
        let set = match self.set_numbers.get(&numbers) {
            Some(set) => *set,
            None => self.new_set(numbers),
        };
        if let Some(set) = self.sets.get_mut(set as usize) {
            set.users += 1;
        }
        set
    }

    /// The opposite of [`Groups::take_set`]: the last user to leave makes room for another set.
    pub(super) fn leave_set(&mut self, set: u32) {
        if set == NO_GROUPS {
            return;
        }
        let Some(row) = self.sets.get_mut(set as usize) else { return };
        row.users = row.users.saturating_sub(1);
        if row.users == 0 {
            let groups = std::mem::replace(&mut row.groups, Arc::from([]));
            self.set_numbers.remove(&groups);
            self.unused_sets.push(set);
        }
    }

    fn new_set(&mut self, groups: Arc<[u32]>) -> u32 {
        let set = self.unused_sets.pop().unwrap_or_else(|| {
            self.sets.push(Set { groups: Arc::from([]), users: 0 });
            u32::try_from(self.sets.len() - 1).unwrap_or(NO_GROUPS)
        });
        if let Some(row) = self.sets.get_mut(set as usize) {
            row.groups = groups.clone();
        }
        self.set_numbers.insert(groups, set);
        set
    }

    fn intern(&mut self, id: &GroupId) -> u32 {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        let number = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        self.rows.push(GroupRow { id: id.clone(), listed: false, priority: 0, rules: Rules::default() });
        self.numbers.insert(id.clone(), number);
        number
    }
}
