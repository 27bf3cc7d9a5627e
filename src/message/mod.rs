//! What a mail message is made of: a streaming MIME scanner (ENVELOPE, BODYSTRUCTURE, the byte ranges behind
//! BODY[section]), header filters, and what SEARCH needs (header and body text, a matcher, dates).
//!
//! Bytes in, values out; nothing here panics, recurses on the input or keeps message bodies. Called by `maildir`
//! and `session`. Imports no other room.
//!
//! Where the RFCs leave a choice on malformed mail, the answer is the one most clients already know from Dovecot;
//! each such place says so.

mod address;
mod boundary;
mod charset;
mod collate;
mod date;
mod envelope;
mod field;
mod filter;
mod header;
mod html;
mod links;
mod matcher;
mod mime;
mod part;
mod preview;
mod reference;
mod scan;
mod section;
mod subject;
mod text;
mod thread;
mod transfer;
mod word;

pub use address::{Address, addresses};
pub use charset::{Charset, decode_guessed};
pub use collate::collation_key;
pub use date::parse_date;
pub use envelope::Envelope;
pub use field::{Field, Fields, fields, unfold, values};
pub use filter::{HeaderFilter, Keep, header_fields};
pub use header::Limits;
pub use matcher::{Matcher, Needle};
pub use mime::{Disposition, Media, Parameter, parameter};
pub use part::{Part, Shape, Step, Structure};
pub use preview::Preview;
pub use reference::message_ids;
pub use scan::Scanner;
pub use section::SectionText;
pub use subject::{BaseSubject, base_subject};
pub use text::{Piece, TextDecoder, TextRoom, body_text};
pub use thread::{ThreadToken, Threadable, Threads, by_references, by_subject};
pub use transfer::{Transfer, TransferDecoder};
pub use word::{decode_header, decode_header_block, header_holds};
