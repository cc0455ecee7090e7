//! Entry points of background workers, and what they need of the server.

use pgrx::pg_sys;
use pgrx::prelude::*;

/// Whether the library is being loaded by `shared_preload_libraries`.
pub fn is_preloading() -> bool {
    // SAFETY: a plain flag of this process.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Reads the configuration files again.
pub fn reload_settings() {
    // SAFETY: called between transactions, as the server's own processes do at SIGHUP.
    unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
}

/// Tells the statistics, and so autovacuum, of the rows this process has deleted; ordinary backends do it by themselves.
pub fn report_statistics() {
    // SAFETY: called between transactions.
    unsafe { pg_sys::pgstat_report_stat(true) };
}

/// Databases that people connect to. Templates are left alone: CREATE DATABASE needs them free of sessions.
pub fn databases() -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    // SAFETY: a shared catalog, readable without a database; rows are read while the scan holds them.
    unsafe {
        let table = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let scan =
            pg_sys::systable_beginscan(table, pg_sys::InvalidOid, false, std::ptr::null_mut(), 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let database = &*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_database>(tuple);
            if database.datallowconn && !database.datistemplate {
                found.push(database.oid);
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, pg_sys::AccessShareLock as i32);
    }
    found
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pulso_launcher_main(_argument: pg_sys::Datum) {
    crate::worker::launch();
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pulso_folder_main(argument: pg_sys::Datum) {
    crate::worker::fold(pg_sys::Oid::from(argument.value() as u32));
}
