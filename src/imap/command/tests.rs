//! Commands as programs send them, and as nobody should.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

use std::num::NonZeroU32;

use super::*;
use crate::imap::{
    mailbox::Names,
    write::{Code, Status},
};
use crate::model::UnixTime;

mod search;

fn command(line: &str) -> Command {
    match parse(format!("a1 {line}\r\n").as_bytes(), SearchLimits::default(), Names::Mutf7) {
        Ok(tagged) => {
            assert_eq!(tagged.tag, "a1");
            tagged.command
        }
        Err(bad) => panic!("{line}: {}", bad.text),
    }
}

fn refused(line: &str) -> Bad {
    match parse(format!("a1 {line}\r\n").as_bytes(), SearchLimits::default(), Names::Mutf7) {
        Ok(tagged) => panic!("{line}: {:?}", tagged.command),
        Err(bad) => bad,
    }
}

fn name(text: &str) -> MailboxName {
    MailboxName::parse(text).unwrap()
}

fn opened(mailbox: &str, read_only: bool) -> Command {
    Command::Select { mailbox: name(mailbox), read_only, condstore: false, resync: None }
}

fn set(text: &str) -> SequenceSet {
    text.parse().unwrap()
}

fn named(text: &str) -> MessageSet {
    MessageSet::Named(set(text))
}

#[test]
fn verbs_have_no_case_and_no_spare_spaces() {
    assert_eq!(command("noop"), Command::Noop);
    assert_eq!(command("select inbox"), opened("INBOX", false));
    assert_eq!(command("Uid Expunge 1:3"), Command::Expunge(Some(named("1:3"))));
    for line in
        ["NOOP ", " NOOP", "NOOP\n", "NOO\rP", "SELECT  INBOX", "FETCH 1  FLAGS", "STORE 1 +FLAGS  (\\Seen)", ""]
    {
        let bad = parse(format!("a1 {line}\r\n").as_bytes(), SearchLimits::default(), Names::Mutf7).unwrap_err();
        assert_eq!(bad.status, Status::Bad, "{line:?}");
    }
}

#[test]
fn verbs_without_arguments_take_none() {
    let cases = [
        ("CAPABILITY", Command::Capability),
        ("NOOP", Command::Noop),
        ("LOGOUT", Command::Logout),
        ("NAMESPACE", Command::Namespace),
        ("IDLE", Command::Idle),
        ("CHECK", Command::Check),
        ("CLOSE", Command::Close),
        ("UNSELECT", Command::Unselect),
        ("EXPUNGE", Command::Expunge(None)),
    ];
    for (line, expected) in cases {
        assert_eq!(command(line), expected, "{line}");
        assert_eq!(refused(&format!("{line} x")).status, Status::Bad, "{line}");
    }
    assert_eq!(
        command("enable utf8=accept CONDSTORE"),
        Command::Enable(vec!["UTF8=ACCEPT".into(), "CONDSTORE".into()])
    );
    assert_eq!(command("compress deflate"), Command::Compress);
    for line in [
        "ENABLE",
        "SELECT INBOX (FROB)",
        "STARTTLS",
        "COMPRESS",
        "COMPRESS LZ4",
        "COMPRESS DEFLATE 9",
        "UID",
        "UID NOOP",
        "APPEND x",
        "REPLACE 1 x",
        "UID REPLACE 1 x",
    ] {
        assert_eq!(refused(line).status, Status::Bad, "{line}");
    }
}

#[test]
fn a_tag_is_repeated_only_where_it_is_one() {
    let cases: [(&[u8], Option<&str>); 9] = [
        (b"a1 FROB\r\n", Some("a1")),
        (b"A.1]x FROB\r\n", Some("A.1]x")),
        (b"a+1 NOOP\r\n", None),
        (b"+ NOOP\r\n", None),
        (b"* NOOP\r\n", None),
        (b"a1\r\n", None),
        (b"a1 \r\n", None),
        (b" NOOP\r\n", None),
        (b"\xc3\xa9 NOOP\r\n", None),
    ];
    for (bytes, tag) in cases {
        assert_eq!(
            parse(bytes, SearchLimits::default(), Names::Mutf7).unwrap_err().tag.as_deref(),
            tag,
            "{bytes:?}"
        );
    }
    let long = "x".repeat(MAX_TAG);
    assert!(parse(format!("{long} NOOP\r\n").as_bytes(), SearchLimits::default(), Names::Mutf7).is_ok());
    assert!(parse(format!("{long}x NOOP\r\n").as_bytes(), SearchLimits::default(), Names::Mutf7).is_err());
}

