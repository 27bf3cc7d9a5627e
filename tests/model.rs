//! Random sessions on one mailbox, command by command, against a model of what RFC 3501 and RFC 7162 let each of them be
//! told, and when: no removal under FETCH, STORE and SEARCH, numbers that hold until they are told to move, everything
//! told in the end, and to a program that comes back what it missed.
//!
//! `PORTCULLIS_MODEL_RUNS` is how many runs there are, `PORTCULLIS_MODEL_SEED` where their seeds start: a run that fails
//! prints its seed and the whole dialogue.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

#[path = "model/mailbox.rs"]
mod mailbox;
#[path = "model/picture.rs"]
mod picture;
#[path = "model/run.rs"]
mod run;
#[path = "model/select.rs"]
mod select;

use std::time::{Duration, Instant};

use mailbox::Mailbox;
use picture::{Picture, Rules};
use run::{Kind, Run, Session};
use support::{ANN, APP, Gate};

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub struct Dice(u64);

impl Dice {
    /// Below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = self.roll(from.len());
        &from[at]
    }

    /// `n` times of `of`.
    pub fn chance(&mut self, n: usize, of: usize) -> bool {
        self.roll(of) < n
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn three_sessions_of_one_mailbox_are_told_what_the_rules_say() {
    let (runs, seed) = (number("PORTCULLIS_MODEL_RUNS", 40), number("PORTCULLIS_MODEL_SEED", 1));
    let gate = Gate::start();
    let connect = |kind| Session::new(gate.imap(ANN, APP), kind);
    let kinds = [Kind::Plain, Kind::Condstore, Kind::Qresync];
    let mut pool: Vec<Session> = kinds.iter().flat_map(|kind| (0..3).map(|_| connect(*kind))).collect();
    let (start, mut commands) = (Instant::now(), 0);
    for seed in seed..seed + runs {
        commands += Run::new(&gate, &mut pool, seed).carry_out();
    }
    let took = start.elapsed().max(Duration::from_millis(1));
    println!("{runs} runs of {commands} commands in {took:?}");
}

/// The model sees what it is there for: each of these lines would be wrong.
#[test]
fn what_the_rules_forbid_is_found() {
    let rules = Rules { expunge: true, bare: false, uid: false };
    let quiet = Rules { expunge: false, ..rules };
    let cases = [
        (Kind::Plain, "* 2 EXPUNGE", rules, true),
        (Kind::Plain, "* 2 EXPUNGE", quiet, false),
        (Kind::Plain, "* 1 EXPUNGE", rules, false),
        (Kind::Plain, "* 4 EXPUNGE", rules, false),
        (Kind::Plain, "* VANISHED 2", rules, false),
        (Kind::Qresync, "* VANISHED 2", rules, true),
        (Kind::Qresync, "* VANISHED 2", quiet, false),
        (Kind::Qresync, "* VANISHED 1:2", rules, false),
        (Kind::Qresync, "* VANISHED 4", rules, false),
        (Kind::Qresync, "* 2 EXPUNGE", rules, false),
        (Kind::Plain, "* 4 EXISTS", rules, true),
        (Kind::Plain, "* 3 EXISTS", rules, true),
        (Kind::Plain, "* 5 EXISTS", rules, false),
        (Kind::Plain, "* 2 EXISTS", rules, false),
        (Kind::Plain, "* 1 FETCH (FLAGS (\\Seen))", rules, true),
        (Kind::Plain, "* 1 FETCH (FLAGS (\\Recent \\Seen))", rules, true),
        (Kind::Plain, "* 1 FETCH (FLAGS ())", rules, false),
        (Kind::Plain, "* 4 FETCH (FLAGS ())", rules, false),
        (Kind::Plain, "* 1 FETCH (FLAGS (\\Seen) UID 1)", rules, false),
        (Kind::Plain, "* 1 FETCH (FLAGS (\\Seen) MODSEQ (7))", rules, false),
        (Kind::Condstore, "* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (7))", rules, true),
        (Kind::Condstore, "* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (6))", rules, false),
        (Kind::Condstore, "* 1 FETCH (UID 3 FLAGS (\\Seen) MODSEQ (7))", rules, false),
        (Kind::Condstore, "* 1 FETCH (FLAGS (\\Seen) MODSEQ (7))", rules, false),
        (Kind::Condstore, "* 1 FETCH (UID 1 FLAGS (\\Seen))", rules, false),
    ];
    for (kind, line, rules, is_right) in cases {
        // UIDs 1 to 3 were told; 2 is gone since, 4 is new, and at mod-sequence 6 message 1 had no flag.
        let mut mailbox = Mailbox::new("m".to_owned());
        for _ in 0..3 {
            mailbox.add(mailbox::flags("\\Seen"));
        }
        mailbox.history.insert((1, 6), mailbox::flags(""));
        let mut picture = Picture::new(kind, &mailbox);
        mailbox.begin();
        mailbox.remove(2);
        mailbox.add(mailbox::flags(""));
        let heard = std::panic::AssertUnwindSafe(|| picture.hear(line, &mut mailbox, rules));
        assert_eq!(std::panic::catch_unwind(heard).is_ok(), is_right, "{kind:?}: {line}");
        if is_right {
            // The rest of the news is still owed.
            let done = std::panic::AssertUnwindSafe(|| picture.done("OK", &mailbox, rules));
            assert!(std::panic::catch_unwind(done).is_err(), "{kind:?}: {line} and no more");
        }
    }
}
