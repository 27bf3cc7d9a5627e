//! What one command says. `parse` takes the bytes of a whole command, literals in place, as `frame` gathered them.
//! Called by `frame`; its values are used by `session` and `write`. Imports `model` only.
//!
//! Each verb is parsed on exactly one path: `codec` hands it to imap-codec, the other files are our own nom grammar
//! for the verbs whose extensions imap-codec does not know.

mod append;
mod codec;
mod fetch;
mod grammar;
mod list;
pub(super) mod login;
mod messages;
mod metadata;
mod notify;
mod quota;
mod search;
mod select;
mod sort;

pub use append::{AppendHead, Form, MessageHead, Replaced};
pub use fetch::{FetchItem, Section, SectionText, Since};
pub use imap_codec::imap_types::{flag::Flag, flag::StoreType, sequence::SequenceSet};
pub use list::{List, ListReturn, ListSelect};
pub use messages::StatusItem;
pub use metadata::{Depth, GetMetadata, MetadataValue};
pub use notify::{EventKind, NotifyGroup, NotifyMailboxes, NotifySelected, NotifySet};
pub use search::{Returns, Search, SearchKey, SearchLimits};
pub use select::Resync;
pub use sort::{Sort, SortBy, SortKey, Thread, ThreadBy};

pub(super) use append::{Options as MessageOptions, Start, next as next_message, start as first_message};

use super::{
    bad::Bad,
    mailbox::{MailboxName, Names, Pattern},
    set::MessageSet,
};
use crate::model::Secret;
use grammar::Fault;

/// A command and the tag that its answer bears.
#[derive(Clone, Debug, PartialEq)]
pub struct Tagged {
    /// The tag: 1 to 256 bytes of ASCII without white space, as RFC 3501's `tag`.
    pub tag: String,
    /// The command.
    pub command: Command,
}

