//! Finds the row of a joined table by its key, and locks it as a foreign key would.

use super::joined_row::deform;
use super::query::{Pair, Table};
use super::value::Passing;
use super::{session, xact};
use crate::error::Refusal;
use pgrx::pg_sys;

/// A value and whether it is NULL.
pub type Value = (pg_sys::Datum, bool);

/// How rows of one joined table are found.
pub struct Lookup {
    relation: pg_sys::Oid,
    index: pg_sys::Oid,
    keys: Vec<Key>,
    /// The columns that are wanted, and how they are passed.
    columns: Vec<(i16, Passing)>,
    /// The highest column that is read.
    last_column: i16,
}

struct Key {
    column: i16,
    /// Its place in the index, from 1.
    place: i16,
    function: pg_sys::RegProcedure,
    subtype: pg_sys::Oid,
    collation: pg_sys::Oid,
}

/// Columns of a table that make its row a key to others, as an UPDATE sees it.
fn key_columns(table: pg_sys::Oid) -> Vec<i16> {
    // SAFETY: the relation is held open; the bitmap is a copy; attribute numbers in it are offset by the lowest.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let bitmap = pg_sys::RelationGetIndexAttrBitmap(relation, pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_KEY);
        let columns = (*(*relation).rd_att).natts as i16;
        let lowest = pg_sys::FirstLowInvalidHeapAttributeNumber;
        let found = (1..=columns).filter(|column| pg_sys::bms_is_member(i32::from(*column) - lowest, bitmap)).collect();
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        found
    }
}

/// The columns of a joined table whose changes no unique index makes wait for the lock that [`Lookup::find`] takes.
///
/// An UPDATE of a column in a unique index (one that a foreign key could refer to) locks its row against FOR KEY SHARE,
/// any other does not.
pub fn unguarded(table: &Table) -> Vec<i16> {
    let keys = key_columns(table.relation);
    table.columns.iter().copied().filter(|column| !keys.contains(column)).collect()
}

impl Lookup {
    pub fn new(table: &Table) -> Result<Option<Self>, Refusal> {
        let Some(edge) = &table.edge else { return Ok(None) };
        if !unguarded(table).is_empty() {
            return Err(Refusal::Join {
                table: session::qualified_name(table.relation),
                why: "no unique index holds the columns that the rollup reads".to_owned(),
                hint: "Drop the rollup and create it again: that makes the index.",
            });
        }
        // SAFETY: relations are held open while they are looked at; an index has as many columns as it says.
        unsafe {
            let index = pg_sys::index_open(edge.index, pg_sys::AccessShareLock as i32);
            let form = (*index).rd_index;
            let count = (*form).indnkeyatts as usize;
            let indexed = std::slice::from_raw_parts((&raw const (*form).indkey.values).cast::<i16>(), count);
            let collations = std::slice::from_raw_parts((*index).rd_indcollation, count);
            let key = |pair: &Pair| {
                let place = indexed.iter().position(|column| *column == pair.column).unwrap_or_default();
                let (mut left, mut subtype) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
                pg_sys::op_input_types(pair.operator, &mut left, &mut subtype);
                Key {
                    column: pair.column,
                    place: place as i16 + 1,
                    function: pg_sys::get_opcode(pair.operator),
                    subtype,
                    collation: collations[place],
                }
            };
            let keys: Vec<Key> = edge.pairs.iter().map(key).collect();
            pg_sys::index_close(index, pg_sys::NoLock as i32);
            let columns: Vec<(i16, Passing)> = table
                .columns
                .iter()
                .map(|column| (*column, Passing::of(super::query::column_type(table.relation, *column).0)))
                .collect();
            let last_column = columns.iter().map(|(column, _)| *column).chain(keys.iter().map(|key| key.column)).max();
            Ok(Some(Self {
                relation: table.relation,
                index: edge.index,
                keys,
                columns,
                last_column: last_column.unwrap_or(1),
            }))
        }
    }

    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Pushes the columns of the row with this key (none of it NULL) to `found`, copied into the current memory context;
    /// `false` where there is no such row. The row is that of the active snapshot, and is locked against deletion and
    /// changes of those columns until the transaction ends, unless the transaction wrote it itself.
    pub fn find(&self, key: &[pg_sys::Datum], found: &mut Vec<Value>) -> bool {
        // SAFETY: the slots are of the table's row type and dropped at the end.
        unsafe {
            let mut scan = Scan::open(self, key, pg_sys::RowShareLock as i32);
            let row = if scan.next() { self.lock(&scan, key) } else { None };
            if let Some(row) = row {
                deform(row, self.last_column);
                for (column, passing) in &self.columns {
                    let place = *column as usize - 1;
                    let (value, null) = (*(*row).tts_values.add(place), *(*row).tts_isnull.add(place));
                    found.push((passing.copy(value, null), null));
                }
                if row != scan.slot {
                    pg_sys::ExecDropSingleTupleTableSlot(row);
                }
            }
            scan.close();
            row.is_some()
        }
    }

    /// Whether the active snapshot shows more than one row with this key (none of it NULL). A transaction that keeps its
    /// snapshot may put a row there beside one that another has deleted since and that it still sees.
    pub fn has_several(&self, key: &[pg_sys::Datum]) -> bool {
        // SAFETY: what is opened is closed.
        unsafe {
            let mut scan = Scan::open(self, key, pg_sys::AccessShareLock as i32);
            let several = scan.next() && scan.next();
            scan.close();
            several
        }
    }

