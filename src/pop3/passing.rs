//! A signed-in POP3 session with another server, followed as its bytes are passed on, in both directions: POP3 answers in
//! the order of the questions, and only the question tells whether an answer has one line or many (RFC 1939 section 3). So
//! each command is looked at; those that do not belong behind a sign-in, that nobody knows, or that change mail which may
//! only be read are answered here, in their turn. Called by `session::relay`. No I/O.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::reply;

/// Longest command line, CRLF included, in bytes (RFC 2449 section 4).
const MAX_LINE: usize = 255;
/// A line may be longer than that by this factor before it is no line any more.
const PATIENCE: usize = 256;
/// Most questions that may wait for their answers (RFC 2449 section 6.6, PIPELINING).
const MAX_WAITING: usize = 500;
/// Behind `TOP 1`: more lines than a message has.
const ALL_LINES: &[u8] = b" 2147483647\r\n";
/// The end of an answer of many lines, with the end of the line before it.
const END: &[u8] = b"\r\n.\r\n";

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing more: read, or send what is to go on, then ask again.
    Read,
    /// So many questions wait for answers that no more are taken.
    Wait,
    /// A command, for those who look at live sessions.
    Began(&'static str),
    /// A line that is past all patience: close.
    Endless,
}

/// A relayed POP3 session.
#[derive(Debug)]
pub struct Passing {
    only_reads: bool,
    /// The answer to CAPA.
    capabilities: String,
    /// The server has TOP.
    tops: bool,
    waiting: VecDeque<Question>,
    /// Where the answer to the first of them stands.
    answer: Answer,
    /// Bytes of an overlong line dropped so far.
    dropped: usize,
}

#[derive(Debug)]
enum Question {
    /// One line answers it.
    Line,
    /// Many lines answer it, where it can be answered.
    Lines,
    /// It is answered here.
    Own(Own),
}

#[derive(Clone, Copy, Debug)]
enum Own {
    Capabilities,
    Refusal(&'static str),
}

#[derive(Debug, Default)]
enum Answer {
    /// Nothing of it has come.
    #[default]
    Awaited,
    /// A part of its first line; `good` if that is a `+`.
    First { good: bool },
    /// Lines; so many bytes of their end have come.
    Lines { matched: usize },
}

impl Passing {
    /// For a session that has just signed in; who `only_reads` removes nothing. `capabilities` answers CAPA.
    pub fn new(only_reads: bool, capabilities: String) -> Self {
        let tops = capabilities.lines().any(|line| line.eq_ignore_ascii_case("TOP"));
        Self { only_reads, capabilities, tops, waiting: VecDeque::new(), answer: Answer::Awaited, dropped: 0 }
    }

    /// Moves what may go on from `input` to the end of `on`, until something has to be done.
    pub fn next(&mut self, input: &mut BytesMut, on: &mut BytesMut) -> Step {
        if self.waiting.len() >= MAX_WAITING {
            return Step::Wait;
        }
        let Some(end) = memchr::memchr(b'\n', input).map(|at| at + 1) else {
            if input.len() > MAX_LINE {
                self.dropped = self.dropped.saturating_add(input.len());
                input.clear();
                if self.dropped > MAX_LINE * PATIENCE {
                    return Step::Endless;
                }
            }
            return Step::Read;
        };
        let line = input.split_to(end);
        let too_long = std::mem::take(&mut self.dropped) + end > MAX_LINE;
        // A server may take a bare LF, or a CR alone, for the end of a line: what is behind it would be hidden from us.
        let text = line.strip_suffix(b"\r\n").filter(|text| memchr::memchr2(b'\r', b'\0', text).is_none());
        let (word, question) = match text {
            _ if too_long => ("", Question::Own(Own::Refusal("line too long"))),
            None => ("", Question::Own(Own::Refusal("a line ends with CRLF"))),
            Some(text) => self.question(text),
        };
        match question {
            Question::Own(_) => {}
            // RETR marks the message as seen (Dovecot does, at QUIT); TOP with all its lines does not.
            Question::Lines if self.only_reads && word == "RETR" => {
                on.extend_from_slice(b"TOP");
                on.extend_from_slice(line.get("RETR".len()..end - 2).unwrap_or_default());
                on.extend_from_slice(ALL_LINES);
            }
            Question::Line | Question::Lines => on.extend_from_slice(&line),
        }
        self.waiting.push_back(question);
        Step::Began(word)
    }

