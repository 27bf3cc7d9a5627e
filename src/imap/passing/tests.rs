#![allow(clippy::unwrap_used, clippy::panic)]
use proptest::prelude::*;

use super::*;
use crate::imap::write::Status;

/// What became of what a peer sent.
#[derive(Debug, Default, PartialEq)]
struct Course {
    /// What the server got.
    on: String,
    /// What was noted, asked and answered, in order.
    steps: Vec<String>,
}

/// Sends `chunks` one after the other; the server answers each wait with the next of `answers`: `+` or a tag.
fn course(commands: &mut Commands, chunks: &[&[u8]], answers: &[&str]) -> Course {
    let (mut input, mut on, mut course) = (BytesMut::new(), BytesMut::new(), Course::default());
    let mut answers = answers.iter();
    for chunk in chunks {
        input.extend_from_slice(chunk);
        loop {
            let step = commands.next(&mut input, &mut on);
            course.on.push_str(&String::from_utf8_lossy(&on.split()));
            match step {
                Step::Read => break,
                Step::Wait => {
                    let Some(answer) = answers.next() else { break };
                    let said = if *answer == "+" { Said::GoOn } else { Said::Done(answer.as_bytes()) };
                    if commands.awaits_go_on() && said == Said::GoOn {
                        course.steps.push("swallowed".into());
                    }
                    commands.heard(said, &input);
                }
                Step::Began(word) => course.steps.push(word.into()),
                Step::Own(tagged) => course.steps.push(format!("own {} {}", tagged.tag, tagged.command.word())),
                Step::Continue => course.steps.push("+".into()),
                Step::Refused(bad) => {
                    let tag = bad.tag.clone().unwrap_or_else(|| "*".into());
                    let status = match bad.status {
                        Status::No => "NO",
                        Status::Bad => "BAD",
                        _ => "BYE",
                    };
                    course.steps.push(format!("{tag} {status}"));
                    if bad.fatal {
                        return course;
                    }
                }
            }
        }
    }
    course
}

fn passed(only_reads: bool, sent: &str, answers: &[&str]) -> (String, Vec<String>) {
    let mut commands = Commands::new(only_reads, Limits::default());
    let course = course(&mut commands, &[sent.as_bytes()], answers);
    (course.on, course.steps)
}

#[test]
fn commands_go_on_as_they_came() {
    let sent = "a NOOP\r\nb uid fetch 1:* (FLAGS)\r\nc APPEND x {5+}\r\nab\r\nc\r\nd APPEND x {3}\r\n\r\n\0 (\\Seen) {0+}\r\n\r\n\
                e IDLE\r\ndone\r\nf XWHAT 1\r\ng LOGOUT\r\n";
    let (on, steps) = passed(false, sent, &["+", "+", "+", "+"]);
    // Every literal waits for the server's word; where the peer does not, that word is for us alone.
    assert_eq!(on, sent.replace("done", "DONE").replace("+}", "}"));
    let seen = "NOOP,UID FETCH,APPEND,swallowed,APPEND,swallowed,IDLE,(other),LOGOUT";
    assert_eq!(steps.join(","), seen);
}

#[test]
fn nothing_is_owed_to_a_command_that_the_peer_has_not_ended() {
    for (sent, answers, owed) in [
        ("a FETCH 1 (BODY", &[][..], false),
        ("a APPEND x {1000}\r\nhalf of it", &["+"], false),
        ("a APPEND x {1000}\r\n", &[], true),
        ("a IDLE\r\n", &[], true),
        ("a IDLE\r\n", &["+"], false),
        ("a IDLE\r\nDONE\r\n", &["+"], true),
        ("a NOOP\r\nb FETCH 1 (BODY", &[], true),
        ("a NOOP\r\n", &[], true),
    ] {
        let mut commands = Commands::new(false, Limits::default());
        course(&mut commands, &[sent.as_bytes()], answers);
        assert_eq!(commands.is_owed(), owed, "{sent:?}");
    }
    // The server may have ended it already: IDLE, or an APPEND that it does not want.
    for (sent, answers) in [("a IDLE\r\n", &["+"][..]), ("a APPEND x {1000}\r\nhalf", &["+"])] {
        let mut commands = Commands::new(false, Limits::default());
        course(&mut commands, &[sent.as_bytes()], answers);
        commands.heard(Said::Done(b"a"), &BytesMut::new());
        assert!(!commands.is_owed(), "{sent:?}");
    }
}

