//! The first row that an index of one of the engine's own tables leads to, without a plan.

use pgrx::{IntoDatum, pg_sys};

/// How a column is compared with a value; by the B-tree operators of its type.
#[derive(Clone, Copy)]
pub enum Bound {
    /// A column of type integer.
    Is(i32),
    /// Of type bigint.
    Above(i64),
    AtMost(i64),
}

impl Bound {
    fn key(self, column: usize) -> pg_sys::ScanKeyData {
        let (strategy, function, value) = match self {
            Self::Is(value) => (pg_sys::BTEqualStrategyNumber, pg_sys::F_INT4EQ, value.into_datum()),
            Self::Above(value) => (pg_sys::BTGreaterStrategyNumber, pg_sys::F_INT8GT, value.into_datum()),
            Self::AtMost(value) => (pg_sys::BTLessEqualStrategyNumber, pg_sys::F_INT8LE, value.into_datum()),
        };
        let mut key = pg_sys::ScanKeyData::default();
        let (attribute, value) = (column as pg_sys::AttrNumber, value.unwrap_or(pg_sys::Datum::null()));
        // SAFETY: fills the key; the function is one of Postgres's own.
        unsafe {
            pg_sys::ScanKeyInit(&mut key, attribute, strategy as u16, pg_sys::Oid::from(function), value);
        }
        key
    }
}

/// Where a scan begins.
#[derive(Clone, Copy)]
pub enum Start {
    Least,
    Greatest,
}

/// Calls `read` with the first row by `index` that the snapshot sees and that is within `bounds`, of the columns given.
///
/// # Safety
/// The bounds fit the columns, which are the index's first ones; the snapshot is one to scan with; what `read` keeps is copied,
/// since the row is gone when it returns.
pub unsafe fn first_row<T>(
    (table, index): (pg_sys::Oid, pg_sys::Oid),
    from: Start,
    bounds: &[(usize, Bound)],
    snapshot: pg_sys::Snapshot,
    read: impl FnOnce(&dyn Fn(usize) -> (pg_sys::Datum, bool)) -> T,
) -> Option<T> {
    const LOCK: i32 = pg_sys::AccessShareLock as i32;
    let mut keys: Vec<_> = bounds.iter().map(|(column, bound)| bound.key(*column)).collect();
    let direction = match from {
        Start::Least => pg_sys::ScanDirection::ForwardScanDirection,
        Start::Greatest => pg_sys::ScanDirection::BackwardScanDirection,
    };
    // SAFETY: table and index are held open during the scan; the index is one of the table's.
    unsafe {
        let table = pg_sys::table_open(table, LOCK);
        let index = pg_sys::index_open(index, LOCK);
        let scan = pg_sys::systable_beginscan_ordered(table, index, snapshot, keys.len() as i32, keys.as_mut_ptr());
        let tuple = pg_sys::systable_getnext_ordered(scan, direction);
        let found = (!tuple.is_null()).then(|| {
            read(&|column| {
                let mut null = false;
                (pg_sys::heap_getattr(tuple, column as i32, (*table).rd_att, &mut null), null)
            })
        });
        pg_sys::systable_endscan_ordered(scan);
        pg_sys::index_close(index, LOCK);
        pg_sys::table_close(table, pg_sys::NoLock as i32);
        found
    }
}
