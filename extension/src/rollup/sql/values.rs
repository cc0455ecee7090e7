//! Values counted one by one: what a rollup keeps for count(distinct), min, max and percentiles.
//!
//! Such aggregates have no inverse, but the number of times that a value occurs in a group has: each is read from a
//! companion, a rollup that groups by the value as well. A read goes over the different values of the groups that it
//! asks for.

use super::{Sql, joined};
use crate::pg::query::{Percentile, Shown};
use pgrx::pg_sys;
use pgrx::spi::quote_identifier;

/// The value in a companion's view; its names begin so where they are not those of the rollup's own columns.
const VALUE: &str = "pulso_value";
const ROWS: &str = "pulso_rows";
pub const OWN_PREFIX: &str = "pulso_";

/// A column that a companion adds to the rollup.
struct Column {
    name: String,
    companion: usize,
    type_sql: String,
    /// Over a group's values v; where they are ranked, with cum, cud (rows up to there, from either end) and total.
    of_values: String,
    /// Over what has one value of it, beside NULLs.
    passed_on: &'static str,
}

impl Sql<'_> {
    /// The query of a companion.
    pub fn companion(&self, companion: usize) -> String {
        let source = self.definition.source;
        let keys =
            joined(&self.definition.keys.iter().zip(self.companion_keys()).collect::<Vec<_>>(), "", |(key, name)| {
                format!("{} as {name}, ", key.expression.sql(source))
            });
        let places: Vec<String> = (1..=self.keys.len() + 1).map(|place| place.to_string()).collect();
        format!(
            "select {keys}{} as {VALUE}, pg_catalog.count(*) as {ROWS} from {} group by {}",
            self.definition.companions[companion].expression.sql(source),
            self.tables_and_filter(None),
            places.join(", ")
        )
    }

    /// The names of the keys in a companion's view: those of the rollup's, where it shows them.
    fn companion_keys(&self) -> Vec<String> {
        let name = |key: usize| {
            let output =
                self.definition.outputs.iter().find(|output| matches!(output.shown, Shown::Key(i) if i == key));
            output.map_or_else(|| format!("{OWN_PREFIX}k{}", key + 1), |output| quote_identifier(&output.name))
        };
        (0..self.keys.len()).map(name).collect()
    }

    /// What stands beside base and deltas in the read: further branches of the union, and the columns they have.
    pub(super) fn values(&self) -> Values {
        let columns = self.value_columns();
        let nulls = joined(&columns, "", |column| format!(", null::{} as {}", column.type_sql, column.name));
        let branches: Vec<String> =
            (0..self.definition.companions.len()).map(|companion| self.branch(companion, &columns)).collect();
        let passed = joined(&columns, "", |column| {
            let name = &column.name;
            match column.passed_on {
                "sum" => format!(", coalesce(pg_catalog.sum({name}), 0)::pg_catalog.int8 as {name}"),
                aggregate => format!(", pg_catalog.{aggregate}({name}) as {name}"),
            }
        });
        Values { nulls, branches: branches.concat(), passed }
    }

    fn branch(&self, companion: usize, columns: &[Column]) -> String {
        let own = |column: &&Column| column.companion == companion;
        let keys = joined(&self.keys, "", |key| format!("{key}, "));
        let named: String =
            self.companion_keys().iter().zip(&self.keys).map(|(name, key)| format!("{name} as {key}, ")).collect();
        let partition = if self.keys.is_empty() {
            String::new()
        } else {
            format!("partition by {} ", self.companion_keys().join(", "))
        };
        let view = &self.names.companions[companion];
        let is_ranked = columns.iter().filter(own).any(|column| column.of_values.contains("total"));
        let values = if is_ranked {
            let sum = |order: &str| format!("(pg_catalog.sum({ROWS}) over ({partition}{order}))::pg_catalog.int8");
            format!(
                "select {named}{VALUE} as v, {} as cum, {} as cud, {} as total from {view} where {VALUE} is not null",
                sum(&format!("order by {VALUE}")),
                sum(&format!("order by {VALUE} desc")),
                sum("")
            )
        } else {
            format!("select {named}{VALUE} as v from {view}")
        };
        let zeros = joined(&self.additives, ", ", |(name, kind, _)| format!("0::{} as {name}", kind.sql()));
        let shown = joined(columns, "", |column| {
            if own(&column) {
                format!(", {} as {}", column.of_values, column.name)
            } else {
                format!(", null::{} as {}", column.type_sql, column.name)
            }
        });
        format!(" union all select {keys}{zeros}{shown} from ({values}) as c{}", self.group_by_keys())
    }

    fn value_columns(&self) -> Vec<Column> {
        let mut columns: Vec<Column> = Vec::new();
        for (number, output) in self.definition.outputs.iter().enumerate() {
            let type_of = |companion: usize| self.definition.companions[companion].type_sql.clone();
            let (companion, of_values, passed_on, type_sql) = match output.shown {
                Shown::Distinct(i) => (i, "pg_catalog.count(v)".to_owned(), "sum", "pg_catalog.int8".to_owned()),
                Shown::Least(i) => (i, "pg_catalog.min(v)".to_owned(), "min", type_of(i)),
                Shown::Greatest(i) => (i, "pg_catalog.max(v)".to_owned(), "max", type_of(i)),
                Shown::Percentile(i, percentile) => {
                    let type_oid = self.definition.companions[i].type_oid;
                    (i, at_percentile(percentile, type_oid), "min", type_of(i))
                }
                _ => continue,
            };
            columns.push(Column { name: format!("v{number}"), companion, type_sql, of_values, passed_on });
        }
        columns
    }
}

/// Parts of the read, each with its own separator in front; empty where there are no companions.
#[derive(Default)]
pub(super) struct Values {
    pub nulls: String,
    pub branches: String,
    pub passed: String,
}

/// As Postgres's ordered-set aggregates have it (orderedsetaggs.c): the value at row `ceil(fraction × rows)`, or
/// between those at `fraction × (rows - 1)` rounded down and up.
fn at_percentile(percentile: Percentile, type_oid: pg_sys::Oid) -> String {
    let Percentile { fraction, continuous, descending } = percentile;
    let (first, rank) = if descending { ("max", "cud") } else { ("min", "cum") };
    let fraction = format!("'{fraction:?}'::pg_catalog.float8");
    if !continuous {
        return format!(
            "pg_catalog.{first}(v) filter (where {rank}::pg_catalog.float8 >= \
             greatest(pg_catalog.ceil({fraction} * total::pg_catalog.float8), 1))"
        );
    }
    let place = |total: &str| format!("({fraction} * ({total} - 1)::pg_catalog.float8)");
    let value = |round: &str| {
        format!(
            "pg_catalog.{first}(v) filter (where {rank}::pg_catalog.float8 > pg_catalog.{round}({}))",
            place("total")
        )
    };
    let (low, high) = (value("floor"), value("ceil"));
    let all = place("pg_catalog.max(total)");
    let share = format!("({all} - pg_catalog.floor({all}))");
    let between = if type_oid == pg_sys::INTERVALOID {
        format!("({high} - {low}) * {share} + {low}")
    } else {
        format!("{low} + ({share} * ({high} - {low}))")
    };
    format!("case when {share} = 0 then {low} else {between} end")
}
