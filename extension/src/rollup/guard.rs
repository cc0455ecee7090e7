//! Unique indexes that make changes of a joined table wait for the rows that use it.
//!
//! A line locks the rows it is joined to as a foreign key does (FOR KEY SHARE). An UPDATE respects that lock where it
//! changes a column of a unique index; so each column that a rollup reads of a joined table must be in one.

use crate::error::Refusal;
use crate::pg::catalog::Rollup;
use crate::pg::query::{self, Definition, Table, column_name};
use crate::pg::session::{self, arg};
use crate::pg::{depend, lookup};
use pgrx::pg_sys;
use pgrx::spi::quote_identifier;

/// Makes the indexes that are missing; all that the rollup rests on cannot be dropped before it.
pub fn make(id: i32, definition: &Definition, view: pg_sys::Oid) -> Result<(), Refusal> {
    for (number, table) in definition.tables.iter().enumerate() {
        let Some(edge) = &table.edge else { continue };
        let relation = session::qualified_name(table.relation);
        let missing = lookup::unguarded(table);
        for column in &missing {
            refuse_unindexable(table, *column, &relation)?;
        }
        if !missing.is_empty() {
            let columns: Vec<String> = edge
                .pairs
                .iter()
                .map(|pair| pair.column)
                .chain(missing)
                .map(|column| quote_identifier(column_name(table.relation, column)))
                .collect();
            session::run(
                &format!("create unique index pulso_{id}_{number}_key on {relation} ({})", columns.join(", ")),
                &[],
            );
        }
        depend::on_constraint(view, edge.constraint);
        for index in indexes_with(table) {
            depend::on_index(view, index);
        }
    }
    Ok(())
}

/// Refuses a rollup that would need an index first: making one keeps writers waiting.
pub fn refuse_missing(definition: &Definition) -> Result<(), Refusal> {
    for table in definition.tables.iter().filter(|table| table.edge.is_some()) {
        let missing = lookup::unguarded(table);
        if !missing.is_empty() {
            let names: Vec<String> =
                missing.iter().map(|column| quote_identifier(column_name(table.relation, *column))).collect();
            return Err(Refusal::Join {
                table: session::qualified_name(table.relation),
                why: format!("no unique index has its column {}", names.join(", ")),
                hint: "Writers would wait while one is made. Make it first: create unique index concurrently on it, with \
                       its key and these columns.",
            });
        }
    }
    Ok(())
}

/// Drops the indexes made for rollups that are gone. `rollups`: those that remain.
pub fn sweep(table: pg_sys::Oid, rollups: &[Rollup]) -> Result<(), Refusal> {
    const MADE: &str = "
        select pg_catalog.array_agg(c.oid)
          from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
         where i.indrelid = $1 and c.relname ~ '^pulso_[0-9]+_[0-9]+_key$'";
    const COLUMNS_WITHOUT: &str = "
        select pg_catalog.array_agg(distinct k.column)
          from pg_catalog.pg_index i cross join pg_catalog.unnest(i.indkey::pg_catalog.int2[]) with ordinality as k (\"column\", place)
         where i.indrelid = $1 and i.indexrelid <> $2 and i.indisunique and i.indexprs is null and i.indpred is null
           and k.place <= i.indnkeyatts";
    let made: Vec<pg_sys::Oid> = session::one(MADE, &[arg(table)]).unwrap_or_default();
    let mut needed = Vec::new();
    for rollup in rollups.iter().filter(|rollup| !made.is_empty() && rollup.joined.contains(&table)) {
        for read in query::read(rollup.definition)?.tables.iter().filter(|read| read.relation == table) {
            needed.extend_from_slice(&read.columns);
        }
    }
    for index in made {
        let others: Vec<i16> = session::one(COLUMNS_WITHOUT, &[arg(table), arg(index)]).unwrap_or_default();
        if needed.iter().all(|column| others.contains(column)) {
            session::run(&format!("drop index {}", session::qualified_index(index)), &[]);
        }
    }
    Ok(())
}

/// The unique indexes that hold a column that the rollup reads.
fn indexes_with(table: &Table) -> Vec<pg_sys::Oid> {
    const HOLDING: &str = "
        select pg_catalog.array_agg(i.indexrelid)
          from pg_catalog.pg_index i
         where i.indrelid = $1 and i.indisunique and i.indexprs is null and i.indpred is null
           and exists (select from pg_catalog.unnest(i.indkey::pg_catalog.int2[]) with ordinality as k (\"column\", place)
                        where k.place <= i.indnkeyatts and k.column = any ($2))";
    session::one(HOLDING, &[arg(table.relation), arg(table.columns.clone())]).unwrap_or_default()
}

/// Refuses a column whose values may be too long for an index, or have no order.
fn refuse_unindexable(table: &Table, column: i16, relation: &str) -> Result<(), Refusal> {
    const UNFIT: &str = "
        select pg_catalog.format_type(a.atttypid, a.atttypmod)
          from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
         where a.attrelid = $1 and a.attnum = $2
           and (t.typcategory in ('A', 'C', 'G', 'X') or (t.typlen < 0 and t.typcategory = 'U'))";
    let unfit: Option<String> = session::one(UNFIT, &[arg(table.relation), arg(column)]);
    match unfit {
        None => Ok(()),
        Some(type_name) => Err(Refusal::Join {
            table: relation.to_owned(),
            why: format!(
                "its column {}, of type {type_name}, cannot be in a unique index",
                quote_identifier(column_name(table.relation, column))
            ),
            hint: "Keep what the rollup needs of it in a column of its own: generated always as (…) stored.",
        }),
    }
}
