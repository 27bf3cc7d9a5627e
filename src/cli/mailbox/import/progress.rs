//! How far an import has come, on a terminal: one line that is painted over, ten times a second at most.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(100);
const WIDTH: usize = 30;

/// A bar for one folder.
pub(super) struct Progress {
    shown: bool,
    name: String,
    done: usize,
    all: usize,
    start: Instant,
    painted: Option<Instant>,
}

impl Progress {
    /// For so many messages of the folder; silent where standard error is no terminal.
    pub(super) fn new(name: &str, all: usize) -> Self {
        let name = name.chars().map(|c| if c.is_control() { '?' } else { c }).take(30).collect();
        let shown = all > 0 && std::io::stderr().is_terminal();
        Self { shown, name, done: 0, all, start: Instant::now(), painted: None }
    }

    /// One more is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if self.shown && self.painted.is_none_or(|at| at.elapsed() >= PAUSE) {
            self.painted = Some(Instant::now());
            self.paint();
        }
    }

    fn paint(&self) {
        let line = bar(&self.name, self.done, self.all, self.start.elapsed());
        let mut out = std::io::stderr().lock();
        // A terminal that is gone is no reason to stop.
        drop(write!(out, "\r\x1b[K{line}").and_then(|()| out.flush()));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.painted.is_some() {
            self.paint();
            eprintln!();
        }
    }
}

fn bar(name: &str, done: usize, all: usize, spent: Duration) -> String {
    let full = (done * WIDTH).checked_div(all).unwrap_or(WIDTH).min(WIDTH);
    let left = if done > 0 && done < all {
        let seconds = spent.as_secs_f64() / done as f64 * (all - done) as f64;
        format!(", {} left", humantime::format_duration(Duration::from_secs(seconds as u64)))
    } else {
        String::new()
    };
    format!("{name:<30} [{}{}] {done}/{all}{left}", "#".repeat(full), "-".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_grows_and_tells_how_long_it_will_take() {
        let half = bar("INBOX", 50, 100, Duration::from_secs(10));
        assert!(half.contains(&format!("[{}{}] 50/100, 10s left", "#".repeat(15), "-".repeat(15))), "{half}");
        assert!(bar("x", 100, 100, Duration::from_secs(1)).ends_with("] 100/100"));
        assert!(bar("x", 7, 0, Duration::from_secs(1)).contains("] 7/0"));
        assert!(bar("x", 9, 3, Duration::from_secs(1)).ends_with("9/3"));
    }
}
