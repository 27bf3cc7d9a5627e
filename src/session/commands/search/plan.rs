//! What a search asks, made ready: sets resolved, days turned into moments, texts prepared. And what it says of a
//! message, as far as the message is known.

use std::ops::Range;

use chrono::{Days, NaiveDate};

use crate::imap::{
    command::{Flag, SearchKey},
    set::{self, Ranges},
    write,
};
use crate::maildir::{Flags, Glance, View};
use crate::message;

/// The keys of one search, made ready.
pub(super) struct Plan {
    test: Test,
    /// Header fields that have to be known, in lower case, each once.
    pub(super) fields: Vec<String>,
    /// Texts looked for inside messages.
    pub(super) needles: Vec<Needle>,
    /// One of them is longer than a line.
    pub(super) has_lines: bool,
    /// Whether messages have to be measured.
    pub(super) measures: bool,
}

/// Whether a key asks for what only a message's file tells.
fn is_measured(key: &SearchKey) -> bool {
    use SearchKey::{Before, EmailId, Larger, Older, On, Since, Smaller, Younger};
    matches!(key, Larger(_) | Smaller(_) | Before(_) | On(_) | Since(_) | Older(_) | Younger(_) | EmailId(_))
}

/// A text of BODY or TEXT.
pub(super) struct Needle {
    pub(super) text: message::Needle,
    /// TEXT: headers count too.
    pub(super) headers: bool,
}

/// One key. The parser bounds how deep they nest, so that functions on them may call themselves.
#[allow(clippy::large_enum_variant, reason = "at most a thousand keys, all held for the length of one search")]
enum Test {
    Is(bool),
    All(Vec<Test>),
    Either(Box<Test>, Box<Test>),
    Not(Box<Test>),
    Numbers(Ranges),
    Flag(Flags),
    Keyword(u16),
    Recent,
    Larger(u64),
    Smaller(u64),
    /// Seconds since 1970.
    Received(Range<i64>),
    Modseq(u64),
    EmailId(u64),
    Saved(Range<i64>),
    Sent(Range<NaiveDate>),
    Field {
        name: String,
        needle: Box<message::Needle>,
    },
    /// A needle by its place in the plan.
    Text(usize),
}

/// What is known of one message.
pub(super) struct Facts<'m> {
    pub(super) number: u32,
    pub(super) glance: Glance<'m>,
    /// The fields of the header that the plan asks for, as they stand.
    pub(super) header: Option<&'m [u8]>,
    /// For each of the plan's needles, whether it is there.
    pub(super) texts: Option<&'m [bool]>,
}

impl Plan {
    /// `saved` are the UIDs that `$` means; `now` is in seconds since 1970.
    pub(super) fn new(key: &SearchKey, view: &View, saved: &Ranges, now: i64) -> Self {
        let (fields, needles, measures) = (Vec::new(), Vec::new(), key.any(&is_measured));
        let mut plan = Self { test: Test::Is(true), fields, needles, has_lines: false, measures };
        plan.test = plan.prepare(key, &Ground { view, saved, now });
        plan.fields.sort_unstable();
        plan.fields.dedup();
        plan
    }

    fn prepare(&mut self, key: &SearchKey, ground: &Ground<'_>) -> Test {
        match key {
            // Whoever asks for the dates of SAVEDATE gets them from every mailbox.
            SearchKey::All | SearchKey::SaveDateSupported => Test::Is(true),
            SearchKey::And(keys) => Test::All(keys.iter().map(|key| self.prepare(key, ground)).collect()),
            SearchKey::Or(one, other) => {
                Test::Either(Box::new(self.prepare(one, ground)), Box::new(self.prepare(other, ground)))
            }
            SearchKey::Not(inner) => Test::Not(Box::new(self.prepare(inner, ground))),
            SearchKey::Numbers(set) => Test::Numbers(set::clipped(set, ground.view.len())),
            SearchKey::Uids(set) => {
                Test::Numbers(set::uids_to_numbers(set, ground.view.len(), |number| ground.uid(number)))
            }
            SearchKey::Saved => {
                Test::Numbers(set::known_uids_to_numbers(ground.saved, ground.view.len(), |number| {
                    ground.uid(number)
                }))
            }
            SearchKey::Flag(flag) => ground.flag(flag),
            SearchKey::Recent => Test::Recent,
            SearchKey::Modseq(least) => Test::Modseq(*least),
            SearchKey::Larger(than) => Test::Larger(*than),
            SearchKey::Smaller(than) => Test::Smaller(*than),
            SearchKey::Before(day) => Test::Received(i64::MIN..start(*day)),
            SearchKey::On(day) => Test::Received(start(*day)..start(after(*day))),
            SearchKey::Since(day) => Test::Received(start(*day)..i64::MAX),
            SearchKey::SavedBefore(day) => Test::Saved(i64::MIN..start(*day)),
            SearchKey::SavedOn(day) => Test::Saved(start(*day)..start(after(*day))),
            SearchKey::SavedSince(day) => Test::Saved(start(*day)..i64::MAX),
            // Both hold the moment that lies exactly so far back (RFC 5032 section 2).
            SearchKey::Older(seconds) => {
                Test::Received(i64::MIN..ground.before_now(seconds.get()).saturating_add(1))
            }
            SearchKey::Younger(seconds) => Test::Received(ground.before_now(seconds.get())..i64::MAX),
            SearchKey::SentBefore(day) => self.sent(NaiveDate::MIN..*day),
            SearchKey::SentOn(day) => self.sent(*day..after(*day)),
            SearchKey::SentSince(day) => self.sent(*day..NaiveDate::MAX),
            SearchKey::Header { name, text } => {
                let name = name.to_ascii_lowercase();
                self.fields.push(name.clone());
                Test::Field { name, needle: Box::new(message::Needle::new(text)) }
            }
            SearchKey::Body(text) => self.look_for(text, false),
            SearchKey::Text(text) => self.look_for(text, true),
            SearchKey::EmailId(id) => email_id(id).map_or(Test::Is(false), Test::EmailId),
            // No message has a thread's ID here (RFC 8474 section 5.2 allows that).
            SearchKey::ThreadId(_) => Test::Is(false),
        }
    }

