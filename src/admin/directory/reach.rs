//! How far an actor reaches: who may make which change. An admin of a subtree touches what is in it, and moves nothing out
//! of it or into it.

use super::{
    super::{
        Actor, Control,
        problem::{Problem, ProblemKind},
    },
    absent,
};
use crate::model::{UnitPath, UserId};
use crate::store::{Action, Directive, Role};

impl Control {
    /// Whether the actor may make this change. What is out of reach does not exist.
    pub(in crate::admin) async fn may(&self, actor: &Actor, directive: &Directive) -> Result<(), Problem> {
        if actor.sees_all() {
            return Ok(());
        }
        match directive {
            Directive::Unit(path, action) => {
                within(actor, path)?;
                if matches!(action, Action::Remove) { below_top(actor, path) } else { Ok(()) }
            }
            Directive::MoveUnit { from, to } => {
                within(actor, from)?;
                within(actor, to)?;
                below_top(actor, from)
            }
            Directive::User(id, action) => {
                if !matches!(action, Action::Make(_)) {
                    self.reaches(actor, id)?;
                }
                let patch = match action {
                    Action::Make(patch) | Action::Change(patch) => Some(patch),
                    Action::Remove => None,
                };
                match action {
                    Action::Change(patch) if patch.unit.is_some() || patch.suspended.is_some() => {
                        let role = self.store.role_of(id).await?;
                        if actor.role().unit().is_none_or(|top| role.reaches_beyond(top)) {
                            return Err(forbidden(actor, &format!("suspend or move {id}, who is {role}")));
                        }
                    }
                    Action::Change(_) => {}
                    // A role goes with the user, and one of an address that is no user's waits for whoever makes it.
                    Action::Make(_) | Action::Remove => {
                        if self.store.role_of(id).await? != Role::User {
                            return Err(forbidden(actor, &format!("make or remove {id}, who has a role")));
                        }
                    }
                }
                patch.and_then(|patch| patch.unit.as_ref()).map_or(Ok(()), |unit| within(actor, unit))
            }
            Directive::Mailbox(id, action) => {
                if !matches!(action, Action::Make(_)) {
                    let unit = self.store.mailbox(id).await?.and_then(|mailbox| mailbox.value.unit);
                    unit.filter(|unit| actor.sees_unit(unit)).ok_or_else(|| absent("shared mailbox", id))?;
                }
                let (Action::Make(patch) | Action::Change(patch)) = action else { return Ok(()) };
                match (&patch.unit, action) {
                    (Some(Some(unit)), _) => within(actor, unit)?,
                    (None, Action::Change(_)) => {}
                    _ => return Err(forbidden(actor, "make a shared mailbox of no unit")),
                }
                let named = patch.members.iter().flatten().chain(&patch.add);
                named.map(|(user, _)| user).try_for_each(|user| self.reaches(actor, user))
            }
            Directive::Group(..) => Err(forbidden(actor, "change groups, which are the whole organisation's")),
            Directive::App(..) => {
                Err(forbidden(actor, "change the app catalogue, which is the whole organisation's"))
            }
        }
    }

    /// Whether this user is within reach.
    pub(super) fn reaches(&self, actor: &Actor, user: &UserId) -> Result<(), Problem> {
        let seen = self.store.read(|directory| actor.sees_user(user, directory));
        if seen { Ok(()) } else { Err(absent("user", user)) }
    }
}

fn within(actor: &Actor, unit: &UnitPath) -> Result<(), Problem> {
    if actor.sees_unit(unit) { Ok(()) } else { Err(absent("unit", unit)) }
}

fn below_top(actor: &Actor, unit: &UnitPath) -> Result<(), Problem> {
    match actor.role() {
        Role::Admin(top) if top == unit => Err(forbidden(actor, "remove or move the unit that is theirs")),
        _ => Ok(()),
    }
}

fn forbidden(actor: &Actor, what: &str) -> Problem {
    Problem::new(ProblemKind::Forbidden, format!("{} is {}, and may not {what}", actor.name(), actor.role()))
}

/// The unit that a list is cut to: the one asked for, or the actor's own.
pub(super) fn top(actor: &Actor, asked: Option<UnitPath>) -> Result<Option<UnitPath>, Problem> {
    match (asked, actor.role()) {
        (Some(unit), _) => within(actor, &unit).map(|()| Some(unit)),
        (None, role) => Ok(role.unit().cloned()),
    }
}
