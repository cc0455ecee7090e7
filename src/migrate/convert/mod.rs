//! Tables become hypertables, and plain ones again, while the shop goes on.
//!
//! Beside the table stands its shadow, of the other kind. From one moment on each change of the table happens in the shadow
//! too, in the same transaction; then the rows from before are copied. Once both are equal, whatever rests on the table is
//! led over to the shadow, of which nobody notices anything since both hold the same; then the two change places, by a
//! change of schema. Each phase ends in one transaction with its note in `pulso.conversion`, so that it can be stopped anywhere.

mod copy;
mod keys;
mod rollups;
mod shape;
mod standing;
mod statements;

use super::packs::{PACKS, Pack, Step};
use super::run::{Runner, Stop};
use crate::db;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use shape::{Index, Referring, Shape, literal, quote};
pub use standing::{Chunked, Standing, begun, chunked, over_keys, standing, unavailable};
use statements::{Plan, REPLACED, SHADOW};
use std::time::Instant;
use tokio_postgres::Client;

/// The pack of hypertables.
pub const PACK: &str = "timescale";
/// What an application notices of sales that are a hypertable.
pub const WHAT_CHANGES: &str = "sales become a hypertable: `on conflict (id)` is an error then, write `on conflict do nothing` or `on conflict (id, sold_at)`; a look-up by id alone visits each chunk (of 63 in 1 ms as a prepared statement, 13 ms planned anew), give sold_at too; lines refer to public.sales_keys";
/// What a table is to become.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub table: String,
    pub column: String,
    pub interval: String,
}

impl Wanted {
    /// `select create_hypertable('public.events', by_range('created_at', interval '7 days'))`
    pub fn read(sql: &str) -> Option<Self> {
        let rest = sql.strip_prefix("select create_hypertable(")?;
        let mut words = rest.split('\'').skip(1).step_by(2).map(str::to_owned);
        Some(Self { table: words.next()?, column: words.next()?, interval: words.next()? })
    }
}

