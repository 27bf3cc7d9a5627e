//! The POP3 dialogue (RFC 1939): greeting, sign-in, maildrop, update, goodbye. What is said stands in the `pop3` core;
//! here it meets the socket, the gate and the mailbox. Called by `run`.

use std::{io, sync::Arc};

use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    Ending, FAREWELL_SEND, House, called_away,
    caught::{Caught, Panicked},
    overdue,
    wire::Wire,
};
use crate::gate::{Admission, Denial, Seat, Spot, Visitor};
use crate::maildir::{MailError, Maildir, View};
use crate::model::{Blame, Secret};
use crate::pop3::{self, Body, Fill, GREETING, Maildrop, Next, Step, reply};
use crate::sasl::{self, Mechanism};

/// What `AUTH` and `CAPA` name.
const MECHANISMS: &[&str] = &["XOAUTH2", "OAUTHBEARER"];
/// A listing is written in pieces of about this many bytes.
const LISTING_ROOM: usize = 16 * 1024;
/// Messages that QUIT removes at a time.
const UPDATE_BATCH: usize = 500;

struct Dialog {
    wire: Wire,
    talk: pop3::Dialog,
    visitor: Visitor,
    house: Arc<House>,
    seat: Option<Arc<Seat>>,
    drain: CancellationToken,
}

/// A signed-in peer's mailbox, held for it alone.
struct Held {
    view: View,
    maildrop: Maildrop,
}

/// One POP3 session from its greeting on.
pub(super) async fn run(
    wire: Wire,
    visitor: Visitor,
    spot: Spot,
    house: Arc<House>,
    drain: CancellationToken,
    deadline: Instant,
) {
    let talk = pop3::Dialog::new(MECHANISMS, house.limits.pop);
    let mut dialog = Dialog { wire, talk, visitor, house, seat: None, drain };
    dialog.wire.out.extend_from_slice(GREETING.as_bytes());
    let arrival = tokio::select! {
        biased;
        () = spot.evicted() => Err(Ending::Evicted),
        arrival = Caught::new(timeout_at(deadline, dialog.come_in())) => match arrival {
            Ok(Ok(arrival)) => arrival,
            Ok(Err(_)) => Err(Ending::Evicted),
            Err(Panicked) => Err(Ending::Panicked),
        },
    };
    let ending = match arrival {
        Err(ending) => ending,
        Ok((Admission { permit: _permit, seat }, held)) => {
            spot.signed_in();
            let ending = dialog.stay(held).await;
            let (received, sent) = dialog.wire.traffic();
            seat.left(ending.word(), received, sent);
            ending
        }
    };
    dialog.farewell(&ending);
    dialog.wire.close(FAREWELL_SEND).await;
}

impl Dialog {
    /// The AUTHORIZATION state.
    async fn come_in(&mut self) -> Result<(Admission, Held), Ending> {
        loop {
            match self.talk.next(&mut self.wire.out) {
                Step::Read => self.hear().await?,
                Step::Replied => self.wire.push().await?,
                Step::SignIn { mechanism, response } => {
                    if let Some(come) = self.sign_in(mechanism, &response).await? {
                        return Ok(come);
                    }
                }
                Step::Password { verb, user } => {
                    let denial = self.house.gate.refuse_password(&self.visitor, verb, user.as_deref());
                    self.deny(&denial, user.as_deref(), None).await;
                }
                Step::Unoffered(name) if sasl::is_password_mechanism(&name) => {
                    let denial = self.house.gate.refuse_password(&self.visitor, &format!("AUTH {name}"), None);
                    self.deny(&denial, None, None).await;
                }
                Step::Unoffered(_) => {
                    let text = "[AUTH] mechanism not offered; use XOAUTH2 or OAUTHBEARER";
                    self.talk.refuse(None, text, &mut self.wire.out);
                }
                Step::Command(_) => {
                    self.talk.leave("[SYS/TEMP] sign in first", &mut self.wire.out);
                }
                Step::Leave => return Err(Ending::Logout),
            }
        }
    }

