//! A rollup: its query analysed, its tables and view made, its changes captured and folded.

mod capture;
mod create;
mod fold;
mod groups;
mod layout;
mod sql;
mod truncate;

pub use capture::capture;
