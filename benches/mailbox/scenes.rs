//! What is done to each server, row by row. A scene starts the server; who calls it stops the server.

use std::thread;

use anyhow::ensure;

use super::{
    noop,
    rig::{
        letters::{self, Kind, NAME_AT, RARE_NAME, RARE_WORD, WORD_AT},
        servers::Server,
        wire::Wire,
    },
    table::Samples,
};

/// The large mailbox.
pub const LARGE: &str = "large@example.com";
/// 1 KB messages.
pub const SMALL: &str = "small@example.com";
/// 100 KB messages.
pub const MIDDLE: &str = "middle@example.com";
/// 10 MB messages.
pub const HUGE: &str = "huge@example.com";
/// Begins empty.
pub const APPENDED: &str = "appended@example.com";
/// Has what is copied.
pub const COPIED: &str = "copied@example.com";
/// Has 100 folders.
pub const FOLDERS: &str = "folders@example.com";
/// Is emptied by POP3.
pub const DROP: &str = "drop@example.com";

/// Rows that are measured one after the other on a server that runs all the while.
pub struct Scene {
    /// Their names.
    pub rows: &'static [&'static str],
    /// Server, where the figures go, messages in the large mailbox.
    pub play: fn(&mut Server, &mut Samples, usize) -> anyhow::Result<()>,
}

/// All of them, in order.
pub const SCENES: [Scene; 12] = [
    Scene { rows: &["select-first", "search-from-first", "search-from"], play: first },
    Scene { rows: &["fetch-envelope-first", "fetch-envelope"], play: envelopes },
    Scene {
        rows: &[
            "select-warm",
            "select-again",
            "select-other",
            "fetch-flags",
            "search-flag",
            "search-body",
            "store-flags",
        ],
        play: warm,
    },
    Scene { rows: &["search-noop-quiet", "search-noop"], play: noop::measure },
    Scene { rows: &["body-1k"], play: |server, samples, _| bodies(server, samples, "body-1k", SMALL) },
    Scene { rows: &["body-100k"], play: |server, samples, _| bodies(server, samples, "body-100k", MIDDLE) },
    Scene { rows: &["body-10m"], play: |server, samples, _| bodies(server, samples, "body-10m", HUGE) },
    Scene {
        rows: &["append-1", "append-8"],
        play: |server, samples, _| appends(server, samples, None, ["append-1", "append-8"]),
    },
    Scene {
        rows: &["append-1-always", "append-8-always"],
        play: |server, samples, _| appends(server, samples, Some("always"), ["append-1-always", "append-8-always"]),
    },
    Scene {
        rows: &["copy", "expunge", "copy-always", "expunge-always"],
        play: |server, samples, _| {
            copies(server, samples, None, ["copy", "expunge"])?;
            copies(server, samples, Some("always"), ["copy-always", "expunge-always"])
        },
    },
    Scene { rows: &["status-first", "status"], play: status },
    Scene { rows: &["pop-first", "pop"], play: maildrop },
];

/// Name of a folder of the mailbox with many.
pub fn folder(number: usize) -> String {
    format!("Folder{number:03}")
}

/// SELECT where the server has nothing yet but the mail, and FROM before anything is cached.
fn first(server: &mut Server, samples: &mut Samples, messages: usize) -> anyhow::Result<()> {
    server.stop();
    server.forget(LARGE)?;
    server.start(None)?;
    let mut wire = server.imap(LARGE)?;
    samples.step(server, "select-first", || select(&mut wire, messages))?;
    if !["search-from-first", "search-from"].iter().any(|row| samples.wants(row)) {
        return Ok(());
    }
    let found = letters::rare(messages, NAME_AT);
    samples.step(server, "search-from-first", || search(&mut wire, &format!("FROM {RARE_NAME}"), found))?;
    samples.row(server, "search-from", 20, || search(&mut wire, &format!("FROM {RARE_NAME}"), found))
}

fn envelopes(server: &mut Server, samples: &mut Samples, messages: usize) -> anyhow::Result<()> {
    server.stop();
    server.forget(LARGE)?;
    server.start(None)?;
    let mut wire = server.imap(LARGE)?;
    select(&mut wire, messages)?;
    let mut fetch = || fetch(&mut wire, "FETCH 1:* (ENVELOPE BODYSTRUCTURE)", messages);
    samples.step(server, "fetch-envelope-first", &mut fetch)?;
    samples.row(server, "fetch-envelope", 5, fetch)
}

/// With the index there.
fn warm(server: &mut Server, samples: &mut Samples, messages: usize) -> anyhow::Result<()> {
    server.start(None)?;
    let mut wire = server.imap(LARGE)?;
    select(&mut wire, messages)?;
    wire.imap("LOGOUT")?;
    server.start(None)?;
    let mut wire = server.imap(LARGE)?;
    samples.step(server, "select-warm", || select(&mut wire, messages))?;
    samples.row(server, "select-again", 50, || select(&mut wire, messages))?;
    if samples.wants("select-other") {
        let mut others: Vec<Wire> = (0..8).map(|_| server.imap(LARGE)).collect::<anyhow::Result<_>>()?;
        samples.row(server, "select-other", 1, || others.iter_mut().map(|wire| select(wire, messages)).sum())?;
        // They are told of no change below.
        for wire in &mut others {
            wire.imap("LOGOUT")?;
        }
    }
    samples.row(server, "fetch-flags", 20, || fetch(&mut wire, "FETCH 1:* (UID FLAGS)", messages))?;
    let unseen = letters::unseen(messages);
    samples.row(server, "search-flag", 50, || search(&mut wire, "UNSEEN", unseen))?;
    let found = letters::rare(messages, WORD_AT);
    samples.row(server, "search-body", 1, || search(&mut wire, &format!("BODY {RARE_WORD}"), found))?;
    if samples.wants("store-flags") {
        samples.row(server, "store-flags", 1, || fetch(&mut wire, "STORE 1:* +FLAGS (\\Answered)", messages))?;
        wire.imap("STORE 1:* -FLAGS.SILENT (\\Answered)")?;
    }
    Ok(())
}

