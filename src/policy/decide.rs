//! The verdict. Pure and total: same facts, same answer. Asked before serving, again on every change, and by people
//! who want to know why.
//!
//! The order of the checks, which is the order an explanation reads in; the first one that fails decides:
//! 0. *token*: its issuer has not said since that it is not good any more;
//! 1. *user*: the directory lists the user;
//! 2. *mailbox*: it is the user's own, or a shared one the user is a member of;
//! 3. *suspension*: the user is not suspended;
//! 4. *setting*: the setting in force for the user does not turn the service off. In force is the first of: the user's
//!    own exception; the group of highest priority that sets the service; the nearest unit upwards that sets it; the
//!    built-in default, off. A setting that has run out counts as absent;
//! 5. *own switch*: the user has not turned the service off for themselves;
//! 6. *app*: where the setting is a list, the app is on it, by its own ID or by an entry with a last `*` whose beginning it
//!    has; a service account comes in there only by delegation;
//! 7. *shared mailbox's unit*, where it has one: 4 and 6 again with the setting of that unit. Both identities must be
//!    allowed: a mailbox of a closed unit is not opened by a member from an open one;
//! 8. *trust*: the app is neither blocked nor limited to other units than the user's and the shared mailbox's. The
//!    catalogue's entry of exactly this ID speaks; without one, the entry with the longest beginning that the app has;
//! 9. *grant*: it is not disabled, and the token is younger than its last removal.
//!
//! What a yes allows is told by the step *rights*: reading alone where the member list of a shared mailbox, the app's entry,
//! the user's unit or the shared mailbox's says so; else everything.

use std::sync::Arc;

use super::{
    Cutoff, Directory, Explanation, GrantState, Refusal, Rights, Step, Trust,
    cutoffs::Cutoffs,
    directory::UserRow,
    explain::{Silent, Trace},
    rule::{Allowed, AppRow, Rule},
    tree::covers,
};
use crate::model::{ClientId, GroupId, MailHome, Place, Service, UnitPath, UnixTime, UserId};
use crate::token::{Identity, SignIn};

/// What is asked, in values that need no token: for `explain` and previews.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who wants in.
    pub user: UserId,
    /// Whose mailbox: the same address, or a shared mailbox.
    pub owner: UserId,
    /// With which app.
    pub app: ClientId,
    /// By which protocol.
    pub service: Service,
    /// When the token was issued. `None` (unknown) does not pass a removed grant.
    pub issued_at: Option<UnixTime>,
    /// Whether the app acts as a service account.
    pub service_account: bool,
}

/// Answers a question step by step, through the same code as [`super::decide`].
pub fn explain(question: &Question, directory: &Directory, now: UnixTime) -> Explanation {
    explain_asked(&question.asked(), directory, now)
}

fn explain_asked(asked: &Asked<'_>, directory: &Directory, now: UnixTime) -> Explanation {
    let mut steps = Vec::new();
    let verdict = judge(asked, directory, now, &mut steps).map(drop);
    if let Err(refusal) = &verdict {
        steps.push(Step {
            check: refusal.check(),
            finding: refusal.to_string(),
            place: refusal.place().cloned(),
            passed: false,
        });
    }
    Explanation { verdict, steps }
}

/// The same for a token that was believed: what its issuer said of it since is taken into account.
pub fn explain_token(
    who: &Identity,
    owner: &UserId,
    service: Service,
    directory: &Directory,
    now: UnixTime,
) -> Explanation {
    explain_asked(&Asked::by_token(who, owner, service), directory, now)
}

impl Question {
    fn asked(&self) -> Asked<'_> {
        Asked {
            user: &self.user,
            owner: &self.owner,
            app: &self.app,
            service: self.service,
            issued_at: self.issued_at,
            service_account: self.service_account,
            token: None,
        }
    }
}

/// A [`Question`] in borrowed values.
pub(super) struct Asked<'a> {
    pub(super) user: &'a UserId,
    pub(super) owner: &'a UserId,
    pub(super) app: &'a ClientId,
    pub(super) service: Service,
    pub(super) issued_at: Option<UnixTime>,
    pub(super) service_account: bool,
    /// The token, where there is one: what its issuer said is about that issuer's tokens alone.
    pub(super) token: Option<&'a Identity>,
}

