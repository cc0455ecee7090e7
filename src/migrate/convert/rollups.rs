//! Rollups of a table are led over to the one that is to take its place, each built beside and put under its view as
//! `pulso.alter_rollup` does it: both tables hold the same, so the figures do too, at every moment.

use super::shape::literal;
use super::statements::Plan;
use crate::db;
use crate::error::{Error, Result};
use crate::migrate::run::{Runner, Stop};
use crate::rollup::fill::FILLING;
use tokio_postgres::Client;

/// Whole rollups that rest on a table: name, query with $2 in place of the table where
/// it is counted and $3 where it is joined.
const RESTING: &str = r#"
  select r.view::text,
         regexp_replace(
           regexp_replace(pg_get_viewdef(r.definition), '\m' || t.pattern || '\M(?! [a-z_"])', t.pattern || ' ' || quote_ident(t.relname), 'g'),
           '\m' || t.pattern || '\M(?= [a-z_"])', case when t.oid = any (r.joined::oid[]) then $3::text else $2::text end, 'g')
    from pulso.rollup r
    join (
      select c.oid, c.relname, format('%I.%I', n.nspname, c.relname) as pattern
        from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)
    ) as t on t.oid = any (r.source::oid || r.joined::oid[])
   where r.replaces is null and r.companion_of is null
   order by r.id"#;

/// Rollups that were to take the place of others, and rest on a table: whoever led them over was stopped before they were built.
const WAITING: &str = "
  select r.view::text from pulso.rollup r
   where r.replaces is not null and r.companion_of is null and to_regclass($1)::oid = any (r.source::oid || r.joined::oid[])";

/// A rollup that could not rest on a hypertable.
pub async fn obstacle(client: &Client, table: &str) -> Result<Option<String>> {
    if !db::has(client, "pulso.rollup").await? {
        return Ok(None);
    }
    let row = client
        .query_opt(
            "select r.view::text from pulso.rollup r where r.source = to_regclass($1) and r.joined <> '{}' limit 1",
            &[&table],
        )
        .await?;
    Ok(row.map(|row| {
        let name: String = row.get(0);
        format!("rollup {name} joins other tables to its rows, which cannot be with a hypertable: drop it, and join in a view over a rollup")
    }))
}

/// Leads all rollups over: to the table to be, or from it again.
pub async fn lead(runner: &mut Runner<'_>, plan: &Plan<'_>, forth: bool) -> Result<(), Stop> {
    if !db::has(runner.client, "pulso.rollup").await? {
        return Ok(());
    }
    let (shadow, keys) = (plan.shadow(), plan.keys());
    let (table, joined) = (plan.shape.name.clone(), plan.referred());
    // Joins rest on the keys of a hypertable, which are a plain table.
    let ways: Vec<(&String, &String)> = match (forth, plan.shape.hypertable) {
        (true, false) => vec![(&table, &shadow)],
        (true, true) => vec![(&table, &shadow), (&keys, &shadow)],
        (false, false) => vec![(&shadow, &table), (&keys, &table)],
        (false, true) => vec![(&shadow, &table)],
    };
    for (from, to) in ways {
        if !forth {
            for row in runner.client.query(WAITING, &[from]).await? {
                let name: String = row.try_get(0)?;
                let drop = format!("set lock_timeout = '200ms'; select pulso.drop_rollup({})", literal(&name));
                runner.bite(&drop, &format!("rollup {name}")).await?;
            }
        }
        let joined_to = match (forth, plan.shape.hypertable) {
            (true, false) => &joined,
            (false, true) => &keys,
            _ => to,
        };
        runner.client.batch_execute("set search_path = pg_catalog, pg_temp").await?;
        let resting = runner.client.query(RESTING, &[from, to, joined_to]).await;
        runner.client.batch_execute("reset search_path").await?;
        for row in resting? {
            let (name, query): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            one(runner, &name, query.trim().trim_end_matches(';')).await?;
        }
    }
    Ok(())
}

async fn one(runner: &mut Runner<'_>, name: &str, query: &str) -> Result<(), Stop> {
    let what = format!("rollup {name}");
    let alter =
        format!("set lock_timeout = '200ms'; select pulso.alter_rollup({}, {}, false)", literal(name), literal(query));
    runner.bite(&alter, &what).await?;
    let build = format!("select pulso.build({})", literal(name));
    for _ in 0..20 {
        runner.call(&build, Some(FILLING)).await.map_err(|stop| stop.context(&what))?;
        let waiting = "select exists (select from pulso.rollup r where r.replaces = (select o.id from pulso.rollup o where o.view = to_regclass($1) and o.replaces is null))";
        if !runner.client.query_one(waiting, &[&name]).await?.get::<_, bool>(0) {
            return Ok(());
        }
    }
    Err(Error::failed(format!("{what}: its view is in use by a long transaction"))
        .with_hint("See pg_stat_activity, then run it again: it goes on where it stopped.")
        .into())
}
