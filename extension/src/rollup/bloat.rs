//! Bloat: what a snapshot kept of the engine's tables is empty space in their files once it is gone.
//!
//! Vacuum gives back only the end of a file, and nothing of an index. A folder at rest rewrites what is nearly empty: few rows, so
//! that whoever comes meanwhile waits for some milliseconds; and if somebody is there already, it does so another time.

use super::fold::{has_been_forgotten, is_kept};
use crate::pg::plans::planned;
use crate::pg::session::{self, AsRole, Setting, arg};
use crate::pg::{catalog, lock};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;

/// Bytes of a table, with its indexes, that are never too many.
const SMALL: i64 = 8 << 20;
/// The most bytes of a row, with its indexes, that are not taken for empty space.
const ROW: i32 = 1024;
/// Rows that are the most to be rewritten.
const ROWS_MAX: i32 = 50_000;

thread_local! {
    /// Bytes of the tables that this session has rewritten, thereafter: rows may be long, and are not rewritten time and again.
    static REWRITTEN: RefCell<HashMap<pg_sys::Oid, i64>> = RefCell::default();
}

/// Rewrites one table that is nearly empty, in a transaction that does nothing else; `false` where there is none.
pub fn rewrite_bloated() -> bool {
    if !has_been_forgotten() {
        return false;
    }
    let _path = Setting::pinned_path();
    for rollup in catalog::rollups() {
        if !is_kept(&rollup) {
            continue;
        }
        let _role = AsRole::become_role(rollup.owner);
        if [rollup.base, rollup.delta].into_iter().any(|table| is_bloated(table) && rewrite(table)) {
            return true;
        }
    }
    false
}

fn is_bloated(table: pg_sys::Oid) -> bool {
    // What vacuum or analyze has counted; before the first, -1.
    const BLOATED: &str = "
        select pg_catalog.pg_total_relation_size(c.oid) > greatest($2, 2 * $3, $4 * c.reltuples) from pg_catalog.pg_class c
         where c.oid = $1 and c.reltuples between 0 and $5";
    let types = [
        PgBuiltInOids::OIDOID.oid(),
        PgBuiltInOids::INT8OID.oid(),
        PgBuiltInOids::INT8OID.oid(),
        PgBuiltInOids::INT4OID.oid(),
        PgBuiltInOids::INT4OID.oid(),
    ];
    let known = REWRITTEN.with_borrow(|rewritten| rewritten.get(&table).copied().unwrap_or(0));
    planned(BLOATED, &types, &[arg(table), arg(SMALL), arg(known), arg(ROW), arg(ROWS_MAX)], |rows| {
        !rows.is_empty() && rows.first().get_one::<bool>().ok().flatten().unwrap_or(false)
    })
}

/// `false` where somebody uses it. Snapshots see in the new file what they saw in the old one.
fn rewrite(table: pg_sys::Oid) -> bool {
    // By whichever index; the next one shall be free to choose again.
    const CLUSTER: &str = "
        select pg_catalog.format('cluster %1$s using %2$I; alter table %1$s set without cluster',
                                 i.indrelid::pg_catalog.regclass, c.relname)
          from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
         where i.indrelid = $1 limit 1";
    const BYTES: &str = "select pg_catalog.pg_total_relation_size($1)";
    if !lock::try_rewrite(table) {
        return false;
    }
    let Some(cluster) = session::one::<String>(CLUSTER, &[arg(table)]) else { return false };
    session::run(&cluster, &[]);
    let bytes: Option<i64> = session::one(BYTES, &[arg(table)]);
    REWRITTEN.with_borrow_mut(|rewritten| rewritten.insert(table, bytes.unwrap_or(0)));
    true
}
