//! What a change would come to, before it is made: who would lose or gain access with which app, and which open sessions
//! would fall. Called by `store`, which knows the rows a change leads to. It judges with the code of `decide`, before the
//! change and after it.
//!
//! It looks at the pairs of user and app that have an active grant, because they are the ones who would notice, and asks as
//! a person's own program with a fresh token would: what a service account or an old token may do is not looked at.
//! Cost: one pass over the users and grants at most, in which those are judged whom the change can touch, each kind of them
//! once; a change of a few users or mailboxes looks at those alone. The snapshot stands still meanwhile.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    Directory, Edit, Refusal,
    decide::{Asked, Sight, Yes, judge_by},
    directory::UserRow,
    explain::Silent,
};
use crate::model::{ClientId, GroupId, Service, UnitPath, UnixTime, UserId};

/// Most pairs that each side of an answer names, where nobody asks for more.
const MOST_PAIRS: usize = 100;
/// Most apps that each side of an answer names.
const MOST_APPS: usize = 100;
/// Most falling sessions that an answer names.
const MOST_FALLS: usize = 1_000;

/// The answer: what would be lost, gained and ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Who would be let in no more.
    pub loses: Side,
    /// Who would be let in and is not today.
    pub gains: Side,
    /// The first sessions that would fall, in the order they were given in; at most 1,000.
    pub falls: Vec<Fall>,
    /// How many would fall in all.
    pub fall_count: usize,
}

impl Preview {
    /// Whether nobody would notice the change.
    pub fn is_empty(&self) -> bool {
        self.loses.pair_count == 0 && self.gains.pair_count == 0 && self.fall_count == 0
    }
}

/// One side of a preview. Counts are exact; lists are cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Users who lose (or gain) something.
    pub user_count: usize,
    /// User, mailbox, app and service together: what a [`Pair`] is.
    pub pair_count: usize,
    /// Of them by IMAP.
    pub imap_count: usize,
    /// Of them by POP3.
    pub pop_count: usize,
    /// How many apps are concerned.
    pub app_count: usize,
    /// The apps with most users first; at most 100.
    pub apps: Vec<AppCount>,
    /// The first pairs by user; at most 100, or as many as were asked for.
    pub pairs: Vec<Pair>,
}

/// How many people use an app that is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppCount {
    /// Its client ID.
    pub app: ClientId,
    /// Its name, where the catalogue has one.
    pub name: Option<String>,
    /// How many users lose (or gain) it for at least one service.
    pub user_count: usize,
}

/// One user who loses or gains one app for one service and mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Who.
    pub user: UserId,
    /// Whose mailbox: the user's own, or a shared one.
    pub owner: UserId,
    /// With which app.
    pub app: ClientId,
    /// By which protocol.
    pub service: Service,
    /// Why not: after the change for who loses, today for who gains.
    pub refusal: Refusal,
}

/// An open session, in plain values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSeat {
    /// Who came in.
    pub user: UserId,
    /// Whose mailbox is open.
    pub owner: UserId,
    /// With which app.
    pub app: ClientId,
    /// By which protocol.
    pub service: Service,
    /// When the session's token was issued.
    pub issued_at: Option<UnixTime>,
    /// Whether the app acts as a service account.
    pub service_account: bool,
}

/// A session that would fall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fall {
    /// Which one: its place in the list that was given.
    pub seat: usize,
    /// Why.
    pub refusal: Refusal,
}

/// A directory with a change in it that nobody else sees.
#[derive(Debug)]
pub struct Trial {
    after: Directory,
    scope: Scope,
}

#[derive(Debug)]
enum Scope {
    /// `after` is a whole directory of its own.
    Whole,
    /// `after` holds these users alone, and no grants; all else about people is as it was.
    Parts(Box<Edited>),
}

/// The rows that edits are about.
#[derive(Debug, Default)]
struct Edited {
    units: HashSet<UnitPath>,
    groups: HashSet<GroupId>,
    apps: HashSet<ClientId>,
    users: HashSet<UserId>,
    mailboxes: HashSet<UserId>,
}

impl Edited {
    /// Whether users may be concerned who are not named.
    fn is_wide(&self) -> bool {
        !(self.units.is_empty() && self.groups.is_empty() && self.apps.is_empty())
    }
}

