//! From the accept to the first word: addresses, certificates, PROXY headers, the limits on whoever has not signed in, and
//! the end by SIGTERM. Limits are short here, so that passing them takes a second or two.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs, io,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustls::{NamedGroup, ProtocolVersion, version};
use socket2::{Domain, Socket, Type};
use support::{
    ANN, APP, Gate, Setup,
    wire::{Imap, PATIENCE, Pop, Wire, xoauth2},
};

/// A gate with these lines in `[limits]`.
fn limited(limits: &str) -> Gate {
    Gate::with(Setup { limits: format!("failed_login_delay_s = 0\n{limits}"), ..Setup::default() })
}

/// A connection from another address of this machine.
fn from(source: &str, to: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source: IpAddr = source.parse().unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect(&SocketAddr::new("127.0.0.1".parse().unwrap(), to).into()).unwrap();
    socket.into()
}

fn tls(gate: &Gate, tcp: TcpStream) -> io::Result<Wire> {
    Wire::over(tcp, Wire::trusting(gate, rustls::DEFAULT_VERSIONS), "localhost")
}

fn leaf(gate: &Gate, host: &str) -> Vec<u8> {
    let tcp = TcpStream::connect(("127.0.0.1", gate.imaps)).unwrap();
    let config = Wire::trusting(gate, rustls::DEFAULT_VERSIONS);
    Wire::over(tcp, config, host).unwrap_or_else(|error| panic!("{host}: {error}")).certificate()
}

/// The first certificate in a PEM file, DER.
fn pem(gate: &Gate, stem: &str) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let text = fs::read(gate.dir().join(format!("{stem}.pem"))).unwrap();
    CertificateDer::from_pem_slice(&text).unwrap().to_vec()
}

/// How long until the gate closes the connection, whatever it says before.
fn closed_after(mut tcp: TcpStream) -> Duration {
    let began = Instant::now();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut chunk = [0; 1024];
    while matches!(tcp.read(&mut chunk), Ok(1..)) {}
    let took = began.elapsed();
    assert!(took < PATIENCE, "the gate never closed");
    took
}

#[test]
fn every_address_of_every_service_is_served() {
    let listen = "imaps = [\"127.0.0.1:0\", \"127.0.0.2:0\"]\npop3s = [\"127.0.0.3:0\", \"127.0.0.1:0\"]\n";
    let gate = Gate::with(Setup { listen: listen.to_owned(), ..Setup::default() });
    let addresses: Vec<String> =
        gate.listening.iter().map(|(service, at)| format!("{service} {}", at.ip())).collect();
    assert_eq!(addresses, ["imaps 127.0.0.1", "imaps 127.0.0.2", "pop3s 127.0.0.3", "pop3s 127.0.0.1"]);
    for (service, address) in &gate.listening {
        let mut wire = tls(&gate, TcpStream::connect(address).unwrap()).unwrap();
        let greeting = wire.line();
        let expected = if service == "imaps" { "* OK [CAPABILITY " } else { "+OK " };
        assert!(greeting.starts_with(expected), "{service} {address}: {greeting}");
    }
}

#[test]
fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
    let certificates = vec![("other", vec!["other.example.com", "*.wild.example.com"])];
    let gate = Gate::with(Setup { certificates, ..Setup::default() });
    let (first, other) = (pem(&gate, "server"), pem(&gate, "other"));
    for (host, expected) in [
        ("localhost", &first),
        ("other.example.com", &other),
        ("mail.wild.example.com", &other),
        // An address is no name: no SNI, so the first one.
        ("127.0.0.1", &first),
    ] {
        assert!(leaf(&gate, host) == *expected, "{host} got the wrong certificate");
    }
    let tcp = TcpStream::connect(("127.0.0.1", gate.imaps)).unwrap();
    let error = Wire::over(tcp, Wire::trusting(&gate, rustls::DEFAULT_VERSIONS), "unknown.example.com");
    let error = error.err().unwrap().to_string();
    assert!(error.contains("not valid for name"), "the first certificate is shown: {error}");
}

