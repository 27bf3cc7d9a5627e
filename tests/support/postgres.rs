//! A private PostgreSQL server for tests: Debian's programs, a directory and a port of its own, ended with the test process
//! however that ends. Stands alone, because the unit tests of `src/store` use it too.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// Who owns everything on the server.
pub const USER: &str = "gate";
/// Its password.
pub const PASSWORD: &str = "hunter2";

/// Runs the server in the background until standard input ends, which is when whoever started this is gone; then ends it by
/// its process id, and removes its directory unless that is to be kept.
const GUARD: &str = r#"dir=$1; shift
"$@" >>"$dir/log" 2>&1 </dev/null &
server=$!
echo "$server"
cat >/dev/null
kill -INT "$server" 2>/dev/null
wait "$server"
test -e "$dir/keep" || rm -rf "$dir""#;

/// A running server. One that is dropped ends.
pub struct Server {
    dir: PathBuf,
    port: u16,
    guard: Mutex<Option<Child>>,
    next: AtomicU32,
}

/// The server that the tests of this process share; `None` where PostgreSQL is not installed.
pub fn shared() -> Option<&'static Server> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    SHARED.get_or_init(Server::start).as_ref()
}

/// A new and empty database of the shared server where `PORTCULLIS_TEST_DATABASE=postgres` asks for one in place of SQLite:
/// so whole test files can be run on either.
pub fn wished() -> Option<String> {
    match std::env::var("PORTCULLIS_TEST_DATABASE").as_deref() {
        Ok("postgres") => shared().map(Server::database),
        Ok("sqlite") | Err(_) => None,
        Ok(other) => panic!("PORTCULLIS_TEST_DATABASE={other}: write postgres or sqlite"),
    }
}

impl Server {
    /// Starts one. Where PostgreSQL is not installed it says so and returns `None`; `tests/run` sets
    /// `PORTCULLIS_CLIENTS=required`, and then that fails the test.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            let required = std::env::var("PORTCULLIS_CLIENTS").is_ok_and(|value| value == "required");
            assert!(!required, "PostgreSQL is not on this machine; tests/install puts it there");
            eprintln!("skipped: PostgreSQL is not on this machine (tests/install puts it there)");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("portcullis-postgres-").tempdir().unwrap().keep();
        if let Some((user, group)) = other_user() {
            std::os::unix::fs::chown(&dir, Some(user), Some(group)).unwrap();
        }
        let password = dir.join("password");
        fs::write(&password, PASSWORD).unwrap();
        // A collation that sorts as people do, so that whatever relies on the order of bytes shows.
        let made = run(as_other_user(&programs.join("initdb"))
            .args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--username", USER])
            .args(["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"])
            .arg(format!("--pwfile={}", password.display()))
            .arg("--pgdata")
            .arg(dir.join("data")));
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let server = Self { dir, port: free_port(), guard: Mutex::new(None), next: AtomicU32::new(1) };
        server.start_again();
        Some(server)
    }

    /// Starts the server that [`Server::stop`] stopped, on the same port.
    pub fn start_again(&self) {
        let _ = fs::remove_file(self.dir.join("keep"));
        let programs = programs().unwrap();
        let server = as_other_user(&programs.join("postgres"));
        let mut guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard"])
            .arg(&self.dir)
            .arg(server.get_program())
            .args(server.get_args())
            .arg("-D")
            .arg(self.dir.join("data"))
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "full_page_writes=off"])
            .args(["-c", "max_connections=200", "-c", "shared_buffers=32MB"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(guard.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        *self.guard.lock().unwrap() = Some(guard);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.ask("postgres", "SELECT 1").status.success() {
            let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "PostgreSQL did not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the server as an administrator does: connections are cut, what was committed is kept.
    pub fn stop(&self) {
        fs::write(self.dir.join("keep"), "").unwrap();
        let guard = self.guard.lock().unwrap().take();
        end(guard);
    }

    /// The process id of the server; those that serve one connection each are its children.
    pub fn id(&self) -> u32 {
        let file = fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap();
        file.lines().next().and_then(|line| line.trim().parse().ok()).unwrap()
    }

    /// A new and empty database; its URL.
    pub fn database(&self) -> String {
        let name = format!("test{}", self.next.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Makes the server speak TLS from now on, with this certificate and key (PEM).
    pub fn speak_tls(&self, certificate: &str, key: &str) {
        for (name, pem) in [("server.crt", certificate), ("server.key", key)] {
            let file = self.dir.join("data").join(name);
            fs::write(&file, pem).unwrap();
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            if let Some((user, group)) = other_user() {
                std::os::unix::fs::chown(&file, Some(user), Some(group)).unwrap();
            }
        }
        self.sql("postgres", "ALTER SYSTEM SET ssl = on");
        self.stop();
        self.start_again();
    }

    /// Runs SQL in a database, as its owner.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.ask(database, sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn ask(&self, database: &str, sql: &str) -> Output {
        run(Command::new(programs().unwrap().join("psql"))
            .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1"])
            .args(["--command", sql, "--dbname", &self.url(database)]))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(self.guard.lock().unwrap().take());
    }
}

/// The name of the database in a URL of [`Server::url`].
pub fn name_of(url: &str) -> &str {
    url.rsplit('/').next().and_then(|rest| rest.split('?').next()).unwrap()
}

/// Lets the guard's input end, and waits until it has done its work.
fn end(guard: Option<Child>) {
    if let Some(mut guard) = guard {
        drop(guard.stdin.take());
        let _ = guard.wait();
    }
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).current_dir("/").output().unwrap()
}

/// The folder of the newest server's programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    folders.filter(|folder| folder.join("initdb").exists()).max_by_key(|folder| {
        let version = folder.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().parse::<u32>());
        version.and_then(Result::ok).unwrap_or(0)
    })
}

/// PostgreSQL does not run as root: then its user, and group, by number.
fn other_user() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| -> Option<u32> {
        let output = run(Command::new("id").args(arguments));
        String::from_utf8_lossy(&output.stdout).trim().parse().ok().filter(|_| output.status.success())
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    ["postgres", "nobody"].iter().find_map(|name| Some((id(&["-u", name])?, id(&["-g", name])?)))
}

fn as_other_user(program: &Path) -> Command {
    let Some((user, group)) = other_user() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).args(["--clear-groups", "--"]);
    command.arg(program);
    command
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
