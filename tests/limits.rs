//! Every limit of `[limits]` that a peer can reach, set low and tried on the wire: at the limit and one past it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{
    ANN, APP, Gate, Setup, token,
    wire::{Imap, Pop, xoauth2},
};

fn limited(limits: &str) -> Gate {
    Gate::with(Setup { limits: format!("failed_login_delay_s = 0\n{limits}"), ..Setup::default() })
}

/// A connection that has said this much and hears the rest of the dialog: every line until it is closed.
fn lines_to_the_end(imap: &mut Imap) -> Vec<String> {
    std::iter::from_fn(|| imap.wire.line_or_end()).collect()
}

#[test]
fn a_user_has_so_many_sessions_of_each_protocol() {
    let gate = limited("sessions_per_user = 2\n");
    let mut held = vec![gate.imap(ANN, APP), gate.imap(ANN, APP)];
    let mut third = Imap::connect(&gate);
    let blob = xoauth2(ANN, &gate.token(ANN, APP));
    let refused = third.command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status;
    assert!(
        refused.starts_with("NO [LIMIT] Too many IMAP sessions: close one of your 2 first. (ref "),
        "{refused}"
    );
    // The other protocol is counted apart. (One POP3 session holds the mailbox, so there is one of them.)
    let _pop = gate.pop(ANN, APP);
    held.pop().unwrap().ok("LOGOUT");
    let deadline = Instant::now() + Duration::from_secs(5);
    while !third.command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status.starts_with("OK") {
        assert!(Instant::now() < deadline, "the place of a session that has ended is not free");
        third = Imap::connect(&gate);
    }
    let rows = gate.audit_with(&["--cause", "limit_sessions"], 1, |_| true);
    assert!(rows.iter().all(|row| row["user"] == ANN), "{rows:?}");
}

#[test]
fn a_connection_may_fail_to_sign_in_so_often() {
    let gate = limited("failed_logins = 2\n");
    let bad = xoauth2(ANN, &gate.token_for(ANN, APP, -3600));
    let mut imap = Imap::connect(&gate);
    imap.wire.send(&format!("a AUTHENTICATE XOAUTH2 {bad}\r\n\r\nb LOGIN ann x\r\nc NOOP"));
    let heard = lines_to_the_end(&mut imap);
    let starts: Vec<&str> = heard.iter().filter_map(|line| line.get(..9)).collect();
    assert_eq!(starts.len(), 4, "{heard:?}");
    assert!(starts[0].starts_with("+ ") && starts[1] == "a NO [AUT" && starts[2] == "b NO [ALE", "{heard:?}");
    assert_eq!(heard[3], "* BYE [LIMIT] Too many errors");

    let mut pop = Pop::connect(&gate);
    assert!(pop.authenticate("XOAUTH2", &bad).starts_with("-ERR [AUTH]"));
    assert!(pop.command("USER ann").starts_with("-ERR [AUTH]"));
    assert_eq!(pop.command("USER ann"), "-ERR [SYS/TEMP] too many failed sign-ins, closing");
    assert_eq!(pop.wire.rest(), b"");
}

#[test]
fn a_peer_may_send_so_many_lines_that_are_no_command() {
    let gate = limited("bad_commands_before_login = 3\nbad_commands_after_login = 2\n");
    let mut imap = Imap::connect(&gate);
    imap.wire.send("a X\r\nb X\r\nc X\r\nd NOOP");
    let heard = lines_to_the_end(&mut imap);
    assert_eq!(heard.len(), 4, "{heard:?}");
    assert_eq!(heard[3], "* BYE [LIMIT] Too many errors", "{heard:?}");

    let mut imap = Imap::connect(&gate);
    imap.wire.send("a X\r\nb X");
    assert!([imap.wire.line(), imap.wire.line()].iter().all(|line| line.contains(" BAD ")));
    imap.xoauth2(ANN, &gate.token(ANN, APP));
    imap.wire.send("a X\r\nb NOOP\r\nc X\r\nd NOOP");
    let heard = lines_to_the_end(&mut imap);
    assert_eq!(heard.last().unwrap(), "* BYE [LIMIT] Too many errors", "{heard:?}");
    assert!(heard.iter().any(|line| line.starts_with("b OK")) && !heard.iter().any(|line| line.starts_with("d ")));

    let mut pop = Pop::connect(&gate);
    pop.wire.send("X\r\nX\r\nX\r\nX\r\nCAPA");
    let heard: Vec<String> = std::iter::from_fn(|| pop.wire.line_or_end()).collect();
    assert_eq!(heard.len(), 4, "{heard:?}");
    assert_eq!(heard[3], "-ERR [SYS/TEMP] too many bad commands, closing");
}