/// One command. Whether it is allowed in the session's state is the session's business.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// CAPABILITY
    Capability,
    /// NOOP
    Noop,
    /// LOGOUT
    Logout,
    /// ID: what the program says about itself, at most 30 pairs, values cut at 256 characters, controls replaced.
    /// `NIL` is an empty list.
    Id(Vec<(String, Option<String>)>),
    /// ENABLE: the wishes, in upper case.
    Enable(Vec<String>),
    /// COMPRESS DEFLATE
    Compress,
    /// LOGIN: only that it was tried, and for whom where the name is no literal. The password is not kept, nor even
    /// read where it is a literal.
    Login {
        /// The user's name as sent, at most 256 bytes.
        user: Option<String>,
    },
    /// AUTHENTICATE
    Authenticate {
        /// The mechanism in upper case, known to us or not.
        mechanism: String,
        /// The initial response, base64 as it was sent (RFC 4959); `=` is the empty text.
        initial: Option<Secret>,
    },
    /// SELECT, and EXAMINE with `read_only`.
    Select {
        /// The mailbox.
        mailbox: MailboxName,
        /// EXAMINE.
        read_only: bool,
        /// CONDSTORE: mod-sequences are to be told (RFC 7162 section 3.1.8).
        condstore: bool,
        /// QRESYNC: what changed since an earlier visit is to be told (RFC 7162 section 3.2.5).
        resync: Option<Resync>,
    },
    /// CREATE
    Create {
        /// The mailbox.
        mailbox: MailboxName,
        /// What it is to be for (RFC 6154 section 3): attributes as they were sent, `\Drafts`, each once.
        uses: Vec<String>,
    },
    /// DELETE
    Delete(MailboxName),
    /// RENAME
    Rename {
        /// The old name.
        from: MailboxName,
        /// The new name.
        to: MailboxName,
    },
    /// SUBSCRIBE
    Subscribe(MailboxName),
    /// UNSUBSCRIBE
    Unsubscribe(MailboxName),
    /// LIST
    List(List),
    /// LSUB
    Lsub(Pattern),
    /// NAMESPACE
    Namespace,
    /// STATUS
    Status {
        /// The mailbox.
        mailbox: MailboxName,
        /// What is asked, each once, at least one.
        items: Vec<StatusItem>,
    },
    /// GETQUOTA
    GetQuota {
        /// The quota root.
        root: String,
    },
    /// GETQUOTAROOT
    GetQuotaRoot(MailboxName),
    /// SETQUOTA: only that it was tried. Limits are set by administrators.
    SetQuota,
    /// GETMETADATA
    GetMetadata(GetMetadata),
    /// SETMETADATA
    SetMetadata {
        /// The mailbox; none: the mail as a whole.
        mailbox: Option<MailboxName>,
        /// What is set, at least one.
        values: Vec<MetadataValue>,
    },
    /// NOTIFY; nothing for NONE.
    Notify(Option<NotifySet>),
    /// IDLE: ends with the line DONE, see `Framer::next_line`.
    Idle,
    /// CHECK
    Check,
    /// CLOSE
    Close,
    /// UNSELECT
    Unselect,
    /// EXPUNGE, and UID EXPUNGE with the set of UIDs.
    Expunge(Option<MessageSet>),
    /// SEARCH and UID SEARCH
    Search(Search),
    /// SORT and UID SORT (RFC 5256)
    Sort(Sort),
    /// THREAD and UID THREAD (RFC 5256)
    Thread(Thread),
    /// FETCH and UID FETCH
    Fetch {
        /// Which messages.
        set: MessageSet,
        /// What is asked, macros written out, in the order asked; at least one.
        items: Vec<FetchItem>,
        /// CHANGEDSINCE; `items` then hold MODSEQ.
        since: Option<Since>,
        /// The set holds UIDs, and the answers show them.
        uid: bool,
    },
    /// STORE and UID STORE
    Store {
        /// Which messages.
        set: MessageSet,
        /// Set, add or remove.
        kind: StoreType,
        /// Without the untagged FETCH.
        silent: bool,
        /// UNCHANGEDSINCE (RFC 7162 section 3.1.3): only messages whose mod-sequence is not above this one; 63 bits.
        unchanged_since: Option<u64>,
        /// The flags, each once. `\Recent` and unknown system flags arrive as `Flag::Extension`.
        flags: Vec<Flag<'static>>,
        /// The set holds UIDs.
        uid: bool,
    },
    /// COPY and UID COPY
    Copy {
        /// Which messages.
        set: MessageSet,
        /// Where to.
        mailbox: MailboxName,
        /// The set holds UIDs.
        uid: bool,
    },
    /// MOVE and UID MOVE
    Move {
        /// Which messages.
        set: MessageSet,
        /// Where to.
        mailbox: MailboxName,
        /// The set holds UIDs.
        uid: bool,
    },
}

impl Command {
    /// The verb, as lists of live sessions show it; nothing of the arguments.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Capability => "CAPABILITY",
            Self::Noop => "NOOP",
            Self::Logout => "LOGOUT",
            Self::Id(_) => "ID",
            Self::Enable(_) => "ENABLE",
            Self::Compress => "COMPRESS",
            Self::Login { .. } => "LOGIN",
            Self::Authenticate { .. } => "AUTHENTICATE",
            Self::Select { read_only: false, .. } => "SELECT",
            Self::Select { read_only: true, .. } => "EXAMINE",
            Self::Create { .. } => "CREATE",
            Self::Delete(_) => "DELETE",
            Self::Rename { .. } => "RENAME",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::List(_) => "LIST",
            Self::Lsub(_) => "LSUB",
            Self::Namespace => "NAMESPACE",
            Self::Status { .. } => "STATUS",
            Self::GetQuota { .. } => "GETQUOTA",
            Self::GetQuotaRoot(_) => "GETQUOTAROOT",
            Self::SetQuota => "SETQUOTA",
            Self::GetMetadata(_) => "GETMETADATA",
            Self::SetMetadata { .. } => "SETMETADATA",
            Self::Notify(_) => "NOTIFY",
            Self::Idle => "IDLE",
            Self::Check => "CHECK",
            Self::Close => "CLOSE",
            Self::Unselect => "UNSELECT",
            Self::Expunge(None) => "EXPUNGE",
            Self::Expunge(Some(_)) => "UID EXPUNGE",
            Self::Search(search) if search.uid => "UID SEARCH",
            Self::Search(_) => "SEARCH",
            Self::Sort(sort) if sort.search.uid => "UID SORT",
            Self::Sort(_) => "SORT",
            Self::Thread(thread) if thread.search.uid => "UID THREAD",
            Self::Thread(_) => "THREAD",
            Self::Fetch { uid: true, .. } => "UID FETCH",
            Self::Fetch { .. } => "FETCH",
            Self::Store { uid: true, .. } => "UID STORE",
            Self::Store { .. } => "STORE",
            Self::Copy { uid: true, .. } => "UID COPY",
            Self::Copy { .. } => "COPY",
            Self::Move { uid: true, .. } => "UID MOVE",
            Self::Move { .. } => "MOVE",
        }
    }
}

