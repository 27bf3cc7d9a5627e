//! SORT and UID SORT (RFC 5256, RFC 5267 section 3, RFC 5957): the messages that a search finds, in order.

use std::cmp::Ordering;

use super::{
    batch::{self, Stop, Work},
    header::Headers,
    long::Long,
    news::Selected,
    reply::{Answer, Reply},
    search::{self, Need},
};
use crate::imap::{
    command::{Sort, SortBy, SortKey},
    write::NumbersLine,
};
use crate::maildir::{Files, MailError};
use crate::message;
use crate::session::login::Dialog;

/// Longest text that is compared, in bytes of its collation key: a mailbox's keys are all held at once.
const MOST_KEY: usize = 1000;

pub(super) async fn sort(dialog: &mut Dialog, selected: &mut Selected, sort: &Sort, tag: &str) -> Answer {
    // First all messages are looked at, then those found.
    let mut long = Long::new(dialog, tag, Some(u64::from(selected.view.len()) * 2));
    let found = match search::find(dialog, selected, &sort.search, Need::All, &mut long).await? {
        Ok(found) => found,
        Err(error) => return Ok(search::failed(dialog, selected, &sort.search, &error)),
    };
    let view = &selected.view;
    let measures = sort.by.iter().any(|by| matches!(by.key, SortKey::Arrival | SortKey::Size | SortKey::Date));
    if measures && let Err(error) = search::measure(dialog, view, &mut long, &found).await? {
        return Ok(search::failed(dialog, selected, &sort.search, &error));
    }
    let mut jobs = std::collections::VecDeque::with_capacity(found.len());
    search::survey_all(view, &found, |number, glance| {
        // Its file is gone, or can not be read.
        if measures && !glance.measured {
            return;
        }
        jobs.push_back(Job { number, uid: glance.uid, size: glance.size, date: glance.date });
    });
    let headers = Headers::new(names(&sort.by), dialog.link.house.limits.message);
    let keys = Keys { by: sort.by.clone(), headers, rows: Vec::with_capacity(jobs.len()) };
    let sorted = match batch::read(dialog, view, &mut long, keys, jobs).await? {
        Ok(keys) => long.run(dialog, view.with_files(move |_| Ok(keys.sorted()))).await?,
        Err(error) => Err(error),
    };
    let sorted = match sorted {
        Ok(sorted) => sorted,
        Err(error) => return Ok(search::failed(dialog, selected, &sort.search, &error)),
    };
    match sort.search.returns {
        Some(returns) => {
            search::tell_extended(dialog, view, &sort.search, tag, returns, &sorted).await?;
            search::save(selected, returns, &sorted);
        }
        None => {
            search::tell_numbers(dialog, view, &sort.search, NumbersLine::sort, &sorted).await?;
        }
    }
    Ok(Reply::ok("SORT done"))
}

/// A message to be sorted.
struct Job {
    number: u32,
    uid: u32,
    size: u64,
    date: i64,
}

/// What a message is compared by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(i64),
    Text(Box<[u8]>),
}

/// Gathers what the messages are compared by.
struct Keys {
    by: Vec<SortBy>,
    headers: Headers,
    rows: Vec<(u32, Vec<Key>)>,
}

impl Work for Keys {
    type Job = Job;

    fn uid(job: &Job) -> u32 {
        job.uid
    }

    fn headers(&mut self) -> &mut Headers {
        &mut self.headers
    }

    fn one(&mut self, files: &Files, job: &Job, _: &Stop) -> Result<bool, MailError> {
        let header = self.headers.of(files, job.uid)?;
        self.rows.push((job.number, self.by.iter().map(|by| key(by.key, job, &header)).collect()));
        Ok(true)
    }
}

impl Keys {
    /// The numbers of the messages in order: what is equal stays in order of number (RFC 5256 section 3).
    fn sorted(mut self) -> Vec<u32> {
        let by = &self.by;
        self.rows.sort_unstable_by(|(a, a_keys), (b, b_keys)| compare(by, a_keys, b_keys).then(a.cmp(b)));
        self.rows.into_iter().map(|(number, _)| number).collect()
    }
}

fn compare(by: &[SortBy], a: &[Key], b: &[Key]) -> Ordering {
    let each = by.iter().zip(a.iter().zip(b));
    each.map(|(by, (a, b))| if by.reverse { b.cmp(a) } else { a.cmp(b) })
        .find(|o| o.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// The header fields that the criteria need.
fn names(by: &[SortBy]) -> Vec<String> {
    by.iter().filter_map(|by| field(by.key)).map(str::to_owned).collect()
}

fn field(key: SortKey) -> Option<&'static str> {
    match key {
        SortKey::Arrival | SortKey::Size => None,
        SortKey::Cc => Some("cc"),
        SortKey::Date => Some("date"),
        SortKey::DisplayFrom | SortKey::From => Some("from"),
        SortKey::DisplayTo | SortKey::To => Some("to"),
        SortKey::Subject => Some("subject"),
    }
}

fn key(by: SortKey, job: &Job, header: &[u8]) -> Key {
    let text = match by {
        SortKey::Arrival => return Key::Number(job.date),
        SortKey::Size => return Key::Number(i64::try_from(job.size).unwrap_or(i64::MAX)),
        SortKey::Date => return Key::Number(sent(header, job.date)),
        SortKey::Subject => subject(header).text,
        SortKey::Cc | SortKey::From | SortKey::To => {
            let mailbox = first_address(header, by).and_then(|address| address.mailbox);
            message::decode_guessed(&mailbox.unwrap_or_default())
        }
        SortKey::DisplayFrom | SortKey::DisplayTo => {
            first_address(header, by).map(|address| displayed(&address)).unwrap_or_default()
        }
    };
    Key::Text(message::collation_key(&text, MOST_KEY).into())
}

/// The sent date in seconds since 1970, else the internal date (RFC 5256 section 2.2).
pub(super) fn sent(header: &[u8], internal: i64) -> i64 {
    let date = message::fields(header).find(|field| field.is(b"date"));
    date.and_then(|field| message::parse_date(field.value)).map_or(internal, |date| date.timestamp())
}

/// The base subject; empty without a Subject field.
pub(super) fn subject(header: &[u8]) -> message::BaseSubject {
    let subject = message::fields(header).find(|field| field.is(b"subject"));
    subject.map(|field| message::base_subject(field.value)).unwrap_or_default()
}

/// The first address as ENVELOPE shows it.
fn first_address(header: &[u8], by: SortKey) -> Option<message::Address> {
    let name = field(by)?.as_bytes();
    let lists = message::fields(header).filter(|field| field.is(name));
    lists.filter_map(|field| message::addresses(&message::unfold(field.value), 1).into_iter().next()).next()
}

/// The display value of an address (RFC 5957 section 3).
fn displayed(address: &message::Address) -> String {
    let text = |part: &Option<Vec<u8>>| message::decode_guessed(part.as_deref().unwrap_or_default());
    let name = message::decode_header(address.name.as_deref().unwrap_or_default());
    match (&address.mailbox, &address.host) {
        _ if !name.is_empty() => name,
        (Some(_), Some(_)) => format!("{}@{}", text(&address.mailbox), text(&address.host)),
        _ => text(&address.mailbox),
    }
}

#[cfg(test)]
mod tests;
