//! What one session was told, and whether it may be told what comes next.

use std::collections::BTreeMap;

use crate::{
    mailbox::{Flags, Mailbox, flags, numbers},
    run::Kind,
};

/// What a session knows of a message.
#[derive(Clone, Debug)]
pub struct Known {
    /// The UID; the model tells it, where the session was not told.
    pub uid: u32,
    /// The flags as last told, or as the session made them itself.
    pub flags: Option<Flags>,
}

/// What a session knows of the mailbox.
#[derive(Clone, Debug)]
pub struct Picture {
    /// How it asked to be told.
    pub kind: Kind,
    /// In order of message numbers.
    pub known: Vec<Known>,
    /// The highest UID it ever knew of.
    pub last: u32,
    /// HIGHESTMODSEQ as section 6 of RFC 7162 has programs remember it.
    pub highest: u64,
    /// Told with the command under way.
    pub told: Told,
}

/// What came with one command.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// UIDs with their FETCH items, by name.
    pub fetched: Vec<(u32, BTreeMap<String, String>)>,
    /// `* SEARCH`.
    pub found: Option<Vec<u32>>,
    /// The last HIGHESTMODSEQ, and the highest MODSEQ.
    pub highest: Option<u64>,
    pub modseq: u64,
    /// UIDs of VANISHED (EARLIER).
    pub earlier: Vec<u32>,
    /// Other untagged lines.
    pub other: Vec<String>,
}

/// What may be told under a command.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Removals.
    pub expunge: bool,
    /// FETCH lines without UID and MODSEQ to those who asked for both: they were asked for so.
    pub bare: bool,
    /// UID in FETCH lines to those who did not ask for mod-sequences.
    pub uid: bool,
}

impl Picture {
    /// A mailbox just opened.
    pub fn new(kind: Kind, mailbox: &Mailbox) -> Self {
        let known = mailbox.uids().into_iter().map(|uid| Known { uid, flags: None }).collect();
        Self { kind, known, last: mailbox.next - 1, highest: 0, told: Told::default() }
    }

    /// The UIDs it counts.
    pub fn uids(&self) -> Vec<u32> {
        self.known.iter().map(|known| known.uid).collect()
    }

