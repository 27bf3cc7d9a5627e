//! The IMAP commands after the sign-in, one file a family. `serve` reads commands and dispatches; each handler gets
//! the open view or the owner's mail, never a stage it has to check. Called by `login`.

mod append;
mod batch;
mod binary;
mod compress;
mod digest;
mod enable;
mod fetch;
mod folders;
mod header;
mod idle;
mod list;
mod long;
mod messages;
mod metadata;
mod modseq;
mod news;
mod notify;
mod portion;
mod preview;
mod quota;
mod reply;
mod search;
mod select;
mod sort;
mod source;
mod structure;
mod thread;
mod turn;

use std::sync::Arc;

use super::{Ending, login::Dialog};
use crate::imap::{
    command::{AppendHead, Command, Replaced, Search, SearchKey, StatusItem, Tagged},
    frame::Step,
    set::Ranges,
    write::{self, Code, Status},
};
use crate::maildir::{MailError, Maildir};
use crate::model::UserId;
use crate::policy::{Permit, Rights};
pub(super) use enable::Enabled;
use news::{Selected, Wish, mailbox_gone};
use notify::Ears;
use reply::{Reply, refuse};

/// Where a signed-in session stands (RFC 3501 section 3).
enum Stage {
    /// No mailbox is open.
    Admitted,
    /// One is.
    Open(Box<Selected>),
}

impl Stage {
    /// The name of the open mailbox.
    fn open_name(&self) -> Option<String> {
        match self {
            Self::Admitted => None,
            Self::Open(selected) => selected.view.name(),
        }
    }
}

/// A signed-in session.
struct Stay<'d> {
    dialog: &'d mut Dialog,
    mail: Maildir,
    rights: Rights,
    /// Who signed in.
    user: Arc<str>,
    /// Whose mail it is.
    owner: UserId,
    stage: Stage,
    /// For those who ask to hear of more than the open mailbox.
    ears: Option<Box<Ears>>,
}

/// Serves one signed-in session until it ends.
pub(super) async fn serve(dialog: &mut Dialog, permit: Permit) -> Ending {
    let opened = dialog.link.house.mail.open(&permit).await;
    let mail = match opened {
        Ok(mail) => mail,
        Err(error) => {
            let reply = refuse(dialog, &error);
            write::untagged(&mut dialog.link.wire.out, write::Status::Bye, reply.code.as_ref(), &reply.text);
            return Ending::Told("mailbox cannot be opened");
        }
    };
    let user = Arc::from(permit.user().to_string());
    let (owner, rights) = (permit.owner().clone(), permit.rights());
    let mut stay = Stay { dialog, mail, rights, user, owner, stage: Stage::Admitted, ears: None };
    loop {
        if let Err(ending) = stay.next().await {
            return ending;
        }
    }
}

