//! The `message` room on whole mails: the hard cases under `tests/mail`, and mails made to hurt. The structures expected
//! here were compared with what Dovecot 2.3.19 answers for the same files; where we differ on purpose, a comment says so.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

use std::{fs, ops::Range, path::Path, time::Duration, time::Instant};

use portcullis::message::{
    Address, Envelope, Keep, Limits, Needle, Parameter, Part, Piece, Scanner,
    SectionText::{Header, Mime, Text, Whole},
    Shape, Structure, TextDecoder, ThreadToken, Threadable, base_subject, by_references, decode_header,
    decode_header_block, fields, header_fields, parse_date,
};

fn sample(name: &str) -> Vec<u8> {
    fs::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mail")).join(name)).unwrap()
}

fn samples() -> Vec<(String, Vec<u8>)> {
    let mut names: Vec<String> = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mail"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".eml"))
        .collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), sample(&name))).collect()
}

fn scan(message: &[u8]) -> Structure {
    let mut scanner = Scanner::new(Limits::default());
    scanner.feed(message);
    scanner.finish()
}

fn octets(message: &[u8], range: Range<u64>) -> &[u8] {
    &message[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
}

fn string(value: &[u8]) -> String {
    format!("\"{}\"", String::from_utf8_lossy(value).replace('\\', "\\\\").replace('"', "\\\""))
}

fn nstring(value: Option<&[u8]>) -> String {
    value.map_or_else(|| "NIL".into(), string)
}

fn parameters(list: &[Parameter]) -> String {
    let pairs: Vec<String> = list.iter().map(|p| format!("{} {}", string(&p.name), string(&p.value))).collect();
    if pairs.is_empty() { "NIL".into() } else { format!("({})", pairs.join(" ")) }
}

fn address_list(list: &[Address]) -> String {
    let one = |a: &Address| {
        let members = [&a.name, &a.route, &a.mailbox, &a.host];
        format!("({})", members.map(|member| nstring(member.as_deref())).join(" "))
    };
    if list.is_empty() { "NIL".into() } else { format!("({})", list.iter().map(one).collect::<String>()) }
}

fn envelope(e: &Envelope) -> String {
    let members = [
        nstring(e.date.as_deref()),
        nstring(e.subject.as_deref()),
        address_list(&e.from),
        address_list(e.sender_or_from()),
        address_list(e.reply_to_or_from()),
        address_list(&e.to),
        address_list(&e.cc),
        address_list(&e.bcc),
        nstring(e.in_reply_to.as_deref()),
        nstring(e.message_id.as_deref()),
    ];
    format!("({})", members.join(" "))
}

/// BODYSTRUCTURE as a server would write it.
fn bodystructure(structure: &Structure, part: &Part) -> String {
    let language: Vec<String> = part.languages().iter().map(|tag| string(tag)).collect();
    let language = if language.is_empty() { "NIL".into() } else { format!("({})", language.join(" ")) };
    let disposition =
        part.disposition().map_or("NIL".into(), |d| format!("({} {})", string(&d.kind), parameters(&d.parameters)));
    let tail = format!("{disposition} {language} {}", nstring(part.location()));
    let media = part.media();
    if part.shape() == Shape::Multipart {
        let children: String = structure.children(part).map(|child| bodystructure(structure, child)).collect();
        return format!("({children} {} {} {tail})", string(&media.subtype), parameters(&media.parameters));
    }
    let inner = structure.inner(part).map_or(String::new(), |inner| {
        format!(" {} {}", envelope(inner.envelope().unwrap()), bodystructure(structure, inner))
    });
    let lines = match part.shape() {
        Shape::Text | Shape::Message => format!(" {}", part.lines()),
        _ => String::new(),
    };
    format!(
        "({} {} {} {} {} {} {}{inner}{lines} {} {tail})",
        string(&media.kind),
        string(&media.subtype),
        parameters(&media.parameters),
        nstring(part.id()),
        nstring(part.description()),
        string(part.encoding()),
        part.size(),
        nstring(part.md5())
    )
}

const PLAIN: &str = r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit""#;

#[test]
fn sample_files_are_in_wire_form() {
    let all = samples();
    assert!(all.len() >= 12);
    for (name, message) in all {
        assert!(!message.contains(&0), "{name} has a NUL");
        for (at, _) in message.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            assert!(
                at > 0 && message[at - 1] == b'\r',
                "{name}: bare LF at {at} (a checkout without .gitattributes?)"
            );
        }
    }
}

