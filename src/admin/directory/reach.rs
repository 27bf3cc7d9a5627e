//! How far an actor sees: what is out of reach does not exist. What they may change is looked at by `store`, in the change's
//! own transaction.

use super::{
    super::{Actor, Control, problem::Problem},
    absent,
};
use crate::model::{UnitPath, UserId};

impl Control {
    /// Whether this user is within reach.
    pub(super) fn reaches(&self, actor: &Actor, user: &UserId) -> Result<(), Problem> {
        let seen = self.store.read(|directory| actor.sees_user(user, directory));
        if seen { Ok(()) } else { Err(absent("user", user)) }
    }
}

fn within(actor: &Actor, unit: &UnitPath) -> Result<(), Problem> {
    if actor.sees_unit(unit) { Ok(()) } else { Err(absent("unit", unit)) }
}

/// The unit that a list is cut to: the one asked for, or the actor's own.
pub(super) fn top(actor: &Actor, asked: Option<UnitPath>) -> Result<Option<UnitPath>, Problem> {
    match (asked, actor.role()) {
        (Some(unit), _) => within(actor, &unit).map(|()| Some(unit)),
        (None, role) => Ok(role.unit().cloned()),
    }
}
