//! SEARCH and its kin against the real binary: what they find, checked against a plain model, and what long searches cost
//! the others. Dialogs of single commands stand in `tests/transcripts/imap`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fmt, fs,
    time::{Duration, Instant},
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use support::{
    ANN, APP, Gate, POLICY, Setup,
    wire::{Imap, Reply},
};

/// What the model knows of a message.
struct Mail {
    flags: &'static str,
    subject: &'static str,
    from: &'static str,
    body: &'static str,
    /// Days of February 1994 on which it was received and sent.
    received: u32,
    sent: u32,
    size: usize,
}

const FLAGS: [&str; 5] = ["", "\\Seen", "\\Seen \\Flagged", "\\Deleted $Work", "$work \\Flagged"];
const SUBJECTS: [&str; 4] = ["plan", "Re: plan", "=?utf-8?q?K=C3=BChe?=", "lunch"];
const SENDERS: [&str; 3] = ["Ann <ann@example.com>", "bob@example.com", "Carl Plan <carl@example.org>"];
const BODIES: [&str; 4] = ["plan for today", "S=C3=BC=C3=9Fe K=C3=BChe", "c29tZXRoaW5nIGhpZGRlbg==", "nothing"];
/// The same as people read them.
const TEXTS: [&str; 4] = ["plan for today", "süße kühe", "something hidden", "nothing"];
const ENCODINGS: [&str; 4] = ["7bit", "quoted-printable", "base64", "8bit"];

fn mailbox(imap: &mut Imap) -> Vec<Mail> {
    let mut mails = Vec::new();
    for at in 0..40_usize {
        let (received, sent) = (1 + at as u32 * 7 % 20, 1 + at as u32 * 3 % 20);
        let (flags, subject, from) = (FLAGS[at % 5], SUBJECTS[at % 4], SENDERS[at % 3]);
        let body = at * 5 % 4;
        let message = format!(
            "From: {from}\r\nSubject: {subject}\r\nDate: {sent} Feb 1994 10:00:00 +0000\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {}\r\n\r\n{}{}\r\n",
            ENCODINGS[body],
            BODIES[body],
            "\r\n".repeat(at % 7)
        );
        let (tag, size) = (format!("m{at}"), message.len());
        imap.wire
            .send(&format!("{tag} APPEND INBOX ({flags}) \"{received:2}-Feb-1994 12:00:00 +0000\" {{{size}+}}"));
        imap.wire.send(&message);
        let reply = imap.finish(&tag);
        assert!(reply.status.starts_with("OK"), "{}", reply.status);
        let (subject, body) = (["plan", "re: plan", "kühe", "lunch"][at % 4], TEXTS[body]);
        mails.push(Mail { flags, subject, from, body, received, sent, size });
    }
    mails
}

