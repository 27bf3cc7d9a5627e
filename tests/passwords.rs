//! Every way to hand over a password, on the wire: refused before the password is read, the same whether it is right or
//! wrong, recorded for the report of legacy sign-ins, and the password itself is nowhere.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;

use base64::{Engine, engine::general_purpose::STANDARD};
use support::{
    ANN, APP, Gate, Setup,
    wire::{Imap, Pop},
};

/// Would be somebody's, if there were passwords.
const PASSWORD: &str = "Tr0ub4dor-and-3";
/// `\0ann@example.com\0Tr0ub4dor-and-3`, as SASL PLAIN has it.
const PLAIN: &str = "AGFubkBleGFtcGxlLmNvbQBUcjB1YjRkb3ItYW5kLTM=";
/// The password alone, as SASL LOGIN has it.
const ALONE: &str = "VHIwdWI0ZG9yLWFuZC0z";

const IMAP_TEXT: &str = "NO [ALERT] Passwords are not accepted; sign in with OAuth (XOAUTH2 or OAUTHBEARER). (ref ";
const POP_TEXT: &str = "-ERR [AUTH] Passwords are not accepted; sign in with OAuth (XOAUTH2 or OAUTHBEARER). (ref ";

/// What is sent before an answer is waited for, how the audit log names the way, whom it names, and what may be sent
/// after the refusal though nobody asked for it.
type Way = (&'static str, &'static str, Option<&'static str>, &'static str);

const IMAP_WAYS: &[Way] = &[
    ("a LOGIN ann@example.com Tr0ub4dor-and-3\r\n", "LOGIN", Some(ANN), ""),
    ("a login \"ann@example.com\" \"Tr0ub4dor-and-3\"\r\n", "LOGIN", Some(ANN), ""),
    ("a LOGIN {15}\r\n", "LOGIN", None, ""),
    ("a LOGIN ann@example.com {15}\r\n", "LOGIN", Some(ANN), "Tr0ub4dor-and-3\r\n"),
    ("a LOGIN \"ann@example.com\" {15+}\r\nTr0ub4dor-and-3\r\n", "LOGIN", Some(ANN), ""),
    ("a LOGIN {15+}\r\nann@example.com {15+}\r\nTr0ub4dor-and-3\r\n", "LOGIN", None, ""),
    ("a LOGIN Tr0ub4dor-and-3\r\n", "LOGIN", None, ""),
    ("a AUTHENTICATE PLAIN\r\n", "AUTHENTICATE PLAIN", None, "AGFubkBleGFtcGxlLmNvbQBUcjB1YjRkb3ItYW5kLTM=\r\n"),
    ("a authenticate plain AGFubkBleGFtcGxlLmNvbQBUcjB1YjRkb3ItYW5kLTM=\r\n", "AUTHENTICATE PLAIN", None, ""),
    ("a AUTHENTICATE LOGIN\r\n", "AUTHENTICATE LOGIN", None, "VHIwdWI0ZG9yLWFuZC0z\r\n"),
    ("a AUTHENTICATE LOGIN VHIwdWI0ZG9yLWFuZC0z\r\n", "AUTHENTICATE LOGIN", None, ""),
    ("a AUTHENTICATE CRAM-MD5\r\n", "AUTHENTICATE CRAM-MD5", None, ""),
    ("a AUTHENTICATE CRAM-MD5 VHIwdWI0ZG9yLWFuZC0z\r\n", "AUTHENTICATE CRAM-MD5", None, ""),
    ("a AUTHENTICATE SCRAM-SHA-256\r\n", "AUTHENTICATE SCRAM-SHA-256", None, ""),
    ("a AUTHENTICATE SCRAM-SHA-256 biwsbj1hbm4scj1hYmM=\r\n", "AUTHENTICATE SCRAM-SHA-256", None, ""),
    ("a AUTHENTICATE GSSAPI\r\n", "AUTHENTICATE GSSAPI", None, ""),
    ("a AUTHENTICATE GSSAPI YIIBmQ==\r\n", "AUTHENTICATE GSSAPI", None, ""),
    ("a AUTHENTICATE NTLM\r\n", "AUTHENTICATE NTLM", None, ""),
    ("a AUTHENTICATE NTLM TlRMTVNTUAAB\r\n", "AUTHENTICATE NTLM", None, ""),
    ("a AUTHENTICATE DIGEST-MD5\r\n", "AUTHENTICATE DIGEST-MD5", None, ""),
];

