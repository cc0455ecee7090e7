//! The present: tills that sell at a steady rate, whatever the hour.

mod clerk;

use super::chain::{self, Shop};
use super::rates::Rates;
use super::write::{Need, Till};
use super::{Plan, rhythm, setup};
use crate::db;
use crate::error::{Error, Result};
use clerk::Clerk;
use indicatif::{HumanCount, ProgressBar};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use rand::{Rng, RngExt};
use rust_decimal::Decimal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::RwLock;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// Tickets a second that tills are asked for.
pub const RATES: std::ops::RangeInclusive<f64> = 0.001..=5000.0;

/// What the tills did.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Live {
    /// Sales and returns at their time, on the plan's rate.
    pub tickets: u64,
    pub returns: u64,
    pub voids: u64,
    /// Sales of offline tills that arrived hours late, beyond the rate.
    pub late: u64,
    /// Transactions tried again: a deadlock, a serialization failure, a lost connection.
    pub retries: u64,
    pub seconds: f64,
    pub tickets_per_second: f64,
}

/// Counters that a caller may look at while the tills sell.
#[derive(Debug, Default)]
pub struct Counters {
    pub tickets: AtomicU64,
    pub returns: AtomicU64,
    pub voids: AtomicU64,
    pub late: AtomicU64,
    pub retries: AtomicU64,
}

struct Floor {
    url: String,
    seed: u64,
    shops: Vec<Shop>,
    rates: RwLock<(Date, Rates)>,
    rate: f64,
    begun: Instant,
    end: Option<Instant>,
    /// Marks the tickets of this run, so that no two runs give the same number.
    run: String,
    next: AtomicU64,
    counters: Arc<Counters>,
    cancel: CancellationToken,
}

/// Sells at the plan's rate until `cancel`, or for the plan's duration. `counters` move as it goes.
pub async fn live(
    url: &str,
    plan: &Plan,
    counters: Arc<Counters>,
    progress: &ProgressBar,
    cancel: &CancellationToken,
) -> Result<Live> {
    if !RATES.contains(&plan.rate) {
        return Err(Error::usage(format!("{} tickets a second cannot be sold; from 0.001 to 5000 can", plan.rate)));
    }
    let mut client = db::connect(url).await?;
    setup::check(&client, plan.seed).await?;
    let shops = chain::chain(plan.seed, plan.shops);
    setup::found(&mut client, &shops).await?;
    let begun = Instant::now();
    let floor = Arc::new(Floor {
        url: url.to_owned(),
        seed: plan.seed,
        shops,
        rates: RwLock::new((Date::MIN, Rates::default())),
        rate: plan.rate,
        begun,
        end: plan.duration.map(|duration| begun + duration),
        run: run_mark(),
        next: AtomicU64::new(0),
        counters: Arc::clone(&counters),
        // A till that fails stops the others, not the caller's other work.
        cancel: cancel.child_token(),
    });
    floor.rate_at(&client, Timestamp::now()).await?;

    let mut tills = JoinSet::new();
    for number in 0..tills_for(plan.rate) {
        let floor = Arc::clone(&floor);
        tills.spawn(async move { Clerk::open(&floor, number).await?.work().await });
    }
    let supplier = Arc::clone(&floor);
    tills.spawn(async move { supply(&supplier).await });
    let mut failure = None;
    let mut shown = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            _ = shown.tick() => progress.set_message(counters.sentence(begun.elapsed())),
            ended = tills.join_next() => match ended {
                None => break,
                Some(ended) => {
                    let ended = ended.map_err(|error| Error::failed(format!("a till stopped: {error}"))).and_then(|outcome| outcome);
                    if let Err(error) = ended {
                        failure.get_or_insert(error);
                    }
                    // The first to end ends the shift for all: the time is over, or something failed.
                    floor.cancel.cancel();
                }
            }
        }
    }
    failure.map_or_else(|| Ok(counters.report(begun.elapsed())), Err)
}

/// Enough tills that one slow commit does not hold the queue.
fn tills_for(rate: f64) -> usize {
    (rate / 40.0).ceil().clamp(2.0, 24.0) as usize
}

