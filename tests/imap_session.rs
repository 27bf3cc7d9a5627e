//! IMAP sessions over TLS against the real binary: what sessions see of each other, what large
//! messages and rude peers cost. Dialogs of single commands stand in `tests/transcripts/imap`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    time::{Duration, Instant},
};

use support::{
    ANN, APP, Gate, Setup,
    wire::{Imap, Reply, Wire},
};

/// The bytes of the one literal of a response.
fn literal(response: &[u8]) -> &[u8] {
    let head_end = response.windows(2).position(|pair| pair == b"\r\n").unwrap();
    let head = String::from_utf8_lossy(&response[..head_end]).into_owned();
    let size: usize = head.rsplit_once('{').unwrap().1.trim_end_matches('}').parse().unwrap();
    &response[head_end + 2..head_end + 2 + size]
}

fn opened(gate: &Gate, mailbox: &str) -> Imap {
    let mut imap = gate.imap(ANN, APP);
    imap.ok(&format!("SELECT {mailbox}"));
    imap
}

fn lines(reply: &Reply) -> Vec<String> {
    reply.lines()
}

#[test]
fn sessions_see_each_others_changes_and_no_number_moves_under_fetch_store_or_search() {
    let gate = Gate::start();
    let (mut one, mut other) = (opened(&gate, "INBOX"), opened(&gate, "INBOX"));
    for subject in ["first", "second", "third", "fourth"] {
        one.append("INBOX", "", format!("Subject: {subject}\r\n\r\n{subject}\r\n").as_bytes());
    }
    let told = other.ok("NOOP");
    assert_eq!(lines(&told), ["* 4 EXISTS", "* 0 RECENT"], "told at once, however many there were");
    one.ok("STORE 2 +FLAGS (\\Flagged Work)");
    let told = other.ok("NOOP");
    let last = told.lines().pop().unwrap();
    assert_eq!(last, "* 2 FETCH (FLAGS (\\Flagged Work))", "without UID: nobody asked for it");
    assert!(told.lines()[0].starts_with("* FLAGS (") && told.lines()[0].ends_with(" Work)"), "{:?}", told.lines());
    assert_eq!(lines(&one.ok("NOOP")), [""; 0], "one's own change is no news");

    one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    one.ok("EXPUNGE");
    // The other still counts four. What is gone is not there, and the tagged line says so.
    let fetched = other.command("FETCH 1:2 (UID)");
    assert_eq!(lines(&fetched), ["* 2 FETCH (UID 2)"]);
    assert!(fetched.status.starts_with("NO [EXPUNGEISSUED]"), "{}", fetched.status);
    let fetched = other.command("FETCH 1 BODY.PEEK[]");
    assert!(fetched.status.starts_with("NO [EXPUNGEISSUED]") && fetched.untagged.is_empty(), "{}", fetched.status);
    let stored = other.command("STORE 1 +FLAGS (\\Seen)");
    assert!(stored.status.starts_with("NO [EXPUNGEISSUED]") && stored.untagged.is_empty(), "{}", stored.status);
    assert_eq!(lines(&other.ok("SEARCH ALL")), ["* SEARCH 2 3 4"]);
    let copied = other.command("COPY 1 INBOX");
    assert!(copied.status.starts_with("NO [EXPUNGEISSUED]"), "{}", copied.status);
    // COPY may tell; the numbers are those of four messages up to here, and of three from here on.
    assert_eq!(lines(&copied), ["* 1 EXPUNGE"]);
    assert_eq!(lines(&other.ok("FETCH 1 UID")), ["* 1 FETCH (UID 2)"]);

    // By UID what is gone is passed over in silence, and its removal told.
    one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    one.ok("EXPUNGE");
    let fetched = other.ok("UID FETCH 2:3 UID");
    assert_eq!(lines(&fetched), ["* 1 EXPUNGE", "* 1 FETCH (UID 3)"]);
    one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    one.ok("EXPUNGE");
    assert_eq!(lines(&other.ok("NOOP")), ["* 1 EXPUNGE"]);
    assert_eq!(lines(&other.ok("SEARCH ALL")), ["* SEARCH 1"]);
}

