//! The POP3 dialogue (RFC 1939): sign-in, maildrop, update, goodbye. What is said stands in the `pop3` core;
//! here it meets the socket, the gate and the mailbox. Run by `course`.

use std::sync::Arc;

use super::{
    Ending,
    course::Dialogue,
    link::Link,
    relay::{self, Mailbox, There},
};
use crate::gate::{Admission, Denial, SeatGuard};
use crate::maildir::{MailError, View};
use crate::model::Secret;
use crate::policy::{Permit, Rights};
use crate::pop3::{self, Body, Fill, Maildrop, Next, Step, reply};
use crate::sasl::{self, Mechanism};
use crate::upstream::Abilities;

/// What `AUTH` and `CAPA` name.
const MECHANISMS: &[&str] = &["XOAUTH2", "OAUTHBEARER"];
/// A listing is written in pieces of about this many bytes.
const LISTING_ROOM: usize = 16 * 1024;
/// Messages that QUIT removes at a time.
const UPDATE_BATCH: usize = 500;

/// The conversation and its connection.
pub(super) struct Dialog {
    link: Link,
    talk: pop3::Dialog,
}

/// A signed-in peer's mailbox, held for it alone.
pub(super) struct Held {
    view: View,
    maildrop: Maildrop,
}

/// What a sign-in opens.
pub(super) enum Opened {
    /// A mailbox of the embedded store.
    Here(Box<Held>),
    /// One behind an upstream.
    Upstream(Box<There<relay::Pop>>),
}

impl Dialogue for Dialog {
    type Opened = Opened;

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// The AUTHORIZATION state.
    async fn come_in(&mut self) -> Result<(SeatGuard, Opened), Ending> {
        loop {
            match self.talk.next(&mut self.link.wire.out) {
                Step::Read => self.hear().await?,
                Step::Replied => self.link.wire.push().await?,
                Step::SignIn { mechanism, response } => {
                    if let Some(come) = self.sign_in(mechanism, &response).await? {
                        return Ok(come);
                    }
                }
                Step::Password { verb, user } => {
                    let denial = self.link.house.gate.refuse_password(&self.link.visitor, verb, user.as_deref());
                    self.deny(&denial, user.as_deref(), None).await?;
                }
                Step::Unoffered(name) if sasl::is_password_mechanism(&name) => {
                    let how = format!("AUTH {name}");
                    let denial = self.link.house.gate.refuse_password(&self.link.visitor, &how, None);
                    self.deny(&denial, None, None).await?;
                }
                Step::Unoffered(_) => {
                    let text = "[AUTH] mechanism not offered; use XOAUTH2 or OAUTHBEARER";
                    self.talk.refuse(None, text, &mut self.link.wire.out);
                }
                Step::Command(_) => {
                    self.talk.leave("[SYS/TEMP] sign in first", &mut self.link.wire.out);
                }
                Step::Leave => return Err(Ending::Logout),
            }
        }
    }

    /// The TRANSACTION state. However it ends, the lock on the mailbox ends with it.
    async fn stay(&mut self, opened: Opened) -> Ending {
        let mut held = match opened {
            Opened::Here(held) => held,
            Opened::Upstream(there) => {
                let input = std::mem::take(self.talk.buffer());
                let idle = self.link.house.limits.pop_idle;
                return Box::pin(relay::relay(&mut self.link, there, input, idle)).await;
            }
        };
        loop {
            if let Err(ending) = self.one(&mut held).await {
                return ending;
            }
        }
    }

    fn say_goodbye(&mut self, ending: &Ending) {
        let text = match ending {
            // (Nothing is compressed here.)
            Ending::Logout | Ending::Gone(_) | Ending::Told(_) | Ending::Broken(_) | Ending::Garbled => return,
            Ending::Fallen => match self.link.seat.as_ref().and_then(|seat| seat.fall()).map(Denial::pop) {
                Some((code, text)) => format!("[{code}] {text}"),
                None => return,
            },
            Ending::Lost(_) => "[SYS/TEMP] the mail server is gone; connect again in a moment".to_owned(),
            Ending::Drain => "[SYS/TEMP] shutting down; connect again in a moment".to_owned(),
            Ending::Evicted => "[SYS/TEMP] nobody signed in; too slow or too many waiting".to_owned(),
            Ending::Idle => "idle for too long".to_owned(),
            Ending::TooManyErrors => "[SYS/TEMP] too many errors".to_owned(),
            Ending::Panicked => "[SYS/TEMP] internal error".to_owned(),
        };
        reply::err(&mut self.link.wire.out, &text);
    }
}

