//! Moving in: from a real Dovecot by its files and by IMAP, and from an mbox, so that mail programs fetch nothing again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use support::{
    ANN, APP, Gate, POLICY, Setup,
    dovecot::{Dovecot, PASSWORD},
    mail,
    wire::{Imap, Pop},
};

const BOB: &str = "bob@example.com";

fn gate() -> Gate {
    Gate::with(Setup { policy: format!("{POLICY}\n[user.\"{BOB}\"]\nunit = \"/\"\n"), ..Setup::default() })
}

/// All that a mail program can tell of a folder.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    uid_validity: String,
    uid_next: String,
    messages: BTreeMap<u32, (String, String, Vec<u8>)>,
}

fn look(imap: &mut Imap, folder: &str) -> Seen {
    let selected = imap.ok(&format!("EXAMINE \"{folder}\"")).lines().join("\n");
    let code = |name: &str| {
        let (_, rest) =
            selected.split_once(&format!("[{name} ")).unwrap_or_else(|| panic!("no {name}: {selected}"));
        rest.split(']').next().unwrap().to_owned()
    };
    let mut messages = BTreeMap::new();
    for answer in imap.ok("UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])").untagged {
        let text = String::from_utf8_lossy(&answer).into_owned();
        let Some((_, rest)) = text.split_once("UID ") else { continue };
        let uid = rest.split([' ', ')']).next().unwrap().parse().unwrap();
        let (_, rest) = text.split_once("FLAGS (").unwrap();
        let mut flags: Vec<&str> = rest.split(')').next().unwrap().split_whitespace().collect();
        flags.retain(|flag| *flag != "\\Recent");
        flags.sort_unstable();
        let (_, rest) = text.split_once("INTERNALDATE \"").unwrap();
        let date = rest.split('"').next().unwrap();
        let date =
            chrono::DateTime::parse_from_str(date.trim(), "%d-%b-%Y %H:%M:%S %z").unwrap().to_utc().to_string();
        let head = answer.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let size: usize = String::from_utf8_lossy(&answer[..head])
            .rsplit('{')
            .next()
            .unwrap()
            .trim_end_matches('}')
            .parse()
            .unwrap();
        let body = answer[head + 2..head + 2 + size].to_vec();
        assert!(messages.insert(uid, (flags.join(" "), date, body)).is_none(), "UID {uid} twice");
    }
    Seen { uid_validity: code("UIDVALIDITY"), uid_next: code("UIDNEXT"), messages }
}

fn uidl(pop: &mut Pop) -> String {
    String::from_utf8(pop.long("UIDL")).unwrap()
}

fn subscribed(imap: &mut Imap) -> Vec<String> {
    let mut names: Vec<String> = imap
        .ok("LSUB \"\" \"*\"")
        .lines()
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap().trim_matches('"').replace('.', "/"))
        .collect();
    names.sort();
    names
}

fn import(gate: &Gate, arguments: &[&str]) -> Output {
    gate.portcullis(&[&["mailbox", "import"], arguments].concat())
}

/// Runs it to a good end; the rows by folder.
fn imported(gate: &Gate, arguments: &[&str]) -> BTreeMap<String, Value> {
    let output = import(gate, &[arguments, &["--json"]].concat());
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {out}{err}");
    let report: Value = serde_json::from_str(out.trim()).unwrap();
    let rows = report["items"].as_array().unwrap().iter();
    rows.map(|row| (row["folder"].as_str().unwrap().to_owned(), row.clone())).collect()
}

/// An account there, with everything that has to come along.
fn fill(gate: &Gate, dovecot: &Dovecot) {
    let mut imap = dovecot.imap(gate, "ann");
    for (folder, flags) in [
        ("INBOX", "\\Seen"),
        ("INBOX", "\\Deleted"),
        ("INBOX", "\\Flagged \\Answered $Forwarded"),
        ("INBOX", "Later $Forwarded \\Draft"),
    ] {
        let message = format!("Subject: {flags}\r\n\r\ntext\r\n");
        imap.append(folder, flags, message.as_bytes());
    }
    for folder in ["Work", "Work.Deep", "Entw&APw-rfe", "Unseen"] {
        imap.ok(&format!("CREATE \"{folder}\""));
    }
    for folder in ["INBOX", "Work.Deep", "Entw&APw-rfe"] {
        imap.ok(&format!("SUBSCRIBE \"{folder}\""));
    }
    for case in mail::hard_cases() {
        imap.append("Work.Deep", "", &case.wire);
    }
    let tag = imap.send("APPEND \"Entw&APw-rfe\" (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {5+}\r\nA: b\n");
    assert!(imap.finish(&tag).status.starts_with("OK"));
    imap.ok("SELECT INBOX");
    // Gaps in the UIDs, and a last one that is gone.
    imap.append("INBOX", "\\Deleted", b"Subject: gone\r\n\r\n");
    imap.ok("EXPUNGE");
    imap.ok("CLOSE");
}

