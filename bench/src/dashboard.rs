//! The dashboard and what the cashiers did, over many sales, and the same figures counted.

use crate::Outcome;
use crate::report::{Report, percentile};
use crate::server;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

const WARM_UP: usize = 100;
const READS: usize = 3000;
const RECOUNTS: usize = 300;
const CASHIER_WARM_UP: usize = 10;
const CASHIER_ROUNDS: usize = 41;
/// Sales written by one statement.
const BATCH: usize = 50_000;

pub async fn measure(report: &mut Report, sales: u32) -> Outcome<()> {
    println!("\nDashboard over {sales} sales");
    let cluster = server::start(&[("synchronous_commit", "off")]).await?;
    let mut client = server::database(&cluster, "shop", &[]).await?;
    pulso::migrate::up(&mut client).await?;
    let started = Instant::now();
    fill(&client, sales).await?;
    let rate = f64::from(sales) / started.elapsed().as_secs_f64();
    report.inform("dashboard: sales written with the rollups in place", rate, "sales/s");
    client.execute("select pulso.fold()", &[]).await?;
    client.batch_execute("vacuum analyze").await?;

    let rows = client.query("select id from stores order by name", &[]).await?;
    let stores: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let dashboard = client.prepare("select * from analytics.dashboard($1, current_date - $2::int)").await?;
    let recount = client.prepare(include_str!("../sql/recount.sql")).await?;
    // Let autovacuum find that there is nothing to do: what it does to a table has cached plans made anew.
    tokio::time::sleep(Duration::from_secs(12)).await;
    times(&client, &dashboard, &stores, WARM_UP).await?;
    let read = times(&client, &dashboard, &stores, READS).await?;
    let recounted = times(&client, &recount, &stores, RECOUNTS).await?;
    report.inform("dashboard: read in SQL, median", percentile(&read, 0.5), "ms");
    report.at_most("dashboard: read in SQL, p99", percentile(&read, 0.99), "ms", 1.0);
    report.inform("dashboard: recount of the same figures, median", percentile(&recounted, 0.5), "ms");
    report.inform("dashboard: recount of the same figures, p99", percentile(&recounted, 0.99), "ms");
    report.inform(
        "dashboard: recount against read, medians",
        percentile(&recounted, 0.5) / percentile(&read, 0.5),
        "times",
    );
    cashiers(&client, report).await?;
    cluster.stop().await?;
    Ok(())
}

/// Thirty days of the store with the most sales, by cashier: kept, and counted as where there is no rollup of them. In turn.
async fn cashiers(client: &Client, report: &mut Report) -> Outcome<()> {
    let name = "analytics.cashier_performance";
    let sql = format!("select pg_get_functiondef('{name}(uuid, date, date)'::regprocedure)");
    let made: String = client.query_one(&sql, &[]).await?.try_get(0)?;
    let condition = "to_regclass('analytics.cashier_sales_daily') is not null";
    if !made.contains(condition) {
        return Err(format!("{name} no longer asks whether {condition}").into());
    }
    let counted = made
        .replacen(&format!("{name}("), "public.cashiers_counted(", 1)
        .replace("cashier_performance.", "cashiers_counted.")
        .replace(condition, "false");
    client.batch_execute(&counted).await?;
    let read =
        |function: &str| format!("select * from {function}(md5('store 1')::uuid, current_date - 29, current_date)");
    let statements = [client.prepare(&read(name)).await?, client.prepare(&read("public.cashiers_counted")).await?];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..CASHIER_WARM_UP + CASHIER_ROUNDS {
        let mut answers = Vec::new();
        for (statement, times) in statements.iter().zip(&mut times) {
            let started = Instant::now();
            answers.push(client.query(statement, &[]).await?.len());
            if round >= CASHIER_WARM_UP {
                times.push(started.elapsed().as_secs_f64() * 1000.0);
            }
        }
        if answers != [6, 6] {
            return Err(format!("{answers:?} cashiers instead of six").into());
        }
    }
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    let [kept, counted] = times.map(|times| percentile(&times, 0.5));
    report.inform("cashiers: 30 days of one store, median", kept, "ms");
    report.inform("cashiers: 30 days of one store counted from the sales, median", counted, "ms");
    report.inform("cashiers: counted against kept, medians", counted / kept, "times");
    Ok(())
}

/// Twenty stores and their sales, the same in each database.
pub async fn fill(client: &Client, sales: u32) -> Outcome<()> {
    client.batch_execute(include_str!("../sql/stores.sql")).await?;
    client.batch_execute("select setseed(0.5)").await?;
    let insert = client.prepare(include_str!("../sql/sales.sql")).await?;
    for first in (1..=sales).step_by(BATCH) {
        let last = (first + BATCH as u32 - 1).min(sales);
        client.execute(&insert, &[&i64::from(first), &i64::from(last), &i64::from(sales)]).await?;
    }
    Ok(())
}

/// Milliseconds of each read, sorted. Every other one is of the first store, which has the most sales.
async fn times(client: &Client, statement: &Statement, stores: &[Uuid], count: usize) -> Outcome<Vec<f64>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let store = if number % 2 == 0 { stores[0] } else { stores[rng.random_range(0..stores.len())] };
        let day = rng.random_range(0..80i32);
        let started = Instant::now();
        client.query(statement, &[&store, &day]).await?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}