impl<'a> Asked<'a> {
    pub(super) fn by_token(who: &'a Identity, owner: &'a UserId, service: Service) -> Self {
        Self {
            user: who.user(),
            owner,
            app: who.app(),
            service,
            issued_at: who.issued_at(),
            service_account: who.service_account(),
            token: Some(who),
        }
    }
}

/// What a yes is based on.
pub(super) struct Yes {
    pub(super) unit: UnitPath,
    pub(super) set_at: Place,
    pub(super) grant_is_new: bool,
    pub(super) rights: Rights,
    /// What makes it reading alone.
    pub(super) read_only_at: Option<Place>,
}

/// The one implementation behind `decide` and `explain`.
pub(super) fn judge(
    asked: &Asked<'_>,
    directory: &Directory,
    now: UnixTime,
    trace: &mut impl Trace,
) -> Result<Yes, Refusal> {
    let row = directory.user(asked.user);
    let facts = Sight { directory, people: directory, cutoffs: &directory.cutoffs, row };
    judge_by(asked, facts, now, trace)
}

/// Whether whoever bears this token is somebody here, whatever they want: the issuer has not taken the token back, the user
/// is listed and not suspended. The first checks of [`super::decide`], for requests that open no mailbox.
pub fn recognise(who: &Identity, directory: &Directory, now: UnixTime) -> Result<(), Refusal> {
    // None of these checks looks at the service.
    let asked = Asked::by_token(who, who.user(), Service::Imap);
    let row = directory.user(asked.user);
    let app = directory.apps.number(asked.app);
    let cutoffs = &directory.cutoffs;
    let judge = Judge { asked: &asked, directory, people: directory, cutoffs, row, now, app };
    judge.token_still_good(&mut Silent)?;
    let user = judge.listed_user(&mut Silent)?;
    judge.not_suspended(user, &mut Silent)
}

/// The same for somebody who signed in at the console, however long ago: asked on each request of theirs.
pub fn recognise_sign_in(who: &SignIn, directory: &Directory) -> Result<(), Refusal> {
    let concern = |cutoff: &Cutoff, issuer: &Arc<str>| cutoff.refuse(&who.user, issuer, Some(who.issued_at));
    directory.cutoffs.of_token(&who.into(), concern)?;
    let at = || Place::User(who.user.clone());
    match directory.user(&who.user) {
        None => Err(Refusal::UserUnknown { user: who.user.clone(), at: at() }),
        Some(row) if row.suspended() => Err(Refusal::UserSuspended { user: who.user.clone(), at: at() }),
        Some(_) => Ok(()),
    }
}

/// Where the facts are looked up. A preview tries changes on a copy of the directory that leaves out the users and
/// grants, which it finds in the directory that is in force.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub(super) directory: &'a Directory,
    /// Where the grants are.
    pub(super) people: &'a Directory,
    /// What issuers said: always what is in force, because no change of ours is a word of theirs.
    pub(super) cutoffs: &'a Cutoffs,
    /// The user's row, if the user is listed.
    pub(super) row: Option<UserRow>,
}

pub(super) fn judge_by(
    asked: &Asked<'_>,
    facts: Sight<'_>,
    now: UnixTime,
    trace: &mut impl Trace,
) -> Result<Yes, Refusal> {
    let Sight { directory, people, cutoffs, row } = facts;
    let judge = Judge { asked, directory, people, cutoffs, row, now, app: directory.apps.number(asked.app) };
    judge.token_still_good(trace)?;
    let user = judge.listed_user(trace)?;
    let (mailbox_unit, rights) = judge.open_mailbox(trace)?;
    judge.not_suspended(user, trace)?;

    let own = judge.setting_of_user(user, trace);
    judge.service_on(&own)?;
    judge.not_off_by_user(user, trace)?;
    let user_unit = directory.unit_path(user.unit());
    judge.app_listed(&own, &user_unit, trace)?;

    let mailbox_path = match mailbox_unit {
        None => None,
        Some(unit) => {
            let shared = judge.setting_of_mailbox(unit, trace);
            let path = directory.unit_path(unit);
            judge.service_on(&shared)?;
            judge.app_listed(&shared, &path, trace)?;
            Some(path)
        }
    };
    judge.app_trusted(&user_unit, mailbox_path.as_ref(), trace)?;
    let grant_is_new = judge.granted(user, trace)?;
    let read_only_at = match rights {
        Rights::Read => Some(Place::Mailbox(asked.owner.clone())),
        Rights::Write => judge.read_only_at(user.unit(), mailbox_unit, trace),
    };
    let rights = if read_only_at.is_some() { Rights::Read } else { Rights::Write };
    judge.mail_is_at(trace);
    Ok(Yes { unit: user_unit, set_at: own.place(asked.user), grant_is_new, rights, read_only_at })
}

