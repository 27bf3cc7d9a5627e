//! What the integration tests share: a real `portcullis serve` in a temporary directory (`Gate`), tokens for it
//! (`token`), a small TLS client and the transcript runner (`wire`, `transcript`), messages (`mail`) and other
//! people's programs with a time limit (`program`), an OpenID provider (`provider`), a browser (`browser`), Thunderbird
//! (`thunderbird`) and a Dovecot to move away from (`dovecot`) among them.
//!
//! Used by `mod support;` in each test crate; none uses all of it, hence the `dead_code` allowance.
#![allow(dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod api;
pub mod browser;
pub mod cyrus;
pub mod deflate;
pub mod dovecot;
pub mod fake;
pub mod mail;
pub mod postgres;
pub mod program;
pub mod provider;
pub mod thunderbird;
pub mod token;
pub mod transcript;
pub mod wire;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use dovecot::{Dovecot, Tokens};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use token::SigningKey;
use wire::{Imap, Pop};

/// The issuer of the tests' tokens, as `iss` says it.
pub const ISSUER: &str = "https://id.example.com";
/// What `aud` must hold.
pub const AUDIENCE: &str = "portcullis";
/// A mail program that `POLICY` admits everywhere, by its client ID.
pub const APP: &str = "test-mail";
/// One that the list of unit `/Listed` does not hold.
pub const OTHER_APP: &str = "other-mail";
/// The user whose mailbox most tests read.
pub const ANN: &str = "ann@example.com";

/// The policy a [`Gate`] starts with: `ann` may do all, `olaf` is in a unit with both services off, `lisa` in one
/// that admits only [`APP`].
pub const POLICY: &str = r#"
[unit."/"]
imap = "any"
pop = "any"

[unit."/Off"]
imap = "off"
pop = "off"

[unit."/Listed"]
imap = ["test-mail"]
pop = ["test-mail"]

[user."ann@example.com"]
unit = "/"

[user."olaf@example.com"]
unit = "/Off"

[user."lisa@example.com"]
unit = "/Listed"

[app."test-mail"]
name = "Test Mail"

[app."other-mail"]
name = "Other Mail"
"#;

/// An upstream for policy to name, of which nobody asks anything.
pub const DOVECOT: &str = r#"
[[upstream]]
name = "dovecot"
imap = ["mail1.internal:993", "mail2.internal:993"]
ca_file = "ca.pem"
login = { by = "token" }
health_s = 0
"#;

/// How a [`Gate`] is to be set up; every field has a default that admits `ann` with [`Gate::token`].
pub struct Setup {
    /// Text of `policy.toml`.
    pub policy: String,
    /// The whole `[[issuer]]` table; `None`: [`ISSUER`] with its keys in a file.
    pub issuer: Option<String>,
    /// Lines of `[limits]`.
    pub limits: String,
    /// More lines for the end of `portcullis.toml`.
    pub more: String,
    /// Lines of `[listen]`.
    pub listen: String,
    /// More certificates beside `server.pem`, each with its key: the files' stem, and the names in it.
    pub certificates: Vec<(&'static str, Vec<&'static str>)>,
    /// A certificate `gate.pem` with `gate.key`, by which the gate shows others that it has this name.
    pub client_certificate: Option<&'static str>,
    /// Lines of `[database]`.
    pub database: String,
    /// More variables for the gate's environment.
    pub environment: Vec<(&'static str, &'static str)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: POLICY.to_owned(),
            issuer: None,
            limits: "failed_login_delay_s = 0\n".to_owned(),
            more: String::new(),
            listen: "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\n".to_owned(),
            certificates: Vec::new(),
            client_certificate: None,
            database: database(postgres::wished().as_deref().unwrap_or("sqlite:portcullis.db")),
            environment: Vec::new(),
        }
    }
}

