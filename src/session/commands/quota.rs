//! GETQUOTA, GETQUOTAROOT and SETQUOTA (RFC 9208). The owner's mail is one quota root, called `""`, where anything of it
//! is limited; the limits are the administrators'.

use super::reply::{Answer, Reply, refuse};
use crate::imap::{
    mailbox::MailboxName,
    write::{self, Code},
};
use crate::maildir::{Maildir, Usage};
use crate::policy::Quota;
use crate::session::login::Dialog;

/// The one quota root.
const ROOT: &str = "";

pub(super) async fn get(dialog: &mut Dialog, mail: &Maildir, root: &str) -> Answer {
    let (quota, usage) = match mail.usage().await {
        Ok(found) => found,
        Err(error) => return Ok(refuse(dialog, &error)),
    };
    if root != ROOT || quota.is_none() {
        return Ok(Reply::no(Code::NonExistent, "No such quota root"));
    }
    put(dialog, quota, usage);
    Ok(Reply::ok("GETQUOTA done"))
}

pub(super) async fn get_root(dialog: &mut Dialog, mail: &Maildir, mailbox: &MailboxName) -> Answer {
    let (quota, usage) = match mail.usage().await {
        Ok(found) => found,
        Err(error) => return Ok(refuse(dialog, &error)),
    };
    let (names, root) = (dialog.enabled.names(), (!quota.is_none()).then_some(ROOT));
    write::quota_root(&mut dialog.link.wire.out, mailbox.as_str(), names, root);
    if root.is_some() {
        put(dialog, quota, usage);
    }
    Ok(Reply::ok("GETQUOTAROOT done"))
}

pub(super) fn set() -> Reply {
    Reply::no(Code::NoPerm, "Quotas are set by your administrator")
}

/// STORAGE is counted in units of 1024 octets, begun ones too (RFC 9208 section 5.1).
fn put(dialog: &mut Dialog, quota: Quota, usage: Usage) {
    let storage = quota.bytes.map(|most| ("STORAGE", usage.bytes.div_ceil(1024), most.div_ceil(1024)));
    let messages = quota.messages.map(|most| ("MESSAGE", usage.messages, most));
    let resources: Vec<_> = storage.into_iter().chain(messages).collect();
    write::quota(&mut dialog.link.wire.out, ROOT, &resources);
}
