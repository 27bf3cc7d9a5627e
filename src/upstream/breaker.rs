//! When a server that fails is left alone, and when it is tried again. Values and moments in, verdicts out; `servers` keeps
//! one for each server.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which a server is left alone.
pub(super) const FAILURES: u32 = 3;
/// The first pause; each failed trial doubles it.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One server's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breaker {
    /// It is used.
    Closed {
        /// Failures since the last success.
        failures: u32,
    },
    /// It is left alone until a moment; then one may try.
    Open {
        until: Instant,
        pause: Duration,
        /// Somebody is trying.
        trial: bool,
    },
}

/// Whether somebody may go to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Like everybody.
    Free,
    /// Alone, to see whether it is well again.
    Trial,
    /// Not now.
    Shut,
}

/// What a success or failure changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing that anybody has to be told.
    None,
    /// From now on it is left alone.
    Opened,
    /// From now on it is used again.
    Closed,
}

impl Breaker {
    pub(super) const fn new() -> Self {
        Self::Closed { failures: 0 }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Which way there would be at this moment.
    pub(super) fn way(&self, now: Instant) -> Way {
        match self {
            Self::Closed { .. } => Way::Free,
            Self::Open { until, trial: false, .. } if *until <= now => Way::Trial,
            Self::Open { .. } => Way::Shut,
        }
    }

    /// As [`Breaker::way`], and takes the trial for the caller, who has to end it with a success, a failure or
    /// [`Breaker::abandoned`].
    pub(super) fn enter(&mut self, now: Instant) -> Way {
        let way = self.way(now);
        if let (Way::Trial, Self::Open { trial, .. }) = (way, self) {
            *trial = true;
        }
        way
    }

    /// The server did what it is for.
    pub(super) fn succeeded(&mut self) -> Turn {
        let was_open = self.is_open();
        *self = Self::new();
        if was_open { Turn::Closed } else { Turn::None }
    }

    /// The server failed somebody; `tried` if that was its trial.
    pub(super) fn failed(&mut self, tried: bool, now: Instant) -> Turn {
        match self {
            Self::Closed { failures } if *failures + 1 < FAILURES => {
                *failures += 1;
                Turn::None
            }
            Self::Closed { .. } => {
                *self = Self::Open { until: now + FIRST_PAUSE, pause: FIRST_PAUSE, trial: false };
                Turn::Opened
            }
            Self::Open { pause, .. } if tried => {
                let pause = (*pause * 2).min(LONGEST_PAUSE);
                *self = Self::Open { until: now + pause, pause, trial: false };
                Turn::None
            }
            // Somebody who was on the way when it opened: that is known already.
            Self::Open { .. } => Turn::None,
        }
    }

    /// The trial ended without a word about the server: the next one may try.
    pub(super) fn abandoned(&mut self) {
        if let Self::Open { trial, .. } = self {
            *trial = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn three_failures_in_a_row_open_it_and_the_pauses_grow_to_a_minute() {
        let mut breaker = Breaker::new();
        assert_eq!(breaker.failed(false, Instant::now()), Turn::None);
        assert_eq!(breaker.failed(false, Instant::now()), Turn::None);
        assert_eq!(breaker.succeeded(), Turn::None, "a success in between starts the count anew");
        for turn in [Turn::None, Turn::None, Turn::Opened] {
            assert_eq!(breaker.failed(false, Instant::now()), turn);
        }
        for pause_s in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            tokio::time::advance(Duration::from_millis(pause_s * 1000 - 1)).await;
            assert_eq!(breaker.enter(Instant::now()), Way::Shut, "just before {pause_s} s are over");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(breaker.enter(Instant::now()), Way::Trial, "after {pause_s} s");
            assert_eq!(breaker.enter(Instant::now()), Way::Shut, "one tries, not two");
            assert_eq!(breaker.failed(false, Instant::now()), Turn::None, "a straggler changes nothing");
            assert_eq!(breaker.enter(Instant::now()), Way::Shut);
            assert_eq!(breaker.failed(true, Instant::now()), Turn::None);
        }
        tokio::time::advance(LONGEST_PAUSE).await;
        assert_eq!(breaker.enter(Instant::now()), Way::Trial);
        breaker.abandoned();
        assert_eq!(breaker.enter(Instant::now()), Way::Trial, "a trial that was given up is free for the next");
        assert_eq!(breaker.succeeded(), Turn::Closed);
        assert_eq!(breaker.enter(Instant::now()), Way::Free);
    }

    proptest! {
        #[test]
        fn there_is_never_more_than_one_trial_and_always_a_way_back(steps in proptest::collection::vec(0u8..6, 0..200)) {
            let (mut breaker, mut now, mut trying) = (Breaker::new(), Instant::now(), false);
            for step in steps {
                match step {
                    0 => now += FIRST_PAUSE,
                    1 => match breaker.enter(now) {
                        Way::Trial => {
                            prop_assert!(!trying, "two trials at once");
                            trying = true;
                        }
                        Way::Free => prop_assert!(!breaker.is_open()),
                        Way::Shut => prop_assert!(breaker.is_open()),
                    },
                    2 => {
                        breaker.failed(trying, now);
                        trying = false;
                    }
                    3 => {
                        breaker.failed(false, now);
                    }
                    4 if trying => {
                        breaker.abandoned();
                        trying = false;
                    }
                    5 if trying => {
                        prop_assert_eq!(breaker.succeeded(), Turn::Closed);
                        trying = false;
                    }
                    _ => {}
                }
            }
            if trying {
                breaker.abandoned();
            }
            prop_assert!(breaker.way(now + LONGEST_PAUSE) != Way::Shut);
        }
    }
}