struct Judge<'a> {
    asked: &'a Asked<'a>,
    directory: &'a Directory,
    people: &'a Directory,
    cutoffs: &'a Cutoffs,
    row: Option<UserRow>,
    now: UnixTime,
    /// The app's number; an app without one stands on no list, in no catalogue and in no grant.
    app: Option<u32>,
}

/// The setting in force, and whose it is.
pub(super) struct InForce<'a> {
    pub(super) rule: Option<&'a Rule>,
    source: Source<'a>,
}

enum Source<'a> {
    Default,
    Unit(&'a UnitPath),
    Group(&'a GroupId),
    User,
}

/// Exception, then groups, then units upwards, then the default.
pub(super) fn in_force_for_user(
    directory: &Directory,
    row: UserRow,
    service: Service,
    now: UnixTime,
) -> InForce<'_> {
    let exception = directory.exception(row).and_then(|rules| rules.of(service).as_ref());
    if let Some(rule) = exception.filter(|rule| rule.holds(now)) {
        return InForce { rule: Some(rule), source: Source::User };
    }
    match directory.groups.effective(row.groups, service, now) {
        Some((group, rule)) => InForce { rule: Some(rule), source: Source::Group(&group.id) },
        None => in_force_for_unit(directory, row.unit(), service, now),
    }
}

pub(super) fn in_force_for_unit(directory: &Directory, unit: u32, service: Service, now: UnixTime) -> InForce<'_> {
    match directory.tree.effective(unit, service, now) {
        Some((node, rule)) => InForce { rule: Some(rule), source: Source::Unit(&node.path) },
        None => InForce { rule: None, source: Source::Default },
    }
}

impl InForce<'_> {
    /// `user` is asked for where the exception of one may decide.
    pub(super) fn place<'u>(&self, user: impl Into<Option<&'u UserId>>) -> Place {
        match self.source {
            Source::Default => Place::Default,
            Source::Unit(path) => Place::Unit(path.clone()),
            Source::Group(group) => Place::Group(group.clone()),
            Source::User => user.into().map_or(Place::Default, |user| Place::User(user.clone())),
        }
    }
}

impl<'a> Judge<'a> {
    fn token_still_good(&self, trace: &mut impl Trace) -> Result<(), Refusal> {
        let Asked { user, issued_at, token, .. } = *self.asked;
        let cutoffs = self.cutoffs;
        if cutoffs.is_empty() {
            return Ok(());
        }
        let concern = |cutoff: &Cutoff, issuer: &Arc<str>| cutoff.refuse(user, issuer, issued_at);
        match token {
            Some(token) => cutoffs.of_token(&token.into(), concern)?,
            None => cutoffs.of_address(user, concern)?,
        }
        trace.note(|| Step {
            check: "token",
            finding: "no word of its issuer against it".to_owned(),
            place: None,
            passed: true,
        });
        Ok(())
    }

    fn listed_user(&self, trace: &mut impl Trace) -> Result<UserRow, Refusal> {
        let user = self.asked.user;
        let Some(row) = self.row else {
            return Err(Refusal::UserUnknown { user: user.clone(), at: Place::User(user.clone()) });
        };
        trace.note(|| {
            let unit = self.directory.unit_path(row.unit());
            Step::fact("user", format!("{user} is in unit {unit}"), Place::User(user.clone()))
        });
        Ok(row)
    }

