//! SEARCH's extensions, SORT, THREAD, and `$`.

use proptest::prelude::*;

use super::*;
use crate::imap::write::Code;

fn search_of(line: &str) -> Search {
    match command(line) {
        Command::Search(search) => search,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn result_options_come_in_any_order_and_none_means_all() {
    let none = Returns::default();
    let cases = [
        ("SEARCH ALL", None),
        ("SEARCH RETURN () ALL", Some(Returns { all: true, ..none })),
        ("SEARCH return (min) ALL", Some(Returns { min: true, ..none })),
        (
            "UID SEARCH RETURN (MAX MIN COUNT ALL) ALL",
            Some(Returns { min: true, max: true, count: true, all: true, ..none }),
        ),
        ("SEARCH RETURN (SAVE SAVE) ALL", Some(Returns { save: true, ..none })),
        ("SEARCH RETURN (COUNT) CHARSET UTF-8 ALL", Some(Returns { count: true, ..none })),
    ];
    for (line, expected) in cases {
        assert_eq!(search_of(line).returns, expected, "{line}");
    }
    for line in [
        "SEARCH RETURN ALL",
        "SEARCH RETURN",
        "SEARCH RETURN (MIN)",
        "SEARCH RETURN (MIN,MAX) ALL",
        "SEARCH RETURN (PARTIAL 1:2) ALL",
        "SEARCH RETURN (FROB) ALL",
        "SEARCH RETURN ( MIN) ALL",
        "SEARCH RETURN(MIN) ALL",
        "SEARCH CHARSET UTF-8 RETURN (MIN) ALL",
        "THREAD RETURN (MIN) REFERENCES UTF-8 ALL",
    ] {
        assert_eq!(refused(line).status, Status::Bad, "{line}");
    }
}

#[test]
fn what_was_saved_may_be_named_wherever_messages_are() {
    let saved = MessageSet::Saved;
    assert!(matches!(command("FETCH $ UID"), Command::Fetch { set, uid: false, .. } if set == saved));
    assert!(matches!(command("UID FETCH $ FLAGS"), Command::Fetch { set, uid: true, .. } if set == saved));
    assert!(matches!(command("STORE $ +FLAGS.Silent (\\Deleted)"), Command::Store { set, .. } if set == saved));
    assert!(matches!(command("COPY $ Junk"), Command::Copy { set, .. } if set == saved));
    assert!(matches!(command("UID MOVE $ Junk"), Command::Move { set, .. } if set == saved));
    assert_eq!(command("UID EXPUNGE $"), Command::Expunge(Some(saved)));
    assert_eq!(
        search_of("UID SEARCH UID $ SMALLER 4096").key,
        SearchKey::And(vec![SearchKey::Saved, SearchKey::Smaller(4096)])
    );
    let or = SearchKey::Or(Box::new(SearchKey::Saved), Box::new(SearchKey::Numbers(set("1,3000:3021"))));
    assert_eq!(search_of("SEARCH CHARSET UTF-8 (OR $ 1,3000:3021)").key, or);
    for line in ["SEARCH $,1", "SEARCH $x", "SEARCH UID $:2", "UID EXPUNGE $,3"] {
        assert_eq!(refused(line).status, Status::Bad, "{line}");
    }
}

#[test]
fn only_a_no_to_a_search_that_saves_leaves_nothing_saved() {
    for (line, unsaves) in [
        ("SEARCH RETURN (SAVE) CHARSET X-KLINGON ALL", true),
        ("SEARCH RETURN (COUNT) CHARSET X-KLINGON ALL", false),
        ("SEARCH CHARSET X-KLINGON ALL", false),
        ("SEARCH RETURN (SAVE) FROB", false),
        ("SORT RETURN (SAVE) (DATE) X-KLINGON ALL", true),
    ] {
        assert_eq!(refused(line).unsaves, unsaves, "{line}");
    }
    let deep = refused(&format!("SEARCH RETURN (SAVE) {}ALL", "NOT ".repeat(100)));
    assert_eq!((deep.unsaves, deep.code), (true, Some(Code::Limit)));
}

#[test]
fn newer_keys_are_read() {
    let day = chrono::NaiveDate::from_ymd_opt(2014, 12, 28).unwrap();
    let seconds = std::num::NonZeroU32::new(259_200).unwrap();
    for (keys, expected) in [
        ("YOUNGER 259200", SearchKey::Younger(seconds)),
        ("older 259200", SearchKey::Older(seconds)),
        ("SAVEDBEFORE 28-Dec-2014", SearchKey::SavedBefore(day)),
        ("SAVEDON \"28-Dec-2014\"", SearchKey::SavedOn(day)),
        ("SAVEDSINCE 28-Dec-2014", SearchKey::SavedSince(day)),
        ("SAVEDATESUPPORTED", SearchKey::SaveDateSupported),
        ("EMAILID M6d99ac3275bb4e", SearchKey::EmailId("M6d99ac3275bb4e".into())),
        ("THREADID T_64-b4", SearchKey::ThreadId("T_64-b4".into())),
    ] {
        assert_eq!(search_of(&format!("SEARCH {keys}")).key, expected, "{keys}");
    }
    for keys in [
        "YOUNGER 0",
        "OLDER",
        "OLDER -1",
        "OLDER 4294967296",
        "EMAILID \"a\"",
        "EMAILID a.b",
        "THREADID",
        "SAVEDON x",
    ] {
        assert_eq!(refused(&format!("SEARCH {keys}")).status, Status::Bad, "{keys}");
    }
    assert_eq!(refused(&format!("SEARCH EMAILID {}", "a".repeat(256))).status, Status::Bad);
}

#[test]
fn sort_criteria_are_read_each_once() {
    let by = |key, reverse| SortBy { key, reverse };
    let cases = [
        ("(SUBJECT)", vec![by(SortKey::Subject, false)]),
        ("(SUBJECT REVERSE DATE)", vec![by(SortKey::Subject, false), by(SortKey::Date, true)]),
        (
            "(displayfrom DISPLAYTO cc)",
            vec![by(SortKey::DisplayFrom, false), by(SortKey::DisplayTo, false), by(SortKey::Cc, false)],
        ),
        ("(REVERSE SIZE SIZE TO)", vec![by(SortKey::Size, true), by(SortKey::To, false)]),
        ("(ARRIVAL FROM)", vec![by(SortKey::Arrival, false), by(SortKey::From, false)]),
    ];
    for (criteria, expected) in cases {
        let line = format!("UID SORT RETURN () {criteria} UTF-8 UNDELETED");
        let Command::Sort(sort) = command(&line) else { panic!("{line}") };
        assert_eq!((sort.by, sort.search.uid), (expected, true), "{line}");
    }
    for line in [
        "SORT",
        "SORT (SUBJECT)",
        "SORT (SUBJECT) UTF-8",
        "SORT () UTF-8 ALL",
        "SORT SUBJECT UTF-8 ALL",
        "SORT (REVERSE) UTF-8 ALL",
        "SORT (REVERSE REVERSE DATE) UTF-8 ALL",
        "SORT (FROB) UTF-8 ALL",
        "SORT (SUBJECT)UTF-8 ALL",
        "THREAD",
        "THREAD REFS UTF-8 ALL",
        "UID THREAD REFERENCES UTF-8",
    ] {
        assert_eq!(refused(line).status, Status::Bad, "{line}");
    }
    assert_eq!(refused("SORT (DATE) X-KLINGON ALL").code, Some(Code::BadCharset));
    assert_eq!(refused("THREAD REFERENCES X-KLINGON ALL").code, Some(Code::BadCharset));
    assert!(matches!(
        command("thread orderedsubject US-ASCII TEXT \"gewp\""),
        Command::Thread(Thread { by: ThreadBy::OrderedSubject, .. })
    ));
}

proptest! {
    #[test]
    fn any_arguments_are_read_or_refused(
        verb in "(UID |)(SEARCH|SORT|THREAD)",
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "RETURN", "(", ")", "(MIN SAVE)", "()", "$", "1:*", "UTF-8", "CHARSET", "(DATE)", "REVERSE", "REFERENCES",
                "ALL", "NOT", "OR", "UID", "OLDER", "5", "EMAILID", "{1+}\r\n", "x", "\"", "SAVEDON", "1-Jan-2020",
            ]),
            0..10,
        ),
    ) {
        let line = format!("a1 {verb} {}\r\n", words.join(" "));
        let _ = parse(line.as_bytes(), SearchLimits::default(), Names::Mutf7);
    }
}