    fn question(&self, line: &[u8]) -> (&'static str, Question) {
        let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (verb, rest) = line.split_at_checked(end).unwrap_or_default();
        let bare = rest.trim_ascii().is_empty();
        let own = |text| Question::Own(Own::Refusal(text));
        match verb.to_ascii_uppercase().as_slice() {
            b"STAT" => ("STAT", Question::Line),
            b"LIST" if bare => ("LIST", Question::Lines),
            b"LIST" => ("LIST", Question::Line),
            b"UIDL" if bare => ("UIDL", Question::Lines),
            b"UIDL" => ("UIDL", Question::Line),
            b"RETR" if self.only_reads && !self.tops => {
                ("RETR", own("[SYS/PERM] you may only read this mailbox, and its server has no TOP"))
            }
            b"RETR" => ("RETR", Question::Lines),
            b"TOP" => ("TOP", Question::Lines),
            b"DELE" if self.only_reads => ("DELE", own("[SYS/PERM] you may only read this mailbox")),
            b"DELE" => ("DELE", Question::Line),
            b"NOOP" => ("NOOP", Question::Line),
            b"RSET" => ("RSET", Question::Line),
            b"QUIT" => ("QUIT", Question::Line),
            b"CAPA" => ("CAPA", Question::Own(Own::Capabilities)),
            b"AUTH" | b"USER" | b"PASS" | b"APOP" | b"STLS" | b"XCLIENT" => ("", own("already signed in")),
            _ => ("", own("unknown command")),
        }
    }

    /// Whether everything so far is whole answers.
    pub fn at_boundary(&self) -> bool {
        matches!(self.answer, Answer::Awaited)
    }

    /// Whether the server owes an answer.
    pub fn is_owed(&self) -> bool {
        self.waiting.iter().any(|question| !matches!(question, Question::Own(_)))
    }

    /// Whether an answer that is ours to give comes next.
    pub fn owes(&self) -> bool {
        matches!(self.waiting.front(), Some(Question::Own(_)))
    }

    /// Writes the answers whose turn it is and which are ours to give. Only [`Passing::at_boundary`].
    pub fn answer(&mut self, out: &mut BytesMut) {
        while let Some(Question::Own(own)) = self.waiting.front() {
            match own {
                Own::Capabilities => out.extend_from_slice(self.capabilities.as_bytes()),
                Own::Refusal(text) => reply::err(out, text),
            }
            self.waiting.pop_front();
        }
    }

    /// Follows these bytes of the server up to the end of an answer: how many that are; none if all of them were followed
    /// and the answer is not whole.
    pub fn follow_to_boundary(&mut self, bytes: &[u8]) -> Option<usize> {
        let first = *bytes.first()?;
        match self.answer {
            Answer::Awaited => {
                self.answer = Answer::First { good: first == b'+' };
                self.follow_to_boundary(bytes)
            }
            Answer::First { good } => {
                let end = memchr::memchr(b'\n', bytes)? + 1;
                if good && matches!(self.waiting.front(), Some(Question::Lines)) {
                    // The end of the first line is the beginning of the end, if the list is empty.
                    self.answer = Answer::Lines { matched: 2 };
                    let rest = bytes.get(end..).filter(|rest| !rest.is_empty())?;
                    return self.follow_to_boundary(rest).map(|more| end + more);
                }
                self.done();
                Some(end)
            }
            Answer::Lines { matched } => {
                let end = end_of_lines(bytes, matched);
                match end {
                    Ok(end) => {
                        self.done();
                        Some(end)
                    }
                    Err(matched) => {
                        self.answer = Answer::Lines { matched };
                        None
                    }
                }
            }
        }
    }