impl Trial {
    /// Tries edits: rows as they would stand, in any order. Edits of grants and cutoffs are passed over.
    pub fn new(before: &Directory, edits: Vec<Edit>) -> Self {
        let mut after = before.without_people();
        let mut edited = Edited::default();
        for edit in edits {
            match &edit {
                Edit::Unit(path, _) => drop(edited.units.insert(path.clone())),
                Edit::Group(name, _) => drop(edited.groups.insert(name.clone())),
                Edit::App(id, _) => drop(edited.apps.insert(id.clone())),
                Edit::User(id, _) => {
                    // Once: an earlier edit may have taken the user away.
                    if edited.users.insert(id.clone()) {
                        after.adopt(before, id);
                    }
                }
                Edit::Mailbox(id, _) => drop(edited.mailboxes.insert(id.clone())),
                Edit::Grant(..) | Edit::Cutoff(..) => continue,
            }
            after.apply(edit);
        }
        Self { after, scope: Scope::Parts(Box::new(edited)) }
    }

    /// A directory in place of another, when too much changes to name it.
    pub fn whole(after: Directory) -> Self {
        Self { after, scope: Scope::Whole }
    }

    /// Who would lose and gain, and which of the open sessions `seats` would fall.
    pub fn preview(&self, before: &Directory, seats: &[LiveSeat], now: UnixTime) -> Preview {
        self.preview_naming(before, seats, now, MOST_PAIRS)
    }

    /// The same, with up to `most_pairs` of those who lose by name.
    pub fn preview_naming(
        &self,
        before: &Directory,
        seats: &[LiveSeat],
        now: UnixTime,
        most_pairs: usize,
    ) -> Preview {
        let mut pass = Pass {
            trial: self,
            reach: Reach::new(self, before, now),
            before,
            now,
            known: HashMap::new(),
            loses: Tally { most: most_pairs, ..Tally::default() },
            gains: Tally { most: MOST_PAIRS, ..Tally::default() },
        };
        pass.look_at_grants();
        let (loses, gains) = (std::mem::take(&mut pass.loses), std::mem::take(&mut pass.gains));
        let mut preview =
            Preview { loses: pass.side(loses, true), gains: pass.side(gains, false), ..Preview::default() };
        for (seat, live) in seats.iter().enumerate() {
            let Some(refusal) = pass.falls(live) else { continue };
            preview.fall_count += 1;
            if preview.falls.len() < MOST_FALLS {
                preview.falls.push(Fall { seat, refusal });
            }
        }
        preview
    }

    /// Where the facts about a user are after the change.
    fn sight<'s>(&'s self, before: &'s Directory, user: &UserId) -> Sight<'s> {
        let (after, cutoffs) = (&self.after, &before.cutoffs);
        let (people, row) = match &self.scope {
            Scope::Whole => (after, after.user(user)),
            Scope::Parts(edited) if edited.users.contains(user) => (before, after.user(user)),
            Scope::Parts(_) => (before, before.user(user)),
        };
        Sight { directory: after, people, cutoffs, row }
    }
}

/// What happens to a user's access to a mailbox with an app, by each service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outcome {
    loses: [bool; 2],
    gains: [bool; 2],
}

const SERVICES: [Service; 2] = [Service::Imap, Service::Pop];

/// Users about whom nothing else is to be known share one judgement: unit and flags, groups, app.
type Kind = (u32, u32, u32);

/// What a verdict on a user's own mailbox can change by, other than by the user's own row.
#[derive(Default)]
struct Reach {
    /// Units, by number, where another setting is in force, or one that was edited.
    units: HashSet<u32>,
    /// Sets of groups with an edited one.
    sets: HashSet<u32>,
    apps: HashSet<u32>,
}

impl Reach {
    fn new(trial: &Trial, before: &Directory, now: UnixTime) -> Self {
        let Scope::Parts(edited) = &trial.scope else { return Self::default() };
        let after = &trial.after;
        let numbers: HashSet<u32> = edited.units.iter().filter_map(|path| after.tree.number(path)).collect();
        let differs = |unit: &u32| {
            SERVICES.iter().any(|service| {
                let (was, is) = (before.tree.source(*unit, *service, now), after.tree.source(*unit, *service, now));
                was != is || was.is_some_and(|source| numbers.contains(&source))
            })
        };
        let units = if numbers.is_empty() { HashSet::new() } else { after.tree.all().filter(differs).collect() };
        Self { units, sets: after.groups.sets_with(&edited.groups), apps: after.apps.spoken_for(&edited.apps) }
    }

