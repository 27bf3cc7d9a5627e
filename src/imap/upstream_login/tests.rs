#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;
use crate::model::Secret;

fn offer(mechanism: &'static str, response: &str) -> Offer {
    Offer { mechanism, response: Secret::new(response), dismissal: "AQ==" }
}

/// Plays the server's lines one by one; what was said to it, and how it ended.
fn dialog(login: &mut Login, lines: &[&str]) -> (Vec<String>, Step) {
    let (mut input, mut out, mut said) = (BytesMut::new(), BytesMut::new(), Vec::new());
    for line in lines {
        input.extend_from_slice(line.as_bytes());
        input.extend_from_slice(b"\r\n");
        let step = login.next(&mut input, &mut out);
        said.extend(String::from_utf8(out.split().to_vec()).unwrap().lines().map(str::to_owned));
        if step != Step::Read {
            return (said, step);
        }
    }
    (said, Step::Read)
}

fn done(list: &str) -> Step {
    Step::Done { capabilities: list.into() }
}

#[test]
fn a_server_that_tells_everything_is_signed_in_to_in_one_round_trip() {
    let mut login = Login::new(vec![offer("XOAUTH2", "dG9rZW4=")], Some("(\"name\" \"x\")".into()));
    let (said, step) = dialog(
        &mut login,
        &[
            "* OK [CAPABILITY IMAP4rev1 SASL-IR ID AUTH=XOAUTH2] ready",
            "* ID NIL",
            "P2 OK",
            "P3 OK [CAPABILITY IMAP4rev1 IDLE MOVE] in",
        ],
    );
    assert_eq!(said, ["P2 ID (\"name\" \"x\")", "P3 AUTHENTICATE XOAUTH2 dG9rZW4="]);
    assert_eq!(step, done("IMAP4rev1 IDLE MOVE"));
}

#[test]
fn a_server_that_tells_nothing_is_asked() {
    let offers = vec![offer("OAUTHBEARER", "eA=="), offer("PLAIN", "cHc=")];
    let mut login = Login::new(offers, Some("(\"name\" \"x\")".into()));
    let (said, step) = dialog(
        &mut login,
        &[
            "* ok ready",
            "* CAPABILITY IMAP4rev1 auth=plain",
            "P1 OK done",
            "+ ",
            "P3 OK in",
            "* CAPABILITY IMAP4rev1  IDLE",
            "P4 OK done",
        ],
    );
    assert_eq!(said, ["P1 CAPABILITY", "P3 AUTHENTICATE PLAIN", "cHc=", "P4 CAPABILITY"]);
    assert_eq!(step, done("IMAP4rev1 IDLE"));
}

#[test]
fn a_refusal_is_heard_to_its_end() {
    let mut login = Login::new(vec![offer("OAUTHBEARER", "eA==")], None);
    let (said, step) = dialog(
        &mut login,
        &[
            "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=OAUTHBEARER] ready",
            "+ eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=",
            "P3 NO [AUTHENTICATIONFAILED x] not\u{e9} you",
        ],
    );
    assert_eq!(said, ["P3 AUTHENTICATE OAUTHBEARER eA==", "AQ=="]);
    let no = UpstreamNo::Refused { code: Some("AUTHENTICATIONFAILED".into()), text: "not? you".into() };
    assert_eq!(step, Step::No(no));
}

#[test]
fn no_answer_shows_what_was_said() {
    let response = "YW5uQGV4YW1wbGUuY29tAGdhdGUAc2VjcmV0";
    let mut login = Login::new(vec![offer("PLAIN", response)], None);
    let answer = format!("P3 BAD unknown: AUTHENTICATE PLAIN <{response}>, sorry");
    let (_, step) = dialog(&mut login, &["* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready", &answer]);
    let text = "unknown: AUTHENTICATE PLAIN ... sorry".to_owned();
    assert_eq!(step, Step::No(UpstreamNo::Refused { code: None, text }));
}