const POP_WAYS: &[Way] = &[
    ("USER ann@example.com\r\n", "USER", Some(ANN), "PASS Tr0ub4dor-and-3\r\n"),
    ("user ann@example.com\r\n", "USER", Some(ANN), ""),
    ("PASS Tr0ub4dor-and-3\r\n", "PASS", None, ""),
    ("APOP ann@example.com c4c9334bac560ecc979e58001b3e22fb\r\n", "APOP", Some(ANN), ""),
    ("AUTH PLAIN\r\n", "AUTH PLAIN", None, "AGFubkBleGFtcGxlLmNvbQBUcjB1YjRkb3ItYW5kLTM=\r\n"),
    ("AUTH PLAIN AGFubkBleGFtcGxlLmNvbQBUcjB1YjRkb3ItYW5kLTM=\r\n", "AUTH PLAIN", None, ""),
    ("auth login VHIwdWI0ZG9yLWFuZC0z\r\n", "AUTH LOGIN", None, ""),
    ("AUTH CRAM-MD5\r\n", "AUTH CRAM-MD5", None, ""),
    ("AUTH SCRAM-SHA-256 biwsbj1hbm4scj1hYmM=\r\n", "AUTH SCRAM-SHA-256", None, ""),
    ("AUTH GSSAPI\r\n", "AUTH GSSAPI", None, ""),
    ("AUTH NTLM TlRMTVNTUAAB\r\n", "AUTH NTLM", None, ""),
];

/// The reference in `.. (ref 7F3K2Q)`.
fn reference(line: &str) -> String {
    let (_, rest) = line.rsplit_once("(ref ").unwrap_or_else(|| panic!("no reference in {line}"));
    rest.trim_end_matches(')').to_owned()
}

fn verbose() -> Gate {
    let limits = "failed_login_delay_s = 0\nfailed_logins = 100\n".to_owned();
    Gate::with(Setup { limits, environment: vec![("RUST_LOG", "trace")], ..Setup::default() })
}

