//! Status responses (RFC 3501 section 7.1), their codes, and the capability list.

use std::borrow::Cow;

use bytes::BytesMut;

use super::put;
use crate::imap::set::Ranges;

/// The condition of a status response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok,
    /// Understood, not done.
    No,
    /// Not understood.
    Bad,
    /// The connection ends; untagged only.
    Bye,
}

impl Status {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::No => "NO",
            Self::Bad => "BAD",
            Self::Bye => "BYE",
        }
    }
}

/// A response code. Source: RFC 3501 section 7.1, RFC 5530, RFC 4315 (UIDPLUS), RFC 3516, RFC 4978, RFC 6154, RFC 7162,
/// RFC 7888.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code<'a> {
    /// Must be shown to the person.
    Alert,
    /// CREATE or RENAME to a name that is taken.
    AlreadyExists,
    /// Where APPEND put the messages.
    AppendUid {
        /// The mailbox's UIDVALIDITY.
        uid_validity: u32,
        /// The messages' new UIDs, in their order; at least one.
        uids: Vec<u32>,
    },
    /// The token was not believed.
    AuthenticationFailed,
    /// Believed, but not let in.
    AuthorizationFailed,
    /// SEARCH in a charset we cannot read; names those we can.
    BadCharset,
    /// The events NOTIFY may ask for, all of them (RFC 5465 section 8).
    BadEvent,
    /// Never possible, whatever is tried.
    Cannot,
    /// COMPRESS for the second time (RFC 4978 section 3).
    CompressionActive,
    /// The capability list, inside a status response.
    Capability {
        /// Once login is done: the largest message APPEND takes, in bytes.
        append: Option<u64>,
    },
    /// The capability list of another server.
    CapabilityList(&'a str),
    /// The program did something no program should.
    ClientBug,
    /// Only an administrator can help.
    ContactAdmin,
    /// Where COPY or MOVE put the messages, in matching order.
    CopyUid {
        /// The target's UIDVALIDITY.
        uid_validity: u32,
        /// UIDs in the selected mailbox.
        source: &'a [u32],
        /// UIDs in the target, in the same order.
        target: &'a [u32],
    },
    /// The mailbox that was open is not any more; what follows is about the next (RFC 7162 section 3.2.11).
    Closed,
    /// The index and the files disagree.
    Corruption,
    /// Access that ran out.
    Expired,
    /// Somebody else deleted it meanwhile.
    ExpungeIssued,
    /// A mailbox with children cannot be deleted (RFC 9051 section 6.3.5).
    HasChildren,
    /// Everything up to this mod-sequence was told (RFC 7162 section 3.1.2.1).
    HighestModseq(u64),
    /// A command takes its time (RFC 9585).
    InProgress {
        /// The command's tag.
        tag: &'a str,
        /// What is done, of how much; none where that cannot be said.
        done: Option<(u64, u64)>,
    },
    /// Locked by another session.
    InUse,
    /// A limit of ours.
    Limit,
    /// The mailbox's identity, told as its UIDVALIDITY (RFC 8474 section 4.1).
    MailboxId(u32),
    /// The largest annotation that MAXSIZE left out, in octets (RFC 5464 section 4.2.1).
    MetadataLongEntries(u64),
    /// The largest annotation that is kept, in octets (RFC 5464 section 4.3).
    MetadataMaxSize(u64),
    /// No more annotations here (RFC 5464 section 4.3).
    MetadataTooMany,
    /// Messages that a conditional STORE left alone, as numbers or UIDs (RFC 7162 section 3.1.3). Not empty.
    Modified(Ranges),
    /// No such mailbox.
    NonExistent,
    /// Not allowed.
    NoPerm,
    /// No more notifications: more happened than could be told (RFC 5465 section 5.8).
    NotificationOverflow,
    /// No room left.
    OverQuota,
    /// A message that could not be parsed.
    Parse,
    /// Flags that STORE keeps.
    PermanentFlags {
        /// The flags.
        flags: &'a [&'a str],
        /// Whether new keywords may be made (`\*`).
        new_keywords: bool,
    },
    /// Selected for reading.
    ReadOnly,
    /// Selected for reading and writing.
    ReadWrite,
    /// A fault of ours.
    ServerBug,
    /// Larger than we take.
    TooBig,
    /// CREATE the mailbox first.
    TryCreate,
    /// The UID the next message will get.
    UidNext(u32),
    /// The mailbox's UIDVALIDITY.
    UidValidity(u32),
    /// Something we depend on is out of reach; try again later.
    Unavailable,
    /// A part's transfer encoding is not known (RFC 3516).
    UnknownCte,
    /// The first message without `\Seen`.
    Unseen(u32),
    /// CREATE with a special use that cannot be had (RFC 6154).
    UseAttr,
}

