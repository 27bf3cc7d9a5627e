//! What BODY[section] is, over TLS against the real binary: every section of the messages in `tests/mail`, whole and in
//! parts, held against lines counted by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use support::{ANN, APP, Gate, mail, wire::Imap};

/// Which lines of a file a section is.
enum Is {
    /// From this line to that one, both 1 or more, with the line end of the last.
    Lines(usize, usize),
    /// The same without the line end of the last.
    Cut(usize, usize),
    /// No octets.
    Empty,
    /// No such section.
    Nil,
}

/// Written by hand from the files with line numbers beside (`cat -n`), by RFC 3501 section 6.4.5 and RFC 2046.
const SECTIONS: &[(&str, &str, Is)] = &[
    ("mixed-attachments.eml", "HEADER", Is::Lines(1, 9)),
    ("mixed-attachments.eml", "TEXT", Is::Lines(10, 69)),
    ("mixed-attachments.eml", "1", Is::Cut(16, 21)),
    ("mixed-attachments.eml", "1.MIME", Is::Lines(12, 15)),
    ("mixed-attachments.eml", "2", Is::Cut(33, 59)),
    ("mixed-attachments.eml", "2.MIME", Is::Lines(23, 32)),
    ("mixed-attachments.eml", "3", Is::Cut(65, 66)),
    ("mixed-attachments.eml", "3.HEADER", Is::Nil),
    ("mixed-attachments.eml", "3.TEXT", Is::Nil),
    ("mixed-attachments.eml", "4", Is::Nil),
    ("mixed-attachments.eml", "1.1", Is::Nil),
    ("alternative-related.eml", "1", Is::Cut(12, 13)),
    ("alternative-related.eml", "2", Is::Cut(17, 32)),
    ("alternative-related.eml", "2.MIME", Is::Lines(15, 16)),
    ("alternative-related.eml", "2.1", Is::Cut(21, 23)),
    ("alternative-related.eml", "2.2", Is::Cut(30, 31)),
    ("alternative-related.eml", "2.2.MIME", Is::Lines(25, 29)),
    ("alternative-related.eml", "2.3", Is::Nil),
    ("nested-two-deep.eml", "1", Is::Cut(12, 12)),
    ("nested-two-deep.eml", "2", Is::Cut(17, 44)),
    ("nested-two-deep.eml", "2.MIME", Is::Lines(14, 16)),
    ("nested-two-deep.eml", "2.HEADER", Is::Lines(17, 26)),
    ("nested-two-deep.eml", "2.TEXT", Is::Cut(27, 44)),
    ("nested-two-deep.eml", "2.1", Is::Cut(30, 30)),
    ("nested-two-deep.eml", "2.2", Is::Cut(34, 43)),
    ("nested-two-deep.eml", "2.2.HEADER", Is::Lines(34, 41)),
    ("nested-two-deep.eml", "2.2.TEXT", Is::Cut(42, 43)),
    ("nested-two-deep.eml", "2.2.1", Is::Cut(42, 43)),
    ("nested-two-deep.eml", "2.2.1.MIME", Is::Lines(34, 41)),
    ("nested-two-deep.eml", "2.2.2", Is::Nil),
    ("nested-two-deep.eml", "3", Is::Cut(49, 49)),
    ("nested-two-deep.eml", "3.MIME", Is::Lines(46, 48)),
    ("digest.eml", "1", Is::Cut(10, 10)),
    ("digest.eml", "2.1", Is::Cut(16, 20)),
    ("digest.eml", "2.1.MIME", Is::Lines(15, 15)),
    ("digest.eml", "2.1.HEADER", Is::Lines(16, 19)),
    ("digest.eml", "2.1.1", Is::Cut(20, 20)),
    ("digest.eml", "2.2.TEXT", Is::Cut(28, 28)),
    ("digest.eml", "2.3", Is::Cut(32, 32)),
    ("digest.eml", "2.3.HEADER", Is::Nil),
    ("boundary-in-text.eml", "1", Is::Cut(11, 16)),
    ("boundary-in-text.eml", "2.1", Is::Cut(22, 22)),
    ("boundary-in-text.eml", "2.1.MIME", Is::Lines(21, 21)),
    ("boundary-in-text.eml", "3", Is::Cut(27, 27)),
    ("empty-parts.eml", "2", Is::Empty),
    ("empty-parts.eml", "3", Is::Empty),
    ("empty-parts.eml", "3.MIME", Is::Lines(12, 13)),
    ("unterminated.eml", "1.1", Is::Cut(14, 14)),
    ("unterminated.eml", "1.2", Is::Cut(18, 18)),
    ("unterminated.eml", "2", Is::Lines(23, 24)),
    ("dots.eml", "1", Is::Lines(7, 16)),
    ("dots.eml", "TEXT", Is::Lines(7, 16)),
    ("dots.eml", "1.MIME", Is::Lines(1, 6)),
    ("dots.eml", "2", Is::Nil),
    ("no-header.eml", "HEADER", Is::Lines(1, 1)),
    ("no-header.eml", "TEXT", Is::Lines(2, 5)),
    ("no-header.eml", "1", Is::Lines(2, 5)),
    ("header-only.eml", "HEADER", Is::Lines(1, 3)),
    ("header-only.eml", "TEXT", Is::Empty),
    ("header-only.eml", "1", Is::Empty),
];