impl Stay<'_> {
    /// Reads and answers one command.
    async fn next(&mut self) -> Result<(), Ending> {
        match self.dialog.framer.next() {
            Step::Read => {
                let Self { dialog, mail, stage, ears, .. } = self;
                return match ears {
                    Some(ears) => Box::pin(idle::hear(dialog, mail, stage, ears)).await,
                    None => dialog.hear(dialog.link.house.limits.imap_idle).await,
                };
            }
            Step::Continue => write::continuation(&mut self.dialog.link.wire.out, "Ready"),
            Step::Bad(bad) => {
                if let Stage::Open(selected) = &mut self.stage
                    && bad.unsaves
                {
                    selected.saved = Ranges::default();
                }
                self.dialog.misunderstood(&bad)?;
            }
            // Pieces of a message come only while `append` asks for them.
            Step::Chunk(_) | Step::NextMessage(_) | Step::AppendEnd => {}
            Step::Append(head) => {
                self.dialog.link.may_go_on()?;
                Box::pin(self.append(head)).await?;
            }
            Step::Command(Tagged { tag, command }) => {
                self.dialog.link.may_go_on()?;
                self.dialog.link.note_command(command.word());
                Box::pin(self.carry_out(&tag, command)).await?;
            }
        }
        // Many small commands in one packet must not collect their answers.
        Ok(self.dialog.link.wire.push().await?)
    }

    /// The quota follows the policy as it stands now: what an administrator changed holds for sessions that are open too.
    fn renew_quota(&self) {
        let house = &self.dialog.link.house;
        let quota = house.gate.store().read(|directory| directory.quota_of(&self.owner));
        house.mail.limit(&self.owner, quota);
    }

    /// APPEND and REPLACE.
    async fn append(&mut self, head: AppendHead) -> Result<(), Ending> {
        let tag = head.tag.clone();
        let word = match head.replaces {
            None => "APPEND",
            Some(Replaced { uid: false, .. }) => "REPLACE",
            Some(Replaced { uid: true, .. }) => "UID REPLACE",
        };
        self.dialog.link.note_command(word);
        if self.rights == Rights::Read {
            self.dialog.framer.reject();
            return self.answer(&tag, only_reading(), Telling::ALL).await;
        }
        self.renew_quota();
        let telling = Telling { removed: head.replaces.is_some(), ..Telling::ALL };
        let reply = match head.replaces {
            None => append::append(self.dialog, &self.mail, head).await?,
            Some(old) => {
                let selected = match &mut self.stage {
                    Stage::Open(selected) => Some(&mut **selected),
                    Stage::Admitted => None,
                };
                append::replace(self.dialog, &self.mail, selected, old, head).await?
            }
        };
        self.answer(&tag, reply, telling).await
    }

    async fn carry_out(&mut self, tag: &str, command: Command) -> Result<(), Ending> {
        let telling = Telling::after(&command);
        if let Some(reply) = modseq::lacks_qresync(self.dialog, &command) {
            return self.answer(tag, reply, telling).await;
        }
        if self.rights == Rights::Read && !only_reads(&command) {
            return self.answer(tag, only_reading(), telling).await;
        }
        if let Stage::Open(selected) = &mut self.stage
            && is_about_messages(&command)
        {
            match selected.view.wake().await {
                Ok(()) if selected.view.is_gone() => return Err(mailbox_gone(self.dialog)),
                Err(MailError::FolderGone) => return Err(mailbox_gone(self.dialog)),
                Ok(()) => {}
                Err(error) => {
                    refuse(self.dialog, &error).write(self.dialog, tag);
                    return Ok(());
                }
            }
            if modseq::is_enabling(&command) {
                modseq::enable(self.dialog, Some(&selected.view));
            }
            if is_by_uid(&command) {
                // UIDs that another session removed are passed over in silence, if they are known to be gone.
                let wish = Wish::of(self.ears.as_deref().and_then(Ears::selected));
                selected.tell_news(self.dialog, true, wish, &[]).await?;
            }
        }
        if asks_for_modseq(&command) {
            let view = if let Stage::Open(selected) = &self.stage { Some(&selected.view) } else { None };
            modseq::enable(self.dialog, view);
        }
        if is_about_room(&command) {
            self.renew_quota();
        }
        match self.dispatch(tag, command).await? {
            Some(reply) => self.answer(tag, reply, telling).await,
            None => Ok(()),
        }
    }

    /// Runs one command; none if it has been answered already.
    async fn dispatch(&mut self, tag: &str, command: Command) -> Result<Option<Reply>, Ending> {
        let Self { dialog, mail, rights, user, stage, ears, .. } = self;
        let reply = match (command, stage) {
            (command @ (Command::Capability | Command::Logout | Command::Id(_)), _) => {
                dialog.anytime(tag, command)?;
                return Ok(None);
            }
            (Command::Noop, Stage::Admitted) => Reply::ok("NOOP done"),
            (Command::Noop | Command::Check, Stage::Open(selected)) => match selected.view.poll().await {
                Ok(()) => Reply::ok("Done"),
                Err(error) => refuse(dialog, &error),
            },
            (Command::Login { .. } | Command::Authenticate { .. }, _) => Reply::bad("Already signed in"),
            (Command::Enable(words), stage) => {
                let view = if let Stage::Open(selected) = stage { Some(&selected.view) } else { None };
                let reply = enable::enable(dialog, &words, view);
                if dialog.enabled.metadata && ears.is_none() {
                    *ears = Some(Ears::new(mail, user));
                }
                reply
            }
            (Command::Notify(set), stage) => {
                let ears = ears.get_or_insert_with(|| Ears::new(mail, user));
                Box::pin(notify::notify(dialog, mail, stage, ears, set)).await?
            }
            (Command::GetQuota { root }, _) => Box::pin(quota::get(dialog, mail, &root)).await?,
            (Command::GetQuotaRoot(mailbox), _) => Box::pin(quota::get_root(dialog, mail, &mailbox)).await?,
            (Command::SetQuota, _) => quota::set(),
            (Command::GetMetadata(asked), _) => Box::pin(metadata::get(dialog, mail, user, &asked)).await?,
            (Command::SetMetadata { mailbox, values }, _) => {
                Box::pin(metadata::set(dialog, mail, user, mailbox.as_ref(), values)).await?
            }
            (Command::Compress, _) => return Box::pin(compress::compress(dialog, tag)).await,
            (Command::Namespace, _) => {
                write::namespace(&mut dialog.link.wire.out);
                Reply::ok("NAMESPACE done")
            }
            (Command::List(list), _) => Box::pin(list::list(dialog, mail, list)).await?,
            (Command::Lsub(pattern), _) => Box::pin(list::lsub(dialog, mail, &pattern)).await?,
            (Command::Status { mailbox, items }, _) => {
                Box::pin(folders::status(dialog, mail, &mailbox, &items)).await?
            }
            (Command::Create { mailbox, uses }, _) => {
                Box::pin(folders::create(dialog, mail, &mailbox, &uses)).await?
            }
            (Command::Delete(name), stage) => {
                let reply = Box::pin(folders::delete(dialog, mail, &name)).await?;
                // Whoever deletes the mailbox it has open stays signed in, with none open.
                if matches!(&*stage, Stage::Open(selected) if selected.view.is_gone()) {
                    *stage = Stage::Admitted;
                }
                reply
            }
            (Command::Rename { from, to }, _) => Box::pin(folders::rename(dialog, mail, &from, &to)).await?,
            (Command::Subscribe(name), _) => folders::subscribe(dialog, mail, &name, true).await?,
            (Command::Unsubscribe(name), _) => folders::subscribe(dialog, mail, &name, false).await?,
            (Command::Select { mailbox, read_only, condstore, resync }, stage) => {
                dialog.enabled.condstore |= condstore || resync.is_some();
                // A SELECT that fails leaves no mailbox open (RFC 3501 section 6.3.1).
                if let Stage::Open(_) = std::mem::replace(stage, Stage::Admitted) {
                    let out = &mut dialog.link.wire.out;
                    write::untagged(out, Status::Ok, Some(&Code::Closed), "The mailbox that was open is closed");
                }
                let how = match (read_only, rights) {
                    (true, _) => select::How::Examine,
                    (false, Rights::Read) => select::How::SelectToRead,
                    (false, Rights::Write) => select::How::Select,
                };
                match Box::pin(select::select(dialog, mail, &mailbox, how)).await {
                    Ok((mut selected, reply)) => {
                        if let Some(resync) = resync {
                            Box::pin(modseq::catch_up(dialog, &mut selected, &resync)).await?;
                        }
                        *stage = Stage::Open(Box::new(selected));
                        // Its untagged answers are complete; a look for news would only repeat them.
                        reply.write(dialog, tag);
                        return Ok(None);
                    }
                    Err(reply) => reply,
                }
            }
            (Command::Idle, stage) => idle::idle(dialog, mail, stage, ears.as_deref_mut()).await?,
            (Command::Close, stage @ Stage::Open(_)) => match std::mem::replace(stage, Stage::Admitted) {
                Stage::Open(mut selected) => select::close(dialog, &mut selected.view).await?,
                Stage::Admitted => Reply::ok("CLOSE done"),
            },
            (Command::Unselect, stage @ Stage::Open(_)) => {
                *stage = Stage::Admitted;
                Reply::ok("UNSELECT done")
            }
            (command, Stage::Open(selected)) => match command {
                Command::Expunge(set) => messages::expunge(dialog, selected, set.as_ref()).await?,
                // Boxed, or an idle session would hold their room too.
                Command::Search(search) => Box::pin(search::search(dialog, selected, &search, tag)).await?,
                Command::Sort(sort) => Box::pin(sort::sort(dialog, selected, &sort, tag)).await?,
                Command::Thread(thread) => Box::pin(thread::thread(dialog, selected, &thread, tag)).await?,
                Command::Fetch { set, items, since, uid } => {
                    Box::pin(fetch::fetch(dialog, selected, &set, &items, since, uid)).await?
                }
                Command::Store { set, kind, silent, unchanged_since, flags, uid } => {
                    let change = messages::Change { kind, silent, unchanged_since, flags: &flags };
                    Box::pin(messages::store(dialog, selected, &set, &change, uid)).await?
                }
                Command::Copy { set, mailbox, uid } => {
                    Box::pin(messages::copy(dialog, selected, &set, &mailbox, uid, tag)).await?
                }
                Command::Move { set, mailbox, uid } => {
                    Box::pin(messages::r#move(dialog, selected, &set, &mailbox, uid, tag)).await?
                }
                _ => Reply::bad("Not now"),
            },
            (_, Stage::Admitted) => Reply::bad("Select a mailbox first"),
        };
        Ok(Some(reply))
    }

    /// Tells the news of the open mailbox, then the tagged line.
    async fn answer(&mut self, tag: &str, reply: Reply, telling: Telling) -> Result<(), Ending> {
        let mut gone = false;
        if let Stage::Open(selected) = &mut self.stage {
            gone = selected.view.is_gone();
            if !gone {
                let asked = self.ears.as_deref().and_then(Ears::selected);
                // What the peer itself removed it has to be told in any case.
                let wish = match Wish::of(asked) {
                    Wish::Nothing if telling.removed => Wish::AsEver,
                    wish => wish,
                };
                let own = reply.own(selected.view.uid_validity());
                Box::pin(selected.tell_news(self.dialog, telling.may_expunge, wish, own)).await?;
                selected.tell_behind(self.dialog);
            }
        }
        if let Some(ears) = &mut self.ears {
            Box::pin(notify::tell(self.dialog, &self.mail, &self.stage, ears)).await?;
        }
        reply.write(self.dialog, tag);
        if gone { Err(mailbox_gone(self.dialog)) } else { Ok(()) }
    }
}

