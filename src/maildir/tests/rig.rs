//! A disk that can fail and lose power: every call of the store is counted, can be made to fail, and is written down. From
//! what was written down follows what a power cut at any moment may leave: all that was synced, and of the rest any part.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Mutex,
};

use rustix::io::Errno;

use super::Random;
use crate::maildir::seam::{Call, Done, Fault, Seam};

/// Counts, fails and records the calls of one store.
#[derive(Default)]
pub(super) struct Rig {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What was there before the log begins.
    base: Option<Disk>,
    log: Vec<Event>,
    /// Fail the call with this number, counted from when it was set.
    plan: Option<(u32, Fault)>,
    calls: u32,
    hit: Option<Call>,
}

impl Rig {
    /// A rig for the store in this directory; what is there now counts as durable.
    pub(super) fn over(root: &Path) -> Self {
        let rig = Self::default();
        let mut disk = Disk { nodes: Vec::new(), inodes: HashMap::new() };
        disk.read(root);
        rig.state.lock().unwrap().base = Some(disk);
        rig
    }

    /// From now on the `nth` call, from 0, meets this fault.
    pub(super) fn fail(&self, nth: u32, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        (state.plan, state.calls, state.hit) = (Some((nth, fault)), 0, None);
    }

    /// No more faults; which call was hit.
    pub(super) fn relent(&self) -> Option<Call> {
        let mut state = self.state.lock().unwrap();
        state.plan = None;
        state.hit.take()
    }

    /// How many things were done so far.
    pub(super) fn now(&self) -> usize {
        self.state.lock().unwrap().log.len()
    }

    /// Puts into the empty directory `to` what a power cut after the first `moment` things that were done may have left of
    /// the store.
    pub(super) fn power_cut(&self, moment: usize, random: &mut Random, to: &Path) {
        let mut disk = {
            let state = self.state.lock().unwrap();
            let mut disk = state.base.clone().unwrap();
            state.log.iter().take(moment).for_each(|event| disk.apply(event));
            disk
        };
        disk.cut(random);
        disk.write(0, to);
    }
}

impl Seam for Rig {
    fn before(&self, call: Call, bytes: &[u8]) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        let (nth, fault) = state.plan?;
        // A call that cannot fail in that way is not counted.
        let changes = !matches!(call, Call::Open | Call::Look | Call::List);
        let fits = match fault {
            Fault::Refused(Errno::NOSPC | Errno::DQUOT) => {
                matches!(call, Call::Create | Call::Write | Call::Rename | Call::Link)
            }
            Fault::Refused(_) => true,
            Fault::Short(_) => call == Call::Write && !bytes.is_empty(),
            Fault::Late(_) => changes,
        };
        if !fits {
            return None;
        }
        state.calls += 1;
        if state.calls != nth + 1 {
            return None;
        }
        state.hit = Some(call);
        Some(fault)
    }

    fn after(&self, done: Done) {
        self.state.lock().unwrap().log.push(Event::from(done));
    }
}

/// [`Done`], to keep.
enum Event {
    MadeDir(u64, Vec<u8>, u64),
    MadeFile(u64, Vec<u8>, u64),
    Wrote(u64, u64, Vec<u8>),
    Cut(u64, u64),
    SyncedFile(u64),
    SyncedDir(u64),
    SyncedAll,
    Renamed { dir: u64, name: Vec<u8>, to: u64, new: Vec<u8>, inode: u64 },
    Linked(u64, Vec<u8>, u64),
    Unlinked(u64, Vec<u8>),
}

impl From<Done<'_>> for Event {
    fn from(done: Done) -> Self {
        match done {
            Done::MadeDir { dir, name, inode } => Self::MadeDir(dir, name.to_vec(), inode),
            Done::MadeFile { dir, name, inode } => Self::MadeFile(dir, name.to_vec(), inode),
            Done::Wrote { inode, at, bytes } => Self::Wrote(inode, at, bytes.to_vec()),
            Done::Cut { inode, length } => Self::Cut(inode, length),
            Done::SyncedFile { inode } => Self::SyncedFile(inode),
            Done::SyncedDir { dir } => Self::SyncedDir(dir),
            Done::SyncedAll => Self::SyncedAll,
            Done::Renamed { dir, name, to, new, inode } => {
                Self::Renamed { dir, name: name.to_vec(), to, new: new.to_vec(), inode }
            }
            Done::Linked { to, new, inode } => Self::Linked(to, new.to_vec(), inode),
            Done::Unlinked { dir, name } => Self::Unlinked(dir, name.to_vec()),
        }
    }
}

/// What stands on the disk for certain, and what may stand there. Number 0 is the root.
#[derive(Clone)]
struct Disk {
    nodes: Vec<Node>,
    /// Whose an inode number is now; they are given out again.
    inodes: HashMap<u64, usize>,
}

#[derive(Clone)]
enum Node {
    File { kept: Vec<u8>, pending: Vec<Change> },
    Dir { kept: BTreeMap<Vec<u8>, usize>, pending: Vec<Entry> },
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

#[derive(Clone)]
enum Entry {
    Put(Vec<u8>, usize),
    Drop(Vec<u8>),
    /// Within one directory: both or neither.
    Move(Vec<u8>, Vec<u8>),
}

impl Disk {
    /// Takes in a directory and all below it, as durable; its number.
    fn read(&mut self, dir: &Path) -> usize {
        let inode = fs::metadata(dir).unwrap().ino();
        let number = self.add(inode, Node::Dir { kept: BTreeMap::new(), pending: Vec::new() });
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let below = if entry.file_type().unwrap().is_dir() {
                self.read(&entry.path())
            } else {
                let kept = fs::read(entry.path()).unwrap();
                self.add(entry.metadata().unwrap().ino(), Node::File { kept, pending: Vec::new() })
            };
            let Node::Dir { kept, .. } = &mut self.nodes[number] else { unreachable!() };
            kept.insert(entry.file_name().into_encoded_bytes(), below);
        }
        number
    }

