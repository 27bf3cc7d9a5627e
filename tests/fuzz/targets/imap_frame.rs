//! The IMAP framer, before and after login: a dialog means the same wherever it is cut, what was announced as a literal
//! is never read as commands, and what is held back is bounded.
//!
//! Input: six bytes of choices (states and limits; verdicts on APPENDs; four lengths of pieces), then the dialog.

use bytes::BytesMut;
use portcullis::imap::{
    command::{AppendHead, Command, Form},
    frame::{Framer, Limits, Line, Step},
};

#[derive(Clone)]
struct Setup {
    signed_in: bool,
    /// Whether an AUTHENTICATE succeeds.
    lets_in: bool,
    limits: Limits,
    /// Two bits for each APPEND: refuse, take, take and then give up, take.
    verdicts: u8,
}

pub fn run(data: &[u8]) {
    let Some((&[states, verdicts, ref sizes @ ..], dialog)) = data.split_first_chunk::<6>() else { return };
    let limits = match states & 2 {
        0 => Limits::default(),
        _ => Limits {
            line_before_login: 512,
            line: 256,
            literal: 128,
            command: 1024,
            append: 4096,
            ..Limits::default()
        },
    };
    let setup = Setup { signed_in: states & 1 != 0, lets_in: states & 4 != 0, limits, verdicts };
    let whole = told(&setup, patient(dialog, &[]));
    assert_eq!(told(&setup, patient(dialog, sizes)), whole, "a cut made a difference");

    // A peer that does not wait, and one that sends too much of what is refused: anything but a panic or a hang.
    let hasty = Setup { limits: Limits { dropped: 600, ..setup.limits.clone() }, ..setup.clone() };
    told(&hasty, super::cut(dialog, sizes));

    literals_are_data(&setup, dialog);
}

/// Pieces as a peer sends them that waits for `+` before each literal that wants it. (Whether it waited is a matter of
/// time, so only then is there one right answer.)
fn patient<'b>(dialog: &'b [u8], sizes: &[u8]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    let mut rest = dialog;
    while let Some(at) = memchr::memmem::find(rest, b"}\r\n") {
        let (head, tail) = rest.split_at(at + 3);
        pieces.extend(super::cut(head, sizes));
        rest = tail;
    }
    pieces.extend(super::cut(rest, sizes));
    pieces
}

/// Everything the framer says, as text; a message's pieces are joined.
fn told(setup: &Setup, pieces: Vec<&[u8]>) -> Vec<String> {
    let mut framer = Framer::new(setup.limits.clone());
    if setup.signed_in {
        framer.signed_in();
    }
    let longest = setup.limits.line.max(setup.limits.line_before_login).max(setup.limits.command);
    let (mut said, mut message) = (Vec::new(), Vec::new());
    let (mut appends, mut gives_up, mut binary) = (0, false, false);
    // The command before is answered by one raw line.
    let mut raw = None;
    for piece in pieces {
        framer.buffer().extend_from_slice(piece);
        for round in 0.. {
            assert!(round < 100 + 2 * piece.len() + longest, "it never ends");
            if let Some(command) = raw.take() {
                match framer.next_line() {
                    Line::Read => {
                        raw = Some(command);
                        break;
                    }
                    Line::Text(text) => {
                        said.push(format!("line {:?}", text.reveal()));
                        if command == "AUTHENTICATE" && setup.lets_in {
                            framer.signed_in();
                        }
                    }
                    Line::Bad(bad) => {
                        assert!(bad.fatal);
                        said.push(format!("{bad:?}"));
                        return said;
                    }
                }
                continue;
            }
            match framer.next() {
                Step::Read => break,
                Step::Continue => said.push("+".to_owned()),
                Step::Command(tagged) => {
                    raw = match &tagged.command {
                        Command::Idle => Some("IDLE"),
                        Command::Authenticate { initial: None, .. } => Some("AUTHENTICATE"),
                        _ => None,
                    };
                    said.push(format!("{tagged:?}"));
                }
                step @ (Step::Append(_) | Step::NextMessage(_)) => {
                    let (Step::Append(AppendHead { message: head, .. }) | Step::NextMessage(head)) = &step else {
                        return said;
                    };
                    assert!(head.size <= setup.limits.append);
                    binary = head.form != Form::Literal;
                    said.push(format!("{step:?} after {:?}", std::mem::take(&mut message)));
                    let verdict = setup.verdicts >> (appends % 4 * 2) & 3;
                    appends += 1;
                    gives_up = verdict == 2;
                    if verdict == 0 {
                        framer.reject();
                    } else {
                        framer.accept();
                    }
                }
                Step::Chunk(chunk) => {
                    assert!(!chunk.is_empty() && (binary || !chunk.contains(&0)));
                    message.extend_from_slice(&chunk);
                    if gives_up {
                        framer.reject();
                        message.clear();
                    }
                }
                Step::AppendEnd => said.push(format!("kept {:?}", std::mem::take(&mut message))),
                Step::Bad(bad) => {
                    message.clear();
                    check_answer(&bad);
                    // Whether the NUL or the end of our patience comes first depends on the cut.
                    if !gives_up || !bad.text.starts_with("A message with NUL in it") {
                        said.push(format!("{bad:?}"));
                    }
                    if bad.fatal {
                        return said;
                    }
                }
            }
        }
        let pending = framer.buffer();
        assert!(pending.len() <= longest + piece.len(), "{} bytes held", pending.len());
        assert!(pending.capacity() <= 2 * (longest + piece.len()) + 128 * 1024, "capacity {}", pending.capacity());
    }
    said
}

