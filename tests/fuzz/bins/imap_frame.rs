//! `cargo fuzz run --fuzz-dir tests/fuzz imap_frame`
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("imap_frame", data));
