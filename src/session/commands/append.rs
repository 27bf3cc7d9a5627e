//! APPEND (RFC 3501 section 6.3.11, RFC 4315): the message goes from the socket to the disk as it comes.

use super::{Answer, Reply, refuse, split_flags};
use crate::imap::{
    command::AppendHead,
    frame::Step,
    write::{self, Code},
};
use crate::maildir::{Appending, MailError, Maildir};
use crate::session::{Ending, login::Dialog};

pub(super) async fn append(dialog: &mut Dialog, mail: &Maildir, head: AppendHead) -> Answer {
    if head.size == 0 {
        // Nothing to keep; some programs cancel an upload so (RFC 3501 asks for a non-empty message).
        dialog.framer.reject();
        return Ok(Reply::no(Code::Cannot, "An empty message is not kept"));
    }
    let mut appending = match mail.append(head.mailbox.as_str()).await {
        Ok(appending) => appending,
        Err(error) => {
            dialog.framer.reject();
            return Ok(refuse(dialog, &error));
        }
    };
    dialog.framer.accept();
    match receive(dialog, &mut appending).await? {
        Err(reply) => return Ok(reply),
        Ok(Some(error)) => return Ok(refuse(dialog, &error)),
        Ok(None) => {}
    }
    let (flags, keywords) = split_flags(&head.flags);
    let keywords: Vec<&str> = keywords.iter().map(String::as_str).collect();
    match appending.finish(flags, &keywords, head.date).await {
        Ok((uid_validity, uid)) => Ok(Reply::ok("APPEND done").with(Code::AppendUid { uid_validity, uid })),
        Err(error) => Ok(refuse(dialog, &error)),
    }
}

/// Takes the whole literal and the end of the line. After a write that failed the rest is read and dropped: what was
/// announced as a message is never read as commands.
async fn receive(
    dialog: &mut Dialog,
    appending: &mut Appending,
) -> Result<Result<Option<MailError>, Reply>, Ending> {
    let mut failed = None;
    loop {
        match dialog.framer.next() {
            Step::Read => {
                let limit = dialog.house.limits.imap_idle;
                dialog.hear(limit).await?;
            }
            Step::Continue => write::continuation(&mut dialog.wire.out, "Ready"),
            Step::Chunk(bytes) => {
                if failed.is_none() {
                    failed = appending.write(&bytes).await.err();
                }
            }
            Step::AppendEnd => return Ok(Ok(failed)),
            Step::Bad(bad) if bad.fatal => {
                bad.write(&mut dialog.wire.out);
                return Err(Ending::Unreadable(bad.text));
            }
            Step::Bad(bad) => return Ok(Err(Reply::new(bad.status, bad.code, bad.text))),
            // The framer gives nothing else before the message has ended.
            Step::Command(_) | Step::Append(_) => return Err(Ending::Unreadable("command inside a message")),
        }
    }
}
