//! FETCH and UID FETCH (RFC 3501 section 6.4.5): answers are written item by item, message bodies are streamed from
//! the disk to the wire.

mod many;
mod section;

use self::{
    many::{Many, Way, known},
    section::{body_section, stream},
};
use super::{
    binary,
    messages::gone,
    modseq,
    news::{Selected, flag_names},
    preview::preview,
    reply::{Answer, Reply, refuse},
    source::{Look, Source},
    structure,
    turn::worked,
};
use crate::imap::{
    command::{FetchItem, SectionText, Since},
    set::{self, MessageSet},
    write::{self, Code, FetchLine},
};
use crate::maildir::{FlagOp, Flags, MailError, Mode, View};
use crate::message;
use crate::session::{Ending, login::Dialog};

/// `\Seen` is stored for this many messages at a time: each time costs the disk two syncs.
const SEEN_BATCH: usize = 100;
/// Largest message that is read for a lazy preview (RFC 8970 section 3.2): for others it is not there. In bytes.
const LAZY_MOST: u64 = 256 * 1024;

pub(super) async fn fetch(
    dialog: &mut Dialog,
    selected: &mut Selected,
    set: &MessageSet,
    items: &[FetchItem],
    since: Option<Since>,
    uid: bool,
) -> Answer {
    let Some(mut numbers) = selected.numbers(set, uid) else { return Ok(Reply::bad("No such message number")) };
    let view = &mut selected.view;
    if let Some(since) = since {
        if since.vanished {
            let asked = match set {
                // The last message may be among those that are gone, so `*` is any UID above.
                MessageSet::Named(set) => set::uids(set, Some(u32::MAX)),
                MessageSet::Saved => selected.saved.clone(),
            };
            let asked: Vec<_> = asked.iter().collect();
            write::vanished(&mut dialog.link.wire.out, true, &view.vanished_since(since.modseq, &asked));
        }
        numbers = modseq::changed_since(view, numbers.numbers(), since.modseq).await.into_iter().collect();
    }
    let ask = Ask {
        items,
        uid,
        look: items.iter().map(look).max().unwrap_or(Look::Nowhere),
        reads: items.iter().any(needs_bytes),
        measures: items.iter().any(is_measured),
        condstore: dialog.enabled.condstore,
        sees: view.mode() == Mode::ReadWrite && items.iter().any(FetchItem::sets_seen),
        lazy: items.contains(&FetchItem::Preview { lazy: true }),
    };
    let (mut failed, mut unknown) = (None, false);
    let mut seen = Vec::new();
    let mut many = Many::new(Way::of(items, ask.sees), numbers.numbers());
    while let Some(number) = many.next(dialog, view, &ask).await? {
        dialog.link.may_go_on()?;
        match one(dialog, view, number, &ask).await? {
            Told::Seen => seen.push(number),
            Told::All => {}
            Told::Unknown => unknown = true,
            Told::Nothing(MailError::Gone { .. }) if uid => {}
            Told::Nothing(error) => failed = Some(error),
        }
        if seen.len() >= SEEN_BATCH {
            failed = store_seen(view, &mut seen, ask.condstore).await.or(failed);
        }
        dialog.link.wire.push().await?;
        tokio::task::consume_budget().await;
    }
    failed = store_seen(view, &mut seen, ask.condstore).await.or(failed);
    Ok(match failed {
        None if unknown => Reply::no(Code::UnknownCte, "Some of the parts are encoded in an unknown way"),
        None => Reply::ok("FETCH done"),
        Some(MailError::Gone { .. }) => gone(dialog),
        Some(error) => refuse(dialog, &error),
    })
}

/// Stores what the peer has been told already; the next command comes after it.
///
/// With `condstore` the news tell the new mod-sequences, which were not there yet to be told (RFC 7162 section 3.2.4).
async fn store_seen(view: &mut View, numbers: &mut Vec<u32>, condstore: bool) -> Option<MailError> {
    if numbers.is_empty() {
        return None;
    }
    let stored = view.store_flags(numbers, FlagOp::Add, Flags::SEEN, &[]).await;
    numbers.clear();
    if condstore {
        view.tell_own();
    }
    stored.err()
}

/// What a FETCH asks of each message.
struct Ask<'a> {
    items: &'a [FetchItem],
    uid: bool,
    look: Look,
    /// The message's file has to be opened.
    reads: bool,
    /// The message has to be measured.
    measures: bool,
    condstore: bool,
    /// The message counts as read after it.
    sees: bool,
    /// A preview is asked for where it takes no time.
    lazy: bool,
}

/// What the peer was told of one message.
enum Told {
    /// Everything asked for.
    All,
    /// The same, and that it has `\Seen` now, which is still to be stored.
    Seen,
    /// Nothing: the store refused.
    Nothing(MailError),
    /// Nothing: a part cannot be decoded.
    Unknown,
}

