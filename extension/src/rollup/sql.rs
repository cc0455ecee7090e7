//! The SQL of a rollup: DDL, and the statements that fill, read and fold it.
//!
//! It is generated under a pinned search path and runs under one; every name in it is qualified or an operator
//! that the deparser has qualified.

mod folding;
mod values;

use super::fold::DEAD;
use super::layout::{self, Additive};
use crate::pg::catalog;
use crate::pg::query::{Definition, Edge, Pair, Parts, Shown, column_name, operator_name};
use crate::pg::session::{self, qualified_name};
use pgrx::pg_sys;
use pgrx::spi::quote_identifier;
use values::Values;

/// The relations of a rollup, qualified and quoted.
pub struct Names {
    pub view: String,
    pub definition: String,
    pub base: String,
    pub delta: String,
    /// The views of its companions.
    pub companions: Vec<String>,
}

pub struct Sql<'a> {
    id: i32,
    names: Names,
    definition: &'a Definition,
    keys: Vec<String>,
    additives: Vec<(String, Additive, String)>,
    /// The table whose rows are counted, or one of its partitions.
    counted: pg_sys::Oid,
}

/// Generations of which the deltas are known to somebody: all up to `through`, but for those of `open`; as SQL.
struct Known {
    through: String,
    open: String,
}

fn joined<T>(items: &[T], separator: &str, format: impl Fn(&T) -> String) -> String {
    items.iter().map(format).collect::<Vec<_>>().join(separator)
}

impl<'a> Sql<'a> {
    pub fn new(id: i32, names: Names, definition: &'a Definition) -> Self {
        Self {
            id,
            names,
            definition,
            keys: layout::keys(definition),
            additives: layout::additives(definition),
            counted: definition.fact(),
        }
    }

    /// The same over one partition of the table whose rows are counted.
    pub fn of_part(self, partition: pg_sys::Oid) -> Self {
        Self { counted: partition, ..self }
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Once they are made.
    pub fn name_companions(&mut self, companions: Vec<String>) {
        self.names.companions = companions;
    }

    fn columns(&self) -> String {
        let additives = self.additives.iter().map(|(name, ..)| name);
        self.keys.iter().chain(additives).cloned().collect::<Vec<_>>().join(", ")
    }

    /// `, `-separated keys, or the constant that stands for them where the query has no GROUP BY.
    fn key_list(&self) -> String {
        if self.keys.is_empty() { "(true)".to_owned() } else { self.keys.join(", ") }
    }

    fn group_by_keys(&self) -> String {
        if self.keys.is_empty() { String::new() } else { format!(" group by {}", self.keys.join(", ")) }
    }

    /// True where every additive column is zero.
    fn all_zero(&self, prefix: &str) -> String {
        joined(&self.additives, " and ", |(name, ..)| format!("{prefix}{name} = 0"))
    }

    pub fn create_tables(&self) -> Vec<String> {
        let Names { base, delta, .. } = &self.names;
        let keys = joined(&self.definition.keys.iter().zip(&self.keys).collect::<Vec<_>>(), "", |(key, name)| {
            format!("{name} {}, ", key.type_sql)
        });
        let counted =
            joined(&self.additives, ", ", |(name, kind, _)| format!("{name} {} not null default 0", kind.sql()));
        vec![
            // Hot groups are updated at each fold: room on the page keeps those updates off the index.
            format!("create table {base} ({keys}{counted}) using heap with (fillfactor = 50)"),
            format!("create unique index on {base} ({}) nulls not distinct", self.key_list()),
            // Rows come and go all the time, so vacuum by their number and not by a share of a table that is empty at rest.
            // It keeps the file unless that is large: for giving its end back it locks the table, and writers wait. ANALYZE
            // would count rows as dead that a snapshot needs, and call vacuum for them (`fold::may_be_vacuumed`); plans need none.
            format!(
                "create table {delta} (gen pg_catalog.int8 not null, {keys}{counted}) using heap with (
                   autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = {DEAD},
                   autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 0,
                   autovacuum_analyze_threshold = 2147483647, autovacuum_vacuum_cost_delay = 0,
                   vacuum_truncate = off, toast.vacuum_truncate = off)"
            ),
            format!("create index on {delta} (gen)"),
            format!("comment on table {base} is 'Folded groups of a rollup of Pulso. Never write to it.'"),
            format!(
                "comment on table {delta} is 'Unfolded changes of a rollup of Pulso. Never write to it, nor index it.'"
            ),
        ]
    }

