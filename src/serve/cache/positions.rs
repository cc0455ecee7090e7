//! Where the primary was in its log, and when: seen again and again over the connection that listens to the feed.
//!
//! Two things follow from it. A standby that has replayed what was written when the primary was looked at holds all that
//! was visible then: what the feed had announced by then, and whatever was committed before. So how fresh a read has to be
//! is one position. And an answer that the primary gave after it was looked at holds all that was acknowledged before: any
//! position that a writer asks for after its commit, if that is before `flushed`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A standby further behind is never read.
pub const MAX_LAG: Duration = Duration::from_secs(60);

/// One look at the primary.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    /// Just before it was asked.
    pub asked: Instant,
    /// Notifications heard by then.
    pub heard: u64,
    pub written: u64,
    pub flushed: u64,
}

#[derive(Debug, Default)]
pub struct Positions {
    /// Cluster and timeline.
    history: String,
    /// In the order of time; all but `asked` never falls.
    sights: VecDeque<Sight>,
}

impl Positions {
    /// A connection has begun, to the primary of this cluster and timeline.
    pub fn begin(&mut self, history: &str) {
        history.clone_into(&mut self.history);
        self.sights.clear();
    }

    pub fn history(&self) -> &str {
        &self.history
    }

    pub fn see(&mut self, sight: Sight) {
        while self.sights.front().is_some_and(|oldest| oldest.asked + MAX_LAG < sight.asked) {
            self.sights.pop_front();
        }
        self.sights.push_back(sight);
    }

    /// What a standby must have replayed to hold all that notification number `heard` and those before it told of, and
    /// whatever was committed `lag` ago. `None` while that is not known.
    pub fn need(&self, heard: u64, lag: Duration, now: Instant) -> Option<u64> {
        let told = self.sights.partition_point(|sight| sight.heard < heard);
        let late = self.sights.partition_point(|sight| sight.asked + lag < now);
        self.sights.get(told.max(late)).map(|sight| sight.written)
    }

    /// As of when a standby that has replayed so much lacks nothing.
    pub fn level(&self, replayed: u64) -> Option<Instant> {
        let beyond = self.sights.partition_point(|sight| sight.written <= replayed);
        beyond.checked_sub(1).and_then(|last| self.sights.get(last)).map(|sight| sight.asked)
    }

    /// The last position that the primary was seen at.
    pub fn written(&self) -> Option<u64> {
        self.sights.back().map(|sight| sight.written)
    }

    /// What the primary's answer holds, if it is asked now: whoever was told so of a commit before, or of an earlier one,
    /// finds it there. One less than `flushed`: a commit may be on the disk and not yet visible, and nothing be written
    /// between.
    pub fn held(&self) -> u64 {
        self.sights.back().map_or(0, |sight| sight.flushed.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: Duration = Duration::from_secs(2);

    /// Looks at 0, 0.5, 1.0 … s, each with its notifications heard and its position.
    fn seen(from: Instant, sights: &[(u64, u64)]) -> Positions {
        let mut positions = Positions::default();
        positions.begin("1/1");
        for (number, (heard, written)) in sights.iter().enumerate() {
            let asked = from + Duration::from_millis(500) * u32::try_from(number).expect("few");
            positions.see(Sight { asked, heard: *heard, written: *written, flushed: *written });
        }
        positions
    }

    #[test]
    fn a_standby_needs_what_was_announced_and_what_is_older_than_the_bound() {
        let from = Instant::now();
        let at = |millis| from + Duration::from_millis(millis);
        let positions = seen(from, &[(1, 100), (1, 200), (2, 300), (2, 400), (2, 500)]);
        assert_eq!(positions.need(0, LAG, at(2000)), Some(100), "all that was committed 2 s ago");
        assert_eq!(positions.need(0, LAG, at(2001)), Some(200), "the look before does not hold it");
        assert_eq!(positions.need(1, LAG, at(2000)), Some(100));
        assert_eq!(positions.need(2, LAG, at(2000)), Some(300), "the first look after it was heard");
        assert_eq!(positions.need(3, LAG, at(2000)), None, "nobody has looked since");
        assert_eq!(positions.need(2, LAG, at(4000)), Some(500));
        assert_eq!(positions.need(2, LAG, at(4001)), None, "the primary is not heard of");
        assert_eq!(Positions::default().need(0, LAG, from), None);
    }

    #[test]
    fn a_standby_is_level_with_the_last_look_that_it_has_replayed() {
        let from = Instant::now();
        let positions = seen(from, &[(1, 100), (1, 100), (1, 300)]);
        assert_eq!(positions.level(99), None);
        assert_eq!(positions.level(100), Some(from + Duration::from_millis(500)));
        assert_eq!(positions.level(299), Some(from + Duration::from_millis(500)));
        assert_eq!(positions.level(1000), Some(from + Duration::from_secs(1)));
    }

    #[test]
    fn a_new_connection_begins_anew_and_what_is_old_is_forgotten() {
        let from = Instant::now();
        let mut positions = seen(from, &[(1, 100)]);
        positions.see(Sight { asked: from + MAX_LAG + LAG, heard: 1, written: 200, flushed: 150 });
        assert_eq!((positions.level(199), positions.written(), positions.held()), (None, Some(200), 149));
        positions.begin("1/2");
        assert_eq!((positions.history(), positions.written(), positions.held()), ("1/2", None, 0));
    }
}