const FOLDERS: [(&str, &str); 5] = [
    ("INBOX", "INBOX"),
    ("Work", "Work"),
    ("Work.Deep", "Work/Deep"),
    ("Entw&APw-rfe", "Entw&APw-rfe"),
    ("Unseen", "Unseen"),
];

#[test]
fn whoever_moves_from_dovecot_fetches_nothing_again() {
    let gate = gate();
    let Some(dovecot) = Dovecot::start(&gate) else { return };
    fill(&gate, &dovecot);
    let ids = uidl(&mut dovecot.pop(&gate, "ann"));
    assert_eq!(ids.lines().count(), 3, "{ids}");
    let mut there = dovecot.imap(&gate, "ann");
    let before: Vec<Seen> = FOLDERS.iter().map(|(name, _)| look(&mut there, name)).collect();
    drop(there);
    let dir = dovecot.maildir("ann");
    let dir = dir.to_str().unwrap();

    let dry = imported(&gate, &["maildir", ANN, dir, "--dry-run"]);
    assert_eq!((dry["INBOX"]["taken"].as_u64(), dry["INBOX"]["uids"].as_str()), (Some(3), Some("kept")));
    assert!(!gate.maildir(ANN).exists(), "a dry run makes nothing");
    let done = imported(&gate, &["maildir", ANN, dir]);
    assert_eq!(done["Work/Deep"]["taken"].as_u64(), Some(mail::hard_cases().len() as u64));
    let mut here = gate.imap(ANN, APP);
    for ((_, name), before) in FOLDERS.iter().zip(&before) {
        assert_eq!(&look(&mut here, name), before, "{name}");
    }
    assert_eq!(uidl(&mut gate.pop(ANN, APP)), ids, "POP3 calls them as before");
    let names = subscribed(&mut here);
    for (name, wanted) in [("Work/Deep", true), ("Entw&APw-rfe", true), ("Unseen", false), ("Work", false)] {
        assert_eq!(names.iter().any(|n| n == name), wanted, "{name} in {names:?}");
    }

    // What comes meanwhile is taken by the next run, and nothing twice; what was flagged here stays so.
    here.ok("SELECT INBOX");
    here.ok("STORE 1 +FLAGS (\\Flagged)");
    here.append("INBOX", "", b"Subject: here\r\n\r\n");
    let mine = look(&mut here, "INBOX");
    dovecot.imap(&gate, "ann").append("Work", "", b"Subject: late\r\n\r\n");
    let again = imported(&gate, &["maildir", ANN, dir]);
    assert_eq!((again["INBOX"]["taken"].as_u64(), again["Work"]["taken"].as_u64()), (Some(0), Some(1)));
    assert_eq!(look(&mut here, "INBOX"), mine);
    assert_eq!(look(&mut here, "Work"), look(&mut dovecot.imap(&gate, "ann"), "Work"));
    let checked = gate.portcullis(&["mailbox", "check", ANN]);
    assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn an_account_comes_over_by_imap_with_an_admin_s_password() {
    let gate = gate();
    let Some(dovecot) = Dovecot::start(&gate) else { return };
    fill(&gate, &dovecot);
    let mut there = dovecot.imap(&gate, "ann");
    let before: Vec<Seen> = FOLDERS.iter().map(|(name, _)| look(&mut there, name)).collect();
    drop(there);
    let server = format!("localhost:{}", dovecot.imaps);
    let file = gate.dir().join("password");
    fs::write(&file, format!("{PASSWORD}\nnot this\n")).unwrap();
    let (ca, password) = (gate.ca(), file.to_str().unwrap().to_owned());
    let by_file =
        ["imap", BOB, &server, "--user", "ann", "--ca-file", ca.to_str().unwrap(), "--password-file", &password];
    let dry = imported(&gate, &[&by_file[..], &["--dry-run"]].concat());
    assert_eq!(dry["INBOX"]["taken"].as_u64(), Some(3));
    assert!(!gate.maildir(BOB).exists(), "a dry run makes nothing");
    imported(&gate, &by_file);
    let mut here = gate.imap(BOB, APP);
    for ((_, name), before) in FOLDERS.iter().zip(&before) {
        assert_eq!(&look(&mut here, name), before, "{name}");
    }
    let again = imported(&gate, &by_file);
    assert!(again.values().all(|row| row["taken"] == 0), "{again:?}");

    // Not a word of the password where it is wrong, and nothing at all to a server whose certificate is not believed.
    fs::write(&file, "wrong horse\n").unwrap();
    let refused = import(&gate, &by_file);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("the server refused the sign-in") && !said.contains("horse"), "{said}");
    let stranger = import(&gate, &["imap", BOB, &server, "--user", "ann", "--password-file", &password]);
    let said = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert_eq!(stranger.status.code(), Some(2), "{said}");
    assert!(said.contains("cannot reach localhost") && said.contains("certificate"), "{said}");
}

