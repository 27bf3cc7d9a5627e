//! How long one user waits for NOOP while another searches 100,000 messages.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    rig::{
        letters::{self, RARE_WORD, WORD_AT},
        rank,
        servers::Server,
        wire::Wire,
    },
    scenes::{self, LARGE},
    table::Samples,
};

/// Who waits.
pub const OTHER: &str = "other@example.com";

/// Between one answer and the next question.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the NOOPs of a server with nothing else to do are timed.
const QUIET: Duration = Duration::from_secs(3);

/// Both rows.
pub fn measure(server: &mut Server, samples: &mut Samples, messages: usize) -> anyhow::Result<()> {
    server.start(None)?;
    let mut searching = server.imap(LARGE)?;
    searching.imap("SELECT INBOX")?;
    let mut waiting = server.imap(OTHER)?;
    waiting.imap("SELECT INBOX")?;
    let began = Instant::now();
    note(server, samples, "search-noop-quiet", &noops(&mut waiting, || began.elapsed() > QUIET)?);
    let done = AtomicBool::new(false);
    let waits = thread::scope(|scope| {
        let search = scope.spawn(|| {
            let found = letters::rare(messages, WORD_AT);
            let searched = scenes::search(&mut searching, &format!("BODY {RARE_WORD}"), found);
            done.store(true, Ordering::Release);
            searched
        });
        let waits = noops(&mut waiting, || done.load(Ordering::Acquire));
        search.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked"))?;
        waits
    })?;
    note(server, samples, "search-noop", &waits);
    Ok(())
}

fn note(server: &Server, samples: &mut Samples, name: &'static str, waits: &[f64]) {
    if samples.wants(name) {
        samples.note(server.side(), name, (rank(waits, 0.5), rank(waits, 0.99)));
    }
}

/// Seconds that each NOOP took, until it is time to end.
fn noops(wire: &mut Wire, ended: impl Fn() -> bool) -> anyhow::Result<Vec<f64>> {
    let mut waits = Vec::new();
    while waits.is_empty() || !ended() {
        let asked = Instant::now();
        wire.imap("NOOP")?;
        waits.push(asked.elapsed().as_secs_f64());
        thread::sleep(PAUSE);
    }
    Ok(waits)
}