#[test]
fn a_large_message_that_the_server_does_not_want_is_no_fault_of_the_peer() {
    let limits = || Limits { append: 1000, dropped: 1000, ..Limits::default() };
    let message = "x".repeat(5000);
    let sent = format!("a APPEND x {{5000+}}\r\n{message}\r\nb NOOP\r\n");
    let mut commands = Commands::new(false, limits());
    let told = course(&mut commands, &[sent.as_bytes()], &["a"]);
    assert_eq!(
        (told.on.as_str(), told.steps.join(",").as_str()),
        ("a APPEND x {5000}\r\nb NOOP\r\n", "APPEND,NOOP")
    );
    // One that we refuse is.
    let told = course(&mut Commands::new(true, limits()), &[sent.as_bytes()], &[]);
    assert_eq!((told.on.as_str(), told.steps.join(",").as_str()), ("", "a NO,* BYE"));
}

#[test]
fn a_command_of_ours_that_is_too_long_is_refused_alone() {
    let (head, text) = ("b ID (\"name\" {3}\r\n", format!("abc \"{}", "x".repeat(MAX_OWN)));
    let mut commands = Commands::new(false, Limits::default());
    let chunks = [head, &text, "\r\nc NOOP\r\n"].map(str::as_bytes);
    let told = course(&mut commands, &chunks, &[]);
    assert_eq!((told.on.as_str(), told.steps.join(",").as_str()), ("c NOOP\r\n", "+,b NO,NOOP"));
}

#[test]
fn no_command_leaves_the_sign_in() {
    for verb in [
        "UNAUTHENTICATE",
        "login ann pw",
        "AUTHENTICATE PLAIN",
        "STARTTLS",
        "PROXYAUTH bob",
        "XPROXYAUTH b",
        "XUNAUTHENTICATE",
    ] {
        let (on, steps) = passed(false, &format!("a {verb}\r\nb NOOP\r\n"), &[]);
        assert_eq!((on.as_str(), steps.join(",").as_str()), ("b NOOP\r\n", "a BAD,NOOP"), "{verb}");
    }
}

#[test]
fn a_command_cannot_hide_from_us() {
    for (sent, on, steps) in [
        // Dovecot takes a bare LF for the end of a line.
        ("a NOOP\nb UNAUTHENTICATE\r\n", "", "NOOP,* BYE"),
        ("a NOOP\rb UNAUTHENTICATE\r\n", "", "NOOP,* BYE"),
        ("a NOOP \n{3+}\r\n", "", "NOOP,* BYE"),
        ("a APPEND x { 3}\r\n", "", "APPEND,* BYE"),
        ("a APPEND x {3 +}\r\n", "", "APPEND,* BYE"),
        ("a APPEND x {9999999999999999999999+}\r\n", "", "APPEND,* BYE"),
        ("a APPEND x {3+} \t\r\n", "", "APPEND,* BYE"),
        ("a APPEND x {3}                                            \r\n", "", "APPEND,* BYE"),
        (
            "a APPEND x {3 \t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t}\r\n",
            "",
            "APPEND,* BYE",
        ),
        // A tag too long to be looked at, and lines without one.
        ("\r\n", "", "* BAD"),
        (" a NOOP\r\n", "", "* BAD"),
        ("a  NOOP\r\n", "", "* BAD"),
        // Not a tag to every server: its answer would bear none.
        ("a] NOOP\r\n", "", "* BAD"),
        // Not a literal at all: an atom may end with a brace.
        ("a SEARCH KEYWORD x}\r\n", "a SEARCH KEYWORD x}\r\n", "SEARCH"),
        // Dovecot says `+` to it, whatever follows the verb.
        ("a IDLE {100}\r\n", "", "a BAD"),
        ("a IDLE x\r\n", "", "a BAD"),
        // The answer to the first would be taken for that to the second.
        ("a NOOP\r\na APPEND x {18}\r\n", "a NOOP\r\n", "NOOP,a BAD"),
        ("a NOOP\r\na IDLE\r\n", "a NOOP\r\n", "NOOP,a BAD"),
    ] {
        let course = passed(false, sent, &[]);
        assert_eq!((course.0.as_str(), course.1.join(",").as_str()), (on, steps), "{sent:?}");
    }
    let long = format!("{} UNAUTHENTICATE\r\n", "t".repeat(400));
    assert_eq!(passed(false, &long, &[]), (String::new(), vec!["* BAD".to_owned()]));
    let long = format!("a LIST \"\" {}\r\n", "x".repeat(70_000));
    let (_, steps) = passed(false, &long, &[]);
    assert_eq!(steps, ["LIST", "* BYE"]);
}

