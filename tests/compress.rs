//! COMPRESS=DEFLATE (RFC 4978) against the real binary: what a session that compresses hears, what it costs, and what
//! becomes of one that sends something else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use support::{ANN, APP, Gate, Setup, deflate::Deflated, wire::Imap};

/// A signed-in session that compresses.
fn compressed(gate: &Gate) -> Deflated {
    let mut imap = gate.imap(ANN, APP);
    let tag = imap.send("COMPRESS DEFLATE");
    assert_eq!(imap.wire.line(), format!("{tag} OK DEFLATE active"));
    Deflated::over(imap.wire)
}

#[test]
fn a_compressed_session_says_and_hears_what_any_other_does() {
    let gate = Gate::start();
    assert!(gate.imap(ANN, APP).ok("CAPABILITY").lines()[0].contains(" COMPRESS=DEFLATE "));
    let mut session = compressed(&gate);
    session.send("a SELECT INBOX");
    assert!(session.until("a").last().unwrap().starts_with("a OK [READ-WRITE]"));
    session.send("b COMPRESS DEFLATE");
    assert_eq!(session.line(), "b NO [COMPRESSIONACTIVE] Compression is active already");
    session.send("c COMPRESS LZ4");
    assert!(session.line().starts_with("c BAD "));
    // Many commands at once, cut anywhere.
    let packed = session.packed(
        b"d NOOP\r\ne APPEND INBOX {6+}\r\nA: b\r\n\r\nf FETCH 1 (UID FLAGS)\r\ng STATUS INBOX (MESSAGES)\r\n",
    );
    for piece in packed.chunks(7) {
        session.wire.send_bytes(piece);
    }
    assert_eq!(session.line(), "d OK Done");
    assert!(session.until("e").last().unwrap().starts_with("e OK [APPENDUID "));
    assert_eq!(session.until("f")[0], "* 1 FETCH (UID 1 FLAGS (\\Recent))");
    assert_eq!(session.until("g")[0], "* STATUS INBOX (MESSAGES 1)");
    session.send("h LOGOUT");
    assert!(session.line().starts_with("* BYE "));
    assert!(session.line().starts_with("h OK "));
    assert_eq!(session.line_or_end(), None);
}

#[test]
fn a_peer_that_does_not_wait_for_the_answer_is_understood() {
    let gate = Gate::start();
    let mut imap = gate.imap(ANN, APP);
    let mut other = Deflated::over(gate.imap(ANN, APP).wire);
    let first = other.packed(b"b SELECT INBOX\r\nc NOOP\r\n");
    imap.wire.send_bytes(&[b"a COMPRESS DEFLATE\r\n".as_slice(), &first].concat());
    assert_eq!(imap.wire.line(), "a OK DEFLATE active");
    other.wire = imap.wire;
    other.until("b");
    assert_eq!(other.line(), "c OK Done");
}

#[test]
fn news_come_in_idle_and_the_word_of_a_policy_comes_whole() {
    let gate = Gate::start();
    let mut session = compressed(&gate);
    session.send("a SELECT INBOX");
    session.until("a");
    session.send("b IDLE");
    assert_eq!(session.line(), "+ idling");
    // Long enough for the session to have put everything away.
    std::thread::sleep(Duration::from_millis(800));
    for count in 1..=3 {
        let delivered = Instant::now();
        gate.deliver(ANN, b"Subject: new\r\n\r\nnew\r\n");
        assert_eq!(session.line(), format!("* {count} EXISTS"));
        assert!(delivered.elapsed() < Duration::from_millis(500), "{:?}", delivered.elapsed());
        session.line();
    }
    session.send("DONE");
    assert!(session.line().starts_with("b OK"));
    session.send("c IDLE");
    session.line();
    let mut gate = gate;
    gate.signal("TERM");
    assert!(session.line().starts_with("* BYE [UNAVAILABLE] "));
    assert_eq!(session.line_or_end(), None);
    assert!(gate.wait(Duration::from_secs(10)).success());
}

/// A message of this many octets, half of it noise.
fn message_of(octets: usize) -> Vec<u8> {
    let mut message = b"Subject: large\r\n\r\n".to_vec();
    let mut line = 1_u64;
    while message.len() + 80 < octets {
        line = line.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        message.extend_from_slice(format!("{line:020x} {line:020} the same words in each line\r\n").as_bytes());
    }
    message.resize(octets, b'.');
    message
}

