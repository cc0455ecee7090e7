//! Terminal dashboard.

use crate::db::Server;
use crate::error::Result;
use std::process::ExitCode;

#[derive(Debug, Clone, clap::Args)]
pub struct KpiArgs {}

pub async fn run(_server: &Server, _args: KpiArgs) -> Result<ExitCode> {
    unimplemented!()
}
