//! What a command's handler gives back, and what the mail store's refusals are called on the wire. Used by all files of
//! this folder.

use std::borrow::Cow;

use crate::imap::write::{self, Code, Status};
use crate::maildir::{CopyUid, MailError};
use crate::session::{Ending, login::Dialog};

/// What a handler gives back: an answer, or the end of the session.
pub(super) type Answer = Result<Reply, Ending>;

/// The tagged answer to a command.
pub(super) struct Reply {
    pub(super) status: Status,
    pub(super) code: Option<Code<'static>>,
    /// Where COPY put messages; told instead of `code`.
    pub(super) copied: Option<Copied>,
    pub(super) text: Cow<'static, str>,
}

/// COPYUID (RFC 4315 section 3).
pub(super) struct Copied {
    uid_validity: u32,
    source: Vec<u32>,
    target: Vec<u32>,
}

impl Copied {
    /// None if nothing was copied: an empty set cannot be written.
    pub(super) fn new(copied: CopyUid) -> Option<Self> {
        let (source, target): (Vec<u32>, Vec<u32>) = copied.uids.into_iter().unzip();
        (!source.is_empty()).then_some(Self { uid_validity: copied.uid_validity, source, target })
    }

    pub(super) fn code(&self) -> Code<'_> {
        Code::CopyUid { uid_validity: self.uid_validity, source: &self.source, target: &self.target }
    }
}

impl Reply {
    pub(super) fn new(status: Status, code: Option<Code<'static>>, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, copied: None, text: text.into() }
    }

    pub(super) fn ok(text: &'static str) -> Self {
        Self::new(Status::Ok, None, text)
    }

    pub(super) fn no(code: Code<'static>, text: &'static str) -> Self {
        Self::new(Status::No, Some(code), text)
    }

    pub(super) fn bad(text: &'static str) -> Self {
        Self::new(Status::Bad, None, text)
    }

    pub(super) fn with(mut self, code: Code<'static>) -> Self {
        self.code = Some(code);
        self
    }

    /// UIDs of messages that the command put into the mailbox with this UIDVALIDITY.
    pub(super) fn own(&self, mailbox: u32) -> &[u32] {
        match (&self.copied, &self.code) {
            (Some(copied), _) if copied.uid_validity == mailbox => &copied.target,
            (_, Some(Code::AppendUid { uid_validity, uids })) if *uid_validity == mailbox => uids,
            _ => &[],
        }
    }

    /// Writes the line that ends the command.
    pub(super) fn write(&self, dialog: &mut Dialog, tag: &str) {
        let copied = self.copied.as_ref().map(Copied::code);
        let code = copied.as_ref().or(self.code.as_ref());
        write::tagged(&mut dialog.link.wire.out, tag, self.status, code, &self.text);
    }
}

/// The answer to a command that the mail store did not carry out: a fixed text; the details go to the log.
pub(super) fn refuse(dialog: &Dialog, error: &MailError) -> Reply {
    dialog.link.note(error);
    refusal(error)
}

fn refusal(error: &MailError) -> Reply {
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
        MailError::UseTaken { attribute } => {
            Reply::new(Status::No, Some(Code::UseAttr), format!("Another mailbox is used as {attribute}"))
        }
        MailError::AnnotationTooBig { most } => {
            Reply::no(Code::MetadataMaxSize(*most), "The annotation is too large")
        }
        MailError::TooManyAnnotations { .. } => Reply::no(Code::MetadataTooMany, "No more annotations here"),
        MailError::Locked => Reply::no(Code::InUse, "The mailbox is in use"),
        MailError::ReadOnly => Reply::no(Code::ReadOnly, "The mailbox is open read-only"),
        MailError::Gone { .. } => Reply::no(Code::ExpungeIssued, "Some of the messages are gone"),
        MailError::FolderGone => Reply::no(Code::NonExistent, "The mailbox is gone"),
        MailError::Io { .. } | MailError::Damaged { .. } | MailError::Fault { .. } => {
            Reply::no(Code::ServerBug, "The mail store failed; the administrator's log says more")
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_the_disk_says_has_the_code_that_says_who_can_mend_it() {
        let doing = "saving a message";
        for (error, code) in [
            (MailError::OverQuota, Code::OverQuota),
            (MailError::NoSpace { doing }, Code::Unavailable),
            (MailError::Io { doing, source: Errno::IO }, Code::ServerBug),
            (MailError::Damaged { what: "it" }, Code::ServerBug),
            (MailError::Fault { doing }, Code::ServerBug),
            (MailError::Locked, Code::InUse),
            (MailError::FolderGone, Code::NonExistent),
        ] {
            let reply = refusal(&error);
            assert_eq!((reply.status, reply.code), (Status::No, Some(code)), "{error:?}");
        }
    }
}
