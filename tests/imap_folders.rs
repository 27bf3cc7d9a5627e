//! Quotas and notifications over TLS against the real binary: what needs several sessions, a policy of its own, or a
//! delivery meanwhile (RFC 9208, RFC 5465, RFC 5464). Dialogs of one session stand in `tests/transcripts/imap`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    time::{Duration, Instant},
};

use support::{ANN, APP, Gate, POLICY, Setup, wire::Imap};

/// How soon an event is told.
const SOON: Duration = Duration::from_millis(500);

fn with_quota(lines: &str) -> String {
    POLICY.replacen("[unit.\"/\"]\n", &format!("[unit.\"/\"]\n{lines}\n"), 1)
}

/// A file in `new`, as an MTA leaves it.
fn deliver(gate: &Gate, folder: &str, name: &str) {
    let home = gate.maildir(ANN).join(folder);
    fs::write(home.join("tmp").join(name), "Subject: new\r\n\r\nnew\r\n").unwrap();
    fs::rename(home.join("tmp").join(name), home.join("new").join(name)).unwrap();
}

/// The next line, which must come soon.
fn soon(imap: &mut Imap) -> String {
    let start = Instant::now();
    let line = imap.wire.line();
    assert!(start.elapsed() < SOON, "{line} after {:?}", start.elapsed());
    line
}

#[test]
fn a_unit_s_quota_is_told_kept_and_changed_under_open_sessions() {
    let gate =
        Gate::with(Setup { policy: with_quota("storage_quota = \"2K\"\nmessage_quota = 3"), ..Setup::default() });
    let mut imap = gate.imap(ANN, APP);
    let message = [b"Subject: a\r\n\r\n".as_slice(), &[b'x'; 1000], b"\r\n"].concat();
    imap.append("INBOX", "", &message);
    let told = imap.ok("GETQUOTAROOT INBOX");
    assert_eq!(told.lines(), ["* QUOTAROOT INBOX \"\"", "* QUOTA \"\" (STORAGE 1 2 MESSAGE 1 3)"]);
    assert_eq!(imap.ok("GETQUOTAROOT \"Not there\"").lines()[0], "* QUOTAROOT \"Not there\" \"\"");
    assert_eq!(imap.ok("GETQUOTA \"\"").lines(), ["* QUOTA \"\" (STORAGE 1 2 MESSAGE 1 3)"]);
    assert!(imap.command("GETQUOTA \"#user/bob\"").status.starts_with("NO [NONEXISTENT]"));
    assert!(imap.command("SETQUOTA \"\" (STORAGE 512)").status.starts_with("NO [NOPERM]"));
    imap.append("Sent", "", &message);
    imap.ok("SELECT INBOX");
    // Both limits: bytes for a third, and nothing of it is left behind.
    let refused = imap.command(&format!("APPEND Sent {{{}}}", message.len()));
    assert!(refused.status.starts_with("NO [OVERQUOTA]") && refused.untagged.is_empty(), "{}", refused.status);
    assert!(imap.command("COPY 1 Trash").status.starts_with("NO [OVERQUOTA]"));
    imap.ok("MOVE 1 Trash");
    assert_eq!(imap.ok("GETQUOTA \"\"").lines(), ["* QUOTA \"\" (STORAGE 2 2 MESSAGE 2 3)"]);
    imap.append("INBOX", "", b"\r\n");
    let refused = imap.command("APPEND INBOX {5}");
    assert!(refused.status.starts_with("NO [OVERQUOTA]"), "before it is sent: {}", refused.status);
    // Deliveries are read, whatever the quota.
    deliver(&gate, "", "1.mta");
    assert!(imap.ok("NOOP").lines().contains(&"* 2 EXISTS".to_owned()));
    assert_eq!(
        imap.ok("STATUS Trash (DELETED DELETED-STORAGE)").lines(),
        ["* STATUS Trash (DELETED 0 DELETED-STORAGE 0)"]
    );
    imap.ok("SELECT Trash");
    imap.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    let told = imap.ok("STATUS Trash (DELETED DELETED-STORAGE)");
    assert_eq!(told.lines(), [format!("* STATUS Trash (DELETED 1 DELETED-STORAGE {})", message.len())]);

    gate.set_policy(&with_quota("storage_quota = \"1M\""));
    let start = Instant::now();
    while imap.ok("GETQUOTA \"\"").lines() != ["* QUOTA \"\" (STORAGE 3 1024)"] {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", imap.ok("GETQUOTA \"\"").lines());
        std::thread::sleep(Duration::from_millis(50));
    }
    imap.append("INBOX", "", &message);
    gate.set_policy(POLICY);
    let start = Instant::now();
    while imap.ok("GETQUOTAROOT INBOX").lines() != ["* QUOTAROOT INBOX"] {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(imap.command("GETQUOTA \"\"").status.starts_with("NO [NONEXISTENT]"));
}

