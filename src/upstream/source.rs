//! The client that reads another IMAP server's mailboxes, changing nothing there: EXAMINE, `BODY.PEEK[]`. Messages are
//! streamed, so that memory does not grow with their size.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::answer::{self, Value};
use crate::imap::mutf7;
use crate::model::{Secret, UnixTime};

/// How long the server may be silent.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest line of an answer, in bytes.
const MAX_LINE: usize = 256 * 1024;
/// Longest answer that is no message, in bytes: a SEARCH of a million messages.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// Most bytes of a message that are given out at once.
const CHUNK: usize = 64 * 1024;

/// Where the other server is.
pub struct SourceServer {
    /// Its name, which its certificate must bear.
    pub host: String,
    /// Its port for TLS from the first byte.
    pub port: u16,
    /// Whom to believe.
    pub tls: Arc<ClientConfig>,
}

/// Who signs in there.
pub struct SourceLogin {
    /// The account's name there.
    pub user: String,
    /// Its password, or the master user's.
    pub password: Secret,
    /// The account to read, where `user` is a master user (SASL PLAIN's authzid).
    pub on_behalf_of: Option<String>,
}

/// Why it did not work. No text holds the password.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No connection.
    #[error("cannot reach {host}:{port}")]
    Connect {
        /// The server's name.
        host: String,
        /// Its port.
        port: u16,
        /// The system's answer, or that of TLS.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection to the server broke")]
    Broken(#[source] std::io::Error),
    /// Nothing came for two minutes.
    #[error("the server has been silent for two minutes")]
    Silent,
    /// The server said no.
    #[error("the server refused {what}: {said}")]
    Refused {
        /// What it was asked.
        what: &'static str,
        /// Its words, cut at 200 characters.
        said: String,
    },
    /// The server takes no password.
    #[error("the server takes no password (it offers neither AUTH=PLAIN nor LOGIN): {offered}")]
    NoPassword {
        /// What it offers.
        offered: String,
    },
    /// The server's answer makes no sense.
    #[error("the server's answer to {what} makes no sense")]
    Nonsense {
        /// What it was asked.
        what: &'static str,
    },
}

/// A folder there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFolder {
    /// Its name in UTF-8, levels separated by `/`.
    pub name: String,
    /// Its name on that server's wire.
    wire: Vec<u8>,
    /// Whether the user wants to see it.
    pub subscribed: bool,
}

/// A folder that was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Messages.
    pub exists: u32,
    /// UIDVALIDITY; 0 if the server did not say.
    pub uid_validity: u32,
    /// UIDNEXT; 0 if the server did not say.
    pub uid_next: u32,
}

/// A part of what FETCH gives.
#[derive(Debug)]
pub enum Piece {
    /// The next bytes of a message.
    Bytes(Bytes),
    /// The message whose bytes came before this is whole.
    Message(Fetched),
}

/// What is said of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Its UID.
    pub uid: u32,
    /// Flags and keywords, as that server writes them.
    pub flags: Vec<String>,
    /// INTERNALDATE.
    pub date: Option<UnixTime>,
}

/// A connection to another IMAP server.
pub struct Source {
    stream: TlsStream<TcpStream>,
    buffer: BytesMut,
    tag: u32,
    capabilities: Vec<String>,
    /// What a FETCH that is under way waits for.
    fetch: Option<Fetch>,
}

struct Fetch {
    tag: String,
    /// Bytes of the message still to come.
    left: u64,
    /// The answer around the message.
    around: Option<Vec<u8>>,
    /// A message's bytes were in it.
    body: bool,
}

impl Source {
    /// Connects, and reads the greeting.
    ///
    /// # Errors
    /// `Connect`, also for a certificate that is not believed; `Refused` for a server that says BYE.
    pub async fn connect(server: &SourceServer) -> Result<Self, SourceError> {
        let failed = |source| SourceError::Connect { host: server.host.clone(), port: server.port, source };
        let open = async {
            let tcp = TcpStream::connect((server.host.as_str(), server.port)).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from(server.host.clone()).map_err(std::io::Error::other)?;
            TlsConnector::from(Arc::clone(&server.tls)).connect(name, tcp).await
        };
        let stream = timeout(PATIENCE, open).await.map_err(|_| SourceError::Silent)?.map_err(failed)?;
        let mut source = Self { stream, buffer: BytesMut::new(), tag: 0, capabilities: Vec::new(), fetch: None };
        let greeting = source.answer().await?;
        if !greeting.to_ascii_uppercase().starts_with(b"* OK") {
            return Err(refused("the connection", &greeting));
        }
        Ok(source)
    }

