//! A day with one's mail, the same for each program: list the folders, make one, flag, copy, search on the server and
//! move what was found, delete, read, and keep a letter of one's own. The store's files show whether it all happened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use support::{
    ANN, APP, Gate,
    mail::{self, Stored},
    program::{self, Home, Keyboard, Outcome, run},
};

/// So many letters lie in INBOX; number 3 speaks of a zebra.
const LETTERS: usize = 8;

fn morning() -> (Gate, Home) {
    let gate = Gate::start();
    let mut imap = gate.imap(ANN, APP);
    for number in 0..LETTERS {
        let bytes = letter(number);
        let tag = imap.send(&format!("APPEND INBOX () \" 1-Nov-2026 10:00:0{number} +0000\" {{{}+}}", bytes.len()));
        imap.wire.send_bytes(&[&bytes[..], b"\r\n"].concat());
        let status = imap.finish(&tag).status;
        assert!(status.starts_with("OK"), "{status}");
    }
    imap.ok("LOGOUT");
    let home = Home::for_user(&gate, ANN, &gate.token(ANN, APP));
    (gate, home)
}

fn letter(number: usize) -> Vec<u8> {
    let animal = if number == 3 { "Zebra" } else { "Horse" };
    format!(
        "From: Olaf <olaf@example.com>\r\nTo: {ANN}\r\nSubject: letter {number}\r\n\
         Message-ID: <letter{number}@example.com>\r\nDate: Sun, 01 Nov 2026 10:00:0{number} +0000\r\n\r\n\
         {animal} number {number}.\r\n"
    )
    .into_bytes()
}

/// Waits for what the day must leave behind: number 1 flagged, 2 also in `Work`, 3 only there, 4 nowhere, 5 read, 0
/// untouched, and the letter of `program` in `Sent`; every message once.
fn evening(gate: &Gate, program: &str) {
    let inbox = [0, 1, 2, 5, 6, 7].map(|number| ("INBOX".to_owned(), format!("letter {number}")));
    let work = [2, 3].map(|number| ("Work".to_owned(), format!("letter {number}")));
    let mut want: Vec<_> = inbox.into_iter().chain(work).collect();
    want.push(("Sent".to_owned(), format!("by {program}")));
    want.sort();
    let has = |all: &[Stored], number: usize, flag: char| {
        let subject = format!("letter {number}");
        all.iter().any(|mail| mail.folder == "INBOX" && mail.subject == subject && mail.is(flag))
    };
    mail::stored_when(&format!("the day is done with {program}, {want:?}"), &gate.maildir(ANN), |all| {
        let got: Vec<_> = all.iter().map(|mail| (mail.folder.clone(), mail.subject.clone())).collect();
        got == want && has(all, 1, 'F') && has(all, 5, 'S') && !has(all, 0, 'F') && !has(all, 0, 'S')
    });
    // Another program sees the same, and what was copied is what was written.
    let mut imap = gate.imap(ANN, APP);
    let listed = imap.ok("LIST \"\" *").lines().join("\n");
    assert!(listed.contains(" Work"), "{program}: {listed}");
    let bodies: BTreeSet<Vec<u8>> = imap.read_all("Work").into_iter().map(|(_, bytes)| bytes).collect();
    if !["mbsync", "offlineimap"].contains(&program) {
        assert_eq!(bodies, BTreeSet::from([letter(2), letter(3)]), "{program}");
    }
}

// ---- aerc ----

fn aerc(home: &Home) -> Command {
    let folder = home.path().join(".config/aerc");
    fs::create_dir_all(&folder).unwrap();
    fs::rename(home.config("aerc-accounts.conf"), folder.join("accounts.conf")).unwrap();
    fs::rename(home.config("aerc.conf"), folder.join("aerc.conf")).unwrap();
    fs::copy("/usr/share/aerc/binds.conf", folder.join("binds.conf")).unwrap();
    let mut command = home.on_a_terminal("sh", "-c 'stty rows 50 cols 200; exec aerc'");
    command.env("SSL_CERT_FILE", home.value("CA"));
    command
}

