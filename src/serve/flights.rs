//! One read for all who ask the same at once, and never one that began before they asked: a group commit for reads.
//!
//! While a read of a key runs, whoever comes joins the next one. That begins when one before has ended, so its snapshot
//! holds all that was committed when the last of them came. Each may bring what it wants of the read: the figures of a shop are
//! then those of many, read by one statement.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OnceCell, Semaphore};

/// Reads under way, by what they read. A key has to name all that the answer depends on but the wishes of those who share it.
pub struct Flights<T, P = ()> {
    /// So many reads run at once, of whatever keys; without it, one of each key.
    permits: Option<Arc<Semaphore>>,
    /// So many wishes are granted by one.
    wishes_max: usize,
    queues: Mutex<HashMap<String, Arc<Queue<T, P>>>>,
}

struct Queue<T, P> {
    permits: Arc<Semaphore>,
    /// The one that has not begun.
    next: Mutex<Arc<Flight<T, P>>>,
}

struct Flight<T, P> {
    wishes: Mutex<Vec<P>>,
    outcome: OnceCell<T>,
}

/// Somebody in a queue; the last to leave removes it.
struct Place<'a, T, P> {
    flights: &'a Flights<T, P>,
    key: &'a str,
    queue: Arc<Queue<T, P>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T, P> Default for Flight<T, P> {
    fn default() -> Self {
        Self { wishes: Mutex::default(), outcome: OnceCell::new() }
    }
}

/// One at a time of each key, whoever wants it.
impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self { permits: None, wishes_max: usize::MAX, queues: Mutex::default() }
    }
}

impl<T: Clone> Flights<T> {
    /// What `read` gives, or what that of another gives which began after this call; an error is that of all who share it.
    /// Whoever is dropped while its `read` runs leaves that to the next of those who wait for it.
    pub async fn share<F: Future<Output = T>>(&self, key: &str, read: impl FnOnce() -> F) -> T {
        self.share_with(key, (), |_| read()).await
    }
}

impl<T, P> Flights<T, P> {
    /// `permits` reads at once, for `wishes_max` wishes each: the fewer, the more share one.
    pub fn new(permits: usize, wishes_max: usize) -> Self {
        Self { permits: Some(Arc::new(Semaphore::new(permits))), wishes_max, queues: Mutex::default() }
    }
}

impl<T: Clone, P: Clone> Flights<T, P> {
    /// As `share`; `read` is given what all want that share it, `wish` among it.
    pub async fn share_with<F: Future<Output = T>>(&self, key: &str, wish: P, read: impl FnOnce(Vec<P>) -> F) -> T {
        let place = self.place(key);
        let flight = {
            let mut next = held(&place.queue.next);
            let flight = Arc::clone(&next);
            let mut wishes = held(&flight.wishes);
            wishes.push(wish);
            if wishes.len() >= self.wishes_max {
                *next = Arc::default();
            }
            drop(wishes);
            flight
        };
        let read_for_all = || async {
            // Never closed.
            let _permit = place.queue.permits.acquire().await;
            {
                let mut next = held(&place.queue.next);
                if Arc::ptr_eq(&next, &flight) {
                    *next = Arc::default();
                }
            }
            let wishes = held(&flight.wishes).clone();
            read(wishes).await
        };
        flight.outcome.get_or_init(read_for_all).await.clone()
    }

    fn place<'a>(&'a self, key: &'a str) -> Place<'a, T, P> {
        let mut queues = held(&self.queues);
        let queue = match queues.get(key) {
            Some(queue) => Arc::clone(queue),
            None => {
                let permits = self.permits.clone().unwrap_or_else(|| Arc::new(Semaphore::new(1)));
                let queue = Arc::new(Queue { permits, next: Mutex::default() });
                queues.insert(key.to_owned(), Arc::clone(&queue));
                queue
            }
        };
        Place { flights: self, key, queue }
    }
}

