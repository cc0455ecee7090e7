//! `pulso job`: what the workers run, seen and steered from the terminal.

use crate::db::Server;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::worker::{self, Ended, Schedule};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::process::ExitCode;
use tokio_postgres::{Client, Row};

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show the jobs: when each runs next, and how it went
    List(OutputArgs),
    /// Run a job here and now, paused or not; exit code 1 when it fails
    Run(NameArgs),
    /// Let workers leave a job alone
    Pause(NameArgs),
    /// Let workers run a job again
    Resume(NameArgs),
    /// Change when a job runs
    Schedule(ScheduleArgs),
    /// Make a job of your own: one SQL statement, run at its times
    Create(CreateArgs),
    /// Drop a job of your own with its history
    Drop(NameArgs),
    /// Show past runs, the newest first
    History(HistoryArgs),
}

#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct NameArgs {
    /// The job
    name: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ScheduleArgs {
    /// The job
    name: String,
    /// every 15m | daily 04:30 | weekly mon,thu 04:30 | monthly 1 04:30
    schedule: String,
    /// IANA time zone whose clock it follows [default: as it is]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// What becomes of slots that nobody ran in time [default: as it is]
    #[arg(long, value_enum)]
    catch_up: Option<CatchUp>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub struct CreateArgs {
    /// A name: lower-case letters, digits, underscores
    name: String,
    /// The statement; current_setting('pulso.slot') is the slot it runs for
    #[arg(long, value_name = "STATEMENT")]
    sql: String,
    /// every 15m | daily 04:30 | weekly mon,thu 04:30 | monthly 1 04:30
    #[arg(long)]
    schedule: String,
    /// IANA time zone whose clock it follows
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    time_zone: String,
    /// What becomes of slots that nobody ran in time
    #[arg(long, value_enum, default_value_t)]
    catch_up: CatchUp,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum CatchUp {
    /// One run for all of them
    #[default]
    Once,
    /// Each, in order
    All,
    /// Those more than five minutes late are left out
    Skip,
}

impl CatchUp {
    fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::All => "all",
            Self::Skip => "skip",
        }
    }
}

#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    /// The job [default: all]
    name: Option<String>,
    /// At most so many runs
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000), value_name = "N")]
    limit: u16,
    #[command(flatten)]
    output: OutputArgs,
}

pub async fn run(server: &Server, command: Command) -> Result<ExitCode> {
    let client = server.migrated().await?;
    match command {
        Command::List(output) => list(&client, output.json).await,
        Command::History(args) => history(&client, &args).await,
        Command::Run(args) => run_now(server, &args).await,
        Command::Pause(args) => {
            let sql = "update pulso.job set paused = true where name = $1";
            change(&client, sql, &args.name, "is paused", args.output.json).await
        }
        Command::Resume(args) => {
            let sql = "update pulso.job set paused = false where name = $1";
            change(&client, sql, &args.name, "runs at its times again", args.output.json).await
        }
        Command::Drop(args) => {
            let sql = "delete from pulso.job where name = $1 and task = 'sql'";
            change(&client, sql, &args.name, "is dropped", args.output.json).await
        }
        Command::Schedule(args) => schedule(&client, args).await,
        Command::Create(args) => create(&client, args).await,
    }
}

async fn known(client: &Client, name: &str) -> Result<()> {
    match client.query_opt("select from pulso.job where name = $1", &[&name]).await? {
        Some(_) => Ok(()),
        None => {
            Err(Error::failed(format!("there is no job {name}")).with_hint("`pulso job list` shows those there are."))
        }
    }
}

async fn change(client: &Client, sql: &str, name: &str, done: &str, json: bool) -> Result<ExitCode> {
    known(client, name).await?;
    if client.execute(sql, &[&name]).await? == 0 {
        return Err(Error::failed(format!("job {name} is Pulso's own and cannot be dropped"))
            .with_hint(format!("`pulso job pause {name}` stops it.")));
    }
    said(name, done, json)
}

fn said(name: &str, done: &str, json: bool) -> Result<ExitCode> {
    if json {
        println!("{}", json!({ "name": name, "done": done }));
    } else {
        println!("{name} {done}");
    }
    Ok(ExitCode::SUCCESS)
}

async fn schedule(client: &Client, args: ScheduleArgs) -> Result<ExitCode> {
    known(client, &args.name).await?;
    let zone: String = match args.time_zone {
        Some(zone) => zone,
        None => client.query_one("select time_zone from pulso.job where name = $1", &[&args.name]).await?.try_get(0)?,
    };
    reschedule(client, &args.name, &args.schedule, &zone, args.catch_up.map(CatchUp::as_str)).await?;
    said(&args.name, &format!("runs {} ({zone}) from now on", args.schedule), args.output.json)
}

/// Gives a job another schedule, from the next slot after now on.
pub async fn reschedule(client: &Client, name: &str, rule: &str, zone: &str, catch_up: Option<&str>) -> Result<()> {
    Schedule::parse(rule, zone)?;
    client
        .execute(
            "update pulso.job
                set schedule = $2, time_zone = $3, catch_up = coalesce($4, catch_up),
                    next_slot = null, attempt = 0, retry_at = null, last_error = null
              where name = $1 and (schedule, time_zone, catch_up) is distinct from ($2, $3, coalesce($4, catch_up))",
            &[&name, &rule, &zone, &catch_up],
        )
        .await?;
    Ok(())
}

