//! STATUS, CREATE, STORE, COPY, MOVE and UID EXPUNGE (RFC 3501 sections 6.3 and 6.4, RFC 4315, 6851, 8438).

use imap_codec::imap_types::flag::StoreType;
use nom::{
    Parser,
    branch::alt,
    bytes::complete::tag_no_case,
    character::complete::char,
    combinator::{map, opt, value},
    sequence::{delimited, preceded},
};

use super::{
    Command,
    grammar::{
        Fault, Parsed, astring, bare_flags, flag_list, list1, mailbox, message_set, number64, sp, whole, word,
    },
};
use crate::imap::mailbox::MailboxName;

/// One question of STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusItem {
    /// MESSAGES
    Messages,
    /// RECENT
    Recent,
    /// UIDNEXT
    UidNext,
    /// UIDVALIDITY
    UidValidity,
    /// UNSEEN
    Unseen,
    /// SIZE (RFC 8438), in octets.
    Size,
    /// APPENDLIMIT (RFC 7889), in octets.
    AppendLimit,
}

impl StatusItem {
    const ALL: [Self; 7] = [
        Self::Messages,
        Self::Recent,
        Self::UidNext,
        Self::UidValidity,
        Self::Unseen,
        Self::Size,
        Self::AppendLimit,
    ];

    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Messages => "MESSAGES",
            Self::Recent => "RECENT",
            Self::UidNext => "UIDNEXT",
            Self::UidValidity => "UIDVALIDITY",
            Self::Unseen => "UNSEEN",
            Self::Size => "SIZE",
            Self::AppendLimit => "APPENDLIMIT",
        }
    }
}

pub(super) fn status(arguments: &[u8]) -> Result<Command, Fault> {
    let (mailbox, items) = whole((preceded(sp, mailbox), preceded(sp, status_items)), arguments)?;
    Ok(Command::Status { mailbox, items })
}

/// `"(" status-att *(SP status-att) ")"`, each once.
pub(super) fn status_items(i: &[u8]) -> Parsed<'_, Vec<StatusItem>> {
    let (rest, words) = list1(word).parse(i)?;
    let mut items = Vec::with_capacity(StatusItem::ALL.len());
    for word in words {
        let known = StatusItem::ALL.into_iter().find(|item| item.word() == word);
        let item = known.ok_or(nom::Err::Failure(Fault::syntax("Unknown item of STATUS")))?;
        if !items.contains(&item) {
            items.push(item);
        }
    }
    Ok((rest, items))
}

pub(super) fn create(arguments: &[u8]) -> Result<Command, Fault> {
    let wire = whole(preceded(sp, astring), arguments)?;
    Ok(Command::Create(MailboxName::decode_new(&wire)?))
}

pub(super) fn store(arguments: &[u8], uid: bool) -> Result<Command, Fault> {
    let kind = map(opt(alt((value(StoreType::Add, char('+')), value(StoreType::Remove, char('-'))))), |kind| {
        kind.unwrap_or(StoreType::Replace)
    });
    let item = (kind, preceded(tag_no_case("FLAGS"), opt(tag_no_case(".SILENT"))));
    let flags = alt((flag_list, bare_flags));
    let rule =
        (preceded(sp, message_set), opt(preceded(sp, unchanged_since)), preceded(sp, item), preceded(sp, flags));
    let (set, unchanged_since, (kind, silent), flags) = whole(rule, arguments)?;
    Ok(Command::Store { set, kind, silent: silent.is_some(), unchanged_since, flags, uid })
}

/// `"(" store-modifier ")"` (RFC 7162 section 3.1.3).
fn unchanged_since(i: &[u8]) -> Parsed<'_, u64> {
    let unknown = Fault::syntax("UNCHANGEDSINCE and a mod-sequence is what STORE takes in parentheses");
    let (rest, _) = char('(').parse(i)?;
    delimited(tag_no_case("UNCHANGEDSINCE"), preceded(sp, number64), char(')'))
        .parse(rest)
        .map_err(|_| nom::Err::Failure(unknown))
}

pub(super) fn copy(arguments: &[u8], uid: bool) -> Result<Command, Fault> {
    let (set, mailbox) = whole((preceded(sp, message_set), preceded(sp, mailbox)), arguments)?;
    Ok(Command::Copy { set, mailbox, uid })
}

pub(super) fn r#move(arguments: &[u8], uid: bool) -> Result<Command, Fault> {
    let (set, mailbox) = whole((preceded(sp, message_set), preceded(sp, mailbox)), arguments)?;
    Ok(Command::Move { set, mailbox, uid })
}

pub(super) fn uid_expunge(arguments: &[u8]) -> Result<Command, Fault> {
    Ok(Command::Expunge(Some(whole(preceded(sp, message_set), arguments)?)))
}