    /// The unit of the shared mailbox, if it is one and has one; what the user may do in the mailbox.
    fn open_mailbox(&self, trace: &mut impl Trace) -> Result<(Option<u32>, Rights), Refusal> {
        let Asked { user, owner, .. } = *self.asked;
        if user == owner {
            return Ok((None, Rights::Write));
        }
        let mailbox = self.directory.mailbox(owner);
        let Some((mailbox, rights)) = mailbox.and_then(|mailbox| Some((mailbox, mailbox.rights_of(user)?))) else {
            return Err(Refusal::NotMember {
                user: user.clone(),
                mailbox: owner.clone(),
                at: Place::Mailbox(owner.clone()),
            });
        };
        trace.note(|| {
            let name = mailbox.name.as_deref().map(|name| format!(" ({name:?})")).unwrap_or_default();
            let what = match rights {
                Rights::Read => "may read, and only read,",
                Rights::Write => "is a member of",
            };
            let finding = format!("{user} {what} the shared mailbox {owner}{name}");
            Step::fact("mailbox", finding, Place::Mailbox(owner.clone()))
        });
        Ok((mailbox.unit, rights))
    }

    fn not_suspended(&self, row: UserRow, trace: &mut impl Trace) -> Result<(), Refusal> {
        let user = self.asked.user;
        if row.suspended() {
            return Err(Refusal::UserSuspended { user: user.clone(), at: Place::User(user.clone()) });
        }
        trace.note(|| Step::fact("suspension", format!("{user} is not suspended"), Place::User(user.clone())));
        Ok(())
    }

