//! Simulator.

use crate::db::Server;
use crate::error::Result;
use std::process::ExitCode;

#[derive(Debug, Clone, clap::Args)]
pub struct SimulateArgs {}

pub async fn run(_server: &Server, _args: SimulateArgs) -> Result<ExitCode> {
    unimplemented!()
}
