//! SELECT, EXAMINE and CLOSE (RFC 3501 sections 6.3.1, 6.3.2, 6.4.2).

use super::{Answer, Reply, refuse};
use crate::imap::{
    mailbox::MailboxName,
    write::{self, Code, Status},
};
use crate::maildir::{Flags, Maildir, Mode, View};
use crate::session::{Ending, login::Dialog};

/// Opens a mailbox; the untagged answers are written, the tagged one is given back with the view.
pub(super) async fn select(
    dialog: &mut Dialog,
    mail: &Maildir,
    mailbox: &MailboxName,
    read_only: bool,
) -> Result<Result<(View, Reply), Reply>, Ending> {
    let mode = if read_only { Mode::ReadOnly } else { Mode::ReadWrite };
    let view = match mail.view(mailbox.as_str(), mode).await {
        Ok(view) => view,
        Err(error) => return Ok(Err(refuse(dialog, &error))),
    };
    let keywords = view.keywords();
    let names: Vec<&str> = Flags::EVERY
        .names()
        .map(|name| -> &str { name })
        .chain(keywords.iter().map(|keyword| &**keyword))
        .collect();
    let out = &mut dialog.wire.out;
    write::flags(out, names.iter().copied());
    write::exists(out, view.len());
    write::recent(out, view.recent());
    if let Some(number) = view.first_unseen() {
        write::untagged(out, Status::Ok, Some(&Code::Unseen(number)), "First unseen message");
    }
    let permanent: Vec<&str> = if read_only { Vec::new() } else { names };
    let permanent = Code::PermanentFlags { flags: &permanent, new_keywords: !read_only };
    write::untagged(out, Status::Ok, Some(&permanent), "Flags that are kept");
    write::untagged(out, Status::Ok, Some(&Code::UidValidity(view.uid_validity())), "UIDs are valid");
    write::untagged(out, Status::Ok, Some(&Code::UidNext(view.uid_next())), "Next UID");
    let (code, text) = match read_only {
        true => (Code::ReadOnly, "EXAMINE done"),
        false => (Code::ReadWrite, "SELECT done"),
    };
    Ok(Ok((view, Reply::ok(text).with(code))))
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
