//! The rows, what was measured of each, and the table of it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::rig::{
    median, rank,
    servers::{Server, Side},
};

/// What one operation of a row is, and so how its cost is told.
#[derive(Clone, Copy, PartialEq)]
pub enum Unit {
    /// A command, or a run of them that a program sends for one purpose: milliseconds.
    Command,
    /// A message: microseconds.
    Message,
    /// A gigabyte (1,000,000,000 octets): seconds of CPU, and megabytes a second.
    Gigabyte,
    /// Latency of NOOP, not cost: milliseconds, the 50th and the 99th of a hundred.
    Latency,
}

/// One row.
pub struct Row {
    /// For `--only`.
    pub name: &'static str,
    /// In the words of the protocol.
    pub what: &'static str,
    /// Of the figures.
    pub unit: Unit,
}

const fn row(name: &'static str, what: &'static str, unit: Unit) -> Row {
    Row { name, what, unit }
}

/// All rows, in the order of the table.
pub const ROWS: [Row; 29] = [
    row("select-first", "SELECT of the large mailbox, no index there, server just started", Unit::Command),
    row("select-warm", "SELECT of it, index there, server just started", Unit::Command),
    row("select-again", "SELECT of it again by the only session that has it open", Unit::Command),
    row("select-other", "SELECT of it while another session has it open", Unit::Command),
    row("fetch-flags", "FETCH 1:* (UID FLAGS)", Unit::Command),
    row("fetch-envelope-first", "FETCH 1:* (ENVELOPE BODYSTRUCTURE), nothing cached", Unit::Command),
    row("fetch-envelope", "FETCH 1:* (ENVELOPE BODYSTRUCTURE) again", Unit::Command),
    row("body-1k", "UID FETCH 1:* BODY.PEEK[], 5,000 messages of 1 KB", Unit::Gigabyte),
    row("body-100k", "UID FETCH 1:* BODY.PEEK[], 500 messages of 100 KB", Unit::Gigabyte),
    row("body-10m", "UID FETCH 1:* BODY.PEEK[], 8 messages of 10 MB", Unit::Gigabyte),
    row("search-flag", "UID SEARCH UNSEEN", Unit::Command),
    row("search-from-first", "UID SEARCH FROM, nothing cached", Unit::Command),
    row("search-from", "UID SEARCH FROM again", Unit::Command),
    row("search-body", "UID SEARCH BODY", Unit::Command),
    row("search-noop-quiet", "NOOP of another user every 5 ms, nothing else going on", Unit::Latency),
    row("search-noop", "NOOP of another user every 5 ms during UID SEARCH BODY", Unit::Latency),
    row("store-flags", "STORE 1:* +FLAGS (\\Answered)", Unit::Command),
    row("append-1", "APPEND of 1 KB, one session", Unit::Message),
    row("append-8", "APPEND of 1 KB, eight sessions at once", Unit::Message),
    row("append-1-always", "the same, one session, Dovecot with mail_fsync=always", Unit::Message),
    row("append-8-always", "the same, eight sessions, Dovecot with mail_fsync=always", Unit::Message),
    row("copy", "COPY of 1,000 messages", Unit::Command),
    row("copy-always", "the same, Dovecot with mail_fsync=always", Unit::Command),
    row("expunge", "EXPUNGE of 1,000 messages", Unit::Command),
    row("expunge-always", "the same, Dovecot with mail_fsync=always", Unit::Command),
    row("status-first", "STATUS of 100 folders of 100 messages, no index there", Unit::Command),
    row("status", "STATUS of 100 folders again", Unit::Command),
    row("pop-first", "POP3 RETR of 1,000 messages, from sign-in to QUIT, no index there", Unit::Command),
    row("pop", "POP3 RETR of 1,000 messages again", Unit::Command),
];

impl Row {
    /// Whether one of these names it, or there are none.
    pub fn is_wanted(&self, only: &[String]) -> bool {
        only.is_empty() || only.iter().any(|name| self.name == name || self.name.starts_with(&format!("{name}-")))
    }
}

/// CPU and wall time of one operation, in seconds; of [`Unit::Latency`] the 50th and the 99th of a hundred.
type Cost = (f64, f64);

/// Everything measured so far.
pub struct Samples {
    wanted: Vec<&'static Row>,
    costs: HashMap<(&'static str, Side), Vec<Cost>>,
}

impl Samples {
    /// None yet.
    pub fn new(wanted: Vec<&'static Row>) -> Self {
        Self { wanted, costs: HashMap::new() }
    }