impl Dialog {
    pub(super) fn new(link: Link) -> Self {
        let talk = pop3::Dialog::new(MECHANISMS, link.house.limits.pop);
        Self { link, talk }
    }

    async fn sign_in(&mut self, mechanism: &str, response: &Secret) -> Result<Option<(SeatGuard, Opened)>, Ending> {
        let Some(mechanism) = Mechanism::from_name(mechanism) else { return Ok(None) };
        let bearer = match sasl::parse(mechanism, response.reveal().as_bytes()) {
            Ok(bearer) => bearer,
            Err(error) => {
                let denial = self.link.house.gate.refuse_message(&self.link.visitor, error);
                self.deny(&denial, None, None).await?;
                return Ok(None);
            }
        };
        let claimed = bearer.user.clone();
        let house = Arc::clone(&self.link.house);
        let token = relay::token(&house, &bearer);
        let Admission { permit, seat } = match Box::pin(house.gate.admit(&self.link.visitor, bearer)).await {
            Ok(admission) => admission,
            Err(denial) => {
                let hint = &denial.hint;
                let challenge = denial
                    .failure()
                    .map(|failure| sasl::challenge(mechanism, failure, &hint.scope, hint.discovery.as_deref()));
                self.deny(&denial, claimed.as_deref(), challenge.as_deref()).await?;
                return Ok(None);
            }
        };
        let owner = permit.owner().clone();
        let talk = |abilities: &Abilities, rights| relay::Pop::new(abilities.pop(), rights == Rights::Read);
        let permit = match Box::pin(relay::find(&self.link, &seat, permit, token, talk)).await? {
            Ok(Mailbox::Here(permit)) => permit,
            Ok(Mailbox::Upstream(there)) => {
                self.talk.admit(&format!("signed in as {owner}"), &mut self.link.wire.out);
                return Ok(Some((seat, Opened::Upstream(there))));
            }
            Err(denial) => {
                seat.left("mailbox out of reach", 0, 0);
                self.deny(&denial, None, None).await?;
                return Ok(None);
            }
        };
        // The lock comes with the sign-in: without it there is no transaction state (RFC 1939 section 4).
        match Box::pin(open(&house.mail, &permit)).await {
            Ok(held) => {
                let (count, octets) = held.maildrop.totals();
                let text = format!("{} has {count} messages ({octets} octets)", permit.owner());
                self.talk.admit(&text, &mut self.link.wire.out);
                Ok(Some((seat, Opened::Here(Box::new(held)))))
            }
            Err(error) => {
                self.link.note(&error);
                let (text, why) = match &error {
                    MailError::Locked => {
                        ("[IN-USE] another program has this mailbox open by POP", "mailbox in use")
                    }
                    _ => ("[SYS/TEMP] the mailbox cannot be opened now", "mailbox cannot be opened"),
                };
                seat.left(why, 0, 0);
                self.talk.refuse(None, text, &mut self.link.wire.out);
                Ok(None)
            }
        }
    }

    async fn deny(
        &mut self,
        denial: &Denial,
        claimed: Option<&str>,
        challenge: Option<&str>,
    ) -> Result<(), Ending> {
        self.link.hold_back(denial, claimed).await?;
        let (code, text) = denial.pop();
        self.talk.refuse(challenge, &format!("[{code}] {text}"), &mut self.link.wire.out);
        Ok(())
    }