#[test]
fn a_literal_that_the_server_makes_nothing_of_goes_nowhere() {
    // Dovecot skips the rest of a line that it does not understand, but not a literal behind it: it would take these for
    // commands. It answers the line, and what the peer has sent is dropped.
    for line in
        ["a NOOP {19+}", "a FETCH 1 \"x {19+}", "a NOOP{19+}", "a XFOO {19+}", "a APPEND x ~{19+}", "a NOOP {{19+}"]
    {
        let sent = format!("{line}\r\nb CREATE smuggled\r\n\r\nc NOOP\r\n");
        let (on, steps) = passed(false, &sent, &["a"]);
        let seen = format!("{}\r\nc NOOP\r\n", line.replace("+}", "}"));
        assert_eq!(on, seen, "{line}");
        assert_eq!(steps.last().unwrap(), "NOOP", "{line}");
    }
}

#[test]
fn a_refused_literal_is_never_read_as_commands() {
    // The server says no to the literal: the peer's next line is a command.
    let mut commands = Commands::new(false, Limits::default());
    let course = course(&mut commands, &[b"a APPEND x {30}\r\n", b"b NOOP\r\n"], &["a"]);
    assert_eq!(course.steps, ["APPEND", "NOOP"]);
    // The peer did not wait: what it sent cannot be told from commands.
    let (on, steps) = passed(false, "a APPEND x {16}\r\nb UNAUTHENTICATE\r\n", &["a"]);
    assert_eq!((on.as_str(), steps.join(",").as_str()), ("a APPEND x {16}\r\n", "APPEND,* BYE"));
    // `+` for IDLE is none for the literal behind it.
    let (on, _) = passed(false, "a IDLE\r\nDONE\r\nb APPEND x {18}\r\nc UNAUTHENTICATE\r\n", &["+", "b"]);
    assert_eq!(on, "a IDLE\r\nDONE\r\nb APPEND x {18}\r\n");
}

#[test]
fn an_idle_that_the_server_ends_takes_no_more_words() {
    let mut commands = Commands::new(false, Limits::default());
    let (mut input, mut on) = (BytesMut::from(&b"a IDLE\r\n"[..]), BytesMut::new());
    assert_eq!(commands.next(&mut input, &mut on), Step::Began("IDLE"));
    commands.heard(Said::GoOn, &input);
    assert!(!commands.is_owed(), "a server that lets somebody idle owes nothing");
    commands.heard(Said::Done(b"a"), &input);
    input.extend_from_slice(b"DONE\r\nb NOOP\r\n");
    while commands.next(&mut input, &mut on) != Step::Read {}
    assert_eq!(on, &b"a IDLE\r\nb NOOP\r\n"[..]);
    assert!(commands.is_owed());
}

#[test]
fn so_many_commands_wait_for_their_answers_and_no_more() {
    let mut commands = Commands::new(false, Limits::default());
    let many: String = (0..MAX_WAITING + 10).map(|n| format!("t{n} NOOP\r\n")).collect();
    let (mut input, mut on) = (BytesMut::from(many.as_bytes()), BytesMut::new());
    let begun =
        std::iter::from_fn(|| (commands.next(&mut input, &mut on) == Step::Began("NOOP")).then_some(())).count();
    assert_eq!(begun, MAX_WAITING);
    commands.heard(Said::Done(b"t7"), &input);
    assert_eq!(commands.next(&mut input, &mut on), Step::Began("NOOP"));
}

