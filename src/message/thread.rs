//! Threads: which message answers which (RFC 5256 section 3). Time n log n at worst, and nothing here calls itself:
//! senders of mail choose how deep threads are.

use std::collections::HashMap;

use super::links::{Links, NONE, Slots};

/// What is known of one message. Message IDs and base subjects are numbers: equal ones have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Threadable {
    /// The sent date in seconds, else the internal date (RFC 5256 section 2.2).
    pub date: i64,
    /// The base subject; none: it is empty.
    pub subject: Option<u32>,
    /// The subject says that it is a reply or a forward.
    pub is_reply: bool,
    /// The message ID, below `ids`.
    pub id: Option<u32>,
    /// The IDs it refers to, each below `ids`: the oldest first.
    pub references: Vec<u32>,
}

/// A token of a thread as it is written: parentheses, and the places of messages in the list that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadToken {
    /// A list begins.
    Open,
    /// A message.
    Message(u32),
    /// A list ends.
    Close,
}

/// Threads, sorted.
#[derive(Debug)]
pub struct Threads {
    roots: Vec<Root>,
    /// Children with their parents, in order of parent, then date.
    children: Vec<(u32, u32)>,
}

/// The top of a thread.
#[derive(Clone, Debug)]
enum Root {
    Message(u32),
    /// Messages that answer one that is not there.
    Several(Vec<u32>),
}

impl Root {
    /// The message that stands for the thread.
    fn first(&self) -> u32 {
        match self {
            Self::Message(message) => *message,
            Self::Several(messages) => messages.first().copied().unwrap_or(NONE),
        }
    }
}

/// ORDEREDSUBJECT: one thread for each base subject, without grandchildren.
pub fn by_subject(messages: &[Threadable]) -> Threads {
    let mut order: Vec<u32> = (0..count(messages)).collect();
    order.sort_by_key(|at| (get(messages, *at).subject, sent(messages, *at)));
    let threads = order.chunk_by(|a, b| get(messages, *a).subject == get(messages, *b).subject);
    let (mut roots, mut children) = (Vec::new(), Vec::new());
    for thread in threads {
        if let Some((first, rest)) = thread.split_first() {
            roots.push(Root::Message(*first));
            children.extend(rest.iter().map(|child| (*first, *child)));
        }
    }
    finish(messages, roots, children)
}

/// REFERENCES. `ids` is above every message ID's number.
pub fn by_references(messages: &[Threadable], ids: u32) -> Threads {
    let parents = linked(messages, ids);
    let (mut roots, mut children) = pruned(messages, ids, &parents);
    sort_roots(messages, &mut roots);
    gather_subjects(messages, &mut roots, &mut children);
    finish(messages, roots, children)
}

/// Step 1: the parent of each message, and of each message that is only known by its ID: those come after the others,
/// in order of their IDs.
fn linked(messages: &[Threadable], ids: u32) -> Slots {
    let nodes = messages.len() + ids as usize;
    let (mut parents, mut links) = (Slots::new(nodes), Links::new(nodes));
    // Of several messages with one ID the first has it.
    let mut holders = Slots::new(ids as usize);
    for (at, message) in (0..).zip(messages) {
        if let Some(id) = message.id
            && holders.at(id) == NONE
        {
            holders.put(id, at);
        }
    }
    let holder = |id: u32| match holders.at(id) {
        NONE => count(messages).saturating_add(id),
        message => message,
    };
    for (at, message) in (0..).zip(messages) {
        let mut last = None;
        for node in message.references.iter().map(|id| holder(*id)) {
            if let Some(parent) = last
                && parents.at(node) == NONE
                && links.root(parent) != node
            {
                links.link(node, parent);
                parents.put(node, parent);
            }
            last = Some(node);
        }
        if parents.at(at) != NONE {
            links.cut(at);
            parents.put(at, NONE);
        }
        if let Some(parent) = last
            && links.root(parent) != at
        {
            links.link(at, parent);
            parents.put(at, parent);
        }
    }
    parents
}

/// Steps 2 and 3: threads without the messages that are not there, but for those at the top with several children.
fn pruned(messages: &[Threadable], ids: u32, parents: &Slots) -> (Vec<Root>, Vec<(u32, u32)>) {
    let (there, nodes) = (count(messages), messages.len() + ids as usize);
    let (mut roots, mut children) = (Vec::new(), Vec::new());
    // For each absent message: the next one above it that is there, else the topmost of the absent.
    let mut above = Slots::new(nodes);
    let mut families: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut path = Vec::new();
    for message in 0..there {
        let mut top = parents.at(message);
        if top == NONE {
            roots.push(Root::Message(message));
            continue;
        }
        while top >= there {
            let next = match above.at(top) {
                NONE => parents.at(top),
                known => known,
            };
            if next == NONE || next == top {
                break;
            }
            path.push(top);
            top = next;
        }
        path.drain(..).for_each(|absent| above.put(absent, top));
        if top < there {
            children.push((top, message));
        } else {
            above.put(top, top);
            families.entry(top).or_default().push(message);
        }
    }
    for mut family in families.into_values() {
        match family.as_slice() {
            [only] => roots.push(Root::Message(*only)),
            _ => {
                family.sort_by_key(|message| sent(messages, *message));
                roots.push(Root::Several(family));
            }
        }
    }
    (roots, children)
}

