//! What imap-codec accepts of our own grammar's verbs, we accept too, and mean the same by it.
//!
//! Left out is what the base level does not offer, and so refuses: BINARY, empty item lists, and what the
//! base level bounds; of QRESYNC the match data, which imap-codec takes in any order.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

use imap_codec::{
    CommandCodec,
    decode::Decoder,
    imap_types::{
        IntoStatic,
        command::{CommandBody, FetchModifier, SelectParameter, StoreModifier},
        core::{AString, Charset},
        extensions::{sort::SortKey as TheirSortKey, thread::ThreadingAlgorithm},
        fetch::{Macro, MacroOrMessageDataItemNames, MessageDataItemName, Part, Section as TheirSection},
        flag::{Flag, StoreResponse},
        mailbox::{ListMailbox, Mailbox},
        search::SearchKey as Theirs,
        sequence::SequenceSet,
        status::StatusDataItemName,
    },
};
use portcullis::imap::{
    command::{
        Command, FetchItem, Resync, Search, SearchKey, Section, SectionText, Since, Sort, SortBy, SortKey,
        StatusItem, Thread, ThreadBy,
    },
    frame::{Framer, Limits, Step},
    mailbox::{MailboxName, Pattern},
    mutf7,
    set::{self, MessageSet},
};
use portcullis::model::UnixTime;
use proptest::prelude::*;

/// What we make of the line: the command as text, or the refusal.
fn ours(line: &[u8]) -> Result<String, String> {
    let mut framer = Framer::new(Limits::default());
    framer.signed_in();
    framer.buffer().extend_from_slice(line);
    loop {
        match framer.next() {
            Step::Continue => {}
            Step::Command(tagged) => return Ok(format!("{:?}", tagged.command)),
            Step::Append(head) => {
                return Ok(format!(
                    "{:?} {:?} {:?} {}",
                    head.mailbox, head.message.flags, head.message.date, head.message.size
                ));
            }
            Step::Bad(bad) => return Err(bad.text.to_owned()),
            other => return Err(format!("{other:?}")),
        }
    }
}

