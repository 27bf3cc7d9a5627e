//! `cargo fuzz run --fuzz-dir tests/fuzz config_file`
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("config_file", data));
