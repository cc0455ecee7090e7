//! What cannot run in a transaction: indexes made concurrently, reports filled, rollups built. Each may be interrupted at
//! any moment and is then done again.

use super::convert::{self, Chunked, Wanted};
use super::packs::{Pack, Step};
use super::run::{Runner, Stop};
use crate::db;
use crate::error::Error;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// How far an index build is, and whom it waits for.
const INDEXING: &str = "
  select p.phase || case when p.current_locker_pid > 0 then format(' (process %s)', p.current_locker_pid) else '' end,
         case when p.blocks_total > 0 then p.blocks_done when p.tuples_total > 0 then p.tuples_done else p.lockers_done end,
         case when p.blocks_total > 0 then p.blocks_total when p.tuples_total > 0 then p.tuples_total else p.lockers_total end
    from pg_stat_progress_create_index p
   where p.pid = $1";

/// Of TimescaleDB: an index of a hypertable in a transaction for each chunk, whose writers wait for that one only.
const BY_CHUNK: &str = "timescaledb.transaction_per_chunk";

/// How it stands with an index. $1: its name; $2: its table; $3: its columns.
const INDEX: &str = include_str!("index_state.sql");

#[derive(Debug, Clone)]
pub enum Statement {
    Index {
        sql: String,
        name: String,
        table: String,
        columns: Vec<String>,
        /// Whether another index that begins with the same columns does as well: a plain one, for look-ups only.
        replaceable: bool,
    },
    /// A report filled for the first time.
    Fill { sql: String, report: String },
    /// A table that becomes a hypertable.
    Hypertable(Wanted),
}

/// How it stands with a statement.
#[derive(Debug, PartialEq)]
pub enum Standing {
    Done,
    ToDo,
    /// What an interrupted step has left: an index that writers keep up and nobody reads, or a table half copied.
    Leftover,
    /// Why it does not apply to this database.
    Moot(String),
}

impl Statement {
    /// The statements of a file; those of no known kind are left out, which a test notices.
    pub fn all(sql: &str) -> Vec<Self> {
        let text: Vec<&str> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        text.join("\n").split(';').filter_map(|statement| Self::read(statement.trim())).collect()
    }

    fn read(sql: &str) -> Option<Self> {
        let owned = sql.to_owned();
        if let Some(report) = sql.strip_prefix("select analytics.refresh_report('") {
            return Some(Self::Fill { sql: owned, report: report.strip_suffix("')")?.to_owned() });
        }
        if let Some(wanted) = Wanted::read(sql) {
            return Some(Self::Hypertable(wanted));
        }
        let unique = sql.starts_with("create unique index concurrently");
        let (_, rest) = sql.split_once("index concurrently if not exists ")?;
        let mut words = rest.split_whitespace();
        let name = words.next()?.to_owned();
        if words.next()? != "on" {
            return None;
        }
        let table = words.next()?.to_owned();
        let (_, list) = rest.split_once('(')?;
        let (list, after) = list.split_once(')')?;
        let columns = list.split(',').filter_map(|column| Some(column.split_whitespace().next()?.to_owned())).collect();
        let replaceable = !unique && !rest.contains("using ") && !after.contains("where");
        Some(Self::Index { sql: owned, name, table, columns, replaceable })
    }

    /// The same on a hypertable: what is unique without the time stands on its table of keys, anything else is made chunk by
    /// chunk. `Err` says why it cannot be.
    async fn here(&self, client: &Client) -> Result<Result<Self, String>, Error> {
        let Self::Index { sql, name, table, columns, replaceable } = self else { return Ok(Ok(self.clone())) };
        let Some(Chunked { time, keys }) = convert::chunked(client, table).await? else { return Ok(Ok(self.clone())) };
        let unique = sql.starts_with("create unique");
        let bare = |text: &str| text.strip_prefix("public.").unwrap_or(text).to_owned();
        Ok(match keys {
            Some(keys) if unique && !columns.contains(&time) => {
                let new = name.replacen(&bare(table), &bare(&keys), 1);
                let sql = sql.replacen(name, &new, 1).replacen(&format!("on {table}"), &format!("on {keys}"), 1);
                Ok(Self::Index { sql, name: new, table: keys, columns: columns.clone(), replaceable: *replaceable })
            }
            _ if unique => {
                Err(format!("{table} is a hypertable: nothing can be made unique on it while everybody goes on"))
            }
            _ => {
                let (made, rest) = sql
                    .split_once(" where ")
                    .map_or((sql.as_str(), String::new()), |(made, rest)| (made, format!(" where {rest}")));
                let made = made.trim_end().replacen("concurrently ", "", 1);
                let sql = format!("{made} with ({BY_CHUNK}){rest}");
                Ok(Self::Index {
                    sql,
                    name: name.clone(),
                    table: table.clone(),
                    columns: columns.clone(),
                    replaceable: *replaceable,
                })
            }
        })
    }

