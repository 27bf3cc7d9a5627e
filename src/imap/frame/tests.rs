//! How commands are told apart, wherever TCP cuts them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

use proptest::prelude::*;

use super::*;
use crate::imap::{command::Form, write::Status};

/// Everything a framer says to these pieces, as short words; an APPEND is accepted, its chunks joined.
fn told_by(framer: &mut Framer, pieces: &[&[u8]]) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    let mut message: Vec<u8> = Vec::new();
    for piece in pieces {
        framer.buffer().extend_from_slice(piece);
        loop {
            let word = match framer.next() {
                Step::Read => break,
                Step::Continue => "+".to_owned(),
                Step::Command(Tagged { tag, command }) => {
                    let name = format!("{command:?}");
                    format!("{tag} {}", name.split(['(', ' ']).next().unwrap_or_default())
                }
                Step::Append(head) => {
                    framer.accept();
                    let old = head.replaces.map(|old| format!(" for {old:?}")).unwrap_or_default();
                    let form = form(head.message.form);
                    format!("{} append {}{form} to {}{old}", head.tag, head.message.size, head.mailbox)
                }
                Step::NextMessage(head) => {
                    framer.accept();
                    let ended = String::from_utf8_lossy(&std::mem::take(&mut message)).into_owned();
                    format!("{ended} and {}{} {:?}", head.size, form(head.form), head.flags.len())
                }
                Step::Chunk(chunk) => {
                    assert!(!chunk.is_empty());
                    message.extend_from_slice(&chunk);
                    continue;
                }
                Step::AppendEnd => format!("kept {}", String::from_utf8_lossy(&std::mem::take(&mut message))),
                Step::Bad(bad) => {
                    message.clear();
                    let mut out = BytesMut::new();
                    bad.write(&mut out);
                    let text = String::from_utf8_lossy(&out).replace("\r\n", "|");
                    if bad.fatal {
                        told.push(text);
                        return told;
                    }
                    text
                }
            };
            told.push(word);
        }
    }
    told
}

fn form(form: Form) -> &'static str {
    match form {
        Form::Literal => "",
        Form::Binary => " binary",
        Form::Utf8 => " utf8",
    }
}

fn after_login() -> Framer {
    let mut framer = Framer::new(Limits::default());
    framer.signed_in();
    framer
}

fn told(bytes: &[u8]) -> Vec<String> {
    told_by(&mut after_login(), &[bytes])
}

fn told_before_login(bytes: &[u8]) -> Vec<String> {
    told_by(&mut Framer::new(Limits::default()), &[bytes])
}

