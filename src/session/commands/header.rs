//! Headers of many messages, for SEARCH, SORT and THREAD: the one place where they come from. Those fields that digests
//! hold come from the folder's cache, many at a time; for others the message is read. On a blocking thread.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    digest::{self, Digest, Digester, Needs},
    source::header_end,
};
use crate::maildir::{Files, MailError, MessageReader};
use crate::message;

/// How much of a message is read at first, in bytes: most headers are shorter.
const FIRST: u64 = 8 * 1024;

/// Some fields of messages' headers.
pub(super) struct Headers {
    names: Vec<String>,
    /// How digests are made; none if they do not hold these fields.
    digester: Option<Digester>,
    /// Those of the messages that come next, with their UIDs, in order; none where the message has to be read.
    ahead: VecDeque<(u32, Option<Bytes>)>,
    /// Most of a header that is read, in bytes.
    most: usize,
}

impl Headers {
    /// The fields of these names, which are in lower case.
    pub(super) fn new(names: Vec<String>, limits: message::Limits) -> Self {
        let digester = digest::keeps(&names).then(|| Digester { needs: Needs::fields(), limits });
        Self { names, digester, ahead: VecDeque::new(), most: limits.header_bytes }
    }

    /// Whether it is time to [`Headers::look_ahead`] from this message on.
    pub(super) fn wants(&self, uid: u32) -> bool {
        !self.names.is_empty() && self.digester.is_some() && !self.ahead.iter().any(|(ahead, _)| *ahead == uid)
    }

    /// Fetches the headers of some of the messages that come next, at least of the first.
    pub(super) fn look_ahead(&mut self, files: &Files, uids: &[u32]) -> Result<(), MailError> {
        self.ahead.clear();
        if let Some(digester) = &self.digester {
            self.ahead.extend(files.inside(uids, digester)?);
        }
        Ok(())
    }

    /// The fields as they stand in the message, others maybe among them; of a header that is longer than what is read,
    /// those in its beginning.
    pub(super) fn of(&mut self, files: &Files, uid: u32) -> Result<Bytes, MailError> {
        if self.names.is_empty() {
            return Ok(Bytes::new());
        }
        while self.ahead.pop_front_if(|(ahead, _)| *ahead != uid).is_some() {}
        let digest = self.ahead.pop_front().and_then(|(_, bytes)| bytes).map(Digest::new);
        match digest.and_then(|digest| digest.into_fields()) {
            Some(fields) => Ok(fields),
            None => Ok(block(&mut files.read(uid)?, self.most as u64)?.into()),
        }
    }
}

/// The bytes up to and with the first empty line, `most` of them at most.
fn block(reader: &mut MessageReader, most: u64) -> Result<Vec<u8>, MailError> {
    let mut block = Vec::new();
    let (mut from, mut step) = (0, FIRST);
    loop {
        let to = most.min(from + step);
        let seen = block.len();
        reader.select(from..to);
        while let Some(chunk) = reader.next_now()? {
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
