//! Policy, the heart: who may come in with which app by which protocol, and why not. Pure: no I/O, no clock.
//! Called by `store` (fills the [`Directory`]), `gate` ([`Permit`] or [`Refusal`]) and `cli` ([`explain`]). Imports
//! `model` and `token`.

mod catalogue;
mod cutoffs;
mod decide;
mod directory;
mod domains;
mod effective;
mod explain;
mod facts;
pub mod file;
mod groups;
mod home;
pub mod import;
mod limits;
mod permit;
mod preview;
mod quota;
mod refusal;
mod rule;
mod tree;

pub use catalogue::{apps_shipped, shipped_name};
pub use cutoffs::{Account, Cutoff, CutoffKey, Whose};
pub use decide::{Question, explain, explain_token, recognise, recognise_sign_in};
pub use directory::{Counts, Directory};
pub use effective::Effective;
pub use explain::{Explanation, Step};
pub use facts::{
    Access, App, Edit, Grant, GrantKey, GrantState, Group, Mailbox, OwnOff, Rights, Setting, Settings, Trust, Unit,
    User,
};
pub use limits::{Bound, LimitSettings};
pub use permit::{Given, Permit, decide, decide_again};
pub use preview::{AppCount, Fall, LiveSeat, Pair, Preview, Side, Trial};
pub use quota::{Ceiling, Quota, QuotaSettings};
pub use refusal::Refusal;

#[cfg(test)]
mod tests;
