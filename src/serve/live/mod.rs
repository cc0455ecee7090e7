//! Changes as they come, for streams that stay open. What waits for a slow reader is bounded: it is told to begin anew.

mod reader;
mod socket;

pub use reader::{Interest, Reader, Told};
pub use socket::converse;

use super::feed::Change;
use super::metrics::Metrics;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;

/// Notifications that wait for the slowest stream.
const WAITING: usize = 256;
/// Notifications remembered for streams that come back.
const REMEMBERED: usize = 1024;
/// A stream ends after so long; clients come back with the last id, and their keys are looked at again.
const LIFETIME: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone)]
pub enum News {
    Changes(u64, Arc<Vec<Change>>),
    /// Something may have been missed: everything has to be read again.
    Reset,
}

/// Notifications of late: all that came after number `since`.
#[derive(Default)]
struct Past {
    since: Option<u64>,
    told: VecDeque<(u64, Arc<Vec<Change>>)>,
}

impl Past {
    /// What a stream missed that has seen number `last`; `None` where that is not known.
    fn after(&self, last: u64) -> Option<Vec<News>> {
        let newest = self.told.back().map_or(self.since?, |(seq, _)| *seq);
        let known = (self.since?..=newest).contains(&last);
        let missed = self.told.iter().filter(|(seq, _)| *seq > last);
        known.then(|| missed.map(|(seq, changes)| News::Changes(*seq, Arc::clone(changes))).collect())
    }
}

pub struct Live {
    news: broadcast::Sender<News>,
    past: Mutex<Past>,
    max: i64,
    metrics: Arc<Metrics>,
}

/// One stream's place; counted while it lives.
pub struct Subscription {
    pub news: broadcast::Receiver<News>,
    /// What it gets first.
    pub missed: Vec<News>,
    metrics: Arc<Metrics>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.metrics.cache.live_streams.dec();
    }
}

impl Live {
    /// For at most `max` streams at once.
    pub fn new(metrics: Arc<Metrics>, max: u32) -> Self {
        Self { news: broadcast::Sender::new(WAITING), past: Mutex::default(), max: max.into(), metrics }
    }

    pub fn tell(&self, seq: u64, changes: Vec<Change>) {
        let changes = Arc::new(changes);
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.told.len() == REMEMBERED {
            past.since = past.told.pop_front().map(|(seq, _)| seq);
        }
        past.told.push_back((seq, Arc::clone(&changes)));
        // Sent under the lock, so that a stream that begins now gets it either way, and once.
        let _ = self.news.send(News::Changes(seq, changes));
    }

    /// What came before is not known; from now on comes what follows notification `since`, if that is known.
    pub fn reset(&self, since: Option<u64>) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        *past = Past { since, told: VecDeque::new() };
        let _ = self.news.send(News::Reset);
    }

    /// A stream, after the notification `last` where it has seen one; `None` when there are too many.
    pub fn subscribe(&self, last: Option<u64>) -> Option<Subscription> {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if self.metrics.cache.live_streams.get() >= self.max {
            return None;
        }
        self.metrics.cache.live_streams.inc();
        let missed = last.map_or_else(Vec::new, |last| past.after(last).unwrap_or_else(|| vec![News::Reset]));
        Some(Subscription { news: self.news.subscribe(), missed, metrics: Arc::clone(&self.metrics) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Live {
        Live::new(Arc::default(), 10)
    }

    fn numbers(missed: &[News]) -> Vec<Option<u64>> {
        missed.iter().map(|news| if let News::Changes(seq, _) = news { Some(*seq) } else { None }).collect()
    }

    #[test]
    fn a_stream_that_comes_back_gets_what_it_missed_or_is_told_to_begin_anew() {
        let live = live();
        let of = |last| numbers(&live.subscribe(last).expect("a stream").missed);
        assert_eq!(of(Some(3)), [None], "nothing is known yet");
        live.reset(Some(3));
        assert_eq!(of(Some(3)), [], "it has seen the newest, perhaps on another node");
        assert_eq!(of(Some(2)), [None]);
        for seq in 4..=6 {
            live.tell(seq, Vec::new());
        }
        assert_eq!(of(None), []);
        assert_eq!(of(Some(3)), [Some(4), Some(5), Some(6)]);
        assert_eq!(of(Some(5)), [Some(6)]);
        assert_eq!(of(Some(6)), []);
        assert_eq!(of(Some(9)), [None]);
        for seq in 7..7 + REMEMBERED as u64 {
            live.tell(seq, Vec::new());
        }
        assert_eq!(of(Some(5)), [None], "forgotten");
        assert_eq!(of(Some(6)).len(), REMEMBERED);
        live.reset(None);
        assert_eq!(of(Some(1000)), [None]);
        assert_eq!(live.metrics.cache.live_streams.get(), 0);
    }

    #[test]
    fn streams_are_bounded() {
        let live = live();
        let streams: Vec<_> = (0..10).map(|_| live.subscribe(None).expect("a stream")).collect();
        assert!(live.subscribe(None).is_none());
        drop(streams);
        assert!(live.subscribe(None).is_some());
    }

    #[tokio::test]
    async fn a_slow_stream_is_told_that_it_lags() {
        let live = live();
        let mut slow = live.subscribe(None).expect("a stream");
        for seq in 0..WAITING as u64 + 10 {
            live.tell(seq, Vec::new());
        }
        assert!(matches!(slow.news.recv().await, Err(broadcast::error::RecvError::Lagged(_))));
    }
}
