//! A till of the floor, and who stands at it.

use super::Floor;
use crate::db;
use crate::error::Result;
use crate::simulate::chain::Shop;
use crate::simulate::ticket::Ticket;
use crate::simulate::write::{Taken, Till};
use crate::simulate::{rhythm, seed};
use jiff::{Timestamp, ToSpan};
use rand::{Rng, RngExt};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// How long a till waits for a server that went away.
const PATIENCE: Duration = Duration::from_secs(60);
/// Deadlocks and serialization failures of one ticket, before it is an error.
const MOST_CONFLICTS: u32 = 10;
/// Sales that a till remembers, to take one back.
const REMEMBERED: usize = 64;

/// A till and who stands at it.
pub(super) struct Clerk<'a> {
    floor: &'a Floor,
    /// Among the tills of this run.
    number: usize,
    client: Client,
    till: Till,
    sold: VecDeque<Ticket>,
    /// Sales to void, and when.
    doubtful: VecDeque<(Instant, Ticket)>,
}

impl<'a> Clerk<'a> {
    pub async fn open(floor: &'a Floor, number: usize) -> Result<Self> {
        let client = db::connect(&floor.url).await?;
        let till = Till::open(&client).await?;
        Ok(Self { floor, number, client, till, sold: VecDeque::new(), doubtful: VecDeque::new() })
    }

    /// Takes the next ticket of all tills, waits for its moment, sells it. Each moment is counted from the beginning, so
    /// that a late ticket makes no later one late.
    pub async fn work(mut self) -> Result<()> {
        loop {
            let ticket = self.floor.next.fetch_add(1, Ordering::Relaxed);
            let due = self.floor.begun + Duration::from_secs_f64(ticket as f64 / self.floor.rate);
            if !self.wait(due).await? {
                return Ok(());
            }
            self.serve(ticket).await?;
        }
    }

    /// Waits for the moment, voiding what is to be voided before it. False when the shift is over.
    async fn wait(&mut self, due: Instant) -> Result<bool> {
        while self.doubtful.front().is_some_and(|(when, _)| *when <= due) {
            let Some((_, sale)) = self.doubtful.pop_front() else {
                break;
            };
            if self.floor.is_over() {
                return Ok(false);
            }
            self.void(&sale).await?;
        }
        // Behind its time, it does not wait; the end is the end all the same.
        Ok(self.floor.sleep_until(due).await && !self.floor.is_over())
    }

    async fn serve(&mut self, number: u64) -> Result<()> {
        let floor = self.floor;
        let mut rng = seed::rng(floor.seed, &format!("live/{}/{number}", floor.run));
        let now = Timestamp::now();
        let rate = floor.rate_at(&self.client, now).await?;
        let name = |prefix: &str| format!("{prefix}{}-{}-{number}", rhythm::local(now).strftime("%y%m%d"), floor.run);
        if rng.random_ratio(1, 80)
            && let Some(sale) = self.sold.pop_front()
        {
            let back = sale.returned(&mut rng, &floor.shops[sale.shop], name("D"), now);
            self.write(&floor.shops[sale.shop], &[&back]).await?;
            floor.counters.returns.fetch_add(1, Ordering::Relaxed);
        } else {
            let shop = &floor.shops[floor.pick(&mut rng, now)];
            let sale = Ticket::draw(&mut rng, shop, name(""), now, rate);
            self.write(shop, &[&sale]).await?;
            self.remember(&mut rng, sale);
        }
        floor.counters.tickets.fetch_add(1, Ordering::Relaxed);
        // One offline till in five minutes.
        if rng.random_bool((1.0 / (floor.rate * 300.0)).clamp(0.0, 1.0)) {
            self.arrive_late(&mut rng, now, &name("T")).await?;
        }
        Ok(())
    }

    fn remember(&mut self, rng: &mut impl Rng, sale: Ticket) {
        if rng.random_ratio(15, 1000) {
            self.doubtful.push_back((Instant::now() + Duration::from_secs(rng.random_range(10..120)), sale));
            self.doubtful.make_contiguous().sort_by_key(|(when, _)| *when);
        } else if self.sold.len() < REMEMBERED {
            self.sold.push_back(sale);
        }
    }

