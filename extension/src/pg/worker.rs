//! Entry points of background workers, and what they need of the server.

use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;

/// Whether the library is being loaded by `shared_preload_libraries`, in a server that works for people: not one that
/// pg_upgrade has started, where nothing must write beside it.
pub fn is_preloading() -> bool {
    // SAFETY: plain flags of this process.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade }
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

/// Databases that people connect to, by name. Templates are left alone: CREATE DATABASE needs them free of sessions.
pub fn databases() -> Vec<(pg_sys::Oid, String)> {
    let mut found = Vec::new();
    super::catalog::scan(pg_sys::DatabaseRelationId, |tuple, _| {
        // SAFETY: a row of pg_database, a shared catalog that is readable without a database.
        let database = unsafe { &*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_database>(tuple) };
        if database.datallowconn && !database.datistemplate {
            // SAFETY: a name ends with a zero byte.
            let name = unsafe { CStr::from_ptr(database.datname.data.as_ptr()) };
            found.push((database.oid, name.to_string_lossy().into_owned()));
        }
    });
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
