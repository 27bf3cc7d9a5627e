//! The snapshot that decisions read: the whole directory in memory, kept fresh row by row. Filled by `store`, read by
//! `decide` and `explain`.
//!
//! Layout, for a million users: names are shared `Arc<str>`; units, groups and apps are numbers; a user's row is 16
//! bytes with the first grant in it; further grants are 24 bytes each. `benches/decide.rs` prints what a user costs.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Cutoff, CutoffKey, Edit, Grant, GrantKey, GrantState, Group, Mailbox, Rights, Unit, User,
    cutoffs::Cutoffs,
    domains::Domains,
    groups::{Groups, NO_GROUPS},
    rule::{Apps, Ends, Rules},
    tree::{Terms, Tree},
};
use crate::model::{ClientId, GroupId, MailHome, Service, UnitPath, UnixTime, UserId};

/// Units, groups, users, shared mailboxes, apps and grants. An empty one knows nobody: everything is refused.
#[derive(Debug, Default)]
pub struct Directory {
    pub(super) tree: Tree,
    pub(super) groups: Groups,
    pub(super) apps: Apps,
    pub(super) cutoffs: Cutoffs,
    users: HashMap<UserId, UserRow>,
    /// Rules of users who have some of their own, by user number: few do.
    exceptions: HashMap<u32, Rules>,
    /// Where the mail of users is of whom that is said, by user number.
    homes: HashMap<u32, MailHome>,
    /// Where mail is of which nothing is said.
    pub(super) default_home: MailHome,
    mailboxes: HashMap<UserId, MailboxRow>,
    /// Grants that are not in their user's row.
    grants: HashMap<GrantNumber, GrantRow>,
    inline_grants: usize,
    ends: Ends,
    next_user: u32,
    next_mailbox: u32,
    listed_users: usize,
    domains: Domains,
    version: i64,
}

/// A user in 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct UserRow {
    /// Eight bits of flags above a unit's number of 24 bits.
    unit_and_bits: u32,
    pub(super) groups: u32,
    number: u32,
    /// The app of one grant for the user's own mailbox that is active and was never removed, as nearly all are;
    /// other grants are in the directory's table.
    granted_app: u32,
}

/// "No app" in [`UserRow::granted_app`].
const NO_APP: u32 = u32::MAX;

impl UserRow {
    const LISTED: u32 = 1 << 24;
    const SUSPENDED: u32 = 1 << 25;
    const IMAP_OFF: u32 = 1 << 26;
    const POP_OFF: u32 = 1 << 27;
    const EXCEPTION: u32 = 1 << 28;
    /// Some grants are in the directory's table.
    const GRANTS: u32 = 1 << 29;
    /// It is said where this user's mail is.
    const HOME: u32 = 1 << 30;
    const UNIT: u32 = (1 << 24) - 1;

    /// Nobody in particular: not listed.
    fn unknown(number: u32) -> Self {
        Self { unit_and_bits: 0, groups: NO_GROUPS, number, granted_app: NO_APP }
    }

    pub(super) fn number(self) -> u32 {
        self.number
    }

    pub(super) fn granted_app(self) -> Option<u32> {
        (self.granted_app != NO_APP).then_some(self.granted_app)
    }

    pub(super) fn has_more_grants(self) -> bool {
        self.has(Self::GRANTS)
    }

    pub(super) fn has_exception(self) -> bool {
        self.has(Self::EXCEPTION)
    }

    /// Users of one kind get the same verdict about an app in their own mailbox, where they have no exception.
    pub(super) fn kind(self, app: u32) -> (u32, u32, u32) {
        (self.unit_and_bits & !Self::GRANTS, self.groups, app)
    }

    fn has(self, bit: u32) -> bool {
        self.unit_and_bits & bit != 0
    }

    /// The unit's number. Past 16 million units there is none, and then every service is off.
    pub(super) fn unit(self) -> u32 {
        self.unit_and_bits & Self::UNIT
    }

    pub(super) fn suspended(self) -> bool {
        self.has(Self::SUSPENDED)
    }