/// What imap-codec makes of it, in our words; `None` where it refuses or where we do not offer it.
fn theirs(line: &[u8]) -> Option<String> {
    let (rest, command) = CommandCodec::default().decode(line).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let ours = match command.body {
        CommandBody::Append { mailbox, flags, date, message } => {
            let size = match message {
                imap_codec::imap_types::extensions::binary::LiteralOrLiteral8::Literal(literal) => {
                    literal.data().len()
                }
                imap_codec::imap_types::extensions::binary::LiteralOrLiteral8::Literal8(_) => return None,
            };
            let date = date.map(|date| UnixTime::from_secs(date.as_ref().timestamp()));
            return Some(format!("{:?} {:?} {date:?} {size}", name(&mailbox)?, once(flags)));
        }
        CommandBody::Create { mailbox } => Command::Create { mailbox: name(&mailbox)?, uses: Vec::new() },
        CommandBody::Copy { sequence_set, mailbox, uid } => {
            Command::Copy { set: MessageSet::Named(sequence_set), mailbox: name(&mailbox)?, uid }
        }
        CommandBody::Move { sequence_set, mailbox, uid } => {
            Command::Move { set: MessageSet::Named(sequence_set), mailbox: name(&mailbox)?, uid }
        }
        CommandBody::ExpungeUid { sequence_set } => Command::Expunge(Some(MessageSet::Named(sequence_set))),
        CommandBody::Select { mailbox, parameters } => selected(&mailbox, false, &parameters)?,
        CommandBody::Examine { mailbox, parameters } => selected(&mailbox, true, &parameters)?,
        CommandBody::Store { sequence_set, kind, response, flags, uid, modifiers } if modifiers.len() < 2 => {
            let silent = response == StoreResponse::Silent;
            let unchanged_since = modifiers.first().map(|StoreModifier::UnchangedSince(modseq)| *modseq);
            if unchanged_since.is_some_and(|modseq| modseq > MAX_MODSEQ) {
                return None;
            }
            Command::Store {
                set: MessageSet::Named(sequence_set),
                kind,
                silent,
                unchanged_since,
                flags: once(flags),
                uid,
            }
        }
        CommandBody::Status { mailbox, item_names } if !item_names.is_empty() => {
            let mut items = Vec::new();
            for item in item_names.iter() {
                let item = match item {
                    StatusDataItemName::Messages => StatusItem::Messages,
                    StatusDataItemName::Recent => StatusItem::Recent,
                    StatusDataItemName::UidNext => StatusItem::UidNext,
                    StatusDataItemName::UidValidity => StatusItem::UidValidity,
                    StatusDataItemName::Unseen => StatusItem::Unseen,
                    StatusDataItemName::Size => StatusItem::Size,
                    _ => return None,
                };
                if !items.contains(&item) {
                    items.push(item);
                }
            }
            Command::Status { mailbox: name(&mailbox)?, items }
        }
        // imap-codec spells a reference `inbox` in capitals, although it is only the start of a name.
        CommandBody::List { reference: Mailbox::Inbox, .. } => return None,
        CommandBody::List { reference, mailbox_wildcard } => {
            let wildcard: &[u8] = match &mailbox_wildcard {
                ListMailbox::Token(token) => token.as_ref(),
                ListMailbox::String(string) => string.as_ref(),
            };
            let reference = mutf7::decode(wire(&reference)).ok()?;
            let pattern = Pattern::new(&reference, &mutf7::decode(wildcard).ok()?);
            return Some(format!("plain list of {pattern:?}"));
        }
        CommandBody::Fetch { sequence_set, macro_or_item_names, uid, modifiers } => {
            let mut items = match macro_or_item_names {
                MacroOrMessageDataItemNames::Macro(name) => {
                    let mut items = vec![FetchItem::Flags, FetchItem::InternalDate, FetchItem::Size];
                    match name {
                        Macro::Fast => {}
                        Macro::All => items.push(FetchItem::Envelope),
                        _ => items.extend([FetchItem::Envelope, FetchItem::Body]),
                    }
                    items
                }
                MacroOrMessageDataItemNames::MessageDataItemNames(names) if names.is_empty() => return None,
                MacroOrMessageDataItemNames::MessageDataItemNames(names) => {
                    let mut items = Vec::new();
                    for name in &names {
                        let item = item(name)?;
                        if !items.contains(&item) {
                            items.push(item);
                        }
                    }
                    items
                }
            };
            let since = match modifiers.as_slice() {
                [] => None,
                [FetchModifier::ChangedSince(modseq)] => Some(Since { modseq: modseq.get(), vanished: false }),
                [FetchModifier::ChangedSince(modseq), FetchModifier::Vanished] if uid => {
                    Some(Since { modseq: modseq.get(), vanished: true })
                }
                _ => return None,
            };
            if since.is_some_and(|since| since.modseq > MAX_MODSEQ) {
                return None;
            }
            if since.is_some() && !items.contains(&FetchItem::Modseq) {
                items.push(FetchItem::Modseq);
            }
            Command::Fetch { set: MessageSet::Named(sequence_set), items, since, uid }
        }
        CommandBody::Search { charset, criteria, uid } => {
            let with_charset = charset.is_some();
            let key = criteria_key(charset.as_ref(), criteria.as_ref())?;
            Command::Search(Search { key, uid, charset: with_charset, returns: None })
        }
        CommandBody::Sort { sort_criteria, charset, search_criteria, uid } => {
            let key = criteria_key(Some(&charset), search_criteria.as_ref())?;
            let mut by: Vec<SortBy> = Vec::new();
            for one in sort_criteria.as_ref() {
                let key = sort_key(&one.key);
                if by.iter().all(|earlier| earlier.key != key) {
                    by.push(SortBy { key, reverse: one.reverse });
                }
            }
            Command::Sort(Sort { search: Search { key, uid, charset: false, returns: None }, by })
        }
        CommandBody::Thread { algorithm, charset, search_criteria, uid } => {
            let key = criteria_key(Some(&charset), search_criteria.as_ref())?;
            let by = match algorithm {
                ThreadingAlgorithm::OrderedSubject => ThreadBy::OrderedSubject,
                ThreadingAlgorithm::References => ThreadBy::References,
                ThreadingAlgorithm::Other(_) => return None,
            };
            Command::Thread(Thread { search: Search { key, uid, charset: false, returns: None }, by })
        }
        _ => return None,
    };
    Some(format!("{ours:?}"))
}

