//! The part of a search that reads messages: headers first, and bodies only where they decide. On a blocking thread.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use super::plan::{Facts, Plan};
use crate::maildir::{Files, Flags, Glance, MailError, MessageReader};
use crate::message::{self, Piece, Scanner, Structure, TextDecoder, TextRoom, body_text};
use crate::session::commands::{
    batch::{Stop, Work},
    header::Headers,
};

/// Most decoded bytes of one text part that are searched. In bytes.
const MAX_TEXT: u64 = 10 * 1024 * 1024;
/// A message up to this size is read once and kept while it is searched, a larger one is read in pieces. In bytes.
const KEPT: usize = 1024 * 1024;

/// Judges messages that what is known of them did not decide.
pub(super) struct Seek {
    pub(super) plan: Arc<Plan>,
    pub(super) headers: Headers,
    pub(super) limits: message::Limits,
    /// The first that fits is enough.
    pub(super) first_only: bool,
    /// Numbers of those that fit.
    pub(super) found: Vec<u32>,
    pub(super) room: Room,
}

/// Memory that is used again for each message.
#[derive(Default)]
pub(super) struct Room {
    message: Vec<u8>,
    text: TextRoom,
}

/// A message that has to be read.
pub(super) struct Candidate {
    pub(super) number: u32,
    uid: u32,
    flags: Flags,
    keywords: Vec<u16>,
    recent: bool,
    size: u64,
    date: i64,
    saved: i64,
    modseq: u64,
    id: u64,
    measured: bool,
}

impl Candidate {
    pub(super) fn new(number: u32, glance: Glance<'_>) -> Self {
        let Glance { uid, flags, keywords, recent, size, date, saved, modseq, id, measured } = glance;
        Self { number, uid, flags, keywords: keywords.to_vec(), recent, size, date, saved, modseq, id, measured }
    }

    fn glance(&self) -> Glance<'_> {
        let Self { uid, flags, recent, size, date, saved, modseq, id, measured, .. } = *self;
        Glance { uid, flags, keywords: &self.keywords, recent, size, date, saved, modseq, id, measured }
    }
}

pub(super) type Queue = VecDeque<Candidate>;

impl Work for Seek {
    type Job = Candidate;

    fn uid(job: &Candidate) -> u32 {
        job.uid
    }

    fn headers(&mut self) -> &mut Headers {
        &mut self.headers
    }

    fn one(&mut self, files: &Files, job: &Candidate, stop: &Stop) -> Result<bool, MailError> {
        let fits = self.fits(files, job, stop)?;
        if fits {
            self.found.push(job.number);
        }
        Ok(!(fits && self.first_only))
    }
}

impl Seek {
    fn fits(&mut self, files: &Files, job: &Candidate, stop: &Stop) -> Result<bool, MailError> {
        let plan = Arc::clone(&self.plan);
        let mut facts = Facts { number: job.number, glance: job.glance(), header: None, texts: None };
        let header = self.headers.of(files, job.uid)?;
        facts.header = Some(&header);
        if let Some(fits) = plan.judge(&facts) {
            return Ok(fits);
        }
        let texts = self.texts(files, job, stop)?;
        facts.texts = Some(&texts);
        Ok(plan.judge(&facts).unwrap_or(false))
    }

    /// Which of the plan's needles are in the message.
    fn texts(&mut self, files: &Files, job: &Candidate, stop: &Stop) -> Result<Vec<bool>, MailError> {
        let Room { message, text } = &mut self.room;
        // How the lines of a file end makes no difference to a needle that is on one line.
        let is_small = job.size <= KEPT as u64 && !self.plan.has_lines;
        let kept = if is_small { files.stored(job.uid, message, KEPT)? } else { None };
        let mut body = match kept {
            Some(length) => Body::Kept(message.get(..length).unwrap_or_default()),
            None => Body::Pieces(files.read(job.uid)?),
        };
        let needles = &self.plan.needles;
        let structure = structure(&mut body, self.limits, stop)?;
        let mut found = vec![false; needles.len()];
        let mut seekers: Vec<_> = needles.iter().map(|needle| needle.text.matcher()).collect();
        for headers in [false, true] {
            let open = |found: &[bool]| needles.iter().zip(found).any(|(n, found)| n.headers == headers && !found);
            for piece in structure.pieces(headers) {
                if !open(&found) || stop.is_set() {
                    break;
                }
                seekers.iter_mut().for_each(message::Matcher::restart);
                let mut look = |text: &str| {
                    for ((seeker, found), needle) in seekers.iter_mut().zip(&mut found).zip(needles) {
                        *found |= needle.headers == headers && !*found && seeker.feed(text);
                    }
                };
                match piece {
                    Piece::Header(range) => {
                        let end = range.end.min(range.start.saturating_add(self.limits.header_bytes as u64));
                        let mut block = Vec::new();
                        body.each(range.start..end, |bytes| {
                            block.extend_from_slice(bytes);
                            true
                        })?;
                        look(&message::decode_header_block(&block));
                    }
                    Piece::Text(part) => match &mut body {
                        Body::Kept(bytes) => look(body_text(part, within(bytes, part.body()), MAX_TEXT, text)),
                        Body::Pieces(_) => {
                            let (mut decoder, mut text) = (TextDecoder::new(part, MAX_TEXT), String::new());
                            body.each(part.body(), |bytes| {
                                text.clear();
                                let more = decoder.feed(bytes, &mut text);
                                look(&text);
                                more && !stop.is_set()
                            })?;
                            text.clear();
                            decoder.finish(&mut text);
                            look(&text);
                        }
                    },
                }
            }
        }
        Ok(found)
    }
}

fn structure(body: &mut Body<'_>, limits: message::Limits, stop: &Stop) -> Result<Structure, MailError> {
    let mut scanner = Scanner::of_parts(limits);
    body.each(0..u64::MAX, |bytes| {
        scanner.feed(bytes);
        !stop.is_set()
    })?;
    Ok(scanner.finish())
}

/// The bytes of a message.
enum Body<'m> {
    /// In memory, as they stand in its file.
    Kept(&'m [u8]),
    /// To be read as they go over the wire.
    Pieces(MessageReader),
}

impl Body<'_> {
    /// The bytes of a range in pieces, until `take` has enough.
    fn each(&mut self, range: Range<u64>, mut take: impl FnMut(&[u8]) -> bool) -> Result<(), MailError> {
        match self {
            Self::Kept(bytes) => {
                take(within(bytes, range));
            }
            Self::Pieces(reader) => {
                reader.select(range);
                while let Some(chunk) = reader.next_now()? {
                    if !take(&chunk) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

fn within(bytes: &[u8], range: Range<u64>) -> &[u8] {
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get(place(range.start)..place(range.end)).unwrap_or_default()
}
