//! Why a change of the directory was not made: what, where, and what to do instead.

use crate::model::{BadName, Place, UnitPath, UserId};
use crate::store::StoreError;

/// Why [`crate::store::Store::change`] did nothing.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// Somebody else changed the row meanwhile.
    #[error(
        "{place} has version {found}, not {expected}: it was changed meanwhile; read it again and repeat the change"
    )]
    Stale {
        /// The row.
        place: Place,
        /// What the asker had seen.
        expected: i64,
        /// Its version.
        found: i64,
    },
    /// The row is not there.
    #[error("there is no {place}: correct the name, or make it first")]
    Absent {
        /// The row.
        place: Place,
    },
    /// The row is there already.
    #[error("{place} is there already: change it instead")]
    Exists {
        /// The row.
        place: Place,
    },
    /// The policy file keeps the row.
    #[error("{place} is kept by the policy file {file}: change it there, or take it out of the file first")]
    Managed {
        /// The row.
        place: Place,
        /// The file's name, as it was when it was applied.
        file: String,
    },
    /// A unit that is not empty, or for which somebody has a role.
    #[error("{place} cannot be removed, it is not empty ({what}): move or remove that first")]
    InUse {
        /// The unit.
        place: Place,
        /// What is still in it.
        what: String,
    },
    /// A shared mailbox where a user's own mail is still.
    #[error(
        "{place} was a user's own address, and that user's mail is still there: use another address; a super admin may open \
         that mail to the members with take_over"
    )]
    Left {
        /// The shared mailbox.
        place: Place,
    },
    /// Something in the change cannot be.
    #[error("{place}: {what}: {remedy}")]
    Wrong {
        /// The row.
        place: Place,
        /// What is wrong.
        what: String,
        /// How to mend it.
        remedy: &'static str,
    },
    /// Without them nobody could give roles any more.
    #[error("{user} is the last super admin: make another person super admin first")]
    LastSuper {
        /// Who.
        user: UserId,
    },
    /// An admin of a subtree would change what is not theirs.
    #[error("{place} {what}: an admin of {top} may not do this; ask an admin of the whole organisation")]
    OutOfReach {
        /// The row.
        place: Place,
        /// Why it is not theirs to change.
        what: String,
        /// The top of what they reach.
        top: UnitPath,
    },
    /// Something about the list as a whole cannot be.
    #[error("{what}: no more than {most} are taken at once")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EditError {
    pub(super) fn wrong(place: Place, what: impl Into<String>, remedy: &'static str) -> Self {
        Self::Wrong { place, what: what.into(), remedy }
    }

    pub(super) fn name(place: Place, bad: &BadName) -> Self {
        Self::Wrong { place, what: format!("{} {:?}", bad.kind, bad.text), remedy: bad.problem }
    }
}
