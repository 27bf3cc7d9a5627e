//! Each way to sign in at a server that nobody here wrote, and how that server learns where the peer is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use support::{
    ANN, APP, Gate, OTHER_APP, Setup,
    cyrus::Cyrus,
    dovecot::{Dovecot, Tokens, free_port},
    token,
    wire::{Imap, Pop, Wire, xoauth2},
};

const LISA: &str = "lisa@example.com";
/// The password of the master user.
const MASTER: &str = "open-sesame";
/// What a `login` by it looks like.
const BY_MASTER: &str =
    "login = { by = \"master\", user = \"gate\", secret_env = \"MASTER\", form = \"{owner}*{user}\" }\n";

/// Dovecot lets a master user in for everybody.
const WITH_MASTER: &str = "
auth_master_user_separator = *
passdb {
  driver = static
  master = yes
  args = password=open-sesame
}
";

/// A gate that finds all mail at these ports; `more` are lines of the upstream's table.
fn gate_before((imaps, pop3s): (u16, u16), more: &str) -> Gate {
    let (imap, pop3) = (format!("\"localhost:{imaps}\""), format!("\"localhost:{pop3s}\""));
    let setup = Setup::behind(&imap, &pop3, &format!("health_s = 0\n{more}"));
    Gate::with(Setup { environment: vec![("MASTER", MASTER)], client_certificate: Some("gate"), ..setup })
}

fn ports() -> (u16, u16) {
    (free_port(), free_port())
}

/// Waits until the server's log has a line with all of these.
fn logged(dovecot: &Dovecot, words: &[&str]) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let log = dovecot.log();
        if let Some(line) = log.lines().find(|line| words.iter().all(|word| line.contains(word))) {
            return line.to_owned();
        }
        assert!(Instant::now() < deadline, "no line with {words:?} in {log}");
        thread::sleep(Duration::from_millis(30));
    }
}

/// What the gate answers to a sign-in over IMAP, and to one over POP3 from another address.
fn answers(gate: &Gate, user: &str, token: &str) -> (String, String) {
    let blob = xoauth2(user, token);
    let mut imap = Imap::over(Wire::connect_from(gate, "127.0.0.2", gate.imaps));
    let mut pop = Pop::over(Wire::connect_from(gate, "127.0.0.3", gate.pop3s));
    (imap.command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status, pop.authenticate("XOAUTH2", &blob))
}

// ---- the peer's own token ----

