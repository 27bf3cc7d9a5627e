//! Another IMAP server, as its client: so far a source that mail is taken over from (`portcullis mailbox import imap`).
//! Called by `cli`; imports `model`, and `imap` for names. The server is not trusted: every answer is bounded.

mod answer;
mod source;

pub use source::{Fetched, Piece, RemoteFolder, Selected, Source, SourceError, SourceLogin, SourceServer};
