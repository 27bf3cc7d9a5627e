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
    let (runs, seed) = (number("PORTCULLIS_MODEL_RUNS", 60), number("PORTCULLIS_MODEL_SEED", 1));
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