#[test]
fn the_peers_own_token_opens_the_mailbox_by_either_mechanism() {
    for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
        let ports = ports();
        let gate = gate_before(
            ports,
            &format!(
                "ca_file = \"ca.pem\"\nclient_address = \"id\"\nlogin = {{ by = \"token\", mechanism = \"{mechanism}\" }}\n"
            ),
        );
        let tokens = Tokens::of(&gate, APP);
        let Some(dovecot) = Dovecot::start_at(&gate, ports, &tokens.lines) else { return };
        // This Dovecot wants to read "JWT" as a token's type; RFC 9068 has "at+jwt".
        let token = |app| gate.key.sign_as("JWT", &token::claims(ANN, app, 600));
        let mut imap = Imap::connect(&gate);
        imap.xoauth2(ANN, &token(APP));
        imap.append("INBOX", "", b"Subject: mine\r\n\r\nhers\r\n");
        let mut pop = Pop::connect(&gate);
        pop.xoauth2(ANN, &token(APP));
        assert_eq!(pop.long("RETR 1"), b"Subject: mine\r\n\r\nhers\r\n");
        for service in ["imap", "pop3"] {
            logged(
                &dovecot,
                &[&format!("{service}-login: Info: Login: user=<{ANN}>"), &format!("method={mechanism}")],
            );
        }

        // A token that we believe and Dovecot does not: it has no key for this app.
        let other = token(OTHER_APP);
        let (imap, pop) = answers(&gate, ANN, &other);
        assert!(imap.starts_with("NO [CONTACTADMIN] The mail server that has your mailbox does not let"), "{imap}");
        assert!(pop.starts_with("-ERR [SYS/PERM] The mail server that has your mailbox does not let"), "{pop}");
        let rows = gate.audit_with(&["--cause", "upstream_refused"], 2, |_| true);
        let detail = rows[0]["detail"].as_str().unwrap();
        assert!(detail.contains("of upstream there: it refused the sign-in"), "{detail}");
        let signature = other.rsplit_once('.').unwrap().1;
        assert!(!gate.log().contains(signature) && !format!("{rows:?}").contains(signature));
        // Dovecot makes an address wait from which it refused a sign-in; that is not the gate's own.
        let began = Instant::now();
        Imap::connect(&gate).xoauth2(ANN, &token(APP));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

// ---- by certificate ----

/// Dovecot lets whoever shows this certificate in for everybody, without a password.
const WITH_CERTIFICATE: &str = "
auth_mechanisms = plain external
auth_ssl_username_from_cert = yes
ssl_ca = <@CA@
ssl_verify_client_cert = yes
ssl_require_crl = no
passdb {
  driver = static
  master = yes
  mechanisms = external
  args = nopassword=y allow_nets=127.0.0.0/8
}
";

const BY_CERTIFICATE: &str = "ca_file = \"ca.pem\"\nlogin = { by = \"certificate\", certificate = \"gate.pem\", private_key = \"gate.key\" }\n";

/// A message goes in by IMAP and comes out by POP3.
fn carries_mail(gate: &Gate) {
    gate.imap(ANN, APP).append("INBOX", "", b"Subject: kept\r\n\r\nhers\r\n");
    assert_eq!(gate.pop(ANN, APP).long("RETR 1"), b"Subject: kept\r\n\r\nhers\r\n");
}

#[test]
fn a_certificate_opens_a_mailbox_of_dovecot() {
    let ports = ports();
    let gate = gate_before(ports, BY_CERTIFICATE);
    let more = WITH_CERTIFICATE.replace("@CA@", &gate.ca().display().to_string());
    let Some(dovecot) = Dovecot::start_at(&gate, ports, &more) else { return };
    carries_mail(&gate);
    for service in ["imap", "pop3"] {
        logged(&dovecot, &[&format!("{service}-login: Info: Login: user=<{ANN}>"), "method=EXTERNAL"]);
    }
}

#[test]
fn a_certificate_opens_a_mailbox_of_cyrus() {
    let ports = ports();
    let gate = gate_before(ports, BY_CERTIFICATE);
    let Some(_cyrus) = Cyrus::start_at(&gate, ports, MASTER) else { return };
    carries_mail(&gate);
}

// ---- USER and PASS ----

/// Stands in front of a POP3 server and hides from CAPA that it has SASL. Ends with its connections.
fn without_sasl(server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let between = move |peer: TcpStream| -> io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", server))?;
        let (mut said, mut to_server) = (peer.try_clone()?, server.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut said, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Write);
        });
        let (mut lines, mut to_peer) = (BufReader::new(server), peer);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            if !line.starts_with(b"SASL ") {
                to_peer.write_all(&line)?;
            }
            line.clear();
        }
        to_peer.shutdown(Shutdown::Both)
    };
    thread::spawn(move || {
        for peer in listener.incoming() {
            thread::spawn(move || between(peer.unwrap()));
        }
    });
    port
}

#[test]
fn a_master_user_comes_in_by_user_and_pass_where_there_is_no_sasl() {
    let ((imaps, pop3s), plain) = (ports(), free_port());
    // Not over TLS: who stands in between could not read it.
    let more = format!(
        "{WITH_MASTER}ssl = yes\ndisable_plaintext_auth = no\nservice pop3-login {{\n  inet_listener pop3 {{\n    port = \
         {plain}\n  }}\n}}\n"
    );
    let pop3 = format!("\"127.0.0.1:{}\"", without_sasl(plain));
    let setup = Setup::behind("", &pop3, &format!("health_s = 0\ntls = false\n{BY_MASTER}"));
    let gate = Gate::with(Setup { environment: vec![("MASTER", MASTER)], ..setup });
    let Some(dovecot) = Dovecot::start_at(&gate, (imaps, pop3s), &more) else { return };
    dovecot.imap(&gate, ANN).append("INBOX", "", b"Subject: kept\r\n\r\nhers\r\n");
    let mut pop = gate.pop(ANN, APP);
    assert_eq!(pop.long("RETR 1"), b"Subject: kept\r\n\r\nhers\r\n");
    assert!(pop.command("DELE 1").starts_with("+OK") && pop.command("QUIT").starts_with("+OK"));
    assert_eq!(dovecot.imap(&gate, ANN).read_all("INBOX").len(), 0);
    assert!(!gate.log().contains(MASTER));
}

// ---- where the peer is ----

/// A peer that is not where the gate is.
const ELSEWHERE: &str = "127.0.0.2";

