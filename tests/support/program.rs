//! Running mail programs that no one here wrote: each with a home of its own, a time limit, and its whole output.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    Gate,
    mail::{self, Mail},
};

/// How long one run of one program may take. The slowest, offlineimap, needs about five seconds on a busy machine;
/// programs that stay silent after a refusal wait two seconds for the gate.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Whether `program` is on this machine. `tests/run` sets `PORTCULLIS_CLIENTS=required`, and then a missing one
/// fails the test; a plain `cargo test` says so and goes on.
pub fn have(program: &str) -> bool {
    let found = match program.split_once(':') {
        Some(("tool", name)) => tool(name).exists(),
        Some(("node", module)) => node().is_some() && node_folder().join("node_modules").join(module).is_dir(),
        Some(("python3", module)) => Command::new("/usr/bin/python3")
            .args(["-c", &format!("import {module}")])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success()),
        Some(("file", pattern)) => Path::new("/usr/lib").read_dir().is_ok_and(|mut folders| {
            folders.any(|folder| folder.is_ok_and(|folder| folder.path().join(pattern).exists()))
        }),
        _ => find(program).is_some(),
    };
    if !found {
        let required = std::env::var("PORTCULLIS_CLIENTS").is_ok_and(|value| value == "required");
        assert!(!required, "{program} is not on this machine; tests/install puts it there");
        eprintln!("skipped: {program} is not on this machine (tests/install puts it there)");
    }
    found
}

fn find(program: &str) -> Option<PathBuf> {
    // Debian's own first: a version manager's stand-ins want the home of the user.
    ["/usr/bin", "/bin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.exists())
}

/// A program that `tests/install` put into `target/test-tools`.
pub fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/python/bin").join(name)
}

/// Node 20 or newer: what `tests/install` put into `target/test-tools`, else the one of the machine.
pub fn node() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|folder| folder.join("node"));
    std::iter::once(tool("node")).chain(places).find(|file| file.exists())
}

fn node_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/node")
}

/// A home for one program: an empty directory, and the values that its configuration needs.
pub struct Home {
    dir: tempfile::TempDir,
    values: HashMap<&'static str, String>,
}

impl Home {
    /// An empty home.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("portcullis-home-").tempdir().unwrap();
        let values = HashMap::from([("HOME", dir.path().display().to_string())]);
        Self { dir, values }
    }

    /// A home whose programs sign in to `gate` as `user` with `token`, by XOAUTH2 unless told otherwise.
    pub fn for_user(gate: &Gate, user: &str, token: &str) -> Self {
        Self::new()
            .with("IMAPS", gate.imaps)
            .with("POP3S", gate.pop3s)
            .with("CA", gate.ca().display())
            .with("USER", user)
            .with("USER_IN_URL", user.replace('@', "%40"))
            .with("TOKEN", token)
            .with("AUTH", "XOAUTH2")
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Sets a value that templates and programs see; `TOKEN` also becomes a file, `TOKEN_FILE`, and
    /// `AUTH` is there in lower case too, `AUTH_LOWER`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        let value = value.to_string();
        if name == "TOKEN" {
            let file = self.path().join("token");
            fs::write(&file, &value).unwrap();
            self.values.insert("TOKEN_FILE", file.display().to_string());
        }
        if name == "AUTH" {
            self.values.insert("AUTH_LOWER", value.to_lowercase());
        }
        self.values.insert(name, value);
        self
    }

    /// One of the values.
    pub fn value(&self, name: &str) -> &str {
        self.values.get(name).unwrap_or_else(|| panic!("no value {name}"))
    }

    /// Copies `tests/clients/FILE` here with its `@NAME@` marks filled; readable by the owner only, as mpop insists.
    pub fn config(&self, file: &str) -> PathBuf {
        let mut text = fs::read_to_string(clients(file)).unwrap();
        for (name, value) in &self.values {
            text = text.replace(&format!("@{name}@"), value);
        }
        let to = self.path().join(file);
        fs::write(&to, text).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        to
    }

    /// A command in this home: nothing of the caller's environment but a plain `PATH`; the values as variables.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let program = program.as_ref();
        let mut command =
            Command::new(find(&program.to_string_lossy()).map_or_else(|| program.into(), PathBuf::into_os_string));
        command.env_clear().envs(&self.values).env("HOME", self.path()).env("PATH", "/usr/bin:/bin");
        command.env("LANG", "C.UTF-8").env("LC_ALL", "C.UTF-8").env("TERM", "xterm").current_dir(self.path());
        command
    }

    /// `/usr/bin/python3 tests/clients/FILE`.
    pub fn python(&self, file: &str) -> Command {
        let mut command = self.command("/usr/bin/python3");
        command.arg(clients(file));
        command
    }

    /// `node tests/clients/node/FILE`, trusting the authority `CA` names.
    pub fn node(&self, file: &str) -> Command {
        let mut command = self.command(node().unwrap_or_else(|| "node".into()));
        command.arg(node_folder().join(file)).env("NODE_NO_WARNINGS", "1");
        command
    }

    /// A full-screen program: run under `script`, which gives it a terminal and shows what it painted there.
    pub fn on_a_terminal(&self, program: &str, arguments: &str) -> Command {
        let mut command = self.command("script");
        command.args([
            "--quiet",
            "--return",
            "--echo",
            "never",
            "--command",
            &format!("{program} {arguments}"),
            "/dev/null",
        ]);
        command.env("COLUMNS", "200").env("LINES", "50");
        command
    }
}

