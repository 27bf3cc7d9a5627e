//! FETCH and UID FETCH (RFC 3501 section 6.4.5): answers are written item by item, message bodies are streamed from
//! the disk to the wire.

use std::ops::Range;

use bytes::BytesMut;

use super::{
    binary,
    digest::{self, Digest, Digester, Needs},
    messages::gone,
    modseq,
    news::{Selected, flag_names},
    preview::preview,
    reply::{Answer, Reply, refuse},
    source::{Look, Source},
    structure,
};
use crate::imap::{
    command::{FetchItem, Section, SectionText, Since},
    set::{self, MessageSet},
    write::{self, Code, FetchLine},
};
use crate::maildir::{FlagOp, Flags, MailError, MessageReader, Meta, Mode, View};
use crate::message::{self, Keep};
use crate::session::{Ending, login::Dialog};

/// `\Seen` is stored for this many messages at a time: each time costs the disk two syncs.
const SEEN_BATCH: usize = 100;
/// Most messages that are answered in one go.
const BATCH: usize = 256;
/// A message up to this size is answered among others, in bytes.
const SMALL: u64 = 32 * 1024;
/// No further message is read into memory beside others once so much is held. In bytes.
const HELD: usize = 96 * 1024;
/// What is in memory as a whole is put into the output in pieces of this size. In bytes.
const PIECE: usize = 16 * 1024;
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
                MessageSet::Named(set) => set::uids(set, view.uid(view.len())),
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

/// How messages can be answered many at a time.
#[derive(Clone, Copy)]
enum Way {
    /// By what digests of them tell.
    Digest(Needs),
    /// By their bytes, all of them, where they are small.
    Whole,
}

impl Way {
    /// The one that fits these items, if any does. Where the messages count as read afterwards each has a part of its own.
    fn of(items: &[FetchItem], sees: bool) -> Option<Self> {
        let whole = |item: &FetchItem| match item {
            FetchItem::Section { section, partial: None, .. } => *section == Section::default(),
            FetchItem::Rfc822 => true,
            item => !needs_bytes(item) && !matches!(item, FetchItem::Preview { .. }),
        };
        if sees {
            return None;
        }
        Needs::of_all(items).map(Self::Digest).or_else(|| items.iter().all(whole).then_some(Self::Whole))
    }
}

/// Messages that are answered many at a time, where there is a way.
struct Many<N: Iterator<Item = u32>> {
    /// None if each has to be looked at by itself.
    way: Option<Way>,
    left: std::iter::Peekable<N>,
    batch: Vec<u32>,
    /// Those that have to be looked at one by one.
    hard: std::vec::IntoIter<u32>,
}

impl<N: Iterator<Item = u32>> Many<N> {
    fn new(way: Option<Way>, numbers: N) -> Self {
        Self { way, left: numbers.peekable(), batch: Vec::new(), hard: Vec::new().into_iter() }
    }

    /// The next message that has to be answered by itself, once those before it were answered together.
    async fn next(&mut self, dialog: &mut Dialog, view: &View, ask: &Ask<'_>) -> Result<Option<u32>, Ending> {
        let Some(way) = self.way else { return Ok(self.left.next()) };
        loop {
            if let Some(number) = self.hard.next() {
                return Ok(Some(number));
            }
            while self.batch.len() < BATCH
                && let Some(number) = self.left.next()
            {
                self.batch.push(number);
            }
            if self.batch.is_empty() {
                return Ok(None);
            }
            dialog.link.may_go_on()?;
            self.hard = match way {
                Way::Digest(needs) => Box::pin(self.by_digest(dialog, view, ask, needs)).await?,
                Way::Whole => Box::pin(self.whole(dialog, view, ask)).await,
            }
            .into_iter();
            dialog.link.wire.push().await?;
            tokio::task::consume_budget().await;
        }
    }

