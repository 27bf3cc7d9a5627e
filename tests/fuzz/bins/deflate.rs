//! `cargo fuzz run --fuzz-dir tests/fuzz deflate`
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("deflate", data));
