//! What a unit says besides who comes in, on the wire: reading alone, where mail is, sessions at once, bytes of a day.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use support::{
    ANN, APP, DOVECOT, Gate, OTHER_APP, POLICY, Setup, until,
    wire::{Imap, Pop, xoauth2},
};

const FAY: &str = "fay@example.com";
const TEAM: &str = "team@example.com";
/// From the change saved to the last word on the wire.
const AT_MOST: Duration = Duration::from_secs(1);

/// [`POLICY`] with a unit `/Field` that says `says`, and in it `fay` and a shared mailbox of hers and `ann`'s.
fn policy(says: &str) -> String {
    format!(
        "{POLICY}\n[unit.\"/Field\"]\n{says}\n[user.\"{FAY}\"]\nunit = \"/Field\"\n\
         [mailbox.\"{TEAM}\"]\nunit = \"/Field\"\nmembers = [\"{ANN}\", \"{FAY}\"]\n"
    )
}

fn gate(says: &str) -> Gate {
    Gate::with(Setup { policy: policy(says), more: DOVECOT.to_owned(), ..Setup::default() })
}

/// The answer to a sign-in by IMAP.
fn knock(gate: &Gate, user: &str, app: &str) -> String {
    let blob = xoauth2(user, &gate.token(user, app));
    Imap::connect(gate).command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status
}

/// The same by POP3.
fn knock_pop(gate: &Gate, user: &str) -> String {
    Pop::connect(gate).authenticate("XOAUTH2", &xoauth2(user, &gate.token(user, APP)))
}

/// A session in IDLE.
fn idle(gate: &Gate, user: &str, app: &str) -> Imap {
    let mut imap = gate.imap(user, app);
    imap.ok("SELECT INBOX");
    imap.idle();
    imap
}

