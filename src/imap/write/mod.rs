//! What the peer reads: every answer, written straight into the connection's output buffer. Called by `session` and
//! `bad`. Imports `model` only.
//!
//! Nothing that came from outside gets here unescaped: texts are reduced to printable ASCII, strings are quoted or sent
//! as literals, names go out as modified UTF-7.

mod data;
mod fetch;
mod search;
mod status;
mod string;

pub use data::{
    ListLine, capability, capability_list, enabled, exists, expunge, flags, id, list, list_separator, lsub,
    metadata, metadata_changed, namespace, quota, quota_root, recent, status, vanished,
};
pub use fetch::{FetchLine, date_time, email_id};
pub use search::{EsearchLine, NumbersLine, ThreadLine, ThreadStep};
pub use status::{Code, Status, capabilities, continuation, greeting, tagged, untagged};
pub use string::{binary_head, literal_head, mailbox, nstring, number, octets, string};

use bytes::BytesMut;

/// Formats into the buffer. Never fails: a `BytesMut` grows.
fn put(out: &mut BytesMut, args: std::fmt::Arguments<'_>) {
    let _ = std::fmt::Write::write_fmt(out, args);
}

/// Decodes one response with imap-codec, which was not written by us.
#[cfg(test)]
fn read_back(wire: &[u8]) -> String {
    use imap_codec::{ResponseCodec, decode::Decoder};
    match ResponseCodec::default().decode(wire) {
        Ok((rest, response)) => format!("{response:?} rest {}", rest.len()),
        Err(error) => format!("{error:?} {}", String::from_utf8_lossy(wire)),
    }
}
