//! Promises of a whole conversation, with a session that admits the token `good` only.
#![allow(clippy::unwrap_used)]

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

const MECHANISMS: &[&str] = &["XOAUTH2", "OAUTHBEARER"];
const CAPA: &str = "+OK Capability list follows\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8\r\nLANG\r\n\
                    SASL XOAUTH2 OAUTHBEARER\r\nEXPIRE NEVER\r\nIMPLEMENTATION Portcullis\r\n.\r\n";

struct Peer {
    dialog: Dialog,
    maildrop: Maildrop,
    out: BytesMut,
    steps: Vec<String>,
    left: bool,
}

impl Peer {
    fn new(limits: Limits) -> Self {
        let maildrop = Maildrop::new(1, [(1, 10), (2, 20)]);
        let dialog = Dialog::new(MECHANISMS, limits);
        Self { dialog, maildrop, out: BytesMut::new(), steps: Vec::new(), left: false }
    }

    fn says(&mut self, bytes: &[u8]) -> &mut Self {
        self.dialog.buffer().extend_from_slice(bytes);
        while !self.left {
            let step = self.dialog.next(&mut self.out);
            match &step {
                Step::Read => break,
                Step::Replied => continue,
                Step::SignIn { response, .. } if response.reveal() == "good" => {
                    self.dialog.admit("welcome", &mut self.out);
                }
                Step::SignIn { response, .. } if response.reveal() == "down" => {
                    self.dialog.refuse(None, "[SYS/TEMP] later", &mut self.out);
                }
                Step::SignIn { .. } => self.dialog.refuse(Some("e30="), "[AUTH] no", &mut self.out),
                Step::Password { .. } | Step::Unoffered(_) => {
                    self.dialog.refuse(None, "[AUTH] no passwords", &mut self.out);
                }
                Step::Command(command) => match self.maildrop.answer(*command, &mut self.out) {
                    Next::Done | Next::Send { .. } => {}
                    Next::Listing(mut listing) => {
                        listing.fill(&self.maildrop, &mut self.out, usize::MAX);
                    }
                    Next::Update => self.left = true,
                },
                Step::Leave => self.left = true,
            }
            self.steps.push(match &step {
                Step::SignIn { mechanism, response } => format!("{mechanism} {}", response.reveal()),
                step => format!("{step:?}"),
            });
        }
        self
    }

    /// What the server said since the last time.
    fn hears(&mut self) -> String {
        String::from_utf8(self.out.split().to_vec()).unwrap()
    }
}

fn dialog(lines: &[(&str, &str)]) {
    let mut peer = Peer::new(Limits::default());
    for (say, expected) in lines {
        assert_eq!(peer.says(format!("{say}\r\n").as_bytes()).hears(), expected.replace('|', "\r\n"), "{say:?}");
    }
}

#[test]
fn a_token_on_one_line_and_on_two_opens_the_maildrop() {
    dialog(&[
        ("CAPA", CAPA),
        ("auth xoauth2 good", "+OK welcome|"),
        ("STAT", "+OK 2 30|"),
        ("NOOP", "+OK nothing done|"),
    ]);
    dialog(&[
        ("AUTH OAUTHBEARER", "+ |"),
        ("good", "+OK welcome|"),
        ("CAPA", CAPA),
        ("DELE 1", "+OK message 1 deleted|"),
    ]);
    dialog(&[("AUTH", "+OK Mechanisms follow|XOAUTH2|OAUTHBEARER|.|")]);
    // RFC 6856: UTF8 before login only, LANG at any time.
    dialog(&[
        ("UTF8", "+OK UTF-8 it is|"),
        ("LANG", "+OK Language listing follows|en English|i-default Default|.|"),
        ("LANG *", "+OK i-default English it is|"),
        ("LANG MUL", "-ERR that language is not spoken here|"),
        ("AUTH XOAUTH2 good", "+OK welcome|"),
        ("LANG en-GB", "+OK en English it is|"),
        ("LANG I-Default", "+OK i-default English it is|"),
        ("LANG english", "-ERR that language is not spoken here|"),
        ("UTF8", "-ERR UTF8 is for the time before AUTH|"),
    ]);
}

#[test]
fn the_greeting_offers_no_apop() {
    assert!(!GREETING.contains('<') && GREETING.starts_with("+OK ") && GREETING.ends_with("\r\n"));
}

