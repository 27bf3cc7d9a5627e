//! How much an owner's mail may take up, and how much it does (RFC 9208). Each folder reports what it holds with every
//! change, so that nothing has to be counted for a new message. Called by `deliver` and `tree`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use moka::sync::Cache;

use super::{
    error::MailError,
    folder::{Spot, lock},
    root::Owner,
};
use crate::policy::Quota;

/// Whether a quota has room for that much.
fn holds(quota: Quota, usage: Usage) -> bool {
    quota.bytes.is_none_or(|most| usage.bytes <= most) && quota.messages.is_none_or(|most| usage.messages <= most)
}

/// What messages take up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The sum of their sizes in wire form, in bytes.
    pub bytes: u64,
    /// How many there are.
    pub messages: u64,
}

impl Usage {
    pub(super) fn of(sizes: impl IntoIterator<Item = u64>) -> Self {
        sizes.into_iter().fold(Self::default(), |sum, bytes| sum.plus(Self { bytes, messages: 1 }))
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            messages: self.messages.saturating_add(other.messages),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            messages: self.messages.saturating_sub(other.messages),
        }
    }
}

/// One owner's limits and use.
#[derive(Default)]
pub(super) struct Account(Mutex<Books>);

#[derive(Default)]
struct Books {
    quota: Quota,
    /// What each folder last said it holds; nothing before the first count began.
    folders: Option<HashMap<Option<Arc<[u8]>>, Usage>>,
    /// When all of them were asked last.
    counted: Option<Instant>,
    /// The sum of it.
    sum: Usage,
    /// What deliveries under way will add.
    promised: Usage,
}

impl Account {
    pub(super) fn quota(&self) -> Quota {
        lock(&self.0).quota
    }

    pub(super) fn limit(&self, quota: Quota) {
        lock(&self.0).quota = quota;
    }

    /// A folder holds this now.
    pub(super) fn report(&self, dir: &Option<Arc<[u8]>>, now: Usage) {
        let mut books = lock(&self.0);
        let Some(folders) = &mut books.folders else { return };
        let before = folders.insert(dir.clone(), now).unwrap_or_default();
        books.sum = books.sum.minus(before).plus(now);
    }

    /// A folder is no more, or is called otherwise.
    pub(super) fn forget(&self, dir: &Option<Arc<[u8]>>) {
        let mut books = lock(&self.0);
        let Some(folders) = &mut books.folders else { return };
        let before = folders.remove(dir).unwrap_or_default();
        books.sum = books.sum.minus(before);
    }

    /// From now on folders are heard; then each has to be asked.
    pub(super) fn begin_count(&self) {
        lock(&self.0).folders.get_or_insert_default();
    }

    /// All of them were asked, and there are no others: what is in use.
    pub(super) fn end_count(&self, dirs: &[Option<Arc<[u8]>>]) -> Usage {
        let mut books = lock(&self.0);
        books.counted = Some(Instant::now());
        let Some(folders) = &mut books.folders else { return Usage::default() };
        folders.retain(|dir, _| dirs.contains(dir));
        books.sum = folders.values().fold(Usage::default(), |sum, usage| sum.plus(*usage));
        books.sum
    }

    /// What folders said does not hold any more. Limits stay, and so does what deliveries under way will add.
    fn begin_anew(&self) {
        let mut books = lock(&self.0);
        books.folders = None;
        books.counted = None;
        books.sum = Usage::default();
    }

    /// Whether counting again is worth it: not if it was done just now.
    pub(super) fn may_count(&self) -> bool {
        lock(&self.0).counted.is_none_or(|at| at.elapsed() > COUNT_EVERY)
    }

    /// Room for a delivery, held until the promise is dropped; by then the folder has reported what came of it.
    /// `None`: nothing was counted yet, or it would be too much.
    pub(super) fn promise(self: &Arc<Self>, more: Usage) -> Option<Promise> {
        let mut books = lock(&self.0);
        let after = books.sum.plus(books.promised).plus(more);
        if !books.quota.is_none() && (books.counted.is_none() || !holds(books.quota, after)) {
            return None;
        }
        books.promised = books.promised.plus(more);
        Some(Promise { account: Arc::clone(self), more })
    }
}

/// Room that a delivery under way will take.
pub(super) struct Promise {
    account: Arc<Account>,
    more: Usage,
}

impl Promise {
    /// Whether there is room for that much in it.
    pub(super) fn covers(&self, more: Usage) -> bool {
        self.more.bytes >= more.bytes && self.more.messages >= more.messages
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut books = lock(&self.account.0);
        books.promised = books.promised.minus(self.more);
    }
}