#[test]
fn every_password_way_is_refused_before_the_password_is_read_and_recorded_without_it() {
    assert_eq!(STANDARD.encode(format!("\0{ANN}\0{PASSWORD}")), PLAIN);
    assert_eq!(STANDARD.encode(PASSWORD), ALONE);
    let gate = verbose();
    let mut told = Vec::new();
    for (sent, how, user, after) in IMAP_WAYS {
        let mut imap = Imap::connect(&gate);
        imap.ok("ID (\"name\" \"Oldmail\" \"version\" \"2.1\")");
        imap.wire.send_bytes(sent.as_bytes());
        let answer = imap.wire.line();
        assert!(answer.strip_prefix("a ").is_some_and(|a| a.starts_with(IMAP_TEXT)), "{sent:?}: {answer}");
        told.push((reference(&answer), "imap", how, user));
        // A program that sends its password all the same hears of a bad line, in which nothing of it is repeated.
        if !after.is_empty() {
            imap.wire.send_bytes(after.as_bytes());
            let answer = imap.wire.line();
            assert!(answer.starts_with("* BAD "), "{sent:?}: {answer}");
        }
        imap.ok("NOOP");
    }
    for (sent, how, user, after) in POP_WAYS {
        let mut pop = Pop::connect(&gate);
        pop.wire.send_bytes(sent.as_bytes());
        let answer = pop.wire.line();
        assert!(answer.starts_with(POP_TEXT), "{sent:?}: {answer}");
        told.push((reference(&answer), "pop", how, user));
        if !after.is_empty() {
            pop.wire.send_bytes(after.as_bytes());
            let answer = pop.wire.line();
            assert!(answer.starts_with("-ERR ") && !answer.contains(after.trim_end()), "{sent:?}: {answer}");
        }
        assert_eq!(pop.command("QUIT"), "+OK goodbye", "{sent:?}");
    }
    let last = told.last().unwrap().0.clone();
    let rows = gate.audit_with(&["--cause", "legacy_password"], 1, |row| row["reference"] == last.as_str());
    for (reference, service, how, user) in told {
        let row = rows.iter().find(|row| row["reference"] == reference.as_str());
        let row = row.unwrap_or_else(|| panic!("{how}: no row of reference {reference}"));
        assert_eq!((&row["event"], &row["outcome"]), (&"legacy_password".into(), &"no".into()), "{how}");
        assert_eq!(row["service"], service, "{how}");
        assert_eq!(row["detail"], format!("password sign-in by {how}"), "{how}");
        assert_eq!(row.get("claimed").and_then(|v| v.as_str()), *user, "{how}: {row}");
        let program = (service == "imap").then_some("Oldmail 2.1");
        assert_eq!(row.get("program").and_then(|v| v.as_str()), program, "{how}: {row}");
        assert!(row["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{how}: {row}");
    }
    assert_eq!(rows.iter().filter(|row| row["user"] == ANN || row["claimed"] == ANN).count(), 4 + 3);
    assert_eq!(
        gate.audit(&["--cause", "legacy_password", "--user", ANN]).len(),
        4 + 3,
        "found by the claimed user"
    );
    nowhere(&gate, &[PASSWORD, PLAIN, ALONE, "c4c9334bac560ecc979e58001b3e22fb", "biwsbj1hbm4scj1hYmM"]);
}

#[test]
fn a_right_token_leaves_no_trace_of_itself_either() {
    let gate = verbose();
    let token = gate.token(ANN, APP);
    let signature = token.rsplit('.').next().unwrap();
    let (mut imap, mut pop) = (Imap::connect(&gate), Pop::connect(&gate));
    imap.xoauth2(ANN, &token);
    pop.xoauth2(ANN, &token);
    imap.ok("LOGOUT");
    pop.command("QUIT");
    let bad = format!("{}AAAA", token);
    let mut imap = Imap::connect(&gate);
    let blob = support::wire::xoauth2(ANN, &bad);
    assert!(imap.command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status.starts_with("NO [AUTHENTICATIONFAILED]"));
    gate.audit_with(&["--user", ANN], 3, |row| row["event"] == "login");
    nowhere(&gate, &[signature, &token[..60], &blob[..60], &support::wire::xoauth2(ANN, &token)[40..100]]);
}

/// None of these in what the gate logged, at the most talkative level, nor in any file it keeps.
fn nowhere(gate: &Gate, secrets: &[&str]) {
    let mut places = vec![("the log".to_owned(), gate.log().into_bytes())];
    assert!(gate.log().contains("TRACE") || gate.log().contains("DEBUG"), "the log is not at its most talkative");
    for entry in fs::read_dir(gate.dir().join("data")).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            places.push((entry.path().display().to_string(), fs::read(entry.path()).unwrap()));
        }
    }
    assert!(places.iter().any(|(name, bytes)| name.contains("portcullis.db") && !bytes.is_empty()));
    for (name, bytes) in &places {
        for secret in secrets {
            let found = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
            let around = found.map(|at| {
                String::from_utf8_lossy(&bytes[at.saturating_sub(200)..(at + 100).min(bytes.len())]).into_owned()
            });
            assert!(found.is_none(), "{secret:?} is in {name}: {around:?}");
        }
    }
}

#[test]
fn passwords_are_not_offered() {
    let gate = Gate::start();
    let mut imap = Imap::connect(&gate);
    let shown = imap.ok("CAPABILITY").lines().join(" ");
    for capabilities in [imap.greeting.clone(), shown] {
        assert!(capabilities.contains(" LOGINDISABLED"), "{capabilities}");
        let offered: Vec<&str> = capabilities.split([' ', ']']).filter(|word| word.starts_with("AUTH=")).collect();
        assert_eq!(offered, ["AUTH=XOAUTH2", "AUTH=OAUTHBEARER"], "{capabilities}");
    }
    let mut pop = Pop::connect(&gate);
    let capabilities = String::from_utf8(pop.long("CAPA")).unwrap();
    assert!(!capabilities.lines().any(|line| line.starts_with("USER") || line.contains("APOP")), "{capabilities}");
    assert!(capabilities.contains("SASL XOAUTH2 OAUTHBEARER\r\n"), "{capabilities}");
    assert_eq!(String::from_utf8(pop.long("AUTH")).unwrap(), "XOAUTH2\r\nOAUTHBEARER\r\n");
}

#[test]
fn signed_in_or_not_a_password_opens_nothing() {
    let gate = Gate::start();
    let mut imap = gate.imap(ANN, APP);
    for line in ["LOGIN ann@example.com x", "AUTHENTICATE PLAIN"] {
        let reply = imap.command(line);
        assert_eq!(reply.status, "BAD Already signed in", "{line}");
    }
    let mut pop = gate.pop(ANN, APP);
    for line in ["USER ann@example.com", "PASS x", "AUTH PLAIN"] {
        assert_eq!(pop.command(line), "-ERR you are signed in already", "{line}");
    }
}
