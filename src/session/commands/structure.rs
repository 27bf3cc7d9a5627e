//! ENVELOPE, BODY and BODYSTRUCTURE in the words of RFC 3501 section 7.4.2, from what `message` found. Called by
//! `fetch`.

use bytes::BytesMut;

use crate::imap::write::{nstring, string};
use crate::message::{Address, Disposition, Envelope, Parameter, Part, Shape, Step, Structure};

/// `(date subject from sender reply-to to cc bcc in-reply-to message-id)`
pub(super) fn envelope(out: &mut BytesMut, envelope: &Envelope) {
    out.extend_from_slice(b"(");
    nstring(out, envelope.date.as_deref());
    out.extend_from_slice(b" ");
    nstring(out, envelope.subject.as_deref());
    let lists = [
        envelope.from.as_slice(),
        envelope.sender_or_from(),
        envelope.reply_to_or_from(),
        &envelope.to,
        &envelope.cc,
        &envelope.bcc,
    ];
    for list in lists {
        out.extend_from_slice(b" ");
        addresses(out, list);
    }
    out.extend_from_slice(b" ");
    nstring(out, envelope.in_reply_to.as_deref());
    out.extend_from_slice(b" ");
    nstring(out, envelope.message_id.as_deref());
    out.extend_from_slice(b")");
}

fn addresses(out: &mut BytesMut, list: &[Address]) {
    if list.is_empty() {
        return out.extend_from_slice(b"NIL");
    }
    out.extend_from_slice(b"(");
    for address in list {
        out.extend_from_slice(b"(");
        nstring(out, address.name.as_deref());
        for field in [&address.route, &address.mailbox, &address.host] {
            out.extend_from_slice(b" ");
            nstring(out, field.as_deref());
        }
        out.extend_from_slice(b")");
    }
    out.extend_from_slice(b")");
}

/// One step of [`Structure::walk`]; all of them are BODYSTRUCTURE, or without `extended` BODY.
pub(super) fn step(out: &mut BytesMut, structure: &Structure, step: Step<'_>, extended: bool) {
    match step {
        Step::Enter(part) => enter(out, structure, part),
        Step::Leave(part) => leave(out, part, extended),
    }
}

fn enter(out: &mut BytesMut, structure: &Structure, part: &Part) {
    out.extend_from_slice(b"(");
    if part.shape() == Shape::Multipart {
        return;
    }
    let media = part.media();
    string(out, &media.kind);
    out.extend_from_slice(b" ");
    string(out, &media.subtype);
    out.extend_from_slice(b" ");
    parameters(out, &media.parameters);
    out.extend_from_slice(b" ");
    nstring(out, part.id());
    out.extend_from_slice(b" ");
    nstring(out, part.description());
    out.extend_from_slice(b" ");
    string(out, part.encoding());
    number(out, part.size());
    if let Some(inner) = structure.inner(part) {
        out.extend_from_slice(b" ");
        match inner.envelope() {
            Some(found) => envelope(out, found),
            None => envelope(out, &Envelope::default()),
        }
        out.extend_from_slice(b" ");
    }
}

fn leave(out: &mut BytesMut, part: &Part, extended: bool) {
    match part.shape() {
        Shape::Multipart => {
            out.extend_from_slice(b" ");
            string(out, &part.media().subtype);
        }
        Shape::Text | Shape::Message => number(out, part.lines()),
        Shape::Basic => {}
    }
    if extended {
        out.extend_from_slice(b" ");
        match part.shape() {
            Shape::Multipart => parameters(out, &part.media().parameters),
            Shape::Text | Shape::Message | Shape::Basic => nstring(out, part.md5()),
        }
        out.extend_from_slice(b" ");
        disposition(out, part.disposition());
        out.extend_from_slice(b" ");
        languages(out, part.languages());
        out.extend_from_slice(b" ");
        nstring(out, part.location());
    }
    out.extend_from_slice(b")");
}

fn parameters(out: &mut BytesMut, list: &[Parameter]) {
    if list.is_empty() {
        return out.extend_from_slice(b"NIL");
    }
    for (at, parameter) in list.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"(" } else { b" " });
        string(out, &parameter.name);
        out.extend_from_slice(b" ");
        string(out, &parameter.value);
    }
    out.extend_from_slice(b")");
}

fn disposition(out: &mut BytesMut, disposition: Option<&Disposition>) {
    let Some(disposition) = disposition else { return out.extend_from_slice(b"NIL") };
    out.extend_from_slice(b"(");
    string(out, &disposition.kind);
    out.extend_from_slice(b" ");
    parameters(out, &disposition.parameters);
    out.extend_from_slice(b")");
}

/// One language is a string, several are a list (`body-fld-lang`).
fn languages(out: &mut BytesMut, list: &[Vec<u8>]) {
    match list {
        [] => out.extend_from_slice(b"NIL"),
        [one] => string(out, one),
        many => {
            for (at, language) in many.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"(" } else { b" " });
                string(out, language);
            }
            out.extend_from_slice(b")");
        }
    }
}

fn number(out: &mut BytesMut, value: u64) {
    let _ = std::fmt::Write::write_fmt(out, format_args!(" {value}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Limits, Scanner};

    fn shown(mail: &str, extended: bool) -> String {
        let mut scanner = Scanner::new(Limits::default());
        scanner.feed(mail.replace('\n', "\r\n").as_bytes());
        let structure = scanner.finish();
        let mut out = BytesMut::new();
        structure.walk().for_each(|part| step(&mut out, &structure, part, extended));
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_plain_message_shows_type_size_and_lines() {
        let mail = "Subject: x\n\nhello\nworld\n";
        assert_eq!(shown(mail, false), r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 14 2)"#);
        assert_eq!(
            shown(mail, true),
            r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 14 2 NIL NIL NIL NIL)"#
        );
    }

    #[test]
    fn parts_stand_side_by_side_and_a_message_inside_shows_its_envelope() {
        let mail = "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: image/png\nContent-Disposition: \
                    attachment; filename=a.png\nContent-Language: de, en\n\nxx\n--b\nContent-Type: \
                    message/rfc822\n\nSubject: in\nFrom: Ann <ann@example.com>\n\nhi\n--b--\n";
        assert_eq!(
            shown(mail, true),
            concat!(
                r#"(("image" "png" NIL NIL NIL "7bit" 2 NIL ("attachment" ("filename" "a.png")) ("de" "en") NIL)"#,
                r#"("message" "rfc822" NIL NIL NIL "7bit" 46 "#,
                r#"(NIL "in" (("Ann" NIL "ann" "example.com")) (("Ann" NIL "ann" "example.com")) "#,
                r#"(("Ann" NIL "ann" "example.com")) NIL NIL NIL NIL NIL) "#,
                r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 2 0 NIL NIL NIL NIL) 3 NIL NIL NIL NIL) "#,
                r#""mixed" ("boundary" "b") NIL NIL NIL)"#
            )
        );
    }
}
