//! The other ends of notices: a small SMTP server that can refuse, drop and be down, and a receiver of webhooks. Both keep
//! what they took.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// What the SMTP server does with the next message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Takes it.
    Takes,
    /// Answers this to RCPT.
    RefusesRecipient(&'static str),
    /// Answers this to MAIL.
    RefusesSender(&'static str),
    /// Answers this after the message.
    RefusesMessage(&'static str),
    /// Takes the message, and hangs up before it says so.
    HangsUp,
    /// Takes the message, and says so after this time.
    Hesitates(Duration),
}

/// One message as it came.
#[derive(Clone, Debug)]
pub struct Letter {
    /// `MAIL FROM` and `RCPT TO`, as they were given.
    pub envelope: (String, Vec<String>),
    /// The message, its lines ended by LF, dots taken off.
    pub text: String,
}

impl Letter {
    /// A header field, unfolded; the first of that name.
    pub fn header(&self, name: &str) -> Option<String> {
        let (head, _) = self.text.split_once("\n\n").unwrap();
        let unfolded = head.replace("\n ", " ");
        let line =
            unfolded.lines().find(|line| line.to_lowercase().starts_with(&format!("{}:", name.to_lowercase())));
        line.map(|line| line.split_once(':').unwrap().1.trim().to_owned())
    }

    /// The body, quoted-printable undone.
    pub fn body(&self) -> String {
        let (_, body) = self.text.split_once("\n\n").unwrap();
        if self.header("Content-Transfer-Encoding").as_deref() != Some("quoted-printable") {
            return body.to_owned();
        }
        let joined = body.replace("=\n", "");
        let mut bytes = Vec::new();
        let mut rest = joined.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            if byte == b'=' && tail.len() >= 2 {
                let hex = std::str::from_utf8(&tail[..2]).unwrap();
                bytes.push(u8::from_str_radix(hex, 16).unwrap());
                rest = &tail[2..];
            } else {
                bytes.push(byte);
                rest = tail;
            }
        }
        String::from_utf8(bytes).unwrap()
    }
}

/// How the SMTP server protects its connections.
#[derive(Clone)]
pub enum Cover {
    /// Not at all.
    Plain,
    /// TLS from the first byte.
    Tls(Arc<rustls::ServerConfig>),
    /// STARTTLS.
    StartTls(Arc<rustls::ServerConfig>),
}

/// Either side of TLS.
trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// Nothing, for the moment in which a connection is being covered.
struct Nothing;
impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Ok(0)
    }
}
impl Write for Nothing {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Ok(0)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn covered(stream: TcpStream, tls: &Arc<rustls::ServerConfig>) -> Box<dyn Wire> {
    let connection = rustls::ServerConnection::new(Arc::clone(tls)).unwrap();
    Box::new(rustls::StreamOwned::new(connection, stream))
}

/// A certificate for these names, to be trusted as it is (PEM), and a TLS server with it.
pub fn certificate(names: &[&str]) -> (String, Arc<rustls::ServerConfig>) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (made.cert.pem(), Arc::new(config))
}

/// An SMTP server on loopback.
pub struct Smtp {
    pub address: SocketAddr,
    commands: Arc<Mutex<Vec<String>>>,
    mood: Arc<Mutex<Mood>>,
    letters: Arc<Mutex<Vec<Letter>>>,
    tries: Arc<AtomicUsize>,
}

impl Smtp {
    pub fn start() -> Self {
        Self::start_with(Cover::Plain)
    }

    pub fn start_with(cover: Cover) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let commands = Arc::new(Mutex::new(Vec::new()));
        let own_commands = Arc::clone(&commands);
        let mood = Arc::new(Mutex::new(Mood::Takes));
        let letters = Arc::new(Mutex::new(Vec::new()));
        let tries = Arc::new(AtomicUsize::new(0));
        let (own_mood, own_letters, own_tries) = (Arc::clone(&mood), Arc::clone(&letters), Arc::clone(&tries));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                own_tries.fetch_add(1, Ordering::SeqCst);
                let (mood, letters) = (Arc::clone(&own_mood), Arc::clone(&own_letters));
                let (cover, commands) = (cover.clone(), Arc::clone(&own_commands));
                thread::spawn(move || talk(stream, &cover, &mood, &letters, &commands));
            }
        });
        Self { address, commands, mood, letters, tries }
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// What was taken so far, what the sender was not told of included.
    pub fn letters(&self) -> Vec<Letter> {
        self.letters.lock().unwrap().clone()
    }

    /// Every command so far, each with whether it came through TLS: `MAIL FROM:<..> (tls)`.
    pub fn commands(&self) -> Vec<String> {
        self.commands.lock().unwrap().clone()
    }

    /// Connections so far.
    pub fn tries(&self) -> usize {
        self.tries.load(Ordering::SeqCst)
    }

    /// Waits for so many messages.
    pub fn wait_for(&self, count: usize) -> Vec<Letter> {
        wait(&format!("{count} messages"), || {
            let letters = self.letters();
            (letters.len() >= count).then_some(letters)
        })
    }
}

/// Asks until there is an answer, for 20 seconds at most.
pub fn wait<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn say(wire: &mut BufReader<Box<dyn Wire>>, line: &str) -> Option<()> {
    wire.get_mut().write_all(format!("{line}\r\n").as_bytes()).ok()?;
    wire.get_mut().flush().ok()
}