/// Largest mod-sequence of RFC 7162; imap-codec takes the 64 bits of the RFC before it.
const MAX_MODSEQ: u64 = u64::MAX >> 1;

/// SELECT in our words; what imap-codec takes and the RFC does not, is left out.
fn selected(mailbox: &Mailbox<'_>, read_only: bool, parameters: &[SelectParameter]) -> Option<Command> {
    let ranges = |set: &SequenceSet| (!format!("{set:?}").contains("Asterisk")).then(|| set::uids(set, None));
    let (condstore, resync) = match parameters {
        [] => (false, None),
        [SelectParameter::CondStore] => (true, None),
        [SelectParameter::QResync { uid_validity, mod_sequence_value, known_uids, seq_match_data: None }]
            if mod_sequence_value.get() <= MAX_MODSEQ =>
        {
            let known = match known_uids {
                Some(set) => Some(ranges(set)?),
                None => None,
            };
            let (uid_validity, modseq) = (uid_validity.get(), mod_sequence_value.get());
            (false, Some(Resync { uid_validity, modseq, known, matches: None }))
        }
        _ => return None,
    };
    Some(Command::Select { mailbox: name(mailbox)?, read_only, condstore, resync })
}

fn wire<'a>(mailbox: &'a Mailbox<'_>) -> &'a [u8] {
    match mailbox {
        Mailbox::Inbox => b"INBOX",
        Mailbox::Other(other) => other.inner().as_ref(),
    }
}

fn name(mailbox: &Mailbox<'_>) -> Option<MailboxName> {
    MailboxName::decode(wire(mailbox)).ok()
}

fn once(flags: Vec<Flag<'_>>) -> Vec<Flag<'static>> {
    let mut kept: Vec<Flag<'static>> = Vec::new();
    for flag in flags {
        if !kept.iter().any(|k| k.to_string().eq_ignore_ascii_case(&flag.to_string())) {
            kept.push(flag.into_static());
        }
    }
    kept
}

fn item(name: &MessageDataItemName<'_>) -> Option<FetchItem> {
    Some(match name {
        MessageDataItemName::Body => FetchItem::Body,
        MessageDataItemName::BodyStructure => FetchItem::BodyStructure,
        MessageDataItemName::Envelope => FetchItem::Envelope,
        MessageDataItemName::Flags => FetchItem::Flags,
        MessageDataItemName::InternalDate => FetchItem::InternalDate,
        MessageDataItemName::Rfc822 => FetchItem::Rfc822,
        MessageDataItemName::Rfc822Header => FetchItem::Rfc822Header,
        MessageDataItemName::Rfc822Size => FetchItem::Size,
        MessageDataItemName::Rfc822Text => FetchItem::Rfc822Text,
        MessageDataItemName::Uid => FetchItem::Uid,
        MessageDataItemName::ModSeq => FetchItem::Modseq,
        MessageDataItemName::BodyExt { section, partial, peek } => FetchItem::Section {
            section: section.as_ref().map_or(Some(Section::default()), |s| self::section(s))?,
            partial: partial.map(|(first, most)| (first, most.get())),
            peek: *peek,
        },
        _ => return None,
    })
}

fn section(section: &TheirSection<'_>) -> Option<Section> {
    let part = |part: &Part| part.0.as_ref().iter().map(|n| n.get()).collect::<Vec<_>>();
    let some = |p: &Option<Part>| p.as_ref().map(part).unwrap_or_default();
    let names = |names: &[AString<'_>]| {
        let names = names.iter().map(|n| String::from_utf8(n.as_ref().to_vec()).ok());
        names.map(|n| n.filter(|n| n.bytes().all(|b| (b' '..=b'~').contains(&b)))).collect::<Option<Vec<_>>>()
    };
    Some(match section {
        TheirSection::Part(p) => Section { part: part(p), text: SectionText::All },
        TheirSection::Header(p) => Section { part: some(p), text: SectionText::Header },
        TheirSection::HeaderFields(p, n) => {
            Section { part: some(p), text: SectionText::HeaderFields(names(n.as_ref())?) }
        }
        TheirSection::HeaderFieldsNot(p, n) => {
            Section { part: some(p), text: SectionText::HeaderFieldsNot(names(n.as_ref())?) }
        }
        TheirSection::Text(p) => Section { part: some(p), text: SectionText::Text },
        TheirSection::Mime(p) => Section { part: part(p), text: SectionText::Mime },
    })
}

/// The keys of a search in UTF-8.
fn criteria_key(charset: Option<&Charset<'_>>, criteria: &[Theirs<'_>]) -> Option<SearchKey> {
    if charset.is_some_and(|charset| !charset.as_ref().eq_ignore_ascii_case("UTF-8")) {
        return None;
    }
    let mut keys = criteria.iter().map(key).collect::<Option<Vec<_>>>()?;
    if keys.len() == 1 { keys.pop() } else { Some(SearchKey::And(keys)) }
}

