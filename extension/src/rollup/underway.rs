//! Statements on joined tables that have begun and whose changes are not counted yet.
//!
//! A join's changes are counted table by table, each when its statement ends. What one table's change is worth depends
//! on the rows of the others: those that are *counted* so far. Where another table has a statement underway (a CTE that
//! writes both, a cascade, a trigger), its rows are read as they were before that statement; when it is counted in
//! its turn, it finds the first table's changes. So the order does not matter, and each product of changes counts once.

use crate::error::Refusal;
use crate::pg::transition::Event;
use crate::pg::{as_of, session, xact};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;

#[derive(Default)]
struct Table {
    /// Statements underway, the innermost last.
    statements: Vec<Statement>,
    /// The last command whose changes are counted.
    counted: Option<u32>,
}

struct Statement {
    event: Event,
    command: u32,
    subtransaction: u32,
    /// Whether another table was counted against the rows as they were before it.
    was_bypassed: bool,
    /// Noted by the first of its rows: it may turn out to have none, and then nothing but its end takes it off.
    is_by_row: bool,
}

thread_local! {
    static TABLES: RefCell<HashMap<pg_sys::Oid, Table>> = RefCell::default();
}

pub fn register() {
    xact::at_end(|_| TABLES.with_borrow_mut(HashMap::clear));
    as_of::at_subabort(|aborted| {
        TABLES.with_borrow_mut(|tables| {
            for table in tables.values_mut() {
                table.statements.retain(|statement| statement.subtransaction < aborted);
            }
        });
    });
}

/// A statement on a table begins, or a row of one.
pub fn begin(table: pg_sys::Oid, event: Event, is_by_row: bool) {
    let (command, subtransaction) = (as_of::statement_command(), as_of::subtransaction());
    TABLES.with_borrow_mut(|tables| {
        let statements = &mut tables.entry(table).or_default().statements;
        let is_known = |s: &Statement| s.is_by_row && (s.event, s.command) == (event, command);
        if !is_by_row || !statements.iter().any(is_known) {
            statements.push(Statement { event, command, subtransaction, was_bypassed: false, is_by_row });
        }
    });
}

/// A statement of this subtransaction has ended with all that it caused, and its rows are counted.
pub fn end(command: u32) {
    let subtransaction = as_of::subtransaction();
    TABLES.with_borrow_mut(|tables| {
        for table in tables.values_mut() {
            table.statements.retain(|s| !s.is_by_row || s.command < command || s.subtransaction != subtransaction);
        }
    });
}

/// A statement whose changes are being counted: until [`Counting::done`] they are not.
pub struct Counting {
    table: pg_sys::Oid,
    event: Event,
    /// The command at which counting began: the changes are older.
    command: u32,
}

impl Counting {
    pub fn of(table: pg_sys::Oid, event: Event) -> Self {
        Self { table, event, command: as_of::next_command() }
    }

    /// In [`as_of::in_snapshot`]: shows the changes that are counted, too.
    pub fn see_own(&self) {
        as_of::see_before(self.command);
    }

    /// The command before which the changes of another table are counted.
    pub fn counted_before(&self, table: pg_sys::Oid) -> Result<u32, Refusal> {
        TABLES.with_borrow_mut(|known| {
            let Some(state) = known.get_mut(&table) else { return Ok(self.command) };
            let Some(first) = state.statements.iter().map(|statement| statement.command).min() else {
                return Ok(self.command);
            };
            // A statement within that one is counted already, so that no moment has just what is counted.
            if state.counted.is_some_and(|counted| counted >= first) {
                return Err(Refusal::Entangled { table: session::qualified_name(table) });
            }
            state.statements.iter_mut().for_each(|statement| statement.was_bypassed = true);
            Ok(first)
        })
    }

    /// Whether rows of `tables` can refer to rows that this statement put there or took away: foreign keys forbid it
    /// but between the statements of one command.
    pub fn may_be_referred(&self, mut tables: impl Iterator<Item = pg_sys::Oid>) -> bool {
        TABLES.with_borrow(|known| {
            let underway = |table| known.get(&table).is_some_and(|state: &Table| !state.statements.is_empty());
            let bypassed = known.get(&self.table).is_some_and(|state| {
                state.statements.iter().any(|statement| statement.event == self.event && statement.was_bypassed)
            });
            bypassed || tables.any(underway)
        })
    }

    /// The changes are counted. `touched`: some are of what rollups read.
    pub fn done(self, touched: bool) {
        TABLES.with_borrow_mut(|known| {
            let state = known.entry(self.table).or_default();
            let place = state.statements.iter().rposition(|statement| statement.event == self.event);
            let begun = place.map(|place| state.statements.remove(place).command);
            if !touched {
                return;
            }
            // All its changes were made before the command at which counting began.
            let last = begun.unwrap_or(0).max(self.command.saturating_sub(1));
            state.counted = Some(state.counted.map_or(last, |counted| counted.max(last)));
        });
    }
}
