//! STATUS, CREATE, STORE, COPY, MOVE and UID EXPUNGE (RFC 3501 sections 6.3 and 6.4, RFC 4315, 6154, 6851, 7162, 8438,
//! 8474, 9208).

use imap_codec::imap_types::flag::StoreType;
use nom::{
    Parser,
    branch::alt,
    bytes::complete::tag_no_case,
    character::complete::char,
    combinator::{map, opt, recognize, value},
    sequence::{delimited, preceded},
};

use super::{
    Command,
    grammar::{
        Fault, Parsed, astring, atom, bare_flags, flag_list, list0, list1, mailbox, message_set, number64, sp,
        whole, word,
    },
};
use crate::imap::mailbox::{MailboxName, Names};

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
    /// DELETED (RFC 9051 section 6.3.11, RFC 9208): messages with `\Deleted`.
    Deleted,
    /// DELETED-STORAGE (RFC 9208 section 4.1.4): what their removal would free, in octets.
    DeletedStorage,
    /// HIGHESTMODSEQ (RFC 7162 section 3.1.7).
    HighestModseq,
    /// MAILBOXID (RFC 8474 section 4.3): the UIDVALIDITY, which no other mailbox of the owner has or had.
    MailboxId,
}

impl StatusItem {
    const ALL: [Self; 11] = [
        Self::Messages,
        Self::Recent,
        Self::UidNext,
        Self::UidValidity,
        Self::Unseen,
        Self::Size,
        Self::AppendLimit,
        Self::Deleted,
        Self::DeletedStorage,
        Self::HighestModseq,
        Self::MailboxId,
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
            Self::Deleted => "DELETED",
            Self::DeletedStorage => "DELETED-STORAGE",
            Self::HighestModseq => "HIGHESTMODSEQ",
            Self::MailboxId => "MAILBOXID",
        }
    }
}

pub(super) fn status(arguments: &[u8], names: Names) -> Result<Command, Fault> {
    let (mailbox, items) = whole((preceded(sp, mailbox(names)), preceded(sp, status_items)), arguments)?;
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

pub(super) fn create(arguments: &[u8], names: Names) -> Result<Command, Fault> {
    let r#use = preceded((tag_no_case("USE"), sp), list0(recognize(preceded(opt(char('\\')), atom))));
    let (wire, parameters) =
        whole((preceded(sp, astring), opt(preceded(sp, delimited(char('('), r#use, char(')'))))), arguments)?;
    let mut uses: Vec<String> = Vec::new();
    for attribute in parameters.unwrap_or_default() {
        let attribute = String::from_utf8_lossy(attribute).into_owned();
        if !uses.iter().any(|known| known.eq_ignore_ascii_case(&attribute)) {
            uses.push(attribute);
        }
    }
    Ok(Command::Create { mailbox: MailboxName::read_new(&wire, names)?, uses })
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

pub(super) fn copy(arguments: &[u8], names: Names, uid: bool) -> Result<Command, Fault> {
    let (set, mailbox) = whole((preceded(sp, message_set), preceded(sp, mailbox(names))), arguments)?;
    Ok(Command::Copy { set, mailbox, uid })
}

pub(super) fn r#move(arguments: &[u8], names: Names, uid: bool) -> Result<Command, Fault> {
    let (set, mailbox) = whole((preceded(sp, message_set), preceded(sp, mailbox(names))), arguments)?;
    Ok(Command::Move { set, mailbox, uid })
}

pub(super) fn uid_expunge(arguments: &[u8]) -> Result<Command, Fault> {
    Ok(Command::Expunge(Some(whole(preceded(sp, message_set), arguments)?)))
}