fn sort_key(theirs: &TheirSortKey) -> SortKey {
    match theirs {
        TheirSortKey::Arrival => SortKey::Arrival,
        TheirSortKey::Cc => SortKey::Cc,
        TheirSortKey::Date => SortKey::Date,
        TheirSortKey::From => SortKey::From,
        TheirSortKey::Size => SortKey::Size,
        TheirSortKey::Subject => SortKey::Subject,
        TheirSortKey::To => SortKey::To,
        TheirSortKey::DisplayFrom => SortKey::DisplayFrom,
        TheirSortKey::DisplayTo => SortKey::DisplayTo,
    }
}

fn key(theirs: &Theirs<'_>) -> Option<SearchKey> {
    let text = |value: &AString<'_>| String::from_utf8(value.as_ref().to_vec()).ok();
    let has = |flag: Flag<'static>| Some(SearchKey::Flag(flag));
    let lacks = |flag: Flag<'static>| Some(SearchKey::Not(Box::new(SearchKey::Flag(flag))));
    let header = |name: &str, value| Some(SearchKey::Header { name: name.to_owned(), text: text(value)? });
    let date = |date: &imap_codec::imap_types::datetime::NaiveDate| *date.as_ref();
    match theirs {
        Theirs::And(keys) => {
            let mut keys = keys.as_ref().iter().map(key).collect::<Option<Vec<_>>>()?;
            if keys.len() == 1 { keys.pop() } else { Some(SearchKey::And(keys)) }
        }
        Theirs::SequenceSet(set) => Some(SearchKey::Numbers(set.clone())),
        Theirs::Uid(set) => Some(SearchKey::Uids(set.clone())),
        Theirs::All => Some(SearchKey::All),
        Theirs::Answered => has(Flag::Answered),
        Theirs::Deleted => has(Flag::Deleted),
        Theirs::Draft => has(Flag::Draft),
        Theirs::Flagged => has(Flag::Flagged),
        Theirs::Seen => has(Flag::Seen),
        Theirs::Unanswered => lacks(Flag::Answered),
        Theirs::Undeleted => lacks(Flag::Deleted),
        Theirs::Undraft => lacks(Flag::Draft),
        Theirs::Unflagged => lacks(Flag::Flagged),
        Theirs::Unseen => lacks(Flag::Seen),
        Theirs::Keyword(word) => has(Flag::keyword(word.clone().into_static())),
        Theirs::Unkeyword(word) => lacks(Flag::keyword(word.clone().into_static())),
        Theirs::Recent => Some(SearchKey::Recent),
        Theirs::Old => Some(SearchKey::Not(Box::new(SearchKey::Recent))),
        Theirs::New => {
            Some(SearchKey::And(vec![SearchKey::Recent, SearchKey::Not(Box::new(SearchKey::Flag(Flag::Seen)))]))
        }
        Theirs::Bcc(value) => header("BCC", value),
        Theirs::Cc(value) => header("CC", value),
        Theirs::From(value) => header("FROM", value),
        Theirs::Subject(value) => header("SUBJECT", value),
        Theirs::To(value) => header("TO", value),
        Theirs::Header(name, value) => {
            let name = text(name).filter(|n| n.bytes().all(|b| (b' '..=b'~').contains(&b)))?;
            header(&name, value)
        }
        Theirs::Body(value) => Some(SearchKey::Body(text(value)?)),
        Theirs::Text(value) => Some(SearchKey::Text(text(value)?)),
        Theirs::Larger(size) => Some(SearchKey::Larger(u64::from(*size))),
        Theirs::Smaller(size) => Some(SearchKey::Smaller(u64::from(*size))),
        Theirs::Before(day) => Some(SearchKey::Before(date(day))),
        Theirs::On(day) => Some(SearchKey::On(date(day))),
        Theirs::Since(day) => Some(SearchKey::Since(date(day))),
        Theirs::SentBefore(day) => Some(SearchKey::SentBefore(date(day))),
        Theirs::SentOn(day) => Some(SearchKey::SentOn(date(day))),
        Theirs::SentSince(day) => Some(SearchKey::SentSince(date(day))),
        Theirs::ModSequence { entry: None, modseq } if *modseq <= MAX_MODSEQ => Some(SearchKey::Modseq(*modseq)),
        Theirs::Older(seconds) => Some(SearchKey::Older(*seconds)),
        Theirs::Younger(seconds) => Some(SearchKey::Younger(*seconds)),
        Theirs::Not(inner) => Some(SearchKey::Not(Box::new(key(inner)?))),
        Theirs::Or(one, other) => Some(SearchKey::Or(Box::new(key(one)?), Box::new(key(other)?))),
        _ => None,
    }
}

