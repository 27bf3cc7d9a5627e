#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

use proptest::prelude::*;

use super::*;
use crate::message::{
    SectionText::{self, Header, Mime, Text, Whole},
    Step,
};

fn scan(message: &[u8]) -> Structure {
    scan_with(message, Limits::default())
}

fn scan_with(message: &[u8], limits: Limits) -> Structure {
    let mut scanner = Scanner::new(limits);
    scanner.feed(message);
    scanner.finish()
}

fn octets(message: &[u8], range: std::ops::Range<u64>) -> &[u8] {
    &message[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
}

fn section(message: &str, numbers: &[u32], text: SectionText) -> Option<String> {
    let range = scan(message.as_bytes()).section(numbers, text)?;
    Some(String::from_utf8_lossy(octets(message.as_bytes(), range)).into_owned())
}

/// The structure on one line: a leaf is its type and body, a composite its type and children.
fn outline(message: &str) -> String {
    let structure = scan(message.as_bytes());
    let mut out = String::new();
    for step in structure.walk() {
        let composite = |part: &Part| matches!(part.shape(), Shape::Multipart | Shape::Message);
        match step {
            Step::Enter(part) => {
                let media = part.media();
                out += &String::from_utf8_lossy(&[&media.kind[..], b"/", &media.subtype].concat());
                if composite(part) {
                    out += "{";
                } else {
                    let body = String::from_utf8_lossy(octets(message.as_bytes(), part.body()));
                    out += &format!("{body:?}");
                }
            }
            Step::Leave(part) if composite(part) => out += "}",
            Step::Leave(_) => {}
        }
        if matches!(step, Step::Leave(_)) {
            out += " ";
        }
    }
    out.trim_end().replace(" }", "}")
}

const NESTED: &str = "Subject: outer\r\nContent-Type: multipart/mixed; boundary=out\r\n\r\npreamble\r\n--out\r\n\r\nfirst\r\n\
    --out\r\nContent-Type: message/rfc822\r\nContent-ID: <2>\r\n\r\nSubject: inner\r\nFrom: i@x\r\n\
    Content-Type: multipart/alternative; boundary=in\r\n\r\n--in\r\nContent-Type: text/html\r\n\r\n<b>\r\n--in\r\n\
    Content-Type: message/rfc822\r\n\r\nSubject: innermost\r\n\r\ndeep\r\n--in--\r\nepilogue\r\n--out--\r\nbye\r\n";

#[test]
fn sections_of_a_nested_message() {
    let table: [(&[u32], SectionText, Option<&str>); 22] = [
        (&[], Whole, Some(NESTED)),
        (&[], Header, Some("Subject: outer\r\nContent-Type: multipart/mixed; boundary=out\r\n\r\n")),
        (&[], Text, Some(&NESTED[NESTED.find("preamble").unwrap()..])),
        (&[], Mime, None),
        (&[1], Whole, Some("first")),
        (&[1], Mime, Some("\r\n")),
        (&[1], Header, None),
        (&[1], Text, None),
        (&[1, 1], Whole, None),
        (&[2], Mime, Some("Content-Type: message/rfc822\r\nContent-ID: <2>\r\n\r\n")),
        (&[2], Whole, Some(&NESTED[NESTED.find("Subject: inner\r").unwrap()..NESTED.find("\r\n--out--").unwrap()])),
        (&[2], Header, Some(&NESTED[NESTED.find("Subject: inner\r").unwrap()..NESTED.find("--in\r").unwrap()])),
        (&[2], Text, Some(&NESTED[NESTED.find("--in\r").unwrap()..NESTED.find("\r\n--out--").unwrap()])),
        (&[2, 1], Whole, Some("<b>")),
        (&[2, 1], Mime, Some("Content-Type: text/html\r\n\r\n")),
        (&[2, 2], Whole, Some("Subject: innermost\r\n\r\ndeep")),
        (&[2, 2], Header, Some("Subject: innermost\r\n\r\n")),
        (&[2, 2], Text, Some("deep")),
        (&[2, 2, 1], Whole, Some("deep")),
        (&[2, 2, 2], Whole, None),
        (&[3], Whole, None),
        (&[0], Whole, None),
    ];
    for (numbers, text, expected) in table {
        assert_eq!(section(NESTED, numbers, text).as_deref(), expected, "{numbers:?} {text:?}");
    }
    assert_eq!(
        outline(NESTED),
        r#"multipart/mixed{text/plain"first" message/rfc822{multipart/alternative{text/html"<b>" message/rfc822{text/plain"deep"}}}}"#
    );
}

#[test]
fn a_message_that_is_no_multipart_is_its_own_part_one() {
    let plain = "Subject: x\r\n\r\nbody\r\n";
    assert_eq!(section(plain, &[1], Whole).unwrap(), "body\r\n");
    assert_eq!(section(plain, &[1], Mime).unwrap(), "Subject: x\r\n\r\n");
    assert_eq!(section(plain, &[1], Text), None);
    assert_eq!(section(plain, &[2], Whole), None);
    assert_eq!(section(plain, &[1, 1], Whole), None);
    let carrier = "Content-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\ninner";
    assert_eq!(section(carrier, &[1], Whole).unwrap(), "Subject: y\r\n\r\ninner");
    assert_eq!(section(carrier, &[1], Header).unwrap(), "Subject: y\r\n\r\n");
    assert_eq!(section(carrier, &[1, 1], Whole).unwrap(), "inner");
    assert_eq!(section(carrier, &[1, 1, 1], Whole), None);
    assert_eq!(section("", &[1], Whole).unwrap(), "");
    assert_eq!(section("Subject: x", &[1], Whole).unwrap(), "");
}

#[test]
fn malformed_multiparts_give_what_can_be_seen() {
    const M: &str = "Content-Type: multipart/mixed; boundary=b\r\n";
    let table: [(&str, String, &str); 24] = [
        ("plain", format!("{M}\r\n--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b--\r\n"), r#"multipart/mixed{text/plain"1" text/plain"2"}"#),
        ("never closed", format!("{M}\r\n--b\r\n\r\n1\r\n"), r#"multipart/mixed{text/plain"1\r\n"}"#),
        ("cut in the delimiter", format!("{M}\r\n--b\r\n\r\n1\r\n--b"), r#"multipart/mixed{text/plain"1"}"#),
        ("closed at the end of the file", format!("{M}\r\n--b\r\n\r\n1\r\n--b--"), r#"multipart/mixed{text/plain"1"}"#),
        ("no delimiter at all", format!("{M}\r\nnothing\r\n"), r#"multipart/mixed{text/plain""}"#),
        ("only the last delimiter", format!("{M}\r\n--b--\r\n"), r#"multipart/mixed{text/plain""}"#),
        ("empty parts", format!("{M}\r\n--b\r\n--b\r\n\r\n--b\r\nX: y\r\n--b--\r\n"), r#"multipart/mixed{text/plain"" text/plain"" text/plain""}"#),
        ("body of one empty line", format!("{M}\r\n--b\r\n\r\n\r\n--b--\r\n"), r#"multipart/mixed{text/plain""}"#),
        ("boundary within a line", format!("{M}\r\n--b\r\n\r\na --b\r\n -–b\r\n--b--\r\n"), "multipart/mixed{text/plain\"a --b\\r\\n -–b\"}"),
        ("text after the delimiter", format!("{M}\r\n--bar\r\n\r\n1\r\n--b--x\r\n"), r#"multipart/mixed{text/plain"1"}"#),
        ("bare LF", format!("{}\n--b\n\n1\n--b--\n", M.replace('\r', "")), r#"multipart/mixed{text/plain"1"}"#),
        ("bare CR is text", format!("{M}\r\n--b\r\n\r\n1\r--b\r\n--b--"), r#"multipart/mixed{text/plain"1\r--b"}"#),
        ("missing blank line", format!("{M}--b\r\n\r\n1\r\n--b--"), r#"multipart/mixed{text/plain"1"}"#),
        ("no boundary", "Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\n1".into(), r#"text/plain"--b\r\n\r\n1""#),
        ("empty boundary", "Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n\r\n1".into(), r#"text/plain"--\r\n\r\n1""#),
        ("quoted boundary", "Content-Type: multipart/x; boundary=\"a b=\" \r\n\r\n--a b=\r\n\r\n1\r\n--a b=--".into(), r#"multipart/x{text/plain"1"}"#),
        ("boundary in pieces", "Content-Type: multipart/x; boundary*0=a; boundary*1*=%62\r\n\r\n--ab\r\n\r\n1\r\n--ab--".into(), r#"multipart/x{text/plain"1"}"#),
        ("unclosed quote", "Content-Type: multipart/x;\r\n boundary=\"b\r\n\r\n--b\r\n\r\n1\r\n--b--".into(), r#"multipart/x{text/plain"1"}"#),
        (
            "inner not closed",
            format!("{M}\r\n--b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b--\r\n"),
            r#"multipart/mixed{multipart/alternative{text/plain"1"} text/plain"2"}"#,
        ),
        (
            "inner boundary after the outer end",
            format!("{M}\r\n--b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n\r\n1\r\n--b--\r\n--c\r\n\r\n2"),
            r#"multipart/mixed{multipart/alternative{text/plain"1"}}"#,
        ),
        (
            "inner boundary starts like the outer",
            format!("{M}\r\n--b\r\nContent-Type: multipart/alternative; boundary=bb\r\n\r\n--bb\r\n\r\n1\r\n--bb--\r\n--b\r\n\r\n2\r\n--b--\r\n"),
            r#"multipart/mixed{multipart/alternative{text/plain"1"} text/plain"2"}"#,
        ),
        (
            "outer boundary starts like the inner",
            "Content-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\n1\r\n--b--\r\n--bb\r\n\r\n2\r\n--bb--".into(),
            r#"multipart/mixed{multipart/alternative{text/plain"1"} text/plain"2"}"#,
        ),
        (
            "digest",
            "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: 1\r\n\r\none\r\n--b\r\nContent-Type: text/plain\r\n\r\ntwo\r\n--b\r\n--b--".into(),
            r#"multipart/digest{message/rfc822{text/plain"one"} text/plain"two" message/rfc822{text/plain""}}"#,
        ),
        (
            "a message that ends in its header",
            format!("{M}\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n--b\r\nContent-Type: message/rfc822\r\n--b--"),
            r#"multipart/mixed{message/rfc822{text/plain""} message/rfc822{text/plain""}}"#,
        ),
    ];
    for (name, message, expected) in table {
        assert_eq!(outline(&message), expected, "{name}");
    }
}

#[test]
fn mime_fields_are_read_and_defaulted() {
    let message = b"Content-Type: (c) text / html (x); charset=\"utf-\\8\" ; name*0*=a%20; flag; Format = flowed (y)\r\n\
        Content-Type: image/png\r\nContent-Transfer-Encoding: Base64 (z)\r\nContent-ID: <a@b>\r\n\
        Content-Description: =?utf-8?q?d?=\r\n more\r\nContent-MD5: abc==\r\nContent-Language: en, de-CH (Z), ,fr\r\n\
        Content-Location: http://x/\r\nContent-Disposition: attachment; filename=\"a;b\\\"c.txt\"; size=3 x\r\n\r\na\r\nb\r\nc";
    let structure = scan(message);
    let part = structure.root();
    let pairs = |list: &[Parameter]| -> Vec<String> {
        list.iter()
            .map(|p| format!("{}={}", String::from_utf8_lossy(&p.name), String::from_utf8_lossy(&p.value)))
            .collect()
    };
    assert!(part.media().is("TEXT", "html") && part.shape() == Shape::Text);
    assert_eq!(pairs(&part.media().parameters), ["charset=utf-8", "name*0*=a%20", "Format=flowed"]);
    assert_eq!(part.encoding(), b"Base64");
    assert_eq!(part.id(), Some(&b"<a@b>"[..]));
    assert_eq!(part.description(), Some(&b"=?utf-8?q?d?= more"[..]));
    assert_eq!(part.md5(), Some(&b"abc=="[..]));
    assert_eq!(part.languages(), [&b"en"[..], b"de-CH", b"fr"]);
    assert_eq!(part.location(), Some(&b"http://x/"[..]));
    let disposition = part.disposition().unwrap();
    assert_eq!(
        (&disposition.kind[..], pairs(&disposition.parameters)),
        (&b"attachment"[..], vec!["filename=a;b\"c.txt".into(), "size=3".into()])
    );
    assert_eq!((part.size(), part.lines()), (7, 2));

    let bare = scan(b"\r\nx");
    assert!(bare.root().media().is("text", "plain"));
    assert_eq!(pairs(&bare.root().media().parameters), ["charset=us-ascii"]);
    assert_eq!((bare.root().encoding(), bare.root().id(), bare.root().disposition()), (&b"7bit"[..], None, None));
}

#[test]
fn bad_content_types_fall_back() {
    let table = [
        ("text", "text/plain"),
        ("text/", "text/plain"),
        ("/plain", "text/plain"),
        ("", "text/plain"),
        ("()", "text/plain"),
        ("nonsense here", "text/plain"),
        ("application", "application/octet-stream"),
        ("image; name=x.png", "application/octet-stream"),
        ("multipart; boundary=b", "multipart/mixed"),
        ("APPLICATION/Pdf", "APPLICATION/Pdf"),
        ("message/partial", "message/partial"),
        ("multipart/mixed", "text/plain"),
    ];
    for (value, expected) in table {
        let structure = scan(format!("Content-Type: {value}\r\n\r\n").as_bytes());
        let media = structure.root().media();
        assert_eq!(
            String::from_utf8([&media.kind[..], b"/", &media.subtype].concat()).unwrap(),
            expected,
            "{value}"
        );
    }
}

#[test]
fn envelopes_keep_raw_words_and_default_to_from() {
    let message = b"Date: Mon,\r\n 3 Feb 2025 10:00:00 +0000\r\nsubject: =?utf-8?q?a?=\r\n =?utf-8?q?b?=\r\nSubject: second\r\n\
        From: A <a@x>\r\nFrom: b@x\r\nReply-To:\r\nTo: g: c@x;\r\nBcc: d@x\r\nIn-Reply-To:\r\nMessage-ID : <1@x>\r\n\r\n";
    let structure = scan(message);
    let envelope = structure.root().envelope().unwrap();
    assert_eq!(envelope.date.as_deref(), Some(&b"Mon, 3 Feb 2025 10:00:00 +0000"[..]));
    assert_eq!(envelope.subject.as_deref(), Some(&b"=?utf-8?q?a?= =?utf-8?q?b?="[..]));
    assert_eq!(envelope.from.len(), 2);
    assert_eq!((envelope.sender_or_from(), envelope.reply_to_or_from()), (&envelope.from[..], &envelope.from[..]));
    assert_eq!((envelope.to.len(), envelope.cc.len(), envelope.bcc.len()), (3, 0, 1));
    assert_eq!(envelope.in_reply_to.as_deref(), Some(&b""[..]), "present but empty");
    assert_eq!(envelope.message_id.as_deref(), Some(&b"<1@x>"[..]));
    assert_eq!(scan(b"\r\n").root().envelope().unwrap().subject, None, "absent");
    let nested = scan(NESTED.as_bytes());
    let inner = nested.inner(nested.part(&[2]).unwrap()).unwrap();
    assert_eq!(inner.envelope().unwrap().subject.as_deref(), Some(&b"inner"[..]));
    assert!(nested.part(&[2]).unwrap().envelope().is_none());
}

#[test]
fn sizes_and_lines_count_what_a_fetch_returns() {
    let structure = scan(NESTED.as_bytes());
    for numbers in [&[1][..], &[2], &[2, 1], &[2, 2], &[2, 2, 1]] {
        let part = structure.part(numbers).unwrap();
        let body = octets(NESTED.as_bytes(), part.body());
        assert_eq!(part.size(), body.len() as u64, "{numbers:?}");
        assert_eq!(part.lines(), body.iter().filter(|&&b| b == b'\n').count() as u64, "{numbers:?}");
    }
}

#[test]
fn past_a_limit_the_rest_is_opaque() {
    let limits = Limits { depth: 3, ..Limits::default() };
    let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(10);
    let structure = scan_with(deep.as_bytes(), limits);
    assert_eq!(structure.parts().len(), 3);
    assert!(structure.parts()[2].media().is("application", "octet-stream"));
    assert_eq!(structure.parts()[2].body().end, deep.len() as u64);

    let limits = Limits { parts: 4, ..Limits::default() };
    let wide = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", "--b\r\n\r\nx\r\n".repeat(10));
    let structure = scan_with(wide.as_bytes(), limits);
    assert_eq!(structure.parts().len(), 4);
    assert_eq!(
        octets(wide.as_bytes(), structure.parts()[3].body()).len(),
        wide.len() - wide.find("--b").unwrap() - 2 * 10 - 7
    );

    let limits = Limits { header_bytes: 30, ..Limits::default() };
    let structure = scan_with(b"Subject: 123456789\r\nTo: a@b, c@d, e@f\r\nFrom: x@y\r\n\r\nbody", limits);
    let envelope = structure.root().envelope().unwrap();
    assert!(envelope.subject.is_some() && envelope.from.is_empty());
    assert_eq!(structure.root().size(), 4, "offsets stay exact");
}

/// Those of threats.md section 6.
#[test]
fn each_default_limit_holds_at_it_and_one_past_it() {
    let deep = |levels: usize| {
        let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(levels - 1);
        let structure = scan(format!("{nested}Content-Type: text/plain\r\n\r\nx").as_bytes());
        let last = structure.parts().last().unwrap();
        (structure.parts().len(), last.media().is("text", "plain"))
    };
    assert_eq!(deep(100), (100, true));
    assert_eq!(deep(101), (100, false), "the deepest is opaque");

    let wide = |parts: usize| {
        let inner = "--b\r\n\r\nx\r\n".repeat(parts - 1);
        let structure =
            scan(format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{inner}--b--\r\n").as_bytes());
        (structure.parts().len(), structure.parts().last().unwrap().size())
    };
    assert_eq!(wide(10_000), (10_000, 1));
    let (parts, last) = wide(10_001);
    assert!(parts == 10_000 && last > 1, "what comes after the last part belongs to it");

    let header = |before: usize| {
        let mut mail = Vec::new();
        while mail.len() + 1002 <= before {
            mail.extend([b"X:".as_slice(), &[b'x'; 998], b"\r\n"].concat());
        }
        let lines = mail.len() / 1002;
        mail.extend([b"X:".as_slice(), &vec![b'x'; before - lines * 1000 - 2], b"\r\nSubject: x\r\n\r\n"].concat());
        scan(&mail).root().envelope().unwrap().subject.is_some()
    };
    let most = 10 * 1024 * 1024;
    assert!(header(most - "Subject: x".len() - 1));
    assert!(!header(most - "Subject: x".len()));

    let addressed = |count: usize| {
        let mail = format!("To: {}a@b\r\n\r\n", "a@b,".repeat(count - 1));
        scan(mail.as_bytes()).root().envelope().unwrap().to.len()
    };
    assert_eq!((addressed(10_000), addressed(10_001)), (10_000, 10_000));

    let described = |count: usize| {
        let parameters: String = (0..count).map(|n| format!("; p{n}=x")).collect();
        let mail = format!("Content-Type: image/png{parameters}\r\n\r\n");
        scan(mail.as_bytes()).root().media().parameters.len()
    };
    assert_eq!((described(200), described(201)), (200, 200));
}

#[test]
fn hostile_messages_take_linear_time_and_bounded_memory() {
    let boundaries: String = (0..99)
        .map(|n| format!("Content-Type: multipart/mixed; boundary={}{n}\r\n\r\n--{0}{n}\r\n", "b".repeat(60)))
        .collect();
    let long = "b".repeat(60);
    let cases: [(&str, Vec<u8>); 10] = [
        ("one line", vec![b'x'; 2_000_000]),
        ("only LF", b"\n".repeat(300_000)),
        (
            "header of dashes",
            format!("Content-Type: multipart/x; boundary=q\r\n{}", "--\r\n".repeat(100_000)).into_bytes(),
        ),
        ("one folded field", [b"To: ".to_vec(), b"a@b,\r\n ".repeat(100_000)].concat()),
        ("one long header line", [b"Subject: ".to_vec(), vec![b'x'; 3_000_000]].concat()),
        ("many fields", b"Subject: x\r\n".repeat(50_000)),
        ("deep messages", b"Content-Type: message/rfc822\r\n\r\n".repeat(30_000)),
        (
            "deep multiparts and near misses",
            format!("{boundaries}{}", format!("\r\n--{long}\r\n").repeat(5_000)).into_bytes(),
        ),
        (
            "very many parts",
            [&b"Content-Type: multipart/x; boundary=b\r\n\r\n"[..], &b"--b\r\n\r\n\r\n".repeat(60_000)].concat(),
        ),
        ("parameters", [b"Content-Type: multipart/x".to_vec(), b"; boundary*0=b".repeat(50_000)].concat()),
    ];
    for (name, message) in cases {
        let mut scanner = Scanner::default();
        let mut held = 0;
        for piece in message.chunks(1000) {
            scanner.feed(piece);
            held =
                held.max(scanner.line.capacity() + scanner.field.as_ref().map_or(0, |(_, value)| value.capacity()));
        }
        let structure = scanner.finish();
        assert!(held <= 5 * 1024 * 1024, "{name}: held {held}");
        assert!(structure.parts().len() <= 20_000, "{name}");
        assert_eq!(structure.size(), message.len() as u64, "{name}");
    }
}

/// Messages that are mostly structure.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("--a"),
        Just("--a--"),
        Just("--ab"),
        Just("--ab--"),
        Just("--b"),
        Just("--b--"),
        Just("--"),
        Just(""),
        Just(""),
        Just("Content-Type: multipart/mixed; boundary=a"),
        Just("Content-Type: multipart/digest;\r\n boundary=ab"),
        Just("Content-Type: multipart/x; boundary=b"),
        Just("Content-Type: message/rfc822"),
        Just("Content-Type: text/plain"),
        Just("Subject: x"),
        Just(" folded"),
        Just("From: a@b"),
        Just("text"),
        Just("\0\u{e9}"),
        Just("\r"),
        Just("Content-ID"),
    ];
    let end = prop_oneof![4 => Just("\r\n"), 1 => Just("\n"), 1 => Just("")];
    proptest::collection::vec((line, end), 0..30)
        .prop_map(|lines| lines.into_iter().flat_map(|(line, end)| [line, end].concat().into_bytes()).collect())
}

fn check_ranges(structure: &Structure) -> Result<(), TestCaseError> {
    for (place, part) in structure.parts().iter().enumerate() {
        let (header, body) = (part.header(), part.body());
        prop_assert!(header.start <= header.end && header.end == body.start && body.start <= body.end);
        prop_assert!(body.end <= structure.size());
        if let Some(parent) = part.parent {
            prop_assert!(parent < place);
            let outer = structure.parts()[parent].body();
            prop_assert!(outer.start <= header.start && body.end <= outer.end, "{part:?} leaves {outer:?}");
        }
        match part.shape() {
            Shape::Message => prop_assert_eq!(part.children.len(), 1),
            Shape::Multipart => prop_assert!(!part.children.is_empty()),
            Shape::Text | Shape::Basic => prop_assert!(part.children.is_empty()),
        }
        let mut reached = part.header().start;
        for child in structure.children(part) {
            prop_assert!(child.header().start >= reached, "children overlap");
            reached = child.body().end;
        }
    }
    prop_assert_eq!(structure.walk().count(), structure.parts().len() * 2);
    Ok(())
}

proptest! {
    #[test]
    fn parts_are_the_same_without_envelopes(message in any_message()) {
        let mut scanner = Scanner::of_parts(Limits::default());
        scanner.feed(&message);
        let (bare, mut whole) = (scanner.finish(), scan(&message));
        for part in &mut whole.parts {
            part.envelope = part.envelope.take().map(|_| Box::default());
        }
        prop_assert_eq!(bare, whole);
    }

    #[test]
    fn a_message_means_the_same_wherever_it_is_cut(message in any_message(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4)) {
        let whole = scan(&message);
        check_ranges(&whole)?;
        let mut scanner = Scanner::default();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(message.len() + 1)).collect();
        cuts.sort_unstable();
        let mut from = 0;
        for cut in cuts.into_iter().chain([message.len()]) {
            scanner.feed(&message[from..cut]);
            from = cut;
        }
        prop_assert_eq!(&scanner.finish(), &whole);
        let mut scanner = Scanner::default();
        message.iter().for_each(|byte| scanner.feed(&[*byte]));
        prop_assert_eq!(scanner.finish(), whole);
    }

    #[test]
    fn limits_hold_for_any_message(message in any_message(), depth in 1_usize..5, parts in 1_usize..6, header_bytes in 0_usize..100) {
        let limits = Limits { depth, parts, header_bytes, field_bytes: 40, field_parameters: 1, ..Limits::default() };
        let structure = scan_with(&message, limits);
        check_ranges(&structure)?;
        let mut scanner = Scanner::new(limits);
        message.chunks(3).for_each(|piece| scanner.feed(piece));
        prop_assert_eq!(&scanner.finish(), &structure);
        prop_assert!(structure.parts().len() <= 2 * parts);
    }

    #[test]
    fn any_bytes_are_survived(message in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_ranges(&scan(&message))?;
    }
}
