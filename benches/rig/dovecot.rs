//! Dovecot with what it does by itself: the settings written here are those without which it does not start, does not
//! find the mail, or does not let a thousand sessions in.

use std::{
    fs::{self, Permissions},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Everybody's.
pub const PASSWORD: &str = "bench";

/// The folder of one run: configuration, certificate, mail.
pub struct Home {
    dir: TempDir,
    /// `dovecot` itself.
    program: PathBuf,
    /// Whom the mail belongs to: user and group, by name.
    owner: (String, String),
    /// Settings for a user other than root.
    without_root: String,
}

impl Home {
    /// Makes the folder; takes the certificate and key of another.
    pub fn new(certificate: &Path) -> anyhow::Result<Self> {
        let program = ["/usr/sbin/dovecot", "/usr/local/sbin/dovecot"].map(PathBuf::from);
        let program = program.into_iter().find(|path| path.exists());
        let program =
            program.context("there is no dovecot; apt-get install dovecot-imapd dovecot-pop3d (tests/install)")?;
        for (service, package) in [("imap", "dovecot-imapd"), ("pop3", "dovecot-pop3d")] {
            let path = Path::new("/usr/lib/dovecot").join(service);
            ensure!(path.exists(), "there is no {}; apt-get install {package} (tests/install)", path.display());
        }
        let dir = tempfile::Builder::new().prefix("portcullis-bench-dovecot-").tempdir()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        for file in ["server.pem", "server.key"] {
            fs::copy(certificate.join(file), dir.path().join(file))?;
        }
        fs::create_dir_all(dir.path().join("mail"))?;
        // Dovecot reads no mail as root; the mail is then that of Debian's user for it.
        let (owner, without_root) = if rustix::process::geteuid().is_root() {
            (("mail".to_owned(), "mail".to_owned()), String::new())
        } else {
            let owner = (said("id", "-un")?, said("id", "-gn")?);
            let settings = WITHOUT_ROOT.replace("OWNER", &owner.0).replace("GROUP", &owner.1);
            (owner, settings)
        };
        Ok(Self { dir, program, owner, without_root })
    }

    /// Where this user's Maildir is.
    pub fn mail(&self, user: &str) -> PathBuf {
        let (local, domain) = user.split_once('@').unwrap_or((user, ""));
        self.dir.path().join("mail").join(domain).join(local)
    }

    /// Gives the mail to whom it belongs.
    pub fn hand_over(&self) -> anyhow::Result<()> {
        let (user, group) = &self.owner;
        let done = Command::new("chown")
            .arg("-R")
            .arg(format!("{user}:{group}"))
            .arg(self.dir.path().join("mail"))
            .status()?;
        ensure!(done.success(), "chown failed");
        Ok(())
    }

    /// `dovecot --version`.
    pub fn version(&self) -> anyhow::Result<String> {
        said(&self.program, "--version")
    }

    /// Starts it. `fsync` is what `mail_fsync` is set to; nothing leaves its default.
    pub fn serve(&self, fsync: Option<&str>) -> anyhow::Result<Dovecot> {
        let ports = [free_port()?, free_port()?];
        let [imap, pop] = ports;
        let (user, group) = &self.owner;
        let fsync = fsync.map_or_else(String::new, |mode| format!("mail_fsync = {mode}\n"));
        let text = CONFIG
            .replace("IMAP_PORT", &imap.port().to_string())
            .replace("POP_PORT", &pop.port().to_string())
            .replace("USER", user)
            .replace("GROUP", group)
            .replace("PASSWORD", PASSWORD)
            .replace("DIR", &self.dir.path().display().to_string());
        let path = self.dir.path().join("dovecot.conf");
        fs::write(&path, format!("{text}{fsync}{}", self.without_root))?;
        let mut command = Command::new(&self.program);
        command.arg("-F").arg("-c").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Dovecot { master: command.spawn().context("starting dovecot")?, imap, pop };
        let began = Instant::now();
        while ports.iter().any(|port| TcpStream::connect(port).is_err()) {
            if running.master.try_wait()?.is_some() || began.elapsed() > Duration::from_secs(10) {
                bail!("dovecot did not start: {}", self.log());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("dovecot.log")).unwrap_or_default()
    }
}

/// A running Dovecot. Told to stop, and waited for, when dropped.
pub struct Dovecot {
    master: Child,
    /// IMAPS.
    pub imap: SocketAddr,
    /// POP3S.
    pub pop: SocketAddr,
}

impl Dovecot {
    /// Process id of the master; every other process is a child of it.
    pub fn id(&self) -> u32 {
        self.master.id()
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        if let Some(id) = i32::try_from(self.master.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(id, Signal::TERM);
        }
        let _ = self.master.wait();
    }
}

fn said(program: impl AsRef<std::ffi::OsStr>, argument: &str) -> anyhow::Result<String> {
    let said = Command::new(&program).arg(argument).output()?;
    ensure!(said.status.success(), "{} {argument} failed", program.as_ref().display());
    Ok(String::from_utf8(said.stdout)?.trim().to_owned())
}

/// Dovecot cannot be told to take any port and say which.
fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

const CONFIG: &str = r#"
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/dovecot.log
protocols = imap pop3
listen = 127.0.0.1
ssl = required
ssl_cert = <DIR/server.pem
ssl_key = <DIR/server.key
mail_location = maildir:DIR/mail/%d/%n
first_valid_uid = 1
passdb {
  driver = static
  args = password=PASSWORD
}
userdb {
  driver = static
  args = uid=USER gid=GROUP home=DIR/mail/%d/%n
}
service imap-login {
  process_limit = 2000
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = IMAP_PORT
    ssl = yes
  }
}
service pop3-login {
  inet_listener pop3 {
    port = 0
  }
  inet_listener pop3s {
    port = POP_PORT
    ssl = yes
  }
}
service imap {
  process_limit = 2000
}
service auth {
  client_limit = 6000
}
service anvil {
  client_limit = 6000
}
"#;
/// Nobody to drop to and nowhere to be locked into.
const WITHOUT_ROOT: &str = r"
default_internal_user = OWNER
default_internal_group = GROUP
default_login_user = OWNER
service imap-login {
  chroot =
}
service pop3-login {
  chroot =
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
";
