//! The exchange rate of each day: a walk that climbs, as it does, and rests at the weekend.

use super::seed;
use crate::error::{Error, Result};
use jiff::civil::{Date, Weekday, date};
use rand::RngExt;
use rust_decimal::{Decimal, RoundingStrategy};
use std::collections::BTreeMap;
use tokio_postgres::GenericClient;

const BEGIN: Date = date(2024, 1, 1);
/// Ten-thousandths that a working day adds: 27 on average, doubling in a year.
const STEP: std::ops::RangeInclusive<i64> = -20..=74;

/// Rates by calendar day.
#[derive(Debug, Clone, Default)]
pub struct Rates(BTreeMap<Date, Decimal>);

impl Rates {
    /// The walk of that seed, from `first` to `last`.
    pub fn walk(seed: u64, first: Date, last: Date) -> Self {
        let mut rates = BTreeMap::new();
        let mut rate = Decimal::new(359_500, 4);
        for day in first.min(BEGIN).series(jiff::Span::new().days(1)).take_while(|day| *day <= last) {
            if day > BEGIN && !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday) {
                let step = seed::rng(seed, &format!("rate/{day}")).random_range(STEP);
                rate = (rate * Decimal::new(10_000 + step, 4))
                    .round_dp_with_strategy(4, RoundingStrategy::MidpointAwayFromZero);
            }
            if day >= first {
                rates.insert(day, rate);
            }
        }
        Self(rates)
    }

    /// Writes the walk where the table has no rate yet, and reads what counts: a rate that somebody set stays.
    pub async fn settle(client: &impl GenericClient, seed: u64, first: Date, last: Date) -> Result<Self> {
        let walk = Self::walk(seed, first, last);
        let (days, rates): (Vec<Date>, Vec<Decimal>) = walk.0.into_iter().unzip();
        client.execute(INSERT, &[&days, &rates]).await?;
        let rows = client
            .query("select rate_date, bs_per_usd from public.exchange_rates where rate_date = any($1)", &[&days])
            .await?;
        Ok(Self(rows.iter().map(|row| (row.get(0), row.get(1))).collect()))
    }

    pub fn on(&self, day: Date) -> Result<Decimal> {
        self.0.get(&day).copied().ok_or_else(|| Error::failed(format!("there is no exchange rate for {day}")))
    }
}

const INSERT: &str = "
insert into public.exchange_rates (rate_date, bs_per_usd)
select n.day, n.rate
  from unnest($1::date[], $2::numeric[]) as n (day, rate)
    on conflict (rate_date) do nothing";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_is_the_same_whatever_day_it_is_looked_at_from() {
        let (long, short) = (
            Rates::walk(7, date(2025, 1, 1), date(2026, 11, 21)),
            Rates::walk(7, date(2026, 11, 1), date(2026, 11, 21)),
        );
        for (day, rate) in &short.0 {
            assert_eq!(long.on(*day).unwrap(), *rate);
        }
        assert_eq!(short.0.len(), 21);
        assert_eq!(
            short.on(date(2026, 11, 20)).unwrap(),
            short.on(date(2026, 11, 21)).unwrap(),
            "Saturday keeps Friday's"
        );
        assert!(short.on(date(2026, 10, 1)).is_err());
        assert_ne!(long.0, Rates::walk(8, date(2025, 1, 1), date(2026, 11, 21)).0);
    }
}
