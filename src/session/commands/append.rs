//! APPEND (RFC 3501 section 6.3.11, RFC 4315): the message goes from the socket to the disk as it comes.

use super::{
    news::split_flags,
    reply::{Answer, Reply, refuse},
};
use crate::imap::{
    command::AppendHead,
    frame::Step,
    write::{self, Code},
};
use crate::maildir::{Appending, MailError, Maildir};
use crate::session::{Ending, login::Dialog};

pub(super) async fn append(dialog: &mut Dialog, mail: &Maildir, head: AppendHead) -> Answer {
    if head.size == 0 {
        // Nothing to keep; some programs cancel an upload so (RFC 3502 section 3).
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
        Received::Whole => {}
        Received::Unkept(error) => return Ok(refuse(dialog, &error)),
        Received::Refused(reply) => return Ok(reply),
    }
    let (flags, keywords) = split_flags(&head.flags);
    let keywords: Vec<&str> = keywords.iter().map(String::as_str).collect();
    match appending.finish(flags, &keywords, head.date).await {
        Ok((uid_validity, uid)) => Ok(Reply::ok("APPEND done").with(Code::AppendUid { uid_validity, uid })),
        Err(error) => Ok(refuse(dialog, &error)),
    }
}

/// What became of a message on its way in.
enum Received {
    /// All of it is in the store's hands.
    Whole,
    /// All of it came; the store could not take it.
    Unkept(MailError),
    /// It was no message, or something follows it.
    Refused(Reply),
}

/// Takes the whole literal and the end of the line. After a write that failed the rest is read and dropped: what was
/// announced as a message is never read as commands.
async fn receive(dialog: &mut Dialog, appending: &mut Appending) -> Result<Received, Ending> {
    let mut failed = None;
    loop {
        match dialog.framer.next() {
            Step::Read => dialog.hear(dialog.link.house.limits.imap_idle).await?,
            Step::Continue => write::continuation(&mut dialog.link.wire.out, "Ready"),
            Step::Chunk(bytes) => {
                if failed.is_none() {
                    failed = appending.write(&bytes).await.err();
                }
            }
            Step::AppendEnd => return Ok(failed.map_or(Received::Whole, Received::Unkept)),
            Step::Bad(bad) if bad.fatal => {
                bad.write(&mut dialog.link.wire.out);
                return Err(Ending::Told(bad.text));
            }
            Step::Bad(bad) => return Ok(Received::Refused(Reply::new(bad.status, bad.code, bad.text))),
            // The framer gives nothing else before the message has ended.
            Step::Command(_) | Step::Append(_) => return Err(Ending::Told("command inside a message")),
        }
    }
}
