//! PREVIEW (RFC 8970): a few words of a message. Called by `fetch`.

use super::source::Source;
use crate::maildir::MailError;
use crate::message::Preview;

/// The preview of a message that was looked into for its parts: at most 200 characters, empty where it shows no text.
pub(super) async fn preview(source: &mut Source) -> Result<String, MailError> {
    let Source { reader, structure, .. } = source;
    for part in structure.previews() {
        let mut preview = Preview::new(part);
        reader.select(part.body());
        while let Some(chunk) = reader.next().await? {
            tokio::task::consume_budget().await;
            if !preview.feed(&chunk) {
                break;
            }
        }
        let text = preview.finish();
        if !text.is_empty() {
            return Ok(text);
        }
    }
    Ok(String::new())
}
