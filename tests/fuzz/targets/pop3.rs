//! POP3: a dialog means the same wherever it is cut, answers in whole lines of printable ASCII, and a message leaves so
//! that it arrives.
//!
//! Input: six bytes of choices (state and limits; verdicts on sign-ins; four lengths of pieces), then the dialog, or the
//! message.

use bytes::BytesMut;
use portcullis::pop3::{Body, Command, Dialog, Fill, Limits, Maildrop, Next, Step};

const OFFERED: &[&str] = &["XOAUTH2", "OAUTHBEARER"];

pub fn run(data: &[u8]) {
    let Some((&[states, verdicts, ref sizes @ ..], rest)) = data.split_first_chunk::<6>() else { return };
    if states & 1 == 0 {
        let limits = match states & 2 {
            0 => Limits::default(),
            _ => Limits { line_before_login: 48, line_after_login: 64, bad_after_login: 9, ..Limits::default() },
        };
        let whole = dialog(limits, verdicts, &super::cut(rest, &[]));
        assert_eq!(dialog(limits, verdicts, &super::cut(rest, sizes)), whole, "a cut made a difference");
    } else {
        message(rest, sizes, u32::from(verdicts));
    }
}

/// Steps and replies of a conversation.
fn dialog(limits: Limits, mut verdicts: u8, pieces: &[&[u8]]) -> (Vec<String>, String) {
    let mut dialog = Dialog::new(OFFERED, limits);
    let mut maildrop = Maildrop::new(7, [(1, 120), (4, 0), (9, u64::MAX)]);
    let (mut said, mut replies) = (Vec::new(), BytesMut::new());
    'all: for piece in pieces {
        dialog.buffer().extend_from_slice(piece);
        for round in 0.. {
            assert!(round < 16 + piece.len() + limits.line_after_login, "it never ends");
            let before = replies.len();
            match dialog.next(&mut replies) {
                Step::Read => {
                    assert_eq!(replies.len(), before, "a reply to nothing");
                    break;
                }
                Step::Replied => {}
                Step::SignIn { mechanism, response } => {
                    said.push(format!("{mechanism} {:?}", response.reveal()));
                    verdicts = verdicts.rotate_right(2);
                    match verdicts & 3 {
                        0 => dialog.admit("welcome", &mut replies),
                        1 => dialog.refuse(Some("eyJ9"), "[AUTH] no", &mut replies),
                        2 => {
                            dialog.refuse(Some("eyJ9"), "[AUTH] no", &mut replies);
                            dialog.late(&mut replies);
                        }
                        _ => dialog.refuse(None, "[AUTH] no", &mut replies),
                    }
                }
                Step::Password { verb, user } => {
                    assert!(user.as_ref().is_none_or(|user| user.chars().count() <= 256));
                    said.push(format!("{verb} {user:?}"));
                    dialog.refuse(None, "[AUTH] passwords are not accepted", &mut replies);
                }
                Step::Unoffered(name) => {
                    assert!(name.len() <= 20 && !OFFERED.contains(&&*name));
                    said.push(name);
                    dialog.refuse(None, "[AUTH] not offered", &mut replies);
                }
                Step::Command(command) => {
                    said.push(format!("{command:?}"));
                    answer(&mut maildrop, command, &mut said, &mut replies);
                }
                Step::Leave => {
                    said.push("leave".to_owned());
                    break 'all;
                }
            }
        }
        let most = limits.line_after_login + piece.len();
        assert!(dialog.buffer().len() <= most, "{} bytes held", dialog.buffer().len());
    }
    let replies = String::from_utf8(replies.to_vec()).expect("ASCII");
    let mut lines: Vec<&str> = replies.split("\r\n").collect();
    assert_eq!(lines.pop(), Some(""), "half a line");
    for line in lines {
        assert!(line.len() <= 510 && line.bytes().all(|b| matches!(b, b' '..=b'~')), "{line:?}");
    }
    (said, replies)
}

fn answer(maildrop: &mut Maildrop, command: Command, said: &mut Vec<String>, replies: &mut BytesMut) {
    match maildrop.answer(command, replies) {
        Next::Done => {}
        Next::Listing(mut listing) => {
            while !listing.fill(maildrop, replies, 40) && replies.len() < 1 << 20 {
                said.push(format!("{} so far", replies.len()));
                let written = replies.len();
                assert!(listing.fill(maildrop, replies, written + 1) || replies.len() > written, "it never ends");
            }
        }
        Next::Send { index, size, top } => said.push(format!("send {index} {size} {top:?}")),
        Next::Update => said.push(format!("update {:?}", maildrop.deleted().collect::<Vec<_>>())),
    }
}

/// A message on its way out: RETR and TOP.
fn message(mail: &[u8], sizes: &[u8], lines: u32) {
    let sent = |mut body: Body, pieces: &[&[u8]]| {
        let mut out = BytesMut::new();
        for piece in pieces {
            if body.feed(piece, &mut out) == Fill::Enough {
                break;
            }
        }
        body.finish(&mut out);
        out.to_vec()
    };
    let whole = sent(Body::whole(), &[mail]);
    let top = sent(Body::top(lines), &[mail]);
    assert_eq!(sent(Body::whole(), &super::cut(mail, sizes)), whole, "a cut made a difference");
    assert_eq!(sent(Body::top(lines), &super::cut(mail, sizes)), top, "a cut made a difference");

    // What a program makes of it that ends lines at LF, or at CRLF: the message, and nothing behind its end.
    let received = |wire: &[u8], end: &[u8]| -> Vec<u8> {
        let mut mail = Vec::new();
        let mut rest = wire;
        loop {
            let at = memchr::memmem::find(rest, end).expect("a line's end") + end.len();
            let (line, tail) = rest.split_at(at);
            if line == b".\r\n" {
                assert!(tail.is_empty(), "the message ends twice");
                return mail;
            }
            mail.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            rest = tail;
        }
    };
    let arrived = received(&whole, b"\r\n");
    assert_eq!(received(&whole, b"\n"), arrived);
    assert!(arrived.starts_with(&received(&top, b"\r\n")));
    let plain = |bytes: &[u8]| bytes.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect::<Vec<u8>>();
    assert_eq!(plain(&arrived), plain(mail));
}
