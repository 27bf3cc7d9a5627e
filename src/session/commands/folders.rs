//! STATUS, and making, removing, renaming and subscribing mailboxes (RFC 3501 section 6.3, RFC 8438).

use super::reply::{Answer, Reply, refuse};
use crate::imap::{
    command::StatusItem,
    mailbox::MailboxName,
    write::{self, Code},
};
use crate::maildir::{MailError, Maildir};
use crate::session::login::Dialog;

pub(super) async fn status(
    dialog: &mut Dialog,
    mail: &Maildir,
    name: &MailboxName,
    items: &[StatusItem],
) -> Answer {
    let put = put_status(dialog, mail, name.as_str(), items).await;
    Ok(done(dialog, put, "STATUS done"))
}

/// Writes the STATUS response of a mailbox.
pub(super) async fn put_status(
    dialog: &mut Dialog,
    mail: &Maildir,
    name: &str,
    items: &[StatusItem],
) -> Result<(), MailError> {
    let found = mail.status(name).await?;
    let most = dialog.link.house.limits.frame.append;
    let value = |item: &StatusItem| match item {
        StatusItem::Messages => u64::from(found.messages),
        StatusItem::Recent => u64::from(found.recent),
        StatusItem::UidNext => u64::from(found.uid_next),
        StatusItem::UidValidity => u64::from(found.uid_validity),
        StatusItem::Unseen => u64::from(found.unseen),
        StatusItem::Size => found.size,
        StatusItem::AppendLimit => most,
    };
    write::status(&mut dialog.link.wire.out, name, items.iter().map(|item| (*item, value(item))));
    Ok(())
}

pub(super) async fn create(dialog: &mut Dialog, mail: &Maildir, name: &MailboxName) -> Answer {
    if name.is_inbox() {
        return Ok(Reply::no(Code::AlreadyExists, "INBOX always exists"));
    }
    let made = mail.create(name.as_str()).await;
    Ok(done(dialog, made, "CREATE done"))
}

pub(super) async fn delete(dialog: &mut Dialog, mail: &Maildir, name: &MailboxName) -> Answer {
    if name.is_inbox() {
        return Ok(Reply::no(Code::Cannot, "INBOX cannot be deleted"));
    }
    let deleted = mail.delete(name.as_str()).await;
    Ok(done(dialog, deleted, "DELETE done"))
}

pub(super) async fn rename(dialog: &mut Dialog, mail: &Maildir, from: &MailboxName, to: &MailboxName) -> Answer {
    let renamed = mail.rename(from.as_str(), to.as_str()).await;
    Ok(done(dialog, renamed, "RENAME done"))
}

pub(super) async fn subscribe(dialog: &mut Dialog, mail: &Maildir, name: &MailboxName, on: bool) -> Answer {
    let noted = mail.subscribe(name.as_str(), on).await;
    Ok(done(dialog, noted, if on { "SUBSCRIBE done" } else { "UNSUBSCRIBE done" }))
}

fn done(dialog: &Dialog, result: Result<(), MailError>, text: &'static str) -> Reply {
    match result {
        Ok(()) => Reply::ok(text),
        Err(error) => refuse(dialog, &error),
    }
}
