//! Untagged data about the server and its mailboxes (RFC 3501 sections 7.2 and 7.3, RFC 2342, 2971, 5161, 5258).

use bytes::BytesMut;

use super::{capabilities, mailbox, nstring, put, string};
use crate::imap::{
    command::StatusItem,
    mailbox::{Names, SEPARATOR},
    set::Ranges,
};

/// `* CAPABILITY ..`
pub fn capability(out: &mut BytesMut, append: Option<u64>) {
    put(out, format_args!("* CAPABILITY {}\r\n", capabilities(append)));
}

/// `* CAPABILITY ..` with what another server can do.
pub fn capability_list(out: &mut BytesMut, list: &str) {
    put(out, format_args!("* CAPABILITY {list}\r\n"));
}

/// `* FLAGS (..)`: flags that messages of this mailbox may have.
pub fn flags<'a>(out: &mut BytesMut, flags: impl IntoIterator<Item = &'a str>) {
    out.extend_from_slice(b"* FLAGS ");
    put_list(out, flags);
    out.extend_from_slice(b"\r\n");
}

/// One line of LIST or LSUB.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListLine<'a> {
    /// The name in UTF-8.
    pub name: &'a str,
    /// How it is written.
    pub names: Names,
    /// `\HasChildren`, `\Sent`, ..
    pub attributes: &'a [&'a str],
    /// The selection options that mailboxes below fulfil: `SUBSCRIBED` (RFC 5258 section 3.5, asked for by
    /// RECURSIVEMATCH).
    pub child_info: &'a [&'a str],
    /// What the mailbox was called before (RFC 9051 section 6.3.9.7).
    pub old_name: Option<&'a str>,
}

/// `* LIST (..) "/" name`
pub fn list(out: &mut BytesMut, line: &ListLine<'_>) {
    put_line(out, "LIST", line);
}

/// `* LSUB (..) "/" name`
pub fn lsub(out: &mut BytesMut, line: &ListLine<'_>) {
    put_line(out, "LSUB", line);
}

/// The answer to `LIST "" ""`: only the separator (RFC 3501 section 6.3.8).
pub fn list_separator(out: &mut BytesMut) {
    put_line(out, "LIST", &ListLine { attributes: &["\\Noselect"], ..ListLine::default() });
}

fn put_line(out: &mut BytesMut, word: &str, line: &ListLine<'_>) {
    put(out, format_args!("* {word} "));
    put_list(out, line.attributes.iter().copied());
    put(out, format_args!(" \"{SEPARATOR}\" "));
    mailbox(out, line.name, line.names);
    if !line.child_info.is_empty() {
        out.extend_from_slice(b" (\"CHILDINFO\" (");
        for (at, option) in line.child_info.iter().enumerate() {
            put(out, format_args!("{}\"{option}\"", if at == 0 { "" } else { " " }));
        }
        out.extend_from_slice(b"))");
    }
    if let Some(old) = line.old_name {
        out.extend_from_slice(b" (\"OLDNAME\" (");
        mailbox(out, old, line.names);
        out.extend_from_slice(b"))");
    }
    out.extend_from_slice(b"\r\n");
}

/// `* STATUS name (MESSAGES 3 ..)`. The value of MAILBOXID is the UIDVALIDITY.
pub fn status(out: &mut BytesMut, name: &str, names: Names, items: impl IntoIterator<Item = (StatusItem, u64)>) {
    out.extend_from_slice(b"* STATUS ");
    mailbox(out, name, names);
    out.extend_from_slice(b" (");
    for (at, (item, value)) in items.into_iter().enumerate() {
        let space = if at == 0 { "" } else { " " };
        match item {
            StatusItem::MailboxId => put(out, format_args!("{space}MAILBOXID (F{value})")),
            _ => put(out, format_args!("{space}{} {value}", item.word())),
        }
    }
    out.extend_from_slice(b")\r\n");
}

