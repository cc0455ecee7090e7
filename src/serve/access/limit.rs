//! So many requests a minute of each caller: a sliding window made of the last minute's count and this one's.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);
/// Callers remembered; beyond it those that were quiet for two windows are forgotten, and then the oldest.
const MAX_CALLERS: usize = 50_000;

/// What a caller has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub limit: u32,
    pub remaining: u32,
    pub reset_seconds: u64,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    /// Which minute since the start.
    minute: u64,
    before: u32,
    now: u32,
}

pub struct Limiter {
    began: Instant,
    windows: Mutex<HashMap<String, Window>>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { began: Instant::now(), windows: Mutex::new(HashMap::new()) }
    }
}

impl Limiter {
    /// Takes so many requests, or says how many seconds to wait.
    pub fn take(&self, caller: &str, limit: u32, requests: u32) -> Result<Left, u64> {
        self.take_at(caller, limit, requests, self.began.elapsed())
    }

    fn take_at(&self, caller: &str, limit: u32, requests: u32, at: Duration) -> Result<Left, u64> {
        let minute = at.as_secs() / WINDOW.as_secs();
        let into = at.as_secs() % WINDOW.as_secs();
        let reset_seconds = WINDOW.as_secs() - into;
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_CALLERS && !windows.contains_key(caller) {
            windows.retain(|_, window| window.minute + 1 >= minute);
            if windows.len() >= MAX_CALLERS {
                windows.clear();
            }
        }
        let window = windows.entry(caller.to_owned()).or_insert(Window { minute, before: 0, now: 0 });
        if window.minute != minute {
            let before = if window.minute + 1 == minute { window.now } else { 0 };
            *window = Window { minute, before, now: 0 };
        }
        // What of the minute before is still inside the last sixty seconds, as if it had been even.
        let carried = u64::from(window.before) * reset_seconds / WINDOW.as_secs();
        let used = carried + u64::from(window.now);
        if used + u64::from(requests) > u64::from(limit) {
            return Err(wait(window.now, limit, reset_seconds));
        }
        window.now += requests;
        let remaining = u64::from(limit) - used - u64::from(requests);
        Ok(Left { limit, remaining: u32::try_from(remaining).unwrap_or(u32::MAX), reset_seconds })
    }
}

/// How long a caller that may send no more has to wait: for the next minute where this one is used up.
pub fn wait(sent: u32, limit: u32, reset_seconds: u64) -> u64 {
    if sent >= limit { reset_seconds } else { (reset_seconds / 10).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sixty_seconds_hold_twice_the_limit() {
        let limiter = Limiter::default();
        let mut taken = Vec::new();
        for second in 0..300_u64 {
            for _ in 0..5 {
                if limiter.take_at("a", 60, 1, Duration::from_secs(second)).is_ok() {
                    taken.push(second);
                }
            }
        }
        for start in 0..240 {
            let inside = taken.iter().filter(|second| (start..start + 60).contains(*second)).count();
            assert!(inside <= 90, "{inside} in the minute from {start}");
        }
        assert!(taken.len() >= 240, "{} of 300 that were allowed", taken.len());
    }

    #[test]
    fn callers_are_apart_and_told_what_is_left() {
        let limiter = Limiter::default();
        let at = Duration::from_secs(10);
        assert_eq!(limiter.take_at("a", 2, 1, at), Ok(Left { limit: 2, remaining: 1, reset_seconds: 50 }));
        assert_eq!(limiter.take_at("a", 2, 1, at).map(|left| left.remaining), Ok(0));
        assert_eq!(limiter.take_at("a", 2, 1, at), Err(50));
        assert!(limiter.take_at("b", 2, 2, at).is_ok());
        assert!(limiter.take_at("c", 2, 3, at).is_err(), "a batch larger than the limit");
        assert!(limiter.take_at("a", 2, 1, Duration::from_secs(180)).is_ok());
    }

    #[test]
    fn callers_without_end_do_not_fill_the_memory() {
        let limiter = Limiter::default();
        for caller in 0..MAX_CALLERS + 10 {
            let _ = limiter.take_at(&caller.to_string(), 10, 1, Duration::ZERO);
        }
        assert!(limiter.windows.lock().expect("a lock").len() <= MAX_CALLERS);
    }
}
