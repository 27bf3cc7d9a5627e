//! The IMAP dialogue: greeting, sign-in, then `commands` until something ends it, and the goodbye. Called by `run`.

use std::{io, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::{
    Ending, FAREWELL_SEND, House, called_away,
    caught::{Caught, Panicked},
    commands, overdue,
    wire::Wire,
};
use crate::gate::{Admission, Denial, Seat, Spot, Visitor};
use crate::imap::{
    command::{Command, Tagged},
    frame::{Framer, Line, Step},
    write::{self, Code, Status},
};
use crate::model::Secret;
use crate::sasl::{self, Mechanism};

/// Both ends of the conversation, without the state of it.
pub(super) struct Dialog {
    pub(super) wire: Wire,
    pub(super) framer: Framer,
    pub(super) visitor: Visitor,
    pub(super) house: Arc<House>,
    pub(super) seat: Option<Arc<Seat>>,
    drain: CancellationToken,
    bad: u32,
    failed: u32,
}

/// One IMAP session from its greeting on.
pub(super) async fn run(wire: Wire, visitor: Visitor, spot: Spot, house: Arc<House>, drain: CancellationToken) {
    let mut dialog = Dialog {
        wire,
        framer: Framer::new(house.limits.frame.clone()),
        visitor,
        house,
        seat: None,
        drain,
        bad: 0,
        failed: 0,
    };
    write::greeting(&mut dialog.wire.out, &format!("{} Portcullis ready", dialog.house.hostname));
    let limit = dialog.house.limits.login;
    let arrival = tokio::select! {
        biased;
        () = spot.evicted() => Err(Ending::Evicted),
        arrival = Caught::new(timeout(limit, dialog.come_in())) => match arrival {
            Ok(Ok(arrival)) => arrival,
            Ok(Err(_)) => Err(Ending::Evicted),
            Err(Panicked) => Err(Ending::Panicked),
        },
    };
    let ending = match arrival {
        Err(ending) => ending,
        Ok(Admission { permit, seat }) => {
            spot.signed_in();
            let ending = dialog.stay(permit, seat.shared()).await;
            let (received, sent) = dialog.wire.traffic();
            seat.left(ending.word(), received, sent);
            dialog.farewell(&ending);
            return dialog.wire.close(FAREWELL_SEND).await;
        }
    };
    dialog.farewell(&ending);
    dialog.wire.close(FAREWELL_SEND).await;
}

impl Dialog {
    /// Before the sign-in (RFC 3501 section 3.1).
    async fn come_in(&mut self) -> Result<Admission, Ending> {
        loop {
            let Tagged { tag, command } = match self.framer.next() {
                Step::Read => {
                    self.hear(self.house.limits.login).await?;
                    continue;
                }
                Step::Continue => {
                    write::continuation(&mut self.wire.out, "Ready");
                    continue;
                }
                Step::Append(head) => {
                    self.framer.reject();
                    self.bad_state(&head.tag)?;
                    continue;
                }
                Step::Bad(bad) => {
                    self.misunderstood(&bad)?;
                    continue;
                }
                Step::Chunk(_) | Step::AppendEnd => continue,
                Step::Command(tagged) => tagged,
            };
            match command {
                Command::Capability | Command::Noop | Command::Logout | Command::Id(_) => {
                    self.anytime(&tag, command)?;
                }
                Command::Login => self.refuse_password(&tag, "LOGIN").await?,
                Command::Authenticate { mechanism, initial } => {
                    if let Some(admission) = self.authenticate(&tag, &mechanism, initial).await? {
                        return Ok(admission);
                    }
                }
                _ => self.bad_state(&tag)?,
            }
        }
    }

    /// CAPABILITY, NOOP, LOGOUT and ID mean the same in every state.
    pub(super) fn anytime(&mut self, tag: &str, command: Command) -> Result<(), Ending> {
        let out = &mut self.wire.out;
        match command {
            Command::Capability => write::capability(out, self.seat.is_some()),
            Command::Logout => {
                write::untagged(out, Status::Bye, None, "Goodbye");
                write::tagged(out, tag, Status::Ok, None, "LOGOUT done");
                return Err(Ending::Logout);
            }
            Command::Id(fields) => {
                self.visitor.program = program(&fields);
                write::id(out, &[("name", Some("Portcullis"))]);
            }
            _ => {}
        }
        write::tagged(out, tag, Status::Ok, None, "Done");
        Ok(())
    }

    /// A command that this state does not have.
    fn bad_state(&mut self, tag: &str) -> Result<(), Ending> {
        write::tagged(
            &mut self.wire.out,
            tag,
            Status::Bad,
            None,
            "Sign in first: AUTHENTICATE XOAUTH2 or OAUTHBEARER",
        );
        self.count_bad()
    }

    /// A line that is no command.
    pub(super) fn misunderstood(&mut self, bad: &crate::imap::bad::Bad) -> Result<(), Ending> {
        bad.write(&mut self.wire.out);
        if bad.fatal {
            return Err(Ending::Unreadable(bad.text));
        }
        self.count_bad()
    }

    fn count_bad(&mut self) -> Result<(), Ending> {
        self.bad += 1;
        let limits = &self.house.limits;
        let limit = if self.seat.is_some() { limits.bad_after_login } else { limits.bad_before_login };
        if self.bad >= limit { Err(Ending::TooManyErrors) } else { Ok(()) }
    }

    async fn authenticate(
        &mut self,
        tag: &str,
        mechanism: &str,
        initial: Option<Secret>,
    ) -> Result<Option<Admission>, Ending> {
        let Some(known) = Mechanism::from_name(mechanism) else {
            if sasl::is_password_mechanism(mechanism) {
                let how = format!("AUTHENTICATE {mechanism}");
                self.refuse_password(tag, &how).await?;
            } else {
                let text = "Mechanism not offered; use XOAUTH2 or OAUTHBEARER";
                write::tagged(&mut self.wire.out, tag, Status::No, Some(&Code::Cannot), text);
                self.count_bad()?;
            }
            return Ok(None);
        };
        let response = match initial {
            Some(response) => response,
            None => {
                write::continuation(&mut self.wire.out, "");
                self.answer_line(self.house.limits.sasl).await?.ok_or(Ending::Idle)?
            }
        };
        if sasl::is_cancel(response.reveal().as_bytes()) {
            write::tagged(&mut self.wire.out, tag, Status::Bad, None, "Sign-in cancelled");
            self.count_bad()?;
            return Ok(None);
        }
        let bearer = match sasl::parse(known, response.reveal().as_bytes()) {
            Ok(bearer) => bearer,
            Err(error) => {
                let denial = self.house.gate.refuse_message(&self.visitor, error);
                self.deny(tag, &denial, None).await?;
                return Ok(None);
            }
        };
        let claimed = bearer.user.clone();
        let house = Arc::clone(&self.house);
        match Box::pin(house.gate.admit(&self.visitor, bearer)).await {
            Ok(admission) => {
                let text = format!("Signed in as {}", admission.permit.owner());
                self.seat = Some(admission.seat.shared());
                self.framer.signed_in();
                self.bad = 0;
                let code = Code::Capability { signed_in: true };
                write::tagged(&mut self.wire.out, tag, Status::Ok, Some(&code), &text);
                Ok(Some(admission))
            }
            Err(denial) => {
                if let Some(failure) = denial.failure() {
                    self.hold_back(&denial, claimed.as_deref()).await;
                    let hint = &denial.hint;
                    let challenge = sasl::challenge(known, failure, &hint.scope, hint.discovery.as_deref());
                    write::continuation(&mut self.wire.out, &challenge);
                    // Whatever comes, or nothing: the tagged reply follows (product.md section 3).
                    self.answer_line(self.house.limits.sasl_answer).await?;
                    self.say_no(tag, &denial)?;
                } else {
                    self.deny(tag, &denial, claimed.as_deref()).await?;
                }
                Ok(None)
            }
        }
    }

    /// A raw line of a SASL exchange; none if none came in time.
    async fn answer_line(&mut self, limit: Duration) -> Result<Option<Secret>, Ending> {
        let line = timeout(limit, async {
            loop {
                match self.framer.next_line() {
                    Line::Read => self.hear(limit * 2).await?,
                    Line::Text(line) => return Ok(line),
                    Line::Bad(bad) => {
                        bad.write(&mut self.wire.out);
                        return Err(Ending::Unreadable(bad.text));
                    }
                }
            }
        });
        match line.await {
            Ok(line) => line.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn refuse_password(&mut self, tag: &str, how: &str) -> Result<(), Ending> {
        let denial = self.house.gate.refuse_password(&self.visitor, how, None);
        self.deny(tag, &denial, None).await
    }

    async fn deny(&mut self, tag: &str, denial: &Denial, claimed: Option<&str>) -> Result<(), Ending> {
        self.hold_back(denial, claimed).await;
        self.say_no(tag, denial)
    }

    async fn hold_back(&self, denial: &Denial, claimed: Option<&str>) {
        let wait = self.house.gate.hold_back(&self.visitor, denial, claimed);
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    fn say_no(&mut self, tag: &str, denial: &Denial) -> Result<(), Ending> {
        let (code, text) = denial.imap();
        write::tagged(&mut self.wire.out, tag, Status::No, Some(&code), &text);
        self.failed += 1;
        if self.failed >= self.house.limits.failed_logins { Err(Ending::TooManyErrors) } else { Ok(()) }
    }

    /// After the sign-in. A session that has to leave may finish the response it is writing, but not wait for a peer
    /// that does not take it.
    async fn stay(&mut self, permit: crate::policy::Permit, seat: Arc<Seat>) -> Ending {
        let overdue = overdue(Some(seat), self.drain.clone(), self.house.limits.drain);
        tokio::select! {
            biased;
            ended = Caught::new(commands::serve(self, permit)) => ended.unwrap_or(Ending::Panicked),
            ending = overdue => ending,
        }
    }

    /// Sends what is written, then waits for more input, at most `limit`, or for the word to leave. Cancel-safe.
    pub(super) async fn hear(&mut self, limit: Duration) -> Result<(), Ending> {
        self.wire.flush().await?;
        tokio::select! {
            biased;
            ending = called_away(self.seat.as_deref(), &self.drain) => Err(ending),
            read = self.wire.read(self.framer.buffer()) => match read? {
                0 => Err(Ending::Gone(io::ErrorKind::UnexpectedEof.into())),
                _ => Ok(()),
            },
            () = sleep(limit) => Err(Ending::Idle),
        }
    }

    /// Between two responses: whether the session has to leave.
    pub(super) fn may_go_on(&self) -> Result<(), Ending> {
        if self.seat.as_ref().is_some_and(|seat| seat.fall().is_some()) {
            return Err(Ending::Fallen);
        }
        if self.drain.is_cancelled() { Err(Ending::Drain) } else { Ok(()) }
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
        let fall = self.seat.as_ref().and_then(|seat| seat.fall()).map(Denial::imap);
        let (code, text) = match ending {
            Ending::Logout | Ending::Gone(_) | Ending::Unreadable(_) => return,
            Ending::Fallen => match fall {
                Some((code, text)) => (Some(code), text),
                None => return,
            },
            Ending::Drain => (Some(Code::Unavailable), "Shutting down; connect again in a moment".to_owned()),
            Ending::Evicted => (None, "Nobody signed in; too slow or too many waiting".to_owned()),
            Ending::Idle => (None, "Idle for too long".to_owned()),
            Ending::TooManyErrors => (Some(Code::Limit), "Too many errors".to_owned()),
            Ending::Panicked => (Some(Code::ServerBug), "Internal error".to_owned()),
        };
        if self.wire.at_boundary() {
            write::untagged(&mut self.wire.out, Status::Bye, code.as_ref(), &text);
        }
    }
}

/// `Thunderbird 153.0`, from the fields of ID (RFC 2971 section 3.3).
fn program(fields: &[(String, Option<String>)]) -> Option<String> {
    let field = |wanted: &str| {
        fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).and_then(|(_, value)| value.as_deref())
    };
    let name = field("name")?;
    let text = match field("version") {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    };
    Some(text.chars().filter(|c| !c.is_control()).take(100).collect())
}
