//! What the index remembers, as bytes: records in checksummed frames. Pure; `index` keeps the file.
//!
//! ```text
//! file   = head frame*          head  = "PORTIDX1" uidvalidity:u32 seed:u32 crc:u32      (little endian)
//! frame  = length:u32 crc:u32 payload       crc over length and payload, begun with the seed of this file
//! payload = modseq uidnext recent (kind length body)*          numbers are LEB128; unknown kinds are skipped
//! ```
//! A frame is one commit: it counts whole or not at all. The seed is new in each file, so that old blocks of a
//! recycled disk never pass for frames.

use super::{filename::Place, gone::Range};

/// Length of the head, in bytes.
pub(super) const HEAD: usize = 20;
/// Largest frame payload that is believed, in bytes.
const MAX_FRAME: usize = 64 * 1024 * 1024;
/// How an index begins.
pub(super) const MAGIC: &[u8; 8] = b"PORTIDX1";

/// One fact about a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A message was added, or stands in a compacted index.
    Message {
        uid: u32,
        modseq: u64,
        place: Place,
        name: Vec<u8>,
        /// Bytes in wire form.
        size: u64,
        /// How many bare LF get a CR in wire form; the size on disk is `size - bare`.
        bare: u64,
        /// INTERNALDATE in seconds since 1970.
        date: i64,
        /// When it came into this folder, in seconds since 1970 (RFC 8514 SAVEDATE).
        saved: i64,
        keywords: Vec<u16>,
    },
    /// The same of a message whose file nobody has opened yet: its name tells its sizes ([`super::filename::claims`]), and
    /// what they are truly, and its date, is still to be found out.
    Listed { uid: u32, modseq: u64, place: Place, name: Vec<u8>, saved: i64, keywords: Vec<u16> },
    /// What was found out about such a message, named as in `Message`.
    Measured { uid: u32, size: u64, bare: u64, date: i64 },
    /// The file has another name now; its flags follow from it.
    Renamed { uid: u32, place: Place, name: Vec<u8> },
    /// The message's keywords, all of them, as numbers in the keyword table.
    Keywords { uid: u32, keywords: Vec<u16> },
    /// The message is gone.
    Expunged { uid: u32 },
    /// The next entry of the keyword table.
    Keyword { name: String },
    /// What POP3 calls the message, where it came from a server that called it otherwise than this one would.
    Uidl { uid: u32, text: String },
    /// How far the messages of another mailbox were taken over: a number for that mailbox, and a place in it. UIDs below
    /// `next` are taken, also those of messages that the other mailbox has no more. Those below `reserved` are for its
    /// messages alone; 0 where they do not keep their UIDs.
    Imported { source: u64, upto: u64, next: u32, reserved: u32 },
    /// What the folder is called for good, where its UIDVALIDITY may be another's too.
    Identity { id: u32 },
    /// The state shows the directories as they are while these are their time stamps.
    Scanned(Stamps),
    /// What is remembered of messages that are gone, in a compacted index: removals up to `floor` in part, the others
    /// in order of their mod-sequences.
    Gone { floor: u64, ranges: Vec<Range> },
    /// What the commits up to here come to, for whoever need not know more.
    Summary(Summary),
}

/// What is told of a folder when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// How many messages there are, and their bytes in wire form.
    pub messages: u64,
    pub bytes: u64,
    /// The number of the first message without `\Seen`; 0 where there is none.
    pub unseen: u32,
    /// What the folder is called for good.
    pub id: u32,
    /// Whether messages wait in `new`.
    pub waiting: bool,
    /// The keyword table.
    pub keywords: Vec<String>,
}

/// When `new` and `cur` last changed: seconds and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamps(pub [(i64, i64); 2]);

/// What each frame says of the folder as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// The mod-sequence of this commit (RFC 7162).
    pub modseq: u64,
    /// Above every UID ever given out.
    pub uid_next: u32,
    /// Messages from this UID on are `\Recent` to the next read-write session.
    pub recent: u32,
}

/// What makes a file's frames its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub uid_validity: u32,
    pub seed: u32,
}

impl Head {
    /// The head of a file that begins with `magic`.
    pub(super) fn encode(self, magic: &[u8; 8]) -> Vec<u8> {
        let mut out = magic.to_vec();
        out.extend(self.uid_validity.to_le_bytes());
        out.extend(self.seed.to_le_bytes());
        out.extend(crc(0, &out).to_le_bytes());
        out
    }

