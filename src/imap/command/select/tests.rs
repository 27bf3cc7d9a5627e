//! Commands that speak of mod-sequences, as RFC 7162 writes them and as nobody should.
#![allow(clippy::unwrap_used, clippy::panic)]
use proptest::prelude::*;

use super::*;
use crate::imap::{
    command::{FetchItem, SearchKey, SearchLimits, Since, parse},
    mailbox::{MailboxName, Names},
    write::Status,
};

fn command(line: &str) -> Command {
    match parse(format!("a1 {line}\r\n").as_bytes(), SearchLimits::default(), Names::Mutf7) {
        Ok(tagged) => tagged.command,
        Err(bad) => panic!("{line}: {}", bad.text),
    }
}

fn is_bad(line: &str) -> bool {
    let parsed = parse(format!("a1 {line}\r\n").as_bytes(), SearchLimits::default(), Names::Mutf7);
    parsed.is_err_and(|bad| bad.status == Status::Bad && bad.tag.as_deref() == Some("a1"))
}

fn select(read_only: bool, condstore: bool, resync: Option<Resync>) -> Command {
    Command::Select { mailbox: MailboxName::parse("INBOX").unwrap(), read_only, condstore, resync }
}

#[test]
fn select_takes_condstore_and_qresync() {
    let known = |known: Option<Vec<(u32, u32)>>, matches| Resync {
        uid_validity: 67_890_007,
        modseq: 90_060_115_194_045_000,
        known: known.map(Ranges::new),
        matches,
    };
    let pairs =
        || Some((Ranges::new(vec![(5000, 5000), (9990, 9991)]), Ranges::new(vec![(15000, 15000), (29970, 29971)])));
    let cases = [
        ("SELECT INBOX", select(false, false, None)),
        ("examine inbox (condstore)", select(true, true, None)),
        (
            "SELECT INBOX (QRESYNC (67890007 90060115194045000 41:211,541:214))",
            select(false, false, Some(known(Some(vec![(41, 211), (214, 541)]), None))),
        ),
        ("SELECT INBOX (QRESYNC (67890007 90060115194045000))", select(false, false, Some(known(None, None)))),
        (
            "SELECT INBOX (CONDSTORE QRESYNC (67890007 90060115194045000 (5000,9990:9991 15000,29970:29971)))",
            select(false, true, Some(known(None, pairs()))),
        ),
        (
            "EXAMINE INBOX (QRESYNC (67890007 90060115194045000 1 (5000,9990:9991 15000,29970,29971)) CONDSTORE)",
            select(true, true, Some(known(Some(vec![(1, 1)]), pairs()))),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(command(line), expected, "{line}");
    }
    let most = "9223372036854775807";
    assert!(matches!(command(&format!("SELECT a (QRESYNC (1 {most}))")), Command::Select { resync: Some(_), .. }));
    let wrong = [
        "SELECT INBOX ()",
        "SELECT INBOX CONDSTORE",
        "SELECT INBOX (CONDSTORE CONDSTORE)",
        "SELECT INBOX (QRESYNC)",
        "SELECT INBOX (QRESYNC 1 2)",
        "SELECT INBOX (QRESYNC (1))",
        "SELECT INBOX (QRESYNC (0 2))",
        "SELECT INBOX (QRESYNC (1 0))",
        "SELECT INBOX (QRESYNC (1 9223372036854775808))",
        "SELECT INBOX (QRESYNC (1 18446744073709551616))",
        "SELECT INBOX (QRESYNC (4294967296 2))",
        "SELECT INBOX (QRESYNC (1 2 *))",
        "SELECT INBOX (QRESYNC (1 2 1:*))",
        "SELECT INBOX (QRESYNC (1 2 0))",
        "SELECT INBOX (QRESYNC (1 2 1 (1 *)))",
        "SELECT INBOX (QRESYNC (1 2 1 (1:2 5)))",
        "SELECT INBOX (QRESYNC (1 2 1 (2,1 5,6)))",
        "SELECT INBOX (QRESYNC (1 2 1 (1,1 5,6)))",
        "SELECT INBOX (QRESYNC (1 2 1 (1:2 6:5)))",
        "SELECT INBOX (QRESYNC (1 2 (1 5) 1))",
        "SELECT INBOX (QRESYNC (1 2) QRESYNC (1 2))",
        "SELECT INBOX (FROB)",
        "SELECT INBOX (CONDSTORE) x",
    ];
    for line in wrong {
        assert!(is_bad(line), "{line}");
    }
}

#[test]
fn fetch_takes_changedsince_and_uid_fetch_vanished_too() {
    let fetched = |line: &str| match command(line) {
        Command::Fetch { items, since, .. } => (items, since),
        other => panic!("{line}: {other:?}"),
    };
    let (flags, modseq) = (FetchItem::Flags, FetchItem::Modseq);
    let since = |modseq, vanished| Some(Since { modseq, vanished });
    let cases = [
        ("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 12345)", vec![flags.clone(), modseq.clone()], since(12_345, false)),
        ("UID FETCH 1:* FLAGS (changedsince 1 vanished)", vec![flags.clone(), modseq.clone()], since(1, true)),
        ("UID FETCH 1:* FLAGS (VANISHED CHANGEDSINCE 1)", vec![flags.clone(), modseq.clone()], since(1, true)),
        ("FETCH 1:3 (MODSEQ)", vec![modseq.clone()], None),
        ("FETCH 1:3 (MODSEQ FLAGS) (CHANGEDSINCE 7)", vec![modseq, flags], since(7, false)),
        (
            "FETCH 1 (SAVEDATE EMAILID THREADID)",
            vec![FetchItem::SaveDate, FetchItem::EmailId, FetchItem::ThreadId],
            None,
        ),
    ];
    for (line, items, since) in cases {
        assert_eq!(fetched(line), (items, since), "{line}");
    }
    let wrong = [
        "FETCH 1 FLAGS ()",
        "FETCH 1 FLAGS CHANGEDSINCE 1",
        "FETCH 1 FLAGS (CHANGEDSINCE 0)",
        "FETCH 1 FLAGS (CHANGEDSINCE 9223372036854775808)",
        "FETCH 1 FLAGS (CHANGEDSINCE \"1\")",
        "FETCH 1 FLAGS (CHANGEDSINCE)",
        "FETCH 1 FLAGS (CHANGEDSINCE 1 CHANGEDSINCE 2)",
        "FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)",
        "UID FETCH 1 FLAGS (VANISHED)",
        "UID FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED VANISHED)",
        "UID FETCH 1 FLAGS (CHANGEDSINCE 1 FROB)",
        "FETCH 1 (MODSEQ (1))",
    ];
    for line in wrong {
        assert!(is_bad(line), "{line}");
    }
}

#[test]
fn store_takes_unchangedsince_even_zero() {
    for (line, expected) in [
        ("UID STORE 6,4,8 (UNCHANGEDSINCE 12121230045) +FLAGS.SILENT (\\Deleted)", Some(12_121_230_045)),
        ("STORE 12 (unchangedsince 0) +FLAGS.SILENT ($MDNSent)", Some(0)),
        ("STORE 12 +FLAGS.SILENT ($MDNSent)", None),
    ] {
        assert!(
            matches!(command(line), Command::Store { unchanged_since, .. } if unchanged_since == expected),
            "{line}"
        );
    }
    for line in [
        "STORE 1 () FLAGS (a)",
        "STORE 1 (UNCHANGEDSINCE) FLAGS (a)",
        "STORE 1 (UNCHANGEDSINCE 9223372036854775808) FLAGS (a)",
        "STORE 1 (UNCHANGEDSINCE 1 UNCHANGEDSINCE 2) FLAGS (a)",
        "STORE 1 (UNCHANGEDSINCE 1)FLAGS (a)",
        "STORE 1 FLAGS (a) (UNCHANGEDSINCE 1)",
        "STORE 1 (FROB 1) FLAGS (a)",
    ] {
        assert!(is_bad(line), "{line}");
    }
}

#[test]
fn search_takes_modseq_with_and_without_the_name_of_a_flag() {
    let key = |line: &str| match command(line) {
        Command::Search(search) => search.key,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(key("SEARCH MODSEQ \"/flags/\\\\draft\" all 620162338"), SearchKey::Modseq(620_162_338));
    assert_eq!(key("SEARCH MODSEQ \"/flags/$MDNSent\" Shared 0"), SearchKey::Modseq(0));
    assert_eq!(
        key("SEARCH OR NOT MODSEQ 720162338 LARGER 50000"),
        SearchKey::Or(
            Box::new(SearchKey::Not(Box::new(SearchKey::Modseq(720_162_338)))),
            Box::new(SearchKey::Larger(50_000))
        )
    );
    for line in [
        "SEARCH MODSEQ",
        "SEARCH MODSEQ x",
        "SEARCH MODSEQ 9223372036854775808",
        "SEARCH MODSEQ \"/flags/\\\\draft\" 1",
        "SEARCH MODSEQ \"/flags/\\\\draft\" none 1",
        "SEARCH MODSEQ \"draft\" all 1",
    ] {
        assert!(is_bad(line), "{line}");
    }
}

proptest! {
    #[test]
    fn what_a_program_knows_is_read_as_it_is_written(
        uid_validity in 1..u32::MAX, modseq in 1..=u64::MAX >> 1,
        known in proptest::option::of(proptest::collection::vec((1..500_u32, 1..500_u32), 1..5)),
        pairs in proptest::option::of(proptest::collection::btree_map(1..500_u32, 1..9_u32, 1..6)),
    ) {
        let mut uid = 0;
        let matches = pairs.map(|steps| {
            let (numbers, steps): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
            let uids: Vec<u32> = steps.into_iter().map(|step| { uid += step; uid }).collect();
            (numbers.into_iter().collect::<Ranges>(), uids.into_iter().collect::<Ranges>())
        });
        let written = |known: &Vec<(u32, u32)>| {
            known.iter().map(|(a, b)| format!("{a}:{b}")).collect::<Vec<_>>().join(",")
        };
        let set = known.as_ref().map_or(String::new(), |known| format!(" {}", written(known)));
        let pairs = matches.as_ref().map_or(String::new(), |(numbers, uids)| format!(" ({numbers} {uids})"));
        let line = format!("SELECT INBOX (QRESYNC ({uid_validity} {modseq}{set}{pairs}))");
        let resync = Resync { uid_validity, modseq, known: known.map(Ranges::new), matches };
        prop_assert_eq!(command(&line), select(false, false, Some(resync)));
    }

    #[test]
    fn nothing_in_the_place_of_parameters_is_taken_for_what_it_is_not(text in "[A-Z0-9 ()*:,]{0,30}") {
        let line = format!("SELECT INBOX {text}");
        if let Ok(tagged) = parse(format!("a1 {line}\r\n").as_bytes(), SearchLimits::default(), Names::Mutf7) {
            prop_assert!(matches!(tagged.command, Command::Select { .. }), "{}", line);
            prop_assert!(text.contains("CONDSTORE") || text.contains("QRESYNC"), "{}", line);
        }
    }
}
