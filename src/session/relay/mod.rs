//! A signed-in session whose mailbox is behind an upstream: bytes go to and fro between the peer and that server, each
//! direction at its own pace, and whoever does not take them slows the other down. Nothing is held while nothing moves. The
//! protocol is followed by the cores ([`crate::imap::passing`], [`crate::imap::boundary`], [`crate::pop3::Passing`]), so
//! that the session ends between two responses, and no command gets past the gate. Called by `login` and `pop`.

mod find;
mod imap;
mod pop;

pub(super) use find::{Mailbox, There, find, token};
pub(super) use imap::Imap;
pub(super) use pop::Pop;

use std::{
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep_until},
};

use super::{Ending, link::Link, wire::Wire};
use crate::gate::Seat;
use crate::upstream::{Entered, Lease, Stream};

/// What one side may be behind before the other is no longer read, in bytes.
const BEHIND: usize = 64 * 1024;
/// Room for one read from a server, in bytes: four records of TLS.
const WIDE: usize = 64 * 1024;
/// Room for one read from a peer that sends a message, in bytes.
const PIECE: usize = 32 * 1024;
/// Answers of ours that may wait for the end of a response before the peer is no longer heard, in bytes.
const MOST_OWED: usize = 8 * 1024;
/// How long the server may take to end its response once the session has to end.
const LAST_RESPONSE: Duration = Duration::from_secs(5);
/// How long a server may go on after the peer has closed.
const AFTERMATH: Duration = Duration::from_secs(30);

/// One protocol, as the relay has to follow it.
pub(super) trait Talk: Send {
    /// Moves what may go on from the peer's `input` to the end of `on`.
    fn take(&mut self, input: &mut BytesMut, on: &mut BytesMut) -> Taken;

    /// Whether a large read from the peer is worth its room.
    fn takes_much(&self) -> bool;

    /// Follows the server's bytes up to the end of a response: how many that are; none if all of them were followed and the
    /// response is not whole. `input` is what the peer has said behind it.
    fn follow(&mut self, bytes: &[u8], input: &BytesMut) -> Option<usize>;

    /// Whether everything the server said so far is whole responses.
    fn at_boundary(&self) -> bool;

    /// Whether the response that begins like this answers us, and the peer is not to see it.
    fn swallows(&self, response: &[u8]) -> bool;

    /// Whether the server owes an answer.
    fn is_owed(&self) -> bool;

    /// How much there is of answers of ours that are to be written at the next boundary: bytes, or at least whether there are.
    fn owes(&self) -> usize;

    /// Writes them.
    fn answer(&mut self, out: &mut BytesMut);

    /// Why the session ends if the server closes now, where it was asked for that or has announced it.
    fn end(&self) -> Option<Ending>;
}

/// What became of the peer's bytes.
pub(super) enum Taken {
    /// Nothing more can be made of them yet.
    Read,
    /// The server has to answer first.
    Wait,
    /// A command, for those who look at live sessions.
    Began(&'static str),
    /// The program says what it is.
    Program(Option<String>),
    /// Something was answered here.
    Answered,
    /// From the next boundary on both directions are compressed.
    Compress,
    /// The session has to end; what there is to be said before is among the answers.
    Leave(Ending),
}

/// Both sides of one session.
struct Relay<'a, T> {
    wire: &'a mut Wire,
    seat: Option<&'a Seat>,
    program: &'a mut Option<String>,
    talk: T,
    server: Stream,
    _lease: Lease,
    /// From the peer, not yet looked at.
    input: BytesMut,
    /// For the server, not yet sent.
    on: BytesMut,
    /// What was sent to the server may not all have left our side of TLS.
    unflushed: bool,
    /// From the server, to be looked at once compression is switched on.
    held: BytesMut,
    /// The last read found something: there may be more without a word from the socket.
    peer_flows: bool,
    server_flows: bool,
    /// Nothing is taken from the peer until the server has answered.
    waits: bool,
    peer_closed: bool,
    /// The server was told that the peer has closed its side.
    passed_on: bool,
    /// The server takes nothing any more; what it has said is still to be read.
    deaf: bool,
    /// What ended the server's side.
    server_ended: Option<Ending>,
    compresses: bool,
    /// The response under way is not for the peer.
    swallowing: bool,
    /// The session is to end at the next boundary.
    leaving: Option<Ending>,
    /// When something moved last.
    moved_at: Instant,
    /// Since when the peer takes nothing of what there is for it; the server likewise.
    peer_stuck: Option<Instant>,
    server_stuck: Option<Instant>,
    /// Since when the session is to end.
    leaving_since: Option<Instant>,
}

