//! Appends rows to a delta table without the executor: no snapshot, no locks that another writer could wait for.

use pgrx::pg_sys;
use pgrx::prelude::*;

/// One row: values by column, and which are NULL.
#[derive(Default)]
pub struct Row {
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl Row {
    pub fn push(&mut self, value: pg_sys::Datum) {
        self.push_nullable(value, false);
    }

    pub fn push_nullable(&mut self, value: pg_sys::Datum, null: bool) {
        self.values.push(value);
        self.nulls.push(null);
    }
}

/// Appends `rows` to a heap table whose indexes are plain ones, as Pulso's delta tables are.
pub fn append(table: pg_sys::Oid, rows: &mut [Row]) {
    if rows.is_empty() {
        return;
    }
    // SAFETY: the table is held open under the lock of an ordinary INSERT; each row has one value per column (checked);
    // heap_multi_insert stores the tuples' positions in the slots, from which the index entries are made.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::RowExclusiveLock as i32);
        let descriptor = (*relation).rd_att;
        if rows.iter().any(|row| row.values.len() != (*descriptor).natts as usize) {
            error!("pulso: table {} does not have the columns that its rollup needs", name_of(relation));
        }
        let command = pg_sys::GetCurrentCommandId(true);
        let mut tuples: Vec<pg_sys::HeapTuple> = rows
            .iter_mut()
            .map(|row| pg_sys::heap_form_tuple(descriptor, row.values.as_mut_ptr(), row.nulls.as_mut_ptr()))
            .collect();
        if let [tuple] = tuples.as_slice() {
            pg_sys::heap_insert(relation, *tuple, command, 0, std::ptr::null_mut());
        } else {
            let mut slots: Vec<*mut pg_sys::TupleTableSlot> = tuples
                .iter()
                .map(|tuple| {
                    let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &pg_sys::TTSOpsHeapTuple);
                    pg_sys::ExecStoreHeapTuple(*tuple, slot, false);
                    slot
                })
                .collect();
            pg_sys::heap_multi_insert(
                relation,
                slots.as_mut_ptr(),
                slots.len() as i32,
                command,
                0,
                std::ptr::null_mut(),
            );
            for (slot, tuple) in slots.into_iter().zip(&mut tuples) {
                (**tuple).t_self = (*slot).tts_tid;
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
        }
        index(relation, rows, &tuples);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
    }
}

/// Adds entries to the table's indexes.
unsafe fn index(relation: pg_sys::Relation, rows: &[Row], tuples: &[pg_sys::HeapTuple]) {
    // SAFETY: the caller holds the relation open; an index on plain columns takes their values in its own order.
    unsafe {
        for oid in pgrx::PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(relation)).iter_oid() {
            let index = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as i32);
            let info = pg_sys::BuildIndexInfo(index);
            let columns = &(&(*info).ii_IndexAttrNumbers)[..(*info).ii_NumIndexAttrs as usize];
            if (*info).ii_Unique || !(*info).ii_Predicate.is_null() || columns.iter().any(|column| *column <= 0) {
                error!(
                    "pulso: index {} on a table of Pulso's is not one that writers can maintain; drop it",
                    name_of(index)
                );
            }
            for (row, tuple) in rows.iter().zip(tuples) {
                let mut values: Vec<_> = columns.iter().map(|column| row.values[*column as usize - 1]).collect();
                let mut nulls: Vec<_> = columns.iter().map(|column| row.nulls[*column as usize - 1]).collect();
                pg_sys::index_insert(
                    index,
                    values.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                    &mut (**tuple).t_self,
                    relation,
                    pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO,
                    false,
                    info,
                );
            }
            pg_sys::index_close(index, pg_sys::NoLock as i32);
        }
    }
}

fn name_of(relation: pg_sys::Relation) -> String {
    // SAFETY: an open relation has a NUL-terminated name.
    unsafe { pgrx::name_data_to_str(&(*(*relation).rd_rel).relname).to_owned() }
}