/// `* QUOTAROOT mailbox root`: no root where nothing is limited (RFC 9208 section 4.2.2).
pub fn quota_root(out: &mut BytesMut, name: &str, names: Names, root: Option<&str>) {
    out.extend_from_slice(b"* QUOTAROOT ");
    mailbox(out, name, names);
    if let Some(root) = root {
        out.extend_from_slice(b" ");
        string(out, root.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// `* QUOTA root (STORAGE 10 512)`: resource, usage and limit of each (RFC 9208 section 4.2.1).
pub fn quota(out: &mut BytesMut, root: &str, resources: &[(&str, u64, u64)]) {
    out.extend_from_slice(b"* QUOTA ");
    string(out, root.as_bytes());
    out.extend_from_slice(b" (");
    for (at, (resource, usage, limit)) in resources.iter().enumerate() {
        put(out, format_args!("{}{resource} {usage} {limit}", if at == 0 { "" } else { " " }));
    }
    out.extend_from_slice(b")\r\n");
}

fn put_place(out: &mut BytesMut, name: Option<&str>, names: Names) {
    out.extend_from_slice(b"* METADATA ");
    mailbox(out, name.unwrap_or_default(), names);
}

/// `* METADATA mailbox (entry value ..)`; no mailbox is the mail as a whole (RFC 5464 section 4.4.1). Between the start
/// and the end nothing else may be written.
pub fn metadata<'a>(
    out: &mut BytesMut,
    name: Option<&str>,
    names: Names,
    values: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
) {
    put_place(out, name, names);
    for (at, (entry, value)) in values.into_iter().enumerate() {
        out.extend_from_slice(if at == 0 { b" (" } else { b" " });
        astring(out, entry);
        out.extend_from_slice(b" ");
        match value {
            Some(value) if value.contains(&0) => {
                put(out, format_args!("~{{{}}}\r\n", value.len()));
                out.extend_from_slice(value);
            }
            value => nstring(out, value),
        }
    }
    out.extend_from_slice(b")\r\n");
}

/// `* METADATA mailbox entry ..`: others changed these (RFC 5464 section 4.4.2).
pub fn metadata_changed(out: &mut BytesMut, name: Option<&str>, names: Names, entries: &[String]) {
    put_place(out, name, names);
    for entry in entries {
        out.extend_from_slice(b" ");
        astring(out, entry);
    }
    out.extend_from_slice(b"\r\n");
}

/// An entry's name: bare where that is plainly safe.
fn astring(out: &mut BytesMut, entry: &str) {
    let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-');
    if !entry.is_empty() && entry.bytes().all(bare) {
        out.extend_from_slice(entry.as_bytes());
    } else {
        string(out, entry.as_bytes());
    }
}

/// `* NAMESPACE ..`: one personal namespace without a prefix, no others (RFC 2342 section 5).
pub fn namespace(out: &mut BytesMut) {
    put(out, format_args!("* NAMESPACE ((\"\" \"{SEPARATOR}\")) NIL NIL\r\n"));
}

/// `* ID (..)`, or `* ID NIL` without fields (RFC 2971 section 3.2).
pub fn id(out: &mut BytesMut, fields: &[(&str, Option<&str>)]) {
    if fields.is_empty() {
        return out.extend_from_slice(b"* ID NIL\r\n");
    }
    for (at, (name, value)) in fields.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"* ID (" } else { b" " });
        string(out, name.as_bytes());
        out.extend_from_slice(b" ");
        nstring(out, value.map(str::as_bytes));
    }
    out.extend_from_slice(b")\r\n");
}

/// `* ENABLED ..`: what of the wish could be turned on, often nothing (RFC 5161 section 3.2).
pub fn enabled<'a>(out: &mut BytesMut, capabilities: impl IntoIterator<Item = &'a str>) {
    out.extend_from_slice(b"* ENABLED");
    for capability in capabilities {
        put(out, format_args!(" {capability}"));
    }
    out.extend_from_slice(b"\r\n");
}

/// `* n EXISTS`
pub fn exists(out: &mut BytesMut, count: u32) {
    put(out, format_args!("* {count} EXISTS\r\n"));
}

/// `* n RECENT`
pub fn recent(out: &mut BytesMut, count: u32) {
    put(out, format_args!("* {count} RECENT\r\n"));
}

/// `* n EXPUNGE`
pub fn expunge(out: &mut BytesMut, number: u32) {
    put(out, format_args!("* {number} EXPUNGE\r\n"));
}

/// Most ranges of UIDs in one VANISHED line: programs read a line into memory.
const MAX_RANGES: usize = 500;

/// `* VANISHED 405,407:410`, in as many lines as it takes; with `earlier`, `* VANISHED (EARLIER) ..` (RFC 7162 section
/// 3.2.10). Ranges of UIDs, ends included, ascending.
pub fn vanished(out: &mut BytesMut, earlier: bool, uids: &[(u32, u32)]) {
    let word = if earlier { "VANISHED (EARLIER)" } else { "VANISHED" };
    for ranges in uids.chunks(MAX_RANGES) {
        put(out, format_args!("* {word} {}\r\n", Ranges::new(ranges.to_vec())));
    }
}