    pub(super) fn own_off(self, service: Service) -> bool {
        self.has(match service {
            Service::Imap => Self::IMAP_OFF,
            Service::Pop => Self::POP_OFF,
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct MailboxRow {
    number: u32,
    listed: bool,
    pub(super) name: Option<Box<str>>,
    pub(super) unit: Option<u32>,
    members: HashSet<UserId>,
    readers: HashSet<UserId>,
}

impl MailboxRow {
    /// What a user may do in it; none for who is no member.
    pub(super) fn rights_of(&self, user: &UserId) -> Option<Rights> {
        if self.members.contains(user) {
            return Some(Rights::Write);
        }
        self.readers.contains(user).then_some(Rights::Read)
    }
}

/// User, mailbox, app; `owner` is [`OWN`] for the user's own mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct GrantNumber {
    user: u32,
    owner: u32,
    app: u32,
}

const OWN: u32 = u32::MAX;

/// A grant in 8 bytes: the state in the two lowest bits below `removed_at` in milliseconds, [`NEVER`] for none.
#[derive(Clone, Copy, Debug)]
struct GrantRow(i64);

const NEVER: i64 = i64::MIN >> 2;

impl GrantRow {
    fn new(grant: Grant) -> Self {
        let state = match grant.state {
            GrantState::Active => 0,
            GrantState::Disabled => 1,
            GrantState::Removed => 2,
        };
        // Two bits less still reach 73 million years.
        let removed_at = grant.removed_at.map_or(NEVER, |at| at.0.clamp(NEVER + 1, i64::MAX >> 2));
        Self(removed_at << 2 | state)
    }

    fn grant(self) -> Grant {
        let removed_at = self.0 >> 2;
        let state = match self.0 & 3 {
            0 => GrantState::Active,
            1 => GrantState::Disabled,
            _ => GrantState::Removed,
        };
        Grant { state, removed_at: (removed_at != NEVER).then_some(UnixTime(removed_at)) }
    }
}

/// What [`UserRow::granted_app`] stands for.
const ACTIVE: Grant = Grant { state: GrantState::Active, removed_at: None };

impl Directory {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Brings one row up to date. Any order will do: what a row refers to comes into being as an empty unit, group or
    /// mailbox that counts as not listed until its own row arrives.
    pub fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::Unit(path, unit) => self.put_unit(&path, unit.as_ref()),
            Edit::Group(id, group) => self.put_group(&id, group.as_ref()),
            Edit::User(id, Some(user)) => self.put_user(&id, &user),
            Edit::User(id, None) => self.remove_user(&id),
            Edit::Mailbox(id, mailbox) => self.put_mailbox(&id, mailbox.as_ref()),
            Edit::App(id, app) => self.apps.put(&id, app),
            Edit::Grant(key, grant) => self.put_grant(&key, grant),
            Edit::Cutoff(key, cutoff) => self.put_cutoff(&key, cutoff),
        }
    }

    /// Puts a unit, or with `None` takes it away: users and units below then inherit through it.
    pub fn put_unit(&mut self, path: &UnitPath, unit: Option<&Unit>) {
        let rules = unit.map(|unit| Rules::new(&unit.settings, &mut self.apps)).unwrap_or_default();
        let old = self.tree.put(path, unit.is_some(), rules.clone());
        self.tree.put_terms(path, unit.map(Terms::of).unwrap_or_default());
        self.ends.swap(&old, &rules);
    }

    /// Puts a group, or with `None` takes it away; its members stay noted, without effect.
    pub fn put_group(&mut self, id: &GroupId, group: Option<&Group>) {
        let (old, new) = self.groups.put(id, group, &mut self.apps);
        self.ends.swap(&old, &new);
    }

    /// Puts a user, with the groups the user is in.
    pub fn put_user(&mut self, id: &UserId, user: &User) {
        let unit = self.tree.intern(&user.unit);
        let groups = self.groups.take_set(&user.groups);
        let rules = Rules::new(&user.settings, &mut self.apps);
        let mut bits = UserRow::LISTED | unit.min(UserRow::UNIT);
        for (set, bit) in [
            (user.suspended, UserRow::SUSPENDED),
            (user.own_off.imap, UserRow::IMAP_OFF),
            (user.own_off.pop, UserRow::POP_OFF),
            (!rules.is_empty(), UserRow::EXCEPTION),
            (user.mail.is_some(), UserRow::HOME),
        ] {
            bits |= if set { bit } else { 0 };
        }
        let row = self.row_of(id);
        let old = *row;
        *row = UserRow { unit_and_bits: bits | old.unit_and_bits & UserRow::GRANTS, groups, ..old };
        self.groups.leave_set(old.groups);
        if !old.has(UserRow::LISTED) {
            self.listed_users += 1;
            self.domains.add(id);
        }
        self.put_home(old, user.mail.as_ref());
        self.put_exception(old, rules);
    }

    /// Takes a user away. The user's grants stay: who comes back finds a removed grant still removed.
    pub fn remove_user(&mut self, id: &UserId) {
        let Some(row) = self.users.get_mut(id) else { return };
        let old = *row;
        if old.has(UserRow::GRANTS) || old.granted_app != NO_APP {
            *row = UserRow { unit_and_bits: old.unit_and_bits & UserRow::GRANTS, groups: NO_GROUPS, ..old };
        } else {
            self.users.remove(id);
        }
        self.groups.leave_set(old.groups);
        if old.has(UserRow::LISTED) {
            self.listed_users -= 1;
            self.domains.take(id);
        }
        self.put_home(old, None);
        self.put_exception(old, Rules::default());
    }

    fn put_home(&mut self, row: UserRow, home: Option<&MailHome>) {
        match home {
            Some(home) => drop(self.homes.insert(row.number, home.clone())),
            None if row.has(UserRow::HOME) => drop(self.homes.remove(&row.number)),
            None => {}
        }
    }

    fn put_exception(&mut self, row: UserRow, rules: Rules) {
        if rules.is_empty() && !row.has(UserRow::EXCEPTION) {
            return;
        }
        let old = if rules.is_empty() {
            self.exceptions.remove(&row.number)
        } else {
            self.exceptions.insert(row.number, rules.clone())
        };
        self.ends.swap(&old.unwrap_or_default(), &rules);
    }

    /// Puts a shared mailbox, or with `None` takes it away.
    pub fn put_mailbox(&mut self, id: &UserId, mailbox: Option<&Mailbox>) {
        let unit = mailbox.and_then(|mailbox| mailbox.unit.as_ref()).map(|unit| self.tree.intern(unit));
        let row = self.mailbox_row(id);
        row.listed = mailbox.is_some();
        row.name = mailbox.and_then(|mailbox| mailbox.name.as_deref()).map(Box::from);
        row.unit = unit;
        row.members = mailbox.map(|mailbox| mailbox.members.iter().cloned().collect()).unwrap_or_default();
        row.readers = mailbox.map(|mailbox| mailbox.readers.iter().cloned().collect()).unwrap_or_default();
    }

    /// Puts an app's entry, or with `None` takes it away; a shipped app keeps its shipped name.
    pub fn put_app(&mut self, id: &ClientId, app: Option<super::App>) {
        self.apps.put(id, app);
    }

    /// Puts a grant, or with `None` forgets it.
    pub fn put_grant(&mut self, key: &GrantKey, grant: Option<Grant>) {
        let app = self.apps.intern(&key.app);
        let owner = if key.owner == key.user { OWN } else { self.mailbox_row(&key.owner).number };
        let row = self.row_of(&key.user);
        let number = GrantNumber { user: row.number, owner, app };
        let was_inline = owner == OWN && row.granted_app == app;
        let room = was_inline || (row.granted_app == NO_APP && !row.has(UserRow::GRANTS));
        if owner == OWN && grant == Some(ACTIVE) && room {
            row.granted_app = app;
            self.inline_grants += usize::from(!was_inline);
            return;
        }
        if was_inline {
            row.granted_app = NO_APP;
        }
        if grant.is_some() {
            row.unit_and_bits |= UserRow::GRANTS;
        }
        self.inline_grants -= usize::from(was_inline);
        match grant {
            Some(grant) => self.grants.insert(number, GrantRow::new(grant)),
            None => self.grants.remove(&number),
        };
    }

    /// Puts what an issuer said of its tokens, or with `None` forgets it.
    pub fn put_cutoff(&mut self, key: &CutoffKey, cutoff: Option<Cutoff>) {
        self.cutoffs.put(key, cutoff);
    }

    /// The row of a user, made if need be: unlisted, so as good as unknown.
    fn row_of(&mut self, id: &UserId) -> &mut UserRow {
        let next = &mut self.next_user;
        self.users.entry(id.clone()).or_insert_with(|| {
            *next += 1;
            UserRow::unknown(*next)
        })
    }

    fn mailbox_row(&mut self, id: &UserId) -> &mut MailboxRow {
        let next = &mut self.next_mailbox;
        self.mailboxes.entry(id.clone()).or_insert_with(|| {
            *next += 1;
            let (members, readers) = (HashSet::new(), HashSet::new());
            MailboxRow { number: *next, listed: false, name: None, unit: None, members, readers }
        })
    }

    /// Makes room for so many users at once, so that loading does not move them about.
    pub fn reserve_users(&mut self, count: usize) {
        self.users.reserve(count);
    }

    /// Gives unused room back, after loading.
    pub fn shrink(&mut self) {
        self.users.shrink_to_fit();
        self.grants.shrink_to_fit();
    }
}

/// For previews: a directory beside a directory, and what it holds by number.
impl Directory {
    /// A copy with the same units, groups, apps, exceptions and mailboxes under the same numbers, without users and grants.
    pub(super) fn without_people(&self) -> Self {
        Self {
            tree: self.tree.clone(),
            groups: self.groups.clone(),
            apps: self.apps.clone(),
            users: HashMap::new(),
            exceptions: self.exceptions.clone(),
            homes: self.homes.clone(),
            default_home: self.default_home.clone(),
            mailboxes: self.mailboxes.clone(),
            grants: HashMap::new(),
            inline_grants: 0,
            cutoffs: Cutoffs::default(),
            ends: self.ends.clone(),
            next_user: self.next_user,
            next_mailbox: self.next_mailbox,
            listed_users: self.listed_users,
            domains: Domains::default(),
            version: self.version,
        }
    }

