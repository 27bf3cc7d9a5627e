//! STATUS, and making, removing, renaming and subscribing mailboxes (RFC 3501 section 6.3, RFC 6154, 8438, 8474).

use super::reply::{Answer, Reply, refuse};
use crate::imap::{
    command::StatusItem,
    mailbox::MailboxName,
    write::{self, Code},
};
use crate::maildir::{MailError, Maildir, SpecialUse, Status};
use crate::session::login::Dialog;

pub(super) async fn status(
    dialog: &mut Dialog,
    mail: &Maildir,
    name: &MailboxName,
    items: &[StatusItem],
) -> Answer {
    let found = counted(mail, name.as_str(), items).await;
    Ok(match found {
        Ok(found) => {
            put_status(dialog, name.as_str(), items, &found);
            Reply::ok("STATUS done")
        }
        Err(error) => refuse(dialog, &error),
    })
}

/// What a mailbox has of these items.
pub(super) async fn counted(mail: &Maildir, name: &str, items: &[StatusItem]) -> Result<Status, MailError> {
    let sizes = items.iter().any(|item| matches!(item, StatusItem::Size | StatusItem::DeletedStorage));
    if sizes { mail.measured_status(name).await } else { mail.status(name).await }
}

/// Writes the STATUS response of a mailbox.
pub(super) fn put_status(dialog: &mut Dialog, name: &str, items: &[StatusItem], found: &Status) {
    let most = dialog.link.house.limits.frame.append;
    let value = |item: &StatusItem| match item {
        StatusItem::Messages => u64::from(found.messages),
        StatusItem::Recent => u64::from(found.recent),
        StatusItem::UidNext => u64::from(found.uid_next),
        StatusItem::UidValidity => u64::from(found.uid_validity),
        StatusItem::Unseen => u64::from(found.unseen),
        StatusItem::Size => found.size,
        StatusItem::AppendLimit => most,
        StatusItem::Deleted => u64::from(found.deleted),
        StatusItem::DeletedStorage => found.deleted_size,
        StatusItem::HighestModseq => found.highest_modseq,
        StatusItem::MailboxId => u64::from(found.mailbox_id),
    };
    let names = dialog.enabled.names();
    write::status(&mut dialog.link.wire.out, name, names, items.iter().map(|item| (*item, value(item))));
}

pub(super) async fn create(dialog: &mut Dialog, mail: &Maildir, name: &MailboxName, uses: &[String]) -> Answer {
    if name.is_inbox() {
        return Ok(Reply::no(Code::AlreadyExists, "INBOX always exists"));
    }
    let mut special = Vec::with_capacity(uses.len());
    for attribute in uses {
        match SpecialUse::from_attribute(attribute) {
            Some(known) => special.push(known),
            None => return Ok(Reply::no(Code::UseAttr, "No mailbox can have that use here")),
        }
    }
    if let Err(error) = mail.create_for(name.as_str(), &special).await {
        return Ok(refuse(dialog, &error));
    }
    Ok(match mail.mailbox_id(name.as_str()).await {
        Ok(id) => Reply::ok("CREATE done").with(Code::MailboxId(id)),
        // It is made all the same.
        Err(error) => {
            dialog.link.note(&error);
            Reply::ok("CREATE done")
        }
    })
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
