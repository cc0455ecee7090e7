//! What has changed since when, by the numbers of the change feed's notifications: the same on every node.
//!
//! A notification is sent after its sender has seen what it tells of. So a read that begins once number N was taken in
//! holds all that N and those before it told of; it lacks a change of what it rests on only if a later number told of one.

use super::positions::Positions;
use jiff::ToSpan;
use jiff::civil::Date;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long the feed is believed after the last question that was answered well.
pub const LEASE: Duration = Duration::from_secs(2);
/// Days remembered of one shop; beyond it any change of the shop counts for all its days.
pub const MAX_DAYS: usize = 200;

/// What an answer rests on: the rollups of one shop from a day to a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rests {
    pub store: Uuid,
    pub from: Date,
    pub to: Date,
}

/// When a read began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Began {
    /// Which connection of the feed: numbers of two may be those of two servers.
    pub era: u64,
    /// The number of the newest notification taken in.
    pub at: u64,
}

/// How a notification follows the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Next,
    /// Some are missing.
    Gap,
    /// Its number was given away before that of one that has come already.
    Late,
}

#[derive(Default)]
struct Marks {
    all: u64,
    days: BTreeMap<Date, u64>,
}

#[derive(Default)]
pub struct Ledger {
    era: u64,
    /// The newest notification's number; `None` without a feed.
    at: Option<u64>,
    /// Until when the feed counts as connected. By the clock, so that a process that was stopped gives nothing old when it
    /// goes on.
    until: Option<Instant>,
    /// Whatever began before it is void.
    floor: u64,
    stores: HashMap<Uuid, Marks>,
    /// Notifications heard since the process began, whatever their numbers and connections.
    heard: u64,
    pub positions: Positions,
}

impl Ledger {
    /// The feed has begun, after notification `at`, and was well at `asked`.
    pub fn begin(&mut self, at: u64, asked: Instant) {
        self.era += 1;
        self.heard += 1;
        self.at = Some(at);
        self.until = Some(asked + LEASE);
        self.floor = at;
        self.stores.clear();
    }

    /// The feed is gone; whether there was one.
    pub fn end(&mut self) -> bool {
        self.until = None;
        self.at.take().is_some()
    }

    /// The feed was well at `asked`: all that was sent before has been taken in.
    pub fn lives(&mut self, asked: Instant) {
        if self.at.is_some() {
            self.until = Some(asked + LEASE);
        }
    }

    pub fn has_begun(&self) -> bool {
        self.at.is_some()
    }

    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// When a read that begins now begins; `None` while nothing may be kept.
    pub fn now(&self) -> Option<Began> {
        let at = self.at?;
        self.until.is_some_and(|until| Instant::now() < until).then_some(Began { era: self.era, at })
    }

    /// Takes a notification's number in.
    pub fn advance(&mut self, seq: u64) -> Order {
        self.heard += 1;
        let Some(at) = self.at else { return Order::Late };
        if seq <= at {
            // What it tells of may have become visible after the number of another: reads that began with that lack it.
            self.void_all_until_next();
            return Order::Late;
        }
        self.at = Some(seq);
        if seq == at + 1 {
            return Order::Next;
        }
        self.void_all();
        Order::Gap
    }

    /// The notification just taken in tells that anything may have changed.
    pub fn void_all(&mut self) {
        self.floor = self.at.unwrap_or(self.floor);
        self.stores.clear();
    }

    /// Anything may have changed, and reads that begin before the next notification may lack it.
    pub fn void_all_until_next(&mut self) {
        self.heard += 1;
        self.floor = self.at.map_or(self.floor, |at| at + 1);
        self.stores.clear();
    }

    /// The notification just taken in tells of a shop: on these days, or on any.
    pub fn void(&mut self, store: Uuid, days: Option<&[Date]>) {
        let Some(at) = self.at else { return };
        let marks = self.stores.entry(store).or_default();
        match days {
            Some(days) if marks.days.len() + days.len() <= MAX_DAYS => {
                marks.days.extend(days.iter().map(|day| (*day, at)));
            }
            _ => {
                marks.all = at;
                marks.days.clear();
            }
        }
    }