/// Accounts kept although nobody is signed in, so that the next delivery need not count. Whoever is signed in holds
/// theirs, and the limits in it.
const KEPT: u64 = 10_000;
const KEPT_FOR: Duration = Duration::from_secs(600);
/// How often a full mailbox is counted at most, however often somebody tries.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Every account in use.
pub(super) struct Accounts {
    all: Mutex<HashMap<Owner, Weak<Account>>>,
    kept: Cache<Owner, Arc<Account>>,
}

impl Accounts {
    pub(super) fn new() -> Self {
        let kept = Cache::builder().max_capacity(KEPT).time_to_idle(KEPT_FOR).build();
        Self { all: Mutex::default(), kept }
    }

    /// The one account of an owner.
    pub(super) fn of(&self, owner: &Owner) -> Arc<Account> {
        if let Some(account) = self.kept.get(owner) {
            return account;
        }
        let account = {
            let mut all = lock(&self.all);
            match all.get(owner).and_then(Weak::upgrade) {
                Some(account) => account,
                None => {
                    let account = Arc::new(Account::default());
                    all.insert(owner.clone(), Arc::downgrade(&account));
                    account
                }
            }
        };
        self.kept.insert(owner.clone(), Arc::clone(&account));
        account
    }

    /// A folder holds this now.
    pub(super) fn report(&self, spot: &Spot, now: Usage) {
        let account = lock(&self.all).get(&spot.owner).and_then(Weak::upgrade);
        if let Some(account) = account {
            account.report(&spot.dir, now);
        }
    }

    /// Forgets what is in use: another process may change it from now on.
    pub(super) fn forget(&self) {
        self.kept.invalidate_all();
        // Some may be held by whoever was signed in, or by the cache for a moment yet.
        lock(&self.all).values().filter_map(Weak::upgrade).for_each(|account| account.begin_anew());
    }

    /// Forgets owners nobody has to do with.
    pub(super) fn prune(&self) {
        lock(&self.all).retain(|_, account| account.strong_count() > 0);
    }
}

#[cfg(test)]
impl Accounts {
    /// As after a long time, or many others.
    pub(super) fn evict(&self) {
        self.kept.invalidate_all();
        self.kept.run_pending_tasks();
        self.prune();
    }
}

/// The answer to a delivery that does not fit.
pub(super) const FULL: MailError = MailError::OverQuota;

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(bytes: u64, messages: u64) -> Usage {
        Usage { bytes, messages }
    }

    #[test]
    fn a_delivery_is_promised_room_only_where_it_fits_with_those_under_way() {
        let account = Arc::new(Account::default());
        assert!(account.promise(usage(u64::MAX, 1)).is_some(), "no limit, no count");
        account.limit(Quota { bytes: Some(100), messages: Some(3) });
        assert!(account.promise(usage(1, 1)).is_none(), "nothing is known yet");
        account.begin_count();
        account.report(&None, usage(50, 1));
        assert!(account.promise(usage(1, 1)).is_none(), "not all is known yet");
        account.end_count(&[None]);
        let first = account.promise(usage(50, 1));
        assert!(first.is_some(), "up to the limit");
        assert!(account.promise(usage(1, 1)).is_none(), "one under way counts");
        drop(first);
        assert!(account.promise(usage(1, 2)).is_some());
        assert!(account.promise(usage(1, 3)).is_none(), "too many messages");
        assert!(account.promise(usage(51, 1)).is_none(), "too many bytes");
    }

    #[test]
    fn what_a_folder_reports_stands_in_the_place_of_what_it_reported_before() {
        let account = Account::default();
        let sent: Option<Arc<[u8]>> = Some(Arc::from(b".Sent" as &[u8]));
        account.report(&sent, usage(7, 7));
        assert_eq!(account.end_count(&[None]), usage(0, 0), "nobody listens yet");
        account.begin_count();
        for (dir, now) in [(&sent, usage(10, 1)), (&None, usage(5, 2)), (&sent, usage(4, 1))] {
            account.report(dir, now);
        }
        assert_eq!(lock(&account.0).sum, usage(9, 3));
        account.forget(&sent);
        account.forget(&sent);
        assert_eq!(lock(&account.0).sum, usage(5, 2));
        account.report(&sent, usage(1, 1));
        assert_eq!(account.end_count(&[None]), usage(5, 2), "a folder that is no more");
    }
}