    pub(super) fn decode(magic: &[u8; 8], bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..HEAD)?;
        let (body, sum) = head.split_at(HEAD - 4);
        let fits = body.starts_with(magic) && crc(0, body) == u32_at(sum, 0)?;
        let found = Self { uid_validity: u32_at(body, 8)?, seed: u32_at(body, 12)? };
        (fits && found.uid_validity != 0).then_some(found)
    }
}

/// Appends one frame to `out`.
pub(super) fn encode(out: &mut Vec<u8>, seed: u32, marks: Marks, records: &[Record]) {
    let mut payload = Vec::with_capacity(16 + records.len() * 24);
    for number in [marks.modseq, u64::from(marks.uid_next), u64::from(marks.recent)] {
        put(&mut payload, number);
    }
    let mut body = Vec::new();
    for record in records {
        body.clear();
        payload.push(record.write(&mut body));
        put(&mut payload, body.len() as u64);
        payload.extend_from_slice(&body);
    }
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.extend(length);
    out.extend(crc(crc(seed, &length), &payload).to_le_bytes());
    out.extend(payload);
}

/// The frame at the start of `bytes`: its payload and whole length. Nothing if it is torn or damaged.
pub(super) fn frame(bytes: &[u8], seed: u32) -> Option<(&[u8], usize)> {
    let length = u32_at(bytes, 0)? as usize;
    let payload = bytes.get(8..8_usize.checked_add(length)?)?;
    let fits = length <= MAX_FRAME && crc(crc(seed, bytes.get(..4)?), payload) == u32_at(bytes, 4)?;
    fits.then_some((payload, 8 + length))
}

/// Reads a payload; nothing if it breaks its own rules, which a right checksum makes next to impossible.
pub(super) fn decode(payload: &[u8], mut each: impl FnMut(Record)) -> Option<Marks> {
    let mut rest = payload;
    let marks = Marks {
        modseq: take(&mut rest)?,
        uid_next: u32::try_from(take(&mut rest)?).ok()?,
        recent: u32::try_from(take(&mut rest)?).ok()?,
    };
    while let Some((kind, after)) = rest.split_first() {
        rest = after;
        let body = take_bytes(&mut rest)?;
        if let Some(record) = Record::read(*kind, body)? {
            each(record);
        }
    }
    Some(marks)
}

