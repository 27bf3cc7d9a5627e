//! Single flight: many may want one answer, one asks. Used for keys (per issuer) and introspection (per token).

use std::{collections::HashMap, hash::Hash, sync::Arc};

use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// The questions under way, by key. A question runs as a task of its own, so it ends even if all who wait for it
/// leave.
pub(super) struct Flights<K, V> {
    open: Mutex<HashMap<K, watch::Receiver<Option<V>>>>,
}

impl<K, V> Flights<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { open: Mutex::new(HashMap::new()) })
    }

    /// Waits for the answer under way for `key`, or starts what `start` returns. None: nothing is under way and
    /// `start` did not want to begin (or the task died). `start` must not block: it runs under the lock.
    pub(super) async fn join<F>(
        self: &Arc<Self>,
        key: K,
        tasks: &TaskTracker,
        start: impl FnOnce() -> Option<F>,
    ) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut answer = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            match open.get(&key) {
                Some(answer) => answer.clone(),
                None => {
                    let question = start()?;
                    let (tell, answer) = watch::channel(None);
                    open.insert(key.clone(), answer.clone());
                    let landing = Landing { flights: self.clone(), key };
                    tasks.spawn(async move {
                        let value = question.await;
                        drop(landing);
                        tell.send_replace(Some(value));
                    });
                    answer
                }
            }
        };
        let value = answer.wait_for(Option::is_some).await.ok()?;
        value.clone()
    }
}

/// Takes a question off the list, also when its task panics.
struct Landing<K: Eq + Hash, V> {
    flights: Arc<Flights<K, V>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_hundred_who_ask_at_once_cause_one_question_even_if_the_first_leaves() {
        let (flights, tasks) = (Flights::<u8, usize>::new(), TaskTracker::new());
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let ask = || {
            Some(async {
                tokio::time::sleep(std::time::Duration::from_millis(30)).await;
                ASKED.fetch_add(1, Ordering::SeqCst) + 1
            })
        };
        let leaver = tokio::time::timeout(std::time::Duration::from_millis(1), flights.join(1, &tasks, ask)).await;
        assert!(leaver.is_err());
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (flights, tasks) = (flights.clone(), tasks.clone());
            all.spawn(async move { flights.join(1, &tasks, ask).await });
        }
        assert!(all.join_all().await.into_iter().all(|answer| answer == Some(1)));
        assert_eq!(flights.join(1, &tasks, || None::<std::future::Ready<usize>>).await, None);
    }
}
