//! What is true of the mailbox, whoever was told.

use std::collections::{BTreeMap, BTreeSet};

/// Flags as they are written, without `\Recent`.
pub type Flags = BTreeSet<String>;

/// A mailbox.
#[derive(Debug, Default)]
pub struct Mailbox {
    /// Its name.
    pub name: String,
    /// UID to flags.
    messages: BTreeMap<u32, Flags>,
    /// All flags each message had since a step began, also of messages that are gone: what a session is told may be
    /// from the middle of it.
    states: BTreeMap<u32, Vec<Flags>>,
    /// The next UID.
    pub next: u32,
    /// UIDVALIDITY, once it was told.
    pub validity: Option<u32>,
    /// The highest HIGHESTMODSEQ that was told by SELECT.
    pub highest: u64,
    /// Flags of a message at a mod-sequence: whoever is told one is told the other.
    pub history: BTreeMap<(u32, u64), Flags>,
}

impl Mailbox {
    /// One without messages.
    pub fn new(name: String) -> Self {
        Self { name, next: 1, ..Self::default() }
    }

    /// A step begins: what was before does not count any more.
    pub fn begin(&mut self) {
        self.states = self.messages.iter().map(|(uid, flags)| (*uid, vec![flags.clone()])).collect();
    }

    /// A new message.
    pub fn add(&mut self, flags: Flags) -> u32 {
        let uid = self.next;
        self.next += 1;
        self.set(uid, flags);
        uid
    }

    /// A message's flags.
    pub fn set(&mut self, uid: u32, flags: Flags) {
        self.states.entry(uid).or_default().push(flags.clone());
        self.messages.insert(uid, flags);
    }

    /// A message goes.
    pub fn remove(&mut self, uid: u32) {
        self.messages.remove(&uid);
    }

    /// All that are there, UID and flags.
    pub fn messages(&self) -> &BTreeMap<u32, Flags> {
        &self.messages
    }

    /// Flags that a message had since the step began.
    pub fn states(&self, uid: u32) -> &[Flags] {
        self.states.get(&uid).map_or(&[], Vec::as_slice)
    }

    /// UIDs above this one that were there since the step began.
    pub fn above(&self, uid: u32) -> Vec<u32> {
        self.states.range(uid + 1..).map(|(uid, _)| *uid).collect()
    }

    /// All UIDs.
    pub fn uids(&self) -> Vec<u32> {
        self.messages.keys().copied().collect()
    }

    /// Checks the UIDVALIDITY.
    pub fn validity(&mut self, told: u32) {
        assert_eq!(*self.validity.get_or_insert(told), told, "UIDVALIDITY of {} changed", self.name);
    }
}

/// `+FLAGS`, `-FLAGS` or `FLAGS`.
pub fn stored(old: &Flags, op: &str, given: &Flags) -> Flags {
    match op {
        "+FLAGS" => old.union(given).cloned().collect(),
        "-FLAGS" => old.difference(given).cloned().collect(),
        _ => given.clone(),
    }
}

/// The words of a flag list.
pub fn flags(text: &str) -> Flags {
    text.split_whitespace().filter(|flag| *flag != "\\Recent").map(str::to_owned).collect()
}

/// `1:3,7` as numbers.
pub fn numbers(set: &str) -> Vec<u32> {
    let end = |text: &str| text.parse::<u32>().unwrap_or_else(|_| panic!("no set: {set}"));
    let range = |text: &str| match text.split_once(':') {
        Some((a, b)) => end(a).min(end(b))..=end(a).max(end(b)),
        None => end(text)..=end(text),
    };
    set.split(',').flat_map(range).collect()
}
