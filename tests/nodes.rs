//! Several gateway processes on one PostgreSQL: a change made through one holds on all; a database that goes away lets in
//! nobody whom it should not, and loses nothing. Needs Debian's `postgresql` (tests/install).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use support::{
    ANN, APP, Gate, OTHER_APP, POLICY, Setup, database,
    postgres::{self, Server},
    until,
    wire::{Imap, xoauth2},
};

/// From the change saved to the last word on the wire.
const AT_MOST: Duration = Duration::from_secs(1);
const FAY: &str = "fay@example.com";

fn policy(imap: &str) -> String {
    format!("{POLICY}\n[unit.\"/Field\"]\nimap = {imap}\n[user.\"{FAY}\"]\nunit = \"/Field\"\n")
}

/// So many nodes on one database, the first with the default grace, the others with none; the first one's tokens are good
/// everywhere.
fn nodes(url: &str, count: usize) -> Vec<Gate> {
    let mut nodes: Vec<Gate> = Vec::new();
    for number in 0..count {
        let grace = if number == 0 { "" } else { "grace_s = 0\n" };
        let gate =
            Gate::with(Setup { policy: policy("\"any\""), database: database(url) + grace, ..Setup::default() });
        if let Some(first) = nodes.first() {
            gate.set_keys(&[&first.key]);
        }
        nodes.push(gate);
    }
    let (first, others) = nodes.split_first().unwrap();
    for other in others {
        until("the key of the first node is known", || sign_in(other, first, ANN, APP).starts_with("OK"));
    }
    nodes
}

/// The tagged reply to a sign-in at `gate` with a token of `issuer`.
fn sign_in(gate: &Gate, issuer: &Gate, user: &str, app: &str) -> String {
    let token = issuer.token(user, app);
    Imap::connect(gate).command(&format!("AUTHENTICATE XOAUTH2 {}", xoauth2(user, &token))).status
}

/// A session of `user` in IDLE.
fn idle(gate: &Gate, issuer: &Gate, user: &str) -> (Imap, String) {
    let mut imap = Imap::connect(gate);
    imap.xoauth2(user, &issuer.token(user, APP));
    imap.ok("SELECT INBOX");
    let tag = imap.idle();
    (imap, tag)
}

fn goes_on((imap, tag): &mut (Imap, String)) {
    imap.wire.send("DONE");
    let reply = imap.finish(tag);
    assert!(reply.status.starts_with("OK"), "{}", reply.status);
    *tag = imap.idle();
}