#[test]
fn a_new_certificate_is_for_new_connections_and_open_sessions_stay() {
    let gate = Gate::start();
    let mut session = gate.imap(ANN, APP);
    session.ok("SELECT INBOX");
    let old = leaf(&gate, "localhost");

    gate.certify("server", &["localhost", "127.0.0.1"]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while leaf(&gate, "localhost") == old {
        assert!(Instant::now() < deadline, "the old certificate is still shown");
        std::thread::sleep(Duration::from_millis(50));
    }
    let new = pem(&gate, "server");
    assert!(leaf(&gate, "localhost") == new);

    // One that is wrong changes nothing.
    fs::write(gate.dir().join("server.pem"), "no certificate at all").unwrap();
    gate.wait_for_log("certificates not read again, the old ones stay: ");
    assert!(leaf(&gate, "localhost") == new);

    gate.certify("server", &["localhost", "127.0.0.1"]);
    gate.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(10);
    while leaf(&gate, "localhost") == new {
        assert!(Instant::now() < deadline, "SIGHUP did not bring the new certificate");
        std::thread::sleep(Duration::from_millis(50));
    }
    session.ok("NOOP");
    session.ok("LOGOUT");
}

#[test]
fn the_proxys_word_for_the_address_counts_from_listed_networks_only() {
    let listen = "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\nproxy_protocol_from = [\"127.0.0.2/32\"]\n";
    let gate = Gate::with(Setup { listen: listen.to_owned(), ..Setup::default() });
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend_from_slice(&[198, 51, 100, 7, 192, 0, 2, 1, 0x1f, 0x40, 0x03, 0xe1]);
    let mut v6 = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    v6.extend_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    v6.extend_from_slice(&[0; 16]);
    v6.extend_from_slice(&[0x1f, 0x41, 0x03, 0xe1]);
    let headers: [(&[u8], &str); 3] = [
        (b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 993\r\n", "203.0.113.9:4000"),
        (&v2, "198.51.100.7:8000"),
        (&v6, "[2001:db8::9]:8001"),
    ];
    for (header, peer) in headers {
        // Cut anywhere, and with TLS right behind it.
        for cut in [0, 1, 12, header.len()] {
            let mut tcp = from("127.0.0.2", gate.imaps);
            tcp.set_nodelay(true).unwrap();
            tcp.write_all(&header[..cut]).unwrap();
            std::thread::sleep(Duration::from_millis(if cut == 0 { 0 } else { 30 }));
            tcp.write_all(&header[cut..]).unwrap();
            let mut wire = tls(&gate, tcp).unwrap_or_else(|error| panic!("{peer} cut at {cut}: {error}"));
            wire.line();
            wire.send(&format!("a AUTHENTICATE XOAUTH2 {}", xoauth2(ANN, &gate.token(ANN, APP))));
            assert!(wire.line().starts_with("a OK"), "{peer}");
            wire.send("b LOGOUT");
            wire.rest();
        }
        let is_login = |row: &serde_json::Value| row["event"] == "login" && row["peer"] == peer;
        let rows = gate.audit_with(&["--user", ANN], 4, is_login);
        assert_eq!(rows.into_iter().filter(is_login).count(), 4, "{peer}");
    }
    // From anybody else the header is no TLS.
    let mut tcp = TcpStream::connect(("127.0.0.1", gate.imaps)).unwrap();
    tcp.write_all(headers[0].0).unwrap();
    assert!(tls(&gate, tcp).is_err());
    // From the proxy nothing else than a header.
    assert!(tls(&gate, from("127.0.0.2", gate.imaps)).is_err());
    // Without a proxy nothing is needed.
    Imap::connect(&gate).ok("NOOP");
}

#[test]
fn a_handshake_that_takes_too_long_is_given_up() {
    let listen = "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\nproxy_protocol_from = [\"127.0.0.2/32\"]\n";
    let gate = Gate::with(Setup {
        listen: listen.to_owned(),
        limits: "tls_handshake_s = 1\n".to_owned(),
        ..Setup::default()
    });
    let silent = TcpStream::connect(("127.0.0.1", gate.imaps)).unwrap();
    let mut half = TcpStream::connect(("127.0.0.1", gate.pop3s)).unwrap();
    half.write_all(b"\x16\x03\x01\x02\x00\x01\x00").unwrap();
    let unproxied = from("127.0.0.2", gate.imaps);
    for (name, tcp) in [("silent", silent), ("half a hello", half), ("no PROXY header", unproxied)] {
        let took = closed_after(tcp);
        assert!(took < Duration::from_secs(4), "{name}: closed after {took:?}");
    }
    // Dripping does not help.
    let mut drip = TcpStream::connect(("127.0.0.1", gate.imaps)).unwrap();
    let began = Instant::now();
    for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".iter().cycle().take(60) {
        if drip.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(began.elapsed() < Duration::from_secs(4), "the gate took drops for {:?}", began.elapsed());
    Imap::connect(&gate);
}

#[test]
fn whoever_does_not_sign_in_is_sent_away_in_time() {
    let gate = limited("login_s = 2\n");
    let began = Instant::now();
    let (mut imap, mut pop) = (Imap::connect(&gate), Pop::connect(&gate));
    let mut signed_in = gate.imap(ANN, APP);
    // Being busy is not signing in.
    while began.elapsed() < Duration::from_millis(1500) {
        imap.ok("NOOP");
        pop.long("CAPA");
        std::thread::sleep(Duration::from_millis(100));
    }
    let (text, at) = imap.bye();
    assert!(text.starts_with("Nobody signed in"), "{text}");
    let took = at.duration_since(began);
    assert!((1900..4000).contains(&took.as_millis()), "{took:?}");
    assert!(pop.wire.line().starts_with("-ERR [SYS/TEMP] nobody signed in"));
    assert_eq!(pop.wire.rest(), b"");
    signed_in.ok("NOOP");
}

#[test]
fn of_those_who_have_not_signed_in_the_oldest_goes_first() {
    let gate = limited("connections_without_login = 2\n");
    let mut inside = gate.imap(ANN, APP);
    let mut oldest = Imap::connect(&gate);
    let mut second = Pop::connect(&gate);
    let mut third = Imap::connect(&gate);
    let (text, _) = oldest.bye();
    assert!(text.starts_with("Nobody signed in; too slow or too many waiting"), "{text}");
    second.long("CAPA");
    third.ok("NOOP");
    // Who has signed in makes room.
    third.xoauth2(ANN, &gate.token(ANN, APP));
    let mut fourth = Imap::connect(&gate);
    second.long("CAPA");
    fourth.ok("NOOP");
    inside.ok("NOOP");
}

#[test]
fn an_address_may_have_so_many_connections_and_is_told_when_it_has_more() {
    let gate = limited("connections_per_address = 2\ntrusted_networks = [\"127.0.0.3\"]\n");
    let one = gate.imap(ANN, APP);
    let two = Imap::connect(&gate);
    for _ in 0..3 {
        let mut wire = Wire::connect(&gate, gate.imaps);
        assert_eq!(wire.line(), "* BYE [LIMIT] Too many connections: close some and try again.");
        assert_eq!(wire.rest(), b"");
        let mut wire = Wire::connect(&gate, gate.pop3s);
        assert_eq!(wire.line(), "-ERR [SYS/TEMP] Too many connections: close some and try again.");
        assert_eq!(wire.rest(), b"");
    }
    let other = tls(&gate, from("127.0.0.2", gate.imaps)).unwrap().line();
    assert!(other.starts_with("* OK"), "another address: {other}");
    let trusted: Vec<Wire> = (0..4).map(|_| tls(&gate, from("127.0.0.3", gate.imaps)).unwrap()).collect();
    for mut wire in trusted {
        assert!(wire.line().starts_with("* OK"), "a trusted network has no such limit");
    }
    drop(two);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !Wire::connect(&gate, gate.imaps).line().starts_with("* OK") {
        assert!(Instant::now() < deadline, "a connection that has gone is still counted");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(one);
}

#[test]
fn the_process_may_have_so_many_connections() {
    let gate = limited("connections = 3\nconnections_without_login = 3\nconnections_per_address = 3\n");
    let held = (gate.imap(ANN, APP), gate.imap(ANN, APP), Imap::connect(&gate));
    let mut wire = tls(&gate, from("127.0.0.2", gate.imaps)).unwrap();
    assert_eq!(wire.line(), "* BYE [LIMIT] Too many connections: close some and try again.");
    drop(held);
    std::thread::sleep(Duration::from_millis(200));
    assert!(tls(&gate, from("127.0.0.2", gate.imaps)).unwrap().line().starts_with("* OK"));
}

#[test]
fn sigterm_tells_everybody_and_the_gate_is_gone_in_time() {
    let mut gate = limited("drain_s = 4\n");
    let mut idle = gate.imap(ANN, APP);
    idle.ok("SELECT INBOX");
    idle.idle();
    let mut stranger = Imap::connect(&gate);
    let mut pop = gate.pop(ANN, APP);
    let half = TcpStream::connect(("127.0.0.1", gate.imaps)).unwrap();
    let began = Instant::now();
    gate.signal("TERM");
    for (name, text) in [("idle", idle.bye().0), ("stranger", stranger.bye().0)] {
        assert_eq!(text, "[UNAVAILABLE] Shutting down; connect again in a moment", "{name}");
    }
    assert_eq!(pop.wire.line(), "-ERR [SYS/TEMP] shutting down; connect again in a moment");
    assert_eq!(pop.wire.rest(), b"");
    let status = gate.wait(Duration::from_secs(6));
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    drop(half);
    let rows = gate.audit(&["--user", ANN]);
    let ended = rows.iter().filter(|row| row["event"] == "session.ended" && row["reason"] == "shutdown").count();
    assert_eq!(ended, 2, "{rows:?}");
}

#[test]
fn a_peer_that_takes_nothing_does_not_hold_up_the_end() {
    let mut gate = limited("drain_s = 2\n");
    gate.deliver(ANN, &big(30));
    let mut stuck = gate.imap(ANN, APP);
    stuck.ok("SELECT INBOX");
    stuck.send("FETCH 1 BODY[]");
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    gate.signal("TERM");
    assert_eq!(gate.wait(Duration::from_secs(10)).code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
}

/// A message of so many MiB.
fn big(mib: usize) -> Vec<u8> {
    let mut message = b"Subject: large\r\n\r\n".to_vec();
    let line = [&[b'x'; 76][..], b"\r\n"].concat();
    while message.len() < mib * 1024 * 1024 {
        message.extend_from_slice(&line);
    }
    message
}

#[test]
fn a_peer_that_takes_nothing_is_given_up() {
    let gate = limited("output_stall_s = 1\n");
    gate.deliver(ANN, &big(30));
    let mut imap = gate.imap(ANN, APP);
    imap.ok("SELECT INBOX");
    imap.send("FETCH 1 BODY[]");
    let mut pop = gate.pop(ANN, APP);
    pop.wire.send("RETR 1");
    gate.audit_with(&["--user", ANN], 2, |row| row["event"] == "session.ended");
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_1_1_is_not() {
    let gate = Gate::start();
    for (version, expected) in
        [(&version::TLS12, ProtocolVersion::TLSv1_2), (&version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        for port in [gate.imaps, gate.pop3s] {
            let tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let mut wire = Wire::over(tcp, Wire::trusting(&gate, &[version]), "localhost").unwrap();
            assert_eq!(wire.tls().protocol_version(), Some(expected));
            wire.line();
        }
        let mut imap = Wire::over(
            TcpStream::connect(("127.0.0.1", gate.imaps)).unwrap(),
            Wire::trusting(&gate, &[version]),
            "localhost",
        )
        .unwrap();
        imap.line();
        imap.send(&format!("a AUTHENTICATE XOAUTH2 {}", xoauth2(ANN, &gate.token(ANN, APP))));
        assert!(imap.line().starts_with("a OK"), "{expected:?}");
    }
    let rows = gate.audit_with(&["--user", ANN], 2, |row| row["event"] == "login");
    let versions: Vec<&str> =
        rows.iter().filter(|row| row["event"] == "login").filter_map(|row| row["tls"].as_str()).collect();
    assert_eq!(versions, ["TLSv1.2", "TLSv1.3"]);

    let mut old = TcpStream::connect(("127.0.0.1", gate.imaps)).unwrap();
    old.set_read_timeout(Some(PATIENCE)).unwrap();
    old.write_all(&hello_1_1()).unwrap();
    let mut answer = Vec::new();
    let _ = old.read_to_end(&mut answer);
    // A fatal alert (RFC 5246 section 7.2): protocol_version, or handshake_failure, since such a client names no
    // signature algorithm either.
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    assert!(matches!(answer.get(5..), Some([2, 70 | 40])), "{answer:?}");
}

/// A ClientHello of TLS 1.1 (RFC 4346 section 7.4.1.2), with the cipher suites of its time.
fn hello_1_1() -> Vec<u8> {
    let mut body = vec![3, 2];
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    body.extend_from_slice(&[0, 6, 0xc0, 0x14, 0x00, 0x35, 0x00, 0x2f]);
    body.extend_from_slice(&[1, 0]);
    let mut hello = vec![22, 3, 1, 0, u8::try_from(body.len() + 4).unwrap(), 1, 0, 0];
    hello.push(u8::try_from(body.len()).unwrap());
    hello.extend_from_slice(&body);
    hello
}

#[test]
fn a_client_that_offers_a_post_quantum_key_exchange_gets_it() {
    let gate = Gate::start();
    let wire = Wire::connect(&gate, gate.imaps);
    assert_eq!(wire.tls().negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
}

#[test]
fn whatever_arrives_the_gate_neither_falls_nor_forgets_anybody() {
    let gate = limited("tls_handshake_s = 2\nlogin_s = 5\n");
    let mut steady = gate.imap(ANN, APP);
    steady.ok("SELECT INBOX");
    let rubbish: [&[u8]; 8] = [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"a LOGIN ann secret\r\n",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x80\x2e\x01\x00\x02",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        &[0xff; 20_000],
    ];
    for bytes in rubbish {
        for port in [gate.imaps, gate.pop3s] {
            let mut tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let _ = tcp.write_all(bytes);
        }
    }
    let lines: [&[u8]; 12] = [
        b"\r\n\r\n\r\n",
        b"\0\0\0\0\r\n",
        b"a\r\n",
        b"a AUTHENTICATE XOAUTH2 ====\r\n",
        b"a AUTHENTICATE OAUTHBEARER\r\n\xff\xfe\r\n",
        b"AUTH XOAUTH2\r\n*\r\n",
        b"a ID ({99999999999999999999}\r\n",
        b"a ID (\"name\" {5+}\r\nx\0y\r\n)\r\n",
        b"a APPEND INBOX {4294967296+}\r\n",
        b"\x80\x81\x82 \x83\r\n",
        b"a UID\r\n",
        &[b'('; 40_000],
    ];
    for bytes in lines {
        for port in [gate.imaps, gate.pop3s] {
            let mut wire = Wire::connect(&gate, port);
            wire.line();
            wire.send_bytes(bytes);
            wire.send_bytes(b"\r\n");
            let _ = wire.some();
            // Gone without a word.
        }
    }
    steady.ok("NOOP");
    gate.imap(ANN, APP).ok("LOGOUT");
    let log = gate.log();
    assert!(!log.contains("panicked") && !log.contains("a fault ended"), "{log}");
}
