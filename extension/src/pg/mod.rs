//! The border to Postgres's internals. All unsafe code of the engine is here, behind functions that are safe to
//! call from a backend's one thread; each `unsafe` says why it holds.
#![allow(unsafe_code)]

pub mod append;
pub mod as_of;
pub mod catalog;
pub mod collect;
pub mod depend;
pub mod facts;
pub mod first_row;
pub mod invalidation;
pub mod joined_row;
pub mod jsonb;
pub mod latest;
pub mod layers;
pub mod lock;
pub mod lookup;
pub mod memory;
pub mod planning;
pub mod plans;
pub mod project;
pub mod query;
pub mod select;
pub mod session;
pub mod state;
pub mod statement;
pub mod transition;
pub mod tree;
pub mod value;
pub mod worker;
pub mod xact;

/// Declares a function of the library as following version 1 of Postgres's calling convention.
///
/// `#[pg_extern]` does this for functions of plain values; those that handle raw calls use it themselves.
macro_rules! version_1 {
    ($name:ident) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn $name() -> &'static pgrx::pg_sys::Pg_finfo_record {
            static VERSION_1: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &VERSION_1
        }
    };
}
use version_1;