/// The newest letter is on top.
fn aerc_spends_a_day(mechanism: &str) {
    if !program::have("aerc") {
        return;
    }
    let (gate, home) = morning();
    let home = home.with("AUTH", mechanism);
    let root = gate.maildir(ANN);
    let when = |what: &str, good: &dyn Fn(&[Stored]) -> bool| mail::stored_when(what, &root, good);
    let piped = home.path().join("piped");
    let chosen =
        |number: usize| fs::read_to_string(&piped).unwrap_or_default().contains(&format!("letter {number}"));

    let mut aerc = Keyboard::new(&mut aerc(&home));
    // The list is there when a message of it can be read.
    let pipe = format!(":pipe -bm tee {}\r", piped.display());
    aerc.until_painted("Archive");
    let choose = |aerc: &mut Keyboard, keys: &str, number: usize| {
        aerc.press_until(&format!("letter {number} is chosen"), &format!("{keys}{pipe}"), || chosen(number));
    };
    choose(&mut aerc, ":select 6\r", 1);
    aerc.press(":flag\r");
    when("it is flagged", &|all| all.iter().any(|mail| mail.subject == "letter 1" && mail.is('F')));
    aerc.press(":mkdir Work\r");
    let begun = std::time::Instant::now();
    while !root.join(".Work/cur").is_dir() {
        assert!(begun.elapsed() < program::LIMIT, "no folder Work: {}", aerc.painted());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    choose(&mut aerc, ":cf INBOX\r:select 5\r", 2);
    // While it is still busy with the message before, it lets a command fall.
    let copied = || mail::stored(&root).iter().any(|mail| mail.folder == "Work");
    for _ in 0..10 {
        aerc.press(":copy Work\r");
        let pressed = std::time::Instant::now();
        while !copied() && pressed.elapsed() < std::time::Duration::from_secs(10) {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        if copied() {
            break;
        }
        // Out of whatever it may ask, and back to the message.
        aerc.press("\u{1b}");
        aerc.press(":cf INBOX\r:select 5\r");
    }
    assert!(copied(), "aerc does not copy: {}", aerc.painted());
    when("the copy is there", &|all| all.iter().any(|mail| mail.folder == "Work"));
    choose(&mut aerc, ":search -b zebra\r", 3);
    aerc.press(":move Work\r");
    when("the moved is there", &|all| {
        all.iter().all(|mail| mail.subject != "letter 3" || mail.folder == "Work") && all.len() == LETTERS + 1
    });
    choose(&mut aerc, ":clear\r:select 3\r", 4);
    aerc.press(":delete\r");
    when("it is deleted", &|all| all.iter().all(|mail| mail.subject != "letter 4"));
    choose(&mut aerc, ":select 2\r", 5);
    aerc.press(":view\r");
    when("it is read", &|all| all.iter().any(|mail| mail.subject == "letter 5" && mail.is('S')));
    aerc.press(":close\r:compose -H \"To: olaf@example.com\" -H \"Subject: by aerc\" Hello\r");
    aerc.until_painted("email?");
    aerc.press_until("it is sent", ":send\r", || mail::stored(&root).iter().any(|mail| mail.folder == "Sent"));
    aerc.press(":quit -f\r");
    drop(aerc);
    evening(&gate, "aerc");
}

#[test]
fn a_day_with_aerc() {
    aerc_spends_a_day("XOAUTH2");
}

#[test]
fn a_day_with_aerc_and_oauthbearer() {
    aerc_spends_a_day("OAUTHBEARER");
}

#[test]
fn aerc_shows_that_it_is_refused() {
    if !program::have("aerc") {
        return;
    }
    let gate = Gate::start();
    let home = Home::for_user(&gate, "olaf@example.com", &gate.token("olaf@example.com", APP));
    let aerc = Keyboard::new(&mut aerc(&home));
    aerc.until_painted("403"); // of the challenge; the text of the tagged NO it does not show
}

// ---- imapfilter ----

fn imapfilter(home: &Home) -> Outcome {
    let file = home.config("imapfilter.lua");
    run(home.command("imapfilter").arg("-t").arg(home.value("CA")).arg("-c").arg(file))
}

#[test]
fn a_day_with_imapfilter() {
    if !program::have("imapfilter") {
        return;
    }
    let (gate, home) = morning();
    let outcome = imapfilter(&home).expect_good("imapfilter");
    let folders = outcome.text.lines().find(|line| line.starts_with("folders")).unwrap_or_default();
    assert!(["INBOX", "Work", "Sent"].iter().all(|folder| folders.contains(folder)), "{}", outcome.text);
    outcome.expect_text("imapfilter", "Horse number 5.");
    outcome.expect_text("imapfilter", "unseen 5 flagged 1");
    evening(&gate, "imapfilter");
}

#[test]
fn imapfilter_says_that_it_was_refused() {
    if !program::have("imapfilter") {
        return;
    }
    let gate = Gate::start();
    let home = Home::for_user(&gate, "olaf@example.com", &gate.token("olaf@example.com", APP));
    let outcome = imapfilter(&home);
    assert!(!outcome.good, "{}", outcome.text);
    outcome.expect_text("imapfilter", "[CONTACTADMIN] IMAP access is disabled for your domain.");
}

// ---- S-nail ----

fn s_nail(home: &Home, day: &str) -> Outcome {
    let (rc, day) = (home.config("s-nail.rc"), home.config(day));
    let line = format!("s-nail -:u -# < {}", day.display());
    run(home.command("sh").arg("-c").arg(line).env("MAILRC", rc))
}

#[test]
fn a_day_with_s_nail() {
    if !program::have("s-nail") {
        return;
    }
    let (gate, home) = morning();
    let outcome = s_nail(&home, "s-nail.day").expect_good("S-nail");
    outcome.expect_text("S-nail", "Horse number 5.");
    evening(&gate, "s-nail");
}

#[test]
fn s_nail_says_that_it_was_refused() {
    if !program::have("s-nail") {
        return;
    }
    let gate = Gate::start();
    let home = Home::for_user(&gate, "olaf@example.com", &gate.token("olaf@example.com", APP));
    let outcome = s_nail(&home, "s-nail.day");
    outcome.expect_text("S-nail", "IMAP access is disabled for your domain.");
}

// ---- mutt and neomutt ----

/// Keys for mutt, in its list of folders: makes one. neomutt makes it when a copy goes there.
const MUTT_MAKES_A_FOLDER: &str = "<change-folder>?<create-mailbox>Work<enter><exit>";
/// Keys for both; what is to be found on the server stands behind `=b`.
const MUTT_DAY: &str = "<limit>~s letter.1<enter><flag-message>\
    <limit>~s letter.2<enter><copy-message>=Work<enter>\
    <limit>=b zebra<enter><save-message>=Work<enter>\
    <limit>~s letter.4<enter><delete-message>\
    <limit>~s letter.5<enter><display-message><exit>\
    <limit>~A<enter><sync-mailbox>\
    <mail>olaf@example.com<enter>by @NAME@<enter><send-message><quit>";

fn mutt_spends_a_day(name: &str) {
    if !program::have(name) {
        return;
    }
    let (gate, home) = morning();
    let settings = "set sendmail = /bin/true editor = true from = ann@example.com record = \"=Sent\"\n\
                    set abort_unmodified = no copy = yes\n";
    let keys = if name == "mutt" { MUTT_MAKES_A_FOLDER } else { "" };
    let keys = keys.to_owned() + &MUTT_DAY.replace("@NAME@", name);
    let home = home.with("FOLDER", "INBOX").with("SCRIPT", format!("{settings}push \"{keys}\""));
    fs::create_dir(home.path().join("cache")).unwrap();
    let file = home.config("mutt.rc");
    run(&mut home.on_a_terminal(name, &format!("-n -F {}", file.display()))).expect_good(name);
    evening(&gate, name);
}

#[test]
fn a_day_with_mutt() {
    mutt_spends_a_day("mutt");
}

#[test]
fn a_day_with_neomutt() {
    mutt_spends_a_day("neomutt");
}

// ---- curl ----

#[test]
fn a_day_with_curl() {
    if !program::have("curl") {
        return;
    }
    let (gate, home) = morning();
    let curl = |path: &str, arguments: &[&str]| {
        let mut command = home.command("curl");
        command.args(["--silent", "--show-error", "--max-time", "30", "--cacert", home.value("CA")]);
        command.args(["--user", ANN, "--oauth2-bearer", home.value("TOKEN")]).args(arguments);
        command.arg(format!("imaps://localhost:{}/{path}", gate.imaps));
        run(&mut command).expect_good(path)
    };
    curl("", &["--request", "CREATE Work"]);
    curl("", &[]).expect_text("curl", "\"/\" Work");
    curl("INBOX", &["--request", r"STORE 2 +FLAGS (\Flagged)"]);
    curl("INBOX", &["--request", "COPY 3 Work"]);
    curl("INBOX?BODY%20zebra", &[]).expect_text("curl", "* SEARCH 4");
    curl("INBOX", &["--request", "MOVE 4 Work"]);
    curl("INBOX", &["--request", r"STORE 4 +FLAGS.SILENT (\Deleted)"]);
    curl("INBOX", &["--request", "EXPUNGE"]);
    assert_eq!(curl("INBOX;MAILINDEX=4", &[]).stdout, letter(5));
    let file = home.path().join("letter.eml");
    fs::write(&file, "Subject: by curl\r\n\r\nA letter.\r\n").unwrap();
    curl("Sent", &["--upload-file", file.to_str().unwrap()]);
    evening(&gate, "curl");
}

// ---- mbsync and offlineimap: what is done in a Maildir tree of one's own goes to the server ----

fn day_in_a_tree(root: &Path, program: &str) {
    let (inbox, work) = (root.join("INBOX"), root.join("Work"));
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(work.join(part)).unwrap();
    }
    let file = |number: usize| mail::file_with(&inbox, &format!("Subject: letter {number}\n"));
    let put = |bytes: Vec<u8>, folder: &Path| {
        fs::write(folder.join("cur").join(format!("{}:2,S", mail::unique_name())), bytes).unwrap();
    };
    mail::rename_flags(&file(1), "F");
    put(fs::read(file(2)).unwrap(), &work);
    put(fs::read(file(3)).unwrap(), &work);
    fs::remove_file(file(3)).unwrap();
    fs::remove_file(file(4)).unwrap();
    mail::rename_flags(&file(5), "S");
    let sent = fs::read_dir(root).unwrap().any(|entry| entry.unwrap().file_name() == "Sent");
    assert!(sent, "{program} lists every folder");
    put(format!("Subject: by {program}\n\nA letter.\n").into_bytes(), &root.join("Sent"));
}

#[test]
fn a_day_with_mbsync() {
    if !program::have("mbsync") || !program::have("file:sasl2/libkdexoauth2.so") {
        return;
    }
    let (gate, home) = morning();
    fs::create_dir(home.path().join("mail")).unwrap();
    let sync = || run(home.command("mbsync").arg("--config").arg(home.config("mbsync.rc")).arg("all"));
    sync().expect_good("mbsync");
    day_in_a_tree(&home.path().join("mail"), "mbsync");
    sync().expect_good("mbsync, second run");
    evening(&gate, "mbsync");
}

#[test]
fn a_day_with_offlineimap() {
    if !program::have("offlineimap") {
        return;
    }
    let (gate, home) = morning();
    let sync = || run(home.command("offlineimap").arg("-o").arg("-c").arg(home.config("offlineimap.rc")));
    sync().expect_good("offlineimap");
    day_in_a_tree(&home.path().join("mail"), "offlineimap");
    sync().expect_good("offlineimap, second run");
    evening(&gate, "offlineimap");
}

// ---- getmail: it takes everything away ----

#[test]
fn getmail_empties_the_mailbox_it_has_read() {
    if !program::have("getmail") {
        return;
    }
    let (gate, home) = morning();
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(home.path().join("mail").join(part)).unwrap();
    }
    let file = home.config("getmail-imap.rc");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("delete = false", "delete = true")).unwrap();
    run(home.command("getmail").arg("--getmaildir").arg(home.path()).arg("--rcfile").arg(file))
        .expect_good("getmail");
    assert_eq!(mail::from_maildirs(&home.path().join("mail")).len(), LETTERS);
    mail::stored_when("nothing is left", &gate.maildir(ANN), <[Stored]>::is_empty);
}

// ---- Python's imaplib and imapflow ----

#[test]
fn a_day_with_imaplib() {
    if !program::have("python3") {
        return;
    }
    let (gate, home) = morning();
    run(&mut home.python("imaplib_day.py")).expect_good("imaplib");
    evening(&gate, "imaplib");
}

#[test]
fn a_day_with_imapflow() {
    if !program::have("node:imapflow") {
        return;
    }
    let (gate, home) = morning();
    run(&mut home.node("imapflow_day.js")).expect_good("imapflow").expect_text("imapflow", "done");
    evening(&gate, "imapflow");
}