/// Every extension that the session offers: before login only what is of use there. `append` is known after it, and told
/// as RFC 7889 has it.
///
/// LOGINDISABLED says that no password is of any use (RFC 3501 section 6.2.3).
pub fn capabilities(append: Option<u64>) -> Cow<'static, str> {
    match append {
        Some(most) => format!(
            "IMAP4rev1 IMAP4rev2 SASL-IR LITERAL- ID ENABLE IDLE NAMESPACE UIDPLUS MOVE UNSELECT CHILDREN \
             SPECIAL-USE CREATE-SPECIAL-USE LIST-EXTENDED LIST-STATUS STATUS=SIZE \
             QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE METADATA NOTIFY UTF8=ACCEPT \
             ESEARCH ESORT SEARCHRES WITHIN SORT SORT=DISPLAY THREAD=ORDEREDSUBJECT THREAD=REFERENCES INPROGRESS \
             CONDSTORE QRESYNC SAVEDATE OBJECTID \
             BINARY MULTIAPPEND REPLACE PREVIEW COMPRESS=DEFLATE APPENDLIMIT={most}"
        )
        .into(),
        None => "IMAP4rev1 IMAP4rev2 SASL-IR LITERAL- ID ENABLE AUTH=XOAUTH2 AUTH=OAUTHBEARER LOGINDISABLED".into(),
    }
}

/// The first line of a connection: `* OK [CAPABILITY ..] text`.
pub fn greeting(out: &mut BytesMut, text: &str) {
    untagged(out, Status::Ok, Some(&Code::Capability { append: None }), text);
}

/// The line that ends a command. `tag` must be one that `command` read.
pub fn tagged(out: &mut BytesMut, tag: &str, status: Status, code: Option<&Code<'_>>, text: &str) {
    out.extend_from_slice(tag.as_bytes());
    rest(out, status, code, text);
}

/// `* OK`, `* NO`, `* BAD` or `* BYE`.
pub fn untagged(out: &mut BytesMut, status: Status, code: Option<&Code<'_>>, text: &str) {
    out.extend_from_slice(b"*");
    rest(out, status, code, text);
}

/// `+ text`: go on. For SASL `text` is base64 or empty (RFC 3501 section 7.5).
pub fn continuation(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(b"+ ");
    plain(out, text, usize::MAX);
    out.extend_from_slice(b"\r\n");
}

/// Longest text of a status line, in bytes; what is beyond is cut.
const MAX_TEXT: usize = 512;

fn rest(out: &mut BytesMut, status: Status, code: Option<&Code<'_>>, text: &str) {
    put(out, format_args!(" {} ", status.word()));
    if let Some(code) = code {
        out.extend_from_slice(b"[");
        put_code(out, code);
        out.extend_from_slice(b"] ");
    } else if text.starts_with('[') {
        // Or it would be taken for a code.
        out.extend_from_slice(b": ");
    }
    plain(out, if text.is_empty() { "-" } else { text }, MAX_TEXT);
    out.extend_from_slice(b"\r\n");
}

/// Printable ASCII as it is, white space and controls as a space, anything else as `?`.
fn plain(out: &mut BytesMut, text: &str, limit: usize) {
    for c in text.chars().take(limit) {
        let byte = match c {
            ' '..='~' => u8::try_from(c).unwrap_or(b'?'),
            c if c.is_whitespace() || c.is_control() => b' ',
            _ => b'?',
        };
        out.extend_from_slice(&[byte]);
    }
}