    /// Takes in one user of the directory this one was copied from, as the user stands there.
    pub(super) fn adopt(&mut self, from: &Self, id: &UserId) {
        if let Some(row) = from.users.get(id) {
            self.users.entry(id.clone()).or_insert(*row);
        }
    }

    /// A user's row, listed or not.
    pub(super) fn any_row(&self, id: &UserId) -> Option<(&UserId, UserRow)> {
        self.users.get_key_value(id).map(|(id, row)| (id, *row))
    }

    pub(super) fn all_rows(&self) -> impl Iterator<Item = (&UserId, UserRow)> {
        self.users.iter().map(|(id, row)| (id, *row))
    }

    /// Everybody who may open a shared mailbox.
    pub(super) fn members_of(&self, mailbox: &UserId) -> impl Iterator<Item = &UserId> {
        self.mailboxes.get(mailbox).into_iter().flat_map(|row| row.members.iter().chain(&row.readers))
    }

    pub(super) fn mailboxes_by_number(&self) -> HashMap<u32, &UserId> {
        self.mailboxes.iter().map(|(id, row)| (row.number, id)).collect()
    }

    /// Active grants that are not in their user's row: user, shared mailbox if it is one, app; and whether the grant was
    /// never removed.
    pub(super) fn active_grants(&self) -> impl Iterator<Item = (u32, Option<u32>, u32, bool)> {
        self.grants.iter().filter_map(|(key, row)| {
            let grant = row.grant();
            let owner = (key.owner != OWN).then_some(key.owner);
            (grant.state == GrantState::Active).then_some((key.user, owner, key.app, grant.removed_at.is_none()))
        })
    }
}

/// Looking things up.
impl Directory {
    /// The row of a listed user.
    pub(super) fn user(&self, id: &UserId) -> Option<UserRow> {
        self.users.get(id).copied().filter(|row| row.has(UserRow::LISTED))
    }