#[test]
fn what_a_file_name_claims_of_a_size_is_never_told() {
    let gate = Gate::start();
    let cur = gate.maildir(ANN).join("cur");
    fs::create_dir_all(&cur).unwrap();
    let text = "Subject: x\n\none\ntwo\n";
    for name in ["1.a,S=20,W=21:2,", "2.a,S=20,W=24:2,", "3.a,S=19,W=30:2,", "4.a,S=20,W=39:2,"] {
        fs::write(cur.join(name), text).unwrap();
    }
    let mut imap = gate.imap(ANN, APP);
    assert_eq!(lines(&imap.ok("STATUS INBOX (MESSAGES SIZE)")), ["* STATUS INBOX (MESSAGES 4 SIZE 96)"]);
    let mut imap = opened(&gate, "INBOX");
    assert_eq!(lines(&imap.ok("FETCH 1 RFC822.SIZE")), ["* 1 FETCH (RFC822.SIZE 24)"]);
    let body = imap.ok("FETCH 2 (RFC822.SIZE BODY.PEEK[])");
    assert_eq!(literal(&body.untagged[0]), text.replace('\n', "\r\n").as_bytes());
    assert!(body.untagged[0].starts_with(b"* 2 FETCH (RFC822.SIZE 24 "), "{:?}", body.lines());
    assert_eq!(lines(&imap.ok("SEARCH LARGER 23 SMALLER 25")), ["* SEARCH 1 2 3 4"]);
    let today = imap.ok("FETCH 4 (ENVELOPE RFC822.SIZE)");
    assert!(today.lines()[0].ends_with(" RFC822.SIZE 24)"), "{:?}", today.lines());
    assert_eq!(lines(&imap.ok("SORT (REVERSE ARRIVAL SIZE) UTF-8 ALL")).len(), 1);
}

#[test]
fn a_delivered_file_is_news_in_idle_within_half_a_second() {
    let gate = Gate::start();
    let mut imap = opened(&gate, "INBOX");
    let tag = imap.idle();
    for count in 1..=3 {
        std::thread::sleep(Duration::from_millis(200));
        gate.deliver(ANN, b"Subject: new\r\n\r\nnew\r\n");
        let delivered = Instant::now();
        assert_eq!(imap.wire.line(), format!("* {count} EXISTS"));
        assert!(delivered.elapsed() < Duration::from_millis(500), "{:?}", delivered.elapsed());
        assert_eq!(imap.wire.line(), format!("* {count} RECENT"));
    }
    // Another session's changes too.
    let mut other = opened(&gate, "INBOX");
    other.ok("STORE 2 +FLAGS.SILENT (\\Deleted)");
    assert_eq!(imap.wire.line(), "* 2 FETCH (FLAGS (\\Deleted \\Recent))");
    other.ok("EXPUNGE");
    assert_eq!(imap.wire.line(), "* 2 EXPUNGE");
    imap.wire.send("DONE");
    assert!(imap.finish(&tag).status.starts_with("OK"));
}

#[test]
fn a_mailbox_deleted_by_another_session_ends_the_session_that_has_it_open_with_a_word() {
    let gate = Gate::start();
    let mut one = gate.imap(ANN, APP);
    one.ok("CREATE Doomed");
    let (mut idle, mut busy, mut leaving) =
        (opened(&gate, "Doomed"), opened(&gate, "Doomed"), opened(&gate, "Doomed"));
    idle.idle();
    one.ok("DELETE Doomed");
    assert!(idle.bye().0.starts_with("[NONEXISTENT]"));
    busy.send("NOOP");
    assert!(busy.bye().0.starts_with("[NONEXISTENT]"));
    leaving.ok("SELECT INBOX");
    leaving.ok("NOOP");
}

