//! Rows that row triggers have captured, kept until their statement has ended: as transition tables, made here.
//!
//! A statement's AFTER triggers fire in the executor's finish, or, of COPY, within the utility. Where the library was
//! loaded too late to stand around those, and in workers that apply changes of another server, rows are not kept.

use super::transition::{Event, TriggerCall};
use super::{as_of, xact};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};

/// Rows that one event of a statement took away from a table, and those that it put there.
pub struct Kept {
    subtransaction: u32,
    pub table: pg_sys::Oid,
    pub event: Event,
    /// In the memory of the subtransaction, with which it goes.
    old: *mut pg_sys::Tuplestorestate,
    new: *mut pg_sys::Tuplestorestate,
}

thread_local! {
    /// The subtransactions of the statements underway.
    static UNDERWAY: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
    static NEXT_FINISH: Cell<pg_sys::ExecutorFinish_hook_type> = const { Cell::new(None) };
    static NEXT_UTILITY: Cell<pg_sys::ProcessUtility_hook_type> = const { Cell::new(None) };
}

/// Once per process.
pub fn register() {
    xact::at_end(|_| {
        KEPT.with_borrow_mut(Vec::clear);
        UNDERWAY.with_borrow_mut(Vec::clear);
    });
    as_of::at_subabort(|aborted| {
        KEPT.with_borrow_mut(|all| all.retain(|kept| kept.subtransaction < aborted));
        UNDERWAY.with_borrow_mut(|all| all.retain(|subtransaction| *subtransaction < aborted));
    });
    // SAFETY: hooks are chained as Postgres asks; the functions live as long as the library.
    unsafe {
        NEXT_FINISH.set(pg_sys::ExecutorFinish_hook);
        pg_sys::ExecutorFinish_hook = Some(on_finish);
        NEXT_UTILITY.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(on_utility);
    }
}

/// Keeps the rows of a row trigger's call; `false` where nobody would ask for them at the statement's end.
pub fn keep(call: &TriggerCall) -> bool {
    if UNDERWAY.with_borrow(Vec::is_empty) {
        return false;
    }
    let subtransaction = as_of::subtransaction();
    KEPT.with_borrow_mut(|all| {
        let is_same =
            |kept: &Kept| (kept.subtransaction, kept.table, kept.event) == (subtransaction, call.table(), call.event);
        let place = all.iter().position(is_same).unwrap_or_else(|| {
            all.push(Kept::new(subtransaction, call.table(), call.event));
            all.len() - 1
        });
        let Kept { old, new, .. } = all[place];
        call.each_row(|sign, row| {
            // SAFETY: the stores live as long as their subtransaction, which is the current one.
            unsafe { pg_sys::tuplestore_puttupleslot(if sign < 0 { old } else { new }, row) };
        });
    });
    true
}

impl Kept {
    fn new(subtransaction: u32, table: pg_sys::Oid, event: Event) -> Self {
        // SAFETY: memory and files belong to the subtransaction, as those of Postgres's own transition tables do.
        unsafe {
            let (memory, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
            pg_sys::MemoryContextSwitchTo(pg_sys::CurTransactionContext);
            pg_sys::CurrentResourceOwner = pg_sys::CurTransactionResourceOwner;
            let [old, new] = [(); 2].map(|()| pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem));
            pg_sys::CurrentResourceOwner = owner;
            pg_sys::MemoryContextSwitchTo(memory);
            Self { subtransaction, table, event, old, new }
        }
    }

    pub fn each_row(&self, mut f: impl FnMut(i8, *mut pg_sys::TupleTableSlot)) {
        // SAFETY: the table is held open; its row type is that of the stored rows, since the statement that made them has
        // the table locked.
        unsafe {
            let table = pg_sys::table_open(self.table, pg_sys::AccessShareLock as i32);
            let slot = pg_sys::MakeSingleTupleTableSlot((*table).rd_att, &pg_sys::TTSOpsMinimalTuple);
            for (sign, store) in [(-1, self.old), (1, self.new)] {
                pg_sys::tuplestore_rescan(store);
                while pg_sys::tuplestore_gettupleslot(store, true, false, slot) {
                    f(sign, slot);
                }
            }
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::table_close(table, pg_sys::NoLock as i32);
        }
    }

