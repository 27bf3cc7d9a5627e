//! From a file's bytes to the bytes of the wire: lines of mail end in CRLF there (RFC 5322 section 2.3), while other
//! programs store a bare LF. Sizes are exact: what is announced is what [`MessageReader`] yields.

use std::{fs::File, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use rustix::io::{Errno, ReadWriteFlags};

use super::{
    disk::Dir,
    error::{MailError, io},
    measure::{self, Measured, Sizes},
    pool::Pool,
};

/// Most bytes in one chunk, on the wire.
pub const CHUNK: usize = 64 * 1024;

/// How many LF in `bytes` no CR stands before; `last` is the byte before the first.
pub(super) fn bare_line_feeds(bytes: &[u8], last: u8) -> u64 {
    let before = |at: usize| at.checked_sub(1).map_or(Some(last), |at| bytes.get(at).copied());
    memchr::memchr_iter(b'\n', bytes).filter(|at| before(*at) != Some(b'\r')).count() as u64
}

/// One message's bytes as they go over the wire, in chunks of at most [`CHUNK`]; any range, in any order.
///
/// Holds an open file: the message can be read to its end although another session expunges it meanwhile.
#[derive(Debug)]
pub struct MessageReader {
    file: Arc<File>,
    pool: Pool,
    uid: u32,
    size: u64,
    bare: u64,
    window: Range<u64>,
    at: Cursor,
    /// All of it in wire form, where it had to be read for its size.
    whole: Option<Bytes>,
    found: Option<Measured>,
}

/// Where reading goes on: a place on the wire, the same place in the file, the byte before it.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    wire: u64,
    disk: u64,
    last: u8,
}

impl MessageReader {
    /// Opens a message on a blocking thread. If it was measured and has changed since, it counts as gone; if it was not,
    /// it is now, and [`MessageReader::found`] tells.
    pub(super) fn open(dir: &Dir, name: &[u8], pool: &Pool, uid: u32, sizes: Sizes) -> Result<Self, MailError> {
        let (file, stat) = dir.open(name, false)?;
        let (mut sizes, mut whole, mut found) = (sizes, None, None);
        if !sizes.measured {
            let measured;
            (measured, whole) = measure::opened(&file, &stat, name)?;
            (sizes, found) = (Sizes::of(measured), Some(measured));
        }
        let Sizes { size, bare, .. } = sizes;
        if u64::try_from(stat.st_size).ok() != size.checked_sub(bare) {
            return Err(MailError::Gone { uid });
        }
        let (pool, file) = (pool.clone(), Arc::new(file));
        Ok(Self { file, pool, uid, size, bare, window: 0..size, at: Cursor::default(), whole, found })
    }

    /// What opening it found out, for [`super::folder::Folder::found_out`].
    pub(super) fn found(&self) -> Option<(u32, Measured)> {
        self.found.map(|found| (self.uid, found))
    }

    /// Bytes of the whole message in wire form: RFC822.SIZE.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The message's UID.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Sets what [`MessageReader::next`] reads from here on: this range of the wire form, cut at the message's end.
    pub fn select(&mut self, range: Range<u64>) {
        let start = range.start.min(self.size);
        self.window = start..range.end.clamp(start, self.size);
    }