    /// Answers small messages at the front of the batch with all of their bytes; gives back the others among them.
    async fn whole(&mut self, dialog: &mut Dialog, view: &View, ask: &Ask<'_>) -> Vec<u32> {
        let wanted: Vec<(u32, u32)> =
            self.batch.iter().filter_map(|number| Some((*number, view.uid(*number)?))).collect();
        let read = view.with_files(move |files| {
            let (mut found, mut held) = (Vec::new(), 0);
            for (number, uid) in wanted {
                if held >= HELD {
                    break;
                }
                let message = files.read(uid).ok().filter(|message| message.size() <= SMALL);
                let bytes = message.and_then(|mut message| message.all_blocking().ok());
                held += bytes.as_ref().map_or(0, Vec::len);
                found.push((number, bytes));
            }
            Ok(found)
        });
        let Ok(found) = read.await else {
            // One by one they will say what is wrong.
            return std::mem::take(&mut self.batch);
        };
        self.batch.drain(..found.len().min(self.batch.len()));
        let out = &mut dialog.link.wire.out;
        let mut next = found.iter().peekable();
        let mut hard = Vec::new();
        view.messages(found.iter().map(|(number, _)| *number), |number, meta| {
            while let Some((gone, _)) = next.next_if(|(other, _)| *other < number) {
                hard.push(*gone);
            }
            match next.next() {
                Some((_, Some(bytes))) if bytes.len() as u64 == meta.size && ask.may_tell(&meta) => {
                    ask.line(out, number, &meta, Known::Whole(bytes));
                }
                _ => hard.push(number),
            }
        });
        hard.extend(next.map(|(number, _)| *number));
        hard
    }

    /// Answers messages at the front of the batch; gives back those among them that digests cannot answer.
    async fn by_digest(
        &mut self,
        dialog: &mut Dialog,
        view: &View,
        ask: &Ask<'_>,
        needs: Needs,
    ) -> Result<Vec<u32>, Ending> {
        if needs.is_nothing() {
            let batch = std::mem::take(&mut self.batch);
            if ask.measures && view.measure(&batch).await.is_err() {
                return Ok(batch);
            }
            let out = &mut dialog.link.wire.out;
            let mut next = batch.iter().copied().peekable();
            let mut hard = Vec::new();
            view.messages(batch.iter().copied(), |number, meta| {
                while let Some(gone) = next.next_if(|other| *other < number) {
                    hard.push(gone);
                }
                match next.next() {
                    Some(_) if ask.may_tell(&meta) => ask.line(out, number, &meta, Known::Nothing),
                    _ => hard.push(number),
                }
            });
            hard.extend(next);
            return Ok(hard);
        }
        let insight = Digester { needs, limits: dialog.link.house.limits.message };
        let Ok(found) = view.inside(&self.batch, &insight).await else {
            // One by one they will say what is wrong.
            return Ok(std::mem::take(&mut self.batch));
        };
        self.batch.drain(..found.len().min(self.batch.len()));
        let digests: Vec<(u32, Option<Digest>)> =
            found.into_iter().map(|(number, bytes)| (number, bytes.map(Digest::new))).collect();
        // Most of those that were not measured are by now: they were opened for their digests.
        if ask.measures {
            let numbers: Vec<u32> = digests.iter().map(|(number, _)| *number).collect();
            if view.measure(&numbers).await.is_err() {
                return Ok(numbers);
            }
        }
        let mut hard = Vec::new();
        let mut next = digests.iter().peekable();
        let out = &mut dialog.link.wire.out;
        view.messages(digests.iter().map(|(number, _)| *number), |number, meta| {
            while let Some((gone, _)) = next.next_if(|(other, _)| *other < number) {
                hard.push(*gone);
            }
            match next.next() {
                Some((_, Some(digest))) if ask.is_answered_by(digest) && ask.may_tell(&meta) => {
                    ask.line(out, number, &meta, Known::Digest(digest));
                }
                _ => hard.push(number),
            }
        });
        hard.extend(next.map(|(number, _)| *number));
        Ok(hard)
    }
}

impl Ask<'_> {
    /// Whether what is asked about a message is known, as far as it has to be measured for it.
    fn may_tell(&self, meta: &Meta) -> bool {
        meta.measured || !self.measures
    }

    fn is_answered_by(&self, digest: &Digest) -> bool {
        self.items.iter().all(|item| match item {
            FetchItem::Envelope => digest.envelope().is_some(),
            FetchItem::BodyStructure => digest.structure().is_some(),
            FetchItem::Section { .. } => digest.fields().is_some(),
            _ => true,
        })
    }

    /// A whole answer about one message, from what is known of it.
    fn line(&self, out: &mut BytesMut, number: u32, meta: &Meta, inside: Known<'_>) {
        let mut line = FetchLine::start(out, number);
        if self.uid && !self.items.contains(&FetchItem::Uid) {
            line.uid(out, meta.uid);
        }
        for item in self.items {
            match (item, inside) {
                (FetchItem::Envelope, Known::Digest(digest)) => {
                    line.item(out, "ENVELOPE");
                    out.extend_from_slice(digest.envelope().unwrap_or(b"NIL"));
                }
                (FetchItem::BodyStructure, Known::Digest(digest)) => {
                    line.item(out, "BODYSTRUCTURE");
                    out.extend_from_slice(digest.structure().unwrap_or(b"NIL"));
                }
                (FetchItem::Section { section, .. }, Known::Whole(bytes)) => {
                    line.section_bytes(out, section, None, bytes);
                }
                (FetchItem::Rfc822, Known::Whole(bytes)) => {
                    line.item(out, "RFC822");
                    write::literal_head(out, bytes.len() as u64);
                    out.extend_from_slice(bytes);
                }
                (FetchItem::Section { section, partial, .. }, Known::Digest(digest)) => {
                    let names = digest::fields_of(section).unwrap_or_default();
                    let fields = message::header_fields(digest.fields().unwrap_or_default(), names, Keep::Named);
                    let wanted = within(clip(0..fields.len() as u64, *partial));
                    let origin = partial.map(|(origin, _)| origin);
                    line.section_bytes(out, section, origin, fields.get(wanted).unwrap_or_default());
                }
                (item, _) => known(out, &mut line, item, meta),
            }
        }
        line.end(out);
    }
}

