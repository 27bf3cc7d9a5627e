//! NOTIFY (RFC 5465 section 8).

use nom::{
    Parser,
    branch::alt,
    bytes::complete::tag_no_case,
    character::complete::char,
    combinator::{map, opt, value},
    multi::separated_list1,
    sequence::{delimited, preceded},
};

use super::{
    Command, FetchItem,
    fetch::{each_once, item},
    grammar::{Fault, Parsed, atom, list1, mailbox, sp, whole},
};
use crate::imap::{
    mailbox::{MailboxName, Names},
    write::Code,
};

/// What NOTIFY SET asks to be told of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NotifySet {
    /// A STATUS response for each mailbox first.
    pub status: bool,
    /// What of the mailbox that is open; none: nothing.
    pub selected: Option<NotifySelected>,
    /// What of others.
    pub groups: Vec<NotifyGroup>,
}

/// Events of the mailbox that is open. Without any the peer wants none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NotifySelected {
    /// Removals wait for a command that allows them (SELECTED-DELAYED).
    pub delayed: bool,
    /// Messages that come and go.
    pub messages: bool,
    /// What is told of a message that came, besides that it did.
    pub items: Vec<FetchItem>,
    /// Flags that change; then `messages` is set too.
    pub flags: bool,
}

/// Events of other mailboxes.
#[derive(Clone, Debug, PartialEq)]
pub struct NotifyGroup {
    /// Which.
    pub mailboxes: NotifyMailboxes,
    /// Which events, each once; none: the peer wants none.
    pub events: Vec<EventKind>,
}

/// Which mailboxes (RFC 5465 section 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifyMailboxes {
    /// All of the owner's; INBOXES is the same here, for mail may be delivered into any of them.
    Personal,
    /// Those the owner is subscribed to, as that changes.
    Subscribed,
    /// These and all below.
    Subtree(Vec<MailboxName>),
    /// These.
    Mailboxes(Vec<MailboxName>),
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A message came.
    MessageNew,
    /// A message went.
    MessageExpunge,
    /// A message's flags or keywords changed.
    FlagChange,
    /// A mailbox was made, deleted or renamed.
    MailboxName,
    /// A mailbox was subscribed to, or not any more.
    SubscriptionChange,
    /// An annotation of a mailbox changed.
    MailboxMetadataChange,
    /// An annotation of the mail as a whole changed.
    ServerMetadataChange,
}

