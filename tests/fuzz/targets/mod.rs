//! The fuzz targets' bodies: each takes any bytes and panics when a promise is broken. Run by cargo-fuzz through
//! `bins/`, and over the seeds by `tests/fuzz_seeds.rs`.

mod config_file;
mod deflate;
mod header;
mod imap_frame;
mod imap_grammar;
mod mime;
mod mutf7;
mod policy_file;
mod pop3;
mod proxy;
mod relay;
mod sasl;
mod token;

/// One target.
pub type Target = fn(&[u8]);

/// All of them; each has a binary and a folder of seeds of its name.
pub const ALL: [(&str, Target); 13] = [
    ("imap_frame", imap_frame::run),
    ("imap_grammar", imap_grammar::run),
    ("pop3", pop3::run),
    ("sasl", sasl::run),
    ("token", token::run),
    ("policy_file", policy_file::run),
    ("mime", mime::run),
    ("header", header::run),
    ("mutf7", mutf7::run),
    ("config_file", config_file::run),
    ("proxy", proxy::run),
    ("deflate", deflate::run),
    ("relay", relay::run),
];

/// Runs the target of that name.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = ALL.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no target {name}"));
    target(data);
}

/// Cuts `bytes` into pieces whose lengths follow from `sizes`, over and over; without sizes it stays whole.
fn cut<'b>(mut bytes: &'b [u8], sizes: &[u8]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    let mut sizes = sizes.iter().cycle();
    while !bytes.is_empty() {
        let length = sizes.next().map_or(bytes.len(), |size| usize::from(*size % 64) + 1);
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
