//! The IMAP commands after the sign-in, one file a family. `serve` reads commands and dispatches; each handler gets
//! the open view or the owner's mail, never a stage it has to check. Called by `imap`.

mod append;
mod fetch;
mod folders;
mod idle;
mod messages;
mod search;
mod select;
mod structure;

use std::borrow::Cow;

use tracing::{error, warn};

use super::{Ending, login::Dialog};
use crate::imap::{
    command::{Command, Flag, Tagged},
    frame::Step,
    write::{self, Code, Status},
};
use crate::maildir::{CopyUid, Flags, MailError, Maildir, Meta, Update, View};
use crate::model::Blame;
use crate::policy::Permit;

/// Where a signed-in session stands (RFC 3501 section 3).
enum Stage {
    /// No mailbox is open.
    Admitted,
    /// One is.
    Open(Box<View>),
}

/// A signed-in session.
struct Stay<'d> {
    dialog: &'d mut Dialog,
    mail: Maildir,
    stage: Stage,
}

/// The tagged answer to a command.
struct Reply {
    status: Status,
    code: Option<Code<'static>>,
    /// Where COPY put messages; told instead of `code`.
    copied: Option<Copied>,
    text: Cow<'static, str>,
}

/// COPYUID (RFC 4315 section 3).
struct Copied {
    uid_validity: u32,
    source: Vec<u32>,
    target: Vec<u32>,
}

impl Copied {
    /// None if nothing was copied: an empty set cannot be written.
    fn new(copied: CopyUid) -> Option<Self> {
        let (source, target): (Vec<u32>, Vec<u32>) = copied.uids.into_iter().unzip();
        (!source.is_empty()).then_some(Self { uid_validity: copied.uid_validity, source, target })
    }

    fn code(&self) -> Code<'_> {
        Code::CopyUid { uid_validity: self.uid_validity, source: &self.source, target: &self.target }
    }
}

impl Reply {
    fn new(status: Status, code: Option<Code<'static>>, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, copied: None, text: text.into() }
    }

    fn ok(text: &'static str) -> Self {
        Self::new(Status::Ok, None, text)
    }

    fn no(code: Code<'static>, text: &'static str) -> Self {
        Self::new(Status::No, Some(code), text)
    }

    fn bad(text: &'static str) -> Self {
        Self::new(Status::Bad, None, text)
    }

    fn with(mut self, code: Code<'static>) -> Self {
        self.code = Some(code);
        self
    }
}

/// What a handler gives back: an answer, or the end of the session.
type Answer = Result<Reply, Ending>;

