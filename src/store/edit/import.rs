//! A list of users brought into the directory, with a report. Called by `cli` and `admin`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::SystemTime,
};

use super::{
    Action, Actor, EditError, GroupPatch, UserPatch, find, finish, former,
    people::There,
    work::{Done, Stop, Work},
};
use crate::model::{GroupId, Place, UnitPath, UnixTime, UserId};
use crate::policy::import::{ImportLine, ImportedUser};
use crate::store::{AuditEvent, Role, Store, feed::Write};

/// Lines whose users are asked for together.
const CHUNK: usize = 500;
/// Wrong lines that a report names.
const MOST_WRONG: usize = 1_000;

/// What became of a list, or would become of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Users who were not there.
    pub made: usize,
    /// Users who are in another unit, suspended or not, or in more groups than before.
    pub changed: usize,
    /// Users about whom the list says what is so already.
    pub same: usize,
    /// Lines that are wrong.
    pub wrong_count: usize,
    /// The first of them, at most 1,000: line and what is wrong.
    pub wrong: Vec<(usize, String)>,
    /// Whether the directory was changed: not in a dry run, and not where a line is wrong.
    pub is_done: bool,
}

impl Store {
    /// Makes and changes the users of a list, in one transaction: all, or nobody where a line is wrong. Users who are not on
    /// the list stay as they are. With `dry_run` nothing is changed. For the admin of a subtree a line that reaches outside it
    /// is wrong, and so is one that names groups, which are the whole organisation's, makes somebody who has a role or whose
    /// address was somebody's outside, or suspends or moves somebody whose role reaches beyond it.
    pub async fn import(
        &self,
        lines: &[ImportLine],
        actor: Actor<'_>,
        dry_run: bool,
    ) -> Result<Imported, EditError> {
        let now = UnixTime::from(SystemTime::now());
        let mut write = Write::begin(self, "importing users").await?;
        let (mut work, version) = Work::begin(&mut write, actor, now).await?;
        let outcome = work.import(lines).await;
        let mut events = work.into_events();
        let mut imported = match outcome {
            Ok(imported) => imported,
            Err(Stop::Edit(error)) => return Err(error),
            Err(Stop::Failed(failed)) => return Err(write.failed(failed).into()),
        };
        if dry_run || imported.wrong_count > 0 || imported.made + imported.changed == 0 {
            return Ok(imported);
        }
        let mut summary = AuditEvent::new(now, "directory.imported", "done");
        let Imported { made, changed, same, .. } = imported;
        let reason = actor.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        summary.detail =
            Some(format!("by {}{reason}: {made} users made, {changed} changed, {same} as before", actor.by));
        events.insert(0, summary);
        finish(write, events, version, now).await?;
        imported.is_done = true;
        Ok(imported)
    }
}

/// The groups that a list names, as they are found.
#[derive(Default)]
struct Groups {
    /// Members before; none for a group that cannot be changed, with the reason.
    known: BTreeMap<GroupId, Result<BTreeSet<UserId>, String>>,
    joining: BTreeMap<GroupId, Vec<UserId>>,
}

