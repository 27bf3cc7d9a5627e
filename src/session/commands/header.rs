//! Headers of many messages, for SEARCH, SORT and THREAD: the one place where they come from.

use super::source::header_end;
use crate::maildir::{Files, MailError, MessageReader};
use crate::message;

/// How much of a message is read at first, in bytes: most headers are shorter.
const FIRST: u64 = 8 * 1024;

/// The fields of these names, which are in lower case, one after another as they stand in the message's header; of a
/// header longer than `most` bytes those in its beginning. On a blocking thread.
pub(super) fn fields(files: &Files, uid: u32, names: &[String], most: usize) -> Result<Vec<u8>, MailError> {
    let block = block(&mut files.read(uid)?, most as u64)?;
    let mut wanted = Vec::new();
    for field in message::fields(&block) {
        if names.iter().any(|name| field.is(name.as_bytes())) {
            wanted.extend_from_slice(field.raw);
        }
    }
    Ok(wanted)
}

/// The bytes up to and with the first empty line, `most` of them at most.
fn block(reader: &mut MessageReader, most: u64) -> Result<Vec<u8>, MailError> {
    let mut block = Vec::new();
    let (mut from, mut step) = (0, FIRST);
    loop {
        let to = most.min(from + step);
        let seen = block.len();
        reader.select(from..to);
        while let Some(chunk) = reader.next_blocking()? {
            block.extend_from_slice(&chunk);
        }
        if let Some(end) = header_end(&block, seen) {
            block.truncate(end);
            return Ok(block);
        }
        if to >= most.min(reader.size()) {
            return Ok(block);
        }
        (from, step) = (to, step * 4);
    }
}