/// `(a b c)`; words come from our own lists or passed the flag grammar.
pub(super) fn put_list<'a>(out: &mut BytesMut, words: impl IntoIterator<Item = &'a str>) {
    out.extend_from_slice(b"(");
    for (at, word) in words.into_iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b" ");
        }
        out.extend_from_slice(word.as_bytes());
    }
    out.extend_from_slice(b")");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::write::read_back;

    fn written(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        let line = String::from_utf8_lossy(&out).into_owned();
        // What imap-codec does not decode, or only with a feature that is off here.
        if !["CHILDINFO", "OLDNAME", "MAILBOXID", "QUOTA", "METADATA"].iter().any(|word| line.contains(word)) {
            assert!(read_back(&out).ends_with("rest 0"), "{line}");
        }
        line
    }

    #[test]
    fn every_line_is_as_its_rfc_says_and_another_codec_reads_it() {
        let sent =
            ListLine { name: "Gesendete Übel", attributes: &["\\HasNoChildren", "\\Sent"], ..ListLine::default() };
        let utf8 = ListLine { names: Names::Utf8, attributes: &[], ..sent };
        let parent = ListLine { name: "a", child_info: &["SUBSCRIBED", "SPECIAL-USE"], ..ListLine::default() };
        let renamed = ListLine { name: "New", old_name: Some("Älter"), ..ListLine::default() };
        let identity = [(StatusItem::MailboxId, 77), (StatusItem::DeletedStorage, 8)];
        let items = [(StatusItem::Messages, 3), (StatusItem::UidNext, 9), (StatusItem::Size, 5_000_000_000)];
        let cases = [
            (written(|o| flags(o, ["\\Seen", "$Junk"])), "* FLAGS (\\Seen $Junk)\r\n"),
            (written(|o| list(o, &sent)), "* LIST (\\HasNoChildren \\Sent) \"/\" \"Gesendete &ANw-bel\"\r\n"),
            (
                written(|o| list(o, &parent)),
                "* LIST () \"/\" a (\"CHILDINFO\" (\"SUBSCRIBED\" \"SPECIAL-USE\"))\r\n",
            ),
            (written(|o| list(o, &renamed)), "* LIST () \"/\" New (\"OLDNAME\" (&AMQ-lter))\r\n"),
            (written(|o| list(o, &utf8)), "* LIST () \"/\" \"Gesendete Übel\"\r\n"),
            (
                written(|o| status(o, "ö", Names::Utf8, identity)),
                "* STATUS \"ö\" (MAILBOXID (F77) DELETED-STORAGE 8)\r\n",
            ),
            (written(|o| lsub(o, &sent)), "* LSUB (\\HasNoChildren \\Sent) \"/\" \"Gesendete &ANw-bel\"\r\n"),
            (written(list_separator), "* LIST (\\Noselect) \"/\" \"\"\r\n"),
            (
                written(|o| status(o, "INBOX", Names::Mutf7, items)),
                "* STATUS INBOX (MESSAGES 3 UIDNEXT 9 SIZE 5000000000)\r\n",
            ),
            (written(|o| quota_root(o, "INBOX", Names::Mutf7, Some(""))), "* QUOTAROOT INBOX \"\"\r\n"),
            (written(|o| quota_root(o, "INBOX", Names::Mutf7, None)), "* QUOTAROOT INBOX\r\n"),
            (
                written(|o| quota(o, "", &[("STORAGE", 10, 512), ("MESSAGE", 2, 1000)])),
                "* QUOTA \"\" (STORAGE 10 512 MESSAGE 2 1000)\r\n",
            ),
            (
                written(|o| metadata(o, None, Names::Mutf7, [("/shared/comment", Some(b"My comment" as &[u8]))])),
                "* METADATA \"\" (/shared/comment \"My comment\")\r\n",
            ),
            (
                written(|o| {
                    metadata(
                        o,
                        Some("ö"),
                        Names::Mutf7,
                        [("/shared/a b", None), ("/shared/b", Some(b"\0" as &[u8]))],
                    )
                }),
                "* METADATA &APY- (\"/shared/a b\" NIL /shared/b ~{1}\r\n\0)\r\n",
            ),
            (
                written(|o| metadata_changed(o, Some("INBOX"), Names::Mutf7, &["/shared/comment".into()])),
                "* METADATA INBOX /shared/comment\r\n",
            ),
            (written(|o| vanished(o, false, &[(405, 405), (407, 410)])), "* VANISHED 405,407:410\r\n"),
            (written(|o| vanished(o, true, &[(41, 41), (43, 116)])), "* VANISHED (EARLIER) 41,43:116\r\n"),
            (written(namespace), "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n"),
            (
                written(|o| id(o, &[("name", Some("Portcullis")), ("os", None)])),
                "* ID (\"name\" \"Portcullis\" \"os\" NIL)\r\n",
            ),
            (written(|o| id(o, &[])), "* ID NIL\r\n"),
            (written(|o| enabled(o, [])), "* ENABLED\r\n"),
            (written(|o| exists(o, 3)), "* 3 EXISTS\r\n"),
            (written(|o| recent(o, 0)), "* 0 RECENT\r\n"),
            (written(|o| expunge(o, 1)), "* 1 EXPUNGE\r\n"),
            (written(|o| capability(o, None)), &format!("* CAPABILITY {}\r\n", capabilities(None))),
            (written(|o| capability(o, Some(7))), &format!("* CAPABILITY {}\r\n", capabilities(Some(7)))),
        ];
        for (got, expected) in &cases {
            assert_eq!(got, expected);
        }
    }
}
