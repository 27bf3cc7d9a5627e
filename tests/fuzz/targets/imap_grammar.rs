//! The command grammar after login: whatever a command means can be written down again and means the same.
//!
//! Input: one byte that chooses a verb (or none), then arguments; literals need `+`.

use bytes::BytesMut;
use portcullis::imap::{
    command::{Command, FetchItem, List, SearchKey, Section, SequenceSet, Sort, Tagged, Thread},
    frame::{Framer, Limits, Step},
    mailbox::{MailboxName, Names, Pattern},
    mutf7,
    set::{self, MessageSet},
    write,
};

const VERBS: [&str; 24] = [
    "",
    "LIST ",
    "STATUS ",
    "CREATE ",
    "SEARCH ",
    "FETCH ",
    "STORE ",
    "COPY ",
    "MOVE ",
    "UID ",
    "APPEND ",
    "ID ",
    "ENABLE ",
    "SELECT ",
    "RENAME ",
    "LSUB ",
    "AUTHENTICATE ",
    "UID FETCH ",
    "UID SEARCH ",
    "UID STORE ",
    "SEARCH CHARSET ",
    "SEARCH RETURN ",
    "SORT ",
    "THREAD ",
];

pub fn run(data: &[u8]) {
    let Some((choice, arguments)) = data.split_first() else { return };
    let verb = VERBS[usize::from(*choice) % VERBS.len()];
    let line = [b"t ", verb.as_bytes(), arguments, b"\r\n"].concat();
    for step in steps(&line) {
        match step {
            Step::Command(Tagged { tag, command }) => {
                assert!(!tag.is_empty() && tag.len() <= 256 && tag.bytes().all(|b| b.is_ascii_graphic()));
                check(&command);
            }
            Step::Append(head) => {
                name(&head.mailbox);
                head.message.flags.iter().for_each(|flag| word(&flag.to_string()));
                assert!(head.message.size <= Limits::default().append);
            }
            Step::Bad(bad) => super::imap_frame::check_answer(&bad),
            _ => {}
        }
    }
}

fn steps(bytes: &[u8]) -> Vec<Step> {
    let mut framer = Framer::new(Limits::default());
    framer.signed_in();
    framer.buffer().extend_from_slice(bytes);
    let mut steps = Vec::new();
    loop {
        match framer.next() {
            Step::Read => return steps,
            Step::Append(head) => {
                steps.push(Step::Append(head));
                framer.reject();
            }
            Step::Bad(bad) if bad.fatal => {
                steps.push(Step::Bad(bad));
                return steps;
            }
            step => steps.push(step),
        }
    }
}

