//! An explanation: what `decide` looked at, in order. Filled while judging, printed by `cli` and the console.

use std::fmt;

use super::Refusal;
use crate::model::Place;

/// A verdict with the steps that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What `decide` says.
    pub verdict: Result<(), Refusal>,
    /// The facts it looked at, in order; after a no, the last one is the refusal.
    pub steps: Vec<Step>,
}

/// One fact on the way to the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which check looked: `token`, `user`, `mailbox`, `suspension`, `setting`, `own switch`, `app`, `trust`, `grant`,
    /// `rights`, `mail`.
    pub check: &'static str,
    /// What it found, as a sentence.
    pub finding: String,
    /// Where that stands, if anywhere.
    pub place: Option<Place>,
    /// Whether the way went on from here.
    pub passed: bool,
}

impl Step {
    pub(super) fn fact(check: &'static str, finding: String, place: Place) -> Self {
        Self { check, finding, place: Some(place), passed: true }
    }
}

/// `ok  user         ann@example.com is in unit /Sales`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.passed { "ok" } else { "NO" };
        write!(f, "{mark}  {:<11} {}", self.check, self.finding)
    }
}

/// One line a step.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl Refusal {
    /// The check that refuses so, in the words of [`Step::check`].
    pub(super) fn check(&self) -> &'static str {
        match self {
            Self::TokenRevoked { .. } | Self::AccountClosed { .. } => "token",
            Self::UserUnknown { .. } => "user",
            Self::NotMember { .. } => "mailbox",
            Self::RightsLowered { .. } => "rights",
            Self::HomeMoved { .. } => "mail",
            Self::UserSuspended { .. } => "suspension",
            Self::ServiceOff { .. } => "setting",
            Self::ServiceOffByUser { .. } => "own switch",
            Self::AppNotListed { .. } | Self::ServiceAccount { .. } => "app",
            Self::AppBlocked { .. } | Self::AppLimited { .. } => "trust",
            Self::GrantDisabled { .. } | Self::GrantRemoved { .. } => "grant",
        }
    }
}

/// Takes notes while judging; [`Silent`] takes none, and then no note is even made.
pub(super) trait Trace {
    /// Whether notes are taken at all.
    fn listens(&self) -> bool;

    fn note(&mut self, step: impl FnOnce() -> Step);
}

pub(super) struct Silent;

impl Trace for Silent {
    fn listens(&self) -> bool {
        false
    }

    fn note(&mut self, _: impl FnOnce() -> Step) {}
}

impl Trace for Vec<Step> {
    fn listens(&self) -> bool {
        true
    }

    fn note(&mut self, step: impl FnOnce() -> Step) {
        self.push(step());
    }
}
