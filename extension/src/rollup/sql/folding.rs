//! What a folder runs: looks for news, folds, compactions.

use super::values::OWN_PREFIX;
use super::{Known, Sql, joined};
use crate::pg::query::Shown;
use pgrx::spi::quote_literal;

impl Sql<'_> {
    /// The groups that deltas of closed generations change, by generation, as JSON of the view's columns where those
    /// can be told: so many groups, of so many deltas, and how many deltas were read. $1: the last generation to look at;
    /// `memory` adds $2: all up to here are known, but for those in $3.
    pub fn news(&self, memory: bool, rows_max: i64, groups_max: usize) -> String {
        let keys = self.keys.join(", ");
        let after = if self.keys.is_empty() { "" } else { ", " };
        let known = if memory { Known { through: "$2".to_owned(), open: "$3".to_owned() } } else { self.folded() };
        format!(
            "select gen, pg_catalog.count(*), {}::pg_catalog.text, (pg_catalog.sum(pg_catalog.count(*)) over ())::pg_catalog.int8
               from ({} limit {rows_max}) as d
              group by gen{after}{keys} limit {groups_max}",
            self.key_json(),
            self.deltas(&format!("gen{after}{keys}"), &known, " and gen <= $1")
        )
    }

    /// Whether [`Self::news`] would find anything, of later generations too. $1, $2: what is known, as there.
    pub fn has_news(&self) -> String {
        let known = Known { through: "$1".to_owned(), open: "$2".to_owned() };
        format!("select exists ({})", self.deltas("", &known, ""))
    }

    /// A group as JSON: its columns by their names in the view. NULL where a type is not one of Postgres's own: what
    /// its conversion does is not known.
    fn key_json(&self) -> String {
        if self.definition.keys.iter().any(|key| key.type_oid.to_u32() >= pgrx::pg_sys::FirstNormalObjectId) {
            return "null".to_owned();
        }
        let columns: Vec<String> = self
            .definition
            .outputs
            .iter()
            .filter_map(|output| match output.shown {
                Shown::Key(i) if !output.name.starts_with(OWN_PREFIX) => {
                    Some(format!("{}, {}", quote_literal(&output.name), self.keys[i]))
                }
                _ => None,
            })
            .collect();
        format!("pg_catalog.jsonb_build_object({})", columns.join(", "))
    }

    pub fn has_pending(&self) -> String {
        format!("select exists ({})", self.deltas("", &self.folded(), ""))
    }

    /// Deltas of closed generations. $1: first generation not to be folded; $2: generations before it that are still open.
    fn foldable(&self, columns: &str) -> String {
        self.deltas(columns, &self.folded(), " and gen < $1 and gen <> all ($2)")
    }

    /// How many there are, and of how many groups. $1, $2: as of [`Self::fold`].
    pub fn count_foldable(&self) -> String {
        format!(
            "select coalesce(pg_catalog.sum(g.deltas), 0)::pg_catalog.int8, pg_catalog.count(*)
               from (select pg_catalog.count(*) as deltas from ({}) as d{}) as g",
            self.foldable(&self.keys.join(", ")),
            self.group_by_keys()
        )
    }

    /// Moves the deltas of closed generations into the base: all, or so many. $1: first generation not to be folded; $2:
    /// generations before it that are still open. Gives the number of deltas, and the groups that have become empty.
    pub fn fold(&self, at_most: Option<i64>) -> String {
        let (base, columns) = (&self.names.base, self.columns());
        let added = joined(&self.additives, ", ", |(name, ..)| format!("{name} = b.{name} + excluded.{name}"));
        format!(
            "with {}, folded as (
               insert into {base} as b ({columns})
               {}
               on conflict ({}) do update set {added}
               returning b.ctid as place, {} as empty
             )
             select (select pg_catalog.count(*) from moved),
                    (select pg_catalog.array_agg(place) from folded where empty)",
            self.moved(at_most),
            self.net(""),
            self.key_list(),
            self.all_zero("b.")
        )
    }

    /// Makes one delta of each group of those of closed generations. $1, $2: as of [`Self::fold`]; $3: the generation of the new
    /// ones. Gives the number of deltas, and that of the new ones.
    pub fn compact(&self) -> String {
        format!(
            "with {}, compacted as (
               insert into {} (gen, {})
               {}
               returning gen
             )
             select (select pg_catalog.count(*) from moved), (select pg_catalog.count(*) from compacted)",
            self.moved(None),
            self.names.delta,
            self.columns(),
            self.net("$3, ")
        )
    }

    /// Two parts of a WITH: `moved` takes away the deltas of closed generations, all or so many; `net` adds them up by group.
    fn moved(&self, at_most: Option<i64>) -> String {
        let columns = self.columns();
        let keys = joined(&self.keys, "", |key| format!("{key}, "));
        let sums = joined(&self.additives, ", ", |(name, kind, _)| {
            format!("pg_catalog.sum({name})::{} as {name}", kind.sql())
        });
        let most = at_most.map(|most| format!(" limit {most}")).unwrap_or_default();
        format!(
            "moved as (
               delete from {} where ctid = any (array({}{most}))
               returning {columns}
             ), net as (
               select {keys}{sums} from moved{}
             )",
            self.names.delta,
            self.foldable("ctid"),
            self.group_by_keys()
        )
    }

    /// The groups of `net` that have changed, in the order of the keys, which is that in which folders lock groups.
    fn net(&self, first: &str) -> String {
        let order = if self.keys.is_empty() { String::new() } else { format!(" order by {}", self.keys.join(", ")) };
        format!("select {first}{} from net where not ({}){order}", self.columns(), self.all_zero(""))
    }

    /// Removes groups by their place. $1: the places.
    pub fn remove(&self) -> String {
        format!("delete from {} where ctid = any ($1)", self.names.base)
    }
}