fn bodies(server: &mut Server, samples: &mut Samples, name: &'static str, user: &str) -> anyhow::Result<()> {
    server.start(None)?;
    let mut wire = server.imap(user)?;
    wire.imap("SELECT INBOX")?;
    let mut fetch = || anyhow::Ok(wire.imap("UID FETCH 1:* (BODY.PEEK[])")?.octets as f64 / 1e9);
    // The first time is another thing: sizes are counted, caches filled.
    fetch()?;
    samples.row(server, name, 10, fetch)
}

fn appends(
    server: &mut Server,
    samples: &mut Samples,
    fsync: Option<&str>,
    names: [&'static str; 2],
) -> anyhow::Result<()> {
    const ALONE: usize = 300;
    const EACH: usize = 100;
    const TOGETHER: usize = 8;
    server.start(fsync)?;
    let text = letters::letter(1, Kind::Text(1024)).replace('\n', "\r\n");
    let some = |wire: &mut Wire, count: usize| -> anyhow::Result<()> {
        (0..count).try_for_each(|_| wire.imap_with("APPEND INBOX (\\Seen)", Some(text.as_bytes())).map(drop))
    };
    let mut wires: Vec<Wire> = (0..TOGETHER).map(|_| server.imap(APPENDED)).collect::<anyhow::Result<_>>()?;
    for wire in &mut wires {
        some(wire, 1)?;
    }
    let [alone, together] = names;
    if let Some(wire) = wires.first_mut() {
        samples.row(server, alone, 1, || some(wire, ALONE).map(|()| ALONE as f64))?;
    }
    samples.row(server, together, 1, || {
        thread::scope(|scope| {
            let at_work: Vec<_> = wires.iter_mut().map(|wire| scope.spawn(|| some(wire, EACH))).collect();
            at_work
                .into_iter()
                .try_for_each(|one| one.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
        })?;
        Ok((TOGETHER * EACH) as f64)
    })?;
    server.stop();
    server.wipe(APPENDED)
}

/// Copies everything to another folder and expunges it there.
fn copies(
    server: &mut Server,
    samples: &mut Samples,
    fsync: Option<&str>,
    names: [&'static str; 2],
) -> anyhow::Result<()> {
    const TIMES: usize = 5;
    if !names.iter().any(|name| samples.wants(name)) {
        return Ok(());
    }
    server.start(fsync)?;
    let mut wire = server.imap(COPIED)?;
    // It is there from the second round on.
    let _ = wire.imap("CREATE Target");
    let mut other = server.imap(COPIED)?;
    wire.imap("SELECT INBOX")?;
    let [copy, expunge] = names;
    for _ in 0..TIMES {
        samples.step(server, copy, || wire.imap("COPY 1:* Target").map(|_| 1.0))?;
        let there = other.imap("SELECT Target")?.exists;
        ensure!(there == 1000, "{there} messages after COPY");
        other.imap("STORE 1:* +FLAGS.SILENT (\\Deleted)")?;
        samples.step(server, expunge, || fetch(&mut other, "EXPUNGE", 1000))?;
    }
    Ok(())
}

fn status(server: &mut Server, samples: &mut Samples, _: usize) -> anyhow::Result<()> {
    server.stop();
    server.forget(FOLDERS)?;
    server.start(None)?;
    let mut wire = server.imap(FOLDERS)?;
    let mut ask = || {
        for number in 0..100 {
            let answer = wire.imap(&format!("STATUS {} (MESSAGES UIDNEXT UNSEEN)", folder(number)))?;
            ensure!(answer.untagged == 1, "{} responses to STATUS", answer.untagged);
        }
        Ok(1.0)
    };
    samples.step(server, "status-first", &mut ask)?;
    samples.row(server, "status", 50, ask)
}

fn maildrop(server: &mut Server, samples: &mut Samples, _: usize) -> anyhow::Result<()> {
    server.stop();
    server.forget(DROP)?;
    server.start(None)?;
    // A session of another user: what only the first session of a server costs is not counted.
    server.pop(COPIED)?.pop("QUIT")?;
    let read = || {
        let mut wire = server.pop(DROP)?;
        let there = wire.pop("STAT")?;
        ensure!(there.starts_with("+OK 1000 "), "STAT answered {there}");
        for number in 1..=1000 {
            wire.pop_lines(&format!("RETR {number}"))?;
        }
        wire.pop("QUIT")?;
        Ok(1.0)
    };
    samples.step(server, "pop-first", read)?;
    samples.row(server, "pop", 10, read)
}

fn select(wire: &mut Wire, messages: usize) -> anyhow::Result<f64> {
    let there = wire.imap("SELECT INBOX")?.exists;
    ensure!(there == messages as u64, "{there} messages");
    Ok(1.0)
}

/// A command that brings one response for each message.
fn fetch(wire: &mut Wire, words: &str, messages: usize) -> anyhow::Result<f64> {
    let responses = wire.imap(words)?.untagged;
    ensure!(responses >= messages as u64, "{responses} responses to {words}");
    Ok(1.0)
}

/// A search that finds so many.
pub fn search(wire: &mut Wire, key: &str, expected: u64) -> anyhow::Result<f64> {
    let found = wire.imap(&format!("UID SEARCH {key}"))?.found;
    ensure!(found == expected, "UID SEARCH {key} found {found}, not {expected}");
    Ok(1.0)
}