    /// Takes in one untagged line.
    pub fn hear(&mut self, line: &str, mailbox: &mut Mailbox, rules: Rules) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["*", number, "EXPUNGE"] => {
                assert!(rules.expunge, "a removal where no number may move");
                assert!(self.kind != Kind::Qresync, "EXPUNGE where VANISHED was asked for");
                let at: usize = number.parse().unwrap();
                assert!((1..=self.known.len()).contains(&at), "no such message number");
                self.removed(at - 1, mailbox);
            }
            ["*", "VANISHED", "(EARLIER)", set] => {
                assert_eq!(self.kind, Kind::Qresync);
                self.told.earlier.extend(numbers(set));
            }
            ["*", "VANISHED", set] => {
                assert!(rules.expunge && self.kind == Kind::Qresync, "VANISHED where it may not be");
                for uid in numbers(set) {
                    let at = self.known.iter().position(|known| known.uid == uid).expect("a UID it counts");
                    self.removed(at, mailbox);
                }
            }
            ["*", number, "EXISTS"] => {
                let count: usize = number.parse().unwrap();
                for uid in mailbox.above(self.last).into_iter().take(count.saturating_sub(self.known.len())) {
                    self.known.push(Known { uid, flags: None });
                    self.last = uid;
                }
                assert_eq!(count, self.known.len(), "EXISTS");
            }
            ["*", number, "RECENT"] => assert!(number.parse::<usize>().unwrap() <= self.known.len(), "RECENT"),
            ["*", number, "FETCH", items] => self.fetched(number.parse().unwrap(), items, mailbox, rules),
            ["*", "SEARCH", ..] => {
                let found = line["* SEARCH".len()..].split_whitespace().map(|n| n.parse().unwrap()).collect();
                assert!(self.told.found.replace(found).is_none(), "two answers to one search");
            }
            _ => {
                if let Some(modseq) = code(line, "HIGHESTMODSEQ") {
                    self.told.highest = Some(modseq);
                }
                self.told.other.push(line.to_owned());
            }
        }
    }

    fn removed(&mut self, at: usize, mailbox: &Mailbox) {
        let gone = self.known.remove(at);
        assert!(!mailbox.messages().contains_key(&gone.uid), "UID {} is still there", gone.uid);
    }

    fn fetched(&mut self, number: u32, text: &str, mailbox: &mut Mailbox, rules: Rules) {
        let items = items(text);
        let known = self.known.get_mut(number as usize - 1).expect("no such message number");
        let uid = known.uid;
        let states = mailbox.states(uid).to_vec();
        let truth = states.last().unwrap_or_else(|| panic!("UID {uid} was gone before, and is spoken of"));
        let told_uid = items.get("UID").map(|uid| uid.parse::<u32>().unwrap());
        assert!(told_uid.is_none_or(|told| told == uid), "message {number} has UID {uid}");
        let modseq = items.get("MODSEQ").map(|m| m.trim_matches(['(', ')']).parse::<u64>().unwrap());
        if let Some(told) = items.get("FLAGS") {
            let told = flags(told.trim_matches(['(', ')']));
            assert!(states.contains(&told), "UID {uid} has {told:?}, where it had {states:?}");
            known.flags = Some(told);
        }
        if let Some(modseq) = modseq {
            let told = known.flags.as_ref().filter(|_| items.contains_key("FLAGS")).unwrap_or(truth);
            let at = mailbox.history.entry((uid, modseq)).or_insert_with(|| told.clone());
            assert_eq!(at, told, "UID {uid} had other flags at mod-sequence {modseq}");
            self.told.modseq = self.told.modseq.max(modseq);
        }
        match self.kind {
            Kind::Plain => {
                assert!((told_uid.is_none() || rules.uid) && modseq.is_none(), "more than was asked for")
            }
            _ => assert!(rules.bare || (told_uid.is_some() && modseq.is_some()), "UID or MODSEQ is missing"),
        }
        self.told.fetched.push((uid, items));
    }

    /// The command is done: what it came with, and what must be known by now. A new HIGHESTMODSEQ may stand in the tagged
    /// line.
    pub fn done(&mut self, status: &str, mailbox: &Mailbox, rules: Rules) -> Told {
        let told = std::mem::take(&mut self.told);
        if self.kind != Kind::Plain {
            match code(status, "HIGHESTMODSEQ").or(told.highest) {
                Some(highest) => self.highest = highest,
                None => self.highest = self.highest.max(told.modseq),
            }
        }
        let mut counted = self.uids();
        if !rules.expunge {
            counted.retain(|uid| mailbox.messages().contains_key(uid));
        }
        assert_eq!(counted, mailbox.uids(), "the messages it counts");
        for known in &self.known {
            if let (Some(flags), Some(truth)) = (&known.flags, mailbox.messages().get(&known.uid)) {
                assert_eq!(flags, truth, "what it knows of UID {}", known.uid);
            }
        }
        told
    }
}

/// The number of a response code: `[HIGHESTMODSEQ 5]`.
pub fn code(line: &str, name: &str) -> Option<u64> {
    let (_, rest) = line.split_once(&format!("[{name} "))?;
    rest.split([']', ' ']).next()?.parse().ok()
}

/// `(UID 4 FLAGS (\Seen) MODSEQ (7))` by name.
fn items(text: &str) -> BTreeMap<String, String> {
    let mut rest = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).expect("items in parentheses");
    let mut all = BTreeMap::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once(' ').expect("an item and its value");
        let end = match after.strip_prefix('(') {
            Some(list) => list.find(')').expect("a list that ends") + 2,
            None => after.find(' ').unwrap_or(after.len()),
        };
        assert!(all.insert(name.to_owned(), after[..end].to_owned()).is_none(), "{name} twice");
        rest = after[end..].trim_start();
    }
    all
}
