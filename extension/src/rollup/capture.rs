//! Capture: what a statement changed becomes deltas, one per group, appended in the same transaction.

use super::groups::{Groups, Shape};
use super::joined::Joined;
use super::sql::{Names, Sql};
use super::truncate;
use super::underway::{self, Counting};
use crate::error::{OrRaise, Refusal};
use crate::generation;
use crate::pg::append::{DeltaTable, Rows};
use crate::pg::catalog::{self, Rollup};
use crate::pg::invalidation;
use crate::pg::project::{self, Columns, Projector};
use crate::pg::query::{self, Definition};
use crate::pg::session::{self, AsRole, Setting};
use crate::pg::transition::{Event, TriggerCall};
use crate::pg::{tree, xact};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Rollups of one table whose rows pass the same filter: each row is evaluated once for all of them.
struct Set {
    members: Vec<Member>,
    /// Kept where all functions are built in. Others may hold on to what ends with a transaction, so they are compiled
    /// at each statement; such a rollup is a set of its own.
    projector: Option<RefCell<Projector>>,
    /// Where tables are joined; such a rollup is a set of its own.
    joined: Option<RefCell<Joined>>,
}

/// A rollup made ready for capture.
struct Member {
    rollup: Rollup,
    columns: Columns,
    delta: DeltaTable,
    /// Of the statement at hand; kept for the memory they hold.
    changes: RefCell<(Groups, Rows)>,
}

#[derive(Default)]
struct Tables {
    /// In which they were looked up.
    epoch: u64,
    sets: HashMap<pg_sys::Oid, Rc<Vec<Set>>>,
}

thread_local! {
    /// The rollups of each table, until something about one of them changes.
    static TABLES: RefCell<Tables> = RefCell::default();
}

/// Called before each statement on a table that is joined, or before each of its rows.
pub fn begin(call: &TriggerCall) {
    underway::begin(call.table(), call.event, call.is_of_row());
}

/// Called after each statement whose rows may be captured one by one.
pub fn end(command: u32) {
    underway::end(command);
}

/// Called once per statement, table and event, for all rollups of the table.
pub fn capture(call: &TriggerCall) {
    let sets = sets_of(call.table());
    if call.event == Event::Truncate {
        // Where a joined table is emptied, so are the tables that refer to it, and theirs is the change.
        let members = sets.iter().flat_map(|set| &set.members);
        members.filter(|member| member.rollup.source == call.table()).for_each(|member| member.negate(call.target()));
        return;
    }
    let is_joined = sets.iter().any(|set| set.joined.is_some());
    let counting = is_joined.then(|| Counting::of(call.table(), call.event));
    let mut touched = false;
    for set in sets.iter() {
        match &set.projector {
            Some(projector) => touched |= set.append_changes(call, counting.as_ref(), &mut projector.borrow_mut()),
            None => {
                let _path = Setting::pinned_path();
                let Some(Member { rollup, .. }) = set.members.first() else { continue };
                let _role = AsRole::become_role(rollup.owner);
                let (mut projector, _) = Projector::compile(&[definition(rollup)], project::for_this_call());
                touched |= set.append_changes(call, counting.as_ref(), &mut projector);
            }
        }
    }
    if let Some(counting) = counting {
        counting.done(touched);
    }
}

impl Set {
    /// Sorts rollups into sets.
    fn of(rollups: Vec<Rollup>) -> Vec<Self> {
        let _path = Setting::pinned_path();
        let mut together: Vec<(Vec<Rollup>, Vec<Definition>)> = Vec::new();
        for rollup in rollups {
            let definition = definition(&rollup);
            let fits = |(rollups, definitions): &&mut (Vec<Rollup>, Vec<Definition>)| {
                rollups[0].owner == rollup.owner
                    && definitions[0].filter == definition.filter
                    && !definition.is_joined()
                    && !definitions[0].is_joined()
                    && definition.is_built_in()
                    && definitions[0].is_built_in()
            };
            match together.iter_mut().find(fits) {
                Some((rollups, definitions)) => {
                    rollups.push(rollup);
                    definitions.push(definition);
                }
                None => together.push((vec![rollup], vec![definition])),
            }
        }
        together.into_iter().map(|(rollups, definitions)| Self::new(rollups, &definitions)).collect()
    }

    fn new(rollups: Vec<Rollup>, definitions: &[Definition]) -> Self {
        let _role = AsRole::become_role(rollups[0].owner);
        let (projector, columns) = Projector::compile(definitions, project::for_the_session());
        let joined = definitions[0].is_joined().then(|| {
            let sql = Sql::new(rollups[0].id, names(&rollups[0]), &definitions[0]);
            let joined = Joined::new(&definitions[0], &sql, rollups[0].owner);
            RefCell::new(joined.unwrap_or_else(|refusal| refusal.raise()))
        });
        let members = rollups.into_iter().zip(definitions).zip(columns).map(|((rollup, definition), columns)| {
            let delta = DeltaTable::new(rollup.delta);
            let changes = RefCell::new((Groups::new(Shape::of(definition)), Rows::default()));
            Member { rollup, columns, delta, changes }
        });
        let members = members.collect();
        Self { members, projector: definitions[0].is_built_in().then(|| RefCell::new(projector)), joined }
    }

