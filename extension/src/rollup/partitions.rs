//! The partitions of a rollup's table: each has triggers of its own, since a statement that names a partition fires no
//! other; and what is attached or detached is counted or taken away in the same transaction, under its lock.
//!
//! Which partitions a rollup knows is noted with it. Event triggers compare after each CREATE and ALTER TABLE.

use super::capture::names;
use super::sql::Sql;
use super::{build, create, triggers};
use crate::error::{OrRaise, Refusal};
use crate::generation;
use crate::pg::catalog::{self, Rollup};
use crate::pg::session::{self, AsRole, Setting, arg};
use crate::pg::{latest, query, tree, xact};
use pgrx::prelude::*;

/// All partitions of a table, at every level; none of one that is not partitioned.
pub fn of(table: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    if !tree::is_partitioned(table) {
        return Vec::new();
    }
    session::one("select pulso.partitions($1)::oid[]", &[arg(table)]).unwrap_or_default()
}

/// Keeps partitions from coming and going until the transaction ends; nobody who reads or writes waits for that.
pub fn keep(table: pg_sys::Oid) {
    if tree::is_partitioned(table) {
        let name = session::qualified_name(table);
        session::run(&format!("lock table only {name} in share update exclusive mode"), &[]);
    }
}

/// Brings a rollup in line with the partitions that its table has now.
#[pg_extern(strict)]
fn follow_partitions(id: i32) {
    follow(id).or_raise();
}

fn follow(id: i32) -> Result<(), Refusal> {
    let Some(rollup) = build::by_id(id) else { return Ok(()) };
    // What others did since its snapshot it could not count.
    if xact::keeps_one_snapshot() {
        return Err(Refusal::Isolation { function: "a change of the partitions of a table with rollups" });
    }
    let _path = Setting::pinned_path();
    let change = Change::of(&rollup);
    change.put_triggers(&rollup)?;
    let definition = query::read(rollup.definition)?;
    let generation = generation::of_this_transaction();
    let role = AsRole::become_role(rollup.owner);
    for (tables, come) in [(&change.come, true), (&change.gone, false)] {
        for table in tables.iter().filter(|table| tree::holds_rows(**table)) {
            let sql = Sql::new(id, names(&rollup), &definition).of_part(*table);
            latest::run_in_latest_snapshot(&if come { sql.count() } else { sql.negate() }, generation);
        }
    }
    drop(role);
    change.note(&rollup);
    Ok(())
}

/// Where a rollup is filled anew, whatever partitions it knows: those that are there now. The caller keeps them there.
pub fn adopt(rollup: &Rollup) -> Result<(), Refusal> {
    let change = Change::of(rollup);
    if !change.come.is_empty() || !change.gone.is_empty() {
        change.put_triggers(rollup)?;
        change.note(rollup);
    }
    Ok(())
}

/// How the partitions of a rollup's table differ from those that it knows.
struct Change {
    now: Vec<pg_sys::Oid>,
    come: Vec<pg_sys::Oid>,
    /// Detached: those that were dropped are not known any more.
    gone: Vec<pg_sys::Oid>,
}

impl Change {
    fn of(rollup: &Rollup) -> Self {
        let now = of(rollup.source);
        let known: Vec<pg_sys::Oid> =
            session::one("select r.partitions::oid[] from pulso.rollup r where r.id = $1", &[arg(rollup.id)])
                .unwrap_or_default();
        let come = now.iter().copied().filter(|table| !known.contains(table)).collect();
        let gone = known.into_iter().filter(|table| !now.contains(table)).collect();
        Self { now, come, gone }
    }

    fn put_triggers(&self, rollup: &Rollup) -> Result<(), Refusal> {
        for table in &self.come {
            create::refuse_partition(*table, rollup.owner)?;
        }
        let _role = AsRole::become_role(session::extension_owner());
        triggers::create(rollup.source, &rollup.joined);
        let rollups = catalog::rollups();
        // One that has become a table of its own, or of another tree, feeds what reads it there.
        self.gone.iter().for_each(|table| triggers::sweep_table(*table, tree::root_of(*table), &rollups));
        Ok(())
    }

    fn note(&self, rollup: &Rollup) {
        let _role = AsRole::become_role(session::extension_owner());
        session::run(
            "update pulso.rollup set partitions = $2::oid[]::regclass[] where id = $1",
            &[arg(rollup.id), arg(self.now.clone())],
        );
        session::invalidate(rollup.source);
    }
}

/// A partition that is detached concurrently is neither there nor gone for a while, and no snapshot tells which.
pub fn refuse_concurrent_detach(table: pg_sys::Oid) {
    let root = tree::root_of(table);
    if catalog::rollups().iter().any(|rollup| rollup.reads(root)) {
        Err(Refusal::Detach { table: session::qualified_name(root) }).or_raise()
    }
}