#[test]
fn a_dialog_means_the_same_wherever_tcp_cuts_it() {
    let dialogs: [&[u8]; 6] = [
        b"a APPEND x (\\Seen) {3+}\r\nabc \"17-Jul-1996 02:44:25 -0700\" ~{4+}\r\n\0\r\n\0 UTF8 (~{2+}\r\nhi)\r\nb NOOP\r\n",
        b"a UID REPLACE 4 {5+}\r\nINBOX {3+}\r\nabc\r\nb REPLACE * x {2+}\r\nhi {2+}\r\nho\r\nc APPEND x ~{2+}\r\nhi x {4+}\r\nd NO\r\n",
        b"a CAPABILITY\r\nb SELECT {5}\r\nINBOX\r\nc FETCH 1 (FLAGS BODY[])\r\nd NOOP\r\n",
        b"a APPEND {3+}\r\nabc (\\Seen) {10}\r\nhi\r\nthere!\r\nb APPEND x {0}\r\n\r\nc APPEND x {2+}\r\nxy and\r\nd NOOP\r\n",
        b"a X {3+}\r\nb N {4+}\r\nOOP\n\r\nc SEARCH TEXT {9000+}\r\nNOOP\r\n",
        b"a NO\nOP\r\n\r\nsecret\r\nb\rc NOOP\r\nd LOGIN {3+}\r\nann {6+}\r\nsecret\r\ne ID NIL\r\n",
    ];
    for bytes in dialogs {
        let whole = told(bytes);
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(told_by(&mut after_login(), &[head, tail]), whole, "cut at byte {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(told_by(&mut after_login(), &single), whole, "byte by byte");
    }
}

#[test]
fn an_append_is_streamed_and_kept_only_if_its_command_ends_well() {
    assert_eq!(
        told(b"a APPEND Sent (\\Seen) {5}\r\nhello\r\nb NOOP\r\n"),
        ["a append 5 to Sent", "+", "kept hello", "b Noop"]
    );
    assert_eq!(
        told(b"a APPEND Sent {5+}\r\nhello {3+}\r\nabc\r\nb NOOP\r\n"),
        ["a append 5 to Sent", "hello and 3 0", "kept abc", "b Noop"]
    );
    assert_eq!(
        told(b"a APPEND Sent {5+}\r\nhello x {3+}\r\nabc\r\nb NOOP\r\n"),
        ["a append 5 to Sent", "a BAD Arguments are not as this command needs them|", "b Noop"]
    );
    assert_eq!(
        told(b"a APPEND Sent {5+}\r\nhello\rx\r\nb NOOP\r\n"),
        ["a append 5 to Sent", "a BAD Something follows the message|", "b Noop"]
    );
    assert_eq!(
        told(b"a APPEND ../x {5+}\r\nhello\r\nb NOOP\r\n"),
        ["a NO [CANNOT] That is not a mailbox name this server can have|", "b Noop"]
    );
    assert_eq!(
        told(b"a APPEND Sent {8+}\r\nb NO\0P\r\n\r\nc NOOP\r\n"),
        [
            "a append 8 to Sent",
            "a NO [CANNOT] A message with NUL in it is taken as a binary literal only|",
            "c Noop"
        ]
    );
    assert_eq!(told(b"a APPEND Sent {52428800}\r\n"), ["a append 52428800 to Sent", "+"]);
    assert_eq!(told(b"a APPEND Sent {52428801}\r\n"), ["a NO [TOOBIG] The message is too large|"]);
}

#[test]
fn a_command_may_bring_many_messages_each_in_its_own_form() {
    assert_eq!(
        told(
            b"a APPEND x (\\Seen) {3}\r\nabc (\\Draft $Junk) ~{4}\r\n\0\r\n\0 UTF8 (~{2+}\r\nhi) {1+}\r\ny\r\nb NOOP\r\n"
        ),
        [
            "a append 3 to x",
            "+",
            "abc and 4 binary 2",
            "+",
            "\0\r\n\0 and 2 utf8 0",
            "hi and 1 0",
            "kept y",
            "b Noop"
        ]
    );
    let last = |bytes: &[u8]| {
        let mut told = told(&[bytes, b"\r\nz NOOP\r\n"].concat());
        assert_eq!(told.pop().unwrap(), "z Noop", "{bytes:?}");
        told.pop().unwrap()
    };
    for (bytes, expected) in [
        (b"a APPEND x UTF8 (~{2+}\r\nhi".as_slice(), "a BAD The message after UTF8 ( ends with )|"),
        (b"a APPEND x UTF8 (~{2+}\r\nhi {6+}\r\nz NOOP", "a BAD The message after UTF8 ( ends with )|"),
        (b"a APPEND x UTF8 (~{2+}\r\nhi))", "a BAD Something follows the message|"),
        (b"a APPEND x UTF8 ({2+}\r\nhi)", "a BAD Arguments are not as this command needs them|"),
        (b"a APPEND x UTF8 ~{2+}\r\nhi", "a BAD Arguments are not as this command needs them|"),
        (b"a APPEND x {1+}\r\nh {4097+}\r\nhi", ""),
        (b"a APPEND x {1+}\r\nh (\\Seen {6+}\r\nz NOOP", "a BAD Arguments are not as this command needs them|"),
        (b"a REPLACE 2 x {1+}\r\nh {6+}\r\nz NOOP", "a BAD Something follows the message|"),
        (b"a REPLACE 0 x {6+}\r\nz NOOP", "a BAD Arguments are not as this command needs them|"),
        (b"a REPLACE 1:2 x {6+}\r\nz NOOP", "a BAD Arguments are not as this command needs them|"),
        (b"a UID REPLACE x {6+}\r\nz NOOP", "a BAD Arguments are not as this command needs them|"),
        (b"a UID COPY 1 ~{6+}\r\nz NOOP", "a BAD Only a message may be a binary literal|"),
        (b"a APPEND ~{6+}\r\nz NOOP", "a BAD Only a message may be a binary literal|"),
        (b"a REPLACE 1 x", "a BAD REPLACE needs a message number, a mailbox and a message|"),
        (b"a UID REPLACE 1 x", "a BAD REPLACE needs a message number, a mailbox and a message|"),
    ] {
        if expected.is_empty() {
            let filled = [bytes.strip_suffix(b"hi").unwrap(), &[b'x'; 4097]].concat();
            assert_eq!(last(&filled), "a BAD [TOOBIG] Literals over 4096 bytes must wait for +|");
        } else {
            assert_eq!(last(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
    assert_eq!(
        told(b"a APPEND x {1+}\r\nh {52428801}\r\n"),
        ["a append 1 to x", "a NO [TOOBIG] The message is too large|"]
    );
    assert_eq!(
        told(b"a REPLACE * Drafts {5}\r\nhello\r\nb UID REPLACE 7 {1+}\r\nx ~{1}\r\n\0\r\n"),
        [
            "a append 5 to Drafts for Replaced { number: None, uid: false }",
            "+",
            "kept hello",
            "b append 1 binary to x for Replaced { number: Some(7), uid: true }",
            "+",
            "kept \0",
        ]
    );
}

#[test]
fn a_command_brings_as_many_messages_as_it_may_have_literals() {
    let many = |count: usize| {
        let mut command = b"a APPEND x".to_vec();
        for _ in 0..count {
            command.extend_from_slice(b" {1+}\r\nm");
        }
        command.extend_from_slice(b"\r\nz NOOP\r\n");
        told(&command)
    };
    assert_eq!(many(1000)[1000..], ["kept m", "z Noop"]);
    assert_eq!(many(1001)[1000..], ["a NO [LIMIT] Too many messages in one command|", "z Noop"]);
    let long = [b"a APPEND x {1+}\r\nm ".as_slice(), &[b'x'; 65_536], b"\r\nz NOOP\r\n"].concat();
    assert_eq!(told(&long), ["a append 1 to x", "a NO [TOOBIG] Command too long|", "z Noop"]);
}

#[test]
fn messages_after_one_that_is_refused_are_dropped() {
    let mut framer = after_login();
    let dialog = b"a APPEND x {1+}\r\nm (\\Seen) {12+}\r\nb NOOP\r\nx\r\n {9+}\r\nb NOOP\r\nx\r\nc NOOP\r\n";
    framer.buffer().extend_from_slice(dialog);
    assert!(matches!(framer.next(), Step::Append(_)));
    framer.accept();
    assert!(matches!(framer.next(), Step::Chunk(_)));
    assert!(matches!(framer.next(), Step::NextMessage(_)));
    framer.reject();
    assert_eq!(told_by(&mut framer, &[b""]), ["c Noop"]);
    // One that waits is never sent, and what follows is a command.
    framer.buffer().extend_from_slice(b"a APPEND x {1+}\r\nm {9}\r\n");
    assert!(matches!(framer.next(), Step::Append(_)));
    framer.accept();
    assert!(matches!(framer.next(), Step::Chunk(_)));
    assert!(matches!(framer.next(), Step::NextMessage(_)));
    framer.reject();
    assert_eq!(told_by(&mut framer, &[b"d NOOP\r\n"]), ["d Noop"]);
}

#[test]
fn a_rejected_message_is_dropped_unread() {
    for (announced, sent) in [("{9+}", "b NOOP\r\nx\r\n"), ("{9}", "")] {
        let mut framer = after_login();
        framer.buffer().extend_from_slice(format!("a APPEND x {announced}\r\n{sent}").as_bytes());
        assert!(matches!(framer.next(), Step::Append(_)));
        framer.reject();
        assert_eq!(framer.next(), Step::Read, "{announced}");
        assert_eq!(told_by(&mut framer, &[b"c NOOP\r\n"]), ["c Noop"]);
    }
    let mut framer = after_login();
    framer.buffer().extend_from_slice(b"a APPEND x {9}\r\n");
    assert!(matches!(framer.next(), Step::Append(_)));
    framer.accept();
    assert_eq!(framer.next(), Step::Continue);
    framer.buffer().extend_from_slice(b"b NO");
    assert!(matches!(framer.next(), Step::Chunk(_)));
    framer.reject(); // the disk is full
    assert_eq!(told_by(&mut framer, &[b"OP\r\nx", b"\r\nc NOOP\r\n"]), ["c Noop"]);
}

#[test]
fn the_capacity_of_a_long_message_follows_what_came_not_what_was_announced() {
    let mut framer = after_login();
    framer.buffer().extend_from_slice(b"a APPEND x {50000000}\r\n");
    assert!(matches!(framer.next(), Step::Append(_)));
    framer.accept();
    assert_eq!(framer.next(), Step::Continue);
    let mut left: usize = 50_000_000;
    while left > 0 {
        let room = framer.buffer();
        assert!(room.capacity() <= 64 * 1024);
        let fill = (room.capacity() - room.len()).min(left);
        room.resize(room.len() + fill, b'x');
        left -= fill;
        while !matches!(framer.next(), Step::Read) {}
    }
    assert_eq!(told_by(&mut framer, &[b"\r\nb NOOP\r\n"]), ["kept ", "b Noop"]);
    assert!(framer.buffer().capacity() <= 1024);
}

#[test]
fn no_password_is_read() {
    assert_eq!(told_before_login(b"a LOGIN ann {6}\r\n"), ["a Login"]);
    assert_eq!(told_before_login(b"a LOGIN {3}\r\n"), ["a Login"]);
    assert_eq!(told_before_login(b"a LOGIN {3+}\r\nann {6+}\r\nsecret\r\nb NOOP\r\n"), ["a Login", "b Noop"]);
    assert_eq!(told_before_login(b"a login ann secret\r\nb NOOP\r\n"), ["a Login", "b Noop"]);
    // Not even as the first word of what looks like a command.
    for stray in ["secret\r\n", "secret word\r\n", "\u{e9}crit word\r\n"] {
        let answers = told_before_login(stray.as_bytes()).join(" ");
        assert!(answers.contains("BAD"), "{answers}");
    }
    for line in [b"a LOGIN ann {6}\r\n".as_slice(), b"a AUTHENTICATE PLAIN {6}\r\n"] {
        let mut framer = Framer::new(Limits::default());
        let told = told_by(&mut framer, &[line, b"secret word\r\n", b"b NOOP\r\n", b"c FROB\r\n"]);
        assert_eq!(told[1..], ["* BAD Unknown command|", "b Noop", "c BAD Unknown command|"], "{line:?}");
    }
    assert_eq!(told_before_login(b"secret\r\n"), ["* BAD A command is a tag, a space and a verb|"]);
    assert_eq!(
        told_before_login(b"a LOGIN ann {6}\r\nsecret here\r\n"),
        ["a Login", "* BYE [CLIENTBUG] A literal was sent before it was asked for|"]
    );
}

#[test]
fn before_login_only_id_may_have_a_literal() {
    assert_eq!(told_before_login(b"a ID ({4+}\r\nname {1+}\r\nx)\r\n"), ["a Id"]);
    let many = format!("a ID (\"n\"{})\r\nb NOOP\r\n", format!(" {{1000+}}\r\n{}", "x".repeat(1000)).repeat(33));
    let told = told_before_login(many.as_bytes());
    assert_eq!(told, ["a NO [TOOBIG] The literal is too large|", "b Noop"], "a stranger gets no megabyte");
    for line in ["a SELECT {5}\r\n", "a AUTHENTICATE {7}\r\n", "a AUTHENTICATE PLAIN {9}\r\n", "a ID ({1025}\r\n"] {
        let told = told_before_login(line.as_bytes());
        assert_eq!(told.len(), 1, "{line}");
        assert!(told[0].starts_with("a BAD ") || told[0].starts_with("a NO [TOOBIG]"), "{told:?}");
    }
}

#[test]
fn a_literal_that_was_announced_is_never_read_as_commands() {
    let cases: [(&[u8], &[&str]); 6] = [
        (b"a FROB {8+}\r\nb NOOP\r\n\r\nc NOOP\r\n", &["a BAD Unknown command|", "c Noop"]),
        (b"a FROB {0000000008+}\r\nb NOOP\r\n\r\nc NOOP\r\n", &["a BAD Unknown command|", "c Noop"]),
        (b"+ NOOP {8+}\r\nb NOOP\r\n\r\nc NOOP\r\n", &["* BAD A command is a tag, a space and a verb|", "c Noop"]),
        (
            b"a NOOP {000000000000000000000000008+}\r\nb NOOP\r\n\r\nc NOOP\r\n",
            &[
                "a BAD [TOOBIG] Literals over 4096 bytes must wait for +|* BYE [TOOBIG] Literals over 4096 bytes must \
               wait for +|",
            ],
        ),
        (
            b"a SELECT {70000}\r\nb NOOP\r\n",
            &[
                "a NO [TOOBIG] The literal is too large|",
                "* BYE [CLIENTBUG] A literal was sent before it was asked for|",
            ],
        ),
        (
            b"a SELECT {5}\r\nINBOX {3+}\r\nabc\r\nc NOOP\r\n",
            &["+", "a BAD Something follows the command's arguments|", "c Noop"],
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(told(bytes), expected, "{}", String::from_utf8_lossy(bytes));
    }
    let too_long = [b"a SEARCH TEXT {4097+}\r\n".as_slice(), &b"x".repeat(4097), b"\r\nc NOOP\r\n"].concat();
    assert_eq!(told(&too_long), ["a BAD [TOOBIG] Literals over 4096 bytes must wait for +|", "c Noop"]);
    let fits = [b"a SEARCH TEXT {4096+}\r\n".as_slice(), &b"x".repeat(4096), b"\r\nc NOOP\r\n"].concat();
    assert_eq!(told(&fits), ["a Search", "c Noop"]);
}

#[test]
fn each_limit_holds_at_it_and_one_past_it() {
    let line = |length: usize| {
        let mut line = b"a SEARCH TEXT ".to_vec();
        line.resize(length - 2, b'x');
        line.extend_from_slice(b"\r\nc NOOP\r\n");
        line
    };
    assert_eq!(told(&line(65_536)), ["a Search", "c Noop"]);
    assert_eq!(told(&line(65_537)), ["a NO [TOOBIG] Command too long|", "c Noop"]);
    assert_eq!(told_before_login(&line(32_768)), ["a Search", "c Noop"]);
    assert_eq!(told_before_login(&line(32_769)), ["a NO [TOOBIG] Command too long|", "c Noop"]);

    let literal = |length: usize| {
        [format!("a SEARCH TEXT {{{length}}}\r\n").into_bytes(), vec![b'x'; length], b"\r\nc NOOP\r\n".to_vec()]
            .concat()
    };
    assert_eq!(told(&literal(65_536)), ["+", "a Search", "c Noop"]);
    assert_eq!(told(&literal(65_537))[0], "a NO [TOOBIG] The literal is too large|");

    let many = |count: usize| {
        let mut command = b"a SEARCH".to_vec();
        for _ in 0..count {
            command.extend_from_slice(b" TEXT {1+}\r\nx");
        }
        command.extend_from_slice(b"\r\nc NOOP\r\n");
        command
    };
    assert_eq!(told(&many(1000)), ["a Search", "c Noop"]);
    assert_eq!(told(&many(1001)), ["a NO [LIMIT] Too many literals in one command|", "c Noop"]);

    let sum = |count: usize| {
        let mut command = b"a SEARCH".to_vec();
        for _ in 0..count {
            command.extend_from_slice(b" TEXT {65000}\r\n");
            command.resize(command.len() + 65_000, b'x');
        }
        command.extend_from_slice(b"\r\n");
        command
    };
    assert_eq!(told(&sum(16)).last().unwrap(), "a Search");
    assert!(told(&sum(17)).contains(&"a NO [TOOBIG] The literal is too large|".to_owned()));
}

#[test]
fn a_line_without_an_end_is_dropped_and_then_ends_the_dialog() {
    let mut framer = after_login();
    let mut said = Vec::new();
    for _ in 0..2_000 {
        said.extend(told_by(&mut framer, &[&[b'x'; 1_000]]));
        assert!(framer.buffer().capacity() < 256 * 1024);
        if said.len() == 2 {
            break;
        }
    }
    assert_eq!(said, ["* BAD [TOOBIG] Command too long|", "* BYE [TOOBIG] The refused command does not end|"]);
}

#[test]
fn raw_lines_come_one_by_one_and_are_bounded() {
    let mut framer = after_login();
    framer.buffer().extend_from_slice(b"a IDLE\r\nDONE\r\nb NO");
    assert!(matches!(framer.next(), Step::Command(Tagged { command: Command::Idle, .. })));
    let Line::Text(text) = framer.next_line() else { panic!("no line") };
    assert_eq!(text.reveal(), "DONE");
    assert_eq!(framer.next_line(), Line::Read);
    assert_eq!(told_by(&mut framer, &[b"OP\r\n"]), ["b Noop"]);
    framer.buffer().extend_from_slice(&[b'x'; 65_537]);
    let Line::Bad(bad) = framer.next_line() else { panic!("no end") };
    assert!(bad.fatal && bad.status == Status::Bye);
}

#[test]
fn an_idle_connection_holds_little() {
    let mut framer = after_login();
    framer.buffer().extend_from_slice(&[b"a SEARCH TEXT ".as_slice(), &[b'x'; 60_000], b"\r\nb IDLE\r\n"].concat());
    while !matches!(framer.next(), Step::Read) {}
    assert!(framer.buffer().capacity() <= 1024, "{}", framer.buffer().capacity());
    assert!(size_of::<Framer>() <= 512, "{}", size_of::<Framer>());
}

proptest! {
    #[test]
    fn no_bytes_upset_the_framer(
        pieces in proptest::collection::vec(piece(), 0..40),
        signed_in in any::<bool>(),
        verdicts in proptest::collection::vec(any::<bool>(), 8),
    ) {
        let mut framer = Framer::new(Limits { dropped: 4096, ..Limits::default() });
        if signed_in {
            framer.signed_in();
        }
        let mut verdicts = verdicts.into_iter().cycle();
        'all: for piece in &pieces {
            framer.buffer().extend_from_slice(piece);
            // Each step but a Continue uses up a byte at least.
            for round in 0.. {
                prop_assert!(round < 4096, "it never ends");
                match framer.next() {
                    Step::Read => break,
                    Step::Append(_) | Step::NextMessage(_) if verdicts.next() == Some(true) => framer.accept(),
                    Step::Append(_) | Step::NextMessage(_) => framer.reject(),
                    Step::Bad(bad) if bad.fatal => break 'all,
                    _ => {}
                }
            }
            prop_assert!(framer.buffer().capacity() <= 128 * 1024);
        }
    }

    #[test]
    fn a_cut_changes_nothing(pieces in proptest::collection::vec(patient(), 0..20), cuts in proptest::collection::vec(1usize..40, 1..40)) {
        let bytes = pieces.concat();
        let whole = told(&bytes);
        let mut rest = bytes.as_slice();
        let mut cut: Vec<&[u8]> = Vec::new();
        for length in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at((*length).min(rest.len()));
            cut.push(head);
            rest = tail;
        }
        prop_assert_eq!(told_by(&mut after_login(), &cut), whole);
    }
}

/// Only literals that are not asked for: whether a peer waited to be asked is a matter of time.
fn patient() -> impl Strategy<Value = Vec<u8>> {
    piece().prop_map(|piece| if piece == b"{3}\r\n" || piece == b"}" { b"{3+}\r\n".to_vec() } else { piece })
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "a NOOP\r\n",
        "a ",
        "b SELECT ",
        "c APPEND INBOX ",
        "{3}\r\n",
        "{3+}\r\n",
        "~{2+}\r\n",
        " UTF8 (~{2+}\r\n",
        "REPLACE 1 ",
        "{5000+}\r\n",
        "\r\n",
        "\n",
        "\r",
        "abc",
        "INBOX",
        "(\\Seen)",
        "\"q\"",
        "d LOGIN ann ",
        "e AUTHENTICATE PLAIN ",
        "f ID (",
        ")",
        "UID ",
        "SEARCH ",
        "OR ",
        "NOT ",
        "(",
        "TEXT ",
        "FETCH 1:* ",
        "BODY[",
        "]",
        "<0.1>",
        "1,2:*",
        "\0",
        "{",
        "}",
        "+",
        "99999999999999999999",
        "STORE 1 ",
        "+FLAGS ",
        "LIST ",
        "\"\" ",
        "* ",
        "RETURN (",
        "STATUS ",
        "é",
    ]);
    prop_oneof![
        8 => words.prop_map(|word| word.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => (1usize..3000).prop_map(|n| vec![b'x'; n]),
    ]
}
