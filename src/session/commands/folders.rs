//! LIST, LSUB, STATUS, and making, removing, renaming and subscribing mailboxes (RFC 3501 section 6.3, RFC 5258,
//! RFC 5819, RFC 6154).

use std::collections::BTreeMap;

use super::{Answer, Reply, refuse};
use crate::imap::{
    command::{List, StatusItem},
    mailbox::{MailboxName, Pattern},
    write::{self, Code, ListLine},
};
use crate::maildir::{Folder, Maildir};
use crate::session::login::Dialog;

pub(super) async fn list(dialog: &mut Dialog, mail: &Maildir, list: List) -> Answer {
    if !list.extended && list.patterns.iter().all(Pattern::is_empty) {
        write::list_separator(&mut dialog.wire.out);
        return Ok(Reply::ok("LIST done"));
    }
    let folders = match mail.list().await {
        Ok(folders) => folders,
        Err(error) => return Ok(refuse(dialog, &error)),
    };
    for folder in &folders {
        if !list.patterns.iter().any(|pattern| pattern.matches(&folder.name)) {
            continue;
        }
        let below = list.select.recursive_match && subscribed_below(&folders, &list.patterns, &folder.name);
        if (list.select.subscribed && !folder.subscribed && !below)
            || (list.select.special_use && folder.special_use.is_none())
        {
            continue;
        }
        let mut attributes = attributes(folder);
        if folder.subscribed && (list.select.subscribed || list.give.subscribed) {
            attributes.push("\\Subscribed");
        }
        let line = ListLine { name: &folder.name, attributes: &attributes, subscribed_below: below };
        write::list(&mut dialog.wire.out, &line);
        if !list.give.status.is_empty() && folder.selectable {
            // A mailbox that cannot be looked into is listed without its numbers (RFC 5819 section 2).
            let _ = put_status(dialog, mail, &folder.name, &list.give.status).await;
        }
        dialog.wire.push().await?;
    }
    Ok(Reply::ok("LIST done"))
}

/// Whether something subscribed lies below `name` that the patterns do not show by itself (RFC 5258 section 3.5).
fn subscribed_below(folders: &[Folder], patterns: &[Pattern], name: &str) -> bool {
    folders.iter().any(|other| {
        other.subscribed
            && other.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
            && !patterns.iter().any(|pattern| pattern.matches(&other.name))
    })
}

fn attributes(folder: &Folder) -> Vec<&'static str> {
    let mut attributes = Vec::with_capacity(3);
    if !folder.selectable {
        attributes.push("\\Noselect");
    }
    attributes.push(if folder.has_children { "\\HasChildren" } else { "\\HasNoChildren" });
    attributes.extend(folder.special_use.map(|r#use| r#use.attribute()));
    attributes
}

/// LSUB: subscribed mailboxes; with `%` also a parent of one that the pattern does not reach (RFC 3501 section 6.3.9).
pub(super) async fn lsub(dialog: &mut Dialog, mail: &Maildir, pattern: &Pattern) -> Answer {
    let folders = match mail.list().await {
        Ok(folders) => folders,
        Err(error) => return Ok(refuse(dialog, &error)),
    };
    let mut lines: BTreeMap<&str, bool> = BTreeMap::new();
    for folder in folders.iter().filter(|folder| folder.subscribed) {
        if pattern.matches(&folder.name) {
            lines.insert(&folder.name, true);
            continue;
        }
        let mut above = folder.name.as_str();
        while let Some((parent, _)) = above.rsplit_once('/') {
            if pattern.matches(parent) {
                lines.entry(parent).or_insert(false);
                break;
            }
            above = parent;
        }
    }
    for (name, subscribed) in lines {
        let attributes: &[&str] = if subscribed { &[] } else { &["\\Noselect"] };
        write::lsub(&mut dialog.wire.out, &ListLine { name, attributes, subscribed_below: false });
        dialog.wire.push().await?;
    }
    Ok(Reply::ok("LSUB done"))
}

pub(super) async fn status(
    dialog: &mut Dialog,
    mail: &Maildir,
    name: &MailboxName,
    items: &[StatusItem],
) -> Answer {
    match put_status(dialog, mail, name.as_str(), items).await {
        Ok(()) => Ok(Reply::ok("STATUS done")),
        Err(reply) => Ok(reply),
    }
}

async fn put_status(dialog: &mut Dialog, mail: &Maildir, name: &str, items: &[StatusItem]) -> Result<(), Reply> {
    let found = mail.status(name).await.map_err(|error| refuse(dialog, &error))?;
    let value = |item: &StatusItem| match item {
        StatusItem::Messages => u64::from(found.messages),
        StatusItem::Recent => u64::from(found.recent),
        StatusItem::UidNext => u64::from(found.uid_next),
        StatusItem::UidValidity => u64::from(found.uid_validity),
        StatusItem::Unseen => u64::from(found.unseen),
        StatusItem::Size => found.size,
    };
    write::status(&mut dialog.wire.out, name, items.iter().map(|item| (*item, value(item))));
    Ok(())
}

pub(super) async fn create(dialog: &mut Dialog, mail: &Maildir, name: &MailboxName) -> Answer {
    if name.is_inbox() {
        return Ok(Reply::no(Code::AlreadyExists, "INBOX always exists"));
    }
    match mail.create(name.as_str()).await {
        Ok(()) => Ok(Reply::ok("CREATE done")),
        Err(error) => Ok(refuse(dialog, &error)),
    }
}

pub(super) async fn delete(dialog: &mut Dialog, mail: &Maildir, name: &MailboxName) -> Answer {
    if name.is_inbox() {
        return Ok(Reply::no(Code::Cannot, "INBOX cannot be deleted"));
    }
    match mail.delete(name.as_str()).await {
        Ok(()) => Ok(Reply::ok("DELETE done")),
        Err(error) => Ok(refuse(dialog, &error)),
    }
}

pub(super) async fn rename(dialog: &mut Dialog, mail: &Maildir, from: &MailboxName, to: &MailboxName) -> Answer {
    match mail.rename(from.as_str(), to.as_str()).await {
        Ok(()) => Ok(Reply::ok("RENAME done")),
        Err(error) => Ok(refuse(dialog, &error)),
    }
}

pub(super) async fn subscribe(dialog: &mut Dialog, mail: &Maildir, name: &MailboxName, on: bool) -> Answer {
    match mail.subscribe(name.as_str(), on).await {
        Ok(()) => Ok(Reply::ok(if on { "SUBSCRIBE done" } else { "UNSUBSCRIBE done" })),
        Err(error) => Ok(refuse(dialog, &error)),
    }
}