/// What `pulso.conversion` says.
struct Conversion {
    to_hypertable: bool,
    phase: String,
    notes: Notes,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Notes {
    /// Of the plain table, which the hypertable cannot have.
    indexes: Vec<Index>,
    /// Whether a table of keys was made.
    guarded: bool,
    /// What the table was like when its shadow was made.
    likeness: String,
}

async fn noted(client: &Client, table: &str) -> Result<Option<Conversion>> {
    if !db::has(client, "pulso.conversion").await? {
        return Ok(None);
    }
    let row = client
        .query_opt("select goal = 'hypertable', phase, originals from pulso.conversion where source = $1", &[&table])
        .await?;
    row.map(|row| {
        let notes: serde_json::Value = row.try_get(2)?;
        let notes = serde_json::from_value(notes)
            .map_err(|error| Error::failed(format!("pulso.conversion of {table}: {error}")))?;
        Ok(Conversion { to_hypertable: row.try_get(0)?, phase: row.try_get(1)?, notes })
    })
    .transpose()
}

/// Makes a hypertable of the table, from wherever it stands.
pub async fn run(runner: &mut Runner<'_>, step: &Step, wanted: &Wanted) -> Result<(), Stop> {
    match noted(runner.client, &wanted.table).await? {
        // On its way back, it has the other kind already.
        Some(conversion) if !conversion.to_hypertable && conversion.phase == "swapped" => {
            convert(runner, wanted, false).await?;
        }
        Some(conversion) if !conversion.to_hypertable => abandon(runner, wanted).await?,
        _ => (),
    }
    convert(runner, wanted, true).await.map_err(|stop| stop.context(step))
}

/// Makes a plain table of it again.
pub async fn back(runner: &mut Runner<'_>, wanted: &Wanted) -> Result<(), Stop> {
    match noted(runner.client, &wanted.table).await? {
        // Somebody else's hypertable, or none.
        None => Ok(()),
        Some(conversion) if conversion.to_hypertable && !matches!(conversion.phase.as_str(), "swapped" | "done") => {
            abandon(runner, wanted).await
        }
        Some(conversion) => {
            if conversion.to_hypertable && conversion.phase == "swapped" {
                convert(runner, wanted, true).await?;
            }
            convert(runner, wanted, false).await
        }
    }
}

async fn convert(runner: &mut Runner<'_>, wanted: &Wanted, to_hypertable: bool) -> Result<(), Stop> {
    let table = &wanted.table;
    loop {
        let conversion = noted(runner.client, table).await?;
        let phase = conversion.as_ref().filter(|now| now.to_hypertable == to_hypertable).map(|now| now.phase.clone());
        if phase.as_deref() == Some("swapped") {
            retire(runner, wanted, to_hypertable).await?;
            continue;
        }
        if phase.as_deref() == Some("done") || !to_hypertable && conversion.is_none() {
            return Ok(());
        }
        let (shape, kept) = look(runner, wanted, to_hypertable).await?;
        let guarded = match &conversion {
            Some(conversion) => conversion.notes.guarded,
            None => shape.guarded(&wanted.column),
        };
        let mut notes = conversion.map(|conversion| conversion.notes).unwrap_or_default();
        if phase.is_none() {
            notes.guarded = guarded;
            notes.likeness = likeness(&shape);
            if to_hypertable {
                let lost = shape.indexes.iter().filter(|index| index.unique && !index.columns.contains(&wanted.column));
                notes.indexes = lost.filter(|index| !index.name.starts_with("pulso_")).cloned().collect();
            }
        }
        if !to_hypertable && guarded {
            notes.indexes = restored(&shape, &notes.indexes, kept);
        }
        let timescale = timescale_schema(runner.client).await?;
        let plan = Plan { shape: &shape, wanted, originals: notes.indexes.clone(), guarded, timescale };
        match phase.as_deref() {
            None => prepare(runner, &plan, &notes, to_hypertable).await?,
            Some("prepared") => begin(runner, &plan).await?,
            Some("copying") => copy::all(runner, &plan).await?,
            Some("copied") => copy::until_equal(runner, &plan).await?,
            _ => swap(runner, &plan, &notes).await?,
        }
    }
}

/// The unique indexes of the plain table to be: those that the table of keys has now, as they were if they were there before.
fn restored(shape: &Shape, before: &[Index], kept: Vec<Index>) -> Vec<Index> {
    let unique = kept.into_iter().filter(|index| index.unique && !index.name.starts_with("pulso_"));
    let (keys, table) = (format!("{}_keys_", shape.table), format!("{}_", shape.table));
    unique
        .map(|index| {
            let known = before.iter().find(|known| known.primary == index.primary && known.columns == index.columns);
            let name = index.name.replacen(&keys, &table, 1);
            let columns: Vec<String> = index.columns.iter().map(|column| quote(column)).collect();
            known.cloned().unwrap_or_else(|| Index {
                definition: format!("CREATE UNIQUE INDEX {} ON {} ({})", quote(&name), shape.name, columns.join(", ")),
                name,
                ..index
            })
        })
        .collect()
}

/// The table as it is now, and the indexes of its table of keys.
async fn look(runner: &Runner<'_>, wanted: &Wanted, to_hypertable: bool) -> Result<(Shape, Vec<Index>), Stop> {
    let table = &wanted.table;
    // So that definitions name their tables in full.
    runner.client.batch_execute("set search_path = pg_catalog, pg_temp").await?;
    let shape = Shape::read(runner.client, table, &wanted.column).await;
    let keys = match to_hypertable {
        true => Ok(None),
        false => {
            let keys = shape
                .as_ref()
                .ok()
                .and_then(Option::as_ref)
                .map(|shape| format!("{}_keys", shape.table))
                .unwrap_or_default();
            Shape::read(runner.client, &format!("public.{}", quote(&keys)), &wanted.column).await
        }
    };
    runner.client.batch_execute("reset search_path").await?;
    let mut shape = shape?.ok_or_else(|| Error::failed(format!("there is no table {table}")))?;
    if shape.hypertable == to_hypertable {
        let kind = if to_hypertable { "a hypertable already" } else { "no hypertable" };
        return Err(Error::failed(format!("{table} is {kind}, though pulso.conversion says otherwise")).into());
    }
    if !shape.refusals.is_empty() {
        return Err(Error::failed(shape.refusals.join("; ")).into());
    }
    let mut kept = Vec::new();
    if let Some(keys) = keys? {
        shape.referring = keys.referring;
        kept = keys.indexes;
    }
    Ok((shape, kept))
}

/// What must not change while the shadow is filled, since it would be lost.
fn likeness(shape: &Shape) -> String {
    let of_rollups = |index: &&Index| !index.name.starts_with("pulso_");
    let indexes: Vec<&String> = shape.indexes.iter().filter(of_rollups).map(|index| &index.definition).collect();
    let references: Vec<&String> = shape.references.iter().map(|reference| &reference.definition).collect();
    format!("{:?} {indexes:?} {references:?} {:?}", shape.made_of, shape.sayings)
}

async fn timescale_schema(client: &Client) -> Result<String> {
    let row = client
        .query_one("select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'timescaledb'", &[])
        .await?;
    Ok(row.try_get(0)?)
}

/// Statements in one transaction, each lock of which is waited for `ms` milliseconds; tried again while tables are busy.
async fn atomically(runner: &mut Runner<'_>, what: &str, ms: u32, sql: &str) -> Result<(), Stop> {
    let whole =
        format!("begin; set local lock_timeout = '{ms}ms'; set local search_path = pg_catalog, pg_temp; {sql}; commit");
    runner.bite(&whole, what).await
}

fn phase(table: &str, phase: &str) -> String {
    format!("update pulso.conversion set phase = '{phase}', changed_at = now() where source = {}", literal(table))
}

/// The shadow, empty.
async fn prepare(runner: &mut Runner<'_>, plan: &Plan<'_>, notes: &Notes, to_hypertable: bool) -> Result<(), Stop> {
    let (table, goal) = (&plan.wanted.table, if to_hypertable { "hypertable" } else { "plain" });
    let notes = serde_json::to_string(notes).map_err(|error| Error::failed(error.to_string()))?;
    let sql = format!(
        "{}
         insert into pulso.conversion (source, goal, phase, time_column, originals) values ({}, '{goal}', 'prepared', {}, {})
         on conflict (source) do update set goal = excluded.goal, phase = excluded.phase, originals = excluded.originals,
           started_at = now(), changed_at = now()",
        plan.make(),
        literal(table),
        literal(&plan.wanted.column),
        literal(&notes)
    );
    atomically(runner, &format!("{table}: the table to be"), 80, &sql).await
}

/// The chunks that the rows need, and then the mirror. A chunk locks what its foreign keys refer to: made here, no sale does it.
async fn begin(runner: &mut Runner<'_>, plan: &Plan<'_>) -> Result<(), Stop> {
    let (table, shadow) = (&plan.wanted.table, plan.shadow());
    if !plan.shape.hypertable {
        let (time, interval) = (quote(&plan.wanted.column), literal(&plan.wanted.interval));
        let ages = format!(
            "select distinct {}.time_bucket({interval}::interval, o.{time})::text from {} o
             union select {0}.time_bucket({interval}::interval, now() + n * {interval}::interval)::text from generate_series(0, 4) n
             order by 1",
            plan.timescale, plan.shape.name
        );
        let rows = runner.patiently(&format!("{table}: its times"), || runner.client.query(&ages, &[])).await?;
        let buckets: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        for some in buckets.chunks(8) {
            let values: Vec<String> = some
                .iter()
                .map(|at| {
                    format!(
                        "({0}::timestamptz), ({0}::timestamptz + {interval}::interval - interval '1 microsecond')",
                        literal(at)
                    )
                })
                .collect();
            let sql = format!(
                "set local pulso.make_chunk = 'on'; insert into {shadow} ({time}) overriding system value values {}",
                values.join(", ")
            );
            atomically(runner, &format!("{table}: chunks"), 80, &sql).await?;
        }
    }
    let sql = format!(
        "lock table {} in share row exclusive mode; {} update pulso.conversion set phase = 'copying', at_relation = null, next_block = 0, blocks_done = 0,
           blocks_total = 0, changed_at = now() where source = {}",
        plan.shape.name,
        plan.mirror(),
        literal(table)
    );
    atomically(runner, &format!("{table}: its mirror"), 200, &sql).await
}

/// Leads over what rests on the table, and lets the tables change places.
async fn swap(runner: &mut Runner<'_>, plan: &Plan<'_>, notes: &Notes) -> Result<(), Stop> {
    let table = &plan.wanted.table;
    if likeness(plan.shape) != notes.likeness {
        return Err(Error::failed(format!("{table} was altered while it was copied"))
            .with_hint(format!("`pulso migrate undo {PACK}` takes the copy away; then run it again."))
            .into());
    }
    refer(runner, &plan.shape.referring, &plan.referred()).await?;
    rollups::lead(runner, plan, true).await?;
    settle(runner, &plan.shape.referring, &plan.referred_before()).await?;
    // Between two looks nothing may have come that would be lost: a column least of all.
    let columns = format!(
        "do $pulso$ begin
           if (select string_agg(a.attname, ',' order by a.attnum) from pg_attribute a where a.attrelid = {}::regclass and a.attnum > 0 and not a.attisdropped)
              is distinct from (select string_agg(a.attname, ',' order by a.attnum) from pg_attribute a where a.attrelid = {}::regclass and a.attnum > 0 and not a.attisdropped) then
             raise exception 'the table was altered while it was copied';
           end if;
         end $pulso$;",
        literal(&plan.shape.name),
        literal(&plan.shadow())
    );
    let sql = format!(
        "lock table {} in access exclusive mode; set local lock_timeout = '100ms'; {columns}
         create schema if not exists {REPLACED}; grant usage, create on schema {REPLACED} to {};
         {} {}",
        plan.shape.name,
        quote(&plan.shape.owner),
        plan.swap(),
        phase(table, "swapped")
    );
    let what = format!("{table}: the change of places");
    let begun = Instant::now();
    atomically(runner, &what, 200, &sql).await?;
    runner.say(&format!("{table}: changed places in {} ms", begun.elapsed().as_millis()));
    Ok(())
}

/// Sales are written before their lines. So whoever has the lock of both in mind waits for that of sales, and finds no
/// writer of lines then but one that has not written a sale: the other way round each would wait for the other.
const WITH_A_LOCK_IN_HAND: &str = "set local lock_timeout = '20ms'";

/// While a foreign key is led over there are two; the new one has this at its end.
const SECOND: &str = "_pulso";

/// Lets others refer to `target` as well, which has the same keys.
async fn refer(runner: &mut Runner<'_>, keys: &[Referring], target: &str) -> Result<(), Stop> {
    for key in keys.iter().filter(|key| !key.name.ends_with(SECOND)) {
        let (child, name) = (&key.table, format!("{}{SECOND}", key.name));
        let what = format!("foreign key {} of {child}", key.name);
        let there = "select exists (select from pg_constraint where conrelid = to_regclass($1) and conname = $2)";
        if !runner.client.query_one(there, &[child, &name]).await?.get::<_, bool>(0) {
            let sql = format!(
                "lock table {target} in share row exclusive mode; {WITH_A_LOCK_IN_HAND};
                 alter table {child} add constraint {} {} not valid",
                quote(&name),
                key.to(target)
            );
            atomically(runner, &what, 100, &sql).await?;
        }
        runner.bite(&format!("alter table {child} validate constraint {}", quote(&name)), &what).await?;
    }
    Ok(())
}

/// The second foreign keys become the only ones, no longer to `target`.
async fn settle(runner: &mut Runner<'_>, keys: &[Referring], target: &str) -> Result<(), Stop> {
    for key in keys.iter().filter(|key| !key.name.ends_with(SECOND)) {
        let (child, name) = (&key.table, quote(&key.name));
        let comment =
            key.comment.as_ref().map(|text| format!("; comment on constraint {name} on {child} is {}", literal(text)));
        let sql = format!(
            "lock table {target} in access exclusive mode; {WITH_A_LOCK_IN_HAND};
             alter table {child} drop constraint {name}; alter table {child} rename constraint {} to {name}{}",
            quote(&format!("{}{SECOND}", key.name)),
            comment.unwrap_or_default()
        );
        atomically(runner, &format!("foreign key {} of {child}", key.name), 100, &sql).await?;
    }
    Ok(())
}

/// Drops what was replaced.
async fn retire(runner: &mut Runner<'_>, wanted: &Wanted, to_hypertable: bool) -> Result<(), Stop> {
    let Some(shape) = Shape::read(runner.client, &wanted.table, &wanted.column).await? else {
        return Err(Error::failed(format!("there is no table {}", wanted.table)).into());
    };
    forget(runner, &format!("{REPLACED}.{}", quote(&shape.table)), wanted).await?;
    // As it was before: what the shape says of the table now is that of the other kind.
    let before = Shape { hypertable: !shape.hypertable, ..shape };
    let timescale = timescale_schema(runner.client).await?;
    let plan = Plan { shape: &before, wanted, originals: Vec::new(), guarded: false, timescale };
    let end = match to_hypertable {
        true => phase(&wanted.table, "done"),
        false => format!("delete from pulso.conversion where source = {}", literal(&wanted.table)),
    };
    let sql = format!("{} {end}; {}", plan.retire(), tidy());
    atomically(runner, &format!("{}: what was replaced", wanted.table), 100, &sql).await
}

/// Drops the foreign keys of a table that is to be dropped, one by one: each locks the table that it refers to, if only for
/// a moment.
async fn forget(runner: &mut Runner<'_>, table: &str, wanted: &Wanted) -> Result<(), Stop> {
    let shape = Shape::read(runner.client, table, &wanted.column).await?;
    for reference in shape.iter().flat_map(|shape| &shape.references) {
        let sql = format!("alter table {table} drop constraint {}", quote(&reference.name));
        atomically(runner, &format!("{}: what {table} refers to", wanted.table), 100, &sql).await?;
    }
    Ok(())
}

/// The schemas go with the last table in them, in the transaction that says that nothing is left: whoever is killed leaves
/// either a note of what there is to do, or nothing.
fn tidy() -> String {
    let dropped = |schema: &str| {
        format!(
            "if not exists (select from pg_class where relnamespace = to_regnamespace('{schema}')) then drop schema if exists {schema}; end if;"
        )
    };
    format!("do $pulso$ begin {} {} end $pulso$", dropped(SHADOW), dropped(REPLACED))
}

/// Takes a shadow away that has not had its place yet.
async fn abandon(runner: &mut Runner<'_>, wanted: &Wanted) -> Result<(), Stop> {
    let table = &wanted.table;
    let Some(conversion) = noted(runner.client, table).await? else { return Ok(()) };
    let (shape, _) = look(runner, wanted, conversion.to_hypertable).await?;
    let timescale = timescale_schema(runner.client).await?;
    let guarded = conversion.notes.guarded;
    let plan = Plan { shape: &shape, wanted, originals: conversion.notes.indexes, guarded, timescale };
    // Those that refer to what goes, and where they came from.
    let referred = Shape::read(runner.client, &plan.referred(), &wanted.column).await?;
    let referring = referred.map(|shape| shape.referring).unwrap_or_default();
    refer(runner, &referring, &plan.referred_before()).await?;
    rollups::lead(runner, &plan, false).await?;
    settle(runner, &referring, &plan.referred()).await?;
    forget(runner, &plan.shadow(), wanted).await?;
    let mut sql = plan.unmirror();
    sql.extend(
        referring
            .iter()
            .filter(|key| key.name.ends_with(SECOND))
            .map(|key| format!("alter table {} drop constraint if exists {};\n", key.table, quote(&key.name))),
    );
    sql += &format!(
        "drop table if exists {}; drop function if exists {SHADOW}.{}();\n",
        plan.shadow(),
        quote(&format!("mirror_{}", shape.table))
    );
    if conversion.to_hypertable {
        sql += &plan.drop_keys();
        sql += &format!("delete from pulso.conversion where source = {}", literal(table));
    } else {
        sql += &format!(
            "update pulso.conversion set goal = 'hypertable', phase = 'done', changed_at = now() where source = {}",
            literal(table)
        );
    }
    sql += &format!("; {}", tidy());
    atomically(runner, &format!("{table}: the copy given up"), 100, &sql).await
}

/// The tables that steps make hypertables of.
pub fn tables() -> Vec<String> {
    PACKS.iter().flat_map(Pack::steps).filter_map(|step| Some(step.hypertable()?.table.clone())).collect()
}