/// A message of this many octets whose lines do not compress into one another.
fn message_of(octets: usize) -> Vec<u8> {
    let mut message = b"Subject: large\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n".to_vec();
    let mut line = 0_u64;
    while message.len() + 80 < octets {
        message.extend_from_slice(format!("{line:074}\r\n").as_bytes());
        line += 1;
    }
    message.extend_from_slice(b"\r\n--b--\r\n");
    message
}

#[test]
fn a_large_message_goes_in_and_out_without_memory_of_its_size() {
    const MOST_GROWTH_KIB: u64 = 8 * 1024;
    let gate = Gate::start();
    let mut imap = opened(&gate, "INBOX");
    // What any message costs once is not counted.
    let small = message_of(300_000);
    imap.append("INBOX", "", &small);
    imap.ok("FETCH 1 (BODYSTRUCTURE BODY.PEEK[])");
    let (before, _) = gate.memory();

    let large = message_of(45_000_000);
    imap.append("INBOX", "\\Seen", &large);
    let after_append = gate.memory();
    let reply = imap.ok("FETCH 2 (BODYSTRUCTURE BODY.PEEK[] RFC822.SIZE)");
    let response = &reply.untagged[0];
    assert!(came_back(response, &large), "it came back changed");
    let reply = imap.ok("FETCH 2 BODY.PEEK[1]<44000000.1000>");
    assert_eq!(literal(&reply.untagged[0]).len(), 1000);
    assert_eq!(imap.ok("SEARCH TEXT \"00000000000000000100000\"").lines(), ["* SEARCH 2"]);
    let (most, now) = gate.memory();
    assert!(
        most < before + MOST_GROWTH_KIB,
        "grew from {before} KiB to {most} KiB (after the APPEND {after_append:?}, now {now})"
    );
}

/// Whether `part` is in `whole` as a literal.
fn came_back(whole: &[u8], part: &[u8]) -> bool {
    let head = format!("{{{}}}\r\n", part.len());
    let at = whole.windows(head.len()).position(|bytes| bytes == head.as_bytes()).unwrap() + head.len();
    &whole[at..at + part.len()] == part
}