/// Relays until one side, or the gate, ends it. `input` is what the peer said behind its sign-in; `idle` is how long nobody
/// may say anything. No `async fn`: the future would keep the room of its arguments for as long as it lives.
#[expect(clippy::boxed_local, reason = "the box is given back here; by value its owner would keep it")]
pub(super) fn relay<T: Talk>(
    link: &mut Link,
    there: Box<There<T>>,
    input: BytesMut,
    idle: Duration,
) -> impl Future<Output = Ending> + Send {
    // What a session holds while it waits counts: the talk knows what the server can do.
    let There { entered: Entered { stream, lease, ahead, .. }, talk } = *there;
    link.begins_to_relay();
    let mut called = Box::pin(link.called());
    let no_output = link.house.limits.no_output;
    let Link { wire, seat, visitor, .. } = link;
    if let Some(seat) = seat {
        seat.note_server(&format!("{} of upstream {}", lease.server().address(), lease.server().upstream()));
    }
    let mut relay = Relay {
        wire,
        seat: seat.as_deref(),
        program: &mut visitor.program,
        talk,
        server: stream,
        _lease: lease,
        input,
        on: BytesMut::new(),
        unflushed: false,
        held: ahead,
        peer_flows: true,
        server_flows: true,
        waits: false,
        peer_closed: false,
        passed_on: false,
        deaf: false,
        server_ended: None,
        compresses: false,
        swallowing: false,
        leaving: None,
        moved_at: Instant::now(),
        peer_stuck: None,
        server_stuck: None,
        leaving_since: None,
    };
    async move {
        loop {
            let (deadline, _) = relay.deadline(idle, no_output);
            let wake = relay.wire.rests_after().map_or(deadline, |rest| deadline.min(relay.moved_at + rest));
            let event = tokio::select! {
                biased;
                ending = &mut called, if relay.leaving.is_none() => {
                    relay.leave(ending);
                    continue;
                }
                event = poll_fn(|context| relay.poll(context)) => event,
                () = sleep_until(wake) => {
                    if wake < deadline {
                        relay.wire.rest();
                        continue;
                    }
                    // Something may have moved since.
                    match relay.deadline(idle, no_output) {
                        (later, _) if later > deadline => continue,
                        // Who has to leave leaves for that reason, also in the middle of a response.
                        (_, ending) => Event::Over(relay.leaving.take().unwrap_or(ending)),
                    }
                }
            };
            let Event::Over(ending) = event else { continue };
            if matches!(ending, Ending::Gone(_)) || relay.deaf || !relay.on.is_empty() {
                // The peer broke off, or the server does not listen: so do we, and nothing half sent is taken for whole.
                let _ = socket2::SockRef::from(relay.server.socket()).set_linger(Some(Duration::ZERO));
            }
            return ending;
        }
    }
}

enum Event {
    /// Who keeps whom waiting is different by now.
    Stuck,
    Over(Ending),
}

/// What one look at a direction came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Moved,
    Waits,
}