#[test]
fn lines_literals_and_commands_have_their_sizes() {
    let gate = limited(
        "line_before_login_bytes = 4096\nline_after_login_bytes = 8192\nliteral_bytes = 2048\ncommand_bytes = 9000\n\
         literals_per_command = 3\nappend_bytes = 5000\ntoken_bytes = 2048\n",
    );
    let mut imap = Imap::connect(&gate);
    let at = |line: &str, size: usize| format!("{line}{}", "x".repeat(size - line.len() - 2));
    imap.wire.send(&at("a X ", 4096));
    assert_eq!(imap.wire.line(), "a BAD Unknown command");
    imap.wire.send(&at("a X ", 4097));
    assert_eq!(imap.wire.line(), "a NO [TOOBIG] Command too long");
    imap.xoauth2(ANN, &gate.token(ANN, APP));
    assert!(imap.ok("CAPABILITY").lines()[0].ends_with(" APPENDLIMIT=5000"));
    imap.ok("SELECT INBOX");
    imap.wire.send(&at("a X ", 8192));
    assert_eq!(imap.wire.line(), "a BAD Unknown command");
    imap.wire.send(&at("a X ", 8193));
    assert_eq!(imap.wire.line(), "a NO [TOOBIG] Command too long");
    for (line, expected) in [
        ("a SEARCH TEXT {2048}", "+ "),
        ("a SEARCH TEXT {2049}", "a NO [TOOBIG] The literal is too large"),
        ("a APPEND INBOX {5000}", "+ "),
        ("a APPEND INBOX {5001}", "a NO [TOOBIG] The message is too large"),
    ] {
        imap.wire.send(line);
        let answer = imap.wire.line();
        assert!(answer.starts_with(expected), "{line}: {answer}");
        if expected == "+ " {
            let size: usize = line.rsplit_once('{').unwrap().1.trim_end_matches('}').parse().unwrap();
            imap.wire.send(&"x".repeat(size));
            let answer = imap.wire.line();
            assert!(answer.starts_with("* ") || answer.starts_with("a OK"), "{line}: {answer}");
            while !answer.starts_with("a ") && !imap.wire.line().starts_with("a OK") {}
        }
    }
    let literals = |count: usize| format!("a SEARCH{}", " TEXT {1+}\r\nx".repeat(count));
    imap.wire.send(&literals(3));
    while !imap.wire.line().starts_with("a OK") {}
    imap.wire.send(&literals(4));
    assert_eq!(imap.wire.line(), "a NO [LIMIT] Too many literals in one command");
    // Four literals are each in order; together they are too much.
    let gate = limited("literal_bytes = 2048\ncommand_bytes = 4096\n");
    let mut imap = gate.imap(ANN, APP);
    imap.ok("SELECT INBOX");
    let two = format!(" TEXT {{2000+}}\r\n{}", "x".repeat(2000));
    imap.wire.send(&format!("a SEARCH{two}"));
    while !imap.wire.line().starts_with("a OK") {}
    imap.wire.send(&format!("a SEARCH{}", two.repeat(3)));
    assert_eq!(imap.wire.line(), "a NO [TOOBIG] The literal is too large");
    imap.ok("NOOP");

    let gate = limited("line_before_login_bytes = 4096\nline_after_login_bytes = 1024\ntoken_bytes = 2048\n");
    let mut pop = Pop::connect(&gate);
    for (size, expected) in [(4096, "-ERR unknown command"), (4097, "-ERR line too long")] {
        assert_eq!(pop.command(&at("X ", size)), expected, "{size}");
    }
    pop.xoauth2(ANN, &gate.token(ANN, APP));
    for (size, expected) in [(1024, "-ERR unknown command"), (1025, "-ERR line too long")] {
        assert_eq!(pop.command(&at("X ", size)), expected, "{size}");
    }
}