    fn setting_of_user(&self, row: UserRow, trace: &mut impl Trace) -> InForce<'a> {
        let found = in_force_for_user(self.directory, row, self.asked.service, self.now);
        if trace.listens() {
            self.tell_setting_of_user(row, &found, trace);
        }
        found
    }

    fn tell_setting_of_user(&self, row: UserRow, found: &InForce<'_>, trace: &mut impl Trace) {
        let (directory, service) = (self.directory, self.asked.service);
        if let Some(rule) = directory.exception(row).and_then(|rules| rules.of(service).as_ref()) {
            let place = Place::User(self.asked.user.clone());
            trace.note(|| self.found("setting", "the user's exception", rule, place));
        }
        if matches!(found.source, Source::User) {
            return;
        }
        for group in directory.groups.of_set(row.groups) {
            trace.note(|| {
                let place = Place::Group(group.id.clone());
                let what = format!("group {} (priority {})", group.id, group.priority);
                match group.rule(service) {
                    Some(rule) => self.found("setting", &what, rule, place),
                    None => Step::fact("setting", format!("{what} does not set {service}"), place),
                }
            });
        }
        match found.source {
            Source::Group(group) => trace.note(|| {
                let finding = format!("group {group} decides, before any unit");
                Step::fact("setting", finding, Place::Group(group.clone()))
            }),
            _ => self.tell_setting_of_unit(row.unit(), found, trace),
        }
    }

    fn setting_of_mailbox(&self, unit: u32, trace: &mut impl Trace) -> InForce<'a> {
        trace.note(|| {
            let owner = self.asked.owner;
            let finding = format!("{owner} is in unit {}", self.directory.unit_path(unit));
            Step::fact("mailbox", finding, Place::Mailbox(owner.clone()))
        });
        self.setting_of_unit(unit, trace)
    }

    fn setting_of_unit(&self, unit: u32, trace: &mut impl Trace) -> InForce<'a> {
        let found = in_force_for_unit(self.directory, unit, self.asked.service, self.now);
        self.tell_setting_of_unit(unit, &found, trace);
        found
    }

    fn tell_setting_of_unit(&self, unit: u32, found: &InForce<'_>, trace: &mut impl Trace) {
        trace.note(|| {
            let unit = self.directory.unit_path(unit);
            match (found.rule, &found.source) {
                (Some(rule), Source::Unit(path)) if **path == unit => {
                    self.found("setting", &format!("unit {unit}"), rule, Place::Unit(unit))
                }
                (Some(rule), Source::Unit(path)) => {
                    let what = format!("unit {unit} inherits from unit {path}, which");
                    self.found("setting", &what, rule, Place::Unit((*path).clone()))
                }
                _ => {
                    let service = self.asked.service;
                    let finding = format!("neither unit {unit} nor any above sets {service}: off by default");
                    Step::fact("setting", finding, Place::Default)
                }
            }
        });
    }

    fn service_on(&self, found: &InForce<'_>) -> Result<(), Refusal> {
        match found.rule.map(|rule| &rule.access) {
            None | Some(Allowed::Off) => {
                Err(Refusal::ServiceOff { service: self.asked.service, at: found.place(self.asked.user) })
            }
            Some(Allowed::Any | Allowed::Only(_)) => Ok(()),
        }
    }

    fn not_off_by_user(&self, row: UserRow, trace: &mut impl Trace) -> Result<(), Refusal> {
        let Asked { user, service, .. } = *self.asked;
        let at = || Place::User(user.clone());
        if row.own_off(service) {
            return Err(Refusal::ServiceOffByUser { service, user: user.clone(), at: at() });
        }
        trace.note(|| Step::fact("own switch", format!("{user} has not turned {service} off"), at()));
        Ok(())
    }

    fn app_listed(&self, found: &InForce<'_>, unit: &UnitPath, trace: &mut impl Trace) -> Result<(), Refusal> {
        let Asked { user, app, service, .. } = *self.asked;
        let Some(Rule { access: Allowed::Only(list), .. }) = found.rule else {
            trace.note(|| Step::fact("app", format!("any app may use {service}"), found.place(user)));
            return Ok(());
        };
        let name = || self.app_row().and_then(|row| row.name.clone());
        if self.asked.service_account {
            let row = self.app_row();
            let delegated = row.and_then(|row| row.entry.as_ref()).map(|entry| &*entry.delegation);
            if !delegated.unwrap_or_default().iter().any(|above| covers(above, unit)) {
                return Err(Refusal::ServiceAccount {
                    app: app.clone(),
                    name: name(),
                    service,
                    at: found.place(user),
                });
            }
            trace.note(|| {
                let finding = format!("service account {app} has delegation for unit {unit}");
                Step::fact("app", finding, Place::App(row.map_or(app, |row| &row.id).clone()))
            });
            return Ok(());
        }
        let Some(entry) = list.admits(app, self.app, &self.directory.apps) else {
            return Err(Refusal::AppNotListed { app: app.clone(), name: name(), service, at: found.place(user) });
        };
        trace.note(|| {
            let by = if entry == app { String::new() } else { format!(" by its entry {entry}") };
            Step::fact("app", format!("{} is on the list{by}", self.app_title()), found.place(user))
        });
        Ok(())
    }

    fn app_trusted(
        &self,
        user_unit: &UnitPath,
        mailbox_unit: Option<&UnitPath>,
        trace: &mut impl Trace,
    ) -> Result<(), Refusal> {
        let Asked { user, owner, app, .. } = *self.asked;
        let row = self.app_row();
        let name = || row.and_then(|row| row.name.clone());
        let at = || Place::App(row.map_or(app, |row| &row.id).clone());
        match row.and_then(|row| row.entry.as_ref()).map(|entry| &entry.trust) {
            None | Some(Trust::Trusted) => {}
            Some(Trust::Blocked) => return Err(Refusal::AppBlocked { app: app.clone(), name: name(), at: at() }),
            Some(Trust::Limited(units)) => {
                let inside = |unit: &UnitPath| units.iter().any(|above| covers(above, unit));
                let whose = match mailbox_unit {
                    _ if !inside(user_unit) => Some(user),
                    Some(unit) if !inside(unit) => Some(owner),
                    _ => None,
                };
                if let Some(whose) = whose {
                    return Err(Refusal::AppLimited {
                        app: app.clone(),
                        name: name(),
                        whose: whose.clone(),
                        at: at(),
                    });
                }
            }
        }
        trace.note(|| Step::fact("trust", format!("{} is not blocked or limited here", self.app_title()), at()));
        Ok(())
    }

    /// Whether a yes would make a new grant, or an old one active again.
    fn granted(&self, row: UserRow, trace: &mut impl Trace) -> Result<bool, Refusal> {
        let Asked { user, owner, app, issued_at, .. } = *self.asked;
        let shared = (owner != user).then_some(owner);
        let Some(grant) = self.app.and_then(|app| self.people.grant_of(row, shared, app)) else {
            trace.note(|| Step {
                check: "grant",
                finding: "none yet: the first login makes it".to_owned(),
                place: None,
                passed: true,
            });
            return Ok(true);
        };
        let at = || Place::Grant(user.clone(), app.clone());
        let name = || self.app_row().and_then(|row| row.name.clone());
        if grant.state == GrantState::Disabled {
            return Err(Refusal::GrantDisabled { user: user.clone(), app: app.clone(), name: name(), at: at() });
        }
        // A removed grant without its time (a damaged row) lets nothing pass.
        let removed_at = match grant.state {
            GrantState::Removed => Some(grant.removed_at.unwrap_or(UnixTime(i64::MAX))),
            GrantState::Active | GrantState::Disabled => grant.removed_at,
        };
        if let Some(removed_at) =
            removed_at.filter(|removed_at| issued_at.is_none_or(|issued| issued <= *removed_at))
        {
            let (user, app, name) = (user.clone(), app.clone(), name());
            return Err(Refusal::GrantRemoved { user, app, name, removed_at, at: at() });
        }
        trace.note(|| {
            let finding = match (grant.state, removed_at) {
                (GrantState::Removed, _) => "removed before the token was issued: connects again",
                (_, Some(_)) => "active again since before the token was issued",
                _ => "active",
            };
            Step::fact("grant", finding.to_owned(), at())
        });
        Ok(grant.state == GrantState::Removed)
    }

    /// Which entry or unit lets nobody do more than read.
    fn read_only_at(&self, user_unit: u32, mailbox_unit: Option<u32>, trace: &mut impl Trace) -> Option<Place> {
        if let Some(row) = self.app_row().filter(|row| row.entry.as_ref().is_some_and(|entry| entry.read_only)) {
            let place = Place::App(row.id.clone());
            trace.note(|| {
                let finding = format!("{} may only read, wherever it is let in", self.app_title());
                Step::fact("rights", finding, place.clone())
            });
            return Some(place);
        }
        for (unit, whose) in [(Some(user_unit), self.asked.user), (mailbox_unit, self.asked.owner)] {
            let Some(unit) = unit else { continue };
            let Some(source) = self.directory.only_reads(unit) else { continue };
            let place = Place::Unit(source.clone());
            trace.note(|| {
                let from = match self.directory.unit_path(unit) {
                    own if own == *source => String::new(),
                    below => format!(", from which unit {below} inherits"),
                };
                let finding = format!("unit {source} is read-only{from}: {whose} is in it");
                Step::fact("rights", finding, place.clone())
            });
            return Some(place);
        }
        None
    }

    /// Where the mailbox is; nothing is told where nobody said anything else than the embedded store.
    fn mail_is_at(&self, trace: &mut impl Trace) {
        if !trace.listens() {
            return;
        }
        let (directory, owner) = (self.directory, self.asked.owner);
        let said = directory.home_said(owner, directory.user(owner));
        let place = said.map(|(_, place)| place);
        let finding = match directory.home(owner) {
            MailHome::Maildir if place.is_none() => return,
            MailHome::Maildir => format!("the mail of {owner} is in the embedded store"),
            MailHome::Upstream { name, server: None } => format!("the mail of {owner} is behind upstream {name}"),
            MailHome::Upstream { name, server: Some(server) } => {
                format!("the mail of {owner} is behind upstream {name}, on {server}")
            }
        };
        trace.note(|| Step { check: "mail", finding, place, passed: true });
    }

    fn app_row(&self) -> Option<&'a AppRow> {
        self.directory.apps.catalogue(self.asked.app, self.app)
    }

    fn app_title(&self) -> String {
        let app = self.asked.app;
        match self.app_row().and_then(|row| row.name.as_deref()) {
            Some(name) => format!("app {name:?} ({app})"),
            None => format!("app {app}"),
        }
    }

    /// `unit /Sales sets IMAP to 2 listed apps until ...`.
    fn found(&self, check: &'static str, what: &str, rule: &Rule, place: Place) -> Step {
        let service = self.asked.service;
        let access = match &rule.access {
            Allowed::Off => "off".to_owned(),
            Allowed::Any => "any app".to_owned(),
            Allowed::Only(list) if list.len() == 1 => "1 listed app".to_owned(),
            Allowed::Only(list) => format!("{} listed apps", list.len()),
        };
        let end = match rule.until {
            None => String::new(),
            Some(until) if rule.holds(self.now) => format!(", until {until}"),
            Some(until) => format!(", but that ran out at {until}"),
        };
        Step::fact(check, format!("{what} sets {service} to {access}{end}"), place)
    }
}

/// Judges without an explanation.
pub(super) fn judge_silently(asked: &Asked<'_>, directory: &Directory, now: UnixTime) -> Result<Yes, Refusal> {
    judge(asked, directory, now, &mut Silent)
}
