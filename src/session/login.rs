//! The IMAP dialogue up to the sign-in (RFC 3501 section 6.2), and its frame: raw lines, the last line. What
//! follows the sign-in stands in `commands`. Run by `course`.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    Ending, commands,
    course::Dialogue,
    link::Link,
    relay::{self, Mailbox},
};
use crate::gate::{Admission, Denial, SeatGuard};
use crate::imap::{
    bad::Bad,
    command::{Command, Tagged},
    frame::{Framer, Line, Step},
    write::{self, Code, Status},
};
use crate::model::{Secret, UserId};
use crate::policy::Rights;
use crate::sasl::{self, Mechanism};
use crate::upstream::Abilities;

/// Bytes of later commands that are read while one is being carried out.
const MAX_OVERHEARD: usize = 64 * 1024;

/// Both ends of the conversation, without the state of it.
pub(super) struct Dialog {
    pub(super) link: Link,
    pub(super) framer: Framer,
    /// What ENABLE switched on.
    pub(super) enabled: commands::Enabled,
    signed_in: bool,
    bad: u32,
    failed: u32,
    /// The last refusal was told without waiting any longer for the answer to the error challenge: it may still come.
    late: bool,
}

impl Dialogue for Dialog {
    type Opened = Mailbox<relay::Imap>;

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Before the sign-in (RFC 3501 section 3.1).
    async fn come_in(&mut self) -> Result<(SeatGuard, Mailbox<relay::Imap>), Ending> {
        loop {
            self.link.wire.push().await?;
            let Tagged { tag, command } = match self.framer.next() {
                Step::Read => {
                    // `course` ends the wait for a sign-in.
                    self.hear(self.link.house.limits.login * 2).await?;
                    continue;
                }
                Step::Continue => {
                    write::continuation(&mut self.link.wire.out, "Ready");
                    continue;
                }
                Step::Append(head) => {
                    self.framer.reject();
                    self.bad_state(&head.tag)?;
                    continue;
                }
                Step::Bad(bad) => {
                    // A late answer has had its reply; another one would be taken for that of the next command.
                    if !std::mem::take(&mut self.late) || bad.tag.is_some() || bad.fatal {
                        self.misunderstood(&bad)?;
                    }
                    continue;
                }
                Step::Chunk(_) | Step::NextMessage(_) | Step::AppendEnd => continue,
                Step::Command(tagged) => tagged,
            };
            self.late = false;
            match command {
                Command::Capability | Command::Noop | Command::Logout | Command::Id(_) => {
                    self.anytime(&tag, command)?;
                }
                Command::Login { user } => self.refuse_password(&tag, "LOGIN", user.as_deref()).await?,
                Command::Authenticate { mechanism, initial } => {
                    if let Some(come) = self.authenticate(&tag, &mechanism, initial).await? {
                        return Ok(come);
                    }
                }
                _ => self.bad_state(&tag)?,
            }
        }
    }

    async fn stay(&mut self, mailbox: Mailbox<relay::Imap>) -> Ending {
        match mailbox {
            Mailbox::Here(permit) => Box::pin(commands::serve(self, permit)).await,
            Mailbox::Upstream(there) => {
                let input = self.framer.take_rest();
                // It holds its last input buffer no longer.
                self.framer = Framer::new(self.link.house.limits.frame.clone());
                let idle = self.link.house.limits.imap_idle;
                // Boxed, so that each kind of session has room for itself alone.
                Box::pin(relay::relay(&mut self.link, there, input, idle)).await
            }
        }
    }

    fn say_goodbye(&mut self, ending: &Ending) {
        let (code, text) = match ending {
            Ending::Logout | Ending::Gone(_) | Ending::Told(_) | Ending::Broken(_) => return,
            Ending::Fallen => match self.link.seat.as_ref().and_then(|seat| seat.fall()).map(Denial::imap) {
                Some((code, text)) => (Some(code), text),
                None => return,
            },
            Ending::Lost(_) => {
                (Some(Code::Unavailable), "The mail server is gone; connect again in a moment".to_owned())
            }
            Ending::Drain => (Some(Code::Unavailable), "Shutting down; connect again in a moment".to_owned()),
            Ending::Evicted => (None, "Nobody signed in; too slow or too many waiting".to_owned()),
            Ending::Idle => (None, "Idle for too long".to_owned()),
            Ending::TooManyErrors => (Some(Code::Limit), "Too many errors".to_owned()),
            Ending::Garbled => (Some(Code::ClientBug), "The compressed stream cannot be read".to_owned()),
            Ending::Panicked => (Some(Code::ServerBug), "Internal error".to_owned()),
        };
        write::untagged(&mut self.link.wire.out, Status::Bye, code.as_ref(), &text);
    }
}