    async fn sign_in(&mut self, mechanism: &str, response: &Secret) -> Result<Option<(Admission, Held)>, Ending> {
        let Some(mechanism) = Mechanism::from_name(mechanism) else { return Ok(None) };
        let bearer = match sasl::parse(mechanism, response.reveal().as_bytes()) {
            Ok(bearer) => bearer,
            Err(error) => {
                let denial = self.house.gate.refuse_message(&self.visitor, error);
                self.deny(&denial, None, None).await;
                return Ok(None);
            }
        };
        let claimed = bearer.user.clone();
        let house = Arc::clone(&self.house);
        let admission = match Box::pin(house.gate.admit(&self.visitor, bearer)).await {
            Ok(admission) => admission,
            Err(denial) => {
                let hint = &denial.hint;
                let challenge = denial
                    .failure()
                    .map(|failure| sasl::challenge(mechanism, failure, &hint.scope, hint.discovery.as_deref()));
                self.deny(&denial, claimed.as_deref(), challenge.as_deref()).await;
                return Ok(None);
            }
        };
        // The lock comes with the sign-in: without it there is no transaction state (RFC 1939 section 4).
        match self.open(&admission).await {
            Ok(held) => {
                let (count, octets) = held.maildrop.totals();
                let text = format!("{} has {count} messages ({octets} octets)", admission.permit.owner());
                self.talk.admit(&text, &mut self.wire.out);
                self.seat = Some(admission.seat.shared());
                Ok(Some((admission, held)))
            }
            Err(error) => {
                self.log(&error);
                let text = match &error {
                    MailError::Locked => "[IN-USE] another program has this mailbox open by POP",
                    _ => "[SYS/TEMP] the mailbox cannot be opened now",
                };
                self.talk.refuse(None, text, &mut self.wire.out);
                Ok(None)
            }
        }
    }

    async fn open(&self, admission: &Admission) -> Result<Held, MailError> {
        let mail: Maildir = self.house.mail.open(&admission.permit).await?;
        let view = mail.exclusive().await?;
        let messages = (1..=view.len()).filter_map(|number| view.message(number)).map(|meta| (meta.uid, meta.size));
        let maildrop = Maildrop::new(view.uid_validity(), messages);
        Ok(Held { view, maildrop })
    }

    async fn deny(&mut self, denial: &Denial, claimed: Option<&str>, challenge: Option<&str>) {
        let wait = self.house.gate.hold_back(&self.visitor, denial, claimed);
        if !wait.is_zero() {
            sleep(wait).await;
        }
        let (code, text) = denial.pop();
        self.talk.refuse(challenge, &format!("[{code}] {text}"), &mut self.wire.out);
    }

    /// The TRANSACTION state. A session that has to leave may finish its reply, but not wait for a peer that does not
    /// take it.
    async fn stay(&mut self, mut held: Held) -> Ending {
        let overdue = overdue(self.seat.clone(), self.drain.clone(), self.house.limits.drain);
        tokio::select! {
            biased;
            ended = Caught::new(self.transact(&mut held)) => ended.unwrap_or(Ending::Panicked),
            ending = overdue => ending,
        }
    }

    async fn transact(&mut self, held: &mut Held) -> Ending {
        loop {
            if let Err(ending) = self.one(held).await {
                return ending;
            }
        }
    }

    async fn one(&mut self, held: &mut Held) -> Result<(), Ending> {
        let command = match self.talk.next(&mut self.wire.out) {
            Step::Read => return self.hear().await,
            Step::Leave => return Err(Ending::Logout),
            Step::Command(command) => command,
            _ => return Ok(self.wire.push().await?),
        };
        self.may_go_on()?;
        match held.maildrop.answer(command, &mut self.wire.out) {
            Next::Done => {}
            Next::Listing(mut listing) => {
                self.wire.begin_long();
                while !listing.fill(&held.maildrop, &mut self.wire.out, LISTING_ROOM) {
                    self.wire.flush().await?;
                }
                self.wire.end_long();
            }
            Next::Send { index, size, top } => Box::pin(self.send(held, index, size, top)).await?,
            Next::Update => {
                let done = Box::pin(self.update(held)).await;
                match done {
                    Ok(()) => reply::ok(&mut self.wire.out, "goodbye"),
                    Err(error) => {
                        self.log(&error);
                        reply::err(&mut self.wire.out, "[SYS/TEMP] some deleted messages were not removed");
                    }
                }
                return Err(Ending::Logout);
            }
        }
        Ok(self.wire.push().await?)
    }