    fn touches(&self, row: UserRow, app: u32) -> bool {
        self.units.contains(&row.unit()) || self.sets.contains(&row.groups) || self.apps.contains(&app)
    }
}

struct Pass<'p> {
    trial: &'p Trial,
    reach: Reach,
    before: &'p Directory,
    now: UnixTime,
    known: HashMap<Kind, Outcome>,
    loses: Tally,
    gains: Tally,
}

impl Pass<'_> {
    fn look_at_grants(&mut self) {
        let (before, trial) = (self.before, self.trial);
        let mut in_table: HashMap<u32, (&UserId, UserRow)> = HashMap::new();
        let mut visit = |id, row: UserRow| {
            if let Some(app) = row.granted_app() {
                self.note(id, row, id, app, true);
            }
            if row.has_more_grants() {
                in_table.insert(row.number(), (id, row));
            }
        };
        match &trial.scope {
            Scope::Parts(edited) if !edited.is_wide() => {
                let mut concerned: HashSet<&UserId> = edited.users.iter().collect();
                for mailbox in &edited.mailboxes {
                    concerned.extend(before.members_of(mailbox));
                    concerned.extend(trial.after.members_of(mailbox));
                }
                concerned.into_iter().filter_map(|id| before.any_row(id)).for_each(|(id, row)| visit(id, row));
            }
            _ => before.all_rows().for_each(|(id, row)| visit(id, row)),
        }
        if in_table.is_empty() {
            return;
        }
        let shared = before.mailboxes_by_number();
        for (user, owner, app, is_plain) in before.active_grants() {
            let Some((id, row)) = in_table.get(&user) else { continue };
            let owner = match owner {
                None => *id,
                Some(number) => match shared.get(&number) {
                    Some(owner) => owner,
                    None => continue,
                },
            };
            self.note(id, *row, owner, app, is_plain && owner == *id);
        }
    }

    /// Judges one grant. `is_plain`: it is for the user's own mailbox and was never removed.
    fn note(&mut self, user: &UserId, row: UserRow, owner: &UserId, app: u32, is_plain: bool) {
        let Some(app_id) = self.before.apps.row(app).map(|row| &row.id) else { return };
        let alone = match &self.trial.scope {
            Scope::Whole => true,
            Scope::Parts(edited) => edited.users.contains(user),
        };
        if !alone && owner == user && !self.reach.touches(row, app) {
            return;
        }
        let kind = (is_plain && !alone && !row.has_exception()).then(|| row.kind(app));
        let outcome = match kind.and_then(|kind| self.known.get(&kind).copied()) {
            Some(outcome) => outcome,
            None => {
                let outcome = self.judge(user, owner, app_id);
                if let Some(kind) = kind {
                    self.known.insert(kind, outcome);
                }
                outcome
            }
        };
        for (tally, changed) in [(&mut self.loses, outcome.loses), (&mut self.gains, outcome.gains)] {
            tally.add((user, row.has_more_grants()), owner, (app, app_id), changed);
        }
    }

    fn judge(&self, user: &UserId, owner: &UserId, app: &ClientId) -> Outcome {
        let mut outcome = Outcome::default();
        for ((service, loses), gains) in SERVICES.iter().zip(&mut outcome.loses).zip(&mut outcome.gains) {
            let asked = fresh(user, owner, app, *service, self.now);
            let (was, is) = (self.verdict_before(&asked), self.verdict_after(&asked));
            *loses = was.is_ok() && is.is_err();
            *gains = was.is_err() && is.is_ok();
        }
        outcome
    }

    fn verdict_before(&self, asked: &Asked<'_>) -> Result<Yes, Refusal> {
        let row = self.before.user(asked.user);
        let sight = Sight { directory: self.before, people: self.before, cutoffs: &self.before.cutoffs, row };
        judge_by(asked, sight, self.now, &mut Silent)
    }

    fn verdict_after(&self, asked: &Asked<'_>) -> Result<Yes, Refusal> {
        let sight = self.trial.sight(self.before, asked.user);
        judge_by(asked, sight, self.now, &mut Silent)
    }

    /// Why an open session would fall by the change.
    fn falls(&self, live: &LiveSeat) -> Option<Refusal> {
        let asked = Asked {
            user: &live.user,
            owner: &live.owner,
            app: &live.app,
            service: live.service,
            issued_at: live.issued_at,
            service_account: live.service_account,
            token: None,
        };
        let was = self.verdict_before(&asked).ok()?;
        match self.verdict_after(&asked) {
            Err(refusal) => Some(refusal),
            Ok(yes) if yes.rights < was.rights => {
                Some(Refusal::rights_lowered(&live.user, &live.owner, yes.read_only_at.as_ref()))
            }
            Ok(_) => self.moves(&live.owner),
        }
    }

    /// Whether a mailbox would be somewhere else after the change.
    fn moves(&self, owner: &UserId) -> Option<Refusal> {
        let (before, default) = (self.before, &self.before.default_home);
        let was = before.home_said(owner, before.user(owner));
        let sight = self.trial.sight(before, owner);
        let is = sight.directory.home_said(owner, sight.row);
        let from = was.as_ref().map_or(default, |(home, _)| home);
        let to = is.as_ref().map_or(default, |(home, _)| home);
        (from != to).then(|| Refusal::home_moved(owner, from, to, is.as_ref().map(|(_, place)| place.clone())))
    }

    fn side(&self, tally: Tally, loses: bool) -> Side {
        let mut apps: Vec<AppCount> = tally
            .apps
            .iter()
            .filter_map(|(number, user_count)| {
                let app = self.before.apps.row(*number)?.id.clone();
                let name = self.before.app_name(&app).map(|name| name.to_string());
                Some(AppCount { app, name, user_count: *user_count })
            })
            .collect();
        apps.sort_by(|a, b| b.user_count.cmp(&a.user_count).then_with(|| a.app.cmp(&b.app)));
        let app_count = apps.len();
        apps.truncate(MOST_APPS);
        let pairs = tally.first.into_iter().filter_map(|(user, owner, app, service)| {
            let asked = fresh(&user, &owner, &app, service, self.now);
            let refusal = if loses { self.verdict_after(&asked) } else { self.verdict_before(&asked) }.err()?;
            Some(Pair { user, owner, app, service, refusal })
        });
        Side {
            user_count: tally.users,
            pair_count: tally.imap + tally.pop,
            imap_count: tally.imap,
            pop_count: tally.pop,
            app_count,
            apps,
            pairs: pairs.collect(),
        }
    }
}

