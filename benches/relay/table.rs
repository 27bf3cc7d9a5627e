//! The rows, what was measured of each, and the table of it.

use std::collections::HashMap;

use super::{
    rig::{median, rank},
    servers::Side,
};

/// One row.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Row {
    /// CPU of a session from its connection to its LOGOUT.
    Login,
    /// CPU of a gigabyte of messages of 100 KB.
    Fetch100k,
    /// CPU of a gigabyte of messages of 10 MB.
    Fetch10m,
    /// Memory of so many sessions in IDLE.
    Idle(usize),
    /// Added latency of NOOP.
    Noop,
}

/// What was measured of a row once: what is compared, and a second figure.
pub type Cost = (f64, f64);

impl Row {
    /// For `--only`.
    pub fn name(self) -> String {
        match self {
            Self::Login => "login".to_owned(),
            Self::Fetch100k => "fetch-100k".to_owned(),
            Self::Fetch10m => "fetch-10m".to_owned(),
            Self::Idle(sessions) => format!("idle-{sessions}"),
            Self::Noop => "noop".to_owned(),
        }
    }

    /// Whether one of these names it, or there are none.
    pub fn is_wanted(self, only: &[String]) -> bool {
        let own = self.name();
        only.is_empty() || only.iter().any(|name| own == *name || own.starts_with(&format!("{name}-")))
    }

    /// Whether this server is measured: Dovecot with a process for each connection is here for what a login costs there.
    pub fn suits(self, side: Side) -> bool {
        side != Side::DovecotEach || self == Self::Login
    }

    fn what(self) -> &'static str {
        match self {
            Self::Login => "server CPU of a login: TLS handshake, sign-in, LOGOUT",
            Self::Fetch100k => "server CPU of mail fetched, messages of 100 KB",
            Self::Fetch10m => "server CPU of mail fetched, messages of 10 MB",
            Self::Idle(_) => "memory of a session in IDLE",
            Self::Noop => "latency that is added to NOOP",
        }
    }

    /// In words.
    fn tell(self, (first, second): Cost) -> String {
        match self {
            Self::Login => format!("{:.0} us, {:.0}/s", first * 1e6, 1.0 / second),
            Self::Fetch100k | Self::Fetch10m => format!("{first:.2} s/GB, {:.0} MB/s", 1e3 / second),
            Self::Idle(_) => format!("{:.1} KB, {:.0} MB in all", first / 1e3, second / 1e6),
            Self::Noop => format!("p50 {:.0} us, p99 {:.0} us", first * 1e6, second * 1e6),
        }
    }

    /// What is aimed at, and whether it is reached. None where nothing is, or not all who are needed were measured.
    fn goal(self, first: impl Fn(Side) -> Option<f64>) -> Option<String> {
        let own = first(Side::Portcullis)?;
        let (aim, reached) = match self {
            Self::Login => (
                "below nginx, and a third of Dovecot at most",
                own < first(Side::Nginx)? && own * 3.0 <= first(Side::Dovecot)?,
            ),
            Self::Fetch100k | Self::Fetch10m => ("1.2 times haproxy at most", own <= first(Side::Haproxy)? * 1.2),
            Self::Idle(_) => ("under 20 KB", own < 20_000.0),
            Self::Noop => return None,
        };
        Some(format!("{aim}: {}", if reached { "reached" } else { "missed" }))
    }
}

/// Everything measured so far.
pub struct Samples {
    rows: Vec<Row>,
    sides: Vec<Side>,
    costs: HashMap<(Row, Side), Vec<Cost>>,
}

impl Samples {
    /// None yet.
    pub fn new(rows: Vec<Row>, sides: Vec<Side>) -> Self {
        Self { rows, sides, costs: HashMap::new() }
    }

    /// Adds one.
    pub fn note(&mut self, row: Row, side: Side, cost: Cost) {
        eprintln!("{:12} {:24} {}", row.name(), side.name(), row.tell(cost));
        self.costs.entry((row, side)).or_default().push(cost);
    }

    /// Prints the table: the middle of the rounds of each, and how many times Portcullis each of the others is. Then how
    /// far the rounds lay apart.
    pub fn print(&self) {
        let others: Vec<Side> = self.sides.iter().copied().filter(|side| *side != Side::Portcullis).collect();
        let names = |sides: &[Side]| sides.iter().map(|side| format!(" {} |", side.name())).collect::<String>();
        let quotients: String = others.iter().map(|side| format!(" {} / Portcullis |", side.name())).collect();
        println!("\n| row | what |{}{quotients} goal |", names(&self.sides));
        println!("|---|---|{}---|", "--:|".repeat(self.sides.len() + others.len()));
        for row in &self.rows {
            let middle = |side| self.middle(*row, side);
            let first = |side| middle(side).map(|cost| cost.0);
            let figures = self.sides.iter().map(|side| middle(*side).map(|cost| row.tell(cost)));
            let quotients = others.iter().map(|side| {
                let (own, other) = (first(Side::Portcullis)?, first(*side)?);
                Some(format!("{:.2}", other / own))
            });
            let cells = figures.chain(quotients).chain([row.goal(first)]);
            let cells: String = cells.map(|cell| format!(" {} |", cell.unwrap_or_default())).collect();
            println!("| {} | {} |{cells}", row.name(), row.what());
        }
        println!("\nLeast and greatest of the rounds:");
        for row in &self.rows {
            let spread = |side: &Side| {
                let costs = self.costs.get(&(*row, *side))?;
                let [least, greatest] = [0.0, 1.0].map(|share| {
                    let of = |pick: fn(&Cost) -> f64| rank(&costs.iter().map(pick).collect::<Vec<f64>>(), share);
                    // Of the second figure the middle: it is not what is compared.
                    row.tell((of(|cost| cost.0), median(&costs.iter().map(|cost| cost.1).collect::<Vec<f64>>())))
                });
                let short = |text: String| text.split(',').next().unwrap_or_default().to_owned();
                Some(format!("{} {} to {}", side.name(), short(least), short(greatest)))
            };
            let sides: Vec<String> = self.sides.iter().filter_map(spread).collect();
            println!("  {:12} {}", row.name(), sides.join("; "));
        }
    }

    fn middle(&self, row: Row, side: Side) -> Option<Cost> {
        let costs = self.costs.get(&(row, side))?;
        let of = |pick: fn(&Cost) -> f64| median(&costs.iter().map(pick).collect::<Vec<f64>>());
        Some((of(|cost| cost.0), of(|cost| cost.1)))
    }
}
