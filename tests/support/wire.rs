//! A small blocking TLS client that speaks IMAP and POP3 line by line and shows what came, byte for byte.
//! Every read ends after [`PATIENCE`]: a test that waits longer has failed.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::CertificateDer};
use socket2::{Domain, Socket, Type};

use super::Gate;

/// How long one read may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A TLS connection with what has been read of it and not yet taken.
pub struct Wire {
    stream: StreamOwned<ClientConnection, TcpStream>,
    pending: Vec<u8>,
}

impl Wire {
    /// Connects to 127.0.0.1 and finishes the handshake as `localhost`, trusting the gate's authority alone.
    pub fn connect(gate: &Gate, port: u16) -> Self {
        let tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
        Self::over(tcp, Self::trusting(gate, rustls::DEFAULT_VERSIONS), "localhost").unwrap()
    }

    /// The same from another address of this machine: `127.0.0.2`.
    pub fn connect_from(gate: &Gate, source: &str, port: u16) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let source: IpAddr = source.parse().unwrap();
        socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
        Self::over(socket.into(), Self::trusting(gate, rustls::DEFAULT_VERSIONS), "localhost").unwrap()
    }

    /// Settings of a client that trusts the gate's authority alone.
    pub fn trusting(gate: &Gate, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(gate.ca_der().to_vec())).unwrap();
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// The handshake on a connection that is there already, asking for `host`.
    pub fn over(mut tcp: TcpStream, config: ClientConfig, host: &str) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let name = host.to_owned().try_into().map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(Self { stream: StreamOwned::new(tls, tcp), pending: Vec::new() })
    }

    /// What was agreed on in the handshake.
    pub fn tls(&self) -> &ClientConnection {
        &self.stream.conn
    }

    /// The server's own certificate, DER.
    pub fn certificate(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }

    /// Sends `line` and CRLF.
    pub fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\r\n").as_bytes());
    }

    /// Sends bytes as they are. A connection that the gate has closed is not an error here: reading tells.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    /// Sends bytes so many times, or until the gate has taken none of them for half a second: whether it came to that.
    pub fn send_until_stuck(&mut self, bytes: &[u8], times: usize) -> bool {
        self.stream.sock.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        (0..times).any(|_| self.stream.write_all(bytes).and_then(|()| self.stream.flush()).is_err())
    }

    /// Says that nothing more comes, and goes on listening.
    pub fn close_half(&mut self) {
        self.stream.conn.send_close_notify();
        let _ = self.stream.flush();
        self.stream.sock.shutdown(Shutdown::Write).unwrap();
    }

    /// Breaks off: the other side reads an error, not an end.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream.sock).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// The next line without its CRLF, or `None` at the end of the connection.
    pub fn line_or_end(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.pending.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.pending[..end]).into_owned();
                self.pending.drain(..end + 2);
                return Some(line);
            }
            if !self.fill() {
                assert!(self.pending.is_empty(), "closed in the middle of a line: {:?}", self.pending);
                return None;
            }
        }
    }

    /// The next line without its CRLF.
    pub fn line(&mut self) -> String {
        self.line_or_end().expect("the gate closed the connection where a line was due")
    }

    /// Exactly `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        while self.pending.len() < n {
            assert!(self.fill(), "closed after {} of {n} bytes", self.pending.len());
        }
        self.pending.drain(..n).collect()
    }

    /// Everything until the gate closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.pending)
    }

    /// What has come and not been taken, at least one byte of it; nothing at the end.
    pub fn some(&mut self) -> Vec<u8> {
        if self.pending.is_empty() {
            self.fill();
        }
        std::mem::take(&mut self.pending)
    }

    /// Whether nothing at all comes within `time`.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        if !self.pending.is_empty() {
            return false;
        }
        self.stream.sock.set_read_timeout(Some(time)).unwrap();
        let mut chunk = [0_u8; 1024];
        let result = self.stream.read(&mut chunk);
        self.stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
        match result {
            Ok(n) => {
                self.pending.extend_from_slice(&chunk[..n]);
                false
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    /// Reads more; false at the end.
    fn fill(&mut self) -> bool {
        let mut chunk = vec![0_u8; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(n) => {
                self.pending.extend_from_slice(&chunk[..n]);
                n > 0
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came for {PATIENCE:?}; so far: {:?}", String::from_utf8_lossy(&self.pending))
            }
            Err(_) => false, // reset, or closed without close_notify
        }
    }
}

/// SASL XOAUTH2's client response, base64.
pub fn xoauth2(user: &str, token: &str) -> String {
    STANDARD.encode(format!("user={user}\x01auth=Bearer {token}\x01\x01"))
}

/// SASL OAUTHBEARER's client response (RFC 7628 section 3.1), base64.
pub fn oauthbearer(user: &str, token: &str) -> String {
    STANDARD.encode(format!("n,a={user},\x01host=localhost\x01port=993\x01auth=Bearer {token}\x01\x01"))
}

/// An IMAP connection.
pub struct Imap {
    /// The lines and bytes beneath.
    pub wire: Wire,
    /// The greeting.
    pub greeting: String,
    tag: u32,
}

/// What answered one command.
pub struct Reply {
    /// Untagged responses, with literals where they stood, without the last CRLF.
    pub untagged: Vec<Vec<u8>>,
    /// The tagged response without its tag: `OK ...`, `NO ...`, `BAD ...`.
    pub status: String,
}

impl Reply {
    /// The untagged responses as text.
    pub fn lines(&self) -> Vec<String> {
        self.untagged.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

impl Imap {
    /// Connects and reads the greeting.
    pub fn connect(gate: &Gate) -> Self {
        Self::over(Wire::connect(gate, gate.imaps))
    }

    /// The same on a connection that is there already, to whichever server.
    pub fn over(mut wire: Wire) -> Self {
        let greeting = wire.line();
        assert!(greeting.starts_with("* OK "), "greeting: {greeting}");
        Self { wire, greeting, tag: 0 }
    }

    /// Signs in, or panics with what the gate said.
    pub fn xoauth2(&mut self, user: &str, token: &str) {
        let reply = self.command(&format!("AUTHENTICATE XOAUTH2 {}", xoauth2(user, token)));
        assert!(reply.status.starts_with("OK"), "sign-in of {user}: {}", reply.status);
    }

    /// Sends a command under a fresh tag and reads up to its tagged response. A continuation request is answered
    /// with an empty line (what a program does after a SASL failure).
    pub fn command(&mut self, command: &str) -> Reply {
        let tag = self.send(command);
        self.finish(&tag)
    }

    /// A command that must be answered OK.
    pub fn ok(&mut self, command: &str) -> Reply {
        let reply = self.command(command);
        assert!(reply.status.starts_with("OK"), "{command}: {}", reply.status);
        reply
    }

    /// Sends a command without waiting; gives its tag.
    pub fn send(&mut self, command: &str) -> String {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.wire.send(&format!("{tag} {command}"));
        tag
    }

    /// Reads up to the tagged response of `tag`.
    pub fn finish(&mut self, tag: &str) -> Reply {
        let mut untagged = Vec::new();
        loop {
            let response = self.response();
            let text = String::from_utf8_lossy(&response).into_owned();
            if let Some(status) = text.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                return Reply { untagged, status: status.to_owned() };
            }
            if text.starts_with('+') {
                self.wire.send("");
            }
            untagged.push(response);
        }
    }

    /// One whole response, literals included.
    pub fn response(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let line = self.raw_line();
            all.extend_from_slice(&line);
            let Some(size) = literal_size(&line) else { return all };
            all.extend_from_slice(b"\r\n");
            all.extend(self.wire.bytes(size));
        }
    }

    fn raw_line(&mut self) -> Vec<u8> {
        loop {
            if let Some(end) = self.wire.pending.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.wire.pending[..end].to_vec();
                self.wire.pending.drain(..end + 2);
                return line;
            }
            assert!(self.wire.fill(), "the gate closed in the middle of an answer");
        }
    }

    /// APPEND with a synchronising literal; the message as it goes over the wire.
    pub fn append(&mut self, mailbox: &str, flags: &str, message: &[u8]) {
        let tag = self.send(&format!("APPEND \"{mailbox}\" ({flags}) {{{}}}", message.len()));
        let go = self.wire.line();
        assert!(go.starts_with('+'), "APPEND: {go}");
        self.wire.send_bytes(message);
        self.wire.send_bytes(b"\r\n");
        let reply = self.finish(&tag);
        assert!(reply.status.starts_with("OK"), "APPEND: {}", reply.status);
    }

    /// All messages of `mailbox` (modified UTF-7) by UID FETCH, each as (flags, bytes).
    pub fn read_all(&mut self, mailbox: &str) -> Vec<(Vec<String>, Vec<u8>)> {
        self.ok(&format!("EXAMINE \"{mailbox}\""));
        let reply = self.ok("UID FETCH 1:* (FLAGS BODY.PEEK[])");
        self.ok("CLOSE");
        reply.untagged.iter().filter_map(|response| flags_and_body(response)).collect()
    }

    /// Starts IDLE and waits for the continuation.
    pub fn idle(&mut self) -> String {
        let tag = self.send("IDLE");
        let go = self.wire.line();
        assert!(go.starts_with('+'), "IDLE: {go}");
        tag
    }

    /// Reads until `* BYE`, then to the close; gives the BYE's text and when it came.
    pub fn bye(&mut self) -> (String, Instant) {
        loop {
            let line = self.wire.line();
            if let Some(text) = line.strip_prefix("* BYE ") {
                let at = Instant::now();
                assert_eq!(String::from_utf8_lossy(&self.wire.rest()), "", "nothing may follow the BYE");
                return (text.to_owned(), at);
            }
        }
    }
}

