//! Appends rows to a delta table without the executor: no snapshot, no locks that another writer could wait for.

use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ops::Range;

/// Rows that are put on the heap at a time.
const BATCH: usize = 500;

/// Rows of one table: values by column, and which are NULL. Kept between statements for the memory it holds.
#[derive(Default)]
pub struct Rows {
    starts: Vec<usize>,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl Rows {
    pub fn clear(&mut self) {
        self.starts.clear();
        self.values.clear();
        self.nulls.clear();
    }

    /// Begins a row; what is pushed from now on belongs to it.
    pub fn begin(&mut self) {
        self.starts.push(self.values.len());
    }

    pub fn push(&mut self, value: pg_sys::Datum) {
        self.push_nullable(value, false);
    }

    pub fn push_nullable(&mut self, value: pg_sys::Datum, null: bool) {
        self.values.push(value);
        self.nulls.push(null);
    }
}

/// A heap table whose indexes are plain ones, as Pulso's delta tables are; valid until its relcache entry changes.
pub struct DeltaTable {
    table: pg_sys::Oid,
    /// The memory of the index descriptions.
    context: pg_sys::MemoryContext,
    indexes: Vec<Index>,
}

struct Index {
    oid: pg_sys::Oid,
    info: *mut pg_sys::IndexInfo,
}

impl DeltaTable {
    pub fn new(table: pg_sys::Oid) -> Self {
        // SAFETY: relations are held open and locked while they are looked at; index descriptions live in `context`,
        // which Drop deletes.
        unsafe {
            let context = pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"pulso delta table".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
            );
            let mut delta = Self { table, context, indexes: Vec::new() };
            let relation = pg_sys::table_open(table, pg_sys::RowExclusiveLock as i32);
            for oid in pgrx::PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(relation)).iter_oid() {
                let index = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as i32);
                let before = pg_sys::MemoryContextSwitchTo(context);
                let info = pg_sys::BuildIndexInfo(index);
                pg_sys::MemoryContextSwitchTo(before);
                let columns = &(&(*info).ii_IndexAttrNumbers)[..(*info).ii_NumIndexAttrs as usize];
                if (*info).ii_Unique || !(*info).ii_Predicate.is_null() || columns.iter().any(|column| *column <= 0) {
                    error!(
                        "pulso: index {} on a table of Pulso's is not one that writers can maintain; drop it",
                        name_of(index)
                    );
                }
                delta.indexes.push(Index { oid, info });
                pg_sys::index_close(index, pg_sys::NoLock as i32);
            }
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
            delta
        }
    }

    /// Appends `rows` and their index entries.
    pub fn append(&self, rows: &mut Rows) {
        // SAFETY: the table is held open under the lock of an ordinary INSERT; each row has one value per column
        // (checked); heap_multi_insert stores the tuples' positions in the slots, from which the index entries are made.
        unsafe {
            let relation = pg_sys::table_open(self.table, pg_sys::RowExclusiveLock as i32);
            let descriptor = (*relation).rd_att;
            let width = (*descriptor).natts as usize;
            if rows.starts.iter().enumerate().any(|(row, start)| *start != row * width)
                || rows.values.len() != rows.starts.len() * width
            {
                error!("pulso: table {} does not have the columns that its rollup needs", name_of(relation));
            }
            let command = pg_sys::GetCurrentCommandId(true);
            let form = |row: usize| {
                let (values, nulls) = (rows.values.as_ptr().add(row * width), rows.nulls.as_ptr().add(row * width));
                pg_sys::heap_form_tuple(descriptor, values.cast_mut(), nulls.cast_mut())
            };
            if rows.starts.len() == 1 {
                let tuple = form(0);
                pg_sys::heap_insert(relation, tuple, command, 0, std::ptr::null_mut());
                self.index(relation, rows, width, 0..1, |_| &raw mut (*tuple).t_self);
            } else {
                // Few slots, used again: each pins the row type, and letting go of one of many pins takes ever longer.
                let mut slots: Vec<*mut pg_sys::TupleTableSlot> = (0..rows.starts.len().min(BATCH))
                    .map(|_| pg_sys::MakeSingleTupleTableSlot(descriptor, &pg_sys::TTSOpsHeapTuple))
                    .collect();
                for first in (0..rows.starts.len()).step_by(BATCH) {
                    let batch = first..rows.starts.len().min(first + BATCH);
                    for (slot, row) in slots.iter().zip(batch.clone()) {
                        pg_sys::ExecStoreHeapTuple(form(row), *slot, true);
                    }
                    pg_sys::heap_multi_insert(
                        relation,
                        slots.as_mut_ptr(),
                        batch.len() as i32,
                        command,
                        0,
                        std::ptr::null_mut(),
                    );
                    self.index(relation, rows, width, batch, |row| {
                        let slot = slots[row - first];
                        &raw mut (*slot).tts_tid
                    });
                }
                for slot in slots {
                    pg_sys::ExecDropSingleTupleTableSlot(slot);
                }
            }
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
        }
    }

    /// Adds an entry for each row of a batch, which is stored where `place` says, to the table's indexes.
    unsafe fn index(
        &self,
        relation: pg_sys::Relation,
        rows: &Rows,
        width: usize,
        batch: Range<usize>,
        place: impl Fn(usize) -> *mut pg_sys::ItemPointerData,
    ) {
        const COLUMNS_MAX: usize = pg_sys::INDEX_MAX_KEYS as usize;
        // SAFETY: the caller holds the relation open; an index on plain columns takes their values in its own order.
        unsafe {
            for Index { oid, info } in &self.indexes {
                let index = pg_sys::index_open(*oid, pg_sys::RowExclusiveLock as i32);
                let columns = &(&(**info).ii_IndexAttrNumbers)[..(**info).ii_NumIndexAttrs as usize];
                let mut values = [pg_sys::Datum::null(); COLUMNS_MAX];
                let mut nulls = [false; COLUMNS_MAX];
                for row in batch.clone() {
                    for (i, column) in columns.iter().enumerate() {
                        values[i] = rows.values[row * width + *column as usize - 1];
                        nulls[i] = rows.nulls[row * width + *column as usize - 1];
                    }
                    pg_sys::index_insert(
                        index,
                        values.as_mut_ptr(),
                        nulls.as_mut_ptr(),
                        place(row),
                        relation,
                        pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO,
                        false,
                        *info,
                    );
                }
                pg_sys::index_close(index, pg_sys::NoLock as i32);
            }
        }
    }
}

impl Drop for DeltaTable {
    fn drop(&mut self) {
        // SAFETY: made by `new`, deleted nowhere else.
        unsafe { pg_sys::MemoryContextDelete(self.context) };
    }
}

fn name_of(relation: pg_sys::Relation) -> String {
    // SAFETY: an open relation has a NUL-terminated name.
    unsafe { pgrx::name_data_to_str(&(*(*relation).rd_rel).relname).to_owned() }
}
