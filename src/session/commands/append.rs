//! APPEND and REPLACE (RFC 3501 section 6.3.11, RFC 3502, RFC 4315, RFC 8508): the messages go from the socket to the disk
//! as they come, and are delivered together once the command has ended well.

use super::{
    messages,
    news::{Selected, split_flags},
    reply::{Answer, Reply, refuse},
};
use crate::imap::{
    command::{AppendHead, Form, MessageHead, Replaced},
    frame::Step,
    write::{self, Code, Status},
};
use crate::maildir::{Appending, Delivered, MailError, Maildir, Mode, Sealed};
use crate::session::{Ending, login::Dialog};

/// APPEND of any number of messages: all of them, or none.
pub(super) async fn append(dialog: &mut Dialog, mail: &Maildir, head: AppendHead) -> Answer {
    let (before, last) = match receive(dialog, mail, head, None).await? {
        Ok(received) => received,
        Err(reply) => return Ok(reply),
    };
    match last.finish_after(before).await {
        Ok((uid_validity, uids)) => Ok(Reply::ok("APPEND done").with(Code::AppendUid { uid_validity, uids })),
        Err(error) => Ok(refuse(dialog, &error)),
    }
}

/// REPLACE and UID REPLACE. Where the message went is told before the news tell that the old one left (RFC 8508
/// section 3.3).
pub(super) async fn replace(
    dialog: &mut Dialog,
    mail: &Maildir,
    selected: Option<&mut Selected>,
    old: Replaced,
    head: AppendHead,
) -> Answer {
    let Some(selected) = selected else {
        dialog.framer.reject();
        return Ok(Reply::bad("Select a mailbox first"));
    };
    let view = &mut selected.view;
    if let Err(error) = view.wake().await {
        dialog.framer.reject();
        return Ok(refuse(dialog, &error));
    }
    let number = match (old.number, old.uid) {
        (Some(uid), true) => view.seq(uid.get()),
        (Some(number), false) => Some(number.get()).filter(|number| *number <= view.len()),
        (None, _) => Some(view.len()).filter(|number| *number > 0),
    };
    let Some(number) = number else {
        dialog.framer.reject();
        let unknown = Reply::no(Code::NonExistent, "There is no message with that UID");
        return Ok(if old.uid { unknown } else { Reply::bad("No such message number") });
    };
    let replaced = match (view.mode(), view.message(number)) {
        (Mode::ReadOnly, _) => Err(MailError::ReadOnly),
        (_, None) => Err(MailError::Gone { uid: view.uid(number).unwrap_or(0) }),
        (_, Some(meta)) => Ok(meta.size),
    };
    let replaced = match replaced {
        Ok(size) => size,
        Err(error) => {
            dialog.framer.reject();
            return Ok(refuse(dialog, &error));
        }
    };
    // The framer lets no second message through.
    let (_, message) = match receive(dialog, mail, head, Some(replaced)).await? {
        Ok(received) => received,
        Err(reply) => return Ok(reply),
    };
    let replaced = match message.seal().await {
        Ok(message) => view.replace(number, message).await,
        Err(error) => Err(error),
    };
    match replaced {
        Ok((uid_validity, uid)) => {
            let code = Code::AppendUid { uid_validity, uids: vec![uid] };
            write::untagged(&mut dialog.link.wire.out, Status::Ok, Some(&code), "Replacement is there");
            messages::removed(dialog, selected, 1, Reply::ok("REPLACE done")).await
        }
        Err(error) => Ok(refuse(dialog, &error)),
    }
}

/// Takes all messages of the command, of which the last is not sealed yet, and the end of its line; what refuses the
/// command, where something does. After a write that failed the rest of the message is read and dropped: what was
/// announced as a message is never read as commands. `replaced` is the size of the message whose place this one takes.
async fn receive(
    dialog: &mut Dialog,
    mail: &Maildir,
    head: AppendHead,
    replaced: Option<u64>,
) -> Result<Result<(Vec<Sealed>, Current), Reply>, Ending> {
    let mut messages = Vec::new();
    let mut current = match begin(dialog, mail, &head, head.message.clone(), replaced).await {
        Ok(current) => current,
        Err(reply) => return Ok(Err(reply)),
    };
    loop {
        match dialog.framer.next() {
            Step::Read => dialog.hear(dialog.link.house.limits.imap_idle).await?,
            Step::Continue => write::continuation(&mut dialog.link.wire.out, "Ready"),
            Step::Chunk(bytes) => current.write(&bytes).await,
            Step::NextMessage(next) => {
                match current.seal().await {
                    Ok(message) => messages.push(message),
                    Err(error) => {
                        dialog.framer.reject();
                        return Ok(Err(refuse(dialog, &error)));
                    }
                }
                current = match begin(dialog, mail, &head, next, replaced).await {
                    Ok(current) => current,
                    Err(reply) => return Ok(Err(reply)),
                };
            }
            Step::AppendEnd => return Ok(Ok((messages, current))),
            Step::Bad(bad) if bad.fatal => {
                bad.write(&mut dialog.link.wire.out);
                return Err(Ending::Told(bad.text));
            }
            Step::Bad(bad) => return Ok(Err(Reply::new(bad.status, bad.code, bad.text))),
            // The framer gives nothing else before the messages have ended.
            Step::Command(_) | Step::Append(_) => return Err(Ending::Told("command inside a message")),
        }
    }
}

/// A message on its way in.
struct Current {
    appending: Appending,
    head: MessageHead,
    failed: Option<MailError>,
}

/// Takes a message that was announced, or does not: it is not sent if there is no room for it.
async fn begin(
    dialog: &mut Dialog,
    mail: &Maildir,
    head: &AppendHead,
    message: MessageHead,
    replaced: Option<u64>,
) -> Result<Current, Reply> {
    let refused = match message.form {
        // Some programs cancel an upload so (RFC 3502 section 3).
        _ if message.size == 0 => Some(Reply::no(Code::Cannot, "An empty message is not kept")),
        Form::Utf8 if !dialog.enabled.utf8 => Some(Reply::bad("UTF8 needs ENABLE UTF8=ACCEPT first")),
        _ => None,
    };
    let begun = match refused {
        Some(reply) => Err(reply),
        None => {
            let begun = mail.append_sized(head.mailbox.as_str(), message.size, replaced).await;
            begun.map_err(|error| refuse(dialog, &error))
        }
    };
    match begun {
        Ok(appending) => {
            dialog.framer.accept();
            Ok(Current { appending, head: message, failed: None })
        }
        Err(reply) => {
            dialog.framer.reject();
            Err(reply)
        }
    }
}

impl Current {
    async fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.appending.write(bytes).await.err();
        }
    }

    async fn seal(self) -> Result<Sealed, MailError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let (flags, keywords) = split_flags(&self.head.flags);
        let keywords: Vec<&str> = keywords.iter().map(String::as_str).collect();
        self.appending.seal(flags, &keywords, self.head.date).await
    }

    /// Delivers it together with those that came before.
    async fn finish_after(self, before: Vec<Sealed>) -> Result<Delivered, MailError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let (flags, keywords) = split_flags(&self.head.flags);
        let keywords: Vec<&str> = keywords.iter().map(String::as_str).collect();
        self.appending.finish_after(before, flags, &keywords, self.head.date).await
    }
}