#[test]
fn a_message_that_is_all_header_is_still_answered() {
    let gate = Gate::start();
    let mut imap = opened(&gate, "INBOX");
    let mut message = b"Subject: first\r\n".to_vec();
    while message.len() < 11 * 1024 * 1024 {
        message.extend_from_slice(b"X-Filler: ");
        message.extend(std::iter::repeat_n(b'x', 900));
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(b"To: last@example.com\r\n\r\nbody\r\n");
    imap.append("INBOX", "", &message);
    for items in [
        "BODY.PEEK[HEADER.FIELDS (SUBJECT)]",
        "(BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (SUBJECT)])",
        "BODY.PEEK[HEADER.FIELDS.NOT (X-FILLER)]",
        "ENVELOPE",
    ] {
        let reply = imap.ok(&format!("FETCH 1 {items}"));
        let text = String::from_utf8_lossy(&reply.untagged[0]).into_owned();
        assert!(text.contains("first"), "{items}: {}", text.get(..200).unwrap_or(&text));
    }
    assert_eq!(imap.ok("SEARCH SUBJECT first").lines(), ["* SEARCH 1"]);
    assert_eq!(imap.ok("SEARCH TEXT nowhere-to-be-found").lines(), ["* SEARCH"]);
}

#[test]
fn uids_flags_and_keywords_are_the_same_after_a_crash() {
    let mut gate = Gate::start();
    let mut imap = opened(&gate, "INBOX");
    gate.deliver(ANN, b"Subject: delivered\r\n\r\n1\r\n");
    imap.ok("NOOP");
    imap.append("INBOX", "\\Answered Work", b"Subject: appended\r\n\r\n2\r\n");
    imap.append("INBOX", "", b"Subject: gone\r\n\r\n3\r\n");
    imap.ok("STORE 3 +FLAGS.SILENT (\\Deleted)");
    imap.ok("EXPUNGE");
    imap.ok("STORE 1 +FLAGS.SILENT (\\Flagged Private)");
    let asked = "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)";
    let before = imap.ok(asked).lines();
    let status = "STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE)";
    let counts = imap.ok(status).lines();
    drop(imap);
    gate.crash_and_restart();
    let mut imap = gate.imap(ANN, APP);
    assert_eq!(imap.ok(status).lines(), counts);
    imap.ok("EXAMINE INBOX");
    let recent = |lines: Vec<String>| lines.iter().map(|line| line.replace(" \\Recent", "")).collect::<Vec<_>>();
    assert_eq!(recent(imap.ok(asked).lines()), recent(before));
    imap.append("INBOX", "", b"Subject: after\r\n\r\n4\r\n");
    assert_eq!(imap.ok("UID SEARCH UID 3:*").lines(), ["* SEARCH 4"], "a UID once given is not given again");
}

#[test]
fn many_commands_without_reading_their_answers_cost_one_buffer() {
    let gate = Gate::start();
    let mut setup = opened(&gate, "INBOX");
    for at in 0..60 {
        setup.ok(&format!("CREATE \"Folder with a name that is not short at all {at}\""));
    }
    setup.append("INBOX", "", b"A: b\r\n\r\n");
    for at in 0..100 {
        setup.ok(&format!("STORE 1 +FLAGS.SILENT (A-keyword-of-some-length-that-SELECT-names-twice-number-{at})"));
    }
    for command in ["LIST \"\" * RETURN (SUBSCRIBED SPECIAL-USE CHILDREN)", "SELECT INBOX"] {
        let mut imap = gate.imap(ANN, APP);
        // What any such command costs once (threads, their memory) is not counted.
        for _ in 0..50 {
            setup.ok(command);
        }
        let (before, _) = gate.memory();
        let many = format!("x {command}\r\n").repeat(3000);
        // Nobody reads: the gate stops taking commands when it cannot get rid of its answers.
        let writer = std::thread::spawn(move || {
            imap.wire.send_bytes(many.as_bytes());
            std::thread::sleep(Duration::from_secs(2));
        });
        std::thread::sleep(Duration::from_secs(2));
        let (most, _) = gate.memory();
        assert!(most < before + 16 * 1024, "{command}: grew from {before} KiB to {most} KiB");
        setup.ok("NOOP");
        drop(writer);
    }
}

#[test]
fn a_peer_that_takes_nothing_is_given_up() {
    let gate = Gate::with(Setup {
        limits: "failed_login_delay_s = 0\noutput_stall_s = 1\n".to_owned(),
        ..Setup::default()
    });
    let mut imap = opened(&gate, "INBOX");
    imap.append("INBOX", "", &message_of(20_000_000));
    imap.send("FETCH 1 BODY.PEEK[]");
    std::thread::sleep(Duration::from_secs(4));
    let got = imap.wire.rest();
    assert!(got.len() < 20_000_000, "it waited although nothing was read");
    opened(&gate, "INBOX").ok("FETCH 1 RFC822.SIZE");
}

#[test]
fn a_connection_that_does_not_sign_in_is_told_and_closed() {
    let gate = Gate::with(Setup {
        limits: "failed_login_delay_s = 0\nlogin_s = 1\nsasl_s = 1\n".to_owned(),
        ..Setup::default()
    });
    let mut silent = Imap::connect(&gate);
    let mut talking = Imap::connect(&gate);
    talking.wire.send("a AUTHENTICATE XOAUTH2");
    assert_eq!(talking.wire.line(), "+ ");
    let (text, _) = silent.bye();
    assert!(text.starts_with("Nobody signed in"), "{text}");
    talking.bye();
}

#[test]
fn sigterm_tells_everybody_and_ends_within_ten_seconds() {
    let mut gate = Gate::start();
    let (mut idle, mut quiet, mut stranger) = (opened(&gate, "INBOX"), gate.imap(ANN, APP), Imap::connect(&gate));
    idle.idle();
    let mut pop = gate.pop(ANN, APP);
    let asked = Instant::now();
    gate.signal("TERM");
    for session in [&mut idle, &mut quiet, &mut stranger] {
        assert!(session.bye().0.starts_with("[UNAVAILABLE]"));
    }
    assert!(pop.wire.line().starts_with("-ERR [SYS/TEMP] shutting down"));
    assert!(gate.wait(Duration::from_secs(10)).success());
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[test]
fn the_last_line_is_read_even_by_a_peer_that_was_still_sending() {
    let gate = Gate::start();
    for _ in 0..10 {
        let mut imap = gate.imap(ANN, APP);
        // A literal that nobody asked for ends the dialogue: what follows it cannot be told from commands.
        let rude = [b"a APPEND Nowhere {100000}\r\n".as_slice(), &vec![b'x'; 200_000]].concat();
        imap.wire.send_bytes(&rude);
        let all = String::from_utf8_lossy(&imap.wire.rest()).into_owned();
        assert!(all.starts_with("a NO [TRYCREATE]") && all.contains("\r\n* BYE [CLIENTBUG]"), "{all}");
        let mut imap = gate.imap(ANN, APP);
        imap.wire.send_bytes(&[b"a LOGOUT\r\n".as_slice(), &vec![b'x'; 200_000]].concat());
        let all = String::from_utf8_lossy(&imap.wire.rest()).into_owned();
        assert!(all.ends_with("a OK LOGOUT done\r\n"), "{all}");
    }
}

#[test]
fn a_slow_reader_gets_the_whole_answer_before_the_goodbye() {
    let gate = Gate::start();
    let mut imap = opened(&gate, "INBOX");
    let message = message_of(8_000_000);
    imap.append("INBOX", "", &message);
    imap.wire.send("b FETCH 1 BODY.PEEK[]");
    imap.wire.send("c LOGOUT");
    std::thread::sleep(Duration::from_secs(2));
    let all = imap.wire.rest();
    assert!(came_back(&all, &message));
    assert!(all.ends_with(b"c OK LOGOUT done\r\n"));
}

#[test]
fn a_thousand_messages_are_searched_stored_and_removed_in_one_go() {
    let gate = Gate::start();
    for at in 0..1000 {
        gate.deliver(ANN, format!("Subject: number {at}\r\n\r\nbody\r\n").as_bytes());
    }
    let mut imap = opened(&gate, "INBOX");
    let started = Instant::now();
    assert_eq!(imap.ok("SEARCH ALL").lines()[0].split(' ').count(), 1002);
    let odd: Vec<String> = (1..=1000).step_by(2).map(|n: u32| n.to_string()).collect();
    assert_eq!(imap.ok(&format!("SEARCH {}", odd.join(","))).lines(), [format!("* SEARCH {}", odd.join(" "))]);
    assert_eq!(imap.ok("FETCH 1:* FLAGS").untagged.len(), 1000);
    imap.ok("UID STORE 1:* +FLAGS.SILENT (\\Deleted)");
    let reply = imap.ok(&format!("UID EXPUNGE {}", odd.join(",")));
    assert_eq!(reply.untagged.len(), 500);
    assert_eq!(imap.ok("FETCH 1:2 UID").lines(), ["* 1 FETCH (UID 2)", "* 2 FETCH (UID 4)"]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(fs::read_dir(gate.maildir(ANN).join("cur")).unwrap().count(), 500);
}

#[test]
fn a_line_may_arrive_byte_by_byte() {
    let gate = Gate::start();
    let mut imap = gate.imap(ANN, APP);
    for byte in b"a SELECT {5}\r\n" {
        imap.wire.send_bytes(&[*byte]);
    }
    assert_eq!(imap.wire.line(), "+ Ready");
    for byte in b"INBOX\r\n" {
        imap.wire.send_bytes(&[*byte]);
    }
    while !read_tagged(&mut imap.wire, "a OK [READ-WRITE]") {}
}

fn read_tagged(wire: &mut Wire, start: &str) -> bool {
    wire.line().starts_with(start)
}
