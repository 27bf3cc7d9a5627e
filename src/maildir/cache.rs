//! The file `portcullis-cache` of one folder: what was found inside messages, kept so that it need not be found again.
//! Only ever a copy: a cache that is lost, torn or damaged costs time, never truth, so it is not synced and a failed
//! write is no error. What an entry means is the business of whoever keeps it.
//!
//! ```text
//! file   = head block*          head  = "PORTCCH2" uidvalidity:u32 seed:u32 crc:u32      (little endian)
//! block  = count:u32 crc:u32 entry{count} bytes          crc over count and entries, begun with the seed
//! entry  = uid:u32 length:u32 sum:u32                    sum of the entry's bytes, which follow in this order
//! ```

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use bytes::Bytes;
use rustix::io::Errno;

use super::{
    disk::Dir,
    error::{MailError, io},
    record::{HEAD, Head, crc},
};

/// The cache's name in the folder, beside the index.
const NAME: &[u8] = b"portcullis-cache";
const NEXT: &[u8] = b"portcullis-cache.new";
const MAGIC: &[u8; 8] = b"PORTCCH2";
const BLOCK_HEAD: usize = 8;
const ENTRY: usize = 12;
/// Most entries in one block.
const MOST: usize = 1000;
/// Largest cache that is kept, in bytes; beyond it nothing is added.
const MAX: u64 = 4 << 30;
/// Entries that lie closer together than this are read in one go. In bytes.
const GAP: u64 = 4 * 1024;
/// Most bytes read in one go.
const RUN: u64 = 1 << 20;
/// A cache grows by this much, or to twice its size, before it is looked at for what no message needs any more. In bytes.
const SLACK: u64 = 1 << 20;

/// One message's entry.
#[derive(Clone, Copy, Debug)]
struct Slot {
    uid: u32,
    length: u32,
    sum: u32,
    at: u64,
}

/// The file as this process last saw it.
pub(super) struct Cache {
    file: Arc<File>,
    inode: u64,
    seed: u32,
    /// Where the next block goes.
    length: u64,
    /// Length when its waste was last counted.
    counted: u64,
    /// In order of UID, one for each.
    slots: Vec<Slot>,
}

