//! A mail program with as little to it as possible: IMAPS, XOAUTH2, line by line.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis::model::Secret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// One connection.
pub struct Program {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
    used: usize,
}

impl Program {
    /// TCP and the TLS handshake.
    pub async fn connect(at: SocketAddr, tls: &TlsConnector) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(at).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let stream = tls.connect("localhost".try_into()?, stream).await.context("TLS handshake")?;
        Ok(Self { stream, buffer: Vec::new(), used: 0 })
    }

    /// The next line, without its end; none when the server has closed.
    pub async fn line(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            let rest = self.buffer.get(self.used..).unwrap_or_default();
            if let Some(end) = memchr::memchr(b'\n', rest) {
                let line = rest.get(..end).unwrap_or_default();
                let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                self.used += end + 1;
                return Ok(Some(line));
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Sends one line.
    pub async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    /// Sends a command under this tag and waits for its `OK`.
    pub async fn command(&mut self, tag: &str, words: &str) -> anyhow::Result<()> {
        self.say(&format!("{tag} {words}")).await?;
        self.until(tag).await
    }

    /// Waits for the tagged `OK`.
    pub async fn until(&mut self, tag: &str) -> anyhow::Result<()> {
        while let Some(line) = self.line().await? {
            if let Some(answer) = line.strip_prefix(tag) {
                ensure!(answer.starts_with(" OK"), "answered: {line}");
                return Ok(());
            }
        }
        bail!("the server closed before it answered {tag}")
    }

    /// Waits for the greeting and signs in with one line (RFC 4959).
    pub async fn sign_in(&mut self, user: &str, token: &Secret) -> anyhow::Result<()> {
        let greeting = self.line().await?.context("closed without a greeting")?;
        ensure!(greeting.starts_with("* OK"), "greeted with {greeting}");
        let message = STANDARD.encode(format!("user={user}\x01auth=Bearer {}\x01\x01", token.reveal()));
        self.command("a", &format!("AUTHENTICATE XOAUTH2 {message}")).await
    }

    /// Reads to the end of the connection; the last line.
    pub async fn rest(&mut self) -> anyhow::Result<Option<String>> {
        let mut last = None;
        while let Some(line) = self.line().await? {
            last = Some(line);
        }
        Ok(last)
    }

    /// LOGOUT, and whatever follows to the end.
    pub async fn leave(mut self) -> anyhow::Result<()> {
        self.say("z LOGOUT").await?;
        let last = self.rest().await?.unwrap_or_default();
        ensure!(last.starts_with("z OK"), "LOGOUT answered: {last}");
        Ok(())
    }
}
