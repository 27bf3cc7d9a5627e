//! Real mail programs read and write a mailbox over IMAPS: every message byte for byte, flags both ways, and each
//! refusal in the words its user should see. What each program sends was read off the wire beforehand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{fs, path::Path};

use support::{
    ANN, APP, Gate, OTHER_APP,
    mail::{self, Mail},
    program::{self, Home, Outcome, run},
};

/// `Entwürfe` and `Entwürfe/日本` in modified UTF-7 (RFC 3501 section 5.1.3).
const DRAFTS: &str = "Entw&APw-rfe";
const JAPAN: &str = "Entw&APw-rfe/&ZeVnLA-";

/// A gate whose `ann` has all hard cases in INBOX, delivered by a mail transfer agent, and two of them in each of two
/// folders with names outside ASCII, put there by APPEND. Also gives the messages that the three hold together.
fn gate_with_mail() -> (Gate, Vec<Mail>) {
    let gate = Gate::start();
    let inbox = mail::hard_cases();
    for mail in &inbox {
        gate.deliver(ANN, &mail.wire);
    }
    let mut all = inbox.clone();
    let mut imap = gate.imap(ANN, APP);
    for folder in [DRAFTS, JAPAN] {
        imap.ok(&format!("CREATE \"{folder}\""));
        imap.ok(&format!("SUBSCRIBE \"{folder}\""));
        for (mail, flags) in inbox.iter().zip([r"\Seen", r"\Flagged $Forwarded"]) {
            imap.append(folder, flags, &mail.wire);
            all.push(mail.clone());
        }
    }
    imap.ok("LOGOUT");
    (gate, all)
}

/// A sign-in that must fail, and the words that tell the user why.
struct NoEntry {
    case: &'static str,
    user: &'static str,
    token: String,
    code: &'static str,
    words: &'static [&'static str],
}

fn no_entries(gate: &Gate) -> [NoEntry; 3] {
    [
        NoEntry {
            case: "an expired token",
            user: ANN,
            token: gate.token_for(ANN, APP, -3600),
            code: "[AUTHENTICATIONFAILED]",
            words: &["token"],
        },
        NoEntry {
            case: "IMAP off for the unit",
            user: "olaf@example.com",
            token: gate.token("olaf@example.com", APP),
            code: "[CONTACTADMIN]",
            words: &["IMAP access is disabled for your domain."],
        },
        NoEntry {
            case: "an app that is not on the list",
            user: "lisa@example.com",
            token: gate.token("lisa@example.com", OTHER_APP),
            code: "[CONTACTADMIN]",
            words: &["Other Mail", OTHER_APP],
        },
    ]
}

/// Runs `program` for each sign-in that must fail; it must end badly (where `exits_badly`) and show the words.
fn shows_every_refusal(name: &str, exits_badly: bool, program: impl Fn(&Home) -> Outcome) {
    let gate = Gate::start();
    for no in no_entries(&gate) {
        let outcome = program(&Home::for_user(&gate, no.user, &no.token));
        let what = format!("{name}, {}", no.case);
        assert!(!exits_badly || !outcome.good, "{what}: should have failed\n{}", outcome.text);
        for words in no.words {
            outcome.expect_text(&what, words);
        }
    }
}

fn flags_of(gate: &Gate, folder: &str, subject: &str) -> Vec<String> {
    let mut imap = gate.imap(ANN, APP);
    let all = imap.read_all(folder);
    let line = format!("Subject: {subject}\r\n");
    let found = all.into_iter().find(|(_, bytes)| String::from_utf8_lossy(bytes).contains(&line));
    let mut flags = found.unwrap_or_else(|| panic!("no message {subject:?} in {folder}")).0;
    flags.retain(|flag| flag != "\\Recent");
    flags.sort();
    flags
}

// ---- curl ----

fn curl(home: &Home, arguments: &[&str]) -> Outcome {
    let mut command = home.command("curl");
    let (ca, user, token) = (home.value("CA"), home.value("USER"), home.value("TOKEN"));
    command.args(["--silent", "--show-error", "--max-time", "30", "--cacert", ca]);
    command.args(["--user", user, "--oauth2-bearer", token]).args(arguments);
    run(&mut command)
}