    /// `prepares`: a migration makes the same index if this statement does not, so it is made in any case.
    pub async fn standing(&self, client: &Client, prepares: bool) -> Result<Standing, Error> {
        let here = match self.here(client).await? {
            Ok(here) => here,
            Err(reason) => return Ok(Standing::Moot(reason)),
        };
        let (name, table, columns, replaceable) = match &here {
            Self::Index { name, table, columns, replaceable, .. } => (name, table, columns, *replaceable && !prepares),
            Self::Hypertable(wanted) => {
                return Ok(match convert::standing(client, wanted).await? {
                    convert::Standing::Hypertable => Standing::Done,
                    convert::Standing::Plain => Standing::ToDo,
                    convert::Standing::Between => Standing::Leftover,
                    convert::Standing::Stays(reason) => Standing::Moot(reason),
                });
            }
            Self::Fill { report, .. } => {
                let filled: Option<bool> = client
                    .query_one(
                        "select (select c.relispopulated from pg_class c where c.oid = to_regclass(format('analytics.%I', $1::text)))",
                        &[report],
                    )
                    .await?
                    .try_get(0)?;
                return Ok(if filled == Some(true) { Standing::Done } else { Standing::ToDo });
            }
        };
        let row = client.query_one(INDEX, &[name, table, columns]).await?;
        let kind: Option<&str> = row.try_get(0)?;
        let missing: Vec<String> = row.try_get(1)?;
        let valid: Option<bool> = row.try_get(2)?;
        let covering: Option<&str> = row.try_get(3)?;
        let same: Option<bool> = row.try_get(4)?;
        if same == Some(false) {
            return Ok(Standing::Moot(format!("an index {name} is there already, of another table or other columns")));
        }
        Ok(match (kind, valid) {
            (None, _) => Standing::Moot(format!("there is no table {table}")),
            (_, Some(true)) => Standing::Done,
            (_, Some(false)) => Standing::Leftover,
            (Some("partitioned"), _) => Standing::Moot(format!(
                "{table} is partitioned, where no index can be made concurrently: make one on each partition"
            )),
            _ if !missing.is_empty() => Standing::Moot(format!("{table} has no column {}", missing.join(", "))),
            _ => match covering.filter(|_| replaceable) {
                Some(index) => Standing::Moot(format!("index {index} begins with {} already", columns.join(", "))),
                None => Standing::ToDo,
            },
        })
    }
}

/// Runs what is left to do of a step.
pub async fn run(runner: &mut Runner<'_>, step: &Step, statements: &[Statement], prepares: bool) -> Result<(), Stop> {
    for statement in statements {
        let standing = statement.standing(runner.client, prepares).await?;
        match (statement, standing) {
            (_, Standing::Done | Standing::Moot(_)) => (),
            (Statement::Hypertable(wanted), _) => convert::run(runner, step, wanted).await?,
            (Statement::Fill { sql, report }, _) => {
                runner.watch.bar.set_message(format!("filling {report}"));
                runner.call(sql, None).await?;
            }
            (_, standing) => {
                let Ok(Statement::Index { sql, name, .. }) = statement.here(runner.client).await? else { continue };
                index(runner, &sql, &name, standing == Standing::Leftover)
                    .await
                    .map_err(|stop| stop.context(format!("{step}, index {name}")))?;
            }
        }
    }
    Ok(())
}

