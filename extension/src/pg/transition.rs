//! Trigger calls: which event, which table, and the rows of its transition tables.

use super::statement::{self, Kept};
use super::tree::{self, Conversion};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// What the statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Insert,
    Update,
    Delete,
    Truncate,
}

/// What a statement changed in a table: the call of a trigger, for its duration, or what was kept of calls for each row.
pub struct TriggerCall {
    pub event: Event,
    table: pg_sys::Oid,
    rows: Rows,
}

enum Rows {
    /// Of a statement's transition tables.
    Statement(*mut pg_sys::TriggerData),
    /// One.
    Row(*mut pg_sys::TriggerData),
    Kept(Kept),
}

impl TriggerCall {
    /// `None` where the function was not called as a trigger.
    pub fn of(fcinfo: pg_sys::FunctionCallInfo) -> Option<Self> {
        // SAFETY: Postgres passes a valid fcinfo; its context is a TriggerData where the tag says so.
        unsafe {
            let context = (*fcinfo).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                return None;
            }
            let data = context.cast::<pg_sys::TriggerData>();
            let bits = (*data).tg_event;
            let is_of_row = bits & pg_sys::TRIGGER_EVENT_ROW != 0;
            let event = match bits & pg_sys::TRIGGER_EVENT_OPMASK {
                pg_sys::TRIGGER_EVENT_INSERT => Event::Insert,
                pg_sys::TRIGGER_EVENT_DELETE => Event::Delete,
                pg_sys::TRIGGER_EVENT_UPDATE => Event::Update,
                _ => Event::Truncate,
            };
            let target = (*(*data).tg_relation).rd_id;
            let table = match tree::root_of(target) {
                root if is_of_row && root == target => tree::hypertable_of(target),
                root => root,
            };
            Some(Self { event, table, rows: if is_of_row { Rows::Row(data) } else { Rows::Statement(data) } })
        }
    }

    pub fn of_kept(kept: Kept) -> Self {
        Self { event: kept.event, table: kept.table, rows: Rows::Kept(kept) }
    }

    pub fn is_of_row(&self) -> bool {
        matches!(self.rows, Rows::Row(_))
    }

    /// The table that the statement changed; of a partition, the table that it is part of.
    pub fn table(&self) -> pg_sys::Oid {
        self.table
    }

    /// The table whose trigger was called, partition or not.
    pub fn target(&self) -> pg_sys::Oid {
        match self.rows {
            // SAFETY: the relation is open for the trigger's duration.
            Rows::Statement(data) | Rows::Row(data) => unsafe { (*(*data).tg_relation).rd_id },
            Rows::Kept(_) => self.table,
        }
    }

    /// Calls `f` with each row, as one of [`Self::table`], that the statement took away (-1) and each that it put there
    /// (+1).
    pub fn each_row(&self, mut f: impl FnMut(i8, *mut pg_sys::TupleTableSlot)) {
        match &self.rows {
            Rows::Row(data) => self.each_image(*data, f),
            Rows::Kept(kept) => kept.each_row(f),
            Rows::Statement(data) => {
                // SAFETY: the tuplestores live as long as the trigger call.
                let (old, new) = unsafe { ((**data).tg_oldtable, (**data).tg_newtable) };
                for (sign, store) in [(-1, old), (1, new)] {
                    if !store.is_null() {
                        self.scan(*data, store, |slot| f(sign, slot));
                    }
                }
            }
        }
    }

    /// Gives back what was kept.
    pub fn end(self) {
        if let Rows::Kept(kept) = self.rows {
            kept.end();
        }
    }

    /// The one row of a row-level trigger, as it was and as it is.
    fn each_image(&self, data: *mut pg_sys::TriggerData, mut f: impl FnMut(i8, *mut pg_sys::TupleTableSlot)) {
        // SAFETY: the slots hold rows of the trigger's table as long as the call.
        unsafe {
            let (first, second) = ((*data).tg_trigslot, (*data).tg_newslot);
            let images: &[(i8, *mut pg_sys::TupleTableSlot)] = match self.event {
                Event::Insert => &[(1, first)],
                Event::Delete => &[(-1, first)],
                _ => &[(-1, first), (1, second)],
            };
            let conversion = self.conversion(data);
            for (sign, slot) in images {
                f(*sign, conversion.as_ref().map_or(*slot, |conversion| conversion.convert(*slot)));
            }
            if let Some(conversion) = conversion {
                conversion.close();
            }
        }
    }

    /// Where the rows are those of a partition or a chunk.
    fn conversion(&self, data: *mut pg_sys::TriggerData) -> Option<Conversion> {
        // SAFETY: the relation is open for the trigger's duration.
        (self.table != self.target()).then(|| unsafe { Conversion::new((*(*data).tg_relation).rd_att, self.table) })
    }

    fn scan(
        &self,
        data: *mut pg_sys::TriggerData,
        store: *mut pg_sys::Tuplestorestate,
        mut f: impl FnMut(*mut pg_sys::TupleTableSlot),
    ) {
        // SAFETY: pointer 0 is the one every tuplestore has; the slot has the table's row type, which is that of the
        // stored tuples, and is dropped before the trigger returns (an error frees it with its memory context).
        unsafe {
            pg_sys::tuplestore_select_read_pointer(store, 0);
            pg_sys::tuplestore_rescan(store);
            let descriptor = (*(*data).tg_relation).rd_att;
            let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &pg_sys::TTSOpsMinimalTuple);
            let conversion = self.conversion(data);
            while pg_sys::tuplestore_gettupleslot(store, true, false, slot) {
                f(conversion.as_ref().map_or(slot, |conversion| conversion.convert(slot)));
            }
            if let Some(conversion) = conversion {
                conversion.close();
            }
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        }
    }

    /// What a row trigger called before the change gives back: the row as it is to be.
    fn unchanged_row(&self) -> pg_sys::Datum {
        let Rows::Row(data) = self.rows else { return pg_sys::Datum::null() };
        // SAFETY: the tuples live as long as the call.
        let row = unsafe { if self.event == Event::Update { (*data).tg_newtuple } else { (*data).tg_trigtuple } };
        pg_sys::Datum::from(row)
    }
}

super::version_1!(pg_finfo_begin_wrapper);

/// `pulso.begin() returns trigger`
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn begin_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    match TriggerCall::of(fcinfo) {
        Some(call) => {
            crate::rollup::begin(&call);
            call.unchanged_row()
        }
        None => error!("pulso.begin() can only be called by a trigger"),
    }
}

super::version_1!(pg_finfo_capture_wrapper);

/// `pulso.capture() returns trigger`
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn capture_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    match TriggerCall::of(fcinfo) {
        Some(call) if call.is_of_row() && statement::keep(&call) => {}
        Some(call) => crate::rollup::capture(&call),
        None => error!("pulso.capture() can only be called by a trigger"),
    }
    pg_sys::Datum::null()
}
