//! SQL that sees what is committed now, in a transaction that keeps an older snapshot.

use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CString;

/// Runs a statement with one bigint parameter in the latest snapshot, whatever the transaction's own is.
pub fn run_in_latest_snapshot(sql: &str, parameter: i64) {
    let Ok(text) = CString::new(sql) else { error!("pulso: a statement with a NUL byte") };
    // SAFETY: the plan has the one parameter that is passed; SPI is connected around its use; an error unwinds
    // through Spi::connect, which Postgres cleans up when the transaction aborts.
    Spi::connect_mut(|_| unsafe {
        let mut types = [pg_sys::INT8OID];
        let plan = pg_sys::SPI_prepare(text.as_ptr(), 1, types.as_mut_ptr());
        if plan.is_null() {
            error!("pulso: cannot prepare: {sql}");
        }
        let mut values = [pg_sys::Datum::from(parameter)];
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let code = pg_sys::SPI_execute_snapshot(
            plan,
            values.as_mut_ptr(),
            std::ptr::null(),
            snapshot,
            std::ptr::null_mut(),
            false,
            true,
            0,
        );
        pg_sys::UnregisterSnapshot(snapshot);
        if code < 0 {
            error!("pulso: SPI_execute_snapshot returned {code}");
        }
    });
}