#[test]
fn every_section_is_the_lines_it_should_be_whole_and_in_parts_of_any_size() {
    let gate = Gate::start();
    let mut files: Vec<&str> = SECTIONS.iter().map(|(file, ..)| *file).collect();
    files.dedup();
    for file in &files {
        gate.deliver(ANN, &mail::by_name(file));
    }
    let mut imap = opened(&gate, "INBOX");
    for (file, section, is) in SECTIONS {
        let number = files.iter().position(|name| name == file).unwrap() + 1;
        let message = mail::by_name(file);
        let all: Vec<&[u8]> = message.split_inclusive(|byte| *byte == b'\n').collect();
        let expected = match is {
            Is::Lines(first, last) => Some(all[first - 1..*last].concat()),
            Is::Cut(first, last) => {
                let mut bytes = all[first - 1..*last].concat();
                bytes.truncate(bytes.len() - 2);
                Some(bytes)
            }
            Is::Empty => Some(Vec::new()),
            Is::Nil => None,
        };
        let name = format!("BODY[{section}] of {file}");
        let reply = imap.ok(&format!("FETCH {number} BODY.PEEK[{section}]"));
        let Some(expected) = expected else {
            assert_eq!(reply.lines(), [format!("* {number} FETCH (BODY[{section}] NIL)")], "{name}");
            continue;
        };
        let got = literal(&reply.untagged[0]);
        assert_eq!(String::from_utf8_lossy(got), String::from_utf8_lossy(&expected), "{name}");
        // The same with other items beside, which make the gate look at all parts.
        let reply = imap.ok(&format!("FETCH {number} (BODYSTRUCTURE BODY.PEEK[{section}])"));
        assert!(
            reply.untagged[0].windows(expected.len().max(1)).any(|bytes| bytes == expected) || expected.is_empty()
        );
        for (origin, count) in [(0, 7), (3, 64), (expected.len().saturating_sub(2), 10), (expected.len() + 5, 10)] {
            let reply = imap.ok(&format!("FETCH {number} BODY.PEEK[{section}]<{origin}.{count}>"));
            let from = origin.min(expected.len());
            let to = (origin + count).min(expected.len());
            assert_eq!(literal(&reply.untagged[0]), &expected[from..to.max(from)], "{name} <{origin}.{count}>");
        }
    }
}

#[test]
fn header_and_text_make_up_the_message_also_where_its_lines_end_in_lf_or_it_has_no_header() {
    let gate = Gate::start();
    let mut imap = opened(&gate, "INBOX");
    let messages: [(&str, &[u8], usize); 7] = [
        ("CRLF", b"A: b\r\n\r\nbody\r\n", 8),
        ("LF alone, as it was sent", b"A: b\n\nbody\n", 6),
        ("mixed", b"A: b\r\nC: d\n\r\nbody", 13),
        ("no header", b"\r\nbody\r\n", 2),
        ("no blank line", b"A: b\r\nC: d\r\n", 12),
        ("no line end", b"A: b", 4),
        ("only CRLF", b"\r\n", 2),
    ];
    for (at, (name, message, header)) in messages.iter().enumerate() {
        imap.append("INBOX", "", message);
        let number = at + 1;
        let size = imap.ok(&format!("FETCH {number} RFC822.SIZE")).lines();
        assert_eq!(size, [format!("* {number} FETCH (RFC822.SIZE {})", message.len())], "{name}");
        for (section, expected) in [
            ("", *message),
            ("HEADER", &message[..*header]),
            ("TEXT", &message[*header..]),
            ("1", &message[*header..]),
        ] {
            let reply = imap.ok(&format!("FETCH {number} BODY.PEEK[{section}]"));
            assert_eq!(literal(&reply.untagged[0]), expected, "{name}: BODY[{section}]");
        }
    }
    // A file with LF alone, as a mail transfer agent writes it, is CRLF on the wire: in size, body and parts alike.
    let nested = mail::by_name("nested-two-deep.eml");
    gate.deliver(ANN, &nested);
    imap.ok("NOOP");
    let size = imap.ok("FETCH 8 RFC822.SIZE").lines();
    assert_eq!(size, [format!("* 8 FETCH (RFC822.SIZE {})", nested.len())]);
    let reply = imap.ok("FETCH 8 BODY.PEEK[]");
    assert_eq!(literal(&reply.untagged[0]), nested);
    let (header, text) = (imap.ok("FETCH 8 BODY.PEEK[HEADER]"), imap.ok("FETCH 8 BODY.PEEK[TEXT]"));
    assert_eq!([literal(&header.untagged[0]), literal(&text.untagged[0])].concat(), nested);
}

