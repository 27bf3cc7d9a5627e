//! An OpenID provider that no one here wrote (npm `oidc-provider`, certified), in a process of its own.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use super::{APP, Gate, Setup, program::Home};

/// The provider, in a process of its own.
pub struct Provider {
    /// Its address, as `iss` says it.
    pub issuer: String,
    child: Child,
    says: ChildStdin,
    hears: Receiver<String>,
    _home: Home,
}

impl Provider {
    /// Starts it, and waits until it answers.
    pub fn start() -> Self {
        let home = Home::new();
        let mut command = home.node("openid_provider.js");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (said, hears) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line)));
        let says = child.stdin.take().unwrap();
        let mut provider = Self { issuer: String::new(), child, says, hears, _home: home };
        provider.issuer = provider.next("ready ");
        provider
    }

    /// A token by authorization code.
    pub fn token(&mut self, user: &str) -> String {
        self.ask(&format!("token {user}"), "token ")
    }

    /// Gives it a command; what follows `answer` in its answer.
    pub fn ask(&mut self, command: &str, answer: &str) -> String {
        writeln!(self.says, "{command}").unwrap();
        self.next(answer)
    }

    fn next(&mut self, start: &str) -> String {
        let line = self.hears.recv_timeout(Duration::from_secs(30)).expect("the provider says nothing");
        line.strip_prefix(start).unwrap_or_else(|| panic!("the provider says {line}")).to_owned()
    }

    /// A gate that believes this provider.
    pub fn gate(&self) -> Gate {
        self.gate_with("")
    }

    /// The same, with more lines of `[http]`.
    pub fn gate_with(&self, http: &str) -> Gate {
        let more = format!("[jwks]\nforced_refresh_gap_s = 1\nrefresh_s = 10\n[http]\n{http}");
        let listen = "imaps = [\"127.0.0.1:0\"]\npop3s = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n".to_owned();
        Gate::with(Setup { listen, issuer: Some(self.table()), more, ..Setup::default() })
    }

    /// The `[[issuer]]` table for it.
    pub fn table(&self) -> String {
        format!(
            r#"[[issuer]]
url = "{}"
audience = ["portcullis"]
event_audience = ["{APP}", "console"]
token_type = "at+jwt"
scope = {{ imap = ["mail"], pop = ["mail"] }}
"#,
            self.issuer
        )
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