#[test]
fn a_search_is_so_deep_and_so_long() {
    let gate = limited("list_depth = 4\nsearch_keys = 6\n");
    let mut imap = gate.imap(ANN, APP);
    imap.ok("SELECT INBOX");
    imap.ok(&format!("SEARCH {}ALL{}", "(".repeat(4), ")".repeat(4)));
    let reply = imap.command(&format!("SEARCH {}ALL{}", "(".repeat(5), ")".repeat(5)));
    assert_eq!(reply.status, "NO [LIMIT] Search keys are nested too deep");
    imap.ok("SEARCH ALL ALL ALL ALL ALL ALL");
    let reply = imap.command("SEARCH ALL ALL ALL ALL ALL ALL ALL");
    assert_eq!(reply.status, "NO [LIMIT] Too many search keys in one SEARCH");
}

#[test]
fn keywords_and_names_are_so_long_and_so_many() {
    let gate = limited(
        "keyword_bytes = 10\nkeywords_per_mailbox = 2\nmailbox_name_bytes = 16\nmailbox_depth = 3\n\
         append_bytes = 4096\n",
    );
    let mut imap = gate.imap(ANN, APP);
    imap.append("INBOX", "\\Seen", b"Subject: x\r\n\r\nx\r\n");
    imap.ok("SELECT INBOX");
    imap.ok("STORE 1 +FLAGS (0123456789)");
    for (command, refusal) in [
        ("STORE 1 +FLAGS (0123456789a)", "NO [LIMIT] No more than 10 bytes in a keyword"),
        ("STORE 1 +FLAGS (two three)", "NO [LIMIT] No more than 2 keywords in a folder"),
    ] {
        assert_eq!(imap.command(command).status, refusal, "{command}");
    }
    imap.ok("STORE 1 +FLAGS (two)");
    assert!(imap.command("STORE 1 +FLAGS (three)").status.starts_with("NO [LIMIT]"));
    imap.ok("STORE 1 FLAGS ()");

    imap.ok("CREATE 0123456789abcdef");
    imap.ok("CREATE a/b/c");
    for (command, refusal) in [
        ("CREATE 0123456789abcdefg", "NO [LIMIT] No more than 16 bytes in a mailbox name"),
        ("CREATE a/b/c/d", "NO [LIMIT] No more than 3 levels in a mailbox name"),
        ("RENAME 0123456789abcdef x/0123456789abcdef", "NO [LIMIT] No more than 16 bytes in a mailbox name"),
        // What lies below moves along, and would lie too deep.
        ("RENAME a/b x/y", ""),
        ("RENAME a/b a/z/y", "NO [LIMIT] No more than 3 levels in a mailbox name"),
    ] {
        let status = imap.command(command).status;
        assert!(
            if refusal.is_empty() { status.starts_with("OK") } else { status == refusal },
            "{command}: {status}"
        );
        if refusal.is_empty() {
            imap.ok("RENAME x/y a/b");
        }
    }
}

#[test]
fn a_token_is_so_long_and_its_json_so_deep() {
    let gate = limited("token_bytes = 1500\ntoken_json_depth = 4\n");
    let sign_in = |token: &str| {
        let mut imap = Imap::connect(&gate);
        imap.command(&format!("AUTHENTICATE XOAUTH2 {}", xoauth2(ANN, token))).status
    };
    let with = |name: &str, value: Value| {
        let mut claims = token::claims(ANN, APP, 3600);
        claims[name] = value;
        gate.key.sign(&claims)
    };
    // The claims are one level, so three more may stand in them.
    assert!(sign_in(&with("x", json!([[[]]]))).starts_with("OK"));
    assert!(sign_in(&with("x", json!([[[[]]]]))).starts_with("NO [AUTHENTICATIONFAILED]"));
    let mut length = 0;
    let long = (0..).map(|n| with("x", json!("y".repeat(n)))).find(|token| {
        length = token.len();
        length >= 1499
    });
    let long = long.unwrap();
    assert!(length <= 1500, "the test's tokens grow by more than one byte at a time: {length}");
    assert!(sign_in(&long).starts_with("OK"));
    assert!(sign_in(&with("x", json!("y".repeat(1000)))).starts_with("NO [AUTHENTICATIONFAILED]"));
    gate.audit_with(&[], 1, |row| row["reason"] == "token_too_long");
    // A larger token than usual is taken where the config says so.
    let gate = limited("token_bytes = 40000\nline_before_login_bytes = 80000\n");
    let mut claims = token::claims(ANN, APP, 3600);
    claims["x"] = json!("y".repeat(25_000));
    let mut imap = Imap::connect(&gate);
    imap.xoauth2(ANN, &gate.key.sign(&claims));
}

