//! The command line: one subcommand, one module.

use crate::db::{DatabaseArgs, Server};
use crate::error::Result;
use crate::{access, config, demo, doctor, job, key, kpi, load, migrate, rollup, serve, simulate, worker};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Keeps a shop's numbers exact and fresh inside the Postgres that already holds its sales.
///
/// Without DATABASE_URL, Pulso runs a private PostgreSQL of its own and stops it when the command ends.
#[derive(Debug, Parser)]
#[command(name = "pulso", version, propagate_version = true)]
pub struct Cli {
    /// File with settings: a key for each flag, a section for each command [default: pulso.toml here, else /etc/pulso/pulso.toml]
    #[arg(long, env = "PULSO_CONFIG", global = true, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,

    #[command(flatten)]
    pub database: DatabaseArgs,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the database to this version: tables, indexes, rollups, contract
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Make, fill, change, verify and repair rollups
    #[command(subcommand)]
    Rollup(rollup::Command),
    /// Load a public data set as sales
    #[command(subcommand)]
    Load(load::Command),
    /// Sell in a believable chain of shops, through ordinary transactions
    Simulate(simulate::SimulateArgs),
    /// Serve the KPIs over HTTP, and fold the rollups where no background worker does
    Serve(serve::ServeArgs),
    /// Run the jobs and fold the rollups, without the HTTP service; as many at once as you like
    Worker(worker::WorkerArgs),
    /// See, run, pause and schedule what the workers do
    #[command(subcommand)]
    Job(job::Command),
    /// Make, list and revoke keys of the HTTP service
    #[command(subcommand)]
    Key(key::Command),
    /// Bind roles of the database to shops: what they see through SQL
    #[command(subcommand)]
    Access(access::Command),
    /// Say what is wrong with the database or about to go wrong, each with its cure
    Doctor(doctor::DoctorArgs),
    /// Show a shop's dashboard in the terminal
    Kpi(kpi::KpiArgs),
    /// Everything at once: a private server, 90 days of history, a simulator selling, the service and the dashboard
    Demo(demo::DemoArgs),
    /// Look at pulso.toml and the environment
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print the OpenAPI document of the service
    Openapi,
}

/// Runs the command to its end, then stops the private server if there is one.
pub async fn run(cli: Cli) -> Result<ExitCode> {
    if matches!(cli.command, Command::Openapi) {
        println!("{}", serve::openapi_json()?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Config(command) = cli.command {
        return config::run(command);
    }
    let server = Server::open(&cli.database).await?;
    let outcome = match cli.command {
        Command::Migrate(command) => migrate::run(&server, command).await,
        Command::Rollup(command) => rollup::run(&server, command).await,
        Command::Load(command) => load::run(&server, command).await,
        Command::Simulate(args) => simulate::run(&server, args).await,
        Command::Serve(args) => serve::run(&server, args).await,
        Command::Worker(args) => worker::command(&server, args).await,
        Command::Job(command) => job::run(&server, command).await,
        Command::Doctor(args) => doctor::run(&server, args).await,
        Command::Key(command) => key::run(&server, command).await,
        Command::Access(command) => access::run(&server, command).await,
        Command::Kpi(args) => kpi::run(&server, args).await,
        Command::Demo(args) => demo::run(&server, args).await,
        Command::Config(_) | Command::Openapi => Ok(ExitCode::SUCCESS),
    };
    let closed = server.close().await;
    let code = outcome?;
    closed?;
    Ok(code)
}