/// Longest tag, in bytes: it is repeated in the answer.
pub(super) const MAX_TAG: usize = 256;

/// Reads a whole command, CRLF included, literals in place.
///
/// APPEND and REPLACE never come here: their messages are streams, see [`first_message`]. Errors bear the tag where
/// there is one.
pub(super) fn parse(bytes: &[u8], limits: SearchLimits, names: Names) -> Result<Tagged, Bad> {
    let head = Head::read(bytes).ok_or_else(|| Bad::syntax("A command is a tag, a space and a verb"))?;
    let command = dispatch(&head, bytes, limits, names).map_err(|fault| fault.bad().to(head.tag))?;
    Ok(Tagged { tag: head.tag.to_owned(), command })
}

fn dispatch(head: &Head<'_>, bytes: &[u8], limits: SearchLimits, names: Names) -> Result<Command, Fault> {
    let arguments = head.arguments;
    match head.verb.upper() {
        "LIST" => list::list(arguments, names),
        "SELECT" => select::select(arguments, names, false),
        "EXAMINE" => select::select(arguments, names, true),
        "STATUS" => messages::status(arguments, names),
        "CREATE" => messages::create(arguments, names),
        "GETQUOTA" => quota::get(arguments),
        "GETQUOTAROOT" => quota::get_root(arguments, names),
        "SETQUOTA" => quota::set(arguments),
        "GETMETADATA" => metadata::get(arguments, names),
        "SETMETADATA" => metadata::set(arguments, names),
        "NOTIFY" => notify::notify(arguments, names),
        "SEARCH" => search::search(arguments, false, limits),
        "SORT" => sort::sort(arguments, false, limits),
        "THREAD" => sort::thread(arguments, false, limits),
        "FETCH" => fetch::fetch(arguments, false),
        "STORE" => messages::store(arguments, false),
        "COPY" => messages::copy(arguments, names, false),
        "MOVE" => messages::r#move(arguments, names, false),
        "UID" => uid(arguments, limits, names),
        "AUTHENTICATE" => codec::authenticate(bytes),
        "LOGIN" => Ok(Command::Login { user: login::user(arguments) }),
        "APPEND" => Err(Fault::syntax("APPEND needs a mailbox and a message")),
        "REPLACE" => Err(REPLACE),
        "CAPABILITY" | "NOOP" | "LOGOUT" | "ID" | "ENABLE" | "COMPRESS" | "DELETE" | "RENAME" | "SUBSCRIBE"
        | "UNSUBSCRIBE" | "LSUB" | "NAMESPACE" | "IDLE" | "CLOSE" | "UNSELECT" | "CHECK" | "EXPUNGE" => {
            codec::command(bytes, names)
        }
        _ => Err(Fault::syntax("Unknown command")),
    }
}

/// REPLACE without its message.
const REPLACE: Fault = Fault::syntax("REPLACE needs a message number, a mailbox and a message");