/// Serves one signed-in session until it ends.
pub(super) async fn serve(dialog: &mut Dialog, permit: Permit) -> Ending {
    let opened = dialog.house.mail.open(&permit).await;
    let mail = match opened {
        Ok(mail) => mail,
        Err(error) => {
            let reply = refuse(dialog, &error);
            write::untagged(&mut dialog.wire.out, Status::Bye, reply.code.as_ref(), &reply.text);
            return Ending::Unreadable("mailbox cannot be opened");
        }
    };
    let mut stay = Stay { dialog, mail, stage: Stage::Admitted };
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
                let limit = self.dialog.house.limits.imap_idle;
                self.dialog.hear(limit).await
            }
            Step::Continue => {
                write::continuation(&mut self.dialog.wire.out, "Ready");
                Ok(())
            }
            Step::Bad(bad) => self.dialog.misunderstood(&bad),
            // Pieces of a message come only while `append` asks for them.
            Step::Chunk(_) | Step::AppendEnd => Ok(()),
            Step::Append(head) => {
                self.dialog.may_go_on()?;
                let tag = head.tag.clone();
                let reply = Box::pin(append::append(self.dialog, &self.mail, head)).await?;
                self.answer(&tag, reply, true).await
            }
            Step::Command(Tagged { tag, command }) => {
                self.dialog.may_go_on()?;
                if let Stage::Open(view) = &self.stage
                    && view.wake().await.is_err()
                {
                    return Err(mailbox_gone(self.dialog));
                }
                // No sequence number may change under these three (RFC 3501 section 7.4.1).
                let may_expunge =
                    !matches!(&command, Command::Fetch { uid: false, .. } | Command::Store { uid: false, .. })
                        && !matches!(&command, Command::Search(search) if !search.uid);
                match Box::pin(self.dispatch(&tag, command)).await? {
                    Some(reply) => self.answer(&tag, reply, may_expunge).await,
                    None => Ok(()),
                }
            }
        }
    }

    /// Runs one command; none if it has been answered already.
    async fn dispatch(&mut self, tag: &str, command: Command) -> Result<Option<Reply>, Ending> {
        let Self { dialog, mail, stage } = self;
        let reply = match (command, stage) {
            (command @ (Command::Capability | Command::Logout | Command::Id(_)), _) => {
                dialog.anytime(tag, command)?;
                return Ok(None);
            }
            (Command::Noop, Stage::Admitted) => Reply::ok("NOOP done"),
            (Command::Noop | Command::Check, Stage::Open(view)) => match view.poll().await {
                Ok(()) => Reply::ok("Done"),
                Err(error) => refuse(dialog, &error),
            },
            (Command::Login | Command::Authenticate { .. }, _) => Reply::bad("Already signed in"),
            (Command::Enable(_), _) => {
                // Nothing that is offered has to be enabled first (RFC 5161 section 3.1).
                write::enabled(&mut dialog.wire.out, []);
                Reply::ok("ENABLE done")
            }
            (Command::Namespace, _) => {
                write::namespace(&mut dialog.wire.out);
                Reply::ok("NAMESPACE done")
            }
            (Command::List(list), _) => folders::list(dialog, mail, list).await?,
            (Command::Lsub(pattern), _) => folders::lsub(dialog, mail, &pattern).await?,
            (Command::Status { mailbox, items }, _) => folders::status(dialog, mail, &mailbox, &items).await?,
            (Command::Create(name), _) => folders::create(dialog, mail, &name).await?,
            (Command::Delete(name), _) => folders::delete(dialog, mail, &name).await?,
            (Command::Rename { from, to }, _) => folders::rename(dialog, mail, &from, &to).await?,
            (Command::Subscribe(name), _) => folders::subscribe(dialog, mail, &name, true).await?,
            (Command::Unsubscribe(name), _) => folders::subscribe(dialog, mail, &name, false).await?,
            (Command::Select { mailbox, read_only }, stage) => {
                // A SELECT that fails leaves no mailbox open (RFC 3501 section 6.3.1).
                *stage = Stage::Admitted;
                match select::select(dialog, mail, &mailbox, read_only).await? {
                    Ok((view, reply)) => {
                        *stage = Stage::Open(Box::new(view));
                        // Its untagged answers are complete; a look for news would only repeat them.
                        self.tagged(tag, &reply);
                        return Ok(None);
                    }
                    Err(reply) => reply,
                }
            }
            (Command::Idle, stage) => {
                let view = match stage {
                    Stage::Open(view) => Some(&mut **view),
                    Stage::Admitted => None,
                };
                idle::idle(dialog, view).await?
            }
            (command, Stage::Open(view)) => match command {
                Command::Close => {
                    let reply = select::close(dialog, view).await?;
                    self.stage = Stage::Admitted;
                    reply
                }
                Command::Unselect => {
                    self.stage = Stage::Admitted;
                    Reply::ok("UNSELECT done")
                }
                Command::Expunge(set) => messages::expunge(dialog, view, set.as_ref()).await?,
                Command::Search(search) => search::search(dialog, view, &search).await?,
                Command::Fetch { set, items, uid } => fetch::fetch(dialog, view, &set, &items, uid).await?,
                Command::Store { set, kind, silent, flags, uid } => {
                    let change = messages::Change { kind, silent, flags: &flags };
                    messages::store(dialog, view, &set, &change, uid).await?
                }
                Command::Copy { set, mailbox, uid } => messages::copy(dialog, view, &set, &mailbox, uid).await?,
                Command::Move { set, mailbox, uid } => messages::r#move(dialog, view, &set, &mailbox, uid).await?,
                _ => Reply::bad("Not now"),
            },
            (_, Stage::Admitted) => Reply::bad("Select a mailbox first"),
        };
        Ok(Some(reply))
    }

    /// Tells the news of the open mailbox, then the tagged line.
    async fn answer(&mut self, tag: &str, reply: Reply, may_expunge: bool) -> Result<(), Ending> {
        let mut gone = false;
        if let Stage::Open(view) = &mut self.stage {
            tell_news(self.dialog, view, may_expunge);
            gone = view.is_gone();
        }
        self.tagged(tag, &reply);
        if gone { Err(mailbox_gone(self.dialog)) } else { Ok(()) }
    }

    fn tagged(&mut self, tag: &str, reply: &Reply) {
        let copied = reply.copied.as_ref().map(Copied::code);
        let code = copied.as_ref().or(reply.code.as_ref());
        write::tagged(&mut self.dialog.wire.out, tag, reply.status, code, &reply.text);
    }
}