    /// Signs in with a password.
    ///
    /// # Errors
    /// `Refused` with the server's words; `NoPassword`.
    pub async fn sign_in(&mut self, login: &SourceLogin) -> Result<(), SourceError> {
        self.learn().await?;
        let has = |what: &str, list: &[String]| list.iter().any(|word| word.eq_ignore_ascii_case(what));
        let password = login.password.reveal();
        let outcome = if has("AUTH=PLAIN", &self.capabilities) {
            let behalf = login.on_behalf_of.as_deref().unwrap_or("");
            let message = Secret::new(STANDARD.encode(format!("{behalf}\0{}\0{password}", login.user)));
            let tag = self.send(b"AUTHENTICATE PLAIN").await?;
            let go = self.answer().await?;
            if !go.starts_with(b"+") {
                return Err(refused("AUTHENTICATE PLAIN", &go));
            }
            self.write(format!("{}\r\n", message.reveal()).as_bytes()).await?;
            self.finish(&tag, "the sign-in", |_| {}).await
        } else if has("LOGINDISABLED", &self.capabilities) || login.on_behalf_of.is_some() {
            return Err(SourceError::NoPassword { offered: self.capabilities.join(" ") });
        } else {
            let mut command = b"LOGIN ".to_vec();
            for (at, text) in [login.user.as_str(), password].into_iter().enumerate() {
                if at > 0 {
                    command.push(b' ');
                }
                quote(&mut command, text.as_bytes(), "the sign-in")?;
            }
            let tag = self.send(&command).await?;
            self.finish(&tag, "the sign-in", |_| {}).await
        };
        outcome.map_err(|error| match error {
            // Some servers repeat what they were told.
            SourceError::Refused { what, said } if !password.is_empty() => {
                SourceError::Refused { what, said: said.replace(password, "...") }
            }
            other => other,
        })
    }

    async fn learn(&mut self) -> Result<(), SourceError> {
        let mut found = Vec::new();
        let tag = self.send(b"CAPABILITY").await?;
        self.finish(&tag, "CAPABILITY", |values| {
            if values.first().and_then(Value::atom).is_some_and(|word| word.eq_ignore_ascii_case("CAPABILITY")) {
                found = values.iter().skip(1).filter_map(|v| v.atom().map(str::to_owned)).collect();
            }
        })
        .await?;
        self.capabilities = found;
        Ok(())
    }