/// Fails where both accept and differ, and where only imap-codec accepts what we offer.
fn agree(line: &[u8]) -> Result<bool, String> {
    let Some(theirs) = theirs(line) else {
        return Ok(false);
    };
    let ours = ours(line).map_err(|text| format!("refused by us: {text}; theirs: {theirs}"))?;
    if let Some(pattern) = theirs.strip_prefix("plain list of ") {
        let plain = format!("List(List {{ patterns: [{pattern}], select: ListSelect {{ subscribed: false, ");
        return if ours.starts_with(&plain) && ours.contains("extended: false, separator: ") {
            Ok(true)
        } else {
            Err(ours)
        };
    }
    if ours == theirs { Ok(true) } else { Err(format!("ours: {ours}; theirs: {theirs}")) }
}

#[test]
fn real_commands_mean_the_same_to_both() {
    let lines = [
        "FETCH 1:* (FLAGS UID)",
        "UID fetch 1:3,7 (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc \"Message-ID\")])",
        "FETCH 1 BODY[2.MIME]",
        "FETCH 1 BODY[3]<100.50>",
        "fetch 1 all",
        "FETCH *:4 BODY[1.2.HEADER.FIELDS.NOT (a {1}\r\nb)]<0.1>",
        "UID store 1 +Flags (\\Flagged)",
        "STORE 1 +FLAGS.SILENT Old \\Seen",
        "UID SEARCH CHARSET UTF-8 ALL",
        "SEARCH OR (SEEN FROM \"a b\") NOT UID 3:* SINCE 1-Feb-2020",
        "SORT (SUBJECT reverse DATE) UTF-8 ALL",
        "UID SORT (DISPLAYFROM) \"UTF-8\" UNDELETED YOUNGER 60",
        "THREAD references UTF-8 OLDER 60",
        "UID THREAD ORDEREDSUBJECT UTF-8 SINCE 5-MAR-2000",
        "UID COPY 1 {3}\r\nabc",
        "MOVE 1,* Entw&APw-rfe",
        "UID EXPUNGE 1:5",
        "STATUS \"a b\" (MESSAGES UIDNEXT SIZE)",
        "CREATE foo",
        "SELECT a (CONDSTORE)",
        "EXAMINE a (QRESYNC (7 9 1:4,9))",
        "select inbox (qresync (7 9))",
        "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 7 VANISHED)",
        "FETCH 1 (MODSEQ) (CHANGEDSINCE 7)",
        "STORE 1 (UNCHANGEDSINCE 0) +FLAGS ($MDNSent)",
        "SEARCH MODSEQ 7",
        "LIST \"\" *",
        "list a/ \"b%\"",
        "APPEND Sent (\\Seen) \" 7-Feb-1994 21:52:25 -0800\" {2}\r\nhi",
        "APPEND {3+}\r\na b {2+}\r\nhi",
    ];
    for line in lines {
        assert_eq!(agree(format!("a {line}\r\n").as_bytes()), Ok(true), "{line}");
    }
}