    pub(super) fn exception(&self, row: UserRow) -> Option<&Rules> {
        if !row.has(UserRow::EXCEPTION) {
            return None;
        }
        self.exceptions.get(&row.number)
    }

    /// Where this user's mail is, if that is said of them.
    pub(super) fn own_home(&self, row: UserRow) -> Option<&MailHome> {
        if !row.has(UserRow::HOME) {
            return None;
        }
        self.homes.get(&row.number)
    }

    pub(super) fn mailbox(&self, id: &UserId) -> Option<&MailboxRow> {
        self.mailboxes.get(id).filter(|row| row.listed)
    }

    pub(super) fn unit_path(&self, unit: u32) -> UnitPath {
        self.tree.node(unit).map_or_else(UnitPath::root, |node| node.path.clone())
    }

    /// How a grant stands; `None` if the user never let this app in.
    pub fn grant(&self, user: &UserId, owner: &UserId, app: &ClientId) -> Option<Grant> {
        self.grant_of(*self.users.get(user)?, (owner != user).then_some(owner), self.apps.number(app)?)
    }

    /// The same for a row and an app's number; `shared` is the mailbox if it is not the user's own.
    pub(super) fn grant_of(&self, row: UserRow, shared: Option<&UserId>, app: u32) -> Option<Grant> {
        if shared.is_none() && row.granted_app == app {
            return Some(ACTIVE);
        }
        if !row.has(UserRow::GRANTS) {
            return None;
        }
        let owner = shared.map_or(Some(OWN), |mailbox| Some(self.mailboxes.get(mailbox)?.number))?;
        Some(self.grants.get(&GrantNumber { user: row.number, owner, app })?.grant())
    }

