//! The bytes of one session: the only place that reads from and writes to a peer. Output collects in one buffer with
//! a bound; a peer that takes nothing holds that buffer and no more, and is given up after a time.

use std::{io, time::Duration};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::server::TlsStream;

/// Output collects up to this many bytes before it is pushed out. In bytes.
const PUSH_AT: usize = 32 * 1024;
/// Capacity an idle session keeps for output. In bytes.
const IDLE_CAPACITY: usize = 512;
/// Room asked for before each read. In bytes.
const READ_ROOM: usize = 4 * 1024;

/// One peer's TLS stream with its output buffer.
pub struct Wire {
    stream: Box<TlsStream<TcpStream>>,
    /// Complete responses, and pieces of one, that are not yet sent.
    pub out: BytesMut,
    /// Whether the last piece put into `out` ends a response: only then may a `BYE` follow.
    whole: bool,
    /// How long the peer may take no output.
    patience: Duration,
    received: u64,
    sent: u64,
}

impl Wire {
    /// Takes over a stream whose handshake is complete.
    pub fn new(stream: TlsStream<TcpStream>, patience: Duration) -> Self {
        Self { stream: Box::new(stream), out: BytesMut::new(), whole: true, patience, received: 0, sent: 0 }
    }

    /// Reads what is there into `buffer`; 0 when the peer has closed. Cancel-safe: bytes are in `buffer` or unread.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        if buffer.capacity() - buffer.len() < 64 {
            buffer.reserve(READ_ROOM);
        }
        let count = self.stream.read_buf(buffer).await?;
        self.received += count as u64;
        Ok(count)
    }

    /// Sends everything collected. Cancel-safe: what was sent has left `out`.
    pub async fn flush(&mut self) -> io::Result<()> {
        timeout(self.patience, self.send()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if self.out.capacity() > IDLE_CAPACITY * 4 {
            self.out = BytesMut::new();
        }
        Ok(())
    }

    /// Sends when enough has collected; handlers call this between responses and chunks.
    pub async fn push(&mut self) -> io::Result<()> {
        if self.out.len() < PUSH_AT {
            return Ok(());
        }
        timeout(self.patience, self.send()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn send(&mut self) -> io::Result<()> {
        while self.out.has_remaining() {
            let count = self.stream.write_buf(&mut self.out).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.sent += count as u64;
        }
        self.stream.flush().await
    }

    /// Marks that a response has begun whose end is not yet in `out`: a long answer that is streamed.
    pub fn begin_long(&mut self) {
        self.whole = false;
    }

    /// Marks that the response begun with [`Wire::begin_long`] is complete in `out`.
    pub fn end_long(&mut self) {
        self.whole = true;
    }

    /// Whether a new response may be put into `out`.
    pub fn at_boundary(&self) -> bool {
        self.whole
    }

    /// Bytes received and sent so far, TLS not counted.
    pub fn traffic(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// Sends what is left and says goodbye to TLS and TCP, within `limit`.
    pub async fn close(mut self, limit: Duration) {
        let _ = timeout(limit, async {
            self.send().await?;
            self.stream.shutdown().await
        })
        .await;
    }
}