fn literal_size(line: &[u8]) -> Option<usize> {
    let digits = line.strip_suffix(b"}")?;
    let start = digits.iter().rposition(|&byte| byte == b'{')?;
    std::str::from_utf8(&digits[start + 1..]).ok()?.parse().ok()
}

fn flags_and_body(response: &[u8]) -> Option<(Vec<String>, Vec<u8>)> {
    let head_end = response.windows(2).position(|pair| pair == b"\r\n")?;
    let head = String::from_utf8_lossy(&response[..head_end]).into_owned();
    let size = literal_size(&response[..head_end])?;
    let (_, after) = head.split_once("FLAGS (")?;
    let flags = after.split(')').next()?.split_whitespace().map(str::to_owned).collect();
    Some((flags, response[head_end + 2..head_end + 2 + size].to_vec()))
}

/// A POP3 connection.
pub struct Pop {
    /// The lines and bytes beneath.
    pub wire: Wire,
}

impl Pop {
    /// Connects and reads the greeting.
    pub fn connect(gate: &Gate) -> Self {
        Self::over(Wire::connect(gate, gate.pop3s))
    }

    /// The same on a connection that is there already, to whichever server.
    pub fn over(mut wire: Wire) -> Self {
        let greeting = wire.line();
        assert!(greeting.starts_with("+OK"), "greeting: {greeting}");
        Self { wire }
    }