    /// Whether the row of that name is to be measured.
    pub fn wants(&self, name: &str) -> bool {
        self.wanted.iter().any(|row| row.name == name)
    }

    /// Measures `work` if its row is wanted: again and again for a second at least, but not more often than `most` times.
    /// `work` says how many operations it did. Does nothing otherwise.
    pub fn row(
        &mut self,
        server: &Server,
        name: &'static str,
        most: u32,
        mut work: impl FnMut() -> anyhow::Result<f64>,
    ) -> anyhow::Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let before = server.cpu()?;
        let began = Instant::now();
        let (mut operations, mut times) = (0.0, 0);
        while times == 0 || (times < most && began.elapsed() < Duration::from_secs(1)) {
            operations += work()?;
            times += 1;
        }
        let wall = began.elapsed().as_secs_f64();
        let cpu = server.cpu()?.saturating_sub(before).as_secs_f64();
        self.note(server.side(), name, (cpu / operations, wall / operations));
        Ok(())
    }

    /// The same for work that has to be done once whether its row is wanted or not, because the next row needs it.
    pub fn step(
        &mut self,
        server: &Server,
        name: &'static str,
        mut work: impl FnMut() -> anyhow::Result<f64>,
    ) -> anyhow::Result<()> {
        if self.wants(name) { self.row(server, name, 1, work) } else { work().map(drop) }
    }

    /// Adds what was measured elsewhere.
    pub fn note(&mut self, side: Side, name: &'static str, cost: Cost) {
        eprintln!("{name:22} {side:10?} {:12.6} s {:12.6} s", cost.0, cost.1);
        self.costs.entry((name, side)).or_default().push(cost);
    }

    /// Prints the table: the middle of the rounds of each, and how many times Portcullis fits into Dovecot. Then how far
    /// the rounds lay apart.
    pub fn print(&self) {
        println!(
            "\n| row | what | Portcullis CPU | Dovecot CPU | quotient | Portcullis wall | Dovecot wall | quotient |\n|---|---|--:|--:|--:|--:|--:|--:|"
        );
        for row in &self.wanted {
            let [own, other] = [Side::Portcullis, Side::Dovecot].map(|side| self.middle(row.name, side));
            let quotient = |pick: fn(Cost) -> f64| match (own, other) {
                (Some(own), Some(other)) => format!("{:.2}", pick(other) / pick(own).max(1e-9)),
                _ => String::new(),
            };
            let tell = |cost: Option<Cost>| cost.map(|cost| row.unit.tell(cost)).unwrap_or_default();
            let ((own_cpu, own_wall), (other_cpu, other_wall)) = (tell(own), tell(other));
            println!(
                "| {} | {} | {own_cpu} | {other_cpu} | {} | {own_wall} | {other_wall} | {} |",
                row.name,
                row.what,
                quotient(|cost| cost.0),
                quotient(|cost| cost.1),
            );
        }
        println!("\nLeast and greatest CPU of the rounds:");
        for row in self.wanted.iter().filter(|row| row.unit != Unit::Latency) {
            let spread = |side| {
                let costs = self.costs.get(&(row.name, side))?;
                let cpu: Vec<f64> = costs.iter().map(|cost| cost.0).collect();
                let [least, greatest] = [0.0, 1.0].map(|share| row.unit.tell((rank(&cpu, share), 1.0)).0);
                Some(format!("{side:?} {least} to {greatest}"))
            };
            let sides: Vec<String> = [Side::Portcullis, Side::Dovecot].into_iter().filter_map(spread).collect();
            println!("  {:22} {}", row.name, sides.join(", "));
        }
    }

    fn middle(&self, name: &'static str, side: Side) -> Option<Cost> {
        let costs = self.costs.get(&(name, side))?;
        let of = |pick: fn(&Cost) -> f64| median(&costs.iter().map(pick).collect::<Vec<f64>>());
        Some((of(|cost| cost.0), of(|cost| cost.1)))
    }
}

impl Unit {
    /// CPU and wall time in words.
    fn tell(self, (cpu, wall): Cost) -> (String, String) {
        match self {
            Self::Command => (format!("{:.1} ms", cpu * 1e3), format!("{:.1} ms", wall * 1e3)),
            Self::Message => (format!("{:.0} us", cpu * 1e6), format!("{:.0} us", wall * 1e6)),
            Self::Gigabyte => (format!("{cpu:.2} s/GB"), format!("{:.0} MB/s", 1e3 / wall)),
            Self::Latency => (format!("p50 {:.2} ms", cpu * 1e3), format!("p99 {:.2} ms", wall * 1e3)),
        }
    }
}