#[test]
fn a_large_message_goes_in_and_out_compressed_without_memory_of_its_size() {
    const MOST_GROWTH_KIB: u64 = 8 * 1024;
    const OCTETS: usize = 50 * 1024 * 1024;
    let gate = Gate::start();
    let mut session = compressed(&gate);
    session.send("a SELECT INBOX");
    session.until("a");
    let mut round = |octets: usize, number: u32| {
        let message = message_of(octets);
        session.send(&format!("b APPEND INBOX {{{octets}}}"));
        assert_eq!(session.line(), "+ Ready");
        for piece in message.chunks(1 << 20) {
            session.send_bytes(piece);
        }
        session.send("");
        assert!(session.until("b").last().unwrap().starts_with("b OK [APPENDUID "));
        session.send(&format!("c FETCH {number} BODY.PEEK[]"));
        assert_eq!(session.line(), format!("* {number} FETCH (BODY[] {{{octets}}}"));
        assert!(session.bytes(octets) == message, "it came back changed");
        session.until("c");
    };
    round(300_000, 1);
    let (before, _) = gate.memory();
    round(OCTETS, 2);
    let (most, now) = gate.memory();
    assert!(most < before + MOST_GROWTH_KIB, "grew from {before} KiB to {most} KiB (now {now})");
}

#[test]
fn an_idle_session_holds_no_compressor() {
    const SESSIONS: u64 = 60;
    /// A compressor that stays would add some 180; some 20 are seen without, and pages make that uncertain.
    const MOST_KIB: u64 = 80;
    /// At once: memory that was given back stays with the process, and is not counted again.
    const BATCH: usize = 10;
    let gate = Gate::with(Setup {
        limits: "failed_login_delay_s = 0\nsessions_per_user = 1000\n".to_owned(),
        ..Setup::default()
    });
    gate.imap(ANN, APP).append("INBOX", "", &message_of(20_000));
    let commands = ["SELECT INBOX", "FETCH 1:* (UID FLAGS ENVELOPE BODY.PEEK[])", "NOOP"];
    let mut held = Vec::new();
    let mut before = 0;
    for count in 0..2 * SESSIONS as usize {
        if count == SESSIONS as usize {
            before = gate.memory().1;
        }
        let mut session = compressed(&gate);
        for command in commands {
            session.send(&format!("x {command}"));
            session.until("x");
        }
        held.push(session);
        if count % BATCH == BATCH - 1 {
            // Until they have given back what they can.
            std::thread::sleep(Duration::from_millis(900));
        }
    }
    let each = gate.memory().1.saturating_sub(before) / SESSIONS;
    assert!(each < MOST_KIB, "{each} KiB a session");
}

#[test]
fn a_bomb_costs_no_memory_and_its_literals_are_data() {
    let gate = Gate::start();
    let mut session = compressed(&gate);
    session.send("a NOOP");
    session.line();
    let (before, _) = gate.memory();
    // A line of 200 MB in 200 KB.
    let mut bomb = Vec::new();
    for _ in 0..200 {
        bomb.extend(session.packed(&vec![b'x'; 1 << 20]));
    }
    assert!(bomb.len() < 400_000, "{}", bomb.len());
    session.wire.send_bytes(&bomb);
    let all = session.rest();
    assert!(all.starts_with("* BAD [TOOBIG] ") && all.contains("\r\n* BYE [TOOBIG] "), "{all}");
    let (most, _) = gate.memory();
    assert!(most < before + 8 * 1024, "grew from {before} KiB to {most} KiB");

    let mut session = compressed(&gate);
    let text = format!(
        "a APPEND Nowhere {{{0}+}}\r\n{1}\r\nb NOOP\r\n",
        4096,
        "z LOGOUT\r\n".repeat(410)[..4096].to_owned()
    );
    session.send_bytes(text.as_bytes());
    assert!(session.line().starts_with("a NO [TRYCREATE]"));
    assert_eq!(session.line(), "b OK NOOP done");
}

#[test]
fn what_is_no_deflate_stream_ends_the_session_with_a_word() {
    let gate = Gate::start();
    let reaches_back = [0x4b, 0x04, 0x62, 0x00];
    for bytes in [b"\x07xxxx".as_slice(), b"b NOOP\r\n", b"\x00\x05\x00\x00\x00abcde", &reaches_back] {
        let mut session = compressed(&gate);
        session.wire.send_bytes(bytes);
        assert_eq!(session.line(), "* BYE [CLIENTBUG] The compressed stream cannot be read", "{bytes:x?}");
        assert_eq!(session.line_or_end(), None);
    }
    // A stream that is cut short is a peer that went away.
    let mut session = compressed(&gate);
    let packed = session.packed(b"b NOOP\r\nc NOOP\r\n");
    session.wire.send_bytes(&packed[..packed.len() / 2]);
    drop(session);
    Imap::connect(&gate).ok("NOOP");
}