    /// Whether a user of this name is listed.
    pub fn knows(&self, user: &UserId) -> bool {
        self.user(user).is_some()
    }

    /// Whether a listed user has an address in this mail domain, which is in lower case.
    pub fn has_domain(&self, domain: &str) -> bool {
        self.domains.has(domain)
    }

    /// The unit of a listed user.
    pub fn unit_of(&self, user: &UserId) -> Option<UnitPath> {
        self.user(user).map(|row| self.unit_path(row.unit()))
    }

    /// The unit of a listed shared mailbox; none for one that is the whole organisation's.
    pub fn unit_of_mailbox(&self, mailbox: &UserId) -> Option<UnitPath> {
        self.mailbox(mailbox)?.unit.map(|unit| self.unit_path(unit))
    }

    /// Whether a unit has a row of its own; the root always counts as having one.
    pub fn has_unit(&self, path: &UnitPath) -> bool {
        self.tree.find(path).is_some_and(|node| node.listed)
    }

    /// What an app is called, in the organisation's catalogue or in the shipped one.
    pub fn app_name(&self, app: &ClientId) -> Option<Arc<str>> {
        match self.apps.find(app) {
            Some(row) => row.name.clone(),
            None => super::shipped_name(app).map(Arc::from),
        }
    }

    /// The next moment after `now` at which a time-boxed setting runs out: look at every session again then.
    pub fn next_end(&self, now: UnixTime) -> Option<UnixTime> {
        self.ends.next(now)
    }

    /// How many listed users, units (the root included) and groups there are, and how many grants.
    pub fn counts(&self) -> Counts {
        Counts {
            users: self.listed_users,
            units: self.tree.len(),
            groups: self.groups.len(),
            grants: self.grants.len() + self.inline_grants,
        }
    }

    /// How many words of issuers against tokens and accounts there are.
    pub fn cutoff_count(&self) -> usize {
        self.cutoffs.len()
    }

    /// The number of the last change that is in this snapshot: the policy version of the audit log.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Says which change was the last one put in.
    pub fn set_version(&mut self, number: i64) {
        self.version = number;
    }
}

/// What a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Listed users.
    pub users: usize,
    /// Units, the root included.
    pub units: usize,
    /// Groups.
    pub groups: usize,
    /// Grants, whatever their state.
    pub grants: usize,
}