fn uid(arguments: &[u8], limits: SearchLimits, names: Names) -> Result<Command, Fault> {
    let rest = arguments.strip_prefix(b" ").ok_or(Fault::syntax("UID needs a command"))?;
    let (verb, arguments) = Verb::read(rest).ok_or(Fault::syntax("UID needs a command"))?;
    match verb.upper() {
        "SEARCH" => search::search(arguments, true, limits),
        "SORT" => sort::sort(arguments, true, limits),
        "THREAD" => sort::thread(arguments, true, limits),
        "FETCH" => fetch::fetch(arguments, true),
        "STORE" => messages::store(arguments, true),
        "COPY" => messages::copy(arguments, names, true),
        "MOVE" => messages::r#move(arguments, names, true),
        "EXPUNGE" => messages::uid_expunge(arguments),
        "REPLACE" => Err(REPLACE),
        _ => Err(Fault::syntax("Unknown UID command")),
    }
}

/// The start of a command: what can be known of it before its literals are there.
pub(super) struct Head<'a> {
    /// The tag.
    pub(super) tag: &'a str,
    /// The verb.
    pub(super) verb: Verb,
    /// What follows the verb: a space and more, or the end of the line.
    pub(super) arguments: &'a [u8],
}

impl<'a> Head<'a> {
    /// Nothing, unless a proper tag, a space and a letter are there. A line without them is answered without its first
    /// word: it may be a password that strayed.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_at_checked(memchr::memchr(b' ', bytes)?)?;
        let is_tag = |b: &u8| imap_codec::imap_types::utils::indicators::is_astring_char(*b) && *b != b'+';
        if tag.is_empty() || tag.len() > MAX_TAG || !tag.iter().all(is_tag) {
            return None;
        }
        let (verb, arguments) = Verb::read(rest.get(1..)?)?;
        Some(Self { tag: str::from_utf8(tag).ok()?, verb, arguments })
    }
}

/// A verb in upper case, without an allocation; a longer one than any we know is kept as the empty word.
pub(super) struct Verb([u8; 16], usize);

impl Verb {
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let length = bytes.iter().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(bytes.len());
        let (word, rest) = bytes.split_at_checked(length)?;
        if word.is_empty() {
            return None;
        }
        let mut upper = [0; 16];
        let Some(room) = upper.get_mut(..length) else {
            return Some((Self([0; 16], 0), rest));
        };
        room.copy_from_slice(word);
        room.make_ascii_uppercase();
        Some((Self(upper, length), rest))
    }

    /// The verb: `SELECT`.
    pub(super) fn upper(&self) -> &str {
        self.0.get(..self.1).and_then(|word| str::from_utf8(word).ok()).unwrap_or("")
    }

    /// Whether some command begins with it; other verbs' literals are not asked for.
    pub(super) fn is_known(&self) -> bool {
        matches!(
            self.upper(),
            "LIST"
                | "STATUS"
                | "CREATE"
                | "SEARCH"
                | "SORT"
                | "THREAD"
                | "FETCH"
                | "STORE"
                | "COPY"
                | "MOVE"
                | "UID"
                | "AUTHENTICATE"
                | "LOGIN"
                | "CAPABILITY"
                | "NOOP"
                | "LOGOUT"
                | "ID"
                | "ENABLE"
                | "SELECT"
                | "EXAMINE"
                | "DELETE"
                | "RENAME"
                | "SUBSCRIBE"
                | "UNSUBSCRIBE"
                | "LSUB"
                | "NAMESPACE"
                | "GETQUOTA"
                | "GETQUOTAROOT"
                | "SETQUOTA"
                | "GETMETADATA"
                | "SETMETADATA"
                | "NOTIFY"
                | "IDLE"
                | "CLOSE"
                | "UNSELECT"
                | "CHECK"
                | "EXPUNGE"
                | "APPEND"
                | "REPLACE"
                | "COMPRESS"
        )
    }
}

#[cfg(test)]
mod tests;
