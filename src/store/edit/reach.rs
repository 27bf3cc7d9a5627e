//! How far a change of a subtree's admin may reach: they touch what is in the subtree, and move nothing out of it or into it.
//! Asked in the change's own transaction, of the rows as they are then: what others changed while it waited for its turn
//! counts. Called by `work` and `provision`; `people`, `units` and `former` ask whether mail stays where it is.

use std::collections::HashMap;

use sqlx::Row;

use super::{
    Action, Directive, EditError, MailboxPatch, UnitPatch, UserPatch, find,
    work::{Done, Work},
};
use crate::model::{MailHome, Place, UnitPath, UserId};
use crate::store::{Role, roles, rows};

impl Work<'_> {
    /// Whether the change is within the actor's reach. What is outside does not exist.
    pub(super) async fn reaches(&mut self, directive: &Directive) -> Done {
        let Some(top) = self.within().cloned() else { return Ok(()) };
        match directive {
            Directive::Unit(path, action) => {
                inside(path, &top)?;
                if let Action::Make(UnitPatch { mail: Some(_), .. })
                | Action::Change(UnitPatch { mail: Some(_), .. }) = action
                {
                    return Err(servers(Place::Unit(path.clone()), &top).into());
                }
                if matches!(action, Action::Remove) {
                    below(path, &top)?;
                }
                Ok(())
            }
            Directive::MoveUnit { from, to } => {
                inside(from, &top)?;
                inside(to, &top)?;
                below(from, &top)?;
                self.holds_nobody_from_beyond(from, &top).await
            }
            Directive::User(id, action) => self.reaches_user(id, action, &top).await,
            Directive::Mailbox(id, action) => self.reaches_mailbox(id, action, &top).await,
            Directive::Group(name, _) => Err(everybodys(Place::Group(name.clone()), &top).into()),
            Directive::App(id, _) => Err(everybodys(Place::App(id.clone()), &top).into()),
        }
    }

    async fn reaches_user(&mut self, id: &UserId, action: &Action<UserPatch>, top: &UnitPath) -> Done {
        let place = || Place::User(id.clone());
        if !matches!(action, Action::Make(_)) {
            self.reaches_users([id], top).await?;
        }
        if let Action::Make(UserPatch { mail: Some(_), .. }) | Action::Change(UserPatch { mail: Some(_), .. }) =
            action
        {
            return Err(servers(place(), top).into());
        }
        match action {
            Action::Change(patch) if patch.unit.is_some() || patch.suspended.is_some() => {
                let role = roles::of(self.tx, id).await?;
                if role.reaches_beyond(top) {
                    return Err(beyond(place(), &role, top).into());
                }
            }
            Action::Change(_) => {}
            // A role goes with the user, and one of an address that is no user's waits for whoever makes it.
            Action::Make(_) | Action::Remove => {
                let role = roles::of(self.tx, id).await?;
                if role != Role::User {
                    let what = format!("is {role}: who has a role is neither made nor removed here");
                    return Err(out(place(), what, top).into());
                }
            }
        }
        if let Action::Make(UserPatch { unit: Some(unit), .. })
        | Action::Change(UserPatch { unit: Some(unit), .. }) = action
        {
            inside(unit, top)?;
        }
        Ok(())
    }

    async fn reaches_mailbox(&mut self, id: &UserId, action: &Action<MailboxPatch>, top: &UnitPath) -> Done {
        let place = || Place::Mailbox(id.clone());
        if !matches!(action, Action::Make(_)) {
            let unit = find::mailbox(self.tx, id).await?.and_then(|found| found.value.1);
            if !unit.is_some_and(|unit| unit.is_within(top)) {
                return Err(EditError::Absent { place: place() }.into());
            }
        }
        let (Action::Make(patch) | Action::Change(patch)) = action else { return Ok(()) };
        match (&patch.unit, action) {
            (Some(Some(unit)), _) => inside(unit, top)?,
            (None, Action::Change(_)) => {}
            _ => return Err(out(place(), "would be in no unit".to_owned(), top).into()),
        }
        let named = patch.members.iter().flatten().chain(&patch.add).map(|(user, _)| user);
        self.reaches_users(named, top).await
    }

    /// Whether the mail of what is at `place` stays where it is when it goes from one unit to another: a word on that in
    /// either of them, or above, is the whole organisation's, also where it only says what the configuration says.
    pub(super) async fn keeps_home(&mut self, place: &Place, from: &UnitPath, to: &UnitPath) -> Done {
        let Some(top) = self.within().filter(|_| from != to) else { return Ok(()) };
        if self.home_in(from).await? == self.home_in(to).await? {
            return Ok(());
        }
        Err(servers(place.clone(), top).into())
    }

    /// Whether what says itself where mail is may go: what is made in its place would not say it.
    pub(super) fn may_forget_home(&self, place: &Place, home: Option<&MailHome>) -> Result<(), EditError> {
        match self.within().filter(|_| home.is_some()) {
            Some(top) => Err(servers(place.clone(), top)),
            None => Ok(()),
        }
    }

    /// Where the mail of a unit is, as far as its row and those above it say.
    async fn home_in(&mut self, unit: &UnitPath) -> Done<Option<MailHome>> {
        if let Some(known) = self.homes.get(unit) {
            return Ok(known.clone());
        }
        let mut line = vec![unit.clone()];
        while let Some(above) = line.last().and_then(UnitPath::parent) {
            line.push(above);
        }
        let sql = "SELECT path, mail FROM units WHERE mail IS NOT NULL AND path IN ";
        let found = rows::some(self.tx, sql, line.iter().map(UnitPath::as_str)).await?;
        let mut nearest: Option<(String, MailHome)> = None;
        for row in &found {
            let path: String = row.try_get(0)?;
            // All of them are one above the other.
            if nearest.as_ref().is_none_or(|(other, _)| other.len() < path.len()) {
                nearest = Some((path, MailHome::parse(row.try_get(1)?)?));
            }
        }
        let home = nearest.map(|(_, home)| home);
        self.homes.insert(unit.clone(), home.clone());
        Ok(home)
    }

    async fn reaches_users<'u>(&mut self, ids: impl IntoIterator<Item = &'u UserId>, top: &UnitPath) -> Done {
        let ids: Vec<&UserId> = ids.into_iter().collect();
        let found: HashMap<UserId, _> = find::users(self.tx, &ids).await?;
        let is_in = |id: &UserId| found.get(id).is_some_and(|user| user.value.unit.is_within(top));
        match ids.into_iter().find(|id| !is_in(id)) {
            Some(id) => Err(EditError::Absent { place: Place::User(id.clone()) }.into()),
            None => Ok(()),
        }
    }

    /// A unit takes its users along, so whoever is not to be moved alone is not moved with it either.
    async fn holds_nobody_from_beyond(&mut self, unit: &UnitPath, top: &UnitPath) -> Done {
        let (length, begin) = find::below(unit);
        let sql = "SELECT address, role, unit FROM admins WHERE address IN (SELECT address FROM users WHERE unit = $1 \
                   OR substr(unit, 1, CAST($2 AS INTEGER)) = $3) ORDER BY address";
        let query = sqlx::query(sql).bind(unit.as_str()).bind(length).bind(begin);
        for row in query.fetch_all(&mut *self.tx).await? {
            let role = Role::from_columns(&row, 1)?;
            if role.reaches_beyond(top) {
                let user = UserId::parse(row.try_get(0)?)?;
                return Err(beyond(Place::User(user), &role, top).into());
            }
        }
        Ok(())
    }
}

fn inside(unit: &UnitPath, top: &UnitPath) -> Result<(), EditError> {
    if unit.is_within(top) { Ok(()) } else { Err(EditError::Absent { place: Place::Unit(unit.clone()) }) }
}

fn below(unit: &UnitPath, top: &UnitPath) -> Result<(), EditError> {
    if unit == top {
        return Err(out(
            Place::Unit(unit.clone()),
            "is neither removed nor moved by its own admin".to_owned(),
            top,
        ));
    }
    Ok(())
}

fn beyond(place: Place, role: &Role, top: &UnitPath) -> EditError {
    out(place, format!("is {role}, which reaches beyond {top}: neither suspended nor moved here"), top)
}

/// Which servers there are is the whole organisation's, and so is whose mail is on them.
fn servers(place: Place, top: &UnitPath) -> EditError {
    out(place, "would have its mail elsewhere (mail)".to_owned(), top)
}

fn everybodys(place: Place, top: &UnitPath) -> EditError {
    out(place, "is the whole organisation's".to_owned(), top)
}

fn out(place: Place, what: String, top: &UnitPath) -> EditError {
    EditError::OutOfReach { place, what, top: top.clone() }
}
