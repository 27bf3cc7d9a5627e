//! Debian's Thunderbird without a screen, driven through Marionette, the remote control that it has for tests: JSON with its
//! length in front, over TCP. What it is told to do stands in `tests/clients/thunderbird.js`.
//!
//! Source of the protocol: Firefox source docs, remote/marionette/doc/Protocol.md.

use std::{
    cell::Cell,
    fs,
    io::{Read, Write},
    net::TcpStream,
    panic::{self, AssertUnwindSafe},
    process::{Child, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Gate,
    program::{self, Home},
};

/// For one command, and for one thing to come about.
const LIMIT: Duration = Duration::from_secs(30);

/// No questions, no updates, nothing from the network but what the test is about.
const SETTINGS: &[(&str, &str)] = &[
    ("marionette.port", "0"),
    ("app.donation.eoy.version.viewed", "999"),
    ("app.update.enabled", "false"),
    ("browser.safebrowsing.downloads.enabled", "false"),
    ("browser.safebrowsing.malware.enabled", "false"),
    ("browser.safebrowsing.phishing.enabled", "false"),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("extensions.getAddons.cache.enabled", "false"),
    ("extensions.update.enabled", "false"),
    ("mail.provider.suppress_dialog_on_startup", "true"),
    ("mail.rights.version", "1"),
    ("mail.shell.checkDefaultClient", "false"),
    ("mail.spotlight.firstRunDone", "true"),
    ("mailnews.start_page.enabled", "false"),
    ("network.captive-portal-service.enabled", "false"),
    ("network.connectivity-service.enabled", "false"),
    ("services.settings.server", "\"data:,\""),
    ("toolkit.telemetry.server", "\"data:,\""),
];

/// A running Thunderbird with a profile of its own; killed when dropped.
pub struct Thunderbird {
    child: Child,
    stream: TcpStream,
    heard: Vec<u8>,
    number: u64,
    /// Always there, but for a Thunderbird that did not start.
    home: Option<Home>,
    /// What it does with each command: `tests/clients/thunderbird.js`.
    commands: String,
}

thread_local! {
    /// How the last Thunderbird of this test ended, where it did so by itself.
    static ENDED: Cell<Option<ExitStatus>> = const { Cell::new(None) };
}

/// Runs a test that uses Thunderbird. Where that ended by itself in the middle, which it does now and then without a screen
/// (in its windows, whatever the server did), the test begins anew; the third time it has failed.
pub fn using(test: impl Fn()) {
    for _ in 0..2 {
        ENDED.set(None);
        let Err(fault) = panic::catch_unwind(AssertUnwindSafe(&test)) else { return };
        let Some(status) = ENDED.get() else { panic::resume_unwind(fault) };
        eprintln!("Thunderbird ended ({status}): from the beginning");
    }
    test();
}

/// Whether this machine has what it takes.
pub fn have() -> bool {
    program::have("thunderbird") && program::have("certutil")
}

impl Thunderbird {
    /// Starts it; it trusts the gate's certificate authority, and finds each of `names` on this machine.
    pub fn start(gate: &Gate, names: &[&str]) -> Self {
        let home = Home::new();
        let profile = home.path().join("profile");
        fs::create_dir(&profile).unwrap();
        let database = format!("sql:{}", profile.display());
        program::run(home.command("certutil").args(["-N", "--empty-password", "-d", &database]))
            .expect_good("certutil");
        let ca = gate.ca();
        let trust = ["-A", "-n", "tests", "-t", "C,,", "-d", &database, "-i", ca.to_str().unwrap()];
        program::run(home.command("certutil").args(trust)).expect_good("certutil");
        let mut settings: String =
            SETTINGS.iter().map(|(name, value)| format!("user_pref(\"{name}\", {value});\n")).collect();
        settings.push_str(&format!("user_pref(\"network.dns.localDomains\", {:?});\n", names.join(",")));
        fs::write(profile.join("user.js"), settings).unwrap();

        // Now and then it ends while it starts, without a word; people would open it again.
        let mut home = home;
        for _ in 0..2 {
            match Self::open(home) {
                Ok(thunderbird) => return thunderbird,
                Err((back, status)) => {
                    eprintln!("Thunderbird ended while it started ({status}): once more");
                    home = back;
                }
            }
        }
        Self::open(home).map_err(|(home, status)| format!("{status}: {}", said(&home))).expect("it starts")
    }

    /// With the profile in this home, which comes back with how it ended where it does not get as far as a first answer.
    fn open(home: Home) -> Result<Self, (Home, ExitStatus)> {
        let profile = home.path().join("profile");
        let _ = fs::remove_file(profile.join("MarionetteActivePort"));
        let log = fs::File::create(home.path().join("log")).unwrap();
        let mut command = home.command("thunderbird");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
            .args(["--headless", "--no-remote", "--marionette", "--remote-allow-system-access", "--profile"])
            .arg(&profile)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = command.spawn().unwrap();
        let started = Instant::now();
        let port = loop {
            if let Some(status) = child.try_wait().unwrap() {
                return Err((home, status));
            }
            let port = fs::read_to_string(profile.join("MarionetteActivePort")).ok();
            if let Some(port) = port.and_then(|text| text.trim().parse::<u16>().ok()) {
                break port;
            }
            assert!(started.elapsed() < LIMIT, "Thunderbird does not start: {}", said(&home));
            std::thread::sleep(Duration::from_millis(50));
        };
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let commands = fs::read_to_string(program::clients("thunderbird.js")).unwrap();
        let mut thunderbird = Self { child, stream, heard: Vec::new(), number: 0, home: Some(home), commands };
        let greeting = thunderbird.hear();
        if greeting.and_then(|_| thunderbird.ask("WebDriver:NewSession", json!({}))).is_none() {
            program::end_group(thunderbird.child.id());
            let status = thunderbird.child.wait().unwrap();
            return Err((thunderbird.home.take().unwrap(), status));
        }
        thunderbird.command("Marionette:SetContext", json!({ "value": "chrome" }));
        thunderbird.until("Thunderbird is up", "isUp", json!([]), |up| up == true);
        thunderbird.call("listenToAlerts", json!([]));
        Ok(thunderbird)
    }

    /// Calls a function of `thunderbird.js` with these arguments.
    pub fn call(&mut self, function: &str, arguments: Value) -> Value {
        let script = format!(
            "{}
            const done = arguments[arguments.length - 1];
            (async () => {function}(...arguments[0]))().then(
                (value) => done({{ value: value ?? null }}),
                (error) => done({{ error: `${{error}} ${{error?.stack ?? ''}}` }})
            );",
            self.commands
        );
        let answer = self.command(
            "WebDriver:ExecuteAsyncScript",
            json!({
                "script": script, "args": [arguments], "sandbox": "system", "newSandbox": true,
                "scriptTimeout": u64::try_from(LIMIT.as_millis()).unwrap(),
            }),
        );
        let answer = &answer["value"];
        assert!(answer["error"].is_null(), "{function}: {answer}\n{}", self.said());
        answer["value"].clone()
    }

    /// Calls it until what it gives is what is waited for.
    pub fn until(&mut self, what: &str, function: &str, arguments: Value, good: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let value = self.call(function, arguments.clone());
            if good(&value) {
                return value;
            }
            assert!(began.elapsed() < LIMIT, "never: {what}; {function} gives {value}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Answers the provider's two pages, sign-in and consent, in Thunderbird's own window.
    pub fn sign_in(&mut self, user: &str) {
        let form = json!(["Sign-in", { "login": user, "password": "x" }]);
        self.until("the sign-in page", "answerSignIn", form, |answered| answered == true);
        self.until("the consent page", "answerSignIn", json!(["Authorize", {}]), |answered| answered == true);
        self.until("the sign-in is over", "isSigningIn", json!([]), |open| open == false);
    }

    fn command(&mut self, name: &str, parameters: Value) -> Value {
        self.ask(name, parameters).unwrap_or_else(|| panic!("{name}: Thunderbird says nothing: {}", self.said()))
    }

    /// Its answer; none if it has gone.
    fn ask(&mut self, name: &str, parameters: Value) -> Option<Value> {
        self.number += 1;
        let text = json!([0, self.number, name, parameters]).to_string();
        self.stream.write_all(format!("{}:{text}", text.len()).as_bytes()).ok()?;
        let answer = self.hear()?;
        assert!(answer[2].is_null(), "{name}: {}\n{}", answer[2], self.said());
        Some(answer[3].clone())
    }

    fn said(&self) -> String {
        self.home.as_ref().map(said).unwrap_or_default()
    }

    /// The next message: its length in bytes, a colon, JSON. None if it has gone.
    fn hear(&mut self) -> Option<Value> {
        loop {
            if let Some(colon) = self.heard.iter().position(|byte| *byte == b':') {
                let length: usize = std::str::from_utf8(&self.heard[..colon]).unwrap().parse().unwrap();
                let end = colon + 1 + length;
                if self.heard.len() >= end {
                    let message = serde_json::from_slice(&self.heard[colon + 1..end]).unwrap();
                    self.heard.drain(..end);
                    return Some(message);
                }
            }
            let mut chunk = [0; 16 * 1024];
            let count = self.stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
            self.heard.extend_from_slice(&chunk[..count]);
        }
    }
}

impl Drop for Thunderbird {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Its end may come a moment after that of its connections.
            std::thread::sleep(Duration::from_millis(500));
            ENDED.set(self.child.try_wait().ok().flatten());
        }
        program::end_group(self.child.id());
        let _ = self.child.wait();
    }
}

/// The end of what Thunderbird wrote, without what its toolkit says of the missing screen.
fn said(home: &Home) -> String {
    let text = fs::read(home.path().join("log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.is_empty() && !line.to_lowercase().contains("gtk")).collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