/// A search key as it is sent and as the model judges it.
#[derive(Clone)]
enum Key {
    All,
    Flag(&'static str),
    NoFlag(&'static str),
    Keyword(&'static str),
    Numbers(u32, u32),
    Uids(u32, u32),
    Larger(usize),
    Smaller(usize),
    Before(u32),
    On(u32),
    Since(u32),
    SentBefore(u32),
    SentOn(u32),
    SentSince(u32),
    From(&'static str),
    Subject(&'static str),
    Body(&'static str),
    Text(&'static str),
    Not(Box<Key>),
    Or(Box<Key>, Box<Key>),
    And(Vec<Key>),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => write!(f, "ALL"),
            Self::Flag(name) => write!(f, "{name}"),
            Self::NoFlag(name) => write!(f, "UN{name}"),
            Self::Keyword(name) => write!(f, "KEYWORD {name}"),
            Self::Numbers(low, high) => write!(f, "{low}:{high}"),
            Self::Uids(low, high) => write!(f, "UID {high}:{low}"),
            Self::Larger(size) => write!(f, "LARGER {size}"),
            Self::Smaller(size) => write!(f, "SMALLER {size}"),
            Self::Before(day) => write!(f, "BEFORE {day}-Feb-1994"),
            Self::On(day) => write!(f, "ON {day}-Feb-1994"),
            Self::Since(day) => write!(f, "SINCE {day}-Feb-1994"),
            Self::SentBefore(day) => write!(f, "SENTBEFORE {day}-Feb-1994"),
            Self::SentOn(day) => write!(f, "SENTON {day}-Feb-1994"),
            Self::SentSince(day) => write!(f, "SENTSINCE {day}-Feb-1994"),
            Self::From(text) => write!(f, "FROM \"{text}\""),
            Self::Subject(text) => write!(f, "SUBJECT \"{text}\""),
            Self::Body(text) => write!(f, "BODY \"{text}\""),
            Self::Text(text) => write!(f, "TEXT \"{text}\""),
            Self::Not(key) => write!(f, "NOT {key}"),
            Self::Or(one, other) => write!(f, "OR {one} {other}"),
            Self::And(keys) => write!(f, "({})", keys.iter().map(Key::to_string).collect::<Vec<_>>().join(" ")),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Key {
    fn fits(&self, number: u32, mail: &Mail) -> bool {
        let has = |name: &str| {
            let name = name.to_lowercase();
            mail.flags.to_lowercase().split(' ').any(|flag| flag.trim_start_matches('\\') == name)
        };
        let holds = |text: &str, part: &str| text.to_lowercase().contains(&part.to_lowercase());
        match self {
            Self::All => true,
            Self::Flag(name) | Self::Keyword(name) => has(name),
            Self::NoFlag(name) => !has(name),
            Self::Numbers(low, high) | Self::Uids(low, high) => (low.min(high)..=high.max(low)).contains(&&number),
            Self::Larger(size) => mail.size > *size,
            Self::Smaller(size) => mail.size < *size,
            Self::Before(day) => mail.received < *day,
            Self::On(day) => mail.received == *day,
            Self::Since(day) => mail.received >= *day,
            Self::SentBefore(day) => mail.sent < *day,
            Self::SentOn(day) => mail.sent == *day,
            Self::SentSince(day) => mail.sent >= *day,
            Self::From(text) => holds(mail.from, text),
            Self::Subject(text) => holds(mail.subject, text),
            Self::Body(text) => holds(mail.body, text),
            // Of the other fields only one of the texts is a part.
            Self::Text(text) => {
                [mail.from, mail.subject, mail.body, "Content"].iter().any(|part| holds(part, text))
            }
            Self::Not(key) => !key.fits(number, mail),
            Self::Or(one, other) => one.fits(number, mail) || other.fits(number, mail),
            Self::And(keys) => keys.iter().all(|key| key.fits(number, mail)),
        }
    }
}

fn any_key() -> impl Strategy<Value = Key> {
    let flag = || prop::sample::select(vec!["SEEN", "FLAGGED", "DELETED"]);
    let text = || prop::sample::select(vec!["plan", "kühe", "ANN", "hidden", "today", "n", "nowhere"]);
    let leaf = prop_oneof![
        Just(Key::All),
        flag().prop_map(Key::Flag),
        flag().prop_map(Key::NoFlag),
        Just(Key::Keyword("$WORK")),
        (1..60_u32, 1..60_u32).prop_map(|(a, b)| Key::Numbers(a, b)),
        (1..40_u32, 1..60_u32).prop_map(|(a, b)| Key::Uids(a, b)),
        (200..300_usize).prop_map(Key::Larger),
        (200..300_usize).prop_map(Key::Smaller),
        (1..21_u32).prop_map(Key::Before),
        (1..21_u32).prop_map(Key::On),
        (1..21_u32).prop_map(Key::Since),
        (1..21_u32).prop_map(Key::SentBefore),
        (1..21_u32).prop_map(Key::SentOn),
        (1..21_u32).prop_map(Key::SentSince),
        text().prop_map(Key::From),
        text().prop_map(Key::Subject),
        text().prop_map(Key::Body),
        text().prop_map(Key::Text),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|key| Key::Not(Box::new(key))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Key::Or(Box::new(a), Box::new(b))),
            prop::collection::vec(inner, 1..4).prop_map(Key::And),
        ]
    })
}

/// `2,4:6` for these numbers.
fn as_set(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => one.to_string(),
        _ => format!("{}:{}", run[0], run[run.len() - 1]),
    });
    runs.collect::<Vec<_>>().join(",")
}

#[test]
fn any_search_finds_what_reading_every_message_would() {
    let gate = Gate::start();
    let mut imap = gate.imap(ANN, APP);
    let mails = mailbox(&mut imap);
    imap.ok("SELECT INBOX");
    let imap = std::cell::RefCell::new(imap);
    let mut runner = TestRunner::new(Config { cases: 300, ..Config::default() });
    let checked = runner.run(&any_key(), |key| {
        let found: Vec<u32> = (1..).zip(&mails).filter(|(n, mail)| key.fits(*n, mail)).map(|(n, _)| n).collect();
        let lines = |command: &str| imap.borrow_mut().ok(command).lines();
        let words = found.iter().map(|n| format!(" {n}")).collect::<String>();
        prop_assert_eq!(lines(&format!("SEARCH {key}")), [format!("* SEARCH{words}")]);
        let told = |name: &str, number: Option<&u32>| number.map(|n| format!(" {name} {n}")).unwrap_or_default();
        let (min, max) = (told("MIN", found.first()), told("MAX", found.last()));
        let all = if found.is_empty() { String::new() } else { format!(" ALL {}", as_set(&found)) };
        for (options, expected) in [
            ("MIN", min.clone()),
            ("MAX", max.clone()),
            ("MIN MAX", format!("{min}{max}")),
            ("COUNT ALL MIN MAX", format!("{min}{max} COUNT {}{all}", found.len())),
        ] {
            let got = lines(&format!("UID SEARCH RETURN ({options}) {key}")).concat();
            let got = got.split_once(") UID").map(|(_, data)| data.to_owned());
            prop_assert_eq!(got, Some(expected), "{}", options);
        }
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
}

/// A mailbox that takes a long time to search: one large message many times over.
fn slow_mailbox(gate: &Gate, count: usize) {
    let line = "bG9uZyB0ZXh0IHdpdGhvdXQgd2hhdCBpcyBsb29rZWQgZm9yIG9uIG1hbnkgbWFueSBsaW5lcyAu\r\n";
    let mut message = String::from(
        "Subject: large\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n",
    );
    while message.len() < 6 * 1024 * 1024 {
        message.push_str(line);
    }
    let root = gate.maildir(ANN);
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    let (first, size) = (root.join("tmp/large"), message.len());
    fs::write(&first, message).unwrap();
    for at in 0..count {
        // The sizes in the name spare the first look at the mailbox reading it all.
        fs::hard_link(&first, root.join(format!("new/17000{at:05}.M1P1.host,S={size},W={size}"))).unwrap();
    }
    fs::remove_file(first).unwrap();
}

/// A gate whose mailbox takes at least half a minute to search, and a session in it that has just begun to.
fn searching(limits: &str) -> (Gate, Imap, String) {
    let gate = Gate::with(Setup { limits: format!("failed_login_delay_s = 0\n{limits}"), ..Setup::default() });
    slow_mailbox(&gate, 2000);
    let mut imap = gate.imap(ANN, APP);
    let opened = imap.ok("SELECT INBOX");
    assert!(opened.lines().contains(&"* 2000 EXISTS".to_owned()), "{:?}", opened.lines());
    let tag = imap.send("SEARCH BODY \"not to be found\"");
    assert!(imap.wire.is_silent_for(Duration::from_millis(500)), "the search is not long enough for this test");
    (gate, imap, tag)
}

#[test]
fn a_search_ends_when_its_client_goes_away() {
    // The one place of this user is free again only when the session is over.
    let (gate, imap, _) = searching("sessions_per_user = 1\n");
    assert!(!gate.admits(ANN, APP), "the search still goes on");
    let left = Instant::now();
    drop(imap);
    while !gate.admits(ANN, APP) {
        assert!(left.elapsed() < Duration::from_secs(5), "the session outlives its client");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_long_search_tells_so_keeps_nobody_waiting_and_falls_with_the_right_to_it() {
    let (gate, mut imap, tag) = searching("progress_s = 1\n");

    let mut other = gate.imap(ANN, APP);
    other.ok("SELECT INBOX");
    let mut waits: Vec<Duration> = (0..100)
        .map(|_| {
            let asked = Instant::now();
            other.ok("NOOP");
            asked.elapsed()
        })
        .collect();
    waits.sort();
    assert!(waits[98] < Duration::from_secs(1), "NOOP beside a search took {:?}", waits[98]);
    // Another search of the same mailbox, by what the index knows.
    assert_eq!(other.ok("SEARCH RETURN (COUNT) UNSEEN").lines().len(), 1);

    let told = imap.wire.line();
    let code = format!("* OK [INPROGRESS (\"{tag}\" ");
    let done = told.strip_prefix(&code).and_then(|rest| rest.split_once(" 2000)] ")).map(|(done, _)| done);
    assert!(done.is_some_and(|done| done.parse::<u32>().is_ok_and(|n| n < 2000)), "{told}");
    // What comes meanwhile waits for its turn: the right to be here ends before.
    imap.send("NOOP");

    gate.set_policy(&POLICY.replace("imap = \"any\"", "imap = \"off\""));
    let since = Instant::now();
    let (text, at) = imap.bye();
    assert!(text.contains("IMAP access is disabled"), "{text}");
    assert!(at - since < Duration::from_secs(2), "the BYE took {:?}", at - since);
}

#[test]
fn commands_that_come_during_a_search_are_answered_after_it() {
    let gate = Gate::start();
    slow_mailbox(&gate, 4);
    let mut imap = gate.imap(ANN, APP);
    imap.ok("SELECT INBOX");
    let searched = imap.send("SEARCH BODY \"not to be found\"");
    std::thread::sleep(Duration::from_millis(400));
    let (noop, fetched) = (imap.send("NOOP"), imap.send("FETCH 1 UID"));
    let lines = |reply: Reply| reply.lines();
    assert_eq!(lines(imap.finish(&searched)), ["* SEARCH"]);
    assert_eq!(lines(imap.finish(&noop)), [""; 0]);
    assert_eq!(lines(imap.finish(&fetched)), ["* 1 FETCH (UID 1)"]);
}

#[test]
fn a_message_that_another_program_renamed_or_removed_is_found_or_passed_over() {
    let gate = Gate::start();
    for word in ["one", "two", "three", "four"] {
        gate.deliver(ANN, format!("Subject: {word}\r\n\r\nbody of {word}\r\n").as_bytes());
    }
    let mut imap = gate.imap(ANN, APP);
    imap.ok("SELECT INBOX");
    let root = gate.maildir(ANN);
    let mut files: Vec<_> = fs::read_dir(root.join("cur")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let of = |word: &str| {
        let holds = |file: &&std::path::PathBuf| fs::read_to_string(file).unwrap().contains(word);
        files.iter().find(holds).unwrap().clone()
    };
    let (renamed, removed) = (of("body of two"), of("body of three"));
    fs::rename(&renamed, format!("{}F", renamed.display())).unwrap();
    fs::remove_file(removed).unwrap();
    assert_eq!(imap.ok("SEARCH BODY \"body of\"").lines()[0], "* SEARCH 1 2 4");
    assert_eq!(imap.ok("SORT (SUBJECT) UTF-8 FLAGGED").lines()[0], "* SORT 2");
}

#[test]
fn a_message_is_found_by_the_id_that_fetch_tells_in_every_mailbox_it_was_copied_to() {
    let gate = Gate::start();
    let mut imap = gate.imap(ANN, APP);
    for word in ["one", "two", "three"] {
        imap.append("INBOX", "", format!("Subject: {word}\r\n\r\n{word}\r\n").as_bytes());
    }
    imap.ok("SELECT INBOX");
    let told = imap.ok("FETCH 2 EMAILID").lines().concat();
    let id = told.split_once("EMAILID (").and_then(|(_, rest)| rest.split_once(')')).unwrap().0.to_owned();
    assert_eq!(imap.ok(&format!("SEARCH EMAILID {id}")).lines(), ["* SEARCH 2"]);
    assert_eq!(imap.ok(&format!("SEARCH NOT EMAILID {id}")).lines(), ["* SEARCH 1 3"]);
    // IDs are told apart by letter case (RFC 8474 section 4).
    assert_eq!(imap.ok(&format!("SEARCH EMAILID {}", id.to_lowercase())).lines(), ["* SEARCH"]);
    assert_eq!(imap.ok(&format!("SEARCH EMAILID {id}0")).lines(), ["* SEARCH"]);
    imap.ok("COPY 2 Archive");
    imap.ok("SELECT Archive");
    assert_eq!(imap.ok(&format!("SEARCH EMAILID {id}")).lines(), ["* SEARCH 1"]);
}