/// Once the room for all messages of a command was asked for when the last one had come.
#[test]
fn messages_that_do_not_fit_are_refused_before_they_are_sent() {
    let gate = Gate::with(Setup { policy: with_quota("storage_quota = \"10K\""), ..Setup::default() });
    let (mut imap, mut other) = (gate.imap(ANN, APP), gate.imap(ANN, APP));
    let message = vec![b'x'; 4000];
    let next = [message.as_slice(), b" {4000}\r\n"].concat();
    let tag = imap.send("APPEND Sent {4000}");
    for _ in 0..2 {
        assert!(imap.wire.line().starts_with('+'));
        imap.wire.send_bytes(&next);
    }
    let refused = imap.finish(&tag);
    assert!(refused.status.starts_with("NO [OVERQUOTA]") && refused.untagged.is_empty(), "{}", refused.status);
    assert!(imap.ok("STATUS Sent (MESSAGES)").lines()[0].ends_with("(MESSAGES 0)"));
    // While a message comes its room is not given to others.
    let tag = imap.send("APPEND Sent {8000}");
    assert!(imap.wire.line().starts_with('+'));
    assert!(other.command("APPEND Sent {4000}").status.starts_with("NO [OVERQUOTA]"));
    imap.wire.send_bytes(&[message.as_slice(), &message, b"\r\n"].concat());
    assert!(imap.finish(&tag).status.starts_with("OK"));
    // In the place of another message it needs no room.
    imap.ok("SELECT Sent");
    for (size, status) in [(8000, "OK"), (10_300, "NO [OVERQUOTA]"), (4000, "OK"), (4001, "OK")] {
        let tag = imap.send(&format!("REPLACE 1 Sent {{{size}}}"));
        if status == "OK" {
            assert!(imap.wire.line().starts_with('+'), "{size}");
            imap.wire.send_bytes(&[vec![b'y'; size].as_slice(), b"\r\n"].concat());
        }
        let answer = imap.finish(&tag).status;
        assert!(answer.starts_with(status), "{size}: {answer}");
    }
}

