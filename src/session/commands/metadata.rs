//! GETMETADATA and SETMETADATA (RFC 5464). Annotations of the mail as a whole are those of its owner's mail: whoever may
//! change the mail may change the shared ones, but for `/shared/admin`, which is the server's to say.

use super::reply::{Answer, Reply, refuse};
use crate::imap::{
    command::{Depth, GetMetadata, MetadataValue},
    mailbox::MailboxName,
    write::{self, Code},
};
use crate::maildir::{Folder, Maildir, SpecialUse};
use crate::session::login::Dialog;

/// The entry of the mail as a whole that no peer changes (RFC 5464 section 6.2.2).
const ADMIN: &str = "/shared/admin";
/// The entry of a mailbox that says what it is for (RFC 6154 section 4).
const SPECIAL_USE: &str = "/private/specialuse";

pub(super) async fn get(dialog: &mut Dialog, mail: &Maildir, user: &str, asked: &GetMetadata) -> Answer {
    let name = asked.mailbox.as_ref().map(MailboxName::as_str);
    let mut all = match mail.annotations(name, user).await {
        Ok(all) => all,
        Err(error) => return Ok(refuse(dialog, &error)),
    };
    let wanted = |entry: &str| asked.entries.iter().any(|wanted| asked.depth.reaches(wanted, entry));
    if let Some(name) = name.filter(|_| wanted(SPECIAL_USE)) {
        match mail.shown(name).await {
            Ok(folder) => all.extend(folder.and_then(|folder| special_uses(&folder))),
            Err(error) => return Ok(refuse(dialog, &error)),
        }
    }
    let most = asked.max_size.unwrap_or(u32::MAX) as usize;
    let (fitting, long): (Vec<_>, Vec<_>) =
        all.iter().filter(|(entry, _)| wanted(entry)).partition(|(_, value)| value.len() <= most);
    let mut told: Vec<(&str, Option<&[u8]>)> =
        fitting.iter().map(|(entry, value)| (entry.as_str(), Some(value.as_slice()))).collect();
    if asked.depth == Depth::Zero || (fitting.is_empty() && long.is_empty()) {
        // What is not there has no value.
        let known = |entry: &String| all.iter().any(|(known, _)| known == entry);
        told.extend(asked.entries.iter().filter(|entry| !known(entry)).map(|entry| (entry.as_str(), None)));
    }
    told.sort_unstable();
    told.dedup();
    if !told.is_empty() {
        write::metadata(&mut dialog.link.wire.out, name, dialog.enabled.names(), told);
    }
    let reply = Reply::ok("GETMETADATA done");
    Ok(match long.iter().map(|(_, value)| value.len() as u64).max() {
        Some(longest) => reply.with(Code::MetadataLongEntries(longest)),
        None => reply,
    })
}

pub(super) async fn set(
    dialog: &mut Dialog,
    mail: &Maildir,
    user: &str,
    mailbox: Option<&MailboxName>,
    values: Vec<MetadataValue>,
) -> Answer {
    if mailbox.is_none() && values.iter().any(|(entry, _)| entry == ADMIN) {
        return Ok(Reply::no(Code::NoPerm, "Only an administrator can set /shared/admin"));
    }
    let (uses, values): (Vec<_>, Vec<_>) =
        values.into_iter().partition(|(entry, _)| mailbox.is_some() && entry == SPECIAL_USE);
    // First, because it may be refused.
    for (_, value) in uses {
        let text = value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let uses: Option<Vec<SpecialUse>> = text.split_ascii_whitespace().map(SpecialUse::from_attribute).collect();
        let Some(uses) = uses else {
            return Ok(Reply::no(Code::UseAttr, "No mailbox can have that use here"));
        };
        let name = mailbox.map(MailboxName::as_str).unwrap_or_default();
        if let Err(error) = mail.use_for(name, uses).await {
            return Ok(refuse(dialog, &error));
        }
    }
    Ok(match mail.annotate(mailbox.map(MailboxName::as_str), user, values).await {
        Ok(()) => Reply::ok("SETMETADATA done"),
        Err(error) => refuse(dialog, &error),
    })
}

fn special_uses(folder: &Folder) -> Option<(String, Vec<u8>)> {
    let uses: Vec<&str> = folder.special_uses.iter().map(|special| special.attribute()).collect();
    (!uses.is_empty()).then(|| (SPECIAL_USE.to_owned(), uses.join(" ").into_bytes()))
}