#[test]
fn what_is_no_sign_in_is_given_up_on() {
    let long = format!("* OK {}", "x".repeat(MAX_LINE));
    for (lines, no) in [
        (&["* PREAUTH welcome"][..], UpstreamNo::Nonsense("PREAUTH: it asks nobody to sign in")),
        (&["* BYE [UNAVAILABLE] later"], UpstreamNo::Closing("later".into())),
        (&["+OK POP3 ready"], UpstreamNo::Nonsense("no IMAP greeting")),
        (&["220 mail.example.com ESMTP"], UpstreamNo::Nonsense("no IMAP greeting")),
        (&["\u{0}\u{1}"], UpstreamNo::Nonsense("a line that is no IMAP")),
        (&[&long], UpstreamNo::Nonsense("too much before the sign-in")),
        (&["* OK ready", "* ID {500}"], UpstreamNo::Nonsense("a literal before the sign-in")),
        (&["* OK ready", "+ go on"], UpstreamNo::Nonsense("an answer to nothing")),
        (&["* OK ready", "P1 OK"], UpstreamNo::Nonsense("no capabilities")),
        (
            &["* OK [CAPABILITY IMAP4rev1 AUTH=CRAM-MD5 AUTH=PLAIN STARTTLS] ready"],
            UpstreamNo::NotOffered { offered: "CRAM-MD5 PLAIN".into() },
        ),
    ] {
        let (_, step) = dialog(&mut Login::new(vec![offer("XOAUTH2", "eA==")], None), lines);
        assert_eq!(step, Step::No(no), "{lines:?}");
    }
    let mut login = Login::new(vec![offer("XOAUTH2", "eA==")], None);
    let many = vec!["* OK hello, hello, hello, hello, hello, hello, hello, hello, hello, hello"; 2000];
    assert_eq!(dialog(&mut login, &many).1, Step::No(UpstreamNo::Nonsense("too much before the sign-in")));
}

#[test]
fn what_follows_the_sign_in_is_left_for_the_session() {
    let mut login = Login::new(vec![offer("PLAIN", "eA==")], None);
    let bytes = b"* OK [CAPABILITY SASL-IR AUTH=PLAIN] x\r\nP3 OK [CAPABILITY IMAP4rev1] in\r\n* 3 EXISTS\r\n";
    for cut in 0..bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        let (mut input, mut out) = (BytesMut::from(head), BytesMut::new());
        let first = login.next(&mut input, &mut out);
        input.extend_from_slice(tail);
        let step = if first == Step::Read { login.next(&mut input, &mut out) } else { first };
        assert_eq!(step, done("IMAP4rev1"), "cut at byte {cut}");
        assert_eq!(&input[..], b"* 3 EXISTS\r\n", "cut at byte {cut}");
        login = Login::new(vec![offer("PLAIN", "eA==")], None);
    }
}

#[test]
fn the_peer_hears_of_no_way_to_sign_in_or_out() {
    let list = "IMAP4rev1 SASL-IR auth=PLAIN STARTTLS LOGINDISABLED UNAUTHENTICATE IDLE COMPRESS=DEFLATE LITERAL+ URLAUTH=BINARY";
    assert_eq!(told(list), "IMAP4rev1 IDLE COMPRESS=DEFLATE LITERAL+ URLAUTH=BINARY");
    let odd = "* OK [CAPABILITY IMAP4rev1 a(b {3} \"x\" \u{7f} IDLE] x";
    let (_, step) = dialog(&mut Login::new(vec![], None), &[odd]);
    assert_eq!(step, Step::No(UpstreamNo::NotOffered { offered: String::new() }));
    assert_eq!(plain_words("IMAP4rev1 a(b {3} \"x\" \u{7f} IDLE"), "IMAP4rev1 IDLE");
}

proptest! {
    #[test]
    fn whatever_a_server_says_is_bounded(chunks in proptest::collection::vec("[*+P123 OKBYE\\[\\]{}\r\n]{0,40}", 0..12)) {
        let mut login = Login::new(vec![offer("PLAIN", "eA==")], None);
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        for chunk in chunks {
            input.extend_from_slice(chunk.as_bytes());
            if login.next(&mut input, &mut out) != Step::Read {
                break;
            }
            prop_assert!(input.len() <= MAX_LINE);
        }
    }
}
