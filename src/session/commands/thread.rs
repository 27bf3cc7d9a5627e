//! THREAD and UID THREAD (RFC 5256): the messages that a search finds, by which answers which.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use super::{
    batch::{self, Stop, Work},
    header::Headers,
    long::Long,
    news::Selected,
    reply::{Answer, Reply, refuse},
    search::{self, Need},
    sort::{sent, subject},
};
use crate::imap::{
    command::{Thread, ThreadBy},
    write::{ThreadLine, ThreadStep},
};
use crate::maildir::{Files, MailError};
use crate::message::{self, ThreadToken, Threadable};
use crate::session::{Ending, login::Dialog};

/// Longest base subject that is compared, in bytes of its collation key.
const MOST_SUBJECT: usize = 1000;
/// Message IDs that are read of one field.
const MOST_REFERENCES: usize = 10_000;
/// References that are kept in all; what comes after it is known by its last one only.
const ALL_REFERENCES: usize = 1_000_000;
/// Tokens that are written before they are pushed out.
const BATCH: usize = 1000;

pub(super) async fn thread(dialog: &mut Dialog, selected: &Selected, thread: &Thread, tag: &str) -> Answer {
    // First all messages are looked at, then those found.
    let mut long = Long::new(dialog, tag, Some(u64::from(selected.view.len()) * 2));
    let found = match search::find(dialog, selected, &thread.search, Need::All, &mut long).await? {
        Ok(found) => found,
        Err(error) => return Ok(refuse(dialog, &error)),
    };
    let view = &selected.view;
    if let Err(error) = search::measure(dialog, view, &mut long, &found).await? {
        return Ok(refuse(dialog, &error));
    }
    let mut jobs = VecDeque::with_capacity(found.len());
    search::survey_all(view, &found, |number, glance| {
        jobs.push_back(Job {
            name: if thread.search.uid { glance.uid } else { number },
            uid: glance.uid,
            date: glance.date,
        });
    });
    let gather = Gather::new(thread.by, dialog.link.house.limits.message);
    let threads = match batch::read(dialog, view, &mut long, gather, jobs).await? {
        Ok(gather) => long.run(dialog, view.with_files(move |_| Ok(gather.threads()))).await?,
        Err(error) => Err(error),
    };
    match threads {
        Ok((threads, names)) => tell(dialog, &threads, &names).await?,
        Err(error) => return Ok(refuse(dialog, &error)),
    }
    Ok(Reply::ok("THREAD done"))
}

/// `* THREAD ..`; `names` are the numbers or UIDs of the messages.
async fn tell(dialog: &mut Dialog, threads: &message::Threads, names: &[u32]) -> Result<(), Ending> {
    let wire = &mut dialog.link.wire;
    wire.begin_long();
    let mut line = ThreadLine::start(&mut wire.out);
    let mut tokens = threads.tokens().peekable();
    while tokens.peek().is_some() {
        for token in tokens.by_ref().take(BATCH) {
            let step = match token {
                ThreadToken::Open => ThreadStep::Open,
                ThreadToken::Message(at) => ThreadStep::Message(names.get(at as usize).copied().unwrap_or(0)),
                ThreadToken::Close => ThreadStep::Close,
            };
            line.step(&mut wire.out, step);
        }
        wire.push().await?;
        tokio::task::consume_budget().await;
    }
    line.end(&mut wire.out);
    wire.end_long();
    Ok(())
}

/// A message to be threaded.
struct Job {
    /// What the answer calls it.
    name: u32,
    uid: u32,
    date: i64,
}

/// Gathers what binds messages together.
struct Gather {
    by: ThreadBy,
    headers: Headers,
    ids: Numbered,
    subjects: Numbered,
    messages: Vec<Threadable>,
    names: Vec<u32>,
    /// References kept so far.
    references: usize,
}

impl Gather {
    fn new(by: ThreadBy, limits: message::Limits) -> Self {
        let fields: &[&str] = match by {
            ThreadBy::OrderedSubject => &["date", "subject"],
            ThreadBy::References => &["date", "subject", "message-id", "references", "in-reply-to"],
        };
        Self {
            by,
            headers: Headers::new(fields.iter().map(|name| (*name).to_owned()).collect(), limits),
            ids: Numbered::default(),
            subjects: Numbered::default(),
            messages: Vec::new(),
            names: Vec::new(),
            references: 0,
        }
    }

