//! SEARCH and UID SEARCH (RFC 3501 section 6.4.4). A key is judged on what is known so far; only where that does not
//! decide is the header read, and only then the bodies.

use std::{collections::HashMap, ops::Range};

use chrono::{DateTime, NaiveDate};

use super::{Answer, Reply, fetch, refuse};
use crate::imap::{
    command::{Flag, Search, SearchKey},
    set::{self, Ranges},
    write,
};
use crate::maildir::{Flags, MailError, MessageReader, Meta, View};
use crate::message::{self, Needle, Piece, Scanner, TextDecoder};
use crate::session::login::Dialog;

/// Most decoded bytes of one text part that are searched. In bytes.
const MAX_TEXT: u64 = 10 * 1024 * 1024;
/// Longest header that is searched. In bytes.
const MAX_HEADER: usize = 10 * 1024 * 1024;

pub(super) async fn search(dialog: &mut Dialog, view: &mut View, search: &Search) -> Answer {
    let plan = Plan::new(&search.key, view);
    let mut found = Vec::new();
    for number in 1..=view.len() {
        dialog.may_go_on()?;
        let Some(meta) = view.message(number) else { continue };
        let uid = meta.uid;
        let mut facts = Facts { number, meta, header: None, texts: None };
        let matches = match plan.judge(&search.key, &facts) {
            Some(matches) => matches,
            None => match look_inside(view, &plan, &search.key, &mut facts, &dialog.house.limits.message).await {
                Ok(matches) => matches,
                // A message that another session removed meanwhile matches nothing any more.
                Err(MailError::Gone { .. }) => false,
                Err(error) => return Ok(refuse(dialog, &error)),
            },
        };
        if matches {
            found.push(if search.uid { uid } else { number });
        }
    }
    write::search(&mut dialog.wire.out, found);
    Ok(Reply::ok("SEARCH done"))
}

/// What a search needs to know before it looks at messages: sets resolved, texts prepared.
struct Plan<'k> {
    sets: HashMap<usize, Ranges>,
    /// Texts looked for in bodies; `true` where the header counts too.
    needles: Vec<(&'k str, bool, Needle)>,
    header_needles: HashMap<usize, Needle>,
}

/// What is known of one message.
struct Facts {
    number: u32,
    meta: Meta,
    header: Option<Vec<u8>>,
    /// For each of the plan's needles, whether it is there.
    texts: Option<Vec<bool>>,
}

impl<'k> Plan<'k> {
    fn new(key: &'k SearchKey, view: &View) -> Self {
        let mut plan = Self { sets: HashMap::new(), needles: Vec::new(), header_needles: HashMap::new() };
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
                self.sets.insert(place(key), set::clipped(set, view.len()));
            }
            SearchKey::Uids(set) => {
                self.sets.insert(place(key), set::uids(set, view.uid(view.len())));
            }
            SearchKey::Header { text, .. } => {
                self.header_needles.insert(place(key), Needle::new(text));
            }
            SearchKey::Body(text) => self.needles.push((text, false, Needle::new(text))),
            SearchKey::Text(text) => self.needles.push((text, true, Needle::new(text))),
            _ => {}
        }
    }

    /// Yes, no, or not to be said without looking further into the message.
    fn judge(&self, key: &SearchKey, facts: &Facts) -> Option<bool> {
        let meta = &facts.meta;
        let size = meta.size;
        let day = || DateTime::from_timestamp(meta.internal_date.secs(), 0).map(|at| at.date_naive());
        let by_day = |fits: &dyn Fn(NaiveDate) -> bool| Some(day().is_some_and(fits));
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
            SearchKey::Not(inner) => self.judge(inner, facts).map(|matches| !matches),
            SearchKey::Numbers(_) => Some(self.in_set(key, facts.number)),
            SearchKey::Uids(_) => Some(self.in_set(key, meta.uid)),
            SearchKey::Flag(flag) => Some(has_flag(meta, flag)),
            SearchKey::Recent => Some(meta.recent),
            SearchKey::Larger(than) => Some(size > *than),
            SearchKey::Smaller(than) => Some(size < *than),
            SearchKey::Before(date) => by_day(&|day| day < *date),
            SearchKey::On(date) => by_day(&|day| day == *date),
            SearchKey::Since(date) => by_day(&|day| day >= *date),
            SearchKey::Header { name, .. } => {
                let needle = self.header_needles.get(&place(key))?;
                let header = facts.header.as_deref()?;
                let mut fields =
                    message::fields(header).filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
                Some(fields.any(|field| needle.is_in(&message::decode_header(field.value))))
            }
            SearchKey::SentBefore(date) => sent(facts, |day| day < *date),
            SearchKey::SentOn(date) => sent(facts, |day| day == *date),
            SearchKey::SentSince(date) => sent(facts, |day| day >= *date),
            SearchKey::Body(text) => self.text_found(text, false, facts),
            SearchKey::Text(text) => self.text_found(text, true, facts),
        }
    }

    fn in_set(&self, key: &SearchKey, number: u32) -> bool {
        self.sets.get(&place(key)).is_some_and(|ranges| ranges.contains(number))
    }

    fn text_found(&self, text: &str, headers: bool, facts: &Facts) -> Option<bool> {
        let texts = facts.texts.as_deref()?;
        let place = self.needles.iter().position(|(wanted, with, _)| *wanted == text && *with == headers)?;
        texts.get(place).copied()
    }
}