    fn add(&mut self, inode: u64, node: Node) -> usize {
        self.nodes.push(node);
        self.inodes.insert(inode, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn entry(&mut self, dir: u64, entry: Entry) {
        // A directory of another program, or one that was removed.
        let Some(at) = self.inodes.get(&dir) else { return };
        let Node::Dir { pending, .. } = &mut self.nodes[*at] else { panic!("{dir} is no directory") };
        pending.push(entry);
    }

    fn change(&mut self, inode: u64, change: Change) {
        let Node::File { pending, .. } = &mut self.nodes[self.inodes[&inode]] else { panic!("{inode} is no file") };
        pending.push(change);
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::MadeDir(dir, name, inode) => {
                let node = self.add(*inode, Node::Dir { kept: BTreeMap::new(), pending: Vec::new() });
                self.entry(*dir, Entry::Put(name.clone(), node));
            }
            Event::MadeFile(dir, name, inode) => {
                let node = self.add(*inode, Node::File { kept: Vec::new(), pending: Vec::new() });
                self.entry(*dir, Entry::Put(name.clone(), node));
            }
            Event::Wrote(inode, at, bytes) => self.change(*inode, Change::Write(*at, bytes.clone())),
            Event::Cut(inode, length) => self.change(*inode, Change::Cut(*length)),
            Event::Renamed { dir, name, to, new, .. } if dir == to => {
                self.entry(*dir, Entry::Move(name.clone(), new.clone()));
            }
            Event::Renamed { dir, name, to, new, inode } => {
                let node = self.inodes[inode];
                self.entry(*to, Entry::Put(new.clone(), node));
                self.entry(*dir, Entry::Drop(name.clone()));
            }
            Event::Linked(to, new, inode) => {
                let node = self.inodes[inode];
                self.entry(*to, Entry::Put(new.clone(), node));
            }
            Event::Unlinked(dir, name) => self.entry(*dir, Entry::Drop(name.clone())),
            Event::SyncedFile(inode) | Event::SyncedDir(inode) => {
                if let Some(at) = self.inodes.get(inode) {
                    self.nodes[*at].keep(usize::MAX);
                }
            }
            // Directories too, but nobody relies on it.
            Event::SyncedAll => {
                let files = self.nodes.iter_mut().filter(|node| matches!(node, Node::File { .. }));
                files.for_each(|node| node.keep(usize::MAX));
            }
        }
    }

    /// Loses the power: of what is pending some is kept.
    fn cut(&mut self, random: &mut Random) {
        for node in &mut self.nodes {
            node.cut(random);
        }
    }

    fn write(&self, at: usize, to: &Path) {
        let Node::Dir { kept, .. } = &self.nodes[at] else { panic!("{} is no directory", to.display()) };
        for (name, node) in kept {
            let path = to.join(str::from_utf8(name).unwrap());
            match &self.nodes[*node] {
                Node::File { kept, .. } => fs::write(path, kept).unwrap(),
                Node::Dir { .. } => {
                    fs::create_dir(&path).unwrap();
                    self.write(*node, &path);
                }
            }
        }
    }
}

impl Node {
    /// Makes the first of what is pending durable.
    fn keep(&mut self, count: usize) {
        match self {
            Self::File { kept, pending } => {
                let count = count.min(pending.len());
                pending.drain(..count).for_each(|change| change.apply(kept));
            }
            Self::Dir { kept, pending } => {
                let count = count.min(pending.len());
                pending.drain(..count).for_each(|entry| entry.apply(kept));
            }
        }
    }

    fn cut(&mut self, random: &mut Random) {
        let most = match self {
            Self::File { pending, .. } => pending.len(),
            Self::Dir { pending, .. } => pending.len(),
        };
        match random.below(4) {
            0 => self.keep(usize::MAX),
            1 => {}
            2 => {
                self.keep(random.below(most as u64 + 1) as usize);
                if let Self::File { kept, pending } = self
                    && let Some(Change::Write(at, bytes)) = pending.first()
                {
                    // Torn: a part of it, or its length alone.
                    let part = bytes[..random.below(bytes.len() as u64 + 1) as usize].to_vec();
                    let part = if random.below(2) == 0 { part } else { vec![0; bytes.len()] };
                    Change::Write(*at, part).apply(kept);
                }
            }
            _ => match self {
                Self::File { kept, pending } => {
                    pending.drain(..).filter(|_| random.below(2) == 0).for_each(|change| change.apply(kept));
                }
                Self::Dir { kept, pending } => {
                    pending.drain(..).filter(|_| random.below(2) == 0).for_each(|entry| entry.apply(kept));
                }
            },
        }
    }
}

impl Change {
    fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Cut(length) => bytes.resize(length as usize, 0),
            Self::Write(at, new) => {
                let at = at as usize;
                bytes.resize(bytes.len().max(at + new.len()), 0);
                bytes[at..at + new.len()].copy_from_slice(&new);
            }
        }
    }
}

impl Entry {
    fn apply(self, entries: &mut BTreeMap<Vec<u8>, usize>) {
        match self {
            Self::Put(name, node) => drop(entries.insert(name, node)),
            Self::Drop(name) => drop(entries.remove(&name)),
            Self::Move(name, new) => {
                if let Some(node) = entries.remove(&name) {
                    entries.insert(new, node);
                }
            }
        }
    }
}