/// What is known of the inside of a message that is answered among others.
#[derive(Clone, Copy)]
enum Known<'m> {
    Nothing,
    Digest(&'m Digest),
    Whole(&'m [u8]),
}

/// Whether an item tells what only the message's file tells.
fn is_measured(item: &FetchItem) -> bool {
    matches!(item, FetchItem::InternalDate | FetchItem::Size | FetchItem::EmailId)
}

/// An item that needs no look inside the message.
fn known(out: &mut BytesMut, line: &mut FetchLine, item: &FetchItem, meta: &Meta) {
    match item {
        FetchItem::Uid => line.uid(out, meta.uid),
        FetchItem::Flags => line.flags(out, flag_names(meta)),
        FetchItem::InternalDate => line.internal_date(out, meta.internal_date),
        FetchItem::Size => line.size(out, meta.size),
        FetchItem::Modseq => line.modseq(out, meta.modseq),
        FetchItem::SaveDate => line.save_date(out, meta.saved),
        FetchItem::EmailId => line.email_id(out, meta.id),
        FetchItem::ThreadId => line.no_thread_id(out),
        _ => {}
    }
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
        // An item may be large and may be asked for again and again: what is held is one of them.
        dialog.link.wire.push().await?;
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

async fn body_section(
    dialog: &mut Dialog,
    source: &mut Source,
    section: &Section,
    partial: Option<(u32, u32)>,
) -> Result<(), Ending> {
    let Some(range) = source.range(section) else {
        write::nstring(&mut dialog.link.wire.out, None);
        return Ok(());
    };
    let (names, keep) = match &section.text {
        SectionText::HeaderFields(names) => (names, Keep::Named),
        SectionText::HeaderFieldsNot(names) => (names, Keep::Others),
        _ => return stream(dialog, &mut source.reader, clip(range, partial)).await,
    };
    let header = source.header_bytes(range).await.map_err(Ending::Broken)?;
    let fields = message::header_fields(&header, names, keep);
    let wanted = clip(0..fields.len() as u64, partial);
    let bytes = fields.get(within(wanted)).unwrap_or_default();
    write::literal_head(&mut dialog.link.wire.out, bytes.len() as u64);
    for piece in bytes.chunks(PIECE) {
        write::octets(&mut dialog.link.wire.out, piece);
        dialog.link.wire.push().await?;
    }
    Ok(())
}

/// `<origin.count>` of a range of octets; beyond the end there are none.
fn clip(range: Range<u64>, partial: Option<(u32, u32)>) -> Range<u64> {
    let Some((origin, count)) = partial else { return range };
    let start = range.start.saturating_add(u64::from(origin)).min(range.end);
    start..start.saturating_add(u64::from(count)).min(range.end)
}

/// A range of what is in memory.
fn within(range: Range<u64>) -> Range<usize> {
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    place(range.start)..place(range.end)
}

/// Writes a literal from the disk to the wire, a chunk at a time. The octets were announced: with fewer of them nothing
/// that follows could be understood, so a message that cannot be read to its end ends the session.
async fn stream(dialog: &mut Dialog, reader: &mut MessageReader, range: Range<u64>) -> Result<(), Ending> {
    let mut left = range.end.saturating_sub(range.start);
    write::literal_head(&mut dialog.link.wire.out, left);
    reader.select(range);
    while let Some(chunk) = reader.next().await.map_err(Ending::Broken)? {
        left = left.saturating_sub(chunk.len() as u64);
        write::octets(&mut dialog.link.wire.out, &chunk);
        dialog.link.wire.push().await?;
        tokio::task::consume_budget().await;
    }
    if left == 0 {
        return Ok(());
    }
    Err(Ending::Broken(MailError::Damaged { what: "a message became shorter while it was read" }))
}
