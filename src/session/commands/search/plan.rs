//! What a search needs to know before it looks at messages (sets resolved, texts prepared), and what a key says of a
//! message as far as that is known.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate};

use crate::imap::{
    command::{Flag, SearchKey},
    set::{self, Ranges},
};
use crate::maildir::{Flags, Meta, View};
use crate::message;

/// The keys of one search, made ready.
pub(super) struct Plan<'k> {
    sets: HashMap<Place<'k>, Ranges>,
    fields: HashMap<Place<'k>, message::Needle>,
    /// Where a BODY or TEXT key's needle is.
    texts: HashMap<Place<'k>, usize>,
    /// Texts looked for inside messages.
    pub(super) needles: Vec<Needle>,
}

/// A text of BODY or TEXT.
pub(super) struct Needle {
    pub(super) text: message::Needle,
    /// TEXT: headers count too.
    pub(super) headers: bool,
}

/// What is known of one message.
pub(super) struct Facts {
    pub(super) number: u32,
    pub(super) meta: Meta,
    pub(super) header: Option<Vec<u8>>,
    /// For each of the plan's needles, whether it is there.
    pub(super) texts: Option<Vec<bool>>,
}

/// A key's name within one search: where it lies in memory, which does not change while the search runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place<'k>(usize, std::marker::PhantomData<&'k SearchKey>);

impl<'k> Place<'k> {
    fn of(key: &'k SearchKey) -> Self {
        Self(std::ptr::from_ref(key).addr(), std::marker::PhantomData)
    }
}

impl<'k> Plan<'k> {
    pub(super) fn new(key: &'k SearchKey, view: &View) -> Self {
        let mut plan =
            Self { sets: HashMap::new(), fields: HashMap::new(), texts: HashMap::new(), needles: Vec::new() };
        plan.prepare(key, view);
        plan
    }

    /// The parser bounds how deep keys nest, so this may recurse.
    fn prepare(&mut self, key: &'k SearchKey, view: &View) {
        match key {
            SearchKey::And(keys) => keys.iter().for_each(|key| self.prepare(key, view)),
            SearchKey::Or(one, other) => {
                self.prepare(one, view);
                self.prepare(other, view);
            }
            SearchKey::Not(inner) => self.prepare(inner, view),
            SearchKey::Numbers(set) => {
                self.sets.insert(Place::of(key), set::clipped(set, view.len()));
            }
            SearchKey::Uids(set) => {
                self.sets.insert(Place::of(key), set::uids(set, view.uid(view.len())));
            }
            SearchKey::Header { text, .. } => {
                self.fields.insert(Place::of(key), message::Needle::new(text));
            }
            SearchKey::Body(text) => self.look_for(key, text, false),
            SearchKey::Text(text) => self.look_for(key, text, true),
            _ => {}
        }
    }

    fn look_for(&mut self, key: &'k SearchKey, text: &str, headers: bool) {
        self.texts.insert(Place::of(key), self.needles.len());
        self.needles.push(Needle { text: message::Needle::new(text), headers });
    }

    /// Yes, no, or not to be said without looking further into the message.
    pub(super) fn judge(&self, key: &SearchKey, facts: &Facts) -> Option<bool> {
        let meta = &facts.meta;
        match key {
            SearchKey::All => Some(true),
            SearchKey::And(keys) => {
                let mut all = Some(true);
                for key in keys {
                    match self.judge(key, facts) {
                        Some(false) => return Some(false),
                        None => all = None,
                        Some(true) => {}
                    }
                }
                all
            }
            SearchKey::Or(one, other) => match (self.judge(one, facts), self.judge(other, facts)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            SearchKey::Not(inner) => self.judge(inner, facts).map(|fits| !fits),
            SearchKey::Numbers(_) => Some(self.in_set(key, facts.number)),
            SearchKey::Uids(_) => Some(self.in_set(key, meta.uid)),
            SearchKey::Flag(flag) => Some(has_flag(meta, flag)),
            SearchKey::Recent => Some(meta.recent),
            SearchKey::Modseq(least) => Some(meta.modseq >= *least),
            SearchKey::Larger(than) => Some(meta.size > *than),
            SearchKey::Smaller(than) => Some(meta.size < *than),
            SearchKey::Before(date) => Some(received(meta).is_some_and(|day| day < *date)),
            SearchKey::On(date) => Some(received(meta).is_some_and(|day| day == *date)),
            SearchKey::Since(date) => Some(received(meta).is_some_and(|day| day >= *date)),
            SearchKey::Header { name, .. } => {
                let needle = self.fields.get(&Place::of(key))?;
                let mut fields =
                    message::fields(facts.header.as_deref()?).filter(|field| field.is(name.as_bytes()));
                Some(fields.any(|field| needle.is_in(&message::decode_header(field.value))))
            }
            SearchKey::SentBefore(date) => sent(facts, |day| day < *date),
            SearchKey::SentOn(date) => sent(facts, |day| day == *date),
            SearchKey::SentSince(date) => sent(facts, |day| day >= *date),
            SearchKey::Body(_) | SearchKey::Text(_) => {
                let place = self.texts.get(&Place::of(key))?;
                facts.texts.as_deref()?.get(*place).copied()
            }
        }
    }

    fn in_set(&self, key: &SearchKey, number: u32) -> bool {
        self.sets.get(&Place::of(key)).is_some_and(|ranges| ranges.contains(number))
    }
}

fn has_flag(meta: &Meta, flag: &Flag<'_>) -> bool {
    let name = flag.to_string();
    match Flags::from_name(&name) {
        Some(flag) => meta.flags.contains(flag),
        None => meta.keywords.iter().any(|keyword| keyword.eq_ignore_ascii_case(&name)),
    }
}

/// The day of the internal date, in UTC as INTERNALDATE shows it.
fn received(meta: &Meta) -> Option<NaiveDate> {
    DateTime::from_timestamp(meta.internal_date.secs(), 0).map(|at| at.date_naive())
}

/// The day of the Date field, in its own zone; a message without one fits nothing.
fn sent(facts: &Facts, fits: impl Fn(NaiveDate) -> bool) -> Option<bool> {
    let field = message::fields(facts.header.as_deref()?).find(|field| field.is(b"date"));
    let date = field.and_then(|field| message::parse_date(field.value));
    Some(date.is_some_and(|date| fits(date.date_naive())))
}
