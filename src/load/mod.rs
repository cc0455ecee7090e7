//! Loaders of public data sets: real sales to try Pulso on, and to hold its numbers against.

pub mod online_retail;

use crate::db::Server;
use crate::error::Result;
use std::process::ExitCode;

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Load a year of a UK retailer (541,909 invoice lines, UCI Online Retail)
    OnlineRetail(online_retail::Args),
}

pub async fn run(server: &Server, command: Command) -> Result<ExitCode> {
    match command {
        Command::OnlineRetail(args) => online_retail::run(server, args).await,
    }
}