async fn create(client: &Client, args: CreateArgs) -> Result<ExitCode> {
    Schedule::parse(&args.schedule, &args.time_zone)?;
    client
        .execute(
            "insert into pulso.job (name, task, command, schedule, time_zone, catch_up) values ($1, 'sql', $2, $3, $4, $5)",
            &[&args.name, &args.sql, &args.schedule, &args.time_zone, &args.catch_up.as_str()],
        )
        .await?;
    said(&args.name, &format!("runs {} ({})", args.schedule, args.time_zone), args.output.json)
}

async fn run_now(server: &Server, args: &NameArgs) -> Result<ExitCode> {
    let (code, outcome, text) = match worker::run_now(server.url(), &args.name, &interrupt::token()).await? {
        Ended::Done(summary) => (ExitCode::SUCCESS, "done", summary),
        Ended::Failed(error) => (ExitCode::FAILURE, "failed", error),
        Ended::Lost => (ExitCode::FAILURE, "lost", "another worker has taken the job over".to_owned()),
        Ended::HandedBack => (ExitCode::from(interrupt::EXIT_CODE), "returned", "interrupted".to_owned()),
    };
    if args.output.json {
        println!("{}", json!({ "name": args.name, "outcome": outcome, "result": text }));
    } else {
        println!("{} {outcome}: {text}", args.name);
    }
    Ok(code)
}

fn instant(row: &Row, column: &str) -> Result<Option<String>> {
    Ok(row.try_get::<_, Option<Timestamp>>(column)?.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()))
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head.iter().copied());
    table
}

async fn list(client: &Client, as_json: bool) -> Result<ExitCode> {
    let rows = client.query(include_str!("../../sql/job/list.sql"), &[]).await?;
    let mut items = Vec::new();
    let mut table = table(&["job", "schedule", "next", "state", "last", "took", "done", "failed"]);
    for row in &rows {
        let text = |column| row.try_get::<_, Option<&str>>(column);
        let (name, schedule, zone) = (text("name")?, text("schedule")?, text("time_zone")?);
        let (paused, running): (bool, Option<bool>) = (row.try_get("paused")?, row.try_get("running")?);
        let (next, last) = (instant(row, "next_slot")?, instant(row, "last_finished_at")?);
        let took: Option<i64> = row.try_get("last_duration_ms")?;
        let (done, failed): (i64, i64) = (row.try_get("done_count")?, row.try_get("failed_count")?);
        let attempt: i32 = row.try_get("attempt")?;
        let (outcome, error, owner) = (text("last_outcome")?, text("last_error")?, text("lease_owner")?);
        let running = running == Some(true);
        items.push(json!({
            "name": name, "task": text("task")?, "schedule": schedule, "time_zone": zone, "catch_up": text("catch_up")?,
            "paused": paused, "running_on": owner.filter(|_| running), "next_slot": next, "attempt": attempt,
            "retry_at": instant(row, "retry_at")?, "last_finished_at": last, "last_outcome": outcome,
            "last_error": error, "last_duration_ms": took, "done_count": done, "failed_count": failed,
        }));
        let state = match (running, paused, error) {
            (true, ..) => format!("running on {}", owner.unwrap_or("?")),
            (_, true, _) => "paused".to_owned(),
            (_, _, Some(error)) => format!("failed: {error}"),
            _ => "waiting".to_owned(),
        };
        table.add_row([
            name.unwrap_or_default().to_owned(),
            format!("{} {}", schedule.unwrap_or_default(), zone.unwrap_or_default()),
            next.unwrap_or_else(|| "when a worker looks".to_owned()),
            state,
            last.map_or_else(|| "never".to_owned(), |last| format!("{last} {}", outcome.unwrap_or_default())),
            took.map_or_else(String::new, |ms| format!("{ms} ms")),
            done.to_string(),
            failed.to_string(),
        ]);
    }
    print(as_json, items, &table);
    Ok(ExitCode::SUCCESS)
}

fn print(as_json: bool, items: Vec<Value>, table: &Table) {
    if as_json {
        println!("{}", Value::Array(items));
    } else {
        println!("{}", table.trim_fmt());
    }
}

async fn history(client: &Client, args: &HistoryArgs) -> Result<ExitCode> {
    if let Some(name) = &args.name {
        known(client, name).await?;
    }
    let limit = i64::from(args.limit);
    let rows = client.query(include_str!("../../sql/job/history.sql"), &[&args.name, &limit]).await?;
    let mut items = Vec::new();
    let mut table = table(&["job", "slot", "started", "outcome", "took", "by", "result"]);
    for row in &rows {
        let text = |column| row.try_get::<_, Option<&str>>(column);
        let (job, outcome, owner) = (text("job")?, text("outcome")?, text("owner")?);
        let (slot, started) = (instant(row, "slot")?, instant(row, "started_at")?);
        let (took, slots): (Option<i64>, i64) = (row.try_get("duration_ms")?, row.try_get("slots")?);
        let (result, error) = (text("result")?, text("error")?);
        items.push(json!({
            "job": job, "slot": slot, "slots": slots, "trigger": text("trigger")?, "owner": owner, "started_at": started,
            "finished_at": instant(row, "finished_at")?, "outcome": outcome, "duration_ms": took, "result": result, "error": error,
        }));
        table.add_row([
            job.unwrap_or_default().to_owned(),
            slot.unwrap_or_default(),
            started.unwrap_or_default(),
            outcome.unwrap_or_default().to_owned(),
            took.map_or_else(String::new, |ms| format!("{ms} ms")),
            owner.unwrap_or_default().to_owned(),
            error.or(result).unwrap_or_default().to_owned(),
        ]);
    }
    print(args.output.json, items, &table);
    Ok(ExitCode::SUCCESS)
}