    /// The folders that hold messages, in the order of the server.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn folders(&mut self) -> Result<Vec<RemoteFolder>, SourceError> {
        let mut wanted = Vec::new();
        let tag = self.send(b"LSUB \"\" \"*\"").await?;
        self.finish(&tag, "LSUB", |values| wanted.extend(listed(&values, "LSUB").map(|(wire, ..)| wire))).await?;
        let mut folders: Vec<RemoteFolder> = Vec::new();
        let tag = self.send(b"LIST \"\" \"*\"").await?;
        self.finish(&tag, "LIST", |values| {
            folders.extend(listed(&values, "LIST").filter(|(_, _, holds)| *holds).map(|(wire, name, _)| {
                let subscribed = wanted.contains(&wire);
                RemoteFolder { name, wire, subscribed }
            }));
        })
        .await?;
        Ok(folders)
    }

    /// Opens a folder for reading.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn examine(&mut self, folder: &RemoteFolder) -> Result<Selected, SourceError> {
        let mut command = b"EXAMINE ".to_vec();
        quote(&mut command, &folder.wire, "EXAMINE")?;
        let mut selected = Selected::default();
        let tag = self.send(&command).await?;
        self.finish(&tag, "EXAMINE", |values| {
            if values.get(1).and_then(Value::atom).is_some_and(|word| word.eq_ignore_ascii_case("EXISTS")) {
                selected.exists = values.first().and_then(Value::number).unwrap_or(0);
            }
            // `OK [UIDVALIDITY 3] ...`: what is in brackets is one atom.
            let code = values.get(1).and_then(Value::atom).and_then(|a| a.strip_prefix('[')?.strip_suffix(']'));
            match code.and_then(|code| code.split_once(' ')) {
                Some((word, number)) if word.eq_ignore_ascii_case("UIDVALIDITY") => {
                    selected.uid_validity = number.parse().unwrap_or(0);
                }
                Some((word, number)) if word.eq_ignore_ascii_case("UIDNEXT") => {
                    selected.uid_next = number.parse().unwrap_or(0);
                }
                _ => {}
            }
        })
        .await?;
        Ok(selected)
    }

    /// The UIDs from `first` on, in order.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn uids(&mut self, first: u32) -> Result<Vec<u32>, SourceError> {
        let mut uids = Vec::new();
        let tag = self.send(format!("UID SEARCH UID {first}:*").as_bytes()).await?;
        self.finish(&tag, "SEARCH", |values| {
            if values.first().and_then(Value::atom).is_some_and(|word| word.eq_ignore_ascii_case("SEARCH")) {
                uids.extend(values.iter().skip(1).filter_map(Value::number));
            }
        })
        .await?;
        // `5:*` is the last message too, where that lies below.
        uids.retain(|uid| *uid >= first);
        uids.sort_unstable();
        uids.dedup();
        Ok(uids)
    }

    /// Asks for whole messages; [`Source::piece`] gives them.
    ///
    /// # Errors
    /// What the connection says.
    pub async fn fetch(&mut self, uids: &[u32]) -> Result<(), SourceError> {
        let set = set(uids);
        let tag = self.send(format!("UID FETCH {set} (UID FLAGS INTERNALDATE BODY.PEEK[])").as_bytes()).await?;
        self.fetch = Some(Fetch { tag, left: 0, around: None, body: false });
        Ok(())
    }

    /// The next piece of what was asked for; nothing at the end.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn piece(&mut self) -> Result<Option<Piece>, SourceError> {
        const WHAT: &str = "FETCH";
        let nonsense = || SourceError::Nonsense { what: WHAT };
        loop {
            let Some(mut fetch) = self.fetch.take() else { return Ok(None) };
            if fetch.left > 0 {
                if self.buffer.is_empty() {
                    self.fill().await?;
                }
                let count = self.buffer.len().min(CHUNK).min(usize::try_from(fetch.left).unwrap_or(CHUNK));
                fetch.left -= count as u64;
                let bytes = self.buffer.split_to(count).freeze();
                self.fetch = Some(fetch);
                return Ok(Some(Piece::Bytes(bytes)));
            }
            let line = self.line().await?;
            let mut around = fetch.around.take().unwrap_or_default();
            let tagged = around.is_empty().then(|| line.strip_prefix(fetch.tag.as_bytes())).flatten();
            if let Some(status) = tagged.and_then(|rest| rest.strip_prefix(b" ")) {
                return if is_ok(status) { Ok(None) } else { Err(refused(WHAT, status)) };
            }
            around.extend_from_slice(&line);
            if around.len() > MAX_LINE {
                return Err(nonsense());
            }
            let Some(size) = answer::literal_size(&line) else {
                let found = fetched(&around);
                let (body, tag) = (fetch.body, fetch.tag);
                self.fetch = Some(Fetch { tag, left: 0, around: None, body: false });
                match found {
                    Some(message) if body || message.1 => return Ok(Some(Piece::Message(message.0))),
                    // Flags that changed meanwhile, and other news.
                    _ if !body => continue,
                    _ => return Err(nonsense()),
                }
            };
            let end = around.iter().rposition(|byte| *byte == b'{').ok_or_else(nonsense)?;
            around.truncate(end);
            // The message went elsewhere; something stands for it, so that the answer can be read.
            around.extend_from_slice(b"\"\"");
            self.fetch = Some(Fetch { tag: fetch.tag, left: size, around: Some(around), body: true });
        }
    }

    /// Says goodbye, if the server still listens.
    pub async fn leave(mut self) {
        if let Ok(tag) = self.send(b"LOGOUT").await {
            drop(self.finish(&tag, "LOGOUT", |_| {}).await);
        }
        drop(self.stream.shutdown().await);
    }

    async fn send(&mut self, command: &[u8]) -> Result<String, SourceError> {
        self.tag += 1;
        let tag = format!("p{}", self.tag);
        let line = Secret::new(String::from_utf8_lossy(command));
        self.write(format!("{tag} {}\r\n", line.reveal()).as_bytes()).await?;
        Ok(tag)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(PATIENCE, write).await.map_err(|_| SourceError::Silent)?.map_err(SourceError::Broken)
    }

    /// Reads up to the tagged answer; `each` gets the values of every untagged one.
    async fn finish(
        &mut self,
        tag: &str,
        what: &'static str,
        mut each: impl FnMut(Vec<Value>),
    ) -> Result<(), SourceError> {
        loop {
            let answer = self.answer().await?;
            if let Some(untagged) = answer.strip_prefix(b"* ") {
                if let Some(values) = values_of(untagged) {
                    each(values);
                }
                continue;
            }
            let status = answer.strip_prefix(tag.as_bytes()).and_then(|rest| rest.strip_prefix(b" "));
            return match status {
                Some(status) if is_ok(status) => Ok(()),
                Some(status) => Err(refused(what, status)),
                // A second continuation request, and whatever else.
                None => Err(SourceError::Nonsense { what }),
            };
        }
    }

    /// One answer with its literals, without the last line's end.
    async fn answer(&mut self) -> Result<Vec<u8>, SourceError> {
        let mut whole = Vec::new();
        loop {
            let line = self.line().await?;
            whole.extend_from_slice(&line);
            let Some(size) = answer::literal_size(&line) else { return Ok(whole) };
            whole.extend_from_slice(b"\r\n");
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if whole.len().saturating_add(size) > MAX_ANSWER {
                return Err(SourceError::Nonsense { what: "a command" });
            }
            while self.buffer.len() < size {
                self.fill().await?;
            }
            whole.extend_from_slice(&self.buffer.split_to(size));
        }
    }

    async fn line(&mut self) -> Result<BytesMut, SourceError> {
        let mut seen = 0;
        loop {
            if let Some(end) = memchr::memchr(b'\n', self.buffer.get(seen..).unwrap_or_default()) {
                let mut line = self.buffer.split_to(seen + end + 1);
                let cut = if line.ends_with(b"\r\n") { 2 } else { 1 };
                line.truncate(line.len() - cut);
                return Ok(line);
            }
            seen = self.buffer.len();
            if seen > MAX_ANSWER {
                return Err(SourceError::Nonsense { what: "a command" });
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), SourceError> {
        self.buffer.reserve(CHUNK);
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        match read.map_err(|_| SourceError::Silent)?.map_err(SourceError::Broken)? {
            0 => Err(SourceError::Broken(std::io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }
}

/// The values of an untagged answer. The text of a status is no grammar: only its code counts.
fn values_of(untagged: &[u8]) -> Option<Vec<Value>> {
    let status = [b"OK ".as_slice(), b"NO ", b"BAD ", b"BYE ", b"PREAUTH "];
    let upper = untagged.get(..untagged.len().min(8)).unwrap_or_default().to_ascii_uppercase();
    if !status.iter().any(|word| upper.starts_with(word)) {
        return answer::values(untagged);
    }
    let mut words = untagged.splitn(2, |byte| *byte == b' ');
    let word = Value::Atom(String::from_utf8_lossy(words.next()?).into_owned());
    let rest = words.next().unwrap_or_default();
    let code = rest.iter().position(|byte| *byte == b']').filter(|_| rest.starts_with(b"["));
    let code = code.and_then(|end| rest.get(..=end)).map(|code| String::from_utf8_lossy(code).into_owned());
    Some(std::iter::once(word).chain(code.map(Value::Atom)).collect())
}

fn is_ok(status: &[u8]) -> bool {
    status.get(..2).is_some_and(|word| word.eq_ignore_ascii_case(b"OK"))
}

fn refused(what: &'static str, said: &[u8]) -> SourceError {
    let text = String::from_utf8_lossy(said);
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    SourceError::Refused { what, said: plain.take(200).collect() }
}

/// A quoted string; what cannot be one is refused.
fn quote(out: &mut Vec<u8>, text: &[u8], what: &'static str) -> Result<(), SourceError> {
    if text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(SourceError::Nonsense { what });
    }
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
    Ok(())
}

/// Name on the wire, name here, and whether it holds messages, of a LIST or LSUB answer.
fn listed<'a>(values: &'a [Value], word: &str) -> impl Iterator<Item = (Vec<u8>, String, bool)> + 'a {
    let read = || {
        let [kind, flags, separator, wire] = values.get(..4)?.first_chunk::<4>()?;
        if !kind.atom()?.eq_ignore_ascii_case(word) {
            return None;
        }
        let flag = |name: &str| {
            flags.list().is_some_and(|f| f.iter().any(|f| f.atom().is_some_and(|f| f.eq_ignore_ascii_case(name))))
        };
        let wire = wire.bytes()?.to_vec();
        let text = mutf7::decode(&wire).unwrap_or_else(|_| String::from_utf8_lossy(&wire).into_owned());
        let name = match separator {
            Value::Text(separator) if separator.len() == 1 && separator != b"/" => {
                let separator = char::from(*separator.first()?);
                // A slash inside a level would be a level of its own here.
                text.replace('/', "-").replace(separator, "/")
            }
            _ => text,
        };
        let name = if name.eq_ignore_ascii_case("INBOX") { "INBOX".to_owned() } else { name };
        Some((wire, name, !flag("\\Noselect") && !flag("\\NonExistent")))
    };
    read().into_iter()
}

/// What a FETCH answer says, and whether it says something of a message's bytes without a literal: `BODY[] ""`.
fn fetched(answer: &[u8]) -> Option<(Fetched, bool)> {
    let values = answer::values(answer.strip_prefix(b"* ")?)?;
    if !values.get(1)?.atom()?.eq_ignore_ascii_case("FETCH") {
        return None;
    }
    let (mut found, mut body) = (Fetched::default(), false);
    for pair in values.get(2)?.list()?.chunks_exact(2) {
        let [name, value] = pair.first_chunk::<2>()?;
        match name.atom()?.to_ascii_uppercase().as_str() {
            "UID" => found.uid = value.number()?,
            "FLAGS" => {
                found.flags = value.list()?.iter().filter_map(|flag| flag.atom().map(str::to_owned)).collect();
            }
            "INTERNALDATE" => found.date = value.bytes().and_then(answer::date).map(UnixTime::from_secs),
            "BODY[]" => body = true,
            _ => {}
        }
    }
    (found.uid > 0).then_some((found, body))
}

/// Ascending UIDs as a set: `1:3,7`.
fn set(uids: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for uid in uids {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*uid) => *last = *uid,
            _ => ranges.push((*uid, *uid)),
        }
    }
    let write = |(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}:{last}") }
    };
    ranges.iter().map(write).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_names_ranges() {
        assert_eq!(set(&[1, 2, 3, 7, 9, 10]), "1:3,7,9:10");
        assert_eq!(set(&[u32::MAX]), "4294967295");
    }

    #[test]
    fn folders_are_named_as_here_whatever_separates_their_levels_there() {
        for (answer, name, holds) in [
            ("LIST () \"/\" \"A/B\"", "A/B", true),
            ("LIST (\\Noselect) \".\" A.B", "A/B", false),
            ("LIST () \".\" \"A.b/c\"", "A/b-c", true),
            ("LIST (\\Sent) NIL Entw&APw-rfe", "Entwürfe", true),
            ("LIST () \"/\" inbox", "INBOX", true),
        ] {
            let values = answer::values(answer.as_bytes()).unwrap_or_default();
            let found: Vec<_> = listed(&values, "LIST").map(|(_, name, holds)| (name, holds)).collect();
            assert_eq!(found, [(name.to_owned(), holds)], "{answer}");
        }
    }

    #[test]
    fn what_is_said_of_a_message_is_read_in_any_order() {
        let said = "* 3 FETCH (INTERNALDATE \" 1-Jan-1970 00:00:01 +0000\" BODY[] \"\" FLAGS (\\Seen $x) UID 9 MODSEQ (5))";
        let found = fetched(said.as_bytes());
        let flags = vec!["\\Seen".to_owned(), "$x".to_owned()];
        assert_eq!(found, Some((Fetched { uid: 9, flags, date: Some(UnixTime::from_secs(1)) }, true)));
        for other in
            ["* 3 EXISTS", "* 3 FETCH (FLAGS ())", "* 3 FETCH (UID x)", "* OK [ALERT] (", "3 FETCH (UID 1)"]
        {
            assert_eq!(fetched(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn the_text_of_a_status_is_no_grammar() {
        let code = Value::Atom("[UIDVALIDITY 3]".to_owned());
        let values = values_of(b"OK [UIDVALIDITY 3] it's (fine");
        assert_eq!(values, Some(vec![Value::Atom("OK".to_owned()), code]));
    }
}
