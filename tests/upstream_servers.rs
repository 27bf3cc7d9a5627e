//! How the gate keeps an eye on the mail servers that it stands in front of: what it says when one is down or back, and that
//! it believes a server by its certificate alone. A Dovecot that nobody here wrote is one of them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    process::Command,
    thread,
};

use reqwest::StatusCode;
use support::{Gate, Setup, api::Api, dovecot::Dovecot, until};

const LISTEN: &str = "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n";

fn gate(upstream: &str) -> Gate {
    Gate::with(Setup { listen: LISTEN.to_owned(), more: upstream.to_owned(), ..Setup::default() })
}

/// Greets so many connections like an IMAP server; then nobody is there any more.
fn greets(listener: TcpListener, times: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for _ in 0..times {
            let (mut tcp, _) = listener.accept().unwrap();
            tcp.write_all(b"* OK ready\r\n").unwrap();
            let mut said = [0; 10];
            tcp.read_exact(&mut said).unwrap();
            assert_eq!(&said, b"a LOGOUT\r\n");
            tcp.write_all(b"* BYE\r\na OK\r\n").unwrap();
        }
    })
}

fn listen(at: SocketAddr) -> TcpListener {
    TcpListener::bind(at).unwrap_or_else(|error| panic!("{at}: {error}"))
}

#[test]
fn a_server_that_goes_and_comes_back_is_told_once_each_in_the_log_the_metrics_and_by_readiness() {
    let listener = listen("127.0.0.1:0".parse().unwrap());
    let at = listener.local_addr().unwrap();
    let first = greets(listener, 1);
    let gate = gate(&format!(
        "[[upstream]]\nname = \"old\"\nimap = [\"{at}\"]\ntls = false\nlogin = {{ by = \"token\" }}\nhealth_s = 1\n\
         [mail]\ndefault = \"old\"\n"
    ));
    let (stranger, admin) = (Api::stranger(&gate), Api::first(&gate));
    let label = format!("upstream=\"old\",service=\"imap\",server=\"{at}\"");
    let shows = |line: &str| admin.get("/metrics").text.lines().any(|found| found == line);
    first.join().unwrap();

    let down = "server is passed over until it does well again";
    gate.wait_for_log(down);
    let ready = stranger.get("/readyz");
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "{}", ready.text);
    assert!(ready.text.contains("no server that mail is on answers for IMAP"), "{}", ready.text);
    assert!(shows(&format!("portcullis_upstream_up{{{label}}} 0")));
    assert!(shows(&format!("portcullis_upstream_failures_total{{{label},kind=\"refused\"}} 3")));
    // It stays down for some looks more.
    until("looked at more often", || {
        (4..20).any(|n| shows(&format!("portcullis_upstream_failures_total{{{label},kind=\"refused\"}} {n}")))
    });

    let again = greets(listen(at), 2);
    gate.wait_for_log("server is used again");
    assert_eq!(stranger.get("/readyz").status, StatusCode::OK);
    assert!(shows(&format!("portcullis_upstream_up{{{label}}} 1")));
    again.join().unwrap();
    let log = gate.log();
    assert!(log.contains(&format!("{at} of upstream old refuses connections")), "{log}");
    assert_eq!(log.matches("server is used again").count(), 1, "{log}");
}

#[test]
fn a_real_server_is_believed_by_the_authority_that_the_file_holds_now() {
    // This one has an authority, and a certificate for Dovecot.
    let other = Gate::start();
    let Some(dovecot) = Dovecot::start(&other) else { return };
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    fs::copy(other.ca(), &ca).unwrap();
    let gate = gate(&format!(
        "[[upstream]]\nname = \"dovecot\"\nimap = [\"localhost:{}\"]\npop3 = [\"127.0.0.1:{}\"]\nca_file = {:?}\n\
         server_name = \"localhost\"\nlogin = {{ by = \"token\" }}\nhealth_s = 1\n",
        dovecot.imaps,
        dovecot.pop3s,
        ca.display().to_string()
    ));
    let checked = gate.portcullis(&["check"]);
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(told.contains("mail is on dovecot too; mail.default = maildir"), "{told}");
    assert!(told.contains(&format!("upstream.ca_file = {}", ca.display())), "{told}");
    // A certificate that is out of date is a warning: the gateway itself can do without.
    let mut old = rcgen::CertificateParams::new(vec!["gate.example.com".to_owned()]).unwrap();
    (old.not_before, old.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(dir.path().join("old.pem"), old.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(dir.path().join("old.key"), key.serialize_pem()).unwrap();
    let config = fs::read_to_string(gate.config()).unwrap();
    let shown = config.replace(
        "{ by = \"token\" }",
        &format!(
            "{{ by = \"certificate\", certificate = {0:?}, private_key = {1:?} }}",
            dir.path().join("old.pem"),
            dir.path().join("old.key")
        ),
    );
    fs::write(gate.dir().join("other.toml"), shown).unwrap();
    let other_config = gate.dir().join("other.toml");
    let checked =
        Command::new(env!("CARGO_BIN_EXE_portcullis")).args(["check", "--config"]).arg(other_config).output();
    let told = String::from_utf8(checked.unwrap().stdout).unwrap();
    assert!(
        told.contains("warning: upstream.login.certificate of dovecot: the certificate expired at 2021-"),
        "{told}"
    );

    let sign_ins = |service: &str| {
        let log = dovecot.log();
        log.lines().filter(|line| line.contains(&format!("{service}-login: "))).count()
    };
    until("looked at by Dovecot's own log", || sign_ins("imap") > 1 && sign_ins("pop3") > 1);
    assert!(!gate.log().contains("server is passed over"), "{}", gate.log());

    fs::copy(gate.ca(), &ca).unwrap();
    gate.wait_for_log("upstreams' certificates and secrets read again");
    gate.wait_for_log("has a certificate that is not believed: ");
    until("both servers passed over", || gate.log().matches("server is passed over").count() == 2);
    fs::write(&ca, "no certificate").unwrap();
    gate.wait_for_log("upstreams' files not read again, the old ones stay: ");
    fs::copy(other.ca(), &ca).unwrap();
    until("both servers used again", || gate.log().matches("server is used again").count() == 2);
}
