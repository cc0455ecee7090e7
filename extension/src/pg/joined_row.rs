//! The row that a joined rollup's expressions are evaluated over: the columns needed of each table, side by side.

use super::lookup::Value;
use super::query::{self, Definition};
use pgrx::pg_sys;

pub struct JoinedRow {
    context: pg_sys::MemoryContext,
    slot: *mut pg_sys::TupleTableSlot,
    width: usize,
}

impl JoinedRow {
    /// For the session.
    pub fn new(definition: &Definition) -> Self {
        let columns: Vec<_> = definition
            .tables
            .iter()
            .flat_map(|table| table.columns.iter().map(|column| query::column_type(table.relation, *column)))
            .collect();
        // SAFETY: the slot and its descriptor live in `context`, which Drop deletes. A virtual slot that is stored once
        // stays filled; only its arrays change, which are as wide as the descriptor.
        unsafe {
            let context = pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"pulso joined row".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
            );
            let before = pg_sys::MemoryContextSwitchTo(context);
            let descriptor = pg_sys::CreateTemplateTupleDesc(columns.len() as i32);
            for (place, (type_oid, modifier, collation)) in columns.iter().enumerate() {
                let number = place as i16 + 1;
                pg_sys::TupleDescInitEntry(descriptor, number, std::ptr::null(), *type_oid, *modifier, 0);
                pg_sys::TupleDescInitEntryCollation(descriptor, number, *collation);
            }
            let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &pg_sys::TTSOpsVirtual);
            let width = columns.len();
            for place in 0..width {
                *(*slot).tts_isnull.add(place) = true;
            }
            pg_sys::ExecStoreVirtualTuple(slot);
            pg_sys::MemoryContextSwitchTo(before);
            Self { context, slot, width }
        }
    }

    pub fn slot(&self) -> *mut pg_sys::TupleTableSlot {
        self.slot
    }

    /// A value stays where it is: it must live until the row has been evaluated.
    pub fn set(&mut self, place: usize, (value, null): Value) {
        assert!(place < self.width, "a joined row has {} columns", self.width);
        // SAFETY: within the slot's arrays.
        unsafe {
            *(*self.slot).tts_values.add(place) = value;
            *(*self.slot).tts_isnull.add(place) = null;
        }
    }

    pub fn get(&self, place: usize) -> Value {
        assert!(place < self.width, "a joined row has {} columns", self.width);
        // SAFETY: within the slot's arrays.
        unsafe { (*(*self.slot).tts_values.add(place), *(*self.slot).tts_isnull.add(place)) }
    }
}

impl Drop for JoinedRow {
    fn drop(&mut self) {
        // SAFETY: made by `new`, deleted nowhere else.
        unsafe { pg_sys::MemoryContextDelete(self.context) };
    }
}

/// Makes the values of a slot's row ready up to a column; some may be already.
///
/// # Safety
/// `row` is a slot that holds a tuple with that column.
pub unsafe fn deform(row: *mut pg_sys::TupleTableSlot, last: i16) {
    // SAFETY: the caller's word.
    unsafe {
        if (*row).tts_nvalid < last {
            pg_sys::slot_getsomeattrs_int(row, i32::from(last));
        }
    }
}

/// Reads columns of a row of a table, given in ascending order.
///
/// `row` is a slot of the table's row type that holds a tuple.
pub fn columns_of<'a>(row: *mut pg_sys::TupleTableSlot, columns: &'a [i16]) -> impl Iterator<Item = Value> + 'a {
    if let Some(last) = columns.last() {
        // SAFETY: the slot's row has this column.
        unsafe { deform(row, *last) };
    }
    columns.iter().map(move |column| {
        let place = *column as usize - 1;
        // SAFETY: deformed above up to the last of the columns.
        unsafe { (*(*row).tts_values.add(place), *(*row).tts_isnull.add(place)) }
    })
}
