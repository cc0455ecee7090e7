//! When a job is due, by the clock of a place. Everything follows from the time that is given: no clock is read here.

use crate::error::{Error, Result};
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// How a schedule is written; shown wherever one is refused.
pub const FORMS: &str = "Write it as: every 15m | daily 04:30 | weekly mon,thu 04:30 | monthly 1 04:30";
/// Missed slots are counted up to here.
const MAX_COUNT: i64 = 1_000_000;
/// Slots of a calendar are counted one by one up to here.
const MAX_STEPS: i64 = 10_000;

/// Slots, by the clock of a time zone. A time that the clock skips comes right after the gap; one that it repeats comes
/// once, first. `every` counts from 1970 and knows no clock.
#[derive(Debug, Clone)]
pub struct Schedule {
    rule: Rule,
    zone: TimeZone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Every {
        seconds: i64,
    },
    Daily(Time),
    Weekly(Vec<Weekday>, Time),
    /// The last day of a month that has no such day.
    Monthly(i8, Time),
}

/// Slots that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub last: Timestamp,
    pub count: i64,
}

impl Schedule {
    pub fn parse(rule: &str, zone: &str) -> Result<Self> {
        let zone = TimeZone::get(zone).map_err(|error| {
            Error::usage(format!("time zone {zone}: {error}")).with_hint(
                "Use an IANA name, like America/Caracas; the system needs its time zone data (package tzdata).",
            )
        })?;
        let refused = || Error::usage(format!("schedule {rule:?} cannot be read")).with_hint(FORMS);
        let rule = Rule::parse(rule).ok_or_else(refused)?;
        Ok(Self { rule, zone })
    }

    /// The first slot after an instant.
    pub fn next_after(&self, now: Timestamp) -> Result<Timestamp> {
        if let Rule::Every { seconds } = self.rule {
            let next = (now.as_second().div_euclid(seconds) + 1).saturating_mul(seconds);
            return Timestamp::from_second(next).map_err(no_next);
        }
        let mut day = now.to_zoned(self.zone.clone()).date();
        loop {
            if let Some(time) = self.time_on(day) {
                let at = self.zone.to_timestamp(day.to_datetime(time)).map_err(no_next)?;
                if at > now {
                    return Ok(at);
                }
            }
            day = day.checked_add(1.day()).map_err(no_next)?;
        }
    }

    fn time_on(&self, day: Date) -> Option<Time> {
        match &self.rule {
            Rule::Every { .. } => None,
            Rule::Daily(time) => Some(*time),
            Rule::Weekly(days, time) => days.contains(&day.weekday()).then_some(*time),
            Rule::Monthly(number, time) => (day.day() == (*number).min(day.days_in_month())).then_some(*time),
        }
    }

    /// Slots from `first`, which is one, up to `now`.
    pub fn due(&self, first: Timestamp, now: Timestamp) -> Result<Due> {
        if let Rule::Every { seconds } = self.rule {
            let more = (now.as_second() - first.as_second()).max(0) / seconds;
            let last = Timestamp::from_second(first.as_second() + more * seconds).map_err(no_next)?;
            return Ok(Due { last, count: (more + 1).min(MAX_COUNT) });
        }
        let mut due = Due { last: first, count: 1 };
        loop {
            let next = self.next_after(due.last)?;
            if next > now || due.count >= MAX_STEPS {
                return Ok(due);
            }
            due = Due { last: next, count: due.count + 1 };
        }
    }
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["every", length] => every(length),
            ["daily", time] => Some(Self::Daily(time_of(time)?)),
            ["weekly", days, time] => {
                let days = days.split(',').map(weekday).collect::<Option<Vec<_>>>()?;
                Some(Self::Weekly(days, time_of(time)?))
            }
            ["monthly", day, time] => {
                let day = day.parse().ok().filter(|day| (1..=31).contains(day))?;
                Some(Self::Monthly(day, time_of(time)?))
            }
            _ => None,
        }
    }
}

fn every(length: &str) -> Option<Rule> {
    let unit = length.chars().last()?;
    let number: i64 = length.strip_suffix(unit)?.parse().ok()?;
    let seconds = number.checked_mul(match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    })?;
    (1..=7 * 86_400).contains(&seconds).then_some(Rule::Every { seconds })
}

fn time_of(text: &str) -> Option<Time> {
    let plain = text.len() == 5 && text.as_bytes()[2] == b':';
    text.parse().ok().filter(|_| plain)
}

fn weekday(text: &str) -> Option<Weekday> {
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let index = days.iter().position(|day| *day == text)?;
    Weekday::from_monday_zero_offset(i8::try_from(index).ok()?).ok()
}