#[test]
fn sign_in_commands_give_away_no_secret() {
    let authenticate = |mechanism: &str, initial: Option<&str>| Command::Authenticate {
        mechanism: mechanism.to_owned(),
        initial: initial.map(Secret::new),
    };
    assert_eq!(command("AUTHENTICATE XOAUTH2"), authenticate("XOAUTH2", None));
    assert_eq!(command("authenticate oauthbearer bixhPQ=="), authenticate("OAUTHBEARER", Some("bixhPQ==")));
    assert_eq!(command("AUTHENTICATE PLAIN ="), authenticate("PLAIN", Some("")));
    assert_eq!(command("AUTHENTICATE cram-md5 no!base64"), authenticate("CRAM-MD5", Some("no!base64")));
    assert_eq!(command("LOGIN ann secret"), Command::Login { user: Some("ann".into()) });
    assert_eq!(command("LOGIN \"ann"), Command::Login { user: None });
    let shown = format!("{:?}", command("AUTHENTICATE XOAUTH2 dG9wIHNlY3JldA=="));
    assert!(!shown.contains("dG9w"), "{shown}");
    for line in ["AUTHENTICATE", "AUTHENTICATE ", "AUTHENTICATE X Y Z", "AUTHENTICATE X ", "AUTHENTICATE (X) Y"] {
        assert_eq!(refused(line).status, Status::Bad, "{line}");
    }
}

#[test]
fn what_a_program_says_about_itself_is_bounded() {
    assert_eq!(command("ID NIL"), Command::Id(Vec::new()));
    assert_eq!(
        command("ID (\"name\" \"Thunder\\\"bird\" \"version\" NIL)"),
        Command::Id(vec![("name".into(), Some("Thunder\"bird".into())), ("version".into(), None)])
    );
    let many = format!("ID ({})", vec!["\"n\" {4+}\r\nv\nw\u{7f}"; 40].join(" "));
    let Command::Id(pairs) = command(&many) else { panic!() };
    assert_eq!(pairs.len(), 30);
    assert_eq!(pairs[0].1.as_deref(), Some("v\u{FFFD}w\u{FFFD}"));
}

#[test]
fn mailboxes_are_decoded_on_every_path() {
    assert_eq!(command("EXAMINE Entw&APw-rfe"), opened("Entwürfe", true));
    assert_eq!(
        command("CREATE \"Ann's mail/\""),
        Command::Create { mailbox: name("Ann's mail"), uses: Vec::new() }
    );
    assert_eq!(command("DELETE {5}\r\na b/c"), Command::Delete(name("a b/c")));
    assert_eq!(command("RENAME a iNbOx/b"), Command::Rename { from: name("a"), to: name("INBOX/b") });
    assert_eq!(command("SUBSCRIBE a"), Command::Subscribe(name("a")));
    assert_eq!(command("UNSUBSCRIBE a"), Command::Unsubscribe(name("a")));
    assert_eq!(
        command("COPY 1 {3+}\r\na\"b"),
        Command::Copy { set: named("1"), mailbox: name("a\"b"), uid: false }
    );
    assert_eq!(command("UID MOVE 1:* x"), Command::Move { set: named("1:*"), mailbox: name("x"), uid: true });
    for verb in ["SELECT", "CREATE", "DELETE", "SUBSCRIBE", "COPY 1", "UID MOVE 1", "RENAME x", "STATUS"] {
        for wrong in ["../x", "\"\"", "a//b", "x&", "{3+}\r\na\nb", "\"\u{e9}\""] {
            let tail = if verb == "STATUS" { " (UNSEEN)" } else { "" };
            let bad = refused(&format!("{verb} {wrong}{tail}"));
            assert_eq!(
                (bad.status, bad.code),
                (Status::No, Some(crate::imap::write::Code::Cannot)),
                "{verb} {wrong}"
            );
        }
    }
}

