//! Thirty days of one store by day, over many sales: plain table, hypertables, continuous aggregates, materialized view, rollup.
//!
//! Hypertables are measured where the server has TimescaleDB, continuous aggregates where that is its Community edition:
//! `PULSO_PG_BINDIR` names another server's programs.

use crate::Outcome;
use crate::report::{Report, median};
use crate::server;
use tokio_postgres::Client;

const SALES: i64 = 2_000_000;
const BATCH: i64 = 50_000;
const ROUNDS: usize = 41;
const WARM_UP: usize = 5;
const AGGREGATES: [&str; 3] = ["aggregate_hourly", "aggregate_daily", "aggregate_daily_on_hourly"];

/// What is read from: its name in the report, its query. A rollup of raw rows is grouped, a kept day is only looked up.
fn variants(hypertables: bool, aggregates: bool) -> Vec<(&'static str, String)> {
    let raw = |table: &str| {
        format!(
            "select business_date, count(*), sum((totals ->> 'total_bs')::numeric), sum((totals ->> 'total_usd')::numeric) from {table}
              where store_id = md5('store 1')::uuid and status = 'completed' and sold_at >= date_trunc('day', now()) - interval '30 days' group by 1"
        )
    };
    let buckets = |view: &str| {
        format!(
            "select day, sum(n), sum(total_bs), sum(total_usd) from {view}
              where store_id = md5('store 1')::uuid and bucket >= date_trunc('day', now()) - interval '30 days' group by 1"
        )
    };
    let kept = |view: &str| {
        format!(
            "select day, n, total_bs, total_usd from {view} where store_id = md5('store 1')::uuid and day >= current_date - 30"
        )
    };
    let mut all = vec![("plain table", raw("sales"))];
    if hypertables {
        all.extend([("hypertable, 1-day chunks", raw("sales_1d")), ("hypertable, 7-day chunks", raw("sales_7d"))]);
    }
    if aggregates {
        let names =
            ["continuous aggregate, hourly", "continuous aggregate, daily", "continuous aggregate, daily on hourly"];
        all.extend(names.into_iter().zip(AGGREGATES.map(buckets)));
    }
    all.extend([("materialized view", kept("daily_view")), ("rollup", kept("daily_rollup"))]);
    all
}

pub async fn measure(report: &mut Report) -> Outcome<()> {
    println!("\nThirty days of one store over {SALES} sales");
    let cluster = server::start(&[("synchronous_commit", "off"), ("fsync", "off")]).await?;
    let mut client = server::database(&cluster, "long", &[]).await?;
    let there = "select exists (select from pg_available_extensions where name = 'timescaledb')";
    let hypertables: bool = client.query_one(there, &[]).await?.get(0);
    if hypertables {
        // It has to be the first statement of its session.
        client = pulso::db::connect(&cluster.url_of("long")).await?;
        client.batch_execute("create extension if not exists timescaledb").await?;
    }
    let license = "select coalesce(current_setting('timescaledb.license', true), '') = 'timescale'";
    let aggregates: bool = hypertables && client.query_one(license, &[]).await?.get(0);
    pulso::migrate::up_only(&mut client, &["pos", "core"]).await?;
    client.batch_execute(include_str!("../sql/stores.sql")).await?;
    let insert = client.prepare(include_str!("../sql/sales.sql")).await?;
    for first in (1..=SALES).step_by(BATCH as usize) {
        client.execute(&insert, &[&first, &(first + BATCH - 1), &SALES]).await?;
    }
    client.batch_execute(include_str!("../sql/longrange.sql")).await?;
    if hypertables {
        client.batch_execute(include_str!("../sql/longrange_hypertables.sql")).await?;
    }
    if aggregates {
        client.batch_execute(include_str!("../sql/longrange_aggregates.sql")).await?;
        for view in AGGREGATES {
            let call = format!("call refresh_continuous_aggregate('{view}', null, now() - interval '1 hour')");
            client.batch_execute(&call).await?;
        }
    }
    client.batch_execute("vacuum analyze").await?;

    let variants = variants(hypertables, aggregates);
    let mut times = vec![(Vec::new(), Vec::new()); variants.len()];
    for round in 0..WARM_UP + ROUNDS {
        for ((_, query), (planning, execution)) in variants.iter().zip(&mut times) {
            let found = explain(&client, query).await?;
            if round >= WARM_UP {
                planning.push(found.0);
                execution.push(found.1);
            }
        }
    }
    let mut whole = Vec::new();
    for ((name, _), (planning, execution)) in variants.iter().zip(&times) {
        report.inform(&format!("30 days: {name}, planning"), median(planning), "ms");
        report.inform(&format!("30 days: {name}, execution"), median(execution), "ms");
        whole.push(median(&planning.iter().zip(execution).map(|(p, e)| p + e).collect::<Vec<_>>()));
    }
    // The last two; a statement is planned once and executed often.
    let execution = |back: usize| times.get(times.len() - back).map_or(f64::NAN, |(_, execution)| median(execution));
    report.at_most("30 days: rollup against materialized view, execution", execution(1) / execution(2), "times", 1.2);
    let both = |back: usize| whole.get(whole.len() - back).copied().unwrap_or(f64::NAN);
    report.inform("30 days: rollup against materialized view, planning too", both(1) / both(2), "times");
    drop(client);
    cluster.stop().await?;
    Ok(())
}

/// Milliseconds of planning and of execution.
async fn explain(client: &Client, query: &str) -> Outcome<(f64, f64)> {
    let row = client.query_one(&format!("explain (analyze, timing off, format json) {query}"), &[]).await?;
    let plan: serde_json::Value = row.try_get(0)?;
    let time = |key: &str| plan.pointer(&format!("/0/{key}")).and_then(serde_json::Value::as_f64);
    time("Planning Time").zip(time("Execution Time")).ok_or_else(|| "EXPLAIN tells no times".into())
}
