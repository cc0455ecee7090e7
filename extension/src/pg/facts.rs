//! Facts: rows that are true whoever committed them, and so are read whatever the snapshot.

use super::first_row::{Bound, Start, first_row};
use pgrx::{FromDatum, pg_sys};

/// The second column of the row whose first is the smallest above a bound; both are bigint, and the first is indexed. `None` too
/// where the table is not there.
pub fn first_above(table_and_index: Option<(pg_sys::Oid, pg_sys::Oid)>, bound: i64) -> Option<i64> {
    // SAFETY: a snapshot that sees every row; the second column is of the type read.
    unsafe {
        let mut any = pg_sys::SnapshotAnyData;
        first_row(table_and_index?, Start::Least, &[(1, Bound::Above(bound))], &mut any, |column| {
            let (value, null) = column(2);
            i64::from_datum(value, null)
        })?
    }
}