    /// Whether an answer whose read began so is good now.
    pub fn holds(&self, began: Began, rests: &Rests) -> bool {
        self.now().is_some_and(|now| now.era == began.era) && self.lacks_nothing(began.at, rests)
    }

    /// Whether no notification after `at` told of what an answer rests on.
    pub fn lacks_nothing(&self, at: u64, rests: &Rests) -> bool {
        if at < self.floor {
            return false;
        }
        let Some(marks) = self.stores.get(&rests.store) else { return true };
        at >= marks.all && marks.days.range(rests.from..=rests.to).all(|(_, changed)| at >= *changed)
    }
}

/// Days that a group may belong to, by its columns; `None`: any.
pub fn days_of(group: &serde_json::Map<String, serde_json::Value>) -> Option<Vec<Date>> {
    let text = |column: &str| group.get(column).and_then(serde_json::Value::as_str);
    if let Some(day) = text("sale_date").and_then(|text| text.parse().ok()) {
        return Some(vec![day]);
    }
    // An hour of the clock belongs to its date's business day or to the one before.
    let day: Date = text("hour")?.get(..10)?.parse().ok()?;
    Some(vec![day.saturating_sub(1.day()), day])
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    const RESTS: Rests = Rests { store: Uuid::from_u128(1), from: date(2026, 7, 1), to: date(2026, 7, 30) };

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.begin(7, Instant::now());
        ledger
    }

    #[test]
    fn a_number_that_comes_late_voids_what_began_with_the_one_before_it() {
        let mut ledger = ledger();
        assert_eq!(ledger.advance(9), Order::Gap);
        let began = ledger.now().expect("a feed");
        assert!(ledger.holds(began, &RESTS));
        // A repair takes number 8, commits after 9 was sent, and only then can be seen.
        assert_eq!(ledger.advance(8), Order::Late);
        assert!(!ledger.holds(began, &RESTS), "it began with 9 and lacks 8");
        assert!(!ledger.holds(ledger.now().expect("a feed"), &RESTS), "nothing is kept until the next");
        assert_eq!(ledger.advance(10), Order::Next);
        assert!(ledger.holds(ledger.now().expect("a feed"), &RESTS));
        assert!(!ledger.lacks_nothing(9, &RESTS));
    }

    #[test]
    fn an_answer_of_another_node_is_good_if_nothing_was_told_since_its_read_began() {
        let mut ledger = ledger();
        assert!(!ledger.lacks_nothing(6, &RESTS), "what was told between 6 and 7 is not known here");
        assert!(ledger.lacks_nothing(7, &RESTS));
        assert!(ledger.lacks_nothing(12, &RESTS), "that node is ahead");
        ledger.advance(8);
        ledger.void(RESTS.store, Some(&[date(2026, 7, 30)]));
        assert!(!ledger.lacks_nothing(7, &RESTS));
        assert!(ledger.lacks_nothing(8, &RESTS));
    }

    #[test]
    fn a_feed_that_was_not_heard_of_for_long_is_none() {
        let mut ledger = Ledger::default();
        let Some(past) = Instant::now().checked_sub(LEASE) else { return };
        ledger.begin(1, past);
        assert!(ledger.has_begun() && ledger.now().is_none());
        ledger.lives(Instant::now());
        assert!(ledger.now().is_some());
        assert!(ledger.end() && ledger.now().is_none());
        ledger.lives(Instant::now());
        assert!(ledger.now().is_none(), "an answer that comes after the end begins nothing");
    }

    #[test]
    fn days_are_read_from_the_columns_of_a_group() {
        let of = |json: serde_json::Value| days_of(json.as_object().expect("an object"));
        assert_eq!(of(serde_json::json!({"sale_date": "2026-07-30", "method": null})), Some(vec![date(2026, 7, 30)]));
        assert_eq!(
            of(serde_json::json!({"hour": "2026-07-30T02:00:00"})),
            Some(vec![date(2026, 7, 29), date(2026, 7, 30)])
        );
        assert_eq!(of(serde_json::json!({"hour": 14})), None);
        assert_eq!(of(serde_json::json!({"month": "2026-07"})), None);
    }
}