impl Dialog {
    pub(super) fn new(link: Link) -> Self {
        let framer = Framer::new(link.house.limits.frame.clone());
        Self {
            link,
            framer,
            enabled: commands::Enabled::default(),
            signed_in: false,
            bad: 0,
            failed: 0,
            late: false,
        }
    }

    /// Sends what is written, then waits for more input, at most `limit`, or for the word to leave. Cancel-safe.
    pub(super) async fn hear(&mut self, limit: Duration) -> Result<(), Ending> {
        self.link.hear(self.framer.buffer(), limit).await
    }

    /// While a command is being carried out: resolves when the peer is gone or the session has to leave. Commands that
    /// come meanwhile are kept for later, up to a bound; without `listens` nothing is read. Cancel-safe.
    pub(super) async fn overhear(&mut self, listens: bool) -> Result<(), Ending> {
        let listens = listens && self.framer.pending() < MAX_OVERHEARD;
        self.link.overhear(listens.then(|| self.framer.buffer())).await
    }

    /// CAPABILITY, NOOP, LOGOUT and ID mean the same in every state.
    pub(super) fn anytime(&mut self, tag: &str, command: Command) -> Result<(), Ending> {
        let out = &mut self.link.wire.out;
        let done = match command {
            Command::Capability => {
                write::capability(out, self.signed_in.then_some(self.link.house.limits.frame.append));
                "CAPABILITY done"
            }
            Command::Logout => {
                write::untagged(out, Status::Bye, None, "Goodbye");
                write::tagged(out, tag, Status::Ok, None, "LOGOUT done");
                return Err(Ending::Logout);
            }
            Command::Id(fields) => {
                write::id(out, &[("name", Some("Portcullis"))]);
                self.link.note_program(program(&fields));
                "ID done"
            }
            _ => "Done",
        };
        write::tagged(&mut self.link.wire.out, tag, Status::Ok, None, done);
        Ok(())
    }

    /// A command that this state does not have.
    fn bad_state(&mut self, tag: &str) -> Result<(), Ending> {
        let text = "Sign in first: AUTHENTICATE XOAUTH2 or OAUTHBEARER";
        write::tagged(&mut self.link.wire.out, tag, Status::Bad, None, text);
        self.count_bad()
    }

    /// A line that is no command, or one that `imap` refuses by itself; only the former counts.
    pub(super) fn misunderstood(&mut self, bad: &Bad) -> Result<(), Ending> {
        bad.write(&mut self.link.wire.out);
        match bad.status {
            _ if bad.fatal => Err(Ending::Told(bad.text)),
            Status::No => Ok(()),
            _ => self.count_bad(),
        }
    }

    fn count_bad(&mut self) -> Result<(), Ending> {
        self.bad += 1;
        let limits = &self.link.house.limits;
        let most = if self.signed_in { limits.bad_after_login } else { limits.bad_before_login };
        if self.bad >= most { Err(Ending::TooManyErrors) } else { Ok(()) }
    }