impl Cache {
    /// Reads the table of the folder's cache. Nothing if there is none, or one of another UIDVALIDITY.
    pub(super) fn load(dir: &Dir, uid_validity: u32) -> Result<Option<Self>, MailError> {
        let (file, stat) = match dir.open(NAME, true) {
            Ok(found) => found,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let end = u64::try_from(stat.st_size).unwrap_or(0);
        let head = pread(&file, 0, HEAD)?;
        let Some(head) = Head::decode(MAGIC, &head).filter(|h| h.uid_validity == uid_validity) else {
            return Ok(None);
        };
        let (seed, length) = (head.seed, HEAD as u64);
        let mut cache =
            Self { file: Arc::new(file), inode: stat.st_ino, seed, length, counted: length, slots: Vec::new() };
        while let Some((slots, next)) = cache.block(end)? {
            cache.slots.extend(slots);
            cache.length = next;
        }
        // Of several entries for one message the last counts.
        cache.slots.reverse();
        cache.slots.sort_by_key(|slot| slot.uid);
        cache.slots.dedup_by_key(|slot| slot.uid);
        cache.slots.shrink_to_fit();
        cache.counted = cache.length;
        Ok(Some(cache))
    }

    /// The block at the end of what has been read, and where the next one starts.
    fn block(&self, end: u64) -> Result<Option<(Vec<Slot>, u64)>, MailError> {
        if end.saturating_sub(self.length) < BLOCK_HEAD as u64 {
            return Ok(None);
        }
        // Mostly the whole table comes with its head.
        let mut bytes = pread(&self.file, self.length, BLOCK_HEAD + 8 * ENTRY)?;
        let count = u32_at(&bytes, 0) as usize;
        let size = BLOCK_HEAD + count * ENTRY;
        if count == 0 || count > MOST {
            return Ok(None);
        }
        if bytes.len() < size {
            bytes = pread(&self.file, self.length, size)?;
        }
        let Some(table) = bytes.get(BLOCK_HEAD..size) else { return Ok(None) };
        if sum(self.seed, count, table) != u32_at(&bytes, 4) {
            return Ok(None);
        }
        let mut at = self.length + size as u64;
        let slots = table.chunks_exact(ENTRY).map(|entry| {
            let slot = Slot { uid: u32_at(entry, 0), length: u32_at(entry, 4), sum: u32_at(entry, 8), at };
            at += u64::from(slot.length);
            slot
        });
        let slots: Vec<Slot> = slots.collect();
        Ok((at <= end).then_some((slots, at)))
    }

    /// A new cache in place of what there was.
    pub(super) fn create(dir: &Dir, uid_validity: u32) -> Result<Self, MailError> {
        let seed = RandomState::new().hash_one(NAME) as u32;
        dir.unlink(NEXT)?;
        let file = dir.create(NEXT)?;
        dir.write(&file, &Head { uid_validity, seed }.encode(MAGIC))?;
        dir.replace(NEXT, NAME)?;
        let inode = rustix::fs::fstat(&file).map_err(io("looking at a cache"))?.st_ino;
        let length = HEAD as u64;
        Ok(Self { file: Arc::new(file), inode, seed, length, counted: length, slots: Vec::new() })
    }

    /// Removes the folder's cache; whether there was one.
    pub(super) fn remove(dir: &Dir) -> Result<bool, MailError> {
        dir.unlink(NAME)
    }

    /// Whether the file is still the one this process knows, to the byte.
    pub(super) fn is_current(&self, dir: &Dir) -> Result<bool, MailError> {
        let found = dir.stat(NAME)?;
        Ok(found.is_some_and(|s| s.st_ino == self.inode && u64::try_from(s.st_size) == Ok(self.length)))
    }

    /// Where the entries of these messages lie, to be read without holding the cache.
    pub(super) fn plan(&self, uids: &[u32]) -> Plan {
        let find = |uid: &u32| {
            let at = self.slots.binary_search_by_key(uid, |slot| slot.uid).ok()?;
            self.slots.get(at).copied()
        };
        Plan { file: Arc::clone(&self.file), slots: uids.iter().map(find).collect() }
    }

    /// Adds entries, as the folder's only writer. Bytes that do not fit any more are left out.
    pub(super) fn add(&mut self, dir: &Dir, entries: &[(u32, Bytes)]) -> Result<(), MailError> {
        for block in entries.chunks(MOST) {
            if self.length > MAX {
                return Ok(());
            }
            let mut table = Vec::with_capacity(block.len() * ENTRY);
            let mut size = BLOCK_HEAD + block.len() * ENTRY;
            for (uid, bytes) in block {
                size += bytes.len();
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                for number in [*uid, length, quick_sum(bytes)] {
                    table.extend(number.to_le_bytes());
                }
            }
            let mut whole = Vec::with_capacity(size);
            whole.extend(u32::try_from(block.len()).unwrap_or(u32::MAX).to_le_bytes());
            whole.extend(sum(self.seed, block.len(), &table).to_le_bytes());
            whole.extend_from_slice(&table);
            let first = self.length + whole.len() as u64;
            block.iter().for_each(|(_, bytes)| whole.extend_from_slice(bytes));
            dir.write_at(&self.file, self.length, &whole)?;
            self.length += whole.len() as u64;
            self.learn(&table, first);
        }
        Ok(())
    }

    fn learn(&mut self, table: &[u8], mut at: u64) {
        let fresh = self.slots.last().map_or(0, |slot| slot.uid);
        let mut sorted = true;
        for entry in table.chunks_exact(ENTRY) {
            let slot = Slot { uid: u32_at(entry, 0), length: u32_at(entry, 4), sum: u32_at(entry, 8), at };
            at += u64::from(slot.length);
            sorted &= slot.uid > self.slots.last().map_or(fresh, |last| last.uid);
            self.slots.push(slot);
        }
        if !sorted {
            self.slots.sort_by_key(|slot| (slot.uid, std::cmp::Reverse(slot.at)));
            self.slots.dedup_by_key(|slot| slot.uid);
        }
    }

    /// Whether it has grown enough to be looked through by [`Cache::tidy`].
    pub(super) fn is_due(&self) -> bool {
        self.length >= self.counted.saturating_mul(2).max(self.counted + SLACK)
    }

    /// Writes the file anew when it is due and less than half of it is about messages that `lives` knows.
    pub(super) fn tidy(self, dir: &Dir, uid_validity: u32, lives: impl Fn(u32) -> bool) -> Result<Self, MailError> {
        if !self.is_due() {
            return Ok(self);
        }
        let live: Vec<u32> = self.slots.iter().map(|slot| slot.uid).filter(|uid| lives(*uid)).collect();
        let needed: u64 = self.slots.iter().filter(|slot| lives(slot.uid)).map(|slot| u64::from(slot.length)).sum();
        if needed * 2 > self.length {
            return Ok(Self { counted: self.length, ..self });
        }
        let mut next = Self::create(dir, uid_validity)?;
        for uids in live.chunks(MOST) {
            let kept = uids.iter().zip(self.plan(uids).read()?);
            let entries: Vec<_> = kept.filter_map(|(uid, bytes)| Some((*uid, bytes?))).collect();
            next.add(dir, &entries)?;
        }
        next.counted = next.length;
        Ok(next)
    }
}

/// Entries to be read.
pub(super) struct Plan {
    file: Arc<File>,
    slots: Vec<Option<Slot>>,
}

impl Plan {
    /// The first of the entries, until they have this many bytes together; at least one.
    pub(super) fn within(mut self, most: usize) -> Self {
        let mut size = 0;
        let enough = self.slots.iter().position(|slot| {
            size += slot.map_or(0, |slot| slot.length as usize);
            size >= most
        });
        self.slots.truncate(enough.map_or(self.slots.len(), |at| at + 1));
        self
    }