/// Which news of the open mailbox a command's answer may bring.
#[derive(Clone, Copy)]
struct Telling {
    /// Message numbers may change.
    may_expunge: bool,
    /// The command itself removes messages.
    removed: bool,
}

impl Telling {
    const ALL: Self = Self { may_expunge: true, removed: false };

    fn after(command: &Command) -> Self {
        let removed = matches!(command, Command::Expunge(_) | Command::Move { .. });
        Self { may_expunge: may_expunge(command), removed }
    }
}

/// What is told to whoever may only read (RFC 5530: NOPERM): by the member list of a shared mailbox, or because the app or a
/// unit is read-only.
fn only_reading() -> Reply {
    Reply::no(Code::NoPerm, "You may only read this mailbox")
}

/// Whether a command leaves the mailbox as it is, for those who may only read it. What is not in this list is refused to
/// them: a command that comes later has to be put here first.
fn only_reads(command: &Command) -> bool {
    match command {
        Command::Capability
        | Command::Noop
        | Command::Logout
        | Command::Id(_)
        | Command::Enable(_)
        | Command::Compress
        | Command::Login { .. }
        | Command::Authenticate { .. }
        | Command::Select { .. }
        | Command::List(_)
        | Command::Lsub(_)
        | Command::Namespace
        | Command::Status { .. }
        | Command::Idle
        | Command::GetQuota { .. }
        | Command::GetQuotaRoot(_)
        // It is refused to everybody.
        | Command::SetQuota
        | Command::GetMetadata(_)
        | Command::Notify(_)
        | Command::Check
        // Without a right to change anything there is nothing to expunge: the mailbox is open read-only.
        | Command::Close
        | Command::Unselect
        | Command::Search(_)
        | Command::Sort(_)
        | Command::Thread(_)
        | Command::Fetch { .. } => true,
        Command::Create { .. }
        | Command::Delete(_)
        | Command::Rename { .. }
        | Command::Subscribe(_)
        | Command::Unsubscribe(_)
        | Command::SetMetadata { .. }
        | Command::Expunge(_)
        | Command::Store { .. }
        | Command::Copy { .. }
        | Command::Move { .. } => false,
    }
}