    /// A column of a table of the query.
    fn column(&self, table: usize, column: i16) -> String {
        let table = &self.definition.tables[table];
        format!("{}.{}", quote_identifier(&table.alias), quote_identifier(column_name(table.relation, column)))
    }

    fn table(&self, number: usize) -> String {
        let table = &self.definition.tables[number];
        let relation = if number == 0 { self.counted } else { table.relation };
        format!("{} as {}", qualified_name(relation), quote_identifier(&table.alias))
    }

    /// The conditions that join a table to one before it.
    fn join_conditions(&self, table: usize) -> Vec<String> {
        let condition = |edge: &Edge, pair: &Pair| {
            let (here, there) = (self.column(table, pair.column), self.column(edge.from, pair.from_column));
            format!("{here} {} {there}", operator_name(pair.operator))
        };
        let edge = self.definition.tables[table].edge.as_ref();
        edge.iter().flat_map(|edge| edge.pairs.iter().map(|pair| condition(edge, pair))).collect()
    }

    /// All tables of the query, joined, and its filter. `also` is a further condition.
    fn tables_and_filter(&self, also: Option<String>) -> String {
        let tables: Vec<usize> = (0..self.definition.tables.len()).collect();
        let mut conditions: Vec<String> = tables.iter().flat_map(|table| self.join_conditions(*table)).collect();
        conditions.splice(0..0, also);
        conditions.extend(self.definition.filter.map(|filter| format!("({})", filter.sql(self.definition.source))));
        let filter = if conditions.is_empty() { String::new() } else { format!(" where {}", conditions.join(" and ")) };
        format!("{}{filter}", joined(&tables, ", ", |table| self.table(*table)))
    }

    /// The rows that refer to a row of a joined table: where each is (table and place), what a joined row has of it, and its own key if it
    /// has one. $1 …: the key of the joined table's row.
    pub fn referring(&self, table: usize) -> String {
        let Some(edge) = &self.definition.tables[table].edge else { return String::new() };
        let from = &self.definition.tables[edge.from];
        let keys = from.edge.iter().flat_map(|edge| edge.pairs.iter().map(|pair| pair.column));
        let columns: Vec<String> = ["tableoid", "ctid"]
            .map(|place| format!("{}.{place}", quote_identifier(&from.alias)))
            .into_iter()
            .chain(from.columns.iter().copied().chain(keys).map(|column| self.column(edge.from, column)))
            .collect();
        let conditions: Vec<String> = edge
            .pairs
            .iter()
            .enumerate()
            .map(|(i, pair)| {
                format!("${} {} {}", i + 1, operator_name(pair.operator), self.column(edge.from, pair.from_column))
            })
            .collect();
        format!("select {} from {} where {}", columns.join(", "), self.table(edge.from), conditions.join(" and "))
    }

    /// The groups of the source, in the layout of the base, by what each additive column adds up. `also` is a further
    /// condition on its rows.
    fn accumulate(&self, additives: &[(String, Additive, String)], also: Option<String>) -> String {
        let source = self.definition.source;
        let keys = self
            .definition
            .keys
            .iter()
            .zip(&self.keys)
            .map(|(key, name)| format!("{} as {name}", key.expression.sql(source)));
        let arguments = self
            .definition
            .arguments
            .iter()
            .enumerate()
            .map(|(i, a)| format!("{} as x{}", a.expression.sql(source), i + 1));
        let inner = keys.chain(arguments).collect::<Vec<_>>().join(", ");
        let outer: Vec<String> = self
            .keys
            .iter()
            .cloned()
            .chain(additives.iter().map(|(name, _, sum)| format!("{sum} as {name}")))
            .collect();
        format!(
            "select {} from (select {inner} from {}) as q{}",
            outer.join(", "),
            self.tables_and_filter(also),
            self.group_by_keys()
        )
    }