#[test]
fn list_is_read_with_all_its_options() {
    let plain = |pattern: &str| List {
        patterns: vec![Pattern::new("", pattern)],
        select: ListSelect::default(),
        give: ListReturn::default(),
        extended: false,
        separator: false,
    };
    assert_eq!(command("LIST \"\" \"\""), Command::List(List { separator: true, ..plain("") }));
    assert_eq!(command("LIST Archive/ \"\""), Command::List(List { separator: true, ..plain("Archive/") }));
    assert_eq!(command("LIST \"\" (\"\")"), Command::List(List { extended: true, ..plain("") }));
    assert_eq!(command("LIST \"\" *"), Command::List(plain("*")));
    assert_eq!(command("LIST Archive/ Entw&APw-%"), Command::List(plain("Archive/Entwü%")));
    assert_eq!(
        command("list (subscribed) \"\" \"*\" return (special-use)"),
        Command::List(List {
            select: ListSelect { subscribed: true, ..Default::default() },
            give: ListReturn { subscribed: true, special_use: true, ..Default::default() },
            extended: true,
            separator: false,
            ..plain("*")
        })
    );
    assert_eq!(
        command(
            "LIST (SUBSCRIBED RECURSIVEMATCH REMOTE) \"\" (% \"a b\") RETURN (CHILDREN STATUS (MESSAGES SIZE) SUBSCRIBED)"
        ),
        Command::List(List {
            patterns: vec![Pattern::new("", "%"), Pattern::new("", "a b")],
            select: ListSelect { subscribed: true, recursive_match: true, special_use: false },
            give: ListReturn {
                subscribed: true,
                children: true,
                special_use: false,
                status: vec![StatusItem::Messages, StatusItem::Size],
            },
            extended: true,
            separator: false,
        })
    );
    assert!(matches!(command("LIST () \"\" % RETURN ()"), Command::List(List { extended: true, .. })));
    assert_eq!(command("LSUB \"\" inbox/%"), Command::Lsub(Pattern::new("", "INBOX/%")));
    for line in [
        "LIST \"\"",
        "LIST (FROB) \"\" *",
        "LIST \"\" * RETURN (FROB)",
        "LIST (RECURSIVEMATCH) \"\" *",
        "LIST \"\" ()",
    ] {
        assert_eq!(refused(line).status, Status::Bad, "{line}");
    }
    let at = |count: usize| format!("LIST \"\" ({})", vec!["*"; count].join(" "));
    assert!(matches!(command(&at(32)), Command::List(_)));
    assert_eq!(refused(&at(33)).status, Status::No);
}

