//! `pulso migrate`: shows what would change, brings a database up, tells where it stands, takes it back.
//!
//! refinery runs the migrations, each in a transaction, and keeps their checksums. Around it: one runner at a
//! time (an advisory lock), a short `lock_timeout` with retries so that a waiting DDL never queues the shop
//! behind it, steps that cannot be in a transaction, a look before anything changes, a log of who did what, the
//! contract's views re-applied when their text changes, and a script to undo each step.

mod contract;
mod convert;
mod inspect;
mod log;
mod online;
mod packs;
mod preflight;
mod report;
mod run;
mod tier;
mod undo;
mod verify;

use crate::aggregate;
use crate::db::Server;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::rollup::fill::FILLING;
use packs::{PACKS, UNDER_CONTRACT};
use report::State;
use run::{Runner, Stop};
use std::collections::HashMap;
use std::process::ExitCode;
pub use tier::Tier;
use tier::Wish;
use tokio_postgres::Client;

/// Exit code of `plan` and `status` with `--exit-code` when steps are pending.
const PENDING: u8 = 4;

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Show each step, what it locks, the tables it meets and how it is undone; change nothing
    #[command(after_help = "\
Exit codes with --exit-code: 0 nothing is pending, 4 steps are pending, 1 something stands in the way.

Examples:
  pulso migrate plan
  pulso migrate plan indexes
  pulso migrate plan --exit-code >/dev/null || echo 'not up to date'")]
    Plan(LookArgs),
    /// Apply every pending step, or those of some packs
    #[command(after_help = "\
Safe to interrupt and to run again: it goes on where it stopped. A second runner waits for the first.

Examples:
  pulso migrate up
  pulso migrate up core indexes        (the rest on another evening)
  pulso migrate up --dry-run > review.sql")]
    Up(UpArgs),
    /// Show what is applied, by whom, and how long it took
    Status(LookArgs),
    /// Compare what is applied with this version's texts; exit code 1 where they differ
    Verify(OutputArgs),
    /// Take back a pack's steps, last first
    #[command(after_help = "\
Packs that rest on it are to be undone before. The tables of pack pos are not dropped while they hold rows, unless
--drop-data is given.

Examples:
  pulso migrate undo reports
  pulso migrate undo indexes --to 4    (keeps steps up to number 4)
  pulso migrate undo rollups --dry-run")]
    Undo(UndoArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub struct OutputArgs {
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub struct HypertableArgs {
    /// Make a hypertable of this table however small it is (pack timescale)
    #[arg(long, value_name = "TABLE")]
    hypertable: Vec<String>,
}

impl HypertableArgs {
    /// Noted in the session: what looks at the tables reads it there.
    async fn note(&self, client: &Client) -> Result<()> {
        let known = convert::tables();
        if let Some(other) = self.hypertable.iter().find(|name| {
            !known.iter().any(|table| table == *name || table.strip_prefix("public.") == Some(name.as_str()))
        }) {
            return Err(Error::usage(format!("--hypertable {other}: no step makes a hypertable of it"))
                .with_hint(format!("Tables are {}.", known.join(", "))));
        }
        client
            .execute("select set_config('pulso_migrate.hypertable', $1, false)", &[&self.hypertable.join(",")])
            .await?;
        Ok(())
    }
}

#[derive(Debug, Clone, clap::Args)]
pub struct TierArgs {
    /// Who computes [default: the extension where its files are on the server, else timescale in a database with
    /// TimescaleDB's Community edition, else plain]
    #[arg(long, value_enum)]
    tier: Option<Tier>,
}

impl TierArgs {
    /// A server of Pulso's own is to have the extension: there, to miss it is a mistake of the set-up.
    fn wish(&self, server: &Server) -> Wish {
        Wish { asked: self.tier, lower: server.cluster().is_none() }
    }
}

#[derive(Debug, Clone, clap::Args)]
pub struct LookArgs {
    /// Packs to look at [default: all]
    packs: Vec<String>,
    /// Say by the exit code whether steps are pending (4) or something stands in the way (1)
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    tier: TierArgs,
    #[command(flatten)]
    hypertable: HypertableArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, clap::Args)]
pub struct UpArgs {
    /// Packs to apply [default: all]
    packs: Vec<String>,
    /// Print the SQL that would be run; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    tier: TierArgs,
    #[command(flatten)]
    hypertable: HypertableArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, clap::Args)]
