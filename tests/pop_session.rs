//! POP3 sessions over TLS against the real binary: what QUIT does and nothing else does, the lock, pipelining, sizes.
//! Dialogs of single commands stand in `tests/transcripts/pop3`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{fs, time::Duration};

use support::{ANN, APP, Gate, mail, wire::Pop};

fn three(gate: &Gate) {
    for subject in ["one", "two", "three"] {
        gate.deliver(ANN, format!("Subject: {subject}\r\n\r\n{subject}\r\n").as_bytes());
    }
}

fn uidl(pop: &mut Pop) -> String {
    String::from_utf8(pop.long("UIDL")).unwrap()
}

/// The lock goes with the session, which notices a broken connection when it reads.
fn pop_when_free(gate: &Gate) -> Pop {
    for _ in 0..100 {
        let mut pop = Pop::connect(gate);
        let token = gate.token(ANN, APP);
        if pop.authenticate("XOAUTH2", &support::wire::xoauth2(ANN, &token)).starts_with("+OK") {
            return pop;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the mailbox stays locked");
}

#[test]
fn nothing_is_deleted_without_a_quit_and_ids_outlive_crashes() {
    let mut gate = Gate::start();
    three(&gate);
    let mut pop = gate.pop(ANN, APP);
    let ids = uidl(&mut pop);
    assert_eq!(ids.lines().count(), 3);
    assert!(pop.command("DELE 1").starts_with("+OK"));
    drop(pop);
    let mut pop = pop_when_free(&gate);
    assert_eq!(uidl(&mut pop), ids, "a broken connection deletes nothing");
    assert!(pop.command("DELE 1").starts_with("+OK"));
    assert!(pop.command("DELE 2").starts_with("+OK"));
    assert!(pop.command("RSET").starts_with("+OK"));
    assert!(pop.command("QUIT").starts_with("+OK"));
    let mut pop = pop_when_free(&gate);
    assert_eq!(uidl(&mut pop), ids, "RSET takes the marks away");
    assert!(pop.command("DELE 3").starts_with("+OK"));
    gate.crash_and_restart();
    let mut pop = pop_when_free(&gate);
    assert_eq!(uidl(&mut pop), ids, "a crash deletes nothing");
    assert!(pop.command("DELE 2").starts_with("+OK"));
    assert!(pop.command("QUIT").starts_with("+OK"));
    let mut pop = pop_when_free(&gate);
    let left: Vec<&str> = ids.lines().collect();
    let expected = format!("{}\r\n{}\r\n", left[0], left[2].replacen('3', "2", 1));
    assert_eq!(uidl(&mut pop), expected, "QUIT deletes what was marked, and the other ids stay");
    assert_eq!(mail::from_maildirs(&gate.maildir(ANN)).len(), 2);
}

#[test]
fn one_session_at_a_time_has_the_mailbox_and_imap_is_not_in_its_way() {
    let gate = Gate::start();
    three(&gate);
    let mut first = gate.pop(ANN, APP);
    let mut second = Pop::connect(&gate);
    let token = gate.token(ANN, APP);
    let refused = second.authenticate("XOAUTH2", &support::wire::xoauth2(ANN, &token));
    assert!(refused.starts_with("-ERR [IN-USE]"), "{refused}");
    let mut imap = gate.imap(ANN, APP);
    imap.ok("SELECT INBOX");
    imap.ok("STORE 2 +FLAGS.SILENT (\\Deleted)");
    imap.ok("EXPUNGE");
    assert_eq!(first.command("STAT").split(' ').nth(1), Some("3"), "numbers do not move within a session");
    let gone = first.command("RETR 2");
    assert!(gone.starts_with("-ERR"), "{gone}");
    assert_eq!(first.long("RETR 3"), b"Subject: three\r\n\r\nthree\r\n");
    assert!(first.command("DELE 1").starts_with("+OK"));
    assert!(first.command("QUIT").starts_with("+OK"));
    let allowed = second.authenticate("XOAUTH2", &support::wire::xoauth2(ANN, &token));
    assert!(allowed.starts_with("+OK"), "free as soon as QUIT is answered: {allowed}");
    assert_eq!(imap.ok("NOOP").lines(), ["* 1 EXPUNGE"]);
}

#[test]
fn sizes_are_those_of_what_retr_sends_and_every_message_comes_unharmed() {
    let gate = Gate::start();
    let cases = mail::hard_cases();
    for case in &cases {
        gate.deliver(ANN, &case.wire);
    }
    let mut pop = gate.pop(ANN, APP);
    let sizes = String::from_utf8(pop.long("LIST")).unwrap();
    let mut got = Vec::new();
    let mut sum = 0;
    for line in sizes.lines() {
        let (number, size) = line.split_once(' ').unwrap();
        let message = pop.long(&format!("RETR {number}"));
        // A message without a last line end gets one: the final dot needs a line of its own.
        let ends = message.len() - usize::from(!cases.iter().any(|case| case.wire == message)) * 2;
        assert_eq!(ends, size.parse::<usize>().unwrap(), "message {number}");
        sum += ends;
        got.push(message[..ends].to_vec());
    }
    mail::assert_same("POP3", got, &cases);
    assert_eq!(pop.command("STAT"), format!("+OK {} {sum}", cases.len()));
}

#[test]
fn a_packet_full_of_commands_is_answered_in_order_to_a_slow_reader_too() {
    let gate = Gate::start();
    let body: String = (0..40_000).map(|line| format!(".{line:060}\r\n")).collect();
    let message = format!("Subject: large\r\n\r\n{body}");
    gate.deliver(ANN, message.as_bytes());
    gate.deliver(ANN, b"Subject: small\r\n\r\nsmall\r\n");
    let mut pop = gate.pop(ANN, APP);
    let many = "NOOP\r\nRETR 1\r\n".repeat(5) + "RETR 2\r\nDELE 1\r\nSTAT\r\nFROB\r\nQUIT\r\nNOOP\r\n";
    pop.wire.send_bytes(many.as_bytes());
    std::thread::sleep(Duration::from_secs(2));
    for _ in 0..5 {
        assert!(pop.wire.line().starts_with("+OK"));
        assert_eq!(pop.wire.line(), format!("+OK {} octets", message.len()));
        for line in message.split_terminator("\r\n") {
            let stuffed = if line.starts_with('.') { format!(".{line}") } else { line.to_owned() };
            assert_eq!(pop.wire.line(), stuffed);
        }
        assert_eq!(pop.wire.line(), ".");
    }
    let rest = String::from_utf8(pop.wire.rest()).unwrap();
    let lines: Vec<&str> = rest.split_terminator("\r\n").collect();
    assert_eq!(lines[..5], ["+OK 25 octets", "Subject: small", "", "small", "."]);
    assert!(lines[5].starts_with("+OK") && lines[6] == "+OK 1 25" && lines[7].starts_with("-ERR"), "{lines:?}");
    assert_eq!(lines[8..], ["+OK goodbye"]);
    assert_eq!(fs::read_dir(gate.maildir(ANN).join("new")).unwrap().count(), 1);
}

#[test]
fn a_session_that_never_signs_in_or_sends_rubbish_is_told_before_it_is_closed() {
    let gate = Gate::start();
    let mut pop = Pop::connect(&gate);
    pop.wire.send_bytes("FROB\r\n".repeat(30).as_bytes());
    let all = String::from_utf8(pop.wire.rest()).unwrap();
    assert_eq!(all.lines().count(), 11, "{all}");
    assert!(all.ends_with("-ERR [SYS/TEMP] too many bad commands, closing\r\n"), "{all}");
}

#[test]
fn listed_sizes_are_those_of_the_messages_whatever_their_names_claim() {
    let gate = Gate::start();
    let cur = gate.maildir(ANN).join("cur");
    fs::create_dir_all(&cur).unwrap();
    let text = "Subject: x\n\none\ntwo\n";
    for name in ["1.a,S=20,W=21:2,", "2.a,S=20,W=39:2,"] {
        fs::write(cur.join(name), text).unwrap();
    }
    let mut pop = gate.pop(ANN, APP);
    assert_eq!(pop.command("STAT"), "+OK 2 48");
    assert_eq!(pop.command("LIST 2"), "+OK 2 24");
    assert_eq!(pop.long("RETR 2"), text.replace('\n', "\r\n").as_bytes());
}