    pub fn end(self) {
        // SAFETY: made by `new`, ended nowhere else.
        unsafe {
            pg_sys::tuplestore_end(self.old);
            pg_sys::tuplestore_end(self.new);
        }
    }
}

/// A statement has ended: what is kept of it is captured. Rows of an outer subtransaction are left to their own
/// statement's end, since what is written now may be rolled back without them.
fn end_statement(command: u32) {
    let subtransaction = as_of::subtransaction();
    let ended: Vec<Kept> = KEPT.with_borrow_mut(|all| {
        let (ended, others) = std::mem::take(all).into_iter().partition(|kept| kept.subtransaction == subtransaction);
        *all = others;
        ended
    });
    for kept in ended {
        let call = TriggerCall::of_kept(kept);
        crate::rollup::capture(&call);
        call.end();
    }
    crate::rollup::end(command);
}

/// Postgres's own, not pgrx's wrappers: those turn an error into a panic and back, and an error that is not ours would
/// lose what applications look at, such as the name of the constraint. What calls them has nothing to drop, so that an
/// error may leap over it.
mod postgres {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        pub fn standard_ExecutorFinish(query: *mut pg_sys::QueryDesc);
        pub fn standard_ProcessUtility(
            statement: *mut pg_sys::PlannedStmt,
            text: *const std::ffi::c_char,
            is_read_only: bool,
            context: pg_sys::ProcessUtilityContext::Type,
            params: pg_sys::ParamListInfo,
            environment: *mut pg_sys::QueryEnvironment,
            destination: *mut pg_sys::DestReceiver,
            completion: *mut pg_sys::QueryCompletion,
        );
    }
}

/// A statement is underway.
#[pg_guard]
unsafe extern "C-unwind" fn begun() {
    UNDERWAY.with_borrow_mut(|all| all.push(as_of::subtransaction()));
}

#[pg_guard]
unsafe extern "C-unwind" fn ended(command: u32) {
    UNDERWAY.with_borrow_mut(Vec::pop);
    end_statement(command);
}

unsafe extern "C-unwind" fn on_finish(query: *mut pg_sys::QueryDesc) {
    // SAFETY: Postgres passes a query that has run; a snapshot lives as long as its query.
    unsafe {
        let plan = (*query).plannedstmt;
        let changes = (*query).operation != pg_sys::CmdType::CMD_SELECT || (*plan).hasModifyingCTE;
        // What a foreign key does belongs to the statement that caused it, in whose end its triggers fire.
        let is_part = (*(*query).estate).es_top_eflags as u32 & pg_sys::EXEC_FLAG_SKIP_TRIGGERS != 0;
        let snapshot = (*query).snapshot;
        let counts = changes && !is_part && !snapshot.is_null();
        if counts {
            begun();
        }
        match NEXT_FINISH.get() {
            Some(next) => next(query),
            None => postgres::standard_ExecutorFinish(query),
        }
        if counts {
            ended((*snapshot).curcid);
        }
    }
}

#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn on_utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const std::ffi::c_char,
    is_read_only: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: as Postgres calls it; of the utilities only COPY fires triggers by itself.
    unsafe {
        let is_copy = (*(*statement).utilityStmt).type_ == pg_sys::NodeTag::T_CopyStmt;
        let command = if is_copy { as_of::statement_command() } else { 0 };
        if is_copy {
            begun();
        }
        let run = NEXT_UTILITY.get().unwrap_or(postgres::standard_ProcessUtility);
        run(statement, text, is_read_only, context, params, environment, destination, completion);
        if is_copy {
            ended(command);
        }
    }
}
