//! What takes too long: statements are counted, logged by name, and with their plans where the operator asks for them; of
//! them, and of requests, only so many lines a second.

use super::metrics::Metrics;
use crate::read::Ran;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A plan of one statement is logged so often at most.
const PLAN_PAUSE: Duration = Duration::from_secs(60);

/// So many lines a second of slow requests, and so many of slow statements: in overload each is slow, and a line takes longer than
/// a kept answer.
const LINES: u32 = 10;

/// Which lines of one kind are written.
#[derive(Default)]
pub struct Lines(Mutex<Second>);

#[derive(Default)]
struct Second {
    began: Option<Instant>,
    written: u32,
    unsaid: u64,
}

impl Lines {
    /// Whether the next is, and then how many were not since the last.
    pub fn next(&self) -> Option<u64> {
        self.next_at(Instant::now())
    }

    fn next_at(&self, now: Instant) -> Option<u64> {
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if second.began.is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1)) {
            (second.began, second.written) = (Some(now), 0);
        }
        if second.written == LINES {
            second.unsaid += 1;
            return None;
        }
        second.written += 1;
        Some(std::mem::take(&mut second.unsaid))
    }
}

/// Counts each statement of a server; says whether its plan is wanted.
pub fn observer(
    metrics: Arc<Metrics>,
    target: String,
    slow: Duration,
    explain: bool,
) -> impl Fn(Ran) -> bool + Send + Sync + 'static {
    let (lines, planned) = (Lines::default(), Mutex::<HashMap<&'static str, Instant>>::default());
    move |ran| {
        metrics.ran(&target, ran);
        if ran.took <= slow {
            return false;
        }
        if let Some(unsaid) = metrics.slow_line(&lines) {
            let duration_ms = u64::try_from(ran.took.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(target: "pulso::slow", statement = ran.statement, duration_ms, failed = ran.failed, unsaid, "slow statement");
        }
        if !explain {
            return false;
        }
        let mut planned = planned.lock().unwrap_or_else(PoisonError::into_inner);
        let due = planned.get(ran.statement).is_none_or(|at| at.elapsed() > PLAN_PAUSE);
        if due {
            planned.insert(ran.statement, Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_are_written_a_second_and_the_next_tells_of_the_rest() {
        let (lines, began) = (Lines::default(), Instant::now());
        let at = |millis| lines.next_at(began + Duration::from_millis(millis));
        for _ in 0..LINES {
            assert_eq!(at(0), Some(0));
        }
        assert_eq!([at(0), at(999)], [None, None]);
        assert_eq!([at(1000), at(1000)], [Some(2), Some(0)]);
    }

    #[test]
    fn plans_are_wanted_of_slow_statements_once_a_minute_and_only_where_asked_for() {
        let ran = |statement, millis| Ran { statement, took: Duration::from_millis(millis), failed: false };
        let asks = observer(Arc::default(), String::new(), Duration::from_millis(100), true);
        let wanted: Vec<bool> =
            [ran("a", 50), ran("a", 150), ran("a", 150), ran("b", 150)].into_iter().map(asks).collect();
        assert_eq!(wanted, [false, true, false, true]);
        let silent = observer(Arc::default(), String::new(), Duration::from_millis(100), false);
        assert!(!silent(ran("a", 150)));
    }
}
