#![allow(clippy::unwrap_used)]
use super::*;

fn offer(mechanism: &'static str, response: &str) -> Offer {
    Offer { mechanism, response: Secret::new(response), dismissal: "" }
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

const CAPA: [&str; 6] = ["+OK ready", "+OK list", "TOP", "SASL PLAIN XOAUTH2", "XCLIENT", "."];

fn after_capa<'a>(more: &[&'a str]) -> Vec<&'a str> {
    CAPA.iter().copied().chain(more.iter().copied()).collect()
}

#[test]
fn a_sign_in_by_sasl() {
    let mut login = Login::new(vec![offer("XOAUTH2", "dG9r")], None, Some("ADDR=192.0.2.1 PORT=7".into()));
    let (said, step) = dialog(&mut login, &after_capa(&["+OK thanks", "+OK in"]));
    assert_eq!(said, ["CAPA", "XCLIENT ADDR=192.0.2.1 PORT=7", "AUTH XOAUTH2 dG9r"]);
    let capabilities = ["TOP", "SASL PLAIN XOAUTH2", "XCLIENT"].map(str::to_owned).to_vec();
    assert_eq!(step, Step::Done { capabilities });
}

#[test]
fn xclient_may_be_told_in_the_greeting() {
    let mut login = Login::new(vec![offer("PLAIN", "eA==")], None, Some("ADDR=192.0.2.1".into()));
    let (said, step) =
        dialog(&mut login, &["+OK [XCLIENT] ready", "+OK", "SASL PLAIN", ".", "+OK Updated", "+OK in"]);
    assert_eq!(said, ["CAPA", "XCLIENT ADDR=192.0.2.1", "AUTH PLAIN eA=="]);
    assert!(matches!(step, Step::Done { .. }), "{step:?}");
}

#[test]
fn a_long_token_waits_for_its_turn() {
    let token = "t".repeat(300);
    let mut login = Login::new(vec![offer("XOAUTH2", &token)], None, None);
    let (said, step) = dialog(&mut login, &after_capa(&["+ ", "+ eyJzdGF0dXMiOiI0MDEifQ==", "-ERR [AUTH] no"]));
    assert_eq!(said, ["CAPA", "AUTH XOAUTH2", &token, ""]);
    assert_eq!(step, Step::No(UpstreamNo::Refused { code: Some("AUTH".into()), text: "no".into() }));
}

#[test]
fn a_server_that_has_only_user_and_pass() {
    let pair = || Some(("ann*gate".to_owned(), Secret::new("hush")));
    let mut login = Login::new(vec![offer("PLAIN", "eA==")], pair(), None);
    let (said, step) = dialog(&mut login, &["+OK old", "-ERR what", "+OK name", "+OK in"]);
    assert_eq!(said, ["CAPA", "USER ann*gate", "PASS hush"]);
    assert_eq!(step, Step::Done { capabilities: vec![] });
    let mut login = Login::new(vec![], pair(), None);
    let (_, step) = dialog(&mut login, &["+OK old", "-ERR what", "+OK name", "-ERR [IN-USE] busy"]);
    assert_eq!(step, Step::No(UpstreamNo::Refused { code: Some("IN-USE".into()), text: "busy".into() }));
    let mut login = Login::new(vec![], pair(), None);
    let (_, step) = dialog(&mut login, &["+OK old", "-ERR what", "+OK name", "-ERR unknown: PASS hush"]);
    assert_eq!(step, Step::No(UpstreamNo::Refused { code: None, text: "unknown: PASS ...".into() }));
}

#[test]
fn what_is_no_sign_in_is_given_up_on() {
    let long = format!("+OK {}", "x".repeat(MAX_LINE));
    let offers = || vec![offer("XOAUTH2", "eA==")];
    for (lines, no) in [
        (&["* OK IMAP ready"][..], UpstreamNo::Nonsense("no POP3 greeting")),
        (&["-ERR [SYS/TEMP] later"], UpstreamNo::Closing("later".into())),
        (&["+OKAY"], UpstreamNo::Nonsense("no POP3 greeting")),
        (&[&long], UpstreamNo::Nonsense("too much before the sign-in")),
        (&["+OK", "+OK", "SASL PLAIN", "."], UpstreamNo::NotOffered { offered: "PLAIN".into() }),
        (&["+OK", "-ERR"], UpstreamNo::NotOffered { offered: String::new() }),
        (
            &["+OK", "+OK", "SASL XOAUTH2", ".", "hello"],
            UpstreamNo::Nonsense("an answer to AUTH that is no challenge"),
        ),
    ] {
        let (_, step) = dialog(&mut Login::new(offers(), None, None), lines);
        assert_eq!(step, Step::No(no), "{lines:?}");
    }
    let many = vec!["LINE of a list that does not end, LINE of a list that does not end"; 2000];
    let lines: Vec<_> = ["+OK", "+OK"].into_iter().chain(many).collect();
    let (_, step) = dialog(&mut Login::new(offers(), None, None), &lines);
    assert_eq!(step, Step::No(UpstreamNo::Nonsense("too much before the sign-in")));
}

#[test]
fn the_peer_hears_of_no_way_to_sign_in() {
    let list = ["TOP", "USER", "SASL PLAIN", "STLS", "XCLIENT", "uidl", "EXPIRE NEVER", "X-NEW", "LANG\u{7}"]
        .map(str::to_owned);
    assert_eq!(told(&list), "+OK Capability list follows\r\nTOP\r\nuidl\r\nEXPIRE NEVER\r\n.\r\n");
}