#[test]
fn structures_of_the_samples() {
    let digest_envelope = |date: &str, n: &str, subject: &str| {
        let from = format!(r#"((NIL NIL "{n}" "example.com"))"#);
        format!(r#"({date} "{subject}" {from} {from} {from} NIL NIL NIL NIL NIL)"#)
    };
    let table: [(&str, String); 12] = [
        ("8bit-body.eml", r#"("text" "plain" ("charset" "utf-8") NIL NIL "8bit" 83 2 NIL NIL NIL NIL)"#.into()),
        (
            "alternative-related.eml",
            r#"(("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 18 1 NIL NIL NIL NIL)(("text" "html" ("charset" "utf-8") NIL NIL "base64" 128 2 NIL NIL NIL NIL)("image" "png" ("name" "logo.png") "<logo@example.com>" NIL "base64" 98 NIL ("inline" ("filename" "logo.png")) NIL NIL) "related" ("boundary" "alt-rel" "type" "text/html") NIL NIL NIL) "alternative" ("boundary" "alt") NIL NIL NIL)"#.into(),
        ),
        (
            "boundary-in-text.eml",
            format!(r#"({PLAIN} 181 5 NIL NIL NIL NIL)({PLAIN} 44 0 NIL NIL NIL NIL) "alternative" ("boundary" "frontier-2") NIL NIL NIL){PLAIN} 43 0 NIL NIL NIL NIL) "mixed" ("boundary" "frontier") NIL NIL NIL)"#),
        ),
        (
            "digest.eml",
            format!(
                r#"({PLAIN} 23 0 NIL NIL NIL NIL)(("message" "rfc822" NIL NIL NIL "7bit" 111 {} {PLAIN} 18 0 NIL NIL NIL NIL) 4 NIL NIL NIL NIL)("message" "rfc822" NIL NIL NIL "7bit" 122 {} ("text" "html" ("charset" "utf-8") NIL NIL "7bit" 26 0 NIL NIL NIL NIL) 4 NIL NIL NIL NIL){PLAIN} 28 0 NIL NIL NIL NIL) "digest" ("boundary" "d1") NIL NIL NIL) "mixed" ("boundary" "d0") NIL NIL NIL)"#,
                digest_envelope(r#""Mon, 3 Feb 2025 01:00:00 +0000""#, "one", "first of the digest"),
                digest_envelope("NIL", "two", "second of the digest"),
            ),
        ),
        ("dots.eml", format!("{PLAIN} 92 9 NIL NIL NIL NIL)")),
        (
            "empty-parts.eml",
            format!(
                r#"({PLAIN} 0 0 NIL NIL NIL NIL){PLAIN} 0 0 NIL NIL NIL NIL)("text" "html" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)("image" "gif" NIL NIL NIL "base64" 0 NIL NIL NIL NIL)({PLAIN} 0 0 NIL NIL NIL NIL) "mixed" ("boundary" "never") NIL NIL NIL)("message" "rfc822" NIL NIL NIL "7bit" 0 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) {PLAIN} 0 0 NIL NIL NIL NIL) 0 NIL NIL NIL NIL) "mixed" ("boundary" "e") NIL NIL NIL)"#
            ),
        ),
        ("header-only.eml", format!("{PLAIN} 0 0 NIL NIL NIL NIL)")),
        ("iso-2022-jp.eml", r#"("text" "plain" ("charset" "ISO-2022-JP") NIL NIL "7bit" 48 2 NIL NIL NIL NIL)"#.into()),
        ("long-headers.eml", format!("{PLAIN} 6 1 NIL NIL NIL NIL)")),
        // Dovecot 2.3 joins `name*0*` and `name*1*`, and puts `size` first; RFC 3501 shows parameters as they are.
        (
            "mixed-attachments.eml",
            r#"(("text" "plain" ("charset" "utf-8" "format" "flowed") NIL NIL "quoted-printable" 113 5 NIL ("inline" NIL) NIL NIL)("application" "pdf" ("name*0*" "utf-8''figures%20for%20" "name*1*" "f%C3%A9vrier.pdf") "<part2@example.com>" "=?utf-8?q?Figures_f=C3=A9vrier?=" "base64" 2052 "Q2hlY2sgSW50ZWdyaXR5IQ==" ("attachment" ("filename*" "utf-8''figures%20for%20f%C3%A9vrier.pdf" "size" "1500")) NIL NIL)("text" "csv" ("charset" "us-ascii" "name" "a;b \"quoted\".csv") NIL NIL "7bit" 8 1 NIL ("attachment" ("filename" "a;b \"quoted\".csv")) NIL "http://example.com/a.csv") "mixed" ("boundary" "=_mixed_7f3k") NIL ("en" "de") NIL)"#.into(),
        ),
        ("no-header.eml", format!("{PLAIN} 102 4 NIL NIL NIL NIL)")),
        (
            "unterminated.eml",
            format!(
                r#"(({PLAIN} 5 0 NIL NIL NIL NIL)("text" "html" ("charset" "us-ascii") NIL NIL "7bit" 46 0 NIL NIL NIL NIL) "alternative" ("boundary" "cut-in") NIL NIL NIL)("application" "octet-stream" NIL NIL NIL "base64" 43 NIL NIL NIL NIL) "mixed" ("boundary" "cut") NIL NIL NIL)"#
            ),
        ),
    ];
    for (name, expected) in table {
        let structure = scan(&sample(name));
        assert_eq!(bodystructure(&structure, structure.root()), expected, "{name}");
    }
}

#[test]
fn a_forwarded_message_inside_a_forwarded_message() {
    let message = sample("nested-two-deep.eml");
    let structure = scan(&message);
    // Dovecot counts the line end after the inner closing delimiter (702); by RFC 2046 it belongs to the outer one.
    assert_eq!((structure.part(&[2]).unwrap().size(), structure.part(&[2]).unwrap().lines()), (700, 27));
    let expected = concat!(
        r#"("Sat, 1 Feb 2025 08:00:00 +0000" "look at this" (("Cid" NIL "cid" "example.com")) (("Cid" NIL "cid" "example.com")) "#,
        r#"((NIL NIL "list" "example.com")) ((NIL NIL "friends" NIL)(NIL NIL "bob" "example.com")("Dora" NIL "dora" "example.com")"#,
        r#"(NIL NIL NIL NIL)(NIL NIL "eve" "example.com")) ((NIL NIL "undisclosed-recipients" NIL)(NIL NIL NIL NIL)) NIL NIL "<nest-3@example.com>")"#,
    );
    let innermost = structure.inner(structure.part(&[2, 2]).unwrap()).unwrap();
    assert_eq!(envelope(innermost.envelope().unwrap()), expected);
    let read = |numbers: &[u32], text| structure.section(numbers, text).map(|range| octets(&message, range));
    assert_eq!(read(&[2, 2], Text).unwrap(), b"The innermost text.\r\nIt has two lines.");
    assert_eq!(read(&[2, 2, 1], Whole), read(&[2, 2], Text));
    assert!(read(&[2, 2], Header).unwrap().ends_with(b"Message-ID: <nest-3@example.com>\r\n\r\n"));
    let mime =
        "Content-Type: text/plain; name=last.txt\r\nContent-Disposition: attachment; filename=last.txt\r\n\r\n";
    assert_eq!(read(&[3], Mime).unwrap(), mime.as_bytes());
    assert_eq!(read(&[2, 3], Whole), None);
    assert_eq!(
        header_fields(read(&[2], Header).unwrap(), &["SENDER", "message-id"], Keep::Named),
        b"Sender: Bob's Secretary <sec@example.com>\r\nMessage-ID: <nest-2@example.com>\r\n\r\n"
    );
}

#[test]
fn samples_mean_the_same_wherever_they_are_cut() {
    for (name, message) in samples() {
        let whole = scan(&message);
        for cut in (0..message.len()).step_by(message.len() / 500 + 1) {
            let mut scanner = Scanner::default();
            scanner.feed(&message[..cut]);
            scanner.feed(&message[cut..]);
            assert_eq!(scanner.finish(), whole, "{name} cut at byte {cut}");
        }
    }
}

/// What SEARCH does: BODY looks at the pieces, TEXT at the headers too.
fn found(message: &[u8], needle: &str, headers: bool) -> bool {
    let structure = scan(message);
    let needle = Needle::new(needle);
    structure.pieces(headers).any(|piece| match piece {
        Piece::Header(range) => needle.is_in(&decode_header_block(octets(message, range))),
        Piece::Text(part) => {
            let mut decoder = TextDecoder::new(part, 1024 * 1024);
            let mut matcher = needle.matcher();
            let mut text = String::new();
            for chunk in octets(message, part.body()).chunks(7) {
                text.clear();
                decoder.feed(chunk, &mut text);
                matcher.feed(&text);
            }
            text.clear();
            decoder.finish(&mut text);
            matcher.feed(&text)
        }
    })
}

#[test]
fn search_finds_what_a_reader_sees() {
    // file, string, found in BODY, found in TEXT
    let table = [
        ("mixed-attachments.eml", "CAFÉ", true, true),
        ("mixed-attachments.eml", "This line is long and is broken softly", true, true),
        ("mixed-attachments.eml", "figures février", false, true),
        ("mixed-attachments.eml", "nobody reads", false, false),
        ("mixed-attachments.eml", "figures for the meeting", false, true),
        ("alternative-related.eml", "schöne html-fassung", true, true),
        ("alternative-related.eml", "iVBORw0", false, false),
        ("iso-2022-jp.eml", "三時から", true, true),
        ("iso-2022-jp.eml", "議事録と次回の予定", false, true),
        ("iso-2022-jp.eml", "山田", false, true),
        ("raw-8bit-headers.eml", "ÜBERGRÖSSE", false, true),
        ("raw-8bit-headers.eml", "Zoë Åberg", false, true),
        ("raw-8bit-headers.eml", "éric müller", false, true),
        ("raw-8bit-headers.eml", "grüße aus köln, 5 £", true, true),
        ("8bit-body.eml", "ПРИВЕТ", true, true),
        ("8bit-body.eml", "🙂", true, true),
        ("nested-two-deep.eml", "innermost", true, true),
        ("nested-two-deep.eml", "dora@example.com", true, true), // a header inside the body is part of the body
        ("nested-two-deep.eml", "nest-1", false, true),
        ("unterminated.eml", "html, and", true, true),
    ];
    for (name, needle, in_body, in_text) in table {
        let message = sample(name);
        assert_eq!(found(&message, needle, false), in_body, "BODY {needle} in {name}");
        assert_eq!(found(&message, needle, true), in_text, "TEXT {needle} in {name}");
    }
}

#[test]
fn a_search_stops_decoding_at_its_limit() {
    let message = [&b"Content-Transfer-Encoding: base64\r\n\r\n"[..], &b"YWFh".repeat(1000)].concat();
    let structure = scan(&message);
    let mut decoder = TextDecoder::new(structure.root(), 10);
    let mut text = String::new();
    assert!(!decoder.feed(octets(&message, structure.root().body()), &mut text));
    decoder.finish(&mut text);
    assert_eq!(text, "a".repeat(10));
}

#[test]
fn header_values_of_the_samples_are_decoded() {
    let value = |name: &str, field: &[u8]| -> String {
        let message = sample(name);
        decode_header(fields(&message).find(|f| f.is(field)).unwrap().value)
    };
    assert_eq!(value("iso-2022-jp.eml", b"subject"), "会議の議事録と次回の予定について");
    assert_eq!(value("iso-2022-jp.eml", b"to"), "鈴木花子 <hanako@example.jp>, bob@example.com");
    assert_eq!(value("raw-8bit-headers.eml", b"Subject"), "Übergröße und naïveté");
    assert_eq!(value("long-headers.eml", b"x-last"), "white space before the colon");
    let date = |name: &str| {
        let message = sample(name);
        parse_date(fields(&message).find(|f| f.is(b"date")).unwrap().value).unwrap().to_rfc3339()
    };
    assert_eq!(date("iso-2022-jp.eml"), "2025-02-04T09:30:00+09:00");
    assert_eq!(date("header-only.eml"), "2025-02-03T10:00:00-05:00");
}

/// Mails of a mebibyte or more that aim at one weakness each; a second in a debug build is ten times what they need.
#[test]
fn mails_made_to_hurt_are_scanned_and_searched_within_a_second() {
    const MIB: usize = 1024 * 1024;
    let fill = |head: &str, unit: &[u8]| [head.as_bytes(), &unit.repeat(MIB / unit.len())].concat();
    let nest =
        |n: usize| format!("Content-Type: multipart/x; boundary={}{n:02}\r\n\r\n--{0}{n:02}\r\n", "b".repeat(60));
    let nested: String = (0..99).map(nest).collect();
    let mixed = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n";
    let cases = [
        ("empty lines", fill("\r\n", b"\n")),
        ("near misses of many boundaries", fill(&nested, format!("--{}\r\n", "b".repeat(60)).as_bytes())),
        ("delimiters", fill(mixed, b"--b\r\n")),
        ("inner messages", fill("", b"Content-Type: message/rfc822\r\n\r\n")),
        ("multiparts in one another", fill("", b"Content-Type: multipart/x; boundary=b\r\n\r\n--b\r\n")),
        ("open comments in an address", fill("To: ", b"(")),
        ("open quotes in an address", fill("To: ", b"\\\"")),
        ("groups", fill("To: ", b"a:;")),
        ("addresses", fill("To: ", b"a@b,\r\n ")),
        ("many fields of addresses", fill("", b"To: a@b,c@d,e@f\r\n")),
        ("parameters", fill("Content-Type: text/plain", b"; a=b")),
        ("pieces of a boundary", fill("Content-Type: multipart/x", b"; boundary*1=b")),
        ("comments in a type", fill("Content-Type: ", b"(()")),
        ("dashes in a header", fill(&nested, b"X: y\r\n--\r\n")),
        ("starts of encoded words", fill("Subject: ", b"=?a?q?")),
        ("encoded words", fill("Subject: ", b"=?utf-8?q?a?= ")),
        ("words of changing charset", fill("Subject: ", b"=?utf-8?q?a?= =?utf-7?b?aaaa?= ")),
        ("quoted-printable", fill("Content-Transfer-Encoding: quoted-printable\r\n\r\n", b"= \t=\r")),
        ("base64 padding", fill("Content-Transfer-Encoding: base64\r\n\r\n", b"A=")),
        ("broken UTF-8", fill("Content-Type: text/plain; charset=utf-8\r\n\r\n", b"\xe2\x82")),
    ];
    for (name, message) in cases {
        let started = Instant::now();
        let mut scanner = Scanner::default();
        message.chunks(4096).for_each(|chunk| scanner.feed(chunk));
        let structure = scanner.finish();
        let scanned = started.elapsed();
        assert_eq!(structure.size(), message.len() as u64);
        for piece in structure.pieces(true) {
            match piece {
                Piece::Header(range) => drop(decode_header_block(octets(&message, range))),
                Piece::Text(part) => {
                    let (mut decoder, mut text) = (TextDecoder::new(part, u64::MAX), String::new());
                    decoder.feed(octets(&message, part.body()), &mut text);
                    decoder.finish(&mut text);
                }
            }
        }
        let all = started.elapsed();
        println!("{name}: {scanned:?} to scan, {all:?} in all");
        assert!(all < Duration::from_secs(1), "{name} took {scanned:?} to scan, {all:?} in all");
    }
}

#[test]
fn hostile_subjects_take_no_more_time_than_long_ones() {
    for piece in ["[]", "[a] ", "re:", "[fwd:", "(fwd)", "[", "[]re:", "fwd [", "re[]", "[fwd:]"] {
        let subject = piece.repeat(200_000) + &"]".repeat(200_000);
        let begun = Instant::now();
        base_subject(subject.as_bytes());
        assert!(begun.elapsed() < Duration::from_secs(3), "{piece} took {:?}", begun.elapsed());
    }
}

#[test]
fn threads_as_deep_as_a_mailbox_are_built_and_written_in_good_time() {
    const COUNT: u32 = 100_000;
    let one = |id: u32, references: Vec<u32>| Threadable {
        date: i64::from(id),
        id: Some(id),
        references,
        ..Threadable::default()
    };
    let deep: Vec<_> = (0..COUNT).map(|id| one(id, id.checked_sub(1).into_iter().collect())).collect();
    let backwards: Vec<_> = deep.iter().rev().cloned().collect();
    // A chain of messages that are not there.
    let absent: Vec<_> = (0..COUNT).map(|at| Threadable { id: None, ..one(at, vec![at, at + 1]) }).collect();
    for (name, given) in [("forwards", deep), ("backwards", backwards), ("absent", absent)] {
        let begun = Instant::now();
        let threads = by_references(&given, COUNT + 1);
        let messages = threads.tokens().filter(|token| matches!(token, ThreadToken::Message(_))).count();
        assert_eq!(messages, COUNT as usize, "{name}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{name} took {:?}", begun.elapsed());
    }
}