/// The one command that these bytes are.
fn again(bytes: &[u8]) -> Command {
    match steps(bytes).pop() {
        Some(Step::Command(tagged)) => tagged.command,
        other => panic!("{:?} is no command any more: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

fn check(command: &Command) {
    match command {
        Command::Id(pairs) => {
            assert!(pairs.len() <= 30);
            let texts = pairs.iter().flat_map(|(name, value)| [Some(name), value.as_ref()]).flatten();
            texts.for_each(|text| assert!(text.chars().count() <= 256 && !text.contains(char::is_control)));
        }
        Command::Enable(words) => words.iter().for_each(|it| word(it)),
        Command::Authenticate { mechanism, .. } => word(mechanism),
        Command::Select { mailbox, .. }
        | Command::Create { mailbox, .. }
        | Command::Delete(mailbox)
        | Command::Subscribe(mailbox)
        | Command::Unsubscribe(mailbox)
        | Command::Status { mailbox, .. } => name(mailbox),
        Command::Rename { from, to } => {
            name(from);
            name(to);
        }
        Command::List(List { patterns, .. }) => patterns.iter().for_each(pattern),
        Command::Lsub(it) => pattern(it),
        Command::Search(it) => search(&it.key),
        Command::Sort(Sort { search: it, by }) => {
            assert!(!by.is_empty() && by.len() <= 9);
            search(&it.key);
        }
        Command::Thread(Thread { search: it, .. }) => search(&it.key),
        Command::Fetch { set, items, .. } => {
            messages(set);
            assert!(!items.is_empty() && items.len() <= 200);
            for item in items {
                if let FetchItem::Section { section, partial, .. } = item {
                    assert!(partial.is_none_or(|(_, most)| most > 0));
                    rewritten(section);
                }
            }
        }
        Command::Store { set, flags, .. } => {
            messages(set);
            flags.iter().for_each(|flag| word(&flag.to_string()));
        }
        Command::Copy { set, mailbox, .. } | Command::Move { set, mailbox, .. } => {
            messages(set);
            name(mailbox);
        }
        Command::Expunge(Some(set)) => messages(set),
        _ => {}
    }
}

/// What goes back to the peer as a word must be one.
fn word(text: &str) {
    assert!(!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()), "{text:?}");
}

fn name(mailbox: &MailboxName) {
    assert_eq!(MailboxName::decode(mutf7::encode(mailbox.as_str()).as_bytes()).as_ref(), Ok(mailbox));
    let mut out = BytesMut::from(&b"t CREATE "[..]);
    write::mailbox(&mut out, mailbox.as_str(), Names::Mutf7);
    out.extend_from_slice(b"\r\n");
    // A long name is a literal, which the framer asks for.
    assert_eq!(again(&out), Command::Create { mailbox: mailbox.clone(), uses: Vec::new() });
    assert!(mailbox.ancestors().count() < MailboxName::MAX_DEPTH);
    assert!(Pattern::new("", "*").matches(mailbox.as_str()));
    assert!(!mailbox.as_str().contains(['\0', '\r', '\n']));
    let levels: Vec<&str> = mailbox.as_str().split('/').collect();
    assert!(levels.iter().all(|level| !["", ".", ".."].contains(level)));
    // A name without wildcards is a pattern that it fits.
    if !mailbox.as_str().contains(['*', '%']) {
        assert!(Pattern::new("", mailbox.as_str()).matches(mailbox.as_str()));
    }
}

fn pattern(pattern: &Pattern) {
    assert_eq!(&Pattern::new("", pattern.as_str()), pattern);
    for name in ["INBOX", "INBOX/a", "a", "a/b", "Entw\u{fc}rfe", "a b/c%d/*"] {
        let _ = pattern.matches(name);
    }
}

fn messages(set: &MessageSet) {
    if let MessageSet::Named(set) = set {
        sequence(set);
    }
}

fn sequence(messages: &SequenceSet) {
    for count in [0, 1, 7, 1000, u32::MAX] {
        let clipped = set::clipped(messages, count);
        assert!(clipped.last().is_none_or(|last| last <= count));
        if let Ok(numbers) = set::numbers(messages, count) {
            assert!(numbers.last().is_none_or(|last| last <= count));
        }
        let by_uid = set::uids_to_numbers(messages, count, |number| number);
        assert!(by_uid.last().is_none_or(|last| last <= count));
    }
    let ranges = set::uids(messages, None);
    if ranges.is_empty() {
        return;
    }
    let Command::Fetch { set: MessageSet::Named(written), .. } =
        again(format!("t UID FETCH {ranges} UID\r\n").as_bytes())
    else {
        panic!("a set is a set");
    };
    assert_eq!(set::uids(&written, None), ranges);
    for number in [1, 2, 7, 1000, u32::MAX] {
        let inside = ranges.iter().any(|(low, high)| (low..=high).contains(&number));
        assert_eq!(ranges.contains(number), inside);
    }
}

fn rewritten(section: &Section) {
    let mut item = BytesMut::new();
    let mut line = write::FetchLine::start(&mut item, 1);
    line.section(&mut item, section, None);
    line.end(&mut item);
    let item = item.strip_prefix(b"* 1 FETCH (").and_then(|it| it.strip_suffix(b" )\r\n")).expect("one item");
    let command = again(&[b"t FETCH 1 ", item, b"\r\n"].concat());
    let Command::Fetch { items, .. } = command else { panic!("FETCH is FETCH") };
    assert!(matches!(&items[..], [FetchItem::Section { section: same, .. }] if same == section), "{items:?}");
}

fn search(key: &SearchKey) {
    match key {
        SearchKey::And(keys) => {
            assert!(!keys.is_empty() && keys.len() <= 1001);
            keys.iter().for_each(search);
        }
        SearchKey::Or(one, other) => {
            search(one);
            search(other);
        }
        SearchKey::Not(key) => search(key),
        SearchKey::Numbers(set) | SearchKey::Uids(set) => sequence(set),
        SearchKey::Flag(flag) => word(&flag.to_string()),
        _ => {}
    }
}
