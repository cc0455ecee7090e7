//! Statements that take too long: counted, logged by name, and with their plans where the operator asks for them.

use super::metrics::Metrics;
use crate::read::Ran;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A plan of one statement is logged so often at most.
const PLAN_PAUSE: Duration = Duration::from_secs(60);

/// Counts each statement; says whether its plan is wanted.
pub fn observer(metrics: Arc<Metrics>, slow: Duration, explain: bool) -> impl Fn(Ran) -> bool + Send + Sync + 'static {
    let planned: Mutex<HashMap<&'static str, Instant>> = Mutex::default();
    move |ran| {
        metrics.ran(ran);
        if ran.took <= slow {
            return false;
        }
        let duration_ms = u64::try_from(ran.took.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(target: "pulso::slow", statement = ran.statement, duration_ms, failed = ran.failed, "slow statement");
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
    fn plans_are_wanted_of_slow_statements_once_a_minute_and_only_where_asked_for() {
        let ran = |statement, millis| Ran { statement, took: Duration::from_millis(millis), failed: false };
        let asks = observer(Arc::default(), Duration::from_millis(100), true);
        let wanted: Vec<bool> =
            [ran("a", 50), ran("a", 150), ran("a", 150), ran("b", 150)].into_iter().map(asks).collect();
        assert_eq!(wanted, [false, true, false, true]);
        let silent = observer(Arc::default(), Duration::from_millis(100), false);
        assert!(!silent(ran("a", 150)));
    }
}
