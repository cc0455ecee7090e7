//! What the planner is told of tables of deltas: that they are large.
//!
//! A plan is kept until something about its tables changes. Made while a table of deltas is as good as empty, it would read the
//! table from its beginning, which is quickest then; and go on doing so while the table grows, which nothing tells it.

use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::CStr;

/// Pages that a table of deltas has at least, to the planner: so many that any look into its index is cheaper, and not so many that
/// it would call parallel workers (`min_parallel_table_scan_size`, 1,024).
const PAGES: pg_sys::BlockNumber = 1000;

thread_local! {
    static NEXT: Cell<pg_sys::get_relation_info_hook_type> = const { Cell::new(None) };
}

/// Once per process.
pub fn register() {
    // SAFETY: hooks are chained as Postgres asks; the function lives as long as the library.
    unsafe {
        NEXT.set(pg_sys::get_relation_info_hook);
        pg_sys::get_relation_info_hook = Some(on_relation_info);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_relation_info(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    is_inherited: bool,
    rel: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: called by the planner, with what it has just made.
    unsafe {
        if let Some(next) = NEXT.get() {
            next(root, relation, is_inherited, rel);
        }
        if is_delta(relation) {
            (*rel).pages = (*rel).pages.max(PAGES);
        }
    }
}

/// Whether a relation is a rollup's table of deltas: schema pulso is the extension's alone.
fn is_delta(relation: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the system caches; the name is a copy of its own, or NULL.
    unsafe {
        let schema = pg_sys::get_rel_namespace(relation);
        if schema.to_u32() < pg_sys::FirstNormalObjectId || schema != pg_sys::get_namespace_oid(c"pulso".as_ptr(), true)
        {
            return false;
        }
        let name = pg_sys::get_rel_name(relation);
        !name.is_null() && CStr::from_ptr(name).to_bytes().ends_with(b"_delta")
    }
}