    /// The groups of the source; the scan says how far it has come, but where rows have no place: in compressed chunks.
    pub fn groups(&self) -> String {
        self.scanned_groups(&self.additives)
    }

    /// The same for less, and right unless [`Self::has_specials`] finds something in it; `None` where it would be the same.
    pub fn groups_if_finite(&self) -> Option<String> {
        let additives = layout::additives_if_finite(self.definition);
        (additives != self.additives).then(|| self.scanned_groups(&additives))
    }

    fn scanned_groups(&self, additives: &[(String, Additive, String)]) -> String {
        let place = || format!("pulso.scanned({}.ctid)", quote_identifier(&self.definition.tables[0].alias));
        let scanned = (!session::is_hypertable(self.definition.fact())).then(place);
        format!("select {} from ({}) as a where n <> 0", self.columns(), self.accumulate(additives, scanned))
    }

    /// Rows of what [`Self::groups_if_finite`] has given that are of no use: a number among theirs is NaN or infinite.
    pub fn has_specials(&self, collected: &str) -> String {
        let special =
            joined(&layout::open_sums(self.definition), " or ", |sum| format!("pg_catalog.scale({sum}) is null"));
        format!("select from {collected} where {special} limit 1")
    }

    /// Puts into the base what [`Self::groups`] has given, collected under a name.
    pub fn store(&self, collected: &str) -> String {
        format!("insert into {} ({cols}) select {cols} from {collected}", self.names.base, cols = self.columns())
    }

    /// Takes every group out of the base.
    pub fn empty_base(&self) -> String {
        format!("delete from {}", self.names.base)
    }

    /// Takes out every delta that the snapshot sees.
    pub fn empty_delta(&self) -> String {
        format!("delete from {}", self.names.delta)
    }

    /// Takes every row of the source away again. $1: generation.
    pub fn negate(&self) -> String {
        self.append("-")
    }

    /// Counts every row of the source. $1: generation.
    pub fn count(&self) -> String {
        self.append("")
    }

    fn append(&self, sign: &str) -> String {
        let values: Vec<String> =
            self.keys.iter().cloned().chain(self.additives.iter().map(|(name, ..)| format!("{sign}{name}"))).collect();
        format!(
            "insert into {} (gen, {}) select $1, {} from ({}) as a where n <> 0",
            self.names.delta,
            self.columns(),
            values.join(", "),
            self.accumulate(&self.additives, None)
        )
    }

    /// What is noted of this rollup in the reader's snapshot, by a function; by its column before `alter extension update`.
    /// In a subquery, so that it is asked for once and not for each row.
    fn state(&self, function: &str, column: &str) -> String {
        match catalog::visible_through() {
            Some(_) => format!("(select pulso.{function}({}))", self.id),
            None => format!("(select s.{column} from pulso.state s where s.id = {})", self.id),
        }
    }

    /// What is folded, in the reader's snapshot: the last generation, and those before it that were held then.
    fn folded(&self) -> Known {
        Known {
            through: self.state("folded_through", "folded_through"),
            open: format!("{}::pg_catalog.int8[]", self.state("open_generations", "open_generations")),
        }
    }

    /// Deltas of generations that are not known, in two looks into the index on gen: `also` is a further condition. As one
    /// condition with OR it would be a filter wherever the planner hopes to end early, and all that vacuum has left be read.
    fn deltas(&self, columns: &str, Known { through, open }: &Known, also: &str) -> String {
        let delta = &self.names.delta;
        format!(
            "select {columns} from {delta} where gen > {through}{also}
             union all
             select {columns} from {delta} where gen <= {through} and gen = any ({open}){also}"
        )
    }

