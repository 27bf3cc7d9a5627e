//! The promise in the middle of Portcullis: who loses the right to be in is told and out within a second, whatever the
//! session is doing; who does not, notices nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::{
    ANN, APP, Gate, OTHER_APP, POLICY, Setup, mail,
    token::SigningKey,
    wire::{Imap, xoauth2},
};

/// From the change saved to the last word on the wire.
const AT_MOST: Duration = Duration::from_secs(1);
const FAY: &str = "fay@example.com";

/// [`POLICY`] with a unit `/Field` in which `fay` is, set to `imap` and `pop`, and more lines about her.
fn policy(imap: &str, pop: &str, about_fay: &str) -> String {
    format!(
        "{POLICY}\n[unit.\"/Field\"]\nimap = {imap}\npop = {pop}\n[user.\"{FAY}\"]\nunit = \"/Field\"\n{about_fay}\n"
    )
}

fn gate() -> Gate {
    Gate::with(Setup { policy: policy("\"any\"", "\"any\"", ""), ..Setup::default() })
}

/// A session of `user` in IDLE.
fn idle(gate: &Gate, user: &str, app: &str) -> (Imap, String) {
    let mut imap = gate.imap(user, app);
    imap.ok("SELECT INBOX");
    let tag = imap.idle();
    (imap, tag)
}

/// Checks that a session in IDLE heard nothing and still works.
fn goes_on((mut imap, tag): (Imap, String)) {
    assert!(imap.wire.is_silent_for(Duration::from_millis(50)), "a session that keeps its right was disturbed");
    imap.wire.send("DONE");
    let reply = imap.finish(&tag);
    assert!(reply.status.starts_with("OK"), "{}", reply.status);
    imap.ok("NOOP");
}

/// Checks that the BYE came in time with `words`, and that a new sign-in hears the same.
fn out(gate: &Gate, imap: &mut Imap, since: Instant, user: &str, app: &str, words: &str) {
    let (text, at) = imap.bye();
    assert!(text.contains(words), "BYE {text}, expected {words}");
    assert!(at - since < AT_MOST, "the BYE took {:?}", at - since);
    let again =
        Imap::connect(gate).command(&format!("AUTHENTICATE XOAUTH2 {}", xoauth2(user, &gate.token(user, app))));
    assert!(again.status.starts_with("NO") && again.status.contains(words), "{}", again.status);
}

#[test]
fn switching_imap_off_for_a_unit_ends_its_idle_sessions_within_a_second_and_no_others() {
    let gate = gate();
    let mut falls: Vec<Imap> = (0..5).map(|_| idle(&gate, FAY, APP).0).collect();
    let others: Vec<(Imap, String)> = (0..3).map(|_| idle(&gate, ANN, APP)).collect();
    let mut pop_stays = gate.pop(FAY, APP);

    let saved = Instant::now();
    gate.set_policy(&policy("\"off\"", "\"any\"", ""));
    for imap in &mut falls {
        let (text, at) = imap.bye();
        assert!(text.contains("IMAP access is disabled for your domain."), "{text}");
        assert!(text.starts_with("[CONTACTADMIN]"), "{text}");
        assert!(at - saved < AT_MOST, "the BYE took {:?}", at - saved);
    }
    others.into_iter().for_each(goes_on);
    let reply = pop_stays.command("NOOP");
    assert!(reply.starts_with("+OK"), "POP is not IMAP: {reply}");
}

#[test]
fn switching_pop_off_ends_pop_sessions_within_a_second_and_deletes_nothing() {
    let gate = gate();
    gate.deliver(FAY, b"Subject: kept\r\n\r\nkept\r\n");
    let mut falls = gate.pop(FAY, APP);
    let mut stays = gate.pop(ANN, APP);
    assert!(falls.command("DELE 1").starts_with("+OK"));
    let other = idle(&gate, FAY, APP);

    let saved = Instant::now();
    gate.set_policy(&policy("\"any\"", "\"off\"", ""));
    let last = falls.wire.line();
    assert!(saved.elapsed() < AT_MOST, "the -ERR took {:?}", saved.elapsed());
    assert!(last.starts_with("-ERR [SYS/PERM] POP access is disabled for your domain."), "{last}");
    assert_eq!(falls.wire.rest(), b"");
    assert!(stays.command("NOOP").starts_with("+OK"));
    goes_on(other);
    assert_eq!(gate.imap(FAY, APP).read_all("INBOX").len(), 1, "a session cut off deletes nothing");
}