fn is_in_order(gate: &Gate) {
    let output = gate.portcullis(&["audit", "verify"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.starts_with("the audit log is in order: "), "{text}");
}

#[test]
fn a_change_made_through_one_node_ends_sessions_on_the_others_within_a_second() {
    let Some(server) = postgres::shared() else { return };
    let nodes = nodes(&server.database(), 2);
    let [first, second] = &nodes[..] else { panic!("two nodes") };
    let mut falls: Vec<Imap> = [first, second, second].iter().map(|gate| idle(gate, first, FAY).0).collect();
    let mut stays = idle(second, first, ANN);
    // Several times, so that a poll that happens to come in time is no proof.
    for _ in 0..3 {
        let saved = Instant::now();
        first.set_policy(&policy("\"off\""));
        for imap in &mut falls {
            let (text, at) = imap.bye();
            assert!(text.starts_with("[CONTACTADMIN] IMAP access is disabled for your domain."), "{text}");
            assert!(at - saved < AT_MOST, "the BYE took {:?}", at - saved);
        }
        let late = sign_in(second, first, FAY, APP);
        assert!(late.starts_with("NO [CONTACTADMIN]"), "{late}");
        goes_on(&mut stays);

        first.set_policy(&policy("\"any\""));
        until("the unit is on again", || sign_in(second, first, FAY, APP).starts_with("OK"));
        until("the unit is on again", || sign_in(first, first, FAY, APP).starts_with("OK"));
        falls = [first, second].iter().map(|gate| idle(gate, first, FAY).0).collect();
    }
    drop((falls, stays));
    // Each node's rows are in the one log.
    let rows = first.audit_with(&["--user", FAY], 17, |row| row["event"] == "login");
    assert!(rows.iter().any(|row| row["reason"] == "policy_service_off"), "{rows:?}");
    is_in_order(second);
}

#[test]
fn a_database_that_goes_away_and_comes_back_lets_in_nobody_wrongly_and_loses_nothing() {
    let Some(server) = Server::start() else { return };
    let url = server.database();
    let nodes = nodes(&url, 2);
    let [patient, strict] = &nodes[..] else { panic!("two nodes") };
    let mut stays = idle(patient, patient, ANN);
    let mut fay = idle(patient, patient, FAY).0;
    let mut ends = idle(strict, patient, ANN).0;
    let before = patient.audit_with(&[], 4, |row| row["event"] == "login" && row["outcome"] == "yes").len();

    server.stop();
    let gone = Instant::now();
    // With a grace: who was in goes on, who is known comes in. What would be new has to wait.
    let known = sign_in(patient, patient, ANN, APP);
    assert!(known.starts_with("OK"), "{known}");
    let first_seen = sign_in(patient, patient, ANN, OTHER_APP);
    assert!(first_seen.starts_with("NO [UNAVAILABLE]"), "{first_seen}");
    let unknown = sign_in(patient, patient, "nobody@example.com", APP);
    assert!(unknown.starts_with("NO [AUTHORIZATIONFAILED]"), "{unknown}");
    let off = sign_in(patient, patient, "olaf@example.com", APP);
    assert!(off.starts_with("NO [CONTACTADMIN]"), "{off}");
    goes_on(&mut stays);
    // Without one: nobody comes in, and nobody stays in.
    let (text, at) = ends.bye();
    assert!(text.starts_with("[UNAVAILABLE]"), "{text}");
    assert!(at - gone < Duration::from_secs(8), "{:?}", at - gone);
    let refused = sign_in(strict, patient, ANN, APP);
    assert!(refused.starts_with("NO [UNAVAILABLE]"), "{refused}");
    // A change waits until the database can take it.
    patient.set_policy(&policy("\"off\""));
    patient.wait_for_log("policy not applied");
    // At once now, because it is known that the database does not answer.
    let asked = Instant::now();
    assert!(sign_in(patient, patient, ANN, OTHER_APP).starts_with("NO [UNAVAILABLE]"));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    goes_on(&mut stays);

    server.start_again();
    let (text, _) = fay.bye();
    assert!(text.starts_with("[CONTACTADMIN] IMAP access is disabled for your domain."), "{text}");
    until("the strict node has the change", || sign_in(strict, patient, FAY, APP).starts_with("NO [CONTACTADMIN]"));
    until("the strict node lets in again", || sign_in(strict, patient, ANN, APP).starts_with("OK"));
    until("a first login", || sign_in(patient, patient, ANN, OTHER_APP).starts_with("OK"));
    goes_on(&mut stays);

    // Every verdict of that time is in the log, once, under its own cause.
    let counts = |rows: &[serde_json::Value], reason: &str| {
        rows[before..].iter().filter(|row| row["event"] == "login" && row["reason"] == reason).count()
    };
    let rows = patient.audit_with(&[], 2, |row| row["app"] == OTHER_APP && row["reason"] == "unavailable_database");
    let told = ["user_unknown", "unavailable_database"].map(|reason| counts(&rows, reason));
    assert!(told[0] == 1 && told[1] >= 3, "{told:?} {rows:?}");
    let mut references: Vec<_> = rows.iter().filter_map(|row| row["reference"].as_str()).collect();
    let count = references.len();
    references.sort_unstable();
    references.dedup();
    assert_eq!(references.len(), count, "each refusal once");
    is_in_order(patient);
    for node in &nodes {
        assert!(!node.log().contains(postgres::PASSWORD), "the password is in the log");
    }
}

#[test]
fn the_password_of_the_database_may_stand_beside_the_config() {
    let Some(server) = postgres::shared() else { return };
    let url = server.database().replace(&format!(":{}@", postgres::PASSWORD), "@");
    let environment = vec![("PGPASSWORD", postgres::PASSWORD)];
    let gate = Gate::with(Setup { database: database(&url), environment, ..Setup::default() });
    assert!(sign_in(&gate, &gate, ANN, APP).starts_with("OK"));
}

#[test]
fn check_tells_of_the_database_server_what_a_start_would_and_makes_nothing() {
    let Some(server) = postgres::shared() else { return };
    let url = server.database();
    let mut gate = Gate::with(Setup { database: database(&url), ..Setup::default() });
    let say = |gate: &Gate| {
        let output = gate.portcullis(&["check"]);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!text.contains(postgres::PASSWORD), "{text}");
        (output.status.code(), text)
    };
    let (code, text) = say(&gate);
    let name = url.replace(&format!(":{}@", postgres::PASSWORD), "@").replace("?sslmode=disable", "");
    assert!(code == Some(0) && text.contains(&format!("{name}: database is in order\n")), "{text}");
    gate.signal("TERM");
    assert_eq!(gate.wait(Duration::from_secs(15)).code(), Some(0));

    let config = std::fs::read_to_string(gate.config()).unwrap();
    for (wrong, code, said) in [
        (server.database(), 0, ": no database yet; the first start makes it"),
        (url.replace(postgres::PASSWORD, "hunter3"), 2, " refuses this user or password"),
        (server.url("no_such"), 2, ": the server has no such database"),
    ] {
        std::fs::write(gate.config(), config.replace(&url, &wrong)).unwrap();
        let (found, text) = say(&gate);
        assert!(found == Some(code) && text.contains(said), "{found:?} {text}");
    }
}