#[test]
fn whatever_answers_an_error_challenge_the_reason_follows_and_then_commands_count_again() {
    for answer in ["", "AQ==", "*", "bad", "AUTH XOAUTH2 good", "QUIT", "QUIT \u{e9}\0", "PASS secret"] {
        dialog(&[
            ("AUTH XOAUTH2 bad", "+ e30=|"),
            (answer, "-ERR [AUTH] no|"),
            ("AUTH XOAUTH2 good", "+OK welcome|"),
        ]);
    }
    let mut peer = Peer::new(Limits::default());
    peer.says(b"AUTH XOAUTH2 bad\r\n").says(&[b'x'; 40_000]).says(b"\r\n");
    assert_eq!(peer.hears(), "+ e30=\r\n-ERR [AUTH] no\r\n", "an answer past the limit");
}

#[test]
fn a_silent_client_hears_the_reason_and_its_late_answer_is_dropped() {
    for (late, expected) in [
        ("AQ==\r\nCAPA\r\n", CAPA),
        ("\r\nCAPA\r\n", CAPA),
        ("QUIT\r\n", "+OK goodbye\r\n"),
        ("AQ==\r\nAQ==\r\n", "-ERR unknown command\r\n"),
    ] {
        let mut peer = Peer::new(Limits::default());
        peer.says(b"AUTH XOAUTH2 bad\r\n");
        assert!(peer.dialog.awaits_answer());
        peer.dialog.late(&mut peer.out);
        assert!(!peer.dialog.awaits_answer());
        assert_eq!(peer.hears(), "+ e30=\r\n-ERR [AUTH] no\r\n");
        assert_eq!(peer.says(late.as_bytes()).hears(), expected, "{late:?}");
    }
}

#[test]
fn a_refusal_without_challenge_is_one_line() {
    dialog(&[
        ("AUTH XOAUTH2 down", "-ERR [SYS/TEMP] later|"),
        ("AUTH XOAUTH2 =", "+ e30=|"),
        ("", "-ERR [AUTH] no|"),
    ]);
}

#[test]
fn an_exchange_can_be_cancelled() {
    dialog(&[("AUTH XOAUTH2", "+ |"), ("*", "-ERR sign-in cancelled|"), ("AUTH XOAUTH2 good", "+OK welcome|")]);
    let mut peer = Peer::new(Limits::default());
    assert_eq!(peer.says(b"AUTH XOAUTH2\r\n\xff\r\n").hears(), "+ \r\n-ERR that is not base64\r\n");
}

#[test]
fn no_password_is_heard_before_login_or_after() {
    let mut peer = Peer::new(Limits::default());
    peer.says(b"USER ann@example.com\r\nPASS good\r\nAPOP ann good\r\nAUTH plain good\r\n");
    assert_eq!(peer.hears(), "-ERR [AUTH] no passwords\r\n".repeat(4));
    assert_eq!(
        peer.steps,
        [
            r#"Password { verb: "USER", user: Some("ann@example.com") }"#,
            r#"Password { verb: "PASS", user: None }"#,
            r#"Password { verb: "APOP", user: Some("ann") }"#,
            r#"Unoffered("PLAIN")"#,
        ]
    );
    dialog(&[
        ("AUTH XOAUTH2 good", "+OK welcome|"),
        ("USER ann", "-ERR you are signed in already|"),
        ("AUTH XOAUTH2 good", "-ERR you are signed in already|"),
    ]);
}

#[test]
fn a_password_that_was_sent_anyway_is_kept_nowhere() {
    let mut peer = Peer::new(Limits::default());
    peer.says(b"PASS hunter2\r\nUSER");
    assert_eq!(peer.dialog.buffer().as_ref(), b"USER");
    let said = peer.hears();
    assert!(!format!("{:?}{said}", peer.steps).contains("hunter2"));
}

#[test]
fn before_login_nothing_but_signing_in_works() {
    for line in ["STAT", "LIST", "RETR 1", "DELE 1", "UIDL", "TOP 1 0", "RSET", "NOOP"] {
        dialog(&[(line, "-ERR sign in first: AUTH|")]);
    }
    dialog(&[
        ("STLS", "-ERR TLS is on already|"),
        ("", "-ERR unknown command|"),
        ("CAPA x", "-ERR expected: no argument|"),
    ]);
}

