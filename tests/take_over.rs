//! One process takes another one's place: nobody is refused, whoever has to leave hears why, and if the new process cannot
//! serve, the old one does. The real binary, twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use support::{
    ANN, APP, Gate, POLICY, Process, Setup,
    dovecot::{Dovecot, free_port},
    run, token,
    wire::{Imap, PATIENCE, Wire, xoauth2},
};

const BYE: &str = "[UNAVAILABLE] Shutting down; connect again in a moment";

/// A gate with these lines in `[limits]`, an HTTP listener and these variables.
fn gate(limits: &str, environment: Vec<(&'static str, &'static str)>) -> Gate {
    let listen =
        "imaps = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n";
    Gate::with(Setup {
        listen: listen.to_owned(),
        limits: format!("failed_login_delay_s = 0\n{limits}"),
        environment,
        ..Setup::default()
    })
}

/// A message of this subject.
fn message(subject: &str) -> Vec<u8> {
    format!("From: ann@example.com\r\nSubject: {subject}\r\n\r\nbody\r\n").into_bytes()
}

/// `serve --take-over` to its end.
fn take_over(config: &Path) -> Output {
    let mut command = support::program();
    command.args(["serve", "--take-over", "--config"]).arg(config).output().unwrap()
}

fn healthy(gate: &Gate) -> bool {
    let (_, at) = gate.listening.iter().find(|(name, _)| name == "http").unwrap();
    let mut http = TcpStream::connect(at).unwrap();
    http.set_read_timeout(Some(PATIENCE)).unwrap();
    http.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).unwrap();
    answer.starts_with("HTTP/1.1 200")
}

/// What the policy in the database says of Ann, who may do all by [`POLICY`].
fn ann_may_come_in(gate: &Gate) -> bool {
    gate.portcullis(&["explain", "--user", ANN, "--app", APP, "--service", "imap"]).status.success()
}

/// A file beside the gate's, of a policy that keeps everybody out.
fn shut_policy(gate: &Gate) {
    let shut = POLICY.replace("imap = \"any\"", "imap = \"off\"");
    fs::write(gate.dir().join("shut.toml"), shut).unwrap();
}

/// A session in a mailbox with one message, larger than all that may be on its way to a peer that takes nothing.
fn before_large(gate: &Gate) -> Imap {
    let line = [&[b'x'; 76][..], b"\r\n"].concat();
    gate.deliver(ANN, &[message("large"), line.repeat(400_000)].concat());
    let mut imap = gate.imap(ANN, APP);
    imap.ok("SELECT INBOX");
    imap
}

