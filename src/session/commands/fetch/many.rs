//! FETCH of many messages at a time: what needs no look inside them, what digests of them tell, and small messages as a
//! whole.

use bytes::BytesMut;

use super::{
    Ask, needs_bytes,
    section::{clip, within},
};
use crate::imap::{
    command::{FetchItem, Section},
    write::{self, FetchLine},
};
use crate::maildir::{Meta, View};
use crate::message::{self, Keep};
use crate::session::{
    Ending,
    commands::{
        digest::{self, Digest, Digester, Needs},
        news::flag_names,
        portion::{MOST, Portion, portion},
        turn::worked,
    },
    login::Dialog,
};

/// Most that is gone through of one message's digest for all items together: others are answered by themselves, with
/// pauses. In bytes.
const MOST_WORK: usize = 128 * 1024;
/// A message up to this size is answered among others, in bytes.
const SMALL: u64 = 32 * 1024;
/// No further message is read into memory beside others once so much is held. In bytes.
const HELD: usize = 96 * 1024;

/// How messages can be answered many at a time.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// By what digests of them tell.
    Digest(Needs),
    /// By their bytes, all of them, where they are small.
    Whole,
}

impl Way {
    /// The one that fits these items, if any does. Where the messages count as read afterwards each has a part of its own.
    pub(super) fn of(items: &[FetchItem], sees: bool) -> Option<Self> {
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
pub(super) struct Many<N: Iterator<Item = u32>> {
    /// None if each has to be looked at by itself.
    way: Option<Way>,
    left: std::iter::Peekable<N>,
    batch: Vec<u32>,
    /// Those that have to be looked at one by one.
    hard: std::vec::IntoIter<u32>,
}

impl<N: Iterator<Item = u32>> Many<N> {
    pub(super) fn new(way: Option<Way>, numbers: N) -> Self {
        Self { way, left: numbers.peekable(), batch: Vec::new(), hard: Vec::new().into_iter() }
    }

    /// The next message that has to be answered by itself, once those before it were answered together.
    pub(super) async fn next(
        &mut self,
        dialog: &mut Dialog,
        view: &View,
        ask: &Ask<'_>,
    ) -> Result<Option<u32>, Ending> {
        let Some(way) = self.way else { return Ok(self.left.next()) };
        loop {
            if let Some(number) = self.hard.next() {
                return Ok(Some(number));
            }
            while self.batch.len() < MOST
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
                Way::Whole => Box::pin(self.whole(dialog, view, ask)).await?,
            }
            .into_iter();
        }
    }

    /// Answers small messages at the front of the batch with all of their bytes; gives back the others among them.
    async fn whole(&mut self, dialog: &mut Dialog, view: &View, ask: &Ask<'_>) -> Result<Vec<u32>, Ending> {
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
            return Ok(std::mem::take(&mut self.batch));
        };
        self.batch.drain(..found.len().min(self.batch.len()));
        let found = found.iter().map(|(number, bytes)| (*number, bytes.as_deref().map(Known::Whole)));
        ask.tell(dialog, view, &found.collect::<Vec<_>>()).await
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
            let found = std::mem::take(&mut self.batch).into_iter().map(|number| (number, Some(Known::Nothing)));
            return ask.tell(dialog, view, &found.collect::<Vec<_>>()).await;
        }
        let insight = Digester { needs, limits: dialog.link.house.limits.message };
        let Ok(found) = view.inside(&self.batch, &insight).await else {
            // One by one they will say what is wrong.
            return Ok(std::mem::take(&mut self.batch));
        };
        self.batch.drain(..found.len().min(self.batch.len()));
        let digests: Vec<(u32, Option<Digest>)> =
            found.into_iter().map(|(number, bytes)| (number, bytes.map(Digest::new))).collect();
        let found = digests.iter().map(|(number, digest)| {
            let answers = digest.as_ref().filter(|digest| ask.is_answered_by(digest));
            (*number, answers.map(Known::Digest))
        });
        ask.tell(dialog, view, &found.collect::<Vec<_>>()).await
    }
}

