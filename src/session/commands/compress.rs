//! COMPRESS (RFC 4978): from the answer on, both directions are compressed.

use super::reply::Reply;
use crate::imap::write::Code;
use crate::session::{Ending, login::Dialog};

/// Answers, then switches over; none if the answer is on its way already.
pub(super) async fn compress(dialog: &mut Dialog, tag: &str) -> Result<Option<Reply>, Ending> {
    if dialog.link.wire.is_compressed() {
        return Ok(Some(Reply::no(Code::CompressionActive, "Compression is active already")));
    }
    Reply::ok("DEFLATE active").write(dialog, tag);
    dialog.link.wire.flush().await?;
    // A peer that does not wait for the answer may have sent its first compressed bytes.
    let already = dialog.framer.take_rest();
    dialog.link.wire.compress(&already);
    Ok(None)
}