#[test]
fn fetch_items_are_read_as_the_rfc_writes_them() {
    use FetchItem::{
        Body, BodyStructure, Envelope, Flags, InternalDate, Rfc822, Rfc822Header, Rfc822Text, Size, Uid,
    };
    let section = |part: &[u32], text: SectionText| FetchItem::Section {
        section: Section { part: part.to_vec(), text },
        partial: None,
        peek: true,
    };
    let fields = vec!["Date".to_owned(), "X-Odd".to_owned()];
    let cases = [
        ("ALL", vec![Flags, InternalDate, Size, Envelope]),
        ("fast", vec![Flags, InternalDate, Size]),
        ("FULL", vec![Flags, InternalDate, Size, Envelope, Body]),
        ("body", vec![Body]),
        ("(UID BODYSTRUCTURE)", vec![Uid, BodyStructure]),
        ("(RFC822 RFC822.HEADER RFC822.TEXT RFC822.SIZE)", vec![Rfc822, Rfc822Header, Rfc822Text, Size]),
        ("BODY.PEEK[]", vec![section(&[], SectionText::All)]),
        ("BODY.PEEK[HEADER]", vec![section(&[], SectionText::Header)]),
        ("BODY.PEEK[1.2]", vec![section(&[1, 2], SectionText::All)]),
        ("BODY.PEEK[1.2.mime]", vec![section(&[1, 2], SectionText::Mime)]),
        ("BODY.PEEK[3.TEXT]", vec![section(&[3], SectionText::Text)]),
        (
            "BODY.PEEK[header.fields (Date \"X-Odd\")]",
            vec![section(&[], SectionText::HeaderFields(fields.clone()))],
        ),
        (
            "(BODY.PEEK[4.HEADER.FIELDS.NOT (Date {5}\r\nX-Odd)])",
            vec![section(&[4], SectionText::HeaderFieldsNot(fields))],
        ),
        (
            "BODY[]<0.2048>",
            vec![FetchItem::Section { section: Section::default(), partial: Some((0, 2048)), peek: false }],
        ),
    ];
    for (items, expected) in cases {
        let fetch = Command::Fetch { set: named("1:*"), items: expected, since: None, uid: false };
        assert_eq!(command(&format!("FETCH 1:* {items}")), fetch, "{items}");
    }
    let wrong = [
        "()",
        "",
        "(ALL)",
        "FROB",
        "BODY[MIME]",
        "BODY[0]",
        "BODY[1.]",
        "BODY[.1]",
        "BODY[1",
        "BODY.PEEK",
        "BODY[TEXT.1]",
        "BODY[HEADER.FIELDS ()]",
        "BODY[HEADER.FIELDS (\"a\nb\")]",
        "BODY[]<0.0>",
        "BODY[]<1>",
        "BODYSTRUCTURE[]",
        "(UID",
        "BODY[4294967296]",
        "BODY[]<0.4294967296>",
        "BODY[HEADER.FIELDS (\u{e9})]",
        "UID FLAGS",
    ];
    for items in wrong {
        assert_eq!(refused(&format!("FETCH 1 {items}")).status, Status::Bad, "{items}");
    }
    let deep = |depth: usize| format!("FETCH 1 BODY[{}]", vec!["1"; depth].join("."));
    assert!(matches!(command(&deep(100)), Command::Fetch { .. }));
    assert_eq!(refused(&deep(101)).status, Status::Bad);
    let many = |count: usize| format!("FETCH 1 ({})", vec!["BODY[]"; count].join(" "));
    assert!(matches!(command(&many(200)), Command::Fetch { .. }));
    assert_eq!(refused(&many(201)).status, Status::No);
}

#[test]
fn patterns_are_so_long_together() {
    let list = |reference: usize, patterns: usize, length: usize| {
        let patterns = vec!["a".repeat(length); patterns].join(" ");
        format!("LIST {} ({patterns})", "r".repeat(reference))
    };
    for (reference, patterns, length) in [(1, 32, 127), (96, 32, 32), (1, 4, 999), (900, 4, 100)] {
        assert!(matches!(command(&list(reference, patterns, length)), Command::List(_)), "{patterns} of {length}");
    }
    for (reference, patterns, length) in [(2, 32, 127), (97, 32, 32), (1, 5, 999)] {
        let bad = refused(&list(reference, patterns, length));
        assert_eq!((bad.status, bad.code), (Status::No, Some(Code::Limit)), "{patterns} of {length}");
    }
}

#[test]
fn an_item_that_is_asked_for_again_is_told_once() {
    use FetchItem::{Flags, Size, Uid};
    let Command::Fetch { items, .. } = command("FETCH 1 (FLAGS UID flags RFC822.SIZE UID FLAGS)") else { panic!() };
    assert_eq!(items, [Flags, Uid, Size]);
    let Command::Fetch { items, .. } = command(
        "FETCH 1 (BODY[1]<0.5> BODY[1]<0.6> BODY[1] BODY[1]<0.5> BODY[HEADER.FIELDS (A)] BODY[HEADER.FIELDS (A)])",
    ) else {
        panic!()
    };
    assert_eq!(items.len(), 4, "{items:?}");
}

