//! Who wants to hear of an owner's folders (RFC 5465, RFC 5464 section 4.4): names that come and go, subscriptions,
//! annotations, and that something happened in a folder. Told by `tree` and `folder`; a session listens through
//! [`Listener`], which holds next to nothing while nothing happens.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, Weak, atomic::Ordering},
};

use tokio::sync::Notify;

use super::{
    folder::{Folder, Spot, lock},
    root::Owner,
};

/// Events that are kept for a session that does not ask for them; one more, and it has missed some.
const MOST: usize = 256;

/// What happened to the folders of an owner. Names are in UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A folder was made.
    Created(String),
    /// A folder was removed.
    Deleted(String),
    /// A folder, with everything below, has a new name.
    Renamed {
        /// The old name.
        from: String,
        /// The new name.
        to: String,
    },
    /// A name was subscribed to, or not any more.
    Subscribed(String),
    /// Annotations were set or removed: of a folder, or of the mail as a whole.
    Annotated {
        /// The folder; none for the mail as a whole.
        folder: Option<String>,
        /// Whose private annotations; none where all who may see the folder share them.
        private_to: Option<String>,
        /// The entries' names.
        entries: Vec<String>,
    },
}

/// Everything a listener was told since it asked last.
#[derive(Debug, Default)]
pub struct Heard {
    /// In order.
    pub news: Vec<News>,
    /// Directories of folders in which something happened to messages; none is INBOX.
    pub(super) touched: BTreeSet<Option<Arc<[u8]>>>,
    /// More happened than was kept: `news` is empty, and what is known of folders may be wrong.
    pub overflow: bool,
}

impl Heard {
    /// Whether nothing was told.
    pub fn is_empty(&self) -> bool {
        self.news.is_empty() && self.touched.is_empty() && !self.overflow
    }
}

/// What one session is told. Dropped, it is told nothing more.
pub struct Listener {
    /// Its own deeds are not told.
    origin: u64,
    heard: Mutex<Heard>,
    wake: Notify,
    /// Folders that are watched for this session although it has not opened them.
    covered: Mutex<Vec<Covered>>,
}

/// A folder that counts as open.
pub(super) struct Covered(Arc<Folder>);

impl Covered {
    fn new(folder: Arc<Folder>) -> Self {
        folder.views.fetch_add(1, Ordering::AcqRel);
        Self(folder)
    }
}

impl Drop for Covered {
    fn drop(&mut self) {
        self.0.views.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Listener {
    pub(super) fn new(origin: u64) -> Arc<Self> {
        Arc::new(Self { origin, heard: Mutex::default(), wake: Notify::new(), covered: Mutex::default() })
    }

    /// What was told since the last call.
    pub fn take(&self) -> Heard {
        std::mem::take(&mut *lock(&self.heard))
    }

    /// Waits until there is something to take. Cancel-safe.
    pub async fn told(&self) {
        loop {
            let woken = self.wake.notified();
            if !lock(&self.heard).is_empty() {
                return;
            }
            woken.await;
        }
    }

    /// Counts a folder as open as long as what is given back lives.
    pub(super) fn hold(&self, folder: &Arc<Folder>) -> Covered {
        Covered::new(Arc::clone(folder))
    }

    /// From now on these folders are held, and no others.
    pub(super) fn cover(&self, next: Vec<Covered>) {
        let before = std::mem::replace(&mut *lock(&self.covered), next);
        drop(before);
    }

    fn tell(&self, add: impl FnOnce(&mut Heard)) {
        {
            let mut heard = lock(&self.heard);
            if heard.overflow {
                return;
            }
            add(&mut heard);
            if heard.news.len() > MOST || heard.touched.len() > MOST {
                *heard = Heard { overflow: true, ..Heard::default() };
            }
        }
        self.wake.notify_one();
    }
}

/// All listeners, by owner.
#[derive(Default)]
pub(super) struct Hub(Mutex<HashMap<Owner, Vec<Weak<Listener>>>>);

impl Hub {
    pub(super) fn join(&self, owner: &Owner, listener: &Arc<Listener>) {
        let mut all = lock(&self.0);
        let listeners = all.entry(owner.clone()).or_default();
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(listener));
    }

    fn listeners(&self, owner: &Owner) -> Vec<Arc<Listener>> {
        lock(&self.0).get(owner).map(|all| all.iter().filter_map(Weak::upgrade).collect()).unwrap_or_default()
    }

    /// Something happened, by the doing of `origin`.
    pub(super) fn tell(&self, owner: &Owner, origin: u64, news: &News) {
        for listener in self.listeners(owner) {
            if listener.origin != origin {
                listener.tell(|heard| heard.news.push(news.clone()));
            }
        }
    }

    /// Messages of a folder came, went or changed. Who did it is not known here: a session compares with what it was
    /// told.
    pub(super) fn touch(&self, spot: &Spot) {
        for listener in self.listeners(&spot.owner) {
            listener.tell(|heard| {
                heard.touched.insert(spot.dir.clone());
            });
        }
    }

    /// Forgets owners nobody listens to.
    pub(super) fn prune(&self) {
        lock(&self.0).retain(|_, listeners| {
            listeners.retain(|listener| listener.strong_count() > 0);
            !listeners.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        ("example.com".into(), "ann".into())
    }

    #[tokio::test]
    async fn a_listener_hears_what_others_do_in_order_and_nothing_of_its_own() {
        let hub = Hub::default();
        let (one, other) = (Listener::new(1), Listener::new(2));
        hub.join(&owner(), &one);
        hub.join(&owner(), &other);
        hub.tell(&owner(), 1, &News::Created("a".into()));
        hub.tell(&owner(), 1, &News::Deleted("a".into()));
        hub.tell(&("example.com".into(), "bob".into()), 3, &News::Created("b".into()));
        assert!(one.take().is_empty());
        other.told().await;
        assert_eq!(other.take().news, [News::Created("a".into()), News::Deleted("a".into())]);
        assert!(other.take().is_empty());
    }

    #[tokio::test]
    async fn who_does_not_ask_holds_a_bounded_number_of_events_and_hears_that_some_were_lost() {
        let hub = Hub::default();
        let listener = Listener::new(1);
        hub.join(&owner(), &listener);
        for number in 0..10_000 {
            hub.tell(&owner(), 2, &News::Created(number.to_string()));
        }
        let heard = listener.take();
        assert!(heard.overflow && heard.news.is_empty());
        hub.tell(&owner(), 2, &News::Created("later".into()));
        assert_eq!(listener.take().news.len(), 1);
        drop(listener);
        hub.prune();
        assert!(lock(&hub.0).is_empty());
    }
}
