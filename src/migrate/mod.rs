//! `pulso migrate`: shows what would change, brings a database up, tells where it stands.
//!
//! refinery runs the migrations, each in a transaction, and keeps their checksums. Around it: one runner at a
//! time (an advisory lock), a short `lock_timeout` with retries so that a waiting DDL never queues the shop
//! behind it, a look before anything changes, and the contract's views re-applied when their text changes.

mod contract;
mod packs;
mod report;

use crate::db::Server;
use crate::error::{Error, Result};
use packs::{PACKS, Pack};
use report::{PackState, State, Step, StepState};
use std::process::ExitCode;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// One runner at a time in a database: "pulso" in ASCII.
const LOCK_KEY: i64 = 0x70_75_6c_73_6f;
/// How often a step that could not get its lock in time is tried again before `up` gives up.
const LOCK_TRIES: u32 = 100;

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Show each step, what it locks and how it is undone; change nothing
    Plan(OutputArgs),
    /// Apply every pending step
    Up(OutputArgs),
    /// Show what is applied
    Status(OutputArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub struct OutputArgs {
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

pub async fn run(server: &Server, command: Command) -> Result<ExitCode> {
    let mut client = server.connect().await?;
    let (output, state) = match command {
        Command::Plan(output) => (output, inspect(&client).await?),
        Command::Status(output) => (output, inspect(&client).await?),
        Command::Up(output) => {
            let applied = up(&mut client).await?;
            let mut state = inspect(&client).await?;
            state.applied_now = Some(applied);
            (output, state)
        }
    };
    if output.json {
        println!("{}", state.to_json()?);
    } else {
        println!("{state}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Applies every pending step of every pack, then the contract. Returns the steps applied.
///
/// Safe to call from several processes at once: the second waits and finds nothing left to do.
pub async fn up(client: &mut Client) -> Result<Vec<String>> {
    lock(client).await?;
    let outcome = up_locked(client).await;
    // A failed unlock means a lost connection, and that has released the lock already.
    let _ = client.execute("select pg_advisory_unlock($1)", &[&LOCK_KEY]).await;
    outcome
}

async fn lock(client: &Client) -> Result<()> {
    let mut told = false;
    while !client.query_one("select pg_try_advisory_lock($1)", &[&LOCK_KEY]).await?.get::<_, bool>(0) {
        if !told {
            tracing::info!("another migration is running on this database; waiting for it");
            told = true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn up_locked(client: &mut Client) -> Result<Vec<String>> {
    let before = inspect(client).await?;
    before.refuse_if_blocked()?;
    client.batch_execute("create schema if not exists pulso; set lock_timeout = '200ms'").await?;
    let mut applied = Vec::new();
    for (pack, state) in PACKS.iter().zip(&before.packs) {
        if state.skipped.is_some() {
            continue;
        }
        apply(client, pack, &mut applied).await?;
    }
    applied.extend(contract::apply(client).await?);
    client.batch_execute("reset lock_timeout").await?;
    Ok(applied)
}

async fn apply(client: &mut Client, pack: &Pack, applied: &mut Vec<String>) -> Result<()> {
    let mut tries = 0;
    loop {
        match pack.runner().run_async(client).await {
            Ok(report) => {
                applied.extend(report.applied_migrations().iter().map(|m| format!("{} {m}", pack.name)));
                return Ok(());
            }
            Err(error) if is_lock_timeout(&error) && tries < LOCK_TRIES => {
                // The migrations before this one are committed; the next run goes on with it.
                applied.extend(
                    error
                        .report()
                        .into_iter()
                        .flat_map(|r| r.applied_migrations())
                        .map(|m| format!("{} {m}", pack.name)),
                );
                tries += 1;
                tracing::info!(pack = pack.name, tries, "a table is busy; trying again");
                tokio::time::sleep(Duration::from_millis(50 + 50 * u64::from(tries.min(20)))).await;
            }
            Err(error) => return Err(refinery_error(pack, &error)),
        }
    }
}

fn database_error(error: &refinery::Error) -> Option<&tokio_postgres::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(database) = cause.downcast_ref::<tokio_postgres::Error>() {
            return Some(database);
        }
        source = cause.source();
    }
    None
}

fn is_lock_timeout(error: &refinery::Error) -> bool {
    database_error(error).and_then(|e| e.code()) == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

fn refinery_error(pack: &Pack, error: &refinery::Error) -> Error {
    use refinery::error::Kind;
    let mut this = Error::failed(format!("pack {}: {error}", pack.name));
    if let Some(database) = database_error(error).and_then(|e| e.as_db_error()) {
        let detail = database.detail().map(|d| format!(" ({d})")).unwrap_or_default();
        this = Error::failed(format!(
            "pack {}: {error}: {}{detail} [{}]",
            pack.name,
            database.message(),
            database.code().code()
        ));
        if let Some(hint) = database.hint() {
            this = this.with_hint(hint);
        } else if is_lock_timeout(error) {
            this = this.with_hint("A long transaction holds the table; see pg_stat_activity, then run `pulso migrate up` again: it goes on where it stopped.");
        }
    }
    if let Kind::DivergentVersion(..) | Kind::MissingVersion(..) = error.kind() {
        this =
            this.with_hint("The database was migrated by another version of Pulso; use that version or a newer one.");
    }
    this
}

/// Steps and contract files that this version would apply, by name; changes nothing.
pub async fn pending(client: &Client) -> Result<Vec<String>> {
    let state = inspect(client).await?;
    let steps = state.packs.iter().filter(|pack| pack.skipped.is_none()).flat_map(|pack| {
        let pending = pack.steps.iter().filter(|step| matches!(step.state, StepState::Pending));
        pending.map(|step| format!("{} {}", pack.name, step.name))
    });
    Ok(steps.chain(state.contract.iter().map(|file| format!("contract {file}"))).collect())
}

/// Refuses a database that lacks any step of this version.
pub async fn require(client: &Client) -> Result<()> {
    let pending = pending(client).await?;
    let Some(first) = pending.first() else { return Ok(()) };
    let steps = if pending.len() == 1 { "1 step is".to_owned() } else { format!("{} steps are", pending.len()) };
    Err(Error::failed(format!("the database is not migrated: {steps} pending, first {first}"))
        .with_hint("Run `pulso migrate up`, or start with `pulso serve --migrate`."))
}

/// Looks at the database; changes nothing.
async fn inspect(client: &Client) -> Result<State> {
    let mut packs = Vec::with_capacity(PACKS.len());
    for pack in &PACKS {
        let done = history(client, pack).await?;
        let steps = pack
            .migrations()
            .iter()
            .map(|migration| {
                let sql = migration.sql().unwrap_or_default();
                let applied_on = done
                    .iter()
                    .find(|(version, _)| i64::from(*version) == i64::from(migration.version()))
                    .map(|(_, on)| on.clone());
                Step {
                    name: migration.to_string(),
                    locks: packs::header(sql, "Locks:").unwrap_or_default(),
                    undo: packs::header(sql, "Undo:").unwrap_or_default(),
                    state: applied_on.map_or(StepState::Pending, |on| StepState::Applied { on }),
                }
            })
            .collect();
        packs.push(PackState { name: pack.name, purpose: pack.purpose, skipped: None, steps });
    }
    let mut state = State { packs, contract: contract::pending(client).await?, blocked: Vec::new(), applied_now: None };
    preflight(client, &mut state).await?;
    Ok(state)
}

async fn history(client: &Client, pack: &Pack) -> Result<Vec<(i32, String)>> {
    let table = pack.history_table();
    let exists: bool = client.query_one("select to_regclass($1) is not null", &[&table]).await?.get(0);
    if !exists {
        return Ok(Vec::new());
    }
    let rows = client.query(&format!("select version, applied_on from {table} order by version"), &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Columns the rollups and the contract read, which a database with tables of its own must have.
const NEEDED: &str = include_str!("needed_columns.sql");

async fn preflight(client: &Client, state: &mut State) -> Result<()> {
    let row = client
        .query_one(
            "select to_regclass('public.sales') is not null,
                    exists (select from pg_available_extensions where name = 'pulso'),
                    current_setting('server_version_num')::int",
            &[],
        )
        .await?;
    let (has_sales, has_engine, version): (bool, bool, i32) = (row.get(0), row.get(1), row.get(2));
    if version < 150_000 {
        state.blocked.push(format!("PostgreSQL 15 or newer is needed; this server is {}", version / 10_000));
    }
    if !has_engine {
        state.blocked.push(
            "the extension pulso is not installed on this server: run `make setup` there, or copy its three files"
                .into(),
        );
    }
    let pos = &mut state.packs[0];
    if has_sales && pos.steps.iter().all(|step| matches!(step.state, StepState::Pending)) {
        pos.skipped = Some("the database has a table public.sales of its own".into());
        for row in client.query(NEEDED, &[]).await? {
            state.blocked.push(format!("column {} is missing", row.get::<_, &str>(0)));
        }
    }
    Ok(())
}
