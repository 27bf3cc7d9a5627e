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
    },
    login::Dialog,
};

/// Most messages that are answered in one go.
const BATCH: usize = 256;
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
                Some((_, Some(bytes))) if bytes.len() as u64 == meta.size => {
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
            let out = &mut dialog.link.wire.out;
            let batch = std::mem::take(&mut self.batch);
            let mut next = batch.iter().copied().peekable();
            let mut hard = Vec::new();
            view.messages(batch.iter().copied(), |number, meta| {
                while let Some(gone) = next.next_if(|other| *other < number) {
                    hard.push(gone);
                }
                next.next();
                ask.line(out, number, &meta, Known::Nothing);
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
        let mut hard = Vec::new();
        let mut next = digests.iter().peekable();
        let out = &mut dialog.link.wire.out;
        view.messages(digests.iter().map(|(number, _)| *number), |number, meta| {
            while let Some((gone, _)) = next.next_if(|(other, _)| *other < number) {
                hard.push(*gone);
            }
            match next.next() {
                Some((_, Some(digest))) if ask.is_answered_by(digest) => {
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
