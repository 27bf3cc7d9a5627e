//! Many relayed sessions at once: what a change of policy, an admin, the end of the gate and the end of a server mean to them,
//! and to nobody else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use support::{
    ANN, APP, Gate, POLICY, Setup,
    api::Api,
    dovecot::{Dovecot, free_port},
    fake::{Fake, Served, Speaks},
    until,
    wire::{Imap, xoauth2},
};

/// From the change saved to the last word on the wire.
const AT_MOST: Duration = Duration::from_secs(1);
const BY_MASTER: &str = "login = { by = \"master\", user = \"gate\", secret_env = \"MASTER\" }\n";

/// A gate before these servers, with users in a unit `/Field` that is set to `imap`.
fn gate_before(imap: &[String], pop3: &[String], more: &str, limits: &str) -> Gate {
    let list = |servers: &[String]| servers.iter().map(|at| format!("\"{at}\"")).collect::<Vec<_>>().join(", ");
    let setup = Setup::behind(&list(imap), &list(pop3), &format!("{more}{BY_MASTER}"));
    Gate::with(Setup {
        policy: policy("any"),
        limits: format!("{}trusted_networks = [\"127.0.0.0/8\"]\n{limits}", setup.limits),
        listen: "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n".to_owned(),
        environment: vec![("MASTER", "open-sesame")],
        ..setup
    })
}

fn policy(field: &str) -> String {
    let users: String = (0..20).map(|n| format!("[user.\"{}\"]\nunit = \"/Field\"\n", field_user(n))).collect();
    format!("{POLICY}\n[unit.\"/Field\"]\nimap = \"{field}\"\npop = \"{field}\"\n{users}")
}

fn field_user(number: usize) -> String {
    format!("user{number}@example.com")
}

fn idle(gate: &Gate, user: &str) -> (Imap, String) {
    let mut imap = gate.imap(user, APP);
    let tag = imap.idle();
    (imap, tag)
}

/// Checks that a session in IDLE heard nothing and still works.
fn goes_on((mut imap, tag): (Imap, String)) {
    assert!(imap.wire.is_silent_for(Duration::from_millis(20)), "a session that keeps its right was disturbed");
    imap.wire.send("DONE");
    assert!(imap.finish(&tag).status.starts_with("OK"));
    imap.ok("NOOP");
}

// ---- a change, an admin, the end of the gate ----

#[test]
fn three_hundred_relayed_sessions_in_idle_end_within_a_second_of_the_change_and_no_others() {
    let fake = Fake::start(Speaks::Imap);
    let gate = gate_before(&[fake.at.to_string()], &[], "tls = false\nhealth_s = 0\n", "");
    let mut falls: Vec<(Imap, String)> = Vec::new();
    thread::scope(|scope| {
        let gate = &gate;
        let quarter = |from: usize| {
            move || -> Vec<_> {
                (from..from + 5).flat_map(|n| (0..15).map(move |_| idle(gate, &field_user(n)))).collect()
            }
        };
        let threads: Vec<_> = [0, 5, 10, 15].map(|from| scope.spawn(quarter(from))).into_iter().collect();
        falls.extend(threads.into_iter().flat_map(|thread| thread.join().unwrap()));
    });
    let stay: Vec<_> = (0..10).map(|_| idle(&gate, ANN)).collect();
    assert_eq!((falls.len(), fake.busy()), (300, 310));

    let saved = Instant::now();
    gate.set_policy(&policy("off"));
    for (imap, _) in &mut falls {
        let (text, at) = imap.bye();
        assert!(text.starts_with("[CONTACTADMIN] IMAP access is disabled for your domain."), "{text}");
        assert!(at - saved < AT_MOST, "the BYE took {:?}", at - saved);
    }
    until("their connections to the server are closed", || fake.busy() == 10);
    stay.into_iter().for_each(goes_on);
}

#[test]
fn an_admin_lists_relayed_sessions_and_ends_one() {
    let (imap, pop) = (Fake::start(Speaks::Imap), Fake::start(Speaks::Pop));
    let more = "tls = false\nhealth_s = 0\n";
    let gate = gate_before(&[imap.at.to_string()], &[pop.at.to_string()], more, "");
    let (mut ends, stays) = (idle(&gate, ANN).0, idle(&gate, &field_user(0)));
    let mut pop_ends = gate.pop(ANN, APP);
    assert_eq!(pop_ends.command("STAT"), "+OK");
    let api = Api::first(&gate);
    let listed = api.get(&format!("/api/v1/sessions?user={ANN}")).json();
    let items = listed["items"].as_array().unwrap();
    let of = |service: &str| items.iter().find(|item| item["service"] == service).unwrap();
    assert_eq!((items.len(), &of("imap")["command"], &of("pop")["command"]), (2, &"IDLE".into(), &"STAT".into()));
    assert!(of("imap")["sent"].as_u64().unwrap() > 0, "{listed}");

    let began = Instant::now();
    let one = format!("/api/v1/sessions/{}", of("imap")["id"].as_str().unwrap());
    assert_eq!(api.delete(&one).status, StatusCode::NO_CONTENT);
    let (text, at) = ends.bye();
    assert!(text.starts_with("[ALERT] "), "{text}");
    assert!(at - began < AT_MOST, "{:?}", at - began);
    assert_eq!(pop_ends.command("NOOP"), "+OK");
    let which = serde_json::json!({ "user": ANN });
    assert_eq!(api.post("/api/v1/sessions/end", &which).status, StatusCode::ACCEPTED);
    assert!(pop_ends.wire.line().starts_with("-ERR [SYS/TEMP] "));
    until("their connections to the servers are closed", || (imap.busy(), pop.busy()) == (1, 0));
    goes_on(stays);
}

