//! A private Cyrus that the gate stands in front of: Debian's programs as `tests/install` unpacked them, a directory and
//! ports of its own, ended when dropped.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::Gate;

/// The user that may sign in for everybody.
pub const MASTER: &str = "gate";

/// A running Cyrus whose certificate the gate's authority signed.
pub struct Cyrus {
    dir: tempfile::TempDir,
    master: Child,
}

impl Cyrus {
    /// Starts one on these ports, for IMAP and POP3 over TLS, with this password for its master user. Where it was not
    /// unpacked it says so and returns `None`; with `PORTCULLIS_CLIENTS=required` that fails the test.
    pub fn start_at(gate: &Gate, (imaps, pop3s): (u16, u16), password: &str) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/cyrus");
        let programs = root.join("usr/lib/cyrus/bin");
        // It becomes another user, which only root may.
        if !programs.join("master").exists() || !geteuid().is_root() {
            let required = std::env::var("PORTCULLIS_CLIENTS").is_ok_and(|value| value == "required");
            assert!(!required || !geteuid().is_root(), "Cyrus is not unpacked; tests/install does that");
            eprintln!(
                "skipped: no Cyrus here (tests/install unpacks it), or not run as root, without which it does not start"
            );
            return None;
        }
        let dir = tempfile::Builder::new().prefix("portcullis-cyrus-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        gate.certify("cyrus", &["localhost"]);
        for name in ["cyrus.pem", "cyrus.key", "ca.pem"] {
            fs::copy(gate.dir().join(name), dir.path().join(name)).unwrap();
        }
        for name in ["conf", "spool", "sock", "proc"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let values = [
            ("@DIR@", dir.path().display().to_string()),
            ("@PROGRAMS@", programs.display().to_string()),
            ("@IMAPS@", imaps.to_string()),
            ("@POP3S@", pop3s.to_string()),
            ("@MASTER@", MASTER.to_owned()),
        ];
        let fill =
            |text: &str| values.iter().fold(text.to_owned(), |text, (mark, value)| text.replace(mark, value));
        fs::write(dir.path().join("imapd.conf"), fill(IMAPD)).unwrap();
        fs::write(dir.path().join("cyrus.conf"), fill(SERVICES)).unwrap();
        set_password(&dir.path().join("sasldb2"), password);
        let owned = Command::new("chown").args(["-R", "mail:mail"]).arg(dir.path()).status().unwrap();
        assert!(owned.success());

        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(programs.join("master"));
        command.arg("-C").arg(dir.path().join("imapd.conf")).arg("-M").arg(dir.path().join("cyrus.conf"));
        command.arg("-p").arg(dir.path().join("pid")).env("LD_LIBRARY_PATH", library_path(&root));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        // It ends by a signal to its whole process group, in which a Dovecot of another test would be.
        command.process_group(0);
        let mut cyrus = Self { dir, master: command.spawn().unwrap() };
        let deadline = Instant::now() + Duration::from_secs(30);
        while [imaps, pop3s].iter().any(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()) {
            let ended = cyrus.master.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "Cyrus did not start: {}", cyrus.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(cyrus)
    }

    /// What it has written to its standard output; the rest goes to the system's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Cyrus {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.master.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.master.wait();
        if std::thread::panicking() {
            eprintln!("---- what Cyrus wrote ----\n{}----", self.log());
        }
    }
}

/// Debian's folder for libraries is named after the machine.
fn library_path(root: &Path) -> PathBuf {
    let found = fs::read_dir(root.join("usr/lib")).unwrap().map(|entry| entry.unwrap().path());
    found.into_iter().find(|path| path.join("libcyrus.so.0").exists()).expect("Cyrus without its libraries")
}

/// The master user is known under the name of the machine, whatever that is.
fn set_password(file: &Path, password: &str) {
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut command = Command::new("/usr/sbin/saslpasswd2");
    command.args(["-p", "-c", "-u", machine.trim(), "-f"]).arg(file).arg(MASTER);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

const IMAPD: &str = "
configdirectory: @DIR@/conf
partition-default: @DIR@/spool
defaultpartition: default
cyrus_user: mail
proxyservers: @MASTER@
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: @DIR@/sasldb2
sasl_mech_list: PLAIN EXTERNAL
allowplaintext: yes
virtdomains: userid
defaultdomain: internal
unixhierarchysep: yes
altnamespace: yes
autocreate_quota: 0
autocreate_post: yes
tls_server_cert: @DIR@/cyrus.pem
tls_server_key: @DIR@/cyrus.key
tls_client_ca_file: @DIR@/ca.pem
idlesocket: @DIR@/sock/idle
notifysocket: @DIR@/sock/notify
lmtpsocket: @DIR@/sock/lmtp
proc_path: @DIR@/proc
mboxname_lockpath: @DIR@/lock
";

const SERVICES: &str = "
START {
  recover cmd=\"@PROGRAMS@/ctl_cyrusdb -C @DIR@/imapd.conf -r\"
}
SERVICES {
  imaps cmd=\"@PROGRAMS@/imapd -s -C @DIR@/imapd.conf\" listen=\"127.0.0.1:@IMAPS@\" prefork=0
  pop3s cmd=\"@PROGRAMS@/pop3d -s -C @DIR@/imapd.conf\" listen=\"127.0.0.1:@POP3S@\" prefork=0
}
DAEMON {
  idled cmd=\"@PROGRAMS@/idled -C @DIR@/imapd.conf\"
}
";
