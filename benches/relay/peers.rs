//! The proxies beside which the gateway is measured, as Debian has them: nginx's mail proxy, Dovecot as proxy, and haproxy,
//! which ends TLS and knows nothing of IMAP. What their configuration has beyond certificate, ports and the way to the
//! upstream is said in `benches/README.md`.

use std::{
    fs::{self, File, Permissions},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// How long one may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `mail {}` of nginx.
    Nginx,
    /// Dovecot's login processes with `proxy=y`, each for many connections.
    Dovecot,
    /// The same with a process for each connection.
    DovecotEach,
    /// `mode tcp`.
    Haproxy,
}

impl Kind {
    /// What it says of its version, in one line.
    ///
    /// # Errors
    /// It is not installed, and what to install is said.
    pub fn version(self) -> anyhow::Result<String> {
        let argument = if matches!(self, Self::Dovecot | Self::DovecotEach) { "--version" } else { "-v" };
        let said = Command::new(self.program()?).arg(argument).output()?;
        // nginx says it on the standard error output.
        let text = [said.stdout, said.stderr].concat();
        Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
    }

    fn program(self) -> anyhow::Result<PathBuf> {
        let (name, packages, also) = match self {
            Self::Nginx => ("nginx", "nginx libnginx-mod-mail", Some(NGINX_MODULE)),
            Self::Dovecot | Self::DovecotEach => ("dovecot", "dovecot-imapd", None),
            Self::Haproxy => ("haproxy", "haproxy", None),
        };
        let found = ["/usr/sbin", "/usr/local/sbin"].map(|folder| Path::new(folder).join(name));
        let found = found.into_iter().find(|path| path.exists());
        let found = found.filter(|_| also.is_none_or(|file| Path::new(file).exists()));
        found.with_context(|| format!("there is no {name}; apt-get install {packages} (tests/install)"))
    }

    /// Starts it in front of `upstream`, with the certificate of this folder. `asks` answers `auth_http`.
    ///
    /// # Errors
    /// It did not start; its log is in the error.
    pub fn start(self, certificate: &Path, upstream: SocketAddr, asks: SocketAddr) -> anyhow::Result<Peer> {
        let dir = tempfile::Builder::new().prefix("portcullis-bench-peer-").tempdir()?;
        // Their workers run as other users.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let [chain, key] = ["server.pem", "server.key"].map(|name| fs::read_to_string(certificate.join(name)));
        let (chain, key) = (chain?, key?);
        for (name, text) in [("server.pem", &chain), ("server.key", &key), ("both.pem", &format!("{chain}{key}"))] {
            fs::write(dir.path().join(name), text)?;
        }
        // None of them can be told to take any port and say which.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let text = match self {
            Self::Nginx => NGINX.to_owned(),
            Self::Haproxy => HAPROXY.to_owned(),
            Self::Dovecot | Self::DovecotEach => {
                let many = if self == Self::Dovecot { DOVECOT_FOR_MANY } else { "" };
                let without = if geteuid().is_root() { "" } else { DOVECOT_WITHOUT_ROOT };
                format!("{DOVECOT}{many}{without}")
            }
        };
        let values = [
            ("@DIR@", dir.path().display().to_string()),
            ("@MODULE@", NGINX_MODULE.to_owned()),
            ("@PORT@", address.port().to_string()),
            ("@UPSTREAM@", upstream.port().to_string()),
            ("@ASKS@", asks.port().to_string()),
            ("@USER@", said("id", "-un")?),
            ("@GROUP@", said("id", "-gn")?),
        ];
        let file = dir.path().join("conf");
        fs::write(&file, values.iter().fold(text, |text, (mark, value)| text.replace(mark, value)))?;
        let mut command = Command::new(self.program()?);
        match self {
            Self::Nginx => command.arg("-p").arg(dir.path()).arg("-e").arg(dir.path().join("log")).arg("-c"),
            Self::Dovecot | Self::DovecotEach => command.arg("-F").arg("-c"),
            Self::Haproxy => command.arg("-db").arg("-f"),
        };
        command.arg(file).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(dir.path().join("errors"))?);
        let first = command.spawn().with_context(|| format!("starting {self:?}"))?;
        let mut peer = Peer { dir, first, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if peer.first.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                bail!("{self:?} did not start: {}", peer.log());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(peer)
    }
}

/// A running one. Told to stop, and waited for, when dropped.
pub struct Peer {
    dir: TempDir,
    first: Child,
    /// IMAPS.
    pub address: SocketAddr,
}

impl Peer {
    /// Process id of its first process; every other is a child of it.
    pub fn id(&self) -> u32 {
        self.first.id()
    }

    /// The end of what it has logged.
    pub fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        let lines = [read("errors"), read("log")].concat();
        let lines: Vec<&str> = lines.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(id) = i32::try_from(self.first.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(id, Signal::TERM);
        }
        let _ = self.first.wait();
    }
}

fn said(program: &str, argument: &str) -> anyhow::Result<String> {
    Ok(String::from_utf8(Command::new(program).arg(argument).output()?.stdout)?.trim().to_owned())
}

/// Where Debian has it.
const NGINX_MODULE: &str = "/usr/lib/nginx/modules/ngx_mail_module.so";

const NGINX: &str = "
load_module @MODULE@;
daemon off;
pid @DIR@/pid;
error_log @DIR@/log;
worker_processes 2;
events {
  worker_connections 20000;
}
mail {
  server_name localhost;
  auth_http 127.0.0.1:@ASKS@/;
  ssl_certificate @DIR@/server.pem;
  ssl_certificate_key @DIR@/server.key;
  ssl_protocols TLSv1.2 TLSv1.3;
  server {
    listen 127.0.0.1:@PORT@ ssl backlog=4096;
    protocol imap;
    proxy on;
  }
}
";

const DOVECOT: &str = "
base_dir = @DIR@/run
state_dir = @DIR@/state
log_path = @DIR@/log
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <@DIR@/server.pem
ssl_key = <@DIR@/server.key
passdb {
  driver = static
  args = nopassword=y proxy=y host=127.0.0.1 port=@UPSTREAM@
}
service imap-login {
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = @PORT@
    ssl = yes
  }
}
";

/// What its manual says for servers that are busy.
const DOVECOT_FOR_MANY: &str = "
service imap-login {
  service_count = 0
  process_min_avail = 2
  client_limit = 10000
  vsz_limit = 0
}
";

/// Nobody to drop to and nowhere to be locked into.
const DOVECOT_WITHOUT_ROOT: &str = "
default_internal_user = @USER@
default_internal_group = @GROUP@
default_login_user = @USER@
service imap-login {
  chroot =
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
";

/// The list of TLS 1.3 ciphers is that of Debian's own `haproxy.cfg`.
const HAPROXY: &str = "
global
  nbthread 2
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend imaps
  bind 127.0.0.1:@PORT@ ssl crt @DIR@/both.pem backlog 4096
  default_backend upstream
backend upstream
  server upstream 127.0.0.1:@UPSTREAM@
";
