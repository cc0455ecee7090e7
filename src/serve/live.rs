//! Changes as they come, for streams that stay open. What waits for a slow reader is bounded: it is told to begin anew.

use super::feed::Change;
use super::metrics::Metrics;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;

/// Notifications that wait for the slowest stream.
const WAITING: usize = 256;
/// Notifications remembered for streams that come back.
const REMEMBERED: usize = 1024;
/// Streams open at once.
const MAX_STREAMS: i64 = 2000;

#[derive(Debug, Clone)]
pub enum News {
    Changes(u64, Arc<Vec<Change>>),
    /// Something may have been missed: everything has to be read again.
    Reset,
}

pub struct Live {
    news: broadcast::Sender<News>,
    past: Mutex<VecDeque<(u64, Arc<Vec<Change>>)>>,
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
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { news: broadcast::Sender::new(WAITING), past: Mutex::new(VecDeque::new()), metrics }
    }

    pub fn tell(&self, seq: u64, changes: Vec<Change>) {
        let changes = Arc::new(changes);
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.len() == REMEMBERED {
            past.pop_front();
        }
        past.push_back((seq, Arc::clone(&changes)));
        // Sent under the lock, so that a stream that begins now gets it either way, and once.
        let _ = self.news.send(News::Changes(seq, changes));
    }

    pub fn reset(&self) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.clear();
        let _ = self.news.send(News::Reset);
    }

    /// A stream, after the notification `last` where it has seen one; `None` when there are too many.
    pub fn subscribe(&self, last: Option<u64>) -> Option<Subscription> {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if self.metrics.cache.live_streams.get() >= MAX_STREAMS {
            return None;
        }
        self.metrics.cache.live_streams.inc();
        let missed = match last {
            None => Vec::new(),
            Some(last) if past.iter().any(|(seq, _)| *seq == last) => past
                .iter()
                .filter(|(seq, _)| *seq > last)
                .map(|(seq, changes)| News::Changes(*seq, Arc::clone(changes)))
                .collect(),
            Some(_) => vec![News::Reset],
        };
        Some(Subscription { news: self.news.subscribe(), missed, metrics: Arc::clone(&self.metrics) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(missed: &[News]) -> Vec<Option<u64>> {
        missed.iter().map(|news| if let News::Changes(seq, _) = news { Some(*seq) } else { None }).collect()
    }

    #[test]
    fn a_stream_that_comes_back_gets_what_it_missed_or_is_told_to_begin_anew() {
        let live = Live::new(Arc::default());
        for seq in 1..=3 {
            live.tell(seq, Vec::new());
        }
        let of = |last| numbers(&live.subscribe(last).expect("a stream").missed);
        assert_eq!(of(None), []);
        assert_eq!(of(Some(1)), [Some(2), Some(3)]);
        assert_eq!(of(Some(3)), []);
        assert_eq!(of(Some(9)), [None]);
        live.reset();
        assert_eq!(of(Some(3)), [None]);
        assert_eq!(live.metrics.cache.live_streams.get(), 0);
    }

    #[tokio::test]
    async fn a_slow_stream_is_told_that_it_lags() {
        let live = Live::new(Arc::default());
        let mut slow = live.subscribe(None).expect("a stream");
        for seq in 0..WAITING as u64 + 10 {
            live.tell(seq, Vec::new());
        }
        assert!(matches!(slow.news.recv().await, Err(broadcast::error::RecvError::Lagged(_))));
    }
}