#[test]
fn only_what_shows_a_body_marks_it_read() {
    let Command::Fetch { items, .. } =
        command("FETCH 1 (BODY[] BODY.PEEK[] RFC822 RFC822.HEADER RFC822.TEXT BODY BODYSTRUCTURE ENVELOPE)")
    else {
        panic!()
    };
    let seen: Vec<bool> = items.iter().map(FetchItem::sets_seen).collect();
    assert_eq!(seen, [true, false, true, false, true, false, false, false]);
}

#[test]
fn sets_stay_ranges_and_numbers_stay_in_their_bits() {
    for text in ["1", "*", "1:*", "*:1", "5,3,1:2", "1:4294967295"] {
        assert!(
            matches!(command(&format!("FETCH {text} UID")), Command::Fetch { set: MessageSet::Named(s), .. } if s == set(text)),
            "{text}"
        );
    }
    for text in
        ["0", "", "1,", ",1", "1:", ":1", "1:2:3", "4294967296", "-1", "1 :2", "$,1", "1,$", "$:2", "$$", "a"]
    {
        assert_eq!(refused(&format!("FETCH {text} UID")).status, Status::Bad, "{text}");
    }
    let long = format!("FETCH {} UID", vec!["1:*"; 10_000].join(","));
    assert!(matches!(command(&long), Command::Fetch { .. }));
}

#[test]
fn store_takes_flags_in_every_spelling_and_each_once() {
    let store = |kind, silent, flags: &[&'static str], uid| Command::Store {
        set: named("1"),
        kind,
        silent,
        unchanged_since: None,
        flags: flags.iter().map(|f| Flag::try_from(*f).unwrap()).collect(),
        uid,
    };
    let cases = [
        ("STORE 1 FLAGS (\\Seen)", store(StoreType::Replace, false, &["\\Seen"], false)),
        ("uid store 1 +Flags (\\flagged)", store(StoreType::Add, false, &["\\Flagged"], true)),
        ("STORE 1 +FLAGS.SILENT (Old)", store(StoreType::Add, true, &["Old"], false)),
        ("STORE 1 -flags.silent \\Deleted $Junk", store(StoreType::Remove, true, &["\\Deleted", "$Junk"], false)),
        ("STORE 1 FLAGS ()", store(StoreType::Replace, false, &[], false)),
        (
            "STORE 1 FLAGS ($Junk \\Seen $JUNK \\SEEN)",
            store(StoreType::Replace, false, &["$Junk", "\\Seen"], false),
        ),
        ("STORE 1 FLAGS (\\Recent)", store(StoreType::Replace, false, &["\\Recent"], false)),
    ];
    for (line, expected) in cases {
        assert_eq!(command(line), expected, "{line}");
    }
    for line in [
        "STORE 1 FLAGS",
        "STORE 1 FLAGS (\\*)",
        "STORE 1 FLAGS (a(b)",
        "STORE 1 +FLAGS.LOUD (a)",
        "STORE 1 * (a)",
        "STORE 1 FLAGS (\"a\")",
    ] {
        assert_eq!(refused(line).status, Status::Bad, "{line}");
    }
    assert!(matches!(command(&format!("STORE 1 FLAGS ({})", "k".repeat(250))), Command::Store { .. }));
    assert_eq!(refused(&format!("STORE 1 FLAGS ({})", "k".repeat(251))).status, Status::No);
}

#[test]
fn status_asks_each_thing_once() {
    assert_eq!(
        command("STATUS inbox (messages UIDNEXT UIDVALIDITY UNSEEN RECENT SIZE UNSEEN)"),
        Command::Status {
            mailbox: name("INBOX"),
            items: vec![
                StatusItem::Messages,
                StatusItem::UidNext,
                StatusItem::UidValidity,
                StatusItem::Unseen,
                StatusItem::Recent,
                StatusItem::Size
            ]
        }
    );
    let Command::Status { items, .. } = command("STATUS x (DELETED DELETED-STORAGE HIGHESTMODSEQ MAILBOXID)")
    else {
        panic!();
    };
    assert_eq!(
        items.iter().map(|item| item.word()).collect::<Vec<_>>(),
        ["DELETED", "DELETED-STORAGE", "HIGHESTMODSEQ", "MAILBOXID"]
    );
    for line in ["STATUS x ()", "STATUS x UNSEEN", "STATUS x (NOSUCH)", "STATUS x", "STATUS (UNSEEN)"] {
        assert_eq!(refused(line).status, Status::Bad, "{line}");
    }
}