#[test]
fn curl_reads_every_message_with_oauthbearer() {
    if !program::have("curl") {
        return;
    }
    let (gate, _) = gate_with_mail();
    let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP));
    let mut got = Vec::new();
    for n in 1..=mail::hard_cases().len() {
        let url = format!("imaps://localhost:{}/INBOX;MAILINDEX={n}", gate.imaps);
        got.push(curl(&home, &[&url]).expect_good("curl").stdout);
    }
    mail::assert_same("curl", got, &mail::hard_cases());

    let folder = JAPAN.replace('&', "%26").replace('/', "%2F");
    let url = format!("imaps://localhost:{}/{folder};UID=1", gate.imaps);
    let seen = curl(&home, &["--verbose", &url]).expect_good("curl, folder");
    assert_eq!(seen.stdout, mail::hard_cases()[0].wire);
    seen.expect_text("curl", "AUTHENTICATE OAUTHBEARER");

    let url = format!("imaps://localhost:{}/INBOX", gate.imaps);
    curl(&home, &[&url, "--request", r"STORE 1 +FLAGS (\Flagged)"]).expect_good("curl STORE");
    let letter = home.path().join("letter.eml");
    fs::write(&letter, "Subject: uploaded\r\n\r\nby curl\r\n").unwrap();
    curl(&home, &[&url, "--upload-file", letter.to_str().unwrap()]).expect_good("curl APPEND");
    flags_of(&gate, "INBOX", "uploaded");
    assert!(gate.imap(ANN, APP).read_all("INBOX")[0].0.contains(&"\\Flagged".to_owned()));
}

#[test]
fn libcurl_reads_every_message_with_xoauth2() {
    if !program::have("python3:pycurl") {
        return;
    }
    let (gate, _) = gate_with_mail();
    let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP));
    let count = mail::hard_cases().len();
    let urls = (1..=count).map(|n| format!("imaps://localhost:{}/INBOX;MAILINDEX={n}", gate.imaps));
    run(home.python("curl_xoauth2.py").args(urls)).expect_good("libcurl");
    mail::assert_same("libcurl", mail::from_maildirs(home.path()), &mail::hard_cases());
}

#[test]
fn curl_shows_why_it_is_refused() {
    if !program::have("curl") {
        return;
    }
    shows_every_refusal("curl", true, |home| {
        curl(home, &["--verbose", &format!("imaps://localhost:{}/INBOX;UID=1", home.value("IMAPS"))])
    });
}

// ---- mbsync ----

fn mbsync(home: &Home, config: &str) -> Outcome {
    fs::create_dir_all(home.path().join("mail")).unwrap();
    run(home.command("mbsync").arg("--config").arg(home.config(config)).arg("all"))
}

/// mbsync adds a header of its own, `X-TUID`, to what it copies; the rest must be the message.
fn without_tuid(messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    messages.into_iter().map(|bytes| mail::without_header(&bytes, b"X-TUID: ")).collect()
}

#[test]
fn mbsync_copies_every_message_and_its_flags_both_ways() {
    if !program::have("mbsync") || !program::have("file:sasl2/libkdexoauth2.so") {
        return;
    }
    let (gate, all) = gate_with_mail();
    let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP));
    mbsync(&home, "mbsync.rc").expect_good("mbsync");
    let all: Vec<Mail> = all.into_iter().filter(|mail| mail.name != "header-only.eml").collect(); // it takes none such
    mail::assert_same("mbsync", without_tuid(mail::from_maildirs(&home.path().join("mail"))), &all);

    // The flags of the folder came along; changes made here go back, and so does a letter written here.
    let inbox = home.path().join("mail/INBOX");
    let plain = mail::file_with(&inbox, "Subject: plain\n");
    mail::rename_flags(&plain, "FRS");
    let letter = inbox.join("cur/1700000000.1_1.test:2,S");
    fs::write(&letter, "Subject: written here\n\nby mbsync\n").unwrap();
    mbsync(&home, "mbsync.rc").expect_good("mbsync, second run");
    assert_eq!(flags_of(&gate, "INBOX", "plain"), ["\\Answered", "\\Flagged", "\\Seen"]);
    assert_eq!(flags_of(&gate, "INBOX", "written here"), ["\\Seen"]);

    // And a deletion there reaches us.
    let mut imap = gate.imap(ANN, APP);
    imap.ok("SELECT INBOX");
    imap.ok(r"STORE 1:3 +FLAGS.SILENT (\Deleted)");
    imap.ok("EXPUNGE");
    let before = mail::from_maildirs(&inbox).len();
    mbsync(&home, "mbsync.rc").expect_good("mbsync, third run");
    assert_eq!(mail::from_maildirs(&inbox).len(), before - 3);
}