impl EventKind {
    const ALL: [(Self, &'static str); 7] = [
        (Self::MessageNew, "MessageNew"),
        (Self::MessageExpunge, "MessageExpunge"),
        (Self::FlagChange, "FlagChange"),
        (Self::MailboxName, "MailboxName"),
        (Self::SubscriptionChange, "SubscriptionChange"),
        (Self::MailboxMetadataChange, "MailboxMetadataChange"),
        (Self::ServerMetadataChange, "ServerMetadataChange"),
    ];

    /// Whether it is about messages.
    pub fn is_of_messages(self) -> bool {
        self <= Self::FlagChange
    }

    /// The names of all of them, a space between.
    pub(in crate::imap) fn every_name() -> String {
        Self::ALL.map(|(_, name)| name).join(" ")
    }
}

/// Most mailboxes that are named in one command, and most groups.
const MAX_NAMED: usize = 500;

const UNPAIRED: Fault = Fault::syntax("MessageNew and MessageExpunge go together, and FlagChange with both");

pub(super) fn notify(arguments: &[u8], names: Names) -> Result<Command, Fault> {
    let none = map(preceded(sp, tag_no_case("NONE")), |_| None);
    let groups = separated_list1(sp, |i| group(i, names));
    let set = preceded((sp, tag_no_case("SET")), (opt(preceded(sp, tag_no_case("STATUS"))), preceded(sp, groups)));
    let Some((status, groups)) = whole(alt((none, map(set, Some))), arguments)? else {
        return Ok(Command::Notify(None));
    };
    let mut asked = NotifySet { status: status.is_some(), ..NotifySet::default() };
    let mut named = groups.len();
    for group in groups {
        let Group { filter, events } = group;
        let kinds = kinds(&events)?;
        match filter {
            Filter::Selected { .. } if asked.selected.is_some() => {
                return Err(Fault::syntax("SELECTED and SELECTED-DELAYED may stand once"));
            }
            Filter::Selected { delayed } => {
                if !kinds.iter().all(|kind| kind.is_of_messages()) {
                    return Err(Fault::syntax("Of the selected mailbox only messages can be told"));
                }
                let items = events.into_iter().flat_map(|event| event.items.unwrap_or_default());
                let items = each_once(items.collect())?;
                let messages = kinds.contains(&EventKind::MessageNew);
                let flags = kinds.contains(&EventKind::FlagChange);
                asked.selected = Some(NotifySelected { delayed, messages, items, flags });
            }
            Filter::Other(mailboxes) => {
                if events.iter().any(|event| event.items.is_some()) {
                    return Err(Fault::syntax("Only of the selected mailbox more can be told of a message"));
                }
                if let NotifyMailboxes::Subtree(list) | NotifyMailboxes::Mailboxes(list) = &mailboxes {
                    named += list.len();
                }
                asked.groups.push(NotifyGroup { mailboxes, events: kinds });
            }
        }
    }
    if named > MAX_NAMED {
        return Err(Fault::no(Code::NotificationOverflow, "At most 500 mailboxes can be named"));
    }
    Ok(Command::Notify(Some(asked)))
}

/// The events of a group, each once; those that must go together do.
fn kinds(events: &[Event]) -> Result<Vec<EventKind>, Fault> {
    let mut kinds = Vec::with_capacity(events.len());
    for event in events {
        let Some(kind) = event.kind else {
            return Err(Fault::no(Code::BadEvent, "An event that is not known here"));
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let has = |kind| kinds.contains(&kind);
    let pair = has(EventKind::MessageNew) && has(EventKind::MessageExpunge);
    if !pair && kinds.iter().any(|kind| kind.is_of_messages()) {
        return Err(UNPAIRED);
    }
    Ok(kinds)
}

struct Group {
    filter: Filter,
    events: Vec<Event>,
}

#[derive(Clone)]
enum Filter {
    Selected { delayed: bool },
    Other(NotifyMailboxes),
}

/// An event as it was written; no kind: one that is not known.
struct Event {
    kind: Option<EventKind>,
    items: Option<Vec<FetchItem>>,
}

/// `"(" filter-mailboxes SP events ")"`
fn group(i: &[u8], names: Names) -> Parsed<'_, Group> {
    let events = alt((value_none, list1(event)));
    let (rest, (filter, events)) =
        delimited(char('('), (|i| filter(i, names), preceded(sp, events)), char(')')).parse(i)?;
    Ok((rest, Group { filter, events }))
}

/// `NONE`
fn value_none(i: &[u8]) -> Parsed<'_, Vec<Event>> {
    map(tag_no_case("NONE"), |_| Vec::new()).parse(i)
}

fn filter(i: &[u8], names: Names) -> Parsed<'_, Filter> {
    let one_or_more = || alt((list1(mailbox(names)), map(mailbox(names), |one| vec![one])));
    let other = alt((
        value(NotifyMailboxes::Personal, alt((tag_no_case("INBOXES"), tag_no_case("PERSONAL")))),
        value(NotifyMailboxes::Subscribed, tag_no_case("SUBSCRIBED")),
        map(preceded((tag_no_case("SUBTREE"), sp), one_or_more()), NotifyMailboxes::Subtree),
        map(preceded((tag_no_case("MAILBOXES"), sp), one_or_more()), NotifyMailboxes::Mailboxes),
    ));
    alt((
        // The longer word first.
        value(Filter::Selected { delayed: true }, tag_no_case("SELECTED-DELAYED")),
        value(Filter::Selected { delayed: false }, tag_no_case("SELECTED")),
        map(other, Filter::Other),
    ))
    .parse(i)
}