#[test]
fn search_keys_become_a_small_tree() {
    use SearchKey::{
        All, And, Before, Body, Flag as F, Header, Larger, Not, Numbers, On, Or, Recent, SentSince, Smaller, Text,
        Uids,
    };
    let key = |line: &str| match command(&format!("SEARCH {line}")) {
        Command::Search(search) => search.key,
        other => panic!("{other:?}"),
    };
    let not = |key| Not(Box::new(key));
    let header = |name: &str, text: &str| Header { name: name.into(), text: text.into() };
    let day = chrono::NaiveDate::from_ymd_opt(1994, 2, 1).unwrap();
    let cases = [
        ("all", All),
        ("UNSEEN", not(F(Flag::Seen))),
        ("NEW", And(vec![Recent, not(F(Flag::Seen))])),
        ("OLD", not(Recent)),
        ("KEYWORD $Junk", F(Flag::try_from("$Junk").unwrap())),
        ("UNKEYWORD x", not(F(Flag::try_from("x").unwrap()))),
        ("2,4:7", Numbers(set("2,4:7"))),
        ("*", Numbers(set("*"))),
        ("UID 5:*", Uids(set("5:*"))),
        ("LARGER 5000000000 SMALLER 1", And(vec![Larger(5_000_000_000), Smaller(1)])),
        ("BEFORE 1-Feb-1994", Before(day)),
        ("ON \"01-feb-1994\"", On(day)),
        ("SENTSINCE 1-FEB-1994", SentSince(day)),
        ("FROM ann", header("FROM", "ann")),
        ("HEADER Message-ID \"<a@b>\"", header("Message-ID", "<a@b>")),
        ("HEADER X-Spam \"\"", header("X-Spam", "")),
        ("BODY {4}\r\na\"\\b", Body("a\"\\b".into())),
        ("TEXT \"a \\\"b\\\" \\\\c\"", Text("a \"b\" \\c".into())),
        ("CHARSET UTF-8 SUBJECT {5+}\r\nÜber", header("SUBJECT", "Über")),
        ("SUBJECT \"Über\"", header("SUBJECT", "Über")),
        (
            "OR SEEN NOT (DELETED 1)",
            Or(Box::new(F(Flag::Seen)), Box::new(not(And(vec![F(Flag::Deleted), Numbers(set("1"))])))),
        ),
        ("((ALL))", All),
    ];
    for (line, expected) in cases {
        assert_eq!(key(line), expected, "{line}");
    }
    let latin =
        parse(b"a1 UID SEARCH CHARSET \"ISO-8859-1\" TO \"\xfcbel\"\r\n", SearchLimits::default(), Names::Mutf7)
            .unwrap()
            .command;
    assert_eq!(
        latin,
        Command::Search(Search { key: header("TO", "übel"), uid: true, charset: true, returns: None })
    );
    let wrong = [
        "",
        "()",
        "OR SEEN",
        "NOT",
        "FROB",
        "BEFORE 31-Feb-1994",
        "ON 1-Feb-94",
        "LARGER -1",
        "LARGER 9223372036854775808",
        "HEADER a",
        "(SEEN",
        "SEEN)",
        "TEXT",
        "KEYWORD (a)",
        "CHARSET UTF-8",
        "SUBJECT \"a\u{0}b\"",
    ];
    for line in wrong {
        assert_eq!(refused(&format!("SEARCH {line}")).status, Status::Bad, "{line}");
    }
    let unknown = refused("SEARCH CHARSET X-KLINGON ALL");
    assert_eq!((unknown.status, unknown.code), (Status::No, Some(crate::imap::write::Code::BadCharset)));
    assert_eq!(
        parse(b"a1 SEARCH SUBJECT \"\xfcbel\"\r\n", SearchLimits::default(), Names::Mutf7).unwrap_err().status,
        Status::Bad
    );
}

