//! A rollup: its query analysed, its tables and view made, its changes captured and folded.

mod alter;
mod build;
mod capture;
mod create;
mod explain;
mod fold;
mod groups;
mod layout;
mod sql;
mod truncate;

pub use capture::capture;