    fn sent(&mut self, days: Range<NaiveDate>) -> Test {
        self.fields.push("date".to_owned());
        Test::Sent(days)
    }

    fn look_for(&mut self, text: &str, headers: bool) -> Test {
        self.has_lines |= text.contains(['\r', '\n']);
        self.needles.push(Needle { text: message::Needle::new(text), headers });
        Test::Text(self.needles.len() - 1)
    }

    /// The messages that have to be looked at: no other can fit.
    pub(super) fn within(&self, count: u32) -> Ranges {
        let all = || Ranges::new(vec![(1, count)]);
        let numbers = |test: &Test| match test {
            Test::Numbers(numbers) => Some(numbers.clone()),
            Test::Is(false) => Some(Ranges::default()),
            _ => None,
        };
        let narrowest = match &self.test {
            Test::All(tests) => tests.iter().filter_map(numbers).min_by_key(Ranges::count),
            test => numbers(test),
        };
        narrowest.unwrap_or_else(all)
    }

    /// Yes, no, or not to be said without looking further into the message.
    pub(super) fn judge(&self, facts: &Facts<'_>) -> Option<bool> {
        self.test.judge(facts)
    }
}

/// What keys are understood by.
struct Ground<'g> {
    view: &'g View,
    saved: &'g Ranges,
    now: i64,
}

impl Ground<'_> {
    fn uid(&self, number: u32) -> u32 {
        self.view.uid(number).unwrap_or(0)
    }

    fn before_now(&self, seconds: u32) -> i64 {
        self.now.saturating_sub(i64::from(seconds))
    }

    fn flag(&self, flag: &Flag<'_>) -> Test {
        let name = flag.to_string();
        match Flags::from_name(&name) {
            Some(flag) => Test::Flag(flag),
            None => self.view.keyword(&name).map_or(Test::Is(false), Test::Keyword),
        }
    }
}

/// The ID that stands in an EMAILID; none if it cannot be one of ours.
fn email_id(text: &str) -> Option<u64> {
    let id = u64::from_str_radix(text.strip_prefix('M')?, 16).ok()?;
    (write::email_id(id) == text).then_some(id)
}

/// The first second of a day, in UTC as INTERNALDATE shows it.
fn start(day: NaiveDate) -> i64 {
    day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp()
}

fn after(day: NaiveDate) -> NaiveDate {
    day.checked_add_days(Days::new(1)).unwrap_or(NaiveDate::MAX)
}

impl Test {
    fn judge(&self, facts: &Facts<'_>) -> Option<bool> {
        let glance = &facts.glance;
        Some(match self {
            Self::Is(is) => *is,
            Self::All(tests) => {
                let mut all = Some(true);
                for test in tests {
                    match test.judge(facts) {
                        Some(false) => return Some(false),
                        None => all = None,
                        Some(true) => {}
                    }
                }
                return all;
            }
            Self::Either(one, other) => match (one.judge(facts), other.judge(facts)) {
                (Some(true), _) | (_, Some(true)) => true,
                (Some(false), Some(false)) => false,
                _ => return None,
            },
            Self::Not(test) => !test.judge(facts)?,
            Self::Numbers(numbers) => numbers.contains(facts.number),
            Self::Flag(flag) => glance.flags.contains(*flag),
            Self::Keyword(number) => glance.keywords.contains(number),
            Self::Recent => glance.recent,
            Self::EmailId(id) => glance.id == *id,
            Self::Modseq(least) => glance.modseq >= *least,
            Self::Larger(than) => glance.size > *than,
            Self::Smaller(than) => glance.size < *than,
            Self::Received(when) => when.contains(&glance.date),
            Self::Saved(when) => when.contains(&glance.saved),
            Self::Sent(days) => {
                let value = message::values(facts.header?, b"date").next();
                // In its own zone; a message without a date fits nothing (RFC 3501 section 6.4.4).
                value.and_then(message::parse_date).is_some_and(|date| days.contains(&date.date_naive()))
            }
            Self::Field { name, needle } => {
                message::values(facts.header?, name.as_bytes()).any(|value| message::header_holds(value, needle))
            }
            Self::Text(place) => facts.texts?.get(*place).copied()?,
        })
    }
}