#[test]
fn bad_commands_at_the_limit_are_answered_and_one_more_ends_the_connection() {
    let limits = Limits { bad_before_login: 2, bad_after_login: 3, ..Limits::default() };
    let mut peer = Peer::new(limits);
    peer.says(b"X\r\nX\r\n");
    assert_eq!(peer.hears(), "-ERR unknown command\r\n".repeat(2));
    assert_eq!(peer.says(b"X\r\nCAPA\r\n").hears(), "-ERR [SYS/TEMP] too many bad commands, closing\r\n");
    assert!(peer.left);
    let mut peer = Peer::new(limits);
    peer.says(b"X\r\nAUTH XOAUTH2 good\r\nX\r\nX\r\nX\r\n");
    assert!(!peer.left, "signing in starts the count again");
    assert!(peer.says(b"X\r\n").left);
}

#[test]
fn failed_logins_at_the_limit_are_answered_and_one_more_ends_the_connection() {
    let mut peer = Peer::new(Limits { failed_logins: 2, ..Limits::default() });
    peer.says(b"AUTH XOAUTH2 bad\r\n\r\nUSER ann\r\n");
    assert!(!peer.left);
    peer.hears();
    peer.says(b"AUTH XOAUTH2 good\r\n");
    assert_eq!(peer.hears(), "-ERR [SYS/TEMP] too many failed sign-ins, closing\r\n");
    assert!(peer.left);
}

#[test]
fn lines_at_the_limit_pass_and_longer_ones_are_refused() {
    let limits = Limits { line_before_login: 30, line_after_login: 40, ..Limits::default() };
    let token = |length: usize| format!("AUTH XOAUTH2 {}\r\n", "x".repeat(length - 15));
    assert_eq!(Peer::new(limits).says(token(30).as_bytes()).hears(), "+ e30=\r\n");
    assert_eq!(Peer::new(limits).says(token(31).as_bytes()).hears(), "-ERR line too long\r\n");
    let mut peer = Peer::new(limits);
    peer.says(b"AUTH XOAUTH2 good\r\n").hears();
    let padded = |length: usize| format!("STAT{}\r\n", " ".repeat(length - 6));
    assert_eq!(peer.says(padded(40).as_bytes()).hears(), "+OK 2 30\r\n");
    assert_eq!(peer.says(padded(41).as_bytes()).hears(), "-ERR line too long\r\n");
    assert_eq!(peer.says(&[b'x'; 700]).hears(), "-ERR line too long, closing\r\n");
    assert!(peer.left);
}

#[test]
fn a_dialog_means_the_same_wherever_tcp_cuts_it() {
    let bytes = b"CAPA\r\nUSER ann\r\nPASS secret\r\nAUTH XOAUTH2 bad\r\nAQ==\r\nAUTH OAUTHBEARER\r\ngood\r\nSTAT\r\nLIST\r\n\
                  DELE 2\r\nRETR 1\r\nTOP 1 0\r\nBAD\nLINE\r\nUIDL 1\r\nQUIT\r\n";
    let mut whole = Peer::new(Limits::default());
    whole.says(bytes);
    assert!(whole.left);
    let said = whole.hears();
    for cut in 0..bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        let mut peer = Peer::new(Limits::default());
        peer.says(head).says(tail);
        assert_eq!(peer.steps, whole.steps, "cut at byte {cut}");
        assert_eq!(peer.hears(), said, "cut at byte {cut}");
    }
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer_and_every_reply_is_a_line(
        words in proptest::collection::vec(
            prop_oneof![
                proptest::sample::select(vec!["AUTH", " XOAUTH2", " good", " bad", "\r\n", "STAT", "LIST", " 1", "*", "QUIT", "\r", "\n"])
                    .prop_map(|word| word.as_bytes().to_vec()),
                proptest::collection::vec(any::<u8>(), 0..20),
            ],
            0..60,
        )
    ) {
        let mut peer = Peer::new(Limits::default());
        for word in &words {
            peer.says(word);
        }
        let out = peer.hears();
        prop_assert!(out.is_empty() || out.ends_with("\r\n"));
        prop_assert!(out.split_terminator("\r\n").all(|line| line.bytes().all(|b| (0x20..0x7f).contains(&b))));
    }
}