impl Record {
    /// Writes the body and returns the kind.
    fn write(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Message { uid, modseq, place, name, size, bare, date, saved, keywords } => {
                for number in [u64::from(*uid), *modseq, *place as u64, *size, *bare, zigzag(*date), zigzag(*saved)]
                {
                    put(out, number);
                }
                put_bytes(out, name);
                put_ids(out, keywords);
                1
            }
            Self::Listed { uid, modseq, place, name, saved, keywords } => {
                for number in [u64::from(*uid), *modseq, *place as u64, zigzag(*saved)] {
                    put(out, number);
                }
                put_bytes(out, name);
                put_ids(out, keywords);
                40
            }
            Self::Measured { uid, size, bare, date } => {
                for number in [u64::from(*uid), *size, *bare, zigzag(*date)] {
                    put(out, number);
                }
                41
            }
            Self::Renamed { uid, place, name } => {
                put(out, u64::from(*uid));
                put(out, *place as u64);
                put_bytes(out, name);
                2
            }
            Self::Keywords { uid, keywords } => {
                put(out, u64::from(*uid));
                put_ids(out, keywords);
                3
            }
            Self::Expunged { uid } => {
                put(out, u64::from(*uid));
                4
            }
            Self::Keyword { name } => {
                put_bytes(out, name.as_bytes());
                5
            }
            Self::Uidl { uid, text } => {
                put(out, u64::from(*uid));
                put_bytes(out, text.as_bytes());
                20
            }
            Self::Imported { source, upto, next, reserved } => {
                let numbers = [*source, *upto, u64::from(*next), u64::from(*reserved)];
                numbers.iter().for_each(|number| put(out, *number));
                21
            }
            Self::Identity { id } => {
                put(out, u64::from(*id));
                22
            }
            Self::Scanned(Stamps(stamps)) => {
                stamps.iter().flat_map(|(secs, nanos)| [*secs, *nanos]).for_each(|n| put(out, zigzag(n)));
                8
            }
            Self::Gone { floor, ranges } => {
                put(out, *floor);
                put(out, ranges.len() as u64);
                let mut before = 0;
                for range in ranges {
                    put(out, range.modseq.saturating_sub(before));
                    put(out, u64::from(range.first));
                    put(out, u64::from(range.last.saturating_sub(range.first)));
                    before = range.modseq;
                }
                6
            }
            Self::Summary(Summary { messages, bytes, unseen, id, waiting, keywords }) => {
                let numbers = [*messages, *bytes, u64::from(*unseen), u64::from(*id), u64::from(*waiting)];
                numbers.iter().for_each(|number| put(out, *number));
                put(out, keywords.len() as u64);
                keywords.iter().for_each(|keyword| put_bytes(out, keyword.as_bytes()));
                30
            }
        }
    }

    /// `Some(None)` for a kind that a later version may have written.
    fn read(kind: u8, mut body: &[u8]) -> Option<Option<Self>> {
        let from = &mut body;
        Some(Some(match kind {
            1 => Self::Message {
                uid: u32::try_from(take(from)?).ok()?,
                modseq: take(from)?,
                place: take_place(from)?,
                size: take(from)?,
                bare: take(from)?,
                date: unzigzag(take(from)?),
                saved: unzigzag(take(from)?),
                name: take_bytes(from)?.to_vec(),
                keywords: take_ids(from)?,
            },
            40 => Self::Listed {
                uid: u32::try_from(take(from)?).ok()?,
                modseq: take(from)?,
                place: take_place(from)?,
                saved: unzigzag(take(from)?),
                name: take_bytes(from)?.to_vec(),
                keywords: take_ids(from)?,
            },
            41 => Self::Measured {
                uid: u32::try_from(take(from)?).ok()?,
                size: take(from)?,
                bare: take(from)?,
                date: unzigzag(take(from)?),
            },
            2 => Self::Renamed {
                uid: u32::try_from(take(from)?).ok()?,
                place: take_place(from)?,
                name: take_bytes(from)?.to_vec(),
            },
            3 => Self::Keywords { uid: u32::try_from(take(from)?).ok()?, keywords: take_ids(from)? },
            4 => Self::Expunged { uid: u32::try_from(take(from)?).ok()? },
            5 => Self::Keyword { name: String::from_utf8(take_bytes(from)?.to_vec()).ok()? },
            20 => Self::Uidl {
                uid: u32::try_from(take(from)?).ok()?,
                text: String::from_utf8(take_bytes(from)?.to_vec()).ok()?,
            },
            21 => Self::Imported {
                source: take(from)?,
                upto: take(from)?,
                next: u32::try_from(take(from)?).ok()?,
                // An earlier version wrote none.
                reserved: if from.is_empty() { 0 } else { u32::try_from(take(from)?).ok()? },
            },
            22 => Self::Identity { id: u32::try_from(take(from)?).ok()? },
            8 => {
                let mut pair = || Some((unzigzag(take(from)?), unzigzag(take(from)?)));
                Self::Scanned(Stamps([pair()?, pair()?]))
            }
            6 => Self::Gone { floor: take(from)?, ranges: take_ranges(from)? },
            30 => Self::Summary(Summary {
                messages: take(from)?,
                bytes: take(from)?,
                unseen: u32::try_from(take(from)?).ok()?,
                id: u32::try_from(take(from)?).ok()?,
                waiting: take(from)? != 0,
                keywords: take_names(from)?,
            }),
            _ => return Some(None),
        }))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take(from)?).ok()?;
    let (bytes, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(bytes)
}

fn put_ids(out: &mut Vec<u8>, ids: &[u16]) {
    put(out, ids.len() as u64);
    ids.iter().for_each(|id| put(out, u64::from(*id)));
}

fn take_ids(from: &mut &[u8]) -> Option<Vec<u16>> {
    let count = take(from)?;
    (0..count).map(|_| take(from).and_then(|id| u16::try_from(id).ok())).collect()
}

fn take_names(from: &mut &[u8]) -> Option<Vec<String>> {
    let count = take(from)?;
    (0..count).map(|_| String::from_utf8(take_bytes(from)?.to_vec()).ok()).collect()
}

fn take_ranges(from: &mut &[u8]) -> Option<Vec<Range>> {
    let count = take(from)?;
    let mut modseq = 0_u64;
    let range = |_| {
        modseq = modseq.checked_add(take(from)?)?;
        let first = u32::try_from(take(from)?).ok()?;
        let last = first.checked_add(u32::try_from(take(from)?).ok()?)?;
        Some(Range { first, last, modseq })
    };
    (0..count).map(range).collect()
}

