//! GETQUOTA, GETQUOTAROOT and SETQUOTA (RFC 9208 section 7).

use nom::{Parser, sequence::preceded};

use super::{
    Command,
    grammar::{Fault, astring, atom, list0, mailbox, number64, sp, whole},
};
use crate::imap::mailbox::Names;

pub(super) fn get(arguments: &[u8]) -> Result<Command, Fault> {
    let root = whole(preceded(sp, astring), arguments)?;
    Ok(Command::GetQuota { root: String::from_utf8_lossy(&root).into_owned() })
}

pub(super) fn get_root(arguments: &[u8], names: Names) -> Result<Command, Fault> {
    Ok(Command::GetQuotaRoot(whole(preceded(sp, mailbox(names)), arguments)?))
}

/// Only whether it is well written: no limit is ever set this way.
pub(super) fn set(arguments: &[u8]) -> Result<Command, Fault> {
    let resource = (atom, preceded(sp, number64)).map(drop);
    whole((preceded(sp, astring), preceded(sp, list0(resource))), arguments)?;
    Ok(Command::SetQuota)
}