    fn done(&mut self) {
        self.answer = Answer::Awaited;
        self.waiting.pop_front();
    }
}

/// Where the end of an answer of many lines is, `matched` bytes of which came before; else how many of its bytes have
/// come by now.
fn end_of_lines(bytes: &[u8], matched: usize) -> Result<usize, usize> {
    // What came before, and as much as can complete it.
    let mut seam = Vec::with_capacity(2 * END.len());
    seam.extend_from_slice(END.get(..matched).unwrap_or_default());
    seam.extend_from_slice(bytes.get(..END.len().min(bytes.len())).unwrap_or_default());
    if let Some(at) = memchr::memmem::find(&seam, END) {
        return Ok(at + END.len() - matched);
    }
    if let Some(at) = memchr::memmem::find(bytes, END) {
        return Ok(at + END.len());
    }
    let last = if bytes.len() < END.len() { seam.as_slice() } else { bytes };
    let longest = (0..END.len()).rev().find(|n| last.ends_with(END.get(..*n).unwrap_or_default()));
    Err(longest.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// What goes on, and which commands were seen.
    fn sent(passing: &mut Passing, chunks: &[&[u8]]) -> (String, Vec<&'static str>, Step) {
        let (mut input, mut on, mut words) = (BytesMut::new(), BytesMut::new(), vec![]);
        for chunk in chunks {
            input.extend_from_slice(chunk);
            loop {
                match passing.next(&mut input, &mut on) {
                    Step::Began(word) => words.push(word),
                    Step::Read => break,
                    step => return (String::from_utf8(on.to_vec()).unwrap(), words, step),
                }
            }
        }
        (String::from_utf8(on.to_vec()).unwrap(), words, Step::Read)
    }

    /// What the peer gets when the server's bytes come cut like this.
    fn heard(passing: &mut Passing, chunks: &[&[u8]]) -> String {
        let mut out = BytesMut::new();
        passing.answer(&mut out);
        for chunk in chunks {
            let mut rest = *chunk;
            while let Some(taken) = passing.follow_to_boundary(rest) {
                out.extend_from_slice(rest.get(..taken).unwrap());
                passing.answer(&mut out);
                rest = rest.get(taken..).unwrap();
            }
            out.extend_from_slice(rest);
        }
        String::from_utf8(out.to_vec()).unwrap()
    }

    const SENT: &[u8] =
        b"STAT\r\nlist\r\nLIST 1\r\nXWHAT\r\nRETR 1\r\nDELE 1\r\nCAPA\r\nUSER ann\r\nUIDL\r\nTOP 1 0\r\nQUIT\r\n";
    const HEARD: &[u8] = b"+OK 1 9\r\n+OK\r\n1 9\r\n.\r\n+OK 1 9\r\n+OK x\r\na: b\r\n\r\n..\r\n.x\r\n.\r\n+OK\r\n+OK\r\n.\r\n-ERR [SYS/TEMP] no\r\n+OK bye\r\n";
    const TOLD: &str = "+OK 1 9\r\n+OK\r\n1 9\r\n.\r\n+OK 1 9\r\n-ERR unknown command\r\n+OK x\r\na: b\r\n\r\n..\r\n.x\r\n.\r\n\
        +OK\r\n+OK capa\r\n.\r\n-ERR already signed in\r\n+OK\r\n.\r\n-ERR [SYS/TEMP] no\r\n+OK bye\r\n";

    fn passing(only_reads: bool) -> Passing {
        Passing::new(only_reads, "+OK capa\r\n.\r\n".into())
    }

    #[test]
    fn answers_come_in_the_order_of_the_questions() {
        let mut one = passing(false);
        let (on, words, _) = sent(&mut one, &[SENT]);
        assert_eq!(on, "STAT\r\nlist\r\nLIST 1\r\nRETR 1\r\nDELE 1\r\nUIDL\r\nTOP 1 0\r\nQUIT\r\n");
        assert_eq!(words.join(" "), "STAT LIST LIST  RETR DELE CAPA  UIDL TOP QUIT");
        assert_eq!(heard(&mut one, &[HEARD]), TOLD);
        assert!(one.at_boundary() && one.waiting.is_empty());
    }

    #[test]
    fn a_dialog_means_the_same_wherever_tcp_cuts_it() {
        for cut in 0..SENT.len() {
            let (head, tail) = SENT.split_at(cut);
            let mut one = passing(false);
            assert_eq!(sent(&mut one, &[head, tail]), sent(&mut passing(false), &[SENT]), "cut at byte {cut}");
        }
        for cut in 0..HEARD.len() {
            let (head, tail) = HEARD.split_at(cut);
            let mut one = passing(false);
            sent(&mut one, &[SENT]);
            assert_eq!(heard(&mut one, &[head, tail]), TOLD, "cut at byte {cut}");
        }
        let mut one = passing(false);
        sent(&mut one, &[SENT]);
        assert_eq!(heard(&mut one, &HEARD.chunks(1).collect::<Vec<_>>()), TOLD, "byte by byte");
    }

    #[test]
    fn whoever_may_only_read_removes_nothing() {
        let (on, ..) = sent(&mut passing(true), &[b"dele 1\r\nDELE 2\r\nRSET\r\nRETR 1\r\n"]);
        assert_eq!(on, "RSET\r\n", "RETR marks messages, and this server has no TOP");
        let mut tops = Passing::new(true, "+OK capa\r\nTOP\r\n.\r\n".into());
        assert_eq!(sent(&mut tops, &[b"retr 12\r\n"]).0, "TOP 12 2147483647\r\n");
        assert_eq!(heard(&mut tops, &[b"+OK\r\na\r\n.\r\n"]), "+OK\r\na\r\n.\r\n");
    }

    #[test]
    fn a_command_cannot_hide_from_us() {
        for hidden in
            [&b"NOOP\nDELE 1\r\n"[..], b"NOOP\rDELE 1\r\n", b"NOOP\0\r\n", b"\r\n", b" DELE 1\r\n", b"STLS\r\n"]
        {
            let mut one = passing(true);
            let (on, ..) = sent(&mut one, &[hidden]);
            assert!(!on.to_ascii_uppercase().contains("DELE"), "{on}");
            assert!(on.is_empty(), "{on}");
        }
        let (on, _, step) = sent(&mut passing(false), &[&[b'x'; MAX_LINE * PATIENCE + 1]]);
        assert_eq!((on.as_str(), step), ("", Step::Endless));
        let long = [&[b'x'; 300][..], b"\r\nNOOP\r\n"].concat();
        assert_eq!(sent(&mut passing(false), &[&long]).0, "NOOP\r\n");
        let long = [&b"TOP 1 "[..], &[b'1'; 300], b"\r\n"].concat();
        assert_eq!(sent(&mut passing(false), &[&long]).0, "");
    }

    #[test]
    fn questions_wait_for_answers_only_so_long() {
        let many = b"NOOP\r\n".repeat(MAX_WAITING + 10);
        let mut one = passing(false);
        let (on, words, step) = sent(&mut one, &[&many]);
        assert_eq!((on.len(), words.len(), step), (6 * MAX_WAITING, MAX_WAITING, Step::Wait));
        heard(&mut one, &[b"+OK\r\n"]);
        assert_eq!(sent(&mut one, &[b"NOOP\r\n"]).0, "NOOP\r\n");
    }

    proptest! {
        #[test]
        fn the_end_of_a_message_is_found_wherever_it_is_cut(
            text in "[.a\r\n]{0,20}", cut in 0usize..26, tail in "[+a]{0,3}",
        ) {
            let stuffed = text.replace("\r\n.", "\r\n..");
            let whole = format!("+OK\r\na{stuffed}\r\n.\r\n{tail}");
            let ends = memchr::memmem::find(whole.as_bytes(), END).unwrap() + END.len();
            let mut one = passing(false);
            sent(&mut one, &[b"RETR 1\r\n"]);
            let cut = cut.min(whole.len());
            let (head, rest) = whole.as_bytes().split_at(cut);
            let found = one.follow_to_boundary(head).or_else(|| one.follow_to_boundary(rest).map(|end| cut + end));
            prop_assert_eq!(found, Some(ends));
        }
    }
}
