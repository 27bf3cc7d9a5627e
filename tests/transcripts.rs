//! Dialogs in `tests/transcripts`, each against a real listener. `tests/support/transcript.rs` tells how they are written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::Path;

use support::transcript::{fits, run_folder};

#[test]
fn imap_dialogs_go_as_written() {
    run_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/imap"), |gate| gate.imaps);
}

#[test]
fn pop3_dialogs_go_as_written() {
    run_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/pop3"), |gate| gate.pop3s);
}

#[test]
fn marks_of_a_transcript_fit_what_they_should() {
    for (got, pattern, expected) in [
        ("+OK ready", "+OK <*>", true),
        ("+OK", "+OK<*>", true),
        ("-ERR", "+OK<*>", false),
        ("no (ref 7F3K2Q)", "no (ref <ref>)", true),
        ("no (ref 7f3k2q)", "no (ref <ref>)", false),
        ("* 12 EXISTS", "* <n> EXISTS", true),
        ("* x EXISTS", "* <n> EXISTS", false),
        ("+ eyJzIjoxfQ==", "+ <b64>", true),
        ("a [B 12 13] c", "a [<*> <n>] c", true),
        ("a [B 12 x] c", "a [<*> <n>] c", false),
        ("plain", "plain", true),
    ] {
        assert_eq!(fits(got, pattern), expected, "{got} against {pattern}");
    }
}