#[test]
fn an_import_that_is_killed_goes_on_where_it_was() {
    let gate = gate();
    let Some(dovecot) = Dovecot::start(&gate) else { return };
    let mut imap = dovecot.imap(&gate, "ann");
    for n in 0..700 {
        imap.append("INBOX", "", format!("Subject: {n}\r\n\r\n{}\r\n", "x".repeat(n * 10)).as_bytes());
    }
    let before = look(&mut imap, "INBOX");
    let (ca, server) = (gate.ca(), format!("localhost:{}", dovecot.imaps));
    let mut killed = 0;
    for round in 0..40 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["mailbox", "import", "imap", BOB, &server, "--user", "ann", "--ca-file"])
            .arg(&ca)
            .arg("--config")
            .arg(gate.config())
            .env("PORTCULLIS_IMPORT_PASSWORD", PASSWORD)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(150 + round * 70));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
    }
    assert!(killed > 0, "it was never killed");
    assert_eq!(look(&mut gate.imap(BOB, APP), "INBOX"), before, "killed {killed} times");
}

#[test]
fn an_mbox_comes_with_its_flags_and_is_taken_once() {
    let gate = gate();
    let file = gate.dir().join("old.mbox");
    let text = "From MAILER-DAEMON Wed Nov  4 10:00:00 2026\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n\
                X-IMAP: 1275660208 0000000030\nStatus: RO\n\nThis text is part of the internal format.\n\n\
                From a@b Wed Nov  4 10:11:12 2026\nSubject: one\nStatus: RO\nX-Status: F\nX-Keywords: later\nX-UID: 17\n\n\
                >From the beginning\n\nFrom b@c Thu Nov  5 01:02:03 2026\nSubject: two\nX-UID: 29\n\nend\n\n";
    fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let dry = imported(&gate, &["mbox", ANN, path, "--folder", "Old", "--dry-run"]);
    assert_eq!(dry["Old"]["taken"].as_u64(), Some(2));
    let done = imported(&gate, &["mbox", ANN, path, "--folder", "Old"]);
    assert_eq!((done["Old"]["taken"].as_u64(), done["Old"]["uids"].as_str()), (Some(2), Some("kept")));
    let mut imap = gate.imap(ANN, APP);
    let seen = look(&mut imap, "Old");
    assert_eq!((seen.uid_validity.as_str(), seen.uid_next.as_str()), ("1275660208", "31"));
    let expected = [
        (17, ("\\Flagged \\Seen later", "2026-11-04 10:11:12 UTC", "Subject: one\r\n\r\nFrom the beginning\r\n")),
        (29, ("", "2026-11-05 01:02:03 UTC", "Subject: two\r\n\r\nend\r\n")),
    ];
    let expected: BTreeMap<u32, (String, String, Vec<u8>)> = expected
        .into_iter()
        .map(|(uid, (flags, date, body))| (uid, (flags.to_owned(), date.to_owned(), body.as_bytes().to_vec())))
        .collect();
    assert_eq!(seen.messages, expected);
    assert_eq!(imported(&gate, &["mbox", ANN, path, "--folder", "Old"])["Old"]["taken"].as_u64(), Some(0));
    fs::write(&file, format!("{text}From d@e Fri Nov  6 01:02:03 2026\nSubject: three\n\nx\n")).unwrap();
    assert_eq!(imported(&gate, &["mbox", ANN, path, "--folder", "Old"])["Old"]["taken"].as_u64(), Some(1));
    assert_eq!(look(&mut imap, "Old").messages.len(), 3);

    // Into a folder that has mail, messages come under new UIDs.
    imap.append("Sent", "", b"Subject: mine\r\n\r\n");
    let done = imported(&gate, &["mbox", ANN, path, "--folder", "Sent"]);
    assert_eq!((done["Sent"]["taken"].as_u64(), done["Sent"]["uids"].as_str()), (Some(3), Some("new")));
    assert_eq!(look(&mut imap, "Sent").messages.len(), 4);

    fs::write(&file, "Subject: no mbox\n\n").unwrap();
    let refused = import(&gate, &["mbox", BOB, path]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no message begins at byte 0"));
}