pub struct UndoArgs {
    /// The pack
    pack: String,
    /// Keep the steps up to this number
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..))]
    to: i32,
    /// Print the SQL that would be run; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Drop tables that hold rows, with them
    #[arg(long)]
    drop_data: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub async fn run(server: &Server, command: Command) -> Result<ExitCode> {
    let mut client = server.connect().await?;
    match command {
        Command::Plan(args) | Command::Status(args) => look(&client, server, args).await,
        Command::Verify(output) => report_differences(&client, output.json).await,
        Command::Up(args) => {
            known(&args.packs)?;
            server.require_sessions().await?;
            args.hypertable.note(&client).await?;
            let wish = args.tier.wish(server);
            if args.dry_run {
                return dry_run(&client, &args, wish).await;
            }
            let watcher = server.connect().await?;
            let mut runner = Runner::seen(&mut client, watcher, interrupt::token(), !args.output.json).await?;
            let outcome = apply(&mut runner, &args.packs, wish).await;
            let done = std::mem::take(&mut runner.done);
            match outcome {
                Err(Stop::Interrupted) => {
                    eprintln!("interrupted after {} steps; `pulso migrate up` goes on", done.len());
                    return Ok(ExitCode::from(interrupt::EXIT_CODE));
                }
                Err(stop) => return Err(stop.into()),
                Ok(()) => (),
            }
            let mut state = inspect::whole(&client, &args.packs, wish).await?;
            state.applied_now = Some(done);
            print(&state, args.output.json)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Undo(args) => take_back(server, &mut client, args).await,
    }
}

fn print(state: &State, json: bool) -> Result<()> {
    match json {
        true => println!("{}", state.to_json()?),
        false => println!("{state}"),
    }
    Ok(())
}

fn known(packs: &[String]) -> Result<()> {
    packs.iter().try_for_each(|name| undo::find(name).map(drop))
}

async fn look(client: &Client, server: &Server, args: LookArgs) -> Result<ExitCode> {
    known(&args.packs)?;
    args.hypertable.note(client).await?;
    let state = inspect::whole(client, &args.packs, args.tier.wish(server)).await?;
    print(&state, args.output.json)?;
    Ok(match () {
        () if !args.exit_code => ExitCode::SUCCESS,
        () if !state.blocked.is_empty() => ExitCode::FAILURE,
        () if !state.pending().is_empty() => ExitCode::from(PENDING),
        () => ExitCode::SUCCESS,
    })
}

async fn dry_run(client: &Client, args: &UpArgs, wish: Wish) -> Result<ExitCode> {
    let state = inspect::whole(client, &args.packs, wish).await?;
    if args.output.json {
        println!(
            "{}",
            serde_json::json!({ "pending": state.pending(), "blocked": state.blocked, "sql": state.script() })
        );
    } else {
        for reason in &state.blocked {
            println!("-- blocked: {reason}");
        }
        print!("{}", state.script());
    }
    Ok(ExitCode::SUCCESS)
}

async fn report_differences(client: &Client, json: bool) -> Result<ExitCode> {
    let found = verify::differences(client).await?;
    if json {
        println!("{}", serde_json::json!(found));
    } else if found.is_empty() {
        println!("what is applied is what this version has");
    }
    for difference in found.iter().filter(|_| !json) {
        println!("{} {}: {}", difference.pack, difference.step, difference.difference);
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn take_back(server: &Server, client: &mut Client, args: UndoArgs) -> Result<ExitCode> {
    if args.dry_run {
        let plan = undo::Plan::make(client, &args.pack, args.to).await?;
        match args.output.json {
            true => println!("{}", serde_json::json!({ "steps": plan.names(), "sql": plan.script() })),
            false => print!("{}", plan.script()),
        }
        return Ok(ExitCode::SUCCESS);
    }
    server.require_sessions().await?;
    let watcher = server.connect().await?;
    let mut runner = Runner::seen(client, watcher, interrupt::token(), !args.output.json).await?;
    let outcome = undo_locked(&mut runner, &args.pack, args.to, args.drop_data).await;
    match outcome {
        Err(Stop::Interrupted) => {
            eprintln!("interrupted; the same command goes on");
            return Ok(ExitCode::from(interrupt::EXIT_CODE));
        }
        Err(stop) => return Err(stop.into()),
        Ok(()) => (),
    }
    match args.output.json {
        true => println!("{}", serde_json::json!({ "undone": runner.done })),
        false => println!("{} steps undone", runner.done.len()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Applies every pending step of every pack, and the contract. Returns the steps applied.
///
/// Safe to call from several processes at once: the second waits and finds nothing left to do.
pub async fn up(client: &mut Client) -> Result<Vec<String>> {
    up_only(client, &[]).await
}

/// The same on a tier that the database does not have yet.
pub async fn up_on(client: &mut Client, tier: Tier) -> Result<Vec<String>> {
    let mut runner = Runner::silent(client).await?;
    apply(&mut runner, &[], Wish { asked: Some(tier), lower: false }).await?;
    Ok(runner.done)
}

/// The same for some packs; those that they need must be applied or among them.
pub async fn up_only(client: &mut Client, packs: &[&str]) -> Result<Vec<String>> {
    let packs: Vec<String> = packs.iter().map(|name| (*name).to_owned()).collect();
    known(&packs)?;
    let mut runner = Runner::silent(client).await?;
    apply(&mut runner, &packs, Wish::default()).await?;
    Ok(runner.done)
}

/// Takes a pack's steps above `to` back; tables with rows are dropped only if `drop_data`. Returns the steps undone.
pub async fn undo(client: &mut Client, pack: &str, to: i32, drop_data: bool) -> Result<Vec<String>> {
    let mut runner = Runner::silent(client).await?;
    undo_locked(&mut runner, pack, to, drop_data).await?;
    Ok(runner.done)
}

async fn apply(runner: &mut Runner<'_>, packs: &[String], wish: Wish) -> Result<(), Stop> {
    runner.open().await?;
    let outcome = apply_locked(runner, packs, wish).await;
    runner.close().await;
    outcome
}

async fn undo_locked(runner: &mut Runner<'_>, pack: &str, to: i32, drop_data: bool) -> Result<(), Stop> {
    runner.open().await?;
    let outcome = match undo::Plan::make(runner.client, pack, to).await {
        Ok(plan) => plan.run(runner, drop_data).await,
        Err(error) => Err(error.into()),
    };
    runner.close().await;
    outcome
}

async fn apply_locked(runner: &mut Runner<'_>, packs: &[String], wish: Wish) -> Result<(), Stop> {
    let before = inspect::whole(runner.client, packs, wish).await?;
    runner.tier = before.tier;
    before.refuse_if_blocked()?;
    if before.pending().is_empty() {
        return Ok(log::close(runner.client).await?);
    }
    log::open(runner.client).await?;
    for (pack, state) in PACKS.iter().zip(&before.packs) {
        if state.skipped.is_some() || !before.wants(pack.name) {
            continue;
        }
        // Looked at anew: the packs before have made the tables that this one needs.
        let logged = log::applied(runner.client).await?;
        let now = inspect::steps(runner.client, pack, &logged, false, before.tier).await?;
        for view in now.steps.iter().filter(|view| view.pending()) {
            if let Some(step) = view.step() {
                runner.step(pack, step, inspect::prepares(pack, step)).await?;
            }
        }
        if pack.name == "core" && inspect::outdated(runner.client).await?.is_some() {
            runner.noted(pack, "update the engine", "alter extension pulso update", None).await?;
        }
        if pack.name == UNDER_CONTRACT {
            contract::apply(runner).await?;
            for name in online::unbuilt(runner.client, pack).await? {
                runner.noted(pack, &format!("build {name}"), &online::build(&name), Some(FILLING)).await?;
            }
            for call in aggregate::calls(runner.client, aggregate::Which::Unfilled).await? {
                runner.filled(pack, &call).await?;
            }
        }
    }
    // What the packs after the contract have made in its schema.
    contract::scope(runner).await
}

/// Refuses a database that lacks any step of this version that the service needs.
pub async fn require(client: &Client) -> Result<()> {
    let pending = pending(client).await?;
    let Some(first) = pending.first() else { return Ok(()) };
    let steps = if pending.len() == 1 { "1 step is".to_owned() } else { format!("{} steps are", pending.len()) };
    Err(Error::failed(format!("the database is not migrated: {steps} pending, first {first}"))
        .with_hint("Run `pulso migrate up`, or start with `pulso serve --migrate`."))
}

/// Migrations and contract files that the service needs and that are not applied; changes nothing. Without the steps that
/// only make it faster, and the reports, which it does not read.
pub async fn pending(client: &Client) -> Result<Vec<String>> {
    let mut pending = Vec::new();
    let none = HashMap::new();
    let tier = Wish::default().tier(client).await?;
    for pack in PACKS.iter().filter(|pack| !["reports", convert::PACK].contains(&pack.name)) {
        let state = inspect::steps(client, pack, &none, false, tier).await?;
        if pack.name == "pos" && preflight::own_tables(client, &state).await?.is_some() {
            continue;
        }
        let steps = state.steps.iter().filter(|step| step.pending() && !step.online);
        pending.extend(steps.map(|step| format!("{} {}", pack.name, step.name)));
    }
    pending.extend(contract::pending(client).await?.iter().map(|file| format!("contract {file}")));
    Ok(pending)
}
