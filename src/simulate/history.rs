//! The past: each shop's business days, a transaction a day, from where the database stands.

use super::chain::{self, Shop};
use super::rates::Rates;
use super::rhythm;
use super::ticket::Ticket;
use super::write::{Need, Taken, Till};
use super::{Plan, day, setup};
use crate::db;
use crate::error::{Error, Result};
use indicatif::ProgressBar;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// One history at a time in a database: the second waits and finds it written. "history" in ASCII.
const LOCK_KEY: i64 = 0x68_69_73_74_6f_72_79;
/// The server does most of the work: more connections than these gain nothing on a small machine.
const CONNECTIONS: usize = 3;

/// What a history added.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct History {
    pub tickets: usize,
    pub lines: usize,
    pub voids: usize,
    pub seconds: f64,
    /// Stopped before its end; whole days are there, and the next run goes on.
    pub interrupted: bool,
}

impl History {
    fn add(&mut self, other: Self) {
        self.tickets += other.tickets;
        self.lines += other.lines;
        self.voids += other.voids;
    }
}

/// The arrivals that a shop has in the database, first and last.
type Known = Option<(Timestamp, Timestamp)>;

/// What every connection works from.
struct Work {
    shops: Vec<Shop>,
    known: HashMap<Uuid, (Timestamp, Timestamp)>,
    rates: Rates,
    first: Date,
    until: Timestamp,
    next: AtomicUsize,
    progress: ProgressBar,
    cancel: CancellationToken,
}

/// Writes the days of the plan that are not there yet. `progress` counts shop-days.
pub async fn history(url: &str, plan: &Plan, progress: &ProgressBar, cancel: &CancellationToken) -> Result<History> {
    let started = Instant::now();
    let mut client = db::connect(url).await?;
    setup::check(&client, plan.seed).await?;
    if !lock(&client, cancel).await? {
        return Ok(History { interrupted: true, ..History::default() });
    }
    let last = rhythm::local(plan.until).date();
    let first = last
        .checked_sub(i64::from(plan.history_days).days())
        .map_err(|_| Error::usage("the history begins before time"))?;
    let shops = chain::chain(plan.seed, plan.shops);
    setup::found(&mut client, &shops).await?;
    // Two days before, since returns look back that far; one day after, for the bar.
    let rates = Rates::settle(&client, plan.seed, day_after(first, -3), day_after(last, 1)).await?;
    let known = known(&client, &shops).await?;

    progress.set_length((u64::from(plan.history_days) + 1) * shops.len() as u64);
    let work = Arc::new(Work {
        shops,
        known,
        rates,
        first,
        until: plan.until,
        next: AtomicUsize::new(0),
        progress: progress.clone(),
        cancel: cancel.clone(),
    });
    let mut written = run(url, &work).await?;
    setup::tag(&client, &work.shops, &work.rates, last).await?;
    if written.tickets > 10_000 {
        // The planner would take the tables for small until autovacuum comes by.
        client.batch_execute("analyze public.sales, public.sale_items, public.sale_payments, public.products").await?;
    }
    written.interrupted = cancel.is_cancelled();
    written.seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    Ok(written)
}

async fn lock(client: &Client, cancel: &CancellationToken) -> Result<bool> {
    while !client.query_one("select pg_try_advisory_lock($1)", &[&LOCK_KEY]).await?.get::<_, bool>(0) {
        tokio::select! {
            () = cancel.cancelled() => return Ok(false),
            () = tokio::time::sleep(Duration::from_millis(200)) => (),
        }
    }
    Ok(true)
}

async fn known(client: &Client, shops: &[Shop]) -> Result<HashMap<Uuid, (Timestamp, Timestamp)>> {
    let ids: Vec<Uuid> = shops.iter().map(|shop| shop.id).collect();
    let rows = client
        .query(
            "select s.store_id, min(s.created_at), max(s.created_at)
               from public.sales s
              where s.store_id = any($1)
              group by s.store_id",
            &[&ids],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
}

async fn run(url: &str, work: &Arc<Work>) -> Result<History> {
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS.min(work.shops.len()) {
        let (url, work) = (url.to_owned(), Arc::clone(work));
        tasks.spawn(async move { some_shops(&url, &work).await });
    }
    let mut written = History::default();
    while let Some(outcome) = tasks.join_next().await {
        written.add(outcome.map_err(|error| Error::failed(format!("a writer stopped: {error}")))??);
    }
    Ok(written)
}

/// Takes shop after shop until none is left.
async fn some_shops(url: &str, work: &Work) -> Result<History> {
    let mut client = db::connect(url).await?;
    let till = Till::open(&client).await?;
    let mut written = History::default();
    while let Some(shop) = work.shops.get(work.next.fetch_add(1, Ordering::Relaxed)) {
        let known: Known = work.known.get(&shop.id).copied();
        for date in days(work, shop, known) {
            if work.cancel.is_cancelled() {
                return Ok(written);
            }
            written.add(business_day(&mut client, &till, work, shop, known, date).await?);
            work.progress.inc(1);
        }
    }
    Ok(written)
}

/// The days to write: first those before what is known, backwards, then those after it. Stopped anywhere, what is known
/// stays one stretch without a hole.
fn days(work: &Work, shop: &Shop, known: Known) -> Vec<Date> {
    let start = shop.trade.day_start();
    let last = rhythm::business_hour(work.until, start).0;
    let all = |from: Date, to: Date| from.series(1.day()).take_while(move |day| *day <= to);
    let Some((oldest, newest)) = known else {
        return all(work.first, last).collect();
    };
    let (oldest, newest) = (rhythm::business_hour(oldest, start).0, rhythm::business_hour(newest, start).0);
    let mut days: Vec<Date> = all(work.first, oldest).collect();
    days.reverse();
    days.extend(all(newest.max(work.first), last));
    days.dedup();
    days
}

/// A business day in one transaction: delivery, tickets, voids, stock.
async fn business_day(
    client: &mut Client,
    till: &Till,
    work: &Work,
    shop: &Shop,
    known: Known,
    date: Date,
) -> Result<History> {
    let tickets = day::tickets(shop, date, work.first, &work.rates)?;
    let is_known = |ticket: &Ticket| known.is_some_and(|(first, last)| (first..=last).contains(&ticket.arrived_at));
    let new: Vec<&Ticket> = tickets.iter().filter(|t| t.arrived_at <= work.until && !is_known(t)).collect();
    let voids: Vec<(Uuid, Timestamp)> = tickets
        .iter()
        .filter_map(|ticket| Some((ticket.id, ticket.voided_at.filter(|at| *at <= work.until)?)))
        .collect();

    let transaction = client.transaction().await?;
    if !new.is_empty() {
        // The supplier of each product comes every third day.
        let turn = usize::from(date.day_of_year().unsigned_abs()) % 3;
        till.deliver(&transaction, shop, |position| position % 3 == turn, Need::Low).await?;
    }
    till.insert(&transaction, shop, &new).await?;
    let voided = till.void(&transaction, &voids).await?;
    let mut taken = Taken::default();
    new.iter().for_each(|ticket| taken.sell(ticket));
    tickets.iter().filter(|ticket| voided.contains(&ticket.id)).for_each(|ticket| taken.give_back(ticket));
    till.take(&transaction, shop, &taken).await?;
    transaction.commit().await?;
    let lines = new.iter().map(|ticket| ticket.lines.len()).sum();
    Ok(History { tickets: new.len(), lines, voids: voided.len(), ..History::default() })
}

fn day_after(date: Date, days: i64) -> Date {
    date.checked_add(days.days()).unwrap_or(date)
}