    async fn send(&mut self, held: &mut Held, index: usize, size: u64, top: Option<u32>) -> Result<(), Ending> {
        let number = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        let mut reader = match held.view.read(number).await {
            Ok(reader) => reader,
            Err(error) => {
                self.log(&error);
                let text = match error {
                    MailError::Gone { .. } => "the message was removed by another program",
                    _ => "[SYS/TEMP] the message cannot be read now",
                };
                reply::err(&mut self.wire.out, text);
                return Ok(());
            }
        };
        self.wire.begin_long();
        let mut body = match top {
            None => {
                reply::message(&mut self.wire.out, size);
                Body::whole()
            }
            Some(lines) => {
                reply::ok(&mut self.wire.out, "top of message follows");
                Body::top(lines)
            }
        };
        loop {
            let chunk = match reader.next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                // Half a message must not look like a whole one: no end is sent.
                Err(error) => return Err(Ending::Gone(io::Error::other(error))),
            };
            let fill = body.feed(&chunk, &mut self.wire.out);
            self.wire.push().await?;
            if fill == Fill::Enough {
                break;
            }
        }
        body.finish(&mut self.wire.out);
        self.wire.end_long();
        Ok(())
    }

    /// The UPDATE state: only now is anything removed.
    async fn update(&mut self, held: &mut Held) -> Result<(), MailError> {
        let numbers: Vec<u32> = held
            .maildrop
            .deleted()
            .map(|index| u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1))
            .collect();
        for batch in numbers.chunks(UPDATE_BATCH) {
            held.view.remove(batch).await?;
        }
        Ok(())
    }

    /// Sends what is written, then waits for more input.
    async fn hear(&mut self) -> Result<(), Ending> {
        self.wire.flush().await?;
        let limits = &self.house.limits;
        let limit = match (&self.seat, self.talk.awaits_answer(), self.talk.awaits_response()) {
            (Some(_), _, _) => limits.pop_idle,
            (None, true, _) => limits.sasl_answer,
            (None, false, true) => limits.sasl,
            (None, false, false) => limits.login,
        };
        tokio::select! {
            biased;
            ending = called_away(self.seat.as_deref(), &self.drain) => Err(ending),
            read = self.wire.read(self.talk.buffer()) => match read? {
                0 => Err(Ending::Gone(io::ErrorKind::UnexpectedEof.into())),
                _ => Ok(()),
            },
            () = sleep(limit) => {
                if self.talk.awaits_answer() {
                    self.talk.late(&mut self.wire.out);
                    return Ok(());
                }
                Err(Ending::Idle)
            }
        }
    }

    fn may_go_on(&self) -> Result<(), Ending> {
        if self.seat.as_ref().is_some_and(|seat| seat.fall().is_some()) {
            return Err(Ending::Fallen);
        }
        if self.drain.is_cancelled() { Err(Ending::Drain) } else { Ok(()) }
    }

    fn log(&self, error: &MailError) {
        let session = self.visitor.session;
        match error.blame() {
            Blame::Peer => debug!(%session, %error, "mail store"),
            Blame::Dependency => warn!(%session, %error, cause = ?error, "mail store"),
            Blame::Us => error!(%session, %error, "mail store"),
        }
    }

    /// The last line, where one may still be written.
    fn farewell(&mut self, ending: &Ending) {
        let session = self.visitor.session;
        match ending {
            Ending::Panicked => error!(%session, "a fault ended the session"),
            Ending::Fallen => info!(%session, "ended by a change"),
            Ending::Gone(error) => debug!(%session, %error, "peer gone"),
            Ending::Unreadable(why) => debug!(%session, why, "unreadable input"),
            other => debug!(%session, why = other.word(), "session over"),
        }
        let text = match ending {
            Ending::Logout | Ending::Gone(_) | Ending::Unreadable(_) => return,
            Ending::Fallen => match self.seat.as_ref().and_then(|seat| seat.fall()).map(Denial::pop) {
                Some((code, text)) => format!("[{code}] {text}"),
                None => return,
            },
            Ending::Drain => "[SYS/TEMP] shutting down; connect again in a moment".to_owned(),
            Ending::Evicted => "[SYS/TEMP] nobody signed in; too slow or too many waiting".to_owned(),
            Ending::Idle => "idle for too long".to_owned(),
            Ending::TooManyErrors => "[SYS/TEMP] too many errors".to_owned(),
            Ending::Panicked => "[SYS/TEMP] internal error".to_owned(),
        };
        if self.wire.at_boundary() {
            reply::err(&mut self.wire.out, &text);
        }
    }
}
