//! The HTTP service end to end: the real router over a real database.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod cached;
mod client;
mod conformance;
mod exchange;
mod figures;
mod housekeeping;
mod kpis;
mod life;
mod live;
mod manners;
mod observe;
mod pooler;
mod redis;
mod scope;
mod sender;
mod shop;
mod stage;
mod terminal;