impl Ask<'_> {
    /// Answers about messages of which that much is known; gives back those that have to be looked at by themselves.
    async fn tell(
        &self,
        dialog: &mut Dialog,
        view: &View,
        found: &[(u32, Option<Known<'_>>)],
    ) -> Result<Vec<u32>, Ending> {
        if self.measures {
            let numbers: Vec<u32> = found.iter().map(|(number, _)| *number).collect();
            if view.measure(&numbers).await.is_err() {
                // One by one they will say what is wrong.
                return Ok(numbers);
            }
        }
        let (mut hard, mut left) = (Vec::new(), found);
        while !left.is_empty() {
            let (plenty, numbers) = (dialog.link.wire.plenty(), left.iter().map(|(number, _)| *number));
            let mut next = left.iter().peekable();
            let told = portion(view, numbers, &mut dialog.link.wire.out, plenty, |out, number, meta| {
                while let Some((gone, _)) = next.next_if(|(other, _)| *other < number) {
                    hard.push(*gone);
                }
                match next.next() {
                    Some((_, Some(inside))) if inside.is_of(&meta) && self.may_tell(&meta) => {
                        self.line(out, number, &meta, *inside)
                    }
                    _ => {
                        hard.push(number);
                        0
                    }
                }
            });
            let Portion { taken, work } = told.unwrap_or(Portion { taken: left.len(), work: 0 });
            // Those that are gone, behind the last one that is there.
            let behind = next.len().saturating_sub(left.len() - taken);
            hard.extend(next.take(behind).map(|(gone, _)| *gone));
            left = left.get(taken..).unwrap_or_default();
            dialog.link.wire.push().await?;
            worked(work).await;
        }
        Ok(hard)
    }

    /// Whether what is asked about a message is known, as far as it has to be measured for it.
    pub(super) fn may_tell(&self, meta: &Meta) -> bool {
        meta.measured || !self.measures
    }

    /// Whether a digest holds everything that is asked for, without going through it again and again.
    fn is_answered_by(&self, digest: &Digest) -> bool {
        let mut work = 0;
        self.items.iter().all(|item| match item {
            FetchItem::Envelope => digest.envelope().is_some(),
            FetchItem::BodyStructure => digest.structure().is_some(),
            FetchItem::Section { .. } => digest.fields().is_some_and(|fields| {
                work += fields.len();
                work <= MOST_WORK
            }),
            _ => true,
        })
    }

    /// A whole answer about one message, from what is known of it; how many bytes were gone through for it.
    fn line(&self, out: &mut BytesMut, number: u32, meta: &Meta, inside: Known<'_>) -> usize {
        let mut work = 0;
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
                    write::octets(out, bytes);
                }
                (FetchItem::Section { section, partial, .. }, Known::Digest(digest)) => {
                    let names = digest::fields_of(section).unwrap_or_default();
                    let fields = digest.fields().unwrap_or_default();
                    work += fields.len();
                    let fields = message::header_fields(fields, names, Keep::Named);
                    let wanted = within(clip(0..fields.len() as u64, *partial));
                    let origin = partial.map(|(origin, _)| origin);
                    line.section_bytes(out, section, origin, fields.get(wanted).unwrap_or_default());
                }
                (item, _) => known(out, &mut line, item, meta),
            }
        }
        line.end(out);
        work
    }
}

/// What is known of the inside of a message that is answered among others.
#[derive(Clone, Copy)]
enum Known<'m> {
    Nothing,
    Digest(&'m Digest),
    Whole(&'m [u8]),
}

impl Known<'_> {
    /// Whether it is of the message as it is announced.
    fn is_of(&self, meta: &Meta) -> bool {
        if let Self::Whole(bytes) = self { bytes.len() as u64 == meta.size } else { true }
    }
}

/// An item that needs no look inside the message.
pub(super) fn known(out: &mut BytesMut, line: &mut FetchLine, item: &FetchItem, meta: &Meta) {
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