#[test]
fn mbsync_shows_why_it_is_refused() {
    if !program::have("mbsync") || !program::have("file:sasl2/libkdexoauth2.so") {
        return;
    }
    shows_every_refusal("mbsync", true, |home| mbsync(home, "mbsync.rc"));
}

#[test]
fn mbsync_with_a_password_finds_no_way_in_and_does_not_send_it() {
    if !program::have("mbsync") {
        return;
    }
    let gate = Gate::start();
    let outcome = mbsync(&Home::for_user(&gate, ANN, ""), "mbsync-password.rc");
    assert!(!outcome.good);
    assert!(!gate.log().contains("hunter2"));
}

// ---- offlineimap ----

fn offlineimap(home: &Home, config: &str) -> Outcome {
    run(home.command("offlineimap").arg("-o").arg("-c").arg(home.config(config)))
}

#[test]
fn offlineimap_copies_every_message_and_its_flags_both_ways() {
    if !program::have("offlineimap") {
        return;
    }
    let (gate, all) = gate_with_mail();
    let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP));
    offlineimap(&home, "offlineimap.rc").expect_good("offlineimap");
    let root = home.path().join("mail");
    mail::assert_same(
        "offlineimap",
        mail::from_maildirs(&root),
        &program::as_python_writes("offlineimap", &home, all),
    );

    let plain = mail::file_with(&root.join("INBOX"), "Subject: plain\n");
    let name = plain.file_name().unwrap().to_string_lossy().into_owned();
    mail::rename_flags(&plain, "FRS");
    assert!(name.contains(",U="), "offlineimap names files by UID: {name}");
    fs::write(root.join("INBOX/cur/1700000000_0.1.test:2,S"), "Subject: written here\n\nby offlineimap\n").unwrap();
    offlineimap(&home, "offlineimap.rc").expect_good("offlineimap, second run");
    assert_eq!(flags_of(&gate, "INBOX", "plain"), ["\\Answered", "\\Flagged", "\\Seen"]);
    assert_eq!(flags_of(&gate, "INBOX", "written here"), ["\\Seen"]);
}

#[test]
fn offlineimap_shows_why_it_is_refused() {
    if !program::have("offlineimap") {
        return;
    }
    shows_every_refusal("offlineimap", false, |home| offlineimap(home, "offlineimap.rc"));
}

#[test]
fn offlineimap_with_a_password_finds_no_way_in_and_does_not_send_it() {
    if !program::have("offlineimap") {
        return;
    }
    let gate = Gate::start();
    let outcome = offlineimap(&Home::for_user(&gate, ANN, ""), "offlineimap-password.rc");
    outcome.expect_text("offlineimap with a password", "ERROR");
    assert!(!gate.log().contains("hunter2"));
}

// ---- getmail ----

fn getmail(home: &Home, config: &str) -> Outcome {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(home.path().join("mail").join(part)).unwrap();
    }
    let file = home.config(config);
    run(home.command("getmail").arg("--getmaildir").arg(home.path()).arg("--rcfile").arg(file))
}

#[test]
fn getmail_copies_every_message() {
    if !program::have("getmail") {
        return;
    }
    let (gate, all) = gate_with_mail();
    let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP));
    getmail(&home, "getmail-imap.rc").expect_good("getmail");
    // It adds two headers of its own.
    let got = mail::from_maildirs(&home.path().join("mail")).into_iter();
    let got = got.map(|bytes| mail::without_header(&bytes, b"Return-Path: <unknown>"));
    let got = got.map(|bytes| mail::without_header(&bytes, b"X-getmail-retrieved-from-mailbox: ")).collect();
    mail::assert_same("getmail", got, &program::as_python_writes("getmail", &home, all));
}

#[test]
fn getmail_shows_why_it_is_refused() {
    if !program::have("getmail") {
        return;
    }
    shows_every_refusal("getmail", true, |home| getmail(home, "getmail-imap.rc"));
    let gate = Gate::start();
    let outcome = getmail(&Home::for_user(&gate, ANN, ""), "getmail-imap-password.rc");
    outcome.expect_text("getmail with a password", "Passwords are not accepted");
    assert!(!gate.log().contains("hunter2"));
}

// ---- mutt and neomutt ----

/// Keys for mutt: copies all messages to a Maildir. A key that finds nothing to do would throw away the rest.
const COPY_ALL: &str =
    "<tag-pattern>~A<enter><tag-prefix><copy-message>@HOME@/mail/copy<enter><untag-pattern>~A<enter>";
