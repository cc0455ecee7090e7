//! A rollup: its query analysed, its tables and view made, its changes captured and folded.

mod alter;
mod bloat;
mod build;
mod capture;
mod create;
mod explain;
mod feed;
mod fold;
mod groups;
mod guard;
mod joined;
mod layout;
mod partitions;
mod sql;
mod triggers;
mod truncate;
mod underway;

pub use bloat::rewrite_bloated;
pub use capture::{begin, capture, end};
pub use fold::{AT_MOST as FOLDED_AT_MOST, may_be_vacuumed};
pub use partitions::refuse_concurrent_detach;

/// Once per process.
pub fn register() {
    underway::register();
    feed::register();
}