    /// What an offline till sold one to four hours ago, in one transaction.
    async fn arrive_late(&mut self, rng: &mut impl Rng, now: Timestamp, name: &str) -> Result<()> {
        let shop = &self.floor.shops[self.floor.pick(rng, now)];
        let mut batch = Vec::new();
        let mut at = now.checked_sub(rng.random_range(60..240_i64).minutes()).unwrap_or(now);
        for n in 1..=rng.random_range(3..=8) {
            let rate = self.floor.rate_at(&self.client, at).await?;
            let sale = Ticket::draw(rng, shop, format!("{name}-{n}"), at, rate);
            batch.push(Ticket { arrived_at: now, ..sale });
            at = at.checked_add(rng.random_range(60..420_i64).seconds()).unwrap_or(at);
        }
        self.write(shop, &batch.iter().collect::<Vec<_>>()).await?;
        self.floor.counters.late.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn write(&mut self, shop: &Shop, tickets: &[&Ticket]) -> Result<()> {
        let mut tries = Tries::begin();
        loop {
            let outcome = insert(&mut self.client, &self.till, shop, tickets).await;
            match outcome {
                Ok(()) => return Ok(()),
                // The first try was committed, and only its answer was lost.
                Err(error) if tries.made > 0 && is_duplicate(&error) => return Ok(()),
                Err(error) => self.again(&mut tries, error).await?,
            }
        }
    }

    async fn void(&mut self, sale: &Ticket) -> Result<()> {
        let mut tries = Tries::begin();
        loop {
            match void(&mut self.client, &self.till, &self.floor.shops[sale.shop], sale).await {
                Ok(()) => break,
                Err(error) => self.again(&mut tries, error).await?,
            }
        }
        self.floor.counters.voids.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Gets ready to try again after a conflict or a lost connection; any other error is the caller's.
    async fn again(&mut self, tries: &mut Tries, error: tokio_postgres::Error) -> Result<()> {
        let code = error.code().map_or("", |code| code.code());
        let conflict = matches!(code, "40001" | "40P01") && tries.made < MOST_CONFLICTS;
        let lost = error.is_closed() || code.starts_with("57P");
        if !conflict && !lost {
            return Err(error.into());
        }
        tries.made += 1;
        self.floor.counters.retries.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(till = self.number, %error, "trying again");
        if lost { self.reconnect(tries.since, error).await } else { Ok(()) }
    }

    async fn reconnect(&mut self, since: Instant, lost: tokio_postgres::Error) -> Result<()> {
        loop {
            if let Ok(opened) = Self::open(self.floor, self.number).await {
                (self.client, self.till) = (opened.client, opened.till);
                return Ok(());
            }
            if since.elapsed() > PATIENCE || !self.floor.sleep_until(Instant::now() + Duration::from_millis(500)).await
            {
                return Err(lost.into());
            }
        }
    }
}

struct Tries {
    made: u32,
    since: Instant,
}

impl Tries {
    fn begin() -> Self {
        Self { made: 0, since: Instant::now() }
    }
}

fn is_duplicate(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNIQUE_VIOLATION)
}

/// What a till does at a ticket.
async fn insert(
    client: &mut Client,
    till: &Till,
    shop: &Shop,
    tickets: &[&Ticket],
) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    till.insert(&transaction, shop, tickets).await?;
    let mut taken = Taken::default();
    tickets.iter().for_each(|ticket| taken.sell(ticket));
    till.take(&transaction, shop, &taken).await?;
    transaction.commit().await
}

/// What a till does at a void: the sale no longer counts, its goods are on the shelf again.
async fn void(client: &mut Client, till: &Till, shop: &Shop, sale: &Ticket) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    if !till.void(&transaction, &[(sale.id, Timestamp::now())]).await?.is_empty() {
        let mut taken = Taken::default();
        taken.give_back(sale);
        till.take(&transaction, shop, &taken).await?;
    }
    transaction.commit().await
}