/// Keys for mutt: flags the message about `plain`.
const FLAG_PLAIN: &str = "<limit>~s plain<enter><flag-message><limit>~A<enter><sync-mailbox>";

fn mutt(program: &str, home: &Home) -> Outcome {
    fs::create_dir_all(home.path().join("cache")).unwrap();
    fs::create_dir_all(home.path().join("mail")).unwrap();
    let file = home.config("mutt.rc");
    run(&mut home.on_a_terminal(program, &format!("-n -F {}", file.display())))
}

fn mutt_reads_every_message(program: &str) {
    if !program::have(program) {
        return;
    }
    let (gate, all) = gate_with_mail();
    for (folder, mut mails) in [("INBOX", mail::hard_cases()), ("Entwürfe/日本", all[all.len() - 2..].to_vec())]
    {
        let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP)).with("FOLDER", folder);
        let flag = if folder == "INBOX" { FLAG_PLAIN } else { "" };
        let keys = COPY_ALL.replace("@HOME@", &home.path().display().to_string()) + flag;
        let home = home.with("SCRIPT", format!("push \"{keys}<quit>\""));
        let outcome = mutt(program, &home);
        let copies = mail::from_maildirs(&home.path().join("mail")).len();
        assert_eq!(copies, mails.len(), "{program} copied {copies} messages\n{}", outcome.text);
        // Into the copies it writes headers of its own; its cache holds the messages as they came (neomutt's not
        // those without a body).
        mails.retain(|mail| program == "mutt" || mail.name != "header-only.eml");
        mail::assert_same(program, cached(&home.path().join("cache")), &mails);
    }
    assert!(flags_of(&gate, "INBOX", "plain").contains(&"\\Flagged".to_owned()));
}

/// The program keeps what it saw, comes back after others changed the mailbox, and knows from QRESYNC what is there.
fn mutt_comes_back(program: &str) {
    if !program::have(program) {
        return;
    }
    let gate = Gate::start();
    for mail in mail::hard_cases() {
        gate.deliver(ANN, &mail.wire);
    }
    let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP)).with("FOLDER", "INBOX");
    let settings = format!(
        "set imap_condstore = yes\nset imap_qresync = yes\nset header_cache = \"{}/headers\"\n",
        home.path().display()
    );
    let visit = |home: Home, keys: &str| {
        let home = home.with("SCRIPT", format!("{settings}push \"{keys}<quit>\""));
        fs::create_dir_all(home.path().join("headers")).unwrap();
        fs::create_dir_all(home.path().join("cache")).unwrap();
        let file = home.config("mutt.rc");
        let outcome = run(&mut home.on_a_terminal(program, &format!("-d 3 -n -F {}", file.display())));
        let log = ["muttdebug0", "neomuttdebug0"].map(|name| fs::read(home.path().join(format!(".{name}"))));
        let log = log.into_iter().flatten().next().unwrap_or_default();
        (home, outcome, String::from_utf8_lossy(&log).into_owned())
    };
    let (home, ..) = visit(home, "");
    let mut imap = gate.imap(ANN, APP);
    imap.ok("SELECT INBOX");
    imap.ok("STORE 3 +FLAGS.SILENT (\\Flagged)");
    imap.ok("STORE 2,5:6 +FLAGS.SILENT (\\Deleted)");
    imap.ok("EXPUNGE");
    imap.append("INBOX", "", b"Subject: new\r\n\r\nnew\r\n");
    let left = imap.ok("UID SEARCH UNFLAGGED").lines();
    // It deletes what another program flagged.
    let (_, outcome, log) = visit(home, "<delete-pattern>~F<enter><sync-mailbox>");
    assert!(log.contains(" VANISHED)"), "{program} did not ask:\n{log}\n{}", outcome.text);
    assert!(log.contains("andling VANISHED"), "{program} was not told:\n{log}");
    imap.ok("NOOP");
    assert_eq!(imap.ok("UID SEARCH ALL").lines(), left, "{program}");
}

#[test]
fn mutt_comes_back_by_qresync_to_what_is_there() {
    mutt_comes_back("mutt");
}

#[test]
fn neomutt_comes_back_by_qresync_to_what_is_there() {
    mutt_comes_back("neomutt");
}

/// Every message in mutt's cache, in wire form.
fn cached(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match path.is_dir() {
            true => found.extend(cached(&path)),
            false => found.push(mail::with_crlf(&fs::read(path).unwrap())),
        }
    }
    found
}