    async fn one(&mut self, held: &mut Held) -> Result<(), Ending> {
        let command = match self.talk.next(&mut self.link.wire.out) {
            Step::Read => return self.hear().await,
            Step::Command(command) => command,
            // QUIT is a command here, so that was our word.
            Step::Leave => return Err(Ending::Told("too many errors")),
            _ => return Ok(self.link.wire.push().await?),
        };
        self.link.may_go_on()?;
        self.link.note_command(command.word());
        match held.maildrop.answer(command, &mut self.link.wire.out) {
            Next::Done => {}
            Next::Listing(mut listing) => {
                self.link.wire.begin_long();
                while !listing.fill(&held.maildrop, &mut self.link.wire.out, LISTING_ROOM) {
                    self.link.wire.flush().await?;
                }
                self.link.wire.end_long();
            }
            Next::Send { index, size, top } => Box::pin(self.send(held, index, size, top)).await?,
            Next::Update => return Err(Box::pin(self.update(held)).await),
        }
        Ok(self.link.wire.push().await?)
    }

    async fn send(&mut self, held: &mut Held, index: usize, size: u64, top: Option<u32>) -> Result<(), Ending> {
        let mut reader = match held.view.read(number(index)).await {
            Ok(reader) => reader,
            Err(error) => {
                self.link.note(&error);
                let text = match error {
                    MailError::Gone { .. } => "the message was removed by another program",
                    _ => "[SYS/TEMP] the message cannot be read now",
                };
                reply::err(&mut self.link.wire.out, text);
                return Ok(());
            }
        };
        let wire = &mut self.link.wire;
        wire.begin_long();
        let mut body = match top {
            None => {
                reply::message(&mut wire.out, size);
                Body::whole()
            }
            Some(lines) => {
                reply::ok(&mut wire.out, "top of message follows");
                Body::top(lines)
            }
        };
        // Half a message must not look like a whole one: where the disk fails no end is sent.
        while let Some(chunk) = reader.next().await.map_err(Ending::Broken)? {
            let fill = body.feed(&chunk, &mut wire.out);
            wire.push().await?;
            tokio::task::consume_budget().await;
            if fill == Fill::Enough {
                break;
            }
        }
        body.finish(&mut wire.out);
        wire.end_long();
        Ok(())
    }

    /// The UPDATE state: only now is anything removed.
    async fn update(&mut self, held: &mut Held) -> Ending {
        let numbers: Vec<u32> = held.maildrop.deleted().map(number).collect();
        for batch in numbers.chunks(UPDATE_BATCH) {
            if let Err(error) = held.view.remove(batch).await {
                self.link.note(&error);
                reply::err(&mut self.link.wire.out, "[SYS/TEMP] some deleted messages were not removed");
                return Ending::Logout;
            }
        }
        reply::ok(&mut self.link.wire.out, "goodbye");
        Ending::Logout
    }

    /// Sends what is written, then waits for more input.
    async fn hear(&mut self) -> Result<(), Ending> {
        let limits = &self.link.house.limits;
        let limit = match (&self.link.seat, self.talk.awaits_answer(), self.talk.awaits_response()) {
            (Some(_), _, _) => limits.pop_idle,
            (None, true, _) => limits.sasl_answer,
            (None, false, true) => limits.sasl,
            // `course` ends the wait for a sign-in.
            (None, false, false) => limits.login * 2,
        };
        match self.link.hear(self.talk.buffer(), limit).await {
            Err(Ending::Idle) if self.talk.awaits_answer() => {
                self.talk.late(&mut self.link.wire.out);
                Ok(())
            }
            heard => heard,
        }
    }
}

/// The message number of a place in the maildrop.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}

async fn open(mail: &crate::maildir::Mail, permit: &Permit) -> Result<Held, MailError> {
    let mut view = mail.open(permit).await?.exclusive().await?;
    view.measure(&(1..=view.len()).collect::<Vec<u32>>()).await?;
    // Those that were found to be gone have no number.
    view.sync(true);
    let mut messages = Vec::with_capacity(view.len() as usize);
    view.messages(1..=view.len(), |_, meta| messages.push((meta.uid, meta.size)));
    let mut maildrop = Maildrop::new(view.uid_validity(), messages);
    maildrop.call(view.uidls());
    if permit.rights() == Rights::Read {
        maildrop.only_read();
    }
    Ok(Held { view, maildrop })
}