/// Pieces of commands, mostly fitting together.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let set = prop_oneof!["[1-9*](:[1-9*])?(,[1-9]{1,3}){0,3}", "[0-9*:,]{0,6}"].boxed();
    let text = prop_oneof![
        "[a-zA-Z0-9.&/+%*-]{0,8}",
        "\"[ -!#-Z^-~]{0,8}\"",
        "\"(\\\\[\"\\\\]|[a-zé ]){0,4}\"",
        "[a-zé\" \\r\\n]{0,6}".prop_map(|t: String| format!("{{{}}}\r\n{t}", t.len())),
        "[a-z]{0,6}".prop_map(|t: String| format!("{{{}+}}\r\n{t}", t.len())),
    ]
    .boxed();
    let word = prop_oneof![
        Just("INBOX".to_owned()),
        Just("inbox".to_owned()),
        Just("Entw&APw-rfe".to_owned()),
        text.clone(),
    ]
    .boxed();
    let flags = prop_oneof![
        "\\((\\\\?(Seen|Flagged|Recent|[a-z$]{1,4}))?( \\\\?(seen|Draft|[a-zA-Z$]{1,4})){0,3}\\)",
        "\\\\?(Seen|Old|[a-z]{1,3})( \\\\(Draft|deleted)){0,2}",
    ]
    .boxed();
    let part = "([1-9](\\.[1-9]){0,2})?(\\.?(HEADER|TEXT|MIME|header))?";
    let fields =
        (part, prop::sample::select(vec![".FIELDS", ".fields.not"]), prop::collection::vec(text.clone(), 1..3))
            .prop_map(|(p, f, names)| format!("{p}{f} ({})", names.join(" ")));
    let section = (prop_oneof![part.prop_map(|p| p), fields], "(<[0-9]{1,2}\\.[0-9]{1,2}>)?", "(\\.PEEK|\\.peek|)")
        .prop_map(|(s, partial, peek)| format!("BODY{peek}[{s}]{partial}"));
    let item = prop_oneof![
        "UID|flags|INTERNALDATE|RFC822|RFC822\\.SIZE|rfc822\\.header|RFC822\\.TEXT|ENVELOPE|BODY|bodystructure|ALL|FAST|FULL",
        section,
    ];
    let items = prop_oneof![
        item.clone(),
        prop::collection::vec(item, 0..4).prop_map(|items| format!("({})", items.join(" ")))
    ];
    let date = prop_oneof!["[0-3]?[0-9]-(Jan|feb|DEC)-(19|20)[0-9]{2}", "\"[12][0-9]-Mar-2020\""].boxed();
    let leaf = prop_oneof![
        Just(String::new())
            .prop_flat_map(|_| prop::sample::select(vec![
                "ALL",
                "answered",
                "DELETED",
                "DRAFT",
                "FLAGGED",
                "NEW",
                "OLD",
                "RECENT",
                "SEEN",
                "UNANSWERED",
                "UNDELETED",
                "UNDRAFT",
                "UNFLAGGED",
                "UNSEEN",
                "LARGER 5",
                "MODSEQ 0",
                "modseq 9223372036854775808",
                "smaller 4294967295",
                "KEYWORD $Junk",
                "UNKEYWORD x",
                "OLDER 3600",
                "younger 4294967295",
            ]))
            .prop_map(str::to_owned),
        (prop::sample::select(vec!["BCC", "BODY", "CC", "From", "SUBJECT", "TEXT", "TO"]), text.clone())
            .prop_map(|(k, t)| format!("{k} {t}")),
        (text.clone(), text.clone()).prop_map(|(n, t)| format!("HEADER {n} {t}")),
        (prop::sample::select(vec!["BEFORE", "ON", "since", "SENTBEFORE", "SENTON", "SENTSINCE"]), date)
            .prop_map(|(k, d)| format!("{k} {d}")),
        set.clone(),
        set.clone().prop_map(|s| format!("UID {s}")),
    ];
    let keys = leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|k| format!("NOT {k}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("OR {a} {b}")),
            prop::collection::vec(inner, 1..3).prop_map(|all| format!("({})", all.join(" "))),
        ]
    });
    let search = prop::collection::vec(keys, 1..4).prop_map(|all| all.join(" "));
    let date_time =
        "\"( [1-9]|[0-3][0-9])-(Jan|FEB)-20[0-9]{2} [0-2][0-9]:[0-5][0-9]:[0-5][0-9] [+-][01][0-9][0-5]0\"";
    let body = prop_oneof![
        (set.clone(), items, "( \\(CHANGEDSINCE [0-9]{1,20}( VANISHED)?\\))?")
            .prop_map(|(s, i, m)| format!("FETCH {s} {i}{m}")),
        (set.clone(), "( \\(UNCHANGEDSINCE [0-9]{1,20}\\))?", "[+-]?FLAGS(\\.SILENT)?", flags.clone())
            .prop_map(|(s, m, k, f)| format!("STORE {s}{m} {k} {f}")),
        ("(COPY|MOVE)", set.clone(), word.clone()).prop_map(|(v, s, m)| format!("{v} {s} {m}")),
        ("( CHARSET UTF-8)?", search.clone()).prop_map(|(c, k)| format!("SEARCH{c} {k}")),
        ("((REVERSE |)(ARRIVAL|cc|DATE|From|SIZE|SUBJECT|TO|DISPLAYFROM|DisplayTo)( |)){1,3}", search.clone())
            .prop_map(|(by, k)| format!("SORT ({}) UTF-8 {k}", by.trim_end())),
        ("(references|ORDEREDSUBJECT)", search).prop_map(|(by, k)| format!("THREAD {by} UTF-8 {k}")),
        set.prop_map(|s| format!("EXPUNGE {s}")),
        word.clone().prop_map(|m| format!("CREATE {m}")),
        (
            "(SELECT|examine)",
            word.clone(),
            "( \\(CONDSTORE\\)| \\(QRESYNC \\([0-9]{1,9} [0-9]{1,20}( [1-9:,]{1,5})?\\)\\))?"
        )
            .prop_map(|(v, m, p)| format!("{v} {m}{p}")),
        (word.clone(), "\\((MESSAGES|unseen|SIZE)( (RECENT|UIDNEXT|UIDVALIDITY|SIZE)){0,3}\\)")
            .prop_map(|(m, i)| format!("STATUS {m} {i}")),
        (word.clone(), text).prop_map(|(r, p)| format!("LIST {r} {p}")),
        (word, flags, date_time, "(f|d|fd|)").prop_map(|(m, f, d, which)| {
            let f = if which.contains('f') { format!(" {f}") } else { String::new() };
            let d = if which.contains('d') { format!(" {d}") } else { String::new() };
            format!("APPEND {m}{f}{d} {{2}}\r\nhi")
        }),
    ];
    ("(UID |uid |)", body).prop_map(|(uid, body)| format!("a1 {uid}{body}\r\n").into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_the_codec_accepts_we_accept_and_mean_the_same(line in line()) {
        if let Err(difference) = agree(&line) {
            prop_assert!(false, "{:?}: {difference}", String::from_utf8_lossy(&line));
        }
    }

    #[test]
    fn also_with_a_byte_changed(line in line(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut line = line;
        let at = at.index(line.len());
        line[at] = byte;
        if let Err(difference) = agree(&line) {
            prop_assert!(false, "{:?}: {difference}", String::from_utf8_lossy(&line));
        }
    }
}

#[test]
fn most_of_what_is_tried_is_accepted_by_both() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let lines = (0..1_000).map(|_| line().new_tree(&mut runner).unwrap().current());
    let accepted = lines.filter(|line| agree(line) == Ok(true)).count();
    assert!(accepted > 300, "only {accepted} of 1000 tell us anything");
}
