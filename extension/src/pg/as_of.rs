//! Snapshots of a moment: what is committed now (or what the transaction sees, where it keeps one snapshot), with the
//! transaction's own changes up to a given command.

use super::xact;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;

thread_local! {
    static AT_SUBABORT: RefCell<Vec<fn(u32)>> = const { RefCell::new(Vec::new()) };
}

/// Makes the changes of the commands before this one visible to [`in_snapshot`]; returns the command that follows.
pub fn next_command() -> u32 {
    // SAFETY: as SPI does before each command of a function that may write.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::GetCurrentCommandId(false)
    }
}

/// The command of the statement whose trigger is running: its own changes are those of this command and later ones.
pub fn statement_command() -> u32 {
    // SAFETY: a statement runs with its snapshot on top of the active ones.
    unsafe {
        if pg_sys::ActiveSnapshotSet() {
            (*pg_sys::GetActiveSnapshot()).curcid
        } else {
            pg_sys::GetCurrentCommandId(false)
        }
    }
}

/// Runs `f` with an active snapshot of what is committed now, or of the transaction's own where it keeps one and `latest`
/// is not asked for. Before it reads a table, `f` says by [`see_before`] which own changes it wants to see.
pub fn in_snapshot<T>(latest: bool, f: impl FnOnce() -> T) -> T {
    // SAFETY: the copy belongs to the stack of active snapshots, from which it is popped below; an error pops it with
    // the transaction.
    unsafe {
        let snapshot = if xact::keeps_one_snapshot() && !latest {
            pg_sys::GetTransactionSnapshot()
        } else {
            pg_sys::GetLatestSnapshot()
        };
        pg_sys::PushCopiedSnapshot(snapshot);
    }
    let result = f();
    // SAFETY: the snapshot pushed above; `f` leaves the stack as it found it.
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}

/// From now on the snapshot of [`in_snapshot`] sees own changes of the commands before this one.
pub fn see_before(command: u32) {
    // SAFETY: the active snapshot is the copy that `in_snapshot` made; no scan of it is underway.
    unsafe { (*pg_sys::GetActiveSnapshot()).curcid = command };
}

/// The number of the current subtransaction; those begun later have higher ones.
pub fn subtransaction() -> u32 {
    // SAFETY: in a transaction.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    mine: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut std::ffi::c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        AT_SUBABORT.with_borrow(|callbacks| callbacks.iter().for_each(|callback| callback(mine)));
    }
}

/// Calls `callback` with the number of each subtransaction that is rolled back.
pub fn at_subabort(callback: fn(u32)) {
    let first = AT_SUBABORT.with_borrow_mut(|callbacks| {
        callbacks.push(callback);
        callbacks.len() == 1
    });
    if first {
        // SAFETY: the callback is a plain function that lives as long as the library.
        unsafe { pg_sys::RegisterSubXactCallback(Some(on_subtransaction), std::ptr::null_mut()) };
    }
}

/// A row's place in its table, from a value of type `tid`.
pub fn place(tid: pg_sys::Datum) -> u64 {
    // SAFETY: a non-NULL tid is a pointer to an item pointer.
    unsafe { pgrx::itemptr::item_pointer_to_u64(*tid.cast_mut_ptr::<pg_sys::ItemPointerData>()) }
}
