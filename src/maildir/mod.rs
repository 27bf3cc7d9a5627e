//! The embedded mail store: Maildir++ on disk, as mail transfer agents and mutt know it, and an index of its own beside
//! it that keeps UIDs, keywords and sizes. Called by `session`; imports `model`, `policy` and modified UTF-7.
//!
//! ```text
//! DATA_DIR/mail/example.com/ann/          INBOX, and the owner's directory
//!   cur/ new/ tmp/                        messages, one a file; flags are letters of the file's name
//!   portcullis-index                      UIDVALIDITY, UIDs, keywords, sizes: `record`, `index`
//!   portcullis-cache                      what was found inside messages: `cache`
//!   portcullis-uidvalidity                the last UIDVALIDITY given out
//!   portcullis-subscriptions              what the user wants to see
//!   portcullis-pop-lock                   held by a POP3 session
//!   .Sent/ .A.B/                          folders `Sent` and `A/B`, each with cur, new, tmp and its index
//! ```
//!
//! [`Mail`] is the store, [`Maildir`] one owner's folders, [`View`] what one session sees of a folder. File work runs on
//! blocking threads, a bounded number of them; questions about messages are answered from memory.
//!
//! What is durable when: a message's file is synced in `tmp`, renamed into `cur`, `cur` synced, the index's record
//! synced; then the call returns. A crash before that leaves no trace or a whole message nobody was told of. Flags live
//! in file names (keywords in the index); a change is a rename, a sync of `cur` and a record. The index can be lost: it
//! is made anew from the files, with a new UIDVALIDITY.

mod cache;
mod change;
mod deliver;
mod disk;
mod error;
mod filename;
mod flags;
mod folder;
mod gone;
mod index;
mod keywords;
mod listing;
mod lock;
mod path;
mod pool;
mod record;
mod root;
mod scan;
mod state;
mod subscriptions;
mod tree;
mod view;
mod watch;
mod wire;

pub use deliver::Appending;
pub use error::MailError;
pub use flags::{FlagOp, Flags};
pub use listing::{Folder, SpecialUse};
pub use root::{Limits, Mail, Settings};
pub use tree::{Maildir, Status};
pub use view::{CopyUid, Files, Glance, Insight, Meta, Mode, Stored, Update, View};
pub use wire::{CHUNK, MessageReader};

#[cfg(test)]
mod tests;
