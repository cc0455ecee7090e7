//! `pulso.explain_rollup`: what is computed for a rollup, in SQL.

use super::build::find;
use super::capture::names;
use super::layout;
use super::sql::Sql;
use crate::error::{OrRaise, Refusal};
use crate::pg::collect::COLLECTED;
use crate::pg::query::{self, Definition};
use crate::pg::session::{self, Setting};
use pgrx::prelude::*;

#[pg_extern(strict)]
fn explain_rollup(name: &str) -> TableIterator<'static, (name!(step, String), name!(sql, String))> {
    TableIterator::new(explain(name).or_raise())
}

fn explain(name: &str) -> Result<Vec<(String, String)>, Refusal> {
    let rollup = find(name)?;
    let _path = Setting::pinned_path();
    let definition = query::read(rollup.definition)?;
    let sql = Sql::new(rollup.id, names(&rollup), &definition);
    let tables: Vec<String> = definition.tables.iter().map(|table| session::qualified_name(table.relation)).collect();
    let (build, with_specials) = match sql.groups_if_finite() {
        Some(finite) => (finite, Some(sql.groups())),
        None => (sql.groups(), None),
    };
    let steps = [
        ("capture: from", tables.join(", ")),
        ("read", sql.read()),
        ("fold", sql.fold(None)),
        ("fold: remove empty groups", sql.remove()),
        ("build", build),
        ("build: instead, where a number is NaN or infinite", with_specials.unwrap_or_default()),
        ("build: store", sql.store(COLLECTED)),
        ("build: take out what is counted", sql.empty_delta()),
        ("truncate", sql.negate()),
    ];
    let steps = steps.into_iter().filter(|(_, sql)| !sql.is_empty()).map(|(step, sql)| (step.to_owned(), sql));
    let mut steps: Vec<(String, String)> = steps.collect();
    steps.splice(1..1, captured(&definition));
    Ok(steps)
}

/// What is evaluated for each row, by column of the delta.
fn captured(definition: &Definition) -> Vec<(String, String)> {
    let source = definition.source;
    let filter = definition.filter.iter().map(|filter| ("capture: where".to_owned(), filter.sql(source)));
    let keys = layout::keys(definition)
        .into_iter()
        .zip(&definition.keys)
        .map(|(column, key)| (format!("capture: {column}"), key.expression.sql(source)));
    let arguments = definition
        .arguments
        .iter()
        .enumerate()
        .map(|(i, argument)| (format!("capture: x{}", i + 1), argument.expression.sql(source)));
    let added = layout::additives(definition).into_iter().map(|(column, _, sum)| (format!("capture: {column}"), sum));
    filter.chain(keys).chain(arguments).chain(added).collect()
}
