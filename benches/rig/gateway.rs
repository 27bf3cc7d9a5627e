//! `portcullis serve` in a process of its own, with everything it needs in a folder of its own, and tokens for it.

use std::{
    fmt::Write as _,
    fs::{self, File, Permissions},
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use aws_lc_rs::rand::SystemRandom;
use portcullis::{
    model::{Secret, UnixTime},
    token::{Mint, SigningKey, sign},
};
use tempfile::TempDir;

use super::tls;

/// The app every token is for.
pub const APP: &str = "bench-app";
const ISSUER: &str = "https://issuer.bench.invalid";

/// The folder of one run: certificate, issuer key, config, policy, mail.
pub struct Place {
    dir: TempDir,
    key: SigningKey,
}

impl Place {
    /// Makes everything but users and mail.
    pub fn new() -> anyhow::Result<Self> {
        Self::made(SigningKey::generate(&SystemRandom::new())?, &format!("{CONFIG}{POLICY_FILE}"))
    }

    /// The same with this database (an URL; none: SQLite).
    pub fn on(database: Option<&str>) -> anyhow::Result<Self> {
        let config = format!("{CONFIG}{POLICY_FILE}{}", database_section(database));
        Self::made(SigningKey::generate(&SystemRandom::new())?, &config)
    }

    /// The same with a listener for POP3S too.
    pub fn with_pop() -> anyhow::Result<Self> {
        let config = format!("{CONFIG}{POLICY_FILE}").replace("[tls]", "pop3s = [\"127.0.0.1:0\"]\n[tls]");
        Self::made(SigningKey::generate(&SystemRandom::new())?, &config)
    }

    /// The same in front of an IMAP server on this machine, which it enters as master user: in TLS with this folder's
    /// certificate, or plainly.
    pub fn in_front_of(upstream: SocketAddr, tls: bool) -> anyhow::Result<Self> {
        let section = UPSTREAM.replace("PORT", &upstream.port().to_string());
        let how = if tls { TLS_UPSTREAM } else { "tls = false\n" };
        let config = format!("{CONFIG}{POLICY_FILE}{section}{how}");
        let place = Self::made(SigningKey::generate(&SystemRandom::new())?, &config)?;
        let secret = place.path().join("upstream.secret");
        fs::write(&secret, "bench")?;
        fs::set_permissions(secret, Permissions::from_mode(0o600))?;
        Ok(place)
    }

    /// So many nodes on one database, told by HTTP what the policy is. They have one issuer.
    pub fn nodes(count: usize, database: Option<&str>) -> anyhow::Result<Vec<Self>> {
        let key = SigningKey::generate(&SystemRandom::new())?;
        let config = format!("{CONFIG}{}", database_section(database)).replace("[tls]", HTTP);
        (0..count).map(|_| Self::made(SigningKey::from_pem(key.to_pem().reveal())?, &config)).collect()
    }

    fn made(key: SigningKey, config: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("portcullis-bench-").tempdir()?;
        tls::make_certificate(dir.path())?;
        fs::write(dir.path().join("jwks.json"), key.jwks())?;
        fs::write(dir.path().join("portcullis.toml"), config)?;
        Ok(Self { dir, key })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes `policy.toml`: each unit with its IMAP setting, each user in their unit. Replaces the file in one step,
    /// as an editor does.
    pub fn write_policy<'a>(
        &self,
        units: &[(&str, &str)],
        users: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> anyhow::Result<()> {
        let mut text = String::from("[unit.\"/\"]\nimap = \"off\"\npop = \"off\"\n");
        for (unit, imap) in units {
            write!(text, "[unit.\"{unit}\"]\nimap = {imap}\n")?;
        }
        for (user, unit) in users {
            write!(text, "[user.\"{user}\"]\nunit = \"{unit}\"\n")?;
        }
        let aside = self.path().join("policy.new");
        fs::write(&aside, text)?;
        Ok(fs::rename(aside, self.path().join("policy.toml"))?)
    }

    /// Writes a `policy.toml` that lets these users in by IMAP and POP3 with any app.
    pub fn let_in<'a>(&self, users: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
        let mut text = String::from("[unit.\"/\"]\nimap = \"any\"\npop = \"any\"\n");
        for user in users {
            write!(text, "[user.\"{user}\"]\nunit = \"/\"\n")?;
        }
        Ok(fs::write(self.path().join("policy.toml"), text)?)
    }

    /// A token nobody has seen before.
    pub fn token(&self, user: &str) -> anyhow::Result<Secret> {
        let mut id = [0u8; 16];
        aws_lc_rs::rand::fill(&mut id)?;
        let mint = Mint {
            issuer: ISSUER.into(),
            audience: vec!["portcullis".into()],
            user_claim: "email".into(),
            user: user.into(),
            app: APP.into(),
            scope: "mail".into(),
            issued_at: UnixTime::from(SystemTime::now()),
            lifetime: Duration::from_secs(3600),
            id: id.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")),
            extra: serde_json::Map::new(),
        };
        Ok(sign(&mint, &self.key)?)
    }

    /// Starts the gateway; its log goes to `log/gateway.log`.
    pub fn serve(&self) -> anyhow::Result<Process> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("serve").arg("--config").arg(self.path().join("portcullis.toml"));
        // Not beside the config: that folder is watched, and each line would wake the watcher.
        let log = self.path().join("log");
        fs::create_dir_all(&log)?;
        let log = log.join("gateway.log");
        command.env_remove("RUST_LOG").stderr(File::create(&log)?);
        Process::start(command).with_context(|| fs::read_to_string(&log).unwrap_or_default())
    }
}

