//! SELECT, EXAMINE and CLOSE (RFC 3501 sections 6.3.1, 6.3.2, 6.4.2, RFC 7162 section 3.1.2, RFC 9051 section 6.3.2).

use super::{
    news::Selected,
    reply::{Answer, Reply, refuse},
};
use crate::imap::{
    mailbox::MailboxName,
    write::{self, Code, ListLine, Status},
};
use crate::maildir::{Maildir, Mode, View};
use crate::session::login::Dialog;

/// How a mailbox is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// EXAMINE.
    Examine,
    /// SELECT by somebody who may only read the mailbox.
    SelectToRead,
    /// SELECT.
    Select,
}

/// Opens a mailbox; the untagged answers are written, the tagged one is given back with the view.
pub(super) async fn select(
    dialog: &mut Dialog,
    mail: &Maildir,
    mailbox: &MailboxName,
    how: How,
) -> Result<(Selected, Reply), Reply> {
    let rev2 = dialog.enabled.rev2;
    let mode = if how == How::Select { Mode::ReadWrite } else { Mode::ReadOnly };
    let view = mail.view(mailbox.as_str(), mode).await.map_err(|error| refuse(dialog, &error))?;
    let mut selected = Selected::new(view);
    let names = dialog.enabled.names();
    let out = &mut dialog.link.wire.out;
    if rev2 {
        selected.view.hide_recent();
    }
    selected.tell_flags(out);
    let view = &selected.view;
    write::exists(out, view.len());
    if rev2 {
        // Neither RECENT nor UNSEEN; the name as LIST shows it (RFC 9051 section 6.3.2).
        write::list(out, &ListLine { name: mailbox.as_str(), names, ..ListLine::default() });
    } else {
        write::recent(out, view.recent());
        if let Some(number) = view.first_unseen() {
            write::untagged(out, Status::Ok, Some(&Code::Unseen(number)), "First unseen message");
        }
    }
    write::untagged(out, Status::Ok, Some(&Code::UidValidity(view.uid_validity())), "UIDs are valid");
    write::untagged(out, Status::Ok, Some(&Code::UidNext(view.uid_next())), "Next UID");
    write::untagged(out, Status::Ok, Some(&Code::MailboxId(view.mailbox_id())), "Its identity");
    let highest = Code::HighestModseq(view.told_modseq());
    write::untagged(out, Status::Ok, Some(&highest), "Highest mod-sequence");
    let (code, text) = match how {
        How::Examine => (Code::ReadOnly, "EXAMINE done"),
        How::SelectToRead => (Code::ReadOnly, "SELECT done; you may only read this mailbox"),
        How::Select => (Code::ReadWrite, "SELECT done"),
    };
    Ok((selected, Reply::ok(text).with(code)))
}

/// CLOSE removes what is marked `\Deleted`, silently, unless the mailbox was only examined.
pub(super) async fn close(dialog: &mut Dialog, view: &mut View) -> Answer {
    if view.mode() == Mode::ReadOnly {
        return Ok(Reply::ok("CLOSE done"));
    }
    match view.expunge(None).await {
        Ok(_) => Ok(Reply::ok("CLOSE done")),
        Err(error) => Ok(refuse(dialog, &error)),
    }
}