async fn one(dialog: &mut Dialog, view: &View, number: u32, ask: &Ask<'_>) -> Result<Told, Ending> {
    let mut source = None;
    let at_once = ask.lazy && view.message(number).is_some_and(|meta| meta.size <= LAZY_MOST);
    let look = if at_once { Look::Parts } else { ask.look };
    if ask.reads || at_once {
        source = match Source::open(view, number, look, &dialog.link.house.limits.message).await {
            Ok(source) => Some(source),
            Err(error) => return Ok(Told::Nothing(error)),
        };
    }
    if let Some(source) = &source
        && ask.items.iter().any(|item| binary::is_unknown(source, item))
    {
        return Ok(Told::Unknown);
    }
    if view.message(number).is_some_and(|meta| !ask.may_tell(&meta))
        // Opening it measures it, or says why that can not be.
        && let Err(error) = view.read(number).await
    {
        return Ok(Told::Nothing(error));
    }
    let Some(mut meta) = view.message(number).filter(|meta| ask.may_tell(meta)) else {
        return Ok(Told::Nothing(MailError::Gone { uid: view.uid(number).unwrap_or(0) }));
    };
    let seen = ask.sees && !meta.flags.contains(Flags::SEEN);
    if seen {
        meta.flags = meta.flags.union(Flags::SEEN);
    }

    dialog.link.wire.begin_long();
    let out = &mut dialog.link.wire.out;
    let mut line = FetchLine::start(out, number);
    if ask.uid && !ask.items.contains(&FetchItem::Uid) {
        line.uid(out, meta.uid);
    }
    if seen && !ask.items.contains(&FetchItem::Flags) {
        line.flags(out, flag_names(&meta));
    }
    for item in ask.items {
        let out = &mut dialog.link.wire.out;
        match (item, &mut source) {
            (FetchItem::Preview { .. }, source) => {
                line.item(out, "PREVIEW");
                let text = match source.as_mut().filter(|source| source.has_parts()) {
                    Some(source) => preview(source).await.map(Some).map_err(Ending::Broken)?,
                    None => None,
                };
                write::nstring(&mut dialog.link.wire.out, text.as_deref().map(str::as_bytes));
            }
            (item, Some(source)) if needs_bytes(item) => from_inside(dialog, &mut line, item, source).await?,
            (item, _) => known(out, &mut line, item, &meta),
        }
        // What is held is one item, and many small ones may take their time too.
        dialog.link.wire.push().await?;
        worked(0).await;
    }
    line.end(&mut dialog.link.wire.out);
    dialog.link.wire.end_long();
    Ok(if seen { Told::Seen } else { Told::All })
}

/// An item that the message's bytes answer.
async fn from_inside(
    dialog: &mut Dialog,
    line: &mut FetchLine,
    item: &FetchItem,
    source: &mut Source,
) -> Result<(), Ending> {
    let out = &mut dialog.link.wire.out;
    match item {
        FetchItem::Envelope => {
            line.item(out, "ENVELOPE");
            match source.structure.root().envelope() {
                Some(envelope) => structure::envelope(out, envelope),
                None => structure::envelope(out, &message::Envelope::default()),
            }
        }
        FetchItem::Body => {
            line.item(out, "BODY");
            body(dialog, source, false).await?;
        }
        FetchItem::BodyStructure => {
            line.item(out, "BODYSTRUCTURE");
            body(dialog, source, true).await?;
        }
        FetchItem::Rfc822 => {
            line.item(out, "RFC822");
            let all = 0..source.reader.size();
            stream(dialog, &mut source.reader, all).await?;
        }
        FetchItem::Rfc822Header => {
            line.item(out, "RFC822.HEADER");
            let header = source.structure.root().header();
            stream(dialog, &mut source.reader, header).await?;
        }
        FetchItem::Rfc822Text => {
            line.item(out, "RFC822.TEXT");
            let text = source.text();
            stream(dialog, &mut source.reader, text).await?;
        }
        FetchItem::Section { section, partial, .. } => {
            line.section(out, section, partial.map(|(origin, _)| origin));
            body_section(dialog, source, section, *partial).await?;
        }
        FetchItem::Binary { part, partial, .. } => {
            line.binary(out, part, partial.map(|(origin, _)| origin), false);
            binary::octets(dialog, source, part, *partial).await?;
        }
        FetchItem::BinarySize { part } => {
            line.binary(out, part, None, true);
            let size = binary::size(source, part).await?;
            write::number(&mut dialog.link.wire.out, size);
        }
        // Of what is known of the message `one` tells.
        _ => {}
    }
    Ok(())
}

/// BODYSTRUCTURE, or BODY without `extended`, part by part: there may be thousands.
async fn body(dialog: &mut Dialog, source: &Source, extended: bool) -> Result<(), Ending> {
    for step in source.structure.walk() {
        structure::step(&mut dialog.link.wire.out, &source.structure, step, extended);
        dialog.link.wire.push().await?;
    }
    Ok(())
}

/// Whether an item tells what only the message's file tells.
fn is_measured(item: &FetchItem) -> bool {
    matches!(item, FetchItem::InternalDate | FetchItem::Size | FetchItem::EmailId)
}

fn look(item: &FetchItem) -> Look {
    match item {
        FetchItem::Envelope | FetchItem::Rfc822Header | FetchItem::Rfc822Text => Look::Header,
        FetchItem::Body | FetchItem::BodyStructure | FetchItem::Preview { lazy: false } => Look::Parts,
        FetchItem::Binary { part, .. } | FetchItem::BinarySize { part } if part.is_empty() => Look::Nowhere,
        FetchItem::Binary { .. } | FetchItem::BinarySize { .. } => Look::Parts,
        FetchItem::Section { section, .. } if !section.part.is_empty() => Look::Parts,
        FetchItem::Section { section, .. } if section.text == SectionText::All => Look::Nowhere,
        FetchItem::Section { .. } => Look::Header,
        _ => Look::Nowhere,
    }
}

fn needs_bytes(item: &FetchItem) -> bool {
    use FetchItem::{EmailId, Flags, InternalDate, Modseq, SaveDate, Size, ThreadId, Uid};
    let lazy = matches!(item, FetchItem::Preview { lazy: true });
    !lazy && !matches!(item, Uid | Flags | InternalDate | Size | Modseq | SaveDate | EmailId | ThreadId)
}
