//! Facts: rows that are true whoever committed them, and so are read whatever the snapshot.

use pgrx::pg_sys;
use pgrx::{FromDatum, IntoDatum};

/// The second column of the row whose first is the smallest above a bound; both are bigint, and the first is indexed.
pub fn first_above(table: pg_sys::Oid, bound: i64) -> Option<i64> {
    // SAFETY: the table is held open during the scan; a key of two bigints; columns of the types read.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let index = pgrx::PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(relation)).get_oid(0);
        let mut found = None;
        if let Some(index) = index {
            let mut key = pg_sys::ScanKeyData::default();
            let greater = pg_sys::BTGreaterStrategyNumber as u16;
            let bound = bound.into_datum().unwrap_or(pg_sys::Datum::null());
            pg_sys::ScanKeyInit(&mut key, 1, greater, pg_sys::Oid::from(pg_sys::F_INT8GT), bound);
            let mut any = pg_sys::SnapshotAnyData;
            let scan = pg_sys::systable_beginscan(relation, index, true, &mut any, 1, &mut key);
            let tuple = pg_sys::systable_getnext(scan);
            if !tuple.is_null() {
                let mut null = false;
                let value = pg_sys::heap_getattr(tuple, 2, (*relation).rd_att, &mut null);
                found = i64::from_datum(value, null);
            }
            pg_sys::systable_endscan(scan);
        }
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        found
    }
}
