//! Pulso keeps a shop's numbers exact and fresh inside the Postgres that already holds its sales.
//!
//! The binary is thin: each subcommand is a module here, so that tests and benchmarks drive the same code.

pub mod access;
pub mod aggregate;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod db;
pub mod demo;
pub mod doctor;
pub mod error;
pub mod fold;
pub mod interrupt;
pub mod job;
pub mod key;
pub mod kpi;
pub mod load;
pub mod logs;
pub mod migrate;
pub mod pooler;
pub mod read;
pub mod retail;
pub mod rollup;
pub mod serve;
pub mod simulate;
mod watch;
pub mod worker;
