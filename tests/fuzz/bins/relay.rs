//! `cargo fuzz run --fuzz-dir tests/fuzz relay`
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("relay", data));