    /// The entries in the order they were asked for; none where there is none or it is damaged. Blocks on the disk.
    pub(super) fn read(&self) -> Result<Vec<Option<Bytes>>, MailError> {
        let mut order: Vec<(usize, Slot)> =
            self.slots.iter().enumerate().filter_map(|(place, slot)| slot.map(|slot| (place, slot))).collect();
        order.sort_by_key(|(_, slot)| slot.at);
        let mut found = vec![None; self.slots.len()];
        let mut rest = order.as_slice();
        while let Some((_, first)) = rest.first() {
            let mut end = first.at + u64::from(first.length);
            let near = |(_, slot): &&(usize, Slot)| {
                let fits = slot.at <= end + GAP && slot.at - first.at < RUN;
                if fits {
                    end = end.max(slot.at + u64::from(slot.length));
                }
                fits
            };
            let count = rest.iter().take_while(near).count().max(1);
            let (run, after) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            rest = after;
            let bytes = Bytes::from(pread(&self.file, first.at, usize::try_from(end - first.at).unwrap_or(0))?);
            for (place, slot) in run {
                let start = usize::try_from(slot.at - first.at).unwrap_or(usize::MAX);
                let stop = start.saturating_add(slot.length as usize);
                let whole = bytes.get(start..stop).is_some_and(|entry| quick_sum(entry) == slot.sum);
                if let Some(found) = found.get_mut(*place).filter(|_| whole) {
                    *found = Some(bytes.slice(start..stop));
                }
            }
        }
        Ok(found)
    }
}

fn sum(seed: u32, count: usize, table: &[u8]) -> u32 {
    crc(crc(seed, &u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes()), table)
}

/// The sum of an entry: a damaged one has another, but for one in billions. Four words at a step, as every search reads
/// all entries.
fn quick_sum(bytes: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |sum: u64, word: &[u8]| {
        let mut eight = [0; 8];
        eight.iter_mut().zip(word).for_each(|(to, from)| *to = *from);
        (sum ^ u64::from_le_bytes(eight)).wrapping_mul(FACTOR).rotate_left(29)
    };
    let mut sums = [1_u64, 2, 3, 4];
    let mut steps = bytes.chunks_exact(32);
    for step in &mut steps {
        sums.iter_mut().zip(step.chunks_exact(8)).for_each(|(sum, word)| *sum = mix(*sum, word));
    }
    let rest = steps.remainder().chunks(8);
    let whole = sums.iter().fold(bytes.len() as u64, |all, sum| mix(all, &sum.to_le_bytes()));
    let whole = rest.fold(whole, mix);
    let mixed = (whole ^ (whole >> 32)).wrapping_mul(FACTOR);
    (mixed >> 32) as u32
}

/// Zero where there are no four bytes.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// Up to `wanted` bytes from there; fewer at the end of the file.
fn pread(file: &File, at: u64, wanted: usize) -> Result<Vec<u8>, MailError> {
    let mut bytes = vec![0; wanted];
    let mut done = 0;
    while let Some(room) = bytes.get_mut(done..).filter(|room| !room.is_empty()) {
        match rustix::io::pread(file, room, at + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(MailError::io("reading a cache", errno)),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Tested = Result<(), Box<dyn std::error::Error>>;

    fn dir() -> Result<(tempfile::TempDir, Dir), Box<dyn std::error::Error>> {
        let temp = tempfile::tempdir()?;
        let dir = Dir::root(temp.path(), None)?;
        Ok((temp, dir))
    }

    fn entries(uids: std::ops::Range<u32>, word: &str) -> Vec<(u32, Bytes)> {
        uids.map(|uid| (uid, format!("{word} {uid}").into())).collect()
    }

    fn found(cache: &Cache, uids: &[u32]) -> Result<Vec<Option<String>>, MailError> {
        let read = cache.plan(uids).read()?;
        Ok(read.into_iter().map(|e| e.map(|e| String::from_utf8_lossy(&e).into_owned())).collect())
    }

    #[test]
    fn what_was_added_is_found_again_the_last_word_counting() -> Tested {
        let (_temp, dir) = dir()?;
        let mut cache = Cache::create(&dir, 7)?;
        cache.add(&dir, &entries(1..2500, "first"))?;
        cache.add(&dir, &entries(20..22, "second"))?;
        for cache in [&cache, &Cache::load(&dir, 7)?.ok_or("no cache")?] {
            let told = found(cache, &[21, 2499, 2500, 1])?;
            assert_eq!(told, [Some("second 21".into()), Some("first 2499".into()), None, Some("first 1".into())]);
        }
        assert!(Cache::load(&dir, 8)?.is_none(), "another UIDVALIDITY");
        for (most, count) in [(0, 1), (7, 1), (8, 2), (16, 3), (1000, 3)] {
            assert_eq!(cache.plan(&[1, 2, 3000]).within(most).read()?.len(), count, "{most} bytes");
        }
        Ok(())
    }

    #[test]
    fn a_cache_cut_or_changed_anywhere_shows_nothing_untrue() -> Tested {
        let (temp, dir) = dir()?;
        let path = temp.path().join("portcullis-cache");
        let mut cache = Cache::create(&dir, 7)?;
        cache.add(&dir, &entries(1..4, "one"))?;
        cache.add(&dir, &entries(4..9, "two"))?;
        let whole = std::fs::read(&path)?;
        let uids: Vec<u32> = (1..9).collect();
        let truth = found(&cache, &uids)?;
        let check = |bytes: &[u8], what: &str| -> Tested {
            std::fs::write(&path, bytes)?;
            let Some(mut cache) = Cache::load(&dir, 7)? else { return Ok(()) };
            for (told, truth) in found(&cache, &uids)?.iter().zip(&truth) {
                assert!(told.is_none() || told == truth, "{what}: {told:?}");
            }
            // It goes on to work, over whatever stood there.
            cache.add(&dir, &entries(100..101, "new"))?;
            let again = Cache::load(&dir, 7)?.ok_or("no cache")?;
            assert_eq!(found(&again, &[100])?, [Some("new 100".into())], "{what}");
            Ok(())
        };
        for cut in 0..whole.len() {
            check(whole.get(..cut).unwrap_or_default(), &format!("cut at {cut}"))?;
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 0x55);
            check(&bytes, &format!("changed at {at}"))?;
        }
        Ok(())
    }

    #[test]
    fn a_change_anywhere_in_an_entry_changes_its_sum() {
        let entry: Vec<u8> = (0..=99).collect();
        let sum = quick_sum(&entry);
        for at in 0..entry.len() {
            for bit in 0..8 {
                let mut changed = entry.clone();
                changed.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << bit);
                assert_ne!(quick_sum(&changed), sum, "bit {bit} of byte {at}");
            }
            assert_ne!(quick_sum(entry.get(..at).unwrap_or_default()), sum, "cut at {at}");
            let mut turned = entry.clone();
            turned.rotate_left(at);
            assert!(at == 0 || quick_sum(&turned) != sum, "turned by {at}");
        }
        assert_ne!(quick_sum(&[0; 32]), quick_sum(&[0; 33]));
    }

    #[test]
    fn entries_of_messages_that_are_gone_do_not_pile_up() -> Tested {
        let (_temp, dir) = dir()?;
        let mut cache = Cache::create(&dir, 7)?;
        for uid in 1..2000 {
            cache.add(&dir, &[(uid, vec![b'x'; 10_000].into())])?;
            cache = cache.tidy(&dir, 7, |known| known + 10 > uid)?;
        }
        assert!(cache.length < 4 * SLACK, "{}", cache.length);
        assert_eq!(cache.plan(&[1999, 1995]).read()?.iter().flatten().count(), 2);
        Ok(())
    }
}
