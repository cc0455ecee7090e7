//! `pulso worker`, and the same inside `pulso serve`: jobs at their times, each once, however many workers there are.
//!
//! The truth is `pulso.job`: what is due follows from it and the server's clock, a run is claimed there (`claim`), and
//! commits only while the claim stands (`tasks`). A worker that is killed, stopped or cut off loses its lease, and
//! another takes the slot; should it wake up later, its fencing token is old and its transaction ends without effect.

mod claim;
mod clock;
mod run;
mod schedule;
mod tasks;
mod verify;

pub use clock::Clock;
pub use run::Ended;
pub use schedule::{FORMS, Schedule};
pub use verify::rollups as verify_rollups;

use crate::db::{self, Server};
use crate::error::{Error, Result};
use crate::{fold, interrupt, logs};
use clock::Ticks;
use deadpool_postgres::Pool;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

const DRAIN: Duration = Duration::from_secs(8);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_RETRY: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, clap::Args)]
pub struct WorkerArgs {
    /// Jobs run at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32), value_name = "N")]
    pub concurrency: u8,

    /// Form of the log lines on stderr; PULSO_LOG sets what is logged
    #[arg(long, value_enum, default_value_t)]
    pub log_format: logs::Format,
}

/// `pulso worker`: folds where no background worker does, and runs the jobs.
pub async fn command(server: &Server, args: WorkerArgs) -> Result<ExitCode> {
    logs::init("info", args.log_format);
    let stop = interrupt::token();
    server.require_sessions().await?;
    server.migrated().await?;
    tracing::info!("worker up");
    let folder = tokio::spawn(fold::keep_folded(server.url().to_owned(), stop.clone()));
    run(Options { concurrency: args.concurrency.into(), ..Options::new(server.url()) }, stop).await;
    let _ = tokio::time::timeout(Duration::from_secs(2), folder).await;
    Ok(ExitCode::SUCCESS)
}

/// How a worker works.
#[derive(Debug, Clone)]
pub struct Options {
    pub url: String,
    /// Who runs a job, as the history shows it.
    pub owner: String,
    pub clock: Clock,
    pub concurrency: usize,
    /// Jobs under way get this long to finish once the worker is told to stop; then they are handed back.
    pub drain: Duration,
}

impl Options {
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), owner: owner(), clock: Clock::default(), concurrency: 2, drain: DRAIN }
    }
}

fn owner() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!("{}:{}", host.as_deref().unwrap_or("unknown"), std::process::id())
}

/// Runs jobs as they fall due, until `stop`; then lets those under way finish, or hands them back.
pub async fn run(options: Options, stop: CancellationToken) {
    let abandon = CancellationToken::new();
    let mut running = JoinSet::new();
    let mut ticks = Ticks::start().await;
    let mut said = String::new();
    let mut retry = Duration::from_secs(1);
    while !stop.is_cancelled() {
        let Err(error) = work(&options, &mut running, &mut ticks, &abandon, &stop, &mut retry).await else { break };
        let text = error.to_string();
        if said != text {
            tracing::warn!(%error, "jobs wait: the database cannot be asked; trying again");
            said = text;
        }
        stop.run_until_cancelled(tokio::time::sleep(retry)).await;
        retry = (retry * 2).min(MAX_RETRY);
    }
    let finished = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(options.drain, finished).await.is_err() {
        abandon.cancel();
        let _ =
            tokio::time::timeout(Duration::from_secs(2), async { while running.join_next().await.is_some() {} }).await;
    }
    ticks.stop().await;
}

/// One connection's life: ends by a fault, or well when told to stop.
async fn work(
    options: &Options,
    running: &mut JoinSet<Ended>,
    ticks: &mut Ticks,
    abandon: &CancellationToken,
    stop: &CancellationToken,
    retry: &mut Duration,
) -> Result<()> {
    let control = Arc::new(connect(&options.url).await?);
    let pool = db::pool(&options.url, options.concurrency)?;
    loop {
        while running.len() < options.concurrency && !stop.is_cancelled() {
            let Some(claim) = claim::due(&control, &options.clock, &options.owner).await? else { break };
            let (pool, control, clock) = (pool.clone(), Arc::clone(&control), options.clock.clone());
            let abandon = abandon.clone();
            running.spawn(async move { run::perform(&pool, &control, &clock, &claim, &abandon).await });
        }
        *retry = Duration::from_secs(1);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.heard() => {}
            Some(_) = running.join_next(), if !running.is_empty() => {}
        }
    }
}

async fn connect(url: &str) -> Result<Client> {
    let client = tokio::time::timeout(CONNECT_TIMEOUT, db::connect(url))
        .await
        .map_err(|_| Error::unavailable("the server does not answer"))??;
    client.batch_execute("set application_name = 'pulso worker'; set statement_timeout = '10s'").await?;
    Ok(client)
}

/// Runs one job now, whatever its schedule says.
pub async fn run_now(url: &str, name: &str, stop: &CancellationToken) -> Result<Ended> {
    let control = connect(url).await?;
    let pool: Pool = db::pool(url, 1)?;
    let clock = Clock::default();
    let claim = claim::by_hand(&control, &clock, &owner(), name).await?;
    Ok(run::perform(&pool, &control, &clock, &claim, stop).await)
}