impl<T: Talk> Relay<'_, T> {
    /// When the session is over if nothing moves, and why it is then.
    fn deadline(&self, idle: Duration, no_output: Duration) -> (Instant, Ending) {
        let late = || io::ErrorKind::TimedOut.into();
        let silence = match (self.peer_closed, self.talk.is_owed()) {
            (true, _) => (self.moved_at + AFTERMATH, Ending::Gone(late())),
            (false, true) => (self.moved_at + idle, Ending::Lost(late())),
            (false, false) => (self.moved_at + idle, Ending::Idle),
        };
        let peer = self.peer_stuck.map(|since| (since + no_output, Ending::Gone(late())));
        let server = self.server_stuck.map(|since| (since + no_output, Ending::Lost(late())));
        let leaving = self.leaving_since.map(|since| (since + LAST_RESPONSE, Ending::Lost(late())));
        let all = [peer, server, leaving].into_iter().flatten();
        all.fold(silence, |first, other| if other.0 < first.0 { other } else { first })
    }

    /// The session is to end.
    fn leave(&mut self, ending: Ending) {
        self.leaving = Some(ending);
        self.leaving_since = Some(Instant::now());
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        loop {
            let passes = self.up(context).and_then(|up| Ok((up, self.down(context)?)));
            match passes {
                Err(ending) => return Poll::Ready(Event::Over(ending)),
                Ok((Pass::Waits, Pass::Waits)) => break,
                Ok(_) => self.moved_at = Instant::now(),
            }
        }
        for buffer in [&mut self.input, &mut self.on] {
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
        }
        let stuck = (self.wire.is_behind(), !self.on.is_empty());
        if stuck == (self.peer_stuck.is_some(), self.server_stuck.is_some()) {
            return Poll::Pending;
        }
        let since = |stuck: bool, known: Option<Instant>| stuck.then(|| known.unwrap_or_else(Instant::now));
        self.peer_stuck = since(stuck.0, self.peer_stuck);
        self.server_stuck = since(stuck.1, self.server_stuck);
        Poll::Ready(Event::Stuck)
    }

    /// From the peer to the server.
    fn up(&mut self, context: &mut Context<'_>) -> Result<Pass, Ending> {
        let sent = self.send_on(context);
        if self.leaving.is_some() || self.compresses || self.deaf || self.server_ended.is_some() || self.is_full() {
            return Ok(sent);
        }
        if self.take() == Pass::Moved {
            return Ok(Pass::Moved);
        }
        if self.peer_closed {
            if !self.passed_on
                && !self.waits
                && self.on.is_empty()
                && pin!(self.server.shutdown()).poll(context).is_ready()
            {
                self.passed_on = true;
            }
            return Ok(sent);
        }
        if self.waits || self.on.len() >= BEHIND {
            return Ok(sent);
        }
        let read = self.poll_peer(context);
        self.peer_flows = read.is_ready();
        match read {
            Poll::Pending => Ok(sent),
            Poll::Ready(Ok(0)) => {
                self.peer_closed = true;
                Ok(Pass::Moved)
            }
            Poll::Ready(Ok(_)) => Ok(Pass::Moved),
            // Without a goodbye of TLS: the connection is half closed all the same, and mail programs do that.
            Poll::Ready(Err(Ending::Gone(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.peer_closed = true;
                Ok(Pass::Moved)
            }
            Poll::Ready(Err(ending)) => Err(ending),
        }
    }

    /// Sends the server what there is for it.
    fn send_on(&mut self, context: &mut Context<'_>) -> Pass {
        let mut pass = Pass::Waits;
        while !self.on.is_empty() && self.server_ended.is_none() {
            match pin!(self.server.write_buf(&mut self.on)).poll(context) {
                Poll::Pending => return pass,
                Poll::Ready(Ok(count)) if count > 0 => {
                    (pass, self.unflushed, self.server_stuck) = (Pass::Moved, true, None);
                }
                Poll::Ready(_) => {
                    self.deaf = true;
                    self.on.clear();
                }
            }
        }
        if self.unflushed && pin!(self.server.flush()).poll(context).is_ready() {
            // An error shows when the server is read from.
            self.unflushed = false;
        }
        pass
    }

    /// Has the peer's input looked at.
    fn take(&mut self) -> Pass {
        let before = self.on.len();
        let mut pass = Pass::Waits;
        while self.on.len() < BEHIND && !self.is_full() {
            self.waits = false;
            match self.talk.take(&mut self.input, &mut self.on) {
                Taken::Read => break,
                Taken::Wait => {
                    self.waits = true;
                    break;
                }
                Taken::Began(word) => self.note(|seat| seat.note_command(word)),
                Taken::Program(program) => {
                    self.note(|seat| seat.note_program(program.as_deref()));
                    *self.program = program;
                }
                Taken::Answered => {}
                Taken::Compress => {
                    self.compresses = true;
                    return Pass::Moved;
                }
                Taken::Leave(ending) => {
                    self.leave(ending);
                    return Pass::Moved;
                }
            }
            pass = Pass::Moved;
        }
        if self.on.len() > before { Pass::Moved } else { pass }
    }

    /// Whether the peer does not take what it has asked for: then it is asked for no more.
    fn is_full(&self) -> bool {
        self.wire.backlog() >= BEHIND || self.talk.owes() >= MOST_OWED
    }

    fn note(&self, note: impl FnOnce(&Seat)) {
        if let Some(seat) = self.seat {
            note(seat);
        }
    }

    /// Reads from the peer, once there is something.
    fn poll_peer(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, Ending>> {
        if !self.peer_flows {
            ready!(self.wire.poll_readable(context))?;
        }
        if self.talk.takes_much() {
            self.input.reserve(PIECE);
        }
        self.wire.poll_read(context, &mut self.input)
    }

    /// From the server to the peer.
    fn down(&mut self, context: &mut Context<'_>) -> Result<Pass, Ending> {
        let mut pass = Pass::Waits;
        if self.talk.at_boundary() {
            if self.talk.owes() > 0 {
                self.talk.answer(&mut self.wire.out);
            }
            if let Some(ending) = self.leaving.take() {
                return Err(ending);
            }
        }
        if self.wire.is_behind() {
            let before = self.wire.backlog();
            let sent = self.wire.poll_send(context);
            if self.wire.backlog() < before || sent.is_ready() {
                (pass, self.peer_stuck) = (Pass::Moved, None);
            }
            match sent {
                Poll::Ready(sent) => sent?,
                Poll::Pending if self.wire.backlog() >= BEHIND => return Ok(pass),
                Poll::Pending => {}
            }
        }
        if self.compresses && self.talk.at_boundary() {
            if self.wire.is_behind() {
                return Ok(pass);
            }
            self.wire.compress(&self.input.split());
            self.compresses = false;
            return Ok(Pass::Moved);
        }
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            let from = self.wire.out.len();
            self.wire.out.extend_from_slice(&held);
            self.follow(from);
            return Ok(Pass::Moved);
        }
        if self.server_ended.is_some() {
            // What it said before has to reach the peer first.
            if self.wire.is_behind() {
                return Ok(pass);
            }
            return self.server_ended.take().map_or(Ok(pass), Err);
        }
        let from = self.wire.out.len();
        let read = self.poll_server(context);
        self.server_flows = read.is_ready();
        match read {
            Poll::Pending => {
                self.wire.spare_room();
                Ok(pass)
            }
            Poll::Ready(Ok(count)) if count > 0 => {
                self.follow(from);
                Ok(Pass::Moved)
            }
            Poll::Ready(read) => {
                let error = read.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                self.server_ended = Some(match (self.talk.end(), self.peer_closed) {
                    (Some(ending), _) => ending,
                    (None, true) => Ending::Gone(io::ErrorKind::UnexpectedEof.into()),
                    (None, false) => Ending::Lost(error),
                });
                Ok(Pass::Moved)
            }
        }
    }

    /// Reads from the server straight into what goes to the peer, once there is something.
    fn poll_server(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.server_flows {
            ready!(self.server.socket().poll_read_ready(context))?;
        }
        self.wire.out.reserve(WIDE);
        pin!(self.server.read_buf(&mut self.wire.out)).poll(context)
    }

    /// Follows what the server said, which stands in the output from there on, and puts answers of ours between its
    /// responses.
    fn follow(&mut self, from: usize) {
        let mut at = from;
        while let Some(rest) = self.wire.out.get(at..).filter(|rest| !rest.is_empty()) {
            if self.talk.at_boundary() {
                self.swallowing = self.talk.swallows(rest);
            }
            let taken = self.talk.follow(rest, &self.input);
            if self.swallowing {
                let behind = self.wire.out.split_off(taken.map_or(self.wire.out.len(), |taken| at + taken));
                self.wire.out.truncate(at);
                self.wire.out.unsplit(behind);
                if taken.is_some() {
                    self.swallowing = false;
                    continue;
                }
                break;
            }
            let Some(taken) = taken else { break };
            at += taken;
            if self.leaving.is_some() {
                self.wire.out.truncate(at);
                break;
            }
            if self.talk.owes() > 0 {
                let behind = self.wire.out.split_off(at);
                self.talk.answer(&mut self.wire.out);
                at = self.wire.out.len();
                self.wire.out.unsplit(behind);
            }
            if self.compresses {
                self.held = self.wire.out.split_off(at);
                break;
            }
        }
        if self.talk.at_boundary() {
            self.wire.end_long();
        } else {
            self.wire.begin_long();
        }
    }
}