#[test]
fn search_is_bounded_in_depth_and_in_keys() {
    let nested = |depth: usize| format!("SEARCH {}ALL{}", "(".repeat(depth), ")".repeat(depth));
    assert!(matches!(command(&nested(32)), Command::Search(_)));
    assert_eq!(refused(&nested(33)).status, Status::No);
    for word in ["NOT ", "OR ALL ", "(", "OR "] {
        assert_eq!(refused(&format!("SEARCH {}ALL", word.repeat(9_000))).status, Status::No, "{word}");
    }
    let keys = |count: usize| format!("SEARCH {}", vec!["ALL"; count].join(" "));
    assert!(matches!(command(&keys(1000)), Command::Search(_)));
    assert_eq!(refused(&keys(1001)).status, Status::No);
}

#[test]
fn create_may_say_what_a_mailbox_is_for() {
    let created = |line: &str| match command(line) {
        Command::Create { mailbox, uses } => (mailbox.to_string(), uses),
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(
        created("CREATE a (USE (\\Drafts \\Sent \\DRAFTS))"),
        ("a".into(), vec!["\\Drafts".into(), "\\Sent".into()])
    );
    assert_eq!(created("create a/ (use ())"), ("a".into(), vec![]));
    for line in [
        "CREATE a (USE)",
        "CREATE a (USE \\Sent)",
        "CREATE a ()",
        "CREATE a (USE (\\Sent)) x",
        "CREATE a (OTHER (x))",
    ] {
        assert_eq!(refused(line).status, Status::Bad, "{line}");
    }
}

#[test]
fn quotas_are_asked_for_by_root_and_by_mailbox_and_never_set() {
    assert_eq!(command("GETQUOTA \"\""), Command::GetQuota { root: String::new() });
    assert_eq!(command("getquota {3}\r\n# a"), Command::GetQuota { root: "# a".into() });
    assert_eq!(command("GETQUOTAROOT inbox"), Command::GetQuotaRoot(name("INBOX")));
    assert_eq!(command("SETQUOTA \"\" (STORAGE 512 MESSAGE 9)"), Command::SetQuota);
    assert_eq!(command("SETQUOTA x ()"), Command::SetQuota);
    for line in [
        "GETQUOTA",
        "GETQUOTA a b",
        "GETQUOTAROOT",
        "SETQUOTA x",
        "SETQUOTA x (STORAGE)",
        "SETQUOTA x (STORAGE -1)",
    ] {
        assert_eq!(refused(line).status, Status::Bad, "{line}");
    }
}

#[test]
fn a_session_that_speaks_utf_8_names_mailboxes_in_it() {
    let read = |line: &str| parse(format!("a1 {line}\r\n").as_bytes(), SearchLimits::default(), Names::Utf8);
    let of = |line: &str| read(line).map(|tagged| tagged.command).map_err(|bad| bad.status);
    let drafts = name("Entwürfe");
    assert_eq!(of("EXAMINE \"Entwürfe\""), Ok(opened("Entwürfe", true)));
    assert_eq!(of("DELETE {9}\r\nEntwürfe"), Ok(Command::Delete(drafts.clone())));
    assert_eq!(of("COPY 1 \"Entwürfe\""), Ok(Command::Copy { set: named("1"), mailbox: drafts, uid: false }));
    assert_eq!(of("SUBSCRIBE R&D"), Ok(Command::Subscribe(name("R&D"))));
    let Ok(Command::Lsub(pattern)) = of("LSUB \"\" \"Entwü%\"") else { panic!() };
    assert!(pattern.matches("Entwürfe"));
    let Ok(Command::List(list)) = of("LIST \"Entwü\" \"*\"") else { panic!() };
    assert!(list.patterns[0].matches("Entwürfe"));
}

#[test]
fn an_append_head_is_read_up_to_its_message() {
    let time = Some(UnixTime::from_secs(837_596_665));
    let cases = [
        (" INBOX ", Ok((name("INBOX"), 0, None))),
        (" \"a b\" (\\Seen $Junk) ", Ok((name("a b"), 2, None))),
        (" x \"17-Jul-1996 02:44:25 -0700\" ", Ok((name("x"), 0, time))),
        (
            " {3}\r\nx/y (\\Draft) \" 7-Jul-1996 09:44:25 +0000\" ",
            Ok((name("x/y"), 1, Some(UnixTime::from_secs(836_732_665)))),
        ),
        (" INBOX", Err(Status::Bad)),
        (" INBOX  ", Err(Status::Bad)),
        ("  ", Err(Status::Bad)),
        (" .. ", Err(Status::No)),
        (" x (\\Seen ", Err(Status::Bad)),
        (" x \"31-Feb-1996 02:44:25 -0700\" ", Err(Status::Bad)),
        (" x \"17-Jul-1996 24:44:25 -0700\" ", Err(Status::Bad)),
        (" x \"17-Jul-1996 02:44:25 -9900\" ", Err(Status::Bad)),
        (" x UTF8 (", Err(Status::Bad)),
    ];
    for (arguments, expected) in cases {
        let (verb, _) = Verb::read(b"append").unwrap();
        let got = first_message(&verb, arguments.as_bytes(), false, Names::Mutf7).unwrap();
        let got = got.map(|(old, mailbox, options)| {
            assert_eq!((old, options.form), (None, Form::Literal));
            (mailbox, options.flags.len(), options.date)
        });
        assert_eq!(got.map_err(|bad| bad.status), expected, "{arguments:?}");
    }
}

#[test]
fn which_literal_of_a_command_is_a_message_and_in_what_form() {
    let old = |number: u32, uid| Some(Replaced { number: NonZeroU32::new(number), uid });
    type Expected = Option<Result<(Option<Replaced>, Form), Status>>;
    let cases: [(&str, &str, bool, Expected); 20] = [
        ("APPEND", " ", false, None),
        ("APPEND", " INBOX ", true, Some(Ok((None, Form::Binary)))),
        ("APPEND", " INBOX utf8 (", true, Some(Ok((None, Form::Utf8)))),
        ("APPEND", " INBOX (\\Seen) UTF8 (", true, Some(Ok((None, Form::Utf8)))),
        ("APPEND", " INBOX UTF8 (", false, Some(Err(Status::Bad))),
        ("APPEND", " INBOX UTF8(", true, Some(Err(Status::Bad))),
        ("APPEND", " INBOX UTF8 ( ", true, Some(Err(Status::Bad))),
        ("REPLACE", " ", false, Some(Err(Status::Bad))),
        ("REPLACE", " 4 ", false, None),
        ("REPLACE", " 4 INBOX ", false, Some(Ok((old(4, false), Form::Literal)))),
        ("replace", " * INBOX () ", false, Some(Ok((old(0, false), Form::Literal)))),
        ("REPLACE", " 0 INBOX ", false, Some(Err(Status::Bad))),
        ("REPLACE", " 4294967296 INBOX ", false, Some(Err(Status::Bad))),
        ("REPLACE", " 1,2 INBOX ", false, Some(Err(Status::Bad))),
        ("UID", " REPLACE 4 ", false, None),
        ("UID", " replace 4 INBOX ", true, Some(Ok((old(4, true), Form::Binary)))),
        ("UID", " REPLACE 4 a//b ", true, Some(Err(Status::No))),
        ("UID", " COPY 4 ", true, None),
        ("UID", " ", true, None),
        ("SELECT", " ", true, None),
    ];
    for (verb, arguments, binary, expected) in cases {
        let (word, _) = Verb::read(verb.as_bytes()).unwrap();
        let got = first_message(&word, arguments.as_bytes(), binary, Names::Mutf7);
        let got = got.map(|start| start.map(|(old, _, options)| (old, options.form)).map_err(|bad| bad.status));
        assert_eq!(got, expected, "{verb}{arguments:?}");
    }
}
