//! The session's rights, its search path, and SQL run inside the server.

use super::lock;
use crate::error::Refusal;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};
use std::ffi::{CStr, CString};

/// Runs as another role, in a security-restricted context, until dropped.
pub struct AsRole {
    user: pg_sys::Oid,
    context: i32,
}

impl AsRole {
    pub fn become_role(role: pg_sys::Oid) -> Self {
        let mut user = pg_sys::InvalidOid;
        let mut context = 0;
        // SAFETY: out-parameters of this frame; the old values are put back by Drop, or by an abort.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            pg_sys::SetUserIdAndSecContext(
                role,
                context | (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32,
            );
        }
        Self { user, context }
    }
}

impl Drop for AsRole {
    fn drop(&mut self) {
        // SAFETY: values read from the same session when this was made.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}

/// A setting of the session that has another value until this is dropped.
pub struct Setting(i32);

impl Setting {
    /// `search_path = pg_catalog, pg_temp`: names in generated SQL mean what they say.
    pub fn pinned_path() -> Self {
        Self::set(c"search_path", c"pg_catalog, pg_temp")
    }

    /// Waits for locks no longer than some milliseconds; a shorter `lock_timeout` of the session stays.
    pub fn short_waits(milliseconds: i32) -> Self {
        // SAFETY: a number of this backend.
        let current = unsafe { pg_sys::LockTimeout };
        Self::set_number(c"lock_timeout", if current > 0 { current.min(milliseconds) } else { milliseconds })
    }

    /// The memory of maintenance for the next query, all of its parallel workers taken together, as CREATE INDEX has it;
    /// the session's `work_mem` where that is more.
    pub fn maintenance_memory() -> Self {
        // SAFETY: numbers of this backend.
        let (own, all, workers) =
            unsafe { (pg_sys::work_mem, pg_sys::maintenance_work_mem, pg_sys::max_parallel_workers_per_gather) };
        Self::set_number(c"work_mem", own.max(all / (1 + workers)))
    }

    fn set_number(name: &CStr, value: i32) -> Self {
        let Ok(text) = CString::new(value.to_string()) else { error!("a number with a NUL byte") };
        Self::set(name, &text)
    }

    fn set(name: &CStr, value: &CStr) -> Self {
        // SAFETY: NUL-terminated strings; the new level is closed by Drop, or by an abort.
        unsafe {
            let level = pg_sys::NewGUCNestLevel();
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
            Self(level)
        }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        // SAFETY: the level opened by `set`, not closed since.
        unsafe { pg_sys::AtEOXact_GUC(true, self.0) };
    }
}

/// An argument of type T.
pub fn arg<T: IntoDatum>(value: T) -> DatumWithOid<'static> {
    // SAFETY: the OID is that of T.
    unsafe { DatumWithOid::new(value, T::type_oid()) }
}

/// Runs statements that return nothing. Errors are Postgres's own and propagate as such.
pub fn run(sql: &str, args: &[DatumWithOid<'_>]) {
    Spi::connect_mut(|client| {
        client.update(sql, None, args).unwrap_or_else(|error| error!("{error}: {sql}"));
    });
}

/// Runs a statement that may write, in a snapshot of its own; gives the first column of its first row.
pub fn one<T: FromDatum + IntoDatum>(sql: &str, args: &[DatumWithOid<'_>]) -> Option<T> {
    Spi::connect_mut(|client| {
        let rows = client.update(sql, None, args).unwrap_or_else(|error| error!("{error}: {sql}"));
        if rows.is_empty() { None } else { rows.first().get_one().unwrap_or_else(|error| error!("{error}: {sql}")) }
    })
}

/// The role whose rights are in force.
pub fn current_role() -> pg_sys::Oid {
    // SAFETY: reads a variable of this backend.
    unsafe { pg_sys::GetUserId() }
}

/// The owner of the extension, who owns the catalog.
pub fn extension_owner() -> pg_sys::Oid {
    one("select extowner from pg_catalog.pg_extension where extname = 'pulso'", &[])
        .unwrap_or_else(|| error!("the extension pulso is not installed in this database"))
}

/// Refuses to go on with SQL objects of another version than the library's: what is not upgraded yet keeps capturing
/// and folding, but rollups are made and changed by matching parts only.
pub fn refuse_other_version() -> Result<(), Refusal> {
    let library = env!("CARGO_PKG_VERSION");
    let installed: Option<String> =
        one("select extversion::text from pg_catalog.pg_extension where extname = 'pulso'", &[]);
    match installed {
        Some(installed) if installed != library => Err(Refusal::Outdated { installed, library }),
        _ => Ok(()),
    }
}

/// Advances the generation counter; returns the new generation.
pub fn next_generation() -> i64 {
    one("select pg_catalog.nextval('pulso.generation')", &[]).unwrap_or_else(|| error!("nextval returned nothing"))
}

/// Generations below `next` that a transaction holds at this moment.
pub fn generations_held_before(next: i64) -> std::collections::BTreeSet<i64> {
    const HELD: &str = "
        select pg_catalog.array_agg((l.classid::bigint << 32) | l.objid::bigint)
          from pg_catalog.pg_locks l
         where l.locktype = 'advisory' and l.objsubid = $1 and l.granted
           and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())";
    let held: Option<Vec<i64>> = one(HELD, &[arg(i32::from(lock::GENERATION_CLASS))]);
    held.unwrap_or_default().into_iter().filter(|generation| *generation < next).collect()
}

/// Tells all backends, at commit, to forget what they know of a relation.
pub fn invalidate(relation: pg_sys::Oid) {
    // SAFETY: the relation exists; the message is queued for this transaction's end.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
}

/// A relation's name, qualified and quoted. Locks nothing: whoever folds must not wait for a view that is being dropped.
pub fn qualified_name(relation: pg_sys::Oid) -> String {
    // SAFETY: syscache look-ups that give palloc'd, NUL-terminated copies, or NULL where there is no such relation.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        if name.is_null() || schema.is_null() {
            error!("could not open relation with OID {relation}");
        }
        pgrx::spi::quote_qualified_identifier(
            CStr::from_ptr(schema).to_string_lossy(),
            CStr::from_ptr(name).to_string_lossy(),
        )
    }
}

/// An index's name, qualified and quoted.
pub fn qualified_index(index: pg_sys::Oid) -> String {
    one("select $1::pg_catalog.regclass::text", &[arg(index)]).unwrap_or_else(|| error!("no index {index}"))
}

/// Whether a table is one of TimescaleDB's.
pub fn is_hypertable(table: pg_sys::Oid) -> bool {
    one("select pulso.is_hypertable($1)", &[arg(table)]) == Some(true)
}
