//! `portcullis mailbox check`, `repair`, `rebuild` and `reindex` beside a running gateway, with sessions that have the
//! folders open.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{fs, path::PathBuf};

use serde_json::Value;
use support::{ANN, APP, Gate};

/// Exit code, and what was printed for programs.
fn run(gate: &Gate, arguments: &[&str]) -> (i32, Value) {
    let output = gate.portcullis(&[&["mailbox"], arguments, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let value = serde_json::from_str(text.trim()).unwrap_or(Value::Null);
    (output.status.code().unwrap(), value)
}

fn plain(gate: &Gate, arguments: &[&str]) -> (i32, String) {
    let output = gate.portcullis(&[&["mailbox"], arguments].concat());
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn kinds(found: &Value) -> Vec<&str> {
    found["items"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect()
}

/// The files of INBOX.
fn files(gate: &Gate) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(gate.maildir(ANN).join("cur")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_mailbox_is_checked_and_mended_while_somebody_reads_it() {
    let gate = Gate::start();
    let mut imap = gate.imap(ANN, APP);
    for subject in ["one", "two", "three"] {
        imap.append("INBOX", "\\Seen", format!("Subject: {subject}\r\n\r\n").as_bytes());
    }
    imap.ok("SELECT INBOX");
    assert_eq!(run(&gate, &["check", ANN]).0, 0);
    let (code, text) = plain(&gate, &["check", ANN]);
    assert_eq!((code, text.trim()), (0, "6 folders, 3 messages: in order, 5 notes"), "{text}");

    let files = files(&gate);
    let double = format!("{}F", files[0].display());
    fs::write(&double, "Subject: other\n\ntext\n").unwrap();
    let (code, found) = run(&gate, &["check", ANN, "INBOX"]);
    assert_eq!((code, kinds(&found)), (1, vec!["two_files", "size"]), "{found}");
    let (code, text) = plain(&gate, &["check", ANN]);
    assert!(code == 1 && text.contains("two_files") && text.contains("repair"), "{text}");
    assert!(fs::exists(&double).unwrap(), "a check changes nothing");
    let (code, done) = run(&gate, &["repair", ANN]);
    assert_eq!(code, 0, "{done}");
    assert_eq!(run(&gate, &["check", ANN]).0, 0);
    assert_eq!(plain(&gate, &["repair", ANN]), (0, "nothing to mend\n".to_owned()));
    // The session that has INBOX open sees what became of it, and its own numbers stay.
    let news = imap.ok("NOOP").lines().join("\n");
    assert!(news.contains("* 4 EXISTS") && !news.contains("EXPUNGE"), "{news}");
    let seen = imap.ok("UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])").lines().join("\n");
    for subject in ["one", "two", "three", "other"] {
        assert!(seen.contains(&format!("Subject: {subject}\r\n")), "{subject} in {seen}");
    }
}

#[test]
fn a_rebuild_asks_first_and_then_says_what_it_did() {
    let gate = Gate::start();
    let mut imap = gate.imap(ANN, APP);
    imap.append("INBOX", "\\Flagged", b"Subject: one\r\n\r\n");
    let ids = gate.pop(ANN, APP).long("UIDL");
    let mut validity = || {
        let lines = imap.ok("SELECT INBOX").lines();
        lines.into_iter().find(|line| line.contains("[UIDVALIDITY ")).unwrap()
    };
    let selected = validity();
    let (code, text) = plain(&gate, &["rebuild", ANN, "INBOX"]);
    assert!(code == 1 && text.contains("new UIDVALIDITY") && text.contains("--yes"), "{text}");
    assert_eq!(validity(), selected, "nothing is done without --yes");
    let (code, done) = run(&gate, &["rebuild", ANN, "INBOX", "--yes"]);
    assert_eq!((code, done["items"][0]["messages"].as_u64()), (0, Some(1)), "{done}");
    // Whoever had it open may be sent away; whoever comes finds the new one.
    let mut imap = gate.imap(ANN, APP);
    let again = imap.ok("SELECT INBOX").lines().join("\n");
    let validity = done["items"][0]["after"].as_u64().unwrap();
    assert!(again.contains(&format!("[UIDVALIDITY {validity}]")) && !again.contains(&selected), "{again}");
    assert!(imap.ok("FETCH 1 FLAGS").lines()[0].contains("\\Flagged"));
    assert_eq!(gate.pop(ANN, APP).long("UIDL"), ids, "POP3 calls the messages as before");
    assert_eq!(run(&gate, &["reindex", ANN]).0, 0);
    assert_eq!(run(&gate, &["check", ANN]).0, 0);
}

#[test]
fn what_is_not_there_is_named() {
    let gate = Gate::start();
    drop(gate.imap(ANN, APP));
    for (arguments, said) in [
        (&["check", "nobody@example.com"][..], "nobody@example.com has no mailbox in this store"),
        (&["check", ANN, "Nowhere"], "ann@example.com has no folder \"Nowhere\""),
        (&["repair", ANN, "a//b"], "has an empty level"),
        (&["rebuild", "no-address", "--yes"], "is not an address"),
        (&["import", "maildir", ANN, "/nowhere/at/all"], "/nowhere/at/all: cannot be read"),
        (&["import", "mbox", ANN, "/nowhere/at/all"], "/nowhere/at/all: cannot be read"),
        (&["import", "maildir", ANN, "/"], "is no Maildir"),
        (&["import", "imap", ANN, "imaps://x", "--user", "ann"], "write HOST or HOST:PORT"),
        (&["import", "imap", ANN, "localhost:1", "--user", "ann"], "there is no password"),
    ] {
        let (code, text) = plain(&gate, arguments);
        assert!(code == 2 && text.contains(said), "{arguments:?}: {text}");
    }
}
