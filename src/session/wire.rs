//! The bytes of one session: the only place that reads from and writes to a peer. Output collects in one buffer with
//! a bound; a peer that takes nothing holds that buffer and no more, and is given up after a time. After COMPRESS both
//! directions go through deflate here (RFC 4978), and nobody else has to know.

use std::{
    future::poll_fn,
    io::{self, Write as _},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use super::{Ending, Limits, ending::LINGER};
use crate::gate::Seat;
use crate::imap::compress::{Deflater, Inflater};

/// Output is pushed out when this part of what may be held has collected: the rest is room for the response that is
/// being written.
const PUSH_AT: usize = 8;
/// Where several responses are written in one go, so many times as much may collect.
const PLENTY: usize = 4;
/// An idle session's output buffer is not kept when it is larger than this. In bytes.
const IDLE_CAPACITY: usize = 2 * 1024;
/// Room asked for before each read, where the dialogue has made none. In bytes.
const READ_ROOM: usize = 4 * 1024;
/// A compressed session that is silent for so long gives back what it can.
const REST: Duration = Duration::from_millis(500);

/// One peer's TLS stream with its output buffer.
pub(super) struct Wire {
    stream: Box<TlsStream<TcpStream>>,
    /// Complete responses, and pieces of one, that are not yet sent.
    pub(super) out: BytesMut,
    /// Whether the last piece put into `out` ends a response: only then may a last line follow.
    whole: bool,
    /// The last output may not all have left our side of TLS.
    unflushed: bool,
    /// How long the peer may take no output.
    patience: Duration,
    /// Output that is pushed out, in bytes.
    push_at: usize,
    /// Once the peer has asked for compression.
    compressed: Option<Box<Compressed>>,
    received: u64,
    sent: u64,
    /// Once somebody has signed in: counts for those who look at live sessions.
    pub(super) seat: Option<Arc<Seat>>,
}

/// Deflate in both directions.
struct Compressed {
    inflater: Inflater,
    deflater: Deflater,
    /// Compressed output that is not yet sent.
    packed: BytesMut,
}

impl Wire {
    /// Takes over a stream whose handshake is complete.
    pub(super) fn new(stream: Box<TlsStream<TcpStream>>, limits: &Limits) -> Self {
        Self {
            stream,
            out: BytesMut::new(),
            whole: true,
            unflushed: false,
            patience: limits.no_output,
            push_at: (limits.output / PUSH_AT).max(1),
            compressed: None,
            received: 0,
            sent: 0,
            seat: None,
        }
    }

    /// From now on both directions are compressed; `already` came with the command. What is in `out` has to be sent
    /// before.
    pub(super) fn compress(&mut self, already: &[u8]) {
        let (inflater, deflater) = (Inflater::new(already), Deflater::default());
        self.compressed = Some(Box::new(Compressed { inflater, deflater, packed: BytesMut::new() }));
    }

    /// Whether both directions are compressed.
    pub(super) fn is_compressed(&self) -> bool {
        self.compressed.is_some()
    }

    /// Reads what is there into `buffer`; 0 when the peer has closed. Cancel-safe: bytes are in `buffer` or unread.
    pub(super) async fn read(&mut self, buffer: &mut BytesMut) -> Result<usize, Ending> {
        if self.compressed.is_some() {
            // What waits in its compressed form comes without a look at the socket.
            tokio::task::consume_budget().await;
        }
        poll_fn(|context| self.poll_read(context, buffer)).await
    }

    /// [`Wire::read`], for whoever waits for more than one thing.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<Result<usize, Ending>> {
        if buffer.capacity() - buffer.len() < 64 {
            buffer.reserve(READ_ROOM);
        }
        loop {
            let into = match &mut self.compressed {
                None => &mut *buffer,
                Some(compressed) => {
                    let room = buffer.capacity() - buffer.len();
                    match compressed.inflater.inflate(buffer, room) {
                        Ok(0) => {}
                        Ok(count) => return Poll::Ready(Ok(count)),
                        Err(_) => return Poll::Ready(Err(Ending::Garbled)),
                    }
                    let input = compressed.inflater.input();
                    input.reserve(READ_ROOM);
                    input
                }
            };
            let count = ready!(pin!(self.stream.read_buf(into)).poll(context))?;
            self.received += count as u64;
            if let Some(seat) = &self.seat {
                seat.count_received(count);
            }
            if count == 0 || self.compressed.is_none() {
                return Poll::Ready(Ok(count));
            }
        }
    }

    /// Whether the socket has something to read, so that room for it is worth having; wakes `context` when it has.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.get_ref().0.poll_read_ready(context)
    }

    /// Sends everything collected, as far as the peer takes it now. What was sent has left `out`.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.waiting().has_remaining() {
                if !self.out.has_remaining() {
                    break;
                }
                // One buffer at a time: a peer that takes nothing holds what was read for it, and not more.
                self.pack(true)?;
            }
            let waiting = match &mut self.compressed {
                Some(compressed) => &mut compressed.packed,
                None => &mut self.out,
            };
            let count = ready!(pin!(self.stream.write_buf(waiting)).poll(context))?;
            self.count_sent(count)?;
        }
        self.give_back();
        self.unflushed = true;
        ready!(pin!(self.stream.flush()).poll(context))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Whether there is something that [`Wire::poll_send`] has not sent yet.
    pub(super) fn is_behind(&self) -> bool {
        self.unflushed || self.out.has_remaining() || self.waiting().has_remaining()
    }

    /// Bytes that the peer has not taken yet.
    pub(super) fn backlog(&self) -> usize {
        self.out.len() + self.compressed.as_ref().map_or(0, |compressed| compressed.packed.len())
    }

    /// Gives back the room for output that was not used.
    pub(super) fn spare_room(&mut self) {
        self.give_back();
    }

    /// What is still to be sent.
    fn waiting(&self) -> &BytesMut {
        self.compressed.as_ref().map_or(&self.out, |compressed| &compressed.packed)
    }

    fn count_sent(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.sent += count as u64;
        if let Some(seat) = &self.seat {
            seat.count_sent(count);
        }
        Ok(())
    }

    /// Buffers that are empty and larger than an idle session should hold.
    fn give_back(&mut self) {
        for buffer in [Some(&mut self.out), self.compressed.as_mut().map(|it| &mut it.packed)].into_iter().flatten()
        {
            if buffer.is_empty() && buffer.capacity() > IDLE_CAPACITY {
                *buffer = BytesMut::new();
            }
        }
    }

    /// Sends everything collected. Cancel-safe: what was sent has left `out`.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.send(true).await?;
        self.give_back();
        Ok(())
    }

    /// Sends when enough has collected; handlers call this between responses and chunks. Cancel-safe.
    pub(super) async fn push(&mut self) -> io::Result<()> {
        if self.out.len() < self.push_at { Ok(()) } else { self.send(false).await }
    }

    /// How much may collect in `out` at most before it is pushed out, but for one response more. In bytes.
    pub(super) fn plenty(&self) -> usize {
        self.push_at * PLENTY
    }

    async fn send(&mut self, all: bool) -> io::Result<()> {
        self.pack(all)?;
        loop {
            let waiting = match &mut self.compressed {
                Some(compressed) => &mut compressed.packed,
                None => &mut self.out,
            };
            if !waiting.has_remaining() {
                break;
            }
            let count = within(self.patience, self.stream.write_buf(waiting)).await?;
            self.count_sent(count)?;
        }
        within(self.patience, self.stream.flush()).await
    }

    /// Compresses what has collected; with `all` so that the peer can read all of it.
    fn pack(&mut self, all: bool) -> io::Result<()> {
        let Some(compressed) = &mut self.compressed else { return Ok(()) };
        let Compressed { deflater, packed, .. } = &mut **compressed;
        deflater.deflate(&self.out, all, packed).map_err(io::Error::other)?;
        self.out.clear();
        Ok(())
    }

    /// After how much silence [`Wire::rest`] is worth a call; none if it would do nothing.
    pub(super) fn rests_after(&self) -> Option<Duration> {
        let compressed = self.compressed.as_ref()?;
        (compressed.inflater.holds() || compressed.deflater.holds()).then_some(REST)
    }

    /// Gives back what a silent session does not need.
    pub(super) fn rest(&mut self) {
        if let Some(compressed) = &mut self.compressed {
            compressed.inflater.rest();
            compressed.deflater.rest();
        }
    }

    /// Marks that a response begins which is streamed: until its end stands in `out` no other may.
    pub(super) fn begin_long(&mut self) {
        self.whole = false;
    }

    /// Marks that the response begun with [`Wire::begin_long`] is complete in `out`.
    pub(super) fn end_long(&mut self) {
        self.whole = true;
    }

    /// Whether a new response may be put into `out`.
    pub(super) fn at_boundary(&self) -> bool {
        self.whole
    }

    /// The address of ours that the peer is connected to.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().0.local_addr()
    }

    /// Bytes received and sent so far, TLS and the greeting not counted.
    pub(super) fn traffic(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// Counts what is left to be sent as sent, once the session is over: [`Wire::close`] sends it.
    pub(super) fn count_rest(&mut self) {
        let rest = self.backlog();
        self.sent += rest as u64;
        if let Some(seat) = self.seat.take() {
            seat.count_sent(rest);
        }
    }

    /// Sends what is left and says goodbye to TLS and TCP, within `limit`; zero drops everything at once. For
    /// `linger` at most, and where something is unread for a moment at least, what the peer still sends is thrown away.
    pub(super) async fn close(&mut self, limit: Duration, linger: Duration) {
        if limit.is_zero() {
            return;
        }
        let goodbye = async {
            self.pack(true)?;
            if let Some(compressed) = &mut self.compressed {
                // All that is left is compressed by now.
                self.out = std::mem::take(&mut compressed.packed);
            }
            self.compressed = None;
            // The last words, the end of TLS and that of TCP leave in one packet where they fit.
            let _ = socket2::SockRef::from(self.stream.get_ref().0).set_tcp_cork(true);
            let taken = self.stream.get_mut().1.writer().write(&self.out)?;
            self.out.advance(taken);
            if self.out.has_remaining() {
                self.send(true).await?;
            }
            self.stream.shutdown().await
        };
        let said = timeout(limit, goodbye).await;
        self.out = BytesMut::new();
        if !matches!(said, Ok(Ok(()))) {
            return;
        }
        // A socket closed on bytes that nobody read resets the connection, and a reset may reach the peer's program
        // before it has read our last line: so what it still sends (half a message, more commands) is thrown away.
        let (tcp, _) = self.stream.get_mut();
        if !linger.is_zero() || tcp.try_read(&mut [0; 64]).is_ok_and(|count| count > 0) {
            let mut scrap = vec![0; READ_ROOM];
            let _ = timeout(linger.max(LINGER), async {
                while within(LINGER, tcp.read(&mut scrap)).await? > 0 {}
                io::Result::Ok(())
            })
            .await;
        }
    }
}

/// The time limit starts anew with each piece that the peer takes.
async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