    /// Signs in, or panics with what the gate said.
    pub fn xoauth2(&mut self, user: &str, token: &str) {
        let reply = self.authenticate("XOAUTH2", &xoauth2(user, token));
        assert!(reply.starts_with("+OK"), "sign-in of {user}: {reply}");
    }

    /// AUTH on one line; answers the error challenge with an empty line; gives the final reply.
    pub fn authenticate(&mut self, mechanism: &str, response: &str) -> String {
        self.wire.send(&format!("AUTH {mechanism} {response}"));
        let mut reply = self.wire.line();
        if reply.starts_with("+ ") {
            self.wire.send("");
            reply = self.wire.line();
        }
        reply
    }

    /// A command with a one-line reply.
    pub fn command(&mut self, command: &str) -> String {
        self.wire.send(command);
        self.wire.line()
    }

    /// A command with a multi-line reply, dots unstuffed, each line with its CRLF.
    pub fn long(&mut self, command: &str) -> Vec<u8> {
        let first = self.command(command);
        assert!(first.starts_with("+OK"), "{command}: {first}");
        let mut all = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = self.wire.pending.windows(2).position(|pair| pair == b"\r\n") {
                    break end;
                }
                assert!(self.wire.fill(), "closed in the middle of {command}");
            };
            let line: Vec<u8> = self.wire.pending.drain(..end + 2).collect();
            match line.as_slice() {
                b".\r\n" => return all,
                [b'.', rest @ ..] => all.extend_from_slice(rest),
                _ => all.extend_from_slice(&line),
            }
        }
    }
}