/// Milliseconds in base 36.
fn run_mark() -> String {
    let mut left = Timestamp::now().as_millisecond().unsigned_abs();
    let mut mark = Vec::new();
    while left > 0 {
        mark.push(char::from_digit((left % 36) as u32, 36).unwrap_or('0').to_ascii_uppercase());
        left /= 36;
    }
    mark.into_iter().rev().collect()
}

impl Floor {
    fn is_over(&self) -> bool {
        self.cancel.is_cancelled() || self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Sleeps until then; false when the shift ended first.
    async fn sleep_until(&self, then: Instant) -> bool {
        let (until, in_time) = match self.end {
            Some(end) if end < then => (end, false),
            _ => (then, true),
        };
        tokio::select! {
            () = self.cancel.cancelled() => false,
            () = tokio::time::sleep_until(until) => in_time,
        }
    }

    /// The rate of the instant's day. The first to ask on a new day writes it, and the new price tags.
    async fn rate_at(&self, client: &Client, at: Timestamp) -> Result<Decimal> {
        let day = rhythm::local(at).date();
        let known = self.rates.read().await;
        if known.0 >= day {
            return known.1.on(day);
        }
        drop(known);
        let mut rates = self.rates.write().await;
        if rates.0 < day {
            // Yesterday too, for what arrives late.
            let yesterday = day.checked_sub(1.day()).unwrap_or(day);
            rates.1 = Rates::settle(client, self.seed, yesterday, day).await?;
            rates.0 = day;
            setup::tag(client, &self.shops, &rates.1, day).await?;
        }
        rates.1.on(day)
    }

    /// A shop, the busier ones of this hour more often. Closed ones sell too: a demonstration at night moves as well.
    fn pick(&self, rng: &mut impl Rng, now: Timestamp) -> usize {
        let weight = |shop: &Shop| {
            let (day, hour) = rhythm::business_hour(now, shop.trade.day_start());
            1 + u64::from(shop.trade.hours(day.weekday())[hour]) * shop.usual / 100
        };
        let mut left = rng.random_range(0..self.shops.iter().map(weight).sum::<u64>().max(1));
        for (position, shop) in self.shops.iter().enumerate() {
            match left.checked_sub(weight(shop)) {
                None => return position,
                Some(rest) => left = rest,
            }
        }
        0
    }
}

/// Brings what is gone: every half minute, and every 300 tickets where they come faster.
async fn supply(floor: &Floor) -> Result<()> {
    let pause = Duration::from_secs_f64((300.0 / floor.rate).clamp(1.0, 30.0));
    while floor.sleep_until(Instant::now() + pause).await {
        if let Err(error) = deliver(floor).await {
            // The tills say so if the server is gone; the next round tries again.
            tracing::debug!(%error, "no delivery");
        }
    }
    Ok(())
}

async fn deliver(floor: &Floor) -> Result<()> {
    let mut client = db::connect(&floor.url).await?;
    let till = Till::open(&client).await?;
    for shop in &floor.shops {
        let transaction = client.transaction().await?;
        till.deliver(&transaction, shop, |_| true, Need::Gone).await?;
        transaction.commit().await?;
    }
    Ok(())
}

impl Counters {
    fn report(&self, elapsed: Duration) -> Live {
        let seconds = (elapsed.as_secs_f64() * 1000.0).round() / 1000.0;
        let tickets = self.tickets.load(Ordering::Relaxed);
        Live {
            tickets,
            returns: self.returns.load(Ordering::Relaxed),
            voids: self.voids.load(Ordering::Relaxed),
            late: self.late.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            seconds,
            tickets_per_second: (tickets as f64 / seconds.max(0.001) * 100.0).round() / 100.0,
        }
    }

    fn sentence(&self, elapsed: Duration) -> String {
        self.report(elapsed).to_string()
    }
}

impl std::fmt::Display for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { returns, voids, late, seconds, tickets_per_second, .. } = self;
        let tickets = HumanCount(self.tickets);
        write!(
            f,
            "{tickets} tickets in {seconds:.0} s ({tickets_per_second:.1}/s): {returns} returns, {voids} voids, {late} late"
        )
    }
}