fn explained(gate: &Gate, user: &str, app: &str) -> String {
    let output = gate.portcullis(&["explain", "--user", user, "--app", app, "--service", "imap"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_unit_that_becomes_read_only_ends_its_sessions_which_then_come_in_to_read() {
    let gate = gate("");
    gate.deliver(FAY, b"Subject: kept\r\n\r\nkept\r\n");
    let (mut falls, mut stays) = (idle(&gate, FAY, APP), idle(&gate, ANN, APP));
    let mut pop = gate.pop(FAY, APP);
    let saved = Instant::now();
    gate.set_policy(&policy("read_only = true"));
    let (text, at) = falls.bye();
    assert!(text.starts_with("[NOPERM] You may only read this mailbox from now on. Connect again"), "{text}");
    assert!(at - saved < AT_MOST, "the BYE took {:?}", at - saved);
    let last = pop.wire.line();
    assert!(last.starts_with("-ERR [SYS/TEMP] You may only read this mailbox from now on."), "{last}");
    assert!(stays.wire.is_silent_for(Duration::from_millis(50)), "who is in another unit notices nothing");

    let mut reader = gate.imap(FAY, APP);
    assert!(reader.ok("SELECT INBOX").status.starts_with("OK [READ-ONLY]"));
    reader.ok("FETCH 1 BODY[]");
    for command in ["STORE 1 +FLAGS (\\Deleted)", "EXPUNGE", "COPY 1 INBOX", "CREATE Mine", "SUBSCRIBE INBOX"] {
        assert_eq!(reader.command(command).status, "NO [NOPERM] You may only read this mailbox", "{command}");
    }
    assert!(reader.command("APPEND INBOX {10}").status.starts_with("NO [NOPERM]"));
    let mut pop = gate.pop(FAY, APP);
    assert!(String::from_utf8(pop.long("RETR 1")).unwrap().contains("kept"));
    assert_eq!(pop.command("DELE 1"), "-ERR [SYS/PERM] you may only read this mailbox");
    // A shared mailbox of the unit, for a member who is in another one.
    let mut member = Imap::connect(&gate);
    member.xoauth2(TEAM, &gate.token(ANN, APP));
    assert_eq!(member.command("CREATE Mine").status, "NO [NOPERM] You may only read this mailbox");

    let told = explained(&gate, FAY, APP);
    assert!(told.contains("unit /Field is read-only: fay@example.com is in it"), "{told}");
    let rows = gate.audit_with(&["--cause", "rights_lowered"], 2, |row| row["event"] == "session.ended");
    assert!(rows.iter().all(|row| row["user"] == FAY && row["place"] == "unit \"/Field\""), "{rows:?}");
    // More rights end nothing; the session that comes after has them.
    gate.set_policy(&policy(""));
    until("she may write again", || gate.imap(FAY, APP).ok("SELECT INBOX").status.starts_with("OK [READ-WRITE]"));
    reader.ok("NOOP");
}

#[test]
fn an_app_that_becomes_read_only_reads_on_and_the_others_write() {
    let gate = gate("");
    let (mut falls, mut stays) = (idle(&gate, FAY, OTHER_APP), idle(&gate, FAY, APP));
    gate.set_policy(&policy("").replace("name = \"Other Mail\"", "name = \"Other Mail\"\nread_only = true"));
    assert!(falls.bye().0.starts_with("[NOPERM] You may only read this mailbox from now on."));
    assert!(stays.wire.is_silent_for(Duration::from_millis(50)));
    assert_eq!(
        gate.imap(FAY, OTHER_APP).command("CREATE Mine").status,
        "NO [NOPERM] You may only read this mailbox"
    );
    gate.imap(FAY, APP).ok("CREATE Mine");
    let told = explained(&gate, FAY, OTHER_APP);
    assert!(told.contains("app \"Other Mail\" (other-mail) may only read, wherever it is let in"), "{told}");
}

#[test]
fn a_mailbox_that_moves_ends_its_sessions_and_no_others() {
    let gate = gate("");
    let mut falls = idle(&gate, FAY, APP);
    let mut team = Imap::connect(&gate);
    team.xoauth2(TEAM, &gate.token(ANN, APP));
    team.ok("SELECT INBOX");
    team.idle();
    let mut pop = gate.pop(FAY, APP);
    let mut stays = idle(&gate, ANN, APP);
    // The same place, now said: nothing moves.
    gate.set_policy(&policy("mail = \"maildir\""));
    gate.set_policy(&policy("mail = \"maildir\"\nsessions_per_user = 9"));
    assert!(falls.wire.is_silent_for(Duration::from_millis(800)));
    // A place that there is not moves nobody anywhere.
    gate.set_policy(&policy("mail = \"dovcot\""));
    gate.wait_for_log("mail = \"dovcot\" is none of [[upstream]] in the config: write \"maildir\" or \"dovecot\"");
    assert!(gate.log().contains("policy not applied, nothing changed: "), "{}", gate.log());
    assert!(falls.wire.is_silent_for(Duration::from_millis(800)));
    let saved = Instant::now();
    gate.set_policy(&policy("mail = \"dovecot/mail2.internal\""));
    for imap in [&mut falls, &mut team] {
        let (text, at) = imap.bye();
        let said = "[UNAVAILABLE] This mailbox has moved to another server. Connect again to go on there. (ref ";
        assert!(text.starts_with(said), "{text}");
        assert!(at - saved < AT_MOST, "the BYE took {:?}", at - saved);
    }
    let last = pop.wire.line();
    assert!(last.starts_with("-ERR [SYS/TEMP] This mailbox has moved to another server."), "{last}");
    assert!(stays.wire.is_silent_for(Duration::from_millis(50)));
    let rows = gate.audit_with(&["--cause", "home_moved"], 3, |row| row["event"] == "session.ended");
    assert!(rows.iter().all(|row| row["place"] == "unit \"/Field\""), "{rows:?}");
    let detail = rows[0]["detail"].as_str().unwrap();
    assert!(detail.contains("ended by a change"), "{detail}");
}

#[test]
fn a_unit_s_limit_of_sessions_beats_that_of_the_configuration() {
    let limits = "failed_login_delay_s = 0\nsessions_per_user = 2\n".to_owned();
    let gate = Gate::with(Setup { policy: policy("sessions_per_user = 1"), limits, ..Setup::default() });
    let _one = gate.imap(FAY, APP);
    let refused = knock(&gate, FAY, APP);
    assert!(refused.starts_with("NO [LIMIT] Too many IMAP sessions: close one of your 1 first."), "{refused}");
    let _ann = [gate.imap(ANN, APP), gate.imap(ANN, APP)];
    assert!(knock(&gate, ANN, APP).contains("close one of your 2 first."));
    gate.set_policy(&policy("sessions_per_user = \"none\""));
    until("the limit is lifted", || knock(&gate, FAY, APP).starts_with("OK"));
    let _more: Vec<Imap> = (0..4).map(|_| gate.imap(FAY, APP)).collect();
}

/// Reads the message again and again until it is told to leave; gives the last word.
fn reads_until_told(imap: &mut Imap) -> (String, Instant) {
    imap.ok("SELECT INBOX");
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        let tag = imap.send("FETCH 1 BODY.PEEK[]");
        loop {
            let response = imap.response();
            let line = String::from_utf8_lossy(&response).into_owned();
            if let Some(text) = line.strip_prefix("* BYE ") {
                return (text.trim_end().to_owned(), Instant::now());
            }
            if line.starts_with(&tag) {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the session was not told to leave");
}

#[test]
fn who_has_used_up_the_bytes_of_the_day_is_out_until_the_limit_is_raised_also_after_a_crash() {
    let mut gate = gate("bytes_per_day = \"300K\"");
    let message = format!("Subject: large\r\n\r\n{}", "0123456789abcdef0123456789abcdef\r\n".repeat(1_500));
    for user in [FAY, ANN] {
        gate.deliver(user, message.as_bytes());
    }
    let mut other = idle(&gate, FAY, APP);
    let mut pop = gate.pop(FAY, APP);
    let mut reader = gate.imap(FAY, APP);
    let (text, told) = reads_until_told(&mut reader);
    assert!(text.starts_with("[LIMIT] Your limit of 300K bytes a day is used up. It begins anew at 20"), "{text}");
    assert!(text.contains("T00:00:00Z. (ref "), "{text}");
    // All sessions of hers, by both protocols.
    let (text, at) = other.bye();
    assert!(text.starts_with("[LIMIT] Your limit of 300K bytes a day is used up."), "{text}");
    assert!(at < told + Duration::from_secs(1));
    let last = pop.wire.line();
    assert!(last.starts_with("-ERR [SYS/TEMP] Your limit of 300K bytes a day is used up."), "{last}");
    let refused = knock(&gate, FAY, APP);
    assert!(refused.starts_with("NO [LIMIT] Your limit of 300K bytes a day is used up."), "{refused}");
    let refused = knock_pop(&gate, FAY);
    assert!(refused.starts_with("-ERR [SYS/TEMP] Your limit of 300K bytes a day is used up."), "{refused}");
    let rows = gate.audit_with(&["--cause", "limit_bytes"], 5, |_| true);
    assert!(rows.iter().all(|row| row["user"] == FAY && row["place"] == "unit \"/Field\""), "{rows:?}");
    // Who has no limit reads on.
    let mut ann = gate.imap(ANN, APP);
    ann.ok("SELECT INBOX");
    for _ in 0..20 {
        ann.ok("FETCH 1 BODY.PEEK[]");
    }

    // Written within seconds, so a crash forgets no more than that.
    std::thread::sleep(Duration::from_secs(5));
    gate.crash_and_restart();
    let refused = knock(&gate, FAY, APP);
    assert!(refused.starts_with("NO [LIMIT] Your limit of 300K bytes a day is used up."), "{refused}");
    gate.set_policy(&policy("bytes_per_day = \"300M\""));
    until("the limit is raised", || knock(&gate, FAY, APP).starts_with("OK"));
}
