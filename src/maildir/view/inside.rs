//! What is inside many messages at once: from the folder's cache where it is known, else by opening their files, in
//! one piece of work on a blocking thread.

use std::sync::Arc;

use bytes::Bytes;

use super::View;
use crate::maildir::{
    cache::Cache,
    disk::Dir,
    error::MailError,
    filename::Place,
    folder::{Exclusive, Folder, lock},
    pool::Pool,
    state::State,
    wire::MessageReader,
};

/// Most messages looked into in one piece of work.
pub(super) const MOST: usize = 256;
/// No further message is looked into once this much was found. In bytes.
const ENOUGH: usize = 128 * 1024;

/// How many times as much of a message's file is read where the start was not enough.
const MORE: usize = 8;

/// How messages are looked into, by whoever knows what is to be found there.
pub trait Insight: Clone + Send + 'static {
    /// Whether what was kept of a message answers this time's question.
    fn suffices(&self, kept: &[u8]) -> bool;

    /// How much of a message's file is read at first, in bytes, where its beginning may be enough; else 0.
    fn start(&self) -> usize;

    /// What is to be kept of a message whose file starts so, its lines ending as they do there; nothing if this is not
    /// enough.
    fn look_at_start(&self, start: &[u8]) -> Option<Vec<u8>>;

    /// What is to be kept of a message. Runs on a blocking thread: read with [`MessageReader::next_now`].
    ///
    /// # Errors
    /// Those of reading; the message is then left out.
    fn look(&self, message: &mut MessageReader) -> Result<Vec<u8>, MailError>;
}

impl View {
    /// What is inside the first of these messages: as many as fit into one answer of bounded size, at least one. None for
    /// a message that is gone, or can not be found under the name it had: [`View::read`] looks harder.
    ///
    /// What had to be looked up is kept for the next time, if the disk lets us.
    ///
    /// # Errors
    /// `FolderGone`, or what the disk says.
    pub async fn inside(
        &self,
        numbers: &[u32],
        insight: &impl Insight,
    ) -> Result<Vec<(u32, Option<Bytes>)>, MailError> {
        let shared = self.folder.shared.upgrade().ok_or(MailError::FolderGone)?;
        let wanted: Vec<(u32, u32)> =
            numbers.iter().take(MOST).filter_map(|number| Some((*number, self.uid(*number)?))).collect();
        let work = Work { folder: Arc::clone(&self.folder), pool: shared.pool.clone(), insight: insight.clone() };
        shared.pool.run("looking into messages", move || work.carry_out(&wanted)).await
    }
}

pub(super) struct Work<I> {
    pub(super) folder: Arc<Folder>,
    pub(super) pool: Pool,
    pub(super) insight: I,
}

/// What is used again for each message.
struct Desk {
    cur: Option<Dir>,
    start: Vec<u8>,
}

impl<I: Insight> Work<I> {
    pub(super) fn carry_out(&self, wanted: &[(u32, u32)]) -> Result<Vec<(u32, Option<Bytes>)>, MailError> {
        let uids: Vec<u32> = wanted.iter().map(|(_, uid)| *uid).collect();
        let mut kept = self.kept(&uids).into_iter();
        let (mut found, mut fresh, mut size) = (Vec::with_capacity(wanted.len()), Vec::new(), 0);
        let mut desk = Desk { cur: None, start: Vec::new() };
        for (number, uid) in wanted {
            // No more is told than was read.
            let Some(known) = kept.next().filter(|_| size < ENOUGH) else { break };
            let known = known.filter(|bytes| self.insight.suffices(bytes));
            let bytes = match known {
                Some(bytes) => Some(bytes),
                None => {
                    let made = self.look(*uid, &mut desk)?.map(Bytes::from);
                    fresh.extend(made.iter().map(|bytes| (*uid, bytes.clone())));
                    made
                }
            };
            size += bytes.as_ref().map_or(0, Bytes::len);
            found.push((*number, bytes));
        }
        if !fresh.is_empty() {
            self.keep(&fresh);
        }
        Ok(found)
    }

    /// What the cache knows of the first of them; a cache that cannot be read knows nothing.
    fn kept(&self, uids: &[u32]) -> Vec<Option<Bytes>> {
        let plan = {
            let mut cache = lock(&self.folder.cache);
            if cache.is_none() {
                let validity = self.folder.read(|s: &State| s.uid_validity).unwrap_or(0);
                *cache = self.folder.dir().and_then(|dir| Cache::load(&dir, validity)).ok().flatten();
            }
            cache.as_ref().map(|cache| cache.plan(uids).within(ENOUGH))
        };
        plan.and_then(|plan| plan.read().ok()).unwrap_or_else(|| vec![None; uids.len()])
    }

    fn look(&self, uid: u32, desk: &mut Desk) -> Result<Option<Vec<u8>>, MailError> {
        let known = self.folder.read(|s| s.find(uid).map(|m| (m.place, s.name(m).to_vec(), m.sizes())));
        let Some((place, name, sizes)) = known.ok_or(MailError::FolderGone)? else { return Ok(None) };
        let dir = match (place, &desk.cur) {
            (Place::Cur, Some(dir)) => dir.clone(),
            _ => self.folder.dir()?.sub(place.dir().as_bytes())?,
        };
        if place == Place::Cur {
            desk.cur = Some(dir.clone());
        }
        let made = match self.look_at_start(&dir, &name, &mut desk.start) {
            Ok(None) => MessageReader::open(&dir, &name, &self.pool, uid, sizes)
                .inspect(|opened| self.folder.opened(opened))
                .and_then(|mut message| self.insight.look(&mut message)),
            Ok(Some(made)) => Ok(made),
            Err(error) => Err(error),
        };
        match made {
            Ok(bytes) => Ok(Some(bytes)),
            Err(MailError::Gone { .. }) => Ok(None),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn look_at_start(&self, dir: &Dir, name: &[u8], start: &mut Vec<u8>) -> Result<Option<Vec<u8>>, MailError> {
        let first = self.insight.start();
        if first == 0 {
            return Ok(None);
        }
        for wanted in [first, first * MORE] {
            start.resize(start.len().max(wanted), 0);
            let Some(room) = start.get_mut(..wanted) else { break };
            let read = dir.read_start(name, room, false)?;
            let made = room.get(..read).and_then(|start| self.insight.look_at_start(start));
            if made.is_some() || read < wanted {
                return Ok(made);
            }
        }
        Ok(None)
    }

    /// Adds to the cache, if nobody else is writing in the folder: it is not worth waiting for.
    fn keep(&self, fresh: &[(u32, Bytes)]) {
        let added = Exclusive::if_free(&self.folder, |ex| {
            let validity = ex.read(|s| s.uid_validity)?;
            let mut cache = match lock(&self.folder.cache).take() {
                Some(cache) if cache.is_current(&ex.dir)? => cache,
                _ => match Cache::load(&ex.dir, validity)? {
                    Some(cache) => cache,
                    None => Cache::create(&ex.dir, validity)?,
                },
            };
            cache.add(&ex.dir, fresh)?;
            let uids = |s: &State| s.messages.iter().map(|m| m.uid).collect::<Vec<u32>>();
            let known = if cache.is_due() { ex.read(uids)? } else { Vec::new() };
            let cache = cache.tidy(&ex.dir, validity, |uid| known.binary_search(&uid).is_ok())?;
            *lock(&self.folder.cache) = Some(cache);
            Ok(())
        });
        if let Err(error) = added {
            tracing::debug!(%error, "what was found inside messages is not kept");
        }
    }
}