impl<T, P> Drop for Place<'_, T, P> {
    fn drop(&mut self) {
        let mut queues = held(&self.flights.queues);
        // The map's and this one: more are only made under the lock.
        if Arc::strong_count(&self.queue) == 2 {
            queues.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;
    use tokio::task::{JoinSet, yield_now};
    use tokio::time::{sleep, timeout};

    #[tokio::test]
    async fn those_who_come_during_a_read_share_the_next() {
        let (flights, reads) = (Flights::default(), AtomicU64::new(0));
        let read = || async {
            let number = reads.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(20)).await;
            number
        };
        let late = async {
            sleep(Duration::from_millis(5)).await;
            futures_util::future::join_all((0..50).map(|_| flights.share("k", read))).await
        };
        let (first, late) = tokio::join!(flights.share("k", read), late);
        assert_eq!((first, late), (0, vec![1; 50]));
        assert!(held(&flights.queues).is_empty(), "queues are removed");
    }

    #[tokio::test]
    async fn keys_do_not_wait_for_each_other() {
        let flights = Flights::default();
        let stuck = flights.share("a", std::future::pending::<u64>);
        let other = timeout(Duration::from_secs(5), flights.share("b", || async { 2 }));
        tokio::select! {
            _ = stuck => unreachable!("it never ends"),
            other = other => assert_eq!(other.ok(), Some(2)),
        }
    }

    #[tokio::test]
    async fn whoever_gives_up_hurts_no_other() {
        let flights = Arc::new(Flights::default());
        let share = |number: u64, takes: Duration| {
            let flights = Arc::clone(&flights);
            tokio::spawn(async move {
                flights
                    .share("k", || async {
                        sleep(takes).await;
                        number
                    })
                    .await
            })
        };
        let long = Duration::from_secs(3600);
        let first = share(1, long);
        yield_now().await;
        let (second, third) = (share(2, long), share(3, Duration::ZERO));
        yield_now().await;
        first.abort();
        sleep(Duration::from_millis(5)).await;
        // The second reads for both now.
        second.abort();
        assert_eq!(timeout(Duration::from_secs(5), third).await.expect("no wait").ok(), Some(3));
        assert!(held(&flights.queues).is_empty());
    }

    /// A clock that moves with each commit stands for the database: a read's snapshot is taken some time after it begins.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_is_answered_out_of_a_snapshot_from_before_it_came() {
        let (flights, committed, reads) =
            (Arc::new(Flights::default()), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut work = JoinSet::new();
        for caller in 0..64_u64 {
            let (flights, committed, reads) = (Arc::clone(&flights), Arc::clone(&committed), Arc::clone(&reads));
            work.spawn(async move {
                for turn in 0..200_u64 {
                    let mine = committed.fetch_add(1, Ordering::SeqCst) + 1;
                    let read = || async {
                        reads.fetch_add(1, Ordering::Relaxed);
                        let snapshot = committed.load(Ordering::SeqCst);
                        for _ in 0..caller % 4 {
                            yield_now().await;
                        }
                        snapshot
                    };
                    let ask = flights.share("k", read);
                    if (caller + turn).is_multiple_of(7) {
                        // Gives up at some point of its way.
                        let _ = timeout(Duration::from_micros(turn), ask).await;
                    } else {
                        let seen = ask.await;
                        assert!(seen >= mine, "{seen} is older than {mine}");
                    }
                }
            });
        }
        while let Some(done) = work.join_next().await {
            done.expect("no failure");
        }
        assert!(held(&flights.queues).is_empty());
        assert!(reads.load(Ordering::Relaxed) < 64 * 200, "none was shared");
    }

    #[tokio::test]
    async fn wishes_that_come_together_are_granted_by_one_read_as_far_as_they_have_room() {
        let flights = Flights::new(1, 3);
        let read = |wishes: Vec<u32>| async move {
            sleep(Duration::from_millis(5)).await;
            wishes
        };
        let seen = futures_util::future::join_all((0..8).map(|wish| flights.share_with("k", wish, read))).await;
        for (wish, granted) in (0..8).zip(&seen) {
            assert!(granted.contains(&wish) && granted.len() <= 3, "{wish}: {granted:?}");
        }
        assert_eq!(seen.iter().filter(|granted| granted.len() == 3).count(), 6, "{seen:?}");
        assert!(held(&flights.queues).is_empty());
    }

    #[tokio::test]
    async fn so_many_reads_run_at_once_as_there_are_permits() {
        let (flights, running, most) = (Flights::new(2, 1), AtomicU64::new(0), AtomicU64::new(0));
        let read = |_| async {
            most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            sleep(Duration::from_millis(5)).await;
            running.fetch_sub(1, Ordering::Relaxed);
        };
        let keys = ["a", "b", "c", "a", "b", "c", "a"];
        futures_util::future::join_all(keys.iter().map(|key| flights.share_with(key, 0, read))).await;
        assert_eq!(most.load(Ordering::Relaxed), 2);
    }
}