/// Asked together with BODY, which is never kept, every item is found in the message itself.
#[test]
fn what_is_kept_of_a_message_is_what_stands_in_it() {
    let mut gate = Gate::start();
    let files = mail::hard_cases();
    files.iter().for_each(|file| gate.deliver(ANN, &file.wire));
    gate.deliver(ANN, format!("Subject: {}\r\nTo: a@b.c\r\n\r\nlong", "x ".repeat(60_000)).as_bytes());
    gate.deliver(ANN, b"");
    let items = [
        "ENVELOPE",
        "BODYSTRUCTURE",
        "ENVELOPE BODYSTRUCTURE",
        "BODY.PEEK[HEADER.FIELDS (Subject from TO Cc \"x-priority\" Received-SPF)]",
        "UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (References)] ENVELOPE BODYSTRUCTURE",
        "BODY.PEEK[HEADER.FIELDS (Subject)]<3.10> BODY.PEEK[HEADER.FIELDS (X-Not-Kept)]",
    ];
    let check = |gate: &Gate, round: &str| {
        let mut imap = opened(gate, "INBOX");
        for items in items {
            let (kept, found) =
                (imap.ok(&format!("FETCH 1:* ({items})")), imap.ok(&format!("FETCH 1:* ({items} BODY)")));
            let by_number = |reply: Vec<Vec<u8>>| {
                let mut lines = reply;
                lines.sort_by_key(|line| {
                    String::from_utf8_lossy(line).split(' ').nth(1).and_then(|n| n.parse::<u32>().ok())
                });
                lines
            };
            let (kept, found) = (by_number(kept.untagged), by_number(found.untagged));
            assert_eq!((kept.len(), found.len()), (files.len() + 2, files.len() + 2), "{round}: {items}");
            for (kept, found) in kept.iter().zip(&found) {
                let same = &kept[..kept.iter().rposition(|byte| *byte == b')').unwrap()];
                let text = String::from_utf8_lossy;
                assert!(found.starts_with(same), "{round}: {items}:\n{}\n{}", text(kept), text(found));
            }
        }
    };
    check(&gate, "first");
    check(&gate, "again");
    gate.crash_and_restart();
    check(&gate, "after a restart");
    let cache = gate.maildir(ANN).join("portcullis-cache");
    let length = std::fs::metadata(&cache).unwrap().len();
    assert!(length > 1000, "{length} bytes were kept");
    std::fs::OpenOptions::new().write(true).open(&cache).unwrap().set_len(length / 2).unwrap();
    gate.crash_and_restart();
    check(&gate, "with half of the cache");
    std::fs::write(&cache, vec![0x5a; 5000]).unwrap();
    gate.crash_and_restart();
    check(&gate, "with a cache of something else");
}

/// The bytes of the one literal of a response.
fn literal(response: &[u8]) -> &[u8] {
    let head_end = response.windows(2).position(|pair| pair == b"\r\n").unwrap();
    let head = String::from_utf8_lossy(&response[..head_end]).into_owned();
    let size: usize = head.rsplit_once('{').unwrap().1.trim_end_matches('}').parse().unwrap();
    &response[head_end + 2..head_end + 2 + size]
}

fn opened(gate: &Gate, mailbox: &str) -> Imap {
    let mut imap = gate.imap(ANN, APP);
    imap.ok(&format!("SELECT {mailbox}"));
    imap
}
