//! Loaders of public data sets.

use crate::db::Server;
use crate::error::Result;
use std::process::ExitCode;

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {}

pub async fn run(_server: &Server, command: Command) -> Result<ExitCode> {
    match command {}
}