#[test]
fn a_server_that_trusts_the_gate_learns_where_the_peer_is_and_nobody_can_forge_it() {
    let ports = ports();
    let gate = gate_before(ports, &format!("ca_file = \"ca.pem\"\nclient_address = \"id\"\n{BY_MASTER}"));
    let more = format!("{WITH_MASTER}login_trusted_networks = 127.0.0.0/8\nimap_id_log = *\n");
    let Some(dovecot) = Dovecot::start_at(&gate, ports, &more) else { return };
    let forged = "\"x-originating-ip\" \"192.0.2.66\" \"x-session-id\" \"forged\"";

    let mut imap = Imap::over(Wire::connect_from(&gate, ELSEWHERE, gate.imaps));
    imap.ok(&format!("ID (\"name\" \"before\" {forged})"));
    imap.xoauth2(ANN, &gate.token(ANN, APP));
    imap.ok(&format!("ID (\"name\" \"behind\" {forged})"));
    imap.ok("SELECT INBOX");
    let mut pop = Pop::over(Wire::connect_from(&gate, ELSEWHERE, gate.pop3s));
    assert!(pop.command("XCLIENT ADDR=192.0.2.66 SESSION=forged").starts_with("-ERR"));
    pop.xoauth2(ANN, &gate.token(ANN, APP));
    assert!(pop.command("XCLIENT ADDR=192.0.2.66 SESSION=forged").starts_with("-ERR"));
    assert!(pop.command("STAT").starts_with("+OK"));

    let rows = gate.audit_with(&["--user", ANN], 2, |row| row["event"] == "login");
    for (service, word) in [("imap", "imap"), ("pop3", "pop")] {
        let row = rows.iter().find(|row| row["service"] == word).unwrap();
        let session = format!("session=<{}>", row["session"].as_str().unwrap());
        let line = logged(&dovecot, &[&format!("{service}-login: Info: Login: user=<{ANN}>"), &session]);
        assert!(line.contains(&format!("rip={ELSEWHERE}, lip=127.0.0.1,")), "{line}");
    }
    let log = dovecot.log();
    assert!(!log.contains("forged") && !log.contains("192.0.2.66") && !log.contains("behind"), "{log}");
}

#[test]
fn a_server_that_reads_proxy_headers_learns_where_the_peer_is() {
    let ports = ports();
    let gate = gate_before(ports, &format!("ca_file = \"ca.pem\"\nproxy_protocol = true\n{BY_MASTER}"));
    let mut more = format!("{WITH_MASTER}haproxy_trusted_networks = 127.0.0.0/8\n");
    for service in ["imap", "pop3"] {
        more +=
            &format!("service {service}-login {{\n  inet_listener {service}s {{\n    haproxy = yes\n  }}\n}}\n");
    }
    let Some(dovecot) = Dovecot::start_at(&gate, ports, &more) else { return };
    let mut imap = Imap::over(Wire::connect_from(&gate, ELSEWHERE, gate.imaps));
    imap.xoauth2(ANN, &gate.token(ANN, APP));
    imap.append("INBOX", "", b"Subject: kept\r\n\r\nhers\r\n");
    let mut pop = Pop::over(Wire::connect_from(&gate, ELSEWHERE, gate.pop3s));
    pop.xoauth2(ANN, &gate.token(ANN, APP));
    assert!(pop.command("STAT").starts_with("+OK 1 "));
    for service in ["imap", "pop3"] {
        let line = logged(&dovecot, &[&format!("{service}-login: Info: Login: user=<{ANN}>")]);
        assert!(line.contains(&format!("rip={ELSEWHERE}, lip=127.0.0.1,")), "{line}");
    }
}

#[test]
fn a_user_who_has_all_sessions_that_dovecot_gives_takes_nobody_elses() {
    let ports = ports();
    let gate = gate_before(ports, &format!("ca_file = \"ca.pem\"\n{BY_MASTER}"));
    let more = format!("{WITH_MASTER}mail_max_userip_connections = 2\n");
    let Some(_dovecot) = Dovecot::start_at(&gate, ports, &more) else { return };
    let _held = [gate.imap(ANN, APP), gate.imap(ANN, APP)];
    let _pops = [gate.pop(ANN, APP), gate.pop(ANN, APP)];
    for _ in 0..4 {
        let blob = xoauth2(ANN, &gate.token(ANN, APP));
        let imap = Imap::connect(&gate).command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status;
        let pop = Pop::connect(&gate).authenticate("XOAUTH2", &blob);
        assert!(imap.starts_with("NO [INUSE] Your mailbox is in use, or has too many sessions"), "{imap}");
        assert!(pop.starts_with("-ERR [IN-USE] Your mailbox is in use, or has too many sessions"), "{pop}");
    }
    for session in [gate.imap(LISA, APP).command("NOOP").status, gate.pop(LISA, APP).command("NOOP")] {
        assert!(session.contains("OK"), "{session}");
    }
}
