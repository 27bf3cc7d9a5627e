//! A signed-in session whose mailbox is behind an upstream: bytes go to and fro between the peer and that server, each
//! direction at its own pace, and whoever does not take them slows the other down. Nothing is held while nothing moves. The
//! protocol is followed by the cores ([`crate::imap::passing`], [`crate::imap::boundary`], [`crate::pop3::Passing`]), so
//! that the session ends between two responses, and no command gets past the gate. Called by `login` and `pop`.

mod imap;
mod pop;

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

use super::{Ending, House, link::Link, wire::Wire};
use crate::gate::{Denial, Seat};
use crate::model::{MailHome, Secret};
use crate::policy::{Permit, Rights};
use crate::sasl::Bearer;
use crate::upstream::{Abilities, EMBEDDED, Ends, Entered, Entrant, Lease, Stream};

/// What one side may be behind before the other is no longer read, in bytes.
const BEHIND: usize = 64 * 1024;
/// Room for one read from a server, in bytes: four records of TLS.
const WIDE: usize = 64 * 1024;
/// Room for one read from a peer that sends a message, in bytes.
const PIECE: usize = 32 * 1024;
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

    /// Whether there are answers of ours to be written at the next boundary.
    fn owes(&self) -> bool;

    /// Writes them.
    fn answer(&mut self, out: &mut BytesMut);

    /// Whether the end of the connection is what the server has announced, or was asked for.
    fn is_over(&self) -> bool;
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

/// A mailbox that somebody has signed in to.
pub(super) enum Mailbox<T> {
    /// In the embedded store.
    Here(Permit),
    /// Behind an upstream, where somebody is signed in by now.
    Upstream(Box<There<T>>),
}

/// A mailbox behind an upstream.
pub(super) struct There<T> {
    /// Held for as long as the connection: no mail without a verdict.
    _permit: Permit,
    entered: Entered,
    pub(super) talk: T,
}

/// The token, where an upstream might be passed it on.
pub(super) fn token(house: &House, bearer: &Bearer) -> Option<Secret> {
    house.upstreams.names().next().is_some().then(|| bearer.token.clone())
}

/// Finds the mailbox that a permit is for: in the embedded store, or by signing in at the upstream that has it, for as long
/// as the session keeps the right to its seat. `talk` is given what the server there can do.
pub(super) async fn find<T>(
    link: &Link,
    seat: &Seat,
    permit: Permit,
    token: Option<Secret>,
    talk: impl FnOnce(&Abilities, Rights) -> T,
) -> Result<Mailbox<T>, Box<Denial>> {
    let house = &link.house;
    let (name, pin) = match permit.home() {
        MailHome::Maildir => (EMBEDDED, None),
        MailHome::Upstream { name, server } => (name.as_str(), server.as_deref()),
    };
    let (upstream, token) = match (house.upstreams.find(Some(name)), token) {
        (Ok(Some(upstream)), Some(token)) => (upstream, token),
        (Ok(_), _) => return Ok(Mailbox::Here(permit)),
        (Err(error), _) => return Err(Box::new(house.gate.refuse_entry(&link.visitor, &permit, &error))),
    };
    let peer = link.visitor.peer;
    // A socket without an address of its own is one that is gone.
    let ours = link.wire.local_addr().unwrap_or(peer);
    let entrant = Entrant { token: &token, ends: Ends { peer, ours }, session: link.visitor.session };
    let entered = tokio::select! {
        biased;
        // The seat's end is in the audit log with its cause.
        denial = seat.fell_for() => return Err(Box::new(denial)),
        entered = upstream.enter(&permit, &entrant, pin) => entered,
    };
    match entered {
        Ok(entered) => {
            let talk = talk(&entered.abilities, permit.rights());
            Ok(Mailbox::Upstream(Box::new(There { _permit: permit, entered, talk })))
        }
        Err(error) => Err(Box::new(house.gate.refuse_entry(&link.visitor, &permit, &error))),
    }
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
    /// What ended the server's side.
    server_ended: Option<Ending>,
    compresses: bool,
    /// The session is to end at the next boundary.
    leaving: Option<Ending>,
    /// When something moved last.
    moved_at: Instant,
}