/// The open mailbox was deleted, or cannot be read any more: nothing could be answered truly from now on.
fn mailbox_gone(dialog: &mut Dialog) -> Ending {
    let text = "The open mailbox is gone; connect again";
    write::untagged(&mut dialog.wire.out, Status::Bye, Some(&Code::NonExistent), text);
    Ending::Unreadable("open mailbox is gone")
}

/// Writes what changed in the open mailbox since the peer was last told.
fn tell_news(dialog: &mut Dialog, view: &mut View, may_expunge: bool) {
    let out = &mut dialog.wire.out;
    for update in view.sync(may_expunge) {
        match update {
            Update::Exists(count) => write::exists(out, count),
            Update::Recent(count) => write::recent(out, count),
            Update::Expunged(number) => write::expunge(out, number),
            Update::Flags(number) => {
                if let Some(meta) = view.message(number) {
                    let mut line = write::FetchLine::start(out, number);
                    line.uid(out, meta.uid);
                    line.flags(out, flag_names(&meta));
                    line.end(out);
                }
            }
        }
    }
}

/// `\Seen`, `$Junk`, ..., `\Recent`.
fn flag_names(meta: &Meta) -> impl Iterator<Item = &str> {
    let recent = meta.recent.then_some("\\Recent");
    let system = meta.flags.names().map(|name| -> &str { name });
    system.chain(meta.keywords.iter().map(|keyword| &**keyword)).chain(recent)
}

/// Splits what STORE or APPEND asks for into system flags and keywords; `\Recent` and flags nobody knows are dropped.
fn split_flags(wanted: &[Flag<'static>]) -> (Flags, Vec<String>) {
    let mut flags = Flags::NONE;
    let mut keywords = Vec::new();
    for flag in wanted {
        let name = flag.to_string();
        match Flags::from_name(&name) {
            Some(flag) => flags = flags.union(flag),
            None if name.starts_with('\\') => {}
            None => keywords.push(name),
        }
    }
    (flags, keywords)
}

/// The answer to a command that the mail store did not carry out: a fixed text; the details go to the log.
fn refuse(dialog: &Dialog, error: &MailError) -> Reply {
    let session = dialog.visitor.session;
    match error.blame() {
        Blame::Peer => {}
        Blame::Dependency => warn!(%session, %error, cause = ?error, "mail store"),
        Blame::Us => error!(%session, %error, "mail store"),
    }
    match error {
        MailError::NoSuchFolder { .. } => Reply::no(Code::NonExistent, "No such mailbox"),
        MailError::TryCreate { .. } => Reply::no(Code::TryCreate, "No such mailbox; create it first"),
        MailError::AlreadyExists { .. } => Reply::no(Code::AlreadyExists, "That mailbox exists already"),
        MailError::HasChildren { .. } => Reply::no(Code::HasChildren, "Other mailboxes are below it"),
        MailError::InvalidName { problem, .. } => {
            Reply::new(Status::No, Some(Code::Cannot), format!("The name {problem}"))
        }
        MailError::Limit { what, most } => {
            Reply::new(Status::No, Some(Code::Limit), format!("No more than {most} {what}"))
        }
        MailError::TooBig { .. } => Reply::no(Code::TooBig, "The message is too large"),
        MailError::OverQuota => Reply::no(Code::OverQuota, "The quota is used up"),
        MailError::NoSpace { .. } => Reply::no(Code::Unavailable, "No space left; try again later"),
        MailError::Locked => Reply::no(Code::InUse, "The mailbox is in use"),
        MailError::ReadOnly => Reply::no(Code::ReadOnly, "The mailbox is open read-only"),
        MailError::Gone { .. } => Reply::no(Code::ExpungeIssued, "Some of the messages are gone"),
        MailError::FolderGone => Reply::no(Code::NonExistent, "The mailbox is gone"),
        MailError::Io { .. } | MailError::Damaged { .. } | MailError::Fault { .. } => {
            Reply::no(Code::ServerBug, "The mail store failed; the administrator's log says more")
        }
    }
}