fn put_code(out: &mut BytesMut, code: &Code<'_>) {
    let word = match code {
        Code::AppendUid { uid_validity, uids } => {
            put(out, format_args!("APPENDUID {uid_validity} "));
            return put_runs(out, uids);
        }
        Code::Capability { append } => return put(out, format_args!("CAPABILITY {}", capabilities(*append))),
        Code::CapabilityList(list) => return put(out, format_args!("CAPABILITY {list}")),
        Code::CopyUid { uid_validity, source, target } => {
            put(out, format_args!("COPYUID {uid_validity} "));
            put_runs(out, source);
            out.extend_from_slice(b" ");
            return put_runs(out, target);
        }
        Code::InProgress { tag, done } => return put_progress(out, tag, *done),
        Code::PermanentFlags { flags, new_keywords } => {
            let star = if *new_keywords { Some("\\*") } else { None };
            out.extend_from_slice(b"PERMANENTFLAGS ");
            return super::data::put_list(out, flags.iter().copied().chain(star));
        }
        Code::HighestModseq(modseq) => return put(out, format_args!("HIGHESTMODSEQ {modseq}")),
        Code::Modified(set) => return put(out, format_args!("MODIFIED {set}")),
        Code::UidNext(uid) => return put(out, format_args!("UIDNEXT {uid}")),
        Code::UidValidity(value) => return put(out, format_args!("UIDVALIDITY {value}")),
        Code::Unseen(number) => return put(out, format_args!("UNSEEN {number}")),
        Code::MailboxId(value) => return put(out, format_args!("MAILBOXID (F{value})")),
        Code::MetadataLongEntries(octets) => return put(out, format_args!("METADATA LONGENTRIES {octets}")),
        Code::MetadataMaxSize(octets) => return put(out, format_args!("METADATA MAXSIZE {octets}")),
        Code::BadEvent => {
            return put(out, format_args!("BADEVENT ({})", crate::imap::command::EventKind::every_name()));
        }
        Code::MetadataTooMany => "METADATA TOOMANY",
        Code::NotificationOverflow => "NOTIFICATIONOVERFLOW",
        Code::Alert => "ALERT",
        Code::AlreadyExists => "ALREADYEXISTS",
        Code::AuthenticationFailed => "AUTHENTICATIONFAILED",
        Code::AuthorizationFailed => "AUTHORIZATIONFAILED",
        Code::BadCharset => "BADCHARSET (UTF-8 US-ASCII)",
        Code::Cannot => "CANNOT",
        Code::ClientBug => "CLIENTBUG",
        Code::CompressionActive => "COMPRESSIONACTIVE",
        Code::ContactAdmin => "CONTACTADMIN",
        Code::Closed => "CLOSED",
        Code::Corruption => "CORRUPTION",
        Code::Expired => "EXPIRED",
        Code::ExpungeIssued => "EXPUNGEISSUED",
        Code::HasChildren => "HASCHILDREN",
        Code::InUse => "INUSE",
        Code::Limit => "LIMIT",
        Code::NonExistent => "NONEXISTENT",
        Code::NoPerm => "NOPERM",
        Code::OverQuota => "OVERQUOTA",
        Code::Parse => "PARSE",
        Code::ReadOnly => "READ-ONLY",
        Code::ReadWrite => "READ-WRITE",
        Code::ServerBug => "SERVERBUG",
        Code::TooBig => "TOOBIG",
        Code::TryCreate => "TRYCREATE",
        Code::Unavailable => "UNAVAILABLE",
        Code::UnknownCte => "UNKNOWN-CTE",
        Code::UseAttr => "USEATTR",
    };
    out.extend_from_slice(word.as_bytes());
}

/// `INPROGRESS ("tag" 175 1000)`. A `]` in the tag would end the code too early for some programs: then without.
fn put_progress(out: &mut BytesMut, tag: &str, done: Option<(u64, u64)>) {
    out.extend_from_slice(b"INPROGRESS");
    if tag.contains(']') {
        return;
    }
    out.extend_from_slice(b" (");
    super::string(out, tag.as_bytes());
    match done {
        // More than all is never told (RFC 9585 section 4).
        Some((done, all)) if all > 0 => put(out, format_args!(" {} {all})", done.min(all))),
        _ => out.extend_from_slice(b" NIL NIL)"),
    }
}

/// UIDs in the order given, ascending runs as `a:b` (RFC 4315 section 3: the order of both sets must match).
fn put_runs(out: &mut BytesMut, uids: &[u32]) {
    for (at, run) in uids.chunk_by(|a, b| a.checked_add(1) == Some(*b)).enumerate() {
        if at > 0 {
            out.extend_from_slice(b",");
        }
        if let (Some(first), Some(last)) = (run.first(), run.last()) {
            put(out, format_args!("{}", Ranges::new(vec![(*first, *last)])));
        }
    }
}

