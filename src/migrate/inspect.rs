//! Looks at a database: which steps are applied, which are not, which do not apply. Changes nothing.

use super::convert;
use super::log::{self, Entry};
use super::online::{self, Standing, Statement};
use super::packs::{Kind, PACKS, Pack, Step, UNDER_CONTRACT, header};
use super::report::{PackState, Run, State, StepState, StepView, TableRows};
use super::tier::{Tier, Wish};
use super::{contract, preflight, run};
use crate::aggregate;
use crate::db;
use crate::error::Result;
use std::collections::HashMap;
use tokio_postgres::Client;

/// What refinery's table says, by version: (name, applied on, checksum).
pub type History = HashMap<i32, (String, String, String)>;

pub async fn history(client: &Client, pack: &Pack) -> Result<History> {
    let table = pack.history_table();
    if !db::has(client, &table).await? {
        return Ok(History::new());
    }
    let rows = client.query(&format!("select version, name, applied_on, checksum from {table}"), &[]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)))).collect()
}

/// The whole database, or the packs that are named.
pub async fn whole(client: &Client, only: &[String], wish: Wish) -> Result<State> {
    let tier = wish.tier(client).await?;
    let logged = log::applied(client).await?;
    let rows = table_rows(client).await?;
    let mut packs: Vec<PackState> = Vec::with_capacity(PACKS.len());
    let mut makes_tables = false;
    for pack in PACKS {
        let mut state = steps(client, pack, &logged, makes_tables, tier).await?;
        for view in &mut state.steps {
            view.tables = view.step().map_or_else(Vec::new, |step| {
                let named = run::tables_in(&step.sql).into_iter();
                named.filter_map(|name| rows.get(&name).map(|rows| TableRows { name, rows: *rows })).collect()
            });
        }
        if pack.name == "pos" {
            state.skipped = preflight::own_tables(client, &state).await?;
            makes_tables = state.skipped.is_none() && state.steps.iter().any(StepView::pending);
        }
        if pack.name == convert::PACK {
            state.skipped = convert::unavailable(client).await?;
        }
        if pack.name == "core"
            && let Some((from, to)) = outdated(client).await?
        {
            state.steps.push(StepView::update(&from, &to));
        }
        if pack.name == UNDER_CONTRACT {
            for name in online::unbuilt(client, pack).await? {
                state.steps.push(StepView::build(name));
            }
            for name in aggregate::unfilled(client).await? {
                state.steps.push(StepView::fill(name));
            }
        }
        packs.push(state);
    }
    let mut contract = contract::pending(client).await?;
    contract.extend(contract::unscoped(client).await?.into_iter().map(|name| format!("scope of {name}")));
    let mut state = State {
        tier,
        packs,
        contract,
        blocked: Vec::new(),
        doubts: Vec::new(),
        only: only.to_vec(),
        applied_now: None,
    };
    preflight::look(client, &mut state).await?;
    Ok(state)
}

/// The steps of a pack. `makes_tables`: what is missing now is made by a step before.
pub async fn steps(
    client: &Client,
    pack: &Pack,
    logged: &HashMap<(String, String), Entry>,
    makes_tables: bool,
    tier: Tier,
) -> Result<PackState> {
    let history = history(client, pack).await?;
    let all = pack.steps();
    let mut views: Vec<StepView> = Vec::with_capacity(all.len());
    for step in all {
        let entry = logged.get(&(pack.name.to_owned(), step.name.clone()));
        let state = match &step.kind {
            Kind::Transaction => match history.get(&step.version) {
                None => StepState::Pending,
                Some((_, on, _)) => StepState::Applied {
                    on: on.clone(),
                    by: entry.map(|entry| entry.by.clone()),
                    ms: entry.and_then(|entry| entry.ms),
                },
            },
            Kind::Online(statements) => {
                let prepares = prepares(pack, &step);
                if tier != Tier::Extension && pack.name == UNDER_CONTRACT {
                    StepState::Skipped { reason: "only the extension's triggers need it".to_owned() }
                } else if prepares && history.contains_key(&step.version) && entry.is_none() {
                    StepState::Skipped { reason: format!("V{} is applied already, which it prepares", step.version) }
                } else {
                    online_state(client, statements, entry, prepares, makes_tables).await?
                }
            }
        };
        views.push(StepView {
            name: step.name.clone(),
            locks: locks(pack, &step, views.last(), tier),
            undo: header(&step.sql, "Undo:").unwrap_or_default(),
            online: step.online(),
            tables: Vec::new(),
            state,
            run: Run::File(Box::new(step)),
        });
    }
    Ok(PackState { name: pack.name, purpose: pack.purpose, skipped: None, steps: views })
}

