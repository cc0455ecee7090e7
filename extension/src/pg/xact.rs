//! Ends of transactions, isolation, and the generation sequence read as it is now.

use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::ffi::c_void;

thread_local! {
    static AT_END: RefCell<Vec<fn(bool)>> = const { RefCell::new(Vec::new()) };
}

#[pg_guard]
unsafe extern "C-unwind" fn on_end(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if matches!(event, XACT_EVENT_ABORT | XACT_EVENT_COMMIT | XACT_EVENT_PREPARE) {
        AT_END.with_borrow(|callbacks| callbacks.iter().for_each(|callback| callback(event != XACT_EVENT_ABORT)));
    }
}

/// Calls `callback` at the end of each top transaction of this backend: `false` where it is rolled back.
pub fn at_end(callback: fn(bool)) {
    let first = AT_END.with_borrow_mut(|callbacks| {
        callbacks.push(callback);
        callbacks.len() == 1
    });
    if first {
        // SAFETY: the callback is a plain function that lives as long as the library.
        unsafe { pg_sys::RegisterXactCallback(Some(on_end), std::ptr::null_mut()) };
    }
}

/// The number of a transaction. Compared in a circle, as Postgres does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Xid(pg_sys::TransactionId);

impl Xid {
    /// That of this transaction, or subtransaction; one is taken where it has none.
    pub fn current() -> Self {
        // SAFETY: within a transaction, as all code of the engine is.
        Self(unsafe { pg_sys::GetCurrentTransactionId() })
    }

    /// Rows of `table` that earlier transactions have deleted are needed by no snapshot, here or on a standby that tells.
    pub fn oldest_needed(table: pg_sys::Oid) -> Self {
        // SAFETY: the relation is held open for the call.
        unsafe {
            let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
            let oldest = pg_sys::GetOldestNonRemovableTransactionId(relation);
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
            Self(oldest)
        }
    }

    /// With its epoch: it is one of the last two billion.
    pub fn widened(self) -> i64 {
        // SAFETY: reads shared memory.
        let next = unsafe { pg_sys::ReadNextFullTransactionId() }.value;
        let age = (next as u32).wrapping_sub(self.0.into_inner());
        next.saturating_sub(u64::from(age)) as i64
    }

    pub fn is_before(self, other: Self) -> bool {
        // SAFETY: a comparison of numbers.
        unsafe { pg_sys::TransactionIdPrecedes(self.0, other.0) }
    }
}

/// The first transaction that is not over at this moment, nor any later one.
pub fn latest_xmax() -> i64 {
    // SAFETY: within a transaction, there is a latest snapshot.
    Xid(unsafe { (*pg_sys::GetLatestSnapshot()).xmax }).widened()
}

/// The same of the moment when the active snapshot was taken.
pub fn active_xmax() -> i64 {
    // SAFETY: a function that a query calls has an active snapshot.
    Xid(unsafe { (*pg_sys::GetActiveSnapshot()).xmax }).widened()
}

/// Whether the transaction keeps one snapshot throughout: REPEATABLE READ or SERIALIZABLE.
pub fn keeps_one_snapshot() -> bool {
    // SAFETY: a plain integer of this backend.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Whether the transaction is at REPEATABLE READ, no more and no less.
pub fn is_repeatable_read() -> bool {
    // SAFETY: a plain integer of this backend.
    unsafe { pg_sys::XactIsoLevel == pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// The beginning of a sequence's tuple, Postgres's FormData_pg_sequence_data.
#[repr(C)]
struct SequenceData {
    last_value: i64,
}

/// The last value of a sequence as every process sees it at this moment, whatever this transaction's snapshot is.
pub fn last_value(sequence: pg_sys::Oid) -> i64 {
    // SAFETY: the relation is held open and locked while its only page is read under a share lock; a sequence has
    // exactly one tuple, the first item of its first page, whose data is a SequenceData.
    unsafe {
        let relation = pg_sys::relation_open(sequence, pg_sys::AccessShareLock as i32);
        let buffer = pg_sys::ReadBuffer(relation, 0);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let page = pg_sys::BufferGetPage(buffer);
        let item = pg_sys::PageGetItem(page, pg_sys::PageGetItemId(page, 1)).cast::<pg_sys::HeapTupleHeaderData>();
        let data = item.cast::<u8>().add(usize::from((*item).t_hoff)).cast::<SequenceData>();
        let value = (*data).last_value;
        pg_sys::UnlockReleaseBuffer(buffer);
        // The lock stays until the transaction ends, as every lock of a writer does.
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        value
    }
}
