//! The MIME scanner: the same structure wherever the message is cut, ranges inside the message and inside each other,
//! every section where it says, texts that fit on an IMAP line.
//!
//! Input: five bytes of choices (limits; four lengths of pieces), then the message.

use portcullis::message::{
    Address, HeaderFilter, Keep, Limits, Part, Piece, Scanner, SectionText, Shape, Step, Structure, TextDecoder,
    header_fields,
};

pub fn run(data: &[u8]) {
    let Some((&[choice, ref sizes @ ..], mail)) = data.split_first_chunk::<5>() else { return };
    let limits = match choice & 1 {
        0 => Limits::default(),
        _ => Limits {
            depth: 4,
            parts: 8,
            header_bytes: 400,
            field_bytes: 200,
            field_addresses: 3,
            addresses: 5,
            field_parameters: 3,
            parameters: 5,
        },
    };
    let whole = scanned(limits, &[mail]);
    assert_eq!(scanned(limits, &super::cut(mail, sizes)), whole, "a cut made a difference");
    check_ranges(&whole, mail);
    check_sections(&whole);
    check_texts(&whole, limits);
    for piece in whole.pieces(true) {
        match piece {
            Piece::Header(range) => check_header(of(mail, range), sizes),
            Piece::Text(part) => {
                let body = of(mail, part.body());
                let text = |pieces: &[&[u8]], most: u64| {
                    let (mut decoder, mut text) = (TextDecoder::new(part, most), String::new());
                    pieces.iter().all(|piece| decoder.feed(piece, &mut text));
                    decoder.finish(&mut text);
                    text
                };
                let decoded = text(&[body], u64::MAX);
                assert_eq!(text(&super::cut(body, sizes), u64::MAX), decoded, "a cut made a difference");
                text(&super::cut(body, sizes), 10);
            }
        }
    }
}

fn scanned(limits: Limits, pieces: &[&[u8]]) -> Structure {
    let mut scanner = Scanner::new(limits);
    pieces.iter().for_each(|piece| scanner.feed(piece));
    scanner.finish()
}

