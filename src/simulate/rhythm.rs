//! When people buy: opening hours, the curve of the day, the week, and paydays.

use super::goods::{self, Base};
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan};

/// The kinds of shop. There is one bar in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trade {
    Abasto,
    Bar,
    Cafeteria,
    Farmacia,
    Ferreteria,
}

/// Hours of a business day, from 0 to 29: past 23 is after midnight.
pub const HOURS: usize = 30;

const ABASTO: [u32; HOURS] =
    [0, 0, 0, 0, 0, 0, 0, 4, 7, 9, 10, 11, 10, 7, 6, 7, 9, 13, 14, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const BAR: [u32; HOURS] =
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 5, 8, 10, 13, 15, 15, 12, 9, 5, 0, 0, 0];
const CAFETERIA: [u32; HOURS] =
    [0, 0, 0, 0, 0, 0, 8, 15, 16, 12, 9, 7, 11, 10, 6, 7, 10, 9, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const FARMACIA: [u32; HOURS] =
    [0, 0, 0, 0, 0, 0, 0, 0, 5, 8, 9, 9, 8, 6, 6, 7, 8, 10, 11, 9, 6, 4, 0, 0, 0, 0, 0, 0, 0, 0];
const FERRETERIA: [u32; HOURS] =
    [0, 0, 0, 0, 0, 0, 0, 6, 12, 13, 12, 10, 6, 5, 9, 10, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl Trade {
    pub fn name(self) -> &'static str {
        match self {
            Self::Abasto => "Abasto",
            Self::Bar => "Bar",
            Self::Cafeteria => "Cafetería",
            Self::Farmacia => "Farmacia",
            Self::Ferreteria => "Ferretería",
        }
    }

    pub fn sku_prefix(self) -> &'static str {
        match self {
            Self::Abasto => "ABA",
            Self::Bar => "BAR",
            Self::Cafeteria => "CAF",
            Self::Farmacia => "FAR",
            Self::Ferreteria => "FER",
        }
    }

    pub fn goods(self) -> &'static [Base] {
        match self {
            Self::Abasto => goods::ABASTO,
            Self::Bar => goods::BAR,
            Self::Cafeteria => goods::CAFETERIA,
            Self::Farmacia => goods::FARMACIA,
            Self::Ferreteria => goods::FERRETERIA,
        }
    }

    /// `stores.day_start`, in hours: the bar closes at 03:00 and books that on yesterday.
    pub fn day_start(self) -> i8 {
        if self == Self::Bar { 4 } else { 0 }
    }

    /// Lines of a ticket beyond the first, on average, in tenths.
    pub fn more_lines(self) -> u32 {
        match self {
            Self::Abasto => 38,
            Self::Bar => 24,
            Self::Cafeteria => 15,
            Self::Farmacia => 10,
            Self::Ferreteria => 18,
        }
    }

    /// Weights of the hours of a business day; all zero when closed.
    pub fn hours(self, day: Weekday) -> [u32; HOURS] {
        let mut hours = match self {
            Self::Abasto => ABASTO,
            Self::Bar => BAR,
            Self::Cafeteria => CAFETERIA,
            Self::Farmacia => FARMACIA,
            Self::Ferreteria => FERRETERIA,
        };
        let sunday_closing = match self {
            Self::Abasto | Self::Cafeteria => 14,
            Self::Ferreteria => 0,
            Self::Bar => 24,
            Self::Farmacia => HOURS,
        };
        if day == Weekday::Sunday {
            hours[sunday_closing..].fill(0);
        }
        hours
    }

    /// Tickets of that weekday, in percent of an ordinary day.
    fn week(self, day: Weekday) -> u64 {
        let (monday_to_thursday, friday, saturday, sunday) = match self {
            Self::Abasto => (88, 125, 145, 90),
            Self::Bar => (60, 190, 210, 70),
            Self::Cafeteria => (105, 115, 95, 60),
            Self::Farmacia => (100, 110, 105, 75),
            Self::Ferreteria => (105, 115, 130, 0),
        };
        match day {
            Weekday::Friday => friday,
            Weekday::Saturday => saturday,
            Weekday::Sunday => sunday,
            _ => monday_to_thursday,
        }
    }

    /// Tickets to expect on a business day of a shop that sells `usual` on an ordinary one.
    pub fn expected(self, usual: u64, date: Date) -> u64 {
        usual * self.week(date.weekday()) * payday(date) / 10_000
    }
}

/// Wages come on the 15th and the last of the month, and go on the same day and the next.
fn payday(date: Date) -> u64 {
    let paid = |date: Date| date.day() == 15 || date.day() == date.days_in_month();
    if paid(date) {
        135
    } else if date.yesterday().is_ok_and(paid) {
        120
    } else {
        100
    }
}

/// Caracas has been four hours behind UTC since 2016, without daylight saving.
fn caracas() -> TimeZone {
    TimeZone::fixed(Offset::constant(-4))
}

pub fn local(at: Timestamp) -> DateTime {
    caracas().to_datetime(at)
}

/// The business day of an instant, and its hour in 0..30.
pub fn business_hour(at: Timestamp, day_start: i8) -> (Date, usize) {
    let local = local(at);
    if local.hour() >= day_start {
        return (local.date(), usize::from(local.hour().unsigned_abs()));
    }
    (local.date().yesterday().unwrap_or(Date::MIN), 24 + usize::from(local.hour().unsigned_abs()))
}

/// Milliseconds after the midnight at which the business date begins, as an instant.
pub fn instant(date: Date, millis: i64) -> Timestamp {
    let midnight = caracas().to_timestamp(date.to_datetime(jiff::civil::Time::midnight())).unwrap_or(Timestamp::MAX);
    midnight.checked_add(millis.milliseconds()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_bar_at_two_in_the_morning_is_still_in_yesterday() {
        let at: Timestamp = "2026-11-21T06:30:00Z".parse().unwrap();
        assert_eq!(business_hour(at, 4), (date(2026, 11, 20), 26));
        assert_eq!(business_hour(at, 0), (date(2026, 11, 21), 2));
        assert_eq!(instant(date(2026, 11, 20), 26 * 3_600_000 + 30 * 60_000), at);
    }

    #[test]
    fn fridays_and_paydays_sell_more_and_the_hardware_shop_rests_on_sunday() {
        let ordinary = Trade::Abasto.expected(100, date(2026, 11, 11));
        assert!(Trade::Abasto.expected(100, date(2026, 11, 13)) > ordinary);
        assert!(Trade::Abasto.expected(100, date(2026, 9, 15)) > ordinary, "the 15th");
        assert!(Trade::Abasto.expected(100, date(2026, 9, 30)) > ordinary, "the last");
        assert_eq!(Trade::Ferreteria.expected(100, date(2026, 11, 22)), 0);
        assert_eq!(Trade::Ferreteria.hours(Weekday::Sunday), [0; HOURS]);
    }
}