#[test]
fn whoever_may_only_read_changes_nothing() {
    for (sent, on, steps) in [
        ("a SELECT INBOX\r\n", "a EXAMINE INBOX\r\n", "SELECT"),
        ("a select {5+}\r\nINBOX (CONDSTORE)\r\n", "a EXAMINE {5}\r\nINBOX (CONDSTORE)\r\n", "SELECT,swallowed"),
        ("a FETCH 1 BODY[]\r\n", "a FETCH 1 BODY[]\r\n", "FETCH"),
        ("a STORE 1 +FLAGS (\\Seen)\r\nb NOOP\r\n", "b NOOP\r\n", "a NO,NOOP"),
        ("a UID STORE 1 +FLAGS (\\Seen)\r\n", "", "a NO"),
        ("a uid expunge 1\r\n", "", "a NO"),
        ("a UID XNEW 1\r\n", "", "a NO"),
        ("a XNEW\r\n", "", "a NO"),
        ("a APPEND x {12+}\r\nb EXPUNGE\r\n\0\r\nc NOOP\r\n", "c NOOP\r\n", "a NO,NOOP"),
        ("a APPEND x {3+}\r\nabc (x) {2+}\r\nde\r\nc NOOP\r\n", "c NOOP\r\n", "a NO,NOOP"),
        ("a CREATE {300}\r\n", "", "a NO"),
    ] {
        let course = passed(true, sent, &["+"]);
        assert_eq!((course.0.as_str(), course.1.join(",").as_str()), (on, steps), "{sent:?}");
    }
}

#[test]
fn some_commands_are_answered_here() {
    let (on, steps) = passed(
        false,
        "a CAPABILITY\r\nb ID (\"name\" {3}\r\nabc \"x-originating-ip\" \"192.0.2.1\")\r\nc COMPRESS DEFLATE\r\nd ID\r\ne NOOP\r\n",
        &[],
    );
    assert_eq!(on, "e NOOP\r\n");
    assert_eq!(steps, ["own a CAPABILITY", "+", "own b ID", "own c COMPRESS", "d BAD", "NOOP"]);
    let mut commands = Commands::new(false, Limits::default());
    let course = course(&mut commands, &[b"a ID (\"name\" {9000}\r\n", b"b NOOP\r\n"], &[]);
    assert_eq!((course.on.as_str(), course.steps.join(",").as_str()), ("b NOOP\r\n", "a NO,NOOP"));
}

#[test]
fn a_dialog_means_the_same_wherever_tcp_cuts_it() {
    let sent: &[u8] = b"a SELECT INBOX\r\nb UID  FETCH 1 X\r\nc UID STORE 1 x\r\nd APPEND x {4+}\r\n\r\n\r\n\r\ne LOGIN {3+}\r\na\r\n b\r\n\
        f CAPABILITY\r\ng IDLE\r\nDONE\r\nh ID (\"a\" {1+}\r\nb \"c\" \"d\" \"e\")\r\ni LOGOUT\r\n";
    for only_reads in [false, true] {
        let run = |chunks: &[&[u8]]| {
            course(&mut Commands::new(only_reads, Limits::default()), chunks, &["+", "+", "+", "+"])
        };
        let whole = run(&[sent]);
        for cut in 0..sent.len() {
            let (head, tail) = sent.split_at(cut);
            assert_eq!(run(&[head, tail]), whole, "cut at byte {cut}");
        }
        let single: Vec<&[u8]> = sent.chunks(1).collect();
        assert_eq!(run(&single), whole, "byte by byte");
    }
}

proptest! {
    /// Whatever is sent, in whatever pieces: what goes on to the server begins no line with a verb that signs in.
    #[test]
    fn nothing_that_signs_in_goes_on(
        chunks in proptest::collection::vec("(a |b |UNAUTHENTICATE|NOOP|IDLE|DONE|\r\n|\n|\r|\\{3\\}|\\{5\\+\\}|UID |APPEND|x| ){0,12}", 0..6),
        yes in any::<bool>(),
    ) {
        let mut commands = Commands::new(false, Limits::default());
        let chunks: Vec<&[u8]> = chunks.iter().map(String::as_bytes).collect();
        let answer = if yes { "+" } else { "a" };
        let course = course(&mut commands, &chunks, &[answer; 40]);
        if !yes {
            // The last word of a line that has not ended may go on in what is held back.
            let (ended, begun) = course.on.rsplit_once(['\r', '\n']).unwrap_or(("", &course.on));
            let begun = begun.rsplit_once(' ').map_or("", |(whole, _)| whole);
            for line in ended.split(['\r', '\n']).chain([begun]) {
                let second = line.split(' ').nth(1);
                prop_assert!(second != Some("UNAUTHENTICATE"), "{:?}", course.on);
            }
        }
    }
}
