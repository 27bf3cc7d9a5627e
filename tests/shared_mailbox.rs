//! Shared mailboxes on the wire: members who may change them, members who may only read them, and a right that is lowered
//! while a session is open.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use support::{
    ANN, APP, Gate, POLICY, Setup,
    wire::{Imap, Pop, xoauth2},
};

const TEAM: &str = "team@example.com";
const RAE: &str = "rae@example.com";

fn policy(members: &str, readers: &str) -> String {
    format!(
        "{POLICY}\n[user.\"{RAE}\"]\nunit = \"/\"\n[mailbox.\"{TEAM}\"]\nname = \"Team\"\nmembers = [{members}]\n\
         readers = [{readers}]\n"
    )
}

fn gate() -> Gate {
    let gate =
        Gate::with(Setup { policy: policy("\"ann@example.com\"", "\"rae@example.com\""), ..Setup::default() });
    for subject in ["one", "two"] {
        gate.deliver(TEAM, format!("Subject: {subject}\r\n\r\n{subject}\r\n").as_bytes());
    }
    gate
}

/// `user` in the team's mailbox.
fn imap(gate: &Gate, user: &str) -> Imap {
    let mut imap = Imap::connect(gate);
    imap.xoauth2(TEAM, &gate.token(user, APP));
    imap
}

fn pop(gate: &Gate, user: &str) -> Pop {
    let mut pop = Pop::connect(gate);
    pop.xoauth2(TEAM, &gate.token(user, APP));
    pop
}

#[test]
fn a_reader_reads_and_changes_nothing_by_imap() {
    let gate = gate();
    let mut reader = imap(&gate, RAE);
    // Without a mailbox open.
    for command in ["CREATE Mine", "DELETE Sent", "RENAME Sent Gone", "SUBSCRIBE Sent", "UNSUBSCRIBE INBOX"] {
        let reply = reader.command(command);
        assert_eq!(reply.status, "NO [NOPERM] You may only read this mailbox", "{command}");
    }
    let selected = reader.ok("SELECT INBOX");
    assert!(selected.status.starts_with("OK [READ-ONLY]"), "{}", selected.status);
    let kept = selected.lines().into_iter().find(|line| line.contains("PERMANENTFLAGS")).unwrap();
    assert!(kept.starts_with("* OK [PERMANENTFLAGS ()]"), "{kept}");
    assert!(selected.lines().contains(&"* 2 EXISTS".to_owned()), "{:?}", selected.lines());
    for command in [
        "STORE 1 +FLAGS (\\Seen)",
        "UID STORE 1 -FLAGS (\\Seen)",
        "COPY 1 Sent",
        "UID COPY 1 Sent",
        "MOVE 1 Sent",
        "UID MOVE 1:2 Sent",
        "EXPUNGE",
        "UID EXPUNGE 1:*",
        "CREATE Mine",
    ] {
        let reply = reader.command(command);
        assert_eq!(reply.status, "NO [NOPERM] You may only read this mailbox", "{command}");
    }
    // The announced message is never asked for, so it is never sent; one sent unasked is no command.
    let refused = reader.command("APPEND INBOX {20}");
    assert_eq!(refused.status, "NO [NOPERM] You may only read this mailbox");
    let tag = reader.send("APPEND INBOX {12+}");
    reader.wire.send("a9 LOGOUT\r\n ");
    let refused = reader.finish(&tag);
    assert!(refused.status.starts_with("NO [NOPERM]"), "{}", refused.status);

    let fetched = reader.ok("FETCH 1:2 (FLAGS BODY[TEXT])");
    assert!(fetched.lines()[0].contains("one") || fetched.lines()[0].contains("two"), "{:?}", fetched.lines());
    assert_eq!(reader.ok("SEARCH UNSEEN").lines(), ["* SEARCH 1 2"], "reading a message does not mark it");
    for command in [
        "LIST \"\" *",
        "LSUB \"\" *",
        "STATUS INBOX (MESSAGES)",
        "NOOP",
        "CHECK",
        "CLOSE",
        "EXAMINE INBOX",
        "UNSELECT",
    ] {
        reader.ok(command);
    }
    // Nothing of it is there, and who may write can.
    let mut writer = imap(&gate, ANN);
    assert_eq!(writer.read_all("INBOX").len(), 2);
    assert!(writer.ok("SELECT INBOX").status.starts_with("OK [READ-WRITE]"));
    writer.ok("STORE 1 +FLAGS (\\Deleted)");
    writer.ok("EXPUNGE");
    assert_eq!(writer.read_all("INBOX").len(), 1);
}

#[test]
fn a_reader_deletes_nothing_by_pop() {
    let gate = gate();
    let mut reader = pop(&gate, RAE);
    assert!(String::from_utf8(reader.long("RETR 1")).unwrap().contains("Subject: "));
    assert_eq!(reader.command("DELE 1"), "-ERR [SYS/PERM] you may only read this mailbox");
    assert!(reader.command("STAT").starts_with("+OK 2 "));
    assert!(reader.command("QUIT").starts_with("+OK"));
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut writer = loop {
        let mut pop = Pop::connect(&gate);
        if pop.authenticate("XOAUTH2", &xoauth2(TEAM, &gate.token(ANN, APP))).starts_with("+OK") {
            break pop;
        }
        assert!(Instant::now() < deadline, "the mailbox stays locked");
    };
    assert!(writer.command("STAT").starts_with("+OK 2 "), "nothing was removed");
    assert!(writer.command("DELE 1").starts_with("+OK"));
}

#[test]
fn a_right_that_is_lowered_ends_the_session_within_a_second_and_one_that_is_raised_does_not() {
    let gate = gate();
    let (mut writer, mut reader) = (imap(&gate, ANN), imap(&gate, RAE));
    for session in [&mut writer, &mut reader] {
        session.ok("SELECT INBOX");
        session.idle();
    }
    let since = Instant::now();
    gate.set_policy(&policy("\"rae@example.com\"", "\"ann@example.com\""));
    let (text, at) = writer.bye();
    assert!(text.starts_with("[NOPERM] You may only read this mailbox from now on."), "{text}");
    assert!(at - since < Duration::from_secs(1), "{:?}", at - since);
    assert!(reader.wire.is_silent_for(Duration::from_millis(50)));
    assert!(imap(&gate, ANN).ok("SELECT INBOX").status.starts_with("OK [READ-ONLY]"));
    assert!(imap(&gate, RAE).ok("SELECT INBOX").status.starts_with("OK [READ-WRITE]"));
    let ended = gate.audit_with(&["--cause", "rights_lowered"], 1, |row| row["event"] == "session.ended");
    let row = ended.iter().find(|row| row["event"] == "session.ended").unwrap();
    assert_eq!((row["user"].as_str(), row["owner"].as_str()), (Some(ANN), Some(TEAM)));
    assert_eq!(row["place"], format!("mailbox \"{TEAM}\""));
}