    async fn authenticate(
        &mut self,
        tag: &str,
        mechanism: &str,
        initial: Option<Secret>,
    ) -> Result<Option<(SeatGuard, Mailbox<relay::Imap>)>, Ending> {
        let Some(known) = Mechanism::from_name(mechanism) else {
            if sasl::is_password_mechanism(mechanism) {
                self.refuse_password(tag, &format!("AUTHENTICATE {mechanism}"), None).await?;
            } else {
                let text = "Mechanism not offered; use XOAUTH2 or OAUTHBEARER";
                write::tagged(&mut self.link.wire.out, tag, Status::No, Some(&Code::Cannot), text);
                self.count_bad()?;
            }
            return Ok(None);
        };
        let response = match initial {
            Some(response) => response,
            None => {
                write::continuation(&mut self.link.wire.out, "");
                self.answer_line(self.link.house.limits.sasl).await?.ok_or(Ending::Idle)?
            }
        };
        if sasl::is_cancel(response.reveal().as_bytes()) {
            write::tagged(&mut self.link.wire.out, tag, Status::Bad, None, "Sign-in cancelled");
            self.count_bad()?;
            return Ok(None);
        }
        let bearer = match sasl::parse(known, response.reveal().as_bytes()) {
            Ok(bearer) => bearer,
            Err(error) => {
                let denial = self.link.house.gate.refuse_message(&self.link.visitor, error);
                self.deny(tag, &denial, None).await?;
                return Ok(None);
            }
        };
        let claimed = bearer.user.clone();
        let house = Arc::clone(&self.link.house);
        let token = relay::token(&house, &bearer);
        let denial = match Box::pin(house.gate.admit(&self.link.visitor, bearer)).await {
            Ok(Admission { permit, seat }) => {
                let owner = permit.owner().clone();
                let (limits, most_bad) = (&house.limits.frame, house.limits.bad_after_login);
                let talk = |abilities: &Abilities, rights| {
                    relay::Imap::new(abilities.imap(), rights == Rights::Read, limits.clone(), most_bad)
                };
                match Box::pin(relay::find(&self.link, &seat, permit, token, talk)).await? {
                    Ok(mailbox) => {
                        self.admitted(tag, &owner, &mailbox);
                        return Ok(Some((seat, mailbox)));
                    }
                    Err(denial) => {
                        seat.left("mailbox out of reach", 0, 0);
                        *denial
                    }
                }
            }
            Err(denial) => denial,
        };
        self.link.hold_back(&denial, claimed.as_deref()).await?;
        if let Some(failure) = denial.failure() {
            let hint = &denial.hint;
            let challenge = sasl::challenge(known, failure, &hint.scope, hint.discovery.as_deref());
            write::continuation(&mut self.link.wire.out, &challenge);
            // Whatever comes, or nothing: the tagged reply follows (product.md section 3).
            self.late = self.answer_line(self.link.house.limits.sasl_answer).await?.is_none();
        }
        self.say_no(tag, &denial)?;
        Ok(None)
    }

    fn admitted(&mut self, tag: &str, owner: &UserId, mailbox: &Mailbox<relay::Imap>) {
        self.framer.signed_in();
        self.signed_in = true;
        self.bad = 0;
        let code = match mailbox {
            Mailbox::Here(_) => Code::Capability { append: Some(self.link.house.limits.frame.append) },
            Mailbox::Upstream(there) => Code::CapabilityList(there.talk.capabilities()),
        };
        let text = format!("Signed in as {owner}");
        write::tagged(&mut self.link.wire.out, tag, Status::Ok, Some(&code), &text);
    }

    /// A raw line of a SASL exchange; none if none came in time.
    async fn answer_line(&mut self, limit: Duration) -> Result<Option<Secret>, Ending> {
        let line = timeout(limit, async {
            loop {
                match self.framer.next_line() {
                    Line::Read => self.hear(limit * 2).await?,
                    Line::Text(line) => return Ok(line),
                    Line::Bad(bad) => {
                        bad.write(&mut self.link.wire.out);
                        return Err(Ending::Told(bad.text));
                    }
                }
            }
        });
        match line.await {
            Ok(line) => line.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn refuse_password(&mut self, tag: &str, how: &str, user: Option<&str>) -> Result<(), Ending> {
        let denial = self.link.house.gate.refuse_password(&self.link.visitor, how, user);
        self.deny(tag, &denial, user).await
    }

    async fn deny(&mut self, tag: &str, denial: &Denial, claimed: Option<&str>) -> Result<(), Ending> {
        self.link.hold_back(denial, claimed).await?;
        self.say_no(tag, denial)
    }

    fn say_no(&mut self, tag: &str, denial: &Denial) -> Result<(), Ending> {
        let (code, text) = denial.imap();
        write::tagged(&mut self.link.wire.out, tag, Status::No, Some(&code), &text);
        self.failed += 1;
        if self.failed >= self.link.house.limits.failed_logins { Err(Ending::TooManyErrors) } else { Ok(()) }
    }
}

/// `Thunderbird 153.0`, from the fields of ID (RFC 2971 section 3.3).
pub(super) fn program(fields: &[(String, Option<String>)]) -> Option<String> {
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