    /// Base and pending deltas, grouped, and what companions say of the groups; empty ones are left to the caller.
    fn merged(&self, values: &Values) -> String {
        let columns = self.columns();
        let Values { nulls, branches, passed } = values;
        let base = &self.names.base;
        let sums = joined(&self.additives, ", ", |(name, kind, _)| match kind {
            Additive::Bigint => format!("coalesce(pg_catalog.sum({name}), 0)::pg_catalog.int8 as {name}"),
            Additive::Numeric => format!("coalesce(pg_catalog.sum({name}), 0) as {name}"),
        });
        let keys = joined(&self.keys, "", |key| format!("{key}, "));
        format!(
            "select {keys}{sums}{passed} from (
               select {columns}{nulls} from {base}
               union all
               {}{branches}
             ) as p{}",
            self.deltas(
                &format!("{columns}{nulls}"),
                &self.folded(),
                " and gen <= (select pulso.last_visible_generation())"
            ),
            self.group_by_keys()
        )
    }

    /// Whether anything is left: every group is gone when the table is empty.
    pub fn is_not_empty(&self) -> String {
        let merged = self.merged(&Values::default());
        format!("select exists (select from ({merged}) as m where not ({}))", self.all_zero(""))
    }

    pub fn create_view(&self) -> String {
        format!("create view {} as {}", self.names.view, self.read())
    }

    /// What the view is: base and pending deltas where the rollup is live in the reader's snapshot, else the query.
    pub fn read(&self) -> String {
        let outputs: Vec<_> = self.definition.outputs.iter().enumerate().collect();
        let outputs = joined(&outputs, ", ", |(number, output)| {
            format!("{} as {}", self.shown(*number, output.shown), quote_identifier(&output.name))
        });
        // Without GROUP BY there is one row, whatever the table holds.
        let present = if self.keys.is_empty() { "" } else { " and m.n > 0" };
        format!(
            "select {outputs} from ({}) as m where {live}{present}
             union all select d.* from {} as d where not {live}",
            self.merged(&self.values()),
            self.names.definition,
            live = self.state("is_live", "live")
        )
    }

    fn shown(&self, number: usize, shown: Shown) -> String {
        let present = |i: usize| format!("m.{}", layout::present(self.definition, i));
        let sum = |i: usize| {
            let (c, s) = (present(i), format!("m.s{}", i + 1));
            match self.definition.arguments[i].parts {
                Parts::NumericSum => format!("pulso.sum_of({c}, {s}, m.nan{0}, m.pinf{0}, m.ninf{0})", i + 1),
                _ => format!("case when {c} <> 0 then {s} end"),
            }
        };
        match shown {
            Shown::Key(i) => format!("m.k{}", i + 1),
            Shown::Rows => "m.n".to_owned(),
            Shown::Present(i) => present(i),
            Shown::Sum(i) => sum(i),
            Shown::Average(i) => {
                format!("({})::pg_catalog.\"numeric\" / nullif({}, 0)::pg_catalog.\"numeric\"", sum(i), present(i))
            }
            Shown::Variance { sum: of, squares, sample, root } => {
                let variance = format!("pulso.variance_of({}, {}, {}, {sample})", present(of), sum(of), sum(squares));
                if root { format!("pulso.stddev_of({variance})") } else { variance }
            }
            Shown::Every(all, trues) => {
                format!("case when {0} <> 0 then {1} = {0} end", present(all), present(trues))
            }
            Shown::Any(all, trues) => format!("case when {} <> 0 then {} <> 0 end", present(all), present(trues)),
            Shown::Distinct(_) | Shown::Least(_) | Shown::Greatest(_) | Shown::Percentile(..) => format!("m.v{number}"),
        }
    }
}