#[test]
fn what_happens_in_other_mailboxes_is_told_outside_of_any_command() {
    let gate = Gate::start();
    let (mut watching, mut other) = (gate.imap(ANN, APP), gate.imap(ANN, APP));
    other.ok("CREATE Lists/Lemonade");
    let set = watching
        .ok("NOTIFY SET STATUS (personal (MessageNew MessageExpunge FlagChange)) (subtree Lists (MailboxName))");
    let told = set.lines();
    assert_eq!(told.len(), 7, "{told:#?}");
    assert!(told.iter().all(|line| line.starts_with("* STATUS ")), "{told:#?}");
    assert!(told[2].starts_with("* STATUS Drafts (UIDVALIDITY ") && told[2].contains(" UIDNEXT 1 MESSAGES 0 "));

    other.append("Lists/Lemonade", "", b"Subject: a\r\n\r\na\r\n");
    let line = soon(&mut watching);
    assert!(line.starts_with("* STATUS Lists/Lemonade (UIDNEXT 2 MESSAGES 1 UNSEEN 1 UIDVALIDITY "), "{line}");
    // By another program, into folders that no session has open.
    for (folder, name) in [(".Sent", "Sent"), ("", "INBOX")] {
        deliver(&gate, folder, "1.mta");
        let line = soon(&mut watching);
        assert!(line.starts_with(&format!("* STATUS {name} (UIDNEXT 2 MESSAGES 1 UNSEEN 1 ")), "{line}");
    }
    other.ok("SELECT Lists/Lemonade");
    other.ok("STORE 1 +FLAGS (\\Seen)");
    assert!(soon(&mut watching).starts_with("* STATUS Lists/Lemonade (UNSEEN 0 UIDVALIDITY "));
    other.ok("STORE 1 +FLAGS (\\Deleted)");
    other.ok("EXPUNGE");
    assert!(soon(&mut watching).starts_with("* STATUS Lists/Lemonade (UIDNEXT 2 MESSAGES 0 UIDVALIDITY "));
    // Names below Lists and no others; a mailbox that is new is watched too.
    other.ok("CREATE Elsewhere");
    other.ok("CREATE Lists/Im2000");
    assert_eq!(soon(&mut watching), "* LIST (\\HasNoChildren \\Subscribed) \"/\" Lists/Im2000");
    assert_eq!(soon(&mut watching), "* LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" Lists");
    other.append("Lists/Im2000", "", b"Subject: a\r\n\r\na\r\n");
    assert!(soon(&mut watching).starts_with("* STATUS Lists/Im2000 (UIDNEXT 2 MESSAGES 1 "));
    other.ok("RENAME Lists/Im2000 Lists/Im2001");
    assert_eq!(
        soon(&mut watching),
        "* LIST (\\HasNoChildren \\Subscribed) \"/\" Lists/Im2001 (\"OLDNAME\" (Lists/Im2000))"
    );
    other.ok("DELETE Lists/Im2001");
    assert_eq!(soon(&mut watching), "* LIST (\\NonExistent \\Noselect) \"/\" Lists/Im2001");
    assert!(soon(&mut watching).ends_with(" \"/\" Lists"));
    // One's own deeds are no news.
    watching.ok("CREATE Lists/Mine");
    assert!(watching.wire.is_silent_for(Duration::from_millis(300)));
    let none = watching.ok("NOTIFY NONE");
    assert_eq!(none.lines(), [""; 0]);
    other.append("INBOX", "", b"Subject: a\r\n\r\na\r\n");
    assert!(watching.wire.is_silent_for(Duration::from_millis(300)));
}

#[test]
fn the_open_mailbox_is_told_as_it_was_asked_for() {
    let gate = Gate::start();
    let (mut watching, mut other) = (gate.imap(ANN, APP), gate.imap(ANN, APP));
    watching.ok("NOTIFY SET (selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS (Subject)]) MessageExpunge))");
    watching.ok("SELECT INBOX");
    other.ok("SELECT INBOX");
    other.append("INBOX", "", b"Subject: one\r\nTo: x\r\n\r\na\r\n");
    let fetched = |imap: &mut Imap| String::from_utf8(imap.response()).unwrap();
    assert_eq!(soon(&mut watching), "* 1 EXISTS");
    // Which of the two sessions has it as `\\Recent` is chance.
    watching.wire.line();
    assert_eq!(
        fetched(&mut watching),
        "* 1 FETCH (UID 1 BODY[HEADER.FIELDS (Subject)] {16}\r\nSubject: one\r\n\r\n)"
    );
    deliver(&gate, "", "1.mta");
    assert_eq!(soon(&mut watching), "* 2 EXISTS");
    watching.wire.line();
    assert!(fetched(&mut watching).starts_with("* 2 FETCH (UID 2 BODY[HEADER.FIELDS (Subject)]"));
    // Flags were not asked for; removals come at once.
    other.ok("STORE 1 +FLAGS (\\Deleted)");
    other.ok("EXPUNGE");
    assert_eq!(soon(&mut watching), "* 1 EXPUNGE");
    // Its own message came, and no more is told of it.
    let tag = watching.send("APPEND INBOX {5+}\r\na\r\nb\r");
    let reply = watching.finish(&tag);
    assert_eq!((reply.lines()[0].as_str(), reply.lines().len()), ("* 2 EXISTS", 2), "{}", reply.status);
    // In IDLE the same, and no more.
    let tag = watching.idle();
    other.ok("STORE 1 +FLAGS (\\Flagged)");
    other.append("INBOX", "", b"Subject: two\r\n\r\na\r\n");
    assert_eq!(soon(&mut watching), "* 3 EXISTS");
    watching.wire.line();
    assert!(fetched(&mut watching).contains("Subject: two"));
    watching.wire.send("DONE");
    watching.finish(&tag);

    // Delayed: removals wait for a command that allows them.
    watching.ok("NOTIFY SET (selected-delayed (MessageNew MessageExpunge FlagChange))");
    other.ok("STORE 1 +FLAGS (\\Deleted)");
    assert!(soon(&mut watching).starts_with("* 1 FETCH (UID 2 FLAGS ("));
    other.ok("EXPUNGE");
    assert!(watching.wire.is_silent_for(Duration::from_millis(300)));
    assert_eq!(watching.ok("FETCH 3 UID").lines(), ["* 3 FETCH (UID 4)"]);
    assert_eq!(watching.ok("NOOP").lines(), ["* 1 EXPUNGE"]);
    // Nothing asked for, nothing told; what the session removes itself it is told.
    watching.ok("NOTIFY SET (selected NONE)");
    other.append("INBOX", "", b"Subject: three\r\n\r\na\r\n");
    assert!(watching.wire.is_silent_for(Duration::from_millis(300)));
    assert_eq!(watching.ok("NOOP").lines(), [""; 0]);
    watching.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    assert!(watching.ok("EXPUNGE").lines().contains(&"* 1 EXPUNGE".to_owned()));
    for ask in ["NOTIFY SET (selected NONE)", "NOTIFY NONE"] {
        watching.ok(ask);
        let tag = watching.send("REPLACE 1 INBOX {5+}\r\na\r\nb\r");
        let reply = watching.finish(&tag);
        assert!(reply.lines().contains(&"* 1 EXPUNGE".to_owned()), "{ask}: {:?} {}", reply.lines(), reply.status);
    }
}

/// RFC 7162 section 3.2: HIGHESTMODSEQ covers nothing that was not told, so flags that NOTIFY did not ask for are told
/// on the next connection.
#[test]
fn flags_that_were_not_asked_for_are_not_covered_by_the_mod_sequence() {
    let gate = Gate::start();
    let (mut watching, mut other) = (gate.imap(ANN, APP), gate.imap(ANN, APP));
    for _ in 0..3 {
        other.append("INBOX", "", b"Subject: one\r\n\r\na\r\n");
    }
    other.ok("SELECT INBOX");
    watching.ok("ENABLE QRESYNC");
    watching.ok("NOTIFY SET (selected (MessageNew MessageExpunge))");
    let selected = watching.ok("SELECT INBOX").lines().join("\n");
    let number = |text: &str, name: &str| -> u64 {
        let (_, after) = text.rsplit_once(&format!("[{name} ")).expect(name);
        after.split_once(']').unwrap().0.parse().unwrap()
    };
    let validity = number(&selected, "UIDVALIDITY");
    let start = number(&selected, "HIGHESTMODSEQ");

    other.ok("STORE 1 +FLAGS (\\Flagged)");
    other.ok("STORE 2 +FLAGS (\\Deleted)");
    other.ok("EXPUNGE");
    assert_eq!(soon(&mut watching), "* VANISHED 2");
    assert_eq!(number(&soon(&mut watching), "HIGHESTMODSEQ"), start, "the flag above it was not told");
    // Its own change has a higher one, which it must not remember either.
    let own = watching.ok("STORE 2 +FLAGS (\\Seen)").lines().join("\n");
    assert_eq!(number(&own, "HIGHESTMODSEQ"), start);
    let mut again = gate.imap(ANN, APP);
    again.ok("ENABLE QRESYNC");
    let told = again.ok(&format!("SELECT INBOX (QRESYNC ({validity} {start}))")).lines().join("\n");
    assert!(told.contains("* VANISHED (EARLIER) 2"), "{told}");
    assert!(told.contains("* 1 FETCH (UID 1 FLAGS (\\Flagged)"), "{told}");
    assert!(told.contains("* 2 FETCH (UID 3 FLAGS (\\Seen)"), "{told}");

    // Once it asks for flags, it is told those too, and may remember all.
    let told = watching.ok("NOTIFY SET (selected (MessageNew MessageExpunge FlagChange))").lines().join("\n");
    assert!(told.contains("* 1 FETCH (UID 1 FLAGS (\\Flagged"), "{told}");
    assert_eq!(
        number(&told, "HIGHESTMODSEQ"),
        number(&again.ok("SELECT INBOX").lines().join("\n"), "HIGHESTMODSEQ")
    );
    assert!(!watching.ok("NOOP").lines().join("\n").contains("HIGHESTMODSEQ"));
}

#[test]
fn subscriptions_and_annotations_are_told_to_who_asked_for_them() {
    let gate = Gate::start();
    let (mut watching, mut enabled, mut other) = (gate.imap(ANN, APP), gate.imap(ANN, APP), gate.imap(ANN, APP));
    watching
        .ok("NOTIFY SET (subscribed (SubscriptionChange MailboxMetadataChange)) (personal (ServerMetadataChange))");
    enabled.ok("ENABLE METADATA");
    other.ok("SETMETADATA INBOX (/shared/comment \"a\" /private/comment \"b\")");
    for imap in [&mut watching, &mut enabled] {
        assert_eq!(soon(imap), "* METADATA INBOX /private/comment");
        assert_eq!(soon(imap), "* METADATA INBOX /shared/comment");
    }
    other.ok("SETMETADATA \"\" (/shared/comment NIL /shared/vendor/x/y \"1\")");
    for imap in [&mut watching, &mut enabled] {
        assert_eq!(soon(imap), "* METADATA \"\" /shared/vendor/x/y", "what was not there is not removed");
    }
    other.ok("UNSUBSCRIBE Junk");
    assert_eq!(soon(&mut watching), "* LIST (\\HasNoChildren \\Junk) \"/\" Junk");
    other.ok("SETMETADATA Junk (/shared/comment \"a\")");
    assert_eq!(soon(&mut enabled), "* METADATA Junk /shared/comment");
    assert!(watching.wire.is_silent_for(Duration::from_millis(300)), "no longer among the subscribed");
    assert!(enabled.wire.is_silent_for(Duration::from_millis(100)));
}

#[test]
fn what_cannot_be_told_is_refused() {
    let gate = Gate::start();
    let mut imap = gate.imap(ANN, APP);
    let refused = imap.command("NOTIFY SET (personal (AnnotationChange))");
    assert!(
        refused.status.starts_with(
            "NO [BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange \
             ServerMetadataChange)]"
        ),
        "{}",
        refused.status
    );
    assert!(imap.command("NOTIFY SET (personal (MessageNew))").status.starts_with("BAD"));
    assert!(imap.command("NOTIFY SET (selected (MailboxName))").status.starts_with("BAD"));
    // More mailboxes than are watched.
    for number in 0..500 {
        let home = gate.maildir(ANN).join(format!(".Many.{number}"));
        for sub in ["cur", "new", "tmp"] {
            fs::create_dir_all(home.join(sub)).unwrap();
        }
    }
    let refused = imap.command("NOTIFY SET (personal (MessageNew MessageExpunge))");
    assert!(refused.status.starts_with("NO [NOTIFICATIONOVERFLOW]"), "{}", refused.status);
    imap.ok("NOTIFY SET (personal (MailboxName)) (mailboxes (INBOX Many/1 Nothing) (MessageNew MessageExpunge))");
    deliver(&gate, ".Many.1", "1.mta");
    assert!(soon(&mut imap).starts_with("* STATUS Many/1 (UIDNEXT 2 MESSAGES 1)"));
}