#[test]
fn an_app_taken_off_the_list_is_out_within_a_second_and_the_others_stay() {
    let gate =
        Gate::with(Setup { policy: policy(r#"["test-mail", "other-mail"]"#, "\"off\"", ""), ..Setup::default() });
    let mut falls = idle(&gate, FAY, OTHER_APP).0;
    let stays = idle(&gate, FAY, APP);
    let saved = Instant::now();
    gate.set_policy(&policy(r#"["test-mail"]"#, "\"off\"", ""));
    out(&gate, &mut falls, saved, FAY, OTHER_APP, OTHER_APP);
    goes_on(stays);
}

#[test]
fn a_blocked_app_is_out_within_a_second() {
    let gate = gate();
    let mut falls = idle(&gate, FAY, OTHER_APP).0;
    let stays = idle(&gate, FAY, APP);
    let saved = Instant::now();
    let blocked = policy("\"any\"", "\"any\"", "")
        .replace("name = \"Other Mail\"", "name = \"Other Mail\"\ntrust = \"blocked\"");
    gate.set_policy(&blocked);
    out(&gate, &mut falls, saved, FAY, OTHER_APP, OTHER_APP);
    goes_on(stays);
}

#[test]
fn a_suspended_user_is_out_within_a_second() {
    let gate = gate();
    let mut falls = idle(&gate, FAY, APP).0;
    let mut falls_too = gate.pop(FAY, APP);
    let stays = idle(&gate, ANN, APP);
    let saved = Instant::now();
    gate.set_policy(&policy("\"any\"", "\"any\"", "suspended = true"));
    let last = falls_too.wire.line();
    assert!(last.starts_with("-ERR ["), "{last}");
    assert!(saved.elapsed() < AT_MOST, "the -ERR took {:?}", saved.elapsed());
    let (_, at) = falls.bye();
    assert!(at - saved < AT_MOST, "the BYE took {:?}", at - saved);
    goes_on(stays);
}

#[test]
fn an_exception_that_runs_out_ends_its_sessions_by_itself() {
    let end_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 4;
    let end = UNIX_EPOCH + Duration::from_secs(end_s);
    let until = format!("imap = {{ apps = \"any\", until = {} }}", utc(end_s));
    let gate = Gate::with(Setup { policy: policy("\"off\"", "\"off\"", &until), ..Setup::default() });
    let mut falls = idle(&gate, FAY, APP).0;
    let stays = idle(&gate, ANN, APP);
    let (text, _) = falls.bye();
    let now = SystemTime::now();
    assert!(text.contains("IMAP access is disabled for your domain."), "{text}");
    assert!(now >= end, "ended {:?} early", end.duration_since(now));
    let late = now.duration_since(end).unwrap();
    assert!(late < AT_MOST, "the BYE came {late:?} late");
    goes_on(stays);
}

/// RFC 3339, seconds since 1970, as TOML writes a time.
fn utc(seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days to a date: Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

#[test]
fn a_withdrawn_key_ends_the_sessions_it_signed_for_and_no_others() {
    let gate = gate();
    let second = SigningKey::new("test-key-2");
    gate.set_keys(&[&gate.key, &second]);
    let token = support::token::mint(&second, FAY, APP, 3600);
    let mut falls = Imap::connect(&gate);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !falls.command(&format!("AUTHENTICATE XOAUTH2 {}", xoauth2(FAY, &token))).status.starts_with("OK") {
        assert!(Instant::now() < deadline, "the second key was not read within 10 s");
        std::thread::sleep(Duration::from_millis(100));
        falls = Imap::connect(&gate);
    }
    falls.ok("SELECT INBOX");
    falls.idle();
    let stays = idle(&gate, FAY, APP);

    let saved = Instant::now();
    gate.set_keys(&[&gate.key]);
    let (text, at) = falls.bye();
    assert!(text.starts_with("[AUTHENTICATIONFAILED]"), "{text}");
    assert!(at - saved < AT_MOST, "the BYE took {:?}", at - saved);
    goes_on(stays);
    let again = Imap::connect(&gate).command(&format!("AUTHENTICATE XOAUTH2 {}", xoauth2(FAY, &token))).status;
    assert!(again.starts_with("NO [AUTHENTICATIONFAILED]"), "{again}");
}

/// A message of 24 MiB: more than every buffer between the store and a program that does not read.
fn large() -> Vec<u8> {
    let mut message = b"Subject: large\r\n\r\n".to_vec();
    let line = [b"x".repeat(76).as_slice(), b"\r\n"].concat();
    while message.len() < 24 << 20 {
        message.extend_from_slice(&line);
    }
    message
}

#[test]
fn a_session_in_the_middle_of_a_fetch_ends_within_a_second_of_the_change() {
    let gate = gate();
    let message = large();
    gate.deliver(FAY, &message);
    let mut reads = gate.imap(FAY, APP); // takes what comes, slowly
    let mut stuck = gate.imap(FAY, APP); // takes nothing
    for imap in [&mut reads, &mut stuck] {
        imap.ok("SELECT INBOX");
        imap.send("FETCH 1 BODY.PEEK[]");
        let head = imap.wire.line();
        assert!(head.contains(&format!("{{{}}}", message.len())), "{head}");
    }
    let got = reads.wire.bytes(1 << 20);
    assert_eq!(got, message[..1 << 20]);

    let saved = Instant::now();
    gate.set_policy(&policy("\"off\"", "\"any\"", ""));
    // The literal that was announced cannot be broken off by a BYE that the program could tell from its message, so
    // the connection ends; it may end at once or after the literal, with a BYE then.
    let mut end = Vec::new();
    while saved.elapsed() < Duration::from_secs(10) {
        let rest = reads.wire.some();
        if rest.is_empty() {
            break;
        }
        end.extend(rest);
    }
    assert!(saved.elapsed() < AT_MOST, "the reading session lasted {:?}", saved.elapsed());
    if got.len() + end.len() >= message.len() {
        let after = String::from_utf8_lossy(&end[message.len() - got.len()..]).into_owned();
        assert!(after.contains("* BYE [CONTACTADMIN] IMAP access is disabled for your domain."), "{after}");
    }
    std::thread::sleep(AT_MOST.saturating_sub(saved.elapsed()));
    let rest = stuck.wire.rest();
    assert!(rest.len() < message.len(), "the session that took nothing was served {} octets more", rest.len());
}

/// Work that waits for nothing: once a header was gone through as often as it was asked for, and nobody had a turn.
#[test]
fn a_session_that_goes_through_a_long_header_again_and_again_ends_within_a_second_of_the_change() {
    let gate = gate();
    gate.deliver(FAY, &[b"a:\r\n".repeat(2_500_000).as_slice(), b"\r\nx\r\n"].concat());
    let mut imap = gate.imap(FAY, APP);
    imap.ok("SELECT INBOX");
    let items: Vec<String> = (0..200).map(|number| format!("BODY.PEEK[HEADER.FIELDS (X{number})]")).collect();
    imap.send(&format!("FETCH 1 ({})", items.join(" ")));
    std::thread::sleep(Duration::from_millis(300));

    let saved = Instant::now();
    gate.set_policy(&policy("\"off\"", "\"any\"", ""));
    let rest = imap.wire.rest();
    assert!(saved.elapsed() < AT_MOST, "the session lasted {:?}", saved.elapsed());
    assert!(!String::from_utf8_lossy(&rest).contains("FETCH done"), "it was over before");
}

#[test]
fn a_session_in_the_middle_of_an_append_ends_within_a_second_and_keeps_nothing() {
    let gate = gate();
    let stays = idle(&gate, ANN, APP);
    let mut imap = gate.imap(FAY, APP);
    imap.send("APPEND INBOX {1000000}");
    let go = imap.wire.line();
    assert!(go.starts_with('+'), "{go}");
    imap.wire.send_bytes(&large()[..300_000]);

    let saved = Instant::now();
    gate.set_policy(&policy("\"off\"", "\"any\"", ""));
    let (text, at) = imap.bye();
    assert!(text.starts_with("[CONTACTADMIN] IMAP access is disabled for your domain."), "{text}");
    assert!(at - saved < AT_MOST, "the BYE took {:?}", at - saved);
    goes_on(stays);
    gate.set_policy(&policy("\"any\"", "\"any\"", ""));
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut again = Imap::connect(&gate);
    while !again
        .command(&format!("AUTHENTICATE XOAUTH2 {}", xoauth2(FAY, &gate.token(FAY, APP))))
        .status
        .starts_with("OK")
    {
        assert!(Instant::now() < deadline, "a unit that is on again lets in");
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = again.ok("STATUS INBOX (MESSAGES)").lines().join("\n");
    assert!(status.contains("MESSAGES 0"), "{status}");
    let left = mail::from_maildirs(&gate.maildir(FAY)).len();
    assert_eq!(left, 0, "nothing of the message may stay");
}

#[test]
fn a_peer_that_goes_on_sending_its_message_is_rid_of_the_connection_soon_after_the_change() {
    let gate = gate();
    let mut imap = gate.imap(FAY, APP);
    imap.send("APPEND INBOX {1000000}");
    assert!(imap.wire.line().starts_with('+'));
    gate.set_policy(&policy("\"off\"", "\"any\"", ""));
    let saved = Instant::now();
    let is_cut = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        imap.wire.send_until_stuck(&[b'x'; 1000], 1)
    });
    // The BYE within a second; then what crosses with it is thrown away for half a second.
    assert!(is_cut && saved.elapsed() < AT_MOST + Duration::from_secs(1), "{is_cut}, {:?}", saved.elapsed());
}

#[test]
fn a_login_that_races_the_change_loses() {
    let gate = gate();
    let token = gate.token(FAY, APP);
    let saved = std::thread::scope(|scope| {
        let tries = (0..4).map(|_| {
            scope.spawn(|| {
                let mut open = Vec::new();
                for _ in 0..8 {
                    let mut imap = Imap::connect(&gate);
                    let reply = imap.command(&format!("AUTHENTICATE XOAUTH2 {}", xoauth2(FAY, &token)));
                    if reply.status.starts_with("OK") {
                        open.push(imap);
                    }
                }
                open
            })
        });
        let tries: Vec<_> = tries.collect();
        std::thread::sleep(Duration::from_millis(60));
        let saved = Instant::now();
        gate.set_policy(&policy("\"off\"", "\"any\"", ""));
        for open in tries {
            for mut imap in open.join().unwrap() {
                imap.bye();
            }
        }
        saved
    });
    assert!(saved.elapsed() < Duration::from_secs(10));
    let late = Imap::connect(&gate).command(&format!("AUTHENTICATE XOAUTH2 {}", xoauth2(FAY, &token))).status;
    assert!(late.starts_with("NO [CONTACTADMIN]"), "{late}");
}

#[test]
fn a_policy_that_the_database_could_not_take_is_applied_when_it_can() {
    let gate = gate();
    let (mut imap, _tag) = idle(&gate, FAY, APP);
    let url = gate.database();
    let begin = if url.starts_with("sqlite") { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    sqlx::any::install_default_drivers();
    let pool = runtime.block_on(sqlx::AnyPool::connect(&url)).unwrap();
    // As another process would hold it, for longer than the gate waits for its turn.
    let mut held = runtime.block_on(pool.begin_with(begin)).unwrap();
    let hold = sqlx::query("UPDATE counters SET number = number WHERE name = 'change'");
    runtime.block_on(hold.execute(&mut *held)).unwrap();
    gate.set_policy(&policy("\"off\"", "\"any\"", ""));
    gate.wait_for_log("policy not applied");
    runtime.block_on(held.rollback()).unwrap();
    let (text, _) = imap.bye();
    assert!(text.contains("IMAP access is disabled for your domain."), "{text}");
}

#[test]
fn a_policy_file_that_is_empty_while_it_is_being_written_drops_nobody() {
    let gate = gate();
    let stays = idle(&gate, FAY, APP);
    let file = gate.dir().join("policy.toml");
    std::fs::write(&file, "").unwrap();
    gate.wait_for_log("policy not applied");
    std::fs::write(&file, policy("\"any\"", "\"off\"", "")).unwrap();
    gate.wait_for_log("policy applied file=");
    std::thread::sleep(Duration::from_millis(300));
    goes_on(stays);
}

#[test]
fn a_policy_file_that_is_wrong_changes_nothing() {
    let gate = gate();
    let stays = idle(&gate, FAY, APP);
    gate.set_policy("[unit.\"/Field\"]\nimap = \"sometimes\"\n");
    std::thread::sleep(AT_MOST);
    goes_on(stays);
    // The watcher goes on: the next right file is applied.
    let mut falls = idle(&gate, FAY, APP).0;
    let saved = Instant::now();
    gate.set_policy(&policy("\"off\"", "\"off\"", ""));
    out(&gate, &mut falls, saved, FAY, APP, "IMAP access is disabled for your domain.");
}