/// No `lock_timeout`: the lock that it takes keeps no reader or writer waiting, and what it waits for are transactions.
async fn index(runner: &mut Runner<'_>, sql: &str, name: &str, leftover: bool) -> Result<(), Stop> {
    let concurrently = if sql.contains(BY_CHUNK) { "" } else { "concurrently " };
    let drop = format!("drop index {concurrently}if exists public.{name}");
    runner.client.batch_execute("set lock_timeout = 0").await?;
    if leftover {
        runner.say(&format!("index {name} was left behind by an interrupted build: makes it anew"));
        runner.call(&drop, Some(INDEXING)).await?;
    }
    for attempt in 1.. {
        let made = runner.call(sql, Some(INDEXING)).await;
        let Err(stop) = made else { break };
        // What is left of it would only cost writers time. If it cannot be dropped now, the next run does.
        let _ = runner.client.batch_execute("set lock_timeout = '2s'").await;
        let _ = runner.client.batch_execute(&drop).await;
        let _ = runner.client.batch_execute("set lock_timeout = 0").await;
        if stop.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) && attempt < 5 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        return Err(stop.hint(
            &SqlState::UNIQUE_VIOLATION,
            "Two rows have the same values where the rollups need them to differ; mend them, then run it again.",
        ));
    }
    runner.client.batch_execute(super::run::SETTINGS).await?;
    Ok(())
}

/// Rollups of the pack that are there and not filled yet.
pub async fn unbuilt(client: &Client, pack: &Pack) -> Result<Vec<String>, Error> {
    let there = db::has(client, "pulso.progress").await?;
    if !there {
        return Ok(Vec::new());
    }
    let rows = client
        .query("select name from pulso.rollups where not live and reason = 'not built yet' and replaces is null order by id", &[])
        .await?;
    let texts: Vec<String> = pack.steps().into_iter().map(|step| step.sql).collect();
    let mut names = Vec::new();
    for row in rows {
        let name: String = row.try_get(0)?;
        if texts.iter().any(|text| text.contains(&format!("'{name}'"))) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Fills a rollup while everybody goes on. The name came out of the catalog, quoted as SQL has it.
pub fn build(name: &str) -> String {
    format!("select pulso.build('{}')", name.replace('\'', "''"))
}

/// A migration that makes rollups, told to leave the filling to `build`. `None` where it is not of that form.
pub fn without_data(sql: &str) -> Option<String> {
    let calls = sql.matches("pulso.create_rollup(").count();
    let ends = sql.matches("\n$$);").count();
    (calls > 0 && calls == ends).then(|| sql.replace("\n$$);", "\n$$, false);"))
}

#[cfg(test)]
mod tests {
    use super::super::packs::{Kind, PACKS};
    use super::*;

    #[test]
    fn statements_are_read() {
        let sql = "-- Locks: x; y\ncreate unique index concurrently if not exists a_key\n  on public.t (id, b desc);\n\ncreate index concurrently if not exists b on public.t using brin (c);\ncreate index concurrently if not exists d on public.u (e desc) where f;\ncreate index concurrently if not exists g on public.u (e, h);\nselect create_hypertable('public.v', by_range('at', interval '7 days'));";
        let read: Vec<_> = Statement::all(sql)
            .into_iter()
            .map(|statement| match statement {
                Statement::Index { name, table, columns, replaceable, .. } => {
                    (name, table, columns.join(" "), replaceable)
                }
                Statement::Fill { report, .. } => (report, String::new(), String::new(), false),
                Statement::Hypertable(wanted) => (wanted.table, wanted.interval, wanted.column, false),
            })
            .collect();
        let expected = [
            ("a_key", "public.t", "id b", false),
            ("b", "public.t", "c", false),
            ("d", "public.u", "e", false),
            ("g", "public.u", "e h", true),
            ("public.v", "7 days", "at", false),
        ];
        assert_eq!(read, expected.map(|(n, t, c, r)| (n.to_owned(), t.to_owned(), c.to_owned(), r)));
    }

    /// On a database with sales no rollup is filled while writers wait.
    #[test]
    fn every_rollup_of_a_pack_can_be_filled_later() {
        for pack in PACKS {
            for step in pack.steps().iter().filter(|step| matches!(step.kind, Kind::Transaction)) {
                if step.sql.contains("pulso.create_rollup(") {
                    let later = without_data(&step.sql).unwrap_or_else(|| panic!("{step} is not of the usual form"));
                    assert_eq!(later.matches("$$, false);").count(), step.sql.matches("create_rollup(").count());
                }
            }
        }
    }
}