/// The path of a file in `tests/clients`.
pub fn clients(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(file)
}

/// offlineimap and getmail take every message apart and put it together again with Python's `email`, which mends some
/// malformed ones. So the message to expect is what the same package makes of the one delivered.
pub fn as_python_writes(program: &str, home: &Home, mails: Vec<Mail>) -> Vec<Mail> {
    let put_together = |mail: Mail| {
        let file = home.path().join("one.eml");
        fs::write(&file, &mail.wire).unwrap();
        let outcome = run(home.python("python_email.py").arg(program).arg(&file)).expect_good("python_email.py");
        Mail { wire: mail::with_crlf(&outcome.stdout), ..mail }
    };
    mails.into_iter().map(put_together).collect()
}

/// What a program did.
pub struct Outcome {
    /// Whether it ended with exit code 0.
    pub good: bool,
    /// What it wrote, standard output first, then standard error; of a terminal, what it painted, without the
    /// painting commands.
    pub text: String,
    /// Standard output as it came.
    pub stdout: Vec<u8>,
}

impl Outcome {
    /// Panics with the program's words unless it ended well.
    pub fn expect_good(self, what: &str) -> Self {
        assert!(self.good, "{what} failed:\n{}", self.text);
        self
    }

    /// Panics unless the program shows `text`.
    pub fn expect_text(&self, what: &str, text: &str) {
        // A terminal program breaks lines and fills with spaces where it likes.
        let plain = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain(&self.text).contains(&plain(text)), "{what} should show {text:?}; it wrote:\n{}", self.text);
    }
}

/// Runs a program to its end, or kills it with all its children after [`LIMIT`].
pub fn run(command: &mut Command) -> Outcome {
    run_for(command, LIMIT)
}

/// The same with a limit of one's own.
pub fn run_for(command: &mut Command, limit: Duration) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(fs::File::create(&out).unwrap())
        .stderr(fs::File::create(&err).unwrap())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > deadline {
            end_group(child.id());
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let stdout = fs::read(&out).unwrap();
    let mut bytes = stdout.clone();
    bytes.extend(fs::read(&err).unwrap());
    let text = without_painting(&String::from_utf8_lossy(&bytes));
    let Some(status) = status else { panic!("{command:?} did not end within {limit:?}; it wrote:\n{text}") };
    Outcome { good: status.success(), text, stdout }
}

/// A full-screen program that is told what to do key by key; killed with its children when dropped.
pub struct Keyboard {
    child: Child,
    keys: ChildStdin,
    painted: tempfile::NamedTempFile,
}

impl Keyboard {
    /// Starts a command that [`Home::on_a_terminal`] made.
    pub fn new(command: &mut Command) -> Self {
        let painted = tempfile::NamedTempFile::new().unwrap();
        let (out, err) = (painted.reopen().unwrap(), painted.reopen().unwrap());
        let mut child = command.stdin(Stdio::piped()).stdout(out).stderr(err).process_group(0).spawn().unwrap();
        let keys = child.stdin.take().unwrap();
        Self { child, keys, painted }
    }

    /// Presses these keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap_or_else(|error| panic!("{error}: {}", self.painted()));
    }

    /// Presses them again and again until `done`.
    pub fn press_until(&mut self, what: &str, keys: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !done() {
            assert!(Instant::now() < deadline, "never: {what}; it painted:\n{}", self.painted());
            self.press(keys);
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Waits until it has painted this word.
    pub fn until_painted(&self, word: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.painted().contains(word) {
            assert!(Instant::now() < deadline, "never {word:?}; it painted:\n{}", self.painted());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// All that it has painted, without the painting commands.
    pub fn painted(&self) -> String {
        without_painting(&String::from_utf8_lossy(&fs::read(self.painted.path()).unwrap()))
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        // `script` gives the program a session of its own, beyond the group.
        let below = children(self.child.id()).into_iter().flat_map(|pid| [children(pid), vec![pid]].concat());
        below.for_each(end_group);
        end_group(self.child.id());
        let _ = self.child.wait();
    }
}

/// The processes that a process of ours started.
fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Kills the process group that a child of ours leads.
pub fn end_group(leader: u32) {
    if let Some(pid) = i32::try_from(leader).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

/// The text without terminal control sequences (ECMA-48): each becomes a space.
fn without_painting(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' if rest.peek() == Some(&'[') => {
                rest.next();
                while rest.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                rest.next();
                out.push(' ');
            }
            '\x1b' => {
                rest.next();
            }
            c if c.is_control() && c != '\n' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