    /// Locks the row that the scan is at, and gives the slot of the version that is now the latest: the same or a new one.
    unsafe fn lock(&self, scan: &Scan, key: &[pg_sys::Datum]) -> Option<*mut pg_sys::TupleTableSlot> {
        let Scan { relation, snapshot, slot, .. } = *scan;
        // SAFETY: the slot holds a row of the relation; the closure has nothing to drop.
        unsafe {
            if is_own(slot) {
                return Some(slot);
            }
            let Some(tuple_lock) = (*(*relation).rd_tableam).tuple_lock else { return Some(slot) };
            let latest = pg_sys::table_slot_create(relation, std::ptr::null_mut());
            let mut place = (*slot).tts_tid;
            let mut failure = pg_sys::TM_FailureData::default();
            let mut flags = pg_sys::TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;
            if !xact::keeps_one_snapshot() {
                flags |= pg_sys::TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
            }
            let command = (*snapshot).curcid;
            let (place, failure) = (&raw mut place, &raw mut failure);
            let outcome = pg_sys::ffi::pg_guard_ffi_boundary(|| {
                tuple_lock(
                    relation,
                    place,
                    snapshot,
                    latest,
                    command,
                    pg_sys::LockTupleMode::LockTupleKeyShare,
                    pg_sys::LockWaitPolicy::LockWaitBlock,
                    flags as u8,
                    failure,
                )
            });
            match outcome {
                pg_sys::TM_Result::TM_Ok if !(*failure).traversed || self.has_key(latest, key) => Some(latest),
                pg_sys::TM_Result::TM_Ok => {
                    pg_sys::ExecDropSingleTupleTableSlot(latest);
                    None
                }
                // Changed by this very statement, or by one around it, whose changes are counted after this one.
                pg_sys::TM_Result::TM_SelfModified => {
                    pg_sys::ExecDropSingleTupleTableSlot(latest);
                    Some(slot)
                }
                _ => Refusal::Serialization.raise(),
            }
        }
    }

    /// Whether a row still has the key by which it was found.
    unsafe fn has_key(&self, row: *mut pg_sys::TupleTableSlot, key: &[pg_sys::Datum]) -> bool {
        // SAFETY: the slot holds a row of the table; the functions are those of the key's operators.
        unsafe {
            deform(row, self.last_column);
            self.keys.iter().zip(key).all(|(part, value)| {
                let place = part.column as usize - 1;
                !*(*row).tts_isnull.add(place)
                    && pg_sys::OidFunctionCall2Coll(
                        part.function,
                        part.collation,
                        *(*row).tts_values.add(place),
                        *value,
                    )
                    .value()
                        & 0xff
                        != 0
            })
        }
    }
}

/// An index scan for one key, in the active snapshot.
struct Scan {
    relation: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Scan {
    /// `lock`: of the table, kept until the transaction ends.
    unsafe fn open(lookup: &Lookup, key: &[pg_sys::Datum], lock: i32) -> Self {
        // SAFETY: relations are held open until `close`; an error frees all with the transaction.
        unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            let relation = pg_sys::table_open(lookup.relation, lock);
            let index = pg_sys::index_open(lookup.index, pg_sys::AccessShareLock as i32);
            let mut conditions = [pg_sys::ScanKeyData::default(); pg_sys::INDEX_MAX_KEYS as usize];
            for (place, (part, value)) in lookup.keys.iter().zip(key).enumerate() {
                pg_sys::ScanKeyEntryInitialize(
                    &mut conditions[place],
                    0,
                    part.place,
                    pg_sys::BTEqualStrategyNumber as u16,
                    part.subtype,
                    part.collation,
                    part.function,
                    *value,
                );
            }
            let count = lookup.keys.len() as i32;
            // The index's order, as a scan wants its conditions.
            conditions[..lookup.keys.len()].sort_by_key(|condition| condition.sk_attno);
            #[cfg(not(feature = "pg18"))]
            let scan = pg_sys::index_beginscan(relation, index, snapshot, count, 0);
            #[cfg(feature = "pg18")]
            let scan = pg_sys::index_beginscan(relation, index, snapshot, std::ptr::null_mut(), count, 0);
            pg_sys::index_rescan(scan, conditions.as_mut_ptr(), count, std::ptr::null_mut(), 0);
            let slot = pg_sys::table_slot_create(relation, std::ptr::null_mut());
            Self { relation, index, snapshot, scan, slot }
        }
    }

    /// Puts the next row into the slot.
    unsafe fn next(&mut self) -> bool {
        // SAFETY: the scan is open.
        unsafe { pg_sys::index_getnext_slot(self.scan, pg_sys::ScanDirection::ForwardScanDirection, self.slot) }
    }

    unsafe fn close(self) {
        // SAFETY: closes what `open` opened, once.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::index_endscan(self.scan);
            pg_sys::index_close(self.index, pg_sys::NoLock as i32);
            pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
        }
    }
}

/// Whether this transaction wrote the row: then nobody else can lock or change it.
unsafe fn is_own(slot: *mut pg_sys::TupleTableSlot) -> bool {
    // SAFETY: the slot holds a heap tuple, which stays pinned by it.
    unsafe {
        let mut must_free = false;
        let tuple = pg_sys::ExecFetchSlotHeapTuple(slot, false, &mut must_free);
        let header = (*tuple).t_data;
        let is_frozen = u32::from((*header).t_infomask) & pg_sys::HEAP_XMIN_FROZEN == pg_sys::HEAP_XMIN_FROZEN;
        !is_frozen && pg_sys::TransactionIdIsCurrentTransactionId((*header).t_choice.t_heap.t_xmin)
    }
}