/// What a step locks as it is run here: a migration's own text speaks of itself alone.
fn locks(pack: &Pack, step: &Step, before: Option<&StepView>, tier: Tier) -> String {
    let prepared = before.filter(|view| !matches!(view.state, StepState::Skipped { .. })).and_then(StepView::step);
    match tier {
        Tier::Timescale if pack.name == UNDER_CONTRACT => return "ShareRowExclusive on a hypertable for milliseconds, for each continuous aggregate; AccessShare where materialized views are filled: nobody waits".to_owned(),
        Tier::Plain if pack.name == UNDER_CONTRACT => return "AccessShare on its tables while materialized views are filled from them: nobody waits".to_owned(),
        _ => (),
    }
    if online::without_data(&step.sql).is_some() {
        return "ShareRowExclusive on its tables (writers wait) for milliseconds; where they have rows, its rollups are filled afterwards, while everybody goes on".to_owned();
    }
    match prepared {
        Some(first) if !step.online() && prepares(pack, first) && first.version == step.version => {
            format!("for milliseconds: {} has done it", first.name)
        }
        _ => header(&step.sql, "Locks:").unwrap_or_default(),
    }
}

/// The extension's version in this database and on this server, where they differ.
pub async fn outdated(client: &Client) -> Result<Option<(String, String)>> {
    let row = client
        .query_opt(
            "select e.extversion, a.default_version
               from pg_extension e join pg_available_extensions a on a.name = e.extname
              where e.extname = 'pulso' and e.extversion <> a.default_version",
            &[],
        )
        .await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// Whether a migration of the same number follows, which would do the same while writers wait.
pub fn prepares(pack: &Pack, step: &Step) -> bool {
    step.online()
        && pack.name != "reports"
        && pack.steps().iter().any(|other| !other.online() && other.version == step.version)
}

async fn online_state(
    client: &Client,
    statements: &[Statement],
    entry: Option<&Entry>,
    prepares: bool,
    makes_tables: bool,
) -> Result<StepState> {
    let mut reasons = Vec::new();
    let mut to_do = false;
    for statement in statements {
        match statement.standing(client, prepares).await? {
            // An index that was dropped since is not made again: somebody meant it.
            Standing::ToDo if entry.is_some() => (),
            Standing::Moot(_) if makes_tables => to_do = true,
            Standing::Moot(reason) => reasons.push(reason),
            Standing::ToDo | Standing::Leftover => to_do = true,
            // Made by somebody, or by a runner that died before it noted so.
            Standing::Done => to_do |= entry.is_none(),
        }
    }
    Ok(match entry {
        Some(entry) if !to_do => StepState::Applied { on: entry.on.clone(), by: Some(entry.by.clone()), ms: entry.ms },
        None if !to_do && !reasons.is_empty() => StepState::Skipped { reason: reasons.join("; ") },
        _ => StepState::Pending,
    })
}

/// Rows of the tables in schema public, as the planner knows them; `None` where nobody has counted yet.
async fn table_rows(client: &Client) -> Result<HashMap<String, Option<i64>>> {
    let rows = client
        .query(
            "select 'public.' || c.relname, case when c.reltuples >= 0 then c.reltuples::bigint end
               from pg_class c
              where c.relnamespace = to_regnamespace('public') and c.relkind in ('r', 'p')
              limit 10000",
            &[],
        )
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
