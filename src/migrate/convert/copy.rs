//! Rows from before the mirror: copied in small bites by their place in the table, then compared.

use super::shape::literal;
use super::statements::Plan;
use crate::error::Error;
use crate::migrate::run::{Runner, Stop};
use std::time::{Duration, Instant};

/// A writer of a row that is being copied waits for its batch: so long it may be.
const BATCH: Duration = Duration::from_millis(50);
const MOST_BLOCKS: i64 = 256;
/// Rounds of copying what is missing: somebody who locks a row keeps it from being copied.
const ROUNDS: u32 = 600;

/// Copies each table, or chunk, block by block: rows lie in them as they came, which is by time, and no index is needed.
pub async fn all(runner: &mut Runner<'_>, plan: &Plan<'_>) -> Result<(), Stop> {
    let table = &plan.wanted.table;
    let source = "select at_relation, next_block, blocks_done from pulso.conversion where source = $1";
    let row = runner.client.query_one(source, &[table]).await?;
    let (at, mut next, mut done): (Option<String>, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let relations = relations(runner, plan).await?;
    let total: i64 = relations.iter().map(|(_, blocks)| *blocks).sum();
    let reached = at.and_then(|at| relations.iter().position(|(name, _)| *name == at));
    if reached.is_none() {
        (next, done) = (0, 0);
    }
    let allowed = "select has_parameter_privilege('session_replication_role', 'set')";
    let quick: bool = runner.client.query_one(allowed, &[]).await?.try_get(0)?;
    let mut bite: i64 = 8;
    let whole = Instant::now();
    for (relation, blocks) in &relations[reached.unwrap_or(0)..] {
        while next < *blocks {
            let end = (next + bite).min(*blocks);
            let begun = Instant::now();
            done += end - next;
            let sql = format!(
                "begin; set local synchronous_commit = off; {}; update pulso.conversion set at_relation = {}, next_block = {end}, blocks_done = {done}, blocks_total = {total},
                   changed_at = now() where source = {}; commit",
                plan.copy(relation, next, end, quick),
                literal(relation),
                literal(table)
            );
            runner.bite(&sql, &format!("{table}: copying rows")).await?;
            runner.show(&format!("{table}: copying rows"), done, total);
            next = end;
            let took = begun.elapsed();
            bite = next_bite(bite, took);
            // The shop comes first: it has the disk for itself a fifth of the time.
            tokio::time::sleep(took / 4).await;
        }
        next = 0;
    }
    runner.watch.bar.finish_and_clear();
    runner.say(&format!("{table}: rows copied in {:.1} s", whole.elapsed().as_secs_f64()));
    runner.bite(&super::phase(table, "copied"), table).await
}

/// As many blocks as take the time of a batch, by the last one.
fn next_bite(bite: i64, took: Duration) -> i64 {
    let wanted = bite.saturating_mul(BATCH.as_micros() as i64) / (took.as_micros() as i64).max(1);
    wanted.clamp(bite / 2, bite * 2).clamp(1, MOST_BLOCKS)
}

/// The table itself, or its chunks, with their sizes in blocks.
async fn relations(runner: &Runner<'_>, plan: &Plan<'_>) -> Result<Vec<(String, i64)>, Stop> {
    let chunks = "
      select format('%I.%I', c.chunk_schema, c.chunk_name) from timescaledb_information.chunks c
       where format('%I.%I', c.hypertable_schema, c.hypertable_name) = $1 order by c.range_start, 1";
    let names: Vec<String> = match plan.shape.hypertable {
        true => runner.client.query(chunks, &[&plan.shape.name]).await?.iter().map(|row| row.get(0)).collect(),
        false => vec![plan.shape.name.clone()],
    };
    let mut relations = Vec::with_capacity(names.len());
    for name in names {
        let size = "select pg_relation_size(to_regclass($1)) / current_setting('block_size')::bigint";
        // A chunk that was dropped meanwhile has no size.
        let size = async || runner.client.query_one(size, &[&name]).await;
        let row = runner.patiently(&format!("{name}: its size"), size).await?;
        let blocks: Option<i64> = row.try_get(0)?;
        relations.push((name, blocks.unwrap_or(0)));
    }
    Ok(relations)
}

/// Copies what was passed by because somebody had it locked, and compares the two in one snapshot.
pub async fn until_equal(runner: &mut Runner<'_>, plan: &Plan<'_>) -> Result<(), Stop> {
    let table = &plan.wanted.table;
    // Autovacuum may be at it.
    let what = format!("{table}: statistics");
    runner.bite(&format!("analyze {}", plan.shadow()), &what).await?;
    for round in 0..ROUNDS {
        loop {
            let begun = Instant::now();
            let copied = runner.count(&plan.catch_up(), &format!("{table}: rows that were locked")).await?;
            if copied == 0 {
                break;
            }
            tokio::time::sleep(begun.elapsed() / 2).await;
        }
        runner.show(&format!("{table}: comparing"), 0, 1);
        let compare = plan.compare();
        let compared = || runner.client.query_one(&compare, &[]);
        let row = runner.patiently(&format!("{table}: comparing"), compared).await?;
        let (equal, here, there): (bool, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if equal {
            return runner.bite(&super::phase(table, "equal"), table).await;
        }
        if here <= there {
            return Err(Error::failed(format!("{table} has {here} rows and its copy {there}, and they are not the same"))
                .with_hint("Were triggers switched off meanwhile (session_replication_role)? `pulso migrate undo timescale` takes the copy away.")
                .into());
        }
        if round == 3 {
            runner.say(&format!("{table}: {} rows are locked by somebody; waiting for them", here - there));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(Error::failed(format!("rows of {table} are locked by a long transaction"))
        .with_hint("See pg_stat_activity, then run it again: it goes on where it stopped.")
        .into())
}