#[cfg(test)]
mod tests {
    use imap_codec::{GreetingCodec, decode::Decoder};
    use proptest::prelude::*;

    use super::*;
    use crate::imap::write::read_back;

    fn written(code: Option<&Code<'_>>, text: &str) -> String {
        let mut out = BytesMut::new();
        tagged(&mut out, "a1", Status::No, code, text);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn every_code_is_written_as_its_rfc_says_and_read_by_another_codec() {
        let flags = ["\\Seen", "$Junk"];
        let cases = [
            (Code::Alert, "ALERT"),
            (Code::AppendUid { uid_validity: 7, uids: vec![9] }, "APPENDUID 7 9"),
            (Code::AppendUid { uid_validity: 7, uids: vec![9, 10, 11, 13] }, "APPENDUID 7 9:11,13"),
            (
                Code::CopyUid { uid_validity: 7, source: &[1, 2, 3, 9], target: &[4, 6, 7, 8] },
                "COPYUID 7 1:3,9 4,6:8",
            ),
            (Code::CopyUid { uid_validity: 7, source: &[3, 2], target: &[1, 2] }, "COPYUID 7 3,2 1:2"),
            (Code::PermanentFlags { flags: &flags, new_keywords: true }, "PERMANENTFLAGS (\\Seen $Junk \\*)"),
            (Code::PermanentFlags { flags: &[], new_keywords: false }, "PERMANENTFLAGS ()"),
            (Code::HighestModseq(715_194_045_007), "HIGHESTMODSEQ 715194045007"),
            (Code::Modified([7, 9].into_iter().collect()), "MODIFIED 7,9"),
            (Code::Closed, "CLOSED"),
            (Code::InProgress { tag: "a1", done: Some((175, 1000)) }, "INPROGRESS (\"a1\" 175 1000)"),
            (Code::InProgress { tag: "a1", done: Some((7, 5)) }, "INPROGRESS (\"a1\" 5 5)"),
            (Code::InProgress { tag: "a1", done: None }, "INPROGRESS (\"a1\" NIL NIL)"),
            (Code::InProgress { tag: "a1", done: Some((0, 0)) }, "INPROGRESS (\"a1\" NIL NIL)"),
            (Code::InProgress { tag: "a]1", done: Some((1, 2)) }, "INPROGRESS"),
            (Code::UidNext(5), "UIDNEXT 5"),
            (Code::UidValidity(5), "UIDVALIDITY 5"),
            (Code::Unseen(5), "UNSEEN 5"),
            (Code::BadCharset, "BADCHARSET (UTF-8 US-ASCII)"),
            (Code::ReadOnly, "READ-ONLY"),
            (Code::TryCreate, "TRYCREATE"),
            (Code::Unavailable, "UNAVAILABLE"),
        ];
        for (code, words) in cases {
            let line = written(Some(&code), "text");
            assert_eq!(line, format!("a1 NO [{words}] text\r\n"));
            assert!(read_back(line.as_bytes()).ends_with("rest 0"), "{line}");
        }
    }

    #[test]
    fn a_text_from_outside_cannot_start_a_line_or_a_code_of_its_own() {
        let cases = [
            ("a\r\n* BYE", "a1 NO a  * BYE\r\n"),
            ("[ALERT] x", "a1 NO : [ALERT] x\r\n"),
            ("Grüße\0", "a1 NO Gr??e \r\n"),
            ("", "a1 NO -\r\n"),
        ];
        for (text, line) in cases {
            assert_eq!(written(None, text), line);
        }
        assert!(written(None, &"x".repeat(10_000)).len() < 600);
    }

    #[test]
    fn the_greeting_says_that_passwords_are_of_no_use() {
        let mut out = BytesMut::new();
        greeting(&mut out, "Portcullis ready");
        assert!(GreetingCodec::default().decode(&out).is_ok());
        assert!(String::from_utf8_lossy(&out).contains(" LOGINDISABLED]"));
        let capabilities = capabilities(Some(7));
        assert!(!capabilities.contains("LOGINDISABLED") && !capabilities.contains("AUTH="));
        assert!(capabilities.ends_with(" APPENDLIMIT=7"));
    }

    proptest! {
        #[test]
        fn any_text_stays_one_readable_line(text in any::<String>()) {
            let line = written(Some(&Code::Alert), &text);
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert!(read_back(line.as_bytes()).ends_with("rest 0"), "{}", line);
        }
    }
}