#[test]
fn a_sign_in_waits_only_so_long() {
    let gate = limited("sasl_s = 1\nsasl_answer_s = 1\n");
    let mut imap = Imap::connect(&gate);
    imap.wire.send("a AUTHENTICATE XOAUTH2");
    assert_eq!(imap.wire.line(), "+ ");
    let began = Instant::now();
    let (text, at) = imap.bye();
    assert!(text.starts_with("Idle for too long"), "{text}");
    assert!((900..3000).contains(&at.duration_since(began).as_millis()));
    let mut pop = Pop::connect(&gate);
    assert_eq!(pop.command("AUTH XOAUTH2"), "+ ");
    assert_eq!(pop.wire.line(), "-ERR idle for too long");

    // Silence after the challenge: the refusal comes all the same.
    let bad = xoauth2(ANN, &gate.token_for(ANN, APP, -3600));
    let mut imap = Imap::connect(&gate);
    imap.wire.send(&format!("a AUTHENTICATE XOAUTH2 {bad}"));
    assert!(imap.wire.line().starts_with("+ "));
    let began = Instant::now();
    assert!(imap.wire.line().starts_with("a NO [AUTHENTICATIONFAILED]"));
    assert!((900..3000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    imap.ok("NOOP");
    let mut pop = Pop::connect(&gate);
    assert!(pop.command(&format!("AUTH XOAUTH2 {bad}")).starts_with("+ "));
    let began = Instant::now();
    assert!(pop.wire.line().starts_with("-ERR [AUTH]"));
    assert!((900..3000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[test]
fn each_failure_is_answered_later_than_the_one_before_and_a_good_token_at_once() {
    let gate = Gate::with(Setup {
        limits: "failed_login_delay_s = 1\nfailed_login_delay_most_s = 2\n".to_owned(),
        ..Setup::default()
    });
    let mut imap = Imap::connect(&gate);
    for wait in [1, 2, 2] {
        let began = Instant::now();
        imap.command("LOGIN ann@example.com x");
        let took = began.elapsed().as_millis();
        assert!((wait * 1000 - 50..wait * 1000 + 900).contains(&took), "{took} ms instead of {wait} s");
    }
    let began = Instant::now();
    gate.imap(ANN, APP);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn every_limit_in_force_is_told_at_start() {
    let gate = limited("search_keys = 77\n");
    gate.wait_for_log("[http] connections=1000 request_s=30");
    gate.wait_for_log("[audit] required=true buffer=10000");
    let log = gate.log();
    for word in ["search_keys=77", "tls_handshake_s=10", "mailbox_depth=32", "reply_bytes=262144", "grace_s=300"] {
        assert!(log.contains(word), "{word}: {log}");
    }
}

/// Resident memory of the gate, in bytes.
fn memory(gate: &Gate) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Once all items of a FETCH for one message were written before any was sent.
#[test]
fn a_peer_that_asks_for_much_and_reads_nothing_holds_one_buffer() {
    let gate = limited("");
    let part =
        "--b\r\nContent-Type: text/plain; name=\"a rather long name of a part that says little.txt\"\r\n\r\nx\r\n";
    let message = format!(
        "Subject: many parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{}--b--\r\n",
        part.repeat(3000)
    );
    gate.deliver(ANN, message.as_bytes());
    let mut imap = gate.imap(ANN, APP);
    imap.ok("SELECT INBOX");
    // Once for whatever is made at first use.
    let one = imap.ok("FETCH 1 (BODYSTRUCTURE)").untagged.iter().map(Vec::len).sum::<usize>();
    assert!(one > 300_000, "the answer is too small to tell anything: {one}");
    let pieces: String = (0..199).map(|at| format!(" BODY.PEEK[TEXT]<{at}.250000>")).collect();
    let before = memory(&gate);
    let tag = imap.send(&format!("FETCH 1 (BODYSTRUCTURE{pieces})"));
    let most = most_held(&gate, before);
    assert!(most < 10 * 1024 * 1024, "{most} bytes are held for an answer of 50 MB");
    // Whoever reads gets all of it.
    let (mut read, mut tail) = (0, Vec::new());
    while !tail.ends_with(format!("{tag} OK FETCH done\r\n").as_bytes()) {
        let piece = imap.wire.some();
        assert!(!piece.is_empty(), "closed after {read} bytes");
        read += piece.len();
        tail.extend_from_slice(&piece);
        tail.drain(..tail.len().saturating_sub(100));
    }
    assert!(read > one + 199 * 250_000, "{read} bytes");
}

/// The most that the gate's memory grows by within two seconds.
fn most_held(gate: &Gate, before: usize) -> usize {
    let grown = (0..20).map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        memory(gate).saturating_sub(before)
    });
    grown.max().unwrap()
}

/// Once 256 messages or more were answered before any of it was sent.
#[test]
fn many_messages_that_are_answered_together_are_held_no_more_than_one() {
    const MESSAGES: usize = 300;
    let gate = limited("");
    for number in 0..MESSAGES {
        gate.deliver(ANN, format!("Subject: {number}\r\n\r\nx\r\n").as_bytes());
    }
    let mut imap = gate.imap(ANN, APP);
    imap.ok("CREATE Large");
    for _ in 0..8 {
        imap.append("Large", "", format!("Subject: {}\r\n\r\nx\r\n", "x".repeat(25_000)).as_bytes());
    }
    let selected = imap.ok("SELECT INBOX").lines().join("\n");
    let validity = selected.split_once("[UIDVALIDITY ").unwrap().1.split_once(']').unwrap().0.to_owned();
    let keywords: Vec<String> = (0..500).map(|number| format!("{number:0100}")).collect();
    imap.ok(&format!("STORE 1:{MESSAGES} +FLAGS.SILENT ({})", keywords.join(" ")));
    imap.ok("FETCH 1 FLAGS");
    let pieces: String = (0..199).map(|at| format!(" BODY.PEEK[HEADER.FIELDS (Subject)]<{at}.20000>")).collect();
    let resync = format!("SELECT INBOX (QRESYNC ({validity} 1))");
    for (before, command, answers, done) in [
        ("EXAMINE INBOX", format!("FETCH 1:{MESSAGES} FLAGS"), MESSAGES, "OK FETCH done"),
        ("EXAMINE INBOX", format!("FETCH 1:{MESSAGES} (FLAGS ENVELOPE)"), MESSAGES, "OK FETCH done"),
        ("EXAMINE INBOX", format!("FETCH 1:{MESSAGES} (FLAGS BODY.PEEK[])"), MESSAGES, "OK FETCH done"),
        ("SELECT INBOX", format!("STORE 1:{MESSAGES} +FLAGS (\\Seen)"), MESSAGES, "OK STORE done"),
        ("ENABLE QRESYNC", resync, MESSAGES, "OK [READ-WRITE]"),
        ("EXAMINE Large", format!("FETCH 1:8 (ENVELOPE{pieces})"), 8, "OK FETCH done"),
    ] {
        let mut imap = gate.imap(ANN, APP);
        imap.ok(before);
        let held = memory(&gate);
        let tag = imap.send(&command);
        let most = most_held(&gate, held);
        assert!(most < 6 * 1024 * 1024, "{most} bytes are held for {command:.60}");
        // Whoever reads gets all of it.
        let reply = imap.finish(&tag);
        let fetched = reply.lines().iter().filter(|line| line.contains(" FETCH (")).count();
        assert_eq!((fetched, reply.status.starts_with(done)), (answers, true), "{command:.60}: {}", reply.status);
    }
}
