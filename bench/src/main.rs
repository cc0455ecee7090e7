//! Measures Pulso beside its alternatives, in one run on one server, and records ratios.
//!
//! Prints what it finds, writes `target/bench.json` (name → value, unit, target, pass) and, with `--record`, the
//! table in `docs/benchmarks.md`. Ratios are medians of rounds in which the variants take turns, so that a machine
//! that slows down slows all of them.

mod api;
mod bulk;
mod dashboard;
mod live;
mod longrange;
mod peers;
mod report;
mod server;
mod soak;
mod tickets;

use clap::Parser;
use report::Report;
use std::error::Error;
use std::process::ExitCode;

pub type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Parser)]
#[command(about = "Measure Pulso beside its alternatives")]
struct Args {
    /// Which measurements to run; without any, tickets, dashboard, longrange and bulk; `floor` is a server that `api` starts
    #[arg(value_parser = ["tickets", "dashboard", "longrange", "bulk", "peers", "soak", "soak-ticks", "api", "live", "floor"])]
    only: Vec<String>,
    /// Pieces of `peers` to run; all when none is named. Each adds to what earlier ones have left
    #[arg(long, value_parser = peers::PIECES, value_delimiter = ',')]
    pieces: Vec<String>,
    /// Seconds of one run of tickets
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Rounds; medians are taken over them
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Sales under the dashboard
    #[arg(long, default_value_t = 1_000_000)]
    sales: u32,
    /// Seconds of tickets under one snapshot
    #[arg(long, default_value_t = 600)]
    soak_seconds: u32,
    /// Ticks of the folder under one snapshot
    #[arg(long, default_value_t = 100_000)]
    soak_ticks: i64,
    /// Write the table into docs/benchmarks.md
    #[arg(long)]
    record: bool,
}

#[tokio::main]
async fn main() -> Outcome<ExitCode> {
    let args = Args::parse();
    if args.only.iter().any(|only| only == "peers") {
        let Args { pieces: only, seconds, rounds, record, .. } = args;
        let met = peers::measure(&peers::Plan { only, seconds, rounds, record }).await?;
        return Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    // Not a measurement: a server that `api` starts.
    if args.only.iter().any(|only| only == "floor") {
        api::floor::serve().await?;
    }
    let runs = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let mut report = Report::default();
    if runs("tickets") {
        tickets::measure(&mut report, args.seconds, args.rounds).await?;
    }
    if runs("dashboard") {
        dashboard::measure(&mut report, args.sales).await?;
    }
    if runs("longrange") {
        longrange::measure(&mut report).await?;
    }
    if runs("bulk") {
        bulk::measure(&mut report, args.rounds).await?;
    }
    // Over HTTP: only when they are named, since they need programs of their own (`make bench-api`).
    if args.only.iter().any(|only| only == "live") {
        live::measure(&mut report).await?;
    }
    if args.only.iter().any(|only| only == "api") {
        api::measure(&mut report, args.sales.min(300_000), args.seconds).await?;
    }
    // Minutes by themselves: only when they are named.
    if args.only.iter().any(|only| only == "soak") {
        alone(soak::by_time(&mut report, args.soak_seconds))?;
    }
    if args.only.iter().any(|only| only == "soak-ticks") {
        alone(soak::by_ticks(&mut report, args.soak_ticks))?;
    }
    report.print();
    report.write_json()?;
    if args.record {
        report.write_markdown()?;
    }
    Ok(if report.all_pass() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// On this thread alone, as a client of libpq is: an answer that is handed from one thread to another waits twice for a
/// processor where there are few.
fn alone(measured: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    tokio::task::block_in_place(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measured)
    })
}