fn of(mail: &[u8], range: std::ops::Range<u64>) -> &[u8] {
    &mail[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
}

fn check_ranges(structure: &Structure, mail: &[u8]) {
    assert_eq!(structure.size(), mail.len() as u64);
    let root = structure.root();
    assert_eq!((root.header().start, root.header().end), (0, root.body().start));
    assert_eq!(root.body().end, structure.size());
    assert!(root.envelope().is_some());
    let (mut path, mut entered): (Vec<&Part>, usize) = (Vec::new(), 0);
    for step in structure.walk() {
        match step {
            Step::Enter(part) => {
                entered += 1;
                let (header, body) = (part.header(), part.body());
                assert!(
                    header.start <= header.end && header.end <= body.start && body.start <= body.end,
                    "{part:?}"
                );
                assert!(body.end <= structure.size());
                let ends = of(mail, body.clone()).iter().filter(|b| **b == b'\n').count() as u64;
                assert_eq!(part.lines(), ends, "{part:?}");
                if let Some(parent) = path.last() {
                    let around = parent.body();
                    assert!(around.start <= header.start && body.end <= around.end, "{part:?} {parent:?}");
                }
                path.push(part);
            }
            Step::Leave(part) => {
                let children: Vec<_> = structure.children(part).collect();
                match part.shape() {
                    Shape::Text | Shape::Basic => assert!(children.is_empty()),
                    Shape::Message => assert!(children.len() == 1 && children[0].envelope().is_some()),
                    Shape::Multipart => assert!(!children.is_empty()),
                }
                let apart = children.windows(2).all(|pair| pair[0].body().end <= pair[1].header().start);
                assert!(apart, "parts overlap: {children:?}");
                assert!(path.pop().is_some_and(|top| std::ptr::eq(top, part)));
            }
        }
    }
    assert!(path.is_empty() && entered == structure.parts().len());
}

fn check_sections(structure: &Structure) {
    let texts = [SectionText::Whole, SectionText::Header, SectionText::Text, SectionText::Mime];
    for numbers in
        [&[][..], &[1], &[2], &[1, 1], &[1, 2], &[2, 1], &[1, 1, 1], &[1, 1, 1, 1, 1, 1], &[0], &[u32::MAX]]
    {
        for text in texts {
            if let Some(range) = structure.section(numbers, text) {
                assert!(range.start <= range.end && range.end <= structure.size(), "{numbers:?} {text:?}");
            }
        }
    }
    assert_eq!(structure.section(&[], SectionText::Whole), Some(0..structure.size()));
    assert!(structure.part(&[1]).is_some(), "every message has a part 1");
}

/// Nothing that goes into ENVELOPE or BODYSTRUCTURE can break a line.
fn check_texts(structure: &Structure, limits: Limits) {
    let text = |bytes: &[u8]| assert!(!bytes.iter().any(|b| matches!(b, 0 | b'\r' | b'\n')), "{bytes:?}");
    assert!(structure.parts().len() <= limits.parts * 2 + 1, "{} parts", structure.parts().len());
    let (mut addresses, mut parameters) = (0, 0);
    for part in structure.parts() {
        let media = part.media();
        text(&media.kind);
        text(&media.subtype);
        assert!(!media.kind.is_empty() && !media.subtype.is_empty() && !part.encoding().is_empty());
        let disposition = part.disposition().map(|it| it.parameters.as_slice()).unwrap_or_default();
        for parameter in media.parameters.iter().chain(disposition) {
            text(&parameter.name);
            text(&parameter.value);
            parameters += 1;
        }
        parameters += part.languages().len();
        let languages = part.languages().iter().map(Vec::as_slice);
        let others = [part.id(), part.description(), part.md5(), part.location(), Some(part.encoding())];
        others.into_iter().flatten().chain(languages).for_each(text);
        let Some(envelope) = part.envelope() else { continue };
        let lines = [&envelope.date, &envelope.subject, &envelope.in_reply_to, &envelope.message_id];
        lines.into_iter().flatten().for_each(|line| text(line));
        for list in
            [&envelope.from, &envelope.sender, &envelope.reply_to, &envelope.to, &envelope.cc, &envelope.bcc]
        {
            check_addresses(list);
            addresses += list.len();
            list.iter().flat_map(|a| [&a.name, &a.route, &a.mailbox, &a.host]).flatten().for_each(|it| text(it));
        }
    }
    assert!(addresses <= limits.addresses);
    // A text part without a charset gets one.
    assert!(parameters <= limits.parameters + structure.parts().len());
}

/// Groups begin and end; whatever is in between has a mailbox and a host.
pub(super) fn check_addresses(list: &[Address]) {
    let mut in_group = false;
    for address in list {
        match (&address.mailbox, &address.host) {
            (Some(_), Some(host)) => assert!(!host.is_empty()),
            (Some(_), None) => {
                assert!(!in_group, "a group in a group: {list:?}");
                in_group = true;
            }
            (None, None) => {
                assert!(in_group, "the end of no group: {list:?}");
                in_group = false;
            }
            (None, Some(_)) => panic!("a host without a mailbox: {list:?}"),
        }
    }
}

fn check_header(header: &[u8], sizes: &[u8]) {
    let names = ["subject", "content-type", "x"];
    for keep in [Keep::Named, Keep::Others] {
        let whole = header_fields(header, &names, keep);
        let (mut filter, mut out) = (HeaderFilter::new(names, keep), Vec::new());
        super::cut(header, sizes).iter().for_each(|piece| filter.feed(piece, &mut out));
        filter.finish(&mut out);
        assert_eq!(out, whole, "a cut made a difference");
        assert!(out.len() <= header.len());
    }
}