/// A key's name within one search: where it lies in memory, which does not change while the search runs.
fn place(key: &SearchKey) -> usize {
    std::ptr::from_ref(key).addr()
}

fn has_flag(meta: &Meta, flag: &Flag<'_>) -> bool {
    let name = flag.to_string();
    match Flags::from_name(&name) {
        Some(flag) => meta.flags.contains(flag),
        None => meta.keywords.iter().any(|keyword| keyword.eq_ignore_ascii_case(&name)),
    }
}

/// The day of the Date field, in its own zone; a message without one matches nothing.
fn sent(facts: &Facts, fits: impl Fn(NaiveDate) -> bool) -> Option<bool> {
    let header = facts.header.as_deref()?;
    let field = message::fields(header).find(|field| field.name.eq_ignore_ascii_case(b"date"));
    let date = field.and_then(|field| message::parse_date(field.value));
    Some(date.is_some_and(|date| fits(date.date_naive())))
}

async fn look_inside(
    view: &mut View,
    plan: &Plan<'_>,
    key: &SearchKey,
    facts: &mut Facts,
    limits: &message::Limits,
) -> Result<bool, MailError> {
    let mut reader = view.read(facts.number).await?;
    facts.header = Some(fetch::header(&mut reader).await?);
    if let Some(matches) = plan.judge(key, facts) {
        return Ok(matches);
    }
    facts.texts = Some(texts(&mut reader, plan, limits).await?);
    Ok(plan.judge(key, facts).unwrap_or(false))
}

/// Which of the plan's needles are in the message.
async fn texts(
    reader: &mut MessageReader,
    plan: &Plan<'_>,
    limits: &message::Limits,
) -> Result<Vec<bool>, MailError> {
    let mut scanner = Scanner::new(*limits);
    reader.select(0..reader.size());
    while let Some(chunk) = reader.next().await? {
        scanner.feed(&chunk);
    }
    let structure = scanner.finish();
    let mut found = vec![false; plan.needles.len()];
    for with_headers in [false, true] {
        if !plan.needles.iter().any(|(_, with, _)| *with == with_headers) {
            continue;
        }
        for piece in structure.pieces(with_headers) {
            let mut seekers: Vec<_> = plan.needles.iter().map(|(_, _, needle)| needle.matcher()).collect();
            let mut text = String::new();
            let mut look = |text: &str| {
                for ((seeker, place), (_, with, _)) in seekers.iter_mut().zip(&mut found).zip(&plan.needles) {
                    if *with == with_headers && seeker.feed(text) {
                        *place = true;
                    }
                }
            };
            match piece {
                Piece::Header(range) => {
                    let block = read(reader, range).await?;
                    look(&message::decode_header_block(&block));
                }
                Piece::Text(part) => {
                    let mut decoder = TextDecoder::new(part, MAX_TEXT);
                    reader.select(part.body());
                    while let Some(chunk) = reader.next().await? {
                        text.clear();
                        let more = decoder.feed(&chunk, &mut text);
                        look(&text);
                        if !more {
                            break;
                        }
                    }
                    text.clear();
                    decoder.finish(&mut text);
                    look(&text);
                }
            }
        }
    }
    Ok(found)
}

async fn read(reader: &mut MessageReader, range: Range<u64>) -> Result<Vec<u8>, MailError> {
    reader.select(range);
    reader.all(MAX_HEADER).await
}
