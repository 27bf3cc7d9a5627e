//! A mail program that reads as fast as it can: IMAPS and POP3S on a thread of its own, counting what it is told. On
//! request without TLS, for what stands behind a relay.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// What a command brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Lines that begin with `* `. No message of [`letters`](super::letters) has such a line.
    pub untagged: u64,
    /// Octets in all.
    pub octets: u64,
    /// Numbers in the SEARCH response.
    pub found: u64,
    /// What EXISTS said last.
    pub exists: u64,
}

/// What bytes go through.
trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// One connection.
pub struct Wire {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// What is read and not yet looked at.
    unread: Range<usize>,
    tag: u32,
}

/// Longest a server may be silent.
const PATIENCE: Duration = Duration::from_secs(600);

impl Wire {
    /// TCP, the TLS handshake and the greeting.
    pub fn connect(at: SocketAddr, settings: &Arc<ClientConfig>) -> anyhow::Result<Self> {
        let tls = ClientConnection::new(Arc::clone(settings), "localhost".try_into()?)?;
        Self::over(Box::new(StreamOwned::new(tls, dial(at)?)))
    }

    /// TCP and the greeting.
    pub fn plain(at: SocketAddr) -> anyhow::Result<Self> {
        Self::over(Box::new(dial(at)?))
    }

    fn over(stream: Box<dyn Stream>) -> anyhow::Result<Self> {
        let mut wire = Self { stream, buffer: vec![0; 16 * 1024], unread: 0..0, tag: 0 };
        let greeting = wire.line()?;
        let greeting = wire.text(greeting);
        ensure!(greeting.starts_with("* OK") || greeting.starts_with("+OK"), "greeted with {greeting}");
        Ok(wire)
    }

    /// Sends an IMAP command and reads up to its tagged OK.
    pub fn imap(&mut self, words: &str) -> anyhow::Result<Answer> {
        self.imap_with(words, None)
    }

    /// The same; a literal follows the words and is not waited for (RFC 7888).
    pub fn imap_with(&mut self, words: &str, literal: Option<&[u8]>) -> anyhow::Result<Answer> {
        self.tag += 1;
        let tag = format!("q{}", self.tag);
        let mut command = format!("{tag} {words}").into_bytes();
        if let Some(literal) = literal {
            write!(command, " {{{}+}}\r\n", literal.len())?;
            command.extend_from_slice(literal);
        }
        command.extend_from_slice(b"\r\n");
        self.say(&command)?;
        self.until(&tag).with_context(|| words.chars().take(40).collect::<String>())
    }

    /// Sends IDLE and waits for its continuation.
    pub fn idle(&mut self) -> anyhow::Result<()> {
        self.say(b"idle IDLE\r\n")?;
        loop {
            let line = self.line()?;
            if self.at(&line).starts_with(b"+") {
                return Ok(());
            }
        }
    }

    /// Ends IDLE and the session.
    pub fn leave_idle(mut self) -> anyhow::Result<()> {
        self.say(b"DONE\r\n")?;
        self.until("idle")?;
        self.imap("LOGOUT").map(drop)
    }

    /// Sends a POP3 command; the line after its `+OK`.
    pub fn pop(&mut self, words: &str) -> anyhow::Result<String> {
        self.say(format!("{words}\r\n").as_bytes())?;
        let line = self.line()?;
        let text = self.text(line);
        ensure!(text.starts_with("+OK"), "{} answered: {text}", words.split(' ').next().unwrap_or_default());
        Ok(text)
    }

    /// The same with an answer of several lines; its octets.
    pub fn pop_lines(&mut self, words: &str) -> anyhow::Result<u64> {
        self.pop(words)?;
        let mut octets = 0;
        loop {
            let line = self.line()?;
            let line = self.at(&line);
            if line == b"." {
                return Ok(octets);
            }
            octets += line.len() as u64 + 2;
        }
    }

    fn say(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    fn until(&mut self, tag: &str) -> anyhow::Result<Answer> {
        let mut answer = Answer::default();
        loop {
            let line = self.line()?;
            let line = self.at(&line);
            answer.octets += line.len() as u64 + 2;
            if let Some(data) = line.strip_prefix(b"* ") {
                answer.untagged += 1;
                if let Some(numbers) = data.strip_prefix(b"SEARCH") {
                    answer.found += numbers.iter().filter(|byte| **byte == b' ').count() as u64;
                } else if let Some(number) = data.strip_suffix(b" EXISTS") {
                    answer.exists = str::from_utf8(number)?.parse()?;
                }
            } else if let Some(status) = line.strip_prefix(tag.as_bytes()).and_then(|rest| rest.strip_prefix(b" "))
            {
                ensure!(status.starts_with(b"OK"), "answered: {}", String::from_utf8_lossy(status));
                return Ok(answer);
            }
        }
    }

    /// Where the next line is in the buffer, without its end.
    fn line(&mut self) -> anyhow::Result<Range<usize>> {
        let mut looked = 0;
        loop {
            let rest = self.at(&self.unread);
            if let Some(end) = memchr::memchr(b'\n', rest.get(looked..).unwrap_or_default()) {
                let start = self.unread.start;
                let end = start + looked + end;
                self.unread.start = end + 1;
                let bare = end.saturating_sub(1);
                let ends_with_cr = bare >= start && self.buffer.get(bare) == Some(&b'\r');
                return Ok(start..if ends_with_cr { bare } else { end });
            }
            looked = rest.len();
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..looked;
            if looked * 2 > self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            let free = self.buffer.get_mut(looked..).unwrap_or_default();
            match self.stream.read(free)? {
                0 => bail!("the server closed"),
                read => self.unread.end += read,
            }
        }
    }

    fn at(&self, range: &Range<usize>) -> &[u8] {
        self.buffer.get(range.clone()).unwrap_or_default()
    }

    fn text(&self, range: Range<usize>) -> String {
        String::from_utf8_lossy(self.at(&range)).into_owned()
    }
}

fn dial(at: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(at).context("connecting")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