impl Setup {
    /// All mail is behind one upstream, `there`, at these addresses; `more` are lines of its table, `login` among them.
    pub fn behind(imap: &str, pop3: &str, more: &str) -> Self {
        let table = format!("[[upstream]]\nname = \"there\"\nimap = [{imap}]\npop3 = [{pop3}]\n{more}\n");
        let more = format!("[mail]\ndefault = \"there\"\n{table}");
        Self { more, ..Self::default() }
    }
}

/// Waits until it is so, for a long time.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < deadline, "not within half a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Lines of `[database]` for this URL.
pub fn database(url: &str) -> String {
    format!("url = \"{url}\"\n")
}

/// A running `portcullis serve`; killed when dropped.
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Process {
    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: `TERM`, `HUP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success(), "kill -s {name}");
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the gate still runs after {limit:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until the log holds `text`.
    pub fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(15);
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "the log never said {text:?}, but:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has written to standard output and standard error so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- what the gate wrote ----\n{}----", self.log());
        }
    }
}

/// A running `portcullis serve` with its own directory; killed when dropped.
pub struct Gate {
    /// Port of the IMAPS listener on 127.0.0.1.
    pub imaps: u16,
    /// Port of the POP3S listener on 127.0.0.1.
    pub pop3s: u16,
    /// The key that signs [`Gate::token`]'s tokens.
    pub key: SigningKey,
    /// Every `listening` line: service and address.
    pub listening: Vec<(String, SocketAddr)>,
    process: Process,
    environment: Vec<(&'static str, &'static str)>,
    authority: Authority,
    dir: tempfile::TempDir,
    /// The server that has the mail, where it is not in the embedded store.
    dovecot: Option<Dovecot>,
    /// By what that server believes the tokens itself, where nobody goes through the gate.
    straight: Option<Tokens>,
}

impl Gate {
    /// Starts the gate with [`POLICY`] and waits until it says `ready`; mail is where [`Gate::with_mail`] has it.
    pub fn start() -> Self {
        Self::with_mail(Setup::default())
    }

    /// As [`Gate::with`], for a test that says nothing of where mail is: with `PORTCULLIS_TEST_MAIL=dovecot` the gate stands in
    /// front of a Dovecot of its own, which has all of it. With `PORTCULLIS_TEST_MAIL=straight` there is the same Dovecot, and
    /// programs are sent right there, past the gate: who wants to know whose doing it is that a program fails.
    pub fn with_mail(setup: Setup) -> Self {
        let straight = match std::env::var("PORTCULLIS_TEST_MAIL").as_deref() {
            Ok("dovecot") => false,
            Ok("straight") => true,
            Ok("maildir") | Err(_) => return Self::with(setup),
            Ok(other) => panic!("PORTCULLIS_TEST_MAIL={other}: write dovecot, straight or maildir"),
        };
        let ports = (dovecot::free_port(), dovecot::free_port());
        let [imap, pop3] = [ports.0, ports.1].map(|port| format!("\"localhost:{port}\""));
        let login = "{ by = \"master\", user = \"gate\", secret_env = \"MASTER\" }";
        let table = Setup::behind(&imap, &pop3, &format!("ca_file = \"ca.pem\"\nlogin = {login}\n")).more;
        let more = format!("{}\n{table}", setup.more);
        let mut gate = Self::with(Setup { more, environment: vec![("MASTER", dovecot::PASSWORD)], ..setup });
        gate.straight = straight.then(|| Tokens::of(&gate, APP));
        let tokens = gate.straight.as_ref().map_or("", |tokens| &tokens.lines);
        let more = format!("{}{tokens}", dovecot::AS_MAILBOX);
        let dovecot = Dovecot::start_at(&gate, ports, &more).expect("Dovecot is not on this machine");
        if straight {
            (gate.imaps, gate.pop3s) = ports;
        }
        gate.dovecot = Some(dovecot);
        gate
    }

    /// Starts the gate as `setup` says and waits until it says `ready`.
    pub fn with(setup: Setup) -> Self {
        Self::by(setup, program())
    }

    /// The same by a command of one's own, which gets `serve` and its arguments at its end.
    pub fn by(setup: Setup, program: Command) -> Self {
        let dir = tempfile::Builder::new().prefix("portcullis-test-").tempdir().unwrap();
        let authority = Authority::new(dir.path());
        authority.certify(dir.path(), "server", &["localhost", "127.0.0.1"]);
        for (stem, names) in &setup.certificates {
            authority.certify(dir.path(), stem, names);
        }
        if let Some(name) = setup.client_certificate {
            authority.sign(dir.path(), "gate", &[name], ExtendedKeyUsagePurpose::ClientAuth);
        }
        let key = SigningKey::new("test-key-1");
        fs::write(dir.path().join("jwks.json"), token::jwks(&[&key])).unwrap();
        fs::write(dir.path().join("policy.toml"), &setup.policy).unwrap();
        fs::write(dir.path().join("portcullis.toml"), config(dir.path(), &setup)).unwrap();

        let (process, listening) = launch(program, dir.path(), &[], &setup.environment);
        let port =
            |name: &str| listening.iter().find(|(service, _)| service == name).map_or(0, |(_, at)| at.port());
        let (imaps, pop3s) = (port("imaps"), port("pop3s"));
        Self {
            imaps,
            pop3s,
            key,
            listening,
            process,
            environment: setup.environment,
            authority,
            dir,
            dovecot: None,
            straight: None,
        }
    }

    /// Starts a second process that takes the place of the first one, and gives the first.
    pub fn take_over(&mut self) -> Process {
        let (next, listening) = launch(program(), self.dir.path(), &["--take-over"], &self.environment);
        assert_eq!(listening, self.listening);
        std::mem::replace(&mut self.process, next)
    }

    /// The process that serves.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The directory that holds everything of this gate.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The configuration file, for other `portcullis` commands.
    pub fn config(&self) -> PathBuf {
        self.dir().join("portcullis.toml")
    }

    /// The URL of its database, for `sqlx`.
    pub fn database(&self) -> String {
        let config = fs::read_to_string(self.config()).unwrap();
        let url = config
            .lines()
            .find_map(|line| line.strip_prefix("url = \"postgres:"))
            .map(|rest| rest.trim_end_matches('"'));
        match url {
            Some(rest) => format!("postgres:{rest}"),
            None => format!("sqlite://{}", self.dir().join("data/portcullis.db").display()),
        }
    }

    /// PEM file of the certificate authority that programs must trust.
    pub fn ca(&self) -> PathBuf {
        self.dir().join("ca.pem")
    }

    /// The same certificate, DER.
    pub fn ca_der(&self) -> &[u8] {
        &self.authority.der
    }

    /// Process id of the gate.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Runs `portcullis` with these arguments and this gate's config.
    pub fn portcullis(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(arguments).arg("--config").arg(self.config()).output().unwrap()
    }

    /// Sends the gate a signal: `TERM`, `HUP`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Waits for the gate's end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.process.wait(limit)
    }

    /// Kills the gate as a power cut would, and starts it again on the same directory.
    pub fn crash_and_restart(&mut self) {
        self.process.kill();
        (self.process, self.listening) = launch(program(), self.dir.path(), &[], &self.environment);
        let port =
            |name: &str| self.listening.iter().find(|(service, _)| service == name).map_or(0, |(_, at)| at.port());
        (self.imaps, self.pop3s) = (port("imaps"), port("pop3s"));
    }

    /// The most memory the gate ever held, and what it holds now, in KiB (VmHWM and VmRSS).
    pub fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        (of("VmHWM:"), of("VmRSS:"))
    }

    /// Makes a new certificate and key in place of the files of this stem.
    pub fn certify(&self, stem: &str, names: &[&str]) {
        self.authority.certify(self.dir(), stem, names);
    }

    /// The rows that `portcullis audit --json` prints, oldest first; none is not an error.
    pub fn audit(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let run = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["audit", "--json", "--config"])
            .arg(self.config())
            .args(arguments)
            .args(if arguments.contains(&"--limit") { &[][..] } else { &["--limit", "1000"] })
            .output()
            .unwrap();
        assert!(matches!(run.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&run.stderr));
        let text = String::from_utf8(run.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The same, once so many of them are such: rows are written a moment after what they tell.
    pub fn audit_with(
        &self,
        arguments: &[&str],
        count: usize,
        such: impl Fn(&serde_json::Value) -> bool,
    ) -> Vec<serde_json::Value> {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let rows = self.audit(arguments);
            if rows.iter().filter(|row| such(row)).count() >= count {
                return rows;
            }
            assert!(Instant::now() < deadline, "never {count} such rows for {arguments:?}, but {rows:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the log holds `text`.
    pub fn wait_for_log(&self, text: &str) {
        self.process.wait_for_log(text);
    }

    /// What the gate has written to standard output and standard error so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// An access token for `user` through `app`, good for an hour.
    pub fn token(&self, user: &str, app: &str) -> String {
        self.token_for(user, app, 3600)
    }

    /// One that runs out in `ttl_s` seconds; a negative number makes one that has run out.
    pub fn token_for(&self, user: &str, app: &str, ttl_s: i64) -> String {
        match &self.straight {
            // This Dovecot wants to read "JWT" as a token's type; RFC 9068 has "at+jwt".
            Some(_) => self.key.sign_as("JWT", &token::claims(user, app, ttl_s)),
            None => token::mint(&self.key, user, app, ttl_s),
        }
    }

    /// Replaces `policy.toml` as an editor does: a new file renamed over the old one.
    pub fn set_policy(&self, text: &str) {
        replace(&self.dir().join("policy.toml"), text.as_bytes());
    }

    /// Replaces the issuer's key file by one that holds `keys`.
    pub fn set_keys(&self, keys: &[&SigningKey]) {
        replace(&self.dir().join("jwks.json"), token::jwks(keys).as_bytes());
    }

    /// The Maildir of `user` (`name@domain`).
    pub fn maildir(&self, user: &str) -> PathBuf {
        if let Some(dovecot) = &self.dovecot {
            return dovecot.maildir(user);
        }
        let (local, domain) = user.split_once('@').unwrap();
        self.dir().join("data/mail").join(domain).join(local)
    }

    /// Delivers a message into the INBOX of `user` as a mail transfer agent does: a file with bare LF line ends,
    /// written in `tmp` and renamed into `new`. `wire` is the message with CRLF.
    pub fn deliver(&self, user: &str, wire: &[u8]) {
        let root = self.maildir(user);
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(root.join(part)).unwrap();
        }
        if self.dovecot.is_some() {
            dovecot::hand_over(&root);
        }
        let name = mail::unique_name();
        fs::write(root.join("tmp").join(&name), mail::with_lf(wire)).unwrap();
        fs::rename(root.join("tmp").join(&name), root.join("new").join(&name)).unwrap();
    }

    /// A TLS connection to the IMAPS listener, greeting read, signed in by XOAUTH2 with an initial response.
    pub fn imap(&self, user: &str, app: &str) -> Imap {
        let mut imap = Imap::connect(self);
        imap.xoauth2(user, &self.token(user, app));
        imap
    }

    /// The same for POP3S.
    pub fn pop(&self, user: &str, app: &str) -> Pop {
        let mut pop = Pop::connect(self);
        pop.xoauth2(user, &self.token(user, app));
        pop
    }

    /// Whether IMAP lets this user in through this app now.
    pub fn admits(&self, user: &str, app: &str) -> bool {
        let mut imap = Imap::connect(self);
        let blob = wire::xoauth2(user, &self.token(user, app));
        imap.command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status.starts_with("OK")
    }
}

/// What the gate prints of its sockets.
type Listening = Vec<(String, SocketAddr)>;

/// The binary.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
}

/// The binary, with sockets as a service manager passes them: their names with colons between, and what each is.
pub fn passing(names: &str, kinds: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/passing.py"));
    command.args([names, &kinds.join(",")]).arg(env!("CARGO_BIN_EXE_portcullis"));
    command
}

/// Starts `program serve` and reads `listening imaps ADDRESS`, `listening pop3s ADDRESS`, then `ready` from it.
fn launch(
    mut program: Command,
    dir: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (Process, Listening) {
    let (process, hear) = run(&mut program, dir, arguments, environment);
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut listening = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(line) = hear.recv_timeout(left) else { panic!("the gate did not get ready") };
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["listening", service, address] => listening.push((service.to_string(), address.parse().unwrap())),
            ["ready"] => return (process, listening),
            _ => {}
        }
    }
}

/// Starts `program serve`, whose lines on standard output can be heard.
pub fn run(
    program: &mut Command,
    dir: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (Process, mpsc::Receiver<String>) {
    let mut child = program
        .arg("serve")
        .arg("--config")
        .arg(dir.join("portcullis.toml"))
        .args(arguments)
        .current_dir(dir)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut stderr = child.stderr.take().unwrap();
    let into = Arc::clone(&log);
    std::thread::spawn(move || {
        let mut chunk = [0_u8; 4096];
        while let Ok(n @ 1..) = stderr.read(&mut chunk) {
            into.lock().unwrap().extend_from_slice(&chunk[..n]);
        }
    });
    let (said, hear) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let into = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            into.lock().unwrap().extend_from_slice(format!("{line}\n").as_bytes());
            let _ = said.send(line);
        }
    });
    (Process { child, log }, hear)
}

fn config(dir: &Path, setup: &Setup) -> String {
    let dir = dir.display();
    let own_issuer = format!(
        r#"[[issuer]]
url = "{ISSUER}"
audience = ["{AUDIENCE}"]
jwks_file = "{dir}/jwks.json"
algorithms = ["ES256"]
user_claim = "email"
scope = {{ imap = ["mail"], pop = ["mail"] }}
"#
    );
    let issuer = setup.issuer.as_deref().unwrap_or(&own_issuer);
    let Setup { limits, more, listen, database, .. } = setup;
    let list = |ending: &str| {
        let stems = ["server"].into_iter().chain(setup.certificates.iter().map(|(stem, _)| *stem));
        stems.map(|stem| format!("\"{dir}/{stem}.{ending}\"")).collect::<Vec<_>>().join(", ")
    };
    let (certificates, keys) = (list("pem"), list("key"));
    format!(
        r#"hostname = "localhost"
data_dir = "{dir}/data"

[listen]
{listen}
[tls]
certificate = [{certificates}]
private_key = [{keys}]

{issuer}
[database]
{database}
[policy]
file = "{dir}/policy.toml"

[limits]
{limits}
{more}"#
    )
}

/// The certificate authority of one gate.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
}

impl Authority {
    /// Makes one and writes its certificate to `ca.pem`.
    fn new(dir: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.distinguished_name.push(DnType::CommonName, "Portcullis tests");
        let certificate = ca.self_signed(&key).unwrap();
        fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(ca, key), der: certificate.der().to_vec() }
    }

    /// Writes `STEM.pem` for these names, and `STEM.key`.
    fn certify(&self, dir: &Path, stem: &str, names: &[&str]) {
        self.sign(dir, stem, names, ExtendedKeyUsagePurpose::ServerAuth);
    }

    fn sign(&self, dir: &Path, stem: &str, names: &[&str], purpose: ExtendedKeyUsagePurpose) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut server = CertificateParams::new(names.clone()).unwrap();
        server.distinguished_name.push(DnType::CommonName, names[0].clone());
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![purpose];
        server.use_authority_key_identifier_extension = true;
        let certificate = server.signed_by(&key, &self.issuer).unwrap();
        replace(&dir.join(format!("{stem}.pem")), certificate.pem().as_bytes());
        let key_file = dir.join(format!("{stem}.key"));
        replace(&key_file, key.serialize_pem().as_bytes());
        fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
}

fn replace(file: &Path, bytes: &[u8]) {
    let new = file.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(&new, file).unwrap();
}