fn no_next(error: jiff::Error) -> Error {
    Error::failed(format!("the schedule ends: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rule: &str, zone: &str) -> Schedule {
        Schedule::parse(rule, zone).expect("a schedule")
    }

    fn next(rule: &str, zone: &str, now: &str) -> String {
        schedule(rule, zone).next_after(now.parse().expect("a timestamp")).expect("a next time").to_string()
    }

    #[test]
    fn the_next_time_is_after_now() {
        assert_eq!(next("daily 04:30", "America/Caracas", "2026-07-30T08:29:59Z"), "2026-07-30T08:30:00Z");
        assert_eq!(next("daily 04:30", "America/Caracas", "2026-07-30T08:30:00Z"), "2026-07-31T08:30:00Z");
        assert_eq!(next("every 15m", "UTC", "2026-07-30T08:30:00Z"), "2026-07-30T08:45:00Z");
        assert_eq!(next("every 1h", "UTC", "2026-07-30T08:30:00.5Z"), "2026-07-30T09:00:00Z");
        // 2026-07-30 is a Thursday.
        assert_eq!(next("weekly mon,thu 04:30", "UTC", "2026-07-30T05:00:00Z"), "2026-08-03T04:30:00Z");
        assert_eq!(next("monthly 31 00:00", "UTC", "2026-02-01T00:00:00Z"), "2026-02-28T00:00:00Z");
        assert_eq!(next("monthly 31 00:00", "UTC", "2026-02-28T00:00:00Z"), "2026-03-31T00:00:00Z");
    }

    #[test]
    fn a_skipped_time_comes_after_the_gap_and_a_repeated_one_once() {
        // New York, 2026-03-08: 02:00 to 03:00 is skipped; 2026-11-01: 01:00 to 02:00 is repeated.
        assert_eq!(next("daily 02:30", "America/New_York", "2026-03-08T05:00:00Z"), "2026-03-08T07:30:00Z");
        assert_eq!(next("daily 01:30", "America/New_York", "2026-11-01T05:00:00Z"), "2026-11-01T05:30:00Z");
        assert_eq!(next("daily 01:30", "America/New_York", "2026-11-01T05:30:00Z"), "2026-11-02T06:30:00Z");
    }

    #[test]
    fn a_year_has_a_slot_for_each_of_its_days_whatever_the_clock_does() {
        for zone in ["America/New_York", "America/Caracas", "Europe/Madrid", "Australia/Lord_Howe", "America/Santiago"]
        {
            for time in ["00:00", "00:30", "01:45", "02:00", "02:30", "23:59"] {
                let schedule = schedule(&format!("daily {time}"), zone);
                let mut at: Timestamp = "2026-01-01T12:00:00Z".parse().expect("a timestamp");
                let mut days = std::collections::BTreeSet::new();
                for _ in 0..365 {
                    at = schedule.next_after(at).expect("a next time");
                    let day = at.to_zoned(TimeZone::get(zone).expect("a zone")).date();
                    assert!(days.insert(day), "{zone} {time}: {day} twice");
                }
                let first = *days.first().expect("days");
                let last = *days.last().expect("days");
                assert_eq!(first.duration_until(last).as_hours() / 24, 364, "{zone} {time} leaves a day out");
            }
        }
    }

    #[test]
    fn missed_slots_are_counted() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a timestamp");
        let daily = schedule("daily 02:30", "America/New_York");
        let due = daily.due(at("2026-03-07T07:30:00Z"), at("2026-03-10T06:29:59Z")).expect("slots");
        assert_eq!((due.last.to_string().as_str(), due.count), ("2026-03-09T06:30:00Z", 3));
        let every = schedule("every 10s", "UTC");
        let due = every.due(at("2026-03-07T00:00:00Z"), at("2026-03-07T00:01:09Z")).expect("slots");
        assert_eq!((due.last.to_string().as_str(), due.count), ("2026-03-07T00:01:00Z", 7));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_forms() {
        for rule in [
            "",
            "daily",
            "daily 4:30",
            "daily 24:00",
            "every 0s",
            "every 8d",
            "every 200h",
            "weekly lun 04:30",
            "monthly 32 04:30",
            "0 4 * * *",
            "every -5m",
            "every ñ",
        ] {
            let error = Schedule::parse(rule, "UTC").expect_err(rule);
            assert_eq!(error.hint(), Some(FORMS), "{rule}");
        }
        assert!(Schedule::parse("daily 04:30", "America/Atlantis").is_err());
    }
}
