//! The setting in force for a unit or a user, with the place it comes from: for people who look at settings. The lookup is
//! the one that `decide` uses.

use super::{
    Access, Directory,
    decide::{InForce, in_force_for_unit, in_force_for_user},
    rule::Allowed,
};
use crate::model::{Place, Service, UnitPath, UnixTime, UserId};

/// A setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// What it allows.
    pub access: Access,
    /// When it ends by itself.
    pub until: Option<UnixTime>,
    /// Whose setting it is.
    pub place: Place,
}

impl Directory {
    /// The setting of a service in force for a unit: its own, or the one it inherits. A unit that nobody made inherits
    /// like any other.
    pub fn effective_for_unit(&self, unit: &UnitPath, service: Service, now: UnixTime) -> Effective {
        let known = self.tree.number_or_above(unit);
        self.effective(&in_force_for_unit(self, known, service, now), None)
    }

    /// The setting of a service in force for a user; none if there is no such user. It says nothing about suspension and
    /// about the user's own switch.
    pub fn effective_for_user(&self, user: &UserId, service: Service, now: UnixTime) -> Option<Effective> {
        let row = self.user(user)?;
        Some(self.effective(&in_force_for_user(self, row, service, now), Some(user)))
    }

    fn effective(&self, found: &InForce<'_>, user: Option<&UserId>) -> Effective {
        let access = match found.rule.map(|rule| &rule.access) {
            None | Some(Allowed::Off) => Access::Off,
            Some(Allowed::Any) => Access::Any,
            Some(Allowed::Only(list)) => Access::Only(list.ids(&self.apps).cloned().collect()),
        };
        let until = found.rule.and_then(|rule| rule.until);
        Effective { access, until, place: found.place(user) }
    }
}