impl Work<'_> {
    async fn import(&mut self, lines: &[ImportLine]) -> Done<Imported> {
        let mut imported = Imported::default();
        let mut groups = Groups::default();
        for lines in lines.chunks(CHUNK) {
            self.import_some(lines, &mut groups, &mut imported).await?;
        }
        // Where a line is wrong all of it is dropped: who would join a group may not even be there.
        if imported.wrong_count == 0 {
            for (name, add) in groups.joining {
                let patch = GroupPatch { add, ..GroupPatch::default() };
                self.group(&name, &Action::Change(patch), None).await?;
            }
        }
        Ok(imported)
    }

    async fn import_some(&mut self, lines: &[ImportLine], groups: &mut Groups, imported: &mut Imported) -> Done {
        // What stands there is asked for together: a question to a server costs the same for one as for many.
        let within = self.within();
        let named: Vec<&UserId> =
            lines.iter().filter_map(|line| line.user.as_ref().ok()).map(|line| &line.user).collect();
        let mut users = find::users(self.tx, &named).await?;
        let mailboxes = find::mailboxes_among(self.tx, &named).await?;
        let mut formers = former::among(self.tx, &named).await?;
        let admins = if within.is_some() { find::admins_among(self.tx, &named).await? } else { HashMap::new() };
        for line in lines {
            let outcome = match &line.user {
                Ok(user) => match within.map_or(Ok(()), |top| reaches(top, user)) {
                    Ok(()) if admins.contains_key(&user.user) && !users.contains_key(&user.user) => {
                        let user = &user.user;
                        Ok(Err(format!("user \"{user}\" has a role from before: a super admin makes such users")))
                    }
                    Ok(()) => {
                        let there = There {
                            user: users.remove(&user.user),
                            is_mailbox: mailboxes.contains(&user.user),
                            former: formers.remove(&user.user),
                        };
                        let reach = within.map(|top| (top, admins.get(&user.user)));
                        self.import_one(user, there, groups, reach).await
                    }
                    Err(outside) => Ok(Err(outside)),
                },
                Err(wrong) => Ok(Err(wrong.clone())),
            };
            match outcome? {
                Ok(Became::Made) => imported.made += 1,
                Ok(Became::Changed) => imported.changed += 1,
                Ok(Became::Same) => imported.same += 1,
                Err(wrong) => {
                    imported.wrong_count += 1;
                    if imported.wrong.len() < MOST_WRONG {
                        imported.wrong.push((line.line, wrong));
                    }
                }
            }
        }
        Ok(())
    }

    /// What a user became, or what is wrong with the line. `reach`: the subtree that the list must stay in, and the role that
    /// the user has already.
    async fn import_one(
        &mut self,
        wanted: &ImportedUser,
        there: There,
        groups: &mut Groups,
        reach: Option<(&UnitPath, Option<&Role>)>,
    ) -> Done<Result<Became, String>> {
        let mut joins = Vec::new();
        for name in &wanted.groups {
            if !groups.known.contains_key(name) {
                let found = self.group_to_join(name).await?;
                groups.known.insert(name.clone(), found);
            }
            match groups.known.get(name) {
                Some(Ok(members)) if members.contains(&wanted.user) => {}
                Some(Ok(_)) => joins.push(name.clone()),
                Some(Err(wrong)) => return Ok(Err(wrong.clone())),
                None => {}
            }
        }
        let before = there.user.as_ref().map(|found| &found.value);
        if let (Some((top, _)), Some(user)) = (reach, before)
            && !user.unit.is_within(top)
        {
            let user = &wanted.user;
            return Ok(Err(format!("user \"{user}\" is not in {top} or below it: leave the line out")));
        }
        let same = before.is_some_and(|user| {
            wanted.unit.as_ref().is_none_or(|unit| *unit == user.unit)
                && wanted.suspended.is_none_or(|suspended| suspended == user.suspended)
        });
        let is_new = before.is_none();
        if !same {
            if let Some((top, Some(role))) = reach.filter(|_| !is_new)
                && role.reaches_beyond(top)
            {
                let user = &wanted.user;
                return Ok(Err(format!(
                    "user \"{user}\" is {role}, which reaches beyond {top}: leave the line out"
                )));
            }
            let patch =
                UserPatch { unit: wanted.unit.clone(), suspended: wanted.suspended, ..UserPatch::default() };
            let action = if is_new { Action::Make(patch) } else { Action::Change(patch) };
            match self.found_user(&wanted.user, there, &action, None).await {
                Ok(()) => {}
                Err(Stop::Edit(error)) => return Ok(Err(error.to_string())),
                Err(failed) => return Err(failed),
            }
        }
        let became = match (is_new, same && joins.is_empty()) {
            (true, _) => Became::Made,
            (false, true) => Became::Same,
            (false, false) => Became::Changed,
        };
        for name in joins {
            groups.joining.entry(name).or_default().push(wanted.user.clone());
        }
        Ok(Ok(became))
    }

    async fn group_to_join(&mut self, name: &GroupId) -> Done<Result<BTreeSet<UserId>, String>> {
        let place = Place::Group(name.clone());
        let Some(found) = find::group(self.tx, name).await? else {
            return Ok(Err(EditError::Absent { place }.to_string()));
        };
        match self.may_change(&place, (&found.managed_by, found.version), None).await {
            Ok(()) => Ok(Ok(find::group_members(self.tx, name).await?.into_iter().collect())),
            Err(Stop::Edit(error)) => Ok(Err(error.to_string())),
            Err(failed) => Err(failed),
        }
    }
}

/// Whether a line stays within a subtree, as far as the line itself tells.
fn reaches(top: &UnitPath, wanted: &ImportedUser) -> Result<(), String> {
    if let Some(unit) = wanted.unit.as_ref().filter(|unit| !unit.is_within(top)) {
        return Err(format!("unit \"{unit}\" is not {top} or below it: name one that is"));
    }
    if let Some(group) = wanted.groups.first() {
        return Err(format!("group \"{group}\" is the whole organisation's: leave the groups out"));
    }
    Ok(())
}

enum Became {
    Made,
    Changed,
    Same,
}