    fn threadable(&mut self, header: &[u8], date: i64) -> Threadable {
        let base = subject(header);
        let key = message::collation_key(&base.text, MOST_SUBJECT);
        let mut threadable = Threadable {
            date: sent(header, date),
            subject: (!key.is_empty()).then(|| self.subjects.number(&key)),
            is_reply: base.is_reply,
            ..Threadable::default()
        };
        if self.by == ThreadBy::References {
            threadable.id = ids(header, b"message-id", 1).first().map(|id| self.ids.number(id));
            let mut references = ids(header, b"references", MOST_REFERENCES);
            if references.is_empty() {
                references = ids(header, b"in-reply-to", 1);
            }
            if self.references >= ALL_REFERENCES {
                references.drain(..references.len().saturating_sub(1));
            }
            self.references += references.len();
            threadable.references = references.iter().map(|id| self.ids.number(id)).collect();
        }
        threadable
    }

    /// The threads, and what the answer calls their messages.
    fn threads(self) -> (message::Threads, Vec<u32>) {
        let threads = match self.by {
            ThreadBy::OrderedSubject => message::by_subject(&self.messages),
            ThreadBy::References => message::by_references(&self.messages, self.ids.count()),
        };
        (threads, self.names)
    }
}

impl Work for Gather {
    type Job = Job;

    fn uid(job: &Job) -> u32 {
        job.uid
    }

    fn headers(&mut self) -> &mut Headers {
        &mut self.headers
    }

    fn one(&mut self, files: &Files, job: &Job, _: &Stop) -> Result<bool, MailError> {
        let header = self.headers.of(files, job.uid)?;
        let threadable = self.threadable(&header, job.date);
        self.messages.push(threadable);
        self.names.push(job.name);
        Ok(true)
    }
}

/// The message IDs of the first field of this name.
fn ids(header: &[u8], name: &[u8], most: usize) -> Vec<Vec<u8>> {
    let field = message::fields(header).find(|field| field.is(name));
    field.map(|field| message::message_ids(field.value, most)).unwrap_or_default()
}

/// Texts by number, equal ones by the same. Only hashes of them are kept: 128 bits with keys that nobody else knows, so
/// that two texts that share one cannot be made on purpose and do not come about by chance.
#[derive(Default)]
struct Numbered {
    keys: (RandomState, RandomState),
    known: HashMap<(u64, u64), u32>,
}

impl Numbered {
    fn number(&mut self, text: &[u8]) -> u32 {
        let next = self.count();
        *self.known.entry((self.keys.0.hash_one(text), self.keys.1.hash_one(text))).or_insert(next)
    }

    fn count(&self) -> u32 {
        u32::try_from(self.known.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_binds_messages_is_read_from_their_headers() {
        let mut gather = Gather::new(ThreadBy::References, message::Limits::default());
        let first =
            gather.threadable(b"Message-ID: <a@b>\r\nSubject: Hello\r\nDate: 1 Jan 1970 00:01:00 +0000\r\n", 5);
        assert_eq!(
            first,
            Threadable { date: 60, subject: Some(0), is_reply: false, id: Some(0), references: vec![] }
        );
        let reply = gather.threadable(
            b"Message-ID: <c@d>\r\nSubject: Re: HELLO\r\nReferences: <x@y>\r\n <\"a\"@b>\r\nIn-Reply-To: <q@r>\r\n",
            7,
        );
        let expected =
            Threadable { date: 7, subject: Some(0), is_reply: true, id: Some(1), references: vec![2, 0] };
        assert_eq!(reply, expected);
        let by_reply_to = gather.threadable(b"References: none\r\nIn-Reply-To: Ann's of today <c@d> <a@b>\r\n", 7);
        assert_eq!((by_reply_to.subject, by_reply_to.id, by_reply_to.references), (None, None, vec![1]));
    }

    #[test]
    fn a_mailbox_full_of_references_is_cut_to_parents() {
        let mut gather = Gather::new(ThreadBy::References, message::Limits::default());
        gather.references = ALL_REFERENCES;
        let kept = gather.threadable(b"References: <a@b> <c@d>\r\n", 0);
        assert_eq!((kept.references.len(), gather.ids.count()), (1, 1));
    }
}
