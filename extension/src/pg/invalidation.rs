//! Tells when what this backend knows of a table may be out of date: caches keep the epoch they were filled in.

use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;

thread_local! {
    static EPOCH: Cell<u64> = const { Cell::new(0) };
    static WATCHED: RefCell<HashSet<pg_sys::Oid>> = RefCell::default();
}

#[pg_guard]
unsafe extern "C-unwind" fn on_relation(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    // An invalid OID stands for all relations.
    let concerns = relation == pg_sys::InvalidOid
        || WATCHED.with(|watched| watched.try_borrow().map_or(true, |watched| watched.contains(&relation)));
    if concerns {
        EPOCH.set(EPOCH.get() + 1);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_function(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    EPOCH.set(EPOCH.get() + 1);
}

/// Begins to listen. Once per process.
pub fn register() {
    // SAFETY: callbacks are plain functions that live as long as the library.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(on_relation), pg_sys::Datum::null());
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::PROCOID as i32,
            Some(on_function),
            pg_sys::Datum::null(),
        );
    }
}

/// From now on, changes of this relation count.
pub fn watch(relation: pg_sys::Oid) {
    WATCHED.with_borrow_mut(|watched| watched.insert(relation));
}

/// Advances whenever anything watched, or any function, has changed: to the knowledge of this backend, which takes a lock
/// on what it uses, and learns of changes by that.
pub fn epoch() -> u64 {
    EPOCH.get()
}

/// The same for whoever has not taken a lock: learns of changes first.
pub fn epoch_now() -> u64 {
    // SAFETY: in a transaction, outside of any look-up in the caches.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    epoch()
}