fn take_place(from: &mut &[u8]) -> Option<Place> {
    take(from).map(|place| if place == 0 { Place::New } else { Place::Cur })
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// CRC-32 (ISO-HDLC, the one of gzip), eight bytes at a step; `before` is the sum so far.
pub(super) fn crc(before: u32, bytes: &[u8]) -> u32 {
    let look = |table: usize, byte: u32| TABLES.get(table).and_then(|t| t.get((byte & 255) as usize)).copied();
    let look = |table, byte| look(table, byte).unwrap_or(0);
    let mut sum = !before;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let low = sum ^ u32_at(chunk, 0).unwrap_or(0);
        let high = u32_at(chunk, 4).unwrap_or(0);
        sum = look(7, low) ^ look(6, low >> 8) ^ look(5, low >> 16) ^ look(4, low >> 24);
        sum ^= look(3, high) ^ look(2, high >> 8) ^ look(1, high >> 16) ^ look(0, high >> 24);
    }
    for byte in chunks.remainder() {
        sum = look(0, sum ^ u32::from(*byte)) ^ (sum >> 8);
    }
    !sum
}

static TABLES: [[u32; 256]; 8] = tables();

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses an index out of bounds")]
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0_u32; 256]; 8];
    let mut at = 0;
    while at < 256 {
        let mut sum = at as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xEDB8_8320 } else { sum >> 1 };
            bit += 1;
        }
        tables[0][at] = sum;
        at += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut at = 0;
        while at < 256 {
            let sum = tables[table - 1][at];
            tables[table][at] = (sum >> 8) ^ tables[0][(sum & 255) as usize];
            at += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_gzip() {
        assert_eq!(crc(0, b"123456789"), 0xCBF4_3926);
        assert_eq!(crc(crc(0, b"12345"), b"6789"), 0xCBF4_3926);
        assert_eq!(crc(0, b"The quick brown fox jumps over the lazy dog"), 0x414F_A339);
    }

    #[test]
    fn a_frame_reads_back_as_written_and_never_in_part() -> Result<(), &'static str> {
        let records = vec![
            Record::Keyword { name: "$Forwarded".into() },
            Record::Message {
                uid: 7,
                modseq: u64::MAX,
                place: Place::Cur,
                name: b"1.a:2,S".to_vec(),
                size: 1 << 40,
                bare: 3,
                date: -1,
                saved: 1_700_000_000,
                keywords: vec![0, 499],
            },
            Record::Listed {
                uid: 8,
                modseq: 300,
                place: Place::New,
                name: b"1.b,S=1,W=2:2,S".to_vec(),
                saved: -1,
                keywords: vec![1],
            },
            Record::Measured { uid: 8, size: 1 << 40, bare: 1, date: -7 },
            Record::Renamed { uid: 7, place: Place::New, name: b"1.a".to_vec() },
            Record::Keywords { uid: u32::MAX, keywords: vec![] },
            Record::Expunged { uid: 7 },
            Record::Uidl { uid: 7, text: "0000000700000011".into() },
            Record::Imported { source: u64::MAX, upto: 1 << 40, next: 9, reserved: 300 },
            Record::Identity { id: u32::MAX },
            Record::Scanned(Stamps([(1_700_000_000, 999_999_999), (-1, 0)])),
            Record::Summary(Summary::default()),
            Record::Summary(Summary {
                messages: u64::MAX,
                bytes: 1 << 40,
                unseen: u32::MAX,
                id: 7,
                waiting: true,
                keywords: vec!["$Junk".into(), String::new()],
            }),
            Record::Gone { floor: 0, ranges: vec![] },
            Record::Gone {
                floor: 1 << 40,
                ranges: vec![
                    Range { first: 9, last: 300, modseq: 1 << 41 },
                    Range { first: 1, last: 1, modseq: 1 << 41 },
                    Range { first: 2, last: u32::MAX, modseq: u64::MAX },
                ],
            },
        ];
        let marks = Marks { modseq: 300, uid_next: 8, recent: 1 };
        let mut bytes = Vec::new();
        encode(&mut bytes, 42, marks, &records);
        let (payload, length) = frame(&bytes, 42).ok_or("frame")?;
        let mut found = Vec::new();
        assert_eq!(decode(payload, |r| found.push(r)), Some(marks));
        assert_eq!((found, length), (records, bytes.len()));
        assert!(frame(&bytes, 43).is_none(), "another file's seed");
        for cut in 0..bytes.len() {
            assert!(frame(bytes.get(..cut).ok_or("cut")?, 42).is_none(), "cut at {cut}");
        }
        Ok(())
    }
}
