//! A believable chain of shops, selling through ordinary transactions: something to look at, and load to measure under.
//!
//! Everything follows from the seed: shop by shop and day by day, so that a history can be continued, and the same
//! plan gives the same rows. Live tickets are of the moment they are sold at.

mod chain;
mod day;
mod goods;
mod history;
mod live;
mod money;
mod people;
mod rates;
mod rhythm;
mod seed;
mod setup;
mod tender;
mod ticket;
mod write;

pub use history::{History, history};
pub use live::{Counters, Live, live};

use crate::db::Server;
use crate::error::{Error, Result};
use crate::interrupt;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use jiff::Timestamp;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// The longest history, in days.
const LONGEST: u32 = 3650;

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
First the history is written, from where the database stands: running it again adds only what has happened since.
Then the tills sell in real time, at any hour, until Ctrl-C or for --duration; --rate 0 leaves that out.
A database with shops of its own is refused.

Examples:
  pulso simulate
  pulso simulate --stores 12 --history 365d --rate 0
  pulso simulate --history 0d --rate 200 --duration 60s --json
  pulso simulate --seed 7 --until 2026-11-21T12:00:00Z --rate 0")]
pub struct SimulateArgs {
    /// Shops of the chain
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    stores: u8,

    /// Tickets to sell in a second, over all shops, up to 5000; 0 writes the history only
    #[arg(long, default_value_t = 2.0, value_name = "TICKETS", value_parser = parse_rate)]
    rate: f64,

    /// Days of the past to write first, as 90d
    #[arg(long, default_value = "30d", value_name = "DAYS", value_parser = parse_days)]
    history: u32,

    /// What everything follows from: the same seed makes the same chain and the same past
    #[arg(long, default_value_t = 42)]
    seed: u64,

    /// How long to sell: 60s, 5m, 2h or forever
    #[arg(long, default_value = "forever", value_name = "TIME", value_parser = parse_duration)]
    duration: Lasting,

    /// Where the past ends [default: now]
    #[arg(long, value_name = "TIMESTAMP")]
    until: Option<Timestamp>,

    /// Print one line of JSON at the end
    #[arg(long)]
    json: bool,
}

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Shops, at most 100.
    pub shops: usize,
    pub seed: u64,
    /// Days of the past, whole business days; today's follows, to `until`.
    pub history_days: u32,
    pub until: Timestamp,
    /// Live tickets in a second, over all shops.
    pub rate: f64,
    /// How long the tills sell; `None` until cancelled.
    pub duration: Option<Duration>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { shops: 5, seed: 42, history_days: 30, until: Timestamp::now(), rate: 2.0, duration: None }
    }
}

#[derive(serde::Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<History>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Live>,
}

pub async fn run(server: &Server, args: SimulateArgs) -> Result<ExitCode> {
    if args.until.is_some_and(|until| until > Timestamp::now()) {
        return Err(
            Error::usage("--until is in the future").with_hint("The past ends now at the latest; leave --until out.")
        );
    }
    let plan = Plan {
        shops: usize::from(args.stores),
        seed: args.seed,
        history_days: args.history,
        until: args.until.unwrap_or_else(Timestamp::now),
        rate: args.rate,
        duration: args.duration.0,
    };
    let cancel = interrupt::token();
    let say = |sentence: String| {
        if !args.json {
            println!("{sentence}")
        }
    };
    let mut report = Report { history: None, live: None };
    let bar = |template: &str| {
        if args.json {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(0).with_style(style)
    };
    if plan.history_days > 0 {
        let progress = bar("History {bar:30} {human_pos}/{human_len} shop-days ({eta} left)");
        let written = history(server.url(), &plan, &progress, &cancel).await;
        progress.finish_and_clear();
        let written = written?;
        say(written.to_string());
        report.history = Some(written);
    }
    if plan.rate > 0.0 && !cancel.is_cancelled() {
        let progress = bar("{spinner} {msg}");
        say(format!("Selling {} tickets a second in {} shops; Ctrl-C stops.", plan.rate, plan.shops));
        let sold = live(server.url(), &plan, Arc::new(Counters::default()), &progress, &cancel).await;
        progress.finish_and_clear();
        let sold = sold?;
        say(format!("Sold {sold}."));
        if sold.seconds > 2.0 && sold.tickets_per_second < plan.rate * 0.95 {
            eprintln!("pulso: the server took fewer than the {} tickets a second asked for", plan.rate);
        }
        report.live = Some(sold);
    }
    if args.json {
        println!("{}", serde_json::json!(report));
    }
    // Stopping the tills is how they end; stopping the history leaves it unfinished.
    let unfinished = report.history.is_some_and(|history| history.interrupted && report.live.is_none());
    Ok(if unfinished { ExitCode::from(interrupt::EXIT_CODE) } else { ExitCode::SUCCESS })
}

impl std::fmt::Display for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (tickets, lines) = (HumanCount(self.tickets as u64), HumanCount(self.lines as u64));
        match (self.interrupted, self.tickets) {
            (true, _) => write!(f, "Interrupted: {tickets} tickets of the past are written. Run it again to go on."),
            (false, 0) => f.write_str("The past is already written."),
            (false, _) => write!(f, "Wrote {tickets} tickets of the past with {lines} lines in {:.1} s.", self.seconds),
        }
    }
}

/// A duration, or none: clap gives an `Option` field another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lasting(Option<Duration>);

pub(crate) fn parse_days(text: &str) -> Result<u32, String> {
    match text.strip_suffix('d').unwrap_or(text).parse() {
        Ok(days) if days <= LONGEST => Ok(days),
        _ => Err(format!("expected a number of days up to {LONGEST}, such as 90d")),
    }
}

fn parse_duration(text: &str) -> Result<Lasting, String> {
    if text == "forever" {
        return Ok(Lasting(None));
    }
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        _ => 0,
    };
    match text.get(..text.len().saturating_sub(1)).unwrap_or_default().parse::<u32>() {
        Ok(count) if unit > 0 && count > 0 => Ok(Lasting(Some(Duration::from_secs(u64::from(count) * unit)))),
        _ => Err("expected a time such as 60s, 5m, 2h, or forever".to_owned()),
    }
}

pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate == 0.0 || live::RATES.contains(&rate) => Ok(rate),
        _ => Err("expected tickets a second from 0.001 to 5000, or 0 for none".to_owned()),
    }
}

#[cfg(test)]
mod tests;