fn talk(
    stream: TcpStream,
    cover: &Cover,
    mood: &Mutex<Mood>,
    letters: &Mutex<Vec<Letter>>,
    commands: &Mutex<Vec<String>>,
) -> Option<()> {
    let again = stream.try_clone().ok()?;
    let mut is_covered = matches!(cover, Cover::Tls(_));
    let wire: Box<dyn Wire> = match cover {
        Cover::Tls(tls) => covered(stream, tls),
        Cover::Plain | Cover::StartTls(_) => Box::new(stream),
    };
    let mut wire = BufReader::new(wire);
    say(&mut wire, "220 post.test ESMTP")?;
    let (mut from, mut to) = (String::new(), Vec::new());
    loop {
        let mut line = String::new();
        if wire.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        commands.lock().unwrap().push(format!("{line}{}", if is_covered { " (tls)" } else { "" }));
        let now = mood.lock().unwrap().clone();
        match line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "EHLO" => {
                let offer = matches!(cover, Cover::StartTls(_)) && !is_covered;
                let offer = if offer { "250-STARTTLS\r\n" } else { "" };
                say(&mut wire, &format!("250-post.test\r\n{offer}250-AUTH PLAIN\r\n250 8BITMIME"))?;
            }
            "STARTTLS" => {
                let Cover::StartTls(tls) = cover else {
                    say(&mut wire, "502 no")?;
                    continue;
                };
                say(&mut wire, "220 go on")?;
                drop(std::mem::replace(&mut wire, BufReader::new(Box::new(Nothing))));
                wire = BufReader::new(covered(again.try_clone().ok()?, tls));
                is_covered = true;
            }
            "AUTH" => say(&mut wire, "235 ok")?,
            "MAIL" => {
                if let Mood::RefusesSender(answer) = now {
                    say(&mut wire, answer)?;
                    continue;
                }
                line.clone_into(&mut from);
                to.clear();
                say(&mut wire, "250 ok")?;
            }
            "RCPT" => {
                if let Mood::RefusesRecipient(answer) = now {
                    say(&mut wire, answer)?;
                    continue;
                }
                to.push(line.to_owned());
                say(&mut wire, "250 ok")?;
            }
            "DATA" => {
                say(&mut wire, "354 go on")?;
                let mut text = String::new();
                loop {
                    let mut line = String::new();
                    if wire.read_line(&mut line).ok()? == 0 {
                        return None;
                    }
                    assert!(line.ends_with("\r\n"), "a bare LF: {line:?}");
                    let line = line.trim_end_matches(['\r', '\n']);
                    if line == "." {
                        break;
                    }
                    text.push_str(line.strip_prefix('.').unwrap_or(line));
                    text.push('\n');
                }
                if let Mood::RefusesMessage(answer) = now {
                    say(&mut wire, answer)?;
                    continue;
                }
                letters.lock().unwrap().push(Letter { envelope: (from.clone(), to.clone()), text });
                match now {
                    Mood::HangsUp => return None,
                    Mood::Hesitates(time) => thread::sleep(time),
                    _ => {}
                }
                say(&mut wire, "250 taken")?;
            }
            "QUIT" => return say(&mut wire, "221 bye"),
            _ => say(&mut wire, "250 ok")?,
        }
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Posted {
    /// `POST /path HTTP/1.1`.
    pub first: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Posted {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        &found.unwrap_or_else(|| panic!("no {name} in {self:?}")).1
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A receiver of webhooks on loopback, without TLS: answers with one status after the other, the last for ever.
pub struct Receiver {
    pub address: SocketAddr,
    answers: Arc<Mutex<Vec<String>>>,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Receiver {
    pub fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Arc<Mutex<Vec<String>>> =
            Arc::new(Mutex::new(answers.iter().rev().map(ToString::to_string).collect()));
        let posted = Arc::new(Mutex::new(Vec::new()));
        let (own_answers, own_posted) = (Arc::clone(&answers), Arc::clone(&posted));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answers, posted) = (Arc::clone(&own_answers), Arc::clone(&own_posted));
                thread::spawn(move || receive(&stream, &answers, &posted));
            }
        });
        Self { address, answers, posted }
    }

    /// Answers so from now on.
    pub fn set(&self, answer: &str) {
        *self.answers.lock().unwrap() = vec![answer.to_owned()];
    }

    pub fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }

    /// Waits for so many requests.
    pub fn wait_for(&self, count: usize) -> Vec<Posted> {
        wait(&format!("{count} requests"), || {
            let posted = self.posted();
            (posted.len() >= count).then_some(posted)
        })
    }
}

fn receive(stream: &TcpStream, answers: &Mutex<Vec<String>>, posted: &Mutex<Vec<Posted>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let first = lines.remove(0);
    let headers: Vec<(String, String)> = lines
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    posted.lock().unwrap().push(Posted { first, headers, body });
    let answer = {
        let mut answers = answers.lock().unwrap();
        if answers.len() > 1 { answers.pop() } else { answers.last().cloned() }
    };
    let answer = format!("HTTP/1.1 {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", answer?);
    let mut writer = stream;
    writer.write_all(answer.as_bytes()).ok()
}
