//! The IMAP commands after the sign-in, one file a family. `serve` reads commands and dispatches; each handler gets
//! the open view or the owner's mail, never a stage it has to check. Called by `login`.

mod append;
mod batch;
mod digest;
mod enable;
mod fetch;
mod folders;
mod header;
mod idle;
mod list;
mod long;
mod messages;
mod modseq;
mod news;
mod reply;
mod search;
mod select;
mod sort;
mod source;
mod structure;
mod thread;

use super::{Ending, login::Dialog};
use crate::imap::{
    command::{Command, Search, SearchKey, Tagged},
    frame::Step,
    set::Ranges,
    write::{self, Code, Status},
};
use crate::maildir::{MailError, Maildir};
use crate::policy::{Permit, Rights};
pub(super) use enable::Enabled;
use news::{Selected, mailbox_gone};
use reply::{Reply, refuse};

/// Where a signed-in session stands (RFC 3501 section 3).
enum Stage {
    /// No mailbox is open.
    Admitted,
    /// One is.
    Open(Box<Selected>),
}

/// A signed-in session.
struct Stay<'d> {
    dialog: &'d mut Dialog,
    mail: Maildir,
    rights: Rights,
    stage: Stage,
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
    let mut stay = Stay { dialog, mail, rights: permit.rights(), stage: Stage::Admitted };
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
            Step::Read => return self.dialog.hear(self.dialog.link.house.limits.imap_idle).await,
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
            Step::Chunk(_) | Step::AppendEnd => {}
            Step::Append(head) => {
                self.dialog.link.may_go_on()?;
                self.dialog.link.note_command("APPEND");
                let tag = head.tag.clone();
                if self.rights == Rights::Read {
                    self.dialog.framer.reject();
                    return Box::pin(self.answer(&tag, only_reading(), true)).await;
                }
                let reply = Box::pin(append::append(self.dialog, &self.mail, head)).await?;
                Box::pin(self.answer(&tag, reply, true)).await?;
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

    async fn carry_out(&mut self, tag: &str, command: Command) -> Result<(), Ending> {
        let may_expunge = may_expunge(&command);
        if let Some(reply) = modseq::lacks_qresync(self.dialog, &command) {
            return self.answer(tag, reply, may_expunge).await;
        }
        if self.rights == Rights::Read && !only_reads(&command) {
            return self.answer(tag, only_reading(), may_expunge).await;
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
                selected.tell_news(self.dialog, true).await?;
            }
        }
        match self.dispatch(tag, command).await? {
            Some(reply) => self.answer(tag, reply, may_expunge).await,
            None => Ok(()),
        }
    }

    /// Runs one command; none if it has been answered already.
    async fn dispatch(&mut self, tag: &str, command: Command) -> Result<Option<Reply>, Ending> {
        let Self { dialog, mail, rights, stage } = self;
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
                enable::enable(dialog, &words, view)
            }
            (Command::Namespace, _) => {
                write::namespace(&mut dialog.link.wire.out);
                Reply::ok("NAMESPACE done")
            }
            (Command::List(list), _) => Box::pin(list::list(dialog, mail, list)).await?,
            (Command::Lsub(pattern), _) => Box::pin(list::lsub(dialog, mail, &pattern)).await?,
            (Command::Status { mailbox, items }, _) => folders::status(dialog, mail, &mailbox, &items).await?,
            (Command::Create(name), _) => folders::create(dialog, mail, &name).await?,
            (Command::Delete(name), stage) => {
                let reply = folders::delete(dialog, mail, &name).await?;
                // Whoever deletes the mailbox it has open stays signed in, with none open.
                if matches!(&*stage, Stage::Open(selected) if selected.view.is_gone()) {
                    *stage = Stage::Admitted;
                }
                reply
            }
            (Command::Rename { from, to }, _) => folders::rename(dialog, mail, &from, &to).await?,
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
            (Command::Idle, Stage::Open(selected)) => idle::idle(dialog, Some(selected)).await?,
            (Command::Idle, Stage::Admitted) => idle::idle(dialog, None).await?,
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
    async fn answer(&mut self, tag: &str, reply: Reply, may_expunge: bool) -> Result<(), Ending> {
        let mut gone = false;
        if let Stage::Open(selected) = &mut self.stage {
            gone = selected.view.is_gone();
            if !gone {
                selected.tell_news(self.dialog, may_expunge).await?;
            }
        }
        reply.write(self.dialog, tag);
        if gone { Err(mailbox_gone(self.dialog)) } else { Ok(()) }
    }
}

/// What a member of a shared mailbox hears who may only read it (RFC 5530: NOPERM).
fn only_reading() -> Reply {
    Reply::no(Code::NoPerm, "You may only read this mailbox")
}

/// Whether a command leaves the mailbox as it is, for members who may only read it. What is not in this list is refused to
/// them: a command that comes later has to be put here first.
fn only_reads(command: &Command) -> bool {
    match command {
        Command::Capability
        | Command::Noop
        | Command::Logout
        | Command::Id(_)
        | Command::Enable(_)
        | Command::Login { .. }
        | Command::Authenticate { .. }
        | Command::Select { .. }
        | Command::List(_)
        | Command::Lsub(_)
        | Command::Namespace
        | Command::Status { .. }
        | Command::Idle
        | Command::Check
        // Without a right to change anything there is nothing to expunge: the mailbox is open read-only.
        | Command::Close
        | Command::Unselect
        | Command::Search(_)
        | Command::Sort(_)
        | Command::Thread(_)
        | Command::Fetch { .. } => true,
        Command::Create(_)
        | Command::Delete(_)
        | Command::Rename { .. }
        | Command::Subscribe(_)
        | Command::Unsubscribe(_)
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