/// Nothing of ours on the wire can be broken up by what the peer sent.
pub(super) fn check_answer(bad: &portcullis::imap::bad::Bad) {
    let mut out = BytesMut::new();
    bad.write(&mut out);
    let text = out.strip_suffix(b"\r\n").expect("a whole line");
    let lines = text.split(|b| *b == b'\n').count();
    assert!(lines <= 2 && text.iter().all(|b| matches!(b, b' '..=b'~' | b'\r' | b'\n')), "{bad:?}");
}

/// `dialog` without line ends, then a literal full of commands, then a NOOP: only the NOOP is heard.
fn literals_are_data(setup: &Setup, dialog: &[u8]) {
    const TRAP: &[u8] = b"\r\nEVIL NOOP\r\nEVIL LOGOUT\r\nEVIL SELECT {5+}\r\nEVIL NOOP\r\n";
    let start: Vec<u8> = dialog.iter().copied().filter(|b| *b != b'\r').collect();
    if memchr::memmem::find(&start, b"EVIL").is_some() || memchr::memmem::find(&start, b"zz").is_some() {
        return;
    }
    for (open, plus, waits) in [("{", "+", false), ("~{", "+", false), ("{", "", true)] {
        let mut framer = Framer::new(setup.limits.clone());
        if setup.signed_in {
            framer.signed_in();
        }
        let announced = format!(" {open}{}{plus}}}\r\n", TRAP.len());
        framer.buffer().extend_from_slice(&start);
        framer.buffer().extend_from_slice(announced.as_bytes());
        let (mut sent, mut heard) = (!waits, false);
        if !waits {
            framer.buffer().extend_from_slice(TRAP);
            framer.buffer().extend_from_slice(b"\r\nzz NOOP\r\n");
        }
        loop {
            match framer.next() {
                Step::Read if sent => break,
                Step::Read => {
                    framer.buffer().extend_from_slice(b"zz NOOP\r\n");
                    sent = true;
                }
                Step::Continue => {
                    assert!(waits && !sent);
                    framer.buffer().extend_from_slice(TRAP);
                    framer.buffer().extend_from_slice(b"\r\nzz NOOP\r\n");
                    sent = true;
                }
                Step::Command(tagged) => {
                    assert_ne!(tagged.tag, "EVIL", "a literal was read as a command");
                    heard |= tagged.tag == "zz" && tagged.command == Command::Noop;
                }
                Step::Append(head) => {
                    assert_ne!(head.tag, "EVIL", "a literal was read as a command");
                    match setup.verdicts & 1 {
                        0 => framer.reject(),
                        _ => framer.accept(),
                    }
                }
                Step::NextMessage(_) => framer.accept(),
                Step::Chunk(_) | Step::AppendEnd => {}
                Step::Bad(bad) => {
                    assert_ne!(bad.tag.as_deref(), Some("EVIL"), "a literal was read as a command");
                    if bad.fatal {
                        return;
                    }
                }
            }
        }
        assert!(heard, "the command after the literal was lost");
    }
}
