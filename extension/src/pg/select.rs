//! A SELECT prepared once and run in the active snapshot as it is.

use super::lookup::Value;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CString;

/// A plan of the session's.
pub struct Select {
    plan: pg_sys::SPIPlanPtr,
    columns: usize,
}

impl Select {
    pub fn prepare(sql: &str, types: &[pg_sys::Oid], columns: usize) -> Self {
        let Ok(text) = CString::new(sql) else { error!("pulso: a statement with a NUL byte") };
        let mut types = types.to_vec();
        // SAFETY: SPI is connected around the preparation; the kept plan belongs to the session.
        Spi::connect(|_| unsafe {
            let plan = pg_sys::SPI_prepare(text.as_ptr(), types.len() as i32, types.as_mut_ptr());
            if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
                error!("pulso: cannot prepare: {sql}");
            }
            Self { plan, columns }
        })
    }

    /// Calls `f` with each row, in the memory context of the caller; a row's values are gone when the next comes.
    /// Stops after `limit` rows, of which it returns the number.
    pub fn each_row(&self, args: &[pg_sys::Datum], limit: i64, mut f: impl FnMut(&[Value])) -> i64 {
        let mut args = args.to_vec();
        // SAFETY: the plan has as many parameters as are passed, none of them NULL; the result's rows have the columns
        // that the caller said. SPI_finish frees the rows and goes back to the caller's memory context.
        unsafe {
            let outer = pg_sys::CurrentMemoryContext;
            if pg_sys::SPI_connect() < 0 {
                error!("pulso: SPI_connect failed");
            }
            let snapshot = pg_sys::GetActiveSnapshot();
            let code = pg_sys::SPI_execute_snapshot(
                self.plan,
                args.as_mut_ptr(),
                std::ptr::null(),
                snapshot,
                std::ptr::null_mut(),
                true,
                false,
                limit as _,
            );
            if code < 0 {
                error!("pulso: SPI_execute_snapshot returned {code}");
            }
            let table = pg_sys::SPI_tuptable;
            let count = pg_sys::SPI_processed as usize;
            let inner = pg_sys::MemoryContextSwitchTo(outer);
            let mut values = vec![pg_sys::Datum::null(); self.columns];
            let mut nulls = vec![false; self.columns];
            let mut row = Vec::with_capacity(self.columns);
            for place in 0..count {
                let tuple = *(*table).vals.add(place);
                pg_sys::heap_deform_tuple(tuple, (*table).tupdesc, values.as_mut_ptr(), nulls.as_mut_ptr());
                row.clear();
                row.extend(values.iter().copied().zip(nulls.iter().copied()));
                f(&row);
            }
            pg_sys::MemoryContextSwitchTo(inner);
            pg_sys::SPI_finish();
            count as i64
        }
    }
}

impl Drop for Select {
    fn drop(&mut self) {
        // SAFETY: a kept plan, freed once.
        unsafe { pg_sys::SPI_freeplan(self.plan) };
    }
}