/// A server under measurement. Told to stop, and waited for, when dropped.
pub struct Process {
    child: Child,
    /// Where it listens, for mail programs where it does for others too.
    pub address: SocketAddr,
    /// Where it listens for POP3S, if it does.
    pub pop: Option<SocketAddr>,
    /// Where it listens for HTTP, if it does.
    pub http: Option<SocketAddr>,
}

impl Process {
    /// Starts it and waits for its `listening NAME ADDRESS` and `ready`.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting a server")?;
        let output = child.stdout.take().context("a server without output")?;
        let (mut address, mut pop, mut http) = (None, None, None);
        for line in BufReader::new(output).lines() {
            let line = line?;
            if line == "ready" {
                break;
            }
            let (name, at) = line.rsplit_once(' ').unwrap_or_default();
            let into = match name {
                "listening http" => &mut http,
                "listening pop3s" => &mut pop,
                _ => &mut address,
            };
            *into = at.parse().ok();
        }
        match address {
            Some(address) => Ok(Self { child, address, pop, http }),
            None => {
                let _ = child.kill();
                bail!("a server did not start: {}", child.wait()?)
            }
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The bare server ends with its input, the gateway by SIGTERM.
        drop(self.child.stdin.take());
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// As delivered, but for what a load from one address runs into.
const CONFIG: &str = r#"
hostname = "localhost"
data_dir = "data"
[listen]
imaps = ["127.0.0.1:0"]
[tls]
certificate = "server.pem"
private_key = "server.key"
[[issuer]]
url = "https://issuer.bench.invalid"
audience = ["portcullis"]
jwks_file = "jwks.json"
user_claim = "email"
scope = { imap = ["mail"], pop = ["mail"] }
[limits]
connections = 12000
connections_per_address = 12000
sessions_per_user = 10000
"#;
/// Stands before what `[tls]` says.
const HTTP: &str = "http = [\"127.0.0.1:0\"]\n[http]\nrequests_per_minute = 1000000\n[tls]";
const POLICY_FILE: &str = "[policy]\nfile = \"policy.toml\"\n";
/// By its address: to find a name's address costs at each sign-in.
const UPSTREAM: &str = r#"
[mail]
default = "upstream"
[[upstream]]
name = "upstream"
imap = ["127.0.0.1:PORT"]
login = { by = "master", user = "gate", secret_file = "upstream.secret" }
"#;
/// What the certificate says.
const TLS_UPSTREAM: &str = "ca_file = \"server.pem\"\nserver_name = \"localhost\"\n";

fn database_section(url: Option<&str>) -> String {
    url.map_or_else(String::new, |url| format!("[database]\nurl = \"{url}\"\n"))
}