/// Sends a message of so many pieces, 50 ms each; where it breaks off it says nothing more.
fn piece_by_piece(it: &mut Served, pieces: usize, breaks_off: bool) -> std::io::Result<()> {
    it.lets_in()?;
    let line = it.line()?;
    it.say(format!("* 1 FETCH (BODY[] {{{}}}\r\n", pieces * 1000))?;
    for _ in 0..pieces / if breaks_off { 2 } else { 1 } {
        it.say([b'x'; 1000])?;
        thread::sleep(Duration::from_millis(50));
    }
    if breaks_off {
        return it.waits();
    }
    it.say(format!(")\r\n{} OK\r\n", line.split(' ').next().unwrap()))?;
    it.obliges()
}

#[test]
fn sigterm_ends_relayed_sessions_between_two_responses_and_the_gate_in_time() {
    let (imap, pop) = (Fake::start(Speaks::Imap), Fake::start(Speaks::Pop));
    let more = "tls = false\nhealth_s = 0\n";
    let mut gate = gate_before(&[imap.at.to_string()], &[pop.at.to_string()], more, "drain_s = 4\n");
    let (mut idles, mut pops) = (idle(&gate, ANN).0, gate.pop(ANN, APP));
    assert_eq!(pops.command("STAT"), "+OK");
    imap.plays(|it| piece_by_piece(it, 30, false));
    let mut reads = gate.imap(ANN, APP);
    reads.send("FETCH 1 BODY[]");
    imap.plays(|it| piece_by_piece(it, 10, true));
    let mut hangs = gate.imap(ANN, APP);
    hangs.send("FETCH 1 BODY[]");
    assert_eq!(reads.wire.line(), "* 1 FETCH (BODY[] {30000}");
    assert_eq!(hangs.wire.line(), "* 1 FETCH (BODY[] {10000}");

    let began = Instant::now();
    gate.signal("TERM");
    let bye = "[UNAVAILABLE] Shutting down; connect again in a moment";
    assert_eq!(idles.bye().0, bye);
    assert_eq!(pops.wire.line(), "-ERR [SYS/TEMP] shutting down; connect again in a moment");
    let reader = thread::spawn(move || String::from_utf8(reads.wire.rest()).unwrap());
    assert_eq!(String::from_utf8(hangs.wire.rest()).unwrap(), "x".repeat(5000));
    let all = reader.join().unwrap();
    let behind = all.strip_prefix(&"x".repeat(30_000)).expect("the whole message");
    assert!(
        behind == format!(")\r\n* BYE {bye}\r\n") || behind == format!(")\r\nt2 OK\r\n* BYE {bye}\r\n"),
        "{behind}"
    );
    assert_eq!(gate.wait(Duration::from_secs(6)).code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    until("the connections to the servers are closed", || (imap.busy(), pop.busy()) == (0, 0));
}

// ---- two servers ----

#[test]
fn a_server_that_dies_under_load_takes_nobody_along_but_its_own_and_gets_them_back() {
    let first = Fake::start(Speaks::Imap);
    let second = Fake::at(Speaks::Imap, "127.0.0.2:0".parse().unwrap());
    let at = first.at;
    let servers = [first.at.to_string(), second.at.to_string()];
    let gate = gate_before(&servers, &[], "tls = false\nhealth_s = 1\n", "");
    let users: Vec<String> = (0..16).map(field_user).collect();
    let mut open: Vec<_> = users.iter().map(|user| (user.clone(), idle(&gate, user))).collect();
    let of_first: BTreeSet<String> = first.owners().into_iter().collect();
    let of_second: BTreeSet<String> = second.owners().into_iter().collect();
    assert_eq!(of_first.len() + of_second.len(), users.len(), "each has one server");
    assert!(!of_first.is_empty() && !of_second.is_empty());

    // Everybody signs in again and again, two at a time, and one server dies.
    let (over, refused, dead) = (AtomicBool::new(false), Mutex::new(Vec::new()), Mutex::new(Some(first)));
    thread::scope(|scope| {
        for half in users.chunks(8) {
            let (gate, over, refused) = (&gate, &over, &refused);
            scope.spawn(move || {
                for user in half.iter().cycle().take_while(|_| !over.load(Ordering::Relaxed)) {
                    let blob = xoauth2(user, &gate.token(user, APP));
                    let reply = Imap::connect(gate).command(&format!("AUTHENTICATE XOAUTH2 {blob}"));
                    if !reply.status.starts_with("OK") {
                        refused.lock().unwrap().push(format!("{user}: {}", reply.status));
                    }
                }
            });
        }
        thread::sleep(Duration::from_millis(700));
        drop(dead.lock().unwrap().take());
        gate.wait_for_log("server is passed over until it does well again");
        thread::sleep(Duration::from_millis(500));
        over.store(true, Ordering::Relaxed);
    });
    // Nobody was refused but whoever had said to the first one, at that moment, by what they sign in.
    let refused = refused.into_inner().unwrap();
    let caught = |told: &String| {
        let (user, status) = told.split_once(": ").unwrap();
        of_first.contains(user) && status.starts_with("NO [UNAVAILABLE] ")
    };
    assert!(refused.len() <= 2 && refused.iter().all(caught), "{refused:?}");
    let mut left = Vec::new();
    for (user, (mut imap, tag)) in open.drain(..) {
        if of_first.contains(&user) {
            assert_eq!(imap.bye().0, "[UNAVAILABLE] The mail server is gone; connect again in a moment");
        } else {
            left.push((imap, tag));
        }
    }
    assert_eq!(left.len(), of_second.len());
    left.into_iter().for_each(goes_on);
    // The users of the dead one are in at the other.
    let stays = of_first.first().unwrap().clone();
    let held = idle(&gate, &stays);
    assert_eq!(second.owners().last(), Some(&stays));

    until("all others have left", || second.busy() == 1);
    let again = Fake::at(Speaks::Imap, at);
    gate.wait_for_log("server is used again");
    for user in users.iter().filter(|user| **user != stays) {
        gate.imap(user, APP).ok("LOGOUT");
    }
    let back: BTreeSet<String> = again.owners().into_iter().collect();
    assert_eq!(back, of_first.iter().filter(|user| **user != stays).cloned().collect());
    // Sessions of one user stay together, until the last of them has ended.
    gate.imap(&stays, APP).ok("LOGOUT");
    assert!(!again.owners().contains(&stays));
    goes_on(held);
    until("the user is back where they belong", || {
        gate.imap(&stays, APP).ok("LOGOUT");
        again.owners().contains(&stays)
    });
}

#[test]
fn two_dovecots_with_the_same_mail_stand_in_for_each_other() {
    let ports = [(free_port(), free_port()), (free_port(), free_port())];
    let at = |port: u16| format!("localhost:{port}");
    let (imap, pop3) = (ports.map(|(imap, _)| at(imap)), ports.map(|(_, pop)| at(pop)));
    let gate = gate_before(&imap, &pop3, "ca_file = \"ca.pem\"\nhealth_s = 1\n", "");
    let mail = tempfile::Builder::new().prefix("portcullis-shared-").tempdir().unwrap();
    std::fs::set_permissions(mail.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let more = format!(
        "mail_location = maildir:{}/%u\npassdb {{\n  driver = static\n  master = yes\n  args = password=open-sesame\n}}\n",
        mail.path().display()
    );
    let start = |ports| Dovecot::start_at(&gate, ports, &more);
    let (Some(first), Some(second)) = (start(ports[0]), start(ports[1])) else { return };
    let users: Vec<String> = (0..8).map(field_user).collect();
    let mut open: Vec<_> = users.iter().map(|user| gate.imap(user, APP)).collect();
    for (imap, user) in open.iter_mut().zip(&users) {
        imap.append("INBOX", "", format!("Subject: for {user}\r\n\r\n").as_bytes());
        imap.ok("SELECT INBOX");
    }
    let lives = |dovecot: &Dovecot, user: &str| dovecot.log().contains(&format!("Login: user=<{user}>"));
    until("all are in Dovecot's logs", || users.iter().all(|user| lives(&first, user) != lives(&second, user)));
    // The one that has the first user goes.
    let (gone, goes, other) =
        if lives(&first, &users[0]) { (ports[0], first, second) } else { (ports[1], second, first) };
    let stay: Vec<bool> = users.iter().map(|user| lives(&other, user)).collect();
    drop(goes);
    for ((imap, user), stays) in open.iter_mut().zip(&users).zip(&stay) {
        if *stays {
            imap.ok("NOOP");
        } else {
            // Dovecot says goodbye itself, or was too quick for that.
            let (text, _) = imap.bye();
            assert!(text.contains("hutting down") || text.starts_with("[UNAVAILABLE]"), "{text}");
        }
        let letters = gate.imap(user, APP).read_all("INBOX");
        assert_eq!(letters.len(), 1, "{user} reads it at the other one");
        let mut pop = gate.pop(user, APP);
        assert_eq!(pop.long("RETR 1"), format!("Subject: for {user}\r\n\r\n").as_bytes());
        assert!(pop.command("QUIT").starts_with("+OK"));
    }
    drop(open);
    until("both ports are passed over", || gate.log().matches("server is passed over").count() == 2);
    let Some(back) = start(gone) else { return };
    until("both ports are used again", || gate.log().matches("server is used again").count() == 2);
    for (user, stays) in users.iter().zip(stay) {
        assert_eq!(gate.imap(user, APP).read_all("INBOX").len(), 1);
        until("it is in Dovecot's log", || stays || lives(&back, user));
    }
}
