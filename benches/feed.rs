//! The change feed at a size that no machine here has: a simulation, event by event, of nodes that follow one database.
//! What a look, a read and a write cost comes from `cargo bench --bench nodes`; `docs/scale.md` says what follows.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use clap::Parser;

#[derive(Clone, Copy, Parser)]
struct Arguments {
    /// Between two looks of a node, in ms
    #[arg(long, default_value_t = 500.0)]
    poll_ms: f64,
    /// CPU of the database for a look that finds nothing and what else a quiet node asks each time, in ms
    #[arg(long, default_value_t = 1.6)]
    look_ms: f64,
    /// CPU of the database for reading what is new, in ms
    #[arg(long, default_value_t = 0.6)]
    read_ms: f64,
    /// CPU of the database for a change, in ms; one is made at a time
    #[arg(long, default_value_t = 0.7)]
    write_ms: f64,
    /// CPU of the database to wake one listening node, in ms
    #[arg(long, default_value_t = 0.05)]
    wake_ms: f64,
    /// One way between a node and the database, in ms
    #[arg(long, default_value_t = 0.5)]
    way_ms: f64,
    /// What a node needs to take a change in and decide its sessions again, in ms
    #[arg(long, default_value_t = 30.0)]
    node_ms: f64,
    /// Cores of the database
    #[arg(long, default_value_t = 16)]
    cores: usize,
    /// Simulated seconds
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Only so many nodes
    #[arg(long)]
    nodes: Option<usize>,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let mut arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets`: only whether it runs.
        (arguments.seconds, arguments.nodes) = (5.0, Some(10));
    }
    println!("# {arguments}");
    println!(
        "{:>6} {:>9} {:26} {:>8} {:>8} {:>8} {:>9}",
        "nodes", "changes/s", "how", "p50 ms", "p99 ms", "max ms", "database"
    );
    let counts = arguments.nodes.map_or_else(|| vec![20, 100, 1_000, 3_000], |count| vec![count]);
    for count in counts {
        for rate in [0.1, 1.0, 10.0, 50.0] {
            for (name, how) in [
                ("poll", How { told: false, gap_ms: 0.0 }),
                ("NOTIFY", How { told: true, gap_ms: 0.0 }),
                ("NOTIFY, reads 100 ms apart", How { told: true, gap_ms: 100.0 }),
            ] {
                let seen = Simulation::new(arguments, count, rate, how).run();
                println!("{count:6} {rate:9} {name:26} {seen}");
            }
        }
    }
}

impl std::fmt::Display for Arguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { poll_ms, look_ms, read_ms, write_ms, wake_ms, way_ms, node_ms, cores, seconds, .. } = self;
        write!(
            f,
            "poll {poll_ms} ms, look {look_ms}, read {read_ms}, write {write_ms}, wake {wake_ms}, way {way_ms}, "
        )?;
        write!(f, "node {node_ms} ms, {cores} cores, {seconds} s")
    }
}

/// How nodes hear of a change.
#[derive(Clone, Copy)]
struct How {
    /// By NOTIFY, beside the poll.
    told: bool,
    /// A node begins no read sooner than this after its last one, in ms.
    gap_ms: f64,
}

/// Time in ns, so that events have an order.
type Time = u64;

fn ns(ms: f64) -> Time {
    (ms * 1e6) as Time
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Somebody makes a change.
    Change,
    /// A node looks because its time has come, or because it was told.
    Look { node: usize, timed: bool },
    /// Work arrives at the database.
    Asked(Work),
    /// The database has finished a piece of work.
    Done(Work),
    /// A node has read the feed up to here.
    Taken { node: usize, to: usize },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Write,
    Wake { node: usize },
    Look { node: usize },
    Read { node: usize },
}

#[derive(Clone, Default)]
struct Node {
    /// Changes it has taken in.
    has: usize,
    /// A look or read is under way; whether another was asked for meanwhile.
    busy: bool,
    again: bool,
    last_read: Time,
}

struct Simulation {
    of: Arguments,
    rate: f64,
    how: How,
    nodes: Vec<Node>,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    order: u64,
    /// When each change was asked for, and when it was committed.
    asked: VecDeque<Time>,
    committed: Vec<Time>,
    writing: bool,
    free: usize,
    waiting: VecDeque<Work>,
    worked: Time,
    late: Vec<Time>,
    random: u64,
}

struct Seen {
    late: Vec<Time>,
    load: f64,
    missed: usize,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rank = |share: f64| {
            let at = (self.late.len() as f64 * share) as usize;
            self.late.get(at.min(self.late.len().saturating_sub(1))).copied().unwrap_or(0) as f64 / 1e6
        };
        write!(f, "{:8.0} {:8.0} {:8.0} {:7.0} %", rank(0.5), rank(0.99), rank(1.0), self.load * 100.0)?;
        if self.missed > 0 {
            write!(f, "  {} not in at the end", self.missed)?;
        }
        Ok(())
    }
}

impl Simulation {
    fn new(of: Arguments, count: usize, rate: f64, how: How) -> Self {
        let mut new = Self {
            of,
            rate,
            how,
            nodes: vec![Node::default(); count],
            events: BinaryHeap::new(),
            order: 0,
            asked: VecDeque::new(),
            committed: Vec::new(),
            writing: false,
            free: of.cores,
            waiting: VecDeque::new(),
            worked: 0,
            late: Vec::new(),
            random: 0x9e37_79b9_7f4a_7c15,
        };
        for node in 0..count {
            let first = ns(of.poll_ms * new.chance());
            new.at(first, Event::Look { node, timed: true });
        }
        let first = new.next_change();
        new.at(first, Event::Change);
        new
    }

    /// Between 0 and 1; the same series in each run (xorshift64*).
    fn chance(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Changes come by chance, so many a second.
    fn next_change(&mut self) -> Time {
        ns(-(1.0 - self.chance()).ln() / self.rate * 1e3)
    }

    fn at(&mut self, time: Time, event: Event) {
        self.order += 1;
        self.events.push(Reverse((time, self.order, event)));
    }

    fn run(mut self) -> Seen {
        let end = ns(self.of.seconds * 1e3);
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            if now > end {
                break;
            }
            match event {
                Event::Change => {
                    self.asked.push_back(now);
                    self.write(now);
                    let next = now + self.next_change();
                    self.at(next, Event::Change);
                }
                Event::Look { node, timed } => {
                    if timed {
                        self.at(now + ns(self.of.poll_ms), Event::Look { node, timed });
                    }
                    self.look(now, node);
                }
                Event::Asked(work) => self.work(now, work),
                Event::Done(work) => self.done(now, work),
                Event::Taken { node, to } => self.taken(now, node, to),
            }
        }
        self.late.sort_unstable();
        let settled = self.committed.iter().filter(|at| **at + ns(2_000.0) < end).count();
        let missed = self.nodes.iter().map(|node| settled.saturating_sub(node.has)).sum();
        Seen { late: self.late, load: self.worked as f64 / (end as f64 * self.of.cores as f64), missed }
    }

    /// One change is made at a time: the feed's counter is a row that each of them locks.
    fn write(&mut self, now: Time) {
        if !self.writing && !self.asked.is_empty() {
            self.writing = true;
            self.work(now, Work::Write);
        }
    }

    fn look(&mut self, now: Time, node: usize) {
        let Some(state) = self.nodes.get_mut(node) else { return };
        if state.busy {
            state.again = true;
            return;
        }
        let earliest = state.last_read + ns(self.how.gap_ms);
        if state.last_read > 0 && now < earliest {
            state.busy = true;
            state.again = true;
            let to = state.has;
            return self.at(earliest, Event::Taken { node, to });
        }
        state.busy = true;
        self.at(now + ns(self.of.way_ms), Event::Asked(Work::Look { node }));
    }

    fn cost(&self, work: Work) -> Time {
        let of = &self.of;
        ns(match work {
            Work::Write => of.write_ms,
            Work::Wake { .. } => of.wake_ms,
            Work::Look { .. } => of.look_ms,
            Work::Read { .. } => of.read_ms,
        })
    }

    fn work(&mut self, now: Time, work: Work) {
        if self.free == 0 {
            return self.waiting.push_back(work);
        }
        self.free -= 1;
        let cost = self.cost(work);
        self.worked += cost;
        self.at(now + cost, Event::Done(work));
    }

    fn done(&mut self, now: Time, work: Work) {
        self.free += 1;
        if let Some(next) = self.waiting.pop_front() {
            self.work(now, next);
        }
        let way = ns(self.of.way_ms);
        match work {
            Work::Write => {
                self.asked.pop_front();
                self.committed.push(now);
                self.writing = false;
                self.write(now);
                if self.how.told {
                    (0..self.nodes.len()).for_each(|node| self.work(now, Work::Wake { node }));
                }
            }
            Work::Wake { node } => self.at(now + way, Event::Look { node, timed: false }),
            Work::Look { node } => {
                let behind = self.nodes.get(node).is_some_and(|state| state.has < self.committed.len());
                if behind {
                    self.at(now + 2 * way, Event::Asked(Work::Read { node }));
                } else {
                    let to = self.committed.len();
                    self.at(now + way, Event::Taken { node, to });
                }
            }
            Work::Read { node } => {
                let to = self.committed.len();
                self.at(now + way + ns(self.of.node_ms), Event::Taken { node, to });
            }
        }
    }

    fn taken(&mut self, now: Time, node: usize, to: usize) {
        let Some(state) = self.nodes.get_mut(node) else { return };
        if to > state.has {
            state.last_read = now;
        }
        let news = self.committed.get(state.has..to).unwrap_or_default();
        self.late.extend(news.iter().map(|at| now - at));
        state.has = state.has.max(to);
        state.busy = false;
        if std::mem::take(&mut state.again) {
            self.look(now, node);
        }
    }
}
