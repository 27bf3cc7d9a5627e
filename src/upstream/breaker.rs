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

/// How far somebody comes with a server. One who comes no further than the greeting cannot tell whether people can sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// A connection, TLS, the greeting.
    Greeting,
    /// The sign-in after that.
    SignIn,
}

/// One server's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breaker {
    /// It is used.
    Closed {
        /// Failures since the last success.
        failures: u32,
        /// The furthest stage at which one of them was: only who comes that far can have a success.
        stage: Stage,
        /// Whom the last one was about.
        whose: Whose,
    },
    /// It is left alone until a moment; then one may try.
    Open {
        until: Instant,
        pause: Duration,
        /// Somebody is trying.
        trial: bool,
        /// The furthest stage at which it failed: only who comes that far may try.
        stage: Stage,
        whose: Whose,
    },
}

/// Whose sign-in failed, as a hash. The same owner again tells nothing more of the server: a token that it does not take, or
/// a broken mailbox, must not shut it for everybody.
pub(super) type Whose = Option<u64>;

/// Whether somebody may go to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Like everybody.
    Free,
    /// Alone, to see whether it is well again: for those who come as far as this.
    Trial(Stage),
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
        Self::Closed { failures: 0, stage: Stage::Greeting, whose: None }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Which way there would be at this moment.
    pub(super) fn way(&self, now: Instant) -> Way {
        match self {
            Self::Closed { .. } => Way::Free,
            Self::Open { until, trial: false, stage, .. } if *until <= now => Way::Trial(*stage),
            Self::Open { .. } => Way::Shut,
        }
    }

    /// As [`Breaker::way`] for a caller who comes as far as `stage`, and takes the trial for them; they have to end it with a
    /// success, a failure or [`Breaker::abandoned`].
    pub(super) fn enter(&mut self, stage: Stage, now: Instant) -> Way {
        let way = self.way(now);
        if let (Way::Trial(needed), Self::Open { trial, .. }) = (way, self) {
            if stage < needed {
                return Way::Shut;
            }
            *trial = true;
        }
        way
    }

    /// The server did well up to this stage: nothing is held against it, if it never failed further on.
    pub(super) fn succeeded(&mut self, upto: Stage) -> Turn {
        let was_open = self.is_open();
        let (Self::Closed { stage, .. } | Self::Open { stage, .. }) = self;
        if upto < *stage {
            return Turn::None;
        }
        *self = Self::new();
        if was_open { Turn::Closed } else { Turn::None }
    }

    /// The server failed somebody at this stage; `tried` if that was its trial.
    pub(super) fn failed(&mut self, at: Stage, whose: Whose, tried: bool, now: Instant) -> Turn {
        let (Self::Closed { whose: last, .. } | Self::Open { whose: last, .. }) = *self;
        let again = at == Stage::SignIn && whose.is_some() && whose == last;
        match *self {
            Self::Closed { .. } if again => Turn::None,
            Self::Closed { failures, stage, .. } if failures + 1 < FAILURES => {
                *self = Self::Closed { failures: failures + 1, stage: stage.max(at), whose };
                Turn::None
            }
            Self::Closed { stage, .. } => {
                let (stage, pause) = (stage.max(at), FIRST_PAUSE);
                *self = Self::Open { until: now + pause, pause, trial: false, stage, whose };
                Turn::Opened
            }
            Self::Open { pause, stage, .. } if tried => {
                let pause = if again { pause } else { (pause * 2).min(LONGEST_PAUSE) };
                *self = Self::Open { until: now + pause, pause, trial: false, stage: stage.max(at), whose };
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
        assert_eq!(breaker.failed(Stage::Greeting, None, false, Instant::now()), Turn::None);
        assert_eq!(breaker.failed(Stage::Greeting, None, false, Instant::now()), Turn::None);
        assert_eq!(breaker.succeeded(Stage::SignIn), Turn::None, "a success in between starts the count anew");
        for turn in [Turn::None, Turn::None, Turn::Opened] {
            assert_eq!(breaker.failed(Stage::Greeting, None, false, Instant::now()), turn);
        }
        for pause_s in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            tokio::time::advance(Duration::from_millis(pause_s * 1000 - 1)).await;
            assert_eq!(breaker.enter(Stage::SignIn, Instant::now()), Way::Shut, "just before {pause_s} s are over");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(
                breaker.enter(Stage::SignIn, Instant::now()),
                Way::Trial(Stage::Greeting),
                "after {pause_s} s"
            );
            assert_eq!(breaker.enter(Stage::SignIn, Instant::now()), Way::Shut, "one tries, not two");
            assert_eq!(
                breaker.failed(Stage::Greeting, None, false, Instant::now()),
                Turn::None,
                "a straggler changes nothing"
            );
            assert_eq!(breaker.enter(Stage::SignIn, Instant::now()), Way::Shut);
            assert_eq!(breaker.failed(Stage::Greeting, None, true, Instant::now()), Turn::None);
        }
        tokio::time::advance(LONGEST_PAUSE).await;
        for why in ["after the longest pause", "one that was given up is free for the next"] {
            assert_eq!(breaker.enter(Stage::SignIn, Instant::now()), Way::Trial(Stage::Greeting), "{why}");
            breaker.abandoned();
        }
        assert_eq!(breaker.succeeded(Stage::SignIn), Turn::Closed);
        assert_eq!(breaker.enter(Stage::SignIn, Instant::now()), Way::Free);
    }

    #[tokio::test(start_paused = true)]
    async fn a_greeting_says_nothing_of_sign_ins() {
        let mut breaker = Breaker::new();
        for turn in [Turn::None, Turn::None, Turn::Opened] {
            assert_eq!(breaker.succeeded(Stage::Greeting), Turn::None);
            assert_eq!(breaker.failed(Stage::SignIn, None, false, Instant::now()), turn);
        }
        tokio::time::advance(FIRST_PAUSE).await;
        assert_eq!(
            breaker.enter(Stage::Greeting, Instant::now()),
            Way::Shut,
            "no trial for who sees the greeting alone"
        );
        assert_eq!(breaker.succeeded(Stage::Greeting), Turn::None);
        assert_eq!(breaker.enter(Stage::SignIn, Instant::now()), Way::Trial(Stage::SignIn));
        assert_eq!(breaker.failed(Stage::Greeting, None, true, Instant::now()), Turn::None);
        tokio::time::advance(LONGEST_PAUSE).await;
        assert_eq!(
            breaker.enter(Stage::SignIn, Instant::now()),
            Way::Trial(Stage::SignIn),
            "that is not forgotten"
        );
        assert_eq!(breaker.succeeded(Stage::SignIn), Turn::Closed);
        assert_eq!(breaker, Breaker::new());
    }

    #[tokio::test(start_paused = true)]
    async fn one_owner_does_not_shut_it_for_all() {
        let (ann, bob) = (Some(1), Some(2));
        let mut breaker = Breaker::new();
        for _ in 0..10 {
            assert_eq!(breaker.failed(Stage::SignIn, ann, false, Instant::now()), Turn::None);
        }
        assert_eq!(breaker.failed(Stage::SignIn, bob, false, Instant::now()), Turn::None);
        assert_eq!(breaker.failed(Stage::SignIn, ann, false, Instant::now()), Turn::Opened);
        for _ in 0..10 {
            tokio::time::advance(FIRST_PAUSE).await;
            assert_eq!(
                breaker.enter(Stage::SignIn, Instant::now()),
                Way::Trial(Stage::SignIn),
                "the pause does not grow"
            );
            breaker.failed(Stage::SignIn, ann, true, Instant::now());
        }
        let mut refusing = Breaker::new();
        for turn in [Turn::None, Turn::None, Turn::Opened] {
            assert_eq!(refusing.failed(Stage::Greeting, ann, false, Instant::now()), turn, "nobody's doing");
        }
    }

    proptest! {
        #[test]
        fn there_is_never_more_than_one_trial_and_always_a_way_back(
            steps in proptest::collection::vec((0u8..6, any::<bool>(), prop::option::of(0u64..3)), 0..200),
        ) {
            let (mut breaker, mut now, mut trying) = (Breaker::new(), Instant::now(), false);
            for (step, far, whose) in steps {
                let stage = if far { Stage::SignIn } else { Stage::Greeting };
                match step {
                    0 => now += FIRST_PAUSE,
                    1 => match breaker.enter(stage, now) {
                        Way::Trial(needed) => {
                            prop_assert!(!trying, "two trials at once");
                            prop_assert!(stage >= needed);
                            trying = true;
                        }
                        Way::Free => prop_assert!(!breaker.is_open()),
                        Way::Shut => prop_assert!(breaker.is_open()),
                    },
                    2 => {
                        breaker.failed(stage, whose, trying, now);
                        trying = false;
                    }
                    3 => {
                        breaker.failed(stage, whose, false, now);
                    }
                    4 if trying => {
                        breaker.abandoned();
                        trying = false;
                    }
                    5 if trying => {
                        prop_assert_eq!(breaker.succeeded(Stage::SignIn), Turn::Closed);
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