/// As a person's own program asks who has just signed in at the issuer.
fn fresh<'a>(user: &'a UserId, owner: &'a UserId, app: &'a ClientId, service: Service, now: UnixTime) -> Asked<'a> {
    // Past every removal: whose grant is active has connected again since.
    let issued_at = Some(UnixTime(now.0.max(i64::MAX >> 3)));
    Asked { user, owner, app, service, issued_at, service_account: false, token: None }
}

/// One side while it is being counted.
#[derive(Default)]
struct Tally {
    /// Most pairs that are named.
    most: usize,
    users: usize,
    imap: usize,
    pop: usize,
    apps: HashMap<u32, usize>,
    first: BTreeSet<(UserId, UserId, ClientId, Service)>,
    /// Users with several grants, and each of their apps, that are counted already.
    counted: HashSet<UserId>,
    counted_apps: HashSet<(UserId, u32)>,
}

impl Tally {
    fn add(
        &mut self,
        (user, has_more): (&UserId, bool),
        owner: &UserId,
        app: (u32, &ClientId),
        changed: [bool; 2],
    ) {
        if changed == [false; 2] {
            return;
        }
        self.users += usize::from(!has_more || self.counted.insert(user.clone()));
        if !has_more || self.counted_apps.insert((user.clone(), app.0)) {
            *self.apps.entry(app.0).or_default() += 1;
        }
        for (service, _) in SERVICES.into_iter().zip(changed).filter(|(_, changed)| *changed) {
            *match service {
                Service::Imap => &mut self.imap,
                Service::Pop => &mut self.pop,
            } += 1;
            if self.first.len() >= self.most && self.first.last().is_some_and(|last| last.0 < *user) {
                continue;
            }
            self.first.insert((user.clone(), owner.clone(), app.1.clone(), service));
            if self.first.len() > self.most {
                self.first.pop_last();
            }
        }
    }
}