fn event(i: &[u8]) -> Parsed<'_, Event> {
    let (rest, name) = atom(i)?;
    let known = EventKind::ALL.into_iter().find(|(_, known)| known.eq_ignore_ascii_case(name.inner()));
    let kind = known.map(|(kind, _)| kind);
    let (rest, items) = match kind {
        Some(EventKind::MessageNew) => opt(preceded(sp, list1(item))).parse(rest)?,
        _ => (rest, None),
    };
    Ok((rest, Event { kind, items }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;
    use crate::imap::write::Status;

    fn read(arguments: &str) -> Result<Option<NotifySet>, Fault> {
        match notify(format!("{arguments}\r\n").as_bytes(), Names::Mutf7)? {
            Command::Notify(set) => Ok(set),
            other => panic!("{other:?}"),
        }
    }

    fn name(text: &str) -> MailboxName {
        MailboxName::parse(text).unwrap()
    }

    #[test]
    fn the_rfc_s_examples_are_read() {
        use EventKind::{FlagChange, MailboxName, MessageExpunge, MessageNew, SubscriptionChange};
        assert_eq!(read(" NONE").unwrap(), None);
        let set = read(
            " set status (selected (MessageNew (uid body.peek[header.fields (from to subject)]) MessageExpunge)) \
             (subtree Lists (MessageNew messageExpunge))",
        );
        let set = set.unwrap().unwrap();
        let selected = set.selected.unwrap();
        assert_eq!((set.status, selected.delayed, selected.items.len(), selected.flags), (true, false, 2, false));
        let lists = NotifyMailboxes::Subtree(vec![name("Lists")]);
        assert_eq!(set.groups, [NotifyGroup { mailboxes: lists, events: vec![MessageNew, MessageExpunge] }]);

        let set =
            read(" set (mailboxes INBOX (Messagenew messageExpunge)) (personal (SubscriptionChange MailboxName))");
        let set = set.unwrap().unwrap();
        assert_eq!((set.status, set.selected), (false, None));
        let inbox = NotifyMailboxes::Mailboxes(vec![name("INBOX")]);
        assert_eq!(
            set.groups,
            [
                NotifyGroup { mailboxes: inbox, events: vec![MessageNew, MessageExpunge] },
                NotifyGroup { mailboxes: NotifyMailboxes::Personal, events: vec![SubscriptionChange, MailboxName] },
            ]
        );
        let set =
            read(" SET (SELECTED-DELAYED NONE) (inboxes (FlagChange MessageNew MessageExpunge)) (subscribed NONE)");
        let set = set.unwrap().unwrap();
        assert_eq!(set.selected, Some(NotifySelected { delayed: true, ..NotifySelected::default() }));
        assert_eq!(set.groups.first().unwrap().events, [FlagChange, MessageNew, MessageExpunge]);
        let set = read(" SET (mailboxes (a \"b c\") (MailboxName))").unwrap().unwrap();
        let named = NotifyMailboxes::Mailboxes(vec![name("a"), name("b c")]);
        assert_eq!(set.groups.first().unwrap().mailboxes, named);
    }

    #[test]
    fn what_the_rfc_forbids_is_refused() {
        for wrong in [
            "",
            " SET",
            " SET STATUS",
            " NONE x",
            " SET (selected (MessageNew))",
            " SET (selected (MessageExpunge))",
            " SET (selected (FlagChange))",
            " SET (personal (FlagChange MessageNew))",
            " SET (selected NONE) (selected-delayed NONE)",
            " SET (selected (MailboxName))",
            " SET (personal (MessageNew (UID) MessageExpunge))",
            " SET (personal MessageNew MessageExpunge)",
            " SET (personal ())",
            " SET (subtree () (MailboxName))",
            " SET (selected (MessageNew (NOSUCH) MessageExpunge))",
            " SET (elsewhere (MailboxName))",
        ] {
            let status = read(wrong).map(drop).map_err(|fault| fault.bad().status);
            assert_eq!(status, Err(Status::Bad), "{wrong}");
        }
        for unknown in [" SET (personal (AnnotationChange))", " SET (selected (MessageNew Else MessageExpunge))"] {
            let bad = read(unknown).map(drop).map_err(Fault::bad).unwrap_err();
            assert_eq!((bad.status, bad.code), (Status::No, Some(Code::BadEvent)), "{unknown}");
        }
        let many = vec!["(personal NONE)"; MAX_NAMED + 1].join(" ");
        let bad = read(&format!(" SET {many}")).map(drop).map_err(Fault::bad).unwrap_err();
        assert_eq!(bad.code, Some(Code::NotificationOverflow));
    }

    #[test]
    fn what_is_told_of_a_message_is_asked_for_once_and_within_bounds() {
        let asked = |items: &str| read(&format!(" SET (selected (MessageNew ({items}) MessageExpunge))"));
        let items = |items: &str| asked(items).unwrap().unwrap().selected.unwrap().items;
        assert_eq!(items("UID FLAGS BODY.PEEK[] UID BODY.PEEK[] FLAGS").len(), 3);
        let parts = |count: usize| (1..=count).map(|n| format!("BODY.PEEK[{n}]")).collect::<Vec<_>>().join(" ");
        assert_eq!(items(&parts(200)).len(), 200);
        let bad = asked(&parts(201)).map(drop).map_err(Fault::bad).unwrap_err();
        assert_eq!((bad.status, bad.code), (Status::No, Some(Code::Limit)));
        let twice = format!(" SET (selected (MessageNew ({0}) MessageNew ({0}) MessageExpunge))", parts(101));
        assert_eq!(read(&twice).map(drop).map_err(Fault::bad).unwrap_err().code, Some(Code::Limit));
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = notify(&bytes, Names::Utf8);
        }

        #[test]
        fn nor_do_pieces_of_it(
            words in proptest::collection::vec("[ ()]|SET|STATUS|NONE|selected|personal|subtree|MessageNew|\\(UID\\)|x", 0..14),
        ) {
            let _ = notify((words.join(" ") + "\r\n").as_bytes(), Names::Utf8);
        }
    }
}