#[test]
fn mutt_copies_every_message_and_writes_flags() {
    mutt_reads_every_message("mutt");
}

#[test]
fn neomutt_copies_every_message_and_writes_flags() {
    mutt_reads_every_message("neomutt");
}

#[test]
fn mutt_says_that_it_was_refused() {
    if !program::have("mutt") {
        return;
    }
    let gate = Gate::start();
    for no in no_entries(&gate) {
        let home = Home::for_user(&gate, no.user, &no.token);
        let file = home.config("mutt-refused.rc");
        let outcome = run(&mut home.on_a_terminal("mutt", &format!("-n -F {}", file.display())));
        // Over IMAP it has these words for every refusal, whatever the server says.
        outcome.expect_text(&format!("mutt, {}", no.case), "XOAUTH2 authentication failed.");
        outcome.expect_text(&format!("mutt, {}", no.case), "(no mailbox)");
    }
    let home = Home::for_user(&gate, ANN, "");
    let file = home.config("mutt-password.rc");
    run(&mut home.on_a_terminal("mutt", &format!("-n -F {}", file.display())));
    assert!(!gate.log().contains("hunter2"));
}

// ---- Python's imaplib ----

fn imaplib(home: &Home) -> Outcome {
    run(&mut home.python("imaplib_all.py"))
}

#[test]
fn imaplib_reads_every_message_in_whole_and_in_parts_and_writes_flags() {
    if !program::have("python3") {
        return;
    }
    for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
        let (gate, all) = gate_with_mail();
        let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP)).with("AUTH", mechanism);
        imaplib(&home).expect_good("imaplib");
        mail::assert_same("imaplib", mail::from_maildirs(&home.path().join("mail")), &all);
        let inbox = gate.imap(ANN, APP).read_all("INBOX");
        assert!(inbox[0].0.contains(&"$Forwarded".to_owned()), "{:?}", inbox[0].0);
        assert!(inbox[1].0.contains(&"\\Answered".to_owned()), "{:?}", inbox[1].0);
        assert_eq!(flags_of(&gate, "INBOX", "appended"), ["\\Draft"]);
    }
}

#[test]
fn imaplib_shows_why_it_is_refused() {
    if !program::have("python3") {
        return;
    }
    shows_every_refusal("imaplib", true, imaplib);
    let gate = Gate::start();
    for no in no_entries(&gate) {
        let what = format!("imaplib with OAUTHBEARER, {}", no.case);
        let outcome = imaplib(&Home::for_user(&gate, no.user, &no.token).with("AUTH", "OAUTHBEARER"));
        assert!(!outcome.good, "{what}");
        outcome.expect_text(&what, no.code);
    }
    let outcome = imaplib(&Home::for_user(&gate, ANN, "").with("PASSWORD", "hunter2"));
    outcome.expect_text("imaplib with a password", "[ALERT] Passwords are not accepted");
    assert!(!gate.log().contains("hunter2"));
}

// ---- imapflow ----

fn imapflow(home: &Home) -> Outcome {
    run(&mut home.node("imapflow_all.js"))
}

#[test]
fn imapflow_reads_every_message_writes_flags_moves_and_hears_news() {
    if !program::have("node:imapflow") {
        return;
    }
    let (gate, all) = gate_with_mail();
    let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP));
    let outcome = imapflow(&home).expect_good("imapflow");
    outcome.expect_text("imapflow", "Entwürfe/日本");
    outcome.expect_text("imapflow", "done");
    mail::assert_same("imapflow", mail::from_maildirs(&home.path().join("mail")), &all);
    let inbox = gate.imap(ANN, APP).read_all("INBOX");
    assert!(inbox[0].0.contains(&"$Label1".to_owned()), "{:?}", inbox[0].0);
    assert!(inbox[1].0.contains(&"\\Answered".to_owned()), "{:?}", inbox[1].0);
    let moved = "&ANY-ffentlich/&ZeVYMQ-";
    assert_eq!(flags_of(&gate, moved, "appended"), ["\\Draft"]);
}

#[test]
fn imapflow_shows_why_it_is_refused() {
    if !program::have("node:imapflow") {
        return;
    }
    shows_every_refusal("imapflow", true, imapflow);
    let gate = Gate::start();
    let outcome = imapflow(&Home::for_user(&gate, ANN, "x").with("PASSWORD", "hunter2"));
    assert!(!outcome.good);
    assert!(!gate.log().contains("hunter2"));
}
