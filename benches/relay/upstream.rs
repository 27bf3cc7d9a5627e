//! The mail server behind everything that is measured: IMAP as far as the bench needs it, with messages that are made as
//! they are sent. It is a process of its own, so that its files are its own too: ten thousand relayed sessions are as many
//! connections for it. Its CPU counts for nobody.
//!
//! It lets everybody in with any password. The name of a mailbox says what is in it: `500x102400` are 500 messages of
//! 102,400 octets; in any other mailbox there is one of 1,024.

use std::{
    fmt::Write as _,
    io::{self, Read as _},
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::rig::gateway::Process;

/// Longest line or literal of a client, in octets.
const MAX_LINE: u64 = 16 * 1024;
/// What is written at once, in octets.
const PIECE: usize = 64 * 1024;
/// Connections that wait for their place when there are no more files.
const PAUSE: Duration = Duration::from_millis(20);

const CAPABILITIES: &str = "IMAP4rev1 SASL-IR AUTH=PLAIN ID IDLE LITERAL+";

/// Starts it as a process of its own. With a certificate's folder it speaks TLS.
pub fn start(certificate: Option<&Path>) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--be-upstream");
    if let Some(folder) = certificate {
        command.arg("--certificate").arg(folder);
    }
    Process::start(command).context("the upstream")
}

/// Is it, until standard input ends. `http` is where nginx asks.
pub fn run(certificate: Option<&Path>) -> anyhow::Result<()> {
    let acceptor = certificate.map(acceptor).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let imap = listen()?;
        let http = listen()?;
        let at = imap.local_addr()?;
        println!("listening imap {at}\nlistening http {}\nready", http.local_addr()?);
        tokio::spawn(accept(imap, move |stream| {
            let acceptor = acceptor.clone();
            async move {
                match acceptor {
                    Some(acceptor) => Session::new(acceptor.accept(stream).await?).serve().await,
                    None => Session::new(stream).serve().await,
                }
            }
        }));
        tokio::spawn(accept(http, move |stream| say_where(stream, at)));
        let end = tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new()));
        end.await.context("waiting for the end of standard input")??;
        Ok(())
    })
}

fn acceptor(folder: &Path) -> anyhow::Result<TlsAcceptor> {
    let chain = vec![CertificateDer::from_pem_file(folder.join("server.pem"))?];
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key"))?;
    let settings = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(settings)))
}

fn listen() -> anyhow::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind("127.0.0.1:0".parse()?)?;
    Ok(socket.listen(4096)?)
}

/// Serves each connection in a task of its own. How one ends is of no interest here: who measures looks at the answers.
async fn accept<F: Future<Output = io::Result<()>> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Answers nginx's `auth_http`: everybody may, and goes to `at`.
async fn say_where(stream: TcpStream, at: SocketAddr) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(1024, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if (&mut stream).take(MAX_LINE).read_until(b'\n', &mut head).await? == 0 || head.len() as u64 > MAX_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let (ip, port) = (at.ip(), at.port());
    let answer = format!("HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: {ip}\r\nAuth-Port: {port}\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// One IMAP connection.
struct Session<S> {
    stream: BufReader<S>,
    /// What is to be written; empty, and of no size, while the client thinks.
    out: Vec<u8>,
    messages: usize,
    /// Of each message, in octets.
    size: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    fn new(stream: S) -> Self {
        Self { stream: BufReader::with_capacity(1024, stream), out: Vec::new(), messages: 0, size: 0 }
    }

    async fn serve(mut self) -> io::Result<()> {
        self.say(&format!("* OK [CAPABILITY {CAPABILITIES}] ready"));
        self.flush().await?;
        loop {
            let command = self.command().await?;
            let mut words = command.split_ascii_whitespace();
            let (Some(tag), Some(verb)) = (words.next(), words.next()) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let done = format!("{tag} OK {verb} done");
            match verb.to_ascii_uppercase().as_str() {
                "CAPABILITY" => self.say(&format!("* CAPABILITY {CAPABILITIES}\r\n{done}")),
                "ID" => self.say(&format!("* ID NIL\r\n{done}")),
                "NOOP" => self.say(&done),
                "LOGIN" => self.say(&format!("{tag} OK [CAPABILITY {CAPABILITIES}] in")),
                "AUTHENTICATE" => {
                    if words.nth(1).is_none() {
                        self.say("+ ");
                        self.flush().await?;
                        self.line().await?;
                    }
                    self.say(&format!("{tag} OK [CAPABILITY {CAPABILITIES}] in"));
                }
                "SELECT" => self.select(words.next().unwrap_or_default(), &done),
                "UID" => self.fetch(&done).await?,
                "IDLE" => {
                    self.say("+ idling");
                    self.flush().await?;
                    self.line().await?;
                    self.say(&done);
                }
                "LOGOUT" => {
                    self.say(&format!("* BYE\r\n{done}"));
                    self.flush().await?;
                    return self.stream.shutdown().await;
                }
                _ => self.say(&format!("{tag} BAD unknown")),
            }
            self.flush().await?;
        }
    }

    fn select(&mut self, mailbox: &str, done: &str) {
        let told = mailbox.trim_matches('"').split_once('x');
        let told = told.and_then(|(count, size)| Some((count.parse().ok()?, size.parse().ok()?)));
        (self.messages, self.size) = told.unwrap_or((1, 1024));
        let next = self.messages + 1;
        let mut text = String::new();
        let _ = write!(text, "* {} EXISTS\r\n* 0 RECENT\r\n* FLAGS (\\Seen)\r\n", self.messages);
        let _ = write!(text, "* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT {next}] ok\r\n{done}");
        self.say(&text);
    }

    /// Every message, whatever was asked for.
    async fn fetch(&mut self, done: &str) -> io::Result<()> {
        const LINE: &[u8] = b"VGhlIGtlZXBlciBvZiB0aGUgZ2F0ZSBsZXRzIGluIHdobyBtYXkgY29tZSBhbmQgbm8gb25lIGV\r\n";
        let letters = LINE.repeat(PIECE / LINE.len());
        for number in 1..=self.messages {
            self.say(&format!("* {number} FETCH (UID {number} BODY[] {{{}}}", self.size));
            let mut left = self.size;
            while left > 0 {
                let piece = letters.get(..left.min(letters.len())).unwrap_or_default();
                self.out.extend_from_slice(piece);
                left -= piece.len();
                if self.out.len() >= PIECE {
                    self.stream.write_all(&self.out).await?;
                    self.out.clear();
                }
            }
            self.say(")");
        }
        self.say(done);
        Ok(())
    }

    /// The next command with its literals.
    async fn command(&mut self) -> io::Result<String> {
        let mut command = self.line().await?;
        while let Some((size, waits)) = announced(&command) {
            if size + command.len() as u64 > MAX_LINE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if waits {
                self.say("+ go on");
                self.flush().await?;
            }
            let mut literal = String::new();
            (&mut self.stream).take(size).read_to_string(&mut literal).await?;
            command = format!("{command} {literal}{}", self.line().await?);
        }
        Ok(command)
    }

    /// The next line, without its end.
    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned())
    }

    fn say(&mut self, line: &str) {
        self.out.extend_from_slice(line.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&std::mem::take(&mut self.out)).await?;
        self.stream.flush().await
    }
}

/// The literal that a line ends with: its size, and whether the client waits (RFC 7888).
fn announced(line: &str) -> Option<(u64, bool)> {
    let (_, inside) = line.strip_suffix('}')?.rsplit_once('{')?;
    let bare = inside.strip_suffix('+');
    Some((bare.unwrap_or(inside).parse().ok()?, bare.is_none()))
}