/// No message number may change under these (RFC 3501 section 7.4.1, RFC 5256 section 3); their UID forms do not mind,
/// unless they name messages by number (RFC 7162 section 3.2.10.2).
fn may_expunge(command: &Command) -> bool {
    let by_uid = |search: &Search| search.uid && !search.key.any(&|key| matches!(key, SearchKey::Numbers(_)));
    match command {
        Command::Fetch { uid, .. } | Command::Store { uid, .. } => *uid,
        Command::Search(search) => by_uid(search),
        Command::Sort(sort) => by_uid(&sort.search),
        Command::Thread(thread) => by_uid(&thread.search),
        _ => true,
    }
}

/// Whether the command needs the state of the open mailbox.
fn is_about_messages(command: &Command) -> bool {
    matches!(
        command,
        Command::Noop
            | Command::Check
            | Command::Idle
            | Command::Notify(_)
            | Command::Expunge(_)
            | Command::Search(_)
            | Command::Sort(_)
            | Command::Thread(_)
            | Command::Fetch { .. }
            | Command::Store { .. }
            | Command::Copy { .. }
            | Command::Move { .. }
    )
}

/// Whether a question about any mailbox says that the program knows mod-sequences (RFC 7162 section 3.1).
fn asks_for_modseq(command: &Command) -> bool {
    match command {
        Command::Status { items, .. } => items.contains(&StatusItem::HighestModseq),
        Command::List(list) => list.give.status.contains(&StatusItem::HighestModseq),
        _ => false,
    }
}

/// Whether the command asks for the quota, or may go beyond it.
fn is_about_room(command: &Command) -> bool {
    matches!(command, Command::GetQuota { .. } | Command::GetQuotaRoot(_) | Command::Copy { .. })
}

/// Whether the command names its messages by UID and nothing by message number.
fn is_by_uid(command: &Command) -> bool {
    matches!(
        command,
        Command::Expunge(Some(_))
            | Command::Fetch { uid: true, .. }
            | Command::Store { uid: true, .. }
            | Command::Copy { uid: true, .. }
            | Command::Move { uid: true, .. }
    )
}
