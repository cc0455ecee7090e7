//! One list of all that is missing or doubtful, before anything happens. Changes nothing.

use super::convert;
use super::packs::PACKS;
use super::report::{PackState, State, StepView};
use super::tier::{self, Tier};
use crate::db;
use crate::error::Result;
use tokio_postgres::Client;

const CATALOG: &str = include_str!("preflight.sql");
/// Columns the rollups, the contract and the reports read, which a database with tables of its own must have.
const NEEDED: &str = include_str!("needed_columns.sql");
const SAMPLE: &str = include_str!("sample_sales.sql");

/// Why the pack `pos` does not apply: the shop has its own tables.
pub async fn own_tables(client: &Client, pos: &PackState) -> Result<Option<String>> {
    let own = db::has(client, "public.sales").await?;
    let untouched = !pos.steps.iter().any(StepView::applied);
    Ok((own && untouched).then(|| "the database has a table public.sales of its own".to_owned()))
}

pub async fn look(client: &Client, state: &mut State) -> Result<()> {
    let own = state.packs.iter().any(|pack| pack.name == "pos" && pack.skipped.is_some());
    let asked: Vec<&str> = PACKS
        .iter()
        .map(|pack| pack.name)
        .filter(|name| state.wants(name) && state.packs.iter().any(|pack| pack.name == *name && !pack.complete()))
        .collect();
    if asked.is_empty() {
        return Ok(());
    }
    for row in client.query(CATALOG, &[&asked, &(state.tier == Tier::Extension)]).await? {
        let what: String = row.try_get(1)?;
        if row.try_get(0)? { &mut state.blocked } else { &mut state.doubts }.push(what);
    }
    if state.tier == Tier::Timescale {
        timescale(client, state, &asked).await?;
    }
    if state.tier == Tier::Plain && asked.contains(&"core") {
        state.doubts.push(
            "tier plain: figures are as of the last refresh, about a minute ago; with the extension they are fresh at commit".to_owned(),
        );
    }
    let packs = state.packs.iter().filter(|pack| pack.name == convert::PACK && pack.skipped.is_none());
    let mut pending = packs.flat_map(|pack| &pack.steps).filter(|step| step.pending());
    if asked.contains(&convert::PACK) && pending.any(|step| step.name.ends_with("sales_by_week")) {
        state.doubts.push(convert::WHAT_CHANGES.to_owned());
    }
    if !own {
        return Ok(());
    }
    let missing = client.query(NEEDED, &[&asked]).await?;
    for row in &missing {
        state.blocked.push(format!("column {} is missing", row.try_get::<_, &str>(0)?));
    }
    if missing.is_empty() && asked.contains(&"rollups") {
        for row in client.query(SAMPLE, &[]).await? {
            state.doubts.push(row.try_get(0)?);
        }
    }
    Ok(())
}

/// What continuous aggregates need.
async fn timescale(client: &Client, state: &mut State, asked: &[&str]) -> Result<()> {
    if !tier::community(client).await? {
        state.blocked.push(
            "TimescaleDB's Community edition, which has continuous aggregates, is not in this database: create extension timescaledb, or take --tier plain".to_owned(),
        );
        return Ok(());
    }
    let sql = "select to_regclass('public.sales') is not null and not exists (
                 select from timescaledb_information.hypertables h where h.hypertable_schema = 'public' and h.hypertable_name = 'sales')";
    if asked.contains(&"rollups") && client.query_one(sql, &[]).await?.try_get(0)? {
        state.doubts.push(
            "public.sales is a plain table: its figures will be materialized views, as of the last refresh. Continuous aggregates read hypertables: --hypertable sales makes it one before".to_owned(),
        );
    }
    Ok(())
}
