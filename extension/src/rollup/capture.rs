//! Capture: what a statement changed becomes deltas, one per group, appended in the same transaction.

use super::groups::{Groups, Shape};
use super::sql::{Names, Sql};
use super::truncate;
use crate::generation;
use crate::pg::catalog::{self, Rollup};
use crate::pg::invalidation;
use crate::pg::project::Projector;
use crate::pg::query::{self, Definition};
use crate::pg::session::{self, AsRole, PinnedPath};
use crate::pg::transition::{Event, TriggerCall};
use crate::pg::append::{DeltaTable, Rows};
use crate::pg::project;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A rollup made ready for capture.
struct Capture {
    rollup: Rollup,
    delta: DeltaTable,
    /// Of the statement at hand; kept for the memory they hold.
    changes: RefCell<(Groups, Rows)>,
    /// Kept where all functions are built in. Others may hold on to what ends with a transaction, so they are compiled
    /// at each statement.
    projector: Option<RefCell<Projector>>,
}

thread_local! {
    /// The rollups of each table, until something about one of them changes.
    static TABLES: RefCell<HashMap<pg_sys::Oid, Rc<Vec<Capture>>>> = RefCell::default();
}

/// Called once per statement and table, for all rollups of the table.
pub fn capture(call: &TriggerCall) {
    for capture in captures_of(call.table()).iter() {
        match (&capture.projector, call.event) {
            (_, Event::Truncate) => capture.negate(),
            (Some(projector), _) => capture.append_changes(call, &mut projector.borrow_mut()),
            (None, _) => {
                let _path = PinnedPath::pin();
                let _role = AsRole::become_role(capture.rollup.owner);
                let mut projector = Projector::compile(&capture.definition(), project::for_this_call());
                capture.append_changes(call, &mut projector);
            }
        }
    }
}

impl Capture {
    fn new(rollup: Rollup) -> Self {
        let _path = PinnedPath::pin();
        let _role = AsRole::become_role(rollup.owner);
        let definition = query::read(rollup.definition).unwrap_or_else(|refusal| refusal.raise());
        let projector = definition
            .expressions()
            .all(query::Expression::is_built_in)
            .then(|| RefCell::new(Projector::compile(&definition, project::for_the_session())));
        let delta = DeltaTable::new(rollup.delta);
        let changes = RefCell::new((Groups::new(Shape::of(&definition)), Rows::default()));
        Self { rollup, delta, changes, projector }
    }

    fn definition(&self) -> Definition {
        query::read(self.rollup.definition).unwrap_or_else(|refusal| refusal.raise())
    }

    fn append_changes(&self, call: &TriggerCall, projector: &mut Projector) {
        let (groups, rows) = &mut *self.changes.borrow_mut();
        groups.clear();
        call.each_row(|sign, row| {
            if let Some(values) = projector.evaluate(row) {
                groups.add(sign, &values);
            }
        });
        if !groups.are_unchanged() {
            rows.clear();
            groups.write(generation::of_this_transaction(), rows);
            self.delta.append(rows);
        }
    }

    fn negate(&self) {
        let _path = PinnedPath::pin();
        let definition = self.definition();
        truncate::negate(&Sql::new(self.rollup.id, names(&self.rollup), &definition), self.rollup.owner);
    }
}

/// The relations of a rollup by name.
pub fn names(rollup: &Rollup) -> Names {
    Names {
        view: session::qualified_name(rollup.view),
        definition: session::qualified_name(rollup.definition),
        base: session::qualified_name(rollup.base),
        delta: session::qualified_name(rollup.delta),
    }
}

fn captures_of(table: pg_sys::Oid) -> Rc<Vec<Capture>> {
    if invalidation::take() {
        TABLES.take();
    }
    if let Some(captures) = TABLES.with_borrow(|tables| tables.get(&table).cloned()) {
        return captures;
    }
    invalidation::watch(table);
    let rollups = catalog::rollups().into_iter().filter(|rollup| rollup.source == table);
    let captures: Rc<Vec<Capture>> = Rc::new(
        rollups
            .map(|rollup| {
                invalidation::watch(rollup.definition);
                invalidation::watch(rollup.delta);
                Capture::new(rollup)
            })
            .collect(),
    );
    TABLES.with_borrow_mut(|tables| tables.insert(table, Rc::clone(&captures)));
    captures
}
