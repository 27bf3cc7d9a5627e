//! What the integration tests share: a real `portcullis serve` in a temporary directory (`Gate`), tokens for it
//! (`token`), a small TLS client and the transcript runner (`wire`, `transcript`), messages (`mail`) and other
//! people's programs with a time limit (`program`).
//!
//! Used by `mod support;` in each test crate; none uses all of it, hence the `dead_code` allowance.
#![allow(dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod mail;
pub mod program;
pub mod token;
pub mod transcript;
pub mod wire;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

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
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: POLICY.to_owned(),
            issuer: None,
            limits: "failed_login_delay_s = 0\n".to_owned(),
            more: String::new(),
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
    child: Child,
    log: Arc<Mutex<Vec<u8>>>,
    ca_der: Vec<u8>,
    dir: tempfile::TempDir,
}

impl Gate {
    /// Starts the gate with [`POLICY`] and waits until it says `ready`.
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    /// Starts the gate as `setup` says and waits until it says `ready`.
    pub fn with(setup: Setup) -> Self {
        let dir = tempfile::Builder::new().prefix("portcullis-test-").tempdir().unwrap();
        let ca_der = write_certificates(dir.path());
        let key = SigningKey::new("test-key-1");
        fs::write(dir.path().join("jwks.json"), token::jwks(&[&key])).unwrap();
        fs::write(dir.path().join("policy.toml"), &setup.policy).unwrap();
        fs::write(dir.path().join("portcullis.toml"), config(dir.path(), &setup)).unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();

        let (child, imaps, pop3s, log) = launch(dir.path());
        Self { imaps, pop3s, key, child, log, ca_der, dir }
    }

    /// The directory that holds everything of this gate.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The configuration file, for other `portcullis` commands.
    pub fn config(&self) -> PathBuf {
        self.dir().join("portcullis.toml")
    }

    /// PEM file of the certificate authority that programs must trust.
    pub fn ca(&self) -> PathBuf {
        self.dir().join("ca.pem")
    }

    /// The same certificate, DER.
    pub fn ca_der(&self) -> &[u8] {
        &self.ca_der
    }

    /// Process id of the gate.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the gate as a power cut would, and starts it again on the same directory.
    pub fn crash_and_restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        (self.child, self.imaps, self.pop3s, self.log) = launch(self.dir.path());
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let done = Command::new("kill").arg(self.pid().to_string()).status().unwrap();
        assert!(done.success());
    }

    /// Waits until the gate has ended by itself; whether it said that all is well.
    pub fn ended_well(&mut self) -> bool {
        self.child.wait().unwrap().success()
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

    /// What the gate has written to standard output and standard error so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned()
    }

    /// An access token for `user` through `app`, good for an hour.
    pub fn token(&self, user: &str, app: &str) -> String {
        self.token_for(user, app, 3600)
    }

    /// One that runs out in `ttl_s` seconds; a negative number makes one that has run out.
    pub fn token_for(&self, user: &str, app: &str, ttl_s: i64) -> String {
        token::mint(&self.key, user, app, ttl_s)
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
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- what the gate wrote ----\n{}----", self.log());
        }
    }
}

/// Starts the binary and reads `listening imaps ADDRESS`, `listening pop3s ADDRESS`, then `ready` from it.
fn launch(dir: &Path) -> (Child, u16, u16, Arc<Mutex<Vec<u8>>>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("serve")
        .arg("--config")
        .arg(dir.join("portcullis.toml"))
        .current_dir(dir)
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

    let deadline = Instant::now() + Duration::from_secs(30);
    let (mut imaps, mut pop3s) = (0, 0);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(line) = hear.recv_timeout(left) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the gate did not get ready; it wrote:\n{}", String::from_utf8_lossy(&log.lock().unwrap()));
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["listening", "imaps", address] => imaps = port_of(address),
            ["listening", "pop3s", address] => pop3s = port_of(address),
            ["ready"] => return (child, imaps, pop3s, log),
            _ => {}
        }
    }
}

fn port_of(address: &str) -> u16 {
    address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port in {address}"))
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
    let Setup { limits, more, .. } = setup;
    format!(
        r#"hostname = "localhost"
data_dir = "{dir}/data"

[listen]
imaps = ["127.0.0.1:0"]
pop3s = ["127.0.0.1:0"]

[tls]
certificate = "{dir}/server.pem"
private_key = "{dir}/server.key"

{issuer}
[database]
url = "sqlite:portcullis.db"

[policy]
file = "{dir}/policy.toml"

[limits]
{limits}
{more}"#
    )
}

/// Writes `ca.pem`, `server.pem` (for `localhost` and 127.0.0.1) and `server.key`; gives back the authority's DER.
fn write_certificates(dir: &Path) -> Vec<u8> {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(DnType::CommonName, "Portcullis tests");
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let ca_issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate().unwrap();
    let mut server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    server.distinguished_name.push(DnType::CommonName, "localhost");
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let certificate = server.signed_by(&key, &ca_issuer).unwrap();

    fs::write(dir.join("ca.pem"), ca_certificate.pem()).unwrap();
    fs::write(dir.join("server.pem"), certificate.pem()).unwrap();
    let key_file = dir.join("server.key");
    fs::write(&key_file, key.serialize_pem()).unwrap();
    fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    ca_certificate.der().to_vec()
}

fn replace(file: &Path, bytes: &[u8]) {
    let new = file.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(&new, file).unwrap();
}
