//! The HTTP service end to end: the real router over a real database.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod bounds;
mod cached;
mod client;
mod conformance;
mod exchange;
mod figures;
mod housekeeping;
mod isolation;
mod keys;
mod kpis;
mod life;
mod live;
mod manners;
mod observe;
mod pooler;
mod redis;
mod replicas;
mod scope;
mod sender;
mod shop;
mod stage;
mod terminal;