/// Where the process that serves can be asked.
fn socket(gate: &Gate) -> PathBuf {
    let entries = fs::read_dir(gate.dir().join("data")).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("handover-");
    let mut found: Vec<_> = entries.filter(named).filter(|path| path.extension().is_none()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// The mail is as the log of the audit and the index say.
fn is_in_order(gate: &Gate) {
    for arguments in [&["audit", "verify"][..], &["mailbox", "check", ANN]] {
        let output = gate.portcullis(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_new_process_takes_over_and_local_sessions_hear_why_they_end() {
    let mut gate = gate("", vec![]);
    gate.deliver(ANN, &message("before"));
    let mut idle = gate.imap(ANN, APP);
    idle.append("INBOX", "\\Seen", &message("kept"));
    idle.ok("SELECT INBOX");
    idle.idle();
    let mut stranger = Imap::connect(&gate);
    let mut pop = gate.pop(ANN, APP);
    assert!(healthy(&gate));

    let mut old = gate.take_over();
    for (name, text) in [("idle", idle.bye().0), ("stranger", stranger.bye().0)] {
        assert_eq!(text, BYE, "{name}");
    }
    assert_eq!(pop.wire.line(), "-ERR [SYS/TEMP] shutting down; connect again in a moment");
    // Nothing is relayed, so nothing keeps the old process.
    assert_eq!(old.wait(Duration::from_secs(10)).code(), Some(0), "{}", old.log());
    assert!(old.log().contains("no session is relayed here any more"), "{}", old.log());

    let mut again = gate.imap(ANN, APP);
    assert_eq!(again.read_all("INBOX").len(), 2);
    again.append("INBOX", "", &message("after"));
    assert_eq!(again.read_all("INBOX").len(), 3);
    again.ok("LOGOUT");
    gate.pop(ANN, APP).command("QUIT");
    assert!(healthy(&gate));
    let is_end = |row: &serde_json::Value| row["event"] == "session.ended" && row["reason"] == "shutdown";
    gate.audit_with(&["--user", ANN], 2, is_end);

    // What is changed is in force in the new process, and there can be a third.
    let mut old = gate.take_over();
    assert_eq!(old.wait(Duration::from_secs(10)).code(), Some(0), "{}", old.log());
    let mut session = gate.imap(ANN, APP);
    gate.set_policy(&POLICY.replace("imap = \"any\"", "imap = \"off\""));
    assert!(session.bye().0.starts_with("[CONTACTADMIN]"));
    gate.signal("TERM");
    assert_eq!(gate.wait(Duration::from_secs(10)).code(), Some(0));
    is_in_order(&gate);
}

#[test]
fn a_handshake_under_way_may_end_and_its_peer_hears_why_it_has_to_leave() {
    let gate = gate("", vec![]);
    let early = TcpStream::connect(("127.0.0.1", gate.imaps)).unwrap();
    // Whoever came later is in: so this one was accepted.
    Imap::connect(&gate).ok("NOOP");
    let (_new, hear) = run(&mut support::program(), gate.dir(), &["--take-over"], &[]);
    gate.wait_for_log("another process takes over");
    let config = Wire::trusting(&gate, rustls::DEFAULT_VERSIONS);
    let mut imap = Imap::over(Wire::over(early, config, "localhost").expect("the handshake is not cut"));
    assert_eq!(imap.bye().0, BYE);
    while hear.recv_timeout(PATIENCE).unwrap() != "ready" {}
}

/// Connects again and again until `stop`: how often it was let in and how often told to come back.
fn knock(config: rustls::ClientConfig, port: u16, token: &str, stop: &AtomicBool) -> (usize, usize) {
    let (mut served, mut told) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let tcp = TcpStream::connect(("127.0.0.1", port)).expect("nobody is refused");
        let wire = Wire::over(tcp, config.clone(), "localhost").expect("no handshake is cut");
        let mut imap = Imap::over(wire);
        imap.wire.send(&format!("a AUTHENTICATE XOAUTH2 {}", xoauth2(ANN, token)));
        let line = imap.wire.line_or_end().expect("nobody is sent away without a word");
        if line.starts_with("a OK") {
            imap.wire.send("b LOGOUT");
            let last = String::from_utf8(imap.wire.rest()).unwrap();
            assert!(last.starts_with("* BYE "), "{last}");
            served += 1;
        } else {
            assert_eq!(line, format!("* BYE {BYE}"));
            told += 1;
        }
    }
    (served, told)
}

#[test]
fn under_a_stream_of_connections_none_is_refused() {
    let mut gate = gate("", vec![]);
    let stop = Arc::new(AtomicBool::new(false));
    let ports: Vec<u16> =
        gate.listening.iter().filter(|(name, _)| name == "imaps").map(|(_, at)| at.port()).collect();
    let knocking: Vec<_> = ports
        .iter()
        .cycle()
        .take(4)
        .map(|port| {
            let (config, token) = (Wire::trusting(&gate, rustls::DEFAULT_VERSIONS), gate.token(ANN, APP));
            let (port, stop) = (*port, Arc::clone(&stop));
            thread::spawn(move || knock(config, port, &token, &stop))
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    for _ in 0..3 {
        let mut old = gate.take_over();
        assert_eq!(old.wait(Duration::from_secs(15)).code(), Some(0), "{}", old.log());
        thread::sleep(Duration::from_millis(300));
    }
    stop.store(true, Ordering::Relaxed);
    let counts: Vec<_> = knocking.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(counts.iter().all(|(served, _)| *served > 3), "{counts:?}");
    gate.signal("TERM");
    assert_eq!(gate.wait(Duration::from_secs(10)).code(), Some(0));
    is_in_order(&gate);
}

#[test]
fn a_process_that_cannot_serve_leaves_the_old_one_untouched() {
    let gate = gate("", vec![]);
    let mut session = gate.imap(ANN, APP);
    session.ok("SELECT INBOX");
    let good = fs::read_to_string(gate.config()).unwrap();
    let policy = fs::read_to_string(gate.dir().join("policy.toml")).unwrap();
    let other = gate.dir().join("other.toml");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let wrong_policy = gate.dir().join("wrong.toml");
    fs::write(&wrong_policy, policy.replace("imap = \"any\"", "imap = \"sometimes\"")).unwrap();
    let of = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replace(from, to)
    };
    let (_, database) = good.split_once("[database]\nurl = \"").unwrap();
    let (database, _) = database.split_once('"').unwrap();
    let no_database = format!("sqlite:{}", gate.dir().join("policy.toml").display());
    for (name, text, said) in [
        ("no TOML", of("[listen]", "[listen"), "other.toml:"),
        ("a limit", of("[limits]\n", "[limits]\nrelay_drain_s = -1\n"), "relay_drain_s"),
        ("a certificate", of("server.pem", "nowhere.pem"), "nowhere.pem"),
        ("a policy", of("policy.toml", "wrong.toml"), "wrong.toml:"),
        ("a port", of("pop3s = [", &format!("pop3s = [\"{taken}\", ")), "is the port taken"),
        ("a database", of(database, &no_database), "policy.toml"),
    ] {
        fs::write(&other, text).unwrap();
        let output = take_over(&other);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {error}");
        assert!(error.contains(said), "{name}: {error}");
        assert!(output.stdout.is_empty(), "{name}");
        session.ok("NOOP");
    }
    // What is wrong is found before the new policy is in force.
    shut_policy(&gate);
    let shut = of("policy.toml", "shut.toml");
    fs::write(&other, shut.replace("pop3s = [", &format!("pop3s = [\"{taken}\", "))).unwrap();
    let output = take_over(&other);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is the port taken"));
    assert!(ann_may_come_in(&gate));
    gate.imap(ANN, APP).ok("LOGOUT");
    assert!(!gate.log().contains("another process takes over"), "{}", gate.log());
}

#[test]
fn without_a_process_there_is_nothing_to_take_over() {
    let mut gate = gate("", vec![]);
    for end in ["TERM", "KILL"] {
        gate.signal(end);
        gate.wait(Duration::from_secs(10));
        let output = take_over(&gate.config());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("there is none to take over from: start without --take-over"), "{error}");
        // What a killed process left does not matter to a start, nor to who takes over from that.
        gate.crash_and_restart();
    }
    let mut old = gate.take_over();
    assert_eq!(old.wait(Duration::from_secs(10)).code(), Some(0));
    Imap::connect(&gate).ok("NOOP");
}

#[test]
fn a_second_start_on_one_folder_is_refused() {
    let gate = gate("", vec![]);
    let mut session = gate.imap(ANN, APP);
    // The ports are the system's choice here, so that these are free: the folder is not.
    shut_policy(&gate);
    let other = gate.dir().join("other.toml");
    fs::write(&other, fs::read_to_string(gate.config()).unwrap().replace("policy.toml", "shut.toml")).unwrap();
    let mut command = support::program();
    let output = command.args(["serve", "--config"]).arg(&other).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("another process serves from there; stop it first"), "{error}");
    assert!(ann_may_come_in(&gate), "its policy is in force");
    session.ok("NOOP");
}

/// The other side of the hand-over, as a new process speaks it up to a point.
struct Heir(BufReader<UnixStream>);

impl Heir {
    fn ask(gate: &Gate) -> Self {
        let stream = UnixStream::connect(socket(gate)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heir = Self(BufReader::new(stream));
        heir.say("take-over 2");
        heir.hear("that is all");
        heir
    }

    fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Reads until this line. The sockets that come along are dropped.
    fn hear(&mut self, end: &str) {
        let mut line = String::new();
        while !line.trim_start_matches('.').starts_with(end) {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "closed before {end:?}");
        }
    }
}

#[test]
fn a_process_that_dies_before_it_serves_gives_everything_back() {
    let mut gate = gate("", vec![]);
    let mut session = gate.imap(ANN, APP);
    session.append("INBOX", "", &message("kept"));
    session.idle();
    let mut heir = Heir::ask(&gate);
    assert!(session.wire.is_silent_for(Duration::from_millis(300)), "nobody may be told yet");
    heir.say("give up");
    heir.hear("yours");
    assert_eq!(session.bye().0, BYE);
    // Nobody accepts now, and a connection waits.
    let early = TcpStream::connect(("127.0.0.1", gate.imaps)).unwrap();
    drop(heir);
    gate.wait_for_log("the process that was to take over is gone: serving again");
    let config = Wire::trusting(&gate, rustls::DEFAULT_VERSIONS);
    Imap::over(Wire::over(early, config, "localhost").unwrap()).ok("NOOP");
    let mut again = gate.imap(ANN, APP);
    assert_eq!(again.read_all("INBOX").len(), 1);
    again.append("INBOX", "", &message("after"));
    gate.pop(ANN, APP).command("QUIT");
    assert!(healthy(&gate));
    // Policy is in force, and another one can still take over.
    gate.set_policy(&POLICY.replace("imap = \"any\"", "imap = \"off\""));
    assert!(again.bye().0.starts_with("[CONTACTADMIN]"));
    let mut old = gate.take_over();
    assert_eq!(old.wait(Duration::from_secs(10)).code(), Some(0), "{}", old.log());
    gate.signal("TERM");
    assert_eq!(gate.wait(Duration::from_secs(10)).code(), Some(0));
    is_in_order(&gate);
}

#[test]
fn a_new_process_that_is_killed_while_the_old_one_ends_its_sessions_changes_nothing_for_others() {
    let gate = gate("drain_s = 4\n", vec![]);
    let mut stuck = before_large(&gate);
    stuck.send("FETCH 1 BODY[]");
    let (mut new, _hear) = run(&mut support::program(), gate.dir(), &["--take-over"], &[]);
    gate.wait_for_log("another process takes over");
    // The peer that takes nothing keeps the old process at this point.
    new.kill();
    gate.wait_for_log("the process that was to take over is gone: serving again");
    let mut again = gate.imap(ANN, APP);
    again.ok("SELECT INBOX");
    again.append("INBOX", "", &message("after"));
    assert!(healthy(&gate));
}

#[test]
fn what_is_changed_while_a_new_process_waits_is_in_force_when_it_opens() {
    let gate = gate("drain_s = 20\n", vec![]);
    let mut stuck = before_large(&gate);
    stuck.send("FETCH 1 BODY[]");
    let (_new, _hear) = run(&mut support::program(), gate.dir(), &["--take-over"], &[]);
    // The new process has read the policy by now; the peer that takes nothing keeps it waiting.
    gate.wait_for_log("another process takes over");
    shut_policy(&gate);
    let shut = gate.dir().join("shut.toml");
    let applied = gate.portcullis(&["policy", "apply", shut.to_str().unwrap(), "--yes"]);
    assert!(applied.status.success(), "{applied:?}");
    drop(stuck);
    let blob = xoauth2(ANN, &gate.token(ANN, APP));
    let reply = Imap::connect(&gate).command(&format!("AUTHENTICATE XOAUTH2 {blob}"));
    assert!(reply.status.starts_with("NO [CONTACTADMIN] "), "{}", reply.status);
}

#[test]
fn sigterm_is_heard_while_another_process_is_about_to_take_over() {
    for (name, limits) in [("sessions end", "drain_s = 4\n"), ("the other one begins", "")] {
        let mut gate = gate(limits, vec![]);
        let mut stuck = before_large(&gate);
        let mut heir = Heir::ask(&gate);
        if limits.is_empty() {
            heir.say("give up");
            heir.hear("yours");
        } else {
            // Whoever takes nothing keeps the old process at this point.
            stuck.send("FETCH 1 BODY[]");
            heir.say("give up");
            gate.wait_for_log("another process takes over");
        }
        gate.signal("TERM");
        assert_eq!(gate.wait(Duration::from_secs(10)).code(), Some(0), "{name}: {}", gate.log());
        assert!(!gate.log().contains("serving again"), "{name}: {}", gate.log());
        gate.crash_and_restart();
        gate.imap(ANN, APP).ok("LOGOUT");
    }
}

#[test]
fn a_new_process_that_dawdles_with_the_lock_is_waited_for_and_its_end_gives_everything_back() {
    let gate = gate("", vec![]);
    let mut heir = Heir::ask(&gate);
    heir.say("give up");
    heir.hear("yours");
    let lock = fs::File::open(socket(&gate).with_extension("lock")).unwrap();
    lock.lock().unwrap();
    drop(heir);
    // Longer than the old process looks at the lock at a time.
    gate.wait_for_log("another process holds the lock, and nobody serves here");
    assert!(!gate.log().contains("serving again"));
    drop(lock);
    gate.wait_for_log("the process that was to take over is gone: serving again");
    gate.imap(ANN, APP).ok("LOGOUT");
}

/// A place where the gate says how it is.
struct Manager {
    hears: UnixDatagram,
    _dir: tempfile::TempDir,
}

impl Manager {
    /// With the path of its socket.
    fn new() -> (Self, &'static str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let hears = UnixDatagram::bind(&path).unwrap();
        hears.set_read_timeout(Some(PATIENCE)).unwrap();
        (Self { hears, _dir: dir }, path.display().to_string().leak())
    }

    /// The next thing that is said and is not the watchdog's.
    fn next(&self) -> String {
        loop {
            let said = self.any();
            if said != "WATCHDOG=1" {
                return said;
            }
        }
    }

    fn any(&self) -> String {
        let mut bytes = [0; 256];
        let count = self.hears.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }
}

#[test]
fn the_service_manager_is_told_of_each_turn() {
    let (manager, path) = Manager::new();
    let mut gate = gate("", vec![("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "400000")]);
    let ready = |pid: u32| format!("READY=1\nMAINPID={pid}");
    assert_eq!(manager.next(), ready(gate.pid()));
    assert_eq!(manager.any(), "WATCHDOG=1");
    let since = Instant::now();
    for _ in 0..3 {
        assert_eq!(manager.any(), "WATCHDOG=1");
    }
    let took = since.elapsed();
    assert!((400..3_000).contains(&took.as_millis()), "three beats took {took:?}");
    gate.signal("HUP");
    let reloading = manager.next();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    // Not who is the main process: a new one may have become it meanwhile.
    assert_eq!(manager.next(), "READY=1");

    // A new process is the main one from when it serves; the old one says nothing any more.
    let environment = [("NOTIFY_SOCKET", path)];
    let (new, hear) = run(&mut support::program(), gate.dir(), &["--take-over"], &environment);
    while hear.recv_timeout(PATIENCE).unwrap() != "ready" {}
    assert_eq!(manager.next(), ready(new.pid()));
    assert_eq!(gate.wait(Duration::from_secs(10)).code(), Some(0));
    // The manager goes on waiting for beats, and told only the old one how often.
    for _ in 0..12 {
        assert_eq!(manager.any(), "WATCHDOG=1");
    }
    new.signal("TERM");
    assert_eq!(manager.next(), "STOPPING=1");
    assert_eq!(end(new), Some(0));
}

fn end(mut process: Process) -> Option<i32> {
    process.wait(Duration::from_secs(10)).code()
}

#[test]
fn sockets_that_the_service_manager_passes_take_the_place_of_the_configs() {
    let mut gate = Gate::by(
        Setup {
            listen: "imaps = [\"203.0.113.1:993\"]\npop3s = [\"127.0.0.1:0\"]\nhttp = [\"203.0.113.1:80\"]\n"
                .to_owned(),
            ..Setup::default()
        },
        support::passing("imaps:http:imaps", &["tcp", "tcp", "tcp"]),
    );
    let names: Vec<&str> = gate.listening.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["imaps", "imaps", "pop3s", "http"]);
    for (name, at) in &gate.listening {
        assert!(at.ip().is_loopback(), "{name} {at}");
    }
    let ports: Vec<u16> = gate.listening.iter().map(|(_, at)| at.port()).collect();
    assert_ne!(ports[0], ports[1]);
    for port in &ports[..2] {
        // Each thread accepts from it, and each of these sessions works.
        let mut all: Vec<Imap> = (0..6).map(|_| Imap::over(Wire::connect(&gate, *port))).collect();
        for imap in &mut all {
            imap.xoauth2(ANN, &token::mint(&gate.key, ANN, APP, 60));
            imap.ok("LOGOUT");
        }
    }
    gate.pop(ANN, APP).command("QUIT");
    assert!(healthy(&gate));
    // They are handed over like others.
    let mut old = gate.take_over();
    assert_eq!(old.wait(Duration::from_secs(10)).code(), Some(0), "{}", old.log());
    gate.imap(ANN, APP).ok("LOGOUT");
    assert!(healthy(&gate));
}

#[test]
fn a_passed_socket_that_cannot_be_served_is_refused_by_name() {
    let gate = gate("", vec![]);
    for (names, kinds, said) in [
        ("portcullis.socket", &["tcp"][..], "is named \"portcullis.socket\"; names are imaps, pop3s, http"),
        (
            "imaps:pop3s",
            &["tcp", "udp"],
            "passed \"pop3s\" as descriptor 4: the socket passed as pop3s is not one for TCP",
        ),
        ("http", &["deaf"], "the socket passed as http does not listen"),
        ("imaps", &["unix"], "the socket passed as imaps is not one for TCP"),
        (
            "imaps",
            &["tcp", "tcp"],
            "2 sockets were passed with 1 names: give each socket unit its FileDescriptorName=",
        ),
        ("imaps", &["none"], "the service manager passed \"imaps\" as descriptor 3: "),
    ] {
        let mut command = support::passing(names, kinds);
        let output = command.args(["serve", "--config"]).arg(gate.config()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{names}: {error}");
        assert!(error.contains(said), "{names}: {error}");
    }
}

/// Dovecot lets a master user in for everybody.
const WITH_MASTER: &str = "
passdb {
  driver = static
  master = yes
  args = password=open-sesame
}
";

/// A gate whose mail is all on a Dovecot.
fn before_a_dovecot(limits: &str) -> Option<(Gate, Dovecot)> {
    let ports = (free_port(), free_port());
    let upstream = format!(
        "[mail]\ndefault = \"there\"\n[[upstream]]\nname = \"there\"\nimap = [\"localhost:{}\"]\npop3 = [\"localhost:{}\"]\n\
         ca_file = \"ca.pem\"\nhealth_s = 0\nlogin = {{ by = \"master\", user = \"gate\", secret_env = \"MASTER\" }}\n",
        ports.0, ports.1
    );
    let gate = Gate::with(Setup {
        limits: format!("failed_login_delay_s = 0\n{limits}"),
        more: upstream,
        environment: vec![("MASTER", "open-sesame")],
        ..Setup::default()
    });
    let dovecot = Dovecot::start_at(&gate, ports, WITH_MASTER)?;
    Some((gate, dovecot))
}

#[test]
fn relayed_sessions_go_on_in_the_old_process_and_policy_still_ends_them() {
    let Some((mut gate, dovecot)) = before_a_dovecot("") else { return };
    let large = [&b"Subject: large\r\n\r\n"[..], &b"It goes on and on.\r\n".repeat(400_000)].concat();
    let mut busy = gate.imap(ANN, APP);
    busy.append("INBOX", "", &large);
    busy.ok("SELECT INBOX");
    // In the middle of a message, of which more is to come than fits between.
    let fetch = busy.send("FETCH 1 BODY.PEEK[]");
    let mut idle = gate.imap(ANN, APP);
    idle.ok("SELECT INBOX");
    let idling = idle.idle();
    let mut pop = gate.pop(ANN, APP);
    let mut stranger = Imap::connect(&gate);

    let mut old = gate.take_over();
    assert_eq!(stranger.bye().0, BYE, "nobody has signed in there");
    old.wait_for_log("what is relayed here goes on sessions=3");
    let reply = busy.finish(&fetch);
    assert!(reply.status.starts_with("OK"), "{}", reply.status);
    let fetched = &reply.untagged[0];
    assert!(fetched.windows(large.len()).any(|window| window == large), "{} bytes", fetched.len());
    assert!(pop.command("STAT").starts_with("+OK 1 "));
    dovecot.imap(&gate, ANN).append("INBOX", "", &message("new"));
    while idle.wire.line() != "* 2 EXISTS" {}
    let mut new = gate.imap(ANN, APP);
    assert_eq!(new.read_all("INBOX").len(), 2);

    // A change is the new process's, and the old one hears of it.
    let began = Instant::now();
    gate.set_policy(&POLICY.replace("pop = \"any\"", "pop = \"off\""));
    let rest = String::from_utf8(pop.wire.rest()).unwrap();
    let took = began.elapsed();
    assert!(rest.starts_with("-ERR [SYS/PERM] POP access is disabled"), "{rest}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    gate.audit_with(&["--user", ANN], 1, |row| row["reason"] == "policy_service_off");
    idle.wire.send("DONE");
    assert!(idle.finish(&idling).status.starts_with("OK"));
    for session in [&mut idle, &mut busy, &mut new] {
        session.ok("NOOP");
    }
    idle.ok("LOGOUT");
    assert!(!old.log().contains("no session is relayed here any more"), "{}", old.log());
    busy.ok("LOGOUT");
    assert_eq!(old.wait(Duration::from_secs(10)).code(), Some(0), "{}", old.log());
    new.ok("NOOP");
    assert!(gate.portcullis(&["audit", "verify"]).status.success());
}

#[test]
fn what_is_relayed_in_the_old_process_ends_with_its_time_or_by_sigterm() {
    for (name, limits, signal) in [("time", "relay_drain_s = 2\n", None), ("SIGTERM", "", Some("TERM"))] {
        let Some((mut gate, _dovecot)) = before_a_dovecot(limits) else { return };
        let mut idle = gate.imap(ANN, APP);
        idle.ok("SELECT INBOX");
        idle.idle();
        let mut old = gate.take_over();
        let began = Instant::now();
        if let Some(signal) = signal {
            old.signal(signal);
        } else {
            assert!(idle.wire.is_silent_for(Duration::from_millis(1_000)), "{name}");
        }
        assert_eq!(idle.bye().0, BYE, "{name}");
        assert!(began.elapsed() < Duration::from_secs(6), "{name}: {:?}", began.elapsed());
        assert_eq!(old.wait(Duration::from_secs(10)).code(), Some(0), "{name}: {}", old.log());
        gate.imap(ANN, APP).ok("NOOP");
    }
}