/// Step 5: threads of one base subject become one.
fn gather_subjects(messages: &[Threadable], roots: &mut Vec<Root>, children: &mut Vec<(u32, u32)>) {
    let mut table: HashMap<u32, usize> = HashMap::new();
    let is_reply = |root: &Root| matches!(root, Root::Message(at) if get(messages, *at).is_reply);
    let is_several = |root: &Root| matches!(root, Root::Several(_));
    for (at, root) in roots.iter().enumerate() {
        let Some(subject) = get(messages, root.first()).subject else { continue };
        match table.get(&subject).and_then(|held| roots.get(*held)) {
            Some(held) if is_several(held) || !(is_several(root) || (is_reply(held) && !is_reply(root))) => {}
            _ => {
                table.insert(subject, at);
            }
        }
    }
    // The threads that others were put into, and those that stay as they are.
    let mut kept: Vec<Option<Root>> = roots.drain(..).map(Some).collect();
    for at in 0..kept.len() {
        let Some(root) = kept.get_mut(at).and_then(Option::take) else { continue };
        let subject = get(messages, root.first()).subject;
        let held = subject.and_then(|subject| table.get(&subject)).filter(|held| **held != at);
        let Some(held) = held.and_then(|held| kept.get_mut(*held)).and_then(Option::as_mut) else {
            if let Some(place) = kept.get_mut(at) {
                *place = Some(root);
            }
            continue;
        };
        match (held, root) {
            (Root::Several(there), Root::Several(more)) => there.extend(more),
            (Root::Several(there), Root::Message(message)) => there.push(message),
            (held @ Root::Message(_), root) => {
                let (first, rest) = (held.first(), root.first());
                if is_reply(&root) && !is_reply(held) {
                    children.push((first, rest));
                } else {
                    *held = Root::Several(vec![first, rest]);
                }
            }
        }
    }
    roots.extend(kept.into_iter().flatten());
}

/// Step 6, and what the other algorithm ends with: siblings in order of their sent dates.
fn finish(messages: &[Threadable], mut roots: Vec<Root>, mut children: Vec<(u32, u32)>) -> Threads {
    for root in &mut roots {
        if let Root::Several(several) = root {
            several.sort_by_key(|message| sent(messages, *message));
        }
    }
    sort_roots(messages, &mut roots);
    children.sort_by_key(|(parent, child)| (*parent, sent(messages, *child)));
    Threads { roots, children }
}

fn sort_roots(messages: &[Threadable], roots: &mut [Root]) {
    roots.sort_by_key(|root| sent(messages, root.first()));
}

/// By sent date, then by place.
fn sent(messages: &[Threadable], at: u32) -> (i64, u32) {
    (get(messages, at).date, at)
}

fn get(messages: &[Threadable], at: u32) -> &Threadable {
    static NOBODY: Threadable =
        Threadable { date: 0, subject: None, is_reply: false, id: None, references: Vec::new() };
    messages.get(at as usize).unwrap_or(&NOBODY)
}

fn count(messages: &[Threadable]) -> u32 {
    u32::try_from(messages.len()).unwrap_or(u32::MAX)
}

/// What is still to be written.
enum Job {
    /// A message and what is below it, as a list of its own.
    List(u32),
    /// The same within the list that is open.
    Inline(u32),
    Close,
}

impl Threads {
    /// All of it as it is written (RFC 5256 section 4): a parent is followed by its only child, or by a list for each
    /// of its children.
    pub fn tokens(&self) -> impl Iterator<Item = ThreadToken> + '_ {
        self.roots.iter().flat_map(|root| self.thread(root))
    }

    fn thread(&self, root: &Root) -> impl Iterator<Item = ThreadToken> + '_ {
        let (begin, jobs) = match root {
            Root::Message(message) => (None, vec![Job::List(*message)]),
            Root::Several(several) => {
                let lists = several.iter().rev().map(|message| Job::List(*message));
                (Some(ThreadToken::Open), std::iter::once(Job::Close).chain(lists).collect())
            }
        };
        begin.into_iter().chain(self.written(jobs))
    }

    fn written(&self, mut jobs: Vec<Job>) -> impl Iterator<Item = ThreadToken> + '_ {
        std::iter::from_fn(move || {
            Some(match jobs.pop()? {
                Job::Close => ThreadToken::Close,
                Job::List(message) => {
                    jobs.extend([Job::Close, Job::Inline(message)]);
                    ThreadToken::Open
                }
                Job::Inline(message) => {
                    match self.children_of(message) {
                        [(_, only)] => jobs.push(Job::Inline(*only)),
                        several => jobs.extend(several.iter().rev().map(|(_, child)| Job::List(*child))),
                    }
                    ThreadToken::Message(message)
                }
            })
        })
    }

    fn children_of(&self, parent: u32) -> &[(u32, u32)] {
        let start = self.children.partition_point(|(other, _)| *other < parent);
        let rest = self.children.get(start..).unwrap_or_default();
        rest.get(..rest.partition_point(|(other, _)| *other == parent)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
