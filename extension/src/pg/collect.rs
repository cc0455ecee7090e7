//! Runs queries and statements in one snapshot, younger than every lock held so far.

use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::{CStr, CString};

/// The name under which a statement reads what the query before it has collected.
pub const COLLECTED: &str = "pulso_collected";
const COLLECTED_C: &CStr = c"pulso_collected";

/// A query, and the statement that puts what it gives where it belongs.
pub struct Transfer {
    /// A cheaper query for the same rows, and one that finds a row where they are not.
    pub guess: Option<(String, String)>,
    pub query: String,
    pub store: String,
    /// Run at the end.
    pub last: String,
}

unsafe extern "C-unwind" {
    /// Not bound by pgrx. It fills in fields and cannot fail.
    fn SetTuplestoreDestReceiverParams(
        receiver: *mut pg_sys::DestReceiver,
        store: *mut pg_sys::Tuplestorestate,
        context: pg_sys::MemoryContext,
        detoast: bool,
        target: pg_sys::TupleDesc,
        map_failure: *const std::ffi::c_char,
    );
}

/// Takes the latest snapshot and runs all in it; calls `querying` before each query, and `storing` before the store. Gives
/// the number of rows stored.
///
/// A query is run by itself and to its end, its rows kept aside: only so may Postgres use parallel workers, which
/// `insert … select` never does.
pub fn in_one_snapshot(transfer: &Transfer, querying: fn(), storing: fn()) -> u64 {
    let Transfer { guess, query, store, last } = transfer;
    // SAFETY: SPI is connected around all of it. The snapshot is registered while it is used, and pushed where a
    // statement takes the active one. What is allocated lives in SPI's memory context. An error unwinds through
    // Spi::connect_mut, and Postgres's abort releases the snapshot, the tuplestore and the connection.
    Spi::connect_mut(|_| unsafe {
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let guessed = guess.as_ref().and_then(|(query, is_wrong)| {
            querying();
            let rows = collect(query, snapshot);
            if execute(is_wrong) == 0 {
                return Some(rows);
            }
            forget(rows);
            None
        });
        let rows = guessed.unwrap_or_else(|| {
            querying();
            collect(query, snapshot)
        });
        storing();
        let stored = execute(store);
        forget(rows);
        let plan = prepare(last, 0);
        let code = pg_sys::SPI_execute_snapshot(
            plan,
            std::ptr::null_mut(),
            std::ptr::null(),
            snapshot,
            std::ptr::null_mut(),
            false,
            true,
            0,
        );
        checked(code, last);
        pg_sys::UnregisterSnapshot(snapshot);
        stored
    })
}

/// Runs a statement over what is collected; gives the number of its rows.
unsafe fn execute(sql: &str) -> u64 {
    let text = c_string(sql);
    // SAFETY: the caller is connected to SPI.
    unsafe {
        checked(pg_sys::SPI_execute(text.as_ptr(), false, 0), sql);
        pg_sys::SPI_processed
    }
}

/// Ends what [`collect`] has begun.
unsafe fn forget(rows: *mut pg_sys::Tuplestorestate) {
    // SAFETY: the caller is connected to SPI, and no statement reads the rows any more.
    unsafe {
        pg_sys::SPI_unregister_relation(COLLECTED_C.as_ptr());
        pg_sys::tuplestore_end(rows);
    }
}

/// Runs a query in a snapshot, and makes what it gives known to the next statements under [`COLLECTED`].
unsafe fn collect(query: &str, snapshot: pg_sys::Snapshot) -> *mut pg_sys::Tuplestorestate {
    // SAFETY: the caller is connected to SPI and holds the snapshot. The named relation and the row type are palloc'd
    // in SPI's memory context, which outlives the statements of this connection.
    unsafe {
        let plan = prepare(query, pg_sys::CURSOR_OPT_PARALLEL_OK as i32);
        let sources = pgrx::PgList::<pg_sys::CachedPlanSource>::from_pg(pg_sys::SPI_plan_get_plan_sources(plan));
        let Some(source) = sources.get_ptr(0) else { error!("pulso: no plan for: {query}") };
        let row_type = pg_sys::CreateTupleDescCopy((*source).resultDesc);
        let store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
        let receiver = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestTuplestore);
        SetTuplestoreDestReceiverParams(
            receiver,
            store,
            pg_sys::CurrentMemoryContext,
            true,
            std::ptr::null_mut(),
            std::ptr::null(),
        );
        let options = pg_sys::SPIExecuteOptions { read_only: true, dest: receiver, ..Default::default() };
        pg_sys::PushActiveSnapshot(snapshot);
        let code = pg_sys::SPI_execute_plan_extended(plan, &options);
        pg_sys::PopActiveSnapshot();
        checked(code, query);
        if let Some(destroy) = (*receiver).rDestroy {
            destroy(receiver);
        }
        let relation = pg_sys::palloc0(size_of::<pg_sys::EphemeralNamedRelationData>())
            .cast::<pg_sys::EphemeralNamedRelationData>();
        (*relation).md.name = COLLECTED_C.as_ptr().cast_mut();
        (*relation).md.tupdesc = row_type;
        (*relation).md.enrtype = pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE;
        (*relation).md.enrtuples = pg_sys::tuplestore_tuple_count(store) as f64;
        (*relation).reldata = store.cast();
        checked(pg_sys::SPI_register_relation(relation), query);
        store
    }
}

unsafe fn prepare(sql: &str, options: i32) -> pg_sys::SPIPlanPtr {
    let text = c_string(sql);
    // SAFETY: a NUL-terminated text without parameters; the caller is connected to SPI.
    let plan = unsafe { pg_sys::SPI_prepare_cursor(text.as_ptr(), 0, std::ptr::null_mut(), options) };
    if plan.is_null() {
        error!("pulso: cannot prepare: {sql}");
    }
    plan
}

fn c_string(sql: &str) -> CString {
    CString::new(sql).unwrap_or_else(|_| error!("pulso: a statement with a NUL byte"))
}

fn checked(code: i32, sql: &str) {
    if code < 0 {
        error!("pulso: SPI returned {code} for: {sql}");
    }
}
