//! A shop's business day, as its seed has it: sales, returns, voids, and tills that were offline.

use super::chain::Shop;
use super::rates::Rates;
use super::rhythm::{self, HOURS};
use super::seed;
use super::ticket::Ticket;
use crate::error::Result;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use rand::{Rng, RngExt};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// The sales of the day by time, voids marked; the same for the same shop and date, whatever else is simulated.
pub fn sales(shop: &Shop, date: Date, rates: &Rates) -> Result<Vec<Ticket>> {
    let mut rng = seed::rng(shop.seed, &format!("day/{}/{date}", shop.index));
    let hours = shop.trade.hours(date.weekday());
    let expected = shop.trade.expected(shop.usual, date) * rng.random_range(88..=112) / 100;
    if hours.iter().all(|weight| *weight == 0) {
        return Ok(Vec::new());
    }
    let mut moments: Vec<i64> =
        (0..expected).map(|_| hour(&mut rng, &hours) * HOUR + rng.random_range(0..HOUR)).collect();
    moments.sort_unstable();
    let offline = offline(&mut rng, &hours);
    let mut tickets = Vec::with_capacity(moments.len());
    for (position, millis) in moments.into_iter().enumerate() {
        let sold_at = rhythm::instant(date, millis);
        let rate = rates.on(rhythm::local(sold_at).date())?;
        let number = format!("{}-{:04}", date.strftime("%y%m%d"), position + 1);
        let mut ticket = Ticket::draw(&mut rng, shop, number, sold_at, rate);
        if offline.contains(&millis) && ticket.cashier == 0 {
            // They come in one batch, in the order they were sold.
            ticket.arrived_at = rhythm::instant(date, offline.end + position as i64);
        }
        if rng.random_ratio(15, 1000) {
            ticket.voided_at = Some(later(ticket.arrived_at, rng.random_range(MINUTE..8 * MINUTE)));
        }
        tickets.push(ticket);
    }
    Ok(tickets)
}

/// Everything of the day: its sales, and returns of sales of the two days before, not before `first`.
pub fn tickets(shop: &Shop, date: Date, first: Date, rates: &Rates) -> Result<Vec<Ticket>> {
    let mut tickets = sales(shop, date, rates)?;
    let mut rng = seed::rng(shop.seed, &format!("returns/{}/{date}", shop.index));
    let hours = shop.trade.hours(date.weekday());
    let mut returns = Vec::new();
    for days in 1..=2 {
        let Some(earlier) = date.checked_sub(days.days()).ok().filter(|day| *day >= first && !tickets.is_empty())
        else {
            continue;
        };
        for sale in sales(shop, earlier, rates)?.iter().filter(|sale| sale.voided_at.is_none()) {
            // Drawn for every sale, so that each day returns others than the next.
            if rng.random_ratio(12, 1000) && patience(sale) == days {
                let at = rhythm::instant(date, hour(&mut rng, &hours) * HOUR + rng.random_range(0..HOUR));
                let number = format!("D{}-{:02}", date.strftime("%y%m%d"), returns.len() + 1);
                returns.push(sale.returned(&mut rng, shop, number, at));
            }
        }
    }
    tickets.extend(returns);
    Ok(tickets)
}

/// Half the sales may come back on the next day, the other half on the day after: none comes back twice.
fn patience(sale: &Ticket) -> i32 {
    i32::from(sale.id.as_bytes()[0] % 2) + 1
}

fn hour(rng: &mut impl Rng, weights: &[u32; HOURS]) -> i64 {
    let mut left = rng.random_range(0..weights.iter().sum::<u32>().max(1));
    for (hour, weight) in (0_i64..).zip(weights) {
        if left < *weight {
            return hour;
        }
        left -= weight;
    }
    0
}

/// On one day in twelve the first till is offline for two or three hours of the day, in milliseconds after its midnight.
fn offline(rng: &mut impl Rng, hours: &[u32; HOURS]) -> std::ops::Range<i64> {
    let open: Vec<i64> = (0_i64..).zip(hours).filter(|(_, weight)| **weight > 0).map(|(hour, _)| hour).collect();
    let long = rng.random_range(2..=3_usize);
    let happens = rng.random_ratio(1, 12);
    if !happens || open.len() < long + 2 {
        return 0..0;
    }
    let from = rng.random_range(0..open.len() - long - 1);
    open[from] * HOUR..open[from + long] * HOUR + rng.random_range(0..30) * MINUTE
}

fn later(at: Timestamp, millis: i64) -> Timestamp {
    at.checked_add(millis.milliseconds()).unwrap_or(at)
}
