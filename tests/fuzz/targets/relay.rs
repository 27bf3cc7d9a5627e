//! What goes through the relay, seen from the server behind it: whatever the peer sends, however it is cut, that server
//! never carries out a command that leaves the sign-in, nor one that writes where only reading is allowed; and the relay
//! never waits for an answer that does not come. In the other direction: where responses end does not depend on the cut.
//!
//! Input: six bytes of choices (who, and how the server reads; its answers to literals; four lengths of
//! pieces), then the dialog.

use bytes::BytesMut;
use portcullis::{
    imap::{
        boundary::{Responses, Said},
        frame::Limits,
        passing::{Commands, Step},
    },
    pop3::{Passing, PassingStep},
};

pub fn run(data: &[u8]) {
    let Some((&[choices, answers, ref sizes @ ..], dialog)) = data.split_first_chunk::<6>() else { return };
    imap(choices & 1 == 1, choices & 2 == 2, answers, &super::cut(dialog, sizes));
    responses(dialog, sizes);
    pop3(choices & 1 == 1, dialog, sizes);
}

fn imap(only_reads: bool, skips: bool, answers: u8, pieces: &[&[u8]]) {
    let mut commands = Commands::new(only_reads, Limits::default());
    let mut server = Server { skips, only_reads, answers, ..Server::default() };
    let (mut input, mut on) = (BytesMut::new(), BytesMut::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        for round in 0.. {
            assert!(round < 100 + 4 * (input.len() + piece.len()), "it never ends");
            let step = commands.next(&mut input, &mut on);
            server.hear(&on.split());
            for said in std::mem::take(&mut server.said) {
                match &said {
                    None => commands.heard(Said::GoOn, &input),
                    Some(tag) => commands.heard(Said::Done(tag), &input),
                }
            }
            match step {
                Step::Read => break,
                Step::Wait => {
                    // All that was said is answered by now: the next step is another one, or waits for an answer to more.
                    let step = commands.next(&mut input, &mut on);
                    assert!(step != Step::Wait || !on.is_empty(), "it waits for nothing");
                    server.hear(&on.split());
                    if over(&step) {
                        return;
                    }
                }
                step if over(&step) => return,
                _ => {}
            }
        }
        assert!(input.len() <= 70 * 1024, "{} bytes held", input.len());
    }
}

fn over(step: &Step) -> bool {
    if let Step::Refused(bad) = step {
        super::imap_frame::check_answer(bad);
        return bad.fatal;
    }
    false
}

/// A server that takes a bare LF for the end of a line, as Dovecot does, and is strict about nothing else.
#[derive(Default)]
struct Server {
    /// It makes nothing of arguments that some commands do not have, and does not see a literal among them.
    skips: bool,
    only_reads: bool,
    answers: u8,
    bytes: Vec<u8>,
    /// The command under way, without its literals.
    command: Vec<u8>,
    literal: usize,
    idles: bool,
    /// `+`, or the tag of a command that is done.
    said: Vec<Option<Vec<u8>>>,
}

impl Server {
    fn hear(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        loop {
            if self.literal > 0 {
                let here = self.literal.min(self.bytes.len());
                self.bytes.drain(..here);
                self.literal -= here;
                if self.literal > 0 {
                    return;
                }
            }
            let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') else { return };
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            self.line(line.strip_suffix(b"\r\n").unwrap_or(&line[..end]));
        }
    }

    fn line(&mut self, line: &[u8]) {
        if std::mem::take(&mut self.idles) {
            assert!(line.eq_ignore_ascii_case(b"DONE"), "{:?} ends IDLE", String::from_utf8_lossy(line));
            return self.done();
        }
        self.command.extend_from_slice(line);
        if let Some((size, waits)) = announced(line) {
            let verb = self.command.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
            let skipped =
                self.skips && [&b"NOOP"[..], b"IDLE", b"LOGOUT"].iter().any(|one| verb.eq_ignore_ascii_case(one));
            if waits && skipped && verb.eq_ignore_ascii_case(b"IDLE") {
                panic!("IDLE with arguments goes on");
            }
            if waits {
                self.answers = self.answers.rotate_right(1);
                if self.answers & 1 == 1 && !skipped {
                    self.literal = size;
                    return self.said.push(None);
                }
                return self.done();
            }
            // Whether it is skipped with its line differs from server to server.
            panic!("a literal that does not wait goes on: {:?}", String::from_utf8_lossy(line));
        }
        let words = String::from_utf8_lossy(&self.command).to_ascii_uppercase();
        let mut words = words.split(' ').skip(1);
        let verb = words.next().unwrap_or_default();
        let forbidden = ["UNAUTHENTICATE", "AUTHENTICATE", "LOGIN", "STARTTLS", "PROXYAUTH"];
        assert!(!forbidden.contains(&verb), "{verb} is carried out");
        if self.only_reads {
            let verb = if verb == "UID" { words.next().unwrap_or_default() } else { verb };
            let writes = ["STORE", "APPEND", "EXPUNGE", "COPY", "MOVE", "DELETE", "SELECT", "REPLACE", "XNEW"];
            assert!(!writes.contains(&verb), "{verb} is carried out for somebody who may only read");
        }
        if verb == "IDLE" {
            self.answers = self.answers.rotate_right(1);
            if self.answers & 1 == 1 {
                self.idles = true;
                return self.said.push(None);
            }
        }
        self.done();
    }

    fn done(&mut self) {
        let command = std::mem::take(&mut self.command);
        let tag = command.split(|byte| *byte == b' ').next().unwrap_or_default();
        self.said.push(Some(tag.to_vec()));
    }
}

/// Size, and whether the peer waits; read as leniently as some server might.
fn announced(line: &[u8]) -> Option<(usize, bool)> {
    let text = String::from_utf8_lossy(line).into_owned();
    let inner = text.trim_end().strip_suffix('}')?;
    let (_, number) = inner.rsplit_once('{')?;
    let (number, waits) = match number.trim().strip_suffix('+') {
        Some(number) => (number, false),
        None => (number.trim(), true),
    };
    Some((number.trim().parse().ok()?, waits))
}

fn responses(bytes: &[u8], sizes: &[u8]) {
    let ends = |pieces: &[&[u8]]| {
        let (mut responses, mut ends, mut at) = (Responses::default(), Vec::new(), 0);
        for piece in pieces {
            let mut rest = *piece;
            while let Some(taken) = responses.follow_to_boundary(rest, |_| {}) {
                at += taken;
                ends.push(at);
                rest = &rest[taken..];
            }
            at += rest.len();
        }
        (ends, responses.at_boundary())
    };
    assert_eq!(ends(&super::cut(bytes, sizes)), ends(&[bytes]), "a cut made a difference");
}

fn pop3(only_reads: bool, bytes: &[u8], sizes: &[u8]) {
    let goes_on = |pieces: &[&[u8]]| {
        let mut passing = Passing::new(only_reads, "+OK\r\n.\r\n".into());
        let (mut input, mut on) = (BytesMut::new(), BytesMut::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            while let PassingStep::Began(_) = passing.next(&mut input, &mut on) {}
        }
        on.to_vec()
    };
    let on = goes_on(&super::cut(bytes, sizes));
    for line in on.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let verb = line.split(|byte| *byte == b' ').next().unwrap_or_default().to_ascii_uppercase();
        let forbidden: &[&[u8]] = &[b"USER", b"PASS", b"APOP", b"AUTH", b"STLS", b"XCLIENT"];
        let kept = forbidden.contains(&verb.as_slice()) || only_reads && verb == b"DELE";
        assert!(!kept, "{verb:?} goes on");
    }
}
