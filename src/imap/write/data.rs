//! Untagged data about the server and its mailboxes (RFC 3501 sections 7.2 and 7.3, RFC 2342, 2971, 5161, 5258).

use bytes::BytesMut;

use super::{capabilities, mailbox, nstring, put, string};
use crate::imap::{command::StatusItem, mailbox::SEPARATOR, set::Ranges};

/// `* CAPABILITY ..`
pub fn capability(out: &mut BytesMut, append: Option<u64>) {
    put(out, format_args!("* CAPABILITY {}\r\n", capabilities(append)));
}

/// `* FLAGS (..)`: flags that messages of this mailbox may have.
pub fn flags<'a>(out: &mut BytesMut, flags: impl IntoIterator<Item = &'a str>) {
    out.extend_from_slice(b"* FLAGS ");
    put_list(out, flags);
    out.extend_from_slice(b"\r\n");
}

/// One line of LIST or LSUB.
#[derive(Clone, Copy, Debug)]
pub struct ListLine<'a> {
    /// The name in UTF-8.
    pub name: &'a str,
    /// `\HasChildren`, `\Sent`, ..
    pub attributes: &'a [&'a str],
    /// There are subscribed mailboxes below that the pattern itself does not show (RFC 5258 section 3.5, asked for by
    /// RECURSIVEMATCH).
    pub subscribed_below: bool,
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
    put_line(out, "LIST", &ListLine { name: "", attributes: &["\\Noselect"], subscribed_below: false });
}

fn put_line(out: &mut BytesMut, word: &str, line: &ListLine<'_>) {
    put(out, format_args!("* {word} "));
    put_list(out, line.attributes.iter().copied());
    put(out, format_args!(" \"{SEPARATOR}\" "));
    mailbox(out, line.name);
    if line.subscribed_below {
        out.extend_from_slice(b" (\"CHILDINFO\" (\"SUBSCRIBED\"))");
    }
    out.extend_from_slice(b"\r\n");
}

/// `* STATUS name (MESSAGES 3 ..)`
pub fn status(out: &mut BytesMut, name: &str, items: impl IntoIterator<Item = (StatusItem, u64)>) {
    out.extend_from_slice(b"* STATUS ");
    mailbox(out, name);
    out.extend_from_slice(b" (");
    for (at, (item, value)) in items.into_iter().enumerate() {
        let space = if at == 0 { "" } else { " " };
        put(out, format_args!("{space}{} {value}", item.word()));
    }
    out.extend_from_slice(b")\r\n");
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
        // imap-codec decodes CHILDINFO only with a feature that is off here.
        if !line.contains("CHILDINFO") {
            assert!(read_back(&out).ends_with("rest 0"), "{line}");
        }
        line
    }

    #[test]
    fn every_line_is_as_its_rfc_says_and_another_codec_reads_it() {
        let sent = ListLine {
            name: "Gesendete Übel",
            attributes: &["\\HasNoChildren", "\\Sent"],
            subscribed_below: false,
        };
        let parent = ListLine { name: "a", attributes: &[], subscribed_below: true };
        let items = [(StatusItem::Messages, 3), (StatusItem::UidNext, 9), (StatusItem::Size, 5_000_000_000)];
        let cases = [
            (written(|o| flags(o, ["\\Seen", "$Junk"])), "* FLAGS (\\Seen $Junk)\r\n"),
            (written(|o| list(o, &sent)), "* LIST (\\HasNoChildren \\Sent) \"/\" \"Gesendete &ANw-bel\"\r\n"),
            (written(|o| list(o, &parent)), "* LIST () \"/\" a (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n"),
            (written(|o| lsub(o, &sent)), "* LSUB (\\HasNoChildren \\Sent) \"/\" \"Gesendete &ANw-bel\"\r\n"),
            (written(list_separator), "* LIST (\\Noselect) \"/\" \"\"\r\n"),
            (written(|o| status(o, "INBOX", items)), "* STATUS INBOX (MESSAGES 3 UIDNEXT 9 SIZE 5000000000)\r\n"),
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
