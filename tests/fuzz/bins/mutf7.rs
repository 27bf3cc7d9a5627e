//! `cargo fuzz run --fuzz-dir tests/fuzz mutf7`
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("mutf7", data));
