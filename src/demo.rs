//! The demonstration.

use crate::db::Server;
use crate::error::Result;
use std::process::ExitCode;

#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {}

pub async fn run(_server: &Server, _args: DemoArgs) -> Result<ExitCode> {
    unimplemented!()
}
