//! The embedded mail store: Maildir++ on disk, as mail transfer agents and mutt know it, and an index of its own beside
//! it that keeps UIDs, keywords and sizes. Called by `session`; imports `model`, `policy` and modified UTF-7.
//!
//! ```text
//! DATA_DIR/mail/example.com/ann/          INBOX, and the owner's directory
//!   cur/ new/ tmp/                        messages, one a file; flags are letters of the file's name
//!   portcullis-index                      UIDVALIDITY, UIDs, keywords, sizes, what was removed: `record`, `index`
//!   portcullis-cache                      what was found inside messages: `cache`
//!   portcullis-uidvalidity                the last UIDVALIDITY given out or set aside
//!   portcullis-subscriptions              what the user wants to see
//!   portcullis-pop-lock                   held by a POP3 session
//!   portcullis-annotations                what programs attached to a folder: `annotations`
//!   portcullis-server-annotations         the same for the mail as a whole
//!   portcullis-renaming                   a RENAME of several folders that is under way: `renaming`
//!   portcullis-renaming-lock              held by it
//!   .Sent/ .A.B/                          folders `Sent` and `A/B`, each with cur, new, tmp and its index
//!     portcullis-use                      what the folder was made for, where CREATE said so
//! ```
//!
//! [`Mail`] is the store, [`Maildir`] one owner's folders, [`View`] what one session sees of a folder. File work runs on
//! blocking threads, a bounded number of them; questions about messages are answered from memory.
//!
//! What is durable when: a message's file is synced in `tmp`, renamed into `cur`, `cur` synced, the index's record
//! synced; then the call returns. A crash before that leaves no trace or a whole message nobody was told of. Flags live
//! in file names (keywords in the index); a change is a rename, a sync of `cur` and a record. The index can be lost: it
//! is made anew from the files, with a new UIDVALIDITY.

mod annotations;
mod appending;
mod cache;
mod change;
mod check;
mod copying;
mod deliver;
mod disk;
mod error;
mod filename;
mod files;
mod flags;
mod folder;
mod gone;
mod hub;
mod import;
mod index;
mod keywords;
mod listing;
mod lock;
mod measure;
mod path;
mod pool;
mod quota;
mod record;
mod renaming;
mod repair;
mod replace;
mod root;
mod scan;
mod seam;
mod state;
mod subscriptions;
mod tree;
mod validity;
mod view;
mod watch;
mod wire;

pub use annotations::Change as AnnotationChange;
pub use appending::{Appending, Sealed};
pub use check::{Checked, Finding, Weight};
pub use copying::CopyUid;
pub use deliver::Delivered;
pub use error::MailError;
pub use flags::{FlagOp, Flags};
pub use hub::{Heard, Listener, News};
pub use import::{Importer, Incoming, Into, Numbering, Staged, Staging, Taken};
pub use import::{dovecot, mbox};
pub use listing::{Folder, SpecialUse};
pub use quota::Usage;
pub use repair::Rebuilt;
pub use root::{Limits, Mail, Settings};
pub use tree::{Maildir, Status};
pub use view::{Files, Glance, Insight, Meta, Mode, Stored, Update, View};
pub use wire::{CHUNK, MessageReader};

#[cfg(test)]
mod tests;