    /// `false` where the statement changed nothing that a rollup reads of a joined table.
    fn append_changes(&self, call: &TriggerCall, counting: Option<&Counting>, projector: &mut Projector) -> bool {
        for member in &self.members {
            member.changes.borrow_mut().0.clear();
        }
        if let (Some(joined), Some(counting), [member]) = (&self.joined, counting, self.members.as_slice()) {
            let touched = {
                let groups = &mut member.changes.borrow_mut().0;
                joined.borrow_mut().collect(call, counting, projector, &member.columns, groups)
            };
            member.append();
            return touched;
        }
        call.each_row(|sign, row| {
            if let Some(values) = projector.evaluate(row) {
                for member in &self.members {
                    member.changes.borrow_mut().0.add(sign, &values, &member.columns);
                }
            }
        });
        self.members.iter().for_each(Member::append);
        false
    }
}

impl Member {
    fn append(&self) {
        let (groups, rows) = &mut *self.changes.borrow_mut();
        if !groups.are_unchanged() {
            rows.clear();
            groups.write(generation::of_this_transaction(), rows);
            self.delta.append(rows);
        }
    }

    /// `table`: the one that is emptied, the source or a partition of it.
    fn negate(&self, table: pg_sys::Oid) {
        let _path = Setting::pinned_path();
        let is_hypertable = tree::may_be_hypertable(table) && session::is_hypertable(table);
        // What is left is not empty, so that nothing tells whether its snapshot explains it.
        if (is_hypertable || table != self.rollup.source) && xact::keeps_one_snapshot() {
            Err(Refusal::Isolation { function: "TRUNCATE of a partition or a hypertable with rollups" }).or_raise()
        }
        let definition = definition(&self.rollup);
        let sql = Sql::new(self.rollup.id, names(&self.rollup), &definition).of_part(table);
        truncate::negate(&sql, self.rollup.owner);
    }
}

fn definition(rollup: &Rollup) -> Definition {
    query::read(rollup.definition).unwrap_or_else(|refusal| refusal.raise())
}

/// The relations of a rollup by name.
pub fn names(rollup: &Rollup) -> Names {
    Names {
        view: session::qualified_name(rollup.view),
        definition: session::qualified_name(rollup.definition),
        base: session::qualified_name(rollup.base),
        delta: session::qualified_name(rollup.delta),
        companions: catalog::companions(rollup.id).iter().map(|one| session::qualified_name(one.view)).collect(),
    }
}

/// A table that has become a hypertable may need other triggers than those that are there.
fn refuse_wrong_mode(table: pg_sys::Oid, rollups: &[Rollup]) {
    let Some(rollup) = rollups.first() else { return };
    if !tree::may_be_hypertable(table) {
        return;
    }
    let _path = Setting::pinned_path();
    let _role = AsRole::become_role(rollup.owner);
    let is_wrong: Option<bool> = session::one(
        "select pulso.wanted_mode($1) = 'row' and pulso.capture_mode($1) <> 'row'",
        &[session::arg(table)],
    );
    if is_wrong == Some(true) {
        Err(Refusal::Mode { table: session::qualified_name(table) }).or_raise()
    }
}

fn sets_of(table: pg_sys::Oid) -> Rc<Vec<Set>> {
    let epoch = invalidation::epoch();
    let known = TABLES.with_borrow_mut(|tables| {
        if tables.epoch != epoch {
            tables.epoch = epoch;
            tables.sets.clear();
        }
        tables.sets.get(&table).cloned()
    });
    if let Some(sets) = known {
        return sets;
    }
    invalidation::watch(table);
    let rollups: Vec<Rollup> = catalog::rollups().into_iter().filter(|rollup| rollup.reads(table)).collect();
    refuse_wrong_mode(table, &rollups);
    rollups.iter().for_each(watch);
    let sets = Rc::new(Set::of(rollups));
    // Whatever has changed meanwhile is looked up again at the next statement.
    TABLES.with_borrow_mut(|tables| tables.sets.insert(table, Rc::clone(&sets)));
    sets
}

/// From now on, changes of what a rollup rests on count.
pub fn watch(rollup: &Rollup) {
    let own = [&rollup.view, &rollup.definition, &rollup.delta, &rollup.source];
    own.into_iter().chain(&rollup.joined).for_each(|relation| invalidation::watch(*relation));
}
