//! Times of day, by the clock of a place.

use crate::error::{Error, Result};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Once a day at a time of the zone's clock. A time that the clock skips comes right after the gap; one that it repeats comes once, first.
#[derive(Debug, Clone)]
pub struct Daily {
    at: Time,
    zone: TimeZone,
}

impl Daily {
    pub fn new(at: Time, zone: &str) -> Result<Self> {
        let zone = TimeZone::get(zone).map_err(|error| {
            Error::usage(format!("time zone {zone}: {error}")).with_hint(
                "Use an IANA name, like America/Caracas; the system needs its time zone data (package tzdata).",
            )
        })?;
        Ok(Self { at, zone })
    }

    pub fn next_after(&self, now: Timestamp) -> Result<Timestamp> {
        let mut day = now.to_zoned(self.zone.clone()).date();
        loop {
            let at = self.zone.to_timestamp(day.to_datetime(self.at)).map_err(no_next)?;
            if at > now {
                return Ok(at);
            }
            day = day.checked_add(1.day()).map_err(no_next)?;
        }
    }
}

fn no_next(error: jiff::Error) -> Error {
    Error::failed(format!("the schedule ends: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(time: &str, zone: &str, now: &str) -> String {
        let daily = Daily::new(time.parse().expect("a time"), zone).expect("a zone");
        daily.next_after(now.parse().expect("a timestamp")).expect("a next time").to_string()
    }

    #[test]
    fn the_next_time_is_after_now() {
        assert_eq!(next("04:30", "America/Caracas", "2026-07-30T08:29:59Z"), "2026-07-30T08:30:00Z");
        assert_eq!(next("04:30", "America/Caracas", "2026-07-30T08:30:00Z"), "2026-07-31T08:30:00Z");
    }

    #[test]
    fn a_skipped_time_comes_after_the_gap_and_a_repeated_one_once() {
        // New York, 2026-03-08: 02:00 to 03:00 is skipped; 2026-11-01: 01:00 to 02:00 is repeated.
        assert_eq!(next("02:30", "America/New_York", "2026-03-08T05:00:00Z"), "2026-03-08T07:30:00Z");
        assert_eq!(next("01:30", "America/New_York", "2026-11-01T05:00:00Z"), "2026-11-01T05:30:00Z");
        assert_eq!(next("01:30", "America/New_York", "2026-11-01T05:30:00Z"), "2026-11-02T06:30:00Z");
    }

    #[test]
    fn an_unknown_zone_is_refused() {
        assert!(Daily::new(Time::midnight(), "America/Atlantis").is_err());
    }
}