/// Relays until one side, or the gate, ends it. `input` is what the peer said behind its sign-in; `idle` is how long nobody
/// may say anything.
pub(super) async fn relay<T: Talk>(link: &mut Link, there: There<T>, input: BytesMut, idle: Duration) -> Ending {
    let There { _permit, entered, talk } = there;
    link.begins_to_relay();
    let mut called = pin!(link.called());
    let no_output = link.house.limits.no_output;
    let Entered { stream, lease, ahead, .. } = entered;
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
        server_ended: None,
        compresses: false,
        leaving: None,
        moved_at: Instant::now(),
    };
    let mut was_stuck = false;
    loop {
        let limit = match (was_stuck, relay.peer_closed) {
            (true, _) => no_output,
            (false, true) => AFTERMATH,
            (false, false) => idle,
        };
        let rest = relay.wire.rests_after().unwrap_or(limit).min(limit);
        let wake = relay.moved_at + rest;
        let event = tokio::select! {
            biased;
            ending = &mut called, if relay.leaving.is_none() => {
                relay.leaving = Some(ending);
                continue;
            }
            event = poll_fn(|context| relay.poll(context, was_stuck)) => event,
            () = sleep_until(wake) => {
                let silence = relay.moved_at.elapsed();
                if silence >= rest {
                    relay.wire.rest();
                }
                if silence < limit {
                    continue;
                }
                let gone = || Ending::Gone(io::ErrorKind::TimedOut.into());
                Event::Over(if was_stuck || relay.peer_closed { gone() } else { Ending::Idle })
            }
        };
        match event {
            Event::Stuck(stuck) => (was_stuck, relay.moved_at) = (stuck, Instant::now()),
            Event::Over(ending) => {
                if matches!(ending, Ending::Gone(_)) {
                    // The peer broke off: so do we, and nothing half sent is taken for whole.
                    let _ = socket2::SockRef::from(relay.server.socket()).set_linger(Some(Duration::ZERO));
                }
                return ending;
            }
        }
    }
}

enum Event {
    /// Whether one side does not take what the other sends is different by now.
    Stuck(bool),
    Over(Ending),
}

/// What one look at a direction came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Moved,
    Waits,
}

impl<T: Talk> Relay<'_, T> {
    fn poll(&mut self, context: &mut Context<'_>, was_stuck: bool) -> Poll<Event> {
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
        let stuck = !self.on.is_empty() || self.wire.is_behind();
        if stuck == was_stuck { Poll::Pending } else { Poll::Ready(Event::Stuck(stuck)) }
    }

    /// From the peer to the server.
    fn up(&mut self, context: &mut Context<'_>) -> Result<Pass, Ending> {
        let sent = self.send_on(context);
        if self.leaving.is_some() || self.compresses || self.server_ended.is_some() {
            return Ok(sent);
        }
        if self.take() == Pass::Moved {
            return Ok(Pass::Moved);
        }
        if self.peer_closed {
            if !self.passed_on && self.on.is_empty() && pin!(self.server.shutdown()).poll(context).is_ready() {
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
                Poll::Ready(Ok(count)) if count > 0 => (pass, self.unflushed) = (Pass::Moved, true),
                Poll::Ready(Ok(_)) => self.server_ended = Some(Ending::Lost(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Err(error)) => self.server_ended = Some(Ending::Lost(error)),
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
        while self.on.len() < BEHIND {
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
                    self.leaving = Some(ending);
                    return Pass::Moved;
                }
            }
            pass = Pass::Moved;
        }
        if self.on.len() > before { Pass::Moved } else { pass }
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
            if self.talk.owes() {
                self.talk.answer(&mut self.wire.out);
            }
            if let Some(ending) = self.leaving.take() {
                return Err(ending);
            }
        }
        if self.wire.is_behind() {
            match self.wire.poll_send(context) {
                Poll::Ready(sent) => {
                    sent?;
                    pass = Pass::Moved;
                }
                Poll::Pending if self.wire.out.len() >= BEHIND => return Ok(pass),
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
                self.server_ended = Some(match (self.talk.is_over(), self.peer_closed) {
                    (true, _) => Ending::Logout,
                    (false, true) => Ending::Gone(io::ErrorKind::UnexpectedEof.into()),
                    (false, false) => Ending::Lost(error),
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
            let Some(taken) = self.talk.follow(rest, &self.input) else { break };
            at += taken;
            if self.leaving.is_some() {
                self.wire.out.truncate(at);
                break;
            }
            if self.talk.owes() {
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