    /// The next chunk of the range, nothing at its end. Cancel-safe: a call that was dropped reads the same again.
    ///
    /// Bytes in the page cache are read at once, others on a blocking thread.
    ///
    /// # Errors
    /// `Io` from the disk; `Gone` if the file was cut short meanwhile, so that the size announced can not be kept.
    pub async fn next(&mut self) -> Result<Option<Bytes>, MailError> {
        if let Some(chunk) = self.at_hand() {
            return Ok(Some(chunk));
        }
        while !self.window.is_empty() {
            let (at, wanted) = self.wanted();
            let bytes = self.read(at, wanted).await?;
            if let Some(chunk) = self.take(bytes)? {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    /// The same for a blocking thread: waits for the disk.
    ///
    /// # Errors
    /// As [`MessageReader::next`].
    pub fn next_now(&mut self) -> Result<Option<Bytes>, MailError> {
        if let Some(chunk) = self.at_hand() {
            return Ok(Some(chunk));
        }
        while !self.window.is_empty() {
            let (at, wanted) = self.wanted();
            let bytes = read_now(&self.file, at, wanted)?;
            if let Some(chunk) = self.take(bytes)? {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    /// The next chunk, if the message is in memory.
    fn at_hand(&mut self) -> Option<Bytes> {
        let whole = self.whole.as_ref().filter(|_| !self.window.is_empty())?;
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(whole.len());
        let end = self.window.end.min(self.window.start + CHUNK as u64);
        let chunk = whole.slice(place(self.window.start)..place(end));
        self.window.start = end;
        Some(chunk)
    }

    /// Where the file is to be read next, and how much of it.
    fn wanted(&mut self) -> (u64, usize) {
        if self.bare == 0 {
            self.at = Cursor { wire: self.window.start, disk: self.window.start, last: 0 };
        } else if self.at.wire > self.window.start {
            self.at = Cursor::default();
        }
        let left = self.window.end - self.window.start;
        let (left, most) = if self.bare == 0 { (left, CHUNK) } else { (self.size - self.at.wire, CHUNK / 2) };
        (self.at.disk, usize::try_from(left).unwrap_or(most).min(most))
    }

    /// What file bytes are on the wire; nothing if they lie before the window.
    fn take(&mut self, bytes: Bytes) -> Result<Option<Bytes>, MailError> {
        if bytes.is_empty() {
            return Err(MailError::Gone { uid: self.uid });
        }
        if self.bare == 0 {
            self.window.start += bytes.len() as u64;
            return Ok(Some(bytes));
        }
        Ok(self.converted(&bytes))
    }

    /// All of the range at once, which the caller knows to be small.
    ///
    /// # Errors
    /// `TooBig` if it is longer than `most` bytes; else as [`MessageReader::next`].
    pub async fn all(&mut self, most: usize) -> Result<Vec<u8>, MailError> {
        let length = self.window.end - self.window.start;
        if length > most as u64 {
            return Err(MailError::TooBig { most: most as u64 });
        }
        let mut whole = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        while let Some(chunk) = self.next().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }

    /// All of the message at once, which the caller knows to be small, on a blocking thread.
    ///
    /// # Errors
    /// As [`MessageReader::next`].
    pub fn all_blocking(&mut self) -> Result<Vec<u8>, MailError> {
        let mut whole = Vec::with_capacity(usize::try_from(self.size).unwrap_or(0));
        self.select(0..self.size);
        while let Some(chunk) = self.next_now()? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }

    /// The wire form of file bytes at the cursor, cut to the window; nothing if they lie before it.
    fn converted(&mut self, bytes: &[u8]) -> Option<Bytes> {
        let out = wire_form(bytes, self.at.last);
        let from = self.at.wire;
        self.at = Cursor {
            wire: from + out.len() as u64,
            disk: self.at.disk + bytes.len() as u64,
            last: bytes.last().copied().unwrap_or(self.at.last),
        };
        let cut = |to: u64| usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX).min(out.len());
        let (start, end) = (cut(self.window.start), cut(self.window.end));
        if start >= end {
            return None;
        }
        self.window.start += (end - start) as u64;
        Some(out.freeze().slice(start..end))
    }

    async fn read(&self, at: u64, wanted: usize) -> Result<Bytes, MailError> {
        if let Some(bytes) = read_at(&self.file, at, wanted, ReadWriteFlags::NOWAIT) {
            return Ok(bytes);
        }
        let file = Arc::clone(&self.file);
        self.pool.run("reading a message", move || read_now(&file, at, wanted)).await
    }
}

/// File bytes as they are on the wire; `last` is the byte before the first.
pub(super) fn wire_form(bytes: &[u8], mut last: u8) -> BytesMut {
    let mut out = BytesMut::with_capacity(bytes.len() + bytes.len() / 16 + 16);
    let mut done = 0;
    for at in memchr::memchr_iter(b'\n', bytes) {
        let line = bytes.get(done..at).unwrap_or_default();
        out.extend_from_slice(line);
        let before = line.last().copied().unwrap_or(last);
        out.extend_from_slice(if before == b'\r' { b"\n" } else { b"\r\n" });
        (last, done) = (b'\n', at + 1);
    }
    out.extend_from_slice(bytes.get(done..).unwrap_or_default());
    out
}

/// Waits for the disk.
pub(super) fn read_now(file: &File, at: u64, wanted: usize) -> Result<Bytes, MailError> {
    let mut buffer = vec![0; wanted];
    let count = loop {
        match rustix::io::pread(file, &mut buffer, at) {
            Err(Errno::INTR) => {}
            other => break other.map_err(io("reading a message"))?,
        }
    };
    buffer.truncate(count);
    Ok(Bytes::from(buffer))
}

/// Reads what needs no waiting for the disk; nothing if that is nothing, or the system can not tell.
fn read_at(file: &File, at: u64, wanted: usize, flags: ReadWriteFlags) -> Option<Bytes> {
    let mut buffer = vec![0; wanted];
    let count = rustix::io::preadv2(file, &mut [std::io::IoSliceMut::new(&mut buffer)], at, flags).ok()?;
    buffer.truncate(count);
    (count > 0).then(|| Bytes::from(buffer))
}
