//! The service.

use crate::db::Server;
use crate::error::Result;
use std::process::ExitCode;

#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {}

pub async fn run(_server: &Server, _args: ServeArgs) -> Result<ExitCode> {
    unimplemented!()
}

pub fn openapi_json() -> Result<String> {
    unimplemented!()
}
