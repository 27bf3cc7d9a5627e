//! A private Dovecot that mail moves away from: Debian's programs, a directory and ports of its own, ended when dropped.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::{
    Gate, ISSUER,
    wire::{Imap, Pop, Wire},
};

/// Everybody's password there.
pub const PASSWORD: &str = "old-secret";

/// A running Dovecot whose certificate the gate's authority signed.
pub struct Dovecot {
    dir: tempfile::TempDir,
    /// Port for IMAP over TLS.
    pub imaps: u16,
    /// Port for POP3 over TLS.
    pub pop3s: u16,
    master: Child,
}

impl Dovecot {
    /// Starts one. Where it is not installed it says so and returns `None`; `tests/run` sets
    /// `PORTCULLIS_CLIENTS=required`, and then that fails the test.
    pub fn start(gate: &Gate) -> Option<Self> {
        Self::start_at(gate, (free_port(), free_port()), "")
    }

    /// The same on these ports, for IMAP and POP3 over TLS, with more lines of configuration.
    pub fn start_at(gate: &Gate, (imaps, pop3s): (u16, u16), more: &str) -> Option<Self> {
        let there = ["/usr/sbin/dovecot", "/usr/lib/dovecot/imap", "/usr/lib/dovecot/pop3"];
        if !there.iter().all(|file| Path::new(file).exists()) {
            let required = std::env::var("PORTCULLIS_CLIENTS").is_ok_and(|value| value == "required");
            assert!(!required, "Dovecot is not on this machine; tests/install puts it there");
            eprintln!("skipped: Dovecot is not on this machine (tests/install puts it there)");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("portcullis-dovecot-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("mail")).unwrap();
        gate.certify("dovecot", &["localhost"]);
        let mut config = format!("{CONFIG}{more}");
        if geteuid().is_root() {
            hand_over(&dir.path().join("mail"));
            config.push_str("mail_uid = mail\nmail_gid = mail\n");
        } else {
            config.push_str(&WITHOUT_ROOT.replace("@USER@", &id("-un")).replace("@GROUP@", &id("-gn")));
        }
        let values = [
            ("@DIR@", dir.path().display().to_string()),
            ("@CERT@", gate.dir().join("dovecot").display().to_string()),
            ("@IMAPS@", imaps.to_string()),
            ("@POP3S@", pop3s.to_string()),
            ("@PASSWORD@", PASSWORD.to_owned()),
        ];
        let config = values.iter().fold(config, |text, (mark, value)| text.replace(mark, value));
        let file = dir.path().join("dovecot.conf");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("/usr/sbin/dovecot");
        command.arg("-F").arg("-c").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut dovecot = Self { dir, imaps, pop3s, master: command.spawn().unwrap() };
        let deadline = Instant::now() + Duration::from_secs(30);
        while [imaps, pop3s].iter().any(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()) {
            let ended = dovecot.master.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "Dovecot did not start: {}", dovecot.log());
            std::thread::sleep(Duration::from_millis(30));
        }
        Some(dovecot)
    }

    /// The Maildir of this user.
    pub fn maildir(&self, user: &str) -> PathBuf {
        self.dir.path().join("mail").join(user)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A signed-in IMAP connection.
    pub fn imap(&self, gate: &Gate, user: &str) -> Imap {
        let mut imap = Imap::over(Wire::connect(gate, self.imaps));
        imap.ok(&format!("LOGIN {user} \"{PASSWORD}\""));
        imap
    }

    /// A signed-in POP3 connection.
    pub fn pop(&self, gate: &Gate, user: &str) -> Pop {
        let mut pop = Pop::over(Wire::connect(gate, self.pop3s));
        for command in [format!("USER {user}"), format!("PASS {PASSWORD}")] {
            let reply = pop.command(&command);
            assert!(reply.starts_with("+OK"), "{command}: {reply}");
        }
        pop
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.master.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.master.wait();
        if std::thread::panicking() {
            eprintln!("---- what Dovecot wrote ----\n{}----", self.log());
        }
    }
}

fn id(what: &str) -> String {
    String::from_utf8(Command::new("id").arg(what).output().unwrap().stdout).unwrap().trim().to_owned()
}

/// Gives a folder, and all in it, to the user as whom Dovecot reads and writes mail.
pub fn hand_over(folder: &Path) {
    if geteuid().is_root() {
        let mail = Command::new("chown").args(["-R", "mail:mail"]).arg(folder).status().unwrap();
        assert!(mail.success());
    }
}

/// Dovecot cannot take any port and say which. This one is below those that the system gives to whoever asks for any, so
/// that nobody gets it before Dovecot does.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u32> = 12_000..32_000;
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Processes begin in places of their own.
    let begin = std::process::id().wrapping_mul(40_503);
    loop {
        let number = begin.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed)) % PORTS.len() as u32;
        let port = u16::try_from(PORTS.start + number).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The lines by which Dovecot believes tokens that the gate's issuer signed for an app, and the folder with its keys.
pub struct Tokens {
    _keys: tempfile::TempDir,
    /// More lines of configuration.
    pub lines: String,
}

impl Tokens {
    /// Dovecot finds the issuer's keys in a file for each app and algorithm, by the key's id.
    pub fn of(gate: &Gate, app: &str) -> Self {
        let keys = tempfile::Builder::new().prefix("portcullis-keys-").tempdir().unwrap();
        let of_app = keys.path().join(app).join("ES256");
        fs::create_dir_all(&of_app).unwrap();
        fs::set_permissions(keys.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(of_app.join(&gate.key.kid), gate.key.public_pem()).unwrap();
        let dir = keys.path().display();
        let text = format!(
            "introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={dir}/\nusername_attribute = \
             email\nissuers = {ISSUER}\n"
        );
        fs::write(keys.path().join("oauth2.conf"), text).unwrap();
        let lines = format!(
            "auth_mechanisms = plain xoauth2 oauthbearer\nauth_failure_delay = 0\nlogin_trusted_networks = \
             127.0.0.0/8\npassdb {{\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n  args = \
             {dir}/oauth2.conf\n}}\n"
        );
        Self { _keys: keys, lines }
    }
}

/// A mailbox like the one of the embedded store: `/` between the names of folders, the same folders in the beginning. A
/// master user lets the gate in.
pub const AS_MAILBOX: &str = "
passdb {
  driver = static
  master = yes
  args = password=@PASSWORD@
}
mail_max_userip_connections = 100
protocol imap {
  mail_plugins = zlib imap_zlib
}
namespace inbox {
  inbox = yes
  separator = /
  mailbox Archive {
    auto = subscribe
    special_use = \\Archive
  }
  mailbox Drafts {
    auto = subscribe
    special_use = \\Drafts
  }
  mailbox Junk {
    auto = subscribe
    special_use = \\Junk
  }
  mailbox Sent {
    auto = subscribe
    special_use = \\Sent
  }
  mailbox Trash {
    auto = subscribe
    special_use = \\Trash
  }
}
";

const CONFIG: &str = "
base_dir = @DIR@/run
state_dir = @DIR@/state
log_path = @DIR@/log
protocols = imap pop3
listen = 127.0.0.1
ssl = required
ssl_cert = <@CERT@.pem
ssl_key = <@CERT@.key
mail_location = maildir:@DIR@/mail/%u
first_valid_uid = 1
passdb {
  driver = static
  args = password=@PASSWORD@
}
userdb {
  driver = static
  args = home=@DIR@/mail/%u
}
service imap-login {
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = @IMAPS@
    ssl = yes
  }
}
service pop3-login {
  inet_listener pop3 {
    port = 0
  }
  inet_listener pop3s {
    port = @POP3S@
    ssl = yes
  }
}
";
/// There is nobody to become, and nowhere to be locked into.
const WITHOUT_ROOT: &str = "
default_internal_user = @USER@
default_internal_group = @GROUP@
default_login_user = @USER@
mail_uid = @USER@
mail_gid = @GROUP@
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
